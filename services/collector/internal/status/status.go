// Package status answers what a collector knows of scopes, coverage and
// datasets. It reads the store only, so that a standby answers as the leader
// does.
package status

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
)

// Store is the part of store.Store that is read here.
type Store interface {
	Head(ctx context.Context) (store.Head, error)
	Records(ctx context.Context, kind string) ([]store.Record, error)
	Coverage(ctx context.Context, f store.Filter, since bucket.Time) ([]store.Run, error)
}

// Source reads the store for the BucketService. Safe for concurrent use.
type Source struct {
	Store     Store
	Catalogue *catalogue.Catalogue
	Clock     clock.Clock
	Retention time.Duration
	Leading   func() bool
	Trouble   *trouble.Board // of this process
	// Unreadable is told of records that cannot be read; nil: nobody is.
	Unreadable *unreadable.Register
}

// Role is that of this process.
func (s *Source) Role() bucketv1.Role {
	if s.Leading() {
		return bucketv1.Role_ROLE_LEADER
	}
	return bucketv1.Role_ROLE_STANDBY
}

// Problems are those that the leader has found, by the store where another
// process leads, and those of this process itself.
func (s *Source) Problems(ctx context.Context) ([]*bucketv1.Problem, error) {
	list := s.Trouble.List(false)
	if s.Leading() {
		list = append(list, s.Trouble.List(true)...)
	} else {
		records, err := s.Store.Records(ctx, trouble.KindProblems)
		if err != nil {
			return nil, fmt.Errorf("read problems: %w", err)
		}
		head, err := s.Store.Head(ctx)
		if err != nil {
			return nil, fmt.Errorf("read whose problems are stored: %w", err)
		}
		list = append(list, trouble.Read(head.Term, records)...)
	}
	slices.SortStableFunc(list, func(a, b trouble.Problem) int {
		return cmp.Or(cmp.Compare(a.Code, b.Code), cmp.Compare(a.About, b.About))
	})
	out := make([]*bucketv1.Problem, len(list))
	for i, p := range list {
		out[i] = &bucketv1.Problem{Code: string(p.Code), About: p.About, Message: p.Message, Since: timestamppb.New(p.Since)}
	}
	return out, nil
}

// picture is what the answers are made of; of scopes alone, have, decided and
// gaps are not read.
type picture struct {
	now     bucket.Time
	claims  []roster.Claim
	roster  roster.Roster
	have    map[ledger.Series]bucket.Spans
	decided map[ledger.Series]*ledger.Decision
	gaps    map[ledger.Series][]ledger.Gap
	spoiled map[ledger.Series]bucket.Spans // stored, and not to be read
}

func (s *Source) read(ctx context.Context, f store.Filter) (*picture, error) {
	p, err := s.scopes(ctx)
	if err != nil {
		return nil, err
	}
	records, err := s.Store.Records(ctx, ledger.KindDecided)
	if err != nil {
		return nil, fmt.Errorf("read decisions: %w", err)
	}
	var bad []store.Unreadable
	p.decided, bad = ledger.Decisions(records)
	s.Unreadable.Records(ledger.KindDecided, bad)
	if records, err = s.Store.Records(ctx, ledger.KindGap); err != nil {
		return nil, fmt.Errorf("read gaps: %w", err)
	}
	gaps, bad := ledger.Gaps(records)
	s.Unreadable.Records(ledger.KindGap, bad)
	p.gaps = map[ledger.Series][]ledger.Gap{}
	for _, g := range gaps {
		p.gaps[g.Of()] = append(p.gaps[g.Of()], g)
	}
	if records, err = s.Store.Records(ctx, ledger.KindRetired); err != nil {
		return nil, fmt.Errorf("read what retention dropped: %w", err)
	}
	retired, bad := ledger.Retired(records)
	s.Unreadable.Records(ledger.KindRetired, bad)
	if records, err = s.Store.Records(ctx, ledger.KindUnreadable); err != nil {
		return nil, fmt.Errorf("read what cannot be read: %w", err)
	}
	spoiled, bad := ledger.ReadUnreadable(records)
	s.Unreadable.Records(ledger.KindUnreadable, bad)
	s.Unreadable.Learn(spoiled)
	p.spoiled = make(map[ledger.Series]bucket.Spans, len(spoiled))
	for _, u := range spoiled {
		p.spoiled[ledger.Series{Dataset: u.Dataset, Scope: u.Scope}] = u.Spans
	}
	keep := max(retired, roster.Keep(p.now, s.Retention)) // as the collector's loop has it
	// Not filtered by dataset: another size of a dataset bounds this one.
	runs, err := s.Store.Coverage(ctx, store.Filter{Scopes: f.Scopes}, keep)
	if err != nil {
		return nil, fmt.Errorf("read coverage: %w", err)
	}
	var begin map[ledger.Series]bucket.Time
	p.have, begin = ledger.Cover(runs, s.Catalogue.Datasets)
	p.claim(s.Catalogue, f, roster.Terms{
		Keep:  keep,
		Begin: func(d string, sc bucket.Scope) bucket.Time { return begin[ledger.Series{Dataset: d, Scope: sc}] },
	})
	return p, nil
}

