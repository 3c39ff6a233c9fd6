package cfsim

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim/traffic"
)

// Sampling says whether adaptive datasets answer from a sample. The zero value
// does not: every answer is exact.
//
// Like the real thing, each question gets its own resolution: every event,
// one of ten or one of a hundred, by the size of the question (hours asked
// times breakdown) and the load of the system. The same question asked twice
// has two samples.
type Sampling struct {
	Enabled bool
	// Load multiplies the size of every question; 0 means 1.
	Load float64
	// Tenth and Hundredth are the sizes above which the sample is 10 % and
	// 1 %; 0 means 2 and 48. One hour of one zone without breakdown has size
	// 1, each dimension that is not a time adds one more.
	Tenth, Hundredth float64
}

// interval is the number of events that one sampled event stands for.
func (c Sampling) interval(sel *selection, zones int, now time.Time) uint64 {
	if !c.Enabled || !strings.Contains(sel.dataset.Name, "Adaptive") {
		return 1
	}
	or := func(v, def float64) float64 {
		if v == 0 {
			return def
		}
		return v
	}
	hull := sel.filter.Hull()
	hours := float64(min(hull.To, now.Unix())-hull.From) / 3600
	breakdown := 1
	for _, d := range sel.dims {
		if !strings.HasPrefix(d, "date") {
			breakdown++
		}
	}
	size := hours * float64(breakdown) * float64(zones) * or(c.Load, 1)
	switch {
	case size > or(c.Hundredth, 48):
		return 100
	case size > or(c.Tenth, 2):
		return 10
	}
	return 1
}

// sample replaces exact rows by an estimate when sampling is on. Counts become
// multiples of the interval, the other sums scale with them, and groups that
// the sample missed vanish.
func (s *world) sample(sel *selection, rows []row, zones []*zoneState, now time.Time) []row {
	interval := s.config.Sampling.interval(sel, len(zones), now)
	if interval == 1 {
		return rows
	}
	salt := s.reads.Add(1)
	at := slices.Index(sel.dims, "sampleInterval")
	out := rows[:0]
	for i, r := range rows {
		r.interval, r.sampled = interval, 0
		parts := r.parts[:0]
		for j, p := range r.parts {
			hit := draw(p.amount.Requests, interval, traffic.Hash(s.config.Seed, 31, salt, uint64(i), uint64(j)))
			if hit == 0 {
				continue
			}
			r.sampled += hit
			p.amount = p.amount.WithRequests(hit * interval)
			parts = append(parts, p)
		}
		if r.parts = parts; len(parts) == 0 {
			continue
		}
		if at >= 0 {
			r.key[at] = interval
		}
		out = append(out, r)
	}
	return out
}

// draw is how many of n events a sample of one in interval has: close to a
// binomial count, from the normal curve for many and one by one for few.
func draw(n, interval, h uint64) uint64 {
	p := 1 / float64(interval)
	if n > 200 {
		mean := float64(n) * p
		u, v := max(traffic.Unit(h), 1e-9), traffic.Unit(traffic.Hash(h, 1))
		x := mean + math.Sqrt(mean*(1-p))*math.Sqrt(-2*math.Log(u))*math.Cos(2*math.Pi*v)
		return uint64(max(math.Round(x), 0))
	}
	var hit uint64
	for i := range n {
		if traffic.Unit(traffic.Hash(h, 2, i)) < p {
			hit++
		}
	}
	return hit
}

// shuffle puts rows into an order that differs from one answer to the next.
func (s *world) shuffle(rows []row) {
	salt := s.reads.Add(1)
	for i := len(rows) - 1; i > 0; i-- {
		j := int(traffic.Hash(s.config.Seed, 32, salt, uint64(i)) % uint64(i+1))
		rows[i], rows[j] = rows[j], rows[i]
	}
}
