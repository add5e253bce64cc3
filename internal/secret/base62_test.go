package secret

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"
)

func TestAppendBase62(t *testing.T) {
	got := string(AppendBase62([]byte("q."), rand.Reader, 1000))
	if len(got) != 1002 || !strings.HasPrefix(got, "q.") || strings.Trim(got[2:], Base62) != "" {
		t.Errorf("%d characters: %q", len(got), got)
	}
	for _, c := range Base62 {
		if !strings.ContainsRune(got, c) {
			t.Errorf("%c is never used", c)
		}
	}
	// 248 and above would favour the first eight characters.
	unfair := append(bytes.Repeat([]byte{248, 255}, 24), bytes.Repeat([]byte{247}, 48)...)
	if got := AppendBase62(nil, bytes.NewReader(unfair), 3); string(got) != "zzz" {
		t.Errorf("%q", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("went on without randomness")
		}
	}()
	AppendBase62(nil, bytes.NewReader(make([]byte, 47)), 1)
}
