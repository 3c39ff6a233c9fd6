package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/standalone/internal/history"
	"github.com/weir-metrics/weir/services/standalone/internal/promapi"
)

// Options say what is compared, and how.
type Options struct {
	history.Selection
	Schedule
	// Match are further matchers for the series of Prometheus, such as job="weir".
	Match []string
	// Ignore are the labels that are not compared, on either side.
	Ignore []string
	// Known restricts the comparison to zones and accounts that the store knows.
	Known bool
	// Findings gets every difference; nil: nobody does.
	Findings io.Writer
	Clock    clock.Clock
	// Progress is told at the beginning and after each chunk; may be nil.
	Progress func(done, total int)
}

// Run compares. An error means that it could not be verified.
func Run(ctx context.Context, store *history.Store, prom *promapi.Client, o Options) (*Report, error) {
	plan, err := store.Plan(o.Selection)
	if err != nil {
		return nil, err
	}
	if o.Progress != nil {
		o.Progress(0, plan.Len())
	}
	r := &Report{Start: o.Range.Start.Std(), End: o.Range.End.Std(), Prometheus: prom.URL(), StoreID: store.Info.ID}
	now := o.Clock.Now()
	if kept := store.Info.Retention; kept > 0 && o.Range.Start.Std().Before(now.Add(-kept)) {
		return nil, fmt.Errorf("range begins at %s, but the store keeps %s: begin at %s or later, since what is older cannot be compared",
			o.Range.Start, bucket.SizeName(kept), bucket.TimeOf(now.Add(-kept)).Ceil(history.Day))
	}
	if kept, err := prom.Retention(ctx); err == nil && kept > 0 && o.Range.Start.Std().Before(now.Add(-kept)) {
		r.Notes = append(r.Notes, fmt.Sprintf("Prometheus keeps samples for %s; it cannot have those from before %s", bucket.SizeName(kept), bucket.TimeOf(now.Add(-kept))))
	} else if err != nil && !promapi.IsUnknown(err) {
		return nil, err
	}
	out, err := newWriter(o.Findings, Header{Format: Format, StoreID: store.Info.ID, Start: o.Range.Start, End: o.Range.End, Restated: o.Restated})
	if err != nil {
		return nil, fmt.Errorf("write findings: %w", err)
	}
	v := &run{store: store, prom: prom, o: &o, report: r, ranges: newRanges(r), out: out, present: map[*history.Group]map[string]bool{}}
	for i := range plan.Groups {
		g := &plan.Groups[i]
		if label := scopeLabel(g); slices.Contains(o.Ignore, label) {
			return nil, fmt.Errorf("label %s cannot be ignored: Prometheus is asked by it", label)
		}
		v.present[g] = map[string]bool{}
		for _, scopes := range plan.Batches[i] {
			unnamed(present(scopes), v.present[g])
		}
	}
	v.sizes = func(dataset string) time.Duration { return store.Newest(dataset).Size }
	v.owner = v.datasetOf
	v.same = exact
	if _, err := prom.Flags(ctx); err == nil { // only VictoriaMetrics has that page
		v.same = rounded
		r.Notes = append(r.Notes, "VictoriaMetrics rounds values that have a fraction to about 12 digits; they are compared with that precision")
	} else if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	done := 0
	for a := range v.ahead(ctx, plan) {
		err := a.err
		if err == nil {
			err = v.chunk(ctx, a)
		}
		if err != nil {
			return nil, fmt.Errorf("compare %s of %s: %w", a.Group, a.Range, err)
		}
		if done++; o.Progress != nil {
			o.Progress(done, plan.Len())
		}
	}
	v.ranges.end()
	if r.Differences[Missing] > 0 && !o.Known {
		trimmed(ctx, prom, r, &o, now)
	}
	switch lacks, err := store.Lacks(ctx, o.Selection); {
	case err != nil:
		r.Notes = append(r.Notes, fmt.Sprintf("whether the store lacks windows of the range itself is not known: %v", err))
	case lacks.Missing+lacks.Decided > 0:
		r.NotStored = lacks.Missing + lacks.Decided
		r.Notes = append(r.Notes, fmt.Sprintf("the store itself lacks %s of the range, %d of them lost or accepted: nothing could be compared there; weir gaps list --decided names them", count(r.NotStored, "window"), lacks.Decided))
	}
	if r.Unreadable > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%s in the store cannot be read; the first: %v", count(r.Unreadable, "bucket"), v.firstUnreadable))
	}
	if r.Store == 0 && r.Held == 0 {
		return nil, fmt.Errorf("neither the store nor Prometheus has a sample of %s: nothing was compared; check the range and the selection", o.Range)
	}
	r.judge()
	if err := out.close(); err != nil {
		return nil, fmt.Errorf("write findings: %w", err)
	}
	return r, nil
}

