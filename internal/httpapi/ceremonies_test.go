package httpapi

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/holder"
)

const native = "sys/ceremonies"

// begin starts a ceremony over a local connection and returns its nonce.
func (s *server) begin(body string, options ...option) (nonce string) {
	s.t.Helper()
	return s.do("POST", native, body, options...).want(200).in("data").str("nonce")
}

func (s *server) view(nonce string) *response {
	s.t.Helper()
	return s.do("GET", native+"/"+nonce, "", stranger).want(200).in("data")
}

// attemptOf is what a client makes of a ceremony as it is shown.
func attemptOf(t *testing.T, view *response) *ceremony.Attempt {
	t.Helper()
	shown := map[string]any{}
	for name, value := range view.body {
		if name != "approvals" && name != "objections" {
			shown[name] = value
		}
	}
	text, err := json.Marshal(shown)
	if err != nil {
		t.Fatal(err)
	}
	a := &ceremony.Attempt{}
	if err := json.Unmarshal(text, a); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	a.Limits.Unapproved = time.Duration(view.num("unapproved_ms")) * time.Millisecond
	a.Limits.Idle = time.Duration(view.num("idle_ms")) * time.Millisecond
	return a
}

// key is that of the holder of slot, as they derive it at home.
func (s *server) key(slot int, generation uint64) *holder.Key {
	s.t.Helper()
	share, err := holder.ParseShare([]byte(s.keys[slot-1]))
	if err != nil {
		s.t.Fatal(err)
	}
	return holder.Derive(share, s.clusterID(), generation)
}

func (s *server) clusterID() string {
	s.t.Helper()
	return s.do("GET", native, "", stranger).want(200).in("data").str("cluster_id")
}

func signatureBody(slot int, signature []byte, more ...string) string {
	return fmt.Sprintf(`{"slot":%d,"signature":%q%s}`, slot, base64.StdEncoding.EncodeToString(signature), strings.Join(more, ""))
}

// signed is an approval by signature.
func (s *server) signed(nonce string, slot int) string {
	s.t.Helper()
	a := attemptOf(s.t, s.view(nonce))
	return signatureBody(slot, s.key(slot, a.Generation).Sign(a.Statement(slot, holder.ModeSignature)))
}

// A client that trusts nothing that the server says about the digest gets the same one, and a root token comes of
// signatures alone: no share is sent.
func TestCeremonyBySignature(t *testing.T) {
	s := ready(t, 5, 3)
	start := s.do("POST", native, `{"kind":"root-token","reason":"lost the last one","root_token_ttl":"1h","ttl":"2h"}`).want(200).in("data")
	nonce, otp := start.str("nonce"), start.str("otp")
	start.is("state", "open")
	start.is("otp_length", 24)
	first := s.view(nonce)
	first.fieldsAre("nonce", "kind", "state", "cluster_id", "generation", "threshold", "holders", "parameters", "recipient", "reason",
		"initiator", "started", "expires", "unapproved_ms", "idle_ms", "deadline", "digest", "approvals", "objections", "progress", "required", "checkpoint")
	if strings.Contains(first.text, otp) {
		t.Error("the OTP is shown")
	}
	for i, slot := range []int{4, 2, 5} {
		view := s.view(nonce)
		view.is("progress", i)
		a := attemptOf(t, view)
		if a.ComputeDigest() != a.Digest {
			t.Fatalf("the digest is not that of what is shown: %s", view.text)
		}
		got := s.do("POST", native+"/"+nonce+"/approve", s.signed(nonce, slot), stranger).want(200).in("data")
		got.is("progress", i+1)
		if i < 2 {
			got.is("state", "open")
			continue
		}
		got.is("state", "complete")
		token := xorDecode(t, got.str("encoded_token"), otp)
		self := s.do("GET", "auth/token/lookup-self", "", withToken(token)).want(200).in("data")
		self.is("policies", "[root]")
		self.is("ttl", 3600)
		if strings.Contains(s.view(nonce).text, got.str("encoded_token")) {
			t.Error("a stranger is shown the encoded token")
		}
	}
	done := s.view(nonce)
	done.is("state", "complete")
	for _, a := range done.body["approvals"].([]any) {
		if a.(map[string]any)["mode"] != "signature" {
			t.Errorf("approved by %v", a)
		}
	}
	list := s.do("GET", native+"/root-tokens", "", withToken(s.root)).want(200)
	for _, want := range []string{`"ceremony":"` + nonce + `"`, `"ceremony":"init"`, `"expire_time"`} {
		if !strings.Contains(list.text, want) {
			t.Errorf("%s, want %s", list.text, want)
		}
	}
}

