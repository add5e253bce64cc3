package barrier

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
)

// The keyring record is a version byte, then nonce, ciphertext and tag. Its plaintext is the terms in order, each 4
// bytes of number, 8 bytes of Unix nanoseconds and 32 bytes of key, integers in big endian. It isn't JSON because
// an encoder would leave keys in buffers that can't be wiped.
const (
	keyringVersion = 1
	termSize       = 4 + 8 + KeySize
	labelKeyring   = "quorate/v1/keyring"
)

// term is one data key. Of its fields only left changes.
type term struct {
	number    uint32
	installed time.Time
	aead      cipher.AEAD
	print     [sha256.Size]byte // tells whether two terms of one number are the same key
	left      atomic.Int64      // encryptions that this process has reserved and not yet used
}

// ring is the keyring as of one snapshot. It is never changed in place.
type ring struct {
	terms  []*term // terms[i] is number i+1; never empty
	record []byte  // the keyring record that it was read from
	stamp  []byte  // the change stamp of that snapshot
	by     *root   // what opened record; nil inside Create
}

func (r *ring) active() *term { return r.terms[len(r.terms)-1] }

// find returns nil for an unknown term.
func (r *ring) find(number uint32) *term {
	if number == 0 || uint64(number) > uint64(len(r.terms)) {
		return nil
	}
	return r.terms[number-1]
}

// newRing takes from old the terms that parsed has too, because they carry what is left of their reservations.
func newRing(old *ring, parsed []*term, record, stamp []byte, by *root) *ring {
	if old == nil {
		old = &ring{}
	} else if bytes.Equal(old.record, record) {
		return &ring{terms: old.terms, record: old.record, stamp: bytes.Clone(stamp), by: old.by}
	}
	for i, t := range parsed {
		if known := old.find(t.number); known != nil && known.print == t.print {
			parsed[i] = known
		}
	}
	return &ring{terms: parsed, record: bytes.Clone(record), stamp: bytes.Clone(stamp), by: by}
}

// reload returns the keyring of r's snapshot, and remembers it for later transactions unless it is an older one. The
// snapshot must be one that is committed, without writes to the keyring of r's own.
func (b *Barrier) reload(r store.Reader) (*ring, error) {
	values, err := r.Get(KeyringKey, StampKey)
	if err != nil {
		return nil, err
	}
	record, stamp := values[0], values[1]
	b.adopt.Lock()
	defer b.adopt.Unlock()
	known := b.ring.Load()
	parsed, by, err := b.openKeyring(record)
	if err != nil {
		return nil, err
	}
	next := newRing(known, parsed, record, stamp, by)
	if known == nil || len(next.terms) >= len(known.terms) {
		b.ring.Store(next)
	}
	return next, nil
}

// openKeyring opens a record with whichever root key it was sealed under. b.adopt is held.
func (b *Barrier) openKeyring(record []byte) ([]*term, *root, error) {
	known := b.ring.Load()
	if known != nil && bytes.Equal(known.record, record) {
		return known.terms, known.by, nil
	}
	for _, r := range slices.Backward(b.roots) {
		terms, err := openKeyring(r.wrap, record)
		if !errors.Is(err, ErrWrongKey) {
			return terms, r, err
		}
	}
	if known != nil && len(record) > 0 && record[0] == keyringVersion {
		return nil, nil, ErrRotated
	}
	return nil, nil, ErrWrongKey
}

// extend returns the keyring record with one more term, sealed by to; an absent record is the empty keyring. from
// opens the record.
func extend(from, to cipher.AEAD, record []byte, now time.Time) ([]byte, error) {
	var plain []byte
	if record != nil {
		opened, err := unwrapKeyring(from, record)
		if err != nil {
			return nil, err
		}
		defer clear(opened)
		plain = opened
	}
	next := make([]byte, len(plain)+termSize)
	defer clear(next)
	added := next[copy(next, plain):]
	binary.BigEndian.PutUint32(added, uint32(len(next)/termSize))
	binary.BigEndian.PutUint64(added[4:], uint64(now.UnixNano()))
	rand.Read(added[12:])
	return to.Seal([]byte{keyringVersion}, nil, next, keyringAAD()), nil
}

// openKeyring returns the terms of a record, of which there is at least one. Terms that are not numbered 1, 2, 3 ...
// are damage.
func openKeyring(wrap cipher.AEAD, record []byte) ([]*term, error) {
	plain, err := unwrapKeyring(wrap, record)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	if len(plain) == 0 || len(plain)%termSize != 0 {
		return nil, ErrDamaged
	}
	terms := make([]*term, 0, len(plain)/termSize)
	for ; len(plain) > 0; plain = plain[termSize:] {
		t, err := parseTerm(plain[:termSize])
		if err != nil {
			return nil, err
		}
		if terms = append(terms, t); uint64(t.number) != uint64(len(terms)) {
			return nil, ErrDamaged
		}
	}
	return terms, nil
}

func parseTerm(b []byte) (*term, error) {
	aead, err := newAEAD(b[12:])
	if err != nil {
		return nil, err
	}
	return &term{
		number:    binary.BigEndian.Uint32(b),
		installed: time.Unix(0, int64(binary.BigEndian.Uint64(b[4:]))).UTC(),
		aead:      aead,
		print:     sha256.Sum256(b[12:]),
	}, nil
}

func unwrapKeyring(wrap cipher.AEAD, record []byte) ([]byte, error) {
	if len(record) < 1 || record[0] != keyringVersion {
		return nil, ErrWrongKey
	}
	plain, err := wrap.Open(nil, nil, record[1:], keyringAAD())
	if err != nil {
		return nil, ErrWrongKey
	}
	return plain, nil
}

func keyringAAD() []byte { return []byte(labelKeyring + "\x00" + KeyringKey) }

func keyringAEAD(rootKey secret.Bytes) (cipher.AEAD, error) {
	if rootKey.Len() != KeySize {
		return nil, ErrWrongKey
	}
	key := derive(rootKey, labelKeyringKey)
	defer clear(key)
	return newAEAD(key)
}

// newAEAD is AES-GCM that chooses and prepends a random 96-bit nonce itself.
func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
