package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/audit"
	"github.com/quorate/quorate/internal/store"
)

// tape is what an audit device writes to. It takes as many lines as it is told, and then no more.
type tape struct {
	mu   sync.Mutex
	b    bytes.Buffer
	left int
}

const noEnd = 1 << 30

func (p *tape) Write(line []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left == 0 {
		return 0, errors.New("the tape is full")
	}
	p.left--
	return p.b.Write(line)
}

// takes lets it take so many more lines.
func (p *tape) takes(lines int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = lines
}

// text is what was written since the last call.
func (p *tape) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.b.Reset()
	return p.b.String()
}

// entries is text as the entries that it is.
func (p *tape) entries(t *testing.T) (list []auditEntry) {
	t.Helper()
	for line := range strings.Lines(p.text()) {
		var e auditEntry
		if err := json.Unmarshal([]byte(line), &e); err != nil || !strings.HasSuffix(line, "}\n") {
			t.Fatalf("an entry that is none: %v\n%s", err, line)
		}
		e.line = line
		list = append(list, e)
	}
	return list
}

// auditEntry is as much of an entry as these tests look at.
type auditEntry struct {
	Type string
	Auth map[string]any
	// A request's data is also in the entry of its response.
	Request struct {
		ID, Operation, Path string
		MountPoint          string `json:"mount_point"`
		ClientToken         string `json:"client_token"`
		Accessor            string `json:"client_token_accessor"`
		Data                map[string]any
	}
	Response *struct {
		Auth     map[string]any
		Data     map[string]any
		WrapInfo map[string]any `json:"wrap_info"`
	}
	Error string
	line  string
}

// taped is a server with one audit device, and what that writes to. It is neither initialised nor unsealed.
func taped(t *testing.T, more ...audit.Device) (*server, *tape) {
	t.Helper()
	s, p := newServer(t), &tape{left: noEnd}
	s.node.Audit = audit.New(audit.Options{Logger: slog.New(slog.NewJSONHandler(s.log, nil)), Now: s.clock.now, Stdout: p})
	s.api.Audit = s.node.Audit
	t.Cleanup(func() { s.node.Audit.Close() })
	if err := s.node.Audit.SetConfigured(append(more, audit.Device{Path: "tape/", Type: "stdout"})); err != nil {
		t.Fatal(err)
	}
	return s, p
}

