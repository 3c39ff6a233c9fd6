package pipeline

import "github.com/grafana/grafana-foundation-sdk/go/units"

// Colours of thresholds.
const (
	green  = "green"
	yellow = "yellow"
	red    = "red"
)

// atLeast is red below a value, atMost red from a value on.
func atLeast(value float64) []step { return []step{{Color: red}, {From: value, Color: green}} }
func atMost(value float64) []step  { return []step{{Color: green}, {From: value, Color: red}} }

// none is 0 while a collector is scraped, with the label that the series of an
// expression have: nothing missing differs from nobody who knows.
func none(label string) string {
	return ` or label_replace(0 * max(weir_collector_leader{}), "` + label + `", "none", "", "")`
}

// leading limits what every collector tells to what the leader tells.
const leading = ` and on (namespace, job, instance) weir_collector_leader{} == 1`

func rows() []row {
	return []row{now(), collection(), budget(), freshness(), gaps(), finality(), leadership(), store(), exposers(), replay(), scrapes(), counted(), pushed(), requested(), environment()}
}

func now() row {
	return row{"Now", []panel{
		{
			title: "Leader", unit: units.Short, stat: true, steps: []step{{Color: red}, {From: 1, Color: green}, {From: 2, Color: red}}, runbook: "weirnoleader",
			shows: "Collectors that hold the lease.", normal: "1.",
			queries: []query{{"leaders", `sum(weir_collector_leader{})`}},
		},
		{
			title: "Exposers ready", unit: units.Short, stat: true, steps: atLeast(1), runbook: "weirnoexposer",
			shows: "Exposers that serve a complete view.", normal: "all that you run.",
			queries: []query{{"ready", `sum(weir_exposer_ready{})`}},
		},
		{
			title: "Problems", unit: units.Short, stat: true, steps: atMost(1), runbook: "problems",
			shows: "Conditions that an operator must resolve, as the leader reports them. The graph of problems names their codes.", normal: "0.",
			queries: []query{{"problems", `sum(max by (code) (weir_collector_problems{}))`}},
		},
		{
			title: "Age of the stream", unit: units.Seconds, stat: true, steps: atMost(180), runbook: "weirstreamstale",
			shows: "How far the exposer that is furthest behind is from the leader's clock.", normal: "less than a minute.",
			queries: []query{{"age", `max(weir_exposer_progress_lag_seconds{})`}},
		},
		{
			title: "Windows missing", unit: units.Short, stat: true, steps: []step{{Color: green}, {From: 1, Color: yellow}}, runbook: "what-is-missing-and-why",
			shows: "Windows that are due, not final and not waiting for confirmation.", normal: "0, or a few for some minutes.",
			queries: []query{{"missing", `sum(max by (dataset, reason) (weir_collector_gap_windows{})) or 0 * max(weir_collector_leader{})`}},
		},
		{
			title: "Next deadline", unit: units.Seconds, stat: true, steps: []step{{Color: red}, {From: 4 * 3600, Color: yellow}, {From: 24 * 3600, Color: green}}, runbook: "weirgapnearloss", empty: "no gap",
			shows: "Time until Cloudflare drops the oldest window that is missing.", normal: "no gap.",
			queries: []query{{"left", `min(weir_collector_repair_deadline_timestamp_seconds{}) - time()`}},
		},
		{
			title: "Windows lost, 24 h", unit: units.Short, stat: true, steps: atMost(1), runbook: "weirwindowslost",
			shows: "Windows that left Cloudflare's retention in the last 24 hours before they were final.", normal: "0.",
			queries: []query{{"lost", `sum(increase(weir_collector_lost_windows_total{}[24h]))`}},
		},
		{
			title: "Source", unit: units.Short, stat: true, steps: atMost(1), runbook: "weirsimulated",
			shows: "Whether the data comes from Cloudflare or from Weir's simulator.", normal: "Cloudflare.",
			states:  map[string]string{"0": "Cloudflare", "1": "SIMULATED"},
			queries: []query{{"source", `max(weir_simulated{})`}},
		},
	}}
}

