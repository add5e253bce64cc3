package node

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/delivery"
	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/token"
)

const (
	attemptKey   = "ceremony/root-token/attempt"
	resultPrefix = "ceremony/root-token/result/" // + nonce
)

// openAttempt is the record of the attempt in progress. // attemptKey → openAttempt
type openAttempt struct {
	*ceremony.Attempt `json:"attempt"`
	Delivery          delivery.Delivery `json:"delivery"`
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
// its deadline is none, whether or not it has been swept.
func (n *Node) loadAttempt(act *active, r store.Reader) (*seal.Record, *openAttempt, error) {
	rec, err := act.Record(r)
	if err != nil {
		return nil, nil, err
	}
	open, err := readAttempt(r)
	if err != nil || open == nil {
		return rec, nil, err
	}
	if open.Ended(n.Now()) || open.Generation != rec.Generation().Number {
		return rec, nil, nil
	}
	return rec, open, nil
}

func readAttempt(r store.Reader) (*openAttempt, error) {
	values, err := r.Get(attemptKey)
	if err != nil || values[0] == nil {
		return nil, err
	}
	open := &openAttempt{}
	if err := json.Unmarshal(values[0], open); err != nil {
		return nil, fmt.Errorf("the record of the root generation attempt is damaged: %w", err)
	}
	return open, nil
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

// endAttemptOf ends the open attempt if it depends on the token that e's revocation killed.
func (c *Call) endAttemptOf(e *token.Entry, orphanChildren bool) error {
	open, err := readAttempt(c.Tx)
	if err != nil || open == nil {
		return err
	}
	lineage := open.Initiator.Lineage
	if open.Delivery.Mode == delivery.Token {
		named, err := c.Tokens.ByKey(c.Tx, open.Delivery.TokenKey)
		if err != nil {
			return err
		}
		if named != nil {
			lineage = append(slices.Clone(lineage), named.Lineage()...)
		}
	}
	// With its children living on as orphans, only e itself dies.
	dies := slices.Contains(lineage, e.RecordID)
	if orphanChildren {
		dies = open.Initiator.Token == e.RecordID || open.Delivery.TokenKey == e.Key
	}
	if !dies {
		return nil
	}
	return c.endAttempt("the token it depends on was revoked")
}

// endAttempt ends the open attempt, if there is one.
func (c *Call) endAttempt(why string) error {
	open, err := readAttempt(c.Tx)
	if err != nil || open == nil {
		return err
	}
	c.after = append(c.after, func() { c.node.Logger.Warn("root generation ended", "nonce", open.Nonce, "reason", why) })
	return c.Tx.Delete(attemptKey)
}