// A signature that was made for anything else is refused, and progress is as it was.
func TestSignaturesOfSomethingElse(t *testing.T) {
	s := ready(t, 5, 3)
	old := attemptOf(t, s.view(s.begin(`{"kind":"root-token"}`)))
	s.do("DELETE", native+"/"+old.Nonce, "").want(204)
	drill := attemptOf(t, s.view(s.begin(`{"kind":"drill"}`)))
	nonce := s.begin(`{"kind":"root-token"}`)
	s.do("POST", native+"/"+nonce+"/approve", s.signed(nonce, 1), stranger).want(200)
	a := attemptOf(t, s.view(nonce))
	key := s.key(2, a.Generation)
	right := a.Statement(2, holder.ModeSignature)
	with := func(change func(*holder.Statement)) []byte {
		wrong := right
		change(&wrong)
		return key.Sign(wrong)
	}
	good := key.Sign(right)
	flipped := append([]byte{good[0] ^ 1}, good[1:]...)
	for name, body := range map[string]string{
		"another action":       signatureBody(2, with(func(st *holder.Statement) { st.Action = holder.ActionStart })),
		"a cancel":             signatureBody(2, key.Sign(a.CancelStatement(2, holder.ModeSignature))),
		"a drill":              signatureBody(2, key.Sign(drill.Statement(2, holder.ModeSignature))),
		"possession":           signatureBody(2, key.Sign(ceremony.ProveStatement(a.ClusterID, a.Generation, 2, holder.ModeSignature, nonce))),
		"mode share":           signatureBody(2, key.Sign(a.Statement(2, holder.ModeShare))),
		"another attempt":      signatureBody(2, key.Sign(old.Statement(2, holder.ModeSignature))),
		"another generation":   signatureBody(2, with(func(st *holder.Statement) { st.Generation++ })),
		"key of another one":   signatureBody(2, s.key(2, a.Generation+1).Sign(right)),
		"another cluster":      signatureBody(2, with(func(st *holder.Statement) { st.ClusterID = neverNonce })),
		"another slot":         signatureBody(3, good),
		"another slot's key":   signatureBody(2, s.key(3, a.Generation).Sign(right)),
		"a flipped bit":        signatureBody(2, flipped),
		"zeros":                signatureBody(2, make([]byte, 64)),
		"slot 0":               signatureBody(0, good),
		"slot -1":              signatureBody(-1, good),
		"slot 6 of 5":          signatureBody(6, good),
		"slot 256":             signatureBody(256, good),
		"slot 258":             signatureBody(258, good),
		"63 bytes":             signatureBody(2, good[:63]),
		"65 bytes":             signatureBody(2, append(slices.Clone(good), 0)),
		"nothing signed":       `{"slot":2}`,
		"no slot":              strings.Replace(signatureBody(2, good), `"slot":2,`, "", 1),
		"a share as well":      signatureBody(2, good, `,"key":"`+s.keys[1]+`"`),
		"a share and its slot": `{"slot":2,"key":"` + s.keys[1] + `"}`,
		"a line break":         strings.Replace(signatureBody(2, good), `==`, `=\n=`, 1),
		"not base64":           `{"slot":2,"signature":"%%%%"}`,
		"hex":                  fmt.Sprintf(`{"slot":2,"signature":"%x"}`, good),
		"without padding":      strings.Replace(signatureBody(2, good), `==`, ``, 1),
		"a number":             `{"slot":2,"signature":{}}`,
		"nothing":              `{}`,
		"the first again":      s.signed(nonce, 1),
	} {
		for _, path := range []string{native + "/" + nonce + "/approve", update} {
			b := body
			if path == update {
				b = strings.TrimSuffix(body, "}") + `,"nonce":"` + nonce + `"}`
			}
			got := s.do("POST", path, b, stranger)
			if got.code != 400 {
				t.Errorf("%s: %s: %d %s", path, name, got.code, got.text)
			}
			if len(good) > 0 && strings.Contains(got.text, base64.StdEncoding.EncodeToString(good)[:40]) {
				t.Errorf("%s: the signature comes back: %s", name, got.text)
			}
		}
		if view := s.view(nonce); view.num("progress") != 1 {
			t.Fatalf("%s: %s", name, view.text)
		}
	}
	// Or all of that would prove nothing; in a seed's shape too.
	s.do("POST", native+"/"+nonce+"/approve", signatureBody(2, good), stranger).want(200).in("data").is("progress", 2)
	s.do("PUT", update, strings.TrimSuffix(s.signed(nonce, 3), "}")+`,"nonce":"`+nonce+`"}`, stranger).want(200).is("complete", true)
}

