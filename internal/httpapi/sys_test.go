package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
)

func TestInit(t *testing.T) {
	s := newServer(t)
	s.do("GET", "sys/init", "").want(200).is("initialized", false)
	for body, sentence := range map[string]string{
		``: "secret_shares", `{}`: "secret_shares", `null`: "secret_shares",
		`{"secret_shares":5,"secret_threshold":0}`:                                "threshold",
		`{"secret_shares":5,"secret_threshold":1}`:                                "threshold",
		`{"secret_shares":5,"secret_threshold":6}`:                                "threshold",
		`{"secret_shares":256,"secret_threshold":3}`:                              "255",
		`{"secret_shares":-1,"secret_threshold":3}`:                               "secret_shares",
		`{"secret_shares":"5","secret_threshold":3}`:                              "JSON decoding",
		`{"secret_shares":5,"secret_threshold":3,"pgp_keys":"a,b"}`:               "JSON decoding",
		`{"secret_shares":5,"secret_threshold":3,"pgp_keys":["AAAA"]}`:            "pgp_keys",
		`{"secret_shares":1,"secret_threshold":1,"pgp_keys":["AAAA"]}`:            "pgp_keys",
		`{"secret_shares":1,"secret_threshold":1,"root_token_pgp_key":"AAAA"}`:    "root_token_pgp_key",
		`{"secret_shares":1,"secret_threshold":1,"recovery_shares":1}`:            "not applicable to seal type shamir",
		`{"secret_shares":1,"secret_threshold":1,"recovery_pgp_keys":["x"]}`:      "not applicable to seal type shamir",
		`{"secret_shares":1,"secret_threshold":1,"secret_shares":1}`:              "twice",
		`{"secret_shares":1,"secret_threshold":1,"Secret_Shares":1}`:              "twice",
		`secret_shares=1&secret_threshold=1`:                                      "JSON",
		`{"secret_shares":99999999999999999999999999999,"secret_threshold":3}`:    "whole number",
		`{"secret_shares":1,"secret_threshold":1} {"secret_shares":1}`:            "after its JSON",
		`{"secret_shares":1,"secret_threshold":1,"x":` + strings.Repeat("[", 1e5): "nested",
	} {
		s.do("PUT", "sys/init", body, stranger).want(400, sentence)
	}
	s.do("DELETE", "sys/init", "").wantErrors(405)
	s.do("GET", "sys/init", "").want(200).is("initialized", false)

	// What the stock clients send: zeros and nulls for what isn't meant.
	got := s.do("POST", "sys/init", `{"secret_shares":5,"SECRET_THRESHOLD":3,"stored_shares":0,"recovery_shares":0,"recovery_threshold":0,"recovery_pgp_keys":null,"pgp_keys":null,"root_token_pgp_key":"","unknown":{}}`,
		withHeader("Content-Type", "application/x-www-form-urlencoded"), stranger).want(200)
	got.fieldsAre("keys", "keys_base64", "root_token", "cluster_id", "generation")
	got.is("generation", 1)
	keys, keys64 := got.body["keys"].([]any), got.body["keys_base64"].([]any)
	if len(keys) != 5 || len(keys64) != 5 {
		t.Fatalf("%d and %d keys", len(keys), len(keys64))
	}
	for i := range keys {
		share := unhex(t, keys[i].(string))
		if len(share) != 33 || int(share[32]) != i+1 || base64.StdEncoding.EncodeToString(share) != keys64[i] {
			t.Errorf("share %d has %d bytes and x = %d", i+1, len(share), share[32])
		}
	}
	if root := got.str("root_token"); len(root) != 24 || !strings.HasPrefix(root, "q.") {
		t.Errorf("the root token has %d characters", len(root))
	}
	s.do("GET", "sys/init", "").want(200).is("initialized", true)
	s.do("GET", "sys/seal-status", "").is("sealed", true)
	s.do("PUT", "sys/init", `{"secret_shares":5,"secret_threshold":3}`).wantErrors(400, "Vault is already initialized")
	s.do("PUT", "sys/init", `{"secret_shares":5,"secret_threshold":3,"replace":true}`, stranger).want(403, "local connection")
	s.do("PUT", "sys/init", `{"secret_shares":1,"secret_threshold":1,"replace":true}`).want(200)
	s.do("GET", "sys/seal-status", "").is("n", 1)
}

