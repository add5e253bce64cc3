package node

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"slices"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/transcript"
)

// Approve records one holder's approval and at the threshold carries the ceremony out: the effect, the end of the
// attempt, what is kept of it and the transcript are one Update. It wipes the share.
func (n *Node) Approve(ctx context.Context, kind ceremony.Kind, f Family, nonce string, a Approver) (c *Ceremony, err error) {
	defer a.Share.Wipe()
	ap := &approval{kind: kind, family: f, nonce: nonce, Approver: a}
	err = n.use(ctx, func(ctx context.Context, act *active) error {
		c, err = n.approve(ctx, act, ap)
		return n.oldShare(ctx, act, "approval", a.Client, err)
	})
	if err != nil {
		n.refused(string(kind), err)
	}
	return c, err
}

var (
	// errPrepare says that an approval turned out to be the last one and nothing was prepared for that.
	errPrepare = errors.New("the approval is the last one and its effect is not prepared")
	// errRepeated says that the approval is a duplicate, after that was written down.
	errRepeated = errors.New("the approval was given before")

	errVerifying = fault.New(fault.Invalid, "this rekey has all its approvals, and waits for the new holders to prove their shares: "+
		"verify with a new share and the verification nonce from its status")
	errClearBySignature = fault.New(fault.Invalid, "the last approval of a rekey whose new shares come back in clear and at once must be given by share, "+
		"so that a lost reply can be had again: give the share, or cancel and start with verification, or with keys to encrypt the shares to")
)

// approval is one holder's consent on its way into the store.
type approval struct {
	Approver
	kind   ceremony.Kind
	family Family
	nonce  string

	// What a look at the store found.
	open   *openCeremony
	proof  *proof
	replay *Ceremony // set when this is the repetition of the approval that completed a ceremony
}

func (n *Node) approve(ctx context.Context, act *active, ap *approval) (c *Ceremony, err error) {
	if err := n.lookAt(ctx, act, ap); err != nil || ap.replay != nil {
		return ap.replay, err
	}
	_, given := ap.open.approvalBy(ap.proof.slot)
	last := !given && ap.open.Progress()+1 >= ap.open.Threshold // a repetition completes nothing
	for {
		var ready *prepared
		if last {
			if ready, err = n.prepare(ctx, act, ap); err != nil {
				break
			}
		}
		err = act.Barrier.Update(ctx, func(tx store.Tx) error {
			c, err = n.recordApproval(act, tx, ap, ready)
			if errors.Is(err, errRepeated) {
				return nil // the transcript keeps it
			}
			return err
		})
		if err == nil && c == nil {
			err = sentencesOf(ap.kind).duplicate
		}
		ready.close(err)
		if !errors.Is(err, errPrepare) {
			break
		}
		last = true
	}
	if errors.Is(err, sentencesOf(ap.kind).notStarted) || errors.Is(err, ErrNonce) || errors.Is(err, errVerifying) || errors.Is(err, errPending) {
		// Over since it was looked at: perhaps by this same approval, sent twice at once.
		errNow := n.lookAt(ctx, act, ap)
		if errNow == nil && ap.replay != nil {
			return ap.replay, nil
		}
		err = cmp.Or(errNow, err)
	}
	if err != nil {
		return nil, err
	}
	n.Logger.Info("ceremony approved", "kind", ap.kind, "nonce", ap.nonce, "slot", ap.proof.slot, "mode", ap.proof.mode,
		"progress", c.Attempt.Progress(), "required", c.Required, "complete", c.State == Complete)
	if c.SharedClient {
		n.Logger.Warn("approvals of several holders came from one client", "kind", ap.kind, "nonce", ap.nonce, "slot", ap.proof.slot)
	}
	return c, nil
}

// lookAt checks an approval against a snapshot, in the order of the wire contract: in progress, nonce, share, duplicate.
func (n *Node) lookAt(ctx context.Context, act *active, ap *approval) error {
	return act.Barrier.View(ctx, func(r store.Reader) error {
		s, err := n.load(act, r, ap.kind)
		if err != nil {
			return err
		}
		o := s.open
		if o == nil || !sameNonce(o.Nonce, ap.nonce) || o.Verification != nil {
			return n.lookBack(act, r, s, ap)
		}
		if ap.kind == ceremony.RootToken && ap.family != o.family() {
			return errOtherFamily(o.family())
		}
		ap.open = o
		ap.proof, err = prove(s.rec, ap.Credential, func(slot int) holder.Statement { return o.Statement(slot, "") })
		return err
	})
}

