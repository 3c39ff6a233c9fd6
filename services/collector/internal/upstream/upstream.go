// Package upstream is the ways to Cloudflare's API: one for each API token, with a
// client, a budget and failures of its own. What one token is refused, or has used
// up, says nothing about another.
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

// Client is Cloudflare as the loop needs it; *cloudflare.Client is one.
type Client interface {
	Query(ctx context.Context, q cloudflare.Query) (*cloudflare.Response, error)
	Zones(ctx context.Context) ([]cloudflare.Zone, error)
	Accounts(ctx context.Context) ([]cloudflare.Account, error)
	Date(ctx context.Context) (time.Time, error)
	Settings(ctx context.Context, accountID string, zones, nodes []string) (map[string]map[string]cloudflare.Settings, error)
}

// Budget gives leave to send one request (G7); *quota.Limiter is one.
type Budget interface {
	// TryTake takes one permit for a lane. ok is false when none is free before
	// wait has passed.
	TryTake(ctx context.Context, lane quota.Lane) (ok bool, wait time.Duration, err error)
	// Over tells that a request that had a permit is over, whatever came of it.
	Over()
	// Share is how many requests Weir may send in five minutes, of how many that
	// Cloudflare allows the user.
	Share() (share, limit int)
	// Expect tells how many requests in that time keep the newest windows complete.
	Expect(need float64)
	// Refused tells that Cloudflare refused a request for lack of budget, and
	// for how long it said to wait; 0 when it did not say.
	Refused(wait time.Duration)
}

// Credential is an API token, and what Weir may do with it.
type Credential struct {
	Name   string // unique; stored with each scope that is asked by it
	Client Client
	// User is the Cloudflare user that owns the token. Credentials of one user have
	// one budget.
	User   string
	Budget Budget
	Select roster.Filter
}

// Outage is why nothing can be asked with a credential, for as long as that lasts.
// The zero value is none.
type Outage struct {
	backoff.Backoff
	Reason ledger.Reason
	Detail string
}

// Active reports whether there is one.
func (o *Outage) Active() bool { return o.Reason != "" }

// Begin notes that something failed for a reason, or failed again. Jitter is that of
// [backoff.Backoff.Fail].
func (o *Outage) Begin(now bucket.Time, why error, reason ledger.Reason, p backoff.Pauses, jitter float64) {
	o.Fail(now, p, jitter)
	o.Reason, o.Detail = reason, why.Error()
}

// ReasonOf is why a window is missing that failed with an error: what the ledger
// says of its class.
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
