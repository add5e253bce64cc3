// Package ceremony is the attempt as a pure state machine: who started it, who approved it, who objects, and when
// it ends.
//
// It promises that an attempt completes once and only with the valid approvals of as many distinct holders as the
// threshold says, that progress never falls, and that nobody without authority changes anything. It does no I/O,
// has no clock and never holds a share: time, verifiers and callers' authority come as arguments, and what it is
// told about a caller it believes. Comparing the nonce and storing the attempt are the caller's part.
package ceremony

import (
	"errors"
	"slices"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/holder"
)

// What Approve and Cancel answer. None of them changes the attempt, except that ErrObjection has been recorded.
var (
	ErrEnded     = fault.New(fault.Invalid, "no root generation in progress")
	ErrDuplicate = fault.New(fault.Invalid, "given key has already been provided during this generation operation")
	ErrNotValid  = fault.New(fault.Invalid, "the approval is not valid for this attempt, and progress is unchanged: use a share of the present generation")
	ErrObjection = fault.New(fault.Invalid, "another holder has approved this attempt, so it goes on: the objection is recorded, and it ends when enough holders object")
)

// errDamaged means that the stored attempt contradicts itself; nothing a client sends can cause it.
var errDamaged = errors.New("the stored attempt doesn't match its digest or its approvals: cancel it and start another")

// Outcome is how an attempt ended; empty while it hasn't.
type Outcome string

const (
	Complete  Outcome = "complete"
	Cancelled Outcome = "cancelled"
)

// Attempt is one run of a ceremony. Its fields are exported for storing and showing it; only the methods change it.
type Attempt struct {
	Nonce      string      `json:"nonce"`
	Kind       Kind        `json:"kind"`
	ClusterID  string      `json:"cluster_id"`
	Generation uint64      `json:"generation"`
	Threshold  int         `json:"threshold"`
	Holders    int         `json:"holders"`
	Parameters []Parameter `json:"parameters,omitempty"` // sorted by name, names unique
	Recipient  string      `json:"recipient"`
	Reason     string      `json:"reason,omitempty"`
	Initiator  Initiator   `json:"initiator"`
	Limits     Limits      `json:"limits"`
	Started    time.Time   `json:"started"` // UTC, whole milliseconds
	Expires    time.Time   `json:"expires"` // Started and Limits.Total
	Digest     Digest      `json:"digest"`  // of all the above
	Approvals  []Approval  `json:"approvals"`
	Objections []int       `json:"objections,omitempty"` // slots, in the order in which they objected
	Outcome    Outcome     `json:"outcome,omitempty"`
}

// Approval is one holder's verified consent.
type Approval struct {
	Slot      int         `json:"slot"`
	Mode      holder.Mode `json:"mode"`
	Signature []byte      `json:"signature"`
	At        time.Time   `json:"at"` // when it was counted; Approve sets it
	// Client is a pseudonym of where it came from, or empty. It is neither signed nor in any digest.
	Client string `json:"client,omitempty"`
}

// New starts an attempt. Starting is never an approval. It panics on two parameters of one name, which would let
// people see one and the server do the other: whoever makes parameters makes each once.
func New(p Params) *Attempt {
	limits := p.limits()
	started := p.Now.UTC().Truncate(time.Millisecond)
	a := &Attempt{
		Nonce:      p.Nonce,
		Kind:       p.Kind,
		ClusterID:  p.ClusterID,
		Generation: p.Generation,
		Threshold:  p.Threshold,
		Holders:    p.Holders,
		Parameters: sorted(p.Parameters),
		Recipient:  p.Recipient,
		Reason:     p.Reason,
		Initiator:  p.Initiator,
		Limits:     limits,
		Started:    started,
		Expires:    started.Add(limits.Total),
	}
	if p.Kind == Drill {
		a.Threshold = p.Holders
	}
	for i := 1; i < len(a.Parameters); i++ {
		if a.Parameters[i].Name == a.Parameters[i-1].Name {
			panic("ceremony: two parameters of an attempt have one name")
		}
	}
	a.Digest = a.ComputeDigest()
	return a
}

