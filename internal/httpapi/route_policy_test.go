package httpapi

import (
	"bufio"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/store"
)

// The paths of the secrets that are planted, in each mount. Each folder also has a secret whose name is in no other.
var planted = []string{
	"a", "a/b", "a/b/c", "A", "A/b", "ab", "a b", "a+b", "a*", "a%b", "a%2fb", "a.b", ".a", "..a", "a..", "+", "+/b", "*", "ä", "ä/b", "data", "data/a",
	"metadata/a", "a;b", "a?b", "a#b", "a\\b", "hidden", "hidden/b", "b/hidden", strings.Repeat("long/", 40) + "a",
}

var folders = []string{"", "a/", "a/b/", "A/", "hidden/", "b/", "data/", "ä/", "+/"}

// The mounts of these tests: two of version 1, one of them below a path with a slash, and two of version 2.
var (
	plainMounts     = []string{"one/", "team/kv/"}
	versionedMounts = []string{"two/", "team/data/"}
)

// canary is what only the reader of one thing can know.
func canary(kind, path string) string {
	h := fnv.New64a()
	io.WriteString(h, path)
	return fmt.Sprintf("%s-%016x", kind, h.Sum64())
}

// need is what a policy must grant, one of, for something to be seen or changed.
type need struct {
	path string
	want policy.Capability
}

// maze is a server full of secrets, and some tokens with policies.
type maze struct {
	*server
	needs  map[string][]need // :: canary → what shows it
	prefix map[string]string // :: prefix of a mount's records → its path
	before map[string]string // the store
	tokens []string
	acls   []*policy.ACL
}

func newMaze(t *testing.T, policies ...string) *maze {
	t.Helper()
	m := &maze{server: ready(t, 1, 1), needs: map[string][]need{}, prefix: map[string]string{}}
	root := withToken(m.root)
	for _, at := range plainMounts {
		m.do("POST", "sys/mounts/"+strings.TrimSuffix(at, "/"), `{"type":"kv"}`, root).want(204)
	}
	for _, at := range versionedMounts {
		m.do("POST", "sys/mounts/"+strings.TrimSuffix(at, "/"), `{"type":"kv-v2"}`, root).want(204)
	}
	all := planted
	for _, folder := range folders {
		all = append(all, folder+canary("name", folder))
	}
	for _, path := range all {
		m.plant(path)
	}
	for _, folder := range folders {
		name := canary("name", folder)
		for _, at := range plainMounts {
			m.needs[name] = append(m.needs[name], need{at + folder, policy.List})
		}
		for _, at := range versionedMounts {
			m.needs[name] = append(m.needs[name], need{at + "metadata/" + folder, policy.List}, need{at + "detailed-metadata/" + folder, policy.List})
		}
	}
	for i, text := range policies {
		name := fmt.Sprintf("p%d", i)
		p, err := policy.Parse(name, text)
		if err != nil {
			t.Fatal(err)
		}
		body := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(text)
		m.do("PUT", "sys/policies/acl/"+name, `{"policy":"`+body+`"}`, root).want(204)
		token, _ := m.newToken(`{"policies":["` + name + `"],"no_default_policy":true}`)
		m.tokens, m.acls = append(m.tokens, token), append(m.acls, policy.Compile(p))
	}
	for _, at := range append(plainMounts, versionedMounts...) {
		m.prefix[m.node.Locate(at+"x").Mount.Records()] = at
	}
	m.before = m.dump()
	return m
}

// plant writes a secret at a path of every mount, with something that only its reader can know.
func (m *maze) plant(path string) {
	m.t.Helper()
	url := escaped(path)
	for _, at := range plainMounts {
		value := canary("value", at+path)
		m.do("POST", at+url, `{"v":"`+value+`"}`, withToken(m.root)).want(204)
		m.needs[value] = []need{{at + path, policy.Read}}
	}
	for _, at := range versionedMounts {
		value, key, custom := canary("value", at+path), canary("key", at+path), canary("custom", at+path)
		m.do("POST", at+"data/"+url, `{"data":{"v":"`+value+`","`+key+`":1}}`, withToken(m.root)).want(200)
		m.do("POST", at+"metadata/"+url, `{"custom_metadata":{"c":"`+custom+`"}}`, withToken(m.root)).want(204)
		folder := path[:strings.LastIndexByte(path, '/')+1]
		m.needs[value] = []need{{at + "data/" + path, policy.Read}}
		m.needs[key] = []need{{at + "data/" + path, policy.Read}, {at + "subkeys/" + path, policy.Read}}
		m.needs[custom] = []need{{at + "metadata/" + path, policy.Read}, {at + "detailed-metadata/" + folder, policy.List}}
		for _, want := range []policy.Capability{policy.Read, policy.Update, policy.Patch} { // a write answers with it too
			m.needs[custom] = append(m.needs[custom], need{at + "data/" + path, want})
		}
	}
}

