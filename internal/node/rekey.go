package node

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/delivery"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/transcript"
)

// keysTTL is how long encrypted shares are kept for who hasn't acknowledged them.
const keysTTL = 30 * 24 * time.Hour

const lostReplyLabel = "quorate/v1/lost-reply/" // and the nonce

// preparedRekey is the next generation before it is in any record.
type preparedRekey struct {
	gen       *seal.NewGeneration
	encrypted [][]byte // shares for their recipients; nil: they go out in clear
	keys      []string // of the recipients
	sealed    []byte   // shares in clear, for a lost reply
	root      *barrier.NextRoot
	kept      bool // the shares went into a reply
}

// close wipes what nobody will use; err is what became of the Update.
func (p *preparedRekey) close(err error) {
	if p.root != nil {
		p.root.Close(err == nil || errors.Is(err, store.ErrUnknownOutcome))
	}
	if err != nil || !p.kept {
		for _, s := range p.gen.Shares {
			s.Wipe()
		}
	}
}

// prepareRekey makes the next generation and encrypts its shares.
func (n *Node) prepareRekey(ctx context.Context, act *active, ap *approval) (*preparedRekey, error) {
	plan := ap.open.Rekey
	if plan.Mode == "" && !plan.Verify && ap.Share.Empty() {
		return nil, errClearBySignature
	}
	var rec *seal.Record
	var recipients []delivery.Delivery
	err := act.Barrier.View(ctx, func(r store.Reader) (err error) {
		if rec, err = act.Record(r); err != nil {
			return err
		}
		o, err := readOpen(r, ap.kind)
		if err != nil {
			return err
		}
		if o == nil || !sameNonce(o.Nonce, ap.nonce) { // over since the look at it, and its recipients with it
			return sentencesOf(ap.kind).notStarted
		}
		recipients, err = readRecipients(r, o.Attempt)
		return err
	})
	if err != nil {
		return nil, err
	}
	if rec.Pending() != nil {
		return nil, errPending
	}
	p := &preparedRekey{}
	p.gen, err = seal.MakeGeneration(n.Rand, rec, seal.GenerationParams{Shares: plan.Shares, Threshold: plan.Threshold, Labels: plan.Labels})
	if err != nil {
		return nil, err
	}
	switch {
	case plan.Mode != "":
		if err = ap.open.approvedRecipients(recipients); err == nil {
			p.encrypted, err = n.encryptShares(p.gen.Shares, recipients)
		}
		for _, d := range recipients {
			p.keys = append(p.keys, d.Key())
		}
	case !ap.Share.Empty():
		p.sealed, err = sealShares(p.gen.Shares, ap.Share, rec.ClusterID, ap.nonce)
	}
	if err == nil && plan.Rotate && !plan.Verify {
		p.root, err = act.Barrier.PrepareRoot()
	}
	if err != nil {
		p.close(err)
		return nil, err
	}
	return p, nil
}

// approvedRecipients makes sure that the new shares go to whom the holders approved.
func (o *openCeremony) approvedRecipients(list []delivery.Delivery) error {
	if len(list) != o.Rekey.Shares {
		return errDamagedAttempt
	}
	for i, d := range list {
		name, err := delivery.RecipientOf(d.Mode, d.Key())
		if err != nil || !slices.Contains(o.Parameters, ceremony.Parameter{Name: "recipient." + numbered(i+1), Value: name}) {
			return errDamagedAttempt
		}
	}
	return nil
}

func (n *Node) encryptShares(shares []secret.Bytes, recipients []delivery.Delivery) (list [][]byte, err error) {
	for i, share := range shares {
		text := hex.AppendEncode(nil, share.Reveal())
		message, err := recipients[i].Encrypt(text, n.Now())
		clear(text)
		if err != nil {
			return nil, err
		}
		list = append(list, message)
	}
	return list, nil
}