// What the stock products don't have: labels, age recipients and a root token that expires.
func TestInitExtras(t *testing.T) {
	s := newServer(t)
	ids := make([]*age.X25519Identity, 3)
	for i := range ids {
		var err error
		if ids[i], err = age.GenerateX25519Identity(); err != nil {
			t.Fatal(err)
		}
	}
	a, b, owner := ids[0].Recipient().String(), ids[1].Recipient().String(), ids[2].Recipient().String()
	two := `{"secret_shares":2,"secret_threshold":2`
	for body, sentence := range map[string]string{
		`,"holders":["alice"]}`:                                                     "label",
		`,"holders":"alice,bob"}`:                                                   "JSON decoding",
		`,"holders":["alice","two\nlines"]}`:                                        "",
		`,"holders":["alice","` + strings.Repeat("b", 201) + `"]}`:                  "",
		`,"age_recipients":["` + a + `"]}`:                                          "number of",
		`,"age_recipients":["` + a + `","age1"]}`:                                   "age_recipients[1]",
		`,"age_recipients":["` + a + `",""]}`:                                       "age_recipients[1]",
		`,"age_recipients":["` + a + `",7]}`:                                        "JSON decoding",
		`,"age_recipients":["` + a + `","` + b + `"],"pgp_keys":["AAAA","AAAA"]}`:   "",
		`,"root_token_age_recipients":"age1name1xyz"}`:                              "root_token_age_recipients",
		`,"root_token_age_recipients":"` + owner + `","root_token_pgp_key":"AAAA"}`: "",
		`,"root_token_ttl":"-1h"}`:                                                  "duration",
		`,"root_token_ttl":true}`:                                                   "duration",
	} {
		s.do("PUT", "sys/init", two+body).want(400, sentence)
	}
	s.do("GET", "sys/init", "").is("initialized", false)
	got := s.do("PUT", "sys/init", two+`,"holders":["alice","bob"],"age_recipients":["`+a+`","`+b+`"],"root_token_age_recipients":"`+owner+`","root_token_ttl":"1h"}`).want(200)
	for i, key := range got.list("keys") {
		s.keys = append(s.keys, decryptAge(t, ids[i], unhex(t, key)))
	}
	message, err := base64.StdEncoding.DecodeString(got.str("root_token"))
	if err != nil {
		t.Fatal(err)
	}
	s.root = decryptAge(t, ids[2], message)
	s.unseal(2)
	self := s.do("GET", "auth/token/lookup-self", "", withToken(s.root)).want(200).in("data")
	self.is("ttl", 3600)
	self.is("renewable", false)
	s.do("GET", "sys/ceremonies/holders", "").want(200, `"label":"alice"`, `"label":"bob"`)
	s.do("GET", "sys/seal-status", "").is("cluster_id", got.str("cluster_id"))
	s.clock.step(time.Hour)
	s.do("GET", "auth/token/lookup-self", "", withToken(s.root)).want(403)
}

