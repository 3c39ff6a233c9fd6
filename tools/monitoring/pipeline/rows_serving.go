package pipeline

import "github.com/grafana/grafana-foundation-sdk/go/units"

func exposers() row {
	return row{"Exposers", []panel{
		{
			title: "Age of the stream by exposer", unit: units.Seconds, steps: []step{{Color: "transparent"}, {From: 180, Color: red}}, runbook: "weirstreamstale",
			shows: "How far each exposer is behind the leader's clock.", normal: "less than a minute. All grow while there is no leader; one grows while its stream is stalled.",
			queries: []query{{"{{instance}}", `max by (instance) (weir_exposer_progress_lag_seconds{})`}},
		},
		{
			title: "Revisions behind", unit: units.Short, runbook: "weirstreamstale",
			shows: "Entries of the log that a collector has and the exposer does not serve yet.", normal: "0, or a few for seconds.",
			queries: []query{{"{{instance}}", `clamp_min(scalar(max(weir_collector_head_revision{})) - max by (instance) (weir_exposer_revision{}), 0)`}},
		},
		{
			title: "Streams and their ends", unit: units.Short, runbook: "weirstreamstale",
			shows: "1 while an exposer has a stream, and how many streams ended within an hour, by reason.", normal: "1, and no ends but those of restarts and one an hour for the age of the connection.",
			queries: []query{
				{"{{instance}}", `min by (instance) (weir_exposer_stream_connected{})`},
				{"ended: {{reason}}", `sum by (reason) (increase(weir_exposer_stream_disconnects_total{}[1h])) > 0`},
			},
		},
		{
			title: "Different histories", unit: units.Short, steps: atMost(2), runbook: "backup-and-restore",
			shows: "Histories among the exposers that serve the newest revision.", normal: "1. More means that exposers follow different stores, or one store before and after a restore.",
			queries: []query{{"histories", `count(count_values("hash", weir_exposer_history_hash{} and on (namespace, job, instance) weir_exposer_revision{} == scalar(max(weir_exposer_revision{}))))`}},
		},
		{
			title: "Samples held", unit: units.Short, runbook: "sizing",
			shows: "Samples in the memory of the exposers.", normal: "the samples of /metrics, and up to a page of each dataset more. 130 bytes each.",
			queries: []query{{"{{instance}}", `max by (instance) (weir_exposer_samples_held{})`}},
		},
		{
			title: "Entries rejected", unit: units.Short, steps: atMost(1), runbook: "weirentriesrejected",
			shows: "Buckets and definitions that an exposer received and cannot show, since it started.", normal: "0.",
			queries: []query{{"{{instance}}", `max by (instance) (weir_exposer_entries_rejected_total{})`}},
		},
	}}
}

func replay() row {
	return row{"Rounds of the replay", []panel{
		{
			title: "Windows on /metrics by role", unit: units.Short, runbook: "weirreplayshort",
			shows: "Windows of each dataset on /metrics: the newest ones, and the page of older ones in turn.", normal: "newest is constant; page appears for five minutes when it is in turn.",
			queries: []query{{"{{dataset}} {{role}}", `max by (dataset, role) (weir_exposer_replay_windows{dataset=~"$dataset"})`}},
		},
		{
			title: "Pages missing and fetched", unit: units.Short, runbook: "weirpagesmissing",
			shows: "Pages in turn that are not on /metrics, by exposer, and attempts to fetch pages within an hour, by outcome.", normal: "0 missing, or 1 for a minute; none failed.",
			queries: []query{
				{"missing at {{instance}}", `max by (instance) (weir_exposer_replay_pages_missing{})`},
				{"{{outcome}}", `sum by (outcome) (increase(weir_exposer_page_fetches_total{}[1h]))`},
			},
		},
		{
			title: "Since the last late commit", unit: units.Seconds, runbook: "weirpagesmissing", empty: "no late commit",
			shows: "Time since a bucket became final that was older than the newest windows. Rounds follow one another for two rounds after it.", normal: "none, or hours. After an outage it is young.",
			queries: []query{{"{{dataset}}", `time() - max by (dataset) (weir_exposer_late_commit_timestamp_seconds{dataset=~"$dataset"} > 0)`}},
		},
		{
			title: "Span of the replay", unit: units.Seconds, runbook: "weirreplayshort",
			shows: "How long Prometheus may be down without missing samples of the dataset until they are backfilled.", normal: "hours, and constant.",
			queries: []query{{"{{dataset}}", `min by (dataset) (weir_exposer_replay_span_seconds{dataset=~"$dataset"})`}},
		},
		{
			title: "Oldest bucket on /metrics", unit: units.Seconds, runbook: "weirreplaytooold",
			shows: "Age of the end of the oldest window on /metrics. The out_of_order_time_window of Prometheus must be longer.", normal: "below CF_METRICS_REPLAY_HOURS; it jumps with the page in turn.",
			queries: []query{{"{{dataset}}", `time() - min by (dataset) (weir_exposer_oldest_bucket_end_timestamp_seconds{dataset=~"$dataset"})`}},
		},
		{
			title: "Trimmed, short or refused", unit: units.Short, steps: atMost(1), runbook: "weirreplayrefused",
			shows: "Windows that the limits on samples removed, datasets whose replay is short, and exposers that refuse /metrics.", normal: "0.",
			queries: []query{
				{"trimmed {{dataset}} {{role}}", `max by (dataset, role) (weir_exposer_replay_trimmed_windows{dataset=~"$dataset"}) > 0`},
				{"short {{dataset}}", `max by (dataset) (weir_exposer_replay_short{dataset=~"$dataset"}) > 0`},
				{"refused", `max(weir_exposer_replay_refused{})`},
			},
		},
	}}
}

