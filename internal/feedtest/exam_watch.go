package feedtest

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/grpc/codes"
)

func (x *exam) zero() *bucketv1.ResumePoint { return &bucketv1.ResumePoint{StoreId: x.storeID()} }

func (x *exam) head() uint64 { return uint64(len(x.log)) }

func resumeFromZero(x *exam) {
	x.fill(3)
	t := x.watch(resume(x.zero(), nil))
	x.wantEntries(t.until(x.head()), x.log)
}

func resumeFromAnywhere(x *exam) {
	x.fill(2)
	all := x.watch(resume(x.zero(), nil)).until(x.head())
	id := x.storeID()
	for i, e := range all {
		t := x.watch(resume(pointOf(id, e), nil))
		x.wantEntries(t.until(x.head()), x.log[i+1:])
		t.stop()
	}
}

func followLive(x *exam) {
	x.fill(1)
	t := x.watch(resume(x.zero(), nil))
	t.until(x.head())
	for n := 1; n <= 3; n++ {
		before := x.head()
		x.append(T0.Add(time.Duration(n+3)*5*time.Minute), x.window(n)...)
		x.wantEntries(t.until(x.head()), x.log[before:])
	}
}

func manyStreams(x *exam) {
	x.fill(1)
	taps := make([]*tap, 4)
	for i := range taps {
		taps[i] = x.watch(resume(x.zero(), nil))
	}
	const windows = 10
	total := x.head() + 4*windows
	got := make([][]*bucketv1.Entry, len(taps))
	var wg sync.WaitGroup
	for i, t := range taps {
		wg.Go(func() {
			// Errors are left to the comparison: Fatal belongs to the test's goroutine.
			for seen, by := uint64(0), soon(); seen < total; {
				m, err := t.recv(by)
				if err != nil {
					return
				}
				if e := m.GetEntry(); e != nil {
					got[i] = append(got[i], e)
					seen = e.GetRevision()
				}
			}
		})
	}
	for n := 1; n <= windows; n++ {
		x.append(T0.Add(time.Duration(n+3)*5*time.Minute), x.window(n)...)
	}
	wg.Wait()
	for i := range got {
		x.wantEntries(got[i], x.log)
	}
}

func progressAfterData(x *exam) {
	x.fill(1)
	t := x.watch(resume(x.zero(), nil))
	t.until(x.head())
	// A time that the leader gives after an append must not be seen before the
	// append's entries.
	at := T0.Add(24 * time.Hour)
	x.append(at.Add(-time.Minute), x.window(1)...)
	x.Progress(x, at)
	for by := soon(); ; {
		m := t.nextBy(by)
		if e := m.GetEntry(); e != nil {
			t.last = pointOf(t.last.GetStoreId(), e)
			continue
		}
		p := m.GetProgress()
		t.check(p)
		if !p.GetProgressTime().AsTime().Before(at) {
			if p.GetPoint().GetRevision() < x.head() {
				x.Fatalf("progress time %s with revision %d, before revision %d of an earlier commit", p.GetProgressTime().AsTime(), p.GetPoint().GetRevision(), x.head())
			}
			break
		}
	}
	// Nothing happens, and progress comes all the same.
	for range 2 {
		m := t.next()
		if m.GetProgress() == nil {
			x.Fatalf("got %v on a quiet stream; want progress", m)
		}
		t.check(m.GetProgress())
	}
}

func snapshotThenFollow(x *exam) {
	x.fill(4)
	t := x.watch(fromSnapshot(24*time.Hour, 0, nil))
	got, end := t.snapshot()
	versions := x.logged(func(e *bucketv1.Entry) bool { return e.GetDatasetVersion() != nil })
	n := len(versions)
	if len(got) < n {
		x.Fatalf("snapshot has %d entries; want %d dataset versions first", len(got), n)
	}
	byName := map[string]*bucketv1.Entry{}
	for _, e := range got[:n] {
		byName[e.GetDatasetVersion().GetDataset()] = e
	}
	for _, want := range versions {
		x.wantEntries([]*bucketv1.Entry{byName[want.GetDatasetVersion().GetDataset()]}, []*bucketv1.Entry{want})
	}
	x.wantEntries(got[n:], x.buckets(nil))
	if end.GetBuckets() != uint64(len(got)-n) || end.GetPoint().GetRevision() != x.head() {
		x.Fatalf("snapshot ends with %v; want %d buckets at revision %d", end, len(got)-n, x.head())
	}
	if want := T0.Add(6 * 5 * time.Minute); !end.GetProgressTime().AsTime().Equal(want) {
		x.Fatalf("snapshot's progress time is %s; want %s", end.GetProgressTime().AsTime(), want)
	}
	before := x.head()
	x.append(T0.Add(time.Hour), x.window(4)...)
	x.wantEntries(t.until(x.head()), x.log[before:])

	// The point of a snapshot is a resume point like any other.
	again := x.watch(resume(end.GetPoint(), nil))
	x.wantEntries(again.until(x.head()), x.log[before:])
}

