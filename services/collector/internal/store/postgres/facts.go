package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// Facts asks the database about itself, on one connection and read-only. It also works
// if the schema is missing or another release's; what depends on the tables is then
// left out.
func Facts(ctx context.Context, dsn string) (f store.Facts, err error) {
	conn, err := dial(ctx, dsn)
	if err != nil {
		return f, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		return f, failed(ctx, "inspect the database", false, err)
	}
	defer func() { // nothing was written
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
		defer cancel()
		_ = tx.Rollback(ctx)
	}()
	if err := facts(ctx, tx, &f); err != nil {
		return f, failed(ctx, "inspect the database", false, err)
	}
	return f, nil
}

func facts(ctx context.Context, db pgx.Tx, f *store.Facts) error {
	*f = store.Facts{Driver: "postgres", SchemaWant: schemaVersion, Free: -1, Settings: map[string]string{}}
	var fsync, commit, pages string
	var number int
	var tls *bool
	err := db.QueryRow(ctx, `SELECT current_setting('server_version'), current_setting('server_version_num')::int,
			current_setting('server_encoding'), current_setting('fsync'), current_setting('synchronous_commit'),
			current_setting('full_page_writes'), current_setting('synchronous_standby_names'), current_user,
			(SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
			(SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND inet_client_addr() IS NOT NULL),
			pg_database_size(current_database()), clock_timestamp()`).
		Scan(&f.Version, &number, &f.Encoding, &fsync, &commit, &pages, &f.SyncStandbyNames, &f.Role, &f.Superuser, &tls, &f.Size, &f.Now)
	if err != nil {
		return err
	}
	f.Major, f.TLS, f.Now = number/10000, tls, f.Now.UTC()
	f.Settings["fsync"], f.Settings["synchronous_commit"], f.Settings["full_page_writes"] = fsync, commit, pages
	if err := standbys(ctx, db, f); err != nil {
		return err
	}
	if f.Schema, err = readSchema(ctx, db); err != nil || f.Schema.Version == 0 || f.Schema.Check(schemaVersion) != nil {
		return err
	}
	if err := tableFacts(ctx, db, f); err != nil {
		return err
	}
	var missing string
	err = db.QueryRow(ctx, `SELECT coalesce(string_agg(needed, ', ') FILTER (WHERE NOT held), '')
		FROM (VALUES `+rightsAsked()+`) AS r (needed, held)`).Scan(&missing)
	f.MissingRights = missing
	return err
}

// standbys counts the connected standbys. Their state is visible to roles with
// pg_monitor and to superusers; for others the column is null.
func standbys(ctx context.Context, db pgx.Tx, f *store.Facts) error {
	rows, err := db.Query(ctx, `SELECT coalesce(sync_state, ''), count(*) FROM pg_stat_replication GROUP BY 1`)
	if err != nil {
		return err
	}
	found := map[string]int{}
	var state string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&state, &n}, func() error { found[state] = n; return nil })
	if _, hidden := found[""]; err != nil || hidden {
		return err
	}
	f.Standbys = found
	return nil
}

func tableFacts(ctx context.Context, db pgx.Tx, f *store.Facts) error {
	var head, term int64
	var expires, progress, oldest pgtype.Timestamptz
	err := db.QueryRow(ctx, `SELECT store_id, simulated, head, term, CASE WHEN expires_at > clock_timestamp() THEN holder ELSE '' END, expires_at, progress_at,
			(SELECT min(e) FROM (SELECT min(committed_at) FROM event WHERE revision = (SELECT min(revision) FROM event)
				UNION ALL (SELECT committed_at FROM bucket ORDER BY revision LIMIT 1)) AS o (e)),
			(SELECT pg_has_role(c.relowner, 'USAGE') FROM pg_class c WHERE c.oid = 'log'::regclass)
		FROM log`).
		Scan(&f.StoreID, &f.Simulated, &head, &term, &f.Holder, &expires, &progress, &oldest, &f.OwnsTables)
	if errors.Is(err, pgx.ErrNoRows) { // migrated, and no collector has begun
		return db.QueryRow(ctx, `SELECT pg_has_role(c.relowner, 'USAGE') FROM pg_class c WHERE c.oid = 'log'::regclass`).Scan(&f.OwnsTables)
	}
	if err != nil {
		return err
	}
	f.Head, f.Term, f.Holder = uint64(head), uint64(term), store.HolderName(f.Holder) //nolint:gosec // neither is below zero unless the row was modified
	f.ExpiresAt, f.Progress, f.OldestCommit = utc(expires), utc(progress), utc(oldest)
	// An exact count reads every index; the statistics are as good for a growth per month.
	if err := db.QueryRow(ctx, `SELECT coalesce(sum(greatest(c.reltuples, 0))::bigint, 0) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = 'bucket'::regclass`).Scan(&f.Buckets); err != nil {
		return err
	}
	// Revisions are gapless, so the buckets of a day are at most the difference of two.
	return db.QueryRow(ctx, `SELECT $1 - coalesce((SELECT max(revision) FROM bucket WHERE committed_at < $2 AND window_start > $3), $1)`,
		head, f.Now.Add(-24*time.Hour), f.Now.Add(-72*time.Hour).Unix()).Scan(&f.LastDay)
}

// rightsAsked are rows of VALUES: each right of a collector, and whether it is held.
func rightsAsked() string {
	of := make([]string, len(writerRights))
	for i, r := range writerRights {
		of[i] = fmt.Sprintf("('%s', %s)", r, r.held())
	}
	return strings.Join(of, ", ")
}
