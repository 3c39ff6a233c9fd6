package counter_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/counter"
	"github.com/weir-metrics/weir/internal/sample"
)

var (
	epoch  = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	http5m = &bucket.Definition{
		Dataset: "http_5m", Version: 1, ScopeKind: bucket.Zone, Size: 5 * time.Minute, Delay: 5 * time.Minute, Depth: 30,
		Families: []bucket.Family{
			{Name: "cloudflare_zone_requests", Help: "Requests.", Role: bucket.Total, Additive: true},
			{Name: "cloudflare_zone_visitors", Role: bucket.Total},
			{Name: "cloudflare_zone_seconds_by_status", Unit: "seconds", Labels: []string{"status"}, Role: bucket.Breakdown, Additive: true},
		},
	}
	countries1h = &bucket.Definition{
		Dataset: "countries_1h", Version: 1, ScopeKind: bucket.Zone, Size: time.Hour, Delay: 5 * time.Minute, Depth: 6,
		Families: []bucket.Family{{Name: "cloudflare_zone_requests_by_country", Labels: []string{"country"}, Role: bucket.Breakdown, Additive: true}},
	}
)

func scopeOf(name string) bucket.Scope {
	return bucket.Scope{Kind: bucket.Zone, ID: fmt.Sprintf("%032x", []byte(name))[:32]}
}

// committed is a bucket of a zone, as an entry of the log.
func committed(d *bucket.Definition, zone string, start, at time.Time, origin bucket.Origin, rows ...bucket.Rows) *bucket.Entry {
	return &bucket.Entry{
		CommittedAt: at, Kind: bucket.KindBucket, Definition: d,
		Bucket: &bucket.Bucket{
			Key:  bucket.Key{Dataset: d.Dataset, Scope: scopeOf(zone), Start: bucket.TimeOf(start)},
			Size: d.Size, Version: d.Version, Zone: zone + ".example", Account: "Acme", Origin: origin, Families: rows,
		},
	}
}

func requests(v float64) bucket.Rows {
	return bucket.Rows{Family: "cloudflare_zone_requests", Values: []float64{v}}
}

// values is what a fold shows.
func values(f *counter.Fold, at time.Time) map[string]counter.Value {
	out := map[string]counter.Value{}
	for fam := range f.Families {
		for _, s := range fam.Series() {
			if v, shown := s.At(sample.MillisOf(at)); shown {
				out[fam.Name+"{"+strings.Join(append([]string{s.Zone}, s.Values...), ",")+"}"] = v
			}
		}
	}
	return out
}

func add(t *testing.T, f *counter.Fold, entries ...*bucket.Entry) {
	t.Helper()
	for _, e := range entries {
		if err := f.Add(e); err != nil {
			t.Fatal(err)
		}
	}
}

