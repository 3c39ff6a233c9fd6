package traffic

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const minute0 = int64(29_400_000) / 1440 * 1440 // midnight of some day in 2025

func sumAmounts(s *Slice) (a Amount) {
	for _, x := range s.Amounts {
		a.Add(x)
	}
	return a
}

func TestSameSeedSameTraffic(t *testing.T) {
	p := Profile{RequestsPerMinute: 900, SpikesPerDay: 4, IncidentsPerDay: 4, OddStrings: true}
	a, b, other := New(1, "id", "z.example", p, nil), New(1, "id", "z.example", p, nil), New(2, "id", "z.example", p, nil)
	differs := false
	for m := minute0; m < minute0+300; m++ {
		if !cmp.Equal(a.Minute(m).Amounts, b.Minute(m).Amounts) || a.Minute(m).Clients.Count() != b.Minute(m).Clients.Count() {
			t.Fatalf("minute %d differs between equal models", m)
		}
		differs = differs || a.Minute(m).Requests() != other.Minute(m).Requests()
	}
	if !differs {
		t.Fatal("another seed gave the same traffic")
	}
}

func TestHoursAndDaysAreSumsOfMinutes(t *testing.T) {
	m := New(3, "id", "z.example", Profile{RequestsPerMinute: 50}, nil)
	var want Amount
	var clients []ClientSet
	for i := minute0; i < minute0+1440; i++ {
		want.Add(sumAmounts(m.Minute(i)))
		clients = append(clients, m.Minute(i).Clients)
	}
	day := m.Day(minute0 / 1440)
	if got := sumAmounts(day); got != want {
		t.Fatalf("day has %+v, its minutes %+v", got, want)
	}
	if got, want := day.Clients.Count(), Union(clients...).Count(); got != want {
		t.Fatalf("day has %d clients, the union of its minutes %d", got, want)
	}
	// An odd window takes minutes, hours and no day.
	var odd Amount
	for i := minute0 + 17; i < minute0+331; i++ {
		odd.Add(sumAmounts(m.Minute(i)))
	}
	if got := sumAmounts(m.Between(minute0+17, minute0+331)); got != odd {
		t.Fatalf("window has %+v, its minutes %+v", got, odd)
	}
}

func TestLevelAndCurve(t *testing.T) {
	m := New(4, "id", "z.example", Profile{RequestsPerMinute: 1000, PeakHour: 18, Subrequests: -1}, nil)
	monday := minute0
	for (monday/1440+4)%7 != 1 {
		monday += 1440
	}
	perMinute := float64(m.Day(monday/1440).Requests()) / 1440
	if perMinute < 900 || perMinute > 1100 {
		t.Errorf("mean of a weekday is %.0f a minute, want about 1000", perMinute)
	}
	night, evening := m.Hour(monday/60+6).Requests(), m.Hour(monday/60+18).Requests()
	if evening < 2*night {
		t.Errorf("peak hour has %d requests, the quietest %d: want a curve", evening, night)
	}
}

func TestSmallZonesHaveWholeRequests(t *testing.T) {
	m := New(5, "id", "z.example", Profile{RequestsPerMinute: .5}, nil)
	empty, total := 0, uint64(0)
	for i := minute0; i < minute0+1440; i++ {
		n := m.Minute(i).Requests()
		total += n
		if n == 0 {
			empty++
			if c := m.Minute(i).Clients.Count(); c != 0 {
				t.Fatalf("minute %d has no request and %d clients", i, c)
			}
		} else if c := m.Minute(i).Clients.Count(); c < 1 || c > n {
			t.Fatalf("minute %d has %d requests by %d clients", i, n, c)
		}
	}
	if empty < 500 || total < 400 || total > 1300 {
		t.Errorf("a zone with one request in two minutes had %d empty minutes and %d requests in a day", empty, total)
	}
}

func TestSilence(t *testing.T) {
	m := New(6, "id", "z.example", Profile{RequestsPerMinute: 100}, func(minute int64) bool { return minute < minute0+30 })
	if n := m.Between(minute0, minute0+30).Requests(); n != 0 {
		t.Errorf("%d requests before the zone existed", n)
	}
	if m.Minute(minute0+30).Requests() == 0 {
		t.Error("no request after the zone began")
	}
}

func TestSecondsOfAMinuteAddUp(t *testing.T) {
	m := New(7, "id", "z.example", Profile{RequestsPerMinute: 300}, nil)
	whole := m.Minute(minute0)
	for i, a := range whole.Amounts {
		var sum Amount
		for s := range 60 {
			sum.Add(m.Second(minute0, i, a, s, s+1))
		}
		if sum != a {
			t.Fatalf("template %d: seconds add up to %+v, the minute is %+v", i, sum, a)
		}
		front := m.Second(minute0, i, a, 0, 44)
		front.Add(m.Second(minute0, i, a, 44, 60))
		if front != a {
			t.Fatalf("template %d: parts add up to %+v, the minute is %+v", i, front, a)
		}
	}
}

