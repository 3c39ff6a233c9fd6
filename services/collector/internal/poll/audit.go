package poll

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/audit"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
)

// auditor reads a sample of what is final again.
type auditor struct {
	*env
	faults *faults
	books  *books
	lines  lines
	sender *sender
	drift  *drift
	store  interface {
		List(ctx context.Context, q store.ListQuery, emit func(store.Entry) error) error
	}
	commit     func(context.Context, store.Batch) error
	unreadable *unreadable.Register
}

// permitKeeps is how long after a permit was taken its request may be sent. Much later
// the permit no longer counts, and the request would be one too many (G7).
const permitKeeps = 5 * time.Second

// audit reads a sample of final buckets again, with idle lines, while checks are due and the
// budget has permits to spare.
func (u *auditor) audit(ctx context.Context, idle map[*line]bool) error {
	for {
		maps.DeleteFunc(idle, func(l *line, is bool) bool { return !is || l.blocked != 0 })
		if len(idle) == 0 {
			return nil
		}
		now, err := u.now(ctx)
		if err != nil {
			return err
		}
		if u.drift.lane.Left(now) == 0 {
			return nil
		}
		r, checks, err := u.nextAudit(ctx, now, idle)
		if err != nil || len(checks) == 0 {
			return err
		}
		l, taken := u.books.lineOf(r.Scopes[0]), u.clock.Now()
		ok, _, err := u.sender.permit(ctx, l, quota.Spare)
		if err != nil {
			return fmt.Errorf("reserve permits: %w", err)
		}
		if !ok {
			delete(idle, l) // no spare permit now
			continue
		}
		begun := make([]audit.Check, len(checks))
		for i := range checks {
			begun[i] = checks[i].Check
		}
		u.drift.lane.Begin(now, begun)
		known := func(dataset string) bool { return u.books.settling[dataset] != nil }
		if err := u.commit(ctx, store.Batch{Records: []store.Record{u.drift.lane.Record(known)}}); err != nil {
			return err
		}
		if u.clock.Now().Sub(taken) > permitKeeps {
			// The store could not be written meanwhile. The audit is lost.
			l.Budget.Over()
			continue
		}
		if err := u.askAudit(ctx, l, r, checks); err != nil {
			return err
		}
	}
}

// dueCheck is a window that is due for an audit, with what is stored of it.
type dueCheck struct {
	audit.Check
	stored map[bucket.Scope]*bucket.Bucket
}

// nextAudit is the next request of the audit lane that may be sent, with its checks; none if
// nothing is due.
func (u *auditor) nextAudit(ctx context.Context, now bucket.Time, idle map[*line]bool) (plan.Request, []dueCheck, error) {
	var all []dueCheck
	var rechecks []plan.Recheck
	claims := map[string][]roster.Claim{}
	for i := range u.catalogue.Datasets {
		d := &u.catalogue.Datasets[i]
		if d.State {
			continue // it cannot be read again
		}
		for _, age := range audit.Ages {
			due, ok := u.drift.lane.Due(now, d.Dataset, d.Size, age)
			if !ok {
				continue
			}
			if len(claims) == 0 {
				for _, c := range u.books.claims(now) {
					claims[c.Dataset.Dataset] = append(claims[c.Dataset.Dataset], c)
				}
			}
			check := dueCheck{Check: due}
			wants, err := u.auditable(ctx, now, &check, claims[d.Dataset])
			if err != nil {
				return plan.Request{}, nil, err
			}
			if len(wants) == 0 {
				u.drift.lane.Pass(due)
				continue
			}
			all = append(all, check)
			for _, w := range wants {
				rechecks = append(rechecks, plan.Recheck{Want: w, Window: bucket.Window{Start: due.Start, End: due.Start.Add(d.Size)}})
			}
		}
	}
	if len(rechecks) == 0 {
		return plan.Request{}, nil, nil
	}
	requests := plan.Rechecks(rechecks, plan.DefaultCeilings)
	first := slices.IndexFunc(requests, func(r plan.Request) bool { return idle[u.books.lineOf(r.Scopes[0])] })
	if first < 0 {
		return plan.Request{}, nil, nil
	}
	r := requests[first]
	return r, slices.DeleteFunc(all, func(c dueCheck) bool {
		return !slices.ContainsFunc(r.Selections, c.isIn)
	}), nil
}

func (c *dueCheck) isIn(sel plan.Selection) bool {
	return sel.Dataset.Dataset == c.Dataset && sel.Window.Start == c.Start
}

