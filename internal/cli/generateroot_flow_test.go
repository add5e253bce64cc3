package cli

import (
	"context"
	"net/http"
	"strings"
	"testing"
)

func TestWholeWay(t *testing.T) {
	s := newRootServer(t)
	s.tty = &fakeTTY{answers: []string{share(1), " " + share(2)}}
	got := s.ok("operator", "generate-root")
	want(t, "stdout", got.out, newToken)
	want(t, "prompts", strings.Join(s.tty.prompts, "\n"),
		"key share 1 of 2 (will be hidden; empty to stop): \nkey share 2 of 2 (will be hidden; empty to stop): ")
	want(t, "stderr", got.err, `root generation started: 0 of 2 key shares given
operation nonce: 00000000-0000-4000-8000-000000000001
holders elsewhere give their shares with: quorate operator generate-root -nonce=00000000-0000-4000-8000-000000000001
accepted: 1 of 2 key shares given
accepted: 2 of 2 key shares given
root token generated
`)
	if len(s.tty.shown) > 0 || s.tty.hushed != 0 {
		t.Errorf("shown: %q, hushed %d times", s.tty.shown, s.tty.hushed)
	}
}

// What is typed ahead of a prompt, while a request is under way, is not shown either.
func TestWholeWayIsHushed(t *testing.T) {
	s := newRootServer(t)
	s.tty = &fakeTTY{answers: []string{share(1), share(2)}}
	for endpoint, answer := range s.answers {
		s.answers[endpoint] = func(w http.ResponseWriter, r *http.Request) {
			if s.tty.hushed != 1 {
				t.Errorf("%s: hushed %d times", endpoint, s.tty.hushed)
			}
			answer(w, r)
		}
	}
	s.ok("operator", "generate-root")
	s.refuseStart = true
	s.fails(exitServer, nil, "operator", "generate-root")
	if s.tty.hushed != 0 {
		t.Error("the echo is still off")
	}
}

// A pasted line that ends twice is no wish to stop.
func TestWholeWayEmptyLines(t *testing.T) {
	s := newRootServer(t)
	s.tty = &fakeTTY{answers: []string{"", share(1), "", share(2)}}
	got := s.ok("operator", "generate-root")
	want(t, "stdout", got.out, newToken)
	if strings.Count(got.err, "nothing was given; another empty line stops\n") != 2 {
		t.Errorf("%s", got.err)
	}
	s.result = nil
	s.tty = &fakeTTY{answers: []string{"", "not a share!", "", "", share(1)}}
	s.fails(exitLocal, []string{"stopped"}, "operator", "generate-root")
	if len(s.tty.answers) != 1 {
		t.Errorf("%q is left", s.tty.answers)
	}
}

func TestWholeWayAsJSON(t *testing.T) {
	s := newRootServer(t)
	s.tty = &fakeTTY{answers: []string{share(1), share(2)}}
	want(t, "stdout", s.ok("operator", "generate-root", "-format=json").out, "{\n  \"token\": \""+newToken+"\"\n}\n")
}

// Promise 3: a bad share costs nothing, here neither.
func TestWholeWayRefusals(t *testing.T) {
	s := newRootServer(t)
	s.tty = &fakeTTY{answers: []string{canary, "not a share!", share(1), share(1), strings.Repeat("a", maxLine+1), share(2)}}
	got := s.ok("operator", "generate-root")
	want(t, "stdout", got.out, newToken)
	hides(t, got.out, got.err)
	for _, text := range []string{
		"refused: the share for slot 1 is not valid\nthe attempt goes on: 0 of 2 key shares given\n",
		"not sent: that is not a key share",
		"refused: given key has already been provided during this generation operation\nthe attempt goes on: 1 of 2 key shares given\n",
		"not sent: the line is too long",
	} {
		if !strings.Contains(got.err, text) {
			t.Errorf("no %q in\n%s", text, got.err)
		}
	}
}

