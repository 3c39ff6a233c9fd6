package view_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"weak"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
	"github.com/weir-metrics/weir/services/exposer/internal/view"
)

func limits() recent.Limits {
	return recent.Limits{MaxAge: 24 * time.Hour, Soft: 100_000, Hard: 250_000}
}

func at(n int) time.Time { return feedtest.T0.Add(time.Duration(n) * 5 * time.Minute) }

// build makes a state of two datasets, of which b_5m lags, and one bucket
// without rows.
func build(t testing.TB, stamp sample.Stamp, order func([]*bucket.Bucket)) *recent.State {
	t.Helper()
	r := recent.New(sample.Store{ID: "test", Stamp: stamp}, 24*time.Hour)
	for _, id := range []string{"b_5m", "a_5m"} {
		if err := r.Define(feedtest.Definition(id, 1)); err != nil {
			t.Fatal(err)
		}
	}
	buckets := []*bucket.Bucket{
		feedtest.Bucket("a_5m", feedtest.Zone(0), 0), feedtest.Bucket("a_5m", feedtest.Zone(1), 0),
		feedtest.Bucket("a_5m", feedtest.Zone(0), 1), feedtest.Bucket("a_5m", feedtest.Zone(1), 1),
		feedtest.Bucket("a_5m", feedtest.Zone(0), 2),
		feedtest.Bucket("b_5m", feedtest.Zone(0), 0), feedtest.Bucket("b_5m", feedtest.Zone(0), 1),
	}
	buckets[2].Families = buckets[2].Families[:1] // no rows of the breakdown
	if order != nil {
		order(buckets)
	}
	for _, b := range buckets {
		if _, err := r.Add(b, feedtest.Definition(b.Dataset, 1), at(4)); err != nil {
			t.Fatal(err)
		}
	}
	return r.State(bucket.Position{Revision: 9})
}

