package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
)

// opsRecord scrapes operations listeners once a minute of the world's clock and keeps
// what they say with that clock's time, so that a Prometheus can be given hours that
// lasted a minute. It moves the clock itself.
type opsRecord struct {
	clock *clock.Manual
	// targets are where to scrape, by the labels that Prometheus gives to what it finds.
	targets map[string]string
	wanted  *regexp.Regexp // names of metrics to keep
	lines   bytes.Buffer   // in the OpenMetrics format
	began   time.Time
	minutes int
	series  map[string][]string // a value a minute; "_" where the series was absent
}

var exposed = regexp.MustCompile(`^([a-zA-Z0-9_:]+)(?:\{(.*)\})? ([^ ]+)$`)

// scrape does for each target what Prometheus does, up included.
func (r *opsRecord) scrape(now time.Time) {
	for _, labels := range slices.Sorted(maps.Keys(r.targets)) {
		body, err := page(r.targets[labels])
		up := "1"
		if err != nil {
			up, body = "0", ""
		}
		r.keep("up", labels, up, now)
		for line := range strings.Lines(body) {
			m := exposed.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
			if m == nil || !r.wanted.MatchString(m[1]) {
				continue
			}
			all := labels
			if m[2] != "" {
				all = m[2] + "," + labels
			}
			r.keep(m[1], all, m[3], now)
		}
	}
	r.minutes++
}

func (r *opsRecord) keep(name, labels, value string, now time.Time) {
	key := name + "{" + labels + "}"
	fmt.Fprintf(&r.lines, "%s %s %d\n", key, value, now.Unix())
	if r.series == nil {
		r.series = map[string][]string{}
	}
	values := r.series[key]
	for len(values) < r.minutes {
		values = append(values, "_")
	}
	r.series[key] = append(values, value)
}

// until moves the clock on to a minute of the story and scrapes at each one. However
// busy the machine is, the clock waits: for the scrapes, and, while all should be well,
// until the exposers have followed.
func (r *opsRecord) until(t *testing.T, minute int, well bool) {
	t.Helper()
	for r.minutes <= minute {
		next := r.began.Add(time.Duration(r.minutes) * time.Minute)
		for now := r.clock.Now(); now.Before(next); now = r.clock.Now() {
			r.clock.Set(now.Add(5 * time.Second))
			time.Sleep(10 * time.Millisecond) // the pace of the story, not a wait for something
		}
		if well {
			// What is late after that is recorded as late.
			_ = testkit.Poll(5*time.Second, r.followed)
		}
		r.scrape(next)
	}
}

// followed is nil when each exposer has the leader's time.
func (r *opsRecord) followed() error {
	for labels, url := range r.targets {
		if !strings.Contains(labels, `"exposer`) {
			continue
		}
		if err := followed(url); err != nil {
			return err
		}
	}
	return nil
}

// followed is nil when the exposer with an operations page has the leader's time, which the
// leader says at the end of each pass.
func followed(url string) error {
	body, err := page(url)
	if err != nil {
		return err
	}
	m := regexp.MustCompile(`(?m)^weir_exposer_progress_lag_seconds (.+)$`).FindStringSubmatch(body)
	if m == nil {
		return constError("an exposer has no stream time yet")
	}
	if lag, err := strconv.ParseFloat(m[1], 64); err != nil || lag > 60 {
		return fmt.Errorf("an exposer is %s s behind: %w", m[1], err)
	}
	return nil
}

// load gives a Prometheus what was recorded.
func (r *opsRecord) load(t *testing.T, p *promtest.Server) {
	t.Helper()
	load(t, p, append(r.lines.Bytes(), "# EOF\n"...))
}

// load gives a Prometheus samples in the OpenMetrics format, each text apart.
func load(t *testing.T, p *promtest.Server, texts ...[]byte) {
	t.Helper()
	p.Stop()
	for _, text := range texts {
		file := filepath.Join(t.TempDir(), "recorded.txt")
		testkit.WriteFile(t, file, text)
		if out, _, err := promtest.Promtool(t, "tsdb", "create-blocks-from", "openmetrics", file, p.DataDir()); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	p.Start()
}

// fired are the alerts of the shipped rules that fired in the first minutes of the
// record, of which a Prometheus with these rules saw every one.
func (r *opsRecord) fired(t *testing.T, minutes int, want ...string) {
	t.Helper()
	root, err := testkit.Root()
	if err != nil {
		t.Fatal(err)
	}
	rules := filepath.Join(root, "deploy/alerts/weir.rules.yaml")
	shipped, err := os.ReadFile(rules)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "rule_files: [%q]\nevaluation_interval: 1m\ntests:\n  - interval: 1m\n    start_timestamp: %d\n    input_series:\n", rules, r.began.Unix())
	for _, key := range slices.Sorted(maps.Keys(r.series)) {
		if name, _, _ := strings.Cut(key, "{"); bytes.Contains(shipped, []byte(name)) {
			values := r.series[key]
			fmt.Fprintf(&b, "      - series: '%s'\n        values: '%s'\n", key, strings.Join(values[:min(minutes, len(values))], " "))
		}
	}
	fmt.Fprintf(&b, "    promql_expr_test:\n      - expr: group by (alertname) (count_over_time(ALERTS{alertstate=\"firing\"}[%dm]))\n        eval_time: %dm\n        exp_samples:\n", minutes+1, minutes-1)
	for _, name := range want {
		fmt.Fprintf(&b, "          - {labels: '{alertname=%q}', value: 1}\n", name)
	}
	file := filepath.Join(t.TempDir(), "first.yaml")
	testkit.WriteFile(t, file, []byte(b.String()))
	if out, _, err := promtest.Promtool(t, "test", "rules", file); err != nil {
		t.Errorf("alerts in the first %d minutes: %v\n%s", minutes, err, out)
	}
}