// One bucket of each origin, told at the times that matter.
func TestPlayout(t *testing.T) {
	const name = "cloudflare_zone_requests{shop.example}"
	f := counter.New()
	at := func(d time.Duration) time.Time { return epoch.Add(d) }
	min := time.Minute
	// The first bucket was due before it was committed: the history with which collecting begins.
	add(t, f, committed(http5m, "shop", at(-10*min), at(5*min), bucket.Live, requests(1000)))
	if got := values(f, at(time.Hour)); len(got) != 0 {
		t.Errorf("what was due before the first commit counts: %v", got)
	}
	delay := counter.Delay(http5m)
	if delay != 14*min {
		t.Errorf("the delay is %s", delay)
	}
	commit := at(12*min + 30*time.Second)
	add(t, f,
		committed(http5m, "shop", at(0), commit, bucket.Live, requests(100)),                        // plays from 14 min
		committed(http5m, "shop", at(-30*min), commit, bucket.Backfill, requests(7000)),             // never counts
		committed(http5m, "shop", at(5*min), at(16*min+30*time.Second), bucket.Live, requests(200)), // from 19 min
		committed(http5m, "shop", at(10*min), at(40*min), bucket.Repair, requests(40)),              // whole at 41 min 30 s
		committed(http5m, "shop", at(15*min), at(40*min), bucket.Live, requests(30)),                // late, whatever its origin
		// Its turn is from 44 min to 49 min. It begins a quarter late, and ends with it.
		committed(http5m, "shop", at(30*min), at(43*min+45*time.Second), bucket.Repair, requests(300)),
		// A millisecond more is too late.
		committed(http5m, "shop", at(35*min), at(48*min+45*time.Second+time.Millisecond), bucket.Live, requests(8)),
	)
	for _, tc := range []struct {
		at   time.Duration
		want *counter.Value
	}{
		{12 * min, nil},
		{12*min + 30*time.Second, &counter.Value{}},
		{14 * min, &counter.Value{}},
		{14*min + 3*time.Second, &counter.Value{Live: 1}},
		{14*min + 5*time.Second, &counter.Value{Live: 1}}, // whole numbers stay whole
		{15 * min, &counter.Value{Live: 20}},
		{19 * min, &counter.Value{Live: 100}},
		{20 * min, &counter.Value{Live: 140}},
		{24 * min, &counter.Value{Live: 300}},
		{40 * min, &counter.Value{Live: 300, HasLate: true}},
		{41*min + 30*time.Second, &counter.Value{Live: 300, Late: 70, HasLate: true}},
		{45*min + 15*time.Second, &counter.Value{Live: 300, Late: 70, HasLate: true}},
		{46*min + 30*time.Second, &counter.Value{Live: 400, Late: 70, HasLate: true}},
		{49 * min, &counter.Value{Live: 600, Late: 70, HasLate: true}},
		{50*min + 15*time.Second, &counter.Value{Live: 600, Late: 70, HasLate: true}},
		{50*min + 15*time.Second + time.Millisecond, &counter.Value{Live: 600, Late: 78, HasLate: true}},
		{50*min + 15*time.Second + counter.Retire, &counter.Value{Live: 600, Late: 78, HasLate: true}},
		{50*min + 15*time.Second + time.Millisecond + counter.Retire, nil},
	} {
		got := values(f, at(tc.at))
		want := map[string]counter.Value{}
		if tc.want != nil {
			tc.want.Began = sample.MillisOf(commit)
			want[name] = *tc.want
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("after %s (-want +got):\n%s", tc.at, diff)
		}
	}
	// It comes back with a sum of its own.
	back := 30 * time.Hour
	add(t, f, committed(http5m, "shop", at(back), at(back+12*min), bucket.Live, requests(5)))
	if got := values(f, at(back+time.Hour))[name]; got != (counter.Value{Live: 5, Began: sample.MillisOf(at(back + 12*min))}) {
		t.Errorf("after its retirement the series is %+v", got)
	}
}

// A bucket that does not fit its definition is refused whole, and of another the families that
// no counter can grow by.
func TestAddRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		entry  *bucket.Entry
		want   string
		counts int // series, in spite of it
	}{
		"negative":     {committed(http5m, "shop", epoch, epoch.Add(12*time.Minute), bucket.Live, requests(3), bucket.Rows{Family: "cloudflare_zone_seconds_by_status", Labels: []string{"200"}, Values: []float64{-1}}), "family cloudflare_zone_seconds_by_status has the value -1", 1},
		"not a number": {committed(http5m, "shop", epoch, epoch.Add(12*time.Minute), bucket.Live, requests(math.NaN())), "must be finite", 0},
	} {
		f := counter.New()
		add(t, f, committed(http5m, "shop", epoch.Add(-10*time.Minute), epoch, bucket.Live),
			&bucket.Entry{Kind: bucket.KindDatasetVersion, Definition: http5m}, &bucket.Entry{Kind: bucket.KindAudit}, &bucket.Entry{})
		if err := f.Add(tc.entry); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v; want an error with %q", name, err, tc.want)
		}
		if got := values(f, epoch.Add(time.Hour)); len(got) != tc.counts {
			t.Errorf("%s: %v counts", name, got)
		}
	}
	// A distinct count is no counter.
	f := counter.New()
	add(t, f, committed(http5m, "shop", epoch.Add(-10*time.Minute), epoch, bucket.Live),
		committed(http5m, "shop", epoch, epoch.Add(12*time.Minute), bucket.Live, bucket.Rows{Family: "cloudflare_zone_visitors", Values: []float64{3}}))
	if got := values(f, epoch.Add(time.Hour)); len(got) != 0 {
		t.Errorf("%v counts", got)
	}
}

