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

// So do those of commands.
func TestChecksOfCommandsCatch(t *testing.T) {
	text := "1. Do\n\n   ```sh look\n   weir gaps list |\n     grep x\n   ```\n\n   Expected on one: `this`.\n\n" +
		"```console run\n$ collector version \\\n  --help\ncollector …\n```\n"
	want := []command{
		{page: "a.md", text: "weir gaps list |\n  grep x\n", expected: "this", how: "look"},
		{page: "a.md", text: "collector version \\\n  --help\n", shown: "collector …\n", how: "run"},
	}
	got, bad := commands(page{"a.md", text})
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(command{})); diff != "" || len(bad) > 0 {
		t.Errorf("commands (-want +got):\n%s%q", diff, bad)
	}
	for _, text := range []string{
		"```sh\ntrue\n```\n", "```sh later\ntrue\n```\n", "```sh test=\ntrue\n```\n", "```bash run\ntrue\n```\n",
		"```\n$ true\n```\n", "```\nweir gaps list\n```\n", "Do\n\n    WEIR_PROFILE=all weir run\n",
	} {
		if got, bad := commands(page{"a.md", text}); len(got) > 0 || len(bad) != 1 {
			t.Errorf("%q: commands %v and mistakes %q, want one mistake", text, got, bad)
		}
	}
	for text, want := range map[string]string{
		"weir gaps list": "",
		"A=b bin/weir backfill plan --start x | cat":   "",
		"collector catalogue explain \\\n  --zone a x": "",
		"make run":               "",
		"make nothing":           "the Makefile has no nothing",
		"weir gap list":          "weir has no command gap",
		"weir gaps list --zones": "weir gaps list has no flag --zones",
		"true && exposer run --cf-api-token-file=x": "exposer run has no flag --cf-api-token-file",
	} {
		all := calls(text)
		if len(all) != 1 {
			t.Errorf("%q: calls %v, want one", text, all)
		} else if got := all[0].unknown("\nrun: ## it\n"); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if shown := shows("a …\nb\n"); !shown.MatchString("a c\nd\nb\n") || shown.MatchString("a c\nd\n") {
		t.Errorf("%s does not tell what is shown", shown)
	}
}
