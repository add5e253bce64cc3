package node

import (
	"context"
	"errors"
	"time"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/transcript"
)

// SealStatus is what anybody may know about the seal.
type SealStatus struct {
	Initialized, Sealed bool
	Threshold, Shares   int    // of the active generation; 0 while uninitialised
	Progress            int    // shares given to this process so far
	Nonce               string // of this round of unsealing; empty before its first share
	// ClusterName and ClusterID are empty while sealed.
	ClusterName, ClusterID string
	// The same numbers of the generation before, which can still unseal; 0 unless one is retiring.
	RetiringThreshold, RetiringShares, RetiringProgress int
	Warnings                                            []string // what an operator must know
}

// Initialized reports whether the store holds a cluster.
func (n *Node) Initialized(ctx context.Context) (bool, error) {
	rec, err := n.sealRecord(ctx)
	return rec != nil || errors.Is(err, seal.ErrUnreadable), unlessUnreadable(err)
}

// unlessUnreadable lets the status be told of a cluster whose record is damaged beyond reading.
func unlessUnreadable(err error) error {
	if errors.Is(err, seal.ErrUnreadable) {
		return nil
	}
	return err
}

// SealStatus tells the state of the seal and the progress of unsealing.
func (n *Node) SealStatus(ctx context.Context) (SealStatus, error) {
	sealed := n.Sealed() || errors.Is(n.lookOnce(ctx), ErrSealed)
	rec, err := n.sealRecord(ctx)
	if err != nil || rec == nil {
		return SealStatus{Initialized: errors.Is(err, seal.ErrUnreadable), Sealed: sealed}, unlessUnreadable(err)
	}
	gen := rec.Generation()
	st := SealStatus{Initialized: true, Sealed: sealed, Threshold: gen.Threshold, Shares: gen.Shares}
	if old := rec.Retiring(); old != nil {
		st.RetiringThreshold, st.RetiringShares = old.Threshold, old.Shares
	}
	if !st.Sealed {
		st.ClusterName, st.ClusterID = rec.ClusterName, rec.ClusterID
		if n.setupFailed.Load() {
			st.Warnings = []string{warnSetup}
		}
		return st, nil
	}
	p, err := n.unsealer.Progress(ctx)
	st.Progress, st.RetiringProgress, st.Nonce = p.Given, p.RetiringGiven, p.Nonce
	return st, err
}

func (n *Node) sealRecord(ctx context.Context) (rec *seal.Record, err error) {
	err = n.Store.View(ctx, func(r store.Reader) error {
		rec, err = seal.Load(r)
		return err
	})
	return rec, err
}

// Unseal takes one share, which it wipes. At the threshold the node unseals. While unsealed the share is ignored.
func (n *Node) Unseal(ctx context.Context, share secret.Bytes, local bool, client string) (SealStatus, error) {
	defer share.Wipe()
	if n.Sealed() { // what isn't valid is not worth a turn
		if err := n.unsealer.Precheck(ctx, share, local, n.oldShareSealed(ctx, "unseal")); err != nil && n.Sealed() {
			n.refused("unseal", err)
			return SealStatus{}, err
		}
	}
	leave, err := n.turn(ctx)
	if err != nil {
		return SealStatus{}, err
	}
	defer leave()
	if n.obey(ctx); !n.Sealed() {
		return n.SealStatus(ctx)
	}
	accept := func(a seal.Accepted) error {
		e := transcript.Entry{
			Event: transcript.UnsealShare, Generation: a.Generation, Slot: a.Slot, Label: a.Label, Round: a.Round,
			Shared: n.unsealFrom.gives(a.Round, client, a.Slot),
		}
		if a.Key == nil { // nobody can tell whose it was
			e.Generation, e.Slot, e.Label, e.Detail = 0, 0, "", transcript.UncheckedShare
		}
		if e.Shared {
			n.Logger.Warn("shares of several holders came from one client", "at", "unseal", "slot", a.Slot)
		}
		return n.recordSealed(ctx, a.ClusterID, a.Key, e)
	}
	if err := n.guard.pinNow(ctx); err != nil { // shares that are given after a seal are meant to end it
		return SealStatus{}, err
	}
	if now := n.guard.order(); now != n.unsealUnder { // and those that were given before are not
		n.unsealer.Close()
		n.unsealUnder = now
	}
	p, opened, err := n.unsealer.Submit(ctx, share, local, accept, func(o *seal.Opened) error { return n.activate(ctx, o, "") })
	if opened == nil {
		n.guard.unpin()
	}
	if errors.Is(err, errOrdered) {
		err = errSealedAgain
	}
	if err != nil {
		n.refused("unseal", err)
		return SealStatus{}, err
	}
	if opened == nil {
		n.Logger.Info("share accepted", "at", "unseal", "progress", p.Given, "threshold", p.Threshold)
		return n.SealStatus(ctx)
	}
	if opened.Repaired {
		n.Logger.Error("the holder table was damaged and has been restored from its copy behind the barrier: check this machine's storage and who can write it")
	}
	n.presence.alone.Store(false)
	n.Logger.Info("unsealed", "threshold", p.Threshold)
	return n.SealStatus(ctx)
}

