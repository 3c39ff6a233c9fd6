package postgres_test

import (
	"net/url"
	"os"
	"testing"

	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/store/postgres"
)

// Roles of a secured server, whose passwords are their names.
const (
	owner  = "weir_owner"
	writer = "weir_writer"
	reader = "weir_reader"
)

// secured is a server as a platform team runs it: TLS alone, passwords for
// everybody, and a role for each purpose.
type secured struct {
	*pgtest.Server
	ca       *testkit.CA
	template string // a migrated database, with rights granted
	trust    string // file of the certificate authority
}

// secure makes the server one that asks for TLS and passwords.
func secure(t *testing.T, server *pgtest.Server) *secured {
	t.Helper()
	s := &secured{Server: server, ca: testkit.NewCA(t, "Postgres's authority"), trust: t.TempDir() + "/ca.pem"}
	testkit.WriteFile(t, s.trust, s.ca.PEM)
	s.template = server.DSN()
	admin := server.Local(s.template)
	for _, role := range []string{owner, writer, reader} {
		pgtest.Exec(t, admin, "CREATE ROLE "+role+" LOGIN PASSWORD '"+role+"'")
	}
	pgtest.Exec(t, admin, "GRANT CREATE ON SCHEMA public TO "+owner)
	s.tls(t, s.ca.Server(t, "127.0.0.1"))
	server.Authenticate("hostssl all all 127.0.0.1/32 scram-sha-256")
	migrate(t, s.as(s.template, owner))
	grant(t, s.as(s.template, owner), postgres.Grants{Writers: []string{writer}, Readers: []string{reader}})
	return s
}

// tls gives the server a certificate.
func (s *secured) tls(t *testing.T, cert testkit.Cert) {
	t.Helper()
	certFile, keyFile := cert.Write(t, t.TempDir(), "server")
	for setting, file := range map[string]string{"ssl_cert_file": certFile, "ssl_key_file": keyFile} {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		path := s.WriteFile(setting, content)
		pgtest.Exec(t, s.Local(s.template), "ALTER SYSTEM SET "+setting+" = '"+path+"'")
	}
	pgtest.Exec(t, s.Local(s.template), "ALTER SYSTEM SET ssl = on")
	pgtest.Exec(t, s.Local(s.template), "SELECT pg_reload_conf()")
}

// as is the address of a database for a role, with its password and all of TLS.
func (s *secured) as(dsn, role string) string {
	return s.with(dsn, url.UserPassword(role, role), url.Values{"sslmode": {"verify-full"}, "sslrootcert": {s.trust}})
}

func (s *secured) with(dsn string, user *url.Userinfo, query url.Values) string {
	u, err := url.Parse(dsn)
	if err != nil {
		panic(err) // it is one of pgtest's
	}
	u.User, u.RawQuery = user, query.Encode()
	return u.String()
}
