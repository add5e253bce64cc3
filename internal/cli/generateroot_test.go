package cli

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

const (
	newToken  = "q.0123456789abcdefghijAB"
	serverOTP = "2vPFYG8gUSW9npwzyvxXMug0"
)

// share is a well-formed share of a holder.
func share(slot int) string { return fmt.Sprintf("%064x%02x", slot*7919, slot) }

// rootServer is a server that speaks sys/generate-root as wire reference 3.4 and 3.5 describe it, with a threshold of 2.
type rootServer struct {
	*rig
	nonce, otp, fingerprint string
	given                   []string // slots
	starts                  int
	refuseStart             bool
	drop                    int // so many replies to approvals are lost, the approvals are not
	result                  map[string]any
}

func newRootServer(t *testing.T) *rootServer {
	s := &rootServer{rig: newRig(t)}
	s.answers["GET "+attemptPath] = func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, s.show(24)) }
	s.answers["PUT "+attemptPath] = s.start
	s.answers["DELETE "+attemptPath] = func(w http.ResponseWriter, _ *http.Request) {
		s.end()
		reply(w, 204, nil)
	}
	s.answers["PUT "+updatePath] = s.update
	s.answers["GET auth/token/lookup-self"] = func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Vault-Token") != newToken {
			refuse(w, 403, "permission denied")
			return
		}
		reply(w, 200, `{"data":{}}`)
	}
	return s
}

func (s *rootServer) end() { s.nonce, s.otp, s.fingerprint, s.given = "", "", "", nil }

func (s *rootServer) show(otpLength int) map[string]any {
	return map[string]any{
		"nonce": s.nonce, "started": s.nonce != "", "progress": len(s.given), "required": 2, "complete": false,
		"encoded_token": "", "encoded_root_token": "", "pgp_fingerprint": s.fingerprint, "otp": "", "otp_length": otpLength,
	}
}

func (s *rootServer) start(w http.ResponseWriter, r *http.Request) {
	var body struct{ OTP, PGP_Key, Key string }
	json.NewDecoder(r.Body).Decode(&body)
	switch {
	case s.refuseStart && body.Key == "":
		refuse(w, 403, "starting needs authority: a local connection, a token or a key share")
		return
	case s.nonce != "":
		refuse(w, 400, "root generation already in progress")
		return
	}
	s.starts++
	s.nonce, s.otp = fmt.Sprintf("00000000-0000-4000-8000-%012d", s.starts), body.OTP
	if body.PGP_Key != "" {
		s.fingerprint = "abcd"
	}
	st := s.show(24)
	if s.otp == "" && s.fingerprint == "" {
		s.otp = serverOTP
		st["otp"] = s.otp
	}
	reply(w, 200, st)
}

func (s *rootServer) update(w http.ResponseWriter, r *http.Request) {
	var body struct{ Key, Nonce string }
	json.NewDecoder(r.Body).Decode(&body)
	slot := body.Key[len(body.Key)-2:]
	switch {
	case s.result != nil && body.Nonce == s.result["nonce"]:
		reply(w, 200, s.result)
		return
	case s.nonce == "":
		refuse(w, 400, "no root generation in progress")
		return
	case body.Nonce != s.nonce:
		refuse(w, 400, "incorrect nonce supplied")
		return
	case body.Key == canary:
		refuse(w, 400, "the share for slot 1 is not valid")
		return
	case slices.Contains(s.given, slot):
		refuse(w, 400, "given key has already been provided during this generation operation")
		return
	}
	s.given = append(s.given, slot)
	st := s.show(0)
	if len(s.given) == 2 {
		encoded := "UEdQ" // what PGP would be
		if s.fingerprint == "" {
			encoded = xor(newToken, s.otp)
		}
		st["complete"], st["encoded_token"], st["encoded_root_token"] = true, encoded, encoded
		s.result = st
		s.end()
	}
	if s.drop > 0 {
		s.drop--
		panic(http.ErrAbortHandler)
	}
	reply(w, 200, st)
}

func xor(a, b string) string {
	out := make([]byte, len(a))
	for i := range out {
		out[i] = a[i] ^ b[i]
	}
	return base64.RawStdEncoding.EncodeToString(out)
}

