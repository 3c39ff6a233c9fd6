package cfsim_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/cfsim"
)

// twoZones asks one dataset of two zones; the answer's path counts them ascending.
func twoZones(t *testing.T, names ...string) []byte {
	t.Helper()
	tags := []string{}
	for _, n := range names {
		tags = append(tags, zone(n))
	}
	body, err := json.Marshal(map[string]any{
		"query":     `{ viewer { zones(filter: {zoneTag_in: $zones}) { zoneTag s0: httpRequests1mGroups(limit: 5, orderBy: [datetimeMinute_ASC], filter: {datetime_geq: $from, datetime_lt: $to}) { dimensions { datetimeMinute } sum { requests countryMap { clientCountryName requests } } } } } }`,
		"variables": map[string]any{"zones": tags, "from": "2026-11-22T11:00:00Z", "to": "2026-11-22T11:03:00Z"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestRefusals(t *testing.T) {
	w := newWorld(t, nil)
	lower, upper := zone("shop"), zone("media")
	if upper < lower {
		lower, upper = upper, lower
	}
	timestamp := `"extensions":{"timestamp":"2026-11-22T12:00:00Z"}`
	for _, tc := range []struct {
		name   string
		fault  cfsim.Fault
		status int
		body   string
	}{
		{
			"location",
			cfsim.Fault{Kind: cfsim.FaultLocation},
			403,
			`{"errors":[{"code":9109,"message":"Cannot use the access token from location: 203.0.113.9"}],"messages":[],"result":null,"success":false}`,
		},
		{
			"unknown words",
			cfsim.Fault{Kind: cfsim.FaultRefusal, Status: 451, Refusal: cfsim.Refusal{Message: "no"}},
			451,
			`{"data":null,"errors":[{` + timestamp + `,"message":"no","path":null}]}`,
		},
		{
			"with a code and the zone's place",
			cfsim.Fault{Kind: cfsim.FaultRefusal, Status: 200, Zone: upper, Refusal: cfsim.Refusal{Code: "authz", Message: "not %s", Names: true}},
			200,
			`{"data":null,"errors":[{"extensions":{"code":"authz","timestamp":"2026-11-22T12:00:00Z"},"message":"not ` + upper + `","path":["viewer","zones","1"]}]}`,
		},
		{
			"with the dataset's place",
			cfsim.Fault{Kind: cfsim.FaultRefusal, Zone: upper, Dataset: "httpRequests1mGroups", Refusal: cfsim.Refusal{Names: true}},
			403,
			`{"data":null,"errors":[{` + timestamp + `,"message":"the request was not accepted","path":["viewer","zones","1","s0"]}]}`,
		},
		{"empty", cfsim.Fault{Kind: cfsim.FaultRefusal, Status: 418, Refusal: cfsim.Refusal{Envelope: cfsim.EnvelopeEmpty}}, 418, ``},
		{
			"several zones",
			cfsim.Fault{Kind: cfsim.FaultZonesDenied, Zones: []string{upper, lower, zone("blog")}},
			200,
			`{"data":null,"errors":[{` + timestamp + `,"message":"zones [` + lower + ` ` + upper + `] are not authorized","path":null}]}`,
		},
		{"fields", cfsim.Fault{Kind: cfsim.FaultTooManyFields}, 200, `{"data":null,"errors":[{` + timestamp + `,"message":"number of fields can't be more than 30","path":null}]}`},
		{"too many", cfsim.Fault{Kind: cfsim.FaultTooManyRequests}, 200, `{"data":null,"errors":[{` + timestamp + `,"message":"Too many requests","path":null}]}`},
	} {
		w.sim.ClearFaults()
		if _, err := w.sim.Inject(tc.fault); err != nil {
			t.Fatal(err)
		}
		got := w.post(twoZones(t, "shop", "media"))
		if got.Code != tc.status || got.Body.String() != tc.body {
			t.Errorf("%s: %d %s\nwant %d %s", tc.name, got.Code, got.Body, tc.status, tc.body)
		}
		if log := w.sim.Requests(); log[len(log)-1].Fault != tc.fault.Kind || log[len(log)-1].Outcome != "refused" {
			t.Errorf("%s: the log says %+v", tc.name, log[len(log)-1])
		}
	}
	w.sim.ClearFaults()
	if _, err := w.sim.Inject(cfsim.Fault{Kind: cfsim.FaultRefusal, Zone: zone("shop"), Refusal: cfsim.Refusal{Envelope: cfsim.EnvelopeHTML}}); err != nil {
		t.Fatal(err)
	}
	if got := w.post(twoZones(t, "shop", "media")); got.Code != 403 || !strings.HasPrefix(got.Body.String(), "<!DOCTYPE html>") {
		t.Errorf("html: %d %s", got.Code, got.Body)
	}
	if got := w.post(twoZones(t, "media", "api")); got.Code != 200 || !strings.Contains(got.Body.String(), `"errors":null`) {
		t.Errorf("without the zone that is struck: %d %s", got.Code, got.Body)
	}
	// REST is refused too, and only the path that the fault names.
	w.sim.ClearFaults()
	if _, err := w.sim.Inject(cfsim.Fault{Kind: cfsim.FaultLocation, Path: "/zones"}); err != nil {
		t.Fatal(err)
	}
	if status, _, body := w.get("/zones"); status != 403 || body["success"] != false {
		t.Errorf("zones: %d %v", status, body)
	}
	if status, _, _ := w.get("/accounts"); status != 200 {
		t.Errorf("accounts: %d", status)
	}
	for _, f := range []cfsim.Fault{
		{Kind: cfsim.FaultRefusal, Refusal: cfsim.Refusal{Envelope: "x"}},
		{Kind: cfsim.FaultBusy, Refusal: cfsim.Refusal{Message: "x"}},
		{Kind: cfsim.FaultDimension, Odd: []string{"-1"}},
		{Kind: cfsim.FaultNumber, Odd: []string{"nul"}},
		{Kind: cfsim.FaultBusy, Odd: []string{"nul"}},
	} {
		if _, err := w.sim.Inject(f); err == nil {
			t.Errorf("%+v was accepted", f)
		}
	}
}

// Every odd value arrives as it would from an encoder, twice the same, while the
// truth is told as before.
func TestOddValues(t *testing.T) {
	w := newWorld(t, nil)
	truth := func() cfsim.Totals {
		v, err := w.sim.True(zone("shop"), epoch.Add(-time.Hour), epoch.Add(-57*time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	before := truth()
	plain := w.post(twoZones(t, "shop", "media")).Body.String()
	ask := func(f cfsim.Fault) string {
		t.Helper()
		w.sim.ClearFaults()
		if _, err := w.sim.Inject(f); err != nil {
			t.Fatal(err)
		}
		first, again := w.post(twoZones(t, "shop", "media")), w.post(twoZones(t, "shop", "media"))
		if first.Code != http.StatusOK || first.Body.String() != again.Body.String() {
			t.Errorf("%s %v: two readings differ", f.Kind, f.Odd)
		}
		if !json.Valid(first.Body.Bytes()) {
			t.Errorf("%s %v: not JSON: %.300s", f.Kind, f.Odd, first.Body)
		}
		if f := w.sim.Faults(); f[0].Fired == 0 {
			t.Errorf("%s did not happen", f[0].Kind)
		}
		return first.Body.String()
	}
	written := map[string]string{
		"empty": `"clientCountryName":""`, "nul": `\u0000`, "control": `\u0001\u001b[31m`, "replacement": "\ufffd\"", "surrogate": `\ud800"`,
		"quotes": `"clientCountryName":"\"`, "newline": `\r\n# HELP x\nx 1\u2028"`, "rtl": "\u202e", "blanks": `"clientCountryName":" \t`,
	}
	for _, odd := range cfsim.OddStrings()[:9] {
		if got := ask(cfsim.Fault{Kind: cfsim.FaultDimension, Zone: zone("shop"), Odd: []string{odd}}); !strings.Contains(got, written[odd]) {
			t.Errorf("%s: %.800s", odd, got)
		}
	}
	for name, value := range map[string]string{"-1": "-1", "1e400": "1e400", "1e-400": "1e-400", "2^63": "9223372036854775808", "0.5": "0.5", "null": "null", "string": `"12"`} {
		if got := ask(cfsim.Fault{Kind: cfsim.FaultNumber, Odd: []string{name}}); !strings.Contains(got, `"requests":`+value) {
			t.Errorf("%s: %.300s", name, got)
		}
	}
	if got := ask(cfsim.Fault{Kind: cfsim.FaultTime, Odd: []string{"empty"}}); !strings.Contains(got, `"datetimeMinute":""`) || !strings.Contains(got, `"clientCountryName":"`) {
		t.Errorf("time: %.300s", got)
	}
	// By chance, some are and some are not.
	some := ask(cfsim.Fault{Kind: cfsim.FaultNumber, Odd: []string{"null"}, Probability: .3})
	if n, of := strings.Count(some, `"requests":null`), strings.Count(plain, `"requests":`); n < of/10 || n > of/2 {
		t.Errorf("%d of %d numbers are odd, want three in ten", n, of)
	}
	w.sim.ClearFaults()
	if got := w.post(twoZones(t, "shop", "media")).Body.String(); got != plain {
		t.Error("afterwards the answer is another one")
	}
	if diff := cmp.Diff(before, truth()); diff != "" {
		t.Errorf("the truth has changed:\n%s", diff)
	}
}

func TestOddNames(t *testing.T) {
	w := newWorld(t, nil)
	for _, f := range []cfsim.Fault{
		{Kind: cfsim.FaultZoneName, Zone: zone("shop"), Odd: []string{"empty"}},
		{Kind: cfsim.FaultZoneName, Zone: zone("media"), Odd: []string{"9MB"}},
		{Kind: cfsim.FaultAccountName, Zone: account("labs"), Odd: []string{"1MB"}},
	} {
		if _, err := w.sim.Inject(f); err != nil {
			t.Fatal(err)
		}
	}
	odd := 0
	for _, z := range w.zones() {
		a := z["account"].(map[string]any)
		if shop := z["id"] == zone("shop"); shop != (z["name"] == "") {
			t.Errorf("zone %v is called %q", z["id"], z["name"])
		}
		if media := z["id"] == zone("media"); media != (len(z["name"].(string)) > 9_000_000) {
			t.Errorf("zone %v is called %.40q", z["id"], z["name"])
		}
		if labs := a["id"] == account("labs"); labs != (len(a["name"].(string)) > 1_000_000) {
			t.Errorf("account %v is called %.40q", a["id"], a["name"])
		} else if labs {
			odd++
		}
	}
	if odd == 0 {
		t.Error("no zone of the account was listed")
	}
	for _, z := range w.sim.Zones() {
		if z.Name == "" {
			t.Errorf("the true name of %s is gone", z.ID)
		}
	}
}
