package process

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/compat/harness"
)

// rekey gives the holders new shares, at a server that may die at any moment.
type rekey struct {
	s         *server
	now       people // who can open the store for certain
	threshold int
	shares    int // of the new generation, with newer as its threshold
	newer     int
	verify    bool

	next  []string // shares of the new generation, once they came
	nonce string
	// ask makes a request, and says whether the server has died of it.
	ask func(method, path string, body any) (code int, reply map[string]any, died bool)
}

// call makes a request of the rekey, and brings the server back where it has died.
func (r *rekey) call(method, path string, body any) (int, map[string]any) {
	r.s.t.Helper()
	code, reply, died := r.ask(method, path, body)
	data, _ := reply["data"].(map[string]any)
	if keys, _ := data["keys"].([]any); code == 200 && strings.HasSuffix(path, "/approve") && len(keys) > 0 {
		r.next = nil
		for _, k := range keys {
			r.next = append(r.next, k.(string))
		}
	}
	if died {
		r.s.kill()
		r.s.start()
		r.open()
	}
	return code, data
}

// open unseals with the old shares or the new ones. One of the two quorums must open the store.
func (r *rekey) open() {
	r.s.t.Helper()
	for _, shares := range [][]string{r.now.shares, r.next} {
		for _, share := range shares {
			if code, st := r.s.call("PUT", "sys/unseal", "", map[string]string{"key": share}); code == 200 && st["sealed"] == false {
				return
			}
		}
	}
	r.s.t.Fatalf("no quorum opens the store; the holders have %d new shares\n%s", len(r.next), r.s.log.String())
}

func (r *rekey) state() map[string]any {
	r.s.t.Helper()
	if r.nonce == "" {
		for _, k := range r.s.must("GET", "sys/ceremonies", "", nil)["data"].(map[string]any)["keys"].([]any) {
			r.nonce = k.(string)
		}
	}
	if r.nonce == "" {
		return map[string]any{"state": "none"}
	}
	return r.s.must("GET", "sys/ceremonies/"+r.nonce, "", nil)["data"].(map[string]any)
}

// carry does what is still to do until the rekey is complete, wherever it stands. A server that refuses ends it early.
func (r *rekey) carry() (refused bool) {
	r.s.t.Helper()
	for range 40 {
		c := r.state()
		path, body := "sys/ceremonies", map[string]any{
			"kind": "rekey", "secret_shares": r.shares, "secret_threshold": r.newer, "require_verification": r.verify, "rotate": r.verify,
		}
		switch {
		case c["state"] == "none":
		case c["state"] == "open":
			given := len(c["approvals"].([]any))
			path, body = path+"/"+r.nonce+"/approve", map[string]any{"key": r.now.shares[given]}
		case r.next == nil: // the reply was lost: who gave the last share has it again
			path, body = path+"/"+r.nonce+"/approve", map[string]any{"key": r.now.shares[r.threshold-1]}
		case c["state"] == "verifying":
			proven := c["verification"].(map[string]any)["progress"].(float64)
			path, body = path+"/"+r.nonce+"/verify", map[string]any{"key": r.next[int(proven)]}
		case c["state"] == "complete":
			r.now.shares, r.threshold = r.next, r.newer
			return false
		default:
			r.s.t.Fatalf("the rekey stands as %v", c)
		}
		if code, reply := r.call("POST", path, body); code >= 500 {
			return true
		} else if code >= 400 {
			r.s.t.Fatalf("%s: %d %v", path, code, reply)
		}
	}
	r.s.t.Fatal("the rekey comes to no end")
	return true
}

// numbers are those of the round-th rekey: thresholds kept, raised and lowered, with and without verification.
func (r *rekey) numbers(round int) {
	n := [][2]int{{3, 2}, {5, 4}, {4, 2}, {1, 1}, {4, 3}}[round%5]
	r.shares, r.newer, r.verify, r.next, r.nonce = n[0], n[1], round%2 == 0, nil, ""
}

func newRekey(s *server) *rekey {
	s.start()
	r := &rekey{s: s, now: s.init(3, 2), threshold: 2}
	s.unseal(r.now)
	return r
}

// T45, T46, T47: kill -9 at any moment of a rekey. Afterwards a quorum in its holders' hands opens the store, and the
// rekey goes on to its end. There is no third case.
func TestKillDuringRekey(t *testing.T) {
	s := newServer(t)
	r := newRekey(s)
	took := 20 * time.Millisecond
	for round := range crashRuns() + 1 {
		r.numbers(round)
		step, at := 0, 1+round%(3+r.shares)
		r.ask = func(method, path string, body any) (int, map[string]any, bool) {
			step++
			if round > 0 && step == at {
				code, reply := s.killBeside(took, method, path, "", body)
				return code, reply, true
			}
			began := time.Now()
			code, reply := s.call(method, path, "", body)
			took = (3*took + time.Since(began)) / 4
			return code, reply, false
		}
		if r.carry() {
			t.Fatalf("the rekey of round %d can't be carried to its end\n%s", round, s.log.String())
		}
		s.must("GET", "auth/token/lookup-self", r.now.root, nil)
	}
	s.kill()
	s.start()
	s.unseal(r.now)
	if n := s.tokens(r.now.root); n != 1 {
		t.Errorf("%d tokens after %d rekeys", n, crashRuns()+1)
	}
	s.verified()
}

