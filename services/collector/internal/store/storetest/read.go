package storetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

func testReadLog(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	var all []store.Entry
	for i := range 10 {
		all = append(all, l.append(five(1, i), version("http_5m", i), five(2, i))...)
	}
	for _, q := range []struct {
		after bucket.Revision
		limit int
		want  []store.Entry
	}{
		{0, 1, all[:1]},
		{0, 7, all[:7]},
		{7, 7, all[7:14]},
		{28, 7, all[28:]},
		{29, 1, all[29:]},
		{30, 7, nil},
		{31, 7, nil},
		{math.MaxUint64, 7, nil},
		{0, math.MaxInt32, all},
	} {
		got, err := s.ReadLog(t.Context(), q.after, q.limit)
		if err != nil {
			t.Errorf("after %d, limit %d: %v", q.after, q.limit, err)
		}
		equal(t, fmt.Sprintf("after %d, limit %d", q.after, q.limit), q.want, got)
	}
	for _, limit := range []int{0, -1} {
		if _, err := s.ReadLog(t.Context(), 0, limit); err == nil {
			t.Errorf("limit %d was taken", limit)
		}
	}
}

func testChainAt(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	all := l.append(version("http_5m", 1), five(1, 0), five(1, 1))
	for _, e := range all {
		chain, err := s.ChainAt(t.Context(), e.Revision)
		if err != nil || chain != e.Chain {
			t.Errorf("chain at %d is %s, %v; want %s", e.Revision, chain, err, e.Chain)
		}
	}
	if chain, err := s.ChainAt(t.Context(), 0); chain != (bucket.Chain{}) || err != nil {
		t.Errorf("chain at 0 is %s, %v", chain, err)
	}
	for _, rev := range []bucket.Revision{4, math.MaxInt64, math.MaxUint64} {
		_, err := s.ChainAt(t.Context(), rev)
		wantError(t, fmt.Sprintf("chain at %d", rev), err, store.ErrBeyondHead)
	}
}

func testDatasets(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	a := l.append(version("uniques_1d", 1), five(1, 0), version("http_5m", 1))
	b := l.append(five(1, 1), version("uniques_1d", 2))
	got, err := s.Datasets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "dataset versions", []store.Entry{a[0], a[2], b[1]}, got)
}

func testSnapshot(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	if err := s.Renew(t.Context(), l.term, long, commitTime(50)); err != nil {
		t.Fatal(err)
	}
	var all []store.Entry
	all = append(all, l.append(version("uniques_1h", 1), version("http_5m", 1))...)
	// Appended out of order, as repairs are; zone 2 has a hole.
	for _, n := range []int{5, 4, 0, 2, 3, 1} {
		all = append(all, l.append(five(2, n), five(1, n))...)
	}
	for n := range 3 {
		all = append(all, l.append(entry("uniques_1h", zone(1), time.Hour, n), entry("uniques_1h", account(1), time.Hour, n))...)
	}
	all = append(all, l.append(version("http_5m", 2))...)
	// Committed when they were older than the newest windows of their size, at the
	// border, and without rows.
	all = append(all, l.append(five(1, -20), entry("uniques_1h", zone(1), time.Hour, -4))...)
	all = append(all, l.append(five(2, -7), entry("uniques_1h", account(1), time.Hour, -2))...)
	silent := five(1, -30)
	silent.Rows = 0
	all = append(all, l.append(five(1, -6), silent)...)
	// Out of order by time, and older by then than anybody wants.
	all = append(all, l.append(five(2, -21), five(2, -20), five(1, -21), five(1, -60))...)

	end := func(n int) bucket.Time { return origin.Add(time.Duration(n) * 5 * time.Minute) }
	http, both := []string{"http_5m"}, []string{"uniques_1h", "http_5m", "unknown", "http_5m"}
	for what, q := range map[string]store.SnapshotQuery{
		"all":                   {},
		"since":                 {Since: end(4)},
		"since within a window": {Since: end(4) + 1},
		"since the far future":  {Since: math.MaxInt64 / 2},
		"windows":               {MaxWindows: 2},
		"more windows than are": {MaxWindows: 100},
		"since and windows":     {Since: end(3), MaxWindows: 2},
		"dataset":               {Filter: store.Filter{Datasets: http}},
		"datasets":              {Filter: store.Filter{Datasets: both}},
		"scope":                 {Filter: store.Filter{Scopes: []bucket.Scope{zone(1)}}},
		"scope kinds":           {Filter: store.Filter{Scopes: []bucket.Scope{account(1), zone(2), zone(77)}}},
		"everything at once":    {Filter: store.Filter{Datasets: http, Scopes: []bucket.Scope{zone(2)}}, Since: end(1), MaxWindows: 3},
		"nothing":               {Filter: store.Filter{Datasets: []string{"unknown"}}},
	} {
		head, got := snapshot(t, s, q)
		equal(t, "snapshot of "+what, snapshotOf(all, q), got)
		even := func(r bucket.Revision) bool { return r%2 == 0 }
		equal(t, "late commits of "+what, lateOf(all, q, even), late(t, s, q, even))
		if head.Position != l.at || !head.ProgressAt.Equal(commitTime(50)) {
			t.Errorf("snapshot of %s: head %v with progress %s", what, head.Position, head.ProgressAt)
		}
	}
}

