package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/scenario"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/testkit"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector"
)

// The caps of the dataset hosts: 50 hosts and the rest in two families, 100 of host and status class and
// the rest in the third.
const hostSeries = 51 + 51 + 101

// bomb is the world of testdata/hosts.yaml: bomb.example has a hundred thousand hosts, or else as many as fill
// a page, too.
func bomb(t testing.TB, whole bool) cfsim.Config {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "hosts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if !whole {
		text = bytes.ReplaceAll(text, []byte("100000"), []byte("12000"))
	}
	c, err := scenario.Read(text, clock.System())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// hostsShown are the series of a body that have a host, by zone.
func hostsShown(lines []string) map[string]map[string]bool {
	shown := map[string]map[string]bool{}
	for _, line := range lines {
		series, _, _ := strings.Cut(line, "} ")
		_, zone, _ := strings.Cut(series, `zone="`)
		zone, _, _ = strings.Cut(zone, `"`)
		if strings.Contains(series, `host="`) {
			if shown[zone] == nil {
				shown[zone] = map[string]bool{}
			}
			shown[zone][series] = true
		}
	}
	return shown
}

// checkHosts: nothing of the zone whose hosts fill any page, the caps of the one whose hosts fit, and
// the others as if they were not there.
func checkHosts(t *testing.T, shown map[string]map[string]bool) {
	t.Helper()
	if n := len(shown["bomb.example"]); n > 0 {
		t.Errorf("%d series of hosts of the zone with too many are shown", n)
	}
	if n := len(shown["wide.example"]); n < hostSeries/2 || n > 2*hostSeries { // the largest of one hour are not those of the next
		t.Errorf("%d series of hosts of the zone with many are shown, want those of the caps, %d, in each hour", n, hostSeries)
	}
	if len(shown["usual.example"]) == 0 {
		t.Error("nothing of the hosts of the ordinary zone is shown")
	}
}

// A zone with a hundred thousand hosts beside ordinary ones: an hour of it fills any page, so nothing of its
// hosts is stored or shown. It is a gap that says so, of which deploy/alerts tells (WeirTooManyRows). The
// other datasets of the zone and the hosts of the others are as if it were not there.
func TestAZoneOfAHundredThousandHostsStaysWithinItsLimits(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, time.June, 20, 11, 58, 0, 0, time.UTC)
	inPair(t, began, func() cfsim.Config { return bomb(t, testkit.All()) }, func(c *collector.Config) {
		c.Lookback, c.Enable, c.Disable = time.Hour, []string{"hosts"}, []string{"countries", "content_types", "uniques_1h", "uniques_1d"}
	}, func(p *pair) {
		p.until(40 * time.Minute)
		lines := p.scrape()
		checkHosts(t, hostsShown(lines))
		if !strings.Contains(strings.Join(lines, "\n"), `cloudflare_zone_requests{zone="bomb.example"`) {
			t.Error("the zone's totals are not shown")
		}
		gaps := values(t, p.collector, "weir_collector_gap_windows")
		if gaps["hosts_1h too_big"] == 0 || len(gaps) != 1 {
			t.Errorf("gaps are %v, want windows that are too big", gaps)
		}
		if n := values(t, p.collector, "weir_collector_truncated_answers_total")["hosts_1h"]; n == 0 || n > 60 {
			t.Errorf("%g answers filled their page: each is asked again now and then, not all the time", n)
		}
		if n := values(t, p.exposer, "weir_exposer_samples_held")[""]; n > 5000 {
			t.Errorf("the exposer holds %g samples", n)
		}
		t.Logf("%d samples, gaps %v", len(lines), gaps)
	})
}

// burden is what a world costs the programs and the store.
type burden struct {
	collector, exposer    float64 // MiB, the most that was resident
	store, bucket, body   int     // bytes: of the file, of the largest bucket of hosts, of /metrics
	buckets, rows, tooBig int     // of hosts: stored, the most of one bucket, windows that are too big
}

