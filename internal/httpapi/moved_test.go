package httpapi

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/audit"
	"github.com/quorate/quorate/internal/store/anystore"
)

// other is a second server over the same store, unsealed. What it knows of mounts is what was there when it was.
func (s *server) other() *server {
	s.t.Helper()
	o := *s
	o.serve(anystore.Again(s.t, s.store))
	o.unseal(1)
	return &o
}

// A server that learns of a mount by a request does with all of that request what the server would that made the mount.
func TestFirstRequestToANewMount(t *testing.T) {
	s := ready(t, 1, 1)
	root := withToken(s.root)
	for _, c := range []struct{ path, mount, write, body, read, want string }{
		{
			"sys/auth/approle", `{"type":"approle"}`, "auth/approle/role/app", `{"secret_id_bound_cidrs":"10.0.0.0/8","token_policies":"dev"}`,
			"auth/approle/role/app", `"secret_id_bound_cidrs":["10.0.0.0/8"]`,
		},
		{"sys/mounts/secret", `{"type":"kv-v2"}`, "secret/data/a", `{"data":{"b":"c"}}`, "secret/data/a", `"data":{"b":"c"}`},
		{"sys/mounts/old", `{"type":"kv"}`, "old/a", `{"b":"c"}`, "old/a", `"data":{"b":"c"}`},
	} {
		o := s.other()
		s.do("POST", c.path, c.mount, root).want(204)
		if got := o.do("POST", c.write, c.body, root); got.code/100 != 2 {
			t.Fatalf("%s: %d %s", c.write, got.code, got.text)
		}
		s.do("GET", c.read, "", root).want(200, c.want)
	}
}

// A login that finds its way only at the second look is told to audit devices as what it is.
func TestFirstLoginIsAudited(t *testing.T) {
	s := ready(t, 1, 1)
	root, tape := withToken(s.root), &strings.Builder{}
	o := s.other()
	broker := audit.New(audit.Options{Logger: slog.New(slog.DiscardHandler), Now: s.clock.now, Stdout: tape})
	if err := broker.SetConfigured([]audit.Device{{Path: "tape/", Type: "stdout"}}); err != nil {
		t.Fatal(err)
	}
	o.api.Audit = broker
	s.do("POST", "sys/auth/userpass", `{"type":"userpass"}`, root).want(204)
	s.do("POST", "auth/userpass/users/alice", `{"password":"a long enough one"}`, root).want(204)
	o.do("POST", "auth/userpass/login/alice", `{"password":"a long enough one"}`).want(200)
	lines := strings.Split(strings.TrimSpace(tape.String()), "\n")
	asked := lines[len(lines)-2]
	if len(lines) < 2 || !strings.Contains(asked, `"type":"request"`) || !strings.Contains(asked, `"mount_type":"userpass"`) ||
		!strings.Contains(asked, `"password":`) || strings.Contains(asked, "permission denied") {
		t.Errorf("devices were told: %s", tape.String())
	}
}

// A wrapping that can't be had is refused before anything is done, because the reply would be lost.
func TestWrappingForTooLongDoesNothing(t *testing.T) {
	s := ready(t, 1, 1)
	root := withToken(s.root)
	count := func() string { return s.do("LIST", "auth/token/accessors", "", root).want(200).in("data").text }
	before := count()
	s.do("POST", "auth/token/create", `{"ttl":"1h"}`, root, withHeader("X-Vault-Wrap-TTL", "769h")).want(400, "wrapping TTL")
	if after := count(); after != before {
		t.Errorf("a token that nobody has: %s, before %s", after, before)
	}
	s.do("POST", "auth/token/create", `{"ttl":"1h"}`, root, withHeader("X-Vault-Wrap-TTL", "768h")).want(200, "wrap_info")
}

// A token that is bound to networks starts a ceremony from there, and from nowhere else.
func TestBoundTokenStarts(t *testing.T) {
	s := ready(t, 1, 1)
	root := withToken(s.root)
	s.do("PUT", "sys/policies/acl/starter", `{"policy":"path \"sys/generate-root/attempt\" { capabilities = [\"update\", \"sudo\"] }"}`, root).want(204)
	for cidr, code := range map[string]int{"203.0.113.0/24": 200, "198.51.100.0/24": 403} {
		s.do("POST", "auth/token/roles/bound", `{"token_bound_cidrs":"`+cidr+`","allowed_policies":"starter"}`, root).want(204)
		token := withToken(s.do("POST", "auth/token/create/bound", "", root).want(200).in("auth").str("client_token"))
		s.do("PUT", "sys/generate-root/attempt", "", token, stranger).want(code)
		s.do("DELETE", "sys/generate-root/attempt", "", root).want(204)
	}
}