// scopes begins a picture: who there is, and nothing of what is stored of them.
func (s *Source) scopes(ctx context.Context) (*picture, error) {
	p := &picture{now: bucket.TimeOf(s.Clock.Now())}
	records, err := s.Store.Records(ctx, roster.KindScope)
	if err != nil {
		return nil, fmt.Errorf("read scopes: %w", err)
	}
	contents, err := s.Store.Records(ctx, roster.KindEntitlements) // behind the scopes
	if err != nil {
		return nil, fmt.Errorf("read entitlements: %w", err)
	}
	stored := roster.Read(records, contents)
	p.roster = stored.Roster
	s.Unreadable.Records(roster.KindScope, stored.Unreadable)
	s.Unreadable.Records(roster.KindEntitlements, stored.Damaged)
	return p, nil
}

// Named are the scopes that have one of the names as the label of their zone, or
// had it before a rename that is remembered.
func (s *Source) Named(ctx context.Context, zones []string) ([]bucket.Scope, error) {
	p, err := s.scopes(ctx)
	if err != nil {
		return nil, err
	}
	var out []bucket.Scope
	for _, sc := range p.roster {
		if slices.ContainsFunc(zones, sc.Bears) {
			out = append(out, sc.Scope)
		}
	}
	return out, nil
}

// claim adds the claims that match, ordered by dataset and scope.
func (p *picture) claim(c *catalogue.Catalogue, f store.Filter, terms roster.Terms) {
	for _, c := range p.roster.Claims(p.now, c.Datasets, terms) {
		if matches(f, c.Dataset.Dataset, c.Scope.Scope) {
			p.claims = append(p.claims, c)
		}
	}
	slices.SortStableFunc(p.claims, func(a, b roster.Claim) int {
		return bucket.Key{Dataset: a.Dataset.Dataset, Scope: a.Scope.Scope}.Compare(bucket.Key{Dataset: b.Dataset.Dataset, Scope: b.Scope.Scope})
	})
}

func matches(f store.Filter, dataset string, sc bucket.Scope) bool {
	return (len(f.Datasets) == 0 || slices.Contains(f.Datasets, dataset)) &&
		(len(f.Scopes) == 0 || slices.Contains(f.Scopes, sc))
}

// Coverage says of each range inside window what it is; the zero window stands
// for everything from the horizon to now. The time is that of the answer.
func (s *Source) Coverage(ctx context.Context, f store.Filter, window bucket.Window) ([]*bucketv1.Coverage, time.Time, error) {
	p, err := s.read(ctx, f)
	if err != nil {
		return nil, time.Time{}, err
	}
	var out []*bucketv1.Coverage
	for _, c := range p.claims {
		asked := bucket.Window{Start: c.Wanted, End: c.Window.End}
		if window != (bucket.Window{}) {
			asked = asked.Intersect(window)
		}
		cov := &bucketv1.Coverage{
			Dataset: c.Dataset.Dataset, Scope: wire.ProtoScope(c.Scope.Scope), HorizonUnixSeconds: int64(c.Window.Start),
		}
		if !asked.Empty() {
			cov.Ranges = p.ranges(c, asked)
		}
		out = append(out, cov)
	}
	return out, p.now.Std(), nil
}

