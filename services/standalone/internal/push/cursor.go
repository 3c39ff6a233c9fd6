package push

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/smallfile"
	"github.com/weir-metrics/weir/services/standalone/internal/export"
)

// The values of format in a cursor file. A cursor with a history is of the second, so that no
// release of before it takes the place in the log for all.
const (
	cursorFormat  = "weir-push-cursor-1"
	historyFormat = "weir-push-cursor-2"
)

// Cursor is the place up to which a destination has everything.
type Cursor struct {
	StoreID string
	bucket.Position
	// Until is the time up to which it has everything, by the collector's clock.
	Until time.Time
	// History is what it lacks before the place; nil: nothing.
	History *History
}

// History is a place in the list of the buckets before a cursor. They are listed day by day.
type History struct {
	// Since: windows that end after it are sent. Through: no window of before the cursor
	// begins later.
	Since, Through bucket.Time
	// Day is the day in whose list the place is, and Token the page token; empty: its
	// beginning.
	Day   bucket.Time
	Token string
}

// CursorFile keeps the cursor of one destination, and is this process's alone until it is
// closed.
type CursorFile struct {
	path, destination string
	lock              *os.File
}

type cursorJSON struct {
	Format      string       `json:"format"`
	Destination string       `json:"destination"`
	StoreID     string       `json:"store_id"`
	Revision    uint64       `json:"revision"`
	Chain       string       `json:"chain"`
	Until       time.Time    `json:"acknowledged_until"`
	History     *historyJSON `json:"history,omitempty"`
}

type historyJSON struct {
	Since   time.Time `json:"since"`
	Through time.Time `json:"through"`
	Day     time.Time `json:"day"`
	Token   string    `json:"page_token,omitempty"`
}

// OpenCursor locks a cursor file, which need not exist, and reads it. The cursor is nil if
// there is none. A cursor of another destination is an error. A symbolic link is followed.
func OpenCursor(path, destination string) (*CursorFile, *Cursor, error) {
	path, lock, err := lockFile(path, "cursor")
	if err != nil {
		return nil, nil, err
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
	if err := json.Unmarshal(data, &j); err != nil || j.Format != format(j.History != nil) {
		return nil, fmt.Errorf("read the cursor: %s is not a cursor (format %q, or %q with a history); remove it to start without one", f.path, cursorFormat, historyFormat)
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
	if (c.Revision == 0) != (c.Chain == bucket.Chain{}) {
		return nil, fmt.Errorf("read the cursor: %s is damaged: revision %d has the chain %s; only revision 0 has one of zeros: remove the file, and start with --from", f.path, c.Revision, c.Chain)
	}
	if h := j.History; h != nil {
		c.History = &History{bucket.TimeOf(h.Since), bucket.TimeOf(h.Through), bucket.TimeOf(h.Day), h.Token}
		if c.History.Day != midnight(c.History.Day) || c.History.Day > c.History.Through.Add(day) || c.History.Since <= 0 {
			return nil, fmt.Errorf("read the cursor: %s is damaged: the history is at the day %s of %s to %s; a day begins at midnight UTC and is in the range", f.path, h.Day, h.Since, h.Through)
		}
	}
	return c, nil
}

func format(history bool) string {
	if history {
		return historyFormat
	}
	return cursorFormat
}

// maxCursor is far above what a cursor has.
const maxCursor = 64 << 10

// Save writes the cursor. When it returns, the cursor is on the disk.
func (f *CursorFile) Save(c *Cursor) error {
	j := cursorJSON{format(c.History != nil), f.destination, c.StoreID, uint64(c.Revision), c.Chain.String(), c.Until.UTC(), nil}
	if h := c.History; h != nil {
		j.History = &historyJSON{h.Since.Std(), h.Through.Std(), h.Day.Std(), h.Token}
	}
	data, err := json.MarshalIndent(j, "", "  ")
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
