package adminsvc

import (
	"context"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	adminv1 "github.com/weir-metrics/weir/proto/gen/weir/admin/v1"
	"github.com/weir-metrics/weir/services/collector/internal/coverage"
	"github.com/weir-metrics/weir/services/collector/internal/poll"
	"github.com/weir-metrics/weir/services/collector/internal/reason"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
)

// maxRanges is the most ranges of a response, as the API documents.
const maxRanges = 10_000

// ListGaps implements adminv1.AdminServiceServer.
func (s *Server) ListGaps(ctx context.Context, req *adminv1.ListGapsRequest) (*adminv1.ListGapsResponse, error) {
	return answer(ctx, s, "ListGaps", unary, req, s.listGaps)
}

func (s *Server) listGaps(ctx context.Context, req *adminv1.ListGapsRequest) (*adminv1.ListGapsResponse, error) {
	w, err := parseRange("", req.GetStartUnixSeconds(), req.GetEndUnixSeconds())
	if err != nil {
		return nil, err
	}
	f, err := s.resolve(ctx, "filter.", req.GetFilter())
	if err != nil {
		return nil, err
	}
	open, err := s.c.Status.Open(ctx, f, w, req.GetDecided())
	if err != nil {
		return nil, err
	}
	out := &adminv1.ListGapsResponse{}
	if out.Truncated = len(open) > maxRanges; out.Truncated {
		open = open[:maxRanges]
	}
	out.Gaps = MissingRanges(open)
	return out, nil
}

// MissingRanges are ranges as the API has them.
func MissingRanges(open []coverage.Open) []*adminv1.MissingRange {
	out := make([]*adminv1.MissingRange, len(open))
	for i := range open {
		o := &open[i]
		out[i] = &adminv1.MissingRange{
			Dataset: o.Dataset, Scope: wire.ProtoScope(o.Scope), Name: o.Name, StartUnixSeconds: int64(o.Start), EndUnixSeconds: int64(o.End),
			Reason: o.Reason.Proto(), Detail: o.Detail, Accepted: o.State == coverage.Accepted, Lost: o.State == coverage.Lost, Attempts: uint32(o.Attempts),
			Waiting: o.State == coverage.Waiting,
		}
		if o.Next != 0 {
			out[i].NextAttempt = wire.Timestamp(o.Next.Std())
		}
		if o.LostAt != 0 {
			out[i].LostAt = wire.Timestamp(o.LostAt.Std())
		}
	}
	return out
}

// AcceptGaps implements adminv1.AdminServiceServer.
func (s *Server) AcceptGaps(ctx context.Context, req *adminv1.AcceptGapsRequest) (*adminv1.AcceptGapsResponse, error) {
	return answer(ctx, s, "AcceptGaps", unary, req, s.acceptGaps)
}

func (s *Server) acceptGaps(ctx context.Context, req *adminv1.AcceptGapsRequest) (*adminv1.AcceptGapsResponse, error) {
	asked, err := Asked(req.GetRequester(), req.GetReason())
	if err != nil {
		return nil, err
	}
	sel, err := s.Selection(ctx, req.GetSelection())
	if err != nil {
		return nil, err
	}
	got, err := s.c.Leader.AcceptGaps(ctx, poll.AcceptGaps{Selection: sel, Asked: asked, DryRun: req.GetDryRun()})
	if err != nil {
		return nil, err
	}
	return &adminv1.AcceptGapsResponse{Accepted: MissingRanges(got.Gaps), Revision: uint64(got.Revision)}, nil
}

var outcomes = map[poll.Outcome]adminv1.RestatedWindow_Outcome{
	poll.OutcomeEqual:    adminv1.RestatedWindow_OUTCOME_EQUAL,
	poll.OutcomeRestated: adminv1.RestatedWindow_OUTCOME_RESTATED,
	poll.OutcomeFailed:   adminv1.RestatedWindow_OUTCOME_FAILED,
}

// Restate implements adminv1.AdminServiceServer.
func (s *Server) Restate(ctx context.Context, req *adminv1.RestateRequest) (*adminv1.RestateResponse, error) {
	return answer(ctx, s, "Restate", restating, req, s.restate)
}

func (s *Server) restate(ctx context.Context, req *adminv1.RestateRequest) (*adminv1.RestateResponse, error) {
	asked, err := Asked(req.GetRequester(), req.GetReason())
	if err != nil {
		return nil, err
	}
	sel, err := s.Selection(ctx, req.GetSelection())
	if err != nil {
		return nil, err
	}
	// It may take long, and a stream would end at once when the server drains.
	ctx, cancel := s.untilDrained(ctx)
	defer cancel()
	got, err := s.c.Leader.Restate(ctx, poll.Restate{Selection: sel, Asked: asked, DryRun: req.GetDryRun()})
	if err != nil {
		return nil, orDraining(ctx, err)
	}
	out := &adminv1.RestateResponse{Revision: uint64(got.Revision)}
	for i := range got.Windows {
		w := &got.Windows[i]
		out.Windows = append(out.Windows, &adminv1.RestatedWindow{
			Dataset: w.Dataset, Scope: wire.ProtoScope(w.Scope), Name: w.Name, StartUnixSeconds: int64(w.Start), EndUnixSeconds: int64(w.End),
			Outcome: outcomes[w.Outcome], Detail: w.Detail, Before: w.Before, After: w.After,
		})
	}
	return out, nil
}

// maxEvents and someEvents are the most events of a response and the default.
const maxEvents, someEvents = 1000, 100

// ListAuditEvents implements adminv1.AdminServiceServer.
func (s *Server) ListAuditEvents(ctx context.Context, req *adminv1.ListAuditEventsRequest) (*adminv1.ListAuditEventsResponse, error) {
	return answer(ctx, s, "ListAuditEvents", unary, req, s.listAuditEvents)
}

func (s *Server) listAuditEvents(ctx context.Context, req *adminv1.ListAuditEventsRequest) (*adminv1.ListAuditEventsResponse, error) {
	limit := int(req.GetLimit())
	if limit == 0 {
		limit = someEvents
	}
	if limit > maxEvents {
		return nil, reason.BadRequest("limit is %d; it must be 1 to %d, or 0 for %d", limit, maxEvents, someEvents)
	}
	entries, err := s.c.Store.AuditEvents(ctx, bucket.Revision(req.GetBeforeRevision()), limit)
	if err != nil {
		return nil, err
	}
	out := &adminv1.ListAuditEventsResponse{}
	for i := range entries {
		e := &entries[i]
		record := &adminv1.AuditRecord{Revision: uint64(e.Revision), CommittedAt: wire.Timestamp(e.CommittedAt)}
		err := unreadable.Check(e)
		if err == nil {
			record.Event, err = wire.AuditEvent(e.Payload)
		}
		if err != nil { // listed without content
			s.c.Unreadable.Note(e, err)
		}
		out.Events = append(out.Events, record)
	}
	return out, nil
}
