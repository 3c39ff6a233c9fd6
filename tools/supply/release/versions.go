package release

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
)

// Root is the path of the module in the repository's root; the others are below it.
const Root = "github.com/weir-metrics/weir"

// Library are the modules that other projects import, by their folders, each after those
// that it needs. Each release has a tag FOLDER/vX.Y.Z for them, which Go asks for.
var Library = []string{"proto", "client"}

var plain = regexp.MustCompile(`^\d+\.\d+\.\d+$`)

// Next is the version, without v, that the tree at root is or will be released as: that
// of the chart. All that bears a version must bear this one, the modules' requirements of
// each other too, since outside the tree their replace directives do not count.
func Next(root string) (version string, err error) {
	chart, err := os.ReadFile(filepath.Join(root, "deploy", "helm", "weir", "Chart.yaml"))
	if err != nil {
		return "", err
	}
	version = field(chart, "version")
	if !plain.MatchString(version) {
		return "", fmt.Errorf("version of deploy/helm/weir/Chart.yaml is %q, want X.Y.Z", version)
	}
	var wrong []error
	if app := field(chart, "appVersion"); app != version {
		wrong = append(wrong, fmt.Errorf("deploy/helm/weir/Chart.yaml: appVersion is %s and version %s; a release has one", app, version))
	}
	compose, err := os.ReadFile(filepath.Join(root, "deploy", "compose.yaml"))
	if err != nil {
		return "", err
	}
	for _, m := range defaultTag.FindAllStringSubmatch(string(compose), -1) {
		if m[1] != version {
			wrong = append(wrong, fmt.Errorf("deploy/compose.yaml: WEIR_VERSION is by default %s, want %s", m[1], version))
		}
	}
	wrong = append(wrong, requirements(root, version))
	changelog, err := os.ReadFile(filepath.Join(root, "CHANGELOG.md"))
	if err != nil {
		return "", err
	}
	sections, err := split(string(changelog))
	if err != nil {
		return "", err
	}
	for _, s := range sections {
		switch {
		case s.name == unreleased:
		case !plain.MatchString(s.name):
			wrong = append(wrong, fmt.Errorf("CHANGELOG.md: %q is no version X.Y.Z", s.name))
		case semver.Compare("v"+s.name, "v"+version) > 0:
			wrong = append(wrong, fmt.Errorf("CHANGELOG.md has a section of %s, and the tree is %s", s.name, version))
		}
	}
	if len(sections) > 1 && sections[0].name == unreleased && sections[0].text != "" && sections[1].name == version {
		wrong = append(wrong, fmt.Errorf("CHANGELOG.md: %s is released and [Unreleased] says more, so the tree needs the next version (docs/releasing.md)", version))
	}
	return version, errors.Join(wrong...)
}

// defaultTag is how compose.yaml names images.
var defaultTag = regexp.MustCompile(`\$\{WEIR_VERSION:-([^}]*)\}`)

func field(yaml []byte, name string) string {
	m := regexp.MustCompile(`(?m)^` + name + `: *(\S+) *$`).FindSubmatch(yaml)
	if m == nil {
		return ""
	}
	return strings.Trim(string(m[1]), `"`)
}

// requirements sees to it that each module of the workspace that needs a library module
// needs it at this version.
func requirements(root, version string) error {
	text, err := os.ReadFile(filepath.Join(root, "go.work"))
	if err != nil {
		return err
	}
	work, err := modfile.ParseWork("go.work", text, nil)
	if err != nil {
		return err
	}
	library := map[string]bool{}
	for _, folder := range Library {
		library[Root+"/"+folder] = true
	}
	var wrong []error
	for _, use := range work.Use {
		name := filepath.Join(use.Path, "go.mod")
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return err
		}
		file, err := modfile.Parse(name, text, nil)
		if err != nil {
			return err
		}
		for _, r := range file.Require {
			if library[r.Mod.Path] && r.Mod.Version != "v"+version {
				wrong = append(wrong, fmt.Errorf("%s requires %s at %s, want v%s", name, r.Mod.Path, r.Mod.Version, version))
			}
		}
	}
	return errors.Join(wrong...)
}
