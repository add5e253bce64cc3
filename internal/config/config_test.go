package config

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/audit"
	"github.com/quorate/quorate/internal/mount"
)

// load writes text as a file of the given name and loads it.
func load(t testing.TB, name, text string) (*Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(path)
}

// forget drops the positions, which differ between two ways to write the same.
func forget(c *Config) *Config {
	c.written, c.Storage.written, c.Ceremony.written, c.Cluster.written = place{}, place{}, place{}, place{}
	for i := range c.Listeners {
		c.Listeners[i].written = place{}
	}
	c.auditWritten = nil
	if i := c.Initialize; i != nil {
		for n := range i.Policies {
			i.Policies[n].written = place{}
		}
		for n := range i.Mounts {
			i.Mounts[n].written = place{}
		}
		for n := range i.Logins {
			i.Logins[n].written = place{}
		}
	}
	return c
}

func full() *Config {
	first := newListener(TCP)
	first.Address = "0.0.0.0:8200"
	first.TLSCertFile, first.TLSKeyFile = "/etc/quorate/server.pem", "/etc/quorate/server.key"
	first.TLSClientCAFile, first.TLSMinVersion = "/etc/quorate/clients.pem", tls.VersionTLS13
	first.Ceremonies, first.LocalAuthority = CeremoniesToken, true
	first.TrustedProxies = []netip.Prefix{
		netip.MustParsePrefix("10.1.2.3/32"), netip.MustParsePrefix("10.2.0.0/16"), netip.MustParsePrefix("2001:db8::/32"),
	}
	first.MaxRequestSize, first.MaxRequestDuration = 1<<20, 45*time.Second
	first.ReadHeaderTimeout, first.ReadTimeout, first.IdleTimeout = 5*time.Second, 20*time.Second, 2*time.Minute
	first.MaxConnections = 500
	first.ResponseHeaders = http.Header{"Strict-Transport-Security": {"max-age=31536000"}, "X-Who": {"quorate"}}
	first.OpenMetrics = true
	second := newListener(TCP)
	second.Address, second.TLSDisable, second.Ceremonies = "192.0.2.1:80", true, CeremoniesOpen
	third := newListener(Unix)
	third.Address, third.SocketMode = "/run/quorate/quorate.sock", 0o660
	return &Config{
		Storage:         Storage{Type: StorageBolt, Path: "/var/lib/quorate"},
		Listeners:       []Listener{first, second, third},
		APIAddr:         "https://quorate.example.org:8200",
		Cluster:         empty().Cluster,
		ClusterName:     "paris",
		LogLevel:        slog.LevelDebug,
		LogFormat:       FormatJSON,
		DefaultLeaseTTL: time.Hour,
		MaxLeaseTTL:     30 * 24 * time.Hour,
		PIDFile:         "/run/quorate/quorate.pid",
		Ceremony: Ceremony{
			UnapprovedTimeout: 10 * time.Minute, IdleTimeout: 2 * time.Hour, TotalTimeout: 48 * time.Hour, ResultTTL: time.Minute,
			VerificationTimeout: 7 * 24 * time.Hour,
		},
		Audit: []audit.Device{
			{Type: "file", Path: "main/", Description: "for the shipper", Options: map[string]string{"file_path": "/var/log/quorate/audit.log", "sync": "true"}},
			{Type: "socket", Path: "siem/", Local: true, Options: map[string]string{"address": "siem.example.org:514", "socket_type": "tcp"}},
		},
		AuditDir:   "/var/log/quorate",
		Initialize: fullInitialize(),
	}
}

