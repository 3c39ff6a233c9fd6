package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/internal/wire"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/collector/collectortest"
)

// archive is a store with some days of history, served by a collector, and what its
// samples are, computed here and not by Weir.
type archive struct {
	t          *testing.T
	start, end time.Time // whole days
	address    string    // of the collector, or of several
	settings   []string  // further ones of the commands
	truth      map[string]map[int64]float64
	adds       []string // labels that the receiver adds to each series
	entries    int      // of the log
}

// The labels of the scrape job in these tests.
const archiveJob, archiveInstance = "weir", "weir.example:9810"

var archiveZones = []string{"shop.example", "blog.example", "docs.example"}

// newArchive stores the days that end at the last midnight UTC.
func newArchive(t *testing.T, days int) *archive {
	t.Helper()
	// What is younger than half a day may still come by itself, and is pending to a verify.
	end := time.Now().UTC().Add(-14 * time.Hour).Truncate(24 * time.Hour)
	a := &archive{t: t, start: end.AddDate(0, 0, -days), end: end, truth: map[string]map[int64]float64{}}
	var config collector.Config
	cli.Defaults(config.Settings())
	config.Token, config.Simulated = cli.NewSecret("none"), true
	config.SQLiteFile = filepath.Join(t.TempDir(), "weir.db")
	s, err := collector.OpenStore(t.Context(), config, collector.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	a.fill(s)
	if _, err := s.Acquire(t.Context(), "test", 2*time.Hour); err != nil { // the collector never leads
		t.Fatal(err)
	}
	feed, ops := testkit.Listen(t), testkit.Listen(t)
	c, err := collector.New(t.Context(), config, collector.Deps{
		GRPC: feed, Ops: ops, Transport: nowhere{}, OpenStore: func(context.Context) (collector.Store, error) { return s, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	a.address = feed.Addr().(*net.TCPAddr).String()
	startActor(t, "collector", c.Run)
	return a
}

func (a *archive) fill(s collector.Store) {
	a.t.Helper()
	interval := bucket.Family{Name: "cloudflare_sample_interval", Help: "Sample interval.", Labels: []string{"dataset"}, Role: bucket.Breakdown}
	http := &bucket.Definition{Dataset: "http_5m", Version: 1, ScopeKind: bucket.Zone, Size: 5 * time.Minute, Delay: 5 * time.Minute, Depth: 30, Description: "HTTP traffic.", Families: []bucket.Family{
		{Name: "cloudflare_zone_requests", Help: "Requests.", Role: bucket.Total, Additive: true},
		{Name: "cloudflare_zone_bytes", Help: "Bytes.", Unit: "bytes", Role: bucket.Total, Additive: true},
		{Name: "cloudflare_zone_requests_by_status", Help: "Requests by status.", Labels: []string{"status"}, Role: bucket.Breakdown, Additive: true},
		interval,
	}}
	uniques := &bucket.Definition{Dataset: "uniques_1h", Version: 1, ScopeKind: bucket.Zone, Size: time.Hour, Delay: time.Hour, Depth: 30, Description: "Visitors.", Families: []bucket.Family{
		{Name: "cloudflare_zone_unique_visitors", Help: "Visitors.", Role: bucket.Total}, interval,
	}}
	var records []collectortest.Record
	for i, name := range archiveZones {
		records = append(records, collectortest.Zone(fmt.Sprintf("%032x", i+1), name, strings.Repeat("a", 32), `Acme "1"`, bucket.TimeOf(a.start)))
	}
	var entries []collectortest.NewEntry
	for _, d := range []*bucket.Definition{http, uniques} {
		entries = append(entries, collectortest.NewEntry{Kind: bucket.KindDatasetVersion, Key: bucket.Key{Dataset: d.Dataset}, Payload: wire.EncodeDefinition(d)})
	}
	n := 0
	for _, d := range []*bucket.Definition{http, uniques} {
		for start := bucket.TimeOf(a.start); start < bucket.TimeOf(a.end); start = start.Add(d.Size) {
			for i, zone := range archiveZones {
				n++
				b := &bucket.Bucket{
					Key:  bucket.Key{Dataset: d.Dataset, Scope: bucket.Scope{Kind: bucket.Zone, ID: fmt.Sprintf("%032x", i+1)}, Start: start},
					Size: d.Size, Version: 1, Zone: zone, Account: `Acme "1"`, Finality: bucket.Confirmed, Origin: bucket.Live, Variant: "rollup", SampleInterval: 1, ReadAt: start.Add(d.Size + d.Delay),
				}
				add := func(family, label string, labels []string, values ...float64) {
					b.Families = append(b.Families, bucket.Rows{Family: family, Labels: labels, Values: values})
					for j, v := range values {
						extra := ""
						if label != "" {
							extra = labels[j]
						}
						a.add(family, zone, label, extra, b.Window().End, v)
					}
				}
				v := float64((n*7919)%100_000) / 3
				if d == http {
					add("cloudflare_zone_requests", "", nil, v)
					add("cloudflare_zone_bytes", "", nil, v*8192)
					by := []string{"200", "304", "404"}[:1+n%3]
					add("cloudflare_zone_requests_by_status", "status", by, []float64{v, 0, 1e-9}[:len(by)]...)
				} else {
					add("cloudflare_zone_unique_visitors", "", nil, v)
				}
				add("cloudflare_sample_interval", "dataset", []string{d.Dataset}, 1+float64(n%2)*9)
				payload, err := wire.Seal(b, d)
				if err != nil {
					a.t.Fatal(err)
				}
				entries = append(entries, collectortest.NewEntry{
					Kind: bucket.KindBucket, Key: b.Key, End: b.Window().End, Finality: b.Finality, Origin: b.Origin, Variant: b.Variant, Rows: b.Len(), SampleInterval: 1, Payload: payload,
				})
			}
		}
	}
	a.entries = len(entries)
	for part := range slices.Chunk(entries, 1000) {
		if err := collectortest.Write(a.t.Context(), s, part, records); err != nil {
			a.t.Fatal(err)
		}
		records = nil
	}
}

func (a *archive) add(family, zone, label, value string, end bucket.Time, v float64) {
	series := family + `{account="Acme \"1\"",`
	if label == "dataset" {
		series += fmt.Sprintf("dataset=%q,", value)
	}
	series += fmt.Sprintf("instance=%q,job=%q,", archiveInstance, archiveJob)
	if label == "status" {
		series += fmt.Sprintf("status=%q,", value)
	}
	series += fmt.Sprintf("zone=%q}", zone)
	if a.truth[series] == nil {
		a.truth[series] = map[int64]float64{}
	}
	a.truth[series][int64(end)*1000-1] = v
}

// keep says which samples a Prometheus has at first.
type keep func(series string, at int64) bool

// without leaves out what is in the hole.
func without(start, end time.Time) keep {
	return func(_ string, at int64) bool { return at < start.UnixMilli() || at >= end.UnixMilli() }
}

// openMetrics is the part of the truth that is kept.
func (a *archive) openMetrics(kept keep) []byte {
	var b bytes.Buffer
	for _, series := range sortedKeys(a.truth) {
		samples := a.truth[series]
		for _, at := range sortedKeys(samples) {
			if kept(series, at) {
				fmt.Fprintf(&b, "%s %s %d.%03d\n", series, strconv.FormatFloat(samples[at], 'g', -1, 64), at/1000, at%1000)
			}
		}
	}
	b.WriteString("# EOF\n")
	return b.Bytes()
}

func sortedKeys[K interface{ ~string | ~int64 }, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// prometheus starts one that has the part of the truth that is kept, and that scrapes
// itself, so that its head is at now.
func (a *archive) prometheus(tools promtest.Tools, window time.Duration, kept keep) *promtest.Server {
	a.t.Helper()
	config := fmt.Sprintf(`storage: {tsdb: {out_of_order_time_window: %ds}}
scrape_configs: [{job_name: self, scrape_interval: 1s, static_configs: [{targets: ["SELF"]}]}]
`, int(window.Seconds()))
	p := tools.Start(a.t, strings.ReplaceAll(config, "SELF", "127.0.0.1:1"), "--storage.tsdb.retention.time=90d", "--web.enable-remote-write-receiver")
	p.Stop()
	file := filepath.Join(a.t.TempDir(), "truth.om")
	testkit.WriteFile(a.t, file, a.openMetrics(kept))
	if _, _, err := tools.Run("tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=24h", file, p.DataDir()); err != nil {
		a.t.Fatal(err)
	}
	p.Start()
	p.Reload(strings.ReplaceAll(config, "SELF", strings.TrimPrefix(p.URL(), "http://")))
	testkit.Eventually(a.t, func() error {
		if p.Own("prometheus_tsdb_head_series") == 0 || len(p.Query("up", time.Now())) == 0 {
			return constError("Prometheus has not scraped itself yet")
		}
		return nil
	})
	return p
}

// holdsTruth compares what a server holds with the truth, sample by sample, with the
// precision of the server.
func (a *archive) holdsTruth(p *promtest.Server, precision float64) error {
	got := map[string]map[int64]float64{}
	n := 0
	for _, s := range p.Samples(`{__name__=~"cloudflare_.*"}`, a.start.Add(-time.Millisecond), a.end) {
		series := map[int64]float64{}
		for _, x := range s.Samples {
			series[x.Time.UnixMilli()] = x.Value
			n++
		}
		for _, name := range a.adds {
			delete(s.Labels, name)
		}
		got[s.Name()] = series
	}
	for series, samples := range a.truth {
		for at, v := range samples {
			if have, there := got[series][at]; !there || math.Abs(have-v) > precision*math.Abs(v) {
				return fmt.Errorf("%s at %s is %v (%v), want %v", series, time.UnixMilli(at).UTC(), have, there, v)
			}
			n--
		}
	}
	if n != 0 {
		return fmt.Errorf("%d samples more than the truth has", n)
	}
	return nil
}

func (a *archive) size() (n int64) {
	for _, samples := range a.truth {
		n += int64(len(samples))
	}
	return n
}

// weir runs "weir backfill …" and returns its exit code and output.
func (a *archive) weir(prom *promtest.Server, args ...string) (int, string, string) {
	a.t.Helper()
	return a.run(prom, append([]string{"backfill"}, args...)...)
}

// environment is what the commands find the collectors and a Prometheus with.
func (a *archive) environment(prom *promtest.Server) []string {
	env := append([]string{"WEIR_COLLECTOR_ADDRESS=" + a.address}, a.settings...)
	if prom != nil {
		env = append(env, "WEIR_PROMETHEUS_URL="+prom.URL())
		for name := range prom.Header() {
			env = append(env, "WEIR_PROMETHEUS_HEADERS="+name+": "+prom.Header().Get(name))
		}
	}
	return env
}

// run runs "weir …" to its end.
func (a *archive) run(prom *promtest.Server, args ...string) (int, string, string) {
	a.t.Helper()
	cmd := command(a.t, program(a.t, "weir"), a.environment(prom), args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	ended := make(chan error)
	spawner() <- func() {
		go func(err error) { ended <- errors.Join(err, wait(cmd.Process != nil, cmd.Wait)) }(cmd.Start())
	}
	<-ended
	a.t.Logf("weir %s: exit code %d\n%s%s", strings.Join(args, " "), cmd.ProcessState.ExitCode(), errs.String(), out.String())
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func wait(started bool, f func() error) error {
	if !started {
		return nil
	}
	return f()
}

// verified is the report of "weir backfill verify".
type verified struct {
	Store     int64            `json:"samples_in_store"`
	Equal     int64            `json:"samples_equal"`
	Pending   int64            `json:"samples_pending"`
	Differing map[string]int64 `json:"samples_differing"`
	Unserved  int64            `json:"samples_unserved"`
	NotStored int64            `json:"windows_not_stored"`
	Notes     []string         `json:"notes"`
	Ranges    []struct {
		Kind, Dataset, Zone, Example string
		Start, End                   time.Time
		Windows, Samples             int64
	} `json:"ranges"`
}

// verify runs it and returns its report.
func (a *archive) verify(prom *promtest.Server, want int, more ...string) (r verified) {
	a.t.Helper()
	args := append([]string{"verify", "--start", a.start.Format(time.RFC3339), "--end", a.end.Format(time.RFC3339), "--output", "json"}, more...)
	code, out, _ := a.weir(prom, args...)
	if code != want {
		a.t.Fatalf("weir backfill verify exits with %d, want %d", code, want)
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil && want != 2 {
		a.t.Fatal(err)
	}
	return r
}

// refusing is a receiver that answers 400 to each request with a series that has the
// text, and passes all others on.
func refusing(t *testing.T, target string, text []byte) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		plain, err := snappy.Decode(nil, body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		if bytes.Contains(plain, text) {
			http.Error(w, "no such tenant", http.StatusBadRequest)
			return
		}
		out, err := http.NewRequestWithContext(r.Context(), r.Method, target+r.URL.Path, bytes.NewReader(body))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		out.Header = r.Header.Clone()
		response, err := http.DefaultClient.Do(out)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer response.Body.Close()
		w.WriteHeader(response.StatusCode)
		_, _ = io.Copy(w, response.Body)
	}))
	t.Cleanup(server.Close)
	return server.URL
}
