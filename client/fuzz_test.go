package client

import (
	"context"
	"errors"
	"testing"
	"time"

	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// FuzzFollower plays a server that sends what it likes: in any order, of any
// store and revision, broken off with any reason. Whatever comes, the handler
// sees one history at a time and never a step back that nobody announced.
//
// Five bytes make one message or one end of a stream; see tape.next.
func FuzzFollower(f *testing.F) {
	const (
		info = iota
		version
		bucket
		end
		progress
		refuse
	)
	ok := []byte{
		info, 0, 0, 0, 0, version, 0, 1, 0, 0, bucket, 0, 1, 1, 0, end, 0, 0, 1, 1,
		bucket, 0, 1, 2, 0, progress, 0, 0, 0, 1, bucket, 0, 1, 3, 0,
	}
	f.Add(ok, false)
	f.Add(append([]byte{info, 0, 0, 0, 0, end, 0, 9, 0, 1, refuse, 0, 1, 0, 0}, ok...), false)                     // compacted, then a lower snapshot
	f.Add(append([]byte{info, 0, 0, 0, 0, end, 0, 9, 0, 1, refuse, 0, 2, 0, 0}, ok...), true)                      // history changed
	f.Add(append(append([]byte{}, ok...), refuse, 0, 7, 0, 0, info, 0, 0, 0, 0, bucket, 0, 1, 9, 0), false)        // resumed
	f.Add(append(append([]byte{}, ok...), bucket, 0, 1, 3, 0, info, 0, 0, 0, 0, info, 1, 0, 0, 0), false)          // a revision twice
	f.Add([]byte{info, 0, 0, 0, 0, end, 0, 3, 0, 0, bucket, 0, 200, 1, 0, info, 0, 0, 0, 0, 9, 0, 10, 2, 3}, true) // progress inside

	f.Fuzz(func(t *testing.T, script []byte, filtered bool) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := &witness{t: t, done: cancel}
		o := Options{Seed: 1, Backoff: Backoff{Min: 1, Max: 1, Long: 1}}
		if filtered {
			o.Filter = &bucketv1.Filter{Datasets: []string{"d"}}
		}
		follower, err := New(&tape{script: script, w: w}, o)
		if err != nil {
			t.Fatal(err)
		}
		w.filtered = filtered
		if err := follower.Run(ctx, w); err != nil {
			t.Fatal(err)
		}
	})
}

// tape is a connection whose streams are played from a script, one after the
// other. When it is used up, the follower is stopped.
type tape struct {
	grpc.ClientConnInterface
	script []byte
	w      *witness
}

func (p *tape) NewStream(ctx context.Context, _ *grpc.StreamDesc, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	return &played{tape: p, ctx: ctx}, nil
}

// next turns five bytes into a message or the stream's end: what, of which
// store, by how much the revision moves, and two more.
func (p *tape) next() (*bucketv1.WatchBucketsResponse, error) {
	if len(p.script) < 5 {
		p.script = nil
		p.w.done()
		return nil, context.Canceled
	}
	op, store, move, a, b := p.script[0], p.script[1], int8(p.script[2]), p.script[3], p.script[4]
	p.script = p.script[5:]
	revision := max(int64(p.w.sent)+int64(move), 0)
	point := &bucketv1.ResumePoint{StoreId: []string{"a", "b", ""}[store%3], Revision: uint64(revision), Chain: chainOf(uint64(revision), store>>4)}
	at := timestamppb.New(time.Unix(int64(a), 0))
	switch op % 9 {
	case 0:
		return &bucketv1.WatchBucketsResponse{Event: &bucketv1.WatchBucketsResponse_Info{Info: &bucketv1.StoreInfo{StoreId: point.GetStoreId()}}}, nil
	case 1, 2, 6:
		e := &bucketv1.Entry{Revision: uint64(revision), Chain: point.GetChain()}
		switch op % 9 {
		case 1:
			e.Kind = &bucketv1.Entry_DatasetVersion{DatasetVersion: &bucketv1.DatasetVersion{Dataset: "d"}}
		case 2:
			e.Kind = &bucketv1.Entry_Bucket{Bucket: &bucketv1.Bucket{Dataset: "d", StartUnixSeconds: int64(a)}}
		}
		p.w.sent = uint64(revision)
		return &bucketv1.WatchBucketsResponse{Event: &bucketv1.WatchBucketsResponse_Entry{Entry: e}}, nil
	case 3:
		return &bucketv1.WatchBucketsResponse{Event: &bucketv1.WatchBucketsResponse_SnapshotEnd{
			SnapshotEnd: &bucketv1.SnapshotEnd{Point: point, ProgressTime: at, Buckets: uint64(b)},
		}}, nil
	case 4:
		return &bucketv1.WatchBucketsResponse{Event: &bucketv1.WatchBucketsResponse_Progress{Progress: &bucketv1.Progress{Point: point, ProgressTime: at}}}, nil
	case 5:
		return nil, p.w.refusal(move, a)
	case 7:
		// Bytes of the script itself, as far as they are a message.
		n := min(int(b), len(p.script))
		raw := p.script[:n]
		p.script = p.script[n:]
		m := &bucketv1.WatchBucketsResponse{}
		if proto.Unmarshal(raw, m) != nil {
			return nil, status.Error(codes.Internal, "not a message")
		}
		return m, nil
	}
	return &bucketv1.WatchBucketsResponse{}, nil // an event of a later release
}

