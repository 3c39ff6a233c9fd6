package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
)

// The commands of docs/tutorial-backfill.md do what it says, and write what it shows. The
// days of the page are the last six, and its places those of this test.
func TestTutorialBackfill(t *testing.T) {
	t.Parallel()
	const page = "docs/tutorial-backfill.md"
	tools := promtest.Find(t)
	a := newArchive(t, 6)
	p := a.prometheus(tools, 0, without(a.start.AddDate(0, 0, 1), a.start.AddDate(0, 0, 4)))
	dir, bin := t.TempDir(), t.TempDir()
	for name, path := range map[string]string{"weir": program(t, "weir"), "promtool": tools.Promtool} {
		if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	var here, there []string // as the page has it, and as it is
	for i := range 7 {
		day := a.start.AddDate(0, 0, i)
		here, there = append(here, fmt.Sprintf("2026-11-%02d", i+1), fmt.Sprintf("202611%02dT", i+1)), append(there, day.Format(time.DateOnly), day.Format("20060102T"))
	}
	here, there = append(here, "/var/lib/prometheus", "/usr/bin/promtool"), append(there, p.DataDir(), filepath.Join(bin, "promtool"))
	replace := func(text string, from, to []string) string {
		var pairs []string
		for i := range from {
			pairs = append(pairs, from[i], to[i])
		}
		return strings.NewReplacer(pairs...).Replace(text)
	}
	blocks := regexp.MustCompile("(?s)```console test=TestTutorialBackfill\n\\$ ([^\n]*)\n.*?```")
	staging := regexp.MustCompile(`\.weir-import-[0-9a-f]{8}`) // a sum of the path of the export
	n := 0
	text := string(testkit.RepoFile(t, page))
	rendered := blocks.ReplaceAllStringFunc(text, func(block string) string {
		line := blocks.FindStringSubmatch(block)[1]
		n++
		if n == 5 {
			p.Restart() // instead of a minute
			testkit.Eventually(t, func() error { return a.holdsTruth(p, 0) })
		}
		cmd := exec.Command("sh", "-c", replace(line, here, there))
		cmd.Dir = dir
		cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + dir, "WEIR_COLLECTOR_ADDRESS=" + a.address, "WEIR_PROMETHEUS_URL=" + p.URL()}
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); (err != nil) != (n == 1) {
			t.Errorf("%s: %v\n%s", line, err, &out)
		}
		shown := staging.ReplaceAllString(replace(out.String(), there, here), ".weir-import-5d1c70ae")
		return "```console test=TestTutorialBackfill\n$ " + line + "\n" + shown + "```"
	})
	if n != 6 {
		t.Errorf("%s has %d commands with their output, want 6", page, n)
	}
	root, err := testkit.Root()
	if err != nil {
		t.Fatal(err)
	}
	testkit.Golden(t, filepath.Join(root, page), []byte(rendered))
}
