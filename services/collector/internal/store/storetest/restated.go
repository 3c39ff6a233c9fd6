package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// restatement is the n-th correction of a bucket.
func restatement(of store.NewEntry, n int) store.NewEntry {
	of.Kind, of.Payload = bucket.KindRestatement, fmt.Appendf(nil, "%s, corrected %d times", of.Payload, n)
	of.Rows++
	return of
}

// auditEvent is the n-th event.
func auditEvent(n int) store.NewEntry {
	return store.NewEntry{Kind: bucket.KindAudit, Payload: fmt.Appendf(nil, "event %d", n)}
}

// restatedOf is the list with restatements, as the log says that it must be.
func restatedOf(log []store.Entry, q store.ListQuery) []store.Entry {
	out := listOf(log, q)
	if !q.Restated {
		return out
	}
	for i, b := range out {
		for _, e := range log {
			if e.Kind == bucket.KindRestatement && e.Key == b.Key && e.Revision > b.Revision {
				out[i] = e
			}
		}
	}
	return out
}

// testRestated: a list as restated has the newest restatement in the place of each
// bucket that has one, over pages, months, filters and tokens; nothing else has any.
func testRestated(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	var all []store.Entry
	var buckets []store.NewEntry
	for n := range 700 { // over pages, and over the end of a month
		for z := range 2 {
			buckets = append(buckets, five(z+1, n))
		}
	}
	buckets = append(buckets, entry("uniques_1h", zone(1), time.Hour, 2), entry("uniques_1h", account(1), time.Hour, 2))
	all = append(all, l.append(buckets...)...)
	for _, i := range []int{0, 1, 3, 700, 1399, len(buckets) - 1} {
		all = append(all, l.append(restatement(buckets[i], 1))...)
	}
	all = append(all, l.append(restatement(buckets[3], 2), auditEvent(1), restatement(buckets[3], 3), restatement(buckets[700], 2))...)

	whole := bucket.Window{Start: origin, End: origin.Add(60 * 24 * time.Hour)}
	for what, q := range map[string]store.ListQuery{
		"all":            {Window: whole},
		"a scope":        {Window: whole, Filter: store.Filter{Scopes: []bucket.Scope{zone(2)}}},
		"a dataset":      {Window: whole, Filter: store.Filter{Datasets: []string{"uniques_1h"}}},
		"one window":     {Window: bucket.Window{Start: buckets[3].Key.Start, End: buckets[3].End}},
		"after restated": {Window: whole, After: &buckets[700].Key},
		"nothing":        {Window: bucket.Window{Start: 0, End: origin}},
	} {
		equal(t, "list of "+what, listOf(all, q), list(t, s, q))
		q.Restated = true
		equal(t, "list as restated of "+what, restatedOf(all, q), list(t, s, q))
	}
	_, snap := snapshot(t, s, store.SnapshotQuery{Since: origin})
	if slices.ContainsFunc(snap, func(e store.Entry) bool { return e.Kind != bucket.KindBucket }) {
		t.Error("a snapshot has restatements; it must have the first values")
	}
	equal(t, "log", all, wholeLog(t, s))
}

// testRestatedDamaged: an intact restatement stands for a bucket that cannot be read; one
// that cannot be read stands for its bucket all the same, since the older value is known to
// be wrong.
func testRestatedDamaged(t *testing.T, d Driver) {
	if d.Damage == nil {
		t.Skip("asked of the same driver elsewhere")
	}
	opener, damage := d.Damage(t)
	s := reopen(t, opener)
	l := lead(t, s, "a")
	all := l.append(five(1, 0), five(1, 1), five(1, 2))
	all = append(all, l.append(restatement(five(1, 0), 1), restatement(five(1, 1), 1), restatement(five(1, 2), 1), restatement(five(1, 2), 2))...)
	damage("payload", 1)
	damage("payload", 5)
	damage("payload", 7)
	got := list(t, s, store.ListQuery{Window: bucket.Window{Start: origin, End: origin.Add(time.Hour)}, Restated: true})
	if len(got) != 3 {
		t.Fatalf("%d entries, want 3", len(got))
	}
	equal(t, "the restatement of a damaged bucket", all[3], got[0])
	for i, want := range map[int]store.Entry{1: all[4], 2: all[6]} {
		if e := got[i]; e.Damage == "" || len(e.Payload) != 0 || e.Position != want.Position || e.Key != want.Key || e.Kind != bucket.KindRestatement {
			t.Errorf("a damaged restatement is listed as %+v", e)
		}
	}
}

// testAuditEvents: they come newest first, in pages, and survive retention.
func testAuditEvents(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	events := func(before bucket.Revision, limit int) []store.Entry {
		t.Helper()
		got, err := s.AuditEvents(t.Context(), before, limit)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := events(0, 10); len(got) != 0 {
		t.Errorf("a new store has events: %v", got)
	}
	all := l.append(five(1, 0), auditEvent(1))
	all = append(all, l.append(restatement(five(1, 0), 1), auditEvent(2))...)
	all = append(all, l.append(auditEvent(3))...)
	first, second, third := all[1], all[3], all[4]
	for _, retired := range []bool{false, true} {
		if retired {
			if _, err := s.Retire(t.Context(), l.term, origin.Add(100*24*time.Hour), commitTime(1<<20)); err != nil {
				t.Fatal(err)
			}
		}
		equal(t, "all events", []store.Entry{third, second, first}, events(0, 10))
		equal(t, "the newest two", []store.Entry{third, second}, events(0, 2))
		equal(t, "those before the second", []store.Entry{first}, events(second.Revision, 10))
		equal(t, "those before a revision that is none", []store.Entry{third, second, first}, events(1<<63, 10))
		equal(t, "those before the first", []store.Entry(nil), events(first.Revision, 10))
	}
}

// testRetireRestatements: a restatement is dropped with its bucket, with a tombstone while
// it is young, and not before.
func testRetireRestatements(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	const next = 3 * 288 // of the next month
	all := l.append(five(1, 0), five(2, 0), five(1, next))
	all = append(all, l.append(restatement(five(1, 0), 1), restatement(five(1, next), 1))...)
	all = append(all, l.append(restatement(five(2, 0), 1), auditEvent(1))...)
	q := store.ListQuery{Window: bucket.Window{Start: 0, End: origin.Add(100 * 24 * time.Hour)}, Restated: true}
	retire := func(forget time.Time, floor bucket.Revision) {
		t.Helper()
		if _, err := s.Retire(t.Context(), l.term, origin.Add(2*24*time.Hour), forget); err != nil {
			t.Fatal(err)
		}
		if h := mustHead(t, s); h.Floor != floor || h.Position != l.at {
			t.Errorf("floor %d, head %v; want %d, %v", h.Floor, h.Position, floor, l.at)
		}
		equal(t, "log", all[floor:], wholeLog(t, s))
		equal(t, "list as restated", []store.Entry{all[4]}, list(t, s, q))
	}
	for _, i := range []int{0, 1, 3, 5} {
		all[i] = tombstone(all[i])
	}
	retire(all[2].CommittedAt, 2)
	retire(all[3].CommittedAt, 4)
	retire(commitTime(1<<20), 6)
	retire(commitTime(1<<20), 6)
	if got, err := s.ChainAt(t.Context(), 6); err != nil || got != all[5].Chain {
		t.Errorf("chain at the floor: %s, %v; want %s", got, err, all[5].Chain)
	}
}
