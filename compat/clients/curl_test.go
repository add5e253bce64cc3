package clients

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/compat/harness"
)

// curl runs the real curl with the arguments that the two documents print, and returns status code and body.
type curl struct {
	t   *testing.T
	url string
	dir string
}

func newCurl(t *testing.T, s *harness.Server) *curl {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("curl is missing in CI")
		}
		t.Skip("SKIPPED LOUDLY: there is no curl on this machine, so the documents' own commands were not run")
	}
	return &curl{t, s.URL, t.TempDir()}
}

func (c *curl) run(path string, args ...string) (code, body string) {
	c.t.Helper()
	args = append([]string{"--silent", "--show-error", "--write-out", "\n%{http_code}"}, args...)
	cmd := exec.CommandContext(c.t.Context(), "curl", append(args, c.url+"/v1"+path)...)
	cmd.Dir = c.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.t.Fatalf("curl %v: %v\n%s", args, err, out)
	}
	i := strings.LastIndexByte(string(out), '\n')
	return string(out[i+1:]), strings.TrimSpace(string(out[:i]))
}

// want runs curl and demands a 200 whose fields are as given; it returns all of them.
func (c *curl) want(fields map[string]any, path string, args ...string) map[string]any {
	c.t.Helper()
	code, body := c.run(path, args...)
	if code != "200" {
		c.t.Fatalf("%s %v: %s %s", path, args, code, body)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		c.t.Fatalf("%s: %v in %s", path, err, body)
	}
	for name, value := range fields {
		if got[name] != value {
			c.t.Errorf("%s: %s is %v, want %v", path, name, got[name], value)
		}
	}
	return got
}

func (c *curl) payload(share, nonce string) {
	c.t.Helper()
	b, _ := json.Marshal(map[string]string{"key": share, "nonce": nonce})
	if err := os.WriteFile(filepath.Join(c.dir, "payload.json"), b, 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// Seed 2, in the order of its text, with its own command lines.
func TestCurlFollowsSeed2(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	c := newCurl(t, s)
	const attempt, update = "/sys/generate-root/attempt", "/sys/generate-root/update"

	// "Read root generation progress"
	c.want(map[string]any{"started": false, "required": 3.0, "otp_length": 24.0, "pgp_fingerprint": "", "encoded_token": ""}, attempt)
	// "Start root token generation"; only a single attempt at a time.
	st := c.want(map[string]any{"started": true, "complete": false, "otp_length": 24.0}, attempt, "--request", "POST")
	otp, nonce := st["otp"].(string), st["nonce"].(string)
	if len(otp) != 24 {
		t.Errorf("the OTP has %d characters", len(otp))
	}
	if code, _ := c.run(attempt, "--request", "POST"); code != "400" {
		t.Errorf("a second start: %s", code)
	}
	// "it will be returned only once, on the response to the start request"
	c.want(map[string]any{"otp": "", "nonce": nonce}, attempt)
	// "Cancel root generation": clears any progress; needed to change the OTP.
	c.payload(s.Hex(0), nonce)
	c.want(map[string]any{"progress": 1.0}, update, "--request", "POST", "--data", "@payload.json")
	if code, body := c.run(attempt, "--request", "DELETE"); code != "204" || body != "" {
		t.Errorf("cancel: %s %q", code, body)
	}
	c.want(map[string]any{"started": false, "progress": 0.0, "nonce": ""}, attempt)
	st = c.want(nil, attempt, "--request", "POST")
	if st["otp"] == otp || st["nonce"] == nonce {
		t.Error("the new attempt has the OTP or the nonce of the old one")
	}
	otp, nonce = st["otp"].(string), st["nonce"].(string)
	// "Provide key share to generate root": with each call the nonce.
	for i := range 3 {
		c.payload(s.Hex(i), nonce)
		st = c.want(map[string]any{"started": true, "nonce": nonce, "progress": float64(i + 1), "required": 3.0, "complete": i == 2, "pgp_fingerprint": ""},
			update, "--request", "POST", "--data", "@payload.json")
	}
	token := decode(t, st["encoded_token"].(string), otp)
	self := c.want(nil, "/auth/token/lookup-self", "--header", "X-Vault-Token: "+token)
	if self["data"].(map[string]any)["display_name"] != "root" {
		t.Errorf("the token: %v", self)
	}
}

// Seed 1, in the order of its text.
func TestCurlFollowsSeed1(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	c := newCurl(t, s)
	const attempt, update = "/sys/root-generation/attempt", "/sys/root-generation/update"
	const mine = "X-Vault-Token: the-token-of-my-own-choice"

	c.want(map[string]any{"started": false, "nonce": "", "progress": 0.0, "required": 3.0, "complete": false}, attempt)
	// "There are no parameters; the token supplied for the attempt will be used as the token ID of the new root token"
	st := c.want(map[string]any{"started": true, "progress": 0.0, "required": 3.0, "complete": false}, attempt, "--request", "PUT", "--header", mine)
	first := st["nonce"]
	// "Only a single root generation attempt can take place at a time"
	if code, _ := c.run(attempt, "--request", "PUT", "--header", "X-Vault-Token: another-token-of-my-choice"); code != "400" {
		t.Errorf("a second start: %s", code)
	}
	// "This must be called to change the token ID being used", and a new attempt "will also provide a new nonce".
	if code, body := c.run(attempt, "--request", "DELETE"); code != "204" || body != "" {
		t.Errorf("cancel: %s %q", code, body)
	}
	st = c.want(map[string]any{"started": true}, attempt, "--request", "PUT", "--header", mine)
	nonce := st["nonce"].(string)
	if nonce == first {
		t.Error("the nonce did not change")
	}
	// "The attempt nonce must be provided with each call."
	if code, body := c.run(update, "--request", "PUT", "--data", `{"key":"`+s.Hex(0)+`"}`); code != "400" || strings.Contains(body, nonce) {
		t.Errorf("without a nonce: %s %s", code, body)
	}
	for i := range 3 {
		c.payload(s.Hex(i), nonce)
		c.want(map[string]any{"started": true, "nonce": nonce, "progress": float64(i + 1), "required": 3.0, "complete": i == 2},
			update, "--request", "PUT", "--data", "@payload.json")
	}
	self := c.want(nil, "/auth/token/lookup-self", "--header", mine)
	if self["data"].(map[string]any)["path"] != "auth/token/root" {
		t.Errorf("the token: %v", self)
	}
}
