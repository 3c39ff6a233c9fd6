package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
)

// finding is what "weir doctor --output json" says about one check.
type finding struct {
	Check, About, Status, Found, Means, Fix string
}

// verdict is its whole answer.
type verdict struct {
	outcome
	Findings, Questions []finding
}

// of are the checks with a status.
func (v verdict) of(status string) (list []string) {
	for _, f := range slices.Concat(v.Findings, v.Questions) {
		if f.Status == status && !slices.Contains(list, f.Check) {
			list = append(list, f.Check)
		}
	}
	return list
}

// text is what was found by a check.
func (v verdict) text(check string) (text string) {
	for _, f := range slices.Concat(v.Findings, v.Questions) {
		if f.Check == check {
			text += f.Found + "\n"
		}
	}
	return text
}

// examine runs the doctor as a program.
func examine(t *testing.T, settings []string, args ...string) (v verdict) {
	t.Helper()
	v.outcome = complete(t, command(t, program(t, "weir"), settings, append([]string{"doctor", "--output", "json"}, args...)...))
	if err := json.Unmarshal([]byte(v.stdout), &v); err != nil {
		t.Fatalf("the report is not JSON: %v\n%s%s", err, v.stdout, v.stderr)
	}
	want := 0
	if len(v.of("fail")) > 0 {
		want = 1
	}
	if v.code != want {
		t.Errorf("exit code %d with failures %v, want %d", v.code, v.of("fail"), want)
	}
	return v
}

// doctorToken is another than the collector's, so that faults of it are not the
// collector's too.
const doctorToken = marked + "-doctor-0123456789abcdef0123456789abcdef"

// aged is a token that expires after a time.
func aged(name string, left time.Duration) cfsim.Token {
	k := cfsim.GoodToken(doctorToken + "-" + name)
	k.ExpiresOn = time.Now().Add(left)
	return k
}

// clinic is an installation of the shipped programs, and a Prometheus with the shipped
// configuration.
type clinic struct {
	t          *testing.T
	sim        *simulated
	server     *pgtest.Server
	admin, dsn string // as the owner, as the collector's role
	collector  *service
	exposers   []*service
	prometheus *promtest.Server
	config     string // of Prometheus
	settings   []string
}

func newClinic(t *testing.T) *clinic {
	t.Helper()
	c := &clinic{t: t, sim: simulate(t, nil, cfsim.GoodToken(doctorToken), aged("expired", -time.Hour), aged("expiring", 72*time.Hour), cfsim.GoodToken(restricted)), server: pgtest.Start(t, "fsync=on", "full_page_writes=on", "synchronous_commit=on")}
	c.admin = c.server.DSN()
	pgtest.Exec(t, c.admin, `CREATE ROLE weir LOGIN`)
	u, err := url.Parse(c.admin)
	if err != nil {
		t.Fatal(err)
	}
	if o := complete(t, command(t, program(t, "collector"), []string{"WEIR_DATABASE_URL=" + c.admin}, "migrate", "--grant-writer", "weir")); o.code != 0 {
		t.Fatal(o.stderr)
	}
	u.User = url.User("weir")
	c.dsn = withPassword(t, u.String())
	c.collector = c.sim.startCollector(t, "WEIR_DATABASE_URL="+c.dsn, "WEIR_GRPC_ADMIN_TOKEN="+adminToken)
	for range 2 {
		x := startExposerBinary(t, nil, c.collector)
		x.ready()
		c.exposers = append(c.exposers, x)
	}
	testkit.Eventually(t, func() error {
		if n := c.collector.metric("weir_collector_gap_windows"); n > 0 || c.collector.metric("weir_collector_buckets_total") == 0 {
			return fmt.Errorf("%v windows are missing", n)
		}
		// Linux knows the start of a process to a second.
		if pgtest.Exec(t, c.admin, "SELECT 1 FROM bucket WHERE committed_at < now() - interval '2 s' LIMIT 1") == "" {
			return constError("nothing was committed two seconds ago")
		}
		return nil
	})
	grown(t)
	c.collector.stop() // data that survives it
	c.collector.again()
	c.collector.ready()
	targets := func(list ...string) string { return `["` + strings.Join(list, `", "`) + `"]` }
	c.config = strings.NewReplacer(
		`["127.0.0.1:9810"]`, targets(c.exposers[0].data, c.exposers[1].data),
		`["127.0.0.1:9811", "127.0.0.1:9821"]`, targets(c.exposers[0].ops, c.exposers[1].ops, c.collector.ops),
		"scrape_interval: 1m", "scrape_interval: 1s", "scrape_timeout: 30s", "scrape_timeout: 1s",
	).Replace(string(testkit.RepoFile(t, "deploy/prometheus/prometheus.yml")))
	c.prometheus = promtest.Start(t, "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"+c.config)
	c.config = "global: {scrape_interval: 1s, scrape_timeout: 1s}\n" + strings.ReplaceAll(c.config, "127.0.0.1:9090", strings.TrimPrefix(c.prometheus.URL(), "http://"))
	c.prometheus.Reload(c.config)
	c.settings = []string{
		"CF_API_TOKEN=" + doctorToken, "WEIR_CLOUDFLARE_URL=" + c.sim.url, "WEIR_DATABASE_URL=" + c.dsn, "WEIR_STORE_CAPACITY=100000000000",
		"WEIR_COLLECTOR_ADDRESS=" + c.collector.data, "WEIR_COLLECTOR_TOKEN=" + adminToken, "WEIR_EXPOSER_URLS=http://" + c.exposers[0].data + ",http://" + c.exposers[1].data,
		"WEIR_OPERATIONS_URLS=http://" + c.collector.ops, "WEIR_PROMETHEUS_URL=" + c.prometheus.URL(),
	}
	return c
}

