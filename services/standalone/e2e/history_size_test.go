package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/collector/collectortest"
	"github.com/weir-metrics/weir/services/standalone/internal/export"
)

// Ten million samples are exported, loaded and verified in the memory that a seventh of
// them needs; the time of COPY of the same rows is beside it.
func TestBackfillOfTenMillionSamples(t *testing.T) {
	testkit.InAll(t)
	h := history{zones: 300, days: 7}
	dsn := pgtest.DSN(t)
	var config collector.Config
	cli.Defaults(config.Settings())
	config.Token, config.Simulated, config.DatabaseURL, config.Migrate = cli.NewSecret("none"), true, cli.NewSecret(dsn), true
	s, err := collector.OpenStore(t.Context(), config, collector.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	samples := h.fill(t, s)
	var records []collectortest.Record
	for z := range h.zones {
		records = append(records, collectortest.Zone(fmt.Sprintf("%032x", z), fmt.Sprintf("zone-%05d.example", z), strings.Repeat("a", 32), "Example", bucket.TimeOf(h.end().AddDate(0, 0, -h.days))))
	}
	if err := collectortest.Write(t.Context(), s, nil, records); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, dsn, "VACUUM ANALYZE bucket")
	t.Logf("%d samples filled in %s", samples, time.Since(began).Round(time.Second))
	if _, err := s.Acquire(t.Context(), "test", 2*time.Hour); err != nil {
		t.Fatal(err)
	}
	feed := testkit.Listen(t)
	c, err := collector.New(t.Context(), config, collector.Deps{
		GRPC: feed, Ops: testkit.Listen(t), Transport: nowhere{}, OpenStore: func(context.Context) (collector.Store, error) { return s, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	startActor(t, "collector", c.Run)
	began = time.Now()
	pgtest.Exec(t, dsn, `\copy (SELECT payload FROM bucket) TO '/dev/null' (FORMAT binary)`)
	beside := time.Since(began)
	t.Logf("COPY of all buckets: %s, %.0f samples/s", beside.Round(100*time.Millisecond), float64(samples)/beside.Seconds())

	// weir runs "weir backfill …" over so many days, and returns the peak of its memory.
	weir := func(days int, settings []string, args ...string) (peak int64) {
		cmd := command(t, program(t, "weir"), append(settings, "WEIR_COLLECTOR_ADDRESS="+feed.Addr().(*net.TCPAddr).String()),
			append([]string{"backfill"}, append(args, "--start", h.end().AddDate(0, 0, -days).Format(time.DateOnly), "--end", h.end().Format(time.DateOnly), "--output", "json")...)...)
		began := time.Now()
		w := launch(t, "weir backfill "+args[0], cmd)
		<-w.exited
		took := time.Since(began)
		var r struct {
			Exported int64 `json:"samples"`
			Store    int64 `json:"samples_in_store"`
			Equal    int64 `json:"samples_equal"`
		}
		if err := json.Unmarshal([]byte(w.output.String()), &r); err != nil || !cmd.ProcessState.Success() {
			t.Fatalf("weir backfill %s of %d days: %v, %v", args[0], days, cmd.ProcessState, err)
		}
		n := r.Exported + r.Equal
		if r.Equal != r.Store || n < int64(samples*days/h.days)*9/10 || days == h.days && n != int64(samples) {
			t.Errorf("weir backfill %s of %d days: %+v of %d samples", args[0], days, r, samples)
		}
		peak = cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
		t.Logf("weir backfill %s of %d days: %d samples in %s, %.0f samples/s, %.1f times COPY; processor %s, peak of the memory %d MB", args[0], days, n, took.Round(100*time.Millisecond),
			float64(n)/took.Seconds(), took.Seconds()/beside.Seconds()*float64(samples)/float64(n), (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Round(100*time.Millisecond), peak/1e6)
		return peak
	}
	constant := func(name string, one, all int64) {
		if all > one*3/2+32e6 {
			t.Errorf("%s of all days needs %d MB, of one day %d MB: memory grows with the range", name, all/1e6, one/1e6)
		}
	}
	folder := ""
	exported := func(days int) int64 {
		folder = filepath.Join(t.TempDir(), "export")
		return weir(days, nil, "export", folder, "--job", "weir", "--instance", "x")
	}
	constant("export", exported(1), exported(h.days))

	p := promtest.Start(t, "scrape_configs: []\n", "--storage.tsdb.retention.time=90d")
	p.Stop()
	began = time.Now()
	for _, name := range entries(t, folder) {
		if strings.HasSuffix(name, ".om") {
			if _, _, err := promtest.Find(t).Run("tsdb", "create-blocks-from", "openmetrics", export.MaxBlock, "--quiet", filepath.Join(folder, name), p.DataDir()); err != nil {
				t.Fatal(err)
			}
			_ = os.Remove(filepath.Join(folder, name)) // room on the disk
		}
	}
	t.Logf("promtool: %s", time.Since(began).Round(time.Second))
	p.Start()
	verified := func(days int) int64 {
		return weir(days, []string{"WEIR_PROMETHEUS_URL=" + p.URL()}, "verify")
	}
	constant("verify", verified(1), verified(h.days))
}
