package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTokenCreate(t *testing.T) {
	r := newRig(t)
	answer := `{"auth":{"client_token":"q.new","accessor":"acc","policies":["default"],"lease_duration":3600,"renewable":true},"warnings":["w"]}`
	for _, path := range []string{"create", "create/ops"} {
		r.on("POST auth/token/"+path, 200, answer)
	}
	want(t, "field", r.ok("token", "create", "-field=token").out, "q.new")
	wantBody(t, r.last(), `{"display_name":"","num_uses":0,"renewable":true,"type":"service","entity_alias":""}`)
	got := r.ok("token", "create", "-policy=a", "-policy", "b", "-ttl=1d", "-explicit-max-ttl=90", "-period=1h30m", "-renewable=false",
		"-orphan", "-use-limit=3", "-display-name=ann", "-metadata=k=v=w", "-metadata", "l=", "-no-default-policy", "-id=named-by-hand")
	wantBody(t, r.last(), `{"id":"named-by-hand","policies":["a","b"],"meta":{"k":"v=w","l":""},"ttl":"86400s","explicit_max_ttl":"90s","period":"5400s",
		"no_parent":true,"no_default_policy":true,"display_name":"ann","num_uses":3,"renewable":false,"type":"service","entity_alias":""}`)
	if !strings.Contains(got.out, "token_duration       1h\n") || got.err != "warning: w\n" {
		t.Errorf("%+v", got)
	}
	r.ok("token", "create", "-role=ops")
	want(t, "role", r.last().path, "/v1/auth/token/create/ops")
	r.fails(exitServer, []string{"error creating the token:"}, "token", "create", "-role=absent")
}

func TestDurations(t *testing.T) {
	for in, out := range map[string]string{"0": "0s", "90": "90s", "1m30s": "90s", "2h": "7200s", "7d": "604800s", "1.5h": "5400s"} {
		var d durationText
		if err := d.Set(in); err != nil || string(d) != out {
			t.Errorf("%s: %s, %v", in, d, err)
		}
	}
	for _, in := range []string{"", "-1", "-1h", "d", "1w", "99999999999999999999", "9999999999999d", "1h "} {
		var d durationText
		if err := d.Set(in); err == nil {
			t.Errorf("%q passed as %s", in, d)
		}
	}
}

func TestTokenLookup(t *testing.T) {
	r := newRig(t)
	r.on("GET auth/token/lookup-self", 200, lookup)
	r.on("POST auth/token/lookup", 200, lookup)
	r.on("POST auth/token/lookup-accessor", 200, lookup)
	if got := r.ok("token", "lookup"); !strings.Contains(got.out, "display_name        root\n") {
		t.Errorf("%s", got.out)
	}
	r.ok("token", "lookup", "q.other")
	wantBody(t, r.last(), `{"token":"q.other"}`)
	r.stdin = "q.piped\n"
	r.ok("token", "lookup", "-")
	wantBody(t, r.last(), `{"token":"q.piped"}`)
	r.ok("token", "lookup", "-accessor", "acc")
	wantBody(t, r.last(), `{"accessor":"acc"}`)
	r.stdin = ""
	r.fails(exitLocal, []string{"nothing was given"}, "token", "lookup", "-")
	r.on("GET auth/token/lookup-self", 403, `{"errors":["permission denied"]}`)
	r.fails(exitServer, []string{"error looking up the token:", "permission denied"}, "token", "lookup")
}

func TestTokenRenew(t *testing.T) {
	r := newRig(t)
	answer := `{"auth":{"client_token":"q.x","lease_duration":60,"renewable":true}}`
	r.on("PUT auth/token/renew-self", 200, answer)
	r.on("PUT auth/token/renew", 200, answer)
	r.on("POST auth/token/renew-accessor", 200, answer)
	if got := r.ok("token", "renew"); !strings.Contains(got.out, "token_duration       1m\n") {
		t.Errorf("%s", got.out)
	}
	wantBody(t, r.last(), `{"increment":0}`)
	r.ok("token", "renew", "-increment=1h", "q.other")
	wantBody(t, r.last(), `{"increment":3600,"token":"q.other"}`)
	r.ok("token", "renew", "-i=30", "-accessor", "acc")
	wantBody(t, r.last(), `{"increment":30,"accessor":"acc"}`)
	r.on("PUT auth/token/renew-self", 400, `{"errors":["invalid lease ID"]}`)
	r.fails(exitServer, []string{"invalid lease ID"}, "token", "renew")
}

