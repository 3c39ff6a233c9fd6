package poll

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/backoff"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
)

// settings reads what plans allow.
type settings struct {
	*Poller
	*faults
	*books
	*writer
	*asker
	unread   map[bucket.Scope]*unread // scopes whose settings could not be read
	voided   int                      // requests for settings that failed, of one list of scopes
	granting bool                     // one of that list was answered
	suspects []bucket.Scope           // of that list, refused in unknown words before any was answered
	left     bool                     // settings of scopes that are not to blame were left for the next pass
}

// unread is what is known of settings that could not be read.
type unread struct {
	backoff.Backoff
	blamed  bool              // on account of the scope itself
	refusal *cloudflare.Error // nil: the scope was missing from an answer
}

// denied reports whether the token may not ask for a scope at all: Cloudflare says
// so, or does not show the scope.
func (u *unread) denied() bool {
	return u != nil && u.blamed && (u.refusal == nil || u.refusal.Class == cloudflare.Denied)
}

// entitle reads the settings node of scopes whose entitlements are unknown or
// old. What voids requests is left to [settings.entitleFailed].
func (s *settings) entitle(ctx context.Context, now bucket.Time) (blocked bucket.Time, err error) {
	blocked, err = s.entitleAll(ctx, quota.Urgent, s.stale(func(sc *roster.Scope) bool {
		return !s.toBlame(now, sc) && now >= s.readAgain(sc)
	}))
	s.left = s.voided >= mostVoided
	return blocked, err
}

// entitleFailed does it for those that voided a request before, when no window
// needs the budget: there may be hundreds that the token may not ask. Who waits
// longest comes first.
func (s *settings) entitleFailed(ctx context.Context, now bucket.Time) error {
	due := s.stale(func(sc *roster.Scope) bool { return s.toBlame(now, sc) && now >= s.readAgain(sc) })
	slices.SortStableFunc(due, func(a, b *roster.Scope) int { return cmp.Compare(s.readAgain(a), s.readAgain(b)) })
	_, err := s.entitleAll(ctx, quota.Background, due)
	return err
}

// readAgain is when a scope's settings may be asked for again.
func (s *settings) readAgain(sc *roster.Scope) bucket.Time {
	if u := s.unread[sc.Scope]; u != nil {
		return u.Next
	}
	return 0
}

// toBlame reports whether a scope's settings could not be read on its own account,
// by a leader before this one where it is known for long.
func (s *settings) toBlame(now bucket.Time, sc *roster.Scope) bool {
	u := s.unread[sc.Scope]
	return u != nil && u.blamed || u == nil && sc.Nodes == nil && now.Sub(sc.FirstSeen) > time.Hour
}

// stale are the scopes whose settings should be read, of those that are picked,
// ascending.
func (s *settings) stale(pick func(*roster.Scope) bool) []*roster.Scope {
	now := s.trusted.Second()
	var out []*roster.Scope
	for _, sc := range slices.SortedFunc(maps.Values(s.roster), func(a, b *roster.Scope) int { return a.Compare(b.Scope) }) {
		if sc.Kind == bucket.Zone && sc.Stale(now, entitleEvery) && pick(sc) {
			out = append(out, sc)
		}
	}
	return out
}

// entitleAll asks for as many zones in a request as may be. When many have failed
// the rest is left for the next pass. Refusals in unknown words are nobody's fault
// while nothing was answered that could have been, and so are
// answers that are none.
func (s *settings) entitleAll(ctx context.Context, lane quota.Lane, scopes []*roster.Scope) (blocked bucket.Time, err error) {
	nodes := s.nodes()
	s.voided, s.granting, s.suspects = 0, false, nil
	for batch := range slices.Chunk(scopes, settingsBatch) {
		blocked, err := s.entitleBatch(ctx, batch, nodes, lane)
		if err != nil || blocked != 0 {
			return blocked, err
		}
	}
	if len(s.suspects) > 0 && !s.granting && !s.anySettings() {
		return s.settingsRefusedAlike(s.unread[s.suspects[0]].refusal, nil), nil
	}
	return 0, nil
}

// anySettings reports whether anything can be asked by settings that were read.
func (s *settings) anySettings() bool {
	for _, sc := range s.roster {
		if sc.Checked != 0 && sc.State == roster.Active {
			return true
		}
	}
	return false
}

// settingsRefusedAlike takes the blame back from scopes whose settings were
// refused, since everything was, and leaves the rest of the list for later. Where
// nothing is known by which anything could be asked, it returns the time before
// which nothing need be sent.
func (s *settings) settingsRefusedAlike(e *cloudflare.Error, batch []*roster.Scope) bucket.Time {
	for _, sc := range s.suspects {
		s.unread[sc].blamed = false
	}
	s.leaveUnread(settingsAway, e, batch...)
	s.voided, s.suspects = mostVoided, nil
	if s.anySettings() {
		return 0
	}
	return s.away(e, reasonOf(e.Class), unknownForAll)
}

// saysNothing reports whether an error is evidence about nobody by itself.
func saysNothing(e *cloudflare.Error) bool {
	return e.Class == cloudflare.Unknown || e.Class == cloudflare.BadAnswer
}

// nodes are the GraphQL nodes that any variant asks.
func (s *settings) nodes() []string {
	used := map[string]bool{}
	for _, d := range s.Catalogue.Datasets {
		for _, v := range d.Variants {
			used[v.Node] = true
		}
	}
	return slices.Sorted(maps.Keys(used))
}

