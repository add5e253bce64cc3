package server

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// unixListener removes its socket when it closes, unless another one has taken the path.
type unixListener struct {
	*net.UnixListener
	path string
	file fs.FileInfo
}

// listenUnix makes a socket of the given mode. It comes into being in a folder of its own and is then moved to path, so
// that nobody can connect before the mode is set; what a dead server left behind is replaced.
func listenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	if runtime.GOOS == "windows" {
		return nil, errors.New("listener \"unix\" is not available on Windows, where no file mode protects the socket")
	}
	if err := checkStale(path); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".q")
	if err != nil {
		return nil, fmt.Errorf("make the socket: %w", err)
	}
	defer os.RemoveAll(dir)
	raw := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: raw, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("make the socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	u := &unixListener{UnixListener: l, path: path}
	err = os.Chmod(raw, mode)
	if err == nil {
		u.file, err = os.Lstat(raw)
	}
	if err == nil {
		err = os.Rename(raw, path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the socket: %w", err), l.Close())
	}
	return u, nil
}

// checkStale refuses a path that holds anything but a socket on which nobody listens.
func checkStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look for an old socket: %w", err)
	case info.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("%s exists and is not a socket: choose another address", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	var timeout net.Error
	switch {
	case err == nil:
		c.Close()
		fallthrough
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("another process listens on %s: stop it, or choose another address", path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil
	}
	return fmt.Errorf("look whether another process listens on the socket: %w", err)
}

// Addr is the path that clients know.
func (u *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: u.path, Net: "unix"} }

// Close implements net.Listener.
func (u *unixListener) Close() error {
	if now, err := os.Lstat(u.path); err == nil && os.SameFile(now, u.file) {
		err = os.Remove(u.path)
		return errors.Join(err, u.UnixListener.Close())
	}
	return u.UnixListener.Close()
}
