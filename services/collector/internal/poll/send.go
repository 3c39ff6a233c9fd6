package poll

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/journal"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
	"github.com/weir-metrics/weir/services/collector/internal/trusted"
	"github.com/weir-metrics/weir/services/collector/internal/upstream"
	"github.com/weir-metrics/weir/services/collector/internal/writes"
)

// sender sends requests to Cloudflare, each with a permit, and handles failures that
// concern a whole line.
type sender struct {
	*env
	faults  *faults
	books   *books
	lines   lines
	journal *journal.Journal

	responded bool // Cloudflare responded since the pass began
}

// permit takes a permit for one request. It is a write to the store if a block of permits must
// be reserved.
func (s *sender) permit(ctx context.Context, l *line, lane quota.Lane) (ok bool, wait time.Duration, err error) {
	err = s.journal.Write(ctx, writes.Permits, func() error {
		ok, wait, err = l.Budget.TryTake(ctx, lane)
		return err
	})
	return ok, wait, err
}

// send sends one request. The time of the reading is from before it was sent.
func (s *sender) send(ctx context.Context, r plan.Request) (*cloudflare.Response, bucket.Time, error) {
	if r.State() {
		return s.sendState(ctx, r)
	}
	q := about(r.Scopes)
	for i, sel := range r.Selections {
		q.Selections = append(q.Selections, selection(alias(i), sel))
	}
	l, readAt := s.books.lineOf(r.Scopes[0]), s.trusted.Second()
	sent, began := s.clock.Now(), time.Now()
	response, err := l.Client.Query(ctx, q)
	l.Budget.Over()
	s.metrics.duration.Observe(time.Since(began).Seconds())
	s.metrics.requests.WithLabelValues(r.Lane.String()).Inc()
	if err != nil {
		return nil, 0, err
	}
	if !response.Date.IsZero() {
		s.responded = true
		s.trusted.Observe(trusted.Cloudflare, sent, s.clock.Now(), response.Date, time.Second)
		// If our clock has jumped ahead since it was last compared, the windows are
		// younger than they seemed.
		readAt = min(readAt, s.trusted.Second())
	}
	return response, readAt, nil
}

// about begins a query for scopes: several zones, or one account.
func about(scopes []bucket.Scope) (q cloudflare.Query) {
	for _, sc := range scopes {
		if sc.Kind == bucket.Account {
			q.AccountID = sc.ID
		} else {
			q.Zones = append(q.Zones, sc.ID)
		}
	}
	return q
}

// inLog is a scope as a log attribute.
func inLog(sc bucket.Scope) slog.Attr { return slog.String(sc.Kind.String(), sc.ID) }

func alias(i int) string { return fmt.Sprintf("s%d", i) }

// refusedAsWhole handles errors that do not depend on the request, and block the line.
func (s *sender) refusedAsWhole(l *line, r plan.Request, e *cloudflare.Error) bool {
	switch e.Class {
	case cloudflare.Budget:
		if scopes, _ := named(r, e); len(scopes) > 0 {
			return false // of one zone, which waits alone
		}
		l.Budget.Refused(e.RetryAfter)
		s.failAll(r, ledger.UpstreamError, e)
		wait := e.RetryAfter
		if wait <= 0 {
			wait = 5 * time.Minute // the time in Cloudflare's message
		}
		s.log.Debug("waiting for the query budget", "credential", l.Name, "wait", wait, "ray", e.Ray) // the limiter logs a warning
		l.blocked = s.trusted.Second().Add(wait)
		return true
	case cloudflare.Auth:
		s.failAll(r, ledger.Unauthorized, e)
		s.faults.away(l, e, ledger.Unauthorized, tokenRefused)
		return true
	default:
		return false
	}
}

