package poll

import (
	"maps"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/coverage"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/settle"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

// books is what a term knows: who there is, what is stored, decided and missing
// (the coverage), and what readings say of windows that are not final.
type books struct {
	*Poller
	*faults
	leads    bucket.Time // since when
	roster   roster.Roster
	contents *roster.Contents      // what the roster's scopes are entitled to
	changed  map[bucket.Scope]bool // scopes whose record is to be written
	versions map[string]uint32     // by dataset id
	defined  map[string]*bucket.Definition
	coverage *coverage.Book
	settling map[string]*settle.Dataset
	recent   map[ledger.Series][]settle.Final // newest buckets of series that settling does not know yet
}

// claims is what is wanted at now.
func (b *books) claims(now bucket.Time) []roster.Claim {
	b.coverage.Keep = max(b.coverage.Keep, roster.Keep(now, b.Retention))
	return b.roster.Claims(now, b.Catalogue.Datasets, b.coverage.Terms())
}

// wants is what is to be asked by the lines of which something may be sent.
func (b *books) wants(claims []roster.Claim) []plan.Want {
	var out []plan.Want
	for _, c := range claims {
		l := b.lines.named(c.Scope.Credential)
		if c.Variant == nil || b.isOff(c.Dataset.Dataset) || l == nil || l.blocked != 0 {
			continue
		}
		of := ledger.Series{Dataset: c.Dataset.Dataset, Scope: c.Scope.Scope}
		limits := c.Limits
		if t := b.tries[of]; t != nil && t.maxRange > 0 {
			limits.MaxDuration = t.maxRange
		}
		out = append(out, plan.Want{
			Dataset: c.Dataset, Variant: c.Variant, Scope: c.Scope.Scope, Group: l.group,
			Window: bucket.Window{Start: c.Askable, End: c.Window.End}, Have: b.coverage.Closed(c.Dataset, c.Scope), Limits: limits,
		})
	}
	return out
}

// Again implements plan.State.
func (b *books) Again(dataset string, sc bucket.Scope, start bucket.Time) bucket.Time {
	again := b.settling[dataset].Again(sc, start)
	if t := b.tries[ledger.Series{Dataset: dataset, Scope: sc}]; t != nil {
		again = max(again, t.Next)
	}
	if w := b.invalid[ledger.Series{Dataset: dataset, Scope: sc}][start]; w != nil {
		again = max(again, w.Next)
	}
	return again
}

// Read implements plan.State.
func (b *books) Read(dataset string, sc bucket.Scope, start bucket.Time) bool {
	return b.settling[dataset].Read(sc, start)
}

// hole is the first hole that a scope's data ends with in any dataset, or 0.
func (b *books) hole(sc bucket.Scope) (first bucket.Time) {
	for _, rules := range b.settling {
		if hole := rules.Hole(sc); hole != 0 && (first == 0 || hole < first) {
			first = hole
		}
	}
	return first
}

// readings are the windows of an answer, ascending. Those that are not due, not
// wanted, or final already, show how far the data has come.
func (b *books) readings(d *catalogue.Dataset, sc bucket.Scope, windows map[bucket.Time]catalogue.Folded, readAt bucket.Time) []settle.Reading {
	from, until := max(b.roster[sc].Start.Floor(d.Size), b.coverage.Begin(ledger.Series{Dataset: d.Dataset, Scope: sc})), plan.Due(readAt, d.Size, d.Delay)
	if end := b.roster[sc].End; end != 0 {
		until = min(until, end.Floor(d.Size))
	}
	closed := b.coverage.Closed(d, b.roster[sc])
	out := make([]settle.Reading, 0, len(windows))
	for _, start := range slices.Sorted(maps.Keys(windows)) {
		f, end := windows[start], start.Add(d.Size)
		r := settle.Reading{Start: start, Empty: f.Empty, Level: f.Level, Sampled: f.SampleInterval > 1}
		r.Closed = start < from || end > until || closed.Contains(bucket.Window{Start: start, End: end})
		if !r.Closed {
			r.Digest = digest(f.Families)
		}
		out = append(out, r)
	}
	return out
}

func (b *books) sizeOf(dataset string) time.Duration {
	for i := range b.Catalogue.Datasets {
		if b.Catalogue.Datasets[i].Dataset == dataset {
			return b.Catalogue.Datasets[i].Size
		}
	}
	return 0
}

// nameOf is what people call a scope.
func (b *books) nameOf(sc bucket.Scope) string {
	if who := b.roster[sc]; who != nil && who.Label() != "" {
		return who.Label()
	}
	return sc.ID
}

// active is how many scopes of a kind are collected with a line.
func (b *books) active(l *line, kind bucket.ScopeKind) (n int) {
	for _, who := range b.roster {
		if who.Kind == kind && who.State == roster.Active && who.Credential == l.Name {
			n++
		}
	}
	return n
}

// collects reports whether any dataset is about scopes of a kind.
func (p *Poller) collects(kind bucket.ScopeKind) bool {
	return slices.ContainsFunc(p.Catalogue.Datasets, func(d catalogue.Dataset) bool { return d.ScopeKind == kind })
}

// dirty notes that a scope's record must be written with the next commit.
func (b *books) dirty(sc bucket.Scope) { b.changed[sc] = true }

// deny notes that the token may not ask a scope for these selections, which is no
// matter of its plan: they stay wanted, and are asked again until it may. Each try
// voids a request that others are part of, and they may be many.
func (b *books) deny(sc bucket.Scope, selections []plan.Selection, e *cloudflare.Error) {
	jitter := b.rng.Float64()
	for _, sel := range selections {
		of := ledger.Series{Dataset: sel.Dataset.Dataset, Scope: sc}
		if !b.denied(of) {
			b.often.Warn(sc.ID, "the API token may not ask for the dataset of the "+sc.Kind.String()+"; it is asked again within an hour", "dataset", of.Dataset, inLog(sc), "name", b.roster[sc].Name, "err", e)
		}
		b.failWith(of, ledger.Unauthorized, e.Error(), jitter, seriesDenied)
		b.tries[of].alone = true
	}
}

// absolve ends what was held against a variant of a scope that was answered.
func (b *books) absolve(sc bucket.Scope, sel plan.Selection) {
	if b.off[sel.Dataset.Dataset] != nil {
		delete(b.off, sel.Dataset.Dataset)
		b.Trouble.Clear(trouble.DatasetDisabled, sel.Dataset.Dataset)
	}
	for _, changed := range b.roster.ClearRefusal(sc, sel.Dataset.Dataset, sel.Variant.Name) {
		b.often.Info(changed.ID, "a refused variant is answered again", "dataset", sel.Dataset.Dataset, "variant", sel.Variant.Name, inLog(changed.Scope), "name", changed.Name)
		b.dirty(changed.Scope)
	}
}

// correct learns a limit from a refusal: the settings are hours old, or wrong.
func (b *books) correct(sc bucket.Scope, sel plan.Selection, e *cloudflare.Error) {
	if e.Limit <= 0 {
		return
	}
	b.roster[sc].Correct(b.contents, sel.Variant.Node, func(node *roster.Node) {
		if e.Age {
			node.NotOlderThan = e.Limit
		} else {
			node.MaxDuration = e.Limit
		}
	})
	b.dirty(sc)
}
