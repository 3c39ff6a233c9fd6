package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/testkit"
)

// browser is a headless Chromium that tools/browser/drive.mjs drives.
type browser struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Scanner
}

// newBrowser starts Chromium, or skips the test where it or what drives it is missing.
func newBrowser(t *testing.T) *browser {
	t.Helper()
	chromium := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			chromium = path
			break
		}
	}
	root, err := testkit.Root()
	if err != nil {
		t.Fatal(err)
	}
	tools := filepath.Join(root, "tools", "browser")
	node, err := exec.LookPath("node")
	if err != nil || chromium == "" {
		testkit.Missing(t, "a browser needs node and Chromium; tools/browser.sh installs Chromium on Debian")
	}
	if _, err := os.Stat(filepath.Join(tools, "node_modules", ".lock")); err != nil {
		testkit.Missing(t, "a browser needs playwright-core in tools/browser; tools/browser.sh installs it")
	}
	cmd := exec.Command(node, filepath.Join(tools, "drive.mjs"), chromium)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir()) // profiles, crash reports
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // it then closes Chromium and ends
		late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the driver of the browser ended with %v", err)
		}
	})
	b := &browser{t: t, in: in, out: bufio.NewScanner(out)}
	b.out.Buffer(nil, 4<<20)
	return b
}

// options are those of a command of the driver, which documents them.
type options map[string]any

// try executes a command and returns its value.
func (b *browser) try(do string, args options) (any, error) {
	b.t.Helper()
	line := options{"do": do}
	for k, v := range args {
		line[k] = v
	}
	text, err := json.Marshal(line)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.in.Write(append(text, '\n')); err != nil {
		b.t.Fatal(err)
	}
	if !b.out.Scan() {
		b.t.Fatalf("the browser is gone at %s: %v", text, b.out.Err())
	}
	var answer struct {
		Value any
		Error string
	}
	if err := json.Unmarshal(b.out.Bytes(), &answer); err != nil {
		b.t.Fatal(err)
	}
	if answer.Error != "" {
		return nil, fmt.Errorf("%s: %s", text, answer.Error)
	}
	return answer.Value, nil
}

func (b *browser) do(do string, args options) any {
	b.t.Helper()
	value, err := b.try(do, args)
	if err != nil {
		b.t.Fatal(err)
	}
	return value
}

// open opens a page, which must be there.
func (b *browser) open(url string, args options) {
	b.t.Helper()
	with := options{"url": url}
	for k, v := range args {
		with[k] = v
	}
	if status := b.do("open", with); status != 200.0 {
		b.t.Fatalf("%s answers %v", url, status)
	}
}

func (b *browser) text(at string) string {
	b.t.Helper()
	text, _ := b.do("text", options{"at": at}).(string)
	return text
}

func (b *browser) eval(expression string) any {
	b.t.Helper()
	return b.do("eval", options{"value": expression})
}

// texts is a value that is a list of texts.
func texts(value any) (out []string) {
	values, _ := value.([]any)
	for _, v := range values {
		out = append(out, fmt.Sprint(v))
	}
	return out
}

// sound checks that the page is accessible, is not wider than the window, and caused no error.
func (b *browser) sound(what string) {
	b.t.Helper()
	if found := texts(b.do("axe", nil)); len(found) > 0 {
		b.t.Errorf("%s: %s", what, strings.Join(found, "\n"))
	}
	if wide := b.eval("document.documentElement.scrollWidth - innerWidth"); wide != 0.0 {
		b.t.Errorf("%s is %v pixels wider than the window", what, wide)
	}
	b.quiet(what)
}

// quiet checks that there was no error, except those that begin with a text.
func (b *browser) quiet(what string, except ...string) {
	b.t.Helper()
	for _, line := range texts(b.do("trouble", nil)) {
		if !slices.ContainsFunc(except, func(e string) bool { return strings.HasPrefix(line, e) }) {
			b.t.Errorf("%s: %s", what, line)
		}
	}
}
