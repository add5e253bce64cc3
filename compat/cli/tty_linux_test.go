package cli

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/compat/harness"
)

// session is the command line at a terminal of its own, where somebody waits for each prompt before they type.
type session struct {
	t              *testing.T
	master, slave  *os.File
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	before         unix.Termios

	mu    sync.Mutex
	more  *sync.Cond
	shown []byte // all that the terminal showed
}

func atTerminal(t *testing.T, address string, args ...string) *session {
	t.Helper()
	s := &session{t: t}
	s.more = sync.NewCond(&s.mu)
	s.open()
	s.before = s.mode()
	go s.watch()
	s.cmd = exec.CommandContext(t.Context(), "quorate", args...)
	s.cmd.Env = []string{"BAO_ADDR=" + address, "HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = s.slave, &s.stdout, &s.stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.t.Cleanup(func() { // for a test that failed
		s.cmd.Process.Kill()
		s.cmd.Wait()
	})
	return s
}

func (s *session) open() {
	s.t.Helper()
	var err error
	if s.master, err = os.OpenFile("/dev/ptmx", os.O_RDWR, 0); err != nil {
		s.t.Skipf("no pseudo-terminals here: %v", err)
	}
	s.t.Cleanup(func() { s.master.Close() })
	if err := unix.IoctlSetPointerInt(int(s.master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		s.t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(s.master.Fd()), unix.TIOCGPTN)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { s.slave.Close() })
}

// mode is whether the terminal echoes, edits lines, and so on.
func (s *session) mode() unix.Termios {
	s.t.Helper()
	m, err := unix.IoctlGetTermios(int(s.slave.Fd()), unix.TCGETS)
	if err != nil {
		s.t.Fatal(err)
	}
	return *m
}

func (s *session) watch() {
	buf := make([]byte, 1024)
	for {
		n, err := s.master.Read(buf)
		s.mu.Lock()
		s.shown = append(s.shown, buf[:n]...)
		s.more.Broadcast()
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// prompted waits until the terminal shows text, for the n-th time.
func (s *session) prompted(text string, n int) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	late := false
	timeout := time.AfterFunc(30*time.Second, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		late = true
		s.more.Broadcast()
	})
	defer timeout.Stop()
	for strings.Count(string(s.shown), text) < n {
		if late {
			s.t.Fatalf("no %q on the terminal:\n%q", text, s.shown)
		}
		s.more.Wait()
	}
}

func (s *session) types(text string) {
	s.t.Helper()
	if _, err := s.master.WriteString(text); err != nil {
		s.t.Fatal(err)
	}
}

