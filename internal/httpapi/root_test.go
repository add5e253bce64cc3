package httpapi

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

var (
	tenNames  = []string{"nonce", "started", "progress", "required", "complete", "encoded_token", "encoded_root_token", "pgp_fingerprint", "otp", "otp_length"}
	fiveNames = []string{"nonce", "started", "progress", "required", "complete"}
)

const (
	attempt     = "sys/generate-root/attempt"
	update      = "sys/generate-root/update"
	attemptOne  = "sys/root-generation/attempt"
	updateOne   = "sys/root-generation/update"
	attemptB    = "sys/generate-root-token/attempt"
	updateB     = "sys/generate-root-token/update"
	chosenToken = "a-token-of-mine-0123456789"
)

func xorDecode(t *testing.T, encoded, otp string) string {
	t.Helper()
	b, err := base64.RawStdEncoding.DecodeString(encoded)
	if err != nil || len(b) != len(otp) {
		t.Fatalf("%q and %q: %v", encoded, otp, err)
	}
	for i := range b {
		b[i] ^= otp[i]
	}
	return string(b)
}

func b64key(t *testing.T, key string) string {
	return base64.StdEncoding.EncodeToString(unhex(t, key))
}

// T64, and wire reference part 10, rows 1 to 6, 11, 12.
func TestGenerateRoot(t *testing.T) {
	s := ready(t, 5, 3)
	idle := s.do("GET", attempt, "", stranger).want(200)
	idle.fieldsAre(tenNames...)
	for name, want := range map[string]any{"nonce": "", "started": false, "progress": 0, "required": 3, "complete": false, "encoded_token": "", "encoded_root_token": "", "pgp_fingerprint": "", "otp": "", "otp_length": 24} {
		idle.is(name, want)
	}
	s.do("PUT", update, keyBody(s.keys[0], "x"), stranger).wantErrors(400, "no root generation in progress")
	s.do("DELETE", attempt, "").want(204)

	started := s.do("POST", attempt, "", withHeader("Content-Type", "application/x-www-form-urlencoded")).want(200)
	started.fieldsAre(tenNames...)
	nonce, otp := started.str("nonce"), started.str("otp")
	if len(nonce) != 36 || len(otp) != 24 {
		t.Errorf("nonce %q, otp of %d characters", nonce, len(otp))
	}
	for name, want := range map[string]any{"started": true, "progress": 0, "required": 3, "complete": false, "encoded_token": "", "pgp_fingerprint": "", "otp_length": 24} {
		started.is(name, want)
	}
	s.do("PUT", attempt, "{}").want(400, "root generation already in progress")
	s.do("GET", attempt, "").want(200).is("otp", "")

	first := s.do("PUT", update, keyBody(strings.ToUpper(s.keys[0]), nonce), stranger).want(200)
	first.fieldsAre(tenNames...)
	first.is("progress", 1)
	first.is("otp_length", 0)
	// T16: the same share in another encoding is the same share.
	for _, again := range []string{s.keys[0], b64key(t, s.keys[0])} {
		s.do("PUT", update, keyBody(again, nonce)).want(400, "given key has already been provided during this generation operation")
	}
	s.do("GET", attempt, "").is("progress", 1)
	s.do("POST", update, keyBody(b64key(t, s.keys[1]), nonce), withToken("dead")).want(200).is("progress", 2)
	s.do("GET", attempt, "").is("nonce", nonce)
	last := s.do("PUT", update, `{"NONCE":"`+nonce+`","Key":"`+s.keys[4]+`","other":[]}`).want(200)
	last.fieldsAre(tenNames...)
	for name, want := range map[string]any{"nonce": nonce, "started": true, "progress": 3, "required": 3, "complete": true, "otp": "", "otp_length": 0} {
		last.is(name, want)
	}
	last.is("encoded_root_token", last.str("encoded_token"))
	token := xorDecode(t, last.str("encoded_token"), otp)

	self := s.do("GET", "auth/token/lookup-self", "", withToken(token)).want(200).in("data")
	for name, want := range map[string]any{"path": "auth/token/root", "display_name": "root", "policies": "[root]", "ttl": 0, "creation_ttl": 0, "explicit_max_ttl": 0, "num_uses": 0, "expire_time": nil, "meta": nil, "orphan": true, "entity_id": "", "type": "service", "id": token} {
		self.is(name, want)
	}
	if _, ok := self.body["renewable"]; ok {
		t.Error("a root token says whether it is renewable")
	}
	s.do("POST", "auth/token/renew-self", "", withToken(token)).want(400, "invalid lease ID")
	s.do("GET", "auth/token/lookup-self", "", withToken(s.root)).want(200) // the old one lives on

	// A lost reply can be had again, by who gave the last share; nobody else learns anything.
	if again := s.do("PUT", update, keyBody(s.keys[4], nonce)).want(200); again.text != last.text {
		t.Errorf("the reply again is %s, it was %s", again.text, last.text)
	}
	s.do("PUT", update, keyBody(s.keys[0], nonce)).wantErrors(400, "no root generation in progress")
	s.do("GET", attempt, "").is("started", false)

	// Row 11: a new attempt has another nonce and begins at 0.
	second := s.do("PUT", attempt, "").want(200).str("nonce")
	s.do("PUT", update, keyBody(s.keys[0], second)).want(200)
	s.do("DELETE", attempt, "").want(204)
	s.do("PUT", update, keyBody(s.keys[1], second)).wantErrors(400, "no root generation in progress")
	third := s.do("PUT", attempt, "").want(200)
	third.is("progress", 0)
	if third.str("nonce") == second || second == nonce {
		t.Error("a nonce comes again")
	}
	s.do("DELETE", attempt, `{}`).want(204)
	s.do("DELETE", attempt, `null`).want(204)
}

