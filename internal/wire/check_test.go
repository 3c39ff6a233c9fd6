package wire_test

import (
	"math"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
)

// A writer's own mistakes are caught before they are stored for ever.
func TestCheckBucketRefuses(t *testing.T) {
	if err := wire.CheckBucket(example()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*bucket.Bucket){
		"no finality":         func(b *bucket.Bucket) { b.Finality = 0 },
		"unknown finality":    func(b *bucket.Bucket) { b.Finality = bucket.SuspectConfirmed + 1 },
		"no origin":           func(b *bucket.Bucket) { b.Origin = 0 },
		"unknown origin":      func(b *bucket.Bucket) { b.Origin = bucket.Backfill + 1 },
		"unaligned start":     func(b *bucket.Bucket) { b.Start++ },
		"odd size":            func(b *bucket.Bucket) { b.Size = 7 * time.Minute },
		"start in ms":         func(b *bucket.Bucket) { b.Start *= 1000 },
		"read time in ms":     func(b *bucket.Bucket) { b.ReadAt *= 1000 },
		"no version":          func(b *bucket.Bucket) { b.Version = 0 },
		"no zone label":       func(b *bucket.Bucket) { b.Zone = "" },
		"interval NaN":        func(b *bucket.Bucket) { b.SampleInterval = math.NaN() },
		"value NaN":           func(b *bucket.Bucket) { b.Families[0].Values[0] = math.NaN() },
		"family twice":        func(b *bucket.Bucket) { b.Families[1].Family = b.Families[0].Family },
		"labels without rows": func(b *bucket.Bucket) { b.Families[0].Values = nil; b.Families[0].Labels = []string{"a"} },
	} {
		b := example()
		spoil(b)
		if wire.CheckBucket(b) == nil {
			t.Errorf("%s: a bucket that no reader takes may be written", name)
		}
	}
}
