package promtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/weir-metrics/weir/internal/testkit"
)

// Debian returns the older Prometheus of Debian's package (2.42 in Debian 12),
// which tools/neighbours.sh unpacks; where it has not, the test is skipped.
func Debian(t testing.TB) Tools {
	t.Helper()
	dir := debian(t, "prometheus")
	tools := Tools{Prometheus: filepath.Join(dir, "prometheus"), Promtool: filepath.Join(dir, "promtool")}
	out, err := exec.Command(tools.Prometheus, "--version").CombinedOutput()
	m := regexp.MustCompile(`version (\d+\.\d+\.\d+)`).FindSubmatch(out)
	if err != nil || m == nil {
		t.Fatalf("ask Debian's Prometheus for its version: %v\n%s", err, out)
	}
	tools.Version = string(m[1])
	return tools
}

// DebianVictoria returns the older VictoriaMetrics of Debian's package (1.79 in
// Debian 12) in the same way. The program does not tell its version.
func DebianVictoria(t testing.TB) Victoria {
	t.Helper()
	return Victoria{Path: filepath.Join(debian(t, "victoria-metrics"), "victoria-metrics")}
}

func debian(t testing.TB, name string) string {
	t.Helper()
	cache, err := testkit.Cache()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "debian", name, "usr", "bin")
	if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
		testkit.Missing(t, fmt.Sprintf("Debian's package %s is not unpacked: tools/neighbours.sh does it where apt-get is", name))
	}
	return dir
}
