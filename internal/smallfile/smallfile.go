// Package smallfile reads configuration files, secrets and certificates, with limits on
// size and time.
//
// A setting that names the wrong file (a dump, a device, a pipe) must be an error at
// once rather than exhaust memory or hang. The size limit is checked before reading if
// the size is known, and while reading otherwise.
package smallfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// Limit is how many bytes a file of some kind may have.
type Limit int64

// The limits, each far above what makes sense.
const (
	// Secret: 1,000 bearer tokens of 64 letters, one a line. A connection
	// string has a few hundred bytes.
	Secret Limit = 64 << 10
	// YAML: 8,000 names of zones. The largest built-in catalogue file has 11 kB.
	// The limit is not larger because syntax trees take 200 times the text.
	YAML Limit = 256 << 10
	// PEM: the bundles of public authorities that systems ship have 220 kB; a
	// company's own come on top.
	PEM Limit = 1 << 20
)

// patience is how long a file that is no regular one may take, such as a pipe
// of the shell (<(command)). A regular file is not waited for.
const patience = 10 * time.Second

// Read returns a file's content, without the byte-order mark that some editors
// put before UTF-8. Its errors name the file and, where it is too large, the
// limit. Pipes and devices are read like files: what a shell or an init system
// passes is often one.
func Read(path string, limit Limit) ([]byte, error) {
	// Without O_NONBLOCK, opening a pipe that nobody writes to never returns.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().IsRegular() && info.Size() > int64(limit) {
		return nil, tooLarge(path, limit)
	}
	if !info.Mode().IsRegular() {
		// What cannot have a deadline, such as /dev/null and a folder, answers at once.
		_ = f.SetReadDeadline(time.Now().Add(patience))
	}
	content, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fmt.Errorf("%s is a pipe whose writer did not close it within %s", path, patience)
	case err != nil:
		return nil, err
	case len(content) > int(limit):
		return nil, tooLarge(path, limit)
	}
	return bytes.TrimPrefix(content, []byte("\ufeff")), nil
}

func tooLarge(path string, limit Limit) error {
	return fmt.Errorf("%s is larger than the limit of %d KiB; check that it is the right file", path, limit>>10)
}