func (s *sender) failAll(r plan.Request, reason ledger.Reason, e *cloudflare.Error) {
	jitter := s.rng.Float64()
	for _, sel := range r.Selections {
		for _, sc := range r.Scopes {
			of := ledger.Series{Dataset: sel.Dataset.Dataset, Scope: sc}
			s.faults.failWith(of, reason, e.Error(), jitter, seriesFailed)
		}
	}
	s.quiet.Warn(e.Class.String()+" "+e.Message, "requests to Cloudflare fail", "class", e.Class.String(), "zones", len(r.Scopes), "selections", len(r.Selections), "err", e, bodyOf(e))
}

// bodyOf is the beginning of the response body, if there is one.
func bodyOf(e *cloudflare.Error) slog.Attr {
	if e.Body == "" {
		return slog.Attr{}
	}
	return slog.String("body", e.Body)
}

// upstreamFailed records a failure of a list or of settings, which are tried again later; an
// error of the store is returned and ends the term.
func (s *sender) upstreamFailed(ctx context.Context, l *line, level slog.Level, what string, err error) error {
	var e *cloudflare.Error
	if ctx.Err() != nil || !errors.As(err, &e) {
		return err
	}
	s.metrics.errors.WithLabelValues(e.Class.String()).Inc()
	s.quiet.Log(ctx, level, l.about(e.Class.String()+" "+e.Message), "cannot "+what+" at Cloudflare", "credential", l.Name, "class", e.Class.String(), "err", err, bodyOf(e))
	switch {
	case e.Class == cloudflare.Budget:
		l.Budget.Refused(e.RetryAfter)
		l.blocked = s.trusted.Second().Add(max(e.RetryAfter, 5*time.Minute))
	case e.Class == cloudflare.Auth || !s.books.owns(l): // otherwise requests for known zones may succeed
		s.faults.away(l, e, upstream.ReasonOf(e), tokenRefused)
	}
	return nil
}

// compareClocks requests the time of Cloudflare if its clock was last seen behind ours and no
// response came since. While it is behind, no window falls due and nothing is requested, so no
// other response would correct it.
func (s *sender) compareClocks(ctx context.Context) {
	responded := s.responded
	s.responded = false
	if !responded && s.trusted.Skew(trusted.Cloudflare) < 0 {
		s.askClock(ctx)
	}
}

// askClock requests the time of Cloudflare.
func (s *sender) askClock(ctx context.Context) {
	for _, l := range s.lines { // the first that gets a response
		sent := s.clock.Now()
		date, err := l.Client.Date(ctx)
		if err == nil {
			s.trusted.Observe(trusted.Cloudflare, sent, s.clock.Now(), date, time.Second)
			return
		}
		s.quiet.Warn("", "cannot compare clocks with Cloudflare, whose clock was behind", "credential", l.Name, "err", err)
	}
}

// named is the part of a request that an error names: scopes, and one selection; none and -1 if
// it names none. A field that only one selection requests names it.
func named(r plan.Request, e *cloudflare.Error) (scopes []bucket.Scope, selection int) {
	for _, sc := range r.Scopes {
		if names(e, sc) {
			scopes = append(scopes, sc)
		}
	}
	selection = -1
	for i, sel := range r.Selections {
		switch {
		case alias(i) == e.Alias:
			return scopes, i
		case e.Field == "" || !asks(sel, e.Field):
		case selection >= 0:
			return scopes, -1
		default:
			selection = i
		}
	}
	return scopes, selection
}

// names reports whether an error names a scope.
func names(e *cloudflare.Error, sc bucket.Scope) bool {
	if sc.Kind == bucket.Account {
		return sc.ID == e.Account
	}
	return sc.ID == e.Zone || slices.Contains(e.Zones, sc.ID)
}

// selection converts a planned selection for the client.
func selection(alias string, sel plan.Selection) cloudflare.Selection {
	ask := sel.Dataset.Selection(sel.Variant)
	return cloudflare.Selection{
		Alias: alias, Node: sel.Variant.Node, FilterField: sel.Variant.FilterField, Window: sel.Window,
		Filter: sel.Variant.Filter, Dimensions: ask.Dimensions, TimeDimension: sel.Variant.TimeDimension,
		Fields: ask.Fields, Confidence: ask.Confidence, Limit: sel.Limit, OrderBy: ask.OrderBy,
	}
}