func scrapes() row {
	return row{"Scrapes", []panel{
		{
			title: "Scrapes of /metrics by status", unit: units.RequestsPerMinute, stacked: true, runbook: "weirscrapesrefused", empty: "no scrapes",
			shows: "Completed requests for /metrics, by status code.", normal: "200 at the rate of your scrape interval; no 503.",
			queries: []query{{"{{code}}", `60 * sum by (code) (rate(weir_exposer_scrapes_total{}[$__rate_interval]))`}},
		},
		{
			title: "Scrapes in progress and cut", unit: units.Short, runbook: "weirscrapescut",
			shows: "Scrapes in progress by exposer, and responses within half an hour that the client did not read to the end.", normal: "few in progress, none cut.",
			queries: []query{
				{"in progress at {{instance}}", `max by (instance) (weir_exposer_scrapes_in_flight{})`},
				{"cut", `sum(increase(weir_exposer_scrapes_cut_total{}[30m]))`},
			},
		},
		{
			title: "Size of /metrics", unit: units.BytesIEC, runbook: "sizing",
			shows: "Length of the last response that was built, by format and encoding. Prometheus applies body_size_limit to the identity encoding.", normal: "below body_size_limit (64 MB in the shipped configuration).",
			queries: []query{{"{{format}} {{encoding}}", `max by (format, encoding) (weir_exposer_body_bytes{})`}},
		},
		{
			title: "Samples and series on /metrics", unit: units.Short, runbook: "sizing",
			shows: "Samples and distinct series in a response, at the exposer with most.", normal: "below WEIR_REPLAY_SOFT_SAMPLES; more while pages are in turn.",
			queries: []query{
				{"samples", `max(weir_exposer_replay_samples{})`},
				{"series", `max(weir_exposer_replay_series{})`},
			},
		},
		{
			title: "Time to build a response", unit: units.Seconds, runbook: "sizing",
			shows: "99th percentile of the time to build a body of /metrics, which is done once for each view, format and encoding.", normal: "below a second.",
			queries: []query{{"{{format}} {{encoding}}", `histogram_quantile(0.99, sum by (format, encoding, le) (rate(weir_exposer_body_build_seconds_bucket{}[$__rate_interval])))`}},
		},
		{
			title: "Requests for /backfill", unit: units.Short, runbook: "overload", empty: "no requests",
			shows: "Requests for /backfill in progress, and completed within an hour by outcome.", normal: "whole while somebody loads history. broken ended after its first byte: request it again.",
			queries: []query{
				{"in progress", `sum(weir_exposer_backfills_in_flight{})`},
				{"{{outcome}}", `sum by (outcome) (increase(weir_exposer_backfills_total{}[1h])) > 0`},
			},
		},
		{
			title: "Calls of the collectors by status", unit: units.CountsPerMinute, runbook: "overload", empty: "no call has ended",
			shows: "Calls of the collectors' BucketService that ended, by method and code.", normal: "OK for lists. Streams end with Unavailable or Canceled at restarts and once an hour.",
			queries: []query{{"{{grpc_method}} {{grpc_code}}", `60 * sum by (grpc_method, grpc_code) (rate(grpc_server_handled_total{grpc_service=~"weir.bucket.*"}[$__rate_interval])) > 0`}},
		},
		{
			title: "Samples that Prometheus did not store", unit: units.Short, runbook: "weirsamplesrefused", empty: "Prometheus does not scrape itself",
			shows:  "Samples of all its targets that Prometheus refused within five minutes, by its own counters; it must scrape itself.",
			normal: "0. Out of order and out of bounds: out_of_order_time_window is not set. Too old: it is shorter than the replay. Duplicate: two installations with one name.",
			queries: []query{
				{"out of order", `sum(increase(prometheus_target_scrapes_sample_out_of_order_total[5m]))`},
				{"out of bounds", `sum(increase(prometheus_target_scrapes_sample_out_of_bounds_total[5m]))`},
				{"too old", `sum(increase(prometheus_tsdb_too_old_samples_total[5m]))`},
				{"duplicate", `sum(increase(prometheus_target_scrapes_sample_duplicate_timestamp_total[5m]))`},
			},
		},
	}}
}

