package storetest

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

func testPositions(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	var want []store.Entry
	want = append(want, l.append(version("http_5m", 1))...)
	want = append(want, l.append(five(1, 0), five(2, 0), five(1, 1))...)
	want = append(want, l.append(five(2, 1), version("http_5m", 2), five(3, 0))...)
	equal(t, "log", want, wholeLog(t, s))

	h := mustHead(t, s)
	if h.Revision != 7 {
		t.Errorf("head is %d after 7 entries", h.Revision)
	}
	equal(t, "head", want[6].Position, h.Position)
	equal(t, "commit time of the head", want[6].CommittedAt, h.CommittedAt)

	// A batch of records alone moves nothing.
	b := l.batch()
	b.Records = []store.Record{{Kind: "gap", Key: "1", Value: []byte(`{}`)}}
	head, err := s.Append(t.Context(), l.term, l.at, b)
	if err != nil || head != l.at {
		t.Errorf("append of records alone returned %v, %v; want the head %v", head, err, l.at)
	}
	equal(t, "commit time after records alone", h.CommittedAt, mustHead(t, s).CommittedAt)
}

// testRoundTrip: every field comes back, whatever the kind.
func testRoundTrip(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	b := entry("countries_1h", account(7), time.Hour, 3)
	b.Finality, b.Origin, b.Variant, b.Rows, b.SampleInterval = bucket.SuspectConfirmed, bucket.Backfill, "adaptive · ü", math.MaxInt32, 10.25
	b.Payload = []byte{0, 255, 0, '\'', '\\', 'x'}
	empty := entry("countries_1h", account(8), time.Hour, 3)
	empty.Variant, empty.Rows, empty.SampleInterval = "", 0, 0
	day := entry("uniques_1d", zone(7), 24*time.Hour, 1)
	gap := store.NewEntry{Kind: bucket.KindGapDecision, Key: bucket.Key{Dataset: "http_5m", Scope: zone(1), Start: origin}, End: origin.Add(time.Hour), Payload: []byte("gap")}
	state := store.NewEntry{Kind: bucket.KindState, Key: bucket.Key{Dataset: "tunnel", Scope: account(2)}, Payload: []byte("state")}
	restated := entry("countries_1h", account(7), time.Hour, 3)
	restated.Kind = bucket.KindRestatement
	audit := store.NewEntry{Kind: bucket.KindAudit, Payload: []byte("who and why")}
	old := entry("http_5m", zone(1), 5*time.Minute, 0)
	old.Key.Start = bucket.TimeOf(time.Date(1969, 12, 31, 23, 55, 0, 0, time.UTC))
	old.End = 0
	want := l.append(b, empty, day, gap, state, version("x", 1), restated, old, audit)
	equal(t, "log", want, wholeLog(t, s))
	got := list(t, s, store.ListQuery{Window: bucket.Window{Start: old.Key.Start, End: day.End}})
	equal(t, "list", []store.Entry{want[0], want[1], want[7], want[2]}, got)
}

func testDeposed(t *testing.T, d Driver) {
	opener := d.Create(t)
	s := reopen(t, opener)
	old := lead(t, s, "a")
	old.append(five(1, 0))
	if err := s.Release(t.Context(), old.term); err != nil {
		t.Fatal(err)
	}
	other := s
	if d.Shared {
		other = reopen(t, opener)
	}
	l := lead(t, other, "b")

	// The deposed leader does not know, and even knows the right head.
	b := old.batch(five(1, 1))
	b.Records = []store.Record{{Kind: "gap", Key: "1", Value: []byte(`{}`)}}
	_, err := s.Append(t.Context(), old.term, old.at, b)
	wantError(t, "append by a deposed leader", err, store.ErrDeposed)
	if errors.Is(err, store.ErrUnavailable) {
		t.Errorf("the outcome of %q is known, yet it says unavailable", err)
	}
	b.Entries = nil
	_, err = s.Append(t.Context(), old.term, old.at, b)
	wantError(t, "append of records by a deposed leader", err, store.ErrDeposed)
	if r, err := s.Records(t.Context(), "gap"); len(r) != 0 || err != nil {
		t.Errorf("a deposed leader wrote records: %v, %v", r, err)
	}

	l.append(five(1, 1))
	if h := mustHead(t, s); h.Revision != 2 {
		t.Errorf("head is %d, want 2", h.Revision)
	}
	// Deposed comes before conflict: it is the one that ends the leader.
	_, err = s.Append(t.Context(), old.term, old.at, old.batch(five(1, 2)))
	wantError(t, "append by a deposed leader at an old head", err, store.ErrDeposed)
}

