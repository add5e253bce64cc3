package httpapi

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestRandom(t *testing.T) {
	s := ready(t, 1, 1)
	root := withToken(s.root)
	for _, c := range []struct {
		path, body string
		n          int
	}{
		{"sys/tools/random", "", 32},
		{"sys/tools/random", `{"bytes":"5"}`, 5},
		{"sys/tools/random/16", `{"format":"base64"}`, 16},
		{"sys/tools/random/131072", "", 131072},
	} {
		text := s.do("POST", c.path, c.body, root).want(200).in("data").str("random_bytes")
		if b, err := base64.StdEncoding.DecodeString(text); err != nil || len(b) != c.n {
			t.Errorf("%s %s: %d bytes, %v", c.path, c.body, len(b), err)
		}
		if again := s.do("POST", c.path, c.body, root).want(200).in("data").str("random_bytes"); again == text {
			t.Errorf("%s: twice the same", c.path)
		}
	}
	text := s.do("POST", "sys/tools/random/16", `{"format":"hex"}`, root).want(200).in("data").str("random_bytes")
	if b, err := hex.DecodeString(text); err != nil || len(b) != 16 {
		t.Errorf("%q: %v", text, err)
	}
	for _, c := range [][3]string{
		{"/0", "", "number of bytes"},
		{"/131073", "", "number of bytes"},
		{"/canary", "", "number of bytes"},
		{"/-1", "", "number of bytes"},
		{"", `{"bytes":0}`, "number of bytes"},
		{"", `{"bytes":"canary"}`, "whole number"},
		{"/8", `{"format":"canary"}`, "base64 or hex"},
		{"/8", `{"format":["canary"]}`, "string"},
	} {
		if got := s.do("POST", "sys/tools/random"+c[0], c[1], root).want(400, c[2]); strings.Contains(got.text, "canary") {
			t.Errorf("the request comes back: %s", got.text)
		}
	}
}

// The sums are those of the standards' examples for "abc".
func TestHash(t *testing.T) {
	s := ready(t, 1, 1)
	id, _ := s.newToken(`{"policies":["default"]}`)
	by := withToken(id)
	for algorithm, want := range map[string]string{
		"sha2-224": "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7",
		"sha2-256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		"sha2-384": "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
		"sha2-512": "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
		"sha3-224": "e642824c3f8cf24ad09234ee7d3c766fc9a3a5168d0c94ad73b46fdf",
		"sha3-256": "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532",
		"sha3-384": "ec01498288516fc926459f58e2c6ad8df9b473cb0fc08c2596da7cf0e49be4b298d88cea927ac7f539f1edf228376d25",
		"sha3-512": "b751850b1a57168a5693cd924b6b096e08f621827444f70d884f5d0240d2712e10e116e9192af3c91a7ec57647e3934057340b4cf408d5a56592f8274eec53f0",
	} {
		s.do("POST", "sys/tools/hash/"+algorithm, `{"input":"YWJj"}`, by).want(200).in("data").is("sum", want)
		sum, _ := hex.DecodeString(want)
		s.do("PUT", "sys/tools/hash", fmt.Sprintf(`{"input":"YWJj","algorithm":%q,"format":"base64"}`, algorithm), by).want(200).
			in("data").is("sum", base64.StdEncoding.EncodeToString(sum))
	}
	s.do("POST", "sys/tools/hash", `{"input":"YWJj"}`, by).want(200, "ba7816bf")
	s.do("POST", "sys/tools/hash", `{}`, by).want(200, "e3b0c442")
	for _, c := range [][3]string{
		{"/md5", `{"input":"YWJj"}`, "unknown algorithm"},
		{"", `{"input":"canary!"}`, "base64"},
		{"", `{"input":["canary"]}`, "string"},
		{"", `{"input":"YWJj","algorithm":"canary"}`, "unknown algorithm"},
		{"", `{"input":"YWJj","format":"canary"}`, "base64 or hex"},
	} {
		if got := s.do("POST", "sys/tools/hash"+c[0], c[1], by).want(400, c[2]); strings.Contains(got.text, "canary") {
			t.Errorf("the request comes back: %s", got.text)
		}
	}
}

