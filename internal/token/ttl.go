package token

import (
	"cmp"
	"slices"
	"time"

	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

// The sentences of renewal that clients look for stand at the beginning.
var (
	errNoLease      = fault.New(fault.Invalid, "invalid lease ID: this token never expires, so there is nothing to renew")
	errNotRenewable = fault.New(fault.Invalid, "lease is not renewable: create a new token")
	errPastMax      = fault.New(fault.Invalid, "the token has reached its longest lifetime: create a new one")
	errRoleGone     = fault.New(fault.Invalid,
		"the role that the token was made by is gone, so it can't be renewed: create a new token")
	errFewerPolicies = fault.New(fault.Invalid, "the user or role has no longer all policies of this token: log in again")
	errIncrement     = fault.New(fault.Invalid, "increment can't be negative: leave it out for the token's own ttl")
)

const (
	warnTTL      = "the ttl asked for is over the longest that is allowed: it was cut to that"
	warnNear     = "the token is near the end of its longest lifetime: it was renewed for less than its ttl, and can't be for longer"
	warnPeriod   = "the period asked for is over the longest ttl that is allowed: renewals grant only that"
	warnExplicit = "the explicit_max_ttl asked for is over the longest that is allowed: it was cut to that"
)

// bornWith sets the lifetime of a new token: none for a root token that asked for none, else by the rules of grant.
func (t *Tokens) bornWith(e *Entry, spec Spec, parent *Entry) (warnings []string, err error) {
	e.Period, e.ExplicitMaxTTL, e.MaxTTL = spec.Period, spec.ExplicitMaxTTL, spec.MaxTTL
	warnings = t.cutExplicitMax(e)
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
	e.Renewable = !spec.NotRenewable
	more, err := t.grant(e, cmp.Or(want, spec.DefaultTTL, t.defaultTTL), e.Created)
	e.CreationTTL = e.TTL
	if spec.TTL == 0 && spec.Period == 0 { // nobody asked for what was cut
		more = slices.DeleteFunc(more, func(w string) bool { return w == warnTTL })
	}
	return append(warnings, more...), err
}

// longest is the longest lifetime of e, as far as it set none itself.
func (t *Tokens) longest(e *Entry) time.Duration { return cmp.Or(e.MaxTTL, t.maxTTL) }

func (t *Tokens) cutExplicitMax(e *Entry) (warnings []string) {
	if e.Period > 0 || e.ExplicitMaxTTL <= t.longest(e) {
		return nil
	}
	e.ExplicitMaxTTL = t.longest(e)
	return []string{warnExplicit}
}

// Renewal is what a client asks for, and what the mount that the token came from says of it now.
type Renewal struct {
	Increment          time.Duration       // 0: the TTL that the token was made with, or a login would give now
	Params             *engine.TokenParams // what a login would make now; nil: it isn't known
	DefaultTTL, MaxTTL time.Duration       // of the mount; 0: as before
}

// Renew lengthens (or shortens) the life of e to the increment from now, within its limits. It changes e, and returns what
// the caller should be warned of. A token that this very request used up is renewed for the answer only.
func (t *Tokens) Renew(tx store.Tx, e *Entry, by Renewal) (warnings []string, err error) {
	switch {
	case e.NeverExpires:
		return nil, errNoLease
	case !e.Renewable:
		return nil, errNotRenewable
	case by.Increment < 0:
		return nil, errIncrement
	}
	if e.Limited && e.NumUses == 0 {
		return t.lengthen(tx, e, by)
	}
	_, now, err := t.again(tx, e)
	if err != nil {
		return nil, err
	}
	if now == nil {
		return nil, ErrDead
	}
	before := expiryKey(now)
	if warnings, err = t.lengthen(tx, now, by); err != nil {
		return nil, err
	}
	now.LastRenewal = t.now().UTC().Round(0)
	*e = *now
	if err := tx.Delete(before); err != nil {
		return nil, err
	}
	if err := tx.Put(expiryKey(now), []byte(now.Key)); err != nil {
		return nil, err
	}
	return warnings, write(tx, now)
}

// lengthen is grant by what holds now for the role or the login that e came from.
func (t *Tokens) lengthen(r store.Reader, e *Entry, by Renewal) (warnings []string, err error) {
	e.MaxTTL = cmp.Or(by.MaxTTL, e.MaxTTL)
	usual := e.CreationTTL
	if e.Role != "" {
		role, err := t.Role(r, e.Role)
		if err != nil {
			return nil, err
		}
		if role == nil {
			return nil, errRoleGone
		}
		e.Period = role.Period
	}
	if p := by.Params; p != nil {
		names, err := loginPolicies(p)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(e.Policies, func(name string) bool { return !slices.Contains(names, name) }) {
			return nil, errFewerPolicies
		}
		e.setTerms(p, e.MaxTTL)
		usual = cmp.Or(p.TTL, by.DefaultTTL, usual)
	}
	warnings, err = t.grant(e, cmp.Or(by.Increment, usual), t.now())
	if i := slices.Index(warnings, warnTTL); i >= 0 && by.Increment == 0 {
		warnings[i] = warnNear
	}
	return warnings, err
}

// setTerms sets what a user or role may change later, in a mount with this longest TTL, which alone binds a period.
func (e *Entry) setTerms(p *engine.TokenParams, longest time.Duration) {
	if e.Period, e.MaxTTL = p.Period, longest; e.Period == 0 {
		e.MaxTTL = least(longest, p.MaxTTL)
	}
}

// least is the smaller of two limits, of which 0 is none.
func least[T int | time.Duration](a, b T) T {
	if a == 0 || b == 0 {
		return a + b
	}
	return min(a, b)
}

// grant lets e live for want from now on, at most until its longest lifetime, counted from its creation, ends. That
// is the mount's or server's maximum or the explicit one, whichever is less; a periodic token lives for its period instead
// of want, and knows only the explicit maximum.
func (t *Tokens) grant(e *Entry, want time.Duration, now time.Time) (warnings []string, err error) {
	longest := t.longest(e)
	if e.ExplicitMaxTTL > 0 && (e.Period > 0 || e.ExplicitMaxTTL < longest) {
		longest = e.ExplicitMaxTTL
	}
	left := e.Created.Add(longest).Sub(now)
	if e.Period > 0 {
		if want = e.Period; want > t.longest(e) {
			want = t.longest(e)
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
