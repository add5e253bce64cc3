package httpapi

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/policy"
)

// verbs are the methods by which each operation is asked for.
var verbs = map[operation]string{opRead: "GET", opUpdate: "PUT", opDelete: "DELETE", opList: "LIST", opPatch: "PATCH"}

var allOps = []operation{opRead, opUpdate, opDelete, opList, opPatch}

func mergePatch(r *http.Request) {
	if r.Method == http.MethodPatch {
		r.Header.Set("Content-Type", "application/merge-patch+json")
	}
}

// credentials of every kind, made on a fresh server; the order is that of what they are worth.
func credentials(s *server) (names []string, tokens map[string]string) {
	s.t.Helper()
	expired, _ := s.newToken(`{"policies":["root"],"ttl":"1m"}`)
	s.clock.step(time.Minute)
	parent, _ := s.newToken(`{"policies":["root"],"ttl":"1h"}`)
	child, _ := s.newToken(`{"policies":["root"],"ttl":"30m"}`, parent)
	s.do("PUT", "auth/token/revoke", `{"token":"`+parent+`"}`, withToken(s.root)).want(204)
	limited, accessor := s.newToken(`{"policies":["default"]}`)
	names = []string{"none", "junk", "accessor", "expired", "child of a revoked one", "default only", "root"}
	return names, map[string]string{
		"none": "", "junk": "junk-junk-junk-junk-junk", "accessor": accessor, "expired": expired, "child of a revoked one": child,
		"default only": limited, "root": s.root,
	}
}

// mayByDefault is what the text of the default policy grants.
func mayByDefault(t *testing.T, path string, sudo bool, op operation) bool {
	t.Helper()
	p, err := policy.Parse(policy.Default, policy.DefaultText)
	if err != nil {
		t.Fatal(err)
	}
	acl := policy.Compile(p)
	allowed := func(c policy.Capability) bool {
		return acl.Decide(&policy.Ask{Path: path, Want: c, Sudo: sudo}).Allowed
	}
	return allowed(op.capability())
}

// testMounts are one of each kind of engine.
var testMounts = map[string]string{
	"sys/mounts/one": `{"type":"kv"}`, "sys/mounts/two": `{"type":"kv","options":{"version":"2"}}`,
	"sys/auth/userpass": `{"type":"userpass"}`, "sys/auth/approle": `{"type":"approle"}`,
}

// everyRoute is the table and the routes of one mount of each kind, with the whole path: what isn't in it can't be asked.
func everyRoute(t *testing.T) (list []route) {
	t.Helper()
	s := ready(t, 1, 1)
	s.mountAll()
	if err := s.node.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	list = allRoutes()
	for path := range testMounts {
		rest := strings.TrimPrefix(path, "sys/")
		rest = strings.TrimPrefix(rest, "mounts/") + "/"
		p := s.node.Locate(rest + "x")
		if p == nil {
			t.Fatalf("nothing is mounted at %s", rest)
		}
		for i := range p.Kind.Routes {
			r := *s.api.mounted[&p.Kind.Routes[i]]
			r.path = rest + r.path
			list = append(list, r)
		}
	}
	p := s.node.Locate("cubbyhole/x")
	for i := range p.Kind.Routes {
		r := *s.api.mounted[&p.Kind.Routes[i]]
		r.path = "cubbyhole/" + r.path
		list = append(list, r)
	}
	return list
}

func (s *server) mountAll() {
	s.t.Helper()
	for path, body := range testMounts {
		s.do("POST", path, body, withToken(s.root)).want(204)
	}
}

// T62: every route and operation with every kind of credential, from another machine. What the table says is what
// holds; an operation that isn't in it is refused in one way, whoever asks.
func TestEveryRouteWithEveryCredential(t *testing.T) {
	routes := everyRoute(t)
	for i := range routes {
		r := &routes[i]
		for _, op := range allOps {
			s := ready(t, 1, 1)
			s.mountAll()
			names, tokens := credentials(s)
			codes := map[string]int{}
			for _, name := range names {
				path := r.sample()
				if r.authority == byCeremony && r.ops[op] != nil {
					path = s.reach(r, op)
				}
				got := s.do(verbs[op], path, "{}", withToken(tokens[name]), stranger, mergePatch)
				codes[name] = got.code
				if got.code == 403 && r.authority == byToken && !strings.HasPrefix(r.path, "sys/internal/ui/mounts/") {
					got.wantErrors(403, "permission denied")
				}
				if got.code >= 500 {
					t.Errorf("%s %s with %s: %d %s", verbs[op], r.path, name, got.code, got.text)
				}
			}
			for _, name := range names {
				if want, ok := expected(t, r, op, name); ok && codes[name] != want || !ok && codes[name] == 403 {
					t.Errorf("%s %s with %s: %d, want %d (%v)", verbs[op], r.path, name, codes[name], want, ok)
				}
				if r.authority == byNone && codes[name] != codes["none"] && !tokenIsData(r) && !mounted(r) {
					t.Errorf("%s %s with %s: %d, but %d without", verbs[op], r.path, name, codes[name], codes["none"])
				}
			}
		}
	}
}