func decryptAge(t *testing.T, id age.Identity, message []byte) string {
	t.Helper()
	r, err := age.Decrypt(bytes.NewReader(message), id)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestSealStatus(t *testing.T) {
	s := newServer(t)
	fields := []string{"type", "initialized", "sealed", "t", "n", "progress", "nonce", "version", "build_date", "commit_date", "migration", "recovery_seal", "storage_type"}
	got := s.do("GET", "sys/seal-status", "", stranger).want(200)
	got.fieldsAre(fields...)
	for name, want := range map[string]any{"type": "shamir", "initialized": false, "sealed": true, "t": 0, "n": 0, "progress": 0, "nonce": "", "version": "0.1.0", "storage_type": "inmem"} {
		got.is(name, want)
	}
	s.init(5, 3)
	got = s.do("GET", "sys/seal-status", "").want(200)
	got.fieldsAre(fields...)
	got.is("t", 3)
	got.is("n", 5)
	s.unseal(3)
	got = s.do("GET", "sys/seal-status", "", withToken("junk")).want(200)
	got.fieldsAre(slices.Insert(fields, 11, "cluster_name", "cluster_id")...)
	got.is("sealed", false)
	got.is("cluster_name", "harbour")
	s.do("POST", "sys/seal-status", "").wantErrors(405)
}

func TestUnseal(t *testing.T) {
	s := newServer(t)
	junk := strings.Repeat("ab", 33)
	s.do("PUT", "sys/unseal", `{"key":"`+junk+`"}`).wantErrors(400, "Vault is not initialized")
	s.do("PUT", "sys/unseal", `{"key":"zz"}`).want(400, "hex or base64")
	s.init(5, 3)
	for body, sentence := range map[string]string{
		``: "'key' must be specified", `{}`: "'key' must be specified", `{"key":""}`: "'key' must be specified",
		`{"key":null,"reset":false}`:                        "'key' must be specified",
		`{"key":5}`:                                         "JSON decoding",
		`{"key":["` + s.keys[0] + `"]}`:                     "JSON decoding",
		`{"key":"` + s.keys[0] + `","reset":"true"}`:        "JSON decoding",
		`{"key":" ` + s.keys[0] + `"}`:                      "hex or base64",
		`{"key":"` + s.keys[0] + `\n"}`:                     "hex or base64",
		`{"key":"zz"}`:                                      "hex or base64",
		`{"key":"abcd"}`:                                    "shorter",
		`{"key":"` + junk + junk + `"}`:                     "longer",
		`{"key":"` + strings.Repeat("a", 1<<20) + `"}`:      "at most 4096 bytes", // T13
		`{"key":"` + s.keys[0] + `","key":"` + junk + `"}`:  "twice",
		`{"key":"` + s.keys[0] + `","KEY":"` + junk + `"}`:  "twice",
		`{"key":"` + s.keys[0] + `"`:                        "unexpected EOF",
		`key=` + s.keys[0]:                                  "JSON",
		`{"key":"` + strings.Repeat("ab", 32) + "00" + `"}`: "slot",
		`{"key":"` + strings.Repeat("ab", 32) + "03" + `"}`: "slot 3",
	} {
		s.do("PUT", "sys/unseal", body, stranger).want(400, sentence)
	}
	// A form is no JSON, whatever it is called; and JSON is JSON.
	form := withHeader("Content-Type", "application/x-www-form-urlencoded")
	s.do("PUT", "sys/unseal", "key="+s.keys[0], form).want(400, "JSON")
	s.do("PUT", "sys/unseal", `{"key":"zz"}`, form).want(400, "hex or base64")
	s.do("GET", "sys/unseal", "").wantErrors(405)
	s.do("GET", "sys/seal-status", "").is("progress", 0)

	got := s.do("PUT", "sys/unseal", `{"key":"`+strings.ToUpper(s.keys[0])+`"}`, stranger).want(200)
	got.is("progress", 1)
	nonce := got.str("nonce")
	base := base64.StdEncoding.EncodeToString(unhex(t, s.keys[0]))
	escaped := strings.ReplaceAll(base, "/", `\/`)
	again := s.do("POST", "sys/unseal", `{"Key":"`+escaped+`"}`, stranger).want(200) // the same share
	again.is("progress", 1)
	again.is("nonce", nonce)

	// T05: a stranger's reset changes nothing, whatever it brings.
	s.do("PUT", "sys/unseal", `{"reset":true}`, stranger).want(403, "valid key share")
	s.do("PUT", "sys/unseal", `{"reset":true,"key":"`+junk+`"}`, stranger).want(403)
	s.do("PUT", "sys/unseal", `{"reset":true}`, withHeader("X-Forwarded-For", "127.0.0.1")).want(403)
	s.do("GET", "sys/seal-status", "").is("progress", 1)
	// A holder's does, whatever others gave; but not all the time.
	s.do("PUT", "sys/unseal", `{"reset":true,"key":"`+s.keys[4]+`"}`, stranger).want(200).is("progress", 0)
	s.do("PUT", "sys/unseal", `{"key":"`+s.keys[0]+`"}`).want(200).is("progress", 1)
	s.do("PUT", "sys/unseal", `{"reset":true,"key":"`+s.keys[4]+`"}`, stranger).want(429, "")
	s.do("PUT", "sys/unseal", `{"reset":true}`).want(200).is("progress", 0)
	s.do("PUT", "sys/unseal", `{"key":"`+s.keys[0]+`"}`).want(200).is("progress", 1)
	s.do("PUT", "sys/unseal", `{"reset":true}`).want(200).is("progress", 0)

	for i := range 3 {
		got = s.do("PUT", "sys/unseal", `{"key":"`+s.keys[i]+`"}`, stranger).want(200)
	}
	for name, want := range map[string]any{"sealed": false, "progress": 0, "nonce": "", "t": 3, "n": 5} {
		got.is(name, want)
	}
	s.do("PUT", "sys/unseal", `{"key":"`+junk+`"}`, stranger).want(200).is("sealed", false)
	s.do("PUT", "sys/unseal", `{"reset":true}`).want(400, "vault is unsealed")
}

func TestSeal(t *testing.T) {
	s := newServer(t)
	s.do("PUT", "sys/seal", "").want(204)
	s.init(3, 2)
	s.do("PUT", "sys/seal", "", withToken("junk"), stranger).want(204) // sealed: no token is looked at
	s.unseal(2)
	limited, _ := s.newToken(`{"policies":["default"]}`)
	s.do("PUT", "sys/seal", "").wantErrors(403, "permission denied")
	s.do("PUT", "sys/seal", "", withToken("junk")).wantErrors(403, "permission denied")
	s.do("PUT", "sys/seal", "", withToken(limited)).wantErrors(403, "permission denied")
	s.do("GET", "sys/seal", "", withToken(s.root)).wantErrors(405)
	s.do("DELETE", "sys/seal", "", withToken(s.root)).wantErrors(405)
	if s.node.Sealed() {
		t.Fatal("sealed by nobody")
	}
	s.do("POST", "sys/seal", "{}", withToken(s.root)).want(204)
	s.do("GET", "sys/seal-status", "").is("sealed", true)
	s.do("GET", "auth/token/lookup-self", "", withToken(s.root)).wantErrors(503, "Vault is sealed")
}

func TestStepDown(t *testing.T) {
	s := newServer(t)
	s.do("PUT", "sys/step-down", "").want(204)
	s.init(1, 1)
	s.unseal(1)
	s.do("POST", "sys/step-down", "", withToken("junk"), stranger).want(204)
	s.do("GET", "sys/step-down", "").wantErrors(405)
	if s.node.Sealed() {
		t.Error("it did something")
	}
}

func TestHealth(t *testing.T) {
	s := newServer(t)
	check := func(query string, code int) *response {
		t.Helper()
		s.do("HEAD", "sys/health"+query, "").want(code)
		return s.do("GET", "sys/health"+query, "", stranger).want(code)
	}
	got := check("", 501)
	got.fieldsAre("initialized", "sealed", "standby", "performance_standby", "replication_performance_mode", "replication_dr_mode", "server_time_utc", "version", "enterprise")
	for name, want := range map[string]any{"initialized": false, "sealed": true, "standby": true, "replication_dr_mode": "unknown", "replication_performance_mode": "unknown"} {
		got.is(name, want)
	}
	if got.num("server_time_utc") != int(s.clock.now().Unix()) {
		t.Error("the time is wrong")
	}
	all299 := "?uninitcode=299&sealedcode=299&standbycode=299&drsecondarycode=299&performancestandbycode=299&removedcode=299&haunhealthycode=299"
	check(all299, 299)
	check("?uninitcode=210&sealedcode=211&activecode=212", 210)
	s.init(1, 1)
	check("", 503)
	check(all299, 299)
	check("?uninitcode=210&sealedcode=211&activecode=212", 211)
	s.unseal(1)
	got = check("", 200)
	for name, want := range map[string]any{"initialized": true, "sealed": false, "standby": false, "replication_dr_mode": "disabled", "cluster_name": "harbour"} {
		got.is(name, want)
	}
	check("?uninitcode=210&sealedcode=211&activecode=212", 212)
	check("?activecode=503", 503)
	for _, query := range []string{"standbyok", "standbyok=", "standbyok=true", "standbyok=false", "perfstandbyok=1"} {
		check("?"+query, 200)
	}
	for _, query := range []string{
		"activecode=", "activecode=abc", "activecode=2e2", "activecode=99", "activecode=100", "activecode=1000", "activecode=-200",
		"sealedcode", "uninitcode=x", "standbycode=x", "drsecondarycode=", "standbyok=maybe", "perfstandbyok=2",
	} {
		if got := s.do("GET", "sys/health?"+query, ""); got.code != 400 || got.text != `{"errors":[]}`+"\n" {
			t.Errorf("%s: %d %s", query, got.code, got.text)
		}
	}
	s.do("PUT", "sys/health", "").want(405)
}

func TestLeader(t *testing.T) {
	s := newServer(t)
	got := s.do("GET", "sys/leader", "", stranger).want(200)
	got.is("ha_enabled", false)
	got.is("active_time", "0001-01-01T00:00:00Z")
	got.is("leader_address", "")
	s.do("PUT", "sys/leader", "").wantErrors(405)
}

func TestKeyStatus(t *testing.T) {
	s := ready(t, 1, 1)
	limited, _ := s.newToken(`{"policies":["default"]}`)
	s.do("GET", "sys/key-status", "").wantErrors(403, "permission denied")
	s.do("GET", "sys/key-status", "", withToken(limited)).wantErrors(403, "permission denied")
	got := s.do("GET", "sys/key-status", "", withToken(s.root)).want(200)
	for _, at := range []*response{got, got.in("data")} { // the same at both places
		at.is("term", 1)
		at.is("install_time", "2026-11-24T03:00:00Z")
		at.num("encryptions")
	}
	got.fieldsAre("term", "install_time", "encryptions", "request_id", "lease_id", "renewable", "lease_duration", "data", "wrap_info", "warnings", "auth")
	s.do("POST", "sys/key-status", "", withToken(s.root)).want(405, "unsupported operation")
	s.do("POST", "sys/key-status", "").wantErrors(403, "permission denied")
}

// Paths that don't exist (wire reference 1.1): what there is, is told to who may know it.
func TestUnknownPaths(t *testing.T) {
	s := newServer(t)
	for _, path := range []string{"sys/unknown", "nope/x", "sys/init/", "", "auth/token/nope"} {
		s.do("GET", path, "").wantErrors(503, "Vault is sealed")
	}
	s.init(1, 1)
	s.unseal(1)
	limited, _ := s.newToken(`{"policies":["default"]}`)
	for _, path := range []string{"sys/unknown", "nope/x", "sys/init/", "auth/token/nope", "SYS/INIT", "sys/Seal-Status"} {
		for _, method := range []string{"GET", "LIST", "HEAD"} {
			s.do(method, path, "").want(403)
			s.do(method, path, "", withToken("junk")).want(403)
			s.do(method, path, "", withToken(limited)).want(403)
			s.do(method, path, "", withToken(s.root)).want(404)
		}
	}
	s.do("GET", "sys/unknown", "").wantErrors(403, "permission denied")
	s.do("GET", "sys/unknown", "", withToken(s.root)).want(404, "unsupported path")
	s.do("GET", "nope/x", "", withToken(s.root)).want(404, "no handler for route")
	s.do("POST", "nope/x", "not JSON", withToken(s.root)).want(404) // not read
	s.do("DELETE", "nope/x", "", withToken(s.root)).want(404)
	s.do("PUT", "sys/init/", "", withToken(s.root)).want(400, "ending in '/'")
	s.do("PUT", "auth/token/create/", "{}", withToken(s.root)).want(400, "ending in '/'")
	s.do("DELETE", "sys/generate-root-token/attempt/", "", withToken(s.root)).want(400, "ending in '/'")
	s.do("PATCH", "nope/x", "{}", withToken(s.root)).want(415, "merge-patch")
	s.do("PATCH", "nope/x", "{}", withToken(s.root), withHeader("Content-Type", "application/merge-patch+json")).want(404)
	s.do("OPTIONS", "nope/x", "").want(400)
	s.do("PROPFIND", "nope/x", "", withToken(s.root)).wantErrors(405)
	s.do("GET", "nope/x?list=maybe", "", withToken(s.root)).wantErrors(400)
	s.do("GET", "cubbyhole/x", "", withToken(limited)).want(404) // default allows it, but there is nothing yet
}

func TestOutsideAndOddPaths(t *testing.T) {
	s := newServer(t)
	at := func(path string, options ...option) *response {
		t.Helper()
		r := httptest.NewRequest("PUT", "http://127.0.0.1:8200/", strings.NewReader("{}"))
		u, err := r.URL.Parse("http://127.0.0.1:8200" + path)
		if err != nil {
			t.Fatal(err)
		}
		r.URL = u
		for _, o := range options {
			o(r)
		}
		return s.send(r)
	}
	for _, path := range []string{"/", "/v1", "/ui/", "/metrics", "/V1/sys/init"} {
		if got := at(path).want(404); got.text != "404 page not found\n" || !strings.HasPrefix(got.header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: %q as %s", path, got.text, got.header.Get("Content-Type"))
		}
	}
	if got := at("/v1/sys//unseal?a=b").want(307); got.header.Get("Location") != "/v1/sys/unseal?a=b" || got.text != "" {
		t.Errorf("to %q with body %q", got.header.Get("Location"), got.text)
	}
	at("/v1/sys/%2e%2e/sys/init").want(400, "relative paths")
	if got := at("/v1/sys/init%00").want(400); got.text != "" {
		t.Errorf("body %q", got.text)
	}
}

func TestNamespaces(t *testing.T) {
	s := ready(t, 1, 1)
	for _, ns := range []string{"root", "root/", "/", "/root/"} {
		s.do("GET", "sys/health", "", withHeader("X-Vault-Namespace", ns)).want(200)
		s.do("GET", "auth/token/lookup-self", "", withToken(s.root), withHeader("X-Vault-Namespace", ns)).want(200)
	}
	other := withHeader("X-Vault-Namespace", "team/a")
	for _, path := range []string{"sys/init", "sys/unseal", "sys/seal", "sys/step-down", "sys/health", "sys/generate-root/attempt", "sys/generate-root/update", "sys/root-generation/attempt"} {
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			s.do(method, path, "", other, withToken(s.root)).wantErrors(400, "operation unavailable in namespaces")
		}
	}
	for _, path := range []string{"sys/generate-root-token/attempt", "auth/token/lookup-self", "nope/x", "sys/key-status"} {
		s.do("GET", path, "", other, withToken(s.root)).wantErrors(404, "namespace not found")
	}
}

