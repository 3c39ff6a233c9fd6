package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/carousel"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/cfsimtest"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/testkit"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/standalone/truth"
)

const apiToken = marked + "-token-0123456789abcdef0123456789abcdef"

// simulated is a Cloudflare in this process, in step with the machine's clock,
// as the programs are.
type simulated struct {
	*cfsim.Server
	began time.Time
	zones []truth.Zone
	url   string // of the API
}

// simulate starts a simulated Cloudflare; with a TLS configuration it speaks
// HTTPS alone.
func simulate(t *testing.T, conf *tls.Config, tokens ...cfsim.Token) *simulated {
	t.Helper()
	c := cfsim.Demo(clock.System(), 11)
	c.Tokens = append(tokens, cfsim.GoodToken(apiToken))
	// With 0.4 requests a minute a bucket may be empty, and an empty bucket is
	// believed after hours, not seconds.
	c.Zones = slices.DeleteFunc(c.Zones, func(z cfsim.Zone) bool { return z.Name == "quiet.example" })
	return simulateAs(t, conf, c)
}

// simulateAs starts a simulated Cloudflare of a configuration.
func simulateAs(t *testing.T, conf *tls.Config, c cfsim.Config) *simulated {
	t.Helper()
	s := &simulated{began: time.Now(), zones: stories(c), Server: cfsimtest.New(t, c)}
	if conf == nil {
		s.url = cfsimtest.Start(t, s.Server)
	} else {
		s.url = cfsimtest.StartTLS(t, s.Server, conf)
	}
	return s
}

