package adminsvc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"google.golang.org/grpc/codes"

	"github.com/weir-metrics/weir/services/collector/internal/poll"
	"github.com/weir-metrics/weir/services/collector/internal/reason"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

var (
	errDraining  = errors.New("server is shutting down")
	errManyCalls = errors.New("call limit reached")
)

// table maps errors to codes. Refusals of the loop are in [refusals], and NOT_LEADER,
// whose text names the leader, in [Server.notLeader].
var table = reason.Table{
	{Err: poll.ErrOutcomeUnknown, Code: codes.Unavailable, Reason: "OUTCOME_UNKNOWN", Level: slog.LevelWarn, Text: "the leader's term ended, or the database failed, while the request was carried out; read the audit events to see whether it was, before you retry"},
	{Err: errDraining, Code: codes.Unavailable, Reason: "DRAINING", Level: slog.LevelDebug, Text: "this collector is shutting down; reconnect"},
	{Err: errManyCalls, Code: codes.ResourceExhausted, Reason: "TOO_MANY_STREAMS", Level: slog.LevelInfo, Text: "call limit reached; back off"},
	{Err: store.ErrUnavailable, Code: codes.Unavailable, Reason: "STORE_UNAVAILABLE", Level: slog.LevelDebug, Text: "the database is unavailable; back off"},
}

// refusals maps the classes of refusals, whose texts are sent to clients.
var refusals = map[poll.Why]struct {
	code   codes.Code
	reason string
}{
	poll.Malformed: {codes.InvalidArgument, "BAD_REQUEST"},
	poll.NotFound:  {codes.NotFound, "NOT_FOUND"},
	poll.TooMany:   {codes.ResourceExhausted, "TOO_MANY_JOBS"},
	poll.Refused:   {codes.FailedPrecondition, "REFUSED"},
}

// status converts the error of a call to the client's status. ctx is the call's.
func (s *Server) status(ctx context.Context, call string, err error) error {
	var refusal *poll.Refusal
	switch {
	case errors.As(err, &refusal):
		as := refusals[refusal.Why]
		s.log.Info(call+" "+as.reason, "call refused", "call", call, "reason", as.reason, "err", err)
		return reason.Error(as.code, as.reason, refusal.Text)
	case errors.Is(err, poll.ErrNotLeading):
		return s.notLeader(ctx)
	}
	return table.Status(ctx, s.log, call, err)
}

// notLeader is NOT_LEADER with the name of the leader.
func (s *Server) notLeader(ctx context.Context) error {
	text := "this collector does not lead, and no other does: retry"
	switch head, err := s.c.Store.Head(ctx); {
	case err != nil:
		text = "this collector does not lead, and the database cannot be asked which one does: try another"
	case head.Holder != "" && head.ExpiresAt.After(head.Now):
		text = fmt.Sprintf("this collector does not lead; %s does: use that one", store.HolderName(head.Holder))
	}
	return reason.Error(codes.Unavailable, "NOT_LEADER", text)
}
