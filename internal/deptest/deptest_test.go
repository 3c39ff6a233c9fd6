package deptest

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/internal/testkit"
)

// TestImports lists every package of the workspace and applies every rule.
func TestImports(t *testing.T) {
	packages := list(t)
	if len(packages) < 5 {
		t.Fatalf("go list found only %d packages, so this test checks nothing", len(packages))
	}
	for _, p := range packages {
		for _, rule := range Rules {
			for _, broken := range rule.Check(p) {
				t.Error(broken)
			}
		}
	}
}

func list(t *testing.T) []Package {
	t.Helper()
	root, err := testkit.Root()
	if err != nil {
		t.Fatal(err)
	}
	// -e: a package that does not compile is another test's failure.
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,Deps", "work")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v: %s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var packages []Package
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath    string
			Imports, Deps []string
		}
		if err := decoder.Decode(&p); err == io.EOF {
			return packages
		} else if err != nil {
			t.Fatalf("read go list's output: %v", err)
		}
		packages = append(packages, Package{Path: p.ImportPath, Imports: p.Imports, Deps: p.Deps})
	}
}

// TestRulesCatch shows each rule an import that it must refuse, so that a
// pattern with a slip in it does not pass for a rule that nobody breaks.
func TestRulesCatch(t *testing.T) {
	for _, test := range []struct{ path, imports string }{
		{"internal/bucket", "google.golang.org/protobuf/proto"},
		{"internal/bucket", "net/http"},
		{"services/collector/internal/plan", "log/slog"},
		{"services/collector/internal/plan", "github.com/jackc/pgx/v5/pgxpool"},
		{"internal/expo", "net/http"},
		{"services/exposer/internal/recent", "database/sql"},
		{"internal/sample", root + "/internal/wire"},
		{"services/exposer/internal/follow", root + "/services/exposer/internal/recent"},
		{"services/collector/internal/catalogue", "net/http"},
		{"services/collector/internal/cloudflare", root + "/services/collector/internal/catalogue"},
		{"internal/cfsim", root + "/services/collector/internal/catalogue"},
		{"internal/cfsim/faults", root + "/internal/bucket"},
		{"internal/wire", "github.com/jackc/pgx/v5"},
		{"internal/pgtest", "modernc.org/sqlite"},
		{"services/collector/internal/feed", "github.com/jackc/pgx/v5"},
		{"services/collector/internal/poll", root + "/services/collector/internal/store/postgres"},
		{"services/standalone/e2e", root + "/services/collector/internal/store/sqlite"},
		{"services/collector/internal/store/postgres", root + "/services/collector/internal/feed"},
		{"services/exposer", root + "/services/collector"},
		{"services/exposer/internal/web", "database/sql"},
		{"services/collector", root + "/services/exposer"},
		{"client", "github.com/prometheus/client_golang/prometheus"},
		{"client", root + "/internal/bucket"},
		{"proto/gen/weir/bucket/v1", "github.com/google/uuid"},
		{"services/collector", root + "/internal/testkit"},
		{"internal/wire", "testing"},
		{"services/collector", root + "/services/collector/internal/store/storetest"},
		{"services/standalone/cmd/weir", "math/rand"},
	} {
		p := Package{Path: root + "/" + test.path, Imports: []string{test.imports}, Deps: []string{test.imports}}
		caught := false
		for _, rule := range Rules {
			caught = caught || len(rule.Check(p)) > 0
		}
		if !caught {
			t.Errorf("no rule keeps %s from importing %s", test.path, test.imports)
		}
	}
}
