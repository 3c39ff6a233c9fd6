package query_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/cfsim/query"
	"github.com/weir-metrics/weir/internal/cfsim/schema"
)

func TestParse(t *testing.T) {
	got, err := query.Parse(`query A($n: uint64 = 2, $f: filter) { x: a(n: $n, m: $missing, f: $f, l: [1, $n], e: up_ASC, o: {k: $n, gone: $missing}) { b ...F } } fragment F on T { c @include(if: $no) d }`,
		"", map[string]any{"f": map[string]any{"k": "v"}, "no": false})
	if err != nil {
		t.Fatal(err)
	}
	want := []query.Field{{
		Name: "a", Alias: "x", Args: map[string]any{
			"n": json.Number("2"), "f": map[string]any{"k": "v"}, "l": []any{json.Number("1"), json.Number("2")}, "e": "up_ASC", "o": map[string]any{"k": json.Number("2")},
		},
		Fields: []query.Field{{Name: "b", Alias: "b", Args: map[string]any{}}, {Name: "d", Alias: "d", Args: map[string]any{}}},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestParseRefuses(t *testing.T) {
	for text, part := range map[string]string{
		"":                                  "no operation",
		"{ a":                               "parse query",
		"{ ...F }":                          "unknown fragment",
		"query A { a } query B { b }":       "names none",
		"mutation { a }":                    "not supported",
		"{ ...F } fragment F on T { ...F }": "nested deeper",
		strings.Repeat("{ a ", 60) + strings.Repeat("}", 60): "nested deeper",
	} {
		if _, err := query.Parse(text, "", nil); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%.40q: error %v, want %q", text, err, part)
		}
	}
	if _, err := query.Parse("query A { a } query B { b }", "B", nil); err != nil {
		t.Errorf("named operation: %v", err)
	}
	if _, err := query.Parse("query A { a }", "C", nil); err == nil {
		t.Error("an unknown operation was accepted")
	}
}

func filter(t *testing.T, text string) query.Filter {
	t.Helper()
	var v any
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	f, err := query.ParseFilter(schema.Lookup(schema.Zone, "httpRequestsAdaptiveGroups"), schema.Zone, 1, v)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestHullIsExactOrWider compares the filter with its hull second by second.
func TestHullIsExactOrWider(t *testing.T) {
	day := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC).Unix()
	for _, text := range []string{
		`{"datetime_geq":"2026-11-22T00:10:00Z","datetime_lt":"2026-11-22T00:20:00Z"}`,
		`{"datetime_gt":"2026-11-22T00:10:00.5Z","datetime_leq":"2026-11-22T00:20:00Z"}`,
		`{"datetimeFiveMinutes_gt":"2026-11-22T00:10:00Z","datetimeMinute_leq":"2026-11-22T00:20:30Z"}`,
		`{"datetimeMinute":"2026-11-22T00:10:00Z"}`,
		`{"datetimeMinute":"2026-11-22T00:10:30Z"}`,
		`{"datetimeMinute_in":["2026-11-22T00:10:00Z","2026-11-22T00:12:00Z"]}`,
		`{"datetimeMinute_notin":["2026-11-22T00:10:00Z","2026-11-22T00:12:00Z"],"datetime_lt":"2026-11-22T00:20:00Z","datetime_geq":"2026-11-22T00:05:00Z"}`,
		`{"OR":[{"datetimeMinute":"2026-11-22T00:10:00Z"},{"datetime_geq":"2026-11-22T00:15:00Z","datetime_lt":"2026-11-22T00:16:00Z"}]}`,
		`{"AND":[{"datetime_geq":"2026-11-22T00:15:00Z"},{"datetime_lt":"2026-11-22T00:16:00Z"}]}`,
	} {
		f := filter(t, text)
		hull, rest := f.Hull(), f.WithoutHull()
		some := false
		for s := day; s < day+3600; s++ {
			want := f.Match(s, func(string) any { return nil })
			if got := s >= hull.From && s < hull.To && rest.Match(s, func(string) any { return nil }); got != want {
				t.Fatalf("%s: second %d matches %t, by hull and rest %t", text, s-day, want, got)
			}
			some = some || want
		}
		if some == strings.Contains(text, `"datetimeMinute":"2026-11-22T00:10:30Z"`) {
			t.Errorf("%s matches something: %t", text, some)
		}
	}
}

func TestBounds(t *testing.T) {
	for text, want := range map[string][2]string{
		`{"datetime_geq":"2026-11-22T00:10:00Z","datetime_lt":"2026-11-22T00:20:00Z"}`:                                                   {"00:10", "00:20"},
		`{"datetime_geq":"2026-11-22T00:10:00Z"}`:                                                                                        {"00:10", ""},
		`{"cacheStatus":"hit"}`:                                                                                                          {"", ""},
		`{"datetime_in":["2026-11-22T00:12:00Z","2026-11-22T00:10:00Z"]}`:                                                                {"00:10", "00:12"},
		`{"OR":[{"datetime_geq":"2026-11-22T00:10:00Z"},{"datetime_gt":"2026-11-22T00:05:00Z"}]}`:                                        {"00:05", ""},
		`{"OR":[{"datetime_geq":"2026-11-22T00:10:00Z"},{"cacheStatus":"hit"}]}`:                                                         {"", ""},
		`{"datetime_geq":"2026-11-22T00:10:00Z","AND":[{"datetime_geq":"2026-11-22T00:12:00Z"},{"datetime_lt":"2026-11-22T00:15:00Z"}]}`: {"00:12", "00:15"},
	} {
		lower, upper, hasLower, hasUpper := filter(t, text).Bounds()
		var got [2]string
		if hasLower {
			got[0] = lower.Format("15:04")
		}
		if hasUpper {
			got[1] = upper.Format("15:04")
		}
		if got != want {
			t.Errorf("%s: bounds %q, want %q", text, got, want)
		}
	}
}

// FuzzParse looks for panics: whatever arrives must become fields or an error.
func FuzzParse(f *testing.F) {
	f.Add(`query ($a: x = 1) { v(f: {a: $a, b: [1]}) { ...F @skip(if: true) } } fragment F on T { c }`, `{"a": [1, {"b": null}]}`)
	f.Add(`{ a(x: """block""") }`, `{}`)
	f.Fuzz(func(t *testing.T, text, variables string) {
		var vars map[string]any
		_ = json.Unmarshal([]byte(variables), &vars) // any map will do, and none
		fields, err := query.Parse(text, "", vars)
		if err != nil {
			return
		}
		for _, field := range fields {
			for _, d := range schema.Datasets(schema.Zone) {
				if parsed, err := query.ParseFilter(d, schema.Zone, 60, field.Args["filter"]); err == nil {
					parsed.Hull()
					parsed.Bounds()
				}
			}
		}
	})
}
