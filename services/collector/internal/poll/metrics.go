package poll

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-metrics/weir/services/collector/internal/audit"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/jobs"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
)

// Metrics are the loop's own metrics: they distinguish "traffic changed" from "collector
// changed". Labels are bounded by the catalogue and by constants.
type Metrics struct {
	leader                            prometheus.Gauge
	passes                            prometheus.Histogram
	lastSuccess                       *prometheus.GaugeVec
	completeUntil                     *prometheus.GaugeVec
	overdue                           *prometheus.GaugeVec
	buckets                           *prometheus.CounterVec
	requests                          *prometheus.CounterVec
	errors                            *prometheus.CounterVec
	duration                          prometheus.Histogram
	delayed                           *prometheus.GaugeVec
	suspects                          *prometheus.GaugeVec
	gaps                              *prometheus.GaugeVec
	waiting                           *prometheus.GaugeVec
	filled                            *prometheus.CounterVec
	lost                              *prometheus.CounterVec
	missed                            *prometheus.CounterVec
	accepted                          *prometheus.CounterVec
	repairBy                          *prometheus.GaugeVec
	scopes                            *prometheus.GaugeVec
	accounts                          *prometheus.GaugeVec
	standings                         *standings
	visible                           *prometheus.GaugeVec
	selected                          *prometheus.GaugeVec
	visibleAccounts, selectedAccounts *prometheus.GaugeVec
	unmatched                         *prometheus.GaugeVec
	unread                            *prometheus.GaugeVec
	refused                           *prometheus.GaugeVec
	refusedBy                         *prometheus.GaugeVec
	folded                            *prometheus.CounterVec
	zeros                             *prometheus.CounterVec
	truncated                         *prometheus.CounterVec
	cut                               *prometheus.CounterVec
	invalid                           *prometheus.CounterVec
	skew                              *prometheus.GaugeVec
	revision                          prometheus.Gauge
	storeSize                         prometheus.Gauge
	progress                          prometheus.Gauge
	needed                            *prometheus.GaugeVec
	audited                           *prometheus.CounterVec
	moved                             *prometheus.HistogramVec
	backfills                         *prometheus.GaugeVec
	backfillWindows                   *prometheus.GaugeVec
	backfillsEnded                    *prometheus.CounterVec
	epochBegan                        *prometheus.GaugeVec
}

