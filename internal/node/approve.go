package node

import (
	"cmp"
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/delivery"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/token"
)

// ApproveRoot records one holder's approval, given by share, and at the threshold carries the ceremony out: the
// token, the end of the attempt and the result are one Update. It wipes share.
func (n *Node) ApproveRoot(ctx context.Context, f Family, nonce string, share secret.Bytes) (st RootStatus, err error) {
	defer share.Wipe()
	err = n.use(ctx, func(ctx context.Context, act *active) error {
		st, err = n.approve(ctx, act, f, nonce, share)
		return err
	})
	if err != nil {
		n.refused("root generation", err)
	}
	return st, err
}

// errPrepare says that an approval turned out to be the last one and nothing was prepared for that.
var errPrepare = errors.New("the approval is the last one and its effect is not prepared")

func (n *Node) approve(ctx context.Context, act *active, f Family, nonce string, share secret.Bytes) (st RootStatus, err error) {
	p, err := n.viewApproval(ctx, act, f, nonce, share)
	if err != nil || p.replay != nil {
		return p.status(), err
	}
	last := p.open.Progress()+1 >= p.open.Threshold
	for {
		var ready *prepared
		if last {
			if ready, err = n.prepare(ctx, act, p.open.Delivery); err != nil {
				break
			}
		}
		err = act.Barrier.Update(ctx, func(tx store.Tx) error {
			st, err = n.recordApproval(act, tx, p, ready)
			return err
		})
		ready.wipe()
		if !errors.Is(err, errPrepare) {
			break
		}
		last = true
	}
	if errors.Is(err, ErrNotStarted) || errors.Is(err, ErrNonce) {
		// Over since it was looked at: perhaps by this same approval, sent twice at once.
		now, errNow := n.viewApproval(ctx, act, f, nonce, share)
		if errNow == nil && now.replay != nil {
			return *now.replay, nil
		}
		err = cmp.Or(errNow, err)
	}
	if err != nil {
		return RootStatus{}, err
	}
	n.Logger.Info("root generation approved", "nonce", nonce, "slot", p.slot, "progress", st.Progress, "required", st.Required, "complete", st.Complete)
	return st, nil
}

func (n *Node) viewApproval(ctx context.Context, act *active, f Family, nonce string, share secret.Bytes) (p *approval, err error) {
	err = act.Barrier.View(ctx, func(r store.Reader) error {
		p, err = n.checkApproval(act, r, f, nonce, share)
		return err
	})
	return p, err
}

// approval is one holder's consent that was checked against a snapshot and waits for its Update.
type approval struct {
	open      *openAttempt
	slot      int
	signature []byte
	replay    *RootStatus // set when this is the repetition of an approval that completed a ceremony
}

func (p *approval) status() RootStatus {
	if p == nil || p.replay == nil {
		return RootStatus{}
	}
	return *p.replay
}

// checkApproval checks a share in the order of the wire contract: in progress, nonce, share, duplicate.
func (n *Node) checkApproval(act *active, r store.Reader, f Family, nonce string, share secret.Bytes) (*approval, error) {
	rec, open, err := n.loadAttempt(act, r)
	if err != nil {
		return nil, err
	}
	if open == nil || !sameNonce(open.Nonce, nonce) {
		replay, err := n.lostReply(r, rec, f, nonce, share)
		switch {
		case err != nil:
			return nil, err
		case replay != nil:
			return &approval{replay: replay}, nil
		case open == nil:
			return nil, ErrNotStarted
		default:
			return nil, ErrNonce
		}
	}
	if f != open.family() {
		return nil, errOtherFamily(open.family())
	}
	slot, key, err := rec.Check(share)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	sig := key.Sign(open.Statement(slot, holder.ModeShare))
	return &approval{open: open, slot: slot, signature: sig}, nil
}

// lostReply finds the result of the ceremony that this very share completed a short time ago.
func (n *Node) lostReply(r store.Reader, rec *seal.Record, f Family, nonce string, share secret.Bytes) (*RootStatus, error) {
	if uuid.Validate(nonce) != nil {
		return nil, nil
	}
	values, err := r.Get(resultPrefix + nonce)
	if err != nil || values[0] == nil {
		return nil, err
	}
	res, err := readResult(values[0])
	if err != nil {
		return nil, err
	}
	slot, key, err := rec.Check(share)
	if err != nil {
		return nil, nil // whoever has no share learns nothing about this nonce
	}
	key.Wipe()
	if slot != res.Slot || f != res.Family || !n.Now().Before(res.Expires) {
		return nil, nil
	}
	return res.status(nonce), nil
}

// prepared is what the completing Update needs and must not compute itself.
type prepared struct {
	id      secret.Bytes // of the new root token; empty for seed 1
	key     string       // under which it will be stored
	encoded string
}

func (p *prepared) wipe() {
	if p != nil {
		p.id.Wipe()
	}
}

func (n *Node) prepare(ctx context.Context, act *active, d delivery.Delivery) (*prepared, error) {
	if d.Mode == delivery.Token {
		return &prepared{key: d.TokenKey}, nil
	}
	p := &prepared{id: token.NewID()}
	err := act.Barrier.View(ctx, func(r store.Reader) error {
		if d.Mode == delivery.OTP {
			otp, err := readOTP(r)
			if err != nil {
				return err
			}
			if otp.Empty() {
				return ErrNotStarted // since the look at the attempt
			}
			d.OTP = otp.Reveal()
		}
		var err error
		p.key, err = act.tokens.Key(r, p.id.Reveal())
		return err
	})
	defer d.Wipe()
	if err != nil {
		return nil, err
	}
	p.encoded, err = d.Encode(p.id.Reveal(), n.Now())
	return p, err
}

func (n *Node) recordApproval(act *active, tx store.Tx, p *approval, ready *prepared) (RootStatus, error) {
	rec, open, err := n.loadAttempt(act, tx)
	switch {
	case err != nil:
		return RootStatus{}, err
	case open == nil:
		return RootStatus{}, ErrNotStarted
	case !sameNonce(open.Nonce, p.open.Nonce):
		return RootStatus{}, ErrNonce
	}
	complete, err := open.Approve(ceremony.Approval{
		Slot: p.slot, Mode: holder.ModeShare, Signature: p.signature, At: n.Now(),
	}, rec.Generation().Verifier, n.Now())
	if err != nil {
		return RootStatus{}, err
	}
	if !complete {
		return rootStatus(rec.Generation(), open), open.put(tx)
	}
	if ready == nil {
		return RootStatus{}, errPrepare
	}
	return n.complete(act, tx, open, p.slot, ready)
}

// complete is the effect of the ceremony: exactly one new root token, and for seed 1 the end of the token that had
// its ID, with everything below it.
func (n *Node) complete(act *active, tx store.Tx, open *openAttempt, slot int, ready *prepared) (RootStatus, error) {
	if _, err := act.tokens.CreateRoot(tx, ready.key); err != nil {
		return RootStatus{}, err
	}
	if err := dropAttempt(tx); err != nil {
		return RootStatus{}, err
	}
	res := &result{
		Family: open.family(), Slot: slot, Required: open.Threshold, EncodedToken: ready.encoded,
		Fingerprint: open.Delivery.Fingerprint, Expires: n.Now().Add(n.ResultTTL),
	}
	return *res.status(open.Nonce), putJSON(tx, resultPrefix+open.Nonce, res)
}
