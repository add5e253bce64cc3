package engine

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/body"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/policy"
)

// TokenParams is what the tokens of a role or a user shall be, as the token_* fields of a request say it.
type TokenParams struct {
	Policies        []string       `json:"token_policies,omitempty"` // normalised
	NoDefaultPolicy bool           `json:"token_no_default_policy,omitempty"`
	TTL             time.Duration  `json:"token_ttl,omitempty"`     // 0: the mount's
	MaxTTL          time.Duration  `json:"token_max_ttl,omitempty"` // 0: the mount's
	ExplicitMaxTTL  time.Duration  `json:"token_explicit_max_ttl,omitempty"`
	Period          time.Duration  `json:"token_period,omitempty"`
	NumUses         int            `json:"token_num_uses,omitempty"`
	BoundCIDRs      []netip.Prefix `json:"token_bound_cidrs,omitempty"`
	Type            string         `json:"token_type,omitempty"` // "", "default" or "service"
}

// What ReadTokenParams reads, for Route.Fields, and what of it is no secret, for Route.Clear.
const (
	TokenFields = "token_policies list, token_ttl duration, token_max_ttl duration, token_explicit_max_ttl duration, " +
		"token_period duration, token_num_uses int, token_bound_cidrs list, token_no_default_policy bool, token_type, " +
		"token_strictly_bind_ip bool, policies list, ttl duration, max_ttl duration, period duration, num_uses int, bound_cidrs list"
	TokenClear = "token_policies token_ttl token_max_ttl token_explicit_max_ttl token_period token_num_uses token_bound_cidrs " +
		"token_no_default_policy token_type token_strictly_bind_ip policies ttl max_ttl period num_uses bound_cidrs"
)

var (
	errRootPolicy = fault.New(fault.Invalid, "the policies root and response-wrapping can't be given to a user or role: name others")
	errCIDR       = fault.New(fault.Invalid, "a bound network must be an IP address or a CIDR block, such as 10.1.0.0/16")
	errTTLs       = fault.New(fault.Invalid, "token_ttl must not be longer than token_max_ttl")
	errNumUses    = fault.New(fault.Invalid, "the number of uses must not be negative: 0 means any number")
	errTokenType  = fault.New(fault.Invalid, "the token type must be service or default: there are no batch tokens")
	errStrictIP   = fault.New(fault.Invalid, "token_strictly_bind_ip isn't supported: name the networks in token_bound_cidrs")
)

// maxCIDRs bounds what every login and every use of a token has to look through.
const maxCIDRs = 256

// ReadTokenParams changes what is given in a request, under its name or the one that older clients use, and leaves the
// rest. What is wrong is found in f.Err.
func ReadTokenParams(f *body.Fields, p *TokenParams) {
	either(f, "token_policies", "policies", func(name string) { p.Policies = ReadPolicies(f, name) })
	either(f, "token_ttl", "ttl", func(name string) { p.TTL = f.Duration(name) })
	either(f, "token_max_ttl", "max_ttl", func(name string) { p.MaxTTL = f.Duration(name) })
	either(f, "token_explicit_max_ttl", "explicit_max_ttl", func(name string) { p.ExplicitMaxTTL = f.Duration(name) })
	either(f, "token_period", "period", func(name string) { p.Period = f.Duration(name) })
	either(f, "token_num_uses", "num_uses", func(name string) { p.NumUses = ReadUses(f, name) })
	either(f, "token_bound_cidrs", "bound_cidrs", func(name string) { p.BoundCIDRs = ReadCIDRs(f, name) })
	p.NoDefaultPolicy = f.Flag("token_no_default_policy", p.NoDefaultPolicy)
	if f.Flag("token_strictly_bind_ip", false) {
		f.Fail(errStrictIP)
	}
	if f.Has("token_type") {
		switch p.Type = f.Str("token_type"); p.Type {
		case "", "default", "service":
		case "default-service":
			p.Type = "default"
		default:
			f.Fail(errTokenType)
		}
	}
	if err := p.Check(); err != nil {
		f.Fail(err)
	}
}

// Check is what must hold of p as a whole, for who changes it without ReadTokenParams.
func (p *TokenParams) Check() error {
	if p.MaxTTL > 0 && p.TTL > p.MaxTTL {
		return errTTLs
	}
	return nil
}

func either(f *body.Fields, name, older string, read func(name string)) {
	switch {
	case f.Has(name):
		read(name)
	case f.Has(older):
		read(older)
	}
}

// ReadPolicies reads the names of policies that a user or role may have.
func ReadPolicies(f *body.Fields, name string) []string {
	names, err := policy.Normalize(f.Strs(name))
	if err == nil && (slices.Contains(names, policy.Root) || slices.Contains(names, policy.Wrapping)) {
		err = errRootPolicy
	}
	if err != nil {
		f.Fail(err)
		return nil
	}
	return names
}

// ReadUses reads a number of uses, 0 for any.
func ReadUses(f *body.Fields, name string) int {
	n := f.Int(name)
	if n < 0 {
		f.Fail(errNumUses)
	}
	return n
}

// ReadCIDRs reads networks, for AllowedFrom.
func ReadCIDRs(f *body.Fields, name string) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range f.Strs(name) {
		p, ok := parseCIDR(text)
		if !ok || len(list) == maxCIDRs {
			f.Fail(errCIDR)
			return nil
		}
		list = append(list, p)
	}
	return list
}

// parseCIDR reads a network or an address; what is IPv4 in IPv6 clothes becomes what the address of a client is compared as.
func parseCIDR(text string) (netip.Prefix, bool) {
	text = strings.TrimSpace(text)
	if !strings.Contains(text, "/") {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return netip.Prefix{}, false
		}
		return netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()), true
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, false
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, false
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), true
}

// AllowedFrom reports whether a client is in one of some networks; where there are none, everybody is. The zero Addr, of
// a client that came through a Unix socket, is in no network.
func AllowedFrom(networks []netip.Prefix, client netip.Addr) bool {
	client = client.Unmap().WithZone("")
	return len(networks) == 0 || slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(client) })
}

// CIDRTexts is networks as replies show them: a list, even if empty.
func CIDRTexts(networks []netip.Prefix) []string {
	texts := make([]string, len(networks))
	for i, p := range networks {
		texts[i] = p.String()
	}
	return texts
}

// Seconds is a duration as replies show it.
func Seconds(d time.Duration) int64 { return int64(d / time.Second) }

// Data is p as it is read back.
func (p *TokenParams) Data() map[string]any {
	kind := p.Type
	if kind == "" {
		kind = "default"
	}
	return map[string]any{
		"token_policies":          append([]string{}, p.Policies...),
		"token_no_default_policy": p.NoDefaultPolicy,
		"token_ttl":               Seconds(p.TTL),
		"token_max_ttl":           Seconds(p.MaxTTL),
		"token_explicit_max_ttl":  Seconds(p.ExplicitMaxTTL),
		"token_period":            Seconds(p.Period),
		"token_num_uses":          p.NumUses,
		"token_bound_cidrs":       CIDRTexts(p.BoundCIDRs),
		"token_strictly_bind_ip":  false,
		"token_type":              kind,
	}
}
