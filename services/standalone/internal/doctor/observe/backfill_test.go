package observe_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/wire"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/collector/collectortest"
	"github.com/weir-metrics/weir/services/standalone/internal/doctor"
	"github.com/weir-metrics/weir/services/standalone/internal/doctor/observe"
)

// stocked is a store of one zone, with a bucket for each value by the end of its window in
// minutes after the beginning of the range. Each became final six minutes after that, or
// later if it is zero.
func stocked(t *testing.T, values map[int]float64) *collector.Beside {
	t.Helper()
	from, _ := observe.Range(now)
	var config collector.Config
	cli.Defaults(config.Settings())
	config.SQLiteFile = filepath.Join(t.TempDir(), "weir.db")
	clk := clock.NewManual(from.Add(-time.Hour))
	s, err := collector.OpenStore(t.Context(), config, collector.Deps{LeaseClock: clk})
	if err != nil {
		t.Fatal(err)
	}
	d := &bucket.Definition{Dataset: "http_5m", Version: 1, ScopeKind: bucket.Zone, Size: 5 * time.Minute, Delay: 5 * time.Minute, Depth: 30, Description: "HTTP traffic.", Families: []bucket.Family{
		{Name: "cloudflare_zone_requests", Help: "Requests.", Role: bucket.Total, Additive: true},
	}}
	write := func(entry collectortest.NewEntry, records ...collectortest.Record) {
		t.Helper()
		if err := collectortest.Write(t.Context(), s, []collectortest.NewEntry{entry}, records); err != nil {
			t.Fatal(err)
		}
	}
	id := strings.Repeat("1", 32)
	write(collectortest.NewEntry{Kind: bucket.KindDatasetVersion, Key: bucket.Key{Dataset: d.Dataset}, Payload: wire.EncodeDefinition(d)},
		collectortest.Zone(id, "a", strings.Repeat("2", 32), "x", bucket.TimeOf(from)))
	order := slices.SortedFunc(maps.Keys(values), func(a, b int) int { // zeros last
		return cmp.Or(-cmp.Compare(min(values[a], 1), min(values[b], 1)), cmp.Compare(a, b))
	})
	for _, minutes := range order {
		v := values[minutes]
		end := from.Add(time.Duration(minutes) * time.Minute)
		at := end.Add(6 * time.Minute)
		if v == 0 {
			at = end.Add(35 * time.Minute)
		}
		if at.After(clk.Now()) {
			clk.Set(at)
		}
		b := &bucket.Bucket{
			Key:  bucket.Key{Dataset: d.Dataset, Scope: bucket.Scope{Kind: bucket.Zone, ID: id}, Start: bucket.TimeOf(end.Add(-d.Size))},
			Size: d.Size, Version: 1, Zone: "a", Account: "x", Finality: bucket.Confirmed, Origin: bucket.Live, Variant: "rollup", SampleInterval: 1, ReadAt: bucket.TimeOf(end.Add(d.Delay)),
			Families: []bucket.Rows{{Family: d.Families[0].Name, Values: []float64{v}}},
		}
		payload, err := wire.Seal(b, d)
		if err != nil {
			t.Fatal(err)
		}
		write(collectortest.NewEntry{
			Kind: bucket.KindBucket, Key: b.Key, End: b.Window().End, Finality: b.Finality, Origin: b.Origin, Variant: b.Variant, Rows: b.Len(), SampleInterval: 1, Payload: payload,
		})
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	beside, err := collector.OpenBeside(t.Context(), config, clock.NewManual(now))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := beside.Close(); err != nil {
			t.Error(err)
		}
	})
	return beside
}