var errSealedAgain = fault.New(fault.Unavailable, "the cluster was sealed at another server while the last share was given: give the shares again")

// oldShareSealed writes down, while sealed, that a share was refused which was valid once: signed with it, for the
// holder it belonged to is who gave it away.
func (n *Node) oldShareSealed(ctx context.Context, at string) func(seal.Accepted) error {
	return func(a seal.Accepted) error {
		if !n.former.due(a.Generation, a.Slot, n.Now()) {
			return nil
		}
		err := n.recordSealed(ctx, a.ClusterID, a.Key, transcript.Entry{
			Event: transcript.Refused, Generation: a.Generation, Slot: a.Slot, Label: a.Label, Detail: "share of an old generation, at " + at,
		})
		if err != nil {
			n.former.forget(a.Generation, a.Slot)
		}
		return err
	}
}

// givers remembers, for one round of unsealing, which client gave which shares; and who took theirs back.
type givers struct {
	round  string
	slots  map[string]int // :: client → the first slot it gave; at most one for each accepted share
	resets pauses         // keeps a holder from filling the transcript
}

// gives reports whether the client gave the share of another slot in this round. The caller holds transition.
func (g *givers) gives(round, client string, slot int) bool {
	if g.round != round {
		g.round, g.slots = round, make(map[string]int)
	}
	first, ok := g.slots[client]
	if !ok {
		g.slots[client] = slot
	}
	return ok && first != slot
}

// ErrResetAgain answers a holder who resets over and over.
var ErrResetAgain = &fault.Error{
	Kind: fault.Limited, RetryAfter: refusalPause,
	Sentence: "this holder reset the unseal less than a minute ago: wait a minute, or use a local connection",
}

// ResetUnseal forgets the shares given so far: over a local connection, or for a share of the generation in force, once
// a minute for each holder. Neither a stranger nor a holder who was removed can wear an unseal down.
func (n *Node) ResetUnseal(ctx context.Context, share secret.Bytes, local bool) (SealStatus, error) {
	defer share.Wipe()
	if n.Sealed() && !local {
		if err := n.unsealer.PrecheckReset(ctx, share, n.oldShareSealed(ctx, "reset of an unseal")); err != nil && n.Sealed() {
			return SealStatus{}, err
		}
	}
	leave, err := n.turn(ctx)
	if err != nil {
		return SealStatus{}, err
	}
	defer leave()
	if !n.Sealed() {
		return SealStatus{}, fault.New(fault.Invalid, "vault is unsealed: there is no unseal progress to reset")
	}
	accept := func(a seal.Accepted) error {
		e := transcript.Entry{Event: transcript.UnsealReset, Generation: a.Generation, Slot: a.Slot, Label: a.Label, Round: a.Round}
		if local {
			e.Detail = "the shares of all holders, over a local connection"
		} else if !n.unsealFrom.resets.due(a.Generation, a.Slot, n.Now()) {
			return ErrResetAgain
		}
		err := n.recordSealed(ctx, a.ClusterID, a.Key, e)
		if err != nil {
			n.unsealFrom.resets.forget(a.Generation, a.Slot)
		}
		return err
	}
	if _, err := n.unsealer.Reset(ctx, share, local, accept); err != nil {
		return SealStatus{}, err
	}
	n.Logger.Info("unseal progress reset", "local", local)
	return n.SealStatus(ctx)
}

