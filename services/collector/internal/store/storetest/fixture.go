package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// origin is where the windows of the exam begin: close enough to the end of a
// month that a few days reach into the next.
var origin = bucket.TimeOf(time.Date(2026, 10, 30, 0, 0, 0, 0, time.UTC))

const long = time.Hour // a lease that no test outlives

// open returns a store on a fresh database, closed with the test.
func open(t *testing.T, d Driver) store.Store {
	t.Helper()
	return reopen(t, d.Create(t))
}

func reopen(t *testing.T, opener Opener) store.Store {
	t.Helper()
	s, err := opener(Settings)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// zone and account number scopes.
func zone(i int) bucket.Scope { return bucket.Scope{Kind: bucket.Zone, ID: fmt.Sprintf("%032x", i)} }

func account(i int) bucket.Scope {
	return bucket.Scope{Kind: bucket.Account, ID: fmt.Sprintf("%032x", i)}
}

// entry is a bucket of n windows after the origin.
func entry(dataset string, scope bucket.Scope, size time.Duration, n int) store.NewEntry {
	start := origin.Add(time.Duration(n) * size)
	return store.NewEntry{
		Kind:           bucket.KindBucket,
		Key:            bucket.Key{Dataset: dataset, Scope: scope, Start: start},
		End:            start.Add(size),
		Finality:       bucket.Confirmed,
		Origin:         bucket.Live,
		Variant:        "rollup",
		Rows:           3,
		SampleInterval: 1,
		Payload:        []byte(fmt.Sprintf("%s %s %d", dataset, scope, n)),
	}
}

// five is a five-minute bucket of dataset http_5m.
func five(z, n int) store.NewEntry { return entry("http_5m", zone(z), 5*time.Minute, n) }

func version(dataset string, n int) store.NewEntry {
	return store.NewEntry{
		Kind:    bucket.KindDatasetVersion,
		Key:     bucket.Key{Dataset: dataset},
		Payload: []byte(fmt.Sprintf("%s version %d", dataset, n)),
	}
}

// commitTime is the commit time of the exam's n-th append.
func commitTime(n int) time.Time {
	return origin.Std().Add(time.Duration(n)*time.Second + 123*time.Millisecond)
}

// leader is a writer that holds a term and knows the head, as the collector does.
type leader struct {
	t       testing.TB
	s       store.Store
	term    store.Term
	at      bucket.Position
	appends int
}

func lead(t testing.TB, s store.Store, holder string) *leader {
	t.Helper()
	lease, err := s.Acquire(t.Context(), holder, long)
	if err != nil {
		t.Fatalf("acquire the lease for %s: %v", holder, err)
	}
	return &leader{t: t, s: s, term: lease.Term, at: lease.Head.Position}
}

func (l *leader) batch(entries ...store.NewEntry) store.Batch {
	l.appends++
	return store.Batch{CommittedAt: commitTime(l.appends), Entries: entries}
}

// append commits entries and returns them as the log should show them.
func (l *leader) append(entries ...store.NewEntry) []store.Entry {
	l.t.Helper()
	b := l.batch(entries...)
	want := expected(b, l.at)
	head, err := l.s.Append(l.t.Context(), l.term, l.at, b)
	if err != nil {
		l.t.Fatalf("append at revision %d: %v", l.at.Revision, err)
	}
	if last := want[len(want)-1].Position; head != last {
		l.t.Fatalf("append at revision %d returned head %v, want %v", l.at.Revision, head, last)
	}
	l.at = head
	return want
}

// expected is the batch as entries, when it is appended at a position.
func expected(b store.Batch, at bucket.Position) []store.Entry {
	out := make([]store.Entry, len(b.Entries))
	for i, p := range b.Positions(at) {
		out[i] = store.Entry{Position: p, CommittedAt: store.Millis(b.CommittedAt), NewEntry: b.Entries[i]}
	}
	return out
}

// wholeLog reads everything after the floor, in small pages.
func wholeLog(t testing.TB, s store.Store) []store.Entry {
	t.Helper()
	head := mustHead(t, s)
	var out []store.Entry
	for after := head.Floor; ; {
		page, err := s.ReadLog(t.Context(), after, 7)
		if err != nil {
			t.Fatalf("read the log after %d: %v", after, err)
		}
		if len(page) == 0 {
			return out
		}
		out = append(out, page...)
		after = page[len(page)-1].Revision
	}
}

func mustHead(t testing.TB, s store.Store) store.Head {
	t.Helper()
	head, err := s.Head(t.Context())
	if err != nil {
		t.Fatalf("head: %v", err)
	}
	return head
}

func snapshot(t testing.TB, s store.Store, q store.SnapshotQuery) (store.Head, []store.Entry) {
	t.Helper()
	var out []store.Entry
	head, err := s.Snapshot(t.Context(), q, func(e store.Entry) error {
		out = append(out, kept(e))
		return nil
	})
	if err != nil {
		t.Fatalf("snapshot: %v", err)
	}
	return head, out
}

func list(t testing.TB, s store.Store, q store.ListQuery) []store.Entry {
	t.Helper()
	var out []store.Entry
	if err := s.List(t.Context(), q, func(e store.Entry) error {
		out = append(out, kept(e))
		return nil
	}); err != nil {
		t.Fatalf("list: %v", err)
	}
	return out
}

// kept copies what belongs to the store only during emit.
func kept(e store.Entry) store.Entry {
	e.Payload = append([]byte(nil), e.Payload...)
	return e
}

func wantError(t testing.TB, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: error is %v, want %v", what, got, want)
	}
}

func equal(t testing.TB, what string, want, got any) {
	t.Helper()
	if reflect.DeepEqual(want, got) {
		return // cmp takes its time, and readers in loops compare a lot
	}
	text := cmp.FilterValues(func(a, b []byte) bool { return len(a)+len(b) > 0 }, cmp.Transformer("bytes", func(b []byte) string { return string(b) }))
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), text); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// payload is n bytes that compress badly.
func payload(r *rand.Rand, n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(r.Uint32())
	}
	return out
}
