package catalogue

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
)

// Every dataset at every size that its nodes can make: with an id that says so, its
// own families, the longest groups, and a replay that Prometheus bears.
func TestEveryDatasetAtEverySize(t *testing.T) {
	all := []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 24 * time.Hour}
	known := load(t, "", Options{}).Available
	for i := range known {
		k := &known[i]
		want := all
		switch {
		case k.Name == "uniques": // a day is never the sum of its hours, and has a family of its own
			want = all[:5]
		case k.Name == "uniques_1d":
			want = all[5:]
		case !strings.HasPrefix(k.Variants[0].Node, "httpRequests") || slices.ContainsFunc(k.Families, func(f bucket.Family) bool { return !f.Additive && f.Name != SampleInterval }):
			want = k.Sizes // as its node groups, or as its statistics can be joined
		}
		if diff := cmp.Diff(want, k.Sizes); diff != "" || !slices.Contains(want, k.Size) {
			t.Errorf("sizes of %s, collected at %s (-want +got):\n%s", k.Name, k.Size, diff)
		}
	}
	for _, size := range all {
		o, ids := Options{HTTPSize: size, StartTimestamps: true}, map[string]*Dataset{}
		for i := range known {
			k := &known[i]
			if !slices.Contains(k.Sizes, size) {
				continue
			}
			id := k.Name
			if k.Name != "uniques_1d" {
				id += "_" + bucket.SizeName(size)
			}
			if ids[id] = k; k.Name != "http" {
				o.Enable = append(o.Enable, id)
			}
		}
		c := load(t, "", o)
		for id, k := range ids {
			d := c.Find(id)
			if d == nil || d.Size != size || len(d.Variants) == 0 {
				t.Errorf("%s: %+v, want it at %s", id, d, size)
				continue
			}
			checkAtSize(t, d, k)
		}
	}
}

// checkAtSize checks a dataset at one size against itself at the size at which it is
// collected.
func checkAtSize(t *testing.T, d, known *Dataset) {
	t.Helper()
	if diff := cmp.Diff(known.Families, d.Families); diff != "" {
		t.Errorf("%s has other families than %s (-%s +%s):\n%s", d.Dataset, known.Dataset, known.Dataset, d.Dataset, diff)
	}
	if d.Depth < 4 || d.Depth > 30 {
		t.Errorf("%s repeats %d buckets", d.Dataset, d.Depth)
	}
	for _, v := range d.Variants {
		if strings.HasPrefix(v.Node, "httpRequests") && v.Step != d.Size && (d.Size != 30*time.Minute || v.Step != 15*time.Minute) || d.Size%v.Step != 0 {
			t.Errorf("%s: variant %s has groups of %s", d.Dataset, v.Name, v.Step)
		}
	}
	for _, other := range d.Others {
		if other == d.Dataset || !strings.HasPrefix(other, strings.TrimSuffix(known.Name, "_1d")+"_") {
			t.Errorf("%s has %s as another size of it", d.Dataset, other)
		}
	}
	if known.Name == "uniques" && slices.Contains(d.Others, "uniques_1d") {
		t.Errorf("%s takes the daily uniques for another size of it", d.Dataset)
	}
}

