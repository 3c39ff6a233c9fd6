package standalone

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	promconfig "github.com/prometheus/common/config"
	"google.golang.org/grpc"

	"github.com/weir-metrics/weir/deploy/dashboards"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/dial"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/standalone/internal/doctor"
	"github.com/weir-metrics/weir/services/standalone/internal/doctor/observe"
	"github.com/weir-metrics/weir/services/standalone/internal/promapi"
)

// A run ends, whatever does not answer, within the five minutes that "helm test" waits.
const (
	// asking is the time for everything that is asked side by side.
	asking = 150 * time.Second
	// trying is the time for the way of a backfill, which is taken afterwards.
	trying = 2 * time.Minute
)

// exitUnable is the exit code of a doctor that could not judge; 1 means that a check
// failed.
const exitUnable = 2

// doctorSettings say what to ask and how to reach it.
type doctorSettings struct {
	collector collector.Config // its store, token and selection
	dial      dial.Config

	exposers, operations []string
	httpConfig           string
	prometheus           string
	prometheusConfig     string
	job                  string
	panels               string
	capacity             int64
	output               string

	clock          clock.Clock   // nil: the system's
	asking, trying time.Duration // 0: the constants of these names
}

func doctorCommand() cli.Command {
	var s doctorSettings
	return cli.Command{
		Name: "doctor", Summary: "check a whole installation, from the API token to the samples in Prometheus",
		Help: "Asks Cloudflare, the collectors, the store, the exposers and a Prometheus or VictoriaMetrics, as far as they are given, and judges the answers. " +
			"Nothing is changed. What is not given is skipped, and the report says what to give. With the environment of a collector it finds the store and the token.\n\n" +
			"Exit code: 0 if every check passed, also with warnings; 1 if a check failed; 2 if nothing could be checked.",
		Settings: s.settings(), Validate: s.validate,
		Run: func(ctx context.Context, _ []string) error { return s.run(ctx, os.Stdout, os.Getenv) },
	}
}

func (s *doctorSettings) settings() []cli.Setting {
	of := []string{
		"CF_API_TOKEN", "CF_ZONES", "CF_EXCLUDE_ZONES", "CF_ACCOUNTS", "WEIR_RETENTION", "WEIR_BUDGET_SHARE", "WEIR_BUDGET_USER",
		"WEIR_CLOUDFLARE_URL", "WEIR_CLOUDFLARE_CA_FILE", "CF_BUCKET_SECONDS", "CF_DELAY_SECONDS", "WEIR_CATALOGUE_FILE", "WEIR_PROFILE", "WEIR_REQUEST_SOURCE", "WEIR_DATASETS",
		"WEIR_DISABLE_DATASETS", "WEIR_DATABASE_URL", "WEIR_SQLITE_FILE", "WEIR_POSTGRES_POOLER",
	}
	var table []cli.Setting
	for _, setting := range slices.Concat(s.collector.Settings(), s.dial.Settings()) {
		switch setting.Env {
		case "WEIR_SQLITE_FILE", "WEIR_COLLECTOR_ADDRESS":
			setting.Default = "" // what is not given is not asked
		}
		if setting.Key == "credentials" || slices.Contains(of, setting.Env) || slices.ContainsFunc(s.dial.Settings(), func(d cli.Setting) bool { return d.Env == setting.Env }) {
			table = append(table, setting)
		}
	}
	return append(table, []cli.Setting{
		{Env: "WEIR_EXPOSER_URLS", Value: cli.URLs(&s.exposers, "http", "https"), Help: "comma-separated URLs of the data ports of exposers, such as http://127.0.0.1:9810"},
		{Env: "WEIR_OPERATIONS_URLS", Value: cli.URLs(&s.operations, "http", "https"), Help: "comma-separated URLs of operations ports of collectors and exposers, such as http://127.0.0.1:9811,http://127.0.0.1:9821; empty: their metrics are read from Prometheus"},
		{Env: "WEIR_HTTP_CONFIG_FILE", Value: cli.Text(&s.httpConfig), Help: "file with the HTTP client configuration (TLS, basic authentication) for exposers and operations ports, in the format of promtool's --http.config.file"},
		{Env: "WEIR_PROMETHEUS_URL", Value: cli.URL(&s.prometheus, "http", "https"), Help: "URL of the Prometheus or VictoriaMetrics that scrapes Weir, such as http://127.0.0.1:9090"},
		{Env: "WEIR_PROMETHEUS_HTTP_CONFIG_FILE", Value: cli.Text(&s.prometheusConfig), Help: "the same kind of file for Prometheus"},
		{Env: "WEIR_PROMETHEUS_JOB", Default: "weir", Value: cli.Text(&s.job), Help: "scrape job for Weir's data: its job_name, or the label job of its targets"},
		{Env: "WEIR_DOCTOR_PANELS", Value: cli.Text(&s.panels), Help: "Grafana dashboard (JSON) or file of rules (YAML) whose expressions are run; empty: Weir's dashboard"},
		{Env: "WEIR_STORE_CAPACITY", Default: "0", Value: cli.Int(&s.capacity, 0, 1<<60), Help: "bytes that the database may use, to which its size and growth are compared; 0: not known"},
		{Flag: "output", Key: "-", Default: "text", Value: cli.Enum(&s.output, "text", "json"), Help: "text for people, or one JSON object for programs"},
	}...)
}

