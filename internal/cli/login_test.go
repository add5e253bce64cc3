package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const loggedIn = `{"auth":{"client_token":"q.new","accessor":"acc","policies":["app","default"],"token_policies":["app","default"],"metadata":{"username":"ann"},"lease_duration":3600,"renewable":true}}`

func TestLoginUserpass(t *testing.T) {
	r := newRig(t)
	t.Setenv("BAO_TOKEN", "q.old")
	r.on("PUT auth/userpass/login/ann", 200, loggedIn)
	r.on("PUT auth/people/login/ann", 200, loggedIn)
	r.tty = &fakeTTY{answers: []string{" hunter2 "}}
	got := r.ok("login", "-method=userpass", "username=ann")
	wantBody(t, r.last(), `{"password":" hunter2 "}`)
	want(t, "token sent", r.last().header.Get("X-Vault-Token"), "")
	want(t, "prompt", strings.Join(r.tty.prompts, ""), "password (will be hidden): ")
	if !strings.Contains(got.out, "token_meta_username    ann\n") || strings.Contains(got.out+got.err, "hunter2") {
		t.Errorf("%+v", got)
	}
	b, _ := os.ReadFile(filepath.Join(os.Getenv("HOME"), ".vault-token"))
	want(t, "kept", string(b), "q.new")
	r.tty, r.stdin = nil, "hunter2\n"
	t.Setenv("USER", "ann")
	want(t, "token only", r.ok("login", "-method=userpass", "-path=people/", "-token-only", "password=-").out, "q.new")
	wantBody(t, r.last(), `{"password":"hunter2"}`)
	if got := r.ok("login", "-method=userpass", "username=ann", "password=hunter2"); !strings.Contains(got.err, "warning: a secret on the command line") {
		t.Errorf("%s", got.err)
	}
	r.fails(exitLocal, []string{"not a terminal", "hint: to read it from standard input, give password=-"}, "login", "-method=userpass", "username=ann")
	r.on("PUT auth/userpass/login/ann", 400, `{"errors":["invalid username or password"]}`)
	r.fails(exitServer, []string{"error logging in:", "invalid username or password"}, "login", "-method=userpass", "password=-")
}

func TestLoginAppRole(t *testing.T) {
	r := newRig(t)
	r.on("PUT auth/approle/login", 200, loggedIn)
	id := write(t, "role-id", "role\n")
	r.stdin = "s3cret\n"
	got := r.ok("login", "-method=approle", "-no-store", "-no-print", "role_id=@"+id, "secret_id=-")
	wantBody(t, r.last(), `{"role_id":"role","secret_id":"s3cret"}`)
	want(t, "output", got.out+got.err, "")
	r.ok("login", "-method=approle", "role_id=role", "secret_id=")
	wantBody(t, r.last(), `{"role_id":"role","secret_id":""}`)
	r.on("PUT auth/approle/login", 200, `{"wrap_info":{"token":"q.wrap","accessor":"acc","ttl":60}}`)
	os.Remove(filepath.Join(os.Getenv("HOME"), ".vault-token"))
	want(t, "wrapped", r.ok("login", "-method=approle", "-wrap-ttl=1m", "-field=wrapping_token", "role_id=@"+id, "secret_id=-").out, "q.wrap")
	if _, err := os.Stat(filepath.Join(os.Getenv("HOME"), ".vault-token")); err == nil {
		t.Error("the wrapping token was kept")
	}
	r.on("PUT auth/approle/login", 200, `{"data":{}}`)
	r.fails(exitServer, []string{"no token in it"}, "login", "-method=approle", "role_id=@"+id, "secret_id=-")
}

func TestLoginUsage(t *testing.T) {
	r := newRig(t)
	t.Setenv("USER", "")
	t.Setenv("LOGNAME", "")
	for _, c := range []struct{ text, args string }{
		{"the methods to log in with are", "-method=ldap"},
		{"role_id=ID says", "-method=approle secret_id=x"},
		{"username=NAME says", "-method=userpass password=x"},
		{"username=NAME says", "-method=userpass username=../sys password=x"},
		{"username=NAME says", "-method=userpass username=.. password=x"},
		{"username=NAME says", "-method=userpass username=a/ password=x"},
		{"too many arguments", "a b"},
		{"given as KEY=VALUE", "-method=userpass ann"},
	} {
		r.fails(exitLocal, []string{c.text}, append([]string{"login"}, strings.Fields(c.args)...)...)
	}
	if len(r.seen) > 0 {
		t.Errorf("sent %v", r.seen)
	}
}
