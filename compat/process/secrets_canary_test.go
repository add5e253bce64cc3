package process

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/compat/harness"
)

// keeper is a server with secrets, and all that is known about them.
type keeper struct {
	*server
	c    harness.Canaries
	root string
	// What stands where no secret belongs: audit devices show it by design, and so may a list of mounts. Errors and the
	// log show nothing of a request all the same.
	misplaced harness.Canaries
}

// plant makes a secret that nobody else would write, with what JSON and URLs escape in it.
func (k *keeper) plant(what string) string {
	secret := fmt.Sprintf("canary %d <\"&%s\"> é/+ %02d canary", len(k.c)*7919+1_000_003, what[:4], len(k.c))
	k.knows(what, secret)
	return secret
}

// knows adds a secret in the forms that the harness doesn't look for: as it stands in JSON and in URLs.
func (k *keeper) knows(what, secret string) {
	k.c[what] = []byte(secret)
	for how, html := range map[string]bool{"as JSON": false, "as JSON for pages": true} {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(html)
		if err := e.Encode(secret); err != nil {
			k.t.Fatal(err)
		}
		if text := strings.Trim(b.String(), "\"\n"); text != secret {
			k.c[what+" "+how] = []byte(text)
		}
	}
	for _, text := range []string{url.QueryEscape(secret), url.PathEscape(secret), fmt.Sprintf("%q", secret)} {
		if text = strings.Trim(text, `"`); text != secret {
			k.c[what+" as "+text[:8]] = []byte(text)
		}
	}
}

// ask sends a body as it is, with what headers say.
func (k *keeper) ask(method, path, token, body string, headers ...string) (int, []byte) {
	k.t.Helper()
	req, err := http.NewRequest(method, "http://"+k.addr+"/v1/"+path, strings.NewReader(body))
	if err != nil {
		k.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("X-Vault-Token", token)
	}
	if method == "PATCH" {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		k.t.Fatal(err)
	}
	defer res.Body.Close()
	reply, err := io.ReadAll(res.Body)
	if err != nil {
		k.t.Fatal(err)
	}
	return res.StatusCode, reply
}

// good is ask for what works; it returns one part of the reply.
func (k *keeper) good(method, path, token string, body any, part string, headers ...string) map[string]any {
	k.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		k.t.Fatal(err)
	}
	code, reply := k.ask(method, path, token, string(text), headers...)
	if code != 200 && code != 204 {
		k.t.Fatalf("%s %s: %d %s", method, path, code, reply)
	}
	var fields map[string]any
	_ = json.Unmarshal(reply, &fields)
	got, _ := fields[part].(map[string]any)
	return got
}

