package cli

import (
	"context"
	"net/http"
	"strings"
	"testing"
)

func TestRekeyWholeWay(t *testing.T) {
	s := newRekeyServer(t)
	s.tty = &fakeTTY{answers: []string{share(1), armoured(t, thisCluster, 1, 2, 2, share(2)), next(2, 1), armoured(t, thisCluster, 2, 2, 2, next(2, 2))}}
	s.tty.before = func(string) {
		if s.tty.hushed != 1 {
			t.Errorf("hushed %d times", s.tty.hushed)
		}
	}
	got := s.ok("operator", "rekey", "-n=2", "-t=2")
	want(t, "prompts", strings.Join(s.tty.prompts, "\n"), `key share 1 of 2 (will be hidden; empty to stop): 
key share 2 of 2 (will be hidden; empty to stop): 
new key share 1 of 2, to verify it (will be hidden; empty to stop): 
new key share 2 of 2, to verify it (will be hidden; empty to stop): `)
	want(t, "stderr", got.err, `rekey started, to 2 new shares with a threshold of 2: 0 of 2 key shares given
operation nonce: 00000000-0000-4000-8000-000000000001
holders elsewhere give their present shares with: quorate operator rekey -nonce=00000000-0000-4000-8000-000000000001
accepted: 1 of 2 key shares given
accepted: that was the last one

the new shares are not in force yet, the present ones are: don't throw these away
give each new share to its holder, who verifies it with: quorate operator rekey -verify -nonce=f0000000-0000-4000-8000-000000000001
accepted: 1 of 2 new key shares verified
accepted: that was the last one
`+inForce+"\n")
	want(t, "stdout", got.out, "# holder 1\nKey 1: "+armoured(t, thisCluster, 2, 1, 2, next(2, 1))+
		"\n# holder 2\nKey 2: "+armoured(t, thisCluster, 2, 2, 2, next(2, 2))+"\n\nOperation nonce: 00000000-0000-4000-8000-000000000001\n")
	if s.tty.hushed != 0 || s.nonce != "" {
		t.Errorf("hushed %d times, in progress: %q", s.tty.hushed, s.nonce)
	}
}

// Without verification, and where the shares are encrypted, nothing more is asked.
func TestRekeyWholeWayEnds(t *testing.T) {
	for _, flag := range []string{"-no-verification", "-pgp-keys=" + write(t, "key", string(pgpPublic))} {
		s := newRekeyServer(t)
		s.tty = &fakeTTY{answers: []string{share(1), share(2)}}
		s.ok("operator", "rekey", "-n=1", "-t=1", flag)
		if len(s.tty.prompts) != 2 {
			t.Errorf("%s: asked %q", flag, s.tty.prompts)
		}
	}
	s := newRotateKeysServer(t)
	s.tty = &fakeTTY{answers: []string{share(1), share(2), next(2, 1)}}
	if got := s.ok("operator", "rotate-keys", "-n=1", "-t=1"); !strings.HasSuffix(got.err, inForce+"\n") {
		t.Errorf("%s", got.err)
	}
}

// T02: a bad share costs nothing, here neither.
func TestRekeyWholeWayRefusals(t *testing.T) {
	s := newRekeyServer(t)
	good := armoured(t, thisCluster, 1, 2, 2, share(2))
	s.tty = &fakeTTY{answers: []string{
		canary, "not a share!", share(1), "", share(1), strings.Repeat("a", maxLine+1), typo(good), armoured(t, thatCluster, 1, 2, 2, share(2)), good,
		share(1), next(2, 1), next(2, 1), next(2, 2),
	}}
	got := s.ok("operator", "rekey", "-n=2", "-t=2")
	hides(t, got.out, got.err)
	for _, text := range []string{
		"refused: the share for slot 1 is not valid\nthe attempt goes on: 0 of 2 key shares given\n",
		"not sent: that is not a key share",
		"nothing was given; another empty line stops\n",
		"refused: given key has already been provided during this operation\nthe attempt goes on: 1 of 2 key shares given\n",
		"not sent: the line is too long",
		"not sent: the key share has a typing error",
		"not sent: this share belongs to another cluster: its armour names " + thatCluster,
		"refused: the share is not one of the new ones\nthe attempt goes on: 0 of 2 new key shares verified\n",
		"refused: given key has already been provided during this operation\nthe attempt goes on: 1 of 2 new key shares verified\n",
	} {
		if !strings.Contains(got.err, text) {
			t.Errorf("no %q in\n%s", text, got.err)
		}
	}
}

