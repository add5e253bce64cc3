package cli

import (
	"net/http"
	"strings"
	"testing"
)

const mounts = `{"data":{
	"secret/":{"type":"kv","accessor":"kv_1","description":"","uuid":"u1","options":{"version":"2"},"config":{"default_lease_ttl":0,"max_lease_ttl":3600,"force_no_cache":false},"local":false,"seal_wrap":false},
	"cubbyhole/":{"type":"cubbyhole","accessor":"cubbyhole_1","description":"per-token store","uuid":"u2","options":null,"config":{"default_lease_ttl":0,"max_lease_ttl":0},"local":true,"seal_wrap":false}}}`

func TestMountList(t *testing.T) {
	r := newRig(t)
	r.on("GET sys/mounts", 200, mounts)
	r.on("GET sys/auth", 200, `{"data":{"token/":{"type":"token","accessor":"token_1","description":"token based credentials"}}}`)
	want(t, "secrets", r.ok("secrets", "list").out, `Path          Type         Accessor       Description
----          ----         --------       -----------
cubbyhole/    cubbyhole    cubbyhole_1    per-token store
secret/       kv           kv_1           n/a
`)
	want(t, "auth", r.ok("auth", "list").out, `Path      Type     Accessor    Description
----      ----     --------    -----------
token/    token    token_1     token based credentials
`)
	got := r.ok("secrets", "list", "-detailed").out
	for _, text := range []string{"Max TTL", "system         system ", "system         3600 ", "map[version:2]", "local", "u2\n"} {
		if !strings.Contains(got, text) {
			t.Errorf("no %q in\n%s", text, got)
		}
	}
	if got := r.ok("secrets", "list", "-format=json").out; !strings.Contains(got, `"max_lease_ttl": 3600`) {
		t.Errorf("%s", got)
	}
	r.on("GET sys/mounts", 200, `{"wrap_info":{"token":"q.wrap"}}`)
	want(t, "wrapped", r.ok("secrets", "list", "-wrap-ttl=1m", "-format=json").out[:1], "{")
}

func TestMountChanges(t *testing.T) {
	r := newRig(t)
	for _, path := range []string{"PUT sys/mounts/kv", "PUT sys/mounts/team/kv", "PUT sys/auth/userpass", "PUT sys/mounts/kv/tune", "PUT sys/mounts/auth/userpass/tune", "DELETE sys/mounts/kv", "DELETE sys/auth/userpass"} {
		r.on(path, 204, nil)
	}
	for _, c := range []struct{ args, request, body, says string }{
		{"secrets enable kv", "PUT sys/mounts/kv", `{"type":"kv","config":{}}`, "enabled the secrets engine kv at kv/"},
		{
			"secrets enable -path=/team/kv/ -version=2 -description=x -local -options=a=b -default-lease-ttl=1h -force-no-cache kv", "PUT sys/mounts/team/kv",
			`{"type":"kv","description":"x","local":true,"options":{"version":"2","a":"b"},"config":{"default_lease_ttl":"3600s","force_no_cache":true}}`, "at team/kv/",
		},
		{
			"secrets tune -max-lease-ttl=1d -description= -audit-non-hmac-request-keys=a -audit-non-hmac-request-keys=b kv/", "PUT sys/mounts/kv/tune",
			`{"max_lease_ttl":"86400s","description":"","audit_non_hmac_request_keys":["a","b"]}`, "tuned kv/",
		},
		{"secrets tune -version=2 kv", "PUT sys/mounts/kv/tune", `{"options":{"version":"2"}}`, "tuned"},
		{"secrets disable kv/", "DELETE sys/mounts/kv", ``, "disabled the secrets engine, if there was one, at kv/"},
		{"auth enable -token-type=service userpass", "PUT sys/auth/userpass", `{"type":"userpass","config":{"token_type":"service"}}`, "enabled the auth method userpass at userpass/"},
		{"auth tune -listing-visibility=unauth userpass", "PUT sys/mounts/auth/userpass/tune", `{"listing_visibility":"unauth"}`, "tuned auth/userpass/"},
		{"auth disable userpass", "DELETE sys/auth/userpass", ``, "disabled"},
	} {
		got := r.ok(strings.Fields(c.args)...)
		want(t, c.args, r.last().method+" "+strings.TrimPrefix(r.last().path, "/v1/"), c.request)
		if c.body != "" {
			wantBody(t, r.last(), c.body)
		}
		if got.out != "" || !strings.Contains(got.err, c.says) {
			t.Errorf("%s: %+v", c.args, got)
		}
	}
	r.fails(exitLocal, []string{"nothing to change"}, "secrets", "tune", "kv")
	r.fails(exitLocal, []string{"must be a number"}, "secrets", "enable", "-version=two", "kv")
	r.answers["PUT sys/mounts/kv"] = func(w http.ResponseWriter, _ *http.Request) { refuse(w, 400, "path is already in use at kv/") }
	r.fails(exitServer, []string{"error enabling:", "already in use"}, "secrets", "enable", "kv")
}

func TestMountMove(t *testing.T) {
	r := newRig(t)
	r.on("PUT sys/remount", 200, `{"data":{"migration_id":"m1"}}`)
	status := func(s string) {
		r.on("GET sys/remount/status/m1", 200, `{"data":{"migration_id":"m1","migration_info":{"source_mount":"a","target_mount":"b","status":"`+s+`"}}}`)
	}
	status("success")
	if got := r.ok("secrets", "move", "kv/", "old"); got.err != "moved kv/ to old/\n" {
		t.Errorf("%+v", got)
	}
	wantBody(t, r.given(), `{"from":"kv/","to":"old/"}`)
	r.ok("auth", "move", "userpass", "people/")
	wantBody(t, r.given(), `{"from":"auth/userpass/","to":"auth/people/"}`)
	status("failure")
	r.fails(exitServer, []string{"could not move the mount"}, "secrets", "move", "kv", "old")
	r.on("PUT sys/remount", 400, `{"errors":["no matching mount"]}`)
	r.fails(exitServer, []string{"error moving:"}, "secrets", "move", "kv", "old")
}

