package cfsim_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/cfsimtest"
	"github.com/weir-metrics/weir/internal/clock"
)

// wire asks over a real connection, where faults of the transport show.
func wire(t *testing.T, sim *cfsim.Server) func() (status int, header http.Header, body []byte, err error) {
	t.Helper()
	base := cfsimtest.Start(t, sim)
	query := `{ viewer { zones(filter: {zoneTag: "` + zone("shop") + `"}) { zoneTag httpRequests1mGroups(limit: 100, orderBy: [datetime_ASC],
		filter: {datetime_geq: "2026-11-22T11:00:00Z", datetime_lt: "2026-11-22T11:10:00Z"}) { dimensions { datetime } sum { requests bytes } } } } }`
	request, err := json.Marshal(map[string]any{"query": query})
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	return func() (int, http.Header, []byte, error) {
		r, err := http.NewRequest(http.MethodPost, base+"/graphql", bytes.NewReader(request))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+cfsim.DemoToken)
		resp, err := client.Do(r)
		if err != nil {
			return 0, nil, nil, err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return resp.StatusCode, resp.Header, body, err
	}
}

func newSim(t *testing.T) (*cfsim.Server, *clock.Manual) {
	clk := clock.NewManual(epoch)
	return cfsimtest.New(t, cfsim.Demo(clk, 7)), clk
}

func TestTransportFaults(t *testing.T) {
	sim, _ := newSim(t)
	ask := wire(t, sim)
	_, _, whole, err := ask()
	if err != nil {
		t.Fatal(err)
	}
	type result struct {
		status int
		header http.Header
		body   string
		err    error
	}
	for _, c := range []struct {
		fault cfsim.Fault
		check func(result) bool
	}{
		{cfsim.Fault{Kind: cfsim.FaultReset}, func(r result) bool { return r.err != nil && r.status == 0 }},
		{cfsim.Fault{Kind: cfsim.FaultResetBody}, func(r result) bool { return r.err != nil && r.status == 200 }},
		{cfsim.Fault{Kind: cfsim.FaultShortBody}, func(r result) bool { return r.err != nil && r.status == 200 }},
		{cfsim.Fault{Kind: cfsim.FaultTruncated}, func(r result) bool {
			return r.err == nil && !json.Valid([]byte(r.body)) && strings.HasPrefix(string(whole), r.body)
		}},
		{cfsim.Fault{Kind: cfsim.FaultRubbish}, func(r result) bool { return strings.HasPrefix(r.body, string(whole)) && len(r.body) > len(whole) }},
		{cfsim.Fault{Kind: cfsim.FaultHTML}, func(r result) bool {
			return r.status == 502 && strings.HasPrefix(r.body, "<!DOCTYPE html>") && strings.HasPrefix(r.header.Get("Content-Type"), "text/html")
		}},
		{cfsim.Fault{Kind: cfsim.FaultHTML, Status: 522}, func(r result) bool { return r.status == 522 && strings.Contains(r.body, "timed out") }},
		{cfsim.Fault{Kind: cfsim.FaultChallenge}, func(r result) bool { return r.status == 403 && strings.Contains(r.body, "Just a moment") }},
		{cfsim.Fault{Kind: cfsim.FaultEmptyBody}, func(r result) bool { return r.status == 200 && r.body == "" }},
		{cfsim.Fault{Kind: cfsim.FaultEmptyObject}, func(r result) bool { return r.status == 200 && r.body == "{}" }},
		{cfsim.Fault{Kind: cfsim.FaultNullData}, func(r result) bool { return r.body == `{"data":null,"errors":null}` }},
		{cfsim.Fault{Kind: cfsim.FaultEmptyErrors}, func(r result) bool { return strings.HasSuffix(r.body, `,"errors":[]}`) }},
		{cfsim.Fault{Kind: cfsim.FaultNoErrors}, func(r result) bool { return !strings.Contains(r.body, "errors") && json.Valid([]byte(r.body)) }},
		{cfsim.Fault{Kind: cfsim.FaultBusy}, func(r result) bool {
			return r.status == 503 && strings.Contains(r.body, "too many queries in progress")
		}},
		{cfsim.Fault{Kind: cfsim.FaultInternal}, func(r result) bool { return r.status == 500 && strings.Contains(r.body, "Internal server error") }},
		{cfsim.Fault{Kind: cfsim.FaultBudget}, func(r result) bool { return r.status == 200 && strings.Contains(r.body, `"code":"budget"`) }},
		{cfsim.Fault{Kind: cfsim.FaultSkew, Delay: -time.Hour}, func(r result) bool {
			return r.header.Get("Date") == "Sun, 22 Nov 2026 11:00:00 GMT" && r.body == string(whole)
		}},
		{cfsim.Fault{Kind: cfsim.FaultSlow, Delay: 10 * time.Millisecond}, func(r result) bool { return r.body == string(whole) }},
		{cfsim.Fault{Kind: cfsim.FaultDrip, Delay: 20 * time.Millisecond}, func(r result) bool { return r.body == string(whole) }},
	} {
		sim.ClearFaults()
		if _, err := sim.Inject(c.fault); err != nil {
			t.Fatal(err)
		}
		status, header, body, err := ask()
		if r := (result{status, header, string(body), err}); !c.check(r) {
			t.Errorf("%s: status %d, error %v, header %v, body %.200s", c.fault.Kind, r.status, r.err, r.header, r.body)
		}
		log := sim.Requests()
		if log[len(log)-1].Fault != c.fault.Kind {
			t.Errorf("%s is not in the log: %+v", c.fault.Kind, log[len(log)-1])
		}
	}
	sim.ClearFaults()
	if _, h, body, err := ask(); err != nil || !bytes.Equal(body, whole) || h.Get("CF-Ray") == "" || h.Get("Date") != "Sun, 22 Nov 2026 12:00:00 GMT" {
		t.Errorf("after the faults: %v %v %.100s", err, h, body)
	}
}

