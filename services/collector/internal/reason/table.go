package reason

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/weir-metrics/weir/internal/quiet"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Row maps an error to a status. The text is sent to clients; the error itself may name
// hosts and tables and is only logged. Errors that many clients can cause are logged
// at info at most, and not every time: the metrics count the calls by code.
type Row struct {
	Err    error
	Code   codes.Code
	Reason string
	Text   string
	Level  slog.Level
	Retry  time.Duration // 0: the client decides
}

// Table is the mapping of one service. An error is mapped by the first row that it is.
type Table []Row

// requestError is an invalid request. Its text names field and value and is sent to
// the client.
type requestError struct{ text string }

func (e *requestError) Error() string { return e.text }

// BadRequest is the error of an invalid request. The text names the field, its value and
// what would be right, and is sent to the client.
func BadRequest(format string, args ...any) error {
	return &requestError{fmt.Sprintf(format, args...)}
}

// sent is an error that is a status already.
type sent struct{ err error }

func (e *sent) Error() string { return e.err.Error() }
func (e *sent) Unwrap() error { return e.err }

// Sent marks an error that has a gRPC status, which is the client's.
func Sent(err error) error { return &sent{err} }

// Status converts the error of a call to the client's status, and logs it. ctx is the
// call's.
func (t Table) Status(ctx context.Context, log *quiet.Log, call string, err error) error {
	if err == nil {
		return nil
	}
	var request *requestError
	if errors.As(err, &request) {
		log.Info(call, "request rejected", "call", call, "err", err)
		return Error(codes.InvalidArgument, "BAD_REQUEST", request.text)
	}
	if ctx.Err() != nil {
		// The client disconnected or its deadline passed, whatever the error is.
		return status.FromContextError(ctx.Err()).Err()
	}
	var ready *sent
	if errors.As(err, &ready) {
		return ready.err
	}
	for _, row := range t {
		if errors.Is(err, row.Err) {
			log.Log(ctx, row.Level, call+" "+row.Reason, "call ended", "call", call, "reason", row.Reason, "err", err)
			if row.Retry > 0 {
				return Later(row.Code, row.Reason, row.Text, row.Retry)
			}
			return Error(row.Code, row.Reason, row.Text)
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		// Not the client's deadline, so our timeout of the database.
		log.Warn(call, "database timed out", "call", call, "err", err)
		return Error(codes.Unavailable, "STORE_UNAVAILABLE", "the database timed out; back off")
	}
	id, answer := Internal(call, err.Error())
	log.Error(id, "call failed", "call", call, "error_id", id, "err", err)
	return answer
}