// expected is what must be final by now: windows since the collector first saw
// each zone, up to half an hour and a bit before the simulator began, which is
// the longest deadline of the default datasets, and where the first answer shows
// more after them than the beginning of another.
func (s *simulated) expected(t *testing.T, api bucketv1.BucketServiceClient) (want truth.Samples, until time.Time) {
	t.Helper()
	scopes, err := api.ListScopes(t.Context(), &bucketv1.ListScopesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	from := map[string]time.Time{}
	for _, sc := range scopes.GetScopes() {
		from[sc.GetScope().GetId()] = time.Unix(sc.GetStartUnixSeconds(), 0).UTC()
	}
	zones := slices.Clone(s.zones)
	for i := range zones {
		start, seen := from[zones[i].ID]
		if !seen {
			t.Fatalf("the collector does not know zone %s", zones[i].Name)
		}
		zones[i].From = start
		zones[i].Must = start
		if zones[i].Name == "media.example" {
			zones[i].Must = s.began // in some hours of some days one of its windows is suspect, and rightly waits
		}
	}
	until = s.began.Add(-35 * time.Minute)
	want = expected(t, s.Server, zones, until)
	maps.DeleteFunc(want.Must, func(p truth.Point, _ bool) bool {
		next := p.End().Add(truth.Families[p.Family()].Size())
		return next.After(s.began.Add(-3 * time.Minute))
	})
	return want, until
}

// service is one of the two services as a process that can be started again
// with the same settings on the same addresses.
type service struct {
	*process
	t         *testing.T
	name      string
	settings  []string
	data, ops string // listeners: gRPC or HTTP, and operations
	build     string // folder of the program; empty: this tree's
}

// again starts the process anew; further settings win over those it had.
func (s *service) again(settings ...string) {
	s.t.Helper()
	s.settings = append(s.settings, settings...)
	s.process = launch(s.t, s.name, s.command("run"))
}

// command is a command of the service's program with the service's settings.
func (s *service) command(args ...string) *exec.Cmd {
	s.t.Helper()
	path := filepath.Join(s.build, s.name)
	if s.build == "" {
		path = program(s.t, s.name)
	}
	return command(s.t, path, s.settings, args...)
}

// newCollector is a collector that asks the simulator, not started yet.
func (s *simulated) newCollector(t *testing.T, settings ...string) *service {
	t.Helper()
	c := &service{t: t, name: "collector", data: address(t), ops: address(t)}
	c.settings = append([]string{
		"CF_API_TOKEN=" + apiToken, "WEIR_CLOUDFLARE_URL=" + s.url, "WEIR_INITIAL_LOOKBACK=2h", "WEIR_DRAIN=2s",
		"WEIR_COLLECTOR_LISTEN=" + c.data, "WEIR_COLLECTOR_OPS_LISTEN=" + c.ops, "WEIR_COLLECTOR_NAME=collector-0",
		"WEIR_SQLITE_FILE=" + filepath.Join(t.TempDir(), "weir.db"),
	}, settings...)
	return c
}

// startCollector starts a collector and waits until it answers.
func (s *simulated) startCollector(t *testing.T, settings ...string) *service {
	t.Helper()
	c := s.newCollector(t, settings...)
	c.again()
	c.ready()
	return c
}

// startExposerBinary starts an exposer that follows these collectors.
func startExposerBinary(t *testing.T, settings []string, collectors ...*service) *service {
	t.Helper()
	x := newExposer(t, settings, collectors...)
	x.again()
	return x
}

// newExposer is an exposer that follows these collectors, not started yet.
func newExposer(t *testing.T, settings []string, collectors ...*service) *service {
	t.Helper()
	x := &service{t: t, name: "exposer", data: address(t), ops: address(t)}
	var addresses []string
	for _, c := range collectors {
		addresses = append(addresses, c.data)
	}
	x.settings = append([]string{
		"WEIR_COLLECTOR_ADDRESS=" + strings.Join(addresses, ","), "WEIR_DRAIN=100ms",
		"WEIR_EXPOSER_LISTEN=" + x.data, "WEIR_EXPOSER_OPS_LISTEN=" + x.ops,
	}, settings...)
	return x
}

// ready waits until the operations listener says that the service is.
func (s *service) ready() {
	s.t.Helper()
	testkit.Eventually(s.t, func() error {
		if err := s.running(); err != nil {
			return err
		}
		_, err := page("http://" + s.ops + "/-/ready")
		return err
	})
}

// unready waits until the operations listener says why the service is not ready.
func (s *service) unready(why string) {
	s.t.Helper()
	testkit.Eventually(s.t, func() error {
		if err := s.running(); err != nil {
			return err
		}
		r, err := http.Get("http://" + s.ops + "/-/ready")
		if err != nil {
			return err
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err == nil && (r.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), why)) {
			err = fmt.Errorf("readiness is %d, %s; want 503 with %q", r.StatusCode, body, why)
		}
		return err
	})
}

// metric is the sum of the series of the service's own metrics whose lines
// begin with prefix.
func (s *service) metric(prefix string) float64 {
	s.t.Helper()
	_, _, body := get(s.t, "http://"+s.ops+"/metrics")
	sum := 0.0
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, prefix) {
			v, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]), 64)
			if err != nil {
				s.t.Fatalf("own metrics: %q: %v", line, err)
			}
			sum += v
		}
	}
	return sum
}

// page is the body of a page that is there.
func page(url string) (string, error) {
	response, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("GET %s: %s: %s", url, response.Status, strings.TrimSpace(string(body)))
	}
	return string(body), nil
}

// api connects to a collector. It finds a restarted one soon.
func api(t *testing.T, c *service) (bucketv1.BucketServiceClient, *grpc.ClientConn) {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+c.data, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond}, MinConnectTimeout: time.Second,
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // nothing to learn from it
	return bucketv1.NewBucketServiceClient(conn), conn
}

