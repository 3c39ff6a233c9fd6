package e2e

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/internal/testkit"
)

// exposure is the most that systemd-analyze may give a unit, in tenths: 0 is the best,
// 100 the worst.
const exposure = "15"

var (
	start       = regexp.MustCompile(`(?m)^ExecStart=/usr/local/bin/(\S+) (.+)$`)
	environment = regexp.MustCompile(`(?m)^Environment=(\S+)$`)
	credential  = regexp.MustCompile(`(?m)^LoadCredential=([a-z-]+):/etc/weir/([a-z-]+)$`)
)

// The units are what systemd accepts and calls well protected, all three alike, and the
// programs accept the settings that stand in them. They are not run under systemd.
func TestSystemdUnits(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		testkit.Missing(t, "systemd-analyze (Debian: systemd)")
	}
	protection := ""
	for _, name := range []string{"weir", "collector", "exposer"} {
		unit := "weir-" + name + ".service"
		if name == "weir" {
			unit = "weir.service"
		}
		text := string(testkit.RepoFile(t, "deploy/systemd/"+unit))
		dir := t.TempDir()
		path := filepath.Join(dir, unit)
		binary := program(t, name)
		testkit.WriteFile(t, path, []byte(strings.ReplaceAll(text, "/usr/local/bin/"+name, binary)))

		if out, err := exec.Command("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", path).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("systemd-analyze verify %s: %v\n%s", unit, err, out)
		}
		if out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold="+exposure, path).CombinedOutput(); err != nil {
			t.Errorf("systemd-analyze security %s: %v\n%s", unit, err, out)
		}
		_, protected, _ := strings.Cut(text, "\nNoNewPrivileges=")
		if protection == "" {
			protection = protected
		}
		if protected == "" || protected != protection {
			t.Errorf("%s is not protected as weir.service is", unit)
		}

		settings := []string{}
		for _, m := range environment.FindAllStringSubmatch(text, -1) {
			settings = append(settings, strings.NewReplacer("%d", dir, "%S", dir).Replace(m[1]))
		}
		for _, m := range credential.FindAllStringSubmatch(text, -1) {
			if m[1] != m[2] {
				t.Errorf("%s: the credential %s is loaded from %s", unit, m[1], m[2])
			}
			value := apiToken
			if m[1] == "database-url" {
				value = "postgres://weir@127.0.0.1/weir"
			}
			testkit.WriteFile(t, filepath.Join(dir, m[1]), []byte(value))
		}
		m := start.FindStringSubmatch(text)
		if m == nil || m[1] != name {
			t.Fatalf("%s starts %q", unit, m)
		}
		if o := complete(t, command(t, binary, settings, append(strings.Fields(m[2]), "--print-config")...)); o.code != 0 {
			t.Errorf("%s: %s refuses its settings:\n%s", unit, name, o.stderr)
		}
		if !strings.Contains(text, "install -m 644 deploy/systemd/"+unit) {
			t.Errorf("%s does not say how to install it", unit)
		}
	}
	root, err := testkit.Root()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "deploy", "systemd", "*"))
	if err != nil || len(files) != 3 {
		t.Errorf("deploy/systemd has %v, %v; this test knows three units", files, err)
	}
}
