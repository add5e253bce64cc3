package httpapi

import (
	"fmt"
	"strings"
	"testing"
)

func TestCapabilities(t *testing.T) {
	s := ready(t, 1, 1)
	root := withToken(s.root)
	s.withPolicy("app", `path "secret/data/*" { capabilities = ["read", "create"] }
path "secret/data/no" { capabilities = ["deny"] }`)
	id, accessor := s.newToken(`{"policies":["app"]}`)
	for _, ask := range []struct {
		path, field string
		by          option
	}{
		{"sys/capabilities", `"token":"` + id + `",`, root},
		{"sys/capabilities-accessor", `"accessor":"` + accessor + `",`, root},
		{"sys/capabilities-self", "", withToken(id)},
	} {
		for _, paths := range []string{`"paths":["secret/data/a"]`, `"path":"secret/data/a"`, `"paths":"secret/data/a"`} {
			got := s.do("POST", ask.path, "{"+ask.field+paths+"}", ask.by).want(200)
			for _, at := range []*response{got, got.in("data")} {
				at.is("secret/data/a", "[create read]")
				at.is("capabilities", "[create read]")
			}
		}
		got := s.do("PUT", ask.path, "{"+ask.field+`"paths":["/secret/data/a","secret/data/no","else","data"]}`, ask.by).want(200)
		got.in("data").fieldsAre("/secret/data/a", "data", "else", "secret/data/no")
		for name, want := range map[string]string{"/secret/data/a": "[create read]", "secret/data/no": "[deny]", "else": "[deny]", "data": "[deny]"} {
			got.in("data").is(name, want)
		}
		got.is("else", "[deny]")
		if got.body["capabilities"] != nil {
			t.Errorf("%s: capabilities of several paths: %s", ask.path, got.text)
		}
		for _, body := range []string{"{" + ask.field + `"paths":[]}`, "{" + ask.field + `"paths":[""]}`, "{" + strings.TrimSuffix(ask.field, ",") + "}"} {
			s.do("POST", ask.path, body, ask.by).want(400, "missing paths")
		}
		s.do("POST", ask.path, "{"+ask.field+`"paths":{"a":1}}`, ask.by).want(400, "list")
	}
	s.do("POST", "sys/capabilities", `{"token":"`+s.root+`","paths":["x"]}`, root).want(200).is("x", "[root]")
	s.do("POST", "sys/capabilities", `{"token":"canary","paths":["x"]}`, root).want(400, "token not found")
	s.do("POST", "sys/capabilities", `{"paths":["x"]}`, root).want(400, "missing token")
	s.do("POST", "sys/capabilities-accessor", `{"accessor":"canary","paths":["x"]}`, root).want(400, "invalid accessor")
	s.do("POST", "sys/capabilities", `{"token":"`+id+`","paths":["x"]}`, withToken(id)).wantErrors(403, "permission denied")
}

func TestResultantACL(t *testing.T) {
	s := ready(t, 1, 1)
	id := s.withPolicy("app", `path "secret/data/*" { capabilities = ["read"] }
path "secret/x" { capabilities = ["deny"] }`)
	data := s.do("GET", "sys/internal/ui/resultant-acl", "", withToken(id)).want(200).in("data")
	data.fieldsAre("exact_paths", "glob_paths", "root")
	data.is("root", false)
	data.in("exact_paths").in("secret/x").is("capabilities", "[deny]")
	data.in("glob_paths").in("secret/data/").is("capabilities", "[read]")
	s.do("GET", "sys/internal/ui/resultant-acl", "", withToken(s.root)).want(200).in("data").is("root", true)
}

