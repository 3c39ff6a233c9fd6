package promtest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/weir-metrics/weir/internal/testkit"
)

const (
	module = "github.com/prometheus/prometheus"
	// tags leave out the service discoveries of the clouds, whose client
	// libraries are most of the build. Static, file and HTTP discovery are
	// always in; Kubernetes and DNS stay because our documentation's scrape
	// configurations use them and promtool checks these.
	tags = "netgo,remove_all_sd,enable_kubernetes_sd,enable_dns_sd"
)

// Tools are paths of the programs, built from the version that
// tools/prometheus.mod pins.
type Tools struct {
	Prometheus, Promtool string
	// Version is Prometheus's own, such as 3.15.0.
	Version string
}

// Build returns the programs and builds them first if this machine has not yet.
// That takes minutes; it says so on notice. They are kept in $WEIR_TOOLS_DIR,
// by default the folder weir in the user's cache folder, under names that hold
// the version and a hash of everything that goes into the build. Several
// processes may call it at once: one builds, the others wait.
func Build(notice io.Writer) (Tools, error) {
	root, err := testkit.Root()
	if err != nil {
		return Tools{}, err
	}
	version, key, err := pinned(root)
	if err != nil {
		return Tools{}, err
	}
	dir, err := testkit.Cache()
	if err != nil {
		return Tools{}, err
	}
	built := func(name string) string {
		return filepath.Join(dir, fmt.Sprintf("%s-%s-%s", name, version, key))
	}
	tools := Tools{Prometheus: built("prometheus"), Promtool: built("promtool"), Version: version}
	if tools.present() {
		return tools, nil
	}
	unlock, err := testkit.Lock(filepath.Join(dir, "lock"))
	if err != nil {
		return Tools{}, err
	}
	defer unlock()
	if tools.present() { // another process built them while we waited
		return tools, nil
	}
	major, minor, _ := strings.Cut(version, ".")
	minor, _, _ = strings.Cut(minor, ".")
	fmt.Fprintf(notice, "building Prometheus %s.%s into %s, takes some minutes the first time\n", major, minor, dir)
	for _, tool := range []struct{ name, path string }{{"promtool", tools.Promtool}, {"prometheus", tools.Prometheus}} {
		if err := compile(root, tool.name, tool.path, version); err != nil {
			return Tools{}, err
		}
	}
	return tools, nil
}

func (t Tools) present() bool {
	for _, path := range []string{t.Prometheus, t.Promtool} {
		if _, err := os.Stat(path); err != nil {
			return false
		}
	}
	return true
}

func compile(root, name, path, version string) error {
	// Built beside its place and moved there, so that an interrupted build
	// leaves nothing that looks like a program.
	next := path + ".next"
	cmd := exec.Command("go", "build",
		"-modfile="+filepath.Join("tools", "prometheus.mod"), "-trimpath", "-tags="+tags,
		"-ldflags=-s -w -X github.com/prometheus/common/version.Version="+version,
		"-o", next, module+"/cmd/"+name)
	cmd.Dir = root
	// A module file of its own and a workspace exclude each other.
	cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", name, err, bytes.TrimSpace(out))
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("build %s: %w", name, err)
	}
	return nil
}

var required = regexp.MustCompile(`(?m)^\s*(?:require )?` + regexp.QuoteMeta(module) + ` v0\.([0-9])([0-9]{2})\.([0-9]+)`)

// pinned reads the version from the module file, and makes a key that changes
// with anything that changes the programs. Prometheus 3.15.0 is the Go module
// v0.315.0.
func pinned(root string) (version, key string, err error) {
	mod, err := os.ReadFile(filepath.Join(root, "tools", "prometheus.mod"))
	if err != nil {
		return "", "", fmt.Errorf("find the pinned Prometheus: %w", err)
	}
	m := required.FindSubmatch(mod)
	if m == nil {
		return "", "", fmt.Errorf("find the pinned Prometheus: tools/prometheus.mod does not require %s at v0.MNN.P", module)
	}
	version = fmt.Sprintf("%s.%s.%s", m[1], strings.TrimPrefix(string(m[2]), "0"), m[3])
	sum := sha256.New()
	fmt.Fprintln(sum, tags, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	sum.Write(mod)
	return version, fmt.Sprintf("%x", sum.Sum(nil)[:4]), nil
}
