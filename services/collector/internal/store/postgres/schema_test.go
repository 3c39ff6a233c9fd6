package postgres

import (
	"io/fs"
	"testing"

	"github.com/weir-metrics/weir/migrations"
)

// TestSchemaVersion: whoever adds a migration raises the version with it.
func TestSchemaVersion(t *testing.T) {
	files, err := fs.Glob(migrations.Postgres, "postgres/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != schemaVersion {
		t.Errorf("there are %d migrations; schemaVersion is %d", len(files), schemaVersion)
	}
}
