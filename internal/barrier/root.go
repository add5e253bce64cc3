package barrier

import (
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"time"

	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
)

// root is a root key that this process knows.
type root struct {
	arena *secret.Arena // its own, so that it can be forgotten alone
	key   secret.Bytes  // in arena
	wrap  cipher.AEAD   // seals the keyring
}

// holdRoot takes key over.
func holdRoot(key []byte) (*root, error) {
	defer clear(key)
	wrap, err := keyringAEAD(secret.Own(key))
	if err != nil {
		return nil, err
	}
	r := &root{arena: secret.NewArena(KeySize), wrap: wrap}
	if r.key, err = r.arena.Hold(key); err != nil {
		r.arena.Close()
		return nil, err
	}
	return r, nil
}

// Rotate begins a new term. Records written from now on, by any node, are encrypted under it; older terms stay in
// the keyring for the records that were written under them.
func (b *Barrier) Rotate(ctx context.Context, now time.Time) error {
	return b.Update(ctx, func(tx store.Tx) error { return b.RotateIn(tx, now) })
}

// RotateIn is Rotate inside a transaction of b. What this transaction writes may still be under the term before.
func (b *Barrier) RotateIn(tx store.Tx, now time.Time) error { return b.extend(tx, nil, now) }

// extend adds a term, and seals the keyring by to, or by the root key that it is sealed by now where to is nil. It
// changes the stamp, so that every node notices.
func (b *Barrier) extend(tx store.Tx, to *root, now time.Time) error {
	from, record, err := b.rootIn(tx)
	if err != nil {
		return err
	}
	if to == nil {
		to = from
	}
	if record, err = extend(from.wrap, to.wrap, record, now); err != nil {
		return err
	}
	if err := tx.Put(KeyringKey, record); err != nil {
		return err
	}
	return BumpStamp(tx)
}

// added returns the terms of record that are not in ring; a record without one, or without one of ring's, is refused.
func (b *Barrier) added(ring *ring, record []byte) ([]*term, error) {
	b.adopt.Lock()
	defer b.adopt.Unlock()
	terms, _, err := b.openKeyring(record)
	if err != nil || len(terms) <= len(ring.terms) {
		return nil, errReserved
	}
	for i, t := range ring.terms {
		if terms[i].print != t.print {
			return nil, errReserved
		}
	}
	return terms[len(ring.terms):], nil
}

// rootIn returns the root key that is in force in r's snapshot, with the keyring record that says so.
func (b *Barrier) rootIn(r store.Reader) (*root, []byte, error) {
	values, err := r.Get(KeyringKey)
	if err != nil {
		return nil, nil, err
	}
	b.adopt.Lock()
	defer b.adopt.Unlock()
	_, by, err := b.openKeyring(values[0])
	return by, values[0], err
}

// UseRoot calls fn with the root key that is in force in r's snapshot, which is b's own. fn must not keep it.
func (b *Barrier) UseRoot(r store.Reader, fn func(rootKey secret.Bytes) error) error {
	if err := b.gate.Enter(); err != nil {
		return err
	}
	defer b.gate.Leave()
	by, _, err := b.rootIn(r)
	if err != nil {
		return err
	}
	return fn(by.key)
}

// DeriveIn returns 32 bytes that only label and the root key in force in r's snapshot determine, whichever this
// process, or the transaction itself, has put in force since.
func (b *Barrier) DeriveIn(r store.Reader, label string) (key secret.Bytes, err error) {
	err = b.UseRoot(r, func(rootKey secret.Bytes) error {
		key = Derive(rootKey, label)
		return nil
	})
	return key, err
}

// DeriveKey is DeriveIn for the newest snapshot that this process has seen: a rotation of the root key changes it at
// some time. It panics after Close.
func (b *Barrier) DeriveKey(label string) secret.Bytes {
	if b.gate.Enter() != nil {
		panic("barrier: DeriveKey after Close")
	}
	defer b.gate.Leave()
	return Derive(b.ring.Load().by.key, label)
}

// Derive is DeriveIn for a root key that no barrier has been opened with yet.
func Derive(rootKey secret.Bytes, label string) secret.Bytes {
	return secret.Own(derive(rootKey, labelDerived+label))
}

func derive(rootKey secret.Bytes, info string) []byte {
	key, err := hkdf.Key(sha256.New, rootKey.Reveal(), nil, info, KeySize)
	if err != nil {
		panic("barrier: " + err.Error()) // only for lengths, which are constants
	}
	return key
}

// NextRoot is a root key that may come into force.
type NextRoot struct {
	b    *Barrier
	root *root
}

// PrepareRoot makes a random root key. From now on b can read what Install makes of it; Close is due when the outcome
// of that is known.
func (b *Barrier) PrepareRoot() (*NextRoot, error) {
	if err := b.gate.Enter(); err != nil {
		return nil, err
	}
	defer b.gate.Leave()
	key := make([]byte, KeySize)
	rand.Read(key)
	made, err := holdRoot(key)
	if err != nil {
		return nil, err
	}
	b.adopt.Lock()
	defer b.adopt.Unlock()
	b.roots = append(b.roots, made)
	return &NextRoot{b: b, root: made}, nil
}

// Key is the root key itself, in b's memory: nobody wipes it but b.
func (n *NextRoot) Key() secret.Bytes { return n.root.key }

// Install puts the root key in force in tx, a transaction of the barrier that prepared it: the keyring is sealed
// under it, with a new term. Barriers that don't know it get ErrRotated from their next look at the keyring on.
func (n *NextRoot) Install(tx store.Tx, now time.Time) error { return n.b.extend(tx, n.root, now) }

// Close forgets a root key of which it is certain that it has not come into force. Where it has, or nobody knows, it
// stays until the barrier is closed; then the keyring tells, in each snapshot, which holds.
func (n *NextRoot) Close(committed bool) {
	if committed {
		return
	}
	n.b.adopt.Lock()
	defer n.b.adopt.Unlock()
	n.b.roots = slices.DeleteFunc(n.b.roots, func(r *root) bool { return r == n.root })
	n.root.arena.Close()
}
