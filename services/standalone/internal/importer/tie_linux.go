package importer

import (
	"os/exec"
	"syscall"
)

// tie ends a program with this process, even if that is killed: otherwise it would write
// into a folder that the next import removes.
func tie(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
