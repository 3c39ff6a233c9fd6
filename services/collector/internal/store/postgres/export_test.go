package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// WriterRights are the rights of a collector's role, as GRANT spells them.
func WriterRights() []string {
	out := make([]string, len(writerRights))
	for i, r := range writerRights {
		out[i] = r.String()
	}
	return out
}

// SchemaVersion is the newest migration.
const SchemaVersion = schemaVersion

// Reading asks one value of one of the store's connections for reading.
func Reading(ctx context.Context, s *Store, sql string, into any) error {
	return s.reader.QueryRow(ctx, sql).Scan(into)
}

// SetStalled changes how long a snapshot's reader may stay away.
func SetStalled(to string) (restore func()) {
	was := session[reading][stalled]
	session[reading][stalled] = to
	return func() { session[reading][stalled] = was }
}

// PlainText returns what is warned of a connection string; nil: nothing.
func PlainText(dsn string) error {
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		return err
	}
	return checkTLS(c)
}
