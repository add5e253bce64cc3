package cli

import "golang.org/x/sys/unix"

// The requests that read and set the mode of a terminal; the last one drops what was typed and not read.
const (
	getMode        = unix.TCGETS
	setMode        = unix.TCSETS
	setModeAndDrop = unix.TCSETSF
)

const noKey = 0 // _POSIX_VDISABLE
