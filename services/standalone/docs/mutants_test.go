package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// TestGeneratedMutants writes what was broken on purpose, and holds the list to
// the code as it is: running all of it takes minutes (make mutants), but an
// entry that no longer applies, or names a test that is gone, is seen here.
func TestGeneratedMutants(t *testing.T) {
	tr := read(t)
	const list = "tools/mutants/mutants.yaml"
	text, err := os.ReadFile(filepath.Join(tr.root, list))
	if err != nil {
		t.Fatal(err)
	}
	var mutants []struct {
		Guarantee, Breaks, File, Old, New string
		Caught                            []string
	}
	if err := yaml.UnmarshalWithOptions(text, &mutants, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	left := tr.leftOut(t)
	guarantees := tr.page(t, "docs/guarantees.md")
	var b strings.Builder
	b.WriteString(notice + `# Broken on purpose

A test that cannot fail proves nothing. ` + "`make mutants`" + ` breaks the code in each of these
places, one at a time, and runs the tests beside it, which must then fail.

| | broken | where | caught by |
| --- | --- | --- | --- |
`)
	for _, m := range mutants {
		source, err := os.ReadFile(filepath.Join(tr.root, filepath.FromSlash(m.File)))
		if err != nil {
			t.Errorf("%s: %s: %v", list, m.Breaks, err)
			continue
		}
		if n := strings.Count(string(source), m.Old); n != 1 {
			t.Errorf("%s: %s: the text to replace occurs %d times in %s, want once: %q", list, m.Breaks, n, m.File, m.Old)
		}
		for _, caught := range m.Caught {
			folder, test, _ := strings.Cut(caught, ": ")
			function, _, _ := strings.Cut(test, "/") // cases of an exam are found by running it
			for _, name := range []string{folder + ": " + function, caught} {
				if _, there := left[name]; there {
					t.Errorf("%s: %s: caught by %q, which make test does not run", list, m.Breaks, caught)
				}
			}
			if problem := tr.lacks(folder, function); problem != "" {
				t.Errorf("%s: %s: caught by %q: %s", list, m.Breaks, caught, problem)
			}
			if named := folder + ": " + function; !strings.Contains(guarantees, named) {
				t.Errorf("docs/guarantees.md does not name %s, without which nobody would notice that %s", named, m.Breaks)
			}
		}
		fmt.Fprintf(&b, "| %s | %s | `%s` | `%s` |\n", m.Guarantee, m.Breaks, m.File, strings.Join(m.Caught, "`, `"))
	}
	golden(t, "mutants.md", b.String())
}