// grown waits until what was stored just now is older than a process that starts now: when a
// process started is known to the second.
func grown(t *testing.T) {
	t.Helper()
	stored := time.Now()
	testkit.Eventually(t, func() error {
		if age := time.Since(stored); age < 3*time.Second {
			return fmt.Errorf("the first entries are %s old", age)
		}
		return nil
	})
}

// becomes waits until the failed checks are these. One with a question mark may fail too: an
// import without an out-of-order window is refused only if Prometheus lacks samples, and it
// has all of the range if their page was in turn.
func (c *clinic) becomes(failed ...string) (v verdict) {
	c.t.Helper()
	var must, may []string
	for _, f := range failed {
		name, optional := strings.CutPrefix(f, "?")
		if may = append(may, name); !optional {
			must = append(must, name)
		}
	}
	slices.Sort(must)
	slices.Sort(may)
	testkit.Eventually(c.t, func() error {
		v = examine(c.t, c.settings)
		got := v.of("fail")
		if slices.Sort(got); !slices.Equal(got, must) && !slices.Equal(got, may) {
			text := ""
			for _, f := range got {
				text += f + ": " + v.text(f)
			}
			return fmt.Errorf("failed are %v, want %v\n%s", got, failed, text)
		}
		return nil
	})
	return v
}

// warns waits until a check warns and says so, while none fails.
func (c *clinic) warns(check, says string) {
	c.t.Helper()
	testkit.Eventually(c.t, func() error {
		v := examine(c.t, c.settings)
		if failed := v.of("fail"); len(failed) > 0 || !slices.Contains(v.of("warn"), check) || !strings.Contains(v.text(check), says) {
			return fmt.Errorf("failed are %v; %s says %q, want a warning with %q", failed, check, v.text(check), says)
		}
		return nil
	})
}

