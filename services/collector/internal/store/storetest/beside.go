package storetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

func testRecords(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	put := func(records ...store.Record) {
		t.Helper()
		b := l.batch()
		b.Records = records
		if _, err := s.Append(t.Context(), l.term, l.at, b); err != nil {
			t.Fatal(err)
		}
	}
	put(
		store.Record{Kind: "gap", Key: "b", Value: []byte(`{"n": 1}`)},
		store.Record{Kind: "gap", Key: "a é", Value: []byte(`[1, "two", null]`)},
		store.Record{Kind: "gap", Key: "C", Value: []byte(`"it's"`)},
		// A text about a NUL is no NUL.
		store.Record{Kind: "text", Key: "a", Value: []byte(`"\\u0000 is no \\\\u0000"`)},
		store.Record{Kind: "scope", Key: "b", Value: []byte(`null`)},
	)
	wantRecords(t, s, "gap", [][2]string{{"C", `"it's"`}, {"a é", `[1,"two",null]`}, {"b", `{"n":1}`}})
	wantRecords(t, s, "scope", [][2]string{{"b", `null`}})
	wantRecords(t, s, "text", [][2]string{{"a", `"\\u0000 is no \\\\u0000"`}})
	wantRecords(t, s, "unknown", nil)

	put(
		store.Record{Kind: "gap", Key: "b", Value: []byte(`{"n": 2}`)},
		store.Record{Kind: "gap", Key: "C"},
		store.Record{Kind: "gap", Key: "not there"},
		store.Record{Kind: "gap", Key: "d", Value: []byte(`1`)},
		// The same ones again in one batch: the last word counts.
		store.Record{Kind: "gap", Key: "d", Value: []byte(`12345678901234567890`)},
		store.Record{Kind: "gap", Key: "e", Value: []byte(`1`)},
		store.Record{Kind: "gap", Key: "e"},
		store.Record{Kind: "gap", Key: "a é"},
		store.Record{Kind: "gap", Key: "a é", Value: []byte(`{}`)},
	)
	wantRecords(t, s, "gap", [][2]string{{"a é", `{}`}, {"b", `{"n":2}`}, {"d", `12345678901234567890`}})
	wantRecords(t, s, "scope", [][2]string{{"b", `null`}})

	// Together with entries, as one.
	b := l.batch(five(1, 0))
	b.Records = []store.Record{{Kind: "gap", Key: "b"}}
	head, err := s.Append(t.Context(), l.term, l.at, b)
	if err != nil || head.Revision != 1 {
		t.Fatalf("append returned %v, %v", head, err)
	}
	wantRecords(t, s, "gap", [][2]string{{"a é", `{}`}, {"d", `12345678901234567890`}})
}

func wantRecords(t testing.TB, s store.Store, kind string, want [][2]string) {
	t.Helper()
	records, err := s.Records(t.Context(), kind)
	if err != nil {
		t.Fatal(err)
	}
	var got [][2]string
	for _, r := range records {
		if r.Kind != kind {
			t.Errorf("record %s is of kind %q, want %q", r.Key, r.Kind, kind)
		}
		got = append(got, [2]string{r.Key, compact(t, r.Value)})
	}
	equal(t, "records of kind "+kind, want, got)
}