// dump is the whole store as it is on the disk.
func (s *server) dump() map[string]string {
	s.t.Helper()
	all := map[string]string{}
	err := s.store.View(s.t.Context(), func(r store.Reader) error {
		clear(all)
		for e, err := range r.Scan("", "") {
			if err != nil {
				return err
			}
			all[e.Key] = string(e.Value)
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}

// changed are the keys of records that differ.
func changed(a, b map[string]string) (keys []string) {
	for key := range a {
		if a[key] != b[key] {
			keys = append(keys, key)
		}
	}
	for key := range b {
		if _, was := a[key]; !was {
			keys = append(keys, key)
		}
	}
	return slices.Sorted(slices.Values(keys))
}

// untold reports what is refused, or answered, before there is anything to be told: the operation isn't there, or it is
// a look at how the server is.
func untold(r *route, op operation) bool {
	if op == opList && r.ops[op] == nil && mounted(r) && strings.HasSuffix(r.path, "}") { // its path ends in a slash, so it is another one, which isn't there
		return false
	}
	return r.ops[op] == nil && (r.raw || r.authority != byToken) || r.quiet && op == opRead
}

// withFields is a body that has something in every field of a route, so that a handler which looks at them first shows.
func withFields(r *route) string {
	fields := map[string]any{}
	for field := range strings.SplitSeq(r.fields, ", ") {
		if name, _, _ := strings.Cut(field, " "); name != "" && name != "*" {
			fields[name] = []any{map[string]any{"x": 1}}
		}
	}
	text, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// Every route with every operation: when no device takes the entry, the answer is 500 and nothing has changed, whoever
// asks and whatever is in the body.
func TestNothingHappensUnaudited(t *testing.T) {
	s, p := taped(t)
	s.init(1, 1)
	s.unseal(1)
	s.mountAll()
	limited, _ := s.newToken(`{"policies":["root"],"num_uses":9,"ttl":"1h"}`)
	routes := everyRoute(t)
	p.takes(0)
	before := s.dump()
	for i := range routes {
		r := &routes[i]
		for _, op := range allOps {
			path := r.sample()
			if op == opList && r.ops[op] != nil && mounted(r) {
				path += "/"
			}
			for _, body := range []string{"{}", withFields(r)} {
				for name, token := range map[string]string{"root": s.root, "a token of limited uses": limited, "junk": "junk"} {
					got := s.do(verbs[op], path, body, withToken(token), mergePatch)
					if want := !untold(r, op); want != (got.code == 500) {
						t.Errorf("%s %s %s with %s: %d %s", verbs[op], path, body, name, got.code, got.text)
					} else if want && !strings.Contains(got.text, "no audit device could take the entry") {
						t.Errorf("%s %s: %s", verbs[op], path, got.text)
					}
				}
			}
		}
	}
	if keys := changed(before, s.dump()); len(keys) > 0 {
		t.Errorf("changed without an entry: %q", keys)
	}
	if s.node.Sealed() {
		t.Error("sealed without an entry")
	}
	if text := p.text(); strings.Contains(text, s.root) {
		t.Error("the token is in the log")
	}
}

// deed is a request that has an effect, or would show a secret.
type deed struct {
	method, path, body string
	options            []option
	secret             string // that the answer shows
}

// horseHash is bcrypt of "correct horse": to hash it anew for each deed takes long where races are looked for.
const horseHash = "$2a$10$Z53fd6ysUsiiH2GuKXoosuiFZOcyfiqLRla60dv57YsJoLBn1VxAi"

// deeds are made for a server as it is now, and each of them works on it.
func (s *server) deeds() map[string]deed {
	s.t.Helper()
	root := []option{withToken(s.root)}
	s.do("POST", "auth/userpass/users/alice", `{"password_hash":"`+horseHash+`"}`, root...).want(204)
	s.do("POST", "auth/approle/role/app", `{}`, root...).want(204)
	roleID := s.do("GET", "auth/approle/role/app/role-id", "", root...).want(200).in("data").str("role_id")
	secretID := s.do("POST", "auth/approle/role/app/secret-id", `{}`, root...).want(200).in("data").str("secret_id")
	s.do("POST", "one/seen", `{"v":"deed-canary"}`, root...).want(204)
	s.do("POST", "two/data/seen", `{"data":{"v":"deed-canary"}}`, root...).want(200)
	wrapping := s.do("GET", "one/seen", "", withToken(s.root), withHeader("X-Vault-Wrap-TTL", "60")).want(200).in("wrap_info").str("token")
	rewrapped := s.do("GET", "one/seen", "", withToken(s.root), withHeader("X-Vault-Wrap-TTL", "60")).want(200).in("wrap_info").str("token")
	victim, accessor := s.newToken(`{"ttl":"1h"}`)
	limited, _ := s.newToken(`{"policies":["root"],"num_uses":5,"ttl":"1h"}`)
	nonce := s.do("PUT", attempt, "", root...).want(200).str("nonce")
	quoted := func(name, value string) string { return fmt.Sprintf(`{%q:%q}`, name, value) }
	return map[string]deed{
		"token create":    {"POST", "auth/token/create", `{}`, root, ""},
		"token revoke":    {"POST", "auth/token/revoke-accessor", quoted("accessor", accessor), root, ""},
		"token renew":     {"POST", "auth/token/renew", quoted("token", victim), root, ""},
		"token role":      {"POST", "auth/token/roles/r", `{}`, root, ""},
		"a counted use":   {"GET", "auth/token/lookup-self", "", []option{withToken(limited)}, ""},
		"a refused use":   {"PUT", "sys/remount", `{}`, []option{withToken(limited)}, ""},
		"userpass":        {"POST", "auth/userpass/login/alice", `{"password":"correct horse"}`, nil, ""},
		"a failed login":  {"POST", "auth/userpass/login/alice", `{"password":"wrong"}`, nil, ""},
		"approle":         {"POST", "auth/approle/login", fmt.Sprintf(`{"role_id":%q,"secret_id":%q}`, roleID, secretID), nil, ""},
		"secret ID":       {"POST", "auth/approle/role/app/secret-id", `{}`, root, ""},
		"start":           {"PUT", "sys/rekey/init", `{"secret_shares":1,"secret_threshold":1}`, root, ""},
		"cancel":          {"DELETE", attempt, "", root, ""},
		"approve":         {"PUT", "sys/generate-root/update", keyBody(s.keys[0], nonce), nil, ""},
		"kv v1":           {"POST", "one/a", `{"v":"1"}`, root, ""},
		"kv v2":           {"POST", "two/data/a", `{"data":{"v":"1"}}`, root, ""},
		"kv v1 delete":    {"DELETE", "one/seen", "", root, ""},
		"kv v2 destroy":   {"PUT", "two/destroy/seen", `{"versions":[1]}`, root, ""},
		"kv v2 delete":    {"DELETE", "two/metadata/seen", "", root, ""},
		"kv v1 read":      {"GET", "one/seen", "", root, "deed-canary"},
		"kv v2 read":      {"GET", "two/data/seen", "", root, "deed-canary"},
		"kv v2 list":      {"LIST", "two/metadata", "", root, "seen"},
		"cubbyhole":       {"POST", "cubbyhole/a", `{"v":"1"}`, root, ""},
		"policy":          {"PUT", "sys/policies/acl/p", `{"policy":"path \"x\" { capabilities = [\"read\"] }"}`, root, ""},
		"mount":           {"POST", "sys/mounts/new", `{"type":"kv"}`, root, ""},
		"unmount":         {"DELETE", "sys/mounts/one", "", root, ""},
		"remount":         {"POST", "sys/remount", `{"from":"one","to":"three"}`, root, ""},
		"disable":         {"DELETE", "sys/auth/userpass", "", root, ""},
		"tune":            {"POST", "sys/mounts/one/tune", `{"description":"x"}`, root, ""},
		"quota":           {"POST", "sys/quotas/rate-limit/q", `{"rate":1000}`, root, ""},
		"CORS":            {"POST", "sys/config/cors", `{"allowed_origins":["https://a.example"]}`, root, ""},
		"revoke-prefix":   {"PUT", "sys/leases/revoke-prefix/auth/token", "", root, ""},
		"keyring":         {"PUT", "sys/rotate", "", root, ""},
		"wrap":            {"POST", "sys/wrapping/wrap", `{"v":"deed-canary"}`, []option{withToken(s.root), withHeader("X-Vault-Wrap-TTL", "60")}, ""},
		"wrapped read":    {"GET", "one/seen", "", []option{withToken(s.root), withHeader("X-Vault-Wrap-TTL", "60")}, ""},
		"unwrap":          {"POST", "sys/wrapping/unwrap", "", []option{withToken(wrapping)}, "deed-canary"},
		"rewrap":          {"POST", "sys/wrapping/rewrap", quoted("token", rewrapped), root, ""},
		"seal":            {"PUT", "sys/seal", "", root, ""},
		"token by a root": {"POST", "auth/token/create-orphan", `{"policies":["root"]}`, root, ""},
	}
}

func (s *server) perform(d deed) *response {
	s.t.Helper()
	return s.do(d.method, d.path, d.body, d.options...)
}

// What works with a device that takes entries does nothing and shows nothing without one, and is told of in two entries
// with the ID that the answer has.
func TestDeedsAreAudited(t *testing.T) {
	s, _ := taped(t)
	s.init(2, 2)
	s.unseal(2)
	s.mountAll()
	for _, name := range slices.Sorted(maps.Keys(s.deeds())) {
		t.Run(name, func(t *testing.T) {
			s, p := taped(t)
			s.init(2, 2)
			s.unseal(2)
			s.mountAll()
			d := s.deeds()[name]
			s.clock.step(time.Second)
			before, sealed := s.dump(), s.node.Sealed()
			p.text()
			p.takes(0)
			got := s.perform(d).want(500, "no audit device could take the entry")
			if d.secret != "" && strings.Contains(got.text, d.secret) {
				t.Errorf("shown without an entry: %s", got.text)
			}
			if keys := changed(before, s.dump()); len(keys) > 0 || s.node.Sealed() != sealed {
				t.Fatalf("changed without an entry: %q", keys)
			}
			if p.text() != "" {
				t.Fatal("the tape has taken something")
			}

			p.takes(noEnd)
			got = s.perform(d)
			if got.code >= 500 || strings.Contains(got.text, d.secret) == false {
				t.Fatalf("with a device that works: %d %s", got.code, got.text)
			}
			if d.secret == "" && len(changed(before, s.dump())) == 0 && !s.node.Sealed() {
				t.Fatalf("it has no effect at all: %d %s", got.code, got.text)
			}
			list := p.entries(t)
			if len(list) != 2 || list[0].Type != "request" || list[1].Type != "response" {
				t.Fatalf("%d entries: %+v", len(list), list)
			}
			for _, e := range list {
				if accessor, _ := e.Auth["accessor"].(string); accessor != e.Request.Accessor && list[0].Auth["accessor"] != nil {
					t.Errorf("the token of the request isn't that of the entry: %s", e.line)
				}
				if e.Request.ID == "" || e.Request.ID != list[0].Request.ID || e.Request.Path != strings.TrimSuffix(d.path, "/") {
					t.Errorf("the entry is of another request: %s", e.line)
				}
			}
			if id, ok := got.body["request_id"].(string); ok && id != "" && id != list[0].Request.ID && name != "unwrap" {
				t.Errorf("the answer is %s, the entry %s", id, list[0].Request.ID)
			}
			if failed := got.code >= 400; failed != (list[1].Error != "") || failed && !strings.Contains(got.text, list[1].Error) {
				t.Errorf("%d %s, and the entry says %q", got.code, got.text, list[1].Error)
			}
		})
	}
}

// An answer that no device took is not sent: not the secret, not the token, not the wrapping token.
func TestUnauditedAnswersAreNotSent(t *testing.T) {
	for _, name := range []string{"token create", "userpass", "approle", "kv v1 read", "kv v2 read", "unwrap", "wrapped read", "secret ID", "approve", "start"} {
		s, p := taped(t)
		s.init(1, 1)
		s.unseal(1)
		s.mountAll()
		d := s.deeds()[name]
		p.takes(1)
		got := s.perform(d).want(500, "no audit device could take the entry")
		if len(got.body) != 1 {
			t.Errorf("%s: %s", name, got.text)
		}
	}
}

// A token whose reply is not sent doesn't stay behind, where nobody knows it.
func TestUnauditedTokensDie(t *testing.T) {
	for _, name := range []string{"token create", "userpass", "approle", "wrapped read"} {
		s, p := taped(t)
		s.init(1, 1)
		s.unseal(1)
		s.mountAll()
		d := s.deeds()[name]
		tokens := func() int {
			p.takes(noEnd)
			return len(s.do("LIST", "auth/token/accessors", "", withToken(s.root)).want(200).in("data").body["keys"].([]any))
		}
		before := tokens()
		p.takes(1)
		s.perform(d).want(500)
		if after := tokens(); after != before {
			t.Errorf("%s: %d tokens, %d before", name, after, before)
		}
	}
}

// Every route with every operation has two entries, or none where there is nothing to tell; nothing in them is what was
// sent or shown.
func TestEveryRouteIsAudited(t *testing.T) {
	routes := everyRoute(t)
	for i := range routes {
		r := &routes[i]
		s, p := taped(t)
		s.init(1, 1)
		s.unseal(1)
		s.mountAll()
		for _, op := range allOps {
			for _, token := range []string{"junk-token-canary", s.root} {
				path := r.sample()
				if op == opList && r.ops[op] != nil && mounted(r) {
					path += "/"
				}
				p.text()
				got := s.do(verbs[op], path, "{}", withToken(token), mergePatch)
				list := p.entries(t)
				if untold(r, op) {
					if len(list) != 0 {
						t.Errorf("%s %s: %s", verbs[op], path, list[0].line)
					}
					continue
				}
				if len(list) != 2 || list[0].Type != "request" || list[1].Type != "response" || list[0].Request.ID != list[1].Request.ID {
					t.Errorf("%s %s with %.4s: %d %s: %d entries: %+v", verbs[op], path, token, got.code, got.text, len(list), list)
					continue
				}
				if list[0].Request.Operation != op.String() || list[0].Request.Path != strings.TrimSuffix(path, "/") {
					t.Errorf("%s %s: %s", verbs[op], path, list[0].line)
				}
				if (got.code >= 400) != (list[1].Error != "") && !(got.code == 404 && list[1].Response != nil) {
					t.Errorf("%s %s: %d, error %q", verbs[op], path, got.code, list[1].Error)
				}
				if got.code == 403 && r.authority == byToken && list[0].Error == "" {
					t.Errorf("%s %s: denied, and the request's entry doesn't say so", verbs[op], path)
				}
				for _, e := range list {
					if strings.Contains(e.line, token) {
						t.Errorf("%s %s: the token is in %s", verbs[op], path, e.line)
					}
				}
			}
			if r.path == "auth/token/revoke-self" || r.path == "sys/seal" || r.path == "sys/step-down" {
				break
			}
		}
	}
}

// One device that works is enough, whatever has become of another.
func TestOneDeviceIsEnough(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.log")
	s, p := taped(t, audit.Device{Path: "file/", Type: "file", Options: map[string]string{"file_path": file}})
	p.takes(0)
	s.init(2, 2)
	s.unseal(2)
	s.mountAll()
	for _, name := range slices.Sorted(maps.Keys(s.deeds())) {
		if name == "seal" || name == "revoke-prefix" || name == "disable" || name == "unmount" || name == "remount" {
			continue // others need what they take away
		}
		s.do("DELETE", attempt, "", withToken(s.root)).want(204)
		s.do("DELETE", "sys/rekey/init", "", withToken(s.root)).want(204)
		d := s.deeds()[name]
		if got := s.perform(d); got.code >= 500 || d.secret != "" && !strings.Contains(got.text, d.secret) {
			t.Errorf("%s: %d %s", name, got.code, got.text)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil || bytes.Count(b, []byte("\n")) < 100 || p.text() != "" {
		t.Errorf("%v, %d bytes", err, len(b))
	}
	for what, secret := range map[string]string{"a share": s.keys[0], "the root token": s.root, "a secret": "deed-canary", "a password": "correct horse"} {
		if bytes.Contains(b, []byte(secret)) {
			t.Errorf("%s is in the file", what)
		}
	}
	if s.do("PUT", "sys/seal", "", withToken(s.root)).want(204); !s.node.Sealed() {
		t.Error("not sealed")
	}
}

// While sealed there is no key to hash with: entries are written all the same, of init and unseal too, and hold no
// value; and without a device that takes them nothing happens.
func TestAuditWhileSealed(t *testing.T) {
	s, p := taped(t)
	const start = `{"secret_shares":3,"secret_threshold":2}`
	p.takes(0)
	empty := s.dump()
	s.do("PUT", "sys/init", start).want(500, "no audit device")
	if keys := changed(empty, s.dump()); len(keys) > 0 {
		t.Fatalf("initialised without an entry: %q", keys)
	}
	s.do("GET", "sys/init", "").want(200).is("initialized", false)
	p.takes(noEnd)
	s.init(3, 2)
	if list := p.entries(t); len(list) != 2 || list[0].Request.Path != "sys/init" {
		t.Errorf("init: %+v", list)
	}

	p.takes(0)
	before := s.dump()
	for _, path := range []string{"sys/seal-status", "sys/health?sealedcode=200", "sys/leader", "sys/init", "sys/ceremonies/holders", "sys/transcript"} {
		s.do("GET", path, "").want(200)
	}
	for range 3 {
		for _, body := range []string{`{"key":"` + s.keys[0] + `"}`, `{"key":"` + s.keys[1] + `"}`, `{"key":"00"}`, `{"reset":true}`, `{}`} {
			s.do("PUT", "sys/unseal", body).want(500, "no audit device")
		}
	}
	s.do("PUT", "sys/seal", "", withToken(s.root)).want(204) // there is nothing to be done
	s.do("PUT", "sys/init", start).want(500, "no audit device")
	s.do("GET", "sys/seal-status", "").want(200).is("progress", 0)
	if keys := changed(before, s.dump()); len(keys) > 0 || !s.node.Sealed() {
		t.Errorf("changed without an entry: %q", keys)
	}

	p.takes(noEnd)
	p.text()
	s.do("PUT", "sys/unseal", `{"key":"`+s.keys[0]+`"}`, withToken(s.root)).want(200)
	s.do("GET", "sys/seal-status", "").want(200).is("progress", 1)
	p.takes(0)
	s.do("PUT", "sys/unseal", `{"reset":true,"key":"`+s.keys[0]+`"}`).want(500)
	s.do("GET", "sys/seal-status", "").want(200).is("progress", 1)
	p.takes(noEnd)
	s.do("PUT", "sys/unseal", `{"key":"unseal-canary"}`).want(400)
	s.do("PUT", "sys/init", `{"secret_shares":"init-canary"}`)
	list := p.entries(t)
	if len(list) < 4 {
		t.Fatalf("%d entries", len(list))
	}
	for _, e := range list {
		for _, bad := range []string{s.keys[0], s.root, "canary", "hmac-sha256:"} {
			if strings.Contains(e.line, bad) {
				t.Errorf("%q is in an entry while sealed: %s", bad, e.line)
			}
		}
		if key, there := e.Request.Data["key"]; there && key != "redacted-while-sealed" {
			t.Errorf("the key is %v", key)
		}
	}
	p.text()
	s.do("PUT", "sys/unseal", `{"key":"`+s.keys[1]+`"}`).want(200).is("sealed", false)
	if list := p.entries(t); len(list) != 2 || strings.Contains(list[0].line+list[1].line, s.keys[1]) {
		t.Errorf("the last share: %+v", list)
	}
}

// What entries say of a refusal, of a login, of wrapping, and of who asked.
func TestWhatEntriesSay(t *testing.T) {
	s, p := taped(t)
	s.init(1, 1)
	s.unseal(1)
	s.mountAll()
	s.deeds()
	p.text()
	two := func() (auditEntry, auditEntry) {
		t.Helper()
		list := p.entries(t)
		if len(list) != 2 {
			t.Fatalf("%d entries: %+v", len(list), list)
		}
		return list[0], list[1]
	}
	weak, _ := s.newToken(`{"policies":["default"],"ttl":"1h"}`)
	p.text()

	s.do("GET", "one/seen", "", withToken(weak)).want(403)
	asked, answered := two()
	for _, e := range []auditEntry{asked, answered} {
		if e.Error != "permission denied" || e.Auth["policy_results"] == nil || fmt.Sprint(e.Auth["policies"]) != "[default]" || e.Request.MountPoint != "one/" {
			t.Errorf("denied: %s", e.line)
		}
	}
	if answered.Response != nil {
		t.Errorf("a denied request has a response: %s", answered.line)
	}
	s.do("GET", "one/seen", "", withToken("junk")).want(403)
	if asked, _ := two(); asked.Error != "permission denied" || asked.Auth["policies"] != nil || asked.Request.ClientToken == "" {
		t.Errorf("junk: %s", asked.line)
	}

	got := s.do("GET", "one/seen", "", withToken(s.root)).want(200)
	asked, answered = two()
	if asked.Error+answered.Error != "" || strings.Contains(answered.line, "deed-canary") ||
		!strings.HasPrefix(fmt.Sprint(answered.Response.Data["v"]), "hmac-sha256:") || asked.Request.ID != got.str("request_id") {
		t.Errorf("read: %s", answered.line)
	}
	s.do("GET", "one/none", "", withToken(s.root)).want(404)
	if _, answered = two(); answered.Error == "" {
		t.Errorf("nothing there: %s", answered.line)
	}

	got = s.do("POST", "auth/userpass/login/alice", `{"password":"correct horse"}`).want(200)
	asked, answered = two()
	if asked.Request.MountPoint != "auth/userpass/" || answered.Response == nil || answered.Response.Auth["client_token"] == nil ||
		fmt.Sprint(answered.Response.Auth["policies"]) != "[default]" {
		t.Errorf("login: %s", answered.line)
	}
	for _, secret := range []string{"correct horse", got.in("auth").str("client_token"), got.in("auth").str("accessor")} {
		if strings.Contains(asked.line+answered.line, secret) {
			t.Errorf("a secret of the login is in its entries")
		}
	}
	// The token that the login made is the one that asks next: the same hash.
	made := answered.Response.Auth["client_token"]
	s.do("GET", "auth/token/lookup-self", "", withToken(got.in("auth").str("client_token"))).want(200)
	if asked, _ = two(); asked.Request.ClientToken != made || asked.Auth["client_token"] != made {
		t.Errorf("the token isn't recognised: %v, %s", made, asked.line)
	}
	s.do("POST", "auth/userpass/login/alice", `{"password":"login-canary"}`).want(400)
	if _, answered = two(); answered.Error == "" || strings.Contains(answered.line, "canary") {
		t.Errorf("a failed login: %s", answered.line)
	}

	got = s.do("GET", "one/seen", "", withToken(s.root), withHeader("X-Vault-Wrap-TTL", "60")).want(200)
	wrapping := got.in("wrap_info").str("token")
	_, answered = two()
	if w := answered.Response.WrapInfo; w == nil || !strings.HasPrefix(fmt.Sprint(w["token"]), "hmac-sha256:") || w["creation_path"] != "one/seen" ||
		fmt.Sprint(w["ttl"]) != "60" || w["creation_time"] == nil || len(answered.Response.Data) != 0 || strings.Contains(answered.line, wrapping) {
		t.Errorf("wrapped: %s", answered.line)
	}
	s.do("POST", "sys/wrapping/unwrap", "", withToken(wrapping)).want(200, "deed-canary")
	asked, answered = two()
	if strings.Contains(asked.line+answered.line, "deed-canary") || strings.Contains(asked.line+answered.line, wrapping) || len(answered.Response.Data) == 0 {
		t.Errorf("unwrapped: %s", answered.line)
	}
	if asked.Request.ClientToken == "" {
		t.Errorf("the wrapping token that asks isn't in the entry: %s", asked.line)
	}
	wrapping = s.do("GET", "one/seen", "", withToken(s.root), withHeader("X-Vault-Wrap-TTL", "60")).want(200).in("wrap_info").str("token")
	p.text()
	s.do("POST", "sys/wrapping/unwrap", `{"token":"`+wrapping+`"}`, withToken(weak)).want(200, "deed-canary")
	if asked, answered = two(); asked.Request.ClientToken == "" || answered.Auth["accessor"] == nil {
		t.Errorf("who unwrapped can't be told from the entries: %s", answered.line)
	}

	// Fields that a mount says are no secrets are told as they are, others never.
	s.do("POST", "sys/mounts/one/tune", `{"audit_non_hmac_request_keys":"v","audit_non_hmac_response_keys":"v"}`, withToken(s.root)).want(204)
	p.text()
	s.do("POST", "one/b", `{"v":"shown","w":"hidden-canary"}`, withToken(s.root)).want(204)
	if asked, answered = two(); asked.Request.Data["v"] != "shown" || strings.Contains(asked.line+answered.line, "canary") {
		t.Errorf("clear fields: %s", asked.line)
	}
}
