package node

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/token"
)

var (
	errPolicyText    = fault.New(fault.Invalid, "'policy' must be the text of a policy, or its base64")
	errPolicyLong    = fault.Newf(fault.TooLarge, "the text of a policy can be at most %d bytes: split it", policy.MaxText)
	errPolicyBuiltin = fault.New(fault.Invalid, "this policy belongs to the server and can't be changed or deleted: choose another name")
	errPolicyDefault = fault.New(fault.Invalid, "the policy default can't be deleted: change it instead, or make tokens with no_default_policy")
)

// policyRecord is a policy as it is stored.
type policyRecord struct {
	Text     string    `json:"text"`
	Modified time.Time `json:"modified"`
	Version  int       `json:"version"` // counts the changes, from 1
}

// Policy is one policy as it is shown. The text of the policy root is empty: it isn't made of rules.
type Policy struct {
	Name, Text string
	Modified   time.Time // zero for one that belongs to the server
	Version    int
}

// readPolicy returns nil where there is none. default is what it was born with until somebody changes it.
func readPolicy(r store.Reader, name string) (*policyRecord, error) {
	rec := new(policyRecord)
	if name == policy.Default {
		rec.Text = policy.DefaultText
	}
	if err := getJSON(r, policyPrefix+name, rec); err != nil || rec.Text == "" {
		return nil, err
	}
	return rec, nil
}

// Policy returns a policy by any spelling of its name, nil if there is none.
func (c *Call) Policy(name string) (*Policy, error) {
	name, err := policy.NormalizeName(name)
	if err != nil {
		return nil, err
	}
	if name == policy.Root {
		return &Policy{Name: name}, nil
	}
	rec, err := readPolicy(c.Tx, name)
	if err != nil || rec == nil {
		return nil, err
	}
	return &Policy{name, rec.Text, rec.Modified, rec.Version}, nil
}

// Policies returns the names of all policies, sorted: those behind after, at most limit of them unless limit is 0.
func (c *Call) Policies(after string, limit int) ([]string, error) {
	names := []string{policy.Default, policy.Root}
	for entry, err := range c.Tx.Scan(policyPrefix, "") {
		if err != nil {
			return nil, err
		}
		names = append(names, strings.TrimPrefix(entry.Key, policyPrefix))
	}
	slices.Sort(names)
	return paged(slices.Compact(names), after, limit), nil
}

// paged is the part of a sorted list behind after, at most limit long unless limit is 0.
func paged(names []string, after string, limit int) []string {
	i, found := slices.BinarySearch(names, after)
	if found {
		i++
	}
	if names = names[i:]; limit > 0 && len(names) > limit {
		names = names[:limit]
	}
	return names
}

// PutPolicy writes a policy. It returns the name that it has: lower-case, whatever was asked for.
func (c *Call) PutPolicy(name, text string) (string, error) {
	name, err := policy.NormalizeName(name)
	if err == nil {
		err = putPolicy(c.Tx, name, text, c.node.Now())
	}
	if err == nil {
		err = c.changedPolicies()
	}
	return name, err
}

func putPolicy(tx store.Tx, name, text string, now time.Time) error {
	switch {
	case policy.Builtin(name) != nil:
		return errPolicyBuiltin
	case strings.TrimSpace(text) == "":
		return errPolicyText
	case len(text) > policy.MaxText:
		return errPolicyLong
	}
	// Old clients send the text in base64. No policy text is valid base64 of a policy text.
	if plain, err := base64.StdEncoding.DecodeString(text); err == nil {
		text = string(plain)
	}
	if _, err := policy.Parse(name, text); err != nil {
		return err
	}
	old, err := readPolicy(tx, name)
	if err != nil {
		return err
	}
	rec := policyRecord{Text: text, Modified: now.UTC().Round(0), Version: 1}
	if old != nil {
		rec.Version = old.Version + 1
	}
	return putJSON(tx, policyPrefix+name, rec)
}

// DeletePolicy removes a policy; that there is none is no error.
func (c *Call) DeletePolicy(name string) error {
	name, err := policy.NormalizeName(name)
	switch {
	case err != nil:
		return err
	case name == policy.Default:
		return errPolicyDefault
	case policy.Builtin(name) != nil:
		return errPolicyBuiltin
	}
	if err := c.Tx.Delete(policyPrefix + name); err != nil {
		return err
	}
	return c.changedPolicies()
}

// ACL is what a token's policies grant together.
func (c *Call) ACL(e *token.Entry) (*policy.ACL, error) { return c.sys.acls.of(c.Tx, e.Policies) }

// ACLOf is what some policies would grant together.
func (c *Call) ACLOf(names []string) (*policy.ACL, error) { return c.sys.acls.of(c.Tx, names) }

// AllKnown reports whether there is a policy of each name.
func (c *Call) AllKnown(names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return !c.knows(name) })
}

// knows reports whether there is a policy of this name.
func (c *Call) knows(name string) bool {
	p, err := c.sys.acls.named(c.Tx, name)
	return err == nil && p != nil
}

// maxACLs is how many different sets of policies are kept compiled.
const maxACLs = 4096

// acls are compiled policies, as of one version of them. They are safe for concurrent use.
type acls struct {
	mu       sync.RWMutex
	compiled map[string]*policy.ACL    // :: names, joined → what they grant together
	parsed   map[string]*policy.Policy // :: name → policy; nil if there is none of this name
}

func newACLs() *acls {
	return &acls{compiled: make(map[string]*policy.ACL), parsed: make(map[string]*policy.Policy)}
}

// of returns what policies grant together. r is a snapshot in which c holds.
func (c *acls) of(r store.Reader, names []string) (*policy.ACL, error) {
	key := strings.Join(names, "\x00")
	c.mu.RLock()
	acl := c.compiled[key]
	c.mu.RUnlock()
	if acl != nil {
		return acl, nil
	}
	var list []*policy.Policy
	for _, name := range names {
		p, err := c.named(r, name)
		if err != nil {
			return nil, err
		}
		if p != nil {
			list = append(list, p)
		}
	}
	acl = policy.Compile(list...)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.compiled) >= maxACLs {
		clear(c.compiled)
	}
	c.compiled[key] = acl
	return acl, nil
}

// named returns a policy, nil if there is none of this name.
func (c *acls) named(r store.Reader, name string) (*policy.Policy, error) {
	if p := policy.Builtin(name); p != nil {
		return p, nil
	}
	c.mu.RLock()
	p, known := c.parsed[name]
	c.mu.RUnlock()
	if known {
		return p, nil
	}
	rec, err := readPolicy(r, name)
	if err != nil {
		return nil, err
	}
	if rec != nil {
		if p, err = policy.Parse(name, rec.Text); err != nil {
			return nil, fmt.Errorf("the stored policy %s: %w", name, err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.parsed) >= maxACLs {
		clear(c.parsed)
	}
	c.parsed[name] = p
	return p, nil
}
