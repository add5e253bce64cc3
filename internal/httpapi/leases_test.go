package httpapi

import (
	"strings"
	"testing"
	"time"
)

// leaseOf is the only lease there is below a prefix.
func (s *server) leaseOf(prefix string) string {
	s.t.Helper()
	keys := s.do("LIST", "sys/leases/lookup/"+prefix, "", withToken(s.root)).want(200).in("data").list("keys")
	if len(keys) != 1 {
		s.t.Fatalf("leases %v", keys)
	}
	return prefix + "/" + keys[0]
}

func TestLeases(t *testing.T) {
	s := ready(t, 1, 1)
	root := withToken(s.root)
	s.do("LIST", "sys/leases/lookup", "", root).wantErrors(404)
	id, _ := s.newToken(`{"policies":["default"],"ttl":"1h"}`)
	for _, path := range []string{"sys/leases/lookup", "sys/leases/lookup/", "sys/leases/lookup?list=true"} {
		method := "LIST"
		if strings.HasSuffix(path, "true") {
			method = "GET"
		}
		s.do(method, path, "", root).want(200).in("data").is("keys", "[auth/]")
	}
	s.do("LIST", "sys/leases/lookup/auth/", "", root).want(200).in("data").is("keys", "[token/]")
	lease := s.leaseOf("auth/token/create")
	s.clock.step(10 * time.Minute)
	data := s.do("PUT", "sys/leases/lookup", `{"lease_id":"`+lease+`"}`, withToken(id)).want(200).in("data")
	data.fieldsAre("id", "issue_time", "expire_time", "last_renewal", "renewable", "ttl")
	for name, want := range map[string]any{
		"id": lease, "issue_time": "2026-11-24T03:00:00Z", "expire_time": "2026-11-24T04:00:00Z", "last_renewal": nil, "renewable": true, "ttl": 50 * 60,
	} {
		data.is(name, want)
	}
	for _, path := range []string{"sys/leases/renew", "sys/renew", "sys/leases/renew/" + lease, "sys/renew/" + lease} {
		body := `{"increment":"30m","lease_id":"` + lease + `"}`
		if strings.HasSuffix(path, lease) {
			body = `{"increment":1800}`
		}
		got := s.do("PUT", path, body, root).want(200)
		got.fieldsAre("request_id", "lease_id", "renewable", "lease_duration", "data", "wrap_info", "warnings", "auth")
		for name, want := range map[string]any{"lease_id": lease, "renewable": true, "lease_duration": hour / 2, "data": nil, "auth": nil, "warnings": nil} {
			got.is(name, want)
		}
		if len(got.str("request_id")) != 36 {
			t.Error(got.text)
		}
	}
	data = s.do("PUT", "sys/leases/lookup", `{"lease_id":"`+lease+`"}`, root).want(200).in("data")
	data.is("last_renewal", "2026-11-24T03:10:00Z")
	data.is("ttl", hour/2)
	s.do("PUT", "sys/leases/renew", `{"lease_id":"`+lease+`"}`, withToken(id)).want(200)

	for range 2 {
		s.do("PUT", "sys/leases/revoke", `{"lease_id":"`+lease+`","sync":true}`, root).want(204)
		s.do("GET", "auth/token/lookup-self", "", withToken(id)).want(403)
	}
	s.do("PUT", "sys/leases/lookup", `{"lease_id":"`+lease+`"}`, root).want(400, "invalid lease")
	s.do("PUT", "sys/leases/renew", `{"lease_id":"`+lease+`"}`, root).want(400, "lease not found")
}

