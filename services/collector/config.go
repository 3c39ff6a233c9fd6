package collector

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/tlsconf"
	"github.com/weir-metrics/weir/services/collector/internal/auth"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/store/postgres"
)

// Config of a collector. Fields are filled by the table of [Config.Settings].
type Config struct {
	Log cli.Log

	Token         cli.Secret
	Credentials   []Credential // instead of Token, Zones, Accounts and BudgetUser; nil: none
	CloudflareURL string
	CloudflareCA  string // file of further CA certificates, PEM; empty: none
	Zones         []string
	ExcludeZones  []string
	Accounts      []string
	BudgetUser    string
	BudgetShare   float64

	BucketSize      time.Duration // of the dataset "http"
	Delay           time.Duration
	Interval        time.Duration
	SampleTimestamp string
	ChangeTimestamp bool
	Lookback        time.Duration
	CatalogueFile   string
	Profile         string
	RequestSource   string
	Enable, Disable []string

	DatabaseURL cli.Secret // Postgres; empty: SQLite
	SQLiteFile  string
	Pooler      string        // "session" or "transaction"
	Retention   time.Duration // 0: the driver's default
	Migrate     bool

	Holder    string         // name in the lease; empty: made from host and process
	Listen    string         // gRPC
	GRPCFiles tlsconf.Server // TLS of the gRPC listener; none: plain text
	GRPCToken cli.Secret     // one per line, each for read access; none: no token is required
	// GRPCAdminToken has the tokens for admin access, one per line; none: nobody has it.
	GRPCAdminToken cli.Secret
	OpsListen      string
	WebConfig      string
	Pprof          bool
	Reflect        bool
	Drain          time.Duration

	// Simulated marks the store's data as simulated. Not a setting: the
	// standalone binary sets it for its own simulator, and [New] for one that reports
	// itself at CloudflareURL.
	Simulated bool
	anySource bool // that address did not respond, so the store's own mark is used
}

// DatabaseSettings is the part of the table that is about the store; "collector
// migrate" needs nothing else.
func (c *Config) DatabaseSettings() []cli.Setting {
	return []cli.Setting{
		{Env: "WEIR_DATABASE_URL", Value: cli.SecretText(&c.DatabaseURL), Help: "Postgres connection string (postgres://…); empty: a SQLite file"},
		{Env: "WEIR_SQLITE_FILE", Default: "weir.db", Value: cli.Text(&c.SQLiteFile), Help: "SQLite file, used when no database URL is given; one process at a time"},
		{Env: "WEIR_POSTGRES_POOLER", Default: "session", Value: cli.Enum(&c.Pooler, "session", "transaction"), Help: "transaction: work through a transaction-pooling proxy (no prepared statements, no LISTEN)"},
		{Env: "CF_SAMPLE_TIMESTAMP", Default: "end", Value: cli.Enum(&c.SampleTimestamp, "end", "start"), Help: "timestamp of samples: the end of their window minus one millisecond, or its start (not for daily datasets, unless WEIR_DATASETS names them); a property of the store"},
		{Env: "WEIR_CHANGE_SAMPLE_TIMESTAMP", Default: "false", Value: cli.Bool(&c.ChangeTimestamp), Help: "change CF_SAMPLE_TIMESTAMP of an existing store, which creates duplicate samples in Prometheus"},
	}
}

// CatalogueSettings is the part of the table that decides what is collected.
func (c *Config) CatalogueSettings() []cli.Setting {
	return []cli.Setting{
		{Env: "CF_BUCKET_SECONDS", Default: "300", Value: cli.DurationOneOf(&c.BucketSize, time.Minute, 5*time.Minute, 15*time.Minute, 30*time.Minute, time.Hour, 24*time.Hour), Help: "bucket size of the dataset http"},
		{Env: "CF_DELAY_SECONDS", Default: "300", Value: cli.Duration(&c.Delay, time.Minute, 24*time.Hour), Help: "time after the end of a window at which it is first queried; the maximum depends on the datasets and is 2h20m with the default ones"},
		{Env: "WEIR_CATALOGUE_FILE", Value: cli.Text(&c.CatalogueFile), Help: "YAML file that adds datasets to the built-in ones or changes them"},
		{Env: "WEIR_PROFILE", Default: catalogue.DefaultProfile, Value: cli.Enum(&c.Profile, catalogue.Profiles...), Help: "set of datasets to collect: default; lablabs, what lablabs/cloudflare-exporter shows; or all"},
		{Env: "WEIR_REQUEST_SOURCE", Default: catalogue.EyeballSource, Value: cli.Enum(&c.RequestSource, catalogue.RequestSources...), Help: "whose HTTP requests are counted: eyeball, those of end users; or all, in datasets with names of their own that end in _all"},
		{Env: "WEIR_DATASETS", Value: cli.List(&c.Enable), Help: "datasets to collect in addition to those of the profile, by name or id; an id also selects the bucket size (countries_5m)"},
		{Env: "WEIR_DISABLE_DATASETS", Value: cli.List(&c.Disable), Help: "datasets of the profile not to collect, by name or id"},
	}
}

