package cli

import (
	"net/http"
	"strings"
	"testing"
)

const version3 = `"created_time":"2026-01-02T03:04:05Z","custom_metadata":null,"deletion_time":"","destroyed":false,"version":3`

// newKV is a rig with a mount of each version.
func newKV(t *testing.T) *rig {
	r := newRig(t)
	t.Setenv("BAO_TOKEN", "q.t")
	for _, path := range []string{"secret", "secret/app", "secret/none", "secret/data/app"} {
		r.on("GET sys/internal/ui/mounts/"+path, 200, `{"data":{"path":"secret/","type":"kv","options":{"version":"2"}}}`)
	}
	for _, path := range []string{"kv", "kv/app"} {
		r.on("GET sys/internal/ui/mounts/"+path, 200, `{"data":{"path":"kv/","type":"kv","options":null}}`)
	}
	for _, path := range []string{"secret/data/none", "secret/metadata/none", "secret/data/data/app"} {
		r.on("GET "+path, 404, `{"errors":[]}`)
	}
	r.on("GET secret/data/app", 200, `{"data":{"data":{"password":"hunter2","user":"ann","ttl":60},"metadata":{`+version3+`}}}`)
	r.on("GET kv/app", 200, `{"lease_duration":2764800,"data":{"user":"ann"}}`)
	r.on("PUT secret/data/app", 200, `{"data":{`+version3+`}}`)
	r.on("PUT kv/app", 204, nil)
	return r
}

func TestKVGet(t *testing.T) {
	r := newKV(t)
	want(t, "version 2", r.ok("kv", "get", "secret/app").out, `= Secret Path =
secret/data/app

======= Metadata =======
Key                Value
---                -----
created_time       2026-01-02T03:04:05Z
custom_metadata    <nil>
deletion_time      n/a
destroyed          false
version            3

====== Data ======
Key         Value
---         -----
password    hunter2
ttl         1m
user        ann
`)
	want(t, "version 1", r.ok("kv", "get", "/kv/app").out, "==== Data ====\nKey     Value\n---     -----\nuser    ann\n")
	want(t, "field", r.ok("kv", "get", "-field=password", "secret/app").out, "hunter2")
	want(t, "field of version 1", r.ok("kv", "get", "-field=user", "-mount=kv/", "app").out, "ann")
	want(t, "mount", r.ok("kv", "get", "-mount=secret", "-field=user", "/app").out, "ann")
	want(t, "json field", r.ok("kv", "get", "-field=ttl", "-format=json", "secret/app").out, "60\n")
	if got := r.ok("kv", "get", "-format=json", "-version=3", "secret/app"); !strings.Contains(got.out, `"password": "hunter2"`) || !strings.Contains(got.out, `"version": 3`) {
		t.Errorf("%s", got.out)
	}
	want(t, "query", r.last().query, "version=3")
	r.fails(exitServer, []string{"no value found at secret/data/none"}, "kv", "get", "secret/none")
	r.fails(exitServer, []string{"hint: leave data/ out of the path"}, "kv", "get", "secret/data/app")
	r.fails(exitLocal, []string{"no such field"}, "kv", "get", "-field=nope", "secret/app")
	r.fails(exitLocal, []string{"keeps no versions", "hint: quorate kv enable-versioning"}, "kv", "get", "-version=1", "kv/app")
	r.fails(exitLocal, []string{"give the path of the secret"}, "kv", "get", "-mount=secret")
}

// A deleted version is answered with 404 and its metadata.
func TestKVGetDeleted(t *testing.T) {
	r := newKV(t)
	r.on("GET secret/data/app", 404, `{"data":{"data":null,"metadata":{"deletion_time":"2026-01-02T03:04:05Z","destroyed":false,"version":3}}}`)
	got := r.ok("kv", "get", "secret/app")
	if !strings.Contains(got.out, "deletion_time    2026-01-02T03:04:05Z\n") || strings.Contains(got.out, " Data ") {
		t.Errorf("%s", got.out)
	}
	r.fails(exitServer, []string{"no value found"}, "kv", "get", "-field=password", "secret/app")
	r.fails(exitServer, []string{"no value found"}, "kv", "patch", "-method=rw", "secret/app", "x=y")
}

