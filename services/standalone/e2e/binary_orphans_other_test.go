//go:build !linux

package e2e

import "syscall"

// orphans leaves it to the cleanups: only Linux has a signal for the parent's end.
func orphans() *syscall.SysProcAttr { return nil }