// startBody is a start that the holder of slot signed at home.
func (s *server) startBody(slot int, st ceremony.Start, more string) string {
	s.t.Helper()
	st.ClusterID, st.Generation = s.clusterID(), max(st.Generation, 1)
	signature := s.key(slot, st.Generation).Sign(st.Statement(slot))
	return fmt.Sprintf(`{"kind":%q,"slot":%d,"signature":%q,"signed_at":%q%s}`, st.Kind, slot,
		base64.StdEncoding.EncodeToString(signature), st.At.UTC().Format("2006-01-02T15:04:05.000Z"), more)
}

// A start can be signed from afar: for five minutes, once, and for nothing else.
func TestStartBySignature(t *testing.T) {
	s := ready(t, 5, 3)
	now := s.clock.now()
	rootToken := func(at time.Time) ceremony.Start {
		return ceremony.Start{Kind: ceremony.RootToken, Recipient: "otp", Reason: "lost", At: at}
	}
	const reason = `,"reason":"lost"`
	for name, body := range map[string]string{
		"too old":           s.startBody(2, rootToken(now.Add(-5*time.Minute-time.Millisecond)), reason),
		"from the future":   s.startBody(2, rootToken(now.Add(5*time.Minute+time.Millisecond)), reason),
		"another reason":    s.startBody(2, rootToken(now), `,"reason":"found"`),
		"no reason":         s.startBody(2, rootToken(now), ""),
		"another ttl":       s.startBody(2, rootToken(now), reason+`,"ttl":"1h"`),
		"a lifetime":        s.startBody(2, rootToken(now), reason+`,"root_token_ttl":"1h"`),
		"own OTP":           s.startBody(2, rootToken(now), reason+`,"otp":"2vPFYG8gUSW9npwzyvxXMug0"`),
		"another kind":      s.startBody(2, ceremony.Start{Kind: ceremony.Drill, Recipient: "otp", Reason: "lost", At: now}, reason),
		"another holder":    strings.Replace(s.startBody(2, rootToken(now), reason), `"slot":2`, `"slot":3`, 1),
		"no such holder":    strings.Replace(s.startBody(2, rootToken(now), reason), `"slot":2`, `"slot":9`, 1),
		"another time":      strings.Replace(s.startBody(2, rootToken(now), reason), `:00.000Z`, `:00.001Z`, 1),
		"no time":           strings.Replace(s.startBody(2, rootToken(now), reason), `"signed_at"`, `"x"`, 1),
		"not a time":        strings.Replace(s.startBody(2, rootToken(now), reason), `.000Z`, `,000Z Z`, 1),
		"a new generation":  s.startBody(2, ceremony.Start{Kind: ceremony.RootToken, Recipient: "otp", Reason: "lost", At: now, Generation: 2}, reason),
		"a share as well":   s.startBody(2, rootToken(now), reason+`,"key":"`+s.keys[1]+`"`),
		"nothing but words": `{"kind":"root-token","reason":"lost","slot":2,"signed_at":"2026-11-24T03:00:00.000Z"}`,
	} {
		if got := s.do("POST", native, body, stranger); got.code != 400 {
			t.Errorf("%s: %d %s", name, got.code, got.text)
		}
	}
	s.do("LIST", native, "", stranger).want(404)
	body := s.startBody(2, rootToken(now), reason)
	started := s.do("POST", native, body, stranger).want(200).in("data")
	started.is("progress", 0)
	started.in("initiator").is("slot", 2)
	nonce := started.str("nonce")
	s.do("POST", native, body, stranger).want(400)
	s.do("DELETE", native+"/"+nonce, "", withToken(s.root)).want(204)
	for range 2 { // the attempt is gone, but the start stays used, whoever sends it
		s.do("POST", native, body, stranger).want(400, "used already")
		s.do("POST", native, body).want(400, "used already")
		s.clock.step(4 * time.Minute)
	}
	s.do("POST", native, body, stranger).want(400)
}