// Settings is the table of "collector run".
func (c *Config) Settings() []cli.Setting {
	table := []cli.Setting{
		{Env: "CF_API_TOKEN", Value: cli.SecretText(&c.Token), Help: "Cloudflare API token with Zone Read and Zone Analytics Read, and Account Analytics Read for datasets about accounts; the file is reloaded when it changes; required unless the configuration file has credentials"},
		{Key: "credentials", Value: cli.Tree(&c.Credentials, "a list of credentials, each with name and token_file, and optionally user, share, accounts and zones"), Help: "several API tokens, instead of CF_API_TOKEN; a token_file is reloaded when it changes; the token itself is not allowed here"},
		{Env: "CF_ZONES", Value: cli.List(&c.Zones), Help: "zones to collect, by name or tag, in any spelling (Bücher.example, xn--bcher-kva.example.); empty: all that the token can see"},
		{Env: "CF_EXCLUDE_ZONES", Value: cli.List(&c.ExcludeZones), Help: "zones not to collect, by name or tag"},
		{Env: "CF_ACCOUNTS", Value: cli.List(&c.Accounts), Help: "accounts to collect, and whose zones to collect, by name or tag; a name with a comma must be in double quotes; empty: all"},
		{Env: "CF_COLLECTION_INTERVAL_SECONDS", Default: "60", Value: cli.Duration(&c.Interval, time.Second, time.Hour), Help: "maximum pause between planner passes"},
		{Env: "WEIR_INITIAL_LOOKBACK", Default: "20h", Value: cli.Duration(&c.Lookback, 0, 90*24*time.Hour), Help: "how much history to collect of a zone or account that is seen for the first time; /metrics shows what is collected before it is CF_METRICS_REPLAY_HOURS old"},
		{Env: "WEIR_RETENTION", Value: cli.Duration(&c.Retention, 48*time.Hour, 3650*24*time.Hour), Help: "how long buckets are kept; default 400d on Postgres, 90d on SQLite"},
		{Env: "WEIR_BUDGET_SHARE", Default: "50%", Value: cli.Share(&c.BudgetShare, 0.01, 1), Help: "share of Cloudflare's 300 queries per user and five minutes that Weir may use"},
		{Env: "WEIR_BUDGET_USER", Default: defaultUser, Value: cli.Text(&c.BudgetUser), Help: "name for the Cloudflare user that owns the token; collectors on one store whose tokens belong to the same user must use the same name"},
		{Env: "WEIR_CLOUDFLARE_URL", Default: "https://api.cloudflare.com/client/v4", Value: cli.URL(&c.CloudflareURL, "https", "http"), Help: "base of Cloudflare's API"},
		{Env: "WEIR_CLOUDFLARE_CA_FILE", Value: cli.Text(&c.CloudflareCA), Help: "PEM file with CA certificates to trust for Cloudflare's API in addition to the system's; reloaded for each request"},
		{Env: "WEIR_MIGRATE", Default: "false", Value: cli.Bool(&c.Migrate), Help: "migrate the Postgres schema at start; a SQLite file is always migrated"},
		{Env: "WEIR_COLLECTOR_NAME", Value: cli.Text(&c.Holder), Help: "name of this process in the lease, unique to each process; default: host name and a random part"},
		{Env: "WEIR_COLLECTOR_LISTEN", Default: ":9820", Value: cli.Address(&c.Listen), Help: "address of the gRPC BucketService"},
		{Env: "WEIR_GRPC_CERT_FILE", Value: cli.Text(&c.GRPCFiles.CertFile), Help: "PEM file with the certificate of the gRPC listener, which enables TLS; reloaded for each connection"},
		{Env: "WEIR_GRPC_KEY_FILE", Value: cli.Text(&c.GRPCFiles.KeyFile), Help: "PEM file with the key of that certificate"},
		{Env: "WEIR_GRPC_CLIENT_CA_FILE", Value: cli.Text(&c.GRPCFiles.ClientCAFile), Help: "PEM file with the CA certificates that verify client certificates (mutual TLS); empty: clients need no certificate"},
		{Env: "WEIR_GRPC_TOKEN", Value: cli.SecretText(&c.GRPCToken), Help: "bearer tokens for read access, one per line, of which a client needs one; the file is reloaded for each call; empty: no token is required"},
		{Env: "WEIR_GRPC_ADMIN_TOKEN", Value: cli.SecretText(&c.GRPCAdminToken), Help: "bearer tokens for admin access (AdminService), one per line, which include read access; the file is reloaded for each call; empty: nobody has admin access"},
		{Env: "WEIR_COLLECTOR_OPS_LISTEN", Default: ":9821", Value: cli.Address(&c.OpsListen), Help: "address of the operations listener: own metrics, health"},
		{Env: "WEIR_COLLECTOR_WEB_CONFIG_FILE", Value: cli.Text(&c.WebConfig), Help: "Prometheus web configuration file (TLS, basic authentication) of the operations listener; reloaded for each request"},
		{Env: "WEIR_PPROF", Default: "false", Value: cli.Bool(&c.Pprof), Help: "serve profiles on the operations listener"},
		{Env: "WEIR_GRPC_REFLECTION", Default: "false", Value: cli.Bool(&c.Reflect), Help: "serve gRPC reflection also on addresses other than loopback"},
		{Env: "WEIR_DRAIN", Default: "10s", Value: cli.Duration(&c.Drain, 0, 10*time.Minute), Help: "time that streams have to end at shutdown"},
	}
	return slices.Concat(table, c.CatalogueSettings(), c.DatabaseSettings(), c.Log.Settings())
}

