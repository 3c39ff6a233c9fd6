package verify

import (
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/carousel"
	"github.com/weir-metrics/weir/internal/sample"
)

// Schedule says when Prometheus must have a sample, given how its scrape job asks the
// exposer (package carousel).
type Schedule struct {
	// Age is the replay: samples that are older are not shown.
	Age time.Duration
	// Round is the parameter round of the scrape job; 0: the exposer's default.
	Round time.Duration
	// Grace is the time from when a sample is shown until a query finds it: the scrape
	// interval, twice, and the delay of the stream.
	Grace time.Duration
	// Since is the first scrape of a Prometheus that is new: what was final before is not
	// shown as it was committed, but in a round. Zero: it has scraped all along.
	Since time.Time
}

// Due returns the time from which on Prometheus must have the samples of a bucket, and
// whether a scrape can have shown them at all. If none can, only an import brings them.
func (s Schedule) Due(b *bucket.Bucket, committed time.Time, d *bucket.Definition, stamp sample.Stamp) (due time.Time, shown bool) {
	w := b.Window()
	expires := stamp.Of(w).Std().Add(s.Age)
	first, before := committed, s.Since.After(committed) // when a scrape could show it
	if before {
		first = s.Since
	}
	if !first.Before(expires) {
		return committed, false
	}
	depth := d.Depth
	if depth < 1 {
		depth = carousel.Most
	}
	c := carousel.New(b.Size, s.Age, depth)
	every := c.Every()
	if s.Round > 0 {
		every = max(s.Round, c.Round())
	}
	switch {
	case first.Sub(w.End.Std()) <= min(carousel.Span(b.Size), c.Covers()):
		return first.Add(s.Grace), true // it was one of the newest windows
	case c.Pages == 0:
		return committed, false
	case !b.Zero() && !before:
		due = first.Add(2 * c.Round()) // late commits are shown in the two rounds that follow
	default:
		due = first.Add(every + c.Round()) // zeros wait for the next round that is due
	}
	if due.After(expires) { // it may have grown too old before its turn
		return expires.Add(s.Grace), false
	}
	return due.Add(s.Grace), true
}
