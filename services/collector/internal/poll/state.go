package poll

import (
	"context"
	"fmt"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/settle"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

// state is what a leader knows. It is built from the store, lives as long as
// the term, and belongs to one goroutine.
type state struct {
	*Poller
	term     store.Term
	at       bucket.Position // head of the log
	last     time.Time       // newest commit or stream time: no commit is dated earlier
	streamed time.Time       // stream time, as recorded

	leads bucket.Time // since when

	roster   roster.Roster
	versions map[string]uint32 // by dataset id
	have     map[ledger.Series]bucket.Spans
	begin    map[ledger.Series]bucket.Time // where another bucket size ends
	decided  map[ledger.Series]*ledger.Decision
	gaps     []ledger.Gap // as stored
	settling map[string]*settle.Dataset
	tries    map[ledger.Series]*try
	off      map[string]*backoff   // datasets that Cloudflare does not understand, until
	changed  map[bucket.Scope]bool // scopes whose record is to be written
	told     store.Record          // problems, as stored
	unstored map[bucket.Key]*unstored
	held     map[recordID]*heldBack
	drift    drift

	unread               map[bucket.Scope]*unread // scopes whose settings could not be read
	voided               int                      // requests for settings that failed, of one list of scopes
	granting             bool                     // one of that list was answered
	left                 bool                     // settings of scopes that are not to blame were left for the next pass
	discoverAt, retireAt bucket.Time
	kept                 bucket.Time // nothing before was wanted, or is
	retired              bucket.Time // nothing before may be stored; as stored
	answered             bool        // Cloudflare answered since the pass began
	outage               outage      // of Cloudflare as a whole
	listing              outage      // of the list of zones alone
	refusals             refusals    // of variants, by answers
	weighed              uint64      // fingerprint of what was last compared with the share
}

// outage is why nothing can be asked, for as long as that lasts.
type outage struct {
	backoff
	reason ledger.Reason
	detail string
}

// try is what went wrong with a series lately.
type try struct {
	backoff
	// alone: the series itself was found to be what failed, so it is asked by
	// itself until it is answered. With others it would void their answers too.
	alone    bool
	reason   ledger.Reason
	detail   string
	maxRange time.Duration // narrower than the plan's when answers were too big; 0: no bound
}

// backoff counts failures in a row.
type backoff struct {
	failures int
	next     bucket.Time
}

// unread is what is known of settings that could not be read.
type unread struct {
	backoff
	blamed  bool              // on account of the scope itself
	refusal *cloudflare.Error // nil: the scope was missing from an answer
}

// pauses double from the first up to the longest.
type pauses struct{ first, most time.Duration }

// What is waited for, by what failed.
var (
	cloudflareAway  = pauses{15 * time.Second, 2 * time.Minute} // for anybody
	tokenRefused    = pauses{15 * time.Second, 5 * time.Minute}
	settingsAway    = pauses{15 * time.Second, 5 * time.Minute} // for reasons that name nobody
	settingsDenied  = pauses{15 * time.Second, time.Hour}
	settingsUnknown = pauses{30 * time.Second, 15 * time.Minute}
	seriesFailed    = pauses{15 * time.Second, 15 * time.Minute}
	// There may be hundreds.
	seriesDenied = pauses{8 * time.Minute, time.Hour}
	// What is not understood is no reason to wait for hours.
	unknownRefusal = pauses{time.Minute, 15 * time.Minute}
	unknownForAll  = pauses{time.Minute, 5 * time.Minute}
	notUnderstood  = pauses{5 * time.Minute, time.Hour}
)

// fail notes a failure at now. The pause has jitter over its upper half, so that
// collectors of one user part ways.
func (b *backoff) fail(now bucket.Time, p pauses, jitter float64) {
	pause := min(p.first<<min(b.failures, 16), p.most)
	b.failures++
	b.next = now.Add(pause/2 + time.Duration(jitter*float64(pause/2)) + time.Second)
}

// loud reports whether the last failure is worth a line of the log: the first of
// a row, and then ever fewer.
func (b *backoff) loud() bool { return b.failures&(b.failures-1) == 0 }

func (p *Poller) load(ctx context.Context, won store.Lease) (*state, error) {
	s := &state{
		Poller: p, term: won.Term, at: won.Head.Position, last: later(won.Head.CommittedAt, won.Head.ProgressAt), streamed: won.Head.ProgressAt,
		versions: map[string]uint32{}, settling: map[string]*settle.Dataset{},
		tries: map[ledger.Series]*try{}, off: map[string]*backoff{},
		changed: map[bucket.Scope]bool{}, unread: map[bucket.Scope]*unread{},
		unstored: map[bucket.Key]*unstored{}, held: map[recordID]*heldBack{},
	}
	// What is kept goes by the time, and a new process has compared no clocks.
	now, err := s.look(ctx)
	if err != nil {
		return nil, err
	}
	s.leads = bucket.TimeOf(now)
	// Everything below is read after the term is committed, so no other
	// leader's append can still come in between.
	records, err := p.Store.Records(ctx, roster.KindScope)
	if err != nil {
		return nil, err
	}
	if s.roster, err = roster.Read(records); err != nil {
		return nil, err
	}
	if records, err = p.Store.Records(ctx, ledger.KindGap); err != nil {
		return nil, err
	}
	if s.gaps, err = ledger.Gaps(records); err != nil {
		return nil, err
	}
	if records, err = p.Store.Records(ctx, ledger.KindDecided); err != nil {
		return nil, err
	}
	if s.decided, err = ledger.Decisions(records); err != nil {
		return nil, err
	}
	if records, err = p.Store.Records(ctx, ledger.KindRetired); err != nil {
		return nil, err
	}
	if s.retired, err = ledger.Retired(records); err != nil {
		return nil, err
	}
	s.kept = s.retired
	if records, err = p.Store.Records(ctx, trouble.KindProblems); err != nil {
		return nil, err
	}
	s.told = trouble.Record(s.term, nil)
	if len(records) > 0 {
		s.told = records[0]
	}
	if s.drift, err = p.loadDrift(ctx); err != nil {
		return nil, err
	}
	for i := range p.Catalogue.Datasets {
		d := &p.Catalogue.Datasets[i]
		s.settling[d.Dataset] = settle.New(settle.Policy{Size: d.Size, Confirm: d.Confirm, Deadline: d.Deadline, Distinct: d.Distinct()})
	}
	if err := s.loadCoverage(ctx, bucket.TimeOf(now)); err != nil {
		return nil, err
	}
	return s, s.defineDatasets(ctx)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
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
	stored := map[string]*bucket.Definition{}
	for _, e := range entries {
		d, err := wire.DecodeDefinition(e.Payload)
		if err != nil {
			return fmt.Errorf("read dataset version at revision %d: %w", e.Revision, err)
		}
		stored[d.Dataset] = d
	}
	var batch store.Batch
	for _, d := range s.Catalogue.Datasets {
		def := d.Definition
		if old := stored[def.Dataset]; old != nil {
			if old.Same(&def) {
				s.versions[def.Dataset] = old.Version
				continue
			}
			def.Version = old.Version
		}
		def.Version++
		s.versions[def.Dataset] = def.Version
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
func (s *state) keep(now bucket.Time) bucket.Time {
	s.kept = max(s.kept, roster.Keep(now, s.Retention))
	return s.kept
}

func (s *state) claims(now bucket.Time) []roster.Claim {
	return s.roster.Claims(now, s.Catalogue.Datasets, roster.Terms{
		Keep: s.keep(now),
		Begin: func(dataset string, sc bucket.Scope) bucket.Time {
			return s.begin[ledger.Series{Dataset: dataset, Scope: sc}]
		},
	})
}

func (s *state) wants(claims []roster.Claim) []plan.Want {
	var out []plan.Want
	for _, c := range claims {
		if c.Variant == nil || s.isOff(c.Dataset.Dataset) {
			continue
		}
		of := ledger.Series{Dataset: c.Dataset.Dataset, Scope: c.Scope.Scope}
		limits := c.Limits
		if t := s.tries[of]; t != nil && t.maxRange > 0 {
			limits.MaxDuration = t.maxRange
		}
		out = append(out, plan.Want{
			Dataset: c.Dataset, Variant: c.Variant, Scope: c.Scope.Scope,
			Window: bucket.Window{Start: c.Askable, End: c.Window.End}, Have: s.closed(c.Dataset, c.Scope), Limits: limits,
		})
	}
	return out
}

// closed is what of a series is final, decided, or of a time in which its scope
// was away.
func (s *state) closed(d *catalogue.Dataset, sc *roster.Scope) bucket.Spans {
	of := ledger.Series{Dataset: d.Dataset, Scope: sc.Scope}
	return ledger.Closed(s.have[of], s.decided[of], sc.Absent(d.Size))
}

// Again implements plan.State.
func (s *state) Again(dataset string, sc bucket.Scope, start bucket.Time) bucket.Time {
	again := s.settling[dataset].Again(sc, start)
	if t := s.tries[ledger.Series{Dataset: dataset, Scope: sc}]; t != nil {
		again = max(again, t.next)
	}
	if u := s.unstored[bucket.Key{Dataset: dataset, Scope: sc, Start: start}]; u != nil {
		again = max(again, u.next)
	}
	return again
}

// Read implements plan.State.
func (s *state) Read(dataset string, sc bucket.Scope, start bucket.Time) bool {
	return s.settling[dataset].Read(sc, start)
}

// isOff reports whether a dataset is disabled for the moment.
func (s *state) isOff(dataset string) bool {
	off := s.off[dataset]
	return off != nil && s.trusted.Second() < off.next
}

// fail notes that a series could not be read.
func (s *state) fail(of ledger.Series, reason ledger.Reason, detail string) {
	s.failWith(of, reason, detail, s.rng.Float64(), seriesFailed)
}

// failWith takes the jitter from the caller: series that failed in one request
// wait alike, so that they are asked in one request again.
func (s *state) failWith(of ledger.Series, reason ledger.Reason, detail string, jitter float64, p pauses) {
	t := s.tries[of]
	if t == nil {
		t = &try{}
		s.tries[of] = t
	}
	t.reason, t.detail = reason, detail
	t.fail(s.trusted.Second(), p, jitter)
}
