package node

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/delivery"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/token"
)

// Family says through which of the two documents' paths an attempt is driven. They share one slot, but an attempt
// started through one is not finished through the other: the reply would lose the token.
type Family string

const (
	RootGeneration Family = "root-generation" // seed 1: the caller's token ID becomes root
	GenerateRoot   Family = "generate-root"   // seed 2, and generate-root-token: OTP or PGP
)

var (
	ErrInProgress  = fault.New(fault.Invalid, "root generation already in progress: finish it, or cancel it first")
	ErrNotStarted  = fault.New(fault.Invalid, "no root generation in progress")
	ErrNonce       = fault.New(fault.Invalid, "incorrect nonce supplied: read the current one from the attempt's status, and make sure this is the attempt you mean to approve")
	errTokenIsData = fault.NeedsLocal("starting needs authority: give a key share in the field 'key', or use a local connection; " +
		"on this path the token in the header is only the ID that the new root token shall have")
	errNoTokenID = fault.New(fault.Invalid, "desired token must not be empty: send the ID that the new root token shall have in X-Vault-Token, or as a bearer token")
)

// errOtherFamily sends an approval to where its attempt was started.
func errOtherFamily(f Family) error {
	return fault.Newf(fault.Invalid, "this root generation was started through the other path, sys/%s: send the share to sys/%[1]s/update", f)
}

// Asker is who wants to start or cancel, as the wire saw them.
type Asker struct {
	Local bool         // a local connection, where the listener counts that as authority
	Open  bool         // the listener lets anyone start
	Token secret.Bytes // authority if live; empty for seed 1, where the token is data
	Path  string       // where policy is asked
	Share secret.Bytes // a holder's share given as authority; it is wiped
}

// StartRequest is what a new attempt is for. At most one of the first three is used; with none the server makes an
// OTP. An OTP wins over a PGP key.
type StartRequest struct {
	OTP, PGPKey []byte // seed 2
	TokenID     []byte // seed 1
	Reason      string
}

// RootStatus is the state of the one root generation, as both families show it.
type RootStatus struct {
	Started            bool
	Nonce              string
	Progress, Required int
	Complete           bool
	EncodedToken       string // only in the reply that completes
	PGPFingerprint     string
	OTP                string // only in the reply to a start, and only if the server made it
	OTPLength          int    // 0 in replies to approvals
	Objections         int
}

// RootStatus reads the progress. It is open to all.
func (n *Node) RootStatus(ctx context.Context) (st RootStatus, err error) {
	err = n.use(ctx, func(ctx context.Context, act *active) error {
		return act.Barrier.View(ctx, func(r store.Reader) error {
			rec, open, err := n.loadAttempt(act, r)
			if err != nil {
				return err
			}
			st = rootStatus(rec.Generation(), open)
			st.OTPLength = delivery.OTPLength
			return nil
		})
	})
	return st, err
}

// StartRoot starts an attempt. Starting never counts as an approval.
func (n *Node) StartRoot(ctx context.Context, f Family, who Asker, req StartRequest) (st RootStatus, err error) {
	defer who.Share.Wipe()
	err = n.use(ctx, func(ctx context.Context, act *active) error {
		// Admission comes before the work on the recipient, so that a stranger can't make the server do it.
		proof, err := n.admit(ctx, act, who, func(_ *openAttempt, c ceremony.Caller) error { return c.MayStart() }, policy.Update)
		if f == RootGeneration && errors.Is(err, ceremony.ErrMayNotStart) {
			return errTokenIsData
		}
		if err != nil {
			return err
		}
		d, otp, err := n.recipient(ctx, act, f, req)
		if err != nil {
			return err
		}
		defer d.Wipe()
		defer clear(otp)
		nonce := uuid.NewString()
		var replaced *openAttempt
		err = act.Barrier.Update(ctx, func(tx store.Tx) error {
			st, replaced, err = n.start(act, tx, who, proof, nonce, d, req.Reason)
			return err
		})
		if err != nil {
			return err
		}
		if replaced != nil {
			n.Logger.Warn("root generation gave way", "nonce", replaced.Nonce, "started_by", replaced.Initiator.By)
		}
		st.OTP = string(otp)
		st.OTPLength = delivery.OTPLength
		n.Logger.Info("root generation started", "nonce", nonce, "family", f, "recipient", d.Mode, "reason", req.Reason)
		return nil
	})
	return st, err
}

// proof is the share that an asker gave as authority, checked: it is checked once, before the Update, which only makes
// sure that it still counts.
type proof struct {
	slot       int // 0: none was given
	clusterID  string
	generation uint64
}

// admit checks the share that came with a start or a cancel, and asks may, in a snapshot of its own: neither the work of
// checking a stranger's share nor a refusal needs the turn of a writer.
func (n *Node) admit(ctx context.Context, act *active, who Asker, may func(*openAttempt, ceremony.Caller) error, want policy.Capability) (p proof, err error) {
	err = act.Barrier.View(ctx, func(r store.Reader) error {
		rec, open, err := n.loadAttempt(act, r)
		if err != nil {
			return err
		}
		if !who.Share.Empty() {
			slot, key, err := rec.Check(who.Share)
			if err != nil {
				return err
			}
			key.Wipe()
			p = proof{slot, rec.ClusterID, rec.Generation().Number}
		}
		caller, _, err := n.caller(act, r, rec, who, p, want)
		if err != nil {
			return err
		}
		return may(open, caller)
	})
	return p, err
}

