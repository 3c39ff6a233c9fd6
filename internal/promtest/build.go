package promtest

import (
	"bytes"
	"cmp"
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

// source is a module whose programs are built.
type source struct {
	pin      string // tools/<pin>.mod has its version
	own      bool   // the program is our own: tools/<pin> is its module
	name     string
	module   string
	folder   string // in which each program has its own
	tags     string
	stamp    string // the linker's name of what a program calls its version
	programs []string
	// version is the program's own, of the module's.
	version func(module string) string
}

var (
	prometheus = source{
		pin: "prometheus", name: "Prometheus", module: "github.com/prometheus/prometheus", folder: "cmd",
		// The tags leave out the service discoveries of the clouds, whose client
		// libraries are most of the build. Static, file and HTTP discovery are
		// always in; Kubernetes and DNS stay because our documentation's scrape
		// configurations use them and promtool checks these.
		tags:  "netgo,remove_all_sd,enable_kubernetes_sd,enable_dns_sd",
		stamp: "github.com/prometheus/common/version.Version=", programs: []string{"promtool", "prometheus"},
		version: prometheusVersion,
	}
	// The oldest that Weir supports, and the one before it. Their discoveries cannot be left out.
	oldest = source{
		pin: "prometheus239", name: "Prometheus", module: prometheus.module, folder: "cmd", tags: "netgo",
		stamp: prometheus.stamp, programs: []string{"promtool", "prometheus"}, version: prometheusVersion,
	}
	tooOld = source{
		pin: "prometheus238", name: "Prometheus", module: prometheus.module, folder: "cmd", tags: "netgo",
		stamp: prometheus.stamp, programs: []string{"prometheus"}, version: prometheusVersion,
	}
	victoriaMetrics = source{
		pin: "victoriametrics", name: "VictoriaMetrics", module: "github.com/VictoriaMetrics/VictoriaMetrics", folder: "app",
		stamp: "github.com/VictoriaMetrics/VictoriaMetrics/lib/buildinfo.Version=victoria-metrics-", programs: []string{"victoria-metrics"},
		version: func(module string) string { return strings.TrimPrefix(module, "v") },
	}
	mimir = source{
		pin: "mimir", name: "Mimir", module: "github.com/grafana/mimir", folder: "cmd",
		tags:  "netgo,stringlabels",
		stamp: "github.com/grafana/mimir/pkg/util/version.Version=", programs: []string{"mimir"},
		// Its releases are not Go modules: the version is that of a commit.
		version: func(module string) string { return strings.TrimPrefix(module, "v") },
	}
	thanos = source{
		pin: "thanos", name: "Thanos", module: "github.com/thanos-io/thanos", folder: "cmd",
		// Its labels are slices; Prometheus's are not, unless a tag says so.
		tags:  "netgo,slicelabels",
		stamp: "github.com/prometheus/common/version.Version=", programs: []string{"thanos"},
		version: func(module string) string { return strings.TrimPrefix(module, "v") },
	}
	openTelemetry = source{
		pin: "otelcol", own: true, name: "the OpenTelemetry collector", module: "go.opentelemetry.io/collector/otelcol",
		programs: []string{"otelcol"},
		version:  func(module string) string { return strings.TrimPrefix(module, "v") },
	}
)

// Tools are paths of the programs of one version of Prometheus.
type Tools struct {
	Prometheus, Promtool string
	// Version is Prometheus's own, such as 3.15.0.
	Version string
}

// Victoria is the path of a single-node VictoriaMetrics.
type Victoria struct {
	Path string
	// Version is its own, such as 1.151.0; empty where the program tells none.
	Version string
}

// Receiver is the path of a program that takes remote write and answers as Prometheus
// does: Mimir, or Thanos.
type Receiver struct {
	Path string
	// Version is that of its module, without v.
	Version string
}

// Build returns the Prometheus that tools/prometheus.mod pins, and builds it
// first if this machine has not yet. That takes minutes; it says so on notice.
// The programs are kept in $WEIR_TOOLS_DIR, by default the folder weir in the
// user's cache folder, under names that hold the version and a hash of
// everything that goes into the build. Several processes may call it at once:
// one builds, the others wait.
func Build(notice io.Writer) (Tools, error) {
	paths, version, err := prometheus.build(notice)
	if err != nil {
		return Tools{}, err
	}
	return Tools{Promtool: paths[0], Prometheus: paths[1], Version: version}, nil
}

// BuildOldest does the same for the oldest Prometheus that Weir supports, which
// tools/prometheus239.mod pins.
func BuildOldest(notice io.Writer) (Tools, error) {
	paths, version, err := oldest.build(notice)
	if err != nil {
		return Tools{}, err
	}
	return Tools{Promtool: paths[0], Prometheus: paths[1], Version: version}, nil
}

// BuildTooOld does the same for the one before that, which tools/prometheus238.mod pins. It
// has no promtool.
func BuildTooOld(notice io.Writer) (Tools, error) {
	paths, version, err := tooOld.build(notice)
	if err != nil {
		return Tools{}, err
	}
	return Tools{Prometheus: paths[0], Version: version}, nil
}

// BuildVictoria does the same for VictoriaMetrics, which tools/victoriametrics.mod
// pins, in a minute.
func BuildVictoria(notice io.Writer) (Victoria, error) {
	paths, version, err := victoriaMetrics.build(notice)
	if err != nil {
		return Victoria{}, err
	}
	return Victoria{Path: paths[0], Version: version}, nil
}

// BuildMimir does the same for Mimir, which tools/mimir.mod pins, in some minutes.
func BuildMimir(notice io.Writer) (Receiver, error) { return buildReceiver(mimir, notice) }

// BuildThanos does the same for Thanos, which tools/thanos.mod pins, in some minutes.
func BuildThanos(notice io.Writer) (Receiver, error) { return buildReceiver(thanos, notice) }

// BuildOpenTelemetry does the same for an OpenTelemetry collector, tools/otelcol, in some
// minutes.
func BuildOpenTelemetry(notice io.Writer) (Receiver, error) {
	return buildReceiver(openTelemetry, notice)
}

func buildReceiver(s source, notice io.Writer) (Receiver, error) {
	paths, version, err := s.build(notice)
	if err != nil {
		return Receiver{}, err
	}
	return Receiver{Path: paths[0], Version: version}, nil
}

func (s source) build(notice io.Writer) (paths []string, version string, err error) {
	root, err := testkit.Root()
	if err != nil {
		return nil, "", err
	}
	version, key, err := s.pinned(root)
	if err != nil {
		return nil, "", err
	}
	dir, err := testkit.Cache()
	if err != nil {
		return nil, "", err
	}
	for _, name := range s.programs {
		paths = append(paths, filepath.Join(dir, fmt.Sprintf("%s-%s-%s", name, version, key)))
	}
	if present(paths) {
		return paths, version, nil
	}
	unlock, err := testkit.Lock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, "", err
	}
	defer unlock()
	if present(paths) { // another process built them while we waited
		return paths, version, nil
	}
	fmt.Fprintf(notice, "building %s %s into %s, takes some minutes the first time\n", s.name, version, dir)
	for i, name := range s.programs {
		if err := s.compile(root, name, paths[i], version); err != nil {
			return nil, "", err
		}
	}
	return paths, version, nil
}

