package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/store/postgres"
	"github.com/weir-metrics/weir/services/collector/internal/store/storetest"
)

// TestTLS: sslmode is done as it is said, and what it forbids ends in an error
// that names the reason, not in plain text.
func TestTLS(t *testing.T) {
	t.Parallel()
	s := secure(t, pgtest.Start(t, "log_connections=on"))
	dsn := s.Copy(s.template)
	other := t.TempDir() + "/other.pem"
	testkit.WriteFile(t, other, testkit.NewCA(t, "somebody else's authority").PEM)
	none := t.TempDir() + "/none.pem"
	testkit.WriteFile(t, none, []byte("no certificate"))

	try := func(mode, ca, host string) (encrypted bool, err error) {
		t.Helper()
		query := url.Values{"sslmode": {mode}}
		if ca != "" {
			query.Set("sslrootcert", ca)
		}
		address := strings.Replace(s.with(dsn, url.UserPassword(writer, writer), query), "127.0.0.1", host, 1)
		opened, err := postgres.Open(t.Context(), postgres.Options{DSN: address, Settings: storetest.Settings, Logger: testkit.Logger(t)})
		if err != nil {
			return false, err
		}
		defer opened.Close()
		conn, err := pgx.Connect(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.WithoutCancel(t.Context()))
		if err := conn.QueryRow(t.Context(), `SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()`).Scan(&encrypted); err != nil {
			t.Fatal(err)
		}
		return encrypted, nil
	}
	refused := func(what string, err error, words ...string) {
		t.Helper()
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v; want that it is unavailable", what, err)
		}
		for _, w := range words {
			if !strings.Contains(fmt.Sprint(err), w) {
				t.Errorf("%s: %q does not say %q", what, err, w)
			}
		}
	}
	works := func(what string, encrypted bool, err error) {
		t.Helper()
		if err != nil || !encrypted {
			t.Errorf("%s: encrypted is %t, %v", what, encrypted, err)
		}
	}

	// The server's certificate is for 127.0.0.1, and it takes TLS alone.
	encrypted, err := try("require", "", "127.0.0.1")
	works("require", encrypted, err)
	encrypted, err = try("verify-ca", s.trust, "localhost")
	works("verify-ca", encrypted, err)
	encrypted, err = try("verify-full", s.trust, "127.0.0.1")
	works("verify-full", encrypted, err)
	_, err = try("disable", "", "127.0.0.1")
	refused("disable where the server wants TLS", err, "no encryption")
	_, err = try("verify-full", s.trust, "localhost")
	refused("another name than the certificate's", err, "certificate", "localhost")
	for _, mode := range []string{"require", "verify-ca", "verify-full"} { // require with a CA verifies, as libpq's does
		_, err = try(mode, other, "127.0.0.1")
		refused(mode+" with another authority", err, "unknown authority")
	}
	if _, err = try("verify-full", none, "127.0.0.1"); err == nil || strings.Contains(err.Error(), writer) {
		t.Errorf("a file without a certificate: %v", err)
	}

	// Now it takes plain text as well; and then nothing else.
	s.Authenticate("host all all 127.0.0.1/32 scram-sha-256")
	if encrypted, err := try("disable", "", "127.0.0.1"); err != nil || encrypted {
		t.Errorf("disable: encrypted is %t, %v", encrypted, err)
	}
	// A store that has been closed may still be ending a connection that the log will name.
	eventually(t, "all connections have ended", func() bool {
		return pgtest.Exec(t, s.Local(dsn), "SELECT count(*) FROM pg_stat_activity WHERE usename = '"+writer+"'") == "0"
	})
	before := strings.Count(s.Log(), "connection authorized: user="+writer)
	_, err = try("verify-full", other, "127.0.0.1")
	refused("verify-full with another authority, plain text allowed", err, "unknown authority")
	pgtest.Exec(t, s.Local(dsn), "ALTER SYSTEM SET ssl = off")
	pgtest.Exec(t, s.Local(dsn), "SELECT pg_reload_conf()")
	eventually(t, "TLS is switched off", func() bool { return pgtest.Exec(t, s.Local(dsn), "SHOW ssl") == "off" })
	for _, mode := range []string{"require", "verify-ca", "verify-full"} {
		_, err = try(mode, s.trust, "127.0.0.1")
		refused(mode+" where the server has no TLS", err, "TLS")
	}
	if after := strings.Count(s.Log(), "connection authorized: user="+writer); after != before {
		t.Errorf("%d connections were made that should not have been", after-before)
	}
}

// TestPlainTextIsWarnedOf: only for another machine.
func TestPlainTextIsWarnedOf(t *testing.T) {
	t.Parallel()
	ca := t.TempDir() + "/ca.pem"
	testkit.WriteFile(t, ca, testkit.NewCA(t, "an authority").PEM)
	for dsn, want := range map[string]bool{
		"postgres://weir@db.invalid/weir":                                       true, // libpq's default is prefer
		"postgres://weir@db.invalid/weir?sslmode=disable":                       true,
		"postgres://weir@127.0.0.1:1,db.invalid/weir?sslmode=disable":           true,
		"postgres://weir@db.invalid/weir?sslmode=require":                       false,
		"postgres://weir@db.invalid/weir?sslmode=verify-full&sslrootcert=" + ca: false,
		"postgres://weir@127.0.0.1:1/weir":                                      false,
		"host=/nowhere user=weir dbname=weir":                                   false,
		"postgres://weir@localhost:1/weir?sslmode=disable":                      false,
	} {
		if err := postgres.PlainText(dsn); (err != nil) != want {
			t.Errorf("%s: %v, want a warning: %t", dsn, err, want)
		}
	}
}
