package traffic

import "github.com/grafana/grafana-foundation-sdk/go/units"

// migration has the panels of dashboards for lablabs/cloudflare-exporter, by their titles in
// Grafana's Cloudflare integration, each with what was asked there and what differs.
func migration() board {
	const there = "\n\n**There:** "
	return board{
		name: "migration", title: "Weir for readers of Grafana 13133",
		shows: "The panels of dashboards made for lablabs/cloudflare-exporter (Grafana 13133, Grafana's Cloudflare integration) with Weir's families. Each panel says what was asked there and what differs; docs/migration.md has every family.",
		rows: []row{
			{"Zone overview", []panel{
				{
					title: "Request rate", unit: units.RequestsPerSecond, datasets: http,
					shows:  "Requests a second, of the ten zones with most." + there + "`rate(cloudflare_zone_requests_total[…])`. That was no counter but the last minute's requests, so that the rate was noise.",
					normal: "the curve of the day.", queries: []query{{"{{zone}}", topRate(10, "zone", requests), ""}},
				},
				{
					title: "Cached requests", unit: units.PercentUnit, datasets: http, ratio: true,
					shows:  "Share of the requests that the cache answered." + there + "`cloudflare_zone_requests_cached` divided by `cloudflare_zone_requests_total`.",
					normal: "steady.", queries: []query{{"{{zone}}", top(10, "zone", share("zone", "RATE("+cached+")", "RATE("+requests+")"), requests), ""}},
				},
				{
					title: "Threats", unit: units.RequestsPerSecond, datasets: http,
					shows:  "Requests a second that Cloudflare classed as threats." + there + "`increase(cloudflare_zone_threats_total[…])`. Cloudflare has deprecated the figure: Weir security has the events.",
					normal: "a small share of the requests.", queries: []query{{"{{zone}}", topRate(10, "zone", "cloudflare_zone_threats"), ""}},
				},
				{
					title: "Bandwidth rate", unit: units.BytesPerSecondSI, datasets: http,
					shows:  "Bytes a second, of the ten zones with most." + there + "`rate(cloudflare_zone_bandwidth_total[…])`.",
					normal: "in step with requests.", queries: []query{{"{{zone}}", topRate(10, "zone", bytes), ""}},
				},
				{
					title: "Bandwidth type", unit: units.BytesPerSecondSI, datasets: http,
					shows:  "Bytes a second over TLS and from the cache. Bytes can be both, so the two are not to be stacked." + there + "`increase` of `cloudflare_zone_bandwidth_ssl_encrypted` and `cloudflare_zone_bandwidth_cached`.",
					normal: "almost all over TLS.", queries: []query{
						{"encrypted", `sum(RATE(cloudflare_zone_encrypted_bytes))`, ""},
						{"cached", `sum(RATE(cloudflare_zone_cached_bytes))`, ""},
					},
				},
				byLabel("Bandwidth content type", "cloudflare_zone_bytes_by_content_type", "content_type", "content_types_1h", units.BytesPerSecondSI,
					"Bytes a second by type of content."+there+"`increase(cloudflare_zone_bandwidth_content_type[…])`.", "the mix of the sites."),
				{
					title: "Unique visitors", unit: units.Short, datasets: []string{"http_5m", "uniques_1h"},
					shows:  "Distinct client addresses of each hour, of each zone." + there + "`increase(cloudflare_zone_uniques_total[…])`, and page views less uniques as \"repeat visitors\". Those uniques were summed over minutes, which counts a visitor once a minute; the difference means nothing and is left out.",
					normal: "the curve of the day.", queries: []query{{"{{zone}}", top(10, "zone", `max by (zone) (max_over_time(LEVEL(cloudflare_zone_unique_visitors)[$__interval]))`, requests), ""}},
				},
				{
					title: "Page views", unit: units.RequestsPerSecond, datasets: http,
					shows:  "Successful requests for HTML, a second." + there + "`increase(cloudflare_zone_pageviews_total[…])`.",
					normal: "the curve of the day.", queries: []query{{"{{zone}}", topRate(10, "zone", "cloudflare_zone_page_views"), ""}},
				},
				byLabel("Request HTTP status", status, "status", "http_5m", units.RequestsPerSecond,
					"Requests a second by status."+there+"`increase(cloudflare_zone_requests_status[…])`.", "200, 304 and redirects by far."),
				byLabel("Browser page views", "cloudflare_zone_page_views_by_browser", "browser", "browsers_1h", units.RequestsPerSecond,
					"Page views a second by browser."+there+"`increase(cloudflare_zone_requests_browser_map_page_views_count[…])`, label `family`.", "the mix of your visitors."),
				{
					title: "Colocation requests", kind: list, unit: units.Short, datasets: []string{"colo_hosts_1h"},
					shows:  "The fifty data centres with most requests in the time shown." + there + "`rate(cloudflare_zone_colocation_requests_total[…])`, label `colocation`, with subrequests of Workers among them.",
					normal: "those near your visitors.", queries: []query{{"requests", largest(50, "zone, colo", "cloudflare_zone_requests_by_colo_host"), ""}},
				},
				{
					title: "Pool status", kind: list, unit: units.Short, datasets: []string{"load_balancing_5m"},
					shows:  "Requests of each pool in the time shown, and the share whose pool was healthy, averaged over buckets." + there + "`cloudflare_zone_pool_health_status`, the state in one sampled request.",
					normal: "100 %.", queries: []query{
						{"requests", total("zone, load_balancer, pool", "cloudflare_zone_load_balancer_requests"), ""},
						{"healthy", `avg by (zone, load_balancer, pool) (avg_over_time(LEVEL(cloudflare_zone_load_balancer_pool_healthy_ratio)[$__range]))`, units.PercentUnit},
					},
				},
				{
					title: "Pool requests", unit: units.RequestsPerSecond, datasets: []string{"load_balancing_5m"},
					shows:  "Requests a second by pool." + there + "`rate(cloudflare_zone_pool_requests_total[…])`.",
					normal: "the shares of your steering policy.", queries: []query{{"{{pool}}", `sum by (pool) (RATE(cloudflare_zone_load_balancer_requests))`, ""}},
				},
			}},
			{"Geographic distribution", []panel{
				{
					title: "Requests by country", kind: bubbles, unit: units.Short, datasets: countries, width: 14,
					shows:  "Requests in the time shown." + there + "`cloudflare_zone_requests_country` over the step instead of the time shown, with the label `region`, which follows from the country.",
					normal: "where your visitors are.", queries: []query{{"requests", `sum by (country) (TOTAL(cloudflare_zone_requests_by_country))`, ""}},
				},
				{
					title: "Countries", kind: list, unit: units.Short, datasets: []string{"countries_1h", "threat_countries_1h"}, width: 10, tall: true,
					shows:  "Requests, bytes and threats in the time shown by country." + there + "one of `cloudflare_zone_requests_country`, `…bandwidth_country` and `…threats_country`, by a variable.",
					normal: "steady over days.", queries: []query{
						{"requests", total("country", "cloudflare_zone_requests_by_country"), ""},
						{"bytes", total("country", "cloudflare_zone_bytes_by_country"), units.BytesSI},
						{"threats", total("country", "cloudflare_zone_threats_by_country"), ""},
					},
				},
			}},
			{"Workers", []panel{
				ten("Worker requests", "cloudflare_account_worker_requests", "script", "workers_5m", units.RequestsPerSecond,
					"Requests a second by script."+there+"`rate(cloudflare_worker_requests_count[…])`, label `script_name`.", "the curve of the day."),
				ten("Worker errors", "cloudflare_account_worker_errors", "script", "workers_5m", units.RequestsPerSecond,
					"Failed requests a second by script."+there+"`increase(cloudflare_worker_errors_count[…])`.", "near 0."),
				{
					title: "Worker CPU time quantiles", unit: units.Seconds, datasets: []string{"worker_durations_5m"},
					shows:  "Quantiles of the CPU time of an invocation." + there + "`cloudflare_worker_cpu_time`, in microseconds that were shown as milliseconds; `quantile` was P50, P75, P99, P999.",
					normal: "far below the limit of your plan.", queries: []query{{"{{script}} {{quantile}}", `max by (script, quantile) (max_over_time(LEVEL(cloudflare_account_worker_cpu_seconds)[$__interval]))`, ""}},
				},
				{
					title: "Worker duration quantiles", unit: units.Seconds, datasets: []string{"worker_durations_5m"},
					shows:  "Quantiles of the wall time of an invocation." + there + "`cloudflare_worker_duration`, which is GB-s, a unit of invoices, and was shown as seconds.",
					normal: "steady.", queries: []query{{"{{script}} {{quantile}}", `max by (script, quantile) (max_over_time(LEVEL(cloudflare_account_worker_wall_seconds)[$__interval]))`, ""}},
				},
			}},
		},
	}
}
