package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/weir-metrics/weir/internal/testkit"
)

// page is a document with its path from the root of the repository.
type page struct{ path, text string }

// tree is what documents are held against.
type tree struct {
	root  string
	pages []page
	// sources are the Go files of the repository by folder, generated ones and
	// tools excepted.
	sources map[string][]page
}

func read(t *testing.T) *tree {
	t.Helper()
	root, err := testkit.Root()
	if err != nil {
		t.Fatal(err)
	}
	tr := &tree{root: root, sources: map[string][]page{}}
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/decisions/*.md", "tools/*.md"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("no documents match %s: %v", pattern, err)
		}
		for _, file := range files {
			tr.pages = append(tr.pages, tr.load(t, file))
		}
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path) // both are absolute
		switch {
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || rel == "tools" || rel == "proto/gen"):
			return fs.SkipDir
		case strings.HasSuffix(path, ".go"):
			dir := filepath.ToSlash(filepath.Dir(rel))
			tr.sources[dir] = append(tr.sources[dir], tr.load(t, path))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func (tr *tree) load(t *testing.T, file string) page {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	rel, err := filepath.Rel(tr.root, file)
	if err != nil {
		t.Fatal(err)
	}
	return page{filepath.ToSlash(rel), string(text)}
}

func (tr *tree) page(t *testing.T, path string) string {
	t.Helper()
	i := slices.IndexFunc(tr.pages, func(p page) bool { return p.path == path })
	if i < 0 {
		t.Fatalf("there is no %s", path)
	}
	return tr.pages[i].text
}

var (
	link    = regexp.MustCompile(`\]\(([^)#\s]*)(?:#([^)\s]*))?\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	// fence is a fenced block: its language, what else its first line says, and its text.
	fence = regexp.MustCompile("(?ms)^ *```(\\w*)([^\n]*)\n(.*?)^ *```$")
)

// blocks are the fenced parts of a page in one language.
func blocks(text, language string) (out []string) {
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		if m[1] == language {
			out = append(out, m[3])
		}
	}
	return out
}

func TestLinksLead(t *testing.T) {
	tr := read(t)
	pages := tr.pages
	for _, file := range []string{"deploy/helm/weir/README.md", "bench/README.md"} {
		pages = append(pages, tr.load(t, filepath.Join(tr.root, file)))
	}
	for _, p := range pages {
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(p.text, ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			to := p.path
			if m[1] != "" {
				to = filepath.ToSlash(filepath.Join(filepath.Dir(p.path), m[1]))
			}
			if _, err := os.Stat(filepath.Join(tr.root, to)); err != nil {
				t.Errorf("%s links to %s, which does not exist", p.path, m[1])
			} else if m[2] != "" && !slices.Contains(anchors(tr.page(t, to)), m[2]) {
				t.Errorf("%s links to #%s of %s, which has no such heading", p.path, m[2], to)
			}
		}
	}
}

// The index has every page, so that none is found by luck alone.
func TestIndexHasEveryPage(t *testing.T) {
	tr := read(t)
	index := tr.page(t, "docs/README.md")
	for _, p := range tr.pages {
		name, inDocs := strings.CutPrefix(p.path, "docs/")
		if inDocs && name != "README.md" && !strings.Contains(name, "/") && !strings.Contains(index, "]("+name) {
			t.Errorf("docs/README.md does not link to %s", name)
		}
	}
}

// anchors are the headings of a page as links spell them.
func anchors(text string) (out []string) {
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		kept := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, m[1])
		out = append(out, kept)
	}
	return out
}

// Documents are for everybody: nothing in them is true of one machine only.
func TestNoPathsOfOneMachine(t *testing.T) {
	for _, p := range read(t).pages {
		for _, path := range regexp.MustCompile(`(?:^|[\s"'(=`+"`"+`])(/(?:home|root|Users|work|tmp)/[^\s"')`+"`"+`]*)`).FindAllStringSubmatch(p.text, -1) {
			t.Errorf("%s names the path %s", p.path, path[1])
		}
	}
}
