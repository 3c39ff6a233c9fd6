package follow_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/exposer/internal/follow"
)

// tape records what the sinks of all snapshots are told, one line each.
type tape struct {
	lines  []string
	opened int
	refuse map[bucket.Revision]error // what a sink says of an entry
}

func (r *tape) open(store sample.Store) follow.Sink {
	r.opened++
	r.say(r.opened, "opened for %s, %s, kept for %s", store.ID, store.Stamp, store.Retention)
	return &sink{r, r.opened}
}

func (r *tape) say(sink int, format string, args ...any) {
	r.lines = append(r.lines, fmt.Sprintf("%d: ", sink)+fmt.Sprintf(format, args...))
}

type sink struct {
	*tape
	n int
}

func (s *sink) Entry(e *bucket.Entry) error {
	what := "nothing"
	switch e.Kind {
	case bucket.KindDatasetVersion:
		what = fmt.Sprintf("version %d of %s", e.Definition.Version, e.Definition.Dataset)
	case bucket.KindBucket, bucket.KindRestatement:
		what = fmt.Sprintf("kind %d, %s, origin %d, collected under version %d", e.Kind, e.Bucket.Start.Std().Format("15:04"), e.Bucket.Origin, e.Definition.Version)
	case bucket.KindGapDecision:
		what = "a gap decision"
	}
	if e.Kind == 0 && (e.Bucket != nil || e.Definition != nil) {
		what = "content of no kind"
	}
	s.say(s.n, "%d %x %s: %s", e.Revision, e.Chain[:1], e.CommittedAt.Format("15:04"), what)
	return s.refuse[e.Revision]
}

func (s *sink) Confirm(p follow.Point) {
	progress := "not known"
	if !p.Progress.IsZero() {
		progress = p.Progress.Format("15:04")
	}
	s.say(s.n, "confirmed up to %d, progress %s, kept for %s", p.Revision, progress, p.Retention)
}

// meter counts rejections.
type meter struct{ rejected int }

func (m *meter) Rejected()         { m.rejected++ }
func (*meter) Connected()          {}
func (*meter) Disconnected(string) {}

func at(n int) time.Time { return feedtest.T0.Add(time.Duration(n) * 5 * time.Minute) }

func info(days int) *bucketv1.StoreInfo {
	return &bucketv1.StoreInfo{StoreId: "test", SampleTimestamp: bucketv1.SampleTimestamp_SAMPLE_TIMESTAMP_END, Retention: durationpb.New(time.Duration(days) * 24 * time.Hour)}
}

func point(revision uint64) *bucketv1.ResumePoint {
	return wire.ResumePoint("test", bucket.Position{Revision: bucket.Revision(revision)})
}

// entry is revision n, committed n windows after the epoch; kind is a bucket, a
// definition, a message of the contract, or nil.
func entry(n int, kind any) *bucketv1.Entry {
	e := &bucketv1.Entry{Revision: uint64(n), Chain: append([]byte{byte(n)}, make([]byte, 15)...), CommittedAt: wire.Timestamp(at(n))}
	switch k := kind.(type) {
	case *bucket.Bucket:
		e.Kind = &bucketv1.Entry_Bucket{Bucket: wire.ProtoBucket(k)}
	case *bucket.Definition:
		e.Kind = &bucketv1.Entry_DatasetVersion{DatasetVersion: wire.ProtoDefinition(k)}
	case *bucketv1.Restatement:
		e.Kind = &bucketv1.Entry_Restatement{Restatement: k}
	case *bucketv1.GapDecision:
		e.Kind = &bucketv1.Entry_GapDecision{GapDecision: k}
	}
	return e
}

func number(n int) *bucket.Bucket { return feedtest.Bucket("http_5m", feedtest.Zone(0), n) }

func version(n int, help string) *bucket.Definition {
	d := feedtest.Definition("http_5m", uint32(n))
	d.Families[0].Help = help
	return d
}

func of(version uint32, b *bucket.Bucket) *bucket.Bucket {
	b.Version = version
	return b
}

