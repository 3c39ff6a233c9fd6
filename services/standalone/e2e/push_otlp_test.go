package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
)

// Days are pushed as OTLP into a real OpenTelemetry collector, which is killed, as the push
// is. What it wrote to its file is the truth: sums with delta temporality from the start to
// the end of each window, gauges for what cannot be added up. What is repeated is equal.
func TestPushOpenTelemetry(t *testing.T) {
	testkit.InAll(t)
	c, file := promtest.StartOpenTelemetry(t)
	a := newPushed(t, "otlp")
	a.toll = newToll(t, c.WriteURL(), nil)
	kills := 12
	for i := range kills {
		p := a.push()
		dead := a.toll.arm(1+a.rng.IntN(100), moment(i%3), p.kill)
		select {
		case <-dead:
			<-p.exited
		case <-time.After(testkit.Patience):
			t.Fatalf("after %d kills: the request never came: %s", i, p.log)
		}
		if i == kills/2 {
			c.Stop()
			p := a.push()
			p.says("request failed, trying again")
			c.Start()
			p.stop()
		}
	}
	p := a.push()
	testkit.Eventually(t, a.finished)
	p.stop()
	c.Stop() // with what it had in memory
	points, repeated := readPoints(t, file)
	if most := kills * 30; repeated > most {
		t.Errorf("%d points were repeated after %d kills, want at most %d: a batch each", repeated, kills, most)
	}
	for series, samples := range a.truth {
		additive := !strings.HasPrefix(series, "cloudflare_zone_unique_visitors") && !strings.HasPrefix(series, "cloudflare_sample_interval")
		size := 5 * time.Minute
		if strings.HasPrefix(series, "cloudflare_zone_unique_visitors") || strings.Contains(series, `dataset="uniques_1h"`) {
			size = time.Hour
		}
		for at, v := range samples {
			end := time.UnixMilli(at + 1)
			got, there := points[series][end.UnixNano()]
			want := point{end.Add(-size).UnixNano(), v, additive}
			if !there || got != want {
				t.Fatalf("%s until %s is %+v (%v), want %+v", series, end.UTC(), got, there, want)
			}
			delete(points[series], end.UnixNano())
		}
	}
	for series, rest := range points {
		if len(rest) > 0 {
			t.Errorf("%s has %d points more than the truth", series, len(rest))
		}
	}
	if _, err := os.Stat(filepath.Join(a.folder, "cursor.refused.jsonl")); !os.IsNotExist(err) {
		t.Errorf("something was refused: %v", err)
	}
}

// point is a data point of a series, by its time.
type point struct {
	start int64
	value float64
	delta bool // of a monotonic sum with delta temporality; otherwise of a gauge
}

// otlpPoint, otlpMetric and otlpLine are the JSON form of OTLP.
type otlpAttribute struct {
	Key   string
	Value struct{ StringValue string }
}

type otlpPoint struct {
	Attributes                      []otlpAttribute
	StartTimeUnixNano, TimeUnixNano string
	AsDouble                        float64
}

type otlpMetric struct {
	Name string
	Sum  *struct {
		DataPoints             []otlpPoint
		AggregationTemporality int
		IsMonotonic            bool
	}
	Gauge *struct{ DataPoints []otlpPoint }
}

type otlpLine struct {
	ResourceMetrics []struct {
		Resource     struct{ Attributes []otlpAttribute }
		ScopeMetrics []struct{ Metrics []otlpMetric }
	}
}

// readPoints reads what a collector wrote, and counts the points that it had before.
func readPoints(t *testing.T, path string) (all map[string]map[int64]point, repeated int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all = map[string]map[int64]point{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var line otlpLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatalf("a line of the collector's file: %v", err)
		}
		for _, r := range line.ResourceMetrics {
			for _, s := range r.ScopeMetrics {
				for _, m := range s.Metrics {
					points, delta := []otlpPoint(nil), false
					if m.Gauge != nil {
						points = m.Gauge.DataPoints
					} else {
						points, delta = m.Sum.DataPoints, m.Sum.AggregationTemporality == 1 && m.Sum.IsMonotonic
					}
					for _, x := range points {
						series := nameOf(m.Name, slices.Concat(r.Resource.Attributes, x.Attributes))
						at, got := nanos(t, x.TimeUnixNano), point{nanos(t, x.StartTimeUnixNano), x.AsDouble, delta}
						if all[series] == nil {
							all[series] = map[int64]point{}
						}
						if had, there := all[series][at]; there {
							repeated++
							if had != got {
								t.Errorf("%s was %+v and is repeated as %+v", series, had, got)
							}
						}
						all[series][at] = got
					}
				}
			}
		}
	}
	if lines.Err() != nil {
		t.Fatal(lines.Err())
	}
	return all, repeated
}

// nameOf writes a series as the truth does.
func nameOf(name string, attributes []otlpAttribute) string {
	var labels []string
	for _, a := range attributes {
		if a.Key != "service.name" {
			labels = append(labels, fmt.Sprintf("%s=%q", a.Key, a.Value.StringValue))
		}
	}
	slices.Sort(labels)
	return name + "{" + strings.Join(labels, ",") + "}"
}

func nanos(t *testing.T, text string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
