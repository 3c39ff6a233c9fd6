package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/weir-metrics/weir/services/collector/internal/store/sqlite"
	"github.com/weir-metrics/weir/services/collector/internal/store/storetest"
)

func benchStore(b *testing.B) *sqlite.Store {
	path := filepath.Join(b.TempDir(), "weir.db")
	if err := sqlite.Migrate(b.Context(), path); err != nil {
		b.Fatal(err)
	}
	s, err := sqlite.Open(b.Context(), sqlite.Options{Path: path, Settings: storetest.Settings})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

func BenchmarkAppend(b *testing.B) { storetest.Benchmark(b, benchStore(b)) }
