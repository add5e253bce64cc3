package engine

import (
	"net/netip"
	"time"
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
