package process

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// docs/applications.md, executed literally against a development server, which its first command starts.
func TestApplications(t *testing.T) {
	needs(t, "bash", "curl", "sed")
	text, err := os.ReadFile("../../docs/applications.md")
	if err != nil {
		t.Fatal(err)
	}
	script, blocks := walk(string(text))
	if blocks < 5 {
		t.Fatalf("%d blocks found", blocks)
	}
	s := newServer(t)
	s.dev = true
	s.start()
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", strings.ReplaceAll(script, "127.0.0.1:8200", s.addr))
	cmd.Dir = s.dir
	cmd.Env = []string{"HOME=" + s.dir, "PATH=" + os.Getenv("PATH"), "BAO_ADDR=http://" + s.addr}
	if err := os.Symlink(s.bin, filepath.Join(s.dir, "quorate")); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n--- server\n%s", err, out, s.log.String())
	}
	for _, want := range []string{
		`"db_password":"correct horse"`, "\ncorrect horse",
		"hint: permission denied on secret/data/other: your policies are app, default; none grants read",
		"the rule for this path doesn't grant that",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	applicationsConfigured(t, string(text), s.dir)
}

// applicationsConfigured starts a server with the configuration at the end of the page, and is its application.
func applicationsConfigured(t *testing.T, page, walked string) {
	_, config, found := strings.Cut(page, "```hcl file=server.hcl\n")
	config, _, closed := strings.Cut(config, "```")
	if !found || !closed {
		t.Fatal("the configuration is missing")
	}
	s := newServer(t)
	config = strings.NewReplacer("127.0.0.1:8200", s.addr, "/var/log/quorate", s.dir, "./data", filepath.Join(s.dir, "data")).Replace(config)
	policy, err := os.ReadFile(filepath.Join(walked, "app.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"quorate.hcl": config, "app.hcl": string(policy)} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	check := exec.CommandContext(t.Context(), s.bin, "server", "-config=quorate.hcl", "-check")
	check.Dir = s.dir
	out, err := check.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "write policy app") || !strings.Contains(string(out), "create role app") {
		t.Fatalf("-check: %v\n%s", err, out)
	}
	s.start()
	made := s.must("PUT", "sys/init", "", map[string]int{"secret_shares": 1, "secret_threshold": 1})
	root := made["root_token"].(string)
	s.must("PUT", "sys/unseal", "", map[string]any{"key": made["keys"].([]any)[0]})
	s.must("POST", "secret/data/app", root, map[string]any{"data": map[string]string{"k": "v"}})
	role := s.must("GET", "auth/approle/role/app/role-id", root, nil)
	secret := s.must("POST", "auth/approle/role/app/secret-id", root, nil)
	login := s.must("POST", "auth/approle/login", "", map[string]any{
		"role_id": role["data"].(map[string]any)["role_id"], "secret_id": secret["data"].(map[string]any)["secret_id"],
	})
	token := login["auth"].(map[string]any)["client_token"].(string)
	s.must("GET", "secret/data/app", token, nil)
	if code, _ := s.call("GET", "secret/data/other", token, nil); code != 403 {
		t.Errorf("another secret: %d", code)
	}
	entries, err := os.ReadFile(filepath.Join(s.dir, "audit.log"))
	if err != nil || strings.Count(string(entries), `"path":"secret/data/app"`) != 4 || strings.Contains(string(entries), root) {
		t.Errorf("the audit log: %v\n%s", err, entries)
	}
}

// needs skips the test where a tool is missing, but not in CI.
func needs(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is missing in CI", tool)
			}
			t.Skipf("SKIPPED LOUDLY: there is no %s on this machine, so the document was not run", tool)
		}
	}
}
