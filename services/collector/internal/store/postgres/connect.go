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
	// writeTimeout is what a lease of 15 s that is trusted for 10 s leaves.
	writeTimeout = 5 * time.Second
	maxWriters   = 4
	// followEvery is how soon a changed connection string is noticed, retryAfter
	// how soon one that did not work is tried again for a connection that is
	// needed now.
	followEvery = 5 * time.Second
	retryAfter  = time.Second
)

type access int

const (
	reading access = iota
	writing
)

const stalled = "idle_in_transaction_session_timeout"

// session are the settings of our connections, unless a pooler shares its
// sessions among clients: there they would be somebody else's next.
var session = map[access]map[string]string{
	writing: {
		"statement_timeout": "4s",
		"lock_timeout":      "3s",
		stalled:             "4s",
	},
	reading: {
		"default_transaction_read_only": "on",
		// Coverage of a year at start-up is the longest thing that is read.
		"statement_timeout": "5min",
		// A snapshot whose reader has stalled keeps old rows and partitions alive.
		stalled: "1min",
	},
}

// errDSN says nothing of what is wrong: pgx's own text repeats the string, and
// in a malformed one nobody can tell which part is the password.
var errDSN = errors.New("the Postgres connection string cannot be read: it must be a postgres:// URL or key=value settings, " +
	"as for psql, whose certificate and password files exist (it is not shown here, since it may hold a password)")

// CheckDSN reports whether a connection string can be read at all. The error
// does not show it.
func CheckDSN(dsn string) error {
	_, err := parse(dsn)
	return err
}

// firstKey is what key=value settings begin with.
var firstKey = regexp.MustCompile(`^\s*[a-z_]+\s*=`)

// parse reads a connection string. pgx takes whatever is no URL for key=value
// settings, and a URL in quotes for one setting with a strange name: it would
// connect to the default host and complain about that.
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

// dial makes one connection for migrations and grants, which works through a
// pooler too.
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

// prepare sets what every connection of ours needs.
func prepare(c *pgx.ConnConfig, pooled bool, session map[string]string) {
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, connectTimeout)
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "weir-collector"
	}
	// What is sent are Go's strings. Without it a database takes them for its own
	// encoding, and would keep what nobody sent. Poolers let it pass.
	c.RuntimeParams["client_encoding"] = "UTF8"
	if pooled {
		c.DefaultQueryExecMode = pgx.QueryExecModeExec
		c.StatementCacheCapacity, c.DescriptionCacheCapacity = 0, 0
	} else if len(session) > 0 {
		// Not as start-up parameters, which a pooler refuses unless it was told of
		// each. One in session mode resets what is set before another client comes.
		c.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error { return begin(ctx, conn, session) }
	}
	// After a failover the old primary may come back as a replica behind the
	// same name. Everything here is about the primary's head.
	if c.ValidateConnect == nil {
		c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	}
	if pooled {
		// A context that ends closes the connection, and the pooler drops the
		// server's. No cancel requests: PgBouncer 1.18 dies of one whose sender
		// hangs up (FATAL: bad client state), and it serves others too.
		return
	}
	c.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler { return &watcher{conn: conn} }
}

// proxied is what a connection's custom data has once it is known that a pooler is
// in between.
const proxied = "proxied"

// begin gives a new connection its settings, in one message, and notes whether
// there is a pooler: the process that serves is then another than the one that
// the connection was told of.
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

// watcher acts when a context ends: it tells the server, and waits a little for its
// answer, since closing the connection alone would let the statement go on. Through
// a pooler it only closes; statement_timeout ends what goes on.
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
// connections one session. What one sets would be the other's, and that of
// whoever else uses the pooler.
var ErrTransactionPooler = errors.New("a pooler in transaction mode is in between, which hands one session to several connections")

// checkPooler returns ErrTransactionPooler if two connections that are open at
// once are seen in one session. Under other load of the pooler it may miss that.
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
				return failed(ctx, "look for a pooler", false, err)
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

// Misconfigured reports whether an error of connecting is one that waiting does
// not mend, as far as anybody can tell: a credential or a database that the server
// does not know, a certificate that is not trusted, a pooler that does not fit.
func Misconfigured(err error) bool {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		if e.Code == protocolViolation { // all that PgBouncer says has it, or had
			return slices.ContainsFunc([]string{"unsupported startup parameter", "no such database", "no such user", "does not exist", "authentication failed"},
				func(s string) bool { return strings.Contains(e.Message, s) })
		}
		return strings.HasPrefix(e.Code, "28") || strings.HasPrefix(e.Code, "3D")
	}
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	return untrusted || refusesTLS(err) || errors.Is(err, ErrTransactionPooler) || errors.Is(err, errDSN)
}

// refusesTLS reports whether the server does not speak TLS, and nothing else is
// allowed.
func refusesTLS(err error) bool {
	e, ok := errors.AsType[*pgconn.ConnectError](err)
	if !ok || e.Config == nil || e.Config.TLSConfig == nil {
		return false
	}
	plain := slices.ContainsFunc(e.Config.Fallbacks, func(f *pgconn.FallbackConfig) bool { return f.TLSConfig == nil })
	return !plain && strings.Contains(err.Error(), "server refused TLS connection")
}
