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
	ReasonNoCounters          = "NO_COUNTERS"
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

// retryDelay returns the delay of a google.rpc.RetryInfo; 0 if there is none.
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

// Errors with which the follower itself ends a stream; the handler's Disconnected
// receives them wrapped.
var (
	// ErrContract: the server violated the API.
	ErrContract = errors.New("server violated the API")
	// ErrIdle: nothing arrived for Options.Idle.
	ErrIdle = errors.New("stream was idle for too long")
	// ErrStepBack: a snapshot has a lower revision than the applied one, and no
	// server has reported that the history changed.
	ErrStepBack = errors.New("snapshot is older than the applied revision")
	// ErrHandler: the handler's Entry returned an error, which is wrapped too.
	ErrHandler = errors.New("handler rejected an entry")
	// ErrOtherRules: the server counts by rules that the handler does not know. The
	// handler's CounterEpoch returns it; ErrHandler wraps it.
	ErrOtherRules = errors.New("the collector counts by other rules")

	// errRecognised ends a probe: the server has the applied point, so its snapshot
	// will no longer step back.
	errRecognised = errors.New("server has caught up with the applied revision")
)

func violation(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrContract, fmt.Errorf(format, args...))
}

type next int

const (
	asBefore next = iota // resume, or repeat the snapshot request
	snapshot             // take a snapshot
	probe                // resume from the applied point, to learn whether it is of this history
)

type pace int

const (
	backoff pace = iota
	now
	long
)

// verdict says what follows the end of a stream.
type verdict struct {
	next    next
	pace    pace
	broken  bool // the handler's view may be inconsistent
	foreign bool // the applied point is not of the server's history
	level   slog.Level
	loud    bool // log at level at once, not only after a while without a working stream
	calm    bool // the server announced the end: log only if it lasts
	message string
}

// otherCounters is about a server of a release that counts in another way. It may be upgraded.
var otherCounters = verdict{next: snapshot, pace: long, broken: true, level: slog.LevelWarn, loud: true, message: "collector does not know these counters; run the same release"}

// judge is the table of errors and what follows them.
func judge(err error) verdict {
	switch {
	case errors.Is(err, ErrContract):
		return verdict{next: snapshot, broken: true, level: slog.LevelError, loud: true, message: "server violated the API, taking a new snapshot"}
	case errors.Is(err, ErrOtherRules):
		return otherCounters
	case errors.Is(err, ErrHandler):
		return verdict{next: snapshot, broken: true, level: slog.LevelError, loud: true, message: "handler rejected an entry, taking a new snapshot"}
	case errors.Is(err, ErrStepBack):
		return verdict{next: probe, level: slog.LevelWarn, message: "snapshot is older than the applied revision, keeping the view"}
	case errors.Is(err, errRecognised):
		return verdict{next: snapshot, pace: now, level: slog.LevelDebug, message: "server has caught up, taking a new snapshot"}
	case errors.Is(err, ErrIdle):
		return verdict{level: slog.LevelWarn, loud: true, message: "stream is idle, opening a new one"}
	}
	switch Reason(err) {
	case ReasonCompacted:
		return verdict{next: snapshot, pace: now, level: slog.LevelInfo, message: "resume point was compacted, taking a new snapshot"}
	case ReasonOtherStore, ReasonHistoryChanged, ReasonFutureRevision:
		return verdict{next: snapshot, pace: now, foreign: true, level: slog.LevelWarn, loud: true, message: "history of the store changed, taking a new snapshot"}
	case ReasonDraining:
		return verdict{calm: true, level: slog.LevelWarn, message: "collector is unavailable, backing off"}
	case ReasonBehind, ReasonStoreUnavailable, ReasonNoCounters:
		return verdict{level: slog.LevelWarn, message: "collector is unavailable, backing off"}
	case ReasonCredentialWithdrawn:
		return verdict{level: slog.LevelInfo, message: "credential was revoked, reconnecting with the current one"}
	case ReasonSlowReader, ReasonTooManyStreams:
		return verdict{level: slog.LevelWarn, message: "collector limited this stream, backing off"}
	}
	// Errors of the transport, a proxy or the credentials, and of later releases,
	// have a code but no known reason.
	switch status.Code(err) {
	case codes.OutOfRange:
		return verdict{next: snapshot, pace: now, level: slog.LevelInfo, message: "resume point was compacted, taking a new snapshot"}
	case codes.FailedPrecondition:
		return verdict{next: snapshot, pace: now, foreign: true, level: slog.LevelWarn, loud: true, message: "history of the store changed, taking a new snapshot"}
	case codes.InvalidArgument, codes.Unimplemented:
		return verdict{pace: long, level: slog.LevelError, loud: true, message: "collector rejected the request as malformed"}
	case codes.Unauthenticated, codes.PermissionDenied:
		return verdict{pace: long, level: slog.LevelError, loud: true, message: "collector rejected the credential"}
	}
	return verdict{level: slog.LevelWarn, message: "stream ended, backing off"}
}
