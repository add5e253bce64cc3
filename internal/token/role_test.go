package token

import (
	"errors"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

func (r *rig) putRole(role Role) *Role {
	r.t.Helper()
	r.update(func(tx store.Tx) error { return r.PutRole(tx, &role) })
	return r.role(role.Name)
}

func (r *rig) role(name string) (role *Role) {
	r.t.Helper()
	r.view(func(rd store.Reader) (err error) {
		role, err = r.Role(rd, name)
		return err
	})
	return role
}

// TestRoles: what is written is read, listed and gone again.
func TestRoles(t *testing.T) {
	r := newRig(t)
	full := Role{
		Name: "app.Role-1", AllowedPolicies: []string{"Dev", "app"}, AllowedPoliciesGlob: []string{"team-*", "*"}, DisallowedPolicies: []string{"ops"},
		DisallowedPoliciesGlob: []string{"*-ADMIN"}, NoDefaultPolicy: true, Orphan: true, Renewable: true, PathSuffix: "suffix",
		Period: time.Hour, ExplicitMaxTTL: day, NumUses: 3, BoundCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Type: Service,
	}
	want := full
	want.AllowedPolicies, want.DisallowedPoliciesGlob, want.AllowedPoliciesGlob = []string{"app", "dev"}, []string{"*-admin"}, []string{"*", "team-*"}
	if got := r.putRole(full); !reflect.DeepEqual(*got, want) {
		t.Errorf("read %+v, want %+v", got, want)
	}
	r.putRole(Role{Name: "another"})
	list := func(after string, limit int) (names []string) {
		r.view(func(rd store.Reader) (err error) {
			names, err = r.Roles(rd, after, limit)
			return err
		})
		return names
	}
	if got := list("", 0); !slices.Equal(got, []string{"another", "app.Role-1"}) {
		t.Errorf("listed %q", got)
	}
	if got := list("another", 1); !slices.Equal(got, []string{"app.Role-1"}) {
		t.Errorf("the second page is %q", got)
	}
	for _, name := range []string{"another", "another", "no/name", ""} {
		r.update(func(tx store.Tx) error { return r.DeleteRole(tx, name) })
	}
	if r.role("another") != nil || r.role("app.Role-1") == nil || r.role("app.role-1") != nil || r.role("a/b") != nil || r.role("") != nil {
		t.Error("the wrong roles are there")
	}
	r.put(rolePrefix+"damaged", "{")
	err := r.try(func(tx store.Tx) error {
		_, err := r.Role(tx, "damaged")
		return err
	})
	if err == nil {
		t.Error("a damaged role is no error")
	}
}

func TestPutRoleRefuses(t *testing.T) {
	r := newRig(t)
	before := r.dump()
	for name, test := range map[string]struct {
		role Role
		want error
	}{
		"no name":         {Role{}, errRoleName},
		"slash":           {Role{Name: "a/b"}, errRoleName},
		"dots":            {Role{Name: ".."}, errRoleName},
		"space":           {Role{Name: "a b"}, errRoleName},
		"NUL":             {Role{Name: "a\x00b"}, errRoleName},
		"long name":       {Role{Name: strings.Repeat("n", maxRoleName+1)}, errRoleName},
		"suffix":          {Role{Name: "a", PathSuffix: "../b"}, errRoleName},
		"negative period": {Role{Name: "a", Period: -1}, errRoleNumber},
		"negative max":    {Role{Name: "a", ExplicitMaxTTL: -1}, errRoleNumber},
		"negative uses":   {Role{Name: "a", NumUses: -1}, errRoleNumber},
		"batch":           {Role{Name: "a", Type: "batch"}, errBatch},
		"default-batch":   {Role{Name: "a", Type: "default-batch"}, errBatch},
		"odd type":        {Role{Name: "a", Type: "servicing"}, errType},
		"odd policy":      {Role{Name: "a", AllowedPolicies: []string{"a b"}}, nil},
		"odd disallowed":  {Role{Name: "a", DisallowedPolicies: []string{"*"}}, nil},
		"star inside":     {Role{Name: "a", AllowedPoliciesGlob: []string{"a*b"}}, errGlob},
		"two stars":       {Role{Name: "a", AllowedPoliciesGlob: []string{"**"}}, errGlob},
		"empty glob":      {Role{Name: "a", AllowedPoliciesGlob: []string{" "}}, errGlob},
		"space in glob":   {Role{Name: "a", DisallowedPoliciesGlob: []string{"a *"}}, errGlob},
		"many globs":      {Role{Name: "a", DisallowedPoliciesGlob: make([]string, 257)}, errGlob},
	} {
		t.Run(name, func(t *testing.T) {
			err := r.try(func(tx store.Tx) error { return r.PutRole(tx, &test.role) })
			wantFault(t, err, test.want, fault.Invalid)
		})
	}
	if !reflect.DeepEqual(before, r.dump()) {
		t.Error("a refusal changed the store")
	}
}

// TestRolePolicies is the rules by which a role chooses policies: who uses it needs none of them.
func TestRolePolicies(t *testing.T) {
	for name, test := range map[string]struct {
		role   Role
		parent string // a policy beside default; "-" without default
		spec   Spec
		want   []string
		err    error
	}{
		"no rules: the parent's":        {Role{}, "dev", Spec{}, []string{"default", "dev"}, nil},
		"no rules: subset":              {Role{}, "dev", Spec{Policies: []string{"ops"}}, nil, errSubset},
		"no rules, no default":          {Role{NoDefaultPolicy: true}, "dev", Spec{}, []string{"dev"}, nil},
		"allowed, none asked":           {Role{AllowedPolicies: []string{"app", "ops"}}, "dev", Spec{}, []string{"app", "default", "ops"}, nil},
		"allowed, one asked":            {Role{AllowedPolicies: []string{"app", "ops"}}, "dev", Spec{Policies: []string{"OPS"}}, []string{"default", "ops"}, nil},
		"allowed, no default by role":   {Role{AllowedPolicies: []string{"app"}, NoDefaultPolicy: true}, "dev", Spec{}, []string{"app"}, nil},
		"allowed, no default asked":     {Role{AllowedPolicies: []string{"app"}}, "dev", Spec{NoDefaultPolicy: true}, []string{"app"}, nil},
		"default asked though stripped": {Role{AllowedPolicies: []string{"app"}, NoDefaultPolicy: true}, "dev", Spec{Policies: []string{"default"}}, nil, errNotAllowed},
		"not allowed":                   {Role{AllowedPolicies: []string{"app"}}, "dev", Spec{Policies: []string{"dev"}}, nil, errNotAllowed},
		"one of two not allowed":        {Role{AllowedPolicies: []string{"app"}}, "dev", Spec{Policies: []string{"app", "dev"}}, nil, errNotAllowed},
		"glob":                          {Role{AllowedPoliciesGlob: []string{"team-*"}}, "dev", Spec{Policies: []string{"team-a"}}, []string{"default", "team-a"}, nil},
		"glob does not fit":             {Role{AllowedPoliciesGlob: []string{"team-*"}}, "dev", Spec{Policies: []string{"a-team-a"}}, nil, errNotAllowed},
		"glob, none asked":              {Role{AllowedPoliciesGlob: []string{"team-*"}}, "dev", Spec{}, []string{"default"}, nil},
		"glob and allowed":              {Role{AllowedPolicies: []string{"app"}, AllowedPoliciesGlob: []string{"*-a"}}, "dev", Spec{Policies: []string{"app", "team-a"}}, []string{"app", "default", "team-a"}, nil},
		"disallowed":                    {Role{DisallowedPolicies: []string{"ops"}}, "dev", Spec{Policies: []string{"ops"}}, nil, errDisallowed},
		"disallowed, another":           {Role{DisallowedPolicies: []string{"ops"}}, "dev", Spec{Policies: []string{"app"}}, []string{"app", "default"}, nil},
		"disallowed, none asked":        {Role{DisallowedPolicies: []string{"ops"}}, "dev", Spec{}, []string{"default", "dev"}, nil},
		"disallowed is the parent's":    {Role{DisallowedPolicies: []string{"dev"}}, "dev", Spec{}, nil, errDisallowed},
		"disallowed wins":               {Role{AllowedPolicies: []string{"app"}, DisallowedPoliciesGlob: []string{"*p*"}}, "dev", Spec{}, nil, errDisallowed},
		"default disallowed":            {Role{AllowedPolicies: []string{"app"}, DisallowedPolicies: []string{"default"}}, "dev", Spec{}, []string{"app"}, nil},
		"default disallowed by glob":    {Role{AllowedPolicies: []string{"app"}, DisallowedPoliciesGlob: []string{"def*"}}, "dev", Spec{}, []string{"app"}, nil},
		"root by a glob":                {Role{AllowedPoliciesGlob: []string{"*"}}, "dev", Spec{Policies: []string{"root"}}, nil, errRoot},
		"root by name":                  {Role{AllowedPolicies: []string{"root"}}, "dev", Spec{}, nil, errRoot},
		"root by disallowed":            {Role{DisallowedPolicies: []string{"ops"}}, "dev", Spec{Policies: []string{"ROOT"}}, nil, errRoot},
		"wrapping":                      {Role{AllowedPoliciesGlob: []string{"*"}}, "dev", Spec{Policies: []string{"response-wrapping"}}, nil, errWrapping},
		"root of root":                  {Role{AllowedPoliciesGlob: []string{"*"}}, "root", Spec{Policies: []string{"root"}, TTL: time.Hour}, []string{"root"}, nil},
		"root parent, own policies":     {Role{AllowedPolicies: []string{"app"}}, "root", Spec{}, []string{"app", "default"}, nil},
		"root parent is bound too":      {Role{AllowedPolicies: []string{"app"}}, "root", Spec{Policies: []string{"ops"}}, nil, errNotAllowed},
		"exact glob":                    {Role{AllowedPoliciesGlob: []string{"app"}}, "dev", Spec{Policies: []string{"app"}}, []string{"app", "default"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			test.role.Name = "a-role"
			test.spec.Role = r.putRole(test.role)
			parent := r.must(r.root, Spec{Policies: []string{test.parent}, TTL: day})
			m, err := r.create(parent.Entry, test.spec)
			if test.err != nil {
				wantFault(t, err, test.err, fault.Invalid)
				return
			}
			if err != nil || !slices.Equal(m.Policies, test.want) || m.Role != "a-role" {
				t.Errorf("policies %q of role %q, want %q (%v)", m.Policies, m.Role, test.want, err)
			}
		})
	}
}

// TestRoleBinds: of two limits the smaller one holds.
func TestRoleBinds(t *testing.T) {
	inside, elsewhere := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	for name, test := range map[string]struct {
		role  Role
		spec  Spec
		check func(*Entry) bool
	}{
		"nothing":          {Role{Renewable: true}, Spec{}, func(e *Entry) bool { return e.Renewable && !e.Limited && !e.Orphan && e.TTL == DefaultTTL }},
		"not renewable":    {Role{}, Spec{}, func(e *Entry) bool { return !e.Renewable }},
		"renewal declined": {Role{Renewable: true}, Spec{NotRenewable: true}, func(e *Entry) bool { return !e.Renewable }},
		"orphan":           {Role{Orphan: true}, Spec{}, func(e *Entry) bool { return e.Orphan }},
		"suffix": {Role{PathSuffix: "ci"}, Spec{Path: "auth/token/create/a-role"}, func(e *Entry) bool {
			return e.Path == "auth/token/create/a-role/ci" && strings.HasPrefix(e.LeaseID(), e.Path+"/h")
		}},
		"period":            {Role{Period: time.Hour}, Spec{TTL: day}, func(e *Entry) bool { return e.Period == time.Hour && e.TTL == time.Hour }},
		"explicit max":      {Role{ExplicitMaxTTL: time.Hour}, Spec{}, func(e *Entry) bool { return e.ExplicitMaxTTL == time.Hour && e.TTL == time.Hour }},
		"less asked":        {Role{ExplicitMaxTTL: day}, Spec{ExplicitMaxTTL: time.Hour}, func(e *Entry) bool { return e.ExplicitMaxTTL == time.Hour }},
		"more asked":        {Role{ExplicitMaxTTL: time.Hour}, Spec{ExplicitMaxTTL: day}, func(e *Entry) bool { return e.ExplicitMaxTTL == time.Hour }},
		"uses":              {Role{NumUses: 2}, Spec{}, func(e *Entry) bool { return e.Limited && e.NumUses == 2 }},
		"fewer uses asked":  {Role{NumUses: 2}, Spec{NumUses: 1}, func(e *Entry) bool { return e.NumUses == 1 }},
		"more uses asked":   {Role{NumUses: 2}, Spec{NumUses: 3}, func(e *Entry) bool { return e.NumUses == 2 }},
		"networks":          {Role{BoundCIDRs: elsewhere}, Spec{}, func(e *Entry) bool { return slices.Equal(e.BoundCIDRs, elsewhere) }},
		"parent's networks": {Role{}, Spec{}, func(e *Entry) bool { return slices.Equal(e.BoundCIDRs, inside) }},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			test.role.Name = "a-role"
			test.spec.Role = r.putRole(test.role)
			within := r.putRole(Role{Name: "within", BoundCIDRs: inside, AllowedPolicies: []string{"dev"}})
			parent := r.must(r.root, Spec{Role: within})
			m := r.must(parent.Entry, test.spec)
			if !test.check(m.Entry) {
				t.Errorf("odd entry %+v", m.Entry)
			}
			if e := r.auth(r.Tokens, m.id); !reflect.DeepEqual(e, m.Entry) {
				t.Errorf("returned\n%+v, stored\n%+v", m.Entry, e)
			}
		})
	}
}

