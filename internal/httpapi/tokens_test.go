package httpapi

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	hour       = 3600
	defaultTTL = 768 * hour
)

func TestCreateToken(t *testing.T) {
	s := ready(t, 1, 1)
	got := s.do("POST", "auth/token/create", "", withToken(s.root)).want(200)
	got.fieldsAre("request_id", "lease_id", "renewable", "lease_duration", "data", "wrap_info", "warnings", "auth")
	got.is("data", nil)
	got.is("warnings", nil)
	if len(got.str("request_id")) != 36 {
		t.Errorf("request_id %q", got.str("request_id"))
	}
	auth := got.in("auth")
	auth.fieldsAre("client_token", "accessor", "policies", "token_policies", "metadata", "lease_duration", "renewable", "entity_id", "token_type", "orphan", "mfa_requirement", "num_uses")
	for name, want := range map[string]any{"policies": "[root]", "metadata": nil, "lease_duration": 0, "renewable": false, "entity_id": "", "token_type": "service", "orphan": false, "num_uses": 0} {
		auth.is(name, want)
	}
	id := auth.str("client_token")
	if len(id) != 24 || !strings.HasPrefix(id, "q.") || len(auth.str("accessor")) != 24 {
		t.Errorf("%d and %d characters", len(id), len(auth.str("accessor")))
	}

	auth = s.do("PUT", "auth/token/create", `{"policies":["Default","foo","foo"],"meta":{"a":"b"},"ttl":"1h","explicit_max_ttl":7200,"display_name":"my name","num_uses":"5","type":"service","unknown":1}`,
		withToken(s.root)).want(200, "don't exist").in("auth")
	for name, want := range map[string]any{"policies": "[default foo]", "metadata": "map[a:b]", "lease_duration": hour, "renewable": true, "num_uses": 5, "orphan": false} {
		auth.is(name, want)
	}
	data := s.do("POST", "auth/token/lookup", `{"token":"`+auth.str("client_token")+`"}`, withToken(s.root)).want(200).in("data")
	for name, want := range map[string]any{
		"id": auth.str("client_token"), "accessor": auth.str("accessor"), "creation_time": s.clock.now().Unix(), "creation_ttl": hour, "ttl": hour,
		"display_name": "token-my-name", "explicit_max_ttl": 2 * hour, "meta": "map[a:b]", "num_uses": 5, "orphan": false, "path": "auth/token/create",
		"policies": "[default foo]", "renewable": true, "type": "service", "expire_time": "2026-11-24T04:00:00Z", "issue_time": "2026-11-24T03:00:00Z", "entity_id": "",
	} {
		data.is(name, want)
	}

	orphan := s.do("POST", "auth/token/create-orphan", `{"policies":"default","period":"2h"}`, withToken(s.root)).want(200).in("auth")
	orphan.is("orphan", true)
	orphan.is("lease_duration", 2*hour)
	form := s.do("POST", "auth/token/create", "policies=default&policies=foo&ttl=90&meta=a%3Db&renewable=false", withToken(s.root),
		withHeader("Content-Type", "application/x-www-form-urlencoded")).want(200).in("auth")
	for name, want := range map[string]any{"policies": "[default foo]", "lease_duration": 90, "renewable": false, "metadata": "map[a:b]"} {
		form.is(name, want)
	}
	s.do("POST", "auth/token/create", ` {"ttl":"90","policies":"default"}`, withToken(s.root),
		withHeader("Content-Type", "application/x-www-form-urlencoded")).want(200).in("auth").is("lease_duration", 90)
	s.do("POST", "auth/token/create", `["ttl=90"]`, withToken(s.root),
		withHeader("Content-Type", "application/x-www-form-urlencoded")).want(400, "JSON object")
	s.do("POST", "auth/token/create", `{"lease":"30m","policies":["default"]}`, withToken(s.root)).want(200).in("auth").is("lease_duration", hour/2)
	s.do("POST", "auth/token/create", `{"policies":["default"]}`, withToken(s.root)).want(200).in("auth").is("lease_duration", defaultTTL)
	named := s.do("POST", "auth/token/create", `{"id":"named-token-0123456789"}`, withToken(s.root)).want(200, `"warnings":["`).in("auth")
	named.is("client_token", "named-token-0123456789")
	s.do("GET", "auth/token/lookup-self", "", withToken("named-token-0123456789")).want(200)
}

