// Package status provides scopes, coverage and the status of datasets. It reads only the
// store, so that a standby returns the same as the leader.
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
	"github.com/weir-metrics/weir/services/collector/internal/coverage"
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
	Datasets(ctx context.Context) ([]store.Entry, error)
}

// Source reads the store for the BucketService. Safe for concurrent use.
type Source struct {
	Store     Store
	Catalogue *catalogue.Catalogue
	Clock     clock.Clock
	Retention time.Duration
	Leading   func() bool
	Trouble   *trouble.Board // of this process
	// Unreadable registers records that cannot be read; may be nil.
	Unreadable *unreadable.Register
}

// Role returns the role of this process.
func (s *Source) Role() bucketv1.Role {
	if s.Leading() {
		return bucketv1.Role_ROLE_LEADER
	}
	return bucketv1.Role_ROLE_STANDBY
}

// Problems returns the problems of the leader, from the store if another process leads,
// and those of this process.
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
			return nil, fmt.Errorf("read the term of the stored problems: %w", err)
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

// picture has the data for a response. Book is nil if only scopes are requested.
type picture struct {
	now    bucket.Time
	claims []roster.Claim
	roster roster.Roster
	book   *coverage.Book
}

// read returns what is known of windows that end after since.
func (s *Source) read(ctx context.Context, f store.Filter, since bucket.Time) (*picture, error) {
	p, err := s.scopes(ctx)
	if err != nil {
		return nil, err
	}
	records, err := coverage.ReadRecords(ctx, s.Store)
	if err != nil {
		return nil, err
	}
	for kind, bad := range records.Bad {
		s.Unreadable.Records(kind, bad)
	}
	s.Unreadable.Learn(records.Unreadable)
	if p.book, err = records.Read(ctx, s.Store, f.Scopes, roster.Keep(p.now, s.Retention), since, s.Catalogue.Datasets); err != nil {
		return nil, err
	}
	p.claim(s.Catalogue, f, p.book.Terms())
	return p, nil
}

// scopes reads only the scopes of a picture.
func (s *Source) scopes(ctx context.Context) (*picture, error) {
	p := &picture{now: bucket.TimeOf(s.Clock.Now())}
	stored, err := roster.Load(ctx, s.Store)
	if err != nil {
		return nil, err
	}
	p.roster = stored.Roster
	stored.Report(s.Unreadable)
	return p, nil
}

// Named returns the scopes whose zone label is one of the names, or was before a recorded
// rename.
func (s *Source) Named(ctx context.Context, zones []string) ([]bucket.Scope, error) {
	p, err := s.scopes(ctx)
	if err != nil {
		return nil, err
	}
	var out []bucket.Scope
	for _, sc := range p.roster {
		if slices.ContainsFunc(zones, sc.HasLabel) {
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

// Coverage returns the state of each range inside window; the zero window means everything
// from the horizon to now. The time is that of the result.
func (s *Source) Coverage(ctx context.Context, f store.Filter, window bucket.Window) ([]*bucketv1.Coverage, time.Time, error) {
	p, err := s.read(ctx, f, window.Start)
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
			for _, r := range p.book.View(c, p.now).Ranges(asked) {
				cov.Ranges = append(cov.Ranges, protoRange(r))
			}
		}
		out = append(out, cov)
	}
	return out, p.now.Std(), nil
}

// Open returns the ranges that are due and not final, ascending by dataset, scope and
// window. A zero end means no bound.
func (s *Source) Open(ctx context.Context, f store.Filter, window bucket.Window, decided bool) (out []coverage.Open, err error) {
	p, err := s.read(ctx, f, window.Start)
	if err != nil {
		return nil, err
	}
	if window.End == 0 {
		window.End = p.now
	}
	for _, c := range p.claims {
		out = append(out, p.book.View(c, p.now).Open(window, decided)...)
	}
	return out, nil
}

var protoStates = map[coverage.State]bucketv1.CoverageState{
	coverage.Final:      bucketv1.CoverageState_COVERAGE_STATE_FINAL,
	coverage.Unreadable: bucketv1.CoverageState_COVERAGE_STATE_UNREADABLE,
	coverage.Waiting:    bucketv1.CoverageState_COVERAGE_STATE_WAITING,
	coverage.Missing:    bucketv1.CoverageState_COVERAGE_STATE_MISSING,
	coverage.Refused:    bucketv1.CoverageState_COVERAGE_STATE_REFUSED,
	coverage.Lost:       bucketv1.CoverageState_COVERAGE_STATE_LOST,
	coverage.Accepted:   bucketv1.CoverageState_COVERAGE_STATE_ACCEPTED,
}

func protoRange(r coverage.Range) *bucketv1.CoverageRange {
	out := &bucketv1.CoverageRange{
		StartUnixSeconds: int64(r.Start), EndUnixSeconds: int64(r.End),
		State: protoStates[r.State], Reason: r.Reason.Proto(), Detail: r.Detail, Attempts: uint32(r.Attempts),
	}
	if r.Next != 0 {
		out.NextAttempt = timestamppb.New(r.Next.Std())
	}
	if r.LostAt != 0 {
		out.LostAt = timestamppb.New(r.LostAt.Std())
	}
	return out
}

// Scopes lists every zone and account that was ever collected, with its entitlements.
func (s *Source) Scopes(ctx context.Context) ([]*bucketv1.ScopeInfo, error) {
	p, err := s.scopes(ctx)
	if err != nil {
		return nil, err
	}
	// Only the variants of the claims are returned. They do not depend on windows, so
	// coverage, which is large, need not be read.
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

// entitlements returns the entitlements of each scope, in the order of the claims.
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
	p, err := s.read(ctx, store.Filter{}, 0)
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
	view := p.book.View(c, p.now)
	d.NewestEndUnixSeconds = max(d.NewestEndUnixSeconds, int64(view.Newest()))
	windows := view.Count()
	d.WindowsUnreadable += windows[coverage.Unreadable]
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
	d.WindowsMissing += windows[coverage.Missing]
	d.WindowsWaiting += windows[coverage.Waiting]
	if until := int64(view.CompleteUntil()); d.CompleteUntilUnixSeconds == 0 || until < d.CompleteUntilUnixSeconds {
		d.CompleteUntilUnixSeconds = until
	}
}
