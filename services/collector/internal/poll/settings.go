package poll

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/backoff"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/journal"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
)

const (
	entitleEvery   = 6 * time.Hour // settings change with plans: cache for hours (Cloudflare's limits page)
	settingsAtOnce = 10            // requests for settings that are sent before others have their turn
	mostVoided     = 10            // of them that may fail before the rest waits for the next pass
	partialFor     = time.Hour     // while settings of a part of the nodes are valid
)

// settings reads what plans allow. Its requests take turns with those for data, so that many
// new zones do not delay the data of others.
type settings struct {
	*env
	faults  *faults
	books   *books
	lines   lines
	sender  *sender
	journal *journal.Journal
	save    func(context.Context, *roster.Contents, []*roster.Scope) error

	unread   map[bucket.Scope]*unread  // scopes whose settings could not be read
	partial  map[bucket.Scope]*partial // scopes whose settings are known for some nodes
	ceilings plan.Ceilings             // of documents; lower if Cloudflare refused larger ones
}

// partial has the settings of a scope that take several documents.
type partial struct {
	at    bucket.Time
	nodes map[string]*roster.Node // nil: none there
}

// list is the documents that request settings in a pass.
type list struct {
	queue    []plan.Ask
	voided   int            // requests that failed
	granting bool           // one succeeded
	suspects []bucket.Scope // refused with an unrecognised error before any succeeded
}

// halted reports whether the rest of a list is left for the next pass, since many requests
// failed.
func (l *list) halted() bool { return l.voided >= mostVoided }

// unread is a scope whose settings could not be read.
type unread struct {
	backoff.Backoff
	blamed  bool              // because of the scope itself
	refusal *cloudflare.Error // nil: the scope was missing in a response
}

// denied reports whether the token has no access to a scope at all: Cloudflare says so, or does
// not show the scope.
func (u *unread) denied() bool {
	return u != nil && u.blamed && (u.refusal == nil || u.refusal.Class == cloudflare.Denied)
}

// entitle reads the settings of a line's scopes whose entitlements are unknown or old, as far
// as its turns allow; [settings.aside] continues. Scopes that void requests are left to
// [settings.entitleFailed].
func (s *settings) entitle(ctx context.Context, now bucket.Time, l *line) error {
	l.urgent = list{}
	for _, class := range s.stale(now, l) {
		l.urgent.queue = append(l.urgent.queue, s.pack(now, class)...)
	}
	for l.turns > 0 && s.more(&l.urgent) {
		l.turns--
		ok, wait, err := s.next(ctx, l, &l.urgent, quota.Urgent)
		if !ok && err == nil {
			l.blocked = s.trusted.Second().Add(wait + time.Second)
		}
		if err != nil || l.blocked != 0 {
			return err
		}
	}
	return nil
}

// aside uses a permit of a line for settings, in every other call, if any are to be read.
func (s *settings) aside(ctx context.Context, l *line) (used bool, err error) {
	if l.turns == 0 || !s.more(&l.urgent) {
		l.turns = min(l.turns+1, settingsAtOnce)
		return false, nil
	}
	l.turns--
	return true, s.send(ctx, l, &l.urgent)
}

// entitleFailed requests the settings of scopes that voided a request before, when nothing else
// needs the budget: there may be hundreds to which the token has no access. The scope that
// waits longest comes first. With several lines, the rest is left for later after a while.
func (s *settings) entitleFailed(ctx context.Context, now bucket.Time, of *line, until time.Time) error {
	var due []*roster.Scope
	for sc, u := range s.unread {
		if who := s.books.roster[sc]; u.blamed && who != nil && who.Credential == of.Name && s.due(now, who) {
			due = append(due, who)
		}
	}
	slices.SortFunc(due, func(a, b *roster.Scope) int {
		return cmp.Or(cmp.Compare(s.unread[a.Scope].Next, s.unread[b.Scope].Next), a.Compare(b.Scope))
	})
	l := list{queue: s.pack(now, due)}
	for s.more(&l) {
		if len(s.lines) > 1 && s.clock.Now().After(until) {
			return nil // windows of other lines fall due meanwhile
		}
		if ok, _, err := s.next(ctx, of, &l, quota.Background); err != nil || !ok || of.blocked != 0 {
			return err
		}
	}
	return nil
}

// whenIdle reads the settings that could not be read before, with lines that have nothing
// else to send, and returns these lines.
func (s *settings) whenIdle(ctx context.Context, now bucket.Time) (idle map[*line]bool, err error) {
	until := s.clock.Now().Add(longWait)
	idle = map[*line]bool{}
	for _, l := range s.lines {
		if l.blocked != 0 || l.noRepair != 0 {
			continue
		}
		l.turns = settingsAtOnce // no data is waiting for a turn
		if idle[l] = !s.more(&l.urgent); !idle[l] {
			continue
		}
		if err := s.entitleFailed(ctx, now, l, until); err != nil {
			return nil, err
		}
	}
	return idle, nil
}

