package client

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// stream opens one stream and feeds the handler from it until it ends. It
// always returns an error: the reason of the end.
func (f *Follower) stream(parent context.Context, h Handler) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	req := &bucketv1.WatchBucketsRequest{Filter: f.opts.Filter}
	if f.at.snapshot {
		req.Start = &bucketv1.WatchBucketsRequest_Snapshot{Snapshot: f.opts.Snapshot}
	} else {
		req.Start = &bucketv1.WatchBucketsRequest_Resume{Resume: f.at.point}
	}
	// Covers the opening too: a connection attempt can be silent just as well.
	watchdog := time.AfterFunc(f.opts.Idle, func() { cancel(ErrIdle) })
	defer watchdog.Stop()

	ended := func(err error) error {
		if errors.Is(context.Cause(ctx), ErrIdle) {
			return fmt.Errorf("watch buckets: %w: nothing arrived for %s", ErrIdle, f.opts.Idle)
		}
		return fmt.Errorf("watch buckets: %w", err)
	}
	s, err := f.rpc.WatchBuckets(ctx, req, grpc.MaxCallRecvMsgSize(maxMessage))
	if err != nil {
		return ended(err)
	}
	r := reader{f: f, h: h, snapshot: f.at.snapshot}
	if !f.at.snapshot {
		r.last = f.at.point
	}
	for {
		m, err := s.Recv()
		if err != nil {
			return ended(err)
		}
		watchdog.Stop()
		if err := r.take(m); err != nil {
			return fmt.Errorf("watch buckets: %w", err)
		}
		watchdog.Reset(f.opts.Idle)
	}
}

// reader is the state of one stream: it holds the server to the contract and
// passes on what keeps it.
type reader struct {
	f        *Follower
	h        Handler
	info     *bucketv1.StoreInfo // nil until the first message
	snapshot bool                // inside a snapshot
	last     *bucketv1.ResumePoint

	// Inside a snapshot:
	buckets  uint64
	newest   uint64 // greatest revision seen
	previous *bucketv1.Bucket
}

func (r *reader) take(m *bucketv1.WatchBucketsResponse) error {
	if info := m.GetInfo(); info != nil {
		return r.begin(info)
	}
	if r.info == nil {
		return violation("the first message is %T, not the store's info", m.GetEvent())
	}
	switch e := m.GetEvent().(type) {
	case *bucketv1.WatchBucketsResponse_Entry:
		if r.snapshot {
			return r.snapshotEntry(e.Entry)
		}
		return r.liveEntry(e.Entry)
	case *bucketv1.WatchBucketsResponse_SnapshotEnd:
		return r.snapshotEnd(e.SnapshotEnd)
	case *bucketv1.WatchBucketsResponse_Progress:
		return r.progress(e.Progress)
	}
	return nil // an event of a later release
}

func (r *reader) begin(info *bucketv1.StoreInfo) error {
	if r.info != nil {
		return violation("a second info")
	}
	if info.GetStoreId() == "" {
		return violation("the store's info has no store id")
	}
	r.info = info
	if r.snapshot {
		r.h.SnapshotBegin(info)
		return nil
	}
	if info.GetStoreId() != r.last.GetStoreId() {
		return violation("resumed in store %s, got store %s", r.last.GetStoreId(), info.GetStoreId())
	}
	if r.f.at.broken {
		return errRecognised
	}
	r.recovered()
	r.h.Info(info)
	return nil
}

func (r *reader) snapshotEntry(e *bucketv1.Entry) error {
	if e.GetRevision() == 0 {
		return violation("a snapshot entry without a revision")
	}
	r.newest = max(r.newest, e.GetRevision())
	switch k := e.GetKind().(type) {
	case *bucketv1.Entry_DatasetVersion:
		if r.previous != nil {
			return violation("a dataset version after a bucket in a snapshot")
		}
	case *bucketv1.Entry_Bucket:
		if r.previous != nil && compareKeys(r.previous, k.Bucket) >= 0 {
			return violation("snapshot buckets do not ascend: %s after %s", keyString(k.Bucket), keyString(r.previous))
		}
		// Only the key is needed, and the handler owns the message from here on.
		r.previous = &bucketv1.Bucket{Dataset: k.Bucket.GetDataset(), Scope: k.Bucket.GetScope(), StartUnixSeconds: k.Bucket.GetStartUnixSeconds()}
		r.buckets++
	}
	return r.apply(e)
}