func collection() row {
	return row{"Collection", []panel{
		{
			title: "Time since the last complete response", unit: units.Seconds, runbook: "weirupstreamfailing",
			shows:   "Age of the last complete response of Cloudflare for each dataset.",
			normal:  "rises to the size of the dataset's buckets and falls to almost 0: five minutes, an hour, or a day.",
			queries: []query{{"{{dataset}}", `time() - max by (dataset) (weir_collector_last_success_timestamp_seconds{dataset=~"$dataset"})`}},
		},
		{
			title: "Successful requests", unit: units.PercentUnit, runbook: "weirupstreamfailing",
			shows: "Share of the requests to Cloudflare's GraphQL API that did not fail.", normal: "100 %. A refused zone or a single error costs a few percent.",
			queries: []query{{"successful", `clamp_min(1 - (sum(rate(weir_collector_upstream_errors_total{}[$__rate_interval])) or 0 * max(weir_collector_leader{})) / (sum(rate(weir_collector_upstream_requests_total{}[$__rate_interval])) > 0), 0)`}},
		},
		{
			title: "Errors by class", unit: units.CountsPerMinute, stacked: true, runbook: "weirupstreamfailing", empty: "no errors",
			shows: "Requests to Cloudflare that failed, by class of error.", normal: "none.",
			queries: []query{{"{{class}}", `60 * sum by (class) (rate(weir_collector_upstream_errors_total{}[$__rate_interval]))`}},
		},
		{
			title: "Problems by code", unit: units.Short, runbook: "problems", empty: "no problems",
			shows: "Conditions that an operator must resolve. Each code is a heading of the runbook or has an alert there.", normal: "none above 0.",
			queries: []query{{"{{code}}", `max by (code) (weir_collector_problems{}) > 0`}},
		},
		{
			title: "Duration of passes", unit: units.Seconds, runbook: "freshness",
			shows: "Duration of the planner's passes without the time spent waiting: median and 99th percentile.", normal: "below a second. Catching up and hundreds of zones take longer.",
			queries: []query{
				{"p50", `histogram_quantile(0.5, sum by (le) (rate(weir_collector_pass_duration_seconds_bucket{}[$__rate_interval])))`},
				{"p99", `histogram_quantile(0.99, sum by (le) (rate(weir_collector_pass_duration_seconds_bucket{}[$__rate_interval])))`},
			},
		},
		{
			title: "Duration of requests to Cloudflare", unit: units.Seconds, runbook: "weirupstreamfailing",
			shows: "Duration of requests to Cloudflare's GraphQL API: median and 99th percentile.", normal: "a median below a second, and a 99th percentile below 10 seconds.",
			queries: []query{
				{"p50", `histogram_quantile(0.5, sum by (le) (rate(weir_collector_upstream_request_duration_seconds_bucket{}[$__rate_interval])))`},
				{"p99", `histogram_quantile(0.99, sum by (le) (rate(weir_collector_upstream_request_duration_seconds_bucket{}[$__rate_interval])))`},
			},
		},
		{
			title: "Buckets stored by origin", unit: units.CountsPerMinute, stacked: true, runbook: "freshness",
			shows: "Buckets that became final, by the lane that fetched them.", normal: "a steady rate: zones times datasets for each bucket size. Catching up is a peak.",
			queries: []query{{"{{origin}}", `60 * sum by (origin) (rate(weir_collector_buckets_total{dataset=~"$dataset"}[$__rate_interval]))`}},
		},
		{
			title: "Buckets stored by finality", unit: units.CountsPerMinute, stacked: true, runbook: "freshness",
			shows: "Buckets that became final, by the reason for which they did.", normal: "mostly two equal readings; deadlines are rare.",
			queries: []query{{"{{finality}}", `60 * sum by (finality) (rate(weir_collector_buckets_total{dataset=~"$dataset"}[$__rate_interval]))`}},
		},
		{
			title: "Responses and values not stored", unit: units.Short, runbook: "invalid_value",
			shows: "In an hour: responses that filled their page, buckets that no reader would accept, rows summed into \"other\", and label values that were cut.", normal: "0 of the first two. Rows are folded, and labels cut, where there are many or long values.",
			queries: []query{
				{"page full", `sum(increase(weir_collector_truncated_answers_total{dataset=~"$dataset"}[1h])) or 0 * max(weir_collector_leader{})`},
				{"invalid buckets", `sum(increase(weir_collector_invalid_buckets_total{dataset=~"$dataset"}[1h])) or 0 * max(weir_collector_leader{})`},
				{"rows folded", `sum(increase(weir_collector_folded_rows_total{dataset=~"$dataset"}[1h])) or 0 * max(weir_collector_leader{})`},
				{"labels cut", `sum(increase(weir_collector_labels_cut_total{dataset=~"$dataset"}[1h])) or 0 * max(weir_collector_leader{})`},
			},
		},
	}}
}

