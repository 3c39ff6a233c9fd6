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
// always returns an error: why it ended.
func (f *Follower) stream(parent context.Context, h Handler) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	req := &bucketv1.WatchBucketsRequest{Filter: f.opts.Filter}
	if f.at.snapshot && f.opts.Counters {
		req.Start = &bucketv1.WatchBucketsRequest_Counters{Counters: &bucketv1.CountersRequest{Rules: f.opts.CounterRules}}
	} else if f.at.snapshot {
		req.Start = &bucketv1.WatchBucketsRequest_Snapshot{Snapshot: f.opts.Snapshot}
	} else {
		req.Start, req.CounterEpoch = &bucketv1.WatchBucketsRequest_Resume{Resume: f.at.point}, f.at.epoch
	}
	// Covers opening the stream too: a connection attempt can hang as well.
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

// reader is the state of one stream. It validates the server's messages and passes
// them to the handler.
type reader struct {
	f        *Follower
	h        Handler
	info     *bucketv1.StoreInfo // nil until the first message
	snapshot bool                // inside a snapshot
	last     *bucketv1.ResumePoint

	// Inside a snapshot:
	buckets  uint64
	totals   uint64
	epoch    string // of counters; empty: not received
	newest   uint64 // greatest revision seen
	previous *bucketv1.Bucket
}

func (r *reader) take(m *bucketv1.WatchBucketsResponse) error {
	if info := m.GetInfo(); info != nil {
		return r.begin(info)
	}
	if r.info == nil {
		return violation("the first message is %T, want the store's info", m.GetEvent())
	}
	switch e := m.GetEvent().(type) {
	case *bucketv1.WatchBucketsResponse_Entry:
		if r.snapshot {
			return r.snapshotEntry(e.Entry)
		}
		return r.liveEntry(e.Entry)
	case *bucketv1.WatchBucketsResponse_CounterEpoch, *bucketv1.WatchBucketsResponse_CounterTotals:
		return r.counters(m)
	case *bucketv1.WatchBucketsResponse_SnapshotEnd:
		return r.snapshotEnd(e.SnapshotEnd)
	case *bucketv1.WatchBucketsResponse_Progress:
		return r.progress(e.Progress)
	}
	return nil // an event of a later release
}

func (r *reader) begin(info *bucketv1.StoreInfo) error {
	if r.info != nil {
		return violation("received the store's info twice")
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
		return violation("resumed from a point of store %s, but the server has store %s", r.last.GetStoreId(), info.GetStoreId())
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
		return violation("received a snapshot entry without a revision")
	}
	r.newest = max(r.newest, e.GetRevision())
	switch k := e.GetKind().(type) {
	case *bucketv1.Entry_DatasetVersion:
		if r.previous != nil {
			return violation("received a dataset version after a bucket in a snapshot")
		}
	case *bucketv1.Entry_Bucket:
		if r.previous != nil && compareKeys(r.previous, k.Bucket) >= 0 {
			return violation("snapshot buckets must ascend: received %s after %s", keyString(k.Bucket), keyString(r.previous))
		}
		// Copy the key, since the handler owns the message from here on.
		r.previous = &bucketv1.Bucket{Dataset: k.Bucket.GetDataset(), Scope: k.Bucket.GetScope(), StartUnixSeconds: k.Bucket.GetStartUnixSeconds()}
		r.buckets++
	}
	return r.apply(e)
}

// counters passes totals to the handler.
func (r *reader) counters(m *bucketv1.WatchBucketsResponse) (err error) {
	h, ok := r.h.(CounterHandler)
	if !ok || !r.snapshot || !r.f.opts.Counters {
		return violation("received %T on a stream that did not begin with counters", m.GetEvent())
	}
	if e := m.GetCounterEpoch(); e != nil {
		if r.epoch != "" {
			return violation("received the epoch of counters twice")
		}
		if r.epoch = e.GetId(); r.epoch == "" {
			return violation("received an epoch of counters without an id")
		}
		err = h.CounterEpoch(e)
	} else {
		if r.epoch == "" {
			return violation("received totals of counters before their epoch")
		}
		r.totals++
		err = h.CounterTotals(m.GetCounterTotals())
	}
	if err != nil {
		return fmt.Errorf("%w: totals of counters: %w", ErrHandler, err)
	}
	return nil
}

