package node

import (
	"errors"
	"testing"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/mount"
	"github.com/quorate/quorate/internal/policy"
)

// An attempt whose authority is a token ends with it, whichever way the token dies.
func TestRevokedLoginsEndAttempts(t *testing.T) {
	for name, kill := range map[string]func(c *cluster, second *cluster){
		"revoke-prefix": func(c, _ *cluster) {
			if err := c.node.RevokeLeases(t.Context(), c.access(c.root, "sys/leases/revoke-prefix/auth/userpass", policy.Update), "auth/userpass"); err != nil {
				t.Fatal(err)
			}
		},
		"disable":               func(c, _ *cluster) { c.disable("userpass", true) },
		"by the other server":   func(_, second *cluster) { second.disable("userpass", true) },
		"disabled after a move": func(c, _ *cluster) { c.move("userpass", "auth/people/", true); c.disable("people", true) },
	} {
		for _, of := range []string{"login", "child"} {
			t.Run(name+"/"+of, func(t *testing.T) {
				c := withPeople(t)
				f, second := c.family("auth/userpass/"), c.other()
				id := map[string]string{"login": f.login, "child": f.child}[of]
				c.start(GenerateRoot, bearer(id), StartRequest{})
				c.approve(GenerateRoot, c.status().Nonce, 0)
				kill(c, second)
				for _, s := range []*cluster{c, second} {
					if st := s.status(); st.Started {
						t.Errorf("the attempt of a dead token is open: %+v", st)
					}
				}
				if got := c.look(ceremony.RootToken); got.Attempt != nil {
					t.Error("the attempt is still there")
				}
			})
		}
	}
}

// Leases are revoked by whole parts of their path.
func TestRevokeLeasesByWholeParts(t *testing.T) {
	c := withPeople(t)
	c.mounts(mount.Entry{Path: "auth/userpass2/", Type: "userpass"})
	c.mustAsk(c.root, engine.Update, "auth/userpass2/users/alice", `{"password":"correct horse","policies":"dev"}`)
	first, second := c.family("auth/userpass/"), c.login("auth/userpass2/")
	if err := c.node.RevokeLeases(t.Context(), c.access(first.login, "sys/leases/revoke-prefix/auth", policy.Update), "auth"); !errors.Is(err, ErrDenied) {
		t.Errorf("without authority: %v", err)
	}
	if c.lookup(first.login) == nil {
		t.Error("revoked without authority")
	}
	if err := c.node.RevokeLeases(t.Context(), c.access(c.root, "sys/leases/revoke-prefix/auth", policy.Update), "auth/userpass/"); err != nil {
		t.Fatal(err)
	}
	first.dead(c, "after revoke-prefix")
	if c.lookup(second) == nil {
		t.Error("a login of another mount was revoked too")
	}
}
