package storetest

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// historian holds the lease of a store with history. A store that was dumped
// while the lease lasted lets the same name in at once.
const historian = "historian"

// history is what [WriteHistory] appends: every kind of entry, three months,
// both kinds of scope, late windows. It never changes, since dumps of stores at
// earlier schemas hold it.
func history() []store.Batch {
	hour := func(z, n int) store.NewEntry { return entry("uniques_1h", zone(z), time.Hour, n) }
	old := func(n int) store.NewEntry { return five(1, n-40*288) } // in September
	gap := store.NewEntry{
		Kind: bucket.KindGapDecision, Key: bucket.Key{Dataset: "http_5m", Scope: zone(2), Start: origin}, End: origin.Add(time.Hour),
		Payload: []byte("lost"),
	}
	state := store.NewEntry{Kind: bucket.KindState, Key: bucket.Key{Dataset: "tunnel", Scope: account(3)}, Payload: []byte("healthy")}
	restated := five(2, 1)
	restated.Kind, restated.Payload = bucket.KindRestatement, []byte("as corrected")
	late := five(2, 3)
	late.Finality, late.Origin, late.Variant, late.SampleInterval = bucket.SuspectConfirmed, bucket.Repair, "adaptive · ü", 10.25
	late.Payload = []byte{0, 255, '\'', '\\', '\n', 'x'}
	record := func(kind, key, value string) store.Record {
		r := store.Record{Kind: kind, Key: key}
		if value != "" {
			r.Value = []byte(value)
		}
		return r
	}
	return []store.Batch{
		{Entries: []store.NewEntry{version("http_5m", 1), version("uniques_1h", 1)}},
		{Entries: []store.NewEntry{old(0), old(1), old(2)}},
		{Entries: []store.NewEntry{five(1, 0), five(2, 0), hour(1, 0)}, Records: []store.Record{
			record("gap", "http_5m 2", `{"reason": "suspect", "attempts": 3}`), record("scope", "é", `["one", null]`),
		}},
		{Entries: []store.NewEntry{five(1, 2*288), five(2, 1), entry("uniques_1d", account(1), 24*time.Hour, 3)}},
		{Entries: []store.NewEntry{gap, state}},
		{Entries: []store.NewEntry{late, version("http_5m", 2), five(1, 3*288), restated}, Records: []store.Record{
			record("gap", "http_5m 2", ""), record("gap", "http_5m 9", `12345678901234567890`),
		}},
	}
}

// retired is how many entries of the history [WriteHistory] lets retention
// forget: everything up to the last bucket of September.
const retired = 5

// historyLog is the history as a log, from the first revision.
func historyLog() (log []store.Entry) {
	var at bucket.Position
	for i, b := range history() {
		b.CommittedAt = commitTime(i)
		log = append(log, expected(b, at)...)
		at = log[len(log)-1].Position
	}
	return log
}

var historyPermits = store.Permits{
	User: "u", Want: 7, Limit: 7, Now: commitTime(0), UseBy: commitTime(60), Span: 5 * time.Minute, Holder: historian,
	OwnTime: true,
}

// WriteHistory gives a new store a history, which [CheckHistory] finds in it, or
// in what any later release has made of it. For dumps of a schema as it is.
func WriteHistory(t testing.TB, s store.Store) {
	t.Helper()
	l := lead(t, s, historian)
	for i, b := range history() {
		b.CommittedAt = commitTime(i)
		head, err := s.Append(t.Context(), l.term, l.at, b)
		if err != nil {
			t.Fatalf("batch %d of the history: %v", i, err)
		}
		l.at = head
	}
	if _, err := s.Retire(t.Context(), l.term, bucket.TimeOf(time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)), commitTime(100)); err != nil {
		t.Fatal(err)
	}
	if err := s.Renew(t.Context(), l.term, long, commitTime(100)); err != nil {
		t.Fatal(err)
	}
	if g, err := s.Reserve(t.Context(), historyPermits); err != nil || g.N != historyPermits.Want {
		t.Fatalf("permits of the history: %+v, %v", g, err)
	}
}

// CheckHistory reports what a store lacks of the history that [WriteHistory]
// wrote; it only reads. Whatever was appended since is returned.
func CheckHistory(t testing.TB, s store.Store) (since []store.Entry) {
	t.Helper()
	want, h := historyLog(), mustHead(t, s)
	if h.Floor != retired || !h.ProgressAt.Equal(commitTime(100)) || h.SampleTimestamp != Settings.SampleTimestamp || h.Simulated {
		t.Errorf("head with history: %+v", h)
	}
	log := wholeLog(t, s)
	if len(log) < len(want)-retired {
		t.Fatalf("the log has %d entries, the history %d", len(log), len(want)-retired)
	}
	since = log[len(want)-retired:]
	equal(t, "log", want[retired:], log[:len(want)-retired])
	checkChain(t, want[retired-1].Position, log)
	if last := log[len(log)-1].Position; last != h.Position {
		t.Errorf("the log ends at %v, the head is %v", last, h.Position)
	}
	chain, err := s.ChainAt(t.Context(), retired)
	if err != nil || chain != want[retired-1].Chain {
		t.Errorf("chain at the floor: %s, %v; want %s", chain, err, want[retired-1].Chain)
	}
	var kept []store.Entry // in full, dataset versions below the floor included
	for _, e := range append(want, since...) {
		if e.Kind != bucket.KindBucket || e.Revision > retired {
			kept = append(kept, e)
		}
	}
	_, got := snapshot(t, s, store.SnapshotQuery{})
	equal(t, "snapshot", snapshotOf(kept, store.SnapshotQuery{}), got)
	runs, err := s.Coverage(t.Context(), store.Filter{}, 0)
	if err != nil {
		t.Error(err)
	}
	equal(t, "coverage", coverageOf(kept, store.Filter{}, 0), runs)
	wantRecords(t, s, "gap", [][2]string{{"http_5m 9", "12345678901234567890"}})
	wantRecords(t, s, "scope", [][2]string{{"é", `["one",null]`}})
	return since
}

// GoOn appends n buckets of a day each to a store with history, as the leader
// that its history knows, and returns the head. The permits of the history still
// count.
func GoOn(t testing.TB, s store.Store, n int) bucket.Position {
	t.Helper()
	p := historyPermits
	p.Want = 1
	g, err := s.Reserve(t.Context(), p)
	if err != nil {
		t.Error(err)
	}
	equal(t, "permits", store.Grant{RetryAt: p.UseBy.Add(p.Span)}, g)
	l := lead(t, s, historian)
	for range n {
		// The revision makes each window another.
		l.append(five(7, int(l.at.Revision)*288))
	}
	return l.at
}