// Each story feeds an Ingest that has taken a snapshot of version 1 and window 0.
func TestStories(t *testing.T) {
	for _, story := range []struct {
		name     string
		tell     func(t *testing.T, in *follow.Ingest, feed func(*bucketv1.Entry))
		want     string
		rejected int
	}{
		{"entries come with their place, and buckets with their definition", func(_ *testing.T, in *follow.Ingest, feed func(*bucketv1.Entry)) {
			feed(entry(3, version(2, "Other words.")))
			feed(entry(4, of(2, number(1))))
			feed(entry(5, number(2)))
			feed(entry(6, feedtest.Gap("http_5m", feedtest.Zone(0), 3, 4)))
			in.Progress(point(6), at(9))
			in.Progress(point(6), time.Time{})
		}, `
1: 3 03 00:15: version 2 of http_5m
1: 4 04 00:20: kind 1, 00:05, origin 1, collected under version 2
1: 5 05 00:25: kind 1, 00:10, origin 1, collected under version 1
1: 6 06 00:30: a gap decision
1: confirmed up to 6, progress 00:45, kept for 2160h0m0s
1: confirmed up to 6, progress not known, kept for 2160h0m0s`, 0},

		{"a restatement is told apart from the bucket that it corrects", func(_ *testing.T, _ *follow.Ingest, feed func(*bucketv1.Entry)) {
			feed(entry(3, &bucketv1.Restatement{Bucket: wire.ProtoBucket(number(0))}))
			feed(entry(4, &bucketv1.Restatement{}))
		}, `
1: 3 03 00:15: kind 5, 00:00, origin 1, collected under version 1
1: 4 04 00:20: nothing`, 1},

		{"what cannot be had has its place without content", func(_ *testing.T, in *follow.Ingest, feed func(*bucketv1.Entry)) {
			feed(entry(3, nil)) // dropped, or the collector cannot read it
			feed(entry(4, of(9, number(1))))
			odd := number(1)
			odd.Size = 7 * time.Second
			feed(entry(5, odd))
			feed(entry(6, version(1, "Version 1 says something else.")))
			feed(entry(7, version(1, "Requests in the window."))) // the same again
			feed(entry(8, number(2)))
			in.Progress(point(8), at(9))
		}, `
1: 3 03 00:15: nothing
1: 4 04 00:20: nothing
1: 5 05 00:25: nothing
1: 6 06 00:30: nothing
1: 7 07 00:35: version 1 of http_5m
1: 8 08 00:40: kind 1, 00:10, origin 1, collected under version 1
1: confirmed up to 8, progress 00:45, kept for 2160h0m0s`, 3},

		{"a snapshot has a sink of its own, and no definitions but its own", func(_ *testing.T, in *follow.Ingest, feed func(*bucketv1.Entry)) {
			in.SnapshotBegin(info(90))
			feed(entry(8, number(2)))
			feed(entry(7, version(1, "Requests in the window.")))
			feed(entry(9, number(3)))
			in.SnapshotEnd(point(9), at(9))
			feed(entry(10, number(4)))
			in.Progress(point(10), at(11))
		}, `
2: opened for test, end, kept for 2160h0m0s
2: 8 08 00:40: nothing
2: 7 07 00:35: version 1 of http_5m
2: 9 09 00:45: kind 1, 00:15, origin 1, collected under version 1
2: confirmed up to 9, progress 00:45, kept for 2160h0m0s
2: 10 0a 00:50: kind 1, 00:20, origin 1, collected under version 1
2: confirmed up to 10, progress 00:55, kept for 2160h0m0s`, 1},

		{"a snapshot that breaks off is dropped, whether a new one or the old view follows", func(_ *testing.T, in *follow.Ingest, feed func(*bucketv1.Entry)) {
			in.SnapshotBegin(info(90))
			feed(entry(3, version(1, "Requests in the window.")))
			in.SnapshotBegin(info(90))
			in.Info(info(120)) // by a collector with another setting
			feed(entry(3, number(1)))
			in.Progress(point(3), at(4))
			in.SnapshotEnd(point(3), at(4)) // of none
		}, `
2: opened for test, end, kept for 2160h0m0s
2: 3 03 00:15: version 1 of http_5m
3: opened for test, end, kept for 2160h0m0s
1: 3 03 00:15: kind 1, 00:05, origin 1, collected under version 1
1: confirmed up to 3, progress 00:20, kept for 2880h0m0s`, 0},

		{"a sink rejects an entry for itself, or asks for a new snapshot", func(t *testing.T, in *follow.Ingest, feed func(*bucketv1.Entry)) {
			feed(entry(20, number(1)))
			feed(entry(21, number(2)))
			if err := in.Entry(entry(22, number(3))); !errors.Is(err, follow.ErrAnew) {
				t.Errorf("error is %v, want ErrAnew", err)
			}
		}, `
1: 20 14 01:40: kind 1, 00:05, origin 1, collected under version 1
1: 21 15 01:45: kind 1, 00:10, origin 1, collected under version 1
1: 22 16 01:50: kind 1, 00:15, origin 1, collected under version 1`, 1},

		{"a store of other properties needs a snapshot", func(t *testing.T, in *follow.Ingest, feed func(*bucketv1.Entry)) {
			other := info(90)
			other.SampleTimestamp = bucketv1.SampleTimestamp_SAMPLE_TIMESTAMP_START
			in.Info(other)
			if err := in.Entry(entry(3, number(1))); err == nil || !strings.Contains(err.Error(), "properties changed") {
				t.Errorf("error is %v, want one that says that the store's properties changed", err)
			}
			in.SnapshotBegin(other)
			in.SnapshotEnd(point(3), at(4))
		}, `
2: opened for test, start, kept for 2160h0m0s
2: confirmed up to 3, progress 00:20, kept for 2160h0m0s`, 0},

		{"nothing is shown of a store whose samples stand at an unknown instant", func(t *testing.T, in *follow.Ingest, feed func(*bucketv1.Entry)) {
			strange := info(90)
			strange.SampleTimestamp = 7
			in.Info(strange)
			for range 2 {
				if err := in.Entry(entry(3, number(1))); err == nil || !strings.Contains(err.Error(), "this release supports the end") {
					t.Errorf("error is %v, want one that says what this release knows", err)
				}
				in.SnapshotBegin(strange)
			}
			in.SnapshotEnd(point(3), at(4)) // without an entry that could be refused
			in.Progress(point(3), at(5))
			in.Info(strange)
		}, "", 0},
	} {
		t.Run(story.name, func(t *testing.T) {
			r, m := &tape{refuse: map[bucket.Revision]error{
				20: errors.New("odd"), 22: fmt.Errorf("too deep: %w", follow.ErrAnew),
			}}, &meter{}
			in := follow.New(m, testkit.Logger(t), r.open)
			feed := func(e *bucketv1.Entry) {
				t.Helper()
				if err := in.Entry(e); err != nil {
					t.Fatal(err)
				}
			}
			in.SnapshotBegin(info(90))
			feed(entry(1, version(1, "Requests in the window.")))
			feed(entry(2, number(0)))
			in.SnapshotEnd(point(2), at(3))
			begin := len(r.lines)
			story.tell(t, in, feed)
			got := ""
			if len(r.lines) > begin {
				got = "\n" + strings.Join(r.lines[begin:], "\n")
			}
			if diff := cmp.Diff(story.want, got); diff != "" {
				t.Errorf("the sinks were told (-want +got):\n%s", diff)
			}
			if m.rejected != story.rejected {
				t.Errorf("%d entries are rejected, want %d", m.rejected, story.rejected)
			}
		})
	}
}

