package process

import (
	"bytes"
	"encoding/base64"
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

	"github.com/quorate/quorate/internal/shamir"
)

// canaries are the secrets that this test knows. :: what it is → its bytes
type canaries map[string][]byte

// forms are the ways in which b may be written: as it is, in hex, and in base64, of which only the middle is the same
// wherever in a longer text it stands.
func forms(b []byte) [][]byte {
	text := hex.EncodeToString(b)
	all := [][]byte{b, []byte(text), []byte(strings.ToUpper(text))}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			encoded := enc.EncodeToString(append(make([]byte, before), b...))
			all = append(all, []byte(encoded[4:len(encoded)-4]))
		}
	}
	return all
}

// absent says where in b which canary is.
func (c canaries) absent(t testing.TB, where string, b []byte) {
	t.Helper()
	for name, value := range c {
		for i, form := range forms(value) {
			if bytes.Contains(b, form) {
				t.Errorf("%s holds %s, in form %d", where, name, i)
			}
		}
	}
}

func TestCanariesAreFound(t *testing.T) {
	secret := []byte("\x01a secret of some bytes\xff")
	for _, encode := range []func([]byte) string{
		func(b []byte) string { return string(b) }, hex.EncodeToString, base64.StdEncoding.EncodeToString, base64.RawURLEncoding.EncodeToString,
	} {
		for _, before := range []string{"", "x", "xy", "xyz"} {
			text := []byte(encode([]byte(before + string(secret) + "after")))
			found := false
			for _, form := range forms(secret) {
				found = found || bytes.Contains(text, form)
			}
			if !found {
				t.Errorf("not found in %q", text)
			}
		}
	}
}

// wrongly sends secrets in the ways that end in an error, and looks at the errors.
func (s *server) wrongly(c canaries, texts ...string) {
	s.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, text := range texts {
		for _, path := range []string{
			"sys/init", "sys/unseal", "sys/generate-root/attempt", "sys/generate-root/update", "sys/root-generation/attempt",
			"sys/root-generation/update", "sys/generate-root-token/update", "sys/decode-token", "auth/token/lookup", "auth/token/create",
			"auth/token/revoke-accessor", "sys/" + strings.ReplaceAll(text, "/", "%2f"),
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
				if err != nil || res.StatusCode < 400 {
					s.t.Fatalf("%s %s: %d %s %v", path, body, res.StatusCode, reply, err)
				}
				c.absent(s.t, "the error of "+path, reply)
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
	c := canaries{"the root token": []byte(p.root)}
	var raw [][]byte
	for i, text := range p.shares {
		share, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
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
	s.noCoreDumps()
	s.stop()

	log := s.log.String()
	if !strings.Contains(log, nonce) || !strings.Contains(log, "request") {
		t.Fatalf("the log is not as talkative as this test needs it:\n%.2000s", log)
	}
	c.absent(t, "the log", []byte(log))
	s.files(func(path string, b []byte) { c.absent(t, path, b) })
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
