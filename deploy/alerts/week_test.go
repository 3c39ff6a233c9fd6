package alerts

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
)

// Minutes of the first day and the first week.
const (
	day  = 24 * 60
	week = 7 * day
)

// firstWeek is an installation from before its first process runs: Prometheus knows no
// target for two minutes and cannot scrape any for one. The collectors wait for their
// database, and the exposers for a leader. The first catch-up reads a day, of which the
// oldest windows are overdue, and those of a Pro zone about to be dropped. A zone
// without traffic waits for a day. From the second hour on audits find the buckets as
// they were. After a third of the time all are restarted, and the standby leads.
func first(minutes int) map[string]string {
	s := map[string]string{}
	then := func(first, rest string) string { return fmt.Sprintf("%s %sx%d", first, rest, minutes) }
	third := minutes / 3
	// The job of the data is scraped from the beginning, and the exposer is not there.
	s[`up{`+data+`}`] = then("0x1 1", "1")
	s[`up{`+server+`}`] = then("1", "1")
	for _, counter := range []string{outOfOrder, outOfBounds, duplicate, tooOld} {
		s[counter] = then("0", "0")
	}
	for _, target := range []string{collector, standby, exposer, other} {
		s[`up{`+target+`}`] = fmt.Sprintf("_x1 0 1x%d 0x1 1x%d", third, minutes)
	}
	for _, target := range []string{collector, standby} {
		s[`weir_collector_store_up{`+target+`}`] = then("_x2 0x1 1", "1")
		s[`weir_secret_usable{secret="CF_API_TOKEN_FILE",`+target+`}`] = then("_x2 1", "1")
		for _, code := range codes {
			s[problem(code, target)] = then("_x4", "0")
		}
	}
	s[`weir_collector_leader{`+collector+`}`] = fmt.Sprintf("_x2 0x2 1x%d _x1 0x%d", third, minutes)
	s[`weir_collector_leader{`+standby+`}`] = fmt.Sprintf("_x2 0x2 0x%d 1x%d", third, minutes)
	s[`weir_collector_overdue_since_timestamp_seconds{dataset="http_5m",`+collector+`}`] = fmt.Sprintf("_x5 -86000x9 %d+60x%d", 15*60-120, minutes)
	s[`weir_collector_repair_deadline_timestamp_seconds{dataset="http_5m",`+collector+`}`] = "_x5 900x3 stale"
	s[`weir_collector_lost_windows_total{dataset="http_5m",`+collector+`}`] = then("_x4", "0")
	s[`weir_collector_refused_variants{dataset="http_5m",`+collector+`}`] = then("_x5", "0")
	s[`weir_collector_budget_shared{user="default",`+collector+`}`] = then("_x4", "0")
	s[`weir_collector_clock_skew_seconds{source="cloudflare",`+collector+`}`] = then("_x5", "0.4")
	for _, result := range []string{"same", "moved"} {
		found := map[string]string{"same": "0+0.1", "moved": "0+0.0001"}[result]
		s[`weir_collector_audited_buckets_total{dataset="http_5m",age="1h",result="`+result+`",`+collector+`}`] = fmt.Sprintf("_x4 0x60 %sx%d", found, minutes)
	}
	s[`weir_push_lag_seconds{`+pusher+`}`] = fmt.Sprintf("_x2 0+60x4 30x%d 90x2 30x%d", third, minutes)
	s[`weir_push_samples_refused_total{reason="too_old",`+pusher+`}`] = then("_x2", "0")
	for _, target := range []string{exposer, other} {
		s[`weir_exposer_ready{`+target+`}`] = then("_x2 0x4 1", "1")
		s[`weir_exposer_progress_lag_seconds{`+target+`}`] = fmt.Sprintf("_x2 0x4 30x%d 90x2 30x%d", third, minutes)
		s[`weir_exposer_replay_refused{`+target+`}`] = then("_x2", "0")
		s[`weir_exposer_counters_available{`+target+`}`] = then("_x2 0x3 1", "1")
		s[`weir_exposer_counters_clock_ahead_seconds{`+target+`}`] = then("_x5 0.8", "0.8")
		s[`weir_exposer_replay_short{dataset="http_5m",`+target+`}`] = then("_x8", "0")
		s[`weir_exposer_replay_pages_missing{`+target+`}`] = fmt.Sprintf("_x8 3x4 0x700 1 0x%d", minutes)
		s[`weir_exposer_entries_rejected_total{`+target+`}`] = then("_x2", "0")
		s[`weir_exposer_counters_entries_rejected_total{`+target+`}`] = then("_x2", "0")
		s[`weir_exposer_scrapes_total{code="200",`+target+`}`] = fmt.Sprintf("_x2 0x4 0+1x%d", minutes)
		// Until its first view it answers with 503.
		s[`weir_exposer_scrapes_total{code="503",`+target+`}`] = fmt.Sprintf("_x2 1+1x3 4x%d", minutes)
		s[`weir_exposer_scrapes_cut_total{`+target+`}`] = then("_x2", "0")
		s[`weir_secret_expires_timestamp_seconds{secret="WEIR_TLS_CERT_FILE",`+target+`}`] = then("_x2 7776000", "7776000")
		s[`weir_simulated{`+target+`}`] = then("_x2", "0")
	}
	return s
}

// TestGeneratedFirstWeek writes the first day and the first week as promtool reads
// them.
func TestGeneratedFirstWeek(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Generated from week_test.go; `make generate` writes it.\n" +
		"# promtool test rules weir.week.test.yaml\nrule_files: [weir.rules.yaml]\nevaluation_interval: 1m\ntests:\n")
	for _, story := range []struct {
		name    string
		minutes int
	}{{"day", day}, {"week", week}} {
		fmt.Fprintf(&b, "  - name: a quiet first %s, from before the first process runs\n    interval: 1m\n    input_series:\n", story.name)
		series := first(story.minutes)
		for _, name := range slices.Sorted(maps.Keys(series)) {
			fmt.Fprintf(&b, "      - {series: '%s', values: '%s'}\n", name, series[name])
		}
		fmt.Fprintf(&b, "    promql_expr_test:\n      - expr: count by (alertname) (count_over_time(ALERTS{alertstate=\"firing\"}[%dm]))\n        eval_time: %dm\n        exp_samples: []\n", story.minutes+1, story.minutes)
	}
	testkit.Golden(t, "weir.week.test.yaml", []byte(b.String()))
}

// No alert fires in a quiet first week, at any minute; make test tells the first day.
func TestQuietFirstWeek(t *testing.T) {
	groups := "first day"
	if testkit.All() {
		groups = "first"
	}
	if out, _, err := promtest.Promtool(t, "test", "rules", "--run="+groups, "weir.week.test.yaml"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// The first week knows every series that a rule looks at, as the quiet hour does.
func TestFirstWeekIsComplete(t *testing.T) {
	told := first(week)
	for name := range healthy() {
		if _, there := told[name]; !there && !strings.Contains(name, "weir_collector_waiting_windows") && !strings.Contains(name, "weir_collector_scope_state") {
			t.Errorf("the first week has no %s", name)
		}
	}
}
