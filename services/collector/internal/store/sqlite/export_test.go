package sqlite

import (
	"database/sql"
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

// Exec changes the database as somebody else might.
func (s *Store) Exec(t *testing.T, sql string) {
	t.Helper()
	if _, err := s.writer.ExecContext(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// WriterPragma is a setting of each connection that may write.
func (s *Store) WriterPragma(t *testing.T, name string) []string { return pragma(t, s.writer, name) }

// ReaderPragma is a setting of each connection for reading.
func (s *Store) ReaderPragma(t *testing.T, name string) []string { return pragma(t, s.reader, name) }

// pragma asks as many connections as the pool may have, all at once.
func pragma(t *testing.T, pool *sql.DB, name string) []string {
	t.Helper()
	values := make([]string, pool.Stats().MaxOpenConnections)
	if len(values) == 0 {
		t.Fatal("the pool has no limit")
	}
	for i := range values {
		conn, err := pool.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.QueryRowContext(t.Context(), "PRAGMA "+name).Scan(&values[i]); err != nil {
			t.Fatal(err)
		}
	}
	return values
}
