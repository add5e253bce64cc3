package policy

import (
	"slices"
	"testing"
)

var all = []Capability{Create, Read, Update, Patch, Delete, List, Sudo}

const everything = Create | Read | Update | Patch | Delete | List

// defaults is wire reference 6.2, "The default policy grants", once more.
var defaults = map[string]Capability{
	"auth/token/lookup-self":        Read,
	"auth/token/renew-self":         Update,
	"auth/token/revoke-self":        Update,
	"sys/capabilities-self":         Update,
	"sys/internal/ui/resultant-acl": Read,
	"sys/renew":                     Update,
	"sys/leases/renew":              Update,
	"sys/leases/lookup":             Update,
	"cubbyhole":                     List,
	"cubbyhole/":                    everything,
	"cubbyhole/a":                   everything,
	"cubbyhole/a/b/c":               everything,
	"sys/wrapping/wrap":             Update,
	"sys/wrapping/lookup":           Update,
	"sys/wrapping/unwrap":           Update,
	"sys/tools/hash":                Update,
	"sys/tools/hash/sha2-256":       Update,
}

// decide is what those of the names that are root, or default as it is born, allow.
func decide(t testing.TB, names []string, path string, want Capability) bool {
	t.Helper()
	var list []*Policy
	for _, name := range names {
		switch name {
		case Root:
			list = append(list, Builtin(Root))
		case Default:
			list = append(list, bornDefault(t))
		}
	}
	return Compile(list...).Decide(&Ask{Path: path, Want: want}).Allowed
}

func bornDefault(t testing.TB) *Policy {
	t.Helper()
	p, err := Parse(Default, DefaultText)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDefault(t *testing.T) {
	paths := []string{
		"", "/", "*", "auth/token/lookup", "auth/token/create", "auth/token/create-orphan", "auth/token/renew", "auth/token/revoke",
		"auth/token/revoke-orphan", "auth/token/accessors", "auth/token/lookup-self/", "/auth/token/lookup-self",
		"Auth/token/lookup-self", "auth/token/lookup-selfx", "auth/token/lookup-sel", "auth//token/lookup-self",
		"sys/seal", "sys/generate-root-token/attempt", "sys/generate-root-token/update", "sys/key-status", "sys/rotate",
		"cubbyhol/a", "xcubbyhole/a", "secret/cubbyhole/a", "sys/wrapping/rewrap", "sys/wrapping/*", "sys/leases/lookup/a",
	}
	for path := range defaults {
		paths = append(paths, path)
	}
	for _, path := range paths {
		for _, want := range all {
			if got := decide(t, []string{"unknown", Default}, path, want); got != (defaults[path]&want != 0) {
				t.Errorf("%v on %q: %v", want, path, got)
			}
		}
	}
}

func TestDecide(t *testing.T) {
	const path = "auth/token/lookup-self"
	for _, test := range []struct {
		name     string
		policies []string
		path     string
		want     Capability
		allowed  bool
	}{
		{"Root", []string{"root"}, "anything/at/all", Sudo, true},
		{"RootNeedsNoDefault", []string{"a", "root", "z"}, "sys/seal", Update | Sudo, true},
		{"RootWantsNothing", []string{"root"}, path, 0, false},
		{"RootWantsDeny", []string{"root"}, path, Deny, false},
		{"RootWantsDenyToo", []string{"root"}, path, Read | Deny, false},
		{"NoPolicies", nil, path, Read, false},
		{"Unknown", []string{"admin", "Root", "ROOT", "root ", "Default", ""}, path, Read, false},
		{"DefaultWantsNothing", []string{"default"}, path, 0, false},
		{"EveryBitCounts", []string{"default"}, path, Read | Update, false},
		{"NoSudoFromDefault", []string{"default"}, "cubbyhole/a", Read | Sudo, false},
		{"SeveralBits", []string{"default"}, "cubbyhole/a", Read | List, true},
	} {
		if got := decide(t, test.policies, test.path, test.want); got != test.allowed {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

func TestBuiltin(t *testing.T) {
	for _, name := range []string{"", Default, "Root", "dev"} {
		if Builtin(name) != nil {
			t.Errorf("%q is built in", name)
		}
	}
	a := Compile(Builtin(Wrapping))
	if a.IsRoot() || !a.Decide(&Ask{Path: "sys/wrapping/unwrap", Want: Update}).Allowed || a.Decide(&Ask{Path: "sys/wrapping/lookup", Want: Update}).Allowed {
		t.Errorf("the rules of wrapping tokens: %+v", a.rules)
	}
	if a := Compile(nil, Builtin(Root)); !a.IsRoot() || !a.Below("x/") || !slices.Equal(a.Capabilities("x"), []string{"root"}) {
		t.Error("root isn't root")
	}
	// A policy that only has the name is nothing.
	if Compile(&Policy{Name: Root}).IsRoot() {
		t.Error("a name grants everything")
	}
}

func TestCapabilityNames(t *testing.T) {
	if got := (everything | Sudo | Deny).Names(); !slices.Equal(got, []string{"create", "delete", "deny", "list", "patch", "read", "sudo", "update"}) {
		t.Errorf("%q", got)
	}
	for _, c := range append(all, Deny) {
		if got, ok := capability(c.String()); got != c || !ok {
			t.Errorf("%v is read as %v, %v", c, got, ok)
		}
	}
	if got := Capability(0).Names(); got != nil {
		t.Errorf("%q", got)
	}
}