// What one reply adds to a header of the configuration stays out of the memory that all replies share.
func TestResponseHeadersAreNotShared(t *testing.T) {
	s := ready(t, 1, 1)
	s.do("PUT", "sys/config/cors", `{"allowed_origins":"*"}`, withToken(s.root)).want(204)
	roomy := append(make([]string, 0, 2), "Accept")
	s.l.ResponseHeaders = http.Header{"Vary": roomy}
	got := s.do("GET", "sys/seal-status", "", withHeader("Origin", "https://a.example")).want(200)
	if vary := got.header.Values("Vary"); !slices.Equal(vary, []string{"Accept", "Origin"}) {
		t.Errorf("Vary: %q", vary)
	}
	if roomy[:2][1] != "" {
		t.Error("a reply wrote into the configuration")
	}
}

func TestCORS(t *testing.T) {
	s := ready(t, 1, 1)
	root := withToken(s.root)
	const path = "sys/config/cors"
	got := s.do("GET", path, "", root).want(200)
	got.in("data").fieldsAre("enabled")
	got.is("enabled", false)
	s.do("PUT", path, `{"allowed_origins":"https://ui.example.com,http://127.0.0.1:3000","allowed_headers":["X-Custom"]}`, root).want(204)
	got = s.do("GET", path, "", root).want(200)
	for _, at := range []*response{got, got.in("data")} {
		at.is("enabled", true)
		at.is("allowed_origins", "[https://ui.example.com http://127.0.0.1:3000]")
		at.is("allowed_headers", "[X-Custom]")
	}
	for body, sentence := range map[string]string{
		`{}`: "allowed_origins",
		`{"allowed_origins":["*","https://a.example"]}`:                   "allowed_origins",
		`{"allowed_origins":["canary"]}`:                                  "allowed_origins",
		`{"allowed_origins":["https://canary.example/"]}`:                 "allowed_origins",
		`{"allowed_origins":["https://Canary.example"]}`:                  "allowed_origins",
		`{"allowed_origins":["ftp://canary.example"]}`:                    "allowed_origins",
		`{"allowed_origins":["null"]}`:                                    "allowed_origins",
		`{"allowed_origins":["https://u@canary.example"]}`:                "allowed_origins",
		`{"allowed_origins":"*","allowed_headers":["X-Canary: 1"]}`:       "allowed_headers",
		`{"allowed_origins":"*","allowed_headers":["X\r\nSet-Cookie"]}`:   "allowed_headers",
		`{"allowed_origins":"*","enabled":"canary"}`:                      "true or false",
		`{"allowed_origins":{"canary":1}}`:                                "list",
		`{"allowed_origins":["https://canary.example?x"],"enabled":true}`: "allowed_origins",
	} {
		if got := s.do("PUT", path, body, root).want(400, sentence); strings.Contains(got.text, "canary") {
			t.Errorf("the body comes back: %s", got.text)
		}
	}
	s.do("PUT", path, `{"allowed_origins":"*"}`, root).want(204)
	s.do("GET", path, "", root).want(200).is("allowed_origins", "[*]")
	s.do("PUT", path, `{"enabled":false}`, root).want(204)
	s.do("GET", path, "", root).want(200).is("enabled", false)
	s.do("DELETE", path, "", root).want(204)
	weak := withToken(s.withPolicy("weak", `path "sys/config/cors" { capabilities = ["read", "update", "delete"] }`))
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		s.do(method, path, "", weak).wantErrors(403, "permission denied")
	}
}

// Data has no say in the envelope.
func TestInjected(t *testing.T) {
	s := ready(t, 1, 1)
	got := s.do("POST", "sys/capabilities-self", `{"paths":["auth","data","request_id","x"]}`, withToken(s.root)).want(200)
	got.is("x", "[root]")
	got.is("auth", nil)
	got.in("data").fieldsAre("auth", "data", "request_id", "x")
	if len(got.str("request_id")) != 36 {
		t.Error(got.text)
	}
}
