package collector

import (
	"bytes"
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
)

// asked is a way to a zone of a simulated Cloudflare, with a count of the permits.
func asked(t *testing.T, zone string) (y *way, permits *int) {
	t.Helper()
	clk := clock.NewManual(time.Date(2026, 11, 22, 12, 30, 0, 0, time.UTC))
	sim, err := cfsim.New(cfsim.Demo(clk, 7))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	client, err := cloudflare.New(cloudflare.Config{
		BaseURL: server.URL + "/client/v4", Token: func() (string, error) { return cfsim.DemoToken, nil }, Timeout: 5 * time.Second, Logger: testkit.Logger(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	zones, err := client.Zones(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	y, permits = &way{client: client}, new(int)
	y.permit = func(context.Context) error { *permits++; return nil }
	for _, z := range zones {
		if z.Name == zone {
			y.zone = z
		}
	}
	if y.zone.ID == "" {
		t.Fatalf("no zone %s", zone)
	}
	return y, permits
}

func defaults() *Config {
	var c Config
	cli.Defaults(c.Settings())
	return &c
}

func TestCatalogueCommands(t *testing.T) {
	c := defaults()
	for _, test := range []struct {
		run  func(*bytes.Buffer) error
		want []string
	}{
		{func(b *bytes.Buffer) error { return c.checkCatalogue(b) }, []string{"The catalogue is valid: ", " datasets, of which 5 are collected."}},
		{func(b *bytes.Buffer) error { return c.listCatalogue(b) }, []string{"http_5m ", "  yes  ", "enterprise, Logpush", "/h "}},
		{func(b *bytes.Buffer) error { return c.showDataset(b, "durations") }, []string{"## `durations_5m`", "| `cloudflare_zone_response_origin_duration_seconds` | quantile | seconds | **no** |"}},
		{func(b *bytes.Buffer) error {
			d, err := c.lookup("asns_1h")
			if err != nil {
				return err
			}
			return explainDataset(b, d, time.Date(2026, 11, 22, 12, 30, 0, 0, time.UTC))
		}, []string{"for  10 zones:", "Variant adaptive:", `a:httpRequestsAdaptiveGroups(limit:5000,filter:{datetime_geq:"2026-11-22T11:00:00Z",datetime_lt:"2026-11-22T12:00:00Z",requestSource:"eyeball"}`, "clientASNDescription"}},
		{func(b *bytes.Buffer) error {
			d, err := c.lookup("tunnel_connectors")
			if err != nil {
				return err
			}
			return explainDataset(b, d, time.Date(2026, 11, 22, 12, 30, 0, 0, time.UTC))
		}, []string{"for  10 accounts: 40.00 per", "Cloudflare Tunnel → Read", "GET /accounts/{account}/cfd_tunnel/{tunnel}/connections"}},
	} {
		var b bytes.Buffer
		if err := test.run(&b); err != nil {
			t.Fatal(err)
		}
		for _, want := range test.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("output does not have %q:\n%s", want, b.String())
			}
		}
	}
	if _, err := c.lookup("htp"); err == nil || !strings.Contains(err.Error(), `dataset "htp" is not in the catalogue; known are account_http_1h, `) {
		t.Errorf("an unknown dataset: %v", err)
	}
	if _, err := c.lookup("countries_5m"); err == nil || !strings.Contains(err.Error(), "which is countries_1h; countries can be collected at 1m, 5m, ") {
		t.Errorf("another size: %v", err)
	}
}

// What a zone returns now, without what its plan lacks, and with a permit for each request.
func TestExplainAsks(t *testing.T) {
	y, permits := asked(t, "shop.example")
	now := time.Date(2026, 11, 22, 12, 30, 0, 0, time.UTC)
	for name, want := range map[string]string{"http": "cloudflare_zone_requests{} ", "methods": `cloudflare_zone_requests_by_method{method="GET"} `, "workers": `cloudflare_account_worker_requests{script="`, "tunnels": `cloudflare_account_tunnel_info{tunnel_id="`} {
		d, err := defaults().lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		*permits = 0
		need := 2
		if d.State {
			need = 1
		}
		if err := y.rows(t.Context(), &b, d, now); err != nil || !strings.Contains(b.String(), want) || *permits != need {
			t.Errorf("%s with %d permits: %v, and no %q in\n%s", name, *permits, err, want, b.String())
		}
	}
	d, err := defaults().lookup("http")
	if err != nil {
		t.Fatal(err)
	}
	y.permit = func(context.Context) error { return noPermit("the budget is used up") }
	if err := y.rows(t.Context(), new(bytes.Buffer), d, now); !errors.As(err, new(noPermit)) {
		t.Errorf("without a permit: %v", err)
	}
}

// What scaffold prints for any node is an entry that can be loaded.
func TestScaffoldsLoad(t *testing.T) {
	y, _ := asked(t, "shop.example")
	for node, scope := range map[string]string{
		"dnsAnalyticsAdaptiveGroups": "zone", "httpRequestsAdaptiveGroups": "zone", "workersInvocationsAdaptive": "account", "r2OperationsAdaptiveGroups": "account",
		"streamMinutesViewedAdaptiveGroups": "account", "d1AnalyticsAdaptiveGroups": "account", "kvOperationsAdaptiveGroups": "account", "cacheReserveOperationsAdaptiveGroups": "zone",
	} {
		var b bytes.Buffer
		if err := y.scaffold(t.Context(), &b, node, scope); err != nil {
			t.Errorf("%s: %v", node, err)
			continue
		}
		text := b.String()
		if (node == "cacheReserveOperationsAdaptiveGroups") != strings.Contains(text, "nodes:") {
			t.Errorf("%s: a node is declared that is known, or is not:\n%s", node, text)
		}
		c, err := catalogue.Load([]byte(text), catalogue.Options{File: "scaffold.yaml"})
		if err != nil || len(c.Datasets) != 6 {
			t.Errorf("the entry for %s: %v\n%s", node, err, text)
		}
	}
	if err := y.scaffold(t.Context(), new(bytes.Buffer), "magicTransitNetworkAnalyticsAdaptiveGroups", "zone"); err == nil {
		t.Error("an entry for a node that zones do not have")
	}
}