func budget() row {
	return row{"Budget", []panel{
		{
			title: "Requests in five minutes by lane", unit: units.Short, runbook: "budget",
			shows:  "Requests to Cloudflare in five minutes, by lane, against what may be sent and what the selected zones and datasets need. Figures of several Cloudflare users are added up.",
			normal: "the sum of the lanes is near the need, and the need is below the share. The limit is half of the share while another client uses up the budget.",
			queries: []query{
				{"{{lane}}", `sum by (lane) (increase(weir_collector_upstream_requests_total{}[5m]))`},
				{"share", `sum(max by (user) (weir_collector_budget_share_requests{}))`},
				{"limit", `sum(max by (user) (weir_collector_budget_limit{}))`},
				{"need", `sum(max by (user) (weir_collector_budget_needed_requests{}))`},
			},
		},
		{
			title: "Budget left", unit: units.Short, runbook: "budget",
			shows: "Requests that the leader could send now, by Cloudflare user.", normal: "above 0, except while it is catching up.",
			queries: []query{{"{{user}}", `max by (user) (weir_collector_budget_left{}` + leading + `)`}},
		},
		{
			title: "Budget refused or shared", unit: units.Short, runbook: "weirbudgetshared",
			shows:  "Requests within an hour that Cloudflare refused because the budget was used up. Shared is 1 while another client seems to use up the budget.",
			normal: "0.",
			queries: []query{
				{"refused, {{user}}", `sum by (user) (increase(weir_collector_budget_refused_total{}[1h]))`},
				{"shared, {{user}}", `max by (user) (weir_collector_budget_shared{})`},
			},
		},
		{
			title: "Permits that lapsed", unit: units.Short, runbook: "budget",
			shows: "Permits within five minutes that were reserved and not used in time.", normal: "small against the limit. Permits are reserved in blocks, and what is not needed lapses.",
			queries: []query{{"{{user}}", `sum by (user) (increase(weir_collector_budget_lapsed_permits_total{}[5m]))`}},
		},
	}}
}

func freshness() row {
	return row{"Lag and freshness", []panel{
		{
			title: "Lag by dataset", unit: units.Seconds, runbook: "stream-time-and-complete-until",
			shows: "Time since the end of the newest window up to which nothing of the dataset is missing.", normal: "6 to 12 minutes with 5-minute buckets; up to an hour, or a day, more with larger ones.",
			queries: []query{{"{{dataset}}", `time() - max by (dataset) (weir_collector_complete_until_timestamp_seconds{dataset=~"$dataset"})`}},
		},
		{
			title: "Overdue", unit: units.Seconds, steps: []step{{Color: "transparent"}, {From: 3600, Color: red}}, runbook: "weirdatalate", empty: "nothing is overdue",
			shows: "How long ago the dataset's oldest window that is not accounted for fell due.", normal: "nothing, or minutes. WeirDataLate fires beyond an hour.",
			queries: []query{{"{{dataset}}", `time() - min by (dataset) (weir_collector_overdue_since_timestamp_seconds{dataset=~"$dataset"})`}},
		},
		{
			title: "Zones behind their dataset", unit: units.Seconds, runbook: "weirdatalate",
			shows:  "The 15 zones and accounts whose newest final window is furthest behind that of the dataset's most advanced zone.",
			normal: "0, or a bucket or two. A zone without traffic is behind until its silence is confirmed, for up to a day.",
			queries: []query{{
				"{{zone}}{{account}} {{dataset}}",
				`topk(15, max by (dataset) (weir_collector_scope_newest_final_timestamp_seconds{dataset=~"$dataset"}) - on (dataset) group_right () max by (zone, account, dataset) (weir_collector_scope_newest_final_timestamp_seconds{dataset=~"$dataset"}))`,
			}},
		},
		{
			title: "State of zones and datasets", unit: units.Short, stacked: true, runbook: "what-is-missing-and-why",
			shows:  "Pairs of zone or account and dataset by state and reason. Beyond 1,000 pairs the healthy ones are left out.",
			normal: "collecting, and waiting for zones without traffic; refused for what a plan does not include.",
			queries: []query{
				{"{{state}} {{reason}}", `count by (state, reason) (max by (zone, account, dataset, state, reason) (weir_collector_scope_state{dataset=~"$dataset"}))`},
				{"left out", `max(weir_collector_scope_states_left_out{}) > 0`},
			},
		},
		{
			title: "Newest bucket served, by dataset", unit: units.Seconds, runbook: "freshness",
			shows: "Age of the end of the newest window in the memory of the exposer that is furthest behind.", normal: "6 to 12 minutes with 5-minute buckets; up to an hour, or a day, more with larger ones.",
			queries: []query{{"{{dataset}}", `time() - min by (dataset) (weir_exposer_newest_bucket_end_timestamp_seconds{dataset=~"$dataset"})`}},
		},
		{
			title: "Zones and accounts", unit: units.Short, runbook: "no_zones",
			shows: "Zones by state, and what the token sees and the settings select. Unread are those whose settings have not been read yet.", normal: "all active zones are selected; 0 unread after the first minutes.",
			queries: []query{
				{"{{state}}", `sum by (state) (max by (state, credential) (weir_collector_scopes{}))`},
				{"visible", `max(weir_collector_visible_zones{})`},
				{"selected", `max(weir_collector_selected_zones{})`},
				{"unread", `max(weir_collector_unread_scopes{})`},
			},
		},
	}}
}
