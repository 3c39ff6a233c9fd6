package e2e

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"math"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
)

var trafficPictures = flag.String("dashboard.pictures", "", "draw the dashboards of TestTrafficDashboards into this folder")

// trafficDashboards are the shipped ones of what Cloudflare served: all but the pipeline's.
func trafficDashboards(t *testing.T) (out []string) {
	t.Helper()
	root, err := testkit.Root()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "deploy/dashboards/weir-*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if name := filepath.Base(file); name != "weir-pipeline.json" {
			out = append(out, name)
		}
	}
	if len(out) < 6 {
		t.Fatalf("deploy/dashboards has %v; this test no longer understands it", out)
	}
	return out
}

// Every expression of every dashboard of traffic gives data, from the replay and from
// counters, of a collector with all datasets and an exposer in simulated hours with an
// outage of Cloudflare; and chosen panels show what happened: from the replay exactly,
// from counters as it was some minutes ago, what came too late for them included.
// VictoriaMetrics understands them in the same way.
func TestTrafficDashboards(t *testing.T) {
	t.Parallel()
	s := stageTraffic(t)
	s.play()
	s.fill()
	if *trafficPictures != "" {
		for _, file := range s.dashboards {
			flags := []string{"-height", "60"}
			if file == "weir-zone.json" {
				flags = append(flags, "-zone", shop)
			}
			draw(t, s.prometheus, file, filepath.Join(*trafficPictures, strings.TrimSuffix(file, ".json")+".png"), s.end.Add(-5*time.Hour), s.end, flags...)
		}
	}
	s.everyExpressionGivesData()
	s.replayIsTheTruth()
	s.countersAreTheTruth()
	s.victoriaAgrees(promtest.FindVictoria(t))
	t.Run("Debian's VictoriaMetrics", func(t *testing.T) {
		s.t = t
		s.victoriaAgrees(promtest.DebianVictoria(t))
	})
}

// shop is the zone that is looked at.
const shop = "shop.example"

// trafficStage is a world whose Prometheus is given hours of replay and counters.
type trafficStage struct {
	t          *testing.T
	w          *world
	clock      *clock.Manual
	end        time.Time
	data       string
	dashboards []string
	wanted     map[string]bool // families that a dashboard names
	counters   bytes.Buffer    // what /counters showed, in the OpenMetrics format
	replay     []byte          // what /backfill has of it
	prometheus *promtest.Server
}

// The story, in which Cloudflare is away for a while, and how often counters are scraped.
const (
	trafficStory  = 3 * time.Hour
	trafficScrape = time.Minute
	awayFrom      = 70 * time.Minute
	awayUntil     = 100 * time.Minute
)

func stageTraffic(t *testing.T) *trafficStage {
	t.Helper()
	s := &trafficStage{t: t, dashboards: trafficDashboards(t), data: address(t), end: time.Now().UTC().Truncate(time.Hour), wanted: map[string]bool{"weir_bucket_end_timestamp_seconds": true}}
	for _, file := range s.dashboards {
		for _, name := range regexp.MustCompile(`\bcloudflare_\w+`).FindAllString(string(testkit.RepoFile(t, "deploy/dashboards/"+file)), -1) {
			s.wanted[name] = true
		}
	}
	s.prometheus = promtest.Start(t, "", "--storage.tsdb.retention.time=30d")
	s.w = &world{t: t, began: s.end.Add(-trafficStory), lookback: 2 * time.Hour, profile: "all"}
	s.clock = clock.NewManual(s.w.began)
	s.w.clock = s.clock
	c := cfsim.Demo(s.w.clock, 7)
	c.Zones = slices.DeleteFunc(c.Zones, func(z cfsim.Zone) bool {
		return !slices.Contains([]string{shop, "media.example", "api.example", "blog.example"}, z.Name)
	})
	c.Sampling.Enabled = true // of adaptive datasets: one panel shows which are estimates
	c.Faults = []cfsim.Fault{{Kind: cfsim.FaultHTML, Status: 522, Path: "/graphql", From: s.w.began.Add(awayFrom), To: s.w.began.Add(awayUntil)}}
	s.w.serve(c)
	grpc := address(t)
	s.w.startCollector("collector", pgtest.DSN(t), grpc)
	s.w.startExposer("exposer", s.data, grpc)
	return s
}