// escaped is a path as a careful client writes it.
func escaped(path string) string {
	var b strings.Builder
	for i := range len(path) {
		if c := path[i]; c == '/' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// changes is what a policy must grant, one of, for a record to become another.
func (m *maze) changes(key, old, now string) (list []need, ours bool) {
	for prefix, at := range m.prefix {
		rest, ok := strings.CutPrefix(key, prefix)
		if !ok {
			continue
		}
		want := policy.Update
		switch {
		case old == "":
			want = policy.Create
		case now == "":
			want = policy.Delete
		}
		if path, ok := strings.CutPrefix(rest, "data/"); ok {
			return []need{{at + path, want}}, true
		}
		path, ok := strings.CutPrefix(rest, "meta/")
		switch {
		case !ok:
			return nil, false // what belongs to a change of another record
		case old == "":
			return []need{{at + "data/" + path, want}, {at + "metadata/" + path, want}}, true
		case now == "":
			return []need{{at + "metadata/" + path, want}}, true
		}
		for _, part := range []string{"data/", "metadata/", "delete/", "undelete/", "destroy/"} {
			list = append(list, need{at + part + path, policy.Update}, need{at + part + path, policy.Patch})
		}
		return append(list, need{at + "data/" + path, policy.Delete}), true
	}
	return nil, false
}

func grantsOne(acl *policy.ACL, list []need) bool {
	for _, n := range list {
		if acl.Decide(&policy.Ask{Path: n.path, Want: n.want}).Allowed {
			return true
		}
	}
	return false
}

// raw sends a request line as it is, as a client does that doesn't care, and follows where it is sent. nil: the request
// can't even be read.
func (m *maze) raw(method, target, body, token string) (seen string) {
	m.t.Helper()
	for range 4 {
		head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: 127.0.0.1:8200\r\nX-Vault-Token: %s\r\nContent-Type: application/merge-patch+json\r\nContent-Length: %d\r\n\r\n%s",
			method, target, token, len(body), body)
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head)))
		if err != nil {
			return seen
		}
		r.RemoteAddr = "203.0.113.7:40000"
		w := httptest.NewRecorder()
		m.api.Handler(m.l).ServeHTTP(w, r)
		seen += fmt.Sprintf("%d %s\n", w.Code, w.Body)
		if w.Code >= 500 {
			m.t.Errorf("%s %q: %d %s", method, target, w.Code, w.Body)
		}
		if target = w.Header().Get("Location"); target == "" {
			break
		}
	}
	return seen
}

// try sends one request and holds what it has shown and changed against what the policy says of the true paths. It
// reports whether anything was shown or changed.
func (m *maze) try(who int, method, target, body string) (effect bool) {
	m.t.Helper()
	seen := m.raw(method, target, body, m.tokens[who])
	for value, list := range m.needs {
		if strings.Contains(seen, value) {
			effect = true
			if !grantsOne(m.acls[who], list) {
				m.t.Errorf("policy %d: %s %q shows %s, which needs one of %v", who, method, target, value, list)
			}
		}
	}
	after := m.dump()
	keys := changed(m.before, after)
	for _, key := range keys {
		if list, ours := m.changes(key, m.before[key], after[key]); ours {
			effect = true
			if !grantsOne(m.acls[who], list) {
				m.t.Errorf("policy %d: %s %q changes %s, which needs one of %v", who, method, target, key, list)
			}
		}
	}
	m.putBack(keys)
	return effect
}

