package feedtest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/bucket"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
)

// patience bounds each wait of the exam. It is reached only by a server that
// does not pass.
const patience = time.Minute

// exam is one case at work: the subject, and what was put into its store.
type exam struct {
	*testing.T
	Subject
	rpc bucketv1.BucketServiceClient
	log []*bucketv1.Entry // what the log must hold; chain not set
}

func newExam(t *testing.T, s Subject) *exam {
	return &exam{T: t, Subject: s, rpc: bucketv1.NewBucketServiceClient(s.Conn)}
}

// append commits entries in one batch and notes what must come back.
func (x *exam) append(at time.Time, entries ...Entry) {
	x.Helper()
	for i := range entries {
		x.log = append(x.log, entries[i].message(bucket.Revision(len(x.log)+1), at))
	}
	x.Append(x, at, entries...)
}

// fill appends two datasets and n windows of two zones each, one window a
// batch, and progress after it.
func (x *exam) fill(n int) {
	x.Helper()
	x.append(T0, Entry{Definition: Definition("http_5m", 1)}, Entry{Definition: Definition("dns_5m", 1)})
	for i := range n {
		x.append(T0.Add(time.Duration(i+3)*5*time.Minute), x.window(i)...)
	}
	x.Progress(x, T0.Add(time.Duration(n+2)*5*time.Minute))
}

func (x *exam) window(n int) []Entry {
	return []Entry{
		{Bucket: Bucket("http_5m", Zone(1), n)},
		{Bucket: Bucket("http_5m", Zone(2), n)},
		{Bucket: Bucket("dns_5m", Zone(1), n)},
		{Bucket: Bucket("dns_5m", Zone(2), n)},
	}
}

// status asks the server where its log stands.
func (x *exam) status() *bucketv1.GetStatusResponse {
	x.Helper()
	s, err := x.rpc.GetStatus(x.Context(), &bucketv1.GetStatusRequest{})
	if err != nil {
		x.Fatalf("GetStatus: %v", err)
	}
	return s
}

func (x *exam) storeID() string { return x.status().GetInfo().GetStoreId() }

// resume builds a request that continues behind a point.
func resume(p *bucketv1.ResumePoint, f *bucketv1.Filter) *bucketv1.WatchBucketsRequest {
	return &bucketv1.WatchBucketsRequest{Filter: f, Start: &bucketv1.WatchBucketsRequest_Resume{Resume: p}}
}

// fromSnapshot builds a request for windows younger than maxAge.
func fromSnapshot(maxAge time.Duration, maxWindows uint32, f *bucketv1.Filter) *bucketv1.WatchBucketsRequest {
	return &bucketv1.WatchBucketsRequest{Filter: f, Start: &bucketv1.WatchBucketsRequest_Snapshot{
		Snapshot: &bucketv1.SnapshotRequest{MaxAge: durationpb.New(maxAge), MaxWindows: maxWindows},
	}}
}

// tap is one stream under examination.
type tap struct {
	*exam
	s    grpc.ServerStreamingClient[bucketv1.WatchBucketsResponse]
	last *bucketv1.ResumePoint
	stop context.CancelFunc
}

// watch opens a stream and checks that it begins with the store's info.
func (x *exam) watch(req *bucketv1.WatchBucketsRequest) *tap {
	x.Helper()
	t := x.open(req)
	if m := t.next(); m.GetInfo().GetStoreId() == "" {
		x.Fatalf("the first message is %v; want the store's info", m)
	}
	t.last = req.GetResume()
	return t
}

// open opens a stream without looking at it.
func (x *exam) open(req *bucketv1.WatchBucketsRequest) *tap {
	x.Helper()
	ctx, cancel := context.WithCancel(x.Context())
	x.Cleanup(cancel)
	s, err := x.rpc.WatchBuckets(ctx, req)
	if err != nil {
		x.Fatalf("WatchBuckets: %v", err)
	}
	return &tap{exam: x, s: s, stop: cancel}
}

// recv receives one message; by is when the exam loses its patience. It bounds
// a whole wait, since a stream that beats and never gets there would pass any
// bound on a single message.
func (t *tap) recv(by time.Time) (*bucketv1.WatchBucketsResponse, error) {
	watchdog := time.AfterFunc(time.Until(by), t.stop)
	defer watchdog.Stop()
	return t.s.Recv()
}

func soon() time.Time { return time.Now().Add(patience) }

func (t *tap) next() *bucketv1.WatchBucketsResponse { t.Helper(); return t.nextBy(soon()) }

func (t *tap) nextBy(by time.Time) *bucketv1.WatchBucketsResponse {
	t.Helper()
	m, err := t.recv(by)
	if err != nil {
		t.Fatalf("receive: %v", err)
	}
	return m
}

