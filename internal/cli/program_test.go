package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	ossignal "os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/weir-metrics/weir/internal/testkit"
)

func program(c *config, stdout, stderr *bytes.Buffer) Program {
	run := func(_ context.Context, args []string) error {
		fmt.Fprintln(stdout, "ran", args, c.Delay)
		return nil
	}
	return Program{
		Name: "weir", Summary: "Cloudflare's analytics in Prometheus, final and complete", Default: "run",
		Stdout: stdout, Stderr: stderr, Environ: []string{"CF_API_TOKEN=t"},
		Commands: []Command{
			{Name: "run", Summary: "run both services in one process", Settings: c.settings(), Run: run, Help: "Runs until it is told to stop."},
			{Name: "backfill", Summary: "bring history in", Commands: []Command{
				{Name: "plan", Summary: "say what would be asked", Args: "[ZONE ...]", Run: run},
				{Name: "fail", Summary: "fail", Run: func(context.Context, []string) error { return errors.New("the store is away") }},
				{Name: "show", Summary: "show", Settings: c.settings(), Run: run, Commands: []Command{{Name: "all", Summary: "show all", Args: "[ZONE ...]", Run: run}}},
				{Name: "misuse", Summary: "misuse", Run: func(context.Context, []string) error { return Usagef("name a zone") }},
			}},
		},
	}
}

func TestProgram(t *testing.T) {
	for _, test := range []struct {
		args   string
		code   int
		stdout string // a part
		stderr string
	}{
		{"run --cf-delay-seconds 7m", ExitOK, "ran [] 7m0s", ""},
		{"", ExitOK, "ran [] 5m0s", ""},
		{"--cf-delay-seconds 7m", ExitOK, "ran [] 7m0s", ""},
		{"run extra", ExitUsage, "", `unexpected argument "extra"`},
		{"run --cf-delay-seconds 1s", ExitUsage, "", "--cf-delay-seconds=\"1s\" (flag): must be a duration"},
		{"run --cf-delay-seconds", ExitUsage, "", "--cf-delay-seconds (flag): needs a value"},
		{"rum", ExitUsage, "", `unknown command "rum"; did you mean run?`},
		{"help", ExitOK, "  backfill  bring history in", ""},
		{"--help", ExitOK, "Commands:", ""},
		{"run --help", ExitOK, "--cf-delay-seconds", ""},
		{"run -h", ExitOK, "[CF_ZONES]", ""},
		{"run --print-config", ExitOK, "cf_delay_seconds: 5m  # default", ""},
		{"version", ExitOK, "weir devel", ""},
		{"backfill", ExitUsage, "", "Usage: weir backfill COMMAND"},
		{"backfill --help", ExitOK, "Usage: weir backfill COMMAND", ""},
		{"backfill pla", ExitUsage, "", "did you mean plan?"},
		{"backfill plan a.example -- -b", ExitOK, "ran [a.example -b]", ""},
		{"backfill show", ExitOK, "ran [] 5m0s", ""},
		{"backfill show --cf-delay-seconds 7m", ExitOK, "ran [] 7m0s", ""},
		{"backfill show all a.example", ExitOK, "ran [a.example]", ""},
		{"backfill show al", ExitUsage, "", `unexpected argument "al"`},
		{"backfill fail", ExitError, "", "weir backfill fail: the store is away"},
		{"backfill misuse", ExitUsage, "", "name a zone"},
	} {
		t.Run(test.args, func(t *testing.T) {
			var c config
			var stdout, stderr bytes.Buffer
			code := program(&c, &stdout, &stderr).Main(context.Background(), strings.Fields(test.args))
			if code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			if !strings.Contains(stdout.String(), test.stdout) || test.stdout == "" && stdout.Len() > 0 {
				t.Errorf("stdout is %q, want it with %q", &stdout, test.stdout)
			}
			if !strings.Contains(stderr.String(), test.stderr) || test.stderr == "" && stderr.Len() > 0 {
				t.Errorf("stderr is %q, want it with %q", &stderr, test.stderr)
			}
		})
	}
}

