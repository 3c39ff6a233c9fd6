package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/reload"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/store/postgres"
	"github.com/weir-metrics/weir/services/collector/internal/store/storetest"
)

// TestRotation changes the password, the role and the certificate authority
// under a writer and readers that never pause. Nothing that was acknowledged is
// lost or repeated, no process is started anew, and what was opened with the
// old secret is closed.
func TestRotation(t *testing.T) {
	t.Parallel()
	s := secure(t, pgtest.Start(t))
	dsn := s.Copy(s.template)
	admin := s.Local(dsn)
	query := url.Values{"sslmode": {"verify-full"}, "sslrootcert": {s.trust}}
	file := filepath.Join(t.TempDir(), "database-url")
	write := func(role, password string) {
		t.Helper()
		// As Kubernetes does: the file is another one from one moment to the next.
		testkit.WriteFile(t, file+".new", []byte(s.with(dsn, url.UserPassword(role, password), query)+"\n"))
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	write(writer, writer)
	secret, err := cli.ReadSecret(file)
	if err != nil {
		t.Fatal(err)
	}
	log, said := testkit.RecordingLogger(t)
	watch := reload.NewWatch(log, time.Now)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(watch)
	usable := func(want float64) {
		t.Helper()
		eventually(t, fmt.Sprintf("weir_secret_usable is %g", want), func() bool {
			families, err := registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == "weir_secret_usable" })
			return i >= 0 && families[i].GetMetric()[0].GetGauge().GetValue() == want
		})
	}
	opened, err := postgres.Open(t.Context(), postgres.Options{
		DSN: secret.Reveal(), Settings: storetest.Settings, Logger: log, Report: reload.Track(watch, "the file").Report,
		Reread: func() (string, error) {
			now, err := secret.Reread()
			return now.Reveal(), err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()

	lease := acquire(t, opened)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	appended := make(chan int, 1)
	wg.Go(func() {
		n, _ := writeUntil(ctx, t, opened, lease)
		appended <- n
	})
	for range 3 {
		wg.Go(func() { readUntil(ctx, t, opened) })
	}
	defer wg.Wait()
	defer stop()

	moves := func() {
		t.Helper()
		awaitHead(t, opened, awaitHead(t, opened, 0)+20)
	}
	// backends are the connections that were begun before a moment.
	now := func() string { return pgtest.Exec(t, admin, `SELECT clock_timestamp()`) }
	backends := func(condition string) string {
		return pgtest.Exec(t, admin, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND `+condition)
	}
	cut := func() {
		pgtest.Exec(t, admin, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	}
	moves()

	// The database first, then the file; everybody is thrown out in between.
	pgtest.Exec(t, admin, `ALTER ROLE `+writer+` PASSWORD 'second'`)
	cut()
	write(writer, "second")
	moves()

	// The file first: what is open goes on.
	write(writer, "third")
	moves()
	pgtest.Exec(t, admin, `ALTER ROLE `+writer+` PASSWORD 'third'`)
	before := now()
	eventually(t, "connections with the second password are closed", func() bool { return backends(`backend_start < '`+before+`'`) == "0" })
	moves()

	// Another role, so that the first can be dropped.
	pgtest.Exec(t, admin, `CREATE ROLE weir_writer_b LOGIN PASSWORD 'b'`)
	grant(t, s.as(dsn, owner), postgres.Grants{Writers: []string{"weir_writer_b"}})
	write("weir_writer_b", "b")
	eventually(t, "connections of the first role are closed", func() bool { return backends(`usename = '`+writer+`'`) == "0" })
	pgtest.Exec(t, admin, `DROP OWNED BY `+writer)
	moves()

	// A file that is being written, or leads to another store, changes nothing.
	testkit.WriteFile(t, file, []byte("postgres://127.0.0.1:1"))
	cut()
	moves()
	elsewhere := s.Copy(s.template)
	open(t, s.as(elsewhere, owner))
	testkit.WriteFile(t, file, []byte(s.with(elsewhere, url.UserPassword(owner, owner), query)))
	eventually(t, "another store is refused", func() bool { return said.Count("restart it to change the store") > 0 })
	usable(0)
	write("weir_writer_b", "b")
	usable(1)
	moves()

	// Another authority: the server has its certificate before the client knows it.
	ca := testkit.NewCA(t, "the next authority")
	testkit.WriteFile(t, s.trust, append(ca.PEM, s.ca.PEM...))
	s.tls(t, ca.Server(t, "127.0.0.1"))
	cut()
	moves()

	stop()
	wg.Wait()
	n := <-appended
	entries := wholeLog(t, opened)
	if len(entries) < n {
		t.Errorf("%d entries are left of %d that were acknowledged", len(entries), n)
	}
	for _, password := range []string{"second", "third", ":b@", writer + ":"} {
		if strings.Contains(said.String(), password) {
			t.Errorf("the log shows %q", password)
		}
	}
}

// TestPasswordFile changes the password in a file of its own, which the
// connection string names as libpq's passfile: the string stays as it is, and
// each new connection finds the password that the file then has.
func TestPasswordFile(t *testing.T) {
	t.Parallel()
	s := secure(t, pgtest.Start(t))
	admin := s.Local(s.template)
	file := filepath.Join(t.TempDir(), "pgpass")
	write := func(password string) {
		t.Helper()
		testkit.WriteFile(t, file, []byte("# for every host, port and database\n*:*:*:"+writer+":"+password+"\n"))
	}
	change := func(password string) {
		t.Helper()
		pgtest.Exec(t, admin, `ALTER ROLE `+writer+` PASSWORD '`+password+`'`)
	}
	cut := func() {
		t.Helper()
		pgtest.Exec(t, admin, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	}
	dsn := s.with(s.template, url.User(writer), url.Values{"sslmode": {"verify-full"}, "sslrootcert": {s.trust}, "passfile": {file}})
	log, said := testkit.RecordingLogger(t)
	o := postgres.Options{DSN: dsn, Settings: storetest.Settings, Logger: log, Reread: func() (string, error) { return dsn, nil }}

	write("not it")
	if refused, err := postgres.Open(t.Context(), o); err == nil || strings.Contains(err.Error(), "not it") {
		t.Errorf("open with another password in the file: %v", err)
		if refused != nil {
			refused.Close()
		}
	}
	write(writer)
	opened, err := postgres.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	lease := acquire(t, opened)
	at, n := lease.Head.Position, 0
	appends := func(when string) {
		t.Helper()
		eventually(t, "append "+when, func() bool {
			head, err := opened.Append(t.Context(), lease.Term, at, batch(n))
			if err != nil {
				if !errors.Is(err, store.ErrUnavailable) {
					t.Fatal(err)
				}
				return false
			}
			at, n = head, n+1
			return true
		})
	}
	appends("with the first password")

	// The database first: what is open goes on, and nobody new comes in.
	change("second")
	appends("on a connection that is open")
	cut()
	eventually(t, "the old password is refused", func() bool {
		_, err := opened.Append(t.Context(), lease.Term, at, batch(n))
		if err == nil {
			t.Fatal("a connection was made with a password that is no more")
		}
		return strings.Contains(err.Error(), "28P01")
	})
	write("second")
	appends("with the second password")

	// The file first.
	write("third")
	appends("on a connection that is open")
	change("third")
	cut()
	appends("with the third password")

	for _, password := range []string{"second", "third"} {
		if strings.Contains(said.String(), password) {
			t.Errorf("the log shows %q", password)
		}
	}
}

// readUntil reads the log again and again; whatever it gets is a prefix.
func readUntil(ctx context.Context, t *testing.T, s *postgres.Store) {
	var at bucket.Position
	for ctx.Err() == nil {
		entries, err := s.ReadLog(ctx, at.Revision, 50)
		if err != nil {
			continue // it comes again
		}
		for _, e := range entries {
			want := bucket.Position{Revision: at.Revision + 1, Chain: at.Chain.Next(e.Kind, e.CommittedAt, e.Payload)}
			if e.Position != want {
				t.Errorf("entry after revision %d is at %v, want %v", at.Revision, e.Position, want)
				return
			}
			at = e.Position
		}
		if len(entries) == 0 {
			select {
			case <-s.Wake():
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
}

// wholeLog is every entry, checked against its predecessor and against what
// writeUntil wrote.
func wholeLog(t *testing.T, s *postgres.Store) (log []store.Entry) {
	t.Helper()
	var at bucket.Position
	for {
		var entries []store.Entry
		eventually(t, "the log can be read", func() bool { // a connection may be of a server that was killed
			var err error
			if entries, err = s.ReadLog(t.Context(), at.Revision, 1000); err != nil && !errors.Is(err, store.ErrUnavailable) {
				t.Fatal(err)
			}
			return err == nil
		})
		if len(entries) == 0 {
			return log
		}
		for _, e := range entries {
			want := bucket.Position{Revision: at.Revision + 1, Chain: at.Chain.Next(e.Kind, e.CommittedAt, e.Payload)}
			if e.Position != want || string(e.Payload) != fmt.Sprintf("payload %d", len(log)) {
				t.Fatalf("entry %d is at %v with %s, want %v", len(log), e.Position, e.Payload, want)
			}
			at = e.Position
			log = append(log, e)
		}
	}
}