// trimmed notes which datasets lack windows in the replay because of an exposer's limits on
// samples, as far as this Prometheus has the exposers' own metrics: samples that they left
// out are missing like others, but for another reason.
func trimmed(ctx context.Context, prom *promapi.Client, r *Report, o *Options, now time.Time) {
	until := r.End.Add(o.Age) // a bucket is shown until then
	if until.After(now) {
		until = now
	}
	length := int64(until.Sub(r.Start) / time.Second)
	if length <= 0 {
		return
	}
	const metric = "weir_exposer_replay_trimmed_windows"
	series, err := prom.Vector(ctx, fmt.Sprintf("max by (dataset, role) (max_over_time(%s[%ds])) > 0", metric, length), until)
	if err != nil {
		r.Notes = append(r.Notes, fmt.Sprintf("whether exposers left windows out is not known: %v", err))
		return
	}
	var left []string
	for _, s := range series {
		if id := s.Labels["dataset"]; len(o.Datasets) == 0 || slices.Contains(o.Datasets, id) {
			left = append(left, fmt.Sprintf("%s (%s)", id, s.Labels["role"]))
		}
	}
	if len(left) > 0 {
		slices.Sort(left)
		r.Notes = append(r.Notes, fmt.Sprintf("exposers left out windows of %s in this time, since a scrape would have had too many samples (%s): what is missing may be that. An import brings it; WEIR_REPLAY_SOFT_SAMPLES is the limit",
			strings.Join(left, ", "), metric))
	}
}

// run is the state of one comparison.
type run struct {
	store           *history.Store
	prom            *promapi.Client
	o               *Options
	report          *Report
	ranges          *ranges
	out             *writer
	firstUnreadable error
	same            equality
	sizes           func(dataset string) time.Duration
	owner           func(*history.Group, *column) string
	// present are the names that the scopes of each group have by now.
	present map[*history.Group]map[string]bool
	// named are they and those besides that queries of this group and day asked for.
	named map[string]bool
}

// asked is a chunk and what Prometheus has under the present names of its scopes.
type asked struct {
	*history.Chunk
	table *table
	at    time.Time // what is due later need not be there
	err   error
}

// ahead yields all chunks. Prometheus is asked for one while the one before it is read from
// the store and compared, so that neither waits for the other.
func (v *run) ahead(ctx context.Context, plan *history.Plan) iter.Seq[*asked] {
	return func(yield func(*asked) bool) {
		ctx, cancel := context.WithCancel(ctx)
		answers := make(chan *asked)
		defer func() {
			cancel()
			for range answers {
			}
		}()
		go func() {
			defer close(answers)
			before := map[string]bool{}
			for c := range plan.Chunks() {
				a := &asked{Chunk: c, table: newTable(v.o.Ignore), at: v.o.Clock.Now()}
				names := unnamed(present(c.Scopes), before)
				a.err = v.ask(ctx, a.table, c, promapi.Matcher(scopeLabel(c.Group), names...), len(names))
				select {
				case answers <- a:
				case <-ctx.Done():
					return
				}
				if a.err != nil {
					return
				}
				if c.Last {
					clear(before)
				}
			}
		}()
		for a := range answers {
			if !yield(a) {
				return
			}
		}
	}
}

