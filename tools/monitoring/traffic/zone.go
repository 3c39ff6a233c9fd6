package traffic

import "github.com/grafana/grafana-foundation-sdk/go/units"

// byLabel is a graph of the rate of a family by a label, stacked.
func byLabel(title, family, label, dataset, unit, shows, normal string) panel {
	return panel{
		title: title, unit: unit, datasets: []string{dataset}, stacked: true, shows: shows, normal: normal,
		queries: []query{{"{{" + label + "}}", sum(label, "RATE("+family+")"), ""}},
	}
}

// ten is the same of the ten largest.
func ten(title, family, label, dataset, unit, shows, normal string) panel {
	p := byLabel(title, family, label, dataset, unit, shows+" The ten largest in the time shown.", normal)
	p.queries[0].expr = topRate(10, label, family)
	p.stacked = false
	return p
}

func zone() board {
	return board{
		name: "zone", title: "Weir zone in depth", zones: oneZone,
		shows: "One zone: its traffic, answers, cache, visitors, places, networks, hosts, protocols and response times.",
		rows: []row{
			{"In the time shown", []panel{
				figureOfRequests(),
				figureOfBytes(),
				figureOfCache("Served from cache", ""),
				figureOfCachedBytes(),
				figureOfErrors(),
				amount("Page views", "cloudflare_zone_page_views", "page views", http,
					"Successful requests for HTML. Free zones have none.", "what it was a day or a week ago at this time."),
				{
					title: "Visitors of a day", kind: figure, unit: units.Short, datasets: []string{"uniques_1d"},
					shows: "Distinct client addresses of the newest finished UTC day. They are not the sum of those of its hours: nobody is counted twice. Free zones have none until Cloudflare offers them roll-ups.", normal: "steady from week to week.",
					queries: []query{{"visitors", `max(last_over_time(LEVEL(cloudflare_zone_daily_unique_visitors)[3d]))`, ""}},
				},
			}},
			{"Traffic", []panel{
				{
					title: "Requests a second", unit: units.RequestsPerSecond, datasets: http,
					shows: "Requests a second: all, those that the cache answered, and those over TLS.", normal: "the curve of the day, without steps.",
					queries: []query{
						{"all", `sum(RATE(cloudflare_zone_requests))`, ""},
						{"from cache", `sum(RATE(cloudflare_zone_cached_requests))`, ""},
						{"encrypted", `sum(RATE(cloudflare_zone_encrypted_requests))`, ""},
					},
				},
				{
					title: "Bytes a second", unit: units.BytesPerSecondSI, datasets: http,
					shows: "Bytes a second: all, those from the cache, and those over TLS.", normal: "in step with requests.",
					queries: []query{
						{"all", `sum(RATE(cloudflare_zone_bytes))`, ""},
						{"from cache", `sum(RATE(cloudflare_zone_cached_bytes))`, ""},
						{"encrypted", `sum(RATE(cloudflare_zone_encrypted_bytes))`, ""},
					},
				},
				byLabel("Requests by status", status, "status", "http_5m", units.RequestsPerSecond,
					"Requests a second by status of the edge's response.", "200, 304 and redirects by far."),
				{
					title: "Share of errors", unit: units.PercentUnit, datasets: http, steps: errors5xx(),
					shows: "Share of the requests that were answered 4xx and 5xx.", normal: "4xx steady, as scanners always ask for what is not there; 5xx below 1 %.",
					queries: []query{
						{"4xx", share("", "RATE("+status+`{status=~"4.."})`, "RATE("+requests+")"), ""},
						{"5xx", share("", "RATE("+status+`{status=~"5.."})`, "RATE("+requests+")"), ""},
					},
				},
				{
					title: "Share served from cache", unit: units.PercentUnit, datasets: http, ratio: true,
					shows: "Share of the requests and of the bytes that came from the cache.", normal: "steady; a purge shows as a notch.",
					queries: []query{
						{"requests", share("", "RATE("+cached+")", "RATE("+requests+")"), ""},
						{"bytes", share("", "RATE(cloudflare_zone_cached_bytes)", "RATE("+bytes+")"), ""},
					},
				},
				byLabel("Bytes by type of content", "cloudflare_zone_bytes_by_content_type", "content_type", "content_types_1h", units.BytesPerSecondSI,
					"Bytes a second by type of the content.", "the mix of the site."),
			}},
			{"Visitors", []panel{
				{
					title: "Visitors of an hour", unit: units.Short, datasets: []string{"uniques_1h"},
					shows: "Distinct client addresses of each hour. Hours must not be added up, nor subtracted from page views: a visitor is in several.", normal: "the curve of the day.",
					queries: []query{{"visitors", `max by (zone) (max_over_time(LEVEL(cloudflare_zone_unique_visitors)[$__interval]))`, ""}},
				},
				{
					title: "Page views a second", unit: units.RequestsPerSecond, datasets: http,
					shows: "Successful requests for HTML, a second.", normal: "the curve of the day. Page views that rise without visitors are a crawler.",
					queries: []query{{"page views", `sum(RATE(cloudflare_zone_page_views))`, ""}},
				},
				byLabel("Page views by browser", "cloudflare_zone_page_views_by_browser", "browser", "browsers_1h", units.RequestsPerSecond,
					"Page views a second by family of browsers.", "the mix of your visitors; Unknown is mostly programs."),
				byLabel("Requests by class of address", "cloudflare_zone_requests_by_ip_class", "ip_class", "ip_classes_1h", units.RequestsPerSecond,
					"Requests a second by what Cloudflare knows of the client's address, such as noRecord, searchEngine, scan, tor.", "noRecord and clean by far."),
			}},
			{"From where", []panel{
				worldOfRequests(), listOfCountries(),
				ten("Requests by data centre", "cloudflare_zone_requests_by_colo", "colo", "colos_1h", units.RequestsPerSecond,
					"Requests a second by Cloudflare's data centre.", "those near your visitors. One that is gone was taken out of service, and its neighbours rise."),
				{
					title: "Networks", kind: list, unit: units.Short, datasets: []string{"asns_1h"},
					shows: "The fifty networks with most requests in the time shown.", normal: "the providers of your visitors. Hosting companies near the top are programs.",
					queries: []query{
						{"requests", largest(50, "asn, asn_name", "cloudflare_zone_requests_by_asn"), ""},
						{"bytes", beside(50, "asn, asn_name", sum("asn, asn_name", "TOTAL(cloudflare_zone_bytes_by_asn)"), "cloudflare_zone_requests_by_asn"), units.BytesSI},
					},
				},
			}},
			{"What is asked for", []panel{
				ten("Requests by host", "cloudflare_zone_requests_by_host", "host", "hosts_1h", units.RequestsPerSecond,
					"Requests a second by host.", "your hosts; others are names that somebody points at Cloudflare."),
				{
					title: "Answered 5xx by host", unit: units.PercentUnit, datasets: []string{"hosts_1h"}, steps: errors5xx(),
					shows: "Share of the requests with a status from 500 to 599, of the ten hosts with most requests.", normal: "below 1 %.",
					queries: []query{{"{{host}}", top(10, "host", share("host", `RATE(cloudflare_zone_requests_by_host_status_class{status_class="5xx"})`, "RATE(cloudflare_zone_requests_by_host_status_class)"), "cloudflare_zone_requests_by_host"), ""}},
				},
				byLabel("Requests by method", "cloudflare_zone_requests_by_method", "method", "methods_1h", units.RequestsPerSecond,
					"Requests a second by method.", "GET by far, except of an API."),
				byLabel("Requests by version of HTTP", "cloudflare_zone_requests_by_http_version", "http_version", "http_versions_1h", units.RequestsPerSecond,
					"Requests a second by version of the protocol.", "HTTP/2 and HTTP/3; HTTP/1.1 is mostly programs."),
				byLabel("Requests by version of TLS", "cloudflare_zone_requests_by_tls_version", "tls_version", "tls_versions_1h", units.RequestsPerSecond,
					"Requests a second by version of TLS; none is plain HTTP.", "TLSv1.3 and TLSv1.2."),
			}},
			{"Response times", []panel{
				{
					title: "Time to first byte", unit: units.Seconds, datasets: []string{"durations_5m"},
					shows: "Quantiles of the time from a request to the first byte of its response at the edge, and the average. Of a longer step the highest of its buckets.", normal: "steady. The 0.99 quantile follows the origin, the 0.5 one the cache.",
					queries: []query{
						{"{{quantile}}", `max by (quantile) (max_over_time(LEVEL(cloudflare_zone_response_time_to_first_byte_seconds)[$__interval]))`, ""},
						{"average", `avg(avg_over_time(LEVEL(cloudflare_zone_response_time_to_first_byte_average_seconds)[$__interval]))`, ""},
					},
				},
				{
					title: "Time of the origin", unit: units.Seconds, datasets: []string{"durations_5m"},
					shows: "Quantiles of the time that origins took to respond, and the average. Of a longer step the highest of its buckets.", normal: "steady.",
					queries: []query{
						{"{{quantile}}", `max by (quantile) (max_over_time(LEVEL(cloudflare_zone_response_origin_duration_seconds)[$__interval]))`, ""},
						{"average", `avg(avg_over_time(LEVEL(cloudflare_zone_response_origin_duration_average_seconds)[$__interval]))`, ""},
					},
				},
			}},
			{"Quality of the figures", []panel{{
				title: "Events that a sampled event stands for", unit: units.Short, datasets: http, width: 24,
				shows: "Where Cloudflare computed a bucket from a sample of events: how many events one of the sample stands for, by dataset. A count n is then accurate to about √(n × (interval − 1)). Datasets without a line were counted whole.", normal: "no line for roll-ups; 1 to some hundreds for large zones' breakdowns.",
				queries: []query{{"{{dataset}}", `max by (dataset) (max_over_time(LEVEL(cloudflare_sample_interval)[$__interval]))`, ""}},
			}}},
		},
	}
}
