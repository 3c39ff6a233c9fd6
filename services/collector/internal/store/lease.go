package store

import (
	"errors"
	"fmt"
	"time"
)

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