// lookBack answers an approval for which no attempt is open: with what it completed a short time ago, or with what is
// wrong about it.
func (n *Node) lookBack(act *active, r store.Reader, s *slot, ap *approval) (err error) {
	if ap.replay, err = n.lostReply(act, r, ap); err != nil || ap.replay != nil {
		return err
	}
	switch {
	case s.open == nil:
		return sentencesOf(ap.kind).notStarted
	case s.open.Verification != nil:
		return errVerifying
	}
	return ErrNonce
}

// lostReply finds what this very share completed a short time ago. A signature doesn't do: those that were given are
// in the transcript, for anyone to read.
func (n *Node) lostReply(act *active, r store.Reader, ap *approval) (*Ceremony, error) {
	res, err := n.readOutcome(r, ap.nonce)
	if err != nil || res == nil || ap.Share.Empty() || res.Kind != ap.kind || res.State == Cancelled || res.State == Expired {
		return nil, err
	}
	if ap.kind == ceremony.RootToken && ap.family != res.family() {
		return nil, nil
	}
	given, ok := res.approvalBy(res.Slot)
	if !ok || given.Mode != holder.ModeShare {
		return nil, nil
	}
	// Ed25519 signs the same to the same: only the share that gave the approval gives this signature again.
	key := holder.Derive(ap.Share, res.ClusterID, res.Generation)
	defer key.Wipe()
	if again := key.Sign(res.Statement(res.Slot, holder.ModeShare)); subtle.ConstantTimeCompare(again, given.Signature) != 1 {
		return nil, nil // whoever hasn't that share learns nothing about this nonce
	}
	rec, err := act.Record(r)
	if err != nil {
		return nil, err
	}
	c := res.view(rec)
	if c.Keys, err = res.keys(r, ap.Share); err != nil {
		return nil, err
	}
	if res.Rekey != nil && len(c.Keys) == 0 { // the new holders have them, and nothing is kept
		return nil, nil
	}
	c.Checkpoint, err = checkpoint(r)
	return c, err
}

func (o *openCeremony) approvalBy(slot int) (ceremony.Approval, bool) {
	i := slices.IndexFunc(o.Approvals, func(a ceremony.Approval) bool { return a.Slot == slot })
	if i < 0 {
		return ceremony.Approval{}, false
	}
	return o.Approvals[i], true
}

// recordApproval is the Update of an approval: errRepeated and nil for one that was given before.
func (n *Node) recordApproval(act *active, tx store.Tx, ap *approval, ready *prepared) (*Ceremony, error) {
	s, err := n.load(act, tx, ap.kind)
	if err != nil {
		return nil, err
	}
	o := s.open
	switch {
	case o == nil:
		return nil, sentencesOf(ap.kind).notStarted
	case !sameNonce(o.Nonce, ap.nonce):
		return nil, ErrNonce
	case o.Verification != nil:
		return nil, errVerifying
	}
	if was, err := n.readOutcome(tx, o.Nonce); err != nil || was != nil { // the attempt was put back after it had ended
		return nil, cmp.Or(err, error(sentencesOf(ap.kind).notStarted))
	}
	client := act.pseudonym(ap.Client)
	shared := sharedClient(o.Approvals, ap.proof.slot, client)
	gen := s.rec.Generation()
	e := transcript.Entry{
		Event: transcript.Approve, Kind: o.Kind, Nonce: o.Nonce, Generation: o.Generation, Slot: ap.proof.slot,
		Label: gen.Label(ap.proof.slot), Mode: ap.proof.mode, Signature: ap.proof.signature, Digest: o.Digest.Hex(),
		Client: client, Shared: shared,
	}
	complete, err := o.Approve(ceremony.Approval{
		Slot: ap.proof.slot, Mode: ap.proof.mode, Signature: ap.proof.signature, Client: client,
	}, gen.Verifier, n.Now())
	if errors.Is(err, ceremony.ErrDuplicate) {
		return nil, n.repeated(act, tx, o, e)
	}
	if err != nil {
		return nil, said(o.Kind, err)
	}
	if complete && ready == nil {
		return nil, errPrepare
	}
	if err := n.record(act, tx, e); err != nil {
		return nil, err
	}
	if err := n.proven(act, tx, s.rec, gen, string(o.Kind), ap.proof.slot); err != nil {
		return nil, err
	}
	if !complete {
		if err := o.put(tx); err != nil {
			return nil, err
		}
		c, err := s.whole(tx)
		if err == nil {
			c.SharedClient = shared
		}
		return c, err
	}
	c, err := n.complete(act, tx, s, ap, ready)
	if err == nil {
		c.SharedClient = shared
	}
	return c, err
}

