package clients

import (
	"bufio"
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bao "github.com/openbao/openbao/api/v2"

	"github.com/quorate/quorate/compat/harness"
	"github.com/quorate/quorate/internal/audit"
	"github.com/quorate/quorate/internal/httpapi"
	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/store/anystore"
)

// audited starts a server whose audit devices may be files of dir.
func audited(t *testing.T, dir string) *harness.Server {
	t.Helper()
	s := &harness.Server{Log: &harness.Buffer{}}
	logger := slog.New(slog.NewTextHandler(s.Log, nil))
	broker := audit.New(audit.Options{Logger: logger, Now: time.Now, Dir: dir})
	t.Cleanup(func() { broker.Close() })
	n, err := node.New(node.Options{Store: anystore.New(t), Logger: logger, Now: time.Now, Audit: broker})
	succeed(t, err)
	t.Cleanup(n.Close)
	api := httpapi.New(httpapi.Options{Node: n, Logger: logger, Now: time.Now, Version: "1.0.0", StorageType: "inmem", Audit: broker})
	s.Node, s.Nodes, s.HTTP = n, []*node.Node{n}, httptest.NewServer(api.Handler(httpapi.Listener{APIAddrLoopback: true}))
	t.Cleanup(s.HTTP.Close)
	s.URL = s.HTTP.URL
	res, err := n.Init(t.Context(), node.InitRequest{Shares: 1, Threshold: 1})
	succeed(t, err)
	s.Shares, s.Root = res.Keys, string(res.RootToken.Reveal())
	s.Unseal(t)
	return s
}

func TestAudit(t *testing.T) {
	dir := t.TempDir()
	eachClientOf(t, func(t *testing.T) *harness.Server { return audited(t, dir) }, func(t *testing.T, _ *harness.Server, c *client) {
		list := must[map[string]*bao.Audit](t)
		if got := list(c.sys.ListAudit()); len(got) != 0 {
			t.Errorf("devices of a new server: %v", got)
		}
		file := filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "-"))
		device := &bao.EnableAuditOptions{Type: "file", Description: "to disk", Options: map[string]string{"file_path": file}}
		succeed(t, c.sys.EnableAuditWithOptions("disk", device))
		got := list(c.sys.ListAudit())["disk/"]
		if got == nil || got.Type != "file" || got.Description != "to disk" || got.Options["file_path"] != file || got.Path != "disk/" {
			t.Errorf("the device: %+v", got)
		}
		c.want(t, c.sys.EnableAuditWithOptions("disk", device), http.StatusBadRequest, "")
		c.want(t, c.sys.EnableAuditWithOptions("x", &bao.EnableAuditOptions{Type: "pigeon"}), http.StatusBadRequest, "")
		outside := &bao.EnableAuditOptions{Type: "file", Options: map[string]string{"file_path": filepath.Join(t.TempDir(), "x")}}
		c.want(t, c.sys.EnableAuditWithOptions("x", outside), http.StatusBadRequest, "")

		mountKV(t, c, "secret", "2")
		must[*bao.KVSecret](t)(c.kv2("secret").Put(t.Context(), "a", object{"password": "correct horse"}))
		hash := must[string](t)(c.sys.AuditHash("disk", "correct horse"))
		log, err := os.ReadFile(file)
		succeed(t, err)
		if !strings.HasPrefix(hash, "hmac-sha256:") || !bytes.Contains(log, []byte(hash)) || bytes.Contains(log, []byte("correct horse")) {
			t.Errorf("hash %s in\n%s", hash, log)
		}
		shipped(t, log)

		succeed(t, c.sys.DisableAudit("disk"))
		succeed(t, c.sys.DisableAudit("disk"))
		before, _ := os.ReadFile(file)
		must[*bao.KVSecret](t)(c.kv2("secret").Get(t.Context(), "a"))
		if after, _ := os.ReadFile(file); !bytes.Equal(before, after) {
			t.Error("a disabled device was written to")
		}
	})
}

// shipped reads the log as log shippers do: one object on each line, a response for each request.
func shipped(t *testing.T, log []byte) {
	t.Helper()
	open := map[string]int{}
	for lines := bufio.NewScanner(bytes.NewReader(log)); lines.Scan(); {
		var line struct {
			Time    time.Time
			Type    string
			Request struct {
				ID, Operation, Path string
				RemoteAddress       string `json:"remote_address"`
			}
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil || line.Time.IsZero() || line.Request.Operation == "" {
			t.Fatalf("line %s: %v", lines.Bytes(), err)
		}
		if line.Request.Path == "sys/audit/test" { // of the device itself, from nobody
			continue
		}
		if line.Request.ID == "" || line.Request.RemoteAddress == "" {
			t.Errorf("line %s", lines.Bytes())
		}
		open[line.Request.Path] += map[string]int{"request": 1, "response": -1}[line.Type]
	}
	if n, there := open["secret/data/a"]; n != 0 || !there {
		t.Errorf("requests without responses: %v", open)
	}
}

// Nothing happens that no device can write down.
func TestAuditDown(t *testing.T) {
	dir := t.TempDir()
	eachClientOf(t, func(t *testing.T) *harness.Server { return audited(t, dir) }, func(t *testing.T, s *harness.Server, c *client) {
		mountKV(t, c, "kv", "1")
		file := filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "-"))
		succeed(t, c.sys.EnableAuditWithOptions("disk", &bao.EnableAuditOptions{Type: "file", Options: map[string]string{"file_path": file}}))
		succeed(t, s.Node.Audit.Close()) // its devices stay, and take nothing more
		c.retries(0)
		c.want(t, c.kv1("kv").Put(t.Context(), "a", object{"v": "1"}), http.StatusInternalServerError, "")
		_, err := c.tokens.Create(&bao.TokenCreateRequest{})
		c.want(t, err, http.StatusInternalServerError, "")
		_, err = c.fresh().logical.Unwrap("nobody's")
		if code, _ := c.failure(err); code < 500 {
			t.Errorf("an unwrapping without a trace: %v", err)
		}
	})
}
