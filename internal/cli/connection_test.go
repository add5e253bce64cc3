package cli

import (
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// namedServer is a server whose status says its name as the version.
func namedServer(t *testing.T, name string) string {
	t.Helper()
	srv := httptest.NewServer(statusHandler(name))
	t.Cleanup(srv.Close)
	return srv.URL
}

func statusHandler(version string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/sys/leader" {
			reply(w, 200, `{"ha_enabled":false}`)
			return
		}
		reply(w, 200, map[string]any{"type": "shamir", "initialized": true, "version": version})
	}
}

func TestAddress(t *testing.T) {
	flag, bao, vault := namedServer(t, "flag"), namedServer(t, "bao"), namedServer(t, "vault")
	for _, c := range []struct{ name, flag, bao, vault, want string }{
		{"flag wins", flag, bao, vault, "flag"},
		{"then BAO_", "", bao, vault, "bao"},
		{"then VAULT_", "", "", vault, "vault"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			os.Unsetenv("BAO_ADDR")
			t.Setenv("VAULT_ADDR", c.vault)
			if c.bao != "" {
				t.Setenv("BAO_ADDR", c.bao)
			}
			args := []string{"status"}
			if c.flag != "" {
				args = append(args, "-address="+c.flag)
			}
			if got := r.ok(args...); !strings.Contains(got.out, "Version         "+c.want+"\n") {
				t.Errorf("asked another server:\n%s", got.out)
			}
		})
	}
}

func TestDefaultAddress(t *testing.T) {
	r := newRig(t)
	os.Unsetenv("BAO_ADDR")
	got := r.ok("list", "-output-curl-string", "secret")
	if !strings.Contains(got.out, `"http://127.0.0.1:8200/v1/secret?list=true"`) {
		t.Errorf("%s", got.out)
	}
	// A BAO_ variable that is set but empty hides the VAULT_ one.
	t.Setenv("VAULT_ADDR", "http://192.0.2.1:1")
	t.Setenv("BAO_ADDR", "")
	if got := r.ok("list", "-output-curl-string", "secret"); !strings.Contains(got.out, "127.0.0.1:8200") {
		t.Errorf("%s", got.out)
	}
}

func TestWrongAddress(t *testing.T) {
	r := newRig(t)
	r.fails(exitLocal, []string{"must begin with http://"}, "status", "-address=127.0.0.1:8200")
	dead := httptest.NewServer(http.NotFoundHandler())
	dead.Close()
	r.fails(exitLocal, []string{"reading the seal status", "hint: is the server running"}, "status", "-address="+dead.URL)
	r.fails(exitServer, []string{"error reading:", "hint: is the server running"}, "read", "-address="+dead.URL, "secret/a")
	https := "https" + strings.TrimPrefix(r.url, "http")
	r.fails(exitServer, []string{"hint: the server speaks plain http"}, "read", "-address="+https, "secret/a")
}

func TestUnixSocket(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no such sockets")
	}
	r := newRig(t)
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: statusHandler("socket")}}
	srv.Start()
	defer srv.Close()
	if got := r.ok("status", "-address=unix://"+path); !strings.Contains(got.out, "socket") {
		t.Errorf("%s", got.out)
	}
}

func TestTLS(t *testing.T) {
	r := newRig(t)
	srv := httptest.NewUnstartedServer(statusHandler("tls"))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	r.fails(exitLocal, []string{"certificate"}, "status", "-address="+srv.URL)
	r.ok("status", "-address="+srv.URL, "-ca-cert="+ca)
	r.ok("status", "-address="+srv.URL, "-tls-skip-verify")
	r.ok("status", "-address="+srv.URL, "-ca-cert="+ca, "-tls-server-name=example.com")
	r.fails(exitLocal, []string{"certificate"}, "status", "-address="+srv.URL, "-ca-cert="+ca, "-tls-server-name=example.org")
	r.fails(exitLocal, []string{"setting up TLS"}, "status", "-address="+srv.URL, "-ca-cert=/nonexistent")
	r.fails(exitLocal, []string{"setting up TLS"}, "status", "-address="+srv.URL, "-client-cert="+ca)
	t.Setenv("VAULT_CACERT", ca)
	r.ok("status", "-address="+srv.URL)
	r.ok("status", "-address="+srv.URL, "-tls-server-name=example.com") // a flag doesn't drop the variable's setting
}

