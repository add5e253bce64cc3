// Package holder knows what a key holder has and proves: the text of a share, the holder key that is derived from it,
// the verifier that the server keeps, and the statements that are signed with it. docs/signatures.md describes the
// formats for whoever writes a client.
//
// It promises that a signature binds one action, cluster, generation, slot, mode and digest, and can never stand for
// another; and that a share's text has one meaning. It does not know which shares belong to a generation: package
// seal does. It can't wipe the copies of a key that the standard library's Ed25519 may keep until the garbage
// collector takes them.
package holder

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/quorate/quorate/internal/secret"
)

// Labels that keep keys and signatures of different purposes apart.
const (
	keyLabel       = "quorate/holder-key/v1/" // and the generation, in decimal
	statementLabel = "quorate/v1/"            // and the action
)

// SignatureSize is the length of a holder's signature in bytes.
const SignatureSize = ed25519.SignatureSize

// Verifier is the public half of a holder key, an Ed25519 public key. Its text is standard base64.
type Verifier [ed25519.PublicKeySize]byte

// MarshalText implements encoding.TextMarshaler.
func (v Verifier) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, v[:]), nil
}

// UnmarshalText implements encoding.TextUnmarshaler. It takes only what MarshalText makes.
func (v *Verifier) UnmarshalText(text []byte) error {
	b, err := decodeBase64(text)
	if err != nil || len(b) != len(v) {
		return errors.New("a verifier must be 32 bytes in standard base64")
	}
	*v = Verifier(b)
	return nil
}

// Action is what a holder consents to.
type Action string

const (
	ActionApprove Action = "approve" // an attempt
	ActionStart   Action = "start"   // an attempt
	ActionCancel  Action = "cancel"  // an attempt
	ActionProve   Action = "prove"   // possession of a new share
	ActionDrill   Action = "drill"   // an exercise
	ActionUnseal  Action = "unseal"  // a server
)

// Mode says where a signature was made.
type Mode string

const (
	ModeShare     Mode = "share"     // by the server, from a share that the holder sent
	ModeSignature Mode = "signature" // by the holder, whose share stayed at home
)

// Statement is what a holder signs: everything that a consent depends on.
type Statement struct {
	Action     Action
	ClusterID  string
	Generation uint64
	Slot       int
	Mode       Mode
	Digest     [32]byte // of what the action is about; for an attempt, its digest
}

// encode returns the signed bytes: label, cluster ID, generation, slot, mode and digest, each as a length of four
// bytes and its bytes; numbers are eight bytes long, and everything is big-endian.
func (s Statement) encode() []byte {
	b := appendField(nil, []byte(statementLabel+string(s.Action)))
	b = appendField(b, []byte(s.ClusterID))
	b = appendField(b, binary.BigEndian.AppendUint64(nil, s.Generation))
	b = appendField(b, binary.BigEndian.AppendUint64(nil, uint64(s.Slot)))
	b = appendField(b, []byte(s.Mode))
	return appendField(b, s.Digest[:])
}

func appendField(b, field []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(field))), field...)
}

// Verify reports whether sig is the signature of v's holder under s.
func Verify(v Verifier, s Statement, sig []byte) bool {
	// Thirty-two zero bytes are a point of small order, for which anyone can make signatures: an unset verifier must
	// not be a key.
	if v == (Verifier{}) {
		return false
	}
	return ed25519.Verify(v[:], s.encode(), sig)
}

// Key is a holder key.
type Key struct {
	private  secret.Bytes // an ed25519.PrivateKey
	verifier Verifier
}

// Derive makes the holder key of a share: the Ed25519 key whose seed is HKDF-SHA256 (RFC 5869) of the share, with the
// cluster ID's text as salt and the generation in the info. The caller still owns the share, and wipes both.
func Derive(share secret.Bytes, clusterID string, generation uint64) *Key {
	info := keyLabel + strconv.FormatUint(generation, 10)
	seed, err := hkdf.Key(sha256.New, share.Reveal(), []byte(clusterID), info, ed25519.SeedSize)
	if err != nil { // only where FIPS 140 mode is enforced, for a share shorter than any that ParseShare returns
		panic(fmt.Sprintf("deriving a holder key: %v", err))
	}
	defer clear(seed)
	private := ed25519.NewKeyFromSeed(seed)
	return &Key{
		private:  secret.Own(private),
		verifier: Verifier(private.Public().(ed25519.PublicKey)),
	}
}

// Verifier is the public half of k; it outlives Wipe.
func (k *Key) Verifier() Verifier { return k.verifier }

// Sign signs s; the signature has SignatureSize bytes. A wiped key signs nothing that its verifier accepts.
func (k *Key) Sign(s Statement) []byte {
	return ed25519.Sign(k.private.Reveal(), s.encode())
}

// Wipe overwrites the private half.
func (k *Key) Wipe() { k.private.Wipe() }
