package token

import (
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

// The sentences of renewal that clients look for stand at the beginning.
var (
	errNoLease      = fault.New(fault.Invalid, "invalid lease ID: this token never expires, so there is nothing to renew")
	errNotRenewable = fault.New(fault.Invalid, "lease is not renewable: create a new token")
	errPastMax      = fault.New(fault.Invalid, "the token has reached its longest lifetime: create a new one")
	errIncrement    = fault.New(fault.Invalid, "increment can't be negative: leave it out for the token's own ttl")
)

const (
	warnTTL      = "the ttl asked for is over the longest that is allowed: it was cut to that"
	warnPeriod   = "the period asked for is over the longest ttl that is allowed: renewals grant only that"
	warnExplicit = "the explicit_max_ttl asked for is over the longest that is allowed: it was cut to that"
)

// bornWith sets the lifetime of a new token: none for a root token that asked for none, else by the rules of grant.
func (t *Tokens) bornWith(e *Entry, spec Spec, parent *Entry) (warnings []string, err error) {
	e.Period, e.ExplicitMaxTTL = spec.Period, spec.ExplicitMaxTTL
	if e.Period == 0 && e.ExplicitMaxTTL > t.maxTTL {
		e.ExplicitMaxTTL = t.maxTTL
		warnings = append(warnings, warnExplicit)
	}
	want := spec.TTL
	if e.isRoot() && want == 0 && e.Period == 0 {
		if e.ExplicitMaxTTL == 0 {
			if !parent.NeverExpires {
				return nil, errRootForever
			}
			e.NeverExpires = true
			return warnings, nil
		}
		want = e.ExplicitMaxTTL
	}
	if want == 0 {
		want = t.defaultTTL
	}
	e.Renewable = !spec.NotRenewable
	more, err := t.grant(e, want, e.Created)
	e.CreationTTL = e.TTL
	return append(warnings, more...), err
}

// Renew lengthens (or shortens) the life of e to increment from now, or if that is 0 to the TTL it was made with,
// within its limits. It changes e, and returns what the caller should be warned of. A token that
// this very request used up is renewed for the answer only.
func (t *Tokens) Renew(tx store.Tx, e *Entry, increment time.Duration) (warnings []string, err error) {
	switch {
	case e.NeverExpires:
		return nil, errNoLease
	case !e.Renewable:
		return nil, errNotRenewable
	case increment < 0:
		return nil, errIncrement
	case increment == 0:
		increment = e.CreationTTL
	}
	if e.Limited && e.NumUses == 0 {
		return t.grant(e, increment, t.now())
	}
	_, now, err := t.again(tx, e)
	if err != nil {
		return nil, err
	}
	if now == nil {
		return nil, ErrDead
	}
	if warnings, err = t.grant(now, increment, t.now()); err != nil {
		return nil, err
	}
	now.LastRenewal = t.now().UTC().Round(0)
	*e = *now
	return warnings, write(tx, now)
}

// grant lets e live for want from now on, at most until its longest lifetime, counted from its creation, ends. That
// is the server's maximum or the explicit one, whichever is less; a periodic token lives for its period instead of
// want, and knows only the explicit maximum.
func (t *Tokens) grant(e *Entry, want time.Duration, now time.Time) (warnings []string, err error) {
	longest := t.maxTTL
	if e.ExplicitMaxTTL > 0 && (e.Period > 0 || e.ExplicitMaxTTL < longest) {
		longest = e.ExplicitMaxTTL
	}
	left := e.Created.Add(longest).Sub(now)
	if e.Period > 0 {
		if want = e.Period; want > t.maxTTL {
			want = t.maxTTL
			warnings = append(warnings, warnPeriod)
		}
		if e.ExplicitMaxTTL == 0 {
			left = want
		}
	}
	if left <= 0 {
		return nil, errPastMax
	}
	if want > left {
		want = left
		warnings = append(warnings, warnTTL)
	}
	e.TTL = want
	e.Expires = now.UTC().Round(0).Add(want)
	return warnings, nil
}