func TestGenerateRootStock(t *testing.T) {
	s := newRootServer(t)
	want(t, "idle", s.ok("operator", "generate-root", "-status").out, `Nonce         n/a
Started       false
Progress      0/2
Complete      false
OTP Length    24
`)
	got := s.ok("operator", "generate-root", "-init")
	want(t, "start", got.out, `Nonce         00000000-0000-4000-8000-000000000001
Started       true
Progress      0/2
Complete      false
OTP           `+serverOTP+`
OTP Length    24
`)
	wantBody(t, s.last(), `{"otp":"","pgp_key":""}`)
	if strings.Contains(got.err, serverOTP) || !strings.Contains(got.err, "keep the OTP") {
		t.Errorf("%s", got.err)
	}
	s.stdin = share(1) + "\n"
	got = s.ok("operator", "generate-root", "-nonce=00000000-0000-4000-8000-000000000001", "-")
	want(t, "share", got.out, "Nonce       00000000-0000-4000-8000-000000000001\nStarted     true\nProgress    1/2\nComplete    false\n")
	wantBody(t, s.last(), `{"key":"`+share(1)+`","nonce":"00000000-0000-4000-8000-000000000001"}`)
	s.fails(exitServer, []string{"error giving the key share:", "already been provided"}, "operator", "generate-root", "-nonce=00000000-0000-4000-8000-000000000001", "-")
	s.tty = &fakeTTY{answers: []string{share(2)}}
	got = s.ok("operator", "generate-root", "-nonce=00000000-0000-4000-8000-000000000001")
	encoded := xor(newToken, serverOTP)
	want(t, "complete", got.out, `Nonce            00000000-0000-4000-8000-000000000001
Started          true
Progress         2/2
Complete         true
Encoded Token    `+encoded+`
`)
	if !strings.Contains(got.err, "operation nonce: 00000000-0000-4000-8000-000000000001") {
		t.Errorf("%s", got.err)
	}
	want(t, "decoded", s.ok("operator", "generate-root", "-decode="+encoded, "-otp="+serverOTP).out, newToken)
	s.stdin = encoded + "\n"
	want(t, "decoded from stdin", s.ok("operator", "generate-root", "-decode=-", "-otp", serverOTP, "-format=json").out,
		"{\n  \"token\": \""+newToken+"\"\n}\n")
	s.tty = &fakeTTY{answers: []string{serverOTP}}
	want(t, "OTP asked for", s.ok("operator", "generate-root", "-decode", encoded).out, newToken)
	// Old servers pad.
	want(t, "padded", s.ok("operator", "generate-root", "-decode="+encoded+"=", "-otp="+serverOTP).out, newToken)
	if got := s.ok("operator", "generate-root", "-status", "-format=yaml").out; !strings.HasPrefix(got, "nonce: \"\"\nstarted: false\nprogress: 0\nrequired: 2\ncomplete: false\nencoded_token: \"\"\nencoded_root_token: \"\"\npgp_fingerprint: \"\"\notp: \"\"\notp_length: 24\n") {
		t.Errorf("%s", got)
	}
	for _, r := range s.seen {
		if r.path != "/v1/"+attemptPath && r.path != "/v1/"+updatePath {
			t.Errorf("asked %s, which needs a token elsewhere", r.path)
		}
	}
}

func TestGenerateRootOTPAndPGP(t *testing.T) {
	s := newRootServer(t)
	otp := s.ok("operator", "generate-root", "-generate-otp").out
	if len(otp) != 24 || strings.Trim(otp, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") != "" {
		t.Errorf("OTP %q", otp)
	}
	if again := s.ok("operator", "generate-root", "-generate-otp").out; again == otp {
		t.Error("the same OTP twice")
	}
	want(t, "json", s.ok("operator", "generate-root", "-generate-otp", "-format=json").out[:12], "{\n  \"otp\": \"")
	got := s.ok("operator", "generate-root", "-init", "-otp="+otp, "-reason=lost all")
	wantBody(t, s.last(), `{"otp":"`+otp+`","pgp_key":"","reason":"lost all"}`)
	if strings.Contains(got.out+got.err, otp) {
		t.Error("our own OTP comes back")
	}
	s.fails(exitServer, []string{"already in progress", "hint: see it with quorate operator generate-root -status, end it with -cancel"},
		"operator", "generate-root", "-init")
	if got := s.ok("operator", "generate-root", "-cancel"); got.out != "" || s.nonce != "" {
		t.Errorf("%+v", got)
	}
	key := write(t, "key", armored("PUBLIC"))
	got = s.ok("operator", "generate-root", "-init", "-pgp-key="+key)
	wantBody(t, s.last(), `{"otp":"","pgp_key":"xgEE"}`)
	if !strings.Contains(got.out, "PGP Fingerprint    abcd\n") || strings.Contains(got.err, "keep the OTP") {
		t.Errorf("%+v", got)
	}
	s.fails(exitLocal, []string{"exclude each other"}, "operator", "generate-root", "-init", "-otp=x", "-pgp-key="+key)
	s.fails(exitLocal, []string{"takes one key"}, "operator", "generate-root", "-init", "-pgp-key="+key+","+key)
	s.answers["GET "+attemptPath] = func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, s.show(0)) }
	s.fails(exitLocal, []string{"doesn't tell the length"}, "operator", "generate-root", "-generate-otp")
}

