package docs

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The checks themselves find what they are there for.
func TestChecksCatch(t *testing.T) {
	tr := &tree{sources: map[string][]page{"internal/a": {{"internal/a/a_test.go", "func TestOne(t *testing.T) { t.Run(\"a case\", nil) }"}}}}
	for _, tc := range []struct{ dir, name, want string }{
		{"internal/a", "TestOne", ""},
		{"internal/a", "TestOne/a case", ""},
		{"internal/a", "a case", ""},
		{"internal/b", "TestOne", "no such package"},
		{"internal/a", "TestTwo", "no such test in that package"},
		{"internal/a", "TestOn", "no such test in that package"},
		{"internal/a", "TestOne/another", `nothing in that package is called "another"`},
	} {
		if got := tr.lacks(tc.dir, tc.name); got != tc.want {
			t.Errorf("%s: %s: %q, want %q", tc.dir, tc.name, got, tc.want)
		}
	}
	text := "# A page\n\n```yaml\n# not a heading\na: 1\n```\n\n## `x`: asking for *less*\n"
	if diff := cmp.Diff([]string{"a-page", "x-asking-for-less"}, anchors(text)); diff != "" {
		t.Errorf("anchors (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"# not a heading\na: 1\n"}, blocks(text, "yaml")); diff != "" {
		t.Errorf("blocks (-want +got):\n%s", diff)
	}
	if m := held.FindStringSubmatch("- x: `internal/a: TestOne/a case`,"); len(m) != 3 || m[1] != "internal/a" || m[2] != "TestOne/a case" {
		t.Errorf("a named test is read as %q", m)
	}
}