// truth is what a series shows, by the rules and without a fold.
func truth(entries []*bucket.Entry, at time.Time) map[string]counter.Value {
	type sum struct {
		counter.Value
		until, began, late time.Time
	}
	sums := map[string]*sum{}
	first := map[string]time.Time{} // by family and zone; a dataset of the log has the same ones always
	for _, e := range entries {
		b, d := e.Bucket, e.Definition
		of := d.Families[0].Name + b.Zone
		if first[of].IsZero() {
			first[of] = e.CommittedAt
		}
		if b.Origin == bucket.Backfill || b.Window().End.Std().Add(d.Delay).Before(first[of]) {
			continue
		}
		from, size, live := e.CommittedAt.Add(90*time.Second), time.Duration(0), false
		turn := b.Start.Std().Add(b.Size + max(d.Delay, 5*time.Minute) + 4*time.Minute)
		if from.Sub(turn) <= b.Size/4 {
			live = true
			if turn.After(from) {
				from = turn
			}
			size = turn.Add(b.Size).Sub(from)
		}
		share := 0.
		if size == 0 && !at.Before(from) {
			share = 1
		} else if size > 0 {
			share = min(1, max(0, float64(at.Sub(from).Milliseconds())/float64(size.Milliseconds())))
		}
		for i := range b.Families {
			rows := &b.Families[i]
			n := rows.Width()
			for j, v := range rows.Values {
				key := rows.Family + "{" + strings.Join(append([]string{b.Zone}, rows.Labels[j*n:(j+1)*n]...), ",") + "}"
				s := sums[key]
				if s == nil || !e.CommittedAt.Before(s.until.Add(counter.Retire)) {
					s = &sum{began: e.CommittedAt}
					sums[key] = s
				}
				if end := from.Add(size); end.After(s.until) {
					s.until = end
				}
				amount := share * v
				if v == math.Floor(v) {
					amount = math.Floor(amount)
				}
				if live {
					s.Live += amount
				} else {
					if s.late.IsZero() {
						s.late = e.CommittedAt
					}
					s.Late += amount
				}
			}
		}
	}
	out := map[string]counter.Value{}
	for key, s := range sums {
		if at.Before(s.began) || !at.Before(s.until.Add(counter.Retire)) {
			continue
		}
		s.Began = sample.MillisOf(s.began)
		s.HasLate = !s.late.IsZero() && !at.Before(s.late)
		out[key] = s.Value
	}
	return out
}

// clone is totals as another process has them.
func clone(t *counter.Totals) *counter.Totals {
	c := *t
	c.Series = slices.Clone(t.Series)
	for i := range c.Series {
		c.Series[i].Parts = slices.Clone(c.Series[i].Parts)
	}
	return &c
}