// play moves the clock on and scrapes the counters. However busy the machine is, the clock
// waits until the collector has done what was due and the exposer has it.
func (s *trafficStage) play() {
	s.t.Helper()
	const tick = 20 * time.Second
	for now := s.w.began; now.Before(s.end); {
		for range int(trafficScrape / tick) {
			now = now.Add(tick)
			s.clock.Set(now)
			time.Sleep(10 * time.Millisecond) // the pace of the story, not a wait for something
		}
		testkit.Eventually(s.t, func() error { return followed("http://" + s.w.ops["exposer"] + "/metrics") })
		s.scrape(now)
	}
}

func (s *trafficStage) scrape(now time.Time) {
	s.t.Helper()
	var body []byte
	testkit.Eventually(s.t, func() (err error) {
		var status int
		status, _, body, err = fetch("http://" + s.data + "/counters")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("/counters answers %d: %s", status, bytes.TrimSpace(body))
		}
		return err
	})
	for line := range bytes.Lines(body) {
		if m := exposed.FindSubmatch(bytes.TrimSuffix(line, []byte("\n"))); m != nil && s.wanted[string(m[1])] {
			fmt.Fprintf(&s.counters, "%s{%s,job=\"weir-counters\",instance=\"weir\"} %s %d\n", m[1], m[2], m[3], now.Unix())
		}
	}
}

// fill gives Prometheus the counters as they were scraped, and the replay as one that
// scraped all of it holds it.
func (s *trafficStage) fill() {
	s.t.Helper()
	from := s.w.began.Add(-s.w.lookback).Truncate(24 * time.Hour)
	status, _, body := get(s.t, fmt.Sprintf("http://%s/backfill?start=%s&end=%s&label=job=weir&label=instance=weir", s.data, from.Format(time.RFC3339), s.end.Format(time.RFC3339)))
	if status != http.StatusOK {
		s.t.Fatalf("/backfill answers %d: %s", status, body)
	}
	s.replay = body
	load(s.t, s.prometheus, s.replay, append(s.counters.Bytes(), "# EOF\n"...))
}

// Values of the variable Source, by what its readers choose.
var sources = map[string]string{"replay": "|replay", "counters": "counters"}

// ask is a query of a panel, as Grafana sends it, over a time that ends at an instant.
func (s *trafficStage) ask(target shownTarget, source string, end time.Time, length time.Duration) []promtest.Series {
	s.t.Helper()
	return s.askOf(s.prometheus, target, source, end, length)
}

// askOf asks a server of one's choice.
func (s *trafficStage) askOf(server *promtest.Server, target shownTarget, source string, end time.Time, length time.Duration) []promtest.Series {
	s.t.Helper()
	step, err := time.ParseDuration(strings.Replace(strings.Replace(target.Interval, "$bucket", "5m", 1), "1d", "24h", 1))
	if err != nil {
		s.t.Fatalf("the least step of %s: %v", target.Expr, err)
	}
	expr := strings.NewReplacer(
		"$__rate_interval", wholeSeconds(step+trafficScrape), "$__interval_ms", fmt.Sprint(step.Milliseconds()), "$__interval", wholeSeconds(step), "$__range", wholeSeconds(length),
		"$zone", ".*", "$account", ".*", "$source", sources[source],
	).Replace(target.Expr)
	if target.Instant {
		return server.Query(expr, end)
	}
	return server.Range(expr, end.Add(-length), end, step)
}

func wholeSeconds(d time.Duration) string { return fmt.Sprintf("%ds", int(d.Seconds())) }

// noTraffic are the expressions that this story has no data of, by panel and legend.
var noTraffic = map[string]bool{
	"Visitors of a day/visitors": true, // it is shorter than a day
}

var legendLabels = regexp.MustCompile(`\{\{(\w+)\}\}`)