// repeated writes down, once for each holder and attempt, that an approval was given again.
func (n *Node) repeated(act *active, tx store.Tx, o *openCeremony, e transcript.Entry) error {
	if slices.Contains(o.Repeated, e.Slot) {
		return sentencesOf(o.Kind).duplicate
	}
	o.Repeated = append(o.Repeated, e.Slot)
	if err := o.put(tx); err != nil {
		return err
	}
	e.Event, e.Signature = transcript.Duplicate, nil
	if err := n.record(act, tx, e); err != nil {
		return err
	}
	return errRepeated
}

// prepared is what the completing Update needs and must not compute itself.
type prepared struct {
	token *preparedToken
	rekey *preparedRekey
}

// close wipes what was prepared; err is what became of the Update.
func (p *prepared) close(err error) {
	if p == nil {
		return
	}
	if p.token != nil {
		p.token.id.Wipe()
	}
	if p.rekey != nil {
		p.rekey.close(err)
	}
}

func (n *Node) prepare(ctx context.Context, act *active, ap *approval) (p *prepared, err error) {
	p = &prepared{}
	switch ap.kind {
	case ceremony.RootToken:
		p.token, err = n.prepareToken(ctx, act, ap.open)
	case ceremony.Rekey, ceremony.RotateRoot:
		p.rekey, err = n.prepareRekey(ctx, act, ap)
	}
	return p, err
}

// complete is the effect of a ceremony, and its end.
func (n *Node) complete(act *active, tx store.Tx, s *slot, ap *approval, ready *prepared) (*Ceremony, error) {
	o := s.open
	res := &outcome{openCeremony: *o, State: Complete, Slot: ap.proof.slot, Required: o.Threshold, Expires: n.Now().Add(n.ResultTTL)}
	var keys [][]byte // in the reply
	var err error
	switch o.Kind {
	case ceremony.RootToken:
		err = n.completeToken(act, tx, o, res, ready.token)
	case ceremony.Rekey, ceremony.RotateRoot:
		keys, err = n.completeRekey(act, tx, res, ap, ready.rekey)
	case ceremony.Holders:
		err = n.relabel(act, tx, o)
	}
	if err != nil {
		return nil, err
	}
	if res.State == Verifying {
		o.Verification = res.Verification
		err = o.put(tx)
	} else {
		err = o.drop(tx)
	}
	if err != nil {
		return nil, err
	}
	if err := res.put(tx); err != nil {
		return nil, err
	}
	err = n.record(act, tx, transcript.Entry{
		Event: transcript.Complete, Kind: o.Kind, Nonce: o.Nonce, Generation: o.Generation, Digest: o.Digest.Hex(),
	})
	if err != nil {
		return nil, err
	}
	return n.completed(act, tx, res, keys)
}

func (n *Node) relabel(act *active, tx store.Tx, o *openCeremony) error {
	rec, err := act.Relabel(tx, o.Labels)
	if err != nil {
		return err
	}
	gen := rec.Generation()
	return n.record(act, tx, transcript.Entry{
		Event: transcript.Generation, Kind: o.Kind, Nonce: o.Nonce, Generation: gen.Number, Threshold: gen.Threshold, Holders: recorded(gen),
	})
}

// completed is the reply to the approval that completed a ceremony.
func (n *Node) completed(act *active, tx store.Tx, res *outcome, keys [][]byte) (*Ceremony, error) {
	rec, err := act.Record(tx)
	if err != nil {
		return nil, err
	}
	c := res.view(rec)
	c.Keys = keys
	c.Checkpoint, err = checkpoint(tx)
	return c, err
}

// endOthers ends the attempts of all other kinds, because their holders are not those of the generation in force any
// more.
func (n *Node) endOthers(act *active, tx store.Tx, kind ceremony.Kind) error {
	for _, other := range kinds() {
		if other == kind {
			continue
		}
		o, err := readOpen(tx, other)
		if errors.Is(err, errDamagedAttempt) {
			err = n.dropDamaged(act, tx, other)
		}
		if err != nil {
			return err
		}
		if o == nil {
			continue
		}
		err = n.bury(act, tx, o, Cancelled, transcript.Entry{Event: transcript.End, Detail: "another generation came into force"})
		if err != nil {
			return err
		}
	}
	return nil
}
