package standalone_test

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/cfsimtest"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/exposer"
	"github.com/weir-metrics/weir/services/standalone"
)

// everywhere is a listener in memory that says that other machines reach it, as
// those of the defaults are.
type everywhere struct {
	*bufconn.Listener
	port int
}

func (l everywhere) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4zero, Port: l.port} }

func listen(port int) everywhere { return everywhere{bufconn.Listen(1 << 16), port} }

// loud are the lines at or above a level, which is the text of slog's.
func loud(logs *testkit.Logs, levels ...string) (out []string) {
	for line := range strings.Lines(logs.String()) {
		for _, l := range levels {
			if strings.Contains(line, " level="+l+" ") {
				out = append(out, strings.TrimSpace(line))
			}
		}
	}
	return out
}

// settings are the defaults, with what has none.
func settings(t *testing.T) (c collector.Config, x exposer.Config) {
	t.Helper()
	for _, of := range []struct {
		table   []cli.Setting
		environ string
	}{{c.Settings(), "CF_API_TOKEN=" + cfsim.DemoToken}, {x.Settings(), "WEIR_COLLECTOR_ADDRESS=collector:9820"}} {
		if _, err := cli.Load(of.table, cli.Sources{Environ: []string{of.environ}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	c.CloudflareURL, c.Simulated = "http://127.0.0.1:1"+cfsim.Prefix, true
	c.SQLiteFile = filepath.Join(t.TempDir(), "weir.db")
	return c, x
}

// A healthy start on defaults, the exposer first, logs no warning; an idle hour is
// at most a handful of lines; and neither a restart of the collector nor the end is
// a warning.
func TestHealthyServicesAreQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(25 * 365 * 24 * time.Hour) // a bubble begins in 2000, and samples of then are none
		log, logs := testkit.RecordingLogger(t)
		c, x := settings(t)
		sim := cfsimtest.New(t, cfsim.Demo(clock.System(), 1))
		memory := make(chan everywhere, 1) // where the collector listens; empty: nowhere
		conn, err := grpc.NewClient("passthrough:///collector",
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				select {
				case l := <-memory:
					memory <- l
					return l.DialContext(ctx)
				default:
					return nil, fmt.Errorf("connection refused")
				}
			}),
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, MaxDelay: 10 * time.Second}}),
			grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		follower, err := exposer.New(x, exposer.Deps{Logger: log, Conn: conn, Data: listen(9810), Ops: listen(9811)})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { ended <- follower.Run(ctx) }()
		collect := func(d time.Duration) {
			l := listen(9820)
			served, err := collector.New(t.Context(), c, collector.Deps{
				Logger: log, Transport: cfsimtest.Transport(sim), GRPC: l, Ops: listen(9821),
			})
			if err != nil {
				t.Fatal(err)
			}
			memory <- l
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			if err := served.Run(ctx); err != nil {
				t.Error(err)
			}
			<-memory
		}
		time.Sleep(5 * time.Second)
		before := 0
		go func() {
			time.Sleep(time.Hour)
			before = len(loud(logs, "INFO"))
		}()
		collect(2 * time.Hour)
		idle := loud(logs, "INFO")[before:]
		time.Sleep(3 * time.Second) // and it is started again
		collect(10 * time.Minute)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if bad := loud(logs, "WARN", "ERROR"); len(bad) > 0 {
			t.Errorf("%d lines at WARN or above:\n%s", len(bad), strings.Join(bad, "\n"))
		}
		if len(idle) > 10 { // the end of the collector among them
			t.Errorf("%d lines within an idle hour:\n%s", len(idle), strings.Join(idle, "\n"))
		}
		if n := strings.Count(logs.String(), "level=INFO"); n < 10 || n > 60 {
			t.Errorf("%d lines at INFO in all:\n%s", n, strings.Join(loud(logs, "INFO"), "\n"))
		}
		if n := logs.Count("in plain text over the network"); n != 6 { // two listeners of each, and the collector's again
			t.Errorf("plain text was mentioned %d times, want 6", n)
		}
	})
}

// All in one process it is the same.
func TestHealthyRunIsQuiet(t *testing.T) {
	log, logs := testkit.RecordingLogger(t)
	c, x := settings(t)
	c.Drain = time.Second
	x.Drain = c.Drain
	c.CloudflareURL = cfsimtest.Start(t, cfsimtest.New(t, cfsim.Demo(clock.System(), 1)))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- standalone.Run(ctx, c, x, standalone.Deps{
			Clock: clock.System(), Logger: log, Data: listen(9810), ExposerOps: listen(9811), CollectorOps: listen(9821),
		})
	}()
	testkit.Eventually(t, func() error {
		if logs.Count("view replaced by a snapshot") == 0 || logs.Count("msg=leading") == 0 {
			return fmt.Errorf("it has not begun")
		}
		return nil
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if bad := loud(logs, "WARN", "ERROR"); len(bad) > 0 {
		t.Errorf("%d lines at WARN or above:\n%s", len(bad), strings.Join(bad, "\n"))
	}
}
