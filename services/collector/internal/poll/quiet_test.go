package poll_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/traffic"
	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

// scraped is a clock that, before it leaps, lets every minute that it leaps over be
// scraped: nothing changes between two passes.
type scraped struct {
	*leaping
	scrape func(minute time.Time)
	next   time.Time
}

func (s *scraped) WaitUntil(ctx context.Context, t time.Time) error {
	for ; s.next.Before(t) && s.next.Before(s.end); s.next = s.next.Add(time.Minute) {
		s.scrape(s.next)
	}
	return s.leaping.WaitUntil(ctx, t)
}

// history is what Prometheus would have scraped: one value a minute of each series.
type history struct {
	minutes int
	series  map[string][]string // name and labels; "_" where it was absent
}

func (h *history) scrape(t *testing.T, reg prometheus.Gatherer) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			switch {
			case m.GetGauge() != nil:
				h.add(f.GetName(), labels, m.GetGauge().GetValue())
			case m.GetCounter() != nil:
				h.add(f.GetName(), labels, m.GetCounter().GetValue())
			default: // no rule looks at a histogram
			}
		}
	}
	h.minutes++
}

func (h *history) add(name string, labels []string, value float64) {
	labels = append(labels, `instance="c:9821"`, `job="weir-operations"`)
	key := name + "{" + strings.Join(labels, ",") + "}"
	values := h.series[key]
	for len(values) < h.minutes {
		values = append(values, "_")
	}
	h.series[key] = append(values, strconv.FormatFloat(value, 'f', -1, 64))
}

// rules are those that are shipped.
const rules = "../../../../deploy/alerts/weir.rules.yaml"

// fired evaluates the shipped rules over the history and fails for each alert that
// fired at any minute and is not expected, and the other way round. The time of
// the rules is that of the story: timestamps are told from its beginning.
func (h *history) fired(t *testing.T, began time.Time, want ...string) {
	t.Helper()
	where, err := filepath.Abs(rules)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "rule_files: [%q]\nevaluation_interval: 1m\ntests:\n  - interval: 1m\n    start_timestamp: %d\n    input_series:\n", where, began.Unix())
	shipped, err := os.ReadFile(where)
	if err != nil {
		t.Fatal(err)
	}
	for key, values := range h.series {
		if name, _, _ := strings.Cut(key, "{"); !strings.Contains(string(shipped), name) {
			continue // no rule looks at it
		}
		fmt.Fprintf(&b, "      - series: '%s'\n        values: '%s'\n", key, strings.Join(values, " "))
	}
	fmt.Fprintf(&b, "    promql_expr_test:\n      - expr: count by (alertname) (count_over_time(ALERTS{alertstate=\"firing\"}[%dm]))\n        eval_time: %dm\n        exp_samples:\n", h.minutes+1, h.minutes)
	for _, name := range want {
		fmt.Fprintf(&b, "          - {labels: '{alertname=%q}', value: 1}\n", name)
	}
	file := filepath.Join(t.TempDir(), "week.yaml")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, _, err := promtest.Promtool(t, "test", "rules", file); err != nil {
		t.Errorf("alerts over %d minutes: %v\n%s", h.minutes, err, out)
	}
}

// quiet is a world with a busy zone, a quiet Pro zone, of which Cloudflare keeps a
// day, one with a request now and then, and a new one without traffic. All that the
// rules look at and the loop does not tell is healthy.
func quiet(t *testing.T, change func(*cfsim.Config)) (*world, *history) {
	t.Helper()
	h := &history{series: map[string][]string{}}
	w := newWorld(t, func(c *cfsim.Config) {
		zones("shop.example", "parked.example", "quiet.example")(c)
		c.Zones = append(c.Zones, cfsim.Zone{
			ID: cfsim.Tag("zone:new.example"), Name: "new.example", Account: c.Zones[0].Account, Plan: cfsim.Free,
			Created: began.Add(-time.Hour), Traffic: traffic.Profile{},
		})
		c.LogSize = 1
		if change != nil {
			change(c)
		}
	})
	w.config.Lookback = 12 * time.Hour // so that no silence can be believed at once
	w.config.Trouble = trouble.New(w.config.Logger, w.clock.Now, w.registry)
	for name, value := range map[string]float64{
		"up": 1, "weir_collector_store_up": 1, "weir_exposer_ready": 1, "weir_exposer_progress_lag_seconds": 60,
		"weir_exposer_replay_refused": 0, "weir_secret_usable": 1,
	} {
		w.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: "Healthy."}, func() float64 { return value }))
	}
	clock := &scraped{leaping: w.clock, scrape: func(time.Time) { h.scrape(t, w.registry) }, next: began}
	w.config.Clock = clock
	limiter, err := quota.New(quota.Config{User: "u", Reserver: w.store, Clock: w.clock, Holder: "test", Logger: w.config.Logger})
	if err != nil {
		t.Fatal(err)
	}
	w.config.Credentials[0].Budget = limiter
	return w, h
}

