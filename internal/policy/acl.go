package policy

import (
	"slices"
	"strings"
	"time"
)

// ACL is what some policies grant together. It is immutable.
type ACL struct {
	root  bool
	exact map[string]*rule
	wild  node
	rules []*rule // all of them; of two that match one path, the later applies
}

// rule is what the blocks with one path text say, merged over all policies.
type rule struct {
	path             string
	order            [4]int
	rank             int // its place in ACL.rules
	caps             Capability
	required         []string
	allowed, denied  Params
	minWrap, maxWrap time.Duration
	policies         []string // with a block of that text, sorted
}

// Compile merges policies. A nil one, such as that of a name which doesn't exist, grants nothing.
func Compile(policies ...*Policy) *ACL {
	a := &ACL{exact: map[string]*rule{}}
	byPath := map[string]*rule{}
	for _, p := range policies {
		if p == nil {
			continue
		}
		a.root = a.root || p.root
		for i := range p.Rules {
			path := p.Rules[i].Path
			if byPath[path] == nil {
				byPath[path] = &rule{path: path, order: order(path), allowed: Params{}, denied: Params{}}
				a.rules = append(a.rules, byPath[path])
			}
			byPath[path].merge(&p.Rules[i], p.Name)
		}
	}
	slices.SortFunc(a.rules, compare)
	index := map[*node]map[string]int{}
	for i, r := range a.rules {
		r.rank = i
		slices.Sort(r.required)
		slices.Sort(r.policies)
		r.required, r.policies = slices.Compact(r.required), slices.Compact(r.policies)
		if r.wild() {
			a.wild.insert(r.path, r, index)
		} else {
			a.exact[r.path] = r
		}
	}
	a.wild.seal()
	return a
}

func (r *rule) wild() bool { return strings.ContainsAny(r.path, "+*") }

func (r *rule) merge(from *Rule, policy string) {
	r.caps |= from.Capabilities
	r.policies = append(r.policies, policy)
	r.required = append(r.required, from.Required...)
	for name, values := range from.Allowed {
		r.allowed.add(name, values)
	}
	for name, values := range from.Denied {
		r.denied.add(name, values)
	}
	r.minWrap, r.maxWrap = smaller(r.minWrap, from.MinWrap), smaller(r.maxWrap, from.MaxWrap)
}

