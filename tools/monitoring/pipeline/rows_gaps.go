package pipeline

import "github.com/grafana/grafana-foundation-sdk/go/units"

func gaps() row {
	return row{"Gaps", []panel{
		{
			title: "Windows missing by reason", unit: units.Short, stacked: true, runbook: "what-is-missing-and-why",
			shows: "Windows that are due, not final and not waiting for confirmation, by reason.", normal: "none. pending and upstream_error for some minutes repair themselves.",
			queries: []query{{"{{reason}}", `sum by (reason) (max by (dataset, reason) (weir_collector_gap_windows{dataset=~"$dataset"}))` + none("reason")}},
		},
		{
			title: "Time until the deadline", unit: units.Seconds, steps: []step{{Color: "transparent"}, {From: 0, Color: red}, {From: 4 * 3600, Color: "transparent"}}, runbook: "weirgapnearloss", empty: "no gap",
			shows: "Time until Cloudflare drops the dataset's oldest gap, of which at most a week is shown.", normal: "no gap. WeirGapNearLoss fires below 4 hours.",
			queries: []query{{"{{dataset}}", `clamp_max(min by (dataset) (weir_collector_repair_deadline_timestamp_seconds{dataset=~"$dataset"}) - time(), 7 * 86400)`}},
		},
		{
			title: "Silence that waits to be believed", unit: units.Short, stacked: true, runbook: "suspect-windows-and-why-the-zeros-of-a-quiet-zone-are-late",
			shows: "Windows that were read and wait for confirmation that they are so quiet, by reason.", normal: "none, or those of zones without traffic: up to a day of windows each. They become final by themselves.",
			queries: []query{{"{{reason}}", `sum by (reason) (max by (dataset, reason) (weir_collector_waiting_windows{dataset=~"$dataset"}))` + none("reason")}},
		},
		{
			title: "Suspect windows", unit: units.Short, runbook: "suspect-windows-and-why-the-zeros-of-a-quiet-zone-are-late",
			shows: "Windows whose newest reading is empty or far below the zone's level. Delayed is 1 while the whole dataset looks late at Cloudflare.", normal: "0, or the windows of zones without traffic; delayed is 0.",
			queries: []query{
				{"{{dataset}}", `max by (dataset) (weir_collector_suspect_windows{dataset=~"$dataset"})`},
				{"{{dataset}} delayed", `max by (dataset) (weir_collector_upstream_delayed{dataset=~"$dataset"})`},
			},
		},
		{
			title: "Gaps filled", unit: units.Short, runbook: "what-is-missing-and-why",
			shows: "Windows of the gap ledger that became final within an hour.", normal: "none while nothing is missing.",
			queries: []query{{"{{dataset}}", `sum by (dataset) (increase(weir_collector_gaps_filled_windows_total{dataset=~"$dataset"}[1h]))` + none("dataset")}},
		},
		{
			title: "Windows lost", unit: units.Short, steps: atMost(1), runbook: "weirwindowslost",
			shows: "Windows that left Cloudflare's retention before they were final, counted since each collector started.", normal: "0, and never rises.",
			queries: []query{{"{{dataset}}", `sum by (dataset) (weir_collector_lost_windows_total{dataset=~"$dataset"})`}},
		},
		{
			title: "Final and never served", unit: units.Short, runbook: "weirunserved",
			shows:   "Buckets that became final when they were too old for /metrics, counted since the exposer started. Only a backfill has them.",
			normal:  "0, and never rises. It rises after an outage longer than CF_METRICS_REPLAY_HOURS.",
			queries: []query{{"{{dataset}}", `max by (dataset) (weir_exposer_unserved_buckets_total{dataset=~"$dataset"}) or label_replace(0 * max(weir_exposer_ready{}), "dataset", "none", "", "")`}},
		},
		{
			title: "Refused datasets and variants", unit: units.Short, runbook: "weirvariantrefused",
			shows: "Zones and accounts for which a dataset may not be requested, and for which Cloudflare refused a variant that the settings allow.", normal: "constant: what your plans do not include. No variants.",
			queries: []query{
				{"{{dataset}}", `max by (dataset) (weir_collector_refused_scopes{dataset=~"$dataset"})`},
				{"{{dataset}} variants", `max by (dataset) (weir_collector_refused_variants{dataset=~"$dataset"}) > 0`},
			},
		},
	}}
}