// A cancel is signed over its attempt, and an approval is none.
func TestCancelBySignature(t *testing.T) {
	s := ready(t, 5, 3)
	nonce := s.begin(`{"kind":"root-token"}`, withToken(s.root))
	a := attemptOf(t, s.view(nonce))
	key := s.key(2, a.Generation)
	cancel := signatureBody(2, key.Sign(a.CancelStatement(2, holder.ModeSignature)))
	for _, how := range [][2]string{{"DELETE", ""}, {"POST", "/cancel"}} {
		s.do(how[0], native+"/"+nonce+how[1], "", stranger).want(403)
		s.do(how[0], native+"/"+nonce+how[1], signatureBody(2, key.Sign(a.Statement(2, holder.ModeSignature))), stranger).want(400)
		s.do(how[0], native+"/"+nonce+how[1], signatureBody(2, key.Sign(a.CancelStatement(2, holder.ModeShare))), stranger).want(400)
	}
	s.do("POST", native+"/"+nonce+"/approve", `{"key":"`+s.keys[0]+`"}`, stranger).want(200)
	objected := s.do("POST", native+"/"+nonce+"/cancel", cancel, stranger).want(200, "objection is recorded")
	if got := objected.in("data"); !strings.Contains(got.text, `"objections":[{"slot":2`) || got.num("progress") != 1 {
		t.Errorf("%s", got.text)
	}
	s.do("DELETE", native+"/"+nonce, cancel, stranger).want(200) // the same objection
	s.do("DELETE", native+"/"+nonce, "", withToken(s.root)).want(204)
	s.view(nonce).is("state", "cancelled")
	s.do("DELETE", native+"/"+nonce, cancel, stranger).want(400, "over: cancelled")
	// Nor does it end the next one.
	next := s.begin(`{"kind":"root-token"}`)
	s.do("DELETE", native+"/"+next, cancel, stranger).want(400)
	s.view(next).is("state", "open")
}

// Who was last proven when isn't known while sealed, and that is said: it isn't the same as never.
func TestHoldersWhileSealed(t *testing.T) {
	s := newServer(t)
	s.do("GET", native+"/holders", "", stranger).want(200).in("data").is("proven_known", false)
	s.init(3, 2)
	s.unseal(2)
	known := s.do("GET", native+"/holders", "", stranger).want(200).in("data")
	known.is("proven_known", true)
	if got := strings.Count(known.text, "last_proven"); got != 2 {
		t.Errorf("%d holders have unsealed: %s", got, known.text)
	}
	s.do("PUT", "sys/seal", "", withToken(s.root)).want(204)
	unknown := s.do("GET", native+"/holders", "", stranger).want(200).in("data")
	unknown.is("proven_known", false)
	if strings.Contains(unknown.text, "last_proven") || !strings.Contains(unknown.text, `"verifier"`) {
		t.Errorf("%s", unknown.text)
	}
}