func fullInitialize() *Initialize {
	return &Initialize{
		Policies: []Policy{
			{Name: "app", Text: "path \"secret/data/app\" {\n  capabilities = [\"read\"]\n}\n"},
			{Name: "Ops", Text: "path \"secret/*\" {\n  capabilities = [\"list\"]\n}\n"},
		},
		Mounts: []Mount{
			{Entry: mount.Entry{
				Path: "secret/", Type: "kv", Description: "what applications read", Options: map[string]string{"version": "2"},
				Config: mount.Config{DefaultLeaseTTL: time.Hour, MaxLeaseTTL: 2 * time.Hour},
			}},
			{Entry: mount.Entry{Path: "auth/userpass/", Type: "userpass"}},
			{Entry: mount.Entry{Path: "auth/machines/", Type: "approle"}},
		},
		Logins: []Login{
			{
				Kind: User, Name: "alice", Auth: "auth/userpass/", Policies: []string{"ops"}, Fields: map[string]any{"token_ttl": "8h"},
				PasswordHash: "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
			},
			{Kind: User, Name: "bob", Auth: "auth/userpass/", Fields: map[string]any{}, PasswordFile: "/run/secrets/bob"},
			{
				Kind: Role, Name: "app", Auth: "auth/machines/", Policies: []string{"app", "default"},
				Fields: map[string]any{"role_id": "app", "bind_secret_id": true, "secret_id_num_uses": int64(5), "secret_id_bound_cidrs": []string{"10.0.0.0/8"}},
			},
		},
	}
}

func TestFullFiles(t *testing.T) {
	for _, name := range []string{"testdata/full.hcl", "testdata/full.json"} {
		got, err := Load(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Warnings) != 2 || !strings.Contains(got.Warnings[0], "disable_mlock") || !strings.Contains(got.Warnings[1], `"bob" has no password file`) {
			t.Errorf("%s: warnings %q, want one about disable_mlock and one about bob", name, got.Warnings)
		}
		got.Warnings = nil
		if want := full(); !reflect.DeepEqual(forget(got), want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", name, got, want)
		}
	}
}

func TestDefaultsAreTheSafeOnes(t *testing.T) {
	written, err := load(t, "q.hcl", `
		storage "inmem" {}
		listener "tcp" { address = "127.0.0.1:8200" }`)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(forget(written), Dev()) {
		t.Errorf("what is not written differs from the built-in configuration:\ngot  %+v\nwant %+v", written, Dev())
	}
	for name, c := range map[string]*Config{"Default": Default(), "Dev": Dev()} {
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		l := c.Listeners[0]
		if l.Address != "127.0.0.1:8200" || !l.Loopback() || l.TLSDisable || l.TLSMinVersion != tls.VersionTLS12 ||
			l.SocketMode != 0o600 || l.Ceremonies != CeremoniesLocal || l.LocalAuthority || l.TrustedProxies != nil {
			t.Errorf("%s: listener %+v is not the safe default", name, l)
		}
		if l.ReadHeaderTimeout <= 0 || l.ReadTimeout <= 0 || l.IdleTimeout <= 0 || l.MaxRequestDuration <= 0 || l.MaxConnections <= 0 {
			t.Errorf("%s: listener %+v has no limit somewhere", name, l)
		}
		if !c.APIAddrLoopback() {
			t.Errorf("%s: an unset api_addr counts as not loopback", name)
		}
	}
	if s := Default().Storage; s.Type != StorageBolt || s.Path != "quorate-data" {
		t.Errorf("default storage %+v", s)
	}
	if s := Dev().Storage; s.Type != StorageInmem {
		t.Errorf("dev storage %+v", s)
	}
}

func TestNoListenerMeansLoopback(t *testing.T) {
	c, err := load(t, "q.hcl", `storage "inmem" {}`)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Listeners) != 1 || c.Listeners[0].Address != "127.0.0.1:8200" {
		t.Errorf("listeners %+v", c.Listeners)
	}
}

