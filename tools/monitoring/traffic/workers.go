package traffic

import "github.com/grafana/grafana-foundation-sdk/go/units"

func workers() board {
	const asked, failed = "cloudflare_account_worker_requests", "cloudflare_account_worker_errors"
	five, timed := []string{"workers_5m"}, []string{"worker_durations_5m"}
	return board{
		name: "workers", title: "Weir Workers and R2", zones: accountsOnly,
		shows: "Workers by script: requests, errors, CPU and wall time; R2 by bucket: operations, bytes, objects; and the platform's other stores and queues.",
		rows: []row{
			{"In the time shown", []panel{
				amount("Requests to Workers", asked, "requests", five,
					"Requests that Workers answered.", "what it was a day or a week ago at this time."),
				failing("Failed", failed, asked, five,
					"Share of the requests of which the Worker failed.", "below 1 %."),
				{
					title: "CPU time of Workers", kind: figure, unit: units.Seconds, datasets: timed,
					shows: "CPU time that Workers used, which is what they cost.", normal: "in step with requests.",
					queries: []query{{"used", `sum(TOTAL(cloudflare_account_worker_cpu_used_seconds))`, ""}},
				},
				amount("Operations on R2", "cloudflare_account_r2_requests", "operations", []string{"r2_operations_1h"},
					"Operations on all buckets.", "in step with what uses them."),
				{
					title: "Stored in R2", kind: figure, unit: units.BytesSI, datasets: []string{"r2_storage_1h"},
					shows: "Bytes of objects and their metadata in all buckets, in the newest hour that is known.", normal: "grows as you store.",
					queries: []query{{"stored", `sum(last_over_time(LEVEL(cloudflare_account_r2_payload_bytes)[3h])) + sum(last_over_time(LEVEL(cloudflare_account_r2_metadata_bytes)[3h]))`, ""}},
				},
			}},
			{"Workers", []panel{
				ten("Requests by script", asked, "script", "workers_5m", units.RequestsPerSecond,
					"Requests a second that Workers answered, by script.", "the curve of the day."),
				byLabel("Requests by status of the invocation", asked, "status", "workers_5m", units.RequestsPerSecond,
					"Requests a second by status of the invocation.", "success by far; exceededResources and scriptThrewException are failures."),
				{
					title: "Failed by script", unit: units.PercentUnit, datasets: five, steps: errors5xx(),
					shows: "Share of the requests of which the Worker failed, of the ten scripts with most requests.", normal: "below 1 %.",
					queries: []query{{"{{script}}", top(10, "script", share("script", "RATE("+failed+")", "RATE("+asked+")"), asked), ""}},
				},
				ten("Subrequests by script", "cloudflare_account_worker_subrequests", "script", "workers_5m", units.RequestsPerSecond,
					"Requests a second that Workers made, by script.", "a fixed number for each request of a script."),
				{
					title: "CPU time of an invocation", unit: units.Seconds, datasets: timed,
					shows: "Quantiles of the CPU time of one invocation by script. Of a longer step the highest of its buckets.", normal: "far below the limit of your plan (10 ms on Free).",
					queries: []query{{"{{script}} {{quantile}}", `max by (script, quantile) (max_over_time(LEVEL(cloudflare_account_worker_cpu_seconds)[$__interval]))`, ""}},
				},
				{
					title: "Wall time of an invocation", unit: units.Seconds, datasets: timed,
					shows: "Quantiles of the wall time of one invocation by script: it includes waiting for subrequests. Of a longer step the highest of its buckets.", normal: "steady; it follows what the script waits for.",
					queries: []query{{"{{script}} {{quantile}}", `max by (script, quantile) (max_over_time(LEVEL(cloudflare_account_worker_wall_seconds)[$__interval]))`, ""}},
				},
				{
					title: "Scripts", kind: list, unit: units.Short, datasets: []string{"workers_5m", "worker_durations_5m"}, width: 24,
					shows: "Scripts with requests in the time shown.", normal: "the scripts that you know.",
					queries: []query{
						{"requests", total("account, script", asked), ""},
						{"failed", share("account, script", "TOTAL("+failed+")", "TOTAL("+asked+")"), units.PercentUnit},
						{"subrequests", sum("account, script", "TOTAL(cloudflare_account_worker_subrequests)"), ""},
						{"CPU time", sum("account, script", "TOTAL(cloudflare_account_worker_cpu_used_seconds)"), units.Seconds},
						{"wall time", sum("account, script", "TOTAL(cloudflare_account_worker_wall_used_seconds)"), units.Seconds},
					},
				},
			}},
			{"R2", []panel{
				ten("Operations by bucket", "cloudflare_account_r2_requests", "bucket", "r2_operations_1h", units.OpsPerSecond,
					"Operations a second by bucket.", "in step with what uses it."),
				byLabel("Operations by kind", "cloudflare_account_r2_requests", "operation", "r2_operations_1h", units.OpsPerSecond,
					"Operations a second by kind. Writes and lists (class A) cost more than reads (class B).", "reads by far."),
				ten("Bytes returned by bucket", "cloudflare_account_r2_response_bytes", "bucket", "r2_operations_1h", units.BytesPerSecondSI,
					"Bytes a second that operations returned, by bucket.", "in step with operations."),
				{
					title: "Stored by bucket", unit: units.BytesSI, datasets: []string{"r2_storage_1h"}, stacked: true,
					shows: "Bytes of objects by bucket, all storage classes.", normal: "grows as you store; a fall is a deletion.",
					queries: []query{{"{{bucket}}", `sum by (bucket) (last_over_time(LEVEL(cloudflare_account_r2_payload_bytes)[$__interval]))`, ""}},
				},
				{
					title: "Objects by bucket", unit: units.Short, datasets: []string{"r2_storage_1h"}, stacked: true,
					shows: "Objects by bucket, all storage classes.", normal: "in step with what is stored.",
					queries: []query{{"{{bucket}}", `sum by (bucket) (last_over_time(LEVEL(cloudflare_account_r2_objects)[$__interval]))`, ""}},
				},
				{
					title: "Unfinished uploads", unit: units.Short, datasets: []string{"r2_storage_1h"},
					shows: "Multipart uploads that are not complete, by bucket. They cost storage until they are completed or aborted.", normal: "near 0.",
					queries: []query{{"{{bucket}}", `sum by (bucket) (last_over_time(LEVEL(cloudflare_account_r2_pending_uploads)[$__interval]))`, ""}},
				},
			}},
			{"Other stores and queues", []panel{
				byLabel("Operations on Workers KV", "cloudflare_account_kv_requests", "operation", "kv_1h", units.OpsPerSecond,
					"Operations a second by kind.", "reads by far."),
				ten("Queries of D1", "cloudflare_account_d1_queries", "database", "d1_1h", units.OpsPerSecond,
					"Batches of queries a second by database.", "in step with what uses it."),
				ten("Requests to Durable Objects", "cloudflare_account_durable_object_requests", "script", "durable_objects_5m", units.RequestsPerSecond,
					"Requests a second by script.", "in step with what uses them."),
				{
					title: "Backlog of queues", unit: units.Short, datasets: []string{"queue_backlogs_5m"},
					shows: "Average number of messages that wait, by queue.", normal: "returns to near 0. One that only grows has no consumer, or one that fails.",
					queries: []query{{"{{queue}}", `sum by (queue) (avg_over_time(LEVEL(cloudflare_account_queue_backlog_messages)[$__interval]))`, ""}},
				},
			}},
		},
	}
}