// T09: a wrong nonce is refused and the right one isn't told.
func TestWrongNonce(t *testing.T) {
	s := ready(t, 5, 3)
	old := s.do("PUT", attempt, "").want(200).str("nonce")
	s.do("PUT", update, keyBody(s.keys[0], old)).want(200)
	s.do("DELETE", attempt, "").want(204)
	nonce := s.do("PUT", attempt, "").want(200).str("nonce")
	for _, body := range []string{
		keyBody(s.keys[1], old), keyBody(s.keys[1], ""), keyBody(s.keys[1], "x"), keyBody(s.keys[1], strings.ToUpper(nonce)),
		keyBody(s.keys[1], nonce+" "), `{"key":"` + s.keys[1] + `"}`, `{"key":"` + s.keys[1] + `","nonce":null}`,
	} {
		got := s.do("PUT", update, body, stranger).want(400, "incorrect nonce supplied")
		if strings.Contains(got.text, nonce) || strings.Contains(got.text, old) {
			t.Errorf("%s names a nonce", got.text)
		}
	}
	s.do("PUT", update, `{"key":"`+s.keys[1]+`","nonce":5}`).want(400, "JSON decoding")
	s.do("GET", attempt, "").is("progress", 0)
}

// T03, T12 to T20: what isn't a valid share of this cluster is refused when it comes, and costs nothing.
func TestBadShares(t *testing.T) {
	s, other := ready(t, 5, 3), ready(t, 5, 3)
	nonce := s.do("PUT", attempt, "").want(200).str("nonce")
	s.do("PUT", update, keyBody(s.keys[0], nonce)).want(200)
	flipped := "00" + s.keys[1][2:]
	if flipped == s.keys[1] {
		flipped = "01" + s.keys[1][2:]
	}
	for _, path := range []string{update, updateOne, updateB} {
		for key, sentence := range map[string]string{
			flipped:                       "slot 2", // T12
			other.keys[1]:                 "slot 2", // T18
			s.keys[1][:64] + "03":         "slot 3", // T15
			s.keys[1][:64] + "00":         "slot",   // T14
			s.keys[1][:64] + "06":         "slot",
			s.keys[1][:32]:                "", // T13: 16 bytes
			s.keys[1][:64]:                "", // 32 bytes
			s.keys[1] + "00":              "longer",
			s.keys[1][:8]:                 "short",
			"zz":                          "hex or base64",
			"":                            "must be specified",
			strings.Repeat("ab", 33):      "slot",
			b64key(t, s.keys[1]) + "=":    "hex or base64", // T16: padding variants
			strings.Repeat("ab", 1<<19):   "at most 4096 bytes",
			"\xe2\x80\x8b" + s.keys[1]:    "hex or base64",
			strings.Repeat("-_", 22):      "hex or base64", // url-safe
			strings.Repeat("0123", 6):     "",              // T20: hex digits that are base64 of 18 bytes
			s.keys[1][:65]:                "hex or base64",
			"0x" + s.keys[1]:              "longer",
			strings.Repeat("\u00e9", 33):  "hex or base64",
			strings.Repeat("a", 66) + "=": "hex or base64",
		} {
			if path != update && sentence == "slot 2" {
				sentence = "" // the other family says first that it isn't its attempt
			}
			got := s.do("PUT", path, keyBody(key, nonce), stranger).want(400)
			if path == update && !strings.Contains(got.text, sentence) {
				t.Errorf("%.20q: %s, want %q", key, got.text, sentence)
			}
		}
		for body, sentence := range map[string]string{
			"": "must be specified", "{}": "must be specified", `{"nonce":"` + nonce + `"}`: "must be specified", "null": "must be specified",
			`{"key":5,"nonce":"` + nonce + `"}`: "", `[]`: "JSON object", `{"key":"`: "unexpected EOF",
		} {
			s.do("PUT", path, body, stranger).want(400, sentence)
		}
	}
	got := s.do("GET", attempt, "").want(200)
	got.is("progress", 1)
	got.is("nonce", nonce)
	// White space is no part of a share, except where the peers trim it.
	s.do("PUT", update, keyBody(" "+s.keys[1], nonce)).want(400)
	s.do("PUT", updateB, keyBody("\n "+s.keys[1]+" ", nonce)).want(200).in("data").is("progress", 2)
}