// putBack makes the store what it was.
func (m *maze) putBack(keys []string) {
	m.t.Helper()
	if len(keys) == 0 {
		return
	}
	err := m.store.Update(m.t.Context(), func(tx store.Tx) error {
		for _, key := range keys {
			var err error
			if value, was := m.before[key]; was {
				err = tx.Put(key, []byte(value))
			} else {
				err = tx.Delete(key)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

// spoilers replace a piece of a target, at most one of each kind.
var (
	slashes = []string{
		"%2f", "%2F", "//", "/./", "/x/../", "/%2e/", "/%2e%2e/", "/.%2e/x/", "\\", "%5c", "%252f", "/%20/", "/;/", "%2f%2f", "/%2f", "／", "∕", "/\u200b",
		"/../", "/..;/", "/.../",
	}
	tails = []string{
		"/", "//", "%2f", "%2F", "/.", "/..", "/%2e", "/../", "?list=true", "?list=1", "?list=false", "?list=T&list=false", "?list", "?list=x", "/?list=true",
		"?help=1", "?version=1", "?%6cist=true", "?x;list=true", "%00", "%0a", "%20", "+", "*", "#x", "%23x", "%3flist=true", ";x=y", "?after=a&limit=1", "%", "%zz",
		"?path=a", "\u0301", "%c2%a0", "/%2f/", "%2f?list=true", "/metadata", "/../../one/a",
	}
	heads    = []string{"/v1/", "/v1/", "/v1/", "/v1/", "//v1/", "/v1//", "/V1/", "/v1/./", "/v1/x/../", "/v1%2f", "/%76%31/", "/./v1/", "/v1/%2e/", "/v2/../v1/", "http://127.0.0.1:8200/v1/", "v1/"}
	methods  = []string{"GET", "GET", "GET", "LIST", "PUT", "POST", "PATCH", "DELETE", "HEAD", "get", "OPTIONS", "TRACE", "list"}
	payloads = []string{
		`{"v":"new"}`, `{"data":{"v":"new"}}`, `{"versions":[1]}`, `{"custom_metadata":{"x":"y"}}`, `{"data":{"v":"new"},"options":{"cas":0}}`,
		`{"path":"hidden","data":{"path":"hidden"}}`, ``,
	}
)

func pick[T any](rng *rand.Rand, list []T) T { return list[rng.IntN(len(list))] }

// spelled is one of the ways to write a path, most of which aren't the path any more.
func spelled(rng *rand.Rand, path string) string {
	target := escaped(path)
	for range rng.IntN(3) {
		switch at := rng.IntN(len(target)); rng.IntN(5) {
		case 0: // any character may be encoded
			if target[at] != '%' && (at < 1 || target[at-1] != '%') && (at < 2 || target[at-2] != '%') {
				target = target[:at] + fmt.Sprintf([]string{"%%%02x", "%%%02X"}[rng.IntN(2)], target[at]) + target[at+1:]
			}
		case 1, 2:
			if parts := strings.SplitN(target, "/", 2+rng.IntN(3)); len(parts) > 1 {
				last := len(parts) - 1
				target = strings.Join(parts[:last], "/") + pick(rng, slashes) + parts[last]
			}
		case 3:
			target = target[:at] + strings.ToUpper(target[at:])
		case 4:
			target += pick(rng, tails)
		}
	}
	return pick(rng, heads) + target
}

// aim is a path that somebody may want to get at.
func aim(rng *rand.Rand) string {
	path := pick(rng, planted)
	if rng.IntN(4) == 0 {
		path = pick(rng, folders)
	}
	if rng.IntN(8) == 0 {
		path += "/new"
	}
	if rng.IntN(2) == 0 {
		return pick(rng, plainMounts) + path
	}
	return pick(rng, versionedMounts) + pick(rng, []string{"data/", "data/", "metadata/", "subkeys/", "delete/", "undelete/", "destroy/", "detailed-metadata/", ""}) + path
}

// randomPolicy has some rules about what may be aimed at.
func randomPolicy(rng *rand.Rand) string {
	var b strings.Builder
	seen := map[string]bool{}
	if rng.IntN(2) == 0 {
		b.WriteString("path \"" + pick(rng, []string{"", "one/", "two/", "team/", "team/+/", "+/"}) + "*\" { capabilities = [\"create\", \"read\", \"update\", \"patch\", \"delete\", \"list\"] }\n")
	}
	for range 4 + rng.IntN(12) {
		path := aim(rng)
		switch rng.IntN(5) {
		case 0:
			path = path[:strings.LastIndexByte(path, '/')+1] + "*"
		case 1:
			path = path[:1+rng.IntN(len(path)-1)] + "*"
		case 2:
			if parts := strings.Split(path, "/"); len(parts) > 1 {
				parts[rng.IntN(len(parts))] = "+"
				path = strings.Join(parts, "/")
			}
		}
		caps := `"deny"`
		if rng.IntN(3) > 0 {
			caps = pick(rng, []string{`"read"`, `"read", "list"`, `"list"`, `"create", "update"`, `"update", "delete"`, `"create", "read", "update", "patch", "delete", "list"`})
		}
		rule := fmt.Sprintf("path %q { capabilities = [%s] }\n", path, caps)
		if _, err := policy.Parse("p", rule); err == nil && !seen[path] {
			b.WriteString(rule)
			seen[path] = true
		}
	}
	return b.String()
}

// Whatever a path is written like, what is shown or changed is what the policy says of the path that it is.
func TestRouterAndPolicyAgree(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 2))
	tries := 20_000
	if testing.Short() {
		tries = 5_000
	}
	var policies []string
	for range 24 {
		policies = append(policies, randomPolicy(rng))
	}
	m := newMaze(t, policies...)
	effects := 0
	for range tries {
		if m.try(rng.IntN(len(m.tokens)), pick(rng, methods), spelled(rng, aim(rng)), pick(rng, payloads)) {
			effects++
		}
		if t.Failed() {
			t.Fatal("enough")
		}
	}
	if effects < tries/50 {
		t.Errorf("of %d requests only %d had an effect: this tests nothing", tries, effects)
	}
}

// A deny can't be got round by any spelling, on any path of either version, however much else is allowed.
func TestNoSpellingGetsRoundADeny(t *testing.T) {
	const all = `["create", "read", "update", "patch", "delete", "list"]`
	var text strings.Builder
	fmt.Fprintf(&text, "path \"*\" { capabilities = %s }\n", all)
	var targets []string
	for _, at := range plainMounts {
		for _, path := range []string{"hidden", "hidden/*", "b/hidden", "ä/*", "a b"} {
			fmt.Fprintf(&text, "path %q { capabilities = [\"deny\"] }\n", at+path)
		}
		targets = append(targets, at+"hidden", at+"hidden/b", at+"hidden/", at+"b/hidden", at+"ä/b", at+"a b", at+"hidden/new")
	}
	for _, at := range versionedMounts {
		for _, path := range []string{"+/hidden", "+/hidden/*", "+/b/hidden", "+/ä/*", "+/a b"} {
			fmt.Fprintf(&text, "path %q { capabilities = [\"deny\"] }\n", at+path)
		}
		for _, part := range []string{"data/", "metadata/", "subkeys/", "delete/", "undelete/", "destroy/", "detailed-metadata/"} {
			targets = append(targets, at+part+"hidden", at+part+"hidden/b", at+part+"hidden/", at+part+"b/hidden", at+part+"ä/b", at+part+"a b", at+part+"hidden/new")
		}
	}
	m := newMaze(t, text.String())
	// The policy allows all else, so that whatever leads round the deny is found by its effect.
	if !m.try(0, "GET", "/v1/one/a", "") || !m.try(0, "PUT", "/v1/two/data/a", `{"data":{"v":"new"}}`) {
		t.Fatal("nothing is allowed")
	}
	for k, target := range targets {
		if testing.Short() && k%5 != 0 {
			continue
		}
		url := escaped(target)
		last := strings.LastIndexByte(strings.TrimSuffix(url, "/"), '/')
		spellings := []string{"/v1/" + url, "/v1/" + strings.ToUpper(url), "/v1/" + url[:last+1] + strings.ToUpper(url[last+1:])}
		for _, head := range heads {
			spellings = append(spellings, head+url)
		}
		for _, tail := range tails {
			spellings = append(spellings, "/v1/"+url+tail)
		}
		for _, slash := range slashes {
			spellings = append(spellings, "/v1/"+url[:last]+slash+url[last+1:], "/v1/"+strings.Replace(url, "/", slash, 1))
		}
		for i, spelling := range spellings {
			for j, method := range []string{"GET", "LIST", "PUT", "PATCH", "DELETE"} {
				m.try(0, method, spelling, payloads[(i+j)%len(payloads)])
			}
		}
		if t.Failed() {
			t.Fatal("enough")
		}
	}
}

// What a policy denies of one policy, role, quota, mount or device can't be had by another spelling of its name.
func TestNoSpellingOfANameGetsRoundADeny(t *testing.T) {
	s, dir := audited(t)
	root := withToken(s.root)
	rules := "path \"*\" { capabilities = [\"create\", \"read\", \"update\", \"patch\", \"delete\", \"list\", \"sudo\"] }\n"
	names := map[string]string{
		"sys/policies/acl/hidden":      `{"policy":"path \"x\" { capabilities = [\"read\"] }"}`,
		"sys/policy/hidden":            `{"policy":"path \"x\" { capabilities = [\"read\"] }"}`,
		"sys/quotas/rate-limit/hidden": `{"rate":1000000}`,
		"auth/token/roles/hidden":      `{"orphan":true}`,
		"sys/mounts/hidden":            `{"type":"kv"}`,
		"sys/mounts/hidden/tune":       `{"description":"x"}`,
		"sys/auth/hidden":              `{"type":"userpass"}`,
		"sys/auth/hidden/tune":         `{"description":"x"}`,
		"sys/mounts/auth/hidden/tune":  `{"description":"x"}`,
		"sys/audit/hidden":             fmt.Sprintf(`{"type":"file","options":{"file_path":%q}}`, filepath.Join(dir, "hidden.log")),
	}
	for path, body := range names {
		rules += fmt.Sprintf("path %q { capabilities = [\"deny\"] }\n", path)
		if !strings.HasSuffix(path, "/tune") {
			if got := s.do("POST", path, body, root); got.code >= 400 {
				t.Fatalf("%s: %d %s", path, got.code, got.text)
			}
		}
	}
	others := map[string]string{ // which would change it
		"sys/policies/acl/hidden":      `{"policy":"path \"y\" { capabilities = [\"read\"] }"}`,
		"sys/policy/hidden":            `{"policy":"path \"y\" { capabilities = [\"read\"] }"}`,
		"sys/quotas/rate-limit/hidden": `{"rate":2000000}`, "auth/token/roles/hidden": `{"orphan":false}`,
		"sys/mounts/hidden": `{"type":"kv-v2"}`, "sys/auth/hidden": `{"type":"approle"}`, "sys/mounts/hidden/tune": `{"description":"y"}`,
		"sys/auth/hidden/tune": `{"description":"y"}`, "sys/mounts/auth/hidden/tune": `{"description":"y"}`, "sys/audit/hidden": `{"type":"stdout"}`,
	}
	most := withToken(s.withPolicy("most", rules))
	for path := range names {
		before, after, _ := strings.Cut(path, "hidden")
		view := func() string {
			if strings.HasPrefix(path, "sys/audit/") {
				return fmt.Sprint(s.do("GET", "sys/audit", "", root).want(200).body["data"])
			}
			return fmt.Sprint(s.do("GET", path, "", root).want(200).body["data"])
		}
		was := view()
		for _, spelling := range []string{
			"hidden", "HIDDEN", "Hidden", "%20hidden", "hidden%20", "%09hidden", "hidden%09", "hidden/", "/hidden", "./hidden", "x/../hidden", "hidde%6e", "%68idden",
			"hidden%2f", "%2fhidden", "\u212aidden", "h\u0131dden", "%efbb%bfhidden", "hidden%00",
		} {
			for _, method := range []string{"GET", "POST", "PUT", "DELETE", "LIST"} {
				got := s.do(method, before+spelling+after, others[path], most)
				if now := view(); now != was {
					t.Fatalf("%s %s%s%s: %d, and %s has become %s", method, before, spelling, after, got.code, was, now)
				}
				if got.code == 200 && method == "GET" { // another spelling may be another name, but of nothing yet
					t.Errorf("%s %s%s%s shows %s", method, before, spelling, after, got.text)
				}
			}
		}
	}
}

// FuzzRouterAndPolicy looks for spellings that nobody has thought of.
func FuzzRouterAndPolicy(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 40 {
		f.Add(spelled(rng, aim(rng)), uint8(rng.UintN(256)))
	}
	for _, tail := range tails {
		f.Add("/v1/one/hidden"+tail, uint8(0))
	}
	var policies []string
	for range 8 {
		policies = append(policies, randomPolicy(rng))
	}
	policies = append(policies, `path "*" { capabilities = ["create", "read", "update", "patch", "delete", "list"] }
path "one/hidden" { capabilities = ["deny"] }
path "two/+/hidden" { capabilities = ["deny"] }`)
	var m *maze
	f.Fuzz(func(t *testing.T, target string, how uint8) {
		if m == nil {
			m = newMaze(t, policies...)
		}
		if m.server.t != t { // the node ended with the test that began it
			m.server.t = t
			m.serve(m.store)
			m.unseal(1)
			m.before = m.dump()
		}
		if strings.ContainsAny(target, " \r\n") {
			return
		}
		m.try(int(how)%len(policies), methods[int(how>>3)%len(methods)], target, payloads[int(how)%len(payloads)])
	})
}
