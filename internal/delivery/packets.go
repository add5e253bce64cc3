package delivery

import (
	"bytes"
	"crypto/rsa"
	"encoding/binary"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// The library that encrypts was made to read what people exchange; this file stands in front of it for what
// strangers send. It walks the packets once and hands on only those that encryption needs, so that no secret key is
// parsed (checking one can take minutes), no compressed data is unpacked, no foreign signature is verified, and
// the number and size of those that remain bound the work.

// Packet types of RFC 9580, section 5.
const (
	tagSignature    = 2
	tagSecretKey    = 5
	tagPublicKey    = 6
	tagSecretSubkey = 7
	tagMarker       = 10
	tagTrust        = 12
	tagUserID       = 13
	tagPublicSubkey = 14
	tagUserAttr     = 17
	tagPadding      = 21
)

// Bounds of what is worked on; a real key stays far below them.
const (
	maxSubkeys    = 32
	maxSignatures = 64 // self-signatures: those of other people are dropped uncounted
	minRSA        = 2048
	maxRSA        = 8192
)

// publicPart returns the packets of the first key in b that encryption needs: public keys, user IDs and the
// signatures that the key made on itself. All errors are faults.
func publicPart(b []byte) ([]byte, error) {
	var s sieve
	for len(b) > 0 {
		tag, body, rest, ok := nextPacket(b)
		if !ok {
			return nil, errPGPPackets
		}
		if isPrimary(tag) && s.primary != nil {
			break // a second key
		}
		if err := s.take(tag, body); err != nil {
			return nil, err
		}
		b = rest
	}
	if s.primary == nil {
		return nil, errPGPPackets
	}
	return s.out.Bytes(), nil
}

// sieve collects the packets that are kept.
type sieve struct {
	out        bytes.Buffer
	primary    *packet.PublicKey
	subkeys    int
	signatures int
	dropping   bool // the signatures that follow belong to something that was dropped
}

// take keeps or drops one packet.
func (s *sieve) take(tag byte, body []byte) error {
	switch tag {
	case tagMarker, tagTrust, tagPadding:
		return nil
	case tagPublicKey, tagSecretKey:
		return s.takePrimary(body)
	}
	if s.primary == nil {
		return errPGPPackets
	}
	switch tag {
	case tagPublicSubkey, tagSecretSubkey:
		return s.takeSubkey(body)
	case tagUserID:
		s.dropping = false
		s.keep(tag, body)
	case tagUserAttr:
		s.dropping = true
	case tagSignature:
		return s.takeSignature(body)
	default:
		return errPGPPackets
	}
	return nil
}

func (s *sieve) takePrimary(body []byte) error {
	key := parsePublic(tagPublicKey, body)
	switch {
	case key == nil:
		return errPGPPackets
	case !acceptable(key):
		return errPGPWeak
	}
	s.primary = key
	return key.Serialize(&s.out)
}

// takeSubkey drops a subkey that could not be used, with its signatures; another one may serve.
func (s *sieve) takeSubkey(body []byte) error {
	if s.subkeys++; s.subkeys > maxSubkeys {
		return errPGPBusy
	}
	key := parsePublic(tagPublicSubkey, body)
	s.dropping = key == nil || !acceptable(key)
	if s.dropping {
		return nil
	}
	return key.Serialize(&s.out)
}

// takeSignature keeps what the primary key says about itself.
func (s *sieve) takeSignature(body []byte) error {
	if s.dropping {
		return nil
	}
	p, err := packet.Read(bytes.NewReader(framed(tagSignature, body)))
	if err != nil {
		return nil // of a kind that the library can't verify either
	}
	sig, ok := p.(*packet.Signature)
	if !ok || !sig.CheckKeyIdOrFingerprint(s.primary) {
		return nil
	}
	if s.signatures++; s.signatures > maxSignatures {
		return errPGPBusy
	}
	s.keep(tagSignature, body)
	return nil
}

func (s *sieve) keep(tag byte, body []byte) { s.out.Write(framed(tag, body)) }

// parsePublic reads the public part that a public or secret key packet begins with; nil when it can't.
func parsePublic(tag byte, body []byte) *packet.PublicKey {
	p, err := packet.Read(bytes.NewReader(framed(tag, body)))
	if err != nil {
		return nil
	}
	key, _ := p.(*packet.PublicKey)
	return key
}

// acceptable bounds the work that one operation with key can cost. DSA and ElGamal are out: their parameters are
// the sender's to choose, and the library refuses to encrypt to them anyway.
func acceptable(key *packet.PublicKey) bool {
	switch key.PubKeyAlgo {
	case packet.PubKeyAlgoDSA, packet.PubKeyAlgoElGamal:
		return false
	}
	if k, ok := key.PublicKey.(*rsa.PublicKey); ok {
		bits := k.N.BitLen()
		return bits >= minRSA-1 && bits <= maxRSA // some generators leave the top bit out
	}
	return true
}

func isPrimary(tag byte) bool { return tag == tagPublicKey || tag == tagSecretKey }

// framed puts a packet header before body (RFC 9580, section 4.2.1, five-octet length).
func framed(tag byte, body []byte) []byte {
	b := make([]byte, 0, 6+len(body))
	b = append(b, 0xc0|tag, 0xff)
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	return append(b, body...)
}

// nextPacket splits the first packet off b (RFC 9580, section 4.2). Lengths that are partial or indeterminate
// don't occur in keys and are refused.
func nextPacket(b []byte) (tag byte, body, rest []byte, ok bool) {
	if len(b) < 2 || b[0]&0x80 == 0 {
		return 0, nil, nil, false
	}
	var size, header int
	if b[0]&0x40 == 0 {
		tag = b[0] & 0x3f >> 2
		size, header = oldLength(b[0]&3, b[1:])
	} else {
		tag = b[0] & 0x3f
		size, header = newLength(b[1:])
	}
	if header == 0 || size < 0 || size > len(b)-1-header {
		return 0, nil, nil, false
	}
	b = b[1+header:]
	return tag, b[:size], b[size:], true
}

// oldLength reads a length of 1, 2 or 4 octets; header is 0 when there is none.
func oldLength(kind byte, b []byte) (size, header int) {
	switch {
	case kind == 0:
		return int(b[0]), 1
	case kind == 1 && len(b) >= 2:
		return int(binary.BigEndian.Uint16(b)), 2
	case kind == 2 && len(b) >= 4:
		return int(binary.BigEndian.Uint32(b)), 4
	}
	return 0, 0
}

// newLength reads a length of 1, 2 or 5 octets; header is 0 when there is none.
func newLength(b []byte) (size, header int) {
	switch first := b[0]; {
	case first < 192:
		return int(first), 1
	case first < 224 && len(b) >= 2:
		return int(first-192)<<8 + int(b[1]) + 192, 2
	case first == 255 && len(b) >= 5:
		return int(binary.BigEndian.Uint32(b[1:])), 5
	}
	return 0, 0
}