// Ended reports whether the attempt is over at now: complete, cancelled, or past one of its deadlines. At the
// instant of a deadline it is over.
func (a *Attempt) Ended(now time.Time) bool {
	if a.Outcome != "" || !now.Before(a.Deadline()) {
		return true
	}
	// A start that far in the future was made by a clock that has been put right since.
	return now.Before(a.Started.Add(-a.Limits.Total))
}

// Deadline is when the attempt is over if nothing happens until then.
func (a *Attempt) Deadline() time.Time {
	t := a.latest().Add(a.Limits.Idle)
	if len(a.Approvals) == 0 {
		t = a.Started.Add(a.Limits.Unapproved)
	}
	if t.Before(a.Expires) {
		return t
	}
	return a.Expires
}

// latest is the time of the latest approval; a clock that stepped back before it must not make the attempt look idle.
func (a *Attempt) latest() time.Time {
	t := a.Started
	for _, ap := range a.Approvals {
		if ap.At.After(t) {
			t = ap.At
		}
	}
	return t
}

// Progress is how many holders have approved.
func (a *Attempt) Progress() int { return len(a.Approvals) }

// Approve verifies one approval and counts it. verifier finds a slot's verifier in the attempt's generation. The
// attempt is complete when the threshold is reached and every approval has been verified once more.
//
// The errors are ErrEnded, ErrNotValid and ErrDuplicate, in this order: only who can make a valid approval learns
// that one has been counted. An error that isn't a fault means that the stored attempt is damaged. After any error
// the attempt is as it was.
func (a *Attempt) Approve(ap Approval, verifier func(slot int) (holder.Verifier, bool), now time.Time) (complete bool, err error) {
	switch {
	case a.Ended(now):
		return false, ErrEnded
	case a.Digest != a.ComputeDigest():
		return false, errDamaged
	case !a.valid(ap, verifier):
		return false, ErrNotValid
	case a.approvedBy(ap.Slot):
		return false, ErrDuplicate
	}
	ap.Signature = slices.Clone(ap.Signature)
	ap.At = now.UTC().Truncate(time.Millisecond)
	approvals := append(slices.Clone(a.Approvals), ap)
	complete = a.Threshold > 0 && len(approvals) >= a.Threshold
	if complete && !a.allValid(approvals, verifier) {
		return false, errDamaged
	}
	a.Approvals = approvals
	if complete {
		a.Outcome = Complete
	}
	return complete, nil
}

// valid verifies one approval.
func (a *Attempt) valid(ap Approval, verifier func(slot int) (holder.Verifier, bool)) bool {
	if !a.isSlot(ap.Slot) || (ap.Mode != holder.ModeShare && ap.Mode != holder.ModeSignature) {
		return false
	}
	v, ok := verifier(ap.Slot)
	return ok && holder.Verify(v, a.Statement(ap.Slot, ap.Mode), ap.Signature)
}

// allValid verifies approvals as if nothing had been verified before, and that they are of distinct holders.
func (a *Attempt) allValid(approvals []Approval, verifier func(slot int) (holder.Verifier, bool)) bool {
	seen := make(map[int]bool, len(approvals)) // :: slot → counted
	for _, ap := range approvals {
		if seen[ap.Slot] || !a.valid(ap, verifier) {
			return false
		}
		seen[ap.Slot] = true
	}
	return true
}

func (a *Attempt) isSlot(slot int) bool { return slot >= 1 && slot <= a.Holders }

func (a *Attempt) approvedBy(slot int) bool {
	return slices.ContainsFunc(a.Approvals, func(ap Approval) bool { return ap.Slot == slot })
}

// approvedByOtherThan reports whether anybody but the holder of slot has approved; slot 0 is nobody.
func (a *Attempt) approvedByOtherThan(slot int) bool {
	return slices.ContainsFunc(a.Approvals, func(ap Approval) bool { return ap.Slot != slot })
}
