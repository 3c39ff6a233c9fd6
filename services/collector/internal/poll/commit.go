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

// writer appends what a term has to write, and notes what the store refuses.
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

// unstorable notes an entry that the store cannot hold, whoever writes it. A bucket
// is a gap, and asked for again after pauses that grow: Cloudflare's names change,
// and databases are mended. A dataset whose definition cannot be stored is not
// collected, since nobody could read its buckets.
func (w *writer) unstorable(r journal.Refused) {
	switch r.Kind {
	case bucket.KindBucket:
		w.faults.reject(r.Key, "the database cannot hold the bucket", r.Err)
	case bucket.KindDatasetVersion:
		w.faults.off[r.Key.Dataset] = &backoff.Backoff{Next: w.trusted.Second().Add(100 * 365 * 24 * time.Hour)} // as long as the term
		w.trouble.Set(trouble.InvalidValue, r.Key.String(), fmt.Sprintf("the store cannot hold the definition of dataset %s, which is not collected: %v", r.Key.Dataset, r.Err))
	default:
		w.trouble.Set(trouble.InvalidValue, r.Key.String(), fmt.Sprintf("the store cannot hold the entry: %v", r.Err))
	}
}

// save writes scopes' records, those first that have ended: should the term end
// half-way, no name belongs to two.
func (w *writer) save(ctx context.Context, contents *roster.Contents, scopes []*roster.Scope) error {
	slices.SortStableFunc(scopes, func(a, b *roster.Scope) int { return boolOrder(b.End != 0, a.End != 0) })
	for part := range slices.Chunk(scopes, most) {
		if err := w.commit(ctx, store.Batch{Records: contents.Records(part...)}); err != nil {
			return err
		}
	}
	return nil
}
