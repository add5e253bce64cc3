package node

import (
	"context"

	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/token"
)

// Create makes a token below the request's own, or an orphan.
func (c *Call) Create(spec token.Spec) (secret.Bytes, *token.Entry, []string, error) {
	spec.Sudo, spec.Known = c.Sudo(spec.Path), c.knows
	return c.Tokens.Create(c.Tx, c.Token, spec)
}

var errLoginGone = fault.New(fault.Invalid, "the login that this token came from is gone: log in again")

// Renew renews a token. Where it came from a login, what the auth method says of the user or role now is what counts.
func (c *Call) Renew(e *token.Entry, spec token.Renewal) (warnings []string, err error) {
	if e.Mount == "" || e.Login == nil {
		return c.Tokens.Renew(c.Tx, e, spec)
	}
	at := c.sys.mounts.ByUUID(e.Mount)
	if at == nil {
		return nil, errLoginGone
	}
	m := c.node.engineMount(at)
	spec.DefaultTTL, spec.MaxTTL = m.DefaultTTL, m.MaxTTL
	if k := c.node.KindOf(at); k != nil {
		if r, ok := k.engine.(engine.Renewer); ok {
			params, err := r.Renew(store.Within(c.Tx, at.Records()), m, *e.Login)
			if err != nil {
				return nil, err
			}
			spec.Params = &params
		}
	}
	return c.Tokens.Renew(c.Tx, e, spec)
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

// leaseBatch is how many tokens are revoked in one transaction.
const leaseBatch = 200

// RevokeLeases revokes every token whose lease ID begins with prefix, by whole parts of the path.
func (n *Node) RevokeLeases(ctx context.Context, a Access, prefix string) error {
	return n.use(ctx, func(ctx context.Context, act *active) error {
		if err := n.update(ctx, act, a, func(*Call) error { return nil }); err != nil {
			return err
		}
		return n.revokeLeases(ctx, act, prefix, func(string) bool { return true })
	})
}

// revokeLeases revokes in batches, each of which looks again, the tokens below prefix whose mount fits.
func (n *Node) revokeLeases(ctx context.Context, act *active, prefix string, fits func(mount string) bool) error {
	for after := ""; ; {
		var found []*token.Entry
		from := after
		err := act.Barrier.View(ctx, func(r store.Reader) (err error) {
			found, after, err = act.tokens.Leased(r, prefix, from, leaseBatch)
			return err
		})
		if err != nil {
			return err
		}
		err = act.Barrier.Update(ctx, func(tx store.Tx) error {
			c := &Call{Tx: tx, Tokens: act.tokens, node: n, act: act}
			for _, e := range found {
				if !fits(e.Mount) {
					continue
				}
				if err := c.Revoke(e, false); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || after == "" {
			return err
		}
	}
}

// Withdraw revokes a token that was made for a reply which is not sent, and wipes its ID.
func (n *Node) Withdraw(ctx context.Context, id secret.Bytes) error {
	defer id.Wipe()
	return n.use(ctx, func(ctx context.Context, act *active) error {
		return act.Barrier.Update(ctx, func(tx store.Tx) error {
			e, err := act.tokens.Authenticate(tx, id.Reveal())
			if err != nil {
				return err
			}
			return act.tokens.RevokeTree(tx, e)
		})
	})
}

// Tidy removes what has expired, and what leads to no token.
func (n *Node) Tidy(ctx context.Context, a Access) error {
	return n.use(ctx, func(ctx context.Context, act *active) error {
		if err := n.update(ctx, act, a, func(*Call) error { return nil }); err != nil {
			return err
		}
		removed, err := act.tokens.Tidy(ctx, act.Barrier)
		n.Logger.Info("token store tidied", "removed", removed)
		return err
	})
}
