package e2e

import "syscall"

// orphans makes the kernel kill a started program when the tests end without
// their cleanups: at a panic, a time-out, a kill.
func orphans() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
