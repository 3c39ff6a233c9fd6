package push

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/smallfile"
	"github.com/weir-metrics/weir/services/standalone/internal/export"
)

// cursorFormat is the value of format in a cursor file.
const cursorFormat = "weir-push-cursor-1"

// Cursor is the place up to which a destination has everything.
type Cursor struct {
	StoreID string
	bucket.Position
	// Until is the time up to which it has everything, by the collector's clock.
	Until time.Time
}

// CursorFile keeps the cursor of one destination, and is this process's alone until it is
// closed.
type CursorFile struct {
	path, destination string
	lock              *os.File
}

type cursorJSON struct {
	Format      string    `json:"format"`
	Destination string    `json:"destination"`
	StoreID     string    `json:"store_id"`
	Revision    uint64    `json:"revision"`
	Chain       string    `json:"chain"`
	Until       time.Time `json:"acknowledged_until"`
}

// OpenCursor locks a cursor file, which need not exist, and reads it. The cursor is nil if
// there is none. A cursor of another destination is an error.
func OpenCursor(path, destination string) (*CursorFile, *Cursor, error) {
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, nil, fmt.Errorf("lock the cursor: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close() // nothing was written
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, nil, fmt.Errorf("cursor %s is in use by another weir push: each needs a cursor of its own", path)
		}
		return nil, nil, fmt.Errorf("lock the cursor %s: %w: its file system must have flock, as local ones do", path, err)
	}
	f := &CursorFile{path, destination, lock}
	c, err := f.read()
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, c, nil
}

func (f *CursorFile) read() (*Cursor, error) {
	data, err := smallfile.Read(f.path, maxCursor)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the cursor: %w", err)
	}
	var j cursorJSON
	if err := json.Unmarshal(data, &j); err != nil || j.Format != cursorFormat {
		return nil, fmt.Errorf("read the cursor: %s is not a cursor (format %q); remove it to start without one", f.path, cursorFormat)
	}
	if j.Destination != f.destination {
		return nil, fmt.Errorf("cursor %s is of the destination %s, not of %s: use another file, or, if it is the same receiver at another address, change destination in the file", f.path, j.Destination, f.destination)
	}
	c := &Cursor{StoreID: j.StoreID, Until: j.Until}
	c.Revision = bucket.Revision(j.Revision)
	chain, err := hex.DecodeString(j.Chain)
	if err != nil || len(chain) != len(c.Chain) || j.StoreID == "" {
		return nil, fmt.Errorf("read the cursor: %s is damaged: chain %q must have %d hexadecimal digits, and store_id must not be empty", f.path, j.Chain, 2*len(c.Chain))
	}
	copy(c.Chain[:], chain)
	return c, nil
}

// maxCursor is far above what a cursor has.
const maxCursor = 64 << 10

// Save writes the cursor. When it returns, the cursor is on the disk.
func (f *CursorFile) Save(c *Cursor) error {
	data, err := json.MarshalIndent(cursorJSON{cursorFormat, f.destination, c.StoreID, uint64(c.Revision), c.Chain.String(), c.Until.UTC()}, "", "  ")
	if err == nil {
		err = export.WriteWhole(f.path, append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write the cursor: %w", err)
	}
	return nil
}

// Close releases the file.
func (f *CursorFile) Close() error { return f.lock.Close() }