// TestRenewWithRole: a role may change its period for the tokens that are there; when it is gone, they end.
func TestRenewWithRole(t *testing.T) {
	r := newRig(t)
	role := r.putRole(Role{Name: "a-role", Period: day, Renewable: true})
	m := r.must(r.root, Spec{Policies: []string{"default"}, Role: role})
	for _, test := range []struct {
		period, want time.Duration
	}{{day, day}, {time.Hour, time.Hour}, {2 * day, 2 * day}, {0, day}} {
		r.putRole(Role{Name: "a-role", Period: test.period})
		if _, err := r.renew(m.Entry, 0); err != nil || m.TTL != test.want {
			t.Errorf("period %v: renewed for %v, %v", test.period, m.TTL, err)
		}
	}
	r.update(func(tx store.Tx) error { return r.DeleteRole(tx, "a-role") })
	if _, err := r.renew(m.Entry, 0); !errors.Is(err, errRoleGone) {
		t.Errorf("renewed without its role: %v", err)
	}
	r.wantLife(m, true, "until its end")
}

// TestGlobs compares all short globs and names with the pattern that they mean.
func TestGlobs(t *testing.T) {
	words := func(letters string) (list []string) {
		list = []string{""}
		for i := 0; i < len(list) && len(list[i]) < 4; i++ {
			for _, c := range letters {
				list = append(list, list[i]+string(c))
			}
		}
		return list
	}
	legal := regexp.MustCompile(`^(\*?[ab]+\*?|\*)$`)
	accepted := 0
	for _, glob := range words("ab*") {
		out, err := normalizeGlobs([]string{glob})
		if (err == nil) != legal.MatchString(glob) {
			t.Errorf("glob %q: %v", glob, err)
		}
		if err != nil {
			continue
		}
		accepted++
		pattern := regexp.MustCompile("^" + strings.ReplaceAll(glob, "*", ".*") + "$")
		for _, name := range words("ab") {
			if got := matchesAny(out, name); got != pattern.MatchString(name) {
				t.Errorf("glob %q, name %q: %v", glob, name, got)
			}
		}
	}
	if accepted < 50 {
		t.Errorf("only %d globs were accepted", accepted)
	}
}

func TestRoleData(t *testing.T) {
	bare := (&Role{Name: "a"}).Data()
	for key, want := range map[string]any{
		"name": "a", "orphan": false, "renewable": false, "path_suffix": "", "allowed_entity_aliases": nil, "allowed_policies": []string{},
		"allowed_policies_glob": []string{}, "disallowed_policies": []string{}, "disallowed_policies_glob": []string{}, "period": int64(0),
		"token_period": int64(0), "explicit_max_ttl": int64(0), "token_explicit_max_ttl": int64(0), "token_no_default_policy": false,
		"token_type": "default-service",
	} {
		if got, ok := bare[key]; !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %v, want %v", key, got, want)
		}
	}
	if len(bare) != 15 {
		t.Errorf("%d fields: %v", len(bare), bare)
	}
	full := (&Role{NumUses: 2, BoundCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Type: Service, Period: time.Hour}).Data()
	if full["token_num_uses"] != 2 || full["token_type"] != Service || full["period"] != int64(3600) || full["token_bound_cidrs"] == nil {
		t.Errorf("read back as %v", full)
	}
}
