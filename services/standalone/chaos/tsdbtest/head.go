// Package tsdbtest is a model of what Prometheus does with the samples of a
// scrape: which it takes, which it drops and counts, and when it fails the whole
// scrape. It was written from what real servers were seen to do with replayed
// samples (docs/prometheus.md has the versions), and is stricter than they are in
// one point: a changed value at a stored timestamp, which Prometheus often
// swallows without a word, is always told.
//
// A [Head] belongs to one goroutine.
package tsdbtest

import (
	"errors"
	"fmt"
	"math"
	"time"
)

const (
	// inOrder is how far behind the newest sample of any series a sample may be
	// without an out-of-order window: half of a two-hour block.
	inOrder = time.Hour
	// ahead is how far in the future a sample may be.
	ahead = 10 * time.Minute
	// outOfOrderChunk is the capacity of the chunk in which repeats are
	// recognised. From one more sample a series on, repeats are stored for ever.
	outOfOrderChunk = 32
)

// ErrTooOld fails a whole scrape: a sample lies beyond the out-of-order window.
var ErrTooOld = errors.New("too old sample")

// Sample is one line of an exposition. Series are numbered by a [Parser].
type Sample struct {
	Series int32
	At     int64 // Unix milliseconds
	Value  float64
}

// Result is what became of the samples of one scrape.
type Result struct {
	Stored   int // for the first time
	Repeated int // recognised and dropped in silence
	// Again counts samples that were appended once more: the cost of repeats.
	Again int
	// OutOfBounds, OutOfOrder and Duplicate are the counters that Prometheus
	// raises, with a warning in its log, at every scrape.
	OutOfBounds, OutOfOrder, Duplicate int
	// Changed counts values that differ from what is stored at their time.
	Changed int
	// Err fails the scrape: nothing of it was stored.
	Err error
}

// Rejected is the number of samples that did not get in.
func (r Result) Rejected() int { return r.OutOfBounds + r.OutOfOrder + r.Duplicate + r.Changed }

// Head is the part of a TSDB that takes samples.
type Head struct {
	window time.Duration
	max    int64 // newest timestamp of any series
	series []*series
}

type series struct {
	last   int64             // newest in-order timestamp
	values map[int64]float64 // all that is stored
	chunk  map[int64]bool    // the current out-of-order chunk
}

// NewHead returns an empty head with that out-of-order window; 0 is none.
func NewHead(window time.Duration) *Head { return &Head{window: window, max: math.MinInt64} }

// Advance tells that another target was scraped at now, which lifts the newest
// timestamp for all.
func (h *Head) Advance(now time.Time) { h.max = max(h.max, now.UnixMilli()) }

// Scrape takes the samples of one scrape at now, in their order.
func (h *Head) Scrape(now time.Time, samples []Sample) Result {
	// What fails the scrape is found first: a failed scrape leaves no trace.
	highest := h.max
	for _, s := range samples {
		if h.window > 0 && highest != math.MinInt64 && s.At < highest-max(inOrder, h.window).Milliseconds() {
			return Result{Err: fmt.Errorf("%w: series %d at %s", ErrTooOld, s.Series, time.UnixMilli(s.At).UTC())}
		}
		if s.At <= now.Add(ahead).UnixMilli() {
			highest = max(highest, s.At)
		}
	}
	var r Result
	for _, s := range samples {
		h.append(now, s, &r)
	}
	return r
}

func (h *Head) append(now time.Time, s Sample, r *Result) {
	if s.At > now.Add(ahead).UnixMilli() {
		r.OutOfBounds++
		return
	}
	of := h.of(s.Series)
	stored, known := of.values[s.At]
	if known && stored != s.Value {
		r.Changed++
		return
	}
	recent := h.max == math.MinInt64 || s.At >= h.max-inOrder.Milliseconds()
	switch {
	case s.At == of.last:
		r.Repeated++
	case recent && s.At > of.last:
		of.last, of.values[s.At] = s.At, s.Value
		h.max = max(h.max, s.At)
		r.Stored++
	case h.window == 0 && !recent:
		r.OutOfBounds++
	case h.window == 0:
		r.OutOfOrder++
	case of.chunk[s.At]:
		r.Repeated++
	default:
		if len(of.chunk) == outOfOrderChunk {
			clear(of.chunk)
		}
		of.chunk[s.At] = true
		if known {
			r.Again++
			return
		}
		of.values[s.At] = s.Value
		r.Stored++
	}
}

func (h *Head) of(id int32) *series {
	for int(id) >= len(h.series) {
		h.series = append(h.series, nil)
	}
	if h.series[id] == nil {
		h.series[id] = &series{last: math.MinInt64, values: map[int64]float64{}, chunk: map[int64]bool{}}
	}
	return h.series[id]
}

// Each calls fn for every stored sample, in no order.
func (h *Head) Each(fn func(Sample)) {
	for id, s := range h.series {
		if s == nil {
			continue
		}
		for at, v := range s.values {
			fn(Sample{Series: int32(id), At: at, Value: v})
		}
	}
}
