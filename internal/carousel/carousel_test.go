package carousel

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

const (
	minute = time.Minute
	day    = 24 * time.Hour
)

// The windows of every size that Weir collects: how many are newest, how many a page
// has, how many pages a day has and how long a round takes.
func TestSchedules(t *testing.T) {
	for _, tc := range []struct {
		size                time.Duration
		newest, page, pages int
		round               time.Duration
	}{
		{minute, 10, 20, 73, 365 * minute},
		{5 * minute, 6, 24, 13, 65 * minute},
		{15 * minute, 2, 24, 5, 25 * minute},
		{time.Hour, 1, 24, 2, 10 * minute},
		{day, 1, 24, 2, 10 * minute},
	} {
		s := New(tc.size, day, Most)
		if s.Newest != tc.newest || s.Page != tc.page || s.Pages != tc.pages || s.Round() != tc.round {
			t.Errorf("%s: the newest %d, pages of %d, %d of them in %s; want %d, %d, %d in %s", tc.size, s.Newest, s.Page, s.Pages, s.Round(), tc.newest, tc.page, tc.pages, tc.round)
		}
		if n := s.Newest + s.Page; n > Most {
			t.Errorf("%s: a scrape may show %d windows", tc.size, n)
		}
	}
}

// shown are the windows that a scrape shows at a time, of those whose samples have the
// age: with the newest window that has ended.
func (s Schedule) shown(now time.Time, age, every time.Duration, late time.Time) map[int64]bool {
	turn, newest := TurnOf(now), floor(now.UnixNano(), int64(s.size))-1
	out := map[int64]bool{}
	for w := floor(now.Add(-age).UnixNano(), int64(s.size)); w <= newest; w++ {
		young := s.size < Long || now.Sub(time.Unix(0, (w+1)*int64(s.size))) < Young
		if w > newest-int64(s.Newest) && young || s.Shows(turn, every, late) && s.InTurn(turn) == s.PageOf(bucket.Time(w*int64(s.size/time.Second))) {
			out[w] = true
		}
	}
	return out
}

// Each window is shown for a whole turn in each round from when it is no longer among
// the newest until it is too old, whatever the size, the age and the time: the next
// round where nothing is late, and twice within two rounds after a late commit.
func TestEachWindowHasItsTurn(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 3))
		size := []time.Duration{minute, 5 * minute, 15 * minute, time.Hour}[rng.IntN(4)]
		age := time.Duration(2+rng.IntN(47)) * time.Hour
		s := New(size, age, Most)
		if s.Pages == 0 {
			continue
		}
		began := time.Date(2026, 11, 30, rng.IntN(24), rng.IntN(60), rng.IntN(60), 0, time.UTC)
		var late time.Time
		span, want := s.Every()+s.Round(), 1
		if rng.IntN(2) == 0 {
			late, span, want = began, 2*s.Round()+Turn, 2
		}
		turns := map[int64]int{} // whole turns, by window
		most := 0
		for turn := TurnOf(began) + 1; Begins(turn + 1).Before(began.Add(span)); turn++ {
			first := s.shown(Begins(turn), age, s.Every(), late)
			most = max(most, len(first))
			last := s.shown(Begins(turn+1).Add(-time.Second), age, s.Every(), late)
			for w := range first {
				if last[w] {
					turns[w]++
				}
			}
		}
		if most > Most {
			t.Errorf("seed %d: %s: a scrape shows %d windows", seed, size, most)
		}
		// Those that were inside the age all the time.
		oldest := floor(began.Add(span-age).UnixNano(), int64(size)) + 1
		newest := floor(began.UnixNano(), int64(size)) - 1
		for w := oldest; w <= newest; w++ {
			if turns[w] < want {
				t.Fatalf("seed %d: window %d of %s (age %s, %d pages) is shown for %d turns of %s after %s, late %t; want %d", seed, w, size, age, s.Pages, turns[w], span, began, !late.IsZero(), want)
			}
		}
	}
}

// Late is what is older at its commit than what every scrape shows.
func TestLate(t *testing.T) {
	end := bucket.TimeOf(time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC))
	for _, tc := range []struct {
		size, age time.Duration
		want      bool
	}{
		{minute, 10 * minute, false},
		{minute, 10*minute + time.Second, true},
		{5 * minute, 6 * minute, false},
		{5 * minute, 30 * minute, false},
		{5 * minute, 31 * minute, true},
		{time.Hour, 45 * minute, false},
		{time.Hour, 46 * minute, true},
		{time.Hour, 20 * time.Hour, true},
		{time.Hour, day, false}, // too old to be shown
		{day, 20 * time.Hour, true},
	} {
		window := bucket.Window{Start: end.Add(-tc.size), End: end}
		if got := Late(window, end.Std().Add(tc.age), day); got != tc.want {
			t.Errorf("a bucket of %s committed %s after its end: late is %t", tc.size, tc.age, got)
		}
		// What is not late is among the newest.
		if s := New(tc.size, day, Most); s.Covers() < Span(tc.size) {
			t.Errorf("the newest %d windows of %s cover less than %s", s.Newest, tc.size, Span(tc.size))
		}
	}
}
