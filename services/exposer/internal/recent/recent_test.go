package recent_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
)

const day = 24 * time.Hour

var store = sample.Store{ID: "test", Stamp: sample.End}

// at is n windows of five minutes after the epoch of feedtest.
func at(n int) time.Time { return feedtest.T0.Add(time.Duration(n) * 5 * time.Minute) }

func define(t *testing.T, r *recent.Buckets, d *bucket.Definition) {
	t.Helper()
	if err := r.Define(d); err != nil {
		t.Fatal(err)
	}
}

func add(t *testing.T, r *recent.Buckets, b *bucket.Bucket, now time.Time) bool {
	t.Helper()
	held, err := r.Add(b, feedtest.Definition(b.Dataset, b.Version), now)
	if err != nil {
		t.Fatal(err)
	}
	return held
}

// shape lists what a state holds: "a000@0" is zone a000 in window 0.
func shape(s *recent.State) string {
	var b strings.Builder
	for i := range s.Datasets {
		d := &s.Datasets[i]
		for j := range d.Len() {
			for _, scope := range d.Scopes(j) {
				n := d.Window(j).Start.Sub(bucket.TimeOf(feedtest.T0)) / (5 * time.Minute)
				fmt.Fprintf(&b, "%s@%d ", scope.ID[28:], n)
			}
		}
	}
	return strings.TrimSpace(b.String())
}

func TestStatesDoNotChange(t *testing.T) {
	r := recent.New(store, day)
	define(t, r, feedtest.Definition("http_5m", 1))
	add(t, r, feedtest.Bucket("http_5m", feedtest.Zone(1), 0), at(3))
	first := r.State(bucket.Position{Revision: 2})
	add(t, r, feedtest.Bucket("http_5m", feedtest.Zone(0), 0), at(3)) // before the other
	add(t, r, feedtest.Bucket("http_5m", feedtest.Zone(0), 2), at(3))
	add(t, r, feedtest.Bucket("http_5m", feedtest.Zone(0), 1), at(3)) // late
	second := r.State(bucket.Position{Revision: 5})
	r.Expire(at(0).Add(day + 7*time.Minute))
	third := r.State(bucket.Position{Revision: 6})
	for _, tc := range []struct {
		state *recent.State
		want  string
	}{
		{first, "a001@0"},
		{second, "a000@0 a001@0 a000@1 a000@2"},
		{third, "a000@1 a000@2"},
	} {
		if got := shape(tc.state); got != tc.want {
			t.Errorf("revision %d holds %q, want %q", tc.state.Position.Revision, got, tc.want)
		}
	}
	if got := second.Samples; got != 4*3 {
		t.Errorf("%d samples held, want 12", got)
	}
	if got := third.Samples; got != 2*3 {
		t.Errorf("%d samples held after expiry, want 6", got)
	}
}

func TestDepthBoundsWhatIsHeld(t *testing.T) {
	r := recent.New(store, day)
	d := feedtest.Definition("http_5m", 1)
	d.Depth = 3
	define(t, r, d)
	for n := range 10 {
		add(t, r, feedtest.Bucket("http_5m", feedtest.Zone(0), n), at(11))
	}
	if held := add(t, r, feedtest.Bucket("http_5m", feedtest.Zone(1), 2), at(11)); held {
		t.Error("a repair older than any replay is held")
	}
	if held := add(t, r, feedtest.Bucket("http_5m", feedtest.Zone(1), 7), at(11)); !held {
		t.Error("a repair inside the replay is not held")
	}
	if got, want := shape(r.State(bucket.Position{})), "a000@7 a001@7 a000@8 a000@9"; got != want {
		t.Errorf("held %q, want %q", got, want)
	}
}

// What was dropped for depth cannot be conjured up when the depth grows: the
// state would differ from that of an exposer that has just begun (G5).
func TestDeeperNeedsSnapshot(t *testing.T) {
	r := recent.New(store, day)
	d := feedtest.Definition("http_5m", 1)
	d.Depth = 2
	define(t, r, d)
	deeper := feedtest.Definition("http_5m", 2)
	define(t, r, deeper) // nothing dropped yet
	again := feedtest.Definition("http_5m", 3)
	again.Depth = 2
	define(t, r, again)
	for n := range 4 {
		add(t, r, feedtest.Bucket("http_5m", feedtest.Zone(0), n), at(5))
	}
	if err := r.Define(feedtest.Definition("http_5m", 4)); !errors.Is(err, recent.ErrDeeper) {
		t.Errorf("error is %v, want ErrDeeper", err)
	}
}

func TestFirstBucketStays(t *testing.T) {
	r := recent.New(store, day)
	define(t, r, feedtest.Definition("http_5m", 1))
	add(t, r, feedtest.Bucket("http_5m", feedtest.Zone(0), 0), at(2))
	add(t, r, feedtest.Bucket("http_5m", feedtest.Zone(0), 0), at(2)) // the same again: no matter
	other := feedtest.Bucket("http_5m", feedtest.Zone(0), 0)
	other.Families[0].Values[0]++
	if _, err := r.Add(other, feedtest.Definition("http_5m", 1), at(2)); err == nil || !strings.Contains(err.Error(), "keeping the first") {
		t.Errorf("error is %v, want a refusal", err)
	}
	s := r.State(bucket.Position{})
	columns := s.Datasets[0].Columns(0)
	got := string(columns[slices.IndexFunc(columns, func(c *recent.Column) bool { return c.Family == feedtest.Total("http_5m") })].Lines)
	if !strings.Contains(got, "} 48 ") {
		t.Errorf("the first value is gone: %s", got)
	}
	if s.Samples != 3 {
		t.Errorf("%d samples counted, want 3", s.Samples)
	}
}

func TestRefusals(t *testing.T) {
	r := recent.New(store, day)
	if _, err := r.Add(feedtest.Bucket("http_5m", feedtest.Zone(0), 0), feedtest.Definition("http_5m", 1), at(2)); err == nil || !strings.Contains(err.Error(), "received no definition") {
		t.Errorf("undefined dataset: %v", err)
	}
	define(t, r, feedtest.Definition("http_5m", 1))
	add(t, r, feedtest.Bucket("http_5m", feedtest.Zone(0), 3), at(9))
	hour := feedtest.Bucket("http_5m", feedtest.Zone(1), 0)
	hour.Size = time.Hour
	if _, err := r.Add(hour, feedtest.Definition("http_5m", 1), at(20)); err == nil || !strings.Contains(err.Error(), "overlaps") {
		t.Errorf("overlapping window: %v", err)
	}
}

func TestFamilies(t *testing.T) {
	r := recent.New(store, day)
	old := feedtest.Definition("http_5m", 1)
	define(t, r, old)
	fresh := feedtest.Definition("http_5m", 2)
	fresh.Families = fresh.Families[:1]
	fresh.Families[0].Help = "Better words."
	define(t, r, fresh)
	var got []string
	for _, fam := range r.State(bucket.Position{}).Families() {
		got = append(got, fmt.Sprintf("%s %v %s", fam.Name, fam.Current, fam.Help))
	}
	want := []string{
		"cloudflare_zone_http_5m_requests true Better words.",
		"cloudflare_zone_http_5m_requests_by_status false Requests in the window, by status class.",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("families (-want +got):\n%s", diff)
	}
}
