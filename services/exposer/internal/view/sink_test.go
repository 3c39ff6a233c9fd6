package view_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/exposer/internal/follow"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
	"github.com/weir-metrics/weir/services/exposer/internal/view"
)

// meter counts rejections and publications.
type meter struct{ rejected, published, unserved int }

func (*meter) Rendered(int, time.Duration) {}
func (m *meter) Published()                { m.published++ }
func (m *meter) Rejected()                 { m.rejected++ }
func (m *meter) Unserved(string)           { m.unserved++ }
func (*meter) Connected()                  {}
func (*meter) Disconnected(string)         {}

func info(stamp bucketv1.SampleTimestamp) *bucketv1.StoreInfo {
	return &bucketv1.StoreInfo{StoreId: "test", SampleTimestamp: stamp, Retention: durationpb.New(90 * 24 * time.Hour)}
}

const (
	end   = bucketv1.SampleTimestamp_SAMPLE_TIMESTAMP_END
	start = bucketv1.SampleTimestamp_SAMPLE_TIMESTAMP_START
)

func upTo(revision uint64) *bucketv1.ResumePoint {
	return wire.ResumePoint("test", bucket.Position{Revision: bucket.Revision(revision)})
}

// following is a board that is fed from a stream.
type following struct {
	*follow.Ingest
	*view.Board
	*meter
	clock *clock.Manual
	pages pages
}

// pages are fetched by the test.
type pages struct {
	want []recent.Page
	have []recent.Fetched
	err  error
}

func (p *pages) Want(_ any, want []recent.Page) { p.want = want }

func (p *pages) Take(any) ([]recent.Fetched, error) {
	have := p.have
	p.have = nil
	return have, p.err
}

func feed(log *slog.Logger, maxAge time.Duration, clk *clock.Manual) *following {
	f := &following{meter: &meter{}, clock: clk, pages: pages{err: errors.New("nobody fetches them")}}
	f.Board = view.NewBoard(f.clock, recent.Limits{MaxAge: maxAge, Soft: 100_000, Hard: 250_000}, nil)
	f.Ingest = follow.New(f.meter, log, f.Board.Sink(&f.pages, f.meter, log))
	return f
}

// ingest is after a snapshot that holds window 0 and stands at 2.
func ingest(t *testing.T, stamp bucketv1.SampleTimestamp) *following {
	t.Helper()
	f := feed(testkit.Logger(t), 24*time.Hour, clock.NewManual(at(4)))
	f.SnapshotBegin(info(stamp))
	define(t, f, 1)
	add(t, f, 2, 0)
	f.SnapshotEnd(upTo(2), at(3))
	return f
}

func define(t *testing.T, f *following, revision uint64) {
	t.Helper()
	e := &bucketv1.Entry{Revision: revision, Kind: &bucketv1.Entry_DatasetVersion{DatasetVersion: wire.ProtoDefinition(feedtest.Definition("http_5m", 1))}}
	if err := f.Ingest.Entry(e); err != nil {
		t.Fatal(err)
	}
}

func add(t *testing.T, f *following, revision uint64, n int) {
	t.Helper()
	e := &bucketv1.Entry{Revision: revision, Kind: &bucketv1.Entry_Bucket{Bucket: wire.ProtoBucket(feedtest.Bucket("http_5m", feedtest.Zone(0), n))}}
	if err := f.Ingest.Entry(e); err != nil {
		t.Fatal(err)
	}
}

// The store's property decides which instant a sample carries.
func TestStampIsTheStores(t *testing.T) {
	for stamp, want := range map[bucketv1.SampleTimestamp]sample.Stamp{end: sample.End, start: sample.Start} {
		f := ingest(t, stamp)
		if got := f.State().Store.Stamp; got != want {
			t.Errorf("the stamp is %s, want %s", got, want)
		}
	}
}

