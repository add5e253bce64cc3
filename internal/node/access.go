package node

import (
	"context"
	"errors"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/token"
)

// ErrDenied is the one answer to a missing, bad, expired or insufficient token.
var ErrDenied = fault.New(fault.Denied, "permission denied")

// Access says who asks for what.
type Access struct {
	Token      secret.Bytes // stays the caller's
	Path       string       // as policies name it: no leading slash, no /v1/
	Capability policy.Capability
	Sudo       bool // the path needs sudo in addition
}

// Call is one request that was found to be allowed, inside the transaction that decided it.
type Call struct {
	Tx     store.Tx // in a View, writes fail
	Token  *token.Entry
	Tokens *token.Tokens

	node  *Node
	act   *active
	after []func() // what to tell the log once the transaction has committed
}

// View decides and reads in one snapshot: fn runs only if the token is live and its policies allow the access.
func (n *Node) View(ctx context.Context, a Access, fn func(*Call) error) error {
	return n.use(ctx, func(ctx context.Context, act *active) error {
		err := act.Barrier.View(ctx, func(r store.Reader) error {
			e, err := act.tokens.Authenticate(r, a.Token.Reveal())
			if err != nil {
				return err
			}
			if e.Limited {
				return errCountUse
			}
			return n.call(act, readOnly{r}, e, a, fn, nil)
		})
		if !errors.Is(err, errCountUse) {
			return err
		}
		return n.update(ctx, act, a, func(c *Call) error {
			c.Tx = readOnly{c.Tx}
			return fn(c)
		})
	})
}

// Live reports whether a token is live, without asking what it may or counting a use: only so much that its owner is no
// stranger.
func (n *Node) Live(ctx context.Context, id secret.Bytes) bool {
	if id.Empty() {
		return false
	}
	err := n.use(ctx, func(ctx context.Context, act *active) error {
		return act.Barrier.View(ctx, func(r store.Reader) error {
			_, err := act.tokens.Authenticate(r, id.Reveal())
			return err
		})
	})
	return err == nil
}

// errCountUse sends a read with a token of limited uses the other way: its use must be counted.
var errCountUse = errors.New("the token's use must be counted")

// Update decides and writes in one transaction. fn may run more than once and must have no effects outside its Call.
// The use of a token that has a limited number of them counts even when the request is refused or fails.
func (n *Node) Update(ctx context.Context, a Access, fn func(*Call) error) error {
	return n.use(ctx, func(ctx context.Context, act *active) error { return n.update(ctx, act, a, fn) })
}

func (n *Node) update(ctx context.Context, act *active, a Access, fn func(*Call) error) error {
	var after []func()
	var failed error // of fn, where the transaction commits all the same
	err := act.Barrier.Update(ctx, func(tx store.Tx) error {
		failed = nil
		e, err := act.tokens.Authenticate(tx, a.Token.Reveal())
		if err != nil {
			return err
		}
		if !e.Limited {
			return n.call(act, tx, e, a, fn, &after)
		}
		if err := act.tokens.Use(tx, e); err != nil {
			return err
		}
		overlay := store.NewOverlay(tx)
		if failed = n.call(act, overlay, e, a, fn, &after); failed != nil {
			return nil
		}
		return apply(tx, overlay)
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return err
	}
	for _, tell := range after {
		tell()
	}
	return nil
}

func apply(tx store.Tx, o *store.Overlay) error {
	for key, value := range o.Changes() {
		write := func() error { return tx.Put(key, value) }
		if value == nil {
			write = func() error { return tx.Delete(key) }
		}
		if err := write(); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) call(act *active, tx store.Tx, e *token.Entry, a Access, fn func(*Call) error, after *[]func()) error {
	if !a.allowed(e) {
		return ErrDenied
	}
	c := &Call{Tx: tx, Token: e, Tokens: act.tokens, node: n, act: act}
	if err := fn(c); err != nil {
		return err
	}
	if after != nil {
		*after = c.after
	}
	return nil
}

func (a Access) allowed(e *token.Entry) bool {
	return policy.Decide(e.Policies, a.Path, a.Capability) &&
		(!a.Sudo || policy.Decide(e.Policies, a.Path, policy.Sudo))
}

// Revoke kills e and everything below it, or only e when its children are to live on as orphans. An open attempt
// that depends on a token which dies by this ends with it.
func (c *Call) Revoke(e *token.Entry, orphanChildren bool) error {
	// The attempt first: once the token is dead, nothing leads from its ID to its tree any more.
	if err := c.endAttemptsOf(e, orphanChildren); err != nil {
		return err
	}
	if orphanChildren {
		return c.Tokens.RevokeOrphan(c.Tx, e)
	}
	return c.Tokens.RevokeTree(c.Tx, e)
}

// readOnly is the Tx of a View.
type readOnly struct{ store.Reader }

var errReadOnly = errors.New("a write inside a read-only call")

func (readOnly) Put(string, []byte) error { return errReadOnly }
func (readOnly) Delete(string) error      { return errReadOnly }
