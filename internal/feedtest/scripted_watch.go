package feedtest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/carousel"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// out sends messages through a step.
type out struct {
	ctx  context.Context
	s    *Scripted
	ss   grpc.ServerStreamingServer[bucketv1.WatchBucketsResponse]
	step *Step
	sent int
}

func (o *out) send(m *bucketv1.WatchBucketsResponse) error {
	if err := o.act(); err != nil {
		return err
	}
	messages := []*bucketv1.WatchBucketsResponse{m}
	if o.step != nil && o.step.Alter != nil {
		messages = o.step.Alter(clone(m))
	}
	for _, m := range messages {
		if err := o.ss.Send(m); err != nil {
			return err
		}
	}
	o.sent++
	return o.act()
}

// act carries out the step once its place is reached.
func (o *out) act() error {
	if o.step == nil || !o.step.acts() || o.sent < o.step.After {
		return nil
	}
	switch {
	case o.step.Drop:
		o.s.DropConnections()
		<-o.ctx.Done()
	case o.step.Hang:
		<-o.ctx.Done()
	}
	return errScript
}

// WatchBuckets implements bucketv1.BucketServiceServer.
func (s *Scripted) WatchBuckets(req *bucketv1.WatchBucketsRequest, ss grpc.ServerStreamingServer[bucketv1.WatchBucketsResponse]) error {
	o := &out{ctx: ss.Context(), s: s, ss: ss, step: s.takeStep(req)}
	err := s.watch(req, o)
	if errors.Is(err, errScript) && o.step.Err != nil {
		return o.step.Err
	}
	return err
}

func (s *Scripted) watch(req *bucketv1.WatchBucketsRequest, o *out) error {
	if o.step != nil && o.step.After < 0 {
		if err := o.act(); err != nil {
			return err
		}
	}
	if err := checkFilter(req.GetFilter()); err != nil {
		return err
	}
	var at bucket.Position
	var era int
	switch start := req.GetStart().(type) {
	case *bucketv1.WatchBucketsRequest_Resume:
		var info *bucketv1.StoreInfo
		var err error
		if at, era, info, err = s.resume(start.Resume); err != nil {
			return err
		}
		if err := o.send(infoMessage(info)); err != nil {
			return err
		}
	case *bucketv1.WatchBucketsRequest_Snapshot:
		messages, head, e, err := s.snapshot(req.GetFilter(), start.Snapshot)
		if err != nil {
			return err
		}
		for _, m := range messages {
			if err := o.send(m); err != nil {
				return err
			}
		}
		at, era = head, e
	default:
		return badRequest("start is missing")
	}
	return s.follow(o, req.GetFilter(), at, era)
}

func (s *Scripted) resume(m *bucketv1.ResumePoint) (bucket.Position, int, *bucketv1.StoreInfo, error) {
	id, at, err := wire.Position(m)
	if err != nil {
		return at, 0, nil, badRequest("resume: " + err.Error())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.draining:
		err = Error(codes.Unavailable, "DRAINING")
	case id != s.storeID:
		err = Error(codes.FailedPrecondition, "OTHER_STORE")
	case at.Revision > s.head().Revision:
		err = Error(codes.FailedPrecondition, "FUTURE_REVISION")
	case at.Revision < s.floor:
		err = Error(codes.OutOfRange, "COMPACTED")
	case at.Revision > 0 && s.log[at.Revision-1].at != at:
		err = Error(codes.FailedPrecondition, "HISTORY_CHANGED")
	}
	return at, s.era, s.info(), err
}