func TestCrossOrigin(t *testing.T) {
	s := ready(t, 1, 1)
	page := withHeader("Sec-Fetch-Site", "cross-site")
	s.do("PUT", "sys/unseal", `{"reset":true}`, page).want(403, "cross-origin")
	s.do("DELETE", "sys/generate-root/attempt", "", page, withToken(s.root)).want(403, "cross-origin")
	s.do("PUT", "sys/seal", "", withHeader("Origin", "https://evil.example"), withToken(s.root)).want(403, "cross-origin")
	s.do("LIST", "auth/token/accessors", "", withHeader("Origin", "https://evil.example"), withToken(s.root)).want(403, "cross-origin")
	s.do("GET", "sys/seal-status", "", page).want(200)
	s.do("PUT", "sys/step-down", "", withHeader("Sec-Fetch-Site", "same-origin")).want(204)
	if s.node.Sealed() {
		t.Error("a page sealed the server")
	}
}

// What is open to all keeps nothing for anybody: only a token, or a login, leads to a wrapped reply.
func TestNoWrappingForStrangers(t *testing.T) {
	s := ready(t, 1, 1)
	minute := withHeader("X-Vault-Wrap-TTL", "60")
	open := 0
	for _, r := range allRoutes() {
		if r.authority == byToken || r.withToken || r.raw {
			continue
		}
		for op, verb := range map[operation]string{opRead: "GET", opUpdate: "POST", opDelete: "DELETE", opList: "LIST"} {
			if r.ops[op] == nil {
				continue
			}
			open++
			s.do(verb, strings.ReplaceAll(r.path, anyNonce, "a74ac12f-8a25-4b8f-a8a8-ab6f4a6f2b0d"), "", minute).want(400, "are not wrapped")
		}
	}
	if open == 0 {
		t.Error("no route was tried")
	}
	s.do("GET", "sys/transcript", "", withHeader("X-Vault-Wrap-TTL", "0")).want(200)
}