// How settings and files choose a size, and what they cannot choose.
func TestSizesAreChosen(t *testing.T) {
	const two = `
datasets:
  - {name: countries, size: 5m, depth: 1h}
  - {name: content_types_15m, enabled: true}
`
	for _, test := range []struct {
		name string
		user string
		o    Options
		want string // collected, or what the error says
	}{
		{"defaults", "{}", Options{}, "content_types_1h countries_1h http_5m uniques_1d uniques_1h"},
		{"by id", "{}", Options{Enable: []string{"countries_5m", "hosts_1d"}}, "content_types_1h countries_5m hosts_1d http_5m uniques_1d uniques_1h"},
		{"by id and name", "{}", Options{Enable: []string{"countries", "countries_5m", "countries"}}, "content_types_1h countries_5m http_5m uniques_1d uniques_1h"},
		{"in a file", two, Options{}, "content_types_15m countries_5m http_5m uniques_1d uniques_1h"},
		{"settings before the file", two, Options{Enable: []string{"countries_30m"}}, "content_types_15m countries_30m http_5m uniques_1d uniques_1h"},
		{"disabled by name or id", "{}", Options{Disable: []string{"countries", "content_types_1h", "http_5m"}}, "uniques_1d uniques_1h"},
		{"the setting of http", "{}", Options{Enable: []string{"http_5m"}}, "content_types_1h countries_1h http_5m uniques_1d uniques_1h"},
		{"another size of http", "{}", Options{Enable: []string{"http_1h"}}, `settings: dataset "http_1h": the bucket size of http is 5m by CF_BUCKET_SECONDS; set it there`},
		{"two sizes", "{}", Options{Enable: []string{"countries_5m", "countries_1h"}}, "settings: dataset countries is enabled at two bucket sizes, 5m and 1h"},
		{"no such size", "{}", Options{Enable: []string{"uniques_7m"}}, `settings: dataset "uniques_7m" is not what the settings select, which is uniques_1h; uniques can be collected at 1m, 5m, 15m, 30m, 1h`},
		{"no such dataset", "{}", Options{Enable: []string{"unique_1h"}}, `settings: dataset "unique_1h" is not in the catalogue; known are account_http_1h, `},
		{"a size that it cannot have", "datasets: [{name: hosts, sizes: [5m, 1h]}]", Options{Enable: []string{"hosts_1d"}}, `settings: dataset "hosts_1d": hosts can be collected at 5m, 1h`},
		{"disabled at another size", "{}", Options{Disable: []string{"countries_5m"}}, `settings: dataset "countries_5m" is not what would be collected; that is countries_1h`},
		{"both by two names", "{}", Options{Enable: []string{"countries_1h"}, Disable: []string{"countries"}}, `settings: dataset "countries" is both enabled and disabled`},
		{"size and id differ", "datasets: [{name: countries_5m, size: 1h}]", Options{}, "user.yaml:1: dataset countries_5m has the size 1h, and its name says 5m"},
		{"twice in a file", "datasets: [{name: countries}, {name: countries_1h}]", Options{}, "user.yaml:1: dataset countries_1h is declared twice"},
		{"size not of its sizes", "datasets: [{name: uniques, size: 1d}]", Options{}, "dataset uniques: size is 1d; it must be one of 1m, 5m, 15m, 30m, 1h"},
		{"which size", strings.NewReplacer("asn_1h", "asn", "sizes: [1h]", "sizes: [5m, 1h]").Replace(asn), Options{}, "can be collected at 5m, 1h; say with size at which"},
		{"too short a replay", "datasets: [{name: countries, size: 1m, depth: 6}]", Options{}, "dataset countries_1m: depth is 6; it must be 7 (delay and 2 buckets) to 30"},
	} {
		test.o.File = "user.yaml"
		c, err := Load([]byte(test.user), test.o)
		switch {
		case err != nil && !strings.Contains(err.Error(), test.want):
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		case err == nil && strings.Join(ids(c.Datasets), " ") != test.want:
			t.Errorf("%s: collected %v, want %q", test.name, ids(c.Datasets), test.want)
		}
	}
	if d := load(t, two, Options{}).Find("countries_5m"); d.Depth != 12 {
		t.Errorf("an hour is %d buckets of five minutes", d.Depth)
	}
}

