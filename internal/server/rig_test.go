package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/config"
)

// patience is how long a test waits for what should happen at once.
const patience = 20 * time.Second

// sink is a log that can be waited on.
type sink struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func newSink() *sink { return &sink{changed: make(chan struct{})} }

func (s *sink) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
	return s.text.Write(b)
}

func (s *sink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// await waits until the log holds text n times.
func (s *sink) await(t *testing.T, text string, n int) {
	t.Helper()
	deadline := time.After(patience)
	for {
		s.mu.Lock()
		found, changed := strings.Count(s.text.String(), text), s.changed
		s.mu.Unlock()
		if found >= n {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("the log lacks %q:\n%s", text, s)
		}
	}
}

// running is a server in this process.
type running struct {
	addrs  []net.Addr
	stdout *sink
	stderr *sink
	hangup chan os.Signal
	cancel context.CancelFunc
	done   chan error
}

// start runs a server until the test ends.
func start(t *testing.T, cfg *config.Config, o Options) *running {
	t.Helper()
	r, err := tryStart(t, cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func tryStart(t *testing.T, cfg *config.Config, o Options) (*running, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{
		stdout: newSink(), stderr: newSink(),
		hangup: make(chan os.Signal), cancel: cancel, done: make(chan error, 1),
	}
	ready := make(chan []net.Addr, 1)
	o.Stdout, o.Stderr = r.stdout, r.stderr
	o.Ready = func(addrs []net.Addr) { ready <- addrs }
	go func() { r.done <- run(ctx, cfg, o, r.hangup, func() {}) }()
	select {
	case r.addrs = <-ready:
	case err := <-r.done:
		cancel()
		if err == nil {
			err = errors.New("the server ended by itself")
		}
		return nil, err
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("the server ended with: %v", err)
		}
	})
	return r, nil
}

// stop ends the server in order and says how it ended. It may be called again.
func (r *running) stop() error {
	r.cancel()
	err := <-r.done
	r.done <- err
	return err
}

// reload sends a SIGHUP and waits until it was acted on.
func (r *running) reload() {
	r.hangup <- nil
	r.hangup <- nil // is taken only after the first
}

func (r *running) url(i int) string { return "http://" + r.addrs[i].String() }

// memory is a configuration that keeps nothing and listens on a free port.
func memory() *config.Config {
	cfg := config.Dev()
	cfg.Listeners[0].Address = "127.0.0.1:0"
	return cfg
}

// onDisk is memory with its data in a new folder.
func onDisk(t *testing.T) *config.Config {
	cfg := memory()
	cfg.Storage = config.Storage{Type: config.StorageBolt, Path: filepath.Join(t.TempDir(), "data")}
	return cfg
}

// from is a client whose connections come from the given address of this machine.
func from(address string) *http.Client {
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: patience}
	return &http.Client{
		Timeout:   patience,
		Transport: &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true},
	}
}

// get asks for the seal status, which every server answers.
func get(c *http.Client, url string) (map[string]any, error) {
	res, err := c.Get(url + "/v1/sys/seal-status")
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	var out map[string]any
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d: %s", res.StatusCode, text)
	}
	return out, json.Unmarshal(text, &out)
}

func mustGet(t *testing.T, c *http.Client, url string) map[string]any {
	t.Helper()
	out, err := get(c, url)
	if err != nil {
		t.Fatalf("a well-behaved client got: %v", err)
	}
	return out
}

// dial opens a connection from an address of this machine and sends text on it.
func dial(t *testing.T, to net.Addr, from, text string) net.Conn {
	t.Helper()
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
	c, err := d.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c
}

// awaitClosed waits until the other end has closed c, and returns what it sent before.
func awaitClosed(t *testing.T, c net.Conn) string {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	text, err := io.ReadAll(c)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatal("the connection is still open")
	}
	return string(text)
}
