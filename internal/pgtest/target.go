package pgtest

import (
	"bytes"
	"cmp"
	"fmt"
	"net/url"
	"os/exec"
	"strings"
)

// target is where databases are made: a server and how psql reaches it.
type target struct {
	psql    string // path of the program
	base    url.URL
	foreign bool   // somebody else's server: leave it as it was found
	admin   string // how databases are made, where that is another way
}

// url is the address of a database; "" is the one that the server was given
// with, from which others are created.
func (s *target) url(database string) string {
	u := s.base
	if database != "" {
		u.Path = "/" + database
	}
	return u.String()
}

func foreignTarget(bin binaries, address string) (*target, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		// The value is not repeated: it may hold a password.
		return nil, fmt.Errorf("%s is not a URL of the form postgres://user:password@host:port/database", urlVariable)
	}
	s := &target{psql: bin.psql, base: *u, foreign: true}
	if err := s.exec("SELECT 1"); err != nil {
		return nil, fmt.Errorf("reach the server of %s: %w", urlVariable, err)
	}
	return s, nil
}

func (s *target) create(name, template string) error {
	// UTF8 and the C collation whatever the server's defaults are: order of
	// text must not depend on the machine.
	how := "TEMPLATE " + template
	if template == "template0" {
		how += " ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"
	}
	if err := s.exec(fmt.Sprintf("CREATE DATABASE %s %s", name, how)); err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}

func (s *target) exec(sql string) error {
	_, err := runPsql(s.psql, cmp.Or(s.admin, s.url("")), sql)
	return err
}

func runPsql(program, dsn, sql string) (string, error) {
	// -X: no ~/.psqlrc. The statements come through standard input, so that
	// each is one of its own: CREATE DATABASE refuses to share a transaction.
	cmd := exec.Command(program, "-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-d", dsn)
	cmd.Stdin = strings.NewReader(sql)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("psql: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSuffix(stdout.String(), "\n"), nil
}
