package client

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Domain is the domain of the contract's error reasons.
const Domain = "weir.bucket.v1"

// Reasons of the contract, as [Reason] returns them.
const (
	ReasonCompacted           = "COMPACTED"
	ReasonOtherStore          = "OTHER_STORE"
	ReasonHistoryChanged      = "HISTORY_CHANGED"
	ReasonFutureRevision      = "FUTURE_REVISION"
	ReasonBehind              = "BEHIND"
	ReasonSlowReader          = "SLOW_READER"
	ReasonTooManyStreams      = "TOO_MANY_STREAMS"
	ReasonStoreUnavailable    = "STORE_UNAVAILABLE"
	ReasonDraining            = "DRAINING"
	ReasonCredentialWithdrawn = "CREDENTIAL_WITHDRAWN"
	ReasonBadRequest          = "BAD_REQUEST"
	ReasonInternal            = "INTERNAL"
)

// Reason returns the reason of the google.rpc.ErrorInfo that err carries, or ""
// if it carries none of this contract.
func Reason(err error) string {
	s, ok := status.FromError(err)
	if !ok || s == nil {
		return ""
	}
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == Domain {
			return info.GetReason()
		}
	}
	return ""
}

// retryDelay returns how long the server asks to wait, in a
// google.rpc.RetryInfo; 0 when it does not say.
func retryDelay(err error) time.Duration {
	s, ok := status.FromError(err)
	if !ok || s == nil {
		return 0
	}
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok && info.GetRetryDelay().CheckValid() == nil {
			return max(info.GetRetryDelay().AsDuration(), 0)
		}
	}
	return 0
}

// Errors that the follower itself ends a stream with; the handler's
// Disconnected gets them wrapped.
var (
	// ErrContract: the server sent what the contract rules out.
	ErrContract = errors.New("server broke the contract")
	// ErrIdle: nothing arrived for Options.Idle.
	ErrIdle = errors.New("stream was silent for too long")
	// ErrStepBack: a snapshot stands at a lower revision than what was applied,
	// and no server has said that the history changed.
	ErrStepBack = errors.New("snapshot is behind what was applied")
	// ErrHandler: the handler's Entry returned an error, which is wrapped too.
	ErrHandler = errors.New("handler refused an entry")

	// errRecognised ends a probe: the server knows the applied point, so a
	// snapshot will not step back any more.
	errRecognised = errors.New("server has caught up with what was applied")
)

func violation(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrContract, fmt.Errorf(format, args...))
}

type next int

const (
	asBefore next = iota // resume, or the snapshot that was asked for
	snapshot             // take a snapshot
	probe                // ask with the applied point, to learn whether it is of this history
)

type pace int

const (
	backoff pace = iota
	now
	long
)

// verdict says what follows from the end of a stream.
type verdict struct {
	next    next
	pace    pace
	broken  bool // the handler's view is in doubt
	foreign bool // the applied point is not of the server's history
	level   slog.Level
	loud    bool // at level at once, and not only when nothing has worked for a while
	calm    bool // it was announced, and is not logged unless it lasts
	message string
}

// judge is the one table of what is done about an error.
func judge(err error) verdict {
	switch {
	case errors.Is(err, ErrContract):
		return verdict{next: snapshot, broken: true, level: slog.LevelError, loud: true, message: "server broke the contract, taking a snapshot"}
	case errors.Is(err, ErrHandler):
		return verdict{next: snapshot, broken: true, level: slog.LevelError, loud: true, message: "handler refused an entry, taking a snapshot"}
	case errors.Is(err, ErrStepBack):
		return verdict{next: probe, level: slog.LevelWarn, message: "snapshot is behind what was applied, keeping the view"}
	case errors.Is(err, errRecognised):
		return verdict{next: snapshot, pace: now, level: slog.LevelDebug, message: "server has caught up, taking a snapshot"}
	case errors.Is(err, ErrIdle):
		return verdict{level: slog.LevelWarn, loud: true, message: "stream is silent, opening another"}
	}
	switch Reason(err) {
	case ReasonCompacted:
		return verdict{next: snapshot, pace: now, level: slog.LevelInfo, message: "resume point was compacted, taking a snapshot"}
	case ReasonOtherStore, ReasonHistoryChanged, ReasonFutureRevision:
		return verdict{next: snapshot, pace: now, foreign: true, level: slog.LevelWarn, loud: true, message: "history of the store changed, taking a snapshot"}
	case ReasonDraining:
		return verdict{calm: true, level: slog.LevelWarn, message: "collector is not available, waiting"}
	case ReasonBehind, ReasonStoreUnavailable:
		return verdict{level: slog.LevelWarn, message: "collector is not available, waiting"}
	case ReasonCredentialWithdrawn:
		return verdict{level: slog.LevelInfo, message: "credential was withdrawn, showing the present one"}
	case ReasonSlowReader, ReasonTooManyStreams:
		return verdict{level: slog.LevelWarn, message: "collector refused the pace, backing off"}
	}
	// Errors from between here and the service (transport, proxy, credentials)
	// and of a future release have a code and no reason known here.
	switch status.Code(err) {
	case codes.OutOfRange:
		return verdict{next: snapshot, pace: now, level: slog.LevelInfo, message: "resume point was compacted, taking a snapshot"}
	case codes.FailedPrecondition:
		return verdict{next: snapshot, pace: now, foreign: true, level: slog.LevelWarn, loud: true, message: "history of the store changed, taking a snapshot"}
	case codes.InvalidArgument, codes.Unimplemented:
		return verdict{pace: long, level: slog.LevelError, loud: true, message: "collector refused the request as malformed"}
	case codes.Unauthenticated, codes.PermissionDenied:
		return verdict{pace: long, level: slog.LevelError, loud: true, message: "collector refused the credential"}
	}
	return verdict{level: slog.LevelWarn, message: "stream ended, backing off"}
}
