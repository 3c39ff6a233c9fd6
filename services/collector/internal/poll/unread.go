package poll

import (
	"context"
	"errors"
	"log/slog"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/backoff"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/upstream"
)

// failed handles a request that failed. If one scope voided the response for all, it is the one
// that the error names, or is in one of the halves, which are requested next.
func (s *settings) failed(ctx context.Context, of *line, l *list, ask plan.Ask, failure error) error {
	l.voided++
	blamed, wait, rest := ask.Scopes, settingsDenied, []plan.Ask(nil)
	e := (*cloudflare.Error)(nil)
	if errors.As(failure, &e) {
		named, others := apartFrom(ask, e)
		if e.Class == cloudflare.Unknown {
			wait = settingsUnknown
		}
		switch {
		case e.Class == cloudflare.Budget || e.Class == cloudflare.Auth || e.Class == cloudflare.Transient && len(named) == 0:
			wait, l.voided = settingsAway, mostVoided // no scope is to blame: other requests would fail too
		case saysNothing(e) && !l.granting && l.voided > cellsAsked:
			// All requests were refused alike.
			s.metrics.errors.WithLabelValues(e.Class.String()).Inc()
			s.settingsRefusedAlike(of, l, e, ask.Scopes)
			return nil
		case e.Class == cloudflare.TooBig && len(ask.Scopes)*len(ask.Nodes) > 1:
			s.ceilings.Selections = min(s.ceilings.Selections, len(ask.Scopes)*len(ask.Nodes)/2)
			blamed, rest = nil, plan.Settings(ask.Scopes, ask.Nodes, s.ceilings)
		case len(ask.Scopes) == 1:
		case len(named) > 0:
			blamed, rest = named, []plan.Ask{{Scopes: others, Nodes: ask.Nodes}}
		default:
			half := len(ask.Scopes) / 2
			blamed, rest = nil, []plan.Ask{{Scopes: ask.Scopes[:half], Nodes: ask.Nodes}, {Scopes: ask.Scopes[half:], Nodes: ask.Nodes}}
		}
	}
	l.queue = append(rest, l.queue...)
	if len(blamed) == 0 {
		return nil
	}
	level := s.leaveUnread(wait, e, blamed...)
	if e != nil && saysNothing(e) && !l.granting {
		l.suspects = append(l.suspects, blamed...)
	}
	return s.sender.upstreamFailed(ctx, of, level, "read entitlements", failure)
}

// apartFrom are the scopes of a document that an error names, and the others.
func apartFrom(ask plan.Ask, e *cloudflare.Error) (named, others []bucket.Scope) {
	for _, sc := range ask.Scopes {
		if names(e, sc) {
			named = append(named, sc)
		} else {
			others = append(others, sc)
		}
	}
	return named, others
}

// leaveUnread postpones the settings of scopes, and returns the log level: a warning only for
// the first failure of a scope.
func (s *settings) leaveUnread(wait backoff.Pauses, e *cloudflare.Error, scopes ...bucket.Scope) slog.Level {
	level, jitter := slog.LevelDebug, s.rng.Float64()
	for _, sc := range scopes {
		if s.unread[sc] == nil {
			s.unread[sc], level = &unread{}, slog.LevelWarn
		}
		u := s.unread[sc]
		u.blamed = wait != settingsAway
		u.refusal = e
		u.Fail(s.trusted.Second(), wait, jitter)
	}
	return level
}

// settingsRefusedAlike removes the blame from scopes whose settings were refused, since all
// were refused, and leaves the rest of the list for later. If no scope of the line has
// settings, the line pauses.
func (s *settings) settingsRefusedAlike(of *line, l *list, e *cloudflare.Error, scopes []bucket.Scope) {
	for _, sc := range l.suspects {
		s.unread[sc].blamed = false
	}
	s.leaveUnread(settingsAway, e, scopes...)
	l.voided, l.suspects = mostVoided, nil
	if !s.anySettings(of) {
		s.faults.away(of, e, upstream.ReasonOf(e), unknownForAll)
	}
}

// obstacles records with each scope why its settings cannot be read. What is said of its windows
// follows from that, by this process and by others, which read it from the store.
func (s *settings) obstacles() {
	for id, sc := range s.books.roster {
		if o := s.obstacle(sc); o != sc.Obstacle {
			sc.Obstacle = o
			s.books.dirty(id)
		}
	}
}

func (s *settings) obstacle(sc *roster.Scope) (o roster.Obstacle) {
	if sc.Checked != 0 || !sc.Listed() || !s.asksAnalytics(sc.Kind) {
		return o
	}
	u := s.unread[sc.Scope]
	outage, lasts := s.books.out(sc.Scope)
	switch {
	case lasts && (u == nil || !u.blamed):
		return roster.Obstacle{Reason: outage.Reason, Detail: outage.Detail}
	case u == nil: // what a leader before found is still valid
		return sc.Obstacle
	}
	o = roster.Obstacle{Reason: ledger.Unauthorized, Detail: "the analytics API does not show the " + sc.Kind.String(), Attempts: u.Failures, Next: u.Next}
	if u.refusal != nil {
		o.Reason, o.Detail = upstream.ReasonOf(u.refusal), u.refusal.Error()
	}
	return o
}

// saysNothing reports whether an error alone is no evidence about a scope.
func saysNothing(e *cloudflare.Error) bool {
	return e.Class == cloudflare.Unknown || e.Class == cloudflare.BadResponse
}
