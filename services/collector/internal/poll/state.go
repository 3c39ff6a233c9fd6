package poll

import (
	"context"
	"fmt"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	"github.com/weir-metrics/weir/services/collector/internal/backoff"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/journal"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/settle"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
)

// state is what a leader knows. It is built from the store, lives as long as
// the term, and belongs to one goroutine.
type state struct {
	*Poller
	journal *journal.Journal
	leads   bucket.Time // since when

	roster   roster.Roster
	versions map[string]uint32 // by dataset id
	defined  map[string]*bucket.Definition
	have     map[ledger.Series]bucket.Spans
	begin    map[ledger.Series]bucket.Time // where another bucket size ends
	decided  map[ledger.Series]*ledger.Decision
	gaps     []ledger.Gap // as stored
	settling map[string]*settle.Dataset
	tries    map[ledger.Series]*try
	off      map[string]*backoff.Backoff                // datasets that Cloudflare does not understand, until
	changed  map[bucket.Scope]bool                      // scopes whose record is to be written
	invalid  map[ledger.Series]map[bucket.Time]*invalid // windows that cannot be stored, by start
	odd      map[string]bool                            // zones of which a problem with their names is told
	damaged  damaged
	told     store.Record // problems, as stored
	drift    drift

	unread               map[bucket.Scope]*unread // scopes whose settings could not be read
	voided               int                      // requests for settings that failed, of one list of scopes
	granting             bool                     // one of that list was answered
	suspects             []bucket.Scope           // of that list, refused in unknown words before any was answered
	left                 bool                     // settings of scopes that are not to blame were left for the next pass
	discoverAt, retireAt bucket.Time
	putOff               bucket.Time // since when retention could not be done; 0: it could
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
	s := &state{
		Poller:   p,
		versions: map[string]uint32{}, defined: map[string]*bucket.Definition{}, settling: map[string]*settle.Dataset{},
		tries: map[ledger.Series]*try{}, off: map[string]*backoff.Backoff{},
		changed: map[bucket.Scope]bool{}, unread: map[bucket.Scope]*unread{},
		invalid: map[ledger.Series]map[bucket.Time]*invalid{}, odd: map[string]bool{},
		damaged: damaged{inspected: won.Head.Floor, until: won.Head.Revision},
	}
	// What is kept goes by the time, and a new process has compared no clocks.
	now, err := s.trusted.Look(ctx)
	if err != nil {
		return nil, err
	}
	s.leads = bucket.TimeOf(now)
	if ahead := won.Head.ProgressAt.Sub(now); ahead > store.MaxAhead {
		p.Logger.Warn("the stored stream time is too far ahead to be one, it is set to the present", "stream_time", won.Head.ProgressAt, "ahead", ahead)
	}
	s.journal = journal.Open(journal.Config{
		Store: p.Store, Clock: p.Clock, Trusted: p.trusted, LeaseTTL: p.LeaseTTL, Jitter: p.rng.Float64,
		Writes: p.Writes, Trouble: p.Trouble, Revision: p.Metrics.revision, Stream: p.Metrics.progress,
	}, won, now)
	if err := s.loadRecords(ctx); err != nil {
		return nil, err
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
		again = max(again, t.Next)
	}
	if w := s.invalid[ledger.Series{Dataset: dataset, Scope: sc}][start]; w != nil {
		again = max(again, w.Next)
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
	return off != nil && s.trusted.Second() < off.Next
}

// fail notes that a series could not be read.
func (s *state) fail(of ledger.Series, reason ledger.Reason, detail string) {
	s.failWith(of, reason, detail, s.rng.Float64(), seriesFailed)
}

// failWith takes the jitter from the caller: series that failed in one request
// wait alike, so that they are asked in one request again.
func (s *state) failWith(of ledger.Series, reason ledger.Reason, detail string, jitter float64, p backoff.Pauses) {
	t := s.tries[of]
	if t == nil {
		t = &try{}
		s.tries[of] = t
	}
	now := s.trusted.Second()
	if now < t.Next {
		// A series is not asked again before: this is the same failure, seen in
		// another window of the same request or pass. A catch-up has dozens of them.
		t.Failures--
	}
	t.reason, t.detail = reason, store.Text(detail)
	t.Fail(now, p, jitter)
}
