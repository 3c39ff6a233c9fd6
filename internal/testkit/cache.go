package testkit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Cache returns the folder for programs that tests build once per machine:
// $WEIR_TOOLS_DIR, by default the folder weir in the user's cache folder. It
// exists. What is kept there has a name that changes with everything that goes
// into it.
func Cache() (string, error) {
	dir := os.Getenv("WEIR_TOOLS_DIR")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find a place for built tools (WEIR_TOOLS_DIR names one): %w", err)
		}
		dir = filepath.Join(cache, "weir")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make a place for built tools: %w", err)
	}
	return dir, nil
}

// Lock takes an exclusive lock on a file, so that of several processes one
// builds and the others wait. It ends with the process at the latest.
func Lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock the tools: %w", err)
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EINTR) {
			return nil, &fs.PathError{Op: "lock", Path: path, Err: errors.Join(err, f.Close())}
		}
	}
}
