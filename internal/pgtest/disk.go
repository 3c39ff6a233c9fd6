package pgtest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"unsafe"

	"github.com/weir-metrics/weir/internal/testkit"
)

// Disk is a file system of a test's own: that of a server that [StartOnDisk]
// started, or one for whatever else writes files.
type Disk struct {
	t     testing.TB
	path  string
	image string // what is mounted, of a disk whose power can be cut
}

// ErrNoMount says that a file system of a test's own cannot be mounted here:
// that takes Linux and root.
var ErrNoMount = errors.New("mounting a file system takes Linux and root")

// NewDisk mounts an empty file system of so many bytes until the test ends. The
// error is ErrNoMount where none can be mounted.
func NewDisk(t testing.TB, size int64) (*Disk, error) {
	t.Helper()
	return newDisk(t, t.TempDir(), size)
}

func newDisk(t testing.TB, dir string, size int64) (*Disk, error) {
	t.Helper()
	d := &Disk{t: t, path: filepath.Join(dir, "disk")}
	return d.mount(dir, "-t", "tmpfs", "-o", "size="+strconv.FormatInt(size, 10), "weir-pgtest")
}

// NewPoweredDisk is NewDisk with a file system that forgets what no fsync has
// asked it to keep when [Disk.Cut] takes its power.
func NewPoweredDisk(t testing.TB, size int64) (*Disk, error) {
	t.Helper()
	dir := t.TempDir()
	d := &Disk{t: t, path: filepath.Join(dir, "disk"), image: filepath.Join(dir, "image")}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.image, size); err != nil {
		t.Fatal(err)
	}
	// Debian keeps it out of the PATH of users.
	mkfs := exec.Command("sh", "-c", `PATH=$PATH:/usr/sbin:/sbin; exec mkfs.ext4 -q -F "$1"`, "sh", d.image)
	if mkfs.Run() != nil {
		return nil, ErrNoMount // no such program: there is no disk then
	}
	return d.mount(dir, d.loop()...)
}

// loop mounts the image so that nothing gets from memory to it by itself while
// a test runs, as it otherwise would within five seconds.
func (d *Disk) loop() []string { return []string{"-o", "loop,commit=600", d.image} }

// mount mounts what the arguments say, until the test ends; then dir goes too.
func (d *Disk) mount(dir string, args ...string) (*Disk, error) {
	d.t.Helper()
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		return nil, ErrNoMount
	}
	if err := os.Mkdir(d.path, 0o755); err != nil {
		d.t.Fatal(err)
	}
	if exec.Command("mount", append(args, d.path)...).Run() != nil {
		return nil, ErrNoMount // not allowed, or no such program
	}
	// Whatever happens to this process, the mount must not stay.
	janitor, err := testkit.StartJanitor(`for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do umount "$1" 2>/dev/null && break; sleep 0.2; done
umount -l "$1" 2>/dev/null; rm -rf "$2"; exit 0`, d.path, dir)
	if err != nil {
		d.t.Fatal(errors.Join(err, exec.Command("umount", "-l", d.path).Run()))
	}
	d.t.Cleanup(func() {
		if err := janitor.Finish(); err != nil {
			d.t.Error(err)
		}
	})
	return d, nil
}

// Path is the disk's folder.
func (d *Disk) Path() string { return d.path }

func (d *Disk) ballast() string { return filepath.Join(d.path, "ballast") }

// Fill leaves no page free on the disk.
func (d *Disk) Fill() {
	d.t.Helper()
	f, err := os.OpenFile(d.ballast(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	// Down to a page, which is what a file system gives away. No further: a
	// Postgres in trouble frees a file now and then, and to fill that byte by
	// byte takes minutes.
	for size := 1 << 20; size >= os.Getpagesize(); {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			d.t.Fatal(err)
		}
	}
}

// Free takes away what Fill put there.
func (d *Disk) Free() {
	d.t.Helper()
	if err := os.Remove(d.ballast()); err != nil && !errors.Is(err, os.ErrNotExist) {
		d.t.Fatal(err)
	}
}

// Cut takes the power from a disk of [NewPoweredDisk], whoever is writing: every
// call fails from then on, and what was only in memory is gone.
func (d *Disk) Cut() {
	d.t.Helper()
	f, err := os.Open(d.path)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	const shutdown = 0x8004587d // EXT4_IOC_SHUTDOWN on amd64 and arm64
	how := uint32(2)            // the journal's part in memory is not written either
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), shutdown, uintptr(unsafe.Pointer(&how))); errno != 0 {
		d.t.Fatalf("cut the power of the disk at %s: %v", d.path, errno)
	}
}

// Restore gives the power back. Whoever had a file of the disk open must have
// gone by then.
func (d *Disk) Restore() {
	d.t.Helper()
	if out, err := exec.Command("umount", d.path).CombinedOutput(); err != nil {
		d.t.Fatalf("%v: %s", err, out)
	}
	if out, err := exec.Command("mount", append(d.loop(), d.path)...).CombinedOutput(); err != nil {
		d.t.Fatalf("%v: %s", err, out)
	}
}