// watchZones: whichever way a bucket comes, it comes to those who asked for the
// name that it bears, and a name that nobody bears yet is no error.
func watchZones(x *exam) {
	x.fill(2)
	name := x.buckets(nil)[0].GetBucket().GetZone()
	f := &bucketv1.Filter{Datasets: []string{"http_5m", "tunnels"}, Zones: []string{name, "new.example"}}
	match := func(e *bucketv1.Entry) bool {
		if e.GetDatasetVersion() != nil {
			return e.GetDatasetVersion().GetDataset() == "http_5m"
		}
		if e.GetAuditEvent() != nil { // about no scope
			return true
		}
		zone := e.GetBucket().GetZone() + e.GetState().GetZone()
		return e.GetBucket().GetDataset() != "dns_5m" && (zone == name || zone == "new.example")
	}
	t := x.watch(fromSnapshot(24*time.Hour, 0, f))
	got, end := t.snapshot()
	x.wantEntries(got, append(x.logged(func(e *bucketv1.Entry) bool { return e.GetDatasetVersion() != nil && match(e) }),
		x.buckets(func(b *bucketv1.Bucket) bool { return b.GetDataset() == "http_5m" && b.GetZone() == name })...))
	if n := uint64(len(got) - 1); end.GetBuckets() != n {
		x.Fatalf("the snapshot counts %d buckets; want %d", end.GetBuckets(), n)
	}

	before := x.head()
	renamed := Bucket("http_5m", Zone(1), 3)
	renamed.Zone = "new.example"
	x.append(T0.Add(time.Hour), append(x.window(2), Entry{Bucket: renamed},
		Entry{Gap: Gap("http_5m", Zone(1), 1, 3)}, // bears no name
		Entry{Audit: Audit("http_5m", Zone(1), 1, 3)},
		Entry{State: State("tunnels", Zone(1), T0.Add(time.Hour), 1)})...)
	var want []*bucketv1.Entry
	for _, e := range x.log[before:] {
		if match(e) {
			want = append(want, e)
		}
	}
	if len(want) < 2 {
		x.Fatalf("the exam itself: %d entries bear the names", len(want))
	}
	x.wantEntries(t.until(x.head()), want)
	x.wantEntries(x.watch(resume(end.GetPoint(), f)).until(x.head()), want)
	x.wantEntries(x.watch(resume(x.zero(), f)).until(x.head()), x.logged(match))
}

// snapshotLate: the end of a snapshot says when buckets with traffic were last committed
// that were older by then than the newest windows, also those that it leaves out.
func snapshotLate(x *exam) {
	late := func(maxAge time.Duration, maxWindows uint32, f *bucketv1.Filter) (told []string) {
		req := fromSnapshot(maxAge, maxWindows, f)
		if end := x.snapshotEnd(req); len(end.GetLateCommits()) > 0 {
			x.Fatalf("late commits %v, which nobody has asked for", end.GetLateCommits())
		}
		req.GetSnapshot().LateCommits = true
		end := x.snapshotEnd(req)
		for _, l := range end.GetLateCommits() {
			told = append(told, l.GetDataset()+" "+l.GetCommittedAt().AsTime().Sub(T0).String())
		}
		return told
	}
	want := func(what string, got []string, want ...string) {
		if !slices.Equal(got, want) {
			x.Fatalf("%s: late commits %q; want %q", what, got, want)
		}
	}
	x.fill(4) // each window 10 minutes after its end
	want("all on time", late(24*time.Hour, 0, nil))
	silent := Bucket("dns_5m", Zone(1), 10)
	for _, rows := range silent.Families {
		clear(rows.Values)
	}
	requested := Bucket("dns_5m", Zone(1), 11)
	requested.Origin = bucket.Backfill
	x.append(T0.Add(2*time.Hour), Entry{Bucket: Bucket("http_5m", Zone(1), 4)}, Entry{Bucket: silent}, Entry{Bucket: requested}) // 95, 65 and 60 minutes
	x.append(T0.Add(3*time.Hour), Entry{Bucket: Bucket("http_5m", Zone(2), 29)})                                                 // 30 minutes
	x.append(T0.Add(3*time.Hour+time.Second), Entry{Bucket: Bucket("dns_5m", Zone(2), 29)})                                      // and a second
	x.Progress(x, T0.Add(3*time.Hour))
	want("two datasets", late(24*time.Hour, 0, nil), "dns_5m 3h0m1s", "http_5m 2h0m0s")
	want("also of windows that are left out", late(24*time.Hour, 1, nil), "dns_5m 3h0m1s", "http_5m 2h0m0s")
	want("also of windows that have become too old since", late(2*time.Hour, 0, nil), "dns_5m 3h0m1s", "http_5m 2h0m0s")
	want("not of windows that were too old then", late(time.Hour, 0, nil), "dns_5m 3h0m1s")
	want("of what the filter selects", late(24*time.Hour, 0, &bucketv1.Filter{Datasets: []string{"http_5m"}}), "http_5m 2h0m0s")
}