// chunk reads a chunk from the store, after Prometheus was asked, and compares.
func (v *run) chunk(ctx context.Context, a *asked) error {
	c, t := a.Chunk, a.table
	if v.named == nil { // the first of its group and day
		v.named = maps.Clone(v.present[c.Group])
	}
	var former []string // names that scopes had when the buckets were stored
	for b, err := range v.store.Read(ctx, c, v.o.Restated, func(err error) {
		v.report.Unreadable++
		v.firstUnreadable = cmp.Or(v.firstUnreadable, err)
	}) {
		if err != nil {
			return err
		}
		due, shown := v.o.Due(b.Bucket, b.CommittedAt, b.Definition, v.store.Info.Stamp)
		t.add(&origin{Dataset: b.Dataset, Scope: b.Scope, Window: b.Window(), pending: a.at.Before(due), due: due, shown: shown, aside: !v.asked(b.Dataset)}, b.Sets)
		if name := cmp.Or(b.Zone, b.Account); !v.named[name] && !slices.Contains(former, name) {
			former = append(former, name)
		}
	}
	former = unnamed(former, v.named)
	if err := v.ask(ctx, t, c, promapi.Matcher(scopeLabel(c.Group), former...), len(former)); err != nil {
		return err
	}
	if c.Last {
		if err := v.strays(ctx, t, c); err != nil {
			return err
		}
		v.named = nil
	}
	if err := v.compare(t, c); err != nil {
		return err
	}
	v.ranges.flush()
	return nil
}

// present are the names that scopes have by now.
func present(scopes []history.Scope) (names []string) {
	for _, s := range scopes {
		names = append(names, s.Names...)
		if s.Kind == bucket.Account && s.Account != "" {
			names = append(names, s.Account)
		}
	}
	return names
}

// unnamed returns the names that are not in a set, and adds them.
func unnamed(names []string, set map[string]bool) []string {
	rest := names[:0]
	for _, name := range names {
		if !set[name] {
			set[name] = true
			rest = append(rest, name)
		}
	}
	return rest
}

// scopeLabel is the label by which series of a group belong to scopes.
func scopeLabel(g *history.Group) string {
	if g.Kind == bucket.Account {
		return "account"
	}
	return "zone"
}

// ask adds the series of Prometheus that match.
func (v *run) ask(ctx context.Context, t *table, c *history.Chunk, matcher string, names int) error {
	if names == 0 {
		return nil
	}
	matchers := append([]string{matcher}, v.o.Match...)
	if c.Group.Kind == bucket.Account {
		matchers = append(matchers, `zone=""`)
	}
	var plain, told []string // families without and with the label that tells datasets apart
	for name, labels := range c.Group.Families {
		if slices.Contains(labels, history.DatasetLabel) {
			told = append(told, name)
		} else {
			plain = append(plain, name)
		}
	}
	slices.Sort(plain)
	slices.Sort(told)
	for _, families := range []struct {
		names []string
		more  []string
	}{{plain, nil}, {told, []string{promapi.Matcher(history.DatasetLabel, c.Group.Datasets...)}}} {
		if len(families.names) == 0 {
			continue
		}
		all := slices.Concat([]string{promapi.Matcher("__name__", families.names...)}, families.more, matchers)
		series, err := v.prom.Raw(ctx, promapi.Selector(all...), c.Range.Start.Std(), c.Range.End.Std())
		if err != nil {
			return err
		}
		for i := range series {
			if err := t.take(&series[i], c.Group.Families[series[i].Labels["__name__"]]); err != nil {
				return err
			}
		}
	}
	return nil
}

// strays adds the series of zones that the store does not know. With a selection of zones
// nobody asks for them.
func (v *run) strays(ctx context.Context, t *table, c *history.Chunk) error {
	if v.o.Known || len(v.o.Zones) > 0 {
		return nil
	}
	names := make([]string, 0, len(v.named))
	for name := range v.named {
		names = append(names, name)
	}
	slices.Sort(names)
	return v.ask(ctx, t, c, promapi.Not(scopeLabel(c.Group), names...), 1)
}

