package node

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/delivery"
	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/token"
)

const (
	attemptKey   = "ceremony/root-token/attempt"
	otpKey       = "ceremony/root-token/otp"     // of that attempt: apart, so that nobody reads it before it is used
	resultPrefix = "ceremony/root-token/result/" // + nonce
)

// openAttempt is the record of the attempt in progress. // attemptKey → openAttempt
type openAttempt struct {
	*ceremony.Attempt `json:"attempt"`
	Delivery          delivery.Delivery `json:"delivery"`            // without the OTP
	OwnerKey          string            `json:"owner_key,omitempty"` // under which the token that owns it is stored
}

// result is kept for a short time so that a lost reply can be had again. // resultPrefix + nonce → result
type result struct {
	Family       Family    `json:"family"`
	Slot         int       `json:"slot"` // whose approval completed it
	Required     int       `json:"required"`
	EncodedToken string    `json:"encoded_token"`
	Fingerprint  string    `json:"pgp_fingerprint"`
	Expires      time.Time `json:"expires"`
}

func rootStatus(gen *seal.Generation, open *openAttempt) RootStatus {
	if open == nil {
		return RootStatus{Required: gen.Threshold}
	}
	return RootStatus{
		Started: true, Nonce: open.Nonce, Progress: open.Progress(), Required: open.Threshold,
		PGPFingerprint: open.Delivery.Fingerprint, Objections: len(open.Objections),
	}
}

// loadAttempt reads the checked generation record and the attempt in progress, nil if there is none. An attempt past
// its deadline is none, whether or not it has been swept, and neither is one whose record is damaged: it can't be
// approved any more, and must not be in the way of the next.
func (n *Node) loadAttempt(act *active, r store.Reader) (*seal.Record, *openAttempt, error) {
	rec, err := act.Record(r)
	if err != nil {
		return nil, nil, err
	}
	open, err := readAttempt(r)
	switch {
	case errors.Is(err, errDamagedAttempt):
		n.refusals.Do(func() { n.Logger.Error("the attempt in progress is lost", "error", err) })
		return rec, nil, nil
	case err != nil || open == nil:
		return rec, nil, err
	case open.over(rec, n.Now()):
		return rec, nil, nil
	}
	return rec, open, nil
}

func (o *openAttempt) over(rec *seal.Record, now time.Time) bool {
	return o.Ended(now) || o.Generation != rec.Generation().Number
}

var errDamagedAttempt = errors.New("the record of the root generation attempt is damaged")

func readAttempt(r store.Reader) (*openAttempt, error) {
	values, err := r.Get(attemptKey)
	if errors.Is(err, barrier.ErrDamaged) {
		return nil, errDamagedAttempt
	}
	if err != nil || values[0] == nil {
		return nil, err
	}
	open := &openAttempt{}
	if json.Unmarshal(values[0], open) != nil || open.Attempt == nil {
		return nil, errDamagedAttempt
	}
	return open, nil
}

func (o *openAttempt) put(tx store.Tx) error { return putJSON(tx, attemptKey, o) }

// putOTP stores the OTP of a new attempt, or removes that of an earlier one.
func putOTP(tx store.Tx, otp []byte) error {
	if len(otp) == 0 {
		return tx.Delete(otpKey)
	}
	return tx.Put(otpKey, otp)
}

// dropAttempt ends whatever attempt there is.
func dropAttempt(tx store.Tx) error {
	if err := tx.Delete(attemptKey); err != nil {
		return err
	}
	return tx.Delete(otpKey)
}

func readResult(value []byte) (*result, error) {
	res := &result{}
	if err := json.Unmarshal(value, res); err != nil {
		return nil, fmt.Errorf("the record of a completed root generation is damaged: %w", err)
	}
	return res, nil
}

func putJSON(tx store.Tx, key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	defer clear(b)
	return tx.Put(key, b)
}

func sameNonce(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func (o *openAttempt) family() Family {
	if o.Delivery.Mode == delivery.Token {
		return RootGeneration
	}
	return GenerateRoot
}

func (res *result) status(nonce string) *RootStatus {
	return &RootStatus{
		Started: true, Nonce: nonce, Progress: res.Required, Required: res.Required, Complete: true,
		EncodedToken: res.EncodedToken, PGPFingerprint: res.Fingerprint,
	}
}

// endAttemptOf ends the open attempt if it depends on a token that dies by the revocation of e: the token that
// started it, or the one that seed 1 names.
func (c *Call) endAttemptOf(e *token.Entry, orphanChildren bool) error {
	open, err := readAttempt(c.Tx)
	if errors.Is(err, errDamagedAttempt) {
		return dropAttempt(c.Tx)
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
		c.node.Logger.Warn("root generation ended: a token it depends on was revoked", "nonce", nonce)
	})
	return dropAttempt(c.Tx)
}

// diesWith reports whether the token under key, which must be that record if one is given, dies when e is revoked. With its children living on as orphans, only e
// itself does.
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

// readOTP reads the OTP of the attempt, for the one time it is used.
func readOTP(r store.Reader) (secret.Bytes, error) {
	values, err := r.Get(otpKey)
	if err != nil {
		return secret.Bytes{}, err
	}
	return secret.Copy(values[0]), nil
}