func TestWholeWayStopped(t *testing.T) {
	for _, stop := range [][]string{{"", ""}, {"^C"}, {"^D"}, {"", "^C"}} {
		s := newRootServer(t)
		s.tty = &fakeTTY{answers: append([]string{share(1)}, stop...)}
		got := s.fails(exitLocal, []string{
			"stopped; the attempt stays open: 1 of 2 key shares given", "operation nonce: 00000000-0000-4000-8000-000000000001",
			"to go on: quorate operator generate-root\n", "to end it: quorate operator generate-root -cancel",
		}, "operator", "generate-root")
		want(t, "stdout", got.out, "")
		if strings.Contains(got.err, serverOTP) {
			t.Error("the OTP is on standard error, which may be a file")
		}
		want(t, "shown", strings.Join(s.tty.shown, "\n"), "keep the OTP, without it the new token can't be decoded: "+serverOTP)

		// And on again, here or elsewhere: with the OTP when asked.
		s.tty = &fakeTTY{answers: []string{share(2), "wrong" + serverOTP[5:], serverOTP}}
		got = s.ok("operator", "generate-root")
		want(t, "stdout", got.out, newToken)
		if !strings.Contains(got.err, "a root generation is in progress: 1 of 2 key shares given\noperation nonce: 00000000-0000-4000-8000-000000000001 (compare it") ||
			!strings.Contains(got.err, "that OTP doesn't fit: ") {
			t.Errorf("%s", got.err)
		}
	}
}

// A signal while a request is under way, or while a prompt is answered, stops the same way.
func TestWholeWayInterrupted(t *testing.T) {
	s := newRootServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.ctx = ctx
	s.tty = &fakeTTY{answers: []string{share(1), share(2)}}
	s.tty.before = func(string) {
		if len(s.tty.prompts) == 2 {
			cancel()
		}
	}
	got := s.fails(exitLocal, []string{"stopped; the attempt stays open: 1 of 2 key shares given"}, "operator", "generate-root")
	if got.out != "" || len(s.given) != 1 || len(s.tty.shown) != 1 {
		t.Errorf("%+v, given %v, shown %q", got, s.given, s.tty.shown)
	}
}

// An interruption while a share is on its way leaves open whether it counted, and says so; one that comes after the
// token costs nothing.
func TestWholeWayInterruptedUnderWay(t *testing.T) {
	s := newRootServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.ctx = ctx
	update := s.answers["PUT "+updatePath]
	s.answers["PUT "+updatePath] = func(w http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done() // the client is gone
		update(w, r)
	}
	s.tty = &fakeTTY{answers: []string{share(1), share(2)}}
	s.fails(exitLocal, []string{"the last share may have counted", "-nonce=00000000-0000-4000-8000-000000000001"}, "operator", "generate-root")
}

func TestWholeWayWithoutOTP(t *testing.T) {
	s := newRootServer(t)
	s.ok("operator", "generate-root", "-init")
	s.tty = &fakeTTY{answers: []string{share(1), share(2), ""}}
	got := s.ok("operator", "generate-root")
	if !strings.Contains(got.out, "Encoded Token    "+xor(newToken, serverOTP)+"\n") || !strings.Contains(got.err, "-decode=ENCODED") {
		t.Errorf("%+v", got)
	}
	s.result = nil
	s.ok("operator", "generate-root", "-init")
	s.tty = &fakeTTY{answers: []string{share(1), share(2)}}
	want(t, "with -otp", s.ok("operator", "generate-root", "-otp="+serverOTP).out, newToken)
}

// A wrong OTP is never a success: not one with a typing error that decodes to the looks of a token, and not one given as a flag.
func TestWholeWayWrongOTP(t *testing.T) {
	typo := serverOTP[:23] + "3" // decodes to another base62 character at the end
	if token, err := decode([]byte(xor(newToken, serverOTP)), []byte(typo)); err != nil {
		t.Fatalf("not what is to be tested: %q, %v", token, err)
	}
	s := newRootServer(t)
	s.ok("operator", "generate-root", "-init")
	s.tty = &fakeTTY{answers: []string{share(1), share(2), "short", typo, serverOTP}}
	encoded := "the encoded token (of no use without its OTP): " + xor(newToken, serverOTP) + "\n"
	got := s.ok("operator", "generate-root", "-otp="+typo)
	want(t, "stdout", got.out, newToken)
	if strings.Count(got.err, "that OTP doesn't fit: the server doesn't know what it decodes to\n") != 2 ||
		strings.Count(got.err, encoded) != 1 || strings.Contains(got.err, typo) || strings.Count(got.err, "root token generated") != 1 {
		t.Errorf("%s", got.err)
	}
	want(t, "token of the check", s.last().header.Get("X-Vault-Token"), newToken)

	// Where the server can't tell, the token is not lost.
	s.result = nil
	s.ok("operator", "generate-root", "-init")
	s.answers["GET auth/token/lookup-self"] = func(w http.ResponseWriter, _ *http.Request) { refuse(w, 503, "Vault is sealed") }
	s.tty = &fakeTTY{answers: []string{share(1), share(2), serverOTP}}
	got = s.ok("operator", "generate-root")
	if got.out != newToken || !strings.Contains(got.err, "warning: whether the token is good can't be told now: Vault is sealed") {
		t.Errorf("%+v", got)
	}
}

