package collector

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/cfsimtest"
	"github.com/weir-metrics/weir/internal/cfsim/schema"
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

// What scaffold prints for a node is valid, has each number of the node and no other, and is
// answered.
func TestScaffoldsOfEveryNode(t *testing.T) {
	y, permits := asked(t, "shop.example")
	now := time.Date(2026, 11, 22, 12, 30, 0, 0, time.UTC)
	entries := 0
	for _, scope := range []schema.Scope{schema.Zone, schema.Account} {
		for _, d := range schema.Datasets(scope) {
			var b bytes.Buffer
			*permits = 0
			err := y.scaffold(t.Context(), &b, d.Name, string(scope))
			if d.Raw {
				if err == nil || !strings.Contains(err.Error(), "single events") {
					t.Errorf("%s: %v", d.Name, err)
				}
				continue
			}
			if err != nil || *permits != cloudflare.NodeCalls+1 {
				t.Errorf("%s with %d permits: %v", d.Name, *permits, err)
				continue
			}
			entries++
			text := b.String()
			c, err := catalogue.Load(b.Bytes(), catalogue.Options{File: "scaffold.yaml"})
			if err != nil || len(c.Datasets) != 6 {
				t.Errorf("the entry for %s: %v\n%s", d.Name, err, text)
				continue
			}
			at := slices.IndexFunc(c.Datasets, func(d catalogue.Dataset) bool { return strings.HasPrefix(d.Dataset, "own_") })
			own := &c.Datasets[at]
			measuredAll(t, scope, d, own, text)
			for f := range strings.Lines(text) {
				name, isDimension := strings.CutPrefix(f, "        #  - ")
				name, _, _ = strings.Cut(name, " ")
				if _, has := d.Field(scope, "dimensions", name); isDimension && !has {
					t.Errorf("%s has no dimension %q", d.Name, name)
				}
			}
			if strings.Contains(text, "does not include this node") {
				continue
			}
			if err := y.rows(t.Context(), new(bytes.Buffer), own, now); err != nil {
				t.Errorf("%s is not answered: %v\n%s", d.Name, err, text)
			}
		}
	}
	if entries < 40 {
		t.Errorf("only %d entries were written", entries)
	}
}

