package poll

import (
	"context"
	"fmt"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	"github.com/weir-metrics/weir/services/collector/internal/backoff"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/journal"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/settle"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
)

// state is one term of a leader. It is built from the store, lives as long as the
// term, and belongs to one goroutine. Its parts do the work; each embeds what it
// uses of the others, and no more.
type state struct {
	*Poller
	*faults
	*books
	*writer
	*asker
	*judge
	*settings
	*discoverer
	*auditor
	*reporter
	damaged *damage

	told     store.Record // problems, as stored
	retireAt bucket.Time
	putOff   bucket.Time // since when retention could not be done; 0: it could
	retired  bucket.Time // nothing before may be stored; as stored
}

// faults is what fails: which series and datasets, why, and when they may be tried
// again; and why nothing can be asked at all.
type faults struct {
	*Poller
	tries   map[ledger.Series]*try
	off     map[string]*backoff.Backoff                // datasets that Cloudflare does not understand, until
	invalid map[ledger.Series]map[bucket.Time]*invalid // windows that cannot be stored, by start
	outage  outage                                     // of Cloudflare as a whole
}

// books is what a term knows: who there is, what is stored, decided and missing,
// and what readings say of windows that are not final.
type books struct {
	*Poller
	*faults
	leads    bucket.Time // since when
	roster   roster.Roster
	changed  map[bucket.Scope]bool // scopes whose record is to be written
	versions map[string]uint32     // by dataset id
	defined  map[string]*bucket.Definition
	have     map[ledger.Series]bucket.Spans
	begin    map[ledger.Series]bucket.Time // where another bucket size ends
	decided  map[ledger.Series]*ledger.Decision
	gaps     []ledger.Gap // as stored
	settling map[string]*settle.Dataset
	kept     bucket.Time // nothing before was wanted, or is
}

// outage is why nothing can be asked, for as long as that lasts.
type outage struct {
	backoff.Backoff
	reason ledger.Reason
	detail string
}

// try is what went wrong with a series lately.
type try struct {
	backoff.Backoff
	// alone: the series itself was found to be what failed, so it is asked by
	// itself until it is answered. With others it would void their answers too.
	alone    bool
	reason   ledger.Reason
	detail   string
	maxRange time.Duration // narrower than the plan's when answers were too big; 0: no bound
}

// What is waited for, by what failed.
var (
	cloudflareAway  = backoff.Pauses{First: 15 * time.Second, Most: 2 * time.Minute} // for anybody
	tokenRefused    = backoff.Pauses{First: 15 * time.Second, Most: 5 * time.Minute}
	settingsAway    = backoff.Pauses{First: 15 * time.Second, Most: 5 * time.Minute} // for reasons that name nobody
	settingsDenied  = backoff.Pauses{First: 15 * time.Second, Most: time.Hour}
	settingsUnknown = backoff.Pauses{First: 30 * time.Second, Most: 15 * time.Minute}
	seriesFailed    = backoff.Pauses{First: 15 * time.Second, Most: 15 * time.Minute}
	// There may be hundreds.
	seriesDenied = backoff.Pauses{First: 8 * time.Minute, Most: time.Hour}
	// What is not understood is no reason to wait for hours.
	unknownRefusal = backoff.Pauses{First: time.Minute, Most: 15 * time.Minute}
	unknownForAll  = backoff.Pauses{First: time.Minute, Most: 5 * time.Minute}
	notUnderstood  = backoff.Pauses{First: 5 * time.Minute, Most: time.Hour}
)

func (p *Poller) load(ctx context.Context, won store.Lease) (*state, error) {
	// What is kept goes by the time, and a new process has compared no clocks.
	now, err := p.trusted.Look(ctx)
	if err != nil {
		return nil, err
	}
	if ahead := won.Head.ProgressAt.Sub(now); ahead > store.MaxAhead {
		p.Logger.Warn("the stored stream time is too far ahead to be one, it is set to the present", "stream_time", won.Head.ProgressAt, "ahead", ahead)
	}
	s := p.compose(won, now)
	if err := s.loadRecords(ctx); err != nil {
		return nil, err
	}
	if s.drift, err = p.loadDrift(ctx); err != nil {
		return nil, err
	}
	if err := s.loadCoverage(ctx, bucket.TimeOf(now)); err != nil {
		return nil, err
	}
	return s, s.defineDatasets(ctx)
}

