package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/delivery"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/token"
	"github.com/quorate/quorate/internal/transcript"
)

// maxDrill is how long a drill may take: holders are not all at hand.
const maxDrill = 31 * 24 * time.Hour

const defaultDrill = 7 * 24 * time.Hour

// How many ceremonies may be started with no more authority than a connection: each is two records in the transcript,
// for ever.
const (
	weakStartBurst = 250
	weakStartPause = 30 * time.Second
)

var (
	errTTL       = fault.New(fault.Invalid, "the ttl of an attempt must be positive and within the server's limit: leave it out for the default")
	errRootTTL   = fault.New(fault.Invalid, "root_token_ttl must be whole seconds: leave it out for the server's default, or give 0 for a token that doesn't expire")
	errLabels    = fault.New(fault.Invalid, "give one label for each key share, or none")
	errAllLabels = fault.New(fault.Invalid, "give one label for each key holder in slot order, in 'holders'")
	errBackup    = fault.New(fault.Invalid, "a backup of the new shares needs keys to encrypt them to: give pgp_keys, or set backup to false")
	errKeyCount  = fault.New(fault.Invalid, "the number of keys must equal the number of shares: give one for each share, or none")
	errTwoKinds  = fault.New(fault.Invalid, "give pgp_keys or age_recipients for the shares, not both")
	errPending   = fault.New(fault.Invalid, "another rekey waits for its new holders to prove their shares: finish it, or cancel it first")
	errSignedOTP = fault.New(fault.Invalid, "a start by signature can't carry an OTP or a token ID of the caller's: leave it out and the server makes an OTP, or give a public key")
	errSignedAt  = fault.Newf(fault.Invalid, "signed_at must be within %d minutes of the server's clock: sign the start again", int(ceremony.StartWindow.Minutes()))
	// errWeakStarts keeps who has no more than a connection from filling the transcript.
	errWeakStarts = &fault.Error{
		Kind: fault.Limited, RetryAfter: weakStartPause,
		Sentence: "too many ceremonies were started over connections alone: wait, or start with a token or a key share",
	}
	errUsedStart = fault.New(fault.Invalid, "this signed start has been used already: sign another one")
)

// Start starts an attempt. Starting never counts as an approval.
func (n *Node) Start(ctx context.Context, f Family, who Asker, req StartRequest) (c *Ceremony, err error) {
	defer who.Share.Wipe()
	err = n.use(ctx, func(ctx context.Context, act *active) error {
		c, err = n.start(ctx, act, f, who, req)
		return err
	})
	return c, err
}

func (n *Node) start(ctx context.Context, act *active, f Family, who Asker, req StartRequest) (c *Ceremony, err error) {
	// Admission comes before the work on the recipients, so that a stranger can't make the server do it.
	p, err := n.admitStart(ctx, act, who, req)
	if f == RootGeneration && errors.Is(err, ceremony.ErrMayNotStart) {
		return nil, errTokenIsData
	}
	if err != nil {
		return nil, err
	}
	pl, err := n.plan(ctx, act, f, req)
	if err != nil {
		return nil, err
	}
	defer pl.wipe()
	undo, err := n.weakStart(p)
	if err != nil {
		return nil, err
	}
	nonce := uuid.NewString()
	var replaced *openCeremony
	err = act.Barrier.Update(ctx, func(tx store.Tx) error {
		c, replaced, err = n.begin(act, tx, who, p, nonce, pl)
		return err
	})
	if err != nil {
		undo()
		return nil, err
	}
	if replaced != nil {
		n.Logger.Warn("ceremony gave way", "kind", replaced.Kind, "nonce", replaced.Nonce, "started_by", replaced.Initiator.By)
	}
	c.OTP = string(pl.otp)
	n.Logger.Info("ceremony started", "kind", req.Kind, "nonce", nonce, "recipient", pl.delivery.Mode, "reason", req.Reason)
	return c, nil
}

// weakStart counts a start that has no more authority than its connection; undo is for one that came to nothing.
func (n *Node) weakStart(p *proof) (undo func(), err error) {
	if !p.connection {
		return func() {}, nil
	}
	limit, now := n.localStarts, n.Now()
	if p.anyone {
		limit = n.openStarts
	}
	r := limit.ReserveN(now, 1)
	undo = func() { r.CancelAt(now) } // at a later time it would give nothing back
	if r.DelayFrom(now) > 0 {
		undo()
		return nil, errWeakStarts
	}
	return undo, nil
}