// completeRekey puts the next generation into the record: in force at once, or, where its holders are to prove
// possession first, beside the present one. It returns the shares as the reply carries them.
func (n *Node) completeRekey(act *active, tx store.Tx, res *outcome, ap *approval, p *preparedRekey) (keys [][]byte, err error) {
	rec, err := act.Prepare(tx, p.gen)
	if errors.Is(err, seal.ErrOtherNumber) {
		return nil, errPrepare
	}
	if err != nil {
		return nil, err
	}
	gen := rec.Pending()
	err = n.record(act, tx, transcript.Entry{
		Event: transcript.Generation, Kind: res.Kind, Nonce: res.Nonce, Generation: gen.Number, Threshold: gen.Threshold, Holders: recorded(gen),
	})
	if err != nil {
		return nil, err
	}
	if res.Rekey.Verify {
		res.State = Verifying
		res.Verification = &Verification{
			Nonce: uuid.NewString(), Generation: gen.Number, Required: gen.Threshold, Began: n.Now().UTC().Truncate(time.Millisecond),
			Wait: n.VerificationTTL,
		}
		if res.Rekey.VerifyAll {
			res.Verification.Required = gen.Shares
		}
	} else if err := n.commit(act, tx, res, p.root, true); err != nil {
		return nil, err
	}
	return n.keepKeys(tx, res, p)
}

// keepKeys stores the shares as far as they may be stored, and returns those of the reply.
func (n *Node) keepKeys(tx store.Tx, res *outcome, p *preparedRekey) (keys [][]byte, err error) {
	if p.encrypted == nil {
		res.SealedKeys, p.kept = p.sealed, true
		for _, s := range p.gen.Shares {
			keys = append(keys, s.Reveal())
		}
		return keys, nil
	}
	res.KeyCount, res.Expires = len(p.encrypted), n.Now().Add(keysTTL)
	if res.Rekey.Backup { // nothing of the one before, which may have had more shares
		if err := deleteAll(tx, backupKeys(res.Kind)); err != nil {
			return nil, err
		}
	}
	for i, message := range p.encrypted {
		key := keysPrefix + res.Nonce + "/" + numbered(i+1)
		if err := errors.Join(tx.Put(key, message), tx.Put(key+keysTo, []byte(p.keys[i]))); err != nil {
			return nil, err
		}
		if res.Rekey.Backup {
			if err := tx.Put(backupKeys(res.Kind)+numbered(i+1), message); err != nil {
				return nil, err
			}
		}
	}
	if res.Rekey.Backup {
		err = putJSON(tx, backupPrefix+string(res.Kind), backup{Nonce: res.Nonce, Fingerprints: res.Rekey.Fingerprints})
	}
	return p.encrypted, err
}

// commit puts the prepared generation into force. Attempts that the old one's holders approved end.
func (n *Node) commit(act *active, tx store.Tx, res *outcome, root *barrier.NextRoot, keepOld bool) error {
	rec, err := act.Commit(tx, keepOld)
	if err != nil {
		return err
	}
	if err := forgetProven(tx, rec); err != nil {
		return err
	}
	if err := n.endOthers(act, tx, res.Kind); err != nil {
		return err
	}
	e := transcript.Entry{Event: transcript.Commit, Kind: res.Kind, Nonce: res.Nonce, Generation: rec.Generation().Number}
	if keepOld {
		e.Detail = "the generation before can still unseal until a quorum of this one has proven its shares"
	}
	if root == nil {
		return n.record(act, tx, e)
	}
	if _, err := act.RotateRoot(tx, root, n.Now()); err != nil {
		return err
	}
	return n.record(act, tx, e, transcript.Entry{
		Event: transcript.RotateRoot, Kind: res.Kind, Nonce: res.Nonce, Generation: rec.Generation().Number,
	})
}

// recorded is how the holders of a generation stand in the transcript.
func recorded(g *seal.Generation) []transcript.Holder {
	list := make([]transcript.Holder, len(g.Holders))
	for i, h := range g.Holders {
		list[i] = transcript.Holder{Slot: h.Slot, Label: h.Label, Verifier: h.Verifier}
	}
	return list
}

