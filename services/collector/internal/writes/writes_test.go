package writes

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

// What an operator must mend is told at once, what may pass after a minute; one
// cause is one warning and one problem, whatever it keeps from being written.
func TestWatch(t *testing.T) {
	var log bytes.Buffer
	logger, now := slog.New(slog.NewTextHandler(&log, nil)), time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	board := trouble.New(logger, clock, nil)
	w := New(logger, clock, board, prometheus.NewRegistry())
	for _, step := range []struct {
		do                 func()
		after              time.Duration
		said               string // by Err; empty: nothing
		problems           int
		warnings, failures int // lines of the log so far
	}{
		{do: func() { w.Failed(Log, store.ErrUnavailable) }, warnings: 1},
		{do: func() { w.Failed(Lease, store.ErrUnavailable) }, after: 30 * time.Second, warnings: 1},
		{do: func() { w.Works(Log, Lease) }, warnings: 1},
		{do: func() { w.Failed(Log, store.ErrUnavailable) }, warnings: 2},
		{do: func() {}, after: time.Minute, said: "is unavailable", warnings: 2},
		{do: func() { w.Failed(Lease, fmt.Errorf("renew: %w", store.ErrNoSpace)) }, said: "free space", problems: 1, warnings: 2, failures: 1},
		{do: func() { w.Works(Lease) }, said: "is unavailable", problems: 1, warnings: 2, failures: 1},
		{do: func() { w.Works(Log) }, warnings: 2, failures: 1},
		{do: func() { w.Failed(Retention, store.ErrDenied) }, problems: 1, warnings: 3, failures: 2},
		{do: func() { w.Works(Retention) }, warnings: 3, failures: 2},
	} {
		now = now.Add(step.after)
		step.do()
		err := fmt.Sprint(w.Err())
		if said := step.said; said == "" && w.Err() != nil || !strings.Contains(err, said) {
			t.Errorf("says %s, want %q", err, said)
		}
		if writable := testutil.ToFloat64(w.writable); (writable == 0) != (step.said != "") && step.after == 0 {
			t.Errorf("the gauge is %v, Err %s", writable, err)
		}
		if got := len(board.List(false)); got != step.problems {
			t.Errorf("%d problems, want %d", got, step.problems)
		}
		if warnings, failures := strings.Count(log.String(), "level=WARN"), strings.Count(log.String(), "level=ERROR"); warnings != step.warnings || failures != step.failures {
			t.Errorf("%d warnings and %d errors, want %d and %d", warnings, failures, step.warnings, step.failures)
		}
		if t.Failed() {
			t.Fatal(log.String())
		}
	}
}

func TestANilWatchTakesEverything(t *testing.T) {
	var w *Watch
	w.Failed(Log, store.ErrNoSpace)
	w.Works(Log)
	w.Count(store.ErrNoSpace)
	if w.Err() != nil || w.Failing(Log) {
		t.Error("a nil watch knows something")
	}
}
