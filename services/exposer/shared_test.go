package exposer_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
)

// estimated makes a dataset version with a family of its own and one that says
// which buckets are estimates.
func estimated(dataset string, version uint32, size time.Duration, interval bucket.Family) feedtest.Entry {
	d := feedtest.Definition(dataset, version)
	d.Size = size
	d.Families = []bucket.Family{d.Families[0], interval}
	return feedtest.Entry{Definition: d}
}

// A family that all datasets share stands in one piece with one header, and each
// dataset has its series; the families that it took the place of are shown for as
// long as buckets of theirs are. Prometheus's parser reads it.
func TestOneFamilyOfManyDatasets(t *testing.T) {
	const shared = "cloudflare_sample_interval"
	family := bucket.Family{Name: shared, Help: "Of the sample.", Labels: []string{"dataset"}, Role: bucket.Breakdown}
	own := bucket.Family{Name: "cloudflare_zone_http_sample_interval", Help: "Of the sample of http.", Role: bucket.Total}
	s := scripted()
	s.Append(at(0), estimated("http_5m", 1, 5*time.Minute, own), estimated("http_5m", 2, 5*time.Minute, family),
		estimated("countries_1h", 1, time.Hour, family), estimated("uniques_1h", 1, time.Hour, family), estimated("uniques_1d", 1, 24*time.Hour, family))
	// The windows that every scrape shows, the first three under the old definition, an hour
	// of two others, and a day, which is no longer young.
	want := map[string][]int64{}
	head := 5
	bucketOf := func(dataset string, version uint32, size time.Duration, i int) {
		for z := range 2 {
			b := feedtest.Bucket(dataset, feedtest.Zone(z), i)
			b.Version, b.Size, b.Start = version, size, bucket.TimeOf(feedtest.T0).Add(time.Duration(i)*size)
			b.ReadAt = b.Window().End.Add(10 * time.Minute)
			b.SampleInterval = 10
			interval := bucket.Rows{Family: shared, Labels: []string{dataset}, Values: []float64{10}}
			series := fmt.Sprintf("%s %s %s", shared, b.Zone, dataset)
			if dataset == "http_5m" && version == 1 {
				interval = bucket.Rows{Family: own.Name, Values: []float64{10}}
				series = own.Name + " " + b.Zone + " "
			}
			want[series] = append(want[series], int64(b.Window().End)*1000-1)
			b.Families = []bucket.Rows{b.Families[0], interval}
			committed := b.ReadAt.Std()
			if committed.After(at(26)) {
				committed = at(26)
			}
			s.Append(committed, feedtest.Entry{Bucket: b})
			head++
		}
	}
	for i := range 6 {
		bucketOf("http_5m", uint32(1+i/3), 5*time.Minute, i+19)
	}
	bucketOf("countries_1h", 1, time.Hour, 1)
	bucketOf("uniques_1h", 1, time.Hour, 1)
	bucketOf("uniques_1d", 1, 24*time.Hour, -1)
	s.SetProgress(at(26))
	x := start(t, s.Serve(t), config(), at(26))
	x.await(head)

	for path, shows := range map[string]func(series string, times []int64) []int64{
		"/metrics": func(series string, times []int64) []int64 {
			if strings.HasSuffix(series, "_1d") {
				return nil
			}
			return times
		},
		"/metrics?replay_hours=0": func(series string, times []int64) []int64 { // what is young enough for any Prometheus
			if strings.HasSuffix(series, "_1d") {
				return nil
			}
			return times[len(times)-1:]
		},
		"/backfill?hours=6&format=text": func(_ string, times []int64) []int64 { return times },
		"/backfill?hours=6&format=text&step_seconds=3600": func(series string, times []int64) []int64 { // what is an hour already
			if !strings.HasSuffix(series, "_1h") {
				return nil
			}
			return times
		},
	} {
		body := x.get(path).body
		got, pieces := map[string][]int64{}, map[string]int{}
		last := ""
		for line := range strings.Lines(body) {
			name, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "), " ")
			name, _, _ = strings.Cut(name, "{")
			if name != last {
				pieces[name]++
				last = name
			}
		}
		for name, n := range pieces {
			if n != 1 {
				t.Errorf("%s: family %s is in %d pieces", path, name, n)
			}
		}
		parser := expfmt.NewTextParser(model.LegacyValidation)
		families, err := parser.TextToMetricFamilies(strings.NewReader(body))
		if err != nil {
			t.Fatalf("%s: %v\n%s", path, err, body)
		}
		for _, name := range []string{shared, own.Name} {
			for _, m := range families[name].GetMetric() {
				label := map[string]string{}
				for _, l := range m.GetLabel() {
					label[l.GetName()] = l.GetValue()
				}
				series := name + " " + label["zone"] + " " + label["dataset"]
				got[series] = append(got[series], m.GetTimestampMs())
			}
		}
		expected := map[string][]int64{}
		for _, series := range slices.Sorted(maps.Keys(want)) {
			if times := shows(series, want[series]); times != nil {
				expected[series] = times
			}
		}
		if diff := cmp.Diff(expected, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}
