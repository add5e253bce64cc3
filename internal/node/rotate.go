package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/transcript"
)

// rotationKey → RotationConfig
const rotationKey = "rotation/config"

// Limits of the automatic rotation, from the wire contract.
const (
	minInterval   = 24 * time.Hour
	minOperations = 1_000_000
	maxOperations = 3_865_470_566
)

// RotationConfig says when the keyring gets a new term by itself.
type RotationConfig struct {
	Enabled       bool          `json:"enabled"`
	Interval      time.Duration `json:"interval"`       // 0: not by time
	MaxOperations uint64        `json:"max_operations"` // encryptions under one term
}

func (c RotationConfig) check() error {
	switch {
	case c.Interval != 0 && c.Interval < minInterval:
		return fault.New(fault.Invalid, "interval must be 0, for no rotation by time, or at least 24 hours")
	case c.MaxOperations < minOperations || c.MaxOperations > maxOperations:
		return fault.Newf(fault.Invalid, "max_operations must be between %d and %d", minOperations, maxOperations)
	}
	return nil
}

// RotationConfig reads when the keyring rotates by itself.
func (n *Node) RotationConfig(ctx context.Context, a Access) (cfg RotationConfig, err error) {
	err = n.View(ctx, a, func(c *Call) error {
		cfg, err = readRotation(c.Tx)
		return err
	})
	return cfg, err
}

// SetRotationConfig changes it. change may run more than once.
func (n *Node) SetRotationConfig(ctx context.Context, a Access, change func(*RotationConfig) error) error {
	return n.Update(ctx, a, func(c *Call) error {
		cfg, err := readRotation(c.Tx)
		if err != nil {
			return err
		}
		if err := change(&cfg); err != nil {
			return err
		}
		if err := cfg.check(); err != nil {
			return err
		}
		if err := putJSON(c.Tx, rotationKey, cfg); err != nil {
			return err
		}
		return n.record(c.act, c.Tx, transcript.Entry{
			Event:  transcript.RotateConfig,
			Detail: fmt.Sprintf("enabled %t, interval %s, max_operations %d", cfg.Enabled, cfg.Interval, cfg.MaxOperations),
		})
	})
}

func readRotation(r store.Reader) (RotationConfig, error) {
	cfg := RotationConfig{Enabled: true, MaxOperations: maxOperations}
	err := getJSON(r, rotationKey, &cfg)
	return cfg, err
}

// RotateKeyring begins a new term: what is written from now on is encrypted under it.
func (n *Node) RotateKeyring(ctx context.Context, a Access) error {
	return n.changeKeys(ctx, a, func(act *active, tx store.Tx) error {
		return n.nextTerm(act, tx, "by a token")
	})
}

func (n *Node) nextTerm(act *active, tx store.Tx, detail string) error {
	if err := act.Barrier.RotateIn(tx, n.Now()); err != nil {
		return err
	}
	return n.record(act, tx, transcript.Entry{Event: transcript.RotateKeyring, Detail: detail})
}

// RotateRootKey makes a new root key, and with it a new term, for the shares there are.
func (n *Node) RotateRootKey(ctx context.Context, a Access) error {
	return n.use(ctx, func(ctx context.Context, act *active) error {
		// Before a key is made for it: who asks may be a stranger.
		j, err := n.look(ctx, act, a, nil)
		if err == nil && (j.token == nil || !j.token.Limited) { // the use of a limited one must be counted first
			err = j.denied
		}
		if err != nil {
			return err
		}
		root, err := act.Barrier.PrepareRoot()
		if err != nil {
			return err
		}
		err = n.changeKeys(ctx, a, func(act *active, tx store.Tx) error {
			rec, err := act.RotateRoot(tx, root, n.Now())
			if err != nil {
				return err
			}
			return n.record(act, tx, transcript.Entry{Event: transcript.RotateRoot, Generation: rec.Generation().Number, Detail: "by a token"})
		})
		root.Close(err == nil || errors.Is(err, store.ErrUnknownOutcome))
		return err
	})
}

// changeKeys runs fn for a token that may, in a transaction of the barrier itself: no other may write the keyring.
func (n *Node) changeKeys(ctx context.Context, a Access, fn func(*active, store.Tx) error) error {
	return n.use(ctx, func(ctx context.Context, act *active) error {
		if _, err := n.look(ctx, act, a, nil); err != nil { // tells whom it must be told
			return err
		}
		var denied error
		err := act.Barrier.Update(ctx, func(tx store.Tx) error {
			j, err := act.judge(tx, a)
			if err != nil {
				return err
			}
			if err := act.countUse(tx, j.token); err != nil {
				return err
			}
			if denied = j.denied; denied != nil {
				return nil
			}
			return fn(act, tx)
		})
		if err == nil {
			err = denied
		}
		return err
	})
}

// sweepKeyring rotates it when the configuration says that it is time.
func (n *Node) sweepKeyring(ctx context.Context, a *active) error {
	var cfg RotationConfig
	err := a.Barrier.View(ctx, func(r store.Reader) (err error) {
		cfg, err = readRotation(r)
		return err
	})
	if err != nil || !cfg.Enabled {
		return err
	}
	st, err := a.Barrier.Status(ctx)
	if err != nil {
		return err
	}
	why := ""
	switch {
	case st.Encryptions >= cfg.MaxOperations:
		why = "by the number of encryptions"
	case cfg.Interval > 0 && n.Now().Sub(st.Installed) >= cfg.Interval:
		why = "by time"
	default:
		return nil
	}
	err = a.Barrier.Update(ctx, func(tx store.Tx) error { return n.nextTerm(a, tx, why) })
	if err == nil {
		n.Logger.Info("keyring rotated", "why", why)
	}
	return err
}
