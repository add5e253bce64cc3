package token

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"unicode"
	"unicode/utf8"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
)

const (
	// IDLength is the length of the IDs and accessors made here, in bytes.
	IDLength = 24
	// MinID and MaxID bound an ID that somebody else chose, in characters and bytes.
	MinID, MaxID = 16, 4096

	idStart = "q."

	// Domain separation: an accessor shown as a token must lead nowhere.
	idLabel       = "quorate/v1/token-id\x00"
	accessorLabel = "quorate/v1/token-accessor\x00"
)

var (
	errShortID = fault.Newf(fault.Invalid, "the token ID is under %d characters: choose a long random one", MinID)
	errLongID  = fault.Newf(fault.Invalid, "the token ID is over %d bytes: choose a shorter one", MaxID)
	errOddID   = fault.New(fault.Invalid,
		"the token ID has white space or characters that can't be printed: choose one of letters and digits")
)

// NewID returns a new token ID: "q." and 22 base62 characters, 131 random bits.
func NewID() secret.Bytes {
	return secret.Own(secret.AppendBase62(append(make([]byte, 0, IDLength), idStart...), rand.Reader, IDLength-len(idStart)))
}

func newAccessor() string { return string(secret.AppendBase62(nil, rand.Reader, IDLength)) }

func newRecordID() string { return rand.Text() }

// CheckID refuses an ID that somebody else chose and that is too easy to guess, or can't be carried in a header:
// under 16 characters, over 4096 bytes, with white space or with anything that doesn't print. Errors are faults of
// kind Invalid.
func CheckID(id []byte) error {
	if len(id) > MaxID {
		return errLongID
	}
	for rest := id; len(rest) > 0; {
		c, n := utf8.DecodeRune(rest)
		if c == utf8.RuneError && n == 1 || unicode.IsSpace(c) || !unicode.IsPrint(c) {
			return errOddID
		}
		rest = rest[n:]
	}
	if utf8.RuneCount(id) < MinID {
		return errShortID
	}
	return nil
}

// Seed prepares a store for tokens. It is called once, at init, in the transaction that creates everything else.
func Seed(tx store.Tx) error {
	salt := make([]byte, sha256.Size)
	defer clear(salt)
	rand.Read(salt)
	if err := tx.Put(saltKey, salt); err != nil {
		return err
	}
	return barrier.BumpStamp(tx)
}

func (s *snapshot) idMAC(id []byte) string { return s.mac(idLabel, id) }

func (s *snapshot) accessorMAC(accessor string) string { return s.mac(accessorLabel, []byte(accessor)) }

func (s *snapshot) mac(label string, b []byte) string {
	var sum [sha256.Size]byte
	h := hmac.New(sha256.New, s.salt.Reveal())
	h.Write([]byte(label))
	h.Write(b)
	return hex.EncodeToString(h.Sum(sum[:0]))
}
