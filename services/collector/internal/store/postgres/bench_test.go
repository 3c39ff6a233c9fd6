package postgres_test

import (
	"testing"

	"github.com/weir-metrics/weir/services/collector/internal/store/postgres"
	"github.com/weir-metrics/weir/services/collector/internal/store/storetest"
)

func benchStore(b *testing.B) *postgres.Store {
	s, err := postgres.Open(b.Context(), postgres.Options{DSN: migrated.DSN(b), Settings: storetest.Settings})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

func BenchmarkAppend(b *testing.B) { storetest.Benchmark(b, benchStore(b)) }
