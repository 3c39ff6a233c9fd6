package cfsim_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/schema"
)

// all are the objects of all pages.
func (w *world) all(path string, per int) []any {
	w.t.Helper()
	var out []any
	for page := 1; ; page++ {
		status, _, v := w.get(fmt.Sprintf("%s?per_page=%d&page=%d", path, per, page))
		if status != 200 {
			w.t.Fatalf("%s: status %d, %v", path, status, v)
		}
		out = append(out, v["result"].([]any)...)
		if num(w.t, v, "result_info", "total_pages") <= uint64(page) {
			return out
		}
	}
}

// The pools that REST lists are those that requests were sent to.
func TestPoolsOfRESTAndOfRequests(t *testing.T) {
	w := newWorld(t, nil)
	names := map[string]string{}
	for _, p := range w.all("/accounts/"+account("retail")+"/load_balancers/pools", 3) {
		names[text(t, p, "id")] = text(t, p, "name")
		if dig(t, p, "origins", 1, "weight") == nil || dig(t, p, "healthy") == nil {
			t.Errorf("pool %v says nothing about its origins or its health", p)
		}
	}
	lbs := w.all("/zones/"+zone("shop")+"/load_balancers", 20)
	if len(lbs) != 1 || text(t, lbs[0], "steering_policy") == "" {
		t.Fatalf("load balancers are %v", lbs)
	}
	groups, err := w.sim.Truth(cfsim.Question{
		Scope: schema.Zone, Tag: zone("shop"), Dataset: "loadBalancingRequestsAdaptiveGroups", Start: epoch.Add(-time.Hour), End: epoch,
		Dimensions: []string{"selectedPoolId", "selectedPoolName", "lbName"}, Measures: []string{"count"},
	})
	if err != nil || len(groups) != 2 {
		t.Fatalf("requests went to %v (%v)", groups, err)
	}
	for _, g := range groups {
		if names[g.Key[0].(string)] != g.Key[1] || text(t, lbs[0], "name") != g.Key[2] {
			t.Errorf("requests went to %v; REST has %v and %v", g.Key, names, lbs[0])
		}
	}
}

// A raw row has the state of all pools, the selected one among them.
func TestRawRequestsOfALoadBalancer(t *testing.T) {
	w := newWorld(t, nil)
	a := w.good(`{ viewer { zones(filter: {zoneTag: $zone}) { loadBalancingRequestsAdaptive(limit: 500, filter: {datetime_geq: $from, datetime_lt: $to}) {
		lbName selectedPoolName selectedPoolHealthy selectedPoolAvgRttMs pools { id poolName healthy avgRttMs } origins { originName ipv4 selected weight } } } } }`,
		span("shop", epoch.Add(-time.Hour), epoch.Add(-50*time.Minute)))
	list := rows(t, a, "loadBalancingRequestsAdaptive")
	down := 0
	for _, r := range list {
		found := false
		for _, p := range dig(t, r, "pools").([]any) {
			found = found || text(t, p, "poolName") == text(t, r, "selectedPoolName") && num(t, p, "healthy") == num(t, r, "selectedPoolHealthy") &&
				num(t, p, "avgRttMs") == num(t, r, "selectedPoolAvgRttMs")
			if num(t, p, "healthy") == 0 {
				down++
			}
		}
		if !found || len(dig(t, r, "origins").([]any)) != 2 {
			t.Fatalf("row %v is at odds with itself", r)
		}
	}
	if len(list) != 500 || down == 0 || down > 250 {
		t.Errorf("%d rows, a pool is down in %d", len(list), down)
	}
}

func TestProductsOfREST(t *testing.T) {
	w := newWorld(t, nil)
	if _, _, v := w.get("/accounts/" + account("labs")); text(t, v, "result", "name") != "Example Labs" {
		t.Errorf("account is %v", v)
	}
	tunnels := w.all("/accounts/"+account("retail")+"/cfd_tunnel", 2)
	states := map[string]int{}
	for _, tunnel := range tunnels {
		state := text(t, tunnel, "status")
		states[state]++
		path := "/accounts/" + account("retail") + "/cfd_tunnel/" + text(t, tunnel, "id")
		if _, _, v := w.get(path); text(t, v, "result", "name") != text(t, tunnel, "name") {
			t.Errorf("tunnel %s is %v", path, v)
		}
		connectors := w.all(path+"/connections", 10)
		if (state == "healthy" || state == "degraded") != (len(connectors) == 1) {
			t.Errorf("a %s tunnel has the connectors %v", state, connectors)
		}
	}
	if len(tunnels) != 3 || states["inactive"] != 1 {
		t.Errorf("tunnels are %v", states)
	}
	for _, pack := range w.all("/zones/"+zone("shop")+"/ssl/certificate_packs", 1) {
		expires, err := time.Parse(time.RFC3339, text(t, pack, "certificates", 0, "expires_on"))
		if left := expires.Sub(epoch); err != nil || left < 24*time.Hour || left > 91*24*time.Hour {
			t.Errorf("certificate expires at %v (%v)", expires, err)
		}
	}
	count := map[string]int{}
	for _, h := range w.all("/zones/"+zone("shop")+"/custom_hostnames", 7) {
		count[text(t, h, "ssl", "status")]++
	}
	if count["active"] != 20 || count["pending_validation"] != 2 || count["expired"] != 2 {
		t.Errorf("custom hostnames are %v", count)
	}
	// What is not there, not visible or not allowed.
	for path, want := range map[string]int{
		"/accounts/" + cfsim.Tag("nobody"): 403, "/accounts/zz": 404, "/accounts/" + account("labs") + "/cfd_tunnel/none": 404,
		"/accounts/" + account("labs") + "/unheard-of": 404, "/zones/" + zone("quiet") + "/load_balancers": 200,
	} {
		if status, _, _ := w.get(path); status != want {
			t.Errorf("%s: status %d, want %d", path, status, want)
		}
	}
}

func TestProductsTakePermissions(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) {
		narrow := cfsim.GoodToken("narrow")
		narrow.Permissions, narrow.Accounts = []cfsim.Permission{cfsim.ZoneRead, cfsim.AccountRead}, []string{account("retail")}
		c.Tokens = append(c.Tokens, narrow)
	})
	w.secret = "narrow"
	for path, want := range map[string]int{
		"/accounts/" + account("retail"):                           200,
		"/accounts/" + account("retail") + "/cfd_tunnel":           403,
		"/accounts/" + account("retail") + "/load_balancers/pools": 403,
		"/zones/" + zone("shop") + "/load_balancers":               403,
		"/zones/" + zone("shop") + "/ssl/certificate_packs":        403,
		"/zones/" + zone("shop") + "/custom_hostnames":             403,
		"/accounts/" + account("labs"):                             403,
		"/accounts/" + account("labs") + "/load_balancers/pools":   403,
		"/zones/" + zone("shop") + "/rulesets":                     403,
	} {
		status, header, _ := w.get(path)
		if status != want {
			t.Errorf("%s: status %d, want %d", path, status, want)
		}
		if header.Get("Ratelimit") == "" {
			t.Errorf("%s does not say what is left of the rate limit", path)
		}
	}
}