// Nothing of a batch is shown before the stream confirms it, and the revision
// that is shown moves with entries that no replay shows: equal revisions mean
// equal bytes (G5).
func TestStatesFollowTheConfirmedPoint(t *testing.T) {
	f := ingest(t, end)
	add(t, f, 3, 1)
	if n := f.published; n != 1 {
		t.Fatalf("%d states are published before progress, want the snapshot's", n)
	}
	f.Ingest.Progress(upTo(3), at(4))
	if s := f.State(); s.Position.Revision != 3 || s.Samples != 6 {
		t.Errorf("revision %d with %d samples is published, want 3 with 6", s.Position.Revision, s.Samples)
	}
	if err := f.Ingest.Entry(&bucketv1.Entry{Revision: 4, Kind: &bucketv1.Entry_GapDecision{GapDecision: &bucketv1.GapDecision{}}}); err != nil {
		t.Fatal(err)
	}
	f.Ingest.Progress(upTo(4), at(4))
	if s := f.State(); s.Position.Revision != 4 || s.Samples != 6 {
		t.Errorf("revision %d with %d samples is published, want 4 with 6", s.Position.Revision, s.Samples)
	}
	n := f.published
	f.Ingest.Progress(upTo(4), at(4).Add(time.Minute)) // time alone
	if f.published != n || f.rejected != 0 {
		t.Errorf("%d states more without anything new, %d entries rejected", f.published-n, f.rejected)
	}
}

// What passes the age bound is let go, so that memory does not follow uptime.
func TestOldWindowsAreLetGo(t *testing.T) {
	f := ingest(t, end)
	f.clock.Set(at(1).Add(24 * time.Hour))
	add(t, f, 3, 280)
	f.Ingest.Progress(upTo(3), f.clock.Now())
	if s := f.State(); s.Samples != 3 {
		t.Errorf("%d samples are held when the oldest window is a day old, want 3", s.Samples)
	}
}

// A stream that breaks inside a snapshot and is then resumed feeds the view that
// is shown, not the one that was never complete.
func TestAnUnfinishedSnapshotIsDropped(t *testing.T) {
	f := ingest(t, end)
	f.SnapshotBegin(info(end))
	define(t, f, 1)
	f.Info(info(end))
	add(t, f, 3, 1)
	f.Ingest.Progress(upTo(3), at(4))
	if s := f.State(); s.Position.Revision != 3 || s.Samples != 6 {
		t.Errorf("revision %d with %d samples is published, want 3 with 6", s.Position.Revision, s.Samples)
	}
}

// Until a new snapshot is complete the old view is served as it was.
func TestASnapshotIsShownWhole(t *testing.T) {
	f := ingest(t, end)
	f.SnapshotBegin(info(end))
	define(t, f, 1)
	add(t, f, 5, 2)
	if n := f.published; n != 1 || f.State().Samples != 3 {
		t.Fatalf("%d states are published inside a snapshot", n)
	}
	f.SnapshotEnd(upTo(5), at(4))
	if s := f.State(); s.Position.Revision != 5 || s.Samples != 3 || s.Dataset("http_5m").Window(0).Start != bucket.TimeOf(at(2)) {
		t.Errorf("after the snapshot revision %d with %d samples is published", s.Position.Revision, s.Samples)
	}
}

// A store that stamps its samples otherwise makes every held sample wrong: a
// new snapshot is asked for.
func TestChangedPropertiesNeedASnapshot(t *testing.T) {
	f := ingest(t, end)
	f.Info(info(start))
	e := &bucketv1.Entry{Revision: 3, Kind: &bucketv1.Entry_Bucket{Bucket: wire.ProtoBucket(feedtest.Bucket("http_5m", feedtest.Zone(0), 1))}}
	if err := f.Ingest.Entry(e); err == nil || !strings.Contains(err.Error(), "properties changed") {
		t.Fatalf("error is %v, want one that says that the store's properties changed", err)
	}
	f.SnapshotBegin(info(start)) // which the client asks for then
	define(t, f, 1)
	f.SnapshotEnd(upTo(3), at(4))
	if s := f.State(); s.Store.Stamp != sample.Start || s.Position.Revision != 3 {
		t.Errorf("after the snapshot revision %d with stamp %s is published", s.Position.Revision, s.Store.Stamp)
	}
}

