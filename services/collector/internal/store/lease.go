package store

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

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
	return nil
}
