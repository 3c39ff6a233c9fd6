package doctor

// Check is a check.
type Check struct {
	ID    string
	Asks  string // what is compared with what, for the documentation
	judge func(*subject) []Finding
}

// Checks are all checks, in the order of the report.
var Checks = []Check{
	{"cloudflare.token", "Whether Cloudflare accepts each token, and when the token expires (`/user/tokens/verify`, or that of the account that owns it).", token},
	{"cloudflare.permissions", "Whether the token lists zones and may read their analytics.", permissions},
	{"cloudflare.selection", "Whether each entry of `CF_ZONES`, `CF_EXCLUDE_ZONES` and `CF_ACCOUNTS` matches what the token sees.", selection},
	{"cloudflare.clock", "This machine's clock against the `Date` of Cloudflare's responses.", skew},

	{"collector.reachable", "Whether each collector responds to `GetStatus`.", collectorReachable},
	{"collector.admin", "Whether the AdminService answers to the token that `weir backfill`, `weir gaps`, `weir restate` and `weir audit` would use; the newest audit event is read.", admin},
	{"collector.leader", "Whether exactly one process collects.", leader},
	{"collector.stream", "The age of the stream time: whether the leader is alive.", stream},
	{"collector.problems", "The problems that `GetStatus` lists.", problems},
	{"collector.coverage", "Windows that are due and missing, by dataset.", coverage},
	{"collector.entitlements", "What the plans allow, by zone, with reasons.", entitlements},
	{"collector.budget", "Requests that the selection needs against those that the share of the budget allows.", budget},

	{"store.reachable", "Whether the database can be read.", storeReachable},
	{"store.version", "The version of the database.", storeVersion},
	{"store.schema", "The version of the schema against that of this release.", schema},
	{"store.encoding", "Whether the database holds every text.", encoding},
	{"store.role", "Whether the role has all rights of a collector, and not more.", storeRole},
	{"store.durability", "`fsync`, `full_page_writes` and `synchronous_commit`, or the journal of SQLite: whether a commit survives a power cut.", durability},
	{"store.replication", "Whether a commit is on a second server before a collector relies on it.", replication},
	{"store.space", "Size, growth per month, and free space.", space},

	{"exposer.ready", "Whether each exposer responds and is ready.", ready},
	{"exposer.store", "Whether all exposers serve the store that was asked, at about one revision.", oneStore},
	{"exposer.age", "How old the stream time of each exposer is.", age},
	{"exposer.pages", "Whether the page of older windows that is in turn is on `/metrics`.", pages},
	{"exposer.counters", "Whether each exposer serves `/counters`, of the store of its `/metrics` and of the epoch of the others.", counters},

	{"operations.reachable", "Whether each operations port that is given answers with Weir's metrics about itself, or Prometheus does.", operationsReachable},
	{"operations.ready", "Whether each process whose operations port is given is ready, and with which reason not.", operationsReady},

	{"prometheus.reachable", "Whether Prometheus or VictoriaMetrics answers queries.", prometheusReachable},
	{"prometheus.version", "Its version: some refuse several samples of a series in a scrape.", version},
	{"prometheus.target", "Whether the job's targets are scraped, and with which error not.", targets},
	{"prometheus.store", "Whether the job's targets serve the store that was asked, by what they answer, or by `weir_exposer_store_info` if they cannot be asked from here.", scrapedStore},
	{"prometheus.out_of_order_window", "The out-of-order window in force against the age of what is replayed, plus two hours.", window},
	{"prometheus.honor_timestamps", "Whether the job keeps Weir's timestamps.", honorTimestamps},
	{"prometheus.stale_markers", "Whether stale markers hide later buckets.", staleMarkers},
	{"prometheus.interval", "The scrape interval against the five minutes for which a page is shown.", interval},
	{"prometheus.limits", "Limits on body and samples against what the exposer serves.", limits},
	{"prometheus.duplicates", "Series that are stored more than once, under several values of `instance` or `job`.", duplicates},
	{"prometheus.refused_samples", "Counters of samples that were too old, out of bounds, out of order, or in conflict.", refused},
	{"prometheus.deduplication", "The deduplication of VictoriaMetrics, without which each repeat counts again.", dedup},
}

// Question is one of the questions that an installation must answer with evidence.
type Question struct {
	ID, Asks, Evidence string
	answer             func(*subject) []Finding
}

// Questions are all questions, in the order of the report.
var Questions = []Question{
	{"delayed_collection", "Is delayed collection in force?", "When each bucket of the last three hours was read, against the end of its window and the delay of its dataset.", delayed},
	{"durability", "Has data survived a restart?", "An entry that was committed before the process that collects was started, on a store that keeps commits.", survived},
	{"replay_bounded", "Is the replay within what this Prometheus accepts?", "The age of the oldest sample that is shown, against the window, the limits, the targets and the deduplication of this Prometheus.", bounded},
	{"panels_fed", "Are the panels fed?", "The expressions of `WEIR_DOCTOR_PANELS`, or of Weir's dashboard, are run. Each must be accepted, and some must return data. Each metric that they name must have had series in the last hour, except those of Weir that have none while nothing happens, and the families of datasets that are collected.", fed},
	{"backfill_path", "Does the way of a backfill work?", "One to two hours are exported from the store and compared with Prometheus sample by sample, and an import is tried that writes nothing (`weir backfill export`, `verify`, and `import --dry-run`). The collector does not refuse a backfill (`collector.admin`).", backfills},
}
