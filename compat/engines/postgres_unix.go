//go:build unix

package engines

import (
	"os/exec"
	"syscall"
)

// newGroup puts a process and what it starts into a group of their own.
func newGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func asUser(uid, gid int) *syscall.SysProcAttr {
	attr := newGroup()
	attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return attr
}

// crash ends a server without a shutdown: its "immediate" mode, in which no process writes anything more. SIGKILL would
// leave the sessions running for a moment, because each has a process group of its own.
func crash(cmd *exec.Cmd) { cmd.Process.Signal(syscall.SIGQUIT) }