func (r *reader) snapshotEnd(e *bucketv1.SnapshotEnd) error {
	switch p := e.GetPoint(); {
	case !r.snapshot:
		return violation("the end of a snapshot that was not begun")
	case p.GetStoreId() != r.info.GetStoreId():
		return violation("a snapshot of store %s ends with a point of store %s", r.info.GetStoreId(), p.GetStoreId())
	case e.GetBuckets() != r.buckets:
		return violation("a snapshot of %d buckets arrived with %d", e.GetBuckets(), r.buckets)
	case p.GetRevision() < r.newest:
		return violation("a snapshot at revision %d holds revision %d", p.GetRevision(), r.newest)
	}
	at, point := &r.f.at, e.GetPoint()
	if !at.foreign && at.point.GetStoreId() == point.GetStoreId() && point.GetRevision() < at.point.GetRevision() {
		return fmt.Errorf("%w: revision %d after %d of store %s", ErrStepBack, point.GetRevision(), at.point.GetRevision(), point.GetStoreId())
	}
	r.snapshot, r.previous = false, nil
	r.last = clonePoint(point)
	*at = place{point: r.last}
	r.recovered()
	r.f.works()
	r.h.SnapshotEnd(point, moment(e.GetProgressTime()))
	return nil
}

func (r *reader) liveEntry(e *bucketv1.Entry) error {
	if e.GetRevision() <= r.last.GetRevision() {
		return violation("revision %d after revision %d", e.GetRevision(), r.last.GetRevision())
	}
	if r.f.everything() && e.GetRevision() != r.last.GetRevision()+1 {
		return violation("revision %d after revision %d, and nothing is filtered", e.GetRevision(), r.last.GetRevision())
	}
	if len(e.GetChain()) == 0 {
		return violation("revision %d has no chain", e.GetRevision())
	}
	revision, chain := e.GetRevision(), e.GetChain()
	if err := r.apply(e); err != nil {
		return err
	}
	r.applied(revision, chain)
	return nil
}

func (r *reader) progress(p *bucketv1.Progress) error {
	point := p.GetPoint()
	switch {
	case r.snapshot:
		return violation("progress inside a snapshot")
	case point.GetStoreId() != r.info.GetStoreId():
		return violation("progress of store %q on a stream of store %s", point.GetStoreId(), r.info.GetStoreId())
	case point.GetRevision() < r.last.GetRevision():
		return violation("progress at revision %d after revision %d", point.GetRevision(), r.last.GetRevision())
	case r.f.everything() && point.GetRevision() != r.last.GetRevision():
		return violation("progress at revision %d, but only revision %d was delivered, and nothing is filtered", point.GetRevision(), r.last.GetRevision())
	case point.GetRevision() == r.last.GetRevision() && point.GetRevision() > 0 && !bytes.Equal(point.GetChain(), r.last.GetChain()):
		return violation("progress at revision %d has another chain than what was delivered", point.GetRevision())
	}
	r.applied(point.GetRevision(), point.GetChain())
	r.h.Progress(point, moment(p.GetProgressTime()))
	return nil
}

func (r *reader) apply(e *bucketv1.Entry) error {
	if err := r.h.Entry(e); err != nil {
		return fmt.Errorf("%w: revision %d: %w", ErrHandler, e.GetRevision(), err)
	}
	return nil
}

func (r *reader) applied(revision uint64, chain []byte) {
	r.last = &bucketv1.ResumePoint{StoreId: r.info.GetStoreId(), Revision: revision, Chain: bytes.Clone(chain)}
	r.f.at.point = r.last
	r.f.works()
}

// everything reports whether every entry of the log matches, so that a hole in
// the revisions is a lost entry.
func (f *Follower) everything() bool {
	return len(f.opts.Filter.GetDatasets()) == 0 && len(f.opts.Filter.GetScopes()) == 0 && len(f.opts.Filter.GetZones()) == 0
}

// works notes that the present stream brings something: an entry or progress
// that was applied, or a whole snapshot.
func (f *Follower) works() {
	if f.since.IsZero() {
		f.since = time.Now()
	}
}

// recovered is called when a stream works again.
func (r *reader) recovered() {
	if !r.f.tell.since.IsZero() {
		r.f.tell.again("store_id", r.info.GetStoreId(), "revision", r.last.GetRevision())
	}
}

func clonePoint(p *bucketv1.ResumePoint) *bucketv1.ResumePoint {
	return &bucketv1.ResumePoint{StoreId: p.GetStoreId(), Revision: p.GetRevision(), Chain: bytes.Clone(p.GetChain())}
}

// moment is the zero time for an absent timestamp, not 1970.
func moment(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

func compareKeys(a, b *bucketv1.Bucket) int {
	return cmp.Or(
		strings.Compare(a.GetDataset(), b.GetDataset()),
		cmp.Compare(a.GetStartUnixSeconds(), b.GetStartUnixSeconds()),
		cmp.Compare(a.GetScope().GetKind(), b.GetScope().GetKind()),
		strings.Compare(a.GetScope().GetId(), b.GetScope().GetId()),
	)
}

func keyString(b *bucketv1.Bucket) string {
	return fmt.Sprintf("%s %s %d", b.GetDataset(), b.GetScope().GetId(), b.GetStartUnixSeconds())
}
