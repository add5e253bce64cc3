package delivery

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"time"

	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/quorate/quorate/internal/fault"
)

// MaxPGPKey is the largest OpenPGP key accepted, in bytes of its binary form.
const MaxPGPKey = 64 << 10

// maxPGPText leaves room for base64 with line breaks, even of 16 columns.
const maxPGPText = 2 * MaxPGPKey

var (
	errPGPSize     = pgpFault("it is larger than 64 KiB: send a smaller export, as gpg --export-options export-minimal makes it")
	errPGPBase64   = pgpFault("it must be standard base64 of a binary public key, as gpg --export KEY | base64 makes it, without armor")
	errPGPArmor    = pgpFault("it is base64 of an armored key: export it without --armor")
	errPGPPackets  = pgpFault("the data is not an OpenPGP public key: send what gpg --export KEY | base64 makes")
	errPGPWeak     = pgpFault("its algorithm or size is not accepted: use RSA of 2048 to 8192 bits or an elliptic curve")
	errPGPBusy     = pgpFault("it carries too many signatures or subkeys: send a smaller export, as gpg --export-options export-minimal makes it")
	errPGPExpired  = pgpFault("the key, or its subkey for encryption, has expired or is not valid yet: send one that is valid now")
	errPGPRevoked  = pgpFault("the key, or its subkey for encryption, is revoked: send another one")
	errPGPNoTarget = pgpFault("nothing can be encrypted to it: send a key with a valid subkey for encryption")
)

// pgpFault keeps the beginning of the sentence that clients know.
func pgpFault(reason string) *fault.Error {
	return fault.New(fault.Invalid, "error parsing PGP key: "+reason)
}

// FromPGP is the delivery to the owner of an OpenPGP key, given as standard base64 (line breaks tolerated) of its
// binary form. Of several keys the first counts; of a secret key only the public part is kept. A key to which
// nothing can be encrypted at now is refused.
func FromPGP(keyBase64 []byte, now time.Time) (Delivery, error) {
	key, err := decodePGP(keyBase64)
	if err != nil {
		return Delivery{}, err
	}
	trial := make([]byte, OTPLength)
	_, fingerprint, err := encryptTo(key, trial, now)
	if err != nil {
		return Delivery{}, err
	}
	return Delivery{Mode: PGP, PGPKey: key, Fingerprint: fingerprint, Accepted: now}, nil
}

// decodePGP returns the public packets of the first key in keyBase64.
func decodePGP(keyBase64 []byte) ([]byte, error) {
	if len(keyBase64) > maxPGPText {
		return nil, errPGPSize
	}
	key := make([]byte, base64.StdEncoding.DecodedLen(len(keyBase64)))
	n, err := base64.StdEncoding.Decode(key, keyBase64)
	defer clear(key) // it may have been a secret key
	switch {
	case err != nil || n == 0:
		return nil, errPGPBase64
	case n > MaxPGPKey:
		return nil, errPGPSize
	case bytes.HasPrefix(key, []byte("-----BEGIN PGP")):
		return nil, errPGPArmor
	}
	return publicPart(key[:n])
}

// encryptTo encrypts plaintext to the key in the packets that publicPart made.
func encryptTo(public, plaintext []byte, now time.Time) (message []byte, fingerprint string, err error) {
	entity, err := openpgp.ReadEntity(packet.NewReader(bytes.NewReader(public)))
	if err != nil {
		return nil, "", errPGPPackets
	}
	config := &packet.Config{Time: func() time.Time { return now }}
	var buf bytes.Buffer
	w, err := openpgp.Encrypt(&buf, []*openpgp.Entity{entity}, nil, nil, nil, config)
	if err != nil {
		return nil, "", encryptionFault(err)
	}
	if _, err := w.Write(plaintext); err != nil {
		return nil, "", encryptionFault(err)
	}
	if err := w.Close(); err != nil {
		return nil, "", encryptionFault(err)
	}
	return buf.Bytes(), hex.EncodeToString(entity.PrimaryKey.Fingerprint), nil
}

// fingerprint returns that of the primary key in what publicPart made, which begins with it.
func fingerprint(public []byte) string {
	tag, body, _, _ := nextPacket(public)
	return hex.EncodeToString(parsePublic(tag, body).Fingerprint)
}

// encryptionFault tells the reasons apart that the owner of the key can do something about. The library's own text
// holds key IDs, so it goes no further.
func encryptionFault(err error) error {
	var selection pgperrors.ErrEncryptionKeySelection
	var byPointer *pgperrors.ErrEncryptionKeySelection
	if errors.As(err, &byPointer) {
		selection = *byPointer
	} else if !errors.As(err, &selection) {
		return errPGPNoTarget
	}
	for _, cause := range []error{selection.PrimaryKeyErr, selection.EncSelectionErr} {
		switch {
		case errors.Is(cause, pgperrors.ErrKeyExpired):
			return errPGPExpired
		case errors.Is(cause, pgperrors.ErrKeyRevoked):
			return errPGPRevoked
		}
	}
	return errPGPNoTarget
}
