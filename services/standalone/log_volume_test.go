package standalone_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/cfsimtest"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/collector/collectortest"
	"github.com/weir-metrics/weir/services/exposer"
)

// The log of a day, in good times and in bad, is no longer than docs/operations.md says: trouble
// makes no flood of it.
func TestLogVolume(t *testing.T) {
	testkit.InAll(t)
	const day = 24 * time.Hour
	for _, story := range []struct {
		name  string // as in the table of the document
		zones int
		fault cfsim.Fault
		store error         // of every call
		alone time.Duration // that the exposer has no collector
		share float64
	}{
		{name: "nothing, 8 zones", zones: 8},
		{name: "nothing, 108 zones", zones: 108},
		{name: "Cloudflare responds with 522", zones: 8, fault: cfsim.Fault{Kind: cfsim.FaultHTML, Status: 522}},
		{name: "every fifth response is 522", zones: 8, fault: cfsim.Fault{Kind: cfsim.FaultHTML, Status: 522, Probability: .2}},
		{name: "the token is refused", zones: 8, fault: cfsim.Fault{Kind: cfsim.FaultTokenInvalid}},
		{name: "a share of the budget that is far too small", zones: 108, share: .02},
		{name: "the database is away", zones: 8, store: errors.New("connection refused")},
		{name: "the database has no space left", zones: 8, store: collectortest.ErrNoSpace},
		{name: "exposers find no collector", zones: 8, alone: day},
	} {
		t.Run(story.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(25*365*day + 12*time.Hour) // a bubble begins in 2000, and samples of then are none
				// An hour of quiet before, since a start is told in a few lines of its own.
				trouble := time.Now().Add(time.Hour)
				c, x := settings(t)
				if story.share > 0 {
					c.BudgetShare = story.share
				}
				world := cfsim.Sized(clock.System(), 1, story.zones, nil)
				if story.fault.Kind != "" {
					story.fault.From = trouble
					world.Faults = append(world.Faults, story.fault)
				}
				file, err := collector.OpenStore(t.Context(), c, collector.Deps{})
				if err != nil {
					t.Fatal(err)
				}
				defer file.Close()
				shared := collectortest.Share(file, clock.System())
				var logs [2]testkit.Logs
				logger := func(i int) *slog.Logger { return slog.New(slog.NewTextHandler(&logs[i], nil)) }
				feed := listen(9820)
				served, err := collector.New(t.Context(), c, collector.Deps{
					Logger: logger(0), Transport: cfsimtest.Transport(cfsimtest.New(t, world)), GRPC: feed, Ops: listen(9821),
					OpenStore: func(context.Context) (collector.Store, error) {
						return shared.Guard(failing{trouble, story.store}), nil
					},
				})
				if err != nil {
					t.Fatal(err)
				}
				conn, err := grpc.NewClient("passthrough:///collector", grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
					if story.alone > 0 && time.Now().After(trouble) {
						return nil, errors.New("connection refused")
					}
					return feed.DialContext(ctx)
				}), grpc.WithTransportCredentials(insecure.NewCredentials()))
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				follower, err := exposer.New(x, exposer.Deps{Logger: logger(1), Conn: conn, Data: listen(9810), Ops: listen(9811)})
				if err != nil {
					t.Fatal(err)
				}
				var before [2]string
				ended := make(chan error, 2)
				for i, run := range []func(context.Context) error{served.Run, follower.Run} {
					until := trouble.Add(day)
					if i == 0 && story.alone > 0 {
						until = trouble
					}
					ctx, cancel := context.WithDeadline(t.Context(), until)
					defer cancel()
					go func() { ended <- run(ctx) }()
				}
				time.Sleep(time.Until(trouble.Add(-time.Minute)))
				for i := range logs {
					before[i] = logs[i].String()
				}
				time.Sleep(time.Until(trouble.Add(day - time.Minute)))
				for i, process := range []string{"collector", "exposer"} {
					text := strings.TrimPrefix(logs[i].String(), before[i])
					volumeAs(t, story.name, i, strings.Count(text, "\n"), len(text))
					t.Logf("%s: the first hour had %d lines, %d bytes; the day after:\n%.1000s", process, strings.Count(before[i], "\n"), len(before[i]), text)
				}
				for range 2 {
					if err := <-ended; err != nil && story.store == nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// failing is a store that fails from a time on.
type failing struct {
	from time.Time
	err  error
}

func (f failing) Before(ctx context.Context, op collectortest.Op) (context.Context, error) {
	if f.err != nil && time.Now().After(f.from) && (op.Write || !errors.Is(f.err, collectortest.ErrNoSpace)) {
		return nil, f.err
	}
	return ctx, nil
}

func (failing) After(context.Context, collectortest.Op) error { return nil }

// volumeAs compares a log with the document's table, whose columns are lines and kB of a
// collector and of an exposer.
func volumeAs(t *testing.T, story string, process, lines, bytes int) {
	t.Helper()
	t.Logf("%d lines, %.1f kB", lines, float64(bytes)/1e3)
	m := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(story) + ` \| (\d+) lines, (\d+) kB \| (\d+) lines, (\d+) kB \|$`).FindSubmatch(testkit.RepoFile(t, filepath.Join("docs", "operations.md")))
	if m == nil {
		t.Errorf("docs/operations.md has no row for %q", story)
		return
	}
	for i, got := range []int{lines, (bytes + 500) / 1000} {
		said, err := strconv.Atoi(string(m[1+2*process+i]))
		if err != nil {
			t.Fatal(err)
		}
		// How often a repeat falls into a pause is chance: what counts is the most.
		if got > said+said/4+5 || got < said/3-5 {
			t.Errorf("%s: docs/operations.md says %d, measured: %d", story, said, got)
		}
	}
}
