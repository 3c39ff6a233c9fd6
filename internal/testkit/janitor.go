package testkit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// Janitor runs a shell script when this process has gone, in whatever way: at
// the end of the tests, at a panic, at the time limit of go test, at kill -9.
// Cleanups of the testing package see only the first of these, and a database
// server left behind by the others is found by whoever wonders where the
// machine's memory went.
//
// It works without a signal or a thread tied to the child: the shell waits on a
// pipe whose other end only this process holds, and the kernel closes that end.
type Janitor struct {
	cmd  *exec.Cmd
	hold *os.File // closing it starts the script
}

// prologue waits for the end of the pipe with what the shell itself has, and
// makes up for a test that runs with an empty PATH: the script needs rm.
const prologue = `while read -r line; do :; done
PATH=$PATH:/usr/bin:/bin
`

// StartJanitor starts a shell that waits for the end of this process and then
// runs script, in which args are $1, $2, and so on. The script must not read
// its standard input; what it prints is lost.
func StartJanitor(script string, args ...string) (*Janitor, error) {
	wait, hold, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start the janitor: %w", err)
	}
	defer wait.Close()
	cmd := exec.Command("/bin/sh", append([]string{"-c", prologue + script, "janitor"}, args...)...)
	cmd.Stdin = wait
	// A session of its own, or Ctrl-C in the terminal would end the janitor
	// together with the tests.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the janitor: %w", err)
	}
	j := &Janitor{cmd: cmd, hold: hold}
	janitors.Store(j, true)
	return j, nil
}

// janitors keeps the pipes reachable: a file that the garbage collector closes
// would start the script under the feet of running tests.
var janitors sync.Map // of *Janitor

// Finish runs the script now and waits for it. Calls after the first do nothing.
func (j *Janitor) Finish() error {
	janitors.Delete(j)
	if errors.Is(j.hold.Close(), os.ErrClosed) {
		return nil
	}
	if err := j.cmd.Wait(); err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	return nil
}
