package node

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/delivery"
	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/transcript"
)

// Keys behind the barrier. What may be long stands in records of its own, so that an approval writes little.
const (
	attemptPrefix   = "ceremony/attempt/"   // + kind → openCeremony
	otpPrefix       = "ceremony/otp/"       // + kind/nonce → the OTP of that attempt: apart, so that nobody reads it before it is used
	recipientPrefix = "ceremony/recipient/" // + kind/nonce/slot → delivery.Delivery of one new share
	outcomePrefix   = "ceremony/outcome/"   // + nonce → outcome
	keysPrefix      = "ceremony/keys/"      // + nonce/slot → one encrypted share, and
	keysTo          = "/to"                 // after that key → the public key of its recipient
	signedPrefix    = "ceremony/signed/"    // + digest of a start by signature → when it may be forgotten
)

// openCeremony is the record of an attempt in progress.
type openCeremony struct {
	*ceremony.Attempt `json:"attempt"`
	Delivery          delivery.Delivery `json:"delivery,omitzero"`   // of a root token, without the OTP
	OwnerKey          string            `json:"owner_key,omitempty"` // under which the token that owns it is stored
	Labels            []string          `json:"labels,omitempty"`    // the new ones of the holders
	Rekey             *RekeyPlan        `json:"rekey,omitempty"`
	Verification      *Verification     `json:"verification,omitempty"`
	RootTokenTTL      time.Duration     `json:"root_token_ttl,omitempty"`
	Repeated          []int             `json:"repeated,omitempty"` // slots whose repeated approval is in the transcript
}

// outcome is what is kept of a ceremony that ended, so that a lost reply can be had again.
type outcome struct {
	openCeremony
	State        State     `json:"state"`
	Slot         int       `json:"slot,omitempty"` // of the holder whose approval completed it
	Required     int       `json:"required"`
	EncodedToken string    `json:"encoded_token,omitempty"`
	KeyCount     int       `json:"key_count,omitempty"`   // encrypted shares, under keysPrefix
	SealedKeys   []byte    `json:"sealed_keys,omitempty"` // shares in clear, sealed under the share that completed it
	Expires      time.Time `json:"expires,omitzero"`      // zero: when it is acknowledged
}

// slot is the place of one kind of ceremony as of one snapshot.
type slot struct {
	kind ceremony.Kind
	rec  *seal.Record
	open *openCeremony // nil: none is in progress
	dead *openCeremony // over, but nobody has written so yet
}

// load reads the checked generation record and what is in the slot of a kind. An attempt past its deadline is none,
// whether or not it has been swept, and neither is one whose record is damaged: it can't be approved any more, and
// must not be in the way of the next.
func (n *Node) load(act *active, r store.Reader, kind ceremony.Kind) (*slot, error) {
	rec, err := act.Record(r)
	if err != nil {
		return nil, err
	}
	return n.loadFor(r, rec, kind)
}

// loadFor is load for who has the generation record of r already, and looks at several slots.
func (n *Node) loadFor(r store.Reader, rec *seal.Record, kind ceremony.Kind) (*slot, error) {
	s := &slot{kind: kind, rec: rec}
	open, err := readOpen(r, kind)
	switch {
	case errors.Is(err, errDamagedAttempt):
		n.refusals.Do(func() { n.Logger.Error("the attempt in progress is lost", "kind", kind, "error", err) })
	case err != nil:
		return nil, err
	case open != nil && n.over(open, rec):
		s.dead = open
	default:
		s.open = open
	}
	return s, nil
}

// over reports whether an attempt has ended without anybody having said so: by time, or because another generation
// came into force.
func (n *Node) over(o *openCeremony, rec *seal.Record) bool {
	if v := o.Verification; v != nil {
		pending := rec.Pending()
		return pending == nil || pending.Number != v.Generation || !n.Now().Before(v.Deadline()) ||
			n.Now().Before(v.Began.Add(-v.Wait))
	}
	return o.Ended(n.Now()) || o.Generation != rec.Generation().Number
}

var errDamagedAttempt = errors.New("the record of the attempt is damaged")

func readOpen(r store.Reader, kind ceremony.Kind) (*openCeremony, error) {
	values, err := r.Get(attemptPrefix + string(kind))
	if errors.Is(err, barrier.ErrDamaged) {
		return nil, errDamagedAttempt
	}
	if err != nil || values[0] == nil {
		return nil, err
	}
	open := &openCeremony{}
	if json.Unmarshal(values[0], open) != nil || open.Attempt == nil || open.Kind != kind {
		return nil, errDamagedAttempt
	}
	return open, nil
}

func (o *openCeremony) put(tx store.Tx) error { return putJSON(tx, attemptPrefix+string(o.Kind), o) }

