package process

import (
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"time"
)

// crashRuns is how often a test kills the server; QUORATE_CRASH_RUNS raises it.
func crashRuns() int {
	runs := 3
	if n := os.Getenv("QUORATE_CRASH_RUNS"); n != "" {
		fmt.Sscan(n, &runs)
	}
	return runs
}

// killBeside sends one request and kills the server at a random moment of it, or shortly after. took is how long such a
// request takes. The code is 0 when there was no reply.
func (s *server) killBeside(took time.Duration, method, path, token string, body any) (code int, fields map[string]any) {
	s.t.Helper()
	pid := s.cmd.Process.Pid
	timer := time.AfterFunc(rand.N(took*3/2), func() { syscall.Kill(-pid, syscall.SIGKILL) })
	code, fields = s.call(method, path, token, body)
	timer.Stop()
	s.kill()
	return code, fields
}

// T44: kill -9 at any moment of an init. If the shares came back, they unseal; if not, the init can be repeated, and
// those of the repetition do. There is no third case.
func TestKillDuringInit(t *testing.T) {
	quiet := newServer(t)
	quiet.start()
	began := time.Now()
	quiet.init(5, 3)
	took := time.Since(began)
	quiet.kill()
	acknowledged := 0
	for range crashRuns() {
		s := newServer(t)
		s.start()
		code, res := s.killBeside(took, "PUT", "sys/init", "", map[string]int{"secret_shares": 5, "secret_threshold": 3})
		s.start()
		done := s.must("GET", "sys/init", "", nil)["initialized"] == true
		var p people
		if code == 200 && res["root_token"] != nil {
			acknowledged++
			if !done {
				t.Fatal("acknowledged, and not initialised after kill -9")
			}
			p = peopleOf(res)
			if again, _ := s.call("PUT", "sys/init", "", map[string]int{"secret_shares": 5, "secret_threshold": 3}); again != 400 {
				t.Errorf("a second init: %d", again)
			}
		} else {
			p = peopleOf(s.must("PUT", "sys/init", "", map[string]any{"secret_shares": 3, "secret_threshold": 2, "replace": done}))
		}
		s.unseal(p)
		s.must("GET", "auth/token/lookup-self", p.root, nil)
		if n := s.tokens(p.root); n != 1 {
			t.Errorf("%d tokens after init", n)
		}
		s.kill()
	}
	t.Logf("%d kills, %d inits acknowledged, every store opened by a quorum", crashRuns(), acknowledged)
}

// T49: kill -9 at any moment of the last approval. Afterwards the same share gets the token, or gets it again, and there
// is one token for each ceremony.
func TestKillAroundCompletion(t *testing.T) {
	s := newServer(t)
	s.start()
	p := s.init(3, 2)
	s.unseal(p)
	var took time.Duration
	acknowledged, kept := 0, 0
	for round := range crashRuns() + 1 {
		st := s.must("PUT", "sys/generate-root/attempt", "", nil)
		otp, nonce := st["otp"].(string), st["nonce"].(string)
		s.must("PUT", "sys/generate-root/update", "", map[string]string{"key": p.shares[0], "nonce": nonce})
		last := map[string]string{"key": p.shares[1], "nonce": nonce}
		if round == 0 { // nobody is killed: how long does it take?
			began := time.Now()
			s.must("PUT", "sys/generate-root/update", "", last)
			took = time.Since(began)
			continue
		}
		code, res := s.killBeside(took, "PUT", "sys/generate-root/update", "", last)
		s.start()
		s.unseal(p)
		now := s.must("GET", "sys/generate-root/attempt", "", nil)
		before := s.tokens(p.root)
		switch {
		case now["started"] == true && (now["progress"] != 1.0 || now["nonce"] != nonce || before != round+1):
			t.Fatalf("the attempt goes on as %v, with %d tokens", now, before)
		case now["started"] != true && before != round+2:
			t.Fatalf("the attempt is over, with %d tokens", before)
		}
		if now["started"] != true {
			kept++
		}
		again := s.must("PUT", "sys/generate-root/update", "", last)
		if code == 200 && res["encoded_token"] != nil {
			acknowledged++
			if again["encoded_token"] != res["encoded_token"] {
				t.Error("the reply is another one after kill -9")
			}
		}
		s.must("GET", "auth/token/lookup-self", decode(again["encoded_token"].(string), otp), nil)
		if n := s.tokens(p.root); again["complete"] != true || n != round+2 {
			t.Fatalf("complete %v, %d tokens after %d ceremonies", again["complete"], n, round+1)
		}
	}
	t.Logf("%d kills, %d completions kept, %d of them acknowledged", crashRuns(), kept, acknowledged)
}

// tokens counts the live tokens.
func (s *server) tokens(root string) int {
	s.t.Helper()
	return len(s.must("LIST", "auth/token/accessors", root, nil)["data"].(map[string]any)["keys"].([]any))
}
