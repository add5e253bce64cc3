package httpapi

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// canaries are things that must never come back and never be written down, in all the ways they are written.
type canaries struct {
	share, token, otp string
	forms             []string
}

func newCanaries(t *testing.T, share, token, otp string) canaries {
	c := canaries{share: share, token: token, otp: otp}
	c.forms = []string{share, strings.ToUpper(share), b64key(t, share), token, otp}
	for _, s := range []string{token, otp} {
		c.forms = append(c.forms, base64.StdEncoding.EncodeToString([]byte(s)), fmt.Sprintf("%x", s))
	}
	// Half of one is bad enough.
	for _, s := range c.forms[:5] {
		c.forms = append(c.forms, s[:len(s)/2], s[len(s)/2:])
	}
	return c
}

func (c canaries) sing(t *testing.T, where, text string) {
	t.Helper()
	for _, form := range c.forms {
		if strings.Contains(text, form) {
			t.Errorf("%s: %q is in %.300q", where, form, text)
		}
	}
}

// bodies puts a canary into every place of a body where a reader may stumble.
func bodies(s string) []string {
	return []string{
		s, `"` + s + `"`, `["` + s + `"]`, `{"` + s + `"`, `{"` + s + `":1}`, `{"` + s + `":1,"` + s + `":2}`, `{"key":"` + s, `{"key":"` + s + `"`,
		`{"key":"` + s + `\x"}`, "{\"key\":\"" + s + "\x01\"}", "{\"key\":\"" + s + "\xff\"}", `{"key":"` + s + `","key":1}`, `{"key":` + s + `}`,
		`{"key":["` + s + `"],"nonce":["` + s + `"],"otp":{"` + s + `":1}}`, `{"key":"` + s + `x","nonce":"` + s + `"}`, `{"key":"` + s + s + `"}`,
		`{"key":"` + s + `","nonce":"` + s + `","otp":"` + s + `","pgp_key":"` + s + `","reason":"` + strings.Repeat(s, 9) + `"}`,
		`{"otp":"` + s + `x","encoded_token":"` + s + `"}`, `{"pgp_key":"` + s + `"}`, `{"reason":"` + s + `\n"}`, `{"nonce":"` + s + `"}`,
		`{"token":"` + s + `x","accessor":"` + s + `","increment":"` + s + `"}`, `{"token":["` + s + `"],"accessor":{"` + s + `":1}}`,
		`{"id":"` + s + `.","policies":["` + s + ` x"],"meta":{"` + s + `":["` + s + `"]}}`, `{"ttl":"` + s + `"}`, `{"type":"` + s + `"}`,
		`{"policies":"` + s + `{}"}`, `{"display_name":{"a":"` + s + `"}}`, `{"num_uses":"` + s + `"}`,
		`{"secret_shares":"` + s + `"}`, `{"secret_shares":2,"secret_threshold":2,"pgp_keys":["` + s + `","` + s + `"]}`,
		`{"secret_shares":1,"secret_threshold":1,"root_token_pgp_key":"` + s + `"}`, `{"reset":"` + s + `"}`, `{"key":"` + s + `","reset":true}`,
		"key=" + s + "&nonce=" + s + "%zz", "key=" + s + ";x", "token=" + s + "&increment=" + s, "otp=" + s + "&encoded_token=" + s,
		strings.Repeat(s, 6000/len(s)),
	}
}

