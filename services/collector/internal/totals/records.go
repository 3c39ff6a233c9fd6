package totals

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/counter"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// Kinds of the records: the chunks, and the header, which is read alone, too.
const (
	Kind       = "counter"
	KindHeader = "counter_header"
)

// ErrNone: no leader has begun to count in this store.
var ErrNone = errors.New("no counters have begun in this store")

// ErrUnusable: there are totals that cannot be used, so that counting must begin again.
var ErrUnusable = errors.New("the stored totals of counters cannot be used")

// errRules: the totals were counted by other rules ([counter.Rules]).
var errRules = errors.New("they were counted by other rules")

// errHistory: the position of the totals is not one of the log's.
var errHistory = errors.New("they are of another history")

// ErrAhead: the totals were settled by a time that has not come, as [Epoch.Far] says.
var ErrAhead = errors.New("they were settled by a clock that was ahead")

// Reason is why counting began at zero.
type Reason string

// The reasons.
const (
	First     Reason = "first"     // no bucket was stored before
	None      Reason = "none"      // buckets had been stored, and no totals: by releases that do not count, as a rule
	Requested Reason = "requested" // by an operator
	Damaged   Reason = "damaged"   // the stored totals cannot be read
	History   Reason = "history"   // the stored totals are of another history
	Compacted Reason = "compacted" // retention dropped entries that had not been counted
	Rules     Reason = "rules"     // the stored totals were counted by other rules: those of another release
	Ahead     Reason = "ahead"     // the stored totals were settled by a clock that was ahead
)

// Reasons are all of them.
var Reasons = []Reason{First, None, Requested, Damaged, History, Compacted, Rules, Ahead}

// Fault reports whether the beginning took sums away that nobody wanted to end.
func (r Reason) Fault() bool { return r == Damaged || r == History || r == Compacted || r == Ahead }

// ReasonOf is the reason to begin because of an error of [Advance], with the log up to a position.
func ReasonOf(ctx context.Context, from Source, err error, at bucket.Position) (Reason, error) {
	switch {
	case errors.Is(err, store.ErrCompacted):
		return Compacted, nil
	case errors.Is(err, errHistory):
		return History, nil
	case errors.Is(err, errRules):
		return Rules, nil
	case errors.Is(err, ErrAhead):
		return Ahead, nil
	case !errors.Is(err, ErrNone):
		return Damaged, nil
	}
	definitions, err := from.Datasets(ctx)
	if err != nil {
		return "", fmt.Errorf("read the definitions of datasets: %w", err)
	}
	if at.Revision <= bucket.Revision(len(definitions)) {
		return First, nil
	}
	return None, nil
}

// Far reports whether an epoch was settled by a time that no leader's clock can have at now. Its
// sums have what is still to be played out, and no page is of a time before.
func (e *Epoch) Far(now time.Time) bool { return e.Settled.Sub(now) > store.MaxAhead }

// Epoch is an epoch of counters, and why it began. The reason is empty if the totals were
// advanced by a release that does not keep it.
type Epoch struct {
	counter.Epoch
	Reason Reason
}

// header is the key of the record that says which chunks belong together.
const header = "header"

// Stored is the newest totals of a store.
type Stored struct {
	Epoch    Epoch
	Position bucket.Position // the totals are those of the entries up to it
	// Chunks are the messages, compressed: see [Stored.Each].
	chunks [][]byte
	keys   map[string]bool // of all chunks that exist
	set    string          // the set that is in use
}

// head is the value of the header's record.
type head struct {
	Epoch    string          `json:"epoch"`
	Began    time.Time       `json:"began"`
	Reason   Reason          `json:"reason,omitempty"`
	After    bucket.Revision `json:"after"`
	Settled  time.Time       `json:"settled"`
	Revision bucket.Revision `json:"revision"`
	Chain    string          `json:"chain"`
	Set      string          `json:"set"`
	Chunks   int             `json:"chunks"`
	Rules    uint32          `json:"rules"`
}

