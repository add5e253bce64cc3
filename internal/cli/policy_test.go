package cli

import (
	"os"
	"strings"
	"testing"
)

const rules = `path "secret/data/app" {
  capabilities = ["read"]
}
`

func TestPolicies(t *testing.T) {
	r := newRig(t)
	r.on("GET sys/policies/acl", 200, `{"data":{"keys":["app","default","root"]}}`)
	want(t, "list", r.ok("policy", "list").out, "app\ndefault\nroot\n")
	want(t, "query", r.last().query, "list=true")
	want(t, "json", r.ok("policy", "list", "-format=json").out, "[\n  \"app\",\n  \"default\",\n  \"root\"\n]\n")
	r.on("GET sys/policies/acl/app", 200, map[string]any{"data": map[string]any{"name": "app", "policy": rules}})
	want(t, "read", r.ok("policy", "read", "app").out, rules)
	want(t, "json", r.ok("policy", "read", "-format=json", "app").out,
		`{`+"\n"+`  "policy": "path \"secret/data/app\" {\n  capabilities = [\"read\"]\n}\n"`+"\n}\n")
	r.on("GET sys/policies/acl/none", 404, `{"errors":[]}`)
	r.fails(exitServer, []string{"no policy of this name", "hint: quorate policy list"}, "policy", "read", "none")
	r.on("DELETE sys/policies/acl/app", 204, nil)
	if got := r.ok("policy", "delete", "app"); !strings.Contains(got.err, "deleted the policy, if it existed: app") {
		t.Errorf("%+v", got)
	}
}

func TestPolicyWrite(t *testing.T) {
	r := newRig(t)
	r.on("PUT sys/policies/acl/app", 200, `{"warnings":["policy name was converted to lower case"]}`)
	file := write(t, "app.hcl", rules)
	got := r.ok("policy", "write", "app", file)
	wantBody(t, r.last(), string(jsonBody(map[string]string{"policy": rules})))
	want(t, "stderr", got.out+got.err, "warning: policy name was converted to lower case\nwrote the policy app\n")
	r.stdin = rules
	r.ok("policy", "write", "app", "-")
	wantBody(t, r.last(), string(jsonBody(map[string]string{"policy": rules})))
	r.stdin = " \n"
	r.fails(exitLocal, []string{"the policy is empty"}, "policy", "write", "app", "-")
	r.fails(exitLocal, []string{"reading the policy: "}, "policy", "write", "app", "/nonexistent")
	r.on("PUT sys/policies/acl/app", 400, `{"errors":["line 1: unknown key"]}`)
	r.fails(exitServer, []string{"error writing the policy:", "line 1"}, "policy", "write", "app", file)
}

func TestPolicyFmt(t *testing.T) {
	r := newRig(t)
	const untidy = "path \"secret/data/app\" {\n capabilities=[\"read\"]\n}\n"
	r.stdin = untidy
	want(t, "stdin", r.ok("policy", "fmt", "-").out, rules)
	file := write(t, "app.hcl", untidy)
	os.Chmod(file, 0o640)
	want(t, "output", r.ok("policy", "fmt", file).out, "")
	b, _ := os.ReadFile(file)
	want(t, "file", string(b), rules)
	if info, _ := os.Stat(file); info.Mode() != 0o640 {
		t.Errorf("mode %v", info.Mode())
	}
	broken := write(t, "broken.hcl", `path "a" {`)
	r.fails(exitLocal, []string{"error: " + broken + ": "}, "policy", "fmt", broken)
	r.fails(exitLocal, []string{"reading the policy"}, "policy", "fmt", "/nonexistent")
	if len(r.seen) > 0 {
		t.Error("a server was asked")
	}
}

func TestPolicyTest(t *testing.T) {
	r := newRig(t)
	r.on("PUT sys/policies/test", 200, `{"data":{"allowed":true,"reason":"granted","capabilities":["read"],"rule":"secret/data/+","policies":["app"],"sudo_needed":false}}`)
	want(t, "table", r.ok("policy", "test", "-policy=app", "-policy=default", "read", "/secret/data/app").out, `Key             Value
---             -----
allowed         true
reason          granted
capabilities    read
rule            secret/data/+
policies        app
sudo_needed     false
`)
	wantBody(t, r.last(), `{"operation":"read","path":"secret/data/app","policies":["app","default"]}`)
	r.ok("policy", "test", "-accessor=acc", "-sudo", "list", "sys/audit")
	wantBody(t, r.last(), `{"operation":"list","path":"sys/audit","accessor":"acc","sudo":true}`)
	r.stdin = "q.other\n"
	r.ok("policy", "test", "-token=-", "read", "a")
	wantBody(t, r.last(), `{"operation":"read","path":"a","token":"q.other"}`)

	r.on("PUT sys/policies/test", 200, `{"data":{"allowed":false,"reason":"no rule","capabilities":["deny"],"rule":"","policies":[],"sudo_needed":false}}`)
	got := r.fails(exitServer, nil, "policy", "test", "-format=json", "read", "a")
	if !strings.Contains(got.out, `"allowed": false`) || got.err != "" {
		t.Errorf("%+v", got)
	}
	want(t, "field", r.fails(exitServer, nil, "policy", "test", "-field=reason", "read", "a").out, "no rule")
	// What is no answer has another exit code.
	r.on("PUT sys/policies/test", 400, `{"errors":["invalid accessor"]}`)
	r.fails(exitLocal, []string{"error testing:", "invalid accessor"}, "policy", "test", "-accessor=x", "read", "a")
	r.on("PUT sys/policies/test", 200, `{"data":{}}`)
	r.fails(exitLocal, []string{"unexpected answer"}, "policy", "test", "read", "a")
	r.fails(exitLocal, []string{"the operation is one of"}, "policy", "test", "eat", "a")
	r.fails(exitLocal, []string{"exclude each other"}, "policy", "test", "-policy=a", "-accessor=b", "read", "a")
}

func TestTokenCapabilities(t *testing.T) {
	r := newRig(t)
	const answer = `{"data":{"secret/a":["list","read"],"capabilities":["list","read"]}}`
	for _, path := range []string{"capabilities", "capabilities-self", "capabilities-accessor"} {
		r.on("PUT sys/"+path, 200, answer)
	}
	want(t, "self", r.ok("token", "capabilities", "/secret/a").out, "list, read\n")
	want(t, "json", r.ok("token", "capabilities", "-format=json", "q.x", "secret/a").out, "[\n  \"list\",\n  \"read\"\n]\n")
	wantBody(t, r.last(), `{"token":"q.x","paths":["secret/a"]}`)
	r.stdin = "q.piped"
	r.ok("token", "capabilities", "-", "secret/a")
	wantBody(t, r.last(), `{"token":"q.piped","paths":["secret/a"]}`)
	r.ok("token", "capabilities", "-accessor", "acc", "secret/a")
	want(t, "path", r.last().path, "/v1/sys/capabilities-accessor")
	wantBody(t, r.last(), `{"accessor":"acc","paths":["secret/a"]}`)
	r.fails(exitLocal, []string{"-accessor needs the accessor"}, "token", "capabilities", "-accessor", "secret/a")
}