// A range is exported, compared sample by sample, and imported as a dry run.
func TestBackfill(t *testing.T) {
	from, to := observe.Range(now)
	if want := time.Date(2026, 11, 30, 11, 0, 0, 0, time.UTC); !from.Equal(want) || !to.Equal(want.Add(75*time.Minute)) {
		t.Fatalf("the range is %s to %s", from, to)
	}
	stored := map[int]float64{5: 1, 10: 2, 15: 0, 20: 4}
	held := func(values map[int]string) []any {
		list := []any{}
		for minutes := 5; minutes <= 60; minutes += 5 {
			if v, there := values[minutes]; there {
				list = append(list, []any{json.Number(fmt.Sprintf("%d.999", from.Add(time.Duration(minutes)*time.Minute).Unix()-1)), v})
			}
		}
		return list
	}
	whole := map[int]string{5: "1", 10: "2", 15: "0", 20: "4"}
	series := func(instance string, values []any) map[string]any {
		return map[string]any{"metric": map[string]string{"__name__": "cloudflare_zone_requests", "zone": "a", "account": "x", "job": "weir", "instance": instance, "cluster": "eu"}, "values": values}
	}
	labels := func(instances ...string) (list []any) {
		for _, i := range instances {
			list = append(list, map[string]any{"metric": map[string]string{"job": "weir", "instance": i, "cluster": "eu"}, "value": []any{1, "1"}})
		}
		return list
	}
	for name, tc := range map[string]struct {
		empty     bool           // the store
		held      map[int]string // values by minute; nil: whole
		twice     bool           // in two series
		labels    []any          // of the series; nil: of one job
		since     time.Time      // first scrape; zero: long ago
		unknown   bool           // there is no series up
		retention string
		window    string // out-of-order window
		want      doctor.Backfill
		flaw      string
	}{
		"equal":             {want: doctor.Backfill{Equal: 4}},
		"missing":           {held: map[int]string{5: "1", 10: "2", 15: "0"}, want: doctor.Backfill{Equal: 3, Missing: 1}},
		"changed":           {held: map[int]string{5: "1", 10: "3", 15: "0", 20: "4"}, want: doctor.Backfill{Equal: 3, Different: 1}},
		"foreign":           {held: map[int]string{5: "1", 10: "2", 15: "0", 20: "4", 25: "5"}, want: doctor.Backfill{Equal: 4, Extra: 1}},
		"in two series":     {twice: true, labels: labels("one", "weir"), want: doctor.Backfill{Equal: 4, Repeated: 4, Labels: []string{`{cluster="eu",instance="one",job="weir"}`, `{cluster="eu",instance="weir",job="weir"}`}}},
		"never scraped":     {held: map[int]string{}, labels: []any{}, since: now, want: doctor.Backfill{NotDue: 4}},
		"without up":        {held: map[int]string{20: "4"}, unknown: true, want: doctor.Backfill{Equal: 1, Missing: 2, NotDue: 1}},
		"scraped since now": {held: map[int]string{20: "4"}, since: from.Add(52 * time.Minute), want: doctor.Backfill{Equal: 1, NotDue: 3}},
		"a late zero":       {held: map[int]string{5: "1", 10: "2", 20: "4"}, want: doctor.Backfill{Equal: 3, NotDue: 1}},
		"retention":         {held: map[int]string{20: "4"}, since: now, retention: "30m", want: doctor.Backfill{Equal: 1, NotDue: 3}, flaw: "keeps samples for 30m"},
		"too old to import": {held: map[int]string{20: "4"}, since: now, window: "1s", want: doctor.Backfill{Equal: 1, NotDue: 3}, flaw: "the receiver refuses them"},
		"an empty store":    {empty: true, want: doctor.Backfill{}},
	} {
		t.Run(name, func(t *testing.T) {
			values := stored
			if tc.empty {
				values = nil
			}
			if tc.held == nil {
				tc.held = whole
			}
			if tc.labels == nil {
				tc.labels = labels("weir")
			}
			if tc.since.IsZero() {
				tc.since = from.Add(-5 * time.Hour)
			}
			all := []any{}
			if list := held(tc.held); len(list) > 0 {
				all = append(all, series("weir", list))
				if tc.twice {
					all = append(all, series("one", list))
				}
			}
			config := "storage: {tsdb: {out_of_order_time_window: " + cmp.Or(tc.window, "30h") + "}}"
			up := []any{map[string]any{"metric": map[string]string{}, "value": []any{1, fmt.Sprint(tc.since.Unix())}}}
			if tc.unknown {
				up = []any{}
			}
			base := database(t, config, map[string]http.HandlerFunc{
				"/api/v1/status/runtimeinfo": data(map[string]string{"storageRetention": cmp.Or(tc.retention, "15d")}),
				"/api/v1/status/tsdb":        data(map[string]any{"headStats": map[string]int64{"minTime": from.UnixMilli(), "maxTime": now.UnixMilli()}}),
			}, map[string]any{
				"or timestamp(up": up, // the subquery has nothing in the first minute
				"count without (": tc.labels,
				`zone="a"`:        all,
			})
			p := observe.NewPrometheus(base, http.DefaultClient, now)
			job := observe.Scraping{Job: "weir", Replay: 24 * time.Hour, Config: &doctor.JobConfig{Interval: time.Minute}}
			got := observe.Backfill(t.Context(), stocked(t, values), p, job, clock.NewManual(now))
			if got.Err != nil || got.CompareErr != nil {
				t.Fatalf("the errors are %v, %v", got.Err, got.CompareErr)
			}
			if flaws := strings.Join(got.Flaws, "; "); (flaws == "") != (tc.flaw == "") || !strings.Contains(flaws, tc.flaw) {
				t.Errorf("flaws are %q, want %q", flaws, tc.flaw)
			}
			if odd := got.Missing + got.Different + got.Extra + got.Repeated; (odd > 0) != (got.Example != "") {
				t.Errorf("%d are odd, and the example is %q", odd, got.Example)
			}
			if !tc.empty {
				tc.want.Samples, tc.want.Compared = len(stored), true
			}
			got.Flaws, got.Example, got.From, got.To, got.Bytes = nil, "", time.Time{}, time.Time{}, 0
			if diff := gocmp.Diff(&tc.want, got); diff != "" {
				t.Errorf("the range (-want +got):\n%s", diff)
			}
		})
	}
}

// Without a Prometheus the range is exported and read as an import would.
func TestBackfillWithoutPrometheus(t *testing.T) {
	got := observe.Backfill(t.Context(), stocked(t, map[int]float64{5: 1}), nil, observe.Scraping{Job: "weir"}, clock.NewManual(now))
	if got.Err != nil || len(got.Flaws) > 0 || got.Samples != 1 || got.Bytes == 0 || got.Compared {
		t.Errorf("got %+v", got)
	}
}