// secretsEverywhere puts a secret of its own into every place that takes one, and uses each.
func (k *keeper) secretsEverywhere() {
	k.t.Helper()
	const wrap = "X-Vault-Wrap-TTL"
	k.good("POST", "one/a", k.root, map[string]any{"v": k.plant("a value of version 1"), "n": map[string]any{"deep": []string{k.plant("deep in a value")}}}, "")
	for i := range 3 {
		k.good("POST", "secret/data/a", k.root, map[string]any{"data": map[string]any{"v": k.plant(fmt.Sprintf("valu%d of version 2", i))}}, "")
	}
	k.good("PATCH", "secret/data/a", k.root, map[string]any{"data": map[string]any{"w": k.plant("a patch")}}, "")
	k.good("POST", "secret/metadata/a", k.root, map[string]any{"custom_metadata": map[string]string{"c": k.plant("custom metadata")}}, "")
	k.good("POST", "cubbyhole/a", k.root, map[string]any{"v": k.plant("cubbyhole")}, "")
	for _, path := range []string{"one/a", "secret/data/a", "secret/data/a?version=1", "secret/metadata/a", "secret/subkeys/a", "cubbyhole/a"} {
		k.good("GET", path, k.root, nil, "")
	}
	k.good("LIST", "secret/detailed-metadata", k.root, nil, "")
	k.good("DELETE", "secret/data/a?", k.root, nil, "")
	k.good("POST", "secret/destroy/a", k.root, map[string]any{"versions": []int{1}}, "")

	password := k.plant("pass of a user")
	k.good("POST", "auth/userpass/users/bob", k.root, map[string]any{"password": password, "token_policies": "default"}, "")
	login := k.good("POST", "auth/userpass/login/bob", "", map[string]any{"password": password}, "auth")
	k.knows("the token of a login", login["client_token"].(string))
	k.good("POST", "auth/userpass/users/bob/password", k.root, map[string]any{"password": k.plant("pass, the next")}, "")

	k.good("POST", "auth/approle/role/app", k.root, map[string]any{"token_policies": "default"}, "")
	roleID := k.good("GET", "auth/approle/role/app/role-id", k.root, nil, "data")["role_id"].(string)
	secretID := k.good("POST", "auth/approle/role/app/secret-id", k.root, map[string]any{"metadata": `{"k":"v"}`}, "data")["secret_id"].(string)
	custom := k.plant("custom secret ID")
	k.good("POST", "auth/approle/role/app/custom-secret-id", k.root, map[string]any{"secret_id": custom}, "")
	k.knows("a secret ID", secretID)
	for i, id := range []string{secretID, custom} {
		login = k.good("POST", "auth/approle/login", "", map[string]any{"role_id": roleID, "secret_id": id}, "auth")
		k.knows(fmt.Sprintf("token %d of a role", i), login["client_token"].(string))
	}
	k.good("POST", "auth/approle/role/app/secret-id/lookup", k.root, map[string]any{"secret_id": custom}, "")
	k.good("POST", "auth/approle/role/app/secret-id/destroy", k.root, map[string]any{"secret_id": secretID}, "")

	child := k.good("POST", "auth/token/create", k.root, map[string]any{"ttl": "1h"}, "auth")["client_token"].(string)
	k.knows("a token", child)
	k.good("POST", "auth/token/lookup", k.root, map[string]any{"token": child}, "")
	k.good("POST", "auth/token/renew", k.root, map[string]any{"token": child}, "")
	k.good("POST", "sys/capabilities", k.root, map[string]any{"token": child, "path": "secret/data/a"}, "")
	k.good("POST", "auth/token/revoke", k.root, map[string]any{"token": child}, "")

	token := func(info map[string]any) string {
		k.knows(fmt.Sprintf("wrap %d", len(k.c)), info["token"].(string))
		return info["token"].(string)
	}
	wrapping := token(k.good("GET", "secret/data/a?version=2", k.root, nil, "wrap_info", wrap, "5m"))
	k.good("POST", "sys/wrapping/lookup", k.root, map[string]any{"token": wrapping}, "")
	wrapping = token(k.good("POST", "sys/wrapping/rewrap", k.root, map[string]any{"token": wrapping}, "wrap_info"))
	k.good("POST", "sys/wrapping/unwrap", wrapping, nil, "")
	wrapping = token(k.good("POST", "sys/wrapping/wrap", k.root, map[string]any{"v": k.plant("wrapped by wish")}, "wrap_info", wrap, "5m"))
	k.good("POST", "sys/wrapping/unwrap", k.root, map[string]any{"token": wrapping}, "")
	token(k.good("POST", "auth/token/create", k.root, map[string]any{}, "wrap_info", wrap, "5m"))
	token(k.good("POST", "auth/approle/role/app/secret-id", k.root, map[string]any{}, "wrap_info", wrap, "5m"))
	k.good("POST", "sys/audit-hash/main", k.root, map[string]any{"input": k.plant("hash me please")}, "")
	k.good("POST", "sys/tools/hash", k.root, map[string]any{"input": "aGVsbG8gaGVsbG8gaGVsbG8gaGVsbG8="}, "")
	k.good("POST", "auth/userpass/login/alice", "", map[string]any{"password": string(k.c["the password in a file"])}, "")
}

