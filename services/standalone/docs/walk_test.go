package docs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
)

// listeners are the settings of the programs with the documents' ports. A walk has other ports
// in their place, on whichever host a page has them, since a test may use free ones of
// loopback only.
var listeners = map[string][]string{
	"collector": {"WEIR_COLLECTOR_LISTEN=:9820", "WEIR_COLLECTOR_OPS_LISTEN=:9821"},
	"exposer":   {"WEIR_EXPOSER_LISTEN=:9810", "WEIR_EXPOSER_OPS_LISTEN=:9811"},
	"weir": {
		"WEIR_EXPOSER_LISTEN=:9810", "WEIR_EXPOSER_OPS_LISTEN=:9811", "WEIR_COLLECTOR_OPS_LISTEN=:9821",
		"WEIR_GRPC_LISTEN=:9820", "WEIR_COLLECTOR_ADDRESS=:9820", "WEIR_PUSH_OPS_LISTEN=:9831",
	},
}

// operated is an installation, in commands, for the pages that begin none themselves.
var operated = []string{
	"prometheus --config.file=deploy/prometheus/prometheus.yml --storage.tsdb.path=prometheus-data --web.listen-address=127.0.0.1:9090 --web.enable-remote-write-receiver",
	"CF_API_TOKEN_FILE=cf.token weir run",
	"weir push --collector-address 127.0.0.1:9820 --destination-url http://127.0.0.1:9090/api/v1/write --external-labels job=push,instance=weir --cursor-file cursor.json",
}

// The commands of the documents do what they say, as they stand there, against a simulated
// Cloudflare, a real Postgres and a real Prometheus. Pages that begin no processes share an
// installation.
func TestCommandsOfThePages(t *testing.T) {
	for _, tool := range []string{"bash", "curl", "make", "openssl", "pg_dump", "psql"} {
		if _, err := exec.LookPath(tool); err != nil {
			testkit.Missing(t, "no "+tool+" on this machine; commands of the documents need it")
		}
	}
	tr := read(t)
	bin := binaries(t, tr.root)
	var shared []command
	for _, p := range tr.pages {
		all, _ := commands(p) // TestEveryCommandIsVerified has what is bad
		all = slices.DeleteFunc(all, func(c command) bool { return c.how == "test" || c.how == "needs" })
		if !slices.ContainsFunc(all, func(c command) bool { return c.how == "serve" }) {
			shared = append(shared, all...)
			continue
		}
		t.Run(p.path, func(t *testing.T) {
			t.Parallel()
			newWalk(t, tr.root, bin).all(all)
		})
	}
	t.Run("operating", func(t *testing.T) {
		t.Parallel()
		w := newWalk(t, tr.root, bin)
		for _, text := range operated {
			w.serve(text)
		}
		w.all(shared)
	})
}

// binaries is a folder with the programs, and Prometheus's.
func binaries(t *testing.T, root string) string {
	t.Helper()
	bin := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", bin+string(filepath.Separator), "./services/collector/cmd/collector", "./services/exposer/cmd/exposer", "./services/standalone/cmd/weir")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the programs: %v\n%s", err, out)
	}
	tools := promtest.Find(t)
	for name, path := range map[string]string{"prometheus": tools.Prometheus, "promtool": tools.Promtool} {
		if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	return bin
}

// walk is a page that is read from top to bottom.
type walk struct {
	t           *testing.T
	dir         string
	environment []string
	port        map[string]string // of the page, to that of this test
	exports     string            // what blocks have exported
}

// newWalk makes a folder with what pages name: a token, a database's URL, bin.
func newWalk(t *testing.T, root, bin string) *walk {
	t.Helper()
	w := &walk{t: t, dir: t.TempDir(), port: map[string]string{}}
	sim, err := cfsim.New(cfsim.Demo(clock.System(), 1))
	if err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(sim)
	t.Cleanup(api.Close)
	server := pgtest.Start(t)
	pgtest.Exec(t, server.DSN(), "CREATE DATABASE weir TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'")
	database, err := url.Parse(server.DSN())
	if err != nil {
		t.Fatal(err)
	}
	database.Path = "/weir"
	for name, text := range map[string]string{"cf.token": cfsim.DemoToken, "database.url": database.String()} {
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, port := range []string{"9810", "9811", "9820", "9821", "9831", "9090"} {
		_, w.port[port], _ = strings.Cut(testkit.Address(t), ":")
	}
	// The shipped configuration, for these ports and for less than a minute.
	config := strings.Replace(w.ported(string(content(t, filepath.Join(root, "deploy/prometheus/prometheus.yml")))),
		"scrape_interval: 1m\n    scrape_timeout: 30s", "scrape_interval: 1s\n    scrape_timeout: 1s", 1)
	if err := os.MkdirAll(filepath.Join(w.dir, "deploy", "prometheus"), 0o755); err != nil {
		t.Fatal(err)
	}
	testkit.WriteFile(t, filepath.Join(w.dir, "deploy", "prometheus", "prometheus.yml"), []byte(config))
	if err := os.Symlink(filepath.Join(root, "deploy", "alerts"), filepath.Join(w.dir, "deploy", "alerts")); err != nil {
		t.Fatal(err)
	}

	w.environment = []string{
		"HOME=" + w.dir, "TMPDIR=" + w.dir, "PATH=" + filepath.Join(w.dir, "bin") + ":" + bin + ":" + os.Getenv("PATH"),
		"https_proxy=http://127.0.0.1:" + w.port["9090"], "no_proxy=127.0.0.1,localhost", // nothing goes elsewhere
		"PGHOST=" + database.Hostname(), "PGPORT=" + database.Port(), "PGUSER=" + database.User.Username(),
	}
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH"} {
		w.environment = append(w.environment, name+"="+strings.TrimSpace(execute(t, root, nil, "go", "env", name)))
	}
	for name, settings := range listeners {
		w.wrap(name, filepath.Join(bin, name), settings, api.URL+cfsim.Prefix)
	}
	// A checkout is the folder of make, and may not become that of a store.
	made := "$(command -p -v make) --no-print-directory -C " + root
	w.wrap("make", made, append(listeners["weir"], "PROMETHEUS_LISTEN=:9090", "WEIR_SQLITE_FILE="+filepath.Join(w.dir, "weir-simulated.db")), api.URL+cfsim.Prefix)
	return w
}

