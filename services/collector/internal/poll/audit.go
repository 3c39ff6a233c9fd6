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

// driftEvery is how often figures about settling are written; those about
// audits are written at once.
const driftEvery = time.Hour

// drift is what a leader knows of how final buckets settled and moved.
type drift struct {
	lane    *audit.Lane
	of      map[string]*audit.Drift // by dataset
	changed map[string]bool         // datasets whose record is to be written
	flushAt bucket.Time
}

func (p *Poller) loadDrift(ctx context.Context) (d drift, err error) {
	d = drift{changed: map[string]bool{}}
	records, err := p.Store.Records(ctx, audit.KindLane)
	if err != nil {
		return d, err
	}
	var bad []store.Unreadable
	d.lane, bad = audit.ReadLane(records)
	p.Unreadable.Records(audit.KindLane, bad)
	if records, err = p.Store.Records(ctx, audit.KindDrift); err != nil {
		return d, err
	}
	d.of, bad = audit.ReadDrifts(records)
	p.Unreadable.Records(audit.KindDrift, bad)
	return d, nil
}

// figures is where those of a dataset are kept. Who changes them notes it.
func (d *drift) figures(dataset string) *audit.Drift {
	if d.of[dataset] == nil {
		d.of[dataset] = audit.NewDrift(dataset)
	}
	return d.of[dataset]
}

// flush returns the records of figures that changed, once in a while.
func (d *drift) flush(now bucket.Time) []store.Record {
	if now < d.flushAt {
		return nil
	}
	d.flushAt = now.Add(driftEvery)
	return d.records()
}

func (d *drift) records() (out []store.Record) {
	for _, id := range slices.Sorted(maps.Keys(d.changed)) {
		out = append(out, d.of[id].Record())
	}
	clear(d.changed)
	return out
}

// auditor reads a sample of what is final again.
type auditor struct {
	*Poller
	*faults
	*books
	*writer
	*asker
	drift drift
}

// noteSettled tells how a bucket became final.
func (u *auditor) noteSettled(done settled) {
	d, b, v := u.Catalogue.Find(done.b.Dataset), done.b, done.verdict
	if of := u.drift.figures(b.Dataset); of.Settled(b.ReadAt, d.Delay, audit.Window{
		End: b.Window().End, First: v.First, Since: v.Since, Equal: v.Equal, Ground: v.Final, Sampled: b.SampleInterval > 1,
	}) {
		u.drift.changed[b.Dataset] = true
	}
}

// permitKeeps is how long after a permit was taken its request may be sent. Much later
// the permit no longer counts, and the request would be one too many (G7).
const permitKeeps = 5 * time.Second

// audit reads a sample of final buckets again, as long as there is some that is
// due and budget that nobody needs, of lines that are idle.
func (u *auditor) audit(ctx context.Context, idle map[*line]bool) error {
	for {
		maps.DeleteFunc(idle, func(l *line, is bool) bool { return !is || l.blocked != 0 })
		if len(idle) == 0 {
			return nil
		}
		at, err := u.trusted.Look(ctx)
		if err != nil {
			return err
		}
		now := bucket.TimeOf(at)
		if u.drift.lane.Left(now) == 0 {
			return nil
		}
		r, looks, err := u.nextAudit(ctx, now, idle)
		if err != nil || len(looks) == 0 {
			return err
		}
		l, taken := u.lineOf(r.Scopes[0]), u.Clock.Now()
		ok, _, err := u.permit(ctx, l, quota.Spare)
		if err != nil {
			return fmt.Errorf("reserve permits: %w", err)
		}
		if !ok {
			delete(idle, l) // another time, or never
			continue
		}
		begun := make([]audit.Look, len(looks))
		for i := range looks {
			begun[i] = looks[i].Look
		}
		u.drift.lane.Begin(now, begun)
		known := func(dataset string) bool { return u.settling[dataset] != nil }
		if err := u.commit(ctx, store.Batch{Records: []store.Record{u.drift.lane.Record(known)}}); err != nil {
			return err
		}
		if u.Clock.Now().Sub(taken) > permitKeeps {
			// The store could not be written meanwhile. The audit is lost.
			l.Budget.Over()
			continue
		}
		if err := u.askAudit(ctx, l, r, looks); err != nil {
			return err
		}
	}
}

