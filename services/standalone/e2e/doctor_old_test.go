package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
)

// A Postgres that is too old is named: no new store is made in it, by the program that migrates; a collector
// works on one that is there, and warns; and the doctor names it, with and without a store.
func TestBinaryDoctorOfOldPostgres(t *testing.T) {
	testkit.InAll(t)
	t.Parallel()
	dsn := pgtest.StartMajor(t, 14).DSN()
	version := "Postgres " + strings.Fields(pgtest.Exec(t, dsn, "SHOW server_version"))[0]
	asked := []string{"WEIR_DATABASE_URL=" + dsn}
	named := func(when string) {
		t.Helper()
		v := examine(t, asked)
		found := slices.IndexFunc(v.Findings, func(f finding) bool { return f.Check == "store.version" })
		if found < 0 || v.Findings[found].Status != "fail" || !strings.Contains(v.Findings[found].Found, version) || v.Findings[found].Fix != "Use Postgres 15 or newer." {
			t.Errorf("%s: store.version is not failed with %q: %+v", when, version, v.Findings)
		}
	}
	named("without a store")
	o := complete(t, command(t, program(t, "collector"), asked, "migrate"))
	if want := "the server is " + version + "; a new store needs Postgres 15 or newer"; o.code != 1 || !strings.Contains(o.stderr, want) {
		t.Errorf("collector migrate ends with %d and says %q, want %q", o.code, o.stderr, want)
	}

	pgtest.Exec(t, dsn, string(testkit.RepoFile(t, "services/collector/internal/store/postgres/testdata/dump_1.sql")))
	pgtest.Exec(t, dsn, "TRUNCATE bucket, event, log, record") // of another time
	if o := complete(t, command(t, program(t, "collector"), asked, "migrate")); o.code != 0 {
		t.Fatalf("collector migrate refuses a store that is there: %s", o.stderr)
	}
	c := simulate(t, nil).startCollector(t, "WEIR_DATABASE_URL="+withPassword(t, dsn))
	testkit.Eventually(t, func() error {
		if c.metric("weir_collector_buckets_total") == 0 {
			return constError("nothing is stored yet")
		}
		return nil
	})
	c.says("Postgres is older than what is supported")
	named("with a store")
}

// tooOld is a Prometheus that has no out-of-order window, with the shipped configuration but for
// its window, which the program refuses.
func (c *clinic) tooOld(tools promtest.Tools) {
	kept := c.settings
	defer func() { c.settings = kept }()
	window := regexp.MustCompile("(?m)^storage:\n(?: .*\n)+")
	if !window.MatchString(c.config) {
		c.t.Fatal("the configuration has no section storage")
	}
	p := tools.Start(c.t, window.ReplaceAllString(c.config, ""))
	c.settings = append(slices.Clone(kept), "WEIR_PROMETHEUS_URL="+p.URL())
	v := c.becomes("prometheus.version", "prometheus.out_of_order_window", "replay_bounded", "?backfill_path")
	if text, want := v.text("prometheus.version"), fmt.Sprintf("Prometheus %s\n", tools.Version); text != want {
		c.t.Errorf("the version is %q, want %q", text, want)
	}
}
