// Package feedtest is the exam for servers of weir.bucket.v1.BucketService, and
// a scripted server that passes it.
//
// [Run] examines a server through its contract alone: it appends to the server's
// store, restores an older state of it, drops old buckets, and compares what
// comes out of the stream with what went in. The collector's server takes it on
// a real store; [Scripted] takes it too, so that tests of clients may trust it.
//
// [Scripted] keeps its log in memory and misbehaves on request: it breaks
// connections, ends streams with errors, goes silent, or sends what the contract
// rules out, each at a place that the test names. What it does depends on the
// test alone, never on time.
//
// For tests only.
package feedtest

import (
	"fmt"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"google.golang.org/grpc"
)

// Subject is a server under examination, with an empty store of its own.
type Subject struct {
	// Conn reaches the server.
	Conn grpc.ClientConnInterface
	// Append commits entries in one batch.
	Append func(t testing.TB, committedAt time.Time, entries ...Entry)
	// Progress makes the leader say that it lives at this time.
	Progress func(t testing.TB, at time.Time)
	// Backup remembers the store as it is. The returned function brings that
	// state back, under the running server and with the same store id, as an
	// operator does after a disaster.
	Backup func(t testing.TB) (restore func(t testing.TB))
	// Retire drops buckets whose window ends at or before the border.
	Retire func(t testing.TB, before bucket.Time)
	// Drain makes the server end its streams, as it does when it shuts down.
	Drain func(t testing.TB)
}

// T0 is when the exam begins: midnight, so that windows of all sizes align.
var T0 = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// Zone returns the n-th zone of the exam.
func Zone(n int) bucket.Scope {
	return bucket.Scope{Kind: bucket.Zone, ID: fmt.Sprintf("%032x", 0xa000+n)}
}

// Definition returns a dataset version with a total and a breakdown. The size
// is that of 5 minutes.
func Definition(dataset string, version uint32) *bucket.Definition {
	return &bucket.Definition{
		Dataset: dataset, Version: version, ScopeKind: bucket.Zone,
		Size: 5 * time.Minute, Delay: 5 * time.Minute, Depth: 30,
		Description: "Requests at the edge.",
		Families: []bucket.Family{
			{Name: Total(dataset), Help: "Requests in the window.", Role: bucket.Total, Additive: true},
			{Name: Breakdown(dataset), Help: "Requests in the window, by status class.", Labels: []string{"status"}, Role: bucket.Breakdown, Additive: true},
		},
	}
}

// Total is the name of the first family of [Definition].
func Total(dataset string) string { return "cloudflare_zone_" + dataset + "_requests" }

// Breakdown is the name of the second family of [Definition].
func Breakdown(dataset string) string { return "cloudflare_zone_" + dataset + "_requests_by_status" }

// Bucket returns the bucket of a dataset and scope for the n-th window of 5
// minutes after [T0], with values that tell it from every other.
func Bucket(dataset string, scope bucket.Scope, n int) *bucket.Bucket {
	start := bucket.TimeOf(T0).Add(time.Duration(n) * 5 * time.Minute)
	v := float64(1000*n) + float64(scope.ID[31])
	return &bucket.Bucket{
		Key:  bucket.Key{Dataset: dataset, Scope: scope, Start: start},
		Size: 5 * time.Minute, Version: 1,
		Zone: "zone-" + scope.ID[28:] + ".example", Account: "Example",
		Finality: bucket.Confirmed, Origin: bucket.Live, Variant: "rollup", SampleInterval: 1,
		ReadAt: start.Add(11 * time.Minute),
		Families: []bucket.Rows{
			{Family: Total(dataset), Values: []float64{v}},
			{Family: Breakdown(dataset), Labels: []string{"2xx", "4xx"}, Values: []float64{v - 1, 1}},
		},
	}
}

// Run examines servers. Each case asks for a subject of its own; start is
// called on the case's T and cleans up with it.
func Run(t *testing.T, start func(t *testing.T) Subject) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(newExam(t, start(t))) })
	}
}

var cases = []struct {
	name string
	run  func(*exam)
}{
	{"resume from the beginning delivers everything once and in order", resumeFromZero},
	{"resume from any entry delivers the rest", resumeFromAnywhere},
	{"entries appended while watching arrive", followLive},
	{"every stream gets the same", manyStreams},
	{"progress comes after its data and keeps coming", progressAfterData},
	{"snapshot is whole, ordered and followed without a hole", snapshotThenFollow},
	{"streams are filtered by the names of zones", watchZones},
	{"snapshot of an empty store", snapshotEmpty},
	{"snapshot has every version of a dataset", snapshotVersions},
	{"gap decisions and states come live, and not in a snapshot", otherKinds},
	{"snapshot keeps to age, windows and filter", snapshotLimits},
	{"snapshot tells of late commits", snapshotLate},
	{"filters restrict entries, not progress", watchFiltered},
	{"malformed watch requests are refused", watchBadRequests},
	{"resume point of another store", otherStore},
	{"resume point from the future", futureRevision},
	{"resume point of another history", historyChangedOnResume},
	{"history changes under a stream", historyChangedUnderStream},
	{"resume point older than the oldest entry", compacted},
	{"draining ends streams", draining},
	{"list is ordered and bounded by its window", listWindow},
	{"list continues behind every token", listTokens},
	{"lists have restatements for those who ask", listRestated},
	{"list filters datasets, scopes and families", listFilters},
	{"malformed list requests are refused", listBadRequests},
	{"foreign and altered page tokens are refused", listBadTokens},
	{"datasets, status and coverage", unary},
	{"what cannot be read comes without content, and nothing waits for it", unreadable},
}