// admitStart asks, in a snapshot of its own, whether the asker may start: neither the work of checking a stranger's
// share or signature nor a refusal needs the turn of a writer.
func (n *Node) admitStart(ctx context.Context, act *active, who Asker, req StartRequest) (p *proof, err error) {
	err = act.Barrier.View(ctx, func(r store.Reader) error {
		rec, err := act.Record(r)
		if err != nil {
			return err
		}
		if p, err = n.proveStart(rec, who, req); err != nil {
			return err
		}
		caller, _, err := n.caller(act, r, rec, who, p, policy.Update)
		if err != nil {
			return err
		}
		initiator := caller.Initiator()
		p.connection, p.anyone = initiator.Connection, initiator.By == ceremony.ByAnyone
		return caller.MayStart()
	})
	return p, n.oldShare(ctx, act, "start", who.Client, err)
}

// proveStart checks the credential that came with a start, if one did.
func (n *Node) proveStart(rec *seal.Record, who Asker, req StartRequest) (*proof, error) {
	if len(who.Signature) == 0 {
		return prove(rec, who.Credential, nil)
	}
	if d := n.Now().Sub(who.SignedAt); d > ceremony.StartWindow || d < -ceremony.StartWindow {
		return nil, errSignedAt
	}
	s := ceremony.Start{
		ClusterID: rec.ClusterID, Generation: rec.Generation().Number, Kind: req.Kind, Reason: req.Reason, TTL: req.TTL,
		At: who.SignedAt,
	}
	// The cheap questions first: until the signature is checked, whoever asks may be a stranger.
	if _, ok := rec.Generation().Verifier(who.Slot); !ok {
		return nil, errSignature
	}
	if err := req.bounded(); err != nil {
		return nil, err
	}
	var err error
	if s.Recipient, err = req.recipient(); err != nil {
		return nil, err
	}
	// Without the server's default lifetime: a start signs what it asks for.
	if s.Parameters, err = req.parameters(0, req.Rekey.recipientName); err != nil {
		return nil, err
	}
	if req.Kind == ceremony.RootToken && req.RootTokenTTL < 0 { // asks for none, whatever the default is
		s.Parameters = []ceremony.Parameter{{Name: "root_token_ttl", Value: "0"}}
	}
	p, err := prove(rec, who.Credential, s.Statement)
	if err == nil {
		p.signed = s.Digest().Hex()
	}
	return p, err
}

// bounded refuses what no generation could have, before anything is done for each of it.
func (req *StartRequest) bounded() error {
	k := &req.Rekey
	rekey := req.Kind == ceremony.Rekey || req.Kind == ceremony.RotateRoot
	switch {
	case max(len(req.Labels), len(k.Labels), len(k.PGPKeys), len(k.Age)) > seal.MaxShares:
		return errKeyCount
	case len(k.PGPKeys) > 0 && len(k.Age) > 0:
		return errTwoKinds
	case rekey && k.recipients() > 0 && k.recipients() != k.Shares:
		return errKeyCount
	case rekey:
		if err := seal.CheckNumbers(k.Shares, k.Threshold); err != nil {
			return err
		}
	}
	return checkLabels(append(slices.Clip(req.Labels), k.Labels...))
}

// recipient names to whom a root token goes as a signed start does: by nothing that the server makes or that could be
// guessed.
func (req *StartRequest) recipient() (string, error) {
	switch {
	case req.Kind != ceremony.RootToken:
		return "", nil
	case len(req.OTP) > 0, len(req.TokenID) > 0:
		return "", errSignedOTP
	case len(req.PGPKey) > 0:
		return delivery.RecipientOf(delivery.PGP, string(req.PGPKey))
	case req.Age != "":
		return delivery.RecipientOf(delivery.Age, req.Age)
	}
	return string(delivery.OTP), nil
}