// What such a zone costs the real processes, beside the same zones with a few hosts each.
func TestAZoneOfAHundredThousandHostsCostsTheProcessesLittle(t *testing.T) {
	testkit.InAll(t)
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the memory of another process is read from /proc")
	}
	few := bomb(t, true)
	for i := range few.Zones {
		few.Zones[i].Traffic.Variety.Hosts, few.Zones[i].Traffic.Cells = 12, 48
	}
	before, under := burdenOf(t, few, 0), burdenOf(t, bomb(t, true), 2)
	t.Logf("before: %+v", before)
	t.Logf("under it: %+v", under)
	for _, limit := range []struct {
		what      string
		got, most float64
		why       string
	}{
		{"MiB of the collector", under.collector - before.collector, 160, "a response has pages of at most 5,000 rows, in memory about 2 KB each, of the few hours in a request, and as much again until garbage is collected"},
		{"MiB of the exposer", under.exposer - before.exposer, 32, "it holds what is stored: the caps of one zone more"},
		{"rows of a bucket", float64(under.rows), hostSeries, "the caps"},
		{"bytes of a bucket", float64(under.bucket), 100 * hostSeries, "a row is a host, a class and a number"},
		{"bytes of the store", float64(under.store - before.store), 128 << 10, "the buckets of one zone are larger, as the caps allow, and those of the other are missing"},
		{"bytes of /metrics", float64(under.body - before.body), 200 * hostSeries * 6, "a line has at most 200 bytes, and there are at most six hours of a series"},
	} {
		t.Logf("%s: %.0f more, at most %.0f: %s", limit.what, limit.got, limit.most, limit.why)
		if limit.got > limit.most {
			t.Errorf("%s: %.0f, at most %.0f: %s", limit.what, limit.got, limit.most, limit.why)
		}
	}
}

// burdenOf runs a collector and an exposer until the last hours are stored, but for so many that are too big.
func burdenOf(t *testing.T, c cfsim.Config, tooBig float64) (b burden) {
	t.Helper()
	c.Tokens = []cfsim.Token{cfsim.GoodToken(apiToken)}
	s := simulateAs(t, nil, c)
	file := filepath.Join(t.TempDir(), "weir.db")
	collector := s.startCollector(t, "WEIR_SQLITE_FILE="+file, "WEIR_DATASETS=hosts", "WEIR_INITIAL_LOOKBACK=4h")
	exposer := startExposerBinary(t, nil, collector)
	exposer.ready()
	const gap = `weir_collector_gap_windows{dataset="hosts_1h",reason="too_big"}`
	var entries []*bucketv1.Entry
	var body string
	testkit.Within(t, 15*time.Minute, func() (err error) {
		if n := collector.metric(gap); n < tooBig {
			return fmt.Errorf("%g windows are too big, want %g", n, tooBig)
		}
		entries, _ = snapshot(t, collector, 12*time.Hour, "hosts_1h")
		of := map[string]int{}
		for _, e := range entries {
			of[e.GetBucket().GetZone()]++
		}
		if of["wide.example"] < 2 || of["usual.example"] < 2 || tooBig == 0 && of["bomb.example"] < 2 {
			return fmt.Errorf("buckets of hosts are %v, want some hours of each zone", of)
		}
		if body, err = page("http://" + exposer.data + "/metrics"); err != nil {
			return err
		}
		if shown := hostsShown(strings.Split(body, "\n")); len(shown["wide.example"]) == 0 || len(shown["usual.example"]) == 0 {
			return fmt.Errorf("hosts of %d zones are shown", len(shown))
		}
		return nil
	})
	if tooBig > 0 {
		checkHosts(t, hostsShown(strings.Split(body, "\n")))
	}
	b.collector, b.exposer, b.body, b.tooBig = collector.memory("VmHWM"), exposer.memory("VmHWM"), len(body), int(collector.metric(gap))
	for _, e := range entries {
		rows := 0
		for _, f := range e.GetBucket().GetFamilies() {
			rows += len(f.GetValues())
		}
		if e.GetBucket() != nil {
			b.buckets, b.rows, b.bucket = b.buckets+1, max(b.rows, rows), max(b.bucket, proto.Size(e))
		}
	}
	exposer.stop()
	collector.stop() // what is in the write-ahead log goes into the file
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	b.store = int(info.Size())
	return b
}
