package delivery

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"io"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/secret"
)

// OTPLength is the length of a one-time password in bytes: that of a root token, which is XORed with it.
const OTPLength = 24

var (
	errOTPLength   = fault.Newf(fault.Invalid, "the OTP has the wrong length: give exactly %d characters (otp_length), or leave it out and the server makes one", OTPLength)
	errOTPText     = fault.New(fault.Invalid, "the OTP must be of printable ASCII characters: leave it out and the server makes one")
	errDecodeEmpty = fault.New(fault.Invalid, "both the encoded token and the OTP must be given")
	errDecodeText  = fault.New(fault.Invalid, "the encoded token must be standard base64 without padding, as the server gave it")
	errDecodeOTP   = fault.New(fault.Invalid, "the OTP and the encoded token have different lengths: give the OTP of this attempt")
)

// NewOTP returns a one-time password of OTPLength base62 characters, each as likely as any other. rand is
// crypto/rand.Reader outside tests, which can't fail; a source that does fail panics, because no password is
// better than a weak one.
func NewOTP(rand io.Reader) []byte {
	return secret.AppendBase62(make([]byte, 0, OTPLength), rand, OTPLength)
}

// FromOTP is the delivery to whoever holds otp, of which it keeps a copy. The length is counted in bytes; the
// alphabet is free as far as it prints, since people read these aloud.
func FromOTP(otp []byte) (Delivery, error) {
	if len(otp) != OTPLength {
		return Delivery{}, errOTPLength
	}
	for _, b := range otp {
		if b < ' ' || b > '~' {
			return Delivery{}, errOTPText
		}
	}
	return Delivery{Mode: OTP, OTP: append([]byte(nil), otp...)}, nil
}

// Decode undoes the encoding with a one-time password; the lengths are free as long as they fit each other. The
// caller owns the token, and wipes it.
func Decode(encoded, otp []byte) ([]byte, error) {
	if len(encoded) == 0 || len(otp) == 0 {
		return nil, errDecodeEmpty
	}
	for _, b := range encoded {
		if b == '\r' || b == '\n' { // the decoder would skip them
			return nil, errDecodeText
		}
	}
	token := make([]byte, base64.RawStdEncoding.DecodedLen(len(encoded)))
	n, err := base64.RawStdEncoding.Strict().Decode(token, encoded)
	if err != nil {
		return nil, errDecodeText
	}
	if n != len(otp) {
		return nil, errDecodeOTP
	}
	subtle.XORBytes(token, token[:n], otp)
	return token[:n], nil
}

// encodeOTP XORs token with otp, both of one length.
func encodeOTP(token, otp []byte) (string, error) {
	if len(token) == 0 || len(token) != len(otp) {
		return "", errors.New("the token and its one-time password have different lengths")
	}
	masked := make([]byte, len(token))
	subtle.XORBytes(masked, token, otp)
	return base64.RawStdEncoding.EncodeToString(masked), nil
}
