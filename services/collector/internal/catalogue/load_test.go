package catalogue

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/testkit"
)

func load(t testing.TB, user string, o Options) *Catalogue {
	t.Helper()
	var text []byte
	if user != "" {
		text = []byte(user)
	}
	c, err := Load(text, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ids(list []Dataset) []string {
	var out []string
	for _, d := range list {
		out = append(out, d.Dataset)
	}
	return out
}

func TestDefaults(t *testing.T) {
	c := load(t, "", Options{})
	want := []string{"content_types_1h", "countries_1h", "http_5m", "uniques_1d", "uniques_1h"}
	if diff := cmp.Diff(want, ids(c.Datasets)); diff != "" {
		t.Errorf("datasets collected by default (-want +got):\n%s", diff)
	}
	d := c.Find("http_5m")
	if d.Delay != 5*time.Minute || d.Confirm != 2 || d.Deadline != 20*time.Minute || d.Depth != 30 || d.Version != 0 {
		t.Errorf("http_5m: delay %s, confirm %d, deadline %s, depth %d, version %d", d.Delay, d.Confirm, d.Deadline, d.Depth, d.Version)
	}
	testkit.Golden(t, "testdata/datasets.md", []byte(c.DatasetsMarkdown(nil)))
	testkit.Golden(t, "testdata/metrics.md", []byte(c.MetricsMarkdown()))
}

// Every size of CF_BUCKET_SECONDS: which nodes are asked, with which groups.
func TestHTTPSizes(t *testing.T) {
	want := map[time.Duration]string{
		time.Minute:      "http_1m depth 30: rollup_1m httpRequests1mGroups datetime 1m, adaptive httpRequestsAdaptiveGroups datetimeMinute 1m",
		5 * time.Minute:  "http_5m depth 30: rollup_1m httpRequests1mGroups datetimeFiveMinutes 5m, adaptive httpRequestsAdaptiveGroups datetimeFiveMinutes 5m",
		15 * time.Minute: "http_15m depth 30: rollup_1m httpRequests1mGroups datetimeFifteenMinutes 15m, adaptive httpRequestsAdaptiveGroups datetimeFifteenMinutes 15m",
		30 * time.Minute: "http_30m depth 30: rollup_1m httpRequests1mGroups datetimeHalfOfHour 30m, adaptive httpRequestsAdaptiveGroups datetimeFifteenMinutes 15m",
		time.Hour:        "http_1h depth 24: rollup_1h httpRequests1hGroups datetime 1h, rollup_1m httpRequests1mGroups datetimeHour 1h, adaptive httpRequestsAdaptiveGroups datetimeHour 1h",
		24 * time.Hour:   "http_1d depth 4: rollup_1d httpRequests1dGroups date 1d, adaptive httpRequestsAdaptiveGroups date 1d",
	}
	for size, text := range want {
		c := load(t, "", Options{HTTPSize: size, StartTimestamps: true})
		d := c.Find("http_" + bucket.SizeName(size))
		if d == nil {
			t.Fatalf("no http dataset at %s among %v", size, ids(c.Datasets))
		}
		var variants []string
		for _, v := range d.Variants {
			variants = append(variants, v.Name+" "+v.Node+" "+v.TimeDimension+" "+short(v.Step))
		}
		if got := fmt.Sprintf("%s depth %d: %s", d.Dataset, d.Depth, strings.Join(variants, ", ")); got != text {
			t.Errorf("got  %s\nwant %s", got, text)
		}
	}
	if _, err := Load(nil, Options{HTTPSize: 10 * time.Minute}); err == nil || !strings.Contains(err.Error(), "size is 10m; it must be one of") {
		t.Errorf("a size that Cloudflare cannot express: %v", err)
	}
}

const asn = `
datasets:
  - name: asn_1h
    description: HTTP traffic by network
    scope: zone
    sizes: [1h]
    depth: 6
    level: cloudflare_zone_requests_by_network
    families:
      - {name: cloudflare_zone_requests_by_network, help: Requests by network., labels: [asn]}
    limits:
      cloudflare_zone_requests_by_network: {top: 10}
    variants:
      - name: adaptive
        node: httpRequestsAdaptiveGroups
        filter_field: datetime
        times: {1h: datetimeHour}
        sampled: true
        interval: avg.sampleInterval
        filter: {requestSource: eyeball, edgeResponseStatus_in: [200, 404]}
        dimensions: [clientAsn]
        rows: 1000
        measures:
          - {family: cloudflare_zone_requests_by_network, field: count, labels: {asn: clientAsn}}
`

func TestUserFileAddsAndOverrides(t *testing.T) {
	c := load(t, asn+`
  - name: http
    depth: 12
    delay: 10m
    drop: [cloudflare_zone_threats]
    limits:
      cloudflare_zone_requests_by_status: {top: 5, other: rest, deny: [499]}
  - name: uniques_1d
    enabled: false
  - name: countries_1h
    limits:
      cloudflare_zone_requests_by_country: {top: 50}
`, Options{HTTPSize: time.Minute, Disable: []string{"content_types_1h"}})
	if diff := cmp.Diff([]string{"asn_1h", "countries_1h", "http_1m", "uniques_1h"}, ids(c.Datasets)); diff != "" {
		t.Errorf("datasets (-want +got):\n%s", diff)
	}
	http := c.Find("http_1m")
	if http.Depth != 12 || http.Delay != 10*time.Minute || http.Deadline != 25*time.Minute {
		t.Errorf("http: depth %d, delay %s, deadline %s; want 12, 10m, and the deadline to follow the delay", http.Depth, http.Delay, http.Deadline)
	}
	if http.family("cloudflare_zone_threats") >= 0 || slices.Contains(http.Variants[0].Fields(), "sum_threats") {
		t.Error("a dropped family is still there, or still asked for")
	}
	if got, want := http.Limits["cloudflare_zone_requests_by_status"], (Limit{Top: 5, Other: "rest", Deny: []string{"499"}}); !cmp.Equal(got, want) {
		t.Errorf("limit is %+v, want %+v", got, want)
	}
	countries := c.Find("countries_1h")
	if countries.Limits["cloudflare_zone_requests_by_country"].Top != 50 || countries.Limits["cloudflare_zone_bytes_by_country"].Top != 20 {
		t.Errorf("limits are %+v; want only the named one changed", countries.Limits)
	}
	if filter := c.Find("asn_1h").Variants[0].Filter; !cmp.Equal(filter, map[string]any{"requestSource": "eyeball", "edgeResponseStatus_in": []any{int64(200), int64(404)}}) {
		t.Errorf("filter is %#v", filter)
	}
}

func TestEnableAndDisable(t *testing.T) {
	c := load(t, strings.Replace(asn, "scope: zone", "scope: zone\n    enabled: false", 1), Options{})
	if c.Find("asn_1h") != nil || !slices.Contains(ids(c.Available), "asn_1h") {
		t.Errorf("collected %v of %v; want asn_1h available, not collected", ids(c.Datasets), ids(c.Available))
	}
	c = load(t, strings.Replace(asn, "scope: zone", "scope: zone\n    enabled: false", 1), Options{Enable: []string{"asn_1h"}, Disable: []string{"http_5m"}})
	if c.Find("asn_1h") == nil || c.Find("http_5m") != nil {
		t.Errorf("collected %v; want asn_1h and not http_5m", ids(c.Datasets))
	}
	_, err := Load(nil, Options{Enable: []string{"nope", "http"}, Disable: []string{"http"}})
	for _, want := range []string{`settings: dataset "nope" is not in the catalogue; known are`, `settings: dataset "http" is both enabled and disabled`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want one that says %q", err, want)
		}
	}
}

// A profile is a set of datasets, which a file and the settings change.
func TestProfiles(t *testing.T) {
	available := len(load(t, "", Options{}).Available)
	all := load(t, "", Options{Profile: AllProfile})
	if len(all.Datasets) != available {
		t.Errorf("profile all has %d datasets of %d", len(all.Datasets), available)
	}
	peer := load(t, "", Options{Profile: LablabsProfile})
	for _, name := range lablabs {
		if !slices.ContainsFunc(peer.Datasets, func(d Dataset) bool { return d.Name == name }) {
			t.Errorf("profile lablabs names %s, which is no dataset", name)
		}
	}
	if want := len(lablabs) + len(load(t, "", Options{Profile: DefaultProfile}).Datasets); len(peer.Datasets) != want {
		t.Errorf("profile lablabs has %d datasets, want %d", len(peer.Datasets), want)
	}
	c := load(t, "datasets: [{name: asns, enabled: false}]", Options{Profile: LablabsProfile, Disable: []string{"http"}, Enable: []string{"methods_5m"}})
	if c.Find("asns_1h") != nil || c.Find("http_5m") != nil || c.Find("methods_5m") == nil || c.Find("colo_hosts_1h") == nil {
		t.Errorf("collected %v", ids(c.Datasets))
	}
	_, err := Load(nil, Options{Profile: "most"})
	if err == nil || !strings.Contains(err.Error(), `settings: profile is "most"; it must be one of default, lablabs, all`) {
		t.Errorf("an unknown profile: %v", err)
	}
}

// One pass names every problem, each with its line.
func TestProblems(t *testing.T) {
	for name, tc := range map[string]struct {
		yaml string
		want []string
	}{
		"many at once": {
			`datasets:
  - name: asn_1h
    depht: typo
    scope: galaxy
    sizes: [1h, 7m]
    confirm: yes
  - name: http
    detph: 3
    delay: soon
    size: 1m
  - name: http
`, []string{
				`user.yaml:3: dataset asn_1h has unknown key "depht"; known are confidence, confirm, deadline, delay, depth`,
				`user.yaml:4: dataset asn_1h: scope is "galaxy"; it must be zone or account`,
				`user.yaml:6: dataset asn_1h: confirm is "yes"; it must be a whole number`,
				`user.yaml:8: dataset http has unknown key "detph"`,
				`user.yaml:9: dataset http: delay is "soon"; it must be a duration`,
				`user.yaml:11: dataset http is declared twice`,
				`dataset asn_1h: needs a description`,
				`dataset asn_1h: needs families`,
				`user.yaml:5: dataset asn_1h: sizes element is "7m"; it must be one of 1m, 5m, 15m, 30m, 1h, 1d`,
				`size of dataset http is 1m, but the setting CF_BUCKET_SECONDS makes it 5m`,
			},
		},
		"not YAML":          {"datasets: [", []string{"user.yaml:1: not YAML"}},
		"empty":             {"", []string{"user.yaml:1: file is empty; it must be an object"}},
		"comments alone":    {"# datasets:\n---\n", []string{"file is empty"}},
		"long family":       {strings.ReplaceAll(asn, "requests_by_network", strings.Repeat("a", 200)), []string{"user.yaml:", "family name is", "at most 200"}},
		"not UTF-8":         {strings.Replace(asn, "HTTP traffic", "HTTP \xff\xfe", 1), []string{"user.yaml:4: not YAML: it is not UTF-8"}},
		"control":           {strings.Replace(asn, "Requests by network.", `"a\u0000b"`, 1), []string{`user.yaml:10: dataset asn_1h: family cloudflare_zone_requests_by_network: help is "a\x00b"; it must be one line of text, at most 1000 characters`}},
		"long help":         {strings.Replace(asn, "Requests by network.", strings.Repeat("x", 1001), 1), []string{"it must be one line of text, at most 1000 characters"}},
		"long label":        {strings.NewReplacer("[asn]", "["+strings.Repeat("a", 64)+"]", "{asn: ", "{"+strings.Repeat("a", 64)+": ").Replace(asn), []string{"it must match ^[a-z][a-z0-9_]{0,62}$"}},
		"unfed family":      {strings.Replace(asn, "    limits:", "      - {name: cloudflare_zone_unfed, help: Nothing.}\n    limits:", 1), []string{"user.yaml:11: dataset asn_1h: family cloudflare_zone_unfed has no measure in any variant, so it would have no data"}},
		"calls":             {strings.Replace(asn, "rows: 1000", "rows: 1000\n        calls: 2", 1), []string{"variant adaptive: calls is 2; it is for states, which are read with the REST API"}},
		"a list":            {"- a", []string{"file is a list; it must be an object"}},
		"two documents":     {"datasets: []\n---\ndatasets: []", []string{"second document"}},
		"anchors":           {"datasets: &a []", []string{"anchor"}},
		"nameless":          {"datasets:\n  - enabled: true", []string{"user.yaml:2: dataset has no name"}},
		"nothing at all":    {"datasets:", []string{"datasets is empty; it must be a list"}},
		"scope changed":     {"datasets: [{name: http, scope: account}]", []string{"is about a zone; that cannot be changed"}},
		"depth":             {"datasets: [{name: http, depth: 31}, {name: countries_1h, depth: 2}]", []string{"depth is 31; it must be 3", "depth is 2; it must be 3"}},
		"delay":             {"datasets: [{name: http, delay: 10s}]", []string{"delay is 10s; it must be whole seconds from 1m to 24h"}},
		"deadline":          {"datasets: [{name: http, deadline: 1m}]", []string{"deadline is 1m0s; it must not be before the delay"}},
		"late deadline":     {"datasets: [{name: http, deadline: 200h}]", []string{"deadline is 200h0m0s; it must not be before the delay, 5m0s, and at most 7d"}},
		"limit of nothing":  {strings.Replace(asn, "{top: 10}", "{only: {asn: [a, b]}, deny: [a], except: {asn: [b]}}", 1), []string{"user.yaml:12: dataset asn_1h: limit of cloudflare_zone_requests_by_network keeps nothing: only has no value of label \"asn\" that neither deny nor except has"}},
		"limit of no value": {strings.Replace(asn, "{top: 10}", "{only: {asn: []}}", 1), []string{"keeps nothing: only has no value of label \"asn\""}},
		"allowed, denied":   {strings.Replace(asn, "{top: 10}", "{allow: [a], deny: [a]}", 1), []string{"keeps nothing: deny has all values of allow"}},
		"drop level":        {"datasets: [{name: http, drop: [cloudflare_zone_requests, nope]}]", []string{"is the level and has to stay", `drop names "nope"`}},
		"limit":             {"datasets: [{name: http, limits: {nope: {top: 1}, cloudflare_zone_bytes: {top: 2000, other: ''}, cloudflare_zone_requests_by_status: {by: cloudflare_zone_bytes}}}]", []string{`limit for "nope"`, "limit for cloudflare_zone_bytes, which has one series", "limit cloudflare_zone_bytes: top is 2000; it must be 0 to 1000", `limit cloudflare_zone_bytes: other is ""; it must not be empty`, "ranks by"}},
		"duplicate family":  {strings.ReplaceAll(asn, "requests_by_network", "requests_by_country"), []string{"family cloudflare_zone_requests_by_country belongs to the datasets"}},
		"peer's name":       {strings.ReplaceAll(asn, "requests_by_network", "requests_asn"), []string{"family cloudflare_zone_requests_asn is a counter of lablabs/cloudflare-exporter"}},
		"counter's name":    {strings.ReplaceAll(asn, "requests_by_network", "requests_by_network_total"), []string{"ends in _total, but every family is a gauge"}},
		"late's name":       {strings.ReplaceAll(asn, "requests_by_network", "requests_late"), []string{"ends in _late; such names are for the counters"}},
		"foreign name":      {strings.ReplaceAll(asn, "cloudflare_zone_requests_by_network", "weir_requests"), []string{`family weir_requests: name is "weir_requests"; it must match`}},
		"wrong scope":       {strings.ReplaceAll(asn, "scope: zone", "scope: account"), []string{"its name must begin with cloudflare_account_"}},
		"unit":              {strings.Replace(asn, "labels: [asn]}", "labels: [asn], unit: bytes}", 1), []string{"OpenMetrics wants its name to end in _bytes"}},
		"reserved label":    {strings.ReplaceAll(asn, "[asn]", "[zone]"), []string{`has label "zone"`}},
		"label mismatch":    {strings.Replace(asn, "{asn: clientAsn}", "{as: clientAsn}", 1), []string{`gives label "as"; the family has [asn]`}},
		"unknown family":    {strings.Replace(asn, "- {family: cloudflare_zone_requests_by_network", "- {family: nope", 1), []string{"measure of nope: is not a family", "does not feed the level"}},
		"no dimension":      {strings.Replace(asn, "[clientAsn]", "[clientCountryName]", 1), []string{"which is not a dimension of the variant"}},
		"unsampled":         {strings.NewReplacer("interval: avg.sampleInterval", "", "httpRequestsAdaptiveGroups", "otherGroups").Replace(asn), []string{"is sampled and needs interval"}},
		"time filter":       {strings.Replace(asn, "requestSource: eyeball", "datetime_geq: x", 1), []string{"times are filtered by the planner alone"}},
		"not additive": {
			strings.NewReplacer("labels: [asn]}", "labels: [asn], additive: false}", "{1h: datetimeHour}", "{15m: datetimeFifteenMinutes}", "[clientAsn]", "[clientAsn, coloCode]").Replace(asn),
			[]string{"groups of 15m make buckets of 1h, but family cloudflare_zone_requests_by_network cannot be added up", "dimension coloCode must be one of its labels"},
		},
		"no variant fits":    {strings.NewReplacer("{1h: datetimeHour}", "{1d: date}").Replace(asn), []string{"no variant can ask at size 1h"}},
		"rows":               {strings.Replace(asn, "rows: 1000", "rows: 0", 1), []string{"rows is 0; it must be 1 to 10000"}},
		"other size in name": {strings.ReplaceAll(asn, "asn_1h", "asn_5m"), []string{"name ends in _5m, so sizes must be [5m]"}},
		"bad variant": {
			strings.NewReplacer("name: adaptive", "name: A", "node: httpRequestsAdaptiveGroups", "node: 'x{y}'", "filter_field: datetime", "filter_field: date").Replace(asn),
			[]string{`variant A: name is "A"`, `variant A: node is "x{y}"; it must be a GraphQL name`, "groups of 1h by a date"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load([]byte(tc.yaml), Options{File: "user.yaml"})
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error does not say %q:\n%v", want, err)
				}
			}
		})
	}
}