func (s *doctorSettings) validate() error {
	var bad []error
	if len(s.dial.Addresses) > 0 {
		bad = append(bad, s.dial.Validate())
	}
	if s.storeGiven() || s.collector.Tokens() {
		bad = append(bad, s.collector.Validate())
	}
	if !s.storeGiven() && !s.collector.Tokens() && len(s.dial.Addresses)+len(s.exposers)+len(s.operations) == 0 && s.prometheus == "" {
		bad = append(bad, cli.Usagef("nothing is given that could be checked; give at least one of WEIR_EXPOSER_URLS, WEIR_PROMETHEUS_URL, WEIR_COLLECTOR_ADDRESS, WEIR_DATABASE_URL, WEIR_SQLITE_FILE and CF_API_TOKEN"))
	}
	return errors.Join(bad...)
}

func (s *doctorSettings) storeGiven() bool {
	return !s.collector.DatabaseURL.IsZero() || s.collector.SQLiteFile != ""
}

// run observes, judges and reports.
func (s *doctorSettings) run(ctx context.Context, w io.Writer, getenv func(string) string) error {
	if s.clock == nil {
		s.clock = clock.System()
	}
	observed, err := s.observe(ctx)
	if err != nil {
		return cli.CodeError{Code: exitUnable, Err: err}
	}
	if ctx.Err() != nil {
		return cli.CodeError{Code: exitUnable, Err: errors.New("interrupted")}
	}
	report := doctor.Report{Version: cli.BuildInfo().Version, At: observed.Now}
	report.Findings, report.Questions = doctor.Judge(observed)
	if s.output == "json" {
		err = report.JSON(w)
	} else {
		err = report.Text(w, coloured(w, getenv))
	}
	if err != nil {
		return cli.CodeError{Code: exitUnable, Err: err}
	}
	return ended(&report)
}

// ended is the error of a report, and with it the exit code.
func ended(r *doctor.Report) error {
	failed := r.Count(doctor.Fail)
	switch {
	case failed > 0:
		return fmt.Errorf("%d checks failed", failed)
	case r.Count(doctor.Pass)+r.Count(doctor.Warn) == 0:
		return cli.CodeError{Code: exitUnable, Err: errors.New("nothing could be checked: every check was skipped")}
	}
	return nil
}

