package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// SQLSTATE codes that mean something of their own here.
const (
	uniqueViolation   = "23505"
	checkViolation    = "23514" // also: no partition for the row
	readOnly          = "25006"
	duplicateTable    = "42P07"
	duplicateObject   = "42710"
	undefinedTable    = "42P01"
	undefinedColumn   = "42703"
	undefinedFunction = "42883"
	invalidSchemaName = "3F000"
	diskFull          = "53100"
	notInRepertoire   = "22021"
	untranslatable    = "22P05"
	notSupported      = "0A000"
	notNullViolation  = "23502"
	raised            = "P0001" // by a trigger of the operator's
	dataCorrupted     = "XX001"
	indexCorrupted    = "XX002"
	lockNotAvailable  = "55P03"
	idleInTransaction = "25P03"
	undefinedObject   = "42704"
	lacksRight        = "42501"
	protocolViolation = "08P01"
)

// failed converts an error to one of package store and adds what was being done. Errors
// of package store are kept.
func (s *Store) failed(ctx context.Context, what string, write bool, err error) error {
	if state(err) == readOnly {
		// The server was demoted. New connections look for the primary.
		s.writer.Reset()
		s.reader.Reset()
	}
	return failed(ctx, what, write, err)
}

func failed(ctx context.Context, what string, write bool, err error) error {
	if err == nil {
		return nil
	}
	for _, known := range []error{
		store.ErrDeposed, store.ErrConflict, store.ErrDuplicate, store.ErrLate, store.ErrHeld, store.ErrCompacted,
		store.ErrBeyondHead, store.ErrCorrupt, store.ErrUnavailable, store.ErrSchema, store.ErrDenied,
		store.ErrInvalid, store.ErrEncoding,
	} {
		if errors.Is(err, known) {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	if ctx.Err() != nil {
		// The server's error would be "canceling statement due to user request".
		if write {
			return fmt.Errorf("%s: %w: %w", what, store.ErrUnavailable, context.Cause(ctx))
		}
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	if kind := classify(err); errors.Is(kind, store.ErrDenied) {
		return fmt.Errorf("%s: %w: %w; run collector migrate --grant-writer=ROLE as the owner of the tables", what, kind, err)
	} else if kind != nil {
		return fmt.Errorf("%s: %w: %w", what, kind, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// classify returns the error of package store for err, nil if there is none.
func classify(err error) error {
	if _, ok := errors.AsType[pgx.ScanArgError](err); ok {
		return nil // a bug, so a retry does not help
	}
	if _, ok := errors.AsType[badGrant](err); ok {
		return nil
	}
	if _, ok := errors.AsType[*pgconn.PgError](err); !ok {
		// Not an error of the server: it is unreachable, or the connection broke.
		return store.ErrUnavailable
	}
	code := state(err)
	switch code {
	case undefinedTable, undefinedColumn, undefinedFunction, invalidSchemaName:
		return store.ErrSchema
	case lacksRight:
		return store.ErrDenied
	case dataCorrupted, indexCorrupted:
		return store.ErrCorrupt
	case diskFull:
		return store.ErrNoSpace
	case readOnly:
		return store.ErrReadOnly
	case notInRepertoire, untranslatable:
		return store.ErrEncoding
	case notSupported:
		// Our statements use only supported features, except for a conversion from or
		// to SQL_ASCII. A cached plan that a migration made stale is transient.
		if e, _ := errors.AsType[*pgconn.PgError](err); e.Routine == "RevalidateCachedQuery" {
			return store.ErrUnavailable
		}
		return store.ErrEncoding
	case checkViolation, notNullViolation, raised:
		return store.ErrInvalid
	case idleInTransaction, lockNotAvailable:
		return store.ErrUnavailable
	}
	if full(err) {
		return store.ErrNoSpace
	}
	if code == "" {
		return nil
	}
	switch code[:2] {
	case
		"22", // a value that its type does not have
		"54": // a value or a row that is too large
		return store.ErrInvalid
	case
		"08", // connection
		"28", // credentials, which may be in rotation
		"3D", // no such database, which may be being restored
		"40", // serialization failure, deadlock
		"53", // out of memory or connections
		"57", // shut down, cancelled, starting up
		"58": // I/O
		return store.ErrUnavailable
	}
	return nil
}

// full reports whether the operating system rejected a write for lack of space.
// Postgres has a code of its own for a full disk and none for a quota, whose
// errors come with the system's words.
func full(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (strings.Contains(e.Message, "No space left on device") || strings.Contains(e.Message, "uota exceeded"))
}

// state is the SQLSTATE of err, or empty.
func state(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && len(e.Code) == 5 {
		return e.Code
	}
	return ""
}

// exists reports whether a table could not be created because it exists. If two processes
// create it at the same time, the error of the second is about the table's name, its
// type's name, or the catalogue entry of either.
func exists(err error) bool {
	code := state(err)
	return code == duplicateTable || code == duplicateObject || code == uniqueViolation
}

// duplicate reports whether a bucket's key already exists. Only the key: a duplicate
// revision would be a corrupt log, and must not look harmless.
func duplicate(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.Code == uniqueViolation && strings.HasPrefix(e.TableName, "bucket")
}
