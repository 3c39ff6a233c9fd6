package settle

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// judgedWhole is what [Dataset.judgeDelay] says, from all scopes and windows anew.
func judgedWhole(d *Dataset, now, delayedFrom bucket.Time) (from bucket.Time, holes map[bucket.Time]bool) {
	windows := map[bucket.Time]*count{}
	for _, sc := range d.scopes {
		for start, p := range sc.pending {
			old := p.lastCounted == 0 || now.Sub(start.Add(d.policy.Size)) >= DelayedAge || now.Sub(p.lastCounted) > max(2*AgreeApart, 2*d.policy.Size)
			if sc.ended || old || !p.hadTraffic {
				continue
			}
			c := windows[start]
			if c == nil {
				c = &count{}
				windows[start] = c
			}
			c.traffic++
			if p.looksSuspect {
				c.low++
				if sc.ordinary <= start {
					c.open++
				}
			}
		}
	}
	holes = map[bucket.Time]bool{}
	for start, c := range windows {
		for _, sc := range d.scopes {
			if !sc.ended && sc.pending[start] == nil && sc.ordinary >= start {
				c.traffic++
			}
		}
		if c.traffic >= minScopes && 3*c.low > c.traffic {
			holes[start] = true
		}
		if c.traffic >= minScopes && 3*c.open > c.traffic && (from == 0 || start < from) {
			from = start
		}
	}
	if from != 0 && delayedFrom != 0 {
		from = min(from, delayedFrom)
	}
	return from, holes
}

// Whatever happens to scopes, in whatever order, what was kept count of is what
// counting anew gives.
func TestADelayIsCountedAsItIsAnew(t *testing.T) {
	delays, holes := 0, 0
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		size := []time.Duration{5 * time.Minute, time.Hour}[seed%2]
		d := New(Policy{Size: size, Confirm: 2, Deadline: 15 * time.Minute})
		begin := bucket.TimeOf(time.Date(2026, 6, 20, 12, 0, 0, 0, time.UTC))
		zone := func() bucket.Scope { return bucket.Scope{Kind: bucket.Zone, ID: fmt.Sprint(rng.IntN(7))} }
		late := 0. // the part of zones without data changes with time
		for now, step := begin, 0; step < 400; step++ {
			now = now.Add(time.Duration(rng.IntN(240)) * time.Second)
			if rng.IntN(40) == 0 {
				now = now.Add(time.Duration(rng.IntN(30)) * size)
			}
			if rng.IntN(30) == 0 {
				late = rng.Float64()
			}
			window := now.Floor(size).Add(-time.Duration(rng.IntN(6)) * size)
			switch s := zone(); rng.IntN(12) {
			case 0:
				d.Forget(s)
			case 1:
				d.Expire(s, window)
			case 2:
				d.End(s, rng.IntN(2) == 0)
			case 3, 4:
				d.Stored(s, Final{Start: window, Level: 100, Empty: rng.IntN(4) == 0})
			default:
				answer := map[bucket.Scope][]Reading{}
				for range 1 + rng.IntN(3) {
					s := zone()
					if !d.Known(s) {
						past := Past{FirstSeen: begin.Add(-72 * time.Hour), Suspect: []bucket.Time{window}}
						for n := range 12 {
							past.Recent = append(past.Recent, Final{Start: begin.Add(time.Duration(n-12) * size), Level: 100})
						}
						d.Restore(s, past)
					}
					var readings []Reading
					for n := range 1 + rng.IntN(4) {
						r := Reading{Start: window.Add(time.Duration(n) * size), Level: 100, Digest: rng.Uint64N(2), Closed: rng.IntN(8) == 0}
						if rng.Float64() < late {
							r.Level, r.Empty = 0, true
						}
						readings = append(readings, r)
					}
					answer[s] = readings
				}
				was := d.delayedFrom
				d.Note(now, answer)
				from, whole := judgedWhole(d, now, was)
				if d.delayedFrom != from || !maps.Equal(d.holes, whole) {
					t.Fatalf("seed %d, step %d: delayed from %s with holes %v; counted anew: from %s, %v", seed, step, d.delayedFrom, d.holes, from, whole)
				}
				if from != 0 {
					delays++
				}
				holes += len(whole)
				if n := len(d.tally.expiry); n > 3*len(d.scopes)+20 {
					t.Fatalf("seed %d, step %d: %d expiries of %d scopes", seed, step, n, len(d.scopes))
				}
			}
		}
	}
	if delays < 500 || holes < 500 {
		t.Errorf("only %d times the dataset was late, and %d windows were holes: the walks show little", delays, holes)
	}
}
