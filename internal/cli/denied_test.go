package cli

import (
	"net/http"
	"strings"
	"testing"
)

// A refusal says what the token's policies grant, and that none grants what was needed.
func TestWhyDenied(t *testing.T) {
	r := newRig(t)
	t.Setenv("BAO_TOKEN", "q.some")
	t.Setenv("BAO_WRAP_TTL", "60") // wraps no question of ours
	self := `{"data":{"policies":["default","dev"],"num_uses":0}}`
	capabilities := func(list string) {
		r.on("POST sys/capabilities-self", 200, `{"data":{"secret/data/app":`+list+`,"capabilities":`+list+`}}`)
	}
	r.on("GET auth/token/lookup-self", 200, self)
	const policies = "hint: permission denied on secret/data/app: your policies are default, dev"
	for _, c := range []struct{ command, has, want string }{
		{"read", `["deny"]`, policies + "; none grants read\n"},
		{"list", `["read"]`, policies + "; none grants list\n"},
		{"delete", `["read"]`, policies + "; none grants delete\n"},
		{"write -f", `["read","list"]`, policies + "; none grants create or update\n"},
		{"write -f", `["read","update"]`, policies + "; they grant update, but this may need sudo as well, other parameters or -wrap-ttl"},
		{"read", `["read"]`, policies + "; they grant read, but"},
	} {
		capabilities(c.has)
		r.fails(exitServer, []string{c.want}, append(strings.Fields(c.command), "secret/data/app")...)
		asked := 0
		for _, q := range r.seen {
			if q.path == "/v1/sys/capabilities-self" {
				asked++
				wantBody(t, q, `{"path":"secret/data/app","token":"q.some"}`)
			}
			if strings.Contains(q.path, "/sys/") || strings.Contains(q.path, "lookup-self") {
				want(t, "wrapping", q.header.Get("X-Vault-Wrap-TTL"), "")
			}
		}
		if asked == 0 {
			t.Error("nobody asked what the token may")
		}
	}
	r.on("PUT sys/policies/test", 200, `{"data":{"allowed":false,"reason":"denied","rule":"secret/*","policies":["dev"]}}`)
	capabilities(`["deny"]`)
	r.fails(exitServer, []string{policies + "; the rule \"secret/*\" of dev denies it\n"}, "read", "secret/data/app")
	delete(r.answers, "POST sys/capabilities-self")
	r.fails(exitServer, []string{policies + "\n"}, "read", "secret/data/app")

	// No use of a token is spent on the second question, if its uses are counted.
	r.on("GET auth/token/lookup-self", 200, strings.Replace(self, "0", "5", 1))
	r.fails(exitServer, []string{policies + "\n"}, "read", "secret/data/app")
	want(t, "last question", r.last().path, "/v1/auth/token/lookup-self")

	r.on("GET auth/token/lookup-self", 500, nil)
	r.fails(exitServer, []string{"hint: the token may be expired or revoked"}, "read", "secret/data/app")
}

func TestWhyPreflightDenied(t *testing.T) {
	r := newRig(t)
	t.Setenv("BAO_TOKEN", "q.some")
	r.on("GET auth/token/lookup-self", 200, `{"data":{"policies":["default"],"num_uses":0}}`)
	r.answers["GET sys/internal/ui/mounts/secret/app"] = func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, 403, "preflight capability check returned 403")
	}
	r.fails(exitServer, []string{"hint: permission denied on secret/app: your policies are default; none grants anything on or below its mount"}, "kv", "get", "secret/app")
}
