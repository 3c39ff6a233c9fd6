//go:build !unix

package sqlite

import (
	"errors"
	"fmt"
)

type lock struct{}

func (*lock) Close() error { return nil }

// lockFile refuses: without a lock that ends with its process, two collectors
// could open one file.
func lockFile(string, bool) (*lock, error) {
	return nil, fmt.Errorf("a store in a SQLite file needs flock, which this platform lacks; use Postgres: %w", errors.ErrUnsupported)
}
