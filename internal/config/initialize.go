package config

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"golang.org/x/crypto/bcrypt"

	"github.com/quorate/quorate/internal/mount"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
)

// Initialize is what a new cluster is set up with at its first unseal. It never has a password in clear.
type Initialize struct {
	Policies []Policy
	Mounts   []Mount // secrets engines and auth methods
	Logins   []Login // users and roles
}

// Policy is a policy to be written. Its text has been parsed once.
type Policy struct {
	Name, Text string

	written place
}

// Mount is a secrets engine or an auth method to be mounted. Its path is normalised; UUID, accessor and time are empty.
type Mount struct {
	mount.Entry

	written place
}

// Login is a user or a role of an auth method.
type Login struct {
	Kind     string // User or Role
	Name     string
	Auth     string // path of the auth method: "auth/userpass/"
	Policies []string
	Fields   map[string]any // what else is said to the auth method, in its own words

	PasswordFile, PasswordHash string // of a user: one of them

	written place
}

// maxEntries is how many policies there can be, and mounts, and users and roles, since all are made in one transaction.
const maxEntries = 256

// Bounds of the cost of a password hash, as the auth method userpass has them.
const (
	minCost = bcrypt.DefaultCost
	maxCost = 14
)

// Kinds of Login.
const (
	User = "user"
	Role = "role"
)

// Types of what can be mounted, and the type of auth method that each kind of Login belongs to.
var (
	engineTypes = []string{"kv", "kv-v1", "kv-v2"}
	authTypes   = []string{"approle", "userpass"}
	loginTypes  = map[string]string{User: "userpass", Role: "approle"}
)

// initialize reads an initialize block. Several add up.
func (c *Config) initialize(b *hcl.Block) hcl.Diagnostics {
	if c.Initialize == nil {
		c.Initialize = &Initialize{}
	}
	i := c.Initialize
	var none place
	blocks, diags := fill(b.Body, nil, &none,
		hcl.BlockHeaderSchema{Type: "policy", LabelNames: []string{"name"}},
		hcl.BlockHeaderSchema{Type: "mount", LabelNames: []string{"path"}},
		hcl.BlockHeaderSchema{Type: "auth", LabelNames: []string{"path"}},
		hcl.BlockHeaderSchema{Type: "audit", LabelNames: []string{"type", "path"}},
		hcl.BlockHeaderSchema{Type: User, LabelNames: []string{"name"}},
		hcl.BlockHeaderSchema{Type: Role, LabelNames: []string{"name"}},
	)
	for _, b := range blocks {
		written := place{block: position(b.DefRange)}
		var more hcl.Diagnostics
		switch b.Type {
		case "policy":
			p := Policy{Name: b.Labels[0], written: written}
			_, more = fill(b.Body, p.options(), &p.written)
			i.Policies = append(i.Policies, p)
		case "mount", "auth":
			m := Mount{written: written}
			_, more = fill(b.Body, m.options(), &m.written)
			more = append(more, m.place(b)...)
			i.Mounts = append(i.Mounts, m)
		case "audit":
			more = c.audit(b)
		default:
			l := Login{
				Kind: b.Type, Name: strings.ToLower(strings.TrimSpace(b.Labels[0])), Auth: "auth/" + loginTypes[b.Type] + "/",
				Fields: make(map[string]any), written: written,
			}
			_, more = fill(b.Body, l.options(b.DefRange.Filename), &l.written)
			i.Logins = append(i.Logins, l)
		}
		diags = append(diags, more...)
	}
	return diags
}

func (p *Policy) options() []option {
	return []option{{"policy", func(v value) (err error) {
		p.Text, err = v.lines()
		return err
	}}}
}

func (m *Mount) options() []option {
	return []option{
		{"type", text(&m.Type)},
		{"description", text(&m.Description)},
		{"options", into(&m.Options, value.words)},
		{"default_lease_ttl", duration(&m.Config.DefaultLeaseTTL)},
		{"max_lease_ttl", duration(&m.Config.MaxLeaseTTL)},
	}
}

