package node

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/transcript"
)

var (
	errNoResult     = fault.New(fault.NotFound, "nothing is kept of this ceremony: it yields nothing, it isn't complete, or its result has expired or was acknowledged")
	errMayNotResult = fault.NeedsLocal("the result of a ceremony is for those who could start it: use the token that started it, one whose policy allows it, " +
		"or a key share or signature; a local connection does if a local connection started it")
	errNoBackup = fault.New(fault.Invalid, "no backed-up keys found")
)

// Result reads what is kept of a ceremony that completed: the encoded token, or the encrypted shares.
func (n *Node) Result(ctx context.Context, nonce string, who Asker) (c *Ceremony, err error) {
	defer who.Share.Wipe()
	err = n.use(ctx, func(ctx context.Context, act *active) error {
		err := act.Barrier.View(ctx, func(r store.Reader) error {
			rec, res, _, err := n.mayHave(act, r, nonce, who, policy.Read)
			if err != nil {
				return err
			}
			if res.EncodedToken == "" && res.KeyCount == 0 {
				return errNoResult
			}
			c = res.view(rec)
			if c.Keys, err = res.encryptedKeys(r); err != nil {
				return err
			}
			for i := range res.KeyCount {
				values, err := r.Get(keysPrefix + nonce + "/" + numbered(i+1) + keysTo)
				if err != nil {
					return err
				}
				c.RecipientKeys = append(c.RecipientKeys, string(values[0]))
			}
			return nil
		})
		return n.oldShare(ctx, act, "result", who.Client, err)
	})
	return c, err
}

func (res *outcome) encryptedKeys(r store.Reader) ([][]byte, error) {
	again := *res
	again.SealedKeys = nil
	return again.keys(r, Credential{}.Share)
}

var errMayNotAcknowledge = fault.New(fault.Denied, "encrypted shares are destroyed only for who started their rekey, or with a token whose policy allows it: "+
	"other holders may not have theirs yet")

// Acknowledge destroys what is kept of a ceremony: its recipients have what they need. One holder can't take the new
// shares from the others.
func (n *Node) Acknowledge(ctx context.Context, nonce string, who Asker) error {
	defer who.Share.Wipe()
	return n.use(ctx, func(ctx context.Context, act *active) error {
		var p *proof
		err := act.Barrier.View(ctx, func(r store.Reader) (err error) {
			_, _, p, err = n.mayHave(act, r, nonce, who, policy.Delete)
			return err
		})
		if err != nil {
			return n.oldShare(ctx, act, "acknowledgement", who.Client, err)
		}
		return act.Barrier.Update(ctx, func(tx store.Tx) error {
			res, err := n.readOutcome(tx, nonce)
			if err != nil || res == nil {
				return cmp.Or(err, error(errNoResult))
			}
			if err := deleteAll(tx, keysPrefix+nonce+"/"); err != nil {
				return err
			}
			res.EncodedToken, res.KeyCount, res.SealedKeys, res.Expires = "", 0, nil, n.Now().Add(n.ResultTTL)
			if err := res.put(tx); err != nil {
				return err
			}
			return n.record(act, tx, transcript.Entry{
				Event: transcript.Acknowledge, Kind: res.Kind, Nonce: nonce, Generation: p.generation, Slot: p.slot, Client: act.pseudonym(who.Client),
			})
		})
	})
}

// mayHave finds what is kept of a ceremony, for who may have it, or with policy.Delete may have it destroyed.
func (n *Node) mayHave(act *active, r store.Reader, nonce string, who Asker, want policy.Capability) (*seal.Record, *outcome, *proof, error) {
	rec, err := act.Record(r)
	if err != nil {
		return nil, nil, nil, err
	}
	p, err := n.proveResult(rec, nonce, who, want)
	if err != nil {
		return nil, nil, nil, err
	}
	caller, _, err := n.caller(act, r, rec, who, p, want)
	if err != nil {
		return nil, nil, nil, err
	}
	res, err := n.readOutcome(r, nonce)
	if err != nil {
		return nil, nil, nil, err
	}
	known := res != nil
	switch {
	case caller.TokenAllowed && caller.Token != "":
	case known && caller.Token != "" && caller.Token == res.Initiator.Token:
	case caller.Local && (!known || res.Initiator.Connection):
	case caller.Slot > 0 && known && want == policy.Delete && res.KeyCount > 0 && !p.started(res):
		return nil, nil, nil, errMayNotAcknowledge
	case caller.Slot > 0:
	default:
		return nil, nil, nil, errMayNotResult
	}
	if !known || res.State == Cancelled || res.State == Expired {
		return nil, nil, nil, errNoResult
	}
	return rec, res, p, nil
}

