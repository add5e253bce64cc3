package httpapi

import (
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// systemRoutes are those of policies, mounts, audit devices, leases, rate limits and tools.
func systemRoutes() []route {
	return slices.Concat(policyRoutes(), mountRoutes(), auditRoutes(), leaseRoutes(), quotaRoutes(), toolRoutes())
}

// Whatever is sent to whatever path, it is answered or refused in the one shape of replies.
func FuzzSystemRoutes(f *testing.F) {
	routes := systemRoutes()
	for i, r := range routes {
		for op := range allOps {
			f.Add(uint(i), uint(op), "x/tune", "after=a&limit=2&type=all", `{"type":"kv","config":{"max_lease_ttl":"1h"},"paths":["a"],"from":"a","to":"b"}`)
			f.Add(uint(i), uint(op), "", "", `{"`+strings.ReplaceAll(r.fields, ", ", `":1,"`)+`":[]}`)
		}
	}
	f.Fuzz(func(t *testing.T, route, op uint, param, query, body string) {
		s := ready(t, 1, 1)
		r := routes[route%uint(len(routes))]
		path, _, varies := strings.Cut(r.path, "{")
		if varies {
			path += param
		}
		u := url.URL{Scheme: "http", Host: "127.0.0.1:8200", Path: "/v1/" + path, RawQuery: url.QueryEscape(query)}
		if values, err := url.ParseQuery(query); err == nil {
			u.RawQuery = values.Encode()
		}
		req := httptest.NewRequest(verbs[allOps[op%uint(len(allOps))]], "http://127.0.0.1:8200/", strings.NewReader(body))
		req.URL, req.RemoteAddr = &u, "127.0.0.1:40000"
		mergePatch(req)
		req.Header.Set("X-Vault-Token", s.root)
		if got := s.send(req); got.code >= 500 {
			t.Errorf("%s: %d %s", got.what, got.code, got.text)
		}
	})
}
