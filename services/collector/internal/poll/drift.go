package poll

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/audit"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
)

// driftEvery is how often statistics about settling are written; those about audits are written
// at once.
const driftEvery = time.Hour

// drift has statistics of how final buckets settled and moved.
type drift struct {
	lane    *audit.Lane
	of      map[string]*audit.Drift // by dataset
	unsaved map[string]bool         // datasets whose record is to be written
	flushAt bucket.Time
}

func (d *drift) load(ctx context.Context, from recordReader, register *unreadable.Register) error {
	records, err := from.Records(ctx, audit.KindLane)
	if err != nil {
		return err
	}
	var bad []store.Unreadable
	d.lane, bad = audit.ReadLane(records)
	register.Records(audit.KindLane, bad)
	if records, err = from.Records(ctx, audit.KindDrift); err != nil {
		return err
	}
	d.of, bad = audit.ReadDrifts(records)
	register.Records(audit.KindDrift, bad)
	return nil
}

// figures returns the statistics of a dataset. A caller that changes them adds the dataset to
// unsaved.
func (d *drift) figures(dataset string) *audit.Drift {
	if d.of[dataset] == nil {
		d.of[dataset] = audit.NewDrift(dataset)
	}
	return d.of[dataset]
}

// flush returns the records of statistics that changed, once an hour.
func (d *drift) flush(now bucket.Time) []store.Record {
	if now < d.flushAt {
		return nil
	}
	d.flushAt = now.Add(driftEvery)
	return d.records()
}

func (d *drift) records() (out []store.Record) {
	for _, id := range slices.Sorted(maps.Keys(d.unsaved)) {
		out = append(out, d.of[id].Record())
	}
	clear(d.unsaved)
	return out
}

// settled records how a bucket of a dataset with this delay became final.
func (d *drift) settled(delay time.Duration, done settled) {
	b, v := done.b, done.verdict
	if d.figures(b.Dataset).Settled(b.ReadAt, delay, audit.Window{
		End: b.Window().End, First: v.First, Since: v.Since, Equal: v.Equal, Ground: v.Final, Sampled: b.SampleInterval > 1,
	}) {
		d.unsaved[b.Dataset] = true
	}
}