// Validate checks rules that involve more than one setting. It returns every problem.
func (c *Config) Validate() error {
	var bad cli.Problems
	if datasets, err := c.catalogue(); err != nil {
		bad = append(bad, catalogueProblems(err)...)
	} else if err := c.checkTimestamps(datasets); err != nil {
		bad = append(bad, err)
	}
	if c.Pooler == "transaction" && c.DatabaseURL.IsZero() {
		bad = append(bad, cli.Problem{Setting: "WEIR_POSTGRES_POOLER", Reason: "is for Postgres: WEIR_DATABASE_URL must be set with it"})
	}
	bad = append(bad, cli.Apart(cli.Listener{Setting: "WEIR_COLLECTOR_OPS_LISTEN", Address: c.OpsListen}, cli.Listener{Setting: "WEIR_COLLECTOR_LISTEN", Address: c.Listen})...)
	if _, err := c.credentials(); err != nil {
		bad = append(bad, err)
	}
	if !c.DatabaseURL.IsZero() {
		if err := postgres.CheckDSN(c.DatabaseURL.Reveal()); err != nil {
			bad = append(bad, cli.Problem{Setting: "WEIR_DATABASE_URL", Reason: c.DatabaseURL.Flaw(err).Error()})
		}
	}
	for _, z := range c.Zones {
		for _, x := range c.ExcludeZones {
			switch {
			case z == x:
				bad = append(bad, cli.Problem{Setting: roster.SettingExclude, Value: x, Reason: "is also in CF_ZONES; name it in one of them"})
			case roster.SameZone(z, x):
				bad = append(bad, cli.Problem{Setting: roster.SettingExclude, Value: x, Reason: fmt.Sprintf("is also in CF_ZONES, as %q; name it in one of them", z)})
			}
		}
	}
	if c.Lookback > 0 && c.Retention > 0 && c.Lookback > c.Retention {
		bad = append(bad, cli.Problem{Setting: "WEIR_INITIAL_LOOKBACK", Reason: fmt.Sprintf("must be at most WEIR_RETENTION (%s)", cli.FormatDuration(c.Retention))})
	}
	if f := c.GRPCFiles; (f.CertFile == "") != (f.KeyFile == "") {
		bad = append(bad, cli.Problem{Setting: "WEIR_GRPC_CERT_FILE", Reason: "must be set together with WEIR_GRPC_KEY_FILE"})
	} else if f.ClientCAFile != "" && f.CertFile == "" {
		bad = append(bad, cli.Problem{Setting: "WEIR_GRPC_CLIENT_CA_FILE", Reason: "requires WEIR_GRPC_CERT_FILE and WEIR_GRPC_KEY_FILE: client certificates are verified only with TLS"})
	}
	for setting, tokens := range map[string]cli.Secret{"WEIR_GRPC_TOKEN": c.GRPCToken, "WEIR_GRPC_ADMIN_TOKEN": c.GRPCAdminToken} {
		if tokens.IsZero() {
			continue
		}
		if err := auth.Check(tokens); err != nil {
			bad = append(bad, cli.Problem{Setting: setting, Reason: tokens.Flaw(err).Error()})
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return bad
}

// validateToRun is Validate for a collector that sends requests to Cloudflare.
func (c *Config) validateToRun() error {
	err := c.Validate()
	if !c.Tokens() {
		err = errors.Join(err, cli.Problem{Setting: "CF_API_TOKEN", Reason: "is required: set CF_API_TOKEN or CF_API_TOKEN_FILE or --cf-api-token-file or the file's cf_api_token, or credentials in the file"})
	}
	return err
}

// catalogue loads the datasets that the settings select.
func (c *Config) catalogue() (*catalogue.Catalogue, error) {
	user, err := readOptional(c.CatalogueFile)
	if err != nil {
		return nil, cli.Problem{Setting: "WEIR_CATALOGUE_FILE", Value: c.CatalogueFile, Reason: err.Error()}
	}
	return catalogue.Load(user, catalogue.Options{
		HTTPSize: c.BucketSize, Delay: c.Delay, Enable: c.Enable, Disable: c.Disable, Profile: c.Profile, RequestSource: c.RequestSource,
		File: c.CatalogueFile, StartTimestamps: c.SampleTimestamp == "start",
	})
}

// catalogueProblems separates the catalogue's problems and replaces "settings", which
// the catalogue uses because it does not know their names, by the names of settings.
func catalogueProblems(err error) []error {
	if wrapped := errors.Unwrap(err); wrapped != nil {
		err = wrapped
	}
	list, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var out []error
	var delays []string
	for _, e := range list.Unwrap() {
		if d := new(catalogue.DelayError); errors.As(e, &d) {
			delays = append(delays, cli.FormatDuration(d.Most)+" for "+d.Dataset)
			continue
		}
		if reason, about := strings.CutPrefix(e.Error(), "settings: "); about {
			e = cli.Problem{Setting: "WEIR_DATASETS, WEIR_DISABLE_DATASETS", Reason: reason}
		}
		out = append(out, e)
	}
	if len(delays) > 0 {
		out = append(out, cli.Problem{Setting: "CF_DELAY_SECONDS", Reason: "must be at most " + strings.Join(delays, ", ") +
			", or buckets leave the replay before they are scraped; a larger CF_BUCKET_SECONDS allows more for http, other datasets can be disabled (WEIR_DISABLE_DATASETS)"})
	}
	return out
}

// replayDefault is the default of CF_METRICS_REPLAY_HOURS of exposers.
const replayDefault = 24 * time.Hour

// checkTimestamps rejects datasets whose samples would be older than the default replay
// when they appear, and so would never be scraped, unless WEIR_DATASETS names them: the
// exposers' settings are not known here.
func (c *Config) checkTimestamps(datasets *catalogue.Catalogue) error {
	if c.SampleTimestamp != "start" {
		return nil
	}
	for i := range datasets.Datasets {
		d := &datasets.Datasets[i]
		age := d.Delay + d.Size
		if age < replayDefault || slices.Contains(c.Enable, d.Name) || slices.Contains(c.Enable, d.Dataset) {
			continue
		}
		hours := int((age + 12*time.Hour + time.Hour - 1) / time.Hour) // as the exposer requires
		return cli.Problem{Setting: "CF_SAMPLE_TIMESTAMP", Reason: fmt.Sprintf(
			"samples of %s would be %s old when they appear, and exposers show none that are older than CF_METRICS_REPLAY_HOURS (%g by default): it must be end; "+
				"or disable %s (WEIR_DISABLE_DATASETS); or name it in WEIR_DATASETS, with CF_METRICS_REPLAY_HOURS=%d or more at the exposers and an out_of_order_time_window of %dh or more in Prometheus",
			d.Dataset, cli.FormatDuration(age), replayDefault.Hours(), d.Dataset, hours, hours+2)}
	}
	return nil
}

// Shown returns the definitions of the datasets that are collected, and whether their
// samples carry the start of their window, for callers that also have the exposer's
// settings. The settings must be valid.
func (c *Config) Shown() (datasets []bucket.Definition, start bool) {
	if all, err := c.catalogue(); err == nil {
		for i := range all.Datasets {
			datasets = append(datasets, all.Datasets[i].Definition)
		}
	}
	return datasets, c.SampleTimestamp == "start"
}

// retention is the setting or the driver's default.
func (c *Config) retention() time.Duration {
	switch {
	case c.Retention > 0:
		return c.Retention
	case c.DatabaseURL.IsZero():
		return 90 * 24 * time.Hour
	}
	return 400 * 24 * time.Hour
}

// checkProxies rejects proxy addresses that cannot be used. Go ignores some of these
// silently, and requests to Cloudflare would bypass the proxy. The
// error does not repeat the address, which may hold a password.
func checkProxies(getenv func(string) string) error {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"} {
		text := getenv(name)
		if text == "" {
			continue
		}
		if !strings.Contains(text, "://") {
			text = "http://" + text // as Go reads it
		}
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) {
			return fmt.Errorf("%s must be the address of a proxy with the scheme http, https, socks5 or socks5h, such as http://proxy.example:3128; the value is not shown because it may contain a password", name)
		}
	}
	return nil
}
