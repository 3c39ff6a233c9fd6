package bucketsvc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/feed"
	"github.com/weir-metrics/weir/services/collector/internal/reason"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var (
	errDraining       = errors.New("server is shutting down")
	errTooManyStreams = errors.New("limit of streams is reached")
	errManySnapshots  = errors.New("as many snapshots as may be are being read")
	errManyLists      = errors.New("as many lists as may be are being read")
	errManyCalls      = errors.New("as many calls as may be are being answered")
	errStalled        = errors.New("client did not make room for a message in time")
	errSlowSnapshot   = errors.New("client took too little of a snapshot in time")
)

// requestError is a fault of the request. Its text names field and value and
// goes to the client.
type requestError struct{ text string }

func (e *requestError) Error() string { return e.text }

func badRequest(format string, args ...any) error {
	return &requestError{fmt.Sprintf(format, args...)}
}

// sendError is a fault of the stream: the client went away. It has a status
// already, from gRPC, and nobody to read it.
type sendError struct{ err error }

func (e *sendError) Error() string { return "send: " + e.err.Error() }
func (e *sendError) Unwrap() error { return e.err }

// Clients that found no place are asked to wait for retryStream if what is in
// the way lasts (a stream stays for as long as its client does), and for
// retryRead if it passes: a snapshot takes a second or so.
const (
	retryStream = 10 * time.Second
	retryRead   = 2 * time.Second
)

// table is the one place where errors become codes. The texts are what clients
// see; what the error itself says may name hosts and tables and stays in the log.
// What a crowd of clients can cause is not logged above info, and not each time:
// the calls are counted, by code.
var table = []struct {
	err    error
	code   codes.Code
	reason string
	text   string
	level  slog.Level
	retry  time.Duration // 0: the client knows best
}{
	{store.ErrCompacted, codes.OutOfRange, "COMPACTED", "the resume point is older than the oldest kept entry; take a snapshot", slog.LevelInfo, 0},
	{feed.ErrOtherStore, codes.FailedPrecondition, "OTHER_STORE", "the resume point is of another store; take a snapshot", slog.LevelWarn, 0},
	{feed.ErrHistoryChanged, codes.FailedPrecondition, "HISTORY_CHANGED", "the history of the store changed behind the resume point; take a snapshot", slog.LevelWarn, 0},
	{feed.ErrFutureRevision, codes.FailedPrecondition, "FUTURE_REVISION", "the revision is beyond the head of the store; take a snapshot", slog.LevelWarn, 0},
	{feed.ErrBehind, codes.Unavailable, "BEHIND", "this collector has not read that far yet; try again, or another one", slog.LevelInfo, 0},
	{errReread, codes.Unavailable, "BEHIND", "stored entries were found that cannot be read, and the view lacks as many windows; try again", slog.LevelInfo, 0},
	{feed.ErrSlowReader, codes.ResourceExhausted, "SLOW_READER", "the stream fell behind the lag limit; resume where it is", slog.LevelInfo, 0},
	{errStalled, codes.ResourceExhausted, "SLOW_READER", "the client did not read for too long; resume where it is", slog.LevelInfo, 0},
	{errSlowSnapshot, codes.ResourceExhausted, "SLOW_READER", "the client took too little of the snapshot for too long, and others wait for its place; read it as it comes, or ask for less", slog.LevelInfo, 0},
	{errTooManyStreams, codes.ResourceExhausted, "TOO_MANY_STREAMS", "the limit of streams of this collector is reached; back off, or try another one", slog.LevelInfo, retryStream},
	{errManySnapshots, codes.ResourceExhausted, "TOO_MANY_STREAMS", "this collector is reading as many snapshots as it may; back off, or try another one", slog.LevelInfo, retryRead},
	{errManyLists, codes.ResourceExhausted, "TOO_MANY_STREAMS", "this collector is reading as many lists as it may; back off, or try another one", slog.LevelInfo, retryRead},
	{errManyCalls, codes.ResourceExhausted, "TOO_MANY_STREAMS", "this collector is answering as many calls as it may; back off, or try another one", slog.LevelInfo, retryRead},
	{errDraining, codes.Unavailable, "DRAINING", "this collector is shutting down; reconnect", slog.LevelDebug, 0},
	{feed.ErrStopped, codes.Unavailable, "DRAINING", "this collector is shutting down; reconnect", slog.LevelDebug, 0},
	{store.ErrUnavailable, codes.Unavailable, "STORE_UNAVAILABLE", "the database is not available; back off", slog.LevelDebug, 0}, // the feed tells it
}

// status turns the end of a call into what the client gets. ctx is the call's.
func (s *Server) status(ctx context.Context, call string, err error) error {
	if err == nil {
		return nil
	}
	var request *requestError
	if errors.As(err, &request) {
		s.log.Info(call, "request refused", "call", call, "err", err)
		return reason.Error(codes.InvalidArgument, "BAD_REQUEST", request.text)
	}
	if ctx.Err() != nil {
		// The client went away or set a deadline, whatever error that became.
		return status.FromContextError(ctx.Err()).Err()
	}
	var send *sendError
	if errors.As(err, &send) {
		return send.err
	}
	for _, row := range table {
		if errors.Is(err, row.err) {
			s.log.Log(ctx, row.level, call+" "+row.reason, "call ended", "call", call, "reason", row.reason, "err", err)
			if row.retry > 0 {
				return reason.Later(row.code, row.reason, row.text, row.retry)
			}
			return reason.Error(row.code, row.reason, row.text)
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		// Not the client's deadline, so ours on the database.
		s.log.Warn(call, "database took too long", "call", call, "err", err)
		return reason.Error(codes.Unavailable, "STORE_UNAVAILABLE", "the database took too long; back off")
	}
	id, answer := reason.Internal(call, err.Error())
	s.log.Error(id, "call failed", "call", call, "error_id", id, "err", err)
	return answer
}
