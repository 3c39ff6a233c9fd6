package main

import (
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/tools/supply/image"
	"github.com/weir-metrics/weir/tools/supply/release"
)

const mit = `Copyright (c) 2026 Somebody

Permission is hereby granted, free of charge, to any person obtaining a copy of
this software and associated documentation files (the "Software"), to deal in
the Software without restriction, including without limitation the rights to
use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of
the Software, and to permit persons to whom the Software is furnished to do so,
subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS
FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER
IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
`

// condition makes something else of it.
const condition = `
In addition, nobody may use the Software for anything that earns money, nor run
it on a Tuesday, without asking the author in writing and paying what the author
then asks for. Whoever does shall publish all programs that run on the same
machine, under these terms, within a month, and shall name the author on every
page that these programs print.
`

const gpl = `This program is free software: you can redistribute it and/or modify
it under the terms of the GNU General Public License as published by
the Free Software Foundation, either version 3 of the License, or
(at your option) any later version.

This program is distributed in the hope that it will be useful,
but WITHOUT ANY WARRANTY; without even the implied warranty of
MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
GNU General Public License for more details.

You should have received a copy of the GNU General Public License
along with this program.  If not, see <https://www.gnu.org/licenses/>.
`

func TestIdentify(t *testing.T) {
	for _, c := range []struct{ name, text, want, refused string }{
		{"MIT", mit, "MIT", ""},
		{"MIT with a condition", mit + condition, "", "a person must read it"},
		{"copyleft", gpl, "", "not among the licences"},
		{"MIT and copyleft", mit + gpl, "", "not among the licences"},
		{"nothing", "all rights reserved", "", "only 0%"},
	} {
		ids, err := identify([]byte(c.text))
		if got := strings.Join(ids, ","); got != c.want || (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%s: %q, %v; want %q, %q", c.name, got, err, c.want, c.refused)
		}
	}
}

func TestLicences(t *testing.T) {
	root := t.TempDir()
	inner := filepath.Join(root, "inner")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	m := module{path: "example.org/m", folders: []string{inner, root}}
	if ids, err := licences(m); err == nil {
		t.Errorf("a module without a licence has %q", ids)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("LICENSE.md", mit)
	write("license.go", "package m")
	if ids, err := licences(m); err != nil || !slices.Equal(ids, []string{"MIT"}) {
		t.Errorf("%q, %v", ids, err)
	}
	write("inner/COPYING", gpl)
	if ids, err := licences(m); err == nil {
		t.Errorf("copyleft in the folder of a package passes as %q", ids)
	}
}

// A bill says what "go version -m" says of the same binary: this test's own.
func TestBillIsWhatGoVersionSays(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(materials("test", "v1.2.3", info, map[string][]string{"github.com/google/licensecheck": {"BSD-3-Clause"}}))
	if err != nil {
		t.Fatal(err)
	}
	var b struct { // as a reader of CycloneDX has it
		BOMFormat   string `json:"bomFormat"`
		SpecVersion string `json:"specVersion"`
		Metadata    struct {
			Component struct {
				Name string `json:"name"`
				Ref  string `json:"bom-ref"`
			} `json:"component"`
		} `json:"metadata"`
		Components []struct {
			Type, Name, Version, PURL string
			Ref                       string `json:"bom-ref"`
			Licenses                  []struct{ License struct{ ID string } }
		} `json:"components"`
		Dependencies []struct {
			Ref       string   `json:"ref"`
			DependsOn []string `json:"dependsOn"`
		} `json:"dependencies"`
	}
	if err := json.Unmarshal(text, &b); err != nil {
		t.Fatal(err)
	}
	if b.BOMFormat != "CycloneDX" || b.SpecVersion != "1.6" || b.Metadata.Component.Name != "test" || !strings.HasSuffix(b.Metadata.Component.Ref, "@v1.2.3") {
		t.Errorf("the bill begins with %s %s, for %s", b.BOMFormat, b.SpecVersion, b.Metadata.Component.Name)
	}
	var got, refs []string
	for _, c := range b.Components {
		if c.Type != "library" || c.PURL != "pkg:golang/"+c.Name+"@"+c.Version || c.Ref != c.PURL {
			t.Errorf("component %+v", c)
		}
		refs = append(refs, c.Ref)
		if c.Name != standardLibrary {
			got = append(got, c.Name+" "+c.Version)
		}
	}
	out, err := exec.Command("go", "version", "-m", self).Output()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) >= 3 && f[0] == "dep" {
			want = append(want, f[1]+" "+f[2])
		}
	}
	if len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("the bill has %q, go version -m %q", got, want)
	}
	if len(b.Dependencies) != 1 || b.Dependencies[0].Ref != b.Metadata.Component.Ref || !slices.Equal(b.Dependencies[0].DependsOn, refs) {
		t.Errorf("dependencies are %+v", b.Dependencies)
	}
	if i := slices.IndexFunc(b.Components, func(c struct {
		Type, Name, Version, PURL string
		Ref                       string `json:"bom-ref"`
		Licenses                  []struct{ License struct{ ID string } }
	},
	) bool {
		return c.Name == "github.com/google/licensecheck"
	}); i < 0 || len(b.Components[i].Licenses) != 1 || b.Components[i].Licenses[0].License.ID != "BSD-3-Clause" {
		t.Errorf("the licence of licensecheck is not in the bill: %s", text)
	}
}