func (x *exam) snapshotEnd(req *bucketv1.WatchBucketsRequest) *bucketv1.SnapshotEnd {
	t := x.watch(req)
	defer t.stop()
	_, end := t.snapshot()
	return end
}

func snapshotEmpty(x *exam) {
	t := x.watch(fromSnapshot(time.Hour, 0, nil))
	got, end := t.snapshot()
	if len(got) != 0 || end.GetPoint().GetRevision() != 0 || end.GetBuckets() != 0 {
		x.Fatalf("snapshot of an empty store holds %d entries and ends with %v", len(got), end)
	}
	x.append(T0, Entry{Definition: Definition("http_5m", 1)})
	x.wantEntries(t.until(1), x.log)
}

// snapshotVersions: a bucket names the version under which it was collected, so
// readers need them all, not only the newest.
func snapshotVersions(x *exam) {
	x.fill(1)
	x.append(T0.Add(time.Hour), Entry{Definition: Definition("http_5m", 2)})
	later := Bucket("http_5m", Zone(1), 1)
	later.Version = 2
	x.append(T0.Add(time.Hour), Entry{Bucket: later})
	x.Progress(x, T0.Add(time.Hour))
	got, _ := x.watch(fromSnapshot(24*time.Hour, 0, nil)).snapshot()
	versions := x.logged(func(e *bucketv1.Entry) bool { return e.GetDatasetVersion() != nil })
	x.wantEntries(got, append(versions, x.buckets(nil)...))

	only := &bucketv1.Filter{Datasets: []string{"http_5m"}, Scopes: []*bucketv1.Scope{wire.ProtoScope(Zone(9))}}
	got, _ = x.watch(fromSnapshot(24*time.Hour, 0, only)).snapshot()
	x.wantEntries(got, x.logged(func(e *bucketv1.Entry) bool { return e.GetDatasetVersion().GetDataset() == "http_5m" }))
}

// otherKinds: what is neither a bucket nor a definition is in the log and on
// every stream, filtered like buckets; a snapshot is definitions and buckets.
func otherKinds(x *exam) {
	x.fill(1)
	at := T0.Add(time.Hour)
	live := x.watch(fromSnapshot(24*time.Hour, 0, nil))
	live.snapshot()
	before := x.head()
	x.append(at,
		Entry{Gap: Gap("http_5m", Zone(1), 1, 3)},
		Entry{Gap: Gap("dns_5m", Zone(2), 2, 3)},
		Entry{State: State("tunnels", Zone(1), at, 1)},
		Entry{Audit: Audit("http_5m", Zone(1), 1, 3)}, // belongs to no dataset: every filter lets it through
	)
	x.wantEntries(live.until(x.head()), x.log[before:])
	x.wantEntries(x.watch(resume(x.zero(), nil)).until(x.head()), x.log)

	one := &bucketv1.Filter{Datasets: []string{"http_5m", "tunnels"}, Scopes: []*bucketv1.Scope{wire.ProtoScope(Zone(1))}}
	x.wantEntries(x.watch(resume(live.last, one)).until(x.head()), nil)
	got := x.watch(resume(x.zero(), one)).until(x.head())
	x.wantEntries(got, x.logged(func(e *bucketv1.Entry) bool {
		return e.GetDatasetVersion().GetDataset() == "http_5m" ||
			e.GetBucket().GetDataset() == "http_5m" && e.GetBucket().GetScope().GetId() == Zone(1).ID ||
			e.GetRevision() == before+1 || e.GetRevision() == before+3 || e.GetAuditEvent() != nil
	}))

	snap, end := x.watch(fromSnapshot(24*time.Hour, 0, nil)).snapshot()
	x.wantEntries(snap, append(x.logged(func(e *bucketv1.Entry) bool { return e.GetDatasetVersion() != nil }), x.buckets(nil)...))
	if end.GetPoint().GetRevision() != x.head() {
		x.Fatalf("the snapshot stands at revision %d; want %d: what it leaves out does not come later", end.GetPoint().GetRevision(), x.head())
	}
}

