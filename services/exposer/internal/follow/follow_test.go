package follow_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/exposer/internal/expo"
	"github.com/weir-metrics/weir/services/exposer/internal/follow"
	"github.com/weir-metrics/weir/services/exposer/internal/window"
)

// board keeps what is published.
type board struct {
	now    time.Time
	states []*window.State
}

func (b *board) Publish(s *window.State) { b.states = append(b.states, s) }
func (b *board) Confirm(time.Time)       {}
func (b *board) Now() time.Time          { return b.now }

func (b *board) last(t *testing.T) *window.State {
	t.Helper()
	if len(b.states) == 0 {
		t.Fatal("nothing was published")
	}
	return b.states[len(b.states)-1]
}

// meter counts rejections.
type meter struct{ rejected int }

func (*meter) Rendered(int, time.Duration) {}
func (m *meter) Rejected()                 { m.rejected++ }
func (*meter) Published()                  {}
func (*meter) Connected()                  {}
func (*meter) Disconnected(string)         {}

func at(n int) time.Time { return feedtest.T0.Add(time.Duration(n) * 5 * time.Minute) }

func info(stamp bucketv1.SampleTimestamp) *bucketv1.StoreInfo {
	return &bucketv1.StoreInfo{StoreId: "test", SampleTimestamp: stamp, Retention: durationpb.New(90 * 24 * time.Hour)}
}

const (
	end   = bucketv1.SampleTimestamp_SAMPLE_TIMESTAMP_END
	start = bucketv1.SampleTimestamp_SAMPLE_TIMESTAMP_START
)

func point(revision uint64) *bucketv1.ResumePoint {
	return wire.ResumePoint("test", bucket.Position{Revision: bucket.Revision(revision)})
}

// ingest is an Ingest after a snapshot that holds window 0 and stands at 2.
func ingest(t *testing.T, stamp bucketv1.SampleTimestamp) (*follow.Ingest, *board, *meter) {
	t.Helper()
	b, m := &board{now: at(4)}, &meter{}
	in := follow.New(b, m, 24*time.Hour, testkit.Logger(t))
	in.SnapshotBegin(info(stamp))
	define(t, in, 1)
	add(t, in, 2, 0)
	in.SnapshotEnd(point(2), at(3))
	return in, b, m
}

func define(t *testing.T, in *follow.Ingest, revision uint64) {
	t.Helper()
	e := &bucketv1.Entry{Revision: revision, Kind: &bucketv1.Entry_DatasetVersion{DatasetVersion: wire.ProtoDefinition(feedtest.Definition("http_5m", 1))}}
	if err := in.Entry(e); err != nil {
		t.Fatal(err)
	}
}

func add(t *testing.T, in *follow.Ingest, revision uint64, n int) {
	t.Helper()
	e := &bucketv1.Entry{Revision: revision, Kind: &bucketv1.Entry_Bucket{Bucket: wire.ProtoBucket(feedtest.Bucket("http_5m", feedtest.Zone(0), n))}}
	if err := in.Entry(e); err != nil {
		t.Fatal(err)
	}
}

// The store's property decides which instant a sample carries.
func TestStampIsTheStores(t *testing.T) {
	for stamp, want := range map[bucketv1.SampleTimestamp]expo.Stamp{end: expo.End, start: expo.Start} {
		_, b, _ := ingest(t, stamp)
		if got := b.last(t).Info.Stamp; got != want {
			t.Errorf("the stamp is %s, want %s", got, want)
		}
	}
}

// Nothing of a batch is shown before the stream confirms it, and the revision
// that is shown moves with entries that no replay shows: equal revisions mean
// equal bytes (G5).
func TestStatesFollowTheConfirmedPoint(t *testing.T) {
	in, b, m := ingest(t, end)
	add(t, in, 3, 1)
	if n := len(b.states); n != 1 {
		t.Fatalf("%d states are published before progress, want the snapshot's", n)
	}
	in.Progress(point(3), at(4))
	if s := b.last(t); s.Position.Revision != 3 || s.Samples != 6 {
		t.Errorf("revision %d with %d samples is published, want 3 with 6", s.Position.Revision, s.Samples)
	}
	if err := in.Entry(&bucketv1.Entry{Revision: 4, Kind: &bucketv1.Entry_GapDecision{GapDecision: &bucketv1.GapDecision{}}}); err != nil {
		t.Fatal(err)
	}
	in.Progress(point(4), at(4))
	if s := b.last(t); s.Position.Revision != 4 || s.Samples != 6 {
		t.Errorf("revision %d with %d samples is published, want 4 with 6", s.Position.Revision, s.Samples)
	}
	n := len(b.states)
	in.Progress(point(4), at(5)) // time alone
	if len(b.states) != n || m.rejected != 0 {
		t.Errorf("%d states more without anything new, %d entries rejected", len(b.states)-n, m.rejected)
	}
}

// What passes the age bound is let go, so that memory does not follow uptime.
func TestOldWindowsAreLetGo(t *testing.T) {
	in, b, _ := ingest(t, end)
	b.now = at(1).Add(24 * time.Hour)
	add(t, in, 3, 280)
	in.Progress(point(3), b.now)
	if s := b.last(t); s.Samples != 3 {
		t.Errorf("%d samples are held when the oldest window is a day old, want 3", s.Samples)
	}
}

