package ceremony

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"time"
)

// attemptLabel separates an attempt's digest from everything else that is hashed.
const attemptLabel = "quorate/v1/attempt"

// Digest is what holders sign: SHA-256 over what an attempt will do, for whom and why. Its text is lower-case hex.
type Digest [sha256.Size]byte

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(d) {
		return errors.New("a digest must be 64 hex digits")
	}
	*d = Digest(b)
	return nil
}

// digest hashes the label and the fields in the order below, each as a length of four bytes and its bytes; numbers
// are eight bytes, times milliseconds since 1970, everything big-endian. What is hashed must not be guessable
// where it is secret: see Params.Recipient.
func (a *Attempt) digest() Digest {
	var e encoder
	e.text(attemptLabel)
	e.text(a.ClusterID)
	e.number(a.Generation)
	e.text(string(a.Kind))
	e.text(a.Nonce)
	e.number(uint64(a.Threshold))
	e.text(a.Recipient)
	e.text(string(a.Initiator.By))
	e.text(a.Initiator.Token)
	e.number(uint64(a.Initiator.Slot))
	e.text(a.Reason)
	e.time(a.Started)
	e.time(a.Expires)
	return sha256.Sum256(e)
}

// encoder builds the canonical encoding: no two sequences of fields have the same bytes.
type encoder []byte

func (e *encoder) text(s string) {
	*e = binary.BigEndian.AppendUint32(*e, uint32(len(s)))
	*e = append(*e, s...)
}

func (e *encoder) number(n uint64) {
	*e = binary.BigEndian.AppendUint32(*e, 8)
	*e = binary.BigEndian.AppendUint64(*e, n)
}

func (e *encoder) time(t time.Time) { e.number(uint64(t.UnixMilli())) }
