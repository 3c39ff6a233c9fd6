package collector

import (
	"context"
	"fmt"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/poll"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

// acceptedEvery is the pause between two looks into a store in which Cloudflare has not
// accepted a token yet.
const acceptedEvery = 2 * time.Second

// refusals are the problems that explain why a token has not been accepted, in the order in
// which they are shown.
var refusals = []trouble.Code{trouble.TokenRefused, trouble.UnknownRefusal, trouble.UpstreamFailing}

// watchAcceptance looks until Cloudflare has accepted a token of the store, so that a standby,
// and a process that starts while a token is refused, learn it from the store. The leader is told
// by its loop. It returns when ctx ends.
func (c *Collector) watchAcceptance(ctx context.Context) error {
	for !c.accepted.Load() {
		if is, err := poll.TokenAccepted(ctx, c.store); err == nil && is {
			c.accepted.Store(true)
			break
		} else if err == nil {
			c.readRefusal(ctx)
		}
		select {
		case <-time.After(acceptedEvery):
		case <-ctx.Done():
			return nil
		}
	}
	<-ctx.Done()
	return nil
}

// readRefusal keeps the problem of the leader that explains why no token was accepted.
func (c *Collector) readRefusal(ctx context.Context) {
	problems := c.trouble.List(true)
	if !c.leading.Load() {
		head, err := c.store.Head(ctx)
		if err != nil {
			return
		}
		records, err := c.store.Records(ctx, trouble.KindProblems)
		if err != nil {
			return
		}
		problems = trouble.Read(head.Term, records)
	}
	reason := "there is no answer of Cloudflare yet"
	for _, code := range refusals {
		for _, p := range problems {
			if p.Code == code {
				reason = p.Message
				c.refusal.Store(&reason)
				return
			}
		}
	}
	c.refusal.Store(&reason)
}

// Accepted returns why a new store is not collected into, or nil if Cloudflare has accepted a
// token of the store at any time: from then on exposers live on what is stored. Safe for
// concurrent use.
func (c *Collector) Accepted() error {
	if c.accepted.Load() {
		return nil
	}
	reason := "the store has not been read yet"
	if r := c.refusal.Load(); r != nil {
		reason = *r
	}
	return fmt.Errorf("nothing has been collected: Cloudflare has not accepted an API token yet: %s", reason)
}