// place gives a mount its path, and the type that its path is called like.
func (m *Mount) place(b *hcl.Block) hcl.Diagnostics {
	path, err := mount.NormalizePath(b.Labels[0], b.Type == "auth")
	if err != nil {
		return hcl.Diagnostics{problem(b.LabelRanges[0], "%v", err)}
	}
	m.Path = path
	if m.Type == "" && slices.Contains(m.types(), b.Labels[0]) {
		m.Type = b.Labels[0]
	}
	return nil
}

func (m *Mount) types() []string {
	if m.Auth() {
		return authTypes
	}
	return engineTypes
}

// Fields of users and roles, beside those that Login knows, that are passed on to the auth method as they are.
var (
	loginFields = []string{
		"token_bound_cidrs", "token_explicit_max_ttl", "token_max_ttl", "token_no_default_policy", "token_num_uses", "token_period",
		"token_ttl", "token_type",
	}
	roleFields = []string{"role_id", "bind_secret_id", "secret_id_bound_cidrs", "secret_id_num_uses", "secret_id_ttl"}
)

func (l *Login) options(file string) []option {
	policies := func(v value) (err error) {
		if l.Policies != nil {
			return errors.New("says the same as policies: keep one of them")
		}
		l.Policies, err = v.list()
		return err
	}
	list := []option{
		{"auth", func(v value) error { return v.parsed(l.setAuth) }},
		{"policies", policies},
		{"token_policies", policies},
	}
	fields := loginFields
	if l.Kind == Role {
		fields = append(slices.Clone(fields), roleFields...)
	} else {
		list = append(
			list,
			option{"password", refuse("must not stand in a configuration: write password_file or password_hash")},
			option{"password_hash", text(&l.PasswordHash)},
			option{"password_file", func(v value) error {
				path, err := v.text()
				l.PasswordFile = beside(file, path)
				return err
			}},
		)
	}
	for _, name := range fields {
		list = append(list, option{name, func(v value) (err error) {
			l.Fields[name], err = v.plain()
			return err
		}})
	}
	return list
}

func (l *Login) setAuth(path string) (err error) {
	l.Auth, err = mount.NormalizePath(strings.TrimPrefix(path, "auth/"), true)
	return err
}

// check looks at everything that can be judged before there is a cluster.
func (i *Initialize) check() error {
	if i == nil {
		return nil
	}
	if max(len(i.Policies), len(i.Mounts), len(i.Logins)) > maxEntries {
		return fmt.Errorf("there are more than %d policies, mounts, or users and roles to initialize: make the others over the API", maxEntries)
	}
	return errors.Join(i.checkPolicies(), i.checkMounts(), i.checkLogins())
}

func (i *Initialize) checkPolicies() error {
	var errs []error
	seen := map[string]bool{}
	for _, p := range i.Policies {
		name, err := policy.NormalizeName(p.Name)
		if err == nil {
			_, err = policy.Parse(name, p.Text)
		}
		switch {
		case err != nil:
			errs = append(errs, p.written.failf("policy", "policy %q: %w", p.Name, err))
		case p.Text == "":
			errs = append(errs, p.written.failf("", "policy %q has no text: add policy = file(\"%s.hcl\")", p.Name, name))
		case seen[name]:
			errs = append(errs, p.written.failf("", "there is a policy %q already: keep one of them", name))
		}
		seen[name] = true
	}
	return errors.Join(errs...)
}

// checkMounts mounts everything in a table that is thrown away.
func (i *Initialize) checkMounts() error {
	scratch := inmem.New()
	defer scratch.Close()
	return scratch.Update(context.Background(), func(tx store.Tx) error {
		var errs []error
		for _, m := range i.Mounts {
			table, err := mount.Load(tx)
			if err == nil {
				err = mount.Add(tx, table, m.Entry)
			}
			if err != nil {
				errs = append(errs, m.written.failf("", "%s: %w", m.Path, err))
			}
			errs = append(errs, m.check())
		}
		return errors.Join(errs...)
	})
}

