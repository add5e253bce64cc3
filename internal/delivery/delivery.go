// Package delivery says to whom the result of a ceremony goes, and encodes it for them: XORed with a one-time
// password, encrypted to an OpenPGP key, or not at all, when the caller's own token becomes the result.
//
// It promises that a recipient who can't receive is refused at the start, by a trial encryption, and that hostile
// keys cost bounded time and memory. It does not promise that the recipient is who they say: a one-time password
// or a key proves nothing but itself.
package delivery

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// Mode is the way in which a result reaches its recipient.
type Mode string

const (
	OTP   Mode = "otp"   // XORed with a one-time password that the recipient holds
	PGP   Mode = "pgp"   // encrypted to the recipient's OpenPGP key
	Token Mode = "token" // not sent: the recipient's own token becomes the result
)

// otpLabel separates the MAC of a one-time password from every other use of the same key.
const otpLabel = "quorate/v1/delivery/otp"

// Delivery says to whom a result goes. It holds the one-time password in clear, so it is stored behind the barrier
// only, with its attempt, and prints as its mode alone.
type Delivery struct {
	Mode Mode   `json:"mode"`
	OTP  []byte `json:"otp,omitempty"` // OTPLength bytes
	// PGPKey is the recipient's key as binary packets, public parts only; Fingerprint that of its primary key, in
	// lower-case hex.
	PGPKey      []byte `json:"pgp_key,omitempty"`
	Fingerprint string `json:"pgp_fingerprint,omitempty"`
	// Accepted is when PGPKey passed the trial encryption.
	Accepted time.Time `json:"accepted,omitzero"`
	TokenKey string    `json:"token_key,omitempty"` // HMAC under which the token will be stored
}

// FromToken is the delivery to a caller whose own token becomes the result; tokenKey is the HMAC under which that
// token will be stored, so that the token itself is kept nowhere.
func FromToken(tokenKey string) Delivery { return Delivery{Mode: Token, TokenKey: tokenKey} }

// Encode returns token as the reply carries it: standard base64 without padding for a one-time password, with
// padding for OpenPGP, nothing where the recipient has the token already. A PGP key that has
// expired since it was accepted still serves: its owner can read the message, and a quorum must not be spent in vain.
func (d Delivery) Encode(token []byte, now time.Time) (string, error) {
	switch d.Mode {
	case OTP:
		return encodeOTP(token, d.OTP)
	case PGP:
		return encodePGP(d, token, now)
	case Token:
		return "", nil
	}
	return "", errors.New("the delivery has no known mode")
}

// Recipient is what enters the attempt's digest: it names the recipient without giving away anything that could be
// guessed from it. mac is a MAC under a key kept behind the barrier, with a label that says what for.
func (d Delivery) Recipient(mac func(label string, b []byte) []byte) string {
	switch d.Mode {
	case OTP:
		return "otp:hmac:" + hex.EncodeToString(mac(otpLabel, d.OTP))
	case PGP:
		sum := sha256.Sum256(d.PGPKey)
		return "pgp:" + d.Fingerprint + ":" + hex.EncodeToString(sum[:])
	}
	return string(d.Mode) + ":" + d.TokenKey
}

// Wipe overwrites the one-time password and forgets it.
func (d *Delivery) Wipe() {
	clear(d.OTP)
	d.OTP = nil
}

// Format implements fmt.Formatter: every verb prints the mode and nothing else.
func (d Delivery) Format(f fmt.State, _ rune) { io.WriteString(f, d.summary()) }

// LogValue implements slog.LogValuer.
func (d Delivery) LogValue() slog.Value { return slog.StringValue(d.summary()) }

func (d Delivery) summary() string { return "delivery by " + string(d.Mode) }
