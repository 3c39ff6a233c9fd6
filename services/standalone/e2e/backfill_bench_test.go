package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"runtime/metrics"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/internal/wire"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/collector/collectortest"
	"github.com/weir-metrics/weir/services/exposer"
)

var tenMillion = flag.Bool("ten-million", false, "run the benchmark of the backfill with 10 million samples")

// BenchmarkBackfill fetches /backfill of a history of http_5m, over loopback: store,
// collector, gRPC, exposer, HTTP and a client that discards. On Postgres, COPY of the
// payloads of the same buckets through psql is beside it.
func BenchmarkBackfill(b *testing.B) {
	h := history{zones: 100, days: 1}
	if *tenMillion {
		h = history{zones: 300, days: 7}
	}
	for _, driver := range []string{"sqlite", "postgres"} {
		b.Run(fmt.Sprintf("zones=%d/days=%d/%s", h.zones, h.days, driver), func(b *testing.B) {
			var config collector.Config
			cli.Defaults(config.Settings())
			config.Token, config.Simulated = cli.NewSecret("none"), true
			config.SQLiteFile = filepath.Join(b.TempDir(), "weir.db")
			dsn := ""
			if driver == "postgres" {
				dsn = pgtest.DSN(b)
				config.DatabaseURL, config.Migrate = cli.NewSecret(dsn), true
			}
			s, err := collector.OpenStore(b.Context(), config, collector.Deps{})
			if err != nil {
				b.Fatal(err)
			}
			samples := h.fill(b, s)
			if dsn != "" {
				pgtest.Exec(b, dsn, "VACUUM ANALYZE bucket")
			}
			url := h.serve(b, s, config)
			peak := watchHeap(b)
			var weir, beside time.Duration
			n, bytes := 0, int64(0)
			b.ReportAllocs()
			for b.Loop() {
				began := time.Now()
				bytes = read(b, url)
				weir += time.Since(began)
				if n++; dsn == "" {
					continue
				}
				b.StopTimer()
				began = time.Now()
				pgtest.Exec(b, dsn, `\copy (SELECT payload FROM bucket) TO '/dev/null' (FORMAT binary)`)
				beside += time.Since(began)
				b.StartTimer()
			}
			b.ReportMetric(float64(n*samples)/weir.Seconds(), "samples/s")
			b.ReportMetric(float64(bytes), "body-bytes")
			b.ReportMetric(float64(peak())/1e6, "peak-heap-MB")
			if dsn != "" {
				b.ReportMetric(float64(n*samples)/beside.Seconds(), "copy-samples/s")
				b.ReportMetric(weir.Seconds()/beside.Seconds(), "backfill/copy")
			}
		})
	}
}

// history is so many zones with buckets of http_5m of the last whole days.
type history struct{ zones, days int }

func (h history) end() time.Time { return time.Now().UTC().Truncate(24 * time.Hour) }

// fill stores the history and returns its number of samples.
func (h history) fill(b testing.TB, s collector.Store) (samples int) {
	b.Helper()
	d := &bucket.Definition{Dataset: "http_5m", Version: 1, ScopeKind: bucket.Zone, Size: 5 * time.Minute, Delay: 5 * time.Minute, Depth: 30, Description: "HTTP traffic."}
	for _, name := range []string{"requests", "bytes", "cached_requests", "cached_bytes", "encrypted_requests", "encrypted_bytes", "page_views", "threats"} {
		d.Families = append(d.Families, bucket.Family{Name: "cloudflare_zone_" + name, Help: "Something.", Role: bucket.Total, Additive: true})
	}
	d.Families = append(d.Families, bucket.Family{
		Name: "cloudflare_zone_requests_by_status", Help: "HTTP requests by status.", Labels: []string{"status"}, Role: bucket.Breakdown, Additive: true,
	})
	batch := []collectortest.NewEntry{{Kind: bucket.KindDatasetVersion, Key: bucket.Key{Dataset: d.Dataset}, Payload: wire.EncodeDefinition(d)}}
	r := rand.New(rand.NewPCG(1, 2))
	flush := func() {
		if err := collectortest.Write(b.Context(), s, batch, nil); err != nil {
			b.Fatal(err)
		}
		batch = batch[:0:0]
	}
	start := bucket.TimeOf(h.end().Add(-time.Duration(h.days) * 24 * time.Hour))
	for w := range h.days * 288 {
		for z := range h.zones {
			x := h.bucket(r, d, start.Add(time.Duration(w)*d.Size), z)
			payload, err := wire.Seal(x, d)
			if err != nil {
				b.Fatal(err)
			}
			samples += x.Len()
			if batch = append(batch, collectortest.NewEntry{
				Kind: bucket.KindBucket, Key: x.Key, End: x.Window().End, Finality: x.Finality, Origin: x.Origin, Variant: x.Variant,
				Rows: x.Len(), SampleInterval: x.SampleInterval, Payload: payload,
			}); len(batch) == 1000 {
				flush()
			}
		}
	}
	flush()
	return samples
}

