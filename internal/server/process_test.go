//go:build unix

package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/config"
)

// asServer makes this test program a server with its data in the folder that the variable names.
const asServer = "QUORATE_TEST_SERVER"

func TestMain(m *testing.M) {
	dir := os.Getenv(asServer)
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := serveAlone(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serveAlone runs with certificates if the folder has some, and tells its address through standard output.
func serveAlone(dir string) error {
	read := func() (*config.Config, error) {
		cfg := memory()
		cfg.Storage = config.Storage{Type: config.StorageBolt, Path: filepath.Join(dir, "data")}
		l := &cfg.Listeners[0]
		if _, err := os.Stat(filepath.Join(dir, "cert.pem")); err == nil {
			l.TLSCertFile, l.TLSKeyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
		}
		return cfg, nil
	}
	cfg, _ := read()
	return Run(context.Background(), cfg, Options{
		Stderr: os.Stderr, Reload: read,
		Ready: func(addrs []net.Addr) { fmt.Println(addrs[0]) },
	})
}

// process is a server in a process of its own.
type process struct {
	*exec.Cmd
	addr   *net.TCPAddr
	stderr *sink
}

func spawn(t *testing.T, dir string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(os.Args[0]), stderr: newSink()}
	p.Env = append(os.Environ(), asServer+"="+dir)
	p.Stderr = p.stderr
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Process.Kill(); p.Wait() })
	line := make([]byte, 64)
	n, _ := out.Read(line)
	if p.addr, err = net.ResolveTCPAddr("tcp", strings.TrimSpace(string(line[:n]))); err != nil {
		t.Fatalf("the server did not start: %v\n%s", err, p.stderr)
	}
	return p
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// TestSIGTERM: what has begun is answered, then the process ends without an error, and its data can be used at once.
func TestSIGTERM(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		dir := t.TempDir()
		p := spawn(t, dir)
		c := dial(t, p.addr, "127.0.0.1",
			"PUT /v1/sys/init HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 42\r\n\r\n{\"secret_shares\": 1,")
		mustGet(t, from("127.0.0.1"), "http://"+p.addr.String())
		p.signal(t, s)
		p.stderr.await(t, "stopping", 1)
		awaitRefusal(t, p.addr)
		if _, err := io.WriteString(c, " \"secret_threshold\":1}"); err != nil {
			t.Fatal(err)
		}
		if answer := awaitClosed(t, c); !strings.HasPrefix(answer, "HTTP/1.1 200 OK") || !strings.Contains(answer, "root_token") {
			t.Errorf("%s: answer %q", s, answer)
		}
		if err := p.Wait(); err != nil {
			t.Errorf("%s: exit: %v\n%s", s, err, p.stderr)
		}
		// What was answered was kept.
		p = spawn(t, dir)
		if st := mustGet(t, from("127.0.0.1"), "http://"+p.addr.String()); st["initialized"] != true {
			t.Errorf("%s: after a restart: %v", s, st)
		}
	}
}

// TestSecondSignal: who doesn't want to wait sends another one.
func TestSecondSignal(t *testing.T) {
	p := spawn(t, t.TempDir())
	dial(t, p.addr, "127.0.0.1", "PUT /v1/sys/init HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 42\r\n\r\n{")
	mustGet(t, from("127.0.0.1"), "http://"+p.addr.String())
	p.signal(t, syscall.SIGTERM)
	awaitRefusal(t, p.addr)
	p.signal(t, syscall.SIGTERM)
	var exit *exec.ExitError
	if err := p.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("exit: %v", err)
	}
}

func TestSIGHUP(t *testing.T) {
	ca := newAuthority(t)
	dir := t.TempDir()
	l := config.Listener{TLSCertFile: filepath.Join(dir, "cert.pem"), TLSKeyFile: filepath.Join(dir, "key.pem")}
	ca.write(t, l, 1, plain)
	p := spawn(t, dir)
	shown := func() int64 { return serial(t, ca.trusting(asIs), &running{addrs: []net.Addr{p.addr}}) }
	if got := shown(); got != 1 {
		t.Errorf("serial %d at start", got)
	}
	ca.write(t, l, 2, plain)
	p.signal(t, syscall.SIGHUP)
	p.stderr.await(t, "certificate loaded", 1)
	if got := shown(); got != 2 {
		t.Errorf("serial %d after SIGHUP", got)
	}
	writeFile(t, l.TLSCertFile, "broken")
	p.signal(t, syscall.SIGHUP)
	p.stderr.await(t, "the certificate stays as it was", 1)
	if got := shown(); got != 2 {
		t.Errorf("serial %d after SIGHUP with a broken certificate", got)
	}
}

// T66: two servers, two processes, one data folder; and after kill -9 the lock is gone.
func TestSecondProcessOnTheSameData(t *testing.T) {
	dir := t.TempDir()
	p := spawn(t, dir)
	second := exec.Command(os.Args[0])
	second.Env = append(os.Environ(), asServer+"="+dir)
	if out, err := second.CombinedOutput(); err == nil || !strings.Contains(string(out), "another quorate server") {
		t.Errorf("second process: %v, %s", err, out)
	}
	mustGet(t, from("127.0.0.1"), "http://"+p.addr.String())
	p.signal(t, syscall.SIGKILL)
	p.Wait()
	p = spawn(t, dir)
	mustGet(t, from("127.0.0.1"), "http://"+p.addr.String())
}

// BenchmarkStart builds the program and measures the time from its start until it listens, on a new data folder and on
// an old one, the processor time of a life with one request, and the memory that it then holds.
func BenchmarkStart(b *testing.B) {
	bin := filepath.Join(b.TempDir(), "quorate")
	if out, err := exec.Command("go", "build", "-o", bin, "../../cmd/quorate").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	for name, dir := range map[string]func() string{
		"new":     func() string { return b.TempDir() },
		"restart": func() func() string { d := b.TempDir(); return func() string { return d } }(),
	} {
		b.Run(name, func(b *testing.B) {
			var resident int
			var work time.Duration
			for b.Loop() {
				kib, cpu := startOnce(b, bin, dir())
				resident, work = kib, work+cpu
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/start")
			b.ReportMetric(float64(work.Milliseconds())/float64(b.N), "cpu-ms/life")
			b.ReportMetric(float64(resident)/1024, "MiB-resident")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// startOnce returns the resident memory in KiB and the processor time of the whole life; what b measures is the time
// until the server listens.
func startOnce(b *testing.B, bin, dir string) (resident int, work time.Duration) {
	b.StopTimer()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr := free.Addr().String()
	free.Close()
	file := filepath.Join(dir, "quorate.hcl")
	text := fmt.Sprintf("storage \"bolt\" {\n  path = %q\n}\nlistener \"tcp\" {\n  address = %q\n}\n", filepath.Join(dir, "data"), addr)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(bin, "server", "-config="+file)
	b.StartTimer()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			b.Fatal("the server does not listen")
		}
	}
	b.StopTimer()
	if _, err := get(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, "http://"+addr); err != nil {
		b.Fatal(err)
	}
	resident = residentKiB(cmd.Process.Pid)
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
	b.StartTimer()
	return resident, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

// residentKiB is 0 where the system doesn't tell.
func residentKiB(pid int) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, _ := strconv.Atoi(strings.Fields(rest)[0])
			return n
		}
	}
	return 0
}