func TestDecodeRefusals(t *testing.T) {
	r := newRig(t)
	encoded := xor(newToken, serverOTP)
	for _, c := range []struct{ encoded, otp, want string }{
		{encoded, "short", "decoding the token"},
		{encoded[1:], serverOTP, "decoding the token"},
		{"!!", serverOTP, "base64"},
		{encoded, strings.Repeat("\x01", 24), "another attempt"},
		{encoded, serverOTP[1:] + "x", "another attempt"},
		{xor("s."+newToken[2:], serverOTP), serverOTP, "another attempt"},
		{xor("q."+strings.Repeat("-", 22), serverOTP), serverOTP, "another attempt"},
		{xor(newToken, serverOTP), "3" + serverOTP[1:], "another attempt"}, // a typing error
		{xor("23 characters and spaces", serverOTP)[:31], serverOTP[1:], "decoding the token"},
		{xor("a token with spaces in it", serverOTP+"x"), serverOTP + "x", "another attempt"},
	} {
		got := r.fails(exitLocal, []string{c.want}, "operator", "generate-root", "-decode="+c.encoded, "-otp="+c.otp)
		want(t, "stdout", got.out, "")
		if strings.Contains(got.err, c.encoded) || strings.Contains(got.err, c.otp) {
			t.Errorf("shows what it was given: %s", got.err)
		}
	}
	// Tokens of another length are whatever somebody chose.
	want(t, "another length", r.ok("operator", "generate-root", "-decode="+xor("chosen!", "abcdefg"), "-otp=abcdefg").out, "chosen!")
	r.fails(exitLocal, []string{"asking for the OTP", "hint: give it through a pipe, with -otp=-"}, "operator", "generate-root", "-decode="+encoded)
	r.tty = &fakeTTY{answers: []string{"^C"}}
	r.fails(exitLocal, []string{"interrupted"}, "operator", "generate-root", "-decode="+encoded)
	r.stdin = strings.Repeat("x", maxLine+1)
	r.fails(exitLocal, []string{"too long"}, "operator", "generate-root", "-decode=-", "-otp=x")
	if len(r.seen) > 0 {
		t.Error("decoding asked a server")
	}
}

// Flags that contradict each other, or would have no effect, do nothing at all.
func TestGenerateRootModes(t *testing.T) {
	s := newRootServer(t)
	for _, pair := range [][2]string{
		{"-init", "-cancel"}, {"-init", "-status"}, {"-cancel", "-status"}, {"-decode=x", "-init"}, {"-decode=x", "-generate-otp"}, {"-generate-otp", "-cancel"},
	} {
		s.fails(exitLocal, []string{"exclude each other"}, "operator", "generate-root", pair[0], pair[1])
	}
	for _, flag := range []string{"-cancel", "-status", "-generate-otp", "-nonce=n", "-"} {
		s.fails(exitLocal, []string{"-otp is for -init, -decode"}, "operator", "generate-root", "-otp=x", flag)
	}
	if len(s.seen) > 0 {
		t.Errorf("asked the server: %v", s.seen)
	}
}

// A completing approval says who can read the result.
func TestCompletedForPGP(t *testing.T) {
	s := newRootServer(t)
	s.ok("operator", "generate-root", "-init", "-pgp-key="+write(t, "key", string(pgpPublic)))
	s.stdin = share(1)
	if got := s.ok("operator", "generate-root", "-nonce=00000000-0000-4000-8000-000000000001", "-"); strings.Contains(got.err, "gpg") {
		t.Errorf("%s", got.err)
	}
	s.stdin = share(2)
	got := s.ok("operator", "generate-root", "-nonce=00000000-0000-4000-8000-000000000001", "-")
	if !strings.Contains(got.err, "the token's owner decrypts it with: base64 -d | gpg --decrypt\n") || strings.Contains(got.err, "OTP") {
		t.Errorf("%s", got.err)
	}
}

func TestHolderAuthority(t *testing.T) {
	s := newRootServer(t)
	s.refuseStart = true
	s.fails(exitServer, []string{"error starting the root generation:", "Code: 403", "hint: a key holder can do this from anywhere"}, "operator", "generate-root", "-init")
	s.stdin = share(1)
	s.ok("operator", "generate-root", "-init", "-holder", "-")
	wantBody(t, s.last(), `{"key":"`+share(1)+`","otp":"","pgp_key":""}`)
	if len(s.given) != 0 {
		t.Error("starting counted as an approval")
	}
	s.tty = &fakeTTY{answers: []string{share(2)}}
	s.ok("operator", "generate-root", "-cancel", "-holder")
	wantBody(t, s.last(), `{"key":"`+share(2)+`"}`)
	want(t, "prompt", s.tty.prompts[0], "key share of a holder, to cancel with (will be hidden): ")
	s.answers["DELETE "+attemptPath] = func(w http.ResponseWriter, _ *http.Request) { refuse(w, 403, "no") }
	s.fails(exitServer, []string{"error cancelling", "add -holder"}, "operator", "generate-root", "-cancel")
	s.stdin = ""
	s.fails(exitLocal, []string{"nothing was given"}, "operator", "generate-root", "-cancel", "-holder", "-")
}

