// Package policy decides what the holder of some policies may do on a path.
//
// It reads policy texts, merges the policies of a token once (Compile) and then answers from memory, without allocating.
// It promises that a name means the same everywhere, because there is one normaliser; that whatever isn't granted is
// refused; and that a text is either enforced as it stands or refused: what would restrict and can't be enforced is not
// accepted. What would only grant what this server doesn't do (the capabilities scan, subscribe and recover) is, and
// grants nothing. It doesn't check that the path of a request is canonical: the wire does that before it asks.
package policy

import (
	"strings"
	"time"
)

// Capability is a set of things that can be done on a path.
type Capability uint16

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

// Names that can't be defined by anybody, but for Default, whose text can be changed.
const (
	Root    = "root"    // everything
	Default = "default" // what every token needs for itself
	// Wrapping belongs to the tokens of response wrapping and can't be asked for.
	Wrapping = "response-wrapping"
)

// capabilities are the names on the wire, sorted.
var capabilities = [...]struct {
	name string
	bit  Capability
}{
	{"create", Create},
	{"delete", Delete},
	{"deny", Deny},
	{"list", List},
	{"patch", Patch},
	{"read", Read},
	{"sudo", Sudo},
	{"update", Update},
}

// Names returns the names of the capabilities in c, sorted.
func (c Capability) Names() []string {
	var names []string
	for _, known := range capabilities {
		if c&known.bit != 0 {
			names = append(names, known.name)
		}
	}
	return names
}

// capability reads one name. Those for what this server doesn't do grant nothing.
func capability(name string) (c Capability, ok bool) {
	for _, known := range capabilities {
		if known.name == name {
			return known.bit, true
		}
	}
	return 0, name == "scan" || name == "subscribe" || name == "recover"
}

func (c Capability) String() string { return strings.Join(c.Names(), ", ") }

// Policy is a policy text that was read, or one that is built in.
type Policy struct {
	Name  string
	Rules []Rule
	root  bool // grants everything; only Builtin sets it, so that no text can
}

// Rule is one path block.
type Rule struct {
	// Path has no leading slash. A final * stands for any rest, a part that is + for any one part.
	Path             string
	Capabilities     Capability // Deny stands alone
	Required         []string   // parameters that must be given
	Allowed, Denied  Params
	MinWrap, MaxWrap time.Duration // either one forces wrapping; 0: not said
}

// Params restricts parameters. :: name, folded → values; none means any value. The name * stands for all others.
type Params map[string][]string

// Builtin returns the policies that exist without being stored, Root and Wrapping; nil for all other names.
func Builtin(name string) *Policy {
	switch name {
	case Root:
		return &Policy{Name: Root, root: true}
	case Wrapping:
		return &Policy{Name: Wrapping, Rules: []Rule{
			{Path: "sys/wrapping/unwrap", Capabilities: Update},
		}}
	}
	return nil
}
