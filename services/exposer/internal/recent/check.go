package recent

import (
	"fmt"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
)

// patience is the longest bucket for which two of them are asked: nobody
// scrapes less often than every six hours, and a daily bucket that is served
// for the rest of its day outlasts any scrape that was missed.
const patience = 6 * time.Hour

// Least is the replay age that a dataset needs: a sample appears at its delay
// at the earliest and must stay for two buckets more, so that a scrape that
// comes one bucket late still finds it; for buckets above six hours, twelve
// hours more. A sample at the start of its window is one bucket old when the
// window ends.
func Least(d *bucket.Definition, stamp sample.Stamp) time.Duration {
	return stamp.Age(d) + 2*min(d.Size, patience)
}

// Check reports why a replay of maxAge is too short for a dataset, if it is.
// The exposer learns its datasets from the stream, so it cannot refuse to
// start over this; it says so in its log, its metrics and on its page.
func Check(d *bucket.Definition, stamp sample.Stamp, maxAge time.Duration) error {
	least := Least(d, stamp)
	if maxAge >= least {
		return nil
	}
	hours := int((least + time.Hour - 1) / time.Hour)
	if maxAge <= stamp.Age(d) {
		return fmt.Errorf("CF_METRICS_REPLAY_HOURS is %g; samples of %s are already %s old when they appear, so that none is ever served: "+
			"it must be at least %d, and Prometheus's out_of_order_time_window %dh", maxAge.Hours(), d.Dataset, stamp.Age(d), hours, hours+2)
	}
	return fmt.Errorf("CF_METRICS_REPLAY_HOURS is %g; %s needs %d (and Prometheus an out_of_order_time_window of %dh) for its buckets to outlast a few missed scrapes",
		maxAge.Hours(), d.Dataset, hours, hours+2)
}

// Enough is how long a Prometheus should be able to stay away: a restart that reads
// its write-ahead log, a node that is drained, somebody who comes to look.
const Enough = time.Hour

// Span is how long a sample stays in the replay: a Prometheus that was away for
// longer misses some. It ends when as many newer windows are there as one body may
// repeat, or, where that is sooner, at the age at which samples leave.
func Span(d *bucket.Definition, stamp sample.Stamp, maxAge time.Duration) time.Duration {
	return max(0, min(time.Duration(depth(d))*d.Size, maxAge-stamp.Age(d)))
}

// Span is that of a dataset in a choice: the limit on samples may have left less.
func (d *Shown) Span(stamp sample.Stamp, maxAge time.Duration) time.Duration {
	span := Span(d.Definition, stamp, maxAge)
	for role, r := range d.Serve {
		if d.Trimmed[role] > 0 {
			span = min(span, time.Duration(r.Len())*d.Size)
		}
	}
	return span
}

// Shallow reports why a dataset has less than [Enough]. Nothing of it is wrong: small
// buckets and a short replay are asked for, and backfills have the rest.
func Shallow(d *bucket.Definition, stamp sample.Stamp, maxAge time.Duration) error {
	span := Span(d, stamp, maxAge)
	if span >= Enough {
		return nil
	}
	lost := fmt.Sprintf("a Prometheus that is away for longer than %s misses some, until they are backfilled", bucket.SizeName(span.Truncate(time.Minute)))
	if span < time.Duration(depth(d))*d.Size {
		return fmt.Errorf("CF_METRICS_REPLAY_HOURS is %g and samples of %s are %s old when they appear: %s", maxAge.Hours(), d.Dataset, stamp.Age(d), lost)
	}
	return fmt.Errorf("%s repeats %d buckets of %s, whatever CF_METRICS_REPLAY_HOURS is: %s; larger buckets reach further",
		d.Dataset, depth(d), bucket.SizeName(d.Size), lost)
}