func TestRekeyWholeWayStopped(t *testing.T) {
	for _, stop := range [][]string{{"", ""}, {"^C"}, {"^D"}} {
		s := newRekeyServer(t)
		s.tty = &fakeTTY{answers: append([]string{share(1)}, stop...)}
		got := s.fails(exitLocal, []string{
			"stopped; the attempt stays open: 1 of 2 key shares given", "to go on, here or elsewhere: quorate operator rekey -nonce=00000000-0000-4000-8000-000000000001\n",
			"to end it, so that the present shares stay: quorate operator rekey -cancel\n",
		}, "operator", "rekey", "-n=2", "-t=2")
		want(t, "stdout", got.out, "")
		s.tty = &fakeTTY{answers: append([]string{share(2), next(2, 1)}, stop...)}
		got = s.fails(exitLocal, []string{
			"a rekey is in progress, to 2 new shares with a threshold of 2: 1 of 2 key shares given\noperation nonce: 00000000-0000-4000-8000-000000000001 (compare it",
			"stopped; the new shares are not in force, the present ones are: 1 of 2 new key shares verified",
			"to go on, here or elsewhere: quorate operator rekey -verify -nonce=f0000000-0000-4000-8000-000000000001\n",
		}, "operator", "rekey")
		if !strings.Contains(got.out, "Key 1: qshare1") {
			t.Errorf("%s", got.out)
		}
		s.tty = &fakeTTY{answers: []string{next(2, 2)}}
		got = s.ok("operator", "rekey", "-verify")
		if !strings.Contains(got.err, "wait for their holders to verify them: 1 of 2 new key shares verified\nverification nonce: f0000000-0000-4000-8000-000000000001\n") {
			t.Errorf("%s", got.err)
		}
	}
}

// What happens elsewhere in between is told, and no share is sent to something else.
func TestRekeyWholeWayElsewhere(t *testing.T) {
	for _, c := range []struct {
		want string
		now  func(*rekeyServer)
	}{
		{"the attempt 00000000-0000-4000-8000-000000000001 has ended", func(s *rekeyServer) { s.nonce = "" }},
		{"you mean 00000000-0000-4000-8000-000000000001, in progress is 00000000-0000-4000-8000-000000000002", func(s *rekeyServer) { s.nonce = "00000000-0000-4000-8000-000000000002" }},
		{"the last share was given elsewhere, where the new shares are shown", func(s *rekeyServer) { s.complete() }},
		{"error reading the status of the rekey:", func(s *rekeyServer) { s.answers["GET sys/rekey/init"] = nil }},
	} {
		s := newRekeyServer(t)
		s.tty = &fakeTTY{answers: []string{share(1), share(2)}}
		s.tty.before = func(string) {
			if len(s.tty.prompts) == 2 {
				c.now(s)
			}
		}
		got := s.run("operator", "rekey", "-n=2", "-t=2")
		if got.code == 0 || !strings.Contains(got.err, c.want) || len(s.given) != 1 {
			t.Errorf("exit %d, %d shares given; no %q in\n%s", got.code, len(s.given), c.want, got.err)
		}
	}
	for _, c := range []struct {
		want string
		now  func(*rekeyServer)
	}{
		{"the verification has ended", func(s *rekeyServer) { s.nonce, s.verifyNonce = "", "" }},
		{"the verification has ended", func(s *rekeyServer) { s.verifyNonce = "" }},
		{"the verification began anew, with the nonce e0000000-0000-4000-8000-000000000001", (*rekeyServer).restart},
	} {
		s := newRekeyServer(t)
		s.tty = &fakeTTY{answers: []string{share(1), share(2), next(2, 1), next(2, 2)}}
		s.tty.before = func(string) {
			if len(s.tty.prompts) == 4 {
				c.now(s)
			}
		}
		s.fails(exitLocal, []string{c.want}, "operator", "rekey", "-n=2", "-t=2")
	}
}

