package holder

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/secret"
)

// The lengths that a share can have on the wire, in bytes.
const (
	MinShare = 16
	MaxShare = 33
)

// What ParseShare says to a client. Which share it was, and what was in it, is never said.
var (
	ErrNoShare       = fault.New(fault.Invalid, "'key' must be specified in request body as JSON: give one key share")
	ErrShareEncoding = fault.New(fault.Invalid,
		"'key' must be a valid hex or base64 string: give the key share exactly as it was handed out, without spaces")
	ErrShareShort = fault.Newf(fault.Invalid,
		"key is shorter than minimum %d bytes: give the whole key share", MinShare)
	ErrShareLong = fault.Newf(fault.Invalid,
		"key is longer than maximum %d bytes: give one key share and nothing else", MaxShare)
)

// ParseShare decodes the text of one share: the armoured form (what it says of cluster and generation is for the
// holder's side to check); else hex in either case, or, where that fails or isn't MinShare to MaxShare bytes, standard
// base64 with padding. Nothing is trimmed. The text stays the caller's, who wipes it; the share is the caller's to
// wipe as well. The errors are faults of kind Invalid.
func ParseShare(text []byte) (secret.Bytes, error) {
	if len(text) == 0 {
		return secret.Bytes{}, ErrNoShare
	}
	if IsArmoured(text) {
		a, err := ParseArmour(text)
		return a.Share, err
	}
	share := make([]byte, hex.DecodedLen(len(text)))
	n, err := hex.Decode(share, text)
	if err == nil && n >= MinShare && n <= MaxShare {
		return secret.Own(share), nil
	}
	clear(share)
	share, err = decodeBase64(text)
	switch {
	case err != nil:
		return secret.Bytes{}, ErrShareEncoding
	case len(share) < MinShare:
		clear(share)
		return secret.Bytes{}, ErrShareShort
	case len(share) > MaxShare:
		clear(share)
		return secret.Bytes{}, ErrShareLong
	}
	return secret.Own(share), nil
}

// decodeBase64 is strict where the standard decoder is kind: a line break, or a bit set that means nothing, would let
// two texts be the same bytes. What it decoded before an error is wiped.
func decodeBase64(text []byte) ([]byte, error) {
	if bytes.ContainsAny(text, "\r\n") {
		return nil, errors.New("a line break isn't base64")
	}
	b := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(b, text)
	if err != nil {
		clear(b)
		return nil, err
	}
	return b[:n], nil
}