// testLate: what arrives after its deadline is not committed, and changes nothing.
func testLate(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	l.append(five(1, 0))
	now := mustHead(t, s).Now
	b := l.batch(five(1, 1))
	b.Records = []store.Record{{Kind: "gap", Key: "1", Value: []byte(`{}`)}}
	b.Deadline = now.Add(-time.Second)
	_, err := s.Append(t.Context(), l.term, l.at, b)
	wantError(t, "append after the deadline", err, store.ErrLate)
	_, err = s.Append(t.Context(), l.term, bucket.Position{Revision: 9}, b)
	wantError(t, "append elsewhere after the deadline", err, store.ErrConflict)
	if h := mustHead(t, s); h.Position != l.at {
		t.Errorf("head moved to %v", h.Position)
	}
	if r, _ := s.Records(t.Context(), "gap"); len(r) != 0 {
		t.Errorf("a late append wrote records: %v", r)
	}
	b.Deadline = now.Add(time.Hour)
	if _, err := s.Append(t.Context(), l.term, l.at, b); err != nil {
		t.Errorf("append before the deadline: %v", err)
	}
}

func testConflict(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	l.append(five(1, 0))
	before := l.at
	l.append(five(1, 1))
	forged := l.at
	forged.Chain[0]++
	for what, at := range map[string]bucket.Position{
		"behind":        before,
		"ahead":         {Revision: 9},
		"far ahead":     {Revision: math.MaxUint64},
		"other history": forged,
	} {
		b := l.batch(five(1, 2))
		b.Records = []store.Record{{Kind: "gap", Key: "1", Value: []byte(`{}`)}}
		_, err := s.Append(t.Context(), l.term, at, b)
		wantError(t, "append "+what, err, store.ErrConflict)
	}
	if h := mustHead(t, s); h.Position != l.at {
		t.Errorf("head moved to %v", h.Position)
	}
	if r, _ := s.Records(t.Context(), "gap"); len(r) != 0 {
		t.Errorf("a refused append wrote records: %v", r)
	}
}

func testDuplicate(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	first := l.append(version("http_5m", 1), five(1, 0), five(2, 0))
	again := five(1, 0)
	again.Payload = []byte("something else")
	other := five(1, 1)
	for what, entries := range map[string][]store.NewEntry{
		"alone":           {again},
		"among others":    {five(3, 0), again, version("http_5m", 2)},
		"twice in itself": {other, other},
	} {
		b := l.batch(entries...)
		b.Records = []store.Record{{Kind: "gap", Key: "1", Value: []byte(`{}`)}}
		_, err := s.Append(t.Context(), l.term, l.at, b)
		wantError(t, "duplicate "+what, err, store.ErrDuplicate)
		equal(t, "head after a duplicate "+what, l.at, mustHead(t, s).Position)
	}
	if r, _ := s.Records(t.Context(), "gap"); len(r) != 0 {
		t.Errorf("a refused append wrote records: %v", r)
	}
	// No revision was used and the store still works.
	second := l.append(five(3, 0))
	equal(t, "log", append(first, second...), wholeLog(t, s))

	// The same window of another dataset or scope kind is another bucket.
	l.append(entry("other_5m", zone(1), 5*time.Minute, 0), entry("http_5m", account(1), 5*time.Minute, 0))
}

// testRefused: what cannot be stored is refused before the database sees it.
func testRefused(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	for what, change := range map[string]func(*store.Batch){
		"no commit time":     func(b *store.Batch) { b.CommittedAt = time.Time{} },
		"no payload":         func(b *store.Batch) { b.Entries[0].Payload = nil },
		"no kind":            func(b *store.Batch) { b.Entries[0].Kind = 0 },
		"unknown kind":       func(b *store.Batch) { b.Entries[0].Kind = 99 },
		"no dataset":         func(b *store.Batch) { b.Entries[0].Key.Dataset = "" },
		"scope kind":         func(b *store.Batch) { b.Entries[0].Key.Scope.Kind = 3 },
		"scope id":           func(b *store.Batch) { b.Entries[0].Key.Scope.ID = "ABC" },
		"empty window":       func(b *store.Batch) { b.Entries[0].End = b.Entries[0].Key.Start },
		"size":               func(b *store.Batch) { b.Entries[0].End++ },
		"alignment":          func(b *store.Batch) { b.Entries[0].Key.Start++; b.Entries[0].End++ },
		"sample interval":    func(b *store.Batch) { b.Entries[0].SampleInterval = math.NaN() },
		"rows":               func(b *store.Batch) { b.Entries[0].Rows = -1 },
		"dataset not UTF-8":  func(b *store.Batch) { b.Entries[0].Key.Dataset = "http\xff" },
		"NUL in the variant": func(b *store.Batch) { b.Entries[0].Variant = "a\x00b" },
		"NUL in a record":    func(b *store.Batch) { b.Records[0].Value = []byte(`"a\u0000b"`) },
		"record not UTF-8":   func(b *store.Batch) { b.Records[0].Value = []byte("\"\xff\"") },
		"record kind":        func(b *store.Batch) { b.Records[0].Kind = "" },
		"record key":         func(b *store.Batch) { b.Records[0].Key = "" },
		"record not JSON":    func(b *store.Batch) { b.Records[0].Value = []byte("{") },
		"record empty value": func(b *store.Batch) { b.Records[0].Value = []byte{} },
	} {
		b := l.batch(five(1, 0))
		b.Records = []store.Record{{Kind: "gap", Key: "1", Value: []byte(`{}`)}}
		change(&b)
		if head, err := s.Append(t.Context(), l.term, l.at, b); err == nil {
			t.Fatalf("%s: stored at %v", what, head)
		} else if errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %q looks as if retrying could help", what, err)
		} else if !store.ContentRejected(err) && what != "no commit time" {
			t.Errorf("%s: %q does not say that the rest of the batch can be stored", what, err)
		}
	}
	if h := mustHead(t, s); h.Revision != 0 {
		t.Errorf("head is %d after refused batches", h.Revision)
	}
}

