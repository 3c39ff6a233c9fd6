package cfsim_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/clock"
)

// world is a simulator under test with a clock that stands still.
type world struct {
	t      *testing.T
	sim    *cfsim.Server
	clk    *clock.Manual
	secret string
	header http.Header
}

// epoch is the tests' present: a Sunday at noon.
var epoch = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// newWorld starts from the demo with any changes.
func newWorld(t *testing.T, change func(*cfsim.Config)) *world {
	t.Helper()
	clk := clock.NewManual(epoch)
	c := cfsim.Demo(clk, 7)
	c.Settling.Stragglers = 0
	if change != nil {
		change(&c)
	}
	sim, err := cfsim.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return &world{t: t, sim: sim, clk: clk, secret: cfsim.DemoToken, header: http.Header{}}
}

// zone is the tag of a zone of the demo.
func zone(name string) string { return cfsim.Tag("zone:" + name + ".example") }

// account is the tag of an account of the demo.
func account(name string) string { return cfsim.Tag("account:" + name) }

type gqlError struct {
	Message    string
	Path       []any
	Extensions struct{ Code, Timestamp string }
}

type answer struct {
	Status int
	Header http.Header
	Body   []byte
	Data   map[string]any
	Errors []gqlError
}

// ask sends a query and decodes the answer, numbers as json.Number.
func (w *world) ask(query string, variables map[string]any) answer {
	w.t.Helper()
	body, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	if err != nil {
		w.t.Fatal(err)
	}
	rec := w.post(body)
	a := answer{Status: rec.Code, Header: rec.Header(), Body: rec.Body.Bytes()}
	dec := json.NewDecoder(bytes.NewReader(a.Body))
	dec.UseNumber()
	if err := dec.Decode(&a); err != nil {
		w.t.Fatalf("decode %q: %v", a.Body, err)
	}
	return a
}

// post sends a body to the GraphQL endpoint.
func (w *world) post(body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/client/v4/graphql", bytes.NewReader(body))
	r.Header = w.header.Clone()
	r.Header.Set("Authorization", "Bearer "+w.secret)
	rec := httptest.NewRecorder()
	w.sim.ServeHTTP(rec, r)
	return rec
}

// good is ask for a query that must succeed.
func (w *world) good(query string, variables map[string]any) answer {
	w.t.Helper()
	a := w.ask(query, variables)
	if a.Status != 200 || len(a.Errors) != 0 || a.Data == nil {
		w.t.Fatalf("status %d, errors %+v", a.Status, a.Errors)
	}
	return a
}

// bad is ask for a query that must fail as a whole with one error.
func (w *world) bad(query string, variables map[string]any) gqlError {
	w.t.Helper()
	a := w.ask(query, variables)
	if a.Data != nil || len(a.Errors) != 1 {
		w.t.Fatalf("want one error and no data, got %.300s", a.Body)
	}
	return a.Errors[0]
}

// dig walks objects by name and lists by position.
func dig(t *testing.T, v any, path ...any) any {
	t.Helper()
	for _, p := range path {
		switch x := v.(type) {
		case map[string]any:
			v = x[p.(string)]
		case []any:
			i := p.(int)
			if i >= len(x) {
				t.Fatalf("no element %d in %v", i, x)
			}
			v = x[i]
		default:
			t.Fatalf("no %v in %v", p, v)
		}
	}
	return v
}

func num(t *testing.T, v any, path ...any) uint64 {
	t.Helper()
	n, ok := dig(t, v, path...).(json.Number)
	if !ok {
		t.Fatalf("%v is no number in %v", path, v)
	}
	u, err := n.Int64()
	if err != nil {
		t.Fatal(err)
	}
	return uint64(u)
}

func text(t *testing.T, v any, path ...any) string {
	t.Helper()
	s, ok := dig(t, v, path...).(string)
	if !ok {
		t.Fatalf("%v is no string in %v", path, v)
	}
	return s
}

