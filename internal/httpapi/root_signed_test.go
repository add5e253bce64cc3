package httpapi

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/holder"
)

// Every route that takes a share takes a signature: start, approve and cancel, without a share ever leaving home.
func TestRootGenerationBySignature(t *testing.T) {
	s := ready(t, 5, 3)
	cluster := s.do("GET", "sys/seal-status", "").str("cluster_id")
	begin := func(slot int, at time.Time, change func(*ceremony.Start)) string {
		start := ceremony.Start{ClusterID: cluster, Generation: 1, Kind: ceremony.RootToken, Recipient: "otp", Reason: "the last one is lost", At: at}
		if change != nil {
			change(&start)
		}
		body := signed(t, s.keys[slot-1], "", start.Statement(slot))
		return fmt.Sprintf(`%s,"reason":"the last one is lost","signed_at":%q}`, body[:len(body)-1], at.Format("2006-01-02T15:04:05.000Z"))
	}
	for _, path := range []string{attempt, attemptB} {
		now := s.clock.now()
		for what, body := range map[string]string{
			"another reason":   begin(2, now, func(c *ceremony.Start) { c.Reason = "" }),
			"another kind":     begin(2, now, func(c *ceremony.Start) { c.Kind = ceremony.Drill }),
			"another cluster":  begin(2, now, func(c *ceremony.Start) { c.ClusterID = "x" }),
			"another ttl":      begin(2, now, func(c *ceremony.Start) { c.TTL = time.Hour }),
			"an old one":       begin(2, now.Add(-time.Hour), nil),
			"one to come":      begin(2, now.Add(time.Hour), nil),
			"of another slot":  strings.Replace(begin(2, now, nil), `"slot":2`, `"slot":3`, 1),
			"no slot":          strings.Replace(begin(2, now, nil), `"slot":2`, `"slot":0`, 1),
			"no time":          strings.Replace(begin(2, now, nil), "signed_at", "x", 1),
			"a time in words":  strings.Replace(begin(2, now, nil), now.Format("2006-01-02T"), "now ", 1),
			"and its own otp":  strings.Replace(begin(2, now, nil), "{", `{"otp":"2vPFYG8gUSW9npwzyvxXMug0",`, 1),
			"and a share":      strings.Replace(begin(2, now, nil), "{", `{"key":"`+s.keys[1]+`",`, 1),
			"and a pgp key":    strings.Replace(begin(2, now, nil), "{", `{"pgp_key":"AAAA",`, 1),
			"and other tokens": strings.Replace(begin(2, now, nil), "{", `{"root_token_ttl":60,`, 1),
		} {
			if got := s.do("PUT", path, body, stranger); got.code != 400 {
				t.Errorf("%s: %s: %d %s", path, what, got.code, got.text)
			}
		}
		once := begin(2, now, nil)
		s.do("PUT", path, once, stranger).want(200)
		nonce := s.do("GET", attempt, "").str("nonce")
		cancel := s.approval(ceremony.RootToken, 2)
		s.do("DELETE", path, signed(t, s.keys[1], "", cancel), stranger).want(400) // an approval is no cancel
		c, err := s.node.CeremonyOf(t.Context(), ceremony.RootToken)
		if err != nil {
			t.Fatal(err)
		}
		cancel = c.Attempt.CancelStatement(2, holder.ModeSignature)
		s.do("PUT", update, signed(t, s.keys[1], nonce, cancel), stranger).want(400)
		s.do("DELETE", path, signed(t, s.keys[1], "", cancel), stranger).want(204)
		s.do("PUT", path, once, stranger).want(400, "has been used already")
		s.clock.step(time.Second)
	}
	// In seed 1 the token that the caller chooses can't be started by signature.
	s.do("PUT", attemptOne, begin(2, s.clock.now(), nil), withToken(chosenToken), stranger).want(400)

	start := s.do("PUT", attempt, `{"root_token_ttl":"2h"}`).want(200)
	nonce := start.str("nonce")
	first := signed(t, s.keys[3], nonce, s.approval(ceremony.RootToken, 4))
	s.do("PUT", updateOne, first, stranger).want(400, "other path")
	s.do("PUT", update, first, stranger).want(200).is("progress", 1)
	s.do("PUT", update, first, stranger).want(400, "already been provided")
	s.do("PUT", update, keyBody(s.keys[3], nonce), stranger).want(400, "already been provided") // one holder, both ways
	s.do("PUT", updateB, signed(t, s.keys[0], nonce, s.approval(ceremony.RootToken, 1)), stranger).want(200).in("data").is("progress", 2)
	done := s.do("PUT", update, keyBody(s.keys[1], nonce)).want(200)
	done.is("complete", true)
	self := s.do("GET", "auth/token/lookup-self", "", withToken(xorDecode(t, done.str("encoded_token"), start.str("otp")))).want(200).in("data")
	self.is("ttl", 7200)
	self.is("renewable", false)
	s.do("PUT", update, first, stranger).wantErrors(400, "no root generation in progress")
}