// A wrapped reply can be had once, by whoever has its token, and is as it would have been.
func TestWrapping(t *testing.T) {
	s := ready(t, 1, 1)
	for _, ttl := range []string{"junk", "-1", "1000000d"} {
		wrap := withHeader("X-Vault-Wrap-TTL", ttl)
		s.do("POST", "sys/wrapping/wrap", `{"a":"b"}`, withToken(s.root), wrap).want(400, "TTL")
		s.do("PUT", "sys/generate-root/attempt", "", wrap).want(200) // raw: ignored
		s.do("DELETE", "sys/generate-root/attempt", "", wrap).want(204)
	}
	s.do("POST", "auth/token/create", "", withToken(s.root), withHeader("X-Vault-Wrap-TTL", "0")).want(200).in("auth")
	s.do("POST", "sys/wrapping/wrap", `{"a":"b"}`, withToken(s.root)).want(400, "X-Vault-Wrap-TTL")

	minute := withHeader("X-Vault-Wrap-TTL", "1m")
	created := s.do("POST", "auth/token/create", `{"policies":["default"]}`, withToken(s.root), minute).want(200)
	created.is("request_id", "")
	info := created.in("wrap_info")
	info.is("creation_path", "auth/token/create")
	if created.body["auth"] != nil || created.body["data"] != nil || info.body["ttl"] != 60.0 || info.str("wrapped_accessor") == "" {
		t.Fatalf("%s", created.text)
	}
	id := info.str("token")
	s.do("POST", "sys/wrapping/lookup", `{"token":"`+id+`"}`).want(200).in("data").is("creation_path", "auth/token/create")
	moved := s.do("POST", "sys/wrapping/rewrap", `{"token":"`+id+`"}`, withToken(s.root)).want(200).in("wrap_info")
	moved.is("creation_path", "auth/token/create")
	s.do("POST", "sys/wrapping/unwrap", "", withToken(id)).wantErrors(400, "wrapping token is not valid or does not exist")
	id = moved.str("token")
	inner := s.do("POST", "sys/wrapping/unwrap", "", withToken(id)).want(200).in("auth").str("client_token")
	s.do("GET", "auth/token/lookup-self", "", withToken(inner)).want(200)
	s.do("POST", "sys/wrapping/unwrap", "", withToken(id)).want(400)

	own := s.do("POST", "sys/wrapping/wrap", `{"a":{"b":1}}`, withToken(s.root), minute).want(200).in("wrap_info").str("token")
	s.do("POST", "sys/wrapping/unwrap", `{"token":"`+own+`"}`, withToken("junk")).want(403)
	s.do("POST", "sys/wrapping/unwrap", `{"token":"`+inner+`"}`, withToken(inner)).want(400) // no wrapping token
	s.do("POST", "sys/wrapping/unwrap", `{"token":"`+own+`"}`, withToken(inner)).want(200).in("data").in("a")
	late := s.do("POST", "sys/wrapping/wrap", `{"a":"b"}`, withToken(s.root), minute).want(200).in("wrap_info").str("token")
	s.clock.step(time.Minute)
	s.do("POST", "sys/wrapping/unwrap", "", withToken(late)).want(400, "not valid")
}

