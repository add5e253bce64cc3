package token

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/store"
)

// RoleType is the type of a role that says nothing of it.
const RoleType = "default-service"

// Role is what tokens made by a path with its name are allowed and bound to. Who may use the path needs no right to what
// the role allows.
type Role struct {
	Name string `json:"name"`

	AllowedPolicies        []string `json:"allowed_policies,omitempty"`
	AllowedPoliciesGlob    []string `json:"allowed_policies_glob,omitempty"` // "*" at the beginning, the end or both
	DisallowedPolicies     []string `json:"disallowed_policies,omitempty"`
	DisallowedPoliciesGlob []string `json:"disallowed_policies_glob,omitempty"`
	NoDefaultPolicy        bool     `json:"token_no_default_policy,omitempty"`

	Orphan         bool           `json:"orphan,omitempty"`
	Renewable      bool           `json:"renewable,omitempty"`
	PathSuffix     string         `json:"path_suffix,omitempty"`
	Period         time.Duration  `json:"token_period,omitempty"`
	ExplicitMaxTTL time.Duration  `json:"token_explicit_max_ttl,omitempty"`
	NumUses        int            `json:"token_num_uses,omitempty"`
	BoundCIDRs     []netip.Prefix `json:"token_bound_cidrs,omitempty"`
	Type           string         `json:"token_type,omitempty"` // Service, or "" for RoleType
}

const maxRoleName = 128 // bytes, of a path suffix as well

var (
	errRoleName = fault.Newf(fault.Invalid,
		"the name of a role, and a path_suffix, has up to %d letters, digits or - _ . : @ + and is no dots alone: choose another",
		maxRoleName)
	errRoleNumber = fault.New(fault.Invalid,
		"token_period, token_explicit_max_ttl and token_num_uses can't be negative: leave them out for no limit")
	errGlob       = fault.New(fault.Invalid, "a policy glob is a policy name with a * at its beginning or end: correct the globs")
	errNotAllowed = fault.New(fault.Invalid, "the policies must be among those that the role allows: leave the others out")
	errDisallowed = fault.New(fault.Invalid, "one of the policies is disallowed by the role: leave it out")
)

// PutRole writes a role, its policies normalised. Errors that are the caller's are faults.
func (t *Tokens) PutRole(tx store.Tx, role *Role) error {
	clean := *role
	switch {
	case !nameable(role.Name) || role.PathSuffix != "" && !nameable(role.PathSuffix):
		return errRoleName
	case min(role.Period, role.ExplicitMaxTTL) < 0 || role.NumUses < 0:
		return errRoleNumber
	}
	switch role.Type {
	case "", "default", RoleType:
		clean.Type = ""
	case Service:
	case "batch", "default-batch":
		return errBatch
	default:
		return errType
	}
	for _, names := range []*[]string{&clean.AllowedPolicies, &clean.DisallowedPolicies} {
		var err error
		if *names, err = policy.Normalize(*names); err != nil {
			return err
		}
	}
	for _, globs := range []*[]string{&clean.AllowedPoliciesGlob, &clean.DisallowedPoliciesGlob} {
		var err error
		if *globs, err = normalizeGlobs(*globs); err != nil {
			return err
		}
	}
	value, err := json.Marshal(clean)
	if err != nil {
		return fmt.Errorf("token role: %w", err)
	}
	return tx.Put(rolePrefix+role.Name, value)
}

// nameable reports whether s can be one part of a path.
func nameable(s string) bool {
	return s != "" && len(s) <= maxRoleName && strings.Trim(s, ".") != "" && !strings.ContainsFunc(s, func(c rune) bool {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
			return false
		}
		return !strings.ContainsRune("-_.:@+", c)
	})
}

