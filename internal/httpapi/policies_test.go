package httpapi

import (
	"encoding/base64"
	"strings"
	"testing"
)

const readSecrets = `path \"secret/data/*\" { capabilities = [\"read\"] }`

// withPolicy makes a policy of these rules and a token that has it beside default.
func (s *server) withPolicy(name, rules string) (id string) {
	s.t.Helper()
	text := strings.NewReplacer(`"`, `\"`, "\n", `\n`).Replace(rules)
	s.do("PUT", "sys/policies/acl/"+name, `{"policy":"`+text+`"}`, withToken(s.root)).want(204)
	id, _ = s.newToken(`{"policies":["` + name + `"]}`)
	return id
}

func TestPolicies(t *testing.T) {
	s := ready(t, 1, 1)
	root := withToken(s.root)
	for _, path := range []string{"sys/policies/acl", "sys/policies/acl/", "sys/policies/acl?list=true"} {
		method := "LIST"
		if strings.Contains(path, "?") {
			method = "GET"
		}
		got := s.do(method, path, "", root).want(200)
		got.fieldsAre("request_id", "lease_id", "renewable", "lease_duration", "data", "wrap_info", "warnings", "auth")
		got.in("data").is("keys", "[default root]")
	}
	s.do("GET", "sys/policies/acl", "", root).wantErrors(405, "unsupported operation")
	for _, method := range []string{"GET", "LIST"} {
		got := s.do(method, "sys/policy", "", root).want(200)
		for _, at := range []*response{got, got.in("data")} {
			at.is("keys", "[default root]")
			at.is("policies", "[default root]")
		}
	}

	s.do("PUT", "sys/policies/acl/app", `{"policy":"`+readSecrets+`"}`, root).want(204)
	data := s.do("GET", "sys/policies/acl/app", "", root).want(200).in("data")
	data.fieldsAre("modified", "name", "policy", "version")
	for name, want := range map[string]any{"name": "app", "policy": strings.ReplaceAll(readSecrets, `\"`, `"`), "version": 1, "modified": "2026-11-24T03:00:00Z"} {
		data.is(name, want)
	}
	got := s.do("GET", "sys/policy/app", "", root).want(200)
	for _, at := range []*response{got, got.in("data")} {
		at.is("name", "app")
		at.is("rules", strings.ReplaceAll(readSecrets, `\"`, `"`))
	}

	s.do("POST", "sys/policies/acl/App-2", `{"policy":"`+base64.StdEncoding.EncodeToString([]byte(`path "a" { capabilities = ["read"] }`))+`"}`, root).want(200, warnLowerCase)
	s.do("GET", "sys/policies/acl/APP-2", "", root).want(200).in("data").is("policy", `path "a" { capabilities = ["read"] }`)
	s.do("PUT", "sys/policy/old", `{"rules":"`+readSecrets+`"}`, root).want(200, warnRules)
	s.do("PUT", "sys/policies/acl/team/one", `{"policy":"`+readSecrets+`"}`, root).want(204)
	s.do("LIST", "sys/policies/acl", "", root).want(200).in("data").is("keys", "[app app-2 default old root team/one]")
	s.do("LIST", "sys/policies/acl?after=app&limit=2", "", root).want(200).in("data").is("keys", "[app-2 default]")
	s.do("LIST", "sys/policies/acl?after=team/one", "", root).wantErrors(404)
	s.do("LIST", "sys/policies/acl?limit=x", "", root).want(400, "limit")
	for range 2 {
		s.do("DELETE", "sys/policies/acl/APP", "", root).want(204)
		s.do("GET", "sys/policy/app", "", root).wantErrors(404)
	}
	s.do("DELETE", "sys/policy/old", "", root).want(204)
	s.do("GET", "sys/policies/acl/root", "", root).want(200).in("data").is("policy", "")
	s.do("GET", "sys/policies/acl/default", "", root).want(200, "capabilities-self")
	s.do("GET", "sys/policies/acl/response-wrapping", "", root).wantErrors(404)
}

