package adminsvc

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/proc"
	"github.com/weir-metrics/weir/internal/quiet"
	adminv1 "github.com/weir-metrics/weir/proto/gen/weir/admin/v1"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/coverage"
	"github.com/weir-metrics/weir/services/collector/internal/poll"
	"github.com/weir-metrics/weir/services/collector/internal/reason"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
)

// Backfills carries out the methods about backfills. Their errors are those of package
// poll, of reason.BadRequest, or of the store.
type Backfills interface {
	EstimateBackfill(context.Context, *adminv1.EstimateBackfillRequest) (*adminv1.EstimateBackfillResponse, error)
	CreateBackfill(context.Context, *adminv1.CreateBackfillRequest) (*adminv1.CreateBackfillResponse, error)
	GetBackfill(context.Context, *adminv1.GetBackfillRequest) (*adminv1.GetBackfillResponse, error)
	ListBackfills(context.Context, *adminv1.ListBackfillsRequest) (*adminv1.ListBackfillsResponse, error)
	PauseBackfill(context.Context, *adminv1.PauseBackfillRequest) (*adminv1.PauseBackfillResponse, error)
	ResumeBackfill(context.Context, *adminv1.ResumeBackfillRequest) (*adminv1.ResumeBackfillResponse, error)
	CancelBackfill(context.Context, *adminv1.CancelBackfillRequest) (*adminv1.CancelBackfillResponse, error)
	// WatchBackfill returns when the backfill has ended, or with send's error, or with
	// ctx's cause.
	WatchBackfill(ctx context.Context, req *adminv1.WatchBackfillRequest, send func(*adminv1.WatchBackfillResponse) error) error
}

// Store is what the service reads of store.Store.
type Store interface {
	Head(ctx context.Context) (store.Head, error)
	AuditEvents(ctx context.Context, before bucket.Revision, limit int) ([]store.Entry, error)
}

// Leader is the loop of this process; *poll.Poller implements it. Its methods return
// poll.ErrNotLeading while another process leads.
type Leader interface {
	AcceptGaps(ctx context.Context, req poll.AcceptGaps) (poll.Accepted, error)
	Restate(ctx context.Context, req poll.Restate) (poll.Restated, error)
}

// Status reads the store, on leader and standby alike; *status.Source implements it.
type Status interface {
	Scopes(ctx context.Context) ([]*bucketv1.ScopeInfo, error)
	Open(ctx context.Context, f store.Filter, window bucket.Window, decided bool) ([]coverage.Open, error)
}

// Config configures a [Server]. All fields are required unless they say otherwise.
type Config struct {
	Store      Store
	Leader     Leader
	Status     Status
	Datasets   []string             // ids of those that are collected
	Unreadable *unreadable.Register // may be nil
	Backfills  Backfills
	Logger     *slog.Logger // nil: no logs
}

const (
	// most concurrent calls: operators are few. Watches last as long as their backfill, and
	// take no place of a call that would cancel it.
	maxCalls, maxWatches = 32, 64
	// queue is how long a call waits for its turn.
	queue = 5 * time.Second
	// unary is the timeout of calls, unless the client sets a shorter deadline. The
	// leader takes a request between two requests to Cloudflare, each of which has a
	// timeout of its own.
	unary = 2 * time.Minute
	// restating is the timeout of Restate, which waits for the budget.
	restating = 30 * time.Minute
)

// Server implements adminv1.AdminServiceServer.
type Server struct {
	adminv1.UnimplementedAdminServiceServer
	c              Config
	log            *quiet.Log
	calls, watches proc.Semaphore

	drainOnce sync.Once
	draining  chan struct{} // closed by Drain
}

// New returns a server.
func New(c Config) (*Server, error) {
	if c.Store == nil || c.Leader == nil || c.Status == nil || c.Backfills == nil {
		return nil, errors.New("admin service: store, leader, status and backfills are required")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{c: c, log: quiet.New(c.Logger, time.Minute), calls: make(proc.Semaphore, maxCalls), watches: make(proc.Semaphore, maxWatches), draining: make(chan struct{})}, nil
}

// Drain ends streams and rejects new calls with DRAINING. It does not wait.
func (s *Server) Drain() { s.drainOnce.Do(func() { close(s.draining) }) }

// admit waits for a place. The caller calls release.
func (s *Server) admit(ctx context.Context, places proc.Semaphore) (release func(), err error) {
	select {
	case <-s.draining:
		return nil, errDraining
	default:
	}
	bounded, cancel := context.WithTimeoutCause(ctx, queue, errManyCalls)
	defer cancel()
	if err := places.Acquire(bounded); err != nil {
		return nil, err
	}
	return places.Release, nil
}

// answer runs one unary call, and converts its error to a status.
func answer[Q, A any](ctx context.Context, s *Server, call string, timeout time.Duration, req *Q, do func(context.Context, *Q) (*A, error)) (*A, error) {
	release, err := s.admit(ctx, s.calls)
	if err != nil {
		return nil, s.status(ctx, call, err)
	}
	defer release()
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out, err := do(bounded, req)
	if err != nil {
		return nil, s.status(ctx, call, err)
	}
	return out, nil
}

// WatchBackfill implements adminv1.AdminServiceServer.
func (s *Server) WatchBackfill(req *adminv1.WatchBackfillRequest, ss grpc.ServerStreamingServer[adminv1.WatchBackfillResponse]) error {
	const call = "WatchBackfill"
	release, err := s.admit(ss.Context(), s.watches)
	if err != nil {
		return s.status(ss.Context(), call, err)
	}
	defer release()
	ctx, cancel := s.untilDrained(ss.Context())
	defer cancel()
	err = s.c.Backfills.WatchBackfill(ctx, req, func(m *adminv1.WatchBackfillResponse) error {
		if err := ss.Send(m); err != nil {
			return reason.Sent(err)
		}
		return nil
	})
	return s.status(ss.Context(), call, orDraining(ctx, err))
}

// untilDrained is a context that ends when the server shuts down.
func (s *Server) untilDrained(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-s.draining:
			cancel(errDraining)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// orDraining is errDraining if that ended the context of a call that failed.
func orDraining(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, errDraining) && !errors.Is(err, poll.ErrOutcomeUnknown) {
		return cause
	}
	return err
}