// until receives live entries until progress covers the revision, and checks
// on the way what holds for every stream.
func (t *tap) until(revision uint64) []*bucketv1.Entry {
	t.Helper()
	var got []*bucketv1.Entry
	for by := soon(); ; {
		m := t.nextBy(by)
		if e := m.GetEntry(); e != nil {
			if e.GetRevision() <= t.last.GetRevision() {
				t.Fatalf("revision %d after %d", e.GetRevision(), t.last.GetRevision())
			}
			t.last = pointOf(t.last.GetStoreId(), e)
			got = append(got, e)
			continue
		}
		p := m.GetProgress()
		if p == nil {
			t.Fatalf("got %v; want an entry or progress", m)
		}
		t.check(p)
		if p.GetPoint().GetRevision() >= revision {
			return got
		}
	}
}

func (t *tap) check(p *bucketv1.Progress) {
	t.Helper()
	point := p.GetPoint()
	if point.GetStoreId() != t.last.GetStoreId() || point.GetRevision() < t.last.GetRevision() {
		t.Fatalf("progress at %v after %v", point, t.last)
	}
	if point.GetRevision() == t.last.GetRevision() && point.GetRevision() > 0 && !slices.Equal(point.GetChain(), t.last.GetChain()) {
		t.Fatalf("progress has chain %x at revision %d; the entry had %x", point.GetChain(), point.GetRevision(), t.last.GetChain())
	}
	t.last = point
}

// snapshot receives a snapshot whole.
func (t *tap) snapshot() ([]*bucketv1.Entry, *bucketv1.SnapshotEnd) {
	t.Helper()
	var got []*bucketv1.Entry
	for by := soon(); ; {
		switch e := t.nextBy(by).GetEvent().(type) {
		case *bucketv1.WatchBucketsResponse_Entry:
			got = append(got, e.Entry)
		case *bucketv1.WatchBucketsResponse_SnapshotEnd:
			t.last = e.SnapshotEnd.GetPoint()
			return got, e.SnapshotEnd
		default:
			t.Fatalf("got %T inside a snapshot", e)
		}
	}
}

// ends receives until the stream's error and checks it.
func (t *tap) ends(code codes.Code, reason string) {
	t.Helper()
	for by := soon(); ; {
		if _, err := t.recv(by); err != nil {
			t.wantError(err, code, reason)
			return
		}
	}
}

func (x *exam) wantError(err error, code codes.Code, reason string) {
	x.Helper()
	if status.Code(err) != code || client.Reason(err) != reason {
		x.Fatalf("error is %v (reason %q); want code %s, reason %s", err, client.Reason(err), code, reason)
	}
	if status.Convert(err).Message() == "" {
		x.Errorf("error %s has no message", reason)
	}
}

// wantEntries compares entries, chains apart: what a chain is made of is the
// server's business; that it is kept to is checked where points are used.
func (x *exam) wantEntries(got, want []*bucketv1.Entry) {
	x.Helper()
	for _, e := range got {
		if len(e.GetChain()) == 0 {
			x.Fatalf("revision %d has no chain", e.GetRevision())
		}
	}
	if d := cmp.Diff(want, got, protocmp.Transform(), protocmp.IgnoreFields(&bucketv1.Entry{}, "chain"), cmpopts.EquateEmpty()); d != "" {
		x.Fatalf("entries differ (-want +got):\n%s", d)
	}
}

// logged returns the entries of the log that satisfy keep, ascending.
func (x *exam) logged(keep func(*bucketv1.Entry) bool) []*bucketv1.Entry {
	var out []*bucketv1.Entry
	for _, e := range x.log {
		if keep == nil || keep(e) {
			out = append(out, e)
		}
	}
	return out
}

// buckets returns the buckets of the log that satisfy keep, in the order of lists.
func (x *exam) buckets(keep func(*bucketv1.Bucket) bool) []*bucketv1.Entry {
	out := x.logged(func(e *bucketv1.Entry) bool {
		return e.GetBucket() != nil && (keep == nil || keep(e.GetBucket()))
	})
	slices.SortFunc(out, func(a, b *bucketv1.Entry) int { return keyOf(a.GetBucket()).Compare(keyOf(b.GetBucket())) })
	return out
}

func keyOf(b *bucketv1.Bucket) bucket.Key {
	return bucket.Key{
		Dataset: b.GetDataset(), Start: bucket.Time(b.GetStartUnixSeconds()),
		Scope: bucket.Scope{Kind: bucket.ScopeKind(b.GetScope().GetKind()), ID: b.GetScope().GetId()},
	}
}

func pointOf(storeID string, e *bucketv1.Entry) *bucketv1.ResumePoint {
	return &bucketv1.ResumePoint{StoreId: storeID, Revision: e.GetRevision(), Chain: e.GetChain()}
}

func clone[M proto.Message](m M) M { return proto.Clone(m).(M) }
