package push

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// lockSuffix makes the name of the file that is locked: the file itself is replaced, by one
// with nextSuffix.
const (
	lockSuffix = ".lock"
	nextSuffix = ".tmp"
)

// names are those that a file takes.
func names(own string) []string { return []string{own, own + lockSuffix, own + nextSuffix} }

// lockFile locks a file by what it is, whatever its name, and returns its own name.
func lockFile(path, what string) (own string, lock *os.File, err error) {
	own, err = resolve(path)
	if err != nil {
		return "", nil, fmt.Errorf("lock the %s: %w", what, err)
	}
	lock, err = os.OpenFile(own+lockSuffix, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", nil, fmt.Errorf("lock the %s: %w", what, err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close() // nothing was written
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return "", nil, fmt.Errorf("%s %s is in use by another weir push: each needs a %s of its own", what, own, what)
		}
		return "", nil, fmt.Errorf("lock the %s %s: %w: its file system must have flock, as local ones do", what, own, err)
	}
	return own, lock, nil
}

// resolve returns the name of a file, which need not exist, without symbolic links. A file with
// several names is an error: replacing it under one would leave the others behind.
func resolve(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	own, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(path); err == nil {
			return "", fmt.Errorf("%s is a symbolic link to a file that does not exist", path)
		}
		folder, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return "", err
		}
		return filepath.Join(folder, filepath.Base(path)), nil
	}
	if err != nil {
		return "", err
	}
	info, err := os.Stat(own)
	if err != nil {
		return "", err
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Nlink > 1 && info.Mode().IsRegular() {
		return "", fmt.Errorf("%s has %d names (hard links); it must have one, since it is replaced", own, s.Nlink)
	}
	return own, nil
}

// ReportFile is a report that is this process's alone until it is closed.
type ReportFile struct {
	Path string // of the file itself
	lock *os.File
}

// OpenReport locks a report, which need not exist. It must be another file than the cursor and
// its lock.
func OpenReport(path string, cursor *CursorFile) (*ReportFile, error) {
	own, err := resolve(path)
	if err != nil {
		return nil, fmt.Errorf("lock the report: %w", err)
	}
	taken := names(cursor.path)
	for _, name := range names(own) {
		if slices.Contains(taken, name) || slices.ContainsFunc(taken, func(other string) bool { return sameFile(name, other) }) {
			return nil, fmt.Errorf("report %s: it must be another file than the cursor %s, and than each other's %s and %s", path, cursor.path, lockSuffix, nextSuffix)
		}
	}
	own, lock, err := lockFile(own, "report")
	if err != nil {
		return nil, err
	}
	return &ReportFile{own, lock}, nil
}

// Close releases the report.
func (f *ReportFile) Close() error { return f.lock.Close() }

func sameFile(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	two, err := os.Stat(b)
	return err == nil && os.SameFile(one, two)
}
