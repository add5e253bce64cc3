package cli

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// full is standard output on a disk that is full.
func full(t *testing.T) io.Writer {
	t.Helper()
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		return fullWriter{}
	}
	t.Cleanup(func() { f.Close() })
	return f
}

type fullWriter struct{}

func (fullWriter) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

const notWritten = "error: the answer could not be written to standard output: "

// An answer that nobody got is a failure, in every format, and it is said what to do about it.
func TestUnwrittenAnswers(t *testing.T) {
	for _, c := range []struct {
		hint string
		args []string
	}{
		{"the server is initialized, but its key shares are lost: see to the output, then make new ones on the server's own machine, before anything is unsealed: quorate operator init -replace", []string{"operator", "init"}},
		{"the attempt is open, but its OTP is lost: quorate operator generate-root -cancel, then start again", []string{"operator", "generate-root", "-init"}},
		{"-status shows it", []string{"operator", "generate-root", "-init", "-otp=" + serverOTP}},
		{"to revoke it: quorate token revoke -accessor acc", []string{"token", "create"}},
		{"the server took the request", []string{"operator", "unseal", "-"}},
		{"", []string{"operator", "generate-root", "-status"}},
		{"", []string{"operator", "generate-root", "-decode=" + xor(newToken, serverOTP), "-otp=" + serverOTP}},
		{"", []string{"operator", "key-status"}},
		{"", []string{"token", "lookup"}},
		{"", []string{"list", "secret"}},
		{"", []string{"read", "secret/a"}},
		{"", []string{"version"}},
	} {
		for _, format := range []string{"table", "json", "yaml"} {
			s := unwrittenServer(t)
			t.Setenv("BAO_FORMAT", format)
			got := s.fails(exitLocal, []string{notWritten, c.hint}, c.args...)
			if strings.Contains(got.err, newToken) || strings.Contains(got.err, serverOTP) {
				t.Errorf("%v: a secret is on standard error: %s", c.args, got.err)
			}
		}
	}
}

func unwrittenServer(t *testing.T) *rootServer {
	s := newRootServer(t)
	s.stdin, s.stdout = share(1), full(t)
	s.status(sealedStatus)
	s.on("PUT sys/init", 200, `{"keys":["00"],"keys_base64":["AA=="],"root_token":"`+newToken+`"}`)
	s.on("PUT sys/unseal", 200, sealedStatus)
	s.on("POST auth/token/create", 200, `{"auth":{"client_token":"`+newToken+`","accessor":"acc"}}`)
	s.on("GET auth/token/lookup-self", 200, lookup)
	s.on("GET sys/key-status", 200, `{"data":{"term":2,"install_time":"2026-01-02T03:04:05Z","encryptions":7}}`)
	s.on("GET secret", 200, `{"data":{"keys":["a"]}}`)
	s.on("GET secret/a", 200, `{"data":{"x":"1"}}`)
	return s
}

// Bare values have no format of their own.
func TestUnwrittenValues(t *testing.T) {
	s := unwrittenServer(t)
	t.Setenv("BAO_TOKEN", newToken)
	for _, args := range [][]string{
		{"operator", "generate-root", "-generate-otp"},
		{"read", "-field=x", "secret/a"},
		{"read", "-output-curl-string", "secret/a"},
		{"read", "-output-policy", "secret/a"},
		{"login", "-token-only", newToken},
		{"print", "token"},
		{"completion", "bash"},
		{"__complete"},
		{"-version"},
	} {
		s.fails(exitLocal, []string{notWritten}, args...)
	}
}

// One share of several: the answer to it is told apart from the result.
func TestUnwrittenApproval(t *testing.T) {
	s := newRootServer(t)
	s.ok("operator", "generate-root", "-init")
	s.stdout = full(t)
	s.stdin = share(1)
	s.fails(exitLocal, []string{notWritten, "hint: the share was accepted"}, "operator", "generate-root", "-nonce=00000000-0000-4000-8000-000000000001", "-")
	s.stdin = share(2)
	s.fails(exitLocal, []string{notWritten, "hint: the result is not lost", "-nonce=00000000-0000-4000-8000-000000000001"}, "operator", "generate-root", "-nonce=00000000-0000-4000-8000-000000000001", "-")
	s.stdout = nil
	if got := s.ok("operator", "generate-root", "-nonce=00000000-0000-4000-8000-000000000001", "-"); !strings.Contains(got.out, xor(newToken, serverOTP)) {
		t.Errorf("what the hint says doesn't bring it: %+v", got)
	}
}

// The whole way: those who came together see the token at least.
func TestUnwrittenToken(t *testing.T) {
	for _, format := range []string{"table", "json"} {
		s := newRootServer(t)
		s.stdout = full(t)
		s.tty = &fakeTTY{answers: []string{share(1), share(2)}}
		got := s.fails(exitLocal, []string{notWritten, "hint: the token is shown at the terminal instead"}, "operator", "generate-root", "-format="+format)
		want(t, "shown", strings.Join(s.tty.shown, "\n"), "the new root token: "+newToken)
		if strings.Contains(got.err, newToken) || s.tty.hushed != 0 {
			t.Errorf("%s, hushed %d times", got.err, s.tty.hushed)
		}
	}
	s := newRootServer(t)
	s.stdout = full(t)
	s.tty = &fakeTTY{answers: []string{share(1), share(2)}, deaf: errors.New("hung up")}
	s.fails(exitLocal, []string{notWritten, "hint: the token is lost: generate another one"}, "operator", "generate-root")

	// What only its owner can read is not shown, but not lost either.
	s.result = nil
	s.tty = &fakeTTY{answers: []string{share(1), share(2)}}
	s.fails(exitLocal, []string{notWritten, "hint: the result is not lost"}, "operator", "generate-root", "-pgp-key="+write(t, "key", string(pgpPublic)))
	if len(s.tty.shown) > 0 {
		t.Errorf("shown: %q", s.tty.shown)
	}
}

// A token that can't be printed is kept all the same, if that was asked for.
func TestUnwrittenLogin(t *testing.T) {
	s := unwrittenServer(t)
	s.stdin = newToken
	s.fails(exitLocal, []string{"the token is kept in", notWritten}, "login", "-")
	if b, err := os.ReadFile(filepath.Join(os.Getenv("HOME"), ".vault-token")); err != nil || string(b) != newToken {
		t.Errorf("%q, %v", b, err)
	}
}

// The server takes token IDs of 4096 bytes, so a login does.
func TestLoginWithALongToken(t *testing.T) {
	r := newRig(t)
	r.on("GET auth/token/lookup-self", 200, lookup)
	token := strings.Repeat("t", 4096)
	for _, end := range []string{"", "\n", "\r\n"} {
		r.stdin = token + end
		r.ok("login", "-")
		want(t, "sent", r.last().header.Get("X-Vault-Token"), token)
	}
	r.stdin = token + "t"
	got := r.fails(exitLocal, []string{"too long"}, "login", "-")
	if bytes.Contains([]byte(got.err), []byte("tttt")) {
		t.Errorf("%s", got.err)
	}
}