// What takes too long is given up, with a sentence.
func TestMaxRequestDuration(t *testing.T) {
	s := ready(t, 1, 1)
	s.l.MaxRequestDuration = time.Nanosecond
	s.do("GET", "auth/token/lookup-self", "", withToken(s.root)).want(503, "given up")
	s.l.MaxRequestDuration = time.Minute
	s.do("GET", "auth/token/lookup-self", "", withToken(s.root)).want(200)
}

// TestOverTCP looks at what only a real connection shows.
func TestOverTCP(t *testing.T) {
	s := ready(t, 3, 2)
	web := httptest.NewServer(s.api.Handler(s.l))
	defer web.Close()
	get := func(method, path string, body io.Reader) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, web.URL+path, body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Vault-Token", s.root)
		res, err := http.DefaultTransport.RoundTrip(r) // no redirects
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	for _, c := range []struct {
		method, path string
		body         io.Reader
		code         int
		length       string
	}{
		{"HEAD", "/v1/sys/health", nil, 200, ""},
		{"PUT", "/v1/sys/generate-root/attempt", nil, 200, ""},
		{"DELETE", "/v1/sys/generate-root/attempt", nil, 204, ""},
		{"DELETE", "/v1/sys/generate-root/attempt", io.MultiReader(strings.NewReader("")), 204, ""}, // chunked, empty
		{"PUT", "/v1/auth/token/create", io.MultiReader(strings.NewReader(`{"ttl":`), strings.NewReader(`"1h"}`)), 200, ""},
		{"PUT", "/v1/sys/unseal", io.MultiReader(strings.NewReader(`{"key":"`), endless{}), 400, ""}, // T59
		{"GET", "/v1/sys//health", nil, 307, ""},
		{"GET", "/", nil, 404, ""},
	} {
		res := get(c.method, c.path, c.body)
		if res.StatusCode != c.code || res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s: %d %v", c.method, c.path, res.StatusCode, res.Header)
		}
		if ct := res.Header.Get("Content-Type"); c.path != "/" && ct != "application/json" {
			t.Errorf("%s %s: content type %q", c.method, c.path, ct)
		}
		res.Body.Close()
	}
	if got := rawExchange(t, web.Listener.Addr().String(),
		"PUT /v1/sys/unseal HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 400") {
		t.Errorf("a body that is announced too large was asked for: %q", got) // T59
	}
	if got := rawExchange(t, web.Listener.Addr().String(), "GET //evil.example/%2e%2e HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 307") {
		t.Errorf("%q", got)
	}
	if got := rawExchange(t, web.Listener.Addr().String(), "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 ") {
		t.Errorf("%q", got)
	}
}

// endless is a body that goes on as long as somebody reads it.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}

func rawExchange(t *testing.T, addr, request string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, request)
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return line
}
