package node

import (
	"context"
	"errors"
	"slices"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/delivery"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/token"
	"github.com/quorate/quorate/internal/transcript"
)

// preparedToken is the new root token before it exists.
type preparedToken struct {
	id      secret.Bytes // empty for seed 1
	key     string       // under which it will be stored
	encoded string
}

func (n *Node) prepareToken(ctx context.Context, act *active, o *openCeremony) (*preparedToken, error) {
	d := o.Delivery
	if d.Mode == delivery.Token {
		return &preparedToken{key: d.TokenKey}, nil
	}
	p := &preparedToken{id: token.NewID()}
	err := act.Barrier.View(ctx, func(r store.Reader) (err error) {
		if d.Mode == delivery.OTP {
			d.Wipe() // of a run before this one
			if d.OTP, err = readOTP(r, o); err != nil {
				return err
			}
		}
		p.key, err = act.tokens.Key(r, p.id.Reveal())
		return err
	})
	defer d.Wipe()
	if err == nil {
		p.encoded, err = d.Encode(p.id.Reveal(), n.Now())
	}
	if err != nil {
		p.id.Wipe()
		return nil, err
	}
	return p, nil
}

// readOTP reads the OTP of an attempt, for the one time it is used.
func readOTP(r store.Reader, o *openCeremony) ([]byte, error) {
	now, err := readOpen(r, o.Kind)
	if err != nil {
		return nil, err
	}
	if now == nil || now.Nonce != o.Nonce {
		return nil, ErrNotStarted // over since the look at it
	}
	values, err := r.Get(under(otpPrefix, o.Attempt))
	if err != nil {
		return nil, err
	}
	if len(values[0]) == 0 {
		return nil, errLostOTP
	}
	return slices.Clone(values[0]), nil
}

var errLostOTP = fault.New(fault.Unavailable, "the one-time password of this attempt is gone from the store, so nobody could decode its token: cancel the attempt and start another, and find out who can write to the store")

// completeToken makes exactly one new root token, and for seed 1 ends the token that had its ID, with everything below
// it.
func (n *Node) completeToken(act *active, tx store.Tx, o *openCeremony, res *outcome, p *preparedToken) error {
	replaced, err := act.tokens.ByKey(tx, p.key)
	if err != nil {
		return err
	}
	if replaced != nil {
		c := &Call{Tx: tx, Tokens: act.tokens, node: n, act: act}
		for _, kind := range kinds() {
			if kind == o.Kind {
				continue
			}
			if err := c.endAttemptOf(kind, replaced, false); err != nil {
				return err
			}
		}
	}
	if _, err := act.tokens.CreateRoot(tx, p.key, token.RootOptions{TTL: o.RootTokenTTL, Ceremony: o.Nonce}); err != nil {
		return err
	}
	res.EncodedToken = p.encoded
	return nil
}

// endAttemptsOf ends the open attempts that depend on a token which dies by the revocation of e: the token that
// started them, or the one that seed 1 names.
func (c *Call) endAttemptsOf(e *token.Entry, orphanChildren bool) error {
	for _, kind := range kinds() {
		if err := c.endAttemptOf(kind, e, orphanChildren); err != nil {
			return err
		}
	}
	return nil
}

func (c *Call) endAttemptOf(kind ceremony.Kind, e *token.Entry, orphanChildren bool) error {
	open, err := readOpen(c.Tx, kind)
	if errors.Is(err, errDamagedAttempt) {
		return c.node.dropDamaged(c.act, c.Tx, kind)
	}
	if err != nil || open == nil {
		return err
	}
	dies := e.RecordID == open.Initiator.Token || e.Key == open.Delivery.TokenKey // it may have died of this very use
	// The owner is one token; what seed 1 names is whatever token has that ID.
	for _, on := range []struct{ key, record string }{{open.OwnerKey, open.Initiator.Token}, {open.Delivery.TokenKey, ""}} {
		if dies || on.key == "" {
			continue
		}
		if dies, err = c.diesWith(e, on.key, on.record, orphanChildren); err != nil {
			return err
		}
	}
	if !dies {
		return nil
	}
	nonce := open.Nonce
	c.after = append(c.after, func() {
		c.node.Logger.Warn("ceremony ended: a token it depends on was revoked", "kind", kind, "nonce", nonce)
	})
	return c.node.bury(c.act, c.Tx, open, Cancelled, transcript.Entry{Event: transcript.End, Detail: "a token that it depends on was revoked"})
}

// diesWith reports whether the token under key, which must be that record if one is given, dies when e is revoked.
// With its children living on as orphans, only e itself does.
func (c *Call) diesWith(e *token.Entry, key, record string, orphanChildren bool) (bool, error) {
	t, err := c.Tokens.ByKey(c.Tx, key)
	if err != nil || t == nil || record != "" && t.RecordID != record {
		return false, err
	}
	if orphanChildren {
		return t.RecordID == e.RecordID, nil
	}
	return slices.Contains(t.Lineage(), e.RecordID), nil
}
