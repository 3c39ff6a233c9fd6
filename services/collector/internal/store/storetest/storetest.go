// Package storetest is the exam of [store.Store]: what every driver must do,
// whatever database is behind it. A bug that is found in one driver becomes a
// question here, and is then asked of both.
package storetest

import (
	"testing"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// Settings are those of the stores in the exam.
var Settings = store.Settings{SampleTimestamp: "end"}

// Opener opens one database with settings, as often as it is called. It closes
// nothing.
type Opener func(settings store.Settings) (store.Store, error)

// Driver is what the exam needs to know of a driver.
type Driver struct {
	// Create makes a fresh, migrated database that lasts as long as the test.
	Create func(t *testing.T) Opener
	// Damage makes one like Create's, and a way to damage a column of the row of
	// a revision behind the store's back: to replace a payload, to cut a chain.
	// Nil: not asked of this one.
	Damage func(t *testing.T) (Opener, func(column string, revision bucket.Revision))
	// Alter makes one like Create's, a way to execute SQL behind the store's back,
	// and the literal of a time that is farther off than any. Nil: not asked of
	// this one.
	Alter func(t *testing.T) (o Opener, sql func(string), far string)
	// Bytes is the literal of bytes in that SQL.
	Bytes func([]byte) string
	// Shared: several stores may be open on one database at the same time, as
	// by several processes.
	Shared bool
	// Wakes: with Shared, an append through one store wakes the others too.
	Wakes bool
}

// Run examines a driver.
func Run(t *testing.T, d Driver) {
	for _, q := range []struct {
		name string
		ask  func(*testing.T, Driver)
	}{
		{"New", testNew},
		{"Settings", testSettings},
		{"Lease/Acquire", testAcquire},
		{"Lease/Expiry", testExpiry},
		{"Lease/Renew", testRenew},
		{"Lease/Release", testRelease},
		{"Lease/Contended", testContended},
		{"Lease/Impossible", testImpossible},
		{"Append/Positions", testPositions},
		{"Append/RoundTrip", testRoundTrip},
		{"Append/Deposed", testDeposed},
		{"Append/Conflict", testConflict},
		{"Append/Duplicate", testDuplicate},
		{"Append/Late", testLate},
		{"Append/Refused", testRefused},
		{"Append/Race", testAppendRace},
		{"Append/Large", testLarge},
		{"Append/Cancelled", testCancelled},
		{"Append/Wake", testWake},
		{"Log/Pages", testReadLog},
		{"Log/ReadersWhileAppending", testReadersWhileAppending},
		{"Log/ChainAt", testChainAt},
		{"Log/Datasets", testDatasets},
		{"Scan/Snapshot", testSnapshot},
		{"Scan/LateCommits", testManyLateCommits},
		{"Scan/SnapshotConsistent", testSnapshotConsistent},
		{"Scan/List", testList},
		{"Scan/Restated", testRestated},
		{"Scan/RestatedDamaged", testRestatedDamaged},
		{"Scan/AuditEvents", testAuditEvents},
		{"Scan/Buckets", testBuckets},
		{"Scan/EmitError", testEmitError},
		{"Scan/ManyReaders", testManyReaders},
		{"Altered", testAltered},
		{"Damaged", testDamaged},
		{"Coverage", testCoverage},
		{"Records", testRecords},
		{"RecordsTogether", testRecordsTogether},
		{"Permits/Limit", testPermits},
		{"Permits/Race", testPermitRace},
		{"Retire/Floor", testRetire},
		{"Retire/Lately", testRetireLately},
		{"Retire/Restatements", testRetireRestatements},
		{"Retire/Fenced", testRetireFenced},
		{"Retire/DuringSnapshot", testRetireDuringSnapshot},
		{"Retire/WhileReading", testReadersWhileRetiring},
		{"Reopen", testReopen},
		{"Random", testRandom},
	} {
		t.Run(q.name, func(t *testing.T) {
			t.Parallel()
			q.ask(t, d)
		})
	}
}