// compact is JSON without the differences that a database may make.
func compact(t testing.TB, value []byte) string {
	t.Helper()
	var v any
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("record value %q: %v", value, err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func testPermits(t *testing.T, d Driver) {
	s := open(t, d)
	now := commitTime(0)
	reserve := func(user string, want, limit int, now time.Time) store.Grant {
		t.Helper()
		g, err := s.Reserve(t.Context(), store.Permits{
			User: user, Want: want, Limit: limit, Now: now,
			UseBy: now.Add(10 * time.Second), Span: 5 * time.Minute, Holder: "exam", OwnTime: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	lapse := 10*time.Second + 5*time.Minute // after its grant a block counts no more
	second := func(n int) time.Time { return now.Add(time.Duration(n) * time.Second) }

	equal(t, "first block", store.Grant{N: 6}, reserve("u", 6, 10, now))
	equal(t, "what is left of the limit", store.Grant{N: 4}, reserve("u", 6, 10, second(1)))
	equal(t, "none left", store.Grant{RetryAt: now.Add(lapse)}, reserve("u", 1, 10, second(2)))
	equal(t, "another user", store.Grant{N: 3}, reserve("v", 3, 10, second(2)))
	equal(t, "a clock that is behind", store.Grant{RetryAt: now.Add(lapse)}, reserve("u", 1, 10, now.Add(-time.Hour)))
	equal(t, "a lowered limit", store.Grant{RetryAt: second(1).Add(lapse)}, reserve("u", 1, 4, second(2)))
	equal(t, "just before the first block lapses", store.Grant{RetryAt: now.Add(lapse)}, reserve("u", 1, 10, now.Add(lapse-1)))
	equal(t, "when it lapses", store.Grant{N: 6}, reserve("u", 9, 10, now.Add(lapse)))
	equal(t, "long after", store.Grant{N: 10}, reserve("u", 99, 10, now.Add(24*time.Hour)))

	// By the store's clock nobody's clock makes permits of others lapse.
	for i, off := range []time.Duration{time.Hour, -time.Hour, 5 * time.Hour, 0} {
		now := time.Now().Add(off)
		g, err := s.Reserve(t.Context(), store.Permits{User: "w", Want: 5, Limit: 5, Now: now, UseBy: now.Add(10 * time.Second), Span: 5 * time.Minute})
		switch wait := g.RetryAt.Sub(now); {
		case err != nil:
			t.Fatal(err)
		case i == 0 && g.N != 5:
			t.Errorf("the first was granted %d permits of 5", g.N)
		case i > 0 && (g.N != 0 || wait <= 0 || wait > lapse):
			t.Errorf("a clock that is off by %s was granted %d permits, and told to wait %s", off, g.N, wait)
		}
	}

	// What is settled counts from its use, also where nothing can be granted.
	settle := func(n int, block string, spent ...store.Spent) store.Grant {
		t.Helper()
		g, err := s.Reserve(t.Context(), store.Permits{
			User: "s", Want: 4, Limit: 4, Now: second(n), UseBy: second(n + 10), Span: 5 * time.Minute, Holder: "exam", OwnTime: true,
			Block: block, Spent: spent,
		})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	equal(t, "a block", store.Grant{N: 4}, settle(0, "a"))
	equal(t, "all are used", store.Grant{RetryAt: second(301)}, settle(3, "b", store.Spent{Block: "a", Uses: []store.Use{{N: 1, Ago: 2 * time.Second}, {N: 3, Ago: time.Second}}}))
	equal(t, "that is kept", store.Grant{RetryAt: second(301)}, settle(4, "c"))
	equal(t, "the first comes back", store.Grant{N: 1}, settle(301, "d"))
	equal(t, "and is not used", store.Grant{N: 4}, settle(302, "e", store.Spent{Block: "d"}, store.Spent{Block: "never heard of"}))

	for what, p := range map[string]store.Permits{
		"no block":    {User: "u", Want: 1, Limit: 1, Now: now, UseBy: now, Span: 1, Spent: []store.Spent{{}}},
		"none used":   {User: "u", Want: 1, Limit: 1, Now: now, UseBy: now, Span: 1, Spent: []store.Spent{{Block: "b", Uses: []store.Use{{}}}}},
		"used later":  {User: "u", Want: 1, Limit: 1, Now: now, UseBy: now, Span: 1, Spent: []store.Spent{{Block: "b", Uses: []store.Use{{N: 1, Ago: -1}}}}},
		"no user":     {Want: 1, Limit: 1, Now: now, UseBy: now, Span: 1},
		"none wanted": {User: "u", Limit: 1, Now: now, UseBy: now, Span: 1},
		"no limit":    {User: "u", Want: 1, Now: now, UseBy: now, Span: 1},
		"no span":     {User: "u", Want: 1, Limit: 1, Now: now, UseBy: now},
		"no now":      {User: "u", Want: 1, Limit: 1, UseBy: now, Span: 1},
		"use before":  {User: "u", Want: 1, Limit: 1, Now: now, UseBy: now.Add(-1), Span: 1},
	} {
		if g, err := s.Reserve(t.Context(), p); err == nil {
			t.Errorf("%s: granted %+v", what, g)
		}
	}
}

// testPermitRace: many processes reserve at once, over a time in which permits
// lapse and are granted anew. In no span are more used than the limit, however
// late each is used (G7).
func testPermitRace(t *testing.T, d Driver) {
	opener := d.Create(t)
	stores := []store.Store{reopen(t, opener)}
	if d.Shared {
		stores = append(stores, reopen(t, opener))
	}
	const limit, workers, rounds = 20, 6, 12
	const span, keep = time.Minute, 10 * time.Second
	type block struct {
		n           int
		from, until time.Time // the permits may be used in between
	}
	var mu sync.Mutex
	var blocks []block
	for r := range rounds {
		now := commitTime(0).Add(time.Duration(r) * 17 * time.Second)
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				g, err := stores[w%len(stores)].Reserve(t.Context(), store.Permits{User: "u", Want: 3 + w%4, Limit: limit, Now: now, UseBy: now.Add(keep), Span: span, Holder: fmt.Sprint(w), OwnTime: true})
				if err != nil {
					t.Errorf("reserve: %v", err)
					return
				}
				if g.N == 0 && !g.RetryAt.After(now) {
					t.Errorf("nothing granted at %s, retry at %s", now, g.RetryAt)
				}
				mu.Lock()
				defer mu.Unlock()
				blocks = append(blocks, block{g.N, now, now.Add(keep)})
			})
		}
		wg.Wait()
	}
	total := 0
	for _, b := range blocks {
		total += b.n
		// The worst span begins when a block can last be used.
		used := 0
		for _, o := range blocks {
			if !o.until.Before(b.until) && o.from.Before(b.until.Add(span)) {
				used += o.n
			}
		}
		if used > limit {
			t.Errorf("in the span from %s up to %d requests can be sent, the limit is %d", b.until, used, limit)
		}
	}
	// 12 rounds of 17 s hold three spans of 70 s, each worth the whole limit.
	if total < 3*limit {
		t.Errorf("%d permits were granted in all, want at least %d", total, 3*limit)
	}
}

func testRetire(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	day := func(n int) bucket.Time { return origin.Add(time.Duration(n) * 24 * time.Hour) } // day 2 is the first of a month
	all := l.append(version("http_5m", 1), five(1, 0), five(1, 1))
	// Enough for more than one batch of a driver that deletes in batches.
	var many []store.NewEntry
	for n := range 550 {
		many = append(many, five(2, n))
	}
	all = append(all, l.append(many...)...)
	all = append(all, l.append(five(1, 3*288), entry("uniques_1d", zone(1), 24*time.Hour, 1), entry("uniques_1d", zone(1), 24*time.Hour, 2))...)
	// An old window that came late has a high revision.
	all = append(all, l.append(five(3, 7), version("http_5m", 2), five(3, 3*288))...)

	gone := make(map[bucket.Revision]bool)
	var floor bucket.Revision
	check := func(before bucket.Time) {
		t.Helper()
		border, err := s.Retire(t.Context(), l.term, before, commitTime(1<<20))
		if err != nil {
			t.Fatalf("retire before %s: %v", before, err)
		}
		if border > before {
			t.Errorf("retired up to %s when asked for %s", border, before)
		}
		var left []store.Entry
		for _, e := range all {
			if e.Kind == bucket.KindBucket && e.End <= border && !gone[e.Revision] {
				gone[e.Revision] = true
				floor = max(floor, e.Revision)
			}
			if !gone[e.Revision] {
				left = append(left, e)
			}
		}
		h := mustHead(t, s)
		if h.Floor != floor || h.Position != l.at {
			t.Errorf("retired up to %s: floor %d, head %v; want %d, %v", border, h.Floor, h.Position, floor, l.at)
		}
		_, got := snapshot(t, s, store.SnapshotQuery{})
		equal(t, "snapshot", snapshotOf(left, store.SnapshotQuery{}), got)
		equal(t, "log after the floor", all[floor:], wholeLog(t, s))
		runs, err := s.Coverage(t.Context(), store.Filter{}, 0)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "coverage", coverageOf(left, store.Filter{}, 0), runs)
		versions, err := s.Datasets(t.Context())
		if err != nil || len(versions) != 2 {
			t.Errorf("%d dataset versions are left of 2, %v", len(versions), err)
		}
		if floor == 0 {
			return
		}
		_, err = s.ReadLog(t.Context(), floor-1, 1)
		wantError(t, "read the log below the floor", err, store.ErrCompacted)
		_, err = s.ReadLog(t.Context(), 0, 1000)
		wantError(t, "read the log from the start", err, store.ErrCompacted)
		_, err = s.ChainAt(t.Context(), floor-1)
		wantError(t, "chain below the floor", err, store.ErrCompacted)
		// Whoever has everything up to the floor has missed nothing.
		chain, err := s.ChainAt(t.Context(), floor)
		if err != nil || chain != all[floor-1].Chain {
			t.Errorf("chain at the floor is %s, %v; want %s", chain, err, all[floor-1].Chain)
		}
	}
	check(day(-100))
	check(day(2))
	if h := mustHead(t, s); h.Floor == 0 {
		t.Error("nothing was retired although a whole month is over")
	}
	check(day(2)) // again
	check(day(1)) // an earlier border takes nothing back
	check(day(2) + 1)

	// A retired window may come again: nothing remembers it but the horizon.
	all = append(all, l.append(five(1, 0))...)
	check(day(40)) // everything
	all = append(all, l.append(five(1, 40*288))...)
	if h := mustHead(t, s); h.Revision != bucket.Revision(len(all)) {
		t.Errorf("head is %d after everything was retired and one more came, want %d", h.Revision, len(all))
	}
}

// testRetireLately: an old window that came late and is dropped again takes nothing
// from who follows the log. Its place is kept until it is old enough to be
// forgotten.
func testRetireLately(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	day := func(n int) bucket.Time { return origin.Add(time.Duration(n) * 24 * time.Hour) }
	batches := [][]store.NewEntry{
		{version("http_5m", 1), five(1, 0), five(1, 3*288)}, // the second is of the next month
		{five(2, 3*288), five(2, 1)},                        // late
		{five(3, 3*288), five(3, 2)},                        // later
	}
	var all []store.Entry
	var committed []time.Time
	for _, b := range batches {
		all = append(all, l.append(b...)...)
		committed = append(committed, all[len(all)-1].CommittedAt)
	}
	drop := func(rev bucket.Revision) { all[rev-1] = tombstone(all[rev-1]) }
	retire := func(forget time.Time, floor bucket.Revision) {
		t.Helper()
		if _, err := s.Retire(t.Context(), l.term, day(2), forget); err != nil {
			t.Fatal(err)
		}
		if h := mustHead(t, s); h.Floor != floor || h.Position != l.at {
			t.Errorf("forgetting what was committed by %s: floor %d, head %v; want %d, %v", forget, h.Floor, h.Position, floor, l.at)
		}
		equal(t, "log after the floor", all[floor:], wholeLog(t, s))
		for _, e := range all[max(floor, 1)-1:] {
			if chain, err := s.ChainAt(t.Context(), e.Revision); err != nil || chain != e.Chain {
				t.Errorf("chain at %d is %s, %v; want %s", e.Revision, chain, err, e.Chain)
			}
		}
		runs, err := s.Coverage(t.Context(), store.Filter{}, 0)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "coverage", coverageOf(all, store.Filter{}, 0), runs)
	}
	for _, rev := range []bucket.Revision{2, 5, 7} {
		drop(rev)
	}
	retire(committed[0], 2)
	retire(committed[0], 2) // again
	retire(committed[1], 5)
	retire(committed[0], 5)                    // nothing is taken back
	all = append(all, l.append(five(3, 2))...) // it may come again
	drop(8)
	retire(committed[1], 5)
	retire(commitTime(1<<20), 8)

	// More windows of one time than a driver deletes at once: each keeps its place.
	var many []store.NewEntry
	for n := range 1100 {
		many = append(many, five(10+n, 4))
	}
	late := l.append(many...)
	all = append(all, late...)
	for _, e := range late {
		drop(e.Revision)
	}
	retire(committed[0], 8)
}

func testRetireFenced(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	l.append(five(1, 0))
	if err := s.Release(t.Context(), l.term); err != nil {
		t.Fatal(err)
	}
	for _, before := range []bucket.Time{0, origin.Add(100 * 24 * time.Hour)} {
		_, err := s.Retire(t.Context(), l.term, before, commitTime(1<<20))
		wantError(t, "retire by a deposed leader", err, store.ErrDeposed)
	}
	if got := wholeLog(t, s); len(got) != 1 {
		t.Errorf("log has %d entries after a refused Retire", len(got))
	}
}

// testRetireDuringSnapshot: retention may have to wait for a snapshot, but takes
// nothing away from it.
func testRetireDuringSnapshot(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	all := l.append(version("http_5m", 1))
	for n := range 6 {
		all = append(all, l.append(five(1, n), five(1, 288*n+40))...)
	}
	before := origin.Add(30 * 24 * time.Hour)
	var got []store.Entry
	_, err := s.Snapshot(t.Context(), store.SnapshotQuery{}, func(e store.Entry) error {
		if len(got) == 0 {
			if _, err := s.Retire(t.Context(), l.term, before, commitTime(1<<20)); err != nil {
				wantError(t, "retire during a snapshot", err, store.ErrUnavailable)
			}
			l.append(five(2, 0)) // whatever became of it, appends go on
		}
		got = append(got, kept(e))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "snapshot", snapshotOf(all, store.SnapshotQuery{}), got)
	if _, err := s.Retire(t.Context(), l.term, before, commitTime(1<<20)); err != nil {
		t.Fatalf("retire after the snapshot: %v", err)
	}
	for _, e := range list(t, s, store.ListQuery{Window: bucket.Window{Start: origin, End: before}}) {
		if e.End <= bucket.TimeOf(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)) {
			t.Errorf("%s is still there", e.Key)
		}
	}
}

// testReopen: everything is there again.
func testReopen(t *testing.T, d Driver) {
	opener := d.Create(t)
	s, err := opener(Settings)
	if err != nil {
		t.Fatal(err)
	}
	l := lead(t, s, "a")
	if err := s.Renew(t.Context(), l.term, long, commitTime(3)); err != nil {
		t.Fatal(err)
	}
	want := l.append(version("http_5m", 1), five(1, 0), five(1, 1))
	b := l.batch()
	b.Records = []store.Record{{Kind: "gap", Key: "1", Value: []byte(`{}`)}}
	if _, err := s.Append(t.Context(), l.term, l.at, b); err != nil {
		t.Fatal(err)
	}
	p := store.Permits{User: "u", Want: 5, Limit: 5, Now: commitTime(0), UseBy: commitTime(1), Span: time.Minute, OwnTime: true}
	if _, err := s.Reserve(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	before := mustHead(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = reopen(t, opener)
	after := mustHead(t, s)
	before.Now, after.Now = time.Time{}, time.Time{}
	equal(t, "head", before, after)
	equal(t, "log", want, wholeLog(t, s))
	wantRecords(t, s, "gap", [][2]string{{"1", `{}`}})
	g, err := s.Reserve(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "permits after a restart", store.Grant{RetryAt: p.UseBy.Add(p.Span)}, g)
	_, err = s.Acquire(t.Context(), "b", long)
	wantError(t, "acquire what the process before held", err, store.ErrHeld)
	// The term outlives the process that took it.
	l.s = s
	l.append(five(1, 2))
}
