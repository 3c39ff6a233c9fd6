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
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/writes"
)

// housekeeping does the work that is not about windows: who there is, what
// they may be asked, and what is too old to keep. It returns a time before
// which nothing may be sent to Cloudflare, or zero.
func (s *state) housekeeping(ctx context.Context, now bucket.Time) (blocked bucket.Time, err error) {
	if now < s.outage.next {
		return s.outage.next, nil
	}
	if now >= s.discoverAt {
		if err := s.discover(ctx, now); err != nil {
			if len(s.roster) > 0 {
				s.discoverAt = now.Add(time.Minute)
			}
			s.listing.note(now, err)
			return s.upstreamFailed(ctx, slog.LevelWarn, "list zones", err)
		}
		s.listing, s.outage = outage{}, outage{}
	}
	if blocked, err := s.entitle(ctx, now); err != nil || blocked != 0 {
		return blocked, err
	}
	if now >= s.retireAt {
		s.retireAt = now.Add(retireEvery)
		err := s.retire(ctx, now)
		switch {
		case err == nil:
			s.putOff = 0
			s.Writes.Works(writes.Retention)
		case store.Mendable(err) && ctx.Err() == nil:
			s.Writes.Failed(writes.Retention, err) // no reason not to collect
		case errors.Is(err, store.ErrUnavailable) && ctx.Err() == nil:
			// Most likely a snapshot is reading what would be dropped. If the
			// store is really away, the next append says so.
			if s.putOff == 0 {
				s.putOff = now
			}
			level := slog.LevelInfo
			if now.Sub(s.putOff) >= retireLate {
				level = slog.LevelWarn
			}
			s.often.Log(ctx, level, "", "retention is put off", "since", s.putOff.String(), "err", err)
		default:
			return 0, err
		}
	}
	return 0, nil
}

// upstreamFailed keeps what is known and tries again later; a store's error
// ends the term.
func (s *state) upstreamFailed(ctx context.Context, level slog.Level, what string, err error) (bucket.Time, error) {
	var e *cloudflare.Error
	if ctx.Err() != nil || !errors.As(err, &e) {
		return 0, err
	}
	s.Metrics.errors.WithLabelValues(e.Class.String()).Inc()
	s.often.Log(ctx, level, e.Class.String()+" "+e.Message, "cannot "+what+" at Cloudflare", "class", e.Class.String(), "err", err, bodyOf(e))
	switch {
	case e.Class == cloudflare.Budget:
		s.Budget.Refused(e.RetryAfter)
		return s.trusted.Second().Add(max(e.RetryAfter, 5*time.Minute)), nil
	case len(s.roster) > 0 && e.Class != cloudflare.Auth:
		return 0, nil // known zones are still worth asking
	}
	return s.away(e, reasonOf(e.Class), tokenRefused), nil
}

// note remembers a failure of something that is tried again by itself.
func (o *outage) note(now bucket.Time, err error) {
	o.fail(now, cloudflareAway, 0)
	o.reason, o.detail = ledger.UpstreamError, err.Error()
	if e := (*cloudflare.Error)(nil); errors.As(err, &e) {
		o.reason = reasonOf(e.Class)
	}
}

// look compares our clock with the database's and returns the trusted time. It
// is called whenever something is about to be decided or stored by the time, not
// now and then: a clock that was right a minute ago may have been set ahead
// since, and would make windows due, final or lost that are not, and promise
// completeness up to a moment that has not come. Of a database that is ahead of
// us, as in a demonstration that lives in the past, nothing follows.
func (s *state) look(ctx context.Context) (time.Time, error) {
	sent := s.Clock.Now()
	head, err := s.Store.Head(ctx)
	if err != nil {
		return time.Time{}, fmt.Errorf("read the database's clock: %w", err)
	}
	s.noteSkew("database", sent, s.Clock.Now(), head.Now, 0)
	// Where the answer was long on its way, or this process stopped meanwhile,
	// that our clock was set ahead looks like the time that the question took.
	now, said := s.trusted.Now(), head.Now.Add(tolerance)
	if said.Before(now) {
		return said, nil
	}
	return now, nil
}

// compareClocks asks Cloudflare for its time where its clock was last seen behind
// ours and no answer has come since. While it is, nothing falls due and nothing
// is asked, so that no answer would ever say that it is right again.
func (s *state) compareClocks(ctx context.Context) {
	answered := s.answered
	s.answered = false
	if answered || s.trusted.Skew("cloudflare") >= 0 {
		return
	}
	sent := s.Clock.Now()
	date, err := s.Upstream.Date(ctx)
	if err != nil {
		s.often.Warn("", "cannot compare clocks with Cloudflare, which was behind", "err", err)
		return
	}
	s.noteSkew("cloudflare", sent, s.Clock.Now(), date, time.Second)
}