func TestCreateTokenRefuses(t *testing.T) {
	s := ready(t, 1, 1)
	limited, _ := s.newToken(`{"policies":["default"]}`)
	s.newToken(`{"id":"named-token-0123456789"}`)
	uses, _ := s.newToken(`{"num_uses":10,"policies":["root"],"ttl":"1h"}`)
	before := s.accessors()
	for _, token := range []string{"", "junk", limited} {
		s.do("POST", "auth/token/create", `{"ttl":"junk"}`, withToken(token)).wantErrors(403, "permission denied")
		s.do("POST", "auth/token/create-orphan", "", withToken(token)).wantErrors(403, "permission denied")
	}
	for body, sentence := range map[string]string{
		`{"id":"named-token-0123456789"}`:      "exists",
		`{"id":"short"}`:                       "16",
		`{"id":"q.ABCDEFGHIJKLMNOPQRSTUV"}`:    "dot",
		`{"ttl":"canary"}`:                     "duration",
		`{"ttl":-1}`:                           "duration",
		`{"num_uses":-1}`:                      "num_uses",
		`{"num_uses":"canary"}`:                "whole number",
		`{"type":"batch"}`:                     "batch",
		`{"type":"canary"}`:                    "type",
		`{"policies":["response-wrapping"]}`:   "response-wrapping",
		`{"policies":["can ary"]}`:             "policy name",
		`{"policies":{"canary":1}}`:            "list",
		`{"meta":{"canary":{}}}`:               "meta",
		`{"renewable":"canary"}`:               "true or false",
		`{"display_name":["canary"]}`:          "string",
		`["canary"]`:                           "JSON object",
		`{"ttl":"1h"`:                          "unexpected EOF",
		strings.Repeat("x", createBody+1):      "at most",
		`{"policies":["a"],"policies":["b"]}`:  "twice",
		`{"meta":{"canary":"1","canary":"2"}}`: "twice",
	} {
		got := s.do("POST", "auth/token/create", body, withToken(s.root)).want(400, sentence)
		if strings.Contains(got.text, "canary") {
			t.Errorf("the body comes back: %s", got.text)
		}
	}
	s.do("POST", "auth/token/create", "", withToken(uses)).want(400, "number of uses")
	s.do("GET", "auth/token/create", "", withToken(s.root)).wantErrors(405, "unsupported operation")
	if after := s.accessors(); !slices.Equal(before, after) {
		t.Errorf("tokens were made: %d, then %d", len(before), len(after))
	}
}

func (s *server) accessors() []string {
	s.t.Helper()
	var list []string
	for _, a := range s.do("LIST", "auth/token/accessors", "", withToken(s.root)).want(200).in("data").body["keys"].([]any) {
		list = append(list, a.(string))
	}
	return list
}

func TestLookup(t *testing.T) {
	s := ready(t, 1, 1)
	id, accessor := s.newToken(`{"policies":["default"],"ttl":"1h"}`)
	s.clock.step(time.Minute)
	self := s.do("GET", "auth/token/lookup-self", "", withToken(id)).want(200).in("data")
	self.is("id", id)
	self.is("ttl", hour-60)
	self.is("creation_ttl", hour)
	if _, ok := self.body["last_renewal"]; ok {
		t.Error("it says when it was renewed, and wasn't")
	}
	s.do("GET", "auth/token/lookup-self", "", withHeader("Authorization", "Bearer "+id)).want(200)
	s.do("GET", "auth/token/lookup-self", "", withHeader("Authorization", "Bearer "+id), withToken("junk")).want(403) // the other header wins
	s.do("GET", "auth/token/lookup-self", "", withHeader("Authorization", "Token "+id)).want(403)
	s.do("GET", "auth/token/lookup-self", "", withHeader("Authorization", id)).want(403)
	s.do("POST", "auth/token/lookup-self", "", withToken(id)).want(403) // default grants only read
	s.do("POST", "auth/token/lookup-self", "", withToken(s.root)).want(200).in("data").is("id", s.root)

	s.do("GET", "auth/token/lookup", "", withToken(s.root)).want(200).in("data").is("id", s.root)
	s.do("POST", "auth/token/lookup", "", withToken(s.root)).want(200).in("data").is("id", s.root)
	s.do("PUT", "auth/token/lookup", `{"token":"`+id+`"}`, withToken(s.root)).want(200).in("data").is("accessor", accessor)
	s.do("POST", "auth/token/lookup", `{"token":"`+s.root+`"}`, withToken(id)).wantErrors(403, "permission denied")
	for _, dead := range []string{"junk", accessor, id + "x", "q.0000000000000000000000"} {
		s.do("POST", "auth/token/lookup", `{"token":"`+dead+`"}`, withToken(s.root)).wantErrors(403, "bad token")
	}
	s.do("POST", "auth/token/lookup", `{"token":["`+id+`"]}`, withToken(s.root)).want(400, "string")

	by := s.do("POST", "auth/token/lookup-accessor", `{"accessor":"`+accessor+`"}`, withToken(s.root)).want(200).in("data")
	by.is("id", "")
	by.is("accessor", accessor)
	s.do("POST", "auth/token/lookup-accessor", "{}", withToken(s.root)).want(400, "missing accessor")
	s.do("POST", "auth/token/lookup-accessor", `{"accessor":"`+id+`"}`, withToken(s.root)).want(400, "invalid accessor")
	s.do("POST", "auth/token/lookup-accessor", `{"accessor":"junk"}`, withToken(s.root)).want(400, "invalid accessor")
	s.do("POST", "auth/token/lookup-accessor", `{"accessor":"`+accessor+`"}`, withToken(id)).want(403)

	s.clock.step(time.Hour)
	s.do("GET", "auth/token/lookup-self", "", withToken(id)).wantErrors(403, "permission denied")
	s.do("POST", "auth/token/lookup", `{"token":"`+id+`"}`, withToken(s.root)).wantErrors(403, "bad token")
	s.do("POST", "auth/token/lookup-accessor", `{"accessor":"`+accessor+`"}`, withToken(s.root)).want(400, "invalid accessor")
}