func (s *Scripted) snapshot(f *bucketv1.Filter, req *bucketv1.SnapshotRequest) ([]*bucketv1.WatchBucketsResponse, bucket.Position, int, error) {
	if d := req.GetMaxAge(); d != nil && (d.CheckValid() != nil || d.AsDuration() < 0) {
		return nil, bucket.Position{}, 0, badRequest("snapshot.max_age is not a positive duration")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return nil, bucket.Position{}, 0, Error(codes.Unavailable, "DRAINING")
	}
	var versions, buckets []logged
	starts := map[string][]bucket.Time{}
	newest := map[string]*timestamppb.Timestamp{} // late commits, by dataset
	since := bucket.TimeOf(s.progress.Add(-req.GetMaxAge().AsDuration()))
	for i := range s.log {
		l := &s.log[i]
		switch {
		case l.dropped || !matches(f, l):
		case l.kind == bucket.KindDatasetVersion:
			versions = append(versions, *l)
		case l.kind != bucket.KindBucket: // other kinds are in no snapshot
		case req.GetMaxAge().AsDuration() > 0 && l.end > since:
			buckets = append(buckets, *l)
			starts[l.key.Dataset] = append(starts[l.key.Dataset], l.key.Start)
		}
		if age := req.GetMaxAge().AsDuration(); l.kind == bucket.KindBucket && !l.dropped && matches(f, l) && hasTraffic(l.entry.GetBucket()) && l.entry.GetBucket().GetOrigin() != bucketv1.Origin_ORIGIN_BACKFILL &&
			l.end > bucket.TimeOf(s.progress.Add(-2*age)) && carousel.Late(bucket.Window{Start: l.key.Start, End: l.end}, l.entry.GetCommittedAt().AsTime(), age) {
			newest[l.key.Dataset] = l.entry.GetCommittedAt() // the log ascends
		}
	}
	if n := int(req.GetMaxWindows()); n > 0 {
		buckets = slices.DeleteFunc(buckets, func(l logged) bool {
			all := slices.Clone(starts[l.key.Dataset])
			slices.Sort(all)
			all = slices.Compact(all)
			return l.key.Start < all[max(0, len(all)-n)]
		})
	}
	slices.SortFunc(buckets, func(a, b logged) int { return a.key.Compare(b.key) })

	var late []*bucketv1.LateCommit
	if !req.GetLateCommits() {
		clear(newest)
	}
	for _, dataset := range slices.Sorted(maps.Keys(newest)) {
		late = append(late, &bucketv1.LateCommit{Dataset: dataset, CommittedAt: newest[dataset]})
	}
	readable := 0
	messages := []*bucketv1.WatchBucketsResponse{infoMessage(s.info())}
	for i := range versions {
		messages = append(messages, entryMessage(versions[i].entry))
	}
	for i := range buckets {
		messages = append(messages, entryMessage(buckets[i].entry))
		if buckets[i].entry.GetBucket() != nil {
			readable++
		}
	}
	messages = append(messages, &bucketv1.WatchBucketsResponse{Event: &bucketv1.WatchBucketsResponse_SnapshotEnd{
		SnapshotEnd: &bucketv1.SnapshotEnd{
			Point:        wire.ResumePoint(s.storeID, s.head()),
			ProgressTime: wire.Timestamp(s.progress),
			Buckets:      uint64(readable),
			LateCommits:  late,
		},
	}})
	return messages, s.head(), s.era, nil
}

func hasTraffic(b *bucketv1.Bucket) bool {
	return slices.ContainsFunc(b.GetFamilies(), func(f *bucketv1.FamilyRows) bool {
		return slices.ContainsFunc(f.GetValues(), func(v float64) bool { return v != 0 })
	})
}

// follow sends what is new after at, and progress after each batch and at every
// heartbeat, until something ends the stream.
func (s *Scripted) follow(o *out, f *bucketv1.Filter, at bucket.Position, era int) error {
	heartbeat := s.Heartbeat
	if heartbeat == 0 {
		heartbeat = 2 * time.Second
	}
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		s.mu.Lock()
		changed, head, progress, draining, sameEra := s.changed, s.head(), s.progress, s.draining, s.era == era
		var batch []*bucketv1.Entry
		if sameEra {
			for i := range s.log[at.Revision:] {
				if l := &s.log[int(at.Revision)+i]; matches(f, l) {
					batch = append(batch, l.entry)
				}
			}
		}
		s.mu.Unlock()
		switch {
		case draining:
			return Error(codes.Unavailable, "DRAINING")
		case !sameEra:
			return Error(codes.FailedPrecondition, "HISTORY_CHANGED")
		}
		for _, e := range batch {
			if err := o.send(entryMessage(e)); err != nil {
				return err
			}
		}
		at = head
		if err := o.send(&bucketv1.WatchBucketsResponse{Event: &bucketv1.WatchBucketsResponse_Progress{
			Progress: &bucketv1.Progress{Point: wire.ResumePoint(s.storeID, at), ProgressTime: wire.Timestamp(progress)},
		}}); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-o.ctx.Done():
			return o.ctx.Err()
		}
	}
}

func infoMessage(i *bucketv1.StoreInfo) *bucketv1.WatchBucketsResponse {
	return &bucketv1.WatchBucketsResponse{Event: &bucketv1.WatchBucketsResponse_Info{Info: i}}
}

func entryMessage(e *bucketv1.Entry) *bucketv1.WatchBucketsResponse {
	return &bucketv1.WatchBucketsResponse{Event: &bucketv1.WatchBucketsResponse_Entry{Entry: e}}
}
