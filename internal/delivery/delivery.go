// Package delivery says to whom the result of a ceremony goes, and encodes it for them: XORed with a one-time
// password, encrypted to an OpenPGP key or to age recipients, or not at all, when the caller's own token becomes the result.
//
// It promises that a recipient who can't receive is refused at the start, by a trial encryption, and that hostile
// keys cost bounded time and memory. It does not promise that the recipient is who they say: a one-time password
// or a key proves nothing but itself.
package delivery

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/fault"
)

// Mode is the way in which a result reaches its recipient.
type Mode string

const (
	OTP   Mode = "otp"   // XORed with a one-time password that the recipient holds
	PGP   Mode = "pgp"   // encrypted to the recipient's OpenPGP key
	Age   Mode = "age"   // encrypted to the recipients' age or SSH keys
	Token Mode = "token" // not sent: the recipient's own token becomes the result
)

// otpLabel separates the MAC of a one-time password from every other use of the same key.
const otpLabel = "quorate/v1/delivery/otp"

var (
	errMode    = errors.New("the delivery has no known mode, or none that encrypts")
	errKeyForm = fault.New(fault.Invalid, "the recipient's key is not in the form in which it is kept: take it from the ceremony as the server gives it")
	errKeyless = fault.New(fault.Invalid, "a recipient of this kind has no public key: compare what was shown at the start instead")
)

// Delivery says to whom a result goes. It holds the one-time password in clear, so it is stored behind the barrier
// only, with its attempt, and prints as its mode alone.
type Delivery struct {
	Mode Mode   `json:"mode"`
	OTP  []byte `json:"otp,omitempty"` // OTPLength bytes
	// PGPKey is the recipient's key as binary packets, public parts only; Fingerprint that of its primary key, in
	// lower-case hex.
	PGPKey      []byte `json:"pgp_key,omitempty"`
	Fingerprint string `json:"pgp_fingerprint,omitempty"`
	// AgeRecipients are public keys in the one spelling of FromAge, in the order in which they were given.
	AgeRecipients []string `json:"age_recipients,omitempty"`
	// Accepted is when the keys passed the trial encryption.
	Accepted time.Time `json:"accepted,omitzero"`
	TokenKey string    `json:"token_key,omitempty"` // HMAC under which the token will be stored
}

// FromToken is the delivery to a caller whose own token becomes the result; tokenKey is the HMAC under which that
// token will be stored, so that the token itself is kept nowhere.
func FromToken(tokenKey string) Delivery { return Delivery{Mode: Token, TokenKey: tokenKey} }

// Encode returns token as the reply carries it: standard base64 without padding for a one-time password, with
// padding of what Encrypt made for OpenPGP and age, nothing where the recipient has the token already.
func (d Delivery) Encode(token []byte, now time.Time) (string, error) {
	switch d.Mode {
	case OTP:
		return encodeOTP(token, d.OTP)
	case PGP, Age:
		message, err := d.Encrypt(token, now)
		return base64.StdEncoding.EncodeToString(message), err
	case Token:
		return "", nil
	}
	return "", errMode
}

// Encrypt returns plaintext as a binary OpenPGP message or age file; a delivery of another mode has no key for that. A
// PGP key that has expired since it was accepted still serves: its owner can read the message, and a quorum must not
// be spent in vain.
func (d Delivery) Encrypt(plaintext []byte, now time.Time) ([]byte, error) {
	switch d.Mode {
	case PGP:
		message, _, err := encryptTo(d.PGPKey, plaintext, now)
		if err != nil && !d.Accepted.IsZero() {
			message, _, err = encryptTo(d.PGPKey, plaintext, d.Accepted)
		}
		return message, err
	case Age:
		_, keys, err := readAge(d.Key())
		if err != nil {
			return nil, err
		}
		return encryptAge(keys, plaintext)
	}
	return nil, errMode
}

// Key is the whole public key of the recipient, so that a holder's own client can check what Recipient names: standard
// base64 of the binary OpenPGP key, or the age recipients, one a line; else "".
func (d Delivery) Key() string {
	switch d.Mode {
	case PGP:
		return base64.StdEncoding.EncodeToString(d.PGPKey)
	case Age:
		return strings.Join(d.AgeRecipients, "\n")
	}
	return ""
}

// Recipient is what enters the attempt's digest: it names the recipient without giving away anything that could be
// guessed from it. mac is a MAC under a key kept behind the barrier, with a label that says what for.
func (d Delivery) Recipient(mac func(label string, b []byte) []byte) string {
	switch d.Mode {
	case OTP:
		return "otp:hmac:" + hex.EncodeToString(mac(otpLabel, d.OTP))
	case PGP:
		return pgpRecipient(d.PGPKey, d.Fingerprint)
	case Age:
		return ageRecipient(d.Key())
	}
	return string(d.Mode) + ":" + d.TokenKey
}

// RecipientOf is what Recipient returns for the delivery by mode to key, computed from nothing but the key: a client
// need not trust the server's word. key must be spelt as Key spells it. Errors are faults.
func RecipientOf(mode Mode, key string) (string, error) {
	switch mode {
	case PGP:
		public, err := decodePGP([]byte(key))
		if err != nil {
			return "", err
		}
		if base64.StdEncoding.EncodeToString(public) != key {
			return "", errKeyForm
		}
		return pgpRecipient(public, fingerprint(public)), nil
	case Age:
		list, _, err := readAge(key)
		if err != nil {
			return "", err
		}
		if strings.Join(list, "\n") != key {
			return "", errKeyForm
		}
		return ageRecipient(key), nil
	}
	return "", errKeyless
}

func pgpRecipient(key []byte, fingerprint string) string {
	sum := sha256.Sum256(key)
	return string(PGP) + ":" + fingerprint + ":" + hex.EncodeToString(sum[:])
}

func ageRecipient(key string) string {
	sum := sha256.Sum256([]byte(key))
	return string(Age) + ":" + hex.EncodeToString(sum[:])
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