func TestRenew(t *testing.T) {
	s := ready(t, 1, 1)
	id, accessor := s.newToken(`{"policies":["default"],"ttl":"1h"}`)
	s.clock.step(30 * time.Minute)
	auth := s.do("POST", "auth/token/renew-self", "", withToken(id)).want(200).in("auth")
	for name, want := range map[string]any{"client_token": id, "accessor": accessor, "lease_duration": hour, "renewable": true, "policies": "[default]"} {
		auth.is(name, want)
	}
	self := s.do("GET", "auth/token/lookup-self", "", withToken(id)).want(200).in("data")
	self.is("last_renewal", "2026-11-24T03:30:00Z")
	self.num("last_renewal_time")
	s.do("PUT", "auth/token/renew-self", `{"increment":"2h"}`, withToken(id)).want(200).in("auth").is("lease_duration", 2*hour)
	s.do("PUT", "auth/token/renew", `{"token":"`+id+`","increment":90}`, withToken(s.root)).want(200).in("auth").is("lease_duration", 90)
	by := s.do("PUT", "auth/token/renew-accessor", `{"accessor":"`+accessor+`","increment":"3h"}`, withToken(s.root)).want(200).in("auth")
	by.is("client_token", "")
	by.is("lease_duration", 3*hour)
	s.do("PUT", "auth/token/renew-self", `{"increment":"1000d"}`, withToken(id)).want(200, `"warnings":["`)

	s.do("POST", "auth/token/renew-self", "", withToken(s.root)).want(400, "invalid lease ID")
	s.do("POST", "auth/token/renew-self", `{"increment":"-1"}`, withToken(id)).want(400, "duration")
	s.do("POST", "auth/token/renew-self", `{"increment":"junk"}`, withToken("junk")).wantErrors(403, "permission denied")
	s.do("POST", "auth/token/renew", "", withToken(s.root)).want(400, "missing token")
	s.do("POST", "auth/token/renew", `{"token":"junk"}`, withToken(s.root)).want(400, "token not found")
	s.do("POST", "auth/token/renew", `{"token":"`+id+`"}`, withToken(id)).wantErrors(403, "permission denied")
	s.do("POST", "auth/token/renew-accessor", "", withToken(s.root)).want(400, "missing accessor")
	s.do("POST", "auth/token/renew-accessor", `{"accessor":"junk"}`, withToken(s.root)).want(400, "invalid accessor")
	fixed, _ := s.newToken(`{"policies":["default"],"renewable":false}`)
	s.do("POST", "auth/token/renew-self", "", withToken(fixed)).want(400, "lease is not renewable")
	s.do("GET", "auth/token/renew-self", "", withToken(s.root)).want(405)
}

