package poll

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/store"
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
			return s.upstreamFailed(ctx, "list zones", err)
		}
		s.discoverAt = now.Add(discoverEvery)
	}
	if blocked, err := s.entitle(ctx, now); err != nil || blocked != 0 {
		return blocked, err
	}
	if now >= s.retireAt {
		s.retireAt = now.Add(retireEvery)
		switch err := s.retire(ctx, now); {
		case errors.Is(err, store.ErrUnavailable) && ctx.Err() == nil:
			// Most likely a snapshot is reading what would be dropped. If the
			// store is really away, the next append says so.
			s.Logger.Warn("retention is put off", "err", err)
		case err != nil:
			return 0, err
		}
	}
	return 0, nil
}

// upstreamFailed keeps what is known and tries again later; a store's error
// ends the term.
func (s *state) upstreamFailed(ctx context.Context, what string, err error) (bucket.Time, error) {
	var e *cloudflare.Error
	if ctx.Err() != nil || !errors.As(err, &e) {
		return 0, err
	}
	s.Metrics.errors.WithLabelValues(e.Class.String()).Inc()
	s.Logger.Warn("cannot "+what+" at Cloudflare; going on with what is known", "class", e.Class.String(), "err", err)
	now := s.trusted.Second()
	switch {
	case e.Class == cloudflare.Budget:
		s.Budget.Refused(e.RetryAfter)
		return now.Add(max(e.RetryAfter, 5*time.Minute)), nil
	case len(s.roster) > 0 && e.Class != cloudflare.Auth:
		// Known zones are still worth asking.
		s.discoverAt = max(s.discoverAt, now.Add(time.Minute))
		return 0, nil
	}
	s.outage.fail(now, 5*time.Minute, s.rng.Float64())
	return s.outage.next, nil
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
		s.Logger.Warn("cannot compare clocks with Cloudflare, which was behind", "err", err)
		return
	}
	s.noteSkew("cloudflare", sent, s.Clock.Now(), date, time.Second)
}

func (s *state) discover(ctx context.Context, now bucket.Time) error {
	zones, err := s.Upstream.Zones(ctx)
	if err != nil {
		return err
	}
	if len(zones) == 0 && len(s.roster) > 0 {
		// An empty list may also mean that the permission is gone (Cloudflare's
		// API does not tell them apart); it ends no scope.
		s.Logger.Warn("Cloudflare lists no zones; keeping the known ones", "known", len(s.roster))
		return nil
	}
	seen := make([]roster.Seen, len(zones))
	for i, z := range zones {
		seen[i] = roster.Seen{
			ID: z.ID, Name: z.Name, AccountID: z.Account.ID, AccountName: z.Account.Name, Plan: z.Plan.Name,
			Active: z.Status == "active" && !z.Paused, Created: bucket.TimeOf(z.Created),
		}
	}
	changed := s.roster.Discover(now, seen, s.Select, s.Lookback)
	if len(changed) == 0 {
		return nil
	}
	for _, sc := range changed {
		s.Logger.Info("zone", "zone", sc.ID, "name", sc.Name, "label", sc.ZoneLabel, "account", sc.AccountName, "plan", sc.Plan, "state", sc.State)
	}
	return s.save(ctx, changed)
}

// save writes scopes' records.
func (s *state) save(ctx context.Context, scopes []*roster.Scope) error {
	var batch store.Batch
	for _, sc := range scopes {
		batch.Records = append(batch.Records, sc.Record())
	}
	return s.commit(ctx, batch)
}