// measuredAll checks that the measures of a dataset are the numbers of a node, as what they are.
// Those that one query cannot have are named.
func measuredAll(t *testing.T, scope schema.Scope, d *schema.Dataset, own *catalogue.Dataset, text string) {
	t.Helper()
	v := &own.Variants[0]
	var got []string
	if _, left, ok := strings.Cut(text, " fields: "); ok {
		left, _, _ = strings.Cut(left, "\n")
		for item := range strings.SplitSeq(left, ", ") {
			words := strings.Fields(item)
			field := strings.Replace(words[0], ".", "_", 1)
			for _, q := range words[1:] {
				digits := strings.TrimPrefix(q, "0.")
				got = append(got, field+"P"+digits+strings.Repeat("0", max(0, 2-len(digits))))
			}
			if len(words) == 1 {
				got = append(got, field)
			}
		}
	}
	for _, f := range v.Fields() {
		if !strings.HasPrefix(f, "dimensions_") {
			got = append(got, f)
		}
	}
	deprecated := []string{"sum_threats"}
	var want []string
	for _, c := range d.Containers {
		if c == "count" {
			want = append(want, c)
		}
		if c == "dimensions" || c == "confidence" {
			continue
		}
		for _, f := range d.Fields(scope, c) {
			if !f.List && f.Fields == nil && f.Type != "Time" && f.Type != "string" && !slices.Contains(deprecated, c+"_"+f.Name) {
				want = append(want, c+"_"+f.Name)
			}
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if want = slices.Compact(want); !slices.Equal(slices.DeleteFunc(got, func(f string) bool { return f == "avg_sampleInterval" }), slices.DeleteFunc(want, func(f string) bool { return f == "avg_sampleInterval" })) {
		t.Errorf("%s: measures of %v\nnot of %v", d.Name, got, want)
	}
	for _, m := range v.Measures {
		at := slices.IndexFunc(own.Families, func(f bucket.Family) bool { return f.Name == m.Family })
		amount := m.Field == "count" || strings.HasPrefix(m.Field, "sum.")
		if f := own.Families[at]; f.Additive != amount {
			t.Errorf("%s: family %s of %s is additive: %v", d.Name, f.Name, m.Field, f.Additive)
		}
	}
}

// A known node is not declared again, another one is; a plan is asked only with a zone, and
// what it does not include is optional.
func TestScaffoldTexts(t *testing.T) {
	for name, test := range map[string]struct {
		zone, node, scope string
		want, not         []string
		permits           int
	}{
		"known": {
			"", "dnsAnalyticsAdaptiveGroups", "zone",
			[]string{
				"level: cloudflare_zone_own_dns_analytics_events\n", `help: "Sum of the sample intervals of the events."}`, "#  - queryName (string)",
				"{name: cloudflare_zone_own_dns_analytics_quantiles_processing_time_seconds, help: \"Field quantiles.processingTimeUs of dnsAnalyticsAdaptiveGroups in the bucket.\", unit: seconds, labels: [quantile], additive: false}",
				"field: quantiles.processingTimeUs, quantiles: [0.5, 0.9, 0.99], scale: us}", "field: avg.processingTimeUs, scale: us, weight: count}",
			},
			[]string{"nodes:", "optional", "Not for", "includes"},
			2,
		},
		"new": {
			"", "cacheReserveOperationsAdaptiveGroups", "zone",
			[]string{"nodes:\n  cacheReserveOperationsAdaptiveGroups:\n    filter_field: datetime\n    times: {1m: datetimeMinute, 5m: datetimeFiveMinutes, 15m: datetimeFifteenMinutes, 1h: datetimeHour, 1d: date}\n    sampled: true\n    interval: avg.sampleInterval\n    bounds: [sum]\n"},
			nil, 2,
		},
		"description": {"", "workersInvocationsAdaptive", "account", []string{
			`help: "Time from the start of an invocation to its end, in microseconds."`, "level: cloudflare_account_own_workers_invocations_requests\n",
			"quantiles: [0.5, 0.95, 0.99]}", "# Left out, since a query may have 30 fields: quantiles.cpuTime 0.25, ", ", min.wallTime\n",
		}, nil, 2},
		"maps": {
			"", "httpRequests1hGroups", "zone",
			[]string{"size: 1h", "# Not a number: sum.countryMap (list of bytes (uint64), clientCountryName (string), requests (uint64)", "field: uniq.uniques}"},
			[]string{"sum.threats"},
			2,
		},
		"days":    {"", "httpRequests1dGroups", "zone", []string{"size: 1d"}, nil, 2},
		"maximum": {"", "r2StorageAdaptiveGroups", "account", []string{"join: max}", "_object_count_reported, "}, []string{"optional"}, 2},
		"refused": {"blog.example", "healthCheckEventsAdaptiveGroups", "zone", []string{"# The plan of zone blog.example does not include this node now."}, nil, 3},
		"fields": {
			"blog.example", "httpRequestsAdaptiveGroups", "zone",
			[]string{"# Optional measures are those that zone blog.example may not query now.", "botScore (uint8) [not for zone blog.example]", "quantiles: [0.5, 0.95, 0.99], scale: ms, optional: true}"},
			nil, 3,
		},
	} {
		t.Run(name, func(t *testing.T) {
			y, permits := asked(t, cmp.Or(test.zone, "shop.example"))
			if test.zone == "" {
				y.zone = cloudflare.Zone{}
			}
			var b bytes.Buffer
			if err := y.scaffold(t.Context(), &b, test.node, test.scope); err != nil || *permits != test.permits {
				t.Fatalf("with %d permits: %v", *permits, err)
			}
			for _, want := range test.want {
				if !strings.Contains(b.String(), want) {
					t.Errorf("no %q in\n%s", want, b.String())
				}
			}
			for _, not := range test.not {
				if strings.Contains(b.String(), not) {
					t.Errorf("%q in\n%s", not, b.String())
				}
			}
		})
	}
}

func TestScaffoldErrors(t *testing.T) {
	for name, test := range map[string]struct{ node, scope, want string }{
		"near":        {"dnsAnalyticAdaptiveGroup", "zone", `a zone has no node "dnsAnalyticAdaptiveGroup"; did you mean dnsAnalyticsAdaptiveGroups?`},
		"part":        {"waitingRoom", "zone", "did you mean waitingRoomAnalyticsAdaptiveGroups?"},
		"other scope": {"r2StorageAdaptiveGroups", "zone", `a zone has no node "r2StorageAdaptiveGroups", but an account has; ask with --scope account`},
		"nothing":     {"xyz", "account", `an account has no node "xyz", which has `},
		"settings":    {"settings", "zone", `a zone has no node "settings"`},
		"no name":     {"a b", "zone", `node "a b" of a "zone": both must be names`},
	} {
		y, _ := asked(t, "shop.example")
		var b bytes.Buffer
		if err := y.scaffold(t.Context(), &b, test.node, test.scope); err == nil || !strings.Contains(err.Error(), test.want) || b.Len() > 0 {
			t.Errorf("%s: %v\nnot %s\n%s", name, err, test.want, b.String())
		}
	}
	y, _ := asked(t, "shop.example")
	y.permit = func(context.Context) error { return noPermit("the budget is used up") }
	if err := y.scaffold(t.Context(), new(bytes.Buffer), "dnsAnalyticsAdaptiveGroups", "zone"); !errors.As(err, new(noPermit)) {
		t.Errorf("without a permit: %v", err)
	}
}

// Without a zone the first credential is asked, and without Postgres nothing is.
func TestReachWithoutZone(t *testing.T) {
	config := cfsim.Demo(clock.NewManual(time.Date(2026, 11, 22, 12, 30, 0, 0, time.UTC)), 7)
	c := defaults()
	c.CloudflareURL, c.Token = cfsimtest.Start(t, cfsimtest.New(t, config)), cli.NewSecret(config.Tokens[0].Secret)
	y, err := c.reach(t.Context(), "", config.Clock)
	if err != nil {
		t.Fatal(err)
	}
	if err := y.scaffold(t.Context(), new(bytes.Buffer), "dnsAnalyticsAdaptiveGroups", "zone"); !errors.As(err, new(noPermit)) || !strings.Contains(err.Error(), "WEIR_DATABASE_URL") {
		t.Errorf("without Postgres: %v", err)
	}
	y.permit = func(context.Context) error { return nil }
	var b bytes.Buffer
	if err := y.scaffold(t.Context(), &b, "dnsAnalyticsAdaptiveGroups", "zone"); err != nil || strings.Contains(b.String(), "optional") {
		t.Errorf("%v\n%s", err, b.String())
	}
	c.Token = cli.NewSecret("wrong_token_0123456789")
	if y, err = c.reach(t.Context(), "", config.Clock); err != nil {
		t.Fatal(err)
	}
	y.permit = func(context.Context) error { return nil }
	var refused *cloudflare.Error
	if err := y.scaffold(t.Context(), &b, "dnsAnalyticsAdaptiveGroups", "zone"); !errors.As(err, &refused) || refused.Class != cloudflare.Auth {
		t.Errorf("with a wrong token: %v", err)
	}
}