// raw is a body as it is sent.
func raw(t testing.TB, v *view.View, f expo.Format, e expo.Encoding) (all []byte) {
	t.Helper()
	b := v.Body(f, e)
	if err := b.WriteTo(func(p []byte) error { all = append(all, p...); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(all) != b.Len {
		t.Errorf("%s %s: %d bytes are sent of a body of %d", f, e, len(all), b.Len)
	}
	return all
}

func body(t testing.TB, v *view.View, f expo.Format, e expo.Encoding) string {
	t.Helper()
	b := raw(t, v, f, e)
	if e == expo.Identity {
		return string(b)
	}
	zip, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(zip)
	if err != nil {
		t.Fatal(err)
	}
	return string(plain)
}

func show(t *testing.T, s *recent.State, newest bool, now time.Time) *view.View {
	t.Helper()
	v, err := view.Build(s, newest, now, limits(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestGolden(t *testing.T) {
	for _, tc := range []struct {
		file   string
		stamp  sample.Stamp
		newest bool
		format expo.Format
	}{
		{"replay.txt", sample.End, false, expo.Text},
		{"replay.om", sample.End, false, expo.OpenMetrics},
		{"replay_start.txt", sample.Start, false, expo.Text},
		{"newest.txt", sample.End, true, expo.Text},
	} {
		t.Run(tc.file, func(t *testing.T) {
			v := show(t, build(t, tc.stamp, nil), tc.newest, at(4))
			got := body(t, v, tc.format, expo.Identity)
			testkit.Golden(t, "testdata/"+tc.file, []byte(got))
			if zipped := body(t, v, tc.format, expo.Gzip); zipped != got {
				t.Error("the gzip body is another one")
			}
			if lines := strings.Count(got, "\n") - strings.Count(got, "#"); lines != v.Choice.Samples {
				t.Errorf("%d samples in the body, the view says %d", lines, v.Choice.Samples)
			}
			if tc.format == expo.Text {
				parser := expfmt.NewTextParser(model.LegacyValidation)
				if _, err := parser.TextToMetricFamilies(strings.NewReader(got)); err != nil {
					t.Errorf("Prometheus's parser: %v", err)
				}
			}
		})
	}
}

// Two exposers with the same history give the same bytes, in whatever order
// its buckets came, compressed too (G5).
func TestSameBytes(t *testing.T) {
	one := build(t, sample.End, nil)
	two := build(t, sample.End, func(b []*bucket.Bucket) {
		for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
			b[i], b[j] = b[j], b[i]
		}
	})
	for _, newest := range []bool{false, true} {
		a := show(t, one, newest, at(4))
		b := show(t, two, newest, at(4).Add(time.Minute))
		for f := range expo.Format(expo.Formats) {
			for e := range expo.Encoding(expo.Encodings) {
				if !bytes.Equal(raw(t, a, f, e), raw(t, b, f, e)) {
					t.Errorf("%s %s, newest %v: bodies differ:\n%s", f, e, newest, cmp.Diff(body(t, a, f, e), body(t, b, f, e)))
				}
			}
		}
	}
}

// The parts of a small body have a few lines each: apart they would hardly shrink.
func TestSmallBodiesShrink(t *testing.T) {
	r := recent.New(sample.Store{ID: "test", Stamp: sample.End}, 24*time.Hour)
	if err := r.Define(feedtest.Definition("a_5m", 1)); err != nil {
		t.Fatal(err)
	}
	for n := range 30 {
		if _, err := r.Add(feedtest.Bucket("a_5m", feedtest.Zone(n/6), 25+n%6), feedtest.Definition("a_5m", 1), at(31)); err != nil {
			t.Fatal(err)
		}
	}
	v, err := view.Build(r.State(bucket.Position{Revision: 1}), false, at(31), limits(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if identity, zip := v.Body(expo.OpenMetrics, expo.Identity).Len, v.Body(expo.OpenMetrics, expo.Gzip).Len; zip > identity/8 {
		t.Errorf("%d bytes are compressed to %d", identity, zip)
	}
}

// Where the role of a family has changed in the middle of a window, its samples are in
// order of scope all the same.
func TestAFamilyWithTwoRolesIsInOrder(t *testing.T) {
	r := recent.New(sample.Store{ID: "test", Stamp: sample.End}, 24*time.Hour)
	var versions []*bucket.Definition
	for v := range uint32(2) {
		d := feedtest.Definition("a_5m", v+1)
		d.Families[0].Role = []bucket.Role{bucket.Breakdown, bucket.Total}[v]
		if err := r.Define(d); err != nil {
			t.Fatal(err)
		}
		versions = append(versions, d)
	}
	for zone, d := range []*bucket.Definition{versions[0], versions[1], versions[0]} {
		b := feedtest.Bucket("a_5m", feedtest.Zone(zone), 0)
		b.Version = d.Version
		if _, err := r.Add(b, d, at(2)); err != nil {
			t.Fatal(err)
		}
	}
	v, err := view.Build(r.State(bucket.Position{Revision: 1}), false, at(2), limits(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var zones []string
	for line := range strings.Lines(body(t, v, expo.Text, expo.Identity)) {
		if name, rest, _ := strings.Cut(line, "{zone="); name == versions[0].Families[0].Name {
			zone, _, _ := strings.Cut(rest, ",")
			zones = append(zones, zone)
		}
	}
	if !slices.IsSorted(zones) || len(zones) < 3 {
		t.Errorf("zones are in the order %q", zones)
	}
}

// A body must never be empty: Prometheus takes that for a healthy target
// without data.
func TestEmptyStore(t *testing.T) {
	none := recent.New(sample.Store{ID: "test", Stamp: sample.End}, time.Hour).State(bucket.Position{})
	v := show(t, none, false, at(0))
	if got := body(t, v, expo.Text, expo.Identity); got != "# The store has no dataset yet.\n" {
		t.Errorf("text of a store without datasets is %q", got)
	}
	if got := body(t, v, expo.OpenMetrics, expo.Identity); got != "# EOF\n" {
		t.Errorf("OpenMetrics of a store without datasets is %q", got)
	}
	// All samples aged away: the families are announced all the same.
	v = show(t, build(t, sample.End, nil), false, at(0).Add(48*time.Hour))
	if got := body(t, v, expo.Text, expo.Identity); !strings.HasPrefix(got, "# HELP cloudflare_zone_a_5m_requests ") || v.Choice.Samples != 0 {
		t.Errorf("two days later there are %d samples in:\n%s", v.Choice.Samples, got)
	}
}

func TestSeries(t *testing.T) {
	v := show(t, build(t, sample.End, nil), false, at(4))
	if got := v.Series(); got != 3*3 { // a_5m of two zones and b_5m of one, three series each
		t.Errorf("%d series, want 9", got)
	}
}

func TestBoard(t *testing.T) {
	clk := clock.NewManual(at(4))
	board := view.NewBoard(clk, limits(), nil)
	if _, err := board.View(view.Default); !errors.Is(err, view.ErrNotReady) || !errors.Is(board.Ready(), view.ErrNotReady) {
		t.Errorf("an empty board gives %v and is ready: %v", err, board.Ready())
	}
	state := build(t, sample.End, nil)
	board.Publish(state)
	get := func(hours int) *view.View {
		t.Helper()
		v, err := board.View(view.Query{Hours: hours})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	first := get(view.Default.Hours)
	if get(view.Default.Hours) != first || get(24) != first {
		t.Error("an unchanged view was built twice")
	}
	for hours := range 24 { // more variants than are kept
		get(hours)
	}
	if _, err := board.View(view.Query{Hours: 25}); err == nil {
		t.Error("more than the configured replay was given")
	}

	clk.Set(first.Choice.Expires.Add(-time.Millisecond))
	kept := get(view.Default.Hours)
	clk.Set(first.Choice.Expires)
	after := get(view.Default.Hours)
	if after == kept {
		t.Error("a view is served beyond its validity")
	}
	clk.Set(at(1).Add(24*time.Hour - time.Millisecond))
	after = get(view.Default.Hours)
	if got, want := after.Choice.Samples, kept.Choice.Samples-9; got != want {
		t.Errorf("%d samples after the oldest windows expired, want %d", got, want)
	}
	// The collector knows better what time it is: all is too old by then.
	board.Confirm(at(4).Add(72 * time.Hour))
	if got := get(view.Default.Hours).Choice.Samples; got != 0 {
		t.Errorf("%d samples are served that the newest progress time makes too old", got)
	}
	board.Drain()
	if !errors.Is(board.Ready(), view.ErrDraining) {
		t.Errorf("a draining board is ready: %v", board.Ready())
	}
	get(view.Default.Hours) // and still serves
}

// back is a clock that can be set back.
type back struct {
	clock.Clock
	now time.Time
}

func (b *back) Now() time.Time { return b.now }

// An exposer whose clock was ahead shows less; when it is set back, all is shown again.
func TestAClockThatIsSetBack(t *testing.T) {
	clk := &back{clock.NewManual(at(4)), at(4)}
	board := view.NewBoard(clk, limits(), nil)
	board.Publish(build(t, sample.End, nil))
	samples := func() int {
		v, err := board.View(view.Default)
		if err != nil {
			t.Fatal(err)
		}
		return v.Choice.Samples
	}
	all := samples()
	clk.now = at(2).Add(24 * time.Hour)
	if ahead := samples(); ahead >= all {
		t.Errorf("%d samples are shown a day ahead, and %d before", ahead, all)
	}
	clk.now = at(5)
	if got := samples(); got != all {
		t.Errorf("%d samples are shown after the clock was set back, want %d", got, all)
	}
}

// ticking is a clock that goes on at each look at it.
type ticking struct {
	clock.Clock
	looks atomic.Int64
}

func (c *ticking) Now() time.Time { return at(4).Add(time.Duration(c.looks.Add(1))) }

// Scrapes that come together share one view, in whatever order they looked at the clock.
func TestScrapesThatComeTogetherShareAView(t *testing.T) {
	board := view.NewBoard(&ticking{Clock: clock.NewManual(at(4))}, limits(), nil)
	board.Publish(build(t, sample.End, nil))
	views := make([]*view.View, 500)
	var together sync.WaitGroup
	for i := range views {
		together.Go(func() { views[i], _ = board.View(view.Default) })
	}
	together.Wait()
	if all := slices.Compact(views); len(all) != 1 || all[0] == nil {
		t.Errorf("500 scrapes of one state got views that differ: %d changes", len(all)-1)
	}
}

func TestReplayHours(t *testing.T) {
	// Windows 0, 1 and 2 end at 5, 10 and 15 minutes.
	now := at(0).Add(time.Hour + 7*time.Minute)
	board := view.NewBoard(clock.NewManual(now), limits(), nil)
	board.Publish(build(t, sample.End, nil))
	v, err := board.View(view.Query{Hours: 1})
	if err != nil {
		t.Fatal(err)
	}
	got := body(t, v, expo.Text, expo.Identity)
	if old := strconv.FormatInt(at(1).UnixMilli()-1, 10); strings.Contains(got, old) {
		t.Error("replay_hours=1 shows a sample of an hour ago")
	}
	if v.Choice.Samples != 7+3 {
		t.Errorf("%d samples, want those of windows 1 and 2, 10", v.Choice.Samples)
	}
	newest, err := board.View(view.Query{})
	if err != nil {
		t.Fatal(err)
	}
	if newest.Choice.Samples != 3 { // window 2 of zone 0, 52 minutes old; all others are above 55
		t.Errorf("the newest alone has %d samples, want 3:\n%s", newest.Choice.Samples, body(t, newest, expo.Text, expo.Identity))
	}
}

// Between a commit and the next scrape nothing holds the bodies from before.
func TestPublishForgetsTheViewsBefore(t *testing.T) {
	r := recent.New(sample.Store{ID: "test", Stamp: sample.End}, 24*time.Hour)
	b := view.NewBoard(clock.NewManual(at(3)), limits(), nil)
	b.Publish(r.State(bucket.Position{Revision: 1}))
	v, err := b.View(view.Default)
	if err != nil {
		t.Fatal(err)
	}
	old := weak.Make(v)
	b.Publish(r.State(bucket.Position{Revision: 2}))
	runtime.GC()
	if old.Value() != nil {
		t.Error("a view of the state before is still held")
	}
	runtime.KeepAlive(b)
}
