package node

import (
	"cmp"
	"context"
	"errors"
	"net/netip"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/mount"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/token"
)

// ErrDenied is the one answer to a missing, bad, expired or insufficient token.
var ErrDenied = fault.New(fault.Denied, "permission denied")

// ErrMoved says that a path doesn't lead any more to the mount where Locate found it: locate it again.
var ErrMoved = errors.New("the mount of the path has changed")

// Access says who asks for what. Only Path and Capability are required.
type Access struct {
	Token      secret.Bytes // stays the caller's
	Client     netip.Addr   // of the connection; the zero Addr if there is none that a token could be bound to
	Path       string       // as policies name it: no leading slash, no /v1/, none at the end
	Capability policy.Capability
	Sudo       bool                  // the path needs sudo in addition
	Data       func() map[string]any // the decoded body, for policies that restrict parameters; nil if there is none
	Wrap       Wrap                  // the wrapping that was asked for
	// Note is told, before anything is done, what was found out about the request: its token, nil if none lives, and why
	// it is refused, nil if it isn't. It may be told twice. An error of it ends the request.
	Note func(e *token.Entry, denied error) error

	mount *mount.Entry // where Locate found the path to lead; nil outside of mounts
	// exists makes of an update of what isn't there a creation; nil: never.
	exists func(store.Reader) (bool, error)
}

// Call is one request that was found to be allowed, inside the transaction that decided it.
type Call struct {
	Tx     store.Tx // in a View, writes fail
	Token  *token.Entry
	Tokens *token.Tokens

	acl   *policy.ACL
	sys   *system
	node  *Node
	act   *active
	after []func() // what to tell the log once the transaction has committed
}

// judgement is what was found out about a request.
type judgement struct {
	token  *token.Entry // nil: none that lives, or none that may be used from there
	acl    *policy.ACL
	sys    *system
	denied error // nil: allowed
}

// judge decides in r's snapshot. An error says that it could not be decided.
func (a *active) judge(r store.Reader, who Access) (j judgement, err error) {
	e, err := a.tokens.Authenticate(r, who.Token.Reveal()) // first: it reads the stamp in the same round trip
	if err != nil && !errors.Is(err, token.ErrDead) {
		return j, err
	}
	var errSystem error
	if j.sys, errSystem = a.system(r); errSystem != nil {
		return j, errSystem
	}
	if who.mount != nil && !j.sys.leads(who.mount) {
		return j, ErrMoved
	}
	if errors.Is(err, token.ErrDead) || err == nil && (!e.AllowedFrom(who.Client) || e.Mount != "" && j.sys.mounts.ByUUID(e.Mount) == nil) {
		j.denied = ErrDenied // a token that came from a mount is dead when the mount is gone
		return j, nil
	}
	j.token = e
	if j.acl, err = j.sys.acls.of(r, e.Policies); err != nil {
		return j, err
	}
	ask := policy.Ask{Path: who.Path, Want: who.Capability, Sudo: who.Sudo, Data: who.Data, WrapTTL: who.Wrap.TTL}
	if who.exists != nil && ask.Want == policy.Update {
		there, err := who.exists(r)
		if err != nil {
			return j, err
		}
		if !there {
			ask.Want = policy.Create
		}
	}
	if !j.acl.Decide(&ask).Allowed {
		j.denied = ErrDenied
	}
	return j, nil
}

// leads reports whether a mount is still where it was found, and as it was found.
func (s *system) leads(e *mount.Entry) bool { return s.mounts.At(e.Path) == e }

func (who Access) note(j judgement) error {
	if who.Note == nil {
		return nil
	}
	return who.Note(j.token, j.denied)
}

