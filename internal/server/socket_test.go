//go:build unix

package server

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/config"
)

// socketDir is a folder whose path is short enough for a socket.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "q")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func withSocket(path string) *config.Config {
	cfg := memory()
	l := cfg.Listeners[0]
	l.Type, l.Address = config.Unix, path
	cfg.Listeners = append(cfg.Listeners, l)
	return cfg
}

func over(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
		DisableKeepAlives: true,
	}}
}

func TestUnixSocket(t *testing.T) {
	dir := socketDir(t)
	path := filepath.Join(dir, "quorate.sock")
	for _, mode := range []fs.FileMode{0o600, 0o660} {
		cfg := withSocket(path)
		cfg.Listeners[1].SocketMode = mode
		r := start(t, cfg, Options{})
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != fs.ModeSocket|mode {
			t.Errorf("socket %v, %v, want mode %o", info, err, mode)
		}
		mustGet(t, over(path), "http://localhost")
		if !strings.Contains(r.stderr.String(), "unix://"+path) {
			t.Errorf("the address is not in the log:\n%s", r.stderr)
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

func TestUnixSocketOfADeadServer(t *testing.T) {
	path := filepath.Join(socketDir(t), "quorate.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	start(t, withSocket(path), Options{})
	mustGet(t, over(path), "http://localhost")
}

func TestUnixSocketInUse(t *testing.T) {
	path := filepath.Join(socketDir(t), "quorate.sock")
	first := start(t, withSocket(path), Options{})
	if err := startError(t, withSocket(path), Options{}); err == nil || !strings.Contains(err.Error(), "another process listens") {
		t.Errorf("second server on the socket: %v", err)
	}
	mustGet(t, over(path), "http://localhost")
	// A socket that was replaced under the server is not removed by it.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	start(t, withSocket(path), Options{})
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	mustGet(t, over(path), "http://localhost")
}

func TestUnixSocketOverSomethingElse(t *testing.T) {
	dir := socketDir(t)
	path := filepath.Join(dir, "precious")
	if err := os.WriteFile(path, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, link, dir} {
		if err := startError(t, withSocket(p), Options{}); err == nil || !strings.Contains(err.Error(), "not a socket") {
			t.Errorf("a server over %s: %v", p, err)
		}
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "data" {
		t.Errorf("the file is now %q, %v", text, err)
	}
	if err := startError(t, withSocket(filepath.Join(dir, "absent", "s")), Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a socket in no folder: %v", err)
	}
}

// TestUnixSocketIsNotLimitedPerClient: all its clients look the same.
func TestUnixSocketIsNotLimitedPerClient(t *testing.T) {
	path := filepath.Join(socketDir(t), "quorate.sock")
	cfg := withSocket(path)
	cfg.Listeners[1].MaxConnections = 8 // two for one client
	start(t, cfg, Options{})
	var idle []net.Conn
	for range 7 {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		idle = append(idle, c)
	}
	mustGet(t, over(path), "http://localhost")
	for i, c := range idle {
		if _, err := c.Write([]byte("GET /v1/sys/seal-status HTTP/1.0\r\nHost: localhost\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		if answer := awaitClosed(t, c); !strings.Contains(answer, "200 OK") {
			t.Errorf("connection %d was not kept: %q", i, answer)
		}
	}
}