// entitleBatch asks once for scopes that fit one request, and in parts where that
// fails; for nothing where many requests of the list have failed.
func (s *settings) entitleBatch(ctx context.Context, batch []*roster.Scope, nodes []string, lane quota.Lane) (bucket.Time, error) {
	if len(batch) == 0 || s.voided >= mostVoided {
		return 0, nil
	}
	if err := s.journal.TellStream(ctx); err != nil {
		return 0, err
	}
	ok, wait, err := s.permit(ctx, lane)
	switch {
	case err != nil:
		return 0, fmt.Errorf("reserve permits: %w", err)
	case !ok:
		return s.trusted.Second().Add(wait + time.Second), nil
	}
	ids := make([]string, len(batch))
	for i, sc := range batch {
		ids[i] = sc.ID
	}
	s.Metrics.requests.WithLabelValues("settings").Inc()
	settings, err := s.Upstream.Settings(ctx, "", ids, nodes)
	s.Budget.Over()
	if err != nil {
		return s.settingsFailed(ctx, batch, nodes, lane, err)
	}
	s.granting, s.suspects, s.outage = true, nil, outage{}
	for _, sc := range batch {
		byNode, visible := settings[sc.ID]
		if !visible {
			s.often.Log(ctx, s.leaveUnread(settingsDenied, nil, sc), sc.ID, "zone is listed, but the analytics API does not show it; does the token have Zone Analytics Read?", "zone", sc.ID, "name", sc.Name)
			continue
		}
		delete(s.unread, sc.Scope)
		s.grant(s.trusted.Second(), sc, byNode)
	}
	return 0, s.save(ctx, batch)
}

// settingsFailed deals with a request that failed. Where one zone voided the
// answer for all it is the one that is named, or in one of the halves.
func (s *settings) settingsFailed(ctx context.Context, batch []*roster.Scope, nodes []string, lane quota.Lane, failure error) (bucket.Time, error) {
	s.voided++
	failed, wait, rest := batch, settingsDenied, [][]*roster.Scope(nil)
	e := (*cloudflare.Error)(nil)
	if errors.As(failure, &e) {
		var named, others []*roster.Scope
		for _, sc := range batch {
			if sc.ID == e.Zone || slices.Contains(e.Zones, sc.ID) {
				named = append(named, sc)
			} else {
				others = append(others, sc)
			}
		}
		if e.Class == cloudflare.Unknown {
			wait = settingsUnknown
		}
		switch {
		case e.Class == cloudflare.Budget || e.Class == cloudflare.Auth || e.Class == cloudflare.Transient && len(named) == 0:
			wait, s.voided = settingsAway, mostVoided // nobody in it is to blame: others would fare alike
		case saysNothing(e) && !s.granting && s.voided > cellsAsked:
			// Whoever was asked was refused alike.
			s.Metrics.errors.WithLabelValues(e.Class.String()).Inc()
			return s.settingsRefusedAlike(e, batch), nil
		case len(batch) == 1:
		case len(named) > 0:
			failed, rest = named, [][]*roster.Scope{others}
		default:
			failed, rest = nil, [][]*roster.Scope{batch[:len(batch)/2], batch[len(batch)/2:]}
		}
	}
	if len(failed) > 0 {
		level := s.leaveUnread(wait, e, failed...)
		if e != nil && saysNothing(e) && !s.granting {
			for _, sc := range failed {
				s.suspects = append(s.suspects, sc.Scope)
			}
		}
		if blocked, err := s.upstreamFailed(ctx, level, "read entitlements", failure); err != nil || blocked != 0 {
			return blocked, err
		}
	}
	for _, part := range rest {
		if blocked, err := s.entitleBatch(ctx, part, nodes, lane); err != nil || blocked != 0 {
			return blocked, err
		}
	}
	return 0, nil
}

// leaveUnread puts off asking for the settings of scopes and returns how loudly to
// say so: of each scope once.
func (s *settings) leaveUnread(wait backoff.Pauses, e *cloudflare.Error, scopes ...*roster.Scope) slog.Level {
	level, jitter := slog.LevelDebug, s.rng.Float64()
	for _, sc := range scopes {
		if s.unread[sc.Scope] == nil {
			s.unread[sc.Scope], level = &unread{}, slog.LevelWarn
		}
		u := s.unread[sc.Scope]
		u.blamed = wait != settingsAway
		u.refusal = e
		u.Fail(s.trusted.Second(), wait, jitter)
	}
	return level
}

// grant notes a scope's entitlements and says once what is not collected.
func (s *settings) grant(now bucket.Time, sc *roster.Scope, byNode map[string]cloudflare.Settings) {
	entitled := make(map[string]roster.Node, len(byNode))
	for name, n := range byNode {
		entitled[name] = roster.Node{
			Enabled: n.Enabled, MaxDuration: n.MaxDuration, MaxFields: n.MaxFields,
			MaxPageSize: n.MaxPageSize, NotOlderThan: n.NotOlderThan, Fields: fields(n.Available),
		}
	}
	first := sc.Checked == 0
	sc.Entitle(now, entitled)
	if !first {
		return
	}
	for _, c := range (roster.Roster{sc.Scope: sc}).Claims(now, s.Catalogue.Datasets, roster.Terms{}) {
		if c.Variant == nil {
			s.often.Info(c.Dataset.Dataset, "dataset is not collected for zone", "dataset", c.Dataset.Dataset, "zone", sc.ID, "name", sc.Name, "reason", c.Refused)
			continue
		}
		s.Logger.Debug("dataset is collected for zone", "dataset", c.Dataset.Dataset, "zone", sc.ID, "name", sc.Name, "variant", c.Variant.Name)
	}
}

// fields are the names that can be those of fields. Others say nothing, and a
// record that holds them may be one that no database takes.
func fields(available []string) []string {
	const most = 4000 // of a node; Cloudflare's largest has some hundreds
	out := slices.DeleteFunc(slices.Clone(available), func(name string) bool {
		_, odd := bucket.FitName(name)
		return odd
	})
	return out[:min(len(out), most)]
}
