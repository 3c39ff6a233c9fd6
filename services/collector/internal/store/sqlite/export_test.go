package sqlite

import (
	"fmt"
	"testing"
)

// SchemaVersion is the newest migration.
const SchemaVersion = schemaVersion

// Fill makes the disk full for this store when its file has so many pages; 0
// gives it room again.
func (s *Store) Fill(t *testing.T, pages int) {
	t.Helper()
	if pages == 0 {
		pages = 1 << 30
	}
	// There is one connection that writes, and the limit is its own.
	if _, err := s.writer.ExecContext(t.Context(), fmt.Sprintf("PRAGMA max_page_count = %d", pages)); err != nil {
		t.Fatal(err)
	}
}
