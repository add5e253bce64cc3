//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package cli

import (
	"os"

	"golang.org/x/sys/unix"
)

// hush switches off the echo of a terminal, and the keys that would end or stop this process without switching it on
// again. Lines are left to the prompts, which read them as they were typed; output and Ctrl-C work as ever.
func hush(f *os.File) (loud func() error, err error) {
	fd := int(f.Fd())
	found, err := unix.IoctlGetTermios(fd, getMode)
	if err != nil {
		return nil, err
	}
	quiet := *found
	quiet.Iflag &^= unix.INLCR | unix.IGNCR | unix.ICRNL
	quiet.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.IEXTEN
	quiet.Cc[unix.VMIN], quiet.Cc[unix.VTIME] = 1, 0
	quiet.Cc[unix.VQUIT], quiet.Cc[unix.VSUSP] = noKey, noKey
	if err := unix.IoctlSetTermios(fd, setMode, &quiet); err != nil {
		return nil, err
	}
	return func() error { return unix.IoctlSetTermios(fd, setModeAndDrop, found) }, nil
}
