package postgres

import (
	"cmp"
	"context"
	"errors"
	"regexp"
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

// session are the settings of our connections, where there is no pooler.
var session = map[access]map[string]string{
	writing: {
		"statement_timeout":                   "4s",
		"lock_timeout":                        "3s",
		"idle_in_transaction_session_timeout": "4s",
	},
	reading: {
		"default_transaction_read_only": "on",
		// Coverage of a year at start-up is the longest thing that is read.
		"statement_timeout": "5min",
		// A snapshot whose reader has stalled keeps old rows and partitions alive.
		"idle_in_transaction_session_timeout": "1min",
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
	} else {
		for name, value := range session {
			c.RuntimeParams[name] = value
		}
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
	// When a context ends, tell the server, and wait a little for its answer:
	// closing the connection alone would let the statement go on.
	c.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: time.Second}
	}
}
