package seal

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"sync/atomic"

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
	// UnsealedBy are the slots, in order, whose shares opened the store, in UnsealedGeneration.
	UnsealedBy         []int
	UnsealedGeneration uint64

	decoded atomic.Pointer[decoded]
}

// errNotLive says that shares opened a root key that this generation must not open any more, or not yet.
var errNotLive = errors.New("the shares are of a generation that does not unseal")

// tryOpen opens the store if the round has shares enough; nil and no error if it has not.
func (u *Unsealer) tryOpen(ctx context.Context, rec *Record) (*Opened, error) {
	for {
		o, err := u.open(ctx, rec)
		if !errors.Is(err, barrier.ErrWrongKey) && !errors.Is(err, errNotLive) {
			return o, tampered(err)
		}
		// A server that is open may have rotated the root key since rec was read, or ended a generation.
		again, loadErr := u.load(ctx)
		switch {
		case loadErr != nil:
			return nil, loadErr
		case !bytes.Equal(again.sum, rec.sum) && again.basis() == rec.basis():
			rec = again
		case errors.Is(err, errNotLive):
			return nil, errNotOpening
		default:
			return nil, ErrTampered
		}
	}
}

func (u *Unsealer) open(ctx context.Context, rec *Record) (*Opened, error) {
	enough := false
	for _, p := range u.round.pots(rec) {
		if !p.enough && !rec.damaged {
			continue
		}
		enough = enough || p.enough
		if root, gen, ok := unwrapAny(p.generations, p.given); ok {
			defer root.Wipe()
			return enter(ctx, cmp.Or(u.Over, u.st), root, gen, p.given)
		}
	}
	switch {
	case !enough:
		return nil, nil
	case rec.damaged:
		return nil, errNotOpening
	}
	return nil, errWrongTogether
}

// pot is a set of shares that are combined with each other, and the generations that they may open.
type pot struct {
	given       map[int]secret.Bytes
	enough      bool
	generations []*Generation
}

// pots has one pot for each generation that unseals. In a damaged record neither the thresholds nor what became of
// which generation can be relied on, so there all shares are in one, and tried on everything.
func (r *round) pots(rec *Record) []pot {
	if rec.damaged {
		p := pot{given: r.given[unsorted], enough: len(r.given[unsorted]) >= rec.Generation().Threshold}
		for i := range rec.generations {
			p.generations = append(p.generations, &rec.generations[i])
		}
		return []pot{p}
	}
	var all []pot
	for _, g := range rec.opening() {
		given := r.given[g.Number]
		all = append(all, pot{given: given, enough: len(given) >= g.Threshold, generations: []*Generation{g}})
	}
	return all
}

// enter opens the store with a root key that the shares of gen gave; with none, nobody's shares did.
func enter(ctx context.Context, st store.Store, root secret.Bytes, gen *Generation, given map[int]secret.Bytes) (*Opened, error) {
	b, err := barrier.Open(ctx, st, root)
	if err != nil {
		return nil, err
	}
	o := &Opened{Barrier: b}
	for slot := range given {
		o.UnsealedBy = append(o.UnsealedBy, max(slot, 1))
	}
	slices.Sort(o.UnsealedBy)
	if err := o.settle(ctx, gen); err != nil {
		b.Close()
		return nil, err
	}
	return o, nil
}

// OpenWithRoot opens the store with a root key that another server of the cluster has handed over: nobody's share was
// given, so UnsealedBy is empty, and UnsealedGeneration is the one in force. The root key stays the caller's. One that was
// replaced meanwhile is barrier.ErrWrongKey.
func OpenWithRoot(ctx context.Context, st store.Store, root secret.Bytes) (*Opened, error) {
	o, err := enter(ctx, st, root, nil, nil)
	if errors.Is(err, barrier.ErrWrongKey) {
		return nil, err
	}
	return o, tampered(err)
}

// tampered turns what is no accident, once the root key is right, into a fault that says so.
func tampered(err error) error {
	if errors.Is(err, barrier.ErrRotated) {
		return err
	}
	if errors.Is(err, barrier.ErrWrongKey) || errors.Is(err, barrier.ErrDamaged) {
		return ErrTampered
	}
	return err
}

// unwrapAny opens a root key with what was given; more shares than the threshold combine to the same key.
func unwrapAny(generations []*Generation, given map[int]secret.Bytes) (root secret.Bytes, by *Generation, ok bool) {
	for _, unseal := range candidates(given) {
		pair, err := keyPair(unseal.Reveal())
		unseal.Wipe()
		for _, g := range generations {
			if err != nil || ok {
				break
			}
			if root, ok = unwrapRoot(pair, g.wrapped); ok {
				by = g
			}
		}
	}
	return root, by, ok
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
// holders may stand on another one. ErrTampered if it is not the one that this server wrote; barrier.ErrRotated if
// o.Barrier doesn't know the root key that is in force.
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
	macKey, err := o.Barrier.DeriveIn(r, labelMAC)
	if err != nil {
		return nil, err
	}
	defer macKey.Wipe()
	if s.copy == nil || !authentic(s.copy, macKey) {
		return nil, ErrTampered
	}
	if known := o.decoded.Load(); known != nil && bytes.Equal(known.stored, s.copy) {
		s.record = known.record
		return s, nil
	}
	s.record, err = decode(s.copy)
	if err != nil || s.record.damaged {
		return nil, ErrTampered
	}
	o.decoded.Store(&decoded{bytes.Clone(s.copy), s.record})
	return s, nil
}

// decoded saves parsing the same bytes in every transaction; they are authenticated all the same.
type decoded struct {
	stored []byte
	record *Record
}

// settle authenticates the record and that by, which gave the root key, may unseal. It restores a damaged record, and
// notes the first unseal, after which this cluster can't be replaced any more; it writes only where there is
// something to write.
func (o *Opened) settle(ctx context.Context, by *Generation) error {
	var due bool
	err := o.Barrier.View(ctx, func(r store.Reader) error {
		s, err := o.read(r)
		if err != nil {
			return err
		}
		live := s.record.Generation()
		if by != nil {
			live = s.record.where(func(g *Generation) bool {
				return bytes.Equal(g.wrapped, by.wrapped) && !s.record.pending(g)
			})
		}
		if live == nil {
			return errNotLive
		}
		o.UnsealedGeneration = live.Number
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