func TestCheckTool(t *testing.T) {
	for _, c := range []struct{ name, text, sums, refused string }{
		{"one", "module x\n\ntool example.org/t/cmd/t\n\nrequire (\n\texample.org/t v1.2.3 // indirect\n\tother.org/x v0.0.0-20260101000000-abcdefabcdef\n)\n", "example.org/t v1.2.3 h1:x\n", ""},
		{"two of one module", "tool (\n\texample.org/t/cmd/a\n\texample.org/t/cmd/b\n)\nrequire example.org/t v1.2.3\n", "example.org/t v1.2.3 h1:x\n", ""},
		{"two of two", "tool (\n\texample.org/t\n\tother.org/u\n)\nrequire (\n\texample.org/t v1.2.3\n\tother.org/u v1.0.0\n)\n", "example.org/t v1.2.3 h1:x\nother.org/u v1.0.0 h1:y\n", "a file of its own"},
		{"no version", "tool example.org/t\nrequire example.org/t v1\n", "example.org/t v1 h1:x\n", "exact version"},
		{"no module", "tool example.org/t\n", "", "no required module"},
		{"no checksum", "tool example.org/t\nrequire example.org/t v1.2.3\n", "example.org/t v1.2.3/go.mod h1:x\n", "no checksum"},
	} {
		if err := checkTool(c.text, c.sums); (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%s: %v, want %q", c.name, err, c.refused)
		}
	}
}

func TestCheckStages(t *testing.T) {
	stage := func(name, more string) string {
		labels := ""
		for _, l := range imageLabels {
			labels += "LABEL " + l + "=\"x\"\n"
		}
		labels += "LABEL " + licenceLabel + "=\"MIT\"\n"
		return fmt.Sprintf("FROM scratch AS %s\n%[2]sCOPY %[1]s /%[1]s\n%[3]sENTRYPOINT [\"/%[1]s\"]\n\n", name, labels, more)
	}
	user := "USER 65532:65532\n"
	two := stage("collector", user) + stage("exposer", user)
	for _, c := range []struct{ name, text, refused string }{
		{"as it should be", two + stage("weir", "# why\n"+user), ""},
		{"root by default", two + stage("weir", ""), "weir runs as user"},
		{"root by number", stage("collector", "USER 0\n") + stage("exposer", user) + stage("weir", user), "collector runs as user"},
		{"a user by name", two + stage("weir", "USER nonroot\n"), `"nonroot"`},
		{"a base image", two + strings.Replace(stage("weir", user), "scratch", "alpine:3", 1), "alpine:3"},
		{"a command", two + stage("weir", user+"RUN echo\n"), "RUN echo"},
		{"a shell", two + stage("weir", user) + "CMD run\n", "needs a shell"},
		{"another image's file", two + stage("weir", user+"COPY --from=x /y /y\n"), "another image"},
		{"an image too few", two, "no image of weir"},
		{"another licence", two + strings.Replace(stage("weir", user), "MIT", "ISC", 1), "\"ISC\", and LICENSE is MIT"},
		{"no label", two + strings.Replace(stage("weir", user), "LABEL "+imageLabels[2], "LABEL x", 1), "weir has no label org.opencontainers.image.source"},
	} {
		if err := checkStages(c.text, "MIT"); (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%s: %v, want %q", c.name, err, c.refused)
		}
	}
}