func rows(t *testing.T, a answer, node string) []any {
	t.Helper()
	list, ok := dig(t, a.Data, "viewer", "zones", 0, node).([]any)
	if !ok {
		t.Fatalf("no rows of %s in %.300s", node, a.Body)
	}
	return list
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// span is the variables for a zone and a window.
func span(zoneName string, from, to time.Time) map[string]any {
	return map[string]any{"zone": zone(zoneName), "from": stamp(from), "to": stamp(to)}
}

func contains(t *testing.T, e gqlError, code, part string) {
	t.Helper()
	if e.Extensions.Code != code || !strings.Contains(e.Message, part) {
		t.Fatalf("want code %q and message with %q, got %+v", code, part, e)
	}
}

func TestAdaptiveAgreesWithRollups(t *testing.T) {
	w := newWorld(t, nil)
	from, to := epoch.Add(-3*time.Hour), epoch.Add(-time.Hour)
	a := w.good(`query { viewer { zones(filter: {zoneTag: $zone}) { zoneTag
		m: httpRequests1mGroups(limit: 1000, filter: {datetime_geq: $from, datetime_lt: $to}, orderBy: [datetime_ASC]) {
			dimensions { datetime } sum { requests bytes responseStatusMap { edgeResponseStatus requests } } uniq { uniques } }
		h: httpRequests1hGroups(limit: 1000, filter: {datetime_geq: $from, datetime_lt: $to}, orderBy: [datetime_ASC]) {
			dimensions { datetime } sum { requests bytes countryMap { clientCountryName requests } } uniq { uniques } }
		all: httpRequests1mGroups(limit: 1, filter: {datetime_geq: $from, datetime_lt: $to}) { sum { requests bytes cachedBytes pageViews } uniq { uniques } }
		eyeball: httpRequestsAdaptiveGroups(limit: 1000, filter: {datetime_geq: $from, datetime_lt: $to, requestSource: "eyeball"}, orderBy: [datetimeMinute_ASC]) {
			count sum { edgeResponseBytes } dimensions { datetimeMinute } }
		every: httpRequestsAdaptiveGroups(limit: 1000, filter: {datetime_geq: $from, datetime_lt: $to}) { count sum { edgeResponseBytes } }
	} } }`, span("shop", from, to))
	minutes, adaptive := rows(t, a, "m"), rows(t, a, "eyeball")
	if len(minutes) != 120 || len(adaptive) != 120 || len(rows(t, a, "h")) != 2 {
		t.Fatalf("got %d and %d minutes", len(minutes), len(adaptive))
	}
	var requests, sumUniques uint64
	for i, m := range minutes {
		if text(t, m, "dimensions", "datetime") != text(t, adaptive[i], "dimensions", "datetimeMinute") ||
			num(t, m, "sum", "requests") != num(t, adaptive[i], "count") || num(t, m, "sum", "bytes") != num(t, adaptive[i], "sum", "edgeResponseBytes") {
			t.Fatalf("minute %d: %v differs from %v", i, m, adaptive[i])
		}
		var byStatus uint64
		for _, s := range dig(t, m, "sum", "responseStatusMap").([]any) {
			byStatus += num(t, s, "requests")
		}
		if byStatus != num(t, m, "sum", "requests") {
			t.Fatalf("minute %d: statuses add up to %d of %v", i, byStatus, m)
		}
		requests += num(t, m, "sum", "requests")
		sumUniques += num(t, m, "uniq", "uniques")
	}
	all := rows(t, a, "all")[0]
	if num(t, all, "sum", "requests") != requests || num(t, rows(t, a, "h")[0], "sum", "requests")+num(t, rows(t, a, "h")[1], "sum", "requests") != requests {
		t.Fatalf("sums differ: %d in minutes, %v", requests, all)
	}
	if every := num(t, rows(t, a, "every")[0], "count"); every <= requests {
		t.Fatalf("with worker subrequests %d, without %d: want more", every, requests)
	}
	if u := num(t, all, "uniq", "uniques"); u >= sumUniques || u == 0 {
		t.Fatalf("uniques of the window are %d, the sum over minutes %d: want fewer", u, sumUniques)
	}
	truth, err := w.sim.True(zone("shop"), from, to)
	if err != nil {
		t.Fatal(err)
	}
	if truth.Requests != requests || truth.Bytes != num(t, all, "sum", "bytes") || truth.Uniques != num(t, all, "uniq", "uniques") ||
		truth.CachedBytes != num(t, all, "sum", "cachedBytes") || truth.PageViews != num(t, all, "sum", "pageViews") {
		t.Fatalf("truth %+v differs from %v", truth, all)
	}
}
