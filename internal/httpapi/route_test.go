package httpapi

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/store/anystore"
)

// lonely is a node that nobody has initialised.
func lonely(t *testing.T) *node.Node {
	n, err := node.New(node.Options{Store: anystore.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// T60: one path has one meaning, and that is the one which policies see.
func TestMatch(t *testing.T) {
	a := New(Options{Node: lonely(t)})
	for _, c := range []struct {
		url   string
		route string // "": unknown
		path  string
	}{
		{"/v1/sys/init", "sys/init", "sys/init"},
		{"/v1/sys/init?x=1", "sys/init", "sys/init"},
		{"/v1/auth/token/accessors", "auth/token/accessors", "auth/token/accessors"},
		{"/v1/auth/token/accessors/", "auth/token/accessors", "auth/token/accessors/"},
		{"/v1/sys%2Finit", "sys/init", "sys/init"},
		{"/v1/s%79s/init", "sys/init", "sys/init"},
		{"/v1/", "", ""},
		{"/v1/sys", "", "sys"},
		{"/v1/sys/init/", "", "sys/init/"},
		{"/v1/sys/generate-root-token/attempt/", "sys/generate-root-token/attempt", "sys/generate-root-token/attempt/"},
		{"/v1/sys/generate-root/attempt/", "", "sys/generate-root/attempt/"},
		{"/v1/auth/token/create/", "", "auth/token/create/"},
		{"/v1/SYS/INIT", "", "SYS/INIT"},
		{"/v1/sys/Init", "", "sys/Init"},
		{"/v1/sys/init%20", "", "sys/init "},
		{"/v1/sys/init;x", "", "sys/init;x"},
		{"/v1/.hidden/...", "", ".hidden/..."},
		{"/v1/v1/sys/init", "", "v1/sys/init"},
		{"/v1/sys/ceremonies", "sys/ceremonies", "sys/ceremonies"},
		{"/v1/sys/ceremonies/", "sys/ceremonies", "sys/ceremonies/"},
		{"/v1/sys/ceremonies/holders", "sys/ceremonies/holders", "sys/ceremonies/holders"},
		{"/v1/sys/ceremonies/root-tokens", "sys/ceremonies/root-tokens", "sys/ceremonies/root-tokens"},
		{"/v1/sys/ceremonies/" + neverNonce, "sys/ceremonies/{nonce}", "sys/ceremonies/" + neverNonce},
		{"/v1/sys/ceremonies/" + neverNonce + "/approve", "sys/ceremonies/{nonce}/approve", "sys/ceremonies/" + neverNonce + "/approve"},
		{"/v1/sys/ceremonies/" + neverNonce + "/", "", "sys/ceremonies/" + neverNonce + "/"},
		{"/v1/sys/ceremonies/" + neverNonce + "/approve/", "", "sys/ceremonies/" + neverNonce + "/approve/"},
		{"/v1/sys/ceremonies/" + neverNonce + "/nope", "", "sys/ceremonies/" + neverNonce + "/nope"},
		{"/v1/sys/ceremonies/" + neverNonce + "/approve/x", "", "sys/ceremonies/" + neverNonce + "/approve/x"},
		{"/v1/sys/ceremonies-" + neverNonce, "", "sys/ceremonies-" + neverNonce},
	} {
		got := a.match(parseURL(t, c.url))
		if got.outside || got.redirect != "" || got.err != nil || got.route.path != c.route || got.path != c.path {
			t.Errorf("%s: %+v of route %q, want %q of %q", c.url, got, got.route.path, c.path, c.route)
		}
	}
	for path, want := range map[string]string{
		"//v1/sys/init":               "/v1/sys/init",
		"/v1//sys/init":               "/v1/sys/init",
		"/v1/sys//init":               "/v1/sys/init",
		"/v1/sys/init//":              "/v1/sys/init/",
		"/v1/sys/./init":              "/v1/sys/init",
		"/v1/sys/seal/../init":        "/v1/sys/init",
		"/v1/sys/init/..":             "/v1/sys",
		"/v1/sys/init/.":              "/v1/sys/init",
		"/v1/../../../etc/passwd":     "/etc/passwd",
		"//evil.example/..":           "/",
		"//evil.example/v1?list=true": "/evil.example/v1?list=true",
		"///evil.example":             "/evil.example",
		"/v1/sys//init?a=b&c=%2F":     "/v1/sys/init?a=b&c=%2F",
		"/v1//sys/%2e%2e/init":        "/v1/sys/%2e%2e/init", // and from there 400
		"/v1/..%2f/x//y":              "/v1/..%2f/x/y",
		`/v1//\evil.example`:          "/v1/%5Cevil.example",
		"/v1/secret//data/a/../../b/": "/v1/secret/b/",
		"/v1/sys/generate-root//x?y":  "/v1/sys/generate-root/x?y",
	} {
		got := a.match(parseURL(t, path))
		if got.redirect != want || got.err != nil {
			t.Errorf("%s: to %q, %v, want %q", path, got.redirect, got.err, want)
		}
		if strings.HasPrefix(got.redirect, "//") {
			t.Errorf("%s: to another host: %q", path, got.redirect)
		}
	}
	if got := a.match(&url.URL{Path: "evil.example//x"}); got.redirect != "/evil.example/x" {
		t.Errorf("a path without a slash leads to %q", got.redirect)
	}
	for _, path := range []string{
		"/v1/sys/%2e%2e/init", "/v1/sys/%2E/init", "/v1/sys/.%2e/init", "/v1/sys/%2e./init", "/v1/%2e%2e", "/v1/sys%2f%2finit",
		"/v1/sys%2f..%2finit", "/v1/sys/%2f", "/%2fv1/sys/init", "/%2e%2e/v1/sys/init",
	} {
		if got := a.match(parseURL(t, path)); got.err != errDots {
			t.Errorf("%s: %+v, want %v", path, got, errDots)
		}
	}
	for _, path := range []string{"/v1/sys/init%00", "/v1/%0a", "/v1/a%7f", "/v1/%ff", "/v1/%e2%80%ae", "/v1/sys/init%0d%0aX:%20y", "/%01"} {
		if got := a.match(parseURL(t, path)); got.err != errBadQuery {
			t.Errorf("%s: %+v, want %v", path, got, errBadQuery)
		}
	}
	for _, path := range []string{"/", "", "/v1", "/v2/sys/init", "/ui/", "/V1/sys/init", "/metrics", "*"} {
		if got := a.match(&url.URL{Path: path}); !got.outside || got.err != nil {
			t.Errorf("%q: %+v, want it outside", path, got)
		}
	}
}

func parseURL(t *testing.T, s string) *url.URL {
	t.Helper()
	// As net/http does, so that "//" at the beginning is no host.
	u, err := url.ParseRequestURI("http://server" + s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestOperation(t *testing.T) {
	raw, logical := &route{raw: true}, &route{}
	for _, c := range []struct {
		method, query string
		route         *route
		want          operation
		err           string // "-": none; "": without a sentence
	}{
		{"GET", "", raw, opRead, "-"},
		{"HEAD", "", raw, opRead, "-"},
		{"GET", "list=true", raw, opRead, "-"},
		{"GET", "list=true", logical, opList, "-"},
		{"GET", "list=1", logical, opList, "-"},
		{"HEAD", "list=true", logical, opList, "-"},
		{"GET", "list=false", logical, opRead, "-"},
		{"GET", "listing=true", logical, opRead, "-"},
		{"GET", "list=", logical, opOther, ""},
		{"GET", "list=maybe", logical, opOther, ""},
		{"LIST", "", logical, opList, "-"},
		{"POST", "", raw, opUpdate, "-"},
		{"PUT", "", raw, opUpdate, "-"},
		{"POST", "list=true", logical, opUpdate, "-"},
		{"DELETE", "", raw, opDelete, "-"},
		{"PATCH", "", logical, opOther, "merge-patch"},
		{"PATCH", "", raw, opOther, "merge-patch"},
		{"OPTIONS", "", logical, opOther, "unsupported operation"},
		{"OPTIONS", "", raw, opOther, ""},
		{"TRACE", "", logical, opOther, ""},
		{"CONNECT", "", raw, opOther, ""},
		{"get", "", raw, opOther, ""},
		{"PROPFIND", "", logical, opOther, ""},
	} {
		r := &http.Request{Method: c.method, URL: &url.URL{RawQuery: c.query}}
		got, err := c.route.operation(r)
		if got != c.want || (err == nil) != (c.err == "-") || err != nil && (c.err == "") != (err.Error() == "") {
			t.Errorf("%s?%s raw=%v: %v, %v, want %v, %q", c.method, c.query, c.route.raw, got, err, c.want, c.err)
		}
		if err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", c.method, err, c.err)
		}
	}
	patch := &http.Request{Method: "PATCH", URL: &url.URL{}, Header: http.Header{"Content-Type": {"application/merge-patch+json; charset=utf-8"}}}
	if op, err := logical.operation(patch); op != opPatch || err != nil {
		t.Errorf("PATCH: %v, %v", op, err)
	}
}

// What is in the table is complete: a hole in it would be a hole in the server.
func TestRoutesAreComplete(t *testing.T) {
	seen := map[string]bool{}
	var sudo []string
	for _, r := range allRoutes() {
		if seen[r.path] || r.path == "" || strings.Trim(r.path, "/") != r.path {
			t.Errorf("%q is there twice, or isn't a path", r.path)
		}
		seen[r.path] = true
		if r.limit <= 0 || r.limit > 4<<20 || len(r.ops) == 0 {
			t.Errorf("%s: limit %d, %d operations", r.path, r.limit, len(r.ops))
		}
		if r.summary == "" {
			t.Errorf("%s: nothing says what it is for", r.path)
		}
		for _, f := range append(parseFields(r.fields), parseFields(r.query)...) {
			if f.schema == nil || strings.ContainsAny(f.name, " ,") {
				t.Errorf("%s: the field %q has no type", r.path, f.name)
			}
		}
		if r.sudo {
			sudo = append(sudo, r.path)
		}
	}
	if want := []string{
		"auth/token/accessors", "auth/token/revoke-orphan", "sys/audit", "sys/audit-hash/{path...}", "sys/audit/{path...}", "sys/auth/{path...}",
		"sys/ceremonies/root-tokens", "sys/config/cors", "sys/leases/lookup/{prefix...}", "sys/leases/revoke-force/{prefix...}",
		"sys/leases/revoke-prefix/{prefix...}", "sys/remount", "sys/revoke-force/{prefix...}", "sys/revoke-prefix/{prefix...}",
		"sys/rotate", "sys/rotate/keyring", "sys/rotate/root", "sys/seal", "sys/storage/raft/snapshot", "sys/storage/snapshot",
	}; !slices.Equal(slices.Sorted(slices.Values(sudo)), want) {
		t.Errorf("sudo is needed for %v, want %v", sudo, want)
	}
	a := New(Options{Node: lonely(t)})
	if len(seen) != len(a.routes)+len(a.found) {
		t.Error("the table and the maps differ")
	}
}

// Finding a route is what every request pays for.
func TestMatchAllocatesNothing(t *testing.T) {
	a := New(Options{Node: lonely(t)})
	for path := range a.routes {
		u := parseURL(t, "/v1/"+path)
		if n := testing.AllocsPerRun(20, func() { a.match(u) }); n != 0 {
			t.Errorf("%s: %v allocations", path, n)
		}
	}
}
