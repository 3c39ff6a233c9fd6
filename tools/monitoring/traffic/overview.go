package traffic

import (
	"github.com/grafana/grafana-foundation-sdk/go/units"

	"github.com/weir-metrics/weir/tools/monitoring/grafana"
)

// Colours of thresholds.
const (
	green  = "green"
	yellow = "yellow"
	red    = "red"
)

var (
	http      = []string{"http_5m"}
	countries = []string{"countries_1h"}
)

// Shares of answers that are worth a look.
func errors5xx() []grafana.Step {
	return []grafana.Step{{Color: green}, {From: .01, Color: yellow}, {From: .05, Color: red}}
}

// Expressions that several dashboards have.
var (
	requests = "cloudflare_zone_requests"
	bytes    = "cloudflare_zone_bytes"
	cached   = "cloudflare_zone_cached_requests"
	status   = "cloudflare_zone_requests_by_status"
)

func overview() board {
	return board{
		name: "overview", title: "Weir overview",
		shows: "All zones: how much Cloudflare served, how much of it from its cache, what failed, and from where it was asked. A row of the list of zones leads to that zone.",
		rows: []row{
			{"In the time shown", []panel{
				figureOfRequests(),
				figureOfBytes(),
				figureOfCache("Served from cache", " A fall means more load at the origin."),
				figureOfErrors(),
				{
					title: "Zones with traffic", kind: figure, unit: units.Short, datasets: http,
					shows: "Zones with a request.", normal: "all that you use.",
					queries: []query{{"zones", `count(sum by (zone, account) (TOTAL(cloudflare_zone_requests)) > 0)`, ""}},
				},
				{
					title: "Age of the data", kind: figure, unit: units.Seconds, datasets: http,
					steps: []grafana.Step{{Color: green}, {From: 1800, Color: yellow}, {From: 3600, Color: red}},
					shows: "How long ago the newest bucket of any zone ended. Without a value the newest is older than six hours.", normal: "6 to 13 minutes with buckets of 5 minutes. The dashboard Weir pipeline says why it is more.",
					queries: []query{{"age", `time() - max(NEWEST(cloudflare_zone_requests))`, ""}},
				},
			}},
			{"Traffic of the ten largest zones", []panel{
				{
					title: "Requests by zone", unit: units.RequestsPerSecond, datasets: http,
					shows: "Requests a second of the ten zones with most requests in the time shown.", normal: "the curve of the day, without steps. A gap in all zones at once is a gap of the data: see Weir pipeline.",
					queries: []query{{"{{zone}}", topRate(10, "zone", requests), ""}},
				},
				{
					title: "Bytes by zone", unit: units.BytesPerSecondSI, datasets: http,
					shows: "Bytes a second of the ten zones with most bytes in the time shown.", normal: "in step with requests.",
					queries: []query{{"{{zone}}", topRate(10, "zone", bytes), ""}},
				},
				{
					title: "Served from cache by zone", unit: units.PercentUnit, datasets: http, ratio: true,
					shows: "Share of the requests that the cache answered, of the ten zones with most requests.", normal: "steady. A zone that falls was purged, or its responses lost their cache headers.",
					queries: []query{{"{{zone}}", top(10, "zone", share("zone", "RATE("+cached+")", "RATE("+requests+")"), requests), ""}},
				},
				{
					title: "Answered 5xx by zone", unit: units.PercentUnit, datasets: http, steps: errors5xx(),
					shows: "Share of the requests with a status from 500 to 599, of the ten zones with most requests.", normal: "below 1 %.",
					queries: []query{{"{{zone}}", top(10, "zone", share("zone", "RATE("+status+`{status=~"5.."})`, "RATE("+requests+")"), requests), ""}},
				},
				{
					title: "Requests by class of status", unit: units.RequestsPerSecond, datasets: http, stacked: true,
					shows: "Requests a second of all selected zones by class of the response's status.", normal: "2xx and 3xx by far.",
					queries: []query{{"{{class}}", `sum by (class) (label_replace(RATE(cloudflare_zone_requests_by_status), "class", "${1}xx", "status", "([1-5])..")) or sum by (class) (label_replace(RATE(cloudflare_zone_requests_by_status{status!~"[1-5].."}), "class", "other", "", ""))`, ""}},
				},
				{
					title: "Threats by zone", unit: units.RequestsPerSecond, datasets: http,
					shows: "Requests a second that Cloudflare classed as threats, of the ten zones with most. Cloudflare has deprecated the figure and Free zones have none; the dashboard Weir security has the events.", normal: "a small share of the requests; a peak is an attack that was stopped.",
					queries: []query{{"{{zone}}", topRate(10, "zone", "cloudflare_zone_threats"), ""}},
				},
			}},
			{"Zones", []panel{{
				title: "Zones", kind: list, unit: units.Short, datasets: []string{"http_5m", "uniques_1h"}, width: 24, drill: true,
				shows: "The zones with requests in the time shown. Visitors are the distinct addresses of the newest finished hour.", normal: "your zones, in the order that you expect.",
				queries: []query{
					{"requests", total("zone, account", requests), ""},
					{"bytes", total("zone, account", bytes), units.BytesSI},
					{"from cache", share("zone, account", "TOTAL("+cached+")", "TOTAL("+requests+")"), units.PercentUnit},
					{"4xx", share("zone, account", "TOTAL("+status+`{status=~"4.."})`, "TOTAL("+requests+")"), units.PercentUnit},
					{"5xx", share("zone, account", "TOTAL("+status+`{status=~"5.."})`, "TOTAL("+requests+")"), units.PercentUnit},
					{"visitors an hour", `max by (zone, account) (last_over_time(LEVEL(cloudflare_zone_unique_visitors)[3h]))`, ""},
				},
			}}},
			{"World", []panel{worldOfRequests(), listOfCountries()}},
		},
	}
}

func worldOfRequests() panel {
	return panel{
		title: "Requests by country", kind: bubbles, unit: units.Short, datasets: countries, width: 14,
		shows: "Requests in the time shown by country of the client. Places without a position (T1 is Tor, XX unknown, other the rest) are in the list only.", normal: "where your visitors are.",
		queries: []query{{"requests", `sum by (country) (TOTAL(cloudflare_zone_requests_by_country))`, ""}},
	}
}

func listOfCountries() panel {
	return panel{
		title: "Countries", kind: list, unit: units.Short, datasets: countries, width: 10, tall: true,
		shows: "Requests and bytes in the time shown by country of the client, and the share of the requests. A zone shows its largest countries, and the rest as other.", normal: "steady over days.",
		queries: []query{
			{"requests", total("country", "cloudflare_zone_requests_by_country"), ""},
			{"share", `sum by (country) (TOTAL(cloudflare_zone_requests_by_country)) / on () group_left () (sum(TOTAL(cloudflare_zone_requests_by_country)) > 0)`, units.PercentUnit},
			{"bytes", total("country", "cloudflare_zone_bytes_by_country"), units.BytesSI},
		},
	}
}
