package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

func TestSection(t *testing.T) {
	const head = "# Changelog\n\nWords.\n\n"
	for _, c := range []struct{ name, text, want, refused string }{
		{"the newest", head + "## [Unreleased]\n\n## [1.2.0] - 2026-12-01\n\n### Added\n\n- x\n\n## [1.1.0] - 2026-11-01\n\n- y\n", "### Added\n\n- x\n", ""},
		{"the only one, without Unreleased", head + "## [1.2.0] - 2026-12-01\n- x\n", "- x\n", ""},
		{"missing", head + "## [Unreleased]\n\n- x\n", "", `no section "## [1.2.0] - YYYY-MM-DD"`},
		{"another begins with it", head + "## [1.2.01] - 2026-12-01\n\n- x\n", "", "no section"},
		{"not the newest", head + "## [1.3.0] - 2026-12-02\n\n- y\n\n## [1.2.0] - 2026-12-01\n\n- x\n", "", "not the newest"},
		{"something is unreleased", head + "## [Unreleased]\n\n- z\n\n## [1.2.0] - 2026-12-01\n\n- x\n", "", "[Unreleased] is not empty"},
		{"no date", head + "## [1.2.0]\n\n- x\n", "", "has no date"},
		{"nothing", head + "## [1.2.0] - 2026-12-01\n\n## [1.1.0] - 2026-11-01\n\n- y\n", "", "is empty"},
		{"twice", head + "## [1.2.0] - 2026-12-01\n\n- x\n\n## [1.2.0] - 2026-11-01\n\n- y\n", "", "two sections"},
		{"another way to write it", head + "## 1.2.0\n\n- x\n", "", "1 of 1 headings"},
	} {
		got, err := Section(c.text, "1.2.0")
		if got != c.want || (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%s: %q, %v; want %q, %q", c.name, got, err, c.want, c.refused)
		}
	}
}

// tree is a repository as far as its versions go.
func tree(t *testing.T, changed map[string]string) string {
	t.Helper()
	files := map[string]string{
		"deploy/helm/weir/Chart.yaml": "name: weir\nversion: 1.2.0\nappVersion: \"1.2.0\"\n",
		"deploy/compose.yaml":         "image: weir/collector:${WEIR_VERSION:-1.2.0}\n",
		"CHANGELOG.md":                "# Changelog\n\n## [Unreleased]\n\n- x\n\n## [1.1.0] - 2026-11-01\n\n- y\n",
		"go.work":                     "go 1.26.0\n\nuse (\n\t./proto\n\t./client\n)\n",
		"proto/go.mod":                "module " + Root + "/proto\n\ngo 1.26.0\n",
		"proto/p.go":                  "package proto\n",
		"client/go.mod":               "module " + Root + "/client\n\ngo 1.26.0\n\nrequire " + Root + "/proto v1.2.0\n\nreplace " + Root + "/proto => ../proto\n",
		"client/c.go":                 "package client\n",
		"LICENSE":                     "licence\n",
	}
	for name, text := range changed {
		files[name] = text
	}
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestNext(t *testing.T) {
	for _, c := range []struct{ name, file, text, refused string }{
		{"all agree", "", "", ""},
		{"released", "CHANGELOG.md", "## [Unreleased]\n\n## [1.2.0] - 2026-12-01\n\n- x\n", ""},
		{"the chart has no version", "deploy/helm/weir/Chart.yaml", "version: 1.2\n", `"1.2", want X.Y.Z`},
		{"another appVersion", "deploy/helm/weir/Chart.yaml", "version: 1.2.0\nappVersion: 1.1.0\n", "appVersion is 1.1.0"},
		{"another in compose.yaml", "deploy/compose.yaml", "image: a:${WEIR_VERSION:-1.2.0}\nimage: b:${WEIR_VERSION:-1.1.0}\n", "by default 1.1.0"},
		{"a requirement of another", "client/go.mod", "module " + Root + "/client\n\nrequire " + Root + "/proto v1.1.0\n", "client/go.mod requires " + Root + "/proto at v1.1.0, want v1.2.0"},
		{"a newer section", "CHANGELOG.md", "## [1.10.0] - 2026-12-01\n\n- x\n", "a section of 1.10.0"},
		{"more after the release", "CHANGELOG.md", "## [Unreleased]\n\n- z\n\n## [1.2.0] - 2026-12-01\n\n- x\n", "needs the next version"},
		{"no version", "CHANGELOG.md", "## [soon]\n\n- x\n", `"soon" is no version`},
	} {
		root := tree(t, nil)
		if c.file != "" {
			root = tree(t, map[string]string{c.file: c.text})
		}
		got, err := Next(root)
		if (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) || err == nil && got != "1.2.0" {
			t.Errorf("%s: %q, %v; want 1.2.0 or %q", c.name, got, err, c.refused)
		}
	}
}

func run(t *testing.T, root string, args ...string) {
	t.Helper()
	if out, err := git(root, append([]string{"-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false"}, args...)...); err != nil {
		t.Fatal(out, err)
	}
}

// needs skips a test that needs a program which this machine lacks. Where TEST_COMPLETE is set,
// as by CI, it fails, like testkit.Missing, which other modules cannot import.
func needs(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("TEST_COMPLETE") != "" {
			t.Fatalf("missing, and TEST_COMPLETE is set: %s", program)
		}
		t.Skip("there is no " + program)
	}
}

func repository(t *testing.T) string {
	t.Helper()
	needs(t, "git")
	root := tree(t, nil)
	run(t, root, "init", "-q")
	run(t, root, "add", "-A")
	run(t, root, "commit", "-q", "-m", "one", "--date=2026-12-01T10:00:00Z")
	return root
}

