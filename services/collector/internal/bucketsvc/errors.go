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
	errTooManyStreams = errors.New("stream limit reached")
	errManySnapshots  = errors.New("snapshot limit reached")
	errManyLists      = errors.New("list limit reached")
	errManyCalls      = errors.New("call limit reached")
	errStalled        = errors.New("client did not read a message in time")
	errSlowSnapshot   = errors.New("client read a snapshot too slowly")
)

// requestError is an invalid request. Its text names field and value and is sent to
// the client.
type requestError struct{ text string }

func (e *requestError) Error() string { return e.text }

func badRequest(format string, args ...any) error {
	return &requestError{fmt.Sprintf(format, args...)}
}

// sendError is a failure to send: the client disconnected. It already has a gRPC
// status, and nobody to receive it.
type sendError struct{ err error }

func (e *sendError) Error() string { return "send: " + e.err.Error() }
func (e *sendError) Unwrap() error { return e.err }

// Clients that reach a limit are asked to wait for retryStream if the limit is on
// streams, which last as long as their clients, and for retryRead otherwise: a snapshot
// takes about a second.
const (
	retryStream = 10 * time.Second
	retryRead   = 2 * time.Second
)

// table maps errors to codes. The texts are sent to clients; the error itself may name
// hosts and tables and is only logged. Errors that many clients can cause are logged
// at info at most, and not every time: the metrics count the calls by code.
var table = []struct {
	err    error
	code   codes.Code
	reason string
	text   string
	level  slog.Level
	retry  time.Duration // 0: the client decides
}{
	{store.ErrCompacted, codes.OutOfRange, "COMPACTED", "the resume point is older than the oldest stored entry; take a snapshot", slog.LevelInfo, 0},
	{feed.ErrOtherStore, codes.FailedPrecondition, "OTHER_STORE", "the resume point belongs to another store; take a snapshot", slog.LevelWarn, 0},
	{feed.ErrHistoryChanged, codes.FailedPrecondition, "HISTORY_CHANGED", "the history of the store changed before the resume point; take a snapshot", slog.LevelWarn, 0},
	{feed.ErrFutureRevision, codes.FailedPrecondition, "FUTURE_REVISION", "the revision is beyond the head of the store; take a snapshot", slog.LevelWarn, 0},
	{feed.ErrBehind, codes.Unavailable, "BEHIND", "this collector has not read the log that far yet; retry, or try another collector", slog.LevelInfo, 0},
	{errReread, codes.Unavailable, "BEHIND", "unreadable entries were found while reading the snapshot, so it is incomplete; retry", slog.LevelInfo, 0},
	{feed.ErrSlowReader, codes.ResourceExhausted, "SLOW_READER", "the stream fell behind the lag limit; resume from the last point received", slog.LevelInfo, 0},
	{errStalled, codes.ResourceExhausted, "SLOW_READER", "the client did not read for too long; resume from the last point received", slog.LevelInfo, 0},
	{errSlowSnapshot, codes.ResourceExhausted, "SLOW_READER", "the client read the snapshot too slowly; read it faster, or request a smaller one", slog.LevelInfo, 0},
	{errTooManyStreams, codes.ResourceExhausted, "TOO_MANY_STREAMS", "stream limit reached; back off, or try another collector", slog.LevelInfo, retryStream},
	{errManySnapshots, codes.ResourceExhausted, "TOO_MANY_STREAMS", "snapshot limit reached; back off, or try another collector", slog.LevelInfo, retryRead},
	{errManyLists, codes.ResourceExhausted, "TOO_MANY_STREAMS", "list limit reached; back off, or try another collector", slog.LevelInfo, retryRead},
	{errManyCalls, codes.ResourceExhausted, "TOO_MANY_STREAMS", "call limit reached; back off, or try another collector", slog.LevelInfo, retryRead},
	{errDraining, codes.Unavailable, "DRAINING", "this collector is shutting down; reconnect", slog.LevelDebug, 0},
	{feed.ErrStopped, codes.Unavailable, "DRAINING", "this collector is shutting down; reconnect", slog.LevelDebug, 0},
	{store.ErrUnavailable, codes.Unavailable, "STORE_UNAVAILABLE", "the database is unavailable; back off", slog.LevelDebug, 0}, // the feed logs it
}

// status converts the error of a call to the client's status. ctx is the call's.
func (s *Server) status(ctx context.Context, call string, err error) error {
	if err == nil {
		return nil
	}
	var request *requestError
	if errors.As(err, &request) {
		s.log.Info(call, "request rejected", "call", call, "err", err)
		return reason.Error(codes.InvalidArgument, "BAD_REQUEST", request.text)
	}
	if ctx.Err() != nil {
		// The client disconnected or its deadline passed, whatever the error is.
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
		// Not the client's deadline, so our timeout of the database.
		s.log.Warn(call, "database timed out", "call", call, "err", err)
		return reason.Error(codes.Unavailable, "STORE_UNAVAILABLE", "the database timed out; back off")
	}
	id, answer := reason.Internal(call, err.Error())
	s.log.Error(id, "call failed", "call", call, "error_id", id, "err", err)
	return answer
}
