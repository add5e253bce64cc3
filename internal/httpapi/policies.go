package httpapi

import (
	"strings"

	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/policy"
)

// policyBody holds the text of the longest policy, also where half of its characters are escaped.
const policyBody = 1 << 20

const (
	warnRules     = "the field 'rules' is the old name of 'policy': use that"
	warnLowerCase = "policy names are lower-case: the policy is stored under its name in lower case"
)

func policyRoutes() []route {
	acl, old := policyFamily{field: "policy"}, policyFamily{field: "rules", old: true}
	const shown = "name version modified keys"
	return append(capabilityRoutes(), ofToken([]route{
		{path: "sys/policies/acl", ops: map[operation]handler{
			opList: acl.list,
		}, summary: "the names of the policies", query: "after, limit int", clear: shown},
		{path: "sys/policies/acl/{name...}", limit: policyBody, ops: map[operation]handler{
			opRead: acl.read, opUpdate: acl.write, opDelete: acl.delete,
		}, summary: "a policy: read, write, delete", fields: "policy", clear: shown},
		{path: "sys/policy", ops: map[operation]handler{
			opRead: old.list, opList: old.list,
		}, summary: "the names of the policies, for old clients", query: "after, limit int", clear: shown + " policies"},
		{path: "sys/policy/{name...}", limit: policyBody, ops: map[operation]handler{
			opRead: old.read, opUpdate: old.write, opDelete: old.delete,
		}, summary: "a policy, for old clients: read, write, delete", fields: "policy, rules", clear: shown},
		{path: "sys/policies/test", limit: createBody, ops: map[operation]handler{
			opUpdate: testPolicies,
		}, summary: "whether something would be allowed, and by which rule of which policies", fields: "token, accessor, policies list, path, operation, " +
			"data map, wrap_ttl duration, sudo bool", clear: "policies path operation wrap_ttl sudo reason rule capabilities"},
	})...)
}

// policyFamily is one of the two path families of policies, which differ in shape.
type policyFamily struct {
	field string // that holds the text in replies
	old   bool
}

// param is what stands in a varying part of the path.
func (x *exchange) param(name string) string { return strings.TrimSuffix(x.params[name], "/") }

// accessNamed is access for the path of something whose name has no case: policies decide about the name that counts, so
// that no spelling of it gets around a rule.
func (x *exchange) accessNamed() node.Access {
	a := x.access()
	given := x.param("name")
	if name, err := policy.NormalizeName(given); err == nil {
		a.Path = strings.TrimSuffix(a.Path, given) + name
	}
	return a
}

func (f policyFamily) list(x *exchange) (*reply, error) {
	var names []string
	rep, err := x.page(x.access(), func(c *node.Call, after string, limit int) (_ []string, err error) {
		names, err = c.Policies(after, limit)
		return names, err
	})
	if err == nil && f.old {
		rep = injected(map[string]any{"keys": names, "policies": names})
	}
	return rep, err
}

func (f policyFamily) read(x *exchange) (*reply, error) {
	var p *node.Policy
	err := x.Node.View(x.r.Context(), x.accessNamed(), func(c *node.Call) (err error) {
		p, err = c.Policy(x.param("name"))
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case p == nil:
		return nil, errNothing
	}
	data := map[string]any{"name": p.Name, f.field: p.Text}
	if f.old {
		return injected(data), nil
	}
	if data["version"] = p.Version; !p.Modified.IsZero() {
		data["modified"] = rfc3339(p.Modified)
	}
	return &reply{data: data}, nil
}

func (f policyFamily) write(x *exchange) (*reply, error) {
	rep := &reply{}
	text := x.fields.Str("policy")
	if f.old && text == "" && x.fields.Has("rules") {
		text = x.fields.Str("rules")
		rep.warnings = append(rep.warnings, warnRules)
	}
	var stored string
	err := x.Node.Update(x.r.Context(), x.accessNamed(), func(c *node.Call) (err error) {
		if x.fields.Err() != nil {
			return x.fields.Err()
		}
		stored, err = c.PutPolicy(x.param("name"), text)
		return err
	})
	if stored != x.param("name") {
		rep.warnings = append(rep.warnings, warnLowerCase)
	}
	return rep, err
}

func (f policyFamily) delete(x *exchange) (*reply, error) {
	return &reply{}, x.Node.Update(x.r.Context(), x.accessNamed(), func(c *node.Call) error { return c.DeletePolicy(x.param("name")) })
}