func TestFaultConditions(t *testing.T) {
	w := newWorld(t, nil)
	status := func(zoneName, node string) int {
		return w.statusOf(`{ viewer { zones(filter: {zoneTag: $zone}) { `+node+`(limit: 1, filter: {datetime: "2026-11-22T11:00:00Z"}) { sum { requests } } } } }`, zone(zoneName))
	}
	inject := func(f cfsim.Fault) {
		t.Helper()
		w.sim.ClearFaults()
		f.Kind, f.Status = cfsim.FaultHTML, 502
		if _, err := w.sim.Inject(f); err != nil {
			t.Fatal(err)
		}
	}
	inject(cfsim.Fault{Count: 2})
	if a, b, c := status("shop", "httpRequests1mGroups"), status("shop", "httpRequests1mGroups"), status("shop", "httpRequests1mGroups"); a != 502 || b != 502 || c != 200 {
		t.Errorf("count 2 gave %d %d %d", a, b, c)
	}
	if f := w.sim.Faults(); len(f) != 1 || f[0].Fired != 2 {
		t.Errorf("faults are %+v", f)
	}
	inject(cfsim.Fault{Zone: zone("media")})
	if a, b := status("shop", "httpRequests1mGroups"), status("media", "httpRequests1mGroups"); a != 200 || b != 502 {
		t.Errorf("by zone: %d %d", a, b)
	}
	inject(cfsim.Fault{Dataset: "httpRequests1hGroups"})
	if a, b := status("shop", "httpRequests1mGroups"), status("shop", "httpRequests1hGroups"); a != 200 || b != 502 {
		t.Errorf("by dataset: %d %d", a, b)
	}
	inject(cfsim.Fault{Token: cfsim.Tag("another")})
	if a := status("shop", "httpRequests1mGroups"); a != 200 {
		t.Errorf("by another token: %d", a)
	}
	inject(cfsim.Fault{Path: "/zones"})
	if a := status("shop", "httpRequests1mGroups"); a != 200 {
		t.Errorf("by another path: %d", a)
	}
	inject(cfsim.Fault{Probability: .5})
	failed := 0
	for range 100 {
		if status("shop", "httpRequests1mGroups") == 502 {
			failed++
		}
	}
	if failed < 30 || failed > 70 {
		t.Errorf("probability .5 failed %d of 100", failed)
	}
	inject(cfsim.Fault{From: epoch.Add(time.Minute), To: epoch.Add(2 * time.Minute)})
	var seen []int
	for range 3 {
		seen = append(seen, status("shop", "httpRequests1mGroups"))
		w.clk.Advance(time.Minute)
	}
	if seen[0] != 200 || seen[1] != 502 || seen[2] != 200 {
		t.Errorf("by span: %v", seen)
	}
	for _, f := range []cfsim.Fault{{Kind: "x"}, {Kind: cfsim.FaultHTML, Probability: 2}, {Kind: cfsim.FaultHTML, Count: -1}, {Kind: cfsim.FaultHTML, Status: 7}, {Kind: cfsim.FaultZoneFrozen}} {
		if _, err := w.sim.Inject(f); err == nil {
			t.Errorf("%+v was accepted", f)
		}
	}
	id, _ := w.sim.Inject(cfsim.Fault{Kind: cfsim.FaultHTML})
	if !w.sim.Remove(id) || w.sim.Remove(id) {
		t.Error("a fault can be removed once")
	}
}