// Verify records that a holder of the prepared generation has their share, and, when enough have, puts it into force.
// nonce is that of the verification. It wipes the share.
func (n *Node) Verify(ctx context.Context, kind ceremony.Kind, nonce string, a Approver) (c *Ceremony, err error) {
	defer a.Share.Wipe()
	err = n.use(ctx, func(ctx context.Context, act *active) error {
		c, err = n.verify(ctx, act, kind, nonce, a)
		return n.oldShare(ctx, act, "verification", a.Client, err)
	})
	if err != nil {
		n.refused(string(kind)+" verification", err)
	}
	return c, err
}

func (n *Node) verify(ctx context.Context, act *active, kind ceremony.Kind, nonce string, a Approver) (c *Ceremony, err error) {
	var p *proof
	var rotate bool
	err = act.Barrier.View(ctx, func(r store.Reader) error {
		s, err := n.verifying(act, r, kind, nonce)
		if err != nil {
			return err
		}
		gen := s.rec.Pending()
		p = &proof{clusterID: s.rec.ClusterID, generation: gen.Number}
		rotate = s.open.Rekey.Rotate && len(s.open.Verification.Proofs)+1 >= s.open.Verification.Required
		return p.check(a.Credential, s.rec.CheckPending, gen, func(slot int) holder.Statement {
			return ceremony.ProveStatement(s.rec.ClusterID, gen.Number, slot, "", nonce)
		})
	})
	for err == nil {
		var root *barrier.NextRoot
		if rotate {
			if root, err = act.Barrier.PrepareRoot(); err != nil {
				return nil, err
			}
		}
		err = act.Barrier.Update(ctx, func(tx store.Tx) error {
			c, err = n.recordProof(act, tx, kind, nonce, p, root, act.pseudonym(a.Client))
			return err
		})
		if root != nil {
			root.Close(err == nil || errors.Is(err, store.ErrUnknownOutcome))
		}
		if !errors.Is(err, errPrepare) {
			break
		}
		rotate, err = true, nil
	}
	if err != nil {
		return nil, err
	}
	n.Logger.Info("new share proven", "kind", kind, "slot", p.slot, "generation", p.generation, "proven", len(c.Verification.Proofs),
		"required", c.Verification.Required, "complete", c.State == Complete)
	return c, nil
}

// verifying loads a ceremony that waits for its new holders.
func (n *Node) verifying(act *active, r store.Reader, kind ceremony.Kind, nonce string) (*slot, error) {
	s, err := n.load(act, r, kind)
	switch {
	case err != nil:
		return nil, err
	case s.open == nil:
		return nil, sentencesOf(kind).notStarted
	case s.open.Verification == nil:
		return nil, errNoVerification
	case !sameNonce(s.open.Verification.Nonce, nonce):
		return nil, ErrNonce
	}
	return s, nil
}

func (n *Node) recordProof(act *active, tx store.Tx, kind ceremony.Kind, nonce string, p *proof, root *barrier.NextRoot, client string) (*Ceremony, error) {
	s, err := n.verifying(act, tx, kind, nonce)
	if err != nil {
		return nil, err
	}
	o, v, gen := s.open, s.open.Verification, s.rec.Pending()
	switch {
	case gen.Number != p.generation:
		return nil, ErrNonce
	case v.provedBy(p.slot):
		return nil, sentencesOf(kind).duplicate
	}
	now := n.Now().UTC().Truncate(time.Millisecond)
	e := transcript.Entry{
		Event: transcript.Prove, Kind: kind, Nonce: nonce, Generation: gen.Number, Slot: p.slot, Label: gen.Label(p.slot),
		Mode: p.mode, Signature: p.signature, Client: client, Shared: sharedClient(v.Proofs, p.slot, client),
	}
	v.Proofs = append(slices.Clone(v.Proofs), ceremony.Approval{Slot: p.slot, Mode: p.mode, Signature: p.signature, At: now, Client: client})
	if err := n.record(act, tx, e); err != nil {
		return nil, err
	}
	if err := n.keepLonger(tx, o.Nonce); err != nil {
		return nil, err
	}
	if len(v.Proofs) < v.Required {
		if err := n.proven(act, tx, s.rec, gen, string(kind), p.slot); err != nil {
			return nil, err
		}
		if err := o.put(tx); err != nil {
			return nil, err
		}
		return s.whole(tx)
	}
	if o.Rekey.Rotate && root == nil {
		return nil, errPrepare
	}
	return n.verified(act, tx, s, p.slot, root)
}

