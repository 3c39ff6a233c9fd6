package bucketsvc

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/feed"
	"github.com/weir-metrics/weir/services/collector/internal/reason"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/totals"
	"google.golang.org/grpc/codes"
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

// badRequest is an invalid request.
var badRequest = reason.BadRequest

// Clients that reach a limit are asked to wait for retryStream if the limit is on
// streams, which last as long as their clients, and for retryRead otherwise: a snapshot
// takes about a second.
const (
	retryStream = 10 * time.Second
	retryRead   = 2 * time.Second
)

// table maps errors to codes.
var table = reason.Table{
	{Err: store.ErrCompacted, Code: codes.OutOfRange, Reason: "COMPACTED", Level: slog.LevelInfo, Text: "the resume point is older than the oldest stored entry; take a snapshot"},
	{Err: feed.ErrOtherStore, Code: codes.FailedPrecondition, Reason: "OTHER_STORE", Level: slog.LevelWarn, Text: "the resume point belongs to another store; take a snapshot"},
	{Err: feed.ErrHistoryChanged, Code: codes.FailedPrecondition, Reason: "HISTORY_CHANGED", Level: slog.LevelWarn, Text: "the history of the store changed before the resume point; take a snapshot"},
	{Err: feed.ErrFutureRevision, Code: codes.FailedPrecondition, Reason: "FUTURE_REVISION", Level: slog.LevelWarn, Text: "the revision is beyond the head of the store; take a snapshot"},
	{Err: feed.ErrBehind, Code: codes.Unavailable, Reason: "BEHIND", Level: slog.LevelInfo, Text: "this collector has not read the log that far yet; retry, or try another collector"},
	{Err: errReread, Code: codes.Unavailable, Reason: "BEHIND", Level: slog.LevelInfo, Text: "unreadable entries were found while reading the snapshot, so it is incomplete; retry"},
	{Err: totals.ErrNone, Code: codes.Unavailable, Reason: "NO_COUNTERS", Level: slog.LevelInfo, Text: "no leader has begun to count in this store yet; back off"},
	{Err: totals.ErrUnusable, Code: codes.Unavailable, Reason: "NO_COUNTERS", Level: slog.LevelWarn, Text: "the stored totals of counters cannot be used until the leader replaces them; back off"},
	{Err: feed.ErrSlowReader, Code: codes.ResourceExhausted, Reason: "SLOW_READER", Level: slog.LevelInfo, Text: "the stream fell behind the lag limit; resume from the last point received"},
	{Err: errStalled, Code: codes.ResourceExhausted, Reason: "SLOW_READER", Level: slog.LevelInfo, Text: "the client did not read for too long; resume from the last point received"},
	{Err: errSlowSnapshot, Code: codes.ResourceExhausted, Reason: "SLOW_READER", Level: slog.LevelInfo, Text: "the client read the snapshot too slowly; read it faster, or request a smaller one"},
	{Err: errTooManyStreams, Code: codes.ResourceExhausted, Reason: "TOO_MANY_STREAMS", Level: slog.LevelInfo, Retry: retryStream, Text: "stream limit reached; back off, or try another collector"},
	{Err: errManySnapshots, Code: codes.ResourceExhausted, Reason: "TOO_MANY_STREAMS", Level: slog.LevelInfo, Retry: retryRead, Text: "snapshot limit reached; back off, or try another collector"},
	{Err: errManyLists, Code: codes.ResourceExhausted, Reason: "TOO_MANY_STREAMS", Level: slog.LevelInfo, Retry: retryRead, Text: "list limit reached; back off, or try another collector"},
	{Err: errManyCalls, Code: codes.ResourceExhausted, Reason: "TOO_MANY_STREAMS", Level: slog.LevelInfo, Retry: retryRead, Text: "call limit reached; back off, or try another collector"},
	{Err: errDraining, Code: codes.Unavailable, Reason: "DRAINING", Level: slog.LevelDebug, Text: "this collector is shutting down; reconnect"},
	{Err: feed.ErrStopped, Code: codes.Unavailable, Reason: "DRAINING", Level: slog.LevelDebug, Text: "this collector is shutting down; reconnect"},
	{Err: store.ErrUnavailable, Code: codes.Unavailable, Reason: "STORE_UNAVAILABLE", Level: slog.LevelDebug, Text: "the database is unavailable; back off"}, // the feed logs it
}

// status converts the error of a call to the client's status. ctx is the call's.
func (s *Server) status(ctx context.Context, call string, err error) error {
	return table.Status(ctx, s.log, call, err)
}