// T13, T22: one share in all is the 32-byte key itself.
func TestOneShare(t *testing.T) {
	s := ready(t, 1, 1)
	if len(s.keys[0]) != 64 {
		t.Fatalf("the share has %d hex digits", len(s.keys[0]))
	}
	start := s.do("PUT", attempt, "").want(200)
	start.is("required", 1)
	s.do("PUT", update, keyBody(s.keys[0]+"01", start.str("nonce"))).want(400)
	done := s.do("PUT", update, keyBody(s.keys[0], start.str("nonce"))).want(200)
	done.is("complete", true)
	s.do("GET", "auth/token/lookup-self", "", withToken(xorDecode(t, done.str("encoded_token"), start.str("otp")))).want(200)
}

// T34 and row 13: the caller's own one-time password, and row 16: it wins over a PGP key.
func TestOwnOTP(t *testing.T) {
	const otp = "2vPFYG8gUSW9npwzyvxXMug0"
	s := ready(t, 1, 1)
	for body, sentence := range map[string]string{
		`{"otp":"` + otp[1:] + `"}`:                     "length",
		`{"otp":"` + otp + `=="}`:                       "length",
		`{"otp":"` + strings.Repeat("é", 24) + `"}`:     "length",
		`{"otp":"` + strings.Repeat("é", 12) + `"}`:     "ASCII",
		`{"otp":"` + strings.Repeat("a", 10<<20) + `"}`: "at most",
		`{"otp":["` + otp + `"]}`:                       "JSON decoding",
		`{"otp":"` + otp[:23] + `\n"}`:                  "ASCII",
		`{"otp":5}`:                                     "JSON decoding",
		`{"pgp_key":7,"otp":"` + otp + `"}`:             "JSON decoding",
		`{"reason":"` + strings.Repeat("r", 201) + `"}`: "reason",
		`{"reason":"two\nlines"}`:                       "reason",
		`{"reason":"\u202e"}`:                           "reason",
		`{"reason":["x"]}`:                              "JSON decoding",
	} {
		s.do("PUT", attempt, body).want(400, sentence)
	}
	s.do("GET", attempt, "").is("started", false)
	start := s.do("PUT", attempt, `{"otp":"`+otp+`","pgp_key":"not a key","reason":"lost the last one — `+strings.Repeat("r", 170)+`"}`).want(200)
	start.is("otp", "")
	start.is("otp_length", 24)
	start.is("pgp_fingerprint", "")
	done := s.do("PUT", update, keyBody(s.keys[0], start.str("nonce"))).want(200)
	token := xorDecode(t, done.str("encoded_token"), otp)
	s.do("GET", "auth/token/lookup-self", "", withToken(token)).want(200)

	got := s.do("PUT", "sys/decode-token", `{"encoded_token":"`+done.str("encoded_token")+`","otp":"`+otp+`"}`, stranger).want(200)
	got.in("data").is("token", token)
	got.fieldsAre("request_id", "lease_id", "renewable", "lease_duration", "data", "wrap_info", "warnings", "auth")
	s.do("POST", "sys/decode-token", "otp="+otp+"&encoded_token="+strings.ReplaceAll(done.str("encoded_token"), "+", "%2B"),
		withHeader("Content-Type", "application/x-www-form-urlencoded")).want(200).in("data").is("token", token)
}

