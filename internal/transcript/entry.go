package transcript

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/holder"
)

// Event is what happened.
type Event string

const (
	Init              Event = "init"               // the cluster was set up: its first holders
	Generation        Event = "generation"         // a generation was made, or its labels changed, by the ceremony Nonce
	UnsealShare       Event = "unseal-share"       // a share was given to a sealed server
	UnsealReset       Event = "unseal-reset"       // the shares given to it were dropped
	Unsealed          Event = "unsealed"           // it opened
	HandedOver        Event = "handed-over"        // its keys were given to another server of the cluster, which Detail names
	Sealed            Event = "sealed"             // it closed
	Start             Event = "start"              // an attempt began
	Approve           Event = "approve"            // a holder approved it
	Duplicate         Event = "duplicate"          // a holder who had approved did so again, which doesn't count
	Refused           Event = "refused"            // a share that was valid once was refused
	Object            Event = "object"             // a holder objects to an attempt that goes on
	Cancel            Event = "cancel"             // an attempt was cancelled
	GaveWay           Event = "gave-way"           // an attempt made room for another
	Expire            Event = "expire"             // an attempt reached a deadline
	End               Event = "end"                // an attempt ended for another reason, which Detail names
	Complete          Event = "complete"           // an attempt had all approvals and took effect
	Prove             Event = "prove"              // a holder proved to have a new share
	VerificationReset Event = "verification-reset" // these proofs were dropped
	Commit            Event = "commit"             // a generation came into force
	Acknowledge       Event = "acknowledge"        // what was kept of a ceremony was destroyed, because its recipients have it
	Retire            Event = "retire"             // a generation went out of use
	RotateRoot        Event = "rotate-root"        // the root key was changed
	RotateKeyring     Event = "rotate-keyring"     // a new term of the keyring began
	RotateConfig      Event = "rotate-config"      // the automatic rotation was set
	Alarm             Event = "alarm"              // something is wrong; Detail says what
)

// Known reports whether this version has a meaning for e.
func (e Event) Known() bool {
	switch e {
	case Init, Generation, UnsealShare, UnsealReset, Unsealed, HandedOver, Sealed, Start, Approve, Duplicate, Refused, Object,
		Cancel, GaveWay, Expire, End, Complete, Prove, VerificationReset, Commit, Acknowledge, Retire, RotateRoot, RotateKeyring, RotateConfig, Alarm:
		return true
	}
	return false
}

// whileSealed reports whether e can be written by a server that has no key to sign with.
func (e Event) whileSealed() bool {
	switch e {
	case UnsealShare, UnsealReset, Refused, Alarm:
		return true
	}
	return false
}

// Entry is one thing that happened. Its JSON is the leaf of the tree, and public: nothing in it may be a secret, or be
// guessable where it stands for one. Everything but Time and Event is there only where it means something.
type Entry struct {
	Time       time.Time     `json:"time"` // UTC, whole milliseconds
	Event      Event         `json:"event"`
	Kind       ceremony.Kind `json:"kind,omitempty"`
	Nonce      string        `json:"nonce,omitempty"` // of the attempt; in Prove of the verification
	Generation uint64        `json:"generation,omitempty"`
	Slot       int           `json:"slot,omitempty"` // of the holder who did it
	Label      string        `json:"label,omitempty"`
	Mode       holder.Mode   `json:"mode,omitempty"`
	// Signature is the holder's: in Approve and Duplicate over Attempt.Statement, in Object and Cancel over Attempt.CancelStatement,
	// in Prove over ceremony.ProveStatement, in UnsealShare, UnsealReset and Refused over SealedStatement.
	Signature []byte `json:"signature,omitempty"`
	Digest    string `json:"digest,omitempty"` // of the attempt, lower-case hex
	// Attempt is all that its digest covers; in Start only.
	Attempt   *ceremony.Attempt `json:"attempt,omitempty"`
	Holders   []Holder          `json:"holders,omitempty"` // in Init and Generation
	Threshold int               `json:"threshold,omitempty"`
	Client    string            `json:"client,omitempty"` // pseudonym of the connection
	// Shared says that the same client gave another share of this attempt, or of this round of unsealing.
	Shared bool   `json:"shared_client,omitempty"`
	Round  string `json:"round,omitempty"` // nonce of the round of unsealing
	// Before is the root of the log that the entry was made for, so that it stands nowhere else: in what has a
	// SealedStatement.
	Before []byte `json:"before,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// Holder is one holder of a generation.
type Holder struct {
	Slot     int             `json:"slot"`
	Label    string          `json:"label,omitempty"`
	Verifier holder.Verifier `json:"verifier"`
}

// UncheckedShare is the detail of a share that a sealed server took although its table of key holders was damaged.
// Whose it was isn't known, so that nobody signed it: the entry has no generation and no slot.
const UncheckedShare = "the table of key holders is damaged: the share was not checked"

// unchecked reports whether e is exactly that entry.
func (e *Entry) unchecked() bool {
	form := Entry{Time: e.Time, Event: UnsealShare, Shared: e.Shared, Round: e.Round, Detail: UncheckedShare}
	want, err := form.encode()
	leaf, errLeaf := e.encode()
	return err == nil && errLeaf == nil && bytes.Equal(leaf, want)
}

// SealedDigest is the SHA-256 of the leaf that e makes, without its signature.
func (e *Entry) SealedDigest() [sha256.Size]byte {
	unsigned := *e
	unsigned.Signature = nil
	leaf, err := unsigned.encode()
	if err != nil { // then it can't be appended either
		return [sha256.Size]byte{}
	}
	return sha256.Sum256(leaf)
}

// SealedStatement is what the holder of e.Slot signs so that a sealed server can record e.
func (e *Entry) SealedStatement(clusterID string) holder.Statement {
	return holder.Statement{
		Action:     holder.ActionUnseal,
		ClusterID:  clusterID,
		Generation: e.Generation,
		Slot:       e.Slot,
		Mode:       holder.ModeShare,
		Digest:     e.SealedDigest(),
	}
}

// encode makes the leaf. Decoding and encoding it gives the same bytes again.
func (e *Entry) encode() ([]byte, error) {
	c := *e
	c.Time = c.Time.UTC().Truncate(time.Millisecond)
	if c.Attempt != nil {
		a := *c.Attempt
		a.Approvals, a.Objections, a.Outcome = nil, nil, ""
		c.Attempt = &a
	}
	leaf, err := json.Marshal(&c)
	if err == nil && bytes.Contains(leaf, []byte(`\ufffd`)) { // text that wasn't UTF-8: written otherwise the second time
		var again Entry
		if err = json.Unmarshal(leaf, &again); err == nil {
			leaf, err = json.Marshal(&again)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("encoding an entry of the transcript: %w", err)
	}
	if len(leaf) > maxLeaf {
		return nil, fmt.Errorf("an entry of %d bytes is over the limit of %d", len(leaf), maxLeaf)
	}
	return leaf, nil
}

// decodeEntry reads a leaf. Canonical says that it is exactly what encode makes, so that there is one way to read it.
func decodeEntry(leaf []byte) (e *Entry, canonical bool, err error) {
	e = new(Entry)
	if err := json.Unmarshal(leaf, e); err != nil {
		return nil, false, err
	}
	again, err := e.encode()
	return e, err == nil && bytes.Equal(again, leaf), nil
}
