package poll

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/backoff"
	"github.com/weir-metrics/weir/services/collector/internal/journal"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/settle"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// state is one term of a leader. It is built from the store, lives as long as the
// term, and belongs to one goroutine.
type state struct {
	*env
	lines    lines
	journal  *journal.Journal
	interval time.Duration // longest pause between passes
	desk     *desk
	changed  bool // a request changed something, so the next pass should begin at once

	faults     *faults
	books      *books
	writer     *writer
	history    *history
	judge      *judge
	drift      *drift
	sender     *sender
	asker      *asker
	settings   *settings
	acceptance *acceptance
	discoverer *discoverer
	retention  *retention
	counting   *counting
	auditor    *auditor
	inspector  *inspector
	backfiller *backfiller
	recorder   *recorder
	reporter   *reporter
}

// compose connects the parts of a term. load gives them what is stored.
func (p *Poller) compose(won store.Lease, now bucket.Time) *state {
	c, e, all := p.config, p.env, newLines(p.config.Credentials)
	log := journal.Open(journal.Config{
		Store: c.Store, Clock: e.clock, Trusted: e.trusted, LeaseTTL: c.LeaseTTL, Jitter: e.rng.Float64,
		Writes: c.Writes, Trouble: e.trouble, Revision: e.metrics.revision, Stream: e.metrics.progress,
	}, won)
	s := &state{env: e, lines: all, journal: log, interval: c.Interval}
	s.faults = &faults{env: e, tries: map[ledger.Series]*try{}, off: map[string]*backoff.Backoff{}, invalid: map[ledger.Series]map[bucket.Time]*invalid{}}
	s.books = &books{
		env: e, faults: s.faults, lines: all, retention: c.Retention,
		changed: map[bucket.Scope]bool{}, settling: newSettling(e.catalogue.Datasets),
	}
	s.writer = &writer{env: e, faults: s.faults, journal: log}
	s.history = &history{env: e, books: s.books, store: c.Store, unreadable: c.Unreadable, recent: map[ledger.Series][]settle.Final{}}
	s.drift = &drift{unsaved: map[string]bool{}}
	s.judge = &judge{
		env: e, faults: s.faults, books: s.books, history: s.history, drift: s.drift, commit: s.writer.commit, wanted: s.books.open,
		versions: map[string]uint32{}, defined: map[string]*bucket.Definition{},
	}
	s.sender = &sender{env: e, faults: s.faults, books: s.books, lines: all, journal: log}
	s.settings = &settings{
		env: e, faults: s.faults, books: s.books, lines: all, sender: s.sender, journal: log, save: s.writer.save,
		unread: map[bucket.Scope]*unread{}, partial: map[bucket.Scope]*partial{}, ceilings: plan.DefaultCeilings,
	}
	s.asker = &asker{
		env: e, faults: s.faults, books: s.books, lines: all, sender: s.sender, journal: log,
		take: s.judge.take, aside: s.settings.aside, serve: s.serveWaiting,
	}
	s.acceptance = &acceptance{commit: s.writer.commit, tell: func() {
		if c.Accepted != nil {
			c.Accepted()
		}
	}}
	s.discoverer = &discoverer{
		env: e, books: s.books, lines: all, lookback: c.Lookback, unreadable: c.Unreadable,
		failed: s.sender.upstreamFailed, save: s.writer.save, accept: s.acceptance.accept, odd: map[string]bool{},
	}
	s.retention = &retention{
		env: e, store: c.Store, keep: c.Retention, term: won.Term, commit: s.writer.commit, writes: c.Writes, unreadable: c.Unreadable,
	}
	s.counting = &counting{env: e, store: c.Store, journal: log, commit: s.writer.commit}
	s.auditor = &auditor{
		env: e, faults: s.faults, books: s.books, lines: all, sender: s.sender, drift: s.drift, store: c.Store,
		commit: s.writer.commit, unreadable: c.Unreadable,
	}
	s.inspector = &inspector{env: e, store: c.Store, unreadable: c.Unreadable, read: won.Head.Floor, until: won.Head.Revision}
	s.recorder = &recorder{
		env: e, faults: s.faults, books: s.books, drift: s.drift, journal: log, commit: s.writer.commit,
		writes: c.Writes, unreadable: c.Unreadable, began: now,
	}
	s.reporter = &reporter{
		env: e, faults: s.faults, books: s.books, settings: s.settings, lines: all, users: usersOf(all), interval: c.Interval, changes: &transitions{log: e.log},
	}
	s.backfiller = newBackfiller(s, c)
	return s
}

