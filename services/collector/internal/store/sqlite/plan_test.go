package sqlite

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// A page of the log costs its own entries, however long the log is: nothing is
// sorted.
func TestAPageOfTheLogIsNotSorted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.db")
	if err := Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Options{Path: path, Settings: store.Settings{SampleTimestamp: "end"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	rows, err := s.reader.QueryContext(t.Context(), `EXPLAIN QUERY PLAN `+selectLog, 5, 10)
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
	plan := strings.Join(steps, "\n")
	if err := rows.Err(); err != nil || !strings.Contains(plan, "MERGE") || strings.Contains(plan, "TEMP B-TREE") {
		t.Errorf("%v; the plan of a page of the log is\n%s", err, plan)
	}
}