// View decides and reads in one snapshot: fn runs only if the token is live and its policies allow the access.
func (n *Node) View(ctx context.Context, a Access, fn func(*Call) error) error {
	return n.use(ctx, func(ctx context.Context, act *active) error {
		err := act.Barrier.View(ctx, func(r store.Reader) error {
			j, err := act.judge(r, a)
			switch {
			case err != nil:
				return err
			case j.token != nil && j.token.Limited:
				return errCountUse
			}
			if err := a.note(j); err != nil {
				return err
			}
			return n.call(act, store.ReadOnly(r), j, fn, nil)
		})
		if !errors.Is(err, errCountUse) {
			return err
		}
		return n.update(ctx, act, a, func(c *Call) error {
			c.Tx = store.ReadOnly(c.Tx)
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

// admit is nil if the token is live and its policies allow the access. It counts no use, unless it refuses: the request
// that asks goes on to a View or an Update, or ends here.
func (n *Node) admit(ctx context.Context, a Access) error {
	return n.use(ctx, func(ctx context.Context, act *active) error {
		j, err := n.look(ctx, act, a, nil)
		if err == nil && j.denied != nil && j.token != nil && j.token.Limited {
			return n.update(ctx, act, a, func(*Call) error { return nil })
		}
		return cmp.Or(err, j.denied)
	})
}

// look judges and tells whom it must be told, and does nothing else. Where there is a rule, it decides instead of the policy
// for the path.
func (n *Node) look(ctx context.Context, act *active, a Access, rule func(judgement) error) (j judgement, err error) {
	err = act.Barrier.View(ctx, func(r store.Reader) (err error) {
		if j, err = act.judge(r, a); err != nil {
			return err
		}
		if rule != nil {
			j.denied = rule(j)
		}
		return a.note(j)
	})
	return j, err
}

// see finds out who asks, and lets rule say what that one sees, instead of a policy for the path. It counts no use of the
// token: no more is told than what is mounted where.
func (n *Node) see(ctx context.Context, a Access, rule func(judgement) error) error {
	return n.use(ctx, func(ctx context.Context, act *active) error {
		j, err := n.look(ctx, act, a, rule)
		return cmp.Or(err, j.denied)
	})
}

// errCountUse sends a read with a token of limited uses the other way: its use must be counted.
var errCountUse = errors.New("the token's use must be counted")

// Update decides and writes in one transaction. fn may run more than once and must have no effects outside its Call.
// The use of a token that has a limited number of them counts even when the request is refused or fails.
func (n *Node) Update(ctx context.Context, a Access, fn func(*Call) error) error {
	return n.use(ctx, func(ctx context.Context, act *active) error { return n.update(ctx, act, a, fn) })
}

func (n *Node) update(ctx context.Context, act *active, a Access, fn func(*Call) error) error {
	// What must be told before anything is done may take its time, and an Update is no place for that.
	if a.Note != nil && n.Audit.Enabled() {
		if _, err := n.look(ctx, act, a, nil); err != nil {
			return err
		}
	}
	var after []func()
	var failed error // of fn, where the transaction commits all the same
	err := act.Barrier.Update(ctx, func(tx store.Tx) error {
		failed = nil
		j, err := act.judge(tx, a)
		switch {
		case err != nil:
			return err
		case j.token == nil || !j.token.Limited:
			return n.call(act, tx, j, fn, &after)
		}
		if err := act.tokens.Use(tx, j.token); err != nil {
			return err
		}
		overlay := store.NewOverlay(tx)
		if failed = n.call(act, overlay, j, fn, &after); failed == nil {
			if err := apply(tx, overlay); err != nil {
				return err
			}
		}
		return act.tokens.Finish(tx, j.token)
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

func (n *Node) call(act *active, tx store.Tx, j judgement, fn func(*Call) error, after *[]func()) error {
	if j.denied != nil {
		return j.denied
	}
	c := &Call{Tx: tx, Token: j.token, Tokens: act.tokens, acl: j.acl, sys: j.sys, node: n, act: act}
	if err := fn(c); err != nil {
		return err
	}
	if after != nil {
		*after = c.after
	}
	return nil
}

// Sudo reports whether the token may do on a path what needs sudo.
func (c *Call) Sudo(path string) bool {
	return c.acl.Decide(&policy.Ask{Path: path, Want: policy.Sudo}).Allowed
}