// A release is what is committed and tagged, and nothing else.
func TestTagged(t *testing.T) {
	for _, c := range []struct {
		name, tag, refused string
		do                 func(root string)
	}{
		{"tagged", "v1.2.0", "", func(root string) { run(t, root, "tag", "v1.2.0") }},
		{"annotated", "v1.2.0", "", func(root string) { run(t, root, "tag", "-a", "-m", "x", "v1.2.0") }},
		{"with its modules", "v1.2.0", "", func(root string) { run(t, root, "tag", "v1.2.0"); run(t, root, "tag", "proto/v1.2.0") }},
		{"no tag", "v1.2.0", "there is no tag v1.2.0", func(string) {}},
		{"a branch of that name", "v1.2.0", "there is no tag v1.2.0", func(root string) { run(t, root, "branch", "v1.2.0") }},
		{"no v", "1.2.0", `"1.2.0", want vX.Y.Z`, func(string) {}},
		{"nothing", "", "want vX.Y.Z", func(string) {}},
		{"the tag is elsewhere", "v1.2.0", "the tag v1.2.0 is at", func(root string) {
			run(t, root, "tag", "v1.2.0")
			run(t, root, "commit", "-q", "--allow-empty", "-m", "two")
		}},
		{"a module's tag is elsewhere", "v1.2.0", "the tag client/v1.2.0 is at", func(root string) {
			run(t, root, "tag", "client/v1.2.0")
			run(t, root, "commit", "-q", "--allow-empty", "-m", "two")
			run(t, root, "tag", "v1.2.0")
		}},
		{"a changed file", "v1.2.0", "M CHANGELOG.md", func(root string) {
			run(t, root, "tag", "v1.2.0")
			if err := os.WriteFile(filepath.Join(root, "CHANGELOG.md"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"a new file", "v1.2.0", "?? new", func(root string) {
			run(t, root, "tag", "v1.2.0")
			if err := os.WriteFile(filepath.Join(root, "new"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		root := repository(t)
		c.do(root)
		s, err := Tagged(root, c.tag)
		if (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%s: %v, want %q", c.name, err, c.refused)
		}
		if head, _ := git(root, "rev-parse", "HEAD"); err == nil && (s.Version != "1.2.0" || s.Revision != head || time.Since(s.Time) > time.Hour) {
			t.Errorf("%s: %+v", c.name, s)
		}
	}
}

// What is published is what the go command accepts, with the licence that stands in the
// root, and of the commit, whatever the tree has become.
func TestPublish(t *testing.T) {
	root, proxy := repository(t), t.TempDir()
	run(t, root, "tag", "v1.2.0")
	s, err := Tagged(root, "v1.2.0")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "client", "c.go"), []byte("package other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Publish(proxy, root, s); err != nil {
		t.Fatal(err)
	}
	for _, folder := range Library {
		m := module.Version{Path: Root + "/" + folder, Version: "v1.2.0"}
		dir := filepath.Join(t.TempDir(), "x")
		if err := zip.Unzip(dir, m, filepath.Join(proxy, m.Path, "@v", "v1.2.0.zip")); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(filepath.Join(dir, "LICENSE")); err != nil || string(text) != "licence\n" {
			t.Errorf("%s: the licence is %q, %v", folder, text, err)
		}
		if folder == "client" {
			if text, err := os.ReadFile(filepath.Join(dir, "c.go")); err != nil || string(text) != "package client\n" {
				t.Errorf("c.go is %q, %v", text, err)
			}
		}
	}
}

// An archive depends on names, contents and the time that is given, and not on when, by
// whom or with which modes it is packed.
func TestArchive(t *testing.T) {
	at := time.Date(2026, 12, 1, 10, 0, 0, 0, time.UTC)
	pack := func(mode os.FileMode, modified time.Time) []byte {
		dir := t.TempDir()
		for _, name := range []string{"a", "b"} {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte("content of "+name), mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, modified, modified); err != nil {
				t.Fatal(err)
			}
		}
		to := filepath.Join(dir, "x.tar.gz")
		if err := Archive(to, "x-1", at, []Member{{Name: "a", From: filepath.Join(dir, "a"), Executable: true}, {Name: "b", From: filepath.Join(dir, "b")}}); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(to)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	one := pack(0o600, at)
	if two := pack(0o755, at.Add(time.Hour)); !bytes.Equal(one, two) {
		t.Error("modes and times of files get into the archive")
	}
	z, err := gzip.NewReader(bytes.NewReader(one))
	if err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(z)
	for _, want := range []struct {
		name string
		mode int64
	}{{"x-1/a", 0o755}, {"x-1/b", 0o644}} {
		h, err := r.Next()
		if err != nil || h.Name != want.name || h.Mode != want.mode || !h.ModTime.Equal(at) || h.Uid != 0 || h.Uname != "" {
			t.Errorf("%+v, %v; want %+v", h, err, want)
		}
	}
}

// sha256sum -c reads the checksums, and a file that changes is found.
func TestSums(t *testing.T) {
	needs(t, "sha256sum")
	dir := t.TempDir()
	for _, name := range []string{"b", "a"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // its own file is not in it
		if err := Sums(dir); err != nil {
			t.Fatal(err)
		}
	}
	check := func() error {
		cmd := exec.Command("sha256sum", "--check", "--strict", SumsFile)
		cmd.Dir = dir
		return cmd.Run()
	}
	if err := check(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("c"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := check(); err == nil {
		t.Error("a changed file passes")
	}
}
