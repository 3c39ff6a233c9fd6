package feedtest

import (
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
)

// badFilters are filters that every call refuses.
func badFilters() map[string]*bucketv1.Filter {
	many := make([]*bucketv1.Scope, 1001)
	for i := range many {
		many[i] = wire.ProtoScope(Zone(i))
	}
	return map[string]*bucketv1.Filter{
		"a dataset id in capitals":  {Datasets: []string{"HTTP"}},
		"an empty dataset id":       {Datasets: []string{""}},
		"1001 datasets":             {Datasets: slices.Repeat([]string{"http_5m"}, 1001)},
		"1001 scopes":               {Scopes: many},
		"1001 zones":                {Zones: slices.Repeat([]string{"example.com"}, 1001)},
		"an empty zone":             {Zones: []string{""}},
		"a zone of 513 bytes":       {Zones: []string{strings.Repeat("z", 513)}},
		"a scope of unknown kind":   {Scopes: []*bucketv1.Scope{{Kind: 9, Id: Zone(1).ID}}},
		"a scope without kind":      {Scopes: []*bucketv1.Scope{{Id: Zone(1).ID}}},
		"a scope id that is a name": {Scopes: []*bucketv1.Scope{{Kind: 1, Id: "example.com"}}},
	}
}

func watchBadRequests(x *exam) {
	x.fill(1)
	negative := fromSnapshot(0, 0, nil)
	negative.GetSnapshot().MaxAge = durationpb.New(-time.Second)
	invalid := fromSnapshot(0, 0, nil)
	invalid.GetSnapshot().MaxAge = &durationpb.Duration{Seconds: 1, Nanos: -1}
	requests := map[string]*bucketv1.WatchBucketsRequest{
		"neither resume point nor snapshot": {},
		"a negative age":                    negative,
		"an age that is no duration":        invalid,
		"a point without store":             resume(&bucketv1.ResumePoint{Revision: 1, Chain: make([]byte, 16)}, nil),
		"a point with half a chain":         resume(&bucketv1.ResumePoint{StoreId: x.storeID(), Revision: 1, Chain: make([]byte, 8)}, nil),
		"a point without chain":             resume(&bucketv1.ResumePoint{StoreId: x.storeID(), Revision: 1}, nil),
	}
	for name, f := range badFilters() {
		requests[name] = fromSnapshot(0, 0, f)
	}
	for name, req := range requests {
		x.Logf("request with %s", name)
		x.open(req).ends(codes.InvalidArgument, "BAD_REQUEST")
	}
}

func otherStore(x *exam) {
	x.fill(1)
	t := x.watch(resume(x.zero(), nil))
	t.until(x.head())
	foreign := clone(t.last)
	foreign.StoreId = "ffffffffffffffffffffffffffffffff"
	x.open(resume(foreign, nil)).ends(codes.FailedPrecondition, "OTHER_STORE")
}

func futureRevision(x *exam) {
	x.fill(1)
	t := x.watch(resume(x.zero(), nil))
	t.until(x.head())
	future := clone(t.last)
	future.Revision++
	x.open(resume(future, nil)).ends(codes.FailedPrecondition, "FUTURE_REVISION")
}

// historyChangedOnResume: a point of a history that is gone, with the same
// number behind it in the new one.
func historyChangedOnResume(x *exam) {
	x.fill(1)
	restore := x.Backup(x)
	kept := len(x.log)
	x.append(T0.Add(time.Hour), x.window(1)...)
	t := x.watch(resume(x.zero(), nil))
	t.until(x.head())
	lost := t.last
	t.stop()

	restore(x)
	x.log = x.log[:kept]
	x.append(T0.Add(2*time.Hour), x.window(2)...)
	x.append(T0.Add(3*time.Hour), x.window(3)...)
	x.open(resume(lost, nil)).ends(codes.FailedPrecondition, "HISTORY_CHANGED")

	// What both histories share goes on.
	fresh := x.watch(resume(x.zero(), nil))
	got := fresh.until(x.head())
	x.wantEntries(got, x.log)
	shared := x.watch(resume(pointOf(lost.GetStoreId(), got[kept-1]), nil))
	x.wantEntries(shared.until(x.head()), x.log[kept:])
}

func historyChangedUnderStream(x *exam) {
	x.fill(1)
	restore := x.Backup(x)
	kept := len(x.log)
	x.append(T0.Add(time.Hour), x.window(1)...)
	t := x.watch(resume(x.zero(), nil))
	t.until(x.head())
	restore(x)
	t.ends(codes.FailedPrecondition, "HISTORY_CHANGED")

	// A snapshot now shows the history that is left.
	x.log = x.log[:kept]
	_, end := x.watch(fromSnapshot(24*time.Hour, 0, nil)).snapshot()
	if end.GetPoint().GetRevision() != x.head() {
		x.Fatalf("snapshot after the restore stands at revision %d; want %d", end.GetPoint().GetRevision(), x.head())
	}
}

// compacted drops the windows of the month before T0: a store may drop whole
// months only.
func compacted(x *exam) {
	x.append(T0.Add(-time.Hour), Entry{Definition: Definition("http_5m", 1)}, Entry{Definition: Definition("dns_5m", 1)})
	for n := -6; n < 0; n++ {
		x.append(T0, x.window(n)...)
	}
	x.Progress(x, T0)
	t := x.watch(resume(x.zero(), nil))
	all := t.until(x.head())
	t.stop()
	id := x.storeID()
	x.Retire(x, bucket.TimeOf(T0))
	x.append(T0.Add(time.Hour), Entry{Bucket: Bucket("http_5m", Zone(1), 10)})

	// The newest point is never compacted: nothing after it was dropped.
	// (It comes first, because it shows that the server has noticed.)
	newest := x.watch(resume(pointOf(id, all[len(all)-1]), nil))
	x.wantEntries(newest.until(x.head()), x.log[len(all):])
	x.open(resume(&bucketv1.ResumePoint{StoreId: id}, nil)).ends(codes.OutOfRange, "COMPACTED")
	x.open(resume(pointOf(id, all[2]), nil)).ends(codes.OutOfRange, "COMPACTED")
	if floor := x.status().GetCompactedRevision(); floor != uint64(len(all)) {
		x.Fatalf("compacted revision is %d; want %d, the highest that was dropped", floor, len(all))
	}
	// A snapshot holds what is left, and the definitions that outlive buckets.
	got, end := x.watch(fromSnapshot(24*time.Hour, 0, nil)).snapshot()
	if end.GetBuckets() != 1 || len(got) != 3 {
		x.Fatalf("snapshot holds %d entries, %d of them buckets; want 2 dataset versions and 1 bucket", len(got), end.GetBuckets())
	}
}
