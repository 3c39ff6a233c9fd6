package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// MaxLease bounds a lease. One that ends later, by the database's clock, is
// nobody's: whoever lives renews it to less, so the row was altered or the clock
// was set back. Acquire takes it as one that has expired.
const MaxLease = 2 * time.Hour

// MaxTerm bounds the terms that are counted on from. Raised every second, a term
// would not come to it in an age of the earth: one beyond it, or below zero, was
// written by somebody else.
const MaxTerm Term = 1<<62 - 1

// NextTerm is the term after t. After one that cannot be it is drawn at random, far
// from those of leaders that may live: the first terms would be theirs again.
func NextTerm(t Term) Term {
	if t < MaxTerm {
		return t + 1
	}
	return FreshTerm()
}

// FreshTerm is a term that no leader has had, for all that is likely.
func FreshTerm() Term { return 1<<40 + Term(rand.Uint64N(1<<60)) } //nolint:gosec // it is no secret

// HeldError is an ErrHeld that says who holds the lease.
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

// instanceMark parts a process's name from what tells it apart from other
// processes of the same name.
const instanceMark = "~"

// Holder is the identity that a process has in the lease: its name, for people,
// and an instance that no other process has. The lease may be taken again by the
// very holder that has it, so with the name alone two processes that were given
// one name by mistake would depose each other for ever.
func Holder(name, instance string) string { return name + instanceMark + instance }

// HolderName is the name in an identity. Earlier releases used the name alone.
func HolderName(holder string) string {
	if i := strings.LastIndex(holder, instanceMark); i > 0 {
		return holder[:i]
	}
	return holder
}

// ValidLease reports what is wrong with the arguments of Acquire, if anything.
func ValidLease(holder string, ttl time.Duration) error {
	if holder == "" {
		return errors.New("acquire the lease: the holder has no name")
	}
	return ValidTTL(ttl)
}

// ValidTTL reports what is wrong with the length of a lease, if anything.
func ValidTTL(ttl time.Duration) error {
	if ttl < time.Millisecond {
		return fmt.Errorf("lease of %s: it must last at least a millisecond", ttl)
	}
	if ttl > MaxLease {
		return fmt.Errorf("lease of %s: it may last %s at most", ttl, MaxLease)
	}
	return nil
}
