package cfsim_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/cfsimtest"
	"github.com/weir-metrics/weir/internal/clock"
)

func TestTwoSimulatorsOfOneSeedAreAlike(t *testing.T) {
	query := `{ viewer { zones(filter: {zoneTag: $zone}) { httpRequestsAdaptiveGroups(limit: 9999, filter: {datetime_geq: $from, datetime_lt: $to}, orderBy: [datetimeMinute_ASC]) {
		count sum { edgeResponseBytes visits } quantiles { edgeTimeToFirstByteMsP95 } dimensions { datetimeMinute clientCountryName clientRequestHTTPHost cacheStatus } } } } }`
	vars := span("shop", epoch.Add(-20*time.Minute), epoch) // part of it still settles
	a, b := newWorld(t, nil).good(query, vars), newWorld(t, nil).good(query, vars)
	if !bytes.Equal(a.Body, b.Body) {
		t.Error("equal seeds gave different answers")
	}
	c := newWorld(t, func(c *cfsim.Config) { c.Seed = 8 }).good(query, vars)
	if bytes.Equal(a.Body, c.Body) {
		t.Error("different seeds gave equal answers")
	}
}

func TestRecorded(t *testing.T) {
	readings := "zone,asked_until,bucket_start,requests\n" +
		"big,2026-06-24T19:04:44Z,2026-06-24T18:58:00Z,33682648\n" +
		"big,2026-06-24T19:04:44Z,2026-06-24T19:00:00Z,34070910\n" +
		"big,2026-06-24T19:04:44Z,2026-06-24T19:03:00Z,1488614\n" +
		"small,2026-06-24T19:04:44Z,2026-06-24T19:03:00Z,1031\n"
	checkRecorded(t, readings)
	if path := sharedFile("recorded/zone_requests_1m.csv"); path != "" {
		full, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		checkRecorded(t, string(full))
	}
	for _, bad := range []string{"a,b\n", "h,h,h,h\nz,x,2026-06-24T19:03:30Z,1\n", "h,h,h,h\nz,x,2026-06-24T19:03:00Z,-1\n"} {
		if _, err := cfsim.Recorded(clock.NewManual(epoch), 1, strings.NewReader(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func checkRecorded(t *testing.T, readings string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(readings), "\n")[1:]
	for _, line := range lines {
		f := strings.Split(line, ",")
		start, err := time.Parse(time.RFC3339, f[2])
		if err != nil {
			t.Fatal(err)
		}
		c, err := cfsim.Recorded(clock.NewManual(start.Add(2*time.Minute)), 1, strings.NewReader(readings))
		if err != nil {
			t.Fatal(err)
		}
		w := &world{t: t, sim: cfsimtest.New(t, c), secret: cfsim.DemoToken, header: http.Header{}}
		a := w.good(`{ viewer { zones(filter: {zoneTag: $zone}) { httpRequests1mGroups(limit: 9, filter: {datetime: $from}) { sum { requests } } } } }`,
			map[string]any{"zone": zone(f[0]), "from": f[2]})
		if got := rows(t, a, "httpRequests1mGroups"); len(got) != 1 || fmt.Sprint(num(t, got[0], "sum", "requests")) != f[3] {
			t.Fatalf("%s: got %v", line, got)
		}
	}
}

// sharedFile finds a file in a folder "shared" beside the checkout, "" when
// there is none. It only adds data to a test.
func sharedFile(name string) string {
	dir, err := os.Getwd()
	for err == nil {
		path := filepath.Join(filepath.Dir(dir), "shared", name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
		dir = filepath.Dir(dir)
	}
	return ""
}
