package cfsim_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/traffic"
)

// rollupSums is the set of sums that known exporters ask for.
const rollupSums = `uniq { uniques } sum { browserMap { pageViews uaBrowserFamily } bytes cachedBytes cachedRequests
	clientHTTPVersionMap { clientHTTPProtocol requests } clientSSLMap { clientSSLProtocol requests }
	contentTypeMap { bytes requests edgeResponseContentTypeName } countryMap { bytes clientCountryName requests threats }
	encryptedBytes encryptedRequests ipClassMap { ipType requests } pageViews requests
	responseStatusMap { edgeResponseStatus requests } threatPathingMap { requests threatPathingName } threats }`

// peers are the questions of known exporters, by what they ask for.
// Scope a is an account, z the zones.
var peers = []struct {
	name, scope, node, filter, selection string
	rows                                 bool // modelled, so that there must be some
}{
	{"one minute by equality", "z", "httpRequests1mGroups", `datetime: $from`, `dimensions { datetime } ` + rollupSums, true},
	{"minutes by range", "z", "httpRequests1mGroups", `datetime_geq: $from, datetime_lt: $to`, `dimensions { datetime } ` + rollupSums, true},
	{
		"firewall", "z", "firewallEventsAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to`,
		`count dimensions { action source ruleId clientRequestHTTPHost clientCountryName }`, true,
	},
	{
		"firewall with bots", "z", "firewallEventsAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to`,
		`count dimensions { action source ruleId clientRequestHTTPHost clientCountryName botScore botScoreSrcName }`, true,
	},
	{
		"origin status", "z", "httpRequestsAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to, cacheStatus_notin: ["hit"]`,
		`count quantiles { originResponseDurationMsP50 originResponseDurationMsP95 originResponseDurationMsP99 }
		dimensions { originResponseStatus clientCountryName clientRequestHTTPHost }`, true,
	},
	{
		"edge status", "z", "httpRequestsAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to, requestSource_in: ["eyeball"]`,
		`count dimensions { edgeResponseStatus clientCountryName clientRequestHTTPHost }`, true,
	},
	{
		"health checks", "z", "healthCheckEventsAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to`,
		`count avg { rttMs timeToFirstByteMs tcpConnMs tlsHandshakeMs } dimensions { healthStatus originIP region fqdn failureReason }`, true,
	},
	{
		"colos", "z", "httpRequestsAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to`,
		`count avg { sampleInterval } sum { edgeResponseBytes visits } dimensions { clientRequestHTTPHost coloCode datetime originResponseStatus }`, true,
	},
	{
		"colo errors", "z", "httpRequestsAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to, edgeResponseStatus_geq: 400`,
		`count sum { edgeResponseBytes visits } dimensions { clientRequestHTTPHost coloCode edgeResponseStatus }`, true,
	},
	{
		"load balancing", "z", "loadBalancingRequestsAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to`,
		`count dimensions { region lbName selectedPoolName proxied selectedOriginName selectedPoolAvgRttMs selectedPoolHealthy steeringPolicy numberOriginsSelected }`, true,
	},
	{
		"load balancing, raw", "z", "loadBalancingRequestsAdaptive", `datetime_geq: $from, datetime_lt: $to`,
		`lbName proxied region selectedPoolHealthy selectedPoolId selectedPoolName selectedPoolAvgRttMs sessionAffinityStatus steeringPolicy
		pools { id poolName healthy healthCheckEnabled avgRttMs } origins { originName health ipv4 selected }`, true,
	},
	{
		"workers", "a", "workersInvocationsAdaptive", `datetime_geq: $from, datetime_lt: $to`,
		`dimensions { scriptName status datetime } sum { requests errors duration } quantiles { cpuTimeP50 cpuTimeP75 cpuTimeP99 cpuTimeP999 durationP50 durationP999 }`, true,
	},
	{
		"zone logpush", "z", "logpushHealthAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to, status_neq: 200`,
		`count dimensions { jobId status destinationType datetime final }`, true,
	},
	{
		"account logpush", "a", "logpushHealthAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to, status_neq: 200`,
		`count dimensions { jobId status destinationType datetime final }`, true,
	},
	{"R2 storage", "a", "r2StorageAdaptiveGroups", `date: "2026-11-22"`, `dimensions { bucketName } max { metadataSize payloadSize objectCount }`, true},
	{"R2 operations", "a", "r2OperationsAdaptiveGroups", `date: "2026-11-22"`, `dimensions { actionType bucketName } sum { requests }`, true},
	{"networks", "z", "httpRequestsAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to`, `count sum { edgeResponseBytes } dimensions { clientAsn clientASNDescription }`, true},
	{
		"free tier", "z", "httpRequestsAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to, requestSource: "eyeball"`,
		`count sum { edgeResponseBytes } dimensions { clientCountryName edgeResponseStatus cacheStatus clientSSLProtocol clientRequestHTTPHost }`, true,
	},
	{"usage of an account", "a", "httpRequestsAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to, requestSource: "eyeball"`, `sum { edgeResponseBytes }`, true},
	{
		"errors of customers", "z", "httpRequestsAdaptiveGroups",
		`datetime_geq: $from, datetime_lt: $to, cacheStatus_notin: ["hit"], originResponseStatus_in: [400, 404, 500, 502, 503, 504, 522, 523, 524]`,
		`count avg { originResponseDurationMs } dimensions { originResponseStatus clientCountryName clientRequestHTTPHost }`, true,
	},
	{"methods", "z", "httpRequestsAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to`, `count dimensions { clientRequestHTTPMethodName }`, true},
	{
		"cache misses", "z", "httpRequestsAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to, cacheStatus: "miss"`,
		`count avg { originResponseDurationMs } dimensions { clientCountryName clientRequestHTTPHost }`, true,
	},
	{
		"paths of errors", "z", "httpRequestsAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to, edgeResponseStatus_geq: 400`,
		`count dimensions { edgeResponseStatus clientRequestHTTPHost clientRequestPath }`, true,
	},
	{"hosts", "z", "httpRequestsAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to, clientRequestHTTPHost_in: $hosts`, `count dimensions { clientRequestHTTPHost cacheStatus }`, true},
	{
		"latency of hosts", "z", "httpRequestsAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to, clientRequestHTTPHost_in: $hosts`,
		`avg { edgeTimeToFirstByteMs originResponseDurationMs } quantiles { edgeTimeToFirstByteMsP50 edgeTimeToFirstByteMsP95 originResponseDurationMsP50 originResponseDurationMsP95 }
		dimensions { clientRequestHTTPHost }`, true,
	},
	{
		"tunnels", "a", "magicTransitTunnelHealthChecksAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to`,
		`count avg { tunnelState } dimensions { active datetime edgeColoCity edgeColoCountry edgePopName remoteTunnelIPv4 resultStatus siteName tunnelName }`, true,
	},
	{
		"tunnel objectives", "a", "magicTransitTunnelHealthCheckSLOsAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to`,
		`count avg { effectiveSlo slo } dimensions { tunnelName siteName status }`, true,
	},
	{"tunnel traffic", "a", "magicTransitTunnelTrafficAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to`, `sum { bits packets } dimensions { tunnelName direction onRamp offRamp }`, true},
	{"packet filter", "a", "magicFirewallSamplesAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to`, `sum { bits packets } dimensions { ruleId }`, true},
	{"network, transit", "a", "magicTransitNetworkAnalyticsAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to`, `sum { bits packets } dimensions { outcome direction ipProtocolName mitigationSystem }`, true},
	{"network, attacks", "a", "dosdNetworkAnalyticsAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to`, `sum { bits packets } dimensions { outcome direction ipProtocolName attackVector }`, true},
	{"network, TCP", "a", "advancedTcpProtectionNetworkAnalyticsAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to`, `sum { bits packets } dimensions { outcome direction ipProtocolName }`, true},
	{"network, packet filter", "a", "magicFirewallNetworkAnalyticsAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to`, `sum { bits packets } dimensions { outcome direction ipProtocolName }`, true},
	{"network, intrusion", "a", "magicIDPSNetworkAnalyticsAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to`, `sum { bits packets } dimensions { outcome direction ipProtocolName }`, true},
	{"network, DNS", "a", "advancedDnsProtectionNetworkAnalyticsAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to`, `sum { bits packets } dimensions { outcome direction ipProtocolName }`, true},
	{
		"colos by second", "z", "httpRequestsAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to`,
		`count avg { sampleInterval } sum { edgeResponseBytes visits } dimensions { clientRequestHTTPHost coloCode datetime }`, true,
	},
	{
		"load balancing of another", "z", "loadBalancingRequestsAdaptive", `datetime_geq: $from, datetime_lt: $to`,
		`lbName pools { id poolName healthy healthCheckEnabled avgRttMs }`, true,
	},
	{"hosts by status", "z", "httpRequestsAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to, clientRequestHTTPHost_in: $hosts`, `count dimensions { clientRequestHTTPHost edgeResponseStatus }`, true},
	{"bots", "z", "firewallEventsAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to, botScore_lt: 30`, `count dimensions { clientCountryName }`, true},
	{"stream", "a", "streamMinutesViewedAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to`, `count sum { minutesViewed } dimensions { clientCountryName mediaType }`, true},
	{"live inputs", "a", "liveInputEventsAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to`, `count avg { bitRate gopDuration uploadDurationRatio } dimensions { eventCode }`, true},
	{"workers of a zone", "z", "workersZoneInvocationsAdaptiveGroups", `datetime_geq: $from, datetime_lt: $to`, `sum { requests } dimensions { status }`, true},
}

func TestQuestionsOfKnownClients(t *testing.T) {
	w := newWorld(t, nil)
	vars := map[string]any{
		"zones": []string{zone("shop")}, "accountTag": account("retail"), "limit": 9999, "hosts": []string{"www.shop.example", "shop.example"},
		"from": stamp(epoch.Add(-time.Hour)), "to": stamp(epoch.Add(-59 * time.Minute)),
	}
	for _, p := range peers {
		for _, declared := range []string{
			`query ($zones: [String!], $accountTag: String!, $from: Time!, $to: Time!, $limit: Int!, $hosts: [String!])`,
			`query ($zones: [string!], $accountTag: string!, $from: Time!, $to: Time!, $limit: uint64!, $hosts: [string!])`,
		} {
			scope, filter := "zones", "zoneTag_in: $zones"
			if p.scope == "a" {
				scope, filter = "accounts", "accountTag: $accountTag"
			}
			a := w.ask(declared+` { viewer { `+scope+`(filter: { `+filter+` }) { `+p.node+`(limit: $limit, filter: { `+p.filter+` }) { `+p.selection+` } } } }`, vars)
			if len(a.Errors) > 0 {
				t.Errorf("%s: %+v", p.name, a.Errors)
				continue
			}
			list, ok := dig(t, a.Data, "viewer", scope, 0, p.node).([]any)
			if !ok || p.rows != (len(list) > 0) {
				t.Errorf("%s: %d rows, want some: %t", p.name, len(list), p.rows)
			}
		}
	}
}

// One exporter asks six networks in one request, another five datasets of ten zones.
func TestManyNodesInOneRequest(t *testing.T) {
	w := newWorld(t, nil)
	var networks, zones strings.Builder
	for _, n := range []string{"magicTransit", "magicFirewall", "dosd", "magicIDPS", "advancedTcpProtection", "advancedDnsProtection"} {
		networks.WriteString(n + "NetworkAnalyticsAdaptiveGroups(limit: 9999, filter: {datetime_geq: $from, datetime_lt: $to}) { sum { bits packets } dimensions { outcome direction ipProtocolName } } ")
	}
	for i, p := range []string{"minutes by range", "firewall", "origin status", "edge status", "health checks"} {
		for _, peer := range peers {
			if peer.name == p {
				fmt.Fprintf(&zones, "a%d: %s(limit: 9999, filter: {%s}) { %s } ", i, peer.node, peer.filter, peer.selection)
			}
		}
	}
	vars := of("retail", epoch.Add(-time.Hour), epoch.Add(-59*time.Minute))
	vars["zones"] = []string{zone("shop"), zone("checkout"), zone("media"), zone("api")}
	a := w.good(`query ($account: string!) { viewer { accounts(filter: {accountTag: $account}) { `+networks.String()+` } zones(filter: {zoneTag_in: $zones}) { zoneTag `+zones.String()+` } } }`, vars)
	for node, list := range dig(t, a.Data, "viewer", "accounts", 0).(map[string]any) {
		if len(list.([]any)) == 0 {
			t.Errorf("%s has no rows", node)
		}
	}
	for i := range 4 {
		for k := range 5 {
			if list := dig(t, a.Data, "viewer", "zones", i, fmt.Sprintf("a%d", k)); len(list.([]any)) == 0 {
				t.Errorf("zone %d has no rows of question %d", i, k)
			}
		}
	}
}

// Each network node has dimensions of its own.
func TestNetworksHaveTheirOwnDimensions(t *testing.T) {
	w := newWorld(t, nil)
	for node, dimension := range map[string]string{
		"dosd": "mitigationSystem", "magicFirewall": "attackVector", "magicIDPS": "attackVector", "advancedTcpProtection": "mitigationSystem", "advancedDnsProtection": "protocolState",
	} {
		e := w.bad(`{ viewer { accounts(filter: {accountTag: $account}) { `+node+`NetworkAnalyticsAdaptiveGroups(limit: 9, filter: {datetime_geq: $from, datetime_lt: $to}) { dimensions { `+dimension+` } } } } }`,
			of("retail", epoch.Add(-time.Hour), epoch))
		contains(t, e, "", `unknown field "`+dimension)
	}
}

func TestBotFieldsAreRefusedBelowEnterprise(t *testing.T) {
	w := newWorld(t, nil)
	e := w.bad(`{ viewer { zones(filter: {zoneTag: $zone}) { firewallEventsAdaptiveGroups(limit: 9, filter: {datetime_geq: $from, datetime_lt: $to}) { count dimensions { botScore } } } } }`,
		span("media", epoch.Add(-time.Hour), epoch))
	contains(t, e, "authz", "does not have access to the field 'botscore'")
}

func TestAccountScope(t *testing.T) {
	w := newWorld(t, nil)
	from, to := epoch.Add(-time.Hour), epoch.Add(-30*time.Minute)
	a := w.good(`{ viewer { accounts(filter: {accountTag: $a}) { accountTag
		zones: httpRequestsAdaptiveGroups(limit: 100, filter: {datetime_geq: $from, datetime_lt: $to, requestSource: "eyeball"}, orderBy: [zoneTag_ASC]) { count dimensions { zoneTag } }
		all: httpRequestsAdaptiveGroups(limit: 100, filter: {datetime_geq: $from, datetime_lt: $to, requestSource: "eyeball"}) { count }
		minutes: httpRequests1mGroups(limit: 100, filter: {datetime_geq: $from, datetime_lt: $to}) { sum { requests } uniq { uniques } } } } }`,
		map[string]any{"a": account("retail"), "from": stamp(from), "to": stamp(to)})
	var sum, uniques uint64
	for _, name := range []string{"shop", "checkout", "media", "blog"} {
		truth, err := w.sim.True(zone(name), from, to)
		if err != nil {
			t.Fatal(err)
		}
		sum, uniques = sum+truth.Requests, uniques+truth.Uniques
	}
	one := func(node string) any { return dig(t, a.Data, "viewer", "accounts", 0, node, 0) }
	if n := len(dig(t, a.Data, "viewer", "accounts", 0, "zones").([]any)); n != 4 {
		t.Errorf("the account has %d zones", n)
	}
	if num(t, one("all"), "count") != sum || num(t, one("minutes"), "sum", "requests") != sum || num(t, one("minutes"), "uniq", "uniques") != uniques {
		t.Errorf("the account has %v and %v, its zones %d requests and %d uniques", one("all"), one("minutes"), sum, uniques)
	}
}

func TestOverview(t *testing.T) {
	w := newWorld(t, nil)
	from, to := epoch.Add(-time.Hour), epoch.Add(-30*time.Minute)
	a := w.good(`{ viewer { zones(filter: {zoneTag: $zone}) { httpRequestsOverviewAdaptiveGroups(limit: 9, filter: {datetime_geq: $from, datetime_lt: $to}) {
		sum { requests bytes cachedRequests cachedBytes pageViews visits } ratio { cachedRequests encryptedRequests status4xx } } } } }`, span("blog", from, to))
	truth, _ := w.sim.True(zone("blog"), from, to)
	got := rows(t, a, "httpRequestsOverviewAdaptiveGroups")[0]
	if num(t, got, "sum", "requests") != truth.Requests || num(t, got, "sum", "cachedBytes") != truth.CachedBytes || num(t, got, "sum", "visits") != truth.Visits {
		t.Errorf("overview is %v, truth %+v", got, truth)
	}
}

func TestLatencyIsPlausible(t *testing.T) {
	w := newWorld(t, nil)
	a := w.good(`{ viewer { zones(filter: {zoneTag: $zone}) { httpRequestsAdaptiveGroups(limit: 9, filter: {datetime_geq: $from, datetime_lt: $to}) {
		avg { edgeTimeToFirstByteMs } quantiles { edgeTimeToFirstByteMsP50 edgeTimeToFirstByteMsP95 edgeTimeToFirstByteMsP99 originResponseDurationMsP50 edgeResponseBytesP50 } ratio { status5xx } } } } }`,
		span("shop", epoch.Add(-time.Hour), epoch.Add(-10*time.Minute)))
	r := rows(t, a, "httpRequestsAdaptiveGroups")[0]
	f := func(path ...any) float64 {
		v, err := dig(t, r, path...).(interface{ Float64() (float64, error) }).Float64()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	p50, p95, p99 := f("quantiles", "edgeTimeToFirstByteMsP50"), f("quantiles", "edgeTimeToFirstByteMsP95"), f("quantiles", "edgeTimeToFirstByteMsP99")
	if p50 <= 0 || p95 <= p50 || p99 <= p95 || f("avg", "edgeTimeToFirstByteMs") <= p50/4 || f("quantiles", "originResponseDurationMsP50") <= p50 || f("quantiles", "edgeResponseBytesP50") <= 0 {
		t.Errorf("latencies are %v", r)
	}
	if x := f("ratio", "status5xx"); x < 0 || x > .2 {
		t.Errorf("share of errors is %f", x)
	}
}

func TestOddStringsStayWhole(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) {
		for i := range c.Zones {
			c.Zones[i].Traffic = traffic.Profile{RequestsPerMinute: 5000, OddStrings: true}
		}
	})
	a := w.good(`{ viewer { zones(filter: {zoneTag: $zone}) { httpRequestsAdaptiveGroups(limit: 99, filter: {datetime_geq: $from, datetime_lt: $to}) { count dimensions { clientRequestHTTPHost } } } } }`,
		span("shop", epoch.Add(-time.Hour), epoch.Add(-30*time.Minute)))
	var hosts []string
	for _, r := range rows(t, a, "httpRequestsAdaptiveGroups") {
		hosts = append(hosts, text(t, r, "dimensions", "clientRequestHTTPHost"))
	}
	for _, want := range []string{"", `say "hi"\`, "日本.example", "line\nbreak\ttab"} {
		found := false
		for _, h := range hosts {
			found = found || h == want
		}
		if !found {
			t.Errorf("no host %q in %q", want, hosts)
		}
	}
	if strings.Contains(string(a.Body), "\n") {
		t.Error("a line break in a string is not escaped")
	}
}
