//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package cli

import "golang.org/x/sys/unix"

// The requests that read and set the mode of a terminal; the last one drops what was typed and not read.
const (
	getMode        = unix.TIOCGETA
	setMode        = unix.TIOCSETA
	setModeAndDrop = unix.TIOCSETAF
)

const noKey = 0xff // _POSIX_VDISABLE
