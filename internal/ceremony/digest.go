package ceremony

import (
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"time"
)

// attemptLabel separates an attempt's digest from everything else that is hashed.
const attemptLabel = "quorate/v1/attempt"

// wordList is the English list of BIP 39, as published with its reference implementation under the MIT licence: 2048
// words that differ within their first four letters.
//
//go:embed words.txt
var wordList string

// Digest is what holders sign: SHA-256 over what an attempt will do, for whom and why. Its text is lower-case hex.
type Digest [sha256.Size]byte

// Hex is the text of d.
func (d Digest) Hex() string { return hex.EncodeToString(d[:]) }

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.Hex()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(d) {
		return errors.New("a digest must be 64 hex digits")
	}
	*d = Digest(b)
	return nil
}

// Words are the first 88 bits of d as eight words, for people who compare digests by voice.
func (d Digest) Words() []string {
	list := strings.Fields(wordList)
	words := make([]string, 8)
	for i := range words {
		// The eleven bits from bit 11i on lie in the three bytes from the one with the first of them.
		at := 11 * i
		three := uint(d[at/8])<<16 | uint(d[at/8+1])<<8 | uint(d[at/8+2])
		words[i] = list[three>>(13-at%8)&2047]
	}
	return words
}

// ComputeDigest makes the digest of what a's fields say, approvals, objections and outcome excepted. It is what a
// client trusts, and not a.Digest. What is hashed must not be guessable where it is secret: see Params.Recipient.
func (a *Attempt) ComputeDigest() Digest {
	var e encoder
	e.text(attemptLabel)
	e.text(a.ClusterID)
	e.number(a.Generation)
	e.text(string(a.Kind))
	e.text(a.Nonce)
	e.number(uint64(a.Threshold))
	e.number(uint64(a.Holders))
	e.parameters(a.Parameters)
	e.text(a.Recipient)
	e.text(string(a.Initiator.By))
	e.text(a.Initiator.Token)
	e.number(uint64(a.Initiator.Slot))
	e.flag(a.Initiator.Connection)
	e.text(a.Reason)
	e.time(a.Started)
	e.time(a.Expires)
	e.duration(a.Limits.Unapproved)
	e.duration(a.Limits.Idle)
	return sha256.Sum256(e)
}

// encoder builds the canonical encoding: each field as a length of four bytes and its bytes, numbers eight bytes
// long, times and durations in milliseconds, everything big-endian. No two sequences of fields have the same bytes.
type encoder []byte

func (e *encoder) text(s string) {
	*e = binary.BigEndian.AppendUint32(*e, uint32(len(s)))
	*e = append(*e, s...)
}

func (e *encoder) number(n uint64) {
	*e = binary.BigEndian.AppendUint32(*e, 8)
	*e = binary.BigEndian.AppendUint64(*e, n)
}

func (e *encoder) flag(b bool) {
	if b {
		e.number(1)
	} else {
		e.number(0)
	}
}

func (e *encoder) time(t time.Time)         { e.number(uint64(t.UnixMilli())) }
func (e *encoder) duration(d time.Duration) { e.number(uint64(d.Milliseconds())) }

// parameters puts their number first, so that none of them can pass for the field behind them.
func (e *encoder) parameters(list []Parameter) {
	e.number(uint64(len(list)))
	for _, p := range list {
		e.text(p.Name)
		e.text(p.Value)
	}
}
