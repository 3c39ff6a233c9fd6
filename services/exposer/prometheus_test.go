package exposer_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

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

func stored(p *promtest.Server, job string, begin, end time.Time) map[string][]promtest.Sample {
	got := map[string][]promtest.Sample{}
	for _, series := range p.Samples(fmt.Sprintf(`{__name__=~"cloudflare_.*",job=%q}`, job), begin, end) {
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

// In the course of a round a real Prometheus stores every sample of the replay exactly,
// whatever was away or late, in both formats and with both encodings, and stores nothing
// again while a page stays. Two exposers take turns, the second of which begins in the
// middle of a round.
func TestRealPrometheus(t *testing.T) {
	const five, hour = 5 * time.Minute, time.Hour
	for _, tc := range []struct {
		name string
		// The story begins so long after noon or midnight, which is when rounds begin, and
		// takes no longer than length.
		after, length time.Duration
		sizes         []time.Duration
		play          func(*story)
		// turns follow in which all that is lacking is shown.
		turns int
	}{
		{
			"windows of a minute, and a collector is away", 7 * hour, 10 * hour,
			[]time.Duration{time.Minute},
			func(s *story) {
				s.round(2)
				s.collectorAway(3 * hour)
			}, pages(time.Minute) + 6,
		},
		{
			"a Prometheus is away for twelve hours", 35 * time.Minute, 25 * hour,
			[]time.Duration{five, hour},
			func(s *story) {
				s.pass(30 * time.Minute)
				for _, p := range s.scrapers {
					p.Stop()
					p.away = true
				}
				s.pass(12 * hour)
				for _, p := range s.scrapers {
					p.Start()
					p.away = false
				}
				s.pass(10*hour + 50*time.Minute) // until shortly before the next round
			}, pages(five),
		},
		{
			"zeros are believed late", 75 * time.Minute, 12 * hour,
			[]time.Duration{five, hour},
			func(s *story) {
				s.hush(30*time.Minute, 8*hour)
				s.pass(10*hour + 40*time.Minute) // until shortly before the next round
			}, pages(five),
		},
		{
			"a collector is away for six hours", 75 * time.Minute, 10 * hour,
			[]time.Duration{five, hour},
			func(s *story) {
				s.pass(hour)
				s.collectorAway(6 * hour)
			}, pages(five) + 2,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newStory(t, tc.after, tc.length, tc.sizes...)
			s.scrape()
			s.join()
			tc.play(s)
			for job, n := range s.lack() {
				if n == 0 {
					t.Errorf("%s lacks nothing before the round", job)
				}
			}
			s.round(tc.turns / 3)
			s.join()
			s.round(tc.turns - tc.turns/3)
			s.scraped(2) // so that the last turn is stored
			s.compare()
		})
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