func normalizeGlobs(globs []string) ([]string, error) {
	if len(globs) > policy.MaxNames {
		return nil, errGlob
	}
	var out []string
	for _, glob := range globs {
		glob = strings.ToLower(strings.TrimSpace(glob))
		if core := strings.TrimSuffix(strings.TrimPrefix(glob, "*"), "*"); core != "" {
			if names, err := policy.Normalize([]string{core}); err != nil || names[0] != core {
				return nil, errGlob
			}
		} else if glob != "*" {
			return nil, errGlob
		}
		out = append(out, glob)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// Role returns the role of this name, nil when there is none.
func (t *Tokens) Role(r store.Reader, name string) (*Role, error) {
	if !nameable(name) {
		return nil, nil
	}
	values, err := r.Get(rolePrefix + name)
	if err != nil || values[0] == nil {
		return nil, err
	}
	role := &Role{}
	if err := json.Unmarshal(values[0], role); err != nil {
		return nil, fmt.Errorf("token role: %w", err)
	}
	return role, nil
}

// DeleteRole removes a role, after which its tokens can't be renewed. That there is none is no error.
func (t *Tokens) DeleteRole(tx store.Tx, name string) error {
	if !nameable(name) {
		return nil
	}
	return tx.Delete(rolePrefix + name)
}

// Roles lists the names of roles, as engine.ListNames does.
func (t *Tokens) Roles(r store.Reader, after string, limit int) ([]string, error) {
	return engine.ListNames(r, rolePrefix, after, limit)
}

// apply binds what is asked for.
func (role *Role) apply(spec *Spec) {
	spec.Orphan = spec.Orphan || role.Orphan
	spec.NoDefaultPolicy = spec.NoDefaultPolicy || role.NoDefaultPolicy
	spec.NotRenewable = spec.NotRenewable || !role.Renewable
	spec.Period = least(spec.Period, role.Period)
	spec.ExplicitMaxTTL = least(spec.ExplicitMaxTTL, role.ExplicitMaxTTL)
	spec.NumUses = least(spec.NumUses, role.NumUses)
	if role.PathSuffix != "" {
		spec.Path += "/" + role.PathSuffix
	}
}

// choosesPolicies reports whether the role says which policies its tokens may have. Else the rules are those without role.
func (role *Role) choosesPolicies() bool {
	return len(role.AllowedPolicies)+len(role.AllowedPoliciesGlob)+len(role.DisallowedPolicies)+len(role.DisallowedPoliciesGlob) > 0
}

// policies are those of a token that asked for these, none meaning all that are allowed by name or else the parent's.
func (role *Role) policies(names, parent []string, noDefault bool) ([]string, error) {
	add := func(names []string) []string {
		if noDefault || role.disallows(policy.Default) {
			return names
		}
		return withDefault(names)
	}
	restricted := len(role.AllowedPolicies)+len(role.AllowedPoliciesGlob) > 0
	switch {
	case len(names) > 0:
		names = add(names)
	case restricted:
		names = add(slices.Clone(role.AllowedPolicies))
	default:
		if names = slices.Clone(parent); noDefault {
			names = withoutDefault(names)
		}
		names = add(names)
	}
	allowed := add(slices.Clone(role.AllowedPolicies))
	for _, name := range names {
		if restricted && !slices.Contains(allowed, name) && !matchesAny(role.AllowedPoliciesGlob, name) {
			return nil, errNotAllowed
		}
		if role.disallows(name) {
			return nil, errDisallowed
		}
	}
	return names, nil
}

func (role *Role) disallows(name string) bool {
	return slices.Contains(role.DisallowedPolicies, name) || matchesAny(role.DisallowedPoliciesGlob, name)
}

func matchesAny(globs []string, name string) bool {
	return slices.ContainsFunc(globs, func(glob string) bool {
		core, open := strings.CutPrefix(glob, "*")
		core, goesOn := strings.CutSuffix(core, "*")
		switch {
		case glob == "*":
			return true
		case open && goesOn:
			return strings.Contains(name, core)
		case open:
			return strings.HasSuffix(name, core)
		case goesOn:
			return strings.HasPrefix(name, core)
		}
		return name == glob
	})
}

// Data is the role as it is read back.
func (role *Role) Data() map[string]any {
	list := func(names []string) []string { return append([]string{}, names...) }
	period, longest := engine.Seconds(role.Period), engine.Seconds(role.ExplicitMaxTTL)
	data := map[string]any{
		"name": role.Name, "orphan": role.Orphan, "renewable": role.Renewable, "path_suffix": role.PathSuffix,
		"allowed_entity_aliases": nil,
		"allowed_policies":       list(role.AllowedPolicies), "allowed_policies_glob": list(role.AllowedPoliciesGlob),
		"disallowed_policies": list(role.DisallowedPolicies), "disallowed_policies_glob": list(role.DisallowedPoliciesGlob),
		"period": period, "token_period": period, "explicit_max_ttl": longest, "token_explicit_max_ttl": longest,
		"token_no_default_policy": role.NoDefaultPolicy, "token_type": cmp.Or(role.Type, RoleType),
	}
	if role.NumUses > 0 {
		data["token_num_uses"] = role.NumUses
	}
	if len(role.BoundCIDRs) > 0 {
		data["token_bound_cidrs"] = engine.CIDRTexts(role.BoundCIDRs)
	}
	return data
}
