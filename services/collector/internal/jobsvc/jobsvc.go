package jobsvc

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/weir-metrics/weir/internal/clock"
	adminv1 "github.com/weir-metrics/weir/proto/gen/weir/admin/v1"
	"github.com/weir-metrics/weir/services/collector/internal/jobs"
	"github.com/weir-metrics/weir/services/collector/internal/poll"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
)

// Loop is the leader's loop; *poll.Poller implements it.
type Loop interface {
	EstimateBackfill(ctx context.Context, sel jobs.Selection) (*poll.BackfillEstimate, error)
	CreateBackfill(ctx context.Context, sel jobs.Selection, key string, by poll.Asked) (*jobs.Job, error)
	ChangeBackfill(ctx context.Context, id string, to jobs.State, by poll.Asked) (*jobs.Job, error)
}

// Store is what is read of store.Store.
type Store interface {
	Records(ctx context.Context, kind string) ([]store.Record, error)
}

// Service implements adminsvc.Backfills. All fields are required, except for Unreadable.
type Service struct {
	Loop       Loop
	Store      Store
	Clock      clock.Clock
	Unreadable *unreadable.Register
}

// watchEvery is how often a watched backfill is read. The leader writes its progress with
// each response of Cloudflare.
const watchEvery = 2 * time.Second

// EstimateBackfill implements adminsvc.Backfills.
func (s *Service) EstimateBackfill(ctx context.Context, req *adminv1.EstimateBackfillRequest) (*adminv1.EstimateBackfillResponse, error) {
	sel, err := parseSelection(req.GetSelection())
	if err != nil {
		return nil, err
	}
	e, err := s.Loop.EstimateBackfill(ctx, sel)
	if err != nil {
		return nil, err
	}
	out := &adminv1.EstimateBackfillResponse{
		Windows: protoCounts(e.Counts), Rows: e.Rows, Requests: uint64(e.Requests), Duration: durationpb.New(e.Duration), Truncated: e.Truncated,
	}
	for i := range e.Missing {
		out.Missing = append(out.Missing, protoMissing(&e.Missing[i]))
	}
	for i := range e.Refused {
		out.Refused = append(out.Refused, protoRefused(&e.Refused[i]))
	}
	return out, nil
}

// CreateBackfill implements adminsvc.Backfills.
func (s *Service) CreateBackfill(ctx context.Context, req *adminv1.CreateBackfillRequest) (*adminv1.CreateBackfillResponse, error) {
	sel, err := parseSelection(req.GetSelection())
	if err != nil {
		return nil, err
	}
	by, err := parseAsked(req)
	if err != nil {
		return nil, err
	}
	if err := checkText("idempotency_key", req.GetIdempotencyKey(), 0, maxID); err != nil {
		return nil, err
	}
	j, err := s.Loop.CreateBackfill(ctx, sel, req.GetIdempotencyKey(), by)
	if err != nil {
		return nil, err
	}
	return &adminv1.CreateBackfillResponse{Backfill: protoJob(j)}, nil
}

// GetBackfill implements adminsvc.Backfills.
func (s *Service) GetBackfill(ctx context.Context, req *adminv1.GetBackfillRequest) (*adminv1.GetBackfillResponse, error) {
	j, err := s.find(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return &adminv1.GetBackfillResponse{Backfill: protoJob(j)}, nil
}

// ListBackfills implements adminsvc.Backfills.
func (s *Service) ListBackfills(ctx context.Context, _ *adminv1.ListBackfillsRequest) (*adminv1.ListBackfillsResponse, error) {
	all, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	out := &adminv1.ListBackfillsResponse{}
	for _, j := range all {
		out.Backfills = append(out.Backfills, protoJob(j))
	}
	return out, nil
}

// PauseBackfill implements adminsvc.Backfills.
func (s *Service) PauseBackfill(ctx context.Context, req *adminv1.PauseBackfillRequest) (*adminv1.PauseBackfillResponse, error) {
	j, err := s.change(ctx, req, jobs.Paused)
	if err != nil {
		return nil, err
	}
	return &adminv1.PauseBackfillResponse{Backfill: protoJob(j)}, nil
}

// ResumeBackfill implements adminsvc.Backfills.
func (s *Service) ResumeBackfill(ctx context.Context, req *adminv1.ResumeBackfillRequest) (*adminv1.ResumeBackfillResponse, error) {
	j, err := s.change(ctx, req, jobs.Running)
	if err != nil {
		return nil, err
	}
	return &adminv1.ResumeBackfillResponse{Backfill: protoJob(j)}, nil
}

// CancelBackfill implements adminsvc.Backfills.
func (s *Service) CancelBackfill(ctx context.Context, req *adminv1.CancelBackfillRequest) (*adminv1.CancelBackfillResponse, error) {
	j, err := s.change(ctx, req, jobs.Cancelled)
	if err != nil {
		return nil, err
	}
	return &adminv1.CancelBackfillResponse{Backfill: protoJob(j)}, nil
}

func (s *Service) change(ctx context.Context, req interface {
	asked
	GetId() string
}, to jobs.State,
) (*jobs.Job, error) {
	if err := checkText("id", req.GetId(), 1, maxID); err != nil {
		return nil, err
	}
	by, err := parseAsked(req)
	if err != nil {
		return nil, err
	}
	return s.Loop.ChangeBackfill(ctx, req.GetId(), to, by)
}

// WatchBackfill implements adminsvc.Backfills.
func (s *Service) WatchBackfill(ctx context.Context, req *adminv1.WatchBackfillRequest, send func(*adminv1.WatchBackfillResponse) error) error {
	var sent *adminv1.Backfill
	for {
		j, err := s.find(ctx, req.GetId())
		if err != nil {
			return err
		}
		if now := protoJob(j); !proto.Equal(now, sent) {
			if err := send(&adminv1.WatchBackfillResponse{Backfill: now}); err != nil {
				return err
			}
			sent = now
		}
		if j.State.Ended() {
			return nil
		}
		if err := s.Clock.WaitUntil(ctx, s.Clock.Now().Add(watchEvery)); err != nil {
			return err
		}
	}
}

func (s *Service) find(ctx context.Context, id string) (*jobs.Job, error) {
	if err := checkText("id", id, 1, maxID); err != nil {
		return nil, err
	}
	all, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	for _, j := range all {
		if j.ID == id {
			return j, nil
		}
	}
	return nil, &poll.Refusal{Why: poll.NotFound, Text: fmt.Sprintf("there is no backfill %q", id)}
}

// read reads all jobs. Their two records may be of different moments: the state of a job is
// that of the older, its counts those of the newer.
func (s *Service) read(ctx context.Context) ([]*jobs.Job, error) {
	records, err := s.Store.Records(ctx, jobs.Kind)
	if err != nil {
		return nil, fmt.Errorf("read backfills: %w", err)
	}
	progress, err := s.Store.Records(ctx, jobs.KindProgress)
	if err != nil {
		return nil, fmt.Errorf("read the progress of backfills: %w", err)
	}
	all, bad := jobs.Read(records, progress)
	for kind, damaged := range bad {
		s.Unreadable.Records(kind, damaged)
	}
	return all, nil
}