// auditLook is a window that is due for an audit, with what is stored of it.
type auditLook struct {
	audit.Look
	stored map[bucket.Scope]*bucket.Bucket
}

// nextAudit is the next request of the lane that may be sent, with the looks that it
// answers; none when nothing is due.
func (u *auditor) nextAudit(ctx context.Context, now bucket.Time, idle map[*line]bool) (plan.Request, []auditLook, error) {
	var all []auditLook
	var looks []plan.Look
	claims := map[string][]roster.Claim{}
	for i := range u.Catalogue.Datasets {
		d := &u.Catalogue.Datasets[i]
		for _, age := range audit.Ages {
			due, ok := u.drift.lane.Due(now, d.Dataset, d.Size, age)
			if !ok {
				continue
			}
			if len(claims) == 0 {
				for _, c := range u.claims(now) {
					claims[c.Dataset.Dataset] = append(claims[c.Dataset.Dataset], c)
				}
			}
			look := auditLook{Look: due}
			wants, err := u.auditable(ctx, now, &look, claims[d.Dataset])
			if err != nil {
				return plan.Request{}, nil, err
			}
			if len(wants) == 0 {
				u.drift.lane.Pass(due)
				continue
			}
			all = append(all, look)
			for _, w := range wants {
				looks = append(looks, plan.Look{Want: w, Window: bucket.Window{Start: due.Start, End: due.Start.Add(d.Size)}})
			}
		}
	}
	if len(looks) == 0 {
		return plan.Request{}, nil, nil
	}
	requests := plan.Looks(looks, plan.DefaultCeilings)
	first := slices.IndexFunc(requests, func(r plan.Request) bool { return idle[u.lineOf(r.Scopes[0])] })
	if first < 0 {
		return plan.Request{}, nil, nil
	}
	r := requests[first]
	return r, slices.DeleteFunc(all, func(l auditLook) bool {
		return !slices.ContainsFunc(r.Selections, l.isIn)
	}), nil
}

func (l *auditLook) isIn(sel plan.Selection) bool {
	return sel.Dataset.Dataset == l.Dataset && sel.Window.Start == l.Start
}

// auditable chooses the scopes of a due window and reads what is stored of them.
func (u *auditor) auditable(ctx context.Context, now bucket.Time, look *auditLook, claims []roster.Claim) ([]plan.Want, error) {
	byScope := map[bucket.Scope]roster.Claim{}
	for _, c := range claims {
		of := ledger.Series{Dataset: c.Dataset.Dataset, Scope: c.Scope.Scope}
		window := bucket.Window{Start: look.Start, End: look.Start.Add(c.Dataset.Size)}
		if t := u.tries[of]; t != nil && t.reason != "" || u.isOff(of.Dataset) {
			continue // it would only spoil the others' answer
		}
		if c.Variant != nil && !c.Variant.Sampled && u.lines.named(c.Scope.Credential) != nil && c.Scope.State == roster.Active && look.Start >= c.Window.Start && u.coverage.Final[of].Contains(window) {
			byScope[of.Scope] = c
		}
	}
	if len(byScope) == 0 {
		return nil, nil
	}
	if err := u.readStored(ctx, now, look, byScope); err != nil {
		return nil, err
	}
	var wants []plan.Want
	chosen := audit.Choose(look.Dataset, look.Start, slices.SortedFunc(maps.Keys(look.stored), bucket.Scope.Compare))
	for _, sc := range chosen {
		// Those that cannot share a request with the first have their turn when
		// they are drawn first.
		if c, first := byScope[sc], byScope[chosen[0]]; c.Variant.Same(first.Variant) && c.Scope.Credential == first.Scope.Credential {
			wants = append(wants, plan.Want{Dataset: c.Dataset, Variant: c.Variant, Scope: sc, Group: u.lines.named(c.Scope.Credential).group, Limits: c.Limits})
		}
	}
	slices.SortFunc(wants, func(a, b plan.Want) int { return a.Scope.Compare(b.Scope) })
	return wants, nil
}

