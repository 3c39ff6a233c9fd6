package query_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim/query"
	"github.com/weir-metrics/weir/internal/cfsim/schema"
)

// FuzzFilter: a filter that is accepted answers consistently. Nothing outside
// its hull matches, the bounds lie no wider than what can match, and the parts
// of the filter say the same as the whole.
func FuzzFilter(f *testing.F) {
	f.Add(`{"datetime_geq":"2026-11-22T00:10:00Z","datetime_lt":"2026-11-22T00:20:00Z"}`, int64(1795306500))
	f.Add(`{"AND":[{"date_in":["2026-11-22","2026-11-21"]},{"OR":[{"cacheStatus_like":"h%t"},{"edgeResponseStatus_notin":[200,404]}]}]}`, int64(1795306500))
	f.Add(`{"datetimeFiveMinutes_neq":"2026-11-22T00:10:00Z","clientCountryName":"DE","edgeResponseStatus_geq":500}`, int64(0))
	f.Add(`{"OR":[],"AND":{"datetime":"0001-01-01T00:00:00Z"},"datetime_notin":["9999-12-31T23:59:59.999Z"]}`, int64(-62135596800))
	f.Fuzz(func(t *testing.T, text string, at int64) {
		var v any
		dec := json.NewDecoder(strings.NewReader(text))
		dec.UseNumber()
		if dec.Decode(&v) != nil || at < -1<<40 || at > 1<<40 {
			return
		}
		for _, d := range schema.Datasets(schema.Zone) {
			parsed, err := query.ParseFilter(d, schema.Zone, 60, v)
			if err != nil {
				if err.Error() == "" {
					t.Fatal("an error without a word")
				}
				continue
			}
			attribute := func(string) any { return nil }
			matches := parsed.Match(at, attribute)
			hull := parsed.Hull()
			if matches && (at < hull.From || at >= hull.To) {
				t.Fatalf("%s: %s matches %s, outside of its hull %v", d.Name, text, time.Unix(at, 0).UTC(), hull)
			}
			inside := at >= hull.From && at < hull.To
			if rest := parsed.WithoutHull(); matches != (inside && rest.Match(at, attribute)) {
				t.Fatalf("%s: hull %v and rest do not make the whole of %s at %d", d.Name, hull, text, at)
			}
			lower, upper, hasLower, hasUpper := parsed.Bounds()
			if hasLower && hasUpper && matches && upper.Before(lower.Add(-24*time.Hour)) {
				t.Fatalf("%s: %s matches and is bounded by %s and %s", d.Name, text, lower, upper)
			}
			for _, edge := range parsed.Edges() { // nothing changes but there
				if edge < at && parsed.Match(edge, attribute) != parsed.Match(at, attribute) && !slices.ContainsFunc(parsed.Edges(), func(e int64) bool { return e > edge && e <= at }) {
					t.Fatalf("%s: %s changes between %d and %d, where it has no edge", d.Name, text, edge, at)
				}
			}
		}
	})
}

// A short text may not keep the simulator busy for ever: forty fragments, each
// of which spreads the next one twice, and not one field.
func TestParseBoundsFragments(t *testing.T) {
	var text strings.Builder
	text.WriteString("{ a ...F0 }")
	const depth = 38
	for i := range depth {
		fmt.Fprintf(&text, " fragment F%d on T { ...F%d ...F%d }", i, i+1, i+1)
	}
	fmt.Fprintf(&text, " fragment F%d on T { ... @skip(if: true) { c } }", depth)
	if _, err := query.Parse(text.String(), "", nil); err == nil || !strings.Contains(err.Error(), "fields and fragments") {
		t.Errorf("2^%d spreads are no error: %v", depth, err)
	}
}