// A quiet week is quiet (of which make test tells two days): no alert fires, from the first minute on, though a Pro
// zone's silence is not believed before two hours are left, a new zone's not for a
// day, and a zone with a request now and then is in doubt all the time.
func TestAQuietWeekFiresNoAlert(t *testing.T) {
	t.Parallel()
	long := 54 * time.Hour // until the silence of all of them has been believed, and a day more
	if testkit.All() {
		long = 7 * day
	}
	w, h := quiet(t, nil)
	w.only("http_5m", "uniques_1h", "uniques_1d")
	w.run(long)
	waited := 0
	for key := range h.series {
		if strings.HasPrefix(key, "weir_collector_waiting_windows{") {
			waited++
		}
	}
	if waited == 0 {
		t.Error("nothing waited to be believed: the story has lost its subject")
	}
	h.fired(t, began)
}

// last is what a series was at the last minute; it has all these words in its name
// and labels.
func (h *history) last(words ...string) (value float64, there bool) {
	for key, values := range h.series {
		if slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(key, word) }) || len(values) < h.minutes {
			continue
		}
		if v, err := strconv.ParseFloat(values[len(values)-1], 64); err == nil {
			return v, true
		}
	}
	return 0, false
}

// A quiet Pro zone waits by design until two hours before Cloudflare drops the
// windows: nothing is missing, no deadline is told, and the dataset is complete. A
// new leader says the same, though Cloudflare does not answer it.
func TestSilenceThatIsWaitedForIsNoGap(t *testing.T) {
	w, h := quiet(t, func(c *cfsim.Config) {
		c.Faults = []cfsim.Fault{{Kind: cfsim.FaultHTML, Status: 503, Path: "/graphql", From: began.Add(5 * time.Hour), To: began.Add(5*time.Hour + 20*time.Minute)}}
	})
	w.only("http_5m")
	check := func(when string) {
		t.Helper()
		if n, _ := h.last("weir_collector_waiting_windows{", "suspect"); n < 100 {
			t.Errorf("%s: %v windows wait to be believed; half a day of a quiet zone should", when, n)
		}
		for _, reason := range []string{"suspect", "delayed", "pending"} {
			if n, there := h.last("weir_collector_gap_windows{", `reason="`+reason+`"`); there {
				t.Errorf("%s: %v windows are missing as %s", when, n, reason)
			}
		}
		if v, there := h.last("weir_collector_complete_until_timestamp_seconds{"); !there || w.clock.Now().Unix()-int64(v) > 1900 {
			t.Errorf("%s: complete until %v (%v), now is %d", when, v, there, w.clock.Now().Unix())
		}
	}
	w.run(5 * time.Hour)
	check("after five hours")
	if at, there := h.last("weir_collector_repair_deadline"); there {
		t.Errorf("a deadline is told: %v", at)
	}
	if _, there := h.last("weir_collector_scope_state{", "parked.example", `state="waiting"`, `reason="suspect"`); !there {
		t.Error("the state of the quiet zone is not waiting")
	}
	if _, there := h.last("weir_collector_scope_state{", "shop.example", `state="collecting"`); !there {
		t.Error("the state of the busy zone is not collecting")
	}
	w.run(10 * time.Minute) // another leader
	check("when nothing answers a new leader")
	w.run(3 * time.Hour)
	check("after eight hours")
	if gaps := w.missing(cfsim.Tag("zone:parked.example"), began.Add(-3*time.Hour)); gaps == 0 {
		t.Error("no window is missing from the store: the story has lost its subject")
	}
	h.fired(t, began, "WeirUpstreamFailing")
	w.run(4 * time.Hour)
	if v, _ := h.last("weir_collector_scope_newest_final_timestamp_seconds{", "parked.example"); w.clock.Now().Unix()-int64(v) > 1900 {
		t.Errorf("after its silence was believed the quiet zone is final until %v, now is %d", v, w.clock.Now().Unix())
	}
	w.checkTruth()
}

// What waits becomes a gap when it cannot be read, early enough for somebody to act,
// and is told as such.
func TestWhatCannotBeReadDoesNotWait(t *testing.T) {
	w, h := quiet(t, func(c *cfsim.Config) {
		c.Faults = []cfsim.Fault{{Kind: cfsim.FaultHTML, Status: 503, Path: "/graphql", From: began.Add(3 * time.Hour)}}
	})
	w.only("http_5m")
	w.run(8*time.Hour + 20*time.Minute)
	if n, there := h.last("weir_collector_waiting_windows{"); there {
		t.Errorf("%v windows wait, though nothing was read for an hour", n)
	}
	if n, _ := h.last("weir_collector_gap_windows{", "upstream_error"); n < 200 { // of three zones
		t.Errorf("%v windows are missing for errors of Cloudflare; half a day of quiet zones should", n)
	}
	if _, there := h.last("weir_collector_scope_state{", "parked.example", `state="behind"`, `reason="upstream_error"`); !there {
		t.Error("the state of the quiet zone is not behind")
	}
	h.fired(t, began, "WeirDataLate", "WeirGapNearLoss", "WeirUpstreamFailing")
}
