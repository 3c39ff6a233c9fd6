package totals

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/counter"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
)

// page is how many entries are read at once.
const page = 1000

// Behind is how long before now sums are settled, so that every reader asks about later
// times, also one whose clock is late.
const Behind = 2 * time.Minute

// Source is what totals are advanced from.
type Source interface {
	RecordReader
	ReadLog(ctx context.Context, after bucket.Revision, limit int) ([]store.Entry, error)
	ChainAt(ctx context.Context, rev bucket.Revision) (bucket.Chain, error)
	Datasets(ctx context.Context) ([]store.Entry, error)
}

// Advanced is the outcome of an [Advance].
type Advanced struct {
	Epoch    Epoch
	Position bucket.Position
	Entries  int // that were added
	Series   int
	// Batches are the records to be committed, one batch after another.
	Batches [][]store.Record
}

// Advance returns the records of the totals up to a position, which is at or behind that of
// the stored ones and in the same history. between is called after each page of the log.
//
// Errors wrap [ErrNone], [ErrUnusable] (the totals are damaged, belong to another history,
// were counted by other rules, or retention dropped entries that had not been counted), or
// are those of the source.
func Advance(ctx context.Context, from Source, to bucket.Position, now time.Time, between func() error) (*Advanced, error) {
	s, err := Read(ctx, from)
	if err != nil {
		return nil, err
	}
	switch chain, err := from.ChainAt(ctx, s.Position.Revision); {
	case errors.Is(err, store.ErrCompacted):
		return nil, fmt.Errorf("%w: entries after revision %d, to which they belong, were dropped: %w", ErrUnusable, s.Position.Revision, err)
	case errors.Is(err, store.ErrBeyondHead) || err == nil && chain != s.Position.Chain:
		return nil, fmt.Errorf("%w: %w: the log has no such revision %d", ErrUnusable, errHistory, s.Position.Revision)
	case err != nil:
		return nil, fmt.Errorf("advance the totals of counters: %w", err)
	}
	fold, err := s.fold()
	if err != nil {
		return nil, err
	}
	definitions, err := definitionsOf(ctx, from)
	if err != nil {
		return nil, err
	}
	a := &Advanced{Epoch: s.Epoch}
	for at := s.Position.Revision; at < to.Revision; {
		entries, err := from.ReadLog(ctx, at, page)
		if errors.Is(err, store.ErrCompacted) {
			return nil, fmt.Errorf("%w: entries after revision %d were dropped: %w", ErrUnusable, at, err)
		}
		if err != nil {
			return nil, fmt.Errorf("advance the totals of counters: %w", err)
		}
		for i := range entries {
			if e := &entries[i]; e.Revision <= to.Revision {
				at = e.Revision
				definitions.add(fold, e)
				a.Entries++
			}
		}
		if len(entries) == 0 {
			return nil, fmt.Errorf("advance the totals of counters: %w: the log ends at revision %d, before %d", store.ErrUnavailable, at, to.Revision)
		}
		if err := between(); err != nil {
			return nil, err
		}
	}
	a.Position = to
	if settled := now.Add(-Behind); settled.After(a.Epoch.Settled) {
		a.Epoch.Settled = settled
	}
	sums := fold.Totals(a.Epoch.Settled)
	for i := range sums {
		a.Series += len(sums[i].Series)
	}
	a.Batches, err = s.replace(a.Epoch, to, sums)
	return a, err
}

// NewID is the id of an epoch that begins now.
func NewID(now time.Time, random uint32) string { return fmt.Sprintf("%x-%08x", now.Unix(), random) }

// Begin returns the records of a new epoch, whose first entry is the one after the position.
func Begin(ctx context.Context, from RecordReader, id string, why Reason, at bucket.Position, now time.Time) (*Advanced, error) {
	s, err := Read(ctx, from)
	if err != nil && !errors.Is(err, ErrNone) && !errors.Is(err, ErrUnusable) {
		return nil, err
	}
	a := &Advanced{Position: at, Epoch: Epoch{counter.Epoch{ID: id, Began: now, After: at.Revision, Settled: now.Add(-Behind), Rules: counter.Rules}, why}}
	a.Batches, err = s.replace(a.Epoch, at, nil)
	return a, err
}

// versions are the definitions of a store.
type versions map[string]map[uint32]*bucket.Definition

func definitionsOf(ctx context.Context, from Source) (versions, error) {
	entries, err := from.Datasets(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the definitions of datasets: %w", err)
	}
	v := versions{}
	for i := range entries {
		if d, err := unreadable.Definition(&entries[i]); err == nil {
			v.take(d)
		}
	}
	return v, nil
}

func (v versions) take(d *bucket.Definition) {
	if v[d.Dataset] == nil {
		v[d.Dataset] = map[uint32]*bucket.Definition{}
	}
	v[d.Dataset][d.Version] = d
}

// add counts an entry. One that no reader can read, or of which nothing can count, is
// passed over, here as by every reader.
func (v versions) add(fold *counter.Fold, e *store.Entry) {
	entry := &bucket.Entry{Position: e.Position, CommittedAt: e.CommittedAt, Kind: e.Kind}
	switch e.Kind {
	case bucket.KindDatasetVersion:
		d, err := unreadable.Definition(e)
		if err != nil {
			return
		}
		v.take(d)
		entry.Definition = d
	case bucket.KindBucket:
		b, err := unreadable.Bucket(e)
		if err != nil || v[b.Dataset][b.Version] == nil {
			return
		}
		entry.Bucket, entry.Definition = b, v[b.Dataset][b.Version]
	default:
		return
	}
	_ = fold.Add(entry) // an error: nothing of it counts
}

// A message is preceded by its size.
func appendSize(dst []byte, n int) []byte { return binary.AppendUvarint(dst, uint64(n)) }

func consumeSize(b []byte) (size, n int) {
	v, n := binary.Uvarint(b)
	if n > 0 && v > uint64(len(b)) {
		return 0, 0
	}
	return int(v), n
}