func TestRevoke(t *testing.T) {
	s := ready(t, 1, 1)
	alive := func(id string) bool {
		return s.do("GET", "auth/token/lookup-self", "", withToken(id)).code == 200
	}
	family := func() (parent, child, accessor string) {
		parent, accessor = s.newToken(`{"policies":["root"],"ttl":"1h"}`)
		child, _ = s.newToken(`{"policies":["default"]}`, parent)
		return parent, child, accessor
	}
	parent, child, _ := family()
	s.do("POST", "auth/token/revoke-self", "", withToken(parent)).want(204)
	if alive(parent) || alive(child) {
		t.Error("revoke-self left something alive")
	}
	s.do("POST", "auth/token/revoke-self", "", withToken(parent)).wantErrors(403, "permission denied")

	parent, child, _ = family()
	s.do("PUT", "auth/token/revoke", `{"token":"`+parent+`"}`, withToken(s.root)).want(204)
	if alive(parent) || alive(child) {
		t.Error("revoke left something alive")
	}
	s.do("PUT", "auth/token/revoke", `{"token":"`+parent+`"}`, withToken(s.root)).want(204) // unknown is no error
	s.do("PUT", "auth/token/revoke", `{"token":"junk"}`, withToken(s.root)).want(204)
	s.do("PUT", "auth/token/revoke", "", withToken(s.root)).want(400, "missing token")
	s.do("PUT", "auth/token/revoke", `{"token":5.5,"x":1}`, withToken(s.root)).want(200, "1 of the fields that were sent mean nothing here")
	s.do("PUT", "auth/token/revoke", `{"token":{}}`, withToken(s.root)).want(400, "string")

	parent, child, accessor := family()
	s.do("PUT", "auth/token/revoke-accessor", `{"accessor":"`+accessor+`"}`, withToken(child)).want(403)
	s.do("PUT", "auth/token/revoke-accessor", `{"accessor":"`+accessor+`"}`, withToken(s.root)).want(204)
	if alive(parent) || alive(child) {
		t.Error("revoke-accessor left something alive")
	}
	got := s.do("PUT", "auth/token/revoke-accessor", `{"accessor":"`+accessor+`"}`, withToken(s.root)).want(200, "accessor")
	got.is("data", nil)
	s.do("PUT", "auth/token/revoke-accessor", `{}`, withToken(s.root)).want(400, "missing accessor")

	parent, child, _ = family()
	s.do("PUT", "auth/token/revoke-orphan", `{"token":"`+parent+`"}`, withToken(child)).want(403)
	s.do("PUT", "auth/token/revoke-orphan", `{"token":"`+parent+`"}`, withToken(s.root)).want(204)
	if alive(parent) || !alive(child) {
		t.Error("revoke-orphan took the wrong ones")
	}
	s.do("GET", "auth/token/lookup-self", "", withToken(child)).in("data").is("orphan", true)
	s.do("PUT", "auth/token/revoke-orphan", `{"token":"`+parent+`"}`, withToken(s.root)).want(400, "token not found")
	s.do("PUT", "auth/token/revoke-orphan", "", withToken(s.root)).want(400, "missing token")

	// The attempt of a token goes with it.
	parent, _, _ = family()
	s.do("PUT", attempt, "", withToken(parent)).want(200)
	s.do("PUT", "auth/token/revoke", `{"token":"`+parent+`"}`, withToken(s.root)).want(204)
	s.do("GET", attempt, "").is("started", false)
	if !alive(s.root) {
		t.Error("root is dead")
	}
}

// The last permitted use still works, and requests that are refused count too.
func TestNumUses(t *testing.T) {
	s := ready(t, 1, 1)
	id, accessor := s.newToken(`{"policies":["default"],"num_uses":3}`)
	s.do("GET", "auth/token/lookup-self", "", withToken(id)).want(200).in("data").is("num_uses", 2)
	s.do("GET", "sys/key-status", "", withToken(id)).wantErrors(403, "permission denied")
	s.do("GET", "auth/token/lookup-self", "", withToken(id)).want(200)
	s.do("GET", "auth/token/lookup-self", "", withToken(id)).wantErrors(403, "permission denied")
	s.do("POST", "auth/token/lookup-accessor", `{"accessor":"`+accessor+`"}`, withToken(s.root)).want(400, "invalid accessor")
}

func TestAccessors(t *testing.T) {
	s := ready(t, 1, 1)
	limited, _ := s.newToken(`{"policies":["default"]}`)
	for i := range 5 {
		s.newToken(fmt.Sprintf(`{"display_name":"n%d"}`, i))
	}
	all := s.accessors()
	if len(all) != 7 {
		t.Errorf("%d accessors", len(all))
	}
	for _, path := range []string{"auth/token/accessors?list=true", "auth/token/accessors/?list=true"} {
		got := s.do("GET", path, "", withToken(s.root)).want(200).in("data").body["keys"].([]any)
		if len(got) != len(all) {
			t.Errorf("%s: %d", path, len(got))
		}
	}
	part := s.do("LIST", "auth/token/accessors?limit=2&after="+all[2], "", withToken(s.root)).want(200).in("data").body["keys"].([]any)
	if len(part) != 2 || part[0] != all[3] || part[1] != all[4] {
		t.Errorf("%v of %v", part, all)
	}
	s.do("LIST", "auth/token/accessors?after="+all[6], "", withToken(s.root)).wantErrors(404)
	s.do("LIST", "auth/token/accessors?limit=x", "", withToken(s.root)).want(400, "limit")
	s.do("LIST", "auth/token/accessors?limit=-1", "", withToken(s.root)).want(400, "limit")
	s.do("LIST", "auth/token/accessors?limit=x", "", withToken(limited)).wantErrors(403, "permission denied")
	s.do("LIST", "auth/token/accessors", "").wantErrors(403, "permission denied")
	s.do("GET", "auth/token/accessors", "", withToken(s.root)).wantErrors(405, "unsupported operation")
	s.do("POST", "auth/token/accessors", "", withToken(s.root)).wantErrors(405, "unsupported operation")
}
