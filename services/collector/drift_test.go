package collector_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/collector/internal/audit"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/store/postgres"
	"github.com/weir-metrics/weir/services/collector/internal/store/sqlite"
)

// figures writes what a leader would have recorded.
func figures(t *testing.T, s store.Store) {
	t.Helper()
	d := audit.NewDrift("http_5m")
	end := bucket.Time(1_795_262_400)
	for range 1200 {
		d.Settled(end, 5*time.Minute, audit.Window{
			End: end, First: end.Add(5 * time.Minute), Since: end.Add(5 * time.Minute), Equal: 2, Ground: bucket.Confirmed,
		})
	}
	won, err := s.Acquire(t.Context(), "test", 15*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	batch := store.Batch{CommittedAt: end.Std(), Records: []store.Record{d.Record()}}
	if _, err := s.Append(t.Context(), won.Term, won.Head.Position, batch); err != nil {
		t.Fatal(err)
	}
}

func closed(t *testing.T, s store.Store) {
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// report checks both forms of the report of the figures.
func report(t *testing.T, c collector.Config) {
	t.Helper()
	var text, machine bytes.Buffer
	if err := collector.WriteDrift(t.Context(), c, "text", &text); err != nil {
		t.Fatal(err)
	}
	if want := "http_5m: delay 5m0s, recommended 5m0s (100 % of 1200 windows"; !strings.HasPrefix(text.String(), want) {
		t.Errorf("the report begins %q, want %q", text.String(), want)
	}
	if err := collector.WriteDrift(t.Context(), c, "json", &machine); err != nil {
		t.Fatal(err)
	}
	var reports []struct {
		Dataset     string `json:"dataset"`
		Recommended int    `json:"recommended_delay_seconds"`
	}
	if err := json.Unmarshal(machine.Bytes(), &reports); err != nil || len(reports) != 1 || reports[0].Recommended != 300 {
		t.Errorf("the report for programs is %s (%v)", &machine, err)
	}
}

// The report is read from a SQLite file while its collector has it open.
func TestDriftBesideARunningCollector(t *testing.T) {
	c := collector.Config{SQLiteFile: filepath.Join(t.TempDir(), "weir.db")}
	if err := collector.Migrate(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	s, err := sqlite.Open(t.Context(), sqlite.Options{Path: c.SQLiteFile, Settings: store.Settings{SampleTimestamp: "end"}})
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, s)
	var none bytes.Buffer
	if err := collector.WriteDrift(t.Context(), c, "text", &none); err != nil || !strings.Contains(none.String(), "No data yet") {
		t.Errorf("before anything is recorded: %q, %v", &none, err)
	}
	figures(t, s)
	report(t, c)
}

func TestDriftOnPostgres(t *testing.T) {
	c := collector.Config{DatabaseURL: cli.NewSecret(pgtest.DSN(t)), Pooler: "session"}
	if err := collector.Migrate(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	s, err := postgres.Open(t.Context(), postgres.Options{DSN: c.DatabaseURL.Reveal(), Settings: store.Settings{SampleTimestamp: "start"}})
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, s)
	figures(t, s)
	report(t, c)
}

// A file that is not there is an error that names it, and is not made.
func TestDriftMakesNoFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "none.db")
	var stdout, stderr bytes.Buffer
	p := cli.Program{Name: "collector", Commands: collector.Commands(), Stdout: &stdout, Stderr: &stderr, Environ: []string{"WEIR_SQLITE_FILE=" + file}}
	if code := p.Main(t.Context(), []string{"drift"}); code != cli.ExitError || !strings.Contains(stderr.String(), file) {
		t.Errorf("exit code %d, %q", code, &stderr)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the file was made")
	}
	stderr.Reset()
	if code := p.Main(t.Context(), []string{"drift", "--format=xml"}); code != cli.ExitUsage || !strings.Contains(stderr.String(), "format") {
		t.Errorf("for an unknown format: exit code %d, %q", code, &stderr)
	}
}
