package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/transcript"
)

// A file that can't be read is said to be, and doesn't stay: the next mark takes its place.
func TestMarkFile(t *testing.T) {
	f := fileMark(filepath.Join(t.TempDir(), markFile))
	if m, found, err := f.Load(); found || err != nil || m != (transcript.Mark{}) {
		t.Errorf("before the first: %+v, %v, %v", m, found, err)
	}
	want := transcript.Mark{Size: 7, Root: [32]byte{1, 2, 3}, Generation: 2}
	keep := func() string {
		t.Helper()
		if err := f.Save(want); err != nil {
			t.Fatal(err)
		}
		m, found, err := f.Load()
		if m != want || !found || err != nil {
			t.Fatalf("%+v, %v, %v", m, found, err)
		}
		text, err := os.ReadFile(string(f))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	good := keep()
	for _, damaged := range []string{
		"", "{}", "null", good[:len(good)/2], good[1:], strings.Replace(good, "7", "-7", 1), strings.Replace(good, `"root":"A`, `"root":"`, 1), "\x00" + good,
	} {
		if err := os.WriteFile(string(f), []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if m, found, err := f.Load(); err == nil || found || m != (transcript.Mark{}) {
			t.Errorf("%q: %+v, %v, %v", damaged, m, found, err)
		}
		keep()
	}
}
