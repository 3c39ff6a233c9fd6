package sqlite

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// lockAt is the byte that is locked: past any that SQLite locks (it uses some after
// the first GiB) or a database can have.
const lockAt = 1 << 62

// lockInode takes a lock on the file itself. It belongs to the open file, not to the
// process: closing another descriptor of the file, as SQLite does, does not drop it.
func lockInode(f *os.File) error {
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: lockAt, Len: 1})
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
		return otherName("another process")
	case err != nil:
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return nil
}

// unlockInode releases the lock of [lockInode].
func unlockInode(f *os.File) error {
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK, Whence: io.SeekStart, Start: lockAt, Len: 1})
}