// snapshotOf is what the documentation of Snapshot says, word for word.
func snapshotOf(log []store.Entry, q store.SnapshotQuery) []store.Entry {
	var versions, buckets []store.Entry
	starts := make(map[string][]bucket.Time)
	for _, e := range log {
		switch {
		case e.Kind == bucket.KindDatasetVersion && (len(q.Datasets) == 0 || slices.Contains(q.Datasets, e.Key.Dataset)):
			versions = append(versions, e)
		case e.Kind == bucket.KindBucket && matches(q.Filter, e.Key) && e.End > q.Since:
			buckets = append(buckets, e)
			starts[e.Key.Dataset] = append(starts[e.Key.Dataset], e.Key.Start)
		}
	}
	if q.MaxWindows > 0 {
		for id, of := range starts {
			slices.Sort(of)
			of = slices.Compact(of)
			starts[id] = of[max(0, len(of)-q.MaxWindows):]
		}
		buckets = slices.DeleteFunc(buckets, func(e store.Entry) bool { return !slices.Contains(starts[e.Key.Dataset], e.Key.Start) })
	}
	return append(versions, inOrder(buckets)...)
}

func inOrder(buckets []store.Entry) []store.Entry {
	slices.SortFunc(buckets, func(a, b store.Entry) int { return a.Key.Compare(b.Key) })
	return buckets
}

func matches(f store.Filter, k bucket.Key) bool {
	return (len(f.Datasets) == 0 || slices.Contains(f.Datasets, k.Dataset)) &&
		(len(f.Scopes) == 0 || slices.Contains(f.Scopes, k.Scope))
}