// Fields that would have no effect are refused, and so is what isn't known; nothing is started by any of it.
func TestStartRefuses(t *testing.T) {
	s := ready(t, 3, 2)
	for body, sentence := range map[string]string{
		`{}`:                                 "kind of ceremony",
		`{"kind":""}`:                        "kind of ceremony",
		`{"kind":"unseal"}`:                  "kind of ceremony",
		`{"kind":["rekey"]}`:                 "JSON decoding",
		`{"kind":"drill","secret_shares":3}`: `\"secret_shares\" has no meaning`,
		`{"kind":"drill","otp":"2vPFYG8gUSW9npwzyvxXMug0"}`:                            `\"otp\" has no meaning`,
		`{"kind":"root-token","rotate":true}`:                                          `\"rotate\" has no meaning`,
		`{"kind":"root-token","holders":["a"]}`:                                        `\"holders\" has no meaning`,
		`{"kind":"rekey","root_token_ttl":"1h","secret_shares":1}`:                     `\"root_token_ttl\" has no meaning`,
		`{"kind":"rekey","pgp_key":"x","secret_shares":1}`:                             `\"pgp_key\" has no meaning`,
		`{"kind":"holders","pgp_keys":["x"]}`:                                          `\"pgp_keys\" has no meaning`,
		`{"kind":"holders","holders":["a","b"]}`:                                       "label",
		`{"kind":"holders","holders":["a","b","c\n"]}`:                                 "",
		`{"kind":"root-token","reason":"two\nlines"}`:                                  "",
		`{"kind":"root-token","ttl":"-1s"}`:                                            "ttl",
		`{"kind":"root-token","ttl":"365d"}`:                                           "ttl",
		`{"kind":"root-token","root_token_ttl":"soon"}`:                                "root_token_ttl",
		`{"kind":"root-token","age_recipients":"nobody"}`:                              "",
		`{"kind":"root-token","age_recipients":["age1name1qqqq"]}`:                     "",
		`{"kind":"rekey"}`:                                                             "",
		`{"kind":"rekey","secret_shares":3,"secret_threshold":4}`:                      "",
		`{"kind":"rekey","secret_shares":3,"secret_threshold":2,"pgp_keys":["x"]}`:     "",
		`{"kind":"rekey","secret_shares":3,"secret_threshold":2,"backup":true}`:        "backup",
		`{"kind":"rotate-root","secret_shares":3,"secret_threshold":2,"holders":"a"}`:  "label",
		`{"kind":"root-token","key":"` + s.keys[0] + `","slot":1,"signature":"AAAA"}`:  "not both",
		`{"kind":"root-token","key":"` + strings.Repeat("ab", 32) + `01"}`:             "slot 1",
		`{"kind":"root-token","signed_at":"yesterday"}`:                                "signed_at",
		`{"kind":"root-token","otp":"short"}`:                                          "length",
		`{"kind":"root-token","pgp_key":"` + strings.Repeat("A", 100) + `","otp":""}`:  "PGP key",
		`{"kind":"drill","ttl":"1000d"}`:                                               "ttl",
		`{"kind":"root-token","reason":"` + strings.Repeat("r", 201) + `"}`:            "reason",
		`{"kind":"root-token","reason":"` + strings.Repeat(`\u00e9`, 101) + `"}`:       "reason",
		`{"kind":"root-token","reason":["x"]}`:                                         "JSON decoding",
		`[{"kind":"root-token"}]`:                                                      "JSON object",
		`{"kind":"root-token","kind":"drill"}`:                                         "twice",
		`{"kind":"rekey","secret_shares":"many"}`:                                      "secret_shares",
		`{"kind":"rekey","secret_shares":3,"secret_threshold":2,"verify_all":"maybe"}`: "verify_all",
	} {
		s.do("POST", native, body).want(400, sentence)
	}
	s.do("LIST", native, "").want(404)
	if got := s.do("GET", native, "").want(200).in("data"); fmt.Sprint(got.body["keys"]) != "[]" {
		t.Errorf("%s", got.text)
	}
}