func TestLeasesRefuse(t *testing.T) {
	s := ready(t, 1, 1)
	root := withToken(s.root)
	for _, path := range []string{"sys/leases/lookup", "sys/leases/renew", "sys/renew", "sys/leases/revoke", "sys/revoke"} {
		s.do("PUT", path, "", root).want(400, "missing lease_id")
		s.do("PUT", path, `{"lease_id":["canary"]}`, root).want(400, "string")
	}
	s.do("PUT", "sys/leases/renew", `{"lease_id":"x","increment":"canary"}`, root).want(400, "duration")
	s.do("PUT", "sys/leases/revoke-prefix", "", root).want(404)
	s.do("PUT", "sys/leases/revoke-prefix/", "", root).want(400, "cannot write")
	s.do("GET", "auth/token/lookup-self", "", root).want(200)
	once, _ := s.newToken(`{"policies":["default"],"renewable":false,"ttl":"1h"}`)
	lease := s.leaseOf("auth/token/create")
	s.do("PUT", "sys/leases/renew", `{"lease_id":"`+lease+`"}`, root).want(400, "renew")
	s.do("PUT", "sys/leases/revoke", `{"lease_id":"`+lease+`"}`, withToken(once)).wantErrors(403, "permission denied")

	weak := withToken(s.withPolicy("weak", `path "sys/leases/*" { capabilities = ["list", "update"] }
path "sys/leases/lookup" { capabilities = ["list", "update"] }
path "sys/revoke-prefix/*" { capabilities = ["update"] }
path "sys/revoke-force/*" { capabilities = ["update"] }`))
	for _, path := range []string{"sys/leases/revoke-prefix/auth", "sys/leases/revoke-force/auth", "sys/revoke-prefix/auth", "sys/revoke-force/auth"} {
		s.do("PUT", path, "", weak).wantErrors(403, "permission denied")
	}
	for _, path := range []string{"sys/leases/lookup", "sys/leases/lookup/", "sys/leases/lookup/auth"} {
		s.do("LIST", path, "", weak).wantErrors(403, "permission denied")
	}
	s.do("PUT", "sys/leases/lookup", `{"lease_id":"`+lease+`"}`, weak).want(200)
}

func TestRevokePrefix(t *testing.T) {
	for _, verb := range []string{"sys/leases/revoke-prefix/", "sys/leases/revoke-force/", "sys/revoke-prefix/", "sys/revoke-force/"} {
		s := ready(t, 1, 1)
		root := withToken(s.root)
		one, _ := s.newToken(`{"policies":["default"]}`)
		orphan := s.do("POST", "auth/token/create-orphan", `{"policies":["default"]}`, root).want(200).in("auth").str("client_token")
		s.do("PUT", verb+"auth/token/creat", "", root).want(204)
		s.do("GET", "auth/token/lookup-self", "", withToken(one)).want(200)
		s.do("PUT", verb+"auth/token/create", `{"sync":true}`, root).want(204)
		s.do("GET", "auth/token/lookup-self", "", withToken(one)).want(403)
		s.do("GET", "auth/token/lookup-self", "", withToken(orphan)).want(200)
		s.do("PUT", verb+"auth", "", root).want(204)
		s.do("GET", "auth/token/lookup-self", "", withToken(orphan)).want(403)
		s.do("GET", "auth/token/lookup-self", "", root).want(200)
	}
}

func TestCountAndTidyLeases(t *testing.T) {
	s := ready(t, 1, 1)
	root := withToken(s.root)
	s.newToken(`{"policies":["default"]}`)
	s.newToken(`{"policies":["default"],"ttl":"1m"}`)
	s.do("GET", "sys/leases/count", "", root).wantErrors(404)
	s.do("GET", "sys/leases/count?type=canary", "", root).want(400, "irrevocable or all")
	data := s.do("GET", "sys/leases/count?type=irrevocable", "", root).want(200).in("data")
	data.is("lease_count", 0)
	data.is("counts", "map[]")
	data = s.do("GET", "sys/leases/count?type=all", "", root).want(200).in("data")
	data.is("lease_count", 2)
	data.is("counts", "map[auth/token/:2]")
	s.clock.step(time.Minute)
	s.do("POST", "sys/leases/tidy", "", root).want(202, warnTidy)
	s.do("GET", "sys/leases/count?type=all", "", root).want(200).in("data").is("lease_count", 1)
}