func TestPoliciesTest(t *testing.T) {
	s := ready(t, 1, 1)
	root := withToken(s.root)
	const path = "sys/policies/test"
	s.withPolicy("app", `path "secret/data/*" { capabilities = ["read", "update"] }
path "secret/data/wrapped" {
  capabilities = ["read"]
  min_wrapping_ttl = "1m"
}
path "secret/data/two" {
  capabilities = ["update"]
  allowed_parameters = { "size" = ["2"] }
}
path "secret/metadata/" { capabilities = ["list"] }
path "sys/auth/*" { capabilities = ["update"] }`)
	id, accessor := s.newToken(`{"policies":["app"]}`)
	cases := []struct{ ask, allowed, reason, rule string }{
		{`"path":"secret/data/a","operation":"read"`, "true", "granted", "secret/data/*"},
		{`"path":"/secret/data/a/","operation":"read"`, "true", "granted", "secret/data/*"},
		{`"path":"secret/data/a","operation":"delete"`, "false", "the rule for this path doesn't grant that", "secret/data/*"},
		{`"path":"secret/data/a","operation":"read","sudo":true`, "false", "this path needs sudo, too", "secret/data/*"},
		{`"path":"secret/metadata/","operation":"list"`, "true", "granted", "secret/metadata/"},
		{`"path":"secret/metadata","operation":"list"`, "true", "granted", "secret/metadata/"},
		{`"path":"secret/metadata","operation":"read"`, "false", "no rule is for this path", ""},
		{`"path":"secret/data/two","operation":"update","data":{"size":2}`, "true", "granted", "secret/data/two"},
		{`"path":"secret/data/two","operation":"update","data":{"size":3}`, "false", "a parameter or its value isn't among those allowed", "secret/data/two"},
		{`"path":"secret/data/wrapped","operation":"read"`, "false", "the reply must be wrapped", "secret/data/wrapped"},
		{`"path":"secret/data/wrapped","operation":"read","wrap_ttl":"2m"`, "true", "granted", "secret/data/wrapped"},
		{`"path":"sys/auth/userpass","operation":"update"`, "false", "this path needs sudo, too", "sys/auth/*"},
	}
	for _, c := range cases {
		for _, about := range []struct {
			field string
			by    option
		}{
			{"", withToken(id)}, {`"token":"` + id + `",`, root}, {`"accessor":"` + accessor + `",`, root}, {`"policies":["App","default"],`, root},
		} {
			data := s.do("POST", path, "{"+about.field+c.ask+"}", about.by).want(200).in("data")
			data.fieldsAre("allowed", "reason", "rule", "policies", "capabilities", "sudo_needed")
			data.is("allowed", c.allowed)
			data.is("reason", c.reason)
			data.is("rule", c.rule)
			data.is("sudo_needed", strings.Contains(c.ask, "sys/auth"))
			data.is("policies", map[bool]string{true: "[app]", false: "[]"}[c.rule != ""])
		}
	}
	// It says what then happens.
	for _, c := range []struct{ method, path, operation string }{
		{"GET", "sys/mounts", "read"},
		{"LIST", "sys/policies/acl", "list"},
		{"POST", "sys/capabilities-self", "update"},
		{"DELETE", "sys/auth/x", "delete"},
		{"GET", "sys/internal/ui/resultant-acl", "read"},
	} {
		said := s.do("POST", path, fmt.Sprintf(`{"path":%q,"operation":%q}`, c.path, c.operation), withToken(id)).want(200).in("data").body["allowed"]
		if did := s.do(c.method, c.path, "", withToken(id)).code != 403; said != did {
			t.Errorf("%s %s: %v, but %v", c.operation, c.path, said, did)
		}
	}
	s.do("POST", path, `{"path":"x","operation":"read"}`, root).want(200).in("data").is("policies", "[root]")
	for body, sentence := range map[string]string{
		`{"operation":"read"}`:                                       "missing path",
		`{"path":"/","operation":"read"}`:                            "missing path",
		`{"path":"canary//x","operation":"read"}`:                    "missing path",
		`{"path":"canary/../x","operation":"read"}`:                  "missing path",
		`{"path":"x"}`:                                               "operation must be",
		`{"path":"x","operation":"canary"}`:                          "operation must be",
		`{"path":"x","operation":"read","data":["canary"]}`:          "an object",
		`{"path":"x","operation":"read","wrap_ttl":"canary"}`:        "duration",
		`{"path":"x","operation":"read","sudo":"canary"}`:            "true or false",
		`{"path":"x","operation":"read","token":"canary"}`:           "token not found",
		`{"path":"x","operation":"read","accessor":"canary"}`:        "invalid accessor",
		`{"path":"x","operation":"read","policies":["can ary"]}`:     "policy name",
		`{"path":"x","operation":"read","policies":{"canary":1}}`:    "list",
		`{"path":"x","operation":"read","token":"a","accessor":"b"}`: "exclude each other",
	} {
		if got := s.do("POST", path, body, root).want(400, sentence); strings.Contains(got.text, "canary") {
			t.Errorf("the body comes back: %s", got.text)
		}
	}
	for _, about := range []string{`"token":"` + id + `"`, `"accessor":"` + accessor + `"`, `"policies":["app"]`, `"policies":[]`} {
		s.do("POST", path, "{"+about+`,"path":"x","operation":"read"}`, withToken(id)).wantErrors(403, "permission denied")
	}
	for _, none := range []string{"", "junk"} {
		s.do("POST", path, `{"path":"x","operation":"read"}`, withToken(none)).wantErrors(403, "permission denied")
	}
}