// bucket has all totals, and most of the status codes.
func (history) bucket(r *rand.Rand, d *bucket.Definition, start bucket.Time, zone int) *bucket.Bucket {
	x := &bucket.Bucket{
		Key:  bucket.Key{Dataset: d.Dataset, Scope: bucket.Scope{Kind: bucket.Zone, ID: fmt.Sprintf("%032x", zone)}, Start: start},
		Size: d.Size, Version: 1, Zone: fmt.Sprintf("zone-%05d.example", zone), Account: "Example",
		Finality: bucket.Confirmed, Origin: bucket.Live, Variant: "rollup_1m", SampleInterval: 1, ReadAt: start.Add(11 * time.Minute),
	}
	by := bucket.Rows{Family: d.Families[8].Name}
	for _, status := range []string{"200", "204", "206", "301", "302", "304", "400", "403", "404", "429", "499", "500", "502"} {
		if r.IntN(4) > 0 {
			by.Labels, by.Values = append(by.Labels, status), append(by.Values, float64(r.IntN(10_000)))
		}
	}
	requests := float64(r.IntN(1_000_000))
	for i, f := range d.Families[:8] {
		v := requests
		if i%2 == 1 {
			v *= 8192
		}
		x.Families = append(x.Families, bucket.Rows{Family: f.Name, Values: []float64{v}})
	}
	if len(by.Values) > 0 {
		x.Families = append(x.Families, by)
	}
	return x
}

// serve runs a collector, which never leads, and an exposer, and returns the URL of the
// whole history when that is served.
func (h history) serve(b *testing.B, s collector.Store, config collector.Config) string {
	b.Helper()
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		return l
	}
	if _, err := s.Acquire(b.Context(), "benchmark", 2*time.Hour); err != nil {
		b.Fatal(err)
	}
	feed, data := listen(), listen()
	c, err := collector.New(b.Context(), config, collector.Deps{
		GRPC: feed, Ops: listen(), Transport: nowhere{}, OpenStore: func(context.Context) (collector.Store, error) { return s, nil },
	})
	if err != nil {
		b.Fatal(err)
	}
	conn, err := grpc.NewClient("passthrough:///"+feed.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	x := exposerConfig(feed.Addr().String())
	x.BackfillMaxHours = 24 * (h.days + 1)
	e, err := exposer.New(x, exposer.Deps{Conn: conn, Data: data, Ops: listen()})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- e.Run(ctx) }()
	go func() { ended <- c.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, <-ended, conn.Close()); err != nil {
			b.Errorf("end: %v", err)
		}
	})
	url := "http://" + data.Addr().String()
	testkit.Eventually(b, func() error {
		resp, err := http.Get(url + "/metrics")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("the exposer answers %s", resp.Status)
		}
		return nil
	})
	end := h.end()
	return fmt.Sprintf("%s/backfill?start=%d&end=%d", url, end.Add(-time.Duration(h.days)*24*time.Hour).Unix(), end.Unix())
}

// nowhere is an upstream that nobody asks.
type nowhere struct{}

func (nowhere) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("the collector of a benchmark asks nobody")
}

// read fetches a body as it is and returns its length.
func read(b *testing.B, url string) int64 {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url, nil)
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		b.Fatalf("backfill is %s after %d bytes: %v", resp.Status, n, err)
	}
	return n
}

// watchHeap returns a function that ends the watch and returns the largest heap that it saw.
func watchHeap(b testing.TB) (peak func() uint64) {
	b.Helper()
	end, most := make(chan struct{}), make(chan uint64)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		at := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		var highest uint64
		for {
			select {
			case <-tick.C:
				metrics.Read(at)
				highest = max(highest, at[0].Value.Uint64())
			case <-end:
				most <- highest
				return
			}
		}
	}()
	return func() uint64 { close(end); return <-most }
}
