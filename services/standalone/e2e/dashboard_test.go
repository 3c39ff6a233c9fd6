package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/cfsimtest"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/exposer"
)

var picture = flag.String("dashboard.picture", "", "draw the dashboard's panels of TestDashboardShowsEveryTrouble into this PNG file")

// shownPanel is a panel of the shipped dashboard, as far as this test looks at it.
type shownPanel struct {
	Title   string
	Type    string
	Targets []shownTarget
}

// shownTarget is a query of a panel. Interval is its least step.
type shownTarget struct {
	Expr, LegendFormat, Interval string
	Instant                      bool
}

// panels reads those of a shipped dashboard, rows left out.
func panels(t *testing.T, file string) []shownPanel {
	t.Helper()
	var d struct{ Panels []shownPanel }
	if err := json.Unmarshal(testkit.RepoFile(t, "deploy/dashboards/"+file), &d); err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(d.Panels, func(p shownPanel) bool { return p.Type == "row" })
}

// dashboard are the panels of the pipeline's dashboard.
func dashboard(t *testing.T) []shownPanel {
	t.Helper()
	out := panels(t, "weir-pipeline.json")
	if len(out) < 50 {
		t.Fatalf("the dashboard has %d panels; this test no longer understands it", len(out))
	}
	return out
}

// filled is an expression as Grafana sends it, for scrapes a minute apart.
func filled(expr, job string) string {
	return strings.NewReplacer("$__rate_interval", "4m", "$namespace", ".*", "$job", job, "$dataset", ".*").Replace(expr)
}

// dashboardStory is how long the story is.
const dashboardStory = 270 * time.Minute

// stretch is a part of a story, in minutes from its beginning.
type stretch struct{ from, to int }

// allOfIt is the whole story.
var allOfIt = stretch{0, int(dashboardStory / time.Minute)}

// onlyInTrouble are the expressions that may give nothing in the first hour of normal
// work, by panel and legend; all others must give data then. Everything gives data
// later.
var onlyInTrouble = map[string]bool{
	"Size of the store/in 30 days":                                    true, // needs three hours
	"Next deadline/left":                                              true,
	"Errors by class/{{class}}":                                       true,
	"Problems by code/{{code}}":                                       true,
	"Overdue/{{dataset}}":                                             true,
	"Time until the deadline/{{dataset}}":                             true,
	"State of zones and datasets/left out":                            true,
	"Failed writes by reason/{{reason}}":                              true,
	"Streams and their ends/ended: {{reason}}":                        true,
	"Trimmed, short or refused/short {{dataset}}":                     true,
	"Since the last late commit/{{dataset}}":                          true,
	"Requests for /backfill/{{outcome}}":                              true,
	"Secrets/failed: {{secret}}":                                      true,
	"Secrets/{{secret}} at {{instance}}":                              true,
	"Certificates expire in/{{secret}} at {{instance}}":               true,
	"Clock skew/{{source}} at {{instance}}":                           true,
	"Refused datasets and variants/{{dataset}} variants":              true,
	"Calls of the collectors by status/{{grpc_method}} {{grpc_code}}": true,
	"Calls of operators by status/{{grpc_method}} {{grpc_code}}":      true,
	"Trimmed, short or refused/trimmed {{dataset}} {{role}}":          true,
	"Share that moved, by dataset and age/{{dataset}} {{age}}":        true,
	"Size of the movement/{{dataset}} {{age}}":                        true,
}

// trouble is what a panel must show of it, while it lasts.
type trouble struct {
	what   string
	when   stretch
	job    string // of the processes that have it
	panel  string
	legend string
	least  float64 // what the highest value must reach; with most, what the lowest may be
	most   bool
}

// Two collectors on a Postgres and two exposers, and apart from them a collector of
// another Cloudflare: first all is well, then each kind of trouble comes once. Every
// expression of the dashboard gives data, in normal work or in its trouble, and shows
// the trouble; and from the first minute on, before anything runs, no alert fires
// while all is well.
func TestDashboardShowsEveryTrouble(t *testing.T) {
	testkit.InAll(t)
	t.Parallel()
	s := stageDashboard(t)
	s.play()

	// The data is simulated, and the database and the push have the machine's clock.
	s.record.fired(t, 70, "WeirClockSkew", "WeirPushBehind", "WeirSimulated")
	s.record.load(t, s.prometheus)
	if *picture != "" {
		draw(t, s.prometheus, "weir-pipeline.json", *picture, s.w.began, s.w.began.Add(dashboardStory))
	}
	s.everyExpressionGivesData()
	s.troublesAreShown()
}

