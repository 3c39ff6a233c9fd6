package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// Validate returns an ErrInvalid for the first value of the batch that no driver may
// store. Drivers call it, so that both reject the same values.
func (b *Batch) Validate() error {
	if b.CommittedAt.IsZero() {
		return errors.New("batch has no commit time")
	}
	for i := range b.Entries {
		if err := b.Entries[i].Validate(); err != nil {
			return fmt.Errorf("%w: entry %d of the batch: %w", ErrInvalid, i, err)
		}
	}
	for _, r := range b.Records {
		if err := r.Validate(); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	return nil
}

// Validate returns an error if no driver may store the record.
func (r *Record) Validate() error {
	if r.Kind == "" || r.Key == "" {
		return fmt.Errorf("record has kind %.80q and key %.80q: both are required", r.Kind, r.Key)
	}
	if !validText(r.Kind, r.Key, string(r.Value)) || escapesNUL(string(r.Value)) {
		return fmt.Errorf("record %.80q %.80q: text must be UTF-8 without NUL", r.Kind, r.Key)
	}
	if r.Value != nil && !json.Valid(r.Value) {
		return fmt.Errorf("record %.80q %.80q: the value is not JSON", r.Kind, r.Key)
	}
	return nil
}

// Validate returns an error if no driver may store the entry.
func (e *NewEntry) Validate() error {
	if !e.Kind.Written() {
		return fmt.Errorf("kind is %d; it must be %d to %d or %d", e.Kind, bucket.KindBucket, bucket.KindRestatement, bucket.KindAudit)
	}
	if len(e.Payload) == 0 {
		return fmt.Errorf("%s has no payload", e.Key)
	}
	if !validText(e.Key.Dataset, e.Variant) {
		return fmt.Errorf("dataset %.80q, variant %.80q: text must be UTF-8 without NUL", e.Key.Dataset, e.Variant)
	}
	if e.Rows < 0 || e.Rows > math.MaxInt32 {
		return fmt.Errorf("%s has %d rows", e.Key, e.Rows)
	}
	if math.IsNaN(e.SampleInterval) || math.IsInf(e.SampleInterval, 0) {
		return fmt.Errorf("%s has sample interval %v; it must be finite", e.Key, e.SampleInterval)
	}
	// Other kinds may be about no scope at all.
	if e.Kind == bucket.KindBucket || e.Key.Scope != (bucket.Scope{}) {
		if err := e.Key.Scope.Validate(); err != nil {
			return fmt.Errorf("%s: %w", e.Key, err)
		}
	}
	if e.Kind == bucket.KindRestatement && (e.Key.Dataset == "" || e.Key.Scope == (bucket.Scope{}) || e.End <= e.Key.Start) {
		return fmt.Errorf("restatement of %s that ends at %s: it must have the dataset, the scope and the window of a bucket", e.Key, e.End)
	}
	if e.Kind != bucket.KindBucket {
		return nil
	}
	if e.Key.Dataset == "" {
		return fmt.Errorf("bucket %s has no dataset", e.Key)
	}
	// Retention depends on it: an aligned window of a size that divides a day never
	// crosses the end of a month, where one partition ends and the next begins.
	size := e.End.Sub(e.Key.Start)
	if err := bucket.ValidSize(size); err != nil {
		return fmt.Errorf("bucket %s: %w", e.Key, err)
	}
	if e.Key.Start.Floor(size) != e.Key.Start {
		return fmt.Errorf("bucket %s: the start must be a multiple of the size of %s", e.Key, size)
	}
	return nil
}

// MaxAhead is how far the stored stream time may be ahead of the leader's clock, which
// is more than clocks normally differ.
const MaxAhead = time.Hour

// MaxWindow is the longest window that a bucket can have.
const MaxWindow = 24 * time.Hour

// Positions returns the position of each entry of the batch when it is appended at the
// given head. Both drivers and the writer use it, so that there is one implementation
// of the chain.
func (b *Batch) Positions(at bucket.Position) []bucket.Position {
	out := make([]bucket.Position, len(b.Entries))
	for i := range b.Entries {
		at = bucket.Position{
			Revision: at.Revision + 1,
			Chain:    at.Chain.Next(b.Entries[i].Kind, b.CommittedAt, b.Entries[i].Payload),
		}
		out[i] = at
	}
	return out
}

// Millis is t as both drivers store it: in UTC, truncated to milliseconds, like the time
// in the chain.
func Millis(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return time.UnixMilli(t.UnixMilli()).UTC()
}

// FinalRecords splits the batch's records into those to write and those to
// delete. Of several with the same kind and key only the last is kept: one
// statement may not touch a row twice.
func (b *Batch) FinalRecords() (put, remove []Record) {
	type id struct{ kind, key string }
	last := make(map[id]int, len(b.Records))
	for i, r := range b.Records {
		last[id{r.Kind, r.Key}] = i
	}
	for i, r := range b.Records {
		switch {
		case last[id{r.Kind, r.Key}] != i:
		case r.Value == nil:
			remove = append(remove, r)
		default:
			put = append(put, r)
		}
	}
	return put, remove
}