// smaller returns the smaller of two limits, of which 0 is none.
func smaller(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// granted are the capabilities of the rule that applies, which may be nil.
func (r *rule) granted() Capability {
	if r == nil || r.caps&Deny != 0 {
		return 0
	}
	return r.caps
}

// longest is the longest path that is looked up without allocating: what the wire lets through, and a slash.
const longest = 1024 + 1

// lookup finds the one rule that applies. A list is looked for with a slash at the end and without: an exact rule for the
// first, then one for the second, then the best of those that match either, so that a deny on "a/*" or on "+" can't be got
// around by listing "a".
func (a *ACL) lookup(path string, list bool) *rule {
	var room [longest]byte
	if !list {
		if r := a.exact[path]; r != nil {
			return r
		}
		return a.wild.best(append(room[:0], path...), nil)
	}
	slashed := append(append(room[:0], strings.TrimSuffix(path, "/")...), '/')
	bare := slashed[:len(slashed)-1]
	if r := a.exact[string(slashed)]; r != nil {
		return r
	}
	if r := a.exact[string(bare)]; r != nil {
		return r
	}
	return a.wild.best(bare, a.wild.best(slashed, nil))
}

// Ask is one question: whether something may be done on a path.
type Ask struct {
	Path    string                // without a leading slash and without the version; a list's may end with a slash
	Want    Capability            // what is to be done
	Sudo    bool                  // whether the path needs Sudo, too
	Data    func() map[string]any // decodes the body of the request. It is called only if parameters are restricted; nil is no body
	WrapTTL time.Duration         // asked for the reply; 0 is an unwrapped one
}

// Verdict is the answer.
type Verdict struct {
	Allowed bool
	Reason  Reason
}

// Reason says what decided.
type Reason int

// The reasons. Only Granted and IsRoot allow.
const (
	NoRule Reason = iota
	Granted
	IsRoot
	Denied
	NoCapability
	NoSudo
	ParameterMissing
	ParameterDenied
	ParameterNotAllowed
	WrappingNeeded
	WrappingTooShort
	WrappingTooLong
)

func (r Reason) String() string {
	return [...]string{
		"no rule is for this path", "granted", "the policy root grants everything", "denied",
		"the rule for this path doesn't grant that", "this path needs sudo, too",
		"a required parameter is missing", "a parameter or its value is denied", "a parameter or its value isn't among those allowed",
		"the reply must be wrapped", "the reply must be wrapped for longer", "the reply must be wrapped for less long",
	}[r]
}

func (r Reason) verdict() Verdict { return Verdict{Allowed: r == Granted || r == IsRoot, Reason: r} }

// Decide answers.
func (a *ACL) Decide(q *Ask) Verdict {
	reason, _ := a.decide(q)
	return reason.verdict()
}

func (a *ACL) decide(q *Ask) (Reason, *rule) {
	if q.Want == 0 || q.Want&Deny != 0 {
		return NoCapability, nil
	}
	if a.root {
		return IsRoot, nil
	}
	r := a.lookup(q.Path, q.Want&List != 0)
	switch {
	case r == nil:
		return NoRule, nil
	case r.caps&Deny != 0:
		return Denied, r
	case (q.Want&^Sudo)&^r.caps != 0:
		return NoCapability, r
	case (q.Sudo || q.Want&Sudo != 0) && r.caps&Sudo == 0:
		return NoSudo, r
	}
	if reason := r.wrapping(q.WrapTTL); reason != Granted {
		return reason, r
	}
	return r.parameters(q), r
}

func (r *rule) wrapping(ttl time.Duration) Reason {
	switch {
	case r.minWrap == 0 && r.maxWrap == 0:
		return Granted
	case ttl == 0:
		return WrappingNeeded
	case ttl < r.minWrap:
		return WrappingTooShort
	case r.maxWrap != 0 && ttl > r.maxWrap:
		return WrappingTooLong
	}
	return Granted
}

// IsRoot reports whether everything is granted.
func (a *ACL) IsRoot() bool { return a.root }

// Capabilities returns the names of what may be done on path, sorted, as the wire tells them: "deny" where it is nothing,
// "root" where it is everything.
func (a *ACL) Capabilities(path string) []string {
	if a.root {
		return []string{Root}
	}
	path = strings.TrimPrefix(path, "/")
	return a.lookup(path, strings.HasSuffix(path, "/")).names()
}

func (r *rule) names() []string {
	if granted := r.granted(); granted != 0 {
		return granted.Names()
	}
	return Deny.Names()
}

// Below reports whether anything is granted on prefix, a path that ends with a slash, or below it. It may say yes where
// rules only together deny everything.
func (a *ACL) Below(prefix string) bool {
	for _, r := range slices.Backward(a.rules) {
		switch {
		case r.granted() != 0 && reaches(r.path, prefix):
			return true
		case covers(r.path, prefix): // so the rules before it don't apply there
			return a.root
		}
	}
	return a.root
}

// Explanation is a verdict with its grounds.
type Explanation struct {
	Verdict
	Rule         string   // the path text that applies; "" if there is none
	Capabilities []string // as ACL.Capabilities has them
	Policies     []string // those with a block of that path text
}

// Explain answers as Decide does, and says which rule of which policies made it so.
func (a *ACL) Explain(q *Ask) Explanation {
	reason, r := a.decide(q)
	e := Explanation{Verdict: reason.verdict(), Capabilities: r.names()}
	switch {
	case r != nil:
		e.Rule, e.Policies = r.path, slices.Clone(r.policies)
	case reason == IsRoot:
		e.Capabilities, e.Policies = []string{Root}, []string{Root}
	}
	return e
}

// Resultant returns the capabilities of all rules: those of exact paths, and those of patterns. As clients know them, a
// pattern without + stands without its final *.
func (a *ACL) Resultant() (exact, glob map[string][]string) {
	exact, glob = map[string][]string{}, map[string][]string{}
	for _, r := range a.rules {
		switch {
		case !r.wild():
			exact[r.path] = r.names()
		case strings.Contains(r.path, "+"):
			glob[r.path] = r.names()
		default:
			glob[strings.TrimSuffix(r.path, "*")] = r.names()
		}
	}
	return exact, glob
}
