package node

import (
	"context"
	"errors"
	"time"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

// slowSweepTicks is how many sweeps pass between two that also look at what is large.
const slowSweepTicks = 20

// sweepUntilClosed removes what has expired for as long as a is in force. Nothing depends on it for being refused:
// whatever expires is dead at its second, swept or not.
func (n *Node) sweepUntilClosed(a *active) {
	ticker := time.NewTicker(n.SweepInterval)
	defer ticker.Stop()
	for tick := 0; ; tick++ {
		select {
		case <-a.ctx.Done():
			return
		case <-ticker.C:
		}
		a.requests.RLock()
		if a.closed {
			a.requests.RUnlock()
			return
		}
		parts := []func(context.Context, *active) error{n.sweep}
		if tick%slowSweepTicks == 0 {
			parts = append(parts, n.sweepEngines, n.setUp, n.auditTranscript, n.sweepNodes)
		}
		err := inTurn(a.ctx, a, parts...)
		a.requests.RUnlock()
		if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, errOrdered) {
			n.Logger.Error("sweeping what has expired", "error", err)
		}
	}
}

// sweep does its parts one after the other.
func (n *Node) sweep(ctx context.Context, a *active) error {
	parts := []func(context.Context, *active) error{n.sweepOutcomes, n.sweepTokens, n.sweepMounts, n.sweepKeyring, n.watchTranscript}
	for _, kind := range kinds() {
		parts = append(parts, func(ctx context.Context, a *active) error { return n.sweepAttempt(ctx, a, kind) })
	}
	return inTurn(ctx, a, append(parts, n.sweepPending)...)
}

// inTurn does each whatever became of the others, unless the store is away: then all would say the same.
func inTurn(ctx context.Context, a *active, parts ...func(context.Context, *active) error) (err error) {
	for _, part := range parts {
		err = errors.Join(err, part(ctx, a))
		if f := fault.As(err); f != nil && f.Kind == fault.Unavailable {
			break
		}
	}
	return err
}

// sweepPending destroys a prepared generation whose ceremony is lost: nobody could bring it to an end.
func (n *Node) sweepPending(ctx context.Context, a *active) error {
	due := func(r store.Reader) (bool, error) {
		rec, err := a.Record(r)
		if err != nil || rec.Pending() == nil {
			return false, err
		}
		for _, kind := range []ceremony.Kind{ceremony.Rekey, ceremony.RotateRoot} {
			if s, err := n.loadFor(r, rec, kind); err != nil || s.open != nil && s.open.Verification != nil {
				return false, err
			}
		}
		return true, nil
	}
	var lost bool
	err := a.Barrier.View(ctx, func(r store.Reader) (err error) {
		lost, err = due(r)
		return err
	})
	if err != nil || !lost {
		return err
	}
	return a.Barrier.Update(ctx, func(tx store.Tx) error {
		if lost, err := due(tx); err != nil || !lost {
			return err
		}
		return n.freePending(a, tx)
	})
}

func (n *Node) sweepTokens(ctx context.Context, a *active) error {
	swept, err := a.tokens.Sweep(ctx, a.Barrier, n.Now())
	if swept > 0 {
		n.Logger.Debug("swept expired and revoked tokens", "count", swept)
	}
	return err
}

// sweepEngines lets each mount remove what has expired in it, whatever became of the others.
func (n *Node) sweepEngines(ctx context.Context, act *active) error {
	sys, err := act.snapshot(ctx)
	if err != nil {
		return err
	}
	for _, e := range sys.mounts.All() {
		k := n.KindOf(e)
		if k == nil {
			continue
		}
		if s, ok := k.engine.(engine.Sweeper); ok {
			err = errors.Join(err, s.Sweep(ctx, store.WithinStore(act.Barrier, e.Records()), n.Now()))
		}
	}
	return err
}

// sweepAttempt looks first and writes only if there is something to end, so that an idle node causes no writes.
func (n *Node) sweepAttempt(ctx context.Context, a *active, kind ceremony.Kind) error {
	var due bool
	look := func(r store.Reader) (*slot, error) {
		s, err := n.load(a, r, kind)
		if err != nil {
			return nil, err
		}
		_, err = readOpen(r, kind)
		damaged := errors.Is(err, errDamagedAttempt)
		due = damaged || s.dead != nil
		if damaged {
			err = nil
		}
		return s, err
	}
	err := a.Barrier.View(ctx, func(r store.Reader) error {
		_, err := look(r)
		return err
	})
	if err != nil || !due {
		return err
	}
	var nonce string
	err = a.Barrier.Update(ctx, func(tx store.Tx) error {
		s, err := look(tx)
		if err != nil || !due {
			return err
		}
		if s.dead == nil {
			return n.dropDamaged(a, tx, kind)
		}
		nonce = s.dead.Nonce
		return n.buryDead(a, tx, s)
	})
	if err == nil && due {
		n.Logger.Warn("ceremony expired", "kind", kind, "nonce", nonce)
	}
	return err
}