func (h *head) epoch() Epoch {
	return Epoch{counter.Epoch{ID: h.Epoch, Began: h.Began, After: h.After, Settled: h.Settled, Rules: h.Rules}, h.Reason}
}

// chunk is the value of a chunk's record: a sequence of messages, each after its length,
// compressed with gzip.
type chunk struct {
	Data []byte `json:"data"`
}

// sets are the prefixes of the chunks' keys. A release that counts by other rules and does not
// look at their version must not know them, so that it begins anew: rules 1 had a and b.
var sets = [2]string{"c", "d"}

func chunkKey(set string, n int) string { return fmt.Sprintf("%s/%06d", set, n) }

// RecordReader is the part of a store that totals are read from.
type RecordReader interface {
	Records(ctx context.Context, kind string) ([]store.Record, error)
}

// Read returns the newest totals. [ErrNone] without any, [ErrUnusable] if a record is
// missing or damaged, or if they were counted by other rules.
func Read(ctx context.Context, from RecordReader) (*Stored, error) {
	h, position, headErr := readHeader(ctx, from)
	if headErr != nil && !errors.Is(headErr, ErrNone) && !errors.Is(headErr, ErrUnusable) {
		return nil, headErr
	}
	records, err := from.Records(ctx, Kind)
	if err != nil {
		return nil, fmt.Errorf("read the totals of counters: %w", err)
	}
	values, s := map[string][]byte{}, &Stored{keys: map[string]bool{}}
	for _, r := range records {
		values[r.Key] = r.Value
		s.keys[r.Key] = true
	}
	if errors.Is(headErr, ErrNone) && len(s.keys) > 0 {
		headErr = fmt.Errorf("%w: the header is missing, of %d chunks", ErrUnusable, len(s.keys))
	}
	if headErr != nil {
		return s, headErr // with the keys of chunks that a leader left behind
	}
	unusable := func(format string, args ...any) (*Stored, error) {
		return s, fmt.Errorf("%w: %w", ErrUnusable, fmt.Errorf(format, args...))
	}
	s.Epoch = h.epoch()
	s.Position, s.set = position, h.Set
	for n := range h.Chunks {
		key := chunkKey(h.Set, n)
		var c chunk
		if value, ok := values[key]; !ok {
			return unusable("chunk %s of %d is missing", key, h.Chunks)
		} else if err := json.Unmarshal(value, &c); err != nil {
			return unusable("chunk %s: %w", key, err)
		}
		s.chunks = append(s.chunks, c.Data)
	}
	return s, nil
}

// EpochOf returns the present epoch. Errors are those of [Read]; the chunks are not looked at.
func EpochOf(ctx context.Context, from RecordReader) (Epoch, error) {
	h, _, err := readHeader(ctx, from)
	return h.epoch(), err
}

func readHeader(ctx context.Context, from RecordReader) (h head, at bucket.Position, err error) {
	records, err := from.Records(ctx, KindHeader)
	if err != nil {
		return h, at, fmt.Errorf("read the totals of counters: %w", err)
	}
	n := slices.IndexFunc(records, func(r store.Record) bool { return r.Key == header })
	if n < 0 {
		return h, at, ErrNone
	}
	is := records[n].Value
	if err := json.Unmarshal(is, &h); err != nil {
		return h, at, fmt.Errorf("%w: the header: %w", ErrUnusable, err)
	}
	if h.Epoch != "" && h.Rules != counter.Rules {
		return h, at, fmt.Errorf("%w: %w: version %d; this release counts by version %d", ErrUnusable, errRules, h.Rules, counter.Rules)
	}
	chain, err := hex.DecodeString(h.Chain)
	if err != nil || len(chain) != len(at.Chain) || h.Epoch == "" || !slices.Contains(sets[:], h.Set) || h.Began.IsZero() || h.Settled.IsZero() {
		return h, at, fmt.Errorf("%w: the header is %s", ErrUnusable, is)
	}
	return h, bucket.Position{Revision: h.Revision, Chain: bucket.Chain(chain)}, nil
}