// An attempt of the other path takes no share given here: asking for more would only cost patience.
func TestWholeWayOtherFamily(t *testing.T) {
	const refusal = "this root generation was started through the other path, sys/root-generation: send the share to sys/root-generation/update"
	s := newRootServer(t)
	s.ok("operator", "generate-root", "-init")
	s.answers["PUT "+updatePath] = func(w http.ResponseWriter, _ *http.Request) { refuse(w, 400, refusal) }
	s.tty = &fakeTTY{answers: []string{share(1), share(2)}}
	got := s.fails(exitServer, []string{"error giving the key share:", "* " + refusal}, "operator", "generate-root")
	if len(s.tty.prompts) != 1 || strings.Contains(got.err, "goes on") {
		t.Errorf("asked %q\n%s", s.tty.prompts, got.err)
	}
}

func TestWholeWayOwnOTP(t *testing.T) {
	s := newRootServer(t)
	s.tty = &fakeTTY{answers: []string{share(1), share(2)}}
	want(t, "stdout", s.ok("operator", "generate-root", "-otp="+strings.Repeat("k", 24)).out, newToken)
}

func TestWholeWayPGP(t *testing.T) {
	s := newRootServer(t)
	s.tty = &fakeTTY{answers: []string{share(1), share(2)}}
	key := write(t, "key", string(pgpPublic))
	got := s.ok("operator", "generate-root", "-pgp-key="+key)
	if !strings.Contains(got.out, "PGP Fingerprint    abcd\nEncoded Token      UEdQ\n") || !strings.Contains(got.err, "gpg --decrypt") ||
		!strings.Contains(got.err, "the token will be encrypted to the OpenPGP key abcd") {
		t.Errorf("%+v", got)
	}
	s.ok("operator", "generate-root", "-init")
	s.fails(exitLocal, []string{"to change its recipient, cancel it first"}, "operator", "generate-root", "-pgp-key="+key)
}

func TestWholeWayByHolder(t *testing.T) {
	s := newRootServer(t)
	s.refuseStart = true
	s.tty = &fakeTTY{answers: []string{share(1), share(1), share(2)}}
	s.fails(exitServer, []string{"add -holder"}, "operator", "generate-root")
	want(t, "stdout", s.ok("operator", "generate-root", "-holder").out, newToken)
	want(t, "first prompt", s.tty.prompts[0], "key share of a holder, to start with (will be hidden): ")
	s.tty = &fakeTTY{answers: []string{share(1), "^C"}}
	s.fails(exitLocal, []string{"to end it: quorate operator generate-root -cancel -holder\n"}, "operator", "generate-root", "-holder")
}

// T10, T09: the attempt is replaced by another one between two prompts.
func TestNonceChanges(t *testing.T) {
	s := newRootServer(t)
	s.tty = &fakeTTY{answers: []string{share(1), share(2)}}
	s.tty.before = func(string) {
		if len(s.tty.prompts) == 2 {
			s.end()
			s.nonce = "99999999-0000-4000-8000-000000000009"
		}
	}
	got := s.fails(exitLocal, []string{"you mean 00000000-0000-4000-8000-000000000001, in progress is 99999999-0000-4000-8000-000000000009", "none was sent"}, "operator", "generate-root")
	want(t, "stdout", got.out, "")
	if last := s.last(); last.method != "GET" || len(s.given) > 0 {
		t.Errorf("the share was sent: %v", last)
	}
}

