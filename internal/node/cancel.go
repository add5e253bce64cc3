package node

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/transcript"
)

var (
	errMayNotReset = fault.New(fault.Denied, "the verification can be begun anew only by who started this rekey, or with a token whose policy allows it: "+
		"holders can go on proving their new shares as it is")
	errNoVerification = fault.New(fault.Invalid, "no rekey waits for verification: there is nothing to verify or to begin anew")
)

// Cancel ends the open ceremony of a kind if the asker may; with none open it does nothing. nonce, if given, must be
// its. ended is false when the asker is a holder whose objection was recorded instead, because other holders have
// approved.
func (n *Node) Cancel(ctx context.Context, kind ceremony.Kind, nonce string, who Asker) (c *Ceremony, ended bool, err error) {
	defer who.Share.Wipe()
	err = n.use(ctx, func(ctx context.Context, act *active) error {
		p, idle, err := n.admitCancel(ctx, act, kind, nonce, who, cancelStatement, cancelOpen)
		if err != nil {
			return n.oldShare(ctx, act, "cancel", who.Client, err)
		}
		if idle != nil {
			c, ended = idle, true
			return nil
		}
		return act.Barrier.Update(ctx, func(tx store.Tx) error {
			c, ended, err = n.cancel(act, tx, kind, nonce, who, p)
			return err
		})
	})
	if err == nil && c.Attempt != nil {
		n.Logger.Info("ceremony cancel", "kind", kind, "nonce", c.Attempt.Nonce, "ended", ended, "objections", len(c.Attempt.Objections))
		if ended {
			c = &Ceremony{Kind: kind, State: Idle, Required: c.Required, OTPLength: c.OTPLength, Labels: c.Labels}
		}
	}
	return c, ended, err
}

// cancelOpen is what cancel will say of an open attempt. An attempt that was approved and waits for its new holders
// is cancelled by the same rules as one that wasn't.
func cancelOpen(o *openCeremony, c ceremony.Caller, now time.Time) error {
	if o.Verification == nil {
		return o.Cancel(c, now)
	}
	again := *o.Attempt
	again.Outcome = ""
	for _, a := range again.Approvals {
		now = a.At // by which it can't have expired
	}
	err := again.Cancel(c, now)
	o.Objections = again.Objections
	return err
}

func cancelStatement(o *openCeremony) func(int) holder.Statement {
	return func(slot int) holder.Statement { return o.CancelStatement(slot, "") }
}

func resetStatement(o *openCeremony) func(int) holder.Statement {
	nonce := ""
	if o.Verification != nil {
		nonce = o.Verification.Nonce
	}
	return func(slot int) holder.Statement {
		return ceremony.ResetStatement(o.ClusterID, o.Generation, slot, "", nonce)
	}
}

// admitCancel checks the credential that came with a cancel, and asks may of a snapshot that is then thrown away. idle
// is set where nothing is open, which needs no authority and changes nothing.
func (n *Node) admitCancel(
	ctx context.Context, act *active, kind ceremony.Kind, nonce string, who Asker,
	statement func(*openCeremony) func(int) holder.Statement, may func(*openCeremony, ceremony.Caller, time.Time) error,
) (p *proof, idle *Ceremony, err error) {
	err = act.Barrier.View(ctx, func(r store.Reader) error {
		s, err := n.load(act, r, kind)
		if err != nil {
			return err
		}
		if s.open == nil {
			if p, err = prove(s.rec, Credential{Share: who.Share}, nil); err == nil {
				idle, err = s.whole(r)
			}
			return err
		}
		if nonce != "" && !sameNonce(nonce, s.open.Nonce) {
			return ErrNonce
		}
		p, err = prove(s.rec, who.Credential, statement(s.open))
		if err != nil {
			return err
		}
		p.nonce = s.open.Nonce
		caller, _, err := n.caller(act, r, s.rec, who, p, policy.Delete)
		if err != nil {
			return err
		}
		if err := may(s.open, caller, n.Now()); !errors.Is(err, ceremony.ErrObjection) {
			return err
		}
		return nil
	})
	return p, idle, err
}