func (v *run) compare(t *table, c *history.Chunk) error {
	first, end := sample.Millis(c.Range.Start)*1000, sample.Millis(c.Range.End)*1000
	var count tally
	keys := make([]string, 0, len(t.columns))
	for key := range t.columns {
		keys = append(keys, key)
	}
	slices.Sort(keys) // so that two runs write the same
	var failed error
	for _, key := range keys {
		col := t.columns[key]
		dataset := v.owner(c.Group, col)
		var open *Finding
		flush := func() {
			if open != nil {
				failed = cmp.Or(failed, v.out.write(open))
			}
			open = nil
		}
		var next sample.Millis
		compared := func(d difference) {
			id, w := dataset, windowOf(d.at, v.sizes(dataset))
			if d.origin != nil {
				id, w = d.origin.Dataset, d.origin.Window
			}
			if !v.asked(id) {
				return
			}
			v.ranges.add(place{d.kind, id, col.scope()}, w, d.kind == Missing && !d.origin.shown, func() string { return example(col, &d) })
			f := v.finding(col, id, &d)
			follows := open != nil && open.Kind == f.Kind && open.Dataset == f.Dataset && open.ScopeID == f.ScopeID && d.at == next && (f.Kind == Missing || f.Kind == Extra)
			next = d.at + sample.Millis(w.Len().Milliseconds())
			if follows {
				open.Last, open.Samples = d.at, open.Samples+1
				open.Store, open.Prometheus = nil, nil
				return
			}
			flush()
			open = f
		}
		col.compare(first, end, v.same, &count, compared)
		flush()
	}
	r := v.report
	r.Store, r.Held, r.Equal, r.Pending = r.Store+count.Store, r.Held+count.Prometheus, r.Equal+count.Equal, r.Pending+count.Pending
	if count.Pending > 0 && (r.PendingUntil == nil || count.Until.After(*r.PendingUntil)) {
		r.PendingUntil = &count.Until
	}
	if failed != nil {
		return fmt.Errorf("write findings: %w", failed)
	}
	return nil
}

// asked reports whether a dataset is to be compared. A group may have others besides.
func (v *run) asked(dataset string) bool {
	return len(v.o.Datasets) == 0 || slices.Contains(v.o.Datasets, dataset)
}

// finding is a difference as a line of the file.
func (v *run) finding(c *column, dataset string, d *difference) *Finding {
	f := &Finding{Kind: d.kind, Dataset: dataset, Family: c.family, Labels: map[string]string{}, First: d.at, Last: d.at, Samples: 1}
	for _, l := range c.labels {
		f.Labels[l.name] = l.value
	}
	if d.origin != nil {
		f.ScopeKind, f.ScopeID = d.origin.Scope.Kind.String(), d.origin.Scope.ID
		store := Value(d.store)
		f.Store = &store
	}
	if d.kind != Missing {
		held := Value(d.held)
		f.Prometheus = &held
	}
	return f
}

// scope is what a report calls the column's zone or account.
func (c *column) scope() string {
	account := ""
	for _, l := range c.labels {
		switch l.name {
		case "zone":
			if l.value != "" {
				return l.value
			}
		case "account":
			account = l.value
		}
	}
	return account
}

// datasetOf is the dataset that samples of a column are of if the store has none.
func (v *run) datasetOf(g *history.Group, c *column) string {
	for _, l := range c.labels {
		if l.name == history.DatasetLabel && slices.Contains(g.Datasets, l.value) {
			return l.value
		}
	}
	for _, id := range g.Datasets {
		if !v.asked(id) {
			continue
		}
		if d := v.store.Newest(id); slices.ContainsFunc(d.Families, func(f bucket.Family) bool { return f.Name == c.family }) {
			return id
		}
	}
	return g.Datasets[0]
}

// CheckMatch reports what is wrong with a matcher such as job="weir".
func CheckMatch(text string) error {
	i := strings.IndexAny(text, "=!")
	if i <= 0 || !strings.HasSuffix(text, `"`) || !strings.Contains(text[i:], `"`) {
		return fmt.Errorf("%q must be a matcher of PromQL, such as job=\"weir\"", text)
	}
	return nil
}

// The errors of a command by the result of its comparison.
var (
	ErrDifferences = errors.New("the store and Prometheus differ")
	ErrNotVerified = errors.New("not verified")
)
