package wire

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/counter"
	"github.com/weir-metrics/weir/internal/sample"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// mostSeries is how many series one message of totals has, at most: it is far below the
// limit on messages even with the longest labels.
const mostSeries = 2000

// CounterEpoch is the message of an epoch.
func CounterEpoch(e counter.Epoch) *bucketv1.CounterEpoch {
	return &bucketv1.CounterEpoch{
		Id: e.ID, BeganAt: Timestamp(e.Began), BeganRevision: uint64(e.After), SettledAt: Timestamp(e.Settled), Rules: e.Rules,
	}
}

// DecodeCounterEpoch returns the epoch of a message, or what is wrong with it.
func DecodeCounterEpoch(m *bucketv1.CounterEpoch) (counter.Epoch, error) {
	if m.GetId() == "" {
		return counter.Epoch{}, fmt.Errorf("decode counter epoch: the id is empty")
	}
	e := counter.Epoch{ID: m.GetId(), After: bucket.Revision(m.GetBeganRevision()), Rules: m.GetRules()}
	for _, t := range []struct {
		name string
		from interface {
			CheckValid() error
			AsTime() time.Time
		}
		to *time.Time
	}{{"began_at", m.GetBeganAt(), &e.Began}, {"settled_at", m.GetSettledAt(), &e.Settled}} {
		if err := t.from.CheckValid(); err != nil {
			return counter.Epoch{}, fmt.Errorf("decode counter epoch %s: %s: %w", e.ID, t.name, err)
		}
		*t.to = t.from.AsTime()
	}
	return e, nil
}

// CounterTotals are the messages of a scope's totals.
func CounterTotals(t *counter.Totals) []*bucketv1.CounterTotals {
	begun := make(map[string]int64, len(t.Begun))
	for family, first := range t.Begun {
		begun[family] = first.UnixMilli()
	}
	out := []*bucketv1.CounterTotals{{Scope: ProtoScope(t.Scope), BegunUnixMs: begun}}
	n := 0
	var family *bucketv1.CounterFamily
	for i := range t.Series {
		x := &t.Series[i]
		if n == mostSeries {
			out, n, family = append(out, &bucketv1.CounterTotals{Scope: ProtoScope(t.Scope)}), 0, nil
		}
		if family == nil || family.GetFamily() != x.Family || !slices.Equal(family.GetLabels(), x.Labels) {
			family = &bucketv1.CounterFamily{Family: x.Family, Labels: x.Labels}
			m := out[len(out)-1]
			m.Families = append(m.Families, family)
		}
		s := &bucketv1.CounterSeries{
			Zone: x.Zone, Account: x.Account, Values: x.Values, BeganUnixMs: int64(x.Began), UntilUnixMs: int64(x.Until),
			Live: x.Live, Late: x.Late, LateBeganUnixMs: int64(x.LateBegan),
		}
		for _, p := range x.Parts {
			s.Parts = append(s.Parts, &bucketv1.CounterPart{FromUnixMs: int64(p.From), SizeMs: int64(p.Size), Amount: p.Amount, Late: p.Late})
		}
		family.Series = append(family.Series, s)
		n++
	}
	return out
}

// DecodeCounterTotals returns the totals of a message. [counter.Fold.Load] checks their sums.
//
// An error of one family makes it unread, and the totals have the others. Without a scope there
// are none, and the result is nil.
func DecodeCounterTotals(m *bucketv1.CounterTotals) (*counter.Totals, error) {
	scope, err := Scope(m.GetScope())
	if err != nil {
		return nil, fmt.Errorf("decode counter totals: %w", err)
	}
	t := &counter.Totals{Scope: scope, Begun: make(map[string]time.Time, len(m.GetBegunUnixMs()))}
	var faults []error
	refuse := func(family string, err error) {
		t.Unread, faults = append(t.Unread, family), append(faults, fmt.Errorf("decode counter totals of %s: %w", scope, err))
	}
	for family, first := range m.GetBegunUnixMs() {
		if err := checkMetricName(family); err != nil {
			refuse(family, err)
			continue
		}
		t.Begun[family] = time.UnixMilli(first)
	}
	for _, f := range m.GetFamilies() {
		if err := checkCounterFamily(f); err != nil {
			refuse(f.GetFamily(), err)
			continue
		}
		for _, s := range f.GetSeries() {
			t.Series = append(t.Series, seriesTotal(f, s))
		}
	}
	return t, errors.Join(faults...)
}

func checkCounterFamily(f *bucketv1.CounterFamily) error {
	if err := checkMetricName(f.GetFamily()); err != nil {
		return err
	}
	for _, l := range f.GetLabels() {
		if !isName(l) {
			return fmt.Errorf("family %s has the label name %.80q; it must be a Prometheus label name", f.GetFamily(), l)
		}
	}
	return nil
}

func seriesTotal(f *bucketv1.CounterFamily, s *bucketv1.CounterSeries) counter.SeriesTotal {
	x := counter.SeriesTotal{
		Family: f.GetFamily(), Labels: f.GetLabels(), Zone: s.GetZone(), Account: s.GetAccount(), Values: s.GetValues(),
		Began: sample.Millis(s.GetBeganUnixMs()), Until: sample.Millis(s.GetUntilUnixMs()),
		Live: s.GetLive(), Late: s.GetLate(), LateBegan: sample.Millis(s.GetLateBeganUnixMs()),
	}
	for _, p := range s.GetParts() {
		x.Parts = append(x.Parts, counter.Part{From: sample.Millis(p.GetFromUnixMs()), Size: sample.Millis(p.GetSizeMs()), Amount: p.GetAmount(), Late: p.GetLate()})
	}
	return x
}