func TestAttemptEndsElsewhere(t *testing.T) {
	s := newRootServer(t)
	s.tty = &fakeTTY{answers: []string{share(1), share(2)}}
	s.tty.before = func(string) {
		if len(s.tty.prompts) == 2 {
			s.end()
		}
	}
	s.fails(exitLocal, []string{"the attempt 00000000-0000-4000-8000-000000000001 has ended"}, "operator", "generate-root")
	want(t, "shown", strings.Join(s.tty.shown, ""), "in case the attempt 00000000-0000-4000-8000-000000000001 goes on or was completed, its token is decoded with this OTP: "+serverOTP)
	if last := s.last(); last.method != "GET" {
		t.Errorf("the share was sent: %v", last)
	}
}

func TestProgressElsewhere(t *testing.T) {
	s := newRootServer(t)
	s.tty = &fakeTTY{answers: []string{share(1)}}
	s.tty.before = func(string) { s.given = append(s.given, "02") }
	want(t, "stdout", s.ok("operator", "generate-root").out, newToken)
}

// T33 in one terminal: the reply that carried the token is lost, the same share brings it back.
func TestWholeWayLostReply(t *testing.T) {
	for _, lost := range []int{1, 2} { // the reply to the first approval, or to both
		s := newRootServer(t)
		s.drop = lost
		s.tty = &fakeTTY{answers: []string{share(1), share(1), share(2), share(2)}}
		got := s.ok("operator", "generate-root")
		want(t, "stdout", got.out, newToken)
		if strings.Count(got.err, "no answer to that share") != lost {
			t.Errorf("%s", got.err)
		}
	}
}

// A network that comes and goes costs neither the attempt nor its OTP.
func TestWholeWayUnreachable(t *testing.T) {
	s := newRootServer(t)
	s.tty = &fakeTTY{answers: []string{share(1), share(1), canary, share(2)}}
	status, calls := s.answers["GET "+attemptPath], 0
	s.answers["GET "+attemptPath] = func(w http.ResponseWriter, r *http.Request) {
		calls++
		if calls == 2 || calls == 5 { // before the first share is sent, and after the refusal of the canary
			refuse(w, 502, "no such server")
			return
		}
		status(w, r)
	}
	got := s.ok("operator", "generate-root")
	want(t, "stdout", got.out, newToken)
	if strings.Count(got.err, "the server can't be asked now (give the share again later, or nothing to stop): no such server\n") != 2 {
		t.Errorf("%s", got.err)
	}
}

func TestWholeWaySealed(t *testing.T) {
	s := newRootServer(t)
	s.tty = &fakeTTY{answers: []string{share(1), share(2)}}
	s.answers["PUT "+updatePath] = func(w http.ResponseWriter, _ *http.Request) { refuse(w, 503, "Vault is sealed") }
	s.fails(exitServer, []string{"Code: 503", "hint: unseal it first"}, "operator", "generate-root")
	if !strings.HasSuffix(strings.Join(s.tty.shown, ""), "decoded with this OTP: "+serverOTP) { // the attempt may outlive a restart
		t.Errorf("shown: %q", s.tty.shown)
	}
	s.answers["GET "+attemptPath] = s.answers["PUT "+updatePath]
	s.fails(exitServer, []string{"reading the status of the root generation", "hint: unseal it first"}, "operator", "generate-root")
	if len(s.tty.prompts) != 1 {
		t.Errorf("asked %q", s.tty.prompts)
	}
}

func TestWholeWayLimited(t *testing.T) {
	s := newRootServer(t)
	s.tty = &fakeTTY{answers: []string{share(1), share(1), share(2)}}
	update, first := s.answers["PUT "+updatePath], true
	s.answers["PUT "+updatePath] = func(w http.ResponseWriter, r *http.Request) {
		if first {
			first = false
			refuse(w, 429, "too many requests")
			return
		}
		update(w, r)
	}
	got := s.ok("operator", "generate-root")
	if got.out != newToken || !strings.Contains(got.err, "refused: too many requests\nthe attempt goes on") {
		t.Errorf("%+v", got)
	}
}
