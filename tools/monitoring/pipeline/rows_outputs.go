package pipeline

import "github.com/grafana/grafana-foundation-sdk/go/units"

func counted() row {
	return row{"Counters", []panel{
		{
			title: "Counters served", unit: units.Short, steps: atLeast(1), runbook: "weircountersunavailable", empty: "counters are off",
			shows: "1 while an exposer can serve /counters.", normal: "1. 0 for seconds after a start; for longer it answers 503 with the reason.",
			queries: []query{{"{{instance}}", `min by (instance) (weir_exposer_counters_available{})`}},
		},
		{
			title: "Age of the counters", unit: units.Seconds, steps: []step{{Color: "transparent"}, {From: 90, Color: red}}, runbook: "weircountersunavailable",
			shows: "Time since a collector confirmed that all entries of the log have been counted, by exposer.", normal: "less than 30 s, and just over a minute while there is no leader. Above 90 s /counters answers 503.",
			queries: []query{{"{{instance}}", `max by (instance) (weir_exposer_counters_lag_seconds{})`}},
		},
		{
			title: "Pages of counters by outcome", unit: units.RequestsPerMinute, stacked: true, runbook: "weircountersunavailable",
			shows: "Completed requests for /counters, by outcome.", normal: "served at the rate of your scrape interval, or 0 if nobody scrapes it.",
			queries: []query{{"{{outcome}}", `60 * sum by (outcome) (rate(weir_exposer_counters_pages_total{}[$__rate_interval]))`}},
		},
		{
			title: "Series of counters", unit: units.Short, runbook: "sizing",
			shows: "Series on /counters, by exposer. 180 to 370 bytes each.", normal: "constant, and the same at all exposers. Series without a bucket for a day are retired.",
			queries: []query{{"{{instance}}", `max by (instance) (weir_exposer_counters_series{})`}},
		},
		{
			title: "Counters are sums since", unit: units.Seconds, runbook: "weircountersrestarted", empty: "no leader counts",
			shows: "Time since the counters began at zero, by the reason for which they did.", normal: "grows, with the reason first, or requested after a restore.",
			queries: []query{{"{{reason}}", `time() - max by (reason) (weir_collector_counter_epoch_begin_timestamp_seconds{})`}},
		},
		{
			title: "Entries that counters rejected", unit: units.Short, steps: atMost(1), runbook: "weirentriesrejected",
			shows: "Buckets, definitions and families of totals that an exposer could not count, since it started.", normal: "0.",
			queries: []query{{"{{instance}}", `max by (instance) (weir_exposer_counters_entries_rejected_total{})`}},
		},
	}}
}

func pushed() row {
	return row{"Push", []panel{
		{
			title: "Destination behind the log", unit: units.Seconds, steps: []step{{Color: "transparent"}, {From: 1800, Color: red}}, runbook: "weirpushbehind", empty: "nothing is pushed",
			shows: "How far the destination of a push is behind the collector's log.", normal: "less than a minute. It grows while the destination takes nothing, and falls while the push catches up.",
			queries: []query{{"{{instance}}", `max by (instance) (weir_push_lag_seconds{})`}},
		},
		{
			title: "Samples acknowledged", unit: units.CountsPerMinute, stacked: true, runbook: "weirpushbehind", empty: "nothing is pushed",
			shows: "Samples that the destination acknowledged. A batch that is repeated counts again.", normal: "the samples of all selected datasets, in steps as windows become final.",
			queries: []query{{"{{instance}}", `60 * sum by (instance) (rate(weir_push_samples_total{}[$__rate_interval]))`}},
		},
		{
			title: "Samples refused and hidden", unit: units.Short, steps: atMost(1), runbook: "weirpushrefused", empty: "nothing is pushed",
			shows: "Samples within an hour that the destination refused for good, by reason, and those of a series that another zone has.", normal: "0. What was refused is in the report, for weir backfill import.",
			queries: []query{
				{"{{reason}}", `sum by (reason) (increase(weir_push_samples_refused_total{}[1h]))`},
				{"hidden", `sum(increase(weir_push_samples_hidden_total{}[1h]))`},
			},
		},
		{
			title: "Blocked or halted", unit: units.Short, steps: atMost(1), runbook: "weirpushbehind", empty: "nothing is pushed",
			shows: "1 while the destination takes nothing, and 1 while the push is halted, by reason.", normal: "0. A halted push waits for an operator.",
			queries: []query{
				{"blocked: {{instance}}", `max by (instance) (weir_push_blocked{})`},
				{"halted: {{reason}}", `max by (reason) (weir_push_halted{})`},
			},
		},
		{
			title: "Requests to the destination", unit: units.Seconds, runbook: "weirpushbehind", empty: "no requests",
			shows: "99th percentile of the time that the destination takes for a request, failures included.", normal: "below a second.",
			queries: []query{{"{{instance}}", `histogram_quantile(0.99, sum by (instance, le) (rate(weir_push_request_seconds_bucket{}[$__rate_interval])))`}},
		},
		{
			title: "Failures that are tried again", unit: units.Short, runbook: "weirpushbehind", empty: "nothing is pushed",
			shows: "Failures within an hour after which the push tried again, by cause.", normal: "0, or few while the destination restarts.",
			queries: []query{{"{{cause}}", `sum by (cause) (increase(weir_push_retries_total{}[1h]))`}},
		},
	}}
}