// auditable chooses the scopes of a due window and reads what is stored of them.
func (u *auditor) auditable(ctx context.Context, now bucket.Time, check *dueCheck, claims []roster.Claim) ([]plan.Want, error) {
	byScope := map[bucket.Scope]roster.Claim{}
	for _, c := range claims {
		of := ledger.Series{Dataset: c.Dataset.Dataset, Scope: c.Scope.Scope}
		window := bucket.Window{Start: check.Start, End: check.Start.Add(c.Dataset.Size)}
		if t := u.faults.tries[of]; t != nil && t.reason != "" || u.faults.isOff(of.Dataset) {
			continue // it would only void the response for the others
		}
		if c.Variant != nil && !c.Variant.Sampled && u.lines.named(c.Scope.Credential) != nil && c.Scope.State == roster.Active && check.Start >= c.Window.Start && u.books.coverage.Final[of].Contains(window) {
			byScope[of.Scope] = c
		}
	}
	if len(byScope) == 0 {
		return nil, nil
	}
	if err := u.readStored(ctx, now, check, byScope); err != nil {
		return nil, err
	}
	var wants []plan.Want
	chosen := audit.Choose(check.Dataset, check.Start, slices.SortedFunc(maps.Keys(check.stored), bucket.Scope.Compare))
	for _, sc := range chosen {
		// Scopes that cannot share a request with the first are audited when they
		// are drawn first.
		if c, first := byScope[sc], byScope[chosen[0]]; c.Variant.Same(first.Variant) && c.Scope.Credential == first.Scope.Credential {
			wants = append(wants, plan.Want{Dataset: c.Dataset, Variant: c.Variant, Scope: sc, Group: u.lines.named(c.Scope.Credential).group, Limits: c.Limits})
		}
	}
	slices.SortFunc(wants, func(a, b plan.Want) int { return a.Scope.Compare(b.Scope) })
	return wants, nil
}

// readStored reads the buckets of a window that can be compared with another reading.
func (u *auditor) readStored(ctx context.Context, now bucket.Time, check *dueCheck, claims map[bucket.Scope]roster.Claim) error {
	check.stored = map[bucket.Scope]*bucket.Bucket{}
	size := u.sizeOf(check.Dataset)
	return u.store.List(ctx, store.ListQuery{
		Filter: store.Filter{Datasets: []string{check.Dataset}}, Window: bucket.Window{Start: check.Start, End: check.Start.Add(size)},
	}, func(e store.Entry) error {
		b, err := unreadable.Bucket(&e)
		if err != nil {
			u.unreadable.Note(&e, err)
			return nil
		}
		c, claimed := claims[b.Scope]
		if claimed && b.Variant == c.Variant.Name && b.SampleInterval <= 1 && check.Age.Worth(now, b.ReadAt) {
			check.stored[b.Scope] = b
		}
		return nil
	})
}

// askAudit sends one request of the audit lane and records the results. A failure costs the
// sample and nothing else: the request is not retried, and only a budget error affects other
// lanes.
func (u *auditor) askAudit(ctx context.Context, l *line, r plan.Request, checks []dueCheck) error {
	response, readAt, err := u.sender.send(ctx, r)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		u.log.Debug("audit request failed", "zones", len(r.Scopes), "selections", len(r.Selections), "err", err)
		readAt = u.trusted.Second()
		var e *cloudflare.Error
		if errors.As(err, &e) {
			u.metrics.errors.WithLabelValues(e.Class.String()).Inc()
			if e.Class == cloudflare.Budget {
				u.sender.refusedAsWhole(l, plan.Request{}, e)
			}
		}
	}
	for i, sel := range r.Selections {
		for j := range checks {
			if checks[j].isIn(sel) {
				u.compare(r, sel, alias(i), &checks[j], response, readAt)
			}
		}
	}
	return u.commit(ctx, store.Batch{Records: u.drift.records()})
}

// compare compares one selection's part of a response, nil if there is none, with what is
// stored.
func (u *auditor) compare(r plan.Request, sel plan.Selection, alias string, check *dueCheck, response *cloudflare.Response, readAt bucket.Time) {
	for _, sc := range r.Scopes {
		stored := check.stored[sc]
		a := audit.Audited{Check: check.Check, Scope: sc, Zone: stored.Zone, ReadAt: readAt, Result: audit.Unanswered}
		if f, ok := laterReading(sel, sc, alias, response); ok {
			a.Result, a.Changes = audit.Compare(stored.Families, f.Families, f.Empty, feeds(sel.Variant))
		}
		u.drift.figures(check.Dataset).Audited(readAt, sel.Dataset.Delay, a)
		u.drift.unsaved[check.Dataset] = true
		u.metrics.audited.WithLabelValues(check.Dataset, check.Age.Name, string(a.Result)).Inc()
		switch a.Result {
		case audit.Moved:
			u.metrics.moved.WithLabelValues(check.Dataset, check.Age.Name).Observe(a.Ratio())
			u.quiet.Info(check.Dataset, "final bucket has moved at Cloudflare; the stored bucket is kept", "dataset", check.Dataset, inLog(sc),
				"window", stored.Window().String(), "age", check.Age.Name, "ratio", a.Ratio())
		case audit.Same:
			u.metrics.moved.WithLabelValues(check.Dataset, check.Age.Name).Observe(0)
		default:
		}
	}
}

// laterReading is the selection's one window in a response.
func laterReading(sel plan.Selection, sc bucket.Scope, alias string, response *cloudflare.Response) (catalogue.Folded, bool) {
	if response == nil {
		return catalogue.Folded{}, false
	}
	groups, there := response.Zones[sc.ID][alias]
	if !there || len(groups) >= sel.Limit {
		return catalogue.Folded{}, false
	}
	folded, err := sel.Dataset.Fold(sel.Variant, sel.Window, groups)
	if err != nil || len(folded) != 1 || folded[0].SampleInterval > 1 {
		return catalogue.Folded{}, false
	}
	return folded[0], true
}

// feeds returns whether a variant can fill a family.
func feeds(v *catalogue.Variant) func(family string) bool {
	return func(family string) bool {
		return slices.ContainsFunc(v.Measures, func(m catalogue.Measure) bool { return m.Family == family })
	}
}
