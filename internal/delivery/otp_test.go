package delivery

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/quorate/quorate/internal/fault"
)

func mustOTP(t *testing.T, otp string) Delivery {
	t.Helper()
	d, err := FromOTP([]byte(otp))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The worked examples of wire reference 3.7, which were checked against other servers of this family.
var worked = []struct{ token, otp, encoded string }{
	{"s.ABCDEFGHIJKLMNOPQRSTUVWX", "2vPFYG8gUSW9npwzyvxXMug0Ab", "QVgRBBoDfSESGx5zJTw6NDYmKQoeITJmFjo"},
	{"hvs.ABCDEFGHIJKLMNOPQRSTUVWX", "2vPFYG8gUSW9npwzyvxXMug0AbCd", "WgAjaBgFeyMQFRBxJzo8NjQ4NwgcJzRkFDQUPA"},
}

func TestWorkedExamples(t *testing.T) {
	for _, w := range worked {
		d := Delivery{Mode: OTP, OTP: []byte(w.otp)}
		if got, err := d.Encode([]byte(w.token), epoch); err != nil || got != w.encoded {
			t.Errorf("Encode(%s) = %q, %v, want %q", w.token, got, err, w.encoded)
		}
		if got, err := Decode([]byte(w.encoded), []byte(w.otp)); err != nil || string(got) != w.token {
			t.Errorf("Decode(%s) = %q, %v, want %q", w.encoded, got, err, w.token)
		}
	}
}

func TestEncodingOfOurTokensNeedsNoPadding(t *testing.T) {
	d := mustOTP(t, string(NewOTP(rand.NewChaCha8([32]byte{1}))))
	const token = "q.ABCDEFGHIJKLMNOPQRSTUV"
	encoded, err := d.Encode([]byte(token), epoch)
	if err != nil || len(encoded) != 32 {
		t.Fatalf("Encode = %q, %v, want 32 characters", encoded, err)
	}
	if _, err := base64.StdEncoding.DecodeString(encoded); err != nil {
		t.Errorf("a client that wants padding can't decode it: %v", err)
	}
	if got, err := Decode([]byte(encoded), d.OTP); err != nil || string(got) != token {
		t.Errorf("Decode = %q, %v", got, err)
	}
}

func TestEncodeRefusesTokenOfOtherLength(t *testing.T) {
	d := mustOTP(t, strings.Repeat("o", OTPLength))
	for _, n := range []int{0, OTPLength - 1, OTPLength + 1} {
		encoded, err := d.Encode(make([]byte, n), epoch)
		if err == nil || encoded != "" {
			t.Errorf("%d bytes: Encode = %q, %v, want an error: half a token would be in clear", n, encoded, err)
		}
		if fault.As(err) != nil {
			t.Errorf("%d bytes: the client would be told about a fault of ours: %v", n, err)
		}
	}
}

func TestNewOTP(t *testing.T) {
	source := rand.NewChaCha8([32]byte{2})
	counts := map[byte]int{} // :: character → how often
	const rounds = 4000
	for range rounds {
		otp := NewOTP(source)
		if len(otp) != OTPLength {
			t.Fatalf("%d characters", len(otp))
		}
		if _, err := FromOTP(otp); err != nil {
			t.Fatalf("our own password is refused: %v", err)
		}
		for _, c := range otp {
			counts[c]++
		}
	}
	if len(counts) != 62 {
		t.Errorf("%d different characters, want 62", len(counts))
	}
	// Chi-square with 61 degrees of freedom: 120 is beyond the 99.999 % quantile. A plain remainder of 256 by 62
	// gives about 6,700 here.
	expected := float64(rounds*OTPLength) / 62
	var chi float64
	for _, n := range counts {
		chi += (float64(n) - expected) * (float64(n) - expected) / expected
	}
	if chi > 120 {
		t.Errorf("chi-square %.0f: some characters are favoured", chi)
	}
}

func TestNewOTPRejectsUnfairBytes(t *testing.T) {
	unfair := bytes.Repeat([]byte{248, 255}, 200)
	fair := bytes.Repeat([]byte{0, 61, 62, 247}, 30)
	got := NewOTP(io.MultiReader(bytes.NewReader(unfair[:96]), bytes.NewReader(fair)))
	if want := strings.Repeat("0z0z", 6); string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestNewOTPNeverReturnsAWeakOne(t *testing.T) {
	for name, r := range map[string]io.Reader{
		"empty":   strings.NewReader(""),
		"short":   strings.NewReader("too short"),
		"failing": iotest.ErrReader(errors.New("no entropy")),
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("a password came out of a source that failed")
				}
			}()
			NewOTP(r)
		})
	}
}