// due reports whether the settings of a scope should be read at now.
func (s *settings) due(now bucket.Time, sc *roster.Scope) bool {
	return s.asksAnalytics(sc.Kind) && sc.Stale(now, entitleEvery) && now >= s.readAgain(sc)
}

// readAgain is when a scope's settings may be requested again.
func (s *settings) readAgain(sc *roster.Scope) bucket.Time {
	if u := s.unread[sc.Scope]; u != nil {
		return u.Next
	}
	return 0
}

// stale are the scopes of a line whose settings should be read, in ascending order: those
// without settings, those with old settings, and those whose settings no leader could read for
// long, which may void requests. Scopes that are known to void requests are left out.
func (s *settings) stale(now bucket.Time, l *line) (classes [3][]*roster.Scope) {
	for _, sc := range s.books.roster {
		if u := s.unread[sc.Scope]; sc.Credential != l.Name || !s.due(now, sc) || u != nil && u.blamed {
			continue
		}
		class := 0
		switch {
		case sc.Checked != 0:
			class = 1
		case sc.Entitled == nil && now.Sub(sc.FirstSeen) > time.Hour:
			class = 2
		}
		classes[class] = append(classes[class], sc)
	}
	for _, class := range classes {
		slices.SortFunc(class, func(a, b *roster.Scope) int { return a.Compare(b.Scope) })
	}
	return classes
}

// pack makes documents of the settings that scopes lack. Adjacent scopes that lack the same
// nodes share them.
func (s *settings) pack(now bucket.Time, scopes []*roster.Scope) (asks []plan.Ask) {
	nodes := map[bucket.ScopeKind][]string{bucket.Zone: s.nodes(bucket.Zone), bucket.Account: s.nodes(bucket.Account)}
	var together []bucket.Scope
	var lacking []string
	flush := func() {
		asks = append(asks, plan.Settings(together, lacking, s.ceilings)...)
		together = nil
	}
	for _, sc := range scopes {
		nodes := nodes[sc.Kind]
		lacks := nodes
		if h := s.partial[sc.Scope]; h != nil && now.Sub(h.at) < partialFor {
			lacks = slices.DeleteFunc(slices.Clone(nodes), func(n string) bool { _, known := h.nodes[n]; return known })
		}
		if !slices.Equal(lacks, lacking) || len(together) > 0 && together[0].Kind != sc.Kind {
			flush()
			lacking = lacks
		}
		together = append(together, sc.Scope)
	}
	flush()
	return asks
}

// more reports whether a list has anything left to request now. Scopes that failed since the
// list was made are left out.
func (s *settings) more(l *list) bool {
	now := s.trusted.Second()
	for len(l.queue) > 0 && !l.halted() {
		first := &l.queue[0]
		first.Scopes = slices.DeleteFunc(slices.Clone(first.Scopes), func(sc bucket.Scope) bool {
			return s.books.roster[sc] == nil || now < s.readAgain(s.books.roster[sc])
		})
		if len(first.Scopes) > 0 {
			return true
		}
		l.queue = l.queue[1:]
	}
	return false
}

// anySettings reports whether a line has an active scope with settings.
func (s *settings) anySettings(l *line) bool {
	for _, sc := range s.books.roster {
		if s.collects(sc.Kind) && sc.Credential == l.Name && sc.Checked != 0 && sc.State == roster.Active {
			return true
		}
	}
	return false
}

// nodes are the GraphQL nodes that variants use for scopes of a kind.
func (s *settings) nodes(of bucket.ScopeKind) []string {
	used := map[string]bool{}
	for _, d := range s.catalogue.Datasets {
		for _, v := range d.Variants {
			if d.ScopeKind == of && !d.State {
				used[v.Node] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(used))
}

// next sends the next document of a list, if there is a permit for it; otherwise it returns how
// long to wait.
func (s *settings) next(ctx context.Context, of *line, l *list, lane quota.Lane) (ok bool, wait time.Duration, err error) {
	if err := s.journal.RefreshStream(ctx); err != nil {
		return false, 0, err
	}
	switch ok, wait, err = s.sender.permit(ctx, of, lane); {
	case err != nil:
		return false, 0, fmt.Errorf("reserve permits: %w", err)
	case !ok:
		return false, wait, nil
	}
	return true, 0, s.send(ctx, of, l)
}

// send sends the next document of a list, for which there is a permit. Unrecognised errors and
// invalid responses are not blamed on a scope until a document succeeds.
func (s *settings) send(ctx context.Context, of *line, l *list) error {
	ask := l.queue[0]
	l.queue = l.queue[1:]
	s.metrics.requests.WithLabelValues("settings").Inc()
	q := about(ask.Scopes)
	response, err := of.Client.Settings(ctx, q.AccountID, q.Zones, ask.Nodes)
	of.Budget.Over()
	if err != nil {
		err = s.failed(ctx, of, l, ask, err)
	} else {
		err = s.received(ctx, of, l, ask, response)
	}
	if err == nil && of.blocked == 0 && len(l.queue) == 0 && len(l.suspects) > 0 && !l.granting && !s.anySettings(of) {
		s.settingsRefusedAlike(of, l, s.unread[l.suspects[0]].refusal, nil)
	}
	return err
}
