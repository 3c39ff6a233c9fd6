package carousel_test

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/carousel"
	"github.com/weir-metrics/weir/internal/promtest"
)

var costHours = flag.Float64("cost.hours", 0, "measure what replays cost Prometheus over so many hours, each of which takes a minute; 0 measures nothing")

// pace is how much faster than the clock the hours of a measurement pass.
const pace = 60

// shows are the windows of a dataset that a scrape has at a time, by the number from the
// epoch on, the newest of which is given.
type shows func(newest int64, now time.Time) []int64

func last(n int64) shows {
	return func(newest int64, _ time.Time) (out []int64) {
		for w := newest - n + 1; w <= newest; w++ {
			out = append(out, w)
		}
		return out
	}
}

// scheduled shows what the carousel does, with a round so often.
func scheduled(size, age, every time.Duration) shows {
	s := carousel.New(size, age, carousel.Most)
	return func(newest int64, now time.Time) (out []int64) {
		turn := carousel.TurnOf(now)
		oldest := int64(now.Add(-age).Sub(time.Unix(0, 0)) / size)
		for w := oldest + 1; w <= newest; w++ {
			start := time.Unix(0, 0).Add(time.Duration(w) * size)
			fresh := w > newest-int64(s.Newest) && (size < carousel.Long || now.Sub(start.Add(size)) < carousel.Young)
			if fresh || s.Shows(turn, every, time.Time{}) && s.InTurn(turn) == s.PageOf(bucket.TimeOf(start)) {
				out = append(out, w)
			}
		}
		return out
	}
}

// spread shows the newest n and a page, which follow one another at equal distances, so
// that each comes once in a round of so long.
func spread(size, age, round time.Duration) shows {
	s := carousel.New(size, age, carousel.Most)
	each := max(1, int64(round/carousel.Turn)/int64(s.Pages))
	return func(newest int64, now time.Time) (out []int64) {
		turn := carousel.TurnOf(now)
		for w := int64(now.Add(-age).Sub(time.Unix(0, 0))/size) + 1; w <= newest; w++ {
			start := time.Unix(0, 0).Add(time.Duration(w) * size)
			if w > newest-int64(s.Newest) || turn%each == 0 && (turn/each-s.PageOf(bucket.TimeOf(start)))%int64(s.Pages) == 0 {
				out = append(out, w)
			}
		}
		return out
	}
}

// only shows what another way does and the newest one.
func only(n int64, of shows) shows {
	return func(newest int64, now time.Time) []int64 {
		return slices.DeleteFunc(of(newest, now), func(w int64) bool { return w > newest-6 && w <= newest-n })
	}
}

// late shows the newest two in one turn in two hours, as if a bucket of each series became
// final after its successor, and what another way does in all others.
func late(of shows) shows {
	return func(newest int64, now time.Time) []int64 {
		if carousel.TurnOf(now)%int64(2*time.Hour/carousel.Turn) == 18 {
			return last(2)(newest, now)
		}
		return of(newest, now)
	}
}

