package docs

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-metrics/weir/internal/testkit"
)

// The program of docs/building.md is built outside the tree by the commands of
// that page, without a registry: as it will be once the modules are tagged, and from a
// checkout. It is run against a collector.
func TestStrangersBuildOnTheContract(t *testing.T) {
	tr := read(t)
	text := tr.page(t, "docs/building.md")
	program, commands := blocks(text, "go"), blocks(text, "sh")
	if len(program) != 1 || len(commands) != 2 {
		t.Fatalf("%d programs and %d blocks of commands", len(program), len(commands))
	}
	// What the client's module needs by itself may be older than what the workspace
	// uses, and then is in no cache where only the workspace was built.
	execute(t, filepath.Join(tr.root, "client"), []string{"GOWORK=off"}, "go", "mod", "download")
	cache := strings.TrimSpace(execute(t, ".", nil, "go", "env", "GOMODCACHE"))
	downloaded := "file://" + filepath.ToSlash(cache) + "/cache/download"
	offline := []string{"GOWORK=off", "GOFLAGS=-modcacherw", "GOSUMDB=off", "GOTOOLCHAIN=local", "GOPROXY=" + downloaded}

	stranger := func(t *testing.T, name, commands string, env []string) (dir string) {
		t.Helper()
		dir = filepath.Join(t.TempDir(), name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		testkit.WriteFile(t, filepath.Join(dir, "main.go"), []byte(program[0]))
		for line := range strings.Lines(commands) {
			execute(t, dir, env, strings.Fields(line)[0], strings.Fields(line)[1:]...)
		}
		return dir
	}

	t.Run("tagged", func(t *testing.T) {
		// What the module proxy would serve.
		proxy := t.TempDir()
		version := required(t, tr.root)
		for _, name := range []string{"proto", "client"} {
			publish(t, proxy, filepath.Join(tr.root, name), "github.com/weir-metrics/weir/"+name, version)
		}
		// A cache of its own, since what is published here never was.
		env := append(offline, "GOPROXY=file://"+filepath.ToSlash(proxy)+","+downloaded, "GOMODCACHE="+filepath.Join(t.TempDir(), "mod"))
		// Nothing is left to be compiled in another way than from a checkout.
		resolve := strings.Replace(commands[0], "go build\n", "go list -deps .\n", 1)
		dir := stranger(t, "tool", resolve, env)
		module, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err != nil || strings.Contains(string(module), "replace") || !strings.Contains(string(module), "github.com/weir-metrics/weir/client "+version) {
			t.Errorf("%v, the module is\n%s", err, module)
		}
	})
	t.Run("checkout", func(t *testing.T) {
		dir := stranger(t, "tool", strings.ReplaceAll(commands[1], "../weir/", tr.root+"/"), offline)
		collector, exposer := run(t, prometheus.NewRegistry(), prometheus.NewRegistry())
		testkit.Eventually(t, func() error {
			return scrape("http://" + exposer + "/backfill?hours=1&zone=shop.example")
		})
		var out string
		testkit.Eventually(t, func() error {
			out = execute(t, dir, nil, "./tool", "-collector="+collector, "-zone=shop.example", "-follow=1s")
			for _, want := range []string{
				`(?m)^whole: (true|false)$`, `(?m)^\S+:59Z cloudflare_zone_requests shop\.example  \d+$`,
				`(?m)^\S+:59Z cloudflare_zone_requests_by_status shop\.example 200 \d+$`, `(?m)^following$`, `(?m)^followed for 1s$`,
			} {
				if !regexp.MustCompile(want).MatchString(out) {
					return fmt.Errorf("the program's output lacks %s:\n%.2000s", want, out)
				}
			}
			return nil
		})
		if strings.Contains(out, "blog.example") {
			t.Errorf("other zones are printed:\n%s", out)
		}
	})
}

// required is the version of proto that the client's module asks for: one that a
// tag can bear.
func required(t *testing.T, root string) string {
	t.Helper()
	module, err := os.ReadFile(filepath.Join(root, "client", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`github\.com/weir-metrics/weir/proto (v\S+)`).FindStringSubmatch(string(module))
	if m == nil || strings.HasPrefix(m[1], "v0.0.0-") {
		t.Fatalf("client/go.mod requires proto as %q; outside the tree its replace does not count, so it must be the version of a tag", m)
	}
	return m[1]
}

// publish puts a module into a folder as a module proxy serves it.
func publish(t *testing.T, proxy, dir, module, version string) {
	t.Helper()
	at := filepath.Join(proxy, filepath.FromSlash(module), "@v")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	gomod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		w, err := z.Create(module + "@" + version + "/" + filepath.ToSlash(rel))
		if err == nil {
			_, err = w.Write(content)
		}
		return err
	})
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	testkit.WriteFile(t, filepath.Join(at, "list"), []byte(version+"\n"))
	testkit.WriteFile(t, filepath.Join(at, version+".info"), fmt.Appendf(nil, `{"Version":%q,"Time":"2026-01-01T00:00:00Z"}`, version))
	testkit.WriteFile(t, filepath.Join(at, version+".mod"), gomod)
	testkit.WriteFile(t, filepath.Join(at, version+".zip"), archive.Bytes())
}

// execute runs a program and returns what it wrote.
func execute(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	if strings.HasPrefix(name, "./") { // of dir, not of here
		name = filepath.Join(dir, name)
	}
	c := exec.CommandContext(t.Context(), name, args...)
	c.Dir, c.Env = dir, append(os.Environ(), env...)
	var out, problems strings.Builder
	c.Stdout, c.Stderr = &out, &problems
	if err := c.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, problems.String())
	}
	return out.String()
}