func (n *Node) cancel(act *active, tx store.Tx, kind ceremony.Kind, nonce string, who Asker, p *proof) (c *Ceremony, ended bool, err error) {
	s, err := n.load(act, tx, kind)
	if err != nil {
		return nil, false, err
	}
	if s.open == nil {
		if err := n.buryDead(act, tx, s); err != nil {
			return nil, false, err
		}
		c, err = s.whole(tx)
		return c, true, err
	}
	if p.slot > 0 && !sameNonce(p.nonce, s.open.Nonce) || nonce != "" && !sameNonce(nonce, s.open.Nonce) {
		return nil, false, ErrNonce // another one began since the look at it
	}
	caller, used, err := n.caller(act, tx, s.rec, who, p, policy.Delete)
	if err != nil {
		return nil, false, err
	}
	before := len(s.open.Objections)
	err = cancelOpen(s.open, caller, n.Now())
	objected := errors.Is(err, ceremony.ErrObjection)
	if err != nil && !objected {
		return nil, false, said(kind, err)
	}
	if err := act.countUse(tx, used); err != nil {
		return nil, false, err
	}
	e := transcript.Entry{
		Event: transcript.Cancel, Kind: kind, Nonce: s.open.Nonce, Generation: s.open.Generation, Slot: caller.Slot,
		Label: labelsOf(s.rec.Generation())(caller.Slot), Mode: p.mode, Signature: p.signature, Client: act.pseudonym(who.Client),
	}
	c = s.view()
	if objected {
		c.Objected = true
		if len(s.open.Objections) > before {
			e.Event = transcript.Object
			if err := n.record(act, tx, e); err != nil {
				return nil, false, err
			}
		}
		if err := s.open.put(tx); err != nil {
			return nil, false, err
		}
	} else if err := n.bury(act, tx, s.open, Cancelled, e); err != nil {
		return nil, false, err
	}
	c.Checkpoint, err = checkpoint(tx)
	return c, !objected, err
}

// ResetVerification forgets which new holders have proven possession, under a new nonce: for who could have cancelled.
func (n *Node) ResetVerification(ctx context.Context, kind ceremony.Kind, who Asker) (c *Ceremony, err error) {
	defer who.Share.Wipe()
	may := func(o *openCeremony, caller ceremony.Caller, now time.Time) error {
		if o.Verification == nil {
			return errNoVerification
		}
		objections := o.Objections
		err := cancelOpen(o, caller, now)
		if len(o.Objections) > len(objections) || errors.Is(err, ceremony.ErrObjection) {
			err = errMayNotReset
		}
		o.Objections = objections
		return err
	}
	err = n.use(ctx, func(ctx context.Context, act *active) error {
		p, idle, err := n.admitCancel(ctx, act, kind, "", who, resetStatement, may)
		if err != nil {
			return n.oldShare(ctx, act, "verification reset", who.Client, err)
		}
		if idle != nil {
			return errNoVerification
		}
		nonce := uuid.NewString()
		return act.Barrier.Update(ctx, func(tx store.Tx) error {
			s, err := n.load(act, tx, kind)
			if err != nil {
				return err
			}
			if s.open == nil || s.open.Verification == nil || p.slot > 0 && !sameNonce(p.nonce, s.open.Nonce) {
				return errNoVerification
			}
			caller, used, err := n.caller(act, tx, s.rec, who, p, policy.Delete)
			if err != nil {
				return err
			}
			if err := may(s.open, caller, n.Now()); err != nil {
				return err
			}
			if err := act.countUse(tx, used); err != nil {
				return err
			}
			v := s.open.Verification // whose time begins anew too: the proofs that held it up are gone
			v.Nonce, v.Proofs, v.Began = nonce, nil, n.Now().UTC().Truncate(time.Millisecond)
			if err := s.open.put(tx); err != nil {
				return err
			}
			err = n.record(act, tx, transcript.Entry{
				Event: transcript.VerificationReset, Kind: kind, Nonce: s.open.Nonce, Generation: s.open.Verification.Generation,
				Slot: caller.Slot, Client: act.pseudonym(who.Client),
			})
			if err != nil {
				return err
			}
			c, err = s.whole(tx)
			return err
		})
	})
	return c, err
}