// An installation of the shipped programs passes every check, and what breaks in it is
// named, by the real programs.
func TestBinaryDoctor(t *testing.T) {
	t.Parallel()
	c := newClinic(t)
	var v verdict
	testkit.Eventually(t, func() error { // a loaded machine collects slowly
		v = c.becomes()
		if warned := v.of("warn"); !slices.Equal(warned, []string{"store.replication"}) { // the test has one server
			text := ""
			for _, w := range warned {
				text += w + ": " + v.text(w)
			}
			return fmt.Errorf("warnings are\n%s", text)
		}
		return nil
	})
	if left := v.of("skipped"); len(left) > 0 {
		t.Errorf("skipped are %v", left)
	}
	for check, text := range map[string]string{
		"cloudflare.permissions": "analytics may be read", "delayed_collection": "after the end of its window", "durability": "the process that collects started",
		"replay_bounded": "takes samples up to 30h old", "panels_fed": "expressions of Weir's dashboard run", "backfill_path": "are equal in Prometheus",
	} {
		if !strings.Contains(v.text(check), text) {
			t.Errorf("%s says %q, want the evidence %q", check, v.text(check), text)
		}
	}
	// Its one query has a permit of the collector's budget (G7); the rest is REST.
	if n := pgtest.Exec(t, c.admin, `SELECT sum(n) FROM permit_view WHERE holder = 'doctor'`); strings.TrimSpace(n) == "" {
		t.Error("no permit was reserved")
	}
	before := verifications(c.sim)
	examine(t, c.settings)
	if n := verifications(c.sim) - before; n != 1 {
		t.Errorf("one run verified the token %d times", n)
	}

	faults := c.faults()
	if !testkit.All() {
		faults = faults[:7]
	} else {
		abandoned := c.abandoned() // examined at the end, since it takes minutes to be old
		faults = slices.Concat(c.apart(), faults, []realFault{abandoned})
		for _, f := range append(c.warnings(), c.hints()...) {
			t.Logf("warning: %s", f.name)
			f.breaks()
			c.warns(f.failed[0], f.says)
			f.mends()
		}
	}
	for _, f := range faults {
		t.Logf("fault: %s", f.name)
		f.breaks()
		if v := c.becomes(f.failed...); !strings.Contains(v.text(f.failed[0]), f.says) {
			t.Errorf("%s: %s says %q, want %q", f.name, f.failed[0], v.text(f.failed[0]), f.says)
		}
		if f.mends != nil {
			f.mends()
		}
	}
}

// The same installation with the other receivers that the documents name.
func TestBinaryDoctorOfOthers(t *testing.T) {
	testkit.InAll(t)
	t.Parallel()
	c := newClinic(t)
	t.Run("Debian's Prometheus", func(t *testing.T) {
		c.t = t
		c.older(promtest.Debian(t))
	})
	t.Run("the oldest Prometheus", func(t *testing.T) {
		c.t = t
		c.older(promtest.Oldest(t))
	})
	t.Run("a Prometheus that is too old", func(t *testing.T) {
		c.t = t
		c.tooOld(promtest.TooOld(t))
	})
	t.Run("VictoriaMetrics", func(t *testing.T) {
		c.t = t
		c.victoria(promtest.FindVictoria(t))
	})
	t.Run("Debian's VictoriaMetrics", func(t *testing.T) {
		c.t = t
		c.victoria(promtest.DebianVictoria(t))
	})
}

// older is an older Prometheus with the shipped configuration, and without its window.
func (c *clinic) older(tools promtest.Tools) {
	kept := c.settings
	defer func() { c.settings = kept }()
	p := tools.Start(c.t, c.config)
	c.settings = append(slices.Clone(kept), "WEIR_PROMETHEUS_URL="+p.URL())
	v := c.passes("prometheus.version", "prometheus.target", "prometheus.out_of_order_window", "prometheus.honor_timestamps", "prometheus.limits", "replay_bounded", "panels_fed", "backfill_path")
	if text := v.text("prometheus.version"); !strings.Contains(text, "Prometheus "+tools.Version) {
		c.t.Errorf("the version is %q, want %s", text, tools.Version)
	}
	p.Reload(strings.Replace(c.config, "out_of_order_time_window: 30h", "out_of_order_time_window: 0s", 1))
	c.becomes("prometheus.out_of_order_window", "replay_bounded", "?backfill_path")
}

// passes waits until nothing fails and these checks pass.
func (c *clinic) passes(checks ...string) (v verdict) {
	c.t.Helper()
	testkit.Eventually(c.t, func() error {
		v = examine(c.t, c.settings)
		for _, check := range append(checks, v.of("fail")...) {
			if !slices.Contains(v.of("pass"), check) || slices.Contains(v.of("fail"), check) {
				return fmt.Errorf("%s is not passed: %s", check, v.text(check))
			}
		}
		return nil
	})
	return v
}

// victoria is a VictoriaMetrics with the shipped flags, then one without deduplication.
func (c *clinic) victoria(program promtest.Victoria) {
	t := c.t
	config, flags := promtest.ShippedVictoria(t)
	config = strings.NewReplacer(
		"127.0.0.1:9810", c.exposers[0].data, `"127.0.0.1:9811", "127.0.0.1:9821"`, fmt.Sprintf("%q, %q", c.exposers[0].ops, c.collector.ops),
		"scrape_interval: 1m", "scrape_interval: 1s", "scrape_timeout: 30s", "scrape_timeout: 1s",
	).Replace("global: {scrape_interval: 1s}\n" + config)
	kept := c.settings
	defer func() { c.settings = kept }()
	v := program.Start(t, config, flags...)
	c.settings = append(slices.Clone(kept), "WEIR_PROMETHEUS_URL="+v.URL())
	// Samples can be searched half a minute after a scrape.
	c.passes("prometheus.deduplication", "prometheus.honor_timestamps", "prometheus.stale_markers", "prometheus.limits", "replay_bounded", "panels_fed", "backfill_path")
	v.Stop()
	flags = slices.DeleteFunc(flags, func(f string) bool { return strings.HasPrefix(f, "-dedup") })
	v = program.Start(t, config, flags...)
	c.settings = append(slices.Clone(kept), "WEIR_PROMETHEUS_URL="+v.URL())
	c.becomes("prometheus.deduplication", "replay_bounded", "backfill_path")
}