func (s *trafficStage) everyExpressionGivesData() {
	s.t.Helper()
	asked := 0
	for _, file := range s.dashboards {
		for _, p := range panels(s.t, file) {
			for _, target := range p.Targets {
				for _, source := range slices.Sorted(maps.Keys(sources)) {
					asked++
					found := s.ask(target, source, s.end, 2*time.Hour)
					if len(found) == 0 && !noTraffic[p.Title+"/"+target.LegendFormat] {
						s.t.Errorf("%s, %s/%s: no data from the %s: %s", file, p.Title, target.LegendFormat, source, target.Expr)
					}
					for _, series := range found {
						for _, m := range legendLabels.FindAllStringSubmatch(target.LegendFormat, -1) {
							if series.Labels[m[1]] == "" {
								s.t.Errorf("%s, %s: a series from the %s has no %s: %s", file, p.Title, source, m[1], target.Expr)
							}
						}
					}
				}
			}
		}
	}
	s.t.Logf("%d expressions were asked", asked)
}

// target is a query of a shipped panel.
func (s *trafficStage) target(file, title, legend string) shownTarget {
	s.t.Helper()
	for _, p := range panels(s.t, file) {
		for _, target := range p.Targets {
			if p.Title == title && (legend == "" || target.LegendFormat == legend) {
				return target
			}
		}
	}
	s.t.Fatalf("%s has no panel %q with %q", file, title, legend)
	return shownTarget{}
}

// happened is the truth of all zones with roll-ups: the others' figures are estimates.
func (s *trafficStage) happened(zone string, start, end time.Time) cfsim.Totals {
	s.t.Helper()
	for _, z := range s.w.zones {
		if z.Name == zone {
			totals, err := s.w.sim.True(z.ID, start, end)
			if err != nil {
				s.t.Fatal(err)
			}
			return totals
		}
	}
	s.t.Fatalf("there is no zone %s", zone)
	return cfsim.Totals{}
}

// class is the sum of the statuses of a class.
func class(totals cfsim.Totals, digit uint64) (n float64) {
	for status, requests := range totals.Status {
		if status/100 == digit {
			n += float64(requests)
		}
	}
	return n
}

// shown is the value of the one series with a label.
func (s *trafficStage) shown(all []promtest.Series, label, value string) float64 {
	for _, series := range all {
		if label == "" || series.Labels[label] == value {
			return series.Samples[len(series.Samples)-1].Value
		}
	}
	return math.NaN()
}

// of is the value that a column of a list has for the zone.
func (s *trafficStage) of(column, source string, end time.Time, length time.Duration) float64 {
	s.t.Helper()
	return s.shown(s.ask(s.target("weir-overview.json", "Zones", column), source, end, length), "zone", shop)
}

func near(got, want, tolerance float64) bool { return math.Abs(got-want) <= tolerance*math.Abs(want) }

func (s *trafficStage) replayIsTheTruth() {
	s.t.Helper()
	const length = 2 * time.Hour
	end := s.end.Add(-time.Hour) // by then all of it has settled
	truth := s.happened(shop, end.Add(-length), end)
	all := float64(truth.Requests)
	for column, want := range map[string]float64{
		"requests": all, "bytes": float64(truth.Bytes), "from cache": float64(truth.CachedRequests) / all, "4xx": class(truth, 4) / all, "5xx": class(truth, 5) / all,
	} {
		if got := s.of(column, "replay", end, length); !near(got, want, 1e-12) {
			s.t.Errorf("Zones shows %v of %s, the truth is %v", got, column, want)
		}
	}
	// A rate by the step is the amount of each bucket.
	rates := s.ask(s.target("weir-migration.json", "Request rate", ""), "replay", end, length)
	for _, series := range rates {
		if series.Labels["zone"] != shop {
			continue
		}
		if len(series.Samples) != int(length/(5*time.Minute))+1 {
			s.t.Errorf("Request rate has %d points in %s", len(series.Samples), length)
		}
		for _, point := range series.Samples {
			want := float64(s.happened(shop, point.Time.Add(-5*time.Minute), point.Time).Requests) / 300
			if !near(point.Value, want, 1e-12) {
				s.t.Errorf("Request rate is %v at %s, the truth is %v", point.Value, point.Time, want)
			}
		}
	}
	// The map has every zone with roll-ups exactly; one zone is selected by its label.
	target := s.target("weir-overview.json", "Requests by country", "")
	target.Expr = strings.ReplaceAll(target.Expr, "$zone", shop)
	countries := s.ask(target, "replay", end, length)
	if len(countries) != len(truth.Countries) || len(countries) < 5 {
		s.t.Errorf("the map has %d countries, the truth has %d", len(countries), len(truth.Countries))
	}
	for country, share := range truth.Countries {
		if got := s.shown(countries, "country", country); got != float64(share.Requests) {
			s.t.Errorf("the map shows %v requests from %s, the truth is %d", got, country, share.Requests)
		}
	}
}

