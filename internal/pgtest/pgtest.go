// Package pgtest gives a test a real Postgres: a fresh database for every test
// on one throw-away server for the whole test binary, or a server of its own
// for tests that stop it, kill it and start it again.
//
// The server is the machine's own: the newest one whose binaries are in PATH or
// in the places where packages put them. TEST_DATABASE_URL names a server to
// use instead; its user must be allowed to create databases. With neither, the
// test fails and says what to install: a store that was tested without its
// database was not tested.
//
// Everything is driven with Postgres's own programs (initdb, postgres, psql),
// so that this package, and the module that it is in, needs no driver.
package pgtest

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/weir-metrics/weir/internal/testkit"
)

// DSN returns the URL of a database that was created empty for this test and is
// dropped when the test ends, whoever is still connected. The URL also works
// for psql.
func DSN(t testing.TB) string {
	t.Helper()
	return clone(t, "template0")
}

// Template is a database that was prepared once and is copied for each test,
// which costs some 30 ms instead of all migrations. Make one as a package
// variable; it is safe for concurrent use.
type Template struct {
	prepare func(dsn string) error
	once    sync.Once
	name    string
	err     error
}

// NewTemplate returns a template that prepare fills when the first test asks
// for a copy. Prepare gets the URL of an empty database and must close its
// connections: a database in use cannot be copied.
func NewTemplate(prepare func(dsn string) error) *Template {
	return &Template{prepare: prepare}
}

// DSN is [DSN] with a copy of the template instead of an empty database.
func (tmpl *Template) DSN(t testing.TB) string {
	t.Helper()
	tmpl.once.Do(func() { tmpl.name, tmpl.err = tmpl.make(sharedServer(t)) })
	if tmpl.err != nil {
		t.Fatalf("prepare the template database: %v", tmpl.err)
	}
	return clone(t, tmpl.name)
}

func (tmpl *Template) make(s *target) (string, error) {
	name := databaseName("template")
	if err := s.create(name, "template0"); err != nil {
		return "", err
	}
	// It lives as long as the test binary. On our own server it goes with the
	// server; on somebody else's it must not stay behind.
	if s.foreign {
		if _, err := testkit.StartJanitor(`"$1" -Xq -d "$2" -c "DROP DATABASE IF EXISTS $3 WITH (FORCE)"`, s.psql, s.url(""), name); err != nil {
			return "", err
		}
	}
	return name, tmpl.prepare(s.url(name))
}

func clone(t testing.TB, template string) string {
	t.Helper()
	s := sharedServer(t)
	name := databaseName("test")
	if err := s.create(name, template); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.exec(fmt.Sprintf("DROP DATABASE IF EXISTS %s WITH (FORCE)", name)); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	return s.url(name)
}

// Exec runs SQL with psql on the database at dsn and returns what psql prints:
// unaligned rows without header, columns separated by |. An error of any
// statement fails the test.
func Exec(t testing.TB, dsn, sql string) string {
	t.Helper()
	bin, err := find()
	if err != nil {
		t.Fatal(err)
	}
	out, err := runPsql(bin.psql, dsn, sql)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var databases atomic.Int64

// databaseName tells apart the databases of one binary by a number and those of
// several binaries on one foreign server by the process id.
func databaseName(kind string) string {
	return fmt.Sprintf("weir_%s_%d_%d", kind, os.Getpid(), databases.Add(1))
}

// shared is the server that all tests of this binary use.
var shared struct {
	once sync.Once
	s    *target
	err  error
}

func sharedServer(t testing.TB) *target {
	t.Helper()
	shared.once.Do(func() { shared.s, shared.err = startShared() })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.s
}

func startShared() (*target, error) {
	bin, err := find()
	if err != nil {
		return nil, err
	}
	if url := os.Getenv(urlVariable); url != "" {
		return foreignTarget(bin, url)
	}
	s, err := newServer(bin, nil)
	if err != nil {
		return nil, err
	}
	if err := s.start(); err != nil {
		return nil, err
	}
	return s.target, nil
}
