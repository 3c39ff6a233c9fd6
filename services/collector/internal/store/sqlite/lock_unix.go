//go:build unix

package sqlite

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// lock says whose the database is. Two are held: one by name, on a file beside it
// that tells who is refused by which process, and one by inode, on the database
// file itself, since links and mounts give one file several names.
type lock struct {
	beside, file *os.File
	info         os.FileInfo // of file
}

// held are the database files that this process has open. Closing any descriptor of
// a file drops the process's POSIX locks on it, which are SQLite's: so a second
// descriptor must not be made in order to find out that there is a first.
var held struct {
	sync.Mutex
	files []os.FileInfo
}

// lockFile takes the locks of a database file, which must exist, or is made with
// create, for its owner only: SQLite gives its -wal and -shm files the same mode.
// ErrInUse when somebody has one of them, under whatever name.
func lockFile(path string, create bool) (_ *lock, err error) {
	l := &lock{}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if l.beside, err = lockBeside(path + ".lock"); err != nil {
		return nil, err
	}
	held.Lock()
	defer held.Unlock()
	if info, err := os.Stat(path); err == nil && slices.ContainsFunc(held.files, func(h os.FileInfo) bool { return os.SameFile(h, info) }) {
		return nil, otherName(fmt.Sprintf("process %d", os.Getpid()))
	}
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
	}
	if l.file, err = os.OpenFile(path, flags, 0o600); err != nil {
		return nil, err
	}
	if err := lockInode(l.file); err != nil {
		return nil, err
	}
	info, err := l.file.Stat()
	if err != nil {
		return nil, err
	}
	l.info = info
	held.files = append(held.files, info)
	return l, nil
}

// Close gives the locks back. SQLite must have closed the file.
func (l *lock) Close() error {
	var errs []error
	if l.file != nil {
		errs = append(errs, l.file.Close())
	}
	if l.info != nil {
		held.Lock()
		held.files = slices.DeleteFunc(held.files, func(h os.FileInfo) bool { return h == l.info })
		held.Unlock()
	}
	if l.beside != nil {
		errs = append(errs, l.beside.Close())
	}
	return errors.Join(errs...)
}

// otherName is the refusal of a file that somebody has open by another name.
func otherName(who string) error {
	return fmt.Errorf("%w by %s under another name (a link or a bind mount); one SQLite file serves one process, and is opened by one name: stop the other, or use Postgres",
		ErrInUse, who)
}

// lockBeside takes the lock by name, and writes our process id into it for whoever
// is refused.
func lockBeside(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		who, _ := io.ReadAll(io.LimitReader(f, 32))
		return nil, fmt.Errorf("%w by process %s; one SQLite file serves one process: stop the other, or use Postgres",
			ErrInUse, strings.TrimSpace(string(who)))
	}
	err = errors.Join(f.Truncate(0), writePID(f))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", path, err), f.Close())
	}
	return f, nil
}

func writePID(f *os.File) error {
	_, err := f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	return err
}
