package exposer_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
)

// awkward is a label value that any mistake in escaping breaks.
const awkward = "a\"b\\c\nd ü€"

// recent fills a store with 28 windows of five minutes and 23 of an hour
// before now, and returns every sample by family, zone and label.
func recent(s *feedtest.Scripted, now time.Time) (want map[string][]promtest.Sample, head bucket.Position) {
	want = map[string][]promtest.Sample{}
	hourly := feedtest.Definition("uniques_1h", 1)
	hourly.Size = time.Hour
	s.Append(now, feedtest.Entry{Definition: feedtest.Definition("http_5m", 1)}, feedtest.Entry{Definition: hourly})
	for dataset, windows := range map[string]struct {
		size time.Duration
		n    int
	}{"http_5m": {5 * time.Minute, 28}, "uniques_1h": {time.Hour, 23}} {
		first := bucket.TimeOf(now).Floor(windows.size).Add(-time.Duration(windows.n) * windows.size)
		for i := range windows.n {
			for z := range 2 {
				b := feedtest.Bucket(dataset, feedtest.Zone(z), i)
				b.Start, b.Size = first.Add(time.Duration(i)*windows.size), windows.size
				b.ReadAt = b.Window().End.Add(5 * time.Minute)
				b.Families[1].Labels[1] = awkward
				head = s.Append(now, feedtest.Entry{Bucket: b})
				at := b.Window().End.Std().Add(-time.Millisecond)
				for _, rows := range b.Families {
					for j, v := range rows.Values {
						key := rows.Family + " " + b.Zone
						if len(rows.Labels) > 0 {
							key += " " + rows.Labels[j]
						}
						want[key] = append(want[key], promtest.Sample{Time: at, Value: v})
					}
				}
			}
		}
	}
	s.SetProgress(now)
	return want, head
}

func stored(p *promtest.Server, job string, now time.Time) map[string][]promtest.Sample {
	got := map[string][]promtest.Sample{}
	for _, series := range p.Samples(fmt.Sprintf(`{__name__=~"cloudflare_.*",job=%q}`, job), now.Add(-30*time.Hour), now.Add(time.Hour)) {
		key := series.Labels["__name__"] + " " + series.Labels["zone"]
		if status := series.Labels["status"]; status != "" {
			key += " " + status
		}
		for _, sample := range series.Samples {
			got[key] = append(got[key], promtest.Sample{Time: sample.Time.UTC(), Value: sample.Value})
		}
	}
	return got
}

// A real Prometheus stores every replayed sample exactly, in both formats and
// with both encodings, and stores nothing again when it scrapes again.
func TestRealPrometheus(t *testing.T) {
	now := time.Now()
	s := scripted()
	want, head := recent(s, now)
	x := start(t, s.Serve(t), config(), now)
	x.await(int(head.Revision))

	target := strings.TrimPrefix(x.data, "http://")
	p := promtest.Start(t, fmt.Sprintf(`
global: {scrape_interval: 1s}
storage: {tsdb: {out_of_order_time_window: 30h}}
scrape_configs:
- {job_name: text, scrape_protocols: [PrometheusText0.0.4], enable_compression: false, static_configs: [{targets: [%[1]q]}]}
- {job_name: openmetrics, scrape_protocols: [OpenMetricsText1.0.0], static_configs: [{targets: [%[1]q]}]}
- {job_name: own, static_configs: [{targets: [%[2]q]}]} # keeps the head of the database at now
`, target, strings.TrimPrefix(x.ops, "http://")))
	for _, job := range []string{"text", "openmetrics"} {
		testkit.Eventually(t, 30*time.Second, func() error {
			if diff := cmp.Diff(want, stored(p, job, now)); diff != "" {
				return fmt.Errorf("%s (-want +got):\n%s\ntargets: %+v", job, diff, p.Targets())
			}
			return nil
		})
	}
	// Repeats must cost nothing: one scrape more of each, then three.
	scrapes := func() float64 { return p.Own("prometheus_target_interval_length_seconds_count") }
	settle := func(n float64) {
		t.Helper()
		from := scrapes()
		testkit.Eventually(t, 30*time.Second, func() error {
			if got := scrapes() - from; got < 3*n {
				return fmt.Errorf("%g scrapes", got)
			}
			return nil
		})
	}
	settle(1)
	const appended = "prometheus_tsdb_head_out_of_order_samples_appended_total"
	before := p.Own(appended)
	settle(3)
	if after := p.Own(appended); after != before || before == 0 {
		t.Errorf("%g samples out of order stored before the repeats, %g after", before, after)
	}
	for _, name := range []string{"sample_duplicate_timestamp_total", "sample_out_of_order_total", "sample_out_of_bounds_total", "exceeded_sample_limit_total"} {
		if got := p.Own("prometheus_target_scrapes_" + name); got != 0 {
			t.Errorf("%s is %g", name, got)
		}
	}
	for _, target := range p.Targets() {
		if target.Health != "up" {
			t.Errorf("%s is %s: %s", target.ScrapePool, target.Health, target.LastError)
		}
	}
}

