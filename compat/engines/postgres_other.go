//go:build !unix

package engines

import (
	"os/exec"
	"syscall"
)

func newGroup() *syscall.SysProcAttr { return nil }

func asUser(int, int) *syscall.SysProcAttr { return nil }

func crash(cmd *exec.Cmd) { cmd.Process.Kill() }