func chainOf(revision uint64, history byte) []byte {
	if revision == 0 {
		return nil
	}
	return []byte{byte(revision), history}
}

var reasons = []struct {
	code   codes.Code
	reason string
}{
	{codes.Unavailable, ""},
	{codes.OutOfRange, ReasonCompacted},
	{codes.FailedPrecondition, ReasonHistoryChanged},
	{codes.FailedPrecondition, ReasonOtherStore},
	{codes.FailedPrecondition, ReasonFutureRevision},
	{codes.Unavailable, ReasonBehind},
	{codes.ResourceExhausted, ReasonSlowReader},
	{codes.Unavailable, ReasonDraining},
	{codes.InvalidArgument, ReasonBadRequest},
	{codes.FailedPrecondition, ""},
	{codes.Internal, ReasonInternal},
	{codes.Unknown, "OF_A_LATER_RELEASE"},
}

type played struct {
	grpc.ClientStream
	tape *tape
	ctx  context.Context
}

func (s *played) SendMsg(m any) error {
	s.tape.w.request(m.(*bucketv1.WatchBucketsRequest))
	return nil
}
func (*played) CloseSend() error             { return nil }
func (*played) Header() (metadata.MD, error) { return nil, nil }
func (s *played) RecvMsg(m any) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	got, err := s.tape.next()
	if err != nil {
		return err
	}
	proto.Merge(m.(proto.Message), got)
	return nil
}

// witness is a handler that knows what may never happen.
type witness struct {
	t        *testing.T
	done     context.CancelFunc
	filtered bool
	sent     uint64 // the revision that the tape has come to

	inside  bool                  // a snapshot
	at      *bucketv1.ResumePoint // where the handler stands
	foreign bool                  // a server has said that at is not of its history
	doubt   bool                  // the view is in doubt: only a snapshot may follow
}

func (w *witness) refusal(which int8, hint byte) error {
	r := reasons[int(uint8(which))%len(reasons)]
	st := status.New(r.code, "played")
	if r.reason != "" {
		st, _ = st.WithDetails(&errdetails.ErrorInfo{Reason: r.reason, Domain: Domain}, &errdetails.RetryInfo{})
	}
	w.foreign = w.foreign || r.code == codes.FailedPrecondition
	_ = hint
	return st.Err()
}

func (w *witness) request(m *bucketv1.WatchBucketsRequest) {
	w.inside = false
	if p := m.GetResume(); p != nil && !proto.Equal(p, w.at) {
		w.t.Fatalf("resumed at %v; the handler stands at %v", p, w.at)
	}
}

func (w *witness) SnapshotBegin(i *bucketv1.StoreInfo) {
	if i.GetStoreId() == "" {
		w.t.Fatal("a snapshot of no store")
	}
	w.inside = true
}

func (w *witness) Info(i *bucketv1.StoreInfo) {
	if w.at == nil || w.doubt || w.inside || i.GetStoreId() != w.at.GetStoreId() {
		w.t.Fatalf("resumed in store %q at %v (in doubt: %t, in a snapshot: %t)", i.GetStoreId(), w.at, w.doubt, w.inside)
	}
}

func (w *witness) Entry(e *bucketv1.Entry) error {
	if w.inside {
		return nil
	}
	switch {
	case w.at == nil || w.doubt:
		w.t.Fatalf("revision %d was delivered live; there is no view that it could follow", e.GetRevision())
	case e.GetRevision() <= w.at.GetRevision():
		w.t.Fatalf("revision %d was delivered after %d", e.GetRevision(), w.at.GetRevision())
	case !w.filtered && e.GetRevision() != w.at.GetRevision()+1:
		w.t.Fatalf("revision %d was delivered after %d, and nothing is filtered", e.GetRevision(), w.at.GetRevision())
	}
	if e.GetRevision()%16 == 15 {
		w.doubt = true // so that refusing is played too
		return errors.New("not this one")
	}
	w.at = &bucketv1.ResumePoint{StoreId: w.at.GetStoreId(), Revision: e.GetRevision(), Chain: e.GetChain()}
	return nil
}

func (w *witness) SnapshotEnd(p *bucketv1.ResumePoint, _ time.Time) {
	if !w.inside {
		w.t.Fatal("a snapshot ended that was not begun")
	}
	if w.at != nil && !w.foreign && p.GetStoreId() == w.at.GetStoreId() && p.GetRevision() < w.at.GetRevision() {
		w.t.Fatalf("stepped back from %v to %v", w.at, p)
	}
	w.at, w.inside, w.foreign, w.doubt = clonePoint(p), false, false, false
}

func (w *witness) Progress(p *bucketv1.ResumePoint, _ time.Time) {
	if w.inside || w.at == nil || w.doubt || p.GetStoreId() != w.at.GetStoreId() || p.GetRevision() < w.at.GetRevision() {
		w.t.Fatalf("progress at %v; the handler stands at %v (in doubt: %t, in a snapshot: %t)", p, w.at, w.doubt, w.inside)
	}
	w.at = clonePoint(p)
}

func (w *witness) Disconnected(err error, pause time.Duration) {
	if errors.Is(err, ErrContract) {
		w.doubt = true
	}
	if pause < 0 || err == nil {
		w.t.Fatalf("disconnected with %v, pause %s", err, pause)
	}
}
