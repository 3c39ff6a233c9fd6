package traffic

import "github.com/grafana/grafana-foundation-sdk/go/units"

func origin() board {
	const statuses, answers = "cloudflare_zone_requests_by_origin_status", "cloudflare_zone_requests_by_origin_status_country_host"
	return board{
		name: "origin", title: "Weir origin and cache",
		shows: "What the cache keeps from the origin, and how the origin, its health checks and load balancers answer what is left.",
		rows: []row{
			{"In the time shown", []panel{
				figureOfCache("Requests from cache", ""),
				figureOfCachedBytes(),
				{
					title: "Bytes not from cache", kind: figure, unit: units.BytesSI, datasets: http,
					shows: "Bytes sent that did not come from the cache: about what the origin had to send.", normal: "steady; it is what egress costs.",
					queries: []query{{"bytes", `sum(TOTAL(cloudflare_zone_bytes)) - sum(TOTAL(cloudflare_zone_cached_bytes))`, ""}},
				},
				failing("Origin answered 5xx", statuses+`{origin_status=~"5.."}`, statuses+`{origin_status!="0"}`, []string{"origin_statuses_1h"},
					"Share of 5xx among the requests that reached the origin.", "below 1 %. Errors of the edge itself (520 to 530) are in Weir overview."),
			}},
			{"Cache", []panel{
				{
					title: "Share served from cache by zone", unit: units.PercentUnit, datasets: http, ratio: true,
					shows: "Share of the requests that the cache answered, of the ten zones with most requests.", normal: "steady; a purge shows as a notch.",
					queries: []query{{"{{zone}}", top(10, "zone", share("zone", "RATE("+cached+")", "RATE("+requests+")"), requests), ""}},
				},
				{
					title: "Bytes not from cache by zone", unit: units.BytesPerSecondSI, datasets: http,
					shows: "Bytes a second that did not come from the cache, of the ten zones with most bytes.", normal: "in step with the requests that miss.",
					queries: []query{{"{{zone}}", top(10, "zone", `(sum by (zone) (RATE(cloudflare_zone_bytes)) - sum by (zone) (RATE(cloudflare_zone_cached_bytes)))`, bytes), ""}},
				},
				byLabel("Requests by cache status", "cloudflare_zone_requests_by_cache_status", "cache_status", "cache_statuses_1h", units.RequestsPerSecond,
					"Requests a second by cache status.", "hit, and dynamic for what is not to be cached. Many miss or expired: short lifetimes, or many variants of a URL; bypass: cookies or headers of the origin."),
				byLabel("Bytes by cache status", "cloudflare_zone_bytes_by_cache_status", "cache_status", "cache_statuses_1h", units.BytesPerSecondSI,
					"Bytes a second by cache status.", "hit by far."),
				{
					title: "Hosts and cache status", kind: list, unit: units.Short, datasets: []string{"host_cache_statuses_1h"},
					shows: "The fifty pairs of a host and a cache status with most requests in the time shown.", normal: "hit before miss and expired for hosts of static content.",
					queries: []query{{"requests", largest(50, "zone, host, cache_status", "cloudflare_zone_requests_by_host_cache_status"), ""}},
				},
				{
					title: "Cache misses", kind: list, unit: units.Short, datasets: []string{"cache_misses_1h"},
					shows: "The fifty pairs of a host and a country with most requests that missed the cache in the time shown, and the average time that the origin took, over the hours, not weighted.", normal: "misses in proportion to visitors; times as of the origin below.",
					queries: []query{
						{"misses", largest(50, "zone, host, country", "cloudflare_zone_cache_misses_by_country_host"), ""},
						{"time of the origin", beside(50, "zone, host, country", `avg by (zone, host, country) (avg_over_time(LEVEL(cloudflare_zone_cache_miss_origin_duration_average_seconds)[$__range]))`, "cloudflare_zone_cache_misses_by_country_host"), units.Seconds},
					},
				},
			}},
			{"Origin", []panel{
				byLabel("Requests by status of the origin", statuses+`{origin_status!="0"}`, "origin_status", "origin_statuses_1h", units.RequestsPerSecond,
					"Requests a second that reached the origin, by its status.", "200 and 304 by far."),
				{
					title: "Origin answered 5xx by zone", unit: units.PercentUnit, datasets: []string{"origin_statuses_1h"}, steps: errors5xx(),
					shows: "Share of 5xx among the requests that reached the origin, of the ten zones with most requests.", normal: "below 1 %.",
					queries: []query{{"{{zone}}", top(10, "zone", share("zone", "RATE("+statuses+`{origin_status=~"5.."})`, "RATE("+statuses+`{origin_status!="0"})`), statuses), ""}},
				},
				{
					title: "Errors of the origin by host", kind: list, unit: units.Short, datasets: []string{"origin_responses_1h"},
					shows: "The fifty hosts and statuses with most answers of the origin from 500 to 599 in the time shown.", normal: "few.",
					queries: []query{{"answers", largest(50, "zone, host, origin_status", answers+`{origin_status=~"5.."}`), ""}},
				},
				{
					title: "Errors by path", kind: list, unit: units.Short, datasets: []string{"error_paths_1h"},
					shows: "The fifty paths with most answers of the edge from 400 to 599 in the time shown. Ids in paths are replaced.", normal: "404 of what scanners look for.",
					queries: []query{{"requests", largest(50, "zone, host, path, status", "cloudflare_zone_error_requests_by_path"), ""}},
				},
				{
					title: "Time of the origin", unit: units.Seconds, datasets: []string{"durations_5m"},
					shows: "Quantiles of the time that origins took to respond: the highest of the selected zones. Choose one zone to see its own.", normal: "steady; a step follows a deployment or a change of load.",
					queries: []query{
						{"{{quantile}}", `max by (quantile) (max_over_time(LEVEL(cloudflare_zone_response_origin_duration_seconds)[$__interval]))`, ""},
					},
				},
				{
					title: "Time of the origin by host", kind: list, unit: units.Seconds, datasets: []string{"host_durations_1h"},
					shows: "Average over the hours of the time that the origin took, and the highest 0.95 quantile of an hour, of the fifty hosts with most requests in the time shown.", normal: "steady; the slowest are the first to look at.",
					queries: []query{
						{"average", beside(50, "zone, host", `avg by (zone, host) (avg_over_time(LEVEL(cloudflare_zone_host_origin_duration_average_seconds)[$__range]))`, "cloudflare_zone_timed_requests_by_host"), ""},
						{"0.95", beside(50, "zone, host", `max by (zone, host) (max_over_time(LEVEL(cloudflare_zone_host_origin_duration_seconds{quantile="0.95"})[$__range]))`, "cloudflare_zone_timed_requests_by_host"), ""},
						{"requests", largest(50, "zone, host", "cloudflare_zone_timed_requests_by_host"), units.Short},
					},
				},
			}},
			{"Health checks and load balancing", []panel{
				byLabel("Health checks by result", "cloudflare_zone_health_check_events", "health_status", "health_checks_5m", units.EventsPerSecond,
					"Results of health checks a second by status.", "healthy only."),
				{
					title: "Round trip of health checks", unit: units.Seconds, datasets: []string{"health_checks_5m"},
					shows: "Average round-trip time of health checks by name and address of the origin.", normal: "steady; it is the distance.",
					queries: []query{{"{{fqdn}} {{origin_ip}}", `avg by (fqdn, origin_ip) (avg_over_time(LEVEL(cloudflare_zone_health_check_rtt_average_seconds)[$__interval]))`, ""}},
				},
				{
					title: "Requests by pool and origin", unit: units.RequestsPerSecond, datasets: []string{"load_balancing_5m"}, stacked: true,
					shows: "Requests a second that load balancers directed, by pool and origin.", normal: "the shares of your steering policy.",
					queries: []query{{"{{pool}} {{origin}}", `sum by (pool, origin) (RATE(cloudflare_zone_load_balancer_requests))`, ""}},
				},
				{
					title: "Healthy pools", unit: units.PercentUnit, datasets: []string{"load_balancing_5m"}, ratio: true,
					shows: "Share of the requests whose selected pool was healthy: the lowest bucket of each step. A pool without requests has no value.", normal: "100 %.",
					queries: []query{{"{{pool}}", `min by (pool) (min_over_time(LEVEL(cloudflare_zone_load_balancer_pool_healthy_ratio)[$__interval]))`, ""}},
				},
			}},
		},
	}
}
