// Package leader calls the AdminService of the collector that leads. Calls may reach a
// standby, or no collector for a moment while another one takes over: they are repeated.
package leader

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/clock"
)

const (
	// patience is how long a call is repeated: a standby takes over within half a minute.
	patience = 45 * time.Second
	pause    = time.Second
	// silent is how long it is repeated without a word.
	silent = 3 * time.Second
)

// Call makes a call until it reaches the leader, or patience ends. A call whose outcome is not
// known is not repeated, unless repeatable says that it may be. Waiting is told once if that
// takes a while, with the time until which the call is repeated and its last error; may be nil.
func Call[Q, A any](ctx context.Context, c clock.Clock, repeatable bool, waiting func(until time.Time, err error), req Q, do func(context.Context, Q) (A, error)) (A, error) {
	began := c.Now()
	until := began.Add(patience)
	for {
		out, err := do(ctx, req)
		if err == nil || !again(err, repeatable) || !c.Now().Before(until) {
			return out, err
		}
		if waiting != nil && c.Now().Sub(began) >= silent {
			waiting(until, err)
			waiting = nil
		}
		if stopped := c.WaitUntil(ctx, c.Now().Add(pause)); stopped != nil {
			return out, err
		}
	}
}

// again reports whether an error may be over at the next attempt.
func again(err error, repeatable bool) bool {
	switch client.Reason(err) {
	case "NOT_LEADER", "DRAINING":
		return true
	case "OUTCOME_UNKNOWN":
		return repeatable
	}
	// Without a reason the connection failed, perhaps after the call was carried out.
	return status.Code(err) == codes.Unavailable && repeatable
}