// dashboardStage is the world of the dashboard's story.
type dashboardStage struct {
	t          *testing.T
	w          *world
	database   *pgtest.Server
	dsn        string
	prometheus *promtest.Server
	record     *opsRecord
	grpc, data []string
	collectors []*actor
	token      string // file with the token of the collector apart
}

func stageDashboard(t *testing.T) *dashboardStage {
	t.Helper()
	s := &dashboardStage{t: t, database: pgtest.Start(t), grpc: []string{address(t), address(t)}, data: []string{address(t), address(t), address(t)}}
	s.dsn = s.database.DSN()
	// It scrapes the data, and in the end it is asked about the story.
	s.prometheus = promtest.Start(t, s.scrapeConfig("60h"), "--storage.tsdb.retention.time=10d")
	s.w = &world{t: t, began: time.Now().Add(-dashboardStory - time.Minute).UTC().Truncate(time.Minute), lookback: 12 * time.Hour, adminToken: marked + "-operators-0123456789abcdef"}
	manual := clock.NewManual(s.w.began)
	s.w.clock = manual
	c := cfsim.Demo(s.w.clock, 7)
	at := func(minute int) time.Time { return s.w.began.Add(time.Duration(minute) * time.Minute) }
	c.Faults = []cfsim.Fault{
		{Kind: cfsim.FaultBudget, Path: "/graphql", From: at(75), To: at(85)},
		{Kind: cfsim.FaultHTML, Status: 522, Path: "/graphql", From: at(90), To: at(165)},
		{Kind: cfsim.FaultDatasetEmpty, From: at(195), To: at(225)},
		{Kind: cfsim.FaultTokenInvalid, From: at(230), To: at(240)},
		{Kind: cfsim.FaultSkew, Delay: -10 * time.Minute, From: at(240), To: at(250)},
	}
	s.w.serve(c)
	s.record = &opsRecord{clock: manual, began: s.w.began, targets: map[string]string{}, wanted: wantedMetrics(t)}
	s.watch("prometheus", "prometheus", strings.TrimPrefix(s.prometheus.URL(), "http://"))
	return s
}

// scrapeConfig scrapes the data of the first two exposers.
func (s *dashboardStage) scrapeConfig(window string) string {
	return "storage: {tsdb: {out_of_order_time_window: " + window + "}}\nscrape_configs:\n" +
		"- {job_name: weir, scrape_interval: 1s, scrape_timeout: 1s, static_configs: [{targets: [" + s.data[0] + ", " + s.data[1] + "]}]}\n"
}

// wantedMetrics are those that the dashboard or a rule names.
func wantedMetrics(t *testing.T) *regexp.Regexp {
	t.Helper()
	names := regexp.MustCompile(`\b(weir|grpc_server|process|prometheus)_[a-z_]+`).FindAllString(
		string(testkit.RepoFile(t, "deploy/dashboards/weir-pipeline.json"))+string(testkit.RepoFile(t, "deploy/alerts/weir.rules.yaml")), -1)
	return regexp.MustCompile("^(" + strings.Join(names, "|") + ")$")
}

// watch records a process.
func (s *dashboardStage) watch(job, instance, ops string) {
	s.record.targets[fmt.Sprintf("instance=%q,job=%q", instance, job)] = "http://" + ops + "/metrics"
}

func (s *dashboardStage) startExposer(name, listen string, change func(*exposer.Config)) {
	x := exposerConfig(s.grpc...)
	x.Listen, x.OpsListen = listen, address(s.t)
	if change != nil {
		change(&x)
	}
	s.watch("weir", name, x.OpsListen)
	log := testkit.Logger(s.t).With("process", name)
	startActor(s.t, name, func(ctx context.Context) error {
		x, err := exposer.New(x, exposer.Deps{Clock: s.w.clock, Logger: log, Backoff: client.Backoff{Min: 20 * time.Millisecond, Max: 500 * time.Millisecond}})
		if err != nil {
			return fmt.Errorf("start: %w", err)
		}
		return x.Run(ctx)
	})
}

