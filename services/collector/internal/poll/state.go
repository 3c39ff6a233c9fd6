package poll

import (
	"context"
	"fmt"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	"github.com/weir-metrics/weir/services/collector/internal/backoff"
	"github.com/weir-metrics/weir/services/collector/internal/coverage"
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
	dropAt   bucket.Time // when to look for contents that no scope refers to
	putOff   bucket.Time // since when retention could not be done; 0: it could
	retired  bucket.Time // nothing before may be stored; as stored
}

func (p *Poller) load(ctx context.Context, won store.Lease) (*state, error) {
	// What is kept goes by the time, and a new process has compared no clocks.
	now, err := p.trusted.Look(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.checkHead(ctx, won.Head); err != nil {
		return nil, err
	}
	won.Head.ProgressAt = p.possible("stream time", won.Head.ProgressAt, now)
	won.Head.CommittedAt = p.possible("time of the newest entry", won.Head.CommittedAt, now)
	s := p.compose(won, now)
	if err := s.loadRecords(ctx, bucket.TimeOf(now)); err != nil {
		return nil, err
	}
	if s.drift, err = p.loadDrift(ctx); err != nil {
		return nil, err
	}
	if err := s.loadRecent(ctx); err != nil {
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

// compose puts the parts of a term together. They know nothing yet.
func (p *Poller) compose(won store.Lease, now time.Time) *state {
	f := &faults{Poller: p, lines: newLines(p.Credentials), tries: map[ledger.Series]*try{}, off: map[string]*backoff.Backoff{}, invalid: map[ledger.Series]map[bucket.Time]*invalid{}}
	b := &books{
		Poller: p, faults: f, leads: bucket.TimeOf(now), changed: map[bucket.Scope]bool{},
		versions: map[string]uint32{}, defined: map[string]*bucket.Definition{}, settling: map[string]*settle.Dataset{}, recent: map[ledger.Series][]settle.Final{},
	}
	for i := range p.Catalogue.Datasets {
		d := &p.Catalogue.Datasets[i]
		b.settling[d.Dataset] = settle.New(settle.Policy{Size: d.Size, Confirm: d.Confirm, Deadline: d.Deadline, Distinct: d.Distinct()})
	}
	w := &writer{Poller: p, faults: f, journal: journal.Open(journal.Config{
		Store: p.Store, Clock: p.Clock, Trusted: p.trusted, LeaseTTL: p.LeaseTTL, Jitter: p.rng.Float64,
		Writes: p.Writes, Trouble: p.Trouble, Revision: p.Metrics.revision, Stream: p.Metrics.progress,
	}, won)}
	damaged := &damage{Poller: p, books: b, inspected: won.Head.Floor, until: won.Head.Revision}
	a := &asker{Poller: p, faults: f, books: b, writer: w}
	u := &auditor{Poller: p, faults: f, books: b, writer: w, asker: a}
	j := &judge{Poller: p, faults: f, books: b, writer: w, auditor: u}
	a.take = j.take
	g := &settings{
		Poller: p, faults: f, books: b, writer: w, asker: a, ceilings: plan.DefaultCeilings,
		unread: map[bucket.Scope]*unread{}, heard: map[bucket.Scope]*heard{},
	}
	a.aside = g.aside
	d := &discoverer{Poller: p, faults: f, books: b, writer: w, asker: a, damaged: damaged, odd: map[string]bool{}}
	r := &reporter{Poller: p, faults: f, books: b, settings: g, discoverer: d, users: usersOf(f.lines)}
	return &state{
		Poller: p, faults: f, books: b, writer: w, asker: a, judge: j, settings: g, discoverer: d, auditor: u, reporter: r, damaged: damaged,
	}
}

// loadRecords reads what leaders before this one have written. A record that
// cannot be read costs itself, never the term: whoever leads next would come to it
// too.
func (s *state) loadRecords(ctx context.Context, now bucket.Time) error {
	// Everything here is read after the term is committed, so no other leader's
	// append can still come in between.
	scopes, err := roster.Load(ctx, s.Store)
	if err != nil {
		return err
	}
	if err := s.loadRoster(ctx, scopes); err != nil {
		return err
	}
	records, err := coverage.ReadRecords(ctx, s.Store)
	if err != nil {
		return err
	}
	for kind, bad := range records.Bad {
		s.Unreadable.Records(kind, bad)
	}
	s.Unreadable.Adopt(records.Unreadable)
	s.damaged.gaps = records.Bad[ledger.KindGap]
	if s.damaged.retired = len(records.Bad[ledger.KindRetired]) > 0; s.damaged.retired {
		if records.Retired, err = s.oldest(ctx); err != nil {
			return err
		}
	}
	s.retired = records.Retired
	if s.coverage, err = records.Read(ctx, s.Store, nil, roster.Keep(now, s.Retention), s.Catalogue.Datasets); err != nil {
		return err
	}
	problems, err := s.Store.Records(ctx, trouble.KindProblems)
	if err != nil {
		return fmt.Errorf("read problems: %w", err)
	}
	s.told = trouble.Record(s.journal.Term(), nil)
	if len(problems) > 0 {
		s.told = problems[0]
	}
	return nil
}

// loadRoster takes the roster as it was stored. What of it cannot be read is read
// from Cloudflare again, and what an earlier build wrote is written anew.
func (s *state) loadRoster(ctx context.Context, stored roster.Stored) error {
	s.roster, s.contents = stored.Roster, stored.Contents
	s.damaged.scopes, s.damaged.contents = stored.Unreadable, len(stored.Damaged) > 0
	stored.Report(s.Unreadable)
	if n := len(stored.Missing); n > 0 {
		s.Logger.Warn("entitlements of scopes are missing in the store; their settings are read again", "scopes", n, "first", stored.Missing[0].Name)
	}
	if len(stored.Damaged) > 0 {
		var batch store.Batch
		for _, r := range stored.Damaged {
			batch.Records = append(batch.Records, store.Record{Kind: r.Kind, Key: r.Key})
		}
		if err := s.commit(ctx, batch); err != nil {
			return err
		}
	}
	return s.save(ctx, s.contents, stored.Old)
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