// login is a server that answers everything with a page.
func login(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "<!doctype html><title>Log in</title>")
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// partial is a query layer before a Prometheus that warns about each answer for which it
// asks its stores.
func partial(t *testing.T, prometheus string) string {
	t.Helper()
	to, err := url.Parse(prometheus)
	if err != nil {
		t.Fatal(err)
	}
	const whole = `{"status":"success",`
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Header.Set("Accept-Encoding", "identity") },
		ModifyResponse: func(r *http.Response) error {
			if r.Request.URL.Path != "/api/v1/query" || r.Request.URL.Query().Get("query") == "vector(1)" {
				return nil
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return err
			}
			body = bytes.Replace(body, []byte(whole), []byte(whole+`"warnings":["store 2 is down"],`), 1)
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			r.Header.Set("Content-Length", strconv.Itoa(len(body)))
			return nil
		},
	}
	s := httptest.NewServer(proxy)
	t.Cleanup(s.Close)
	return s.URL
}

func verifications(s *simulated) (n int) {
	for _, r := range s.Requests() {
		if strings.HasSuffix(r.Path, "/tokens/verify") {
			n++
		}
	}
	return n
}

type realFault struct {
	name          string
	failed        []string
	says          string // by the first of these
	breaks, mends func()
}

// reload breaks the configuration of Prometheus, and whole restores it.
func (c *clinic) reload(old, changed string) func() {
	return func() {
		if !strings.Contains(c.config, old) {
			c.t.Fatalf("the configuration has no %q", old)
		}
		c.prometheus.Reload(strings.Replace(c.config, old, changed, 1))
	}
}

func (c *clinic) whole() { c.prometheus.Reload(c.config) }

