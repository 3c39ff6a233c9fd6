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

// foreign wraps an error that must not be classified: one that emit returned.
type foreign struct{ error }

// failed converts an error to one of package store and adds what was being done.
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
	// SQLite's error would be "interrupted".
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

// invalid reports whether a value violates a constraint of its column. A duplicate
// revision is no such error: it would be a corrupt log.
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

// unavailable classifies an error of the operating system.
func unavailable(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return store.ErrNoSpace
	case errors.Is(err, syscall.EROFS):
		return store.ErrReadOnly
	}
	return store.ErrUnavailable
}

// duplicate reports whether a bucket's key already exists. Only the key: a duplicate
// revision would be a corrupt log, and must not look harmless.
func duplicate(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && e.Code() == codes.SQLITE_CONSTRAINT_UNIQUE
}