// coloured reports whether w is a terminal whose user wants colours.
func coloured(w io.Writer, getenv func(string) string) bool {
	f, ok := w.(*os.File)
	if !ok || getenv("NO_COLOR") != "" || getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// observe asks everything that is given.
func (s *doctorSettings) observe(ctx context.Context) (*doctor.Observed, error) {
	client, err := httpClient(s.httpConfig, "WEIR_HTTP_CONFIG_FILE")
	if err != nil {
		return nil, err
	}
	prometheusClient, err := httpClient(s.prometheusConfig, "WEIR_PROMETHEUS_HTTP_CONFIG_FILE")
	if err != nil {
		return nil, err
	}
	from, expressions, err := s.expressions()
	if err != nil {
		return nil, err
	}
	o := &doctor.Observed{Now: s.clock.Now()}
	p := observe.NewPrometheus(s.prometheus, prometheusClient, o.Now)
	within(ctx, cmp.Or(s.asking, asking), "the questions", func(ctx context.Context) {
		var all sync.WaitGroup
		all.Go(func() { s.askCloudflare(ctx, o) })
		all.Go(func() { s.askStore(ctx, o) })
		all.Go(func() { s.askCollectors(ctx, o) })
		all.Go(func() { s.askServing(ctx, o, client, p, from, expressions) })
		all.Wait()
	})
	within(ctx, cmp.Or(s.trying, trying), "the way of a backfill", func(ctx context.Context) { s.tryBackfill(ctx, o, p) })
	return o, nil
}

// within calls do with a context that ends after a time, with a cause that says so.
func within(ctx context.Context, d time.Duration, what string, do func(context.Context)) {
	ctx, cancel := context.WithTimeoutCause(ctx, d, fmt.Errorf("the time for %s, %s, is over", what, d))
	defer cancel()
	do(ctx)
}

func (s *doctorSettings) askCloudflare(ctx context.Context, o *doctor.Observed) {
	if !s.collector.Tokens() {
		return
	}
	o.Cloudflare = &doctor.Cloudflare{}
	o.Cloudflare.Credentials, o.Cloudflare.Err = collector.AskCloudflare(ctx, s.collector, s.clock)
}

func (s *doctorSettings) askStore(ctx context.Context, o *doctor.Observed) {
	if !s.storeGiven() {
		return
	}
	o.Store = &doctor.Store{Capacity: s.capacity}
	o.Store.Facts, o.Store.Err = collector.InspectStore(ctx, s.collector, s.clock)
}

// askCollectors asks each collector, or computes what they would say from the store.
func (s *doctorSettings) askCollectors(ctx context.Context, o *doctor.Observed) {
	as, unusable := s.asCommands()
	s.collectors(ctx, func(address string, conn grpc.ClientConnInterface, err error) bool {
		c := doctor.Collector{Address: address, Err: err}
		if err == nil {
			c = observe.Status(ctx, address, conn)
		}
		c.Beside = len(s.dial.Addresses) == 0
		switch {
		case c.Beside || c.Err != nil:
		case unusable != nil: // the commands stop at it
			c.Admin = &doctor.Admin{Err: unusable}
		case !as.Token.IsZero():
			c.Admin = observe.Admin(ctx, conn)
		}
		o.Collectors = append(o.Collectors, c)
		if c.Err == nil && o.Log == nil {
			o.Log = observe.Log(ctx, address, conn, o.Now)
		}
		return true
	})
}

// asCommands is how the commands of operators would connect, with their token.
func (s *doctorSettings) asCommands() (dial.Config, error) {
	if len(s.dial.Addresses) == 0 {
		return s.dial, nil
	}
	c, err := withToken(s.dial, cmp.Or(s.collector.SQLiteFile, "weir.db"))
	if err != nil {
		return s.dial, err
	}
	return c, nil
}

// collectors connects to each collector in turn, or to the store if none is given, until
// use returns false.
func (s *doctorSettings) collectors(ctx context.Context, use func(address string, conn grpc.ClientConnInterface, err error) bool) {
	as, _ := s.asCommands() // an error is that of the commands alone: askCollectors keeps it
	for _, address := range s.dial.Addresses {
		one := as
		one.Addresses = []string{address}
		conn, err := dial.Open(one, nil)
		more := use(address, conn, err)
		if err == nil {
			_ = conn.Close() // nothing is in flight
		}
		if !more {
			return
		}
	}
	if len(s.dial.Addresses) > 0 || !s.storeGiven() {
		return
	}
	beside, err := collector.OpenBeside(ctx, s.collector, s.clock)
	use("the store", beside, err)
	if err != nil {
		return
	}
	if err := beside.Close(); err != nil {
		slog.Debug("the store did not close", "err", err)
	}
}

// tryBackfill takes the way of a backfill, from the first collector that has responded.
func (s *doctorSettings) tryBackfill(ctx context.Context, o *doctor.Observed, p *observe.Prometheus) {
	if len(o.Collectors) == 0 {
		return
	}
	i := slices.IndexFunc(o.Collectors, func(c doctor.Collector) bool { return c.Err == nil })
	if i < 0 {
		o.Backfill = &doctor.Backfill{Err: errors.New("no collector responded")}
		return
	}
	job := observe.Scraping{Job: s.job, Replay: 24 * time.Hour} // the exposers' default
	if replay, known := o.Replay(); known {
		job.Replay = replay
	}
	if o.Prometheus != nil && o.Prometheus.Err == nil {
		job.Config = o.Prometheus.Config
	} else {
		p = nil
	}
	s.collectors(ctx, func(address string, conn grpc.ClientConnInterface, err error) bool {
		if address != o.Collectors[i].Address {
			return true
		}
		if err != nil {
			o.Backfill = &doctor.Backfill{Err: err}
			return false
		}
		o.Backfill = observe.Backfill(ctx, conn, p, job, s.clock)
		return false
	})
}

// askServing asks exposers and Prometheus, which are compared with each other.
func (s *doctorSettings) askServing(ctx context.Context, o *doctor.Observed, client *http.Client, p *observe.Prometheus, from string, expressions []observe.Expression) {
	var all sync.WaitGroup
	all.Go(func() { o.Exposers = observe.Exposers(ctx, s.exposers, client) })
	if len(s.operations) > 0 {
		all.Go(func() { o.Own = observe.OwnFrom(ctx, s.operations, client) })
	}
	all.Wait()
	var families []string
	for _, x := range o.Exposers {
		if x.Err == nil && x.NotReady == "" && families == nil {
			families = x.Families
		}
	}
	if s.prometheus == "" {
		return
	}
	if o.Prometheus = p.Ask(ctx, s.job, families); o.Prometheus.Err != nil {
		return
	}
	observe.TargetStores(ctx, o.Prometheus.Targets, o.Exposers)
	o.Panels = p.Panels(ctx, from, expressions)
	if o.Own == nil {
		o.Own = p.Own(ctx)
	}
}

func (s *doctorSettings) expressions() (from string, list []observe.Expression, err error) {
	from, text := "Weir's dashboard", dashboards.Pipeline
	if s.panels != "" {
		from = s.panels
		text, err = os.ReadFile(s.panels)
	}
	if err == nil {
		list, err = observe.Expressions(text)
	}
	if err != nil {
		return "", nil, fmt.Errorf("WEIR_DOCTOR_PANELS is %s: %w", s.panels, err)
	}
	return from, list, nil
}

// httpClient reads a file of the HTTP client configuration. The client follows no redirect
// to another server, for which the credentials are not.
func httpClient(file, setting string) (*http.Client, error) {
	if file == "" {
		return &http.Client{CheckRedirect: promapi.Stay}, nil
	}
	c, _, err := promconfig.LoadHTTPConfigFile(file)
	if err == nil {
		var client *http.Client
		if client, err = promconfig.NewClientFromConfig(*c, "weir-doctor"); err == nil {
			if client.CheckRedirect == nil { // it may follow none at all
				client.CheckRedirect = promapi.Stay
			}
			return client, nil
		}
	}
	return nil, fmt.Errorf("%s is %s: %w", setting, file, err)
}
