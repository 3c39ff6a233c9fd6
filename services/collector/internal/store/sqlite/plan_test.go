package sqlite

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// A page of the log costs its own entries, however long the log is: nothing is
// sorted.
func TestAPageOfTheLogIsNotSorted(t *testing.T) {
	s := plain(t)
	plan := planOf(t, s, selectLog, 5, 10)
	if !strings.Contains(plan, "MERGE") || strings.Contains(plan, "TEMP B-TREE") {
		t.Errorf("the plan of a page of the log is\n%s", plan)
	}
}

// A page of a list begins behind the last one: it reads nothing of the pages before it,
// and sorts nothing.
func TestAPageOfAListBeginsBehindTheLast(t *testing.T) {
	s := plain(t)
	scope := bucket.Scope{Kind: bucket.Zone, ID: strings.Repeat("a", 32)}
	window := bucket.Window{Start: 300, End: 900}
	for name, q := range map[string]store.ListQuery{
		"all scopes": {Window: window},
		"one scope":  {Window: window, Filter: store.Filter{Scopes: []bucket.Scope{scope}}},
	} {
		query, args, err := selectPage("http_5m", q, &bucket.Key{Dataset: "http_5m", Scope: scope, Start: 600})
		if err != nil {
			t.Fatal(err)
		}
		plan := planOf(t, s, query, args...)
		if !strings.Contains(plan, "(dataset=? AND (window_start,scope_kind,scope_id)>(?,?,?)") || strings.Contains(plan, "TEMP B-TREE") {
			t.Errorf("%s: the plan of a page is\n%s", name, plan)
		}
	}
}

func plain(t *testing.T) *Store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "weir.db")
	if err := Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Options{Path: path, Settings: store.Settings{SampleTimestamp: "end"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func planOf(t *testing.T, s *Store, query string, args ...any) string {
	t.Helper()
	rows, err := s.reader.QueryContext(t.Context(), `EXPLAIN QUERY PLAN `+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var steps []string
	for rows.Next() {
		var id, parent, unused int
		var step string
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, step)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(steps, "\n")
}
