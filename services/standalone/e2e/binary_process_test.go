package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/testkit"
)

// Tests named TestBinary… run the programs that are shipped, as their users do:
// static, with settings from the environment, stopped by signals. They know of
// Weir what its documentation says and what comes out of its ports.

// marked is part of every secret in these tests. No process may ever print it.
const marked = "marked-secret"

// binaryVersion is what the programs are told they are.
const binaryVersion = "v0.0.0-e2e"

// programs is the folder with the three static binaries, built once as
// "make build" does.
var programs = sync.OnceValues(func() (string, error) {
	root, err := testkit.Root()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "weir-e2e-")
	if err != nil {
		return "", err
	}
	if _, err := testkit.StartJanitor(`rm -rf "$1"`, dir); err != nil {
		return "", err
	}
	build := build(root, dir, binaryVersion, "./services/collector/cmd/collector", "./services/exposer/cmd/exposer", "./services/standalone/cmd/weir")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return dir, nil
})

// build is the command that builds programs from a tree into a folder, as
// "make build" does.
func build(root, into, version string, packages ...string) *exec.Cmd {
	cmd := exec.Command("go", append([]string{
		"build", "-trimpath", "-o", into + string(filepath.Separator),
		"-ldflags=-s -w -X github.com/weir-metrics/weir/internal/cli.version=" + version,
	}, packages...)...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	return cmd
}

// program is the path of a binary.
func program(t *testing.T, name string) string {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// spawner starts processes on one thread that lives as long as this process:
// what Linux calls the death of a parent is that of the thread that forked.
var spawner = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// command is a program in an environment that has nothing but these settings,
// in a folder of its own.
func command(t *testing.T, path string, settings []string, args ...string) *exec.Cmd {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir}, settings...)
	if filepath.Base(path) == "weir" && slices.Contains(args, "run") && !strings.Contains(strings.Join(settings, " "), "WEIR_GRPC_LISTEN=") {
		cmd.Env = append(cmd.Env, "WEIR_GRPC_LISTEN=off") // its default is one port for all tests
	}
	cmd.SysProcAttr = orphans()
	return cmd
}

// process is a program that runs.
type process struct {
	t           *testing.T
	name        string
	cmd         *exec.Cmd
	output, log *testkit.Logs // standard output and standard error
	exited      chan struct{}
}

// launch starts a program, which ends with the test at the latest.
func launch(t *testing.T, name string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, name: name, cmd: cmd, output: new(testkit.Logs), log: new(testkit.Logs), exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.output, p.log
	started := make(chan error)
	spawner() <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		defer close(p.exited)
		_ = cmd.Wait() // the state says how it ended
	}()
	t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		<-p.exited
		discreet(t, name, p.output.String()+p.log.String())
		if t.Failed() {
			t.Logf("%s wrote:\n%s%s", name, p.output, p.log)
		}
	})
	return p
}

// discreet checks that a text shows no secret.
func discreet(t *testing.T, where, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if strings.Contains(line, marked) {
			t.Errorf("%s shows a secret: %s", where, line)
		}
	}
}

func (p *process) signal(s os.Signal) {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("send %s to %s: %v", s, p.name, err)
	}
}

// wait returns how the process ended, which must be within a time.
func (p *process) wait(within time.Duration) syscall.WaitStatus {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(within):
		p.t.Fatalf("%s did not end within %s", p.name, within)
	}
	return p.cmd.ProcessState.Sys().(syscall.WaitStatus)
}

// kill ends the process at once, if it has not ended yet.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.exited
}

// running fails when the process has ended.
func (p *process) running() error {
	select {
	case <-p.exited:
		return fmt.Errorf("%s has ended: %s", p.name, p.cmd.ProcessState)
	default:
		return nil
	}
}

// stop asks the process to end, and expects it to do so without a fault in the
// time that Kubernetes gives by default.
func (p *process) stop() {
	p.t.Helper()
	began := time.Now()
	p.signal(syscall.SIGTERM)
	if status := p.wait(30 * time.Second); !status.Exited() || status.ExitStatus() != 0 {
		p.t.Errorf("%s ended with %s after SIGTERM, want exit status 0", p.name, p.cmd.ProcessState)
	}
	p.t.Logf("%s ended %s after SIGTERM", p.name, time.Since(began).Round(time.Millisecond))
}

// says waits for a line on standard error that has all of parts.
func (p *process) says(parts ...string) {
	p.t.Helper()
	testkit.Eventually(p.t, func() error {
		if hasLine(p.log.String(), parts...) {
			return nil
		}
		return errors.Join(fmt.Errorf("%s has not said %q", p.name, parts), p.running())
	})
}

func hasLine(text string, parts ...string) bool {
	for line := range strings.Lines(text) {
		all := true
		for _, part := range parts {
			all = all && strings.Contains(line, part)
		}
		if all {
			return true
		}
	}
	return false
}

// outcome is what a program that ends by itself left behind.
type outcome struct {
	code           int
	stdout, stderr string
}

// complete runs a program to its end.
func complete(t *testing.T, cmd *exec.Cmd) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	defer cancel()
	done := make(chan error)
	spawner() <- func() { done <- cmd.Start() }
	if err := <-done; err != nil {
		t.Fatalf("start %s: %v", cmd.Path, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	err := cmd.Wait()
	if ctx.Err() != nil {
		t.Fatalf("%s did not end within %s; it wrote:\n%s%s", strings.Join(cmd.Args, " "), testkit.Patience, &stdout, &stderr)
	}
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatalf("run %s: %v", cmd.Path, err)
	}
	o := outcome{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
	discreet(t, filepath.Base(cmd.Path), o.stdout+o.stderr)
	return o
}
