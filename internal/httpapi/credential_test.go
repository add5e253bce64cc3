package httpapi

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/body"
	"github.com/quorate/quorate/internal/fault"
)

// FuzzCredential: a body is a share, a signature, nothing or a fault; never two things, and no fault repeats any of it.
func FuzzCredential(f *testing.F) {
	share := strings.Repeat("ab", 33)
	signature := base64.StdEncoding.EncodeToString(make([]byte, 64))
	for _, text := range []string{
		`{}`, `{"key":"` + share + `"}`, `{"slot":1,"signature":"` + signature + `"}`, `{"slot":"1","signature":"` + signature + `"}`,
		`{"key":"` + share + `","slot":0}`, `{"key":"","slot":null,"signature":""}`, `{"slot":256,"signature":"` + signature + `"}`,
		`{"signed_at":"2026-11-24T03:00:00.000Z"}`, `{"signed_at":1}`, `{"key":" ` + share + ` "}`,
	} {
		for _, raw := range []bool{false, true} {
			f.Add(text, raw, true)
		}
	}
	f.Fuzz(func(t *testing.T, text string, raw, trim bool) {
		fields, err := body.Decode([]byte(text), raw)
		if err != nil {
			return
		}
		x := &exchange{listener: &Listener{}, fields: fields}
		c, err := x.credential(trim)
		switch {
		case err != nil:
			if fault.As(err) == nil || fault.As(err).Kind != fault.Invalid {
				t.Errorf("%v is no refusal", err)
			}
			if !c.Empty() || c.Slot != 0 {
				t.Error("a credential with an error")
			}
		case !c.Share.Empty() && (len(c.Signature) > 0 || c.Slot != 0):
			t.Error("both")
		case len(c.Signature) > 0 && (len(c.Signature) != 64 || c.Slot < 1 || c.Slot > 255):
			t.Errorf("slot %d, %d bytes", c.Slot, len(c.Signature))
		}
	})
}
