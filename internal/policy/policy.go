// Package policy decides what the holder of some policies may do on a path.
//
// It promises that a name means the same everywhere, because there is one normaliser, and that whatever isn't granted
// is refused. It knows the two policies that always exist, root and default, and takes their rules as data; it
// doesn't read policy text, and it doesn't check that a path is canonical: the wire does that before it asks.
package policy

import (
	"slices"
	"strings"
)

// Capability is a set of things that can be done on a path.
type Capability uint8

// The capabilities. Sudo is needed beside another one on the paths that ask for it.
const (
	Create Capability = 1 << iota
	Read
	Update
	Patch
	Delete
	List
	Sudo
	Deny
)

// Names that can't be defined by anybody.
const (
	Root    = "root"    // everything
	Default = "default" // what every token needs for itself
	// Wrapping belongs to the tokens of response wrapping and can't be asked for.
	Wrapping = "response-wrapping"
)

// rule grants capabilities on one path, or with a final * on every path that begins with what stands before it.
type rule struct {
	path string
	caps Capability
}

// Decide reports whether policies together allow want (every bit of it) on path, which has no leading slash and no
// version prefix. Names that aren't known grant nothing.
func Decide(policies []string, path string, want Capability) bool {
	if want == 0 || want&Deny != 0 {
		return false
	}
	if slices.Contains(policies, Root) {
		return true
	}
	got := grant(policies, path)
	return got&Deny == 0 && got&want == want
}

// Known reports whether a policy of this normalised name exists.
func Known(name string) bool { return name == Root || rules(name) != nil }

// grant finds the one path text that applies: an exact one, else the longest prefix. Only rules of that same text are
// united over the policies.
func grant(policies []string, path string) Capability {
	var best string
	var caps Capability
	for _, name := range policies {
		for _, r := range rules(name) {
			switch {
			case !r.matches(path):
			case r.path == best:
				caps |= r.caps
			case best == "" || r.beats(best):
				best, caps = r.path, r.caps
			}
		}
	}
	return caps
}

func (r rule) matches(path string) bool {
	prefix, glob := strings.CutSuffix(r.path, "*")
	return path == r.path && !glob || glob && strings.HasPrefix(path, prefix)
}

// beats compares two rules that match the same path.
func (r rule) beats(other string) bool {
	glob, otherGlob := strings.HasSuffix(r.path, "*"), strings.HasSuffix(other, "*")
	if glob != otherGlob {
		return !glob
	}
	return len(r.path) > len(other)
}

// rules returns what a policy grants, nil when there is no such policy.
func rules(name string) []rule {
	if name != Default {
		return nil
	}
	return defaultRules[:]
}

// defaultRules is what the default policy grants. An array, so that nothing can be added.
var defaultRules = [...]rule{
	{"auth/token/lookup-self", Read},
	{"auth/token/renew-self", Update},
	{"auth/token/revoke-self", Update},
	{"sys/capabilities-self", Update},
	{"sys/internal/ui/resultant-acl", Read},
	{"sys/renew", Update},
	{"sys/leases/renew", Update},
	{"sys/leases/lookup", Update},
	{"cubbyhole/*", Create | Read | Update | Patch | Delete | List},
	{"sys/wrapping/wrap", Update},
	{"sys/wrapping/lookup", Update},
	{"sys/wrapping/unwrap", Update},
	{"sys/tools/hash", Update},
}
