package collectortest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

// What a collector keeps in its store, for tests that write it themselves.
type (
	// NewEntry is a line of the log to come.
	NewEntry = store.NewEntry
	// Record is a document beside the log.
	Record = store.Record
	// Gap is an element of the gap ledger.
	Gap = ledger.Gap
	// Series is a dataset of one scope.
	Series = ledger.Series
	// Decided is a range that will not be collected.
	Decided = ledger.Decided
	// Problem is a lasting condition.
	Problem = trouble.Problem
)

// Gaps are the records of a ledger.
func Gaps(gaps ...Gap) []Record { return ledger.Diff(nil, gaps) }

// StoredGaps is the ledger that a store has.
func StoredGaps(ctx context.Context, s collector.Store) ([]Gap, error) {
	return stored[Gap](ctx, s, ledger.KindGap)
}

// Decision is the record of a range that will not be collected.
func Decision(of Series, span Decided) Record {
	return (*ledger.Decision)(nil).Decide(of, span, span.Start).Record()
}

// StoredDecisions are those that a store has.
func StoredDecisions(ctx context.Context, s collector.Store) ([]ledger.Decision, error) {
	return stored[ledger.Decision](ctx, s, ledger.KindDecided)
}

// Account is the record of an account that is collected, as it is found.
func Account(id, name string, since bucket.Time) Record {
	of := roster.Scope{
		Scope: bucket.Scope{Kind: bucket.Account, ID: id}, Name: name, AccountID: id, AccountName: name, AccountLabel: name,
		State: roster.Active, FirstSeen: since, Start: since,
	}
	return roster.NewContents().Records(&of)[0]
}

// Zone is the record of a zone that is collected, as it is found.
func Zone(id, name, accountID, account string, since bucket.Time) Record {
	of := roster.Scope{
		Scope: bucket.Scope{Kind: bucket.Zone, ID: id}, Name: name, AccountID: accountID, AccountName: account, AccountLabel: account,
		ZoneLabel: name, State: roster.Active, FirstSeen: since, Start: since,
	}
	return roster.NewContents().Records(&of)[0]
}

// stored decodes the records of a kind. One that cannot be read is an error,
// other than in a collector.
func stored[T any](ctx context.Context, s collector.Store, kind string) ([]T, error) {
	records, err := s.Records(ctx, kind)
	if err != nil {
		return nil, err
	}
	out := make([]T, len(records))
	for i, r := range records {
		if err := json.Unmarshal(r.Value, &out[i]); err != nil {
			return nil, fmt.Errorf("read record %q of kind %s: %w", r.Key, kind, err)
		}
	}
	return out, nil
}

// Write appends to a store that nobody leads, under a term of its own, what a
// collector would not write for a test: what only trouble, or another release,
// would make it write. Problems are what the leader of that term has found.
func Write(ctx context.Context, s collector.Store, entries []NewEntry, records []Record, problems ...Problem) error {
	const holder = "collectortest"
	lease, err := s.Acquire(ctx, holder, time.Minute)
	if err != nil {
		return fmt.Errorf("write as a leader: %w", err)
	}
	// Commit times never go back.
	at := lease.Head.Now
	if lease.Head.CommittedAt.After(at) {
		at = lease.Head.CommittedAt
	}
	if len(problems) > 0 {
		records = append(records[:len(records):len(records)], trouble.Record(lease.Term, problems))
	}
	_, err = s.Append(ctx, lease.Term, lease.Head.Position, store.Batch{CommittedAt: at, Entries: entries, Records: records})
	if err := errors.Join(err, s.Release(ctx, lease.Term)); err != nil {
		return fmt.Errorf("write as a leader: %w", err)
	}
	return nil
}