// started reports whether p is of the holder who started the ceremony: the same slot of another generation is somebody
// else's.
func (p *proof) started(res *outcome) bool {
	return p.slot == res.Initiator.Slot && p.generation == res.Generation
}

// proveResult checks the credential of who wants a result. A signature is bound in time, because nothing is written
// down that would keep it from being sent again.
func (n *Node) proveResult(rec *seal.Record, nonce string, who Asker, want policy.Capability) (*proof, error) {
	if len(who.Signature) > 0 {
		if d := n.Now().Sub(who.SignedAt); d > ceremony.StartWindow || d < -ceremony.StartWindow {
			return nil, errSignedAt
		}
	}
	statement := ceremony.ResultStatement
	if want == policy.Delete {
		statement = ceremony.AcknowledgeStatement
	}
	return prove(rec, who.Credential, func(slot int) holder.Statement {
		return statement(rec.ClusterID, rec.Generation().Number, slot, "", nonce, who.SignedAt)
	})
}

// backupPrefix + kind → backup, whose shares are under backupKeys
const backupPrefix = "rekey/backup/"

// backup says what the shares under backupKeys belong to.
type backup struct {
	Nonce        string   `json:"nonce"`
	Fingerprints []string `json:"fingerprints"`
}

func backupKeys(kind ceremony.Kind) string { return "rekey/backup-keys/" + string(kind) + "/" }

// RekeyBackup reads the encrypted shares of the latest rekey that was to keep them, in slot order.
func (n *Node) RekeyBackup(ctx context.Context, a Access, kind ceremony.Kind) (nonce string, fingerprints []string, keys [][]byte, err error) {
	err = n.View(ctx, a, func(c *Call) error {
		var b backup
		keys = nil
		if err := getJSON(c.Tx, backupPrefix+string(kind), &b); err != nil {
			return err
		}
		nonce, fingerprints = b.Nonce, b.Fingerprints
		for e, err := range c.Tx.Scan(backupKeys(kind), "") {
			if err != nil {
				return err
			}
			keys = append(keys, append([]byte(nil), e.Value...))
		}
		if len(keys) == 0 {
			return errNoBackup
		}
		return nil
	})
	return nonce, fingerprints, keys, err
}

// DeleteRekeyBackup destroys the backup.
func (n *Node) DeleteRekeyBackup(ctx context.Context, a Access, kind ceremony.Kind) error {
	return n.Update(ctx, a, func(c *Call) error { return deleteBackup(c.Tx, kind) })
}

func deleteBackup(tx store.Tx, kind ceremony.Kind) error {
	if err := deleteAll(tx, backupKeys(kind)); err != nil {
		return err
	}
	return tx.Delete(backupPrefix + string(kind))
}

// forgetBackup destroys the backup of a generation that never came into force.
func forgetBackup(tx store.Tx, o *openCeremony) error {
	var b backup
	if err := getJSON(tx, backupPrefix+string(o.Kind), &b); err != nil || b.Nonce != o.Nonce {
		return err
	}
	return deleteBackup(tx, o.Kind)
}

// sweepOutcomes removes what is kept of ceremonies for longer than it should be, and signed starts that can't be sent
// again any more. A damaged record goes too: nothing can be made of it.
func (n *Node) sweepOutcomes(ctx context.Context, a *active) error {
	var dead []string
	err := a.Barrier.View(ctx, func(r store.Reader) error {
		for _, prefix := range []string{outcomePrefix, signedPrefix} {
			for e, err := range r.Scan(prefix, "") {
				if err != nil {
					return err
				}
				if n.sweepable(e.Key, e.Value) {
					dead = append(dead, strings.Clone(e.Key))
				}
			}
		}
		return nil
	})
	if err != nil || len(dead) == 0 {
		return err
	}
	return a.Barrier.Update(ctx, func(tx store.Tx) error {
		values, err := tx.Get(dead...)
		if err != nil {
			return err
		}
		for i, key := range dead {
			if values[i] == nil || !n.sweepable(key, values[i]) { // written anew since
				continue
			}
			if nonce, ok := strings.CutPrefix(key, outcomePrefix); ok {
				if err := deleteAll(tx, keysPrefix+nonce+"/"); err != nil {
					return err
				}
			}
			if err := tx.Delete(key); err != nil {
				return err
			}
		}
		return nil
	})
}

func (n *Node) sweepable(key string, value []byte) bool {
	if strings.HasPrefix(key, outcomePrefix) {
		res, err := parseOutcome(value)
		return err != nil || res.expired(n.Now())
	}
	var until time.Time
	return until.UnmarshalJSON(value) != nil || !n.Now().Before(until)
}
