// Package process tests the built binary as its users run it: the README's own words, kill -9, a full disk.
package process

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	// What the built binary is made of, so that a cached result is one of the same product.
	_ "github.com/quorate/quorate/internal/cli"
)

// build makes the binary once for all tests of this package.
func build(t testing.TB) string {
	t.Helper()
	bin := filepath.Join(buildDir, "quorate")
	if _, err := os.Stat(bin); err == nil {
		return bin
	}
	cmd := exec.Command("go", "build", "-o", bin, "./cmd/quorate")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

var buildDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "quorate-process")
	if err != nil {
		panic(err)
	}
	buildDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// server is a running quorate process.
type server struct {
	t    testing.TB
	bin  string
	dir  string // its working directory
	addr string
	bare bool // without a configuration, as in the README
	dev  bool // a server to play with
	cmd  *exec.Cmd
	log  bytes.Buffer
}

func newServer(t testing.TB) *server {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("signals")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	s := &server{t: t, bin: build(t), dir: t.TempDir(), addr: addr}
	config := fmt.Sprintf("storage \"bolt\" { path = \"data\" }\nlistener \"tcp\" { address = %q }\n", addr)
	if err := os.WriteFile(filepath.Join(s.dir, "quorate.hcl"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kill)
	return s
}

// launch runs the process. prefix is a command that runs it, such as strace.
func (s *server) launch(prefix ...string) {
	s.t.Helper()
	args := append(prefix, s.bin, "server")
	switch {
	case s.dev:
		args = append(args, "-dev", "-dev-listen-address="+s.addr)
	case !s.bare:
		args = append(args, "-config", "quorate.hcl")
	}
	s.cmd = exec.Command(args[0], args[1:]...)
	if s.dev {
		s.cmd.Env = append(os.Environ(), "HOME="+s.dir)
	}
	s.cmd.Dir, s.cmd.Stderr, s.cmd.Stdout = s.dir, &s.log, &s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
}

// start runs the process and waits until it answers.
func (s *server) start(prefix ...string) {
	s.t.Helper()
	s.launch(prefix...)
	deadline := time.Now().Add(20 * time.Second)
	for {
		if res, err := http.Get("http://" + s.addr + "/v1/sys/seal-status"); err == nil {
			res.Body.Close()
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the server does not answer:\n%s", s.log.String())
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// kill is kill -9, for the whole process group.
func (s *server) kill() {
	if s.cmd != nil {
		syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		s.cmd.Wait()
		s.cmd = nil
	}
}

// call makes one request; it returns status 0 when there was no reply.
func (s *server) call(method, path, token string, body any) (int, map[string]any) {
	s.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequest(method, "http://"+s.addr+"/v1/"+path, bytes.NewReader(b))
	if err != nil {
		s.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("X-Vault-Token", token)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	res, err := client.Do(req)
	if err != nil {
		return 0, nil
	}
	defer res.Body.Close()
	fields := map[string]any{}
	json.NewDecoder(res.Body).Decode(&fields)
	return res.StatusCode, fields
}

func (s *server) must(method, path, token string, body any) map[string]any {
	s.t.Helper()
	code, fields := s.call(method, path, token, body)
	if code != 200 && code != 204 {
		s.t.Fatalf("%s %s: %d %v\n%s", method, path, code, fields, s.log.String())
	}
	return fields
}

// people are what init gave out.
type people struct {
	shares []string
	root   string
}

func (s *server) init(shares, threshold int) people {
	s.t.Helper()
	return peopleOf(s.must("PUT", "sys/init", "", map[string]int{"secret_shares": shares, "secret_threshold": threshold}))
}

func peopleOf(init map[string]any) (p people) {
	for _, k := range init["keys"].([]any) {
		p.shares = append(p.shares, k.(string))
	}
	p.root = init["root_token"].(string)
	return p
}

func (s *server) unseal(p people) {
	s.t.Helper()
	for _, share := range p.shares {
		if s.must("PUT", "sys/unseal", "", map[string]string{"key": share})["sealed"] == false {
			return
		}
	}
	s.t.Fatal("all shares given and still sealed")
}

func decode(encoded, otp string) string {
	b, err := rawBase64(encoded)
	if err != nil || len(b) != len(otp) {
		return ""
	}
	for i := range b {
		b[i] ^= otp[i]
	}
	return string(b)
}

// T30: kill -9 after two of three approvals, start, unseal, give the third: the token comes.
func TestKillInTheMiddleOfARootGeneration(t *testing.T) {
	s := newServer(t)
	s.start()
	p := s.init(5, 3)
	s.unseal(p)
	st := s.must("PUT", "sys/generate-root/attempt", "", nil)
	otp, nonce := st["otp"].(string), st["nonce"].(string)
	for i := range 2 {
		s.must("PUT", "sys/generate-root/update", "", map[string]string{"key": p.shares[i], "nonce": nonce})
	}
	s.kill()
	s.start()
	if code, _ := s.call("GET", "sys/generate-root/attempt", "", nil); code != 503 {
		t.Errorf("status while sealed: %d", code)
	}
	s.unseal(p)
	if now := s.must("GET", "sys/generate-root/attempt", "", nil); now["progress"] != 2.0 || now["nonce"] != nonce {
		t.Fatalf("after kill -9: %v", now)
	}
	st = s.must("PUT", "sys/generate-root/update", "", map[string]string{"key": p.shares[2], "nonce": nonce})
	token := decode(st["encoded_token"].(string), otp)
	s.must("GET", "auth/token/lookup-self", token, nil)
	// The reply may have been lost: it can be had again, even after one more kill -9.
	s.kill()
	s.start()
	s.unseal(p)
	again := s.must("PUT", "sys/generate-root/update", "", map[string]string{"key": p.shares[2], "nonce": nonce})
	if again["encoded_token"] != st["encoded_token"] {
		t.Error("the repeated reply differs")
	}
	keys := s.must("LIST", "auth/token/accessors", p.root, nil)["data"].(map[string]any)["keys"].([]any)
	if len(keys) != 2 {
		t.Errorf("%d tokens, want the first root token and one of one ceremony", len(keys))
	}
	// Nothing that a share, an OTP or a token is was written to the log.
	for _, canary := range append([]string{p.root, otp, token}, p.shares...) {
		if strings.Contains(s.log.String(), canary) {
			t.Error("the log holds a secret")
		}
	}
}

// A server killed at random moments while tokens are made keeps every token that it acknowledged.
func TestKillWhileTokensAreMade(t *testing.T) {
	runs := crashRuns()
	s := newServer(t)
	s.start()
	p := s.init(1, 1)
	s.unseal(p)
	var acknowledged []string
	for range runs {
		timer := time.AfterFunc(time.Duration(20+len(acknowledged)%50)*time.Millisecond, func() {
			syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		})
		for {
			code, res := s.call("POST", "auth/token/create", p.root, map[string]string{"ttl": "1h"})
			if code == 0 {
				break
			}
			if auth, ok := res["auth"].(map[string]any); ok && code == 200 {
				acknowledged = append(acknowledged, auth["client_token"].(string))
			}
		}
		timer.Stop()
		s.kill()
		s.start()
		s.unseal(p)
	}
	for i, token := range acknowledged {
		if code, _ := s.call("GET", "auth/token/lookup-self", token, nil); code != 200 {
			t.Fatalf("acknowledged token %d of %d is gone after kill -9: %d", i, len(acknowledged), code)
		}
	}
	t.Logf("%d kills, %d acknowledged tokens, all there", runs, len(acknowledged))
}