func TestAudit(t *testing.T) {
	r := newRig(t)
	r.on("GET sys/audit", 200, `{"data":{}}`)
	r.fails(exitServer, []string{"no audit device is enabled"}, "audit", "list")
	r.on("GET sys/audit", 200, `{"data":{"file/":{"type":"file","description":"","local":false,"path":"file/","options":{"file_path":"/a","mode":"0600"}}}}`)
	want(t, "list", r.ok("audit", "list").out, "Path     Type    Description\n----     ----    -----------\nfile/    file    n/a\n")
	want(t, "detailed", r.ok("audit", "list", "-detailed").out, `Path     Type    Description    Replication    Options
----     ----    -----------    -----------    -------
file/    file    n/a            replicated     file_path=/a mode=0600
`)
	r.on("PUT sys/audit/second", 204, nil)
	r.on("DELETE sys/audit/second", 204, nil)
	r.ok("audit", "enable", "-path=second/", "-description=d", "file", "file_path=/b", "sync=true")
	wantBody(t, r.last(), `{"type":"file","description":"d","options":{"file_path":"/b","sync":"true"}}`)
	r.ok("audit", "disable", "second/")
	want(t, "disable", r.last().method, "DELETE")

	r.on("PUT sys/audit-hash/file", 200, `{"data":{"hash":"hmac-sha256:00"}}`)
	r.stdin = "s3cret\n"
	want(t, "hash", r.ok("audit", "hash", "-field=hash", "file", "-").out, "hmac-sha256:00")
	wantBody(t, r.last(), `{"input":"s3cret"}`)
	r.tty = &fakeTTY{answers: []string{"typed"}}
	r.ok("audit", "hash", "file/")
	wantBody(t, r.last(), `{"input":"typed"}`)
	got := r.fails(exitLocal, []string{"the text is asked for"}, "audit", "hash", "file", canary)
	hides(t, got.err)
}

func TestLease(t *testing.T) {
	r := newRig(t)
	for _, path := range []string{"revoke", "revoke-prefix/auth/userpass", "revoke-force/auth/userpass"} {
		r.on("PUT sys/leases/"+path, 204, nil)
	}
	r.on("PUT sys/leases/lookup", 200, `{"data":{"id":"a/b","ttl":3600,"renewable":true}}`)
	want(t, "lookup", r.ok("lease", "lookup", "a/b").out, "Key          Value\n---          -----\nid           a/b\nrenewable    true\nttl          1h\n")
	wantBody(t, r.last(), `{"lease_id":"a/b"}`)
	r.on("PUT sys/leases/renew", 200, `{"lease_id":"a/b","renewable":true,"lease_duration":7200}`)
	want(t, "renew", r.ok("lease", "renew", "-increment=2h", "a/b").out,
		"Key                Value\n---                -----\nlease_id           a/b\nlease_duration     2h\nlease_renewable    true\n")
	wantBody(t, r.last(), `{"lease_id":"a/b","increment":7200}`)
	for _, c := range []struct{ args, path, body string }{
		{"-sync a/b", "revoke", `{"lease_id":"a/b","sync":true}`},
		{"-prefix auth/userpass/", "revoke-prefix/auth/userpass", `{"sync":false}`},
		{"-prefix -force auth/userpass", "revoke-force/auth/userpass", `{}`},
	} {
		r.ok(append([]string{"lease", "revoke"}, strings.Fields(c.args)...)...)
		want(t, c.args, r.last().path, "/v1/sys/leases/"+c.path)
		wantBody(t, r.last(), c.body)
	}
	r.fails(exitLocal, []string{"-force goes with -prefix"}, "lease", "revoke", "-force", "a/b")
	r.fails(exitServer, []string{"error renewing the lease:"}, "lease", "renew", "-address="+r.url+"/none", "a/b")
}

func TestUnwrap(t *testing.T) {
	r := newRig(t)
	r.on("PUT sys/wrapping/unwrap", 200, `{"data":{"data":{"a":"b"},"metadata":{}}}`)
	r.stdin = "q.wrap\n"
	r.ok("unwrap", "-") // without a token of one's own, it is the wrapping token that speaks
	want(t, "token", r.last().header.Get("X-Vault-Token")+r.last().body, "q.wrapnull")
	t.Setenv("BAO_TOKEN", "q.mine")
	got := r.ok("unwrap", "-format=json", "q.wrap")
	wantBody(t, r.last(), `{"token":"q.wrap"}`)
	if !strings.Contains(got.err, "shell's history") || !strings.Contains(got.out, `"a": "b"`) {
		t.Errorf("%+v", got)
	}
	r.ok("unwrap")
	want(t, "token", r.last().header.Get("X-Vault-Token")+r.last().body, "q.minenull")
	r.on("PUT sys/wrapping/unwrap", 200, `{"auth":{"client_token":"q.new","accessor":"acc"}}`)
	want(t, "field", r.ok("unwrap", "-field=token", "-").out, "q.new")
	r.stdout = fullWriter{}
	r.fails(exitLocal, []string{"hint: the wrapping token is used up"}, "unwrap", "-")
	r.stdout = nil
	r.on("PUT sys/wrapping/unwrap", 400, `{"errors":["wrapping token is not valid or does not exist"]}`)
	r.fails(exitServer, []string{"error unwrapping:", "is not valid"}, "unwrap", "-")
}