// save writes scopes' records, those first that have ended: should the term end
// half-way, no name belongs to two.
func (s *state) save(ctx context.Context, scopes []*roster.Scope) error {
	slices.SortStableFunc(scopes, func(a, b *roster.Scope) int { return boolOrder(b.End != 0, a.End != 0) })
	for part := range slices.Chunk(scopes, most) {
		var batch store.Batch
		for _, sc := range part {
			batch.Records = append(batch.Records, sc.Record())
		}
		if err := s.commit(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

// entitle reads the settings node of scopes whose entitlements are unknown or
// old. What voids requests is left to [state.entitleFailed].
func (s *state) entitle(ctx context.Context, now bucket.Time) (blocked bucket.Time, err error) {
	blocked, err = s.entitleAll(ctx, quota.Urgent, s.stale(func(sc *roster.Scope) bool {
		return !s.toBlame(now, sc) && now >= s.readAgain(sc)
	}))
	s.left = s.voided >= mostVoided
	return blocked, err
}

// entitleFailed does it for those that voided a request before, when no window
// needs the budget: there may be hundreds that the token may not ask. Who waits
// longest comes first.
func (s *state) entitleFailed(ctx context.Context, now bucket.Time) error {
	due := s.stale(func(sc *roster.Scope) bool { return s.toBlame(now, sc) && now >= s.readAgain(sc) })
	slices.SortStableFunc(due, func(a, b *roster.Scope) int { return cmp.Compare(s.readAgain(a), s.readAgain(b)) })
	_, err := s.entitleAll(ctx, quota.Background, due)
	return err
}

// readAgain is when a scope's settings may be asked for again.
func (s *state) readAgain(sc *roster.Scope) bucket.Time {
	if u := s.unread[sc.Scope]; u != nil {
		return u.next
	}
	return 0
}

// toBlame reports whether a scope's settings could not be read on its own account,
// by a leader before this one where it is known for long.
func (s *state) toBlame(now bucket.Time, sc *roster.Scope) bool {
	u := s.unread[sc.Scope]
	return u != nil && u.blamed || u == nil && sc.Nodes == nil && now.Sub(sc.FirstSeen) > time.Hour
}

// stale are the scopes whose settings should be read, of those that are picked,
// ascending.
func (s *state) stale(pick func(*roster.Scope) bool) []*roster.Scope {
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
func (s *state) entitleAll(ctx context.Context, lane quota.Lane, scopes []*roster.Scope) (blocked bucket.Time, err error) {
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
func (s *state) anySettings() bool {
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
func (s *state) settingsRefusedAlike(e *cloudflare.Error, batch []*roster.Scope) bucket.Time {
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
func (s *state) nodes() []string {
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
func (s *state) entitleBatch(ctx context.Context, batch []*roster.Scope, nodes []string, lane quota.Lane) (bucket.Time, error) {
	if len(batch) == 0 || s.voided >= mostVoided {
		return 0, nil
	}
	if err := s.tellStream(ctx); err != nil {
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
func (s *state) settingsFailed(ctx context.Context, batch []*roster.Scope, nodes []string, lane quota.Lane, failure error) (bucket.Time, error) {
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
func (s *state) leaveUnread(wait pauses, e *cloudflare.Error, scopes ...*roster.Scope) slog.Level {
	level, jitter := slog.LevelDebug, s.rng.Float64()
	for _, sc := range scopes {
		if s.unread[sc.Scope] == nil {
			s.unread[sc.Scope], level = &unread{}, slog.LevelWarn
		}
		u := s.unread[sc.Scope]
		u.blamed = wait != settingsAway
		u.refusal = e
		u.fail(s.trusted.Second(), wait, jitter)
	}
	return level
}

// grant notes a scope's entitlements and says once what is not collected.
func (s *state) grant(now bucket.Time, sc *roster.Scope, byNode map[string]cloudflare.Settings) {
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

// retire drops what is older than the retention.
func (s *state) retire(ctx context.Context, now bucket.Time) error {
	before := now.Add(-s.Retention)
	if mark := max(before, s.retired); mark > s.retired || s.damaged.retired {
		// Written down first, so that a longer retention, set later, does not want
		// back what is dropped now.
		if err := s.commit(ctx, store.Batch{Records: append(s.Unreadable.Retire(before), ledger.RetiredRecord(mark))}); err != nil {
			return err
		}
		s.retired = mark
		if s.damaged.retired {
			s.damaged.retired = false
			s.Unreadable.Records(ledger.KindRetired, nil)
		}
	}
	border, err := s.Store.Retire(ctx, s.term, before)
	if err != nil {
		return fmt.Errorf("drop buckets before %s: %w", before, err)
	}
	if size, err := s.Store.Size(ctx); err == nil {
		s.Metrics.storeSize.Set(float64(size))
	}
	s.Logger.Debug("retention applied", "before", border.String())
	return nil
}

// dirty notes that a scope's record must be written with the next commit.
func (s *state) dirty(sc bucket.Scope) { s.changed[sc] = true }