func present(paths []string) bool {
	for _, path := range paths {
		if _, err := os.Stat(path); err != nil {
			return false
		}
	}
	return true
}

func (s source) compile(root, name, path, version string) error {
	// Built beside its place and moved there, so that an interrupted build
	// leaves nothing that looks like a program.
	next := path + ".next"
	cmd := exec.Command("go", "build",
		"-modfile="+filepath.Join("tools", s.pin+".mod"), "-trimpath", "-tags="+s.tags,
		"-ldflags=-s -w -X "+s.stamp+version,
		"-o", next, s.module+"/"+s.folder+"/"+name)
	cmd.Dir = root
	if s.own {
		cmd = exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", next, ".")
		cmd.Dir = filepath.Join(root, "tools", s.pin)
	}
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

// pinned reads the version from the module file, and makes a key that changes
// with anything that changes the programs.
func (s source) pinned(root string) (version, key string, err error) {
	var files []byte
	path := filepath.Join("tools", s.pin+".mod")
	if s.own {
		path = filepath.Join("tools", s.pin, "go.mod")
		if files, err = os.ReadFile(filepath.Join(root, "tools", s.pin, "main.go")); err != nil {
			return "", "", fmt.Errorf("find the pinned %s: %w", s.name, err)
		}
	}
	mod, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		return "", "", fmt.Errorf("find the pinned %s: %w", s.name, err)
	}
	m := regexp.MustCompile(`(?m)^\s*(?:require )?` + regexp.QuoteMeta(s.module) + ` (v\S+)`).FindSubmatch(mod)
	if m != nil {
		version = s.version(string(m[1]))
	}
	if version == "" {
		return "", "", fmt.Errorf("find the pinned %s: %s does not require %s at a version that is known to be one of its releases", s.name, path, s.module)
	}
	sum := sha256.New()
	fmt.Fprintln(sum, s.tags, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	sum.Write(mod)
	sum.Write(files)
	return version, fmt.Sprintf("%x", sum.Sum(nil)[:4]), nil
}

// prometheusVersion knows that Prometheus 3.15.0 is the Go module v0.315.0, and 2.39.2 v0.39.2.
func prometheusVersion(module string) string {
	m := regexp.MustCompile(`^v0\.([3-9]?)([0-9]{2})\.([0-9]+)$`).FindStringSubmatch(module)
	if m == nil {
		return ""
	}
	return fmt.Sprintf("%s.%s.%s", cmp.Or(m[1], "2"), strings.TrimPrefix(m[2], "0"), m[3])
}
