package coverage_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/coverage"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// shelf is a store's coverage and definitions.
type shelf struct {
	runs        []store.Run
	definitions []store.Entry
}

func (s *shelf) Records(context.Context, string) ([]store.Record, error) { return nil, nil }
func (s *shelf) Datasets(context.Context) ([]store.Entry, error)         { return s.definitions, nil }

func (s *shelf) Coverage(_ context.Context, f store.Filter, since bucket.Time) (out []store.Run, err error) {
	for _, r := range s.runs {
		if (len(f.Datasets) == 0 || slices.Contains(f.Datasets, r.Dataset)) && r.Window.End > since {
			out = append(out, r)
		}
	}
	return out, nil
}

func stored(id string, payload []byte) store.Entry {
	return store.Entry{NewEntry: store.NewEntry{Kind: bucket.KindDatasetVersion, Key: bucket.Key{Dataset: id}, Payload: payload}}
}

// define stores a definition with a family.
func (s *shelf) define(id, family string) {
	d := &bucket.Definition{
		Dataset: id, Version: 1, ScopeKind: bucket.Zone, Size: time.Hour, Depth: 6, Description: "x",
		Families: []bucket.Family{
			{Name: family, Help: "x", Role: bucket.Total, Additive: true},
			{Name: catalogue.SampleInterval, Help: "x", Labels: []string{"dataset"}, Role: bucket.Breakdown},
		},
	}
	s.definitions = append(s.definitions, stored(id, wire.EncodeDefinition(d)))
}

// A dataset under a new name does not collect again what its families were stored of under
// the old one: each window would be shown twice, and counted twice by every sum.
func TestNoWindowIsCoveredUnderTwoNames(t *testing.T) {
	const file = `
datasets:
  - name: renamed
    description: what own was
    scope: zone
    size: 1h
    depth: 6h
    level: cloudflare_zone_own_events
    families: [{name: cloudflare_zone_own_events, help: events}]
    variants: [{name: groups, node: httpRequestsAdaptiveGroups, rows: 1, measures: [{family: cloudflare_zone_own_events, field: count}]}]
`
	c, err := catalogue.Load([]byte(file), catalogue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	before := bucket.Window{Start: noon, End: noon.Add(2 * time.Hour)}
	s := &shelf{runs: []store.Run{
		{Dataset: "own_1h", Scope: zone, Window: before},
		{Dataset: "stranger_1h", Scope: zone, Window: bucket.Window{Start: noon, End: noon.Add(9 * time.Hour)}},
	}}
	s.define("own_1h", "cloudflare_zone_own_events")
	s.define("stranger_1h", "cloudflare_zone_other_events") // has the sample intervals in common alone
	s.definitions = append(s.definitions, stored("damaged_1h", []byte{0xff}))
	var r coverage.Records
	of := ledger.Series{Dataset: "renamed_1h", Scope: zone}
	for _, since := range []bucket.Time{0, noon.Add(24 * time.Hour)} { // what is asked for begins after it, too
		b, err := r.Read(t.Context(), s, nil, noon.Add(-time.Hour), since, c.Datasets)
		if err != nil {
			t.Fatal(err)
		}
		if got := b.Terms().Begin(of.Dataset, of.Scope); got != before.End {
			t.Errorf("since %s: the renamed dataset begins at %s, want %s", since, got, before.End)
		}
		if others := b.Others(of); !slices.Equal(others, bucket.Spans{before}) {
			t.Errorf("since %s: under other names are %v, want %v", since, others, before)
		}
		if got := b.Terms().Begin("http_5m", zone); got != 0 {
			t.Errorf("since %s: http_5m begins at %s because of a dataset with other families", since, got)
		}
	}
	if others := c.Find("renamed_1h").Others; slices.Contains(others, "own_1h") {
		t.Errorf("the catalogue itself was changed: %v", others)
	}
}
