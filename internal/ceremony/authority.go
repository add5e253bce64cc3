package ceremony

import (
	"slices"
	"time"

	"github.com/quorate/quorate/internal/fault"
)

// Authority is what an attempt was started with.
type Authority string

const (
	ByLocal  Authority = "local"  // a local connection
	ByAnyone Authority = "anyone" // a listener that is open to all
	ByToken  Authority = "token"
	ByHolder Authority = "holder"
)

// Initiator is who started an attempt.
type Initiator struct {
	By Authority `json:"by"`
	// Token is the record ID of the token that owns the attempt.
	Token string `json:"token,omitempty"`
	// Slot is that of the holder who proved a share at the start; with ByToken too, when both were given.
	Slot int `json:"slot,omitempty"`
	// Connection says that nothing but the connection gave the authority to start, whoever owns the attempt.
	Connection bool `json:"connection,omitempty"`
}

// Caller is who asks, after admission. Each fact stands for itself: a caller may be several things at once.
type Caller struct {
	Local  bool // over a local connection
	Anyone bool // over a listener that is open to all
	// Token is the record ID of a live token, whether or not its policy allows the operation; TokenAllowed says
	// whether it does.
	Token        string
	TokenAllowed bool
	Slot         int // above 0: a holder proved the share of this slot
}

var (
	// ErrMayNotStart answers a start without any authority.
	ErrMayNotStart = fault.NeedsLocal("starting needs authority: use a token whose policy allows it, " +
		"give a key share in the field 'key' or a signature made with one, or use a local connection")
	errMayNotCancelToken = fault.New(fault.Denied, "this attempt was started with a token: cancel it with that token, "+
		"with one whose policy allows it, or with a key share in the field 'key' or a signature made with one")
	errMayNotCancelHolder = fault.New(fault.Denied, "this attempt was started by a key holder: cancel it with a token whose policy allows it, "+
		"or with a key share in the field 'key' or a signature made with one")
	errMayNotCancelLocal = fault.NeedsLocal("cancelling needs authority: use a token whose policy allows it, " +
		"give a key share in the field 'key' or a signature made with one, or use a local connection")
)

// allowed reports whether the caller's token has policy on its side.
func (c Caller) allowed() bool { return c.TokenAllowed && c.Token != "" }

// MayStart is nil for who has any authority; otherwise a fault that says how to get it.
func (c Caller) MayStart() error {
	if c.Local || c.Anyone || c.allowed() || c.Slot > 0 {
		return nil
	}
	return ErrMayNotStart
}

// Initiator is who will have started an attempt that c may start: a live token owns it, whatever gave the
// authority; else a holder; else the connection.
func (c Caller) Initiator() Initiator {
	switch {
	case c.Token != "":
		return Initiator{By: ByToken, Token: c.Token, Slot: max(c.Slot, 0), Connection: !c.TokenAllowed && c.Slot <= 0}
	case c.Slot > 0:
		return Initiator{By: ByHolder, Slot: c.Slot}
	case c.Local:
		return Initiator{By: ByLocal, Connection: true}
	}
	return Initiator{By: ByAnyone, Connection: true}
}

// Cancel ends the attempt, or records the objection of a holder who may not end it alone and answers ErrObjection;
// enough objections that the others can't reach the threshold end it. An objection is never taken back and never
// counted twice. Everybody else gets a fault that says how to get authority, and changes nothing.
func (a *Attempt) Cancel(c Caller, now time.Time) error {
	switch {
	case a.Ended(now):
		return ErrEnded
	case c.allowed(), a.owns(c), a.connectionEnds(c):
		a.Outcome = Cancelled
		return nil
	case a.isSlot(c.Slot):
		return a.cancelByHolder(c.Slot)
	}
	switch a.Initiator.By {
	case ByToken:
		return errMayNotCancelToken
	case ByHolder:
		return errMayNotCancelHolder
	}
	return errMayNotCancelLocal
}

// owns reports whether c's token started the attempt; policy doesn't matter then.
func (a *Attempt) owns(c Caller) bool { return c.Token != "" && c.Token == a.Initiator.Token }

// connectionEnds reports whether c's connection is enough: a local one for what a connection started, and what
// anyone started for anyone, until a holder has approved it.
func (a *Attempt) connectionEnds(c Caller) bool {
	switch a.Initiator.By {
	case ByLocal:
		return c.Local
	case ByAnyone:
		return c.Local || c.Anyone && len(a.Approvals) == 0
	}
	return false
}

// cancelByHolder ends what the holder started, or what no other holder has approved; the rest they object to.
func (a *Attempt) cancelByHolder(slot int) error {
	if slot != a.Initiator.Slot && a.approvedByOtherThan(slot) {
		if !slices.Contains(a.Objections, slot) {
			a.Objections = append(a.Objections, slot)
		}
		if len(a.Objections) < a.Holders-a.Threshold+1 {
			return ErrObjection
		}
	}
	a.Outcome = Cancelled
	return nil
}

// GivesWay reports whether a start by c may take the place of this attempt. One that has ended always gives way.
// An open one does so to stronger authority only, and only while nobody but its own starter has approved: to a
// holder at once if a connection was all it was started with, otherwise to another holder after Limits.Unapproved; to a token that
// policy allows at once, unless a token started it, which the other must cancel.
func (a *Attempt) GivesWay(c Caller, now time.Time) bool {
	switch {
	case a.Ended(now):
		return true
	case a.approvedByOtherThan(a.Initiator.Slot):
		return false
	case a.Initiator.Connection:
		return c.allowed() || a.isSlot(c.Slot)
	case a.Initiator.By == ByHolder && c.allowed():
		return true
	}
	waited := !now.Before(a.Started.Add(a.Limits.Unapproved))
	return waited && a.isSlot(c.Slot) && c.Slot != a.Initiator.Slot
}
