package httpapi

import (
	"net/http"

	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/token"
)

var errNoRole = fault.New(fault.Invalid, "unknown role: auth/token/roles lists them")

const warnTidy = "Tidy operation successfully started. Any information from the operation will be printed to the server's logs."

func roleRoutes() []route {
	list := []route{
		{path: "auth/token/roles", ops: map[operation]handler{opList: listRoles}, summary: "the roles that tokens can be created by", query: "after, limit int"},
		{path: "auth/token/roles/{role}", ops: map[operation]handler{
			opRead: readRole, opUpdate: putRole, opDelete: deleteRole,
		}, summary: "a role that tokens can be created by", fields: "allowed_policies list, allowed_policies_glob list, disallowed_policies list, " +
			"disallowed_policies_glob list, orphan bool, renewable bool, path_suffix, token_period duration, period duration, " +
			"token_explicit_max_ttl duration, explicit_max_ttl duration, token_num_uses int, token_bound_cidrs list, bound_cidrs list, " +
			"token_no_default_policy bool, token_type", clear: "allowed_policies disallowed_policies orphan renewable token_period token_explicit_max_ttl token_num_uses"},
		{path: "auth/token/tidy", ops: map[operation]handler{opUpdate: tidyTokens}, summary: "remove what has expired, and what leads to no token"},
	}
	return ofToken(list)
}

// tokenRole is the role that the path of a request names, nil if it names none.
func (x *exchange) tokenRole(c *node.Call) (*token.Role, error) {
	name := x.params["role"]
	if name == "" {
		return nil, nil
	}
	role, err := c.Tokens.Role(c.Tx, name)
	if err == nil && role == nil {
		err = errNoRole
	}
	return role, err
}

func listRoles(x *exchange) (*reply, error) {
	return x.page(x.access(), func(c *node.Call, after string, limit int) ([]string, error) {
		return c.Tokens.Roles(c.Tx, after, limit)
	})
}

func readRole(x *exchange) (*reply, error) {
	var role *token.Role
	err := x.Node.View(x.r.Context(), x.access(), func(c *node.Call) (err error) {
		role, err = c.Tokens.Role(c.Tx, x.params["role"])
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case role == nil:
		return nil, errNothing
	}
	return &reply{data: role.Data()}, nil
}

// putRole changes what is given, and leaves the rest of a role as it was.
func putRole(x *exchange) (*reply, error) {
	return &reply{}, x.Node.Update(x.r.Context(), x.access(), func(c *node.Call) error {
		role, err := c.Tokens.Role(c.Tx, x.params["role"])
		if err != nil {
			return err
		}
		if role == nil {
			role = &token.Role{Name: x.params["role"], Renewable: true}
		}
		if err := x.readRole(role); err != nil {
			return err
		}
		return c.Tokens.PutRole(c.Tx, role)
	})
}

func (x *exchange) readRole(role *token.Role) error {
	f := &x.fields
	for name, list := range map[string]*[]string{
		"allowed_policies": &role.AllowedPolicies, "allowed_policies_glob": &role.AllowedPoliciesGlob,
		"disallowed_policies": &role.DisallowedPolicies, "disallowed_policies_glob": &role.DisallowedPoliciesGlob,
	} {
		if f.Has(name) {
			*list = f.Strs(name)
		}
	}
	role.Orphan, role.Renewable = f.Flag("orphan", role.Orphan), f.Flag("renewable", role.Renewable)
	if f.Has("path_suffix") {
		role.PathSuffix = f.Str("path_suffix")
	}
	p := engine.TokenParams{
		NoDefaultPolicy: role.NoDefaultPolicy, ExplicitMaxTTL: role.ExplicitMaxTTL, Period: role.Period, NumUses: role.NumUses,
		BoundCIDRs: role.BoundCIDRs, Type: role.Type,
	}
	engine.ReadTokenParams(f, &p)
	role.NoDefaultPolicy, role.ExplicitMaxTTL, role.Period, role.NumUses = p.NoDefaultPolicy, p.ExplicitMaxTTL, p.Period, p.NumUses
	role.BoundCIDRs, role.Type = p.BoundCIDRs, p.Type
	return f.Err()
}

func deleteRole(x *exchange) (*reply, error) {
	return &reply{}, x.Node.Update(x.r.Context(), x.access(), func(c *node.Call) error {
		return c.Tokens.DeleteRole(c.Tx, x.params["role"])
	})
}

// tidyTokens is done when it is answered; the status is the one that clients know.
func tidyTokens(x *exchange) (*reply, error) {
	return &reply{status: http.StatusAccepted, warnings: []string{warnTidy}}, x.Node.Tidy(x.r.Context(), x.access())
}
