package adminsvc

import (
	"context"

	adminv1 "github.com/weir-metrics/weir/proto/gen/weir/admin/v1"
)

// EstimateBackfill implements adminv1.AdminServiceServer.
func (s *Server) EstimateBackfill(ctx context.Context, req *adminv1.EstimateBackfillRequest) (*adminv1.EstimateBackfillResponse, error) {
	return answer(ctx, s, "EstimateBackfill", unary, req, s.c.Backfills.EstimateBackfill)
}

// CreateBackfill implements adminv1.AdminServiceServer.
func (s *Server) CreateBackfill(ctx context.Context, req *adminv1.CreateBackfillRequest) (*adminv1.CreateBackfillResponse, error) {
	return answer(ctx, s, "CreateBackfill", unary, req, s.c.Backfills.CreateBackfill)
}

// GetBackfill implements adminv1.AdminServiceServer.
func (s *Server) GetBackfill(ctx context.Context, req *adminv1.GetBackfillRequest) (*adminv1.GetBackfillResponse, error) {
	return answer(ctx, s, "GetBackfill", unary, req, s.c.Backfills.GetBackfill)
}

// ListBackfills implements adminv1.AdminServiceServer.
func (s *Server) ListBackfills(ctx context.Context, req *adminv1.ListBackfillsRequest) (*adminv1.ListBackfillsResponse, error) {
	return answer(ctx, s, "ListBackfills", unary, req, s.c.Backfills.ListBackfills)
}

// PauseBackfill implements adminv1.AdminServiceServer.
func (s *Server) PauseBackfill(ctx context.Context, req *adminv1.PauseBackfillRequest) (*adminv1.PauseBackfillResponse, error) {
	return answer(ctx, s, "PauseBackfill", unary, req, s.c.Backfills.PauseBackfill)
}

// ResumeBackfill implements adminv1.AdminServiceServer.
func (s *Server) ResumeBackfill(ctx context.Context, req *adminv1.ResumeBackfillRequest) (*adminv1.ResumeBackfillResponse, error) {
	return answer(ctx, s, "ResumeBackfill", unary, req, s.c.Backfills.ResumeBackfill)
}

// CancelBackfill implements adminv1.AdminServiceServer.
func (s *Server) CancelBackfill(ctx context.Context, req *adminv1.CancelBackfillRequest) (*adminv1.CancelBackfillResponse, error) {
	return answer(ctx, s, "CancelBackfill", unary, req, s.c.Backfills.CancelBackfill)
}