// watchUntil reads a watch until done says so, and returns the error that ended it
// before.
func watchUntil(t *testing.T, c *service, request *bucketv1.WatchBucketsRequest, done func(*bucketv1.WatchBucketsResponse) bool) error {
	t.Helper()
	rpc, _ := api(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	defer cancel()
	stream, err := rpc.WatchBuckets(ctx, request)
	for err == nil {
		var m *bucketv1.WatchBucketsResponse
		if m, err = stream.Recv(); err == nil && done(m) {
			return nil
		}
	}
	return err
}

// snapshot reads the snapshot of some datasets, or of all, as far back as asked (0:
// definitions alone), and returns its entries and where it stands.
func snapshot(t *testing.T, c *service, age time.Duration, datasets ...string) (entries []*bucketv1.Entry, at *bucketv1.ResumePoint) {
	t.Helper()
	request := &bucketv1.SnapshotRequest{}
	if age > 0 {
		request.MaxAge = durationpb.New(age)
	}
	err := watchUntil(t, c, &bucketv1.WatchBucketsRequest{
		Filter: &bucketv1.Filter{Datasets: datasets},
		Start:  &bucketv1.WatchBucketsRequest_Snapshot{Snapshot: request},
	}, func(m *bucketv1.WatchBucketsResponse) bool {
		if e := m.GetEntry(); e != nil {
			entries = append(entries, e)
		}
		at = m.GetSnapshotEnd().GetPoint()
		return at != nil
	})
	if err != nil {
		t.Fatalf("snapshot of %s: %v", c.data, err)
	}
	return entries, at
}

// positionOf is where an entry stands in the log that a point is of.
func positionOf(e *bucketv1.Entry, of *bucketv1.ResumePoint) *bucketv1.ResumePoint {
	return &bucketv1.ResumePoint{StoreId: of.GetStoreId(), Revision: e.GetRevision(), Chain: e.GetChain()}
}

var sampleLine = regexp.MustCompile(`^([a-z_:]+)\{(.*)\} ([0-9.e+]+) ([0-9]+)$`)

// samples reads Weir's samples from a page in Prometheus's text format.
func samples(url string) (map[truth.Point]float64, error) {
	body, err := page(url)
	if err != nil {
		return nil, err
	}
	return samplesOf(url, body)
}

// samplesOf reads them from a body that has arrived.
func samplesOf(url, body string) (map[truth.Point]float64, error) {
	out := map[truth.Point]float64{}
	for line := range strings.Lines(body) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			continue
		}
		m := sampleLine.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("%s has a line that is no sample with a timestamp: %s", url, line)
		}
		f, known := truth.Families[m[1]]
		if !known {
			return nil, fmt.Errorf("%s has a family that nothing is known of: %s", url, m[1])
		}
		labels := map[string]string{}
		for pair := range strings.SplitSeq(m[2], `",`) { // no name in the simulator has a quote
			name, value, _ := strings.Cut(strings.TrimSuffix(pair, `"`), `="`)
			labels[name] = value
		}
		value, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			return nil, err
		}
		at, err := strconv.ParseInt(m[4], 10, 64)
		if err != nil {
			return nil, err
		}
		p := truth.Of(m[1], labels["zone"], labels["account"], labels[f.Label], time.UnixMilli(at+1))
		if _, twice := out[p]; twice {
			return nil, fmt.Errorf("%s has %s twice", url, p)
		}
		out[p] = value
	}
	return out, nil
}

// history is the address of everything that the exposer can serve of the last
// two days.
func (s *service) history() string {
	return "http://" + s.data + "/backfill?format=text&hours=48"
}

// showsTruth waits until the exposer has everything that must be final, and compares
// /backfill with what happened and /metrics with /backfill.
func (s *simulated) showsTruth(t *testing.T, c, x *service) {
	t.Helper()
	x.ready()
	client, _ := api(t, c)
	testkit.Eventually(t, func() error {
		scopes, err := client.ListScopes(t.Context(), &bucketv1.ListScopesRequest{})
		if err != nil {
			return err
		}
		if len(scopes.GetScopes()) == 0 {
			return errors.New("the collector has not listed the zones yet")
		}
		return nil
	})
	want, until := s.expected(t, client)
	var got map[truth.Point]float64
	read := uint64(0)
	testkit.Eventually(t, func() error {
		revision, err := x.shows()
		if err != nil {
			return err
		}
		if got == nil || revision != read { // a day's history is not read ten times a second
			if got, err = samples(x.history()); err != nil {
				return err
			}
			read = revision
		}
		return lacks(got, want)
	})
	compare(t, got, want, until)
	if x.build == "" { // an earlier build may have another rule
		x.replays(t, c)
	}
}