// Names and help texts pass Prometheus's own linter, and no name is one that
// the best-known exporters use for something else.
func TestFamilyNames(t *testing.T) {
	for _, d := range load(t, "", Options{RequestSource: AllSources}).Available {
		for _, f := range d.Families {
			if p, ok := peers[f.Name]; ok {
				t.Errorf("family %s is a %s of %s", f.Name, p.kind, p.by)
			}
			counter := f.Name + "_total"
			if p, ok := peers[counter]; ok && f.Additive && (p.kind != "counter" || !slices.Contains(peerCounters, counter)) {
				t.Errorf("counter %s is a %s of %s; if it means the same, say so here", counter, p.kind, p.by)
			}
			problems, err := promlint.NewWithMetricFamilies([]*dto.MetricFamily{{
				Name: &f.Name, Help: &f.Help, Type: dto.MetricType_GAUGE.Enum(), Unit: &f.Unit,
				Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: new(float64)}}},
			}}).Lint()
			if err != nil || len(problems) > 0 {
				t.Errorf("family %s: %v %v", f.Name, problems, err)
			}
		}
	}
	if len(peers) < 100 || peers["cloudflare_zone_requests_cached"].by != "lablabs/cloudflare-exporter and cloudflare/cloudflare-prometheus-exporter" {
		t.Errorf("the list of peers has %d names and looks wrong", len(peers))
	}
}

