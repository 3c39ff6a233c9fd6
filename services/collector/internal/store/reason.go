package store

import (
	"context"
	"errors"
)

// NeedsRepair reports whether an error lasts until an operator repairs the database: a
// process can only retry now and then. Other errors are transient, or concern the
// request.
func NeedsRepair(err error) bool {
	for _, kind := range []error{ErrNoSpace, ErrReadOnly, ErrReplaced, ErrDenied, ErrSchema, ErrCorrupt} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// ContentRejected reports whether an append failed because of a value in the batch: the rest of
// the batch can be stored without it.
func ContentRejected(err error) bool {
	return errors.Is(err, ErrInvalid) || errors.Is(err, ErrEncoding)
}

// reasons is searched in this order: a specific error before the one that it wraps.
var reasons = []struct {
	err          error
	word, remedy string
}{
	{ErrDeposed, "deposed", ""},
	{ErrConflict, "conflict", ""},
	{ErrDuplicate, "duplicate", ""},
	{ErrLate, "late", ""},
	{ErrNoSpace, "no_space", "free space on the disk of the database, enlarge the disk, or raise the quota"},
	{ErrReadOnly, "read_only", "allow writes again: check default_transaction_read_only of the database and its role, whether the address leads to a replica, and whether the file or file system is read-only"},
	{ErrReplaced, "replaced", "restore the database file to its path, or restart the collector, which then uses the file at that path"},
	{ErrDenied, "denied", "grant the database role its rights: run collector migrate --grant-writer=ROLE as the owner of the tables"},
	{ErrSchema, "schema", "run collector migrate if the schema is older; it does not recreate dropped tables: restore those from a backup"},
	{ErrCorrupt, "damaged", "check the database's own log for damage, and restore a backup"},
	{ErrEncoding, "encoding", "move the data to a database with encoding UTF8"},
	{ErrInvalid, "invalid", "see the collector's log for the value that cannot be stored"},
	{ErrUnavailable, "unavailable", "check that the database is running, reachable and has free connections, and whether its statements are slow"},
	{context.Canceled, "cancelled", ""},
}

// Other is the reason of any other error.
const Other = "other"

// Reasons returns all reasons of failed writes, for metrics that are exported with the
// value 0.
func Reasons() []string {
	out := []string{Other}
	for _, r := range reasons {
		out = append(out, r.word)
	}
	return out
}

// Reason is one word for why a write failed, for metrics and logs.
func Reason(err error) string {
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			return r.word
		}
	}
	return Other
}

// Remedy is what an operator can do about an error.
func Remedy(err error) string {
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			return r.remedy
		}
	}
	return "see the logs of the collector and of the database"
}
