package catalogue

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schema is the published schema, as another implementation reads it.
func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := json.Marshal(Schema())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("catalogue.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("catalogue.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// valid judges YAML by the schema alone.
func valid(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(doc)
}

// What Weir itself declares, and what a user may, validates: an editor does not
// mark what the decoder takes.
func TestTheSchemaTakesWhatTheDecoderTakes(t *testing.T) {
	s := schema(t)
	names, err := fs.Glob(embedded, "datasets/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, name := range names {
		text, err := embedded.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = string(text)
	}
	for name, text := range map[string]string{
		"a dataset":     asn,
		"a change":      "datasets: [{name: http, enabled: false, depth: 12, delay: 600, deadline: 1h30m, confirm: 3, drop: []}]",
		"a size":        "datasets: [{name: countries, size: 300, depth: 2h}, {name: hosts_1d}]",
		"limits":        "datasets: [{name: http, limits: {cloudflare_zone_requests_by_status: {top: 0, other: rest, allow: [200, x], deny: []}}}]",
		"a node":        "nodes: {otherGroups: {filter_field: date, times: {1d: date}, sizes: [1d, 86400], sampled: true, interval: avg.sampleInterval}}\ndatasets: []",
		"statistics":    latency,
		"quantiles":     quantiles,
		"nothing in it": "{}",
	} {
		texts[name] = text
		if _, err := Load([]byte(text), Options{File: "user.yaml"}); err != nil {
			t.Errorf("%s is refused by the decoder: %v", name, err)
		}
	}
	for name, text := range texts {
		if err := valid(t, s, text); err != nil {
			t.Errorf("%s is refused by the schema: %v", name, err)
		}
	}
}

// What a schema can say about a mistake, the published one says.
func TestTheSchemaRefusesWhatTheDecoderRefuses(t *testing.T) {
	s := schema(t)
	change := func(old, now string) string {
		if !strings.Contains(asn, old) {
			t.Fatalf("%q is not in the example", old)
		}
		return strings.Replace(asn, old, now, 1)
	}
	for name, text := range map[string]string{
		"a list":                    "- a",
		"unknown key of a file":     "dataset: []",
		"unknown key of a data set": change("depth: 6", "depht: 6"),
		"unknown key of a family":   change("help: Requests", "hlep: Requests"),
		"unknown key of a limit":    change("{top: 10}", "{tops: 10}"),
		"unknown key of a variant":  change("rows: 1000", "row: 1000"),
		"unknown key of a measure":  change("field: count", "feild: count"),
		"unknown key of a node":     "nodes: {a: {filter: x}}",
		"no name":                   change("name: asn_1h\n    description", "description"),
		"no node":                   change("        node: httpRequestsAdaptiveGroups\n", ""),
		"no rows":                   change("        rows: 1000\n", ""),
		"no family":                 change("family: cloudflare_zone_requests_by_network, ", ""),
		"no field":                  change("field: count, ", ""),
		"no help":                   change("help: Requests by network., ", ""),
		"name":                      change("name: asn_1h", "name: ASN"),
		"description":               change("HTTP traffic by network", `"a\nb"`),
		"scope":                     change("scope: zone", "scope: galaxy"),
		"sizes":                     change("sizes: [1h]", "sizes: [7m]"),
		"sizes is no list":          change("sizes: [1h]", "sizes: 1h"),
		"size":                      change("sizes: [1h]", "size: 2h"),
		"depth is a word":           change("depth: 6", "depth: deep"),
		"depth below the least":     change("depth: 6", "depth: 2"),
		"depth beyond the most":     change("depth: 6", "depth: 31"),
		"delay":                     change("depth: 6", "delay: soon"),
		"deadline":                  change("depth: 6", "deadline: -1"),
		"confirm is a word":         change("depth: 6", "confirm: yes"),
		"confirm":                   change("depth: 6", "confirm: 0"),
		"enabled":                   change("depth: 6", "enabled: on"),
		"family":                    change("name: cloudflare_zone_requests_by_network", "name: weir_requests"),
		"label":                     change("labels: [asn]", "labels: [As-N]"),
		"additive":                  change("labels: [asn]}", "labels: [asn], additive: 1}"),
		"top":                       change("{top: 10}", "{top: 1001}"),
		"other":                     change("{top: 10}", `{other: ""}`),
		"variant":                   change("name: adaptive", "name: A"),
		"node":                      change("node: httpRequestsAdaptiveGroups", "node: 'x{y}'"),
		"filter field":              change("filter_field: datetime", "filter_field: time"),
		"length of a group":         change("{1h: datetimeHour}", "{soon: datetimeHour}"),
		"time dimension":            change("{1h: datetimeHour}", "{1h: '{'}"),
		"sampled":                   change("sampled: true", "sampled: 1"),
		"interval":                  change("interval: avg.sampleInterval", "interval: avg."),
		"filter by no field":        change("requestSource: eyeball", "request source: eyeball"),
		"filter by an object":       change("requestSource: eyeball", "requestSource: {a: b}"),
		"dimension":                 change("[clientAsn]", "['client asn']"),
		"rows":                      change("rows: 1000", "rows: 10001"),
		"path":                      change("field: count", "field: sum..x"),
		"map":                       change("field: count", "field: count, map: 'a b'"),
		"source":                    change("{asn: clientAsn}", "{asn: lower(clientAsn)}"),
		"condition":                 change("field: count", "field: count, when: {'!!a': [b]}"),
		"values of a condition":     change("field: count", "field: count, when: {a: b}"),
		"scale":                     change("field: count", "field: count, scale: furlongs"),
		"join":                      change("field: count", "field: count, join: median"),
		"weight":                    change("field: count", "field: count, weight: 'a b'"),
		"quantile":                  change("field: count", "field: quantiles.a, quantiles: [50]"),
		"values without label":      change("depth: 6", "values: [{from: [a], to: b}]"),
		"only by no label":          change("{top: 10}", "{only: {As-N: [1]}}"),
		"optional":                  change("field: count", "field: count, optional: maybe"),
		"nothing at all":            "datasets:",
	} {
		if _, err := Load([]byte(text), Options{File: "user.yaml"}); err == nil {
			t.Errorf("%s: the decoder takes it", name)
		}
		if valid(t, s, text) == nil {
			t.Errorf("%s: the schema takes it", name)
		}
	}
}

// Every key of the structs is in the schema with a description, and no other.
func TestTheSchemaHasEveryKey(t *testing.T) {
	have := map[string][]string{}
	object := func(name string, of any) {
		properties := of.(map[string]any)["properties"].(map[string]any)
		have[name] = slices.Sorted(maps.Keys(properties))
		for key, p := range properties {
			if p.(map[string]any)["description"] == nil {
				t.Errorf("key %s of a %s has no description", key, name)
			}
		}
	}
	root := Schema()
	object("file", root)
	for name, of := range root["definitions"].(map[string]any) {
		object(name, of)
	}
	want := map[string][]string{}
	for name, of := range map[string]any{
		"file": file{}, "node": nodeSpec{}, "dataset": spec{}, "family": familySpec{}, "limit": limitSpec{}, "value": valueSpec{}, "variant": variantSpec{}, "measure": measureSpec{},
	} {
		for _, f := range reflect.VisibleFields(reflect.TypeOf(of)) {
			if key, ok := f.Tag.Lookup("yaml"); ok {
				want[name] = append(want[name], key)
			}
		}
		slices.Sort(want[name])
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("keys (-structs +schema):\n%s", diff)
	}
}