// A stream that breaks inside a snapshot and is then resumed feeds the view that
// is shown, not the one that was never complete.
func TestAnUnfinishedSnapshotIsDropped(t *testing.T) {
	in, b, _ := ingest(t, end)
	in.SnapshotBegin(info(end))
	define(t, in, 1)
	in.Info(info(end))
	add(t, in, 3, 1)
	in.Progress(point(3), at(4))
	if s := b.last(t); s.Position.Revision != 3 || s.Samples != 6 {
		t.Errorf("revision %d with %d samples is published, want 3 with 6", s.Position.Revision, s.Samples)
	}
}

// Until a new snapshot is complete the old view is served as it was.
func TestASnapshotIsShownWhole(t *testing.T) {
	in, b, _ := ingest(t, end)
	in.SnapshotBegin(info(end))
	define(t, in, 1)
	add(t, in, 5, 2)
	if n := len(b.states); n != 1 || b.last(t).Samples != 3 {
		t.Fatalf("%d states are published inside a snapshot", n)
	}
	in.SnapshotEnd(point(5), at(4))
	if s := b.last(t); s.Position.Revision != 5 || s.Samples != 3 || s.Dataset("http_5m").Window(0).Start != bucket.TimeOf(at(2)) {
		t.Errorf("after the snapshot revision %d with %d samples is published", s.Position.Revision, s.Samples)
	}
}

// A store that stamps its samples otherwise makes every held sample wrong: a
// new snapshot is asked for.
func TestChangedPropertiesNeedASnapshot(t *testing.T) {
	in, b, _ := ingest(t, end)
	in.Info(info(start))
	e := &bucketv1.Entry{Revision: 3, Kind: &bucketv1.Entry_Bucket{Bucket: wire.ProtoBucket(feedtest.Bucket("http_5m", feedtest.Zone(0), 1))}}
	if err := in.Entry(e); err == nil || !strings.Contains(err.Error(), "properties changed") {
		t.Fatalf("error is %v, want one that says that the store's properties changed", err)
	}
	in.SnapshotBegin(info(start)) // which the client asks for then
	define(t, in, 1)
	in.SnapshotEnd(point(3), at(4))
	if s := b.last(t); s.Info.Stamp != expo.Start || s.Position.Revision != 3 {
		t.Errorf("after the snapshot revision %d with stamp %s is published", s.Position.Revision, s.Info.Stamp)
	}
}

// A collector with another retention is no reason to build the view anew; what
// it says reaches those who ask for history.
func TestAnotherRetentionNeedsNoSnapshot(t *testing.T) {
	in, b, _ := ingest(t, end)
	longer := info(end)
	longer.Retention = durationpb.New(120 * 24 * time.Hour)
	in.Info(longer)
	add(t, in, 3, 1)
	in.Progress(point(3), at(4))
	if s := b.last(t); s.Position.Revision != 3 || s.Samples != 6 || s.Info.Retention != 120*24*time.Hour {
		t.Errorf("revision %d with %d samples and retention %s is published, want 3 with 6 and 120 days", s.Position.Revision, s.Samples, s.Info.Retention)
	}
	in.Info(info(end)) // and back, with nothing new in the log
	in.Progress(point(3), at(4))
	if s := b.last(t); s.Info.Retention != 90*24*time.Hour {
		t.Errorf("retention %s is published, want 90 days", s.Info.Retention)
	}
}

// One odd bucket does not take the others with it.
func TestAnOddBucketIsRejectedAlone(t *testing.T) {
	in, b, m := ingest(t, end)
	odd := wire.ProtoBucket(feedtest.Bucket("http_5m", feedtest.Zone(0), 1))
	odd.DatasetVersion = 9
	if err := in.Entry(&bucketv1.Entry{Revision: 3, Kind: &bucketv1.Entry_Bucket{Bucket: odd}}); err != nil {
		t.Fatalf("the stream ends with %v", err)
	}
	add(t, in, 4, 2)
	in.Progress(point(4), at(4))
	if s := b.last(t); m.rejected != 1 || s.Samples != 6 || s.Position.Revision != 4 {
		t.Errorf("%d rejected, revision %d with %d samples; want 1, 4 and 6", m.rejected, s.Position.Revision, s.Samples)
	}
}

// Buckets that were asked to be small are a line of the log, not a warning, and one,
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
		{"small buckets", time.Minute, 24 * time.Hour, "INFO"},
		{"a setting too low", 24 * time.Hour, 12 * time.Hour, "WARN"},
	} {
		logger, logs := testkit.RecordingLogger(t)
		in := follow.New(&board{now: at(4)}, &meter{}, tc.age, logger)
		for range 3 {
			in.SnapshotBegin(info(end))
			d := feedtest.Definition("http", 1)
			d.Size = tc.size
			if err := in.Entry(&bucketv1.Entry{Revision: 1, Kind: &bucketv1.Entry_DatasetVersion{DatasetVersion: wire.ProtoDefinition(d)}}); err != nil {
				t.Fatal(err)
			}
			in.SnapshotEnd(point(1), at(3))
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