// parameters is what of a request enters the digest beside the recipient of a root token; name tells to whom the share
// of an index goes.
func (req *StartRequest) parameters(defaultTTL time.Duration, name func(i int) (string, error)) (list []ceremony.Parameter, err error) {
	add := func(name, value string) { list = append(list, ceremony.Parameter{Name: name, Value: value}) }
	switch req.Kind {
	case ceremony.RootToken:
		if ttl := rootTokenTTL(req.RootTokenTTL, defaultTTL); ttl > 0 {
			add("root_token_ttl", strconv.FormatInt(int64(ttl/time.Second), 10))
		}
	case ceremony.Holders:
		addLabels(add, req.Labels)
	case ceremony.Rekey, ceremony.RotateRoot:
		k := &req.Rekey
		if len(k.PGPKeys) > 0 && len(k.Age) > 0 {
			return nil, errTwoKinds
		}
		add("backup", strconv.FormatBool(k.Backup))
		add("require_verification", strconv.FormatBool(k.Verify))
		add("rotate", strconv.FormatBool(k.Rotate))
		add("secret_shares", strconv.Itoa(k.Shares))
		add("secret_threshold", strconv.Itoa(k.Threshold))
		add("verify_all", strconv.FormatBool(k.Verify && k.VerifyAll))
		addLabels(add, k.Labels)
		for i := range k.recipients() {
			to, err := name(i)
			if err != nil {
				return nil, about(err, k.field(i))
			}
			add("recipient."+numbered(i+1), to)
		}
	}
	return list, nil
}

func addLabels(add func(name, value string), labels []string) {
	for i, label := range labels {
		add("holder."+numbered(i+1), label)
	}
}

// rootTokenTTL is the default where nothing was asked for; a negative one asks for a token that never expires.
func rootTokenTTL(asked, byDefault time.Duration) time.Duration {
	if asked == 0 {
		return byDefault
	}
	return max(asked, 0)
}

// recipients is how many the new shares are encrypted to.
func (k *RekeyRequest) recipients() int { return max(len(k.PGPKeys), len(k.Age)) }

func (k *RekeyRequest) field(i int) string {
	if len(k.PGPKeys) > 0 {
		return fmt.Sprintf("pgp_keys[%d]", i)
	}
	return fmt.Sprintf("age_recipients[%d]", i)
}

// recipientName is the name of a recipient whose key is given in the form that ceremonies show.
func (k *RekeyRequest) recipientName(i int) (string, error) {
	if len(k.PGPKeys) > 0 {
		return delivery.RecipientOf(delivery.PGP, string(k.PGPKeys[i]))
	}
	return delivery.RecipientOf(delivery.Age, k.Age[i])
}

// recipient makes a trial encryption, so that no share is lost on a key that can't receive it.
func (k *RekeyRequest) recipient(i int, now time.Time) (delivery.Delivery, error) {
	if len(k.PGPKeys) > 0 {
		return delivery.FromPGP(k.PGPKeys[i], now)
	}
	return delivery.FromAge(k.Age[i], now)
}

// plan is a checked request with everything that was slow about it done.
type plan struct {
	StartRequest
	delivery   delivery.Delivery
	otp        []byte // the server's own, if it made one
	recipients []delivery.Delivery
	rekey      *RekeyPlan
	parameters []ceremony.Parameter
	limits     ceremony.Limits
}

func (p *plan) wipe() {
	p.delivery.Wipe()
	clear(p.otp)
}

func (n *Node) plan(ctx context.Context, act *active, f Family, req StartRequest) (*plan, error) {
	p := &plan{StartRequest: req, limits: n.Limits}
	err := n.checkTTL(p)
	switch {
	case err != nil:
	case !req.Kind.Known():
		err = errKind
	case req.Kind == ceremony.RootToken:
		p.delivery, p.otp, err = n.recipient(ctx, act, f, req)
	case req.Kind == ceremony.Holders:
		err = checkLabels(req.Labels)
	case req.Kind != ceremony.Drill:
		err = n.planRekey(p)
	}
	if err == nil {
		err = ceremony.CheckLine(req.Reason)
	}
	if err == nil {
		p.parameters, err = p.StartRequest.parameters(n.RootTokenTTL, func(i int) (string, error) {
			return delivery.RecipientOf(p.recipients[i].Mode, p.recipients[i].Key())
		})
	}
	if err != nil {
		p.wipe()
		return nil, err
	}
	return p, nil
}

