package clients

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/compat/harness"
)

// missing ends a test for which the machine lacks a library; .ci/run says which ones it has installed.
func missing(t *testing.T, library, what string) {
	t.Helper()
	if slices.Contains(strings.Fields(os.Getenv("QUORATE_CLIENTS")), library) {
		t.Fatalf("%s was installed, but %s is missing", library, what)
	}
	t.Skipf("SKIPPED LOUDLY: %s is missing on this machine, so the server was not tried with %s", what, library)
}

// drive runs a program that takes an uninitialised server from its first day on.
func drive(t *testing.T, name string, args ...string) {
	t.Helper()
	s := harness.Start(t, harness.Options{Uninitialised: true})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "VAULT_ADDR="+s.URL, "VAULT_TOKEN=", "VAULT_NAMESPACE=", "no_proxy=127.0.0.1", "NO_PROXY=127.0.0.1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s %v: %v\n%s", name, args, err, out)
	}
}

func TestNodeVault(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		missing(t, "node-vault", "Node.js")
	}
	if _, err := os.Stat("node/node_modules/node-vault"); err != nil {
		missing(t, "node-vault", "what `npm ci` installs in compat/clients/node")
	}
	drive(t, node, "node/main.js")
}

// The operating system's package belongs to its own interpreter, which need not be the first in the path.
func TestHVAC(t *testing.T) {
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if err := exec.Command(python, "-c", "import hvac").Run(); err == nil {
			drive(t, python, "python/main.py")
			return
		}
	}
	missing(t, "hvac", "Debian's package python3-hvac, or another hvac")
}
