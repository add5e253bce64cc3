package token

import (
	"cmp"
	"slices"
	"time"

	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
)

var (
	errLoginRoot = fault.New(fault.Invalid, "a login can't give the policy root: take it from the user or role")
	errWrapTTL   = fault.New(fault.Invalid, "a wrapping token needs a ttl over 0")
)

// LoginSpec is the token of a login: what an auth method recognised, and where.
type LoginSpec struct {
	Path               string // with the mount's, as the record keeps it: "auth/userpass/login/alice"
	Mount              string // UUID
	Login              engine.Login
	DefaultTTL, MaxTTL time.Duration          // of the mount; 0: the server's
	Known              func(name string) bool // as in Spec
}

// Login makes the token of a login. It has no parent, and never the policy root. Results and errors are as those of Create.
func (t *Tokens) Login(tx store.Tx, spec LoginSpec) (id secret.Bytes, e *Entry, warnings []string, err error) {
	s, _, err := t.get(tx)
	if err != nil {
		return id, nil, nil, err
	}
	login := spec.Login
	p := login.Token
	if err := checkMeta(login.Metadata); err != nil {
		return id, nil, nil, err
	}
	e = t.fresh("")
	if e.Policies, err = loginPolicies(&p); err != nil {
		return id, nil, nil, err
	}
	e.Path, e.DisplayName, e.Meta, e.BoundCIDRs = spec.Path, login.DisplayName, login.Metadata, p.BoundCIDRs
	e.Mount, e.Login = spec.Mount, &engine.Login{Path: login.Path, DisplayName: login.DisplayName, Metadata: login.Metadata}
	e.NumUses, e.Limited = p.NumUses, p.NumUses > 0
	e.Renewable, e.ExplicitMaxTTL = true, p.ExplicitMaxTTL
	e.setTerms(&p, spec.MaxTTL)
	warnings = t.cutExplicitMax(e)
	more, err := t.grant(e, cmp.Or(p.TTL, spec.DefaultTTL, t.defaultTTL), e.Created)
	if err != nil {
		return id, nil, nil, err
	}
	e.CreationTTL = e.TTL
	id = NewID()
	if err := s.issue(tx, e, id); err != nil {
		id.Wipe()
		return secret.Bytes{}, nil, nil, err
	}
	return id, e, slices.Concat(warnings, more, warnUnknown(e.Policies, spec.Known)), nil
}

// loginPolicies are the policies of a login's token.
func loginPolicies(p *engine.TokenParams) ([]string, error) {
	names, err := policy.Normalize(p.Policies)
	switch {
	case err != nil:
		return nil, err
	case slices.Contains(names, policy.Root):
		return nil, errLoginRoot
	case slices.Contains(names, policy.Wrapping):
		return nil, errWrapping
	case p.NoDefaultPolicy:
		return names, nil
	}
	return withDefault(names), nil
}

// Wrap makes the token for a wrapped reply to a request of this path: for one use within exactly ttl, whatever the longest
// one is otherwise.
func (t *Tokens) Wrap(tx store.Tx, path string, ttl time.Duration) (secret.Bytes, *Entry, error) {
	if ttl <= 0 {
		return secret.Bytes{}, nil, errWrapTTL
	}
	s, _, err := t.get(tx)
	if err != nil {
		return secret.Bytes{}, nil, err
	}
	e := t.fresh("")
	e.Path, e.Policies, e.Limited, e.NumUses = path, []string{policy.Wrapping}, true, 1
	e.TTL, e.CreationTTL, e.ExplicitMaxTTL, e.Expires = ttl, ttl, ttl, e.Created.Add(ttl)
	id := NewID()
	if err := s.issue(tx, e, id); err != nil {
		id.Wipe()
		return secret.Bytes{}, nil, err
	}
	return id, e, nil
}
