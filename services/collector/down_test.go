package collector_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/cfsimtest"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector"
)

// TestPostgresDownAtStart: a collector, and a migration, wait for a Postgres that is
// down; the collector says so, is not ready, and goes on when it answers.
func TestPostgresDownAtStart(t *testing.T) {
	server := pgtest.Start(t)
	dsn := server.DSN()
	server.Stop()

	migrated := make(chan string, 1)
	go func() {
		if code, said := migrate(t, []string{"WEIR_DATABASE_URL=" + dsn}); code != cli.ExitOK {
			migrated <- fmt.Sprintf("exit code %d, %s", code, said)
		}
		close(migrated)
	}()
	config, err := load("WEIR_DATABASE_URL="+dsn, "WEIR_MIGRATE=true", "WEIR_CLOUDFLARE_URL="+cfsimtest.Start(t, cfsimtest.New(t, cfsim.Demo(clock.System(), 1))))
	if err != nil {
		t.Fatal(err)
	}
	config.Token = cli.NewSecret(cfsim.DemoToken)
	log, said := testkit.RecordingLogger(t)
	ops := testkit.Listen(t)
	page := func(path string) (int, string) {
		response, err := http.Get("http://" + ops.Addr().String() + path)
		if err != nil {
			return 0, err.Error()
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return 0, err.Error()
		}
		return response.StatusCode, string(body)
	}
	c, err := collector.New(t.Context(), config, collector.Deps{Logger: log, GRPC: testkit.Listen(t), Ops: ops})
	if err != nil {
		t.Fatalf("start with a Postgres that is down: %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	testkit.Eventually(t, func() error {
		code, body := page("/-/ready")
		if code != http.StatusServiceUnavailable || !strings.Contains(body, "the store does not respond") {
			return fmt.Errorf("readiness is %d, %s", code, body)
		}
		if _, metrics := page("/metrics"); !strings.Contains(metrics, "weir_collector_store_up 0") {
			return fmt.Errorf("the metrics do not say that the store is away")
		}
		return nil
	})
	if code, _ := page("/-/healthy"); code != http.StatusOK {
		t.Errorf("health is %d", code)
	}
	server.Start()
	testkit.Eventually(t, func() error {
		if code, body := page("/-/ready"); code != http.StatusOK {
			return fmt.Errorf("readiness is %d, %s", code, body)
		}
		if said.Count("msg=leading") == 0 {
			return fmt.Errorf("it does not lead")
		}
		return nil
	})
	if failed := <-migrated; failed != "" {
		t.Errorf("migrate: %s", failed)
	}
	if n := said.Count(`level=WARN msg="the database does not respond; waiting for it"`); n != 1 {
		t.Errorf("the log has it %d times", n)
	}
}

// It ends by being told to, while it waits.
func TestStoppedWhileItWaits(t *testing.T) {
	server := pgtest.Start(t)
	dsn := server.DSN()
	server.Stop()
	config, err := load("WEIR_DATABASE_URL=" + dsn)
	if err != nil {
		t.Fatal(err)
	}
	log, said := testkit.RecordingLogger(t)
	c, err := collector.New(t.Context(), config, collector.Deps{Logger: log, GRPC: testkit.Listen(t), Ops: testkit.Listen(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	testkit.Eventually(t, func() error {
		if said.Count("waiting for it") == 0 {
			return fmt.Errorf("it does not wait")
		}
		return nil
	})
	stop()
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// What waiting does not mend ends the start at once.
func TestWhatIsNotWaitedFor(t *testing.T) {
	server := pgtest.Start(t)
	dsn := server.DSN()
	pgtest.Exec(t, server.Local(dsn), `CREATE ROLE someone LOGIN PASSWORD 'right'`)
	server.Authenticate("host all all 127.0.0.1/32 scram-sha-256")
	for what, change := range map[string]func(*url.URL){
		"password authentication failed": func(u *url.URL) { u.User = url.UserPassword("someone", "wrong") },
		"does not exist":                 func(u *url.URL) { u.User, u.Path = url.UserPassword("someone", "right"), "/absent" },
		"collector migrate":              func(u *url.URL) { u.User = url.UserPassword("someone", "right") },
	} {
		u, err := url.Parse(dsn)
		if err != nil {
			t.Fatal(err)
		}
		change(u)
		config, err := load("WEIR_DATABASE_URL=" + u.String())
		if err != nil {
			t.Fatal(err)
		}
		_, err = collector.New(t.Context(), config, collector.Deps{Logger: testkit.Logger(t)})
		if err == nil || !strings.Contains(err.Error(), what) || !strings.Contains(err.Error(), "WEIR_DATABASE_URL") {
			t.Errorf("the start ended with %v, want %q and the setting", err, what)
		}
	}
}