// wrap puts a program into the folder bin, with settings that the page does not have to know of:
// its listeners, and the simulator for whoever has a token.
func (w *walk) wrap(name, program string, settings []string, cloudflare string) {
	w.t.Helper()
	script := "#!/bin/sh\n"
	for _, s := range settings {
		script += "export " + w.ported(s) + "\n"
	}
	if name != "exposer" {
		script += `if [ -n "${CF_API_TOKEN_FILE:-}" ]; then export WEIR_CLOUDFLARE_URL=` + cloudflare + "; fi\n"
	}
	bin := filepath.Join(w.dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, name), []byte(script+"exec "+program+` "$@"`+"\n"), 0o755); err != nil {
		w.t.Fatal(err)
	}
}

var anywhere = regexp.MustCompile(`[\w.-]*:(\d{4})\b`)

// ported is a text with the ports of this walk.
func (w *walk) ported(text string) string {
	return anywhere.ReplaceAllStringFunc(text, func(address string) string {
		if port := w.port[address[strings.LastIndex(address, ":")+1:]]; port != "" {
			return "127.0.0.1:" + port
		}
		return address
	})
}

var (
	day   = regexp.MustCompile(`2026-(?:10|11)-\d\d`)
	eight = time.Date(2026, 11, 8, 0, 0, 0, 0, time.UTC)
)

// script is a block as this walk runs it. The 8th of November of a page is today.
func (w *walk) script(text string) string {
	today := time.Now().UTC().Truncate(24 * time.Hour)
	text = day.ReplaceAllStringFunc(w.ported(text), func(date string) string {
		at, err := time.Parse(time.DateOnly, date)
		if err != nil {
			w.t.Fatal(err)
		}
		return today.Add(at.Sub(eight)).Format(time.DateOnly)
	})
	script := "set -euo pipefail\n" + w.exports + text
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "export ") {
			w.exports += line
		}
	}
	return script
}

func (w *walk) all(blocks []command) {
	for _, c := range blocks {
		w.t.Logf("%s (%s)", c, c.how)
		switch c.how {
		case "serve":
			w.serve(c.text)
		case "run":
			if _, err := w.try(c); err != nil {
				w.t.Fatalf("%s: %v", c, err)
			}
		case "look":
			testkit.Eventually(w.t, func() error {
				out, err := w.try(c)
				var exit *exec.ExitError
				switch {
				case errors.As(err, &exit) && exit.ExitCode() >= 126:
					w.t.Fatalf("%s: %v", c, err) // there is no such program, now or later
				case errors.As(err, &exit) && exit.ExitCode() == 1, err == nil:
					if !strings.Contains(out, c.expected) {
						return fmt.Errorf("%s: prints\n%s\nand the page expects %s", c, out, c.expected)
					}
					return nil
				}
				return fmt.Errorf("%s: %w", c, err)
			})
		}
	}
}

// try runs a block, and compares what it prints with what the page shows.
func (w *walk) try(c command) (string, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), testkit.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", w.script(c.text))
	cmd.Dir, cmd.Env = w.dir, w.environment
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, &out)
	}
	if c.shown != "" && (err == nil || cmd.ProcessState.ExitCode() == 1) {
		if pattern := shows(w.ported(c.shown)); !pattern.MatchString(out.String()) {
			return out.String(), fmt.Errorf("prints\n%s\nand the page shows\n%s", &out, c.shown)
		}
	}
	return out.String(), err
}

// shows is a pattern of what a page shows as printed, in which … stands for anything.
func shows(printed string) *regexp.Regexp {
	return regexp.MustCompile("(?s)^" + strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSpace(printed)), "…", ".*?") + `\s*$`)
}

// serve starts what goes on, until the end of the page.
func (w *walk) serve(text string) {
	w.t.Helper()
	cmd := exec.Command("bash", "-c", w.script(text))
	cmd.Dir, cmd.Env = w.dir, w.environment
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	log := new(testkit.Logs)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	// Its group goes with this process, in whatever way that ends.
	janitor, err := testkit.StartJanitor(`kill -KILL -- "-$1" 2>/dev/null || true`, strconv.Itoa(cmd.Process.Pid))
	if err != nil {
		w.t.Error(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	w.t.Cleanup(func() {
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM); err != nil {
			w.t.Errorf("%s has ended before the page did: %v", text, err)
		}
		select {
		case <-ended:
		case <-time.After(testkit.Patience):
			w.t.Errorf("%s did not end after SIGTERM", text)
		}
		if err := janitor.Finish(); err != nil {
			w.t.Error(err)
		}
		if w.t.Failed() {
			w.t.Logf("%s wrote:\n%s", text, log)
		}
	})
}
