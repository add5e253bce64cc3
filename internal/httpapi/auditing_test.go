package httpapi

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/audit"
)

// audited is a server whose audit devices may be files of one folder, which it returns. One of them is configured.
func audited(t *testing.T) (s *server, dir string) {
	t.Helper()
	s, dir = newServer(t), t.TempDir()
	s.node.Audit = audit.New(audit.Options{Logger: slog.New(slog.NewJSONHandler(s.log, nil)), Now: s.clock.now, Dir: dir})
	s.api.Audit = s.node.Audit
	t.Cleanup(func() { s.node.Audit.Close() })
	configured := audit.Device{Path: "configured/", Type: "file", Options: map[string]string{"file_path": filepath.Join(dir, "configured.log")}}
	if err := s.node.Audit.SetConfigured([]audit.Device{configured}); err != nil {
		t.Fatal(err)
	}
	s.init(1, 1)
	s.unseal(1)
	return s, dir
}

func TestAuditDevices(t *testing.T) {
	s, dir := audited(t)
	root := withToken(s.root)
	file := filepath.Join(dir, "audit.log")
	body := fmt.Sprintf(`{"type":"file","description":"to disk","options":{"file_path":%q}}`, file)
	s.do("PUT", "sys/audit/file", body, root).want(204)
	s.do("PUT", "sys/audit/file", body, root).want(400, "already")
	got := s.do("GET", "sys/audit", "", root).want(200)
	got.in("data").fieldsAre("configured/", "file/")
	for _, at := range []*response{got.in("file/"), got.in("data").in("file/")} {
		at.fieldsAre("path", "type", "description", "options", "local")
		at.is("type", "file")
		at.is("description", "to disk")
		at.in("options").is("file_path", file)
	}

	hash := s.do("POST", "sys/audit-hash/file", `{"input":"canary"}`, root).want(200)
	hash.in("data").is("hash", hash.str("hash"))
	if text := hash.str("hash"); !strings.HasPrefix(text, "hmac-sha256:") || len(text) != len("hmac-sha256:")+64 {
		t.Errorf("hash %q", text)
	}
	s.do("POST", "sys/policies/acl/canary", `{"policy":"canary"}`, root).want(400)
	log, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// What was sent is in the log as the hash says it is, and not otherwise.
	if !strings.Contains(string(log), `"policy":"`+hash.str("hash")+`"`) || strings.Contains(string(log), `"canary"`) || strings.Contains(string(log), s.root) {
		t.Errorf("the log: %s", log)
	}

	s.do("DELETE", "sys/audit/file", "", root).want(204)
	s.do("DELETE", "sys/audit/file", "", root).want(204)
	s.do("GET", "sys/audit", "", root).want(200).in("data").fieldsAre("configured/")
}

func TestAuditDevicesRefuse(t *testing.T) {
	s, dir := audited(t)
	root := withToken(s.root)
	outside := filepath.Join(t.TempDir(), "audit.log")
	for body, sentence := range map[string]string{
		`{}`:                "type",
		`{"type":"canary"}`: "",
		`{"type":"file"}`:   "file_path",
		`{"type":["canary"],"options":{"file_path":"x"}}`:                                               "string",
		fmt.Sprintf(`{"type":"file","options":{"file_path":%q}}`, outside):                              "",
		fmt.Sprintf(`{"type":"file","options":{"file_path":%q,"log_raw":"true"}}`, dir+"/a.log"):        "log_raw",
		fmt.Sprintf(`{"type":"file","options":{"file_path":%q,"canary":"1"}}`, dir+"/a.log"):            "",
		fmt.Sprintf(`{"type":"file","options":{"file_path":%q}}`, filepath.Join(dir, "..", "a.log")):    "",
		`{"type":"socket","options":{"address":"127.0.0.1:1"}}`:                                         "configuration",
		fmt.Sprintf(`{"type":"file","local":"canary","options":{"file_path":%q}}`, dir+"/a.log"):        "true or false",
		fmt.Sprintf(`{"type":"file","options":{"file_path":%q}}`, filepath.Join(dir, "none", "a.log")):  "",
		fmt.Sprintf(`{"type":"file","options":["canary"],"description":%q}`, filepath.Join(dir, "a.l")): "name=value",
	} {
		if got := s.do("PUT", "sys/audit/bad", body, root).want(400, sentence); strings.Contains(got.text, "canary") {
			t.Errorf("the body comes back: %s", got.text)
		}
	}
	s.do("PUT", "sys/audit/a%20b", `{"type":"stdout"}`, root).want(400, "path of an audit device")
	s.do("DELETE", "sys/audit/a%20b", "", root).want(400, "path of an audit device")
	s.do("DELETE", "sys/audit/configured", "", root).want(400, "configuration")
	s.do("POST", "sys/audit-hash/none", `{"input":"x"}`, root).want(404)
	s.do("POST", "sys/audit-hash/configured", `{"input":["x"]}`, root).want(400, "string")
	s.do("GET", "sys/audit", "", root).want(200).in("data").fieldsAre("configured/")
	if _, err := os.Stat(outside); !os.IsNotExist(err) {
		t.Error("a file was made outside of the folder:", err)
	}
}

// Everything about audit devices needs sudo.
func TestAuditNeedsSudo(t *testing.T) {
	s, _ := audited(t)
	weak := withToken(s.withPolicy("weak", `path "sys/audit*" { capabilities = ["create", "read", "update", "delete", "list"] }`))
	strong := withToken(s.withPolicy("strong", `path "sys/audit*" { capabilities = ["read", "update", "delete", "sudo"] }`))
	for _, c := range [][3]string{
		{"GET", "sys/audit", ""},
		{"PUT", "sys/audit/x", `{"type":"canary"}`},
		{"PUT", "sys/audit/x", `{"type":["canary"]}`},
		{"DELETE", "sys/audit/x", ""},
		{"POST", "sys/audit-hash/configured", `{"input":"x"}`},
		{"POST", "sys/audit-hash/configured", `{"input":["x"]}`},
	} {
		s.do(c[0], c[1], c[2], weak).wantErrors(403, "permission denied")
		if got := s.do(c[0], c[1], c[2], strong); got.code == 403 {
			t.Errorf("%s %s: %d %s", c[0], c[1], got.code, got.text)
		}
	}
}