// A collector with another retention is no reason to build the view anew; what
// it says reaches those who ask for history.
func TestAnotherRetentionNeedsNoSnapshot(t *testing.T) {
	f := ingest(t, end)
	longer := info(end)
	longer.Retention = durationpb.New(120 * 24 * time.Hour)
	f.Info(longer)
	add(t, f, 3, 1)
	f.Ingest.Progress(upTo(3), at(4))
	if s := f.State(); s.Position.Revision != 3 || s.Samples != 6 || s.Store.Retention != 120*24*time.Hour {
		t.Errorf("revision %d with %d samples and retention %s is published, want 3 with 6 and 120 days", s.Position.Revision, s.Samples, s.Store.Retention)
	}
	f.Info(info(end)) // and back, with nothing new in the log
	f.Ingest.Progress(upTo(3), at(4))
	if s := f.State(); s.Store.Retention != 90*24*time.Hour {
		t.Errorf("retention %s is published, want 90 days", s.Store.Retention)
	}
}

// One odd bucket does not take the others with it.
func TestAnOddBucketIsRejectedAlone(t *testing.T) {
	f := ingest(t, end)
	odd := wire.ProtoBucket(feedtest.Bucket("http_5m", feedtest.Zone(0), 1))
	odd.DatasetVersion = 9
	if err := f.Ingest.Entry(&bucketv1.Entry{Revision: 3, Kind: &bucketv1.Entry_Bucket{Bucket: odd}}); err != nil {
		t.Fatalf("the stream ends with %v", err)
	}
	add(t, f, 4, 2)
	f.Ingest.Progress(upTo(4), at(4))
	if s := f.State(); f.rejected != 1 || s.Samples != 6 || s.Position.Revision != 4 {
		t.Errorf("%d rejected, revision %d with %d samples; want 1, 4 and 6", f.rejected, s.Position.Revision, s.Samples)
	}
}

// A replay that was asked to be short is a line of the log, not a warning, and one,
// however often a snapshot defines the dataset again; a setting that is too low is a
// warning; the defaults say nothing.
func TestAShortReplayIsToldOnce(t *testing.T) {
	for _, tc := range []struct {
		name  string
		size  time.Duration
		age   time.Duration
		level string // empty: nothing is said
	}{
		{"defaults", 5 * time.Minute, 24 * time.Hour, ""},
		{"a short replay", 5 * time.Minute, time.Hour, "INFO"},
		{"a setting too low", 24 * time.Hour, 12 * time.Hour, "WARN"},
	} {
		logger, logs := testkit.RecordingLogger(t)
		f := feed(logger, tc.age, clock.NewManual(at(4)))
		for range 3 {
			f.SnapshotBegin(info(end))
			d := feedtest.Definition("http", 1)
			d.Size = tc.size
			if err := f.Ingest.Entry(&bucketv1.Entry{Revision: 1, Kind: &bucketv1.Entry_DatasetVersion{DatasetVersion: wire.ProtoDefinition(d)}}); err != nil {
				t.Fatal(err)
			}
			f.SnapshotEnd(upTo(1), at(3))
		}
		text, want := logs.String(), 1
		if tc.level == "" {
			want = 0
		}
		if n := strings.Count(text, "replay is too short"); n != want || !strings.Contains(text, "level="+tc.level) {
			t.Errorf("%s: said %d times, want %d at %q:\n%s", tc.name, n, want, tc.level, text)
		}
		if tc.level != "WARN" && strings.Contains(text, "level=WARN") {
			t.Errorf("%s: there is a warning:\n%s", tc.name, text)
		}
	}
}

// What only a backfill wanted is neither counted as unserved nor a late commit: whoever
// requested it brings it into Prometheus.
func TestBackfilledBucketsAreNeitherLateNorUnserved(t *testing.T) {
	for origin, want := range map[bucket.Origin]struct {
		unserved int
		late     bool
	}{bucket.Repair: {1, true}, bucket.Backfill: {0, false}} {
		f := ingest(t, end)
		for i, n := range []int{-30, -400} { // hours old, and more than a day
			b := feedtest.Bucket("http_5m", feedtest.Zone(0), n)
			b.Origin = origin
			e := &bucketv1.Entry{Revision: uint64(3 + i), CommittedAt: wire.Timestamp(at(4)), Kind: &bucketv1.Entry_Bucket{Bucket: wire.ProtoBucket(b)}}
			if err := f.Ingest.Entry(e); err != nil {
				t.Fatal(err)
			}
		}
		f.Ingest.Progress(upTo(4), at(5))
		if late := !f.State().Datasets[0].Late.IsZero(); f.unserved != want.unserved || late != want.late {
			t.Errorf("of origin %d, %d buckets are unserved, and one is late: %t; want %+v", origin, f.unserved, late, want)
		}
	}
}
