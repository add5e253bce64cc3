package harness

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"testing"
)

func TestCanariesAreFound(t *testing.T) {
	secret := []byte("\x01a secret of some bytes\xff")
	for _, encode := range []func([]byte) string{
		func(b []byte) string { return string(b) }, hex.EncodeToString, base64.StdEncoding.EncodeToString, base64.RawURLEncoding.EncodeToString,
	} {
		for _, before := range []string{"", "x", "xy", "xyz"} {
			text := []byte(encode([]byte(before + string(secret) + "after")))
			found := false
			for _, form := range forms(secret) {
				found = found || bytes.Contains(text, form)
			}
			if !found {
				t.Errorf("not found in %q", text)
			}
		}
	}
}