// ends waits for the command, and checks that it left the terminal as it was.
func (s *session) ends(code int) (terminal string) {
	s.t.Helper()
	s.cmd.Wait()
	if got := s.cmd.ProcessState.ExitCode(); got != code {
		s.t.Errorf("exit code %d, want %d\n%s", got, code, s.stderr.String())
	}
	if s.mode() != s.before {
		s.t.Error("the terminal was not left as it was found")
	}
	// What is written last is read last: when it is there, all is.
	const last = "<the end>"
	if _, err := s.slave.WriteString(last); err != nil {
		s.t.Fatal(err)
	}
	s.prompted(last, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.TrimSuffix(string(s.shown), last)
}

// What is typed is never shown, in whole or in part, and the prompts are erased after.
func TestTypedSharesAreHidden(t *testing.T) {
	srv := harness.Start(t, harness.Options{Shares: 3, Threshold: 2})
	s := atTerminal(t, srv.URL, "operator", "generate-root")
	s.prompted("key share 1 of 2", 1)
	s.types(srv.Hex(0) + "\r")
	s.prompted("key share 2 of 2", 1)
	s.types(srv.Base64(0) + "\r") // refused: given before
	s.prompted("key share 2 of 2", 2)
	s.types("typo\x15" + srv.Base64(1) + "\r")
	shown := s.ends(0)
	for _, share := range []string{srv.Hex(0), srv.Base64(0), srv.Base64(1)} {
		for i := 0; i+8 <= len(share); i++ {
			if strings.Contains(shown+s.stderr.String()+s.stdout.String(), share[i:i+8]) {
				t.Fatalf("a piece of a share shows:\n%q\n%s", shown, s.stderr.String())
			}
		}
	}
	if strings.Count(shown, "\r\x1b[K") != 3 {
		t.Errorf("prompts are not erased: %q", shown)
	}
	if token := s.stdout.String(); len(token) != 24 || strings.Contains(shown, token) {
		t.Errorf("token %q", token)
	}
}

// Ctrl-C at a prompt: the terminal works again, and it is said how to go on. The OTP is shown there and not on standard error.
func TestInterruptedPrompt(t *testing.T) {
	srv := harness.Start(t, harness.Options{Shares: 3, Threshold: 2})
	s := atTerminal(t, srv.URL, "operator", "generate-root")
	s.prompted("key share 1 of 2", 1)
	s.types("half a share\x03")
	shown := s.ends(1)
	_, otp, ok := strings.Cut(shown, "can't be decoded: ")
	if otp = strings.TrimSpace(otp); !ok || len(otp) != 24 {
		t.Errorf("no OTP on the terminal: %q", shown)
	}
	if text := s.stderr.String(); !strings.Contains(text, "stopped; the attempt stays open: 0 of 2") || strings.Contains(text, otp) {
		t.Errorf("%s", text)
	}
	if s.stdout.Len() > 0 {
		t.Errorf("%s", s.stdout.String())
	}

	// Every other prompt lets go of the terminal too.
	s = atTerminal(t, srv.URL, "login")
	s.prompted("token (will be hidden)", 1)
	s.types("\x03")
	s.ends(1)
}

// Several shares pasted at once are ahead of the prompts. None shows, whatever the lines end with; and what is left over
// when the token is there does not end up in the shell.
func TestPastedShares(t *testing.T) {
	for _, end := range []string{"\r", "\r\n", "\n"} {
		srv := harness.Start(t, harness.Options{Shares: 5, Threshold: 3})
		s := atTerminal(t, srv.URL, "operator", "generate-root")
		s.prompted("key share 1 of 3", 1)
		var paste string
		for i := range 5 {
			paste += srv.Hex(i) + end
		}
		s.types(paste)
		shown := s.ends(0)
		for i := range 5 {
			for at := 0; at+8 <= len(srv.Hex(i)); at++ {
				if strings.Contains(shown, srv.Hex(i)[at:at+8]) {
					t.Fatalf("%q: a piece of share %d shows:\n%q", end, i+1, shown)
				}
			}
		}
		if text := s.stderr.String(); strings.Contains(text, "stopped") || strings.Contains(text, "nothing was given") {
			t.Errorf("%q: %s", end, text)
		}
		if token := s.stdout.String(); len(token) != 24 {
			t.Errorf("token %q", token)
		}
		if n, err := unix.IoctlGetInt(int(s.slave.Fd()), unix.TIOCINQ); n > 0 || err != nil {
			t.Errorf("%q: %d bytes are left for the shell, %v", end, n, err)
		}
	}
}

// A process that is asked to end gives the terminal back, and the attempt's OTP with it.
func TestSignalledPrompt(t *testing.T) {
	srv := harness.Start(t, harness.Options{Shares: 3, Threshold: 2})
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT} {
		s := atTerminal(t, srv.URL, "login")
		s.prompted("token (will be hidden)", 1)
		s.types("half a tok")
		s.cmd.Process.Signal(sig)
		s.ends(1)
		if text := s.stderr.String(); !strings.Contains(text, "interrupted") {
			t.Errorf("%v: %s", sig, text)
		}
	}
	s := atTerminal(t, srv.URL, "operator", "generate-root")
	s.prompted("key share 1 of 2", 1)
	s.cmd.Process.Signal(syscall.SIGTERM)
	if shown := s.ends(1); !strings.Contains(shown, "can't be decoded: ") {
		t.Errorf("no OTP on the terminal: %q", shown)
	}
}

// Between two prompts nothing is echoed, and Ctrl-C still interrupts: a server that doesn't answer holds nobody.
func TestInterruptedRequest(t *testing.T) {
	reached, done := make(chan bool), make(chan bool)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case reached <- true:
			<-r.Context().Done()
		case <-done:
		}
	}))
	defer srv.Close()
	defer close(done)
	s := atTerminal(t, srv.URL, "operator", "generate-root")
	<-reached
	if mode := s.mode(); mode.Lflag&(unix.ECHO|unix.ECHONL) != 0 || mode.Lflag&unix.ISIG == 0 {
		t.Errorf("mode %#x", mode.Lflag)
	}
	s.types("c0ffee\x1c\x1a\x03") // Ctrl-\ and Ctrl-Z would leave the echo off
	if shown := s.ends(2); strings.Contains(shown, "c0ffee") {
		t.Errorf("typed ahead, and shown: %q", shown)
	}
}