func TestJSONIsKnownByItsFirstCharacter(t *testing.T) {
	if _, err := load(t, "quorate.conf", "\n {\"storage\": {\"inmem\": {}}}"); err != nil {
		t.Error(err)
	}
	if _, err := load(t, "quorate.conf", `storage "inmem" {}`); err != nil {
		t.Error(err)
	}
	if _, err := load(t, "quorate.hcl", `{"storage": {"inmem": {}}}`); err == nil {
		t.Error("JSON in a file that ends in .hcl was accepted")
	}
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), ".hcl or .json") {
		t.Errorf("an empty folder: %v", err)
	}
	write("a.hcl", `storage "inmem" {}`)
	write("b.json", `{"log_level": "warn", "listener": {"tcp": {"address": "127.0.0.1:1"}}}`)
	write("c.hcl", `listener "tcp" { address = "127.0.0.1:2" }`)
	write("c.hcl.bak", `this is not read`)
	c, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if c.Storage.Type != StorageInmem || c.LogLevel != slog.LevelWarn || len(c.Listeners) != 2 {
		t.Errorf("merged: %+v", c)
	}
	write("d.hcl", `log_level = "info"`)
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "b.json") || !strings.Contains(err.Error(), "d.hcl:1") {
		t.Errorf("a setting in two files: %v", err)
	}
	write("d.hcl", "\n"+`storage "inmem" {}`)
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "d.hcl:2") || !strings.Contains(err.Error(), "a.hcl:1") {
		t.Errorf("a block in two files: %v", err)
	}
	// Many files can't get around the limit of size.
	write("d.hcl", "# "+strings.Repeat("x", maxSize/2))
	write("e.hcl", "# "+strings.Repeat("x", maxSize/2))
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "256 KiB") {
		t.Errorf("two files over the limit together: %v", err)
	}
	write("e.hcl", "")
	for i := range maxFiles {
		write(fmt.Sprintf("f%d.hcl", i), "")
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "limit of 64") {
		t.Errorf("too many files: %v", err)
	}
}

func TestUnreadable(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "absent.hcl")); err == nil || !strings.Contains(err.Error(), "absent.hcl") {
		t.Errorf("an absent file: %v", err)
	}
	if runtime.GOOS == "linux" {
		if _, err := Load("/dev/zero"); err == nil || !strings.Contains(err.Error(), "256 KiB") {
			t.Errorf("an endless file: %v", err)
		}
	}
}

func TestLogLevels(t *testing.T) {
	for name, want := range map[string]slog.Level{
		"trace": LevelTrace, "debug": slog.LevelDebug, "INFO": slog.LevelInfo, "warn": slog.LevelWarn,
		"Warning": slog.LevelWarn, "error": slog.LevelError, "err": slog.LevelError,
	} {
		c, err := load(t, "q.hcl", "storage \"inmem\" {}\nlog_level = \""+name+"\"")
		if err != nil || c.LogLevel != want {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
}

func TestLoopback(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:8200": true, "127.9.9.9:1": true, "[::1]:8200": true, "localhost:8200": true, "[::ffff:127.0.0.1]:1": true,
		":8200": false, "0.0.0.0:8200": false, "[::]:8200": false, "192.168.1.1:1": false, "localhost.example.org:1": false,
		"127.0.0.1.example.org:1": false, "nonsense": false, "": false,
	} {
		if l := (&Listener{Type: TCP, Address: address}); l.Loopback() != want {
			t.Errorf("Loopback of %q = %v", address, !want)
		}
	}
	if !(&Listener{Type: Unix, Address: "/run/q"}).Loopback() {
		t.Error("a unix socket is not loopback")
	}
	for addr, want := range map[string]bool{
		"": true, "http://127.0.0.1:8200": true, "https://[::1]:8200": true, "http://localhost": true,
		"https://vault.example.org": false, "http://10.0.0.1:8200": false, "http://[fe80::1]:1": false,
	} {
		if c := (&Config{APIAddr: addr}); c.APIAddrLoopback() != want {
			t.Errorf("APIAddrLoopback of %q = %v", addr, !want)
		}
	}
}

// What nobody wrote gives way to what somebody wrote.
func TestDefaultsFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q.hcl")
	text := "storage \"inmem\" {}\nmax_lease_ttl = \"24h\"\nceremony {\n  total_timeout = \"2m\"\n}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if c.DefaultLeaseTTL != 24*time.Hour || c.Ceremony.IdleTimeout != 2*time.Minute || c.Ceremony.UnapprovedTimeout != 2*time.Minute {
		t.Errorf("%v, %+v", c.DefaultLeaseTTL, c.Ceremony)
	}
}
