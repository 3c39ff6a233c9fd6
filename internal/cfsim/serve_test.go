package cfsim_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/cfsimtest"
	"github.com/weir-metrics/weir/internal/cfsim/schema"
)

func TestServesOverTLS(t *testing.T) {
	sim, _ := newSim(t)
	conf, authority, err := cfsim.ThrowawayTLS()
	if err != nil {
		t.Fatal(err)
	}
	base := cfsimtest.StartTLS(t, sim, conf)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		t.Fatal("the authority is no certificate")
	}
	get := func(c *http.Client) (*http.Response, error) {
		r, err := http.NewRequest(http.MethodGet, base+"/user/tokens/verify", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+cfsim.DemoToken)
		return c.Do(r)
	}
	trusting := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	resp, err := get(trusting)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("status %d", resp.StatusCode)
	}
	if resp, err := get(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}); err == nil {
		resp.Body.Close()
		t.Error("a client that does not know the authority was served")
	}
}

func TestServeStopsGracefully(t *testing.T) {
	sim, _ := newSim(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sim.Inject(cfsim.Fault{Kind: cfsim.FaultSlow, Delay: 50 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- sim.Serve(ctx, ln) }()
	answered := make(chan error, 1)
	go func() {
		r, _ := http.NewRequest(http.MethodGet, "http://"+ln.Addr().String()+cfsim.Prefix+"/zones", nil)
		r.Header.Set("Authorization", "Bearer "+cfsim.DemoToken)
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
		if err == nil {
			resp.Body.Close()
		}
		answered <- err
	}()
	for sim.Counters().REST == 0 { // the request is under way
		select {
		case err := <-answered:
			t.Fatalf("answered too early: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := <-answered; err != nil {
		t.Errorf("the answer under way was cut: %v", err)
	}
}

func TestGzip(t *testing.T) {
	w := newWorld(t, nil)
	w.header.Set("Accept-Encoding", "gzip")
	body, _ := json.Marshal(map[string]any{"query": `{ __schema { types { name } } }`})
	rec := w.post(body)
	if rec.Header().Get("Content-Encoding") != "gzip" {
		t.Fatalf("headers %v", rec.Header())
	}
	zr, err := gzip.NewReader(rec.Body)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(zr)
	if err != nil || !json.Valid(plain) {
		t.Errorf("%v, %.100s", err, plain)
	}
}

func TestIntrospection(t *testing.T) {
	w := newWorld(t, nil)
	a := w.good(`{ __type(name: "zone") { name fields { name type { kind ofType { kind } } args { name } } } missing: __type(name: "nothing") { name } }`, nil)
	names := map[string]bool{}
	for _, f := range dig(t, a.Data, "__type", "fields").([]any) {
		names[text(t, f, "name")] = true
	}
	if !names["httpRequests1mGroups"] || !names["settings"] || a.Data["missing"] != nil {
		t.Errorf("type zone has %v", names)
	}
	a = w.good(`{ __schema { queryType { name } types { name kind fields { name } } } }`, nil)
	found := false
	for _, typ := range dig(t, a.Data, "__schema", "types").([]any) {
		if text(t, typ, "name") == "ZoneHttpRequestsAdaptiveGroupsSum" {
			found = true
		}
	}
	if !found {
		t.Error("the schema lacks the sums of the adaptive dataset")
	}
}

// Whoever follows the types from a node finds each of its fields, filters and orders,
// and what is found there can be asked.
func TestIntrospectionLeadsToEveryField(t *testing.T) {
	w := newWorld(t, nil)
	a := w.good(`{ __schema { types { name kind fields(includeDeprecated: true) { name type { ...T } args { name type { ...T } } } inputFields { name type { ...T } } enumValues { name } } } }
		fragment T on __Type { kind name ofType { kind name ofType { kind name ofType { kind name } } } }`, nil)
	types := map[string]map[string]any{}
	for _, typ := range dig(t, a.Data, "__schema", "types").([]any) {
		types[text(t, typ, "name")] = typ.(map[string]any)
	}
	var base func(any) string
	base = func(typ any) string {
		if m := typ.(map[string]any); m["ofType"] != nil {
			return base(m["ofType"])
		}
		return text(t, typ, "name")
	}
	members := func(name, list string) map[string]string {
		out := map[string]string{}
		for _, f := range types[name][list].([]any) {
			if kind := f.(map[string]any)["type"]; kind != nil {
				out[text(t, f, "name")] = base(kind)
				if types[base(kind)] == nil {
					t.Errorf("type %s has a field of the type %s, which is missing", name, base(kind))
				}
				continue
			}
			out[text(t, f, "name")] = ""
		}
		return out
	}
	for _, scope := range []schema.Scope{schema.Zone, schema.Account} {
		nodes := members(string(scope), "fields")
		for _, d := range schema.Datasets(scope) {
			node := nodes[d.Name]
			containers, inputs, orders := members(node, "fields"), members(node+"Filter_InputObject", "inputFields"), members(node+"OrderBy", "enumValues")
			for _, f := range d.Fields(scope, "dimensions") {
				if members(containers["dimensions"], "fields")[f.Name] != f.Type {
					t.Errorf("%s below a %s: dimension %s is not introspected", d.Name, scope, f.Name)
				}
				if _, ok := inputs[f.Name+"_in"]; !ok && !f.List {
					t.Errorf("%s below a %s: filter %s_in is not introspected", d.Name, scope, f.Name)
				}
				if _, ok := orders[f.Name+"_ASC"]; !ok && !f.List {
					t.Errorf("%s below a %s: order %s_ASC is not introspected", d.Name, scope, f.Name)
				}
			}
			for _, m := range measures(scope, d) {
				if c, f, _ := strings.Cut(m, "_"); f != "" && members(containers[c], "fields")[f] == "" || f == "" && containers[c] != "uint64" {
					t.Errorf("%s below a %s: measure %s is not introspected", d.Name, scope, m)
				}
			}
		}
	}
}

// A type by name has its members wherever it is named, with descriptions, and without
// deprecated fields unless they are asked for.
func TestIntrospectionNests(t *testing.T) {
	w := newWorld(t, nil)
	a := w.good(`{ __type(name: "ZoneHttpRequests1mGroups") { fields { name type { fields { name description type { ofType { name } } } } } }
		all: __type(name: "ZoneHttpRequests1mGroupsSum") { fields(includeDeprecated: true) { name isDeprecated } }
		confidence: __type(name: "ZoneHttpRequestsAdaptiveGroups") { fields { name type { fields { name type { name fields { name } } } } } } }`, nil)
	find := func(list any, name string) any {
		for _, f := range list.([]any) {
			if text(t, f, "name") == name {
				return f
			}
		}
		return nil
	}
	sums := dig(t, find(dig(t, a.Data, "__type", "fields"), "sum"), "type", "fields")
	if f := find(sums, "pageViews"); f == nil || dig(t, f, "type", "ofType", "name") != "uint64" || !strings.Contains(text(t, f, "description"), "HTML") {
		t.Errorf("pageViews is %v", f)
	}
	if f := find(sums, "threats"); f != nil {
		t.Errorf("a deprecated field is listed: %v", f)
	}
	if f := find(dig(t, a.Data, "all", "fields"), "threats"); f == nil || dig(t, f, "isDeprecated") != true {
		t.Errorf("a deprecated field that is asked for is %v", f)
	}
	parts := dig(t, find(dig(t, a.Data, "confidence", "fields"), "confidence"), "type", "fields")
	if f := find(parts, "count"); f == nil || find(dig(t, f, "type", "fields"), "lower") == nil {
		t.Errorf("the interval of the count is %v", f)
	}
	if f := find(parts, "sum"); f == nil || find(dig(t, f, "type", "fields"), "visits") == nil {
		t.Errorf("the intervals of the sums are %v", f)
	}
}

// TestConcurrentReadersSeeTheSame is for the race detector as much as for the
// answers: all share the model's caches.
func TestConcurrentReadersSeeTheSame(t *testing.T) {
	w := newWorld(t, nil)
	body, err := json.Marshal(map[string]any{
		"variables": span("shop", epoch.Add(-90*time.Minute), epoch),
		"query": `{ viewer { zones(filter: {zoneTag: $zone}) { httpRequests1mGroups(limit: 1000, filter: {datetime_geq: $from, datetime_lt: $to}, orderBy: [datetimeHour_ASC]) {
			dimensions { datetimeHour } sum { requests bytes } uniq { uniques } } } } }`,
	})
	if err != nil {
		t.Fatal(err)
	}
	want := w.post(body).Body.Bytes()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				if got := w.post(body).Body.Bytes(); !bytes.Equal(got, want) {
					t.Errorf("got %.200s, want %.200s", got, want)
				}
			}
		})
	}
	wg.Wait()
	if c := w.sim.Counters(); c.GraphQL != 41 || c.Outcomes["ok"] != 41 {
		t.Errorf("counters are %+v", c)
	}
}