// T37.
func TestDecodeTokenRefuses(t *testing.T) {
	s := newServer(t)
	const good = "QVgRBBoDfSESGx5zJTw6NDYmKQoeITJmFjo"
	s.do("PUT", "sys/decode-token", `{"encoded_token":"`+good+`","otp":"2vPFYG8gUSW9npwzyvxXMug0Ab"}`).wantErrors(503, "Vault is sealed")
	s.init(1, 1)
	s.unseal(1)
	s.do("PUT", "sys/decode-token", `{"encoded_token":"`+good+`","otp":"2vPFYG8gUSW9npwzyvxXMug0Ab"}`).want(200).in("data").is("token", "s.ABCDEFGHIJKLMNOPQRSTUVWX")
	for _, body := range []string{
		"", "{}", `{"otp":"x"}`, `{"encoded_token":"` + good + `"}`, `{"encoded_token":"` + good + `","otp":""}`,
		`{"encoded_token":"` + good + `=","otp":"2vPFYG8gUSW9npwzyvxXMug0Ab"}`, `{"encoded_token":"` + good + `","otp":"short"}`,
		`{"encoded_token":"!!!","otp":"ab"}`, `{"encoded_token":"A","otp":"a"}`, `{"encoded_token":{},"otp":"a"}`, `{"encoded_token":"gA","otp":"a"}`,
	} {
		s.do("PUT", "sys/decode-token", body).want(400)
	}
	s.do("GET", "sys/decode-token", "").wantErrors(405, "unsupported operation")
}