// entitle reads the settings node of scopes whose entitlements are unknown or
// old, ten zones a request. There may be hundreds that the token may not ask, each
// of which voids a request: those that failed before come last, and are left for
// the next pass when many have failed in this one.
func (s *state) entitle(ctx context.Context, now bucket.Time) (blocked bucket.Time, err error) {
	var stale, failed []*roster.Scope
	for _, sc := range slices.SortedFunc(maps.Values(s.roster), func(a, b *roster.Scope) int { return a.Compare(b.Scope) }) {
		if sc.Kind != bucket.Zone || !sc.Stale(now, entitleEvery) {
			continue
		}
		switch shut := s.shut[sc.Scope]; {
		case shut == nil:
			stale = append(stale, sc)
		case now >= shut.next:
			failed = append(failed, sc)
		}
	}
	nodes := s.nodes()
	s.voided = 0
	for batch := range slices.Chunk(append(stale, failed...), 10) {
		if s.voided >= mostVoided {
			break
		}
		blocked, err := s.entitleBatch(ctx, batch, nodes)
		if err != nil || blocked != 0 {
			return blocked, err
		}
	}
	return 0, nil
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

func (s *state) entitleBatch(ctx context.Context, batch []*roster.Scope, nodes []string) (bucket.Time, error) {
	ok, wait, err := s.Budget.TryTake(ctx, quota.Urgent)
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
	if err != nil {
		return s.entitleFailed(ctx, batch, nodes, err)
	}
	now := s.trusted.Second()
	for _, sc := range batch {
		byNode, visible := settings[sc.ID]
		if !visible {
			s.Logger.Warn("zone is listed, but the analytics API does not show it; does the token have Zone Analytics Read?", "zone", sc.ID, "name", sc.Name)
			s.shutOut(sc.Scope, now, s.rng.Float64())
			continue
		}
		s.grant(now, sc, byNode)
	}
	return 0, s.save(ctx, batch)
}

// entitleFailed puts off the scopes of a failed request. One zone may void the
// answer for all: then it is the one that is named, or in one of the halves.
func (s *state) entitleFailed(ctx context.Context, batch []*roster.Scope, nodes []string, failure error) (bucket.Time, error) {
	var e *cloudflare.Error
	if errors.As(failure, &e) && len(batch) > 1 && e.Class != cloudflare.Budget && e.Class != cloudflare.Transient {
		parts := [][]*roster.Scope{batch[:len(batch)/2], batch[len(batch)/2:]}
		if i := slices.IndexFunc(batch, func(sc *roster.Scope) bool { return sc.ID == e.Zone }); i >= 0 {
			if blocked, err := s.entitleFailed(ctx, batch[i:i+1], nodes, failure); err != nil || blocked != 0 {
				return blocked, err
			}
			parts = [][]*roster.Scope{slices.Concat(batch[:i], batch[i+1:])}
		}
		for _, part := range parts {
			if blocked, err := s.entitleBatch(ctx, part, nodes); err != nil || blocked != 0 {
				return blocked, err
			}
		}
		return 0, nil
	}
	s.voided++
	now, jitter := s.trusted.Second(), s.rng.Float64()
	for _, sc := range batch {
		if e != nil && e.Class == cloudflare.Denied && sc.Checked == 0 {
			sc.Deny(e.Message)
			s.dirty(sc.Scope)
		}
		s.shutOut(sc.Scope, now, jitter)
	}
	return s.upstreamFailed(ctx, "read entitlements", failure)
}

// shutOut puts off asking for the settings of a scope that could not be asked.
func (s *state) shutOut(sc bucket.Scope, now bucket.Time, jitter float64) {
	if s.shut[sc] == nil {
		s.shut[sc] = &backoff{}
	}
	s.shut[sc].fail(now, 15*time.Minute, jitter)
}

// grant notes a scope's entitlements and says once what is not collected.
func (s *state) grant(now bucket.Time, sc *roster.Scope, byNode map[string]cloudflare.Settings) {
	entitled := make(map[string]roster.Node, len(byNode))
	for name, n := range byNode {
		entitled[name] = roster.Node{
			Enabled: n.Enabled, MaxDuration: n.MaxDuration, MaxFields: n.MaxFields,
			MaxPageSize: n.MaxPageSize, NotOlderThan: n.NotOlderThan, Fields: n.Available,
		}
	}
	first := sc.Checked == 0
	sc.Entitle(now, entitled)
	if !first {
		return
	}
	for _, c := range (roster.Roster{sc.Scope: sc}).Claims(now, s.Catalogue.Datasets, roster.Terms{}) {
		if c.Variant == nil {
			s.Logger.Info("dataset is not collected for zone", "dataset", c.Dataset.Dataset, "zone", sc.ID, "name", sc.Name, "reason", c.Refused)
			continue
		}
		s.Logger.Debug("dataset is collected for zone", "dataset", c.Dataset.Dataset, "zone", sc.ID, "name", sc.Name, "variant", c.Variant.Name)
	}
}

// retire drops what is older than the retention.
func (s *state) retire(ctx context.Context, now bucket.Time) error {
	before := now.Add(-s.Retention)
	if before > s.retired {
		// Written down first, so that a longer retention, set later, does not want
		// back what is dropped now.
		if err := s.commit(ctx, store.Batch{Records: []store.Record{ledger.RetiredRecord(before)}}); err != nil {
			return err
		}
		s.retired = before
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
