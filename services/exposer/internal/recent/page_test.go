package recent_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/carousel"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
)

// entry is a stored bucket of window n.
func entry(revision bucket.Revision, n int) bucket.Entry {
	return bucket.Entry{Position: bucket.Position{Revision: revision}, Kind: bucket.KindBucket, Bucket: feedtest.Bucket("http_5m", feedtest.Zone(0), n)}
}

// A page is held from the turn before its own on: what was added to it since then and
// what is fetched of it, as of the point that the stream has confirmed. When its turn is
// over it is let go.
func TestPagesAreHeldWhileTheyAreWanted(t *testing.T) {
	r := recent.New(store, day)
	define(t, r, feedtest.Definition("http_5m", 1))
	for n := range 200 {
		add(t, r, feedtest.Bucket("http_5m", feedtest.Zone(0), n), at(n+2))
	}
	newest := "a000@194 a000@195 a000@196 a000@197 a000@198 a000@199"
	if got := shape(r.State(bucket.Position{})); got != newest {
		t.Fatalf("held %q, want the newest six", got)
	}
	now := at(202)
	r.NoteLate("http_5m", now)
	inside := func(p recent.Page, n int) bool {
		start := bucket.TimeOf(at(n))
		return start >= p.Windows.Start && start < p.Windows.End
	}
	var missing []recent.Page
	for {
		var changed bool
		if missing, changed = r.Turn(now, nil); !changed || len(missing) == 0 {
			t.Fatalf("%v is missing at %s; changed: %t", missing, now, changed)
		}
		if len(missing) == 2 && inside(missing[0], 50) {
			break
		}
		now = now.Add(carousel.Turn)
		r.NoteLate("http_5m", now)
	}
	if again, changed := r.Turn(now, nil); changed || !slices.Equal(again, missing) {
		t.Errorf("asked again, %v is missing; changed: %t", again, changed)
	}
	page := missing[0]
	first := 50
	for inside(page, first-1) {
		first--
	}
	// The stream delivers one of the page, and one of a page that is not wanted.
	if !add(t, r, feedtest.Bucket("http_5m", feedtest.Zone(1), first), now) {
		t.Error("a bucket of the page in turn is not held")
	}
	if add(t, r, feedtest.Bucket("http_5m", feedtest.Zone(1), first+24+24), now) {
		t.Error("a bucket of a page that nobody wants is held")
	}
	fetched := &recent.Fetched{Page: page, Entries: []bucket.Entry{entry(5, first), entry(6, first+1), entry(9, first+2)}}
	odd := entry(7, first+3)
	odd.Bucket.Version = 7
	fetched.Entries = append(fetched.Entries, odd)
	if err := r.Fill(fetched, 8, now); err == nil || !strings.Contains(err.Error(), "version 7") {
		t.Errorf("the error about a bucket without a definition is %v", err)
	}
	if err := r.Fill(fetched, 100, now); err != nil { // a second time: no matter
		t.Error(err)
	}
	if left, _ := r.Turn(now, nil); len(left) != 1 || left[0] != missing[1] {
		t.Errorf("%v is missing after the first page was filled", left)
	}
	got := shape(r.State(bucket.Position{}))
	want := strings.Join([]string{name(0, first), name(1, first), name(0, first+1), newest}, " ")
	if got != want {
		t.Errorf("held %q, want %q", got, want)
	}
	// Two turns later nobody wants it.
	if _, changed := r.Turn(now.Add(2*carousel.Turn), nil); !changed {
		t.Error("two turns later the same pages are held")
	}
	if got := shape(r.State(bucket.Position{})); got != newest {
		t.Errorf("held %q when the turn is over, want %q", got, newest)
	}
	if err := r.Fill(fetched, 8, now); err != nil || shape(r.State(bucket.Position{})) != newest {
		t.Errorf("a page that comes too late is held: %v", err)
	}
	if n := r.Samples(); n != 6*3 {
		t.Errorf("%d samples are counted, want those of six windows", n)
	}
}

func name(zone, n int) string { return fmt.Sprintf("%s@%d", feedtest.Zone(zone).ID[28:], n) }

// A round that some scrape asks for is held beside the usual one.
func TestPagesOfAQuery(t *testing.T) {
	r := recent.New(store, day)
	define(t, r, feedtest.Definition("http_5m", 1))
	add(t, r, feedtest.Bucket("http_5m", feedtest.Zone(0), 200), at(202))
	s := carousel.New(5*time.Minute, day, carousel.Most)
	now := at(202)
	for s.Shows(carousel.TurnOf(now), s.Every(), time.Time{}) || s.Shows(carousel.TurnOf(now)+1, s.Every(), time.Time{}) {
		now = now.Add(carousel.Turn)
	}
	if missing, _ := r.Turn(now, nil); len(missing) != 0 {
		t.Errorf("%v is wanted without a round", missing)
	}
	if missing, _ := r.Turn(now, []recent.Rounds{{Age: day, Every: carousel.Turn}}); len(missing) != 2 {
		t.Errorf("%v is wanted for rounds without a pause, want two pages", missing)
	}
	// A scrape of less history has fewer pages, and its own in turn.
	short := carousel.New(5*time.Minute, 3*time.Hour, carousel.Most)
	if short.Pages >= s.Pages || 2*short.Every() > 3*time.Hour {
		t.Fatalf("a round of three hours has %d pages and is due every %s", short.Pages, short.Every())
	}
	for turn := range int64(2 * short.Every() / carousel.Turn) {
		at := now.Add(time.Duration(turn) * carousel.Turn)
		missing, _ := r.Turn(at, []recent.Rounds{{Age: 3 * time.Hour}})
		n := short.InTurn(carousel.TurnOf(at))
		wanted := slices.ContainsFunc(missing, func(p recent.Page) bool { return p.Number == n })
		if due := short.Shows(carousel.TurnOf(at), short.Every(), time.Time{}); due && !wanted {
			t.Errorf("turn %d: %v is wanted, not page %d", turn, missing, n)
		}
	}
}
