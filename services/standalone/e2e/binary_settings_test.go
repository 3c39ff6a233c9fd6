package e2e

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/testkit"
)

// Settings that cannot be right end a program with code 2 before anything runs.
// All of them are named at once, each with its value and what would be right.
func TestBinaryRefusesSettings(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(folder, name)
		testkit.WriteFile(t, path, []byte(content))
		return path
	}
	token := "CF_API_TOKEN=" + apiToken
	for _, test := range []struct {
		name     string
		program  string
		args     []string
		settings []string
		// lines are what must be on standard error: of each, all parts in one line.
		lines [][]string
	}{
		{
			name: "everything at once", program: "collector",
			args: []string{"run", "--no-such-flag", "3", "--drain", "soon"},
			settings: []string{
				token, "CF_DELAY_SECONDS=banana", "CF_BUCKET_SECONDS=7", "WEIR_BUDGET_SHARE=150%", "WEIR_RETENTION=1h", "WEIR_COLLECTOR_LISTEN=here",
				"WEIR_CLOUDFLARE_URL=ftp://x", "WEIR_LOG_LEVEL=loud", "CF_SAMPLE_TIMESTAMP=middle", "WEIR_MIGRATE=perhaps",
				"WEIR_COLECTOR_NAME=x", "WEIR_NOTHING_LIKE_IT=x", "CF_ZONE=a.example", "WEIR_DATASETS=nonsense_1h",
			},
			lines: [][]string{
				{"15 problems"},
				{"--no-such-flag", "unknown flag"},
				{`--drain="soon"`, "a duration from 0s to 10m"},
				{`CF_DELAY_SECONDS="banana"`, "a duration from 1m to 24h"},
				{`CF_BUCKET_SECONDS="7"`, "one of 1m, 5m, 15m, 30m, 1h, 24h"},
				{`WEIR_BUDGET_SHARE="150%"`, "a share from 1% to 100%"},
				{`WEIR_RETENTION="1h"`, "a duration from 2d to 3650d"},
				{`WEIR_COLLECTOR_LISTEN="here"`, "host:port"},
				{`WEIR_CLOUDFLARE_URL="ftp://x"`, "begins with https:// or http://"},
				{`WEIR_LOG_LEVEL="loud"`, "one of debug, info, warn, error"},
				{`CF_SAMPLE_TIMESTAMP="middle"`, "one of end, start"},
				{`WEIR_MIGRATE="perhaps"`, "true or false"},
				{"WEIR_COLECTOR_NAME", "unknown setting", "WEIR_COLLECTOR_NAME?"},
				{"WEIR_NOTHING_LIKE_IT", "unknown setting"},
				{"CF_ZONE ", "CF_ZONES?"},
				{`"nonsense_1h"`, "uniques_1h"},
			},
		},
		{
			name: "a file with unknown keys", program: "collector", args: []string{"run", "--config", file("unknown.yaml",
				"cf_api_token: "+apiToken+"\ndelay_seconds: 60\nfrobnicate: 3\ncf_bucket_seconds: [5m, 1h]\nwhatever:\n  deep: 1\n")},
			lines: [][]string{
				{"4 problems"},
				{"delay_seconds", "unknown.yaml:2", "unknown key", "cf_delay_seconds?"},
				{"frobnicate", "unknown.yaml:3", "unknown key"},
				{"cf_bucket_seconds", "unknown.yaml:4", "must be a single value", "one of 1m, 5m"},
				{"whatever", "unknown.yaml:5", "unknown key"},
			},
		},
		{
			name: "zones in and out", program: "collector", args: []string{"run"},
			settings: []string{token, "CF_ZONES=a.example,b.example", "CF_EXCLUDE_ZONES=b.example"},
			lines:    [][]string{{`CF_EXCLUDE_ZONES="b.example"`, "CF_ZONES"}},
		},
		{
			name: "an unknown dataset left out", program: "collector", args: []string{"catalogue"},
			settings: []string{"WEIR_DISABLE_DATASETS=country,nonsense"},
			lines:    [][]string{{`"nonsense"`, "countries_1h"}, {`"country"`, "countries_1h"}},
		},
		{
			name: "a catalogue that is not there", program: "collector", args: []string{"run"},
			settings: []string{token, "WEIR_CATALOGUE_FILE=/nowhere/datasets.yaml"},
			lines:    [][]string{{`WEIR_CATALOGUE_FILE="/nowhere/datasets.yaml"`, "no such file"}},
		},
		{
			name: "a delay that no scrape would outlast", program: "collector", args: []string{"catalogue"},
			settings: []string{"CF_DELAY_SECONDS=1681", "CF_BUCKET_SECONDS=60"},
			lines:    [][]string{{"1 problem "}, {`CF_DELAY_SECONDS="1681"`, "must be at most 28m for http_1m", "CF_BUCKET_SECONDS"}},
		},
		{
			name: "starts of days", program: "collector", args: []string{"run"},
			settings: []string{token, "CF_SAMPLE_TIMESTAMP=start"},
			lines:    [][]string{{"1 problem "}, {`CF_SAMPLE_TIMESTAMP="start"`, "uniques_1d", "24h15m old", "must be end", "CF_METRICS_REPLAY_HOURS=37", "out_of_order_time_window of 39h"}},
		},
		{
			name: "starts of days by name, and a replay without them", program: "weir", args: []string{"run"},
			settings: []string{token, "CF_SAMPLE_TIMESTAMP=start", "WEIR_DATASETS=uniques_1d"},
			lines:    [][]string{{"1 problem "}, {`CF_METRICS_REPLAY_HOURS="24" (default)`, "none is ever served", "at least 37", "39h"}},
		},
		{
			name: "what cannot be at one time", program: "collector",
			args: []string{"run", "--collector-listen=", "--drain", "1s", "--drain=2s", "--sqlite-file="},
			settings: []string{
				token, "WEIR_POSTGRES_POOLER=transaction", "WEIR_INITIAL_LOOKBACK=4d", "WEIR_RETENTION=3d",
			},
			lines: [][]string{
				{"5 problems"},
				{"--drain (flag)", "more than once"},
				{"--collector-listen (flag)", "is empty", "host:port"},
				{"--sqlite-file (flag)", "is empty"},
				{`WEIR_POSTGRES_POOLER="transaction"`, "WEIR_DATABASE_URL"},
				{`WEIR_INITIAL_LOOKBACK="4d"`, "at most WEIR_RETENTION (3d)"},
			},
		},
		{
			name: "one address for two", program: "weir", args: []string{"run", "--simulate"},
			settings: []string{"WEIR_EXPOSER_LISTEN=:9821", "WEIR_EXPOSER_OPS_LISTEN=127.0.0.1:9821", "WEIR_CLOUDFLARE_URL=http://127.0.0.1:1"},
			lines: [][]string{
				{"4 problems"},
				{"WEIR_EXPOSER_OPS_LISTEN", "the address of WEIR_EXPOSER_LISTEN (:9821)"},
				{"WEIR_COLLECTOR_OPS_LISTEN", "the address of WEIR_EXPOSER_LISTEN (:9821)"},
				{"WEIR_COLLECTOR_OPS_LISTEN", "the address of WEIR_EXPOSER_OPS_LISTEN (127.0.0.1:9821)"},
				{"WEIR_CLOUDFLARE_URL", "no effect with WEIR_SIMULATE"},
			},
		},
		{
			name: "an exposer", program: "exposer", args: []string{"run"},
			settings: []string{
				"WEIR_COLLECTOR_ADDRESS=nohost,collector:0", "WEIR_REPLAY_SOFT_SAMPLES=9", "WEIR_REPLAY_HARD_SAMPLES=3", "WEIR_COLLECTOR_CERT_FILE=x.pem",
				"CF_METRICS_REPLAY_HOURS=0", "CF_BACKFILL_MAX_HOURS=many", "WEIR_EXPOSER_MAX_SCRAPES=-1", "WEIR_COLLECTOR_TOKEN=" + marked,
			},
			lines: [][]string{
				{`CF_METRICS_REPLAY_HOURS="0"`, "a whole number from 1 to 720"},
				{`CF_BACKFILL_MAX_HOURS="many"`, "a whole number from 1 to 87840"},
				{`WEIR_EXPOSER_MAX_SCRAPES="-1"`, "a whole number from 1 to 10000"},
				{`"nohost" must be host:port`},
				{`"collector:0" must be host:port, with a port from 1 to 65535`},
				{`WEIR_COLLECTOR_CERT_FILE="x.pem"`, "WEIR_COLLECTOR_KEY_FILE"},
				{"WEIR_COLLECTOR_TLS", "must be true"},
				{`WEIR_REPLAY_SOFT_SAMPLES="9"`, "at most WEIR_REPLAY_HARD_SAMPLES (3)"},
			},
		},
		{
			name: "a token in plain text", program: "exposer", args: []string{"run"},
			settings: []string{"WEIR_COLLECTOR_ADDRESS=collector.example:9820", "WEIR_COLLECTOR_TOKEN=" + marked},
			lines:    [][]string{{"WEIR_COLLECTOR_TLS", "in plain text"}},
		},
		{
			name: "no token and no simulation", program: "weir", args: []string{"run"},
			lines: [][]string{{"CF_API_TOKEN", "--simulate"}},
		},
		{
			name: "token and simulation", program: "weir", args: []string{"run", "--simulate"}, settings: []string{token},
			lines: [][]string{{"--simulate", "together with a Cloudflare API token"}},
		},
		{
			name: "simulation in a service", program: "collector", args: []string{"run", "--simulate"}, settings: []string{token},
			lines: [][]string{{"--simulate", "unknown flag"}},
		},
		{
			name: "a demo at no speed", program: "weir", args: []string{"demo", "--speed", "1"},
			lines: [][]string{{`--speed="1"`, "a whole number from 2 to 10000"}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			o := complete(t, command(t, program(t, test.program), test.settings, test.args...))
			refused(t, o, cli.ExitUsage, test.lines...)
		})
	}
}

