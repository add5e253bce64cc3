package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/audit"
	"github.com/quorate/quorate/internal/config"
)

func TestStartsAndTellsWhatToDo(t *testing.T) {
	cfg := onDisk(t)
	cfg.Warnings = []string{"a setting without effect"}
	r := start(t, cfg, Options{Version: "1.2.3"})
	st := mustGet(t, http.DefaultClient, r.url(0))
	if st["initialized"] != false || st["sealed"] != true || st["version"] != "1.2.3" || st["storage_type"] != "bolt" {
		t.Errorf("seal status %v", st)
	}
	for _, want := range []string{
		"export BAO_ADDR='" + r.url(0) + "'", "quorate operator init", "quorate operator unseal", "a setting without effect",
	} {
		if !strings.Contains(r.stderr.String(), want) {
			t.Errorf("standard error lacks %q:\n%s", want, r.stderr)
		}
	}
	if runtime.GOOS != "windows" {
		for path, want := range map[string]os.FileMode{
			cfg.Storage.Path: 0o700,
			filepath.Join(cfg.Storage.Path, dataFile): 0o600,
		} {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
				t.Errorf("%s: %v, %v, want mode %o", path, info, err, want)
			}
		}
	}
	if err := r.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if r.stdout.String() != "" {
		t.Errorf("standard output: %q", r.stdout)
	}
	if _, err := get(http.DefaultClient, r.url(0)); err == nil {
		t.Error("still serving after the stop")
	}
}

// TestTellsHowToUnseal: after a restart an initialised server asks for its key holders.
func TestTellsHowToUnseal(t *testing.T) {
	cfg := onDisk(t)
	r := start(t, cfg, Options{})
	put(t, r.url(0)+"/v1/sys/init", `{"secret_shares": 5, "secret_threshold": 3}`, http.StatusOK)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = start(t, cfg, Options{})
	if log := r.stderr.String(); !strings.Contains(log, "It takes 3 of 5 key holders") || strings.Contains(log, "operator init") {
		t.Errorf("standard error:\n%s", log)
	}
	if st := mustGet(t, http.DefaultClient, r.url(0)); st["initialized"] != true || st["t"] != 3.0 {
		t.Errorf("seal status after a restart: %v", st)
	}
}

