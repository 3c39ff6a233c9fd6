package catalogue

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
)

// bounded has families with and without bounds.
const bounded = `
datasets:
  - name: bounded
    description: Requests by host
    scope: zone
    size: 1h
    depth: 6
    level: cloudflare_zone_bounded_requests_by_host
    confidence: 0.95
    families:
      - {name: cloudflare_zone_bounded_requests_by_host, help: Requests., labels: [host]}
      - {name: cloudflare_zone_bounded_bytes, help: Bytes., unit: bytes, labels: [host]}
      - {name: cloudflare_zone_bounded_requests, help: Requests.}
      - {name: cloudflare_zone_bounded_average_seconds, help: Duration., unit: seconds, labels: [host], additive: false}
    limits:
      cloudflare_zone_bounded_requests_by_host: {top: 2}
    variants:
      - name: adaptive
        node: testGroups
        filter_field: datetime
        times: {15m: datetimeFifteenMinutes, 1h: datetimeHour}
        sampled: true
        interval: avg.sampleInterval
        bounds: [count, sum]
        dimensions: [host]
        rows: 100
        measures:
          - {family: cloudflare_zone_bounded_requests_by_host, field: count, labels: {host: host}}
          - {family: cloudflare_zone_bounded_bytes, field: sum.bits, scale: bits, optional: true, labels: {host: host}}
          - {family: cloudflare_zone_bounded_requests, field: count}
          - {family: cloudflare_zone_bounded_average_seconds, field: avg.ms, labels: {host: host}}
`

// With confidence, families of which every row is one group have bounds, through a variant that
// is followed by the same one without.
func TestConfidenceAddsFamilies(t *testing.T) {
	d := load(t, bounded, Options{}).Find("bounded_1h")
	var got []string
	for _, f := range d.Families {
		got = append(got, f.Name)
		if bound := boundName.MatchString(f.Name); bound && (f.Additive || f.Role != bucket.Breakdown || !slices.Equal(f.Labels, []string{"host", "confidence"})) {
			t.Errorf("family of bounds: %+v", f)
		}
	}
	want := []string{
		"cloudflare_zone_bounded_requests_by_host", "cloudflare_zone_bounded_bytes", "cloudflare_zone_bounded_requests", "cloudflare_zone_bounded_average_seconds",
		"cloudflare_zone_bounded_requests_by_host_estimate_lower", "cloudflare_zone_bounded_requests_by_host_estimate_upper",
		"cloudflare_zone_bounded_estimate_lower_bytes", "cloudflare_zone_bounded_estimate_upper_bytes", SampleInterval,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("families (-want +got):\n%s", diff)
	}
	if len(d.Variants) != 2 || d.Variants[0].Name != "adaptive_confidence" || d.Variants[1].Name != "adaptive" || d.Variants[1].Level != "" {
		t.Fatalf("variants are %+v", d.Variants)
	}
	if got := d.notFed(&d.Variants[0]); got != nil {
		t.Errorf("the variant with bounds does not feed %v", got)
	}
	if s := d.Selection(&d.Variants[1]); s.Confidence != "" || slices.ContainsFunc(s.Fields, func(f string) bool { return strings.HasPrefix(f, "confidence") }) {
		t.Errorf("the variant without bounds selects %+v", s)
	}
	s := d.Selection(&d.Variants[0])
	wantFields := []string{
		"avg.ms", "avg.sampleInterval", "confidence.count.isValid", "confidence.count.lower", "confidence.count.upper",
		"confidence.sum.bits.isValid", "confidence.sum.bits.lower", "confidence.sum.bits.upper", "count", "sum.bits",
	}
	if diff := cmp.Diff(wantFields, s.Fields); diff != "" || s.Confidence != "0.95" {
		t.Errorf("level %q, fields (-want +got):\n%s", s.Confidence, diff)
	}
	if text := d.Markdown(); !strings.Contains(text, "Confidence intervals of the level 0.95") {
		t.Errorf("the description does not say so:\n%s", text)
	}
	if d.Variants[0].Same(&d.Variants[1]) {
		t.Error("one selection serves both variants")
	}
	if built := load(t, "datasets:\n  - {name: edge_responses, confidence: 0.9, enabled: true}\n", Options{}).Find("edge_responses_1h"); built == nil || built.Variants[0].Level != "0.9" {
		t.Errorf("a built-in dataset with confidence: %+v", built)
	}
}