// refused expects an exit code, and lines on standard error with all of some parts.
func refused(t *testing.T, o outcome, code int, lines ...[]string) {
	t.Helper()
	if o.code != code {
		t.Errorf("the exit code is %d, want %d", o.code, code)
	}
	if o.stdout != "" {
		t.Errorf("standard output has %q, want nothing", o.stdout)
	}
	for _, parts := range lines {
		if !hasLine(o.stderr, parts...) {
			t.Errorf("no line has all of %q", parts)
		}
	}
	if t.Failed() {
		t.Logf("standard error:\n%s", o.stderr)
	}
}

// What only the attempt shows ends a program with code 1 and the reason.
func TestBinaryCannotRun(t *testing.T) {
	t.Parallel()
	sim := simulate(t, nil)
	folder := t.TempDir()
	rubbish := filepath.Join(folder, "rubbish.db")
	testkit.WriteFile(t, rubbish, []byte(strings.Repeat("no database ", 100)))
	away := address(t)
	unmigrated := withPassword(t, pgtest.DSN(t))
	other := sim.startCollector(t, "WEIR_SQLITE_FILE="+filepath.Join(folder, "used.db"))
	stamped := filepath.Join(folder, "stamped.db")
	first := sim.startCollector(t, "WEIR_SQLITE_FILE="+stamped)
	first.stop()
	for _, test := range []struct {
		name     string
		settings []string
		parts    []string
	}{
		{"Postgres is not migrated", []string{"WEIR_DATABASE_URL=" + unmigrated}, []string{"open store", "migrate"}},
		{"no such folder", []string{"WEIR_SQLITE_FILE=/nowhere/weir.db"}, []string{"/nowhere/weir.db", "no such file or directory"}},
		{"not a database", []string{"WEIR_SQLITE_FILE=" + rubbish}, []string{rubbish, "file is not a database"}},
		{"a second process on one file", []string{"WEIR_SQLITE_FILE=" + filepath.Join(folder, "used.db")}, []string{"used.db", fmt.Sprintf("process %d", other.cmd.Process.Pid), "Postgres"}},
		{"another sample timestamp", []string{"WEIR_SQLITE_FILE=" + stamped, "CF_SAMPLE_TIMESTAMP=start", "WEIR_DISABLE_DATASETS=uniques_1d"}, []string{"stamped.db", `sample timestamp "end"`, `configured is "start"`, "duplicate samples"}},
		{"address in use", []string{"WEIR_COLLECTOR_LISTEN=" + other.data}, []string{"gRPC listener", other.data, "address already in use"}},
		{"operations address in use", []string{"WEIR_COLLECTOR_OPS_LISTEN=" + other.ops}, []string{"operations listener", other.ops, "address already in use"}},
		{"no such CA file", []string{"WEIR_CLOUDFLARE_CA_FILE=/nowhere/ca.pem"}, []string{"WEIR_CLOUDFLARE_CA_FILE", "/nowhere/ca.pem", "no such file"}},
		{"a CA file without one", []string{"WEIR_CLOUDFLARE_CA_FILE=" + rubbish}, []string{"WEIR_CLOUDFLARE_CA_FILE", rubbish, "no certificate in PEM format"}},
		{"no such web configuration", []string{"WEIR_COLLECTOR_WEB_CONFIG_FILE=/nowhere/web.yaml"}, []string{"WEIR_COLLECTOR_WEB_CONFIG_FILE is /nowhere/web.yaml", "no such file"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := sim.newCollector(t, test.settings...)
			o := complete(t, command(t, program(t, "collector"), c.settings, "run"))
			refused(t, o, cli.ExitError, test.parts)
		})
	}
	t.Run("an exposer's address in use", func(t *testing.T) {
		o := complete(t, command(t, program(t, "exposer"), []string{"WEIR_EXPOSER_LISTEN=" + other.data, "WEIR_EXPOSER_OPS_LISTEN=" + away}, "run"))
		refused(t, o, cli.ExitError, []string{"data listener", other.data, "address already in use"})
	})
	if err := other.running(); err != nil {
		t.Error(err) // it was there first
	}
}

