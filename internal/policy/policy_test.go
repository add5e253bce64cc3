package policy

import (
	"strings"
	"testing"
)

var all = []Capability{Create, Read, Update, Patch, Delete, List, Sudo}

// granted is wire reference 6.2, "The default policy grants", once more.
var granted = map[string]Capability{
	"auth/token/lookup-self":        Read,
	"auth/token/renew-self":         Update,
	"auth/token/revoke-self":        Update,
	"sys/capabilities-self":         Update,
	"sys/internal/ui/resultant-acl": Read,
	"sys/renew":                     Update,
	"sys/leases/renew":              Update,
	"sys/leases/lookup":             Update,
	"cubbyhole/":                    Create | Read | Update | Patch | Delete | List,
	"cubbyhole/a":                   Create | Read | Update | Patch | Delete | List,
	"cubbyhole/a/b/c":               Create | Read | Update | Patch | Delete | List,
	"sys/wrapping/wrap":             Update,
	"sys/wrapping/lookup":           Update,
	"sys/wrapping/unwrap":           Update,
	"sys/tools/hash":                Update,
}

func TestDefault(t *testing.T) {
	paths := []string{
		"", "/", "*", "auth/token/lookup", "auth/token/create", "auth/token/create-orphan", "auth/token/renew", "auth/token/revoke",
		"auth/token/revoke-orphan", "auth/token/accessors", "auth/token/lookup-self/", "/auth/token/lookup-self",
		"Auth/token/lookup-self", "auth/token/lookup-selfx", "auth/token/lookup-sel", "auth//token/lookup-self",
		"sys/seal", "sys/generate-root-token/attempt", "sys/generate-root-token/update", "sys/key-status", "sys/rotate",
		"cubbyhole", "cubbyhol/a", "xcubbyhole/a", "secret/cubbyhole/a", "sys/wrapping/rewrap", "sys/wrapping/*", "sys/tools/hash/sha2-256",
	}
	for path := range granted {
		paths = append(paths, path)
	}
	for _, path := range paths {
		for _, want := range all {
			if got := Decide([]string{"unknown", Default}, path, want); got != (granted[path]&want != 0) {
				t.Errorf("%08b on %q: %v", want, path, got)
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
		if got := Decide(test.policies, test.path, test.want); got != test.allowed {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

// TestWhichRuleApplies: the choice between rules is in beats and matches, ready for policies with more of them.
func TestWhichRuleApplies(t *testing.T) {
	for _, test := range []struct{ winner, loser string }{
		{"a/b", "a/*"},
		{"a/b", "a/b*"},
		{"a/b*", "a/*"},
		{"a/*", "*"},
	} {
		w, l := rule{path: test.winner}, rule{path: test.loser}
		if !w.matches("a/b") || !l.matches("a/b") {
			t.Errorf("%q or %q doesn't match", test.winner, test.loser)
		}
		if !w.beats(test.loser) || l.beats(test.winner) {
			t.Errorf("%q doesn't beat %q", test.winner, test.loser)
		}
	}
	for _, path := range []string{"a/*", "a/", "a"} {
		if (rule{path: "a/b*"}).matches(path) {
			t.Errorf("a/b* matches %q", path)
		}
	}
	if (rule{path: "a*b"}).matches("aXb") {
		t.Error("a star in the middle is a wildcard")
	}
}

func TestKnown(t *testing.T) {
	for name, want := range map[string]bool{"root": true, "default": true, "Root": false, "response-wrapping": false, "": false, "dev": false} {
		if Known(name) != want {
			t.Errorf("%q is known: %v", name, !want)
		}
	}
	for _, r := range rules(Default) {
		if strings.HasPrefix(r.path, "/") || r.caps == 0 || r.caps&(Deny|Sudo) != 0 {
			t.Errorf("odd rule %+v", r)
		}
	}
}
