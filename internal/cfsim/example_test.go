package cfsim_test

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/cfsimtest"
	"github.com/weir-metrics/weir/internal/clock"
)

// Ask the simulator for an hour and compare the answer with what happened.
func Example() {
	clk := clock.NewManual(time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC))
	sim, err := cfsim.New(cfsim.Demo(clk, 1))
	if err != nil {
		log.Fatal(err)
	}
	zone := cfsim.Tag("zone:shop.example")
	body := `{"query": "{ viewer { zones(filter: {zoneTag: \"` + zone + `\"}) { httpRequests1hGroups(limit: 1, filter: {datetime: \"2026-11-22T10:00:00Z\"}) { sum { requests } } } } }"}`
	r, err := http.NewRequest(http.MethodPost, "http://sim.example/client/v4/graphql", strings.NewReader(body))
	if err != nil {
		log.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+cfsim.DemoToken)
	resp, err := (&http.Client{Transport: cfsimtest.Transport(sim)}).Do(r)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Data struct {
			Viewer struct {
				Zones []struct {
					HTTPRequests1hGroups []struct{ Sum struct{ Requests uint64 } }
				}
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		log.Fatal(err)
	}
	truth, err := sim.True(zone, clk.Now().Add(-2*time.Hour), clk.Now().Add(-time.Hour))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.Data.Viewer.Zones[0].HTTPRequests1hGroups[0].Sum.Requests == truth.Requests)
	// Output: true
}
