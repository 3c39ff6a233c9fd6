package postgres

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	connectTimeout = 5 * time.Second
	// writeTimeout is the difference between the lease of 15 s and the 10 s for which
	// its holder trusts it.
	writeTimeout = 5 * time.Second
	maxWriters   = 4
	// followEvery is the interval of reloads of the connection string, retryAfter the
	// interval at which one that failed is tried again for a new connection.
	followEvery = 5 * time.Second
	retryAfter  = time.Second
)

type access int

const (
	reading access = iota
	writing
)

const stalled = "idle_in_transaction_session_timeout"

// session has the settings of our connections, unless a pooler shares its sessions among
// clients: another client would then get them.
var session = map[access]map[string]string{
	writing: {
		"statement_timeout": "4s",
		"lock_timeout":      "3s",
		stalled:             "4s",
	},
	reading: {
		"default_transaction_read_only": "on",
		// The longest read is the coverage of a year at start-up.
		"statement_timeout": "5min",
		// The snapshot of a stalled reader would keep old rows and partitions.
		stalled: "1min",
	},
}

// errDSN has no details: pgx's own error repeats the string, and in a malformed one the
// password cannot be located.
var errDSN = errors.New("invalid Postgres connection string: it must be a postgres:// URL or key=value settings, " +
	"as for psql, and the certificate and password files that it names must exist (it is not shown, since it may contain a password)")

// CheckDSN reports whether a connection string can be parsed. The error does not
// contain it.
func CheckDSN(dsn string) error {
	_, err := parse(dsn)
	return err
}

// firstKey matches the beginning of key=value settings.
var firstKey = regexp.MustCompile(`^\s*[a-z_]+\s*=`)

// parse parses a connection string. pgx parses everything that is not a URL as key=value
// settings, and a URL in quotes as one setting with a strange name: it would connect to
// the default host, and the error would be about that.
func parse(dsn string) (*pgxpool.Config, error) {
	isURL := strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://")
	if dsn != "" && !isURL && !firstKey.MatchString(dsn) {
		return nil, errDSN
	}
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, errDSN
	}
	return config, nil
}

// dial opens one connection for migrations and grants, which also works through a pooler.
func dial(ctx context.Context, dsn string) (*pgx.Conn, error) {
	config, err := parse(dsn)
	if err != nil {
		return nil, err
	}
	prepare(config.ConnConfig, true, nil)
	// Migrations are scripts: several statements in one message.
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return nil, failed(ctx, "connect", true, err)
	}
	return conn, nil
}

// prepare sets the options that all connections need.
func prepare(c *pgx.ConnConfig, pooled bool, session map[string]string) {
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, connectTimeout)
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "weir-collector"
	}
	// Go's strings are UTF-8. Without this, a database would read them in its own
	// encoding and store other text. Poolers allow it.
	c.RuntimeParams["client_encoding"] = "UTF8"
	if pooled {
		c.DefaultQueryExecMode = pgx.QueryExecModeExec
		c.StatementCacheCapacity, c.DescriptionCacheCapacity = 0, 0
	} else if len(session) > 0 {
		// Not as start-up parameters, which a pooler rejects unless each is configured.
		// A pooler in session mode resets the settings before it reuses the session.
		c.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error { return begin(ctx, conn, session) }
	}
	// After a failover the old primary may return as a replica under the same name.
	// All operations need the primary.
	if c.ValidateConnect == nil {
		c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	}
	if pooled {
		// When a context ends, the connection is closed, and the pooler closes its
		// connection to the server. No cancel requests: PgBouncer 1.18 crashes if the
		// sender of one disconnects (FATAL: bad client state), for all its clients.
		return
	}
	c.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler { return &watcher{conn: conn} }
}

// proxied is the key in a connection's custom data that says whether there is a pooler in
// between.
const proxied = "proxied"