func TestRekeyWholeWayBegins(t *testing.T) {
	s := newRekeyServer(t)
	s.tty = &fakeTTY{answers: []string{share(1)}}
	s.fails(exitLocal, []string{"there are no new shares to verify"}, "operator", "rekey", "-verify")
	s.refuseStart = true
	s.fails(exitServer, []string{"error starting the rekey:", "add -holder"}, "operator", "rekey")
	s.tty = &fakeTTY{answers: []string{share(1), "^D"}}
	s.fails(exitLocal, []string{"quorate operator rekey -cancel -holder"}, "operator", "rekey", "-holder")
	want(t, "prompt", s.tty.prompts[0], "key share of a holder, to start with (will be hidden): ")
	s.fails(exitLocal, []string{"a rekey is in progress already"}, "operator", "rekey", "-rotate")
	s.fails(exitLocal, []string{"a rekey is in progress already"}, "operator", "rekey", "-holder")
	s.fails(exitLocal, []string{"there are no new shares to verify"}, "operator", "rekey", "-verify")
	s.answers["GET sys/rekey/init"] = nil
	s.fails(exitServer, []string{"error reading the status of the rekey:"}, "operator", "rekey")
	if s.tty.hushed != 0 {
		t.Error("the echo is still off")
	}
}

// A reply that is lost costs nothing: the same share brings it again.
func TestRekeyLostReply(t *testing.T) {
	s := newRekeyServer(t)
	s.drop = 1
	s.tty = &fakeTTY{answers: []string{share(1), share(1), share(2), share(3)}}
	s.tty.before = func(string) {
		if len(s.tty.prompts) == 3 {
			s.drop = 1
		}
	}
	got := s.ok("operator", "rekey", "-n=1", "-t=1", "-no-verification")
	if strings.Count(got.err, "no answer to that share") != 2 || !strings.Contains(got.out, "Key 1: qshare1") {
		t.Errorf("%+v", got)
	}
}

func TestRekeyInterrupted(t *testing.T) {
	s := newRekeyServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.ctx = ctx
	update := s.answers["PUT sys/rekey/update"]
	s.answers["PUT sys/rekey/update"] = func(w http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done() // the client is gone
		update(w, r)
	}
	s.tty = &fakeTTY{answers: []string{share(1), share(2)}}
	s.fails(exitLocal, []string{"the last share may have counted", "-nonce=00000000-0000-4000-8000-000000000001"}, "operator", "rekey")
}

// A server that seals or can't be asked in between.
func TestRekeyUnreachable(t *testing.T) {
	s := newRekeyServer(t)
	status := s.answers["GET sys/rekey/init"]
	s.tty = &fakeTTY{answers: []string{share(1), share(1), share(2)}}
	s.tty.before = func(string) {
		s.answers["GET sys/rekey/init"] = status
		if len(s.tty.prompts) == 1 {
			s.answers["GET sys/rekey/init"] = func(w http.ResponseWriter, _ *http.Request) { refuse(w, 502, "gone") }
		}
	}
	got := s.ok("operator", "rekey", "-n=1", "-t=1", "-no-verification")
	if !strings.Contains(got.err, "the server can't be asked now (give the share again later, or nothing to stop): gone") {
		t.Errorf("%s", got.err)
	}
	s.result = nil
	s.tty = &fakeTTY{answers: []string{share(1)}}
	s.answers["PUT sys/rekey/update"] = func(w http.ResponseWriter, _ *http.Request) { refuse(w, 503, "Vault is sealed") }
	s.fails(exitServer, []string{"error giving the key share:", "unseal it first"}, "operator", "rekey")
}