// replays waits until /metrics shows of the exposer's history what the carousel says: the
// newest windows of each dataset and, since it is asked for, the page in turn.
func (s *service) replays(t *testing.T, c *service) {
	t.Helper()
	definitions, _ := snapshot(t, c, 0)
	url := "http://" + s.data + "/metrics?round=5m"
	testkit.Eventually(t, func() error {
		status, before, body, err := fetch(url)
		if err != nil || status != http.StatusOK {
			return fmt.Errorf("%s is %d: %w", url, status, err)
		}
		if n := before.Get("X-Weir-Pages-Missing"); n != "" {
			return fmt.Errorf("%s lacks %s pages", url, n)
		}
		history, err := samples(s.history())
		if err != nil {
			return err
		}
		got, err := samplesOf(url, string(body))
		if err != nil {
			return err
		}
		_, after, _, err := fetch(url)
		if err != nil || position(before) != position(after) {
			return fmt.Errorf("%s went from %s to %s meanwhile: %w", url, position(before), position(after), err)
		}
		turn, err := strconv.ParseInt(before.Get("X-Weir-Turn"), 10, 64)
		if err != nil {
			return err
		}
		want := s.shown(history, definitions, turn)
		for p, v := range want {
			if shown, there := got[p]; !there || shown != v {
				return fmt.Errorf("%s shows %s as %v (there: %t), want %v", url, p, shown, there, v)
			}
		}
		for p := range got {
			if _, there := want[p]; !there {
				return fmt.Errorf("%s shows %s, which is neither new nor in turn", url, p)
			}
		}
		return nil
	})
}

// position is which view a page of /metrics is of.
func position(h http.Header) string {
	return "revision " + h.Get("X-Weir-Revision") + ", turn " + h.Get("X-Weir-Turn")
}

// shown is the part of a history that is shown now.
func (s *service) shown(history map[truth.Point]float64, definitions []*bucketv1.Entry, turn int64) map[truth.Point]float64 {
	now, age := time.Now(), 24*time.Hour
	for _, setting := range s.settings {
		if hours, found := strings.CutPrefix(setting, "CF_METRICS_REPLAY_HOURS="); found {
			n, _ := strconv.Atoi(hours) // the exposer has read it
			age = time.Duration(n) * time.Hour
		}
	}
	rules, newest := map[string]carousel.Schedule{}, map[string]bucket.Time{}
	for _, e := range definitions {
		if d := e.GetDatasetVersion(); d != nil {
			rules[d.GetDataset()] = carousel.New(time.Duration(d.GetSizeSeconds())*time.Second, age, int(d.GetReplayDepth()))
		}
	}
	for p := range history {
		f := truth.Families[p.Family()]
		newest[f.Dataset] = max(newest[f.Dataset], bucket.TimeOf(p.End()).Add(-f.Size()))
	}
	out := map[truth.Point]float64{}
	for p, v := range history {
		f := truth.Families[p.Family()]
		rule, start := rules[f.Dataset], bucket.TimeOf(p.End()).Add(-f.Size())
		isNew := start > newest[f.Dataset].Add(-time.Duration(rule.Newest)*f.Size()) && (f.Size() < carousel.Long || now.Sub(p.End()) < carousel.Young)
		inTurn := rule.Pages > 0 && rule.PageOf(start) == rule.InTurn(turn)
		if now.Sub(p.End()) < age && (isNew || inTurn) {
			out[p] = v
		}
	}
	return out
}
