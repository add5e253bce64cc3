package audit

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/secret"
)

// theTime is what the clock says.
var theTime = time.Date(2026, 11, 24, 3, 0, 0, 123456789, time.UTC)

// buffer is an output that many may write to, and that can be read meanwhile.
type buffer struct {
	mu  sync.Mutex
	b   bytes.Buffer
	err error // what Write answers
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return 0, b.err
	}
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (b *buffer) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

// rig is a Broker with its surroundings: a folder for files, an output and a log.
type rig struct {
	*Broker
	dir string
	out *buffer
	log *buffer
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{dir: t.TempDir(), out: &buffer{}, log: &buffer{}}
	r.Broker = New(Options{
		Logger: slog.New(slog.NewTextHandler(r.log, nil)),
		Now:    func() time.Time { return theTime },
		Stdout: r.out, Dir: r.dir,
	})
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) unseal() { r.SetKey(secret.Own(bytes.Repeat([]byte{7}, 32))) }

func (r *rig) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func stdout(path string) Device { return Device{Path: path, Type: "stdout"} }

func fileDevice(path, file string, options ...string) Device {
	d := Device{Path: path, Type: "file", Options: map[string]string{"file_path": file}}
	for _, o := range options {
		k, v, _ := strings.Cut(o, "=")
		d.Options[k] = v
	}
	return d
}

func mustWrite(t *testing.T, b *Broker, e *Entry) {
	t.Helper()
	if err := b.Write(t.Context(), e); err != nil {
		t.Fatal(err)
	}
}

// ask is an entry of a path.
func ask(path string) *Entry {
	return &Entry{Type: "request", Time: theTime, Request: Request{Operation: "read", Path: path}}
}

// paths returns request.path of every line; each must be whole.
func paths(t *testing.T, text string) (list []string) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	for {
		var e struct{ Request struct{ Path string } }
		if err := dec.Decode(&e); err == io.EOF {
			return list
		} else if err != nil {
			t.Fatalf("%v in %q", err, text)
		}
		list = append(list, e.Request.Path)
	}
}

func wantFault(t *testing.T, err error, kind fault.Kind, part string) {
	t.Helper()
	if f := fault.As(err); f == nil || f.Kind != kind || !strings.Contains(f.Sentence, part) {
		t.Errorf("error %v, want a fault of kind %d about %q", err, kind, part)
	}
}
