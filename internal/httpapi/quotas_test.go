package httpapi

import (
	"strings"
	"testing"
)

func TestQuotas(t *testing.T) {
	s := ready(t, 1, 1)
	root := withToken(s.root)
	const path = "sys/quotas/rate-limit"
	s.do("POST", "sys/mounts/secret", `{"type":"kv"}`, root).want(204)
	s.do("LIST", path, "", root).wantErrors(404)
	s.do("GET", path+"/all", "", root).wantErrors(404)
	s.do("POST", path+"/All", `{"rate":1000.5}`, root).want(204)
	s.do("POST", path+"/kv", `{"path":"secret/","rate":"50","interval":"1m","block_interval":30}`, root).want(204)
	data := s.do("GET", path+"/ALL", "", root).want(200).in("data")
	data.fieldsAre("block_interval", "interval", "name", "path", "rate", "type")
	for name, want := range map[string]any{"name": "all", "type": "rate-limit", "path": "", "interval": 1, "block_interval": 0} {
		data.is(name, want)
	}
	if data.body["rate"] != 1000.5 {
		t.Errorf("rate %v", data.body["rate"])
	}
	data = s.do("GET", path+"/kv", "", root).want(200).in("data")
	for name, want := range map[string]any{"path": "secret/", "rate": 50, "interval": 60, "block_interval": 30} {
		data.is(name, want)
	}
	s.do("LIST", path, "", root).want(200).in("data").is("keys", "[all kv]")
	s.do("LIST", path+"/?after=all", "", root).want(200).in("data").is("keys", "[kv]")
	s.do("LIST", path+"?limit=1", "", root).want(200).in("data").is("keys", "[all]")
	s.do("LIST", path+"?limit=x", "", root).want(400, "limit")
	for range 2 {
		s.do("DELETE", path+"/KV", "", root).want(204)
		s.do("GET", path+"/kv", "", root).wantErrors(404)
	}
	s.do("GET", "sys/quotas/config", "", root).want(200).in("data").fieldsAre("enable_rate_limit_audit_logging", "enable_rate_limit_response_headers", "rate_limit_exempt_paths")
	s.do("POST", "sys/quotas/config", `{}`, root).wantErrors(405, "unsupported operation")

	for body, sentence := range map[string]string{
		`{}`:                                     "rate must be over 0",
		`{"rate":0}`:                             "rate must be over 0",
		`{"rate":-1}`:                            "rate must be over 0",
		`{"rate":"canary"}`:                      "a number",
		`{"rate":"NaN"}`:                         "a number",
		`{"rate":"Inf"}`:                         "a number",
		`{"rate":1e300}`:                         "a number",
		`{"rate":[1]}`:                           "string",
		`{"rate":1,"interval":"canary"}`:         "duration",
		`{"rate":1,"interval":"10ms"}`:           "at least a second",
		`{"rate":1,"path":{"canary":1}}`:         "string",
		`{"rate":1,"block_interval":"-canary"}`:  "duration",
		`{"rate":1,"path":"","name":"whatever"}`: "another rate limit has this path",
		`{"rate":1,"path":"canary/"}`:            "nothing is mounted",
	} {
		if got := s.do("POST", path+"/other", body, root).want(400, sentence); strings.Contains(got.text, "canary") {
			t.Errorf("the body comes back: %s", got.text)
		}
	}
	s.do("POST", path+"/can%20ary", `{"rate":1,"path":"x"}`, root).want(400, "name")
	s.do("LIST", path, "", root).want(200).in("data").is("keys", "[all]")
}

// A limit holds for its path, for each client, and for what needs a token.
func TestQuotasHold(t *testing.T) {
	s := ready(t, 1, 1)
	root := withToken(s.root)
	s.do("POST", "sys/quotas/rate-limit/mounts", `{"path":"sys/mounts","rate":2,"interval":"1m"}`, root).want(204)
	s.do("GET", "sys/quotas/rate-limit/mounts", "", root).want(200) // a limit counts from when it is next seen
	for range 2 {
		s.do("GET", "sys/mounts", "", root).want(200)
	}
	if got := s.do("GET", "sys/mounts", "", root).want(429, "rate limit quota"); got.header.Get("Retry-After") == "" {
		t.Error("it doesn't say when to come back")
	}
	s.do("GET", "sys/mounts/cubbyhole", "", root).want(429)
	s.do("GET", "sys/mounts", "", root, stranger).want(200)
	s.do("GET", "sys/auth", "", root).want(200)
	s.do("DELETE", "sys/quotas/rate-limit/mounts", "", root).want(204)
	s.do("GET", "sys/mounts", "", root).want(200)
}
