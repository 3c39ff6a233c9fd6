package storetest

import (
	"cmp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/carousel"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// late is what a snapshot tells of late commits.
func late(t testing.TB, s store.Store, q store.SnapshotQuery, enough func(bucket.Revision) bool) (out []lateCommit) {
	t.Helper()
	q.Late = &store.LateQuery{Since: q.Since, Within: lateWithin, Found: func(e store.Entry) bool {
		out = append(out, lateCommit{e.Key.Dataset, e.Revision})
		return enough(e.Revision)
	}}
	snapshot(t, s, q)
	return out
}

const lateWithin = 4 * time.Hour

type lateCommit struct {
	dataset  string
	revision bucket.Revision
}

// testManyLateCommits: they are read page by page.
func testManyLateCommits(t *testing.T, d Driver) {
	s := open(t, d)
	l := lead(t, s, "a")
	all := l.append(version("http_5m", 1))
	for n := range 36 {
		var batch []store.NewEntry
		for z := range 35 {
			e := five(z+1, -n-8)
			if (n+z)%7 == 0 {
				e.Origin = bucket.Backfill // never late
			}
			batch = append(batch, e)
		}
		all = append(all, l.append(batch...)...)
	}
	never := func(bucket.Revision) bool { return false }
	q := store.SnapshotQuery{Since: origin.Add(-4 * time.Hour), MaxWindows: 1}
	want := lateOf(all, q, never)
	if len(want) < 1000 || len(want) > 36*34 {
		t.Fatalf("the exam itself: %d late commits", len(want))
	}
	equal(t, "late commits", want, late(t, s, q, never))
}

// lateOf is what the documentation of LateQuery says of late commits.
func lateOf(log []store.Entry, q store.SnapshotQuery, enough func(bucket.Revision) bool) (out []lateCommit) {
	late := slices.DeleteFunc(slices.Clone(log), func(e store.Entry) bool {
		return e.Kind != bucket.KindBucket || !matches(q.Filter, e.Key) || e.End <= q.Since || e.Rows == 0 || e.Origin == bucket.Backfill ||
			!carousel.Late(bucket.Window{Start: e.Key.Start, End: e.End}, e.CommittedAt, lateWithin)
	})
	slices.SortFunc(late, func(a, b store.Entry) int {
		return cmp.Or(strings.Compare(a.Key.Dataset, b.Key.Dataset), b.CommittedAt.Compare(a.CommittedAt), cmp.Compare(b.Revision, a.Revision))
	})
	done := ""
	for _, e := range late {
		if e.Key.Dataset != done {
			out = append(out, lateCommit{e.Key.Dataset, e.Revision})
			if enough(e.Revision) {
				done = e.Key.Dataset
			}
		}
	}
	return out
}