// compose puts the parts of a term together. They know nothing yet.
func (p *Poller) compose(won store.Lease, now time.Time) *state {
	f := &faults{Poller: p, tries: map[ledger.Series]*try{}, off: map[string]*backoff.Backoff{}, invalid: map[ledger.Series]map[bucket.Time]*invalid{}}
	b := &books{
		Poller: p, faults: f, leads: bucket.TimeOf(now), changed: map[bucket.Scope]bool{},
		versions: map[string]uint32{}, defined: map[string]*bucket.Definition{}, settling: map[string]*settle.Dataset{},
	}
	for i := range p.Catalogue.Datasets {
		d := &p.Catalogue.Datasets[i]
		b.settling[d.Dataset] = settle.New(settle.Policy{Size: d.Size, Confirm: d.Confirm, Deadline: d.Deadline, Distinct: d.Distinct()})
	}
	w := &writer{Poller: p, faults: f, journal: journal.Open(journal.Config{
		Store: p.Store, Clock: p.Clock, Trusted: p.trusted, LeaseTTL: p.LeaseTTL, Jitter: p.rng.Float64,
		Writes: p.Writes, Trouble: p.Trouble, Revision: p.Metrics.revision, Stream: p.Metrics.progress,
	}, won, now)}
	damaged := &damage{Poller: p, books: b, inspected: won.Head.Floor, until: won.Head.Revision}
	a := &asker{Poller: p, faults: f, books: b, writer: w}
	u := &auditor{Poller: p, faults: f, books: b, writer: w, asker: a}
	j := &judge{Poller: p, faults: f, books: b, writer: w, auditor: u}
	a.take = j.take
	g := &settings{Poller: p, faults: f, books: b, writer: w, asker: a, unread: map[bucket.Scope]*unread{}}
	d := &discoverer{Poller: p, faults: f, books: b, writer: w, damaged: damaged, odd: map[string]bool{}}
	r := &reporter{Poller: p, faults: f, books: b, settings: g, discoverer: d}
	return &state{
		Poller: p, faults: f, books: b, writer: w, asker: a, judge: j, settings: g, discoverer: d, auditor: u, reporter: r, damaged: damaged,
	}
}

// loadRecords reads what leaders before this one have written beside the log. A
// record that cannot be read costs itself, never the term: whoever leads next
// would come to it too.
func (s *state) loadRecords(ctx context.Context) error {
	// Everything here is read after the term is committed, so no other leader's
	// append can still come in between.
	records, err := s.Store.Records(ctx, roster.KindScope)
	if err != nil {
		return err
	}
	s.roster, s.damaged.scopes = roster.Read(records)
	s.Unreadable.Records(roster.KindScope, s.damaged.scopes)
	if records, err = s.Store.Records(ctx, ledger.KindGap); err != nil {
		return err
	}
	s.gaps, s.damaged.gaps = ledger.Gaps(records)
	s.Unreadable.Records(ledger.KindGap, s.damaged.gaps)
	if records, err = s.Store.Records(ctx, ledger.KindDecided); err != nil {
		return err
	}
	var bad []store.Unreadable
	s.decided, bad = ledger.Decisions(records)
	s.Unreadable.Records(ledger.KindDecided, bad)
	if records, err = s.Store.Records(ctx, ledger.KindRetired); err != nil {
		return err
	}
	s.retired, bad = ledger.Retired(records)
	s.Unreadable.Records(ledger.KindRetired, bad)
	if s.damaged.retired = len(bad) > 0; s.damaged.retired {
		if s.retired, err = s.oldest(ctx); err != nil {
			return err
		}
	}
	s.kept = s.retired
	if records, err = s.Store.Records(ctx, ledger.KindUnreadable); err != nil {
		return err
	}
	known, bad := ledger.ReadUnreadable(records)
	s.Unreadable.Records(ledger.KindUnreadable, bad)
	s.Unreadable.Adopt(known)
	if records, err = s.Store.Records(ctx, trouble.KindProblems); err != nil {
		return err
	}
	s.told = trouble.Record(s.journal.Term(), nil)
	if len(records) > 0 {
		s.told = records[0]
	}
	return nil
}

func (s *state) loadCoverage(ctx context.Context, now bucket.Time) error {
	runs, err := s.Store.Coverage(ctx, store.Filter{}, s.keep(now))
	if err != nil {
		return fmt.Errorf("read coverage: %w", err)
	}
	s.have, s.begin = ledger.Cover(runs, s.Catalogue.Datasets)
	return nil
}

