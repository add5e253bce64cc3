package seal

import (
	"bytes"
	"context"
	"errors"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/shamir"
	"github.com/quorate/quorate/internal/store"
)

// Lengths of a share, in bytes.
const (
	shortShare = barrier.KeySize
	longShare  = barrier.KeySize + 1
)

// Opened is an unsealed store.
type Opened struct {
	Barrier *barrier.Barrier // whoever gets the Opened closes it
	// Repaired says that the record of key holders was damaged and has been restored from the copy behind the
	// barrier, which somebody ought to hear about.
	Repaired bool
}

// tryOpen opens the store if the round has shares enough; nil and no error if it has not.
func (u *Unsealer) tryOpen(ctx context.Context, rec *Record) (*Opened, error) {
	enough := len(u.round.given) >= rec.Generation().Threshold
	if !enough && !rec.damaged {
		return nil, nil
	}
	root, ok := unwrapAny(rec, u.round.given)
	switch {
	case !ok && rec.damaged && !enough:
		return nil, nil
	case !ok && rec.damaged:
		return nil, errNotOpening
	case !ok:
		return nil, errWrongTogether
	}
	defer root.Wipe()
	b, err := barrier.Open(ctx, u.st, root)
	if err != nil {
		return nil, tampered(err)
	}
	o := &Opened{Barrier: b}
	if err := o.settle(ctx); err != nil {
		b.Close()
		return nil, tampered(err)
	}
	return o, nil
}

// tampered turns what is no accident, once the root key is right, into a fault that says so.
func tampered(err error) error {
	if errors.Is(err, barrier.ErrWrongKey) || errors.Is(err, barrier.ErrDamaged) {
		return ErrTampered
	}
	return err
}

// unwrapAny opens the root key with what was given. In a damaged record neither the threshold nor the number of the
// active generation can be relied on; more shares than the threshold combine to the same key.
func unwrapAny(rec *Record, given map[int]secret.Bytes) (root secret.Bytes, ok bool) {
	generations := rec.generations
	if !rec.damaged {
		generations = []Generation{*rec.Generation()}
	}
	for _, unseal := range candidates(given) {
		for _, g := range generations {
			if root, ok = unwrapRoot(unseal.Reveal(), g.wrapped); ok {
				break
			}
		}
		unseal.Wipe()
		if ok {
			break
		}
	}
	return root, ok
}

// candidates returns the unseal keys that the shares may stand for.
func candidates(given map[int]secret.Bytes) []secret.Bytes {
	var keys []secret.Bytes
	var parts [][]byte
	for _, share := range given {
		if share.Len() == shortShare {
			keys = append(keys, secret.Copy(share.Reveal()))
		} else {
			parts = append(parts, share.Reveal())
		}
	}
	if key, err := shamir.Combine(parts, len(parts)); err == nil {
		keys = append(keys, secret.Own(key))
	}
	return keys
}

// Record reads the record of key holders in a transaction of o.Barrier and authenticates it: no decision about
// holders may stand on another one. ErrTampered if it is not the one that this server wrote.
func (o *Opened) Record(r store.Reader) (*Record, error) {
	s, err := o.read(r)
	if err != nil {
		return nil, tampered(err)
	}
	if !bytes.Equal(s.stored, s.copy) {
		return nil, ErrTampered
	}
	return s.record, nil
}

// state is what an open store says about its seal.
type state struct {
	stored, copy []byte
	record       *Record // of the copy, authenticated
	opened       bool    // before
}

func (o *Opened) read(r store.Reader) (*state, error) {
	values, err := r.Get(recordKey, copyKey, openedKey)
	if err != nil {
		return nil, err
	}
	s := &state{stored: values[0], copy: values[1], opened: values[2] != nil}
	macKey := o.Barrier.DeriveKey(labelMAC)
	defer macKey.Wipe()
	if s.copy == nil || !authentic(s.copy, macKey) {
		return nil, ErrTampered
	}
	s.record, err = decode(s.copy)
	if err != nil || s.record.damaged {
		return nil, ErrTampered
	}
	return s, nil
}

// settle authenticates the record, restores a damaged one, and notes the first unseal, after which this cluster
// can't be replaced any more. It writes only where there is something to write.
func (o *Opened) settle(ctx context.Context) error {
	var due bool
	err := o.Barrier.View(ctx, func(r store.Reader) error {
		s, err := o.read(r)
		if err != nil {
			return err
		}
		repair, err := s.repairable()
		due = repair || !s.opened
		return err
	})
	if err != nil || !due {
		return err
	}
	return o.Barrier.Update(ctx, o.note)
}

func (o *Opened) note(tx store.Tx) error {
	s, err := o.read(tx)
	if err != nil {
		return err
	}
	if o.Repaired, err = s.repairable(); err != nil {
		return err
	}
	if o.Repaired {
		if err := tx.Put(recordKey, s.copy); err != nil {
			return err
		}
		if err := barrier.BumpStamp(tx); err != nil {
			return err
		}
	}
	return tx.Put(openedKey, []byte("1"))
}

// repairable reports whether the stored record is damaged by its own account. One that differs from the copy and
// yet has a right checksum was changed on purpose.
func (s *state) repairable() (bool, error) {
	if bytes.Equal(s.stored, s.copy) {
		return false, nil
	}
	rec, err := decode(s.stored)
	if err == nil && !rec.damaged {
		return false, ErrTampered
	}
	return true, nil
}
