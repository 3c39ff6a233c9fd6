package poll

import (
	"context"
	"fmt"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	"github.com/weir-metrics/weir/services/collector/internal/coverage"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
)

// Parts of the store that a term is loaded from.
type (
	recordReader interface {
		Records(ctx context.Context, kind string) ([]store.Record, error)
	}
	logReader interface {
		ReadLog(ctx context.Context, after bucket.Revision, limit int) ([]store.Entry, error)
	}
	definitionReader interface {
		Datasets(ctx context.Context) ([]store.Entry, error)
	}
)

// load builds the state of a term from the store.
func (p *Poller) load(ctx context.Context, won store.Lease) (*state, error) {
	// Retention depends on the time, and a new process has compared no clocks.
	at, err := p.env.trusted.Read(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkHead(ctx, p.config.Store, won.Head); err != nil {
		return nil, err
	}
	won.Head.ProgressAt = p.env.possible("stream time", won.Head.ProgressAt, at)
	won.Head.CommittedAt = p.env.possible("time of the newest entry", won.Head.CommittedAt, at)
	now := bucket.TimeOf(at)
	s := p.compose(won, now)
	if err := s.loadRecords(ctx, now, p.config.Store, p.config.Unreadable); err != nil {
		return nil, err
	}
	if err := s.acceptance.load(ctx, p.config.Store); err != nil {
		return nil, err
	}
	if err := s.drift.load(ctx, p.config.Store, p.config.Unreadable); err != nil {
		return nil, err
	}
	if err := s.history.load(ctx); err != nil {
		return nil, err
	}
	return s, s.defineDatasets(ctx, p.config.Store, p.config.Unreadable)
}

// possible returns a stored time, or zero if it is too far ahead of the trusted clock to be a
// leader's, so that commits do not get a wrong time.
func (e *env) possible(what string, stored, now time.Time) time.Time {
	if ahead := stored.Sub(now); ahead > store.MaxAhead {
		e.log.Warn("the stored "+what+" is too far ahead to be valid and is ignored", "stored", stored, "ahead", ahead)
		return time.Time{}
	}
	return stored
}

// checkHead returns ErrCorrupt unless the newest entry is that of the head: otherwise new
// entries would follow missing ones, or take their revisions.
func checkHead(ctx context.Context, from logReader, head store.Head) error {
	after := head.Revision
	if after > head.Floor {
		after--
	}
	newest, err := from.ReadLog(ctx, after, 2)
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

// loadRecords reads the records of earlier leaders. An unreadable record is skipped and never
// ends the term: the next leader would find it too.
func (s *state) loadRecords(ctx context.Context, now bucket.Time, from interface {
	recordReader
	coverage.Store
}, register *unreadable.Register,
) error {
	// Everything here is read after the term is committed, so no other leader can
	// append meanwhile.
	scopes, err := roster.Load(ctx, from)
	if err != nil {
		return err
	}
	if err := s.loadRoster(ctx, scopes, register); err != nil {
		return err
	}
	records, err := coverage.ReadRecords(ctx, from)
	if err != nil {
		return err
	}
	for kind, bad := range records.Bad {
		register.Records(kind, bad)
	}
	register.Adopt(records.Unreadable)
	s.recorder.damagedGaps = records.Bad[ledger.KindGap]
	if s.retention.damaged = len(records.Bad[ledger.KindRetired]) > 0; s.retention.damaged {
		if records.Retired, err = oldest(ctx, from); err != nil {
			return err
		}
	}
	s.retention.retired = records.Retired
	if s.books.coverage, err = records.Read(ctx, from, nil, roster.Keep(now, s.books.retention), 0, s.catalogue.Datasets); err != nil {
		return err
	}
	if err := s.backfiller.load(ctx, from); err != nil {
		return err
	}
	if err := s.backfiller.loadBelow(ctx, from); err != nil {
		return err
	}
	problems, err := from.Records(ctx, trouble.KindProblems)
	if err != nil {
		return fmt.Errorf("read problems: %w", err)
	}
	s.recorder.problems = trouble.Record(s.journal.Term(), nil)
	if len(problems) > 0 {
		s.recorder.problems = problems[0]
	}
	return nil
}

// loadRoster takes the roster as stored. Unreadable parts are read from Cloudflare again, and
// records of earlier builds are rewritten.
func (s *state) loadRoster(ctx context.Context, stored roster.Stored, register *unreadable.Register) error {
	s.books.roster, s.books.contents = stored.Roster, stored.Contents
	s.discoverer.damaged, s.recorder.damagedContents = stored.Unreadable, len(stored.Damaged) > 0
	stored.Report(register)
	if n := len(stored.Missing); n > 0 {
		s.log.Warn("entitlements of scopes are missing in the store; their settings are read again", "scopes", n, "first", stored.Missing[0].Name)
	}
	if len(stored.Damaged) > 0 {
		var batch store.Batch
		for _, r := range stored.Damaged {
			batch.Records = append(batch.Records, store.Record{Kind: r.Kind, Key: r.Key})
		}
		if err := s.writer.commit(ctx, batch); err != nil {
			return err
		}
	}
	return s.writer.save(ctx, s.books.contents, stored.Old)
}

// defineDatasets appends a new version of every dataset whose definition differs from the
// newest stored one.
func (s *state) defineDatasets(ctx context.Context, from definitionReader, register *unreadable.Register) error {
	entries, err := from.Datasets(ctx)
	if err != nil {
		return fmt.Errorf("read dataset versions: %w", err)
	}
	// Versions of each dataset are 1, 2, 3 …, so the number of entries is the newest
	// version, even if that is unreadable. A number is never reused, since buckets
	// refer to it.
	stored, count := map[string]*bucket.Definition{}, map[string]uint32{}
	for i := range entries {
		e := &entries[i]
		d, err := unreadable.Definition(e)
		if err != nil {
			register.Note(e, err)
		} else {
			count[d.Dataset] = max(count[d.Dataset], d.Version-1)
		}
		count[e.Key.Dataset]++
		stored[e.Key.Dataset] = d // nil: the current definition is stored again
	}
	var batch store.Batch
	for _, d := range s.catalogue.Datasets {
		def := d.Definition
		if old := stored[def.Dataset]; old != nil {
			if old.Same(&def) {
				s.judge.versions[def.Dataset], s.judge.defined[def.Dataset] = old.Version, old
				continue
			}
		}
		def.Version = count[def.Dataset] + 1
		if err := wire.CheckDefinition(&def); err != nil {
			return err
		}
		s.judge.versions[def.Dataset], s.judge.defined[def.Dataset] = def.Version, &def
		batch.Entries = append(batch.Entries, store.NewEntry{
			Kind: bucket.KindDatasetVersion, Key: bucket.Key{Dataset: def.Dataset}, Payload: wire.EncodeDefinition(&def),
		})
	}
	if len(batch.Entries) == 0 {
		return nil
	}
	if err := s.writer.commit(ctx, batch); err != nil {
		return err
	}
	if entries, err = from.Datasets(ctx); err != nil {
		return fmt.Errorf("read dataset versions: %w", err)
	}
	s.books.coverage.Define(entries)
	return nil
}

// oldest is the start of the oldest stored bucket, which replaces a damaged record of what
// retention dropped: dropped windows must not be wanted again.
func oldest(ctx context.Context, from coverage.Store) (oldest bucket.Time, err error) {
	runs, err := from.Coverage(ctx, store.Filter{}, 0)
	if err != nil {
		return 0, fmt.Errorf("read coverage: %w", err)
	}
	for i, r := range runs {
		if i == 0 || r.Window.Start < oldest {
			oldest = r.Window.Start
		}
	}
	return oldest, nil
}