func (m *Mount) check() error {
	version, c := m.Options["version"], m.Config
	switch {
	case !slices.Contains(m.types(), m.Type):
		return m.written.failf("type", "the type of %s must be one of %s", m.Path, strings.Join(m.types(), ", "))
	case version != "" && (m.Auth() || version != "1" && version != "2"):
		return m.written.failf("options", "the option version is for kv, and must be 1 or 2")
	case c.DefaultLeaseTTL > c.MaxLeaseTTL && c.MaxLeaseTTL > 0:
		return m.written.failf("default_lease_ttl", "default_lease_ttl must not be longer than max_lease_ttl (%s)", c.MaxLeaseTTL)
	}
	return nil
}

func (i *Initialize) checkLogins() error {
	var errs []error
	seen := map[string]bool{}
	for _, l := range i.Logins {
		switch {
		case l.Name == "" || strings.ContainsFunc(l.Name, func(r rune) bool { return r == '/' || notPlain(r) }):
			errs = append(errs, l.written.failf("", "the name of a %s must be printable, without spaces and slashes", l.Kind))
		case seen[l.path()]:
			errs = append(errs, l.written.failf("", "there is a %s %q already: keep one of them", l.Kind, l.Name))
		case !slices.ContainsFunc(i.Mounts, func(m Mount) bool { return m.Path == l.Auth && m.Type == loginTypes[l.Kind] }):
			errs = append(errs, l.written.failf("auth", "%s %q needs the block auth %q { type = %q }",
				l.Kind, l.Name, strings.TrimSuffix(strings.TrimPrefix(l.Auth, "auth/"), "/"), loginTypes[l.Kind]))
		}
		seen[l.path()] = true
		errs = append(errs, l.checkPolicies(), l.checkPassword())
	}
	return errors.Join(errs...)
}

func (l *Login) checkPolicies() error {
	names, err := policy.Normalize(l.Policies)
	switch {
	case err != nil:
		return l.written.failf("policies", "%w", err)
	case slices.Contains(names, policy.Root) || slices.Contains(names, policy.Wrapping):
		return l.written.failf("policies", "the policies root and response-wrapping can't be given to anybody")
	}
	return nil
}

// checkPassword doesn't miss a password file: once the cluster is set up, it is better removed.
func (l *Login) checkPassword() error {
	if l.Kind != User {
		return nil
	}
	if (l.PasswordFile == "") == (l.PasswordHash == "") {
		return l.written.failf("", "user %q needs either password_file or password_hash", l.Name)
	}
	if l.PasswordHash != "" {
		if cost, err := bcrypt.Cost([]byte(l.PasswordHash)); err != nil || cost < minCost || cost > maxCost {
			return l.written.failf("password_hash", "password_hash must be a bcrypt hash of cost %d to %d, such as htpasswd -nB -C %d makes",
				minCost, maxCost, minCost)
		}
		return nil
	}
	info, err := os.Stat(l.PasswordFile)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return l.written.failf("password_file", "password_file can't be read: %w", err)
	case info.Mode()&0o007 != 0 && runtime.GOOS != "windows":
		return l.written.failf("password_file", "everybody on this machine can reach %s: chmod 600 it, and use another password", l.PasswordFile)
	}
	return nil
}

// warnings are about what may be meant, and is unlikely to be.
func (i *Initialize) warnings() (list []string) {
	if i == nil {
		return nil
	}
	known := map[string]bool{policy.Default: true}
	for _, p := range i.Policies {
		known[strings.ToLower(strings.TrimSpace(p.Name))] = true
	}
	for _, l := range i.Logins {
		names, _ := policy.Normalize(l.Policies)
		for _, name := range names {
			if !known[name] {
				list = append(list, fmt.Sprintf("%sthe initialize block gives %s %q the policy %q, which it doesn't have", l.written.at("policies"), l.Kind, l.Name, name))
			}
		}
		if _, err := os.Stat(l.PasswordFile); l.PasswordFile != "" && err != nil {
			list = append(list, fmt.Sprintf("%suser %q has no password file, which is needed until the first unseal", l.written.at("password_file"), l.Name))
		}
	}
	return list
}
