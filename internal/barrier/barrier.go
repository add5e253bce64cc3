// Package barrier is an encrypted store over a store: the same interface, with every value sealed by AES-256-GCM
// under a data key of its keyring.
//
// It promises that a value read is one that was written through a barrier of the same root key, under the same key
// of the map: whoever can write to the store below can delete records, or put back older versions of the same
// record, and nothing else. Values under keys that begin with plain/ pass through as they are, for what must be
// readable while sealed. The barrier's own records (keyring, change stamp, write counts) are left out of scans. It does
// not hide the keys of the map, how long values are, or when they change. It wipes the root keys on Close, but the
// expanded data keys are left to the garbage collector.
package barrier

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
)

// Keys of the map that the barrier gives a meaning to.
const (
	// KeyringKey holds the terms, sealed under the root key. Through a barrier only what RotateIn and NextRoot.Install
	// make can be written to it.
	KeyringKey = "plain/keyring"
	// StampKey holds 16 random bytes that change with everything that is cached in memory.
	StampKey = "plain/stamp"

	plainPrefix = "plain/"
	ownPrefix   = "barrier/" // encrypted records of the barrier itself
	usagePrefix = ownPrefix + "usage/"
)

// KeySize is the size of the root key and of every data key, in bytes.
const KeySize = 32

const stampSize = 16

// Labels that separate the uses of the root key.
const (
	labelKeyringKey = "quorate/v1/keyring-key"
	labelDerived    = "quorate/v1/derived/"
)

var (
	// ErrWrongKey says that the root key given is not the one that the keyring was sealed under.
	ErrWrongKey = errors.New("the root key does not open the keyring of this store")
	// ErrRotated is the ErrWrongKey of a barrier that was open when another process replaced the root key: whoever
	// gets it closes the barrier and unseals again.
	ErrRotated = fmt.Errorf("the root key was rotated by another server: %w", ErrWrongKey)
	// ErrDamaged says, of any record and for whatever reason, that it could not be authenticated.
	ErrDamaged = errors.New("a stored record can't be authenticated: it was damaged or changed outside this server; restore the store from a backup")

	errReserved = errors.New("this key belongs to the barrier and can't be written through it")
)

// Barrier is a store.Store whose values are encrypted in the store below. It is safe for concurrent use, also
// beside other Barriers over the same store, in this process or in others.
type Barrier struct {
	inner store.Store

	gate   store.Gate
	adopt  sync.Mutex           // held while roots or ring are replaced; never during I/O
	roots  []*root              // the newest last; kept until Close, because an older snapshot may still be read
	ring   atomic.Pointer[ring] // immutable: what this process knows of the keyring
	turn   chan struct{}        // capacity 1: held by whoever reserves usage
	limits limits
}

// Create gives an empty store its first keyring and stamp, within tx, and returns the encrypting view of that same
// transaction. The root key stays the caller's.
func Create(tx store.Tx, rootKey secret.Bytes, now time.Time) (store.Tx, error) {
	wrap, err := keyringAEAD(rootKey)
	if err != nil {
		return nil, err
	}
	record, err := extend(nil, wrap, nil, now)
	if err != nil {
		return nil, err
	}
	parsed, err := openKeyring(wrap, record)
	if err != nil {
		return nil, err
	}
	if err := tx.Put(KeyringKey, record); err != nil {
		return nil, err
	}
	if err := BumpStamp(tx); err != nil {
		return nil, err
	}
	first := newRing(nil, parsed, record, nil, nil)
	if err := putUsage(tx, first.active(), createBlock); err != nil {
		return nil, err
	}
	first.active().left.Store(createBlock - 1)
	return &writer{reader: reader{raw: tx, ring: first}, tx: tx, fresh: true}, nil
}

// Open returns a barrier over st, which stays the caller's to close. It copies rootKey into memory of its own; a
// root key that does not open the keyring is ErrWrongKey.
func Open(ctx context.Context, st store.Store, rootKey secret.Bytes) (*Barrier, error) {
	return open(ctx, st, rootKey, limits{block: usageBlock, soft: softLimit})
}

func open(ctx context.Context, st store.Store, rootKey secret.Bytes, l limits) (*Barrier, error) {
	first, err := holdRoot(bytes.Clone(rootKey.Reveal()))
	if err != nil {
		return nil, err
	}
	b := &Barrier{inner: st, roots: []*root{first}, turn: make(chan struct{}, 1), limits: l}
	err = st.View(ctx, func(r store.Reader) error {
		_, err := b.reload(r)
		return err
	})
	if err != nil {
		first.arena.Close()
		return nil, err
	}
	return b, nil
}

// View implements store.Store.
func (b *Barrier) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := b.gate.Enter(); err != nil {
		return err
	}
	defer b.gate.Leave()
	return b.inner.View(ctx, func(raw store.Reader) error {
		return fn(&reader{raw: raw, b: b, ring: b.ring.Load()})
	})
}

// Update implements store.Store. Once in many writes it runs fn again, after it has reserved encryptions for the
// term or begun the next term.
func (b *Barrier) Update(ctx context.Context, fn func(store.Tx) error) error {
	if err := b.gate.Enter(); err != nil {
		return err
	}
	defer b.gate.Leave()
	for need := int64(0); ; {
		var w *writer
		err := b.inner.Update(ctx, func(raw store.Tx) error {
			w = &writer{reader: reader{raw: raw, b: b, ring: b.ring.Load()}, tx: raw}
			return w.run(fn)
		})
		if !errors.Is(err, errShort) {
			return err
		}
		need = max(need, w.spent)
		if err := b.reserve(ctx, w.term, need); err != nil {
			return err
		}
	}
}

// Close refuses new transactions, waits for those that run, and wipes the root keys. The store below stays open.
func (b *Barrier) Close() error {
	if !b.gate.Close() {
		return nil
	}
	b.adopt.Lock()
	defer b.adopt.Unlock()
	for _, r := range b.roots {
		r.arena.Close()
	}
	b.ring.Store(nil)
	return nil
}

// Status describes the term that new records are encrypted under.
type Status struct {
	Term      uint32
	Installed time.Time
	// Encryptions is how many records have been encrypted under the term, rounded up: what other nodes have
	// reserved, or a node that stopped had not used up, counts as used.
	Encryptions uint64
}

// Status reads the state of the keyring from the store.
func (b *Barrier) Status(ctx context.Context) (Status, error) {
	var s Status
	if err := b.gate.Enter(); err != nil {
		return s, err
	}
	defer b.gate.Leave()
	err := b.inner.View(ctx, func(raw store.Reader) error {
		ring, err := b.reload(raw)
		if err != nil {
			return err
		}
		t := ring.active()
		used, _, err := (&reader{raw: raw, b: b, ring: ring}).usage(t.number)
		if left := uint64(max(t.left.Load(), 0)); left < used {
			used -= left
		}
		s = Status{Term: t.number, Installed: t.installed, Encryptions: used}
		return err
	})
	return s, err
}

// BumpStamp writes a new random change stamp, without reading the old one, so that concurrent bumps don't conflict.
func BumpStamp(tx store.Tx) error {
	stamp := make([]byte, stampSize)
	rand.Read(stamp)
	return tx.Put(StampKey, stamp)
}