func TestHeaders(t *testing.T) {
	r := newRig(t)
	r.on("GET secret/a", 200, `{"data":{"x":"1"}}`)
	t.Setenv("VAULT_NAMESPACE", "fromenv")
	r.ok("read", "-header=X-One=1=1", "-header", "X-Two=2", "-wrap-ttl=60", "secret/a")
	h := r.last().header
	for name, want := range map[string]string{
		"X-One": "1=1", "X-Two": "2", "X-Vault-Wrap-Ttl": "60", "X-Vault-Namespace": "fromenv", "X-Vault-Request": "true",
	} {
		if h.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, h.Get(name), want)
		}
	}
	r.ok("read", "-ns=flag", "secret/a")
	if got := r.last().header.Get("X-Vault-Namespace"); got != "flag" {
		t.Errorf("namespace %q", got)
	}
	got := r.fails(exitLocal, nil, "read", "-header=Authorization"+canary, "secret/a")
	hides(t, got.err)
}

func TestWhichToken(t *testing.T) {
	r := newRig(t)
	r.on("GET secret/a", 200, `{"data":{"x":"1"}}`)
	token := func() string {
		t.Helper()
		r.ok("read", "secret/a")
		return r.last().header.Get("X-Vault-Token")
	}
	want(t, "without any", token(), "")
	home, _ := os.UserHomeDir()
	file := filepath.Join(home, ".vault-token")
	if err := os.WriteFile(file, []byte(" stored\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, "from the file, trimmed", token(), "stored")
	other := filepath.Join(home, "elsewhere")
	os.WriteFile(other, []byte("elsewhere"), 0o600)
	t.Setenv("BAO_TOKEN_PATH", other)
	want(t, "from BAO_TOKEN_PATH", token(), "elsewhere")
	t.Setenv("VAULT_TOKEN", "vault")
	want(t, "VAULT_TOKEN over the file", token(), "vault")
	t.Setenv("BAO_TOKEN", "bao")
	want(t, "BAO_TOKEN over VAULT_TOKEN", token(), "bao")
	want(t, "print token", r.ok("print", "token").out, "bao\n")
	t.Setenv("BAO_TOKEN", "un\x01printable")
	r.fails(exitServer, []string{"non-printable"}, "read", "secret/a")
}

func TestNoToken(t *testing.T) {
	r := newRig(t)
	r.fails(exitLocal, []string{"there is no token"}, "print", "token")
	if err := os.Mkdir(filepath.Join(os.Getenv("HOME"), ".vault-token"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.fails(exitLocal, []string{"reading the stored token"}, "read", "secret/a")
	r.fails(exitLocal, []string{"reading the stored token"}, "print", "token")
}

// A token file that can't be read is no reason not to help whoever has no token.
func TestUnreadableTokenFile(t *testing.T) {
	s := newRootServer(t)
	s.status(unsealedStatus)
	s.on("GET sys/init", 200, `{"initialized":true}`)
	s.on("PUT sys/init", 200, `{"keys":["00"],"keys_base64":["AA=="],"root_token":"q.r"}`)
	s.on("PUT sys/unseal", 200, sealedStatus)
	if err := os.Mkdir(filepath.Join(os.Getenv("HOME"), ".vault-token"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.stdin = share(1)
	for _, args := range [][]string{
		{"status"},
		{"operator", "init", "-n=1", "-t=1"},
		{"operator", "init", "-status"},
		{"operator", "unseal", "-"},
		{"operator", "generate-root", "-init"},
		{"operator", "generate-root", "-nonce=00000000-0000-4000-8000-000000000001", "-"},
		{"operator", "generate-root", "-status"},
		{"operator", "generate-root", "-cancel"},
	} {
		got := s.ok(args...)
		if len(args) > 1 && args[1] == "generate-root" && !strings.Contains(got.err, "warning: going on without a token: reading the stored token: ") {
			t.Errorf("%v: no warning: %s", args, got.err)
		}
	}
	s.tty = &fakeTTY{answers: []string{share(1), share(2)}}
	want(t, "whole way", s.ok("operator", "generate-root").out, newToken)
	for _, req := range s.seen {
		if token := req.header.Get("X-Vault-Token"); token != "" {
			t.Errorf("%s %s carries a token", req.method, req.path)
		}
	}
}

func TestBrokenEnvironment(t *testing.T) {
	r := newRig(t)
	t.Setenv("BAO_SKIP_VERIFY", "perhaps")
	r.fails(exitLocal, []string{"reading the environment", "BAO_SKIP_VERIFY"}, "status")
}

func TestPrintedRequests(t *testing.T) {
	r := newRig(t)
	t.Setenv("BAO_TOKEN", "s.secret")
	got := r.ok("write", "-output-curl-string", "secret/a", "x=it's")
	if !strings.HasPrefix(got.out, "curl -X PUT ") || !strings.Contains(got.out, "$(quorate print token)") ||
		!strings.Contains(got.out, `-d '{"x":"it'"'"'s"}'`) || strings.Contains(got.out, "s.secret") {
		t.Errorf("%s", got.out)
	}
	want(t, "policy", r.ok("list", "-output-policy", "secret/a").out, "path \"secret/a\" {\n  capabilities = [\"list\"]\n}\n")
	// T56: a share never becomes an argument of curl.
	r.tty = &fakeTTY{answers: []string{canary}}
	for _, args := range [][]string{
		{"operator", "unseal", "-output-curl-string"},
		{"operator", "generate-root", "-nonce=n", "-output-curl-string"},
		{"operator", "generate-root", "-init", "-holder", "-output-curl-string"},
	} {
		got := r.ok(args...)
		if !strings.Contains(got.out, "-d '@-'") || !strings.Contains(got.err, `{"key":"<the share>"`) {
			t.Errorf("%v: %s%s", args, got.out, got.err)
		}
	}
	if len(r.tty.prompts) != 0 || len(r.seen) != 0 {
		t.Errorf("asked %q and sent %v", r.tty.prompts, r.seen)
	}
}

// What is printed for a shell means in it what was asked for: nothing is expanded but the token.
func TestPrintedRequestInShell(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("there is no sh")
	}
	r := newRig(t)
	t.Setenv("BAO_TOKEN", "s.secret")
	const odd = "a$HOME \"`echo b`\" $(echo c) \\'"
	t.Setenv("BAO_NAMESPACE", odd)
	got := r.ok("list", "-output-curl-string", "-header=X-Odd="+odd, "-wrap-ttl="+odd, "-after="+odd, "secret/$HOME/$(echo d)`echo e`")
	out, err := exec.Command(sh, "-c", "curl() { printf '<%s>\n' \"$@\"; }; quorate() { echo T; }\n"+got.out).CombinedOutput()
	text := string(out)
	for _, part := range []string{
		"<X-Odd: " + odd + ">", "<X-Vault-Wrap-Ttl: " + odd + ">", "<X-Vault-Namespace: " + odd + ">", "<X-Vault-Token: T>",
		"/v1/secret/$HOME/$%28echo%20d%29%60echo%20e%60?",
	} {
		if err != nil || !strings.Contains(text, part) {
			t.Errorf("%v: no %s in\n%s\nof\n%s", err, part, text, got.out)
		}
	}
}

// A name that leads out of its place is refused: the api module would resolve it, and delete a mount for a policy.
func TestDottedNames(t *testing.T) {
	r := newRig(t)
	for _, line := range []string{
		"policy delete ../../mounts/secret", "policy read x/../y", "policy write ../x -", "secrets disable ../auth/userpass", "auth disable ./x",
		"auth tune ../../x", "secrets enable -path=../auth/x kv", "secrets enable ../auth/x", "audit disable ../mounts/secret", "audit enable -path=.. file",
		"audit enable .. a=b", "audit hash .. -", "lease revoke -prefix ../../mounts/secret", "delete auth/userpass/users/../../../sys/mounts/secret",
		"read secret/../x", "list secret/..", "write secret/./x a=b", "write -f secret/../x",
	} {
		r.fails(exitLocal, []string{"no . or .. in it"}, strings.Fields(line)...)
	}
	if len(r.seen) > 0 {
		t.Errorf("sent %v", r.seen)
	}
	r.on("GET secret/a..b/.c", 200, `{"data":{"x":"y"}}`)
	r.ok("read", "secret/a..b/.c")
}

// A sealed server is told of at once: it stays sealed until people have met. Another 503 is tried again.
func TestRetries(t *testing.T) {
	r := newRig(t)
	t.Setenv("BAO_MAX_RETRIES", "3")
	r.answers["GET secret/a"] = func(w http.ResponseWriter, _ *http.Request) { refuse(w, 503, "Vault is sealed") }
	r.fails(exitServer, []string{"Code: 503", "* Vault is sealed\n", "hint: unseal it first"}, "read", "secret/a")
	if len(r.seen) != 1 {
		t.Errorf("%d requests", len(r.seen))
	}
	for _, c := range []struct {
		status int
		body   string
		want   bool
	}{
		{503, `{"errors":["Vault is sealed"]}`, false},
		{503, `{"errors":["the disk is full"]}`, true},
		{503, strings.Repeat("x", 1<<16) + "is sealed", true},
		{503, "", true},
		{502, `is sealed`, true},
		{500, `{"errors":["the request was carried out, but"]}`, false},
		{500, `{"errors":["internal error"]}`, true},
		{412, "", true},
		{400, "", false},
	} {
		resp := &http.Response{StatusCode: c.status, Body: io.NopCloser(strings.NewReader(c.body))}
		again, err := retry(t.Context(), resp, nil)
		if rest, _ := io.ReadAll(resp.Body); again != c.want || string(rest) != c.body {
			t.Errorf("%d %.40s: %v, %v; %d bytes left", c.status, c.body, again, err, len(rest))
		}
	}
	if again, _ := retry(t.Context(), nil, errors.New("connection reset")); !again {
		t.Error("no second try after a broken connection")
	}
}
