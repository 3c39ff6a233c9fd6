package store

import (
	"context"
	"errors"
)

// Mendable reports whether an error stays until an operator mends what is wrong
// with the database: waiting and asking again now and then is all that a
// process can do. Everything else passes by itself, or is about the question.
func Mendable(err error) bool {
	for _, kind := range []error{ErrNoSpace, ErrReadOnly, ErrReplaced, ErrDenied, ErrSchema, ErrCorrupt} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// OfContent reports whether an append failed for what is in the batch: the rest
// of the batch can be stored without it.
func OfContent(err error) bool { return errors.Is(err, ErrInvalid) || errors.Is(err, ErrEncoding) }

// reasons are looked for in this order: a kind before what it is a kind of.
var reasons = []struct {
	err          error
	word, remedy string
}{
	{ErrDeposed, "deposed", ""},
	{ErrConflict, "conflict", ""},
	{ErrDuplicate, "duplicate", ""},
	{ErrNoSpace, "no_space", "free space on the disk that the database writes to, make it larger, or raise the quota"},
	{ErrReadOnly, "read_only", "allow writes again: look for default_transaction_read_only of the database or its role, a replica behind the address, or a file or file system that is mounted read-only"},
	{ErrReplaced, "replaced", "put the database's file back where it was, or restart the collector, which then begins with what is there"},
	{ErrDenied, "denied", "give the database role its rights back: collector migrate --grant-writer=ROLE, as the tables' owner"},
	{ErrSchema, "schema", "restore the tables from a backup; collector migrate brings an older schema up to date, and does not make up for a table that was dropped"},
	{ErrCorrupt, "damaged", "look for damage in the database's own log, and restore a backup"},
	{ErrEncoding, "encoding", "move the data to a database with encoding UTF8"},
	{ErrInvalid, "invalid", "see the log for the value that cannot be stored"},
	{ErrUnavailable, "unavailable", "see whether the database runs, can be reached and has connections left, and why its statements take long"},
	{context.Canceled, "cancelled", ""},
}

// Other is the reason of an error that has none of its own.
const Other = "other"

// Reasons are all that [Reason] returns of appends, for metrics that are there at
// 0.
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

// Remedy is what an operator can do about it.
func Remedy(err error) string {
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			return r.remedy
		}
	}
	return "see the collector's and the database's log"
}