// errSealedDirty answers a seal that came into force while the store failed.
var errSealedDirty = fault.New(fault.Unavailable, "the server is sealed, but the store could not be written: other servers of the cluster may not be, and "+
	"ceremonies that were in progress may still be there after the next unseal: seal the others, and cancel the ceremonies then")

// sealPatience is how long a seal waits for the store before it wipes the keys all the same.
const sealPatience = 10 * time.Second

// Seal wipes the keys and orders every other node of the cluster to do so, and ends an open attempt once no request can
// start another; with alone, it seals this node and nothing else. On a sealed node it does nothing, and asks for no
// authority.
func (n *Node) Seal(ctx context.Context, a Access, alone bool) error {
	leave, err := n.turn(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if n.obey(ctx); n.Sealed() {
		return nil
	}
	if err := n.View(ctx, a, func(*Call) error { return nil }); err != nil {
		return err
	}
	err = n.deactivate(func(act *active) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sealPatience)
		defer cancel()
		n.presence.alone.Store(true) // if the others go on because they don't hear of it, their keys are not for this one
		if alone {
			return act.Barrier.Update(ctx, func(tx store.Tx) error {
				return n.record(act, tx, transcript.Entry{Event: transcript.Sealed, Detail: "server " + n.name() + " alone"})
			})
		}
		err := act.Barrier.Update(ctx, func(tx store.Tx) error { return errors.Join(n.endAll(act, tx), order(tx)) })
		if err != nil && !errors.Is(err, errOrdered) { // what can't be ended must not keep the others open
			err = errors.Join(err, act.Barrier.Update(ctx, order))
		}
		return err
	})
	if errors.Is(err, errOrdered) { // somebody else sealed the cluster meanwhile
		err = nil
	}
	if err == nil {
		n.presence.alone.Store(alone)
	}
	if err != nil {
		n.Logger.Error("sealed, but that could not be written to the store", "error", err)
		return errSealedDirty
	}
	n.Logger.Info("sealed", "by", "operator", "alone", alone)
	return nil
}

// endAll ends what is open, because an operator seals; only a rekey that waits for its new holders goes on after the
// next unseal.
func (n *Node) endAll(act *active, tx store.Tx) error {
	for _, kind := range kinds() {
		o, err := readOpen(tx, kind)
		if errors.Is(err, errDamagedAttempt) {
			err = n.dropDamaged(act, tx, kind)
		}
		if err == nil && o != nil && o.Verification == nil {
			err = n.bury(act, tx, o, Cancelled, transcript.Entry{Event: transcript.End, Detail: "the server was sealed"})
		}
		if err != nil {
			return err
		}
	}
	return n.record(act, tx, transcript.Entry{Event: transcript.Sealed})
}

// KeyStatus tells the active encryption term.
func (n *Node) KeyStatus(ctx context.Context, a Access) (st barrier.Status, err error) {
	a.Capability = policy.Read
	if err = n.View(ctx, a, func(*Call) error { return nil }); err != nil {
		return st, err
	}
	err = n.use(ctx, func(ctx context.Context, act *active) error {
		st, err = act.Barrier.Status(ctx)
		return err
	})
	return st, err
}
