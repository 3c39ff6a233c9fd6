package cfsim_test

import (
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
)

// admin calls the admin handler and decodes its answer into v.
func (w *world) admin(method, path, body string, v any) int {
	w.t.Helper()
	rec := httptest.NewRecorder()
	w.sim.Admin().ServeHTTP(rec, httptest.NewRequest(method, path, strings.NewReader(body)))
	if err := json.Unmarshal(rec.Body.Bytes(), v); err != nil {
		w.t.Fatalf("%s %s: %q: %v", method, path, rec.Body, err)
	}
	return rec.Code
}

func TestAdmin(t *testing.T) {
	w := newWorld(t, nil)
	window := url.Values{"zone": {"shop.example"}, "start": {"2026-11-22T10:00:00Z"}, "end": {"2026-11-22T11:00:00Z"}}
	truth, _ := w.sim.True(zone("shop"), epoch.Add(-2*time.Hour), epoch.Add(-time.Hour))
	var got, then cfsim.Totals
	if code := w.admin("GET", "/truth?"+window.Encode(), "", &got); code != 200 || got.Requests != truth.Requests || got.Uniques != truth.Uniques {
		t.Errorf("truth: %d %+v", code, got)
	}
	window.Set("at", "2026-11-22T10:30:00Z")
	window.Set("dataset", "httpRequests1mGroups")
	if w.admin("GET", "/truth?"+window.Encode(), "", &then); then.Requests == 0 || then.Requests >= truth.Requests {
		t.Errorf("half an hour earlier %d of %d", then.Requests, truth.Requests)
	}
	window.Set("dataset", "httpRequestsAdaptiveGroups")
	window["dimension"] = []string{"edgeResponseStatus"}
	window.Set("eyeball", "true")
	var groups []cfsim.Group
	w.admin("GET", "/groups?"+window.Encode(), "", &groups)
	var sum uint64
	for _, g := range groups {
		sum += g.Count
	}
	if sum != truth.Requests || len(groups) < 5 {
		t.Errorf("%d groups add up to %d, want %d", len(groups), sum, truth.Requests)
	}
	var id struct{ ID int }
	if code := w.admin("POST", "/faults", `{"kind":"html","status":503,"count":1,"from":"2026-11-22T00:00:00Z"}`, &id); code != 200 || id.ID == 0 {
		t.Errorf("fault: %d %+v", code, id)
	}
	if status := w.statusOf(`{ cost }`, ""); status != 503 {
		t.Errorf("status %d, want the injected 503", status)
	}
	var faults []cfsim.ActiveFault
	if w.admin("GET", "/faults", "", &faults); len(faults) != 1 || faults[0].Fired != 1 || faults[0].Status != 503 {
		t.Errorf("faults are %+v", faults)
	}
	var problem struct{ Error string }
	for _, bad := range []struct{ method, path, body string }{
		{"POST", "/faults", `{"kind":"tea"}`},
		{"POST", "/faults", `{"colour":1}`},
		{"GET", "/truth?zone=shop.example", ""},
		{"DELETE", "/faults/99", ""},
		{"GET", "/truth?zone=nobody&start=2026-11-22T10:00:00Z&end=2026-11-22T11:00:00Z", ""},
		{"GET", "/truth?zone=shop.example&start=2026-11-22T10:00:30Z&end=2026-11-22T11:00:00Z", ""},
		{"PUT", "/clock", `x`},
	} {
		if code := w.admin(bad.method, bad.path, bad.body, &problem); code != 400 || problem.Error == "" {
			t.Errorf("%v: %d %q", bad, code, problem.Error)
		}
	}
	var requests []cfsim.Request
	if w.admin("GET", "/requests?last=1", "", &requests); len(requests) != 1 || requests[0].Fault != cfsim.FaultHTML {
		t.Errorf("requests are %+v", requests)
	}
	var zones []cfsim.ZoneInfo
	if w.admin("GET", "/zones", "", &zones); len(zones) != 8 {
		t.Errorf("zones are %+v", zones)
	}
	var budgets map[string]int
	if w.admin("GET", "/budgets", "", &budgets); len(budgets) != 1 {
		t.Errorf("budgets are %v", budgets)
	}
	var now struct{ Now time.Time }
	if w.admin("PUT", "/clock", `{"now":"2026-11-22T13:00:00Z"}`, &now); !now.Now.Equal(epoch.Add(time.Hour)) {
		t.Errorf("clock is %s", now.Now)
	}
	var nothing struct{}
	w.admin("DELETE", "/faults", "", &nothing)
	w.admin("DELETE", "/requests", "", &nothing)
	if len(w.sim.Faults()) != 0 || len(w.sim.Requests()) != 0 {
		t.Error("nothing was deleted")
	}
}