// Variants have the dataset's measures, but for those that they have themselves or
// go without.
func TestVariantsInheritMeasures(t *testing.T) {
	feeds := func(v *Variant) (out []string) {
		for _, m := range v.Measures {
			out = append(out, strings.TrimPrefix(m.Family, "cloudflare_zone_")+"="+m.Field)
		}
		return out
	}
	c := load(t, "", Options{HTTPSize: time.Hour})
	variants := c.Find("http_1h").Variants
	rollup := feeds(&variants[0])
	if len(rollup) != 9 || rollup[7] != "threats=sum.threats" || !cmp.Equal(rollup, feeds(&variants[1])) {
		t.Errorf("roll-ups feed %v and %v", rollup, feeds(&variants[1]))
	}
	want := []string{
		"requests=count", "bytes=sum.edgeResponseBytes", "cached_requests=count", "cached_bytes=sum.edgeResponseBytes",
		"encrypted_requests=count", "encrypted_bytes=sum.edgeResponseBytes", "requests_by_status=count",
	}
	if diff := cmp.Diff(want, feeds(&variants[2])); diff != "" {
		t.Errorf("adaptive (-want +got):\n%s", diff)
	}
	const more = `
datasets:
  - name: asn_1h
    description: HTTP traffic by network
    scope: zone
    sizes: [1h]
    level: cloudflare_zone_requests_by_network
    families:
      - {name: cloudflare_zone_requests_by_network, help: Requests., labels: [asn]}
      - {name: cloudflare_zone_visits_by_network, help: Visits., labels: [asn]}
    measures:
      - {family: cloudflare_zone_requests_by_network, field: count, labels: {asn: clientAsn}}
    variants:
      - {name: a, node: httpRequestsAdaptiveGroups, dimensions: [clientAsn], rows: 9, measures: [{family: cloudflare_zone_visits_by_network, field: sum.visits, labels: {asn: clientAsn}}]}
      - {name: b, node: httpRequestsAdaptiveGroups, dimensions: [clientAsn], rows: 9, times: {15m: datetimeFifteenMinutes}, sampled: false}
`
	d := load(t, more, Options{}).Find("asn_1h")
	if got := feeds(&d.Variants[0]); !cmp.Equal(got, []string{"requests_by_network=count", "visits_by_network=sum.visits"}) {
		t.Errorf("a feeds %v", got)
	}
	if a, b := d.Variants[0], d.Variants[1]; !a.Sampled || a.Step != time.Hour || b.Sampled || b.Step != 15*time.Minute || b.Interval != a.Interval || b.FilterField != "datetime" {
		t.Errorf("a is %+v, b is %+v; want what the node says where the variant says nothing", a, b)
	}
	for change, want := range map[string]string{
		"sampled: false, without: [nope]":                `user.yaml:15: dataset asn_1h: variant b: without names "nope"`,
		"without: [cloudflare_zone_requests_by_network]": `variant b: does not feed the level`,
	} {
		_, err := Load([]byte(strings.Replace(more, "sampled: false", change, 1)), Options{File: "user.yaml"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", change, err, want)
		}
	}
	_, err := Load([]byte("nodes: {httpRequests1hGroups: {sampled: true}}"), Options{File: "user.yaml"})
	if err == nil || !strings.Contains(err.Error(), "user.yaml:1: node httpRequests1hGroups is declared at datasets/nodes.yaml:") {
		t.Errorf("a node that is declared again: %v", err)
	}
}

// One family for all datasets, told apart by the id, with one meaning.
func TestOneFamilyOfSampleIntervals(t *testing.T) {
	for _, d := range load(t, "", Options{}).Available {
		last := d.Families[len(d.Families)-1]
		if d.Interval == "" && !slices.ContainsFunc(d.Variants, func(v Variant) bool { return v.Interval != "" }) {
			continue // its node does not say
		}
		if d.Interval != SampleInterval || !cmp.Equal(last, sampleInterval) || !cmp.Equal(last.Labels, []string{"dataset"}) {
			t.Errorf("%s: its last family is %+v", d.Dataset, last)
		}
	}
	// Neither it nor those of earlier versions can be a user's.
	for _, name := range []string{"cloudflare_sample_interval", "cloudflare_zone_http_sample_interval"} {
		if _, err := Load([]byte(strings.ReplaceAll(asn, "cloudflare_zone_requests_by_network", name)), Options{}); err == nil {
			t.Errorf("a user's dataset may have the family %s", name)
		}
	}
}
