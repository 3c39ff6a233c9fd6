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
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
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
	defined  map[string]*bucket.Definition
	have     map[ledger.Series]bucket.Spans
	begin    map[ledger.Series]bucket.Time // where another bucket size ends
	decided  map[ledger.Series]*ledger.Decision
	gaps     []ledger.Gap // as stored
	settling map[string]*settle.Dataset
	tries    map[ledger.Series]*try
	off      map[string]*backoff                        // datasets that Cloudflare does not understand, until
	changed  map[bucket.Scope]bool                      // scopes whose record is to be written
	invalid  map[ledger.Series]map[bucket.Time]*invalid // windows that cannot be stored, by start
	odd      map[string]bool                            // zones of which a problem with their names is told
	held     map[recordID]*heldBack                     // records that the store cannot hold
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
	since    bucket.Time // the first of them
	next     bucket.Time
}

// unread is what is known of settings that could not be read.
type unread struct {
	backoff
	blamed  bool              // on account of the scope itself
	refusal *cloudflare.Error // nil: the scope was missing from an answer
}

// denied reports whether the token may not ask for a scope at all: Cloudflare says
// so, or does not show the scope.
func (u *unread) denied() bool {
	return u != nil && u.blamed && (u.refusal == nil || u.refusal.Class == cloudflare.Denied)
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
	if b.failures++; b.failures == 1 {
		b.since = now
	}
	b.next = now.Add(pause/2 + time.Duration(jitter*float64(pause/2)) + time.Second)
}

func (p *Poller) load(ctx context.Context, won store.Lease) (*state, error) {
	s := &state{
		Poller: p, term: won.Term, at: won.Head.Position,
		versions: map[string]uint32{}, defined: map[string]*bucket.Definition{}, settling: map[string]*settle.Dataset{},
		tries: map[ledger.Series]*try{}, off: map[string]*backoff{},
		changed: map[bucket.Scope]bool{}, unread: map[bucket.Scope]*unread{},
		invalid: map[ledger.Series]map[bucket.Time]*invalid{}, odd: map[string]bool{}, held: map[recordID]*heldBack{},
		damaged: damaged{inspected: won.Head.Floor, until: won.Head.Revision},
	}
	// What is kept goes by the time, and a new process has compared no clocks.
	now, err := s.look(ctx)
	if err != nil {
		return nil, err
	}
	s.leads = bucket.TimeOf(now)
	if err := p.checkHead(ctx, won.Head); err != nil {
		return nil, err
	}
	s.streamed = p.possible("stream time", won.Head.ProgressAt, now)
	s.last = later(s.streamed, p.possible("time of the newest entry", won.Head.CommittedAt, now))
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

// possible is a stored time, or none where it is too far ahead of the trusted
// clock to have been a leader's: commits are not dated by it.
func (p *Poller) possible(what string, stored, now time.Time) time.Time {
	if ahead := stored.Sub(now); ahead > store.MaxAhead {
		p.Logger.Warn("the stored "+what+" is too far ahead to be one, it is not gone by", "stored", stored, "ahead", ahead)
		return time.Time{}
	}
	return stored
}

// checkHead returns ErrCorrupt unless the newest entry is that of the head: what
// is appended elsewhere is behind entries that nobody has, or in their places.
func (p *Poller) checkHead(ctx context.Context, head store.Head) error {
	after := head.Revision
	if after > head.Floor {
		after--
	}
	newest, err := p.Store.ReadLog(ctx, after, 2)
	if err != nil {
		return fmt.Errorf("read the newest entry: %w", err)
	}
	want := 1
	if after == head.Revision {
		want = 0
	}
	if len(newest) == want && (want == 0 || newest[0].Revision == head.Revision) {
		return nil
	}
	is := "there is no such entry"
	if len(newest) > 0 {
		is = fmt.Sprintf("there is an entry of revision %d", newest[len(newest)-1].Revision)
	}
	return fmt.Errorf("%w: the log's head says revision %d, and %s", store.ErrCorrupt, head.Revision, is)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
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
	s.told = trouble.Record(s.term, nil)
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
		again = max(again, t.next)
	}
	if w := s.invalid[ledger.Series{Dataset: dataset, Scope: sc}][start]; w != nil {
		again = max(again, w.next)
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
	now := s.trusted.Second()
	if now < t.next {
		// A series is not asked again before: this is the same failure, seen in
		// another window of the same request or pass. A catch-up has dozens of them.
		t.failures--
	}
	t.reason, t.detail = reason, store.Text(detail)
	t.fail(now, p, jitter)
}
