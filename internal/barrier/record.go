package barrier

import (
	"encoding/binary"
	"fmt"
	"iter"
	"strings"

	"github.com/quorate/quorate/internal/store"
)

// An encrypted record is a version byte, 4 bytes of term in big endian, 12 of nonce, the ciphertext and 16 of tag.
// The additional data binds it to its key, so that no record can take the place of another.
const (
	recordVersion = 1
	headerSize    = 1 + 4
	labelRecord   = "quorate/v1/record"
)

// Overhead is how many bytes longer an encrypted record is than its value.
const Overhead = headerSize + 12 + 16

// MaxValue is the largest value that fits into the store below once encrypted, in bytes.
const MaxValue = store.MaxValue - Overhead

func appendAAD(dst []byte, key string) []byte {
	dst = append(dst, labelRecord...)
	dst = append(dst, 0)
	return append(dst, key...)
}

// sealRecord takes the additional data ready made, so that a transaction can use one buffer for it.
func sealRecord(t *term, value, aad []byte) []byte {
	record := make([]byte, headerSize, Overhead+len(value))
	record[0] = recordVersion
	binary.BigEndian.PutUint32(record[1:], t.number)
	return t.aead.Seal(record, nil, value, aad)
}

func passesThrough(key string) bool { return strings.HasPrefix(key, plainPrefix) }

// reserved tells the records that only the barrier itself writes.
func reserved(key string) bool { return key == KeyringKey || strings.HasPrefix(key, ownPrefix) }

// reader decrypts what it reads from one snapshot.
type reader struct {
	raw  store.Reader
	b    *Barrier // nil inside Create, where nothing but ring exists yet
	ring *ring
	aad  []byte // scratch
	// extended says that this transaction has put a term into the keyring of its own: there is no other that isn't
	// in ring, and what may yet be undone must not be remembered.
	extended bool
}

// Get implements store.Reader.
func (r *reader) Get(keys ...string) ([][]byte, error) {
	values, err := r.raw.Get(keys...)
	if err != nil {
		return nil, err
	}
	return r.openAll(keys, values)
}

func (r *reader) openAll(keys []string, values [][]byte) ([][]byte, error) {
	out := make([][]byte, len(keys))
	for i, key := range keys {
		var err error
		if out[i], err = r.open(key, values[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Scan implements store.Reader, without the barrier's own records. A record is decrypted when the loop comes to it.
func (r *reader) Scan(prefix, after string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for entry, err := range r.raw.Scan(prefix, after) {
			if reserved(entry.Key) || entry.Key == StampKey {
				continue
			}
			if err == nil {
				entry.Value, err = r.open(entry.Key, entry.Value)
			}
			if err != nil {
				yield(store.Entry{}, err)
				return
			}
			if !yield(entry, nil) {
				return
			}
		}
	}
}

// open returns the value of a record: nil for none, never nil for one.
func (r *reader) open(key string, record []byte) ([]byte, error) {
	if record == nil || passesThrough(key) {
		return record, nil
	}
	if len(record) < Overhead || record[0] != recordVersion {
		return nil, ErrDamaged
	}
	t, err := r.find(binary.BigEndian.Uint32(record[1:]))
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, ErrDamaged
	}
	r.aad = appendAAD(r.aad[:0], key)
	value, err := t.aead.Open(make([]byte, 0, len(record)-Overhead), nil, record[headerSize:], r.aad)
	if err != nil {
		return nil, ErrDamaged
	}
	return value, nil
}

// find looks in the keyring of this snapshot for a term that this process hasn't heard of.
func (r *reader) find(number uint32) (*term, error) {
	if t := r.ring.find(number); t != nil || r.b == nil || r.extended {
		return t, nil
	}
	if err := r.reload(); err != nil {
		return nil, err
	}
	return r.ring.find(number), nil
}

func (r *reader) reload() error {
	ring, err := r.b.reload(r.raw)
	if err == nil {
		r.ring = ring
	}
	return err
}

// writer is a reader that encrypts what it writes.
type writer struct {
	reader
	tx    store.Tx // the same as raw
	fresh bool     // ring is known to be that of this snapshot
	term  *term    // what spent was taken from
	spent int64
	short bool
}

// run calls fn. When the reservation ran out under it the result is errShort, whatever fn says.
func (w *writer) run(fn func(store.Tx) error) error {
	err := fn(w)
	if w.short {
		err = errShort
	}
	if err != nil && w.term != nil {
		w.term.left.Add(w.spent) // nothing of this attempt will be stored
	}
	return err
}

// Get implements store.Reader. The first one reads the change stamp too.
func (w *writer) Get(keys ...string) ([][]byte, error) {
	if w.fresh {
		return w.reader.Get(keys...)
	}
	values, err := w.raw.Get(append(keys[:len(keys):len(keys)], StampKey)...)
	if err != nil {
		return nil, err
	}
	if err := w.refresh(values[len(keys)]); err != nil {
		return nil, err
	}
	return w.openAll(keys, values)
}

// refresh makes sure that the active term is the one of this snapshot, not of a keyring that another node replaced.
func (w *writer) refresh(stamp []byte) error {
	if string(stamp) != string(w.ring.stamp) {
		if err := w.reload(); err != nil {
			return err
		}
	}
	w.fresh = true
	return nil
}

// Put implements store.Tx.
func (w *writer) Put(key string, value []byte) error {
	switch {
	case key == KeyringKey:
		return w.putKeyring(value)
	case reserved(key):
		return errReserved
	case passesThrough(key):
		return w.tx.Put(key, value)
	case len(value) > MaxValue:
		return fmt.Errorf("value of %d bytes is over the limit of %d for an encrypted record", len(value), MaxValue)
	}
	if err := w.spend(); err != nil {
		return err
	}
	w.aad = appendAAD(w.aad[:0], key)
	return w.tx.Put(key, sealRecord(w.term, value, w.aad))
}

// putKeyring stores the keyring of this snapshot with terms added, sealed by a root key of this barrier, and nothing
// else. The transaction goes on under the term it has: nothing is reserved for the new one yet.
func (w *writer) putKeyring(record []byte) error {
	if w.b == nil {
		return errReserved
	}
	if !w.fresh {
		if _, err := w.Get(); err != nil {
			return err
		}
	}
	added, err := w.b.added(w.ring, record)
	if err != nil {
		return err
	}
	w.extended = true
	if err := w.tx.Put(KeyringKey, record); err != nil {
		return err
	}
	for _, t := range added {
		if err := putUsage(w.tx, t, 0); err != nil {
			return err
		}
	}
	return nil
}

// spend takes one encryption from what is reserved for the active term. Where nothing is left the transaction goes on
// all the same, so that its function sees a store that works, and is undone at its end: nothing that was encrypted
// without a reservation is ever stored.
func (w *writer) spend() error {
	if w.term == nil {
		if !w.fresh {
			if _, err := w.Get(); err != nil {
				return err
			}
		}
		w.term = w.ring.active()
	}
	w.spent++
	if w.term.left.Add(-1) < 0 {
		w.short = true
		if w.b == nil {
			return errHuge // nobody is there to undo and repeat what Create is part of
		}
	}
	return nil
}

// Delete implements store.Tx.
func (w *writer) Delete(key string) error {
	if reserved(key) {
		return errReserved
	}
	return w.tx.Delete(key)
}
