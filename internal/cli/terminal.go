package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/term"
)

// terminal is the person in front of this process.
type terminal interface {
	// Secret asks for one line without showing what is typed. The answer is the caller's to wipe. errInterrupted after
	// Ctrl-C, a signal to end, or the end of ctx; io.EOF after Ctrl-D on an empty line.
	Secret(ctx context.Context, prompt string) ([]byte, error)
	// Hush keeps what is typed between prompts from being shown, until loud is called: that leaves the terminal as it was
	// found, without what was typed and not read. Ctrl-C still interrupts.
	Hush() (loud func() error, err error)
	// Show prints a line that must not land in a file, even where standard output and error are redirected.
	Show(line string) error
}

var (
	errInterrupted = errors.New("interrupted")
	errNoTerminal  = errors.New("standard input is not a terminal, so nobody can be asked")
	errLongLine    = errors.New("the line is too long")
)

// maxLine bounds what is read where a share, a token or an OTP is expected: it is the length of the longest token ID
// that the server lets people choose.
const maxLine = 4096

// tty is the controlling terminal; where it can't be opened by name, standard input and standard error stand in.
type tty struct {
	in, out *os.File
	lines   *lineEnds // in
}

func newTTY(in, out *os.File) *tty { return &tty{in, out, &lineEnds{r: in}} }

// openTerminal fails unless standard input is a terminal: what is piped in must never be taken for a person.
func openTerminal(stdin io.Reader) (terminal, error) {
	in, ok := stdin.(*os.File)
	if !ok || !isTerminal(in) {
		return nil, errNoTerminal
	}
	names := [2]string{"/dev/tty", "/dev/tty"}
	if runtime.GOOS == "windows" {
		names = [2]string{"CONIN$", "CONOUT$"}
	}
	r, err := os.OpenFile(names[0], os.O_RDWR, 0)
	if err != nil {
		return newTTY(in, os.Stderr), nil
	}
	w, err := os.OpenFile(names[1], os.O_RDWR, 0)
	if err != nil {
		r.Close()
		return newTTY(in, os.Stderr), nil
	}
	return newTTY(r, w), nil
}

// Secret implements terminal. The terminal is put into raw mode, so that Ctrl-C arrives as a byte and the echo is
// switched on again in every case.
func (t *tty) Secret(ctx context.Context, prompt string) (line []byte, err error) {
	const eraseLine = "\r\x1b[K"
	ctx, stop := interruptible(ctx)
	defer stop()
	state, err := term.MakeRaw(int(t.in.Fd()))
	if err != nil {
		return nil, err
	}
	defer func() {
		io.WriteString(t.out, eraseLine)
		err = errors.Join(err, term.Restore(int(t.in.Fd()), state))
	}()
	if _, err := io.WriteString(t.out, prompt); err != nil {
		return nil, err
	}
	return t.read(ctx)
}

// read is readLine until ctx ends. Nothing can be read after that: a read that has begun can't be called back.
func (t *tty) read(ctx context.Context) ([]byte, error) {
	type answer struct {
		line []byte
		err  error
	}
	typed := make(chan answer, 1)
	go func() {
		line, err := readLine(t.lines)
		typed <- answer{line, err}
	}()
	select {
	case a := <-typed:
		return a.line, a.err
	case <-ctx.Done():
		return nil, errInterrupted
	}
}

// interruptible ends ctx on the signals that ask a process to end, so that the terminal isn't left without its echo.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
}

func (t *tty) Hush() (loud func() error, err error) { return hush(t.in) }

func (t *tty) Show(line string) error {
	_, err := io.WriteString(t.out, line+"\n")
	return err
}

// lineEnds takes out the line feed that follows a carriage return: a paste may end its lines with both. It reads one
// byte at a time.
type lineEnds struct {
	r        io.Reader
	returned bool // the last byte was a carriage return
}

func (l *lineEnds) Read(b []byte) (int, error) {
	n, err := l.r.Read(b[:1])
	if n == 0 {
		return 0, err
	}
	second := l.returned && b[0] == '\n'
	l.returned = b[0] == '\r'
	if second {
		return 0, err
	}
	return n, err
}

// readLine reads one line byte by byte, so that nothing of the next one is taken, and edits it as a terminal in raw
// mode has to. The line isn't copied on the way and is wiped if it isn't returned.
func readLine(r io.Reader) (line []byte, err error) {
	buf := make([]byte, 0, maxLine)
	defer func() {
		if err != nil {
			clear(buf[:cap(buf)])
		}
	}()
	var b [1]byte
	defer clear(b[:])
	for {
		if n, err := r.Read(b[:]); n == 0 {
			if err == io.EOF && len(buf) > 0 {
				return buf, nil
			}
			if err != nil {
				return nil, err
			}
			continue
		}
		switch b[0] {
		case '\r', '\n':
			return buf, nil
		case 0x03: // Ctrl-C
			return nil, errInterrupted
		case 0x04: // Ctrl-D
			if len(buf) == 0 {
				return nil, io.EOF
			}
			return buf, nil
		case 0x08, 0x7f: // backspace
			if len(buf) > 0 {
				buf[len(buf)-1] = 0
				buf = buf[:len(buf)-1]
			}
		case 0x15: // Ctrl-U
			clear(buf)
			buf = buf[:0]
		default:
			if len(buf) == maxLine {
				return nil, errLongLine
			}
			if b[0] >= ' ' || b[0] == '\t' {
				buf = append(buf, b[0])
			}
		}
	}
}