// An address that cannot be read is not repeated in the complaint: it may hold
// a password.
func TestBinaryHidesPasswordsInBadAddresses(t *testing.T) {
	t.Parallel()
	sim := simulate(t, nil)
	base := pgtest.DSN(t)
	other, err := url.Parse(withPassword(t, base))
	if err != nil {
		t.Fatal(err)
	}
	other.Path = "/weir_no_such_database"
	for _, test := range []struct{ setting, says string }{
		{"WEIR_DATABASE_URL=postgres://weir:" + marked + "@127.0.0.1:port/weir", "invalid Postgres connection string"},
		{"WEIR_DATABASE_URL=postgres://weir:" + marked + "%zz@127.0.0.1/weir", "invalid Postgres connection string"},
		{"WEIR_DATABASE_URL=host=127.0.0.1 password=" + marked + " port=none", "invalid Postgres connection string"},
		{"WEIR_DATABASE_URL=mysql://weir:" + marked + "@127.0.0.1/weir", "invalid Postgres connection string"},
		{"WEIR_DATABASE_URL=" + marked, "invalid Postgres connection string"},
		{"WEIR_DATABASE_URL=" + other.String(), `database "weir_no_such_database" does not exist`},
		{"WEIR_CLOUDFLARE_URL=https://weir:" + marked + "@cf.example/client/v4", "without user, query or fragment"},
		{"WEIR_CLOUDFLARE_URL=ftp://weir:" + marked + "@cf.example/", "begins with https:// or http://"},
		{"WEIR_CLOUDFLARE_URL=https://cf.example/client/v4?token=" + marked, "without user, query or fragment"},
	} {
		c := sim.newCollector(t, test.setting)
		o := complete(t, command(t, program(t, "collector"), c.settings, "run")) // looks for the secret
		if o.code == cli.ExitOK || !strings.Contains(o.stderr, test.says) {
			name, _, _ := strings.Cut(test.setting, "=")
			t.Errorf("%s: exit code %d, want another than 0 and %q:\n%s", name, o.code, test.says, o.stderr)
		}
	}
}