func TestTokenRevoke(t *testing.T) {
	r := newRig(t)
	for _, path := range []string{"PUT auth/token/revoke", "PUT auth/token/revoke-self", "PUT auth/token/revoke-orphan", "POST auth/token/revoke-accessor"} {
		r.on(path, 204, nil)
	}
	for _, c := range []struct{ args, path, body string }{
		{"q.x", "revoke", `{"token":"q.x"}`},
		{"-self", "revoke-self", ``},
		{"-mode=orphan q.x", "revoke-orphan", `{"token":"q.x"}`},
		{"-accessor acc", "revoke-accessor", `{"accessor":"acc"}`},
	} {
		got := r.ok(append([]string{"token", "revoke"}, strings.Fields(c.args)...)...)
		want(t, c.args, r.last().path+" "+r.last().body, "/v1/auth/token/"+c.path+" "+c.body)
		if got.out != "" || !strings.Contains(got.err, "revoked") {
			t.Errorf("%s: %+v", c.args, got)
		}
	}
}

func TestLogin(t *testing.T) {
	r := newRig(t)
	r.on("GET auth/token/lookup-self", 200, lookup)
	file := filepath.Join(os.Getenv("HOME"), ".vault-token")
	r.tty = &fakeTTY{answers: []string{" q.mine "}}
	got := r.ok("login")
	if !strings.Contains(got.out, "token                q.mine\n") || !strings.Contains(got.out, "token_duration       1h30m\n") ||
		strings.Contains(got.err, "q.mine") {
		t.Errorf("%+v", got)
	}
	want(t, "sent", r.last().header.Get("X-Vault-Token"), "q.mine")
	b, err := os.ReadFile(file)
	if err != nil || string(b) != "q.mine" {
		t.Fatalf("%q, %v", b, err)
	}
	if info, _ := os.Stat(file); info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if left, _ := filepath.Glob(filepath.Join(os.Getenv("HOME"), ".vault-token-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}

	os.Remove(file)
	r.stdin = "q.piped\n"
	got = r.ok("login", "-no-store", "-")
	if _, err := os.Stat(file); err == nil || strings.Contains(got.err, "kept in") {
		t.Error("-no-store stored the token")
	}
	want(t, "token only", r.ok("login", "-token-only", "-").out, "q.piped")
	want(t, "no print", r.ok("login", "-no-print", "-").out, "")
	want(t, "field", r.ok("login", "-field=token_accessor", "-").out, "acc")
	// As people are used to, but not without a word.
	for _, arg := range []string{"q.argument", "token=q.argument"} {
		got = r.ok("login", arg)
		if !strings.Contains(got.err, "shell's history") {
			t.Errorf("%s", got.err)
		}
		want(t, "sent", r.last().header.Get("X-Vault-Token"), "q.argument")
	}
	// The file is replaced, not written to: whoever had it open before doesn't see the next token.
	os.Chmod(file, 0o644)
	r.ok("login", "-")
	if info, _ := os.Stat(file); info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	t.Setenv("VAULT_TOKEN", "q.env")
	if got := r.ok("login", "-"); !strings.Contains(got.err, "wins over") {
		t.Errorf("%s", got.err)
	}
	want(t, "the one to check", r.last().header.Get("X-Vault-Token"), "q.piped")
}

func TestLoginRefused(t *testing.T) {
	r := newRig(t)
	r.stdin = "q.dead"
	got := r.fails(exitServer, []string{"error checking the token:", "permission denied"}, "login", "-")
	if strings.Contains(got.err, "q.dead") {
		t.Errorf("the token shows: %s", got.err)
	}
	if _, err := os.Stat(filepath.Join(os.Getenv("HOME"), ".vault-token")); err == nil {
		t.Error("a dead token was kept")
	}
	r.on("GET auth/token/lookup-self", 200, `{"data":{"policies":"root"}}`)
	r.fails(exitServer, []string{"doesn't look like a token"}, "login", "-")
	r.on("GET auth/token/lookup-self", 200, `{"data":null,"request_id":"r"}`)
	r.fails(exitServer, []string{"no data"}, "login", "-")
	r.on("GET auth/token/lookup-self", 200, lookup)
	t.Setenv("BAO_TOKEN_PATH", "/nonexistent/token")
	r.fails(exitLocal, []string{"keeping the token:"}, "login", "-")
	r.fails(exitLocal, []string{"not a terminal", "hint"}, "login")
	r.tty = &fakeTTY{answers: []string{""}}
	r.fails(exitLocal, []string{"nothing was given"}, "login")
}
