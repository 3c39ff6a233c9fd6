package compat

import "strings"

// The labels that lablabs/cloudflare-exporter writes in a way of its own. An account of zones
// and of Workers is in lower case with "-" for spaces; of R2, tunnels and pools it is as it is; of
// Logpush it is the id.
var (
	zone        = Label{Name: "zone", From: ofZone}
	account     = Label{Name: "account", From: ofAccountSlug}
	accountName = Label{Name: "account", From: ofAccount}
	accountID   = Label{Name: "account", From: ofAccountID}
	country     = Label{Name: "country", From: "country"}
	region      = Label{Name: "region", From: "country", As: regionOf}
	status      = Label{Name: "status", From: "status"}
	host        = Label{Name: "host", From: "host"}
	colocation  = Label{Name: "colocation", From: "colo"}
	asn         = Label{Name: "asn", From: "asn"}
	asnName     = Label{Name: "asn_description", From: "asn_name"}
	script      = Label{Name: "script_name", From: "script"}
	balancer    = Label{Name: "load_balancer_name", From: "load_balancer"}
	pool        = Label{Name: "pool_name", From: "pool"}
	connector   = Label{Name: "client_id", From: "connector_id"}
	bucketName  = Label{Name: "bucket", From: "bucket"}
	percentile  = Label{Name: "quantile", From: "quantile", As: percentileOf}
)

// same is a label that is as it is in Weir.
func same(name string) Label { return Label{Name: name, From: name} }

// percentileOf is how they name a quantile: P50 for 0.5, and P999 for 0.999.
func percentileOf(quantile string) string {
	digits, decimal := strings.CutPrefix(quantile, "0.")
	if !decimal {
		return quantile
	}
	return "P" + digits + strings.Repeat("0", max(0, 2-len(digits)))
}

// failed are the Logpush attempts that failed. What is beyond the limit of the breakdown, which
// is summed into "other", has failed ones and others.
var failed = &Filter{Label: "status", Not: []string{"200", "other"}}

