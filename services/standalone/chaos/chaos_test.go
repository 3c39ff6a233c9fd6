package chaos

import (
	"bytes"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-metrics/weir/internal/testkit"
)

var (
	firstSeed = flag.Uint64("chaos.seed", 1, "first seed of TestChaos")
	runs      = flag.Uint64("chaos.runs", 2, "number of seeds from there; -parallel of them at a time")
	verbose   = flag.Bool("chaos.v", false, "print the logs of a failing run's processes at debug level")
)

// TestChaos plays the schedules of a number of seeds and prints what they
// amounted to. To replay one: TEST_ALL=1, -chaos.seed=SEED -chaos.runs=1.
func TestChaos(t *testing.T) {
	testkit.InAll(t)
	// The garbage of one world is small beside the time that collecting it takes.
	defer debug.SetGCPercent(debug.SetGCPercent(1000))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(3 << 30)) // names of megabytes are another matter
	total, began := newTally(), time.Now()
	t.Run("seeds", func(t *testing.T) {
		for seed := *firstSeed; seed < *firstSeed+*runs; seed++ {
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
				t.Parallel()
				total.join(run(t, draw(seed)))
			})
		}
	})
	var table strings.Builder
	total.print(&table)
	t.Logf("from seed %d, in %s:\n%s", *firstSeed, time.Since(began).Round(time.Second), table.String())
}

// run plays one schedule in a bubble and fails the test for every violation.
func run(t *testing.T, s *schedule) *tally {
	t.Helper()
	out := newTally()
	level := slog.LevelWarn
	if *verbose {
		level = slog.LevelDebug
	}
	var logs bytes.Buffer
	var violations []string
	synctest.Test(t, func(t *testing.T) { violations, out = play(t, s, &logs, level) })
	if len(violations) > 0 {
		t.Errorf("violations:\n%s\n\nschedule: %s", strings.Join(violations, "\n"), s)
	}
	if t.Failed() && *verbose {
		name := fmt.Sprintf("%s/chaos-%d.log", os.TempDir(), s.Seed)
		if err := os.WriteFile(name, logs.Bytes(), 0o600); err != nil {
			t.Error(err)
		}
		t.Logf("the processes' logs are in %s", name)
	}
	return out
}
