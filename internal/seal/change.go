package seal

import (
	"errors"
	"slices"
	"time"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
)

var (
	// ErrOtherNumber says that another generation has taken the number meanwhile: make it again.
	ErrOtherNumber = errors.New("the generation was made for another state of the record: make it again")

	errPendingThere = fault.New(fault.Invalid, "a new generation of key shares is prepared already: finish or cancel that rekey first")
	errNoRetiring   = fault.New(fault.Invalid, "no generation of key shares is retiring: there is nothing to retire")
	errInconsistent = errors.New("a change would leave the record of key holders inconsistent: nothing was stored")
)

// Each of the following changes the record in tx, a transaction of o.Barrier, together with its copy, its MAC and the
// change stamp, and returns the record that then holds. None of them takes from any quorum what it has before another
// one has it: the root key is wrapped for a generation as soon as that is stored.

// Prepare stores g as the pending generation. ErrOtherNumber if another one was prepared since g was made.
func (o *Opened) Prepare(tx store.Tx, g *NewGeneration) (*Record, error) {
	return o.change(tx, func(r *Record) error {
		switch {
		case r.Pending() != nil:
			return errPendingThere
		case r.next != g.Number || r.ClusterID != g.cluster:
			return ErrOtherNumber
		}
		made := g.made
		if err := o.Barrier.UseRoot(tx, made.wrap); err != nil {
			return err
		}
		r.generations = append(r.generations, made)
		r.next++
		return nil
	})
}

// Commit puts the pending generation in force. The one before it is retiring where keepOld is set, and former
// otherwise; what was retiring until now can't unseal any more.
func (o *Opened) Commit(tx store.Tx, keepOld bool) (*Record, error) {
	return o.change(tx, func(r *Record) error {
		pending := r.Pending()
		if pending == nil {
			return errNoPending
		}
		if g := r.Retiring(); g != nil {
			g.retire()
		}
		if !keepOld {
			r.Generation().retire()
		}
		r.active = pending.Number
		return nil
	})
}

// Abort destroys the pending generation. Its number is not used again.
func (o *Opened) Abort(tx store.Tx) (*Record, error) {
	return o.change(tx, func(r *Record) error {
		if r.Pending() == nil {
			return errNoPending
		}
		r.generations = r.generations[:len(r.generations)-1]
		return nil
	})
}

// Retire ends the time in which the retiring generation can unseal.
func (o *Opened) Retire(tx store.Tx) (*Record, error) {
	return o.change(tx, func(r *Record) error {
		g := r.Retiring()
		if g == nil {
			return errNoRetiring
		}
		g.retire()
		return nil
	})
}

// Relabel gives the holders of the active generation new labels, in slot order.
func (o *Opened) Relabel(tx store.Tx, labels []string) (*Record, error) {
	return o.change(tx, func(r *Record) error {
		g := r.Generation()
		if err := checkLabels(labels, g.Shares); err != nil {
			return err
		}
		g.Holders = slices.Clone(g.Holders)
		for i := range g.Holders {
			g.Holders[i].Label = labels[i]
		}
		return nil
	})
}

// RotateRoot puts next in force as the root key: the keyring, every generation that is not former, and the MAC of
// the record are made anew for it.
func (o *Opened) RotateRoot(tx store.Tx, next *barrier.NextRoot, now time.Time) (*Record, error) {
	return o.change(tx, func(r *Record) error {
		for i := range r.generations {
			if g := &r.generations[i]; !r.former(g) {
				if err := g.wrap(next.Key()); err != nil {
					return err
				}
			}
		}
		return next.Install(tx, now)
	})
}

// retire makes g a former generation: what could open anything is gone.
func (g *Generation) retire() { g.wrapped, g.public = nil, nil }

// change authenticates the record of tx, and writes what fn makes of a copy of it.
func (o *Opened) change(tx store.Tx, fn func(*Record) error) (*Record, error) {
	old, err := o.Record(tx)
	if err != nil {
		return nil, err
	}
	next := *old
	next.generations = slices.Clone(old.generations)
	if err := fn(&next); err != nil {
		return nil, err
	}
	next.forget()
	if !next.consistent() {
		return nil, errInconsistent
	}
	macKey, err := o.Barrier.DeriveIn(tx, labelMAC) // after fn: of a new root key, if there is one
	if err != nil {
		return nil, tampered(err)
	}
	defer macKey.Wipe()
	return next.store(tx, macKey)
}

// forget drops all former generations but the latest.
func (r *Record) forget() {
	var latest uint64
	if g := r.Former(); g != nil {
		latest = g.Number
	}
	r.generations = slices.DeleteFunc(r.generations, func(g Generation) bool {
		return r.former(&g) && g.Number != latest
	})
}

// store writes the record and its copy behind the barrier, and bumps the stamp. It returns the record as it is read.
func (r *Record) store(tx store.Tx, macKey secret.Bytes) (*Record, error) {
	stored, err := r.encode(macKey)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(tx.Put(recordKey, stored), tx.Put(copyKey, stored), barrier.BumpStamp(tx)); err != nil {
		return nil, err
	}
	return decode(stored)
}
