package httpapi

import (
	"fmt"
	"testing"
)

func TestReviewQuota(t *testing.T) {
	s := ready(t, 1, 1)
	root := withToken(s.root)
	s.do("POST", "sys/auth/userpass", `{"type":"userpass"}`, root).want(204)
	s.do("POST", "sys/quotas/rate-limit/q", `{"path":"auth/userpass/login/alice","rate":1,"interval":"60s"}`, root).want(204)
	for _, p := range []string{"alice", "alice", "ALICE", "Alice", "alice", "%20alice"} {
		fmt.Println(p, s.do("POST", "auth/userpass/login/"+p, `{"password":"x"}`).code)
	}
}

func TestReviewListPolicyTrick(t *testing.T) {
	s := ready(t, 1, 1)
	root := withToken(s.root)
	s.do("POST", "sys/mounts/secret", `{"type":"kv"}`, root).want(204)
	s.do("POST", "secret/a/b", `{"x":1}`, root).want(204)
	// sys/policy old endpoint vs new
	s.do("PUT", "sys/policies/acl/p", `{"policy":"path \"sys/policies/acl/*\" {capabilities=[\"create\",\"update\",\"read\"]}\npath \"sys/policies/acl/admin\" {capabilities=[\"deny\"]}"}`, root).want(204)
	tok, _ := s.newToken(`{"policies":["p"]}`)
	for _, p := range []string{"admin", "ADMIN", "%20admin", "admin%20", "admin%09", "%C2%A0admin", "%E2%80%83admin"} {
		fmt.Println(p, s.do("PUT", "sys/policies/acl/"+p, `{"policy":"path \"x\" {capabilities=[\"read\"]}"}`, withToken(tok)).code)
	}
	for _, p := range []string{"al%C2%A0", "%E2%80%83al"} {
		s.do("POST", "sys/auth/userpass", `{"type":"userpass"}`, root)
		fmt.Println(p, s.do("POST", "auth/userpass/users/"+p, `{"password":"xxxxxxx"}`, root).code)
	}
	fmt.Println(s.do("LIST", "auth/userpass/users", "", root).text)
}

func TestReviewMountTTLs(t *testing.T) {
	s := ready(t, 1, 1)
	root := withToken(s.root)
	r := s.do("POST", "auth/token/create", `{"ttl":"999999999999999999h"}`, root)
	fmt.Println(r.code, r.text)
	r = s.do("POST", "auth/token/create", `{"period":"2000000h"}`, root)
	fmt.Println(r.code, r.text)
	r = s.do("POST", "auth/token/create", `{"policies":["default"],"explicit_max_ttl":"2000000h","period":"2000000h"}`, root)
	fmt.Println(r.code, r.text)
	r = s.do("POST", "sys/mounts/kv", `{"type":"kv","config":{"max_lease_ttl":"2562047h"}}`, root)
	fmt.Println(r.code, r.text)
}