// ranges fills the asked window without hole or overlap.
func (p *picture) ranges(c roster.Claim, asked bucket.Window) []*bucketv1.CoverageRange {
	of := ledger.Series{Dataset: c.Dataset.Dataset, Scope: c.Scope.Scope}
	var out []*bucketv1.CoverageRange
	add := func(w bucket.Window, r *bucketv1.CoverageRange) {
		if w = w.Intersect(asked); w.Empty() {
			return
		}
		r.StartUnixSeconds, r.EndUnixSeconds = int64(w.Start), int64(w.End)
		out = append(out, r)
	}
	for _, w := range p.have[of] {
		for _, final := range p.spoiled[of].Missing(w) {
			add(final, &bucketv1.CoverageRange{State: bucketv1.CoverageState_COVERAGE_STATE_FINAL})
		}
		for _, spoiled := range p.spoiled[of].Within(w) {
			add(spoiled, &bucketv1.CoverageRange{State: bucketv1.CoverageState_COVERAGE_STATE_UNREADABLE})
		}
	}
	if d := p.decided[of]; d != nil {
		for _, span := range d.Spans {
			state := bucketv1.CoverageState_COVERAGE_STATE_LOST
			if span.Accepted {
				state = bucketv1.CoverageState_COVERAGE_STATE_ACCEPTED
			}
			add(span.Window, &bucketv1.CoverageRange{State: state, Reason: span.Reason.Proto()})
		}
	}
	for _, hole := range ledger.Closed(p.have[of], p.decided[of], nil).Missing(asked) {
		if c.Variant == nil && !c.Unread {
			add(hole, &bucketv1.CoverageRange{State: bucketv1.CoverageState_COVERAGE_STATE_REFUSED, Detail: c.Refused})
			continue
		}
		rest := bucket.Spans{hole}
		for _, a := range c.Scope.Away {
			away := a.Windows(c.Dataset.Size)
			for _, part := range rest.Within(away) {
				add(part, &bucketv1.CoverageRange{State: bucketv1.CoverageState_COVERAGE_STATE_REFUSED, Detail: "zone was " + string(a.State)})
			}
			rest = rest.Remove(away)
		}
		for _, g := range p.gaps[of] {
			for _, part := range rest.Within(g.Window) {
				add(part, missing(g, p.now))
			}
			rest = rest.Remove(g.Window)
		}
		for _, w := range rest {
			add(w, &bucketv1.CoverageRange{State: bucketv1.CoverageState_COVERAGE_STATE_MISSING, Reason: bucketv1.GapReason_GAP_REASON_PENDING, Detail: c.Refused})
		}
	}
	slices.SortFunc(out, func(a, b *bucketv1.CoverageRange) int { return int(a.StartUnixSeconds - b.StartUnixSeconds) })
	return out
}

func missing(g ledger.Gap, now bucket.Time) *bucketv1.CoverageRange {
	state := bucketv1.CoverageState_COVERAGE_STATE_MISSING
	if g.Waits(now) {
		state = bucketv1.CoverageState_COVERAGE_STATE_WAITING
	}
	r := &bucketv1.CoverageRange{
		State: state, Reason: g.Reason.Proto(), Detail: g.Detail,
		Attempts: uint32(g.Attempts),
	}
	if g.Next != 0 {
		r.NextAttempt = timestamppb.New(g.Next.Std())
	}
	if g.LostAt != 0 {
		r.LostAt = timestamppb.New(g.LostAt.Std())
	}
	return r
}

// Scopes lists every zone that was ever collected, with what it may be asked.
func (s *Source) Scopes(ctx context.Context) ([]*bucketv1.ScopeInfo, error) {
	p, err := s.scopes(ctx)
	if err != nil {
		return nil, err
	}
	// Of the claims only the variants are told, which no window decides: what
	// is stored, the one thing that is large, need not be read.
	p.claim(s.Catalogue, store.Filter{}, roster.Terms{})
	entitlements := p.entitlements()
	out := make([]*bucketv1.ScopeInfo, 0, len(p.roster))
	for _, sc := range p.roster {
		out = append(out, &bucketv1.ScopeInfo{
			Scope: wire.ProtoScope(sc.Scope), Name: sc.Name, AccountId: sc.AccountID, AccountName: sc.AccountName,
			ZoneLabel: sc.ZoneLabel, AccountLabel: sc.AccountLabel, Plan: sc.Plan, State: state(sc.State),
			FirstSeen: timestamppb.New(sc.FirstSeen.Std()), StartUnixSeconds: int64(sc.Start), EndUnixSeconds: int64(sc.End),
			Entitlements: entitlements[sc.Scope],
		})
	}
	slices.SortFunc(out, func(a, b *bucketv1.ScopeInfo) int {
		x, y := bucket.Scope{Kind: bucket.ScopeKind(a.Scope.Kind), ID: a.Scope.Id}, bucket.Scope{Kind: bucket.ScopeKind(b.Scope.Kind), ID: b.Scope.Id}
		return x.Compare(y)
	})
	return out, nil
}