// put sends a body and wants a status.
func put(t *testing.T, url, body string, want int) map[string]any {
	t.Helper()
	req, err := http.NewRequest(http.MethodPut, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != want {
		t.Fatalf("%s: status %d, want %d", url, res.StatusCode, want)
	}
	var out map[string]any
	if len(text) > 0 {
		if err := json.Unmarshal(text, &out); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// T66: two servers on one data folder.
func TestSecondServerOnTheSameData(t *testing.T) {
	cfg := onDisk(t)
	r := start(t, cfg, Options{})
	began := time.Now()
	_, err := tryStart(t, cfg, Options{})
	if err == nil || !strings.Contains(err.Error(), "another quorate server") || !strings.Contains(err.Error(), cfg.Storage.Path) {
		t.Errorf("second server: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the second server was refused after %s", took)
	}
	mustGet(t, http.DefaultClient, r.url(0))
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	start(t, cfg, Options{})
}

// T65: a data folder that others can use.
func TestDataFolderOpenToOthers(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes don't protect folders here")
	}
	for _, mode := range []os.FileMode{0o777, 0o750, 0o701} {
		cfg := onDisk(t)
		if err := os.Mkdir(cfg.Storage.Path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(cfg.Storage.Path, mode); err != nil {
			t.Fatal(err)
		}
		for name, err := range map[string]error{"start": startError(t, cfg, Options{}), "check": Check(cfg)} {
			if err == nil || !strings.Contains(err.Error(), "chmod 700") {
				t.Errorf("mode %o: %s: %v", mode, name, err)
			}
		}
		if entries, err := os.ReadDir(cfg.Storage.Path); err != nil || len(entries) != 0 {
			t.Errorf("mode %o: something was written: %v, %v", mode, entries, err)
		}
	}
}

func startError(t *testing.T, cfg *config.Config, o Options) error {
	t.Helper()
	_, err := tryStart(t, cfg, o)
	return err
}

// TestRefusedStarts: each is refused with a sentence, and leaves neither lock nor file nor socket behind.
func TestRefusedStarts(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct {
		name   string
		change func(*config.Config)
		o      Options
		want   string
	}{
		{"invalid configuration", func(c *config.Config) { c.Listeners[0].Address = "0.0.0.0:0" }, Options{}, "tls_disable = true"},
		{"address in use", func(c *config.Config) { c.Listeners[0].Address = taken.Addr().String() }, Options{}, "another program listens on"},
		{"second address in use", func(c *config.Config) {
			second := c.Listeners[0]
			second.Address = taken.Addr().String()
			c.Listeners = append(c.Listeners, second)
		}, Options{}, "another program listens on"},
		{"no certificate", func(c *config.Config) {
			c.Listeners[0].TLSCertFile, c.Listeners[0].TLSKeyFile = "absent.pem", "absent.key"
		}, Options{}, "absent.pem"},
		{"pid file in no folder", func(c *config.Config) { c.PIDFile = filepath.Join(c.Storage.Path, "absent", "pid") }, Options{}, "pid file"},
		{"development server on disk", func(*config.Config) {}, Options{Dev: &DevOptions{}}, "inmem"},
		{"data folder is a file", func(c *config.Config) { c.Storage.Path = os.Args[0] }, Options{}, "not a directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := onDisk(t)
			good := *cfg
			good.Listeners = append([]config.Listener(nil), cfg.Listeners...)
			c.change(cfg)
			if err := startError(t, cfg, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("start: %v", err)
			}
			start(t, &good, Options{})
		})
	}
}

// TestStopAnswersWhatHasBegun: a request whose body is half sent when the server is told to stop gets its answer.
func TestStopAnswersWhatHasBegun(t *testing.T) {
	r := start(t, onDisk(t), Options{})
	const request = "PUT /v1/sys/unseal HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 14\r\n\r\n{\"key\":"
	c := dial(t, r.addrs[0], "127.0.0.1", request)
	idle := dial(t, r.addrs[0], "127.0.0.1", "GET /v1/sys/seal-status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	idle.SetReadDeadline(time.Now().Add(patience))
	if _, err := idle.Read(make([]byte, 4096)); err != nil {
		t.Fatal(err)
	}
	// The server has begun with it once it has answered a later one.
	mustGet(t, from("127.0.0.1"), r.url(0))
	r.cancel()
	r.stderr.await(t, "stopping", 1)
	awaitRefusal(t, r.addrs[0])
	select {
	case err := <-r.done:
		t.Fatalf("the server stopped with a request open: %v", err)
	default:
	}
	if _, err := io.WriteString(c, `"abcd"}`); err != nil {
		t.Fatal(err)
	}
	if answer := awaitClosed(t, c); !strings.HasPrefix(answer, "HTTP/1.1 400") || !strings.Contains(answer, `"errors"`) {
		t.Errorf("answer %q", answer)
	}
	if text := awaitClosed(t, idle); text != "" {
		t.Errorf("an idle connection got %q", text)
	}
	if err := r.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// awaitRefusal waits until nobody listens any more.
func awaitRefusal(t *testing.T, addr net.Addr) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		c, err := net.Dial(addr.Network(), addr.String())
		if err != nil {
			return
		}
		c.Close()
	}
	t.Fatal("new connections are still accepted")
}

// TestStopIsBounded: a request that doesn't end is cut off.
func TestStopIsBounded(t *testing.T) {
	entered := make(chan struct{})
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	})
	f, err := openFront(memory().Listeners[0], h, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	f.serve(failed)
	c := dial(t, f.places.Addr(), "127.0.0.1", "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-entered
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := f.close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("close: %v", err)
	}
	if answer := awaitClosed(t, c); answer != "" {
		t.Errorf("answer %q", answer)
	}
	if len(failed) > 0 {
		t.Errorf("serve failed: %v", <-failed)
	}
}

// TestListenerThatDies: a server that can't serve any more ends with an error instead of looking alive.
func TestListenerThatDies(t *testing.T) {
	f, err := openFront(memory().Listeners[0], http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	f.serve(failed)
	f.places.Close()
	select {
	case err := <-failed:
		if !strings.Contains(err.Error(), f.cfg.Address) {
			t.Errorf("failed with %v", err)
		}
	case <-time.After(patience):
		t.Error("nobody was told")
	}
	f.close(context.Background())
}

func TestPIDFile(t *testing.T) {
	cfg := memory()
	cfg.PIDFile = filepath.Join(t.TempDir(), "quorate.pid")
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, cfg.PIDFile); err != nil {
		t.Skip("no symbolic links here")
	}
	r := start(t, cfg, Options{})
	if text, err := os.ReadFile(cfg.PIDFile); err != nil || strings.TrimSpace(string(text)) != strconv.Itoa(os.Getpid()) {
		t.Errorf("pid file %q, %v", text, err)
	}
	if text, err := os.ReadFile(victim); err != nil || string(text) != "untouched" {
		t.Errorf("the link was followed: %q, %v", text, err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(cfg.PIDFile); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the pid file is still there: %v", err)
	}
	// One that another process wrote meanwhile stays.
	r = start(t, cfg, Options{})
	if err := os.WriteFile(cfg.PIDFile, []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(cfg.PIDFile); err != nil || string(text) != "1\n" {
		t.Errorf("another process's pid file: %q, %v", text, err)
	}
}

func TestLogIsJSONThroughout(t *testing.T) {
	cfg := onDisk(t)
	cfg.LogFormat, cfg.LogLevel = config.FormatJSON, config.LevelTrace
	r := start(t, cfg, Options{})
	put(t, r.url(0)+"/v1/sys/init", `{"secret_shares": 1, "secret_threshold": 1}`, http.StatusOK)
	r.stop()
	sealed := start(t, cfg, Options{})
	sealed.stop()
	for i, log := range []string{r.stderr.String(), sealed.stderr.String()} {
		for line := range strings.Lines(log) {
			if !json.Valid([]byte(line)) {
				t.Errorf("run %d: not JSON: %s", i, line)
			}
		}
		if want := []string{"operator init", "operator unseal"}[i]; !strings.Contains(log, want) {
			t.Errorf("run %d: the log doesn't tell to run %s:\n%s", i, want, log)
		}
	}
}

func TestTraceHasItsName(t *testing.T) {
	out := newSink()
	newLogger(out, config.FormatStandard, config.LevelTrace).Log(context.Background(), config.LevelTrace, "quiet")
	if !strings.Contains(out.String(), "level=TRACE msg=quiet") {
		t.Errorf("log line %q", out)
	}
}

func TestReloadLogLevel(t *testing.T) {
	cfg := memory()
	type answer struct {
		level  slog.Level
		broken error
	}
	var now atomic.Pointer[answer]
	now.Store(&answer{level: slog.LevelDebug})
	r := start(t, cfg, Options{Reload: func() (*config.Config, error) {
		fresh, a := *cfg, now.Load()
		fresh.LogLevel = a.level
		return &fresh, a.broken
	}})
	junk := func() { awaitClosed(t, dial(t, r.addrs[0], "127.0.0.1", "nonsense\r\n\r\n")) }
	junk()
	r.reload()
	r.stderr.await(t, "reloaded", 1)
	now.Store(&answer{slog.LevelError, errors.New("q.hcl:1: nonsense")})
	r.reload()
	r.stderr.await(t, "q.hcl:1: nonsense", 1)
	now.Store(&answer{level: slog.LevelError})
	r.reload()
	before := r.stderr.String()
	r.reload()
	if after := r.stderr.String(); after != before {
		t.Errorf("the log level was not raised: %q was logged after", after[len(before):])
	}
}

// TestReloadOpensAuditFiles: also where the configuration has an error by now, since whoever moved the file will take it away.
func TestReloadOpensAuditFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.log")
	cfg := memory()
	cfg.Audit = []audit.Device{{Path: "file/", Type: "file", Options: map[string]string{"file_path": file}}}
	r := start(t, cfg, Options{Reload: func() (*config.Config, error) { return nil, errors.New("q.hcl:1: nonsense") }})
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	r.reload()
	if _, err := os.Stat(file); err != nil {
		t.Errorf("entries go on to the file that was moved aside: %v", err)
	}
}

// TestCheck finds problems without leaving anything behind.
func TestCheck(t *testing.T) {
	cfg := onDisk(t)
	if err := Check(cfg); err != nil {
		t.Errorf("a good configuration: %v", err)
	}
	if _, err := os.Stat(cfg.Storage.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the check made the data folder: %v", err)
	}
	cfg.Audit = []audit.Device{{Path: "out/", Type: "stdout"}}
	if err := Check(cfg); err != nil {
		t.Errorf("an audit device that writes to standard output: %v", err)
	}
	cfg.Listeners[0].TLSCertFile, cfg.Listeners[0].TLSKeyFile = "absent.pem", "absent.key"
	if err := Check(cfg); err == nil || !strings.Contains(err.Error(), "absent.pem") {
		t.Errorf("an absent certificate: %v", err)
	}
	cfg = onDisk(t)
	cfg.Listeners = nil
	if err := Check(cfg); err == nil {
		t.Error("no listener was accepted")
	}
}

func TestURL(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:0": "http://127.0.0.1:%d", "localhost:0": "http://localhost:%d", "0.0.0.0:0": "http://127.0.0.1:%d",
	} {
		l := memory().Listeners[0]
		l.Address, l.TLSDisable = address, true
		f, err := openFront(l, http.NotFoundHandler(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if got := f.url(); got != fmt.Sprintf(want, f.places.Addr().(*net.TCPAddr).Port) {
			t.Errorf("URL of %s is %s", address, got)
		}
		f.close(context.Background())
	}
	cfg := memory()
	cfg.APIAddr = "https://quorate.example.org:8200"
	r := start(t, cfg, Options{})
	if !strings.Contains(r.stderr.String(), "BAO_ADDR='https://quorate.example.org:8200'") {
		t.Errorf("api_addr is not what users are told:\n%s", r.stderr)
	}
}

// A port that is taken is told with what to do about it.
func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = bind(config.Listener{Type: config.TCP, Address: l.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "another program listens on "+l.Addr().String()) {
		t.Errorf("%v", err)
	}
}