// Rows 14 and 15.
func TestPGP(t *testing.T) {
	s := ready(t, 1, 1)
	key, err := openpgp.NewEntity("holder", "", "holder@example.com", &packet.Config{Time: s.clock.now, Algorithm: packet.PubKeyAlgoEdDSA, Curve: packet.Curve25519})
	if err != nil {
		t.Fatal(err)
	}
	var public bytes.Buffer
	if err := key.Serialize(&public); err != nil {
		t.Fatal(err)
	}
	text := base64.StdEncoding.EncodeToString(public.Bytes())
	for _, bad := range []string{"AAAA", "keybase:somebody", "-----BEGIN PGP PUBLIC KEY BLOCK-----", text[:len(text)/2], strings.Repeat("A", 1<<20)} {
		s.do("PUT", attempt, `{"pgp_key":"`+bad+`"}`).want(400)
	}
	s.do("GET", attempt, "").is("started", false)
	start := s.do("PUT", attempt, `{"otp":"","pgp_key":"`+text[:60]+`\n`+text[60:]+`"}`).want(200)
	fingerprint := fmt.Sprintf("%x", key.PrimaryKey.Fingerprint)
	for name, want := range map[string]any{"otp": "", "otp_length": 24, "pgp_fingerprint": fingerprint} {
		start.is(name, want)
	}
	s.do("GET", attempt, "").is("pgp_fingerprint", fingerprint)
	done := s.do("PUT", update, keyBody(s.keys[0], start.str("nonce"))).want(200)
	done.is("pgp_fingerprint", fingerprint)
	message, err := base64.StdEncoding.DecodeString(done.str("encoded_token")) // with padding
	if err != nil {
		t.Fatal(err)
	}
	plain, err := openpgp.ReadMessage(bytes.NewReader(message), openpgp.EntityList{key}, nil, &packet.Config{Time: s.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	token, err := io.ReadAll(plain.UnverifiedBody)
	if err != nil {
		t.Fatal(err)
	}
	s.do("GET", "auth/token/lookup-self", "", withToken(string(token))).want(200)
}

// Seed 1, T36 and rows 22 to 26.
func TestRootGeneration(t *testing.T) {
	s := ready(t, 5, 3)
	idle := s.do("GET", attemptOne, "", stranger).want(200)
	idle.fieldsAre(fiveNames...)
	for name, want := range map[string]any{"nonce": "", "started": false, "progress": 0, "required": 3, "complete": false} {
		idle.is(name, want)
	}
	for _, options := range [][]option{
		{},
		{withToken("")},
		{withToken("short")},
		{withToken("fifteen-chars-x")},
		{withToken("has white space in it")},
		{withHeader("Authorization", "Basic "+chosenToken)},
		{withHeader("Authorization", "bearer "+chosenToken)},
		{withHeader("Cookie", "token="+chosenToken)},
	} {
		got := s.do("PUT", attemptOne, "", options...).want(400)
		if strings.Contains(got.text, chosenToken) || strings.Contains(got.text, "white space in it") {
			t.Errorf("the token comes back: %s", got.text)
		}
	}
	start := s.do("PUT", attemptOne, "", withToken(chosenToken)).want(200)
	start.fieldsAre(fiveNames...)
	start.is("progress", 0)
	start.is("started", true)
	nonce := start.str("nonce")
	s.do("PUT", attemptOne, "", withToken(chosenToken)).want(400, "root generation already in progress")
	s.do("PUT", attempt, "").want(400, "root generation already in progress") // T29
	s.do("PUT", update, keyBody(s.keys[0], nonce)).want(400, "other path")    // the reply would lose the token
	s.do("PUT", updateOne, keyBody(s.keys[0], nonce), withToken("another-token-entirely")).want(200).is("progress", 1)
	s.do("POST", updateOne, keyBody(b64key(t, s.keys[1]), nonce), stranger).want(200).is("progress", 2)
	s.do("GET", "auth/token/lookup-self", "", withToken(chosenToken)).want(403) // not a moment before the quorum
	done := s.do("PUT", updateOne, keyBody(s.keys[2], nonce)).want(200)
	done.fieldsAre(fiveNames...)
	done.is("complete", true)
	done.is("progress", 3)
	s.do("GET", "auth/token/lookup-self", "", withToken(chosenToken)).want(200).in("data").is("policies", "[root]")
	s.do("GET", attemptOne, "").is("started", false)
	s.do("GET", updateOne, "").wantErrors(405)

	// A token of that ID is revoked with its tree, at the quorum.
	first, _ := s.newToken(`{"id":"named-token-0123456789","policies":["default"]}`)
	child, _ := s.newToken(`{"policies":["default"]}`, chosenToken)
	nonce = s.do("POST", attemptOne, `{"reason":"rotation"}`, withHeader("Authorization", "Bearer "+chosenToken)).want(200).str("nonce")
	for i := range 3 {
		s.do("GET", "auth/token/lookup-self", "", withToken(child)).want(200)
		s.do("PUT", updateOne, keyBody(s.keys[i], nonce)).want(200)
	}
	s.do("GET", "auth/token/lookup-self", "", withToken(child)).want(403)
	s.do("GET", "auth/token/lookup-self", "", withToken(chosenToken)).want(200)
	s.do("GET", "auth/token/lookup-self", "", withToken(first)).want(200)
	if strings.Contains(s.log.String(), chosenToken) {
		t.Error("the token is in the log")
	}
}

// wire reference 3.10, with 400 in the place of the peers' 500.
func TestGenerateRootToken(t *testing.T) {
	s := ready(t, 3, 2)
	idle := s.do("GET", attemptB, "").want(200).in("data")
	idle.fieldsAre("complete", "otp", "otp_length", "progress", "required", "started")
	start := s.do("PUT", attemptB, `{"otp":"","pgp_key":""}`, withToken(s.root), stranger).want(200)
	start.fieldsAre("request_id", "lease_id", "renewable", "lease_duration", "data", "wrap_info", "warnings", "auth")
	data := start.in("data")
	data.fieldsAre("complete", "nonce", "otp", "otp_length", "pgp_fingerprint", "progress", "required", "started")
	nonce := data.str("nonce")
	s.do("GET", attemptB, "").want(200).in("data").fieldsAre("complete", "nonce", "otp", "otp_length", "pgp_fingerprint", "progress", "required", "started")
	s.do("GET", attemptB, "").in("data").is("otp", "")
	s.do("LIST", attemptB, "").wantErrors(404)
	s.do("GET", attemptB+"/?list=true", "").wantErrors(404)
	s.do("PATCH", attemptB, "{}").want(415)
	s.do("PATCH", attemptB, "{}", withHeader("Content-Type", "application/merge-patch+json")).wantErrors(405, "unsupported operation")
	s.do("GET", updateB, "").wantErrors(405, "unsupported operation")
	s.do("PUT", updateB, keyBody(s.keys[0], "wrong")).want(400, "incorrect nonce")
	form := withHeader("Content-Type", "application/x-www-form-urlencoded")
	part := s.do("PUT", updateB, "key="+s.keys[0]+"&nonce="+nonce, form).want(200).in("data")
	part.fieldsAre("complete", "encoded_token", "nonce", "pgp_fingerprint", "progress", "required", "started")
	part.is("progress", 1)
	s.do("PUT", updateB, keyBody(s.keys[0], nonce)).want(400, "already been provided")
	// One attempt, whichever path: finish on the other.
	done := s.do("PUT", update, keyBody(s.keys[1], nonce)).want(200)
	token := xorDecode(t, done.str("encoded_token"), data.str("otp"))
	s.do("GET", "auth/token/lookup-self", "", withToken(token)).want(200)
	s.do("DELETE", attemptB, "").want(204)
}

// T01, T02: who may start and cancel, on each path family and each kind of listener.
func TestAuthority(t *testing.T) {
	s := ready(t, 5, 3)
	limited, _ := s.newToken(`{"policies":["default"]}`)
	families := []string{attempt, attemptB, attemptOne}
	start := func(path, body string, options ...option) *response {
		if path == attemptOne {
			options = append([]option{withToken(chosenToken)}, options...)
		}
		return s.do("PUT", path, body, options...)
	}
	share := func(i int) string { return `{"key":"` + s.keys[i] + `"}` }
	for _, path := range families {
		for _, ceremonies := range []string{"", CeremoniesLocal, CeremoniesToken, CeremoniesOpen, "mistyped"} {
			s.l.Ceremonies = ceremonies
			localCode, anyCode := 200, 403
			switch ceremonies {
			case CeremoniesToken, "mistyped":
				localCode = 403
			case CeremoniesOpen:
				anyCode = 200
			}
			what := fmt.Sprintf("%s with %q", path, ceremonies)
			for _, c := range []struct {
				who     string
				body    string
				options []option
				code    int
			}{
				{"local", "", nil, localCode},
				{"stranger", "", []option{stranger}, anyCode},
				{"through a proxy", "", []option{withHeader("Via", "1.1 p")}, anyCode},
				{"junk share", `{"key":"` + strings.Repeat("ab", 32) + `01"}`, []option{stranger}, 400},
				{"junk text", `{"key":"junk"}`, []option{stranger}, 400},
				{"holder", share(0), []option{stranger}, 200},
			} {
				got := start(path, c.body, c.options...)
				if got.code != c.code {
					t.Errorf("%s: start by %s: %d %s, want %d", what, c.who, got.code, got.text, c.code)
				}
				if got.code == 403 && !strings.Contains(got.text, "key share") {
					t.Errorf("%s: %s doesn't say how to get authority", what, got.text)
				}
				if got.code == 200 {
					s.do("DELETE", path, share(0), stranger).want(204)
				}
			}
			if path == attemptOne {
				// The token is data: even that of root gives no authority.
				s.do("PUT", path, "", withToken(s.root), stranger).want(anyCode)
				s.do("DELETE", path, share(1), stranger).want(204)
				continue
			}
			s.do("PUT", path, "", withToken("dead-token"), stranger).want(anyCode)
			s.do("DELETE", path, share(1), stranger).want(204)
			s.do("PUT", path, "", withToken(limited), stranger).want(anyCode)
			s.do("DELETE", path, share(1), stranger).want(204)
			s.do("PUT", path, "", withToken("dead-token")).want(localCode) // ignored, not refused
			s.do("DELETE", path, share(1), stranger).want(204)
			s.do("PUT", path, "", withHeader("Authorization", "Bearer "+s.root), stranger).want(200)
			s.do("DELETE", path, "").want(403) // no connection ends what a token started
			s.do("DELETE", path, "", withToken(s.root), stranger).want(204)
		}
	}
}

// A stranger neither cancels nor blocks; one holder can't block the others.
func TestCancel(t *testing.T) {
	s := ready(t, 5, 3)
	nonce := s.do("PUT", attempt, "", withToken(s.root)).want(200).str("nonce")
	for i := range 2 {
		s.do("PUT", update, keyBody(s.keys[i], nonce), stranger).want(200)
	}
	for _, path := range []string{attempt, attemptOne, attemptB} {
		s.do("DELETE", path, "", stranger).want(403, "key share")
		s.do("DELETE", path, `{"key":"junk"}`, stranger).want(400)
		s.do("DELETE", path, `{"key":5.5e1,"x":{}}`, stranger).want(400)
		s.do("DELETE", path, `{"key":`, stranger).want(400, "unexpected EOF")
		s.do("DELETE", path, "", withToken("junk")).want(403)
	}
	s.do("GET", attempt, "").is("progress", 2)

	objection := s.do("DELETE", attempt, `{"key":"`+s.keys[3]+`"}`, stranger).want(200, "objection is recorded")
	objection.fieldsAre(append(tenNames, "warnings")...)
	objection.is("nonce", nonce)
	objection.is("progress", 2)
	objection.is("otp_length", 24)
	five := s.do("DELETE", attemptOne, `{"key":"`+s.keys[3]+`"}`, stranger).want(200)
	five.fieldsAre(append(fiveNames, "warnings")...)
	enveloped := s.do("DELETE", attemptB, `{"key":"`+s.keys[4]+`"}`, stranger).want(200)
	if list, ok := enveloped.body["warnings"].([]any); !ok || len(list) != 1 {
		t.Errorf("warnings: %v", enveloped.body["warnings"])
	}
	enveloped.in("data").is("nonce", nonce)
	s.do("DELETE", attempt, `{"key":"`+s.keys[0]+`"}`, stranger).want(204) // the third of 5-3+1
	s.do("GET", attempt, "").is("started", false)
}

// T06: an attempt that nobody approves is gone after five minutes.
func TestAttemptExpires(t *testing.T) {
	s := ready(t, 5, 3)
	nonce := s.do("PUT", attempt, "").want(200).str("nonce")
	s.clock.step(5 * time.Minute)
	s.do("GET", attempt, "").is("started", false)
	s.do("PUT", update, keyBody(s.keys[0], nonce)).wantErrors(400, "no root generation in progress")
	s.do("PUT", attempt, "", withToken(s.root), stranger).want(200)
}

// Row 18 and traps 12 and 17.
func TestRootGenerationWhileSealed(t *testing.T) {
	s := newServer(t)
	check := func() {
		t.Helper()
		for _, path := range []string{attempt, update, attemptOne, updateOne, attemptB, updateB} {
			for _, method := range []string{"GET", "PUT", "POST", "DELETE", "LIST"} {
				s.do(method, path, "not JSON", withToken(chosenToken)).wantErrors(503, "Vault is sealed")
			}
		}
	}
	check()
	s.init(5, 3)
	check()
	s.unseal(3)
	nonce := s.do("PUT", attempt, "").want(200).str("nonce")
	s.do("PUT", update, keyBody(s.keys[0], nonce)).want(200)
	s.do("PUT", "sys/seal", "", withToken(s.root)).want(204)
	check()
	s.unseal(3)
	s.do("GET", attempt, "").is("started", false)
	s.do("PUT", update, keyBody(s.keys[1], nonce)).wantErrors(400, "no root generation in progress")
}

// T58: whichever way a body can be missing, where one isn't needed.
func TestNoBody(t *testing.T) {
	s := ready(t, 3, 2)
	for _, body := range []string{"", " ", "{}", "null", "\n{ }\n"} {
		for _, ct := range []string{"", "application/json", "application/x-www-form-urlencoded", "text/plain", "junk;;"} {
			for _, c := range []struct{ method, path string }{
				{"PUT", attempt}, {"DELETE", attempt}, {"POST", attemptB}, {"DELETE", attemptB}, {"PUT", attemptOne}, {"DELETE", attemptOne},
			} {
				token := s.root
				got := s.do(c.method, c.path, body, withToken(token), func(r *http.Request) {
					if ct != "" {
						r.Header.Set("Content-Type", ct)
					}
				})
				if got.code != 200 && got.code != 204 {
					t.Errorf("%s %s with %q as %q: %d %s", c.method, c.path, body, ct, got.code, got.text)
				}
			}
		}
	}
	for _, path := range []string{update, updateOne, updateB} {
		s.do("PUT", path, "").want(400, "must be specified")
	}
}

// T23, row 27: of two starts one wins. T21: however many shares come at once, one token is made.
func TestRaces(t *testing.T) {
	const crowd = 8
	s := ready(t, crowd, 3)
	at := func(n int, f func(i int) *response) (codes map[int]int, all []*response) {
		all = make([]*response, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() { all[i] = f(i) })
		}
		wg.Wait()
		codes = map[int]int{}
		for _, r := range all {
			codes[r.code]++
		}
		return codes, all
	}
	codes, all := at(crowd, func(int) *response { return s.do("PUT", attempt, "") })
	if codes[200] != 1 || codes[400] != crowd-1 {
		t.Fatalf("starts: %v", codes)
	}
	var nonce, otp string
	for _, r := range all {
		if r.code == 200 {
			nonce, otp = r.str("nonce"), r.str("otp")
		}
	}
	codes, all = at(crowd, func(i int) *response { return s.do("PUT", update, keyBody(s.keys[i], nonce)) })
	if codes[200] != 3 || codes[400] != crowd-3 {
		t.Fatalf("approvals: %v", codes)
	}
	complete := 0
	for _, r := range all {
		if r.code == 200 && r.body["complete"] == true {
			complete++
			s.do("GET", "auth/token/lookup-self", "", withToken(xorDecode(t, r.str("encoded_token"), otp))).want(200)
		} else if r.code == 200 && r.str("encoded_token") != "" {
			t.Error("a token without completion")
		}
	}
	keys := s.do("LIST", "auth/token/accessors", "", withToken(s.root)).want(200).in("data").body["keys"].([]any)
	if complete != 1 || len(keys) != 2 {
		t.Errorf("%d completions, %d root tokens", complete, len(keys))
	}
}