func TestKVPaths(t *testing.T) {
	r := newKV(t)
	for _, path := range []string{"secret/../sys/seal", "secret/./app", "secret//app", "/", ""} {
		r.fails(exitLocal, []string{"no empty parts and no . or .."}, "kv", "get", path)
	}
	r.fails(exitLocal, []string{"no empty parts"}, "kv", "delete", "-mount=secret", "../sys")
	want(t, "requests", strings.Repeat("x", len(r.seen)), "")
	r.on("GET sys/internal/ui/mounts/secret/app", 200, `{"data":{"path":"other/","options":{"version":"2"}}}`)
	r.fails(exitServer, []string{"unexpected answer", "a mount that the path is not in"}, "kv", "get", "secret/app")
	// An old server doesn't know the question.
	r.on("GET sys/internal/ui/mounts/kv/app", 404, `{"errors":["unsupported path"]}`)
	want(t, "old server", r.ok("kv", "get", "-field=user", "kv/app").out, "ann")
}

func TestKVPut(t *testing.T) {
	r := newKV(t)
	r.stdin = "s3cret"
	got := r.ok("kv", "put", "secret/app", "user=ann", "password=-", "n=@"+write(t, "n", "1\n"))
	wantBody(t, r.last(), `{"data":{"user":"ann","password":"s3cret","n":"1\n"},"options":{}}`)
	want(t, "stderr", got.err, "")
	if !strings.Contains(got.out, "version            3\n") || strings.Contains(got.out, "s3cret") {
		t.Errorf("%s", got.out)
	}
	r.stdin = `{"a":{"b":[1]}}`
	want(t, "field", r.ok("kv", "put", "-field=version", "-cas=0", "secret/app", "-").out, "3")
	wantBody(t, r.last(), `{"data":{"a":{"b":[1]}},"options":{"cas":0}}`)
	got = r.ok("kv", "put", "-mount=kv", "app", "password=x")
	wantBody(t, r.last(), `{"password":"x"}`)
	if got.out != "" || !strings.Contains(got.err, "warning: a secret on the command line") || !strings.Contains(got.err, "written to kv/app\n") {
		t.Errorf("%+v", got)
	}
	r.fails(exitLocal, []string{"keeps no versions"}, "kv", "put", "-cas=1", "kv/app", "x=y")
	r.fails(exitLocal, []string{"no data given"}, "kv", "put", "secret/app")
	r.fails(exitLocal, []string{"given as KEY=VALUE"}, "kv", "put", "secret/app", "x")
	r.answers["PUT secret/data/app"] = func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, 400, "check-and-set parameter did not match the current version")
	}
	r.fails(exitServer, []string{"did not match", "hint: somebody else wrote it first"}, "kv", "put", "-cas=1", "secret/app", "x=y")
}

// The request that is printed is the one for the secret, not the question before it.
func TestKVPrintsRequest(t *testing.T) {
	r := newKV(t)
	if got := r.ok("kv", "put", "-output-policy", "secret/app", "x=y"); !strings.Contains(got.out, `path "secret/data/app"`) {
		t.Errorf("%s", got.out)
	}
	if got := r.ok("kv", "get", "-output-curl-string", "secret/app"); !strings.Contains(got.out, "/v1/secret/data/app") {
		t.Errorf("%s", got.out)
	}
}

func TestKVWrapped(t *testing.T) {
	r := newKV(t)
	r.on("GET secret/data/app", 200, `{"wrap_info":{"token":"q.wrap","accessor":"acc","ttl":300,"creation_time":"2026-01-02T03:04:05Z","creation_path":"secret/data/app"}}`)
	want(t, "table", r.ok("kv", "get", "-wrap-ttl=5m", "secret/app").out, `Key                              Value
---                              -----
wrapping_token:                  q.wrap
wrapping_accessor:               acc
wrapping_token_ttl:              5m
wrapping_token_creation_time:    2026-01-02 03:04:05 +0000 UTC
wrapping_token_creation_path:    secret/data/app
`)
	want(t, "header", r.last().header.Get("X-Vault-Wrap-TTL"), "5m")
	want(t, "header of the question", r.seen[0].header.Get("X-Vault-Wrap-TTL"), "")
	t.Setenv("BAO_WRAP_TTL", "300")
	want(t, "field", r.ok("kv", "get", "-field=wrapping_token", "secret/app").out, "q.wrap")
}