func (o *openCeremony) family() Family {
	if o.Delivery.Mode == delivery.Token {
		return RootGeneration
	}
	return GenerateRoot
}

// threshold is how many approvals the next attempt of the kind would need.
func (s *slot) threshold() int {
	if s.kind == ceremony.Drill {
		return s.rec.Generation().Shares
	}
	return s.rec.Generation().Threshold
}

// view shows the slot without the recipients' keys.
func (s *slot) view() *Ceremony {
	c := &Ceremony{Kind: s.kind, State: Idle, Required: s.threshold(), Labels: labelsOf(s.rec.Generation())}
	if s.kind == ceremony.RootToken {
		c.OTPLength = delivery.OTPLength
	}
	o := s.open
	if o == nil {
		return c
	}
	c.Attempt, c.State, c.Required = o.Attempt, Open, o.Threshold
	c.Family, c.Recipient, c.RecipientKey, c.PGPFingerprint = o.family(), o.Delivery.Mode, o.Delivery.Key(), o.Delivery.Fingerprint
	c.Rekey, c.Verification = o.Rekey, o.Verification
	if o.Verification != nil {
		c.State = Verifying
	}
	return c
}

// whole is view with the recipients' keys.
func (s *slot) whole(r store.Reader) (*Ceremony, error) {
	c := s.view()
	if c.Rekey != nil && c.Rekey.Mode != "" {
		list, err := readRecipients(r, c.Attempt)
		if err != nil {
			return nil, err
		}
		for _, d := range list {
			c.RecipientKeys = append(c.RecipientKeys, d.Key())
		}
	}
	var err error
	c.Checkpoint, err = checkpoint(r)
	return c, err
}

// under is the beginning of the keys of what belongs to an attempt and stands apart from it. The nonce is in it so that
// what another attempt left can't take its place.
func under(prefix string, a *ceremony.Attempt) string { return prefix + string(a.Kind) + "/" + a.Nonce }

func readRecipients(r store.Reader, a *ceremony.Attempt) (list []delivery.Delivery, err error) {
	for e, err := range r.Scan(under(recipientPrefix, a)+"/", "") {
		if err != nil {
			return nil, err
		}
		var d delivery.Delivery
		if json.Unmarshal(e.Value, &d) != nil {
			return nil, errDamagedAttempt
		}
		list = append(list, d)
	}
	return list, nil
}

// ended shows what is kept of a ceremony.
func (n *Node) ended(r store.Reader, rec *seal.Record, nonce string) (*Ceremony, error) {
	res, err := n.readOutcome(r, nonce)
	if err != nil {
		return nil, err
	}
	if res == nil {
		return nil, ErrNoCeremony
	}
	c := res.view(rec)
	c.EncodedToken = ""
	c.Checkpoint, err = checkpoint(r)
	return c, err
}

func (res *outcome) view(rec *seal.Record) *Ceremony {
	s := &slot{kind: res.Kind, rec: rec, open: &res.openCeremony}
	c := s.view()
	c.State, c.Required, c.EncodedToken, c.ResultExpires = res.State, res.Required, res.EncodedToken, res.Expires
	c.Encrypted = res.KeyCount > 0
	c.OTPLength = 0
	return c
}

// readOutcome finds what is kept of a ceremony; nil if nothing is, or not any more.
func (n *Node) readOutcome(r store.Reader, nonce string) (*outcome, error) {
	if !isNonce(nonce) {
		return nil, nil
	}
	values, err := r.Get(outcomePrefix + nonce)
	if err != nil || values[0] == nil {
		return nil, err
	}
	res, err := parseOutcome(values[0])
	if err != nil || res.expired(n.Now()) {
		return nil, err
	}
	return res, nil
}

func parseOutcome(value []byte) (*outcome, error) {
	res := &outcome{}
	if err := json.Unmarshal(value, res); err != nil || res.Attempt == nil {
		return nil, errors.New("the record of an ended ceremony is damaged")
	}
	return res, nil
}

func (res *outcome) expired(now time.Time) bool {
	return !res.Expires.IsZero() && !now.Before(res.Expires)
}

func (res *outcome) put(tx store.Tx) error { return putJSON(tx, outcomePrefix+res.Nonce, res) }