func TestUnionIsSmallerThanSum(t *testing.T) {
	m := New(8, "id", "z.example", Profile{RequestsPerMinute: 2000}, nil)
	var sum uint64
	for i := range int64(60) {
		sum += m.Minute(minute0 + i).Clients.Count()
	}
	hour := m.Hour(minute0 / 60).Clients.Count()
	if hour >= sum || hour < m.Minute(minute0).Clients.Count() {
		t.Errorf("an hour has %d clients, its minutes %d together", hour, sum)
	}
}

func TestIncidentsRaiseErrors(t *testing.T) {
	m := New(9, "id", "z.example", Profile{RequestsPerMinute: 5000, IncidentsPerDay: 6, Noise: -1}, nil)
	worst, best := 0.0, 1.0
	for i := minute0; i < minute0+1440; i++ {
		var failed, all uint64
		for j, a := range m.Minute(i).Amounts {
			all += a.Requests
			if m.Templates()[j].Uint("edgeResponseStatus") >= 500 {
				failed += a.Requests
			}
		}
		worst, best = max(worst, float64(failed)/float64(all)), min(best, float64(failed)/float64(all))
	}
	if worst < .04 || best > .01 {
		t.Errorf("share of errors went from %.3f to %.3f, want incidents to stand out", best, worst)
	}
}

func TestClientSet(t *testing.T) {
	a := ClientSet{[]clientRange{{0, 10}, {20, 30}}}
	b := ClientSet{[]clientRange{{5, 22}}}
	if n := Union(a, b).Count(); n != 30 {
		t.Errorf("union has %d members, want 30", n)
	}
	if n := Union().Count(); n != 0 {
		t.Errorf("empty union has %d members", n)
	}
	last := uint64(0)
	for f := 0.0; f <= 1; f += .05 {
		n := a.Scale(f).Count()
		if n < last {
			t.Errorf("share %.2f has %d members, a smaller one had %d", f, n, last)
		}
		last = n
	}
	if n := a.Scale(1).Count(); n != 20 {
		t.Errorf("the whole set has %d members, want 20", n)
	}
	if n := Union(a.WithOffset(1<<62), a).Count(); n != 40 {
		t.Errorf("sets of different zones share members: %d, want 40", n)
	}
}

func TestHugeAmountsStayExact(t *testing.T) {
	a := Amount{Requests: 34_000_000, Bytes: 9_223_372_036_854_775_807, OriginMs: 3}
	if got := a.Scale(1); got != a {
		t.Errorf("whole scale changed %+v to %+v", a, got)
	}
	if got := a.WithRequests(a.Requests / 2).Bytes; got != a.Bytes/2 {
		t.Errorf("half the requests have %d bytes, want %d", got, a.Bytes/2)
	}
	if got := a.Until(60, 59); got != a {
		t.Errorf("whole minute cut to %+v", got)
	}
}

func TestCacheForgetsTheOldest(t *testing.T) {
	c, made := newCache[int](2), 0
	get := func(k int64) { c.get(k, func() int { made++; return 0 }) }
	for _, k := range []int64{1, 2, 1, 3, 1, 2} { // 3 evicts 2, so that 2 is made again
		get(k)
	}
	if made != 4 || c.order.Len() != 2 || len(c.byKey) != 2 {
		t.Errorf("made %d values, kept %d", made, c.order.Len())
	}
}

// A mistake in the table is found with its line.
func TestMistakesInTheTable(t *testing.T) {
	for text, want := range map[string]string{
		"source a":                                               "must have a name, a product and a place",
		"source a p zone things=2":                               "a rate above 0",
		"source a p moon things=2 rate=1":                        `word "moon" must be`,
		"source a p zone things=x rate=1":                        "invalid syntax",
		"source a p zone things=1 rate=1\neach oops":             `word "oops" must be`,
		"source a p zone things=1 rate=1\naxis a=1 | b~many":     "measure b",
		"source a p zone things=1 rate=1\nlike b":                `source a is like "b"`,
		"source a p zone things=1 rate=1\nsomething else":        `not "something"`,
		"source a p zone things=1 rate=1\nnodes x\naxis 3 3 a=b": `word "3" must be`,
	} {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.Contains(got, want) || !strings.Contains(got, "line ") {
					t.Errorf("%q: panics with %s; want %q in it", text, got, want)
				}
			}()
			mustParseSources(text)
		}()
	}
}

// Levels grow over the years, and differ from hour to hour and from thing to thing.
func TestLevels(t *testing.T) {
	i := slices.IndexFunc(sources, func(s *Source) bool { return s.Name == "r2Storage" })
	m := NewSource(1, "id", "name", sources[i], Product{Things: 4}, nil)
	const hour, year = int64(492_000), int64(24 * 365)
	seen := map[float64]bool{}
	for j := range m.Templates() {
		tpl := &m.Templates()[j]
		now, ok := tpl.Level("payloadSize", hour)
		later, _ := tpl.Level("payloadSize", hour+year)
		next, _ := tpl.Level("payloadSize", hour+1)
		if !ok || now <= 0 || later <= now || next == now {
			t.Errorf("level of %v is %v, then %v, after a year %v", tpl.Attributes, now, next, later)
		}
		seen[now] = true
		if _, ok := tpl.Level("storedBytes", hour); ok {
			t.Error("it has a level of something else")
		}
	}
	if len(seen) != 8 {
		t.Errorf("eight combinations have %d levels", len(seen))
	}
}