// entitlements are those of each scope, in the order of the claims.
func (p *picture) entitlements() map[bucket.Scope][]*bucketv1.Entitlement {
	out := make(map[bucket.Scope][]*bucketv1.Entitlement, len(p.roster))
	for _, c := range p.claims {
		e := &bucketv1.Entitlement{Dataset: c.Dataset.Dataset, Reason: c.Refused}
		if c.Variant != nil {
			e.Variant = c.Variant.Name
		}
		if c.Scope.Checked != 0 {
			e.CheckedAt = timestamppb.New(c.Scope.Checked.Std())
		}
		out[c.Scope.Scope] = append(out[c.Scope.Scope], e)
	}
	return out
}

func state(s roster.State) bucketv1.ScopeState {
	switch s {
	case roster.Active:
		return bucketv1.ScopeState_SCOPE_STATE_ACTIVE
	case roster.Paused:
		return bucketv1.ScopeState_SCOPE_STATE_PAUSED
	case roster.Pending:
		return bucketv1.ScopeState_SCOPE_STATE_PENDING
	case roster.Inactive:
		return bucketv1.ScopeState_SCOPE_STATE_INACTIVE
	case roster.Gone:
		return bucketv1.ScopeState_SCOPE_STATE_GONE
	case roster.Excluded:
		return bucketv1.ScopeState_SCOPE_STATE_EXCLUDED
	}
	return bucketv1.ScopeState_SCOPE_STATE_UNSPECIFIED
}

// Datasets summarises coverage by dataset.
func (s *Source) Datasets(ctx context.Context) ([]*bucketv1.DatasetStatus, error) {
	p, err := s.read(ctx, store.Filter{})
	if err != nil {
		return nil, err
	}
	byID := map[string]*bucketv1.DatasetStatus{}
	var out []*bucketv1.DatasetStatus
	for _, c := range p.claims {
		d := byID[c.Dataset.Dataset]
		if d == nil {
			d = &bucketv1.DatasetStatus{Dataset: c.Dataset.Dataset}
			byID[c.Dataset.Dataset] = d
			out = append(out, d)
		}
		p.add(d, c)
	}
	return out, nil
}

func (p *picture) add(d *bucketv1.DatasetStatus, c roster.Claim) {
	of := ledger.Series{Dataset: c.Dataset.Dataset, Scope: c.Scope.Scope}
	if have := p.have[of]; len(have) > 0 {
		d.NewestEndUnixSeconds = max(d.NewestEndUnixSeconds, int64(have[len(have)-1].End))
	}
	for _, have := range p.have[of] {
		for _, spoiled := range p.spoiled[of].Within(have) {
			d.WindowsUnreadable += uint64(spoiled.Len() / c.Dataset.Size)
		}
	}
	switch {
	case c.Scope.State != roster.Active:
		return
	case c.Unread: // neither collected nor refused
		return
	case c.Variant == nil:
		d.ScopesRefused++
		return
	}
	d.ScopesActive++
	until := c.Window.End
	closed := ledger.Closed(p.have[of], p.decided[of], c.Scope.Absent(c.Dataset.Size))
	holes := ledger.Unaccounted(closed, p.gaps[of], p.now, c.Window)
	if len(holes) > 0 {
		until = holes[0].Start
	}
	missing := windows(holes, c.Dataset.Size)
	d.WindowsMissing += missing
	d.WindowsWaiting += windows(closed.Missing(c.Window), c.Dataset.Size) - missing
	if d.CompleteUntilUnixSeconds == 0 || int64(until) < d.CompleteUntilUnixSeconds {
		d.CompleteUntilUnixSeconds = int64(until)
	}
}

func windows(spans []bucket.Window, size time.Duration) (n uint64) {
	for _, w := range spans {
		n += uint64(w.Len() / size)
	}
	return n
}
