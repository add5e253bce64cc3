package cli

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/server"
)

// started is a server command whose server only says with what it was started.
func started(t *testing.T) (r *rig, cfg *config.Config, opts *server.Options) {
	r = newRig(t)
	cfg, opts = &config.Config{}, &server.Options{}
	r.serve = func(_ context.Context, c *config.Config, o server.Options) error {
		*cfg, *opts = *c, o
		return nil
	}
	return r, cfg, opts
}

func TestServerDefaults(t *testing.T) {
	r, cfg, opts := started(t)
	r.ok("server")
	if cfg.Storage.Type != config.StorageBolt || cfg.Listeners[0].Address != "127.0.0.1:8200" || opts.Dev != nil || opts.Version == "" {
		t.Errorf("%+v, %+v", cfg, opts)
	}
}

func TestServerConfig(t *testing.T) {
	r, cfg, opts := started(t)
	file := write(t, "q.hcl", `storage "inmem" {}
listener "tcp" { address = "127.0.0.1:8300" }
log_level = "warn"`)
	r.ok("server", "-config", file)
	if cfg.Listeners[0].Address != "127.0.0.1:8300" || cfg.LogLevel != slog.LevelWarn {
		t.Errorf("%+v", cfg)
	}
	r.ok("server", "-config="+filepath.Dir(file), "-log-level=TRACE", "-log-format=json")
	if cfg.LogLevel != config.LevelTrace || cfg.LogFormat != config.FormatJSON {
		t.Errorf("flags don't win over the file: %+v", cfg)
	}
	// What SIGHUP reads again has the flags over it too.
	if again, err := opts.Reload(); err != nil || again.LogLevel != config.LevelTrace {
		t.Errorf("%+v, %v", again, err)
	}
	t.Setenv("VAULT_LOG_LEVEL", "debug")
	r.ok("server")
	if cfg.LogLevel != slog.LevelDebug {
		t.Errorf("VAULT_LOG_LEVEL: %v", cfg.LogLevel)
	}
	if err := os.WriteFile(file, []byte("nonsense = 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.fails(exitLocal, []string{"error reading the configuration:", "q.hcl:1:"}, "server", "-config="+file)
	if _, err := opts.Reload(); err != nil {
		t.Errorf("the last server has no file to reload: %v", err)
	}
}

func TestServerDev(t *testing.T) {
	r, cfg, opts := started(t)
	r.ok("server", "-dev", "-dev-root-token-id=mine", "-dev-listen-address=127.0.0.1:0")
	if opts.Dev == nil || opts.Dev.RootTokenID != "mine" || opts.Dev.StoreToken == nil ||
		cfg.Storage.Type != config.StorageInmem || cfg.Listeners[0].Address != "127.0.0.1:0" {
		t.Errorf("%+v, %+v", cfg, opts.Dev)
	}
	path, err := opts.Dev.StoreToken("q.dev")
	if b, e := os.ReadFile(path); err != nil || e != nil || string(b) != "q.dev" || filepath.Dir(path) != os.Getenv("HOME") {
		t.Errorf("%s: %q, %v, %v", path, b, err, e)
	}
	for _, address := range []string{"localhost:0", "[::1]:0", "127.1.2.3:0"} {
		r.ok("server", "-dev", "-dev-listen-address="+address)
	}
	r.ok("server", "-dev", "-dev-no-store-token")
	if opts.Dev.StoreToken != nil || opts.Dev.RootTokenID != "" {
		t.Errorf("%+v", opts.Dev)
	}
	t.Setenv("BAO_DEV_ROOT_TOKEN_ID", "env-token")
	t.Setenv("BAO_DEV_LISTEN_ADDRESS", "127.0.0.1:1")
	r.ok("server", "-dev")
	if opts.Dev.RootTokenID != "env-token" || cfg.Listeners[0].Address != "127.0.0.1:1" {
		t.Errorf("%+v, %+v", cfg, opts.Dev)
	}
	if out := r.ok("server", "-h").out; strings.Contains(out, "env-token") {
		t.Errorf("the help shows a token:\n%s", out)
	}
	r.ok("server")
	if opts.Dev != nil || cfg.Listeners[0].Address != "127.0.0.1:8200" {
		t.Error("variables for -dev changed another server")
	}
}

func TestServerRefusals(t *testing.T) {
	r := newRig(t)
	r.serve = func(context.Context, *config.Config, server.Options) error { return errors.New("the port is taken") }
	r.fails(exitLocal, []string{"error running the server: the port is taken"}, "server")
	file := write(t, "q.hcl", "")
	r.fails(exitLocal, []string{"give the folder"}, "server", "-config=a", "-config=b")
	r.fails(exitLocal, []string{"exclude each other"}, "server", "-dev", "-config="+file)
	r.fails(exitLocal, []string{"-log-level is not one of"}, "server", "-log-level=loud")
	r.fails(exitLocal, []string{"log_format"}, "server", "-log-format=xml")
	r.fails(exitLocal, []string{"can't be read"}, "server", "-config=/nonexistent")
	r.fails(exitLocal, nil, "server", "-dev", "-dev-listen-address=nonsense")
	r.fails(exitLocal, nil, "server", "argument")
	for _, arg := range []string{"-dev-root-token-id=mine", "-dev-listen-address=127.0.0.1:0", "-dev-no-store-token"} {
		name, _, _ := strings.Cut(arg, "=")
		r.fails(exitLocal, []string{name + " needs -dev\n"}, "server", arg)
		r.fails(exitLocal, []string{name + " needs -dev\n"}, "server", "-config="+file, arg)
	}
	for _, address := range []string{"0.0.0.0:0", ":8200", "[::]:8200", "192.0.2.1:8200", "example.com:8200"} {
		got := r.fails(exitLocal, []string{"a dev server is for loopback only"}, "server", "-dev", "-dev-listen-address="+address)
		if strings.Contains(got.err, "tls_disable") {
			t.Errorf("advice that can't be followed: %s", got.err)
		}
		t.Setenv("BAO_DEV_LISTEN_ADDRESS", address)
		r.fails(exitLocal, []string{"a dev server is for loopback only"}, "server", "-dev")
	}
}

func TestServerCheck(t *testing.T) {
	r := newRig(t)
	r.serve = func(context.Context, *config.Config, server.Options) error { panic("started") }
	good := write(t, "q.hcl", `storage "inmem" {}
listener "tcp" { address = "127.0.0.1:0" }
disable_mlock = true`)
	r.fails(0, []string{"the configuration is valid"}, "server", "-check", "-config="+good)
	bad := write(t, "q.hcl", `storage "inmem" {}
listener "tcp" {
  address = "127.0.0.1:0"
  tls_cert_file = "/nonexistent"
  tls_key_file = "/nonexistent"
}`)
	r.fails(exitLocal, []string{"error checking the configuration:", "/nonexistent"}, "server", "-check", "-config="+bad)
}