// Lablabs is the page of lablabs/cloudflare-exporter, as of November 2026. Families are in order
// of name.
var Lablabs = Page{
	Exporter: "lablabs/cloudflare-exporter",
	Families: []Family{
		{
			Name: "cloudflare_logpush_failed_jobs_account_count", Help: "Attempts to push logs of an account that failed.",
			Dataset: "account_logpush", Of: []string{"cloudflare_account_logpush_uploads"}, Only: failed,
			Labels: []Label{accountID, same("destination"), same("job_id"), same("final")},
			Note:   "and the label `status`: a sum over it would step back",
		},
		{
			Name: "cloudflare_logpush_failed_jobs_zone_count", Help: "Attempts to push logs of a zone that failed.",
			Dataset: "logpush", Of: []string{"cloudflare_zone_logpush_uploads"}, Only: failed,
			Labels: []Label{same("destination"), same("job_id"), same("final")},
			Note:   "and the labels `zone`, `account` and `status`: theirs collide between zones",
		},
		{
			Name: "cloudflare_pool_origin_health_status", Help: "1 if an origin of a load balancer pool was healthy, otherwise 0.", Gauge: true,
			Dataset: "load_balancer_pools", Of: []string{"cloudflare_account_load_balancer_origin_healthy"},
			Labels: []Label{accountName, pool, {Name: "origin_name", From: "origin"}, {Name: "ip", From: "address"}},
			Note:   "and the label `pool_id`",
		},
		{
			Name: "cloudflare_r2_storage_bytes", Help: "Bytes of objects and their metadata in R2, by bucket.", Gauge: true,
			Dataset: "r2_storage", Of: []string{"cloudflare_account_r2_payload_bytes", "cloudflare_account_r2_metadata_bytes"},
			Labels: []Label{accountName, bucketName}, Sum: []string{"storage_class"},
			Note: "of the largest 200",
		},
		{
			Name: "cloudflare_r2_storage_total_bytes", Help: "Bytes of objects and their metadata in R2.", Gauge: true,
			Dataset: "r2_storage", Of: []string{"cloudflare_account_r2_payload_bytes", "cloudflare_account_r2_metadata_bytes"},
			Labels: []Label{accountName}, Sum: []string{"storage_class", "bucket"},
			Note: "of the largest 200 buckets",
		},
		{
			Name: "cloudflare_tunnel_connector_active_connections", Help: "Connections of a connector of a Cloudflare Tunnel to Cloudflare.", Gauge: true,
			Dataset: "tunnel_connectors", Of: []string{"cloudflare_account_tunnel_connector_active_connections"},
			Labels: []Label{accountName, same("tunnel_id"), connector},
		},
		{
			Name: "cloudflare_tunnel_connector_info", Help: "Connectors of Cloudflare Tunnels; always 1.", Gauge: true,
			Dataset: "tunnel_connectors", Of: []string{"cloudflare_account_tunnel_connector_info"},
			Labels: []Label{accountName, same("tunnel_id"), connector, same("version"), same("arch"), same("origin_ip")},
		},
		{
			Name: "cloudflare_tunnel_health_status", Help: "Health of a Cloudflare Tunnel: 0 down, 1 healthy, 2 degraded, 3 inactive, 255 anything else.", Gauge: true,
			Dataset: "tunnels", Of: []string{"cloudflare_account_tunnel_health_status"},
			Labels: []Label{accountName, same("tunnel_id")}, Sum: []string{"tunnel"},
		},
		{
			Name: "cloudflare_tunnel_info", Help: "Cloudflare Tunnels; always 1.", Gauge: true,
			Dataset: "tunnels", Of: []string{"cloudflare_account_tunnel_info"},
			Labels: []Label{accountName, same("tunnel_id"), {Name: "tunnel_name", From: "tunnel"}, {Name: "tunnel_type", From: "type"}},
		},
		{
			Name: "cloudflare_worker_cpu_time", Help: "Quantiles of the CPU time of an invocation of a Worker, in microseconds.", Gauge: true,
			Dataset: "worker_durations", Of: []string{"cloudflare_account_worker_cpu_seconds"}, Scale: 1e6,
			Labels: []Label{script, account, status, percentile},
			Note:   "in microseconds, as theirs; of a bucket instead of a minute",
		},
		{
			Name: "cloudflare_worker_errors_count", Help: "Requests of which a Worker failed.",
			Dataset: "workers", Of: []string{"cloudflare_account_worker_errors"},
			Labels: []Label{script, account, status},
		},
		{
			Name: "cloudflare_worker_requests_count", Help: "Requests that a Worker answered.",
			Dataset: "workers", Of: []string{"cloudflare_account_worker_requests"},
			Labels: []Label{script, account, status},
		},
		{
			Name: "cloudflare_zone_bandwidth_asn", Help: "Bytes sent to end users, by network.",
			Dataset: "asns", Of: []string{"cloudflare_zone_bytes_by_asn"},
			Labels: []Label{zone, account, asn, asnName},
		},
		{
			Name: "cloudflare_zone_bandwidth_cached", Help: "Bytes sent to end users from the cache.",
			Dataset: "http", Of: []string{"cloudflare_zone_cached_bytes"},
			Labels: []Label{zone, account},
		},
		{
			Name: "cloudflare_zone_bandwidth_content_type", Help: "Bytes sent to end users, by type of content.",
			Dataset: "content_types", Of: []string{"cloudflare_zone_bytes_by_content_type"},
			Labels: []Label{zone, account, same("content_type")},
		},
		{
			Name: "cloudflare_zone_bandwidth_country", Help: "Bytes sent to end users, by country.",
			Dataset: "countries", Of: []string{"cloudflare_zone_bytes_by_country"},
			Labels: []Label{zone, account, country, region},
		},
		{
			Name: "cloudflare_zone_bandwidth_ssl_encrypted", Help: "Bytes sent to end users over TLS.",
			Dataset: "http", Of: []string{"cloudflare_zone_encrypted_bytes"},
			Labels: []Label{zone, account},
		},
		{
			Name: "cloudflare_zone_bandwidth_total", Help: "Bytes sent to end users.",
			Dataset: "http", Of: []string{"cloudflare_zone_bytes"},
			Labels: []Label{zone, account},
		},
		{
			Name: "cloudflare_zone_colocation_edge_response_bytes", Help: "Bytes sent to end users, by data centre and host.",
			Dataset: "colo_hosts", Of: []string{"cloudflare_zone_bytes_by_colo_host"},
			Labels: []Label{zone, account, colocation, host},
		},
		{
			Name: "cloudflare_zone_colocation_requests_total", Help: "Requests from end users, by data centre and host.",
			Dataset: "colo_hosts", Of: []string{"cloudflare_zone_requests_by_colo_host"},
			Labels: []Label{zone, account, colocation, host},
			Note:   "without subrequests of Workers",
		},
		{
			Name: "cloudflare_zone_colocation_visits", Help: "Visits, by data centre and host.",
			Dataset: "colo_hosts", Of: []string{"cloudflare_zone_visits_by_colo_host"},
			Labels: []Label{zone, account, colocation, host},
		},
		{
			Name: "cloudflare_zone_edge_errors_by_path", Help: "Requests that the edge answered with an error, by path without ids.",
			Dataset: "error_paths", Of: []string{"cloudflare_zone_error_requests_by_path"},
			Labels: []Label{zone, account, status, host, same("path")},
			Note:   "on request in both: `WEIR_DATASETS=error_paths`",
		},
		{
			Name: "cloudflare_zone_firewall_events_count", Help: "Security events, by rule.",
			Dataset: "firewall_rules", Of: []string{"cloudflare_zone_firewall_events_by_rule"},
			Labels: []Label{zone, account, same("action"), same("source"), same("rule"), host, country},
			Note:   "`rule` is the id of the rule, not its description",
		},
		{
			Name: "cloudflare_zone_health_check_events_origin_count", Help: "Results of health checks.",
			Dataset: "health_checks", Of: []string{"cloudflare_zone_health_check_events"},
			Labels: []Label{zone, account, same("health_status"), same("origin_ip"), same("region"), same("fqdn")},
			Note:   "and the label `failure_reason`: a sum over it would step back",
		},
		{
			Name: "cloudflare_zone_pageviews_total", Help: "Successful requests for HTML.",
			Dataset: "http", Of: []string{"cloudflare_zone_page_views"},
			Labels: []Label{zone, account},
		},
		{
			Name: "cloudflare_zone_pool_health_status", Help: "1 if a pool was healthy for at least half of the requests that a load balancer directed to it, otherwise 0.", Gauge: true,
			Dataset: "load_balancing", Of: []string{"cloudflare_zone_load_balancer_pool_healthy_ratio"}, Round: true,
			Labels: []Label{zone, account, balancer, pool},
			Note:   "1 if the pool was healthy for at least half of its requests in the bucket; theirs is the state at one sampled request. A pool without requests has no sample",
		},
		{
			Name: "cloudflare_zone_pool_requests_total", Help: "Requests that a load balancer directed, by pool and origin.",
			Dataset: "load_balancing", Of: []string{"cloudflare_zone_load_balancer_requests"},
			Labels: []Label{zone, account, balancer, pool, {Name: "origin_name", From: "origin"}},
		},
		{
			Name: "cloudflare_zone_requests_asn", Help: "Requests from end users, by network.",
			Dataset: "asns", Of: []string{"cloudflare_zone_requests_by_asn"},
			Labels: []Label{zone, account, asn, asnName},
		},
		{
			Name: "cloudflare_zone_requests_browser_map_page_views_count", Help: "Page views, by browser.",
			Dataset: "browsers", Of: []string{"cloudflare_zone_page_views_by_browser"},
			Labels: []Label{zone, account, {Name: "family", From: "browser"}},
		},
		{
			Name: "cloudflare_zone_requests_cached", Help: "Requests from end users that were served from the cache.",
			Dataset: "http", Of: []string{"cloudflare_zone_cached_requests"},
			Labels: []Label{zone, account},
		},
		{
			Name: "cloudflare_zone_requests_content_type", Help: "Requests from end users, by type of content.",
			Dataset: "content_types", Of: []string{"cloudflare_zone_requests_by_content_type"},
			Labels: []Label{zone, account, same("content_type")},
		},
		{
			Name: "cloudflare_zone_requests_country", Help: "Requests from end users, by country.",
			Dataset: "countries", Of: []string{"cloudflare_zone_requests_by_country"},
			Labels: []Label{zone, account, country, region},
		},
		{
			Name: "cloudflare_zone_requests_origin_status_country_host", Help: "Requests that an origin answered, by its status, country and host.",
			Dataset: "origin_responses", Of: []string{"cloudflare_zone_requests_by_origin_status_country_host"},
			Labels: []Label{zone, account, {Name: "status", From: "origin_status"}, country, host},
			Note:   "the requests that an origin answered; theirs has all that were no cache hit",
		},
		originQuantile("p50", "0.5"),
		originQuantile("p95", "0.95"),
		originQuantile("p99", "0.99"),
		{
			Name: "cloudflare_zone_requests_ssl_encrypted", Help: "Requests from end users over TLS.",
			Dataset: "http", Of: []string{"cloudflare_zone_encrypted_requests"},
			Labels: []Label{zone, account},
		},
		{
			Name: "cloudflare_zone_requests_status", Help: "Requests from end users, by status of the answer.",
			Dataset: "http", Of: []string{"cloudflare_zone_requests_by_status"},
			Labels: []Label{zone, account, status},
		},
		{
			Name: "cloudflare_zone_requests_status_country_host", Help: "Requests from end users, by status of the answer, country and host.",
			Dataset: "edge_responses", Of: []string{"cloudflare_zone_requests_by_status_country_host"},
			Labels: []Label{zone, account, status, country, host},
		},
		{
			Name: "cloudflare_zone_requests_total", Help: "Requests from end users.",
			Dataset: "http", Of: []string{"cloudflare_zone_requests"},
			Labels: []Label{zone, account},
		},
		{
			Name: "cloudflare_zone_threats_country", Help: "Requests that Cloudflare classed as threats, by country.",
			Dataset: "threat_countries", Of: []string{"cloudflare_zone_threats_by_country"},
			Labels: []Label{zone, account, country, region},
		},
		{
			Name: "cloudflare_zone_threats_total", Help: "Requests that Cloudflare classed as threats.",
			Dataset: "http", Of: []string{"cloudflare_zone_threats"},
			Labels: []Label{zone, account},
		},
		{
			Name: "cloudflare_zone_threats_type", Help: "Requests that Cloudflare classed as threats, by type.",
			Dataset: "threat_types", Of: []string{"cloudflare_zone_requests_by_threat_type"},
			Labels: []Label{zone, account, {Name: "type", From: "threat_type"}},
		},
	},
	LeftOut: []LeftOut{
		{"cloudflare_account_http_data_transfer_month_elapsed_seconds", "the share of a month that has passed is a matter of the query"},
		{"cloudflare_account_http_data_transfer_month_to_date_bytes", "it needs a month of stored buckets, which a page does not have: `increase(cloudflare_account_http_bytes_total[30d])` of `/counters`"},
		{"cloudflare_account_http_data_transfer_month_total_seconds", "the length of a month is a matter of the query"},
		{"cloudflare_account_http_data_transfer_projected_month_bytes", "it is a projection of the bytes of a month, which a page does not have"},
		{"cloudflare_r2_operation_count", "it is the day so far, which an exposer that has just started does not know: `increase(cloudflare_account_r2_requests_total[1d])` of `/counters`"},
		{"cloudflare_worker_duration", "it is in GB-s, a unit of invoices, which Weir does not collect; the wall time is `cloudflare_account_worker_wall_seconds`"},
		{"cloudflare_zone_uniques_total", "a sum of distinct counts, which counts a visitor again every minute, means nothing; nor does page views less uniques. The visitors of an hour are `cloudflare_zone_unique_visitors`"},
	},
}

func originQuantile(name, quantile string) Family {
	return Family{
		Name: "cloudflare_zone_requests_origin_status_country_host_" + name + "_ms", Gauge: true,
		Help:    "Quantile " + quantile + " of the time that origins took to respond, in milliseconds.",
		Dataset: "origin_responses", Of: []string{"cloudflare_zone_origin_duration_seconds"}, Scale: 1000,
		Labels: []Label{zone, account, {Name: "status", From: "origin_status"}, country, host},
		Only:   &Filter{Label: "quantile", Is: quantile},
		Note:   "of the largest 100; of a bucket instead of a minute",
	}
}