// recipient validates to whom the new token goes; for PGP by a trial encryption. otp is the server's own, if it made one.
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
	default:
		otp = delivery.NewOTP(n.Rand)
		d, err = delivery.FromOTP(otp)
		return d, otp, err
	}
}

func (n *Node) start(act *active, tx store.Tx, who Asker, p proof, nonce string, d delivery.Delivery, reason string) (st RootStatus, replaced *openAttempt, err error) {
	rec, open, err := n.loadAttempt(act, tx)
	if err != nil {
		return st, nil, err
	}
	caller, used, err := n.caller(act, tx, rec, who, p, policy.Update)
	if err != nil {
		return st, nil, err
	}
	if err := caller.MayStart(); err != nil {
		return st, nil, err
	}
	if open != nil && !open.GivesWay(caller, n.Now()) {
		return st, nil, ErrInProgress
	}
	if err := act.countUse(tx, used); err != nil {
		return st, nil, err
	}
	gen := rec.Generation()
	next := &openAttempt{Delivery: d, Attempt: ceremony.New(ceremony.Params{
		Nonce: nonce, Kind: ceremony.RootToken, ClusterID: rec.ClusterID, Generation: gen.Number,
		Threshold: gen.Threshold, Holders: gen.Shares, Recipient: d.Recipient(act.digestMAC), Reason: reason,
		Initiator: caller.Initiator(), Limits: n.Ceremony, Now: n.Now(),
	})}
	if used != nil {
		next.OwnerKey = used.Key
	}
	next.Delivery.OTP = nil
	if err := putOTP(tx, d.OTP); err != nil {
		return st, nil, err
	}
	return rootStatus(gen, next), open, next.put(tx)
}

// digestMAC keeps low-entropy secrets, such as a caller's OTP, out of the attempt's public digest.
func (a *active) digestMAC(label string, b []byte) []byte {
	key := a.Barrier.DeriveKey("quorate/v1/digest-mac")
	defer key.Wipe()
	m := hmac.New(sha256.New, key.Reveal())
	m.Write([]byte(label))
	m.Write([]byte{0})
	m.Write(b)
	return m.Sum(nil)
}

// caller finds out what authority an asker has. A token that isn't live is ignored, not refused: the user's
// environment still holds the dead one on the very day this is needed. used is the token that spoke, if any.
func (n *Node) caller(act *active, r store.Reader, rec *seal.Record, who Asker, p proof, want policy.Capability) (c ceremony.Caller, used *token.Entry, err error) {
	c = ceremony.Caller{Local: who.Local, Anyone: who.Open}
	if p.clusterID == rec.ClusterID && p.generation == rec.Generation().Number {
		c.Slot = p.slot
	}
	if who.Token.Empty() {
		return c, nil, nil
	}
	used, err = act.tokens.Authenticate(r, who.Token.Reveal())
	if errors.Is(err, token.ErrDead) {
		return c, nil, nil
	}
	if err != nil {
		return c, nil, err
	}
	c.Token, c.TokenAllowed = used.RecordID, policy.Decide(used.Policies, who.Path, want)
	return c, used, nil
}

// countUse counts the use of a token that spoke for a start or a cancel.
func (a *active) countUse(tx store.Tx, e *token.Entry) error {
	if e == nil {
		return nil
	}
	return a.tokens.Use(tx, e)
}

// CancelRoot ends the attempt if the asker may; with none in progress it does nothing. ended is false when the asker
// is a holder whose objection was recorded instead, because other holders have approved.
func (n *Node) CancelRoot(ctx context.Context, who Asker) (st RootStatus, ended bool, err error) {
	defer who.Share.Wipe()
	var nonce string
	err = n.use(ctx, func(ctx context.Context, act *active) error {
		proof, err := n.admit(ctx, act, who, mayCancel(n.Now()), policy.Delete)
		if err != nil {
			return err
		}
		return act.Barrier.Update(ctx, func(tx store.Tx) error {
			st, nonce, ended, err = n.cancel(act, tx, who, proof)
			return err
		})
	})
	if err == nil && nonce != "" {
		n.Logger.Info("root generation cancel", "nonce", nonce, "ended", ended, "objections", st.Objections)
	}
	return st, ended, err
}

// mayCancel is what cancel will say, asked of a snapshot that is then thrown away.
func mayCancel(now time.Time) func(*openAttempt, ceremony.Caller) error {
	return func(open *openAttempt, c ceremony.Caller) error {
		if open == nil {
			return nil
		}
		if err := open.Cancel(c, now); !errors.Is(err, ceremony.ErrObjection) {
			return err
		}
		return nil
	}
}

func (n *Node) cancel(act *active, tx store.Tx, who Asker, p proof) (st RootStatus, nonce string, ended bool, err error) {
	rec, open, err := n.loadAttempt(act, tx)
	if err != nil {
		return st, "", false, err
	}
	if open == nil {
		return rootStatus(rec.Generation(), nil), "", true, nil
	}
	caller, used, err := n.caller(act, tx, rec, who, p, policy.Delete)
	if err != nil {
		return st, "", false, err
	}
	err = open.Cancel(caller, n.Now())
	objected := errors.Is(err, ceremony.ErrObjection)
	if err != nil && !objected {
		return st, "", false, err
	}
	if err := act.countUse(tx, used); err != nil {
		return st, "", false, err
	}
	if objected {
		return rootStatus(rec.Generation(), open), open.Nonce, false, open.put(tx)
	}
	st = rootStatus(rec.Generation(), nil)
	st.Objections = len(open.Objections)
	return st, open.Nonce, true, dropAttempt(tx)
}