// TestReplayCost measures what repeated samples cost a Prometheus with other series in
// it: bytes written and compactions, in half a day or more that passes sixty times as
// fast. Each way to repeat has a server of its own; all run beside one another. It
// measures and holds nothing; docs/prometheus.md has the figures.
func TestReplayCost(t *testing.T) {
	if *costHours == 0 {
		t.Skip("takes a minute for each hour: run make replay-cost")
	}
	const five, hour, day = 5 * time.Minute, time.Hour, 24 * time.Hour
	sides := []struct {
		name string
		five shows // of 100 series
		hour shows // of 100 other series
	}{
		{"no replay", nil, nil},
		{"the newest 30 of 5m, the newest 24 of 1h", last(30), last(24)},
		{"the newest 6, the newest 2", last(6), last(2)},
		{"the newest 6, 1h while young", scheduled(five, day, 1000*day), scheduled(hour, day, 1000*day)},
		{"the newest 1, 1h while young", last(1), scheduled(hour, day, 1000*day)},
		{"the default: and a round in one piece every 12h", scheduled(five, day, 12*hour), scheduled(hour, day, 12*hour)},
		{"a round in one piece every 24h", scheduled(five, day, 24*hour), scheduled(hour, day, 24*hour)},
		{"pages at equal distances, a round in 12h", spread(five, day, 12*hour), spread(hour, day, 12*hour)},
		{"the newest 1, and a round every 12h", only(1, scheduled(five, day, 12*hour)), scheduled(hour, day, 12*hour)},
		{"the same, and one window late in 2h", late(only(1, scheduled(five, day, 12*hour))), scheduled(hour, day, 12*hour)},
		{"rounds one after another", scheduled(five, day, 0), scheduled(hour, day, 0)},
	}
	type result struct {
		written, compactions, vertical, cpu float64
	}
	results := make([]result, len(sides))
	// Virtual time is that since a moment which is a multiple of twelve virtual hours
	// and of Prometheus's longest blocks.
	began := time.Now().Truncate(2 * time.Hour)
	virtual := func(real time.Time) time.Time { return time.Unix(0, 0).Add(real.Sub(began) * pace) }
	real := func(virtual time.Time) time.Time { return began.Add(virtual.Sub(time.Unix(0, 0)) / pace) }
	t.Run("sides", func(t *testing.T) {
		for i, side := range sides {
			t.Run(side.name, func(t *testing.T) {
				t.Parallel()
				target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					now := virtual(time.Now())
					var b strings.Builder
					for n := range 3000 {
						fmt.Fprintf(&b, "ordinary{n=\"%d\"} %d\n", n, (now.Unix()*int64(n+7))%1009)
					}
					for _, d := range []struct {
						name  string
						size  time.Duration
						shows shows
					}{{"five", five, side.five}, {"hour", hour, side.hour}} {
						if d.shows == nil {
							continue
						}
						newest := int64(now.Add(-6*time.Minute).Sub(time.Unix(0, 0))/d.size) - 1
						windows := d.shows(newest, now)
						for n := range 100 {
							for _, w := range windows {
								end := time.Unix(0, 0).Add(time.Duration(w+1)*d.size - time.Millisecond)
								fmt.Fprintf(&b, "replayed_%s{n=\"%d\"} %d %d\n", d.name, n, (w*int64(n+7))%100_003, real(end).UnixMilli())
							}
						}
					}
					_, _ = w.Write([]byte(b.String()))
				}))
				defer target.Close()
				p := promtest.Start(t, fmt.Sprintf(`
global: {scrape_interval: 1s}
storage: {tsdb: {out_of_order_time_window: 30m}}
scrape_configs: [{job_name: cost, static_configs: [{targets: [%q]}]}]
`, strings.TrimPrefix(target.URL, "http://")),
					"--storage.tsdb.min-block-duration=2m", "--storage.tsdb.max-block-duration=36m", "--storage.tsdb.retention.time=10h")
				time.Sleep(time.Duration(*costHours * float64(time.Minute)))
				results[i] = result{
					written(t, p), p.Own("prometheus_tsdb_compactions_total"), p.Own("prometheus_tsdb_vertical_compactions_total"), p.Own("process_cpu_seconds_total"),
				}
			})
		}
	})
	var once sync.Once
	for i, side := range sides {
		once.Do(func() {
			t.Logf("%g hours, 3,000 ordinary series and 2 × 100 replayed ones, Prometheus %s:", *costHours, "3.15")
		})
		r := results[i]
		t.Logf("%-44s %4.0f MB written (×%.2f), %3.0f compactions, %2.0f vertical, %4.1f s of CPU", side.name, r.written/1e6, r.written/results[0].written, r.compactions, r.vertical, r.cpu)
	}
}

// written is what a Prometheus has written to disk, in bytes.
func written(t *testing.T, p *promtest.Server) float64 {
	t.Helper()
	pid, err := os.ReadFile(filepath.Join(filepath.Dir(p.DataDir()), "pid"))
	if err != nil {
		t.Fatal(err)
	}
	io, err := os.ReadFile(filepath.Join("/proc", strings.TrimSpace(string(pid)), "io"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(io)) {
		if n, ok := strings.CutPrefix(strings.TrimSpace(line), "write_bytes: "); ok {
			bytes, err := strconv.ParseFloat(n, 64)
			if err != nil {
				t.Fatal(err)
			}
			return bytes
		}
	}
	t.Fatal("the kernel does not say what is written")
	return 0
}