// countersAreTheTruth looks at hours with the outage among them: what came late is in the
// totals too. increase extrapolates by a scrape at most, and the ends of the time are in
// the middle of buckets.
func (s *trafficStage) countersAreTheTruth() {
	s.t.Helper()
	const delay, length = 14 * time.Minute, 125 * time.Minute
	start := s.end.Add(-length - delay).Truncate(5 * time.Minute)
	truth := s.happened(shop, start, start.Add(length))
	late := s.prometheus.Query(`sum(increase(cloudflare_zone_requests_late_total{zone="`+shop+`"}[125m]))`, s.end)
	if len(late) != 1 || late[0].Samples[0].Value < .1*float64(truth.Requests) {
		s.t.Errorf("the outage made %v late requests of %d: the test has lost its subject", late, truth.Requests)
	}
	all := float64(truth.Requests)
	for column, want := range map[string]float64{
		"requests": all, "bytes": float64(truth.Bytes), "from cache": float64(truth.CachedRequests) / all, "5xx": class(truth, 5) / all,
	} {
		if got := s.of(column, "counters", s.end, length); !near(got, want, .03) {
			s.t.Errorf("Zones shows %v of %s from counters, the truth is %v", got, column, want)
		}
	}
}

// victoriaAgrees gives a VictoriaMetrics the same samples: it understands every expression,
// and shows the same amounts of the replay. Its increase does not extrapolate.
func (s *trafficStage) victoriaAgrees(program promtest.Victoria) {
	s.t.Helper()
	v := program.Start(s.t, "scrape_configs: []", "-retentionPeriod=12")
	for _, text := range [][]byte{s.replay, s.counters.Bytes()} {
		post(s.t, v.URL()+"/api/v1/import/prometheus", text)
	}
	get(s.t, v.URL()+"/internal/force_flush")
	end, compared := s.end.Add(-10*time.Minute), 0
	for _, file := range s.dashboards {
		for _, p := range panels(s.t, file) {
			for _, target := range p.Targets {
				if strings.Contains(target.Expr, "topk(50,") { // which of equal ones are shown is open
					continue
				}
				for source := range sources {
					want := s.ask(target, source, end, 2*time.Hour)
					got := s.askOf(v, target, source, end, 2*time.Hour)
					if len(got) == 0 && len(want) > 0 {
						s.t.Errorf("%s, %s/%s: VictoriaMetrics has no data from the %s: %s", file, p.Title, target.LegendFormat, source, target.Expr)
					}
					if !target.Instant || source != "replay" || strings.Contains(target.Expr, "time()") {
						continue
					}
					values := map[string]float64{}
					for _, series := range got {
						values[series.Name()] = series.Samples[0].Value
					}
					for _, series := range want {
						compared++
						if other := values[series.Name()]; !near(other, series.Samples[0].Value, 1e-9) {
							s.t.Errorf("%s, %s/%s: VictoriaMetrics has %v of %s, Prometheus %v", file, p.Title, target.LegendFormat, other, series.Name(), series.Samples[0].Value)
						}
					}
				}
			}
		}
	}
	if compared < 100 {
		s.t.Errorf("only %d values were compared", compared)
	}
}
