package delivery

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/fault"
)

var epoch = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// refused demands exactly the fault want, of kind Invalid: a client may see it, and it is a 400.
func refused(t *testing.T, err error, want *fault.Error) {
	t.Helper()
	if err == nil {
		t.Fatalf("accepted, want: %v", want)
	}
	if f := fault.As(err); f != want || f.Kind != fault.Invalid {
		t.Fatalf("got error %v, want: %v", err, want)
	}
}

func testMAC(label string, b []byte) []byte {
	h := hmac.New(sha256.New, []byte("a key behind the barrier"))
	h.Write([]byte(label))
	h.Write([]byte{0})
	h.Write(b)
	return h.Sum(nil)
}

func TestFromTokenSendsNothing(t *testing.T) {
	d := FromToken("5f1c")
	encoded, err := d.Encode([]byte("a token that its owner already has"), epoch)
	if err != nil || encoded != "" {
		t.Errorf("Encode = %q, %v, want nothing", encoded, err)
	}
	if got := d.Recipient(testMAC); got != "token:5f1c" {
		t.Errorf("Recipient = %q", got)
	}
}

func TestEncodeRefusesUnknownMode(t *testing.T) {
	for _, d := range []Delivery{{}, {Mode: "carrier pigeon", OTP: make([]byte, OTPLength)}} {
		if encoded, err := d.Encode(make([]byte, OTPLength), epoch); err == nil || encoded != "" {
			t.Errorf("mode %q: Encode = %q, %v, want an error", d.Mode, encoded, err)
		}
	}
}

func TestRecipientHidesTheOTP(t *testing.T) {
	const otp, other = "2vPFYG8gUSW9npwzyvxXMug0", "2vPFYG8gUSW9npwzyvxXMug1"
	a, b := mustOTP(t, otp), mustOTP(t, other)
	got := a.Recipient(testMAC)
	if want := "otp:hmac:" + fmt.Sprintf("%x", testMAC("quorate/v1/delivery/otp", []byte(otp))); got != want {
		t.Errorf("Recipient = %q, want %q", got, want)
	}
	if got == b.Recipient(testMAC) {
		t.Error("two passwords have one recipient: holders could not tell a swap")
	}
	if plain := sha256.Sum256([]byte(otp)); strings.Contains(got, fmt.Sprintf("%x", plain)) {
		t.Error("the recipient holds a plain hash of the password, which can be guessed")
	}
}

func TestRecipientsOfDifferentModesDiffer(t *testing.T) {
	key := newEd25519(t, epoch)
	pgp, err := FromPGP(publicBase64(t, key), epoch)
	if err != nil {
		t.Fatal(err)
	}
	other, err := FromPGP(publicBase64(t, newEd25519(t, epoch)), epoch)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{} // :: recipient → seen
	for _, d := range []Delivery{pgp, other, mustOTP(t, strings.Repeat("x", OTPLength)), FromToken("x"), FromToken("y")} {
		seen[d.Recipient(testMAC)] = true
	}
	if len(seen) != 5 {
		t.Errorf("5 deliveries have %d recipients", len(seen))
	}
}

// The kept key enters the digest, not only its fingerprint: the same primary key with another subkey is another
// recipient.
func TestRecipientBindsTheWholeKey(t *testing.T) {
	d := Delivery{Mode: PGP, PGPKey: []byte("one"), Fingerprint: "f00d"}
	e := Delivery{Mode: PGP, PGPKey: []byte("two"), Fingerprint: "f00d"}
	if d.Recipient(testMAC) == e.Recipient(testMAC) {
		t.Error("one fingerprint with two subkeys is one recipient")
	}
}

func TestWipe(t *testing.T) {
	d := mustOTP(t, strings.Repeat("s", OTPLength))
	held := d.OTP
	d.Wipe()
	if !bytes.Equal(held, make([]byte, OTPLength)) || d.OTP != nil {
		t.Error("the password is still there")
	}
	d.Wipe() // twice is fine
}

func TestStoredFormComesBack(t *testing.T) {
	pgp, err := FromPGP(publicBase64(t, newEd25519(t, epoch)), epoch)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []Delivery{mustOTP(t, "2vPFYG8gUSW9npwzyvxXMug0"), FromToken("5f1c"), pgp} {
		b, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var back Delivery
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		again, _ := json.Marshal(back)
		if !bytes.Equal(b, again) || back.Recipient(testMAC) != d.Recipient(testMAC) {
			t.Errorf("%s came back as %s", b, again)
		}
	}
}

func TestPrintsNoPassword(t *testing.T) {
	const otp = "2vPFYG8gUSW9npwzyvxXMug0"
	d := mustOTP(t, otp)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "d", d, "p", &d)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "d", d, "p", &d)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		fmt.Fprintf(&log, verb+" "+verb+" "+verb, d, &d, struct{ D Delivery }{d})
	}
	for _, form := range []string{otp, fmt.Sprintf("%x", otp), fmt.Sprintf("%X", otp), "MnZQRllHOGdVU1c5", "50 118 80 70"} {
		if strings.Contains(log.String(), form) {
			t.Errorf("the password was printed as %s", form)
		}
	}
	if !strings.Contains(log.String(), "delivery by otp") {
		t.Error("nothing was printed at all: the test is blind")
	}
}