func TestPoliciesRefuse(t *testing.T) {
	s := ready(t, 1, 1)
	root := withToken(s.root)
	for _, path := range []string{"sys/policies/acl/", "sys/policy/"} {
		for name, body := range map[string]string{
			"a":                 `{}`,
			"b":                 `{"policy":""}`,
			"c":                 `{"policy":"path \"canary\" {"}`,
			"d":                 `{"policy":["canary"]}`,
			"e":                 `{"policy":"path \"x\" { capabilities = [\"canary\"] }"}`,
			"root":              `{"policy":"` + readSecrets + `"}`,
			"ROOT":              `{"policy":"` + readSecrets + `"}`,
			"response-wrapping": `{"policy":"` + readSecrets + `"}`,
			"can%20ary":         `{"policy":"` + readSecrets + `"}`,
		} {
			if got := s.do("PUT", path+name, body, root).want(400); strings.Contains(got.text, "canary") {
				t.Errorf("the request comes back: %s", got.text)
			}
		}
		s.do("PUT", path+"long", `{"policy":"`+strings.Repeat("#", 300<<10)+`"}`, root).want(413, "split")
		for _, name := range []string{"root", "response-wrapping", "default", "DEFAULT", "can%20ary"} {
			s.do("DELETE", path+name, "", root).want(400)
		}
		s.do("PUT", path+"x/", `{"policy":"`+readSecrets+`"}`, root).want(400, "cannot write")
	}
	s.do("LIST", "sys/policies/acl", "", root).want(200).in("data").is("keys", "[default root]")
}

// A rule about a policy holds for every spelling of its name.
func TestPolicyNamesHaveNoCase(t *testing.T) {
	s := ready(t, 1, 1)
	id := withToken(s.withPolicy("editor", `path "sys/policies/acl/*" { capabilities = ["read", "update", "delete"] }
path "sys/policies/acl/editor" { capabilities = ["deny"] }
path "sys/quotas/rate-limit/*" { capabilities = ["read", "update", "delete"] }
path "sys/quotas/rate-limit/all" { capabilities = ["deny"] }`))
	s.do("PUT", "sys/policies/acl/Other", `{"policy":"`+readSecrets+`"}`, id).want(200)
	s.do("PUT", "sys/quotas/rate-limit/Other", `{"rate":5,"path":"cubbyhole/"}`, id).want(204)
	for _, name := range []string{"editor", "Editor", "EDITOR", "%20editor", "editor%20"} {
		s.do("PUT", "sys/policies/acl/"+name, `{"policy":"`+readSecrets+`"}`, id).wantErrors(403, "permission denied")
		s.do("GET", "sys/policies/acl/"+name, "", id).wantErrors(403, "permission denied")
		s.do("DELETE", "sys/policies/acl/"+name, "", id).wantErrors(403, "permission denied")
	}
	for _, name := range []string{"all", "ALL", "All%20"} {
		s.do("PUT", "sys/quotas/rate-limit/"+name, `{"rate":5}`, id).wantErrors(403, "permission denied")
		s.do("GET", "sys/quotas/rate-limit/"+name, "", id).wantErrors(403, "permission denied")
		s.do("DELETE", "sys/quotas/rate-limit/"+name, "", id).wantErrors(403, "permission denied")
	}
}

// A change holds from the next request on, for tokens that there are already.
func TestPolicyChangesHoldAtOnce(t *testing.T) {
	s := ready(t, 1, 1)
	id := withToken(s.withPolicy("auditor", `path "sys/mounts" { capabilities = ["read"] }`))
	s.do("GET", "sys/mounts", "", id).want(200)
	s.withPolicy("auditor", `path "sys/auth" { capabilities = ["read"] }`)
	s.do("GET", "sys/mounts", "", id).wantErrors(403, "permission denied")
	s.do("GET", "sys/auth", "", id).want(200)
	s.do("DELETE", "sys/policies/acl/auditor", "", withToken(s.root)).want(204)
	s.do("GET", "sys/auth", "", id).wantErrors(403, "permission denied")
}
