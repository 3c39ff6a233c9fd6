package cfsim_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/cfsimtest"
	"github.com/weir-metrics/weir/internal/clock"
)

// BenchmarkTrailingQuery is the question that a collector asks all the time:
// a quarter of an hour of ten zones with status and countries.
func BenchmarkTrailingQuery(b *testing.B) {
	clk := clock.NewManual(epoch)
	c := cfsim.Demo(clk, 7)
	manyZones(10)(&c)
	c.Limits.Queries = 1 << 30
	sim := cfsimtest.New(b, c)
	body, err := json.Marshal(map[string]any{
		"variables": map[string]any{"zones": manyTags(10), "from": stamp(epoch.Add(-15 * time.Minute)), "to": stamp(epoch)},
		"query": `{ viewer { zones(filter: {zoneTag_in: $zones}) { zoneTag httpRequests1mGroups(limit: 1000, filter: {datetime_geq: $from, datetime_lt: $to}, orderBy: [datetime_ASC]) {
			dimensions { datetime } uniq { uniques } sum { requests bytes cachedRequests cachedBytes pageViews responseStatusMap { edgeResponseStatus requests } countryMap { clientCountryName requests bytes } } } } } }`,
	})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, "/client/v4/graphql", bytes.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+cfsim.DemoToken)
		rec := httptest.NewRecorder()
		sim.ServeHTTP(rec, r)
		if rec.Code != 200 || !bytes.HasSuffix(rec.Body.Bytes(), []byte(`"errors":null}`)) {
			b.Fatalf("%d %.200s", rec.Code, rec.Body)
		}
	}
}

// BenchmarkDayOfFiveMinutes is what a first run asks: a whole day of one zone by
// five minutes.
func BenchmarkDayOfFiveMinutes(b *testing.B) {
	c := cfsim.Demo(clock.NewManual(epoch), 7)
	c.Limits.Queries = 1 << 30
	sim := cfsimtest.New(b, c)
	body, err := json.Marshal(map[string]any{
		"variables": span("media", epoch.Add(-24*time.Hour), epoch),
		"query": `{ viewer { zones(filter: {zoneTag: $zone}) { zoneTag httpRequests1mGroups(limit: 10000, filter: {datetime_geq: $from, datetime_lt: $to}, orderBy: [datetimeFiveMinutes_ASC]) {
			dimensions { datetimeFiveMinutes } sum { requests bytes responseStatusMap { edgeResponseStatus requests } } } } } }`,
	})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, "/client/v4/graphql", bytes.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+cfsim.DemoToken)
		rec := httptest.NewRecorder()
		sim.ServeHTTP(rec, r)
		if n := bytes.Count(rec.Body.Bytes(), []byte("datetimeFiveMinutes")); n < 280 {
			b.Fatalf("%d rows: %.200s", n, rec.Body)
		}
	}
}