// An objection is an answer with a body: the attempt goes on, and the exit code says so.
func TestObjection(t *testing.T) {
	s := newRootServer(t)
	s.ok("operator", "generate-root", "-init")
	s.answers["DELETE "+attemptPath] = func(w http.ResponseWriter, _ *http.Request) {
		st := s.show(24)
		st["warnings"] = []string{"your objection is recorded"}
		reply(w, 200, st)
	}
	s.stdin = share(3)
	got := s.fails(exitServer, []string{"warning: your objection is recorded"}, "operator", "generate-root", "-cancel", "-holder", "-")
	if !strings.Contains(got.out, "Started       true\n") {
		t.Errorf("%s", got.out)
	}
}

// The token that everybody lost is still in the environment: it is sent where it could be authority, and nowhere else.
func TestDeadToken(t *testing.T) {
	s := newRootServer(t)
	t.Setenv("BAO_TOKEN", "q.dead")
	s.ok("operator", "generate-root", "-init")
	want(t, "start", s.last().header.Get("X-Vault-Token"), "q.dead")
	s.ok("operator", "generate-root", "-status")
	want(t, "status", s.last().header.Get("X-Vault-Token"), "")
	s.ok("operator", "generate-root", "-cancel")
	want(t, "cancel", s.last().header.Get("X-Vault-Token"), "q.dead")
	t.Setenv("BAO_TOKEN", "broken\n")
	s.ok("operator", "generate-root", "-init")
	want(t, "a token that can't be sent", s.last().header.Get("X-Vault-Token"), "")
}

func TestShareRefusedLocally(t *testing.T) {
	s := newRootServer(t)
	s.ok("operator", "generate-root", "-init")
	sent := len(s.seen)
	s.stdin = canary
	s.fails(exitLocal, []string{"a share from standard input needs -nonce"}, "operator", "generate-root", "-")
	s.fails(exitLocal, []string{"not a terminal", "hint: to give one share from standard input"}, "operator", "generate-root")
	s.tty = &fakeTTY{}
	s.fails(exitLocal, []string{"-non-interactive"}, "operator", "generate-root", "-non-interactive")
	if len(s.seen) != sent {
		t.Error("something was sent")
	}
	// T10: another attempt than the one meant. Both nonces are shown, and no share is sent.
	got := s.fails(exitLocal, []string{"you mean 00000000-0000-4000-8000-000000000000, in progress is 00000000-0000-4000-8000-000000000001", "hint: ask whoever started it"}, "operator", "generate-root", "-nonce=00000000-0000-4000-8000-000000000000", "-")
	hides(t, got.out, got.err)
	if last := s.last(); last.method != "GET" || len(s.tty.prompts) > 0 {
		t.Errorf("sent %v, asked %q", last, s.tty.prompts)
	}
	s.end()
	s.fails(exitLocal, []string{"no root generation is in progress", "start one with -init"}, "operator", "generate-root", "-nonce=00000000-0000-4000-8000-000000000001", "-")
}

// T33: whoever completed the ceremony and lost the reply gets it by giving the same share again.
func TestLostReplyAgain(t *testing.T) {
	s := newRootServer(t)
	s.ok("operator", "generate-root", "-init")
	s.stdin = share(1)
	s.ok("operator", "generate-root", "-nonce=00000000-0000-4000-8000-000000000001", "-")
	s.stdin = share(2)
	s.drop = 1
	s.fails(exitServer, []string{"error giving the key share:"}, "operator", "generate-root", "-nonce=00000000-0000-4000-8000-000000000001", "-")
	if got := s.ok("operator", "generate-root", "-nonce=00000000-0000-4000-8000-000000000001", "-"); !strings.Contains(got.out, "Encoded Token    "+xor(newToken, serverOTP)) {
		t.Errorf("%s", got.out)
	}
}

// The OTP can come through a pipe, out of sight of the list of processes.
func TestOTPFromStandardInput(t *testing.T) {
	r := newRig(t)
	encoded := xor(newToken, serverOTP)
	r.stdin = serverOTP + "\n"
	want(t, "token", r.ok("operator", "generate-root", "-decode="+encoded, "-otp=-").out, newToken)
	r.fails(exitLocal, []string{"both the OTP and something else"}, "operator", "generate-root", "-decode=-", "-otp=-")
	r.stdin = ""
	r.fails(exitLocal, []string{"reading the OTP"}, "operator", "generate-root", "-decode="+encoded, "-otp=-")
}
