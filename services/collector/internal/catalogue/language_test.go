package catalogue

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
)

// latency has one measure of each kind.
const latency = `
datasets:
  - name: latency
    description: Requests and durations by path
    scope: zone
    size: 1h
    depth: 6
    level: cloudflare_zone_latency_requests
    families:
      - {name: cloudflare_zone_latency_requests, help: Requests., labels: [host, score]}
      - {name: cloudflare_zone_latency_bytes, help: Bytes., unit: bytes}
      - {name: cloudflare_zone_latency_average_seconds, help: Duration., unit: seconds, labels: [score], additive: false}
      - {name: cloudflare_zone_latency_longest_seconds, help: Duration., unit: seconds, labels: [], additive: false}
      - {name: cloudflare_zone_latency_requests_by_path, help: Requests., labels: [path]}
    values:
      - {label: score, from: [1..29, "0"], to: low}
      - {label: score, from: ["*"], to: high}
    limits:
      cloudflare_zone_latency_requests: {top: 2, only: {score: [low, high]}, except: {host: [hidden]}}
    variants:
      - name: adaptive
        node: testGroups
        filter_field: datetime
        times: {15m: datetimeFifteenMinutes, 1h: datetimeHour}
        filter: {cacheStatus_notin: [hit], edgeResponseStatus_geq: 400}
        dimensions: [host, score, path]
        rows: 100
        measures:
          - {family: cloudflare_zone_latency_requests, field: count, labels: {host: host, score: score}}
          - {family: cloudflare_zone_latency_bytes, field: sum.bits, scale: bits}
          - {family: cloudflare_zone_latency_average_seconds, field: avg.durationMs, weight: count, scale: ms, labels: {score: score}}
          - {family: cloudflare_zone_latency_longest_seconds, field: max.durationUs, join: max, scale: us}
          - {family: cloudflare_zone_latency_requests_by_path, field: count, labels: {path: path(path)}}
`

func TestFoldStatistics(t *testing.T) {
	d := load(t, latency, Options{}).Find("latency_1h")
	list := groups(t, `[
	 {"dimensions":{"datetimeHour":"2026-11-22T10:00:00Z","host":"a","score":1,"path":"/user/17?x=1"},"count":10,"sum":{"bits":81},"avg":{"durationMs":100},"max":{"durationUs":7}},
	 {"dimensions":{"datetimeHour":"2026-11-22T10:00:00Z","host":"a","score":29,"path":"/user/18"},"count":30,"sum":{"bits":8},"avg":{"durationMs":200.5},"max":{"durationUs":2500000}},
	 {"dimensions":{"datetimeHour":"2026-11-22T10:00:00Z","host":"b","score":30,"path":"/"},"count":5,"sum":{"bits":0},"avg":{"durationMs":-1},"max":{"durationUs":null}},
	 {"dimensions":{"datetimeHour":"2026-11-22T10:00:00Z","host":"hidden","score":0,"path":""},"count":1000,"sum":{"bits":1},"avg":{"durationMs":300},"max":{"durationUs":3}}]`)
	w := bucket.Window{Start: at10(0), End: at10(60)}
	want := map[string]float64{
		"cloudflare_zone_latency_requests[a low]": 40, "cloudflare_zone_latency_requests[b high]": 5, "cloudflare_zone_latency_requests[other other]": 1000,
		"cloudflare_zone_latency_bytes[]":                     11.25,
		"cloudflare_zone_latency_average_seconds[low]":        (10*100 + 30*200.5 + 1000*300) / 1040. / 1000,
		"cloudflare_zone_latency_longest_seconds[]":           2.5,
		"cloudflare_zone_latency_requests_by_path[/user/:id]": 40,
		"cloudflare_zone_latency_requests_by_path[/]":         5,
		"cloudflare_zone_latency_requests_by_path[unknown]":   1000,
	}
	for range 2 {
		got, err := d.Fold(&d.Variants[0], w, list)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, flatten(got[0])); diff != "" {
			t.Errorf("rows (-want +got):\n%s", diff)
		}
		slices.Reverse(list) // the order of groups changes nothing
	}
	// A statistic of no events has no row, not a zero.
	got, err := d.Fold(&d.Variants[0], w, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]float64{"cloudflare_zone_latency_bytes[]": 0}, flatten(got[0])); diff != "" {
		t.Errorf("rows of a window without groups (-want +got):\n%s", diff)
	}
}