// A root token for age recipients, in whichever form they are given, and attempts with a time limit of their own.
func TestGenerateRootForAge(t *testing.T) {
	s := ready(t, 1, 1)
	ada, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	ben, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	a, b := ada.Recipient().String(), ben.Recipient().String()
	for _, body := range []string{
		`"age1"`, `"age1yubikey1xyz"`, `["` + a + `",5]`, `5`, `["` + a + `","nobody"]`, `"` + a + " " + b + `"`,
	} {
		s.do("PUT", attempt, `{"age_recipients":`+body+`}`).want(400)
	}
	for _, ttl := range []string{`"-1s"`, `"1.5s"`, `"48h"`, `true`, `"soon"`} {
		s.do("PUT", attempt, `{"ttl":`+ttl+`}`).want(400)
	}
	for _, to := range []string{`"` + a + "," + b + `"`, `"` + a + `\n` + b + `"`, `["` + a + `","` + b + `"]`} {
		start := s.do("PUT", attempt, `{"age_recipients":`+to+`,"ttl":"2m"}`).want(200)
		start.fieldsAre(tenNames...)
		for name, want := range map[string]any{"otp": "", "otp_length": 24, "pgp_fingerprint": ""} {
			start.is(name, want)
		}
		done := s.do("PUT", update, keyBody(s.keys[0], start.str("nonce"))).want(200)
		message, err := base64.StdEncoding.DecodeString(done.str("encoded_token"))
		if err != nil {
			t.Fatal(err)
		}
		token := decryptAge(t, ben, message)
		if decryptAge(t, ada, message) != token {
			t.Error("the recipients got two tokens")
		}
		s.do("GET", "auth/token/lookup-self", "", withToken(token)).want(200)
	}
	s.do("PUT", attempt, `{"ttl":120}`).want(200)
	s.clock.step(2 * time.Minute)
	s.do("GET", attempt, "").is("started", false)
}

// The server's configuration says how long root tokens live, unless the start does; 0 is for ever, nothing said is not.
func TestRootTokenTTL(t *testing.T) {
	s := newServer(t)
	s.ttl = time.Hour
	s.serve(s.store)
	s.init(1, 1)
	s.unseal(1)
	for _, path := range []string{attempt, attemptB} {
		for body, want := range map[string]int{
			``: 3600, `{}`: 3600, `{"root_token_ttl":null}`: 3600, `{"root_token_ttl":""}`: 3600, `{"root_token_ttl":0}`: 0, `{"root_token_ttl":"0s"}`: 0,
			`{"root_token_ttl":" "}`: 3600, `{"root_token_ttl":"\u0020\t"}`: 3600, `{"root_token_ttl":" 0 "}`: 0, `{"root_token_ttl":"0d"}`: 0,
			`{"root_token_ttl":"90m"}`: 5400, `{"root_token_ttl":60}`: 60, `{"root_token_ttl":"1d"}`: 86400,
		} {
			start := s.do("PUT", path, body).want(200)
			if path == attemptB {
				start = start.in("data")
			}
			done := s.do("PUT", update, keyBody(s.keys[0], start.str("nonce"))).want(200)
			self := s.do("GET", "auth/token/lookup-self", "", withToken(xorDecode(t, done.str("encoded_token"), start.str("otp")))).want(200).in("data")
			if self.num("ttl") != want {
				t.Errorf("%s with %q: a ttl of %d, want %d", path, body, self.num("ttl"), want)
			}
		}
		for _, body := range []string{
			`{"root_token_ttl":-1}`, `{"root_token_ttl":"1500ms"}`, `{"root_token_ttl":[]}`, `{"root_token_ttl":"long"}`,
			`{"root_token_ttl":"1ms"}`, `{"root_token_ttl":"-0.5s"}`, `{"root_token_ttl":false}`, `{"root_token_ttl":"0 0"}`,
		} {
			s.do("PUT", path, body).want(400)
		}
	}
	s.do("GET", attempt, "").is("started", false)
	s.do("PUT", attemptB, `{"key":" `+s.keys[0]+`\n"}`, stranger).want(200) // as the peers do there
	s.do("DELETE", attemptB, `{"key":" `+s.keys[0]+`\n"}`, stranger).want(204)
	s.do("PUT", attempt, `{"key":" `+s.keys[0]+`"}`, stranger).want(400, "hex or base64")
}