// startApart starts a collector of its own Cloudflare, whose values move after they
// are final, and which does not answer for a quiet Pro zone for hours, so that its
// windows are lost.
func (s *dashboardStage) startApart() {
	t := s.t
	parked := cfsim.Tag("zone:parked.example")
	sim := cfsim.Demo(s.w.clock, 8)
	sim.Settling.Revisions = 1
	sim.Faults = []cfsim.Fault{{Kind: cfsim.FaultHTML, Status: 522, Path: "/graphql", Zone: parked, From: s.w.began.Add(86 * time.Minute)}}
	dir := t.TempDir()
	s.token = filepath.Join(dir, "token")
	testkit.WriteFile(t, s.token, []byte(cfsim.DemoToken))
	c := s.w.collectorConfig("apart", "")
	c.Lookback = 21*time.Hour + 30*time.Minute // of a quiet Pro zone, not believed before two hours are left
	var err error
	if c.Token, err = cli.ReadSecret(s.token); err != nil {
		t.Fatal(err)
	}
	c.CloudflareURL = cfsimtest.Start(t, cfsimtest.New(t, sim))
	c.GRPCFiles.CertFile, c.GRPCFiles.KeyFile = testkit.NewCA(t, "ca").Server(t, "127.0.0.1").Write(t, dir, "grpc")
	c.Listen, c.OpsListen = address(t), address(t)
	s.watch("apart", "apart", c.OpsListen)
	log := testkit.Logger(t).With("process", "apart")
	startActor(t, "apart", func(ctx context.Context) error {
		c, err := collector.New(ctx, c, collector.Deps{Clock: s.w.clock, BudgetClock: s.w.clock, Logger: log})
		if err != nil {
			return fmt.Errorf("start: %w", err)
		}
		return c.Run(ctx)
	})
}

// play is the story.
func (s *dashboardStage) play() {
	well := true
	until := func(minute int) { s.record.until(s.t, minute, well) }
	until(2)
	for i, name := range []string{"collector-1", "collector-2"} {
		s.collectors = append(s.collectors, s.w.startCollector(name, s.dsn, s.grpc[i]))
		s.watch("weir", name, s.w.ops[name])
	}
	s.startExposer("exposer-1", s.data[0], nil)
	s.startExposer("exposer-2", s.data[1], nil)
	destination := s.startPush()
	until(71)
	well = false
	destination.refuses.Store(true)
	s.prometheus.Reload(s.scrapeConfig("0s"))
	s.startApart()
	until(86)
	destination.refuses.Store(false)
	destination.away.Store(true)
	s.startExposer("exposer-3", s.data[2], func(x *exposer.Config) { x.ReplayHours = 1 })
	until(100)
	destination.away.Store(false)
	fetched := s.operator("backfill", "fetch", "--detach", "--zone", "shop.example", "--start", s.daysAgo(2), "--end", s.daysAgo(1), "--reason", "before the lookback")
	ended := s.operator("backfill", "fetch", "--detach", "--zone", "checkout.example", "--start", s.daysAgo(2), "--end", s.daysAgo(1), "--reason", "asked for by mistake")
	s.operator("backfill", "pause", "--reason", "is it needed?", ended)
	until(170)
	well = true
	for i, c := range s.collectors { // one of them leads
		c.stop()
		until(173 + 4*i)
		c.start()
		until(174 + 4*i)
	}
	until(180)
	if state := s.operator("backfill", "status", fetched); !strings.Contains(state, "done") {
		s.t.Errorf("15 minutes after Cloudflare is back, a backfill of a day is\n%s", state)
	}
	s.operator("backfill", "cancel", "--reason", "it is not needed", ended)
	until(182)
	well = false
	s.database.Stop()
	s.says(2, "weir_collector_store_up 0")
	until(192)
	s.database.Start()
	s.says(2, "weir_collector_store_up 1")
	until(196)
	testkit.WriteFile(s.t, s.token, []byte("not a token\x00"))
	for _, query := range []string{"hours=2", "hours=0"} { // one that is whole, and one that is refused
		if _, _, _, err := fetch("http://" + s.data[0] + "/backfill?" + query); err != nil {
			s.t.Error(err)
		}
	}
	until(254)
	pgtest.Exec(s.t, s.dsn, fmt.Sprintf(readOnly, "SET default_transaction_read_only = on"))
	s.says(1, "weir_collector_store_writable 0")
	until(256) // a minute later it is a problem, once the next write has failed
	s.says(1, `weir_collector_problems{code="STORE_NOT_WRITABLE"} 1`)
	until(266)
	pgtest.Exec(s.t, s.dsn, "SET default_transaction_read_only = off; "+fmt.Sprintf(readOnly, "RESET default_transaction_read_only"))
	until(int(dashboardStory / time.Minute))
}

// readOnly changes the database's default and ends all sessions that have another.
const readOnly = `DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I %s', current_database()); END $$;
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`

// operator runs a command of weir and returns what it prints.
func (s *dashboardStage) operator(args ...string) string {
	s.t.Helper()
	o := complete(s.t, command(s.t, program(s.t, "weir"), []string{
		"WEIR_COLLECTOR_ADDRESS=" + strings.Join(s.grpc, ","), "WEIR_COLLECTOR_TOKEN=" + s.w.adminToken,
	}, args...))
	if o.code != 0 {
		s.t.Fatalf("weir %s ended with %d: %s", strings.Join(args, " "), o.code, o.stderr)
	}
	return strings.TrimSpace(o.stdout)
}