// containerd keeps an image under the name that its archive has, and Kubernetes asks for the
// full one.
func TestImagesHaveTheNameThatKubernetesAsksFor(t *testing.T) {
	context, dir := t.TempDir(), t.TempDir()
	if err := os.Mkdir(filepath.Join(context, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range names() {
		if err := os.WriteFile(filepath.Join(context, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	source := release.Source{Version: "1.2.3", Revision: "abc", Time: time.Unix(0, 0)}
	if err := writeImages(filepath.Join("..", "..", dockerfile), []image.Context{{OS: "linux", Architecture: "amd64", Dir: context}}, repository, source, dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range names() {
		unpacked := t.TempDir()
		if _, err := image.Read(filepath.Join(dir, name+"-1.2.3.oci.tar"), unpacked); err != nil {
			t.Fatal(err)
		}
		index, err := os.ReadFile(filepath.Join(unpacked, "index.json"))
		if err != nil {
			t.Fatal(err)
		}
		if want := `"io.containerd.image.name":"docker.io/weir/` + name + `:1.2.3"`; !strings.Contains(strings.Join(strings.Fields(string(index)), ""), want) {
			t.Errorf("the archive of %s has no %s: %s", name, want, index)
		}
	}
}

// A binary that the machine's linker has touched is found.
func TestCheckStatic(t *testing.T) {
	dir := t.TempDir()
	dynamic, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range binaries {
		if err := os.WriteFile(filepath.Join(dir, b.name), dynamic, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := checkStatic(dir); err == nil || !strings.Contains(err.Error(), "PT_INTERP") {
		t.Errorf("a dynamic binary passes: %v", err)
	}
	if err := checkStatic(t.TempDir()); err == nil {
		t.Error("no binaries pass")
	}
}

// The commands of docs/releasing.md give the whole tree the next version.
func TestNextVersion(t *testing.T) {
	root, copied := filepath.Join("..", ".."), t.TempDir()
	page, err := os.ReadFile(filepath.Join(root, "docs", "releasing.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, commands, _ := strings.Cut(string(page), "<!-- the tests of tools/supply run this -->")
	_, commands, _ = strings.Cut(commands, "```sh needs=checkout\n")
	commands, _, found := strings.Cut(commands, "```")
	if !found {
		t.Fatal("docs/releasing.md has no commands for the next version")
	}
	modules, err := filepath.Glob(filepath.Join(root, "services", "*", "go.mod"))
	if err != nil || len(modules) == 0 {
		t.Fatal(modules, err)
	}
	for _, path := range append(modules, filepath.Join(root, "deploy", "helm", "weir", "Chart.yaml"), filepath.Join(root, "deploy", "compose.yaml"),
		filepath.Join(root, "go.mod"), filepath.Join(root, "go.work"), filepath.Join(root, "CHANGELOG.md"), filepath.Join(root, "client", "go.mod"), filepath.Join(root, "proto", "go.mod")) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(copied, strings.TrimPrefix(path, root))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if before, err := release.Next(copied); err != nil || before == "0.98.7" {
		t.Fatalf("before, the version is %q, %v", before, err)
	}
	cmd := exec.Command("bash", "-euc", strings.Replace(commands, "next=X.Y.Z", "next=0.98.7", 1))
	cmd.Dir = copied
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if next, err := release.Next(copied); err != nil || next != "0.98.7" {
		t.Errorf("the version is %q, %v", next, err)
	}
}
