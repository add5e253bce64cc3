package harness

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
)

// Canaries are the secrets that a test knows, and looks for where they must not be. :: what it is → its bytes
type Canaries map[string][]byte

// forms are the ways in which b may be written: as it is, in hex, and in base64, of which only the middle is the same
// wherever in a longer text it stands.
func forms(b []byte) [][]byte {
	text := hex.EncodeToString(b)
	all := [][]byte{b, []byte(text), []byte(strings.ToUpper(text))}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			encoded := enc.EncodeToString(append(make([]byte, before), b...))
			all = append(all, []byte(encoded[4:len(encoded)-4]))
		}
	}
	return all
}

// Absent says where in b which canary is.
func (c Canaries) Absent(t testing.TB, where string, b []byte) {
	t.Helper()
	for name, value := range c {
		for i, form := range forms(value) {
			if bytes.Contains(b, form) {
				t.Errorf("%s holds %s, in form %d", where, name, i)
			}
		}
	}
}
