package node

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/store"
)

// tokenSweepTicks is how many sweeps pass between two that look at the tokens.
const tokenSweepTicks = 20

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
		err := n.sweep(a.ctx, a)
		if tick%tokenSweepTicks == 0 {
			err = errors.Join(err, n.sweepTokens(a.ctx, a))
		}
		a.requests.RUnlock()
		if err != nil && !errors.Is(err, context.Canceled) {
			n.Logger.Error("sweeping what has expired", "error", err)
		}
	}
}

// sweep does its parts one after the other, and each whatever became of the others.
func (n *Node) sweep(ctx context.Context, a *active) error {
	return errors.Join(n.sweepAttempt(ctx, a), n.sweepResults(ctx, a))
}

// sweepTokens looks at every token, so it is done seldom.
func (n *Node) sweepTokens(ctx context.Context, a *active) error {
	swept, err := a.tokens.Sweep(ctx, a.Barrier, n.Now())
	if swept > 0 {
		n.Logger.Debug("swept expired and revoked tokens", "count", swept)
	}
	return err
}

// sweepAttempt looks first and writes only if there is something to end, so that an idle node causes no writes.
func (n *Node) sweepAttempt(ctx context.Context, a *active) error {
	var due bool
	var nonce string
	find := func(r store.Reader) error {
		rec, err := a.Record(r)
		if err != nil {
			return err
		}
		open, err := readAttempt(r)
		damaged := errors.Is(err, errDamagedAttempt)
		due = damaged || open != nil && open.over(rec, n.Now())
		if open != nil {
			nonce = open.Nonce
		}
		if damaged {
			return nil
		}
		return err
	}
	if err := a.Barrier.View(ctx, find); err != nil || !due {
		return err
	}
	err := a.Barrier.Update(ctx, func(tx store.Tx) error {
		if err := find(tx); err != nil || !due {
			return err
		}
		return dropAttempt(tx)
	})
	if err == nil && due {
		n.Logger.Warn("root generation expired", "nonce", nonce)
	}
	return err
}

func (n *Node) sweepResults(ctx context.Context, a *active) error {
	var dead []string
	err := a.Barrier.View(ctx, func(r store.Reader) error {
		for e, err := range r.Scan(resultPrefix, "") {
			if err != nil {
				return err
			}
			res, err := readResult(e.Value)
			if err != nil {
				return err
			}
			if !n.Now().Before(res.Expires) {
				dead = append(dead, strings.Clone(e.Key))
			}
		}
		return nil
	})
	if err != nil || len(dead) == 0 {
		return err
	}
	return a.Barrier.Update(ctx, func(tx store.Tx) error {
		for _, key := range dead {
			if err := tx.Delete(key); err != nil {
				return err
			}
		}
		return nil
	})
}
