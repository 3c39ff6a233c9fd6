package cloudflare

import (
	"strings"
	"testing"
	"time"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/testkit"
)

const (
	zoneA    = "023e105f4ecef8ad9ca31a8372d0c353"
	zoneB    = "7c5dae5552338874e5053f2534d2767a"
	zoneC    = "f82603a1c2d4e5f60718293a4b5c6d7e"
	accountA = "9a7806061c88ada191ed06f989cc3dac"
)

var tenToTwelve = bucket.Window{
	Start: bucket.TimeOf(time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)),
	End:   bucket.TimeOf(time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)),
}

func exampleQuery() Query {
	return Query{Zones: []string{zoneB, zoneA, zoneC}, Selections: []Selection{{
		Alias: "s0", Node: "httpRequests1mGroups", FilterField: "datetime", Window: tenToTwelve, TimeDimension: "datetimeFiveMinutes",
		Fields: []string{"sum.requests", "sum.countryMap.requests", "sum.countryMap.clientCountryName", "avg.sampleInterval"},
		Limit:  100, OrderBy: []string{"datetimeFiveMinutes_ASC"},
	}}}
}

const goodBody = `{"data":{"viewer":{"zones":[
 {"zoneTag":"` + zoneA + `","s0":[{"dimensions":{"datetimeFiveMinutes":"2026-11-22T10:00:00Z"},"sum":{"requests":9007199254740993,"countryMap":[]},"avg":{"sampleInterval":1}}]},
 {"zoneTag":"` + zoneB + `","s0":[]}]}},"errors":null}`

func TestDocuments(t *testing.T) {
	day := bucket.Window{Start: tenToTwelve.Start.Floor(24 * time.Hour).Add(-24 * time.Hour), End: tenToTwelve.Start.Floor(24 * time.Hour)}
	daily := Selection{
		Alias: "d", Node: "httpRequests1dGroups", FilterField: "date", Window: day, TimeDimension: "date",
		Fields: []string{"uniq.uniques"}, Limit: 1, OrderBy: []string{"date_ASC"},
	}
	adaptive := Selection{
		Alias: "s1", Node: "httpRequestsAdaptiveGroups", FilterField: "datetime", Window: tenToTwelve, TimeDimension: "datetimeHour",
		Filter: map[string]any{
			"requestSource": "eyeball", "edgeResponseStatus_in": []any{int64(200), int64(404)},
			"clientRequestPath": "/a\"b\\c\n\u2028\x7f\x01<é", "isX": true,
		},
		Dimensions: []string{"edgeResponseStatus", "cacheStatus"}, Fields: []string{"count", "sum.edgeResponseBytes"},
		Limit: 5000, OrderBy: []string{"datetimeHour_ASC", "edgeResponseStatus_ASC"},
	}
	two := exampleQuery()
	two.Selections = append(two.Selections, adaptive)
	nested := Query{AccountID: accountA, Zones: []string{zoneA}, Selections: []Selection{daily}, Meter: true}
	account := Query{AccountID: accountA, Selections: []Selection{daily}}
	bounded := adaptive
	bounded.Filter, bounded.Confidence = nil, "0.95"
	bounded.Fields = []string{"avg.sampleInterval", "confidence.count.lower", "confidence.count.upper", "confidence.sum.visits.lower", "count", "sum.visits"}
	confident := Query{Zones: []string{zoneA}, Selections: []Selection{bounded}}
	var out strings.Builder
	for _, q := range []Query{two, nested, account, confident} {
		doc, err := q.document()
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString(doc + "\n")
		parsed, gqlErr := parser.ParseQuery(&ast.Source{Input: doc})
		if gqlErr != nil {
			t.Fatalf("not GraphQL: %v\n%s", gqlErr, doc)
		}
		if q.Selections[0].Alias == "s0" {
			zones := parsed.Operations[0].SelectionSet[0].(*ast.Field).SelectionSet[0].(*ast.Field)
			filter := zones.SelectionSet[2].(*ast.Field).Arguments.ForName("filter").Value
			if got := filter.Children.ForName("clientRequestPath").Raw; got != adaptive.Filter["clientRequestPath"] {
				t.Errorf("filter value arrives as %q, want %q", got, adaptive.Filter["clientRequestPath"])
			}
		}
	}
	testkit.Golden(t, "testdata/documents.graphql", []byte(out.String()))
}

func TestDocumentRefusesWhatIsNotAName(t *testing.T) {
	for name, change := range map[string]func(*Query){
		"no scope":          func(q *Query) { q.Zones = nil },
		"zone injection":    func(q *Query) { q.Zones[0] = `x"]}){id}` },
		"zone twice":        func(q *Query) { q.Zones[0] = q.Zones[1] },
		"eleven zones":      func(q *Query) { q.Zones = strings.Split(strings.Repeat(zoneA+",", 10)+zoneA, ",") },
		"account injection": func(q *Query) { q.AccountID = `"` },
		"no selection":      func(q *Query) { q.Selections = nil },
		"alias twice":       func(q *Query) { q.Selections = append(q.Selections, q.Selections[0]) },
		"reserved alias":    func(q *Query) { q.Selections[0].Alias = "zoneTag" },
		"node injection":    func(q *Query) { q.Selections[0].Node = "a{b}c" },
		"filter injection":  func(q *Query) { q.Selections[0].Filter = map[string]any{"a:1,b": 1} },
		"filter type":       func(q *Query) { q.Selections[0].Filter = map[string]any{"a": 1.5} },
		"nested list":       func(q *Query) { q.Selections[0].Filter = map[string]any{"a": []any{[]any{1}}} },
		"field injection":   func(q *Query) { q.Selections[0].Fields = []string{"sum{x}"} },
		"no level":          func(q *Query) { q.Selections[0].Fields = []string{"confidence.count.lower"} },
		"level injection": func(q *Query) {
			q.Selections[0].Fields, q.Selections[0].Confidence = []string{"confidence.count.lower"}, "0.9){x}"
		},
		"level of nothing":   func(q *Query) { q.Selections[0].Confidence = "0.95" },
		"no field":           func(q *Query) { q.Selections[0].Fields = nil },
		"empty window":       func(q *Query) { q.Selections[0].Window.End = q.Selections[0].Window.Start },
		"no limit":           func(q *Query) { q.Selections[0].Limit = 0 },
		"no order":           func(q *Query) { q.Selections[0].OrderBy = nil },
		"part of a day":      func(q *Query) { q.Selections[0].FilterField = "date" },
		"order injection":    func(q *Query) { q.Selections[0].OrderBy = []string{"a]){x}"} },
		"dimension not name": func(q *Query) { q.Selections[0].Dimensions = []string{"a b"} },
	} {
		q := exampleQuery()
		change(&q)
		if doc, err := q.document(); err == nil {
			t.Errorf("%s: made %s", name, doc)
		}
	}
}