const quantiles = `
datasets:
  - name: quantiles
    description: Durations by host
    scope: zone
    size: 1h
    depth: 6
    level: cloudflare_zone_quantile_requests
    families:
      - {name: cloudflare_zone_quantile_requests, help: Requests., labels: [host]}
      - {name: cloudflare_zone_quantile_seconds, help: Duration., unit: seconds, labels: [host, quantile], additive: false}
    limits:
      cloudflare_zone_quantile_requests: {top: 1}
      cloudflare_zone_quantile_seconds: {top: 1, by: cloudflare_zone_quantile_requests}
    variants:
      - name: adaptive
        node: testGroups
        filter_field: datetime
        times: {1h: datetimeHour}
        dimensions: [host]
        rows: 100
        measures:
          - {family: cloudflare_zone_quantile_requests, field: count, labels: {host: host}}
          - {family: cloudflare_zone_quantile_seconds, field: quantiles.durationMs, quantiles: [0.5, 0.95, 0.999], scale: ms, labels: {host: host}}
`

// The quantiles of a series are kept together, ranked by another family, and dropped, not
// summed, beyond the limit.
func TestFoldQuantiles(t *testing.T) {
	d := load(t, quantiles, Options{}).Find("quantiles_1h")
	v := &d.Variants[0]
	if got, want := d.Selection(v).Fields, []string{"count", "quantiles.durationMsP50", "quantiles.durationMsP95", "quantiles.durationMsP999"}; !slices.Equal(got, want) {
		t.Errorf("fields are %v, want %v", got, want)
	}
	group := func(host string, count, p string) string {
		return `{"dimensions":{"datetimeHour":"2026-11-22T10:00:00Z","host":"` + host + `"},"count":` + count + `,"quantiles":{"durationMsP50":` + p + `,"durationMsP95":` + p + `0,"durationMsP999":-1}}`
	}
	w := bucket.Window{Start: at10(0), End: at10(60)}
	got, err := d.Fold(v, w, groups(t, "["+group("slow", "1", "9")+","+group("busy", "2", "3")+"]"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{
		"cloudflare_zone_quantile_requests[busy]": 2, "cloudflare_zone_quantile_requests[other]": 1,
		"cloudflare_zone_quantile_seconds[busy 0.5]": 0.003, "cloudflare_zone_quantile_seconds[busy 0.95]": 0.03,
	}
	if diff := cmp.Diff(want, flatten(got[0])); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	for name, tc := range map[string]struct{ group, want string }{
		"text":    {strings.Replace(group("a", "1", "9"), ":9,", `:"x",`, 1), "is a string; it must be a number"},
		"missing": {strings.Replace(group("a", "1", "9"), "durationMsP95", "durationMsP90", 1), "durationMsP95] is missing"},
		"huge":    {group("a", "1", "1e999"), "must be a finite number"},
	} {
		if _, err := d.Fold(v, w, groups(t, "["+tc.group+"]")); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error is %v, want one that says %q", name, err, tc.want)
		}
	}
}

func TestPathPattern(t *testing.T) {
	for path, want := range map[string]string{
		"":                  "",
		"/":                 "/",
		"/users/12345/edit": "/users/:id/edit",
		"/a/?token=secret":  "/a/",
		"/o/6ba7b810-9dad-11d1-80b4-00c04fd430c8": "/o/:uuid",
		"/static/0123456789abcdef0123.js":         "/static/0123456789abcdef0123.js",
		"/blob/0123456789abcdef":                  "/blob/:hex",
		"/cafe":                                   "/cafe",
		"/1/2/3/4/5/6/7/8/9/x":                    "/:id/:id/:id/:id/:id/:id/:id/:id/...",
	} {
		if got := pathPattern(path); got != want {
			t.Errorf("pattern of %q is %q, want %q", path, got, want)
		}
	}
}

// Every mistake in what is new here is refused, with its place and what would be right.
func TestLanguageProblems(t *testing.T) {
	for name, tc := range map[string]struct{ of, old, now, want string }{
		"scale without unit":         {latency, "sum.bits, scale: bits", "sum.bits, scale: ms", `user.yaml:30: dataset latency: variant adaptive: measure of cloudflare_zone_latency_bytes: scale ms converts to seconds; the family has unit "bytes"`},
		"unknown scale":              {latency, "scale: bits", "scale: furlongs", "scale is \"furlongs\"; it must be one of ns, us, ms, minutes, bits, percent"},
		"field in milliseconds":      {latency, "weight: count, scale: ms", "weight: count", "field avg.durationMs is in ms; it must be scale: ms"},
		"field in microseconds":      {latency, "join: max, scale: us", "join: max, scale: ms", "field max.durationUs is in us; it must be scale: us"},
		"name in milliseconds":       {latency, "cloudflare_zone_latency_average_seconds, help: Duration., unit: seconds", "cloudflare_zone_latency_average_ms, help: Duration.", "family cloudflare_zone_latency_average_ms is in ms; the base unit is seconds"},
		"unit in bits":               {latency, "unit: bytes", "unit: bits", "is in bits; the base unit is bytes"},
		"unit not said":              {latency, ", unit: bytes", "", "family cloudflare_zone_latency_bytes ends in _bytes and has no unit; it must be unit: bytes"},
		"average that adds up":       {latency, "labels: [score], additive: false", "labels: [score]", "field avg.durationMs is a statistic, so the family must be additive: false"},
		"distinct that adds up":      {latency, "field: sum.bits, scale: bits", "field: uniq.bits, scale: bits", "field uniq.bits is a distinct count, so the family must be additive: false"},
		"average without weight":     {latency, "weight: count, ", "", "the family is not additive, so dimension host must be one of its labels"},
		"average of replaced values": {latency, "weight: count, ", "", "the family is not additive, so values of label score cannot be replaced"},
		"weight of an amount":        {latency, "field: sum.bits,", "field: sum.bits, weight: count,", "field sum.bits is an amount; weight, join and quantiles are for statistics"},
		"weight that is an average":  {latency, "weight: count", "weight: avg.x", "weight is avg.x, which is a statistic; it must be an amount, such as count"},
		"weight of a maximum":        {latency, "join: max", "weight: count", "field max.durationUs has a weight; only averages, ratios and dimensions are joined by weight"},
		"value of no dimension":      {latency, "max.durationUs, join: max, scale: us", "dimensions.rtt, join: max", "field is dimensions.rtt; rtt must be a dimension of the variant"},
		"weight and join":            {latency, "weight: count", "weight: count, join: min", "has weight and join min; groups are joined in one way"},
		"unknown join":               {latency, "join: max", "join: median", `join is "median"; it must be max or min`},
		"scaled level":               {latency, "field: count, labels: {host: host, score: score}", "field: count, scale: bits, labels: {host: host, score: score}", "is the level, which is compared as Cloudflare reports it"},
		"parts of count":             {latency, "requests, field: count", "requests, field: count.x", "field is count.x; it must be count, which has no parts"},
		"container as field":         {latency, "field: sum.bits, scale: bits", "field: sum, scale: bits", "field is sum; it must be a path such as sum.requests"},
		"bounds as field":            {latency, "field: sum.bits,", "field: confidence.sum.bits.lower,", "field is confidence.sum.bits.lower; the bounds of estimates come with confidence of the dataset"},
		"values after all":           {latency, "- {label: score, from: [1..29, \"0\"], to: low}", "- {label: score, from: [\"*\"], to: low}", "user.yaml:17: dataset latency: values of label \"score\": * before it replaces every value; it must be the last of its label"},
		"unknown function":           {latency, "path(path)", "upper(path)", `labels path is "upper(path)"; it must be a field, class(field) or path(field)`},
		"values of no label":         {latency, `- {label: score, from: ["*"]`, `- {label: sore, from: ["*"]`, `user.yaml:17: dataset latency: values of label "sore", which no family of the dataset has`},
		"values from nothing":        {latency, `from: ["*"]`, `from: []`, "from is empty; it must be values, ranges such as 1..29, or *"},
		"values from a wrong range":  {latency, `from: [1..29, "0"]`, `from: [29..1]`, `from has the range "29..1"; it must be two whole numbers, the smaller first`},
		"values from no range":       {latency, `from: [1..29, "0"]`, `from: [a..z]`, `from has the range "a..z"`},
		"values to nothing":          {latency, "to: low", "to: ''", "must not be empty: Prometheus drops empty labels"},
		"only of no label":           {latency, "only: {score:", "only: {sore:", `limit of cloudflare_zone_latency_requests names label "sore"; it must be one of [host score]`},
		"unknown operator":           {latency, "edgeResponseStatus_geq", "edgeResponseStatus_ge", "filter edgeResponseStatus_ge ends in _ge; the operators are"},
		"operator of lists":          {latency, "cacheStatus_notin: [hit]", "cacheStatus_notin: hit", "filter cacheStatus_notin is hit; it must be a list"},
		"empty list":                 {latency, "cacheStatus_notin: [hit]", "cacheStatus_in: []", "filter cacheStatus_in is an empty list, which nothing matches"},
		"list without operator":      {latency, "cacheStatus_notin: [hit]", "cacheStatus: [hit]", "filter cacheStatus is a list; it must be one value, or the filter cacheStatus_in"},
		"one quantile":               {quantiles, "quantiles: [0.5, 0.95, 0.999], ", "", "field quantiles.durationMs is one quantile; it must be the path before P50 with quantiles"},
		"label without quantiles":    {quantiles, "quantiles: [0.5, 0.95, 0.999], ", "", "the family has the label quantile, so the measure needs quantiles"},
		"quantiles without label":    {quantiles, "labels: [host, quantile]", "labels: [host]", "has quantiles, so the last label of the family must be quantile; its labels are [host]"},
		"quantile not last":          {quantiles, "labels: [host, quantile]", "labels: [quantile, host]", `has label "quantile"; it must be none of`},
		"quantile that adds up":      {quantiles, "labels: [host, quantile], additive: false", "labels: [host, quantile]", `has label "quantile"; it must be none of`},
		"quantile above one":         {quantiles, "[0.5, 0.95, 0.999]", "[50]", `quantiles element is "50"; it must be a quantile between 0 and 1 without zeros at its end`},
		"quantile twice":             {quantiles, "[0.5, 0.95, 0.999]", "[0.5, 0.5]", "quantile 0.5 is there twice"},
		"quantiles of an average":    {quantiles, "quantiles.durationMs", "avg.durationMs", "quantiles of field avg.durationMs; the field must be a path such as quantiles.cpuTime"},
		"quantiles of several hours": {quantiles, "{1h: datetimeHour}", "{15m: datetimeFifteenMinutes}", "size is 1h; it must be one of 15m"},
		"quantiles joined":           {quantiles, "scale: ms", "scale: ms, join: max", "quantiles of several groups cannot be joined"},
		"quantiles ranked by itself": {quantiles, "top: 1, by: cloudflare_zone_quantile_requests", "top: 1", "quantiles do not rank rows, so by must name a family with labels [host]"},
		"ranked by other labels":     {quantiles, "by: cloudflare_zone_quantile_requests", "by: cloudflare_zone_quantile_seconds", "that must be a family of the dataset, not dropped, with labels [host]"},
		"counter of a peer":          {quantiles, "cloudflare_zone_quantile_requests", "cloudflare_zone_uniques", "the counter of family cloudflare_zone_uniques, cloudflare_zone_uniques_total, has the name of a counter of"},
		"families of a built-in":     {"datasets: [{name: http, x}]", "x", "families: []", "user.yaml:1: dataset http is built in, so families cannot be changed"},
		"measures of a built-in":     {"datasets: [{name: http, x}]", "x", "measures: [{family: cloudflare_zone_requests, field: sum.bytes}]", "dataset http is built in, so measures cannot be changed"},
		"variants of a built-in":     {"datasets: [{name: http, x}]", "x", "variants: []", "dataset http is built in, so variants cannot be changed"},
		"values of a built-in":       {"datasets: [{name: http, x}]", "x", "values: [{label: status, from: ['404'], to: lost}]", "dataset http is built in, so values cannot be changed"},
		"level of a built-in":        {"datasets: [{name: http, x}]", "x", "level: cloudflare_zone_bytes", "dataset http is built in, so level cannot be changed"},
		"summed":                     {latency, "cloudflare_zone_latency_requests_by_path", "cloudflare_zone_latency_requests_summed", "ends in _summed, but every family is a gauge"},
	} {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(tc.of, tc.old) {
				t.Fatalf("%q is not in the example", tc.old)
			}
			_, err := Load([]byte(strings.ReplaceAll(tc.of, tc.old, tc.now)), Options{File: "user.yaml"})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error does not say %q:\n%v", tc.want, err)
			}
		})
	}
}

