package sqlite

import "golang.org/x/sys/unix"

// free is the space that an unprivileged process can use on a folder's volume; -1: not known.
func free(folder string) int64 {
	var s unix.Statfs_t
	if unix.Statfs(folder, &s) != nil {
		return -1
	}
	return int64(s.Bavail) * s.Bsize //nolint:gosec // no volume has 2^63 blocks
}