func TestMissingAndWithout(t *testing.T) {
	v := &load(t, "", Options{}).Find("http_5m").Variants[0]
	all := v.Fields()
	if !slices.IsSorted(all) || !slices.Contains(all, "dimensions_datetimeFiveMinutes") || !slices.Contains(all, "sum_responseStatusMap_requests") {
		t.Errorf("fields are %v", all)
	}
	if m := v.Missing(nil); m != nil {
		t.Errorf("without a list, %v are missing; nothing is known", m)
	}
	available := slices.DeleteFunc(slices.Clone(all), func(f string) bool { return strings.Contains(f, "Map_") || f == "sum_threats" })
	if m := v.Missing(append(available, "sum_responseStatusMap")); !cmp.Equal(m, []string{"sum_threats"}) {
		t.Errorf("missing %v, want sum_threats alone: the map grants its fields", m)
	}
	less := v.Without([]string{"SUM_THREATS"})
	if less == nil || len(less.Measures) != len(v.Measures)-1 || slices.Contains(less.Fields(), "sum_threats") {
		t.Errorf("without threats: %+v", less)
	}
	if v.Without([]string{"sum_visits"}) != v || v.Without([]string{"sum_bytes"}) != nil {
		t.Error("want the variant itself when nothing is refused, and none when something necessary is")
	}
	// A roll-up is exact: it can do without saying so. A sampled node cannot.
	adaptive := &load(t, "", Options{}).Find("http_5m").Variants[1]
	if less := v.Without([]string{"avg_sampleInterval"}); less == nil || less.Interval != "" || v.Interval == "" {
		t.Errorf("roll-up without its interval: %+v", less)
	}
	if adaptive.Without([]string{"avg_sampleInterval"}) != nil {
		t.Error("a sampled variant does without its interval")
	}
	// A plan that lacks a dimension lacks the filter by it. What nothing selects may be in no list.
	c := load(t, "", Options{Enable: []string{"bot_countries"}})
	filtered := &c.Find("bot_countries_1h").Variants[0]
	if m := filtered.Missing(filtered.Fields()); !cmp.Equal(m, []string{"dimensions_botScore"}) || filtered.Without(m) != nil {
		t.Errorf("a variant with the filter %v lacks %v of a plan with its fields alone", filtered.Filter, m)
	}
	if v := filtered; v.Without(v.Missing(append(v.Fields(), "dimensions_botScore"))) != v {
		t.Error("a variant whose filter the plan includes is refused")
	}
}