// daysAgo is a midnight before the story, as commands take it.
func (s *dashboardStage) daysAgo(n int) string {
	return s.w.began.Truncate(24*time.Hour).AddDate(0, 0, -n).Format(time.RFC3339)
}

// says waits until enough of the two collectors on Postgres expose a line. Attempts at the lease, and the pauses between
// them, take time of this machine; the story's clock stands still meanwhile.
func (s *dashboardStage) says(enough int, line string) {
	s.t.Helper()
	testkit.Eventually(s.t, func() error {
		n := 0
		for _, name := range []string{"collector-1", "collector-2"} {
			if body, err := page("http://" + s.w.ops[name] + "/metrics"); err == nil && strings.Contains(body, "\n"+line+"\n") {
				n++
			}
		}
		if n < enough {
			return fmt.Errorf("%d collectors say %s, want %d", n, line, enough)
		}
		return nil
	})
}

// ask is an expression over a part of the story.
func (s *dashboardStage) ask(expr, job string, when stretch) []promtest.Series {
	s.t.Helper()
	at := func(minute int) time.Time { return s.w.began.Add(time.Duration(minute) * time.Minute) }
	return s.prometheus.Range(filled(expr, job), at(when.from), at(when.to), time.Minute)
}

func (s *dashboardStage) everyExpressionGivesData() {
	normal := stretch{40, 70}
	unused := map[string]bool{}
	for name := range onlyInTrouble {
		unused[name] = true
	}
	for _, p := range dashboard(s.t) {
		for _, target := range p.Targets {
			name := p.Title + "/" + target.LegendFormat
			delete(unused, name)
			if len(s.ask(target.Expr, "weir", normal)) == 0 && !onlyInTrouble[name] {
				s.t.Errorf("%s gives no data in normal work: %s", name, target.Expr)
			}
			if len(s.ask(target.Expr, ".*", allOfIt)) == 0 && !never[name] {
				s.t.Errorf("%s gives no data in any trouble: %s", name, target.Expr)
			}
		}
	}
	for name := range unused {
		s.t.Errorf("the dashboard has no expression %s", name)
	}
}

// never are expressions whose trouble this story does not have.
var never = map[string]bool{
	"State of zones and datasets/left out":                   true, // more than 1,000 pairs
	"Trimmed, short or refused/trimmed {{dataset}} {{role}}": true, // a million samples
	"Refused datasets and variants/{{dataset}} variants":     true, // settings and responses disagree
}

func (s *dashboardStage) troublesAreShown() {
	for _, trouble := range troubles {
		found := false
		for _, p := range dashboard(s.t) {
			for _, target := range p.Targets {
				if p.Title != trouble.panel || trouble.legend != "" && target.LegendFormat != trouble.legend {
					continue
				}
				found = true
				s.check(trouble, target.Expr)
			}
		}
		if !found {
			s.t.Errorf("%s: the dashboard has no panel %q with a series %q", trouble.what, trouble.panel, trouble.legend)
		}
	}
}

func (s *dashboardStage) check(want trouble, expr string) {
	best, seen := 0.0, false
	for _, series := range s.ask(expr, want.job, want.when) {
		for _, v := range series.Samples {
			if !seen || want.most && v.Value < best || !want.most && v.Value > best {
				best, seen = v.Value, true
			}
		}
	}
	switch {
	case !seen:
		s.t.Errorf("%s: %q has no data: %s", want.what, want.panel, expr)
	case want.most && best > want.least:
		s.t.Errorf("%s: %q falls to %v, want at most %v: %s", want.what, want.panel, best, want.least, expr)
	case !want.most && best < want.least:
		s.t.Errorf("%s: %q rises to %v, want at least %v: %s", want.what, want.panel, best, want.least, expr)
	}
}

// draw has the picture of a shipped dashboard drawn of what Prometheus now holds.
func draw(t *testing.T, p *promtest.Server, dashboard, file string, start, end time.Time, flags ...string) {
	t.Helper()
	root, err := testkit.Root()
	if err != nil {
		t.Fatal(err)
	}
	out, err := filepath.Abs(file)
	if err != nil {
		t.Fatal(err)
	}
	args := slices.Concat([]string{
		"run", "./picture", "-prometheus", p.URL(), "-out", out,
		"-start", start.Format(time.RFC3339), "-end", end.Format(time.RFC3339),
	}, flags, []string{filepath.Join(root, "deploy/dashboards", dashboard)})
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Env = filepath.Join(root, "tools/monitoring"), append(os.Environ(), "GOWORK=off")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("draw the picture: %v\n%s", err, text)
	}
}
