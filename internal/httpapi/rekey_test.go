package httpapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/holder"
)

const (
	rekeyInit   = "sys/rekey/init"
	rekeyUpdate = "sys/rekey/update"
	rekeyVerify = "sys/rekey/verify"
	idleRekey   = `{"nonce":"","started":false,"t":0,"n":0,"progress":0,"required":%d,"pgp_fingerprints":null,"backup":false,"verification_required":false}`
)

// keyPair makes an OpenPGP key, with the base64 of its public part and its fingerprint.
func keyPair(t *testing.T, at time.Time) (e *openpgp.Entity, public, fingerprint string) {
	t.Helper()
	public = pgpKey(t, at, 0, func(made *openpgp.Entity, _ *packet.Config) error {
		e = made
		return nil
	})
	return e, public, fmt.Sprintf("%x", e.PrimaryKey.Fingerprint)
}

func decryptPGP(t *testing.T, e *openpgp.Entity, message []byte, at time.Time) string {
	t.Helper()
	m, err := openpgp.ReadMessage(bytes.NewReader(message), openpgp.EntityList{e}, nil, &packet.Config{Time: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(m.UnverifiedBody)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// rekeyed starts a rekey and approves it up to the last share that it needs. The reply to that one comes back.
func (s *server) rekeyed(body string, required int) (last *response, nonce string) {
	s.t.Helper()
	nonce = s.do("PUT", rekeyInit, body).want(200).str("nonce")
	for i := range required {
		last = s.do("PUT", rekeyUpdate, keyBody(s.keys[i], nonce), stranger).want(200)
	}
	return last, nonce
}

// takeKeys makes the new shares of a reply those of the server's people, after a look at them.
func (s *server) takeKeys(last *response, shares int) (old []string) {
	s.t.Helper()
	keys, keys64 := last.list("keys"), last.list("keys_base64")
	if len(keys) != shares || len(keys64) != shares {
		s.t.Fatalf("%d and %d keys, want %d", len(keys), len(keys64), shares)
	}
	for i, key := range keys {
		share := unhex(s.t, key)
		if base64.StdEncoding.EncodeToString(share) != keys64[i] || shares > 1 && (len(share) != 33 || int(share[32]) != i+1) {
			s.t.Errorf("share %d of %d bytes differs from its other form, or has another x", i+1, len(share))
		}
	}
	old, s.keys = s.keys, keys
	return old
}

// sealAndUnseal is the proof that shares open the store.
func (s *server) sealAndUnseal(keys []string, threshold int) {
	s.t.Helper()
	s.do("PUT", "sys/seal", "", withToken(s.root)).want(204)
	for _, key := range keys[:threshold] {
		s.do("PUT", "sys/unseal", `{"key":"`+key+`"}`).want(200)
	}
	if s.node.Sealed() {
		s.t.Fatal("still sealed")
	}
}

// Wire reference 4.1, traps 31 and 34, checklist 20: a rekey as the stock clients do it, without verification, to more
// shares and a higher threshold, to fewer, and to one.
func TestRekey(t *testing.T) {
	for _, c := range []struct{ shares, threshold int }{{7, 4}, {5, 3}, {3, 2}, {1, 1}} {
		s := ready(t, 5, 3)
		s.do("GET", rekeyInit, "", stranger).wantText(200, fmt.Sprintf(idleRekey, 3))
		body := fmt.Sprintf(`{"secret_shares":%d,"SECRET_THRESHOLD":%d,"stored_shares":0,"pgp_keys":null,"backup":false,"require_verification":false}`, c.shares, c.threshold)
		status := `{"nonce":"%s","started":true,"t":%d,"n":%d,"progress":%d,"required":3,"pgp_fingerprints":null,"backup":false,"verification_required":false}`
		start := s.do("POST", rekeyInit, body)
		nonce := start.str("nonce")
		start.wantText(200, fmt.Sprintf(status, nonce, c.threshold, c.shares, 0))
		s.do("PUT", rekeyInit, body).want(400, "rekey already in progress")
		s.do("PUT", rekeyUpdate, keyBody(strings.ToUpper(s.keys[0]), nonce), stranger).wantText(200, fmt.Sprintf(status, nonce, c.threshold, c.shares, 1))
		s.do("PUT", rekeyUpdate, keyBody(b64key(t, s.keys[0]), nonce)).want(400, "given key has already been provided")
		s.do("POST", rekeyUpdate, keyBody(b64key(t, s.keys[1]), nonce)).wantText(200, fmt.Sprintf(status, nonce, c.threshold, c.shares, 2))
		s.do("GET", rekeyInit, "").wantText(200, fmt.Sprintf(status, nonce, c.threshold, c.shares, 2))

		last := s.do("PUT", rekeyUpdate, keyBody(s.keys[4], nonce)).want(200)
		last.fieldsAre("nonce", "complete", "keys", "keys_base64", "pgp_fingerprints", "backup", "verification_required")
		for name, want := range map[string]any{"nonce": nonce, "complete": true, "pgp_fingerprints": nil, "backup": false, "verification_required": false} {
			last.is(name, want)
		}
		s.do("PUT", rekeyUpdate, keyBody(s.keys[4], nonce)).wantText(200, strings.TrimSpace(last.text)) // a lost reply
		s.do("PUT", rekeyUpdate, keyBody(s.keys[3], nonce)).want(400)
		s.clock.step(5 * time.Minute)
		s.do("PUT", rekeyUpdate, keyBody(s.keys[4], nonce)).want(400)
		old := s.takeKeys(last, c.shares)
		s.do("GET", rekeyInit, "").wantText(200, fmt.Sprintf(idleRekey, c.threshold))

		// The new shares approve, the old ones are known for what they are.
		root := s.do("PUT", attempt, "").want(200)
		root.is("required", c.threshold)
		for _, path := range []string{update, updateB} {
			s.do("PUT", path, keyBody(old[1], root.str("nonce"))).want(400, "old generation")
		}
		s.do("PUT", attempt, `{"key":"`+old[2]+`"}`, stranger).want(400, "old generation")
		s.do("DELETE", attempt, "").want(204)

		// They still unseal, until a quorum of the new ones has been proven.
		retiring := []string{"retiring_t", "retiring_n", "retiring_progress"}
		got := s.do("GET", "sys/seal-status", "").want(200)
		for i, want := range []int{3, 5, 0} {
			got.is(retiring[i], want)
		}
		s.sealAndUnseal(old, 3)
		s.sealAndUnseal(s.keys, c.threshold)
		if got := s.do("GET", "sys/seal-status", ""); strings.Contains(got.text, "retiring") {
			t.Errorf("proven, and still %s", got.text)
		}
		s.do("PUT", "sys/seal", "", withToken(s.root)).want(204)
		s.do("PUT", "sys/unseal", `{"key":"`+old[0]+`"}`).want(400, "old generation")
	}
}

// A partial unseal with old shares is told apart from one with new ones.
func TestRetiringProgress(t *testing.T) {
	s := ready(t, 5, 3)
	last, _ := s.rekeyed(`{"secret_shares":3,"secret_threshold":2}`, 3)
	old := s.takeKeys(last, 3)
	s.do("PUT", "sys/seal", "", withToken(s.root)).want(204)
	got := s.do("PUT", "sys/unseal", `{"key":"`+old[0]+`"}`).want(200)
	for name, want := range map[string]any{"t": 2, "n": 3, "progress": 0, "retiring_t": 3, "retiring_n": 5, "retiring_progress": 1, "sealed": true} {
		got.is(name, want)
	}
	got = s.do("PUT", "sys/unseal", `{"key":"`+s.keys[0]+`"}`).want(200)
	for name, want := range map[string]any{"progress": 1, "retiring_progress": 1, "sealed": true} {
		got.is(name, want)
	}
	s.do("PUT", "sys/unseal", `{"key":"`+s.keys[2]+`"}`).want(200).is("sealed", false)
}

// Wire reference 4.1, verify, and trap 32: the old shares are in force until enough new holders have proven theirs.
func TestRekeyWithVerification(t *testing.T) {
	s := ready(t, 5, 3)
	s.do("GET", rekeyVerify, "", stranger).wantErrors(400, "no rekey configuration found: start a rekey first")
	s.do("DELETE", rekeyVerify, "").want(400)
	s.do("PUT", rekeyVerify, keyBody(s.keys[0], "x")).want(400)
	nonce := s.do("PUT", rekeyInit, `{"secret_shares":3,"secret_threshold":2,"require_verification":true}`).want(200, `"verification_required":true`).str("nonce")
	s.do("GET", rekeyVerify, "").wantText(200, `{"nonce":"","started":false,"t":2,"n":3,"progress":0}`)
	s.do("PUT", rekeyVerify, keyBody(s.keys[0], nonce)).want(400)
	s.do("DELETE", rekeyVerify, "").want(400)
	for _, key := range s.keys[:2] {
		s.do("PUT", rekeyUpdate, keyBody(key, nonce)).want(200)
	}
	last := s.do("PUT", rekeyUpdate, keyBody(s.keys[2], nonce)).want(200)
	last.fieldsAre("nonce", "complete", "keys", "keys_base64", "pgp_fingerprints", "backup", "verification_required", "verification_nonce")
	last.is("complete", true)
	last.is("verification_required", true)
	verification := last.str("verification_nonce")
	s.do("PUT", rekeyUpdate, keyBody(s.keys[2], nonce)).wantText(200, strings.TrimSpace(last.text))
	got := s.do("PUT", rekeyUpdate, keyBody(s.keys[3], nonce)).want(400)
	if !strings.Contains(got.text, "verif") {
		t.Errorf("what is next isn't said: %s", got.text)
	}
	status := s.do("GET", rekeyInit, "").want(200)
	status.is("started", true)
	status.is("required", 3)
	status.is("verification_nonce", verification)
	old := s.takeKeys(last, 3)

	// Nothing has changed yet.
	root := s.do("PUT", attempt, "").want(200)
	root.is("required", 3)
	s.do("PUT", update, keyBody(old[0], root.str("nonce"))).want(200)
	s.do("PUT", update, keyBody(s.keys[0], root.str("nonce"))).want(400)

	for body, sentence := range map[string]string{
		"":                               "must be specified",
		keyBody("zz", verification):      "hex or base64",
		keyBody(s.keys[0], nonce):        "nonce",
		keyBody(s.keys[0], ""):           "nonce",
		keyBody(old[0], verification):    "",
		`{"key":5}`:                      "JSON decoding",
		keyBody(s.keys[0][:64], "x")[:9]: "unexpected EOF",
	} {
		s.do("PUT", rekeyVerify, body, stranger).want(400, sentence)
	}
	s.do("PUT", rekeyVerify, keyBody(s.keys[1], verification), stranger).wantText(200, `{"nonce":"`+verification+`","started":true,"t":2,"n":3,"progress":1}`)
	s.do("PUT", rekeyVerify, keyBody(b64key(t, s.keys[1]), verification)).want(400, "already been provided")
	s.do("DELETE", rekeyVerify, "", stranger).want(403)
	reset := s.do("DELETE", rekeyVerify, "").want(200)
	again := reset.str("nonce")
	reset.wantText(200, `{"nonce":"`+again+`","started":true,"t":2,"n":3,"progress":0}`)
	if again == verification {
		t.Error("the nonce is the same after a reset")
	}
	s.do("PUT", rekeyVerify, keyBody(s.keys[1], verification)).want(400, "nonce")
	s.do("POST", rekeyVerify, keyBody(s.keys[1], again)).want(200).is("progress", 1)
	s.do("GET", rekeyVerify, "").wantText(200, `{"nonce":"`+again+`","started":true,"t":2,"n":3,"progress":1}`)
	s.do("PUT", rekeyVerify, keyBody(s.keys[0], again)).wantText(200, `{"nonce":"`+again+`","complete":true}`)

	// Now it has, and for good.
	s.do("GET", rekeyInit, "").wantText(200, fmt.Sprintf(idleRekey, 2))
	s.do("GET", rekeyVerify, "").want(400)
	s.do("GET", attempt, "").is("started", false) // its holders aren't holders any more
	if got := s.do("GET", "sys/seal-status", ""); strings.Contains(got.text, "retiring") {
		t.Errorf("verified, and still %s", got.text)
	}
	s.sealAndUnseal(s.keys, 2)
	s.do("PUT", "sys/seal", "", withToken(s.root)).want(204)
	s.do("PUT", "sys/unseal", `{"key":"`+old[0]+`"}`).want(400, "old generation")
}

// All new holders prove possession where that was asked for; a new root key comes with the commit.
func TestVerifyAllAndRotate(t *testing.T) {
	s := ready(t, 3, 2)
	last, _ := s.rekeyed(`{"secret_shares":3,"secret_threshold":2,"require_verification":true,"verify_all":true,"rotate":true,"holders":["alice","bob","chloë"],"reason":"bob has left"}`, 2)
	nonce := last.str("verification_nonce")
	s.takeKeys(last, 3)
	s.do("GET", rekeyVerify, "").wantText(200, `{"nonce":"`+nonce+`","started":true,"t":2,"n":3,"progress":0,"required":3}`)
	term := s.do("GET", "sys/key-status", "", withToken(s.root)).num("term")
	for i := range 2 {
		s.do("PUT", rekeyVerify, keyBody(s.keys[i], nonce)).want(200).is("progress", i+1)
	}
	s.do("PUT", rekeyVerify, keyBody(s.keys[2], nonce)).wantText(200, `{"nonce":"`+nonce+`","complete":true}`)
	if got := s.do("GET", "sys/key-status", "", withToken(s.root)).num("term"); got != term+1 {
		t.Errorf("term %d after %d", got, term)
	}
	s.sealAndUnseal(s.keys, 2)
	s.do("GET", "auth/token/lookup-self", "", withToken(s.root)).want(200)
}

// Without verification the old shares still unseal, also under a new root key.
func TestRotateWithoutVerification(t *testing.T) {
	s := ready(t, 3, 2)
	term := s.term()
	last, _ := s.rekeyed(`{"secret_shares":4,"secret_threshold":3,"rotate":true}`, 2)
	old := s.takeKeys(last, 4)
	if got := s.term(); got != term+1 {
		t.Errorf("term %d after %d", got, term)
	}
	s.sealAndUnseal(old, 2)
	s.do("PUT", "sys/rotate/root", "", withToken(s.root)).want(204)
	s.sealAndUnseal(old, 2)
	s.sealAndUnseal(s.keys, 3)
	s.do("GET", "auth/token/lookup-self", "", withToken(s.root)).want(200)
}

// A cancel while the new shares wait to be proven destroys them.
func TestCancelDuringVerification(t *testing.T) {
	s := ready(t, 3, 2)
	last, nonce := s.rekeyed(`{"secret_shares":2,"secret_threshold":2,"require_verification":true}`, 2)
	verification := last.str("verification_nonce")
	s.do("DELETE", rekeyInit, "", stranger).want(403)
	s.do("DELETE", rekeyInit, `{"nonce":"`+verification+`"}`).want(400, "nonce")
	s.do("DELETE", rekeyInit, `{"nonce":"`+nonce+`"}`).want(204)
	s.do("GET", rekeyInit, "").wantText(200, fmt.Sprintf(idleRekey, 2))
	s.do("PUT", rekeyVerify, keyBody(last.list("keys")[0], verification)).want(400)
	s.do("PUT", rekeyUpdate, keyBody(s.keys[1], nonce)).want(400)
	s.sealAndUnseal(s.keys, 2)
	s.do("PUT", "sys/seal", "", withToken(s.root)).want(204)
	s.do("PUT", "sys/unseal", `{"key":"`+last.list("keys")[0]+`"}`).want(400)
}

// Wire reference 4.1, start failures, with 400 for all of them (trap 35).
func TestRekeyStartRefuses(t *testing.T) {
	s := ready(t, 3, 2)
	_, good, _ := keyPair(t, s.clock.now())
	two := `"secret_shares":2,"secret_threshold":2`
	for body, sentence := range map[string]string{
		``:   "",
		`{}`: "",
		`{"secret_shares":5,"secret_threshold":6}`:         "threshold",
		`{"secret_shares":5,"secret_threshold":1}`:         "threshold",
		`{"secret_shares":5,"secret_threshold":0}`:         "threshold",
		`{"secret_shares":0,"secret_threshold":0}`:         "secret_shares",
		`{"secret_shares":-3,"secret_threshold":2}`:        "secret_shares",
		`{"secret_shares":256,"secret_threshold":3}`:       "255",
		`{"secret_shares":"5","secret_threshold":3}`:       "JSON decoding",
		`{` + two + `,"backup":true}`:                      "backup",
		`{` + two + `,"backup":"true"}`:                    "JSON decoding",
		`{` + two + `,"pgp_keys":["` + good + `"]}`:        "",
		`{` + two + `,"pgp_keys":["` + good + `","AAAA"]}`: "pgp_keys[1]",
		`{` + two + `,"pgp_keys":"` + good + `"}`:          "JSON decoding",
		`{` + two + `,"age_recipients":["age1x","age1y"]}`: "age_recipients[0]",
		`{` + two + `,"holders":["alice"]}`:                "label",
		`{` + two + `,"holders":["alice","two\nlines"]}`:   "",
		`{` + two + `,"reason":"two\nlines"}`:              "reason",
		`{` + two + `,"ttl":"-1h"}`:                        "duration",
		`{` + two + `,"ttl":"9000h"}`:                      "ttl",
		`{` + two + `,"require_verification":1}`:           "JSON decoding",
		`{` + two + `,"key":"zz"}`:                         "hex or base64",
		`{` + two + `,"slot":1}`:                           "signature",
		`{` + two + `,"secret_shares":2}`:                  "twice",
		`{` + two:                                          "unexpected EOF",
	} {
		s.do("PUT", rekeyInit, body).want(400, sentence)
	}
	s.do("GET", rekeyInit, "").wantText(200, fmt.Sprintf(idleRekey, 2))
	s.do("PUT", rekeyInit, `{`+two+`,"ttl":"10m","holders":["alice",""]}`).want(200)
	s.clock.step(10 * time.Minute)
	s.do("GET", rekeyInit, "").is("started", false)
}

// Wire reference 4.1, update: 400 for all of it, and progress stays what it was.
func TestRekeyUpdateRefuses(t *testing.T) {
	s, other := ready(t, 5, 3), ready(t, 5, 3)
	s.do("PUT", rekeyUpdate, keyBody(s.keys[0], "x"), stranger).wantErrors(400, "no barrier rekey in progress")
	nonce := s.do("PUT", rekeyInit, `{"secret_shares":5,"secret_threshold":3}`).want(200).str("nonce")
	s.do("PUT", rekeyUpdate, keyBody(s.keys[0], nonce)).want(200)
	for body, sentence := range map[string]string{
		"": "must be specified", "{}": "must be specified", "[]": "JSON object", `{"key":`: "unexpected EOF",
		keyBody("zz", nonce):                                    "hex or base64",
		keyBody("abcd", nonce):                                  "shorter",
		keyBody(s.keys[1]+"00", nonce):                          "longer",
		keyBody(other.keys[1], nonce):                           "slot 2",
		keyBody(s.keys[1][:64]+"09", nonce):                     "slot",
		keyBody(s.keys[1], ""):                                  "incorrect nonce supplied",
		keyBody(s.keys[1], strings.ToUpper(nonce)):              "incorrect nonce supplied",
		keyBody(s.keys[0], nonce):                               "already been provided during this rekey operation",
		`{"key":"` + s.keys[1] + `","nonce":5}`:                 "JSON decoding",
		`{"slot":2,"nonce":"` + nonce + `"}`:                    "signature",
		`{"slot":2,"signature":"AAAA","nonce":"` + nonce + `"}`: "signature",
		`{"slot":2,"signature":"` + strings.Repeat("A", 86) + `==","nonce":"` + nonce + `"}`: "",
		`{"key":"` + s.keys[1] + `","slot":2,"signature":"AAAA","nonce":"` + nonce + `"}`:    "",
	} {
		got := s.do("PUT", rekeyUpdate, body, stranger).want(400, sentence)
		if strings.Contains(got.text, nonce) {
			t.Errorf("%s tells the nonce", got.text)
		}
	}
	s.do("GET", rekeyInit, "").is("progress", 1)
	for _, path := range []string{rekeyInit, rekeyUpdate, rekeyVerify} {
		s.do("LIST", path, "").wantErrors(405)
		s.do("PATCH", path, "{}", mergePatch).wantErrors(405)
	}
	s.do("GET", rekeyUpdate, "").wantErrors(405)
	s.do("DELETE", rekeyUpdate, "").wantErrors(405)
	for _, path := range []string{rekeyInit, rekeyVerify, "sys/rekey/backup"} {
		s.do("GET", path, "", withHeader("X-Vault-Namespace", "a")).want(400, "unavailable in namespaces")
	}
	// A root generation beside it is another matter.
	s.do("PUT", attempt, "").want(200)
	s.do("PUT", update, keyBody(s.keys[1], nonce)).want(400, "incorrect nonce")
}

// Who may start and cancel: as for a root generation. Trap 33: cancel with and without a body.
func TestRekeyAuthority(t *testing.T) {
	s := ready(t, 5, 3)
	limited, _ := s.newToken(`{"policies":["default"]}`)
	with := func(extra string) string { return `{"secret_shares":5,"secret_threshold":3` + extra + `}` }
	for _, path := range []string{rekeyInit, "sys/rotate/root/init"} {
		for _, who := range [][]option{{stranger}, {stranger, withToken("dead")}, {stranger, withToken(limited)}} {
			s.do("PUT", path, with(""), who...).want(403, "key share")
		}
		s.do("GET", path, "", stranger).want(200)
		for _, body := range []string{"", "{}", "null", `{"nonce":""}`, `{"nonce":"of nothing"}`} {
			s.do("DELETE", path, body).want(204)
		}
		s.do("PUT", path, with(`,"key":"`+s.keys[3]+`"`), stranger).want(200)
		s.do("DELETE", path, "", stranger).want(403)
		s.do("DELETE", path, `{"key":"`+s.keys[3]+`"}`, stranger).want(204)
		s.do("PUT", path, with(""), withToken(s.root), stranger).want(200)
		s.do("DELETE", path, "").want(403) // no connection ends what a token started
		s.do("DELETE", path, `{"nonce":"another"}`, withToken(s.root)).want(400, "nonce")
		s.do("DELETE", path, `{"nonce":7}`, withToken(s.root)).want(400)
		s.do("DELETE", path, "", withToken(s.root), stranger).want(204)
	}
	// One holder doesn't block the others.
	nonce := s.do("PUT", rekeyInit, with("")).want(200).str("nonce")
	s.do("PUT", rekeyUpdate, keyBody(s.keys[0], nonce)).want(200)
	objection := s.do("DELETE", rekeyInit, `{"key":"`+s.keys[1]+`","nonce":"`+nonce+`"}`, stranger).want(200, "objection is recorded")
	objection.fieldsAre("nonce", "started", "t", "n", "progress", "required", "pgp_fingerprints", "backup", "verification_required", "warnings")
	objection.is("progress", 1)
	s.do("GET", rekeyInit, "").is("nonce", nonce)
}

// New shares for holders with OpenPGP keys: what is in the messages is the hex text of each. The backup is for who has a
// token, until it is deleted.
func TestRekeyForPGPKeys(t *testing.T) {
	s := ready(t, 3, 2)
	now := s.clock.now()
	ada, adasKey, adas := keyPair(t, now)
	ben, bensKey, bens := keyPair(t, now)
	for _, method := range []string{"GET", "DELETE"} {
		s.do(method, "sys/rekey/backup", "").wantErrors(403, "permission denied")
	}
	s.do("GET", "sys/rekey/backup", "", withToken(s.root)).wantErrors(400, "no backed-up keys found")
	s.do("DELETE", "sys/rekey/backup", "", withToken(s.root)).want(204)
	body := fmt.Sprintf(`{"secret_shares":3,"secret_threshold":2,"backup":true,"pgp_keys":[%q,%q,%q]}`, adasKey, bensKey, adasKey)
	fingerprints := fmt.Sprintf(`["%s","%s","%s"]`, adas, bens, adas)
	start := s.do("PUT", rekeyInit, body).want(200, `"pgp_fingerprints":`+fingerprints+`,"backup":true`)
	nonce := start.str("nonce")
	s.do("GET", rekeyInit, "").wantText(200, strings.TrimSpace(start.text))
	s.do("PUT", rekeyUpdate, keyBody(s.keys[0], nonce)).want(200, `"pgp_fingerprints":`+fingerprints)
	// The last one signs at home.
	last := s.do("PUT", rekeyUpdate, signed(t, s.keys[2], nonce, s.approval(ceremony.Rekey, 3)), stranger).want(200, `"pgp_fingerprints":`+fingerprints+`,"backup":true`)
	var plain []string
	for i, text := range last.list("keys_base64") {
		message, err := base64.StdEncoding.DecodeString(text)
		if err != nil || fmt.Sprintf("%x", message) != last.list("keys")[i] {
			t.Fatal("keys and keys_base64 differ", err)
		}
		plain = append(plain, decryptPGP(t, map[bool]*openpgp.Entity{true: ben, false: ada}[i == 1], message, now))
	}
	backup := s.do("GET", "sys/rekey/backup", "", withToken(s.root)).want(200)
	backup.fieldsAre("nonce", "keys", "keys_base64", "request_id", "lease_id", "renewable", "lease_duration", "data", "wrap_info", "warnings", "auth")
	for _, at := range []*response{backup, backup.in("data")} {
		at.is("nonce", nonce)
		for name, list := range map[string][]string{"keys": last.list("keys"), "keys_base64": last.list("keys_base64")} {
			want, _ := json.Marshal(map[string][]string{adas: {list[0], list[2]}, bens: {list[1]}})
			if got, _ := json.Marshal(at.body[name]); !bytes.Equal(got, want) {
				t.Errorf("%s of the backup: %s, want %s", name, got, want)
			}
		}
	}
	s.do("DELETE", "sys/rekey/backup", "", withToken(s.root)).want(204)
	s.do("GET", "sys/rekey/backup", "", withToken(s.root)).want(400)
	s.sealAndUnseal(plain, 2)
}

// The same for age recipients, which have no fingerprint, and proof of possession by signature.
func TestRekeyForAge(t *testing.T) {
	s := ready(t, 3, 2)
	var recipients []string
	var ids []*age.X25519Identity
	for range 2 {
		id, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		ids, recipients = append(ids, id), append(recipients, id.Recipient().String())
	}
	body := fmt.Sprintf(`{"secret_shares":2,"secret_threshold":2,"backup":true,"require_verification":true,"age_recipients":[%q,%q]}`, recipients[0], recipients[1])
	last, nonce := s.rekeyed(body, 2)
	last.is("pgp_fingerprints", nil)
	var plain []string
	for i, key := range last.list("keys") {
		plain = append(plain, decryptAge(t, ids[i], unhex(t, key)))
	}
	backup := s.do("GET", "sys/rekey/backup", "", withToken(s.root)).want(200)
	backup.is("nonce", nonce)
	if n := len(backup.in("keys").body); n != 2 {
		t.Errorf("%d recipients in the backup", n)
	}
	verification := last.str("verification_nonce")
	c, err := s.node.CeremonyOf(t.Context(), ceremony.Rekey)
	if err != nil {
		t.Fatal(err)
	}
	prove := func(slot int, nonce string) string {
		st := ceremony.ProveStatement(c.Attempt.ClusterID, c.Verification.Generation, slot, holder.ModeSignature, nonce)
		return signed(t, plain[slot-1], verification, st)
	}
	s.do("PUT", rekeyVerify, prove(1, nonce), stranger).want(400) // of another nonce
	s.do("PUT", rekeyVerify, signed(t, plain[0], verification, c.Attempt.Statement(1, holder.ModeSignature)), stranger).want(400)
	s.do("PUT", rekeyVerify, prove(1, verification), stranger).want(200).is("progress", 1)
	s.do("PUT", rekeyVerify, prove(2, verification), stranger).wantText(200, `{"nonce":"`+verification+`","complete":true}`)
	s.sealAndUnseal(plain, 2)
}

// There are no recovery keys to rekey; everything waits for the unseal.
func TestRecoveryAndSealed(t *testing.T) {
	s := newServer(t)
	paths := []string{"sys/rekey-recovery-key/", "sys/rotate/recovery/", "sys/rekey/", "sys/rotate/root/"}
	for _, initialised := range []bool{false, true} {
		if initialised {
			s.init(1, 1)
		}
		for _, path := range paths {
			for _, name := range []string{"init", "update", "verify", "backup"} {
				for _, method := range []string{"GET", "PUT", "DELETE"} {
					s.do(method, path+name, "junk", withToken("junk")).wantErrors(503, "Vault is sealed")
				}
			}
		}
	}
	s.unseal(1)
	for _, path := range paths[:2] {
		for _, name := range []string{"init", "verify"} {
			s.do("GET", path+name, "", stranger).want(400, "recovery rekeying not supported")
			s.do("DELETE", path+name, "", stranger).want(400, "recovery rekeying not supported")
		}
		for _, name := range []string{"init", "update", "verify"} {
			s.do("PUT", path+name, `{"secret_shares":1,"secret_threshold":1,"key":"`+s.keys[0]+`"}`).want(400, "recovery rekeying not supported")
		}
	}
	for _, path := range []string{"sys/rekey/recovery-key-backup", "sys/rotate/recovery/backup"} {
		s.do("GET", path, "").wantErrors(403, "permission denied")
		s.do("GET", path, "", withToken(s.root)).wantErrors(400, "no backed-up keys found")
		s.do("DELETE", path, "").wantErrors(403, "permission denied")
		s.do("DELETE", path, "", withToken(s.root)).want(204)
	}
}
