package e2e

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/cfsimtest"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/counter"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// What a zone costs the processes, as docs/operations.md says: collector, exposer and
// Prometheus of a small and of a large installation are started on a day of history. The
// difference is that of the zones.
func TestFootprintOfTheProcesses(t *testing.T) {
	onRequest(t)
	small, large := measureProcesses(t, 50), measureProcesses(t, 250)
	zones := float64(large.zones - small.zones)
	for _, row := range []struct {
		what         string
		small, large float64
		within       float64 // memory depends on when garbage is collected
	}{
		{"memory of a collector, a zone", small.collector, large.collector, .5},
		{"memory of an exposer, a zone", small.exposer, large.exposer, .5},
		{"memory of Prometheus, a zone", small.prometheus, large.prometheus, .5},
		{"series in Prometheus, a zone", small.series, large.series, .2},
		{"new samples in Prometheus, a zone and 30 days", small.samples * 30 / 1e3, large.samples * 30 / 1e3, .2},
		{"blocks of Prometheus, a zone and 30 days", small.blocks * 30, large.blocks * 30, .2},
	} {
		t.Logf("%s: %.4g with %d zones, %.4g with %d", row.what, row.small, small.zones, row.large, large.zones)
		documentedAs(t, row.what, (row.large-row.small)/zones, row.within)
	}
	documentedAs(t, "memory of Postgres, the connections of a collector", large.postgres, .5)
}

// footprint is memory at its peak in MB, of Postgres what its connections have for themselves at
// the end, and what a Prometheus has of a day: series, samples and
// MB of blocks.
type footprint struct {
	zones                          int
	collector, exposer, prometheus float64
	postgres                       float64
	series, samples, blocks        float64
}

func measureProcesses(t *testing.T, zones int) footprint {
	t.Helper()
	s := &simulated{began: time.Now()}
	c := cfsim.Sized(clock.System(), 7, zones, nil)
	c.Tokens = []cfsim.Token{cfsim.GoodToken(apiToken)}
	s.Server = cfsimtest.New(t, c)
	s.url = cfsimtest.Start(t, s.Server)
	// The whole share, since it is to begin soon.
	dsn := pgtest.DSN(t)
	collector := s.startCollector(t, "WEIR_DATABASE_URL="+withPassword(t, dsn), "WEIR_MIGRATE=true", "WEIR_INITIAL_LOOKBACK=24h", "WEIR_BUDGET_SHARE=100%")
	testkit.Within(t, 20*time.Minute, func() error {
		// The first windows of zones that begin silent are read again after ten minutes, which costs no
		// memory, so nobody waits for them.
		gaps := collector.metric("weir_collector_gap_windows{") - collector.metric(`weir_collector_gap_windows{dataset="http_5m",reason="suspect"}`)
		if stored := collector.metric("weir_collector_buckets_total"); gaps > 0 || stored < float64(zones*300) { // of 361 in a day
			return fmt.Errorf("%v gaps, %v buckets of %d zones", gaps, stored, zones)
		}
		return nil
	})
	exposer := startExposerBinary(t, nil, collector)
	exposer.ready()
	const config = "storage: {tsdb: {out_of_order_time_window: 30h}}\nscrape_configs: [{job_name: weir, scrape_interval: 5s, static_configs: [{targets: [%q]}]}]\n"
	p := promtest.Start(t, strings.ReplaceAll(config, "%q", ""))
	idle := resident(t, p)
	p.Reload(fmt.Sprintf(config, exposer.data))
	testkit.Within(t, 5*time.Minute, func() error {
		if n := p.Own("prometheus_target_interval_length_seconds_count"); n < 12 {
			return fmt.Errorf("Prometheus has scraped %v times", n)
		}
		return nil
	})
	out := footprint{
		zones: zones, collector: collector.memory("VmHWM"), exposer: exposer.memory("VmHWM"), prometheus: resident(t, p) - idle,
		postgres: connected(t, dsn), series: p.Own("prometheus_tsdb_head_series"),
	}

	// What the server would hold of a day once its blocks are compacted.
	folder, blocks := filepath.Join(t.TempDir(), "export"), t.TempDir()
	day := time.Now().UTC().Truncate(time.Hour)
	if code, _, errs := (&archive{t: t, address: collector.data}).weir(nil, "export", folder, "--start", day.Add(-20*time.Hour).Format(time.RFC3339), "--end", day.Add(-2*time.Hour).Format(time.RFC3339), "--job", "weir", "--instance", "weir"); code != 0 {
		t.Fatalf("weir backfill export: %d: %s", code, errs)
	}
	const share = 24. / 18 // of a day that is exported
	for _, name := range entries(t, folder) {
		if !strings.HasSuffix(name, ".om") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if !strings.HasPrefix(line, "#") {
				out.samples += share
			}
		}
		if _, _, err := promtest.Promtool(t, "tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=24h", "--quiet", filepath.Join(folder, name), blocks); err != nil {
			t.Fatal(err)
		}
	}
	out.blocks = share * folderSize(t, blocks) / 1e6
	for _, running := range []*service{exposer, collector} {
		running.stop()
	}
	p.Stop()
	t.Logf("%d zones: %+v", zones, out)
	return out
}