// testAppendRace: several writers with the same term and head. Whatever the
// order, each revision has one winner, and the losers wrote nothing.
func testAppendRace(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	const writers, rounds = 4, 8
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for r := 0; r < rounds; {
				h, err := s.Head(t.Context())
				if err != nil {
					t.Errorf("head: %v", err)
					return
				}
				_, err = s.Append(t.Context(), l.term, h.Position, store.Batch{CommittedAt: commitTime(r), Entries: []store.NewEntry{five(w, r)}})
				if err == nil {
					r++
				} else if !errors.Is(err, store.ErrConflict) {
					t.Errorf("append: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	log := wholeLog(t, s)
	if len(log) != writers*rounds {
		t.Fatalf("log has %d entries, want %d", len(log), writers*rounds)
	}
	checkChain(t, bucket.Position{}, log)
}

// checkChain verifies that entries follow a position without a gap and that
// every chain is the one of its predecessor and itself.
func checkChain(t testing.TB, at bucket.Position, entries []store.Entry) {
	t.Helper()
	for _, e := range entries {
		want := bucket.Position{Revision: at.Revision + 1, Chain: at.Chain.Next(e.Kind, e.CommittedAt, e.Payload)}
		if e.Position != want {
			t.Fatalf("entry after revision %d is at %v, want %v", at.Revision, e.Position, want)
		}
		at = e.Position
	}
}

func testLarge(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	r := rand.New(rand.NewPCG(1, 2))
	big := five(1, 0)
	big.Payload = payload(r, 5<<20)
	entries := []store.NewEntry{big}
	for i := range 2000 {
		e := five(2, i)
		e.Payload = payload(r, 100)
		entries = append(entries, e)
	}
	want := l.append(entries...)
	got, err := s.ReadLog(t.Context(), 0, 5000)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "log", want, got)
}

// testCancelled: a write whose context ends says that its outcome is unknown,
// and whichever it was, the store goes on.
func testCancelled(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := l.batch(five(1, 0))
	_, err := s.Append(ctx, l.term, l.at, b)
	wantError(t, "append", err, store.ErrUnavailable)
	wantError(t, "append", err, context.Canceled)
	wantError(t, "renew", s.Renew(ctx, l.term, long, time.Time{}), store.ErrUnavailable)

	_, err = s.ReadLog(ctx, 0, 1)
	wantError(t, "read the log", err, context.Canceled)
	if errors.Is(err, store.ErrUnavailable) {
		t.Errorf("the reader gave up, yet %q blames the database", err)
	}
	_, err = s.Snapshot(ctx, store.SnapshotQuery{}, func(store.Entry) error { return nil })
	wantError(t, "snapshot", err, context.Canceled)

	// What a writer gave up may still arrive, behind a proxy even after the next
	// question: any of them, but no two, since all were meant for one position.
	var possible []bucket.Position
	for i := range 10 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*300*time.Microsecond)
		b := l.batch(five(1, i))
		head, err := s.Append(ctx, l.term, l.at, b)
		cancel()
		h := mustHead(t, s)
		switch {
		case err == nil && head == h.Position:
		case errors.Is(err, store.ErrUnavailable):
			possible = append(possible, expected(b, l.at)[0].Position)
			if h.Position != l.at && !slices.Contains(possible, h.Position) {
				t.Fatalf("head is %v, neither before nor after the append", h.Position)
			}
		case errors.Is(err, store.ErrConflict) && slices.Contains(possible, h.Position):
		default:
			t.Fatalf("append returned %v, %v; the head is %v", head, err, h.Position)
		}
		if l.at != h.Position {
			l.at, possible = h.Position, nil
		}
	}
	checkChain(t, bucket.Position{}, wholeLog(t, s))
}

func testWake(t *testing.T, d Driver) {
	opener := d.Create(t)
	s := reopen(t, opener)
	l := lead(t, s, "a")
	follower := s
	if d.Wakes {
		follower = reopen(t, opener)
		<-follower.Wake() // whoever starts to listen may have missed something
	}
	for i := range 3 {
		// Two appends leave at most one pending signal; a signal comes in any case.
		l.append(five(1, 2*i))
		l.append(five(1, 2*i+1))
		select {
		case <-follower.Wake():
		case <-t.Context().Done():
		case <-time.After(10 * time.Second):
			t.Fatal("no wake-up after an append")
		}
	}
}
