package docs

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// leftOut are the tests that "make test" leaves to "make test-all", wholly or in
// part, by "folder: Test" or "folder: Test/case", with what they are about.
func (tr *tree) leftOut(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for dir := range tr.sources {
		for _, f := range tr.tests(t, dir) {
			for _, part := range parts(f.Body, "") {
				out[dir+": "+f.Name.Name+part] = sentence(f.Doc.Text())
			}
		}
	}
	return out
}

// tests are the tests of a folder, in the order of files.
func (tr *tree) tests(t *testing.T, dir string) (tests []*ast.FuncDecl) {
	t.Helper()
	for _, file := range tr.sources[dir] {
		if !strings.HasSuffix(file.path, "_test.go") || !strings.Contains(file.text, "func Test") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file.path, file.text, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(f.Name.Name, "Test") {
				tests = append(tests, f)
			}
		}
	}
	return tests
}

// inCluster is the folder of the tests that run in the cluster of make e2e-kube alone.
const inCluster = "services/standalone/kube"

// sentence is the first of a comment.
func sentence(comment string) string {
	text := strings.Join(strings.Fields(comment), " ")
	if i := strings.Index(text, ". "); i >= 0 {
		text = text[:i+1]
	}
	return text
}

// parts of a test are left out: the whole (""), a case by its name, or "/…" where
// a condition says which, or how long a story is.
func parts(body ast.Node, in string) (out []string) {
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.IfStmt:
			if n != body {
				if len(parts(n, "")) > 0 {
					out = append(out, strings.TrimSuffix(in, "/…")+"/…")
				}
				return false
			}
		case *ast.CallExpr:
			s, ok := n.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, _ := s.X.(*ast.Ident)
			switch {
			case x != nil && x.Name == "testkit" && (s.Sel.Name == "InAll" || s.Sel.Name == "All"):
				out = append(out, in)
			case s.Sel.Name == "Run" && len(n.Args) == 2:
				name := "/…"
				if l, ok := n.Args[0].(*ast.BasicLit); ok {
					if text, err := strconv.Unquote(l.Value); err == nil {
						name = "/" + text
					}
				}
				out = append(out, parts(n.Args[1], name)...)
				return false
			}
		}
		return true
	})
	slices.Sort(out)
	return slices.Compact(out)
}

// TestGeneratedTestAll writes which tests "make test" leaves to "make test-all".
func TestGeneratedTestAll(t *testing.T) {
	tr := read(t)
	left := tr.leftOut(t)
	var b strings.Builder
	b.WriteString(notice + `# Left to make test-all

` + "`make test`" + ` runs every test but these: campaigns, matrices of roles and versions, and the tests of
test support. ` + "`make test-all`" + ` sets ` + "`TEST_ALL`" + ` and runs them too. ` + "`/…`" + ` stands for some cases of a
test, or for a story that is told at full length. No mutant of [mutants.md](mutants.md) is caught by
one of them alone.

| test | what it shows |
| --- | --- |
`)
	for _, name := range slices.Sorted(maps.Keys(left)) {
		about := left[name]
		if about == "" {
			t.Errorf("%s is left to make test-all; its comment must say what it shows", name)
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", name, strings.ReplaceAll(about, "|", `\|`))
	}
	b.WriteString(`
## Left to make e2e-kube

` + "`make e2e-kube`" + ` builds a Kubernetes of one node, starts it in namespaces of its own, and runs these tests in it
(` + "`tools/kube`" + `). It needs Linux with cgroup v1 and root; the first build takes about a quarter of an hour of a processor, the
tests about 40 minutes; ` + "`RUN=TestHA`" + ` picks one. Elsewhere they are skipped, also by ` + "`make test-all`" + `. Run it before a
release and after a change of the chart.

| test | what it shows |
| --- | --- |
`)
	tests := tr.tests(t, inCluster)
	if len(tests) == 0 {
		t.Errorf("%s has no tests", inCluster)
	}
	for _, f := range tests {
		fmt.Fprintf(&b, "| `%s: %s` | %s |\n", inCluster, f.Name.Name, sentence(f.Doc.Text()))
	}
	golden(t, "test-all.md", b.String())
}