// What stands in the place of a nonce and isn't one is nothing, and names that are taken are no nonces.
func TestCeremonyPaths(t *testing.T) {
	s := ready(t, 3, 2)
	open := s.begin(`{"kind":"root-token"}`)
	for _, nonce := range []string{neverNonce, "x", strings.ToUpper(open), open[:35], open + "0", "{" + open + "}", "%7B" + open + "%7D", strings.ReplaceAll(open, "-", ""), "urn:uuid:" + open} {
		for _, c := range [][2]string{{"GET", ""}, {"DELETE", ""}, {"POST", "/cancel"}, {"GET", "/watch"}} {
			s.do(c[0], native+"/"+nonce+c[1], "", withToken(s.root)).want(404)
		}
		for _, tail := range []string{"/approve", "/verify"} {
			s.do("POST", native+"/"+nonce+tail, `{"key":"`+s.keys[0]+`"}`).want(404)
		}
	}
	s.do("POST", native+"/"+open+"/verify", `{"key":"`+s.keys[0]+`"}`).want(400) // there is nothing to verify
	s.do("POST", native+"/"+open+"/verify", s.signed(open, 1)).want(400)
	s.view(open).is("progress", 0)
	for path, code := range map[string]int{
		native + "/" + open + "/":       404,
		native + "/" + open + "/nope":   404,
		native + "/{nonce}":             404,
		native + "/{nonce}/approve":     404,
		native + "/holders/approve":     404,
		native + "/root-tokens/watch":   404,
		native + "/holders":             200,
		native + "/root-tokens":         200,
		native + "/":                    200,
		native + "?list=true":           200,
		native + "/" + open:             200,
		native + "/" + open + "/watch":  200,
		native + "/" + open + "/result": 404,
	} {
		got := s.do("GET", path, "", withToken(s.root))
		if got.code != code && !(got.code == 405 && code == 404) {
			t.Errorf("%s: %d %s, want %d", path, got.code, got.text, code)
		}
	}
	s.do("LIST", native+"/", "", stranger).want(200).in("data").in("key_info").in(open).is("kind", "root-token")
}

// Each kind of ceremony has a place of its own, and does what it is for.
func TestKindsSideBySide(t *testing.T) {
	s := ready(t, 3, 2)
	nonces := map[string]string{}
	for kind, more := range map[string]string{
		"root-token": "", "drill": "", "holders": `,"holders":["ada","ben","cy"]`,
		"rekey": `,"secret_shares":2,"secret_threshold":2,"holders":["dee","eve"]`,
	} {
		nonces[kind] = s.begin(`{"kind":"` + kind + `"` + more + `}`)
		s.do("POST", native, `{"kind":"`+kind+`"`+more+`}`).want(400, "already in progress")
	}
	list := s.do("LIST", native, "", stranger).want(200).in("data")
	if got := list.body["keys"].([]any); len(got) != 4 || len(list.in("key_info").body) != 4 {
		t.Errorf("%s", list.text)
	}
	consent := func(kind, tail string, slot int) *response {
		t.Helper()
		return s.do("POST", native+"/"+nonces[kind]+tail, `{"key":"`+s.keys[slot-1]+`"}`, stranger).want(200).in("data")
	}
	for _, nonce := range nonces { // a share approves what it is sent to
		view := s.view(nonce)
		if a := attemptOf(t, view); a.ComputeDigest() != a.Digest || view.num("progress") != 0 {
			t.Errorf("%s", view.text)
		}
	}

	consent("holders", "/approve", 1)
	consent("holders", "/approve", 3).is("state", "complete")
	holders := s.do("GET", native+"/holders", "", stranger).want(200)
	for _, want := range []string{`"label":"ada"`, `"label":"cy"`, `"state":"active"`, `"last_proven"`} {
		if !strings.Contains(holders.text, want) {
			t.Errorf("%s, want %s", holders.text, want)
		}
	}

	for slot := 1; slot <= 3; slot++ { // all of them
		got := consent("drill", "/approve", slot)
		got.is("required", 3)
		got.is("progress", slot)
		got.is("state", map[bool]string{true: "complete", false: "open"}[slot == 3])
	}

	consent("rekey", "/approve", 1)
	last := consent("rekey", "/approve", 2)
	last.is("state", "verifying")
	fresh := []string{}
	for _, k := range last.body["keys"].([]any) {
		fresh = append(fresh, k.(string))
	}
	if len(fresh) != 2 || len(last.body["keys_base64"].([]any)) != 2 {
		t.Fatalf("%d new shares", len(fresh))
	}
	proof := s.view(nonces["rekey"]).in("verification")
	proof.is("required", 2)
	if strings.Contains(s.view(nonces["rekey"]).text, fresh[0]) {
		t.Fatal("a stranger is shown a share")
	}
	s.do("POST", native+"/"+nonces["rekey"]+"/verify", `{"key":"`+s.keys[0]+`"}`, stranger).want(400) // not a new one
	old := s.keys
	s.keys = fresh
	consent("rekey", "/verify", 1).in("verification").is("progress", 1)
	s.do("POST", native+"/"+nonces["rekey"]+"/verify", `{"key":"`+fresh[0]+`"}`, stranger).want(400)
	consent("rekey", "/verify", 2).is("state", "complete")
	s.do("GET", native, "").want(200).in("data").is("generation", 2)
	s.do("POST", native+"/"+s.begin(`{"kind":"drill"}`)+"/approve", `{"key":"`+old[0]+`"}`).want(400, "old generation")
	if got := s.view(nonces["root-token"]); got.str("state") == "open" {
		t.Errorf("an attempt that the old holders were to approve goes on: %s", got.text)
	}
}