func finality() row {
	return row{"Audits and drift", []panel{
		{
			title: "Audits by result", unit: units.Short, stacked: true, runbook: "drift",
			shows: "Final buckets that were read again in an hour, by what was found.", normal: "same. A few unanswered, and gone where a plan no longer shows the data.",
			queries: []query{{"{{result}}", `sum by (result) (increase(weir_collector_audited_buckets_total{dataset=~"$dataset"}[1h]))`}},
		},
		{
			title: "Share that moved, by dataset and age", unit: units.PercentUnit, steps: []step{{Color: "transparent"}, {From: .02, Color: red}}, runbook: "weirdrift",
			shows: "Share of the buckets that were read again within a day and had changed at Cloudflare after they were final.", normal: "0 %. WeirDrift fires above 2 %.",
			queries: []query{{"{{dataset}} {{age}}", `sum by (dataset, age) (increase(weir_collector_audited_buckets_total{result="moved",dataset=~"$dataset"}[1d])) / (sum by (dataset, age) (increase(weir_collector_audited_buckets_total{result=~"moved|same",dataset=~"$dataset"}[1d])) > 0)`}},
		},
		{
			title: "Size of the movement", unit: units.PercentUnit, runbook: "drift",
			shows: "How far the buckets that were read again within a day had moved: 99th percentile of the part of the family that moved most.", normal: "0 %.",
			queries: []query{{"{{dataset}} {{age}}", `histogram_quantile(0.99, sum by (dataset, age, le) (increase(weir_collector_drift_ratio_bucket{dataset=~"$dataset"}[1d])))`}},
		},
	}}
}

func leadership() row {
	return row{"Leader and terms", []panel{
		{
			title: "Leader by collector", unit: units.Short, runbook: "weirnoleader",
			shows: "1 for the collector that holds the lease, 0 for standbys.", normal: "one collector at 1. It changes at restarts.",
			queries: []query{{"{{instance}}", `max by (instance) (weir_collector_leader{})`}},
		},
		{
			title: "Terms", unit: units.Short, runbook: "weirleasecontested",
			shows: "Terms that began or ended within an hour, by collector.", normal: "0, and one or two for each restart. A steady number means that the lease is lost and taken again: check the database and the names of the collectors.",
			queries: []query{{"{{instance}}", `sum by (instance) (changes(weir_collector_leader{}[1h]))`}},
		},
		{
			title: "Stream time", unit: units.Seconds, steps: []step{{Color: "transparent"}, {From: 180, Color: red}}, runbook: "stream-time-and-complete-until",
			shows: "Age of the time up to which the log holds all that the leader has committed, and of the same as collectors stream it.", normal: "less than a minute.",
			queries: []query{
				{"leader", `time() - max(weir_collector_progress_timestamp_seconds{} > 0)`},
				{"streamed by {{instance}}", `time() - max by (instance) (weir_collector_feed_progress_timestamp_seconds{} > 0)`},
			},
		},
	}}
}

func store() row {
	return row{"Store", []panel{
		{
			title: "Reachable and writable", unit: units.Short, runbook: "the-store-cannot-be-written",
			shows: "1 while each collector reaches the store, and while its writes succeed.", normal: "1. A standby writes nothing and stays at 1.",
			queries: []query{
				{"{{instance}} reaches", `min by (instance) (weir_collector_store_up{})`},
				{"{{instance}} writes", `min by (instance) (weir_collector_store_writable{})`},
			},
		},
		{
			title: "Failed writes by reason", unit: units.Short, runbook: "the-store-cannot-be-written", empty: "none failed",
			shows: "Appends and other writes that failed, by reason, counted since each collector started. encoding and invalid concern one value; the others stop everything.", normal: "none, and never rises.",
			queries: []query{{"{{reason}}", `sum by (reason) (weir_collector_append_failures_total{})`}},
		},
		{
			title: "Size of the store", unit: units.BytesIEC, runbook: "sizing",
			shows: "Size on disk as the leader sees it, and what it will be in 30 days at the rate of the last three hours.", normal: "grows evenly, and falls when a month is past its retention. In the hours after a catch-up the rate is too high.",
			queries: []query{
				{"now", `max(weir_collector_store_size_bytes{}` + leading + `)`},
				{"in 30 days", `clamp_min(max(weir_collector_store_size_bytes{}` + leading + `) + 240 * (max(weir_collector_store_size_bytes{}` + leading + `) - max(weir_collector_store_size_bytes{} offset 3h)), 0)`},
			},
		},
		{
			title: "Log", unit: units.Short, runbook: "stream-time-and-complete-until",
			shows: "Newest revision of the log that any collector knows, that each can stream, and that each exposer serves.", normal: "the lines lie on each other.",
			queries: []query{
				{"head", `max(weir_collector_head_revision{})`},
				{"streamed by {{instance}}", `max by (instance) (weir_collector_feed_revision{})`},
				{"served by {{instance}}", `max by (instance) (weir_exposer_revision{})`},
			},
		},
		{
			title: "Unreadable entries", unit: units.Short, steps: atMost(1), runbook: "store_unreadable",
			shows: "Entries and records of the store that a process could not read. They are skipped.", normal: "0.",
			queries: []query{{"{{instance}}", `max by (instance) (weir_collector_unreadable_entries{})`}},
		},
		{
			title: "Streams of collectors", unit: units.Short, runbook: "overload",
			shows: "Streams and lists that each collector serves.", normal: "one stream for each exposer and client.",
			queries: []query{{"{{instance}}", `max by (instance) (weir_collector_streams{})`}},
		},
	}}
}
