package poll

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/backoff"
	"github.com/weir-metrics/weir/services/collector/internal/journal"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

// writer appends to the log, and records what the store refuses.
type writer struct {
	*env
	faults  *faults
	journal *journal.Journal
}

// commit appends a batch. An error ends the term.
func (w *writer) commit(ctx context.Context, batch store.Batch) error {
	refused, err := w.journal.Commit(ctx, batch)
	if err != nil {
		return err
	}
	unstorable := make(map[bucket.Key]bool, len(refused))
	for _, r := range refused {
		unstorable[r.Key] = true
		w.unstorable(r)
	}
	for _, e := range batch.Entries {
		if !unstorable[e.Key] {
			w.faults.accepted(ledger.Series{Dataset: e.Key.Dataset, Scope: e.Key.Scope}, e.Key.Start)
		}
	}
	return nil
}

// unstorable records an entry that the store cannot hold. A bucket becomes a gap and is
// requested again, with a growing back-off: names at Cloudflare change, and databases are
// repaired. A dataset whose definition cannot be stored is not collected, since its buckets
// could not be read.
func (w *writer) unstorable(r journal.Refused) {
	switch r.Kind {
	case bucket.KindBucket:
		w.faults.reject(r.Key, "the database cannot hold the bucket", r.Err)
	case bucket.KindDatasetVersion:
		w.faults.off[r.Key.Dataset] = &backoff.Backoff{Next: w.trusted.Second().Add(100 * 365 * 24 * time.Hour)} // for the rest of the term
		w.trouble.Set(trouble.InvalidValue, r.Key.String(), fmt.Sprintf("the store cannot hold the definition of dataset %s, which is not collected: %v", r.Key.Dataset, r.Err))
	default:
		w.trouble.Set(trouble.InvalidValue, r.Key.String(), fmt.Sprintf("the store cannot hold the entry: %v", r.Err))
	}
}

// save writes the records of scopes, ended ones first: if the term ends half-way, no name
// belongs to two scopes.
func (w *writer) save(ctx context.Context, contents *roster.Contents, scopes []*roster.Scope) error {
	slices.SortStableFunc(scopes, func(a, b *roster.Scope) int { return boolOrder(b.End != 0, a.End != 0) })
	for part := range slices.Chunk(scopes, most) {
		if err := w.commit(ctx, store.Batch{Records: contents.Records(part...)}); err != nil {
			return err
		}
	}
	return nil
}
