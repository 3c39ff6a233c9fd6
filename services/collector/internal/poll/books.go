package poll

import (
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/coverage"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/settle"
	"github.com/weir-metrics/weir/services/collector/internal/upstream"
)

// books is what a term knows: the zones and accounts, which windows are final, decided or
// missing (the coverage), and the readings of windows that are not final.
type books struct {
	*env
	faults    *faults
	lines     lines
	retention time.Duration

	roster   roster.Roster
	contents *roster.Contents      // entitlements that the roster's scopes refer to
	changed  map[bucket.Scope]bool // scopes whose record is to be written
	coverage *coverage.Book
	settling map[string]*settle.Dataset // by dataset
}

func newSettling(datasets []catalogue.Dataset) map[string]*settle.Dataset {
	of := make(map[string]*settle.Dataset, len(datasets))
	for i := range datasets {
		d := &datasets[i]
		of[d.Dataset] = settle.New(settle.Policy{Size: d.Size, Confirm: d.Confirm, Deadline: d.Deadline, Distinct: d.Distinct()})
	}
	return of
}

// claims is what is wanted at now.
func (b *books) claims(now bucket.Time) []roster.Claim {
	b.coverage.Keep = max(b.coverage.Keep, roster.Keep(now, b.retention))
	return b.roster.Claims(now, b.catalogue.Datasets, b.coverage.Terms())
}

// wants is what may be requested now, by the lines that are not blocked.
func (b *books) wants(claims []roster.Claim) []plan.Want {
	var out []plan.Want
	for _, c := range claims {
		l := b.lines.named(c.Scope.Credential)
		if c.Variant == nil || b.faults.isOff(c.Dataset.Dataset) || l == nil || l.blocked != 0 {
			continue
		}
		of := ledger.Series{Dataset: c.Dataset.Dataset, Scope: c.Scope.Scope}
		limits := c.Limits
		if t := b.faults.tries[of]; t != nil && t.maxRange > 0 {
			limits.MaxDuration = t.maxRange
		}
		out = append(out, plan.Want{
			Dataset: c.Dataset, Variant: c.Variant, Scope: c.Scope.Scope, Group: l.group,
			Window: bucket.Window{Start: c.Askable, End: c.Window.End}, Have: b.coverage.Closed(c.Dataset, c.Scope), Limits: limits,
		})
	}
	return out
}

// Again implements [plan.State].
func (b *books) Again(dataset string, sc bucket.Scope, start bucket.Time) bucket.Time {
	again := b.settling[dataset].Again(sc, start)
	if t := b.faults.tries[ledger.Series{Dataset: dataset, Scope: sc}]; t != nil {
		again = max(again, t.Next)
	}
	if w := b.faults.invalid[ledger.Series{Dataset: dataset, Scope: sc}][start]; w != nil {
		again = max(again, w.Next)
	}
	return again
}

// Read implements [plan.State].
func (b *books) Read(dataset string, sc bucket.Scope, start bucket.Time) bool {
	return b.settling[dataset].Read(sc, start)
}

// nameOf is the label of a scope, or its ID.
func (b *books) nameOf(sc bucket.Scope) string {
	if who := b.roster[sc]; who != nil && who.Label() != "" {
		return who.Label()
	}
	return sc.ID
}

// active is the number of scopes of a kind that are collected with a line.
func (b *books) active(l *line, kind bucket.ScopeKind) (n int) {
	for _, who := range b.roster {
		if who.Kind == kind && who.State == roster.Active && who.Credential == l.Name {
			n++
		}
	}
	return n
}

// dirty marks a scope whose record must be written with the next commit.
func (b *books) dirty(sc bucket.Scope) { b.changed[sc] = true }

// lineOf is the line of a scope; nil if its credential is no longer configured.
func (b *books) lineOf(sc bucket.Scope) *line {
	who := b.roster[sc]
	if who == nil {
		return nil
	}
	return b.lines.named(who.Credential)
}

// out reports whether nothing can be requested for a scope, and why.
func (b *books) out(sc bucket.Scope) (upstream.Outage, bool) {
	l := b.lineOf(sc)
	if l == nil || !l.outage.Active() {
		return upstream.Outage{}, false
	}
	return l.outage, true
}

// known is the number of scopes of a kind that belong to a line.
func (b *books) known(l *line, kind bucket.ScopeKind) (n int) {
	for id, who := range b.roster {
		if id.Kind == kind && who.Credential == l.Name {
			n++
		}
	}
	return n
}

// owns reports whether any scope belongs to a line.
func (b *books) owns(l *line) bool { return b.known(l, bucket.Zone)+b.known(l, bucket.Account) > 0 }
