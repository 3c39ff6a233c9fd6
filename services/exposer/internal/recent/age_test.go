package recent_test

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
)

// At the age bound a sample is too old, as it is where what is shown is
// chosen (TestAgeIsExact): what is held and what is served agree.
func TestHeldUpToTheAgeBoundAlone(t *testing.T) {
	bound := at(1).Add(-time.Millisecond).Add(day) // window 0's sample is as old as it may not be
	for _, tc := range []struct {
		now  time.Time
		held bool
	}{{bound.Add(-time.Millisecond), true}, {bound, false}} {
		r := recent.New(store, day)
		define(t, r, feedtest.Definition("http_5m", 1))
		if held := add(t, r, feedtest.Bucket("http_5m", feedtest.Zone(0), 0), tc.now); held != tc.held {
			t.Errorf("added at %s: held %t, want %t", tc.now, held, tc.held)
		}
		r = recent.New(store, day)
		define(t, r, feedtest.Definition("http_5m", 1))
		add(t, r, feedtest.Bucket("http_5m", feedtest.Zone(0), 0), at(2))
		r.Expire(tc.now)
		if held := r.Samples() > 0; held != tc.held {
			t.Errorf("expired at %s: held %t, want %t", tc.now, held, tc.held)
		}
	}
}

// An older version that comes after a newer one (a snapshot sends all of them)
// describes the buckets that were collected under it and nothing else.
func TestAnOlderVersionDoesNotReplaceANewer(t *testing.T) {
	r := recent.New(store, day)
	newer := feedtest.Definition("http_5m", 2)
	newer.Families[0].Help = "Better words."
	define(t, r, newer)
	older := feedtest.Definition("http_5m", 1)
	older.Depth = 1
	define(t, r, older)
	for n := range 3 {
		if !add(t, r, feedtest.Bucket("http_5m", feedtest.Zone(0), n), at(4)) {
			t.Errorf("window %d is not held at the newest version's depth", n)
		}
	}
	s := r.State(bucket.Position{})
	if got, want := shape(s), "a000@0 a000@1 a000@2"; got != want {
		t.Errorf("held %q, want %q", got, want)
	}
	if got := s.Datasets[0].Version; s.Datasets[0].Definition.Version != 2 || got(1) == nil {
		t.Errorf("the dataset is described by version %d", s.Datasets[0].Definition.Version)
	}
}