// What /backfill writes is what promtool loads, by the commands of
// docs/prometheus.md and with the older promtool too. The labels of the scrape job
// are in the file.
func TestPromtoolReadsBackfill(t *testing.T) {
	now := time.Now()
	s := scripted()
	_, head := recent(s, now)
	x := start(t, s.Serve(t), config(), now)
	x.await(int(head.Revision))
	page := testkit.RepoFile(t, "docs/prometheus.md")
	commands := regexp.MustCompile(`/backfill\?start=[^&']*&end=[^&']*(&[^']*)'(?s:.*?)\npromtool (.*) history\.om \./blocks\n`).FindStringSubmatch(string(page))
	if commands == nil {
		t.Fatal("docs/prometheus.md does not say how to load a backfill")
	}
	const labels = `{__name__="cloudflare_zone_http_5m_requests", account="Example", instance="weir", job="weir", `
	for query, want := range map[string]int{
		"hours=24" + commands[1]:                                  2 * 3 * (28 + 23),
		"hours=2&dataset=http_5m&step_seconds=60&extend_to_now=1": -1, // of the minute in which this runs
		"hours=24&dataset=http_5m&step_seconds=3600":              -1, // notes at both ends, since some hour is not whole
	} {
		got := x.get("/backfill?" + query)
		if got.code != 200 {
			t.Fatalf("%s: %d %s", query, got.code, got.body)
		}
		lines := strings.Count(got.body, "\n") - strings.Count(got.body, "# ")
		if want > 0 && lines != want {
			t.Errorf("%s: %d samples, want %d", query, lines, want)
		}
		for name, find := range map[string]func(testing.TB) promtest.Tools{"pinned": promtest.Find, "Debian's": promtest.Debian} {
			t.Run(name, func(t *testing.T) {
				dir := t.TempDir()
				file, blocks := filepath.Join(dir, "history.om"), filepath.Join(dir, "blocks")
				testkit.WriteFile(t, file, []byte(got.body))
				if _, stderr, err := find(t).Run(append(strings.Fields(commands[2]), file, blocks)...); err != nil {
					t.Fatalf("%s: %v\n%s", query, err, stderr)
				}
				if err := os.Mkdir(filepath.Join(blocks, "wal"), 0o755); err != nil { // dump expects a whole database
					t.Fatal(err)
				}
				out, _, err := promtest.Promtool(t, "tsdb", "dump", "--sandbox-dir-root="+dir, blocks)
				if err != nil {
					t.Fatalf("%s: %v", query, err)
				}
				if dumped := strings.Count(out, "\n"); dumped != lines {
					t.Errorf("%s: %d samples in the file, %d in the blocks", query, lines, dumped)
				}
				if want > 0 && !strings.Contains(out, labels) {
					t.Errorf("%s: no series begins with %s", query, labels)
				}
			})
		}
	}
}
