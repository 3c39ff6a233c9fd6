package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// ErrInUse: another process, or another Store of this one, has the file open.
var ErrInUse = errors.New("the database file is in use")

// foreign carries an error that is not ours to classify: what emit returned.
type foreign struct{ error }

// failed turns whatever went wrong into an error of package store and says what
// was being done.
func failed(ctx context.Context, what string, write bool, err error) error {
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[foreign](err); ok {
		return f.error
	}
	switch code(err) {
	case codes.SQLITE_CORRUPT, codes.SQLITE_NOTADB:
		return fmt.Errorf("%s: %w: %w", what, store.ErrCorrupt, err)
	case codes.SQLITE_FULL:
		return fmt.Errorf("%s: %w: %w", what, store.ErrNoSpace, err)
	case codes.SQLITE_READONLY:
		return fmt.Errorf("%s: %w: %w", what, store.ErrReadOnly, err)
	case codes.SQLITE_BUSY, codes.SQLITE_LOCKED, codes.SQLITE_IOERR, codes.SQLITE_CANTOPEN,
		codes.SQLITE_NOMEM, codes.SQLITE_PERM, codes.SQLITE_PROTOCOL:
		return fmt.Errorf("%s: %w: %w", what, unavailable(err), err)
	case codes.SQLITE_TOOBIG, codes.SQLITE_MISMATCH:
		return fmt.Errorf("%s: %w: %w", what, store.ErrInvalid, err)
	case codes.SQLITE_CONSTRAINT:
		if invalid(err) {
			return fmt.Errorf("%s: %w: %w", what, store.ErrInvalid, err)
		}
	case codes.SQLITE_ERROR:
		// SQLite has no code of its own for it.
		if text := err.Error(); strings.Contains(text, "no such table") || strings.Contains(text, "no such column") || strings.Contains(text, "has no column named") {
			return fmt.Errorf("%s: %w: %w", what, store.ErrSchema, err)
		}
	}
	if ctx.Err() == nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	// SQLite's word for it would be "interrupted".
	if write {
		return fmt.Errorf("%s: %w: %w", what, store.ErrUnavailable, context.Cause(ctx))
	}
	return fmt.Errorf("%s: %w", what, context.Cause(ctx))
}

// code is SQLite's primary result code of err, or 0.
func code(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code() & 0xff
	}
	return 0
}

// invalid reports whether err says that a value is not what its column takes. A
// revision that is taken is no such thing: it would be a broken log.
func invalid(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return false
	}
	switch e.Code() {
	case codes.SQLITE_CONSTRAINT_CHECK, codes.SQLITE_CONSTRAINT_NOTNULL, codes.SQLITE_CONSTRAINT_DATATYPE,
		codes.SQLITE_CONSTRAINT_TRIGGER: // of the operator's
		return true
	}
	return false
}

// unavailable says why the operating system failed SQLite, as far as it is known.
func unavailable(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return store.ErrNoSpace
	case errors.Is(err, syscall.EROFS):
		return store.ErrReadOnly
	}
	return store.ErrUnavailable
}

// duplicate reports whether err says that a bucket's key is taken. Only the key:
// a revision that is taken would be a broken log, and must not look harmless.
func duplicate(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && e.Code() == codes.SQLITE_CONSTRAINT_UNIQUE
}