func TestKVPatch(t *testing.T) {
	r := newKV(t)
	r.on("PATCH secret/data/app", 200, `{"data":{`+version3+`}}`)
	r.ok("kv", "patch", "-cas=3", "-remove-data=old", "secret/app", "user=bob")
	wantBody(t, r.last(), `{"data":{"user":"bob","old":null},"options":{"cas":3}}`)
	want(t, "type", r.last().header.Get("Content-Type"), "application/merge-patch+json")
	r.ok("kv", "patch", "-method=rw", "-remove-data=ttl", "-remove-data=password", "secret/app", "user=bob")
	wantBody(t, r.last(), `{"data":{"user":"bob"},"options":{"cas":3}}`)
	r.on("PATCH secret/data/app", 405, `{"errors":[]}`)
	r.ok("kv", "patch", "secret/app", "user=bob")
	wantBody(t, r.last(), `{"data":{"user":"bob","password":"hunter2","ttl":60},"options":{"cas":3}}`)
	r.fails(exitServer, []string{"error patching:", "Code: 405"}, "kv", "patch", "-method=patch", "secret/app", "user=bob")
	r.on("PATCH secret/data/none", 404, `{"errors":[]}`)
	r.fails(exitServer, []string{"no value found at secret/data/none"}, "kv", "patch", "secret/none", "user=bob")
	r.fails(exitLocal, []string{"keeps no versions"}, "kv", "patch", "kv/app", "user=bob")
	r.fails(exitLocal, []string{"-method is patch or rw"}, "kv", "patch", "-method=x", "secret/app", "user=bob")
	r.fails(exitLocal, []string{"no data given"}, "kv", "patch", "secret/app")
}

func TestKVVersions(t *testing.T) {
	r := newKV(t)
	for _, path := range []string{"DELETE secret/data/app", "DELETE kv/app", "DELETE secret/metadata/app", "PUT secret/delete/app", "PUT secret/undelete/app", "PUT secret/destroy/app"} {
		r.on(path, 204, nil)
	}
	for _, c := range []struct{ args, request, body string }{
		{"delete secret/app", "DELETE /v1/secret/data/app", ""},
		{"delete kv/app", "DELETE /v1/kv/app", ""},
		{"delete -versions=1,2 -versions=4 secret/app", "PUT /v1/secret/delete/app", `{"versions":[1,2,4]}`},
		{"undelete -versions=1 secret/app", "PUT /v1/secret/undelete/app", `{"versions":[1]}`},
		{"destroy -versions=1 -mount=secret app", "PUT /v1/secret/destroy/app", `{"versions":[1]}`},
		{"metadata delete secret/app", "DELETE /v1/secret/metadata/app", ""},
	} {
		got := r.ok(append([]string{"kv"}, strings.Fields(c.args)...)...)
		want(t, c.args, r.last().method+" "+r.last().path+r.last().body, c.request+c.body)
		if got.out != "" || !strings.Contains(got.err, "ed, if") {
			t.Errorf("%+v", got)
		}
	}
	r.fails(exitLocal, []string{"-versions says which"}, "kv", "destroy", "secret/app")
	r.fails(exitLocal, []string{"keeps no versions"}, "kv", "delete", "-versions=1", "kv/app")
	r.fails(exitLocal, []string{"invalid value for flag -versions"}, "kv", "delete", "-versions=x", "secret/app")
}