// connected is the memory in MB that the connections to a database have for themselves, without
// the buffers that they share.
func connected(t *testing.T, dsn string) (total float64) {
	t.Helper()
	backends := strings.Fields(pgtest.Exec(t, dsn, "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"))
	for _, pid := range backends {
		n, err := strconv.Atoi(pid)
		if err != nil {
			t.Fatal(err)
		}
		own := memoryOf(t, n, "RssAnon")
		t.Logf("connection %d of Postgres: %.1f MB", n, own)
		total += own
	}
	return total
}

// resident is the memory of a Prometheus in MB, at its peak.
func resident(t *testing.T, p *promtest.Server) float64 {
	t.Helper()
	pid, err := os.ReadFile(filepath.Join(filepath.Dir(p.DataDir()), "pid"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(pid)))
	if err != nil {
		t.Fatal(err)
	}
	return memoryOf(t, n, "VmHWM")
}

func folderSize(t *testing.T, dir string) (bytes float64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			bytes += float64(info.Size())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

// What an exposer holds resident when a Prometheus scrapes gzip and somebody reads text: six
// windows of a breakdown with 160,000 series, without counters and with them. A small body is beside
// them, of which what any Go program holds is most. docs/operations.md has the figures.
func TestFootprintOfTheExposer(t *testing.T) {
	onRequest(t)
	for _, tc := range []struct {
		zones    int
		counters bool
		most     float64 // times the body
	}{{zones: 10, most: 40}, {zones: 1000, most: 1.9}, {zones: 1000, counters: true, most: 2.6}} {
		body, now, most := exposerOf(t, tc.zones, 160, tc.counters)
		t.Logf("a body of %.1f MiB, counters %t: %.1f MiB resident, %.1f at most", body, tc.counters, now, most)
		if most > tc.most*body {
			t.Errorf("a body of %.1f MiB, counters %t: %.1f MiB were resident, which is %.2f times as much; want %g at most", body, tc.counters, most, most/body, tc.most)
		}
	}
}

// counted is a collector that knows counters: its totals are those of nothing, so that all entries
// follow them.
type counted struct {
	*feedtest.Scripted
	store string
	began time.Time
}

// WatchBuckets implements bucketv1.BucketServiceServer.
func (c counted) WatchBuckets(req *bucketv1.WatchBucketsRequest, ss grpc.ServerStreamingServer[bucketv1.WatchBucketsResponse]) error {
	if req.GetCounters() == nil {
		return c.Scripted.WatchBuckets(req, ss)
	}
	start, began := wire.ResumePoint(c.store, bucket.Position{}), wire.Timestamp(c.began)
	for _, m := range []*bucketv1.WatchBucketsResponse{
		{Event: &bucketv1.WatchBucketsResponse_Info{Info: &bucketv1.StoreInfo{StoreId: c.store}}},
		{Event: &bucketv1.WatchBucketsResponse_CounterEpoch{CounterEpoch: &bucketv1.CounterEpoch{Id: "epoch", BeganAt: began, SettledAt: began, Rules: counter.Rules}}},
		{Event: &bucketv1.WatchBucketsResponse_SnapshotEnd{SnapshotEnd: &bucketv1.SnapshotEnd{Point: start}}},
	} {
		if err := ss.Send(m); err != nil {
			return err
		}
	}
	return c.Scripted.WatchBuckets(&bucketv1.WatchBucketsRequest{Start: &bucketv1.WatchBucketsRequest_Resume{Resume: start}}, afterTotals{ss})
}

// afterTotals is a stream that goes on from totals, and confirms what it has sent.
type afterTotals struct {
	grpc.ServerStreamingServer[bucketv1.WatchBucketsResponse]
}

func (s afterTotals) Send(m *bucketv1.WatchBucketsResponse) error {
	if m.GetInfo() != nil {
		return nil // sent before the totals
	}
	if p := m.GetProgress(); p != nil {
		p.CompleteUntil = p.GetProgressTime()
	}
	return s.ServerStreamingServer.Send(m)
}

// exposerOf serves a breakdown of so many zones with so many values each, and returns the size of the
// text body and of the exposer's memory, in MiB. With counters they are scraped too.
func exposerOf(t *testing.T, zones, values int, counters bool) (body, now, most float64) {
	t.Helper()
	const dataset, store, mib = "hosts_5m", "11112222333344445555666677778888", 1 << 20
	log := feedtest.NewScripted(store)
	end := time.Now().UTC().Truncate(5 * time.Minute)
	log.Append(end.Add(-time.Hour), feedtest.Entry{Definition: feedtest.Definition(dataset, 1)})
	for window := range 6 {
		start := bucket.TimeOf(end.Add(time.Duration(window-6) * 5 * time.Minute))
		var entries []feedtest.Entry
		for zone := range zones {
			rows := bucket.Rows{Family: feedtest.Breakdown(dataset)}
			for i := range values {
				rows.Labels, rows.Values = append(rows.Labels, fmt.Sprintf("S%03d", i)), append(rows.Values, float64(window*100_000+zone*17+i))
			}
			b := feedtest.Bucket(dataset, feedtest.Zone(zone), 0)
			b.Start, b.ReadAt, b.Families = start, start.Add(5*time.Minute+time.Second), []bucket.Rows{rows}
			b.Zone = fmt.Sprintf("zone-%05d.example", zone)
			entries = append(entries, feedtest.Entry{Bucket: b})
		}
		log.Append(start.Std().Add(5*time.Minute+time.Second), entries...)
	}
	log.SetProgress(time.Now())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	bucketv1.RegisterBucketServiceServer(server, counted{log, store, end.Add(-time.Hour)})
	go func() { _ = server.Serve(listener) }() // ends with Stop
	t.Cleanup(server.Stop)

	exposer := startExposerBinary(t, []string{"WEIR_REPLAY_SOFT_SAMPLES=2000000", "WEIR_REPLAY_HARD_SAMPLES=2000000", fmt.Sprintf("WEIR_EXPOSER_COUNTERS=%t", counters)}, &service{data: listener.Addr().String()})
	exposer.ready()
	config := fmt.Sprintf("storage: {tsdb: {out_of_order_time_window: 30h}}\nscrape_configs:\n- {job_name: weir, scrape_interval: 5s, static_configs: [{targets: [%q]}]}\n", exposer.data)
	if counters {
		config += fmt.Sprintf("- {job_name: counters, metrics_path: /counters, scrape_interval: 5s, static_configs: [{targets: [%q]}]}\n", exposer.data)
	}
	p := promtest.Start(t, config)
	var text string
	testkit.Within(t, 5*time.Minute, func() (err error) {
		log.SetProgress(time.Now())
		if text, err = page("http://" + exposer.data + "/metrics"); err != nil {
			return err
		}
		if n := p.Own("prometheus_target_interval_length_seconds_count"); n < 12 {
			return fmt.Errorf("Prometheus has scraped %v times", n)
		}
		return nil
	})
	if n := strings.Count(text, "} "); n != 6*zones*values {
		t.Fatalf("the body has %d samples, want %d", n, 6*zones*values)
	}
	if counters {
		text, err := page("http://" + exposer.data + "/counters")
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(text, "_by_status_total{"); n != zones*values {
			t.Fatalf("there are %d counters, want %d", n, zones*values)
		}
	}
	return float64(len(text)) / mib, exposer.memory("VmRSS"), exposer.memory("VmHWM")
}
