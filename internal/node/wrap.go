package node

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/mount"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/token"
)

// wrappedKey is where in the cubbyhole of a wrapping token its response is.
const wrappedKey = "response"

// MaxWrapTTL is the longest life of a wrapping token.
const MaxWrapTTL = 32 * 24 * time.Hour

var (
	// ErrWrapping is the one answer to a wrapping token that can't be used: garbage, used, expired, or none at all.
	ErrWrapping = fault.New(fault.Invalid, "wrapping token is not valid or does not exist")
	// ErrWrapLong refuses a longer one: who reads the wish says so before anything is done whose reply would be lost.
	ErrWrapLong  = fault.New(fault.Invalid, "the wrapping TTL is over the longest that is allowed, 32 days: ask for less")
	errWrapLarge = fault.New(fault.TooLarge, "the reply is too large to be wrapped: ask for it in clear, or for less of it")
)

// Wrap asks for a reply to be kept on the server and for a token to be sent in its place. The zero Wrap asks for nothing.
type Wrap struct{ TTL time.Duration }

// Wrapped is a response that waits for the one who has its token.
type Wrapped struct {
	Token    secret.Bytes `json:"-"` // seen only when it is made
	Accessor string       `json:"-"`

	TTL      time.Duration   `json:"ttl"`
	Created  time.Time       `json:"created"`
	Path     string          `json:"path"`               // of the request whose response it is
	Inner    string          `json:"accessor,omitempty"` // of the token or secret ID in it
	Response json.RawMessage `json:"response"`
}

// Wrap keeps a response, and makes the token for it.
func (n *Node) Wrap(ctx context.Context, w *Wrapped) error {
	return n.use(ctx, func(ctx context.Context, act *active) error {
		return act.Barrier.Update(ctx, func(tx store.Tx) error { return n.wrap(act, tx, w) })
	})
}

func (n *Node) wrap(act *active, tx store.Tx, w *Wrapped) error {
	switch {
	case w.TTL <= 0 || w.TTL > MaxWrapTTL:
		return ErrWrapLong
	case len(w.Response)+1024+len(w.Path) > barrier.MaxValue:
		return errWrapLarge
	}
	w.Token.Wipe()
	id, e, err := act.tokens.Wrap(tx, w.Path, w.TTL)
	if err != nil {
		return err
	}
	w.Token, w.Accessor, w.Created = id, e.Accessor, e.Created
	return putJSON(tx, mount.CubbyholeRecords+e.RecordID+"/"+wrappedKey, w)
}

// wrapped finds what a wrapping token is for.
func (a *active) wrapped(r store.Reader, id secret.Bytes) (*token.Entry, *Wrapped, error) {
	if id.Empty() {
		return nil, nil, ErrWrapping
	}
	e, err := a.tokens.Authenticate(r, id.Reveal())
	if errors.Is(err, token.ErrDead) || err == nil && !slices.Contains(e.Policies, policy.Wrapping) {
		err = ErrWrapping
	}
	if err != nil {
		return nil, nil, err
	}
	w := new(Wrapped)
	if err := getJSON(r, mount.CubbyholeRecords+e.RecordID+"/"+wrappedKey, w); err != nil {
		return nil, nil, err
	}
	if w.Response == nil {
		return nil, nil, ErrWrapping
	}
	return e, w, nil
}

// LookupWrapped tells of a wrapping token what it is for, without using it.
func (n *Node) LookupWrapped(ctx context.Context, id secret.Bytes) (w *Wrapped, err error) {
	err = n.use(ctx, func(ctx context.Context, act *active) error {
		return act.Barrier.View(ctx, func(r store.Reader) (err error) {
			_, w, err = act.wrapped(r, id)
			return err
		})
	})
	if err == nil {
		clear(w.Response)
		w.Response = nil
	}
	return w, err
}

// Unwrap takes a response out, and ends its token. There is one who gets it.
func (n *Node) Unwrap(ctx context.Context, id secret.Bytes) (w *Wrapped, err error) {
	err = n.use(ctx, func(ctx context.Context, act *active) error {
		return act.Barrier.Update(ctx, func(tx store.Tx) error {
			e, found, err := act.wrapped(tx, id)
			if err != nil {
				return err
			}
			w = found
			return act.tokens.RevokeTree(tx, e)
		})
	})
	return w, err
}

// Rewrap moves a response to a new token of the same TTL, and ends the old one.
func (n *Node) Rewrap(ctx context.Context, id secret.Bytes) (w *Wrapped, err error) {
	err = n.use(ctx, func(ctx context.Context, act *active) error {
		return act.Barrier.Update(ctx, func(tx store.Tx) error {
			e, found, err := act.wrapped(tx, id)
			if err != nil {
				return err
			}
			if err := act.tokens.RevokeTree(tx, e); err != nil {
				return err
			}
			if w != nil {
				found.Token = w.Token // of a run before this one, to be wiped
			}
			w = found
			return n.wrap(act, tx, w)
		})
	})
	return w, err
}