// defineDatasets appends a new version of every dataset whose definition
// differs from the newest stored one.
func (s *state) defineDatasets(ctx context.Context) error {
	entries, err := s.Store.Datasets(ctx)
	if err != nil {
		return fmt.Errorf("read dataset versions: %w", err)
	}
	// Versions are 1, 2, 3 … of each dataset: the number of entries is the newest
	// one, also where it cannot be read. A number is never used again, since
	// buckets name it.
	stored, count := map[string]*bucket.Definition{}, map[string]uint32{}
	for i := range entries {
		e := &entries[i]
		d, err := unreadable.Definition(e)
		if err != nil {
			s.Unreadable.Note(e, err)
		} else {
			count[d.Dataset] = max(count[d.Dataset], d.Version-1)
		}
		count[e.Key.Dataset]++
		stored[e.Key.Dataset] = d // nil: what is in force now is stored once more
	}
	var batch store.Batch
	for _, d := range s.Catalogue.Datasets {
		def := d.Definition
		if old := stored[def.Dataset]; old != nil {
			if old.Same(&def) {
				s.versions[def.Dataset], s.defined[def.Dataset] = old.Version, old
				continue
			}
		}
		def.Version = count[def.Dataset] + 1
		if err := wire.CheckDefinition(&def); err != nil {
			return err
		}
		s.versions[def.Dataset], s.defined[def.Dataset] = def.Version, &def
		batch.Entries = append(batch.Entries, store.NewEntry{
			Kind: bucket.KindDatasetVersion, Key: bucket.Key{Dataset: def.Dataset}, Payload: wire.EncodeDefinition(&def),
		})
	}
	if len(batch.Entries) == 0 {
		return nil
	}
	return s.commit(ctx, batch)
}

// keep is where retention lets wanting begin. It never goes back, whatever clocks
// and settings do: what was dropped must not be wanted again.
func (b *books) keep(now bucket.Time) bucket.Time {
	b.kept = max(b.kept, roster.Keep(now, b.Retention))
	return b.kept
}

func (b *books) claims(now bucket.Time) []roster.Claim {
	return b.roster.Claims(now, b.Catalogue.Datasets, roster.Terms{
		Keep: b.keep(now),
		Begin: func(dataset string, sc bucket.Scope) bucket.Time {
			return b.begin[ledger.Series{Dataset: dataset, Scope: sc}]
		},
	})
}

func (b *books) wants(claims []roster.Claim) []plan.Want {
	var out []plan.Want
	for _, c := range claims {
		if c.Variant == nil || b.isOff(c.Dataset.Dataset) {
			continue
		}
		of := ledger.Series{Dataset: c.Dataset.Dataset, Scope: c.Scope.Scope}
		limits := c.Limits
		if t := b.tries[of]; t != nil && t.maxRange > 0 {
			limits.MaxDuration = t.maxRange
		}
		out = append(out, plan.Want{
			Dataset: c.Dataset, Variant: c.Variant, Scope: c.Scope.Scope,
			Window: bucket.Window{Start: c.Askable, End: c.Window.End}, Have: b.closed(c.Dataset, c.Scope), Limits: limits,
		})
	}
	return out
}

// closed is what of a series is final, decided, or of a time in which its scope
// was away.
func (b *books) closed(d *catalogue.Dataset, sc *roster.Scope) bucket.Spans {
	of := ledger.Series{Dataset: d.Dataset, Scope: sc.Scope}
	return ledger.Closed(b.have[of], b.decided[of], sc.Absent(d.Size))
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

// isOff reports whether a dataset is disabled for the moment.
func (f *faults) isOff(dataset string) bool {
	off := f.off[dataset]
	return off != nil && f.trusted.Second() < off.Next
}

// fail notes that a series could not be read.
func (f *faults) fail(of ledger.Series, reason ledger.Reason, detail string) {
	f.failWith(of, reason, detail, f.rng.Float64(), seriesFailed)
}

// failWith takes the jitter from the caller: series that failed in one request
// wait alike, so that they are asked in one request again.
func (f *faults) failWith(of ledger.Series, reason ledger.Reason, detail string, jitter float64, p backoff.Pauses) {
	t := f.tries[of]
	if t == nil {
		t = &try{}
		f.tries[of] = t
	}
	now := f.trusted.Second()
	if now < t.Next {
		// A series is not asked again before: this is the same failure, seen in
		// another window of the same request or pass. A catch-up has dozens of them.
		t.Failures--
	}
	t.reason, t.detail = reason, store.Text(detail)
	t.Fail(now, p, jitter)
}