// Sizes follow from what can be joined: an average with a weight is made of shorter groups,
// quantiles are not.
func TestSizesOfStatistics(t *testing.T) {
	text := strings.Replace(quantiles, "{1h: datetimeHour}", "{15m: datetimeFifteenMinutes, 1h: datetimeHour}", 1)
	if d := load(t, text, Options{}).Find("quantiles_1h"); !slices.Equal(d.Sizes, []time.Duration{15 * time.Minute, time.Hour}) {
		t.Errorf("quantiles can be collected at %v", d.Sizes)
	}
	if d := load(t, latency, Options{}).Find("latency_1h"); !slices.Contains(d.Sizes, 24*time.Hour) {
		t.Errorf("averages can be collected at %v", d.Sizes)
	}
}

// A level that is a statistic is the sum of the joined rows, as it is stored: what settling compares
// readings with, and what a new leader restores.
func TestLevelOfStatistics(t *testing.T) {
	text := strings.Replace(latency, "level: cloudflare_zone_latency_requests\n", "level: cloudflare_zone_latency_longest\n", 1)
	text = strings.Replace(text, "{name: cloudflare_zone_latency_longest_seconds, help: Duration., unit: seconds, labels: [], additive: false}", "{name: cloudflare_zone_latency_longest, help: Size., labels: [host], additive: false}", 1)
	text = strings.Replace(text, "{family: cloudflare_zone_latency_longest_seconds, field: max.durationUs, join: max, scale: us}", "{family: cloudflare_zone_latency_longest, field: max.size, join: max, labels: {host: host}}", 1)
	d := load(t, text, Options{}).Find("latency_1h")
	group := func(host, path, size string) string {
		return `{"dimensions":{"datetimeHour":"2026-11-22T10:00:00Z","host":"` + host + `","score":1,"path":"` + path + `"},"count":1,"sum":{"bits":8},"avg":{"durationMs":1},"max":{"size":` + size + `}}`
	}
	got, err := d.Fold(&d.Variants[0], bucket.Window{Start: at10(0), End: at10(60)}, groups(t, "["+group("a", "/x", "7")+","+group("a", "/y", "40")+","+group("b", "/x", "2")+"]"))
	if err != nil {
		t.Fatal(err)
	}
	if got[0].Level != 42 {
		t.Errorf("level is %v, want 42, the sum of 40 and 2", got[0].Level)
	}
}
