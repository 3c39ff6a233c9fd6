package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// right is one kind of access to one table or function; an UPDATE only of some
// columns.
type right struct {
	privilege string
	columns   []string
	object    string // "log", "add_month(bigint)"
}

func (r right) function() bool { return strings.HasSuffix(r.object, ")") }

// String is the right as GRANT spells it: "UPDATE (head, chain) ON TABLE log".
func (r right) String() string {
	privilege, kind := r.privilege, "TABLE"
	if len(r.columns) > 0 {
		privilege += " (" + strings.Join(r.columns, ", ") + ")"
	}
	if r.function() {
		kind = "FUNCTION"
	}
	return privilege + " ON " + kind + " " + r.object
}

// held is an expression that is true where the session's role has the right.
func (r right) held() string {
	if r.function() {
		return fmt.Sprintf(`has_function_privilege('%s', '%s')`, r.object, r.privilege)
	}
	if len(r.columns) == 0 {
		return fmt.Sprintf(`has_table_privilege('%s', '%s')`, r.object, r.privilege)
	}
	each := make([]string, len(r.columns))
	for i, c := range r.columns {
		each[i] = fmt.Sprintf(`has_column_privilege('%s', '%s', '%s')`, r.object, c, r.privilege)
	}
	return strings.Join(each, " AND ")
}

// writerRights are all that a collector's role needs. It can add to the log and
// drop its oldest months, and change or delete nothing else that is final; the
// floor moves with the months alone.
var writerRights = []right{
	{privilege: "SELECT", object: "schema"},
	{privilege: "SELECT", object: "log"},
	{privilege: "INSERT", object: "log"}, // of a new store
	{privilege: "UPDATE", object: "log", columns: []string{
		"head", "chain", "committed_at", "progress_at", "term", "holder", "expires_at", "sample_timestamp",
	}},
	{privilege: "SELECT", object: "bucket"},
	{privilege: "INSERT", object: "bucket"},
	{privilege: "SELECT", object: "event"},
	{privilege: "INSERT", object: "event"},
	{privilege: "SELECT", object: "record"},
	{privilege: "INSERT", object: "record"},
	{privilege: "UPDATE", object: "record", columns: []string{"value", "updated_at"}},
	{privilege: "DELETE", object: "record"},
	{privilege: "SELECT", object: "permit"},
	{privilege: "INSERT", object: "permit"},
	{privilege: "UPDATE", object: "permit", columns: []string{"number", "blocks"}},
	{privilege: "EXECUTE", object: "add_month(bigint)"},
	{privilege: "EXECUTE", object: "drop_month(bigint, bigint, timestamptz)"},
	{privilege: "EXECUTE", object: "drop_restatements(bigint, bigint)"},
	{privilege: "EXECUTE", object: "forget_dropped(bigint, timestamptz)"},
}

// readerRights are for people and dashboards: everything, to look at.
var readerRights = func() (all []right) {
	for _, object := range []string{
		"schema", "log", "bucket", "event", "record", "permit",
		"bucket_view", "event_view", "coverage_view", "lease_view", "permit_view",
	} {
		all = append(all, right{privilege: "SELECT", object: object})
	}
	return all
}()

// Grants name the roles that are given rights on a store.
type Grants struct {
	Writers []string // what a collector needs
	Readers []string // SELECT on tables and views
}

// badGrant is an error in what was asked for, not of the database.
type badGrant string

func (e badGrant) Error() string { return string(e) }

