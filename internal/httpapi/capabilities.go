package httpapi

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/policy"
)

var (
	errNoPaths      = fault.New(fault.Invalid, "missing paths: give them in the field 'paths'")
	errTestPath     = fault.New(fault.Invalid, "missing path: give it in the field 'path', without /v1/ and without empty, . or .. parts")
	errTestOp       = fault.New(fault.Invalid, "operation must be create, read, update, patch, delete or list")
	errTestSubjects = fault.New(fault.Invalid, "token, accessor and policies exclude each other: give one of them, or none to ask about the token of the request")
)

// selfPath is the path that lets a token ask about itself.
const selfPath = "sys/capabilities-self"

func capabilityRoutes() []route {
	const shown = "path paths capabilities root"
	return ofToken([]route{
		{path: "sys/capabilities", ops: map[operation]handler{
			opUpdate: capabilities(byID(errTokenGone)),
		}, summary: "what a token may do on some paths", fields: "token, paths list, path list", clear: shown},
		{path: selfPath, ops: map[operation]handler{
			opUpdate: capabilities(self),
		}, summary: "what the token of the request may do on some paths", fields: "paths list, path list", clear: shown},
		{path: "sys/capabilities-accessor", ops: map[operation]handler{
			opUpdate: capabilities(byAccessor),
		}, summary: "what the token of an accessor may do on some paths", fields: "accessor, paths list, path list", clear: shown},
		{path: "sys/internal/ui/resultant-acl", ops: map[operation]handler{
			opRead: resultantACL,
		}, summary: "all that the token of the request may do", clear: shown},
	})
}

func capabilities(find tokenFinder) handler {
	return func(x *exchange) (*reply, error) {
		data := map[string]any{}
		err := x.Node.View(x.r.Context(), x.access(), func(c *node.Call) error {
			e, _, err := find(x, c)
			if err != nil {
				return err
			}
			paths := slices.Concat(x.fields.Strs("paths"), x.fields.Strs("path"))
			paths = slices.DeleteFunc(paths, func(p string) bool { return p == "" })
			switch {
			case x.fields.Err() != nil:
				return x.fields.Err()
			case len(paths) == 0:
				return errNoPaths
			}
			acl, err := c.ACL(e)
			if err != nil {
				return err
			}
			clear(data)
			for _, p := range paths {
				data[p] = acl.Capabilities(p)
			}
			if len(paths) == 1 {
				data["capabilities"] = data[paths[0]]
			}
			return nil
		})
		return injected(data), err
	}
}

func resultantACL(x *exchange) (*reply, error) {
	data := map[string]any{}
	err := x.Node.View(x.r.Context(), x.access(), func(c *node.Call) error {
		acl, err := c.ACL(c.Token)
		if err != nil {
			return err
		}
		exact, glob := acl.Resultant()
		data["root"], data["exact_paths"], data["glob_paths"] = acl.IsRoot(), granted(exact), granted(glob)
		return nil
	})
	return &reply{data: data}, err
}

// granted puts capabilities into the objects in which clients expect them.
func granted(paths map[string][]string) map[string]any {
	shown := make(map[string]any, len(paths))
	for path, names := range paths {
		shown[path] = map[string]any{"capabilities": names}
	}
	return shown
}

// testVerdict is what would be decided, and why.
type testVerdict struct {
	Allowed      bool     `json:"allowed"`
	Reason       string   `json:"reason"`
	Rule         string   `json:"rule"` // "" if no rule is for the path
	Policies     []string `json:"policies"`
	Capabilities []string `json:"capabilities"`
	SudoNeeded   bool     `json:"sudo_needed"`
}

// testPolicies explains a decision without taking it. About itself a token may ask wherever it may ask for its
// capabilities; about others, or about policies alone, only by a policy that names this path.
func testPolicies(x *exchange) (*reply, error) {
	a := x.access()
	f := &x.fields
	if !f.Has("token") && !f.Has("accessor") && !f.Has("policies") {
		a.Path = selfPath
	}
	rep := &reply{}
	err := x.Node.View(x.r.Context(), a, func(c *node.Call) error {
		ask, sudo, err := x.testedAsk()
		if err != nil {
			return err
		}
		acl, err := x.testedACL(c)
		if err != nil {
			return err
		}
		if rep.warnings = nil; !x.knownPolicies(c) {
			rep.warnings = []string{"some of the policies don't exist: they grant nothing until they do"}
		}
		e := acl.Explain(ask)
		rep.data = testVerdict{
			Allowed: e.Allowed, Reason: e.Reason.String(), Rule: e.Rule, Policies: append([]string{}, e.Policies...),
			Capabilities: e.Capabilities, SudoNeeded: sudo,
		}
		return nil
	})
	return rep, err
}

// testedACL is what the token, or the policies, that are asked about grant.
func (x *exchange) testedACL(c *node.Call) (*policy.ACL, error) {
	f := &x.fields
	find, given := tokenFinder(self), 0
	for name, finder := range map[string]tokenFinder{"token": byID(errTokenGone), "accessor": byAccessor, "policies": self} {
		if f.Has(name) {
			find, given = finder, given+1
		}
	}
	switch {
	case given > 1:
		return nil, errTestSubjects
	case f.Has("policies"):
		names, err := policy.Normalize(f.Strs("policies"))
		if err = cmp.Or(f.Err(), err); err != nil {
			return nil, err
		}
		return c.ACLOf(names)
	}
	e, _, err := find(x, c)
	if err != nil {
		return nil, err
	}
	return c.ACL(e)
}

// knownPolicies reports whether all policies that are asked about exist.
func (x *exchange) knownPolicies(c *node.Call) bool {
	names, err := policy.Normalize(x.fields.Strs("policies"))
	return err != nil || c.AllKnown(names)
}

// testedAsk reads what would be asked, and whether the path needs sudo in addition.
func (x *exchange) testedAsk() (ask *policy.Ask, sudo bool, err error) {
	f := &x.fields
	wants := map[string]policy.Capability{
		"create": policy.Create, "read": policy.Read, "update": policy.Update, "patch": policy.Patch, "delete": policy.Delete, "list": policy.List,
	}
	path := strings.TrimPrefix(f.Str("path"), "/")
	want := wants[f.Str("operation")]
	if want != policy.List {
		path = strings.TrimSuffix(path, "/")
	}
	ask = &policy.Ask{Path: path, Want: want, WrapTTL: f.Duration("wrap_ttl"), Data: x.testedData()}
	_, dirty := cleaned("/" + path)
	switch sudo = x.needsSudo(path); {
	case f.Err() != nil:
		return nil, false, f.Err()
	case path == "" || dirty:
		return nil, false, errTestPath
	case want == 0:
		return nil, false, errTestOp
	}
	ask.Sudo = sudo || f.Flag("sudo", false)
	return ask, sudo, f.Err()
}

// testedData is the body that would be sent; nil if there would be none.
func (x *exchange) testedData() func() map[string]any {
	text := x.fields.Find("data")
	if text == nil {
		return nil
	}
	if text[0] != '{' {
		x.fields.Wrong("data", "an object")
		return nil
	}
	return func() (data map[string]any) {
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.UseNumber()
		if dec.Decode(&data) != nil {
			return nil
		}
		return data
	}
}

// needsSudo reports whether a path needs sudo in addition to the capability of the operation.
func (x *exchange) needsSudo(path string) bool {
	if t := x.match(&url.URL{Path: "/v1/" + path}); t.route != x.unknown {
		return t.route.sudo
	}
	p := x.Node.Locate(path)
	return p != nil && p.Route != nil && p.Route.Sudo
}