// The settings' delay has to fit what is collected, at its size, and nothing else.
func TestTheDelayFitsWhatIsCollected(t *testing.T) {
	for _, test := range []struct {
		options Options
		want    string // datasets and the most that each allows
	}{
		{Options{Delay: 140 * time.Minute}, ""},
		{Options{Delay: 140*time.Minute + time.Second}, "http_5m 2h20m0s"},
		{Options{Delay: 140 * time.Minute, StartTimestamps: true}, "http_5m 2h15m0s"},
		{Options{Delay: 28 * time.Minute, HTTPSize: time.Minute}, ""},
		{Options{Delay: 29 * time.Minute, HTTPSize: time.Minute}, "http_1m 28m0s"},
		{Options{Delay: 5 * time.Hour, HTTPSize: time.Hour}, "content_types_1h 4h0m0s, countries_1h 4h0m0s"},
		{Options{Delay: 5 * time.Hour, HTTPSize: time.Hour, Disable: []string{"countries_1h", "content_types_1h"}}, ""},
		{Options{Delay: 24 * time.Hour, HTTPSize: 24 * time.Hour, Disable: []string{"countries_1h", "content_types_1h", "uniques_1h"}}, ""},
	} {
		var got []string
		_, err := Load(nil, test.options)
		if err != nil {
			for _, e := range errors.Unwrap(err).(interface{ Unwrap() []error }).Unwrap() {
				d := new(DelayError)
				if !errors.As(e, &d) {
					t.Errorf("%+v: %v", test.options, e)
					continue
				}
				got = append(got, fmt.Sprint(d.Dataset, " ", d.Most))
			}
		}
		slices.Sort(got)
		if strings.Join(got, ", ") != test.want {
			t.Errorf("%+v: %q, want %q", test.options, got, test.want)
		}
	}
}