// begin sets the session's settings, in one message, and detects a pooler: the backend's
// process id then differs from the one that the connection was given.
func begin(ctx context.Context, conn *pgconn.PgConn, session map[string]string) error {
	var sql strings.Builder
	for _, name := range slices.Sorted(maps.Keys(session)) {
		fmt.Fprintf(&sql, "SET %s = '%s'; ", name, session[name])
	}
	results, err := conn.Exec(ctx, sql.String()+`SELECT pg_backend_pid()`).ReadAll()
	if err != nil {
		return fmt.Errorf("set up the session: %w", err)
	}
	last := results[len(results)-1]
	conn.CustomData()[proxied] = string(last.Rows[0][0]) != strconv.FormatUint(uint64(conn.PID()), 10)
	return nil
}

// watcher handles the end of a context: it sends a cancel request and waits briefly for
// the response, since closing the connection does not end the statement. Through a pooler
// it only closes the connection; statement_timeout ends the statement.
type watcher struct {
	conn   *pgconn.PgConn
	chosen ctxwatch.Handler
}

// HandleCancel implements [ctxwatch.Handler].
func (w *watcher) HandleCancel(ctx context.Context) {
	if through, _ := w.conn.CustomData()[proxied].(bool); through {
		w.chosen = &pgconn.DeadlineContextWatcherHandler{Conn: w.conn.Conn()}
	} else {
		w.chosen = &pgconn.CancelRequestContextWatcherHandler{Conn: w.conn, DeadlineDelay: time.Second}
	}
	w.chosen.HandleCancel(ctx)
}

// HandleUnwatchAfterCancel implements [ctxwatch.Handler].
func (w *watcher) HandleUnwatchAfterCancel() { w.chosen.HandleUnwatchAfterCancel() }

// ErrTransactionPooler: without [Options.TransactionPooling], a pooler gave two
// connections the same session. They, and other clients of the pooler, would share session
// settings.
var ErrTransactionPooler = errors.New("the connection goes through a pooler in transaction mode, which shares one session between several connections")

// checkPooler returns ErrTransactionPooler if two open connections use the same session.
// It may miss that while other clients use the pooler.
func checkPooler(ctx context.Context, dsn string) error {
	seen := map[int64]int{}
	var conns [2]*pgx.Conn
	for range 2 {
		for i := range conns {
			if conns[i] == nil {
				conn, err := dial(ctx, dsn)
				if err != nil {
					return err
				}
				defer conn.Close(context.WithoutCancel(ctx))
				conns[i] = conn
			}
			var pid int64
			if err := conns[i].QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&pid); err != nil {
				return failed(ctx, "detect a pooler", false, err)
			}
			if pid == int64(conns[i].PgConn().PID()) {
				return nil
			}
			if other, known := seen[pid]; known && other != i {
				return ErrTransactionPooler
			}
			seen[pid] = i
		}
	}
	return nil
}

// Misconfigured reports whether a connection error is probably permanent: an unknown
// credential or database, an untrusted certificate, an unsuitable pooler.
func Misconfigured(err error) bool {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		if e.Code == protocolViolation { // the code of all errors of PgBouncer, at least in older releases
			return slices.ContainsFunc([]string{"unsupported startup parameter", "no such database", "no such user", "does not exist", "authentication failed"},
				func(s string) bool { return strings.Contains(e.Message, s) })
		}
		return strings.HasPrefix(e.Code, "28") || strings.HasPrefix(e.Code, "3D")
	}
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	return untrusted || refusesTLS(err) || errors.Is(err, ErrTransactionPooler) || errors.Is(err, errDSN)
}

// refusesTLS reports whether the server does not support TLS although the connection
// requires it.
func refusesTLS(err error) bool {
	e, ok := errors.AsType[*pgconn.ConnectError](err)
	if !ok || e.Config == nil || e.Config.TLSConfig == nil {
		return false
	}
	plain := slices.ContainsFunc(e.Config.Fallbacks, func(f *pgconn.FallbackConfig) bool { return f.TLSConfig == nil })
	return !plain && strings.Contains(err.Error(), "server refused TLS connection")
}
