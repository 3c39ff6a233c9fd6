package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// MaxLease is the longest lease. A stored lease that ends later, by the database's
// clock, is invalid: a living holder renews it for less, so the row was modified or the
// clock was set back. Acquire treats it as expired.
const MaxLease = 2 * time.Hour

// MaxTerm is the highest term that is incremented. Normal operation never reaches it: a
// higher term, or one below zero, was not written by Weir.
const MaxTerm Term = 1<<62 - 1

// NextTerm is the term after t. After an invalid one it is random, far from the terms of
// leaders that may still be running: small numbers could be theirs.
func NextTerm(t Term) Term {
	if t < MaxTerm {
		return t + 1
	}
	return FreshTerm()
}

// FreshTerm is a random term that very likely no leader has had.
func FreshTerm() Term { return 1<<40 + Term(rand.Uint64N(1<<60)) } //nolint:gosec // it is no secret

// HeldError is an ErrHeld with the holder of the lease.
type HeldError struct {
	Holder string
	Until  time.Time // by the database's clock
}

// Error implements error.
func (e *HeldError) Error() string {
	return fmt.Sprintf("%s: %s until %s", ErrHeld, e.Holder, e.Until.Format(time.RFC3339))
}

// Is makes it an ErrHeld.
func (e *HeldError) Is(target error) bool { return target == ErrHeld }

// instanceMark separates a process's name from its instance, which distinguishes it from
// other processes of the same name.
const instanceMark = "~"

// Holder is the identity of a process in the lease: its name, for people, and a unique
// instance. The current holder may acquire the lease again, so with the name alone two
// processes that were given the same name by mistake would depose each other for ever.
func Holder(name, instance string) string { return name + instanceMark + instance }

// HolderName is the name in an identity. Earlier releases used the name alone.
func HolderName(holder string) string {
	if i := strings.LastIndex(holder, instanceMark); i > 0 {
		return holder[:i]
	}
	return holder
}

// ValidLease validates the arguments of Acquire.
func ValidLease(holder string, ttl time.Duration) error {
	if holder == "" {
		return errors.New("acquire the lease: the holder is empty; it must be a name")
	}
	return ValidTTL(ttl)
}

// ValidTTL validates the length of a lease.
func ValidTTL(ttl time.Duration) error {
	if ttl < time.Millisecond {
		return fmt.Errorf("lease of %s: must be at least 1ms", ttl)
	}
	if ttl > MaxLease {
		return fmt.Errorf("lease of %s: must be at most %s", ttl, MaxLease)
	}
	return nil
}
