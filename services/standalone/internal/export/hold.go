package export

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// Hold makes a folder this command's alone until release is called or the process ends:
// the folder of an export, or the data folder of a Prometheus. The lock is a flock on the
// folder itself, so that it leaves no file, and that a dry run can take it too.
func Hold(folder string) (release func(), err error) {
	for {
		d, err := os.Open(folder)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no folder %s: %w", folder, err)
		}
		if err != nil {
			return nil, fmt.Errorf("lock a folder: %w", err)
		}
		if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			d.Close()
			if errors.Is(err, syscall.EWOULDBLOCK) {
				return nil, fmt.Errorf("folder %s is in use: another weir backfill export, import or clean is at work in it; run this again when that has ended", folder)
			}
			return nil, fmt.Errorf("lock folder %s: %w: its file system must have flock, as local ones do", folder, err)
		}
		// By name: a child that was just forked has the folder open too.
		release = func() { _, _ = syscall.Flock(int(d.Fd()), syscall.LOCK_UN), d.Close() }
		held, err := d.Stat()
		if err == nil {
			var now os.FileInfo
			if now, err = os.Stat(folder); err == nil && os.SameFile(held, now) {
				return release, nil
			}
		}
		release()
		if err != nil {
			return nil, fmt.Errorf("lock a folder: %w", err)
		}
		// The folder was replaced by another one meanwhile.
	}
}