func requested() row {
	return row{"Backfills and changes on request", []panel{
		{
			title: "Backfills", unit: units.Short, runbook: "backfill_stalled",
			shows:  "Backfills that operators requested and that have not ended, by state, and those that ended within an hour, by how.",
			normal: "0, or those that you know of. A paused one waits until somebody resumes or cancels it.",
			queries: []query{
				{"{{state}}", `max by (state) (weir_collector_backfill_jobs{})`},
				{"ended: {{state}}", `sum by (state) (increase(weir_collector_backfill_jobs_ended_total{}[1h]))`},
			},
		},
		{
			title: "Windows of backfills", unit: units.Short, stacked: true, runbook: "weirbackfillstalled",
			shows:   "Windows of the backfills that have not ended: present (final before), filled, missing, refused by Cloudflare or the plan, or lost.",
			normal:  "none, or missing falls and filled rises. BACKFILL_STALLED is reported when nothing is filled for six hours.",
			queries: []query{{"{{state}}", `max by (state) (weir_collector_backfill_windows{})`}},
		},
		{
			title: "Requests for backfills", unit: units.CountsPerMinute, runbook: "budget",
			shows:   "Requests to Cloudflare for backfills. Regular work comes first.",
			normal:  "0 without a backfill. Few while regular work needs the whole share of the budget, or while Cloudflare fails.",
			queries: []query{{"requests", `60 * sum(rate(weir_collector_upstream_requests_total{lane="backfill"}[$__rate_interval]))`}},
		},
		{
			title: "Calls of operators by status", unit: units.Short, runbook: "changes-on-request", empty: "no call within an hour", wide: true,
			shows:   "Calls of the AdminService that ended within an hour, by method and code: backfills, accepted gaps, restatements and lists.",
			normal:  "what you know of. Each change, also a refused one, is an audit event: weir audit list.",
			queries: []query{{"{{grpc_method}} {{grpc_code}}", `sum by (grpc_method, grpc_code) (increase(grpc_server_handled_total{grpc_service=~"weir.admin.*"}[1h])) > 0`}},
		},
	}}
}

func environment() row {
	return row{"Processes and secrets", []panel{
		{
			title: "Secrets", unit: units.Short, runbook: "weirsecretunusable", empty: "no secret is read from a file",
			shows: "1 while the content of the secret's files is in use, and reloads that failed within an hour.", normal: "1, and none failed.",
			queries: []query{
				{"{{secret}} at {{instance}}", `min by (secret, instance) (weir_secret_usable{})`},
				{"failed: {{secret}}", `sum by (secret) (increase(weir_secret_reload_failures_total{}[1h])) > 0`},
			},
		},
		{
			title: "Certificates expire in", unit: units.Seconds, runbook: "weircertificateexpires", empty: "no certificates",
			shows: "Time until the certificates in use expire.", normal: "more than 14 days.",
			queries: []query{{"{{secret}} at {{instance}}", `min by (secret, instance) (weir_secret_expires_timestamp_seconds{}) - time()`}},
		},
		{
			title: "Clock skew", unit: units.Seconds, runbook: "weirclockskew", empty: "no skew",
			shows: "Clocks of Cloudflare and of the database minus that of the collector, beyond what measuring explains.", normal: "0.",
			queries: []query{{"{{source}} at {{instance}}", `max by (source, instance) (weir_collector_clock_skew_seconds{})`}},
		},
		{
			title: "Memory", unit: units.BytesIEC, runbook: "sizing",
			shows: "Resident memory of the processes.", normal: "a sawtooth below the limit of the container.",
			queries: []query{{"{{instance}}", `max by (instance) (process_resident_memory_bytes{})`}},
		},
		{
			title: "CPU", unit: units.PercentUnit, runbook: "sizing",
			shows: "CPU time of the processes, as a share of one core.", normal: "a few percent; more while catching up.",
			queries: []query{{"{{instance}}", `sum by (instance) (rate(process_cpu_seconds_total{}[$__rate_interval]))`}},
		},
		{
			title: "Versions", unit: units.Short, runbook: "upgrade",
			shows: "Processes by version and revision.", normal: "one line, and two during an upgrade.",
			queries: []query{{"{{version}} {{revision}}", `count by (version, revision) (weir_build_info{})`}},
		},
	}}
}