func TestHelpAndMarkdown(t *testing.T) {
	var c config
	var stdout, stderr bytes.Buffer
	program(&c, &stdout, &stderr).Main(context.Background(), []string{"run", "--help"})
	testkit.Golden(t, "testdata/help.txt", stdout.Bytes())
	var table bytes.Buffer
	if err := WriteMarkdown(&table, c.settings()); err != nil {
		t.Fatal(err)
	}
	testkit.Golden(t, "testdata/flags.md", table.Bytes())
}

// TestSignals sends signals to a process of its own: the first ends the
// context, a second one the process. SIGHUP ends the context of what is no
// service, and nothing of a service.
func TestSignals(t *testing.T) {
	if mode := os.Getenv("CLI_TEST_SIGNALS"); mode != "" {
		var hangup func()
		if mode == "service" {
			hangup = func() { fmt.Println("hung up") }
		}
		os.Exit(Program{Name: "test", Commands: []Command{{Name: "wait", Summary: "wait", Hangup: hangup, Run: func(ctx context.Context, _ []string) error {
			fmt.Println("waiting")
			<-ctx.Done()
			fmt.Println("stopping")
			if mode == "stubborn" {
				select {}
			}
			return ctx.Err()
		}}}}.Main(context.Background(), []string{"wait"}))
	}
	// Where SIGHUP is ignored, as under nohup, children would ignore it too.
	hangups := make(chan os.Signal, 1)
	ossignal.Notify(hangups, syscall.SIGHUP)
	defer ossignal.Stop(hangups)
	for _, mode := range []string{"obedient", "hung up", "stubborn", "service"} {
		t.Run(mode, func(t *testing.T) {
			child := exec.Command(os.Args[0], "-test.run=^TestSignals$")
			child.Env = append(os.Environ(), "CLI_TEST_SIGNALS="+mode)
			out, err := child.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(out)
			expect := func(want string) {
				t.Helper()
				if !lines.Scan() || lines.Text() != want {
					t.Fatalf("the process said %q, want %q", lines.Text(), want)
				}
			}
			signal := func(s syscall.Signal) {
				t.Helper()
				if err := child.Process.Signal(s); err != nil {
					t.Fatal(err)
				}
			}
			expect("waiting")
			switch mode {
			case "hung up":
				signal(syscall.SIGHUP)
			case "service":
				for range 2 {
					signal(syscall.SIGHUP)
					expect("hung up")
				}
				fallthrough
			default:
				signal(syscall.SIGTERM)
			}
			expect("stopping")
			if mode != "stubborn" {
				if err := child.Wait(); err != nil {
					t.Errorf("a process that stopped when told ended with %v", err)
				}
				return
			}
			// The handler may be a moment away from being taken down, so a
			// signal can still be swallowed: send until one counts.
			done := make(chan error, 1)
			go func() { done <- child.Wait() }()
			testkit.Eventually(t, func() error {
				select {
				case err := <-done:
					var exit *exec.ExitError
					if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
						t.Errorf("ended with %v, want by SIGTERM", err)
					}
					return nil
				default:
					_ = child.Process.Signal(syscall.SIGTERM)
					return errors.New("still runs")
				}
			})
		})
	}
}

// A command may end with an exit code of its own, also of an error that is wrapped.
func TestCodeOfAnError(t *testing.T) {
	for want, err := range map[int]error{
		ExitOK: nil, ExitError: errors.New("failed"), 7: fmt.Errorf("wrapped: %w", CodeError{Code: 7, Err: errors.New("odd")}),
	} {
		var said bytes.Buffer
		p := Program{Name: "p", Stderr: &said, Environ: []string{}, Commands: []Command{{Name: "do", Run: func(context.Context, []string) error { return err }}}}
		if got := p.Main(t.Context(), []string{"do"}); got != want || err != nil && !strings.Contains(said.String(), err.Error()) {
			t.Errorf("exit code %d and %q, want %d and %v", got, said.String(), want, err)
		}
	}
}