// everyError sends secrets in the ways that end in an error, and looks at the errors.
func (k *keeper) everyError() {
	k.t.Helper()
	text := k.plant("sent by mistake")
	quoted, err := json.Marshal(text)
	if err != nil {
		k.t.Fatal(err)
	}
	q := string(quoted)
	misplaced := "canary where no secret belongs"
	k.misplaced = harness.Canaries{"what is misplaced": []byte(misplaced)}
	m := `"` + misplaced + `"`
	errors := 0
	for _, path := range []string{
		"one/b", "secret/data/b", "secret/metadata/b", "secret/config", "secret/destroy/b", "secret/b", "cubbyhole/b", "auth/userpass/users/eve", "auth/userpass/login/eve",
		"auth/userpass/login/bob", "auth/userpass/users/bob/password", "auth/approle/role/eve", "auth/approle/login", "auth/approle/role/app/secret-id/lookup",
		"auth/approle/role/app/custom-secret-id", "auth/approle/role/app/secret-id", "auth/token/create", "auth/token/lookup", "auth/token/roles/eve", "auth/token/renew",
		"sys/policies/acl/eve", "sys/policy/eve", "sys/policies/test", "sys/capabilities", "sys/mounts/eve", "sys/auth/eve", "sys/mounts/one/tune", "sys/remount", "sys/audit/eve",
		"sys/audit-hash/main", "sys/leases/lookup", "sys/leases/renew", "sys/leases/revoke", "sys/wrapping/wrap", "sys/wrapping/unwrap", "sys/wrapping/lookup",
		"sys/wrapping/rewrap", "sys/tools/hash", "sys/tools/random", "sys/quotas/rate-limit/eve", "sys/config/cors", "sys/nothing", "nothing/at/all",
	} {
		for _, body := range []string{
			q, `{"data":` + q, `{"v":` + q + `,"v":1}`, `{` + m + `:` + q + `}`, `{"data":` + q + `,"options":` + m + `}`, `{"data":{"v":` + q + `},"options":{"cas":7,"x":` + m + `}}`,
			`{"password":` + q + `,"token_policies":[{"x":` + m + `}],"token_ttl":` + m + `,"token_bound_cidrs":` + m + `}`,
			`{"role_id":` + q + `,"secret_id":` + q + `,"secret_id_accessor":` + m + `,"metadata":` + q + `,"cidr_list":` + m + `,"token_bound_cidrs":[` + m + `]}`,
			`{"token":` + q + `,"accessor":` + m + `,"lease_id":` + m + `,"increment":` + m + `,"policies":` + m + `,"ttl":` + m + `,"id":` + q + `}`,
			`{"policy":` + q + `,"path":` + m + `,"paths":` + m + `,"operation":` + m + `,"type":` + m + `,"config":` + m + `,"from":` + m + `,"to":` + m + `}`,
			`{"input":{"x":` + q + `},"bytes":` + m + `,"rate":` + m + `,"enable":` + m + `,"allowed_origins":{"a":` + m + `},"custom_metadata":{"x":{"y":` + q + `}},"max_versions":` + m + `,"versions":` + m + `}`,
		} {
			for _, token := range []string{k.root, text[:8] + "-" + strings.ReplaceAll(text, "é", "")} {
				method := "PUT"
				if strings.Contains(path, "/data/") && len(body)%2 == 0 {
					method = "PATCH"
				}
				code, reply := k.ask(method, path, token, body, "X-Vault-Namespace", "", "User-Agent", "a client", "X-Other", url.QueryEscape(text))
				if code >= 400 {
					errors++
				}
				if code >= 500 || code == 429 {
					k.t.Errorf("%s: %d %s", path, code, reply)
				}
				if code >= 400 {
					k.c.Absent(k.t, "the error of "+path, reply)
					k.misplaced.Absent(k.t, "the error of "+path, reply)
				}
			}
		}
	}
	if errors < 500 {
		k.t.Errorf("only %d errors", errors)
	}
}

// outside looks at what the system shows of the process.
func (k *keeper) outside() {
	k.t.Helper()
	if runtime.GOOS != "linux" {
		return
	}
	for _, name := range []string{"cmdline", "environ", "comm", "status"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", k.cmd.Process.Pid, name))
		if err != nil {
			k.t.Fatal(err)
		}
		k.c.Absent(k.t, name+" of the process", b)
	}
}