// inject breaks what Cloudflare answers to a token.
func (c *clinic) inject(token string, f cfsim.Fault) func() {
	f.Token = cfsim.GoodToken(token).ID
	return func() {
		if _, err := c.sim.Inject(f); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *clinic) sql(text string) func() { return func() { pgtest.Exec(c.t, c.admin, text) } }

// as gives the doctor settings besides those that it has by now.
func (c *clinic) as(settings ...string) func() {
	kept := slices.Clone(c.settings)
	return func() { c.settings = append(kept[:len(kept):len(kept)], settings...) }
}

// warnings are faults that cost nothing yet: the check warns, and none fails.
func (c *clinic) warnings() []realFault {
	given := c.as()
	return []realFault{
		{"token expires soon", []string{"cloudflare.token"}, "expires in 3d", c.as("CF_API_TOKEN=" + aged("expiring", 0).Secret), given},
		{"clock skew", []string{"cloudflare.clock"}, "-10m", c.inject(doctorToken, cfsim.Fault{Kind: cfsim.FaultSkew, Delay: -10 * time.Minute}), c.sim.ClearFaults},
		{"a superuser", []string{"store.role"}, "is a superuser", c.as("WEIR_DATABASE_URL=" + c.admin), given},
		{"samples were refused", []string{"prometheus.refused_samples"}, "scrapes_sample_out_of_", func() {
			c.reload("out_of_order_time_window: 30h", "out_of_order_time_window: 0s")()
			testkit.Eventually(c.t, func() error { // a scrape refuses samples later than the configuration says so
				if text := examine(c.t, c.settings).text("prometheus.refused_samples"); !strings.Contains(text, "scrapes_sample_out_of_") {
					return fmt.Errorf("prometheus.refused_samples says %q", text)
				}
				return nil
			})
			c.whole()
		}, func() {}},
	}
}

// faults are broken one after another in the living installation. Those whose traces
// stay come last.
func (c *clinic) faults() []realFault {
	t, whole, given, clear := c.t, c.whole, c.as(), c.sim.ClearFaults
	return []realFault{
		{"no out-of-order window", []string{"prometheus.out_of_order_window", "replay_bounded", "?backfill_path"}, "the window is 0s", c.reload("out_of_order_time_window: 30h", "out_of_order_time_window: 0s"), whole},
		{"token revoked", []string{"cloudflare.token"}, "Invalid API Token", c.inject(doctorToken, cfsim.Fault{Kind: cfsim.FaultTokenUnknown}), clear},
		{"commits that do not wait", []string{"store.durability", "durability"}, "synchronous_commit is off", c.sql("ALTER ROLE weir SET synchronous_commit = off"), c.sql("ALTER ROLE weir RESET synchronous_commit")},
		{"Prometheus is an HTML page", []string{"prometheus.reachable", "replay_bounded", "panels_fed"}, "HTML page", c.as("WEIR_PROMETHEUS_URL=" + login(t)), given},
		{"a wrong admin token", []string{"collector.admin", "backfill_path"}, "unknown bearer token", c.as("WEIR_COLLECTOR_TOKEN=" + marked + "-wrong"), given},
		{"Prometheus unreachable", []string{"prometheus.reachable", "replay_bounded", "panels_fed"}, "connection refused", c.as("WEIR_PROMETHEUS_URL=http://" + address(t)), given},
		{"a right is missing", []string{"store.role"}, "INSERT ON TABLE permit", c.sql("REVOKE INSERT ON permit FROM weir"), c.sql("GRANT INSERT ON permit TO weir")},

		{"permission missing", []string{"cloudflare.permissions"}, "does not have permission", c.inject(doctorToken, cfsim.Fault{Kind: cfsim.FaultPermission, Path: "/graphql"}), clear},
		{"selection unmatched", []string{"cloudflare.selection"}, "nowhere.example", c.as("CF_ZONES=shop.example,nowhere.example"), given},
		{"Cloudflare away", []string{"cloudflare.token", "cloudflare.permissions"}, "502", c.inject(doctorToken, cfsim.Fault{Kind: cfsim.FaultHTML}), clear},
		{"an operations port for a data port", []string{"exposer.ready"}, "X-Weir-Store", c.as("WEIR_EXPOSER_URLS=http://" + c.exposers[0].ops), given},
		{"a collector that does not run", []string{"collector.reachable"}, "connection refused", c.as("WEIR_COLLECTOR_ADDRESS=" + c.collector.data + "," + address(t)), given},
		{"not a collector", []string{"collector.reachable"}, "does not respond", c.as("WEIR_COLLECTOR_ADDRESS=" + c.collector.data + "," + c.exposers[0].data), given},
		{"body limit", []string{"prometheus.limits", "prometheus.target", "replay_bounded"}, "body_size_limit", c.reload("body_size_limit: 64MB", "body_size_limit: 10KB"), whole},
		{"sample limit", []string{"prometheus.limits", "prometheus.target", "replay_bounded"}, "sample_limit is 100", c.reload("body_size_limit: 64MB", "sample_limit: 100"), whole},
		{"staleness", []string{"prometheus.stale_markers", "replay_bounded"}, "track_timestamps_staleness is true", c.reload("honor_timestamps: true", "track_timestamps_staleness: true #"), whole},
		{"interval", []string{"prometheus.interval", "replay_bounded"}, "interval is 5m", c.reload("scrape_interval: 1s\n    scrape_timeout: 1s", "scrape_interval: 5m"), whole},
		{"another job", []string{"prometheus.target", "replay_bounded"}, `"other"`, c.as("WEIR_PROMETHEUS_JOB=other"), given},
		{"panels broken", []string{"panels_fed"}, "parse error", c.as("WEIR_DOCTOR_PANELS=" + c.file("panels.json", `{"panels": [{"targets": [{"expr": "sum(weir_exposer_ready"}]}]}`)), given},
		{"panels unfed", []string{"panels_fed"}, "cloudflare_nothing_total", c.as("WEIR_DOCTOR_PANELS=" + c.file("unfed.json", `{"panels": [{"targets": [{"expr": "sum(rate(cloudflare_nothing_total{zone=~\"$zone\"}[$__rate_interval]))"}]}]}`)), given},
		{"panels without data", []string{"panels_fed"}, "none of the 1 expressions", c.as("WEIR_DOCTOR_PANELS=" + c.file("empty.json", `{"panels": [{"targets": [{"expr": "sum_over_time(cloudflare_zone_requests{zone=\"nowhere\"}[2h])"}]}]}`)), given},
		{"a dead operations port", []string{"operations.reachable"}, "connection refused", c.as("WEIR_OPERATIONS_URLS=http://" + c.collector.ops + ",http://" + address(t)), given},
		{"partial answers", []string{"prometheus.duplicates", "panels_fed", "backfill_path"}, "the answer may lack samples: store 2 is down", c.as("WEIR_PROMETHEUS_URL=" + partial(t, c.prometheus.URL())), given},
		{"token expired", []string{"cloudflare.token", "cloudflare.permissions"}, "expired", c.as("CF_API_TOKEN=" + aged("expired", 0).Secret), given},
		{"no space", []string{"store.space"}, "no space is free", c.as("WEIR_STORE_CAPACITY=1"), given},
		{"an encoding", []string{"store.encoding", "store.schema"}, "LATIN1", func() {
			pgtest.Exec(t, c.admin, "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
			u, err := url.Parse(c.admin)
			if err != nil {
				t.Fatal(err)
			}
			u.Path = "/latin"
			c.as("WEIR_DATABASE_URL=" + u.String())()
		}, given},
		{"a schema of a later release", []string{"store.schema"}, "version 99", c.sql("CREATE TABLE kept AS SELECT * FROM schema; UPDATE schema SET version = 99, oldest_compatible = 99"), c.sql("UPDATE schema SET version = k.version, oldest_compatible = k.oldest_compatible FROM kept k; DROP TABLE kept")},
		{"exposers of two stores", []string{"exposer.store"}, "store ", func() {
			x := startExposerBinary(t, nil, c.sim.startCollector(t))
			x.ready()
			c.as("WEIR_EXPOSER_URLS=http://" + c.exposers[0].data + ",http://" + x.data)()
		}, given},
		{"another installation is scraped", []string{"prometheus.store", "replay_bounded", "backfill_path"}, "serves store ", func() {
			x := startExposerBinary(t, nil, c.sim.startCollector(t))
			x.ready()
			c.reload(fmt.Sprintf("[%q, %q]", c.exposers[0].data, c.exposers[1].data), fmt.Sprintf("[%q]", x.data))()
		}, whole},
		{"a budget that is short", []string{"collector.budget", "collector.problems"}, "of 3 requests", func() {
			other := c.sim.startCollector(t, "WEIR_BUDGET_SHARE=1%", "WEIR_GRPC_ADMIN_TOKEN="+adminToken)
			c.as("WEIR_COLLECTOR_ADDRESS="+other.data, "WEIR_OPERATIONS_URLS=http://"+other.ops, "WEIR_DATABASE_URL=", "WEIR_EXPOSER_URLS=", "WEIR_PROMETHEUS_URL=", "CF_API_TOKEN=")()
		}, given},
		{"nobody leads", []string{"collector.leader"}, "nobody holds the lease", func() {
			c.collector.stop()
			c.as("WEIR_COLLECTOR_ADDRESS=", "WEIR_OPERATIONS_URLS=")() // its status is computed from the store
		}, func() { c.collector.again(); c.collector.ready(); given() }},
		{"the collector is gone", []string{"collector.reachable", "operations.reachable", "backfill_path"}, "does not respond", func() { c.collector.stop() }, func() { c.collector.again(); c.collector.ready() }},
		{"Postgres away", []string{"store.reachable", "collector.reachable", "operations.ready", "durability", "backfill_path"}, "connection refused", c.server.Stop, c.server.Start},
		{"timestamps", []string{"prometheus.honor_timestamps", "replay_bounded"}, "honor_timestamps is false", c.reload("honor_timestamps: true", "honor_timestamps: false"), whole},
		{"two series", []string{"prometheus.duplicates", "backfill_path"}, "instance=", c.reload("      - {target_label: instance, replacement: weir}", "      - {target_label: other, replacement: weir}"), whole},
		{"the collector's token refused", []string{"collector.problems", "prometheus.duplicates", "backfill_path"}, "refuses the API token", func() {
			c.inject(apiToken, cfsim.Fault{Kind: cfsim.FaultTokenUnknown})()
			c.collector.stop() // a start asks at once
			c.collector.again()
		}, nil},
	}
}

// file writes a file and returns its path.
func (c *clinic) file(name, content string) string {
	path := filepath.Join(c.t.TempDir(), name)
	testkit.WriteFile(c.t, path, []byte(content))
	return path
}

// A run that cannot judge ends with 2, and colours and secrets stay out of what is not a
// terminal.
func TestBinaryDoctorThatCannotJudge(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken.yml")
	testkit.WriteFile(t, broken, []byte("basic_auth: {username: x, password: "+marked+", unknown: 1}\n"))
	nobody := "http://" + address(t)
	for name, tc := range map[string]struct {
		settings []string
		code     int
		says     string // on standard error
	}{
		"nothing given":        {nil, 2, "nothing is given that could be checked"},
		"a URL with a user":    {[]string{"WEIR_EXPOSER_URLS=http://u:" + marked + "@127.0.0.1:1"}, 2, "WEIR_EXPOSER_URLS"},
		"no panels":            {[]string{"WEIR_EXPOSER_URLS=" + nobody, "WEIR_DOCTOR_PANELS=" + filepath.Join(dir, "absent")}, 2, "WEIR_DOCTOR_PANELS is"},
		"panels without any":   {[]string{"WEIR_EXPOSER_URLS=" + nobody, "WEIR_DOCTOR_PANELS=" + broken}, 2, "it has no expression"},
		"a wrong client file":  {[]string{"WEIR_EXPOSER_URLS=" + nobody, "WEIR_HTTP_CONFIG_FILE=" + broken}, 2, "WEIR_HTTP_CONFIG_FILE is"},
		"nobody answers":       {[]string{"WEIR_EXPOSER_URLS=" + nobody, "WEIR_PROMETHEUS_URL=" + nobody, "WEIR_COLLECTOR_ADDRESS=" + strings.TrimPrefix(nobody, "http://")}, 1, "checks failed"},
		"dead operations":      {[]string{"WEIR_OPERATIONS_URLS=" + nobody}, 1, "1 checks failed"},
		"a store that is none": {[]string{"WEIR_SQLITE_FILE=" + filepath.Join(dir, "absent.db")}, 1, "checks failed"},
	} {
		o := complete(t, command(t, program(t, "weir"), tc.settings, "doctor"))
		if o.code != tc.code || !strings.Contains(o.stderr, tc.says) {
			t.Errorf("%s: exit code %d, want %d and %q\n%s", name, o.code, tc.code, tc.says, o.stderr)
		}
		if strings.Contains(o.stdout, "\x1b") {
			t.Errorf("%s: a pipe gets colours: %q", name, o.stdout)
		}
	}
}

// "weir run" passes too if its gRPC listener is not asked: the doctor reads its SQLite file
// beside it.
func TestBinaryDoctorOfAllInOne(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "weir.db")
	data, ops, collectorOps := address(t), address(t), address(t)
	settings := []string{"WEIR_SQLITE_FILE=" + file, "WEIR_EXPOSER_LISTEN=" + data, "WEIR_EXPOSER_OPS_LISTEN=" + ops, "WEIR_COLLECTOR_OPS_LISTEN=" + collectorOps}
	run := func() *process {
		p := launch(t, "weir", command(t, program(t, "weir"), settings, "run", "--simulate", "--initial-lookback", "3h"))
		testkit.Eventually(t, func() error {
			_, err := page("http://" + data + "/-/ready")
			return err
		})
		return p
	}
	asked := []string{"WEIR_SQLITE_FILE=" + file, "WEIR_EXPOSER_URLS=http://" + data, "WEIR_OPERATIONS_URLS=http://" + ops + ",http://" + collectorOps}
	p := run()
	testkit.Eventually(t, func() error {
		if v := examine(t, asked); len(v.of("fail")) > 0 || v.text("collector.coverage") == "" {
			return fmt.Errorf("failed are %v", v.of("fail"))
		}
		return nil
	})
	grown(t)
	p.stop()
	run()
	testkit.Eventually(t, func() error {
		v := examine(t, asked)
		if bad := slices.Concat(v.of("fail"), v.of("warn")); len(bad) > 0 {
			return fmt.Errorf("not passed are %v: %s", bad, v.text(bad[0]))
		}
		for _, check := range []string{"delayed_collection", "durability", "store.durability", "collector.leader", "collector.budget", "exposer.store"} {
			if !slices.Contains(v.of("pass"), check) {
				return fmt.Errorf("%s is not passed: %s", check, v.text(check))
			}
		}
		return nil
	})
}
