package node

import (
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/audit"
	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/mount"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/token"
)

// Whoever asks for a rotation of the root key is told of before it is refused.
func TestRefusedRotationIsNoted(t *testing.T) {
	c := newCluster(t, 1, 1)
	id, _ := c.create(c.root, token.Spec{Path: "auth/token/create", Policies: []string{policy.Default}})
	for who, known := range map[string]bool{id: true, "q.nobody": false} {
		a := c.access(who, "sys/rotate/root", policy.Update)
		told := false
		a.Note = func(e *token.Entry, denied error) error {
			told = denied != nil && (e != nil) == known
			return nil
		}
		c.refused(c.node.RotateRootKey(t.Context(), a), ErrDenied.Kind, "permission denied")
		if !told {
			t.Errorf("a refusal was not told (a token: %t)", known)
		}
	}
}

// A request that is refused before its transaction uses its token like any other.
func TestRefusedRequestsUseTheirToken(t *testing.T) {
	c := newCluster(t, 1, 1)
	c.mounts(mount.Entry{Path: "auth/userpass/", Type: "userpass"})
	c.writePolicy("admin", `path "auth/userpass/users/*" { capabilities = ["create", "update"] }
path "sys/audit/*" { capabilities = ["update", "sudo"] }`)
	user := func(id string) error {
		_, _, err := c.ask(id, engine.Update, "auth/userpass/users/alice", `{"password":"`+strings.Repeat("x", 100)+`"}`)
		return err
	}
	device := func(id string) error {
		a := c.access(id, "sys/audit/x", policy.Update)
		a.Sudo = true
		return c.node.EnableAudit(t.Context(), a, audit.Device{Path: "x"})
	}
	for what, ask := range map[string]func(id string) error{"a password that is too long": user, "an audit device of no type": device} {
		for name, kind := range map[string]fault.Kind{"admin": fault.Invalid, policy.Default: fault.Denied} {
			id, e := c.create(c.root, token.Spec{Path: "auth/token/create", Policies: []string{name}, NumUses: 2})
			for left := 1; left >= 0; left-- {
				if err := ask(id); fault.As(err) == nil || fault.As(err).Kind != kind {
					t.Fatalf("%s, with the policy %s: %v", what, name, err)
				}
				c.asRoot(func(call *Call) error {
					now, err := call.Tokens.ByAccessor(call.Tx, e.Accessor)
					if uses := 0; err == nil {
						if now != nil {
							uses = now.NumUses
						}
						if uses != left {
							t.Errorf("%s, with the policy %s: %d uses are left, want %d", what, name, uses, left)
						}
					}
					return err
				})
			}
		}
	}
}