func TestFromOTPKeepsACopy(t *testing.T) {
	given := []byte("2vPFYG8gUSW9npwzyvxXMug0")
	d, err := FromOTP(given)
	if err != nil {
		t.Fatal(err)
	}
	clear(given)
	if string(d.OTP) != "2vPFYG8gUSW9npwzyvxXMug0" || d.Mode != OTP {
		t.Error("wiping the request's buffer wiped the attempt's password")
	}
}

// T34: an OTP of the wrong length or alphabet is a 400.
func TestFromOTPRefuses(t *testing.T) {
	short, text := errOTPLength, errOTPText
	for name, c := range map[string]struct {
		otp  string
		want *fault.Error
	}{
		"empty":                   {"", short},
		"one short":               {strings.Repeat("a", 23), short},
		"one long":                {strings.Repeat("a", 25), short},
		"for tokens of 26":        {"2vPFYG8gUSW9npwzyvxXMug0Ab", short},
		"24 letters but 25 bytes": {strings.Repeat("a", 23) + "é", short},
		"10 MB":                   {strings.Repeat("a", 10<<20), short},
		"24 bytes of UTF-8":       {strings.Repeat("é", 12), text},
		"24 bytes not UTF-8":      {strings.Repeat("\xff", 24), text},
		"NUL":                     {strings.Repeat("a", 23) + "\x00", text},
		"line break":              {strings.Repeat("a", 23) + "\n", text},
		"DEL":                     {"\x7f" + strings.Repeat("a", 23), text},
	} {
		d, err := FromOTP([]byte(c.otp))
		if d.OTP != nil || d.Mode != "" {
			t.Errorf("%s: a delivery came with the refusal", name)
		}
		refused(t, err, c.want)
	}
}

// T37: decode-token with wrong lengths, padding and junk is a 400 and no panic.
func TestDecodeRefuses(t *testing.T) {
	w := worked[0]
	for name, c := range map[string]struct {
		encoded, otp string
		want         *fault.Error
	}{
		"nothing":               {"", "", errDecodeEmpty},
		"no OTP":                {w.encoded, "", errDecodeEmpty},
		"no token":              {"", w.otp, errDecodeEmpty},
		"OTP one short":         {w.encoded, w.otp[1:], errDecodeOTP},
		"OTP one long":          {w.encoded, w.otp + "x", errDecodeOTP},
		"token two short":       {w.encoded[:32], w.otp, errDecodeOTP},
		"padded":                {w.encoded + "=", w.otp, errDecodeText},
		"impossible length":     {w.encoded[:33], w.otp, errDecodeText},
		"url-safe":              {strings.Repeat("-_", 16), strings.Repeat("o", 24), errDecodeText},
		"hex":                   {"zz", "o", errDecodeText},
		"space":                 {" " + w.encoded, w.otp, errDecodeText},
		"line break":            {w.encoded + "\n", w.otp, errDecodeText},
		"line break inside":     {w.encoded[:8] + "\r\n" + w.encoded[8:], w.otp, errDecodeText},
		"loose bits at the end": {w.encoded[:34] + "p", w.otp, errDecodeText},
		"not ASCII":             {"é", "o", errDecodeText},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Decode([]byte(c.encoded), []byte(c.otp))
			refused(t, err, c.want)
			if got != nil {
				t.Errorf("bytes came with the refusal: %d", len(got))
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	for _, w := range worked {
		f.Add([]byte(w.encoded), []byte(w.otp))
		f.Add([]byte(w.encoded+"="), []byte(w.otp))
		f.Add([]byte(w.encoded), []byte(w.otp[1:]))
	}
	f.Add([]byte("FPzkNBvwNDeFh4SmGA8c+w=="), []byte("2vPFYG8gUSW9npwzyvxXMug0"))
	f.Add([]byte(""), []byte(""))
	f.Add([]byte("AA\n"), []byte("x"))
	f.Fuzz(func(t *testing.T, encoded, otp []byte) {
		token, err := Decode(encoded, otp)
		if err != nil {
			if fault.As(err) == nil || fault.As(err).Kind != fault.Invalid || token != nil {
				t.Fatalf("a refusal that isn't one: %v", err)
			}
			return
		}
		again, err := encodeOTP(token, otp)
		if err != nil || again != string(encoded) {
			t.Fatalf("%q decodes, but encodes to %q, %v", encoded, again, err)
		}
	})
}
