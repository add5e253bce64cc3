package server

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// ask does a request with a token and returns the status and the decoded reply.
func ask(t *testing.T, method, url, token string) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var out map[string]any
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, out
}

// banner takes the development server's announcement apart.
func banner(t *testing.T, r *running) (share, token string) {
	t.Helper()
	m := regexp.MustCompile(`(?s)WARNING!.*export BAO_ADDR='(.*?)'\n.*Unseal Key: (\S+)\nRoot Token: (\S+)\n`).FindStringSubmatch(r.stdout.String())
	if m == nil {
		t.Fatalf("standard output:\n%s", r.stdout)
	}
	if m[1] != r.url(0) {
		t.Errorf("address %q, want %q", m[1], r.url(0))
	}
	return m[2], m[3]
}

func TestDevServer(t *testing.T) {
	stored := ""
	r := start(t, memory(), Options{Dev: &DevOptions{StoreToken: func(token string) (string, error) {
		stored = token
		return "/home/somebody/.vault-token", nil
	}}})
	share, token := banner(t, r)
	if st := mustGet(t, http.DefaultClient, r.url(0)); st["sealed"] != false || st["n"] != 1.0 || st["t"] != 1.0 {
		t.Errorf("seal status %v", st)
	}
	if status, out := ask(t, "GET", r.url(0)+"/v1/auth/token/lookup-self", token); status != http.StatusOK {
		t.Errorf("the printed root token: status %d, %v", status, out)
	}
	if stored != token || !strings.Contains(r.stdout.String(), "/home/somebody/.vault-token") {
		t.Errorf("stored %q, printed %q:\n%s", stored, token, r.stdout)
	}
	if b, err := base64.StdEncoding.DecodeString(share); err != nil || len(b) != 32 {
		t.Errorf("the printed share has %d bytes, %v", len(b), err)
	}
	// The share is the real one, and none of it went to the log.
	req, _ := http.NewRequest("PUT", r.url(0)+"/v1/sys/seal", nil)
	req.Header.Set("X-Vault-Token", token)
	if res, err := http.DefaultClient.Do(req); err != nil || res.StatusCode != http.StatusNoContent {
		t.Fatalf("seal: %v, %v", res, err)
	}
	if st := put(t, r.url(0)+"/v1/sys/unseal", `{"key": "`+share+`"}`, http.StatusOK); st["sealed"] != false {
		t.Errorf("unseal with the printed share: %v", st)
	}
	if log := r.stderr.String(); strings.Contains(log, share) || strings.Contains(log, token) {
		t.Errorf("a secret is in the log:\n%s", log)
	}
	if strings.Contains(r.stderr.String(), "quorate operator") {
		t.Errorf("an unsealed server asks for more:\n%s", r.stderr)
	}
}

func TestDevRootTokenID(t *testing.T) {
	r := start(t, memory(), Options{Dev: &DevOptions{RootTokenID: "myroot"}})
	if _, token := banner(t, r); token != "myroot" {
		t.Errorf("printed root token %q", token)
	}
	status, out := ask(t, "GET", r.url(0)+"/v1/auth/token/lookup-self", "myroot")
	if data, _ := out["data"].(map[string]any); status != http.StatusOK || data["policies"].([]any)[0] != "root" {
		t.Errorf("status %d, %v", status, out)
	}
	// The token that init made is gone: nobody saw it.
	status, out = ask(t, "LIST", r.url(0)+"/v1/auth/token/accessors", "myroot")
	if data, _ := out["data"].(map[string]any); status != http.StatusOK || len(data["keys"].([]any)) != 1 {
		t.Errorf("accessors: status %d, %v", status, out)
	}
	if strings.Contains(r.stdout.String(), "is also in") {
		t.Errorf("the token was not stored, but:\n%s", r.stdout)
	}
}

func TestDevServerRefused(t *testing.T) {
	for name, c := range map[string]struct {
		dev  DevOptions
		want string
	}{
		"space in the token ID":   {DevOptions{RootTokenID: "my root"}, "without spaces"},
		"newline in the token ID": {DevOptions{RootTokenID: "root\n"}, "without spaces"},
		"token can't be stored": {
			DevOptions{StoreToken: func(string) (string, error) { return "", errors.New("disk full") }},
			"-dev-no-store-token",
		},
	} {
		if err := startError(t, memory(), Options{Dev: &c.dev}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
