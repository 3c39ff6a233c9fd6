// Package upstream has the credentials of Cloudflare's API, each with its own client,
// budget and outages. A refusal or an exhausted budget of one credential does not affect
// another.
package upstream

import (
	"context"
	"errors"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/backoff"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
)

// Client is the part of *cloudflare.Client that the loop uses.
type Client interface {
	Query(ctx context.Context, q cloudflare.Query) (*cloudflare.Response, error)
	Zones(ctx context.Context) ([]cloudflare.Zone, error)
	Accounts(ctx context.Context) ([]cloudflare.Account, error)
	Date(ctx context.Context) (time.Time, error)
	Settings(ctx context.Context, accountID string, zones, nodes []string) (map[string]map[string]cloudflare.Settings, error)
	State(ctx context.Context, node string, of bucket.Scope, more func(context.Context) error) ([]map[string]any, error)
}

// Budget grants permits to send requests (G7); *quota.Limiter implements it.
type Budget interface {
	// TryTake takes one permit for a lane. If none is free, ok is false, and wait is
	// the pause before the next attempt.
	TryTake(ctx context.Context, lane quota.Lane) (ok bool, wait time.Duration, err error)
	// Over reports that a request with a permit has ended, with any result.
	Over()
	// Share returns how many requests Weir may send in five minutes, and how many
	// Cloudflare allows the user.
	Share() (share, limit int)
	// Expect sets how many requests in five minutes keep the newest windows complete.
	Expect(need float64)
	// Leaves returns how many requests in five minutes urgent work leaves to a lane.
	Leaves(lane quota.Lane) int
	// Refused reports that Cloudflare refused a request because the budget was used
	// up, and how long it said to wait; 0 if it did not say.
	Refused(wait time.Duration)
}

// Credential is an API token with its budget and the scopes that it selects.
type Credential struct {
	Name   string // unique; stored with each scope that belongs to it
	Client Client
	// User is the Cloudflare user that owns the token. Credentials of one user have
	// one budget.
	User   string
	Budget Budget
	Select roster.Filter
}

// Outage is a failure that stops all requests of a credential while it lasts. The zero
// value is no outage.
type Outage struct {
	backoff.Backoff
	Reason ledger.Reason
	Detail string
}

// Active reports whether there is an outage.
func (o *Outage) Active() bool { return o.Reason != "" }

// Begin records a first or further failure with its reason. Jitter is as for
// [backoff.Backoff.Fail].
func (o *Outage) Begin(now bucket.Time, why error, reason ledger.Reason, p backoff.Pauses, jitter float64) {
	o.Fail(now, p, jitter)
	o.Reason, o.Detail = reason, why.Error()
}

// ReasonOf returns the reason, as in the ledger, of a window whose query failed with an
// error.
func ReasonOf(err error) ledger.Reason {
	var e *cloudflare.Error
	if !errors.As(err, &e) {
		return ledger.UpstreamError
	}
	switch e.Class {
	case cloudflare.BadResponse:
		return ledger.BadAnswer
	case cloudflare.Auth, cloudflare.Denied:
		return ledger.Unauthorized
	case cloudflare.Unknown:
		return ledger.Unknown
	}
	return ledger.UpstreamError
}
