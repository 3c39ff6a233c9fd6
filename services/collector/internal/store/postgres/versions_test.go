package postgres_test

import (
	"testing"

	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/services/collector/internal/store/storetest"

	"github.com/weir-metrics/weir/internal/testkit"
)

// TestExam18 is the exam once more, as a role that owns nothing, on the newest
// major version. The other tests run on the version that the machine has.
func TestExam18(t *testing.T) {
	testkit.InAll(t)
	t.Parallel()
	s := secure(t, pgtest.StartMajor(t, 18))
	storetest.Run(t, s.driver(t))
}

// TestHistory18: what an earlier release stored in Postgres 18 is upgraded there,
// and goes back and forth, as on the version that the machine has.
func TestHistory18(t *testing.T) {
	testkit.InAll(t)
	t.Parallel()
	s := pgtest.StartMajor(t, 18)
	t.Run("Upgrade", func(t *testing.T) { testUpgrade(t, func(testing.TB) string { return s.DSN() }) })
	t.Run("Rollback", func(t *testing.T) { testRollback(t, s.DSN()) })
}
