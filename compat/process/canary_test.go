package process

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/quorate/quorate/compat/harness"
	"github.com/quorate/quorate/internal/shamir"
)

// wrongly sends secrets in the ways that end in an error, and looks at the errors.
func (s *server) wrongly(c harness.Canaries, texts ...string) {
	s.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, text := range texts {
		for _, path := range []string{
			"sys/init", "sys/unseal", "sys/generate-root/attempt", "sys/generate-root/update", "sys/root-generation/attempt",
			"sys/root-generation/update", "sys/generate-root-token/update", "sys/decode-token", "auth/token/lookup", "auth/token/create",
			"auth/token/revoke-accessor", "sys/rekey/init", "sys/rekey/update", "sys/rotate/root/verify", "sys/ceremonies", "sys/" + strings.ReplaceAll(text, "/", "%2f"),
		} {
			for _, body := range []string{
				`{"key":"` + text, `{"key":"` + text + `x","nonce":"` + text + `"}`, `{"key":"` + text + `","key":1}`, `{"` + text + `":1}`,
				`{"nonce":"` + text + `","key":"00"}`, `{"otp":"` + text + `x","pgp_key":"` + text + `"}`, `{"pgp_key":"` + text + `"}`, "key=" + text,
				`{"encoded_token":"` + text + `","otp":"` + text + `"}`, `{"id":"` + text + ` ","accessor":"` + text + `"}`,
			} {
				req, err := http.NewRequest("PUT", "http://"+s.addr+"/v1/"+path, strings.NewReader(body))
				if err != nil {
					s.t.Fatal(err)
				}
				req.Header.Set("Via", "1.1 "+text) // not local, and a header that may be logged
				if !strings.Contains(path, "root-generation/attempt") {
					req.Header.Set("Authorization", "Bearer x"+text)
				}
				res, err := client.Do(req)
				if err != nil {
					s.t.Fatal(err)
				}
				reply, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || res.StatusCode < 400 || res.StatusCode == 429 {
					s.t.Fatalf("%s %s: %d %s %v", path, body, res.StatusCode, reply, err)
				}
				c.Absent(s.t, "the error of "+path, reply)
			}
		}
	}
}

// T52: the real binary at its most talkative, through a life with all its errors: no share, token, one-time password or
// key is in its log, in its errors or in its files, in any form.
func TestNoSecretInLogOrFiles(t *testing.T) {
	s := newServer(t)
	s.configure("log_level = \"trace\"\n")
	s.start()
	p := s.init(3, 2)
	c := harness.Canaries{"the root token": []byte(p.root)}
	var raw [][]byte
	for i, text := range p.shares {
		share := unhex(t, text)
		raw = append(raw, share)
		c[fmt.Sprintf("share %d", i+1)] = share
		c[fmt.Sprintf("share %d without its slot", i+1)] = share[:32]
	}
	unsealKey, err := shamir.Combine(raw[:2], 2)
	if err != nil {
		t.Fatal(err)
	}
	c["the unseal key"] = unsealKey
	s.wrongly(c, p.shares[0])
	s.unseal(p)

	const chosenOTP, chosenID = "OtpCanaryOtpCanaryOtp012", "q.CanaryCanaryCanary1234"
	c["the chosen OTP"], c["the chosen token"] = []byte(chosenOTP), []byte(chosenID)
	nonce := ""
	generate := func(family string, body any, token string) map[string]any {
		st := s.must("PUT", "sys/"+family+"/attempt", token, body)
		if otp, _ := st["otp"].(string); otp != "" {
			c["the OTP"] = []byte(otp)
		}
		if nonce == "" { // once: a client may not ask without end
			s.wrongly(c, p.shares[0], p.root, chosenOTP)
		}
		nonce = st["nonce"].(string)
		var last map[string]any
		for _, share := range p.shares[1:] {
			last = s.must("PUT", "sys/"+family+"/update", "", map[string]string{"key": share, "nonce": nonce})
		}
		return last
	}
	last := generate("generate-root", nil, "")
	c["the new root token"] = []byte(decode(last["encoded_token"].(string), string(c["the OTP"])))
	last = generate("generate-root", map[string]string{"otp": chosenOTP}, "")
	c["the second root token"] = []byte(decode(last["encoded_token"].(string), chosenOTP))
	generate("root-generation", nil, chosenID)
	child := s.must("POST", "auth/token/create", chosenID, map[string]any{"ttl": "1h", "num_uses": 3})["auth"].(map[string]any)
	c["a child token"] = []byte(child["client_token"].(string))
	s.must("GET", "auth/token/lookup-self", string(c["a child token"]), nil)
	s.must("POST", "auth/token/revoke", p.root, map[string]string{"token": string(c["a child token"])})
	s.must("PUT", "sys/seal", chosenID, nil)
	s.must("PUT", "sys/unseal", "", map[string]string{"key": p.shares[2]})
	s.must("PUT", "sys/unseal", "", map[string]any{"reset": true, "key": p.shares[1]})
	s.unseal(p)
	s.must("PUT", "sys/generate-root/attempt", "", map[string]string{"key": p.shares[0], "otp": chosenOTP})
	s.must("DELETE", "sys/generate-root/attempt", "", map[string]string{"key": p.shares[0]})
	p = s.rekeyed(c, p)
	for _, path := range []string{"sys/metrics", "sys/internal/specs/openapi", "sys/transcript/entries?limit=1000"} {
		c.Absent(t, path, s.body(path, p.root))
	}
	s.noCoreDumps()
	s.stop()

	log := s.log.String()
	if !strings.Contains(log, nonce) || !strings.Contains(log, "request") {
		t.Fatalf("the log is not as talkative as this test needs it:\n%.2000s", log)
	}
	c.Absent(t, "the log", []byte(log))
	s.files(func(path string, b []byte) { c.Absent(t, path, b) })
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// body is what a path answers, as it comes.
func (s *server) body(path, token string) []byte {
	s.t.Helper()
	req, err := http.NewRequest("GET", "http://"+s.addr+"/v1/"+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 {
		s.t.Fatalf("%s: %d %v", path, res.StatusCode, err)
	}
	return b
}

// configure adds to the configuration.
func (s *server) configure(lines string) {
	s.t.Helper()
	path := filepath.Join(s.dir, "quorate.hcl")
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, append(b, lines...), 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// noCoreDumps looks at what the system would do if the server crashed.
func (s *server) noCoreDumps() {
	s.t.Helper()
	if runtime.GOOS != "linux" {
		return
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "Max core file size"); ok && strings.Fields(rest)[1] != "0" {
			s.t.Errorf("a crash would leave a core file: %s", line)
		}
	}
}

// stop asks the server to end, and waits for it.
func (s *server) stop() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("after SIGTERM: %v", err)
	}
	s.cmd = nil
}

// files reads all that the server wrote, at least its data file.
func (s *server) files(fn func(path string, b []byte)) {
	s.t.Helper()
	found := false
	err := filepath.WalkDir(s.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		found = found || bytes.Contains(b, []byte("plain/seal"))
		fn(path, b)
		return err
	})
	if err != nil || !found {
		s.t.Fatalf("no data file was found: %v", err)
	}
}