// rotated moves an audit file away and waits until there is a new one.
func (k *keeper) rotated(path string) {
	k.t.Helper()
	err := os.Rename(path, strings.TrimSuffix(path, ".log")+".1.log")
	if err == nil {
		err = k.cmd.Process.Signal(syscall.SIGHUP)
	}
	for until := time.Now().Add(20 * time.Second); err == nil; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
		if time.Now().After(until) {
			k.t.Fatal("SIGHUP opens no new file")
		}
	}
	k.t.Fatal(err)
}

// Secrets, passwords, secret IDs and tokens of all kinds stay where they belong: none of them is in the log of the most
// talkative server, in audit files, errors, metrics or other reports, in the database, or in what the system shows of
// the process, in any form.
func TestNoKeptSecretAnywhereElse(t *testing.T) {
	s := newServer(t)
	k := &keeper{server: s, c: harness.Canaries{}}
	const inFile = "a password 0 that stands in a file of its own"
	k.knows("the password in a file", inFile)
	file := filepath.Join(t.TempDir(), "alice")
	if err := os.WriteFile(file, []byte(inFile), 0o600); err != nil {
		t.Fatal(err)
	}
	logs := filepath.Join(s.dir, "logs")
	if err := os.Mkdir(logs, 0o700); err != nil {
		t.Fatal(err)
	}
	s.configure(fmt.Sprintf(`log_level = "trace"
audit_dir = %q
audit "file" "main" { file_path = %q }
initialize {
  mount "secret" {
    type    = "kv"
    options = { version = 2 }
  }
  auth "userpass" {}
  auth "approle" {}
  user "alice" {
    password_file = %q
    policies      = ["default"]
  }
}
`, logs, filepath.Join(logs, "main.log"), file))
	s.start()
	p := s.init(2, 2)
	k.root = p.root
	k.knows("the root token", p.root)
	for i, share := range p.shares {
		k.c[fmt.Sprintf("share %d", i)] = unhex(t, share)
	}
	s.unseal(p)
	k.good("POST", "sys/mounts/one", k.root, map[string]any{"type": "kv"}, "")
	k.good("POST", "sys/audit/second", k.root, map[string]any{
		"type": "file", "options": map[string]string{"file_path": filepath.Join(logs, "second.log"), "sync": "true", "elide_list_responses": "true"},
	}, "")
	k.secretsEverywhere()
	k.everyError()
	for _, path := range []string{
		"sys/metrics", "sys/internal/specs/openapi", "sys/transcript/entries?limit=1000", "sys/mounts", "sys/auth", "sys/audit", "sys/internal/ui/mounts", "sys/seal-status", "sys/health",
		"sys/policies/acl?list=true", "sys/leases/lookup/?list=true", "auth/userpass/users/bob", "auth/approle/role/app", "auth/approle/role/app/secret-id?list=true",
		"auth/userpass/users?list=true", "secret/config", "secret/metadata?list=true",
	} {
		code, b := k.ask("GET", path, k.root, "")
		if code != 200 {
			t.Errorf("%s: %d %s", path, code, b)
		}
		k.c.Absent(t, path, b)
	}
	k.outside()
	s.must("PUT", "sys/seal", k.root, nil)
	s.must("PUT", "sys/unseal", "", map[string]any{"key": p.shares[0], "reset": false})
	k.rotated(filepath.Join(logs, "main.log"))
	s.unseal(p)
	// What is kept is there: the search above looks for the right thing.
	if _, b := k.ask("GET", "one/a", k.root, ""); !bytes.Contains(b, k.c["a value of version 1 as JSON"]) && !bytes.Contains(b, k.c["a value of version 1 as JSON for pages"]) {
		t.Errorf("the secret isn't there: %s", b)
	}
	s.stop()

	log := s.log.String()
	if !strings.Contains(log, "secret/data") && !strings.Contains(log, "data/{path...}") {
		t.Errorf("the log is not as talkative as this test needs it:\n%.2000s", log)
	}
	k.c.Absent(t, "the log", []byte(log))
	k.misplaced.Absent(t, "the log", []byte(log))
	entries := 0
	s.files(func(path string, b []byte) {
		if strings.HasSuffix(path, ".log") {
			entries += bytes.Count(b, []byte("hmac-sha256:"))
		}
		k.c.Absent(t, path, b)
	})
	if entries < 1000 {
		t.Errorf("only %d hashes in the audit files", entries)
	}
}