// testSnapshotConsistent: a snapshot shows the log up to one revision and
// nothing behind it, while appends go on; and they do go on.
func testSnapshotConsistent(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	var all []store.Entry
	for n := range 20 {
		all = append(all, l.append(five(1, n), five(2, n))...)
	}
	var got []store.Entry
	head, err := s.Snapshot(t.Context(), store.SnapshotQuery{}, func(e store.Entry) error {
		// Buckets before, among and behind those that are still to come.
		if n := len(got); n < 10 {
			all = append(all, l.append(five(0, n), five(3, n+5), five(1, 100+n), version("a_new_one", n))...)
		}
		got = append(got, kept(e))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if head.Revision != 40 {
		t.Errorf("snapshot is at revision %d, want 40", head.Revision)
	}
	equal(t, "snapshot", snapshotOf(all[:40], store.SnapshotQuery{}), got)
	_, got = snapshot(t, s, store.SnapshotQuery{})
	equal(t, "snapshot afterwards", snapshotOf(all, store.SnapshotQuery{}), got)
}

func testList(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	var all []store.Entry
	all = append(all, l.append(version("http_5m", 1))...)
	// More than a page of any driver, over the end of a month, several scopes
	// with the same start.
	for n := range 150 {
		all = append(all, l.append(five(3, 4*n), five(1, 4*n), entry("http_5m", account(2), 5*time.Minute, 4*n), entry("a_1h", zone(1), time.Hour, n))...)
	}
	whole := bucket.Window{Start: origin, End: origin.Add(60 * 24 * time.Hour)}
	hours := func(a, b int) bucket.Window {
		return bucket.Window{Start: origin.Add(time.Duration(a) * time.Hour), End: origin.Add(time.Duration(b) * time.Hour)}
	}
	for what, q := range map[string]store.ListQuery{
		"all":                       {Window: whole},
		"hours":                     {Window: hours(3, 60)},
		"part of an hour":           {Window: bucket.Window{Start: hours(3, 4).Start + 1, End: hours(3, 7).End - 1}},
		"an empty window":           {Window: hours(4, 4)},
		"an inverted one":           {Window: hours(5, 4)},
		"dataset and scope":         {Window: whole, Filter: store.Filter{Datasets: []string{"http_5m"}, Scopes: []bucket.Scope{zone(3), account(2)}}},
		"after a key":               {Window: hours(3, 60), After: &all[41].Key},
		"after no key of the store": {Window: hours(3, 60), After: &bucket.Key{Dataset: "b", Scope: zone(1), Start: origin}},
		"after an early start":      {Window: hours(3, 60), After: &bucket.Key{Dataset: "http_5m", Scope: zone(1), Start: 0}},
		"after everything":          {Window: whole, After: &bucket.Key{Dataset: "z"}},
	} {
		equal(t, "list "+what, listOf(all, q), list(t, s, q))
	}

	// Broken off and continued at any place, it is the same list.
	q := store.ListQuery{Window: hours(0, 30)}
	want := listOf(all, q)
	var got []store.Entry
	stop := errors.New("enough")
	for i := 1; ; i += 13 {
		n := 0
		err := s.List(t.Context(), q, func(e store.Entry) error {
			got = append(got, kept(e))
			if n++; n == i {
				return stop
			}
			return nil
		})
		if err == nil {
			break
		}
		if !errors.Is(err, stop) {
			t.Fatal(err)
		}
		q.After = &got[len(got)-1].Key
	}
	equal(t, "list in parts", want, got)
}

func listOf(log []store.Entry, q store.ListQuery) []store.Entry {
	var out []store.Entry
	for _, e := range log {
		if e.Kind == bucket.KindBucket && matches(q.Filter, e.Key) && e.Key.Start >= q.Window.Start && e.End <= q.Window.End &&
			(q.After == nil || e.Key.Compare(*q.After) > 0) {
			out = append(out, e)
		}
	}
	return inOrder(out)
}

// testBuckets: of any number of keys those are found that are stored, each once and
// as it is, wherever they are; over pages and over the end of a month.
func testBuckets(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	var all []store.Entry
	const zones, windows = 40, 30
	for n := range windows {
		at := n
		if n >= windows/2 {
			at += 2*288 - windows // the month ends behind the last but fifteen
		}
		var batch []store.NewEntry
		for z := range zones {
			batch = append(batch, five(z+1, at))
		}
		batch = append(batch, entry("uniques_1h", zone(1), time.Hour, n), entry("uniques_1h", account(1), time.Hour, n))
		all = append(all, l.append(batch...)...)
	}
	keys := func(entries []store.Entry) (out []bucket.Key) {
		for _, e := range entries {
			out = append(out, e.Key)
		}
		return out
	}
	strangers := []bucket.Key{
		{Dataset: "http_5m", Scope: zone(zones + 1), Start: all[0].Key.Start},
		{Dataset: "unknown", Scope: zone(1), Start: all[0].Key.Start},
		{Dataset: "http_5m", Scope: account(1), Start: all[0].Key.Start},
		{Dataset: "http_5m", Scope: zone(1), Start: all[0].Key.Start + 1},
		{Dataset: "http_5m", Scope: zone(1), Start: origin.Add(5000 * time.Hour)},
		{Dataset: "http_5m", Start: all[0].Key.Start},
	}
	some := append(slices.Clone(all[3:9]), all[len(all)-5:]...)
	for what, q := range map[string]struct {
		keys []bucket.Key
		want []store.Entry
	}{
		"no":                {nil, nil},
		"one":               {keys(all[5:6]), all[5:6]},
		"some":              {keys(some), some},
		"all":               {keys(all), all},
		"stored and others": {append(keys(all), strangers...), all},
		"other":             {strangers, nil},
	} {
		var got []store.Entry
		if err := s.Buckets(t.Context(), q.keys, func(e store.Entry) error {
			got = append(got, kept(e))
			return nil
		}); err != nil {
			t.Errorf("%s keys: %v", what, err)
		}
		equal(t, what+" keys", inOrder(slices.Clone(q.want)), inOrder(got))
	}
}

// testEmitError: emit's error comes back as it is and leaves nothing open.
func testEmitError(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	for n := range 10 {
		l.append(five(1, n), five(2, n))
	}
	stop := errors.New("enough")
	for range 50 { // more often than there are connections
		n := 0
		emit := func(store.Entry) error {
			if n++; n == 3 {
				return stop
			}
			return nil
		}
		if _, err := s.Snapshot(t.Context(), store.SnapshotQuery{}, emit); err != stop {
			t.Fatalf("snapshot returned %v, want emit's error itself", err)
		}
		n = 0
		if err := s.List(t.Context(), store.ListQuery{Window: bucket.Window{Start: origin, End: origin.Add(24 * time.Hour)}}, emit); err != stop {
			t.Fatalf("list returned %v, want emit's error itself", err)
		}
		n = 0
		if err := s.Buckets(t.Context(), []bucket.Key{five(1, 0).Key, five(1, 1).Key, five(1, 2).Key, five(1, 3).Key}, emit); err != stop {
			t.Fatalf("a look-up returned %v, want emit's error itself", err)
		}
	}
	l.append(five(3, 0))
}

// testManyReaders: snapshots whose readers do not read must not keep the leader
// and the feed from the database.
func testManyReaders(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	l.append(five(1, 0), five(1, 1))
	const slow = 40
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan struct{}, slow)
	var wg sync.WaitGroup
	for range slow {
		wg.Go(func() {
			_, err := s.Snapshot(ctx, store.SnapshotQuery{}, func(store.Entry) error {
				started <- struct{}{}
				<-ctx.Done()
				return context.Cause(ctx)
			})
			wantError(t, "stuck snapshot", err, context.Canceled)
		})
	}
	<-started
	for n := range 5 {
		l.append(five(2, n))
		if err := s.Renew(t.Context(), l.term, long, commitTime(n)); err != nil {
			t.Error(err)
		}
		mustHead(t, s)
		if got := wholeLog(t, s); len(got) != 3+n {
			t.Errorf("log has %d entries, want %d", len(got), 3+n)
		}
	}
	cancel()
	wg.Wait()
}

func testCoverage(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	var all []store.Entry
	for _, n := range []int{7, 0, 1, 2, 5, 6, 9} {
		all = append(all, l.append(five(1, n), five(2, 2*n))...)
	}
	empty := five(1, -3)
	empty.Rows = 0
	requested := five(1, -6)
	requested.Origin = bucket.Backfill
	all = append(all, l.append(five(1, -1), five(1, -2), empty, five(2, -4), requested)...)
	// A bucket size was changed: the ids differ, the windows meet.
	for n := range 4 {
		all = append(all, l.append(entry("http_1h", zone(1), time.Hour, n+1), entry("http_1h", account(1), time.Hour, n))...)
	}
	// Over the end of the month, where partitions meet.
	all = append(all, l.append(five(3, 2*288-1), five(3, 2*288), entry("uniques_1d", zone(3), 24*time.Hour, 1), entry("uniques_1d", zone(3), 24*time.Hour, 2))...)

	for what, q := range map[string]struct {
		f     store.Filter
		since bucket.Time
	}{
		"all":                  {},
		"since":                {since: origin.Add(30 * time.Minute)},
		"since within windows": {since: origin.Add(31 * time.Minute)},
		"since the future":     {since: origin.Add(1000 * time.Hour)},
		"dataset":              {f: store.Filter{Datasets: []string{"http_1h"}}},
		"scope":                {f: store.Filter{Scopes: []bucket.Scope{zone(3), account(1)}}},
	} {
		got, err := s.Coverage(t.Context(), q.f, q.since)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "coverage of "+what, coverageOf(all, q.f, q.since), got)
		// Commits follow windows that end up to hours before, and after.
		for _, age := range []time.Duration{-time.Hour, -20 * time.Minute, 0, time.Nanosecond} {
			old := slices.DeleteFunc(slices.Clone(all), func(e store.Entry) bool {
				return e.Rows == 0 || e.Origin == bucket.Backfill || e.CommittedAt.Sub(e.End.Std()) < age
			})
			got, err := s.Unserved(t.Context(), q.f, q.since, age)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, fmt.Sprintf("what of %s was older than %s", what, age), coverageOf(old, q.f, q.since), got)
		}
	}
	got, _ := s.Coverage(t.Context(), store.Filter{Scopes: []bucket.Scope{zone(3)}}, 0)
	if len(got) != 2 {
		t.Errorf("coverage over the end of a month has %d ranges, want one for each dataset: %v", len(got), got)
	}
}

func coverageOf(log []store.Entry, f store.Filter, since bucket.Time) []store.Run {
	type of struct {
		dataset string
		scope   bucket.Scope
	}
	final := make(map[of]bucket.Spans)
	for _, e := range log {
		if e.Kind == bucket.KindBucket && matches(f, e.Key) && e.End > since {
			k := of{e.Key.Dataset, e.Key.Scope}
			final[k] = final[k].Add(bucket.Window{Start: e.Key.Start, End: e.End})
		}
	}
	var out []store.Run
	for k, spans := range final {
		for _, w := range spans {
			out = append(out, store.Run{Dataset: k.dataset, Scope: k.scope, Window: w})
		}
	}
	slices.SortFunc(out, func(a, b store.Run) int {
		key := func(r store.Run) bucket.Key { return bucket.Key{Dataset: r.Dataset, Scope: r.Scope} }
		if c := key(a).Compare(key(b)); c != 0 {
			return c
		}
		return int(a.Window.Start - b.Window.Start)
	})
	return out
}