func (n *Node) checkTTL(p *plan) error {
	limit := n.Limits.Total
	if p.Kind == ceremony.Drill {
		limit = maxDrill
		if p.TTL == 0 {
			p.TTL = defaultDrill
		}
	}
	switch {
	case p.TTL < 0 || p.TTL > limit || p.TTL%time.Second != 0:
		return errTTL
	case p.Kind == ceremony.RootToken && p.RootTokenTTL%time.Second != 0:
		return errRootTTL
	}
	return nil
}

func checkLabels(labels []string) error {
	for _, label := range labels {
		if err := ceremony.CheckLine(label); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) planRekey(p *plan) error {
	k := &p.Rekey
	if err := seal.CheckNumbers(k.Shares, k.Threshold); err != nil {
		return err
	}
	switch {
	case len(k.Labels) > 0 && len(k.Labels) != k.Shares:
		return errLabels
	case len(k.PGPKeys) > 0 && len(k.Age) > 0:
		return errTwoKinds
	case k.recipients() > 0 && k.recipients() != k.Shares:
		return errKeyCount
	case k.Backup && k.recipients() == 0:
		return errBackup
	}
	k.VerifyAll = k.VerifyAll && k.Verify
	p.rekey = &RekeyPlan{
		Shares: k.Shares, Threshold: k.Threshold, Labels: k.Labels, Backup: k.Backup, Verify: k.Verify,
		VerifyAll: k.VerifyAll, Rotate: k.Rotate,
	}
	for i := range k.recipients() {
		d, err := k.recipient(i, n.Now())
		if err != nil {
			return about(err, k.field(i))
		}
		p.recipients = append(p.recipients, d)
		p.rekey.Mode = string(d.Mode)
		if d.Fingerprint != "" {
			p.rekey.Fingerprints = append(p.rekey.Fingerprints, d.Fingerprint)
		}
	}
	return checkLabels(k.Labels)
}

// recipient validates to whom the new token goes; for public keys by a trial encryption. otp is the server's own, if it made one.
func (n *Node) recipient(ctx context.Context, act *active, f Family, req StartRequest) (d delivery.Delivery, otp []byte, err error) {
	switch {
	case f == RootGeneration:
		if len(req.TokenID) == 0 {
			return d, nil, errNoTokenID
		}
		if err := token.CheckID(req.TokenID); err != nil {
			return d, nil, err
		}
		err = act.Barrier.View(ctx, func(r store.Reader) error {
			key, err := act.tokens.Key(r, req.TokenID)
			d = delivery.FromToken(key)
			return err
		})
		return d, nil, err
	case len(req.OTP) > 0:
		d, err = delivery.FromOTP(req.OTP)
		return d, nil, err
	case len(req.PGPKey) > 0:
		d, err = delivery.FromPGP(req.PGPKey, n.Now())
		return d, nil, err
	case req.Age != "":
		d, err = delivery.FromAge(req.Age, n.Now())
		return d, nil, err
	default:
		otp = delivery.NewOTP(n.Rand)
		d, err = delivery.FromOTP(otp)
		return d, otp, err
	}
}

// begin writes the attempt, and whatever was in its place comes to its end.
func (n *Node) begin(act *active, tx store.Tx, who Asker, p *proof, nonce string, pl *plan) (c *Ceremony, replaced *openCeremony, err error) {
	s, err := n.load(act, tx, pl.Kind)
	if err != nil {
		return nil, nil, err
	}
	caller, used, err := n.caller(act, tx, s.rec, who, p, policy.Update)
	if err != nil {
		return nil, nil, err
	}
	if err := caller.MayStart(); err != nil {
		return nil, nil, err
	}
	if err := n.makeRoom(act, tx, s, caller, p); err != nil {
		return nil, nil, err
	}
	if err := act.countUse(tx, used); err != nil {
		return nil, nil, err
	}
	replaced = s.open
	gen := s.rec.Generation()
	if pl.Kind == ceremony.Holders && len(pl.Labels) != gen.Shares {
		return nil, nil, errAllLabels
	}
	s.open = &openCeremony{
		Delivery: pl.delivery, Labels: pl.Labels, Rekey: pl.rekey,
		RootTokenTTL: rootTokenTTL(pl.RootTokenTTL, n.RootTokenTTL),
		Attempt: ceremony.New(ceremony.Params{
			Nonce: nonce, Kind: pl.Kind, ClusterID: s.rec.ClusterID, Generation: gen.Number, Threshold: s.threshold(),
			Holders: gen.Shares, Parameters: pl.parameters, Reason: pl.Reason, TTL: pl.TTL,
			Recipient: pl.recipientName(act, nonce), Initiator: caller.Initiator(), Limits: pl.limits, Now: n.Now(),
		}),
	}
	if used != nil {
		s.open.OwnerKey = used.Key
	}
	if err := n.putNew(act, tx, s.open, pl, act.pseudonym(who.Client)); err != nil {
		return nil, nil, err
	}
	c, err = s.whole(tx)
	return c, replaced, err
}

// recipientName names the recipient of a root token. That of an OTP is another one in each attempt, so that nobody can
// try their guesses at somebody else's.
func (p *plan) recipientName(act *active, nonce string) string {
	if p.Kind != ceremony.RootToken {
		return ""
	}
	return p.delivery.Recipient(func(label string, b []byte) []byte { return act.digestMAC(label+"/"+nonce, b) })
}

// makeRoom refuses a start for which there is no room, and ends what gives way to it.
func (n *Node) makeRoom(act *active, tx store.Tx, s *slot, caller ceremony.Caller, p *proof) error {
	if p.signed != "" {
		if err := n.useOnce(tx, p.signed); err != nil {
			return err
		}
	}
	if err := n.buryDead(act, tx, s); err != nil {
		return err
	}
	if s.open != nil {
		if s.open.Verification != nil || !s.open.GivesWay(caller, n.Now()) {
			return sentencesOf(s.kind).inProgress
		}
		return n.bury(act, tx, s.open, Cancelled, transcript.Entry{Event: transcript.GaveWay, Slot: caller.Slot})
	}
	if s.kind == ceremony.Rekey || s.kind == ceremony.RotateRoot {
		if err := n.freePending(act, tx); err != nil {
			return err
		}
	}
	if _, err := readOpen(tx, s.kind); errors.Is(err, errDamagedAttempt) {
		return n.dropDamaged(act, tx, s.kind)
	}
	return nil
}

// freePending lets a rekey begin: not beside one that waits for its new holders, but where the record of that one is
// lost or it is over, what it prepared is destroyed.
func (n *Node) freePending(act *active, tx store.Tx) error {
	for _, kind := range []ceremony.Kind{ceremony.Rekey, ceremony.RotateRoot} {
		s, err := n.load(act, tx, kind)
		if err != nil {
			return err
		}
		if s.open != nil && s.open.Verification != nil {
			return errPending
		}
		if err := n.buryDead(act, tx, s); err != nil {
			return err
		}
	}
	rec, err := act.Record(tx)
	if err != nil || rec.Pending() == nil {
		return err
	}
	number := rec.Pending().Number
	if _, err := act.Abort(tx); err != nil {
		return err
	}
	return n.record(act, tx, transcript.Entry{
		Event: transcript.End, Generation: number, Detail: "the record of the rekey that prepared this generation was lost",
	})
}

// useOnce remembers a signed start for longer than its time would let it be sent again.
func (n *Node) useOnce(tx store.Tx, digest string) error {
	values, err := tx.Get(signedPrefix + digest)
	if err != nil {
		return err
	}
	if values[0] != nil {
		return errUsedStart
	}
	return putJSON(tx, signedPrefix+digest, n.Now().Add(2*ceremony.StartWindow+time.Minute))
}

func (n *Node) putNew(act *active, tx store.Tx, o *openCeremony, pl *plan, client string) error {
	o.Delivery.OTP = nil
	if len(pl.delivery.OTP) > 0 {
		if err := tx.Put(under(otpPrefix, o.Attempt), pl.delivery.OTP); err != nil {
			return err
		}
	}
	for i, d := range pl.recipients {
		if err := putJSON(tx, under(recipientPrefix, o.Attempt)+"/"+numbered(i+1), d); err != nil {
			return err
		}
	}
	if err := o.put(tx); err != nil {
		return err
	}
	return n.record(act, tx, transcript.Entry{
		Event: transcript.Start, Kind: o.Kind, Nonce: o.Nonce, Generation: o.Generation, Slot: o.Initiator.Slot,
		Attempt: o.Attempt, Client: client,
	})
}
