// Mutants breaks each guarantee on purpose and checks that the tests named for
// it notice.
//
// mutants.yaml lists the breakages: a file, a text in it that occurs once, what
// takes its place, and the tests that must fail. Nothing in the tree is touched:
// the broken file is given to go test as an overlay. A breakage that no longer
// applies or no longer compiles is an error too, so the list cannot fall behind
// the code unnoticed.
//
// Usage, from the root of the repository:
//
//	go run ./tools/mutants [-only regexp]
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

const list = "tools/mutants/mutants.yaml"

// mutant is one deliberate breakage.
type mutant struct {
	Guarantee string `yaml:"guarantee"` // "G1" to "G12", or "security"
	Breaks    string `yaml:"breaks"`    // in a few words
	File      string `yaml:"file"`
	Old       string `yaml:"old"` // occurs once in File
	New       string `yaml:"new"`
	// Caught names tests as docs/guarantees.md does, "folder: Test/case".
	Caught []string `yaml:"caught"`
}

func main() {
	only := flag.String("only", "", "run the mutants whose guarantee or description matches this regular expression")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *only); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only string) error {
	wanted, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	mutants, err := read()
	if err != nil {
		return err
	}
	failed := 0
	for _, m := range mutants {
		if !wanted.MatchString(m.Guarantee + " " + m.Breaks) {
			continue
		}
		began := time.Now()
		if err := m.try(ctx); err != nil {
			failed++
			fmt.Printf("%-4s SURVIVED  %s: %v\n", m.Guarantee, m.Breaks, err)
			continue
		}
		fmt.Printf("%-4s caught    %s (%.0f s)\n", m.Guarantee, m.Breaks, time.Since(began).Seconds())
	}
	if failed > 0 {
		return fmt.Errorf("%d breakages were not noticed by the tests named for them", failed)
	}
	return nil
}

func read() ([]mutant, error) {
	text, err := os.ReadFile(list)
	if err != nil {
		return nil, fmt.Errorf("read the list (run this from the root of the repository): %w", err)
	}
	var mutants []mutant
	if err := yaml.UnmarshalWithOptions(text, &mutants, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("%s: %w", list, err)
	}
	for i, m := range mutants {
		if m.Guarantee == "" || m.Breaks == "" || m.File == "" || m.Old == "" || len(m.Caught) == 0 {
			return nil, fmt.Errorf("%s: entry %d needs guarantee, breaks, file, old and caught", list, i+1)
		}
	}
	return mutants, nil
}

// try reports whether the tests notice: nil when each of them failed.
func (m mutant) try(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	overlay, err := m.overlay(dir)
	if err != nil {
		return err
	}
	for _, named := range m.Caught {
		folder, test, found := strings.Cut(named, ": ")
		if !found {
			return fmt.Errorf("caught %q is not of the form \"folder: test\"", named)
		}
		if out, err := goTool(ctx, overlay, "vet", "./"+folder); err != nil {
			return fmt.Errorf("the broken code does not compile, so that no test ran: %s", out)
		}
		out, err := goTool(ctx, overlay, "test", "-count=1", "-timeout=5m", "-run", pattern(test), "./"+folder)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if _, exit := errors.AsType[*exec.ExitError](err); err != nil && !exit {
			return err
		}
		// A test that hangs or panics has noticed as well.
		noticed := bytes.Contains(out, []byte("--- FAIL: "+strings.ReplaceAll(test, " ", "_"))) || bytes.Contains(out, []byte("panic: "))
		if err == nil || !noticed {
			return fmt.Errorf("%s did not fail:\n%s", named, tail(out))
		}
	}
	return nil
}

// overlay writes the broken file and the overlay that puts it in its place.
func (m mutant) overlay(dir string) (string, error) {
	path, err := filepath.Abs(filepath.FromSlash(m.File))
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if n := bytes.Count(text, []byte(m.Old)); n != 1 {
		return "", fmt.Errorf("the text to replace occurs %d times in %s, want once: %q", n, m.File, m.Old)
	}
	broken := filepath.Join(dir, filepath.Base(path))
	if err := os.WriteFile(broken, bytes.Replace(text, []byte(m.Old), []byte(m.New), 1), 0o600); err != nil {
		return "", err
	}
	data, err := json.Marshal(map[string]map[string]string{"Replace": {path: broken}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, data, 0o600)
}

// goTool runs go with the overlay in the environment, so that a test that asks
// go list about the code sees the broken file too.
func goTool(ctx context.Context, overlay string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "GOFLAGS=-overlay="+overlay)
	return cmd.CombinedOutput()
}

// pattern matches one test, by its path of subtests.
func pattern(test string) string {
	parts := strings.Split(test, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(strings.ReplaceAll(p, " ", "_")) + "$"
	}
	return strings.Join(parts, "/")
}

func tail(out []byte) string {
	const limit = 1500
	if len(out) > limit {
		out = out[len(out)-limit:]
	}
	return string(out)
}
