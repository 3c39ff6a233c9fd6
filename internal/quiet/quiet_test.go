package quiet_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-metrics/weir/internal/quiet"
	"github.com/weir-metrics/weir/internal/testkit"
)

// lines are those above debug, each as its level and what follows the message's
// name.
func lines(logs *testkit.Logs) (out []string) {
	for line := range strings.Lines(logs.String()) {
		if _, said, ok := strings.Cut(strings.TrimSpace(line), " level="); ok && !strings.HasPrefix(said, "DEBUG") {
			out = append(out, said)
		}
	}
	return out
}

func want(t *testing.T, logs *testkit.Logs, want ...string) {
	t.Helper()
	if got := lines(logs); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("logged\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// Ten thousand of the same within a moment are two lines, from which the number
// can be told; each is there at debug.
func TestManyAtOnceAreTwoLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logs := new(testkit.Logs)
		q := quiet.New(slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug})), time.Minute)
		var g sync.WaitGroup
		for range 100 {
			g.Go(func() {
				for range 100 {
					q.Warn("list", "refused", "call", "list")
				}
			})
		}
		g.Wait()
		want(t, logs, `WARN msg=refused call=list`)
		time.Sleep(2 * time.Hour)
		want(t, logs, `WARN msg=refused call=list`, `WARN msg=refused call=list times=9999`)
		if n := logs.Count("level=DEBUG msg=refused"); n != 9999 {
			t.Errorf("%d lines at debug, want 9999", n)
		}
	})
}

// What lasts is told at the beginning, then in pauses that double up to an hour;
// once it has been over for an hour, the next time is a first time.
func TestWhatLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logs := new(testkit.Logs) // and not the test's, which it would fill
		q := quiet.New(slog.New(slog.NewTextHandler(logs, nil)), time.Minute)
		for range 24 * 360 {
			q.Warn("", "away")
			time.Sleep(10 * time.Second)
		}
		got := lines(logs)
		if len(got) < 28 || len(got) > 31 {
			t.Errorf("a day is %d lines, want about 30", len(got))
		}
		times := 1
		for _, line := range got {
			var n int
			if _, count, ok := strings.Cut(line, "times="); ok {
				_, _ = fmt.Sscan(count, &n)
			}
			times += n
		}
		time.Sleep(3 * time.Hour)
		for _, line := range lines(logs)[len(got):] { // the last, after the end
			var n int
			_, count, _ := strings.Cut(line, "times=")
			_, _ = fmt.Sscan(count, &n)
			times += n
		}
		if times != 24*360 {
			t.Errorf("the lines tell of %d times, want %d", times, 24*360)
		}
		before := len(lines(logs))
		time.Sleep(time.Hour)
		q.Warn("", "away")
		if got := lines(logs)[before:]; len(got) != 1 || strings.Contains(got[0], "times") {
			t.Errorf("after the end: %q, want one line as at first", got)
		}
	})
}

// What comes back less often than the pause is not told each time for ever.
func TestWhatIsRareIsToldSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logs := new(testkit.Logs)
		q := quiet.New(slog.New(slog.NewTextHandler(logs, nil)), time.Minute)
		for range 24 * 4 {
			q.Warn("", "away")
			time.Sleep(15 * time.Minute)
		}
		if n := len(lines(logs)); n < 24 || n > 30 {
			t.Errorf("a failure every quarter of an hour is %d lines a day, want about 28", n)
		}
	})
}

// Another reason is another line, and so is the same one when it has become worse
// or was over meanwhile.
func TestWhatIsNewIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logs := testkit.RecordingLogger(t)
		q := quiet.New(log, time.Minute)
		for range 3 {
			q.Warn("space", "away", "err", "no space")
			q.Warn("rights", "away", "err", "no rights")
		}
		q.Error("rights", "away", "err", "no rights")
		q.Warn("rights", "away", "err", "no rights")
		if !q.Over("away") || q.Over("away") {
			t.Error("it was not over once")
		}
		q.Info("rights", "away", "err", "no rights")
		time.Sleep(time.Hour)
		want(t, logs, `WARN msg=away err="no space"`, `WARN msg=away err="no rights"`, `ERROR msg=away err="no rights"`, `INFO msg=away err="no rights"`)
	})
}

// Whoever varies what he causes does not fill memory or the log.
func TestThingsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logs := new(testkit.Logs)
		q := quiet.New(slog.New(slog.NewTextHandler(logs, nil)), time.Minute)
		for i := range 10000 {
			q.Warn(fmt.Sprint(i), "refused")
		}
		time.Sleep(time.Hour)
		if n := len(lines(logs)); n != 12 { // 10, and two for the rest
			t.Errorf("%d lines, want 12", n)
		}
	})
}

func TestCause(t *testing.T) {
	err := fmt.Errorf("read 127.0.0.1:%d: %w", 54321, errors.New("reset"))
	if got := quiet.Cause(fmt.Errorf("handshake: %w", err)); got != "reset" {
		t.Errorf("cause is %q", got)
	}
}