// pass does one round of the loop and returns when the next one should begin.
func (s *state) pass(ctx context.Context) (next time.Time, err error) {
	s.sender.compareClocks(ctx)
	began, err := s.now(ctx)
	if err == nil && s.journal.Check(began.Std()) != nil {
		s.sender.askClock(ctx) // one wrong date ends no term
		if began, err = s.now(ctx); err == nil {
			err = s.journal.Check(began.Std())
		}
	}
	if err != nil {
		return next, err
	}
	if err := s.prepare(ctx, began); err != nil {
		return next, err
	}
	if err := s.collect(ctx, began); err != nil {
		return next, err
	}
	idle, err := s.settings.whenIdle(ctx, began)
	if err != nil {
		return next, err
	}
	if err := s.backfill(ctx, idle); err != nil {
		return next, err
	}
	if err := s.auditor.audit(ctx, idle); err != nil {
		return next, err
	}
	s.inspector.inspect(ctx)
	now, err := s.now(ctx)
	if err != nil {
		return next, err
	}
	claims := s.books.claims(now)
	s.books.forgive()
	s.reporter.reportProblems(claims)
	s.settings.obstacles()
	if err := s.recorder.record(ctx, now, claims); err != nil {
		return next, err
	}
	s.reporter.setGauges(now, claims)
	s.backfiller.report(now)
	if err := s.journal.RecordStream(ctx, now.Std()); err != nil {
		return next, err
	}
	return s.nextPass(now, claims), nil
}

// prepare does the work that is not about windows: it lists zones and accounts, reads
// their settings, and applies retention.
func (s *state) prepare(ctx context.Context, now bucket.Time) error {
	for _, l := range s.lines {
		if l.blocked, l.noRepair, l.unlisted = 0, 0, false; now < l.outage.Next {
			l.blocked = l.outage.Next
		}
	}
	moved, err := s.discoverer.discover(ctx, now)
	if err != nil {
		return err
	}
	for _, sc := range moved {
		s.forget(sc)
	}
	if err := s.counting.countWhenDue(ctx, now); err != nil {
		return err
	}
	usable := false
	for _, l := range s.lines {
		if l.blocked == 0 && !l.unlisted {
			if err := s.settings.entitle(ctx, now, l); err != nil {
				return err
			}
		}
		usable = usable || l.blocked == 0 && !l.unlisted
	}
	if !usable {
		return nil
	}
	return s.retention.retireWhenDue(ctx, now)
}

// forget drops the failures and the settings of a scope that were recorded with the
// credential that it had before.
func (s *state) forget(sc bucket.Scope) {
	for of := range s.faults.tries {
		if of.Scope == sc {
			delete(s.faults.tries, of)
		}
	}
	delete(s.settings.unread, sc)
	delete(s.settings.partial, sc)
}

// collect requests the windows that are wanted and not final.
func (s *state) collect(ctx context.Context, now bucket.Time) error {
	if !s.lines.open() {
		return nil
	}
	claims := s.books.claims(now)
	s.reporter.weigh(now, claims)
	return s.asker.ask(ctx, s.plan(now, claims))
}

// backfill works on jobs with the lines that have no regular work left.
func (s *state) backfill(ctx context.Context, idle map[*line]bool) error {
	now, err := s.now(ctx)
	if err != nil {
		return err
	}
	if len(s.backfiller.jobs) == 0 {
		return nil
	}
	free := maps.Clone(idle)
	for _, r := range s.plan(now, s.books.claims(now)).Requests {
		delete(free, s.books.lineOf(r.Scopes[0]))
	}
	return s.backfiller.work(ctx, now, free)
}

// plan is what can be requested now. Of what is missing for long it has about as many requests as
// are sent before it is planned again.
func (s *state) plan(now bucket.Time, claims []roster.Claim) plan.Plan {
	c := plan.DefaultCeilings
	c.Ahead = requestsAhead
	return plan.Make(now, s.books.wants(claims), s.books, c)
}

// requestsAhead is how many a Cloudflare user may send in five minutes.
const requestsAhead = 300

// sendable reports whether a request need not wait for the permits that its line lacked in this pass.
func (s *state) sendable(r plan.Request) bool {
	return s.books.lineOf(r.Scopes[0]).noRepair == 0 || !s.asker.canWait(r)
}

// nextPass is when the next pass is useful.
func (s *state) nextPass(now bucket.Time, claims []roster.Claim) time.Time {
	next := now.Add(s.interval)
	p := s.plan(now, claims)
	switch {
	case slices.ContainsFunc(p.Requests, s.sendable):
		// Not at once: work that remains undone must not make the loop spin.
		next = now.Add(time.Second)
	case p.Next != 0:
		next = min(next, p.Next)
	}
	if wake := s.backfiller.wake(now); wake != 0 {
		next = min(next, wake)
	}
	var unblocked bucket.Time // when the first line is
	for _, l := range s.lines {
		if l.noRepair != 0 {
			next = min(next, l.noRepair)
		}
		switch {
		case l.blocked != 0 && (unblocked == 0 || l.blocked < unblocked):
			unblocked = l.blocked
		case l.blocked != 0:
		case l.urgent.halted():
			next = min(next, l.discoverAt, now.Add(10*time.Second))
		case s.settings.more(&l.urgent):
			next = min(next, l.discoverAt, now.Add(time.Second))
		default:
			next = min(next, l.discoverAt)
		}
	}
	switch {
	case !s.lines.open():
		next = unblocked
	case unblocked != 0:
		next = min(next, unblocked)
	}
	// The loop must always wait.
	next = max(next, now.Add(time.Second))
	// The trusted clock may be behind the clock that is waited on.
	return next.Std().Add(s.clock.Now().Sub(s.trusted.Now()))
}