// Each calls do for each message, in order.
func (s *Stored) Each(do func(*bucketv1.CounterTotals) error) error {
	for n, data := range s.chunks {
		plain, err := inflate(data)
		if err != nil {
			return fmt.Errorf("%w: chunk %d: %w", ErrUnusable, n, err)
		}
		for len(plain) > 0 {
			size, k := consumeSize(plain)
			if k <= 0 || size > len(plain)-k {
				return fmt.Errorf("%w: chunk %d ends within a message", ErrUnusable, n)
			}
			var m bucketv1.CounterTotals
			if err := proto.Unmarshal(plain[k:k+size], &m); err != nil {
				return fmt.Errorf("%w: chunk %d: %w", ErrUnusable, n, err)
			}
			if err := do(&m); err != nil {
				return err
			}
			plain = plain[k+size:]
		}
	}
	return nil
}

// fold returns a fold that goes on from the totals.
func (s *Stored) fold() (*counter.Fold, error) {
	f := counter.New()
	err := s.Each(func(m *bucketv1.CounterTotals) error {
		t, err := wire.DecodeCounterTotals(m)
		if err == nil {
			err = f.Load(t)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnusable, err)
		}
		return nil
	})
	return f, err
}

// perChunk is how many bytes of messages a chunk has, about.
const perChunk = 1 << 20

// replace returns the records that replace what is stored, in batches to be committed one
// after another; the last one makes the new totals valid.
func (s *Stored) replace(epoch Epoch, at bucket.Position, sums []counter.Totals) ([][]store.Record, error) {
	set := sets[0]
	if s.set == set {
		set = sets[1]
	}
	var batches [][]store.Record
	n, stale := 0, s.keys
	var plain []byte
	flush := func() error {
		data, err := deflate(plain)
		if err != nil {
			return err
		}
		value, err := json.Marshal(chunk{Data: data})
		if err != nil {
			return fmt.Errorf("encode a chunk of totals: %w", err)
		}
		batches = append(batches, []store.Record{{Kind: Kind, Key: chunkKey(set, n), Value: value}})
		plain, n = plain[:0], n+1
		return nil
	}
	for i := range sums {
		for _, m := range wire.CounterTotals(&sums[i]) {
			encoded, err := proto.Marshal(m)
			if err != nil {
				return nil, fmt.Errorf("encode totals of %s: %w", sums[i].Scope, err)
			}
			plain = append(appendSize(plain, len(encoded)), encoded...)
			if len(plain) >= perChunk {
				if err := flush(); err != nil {
					return nil, err
				}
			}
		}
	}
	if len(plain) > 0 {
		if err := flush(); err != nil {
			return nil, err
		}
	}
	value, err := json.Marshal(head{
		Epoch: epoch.ID, Began: epoch.Began, Reason: epoch.Reason, After: epoch.After, Settled: epoch.Settled,
		Revision: at.Revision, Chain: at.Chain.String(), Set: set, Chunks: n, Rules: epoch.Rules,
	})
	if err != nil {
		return nil, fmt.Errorf("encode the header of totals: %w", err)
	}
	last := []store.Record{{Kind: KindHeader, Key: header, Value: value}}
	for _, key := range sortedKeys(stale) {
		if key[:1] != set || key >= chunkKey(set, n) {
			last = append(last, store.Record{Kind: Kind, Key: key})
		}
	}
	return append(batches, last), nil
}

func sortedKeys(m map[string]bool) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func deflate(plain []byte) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(plain); err != nil {
		return nil, fmt.Errorf("compress totals: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("compress totals: %w", err)
	}
	return b.Bytes(), nil
}

func inflate(data []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}