func (r *reader) snapshotEnd(e *bucketv1.SnapshotEnd) error {
	switch p := e.GetPoint(); {
	case !r.snapshot:
		return violation("received the end of a snapshot without its beginning")
	case p.GetStoreId() != r.info.GetStoreId():
		return violation("a snapshot of store %s ends with a point of store %s", r.info.GetStoreId(), p.GetStoreId())
	case e.GetBuckets() != r.buckets:
		return violation("the server announced %d snapshot buckets and sent %d", e.GetBuckets(), r.buckets)
	case e.GetTotals() != r.totals:
		return violation("the server announced %d messages of totals and sent %d", e.GetTotals(), r.totals)
	case r.f.opts.Counters && r.epoch == "":
		return violation("the server sent no epoch of counters")
	case p.GetRevision() < r.newest:
		return violation("a snapshot at revision %d contains revision %d", p.GetRevision(), r.newest)
	}
	at, point := &r.f.at, e.GetPoint()
	// Totals may be older: the entries after them follow.
	if !r.f.opts.Counters && !at.foreign && at.point.GetStoreId() == point.GetStoreId() && point.GetRevision() < at.point.GetRevision() {
		return fmt.Errorf("%w: snapshot at revision %d, applied %d of store %s", ErrStepBack, point.GetRevision(), at.point.GetRevision(), point.GetStoreId())
	}
	r.snapshot, r.previous = false, nil
	r.last = clonePoint(point)
	*at = position{point: r.last, epoch: r.epoch}
	r.recovered()
	r.f.works()
	if h, ok := r.h.(LateHandler); ok {
		h.LateCommits(e.GetLateCommits())
	}
	r.h.SnapshotEnd(point, moment(e.GetProgressTime()))
	return nil
}

func (r *reader) liveEntry(e *bucketv1.Entry) error {
	if e.GetRevision() <= r.last.GetRevision() {
		return violation("received revision %d after revision %d", e.GetRevision(), r.last.GetRevision())
	}
	if r.f.everything() && e.GetRevision() != r.last.GetRevision()+1 {
		return violation("received revision %d after revision %d, although nothing is filtered", e.GetRevision(), r.last.GetRevision())
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
		return violation("received progress inside a snapshot")
	case point.GetStoreId() != r.info.GetStoreId():
		return violation("progress of store %q on a stream of store %s", point.GetStoreId(), r.info.GetStoreId())
	case point.GetRevision() < r.last.GetRevision():
		return violation("progress at revision %d after revision %d", point.GetRevision(), r.last.GetRevision())
	case r.f.everything() && point.GetRevision() != r.last.GetRevision():
		return violation("progress at revision %d, but delivered only up to revision %d, although nothing is filtered", point.GetRevision(), r.last.GetRevision())
	case point.GetRevision() == r.last.GetRevision() && point.GetRevision() > 0 && !bytes.Equal(point.GetChain(), r.last.GetChain()):
		return violation("progress at revision %d has another chain than the delivered entry", point.GetRevision())
	}
	r.applied(point.GetRevision(), point.GetChain())
	if h, ok := r.h.(CounterHandler); ok && r.f.opts.Counters {
		h.Complete(moment(p.GetCompleteUntil()))
	}
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

// everything reports whether the filter matches every entry of the log, so that a
// gap in the revisions is a lost entry.
func (f *Follower) everything() bool {
	return len(f.opts.Filter.GetDatasets()) == 0 && len(f.opts.Filter.GetScopes()) == 0 && len(f.opts.Filter.GetZones()) == 0
}

// works records that the current stream delivers: an applied entry or progress, or a
// whole snapshot.
func (f *Follower) works() {
	if f.since.IsZero() {
		f.since = time.Now()
	}
}

// recovered is called when a stream works again.
func (r *reader) recovered() {
	if !r.f.tell.since.IsZero() {
		r.f.tell.recovered("store_id", r.info.GetStoreId(), "revision", r.last.GetRevision())
	}
}

func clonePoint(p *bucketv1.ResumePoint) *bucketv1.ResumePoint {
	return &bucketv1.ResumePoint{StoreId: p.GetStoreId(), Revision: p.GetRevision(), Chain: bytes.Clone(p.GetChain())}
}

// moment converts a timestamp; an absent one is the zero time, not 1970.
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