// history is a random log of some days: outages, repairs, backfills, zones and label values
// that come and go.
func history(r *rand.Rand) (log []*bucket.Entry) {
	whole := r.IntN(2) == 0
	amount := func() float64 {
		if whole {
			return float64(r.IntN(1000))
		}
		return r.Float64() * 1000
	}
	day := func() time.Duration { return time.Duration(r.IntN(3*24*60)) * time.Minute }
	for _, zone := range []string{"shop", "blog"} {
		from, gap := day()/4, day()
		until := gap + day()
		for _, d := range []*bucket.Definition{http5m, countries1h} {
			for start := time.Duration(0); start < 4*24*time.Hour; start += d.Size {
				at, origin := epoch.Add(start+d.Size+d.Delay+time.Duration(r.IntN(240_000))*time.Millisecond), bucket.Live
				switch {
				case start < from:
					at, origin = epoch.Add(from+d.Size+d.Delay), bucket.Repair // the first history
				case start > gap && start < until:
					continue // the zone is away
				case r.IntN(8) == 0: // after its successor
					at = at.Add(time.Duration(r.IntN(900_000)) * time.Millisecond)
				case r.IntN(20) == 0:
					at, origin = at.Add(day()/10), bucket.Repair
				case r.IntN(60) == 0:
					at, origin = at.Add(day()), bucket.Backfill
				}
				rows := []bucket.Rows{requests(amount())}
				if d == countries1h {
					rows = []bucket.Rows{{Family: "cloudflare_zone_requests_by_country"}}
					for _, country := range []string{"AT", "DE", "FR"} {
						if r.IntN(12) == 0 {
							rows[0].Labels, rows[0].Values = append(rows[0].Labels, country), append(rows[0].Values, amount())
						}
					}
					if rows[0].Values == nil {
						rows = nil
					}
				}
				log = append(log, committed(d, zone, epoch.Add(start), at, origin, rows...))
			}
		}
	}
	slices.SortStableFunc(log, func(a, b *bucket.Entry) int { return a.CommittedAt.Compare(b.CommittedAt) })
	for i, e := range log {
		e.Revision = bucket.Revision(i + 1)
	}
	return log
}

// Readers that settle at other times, that go on from totals, and that have entries which
// others lack yet, all show the same numbers, and those are what the rules say (G10). No
// counter decreases while it has the same start time, and what is played out is exactly the
// sum.
func TestReadersAgree(t *testing.T) {
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 0))
		log := history(r)
		steady, restless := counter.New(), counter.New()
		var resumed *counter.Fold
		writer := counter.New()
		given, restlessGiven, resumedGiven, written := 0, 0, 0, 0
		give := func(f *counter.Fold, n *int, before time.Time) {
			for *n < len(log) && log[*n].CommittedAt.Before(before) {
				add(t, f, log[*n])
				*n++
			}
		}
		before := map[string]counter.Value{}
		for now := epoch; now.Before(epoch.Add(6 * 24 * time.Hour)); now = now.Add(time.Duration(r.IntN(9*60_000)) * time.Millisecond) {
			give(steady, &given, now.Add(5*time.Second))
			give(restless, &restlessGiven, now.Add(-counter.Announced+time.Millisecond))
			if r.IntN(3) == 0 {
				restless.Settle(now)
			}
			if r.IntN(40) == 0 { // a checkpoint, and a reader that begins with it
				// The writer reads on from its last totals, of which it keeps nothing else.
				give(writer, &written, now.Add(-time.Duration(r.Int64N(int64(time.Hour)))))
				totals := writer.Totals(now.Add(-time.Minute))
				resumed, resumedGiven = counter.New(), written
				writer = counter.New()
				for i := range totals {
					for _, f := range []*counter.Fold{resumed, writer} {
						if err := f.Load(clone(&totals[i])); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			got := values(steady, now)
			if want := truth(log[:given], now); !cmp.Equal(want, got) {
				t.Fatalf("seed %d, %s (-want +got):\n%s", seed, now, cmp.Diff(want, got))
			}
			if resumed != nil {
				give(resumed, &resumedGiven, now.Add(5*time.Second))
				if !cmp.Equal(got, values(resumed, now)) {
					t.Fatalf("seed %d, %s: a reader that began with totals differs (-whole +resumed):\n%s", seed, now, cmp.Diff(got, values(resumed, now)))
				}
			}
			for key, v := range values(restless, now) { // it lacks what others announce
				if got[key].Live != v.Live || got[key].Late != v.Late {
					t.Fatalf("seed %d, %s: %s is %+v where the newest entries are not there yet, and %+v elsewhere", seed, now, key, v, got[key])
				}
			}
			for key, v := range got {
				if was, shown := before[key]; shown && was.Began == v.Began && (v.Live < was.Live || v.Late < was.Late) {
					t.Fatalf("seed %d, %s: %s went from %+v to %+v", seed, now, key, was, v)
				}
			}
			before = got
		}
	}
}
