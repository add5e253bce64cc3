package process

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func needStrace(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("strace is missing in CI")
		}
		t.Skip("SKIPPED LOUDLY: there is no strace on this machine, so no disk error was injected")
	}
}

// T51: the disk fails under a running server. Whatever was acknowledged is there afterwards, and what could not be
// made durable was not acknowledged.
func TestDiskErrorsFailClosed(t *testing.T) {
	needStrace(t)
	for _, fault := range []string{"fdatasync:error=EIO:when=12+", "pwrite64:error=ENOSPC:when=40+", "pwrite64:error=EROFS:when=41+"} {
		t.Run(fault, func(t *testing.T) {
			s := newServer(t)
			s.start()
			p := s.init(1, 1)
			s.unseal(p)
			s.kill()
			call, _, _ := strings.Cut(fault, ":")
			s.start("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace="+call, "-e", "inject="+fault)
			if code, _ := s.call("PUT", "sys/unseal", "", map[string]string{"key": p.shares[0]}); code != 200 {
				t.Skipf("the fault came before the unseal: %d", code)
			}
			acknowledged, refused := s.createUntilRefused(p)
			if refused < 500 {
				t.Errorf("the refusal was a %d", refused)
			}
			s.kill()
			s.start()
			s.unseal(p)
			for i, token := range acknowledged {
				if code, _ := s.call("GET", "auth/token/lookup-self", token, nil); code != 200 {
					t.Errorf("acknowledged token %d of %d is gone: %d", i, len(acknowledged), code)
				}
			}
			t.Logf("%d acknowledged, then %d", len(acknowledged), refused)
		})
	}
}

// createUntilRefused makes tokens until the server says no, at most 200.
func (s *server) createUntilRefused(p people) (acknowledged []string, code int) {
	for range 200 {
		var res map[string]any
		code, res = s.call("POST", "auth/token/create", p.root, map[string]string{"ttl": "1h"})
		if code != 200 {
			return acknowledged, code
		}
		acknowledged = append(acknowledged, res["auth"].(map[string]any)["client_token"].(string))
	}
	s.t.Fatal("the injected fault never came")
	return nil, 0
}
