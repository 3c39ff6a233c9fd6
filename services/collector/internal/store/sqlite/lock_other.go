//go:build !unix

package sqlite

import (
	"errors"
	"fmt"
	"os"
)

// lockFile refuses: without a lock that ends with its process, two collectors
// could open one file.
func lockFile(string) (*os.File, error) {
	return nil, fmt.Errorf("a store in a SQLite file needs flock, which this platform lacks; use Postgres: %w", errors.ErrUnsupported)
}