// A result that is kept is for those who could have started the ceremony, and for nobody once it is acknowledged.
func TestResult(t *testing.T) {
	s := ready(t, 3, 2)
	start := s.do("POST", native, `{"kind":"root-token"}`).want(200).in("data")
	nonce := start.str("nonce")
	path := native + "/" + nonce + "/result"
	s.do("GET", path, "").want(404)
	var last *response
	for i := range 2 {
		last = s.do("POST", native+"/"+nonce+"/approve", `{"key":"`+s.keys[i]+`"}`, stranger).want(200).in("data")
	}
	limited, _ := s.newToken(`{"policies":["default"]}`)
	for _, method := range []string{"GET", "POST", "DELETE"} {
		s.do(method, path, "", stranger).want(403)
		s.do(method, path, "", stranger, withToken(limited)).want(403)
		s.do(method, path, "", stranger, withToken("junk")).want(403)
	}
	s.do("POST", path, `{"key":"`+strings.Repeat("ab", 32)+`01"}`, stranger).want(400)
	for _, got := range []*response{
		s.do("GET", path, "").want(200),
		s.do("GET", path, "", stranger, withToken(s.root)).want(200),
		s.do("POST", path, `{"key":"`+s.keys[2]+`"}`, stranger).want(200),
	} {
		data := got.in("data")
		data.is("encoded_token", last.str("encoded_token"))
		data.is("kind", "root-token")
		if !strings.Contains(data.text, `"recipients":["otp:hmac:`) || data.str("expires") == "" {
			t.Errorf("%s", data.text)
		}
	}
	s.do("DELETE", path, "").want(204)
	s.do("GET", path, "", withToken(s.root)).want(404)
	s.do("POST", path, `{"key":"`+s.keys[0]+`"}`).want(404)
}

// Two shares from one machine are allowed, and it is said.
func TestSharedClientIsTold(t *testing.T) {
	s := ready(t, 3, 3)
	nonce := s.begin(`{"kind":"root-token"}`)
	approve := func(slot int, o option) *response {
		return s.do("POST", native+"/"+nonce+"/approve", `{"key":"`+s.keys[slot-1]+`"}`, o).want(200)
	}
	if got := approve(1, stranger); got.body["warnings"] != nil {
		t.Errorf("%s", got.text)
	}
	if got := approve(2, func(r *http.Request) { r.RemoteAddr = "203.0.113.8:1" }); got.body["warnings"] != nil {
		t.Errorf("%s", got.text)
	}
	approve(3, stranger).want(200, "came from the same client")
}