func TestKVRollback(t *testing.T) {
	r := newKV(t)
	r.answers["GET secret/data/app"] = func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Query().Get("version") {
		case "": // the latest was deleted, which is no hindrance
			reply(w, 404, `{"data":{"data":null,"metadata":{`+version3+`}}}`)
		case "1":
			reply(w, 200, `{"data":{"data":{"user":"ann"},"metadata":{"version":1}}}`)
		default:
			reply(w, 404, `{"data":{"data":null,"metadata":{"version":2,"destroyed":true}}}`)
		}
	}
	r.ok("kv", "rollback", "-version=1", "secret/app")
	wantBody(t, r.last(), `{"data":{"user":"ann"},"options":{"cas":3}}`)
	r.fails(exitServer, []string{"that version was deleted or destroyed"}, "kv", "rollback", "-version=2", "secret/app")
	r.fails(exitServer, []string{"no value found"}, "kv", "rollback", "-version=2", "secret/none")
	r.fails(exitLocal, []string{"-version says which one"}, "kv", "rollback", "secret/app")
}

func TestKVList(t *testing.T) {
	r := newKV(t)
	r.on("GET secret/metadata", 200, `{"data":{"keys":["app","team/"]}}`)
	r.on("GET kv", 200, `{"data":{"keys":["app"]}}`)
	want(t, "table", r.ok("kv", "list", "secret/").out, "Keys\n----\napp\nteam/\n")
	want(t, "json", r.ok("kv", "list", "-mount=kv", "-format=json").out, "[\n  \"app\"\n]\n")
	r.ok("kv", "list", "-after=app", "-limit=2", "secret")
	want(t, "query", r.last().query, "after=app&limit=2&list=true")
	r.fails(exitServer, []string{"no value found at secret/metadata/none"}, "kv", "list", "secret/none")
}

func TestKVMetadata(t *testing.T) {
	r := newKV(t)
	r.on("GET secret/metadata/app", 200, `{"data":{"cas_required":false,"current_version":11,"delete_version_after":"0s","versions":{
		"11":{"created_time":"b","deletion_time":"","destroyed":false},"9":{"created_time":"a","deletion_time":"","destroyed":true}}}}`)
	want(t, "get", r.ok("kv", "metadata", "get", "secret/app").out, `== Metadata Path ==
secret/metadata/app

========== Metadata ==========
Key                     Value
---                     -----
cas_required            false
current_version         11
delete_version_after    0s

====== Version 9 ======
Key              Value
---              -----
created_time     a
deletion_time    n/a
destroyed        true

===== Version 11 =====
Key              Value
---              -----
created_time     b
deletion_time    n/a
destroyed        false
`)
	want(t, "field", r.ok("kv", "metadata", "get", "-field=current_version", "secret/app").out, "11")
	r.on("PUT secret/metadata/app", 204, nil)
	r.on("PATCH secret/metadata/app", 204, nil)
	r.ok("kv", "metadata", "put", "-max-versions=5", "-cas-required", "-delete-version-after=1d", "-custom-metadata=a=b=c", "-custom-metadata=d=", "secret/app")
	wantBody(t, r.last(), `{"max_versions":5,"cas_required":true,"delete_version_after":"86400s","custom_metadata":{"a":"b=c","d":""}}`)
	r.ok("kv", "metadata", "patch", "-cas-required=false", "-remove-custom-metadata=a", "secret/app")
	wantBody(t, r.last(), `{"cas_required":false,"custom_metadata":{"a":null}}`)
	r.on("PATCH secret/metadata/none", 404, `{"errors":[]}`)
	r.fails(exitServer, []string{"no value found"}, "kv", "metadata", "patch", "secret/none")
	r.fails(exitServer, []string{"no value found"}, "kv", "metadata", "get", "secret/none")
	for _, flag := range []string{"-max-versions=-1", "-cas-required=maybe", "-delete-version-after=soon", "-custom-metadata==x"} {
		r.fails(exitLocal, nil, "kv", "metadata", "put", flag, "secret/app")
	}
	r.on("PUT sys/mounts/kv/tune", 204, nil)
	r.ok("kv", "enable-versioning", "kv/")
	wantBody(t, r.last(), `{"options":{"version":"2"}}`)
}