// readStored reads the buckets of a window that another reading can be held
// against.
func (u *auditor) readStored(ctx context.Context, now bucket.Time, look *auditLook, claims map[bucket.Scope]roster.Claim) error {
	look.stored = map[bucket.Scope]*bucket.Bucket{}
	size := u.sizeOf(look.Dataset)
	return u.Store.List(ctx, store.ListQuery{
		Filter: store.Filter{Datasets: []string{look.Dataset}}, Window: bucket.Window{Start: look.Start, End: look.Start.Add(size)},
	}, func(e store.Entry) error {
		b, err := unreadable.Bucket(&e)
		if err != nil {
			u.Unreadable.Note(&e, err)
			return nil
		}
		c, claimed := claims[b.Scope]
		if claimed && b.Variant == c.Variant.Name && b.SampleInterval <= 1 && look.Age.Worth(now, b.ReadAt) {
			look.stored[b.Scope] = b
		}
		return nil
	})
}

// askAudit sends one request of the lane and records what was found. A failure
// costs the sample and nothing else: it is not tried again, and no other lane
// hears of it, except when Cloudflare says that the budget is used up.
func (u *auditor) askAudit(ctx context.Context, l *line, r plan.Request, looks []auditLook) error {
	answer, readAt, err := u.send(ctx, r)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		u.Logger.Debug("audit was not answered", "zones", len(r.Scopes), "selections", len(r.Selections), "err", err)
		readAt = u.trusted.Second()
		var e *cloudflare.Error
		if errors.As(err, &e) {
			u.Metrics.errors.WithLabelValues(e.Class.String()).Inc()
			if e.Class == cloudflare.Budget {
				u.refusedAsWhole(l, plan.Request{}, e)
			}
		}
	}
	for i, sel := range r.Selections {
		for j := range looks {
			if looks[j].isIn(sel) {
				u.compare(r, sel, alias(i), &looks[j], answer, readAt)
			}
		}
	}
	return u.commit(ctx, store.Batch{Records: u.drift.records()})
}

// compare holds one selection's part of an answer, nil when there is none,
// against what is stored.
func (u *auditor) compare(r plan.Request, sel plan.Selection, alias string, look *auditLook, answer *cloudflare.Response, readAt bucket.Time) {
	for _, sc := range r.Scopes {
		stored := look.stored[sc]
		a := audit.Audited{Look: look.Look, Scope: sc, Zone: stored.Zone, ReadAt: readAt, Result: audit.Unanswered}
		if f, ok := laterReading(sel, sc, alias, answer); ok {
			a.Result, a.Changes = audit.Compare(stored.Families, f.Families, f.Empty, feeds(sel.Variant))
		}
		u.drift.figures(look.Dataset).Audited(readAt, sel.Dataset.Delay, a)
		u.drift.changed[look.Dataset] = true
		u.Metrics.audited.WithLabelValues(look.Dataset, look.Age.Name, string(a.Result)).Inc()
		switch a.Result {
		case audit.Moved:
			u.Metrics.moved.WithLabelValues(look.Dataset, look.Age.Name).Observe(a.Ratio())
			u.often.Info(look.Dataset, "final bucket has moved at Cloudflare; what is stored stays", "dataset", look.Dataset, inLog(sc),
				"window", stored.Window().String(), "age", look.Age.Name, "ratio", a.Ratio())
		case audit.Same:
			u.Metrics.moved.WithLabelValues(look.Dataset, look.Age.Name).Observe(0)
		default:
		}
	}
}

// laterReading is what an answer says of the selection's one window.
func laterReading(sel plan.Selection, sc bucket.Scope, alias string, answer *cloudflare.Response) (catalogue.Folded, bool) {
	if answer == nil {
		return catalogue.Folded{}, false
	}
	groups, there := answer.Zones[sc.ID][alias]
	if !there || len(groups) >= sel.Limit {
		return catalogue.Folded{}, false
	}
	folded, err := sel.Dataset.Fold(sel.Variant, sel.Window, groups)
	if err != nil || len(folded) != 1 || folded[0].SampleInterval > 1 {
		return catalogue.Folded{}, false
	}
	return folded[0], true
}

// feeds says which families a variant can fill.
func feeds(v *catalogue.Variant) func(family string) bool {
	return func(family string) bool {
		return slices.ContainsFunc(v.Measures, func(m catalogue.Measure) bool { return m.Family == family })
	}
}