func TestDelayedZoneAndEmptyDataset(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) {
		c.Faults = []cfsim.Fault{
			{Kind: cfsim.FaultZoneDelayed, Zone: zone("shop"), Delay: 30 * time.Minute, From: epoch, To: epoch.Add(time.Hour)},
			{Kind: cfsim.FaultDatasetEmpty, Dataset: "httpRequests1mGroups", From: epoch.Add(2 * time.Hour), To: epoch.Add(3 * time.Hour)},
			{Kind: cfsim.FaultZoneFrozen, Zone: zone("media"), From: epoch.Add(-20 * time.Minute), To: epoch.Add(50 * time.Minute)},
		}
	})
	count := func(zoneName, node string) int {
		a := w.good(`{ viewer { zones(filter: {zoneTag: $zone}) { n: `+node+`(limit: 1000, filter: {datetime_geq: $from, datetime_lt: $to}) { dimensions { datetimeMinute } sum { x: `+
			map[string]string{"httpRequests1mGroups": "requests", "httpRequestsAdaptiveGroups": "visits"}[node]+` } } } } }`, span(zoneName, epoch.Add(-time.Hour), epoch))
		return len(rows(t, a, "n"))
	}
	if a, b := count("shop", "httpRequests1mGroups"), count("media", "httpRequests1mGroups"); a > 31 || a < 25 || b > 41 || b < 35 {
		t.Errorf("the delayed zone shows %d minutes, the one that stands still %d", a, b)
	}
	w.clk.Advance(40 * time.Minute)
	if b := count("media", "httpRequests1mGroups"); b > 41 || b < 35 {
		t.Errorf("forty minutes later it shows %d minutes", b)
	}
	w.clk.Advance(20 * time.Minute)
	if a, b := count("shop", "httpRequests1mGroups"), count("media", "httpRequests1mGroups"); a != 60 || b != 60 {
		t.Errorf("after the delay %d and %d minutes, want 60", a, b)
	}
	w.clk.Advance(time.Hour)
	if a, b := count("media", "httpRequests1mGroups"), count("media", "httpRequestsAdaptiveGroups"); a != 0 || b != 60 {
		t.Errorf("the empty dataset shows %d minutes, another %d", a, b)
	}
	w.clk.Advance(time.Hour)
	if a := count("media", "httpRequests1mGroups"); a != 60 {
		t.Errorf("afterwards %d minutes, want 60", a)
	}
}

func TestFaultyValues(t *testing.T) {
	w := newWorld(t, nil)
	query := `{ viewer { zones(filter: {zoneTag: $zone}) { ok: httpRequests1mGroups(limit: 5, filter: {datetime: $from}) { sum { requests } }
		a: httpRequestsAdaptiveGroups(limit: 50, filter: {datetime_geq: $from, datetime_lt: $to}, orderBy: [datetimeMinute_ASC]) {
		count avg { originResponseDurationMs } dimensions { datetimeMinute } } } } }`
	vars := span("shop", epoch.Add(-time.Hour), epoch.Add(-50*time.Minute))
	with := func(k cfsim.FaultKind) answer {
		w.sim.ClearFaults()
		if _, err := w.sim.Inject(cfsim.Fault{Kind: k, Dataset: "httpRequestsAdaptiveGroups"}); err != nil {
			t.Fatal(err)
		}
		return w.ask(query, vars)
	}
	if got := rows(t, with(cfsim.FaultDuplicate), "a"); len(got) != 11 || text(t, got[0], "dimensions", "datetimeMinute") != text(t, got[10], "dimensions", "datetimeMinute") {
		t.Errorf("duplicate: %d rows", len(got))
	}
	if n := dig(t, rows(t, with(cfsim.FaultHuge), "a")[0], "count").(json.Number).String(); len(n) != 19 || n[0] != '9' {
		t.Errorf("huge: %s, want above 2^63", n)
	}
	if n := dig(t, rows(t, with(cfsim.FaultNegative), "a")[0], "avg", "originResponseDurationMs").(json.Number); n != "-1" {
		t.Errorf("negative: %s", n)
	}
	a := with(cfsim.FaultPartial)
	if len(a.Errors) != 1 || len(rows(t, a, "ok")) != 1 || dig(t, a.Data, "viewer", "zones", 0, "a") != nil {
		t.Errorf("partial: %s", a.Body)
	}
}

func (w *world) statusOf(query, tag string) int {
	w.t.Helper()
	body, _ := json.Marshal(map[string]any{"query": query, "variables": map[string]any{"zone": tag}})
	return w.post(body).Code
}
