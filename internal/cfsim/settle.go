package cfsim

import (
	"math"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim/traffic"
)

// Settling says how fresh data arrives. The zero value has the shape that was
// recorded from the real API, without stragglers and revisions.
type Settling struct {
	// Off shows every minute complete at its end.
	Off bool
	// Scale stretches the time of a dataset, by name; "" is the default for
	// the others. Missing means 1.
	Scale map[string]float64
	// Jitter is how unevenly the parts of a bucket arrive, 0 to 1; 0 means
	// 0.4. Negative means all alike.
	Jitter float64
	// Stragglers is the chance of a minute to stay at 50 to 70 % until it is 6
	// minutes old.
	Stragglers float64
	// Revisions is the chance of a minute to grow by up to 3 % at the age of
	// 15 minutes, one hour or one day. Downward is the chance to shrink.
	Revisions, Downward float64
}

// settleShape is the share of a minute that is shown by the age of its end,
// linear in between.
var settleShape = []struct{ seconds, share float64 }{{0, 0}, {45, .04}, {105, .44}, {165, .89}, {225, 1}}

// settledAfter and stragglerAfter are the ages at which minutes are complete.
const (
	settledAfter   = 225 * time.Second
	stragglerAfter = 6 * time.Minute
)

// revisionAges are when late revisions happen.
var revisionAges = []time.Duration{15 * time.Minute, time.Hour, 24 * time.Hour}

func (s Settling) scale(dataset string) float64 {
	for _, name := range []string{dataset, ""} {
		if f := s.Scale[name]; f > 0 {
			return f
		}
	}
	return 1
}

// final is the age from which a minute of the dataset certainly shows its
// truth.
func (s Settling) final(dataset string) time.Duration {
	switch {
	case s.Revisions > 0 || s.Downward > 0:
		return max(revisionAges[len(revisionAges)-1], s.scaled(dataset, stragglerAfter))
	case s.Off:
		return 0
	case s.Stragglers > 0:
		return s.scaled(dataset, stragglerAfter)
	}
	return s.scaled(dataset, settledAfter)
}

func (s Settling) scaled(dataset string, d time.Duration) time.Duration {
	return time.Duration(float64(d) * s.scale(dataset))
}

// share is the settled part of a minute whose end is age old.
func (s Settling) share(dataset string, age time.Duration) float64 {
	seconds := age.Seconds() / s.scale(dataset)
	if s.Off || seconds >= settledAfter.Seconds() {
		return 1
	}
	for i := 1; i < len(settleShape); i++ {
		a, b := settleShape[i-1], settleShape[i]
		if seconds <= b.seconds {
			return a.share + (b.share-a.share)*(seconds-a.seconds)/(b.seconds-a.seconds)
		}
	}
	return 1
}

// shownMinute is how a minute looks at now to a reader of the dataset. seed
// belongs to the zone. Until the end of a minute there is nothing of it.
func (s Settling) shownMinute(m *traffic.Model, seed uint64, dataset string, minute int64, now time.Time) *traffic.Slice {
	whole := m.Minute(minute)
	age := now.Sub(time.Unix(60*(minute+1), 0))
	if age < 0 {
		return &traffic.Slice{Amounts: make([]traffic.Amount, len(whole.Amounts))}
	}
	if age >= s.final(dataset) {
		return whole
	}
	share := s.share(dataset, age)
	h := traffic.Hash(seed, 21, uint64(minute))
	if !s.Off && traffic.Unit(h) < s.Stragglers && age < s.scaled(dataset, stragglerAfter) {
		share = min(share, .5+.2*traffic.Unit(traffic.Hash(h, 1)))
	}
	revision := s.revision(h, age)
	if share == 1 && revision == 1 {
		return whole
	}
	jitter := s.Jitter
	if jitter == 0 {
		jitter = .4
	}
	out := &traffic.Slice{Amounts: make([]traffic.Amount, len(whole.Amounts))}
	for i, a := range whole.Amounts {
		f := share
		if jitter > 0 && f < 1 {
			// A power keeps 0 and 1 and the order in time, so that parts arrive
			// unevenly but none is late for the end.
			f = math.Pow(f, 1+jitter*(2*traffic.Unit(traffic.Hash(h, 2, uint64(i)))-1))
		}
		out.Amounts[i] = a.Scale(f * revision)
	}
	out.Clients = whole.Clients.Scale(min(share*revision, 1))
	return out
}

// revision is what a late revision that has not happened yet makes of a
// minute: below 1 when it will grow, above 1 when it will shrink.
func (s Settling) revision(h uint64, age time.Duration) float64 {
	u := traffic.Unit(traffic.Hash(h, 3))
	if u >= s.Revisions+s.Downward {
		return 1
	}
	when := revisionAges[traffic.Hash(h, 4)%uint64(len(revisionAges))]
	if age >= when {
		return 1
	}
	by := .005 + .025*traffic.Unit(traffic.Hash(h, 5))
	if u < s.Revisions {
		return 1 - by
	}
	return 1 + by
}

// shown is what a reader of the dataset sees at now of the minutes [from, to).
func (s Settling) shown(m *traffic.Model, seed uint64, dataset string, from, to int64, now time.Time) *traffic.Slice {
	to = min(to, floorDiv(now.Unix(), 60))
	// Minutes that end at least final before now are as they are for ever, and
	// cheap as whole hours and days.
	settled := min(max(floorDiv(now.Add(-s.final(dataset)).Unix(), 60), from), max(to, from))
	var parts []*traffic.Slice
	if settled > from || to <= from {
		parts = append(parts, m.Between(from, settled))
	}
	for minute := settled; minute < to; minute++ {
		parts = append(parts, s.shownMinute(m, seed, dataset, minute, now))
	}
	return m.Sum(parts)
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