func snapshotLimits(x *exam) {
	x.fill(6) // progress stands at the end of window 7; windows 0 to 5 end 35 to 10 minutes before
	buckets := func(req *bucketv1.WatchBucketsRequest) []*bucketv1.Entry {
		t := x.watch(req)
		defer t.stop()
		var out []*bucketv1.Entry
		got, _ := t.snapshot()
		for _, e := range got {
			if e.GetBucket() != nil {
				out = append(out, e)
			}
		}
		return out
	}
	start := func(n int) int64 { return T0.Add(time.Duration(n) * 5 * time.Minute).Unix() }
	newer := func(n int) func(*bucketv1.Bucket) bool {
		return func(b *bucketv1.Bucket) bool { return b.GetStartUnixSeconds() >= start(n) }
	}
	x.wantEntries(buckets(fromSnapshot(0, 0, nil)), nil)
	x.wantEntries(buckets(fromSnapshot(16*time.Minute, 0, nil)), x.buckets(newer(4)))
	// Less than, not at most: the window that ended exactly so long ago is out.
	x.wantEntries(buckets(fromSnapshot(15*time.Minute, 0, nil)), x.buckets(newer(5)))
	x.wantEntries(buckets(fromSnapshot(24*time.Hour, 2, nil)), x.buckets(newer(4)))
	x.wantEntries(buckets(fromSnapshot(math.MaxInt64, 0, nil)), x.buckets(nil)) // longer than any store keeps
	f := &bucketv1.Filter{Datasets: []string{"dns_5m"}, Scopes: []*bucketv1.Scope{wire.ProtoScope(Zone(2))}}
	x.wantEntries(buckets(fromSnapshot(24*time.Hour, 1, f)), x.buckets(func(b *bucketv1.Bucket) bool {
		return newer(5)(b) && b.GetDataset() == "dns_5m" && b.GetScope().GetId() == Zone(2).ID
	}))
}

func watchFiltered(x *exam) {
	x.fill(2)
	f := &bucketv1.Filter{Datasets: []string{"http_5m", "unknown_1h"}, Scopes: []*bucketv1.Scope{wire.ProtoScope(Zone(2))}}
	match := func(e *bucketv1.Entry) bool {
		if v := e.GetDatasetVersion(); v != nil {
			return v.GetDataset() == "http_5m" // needed to read the buckets, whatever the scope
		}
		return e.GetBucket().GetDataset() == "http_5m" && e.GetBucket().GetScope().GetId() == Zone(2).ID
	}
	t := x.watch(resume(x.zero(), f))
	x.wantEntries(t.until(x.head()), x.logged(match))
	// Nothing that matches: progress alone says that the log moved.
	x.append(T0.Add(time.Hour), Entry{Bucket: Bucket("dns_5m", Zone(1), 2)})
	x.wantEntries(t.until(x.head()), nil)
	// And a filtered stream's progress is a point to resume from.
	again := x.watch(resume(t.last, nil))
	x.append(T0.Add(time.Hour), Entry{Bucket: Bucket("dns_5m", Zone(1), 3)})
	x.wantEntries(again.until(x.head()), x.log[x.head()-1:])
}

func draining(x *exam) {
	x.fill(1)
	t := x.watch(resume(x.zero(), nil))
	t.until(x.head())
	x.Drain(x)
	t.ends(codes.Unavailable, "DRAINING")
	x.open(resume(x.zero(), nil)).ends(codes.Unavailable, "DRAINING")
}
