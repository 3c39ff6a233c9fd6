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
	partialFor     = time.Hour     // what is known of a part of a zone's settings
)

// settings reads what plans allow. Its requests take turns with those for data, so
// that many zones that are new keep nobody's data back.
type settings struct {
	*env
	faults  *faults
	books   *books
	lines   lines
	sender  *sender
	journal *journal.Journal
	save    func(context.Context, *roster.Contents, []*roster.Scope) error

	unread   map[bucket.Scope]*unread // scopes whose settings could not be read
	heard    map[bucket.Scope]*heard  // scopes of which a part of the nodes was answered
	ceilings plan.Ceilings            // of the documents; lower when Cloudflare refused larger ones
}

// heard is what was answered of settings that take several documents.
type heard struct {
	at    bucket.Time
	nodes map[string]*roster.Node // nil: none there
}

// list is what is asked of settings in a pass, one document after another.
type list struct {
	queue    []plan.Ask
	voided   int            // requests that failed
	granting bool           // one was answered
	suspects []bucket.Scope // refused in unknown words before any was answered
}

// halted reports whether the rest of a list is left for the next pass, since many
// requests have failed.
func (l *list) halted() bool { return l.voided >= mostVoided }

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

// entitle reads the settings of a line's scopes whose entitlements are unknown or old, as
// far as their turns go; [settings.aside] goes on. What voids requests is left to
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

// aside uses a permit of a line for settings, at every other call, where any are to be
// asked.
func (s *settings) aside(ctx context.Context, l *line) (used bool, err error) {
	if l.turns == 0 || !s.more(&l.urgent) {
		l.turns = min(l.turns+1, settingsAtOnce)
		return false, nil
	}
	l.turns--
	return true, s.send(ctx, l, &l.urgent)
}

// entitleFailed asks for those that voided a request before, when nothing else
// needs the budget: there may be hundreds that the token may not ask. Who waits
// longest comes first. With several lines the rest is left for later at a time.
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
			return nil // the others' windows fall due meanwhile
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
		if l.blocked != 0 {
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

// due reports whether a scope's settings should be asked for at now.
func (s *settings) due(now bucket.Time, sc *roster.Scope) bool {
	return s.collects(sc.Kind) && sc.Stale(now, entitleEvery) && now >= s.readAgain(sc)
}

// readAgain is when a scope's settings may be asked for again.
func (s *settings) readAgain(sc *roster.Scope) bucket.Time {
	if u := s.unread[sc.Scope]; u != nil {
		return u.Next
	}
	return 0
}

// stale are the scopes of a line whose settings should be read, each ascending: those of
// which nothing can be asked before, those whose settings are old, and those whose
// settings no leader could read for long, which may void requests. Who is known to
// is left out.
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

// pack makes documents of what is not answered yet of scopes. Neighbours of which
// the same is lacking share them.
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
		if h := s.heard[sc.Scope]; h != nil && now.Sub(h.at) < partialFor {
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

// more reports whether a list has anything left to ask now. Scopes that could not
// be read since it was made are left out.
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

// anySettings reports whether anything of a line can be asked by settings that were
// read.
func (s *settings) anySettings(l *line) bool {
	for _, sc := range s.books.roster {
		if s.collects(sc.Kind) && sc.Credential == l.Name && sc.Checked != 0 && sc.State == roster.Active {
			return true
		}
	}
	return false
}

// nodes are the GraphQL nodes that any variant asks of scopes of a kind.
func (s *settings) nodes(of bucket.ScopeKind) []string {
	used := map[string]bool{}
	for _, d := range s.catalogue.Datasets {
		for _, v := range d.Variants {
			if d.ScopeKind == of {
				used[v.Node] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(used))
}

// next sends the next document of a list, if there is a permit for it; otherwise it
// says how long to wait.
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

// send asks the next document of a list, for which there is a permit. Refusals in
// unknown words are nobody's fault while nothing was answered that could have been,
// and so are answers that are none.
func (s *settings) send(ctx context.Context, of *line, l *list) error {
	ask := l.queue[0]
	l.queue = l.queue[1:]
	s.metrics.requests.WithLabelValues("settings").Inc()
	q := about(ask.Scopes)
	answer, err := of.Client.Settings(ctx, q.AccountID, q.Zones, ask.Nodes)
	of.Budget.Over()
	if err != nil {
		err = s.failed(ctx, of, l, ask, err)
	} else {
		err = s.answered(ctx, of, l, ask, answer)
	}
	if err == nil && of.blocked == 0 && len(l.queue) == 0 && len(l.suspects) > 0 && !l.granting && !s.anySettings(of) {
		s.settingsRefusedAlike(of, l, s.unread[l.suspects[0]].refusal, nil)
	}
	return err
}