// A row has bounds if it is one group with a valid interval, and none if it was summed into
// another.
func TestFoldConfidence(t *testing.T) {
	d := load(t, bounded, Options{}).Find("bounded_1h")
	list := groups(t, `[
	 {"dimensions":{"datetimeHour":"2026-11-22T10:00:00Z","host":"a"},"count":1000,"sum":{"bits":80},"avg":{"ms":1,"sampleInterval":10},
	  "confidence":{"count":{"isValid":true,"lower":900.5,"upper":1100.25},"sum":{"bits":{"isValid":true,"lower":8,"upper":800}}}},
	 {"dimensions":{"datetimeHour":"2026-11-22T10:00:00Z","host":""},"count":500,"sum":{"bits":8},"avg":{"ms":1,"sampleInterval":10},
	  "confidence":{"count":{"isValid":false,"lower":null,"upper":null},"sum":{"bits":{"isValid":true,"lower":-16,"upper":16}}}},
	 {"dimensions":{"datetimeHour":"2026-11-22T10:00:00Z","host":"other"},"count":20,"sum":{"bits":0},"avg":{"ms":1,"sampleInterval":10},
	  "confidence":{"count":{"isValid":true,"lower":10,"upper":30},"sum":{"bits":{"isValid":true,"lower":0,"upper":0}}}},
	 {"dimensions":{"datetimeHour":"2026-11-22T10:00:00Z","host":"b"},"count":10,"sum":{"bits":0},"avg":{"ms":1,"sampleInterval":10},
	  "confidence":{"count":{"isValid":true,"lower":1,"upper":20},"sum":{"bits":{"isValid":true,"lower":0,"upper":0}}}}]`)
	want := map[string]float64{
		"cloudflare_zone_bounded_requests_by_host[a]": 1000, "cloudflare_zone_bounded_requests_by_host[unknown]": 500, "cloudflare_zone_bounded_requests_by_host[other]": 30,
		"cloudflare_zone_bounded_bytes[a]": 10, "cloudflare_zone_bounded_bytes[unknown]": 1, "cloudflare_zone_bounded_bytes[other]": 0, "cloudflare_zone_bounded_bytes[b]": 0,
		"cloudflare_zone_bounded_requests[]":                              1530,
		"cloudflare_zone_bounded_requests_by_host_estimate_lower[a 0.95]": 900.5,
		"cloudflare_zone_bounded_requests_by_host_estimate_upper[a 0.95]": 1100.25,
		"cloudflare_zone_bounded_estimate_lower_bytes[a 0.95]":            1,
		"cloudflare_zone_bounded_estimate_upper_bytes[a 0.95]":            100,
		"cloudflare_zone_bounded_estimate_lower_bytes[unknown 0.95]":      0,
		"cloudflare_zone_bounded_estimate_upper_bytes[unknown 0.95]":      2,
		"cloudflare_zone_bounded_estimate_lower_bytes[other 0.95]":        0,
		"cloudflare_zone_bounded_estimate_upper_bytes[other 0.95]":        0,
		"cloudflare_zone_bounded_estimate_lower_bytes[b 0.95]":            0,
		"cloudflare_zone_bounded_estimate_upper_bytes[b 0.95]":            0,
		"cloudflare_sample_interval[bounded_1h]":                          10,
	}
	w := bucket.Window{Start: at10(0), End: at10(60)}
	for range 2 {
		got, err := d.Fold(&d.Variants[0], w, list)
		if err != nil {
			t.Fatal(err)
		}
		flat := flatten(got[0])
		for name := range flat {
			if strings.Contains(name, "average") {
				delete(flat, name)
			}
		}
		if diff := cmp.Diff(want, flat); diff != "" {
			t.Errorf("rows (-want +got):\n%s", diff)
		}
		if got[0].FoldedRows != 2 {
			t.Errorf("%d rows are counted as folded", got[0].FoldedRows)
		}
		slices.Reverse(list)
	}
	// Two of Cloudflare's values that are one label value are two groups in one row.
	double := slices.Concat(list[:1], groups(t, `[{"dimensions":{"datetimeHour":"2026-11-22T10:00:00Z","host":"unknown"},"count":1,"sum":{"bits":0},"avg":{"ms":-1,"sampleInterval":10},
	  "confidence":{"count":{"isValid":true,"lower":1,"upper":1},"sum":{"bits":{"isValid":true,"lower":0,"upper":0}}}},
	  {"dimensions":{"datetimeHour":"2026-11-22T10:00:00Z","host":""},"count":1,"sum":{"bits":0},"avg":{"ms":-1,"sampleInterval":10},
	  "confidence":{"count":{"isValid":true,"lower":1,"upper":1},"sum":{"bits":{"isValid":true,"lower":0,"upper":0}}}}]`))
	got, err := d.Fold(&d.Variants[0], w, double)
	if err != nil {
		t.Fatal(err)
	}
	for name := range flatten(got[0]) {
		if strings.Contains(name, "estimate") && strings.Contains(name, "unknown") {
			t.Errorf("a row of two groups has the bound %s", name)
		}
	}
	// No groups: the total is zero, and there are no bounds of nothing.
	if got, err = d.Fold(&d.Variants[0], w, nil); err != nil || len(flatten(got[0])) != 1 {
		t.Errorf("without groups: %v, %v", flatten(got[0]), err)
	}
	for name, test := range map[string]struct{ confidence, want string }{
		"missing":     {`{"sum":{"bits":{"isValid":true,"lower":1,"upper":2}}}`, "field confidence.count is missing or null; it must be an object"},
		"no validity": {`{"count":{"lower":1,"upper":2},"sum":{"bits":{"isValid":true,"lower":1,"upper":2}}}`, "field confidence.count.isValid is missing or null; it must be a boolean"},
		"no number":   {`{"count":{"isValid":true,"lower":"1","upper":2},"sum":{"bits":{"isValid":true,"lower":1,"upper":2}}}`, "field confidence.count.lower is a string; it must be a finite number"},
		"crossed":     {`{"count":{"isValid":true,"lower":3,"upper":2},"sum":{"bits":{"isValid":true,"lower":1,"upper":2}}}`, "has the lower bound 3 above the upper one, 2"},
	} {
		one := groups(t, `[{"dimensions":{"datetimeHour":"2026-11-22T10:00:00Z","host":"a"},"count":1,"sum":{"bits":80},"avg":{"ms":1,"sampleInterval":10},"confidence":`+test.confidence+`}]`)
		if _, err := d.Fold(&d.Variants[0], w, one); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Intervals that a scope may not query are left out; without any, the variant is not usable, and
// the next one is. Settings that say nothing about confidence restrict nothing.
func TestConfidenceByEntitlement(t *testing.T) {
	d := load(t, bounded, Options{}).Find("bounded_1h")
	v := &d.Variants[0]
	all := []string{"dimensions_datetimeHour", "dimensions_host", "count", "sum_bits", "avg_ms", "avg_sampleInterval"}
	for name, test := range map[string]struct {
		more, refused []string
		bounds        int
	}{
		"not mentioned": {nil, nil, 2},
		"containers":    {[]string{"confidence_count", "confidence_sum"}, nil, 2},
		"whole":         {[]string{"confidence"}, nil, 2},
		"count only":    {[]string{"confidence_count"}, nil, 1},
		"leaves":        {[]string{"confidence_sum_bits_lower", "confidence_sum_bits_upper", "confidence_sum_bits_isValid"}, nil, 1},
		"others":        {[]string{"confidence_level", "confidence_avg"}, nil, 0},
		"measure":       {nil, []string{"sum_bits"}, 1},
	} {
		missing := append(v.Missing(slices.Concat(all, test.more)), test.refused...)
		got := v.Without(missing)
		switch {
		case test.bounds == 0 && got != nil:
			t.Errorf("%s: usable with %v", name, got.Bounds)
		case test.bounds > 0 && (got == nil || len(got.Bounds) != test.bounds):
			t.Errorf("%s: %+v without %v", name, got, missing)
		}
	}
	if !v.OnlyBounds("confidence") || !v.OnlyBounds("isvalid") || v.OnlyBounds("count") || d.Variants[1].OnlyBounds("confidence") {
		t.Error("fields of intervals are confused with others")
	}
}

func TestConfidenceErrors(t *testing.T) {
	for name, test := range map[string]struct{ from, to, want string }{
		"level":     {"confidence: 0.95", "confidence: 95", `confidence is "95"; it must be a level between 0 and 1 without zeros at its end, such as 0.95`},
		"zeros":     {"confidence: 0.95", "confidence: 0.950", "without zeros at its end"},
		"node":      {"bounds: [count, sum]", "sizes: [1h]", "confidence is 0.95, and no family can have bounds: cloudflare_zone_bounded_requests_by_host of variant adaptive: node testGroups has no confidence intervals of count; "},
		"what":      {"bounds: [count, sum]", "bounds: [avg]", `bounds element is "avg"; it must be count or sum`},
		"twice":     {"bounds: [count, sum]", "bounds: [sum, sum]", "variant adaptive: bounds has sum twice"},
		"name":      {"{name: cloudflare_zone_bounded_requests, help", "{name: cloudflare_zone_bounded_estimate_lower, help", "has estimate_lower in its name; such names are for the bounds of estimates"},
		"dimension": {"dimensions: [host]", "dimensions: [host, colo]", "dimension colo is not one of its labels, so a row is the sum of several groups"},
		"values":    {"    limits:", "    values:\n      - {label: host, from: [a], to: b}\n    limits:", "values of label host are replaced"},
		"size":      {"times: {15m: datetimeFifteenMinutes, 1h: datetimeHour}", "times: {15m: datetimeFifteenMinutes}", "groups of 15m make buckets of another size"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.ReplaceAll(bounded, test.from, test.to)
			if text == bounded {
				t.Fatal("nothing is changed")
			}
			if _, err := Load([]byte(text), Options{}); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v\nnot %s", err, test.want)
			}
		})
	}
	if _, err := Load([]byte("datasets:\n  - {name: tunnels, confidence: 0.95}\n"), Options{}); err == nil || !strings.Contains(err.Error(), "confidence is 0.95; a state is no estimate and has no bounds") {
		t.Errorf("of a state: %v", err)
	}
}
