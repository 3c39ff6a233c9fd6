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

// lock is the exclusive lock of a database. It consists of two: one by path, on a .lock
// file that names the holding process, and one by inode, on the database file itself,
// since links and mounts give a file several paths.
type lock struct {
	beside, file *os.File
	info         os.FileInfo // of file
}

// held are the database files that this process has open. Closing any descriptor of a
// file drops the process's POSIX locks on it, including SQLite's, so the process must not
// open a second descriptor to find out whether it has one.
var held struct {
	sync.Mutex
	files []os.FileInfo
}

// lockFile locks a database file. With create it creates a missing file, readable by its
// owner only: SQLite gives its -wal and -shm files the same mode. ErrInUse if the file is
// locked, under any path.
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

// Close releases the locks. SQLite must have closed the file.
//
// Both are released by name: they belong to the open file, and a child that another
// goroutine has forked, and that has not executed its program yet, has it open too.
func (l *lock) Close() error {
	var errs []error
	if l.info != nil {
		errs = append(errs, unlockInode(l.file))
	}
	if l.file != nil {
		errs = append(errs, l.file.Close())
	}
	if l.info != nil {
		held.Lock()
		held.files = slices.DeleteFunc(held.files, func(h os.FileInfo) bool { return h == l.info })
		held.Unlock()
	}
	if l.beside != nil {
		errs = append(errs, syscall.Flock(int(l.beside.Fd()), syscall.LOCK_UN), l.beside.Close())
	}
	return errors.Join(errs...)
}

// otherName is the error for a file that is open under another path.
func otherName(who string) error {
	return fmt.Errorf("%w by %s under another path (a link or a bind mount); a SQLite file can be used by one process only, and under one path: stop the other process, or use Postgres",
		ErrInUse, who)
}

// lockBeside takes the lock by path, and writes our process id into it, for the error
// of other processes.
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
		return nil, fmt.Errorf("%w by process %s; a SQLite file can be used by one process only: stop the other process, or use Postgres",
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