// expected is the status of a request, or false if it only must not be 403.
func expected(t *testing.T, r *route, op operation, credential string) (int, bool) {
	worthless := credential != "root" && credential != "default only"
	there := r.ops[op] != nil
	switch {
	case r.authority != byCeremony && !there && op == opList && mounted(r) && strings.HasSuffix(r.path, "}") && !strings.HasSuffix(r.path, "...}"):
		// The path of a list ends in a slash, so this one is another, which isn't there.
		if credential == "root" {
			return 404, true
		}
		return 403, true
	case !there && (r.raw || r.authority != byToken):
		return 405, true
	case r.path == "sys/policies/test" && credential == "default only" && there: // about its own token everybody may ask
		return 0, false
	case tokenIsData(r) && credential == "none" && there:
		return 403, true
	case r.authority == byToken && (worthless || credential == "default only" && !mayByDefault(t, r.sample(), r.sudo, op)):
		return 403, true
	case !there:
		return 405, true
	case r.authority == byCeremony && decides(r, op):
		// In the oldest family the token is data, even root's.
		if credential != "root" || r.path == attemptOne {
			return 403, true
		}
	}
	return 0, false
}

// mounted reports a route of an engine.
func mounted(r *route) bool {
	return !strings.HasPrefix(r.path, "sys/") && !strings.HasPrefix(r.path, "auth/token/")
}

// tokenIsData reports the one route that is open to who has nothing but a wrapping token.
func tokenIsData(r *route) bool { return r.path == "sys/wrapping/unwrap" }

// decides reports whether an operation of a ceremony's needs authority: a start, a cancel, a look at a result.
func decides(r *route, op operation) bool {
	switch _, tail, _ := strings.Cut(r.path, anyNonce); {
	case r.path == ceremonies+anyNonce:
		return op == opDelete
	case tail != "":
		return tail == "/cancel" || tail == "/result"
	case strings.HasSuffix(r.path, "/verify"): // nothing waits for verification
		return false
	}
	return r.path == "sys/ceremonies" && op == opUpdate || r.ops[opDelete] != nil && (op == opUpdate || op == opDelete)
}

// reach is a path of r. Where the operation needs a ceremony, one that nobody has approved is open.
func (s *server) reach(r *route, op operation) string {
	s.t.Helper()
	// Refused when it is still there.
	switch {
	case strings.HasPrefix(r.path, "sys/rekey/"), strings.HasPrefix(r.path, "sys/rotate/root/"):
		if op == opDelete {
			s.do("PUT", strings.Replace(r.path, "/verify", "/init", 1), `{"secret_shares":1,"secret_threshold":1}`)
		}
		return r.path
	case op == opDelete, strings.Contains(r.path, anyNonce):
		s.do("PUT", attempt, "")
		return strings.Replace(r.path, anyNonce, s.do("GET", attempt, "").str("nonce"), 1)
	}
	return r.path
}

// neverNonce is the nonce of no ceremony.
const neverNonce = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"

// sample is a path of r, with the nonce of no ceremony, and something for whatever else varies.
func (r *route) sample() string {
	if r.path == "sys/internal/ui/mounts/{path...}" {
		return "sys/internal/ui/mounts/two/x" // which tells only of mounts that are there
	}
	parts := strings.Split(strings.Replace(r.path, anyNonce, neverNonce, 1), "/")
	for i, part := range parts {
		if strings.HasPrefix(part, "{") {
			parts[i] = "x"
		}
	}
	return strings.Join(parts, "/")
}

// Every route that needs the keys says that they are missing, before it looks at anything else, whatever is sent.
func TestEveryRouteWhileSealed(t *testing.T) {
	works := []string{
		"sys/init", "sys/seal-status", "sys/unseal", "sys/health", "sys/leader", "sys/seal", "sys/step-down", "sys/ceremonies/holders",
		"sys/transcript", "sys/transcript/entries", "sys/transcript/checkpoint", "sys/transcript/proof",
	}
	for _, initialised := range []bool{false, true} {
		s := newServer(t)
		if initialised {
			s.init(3, 2)
		}
		for _, r := range allRoutes() {
			path := r.sample()
			for _, op := range allOps {
				got := s.do(verbs[op], path, `{"key":`, withToken("junk"), stranger, mergePatch)
				if r.sealed != slices.Contains(works, path) {
					t.Errorf("%s: works while sealed: %v", path, r.sealed)
				}
				if !r.sealed {
					got.wantErrors(503, "Vault is sealed")
				} else if got.code == 503 && path != "sys/health" {
					t.Errorf("%s %s: %d %s", verbs[op], path, got.code, got.text)
				}
			}
		}
		if !s.node.Sealed() {
			t.Fatal("unsealed by nobody")
		}
	}
}

// Every operation answers with the same, by each of the methods that mean it.
func TestPostIsPut(t *testing.T) {
	a, b := ready(t, 1, 1), ready(t, 1, 1)
	for _, r := range allRoutes() {
		if r.ops[opUpdate] == nil || r.path == "sys/seal" {
			continue
		}
		put := a.do("PUT", r.sample(), "{}", withToken(a.root))
		post := b.do("POST", r.sample(), "{}", withToken(b.root))
		if put.code != post.code {
			t.Errorf("%s: PUT %d %s, POST %d %s", r.path, put.code, put.text, post.code, post.text)
		}
		if r.path == "auth/token/revoke-self" { // root is gone
			a, b = ready(t, 1, 1), ready(t, 1, 1)
		}
	}
}

// HEAD is GET without a body.
func TestHead(t *testing.T) {
	s := ready(t, 1, 1)
	for _, r := range allRoutes() {
		get, head := s.do("GET", r.sample(), "", withToken(s.root)), s.do("HEAD", r.sample(), "", withToken(s.root))
		if get.code != head.code {
			t.Errorf("%s: %s", r.path, fmt.Sprint(get.code, head.code))
		}
	}
}