// A token that Cloudflare refuses is no reason to stop: the collector serves
// what it has, says what is wrong, counts it, and takes the next token from
// the file without a restart.
func TestBinaryOutlivesABadToken(t *testing.T) {
	t.Parallel()
	disabled, expired := cfsim.GoodToken(marked+"-disabled"), cfsim.GoodToken(marked+"-expired")
	disabled.Disabled = true
	expired.ExpiresOn = time.Now().Add(-time.Hour)
	sim := simulate(t, nil, disabled, expired)
	for _, test := range []struct{ name, token, says string }{
		{"unknown", marked + "-unknown", "Invalid access token"},
		{"disabled", disabled.Secret, "Authentication error"},
		{"expired", expired.Secret, "Authentication error"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "token")
			testkit.WriteFile(t, file, []byte(test.token+"\n"))
			// A pause between passes that is shorter than the one after a refusal.
			c := sim.newCollector(t, "CF_API_TOKEN=", "CF_API_TOKEN_FILE="+file, "CF_COLLECTION_INTERVAL_SECONDS=1")
			c.again()
			c.says("class=auth", test.says)
			if n := c.metric(`weir_collector_upstream_errors_total{class="auth"}`); n < 1 {
				t.Errorf("weir_collector_upstream_errors_total has %v errors of class auth, want at least 1", n)
			}
			c.unready("Cloudflare has not accepted an API token yet: Cloudflare refuses the API token")
			if test.name != "expired" {
				c.stop()
				return
			}
			testkit.WriteFile(t, file, []byte(apiToken+"\n"))
			x := startExposerBinary(t, nil, c)
			sim.showsTruth(t, c, x)
		})
	}
}
