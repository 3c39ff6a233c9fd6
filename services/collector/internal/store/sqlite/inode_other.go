//go:build unix && !linux

package sqlite

import "os"

// lockInode does nothing: flock would meet SQLite's own locks here, and locks of
// open files are Linux's. The lock by name is what there is.
func lockInode(*os.File) error { return nil }

func unlockInode(*os.File) error { return nil }
