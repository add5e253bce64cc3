package seal

import (
	"crypto/subtle"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/secret"
)

var (
	errNoPending    = fault.New(fault.Invalid, "no new generation of key shares waits for verification: start a rekey first")
	errPendingShare = fault.New(fault.Invalid,
		"the key share is of a generation that is not in force yet: use the share of the present generation until the rekey is committed")
	errPresentShare = fault.New(fault.Invalid,
		"the key share is of the present generation: to verify a rekey, give the new share")
)

// OldShare says that a share is one of a generation that a rekey has replaced. A fault is in its chain.
type OldShare struct {
	Generation uint64
	Slot       int
}

func (e *OldShare) Error() string { return e.Unwrap().Error() }

// Unwrap returns the fault.
func (e *OldShare) Unwrap() error {
	return fault.Newf(fault.Invalid,
		"the key share is of an old generation (number %d): it was replaced by a rekey; use the share of the present generation", e.Generation)
}

// Check decides, alone and at once, whether share belongs to the active generation, and returns its slot and its
// holder key, which the caller wipes. The share stays the caller's. Faults name the slot, if it is one of the
// generation, and never a byte of the share. For a share of the generation before, the error is an OldShare.
func (r *Record) Check(share secret.Bytes) (slot int, key *holder.Key, err error) {
	if r.damaged {
		return 0, nil, ErrDamagedTable
	}
	active := r.Generation()
	slot, key, err = r.match(active, share)
	if err == nil {
		return slot, key, nil
	}
	for i := range r.generations {
		g := &r.generations[i]
		if g == active {
			continue
		}
		slot, ok := r.belongs(g, share)
		switch {
		case ok && r.pending(g):
			return 0, nil, errPendingShare
		case ok:
			return 0, nil, &OldShare{Generation: g.Number, Slot: slot}
		}
	}
	return 0, nil, err
}

// CheckPending is Check for the pending generation.
func (r *Record) CheckPending(share secret.Bytes) (slot int, key *holder.Key, err error) {
	if r.damaged {
		return 0, nil, ErrDamagedTable
	}
	pending := r.Pending()
	if pending == nil {
		return 0, nil, errNoPending
	}
	slot, key, err = r.match(pending, share)
	if err == nil {
		return slot, key, nil
	}
	if _, ok := r.belongs(r.Generation(), share); ok {
		return 0, nil, errPresentShare
	}
	return 0, nil, err
}

// checkOpening is Check for what unseals.
func (r *Record) checkOpening(share secret.Bytes) (gen *Generation, slot int, key *holder.Key, err error) {
	slot, key, err = r.Check(share)
	if err == nil {
		return r.Generation(), slot, key, nil
	}
	if gen = r.Retiring(); gen != nil && !r.damaged {
		if slot, key, again := r.match(gen, share); again == nil {
			return gen, slot, key, nil
		}
	}
	return nil, 0, nil, err
}

// replaced is Check for the generation that old names.
func (r *Record) replaced(old *OldShare, share secret.Bytes) (Accepted, error) {
	g := r.where(func(g *Generation) bool { return g.Number == old.Generation })
	slot, key, err := r.match(g, share)
	if err != nil {
		return Accepted{}, err
	}
	return Accepted{Generation: g.Number, Slot: slot, Label: g.Label(slot), ClusterID: r.ClusterID, Key: key}, nil
}

func (r *Record) belongs(g *Generation, share secret.Bytes) (slot int, ok bool) {
	slot, key, err := r.match(g, share)
	if err == nil {
		key.Wipe()
	}
	return slot, err == nil
}

// match is Check for one generation.
func (r *Record) match(g *Generation, share secret.Bytes) (slot int, key *holder.Key, err error) {
	if want := g.shareSize(); share.Len() != want {
		return 0, nil, fault.Newf(fault.Invalid,
			"the key share has the wrong length: a share of this cluster has %d bytes, which are %d hex digits", want, 2*want)
	}
	slot = slotOf(share)
	verifier, ok := g.Verifier(slot)
	if !ok {
		return 0, nil, fault.Newf(fault.Invalid,
			"the key share is not valid: it is for none of this cluster's %d slots; check it for typing errors, and that it is a share of this cluster", g.Shares)
	}
	key = holder.Derive(share, r.ClusterID, g.Number)
	derived := key.Verifier()
	if subtle.ConstantTimeCompare(derived[:], verifier[:]) != 1 {
		key.Wipe()
		return 0, nil, fault.Newf(fault.Invalid,
			"the key share for slot %d is not valid: check it for typing errors, and that it is a current share of this cluster", slot)
	}
	return slot, key, nil
}

// shareSize is 33 bytes, or 32 where the only share is the unseal key itself.
func (g *Generation) shareSize() int {
	if g.Shares == 1 {
		return barrier.KeySize
	}
	return barrier.KeySize + 1
}

// slotOf is the last byte of a long share, and 1 for the share that is the unseal key.
func slotOf(share secret.Bytes) int {
	if b := share.Reveal(); len(b) == barrier.KeySize+1 {
		return int(b[barrier.KeySize])
	}
	return 1
}