// Grant gives roles, which exist, exactly the rights that this release's schema
// has for them, and takes away others that they have on Weir's tables; all or
// nothing, and unnoticed by collectors that are running. It is repeated after
// each migration. The role of dsn must own the tables.
func Grant(ctx context.Context, dsn string, g Grants) error {
	const what = "grant rights on the Postgres store"
	conn, err := dial(ctx, dsn)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	found, err := readSchema(ctx, conn)
	if err == nil {
		err = found.Check(schemaVersion)
	}
	if err != nil {
		return failed(ctx, what, true, err)
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, role := range g.Writers {
			if slices.Contains(g.Readers, role) {
				return badGrant(fmt.Sprintf("role %q is given as writer and as reader; give it as writer only, since a writer may also read", role))
			}
			if err := grant(ctx, tx, role, writerRights); err != nil {
				return err
			}
		}
		for _, role := range g.Readers {
			if err := grant(ctx, tx, role, readerRights); err != nil {
				return err
			}
		}
		return nil
	})
	return failed(ctx, what, true, err)
}

func grant(ctx context.Context, tx pgx.Tx, role string, rights []right) error {
	var schema, owner string
	var owns, ours, usable bool
	err := tx.QueryRow(ctx, `SELECT n.nspname, o.rolname, o.rolname = $1, pg_has_role(o.oid, 'USAGE'), has_schema_privilege($1, n.oid, 'USAGE')
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles o ON o.oid = c.relowner
		WHERE c.oid = 'log'::regclass`, role).Scan(&schema, &owner, &owns, &ours, &usable)
	name := pgx.Identifier{role}.Sanitize()
	switch {
	case state(err) == undefinedObject:
		return badGrant(fmt.Sprintf("role %q does not exist: create it first: CREATE ROLE %s LOGIN PASSWORD '…'", role, name))
	case err != nil:
		return err
	case !ours: // GRANT would warn, and do nothing
		return fmt.Errorf("%w: only role %q, which owns the tables, may grant rights on them", store.ErrDenied, owner)
	case owns:
		return badGrant(fmt.Sprintf("role %q owns the tables and has every right; run the collector as another role", role))
	}
	var statements []string
	if !usable {
		statements = append(statements, "GRANT USAGE ON SCHEMA "+pgx.Identifier{schema}.Sanitize()+" TO "+name)
	}
	// Whatever it had before, also from an earlier release; columns included.
	for _, r := range slices.Concat(readerRights, writerRights) {
		all := right{privilege: "ALL", object: r.object}
		statements = append(statements, "REVOKE "+all.String()+" FROM "+name)
	}
	for _, r := range rights {
		statements = append(statements, "GRANT "+r.String()+" TO "+name)
	}
	_, err = tx.Exec(ctx, strings.Join(statements, ";\n"))
	return err
}

// CheckRights returns ErrDenied, with every right that is missing and the
// command that grants them, unless the store's role may do all that a collector
// does. It finds that out at the start; what is revoked later ends in ErrDenied
// of the method that needs it.
func (s *Store) CheckRights(ctx context.Context) error {
	var role, missing string
	err := s.writer.QueryRow(ctx, `SELECT current_user, coalesce(string_agg(needed, ', ') FILTER (WHERE NOT held), '')
		FROM (VALUES `+rightsAsked()+`) AS r (needed, held)`).Scan(&role, &missing)
	if err != nil {
		return s.failed(ctx, "check the database role's rights", false, err)
	}
	if missing != "" {
		return lacks(role, missing)
	}
	return nil
}

func lacks(role, missing string) error {
	return fmt.Errorf("%w: role %q lacks %s; run as the owner of the tables: collector migrate --grant-writer=%s", store.ErrDenied, role, missing, role)
}

// hidden returns ErrDenied where there are tables that the role cannot see:
// without USAGE on their schema they look as if they did not exist.
func hidden(ctx context.Context, db rower) error {
	var schema, role string
	err := db.QueryRow(ctx, `SELECT n.nspname, current_user FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relname = 'schema' AND c.relkind = 'r' AND NOT has_schema_privilege(n.oid, 'USAGE')
			AND n.nspname = ANY (string_to_array(replace(current_setting('search_path'), ' ', ''), ',')) LIMIT 1`).Scan(&schema, &role)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return lacks(role, "USAGE ON SCHEMA "+schema)
}