// verified verifies the transcript with the product's own command, and no server.
func (s *server) verified() {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "transcript")
	for _, args := range [][]string{{"transcript", "export", "-address=http://" + s.addr, "-o", file}, {"transcript", "verify", file}} {
		cmd := exec.Command(s.bin, args...)
		cmd.Env = []string{"HOME=" + s.t.TempDir()}
		if out, err := cmd.CombinedOutput(); err != nil {
			s.t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

// T51: the disk fails under rekeys. What could not be made durable was not acknowledged, and no holder is left with
// shares of nothing.
func TestDiskErrorsDuringRekey(t *testing.T) {
	needStrace(t)
	for _, fault := range []string{"fdatasync:error=EIO:when=14+", "pwrite64:error=ENOSPC:when=60+", "pwrite64:error=EROFS:when=75+"} {
		t.Run(fault, func(t *testing.T) {
			s := newServer(t)
			r := newRekey(s)
			r.ask = func(method, path string, body any) (int, map[string]any, bool) {
				code, reply := s.call(method, path, "", body)
				return code, reply, false
			}
			s.kill()
			call, _, _ := strings.Cut(fault, ":")
			s.start("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace="+call, "-e", "inject="+fault)
			s.unseal(r.now)
			done := 0
			for ; ; done++ {
				if r.numbers(done); done > 50 {
					t.Fatal("the injected fault never came")
				}
				if r.carry() {
					break
				}
			}
			s.kill()
			s.start()
			r.open()
			if r.carry() {
				t.Fatal("the rekey can't be carried to its end")
			}
			s.kill()
			s.start()
			s.unseal(r.now)
			s.must("GET", "auth/token/lookup-self", r.now.root, nil)
			s.verified()
			t.Logf("%d rekeys, then a refusal, then the last", done)
		})
	}
}

// T67: an older copy of the data file is put back. The mark beside it, and the holders' new shares, tell.
func TestOlderCopyPutBack(t *testing.T) {
	for name, between := range map[string]func(r *rekey){
		"a ceremony less": func(r *rekey) {
			r.s.must("PUT", "sys/generate-root/attempt", "", nil)
			r.s.must("DELETE", "sys/generate-root/attempt", "", nil)
		},
		"an older generation": func(r *rekey) {
			r.numbers(0)
			if r.carry() {
				r.s.t.Fatal("the rekey failed")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			r := newRekey(s)
			r.ask = func(method, path string, body any) (int, map[string]any, bool) {
				code, reply := s.call(method, path, "", body)
				return code, reply, false
			}
			then := people{slices.Clone(r.now.shares), r.now.root}
			s.stop()
			older := s.dataFile()
			s.start()
			s.unseal(r.now)
			if n := s.alarms(); n != 0 {
				t.Fatalf("%d alarms, and nothing was done", n)
			}
			between(r)
			s.stop()
			s.start() // as it should be: no alarm
			s.unseal(r.now)
			if n := s.alarms(); n != 0 {
				t.Fatalf("%d alarms after a restart", n)
			}
			s.stop()
			for path, b := range older {
				if err := os.WriteFile(path, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s.start()
			s.unseal(then)
			state := s.must("GET", "sys/transcript", "", nil)["data"].(map[string]any)
			if alarms, _ := state["alarms"].([]any); len(alarms) == 0 {
				t.Error("sys/transcript tells of no alarm")
			}
			if n := s.alarms(); n != 1 {
				t.Errorf("%d alarms in the transcript, want 1", n)
			}
			if !strings.Contains(s.log.String(), "the transcript of ceremonies is not what it was") {
				t.Errorf("no alarm in the log:\n%s", s.log.String())
			}
			s.stop() // it is known now
			s.start()
			s.unseal(then)
			if n := s.alarms(); n != 1 {
				t.Errorf("%d alarms in the transcript after the next start, want the same 1", n)
			}
		})
	}
}

// dataFile reads the data, without the mark.
func (s *server) dataFile() map[string][]byte {
	s.t.Helper()
	files := map[string][]byte{}
	s.files(func(path string, b []byte) {
		if strings.HasPrefix(path, filepath.Join(s.dir, "data")) && filepath.Base(path) != "transcript-mark.json" {
			files[path] = b
		}
	})
	if _, err := os.Stat(filepath.Join(s.dir, "data", "transcript-mark.json")); err != nil || len(files) == 0 {
		s.t.Fatalf("%d files of data, and no mark: %v", len(files), err)
	}
	return files
}

// alarms counts those in the transcript.
func (s *server) alarms() (n int) {
	s.t.Helper()
	for _, text := range s.must("GET", "sys/transcript/entries?limit=1000", "", nil)["data"].(map[string]any)["entries"].([]any) {
		var e struct{ Event string }
		if err := json.Unmarshal([]byte(text.(string)), &e); err != nil {
			s.t.Fatal(err)
		}
		if e.Event == "alarm" {
			n++
		}
	}
	return n
}

// rekeyed does rekeys that a search for secrets then looks for.
func (s *server) rekeyed(c harness.Canaries, p people) people {
	s.t.Helper()
	r := &rekey{s: s, now: p, threshold: 2}
	r.ask = func(method, path string, body any) (int, map[string]any, bool) {
		code, reply := s.call(method, path, "", body)
		return code, reply, false
	}
	for round := range 3 {
		r.numbers(2 * round)
		if r.carry() {
			s.t.Fatal("the rekey failed")
		}
		for i, text := range r.now.shares {
			c[fmt.Sprintf("share %d of rekey %d", i+1, round)] = unhex(s.t, text)
		}
		s.wrongly(c, r.now.shares[0])
	}
	return r.now
}