// Every sink is told the same, decoded once; one that rejects an entry does not
// keep it from the others.
func TestSinksAreApart(t *testing.T) {
	one, two, m := &tape{refuse: map[bucket.Revision]error{2: errors.New("odd")}}, &tape{}, &meter{}
	in := follow.New(m, testkit.Logger(t), one.open, two.open)
	in.SnapshotBegin(info(90))
	for _, e := range []*bucketv1.Entry{entry(1, version(1, "Requests in the window.")), entry(2, number(0)), entry(3, of(9, number(1)))} {
		if err := in.Entry(e); err != nil {
			t.Fatal(err)
		}
	}
	in.SnapshotEnd(point(3), at(3))
	if diff := cmp.Diff(one.lines, two.lines); diff != "" || len(one.lines) != 5 {
		t.Errorf("two sinks are told differently:\n%s", diff)
	}
	if m.rejected != 2 { // what one sink refused, and, once, what cannot be decoded
		t.Errorf("%d entries are rejected, want 2", m.rejected)
	}
}

func TestNothingBeforeASnapshot(t *testing.T) {
	r := &tape{}
	in := follow.New(&meter{}, testkit.Logger(t), r.open)
	in.Info(info(90))
	in.Progress(point(3), at(3))
	if err := in.Entry(entry(3, number(0))); err == nil || !strings.Contains(err.Error(), "before any snapshot") {
		t.Errorf("error is %v", err)
	}
	in.Disconnected(client.ErrIdle, 0)
	if len(r.lines) > 0 {
		t.Errorf("a sink was told:\n%s", strings.Join(r.lines, "\n"))
	}
}