// keepLonger keeps encrypted shares for as long again: holders still come for theirs.
func (n *Node) keepLonger(tx store.Tx, nonce string) error {
	res, err := n.readOutcome(tx, nonce)
	if err != nil || res == nil || res.KeyCount == 0 {
		return err
	}
	res.Expires = n.Now().Add(keysTTL)
	return res.put(tx)
}

// verified puts a generation into force whose holders have proven their shares.
func (n *Node) verified(act *active, tx store.Tx, s *slot, by int, root *barrier.NextRoot) (*Ceremony, error) {
	o, gen := s.open, s.rec.Pending()
	if err := n.proven(act, tx, s.rec, gen, string(o.Kind), by); err != nil {
		return nil, err
	}
	res, err := n.readOutcome(tx, o.Nonce)
	if err != nil {
		return nil, err
	}
	if res == nil {
		res = &outcome{Required: o.Threshold}
	}
	res.openCeremony, res.State, res.SealedKeys = *o, Complete, nil
	if res.KeyCount == 0 || len(o.Verification.Proofs) == gen.Shares { // everybody has theirs
		res.KeyCount, res.Expires = 0, n.Now().Add(n.ResultTTL)
		if err := deleteAll(tx, keysPrefix+o.Nonce+"/"); err != nil {
			return nil, err
		}
	}
	if err := n.commit(act, tx, res, root, false); err != nil {
		return nil, err
	}
	if err := o.drop(tx); err != nil {
		return nil, err
	}
	if err := res.put(tx); err != nil {
		return nil, err
	}
	return n.completed(act, tx, res, nil)
}

// sealShares encrypts the shares under the share that completed the rekey, so that only it can have them again. Each is
// a byte of length and its bytes: an encoder would keep copies that can't be wiped.
func sealShares(shares []secret.Bytes, by secret.Bytes, clusterID, nonce string) ([]byte, error) {
	aead, err := lostReplyAEAD(by, clusterID, nonce)
	if err != nil {
		return nil, err
	}
	text := make([]byte, 0, len(shares)*(1+holder.MaxShare))
	for _, s := range shares {
		text = append(append(text, byte(s.Len())), s.Reveal()...)
	}
	defer clear(text)
	return aead.Seal(nil, nil, text, []byte(lostReplyLabel)), nil
}

// keys reads the new shares that res kept: the encrypted ones, or with the share that completed it those in clear.
func (res *outcome) keys(r store.Reader, by secret.Bytes) (list [][]byte, err error) {
	for i := range res.KeyCount {
		values, err := r.Get(keysPrefix + res.Nonce + "/" + numbered(i+1))
		if err != nil {
			return nil, err
		}
		list = append(list, slices.Clone(values[0]))
	}
	if len(res.SealedKeys) == 0 {
		return list, nil
	}
	aead, err := lostReplyAEAD(by, res.ClusterID, res.Nonce)
	if err != nil {
		return nil, err
	}
	text, err := aead.Open(nil, nil, res.SealedKeys, []byte(lostReplyLabel))
	if err != nil {
		return nil, errors.New("the kept shares can't be opened with the share that completed the rekey")
	}
	defer clear(text)
	for rest := text; len(rest) > 0; {
		size := 1 + int(rest[0])
		list = append(list, slices.Clone(rest[1:size]))
		rest = rest[size:]
	}
	return list, nil
}

func lostReplyAEAD(share secret.Bytes, clusterID, nonce string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, share.Reveal(), []byte(clusterID), lostReplyLabel+nonce, barrier.KeySize)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