// T52, T53: a known share, token and one-time password, sent to every route in every wrong way there is: neither an
// error nor the log, at its lowest level, ever holds a piece of them.
func TestCanary(t *testing.T) {
	s := ready(t, 3, 2)
	c := newCanaries(t, s.keys[2], "q.CanaryCanaryCanary1234", "OtpCanaryOtpCanaryOtp012")
	tries := 0
	try := func(method, path, body string, options ...option) {
		t.Helper()
		tries++
		got := s.do(method, path, body, append(options, mergePatch)...)
		if got.code >= 400 {
			c.sing(t, fmt.Sprintf("%s %s", method, path), got.text+fmt.Sprint(got.header))
		}
	}
	form := withHeader("Content-Type", "application/x-www-form-urlencoded")
	for _, canary := range []string{c.share, c.token, c.otp} {
		for _, r := range allRoutes() {
			path := r.sample()
			for _, body := range bodies(canary) {
				try("PUT", path, body, stranger)
				try("PUT", path, body, stranger, form)
				if strings.HasPrefix(path, "auth/") && path != "auth/token/revoke-self" {
					try("PUT", path, body, withToken(s.root))
				}
			}
			for _, op := range allOps {
				try(verbs[op], path, "{", withToken(canary), stranger)
				try(verbs[op], path, "", withToken(canary), withHeader("X-Vault-Namespace", canary))
				try(verbs[op], path, "", withHeader("Authorization", "Bearer "+canary), withHeader("Origin", "https://"+canary))
				try(verbs[op], path+"/"+url.PathEscape(canary), "", withToken(s.root))
			}
			q := url.QueryEscape(canary)
			try("GET", path+"?list="+q+"&activecode="+q, "", withToken(s.root))
			try("LIST", path+"?limit="+q+"&after="+q, "", withToken(s.root))
		}
		for _, path := range []string{url.PathEscape(canary), "%2e%2e/" + url.PathEscape(canary), url.PathEscape(canary) + "%00"} {
			try("GET", path, "", withToken(s.root))
			try("PUT", path, "", withToken(canary))
		}
		s.l.TrustedProxies = prefixes("127.0.0.0/8")
		try("GET", "sys/seal-status", "", withHeader("X-Forwarded-For", canary))
		s.l.TrustedProxies = nil
		odd := httptest.NewRequest("GET", "http://127.0.0.1:8200/v1/sys/init", nil)
		odd.Method = "X" + strings.Map(func(r rune) rune {
			if r == '/' || r == '+' || r == '=' {
				return 'x'
			}
			return r
		}, canary)
		s.send(odd)
	}
	if s.node.Sealed() {
		t.Fatal("sealed on the way")
	}

	// And in the right way: an attempt to its end, and a share given to the unseal.
	s.do("DELETE", attempt, "", withToken(s.root)).want(204) // the share was good enough to start one
	start := s.do("PUT", attempt, `{"otp":"`+c.otp+`"}`).want(200)
	c.sing(t, "start", start.text)
	c.sing(t, "status", s.do("GET", attempt, "").text)
	s.do("PUT", update, keyBody(s.keys[0], start.str("nonce"))).want(200)
	last := s.do("PUT", update, keyBody(c.share, start.str("nonce"))).want(200)
	c.sing(t, "completion", last.text)
	made := xorDecode(t, last.str("encoded_token"), c.otp)
	one := s.do("PUT", attemptOne, "", withToken(c.token)).want(200)
	c.sing(t, "start", one.text)
	for _, key := range []string{s.keys[1], c.share} {
		c.sing(t, "approval", s.do("PUT", updateOne, keyBody(key, one.str("nonce"))).want(200).text)
	}
	s.do("PUT", "sys/seal", "", withToken(c.token)).want(204)
	c.sing(t, "unseal", s.do("PUT", "sys/unseal", `{"key":"`+c.share+`"}`).want(200).text)
	s.do("PUT", "sys/unseal", `{"key":"`+s.keys[0]+`"}`).want(200)
	s.do("GET", "auth/token/lookup-self", "", withToken(made)).want(200)

	c.sing(t, "the log", s.log.String())
	newCanaries(t, s.keys[0], s.root, made).sing(t, "the log", s.log.String())
	if n := strings.Count(s.log.String(), `"msg":"request"`); n < tries {
		t.Errorf("%d requests, but only %d in the log: this test looks at nothing", tries, n)
	}
}

// T55: what isn't there and what isn't allowed look the same.
func TestEqualTexts(t *testing.T) {
	s := ready(t, 3, 2)
	expired, accessor := s.newToken(`{"ttl":"1s","policies":["default"]}`)
	s.clock.step(1e9)
	same := func(what string, a, b *response) {
		t.Helper()
		if a.code != b.code || a.text != b.text {
			t.Errorf("%s: %d %s and %d %s", what, a.code, a.text, b.code, b.text)
		}
	}
	self := func(token string) *response {
		return s.do("GET", "auth/token/lookup-self", "", withToken(token), stranger)
	}
	same("tokens", self(expired), self("never-there"))
	same("no token", self(""), self("never-there"))
	byAccessor := func(a string) *response {
		return s.do("PUT", "auth/token/lookup-accessor", `{"accessor":"`+a+`"}`, withToken(s.root))
	}
	same("accessors", byAccessor(accessor), byAccessor("never-there"))
	old := s.do("PUT", attempt, "").want(200).str("nonce")
	s.do("DELETE", attempt, "").want(204)
	s.do("PUT", attempt, "").want(200)
	approve := func(nonce string) *response { return s.do("PUT", update, keyBody(s.keys[0], nonce), stranger) }
	same("nonces", approve(old), approve("never-there"))
	path := func(method, p string) *response { return s.do(method, p, "", stranger, withToken("junk")) }
	same("paths", path(http.MethodGet, "sys/key-status"), path(http.MethodGet, "sys/never-there"))
	same("methods", path("LIST", "auth/token/accessors"), path("LIST", "auth/token/create"))
}
