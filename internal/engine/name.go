package engine

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

const maxName = 128 // bytes

var errName = fault.Newf(fault.Invalid, "a name has 1 to %d characters, each a letter a-z, a digit or one of - _ . @ + :", maxName)

// Name returns the name of a user or role as it is stored and compared: trimmed, in lower case. Every such name of a
// request passes through here first. Only ASCII is accepted, so that lower case has one meaning.
func Name(text string) (string, error) {
	text = strings.TrimSpace(text)
	if text == "" || len(text) > maxName || strings.ContainsFunc(text, odd) {
		return "", errName
	}
	return strings.ToLower(text), nil
}

func odd(c rune) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return false
	}
	return !strings.ContainsRune("-_.@+:", c)
}

const saltKey = "salt"

// Salt returns the random bytes that the digests of a mount are keyed with; nil if it has none yet.
func Salt(r store.Reader) ([]byte, error) { return Get(r, saltKey) }

// NeedSalt is Salt, but makes one if there is none.
func NeedSalt(tx store.Tx) ([]byte, error) {
	salt, err := Salt(tx)
	if err != nil || salt != nil {
		return salt, err
	}
	salt = make([]byte, 32)
	rand.Read(salt)
	return salt, tx.Put(saltKey, salt)
}

// Digest names something in a key without telling what it is. What differs in purpose or value has another digest.
func Digest(salt []byte, purpose string, value []byte) string {
	mac := hmac.New(sha256.New, salt)
	mac.Write([]byte(purpose))
	mac.Write([]byte{0})
	mac.Write(value)
	return hex.EncodeToString(mac.Sum(nil))
}
