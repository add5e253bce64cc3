package node

import (
	"context"
	"errors"
	"time"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/token"
	"github.com/quorate/quorate/internal/transcript"
)

// errSignature is the one answer to a signature that doesn't fit, whatever is wrong with it.
var errSignature = fault.New(fault.Invalid, "the signature is not valid for this slot, this ceremony and what is asked, and nothing changed: "+
	"sign what the ceremony's status shows now, with a share of the present generation")

// proof is a credential that was checked: once, before the Update, which only makes sure that it still counts.
type proof struct {
	slot       int // 0: none was given
	mode       holder.Mode
	signature  []byte // of the holder key over what is asked; nil where nothing is signed
	clusterID  string
	generation uint64
	nonce      string // of the attempt that it is about
	signed     string // digest of a signed start
	connection bool   // nothing but the connection gave the authority to start
	anyone     bool   // and that is open to all
}

// prove checks a credential against the generation in force. statement is what is to be signed; nil for a share that
// only gives authority.
func prove(rec *seal.Record, c Credential, statement func(slot int) holder.Statement) (*proof, error) {
	gen := rec.Generation()
	p := &proof{clusterID: rec.ClusterID, generation: gen.Number}
	if c.Empty() {
		return p, nil
	}
	return p, p.check(c, rec.Check, gen, statement)
}

func (p *proof) check(c Credential, check func(secret.Bytes) (int, *holder.Key, error), gen *seal.Generation, statement func(int) holder.Statement) error {
	if !c.Share.Empty() {
		slot, key, err := check(c.Share)
		if err != nil {
			return err
		}
		defer key.Wipe()
		p.slot, p.mode = slot, holder.ModeShare
		if statement != nil {
			s := statement(slot)
			s.Mode = holder.ModeShare
			p.signature = key.Sign(s)
		}
		return nil
	}
	verifier, ok := gen.Verifier(c.Slot)
	if !ok || statement == nil {
		return errSignature
	}
	s := statement(c.Slot)
	s.Mode = holder.ModeSignature
	if !holder.Verify(verifier, s, c.Signature) {
		return errSignature
	}
	p.slot, p.mode, p.signature = c.Slot, holder.ModeSignature, c.Signature
	return nil
}

// caller finds out what authority an asker has. A token that isn't live is ignored, not refused: the user's
// environment still holds the dead one on the very day this is needed. used is the token that spoke, if any.
func (n *Node) caller(act *active, r store.Reader, rec *seal.Record, who Asker, p *proof, want policy.Capability) (c ceremony.Caller, used *token.Entry, err error) {
	c = ceremony.Caller{Local: who.Local, Anyone: who.Open}
	if p.clusterID == rec.ClusterID && p.generation == rec.Generation().Number {
		c.Slot = p.slot
	}
	if who.Token.Empty() {
		return c, nil, nil
	}
	j, err := act.judge(r, Access{Token: who.Token, Client: who.Addr, Path: who.Path, Capability: want})
	if err != nil || j.token == nil {
		return c, nil, err
	}
	c.Token, c.TokenAllowed = j.token.RecordID, j.denied == nil
	return c, j.token, nil
}

// countUse counts the use of a token that spoke for a start or a cancel.
func (a *active) countUse(tx store.Tx, e *token.Entry) error {
	if e == nil {
		return nil
	}
	if err := a.tokens.Use(tx, e); err != nil {
		return err
	}
	return a.tokens.Finish(tx, e)
}

// refusalPause is how often the refusal of one former holder's share is written down.
const refusalPause = time.Minute

// oldShare writes down, if err says so, that a share was refused which was valid once. It returns err.
func (n *Node) oldShare(ctx context.Context, act *active, at, client string, err error) error {
	var old *seal.OldShare
	if !errors.As(err, &old) || !n.former.due(old.Generation, old.Slot, n.Now()) {
		return err
	}
	n.Logger.Warn("share of an old generation refused", "at", at, "generation", old.Generation, "slot", old.Slot)
	failed := act.Barrier.Update(ctx, func(tx store.Tx) error {
		return n.record(act, tx, transcript.Entry{
			Event: transcript.Refused, Generation: old.Generation, Slot: old.Slot, Client: act.pseudonym(client),
			Detail: "share of an old generation, at " + at,
		})
	})
	if failed != nil {
		n.former.forget(old.Generation, old.Slot)
		return failed
	}
	return err
}