// NewMetrics registers the loop's metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "weir_collector_" + name, Help: help})
		reg.MustRegister(g)
		return g
	}
	gauges := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "weir_collector_" + name, Help: help}, labels)
		reg.MustRegister(g)
		return g
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_collector_" + name, Help: help}, labels)
		reg.MustRegister(c)
		return c
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "weir_collector_" + name, Help: help, Buckets: buckets})
		reg.MustRegister(h)
		return h
	}
	histograms := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "weir_collector_" + name, Help: help, Buckets: buckets}, labels)
		reg.MustRegister(h)
		return h
	}
	return &Metrics{
		leader:           gauge("leader", "1 while this process holds the lease and collects."),
		passes:           histogram("pass_duration_seconds", "Duration of planner passes, waiting excluded.", []float64{.01, .05, .1, .5, 1, 5, 10, 30, 60, 120}),
		lastSuccess:      gauges("last_success_timestamp_seconds", "When Cloudflare last sent a complete response for the dataset.", "dataset"),
		completeUntil:    gauges("complete_until_timestamp_seconds", "End of the newest window up to which everything that is due is accounted for in every collected zone or account: final, refused, lost, accepted, or waiting for confirmation.", "dataset"),
		overdue:          gauges("overdue_since_timestamp_seconds", "When the oldest window of the dataset that is not accounted for fell due; absent when there is none.", "dataset"),
		buckets:          counters("buckets_total", "Buckets stored, by the reason for which they were final and the lane that fetched them.", "dataset", "finality", "origin"),
		requests:         counters("upstream_requests_total", "Requests sent to Cloudflare's GraphQL API, and those for states to its REST API, which are of the lane fresh.", "lane"),
		errors:           counters("upstream_errors_total", "Requests to Cloudflare that failed, by class of error.", "class"),
		duration:         histogram("upstream_request_duration_seconds", "Duration of requests to Cloudflare's GraphQL API, and of readings of states.", []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 20, 40}),
		delayed:          gauges("upstream_delayed", "1 while the whole dataset looks delayed at Cloudflare and none of its windows becomes final.", "dataset"),
		suspects:         gauges("suspect_windows", "Windows whose newest reading looks wrong: empty, or far below the scope's level.", "dataset"),
		gaps:             gauges("gap_windows", "Windows that are due, not final, and not waiting for confirmation, by reason.", "dataset", "reason"),
		waiting:          gauges("waiting_windows", "Windows that were read and wait for confirmation that they are so quiet, by reason: suspect (empty, or far too low) or delayed (the whole dataset is). They become final by themselves.", "dataset", "reason"),
		filled:           counters("gaps_filled_windows_total", "Windows that were in the gap ledger and became final.", "dataset"),
		lost:             counters("lost_windows_total", "Windows that left Cloudflare's retention before they became final.", "dataset"),
		missed:           counters("missed_states_total", "Windows whose state was not read in time; Cloudflare does not keep states.", "dataset"),
		accepted:         counters("accepted_windows_total", "Missing windows that an operator accepted: they are not requested any more.", "dataset"),
		repairBy:         gauges("repair_deadline_timestamp_seconds", "When the dataset's oldest gap leaves Cloudflare's retention; absent without a gap. Windows that wait for confirmation are not gaps.", "dataset"),
		scopes:           gauges("scopes", "Zones by state, and by the credential that is used for them.", "state", "credential"),
		accounts:         gauges("accounts", "Accounts by state; absent when no dataset is about accounts.", "state"),
		standings:        newStandings(reg),
		visible:          gauges("visible_zones", "Zones that the token sees, as of the last list; absent before the first."),
		selected:         gauges("selected_zones", "Zones that are collected: visible, selected by the settings and active at Cloudflare; absent before the first list."),
		visibleAccounts:  gauges("visible_accounts", "Accounts that the token sees, in the list of accounts or as those of its zones, as of the last list; absent when no dataset is about accounts."),
		selectedAccounts: gauges("selected_accounts", "Accounts that are collected: visible and selected by the setting; absent when no dataset is about accounts."),
		unmatched:        gauges("selection_unmatched", "Entries of the setting that match nothing that the token sees, or that another setting takes away; absent before the first list.", "setting"),
		unread:           gauges("unread_scopes", "Active zones and accounts of which nothing is collected yet because their settings have not been read since they were found; absent before the first pass."),
		refused:          gauges("refused_scopes", "Active zones or accounts for which the dataset may not be requested.", "dataset"),
		refusedBy:        gauges("refused_variants", "Zones or accounts for which Cloudflare refused a variant of the dataset that the settings allow, and has not accepted it since.", "dataset"),
		zeros:            counters("zero_filled_rows_total", "Rows of 0 that were stored for label values that fell silent.", "dataset"),
		folded:           counters("folded_rows_total", "Rows summed into \"other\", or dropped, by the dataset's limits.", "dataset"),
		truncated:        counters("truncated_answers_total", "Responses that filled their page and were discarded.", "dataset"),
		cut:              counters("labels_cut_total", "Label values of stored rows that were longer than a label may be, or held what no scrape can carry, and were cut or replaced; they end with ~ and a hash.", "dataset"),
		invalid:          counters("invalid_buckets_total", "Buckets that were read whole and not stored, since no reader would accept them; each is a gap with reason invalid and is read again.", "dataset"),
		skew:             gauges("clock_skew_seconds", "The source's clock minus this process's, when it is beyond what measuring explains.", "source"),
		revision:         gauge("head_revision", "Newest revision of the log, as this process knows it."),
		storeSize:        gauge("store_size_bytes", "Size of the store on disk."),
		progress:         gauge("progress_timestamp_seconds", "Stream time: the trusted time up to which the log holds all that this process, leading, has committed. Shows that the leader is alive, not that data is complete."),
		needed:           gauges("budget_needed_requests", "Requests in five minutes that keep the selected zones and datasets complete once nothing is missing, as the planner computes them, by the Cloudflare user that owns the token.", "user"),
		audited:          counters("audited_buckets_total", "Final buckets that were read again at an age, by what was found: same, moved, gone (an empty response, which proves nothing) or unanswered.", "dataset", "age", "result"),
		backfills:        gauges("backfill_jobs", "Unfinished backfills by state: running or paused.", "state"),
		backfillWindows:  gauges("backfill_windows", "Windows of unfinished backfills: present (final before), filled, missing, refused or lost.", "state"),
		backfillsEnded:   counters("backfill_jobs_ended_total", "Backfills that this process ended, by how: done or cancelled.", "state"),
		epochBegan:       gauges("counter_epoch_begin_timestamp_seconds", "Since when the counters of exposers are sums, and why they began at zero: first, none (buckets were stored, and no totals), requested, damaged, history, compacted, ahead (of a clock that was ahead) or rules (another release counted by other ones).", "reason"),
		moved:            histograms("drift_ratio", "How far final buckets that were read again at an age had moved: the part of the family that moved most, 0 for a bucket that is the same.", []float64{0, 1e-5, 1e-4, .001, .005, .01, .05, .1, .5, 1}, "dataset", "age"),
	}
}

// stepDown removes what only a leader knows. Otherwise the last known deadline would be
// exported, and alerted on, while the process is a standby.
func (m *Metrics) stepDown() {
	m.leader.Set(0)
	for _, moment := range []*prometheus.GaugeVec{m.completeUntil, m.overdue, m.delayed, m.suspects, m.gaps, m.waiting, m.repairBy, m.scopes, m.accounts, m.visible, m.selected, m.visibleAccounts, m.selectedAccounts, m.unmatched, m.unread, m.refused, m.refusedBy, m.needed, m.backfills, m.backfillWindows, m.epochBegan} {
		moment.Reset()
	}
	m.standings.publish(nil)
}

// atZero creates the series whose increase alerts and panels watch, so that the first loss, odd
// value, audit or request is an increase.
func (m *Metrics) atZero(datasets []catalogue.Dataset) {
	for _, state := range []jobs.State{jobs.Done, jobs.Cancelled} {
		m.backfillsEnded.WithLabelValues(string(state))
	}
	for lane := plan.Fresh; lane <= plan.Audit; lane++ {
		m.requests.WithLabelValues(lane.String())
	}
	for i := range datasets {
		if datasets[i].State {
			m.missed.WithLabelValues(datasets[i].Dataset)
		} else {
			m.lost.WithLabelValues(datasets[i].Dataset)
		}
		m.filled.WithLabelValues(datasets[i].Dataset)
		m.accepted.WithLabelValues(datasets[i].Dataset)
		m.cut.WithLabelValues(datasets[i].Dataset)
		m.invalid.WithLabelValues(datasets[i].Dataset)
		if datasets[i].State || !slices.ContainsFunc(datasets[i].Variants, func(v catalogue.Variant) bool { return !v.Sampled }) {
			continue // never audited
		}
		for _, age := range audit.Ages {
			m.moved.WithLabelValues(datasets[i].Dataset, age.Name)
			for _, result := range audit.Results {
				m.audited.WithLabelValues(datasets[i].Dataset, age.Name, string(result))
			}
		}
	}
}