// drop removes the records of an attempt, without reading them: one that is damaged goes too.
func (o *openCeremony) drop(tx store.Tx) error {
	keys := []string{attemptPrefix + string(o.Kind), under(otpPrefix, o.Attempt)}
	if o.Rekey != nil && o.Rekey.Mode != "" {
		for i := range o.Rekey.Shares {
			keys = append(keys, under(recipientPrefix, o.Attempt)+"/"+numbered(i+1))
		}
	}
	for _, key := range keys {
		if err := tx.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

// dropDamaged removes an attempt of which nothing can be made, and says so.
func (n *Node) dropDamaged(act *active, tx store.Tx, kind ceremony.Kind) error {
	if err := tx.Delete(attemptPrefix + string(kind)); err != nil {
		return err
	}
	for _, prefix := range []string{recipientPrefix, otpPrefix} {
		if err := deleteAll(tx, prefix+string(kind)+"/"); err != nil && !errors.Is(err, barrier.ErrDamaged) {
			return err
		}
	}
	return n.record(act, tx, transcript.Entry{
		Event: transcript.Alarm, Kind: kind, Detail: "the record of the attempt in progress was damaged, and is removed",
	})
}

func deleteAll(tx store.Tx, prefix string) error {
	var keys []string
	for e, err := range tx.Scan(prefix, "") {
		if err != nil {
			return err
		}
		keys = append(keys, strings.Clone(e.Key))
	}
	for _, key := range keys {
		if err := tx.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

// bury ends an attempt without effect: its records go, a generation that it prepared is destroyed, and the transcript
// says how it ended. What it came to is shown for a while.
func (n *Node) bury(act *active, tx store.Tx, o *openCeremony, state State, e transcript.Entry) error {
	if err := o.drop(tx); err != nil {
		return err
	}
	if o.Verification != nil {
		if err := n.abort(act, tx, o); err != nil {
			return err
		}
	}
	res := &outcome{openCeremony: *o, State: state, Required: o.Threshold, Expires: n.Now().Add(n.ResultTTL)}
	if err := res.put(tx); err != nil {
		return err
	}
	e.Kind, e.Nonce, e.Generation = o.Kind, o.Nonce, o.Generation
	return n.record(act, tx, e)
}

// abort destroys the generation that o prepared, if it is still there, with the encrypted shares of it.
func (n *Node) abort(act *active, tx store.Tx, o *openCeremony) error {
	rec, err := act.Record(tx)
	if err != nil {
		return err
	}
	if p := rec.Pending(); p == nil || p.Number != o.Verification.Generation {
		return nil
	}
	if rec, err = act.Abort(tx); err != nil {
		return err
	}
	if err := forgetProven(tx, rec); err != nil {
		return err
	}
	if err := forgetBackup(tx, o); err != nil {
		return err
	}
	return deleteAll(tx, keysPrefix+o.Nonce+"/")
}

// buryDead says of an attempt that is over that it is.
func (n *Node) buryDead(act *active, tx store.Tx, s *slot) error {
	if s.dead == nil {
		return nil
	}
	e := transcript.Entry{Event: transcript.Expire}
	if s.dead.Generation != s.rec.Generation().Number {
		e = transcript.Entry{Event: transcript.End, Detail: "another generation came into force"}
	}
	return n.bury(act, tx, s.dead, Expired, e)
}

// record appends to the transcript, in the transaction of what it records.
func (n *Node) record(act *active, tx store.Tx, entries ...transcript.Entry) error {
	now := n.Now().UTC().Truncate(time.Millisecond)
	for i := range entries {
		entries[i].Time = now
	}
	return n.appendSigned(act, tx, entries...)
}

// pseudonym names a client in records that anyone may read: the same client has the same one in this cluster, and
// nobody without the root key can tell who it is.
func (a *active) pseudonym(client string) string {
	if client == "" {
		return ""
	}
	return hex.EncodeToString(a.digestMAC("quorate/v1/client", []byte(client))[:8])
}

// digestMAC keeps what could be guessed, such as a caller's OTP, out of what is public.
func (a *active) digestMAC(label string, b []byte) []byte {
	key := a.Barrier.DeriveKey("quorate/v1/digest-mac")
	defer key.Wipe()
	m := hmac.New(sha256.New, key.Reveal())
	m.Write([]byte(label))
	m.Write([]byte{0})
	m.Write(b)
	return m.Sum(nil)
}

func putJSON(tx store.Tx, key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	defer clear(b)
	return tx.Put(key, b)
}

// getJSON leaves v as it is where there is no record.
func getJSON(r store.Reader, key string, v any) error {
	values, err := r.Get(key)
	if err != nil || values[0] == nil {
		return err
	}
	if json.Unmarshal(values[0], v) != nil {
		return barrier.ErrDamaged
	}
	return nil
}

func sameNonce(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// isNonce reports whether s may be part of a key.
func isNonce(s string) bool {
	return len(s) == 36 && !strings.ContainsFunc(s, func(c rune) bool {
		return c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'f')
	})
}

// numbered is the last part of the key of what belongs to one slot.
func numbered(slot int) string { return fmt.Sprintf("%03d", slot) }

// sharedClient reports whether somebody else's approval came from the same place.
func sharedClient(list []ceremony.Approval, slot int, client string) bool {
	return client != "" && slices.ContainsFunc(list, func(a ceremony.Approval) bool { return a.Slot != slot && a.Client == client })
}
