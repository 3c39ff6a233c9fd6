package recent

import (
	"fmt"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
)

// longScrapeInterval caps the bucket size in [Least]: nobody scrapes less often
// than every six hours, so a daily bucket need not be served for two days.
const longScrapeInterval = 6 * time.Hour

// Least is the shortest replay that a dataset needs. A sample appears at its delay
// at the earliest and must stay for two more buckets, so that a scrape that is one
// bucket late still gets it; for buckets above six hours, for twelve more hours. A
// sample at the start of its window is already one bucket old when the window ends.
func Least(d *bucket.Definition, stamp sample.Stamp) time.Duration {
	return stamp.Age(d) + 2*min(d.Size, longScrapeInterval)
}

// Check returns an error if a replay of maxAge is too short for a dataset. The
// exposer learns its datasets from the stream, so it cannot refuse to start; it
// reports the error in its log, its metrics and on its landing page.
func Check(d *bucket.Definition, stamp sample.Stamp, maxAge time.Duration) error {
	least := Least(d, stamp)
	if maxAge >= least {
		return nil
	}
	hours := int((least + time.Hour - 1) / time.Hour)
	if maxAge <= stamp.Age(d) {
		return fmt.Errorf("CF_METRICS_REPLAY_HOURS is %g, but samples of %s are already %s old when they appear, so none is ever served: "+
			"set it to at least %d, and out_of_order_time_window in Prometheus to at least %dh", maxAge.Hours(), d.Dataset, stamp.Age(d), hours, hours+2)
	}
	return fmt.Errorf("CF_METRICS_REPLAY_HOURS is %g, but %s needs at least %d, or its buckets are gone after a few missed scrapes; Prometheus then needs an out_of_order_time_window of at least %dh",
		maxAge.Hours(), d.Dataset, hours, hours+2)
}

// Enough is how long a Prometheus should be able to stay down without missing
// samples: a restart that replays its write-ahead log, or a node drain.
const Enough = time.Hour

// Span is how long a Prometheus may be down without missing samples for ever: for as long
// as a sample is among the newest windows, or until it has its next turn, which must come
// before it reaches maxAge, whichever is longer.
func Span(d *bucket.Definition, stamp sample.Stamp, maxAge time.Duration) time.Duration {
	s, rest := schedule(d, maxAge), maxAge-stamp.Age(d)
	span := min(s.Covers(), rest)
	if s.Pages > 0 {
		span = max(span, rest-s.Every()-s.Round())
	}
	return max(0, span)
}

// Span is the span of a dataset in a choice, which the limits on samples may have
// shortened.
func (d *Shown) Span(stamp sample.Stamp, maxAge time.Duration) time.Duration {
	span := Span(d.Definition, stamp, maxAge)
	for role := range Roles {
		if d.Trimmed[role] > 0 {
			span = min(span, time.Duration(d.Serve[role].Len())*d.Size)
		}
	}
	return span
}

// Shallow returns an error if the span of a dataset is less than [Enough]. It is
// information rather than a fault: a short replay or a small depth was configured, and
// backfills have the rest.
func Shallow(d *bucket.Definition, stamp sample.Stamp, maxAge time.Duration) error {
	span := Span(d, stamp, maxAge)
	if span >= Enough {
		return nil
	}
	lost := fmt.Sprintf("a Prometheus that is down for longer than %s misses samples until they are backfilled", bucket.SizeName(span.Truncate(time.Minute)))
	if schedule(d, 30*24*time.Hour).Pages > 0 {
		return fmt.Errorf("CF_METRICS_REPLAY_HOURS is %g and samples of %s are %s old when they appear: %s", maxAge.Hours(), d.Dataset, stamp.Age(d), lost)
	}
	return fmt.Errorf("the depth of %s is %d buckets of %s, so older ones never come round, whatever CF_METRICS_REPLAY_HOURS is: %s", d.Dataset, depth(d), bucket.SizeName(d.Size), lost)
}
