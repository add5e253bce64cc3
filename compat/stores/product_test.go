package stores

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/compat/engines"
	"github.com/quorate/quorate/compat/harness"
	"github.com/quorate/quorate/internal/store/anystore"
)

// suites are the tests of the product's behaviour that are run again over each engine. What is left out takes long and
// shows nothing of the store that the others don't: loops over all routes and spellings, random models, waits.
var suites = []struct {
	pkg, run, skip string
	nodes          string
}{
	{
		"internal/node", "Racing|AtOnce|Against|EveryNode|AcrossNodes|TwoNodes|BindsEach|HandOver$|OneUnwraps|OneAuditKey|Promise6|" +
			"Unverified|WithRotation|Move$|Drill|LimitedUse|RevokeLeases|PutBack|Snapshot", "SameCompleting|LastShare$|RevokedLogins", "1",
	},
	{"internal/token", "^Test(Uses|Revoke|SameID$|Sweep$|SweepInterrupted|Leas|TwoNodes|OldSnapshot|Roots|Renew)", "", "1"},
	{"internal/engine/kv", "^Test", "", "1"},
	{"internal/engine/cubbyhole", "^Test", "", "1"},
	{"internal/auth/userpass", "^Test", "", "1"},
	{
		"internal/httpapi", "^Test(Races|CancelRaces|Rekey|Polic|Mounts|Remount|Tune|Result|GenerateRoot|RootGeneration|Wrapping|Leases|" +
			"RevokePrefix|CreateToken|Lookup|Renew|Revoke|NumUses|Transcript|SealOneOfSeveral|FirstRequest|Rotate|Init|Unseal)", "RekeyRaces", "1",
	},
	{"compat/wire", "^TestWire$", "", "3"},
	{"compat/clients", "^Test", "AuditDown|Userpass|RateLimit|Lockout|Lease|^TestRotate|Hvac|NodeVault|Curl|CLI", "3"},
}

// TestProduct runs the product's own tests over the engines, and those of the wire and of the clients in front of three
// nodes that share one. A store in memory that runs every function twice comes first: what fails there needs no engine.
func TestProduct(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	bin := buildSuites(t, root)
	t.Run("Rerun", func(t *testing.T) { runSuites(t, root, bin, anystore.Engine+"=rerun") })
	t.Run("PostgreSQL", func(t *testing.T) {
		server := engines.PostgreSQL(t)
		runSuites(t, root, bin, anystore.Engine+"=postgresql", anystore.PostgreSQL+"="+server.URL("postgres"))
	})
	t.Run("etcd", func(t *testing.T) {
		cluster := engines.Etcd(t)
		runSuites(t, root, bin, anystore.Engine+"=etcd", anystore.Etcd+"="+strings.Join(cluster.Endpoints(), ","))
	})
}

// buildSuites returns the directory of the test binaries.
func buildSuites(t *testing.T, root string) string {
	t.Helper()
	bin := t.TempDir()
	args := []string{"test", "-c", "-o", bin + string(filepath.Separator)}
	for _, s := range suites {
		args = append(args, "./"+s.pkg)
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the tests: %v\n%s", err, out)
	}
	return bin
}

func runSuites(t *testing.T, root, bin string, environment ...string) {
	for _, s := range suites {
		t.Run(path.Base(s.pkg), func(t *testing.T) {
			t.Parallel() // they wait for the disk more than they work
			cmd := exec.CommandContext(t.Context(), filepath.Join(bin, path.Base(s.pkg)+".test"),
				"-test.short", "-test.v", "-test.run="+s.run, "-test.skip="+s.skip, "-test.timeout=5m")
			cmd.Dir = filepath.Join(root, filepath.FromSlash(s.pkg))
			cmd.Env = append(append(os.Environ(), environment...), harness.Nodes+"="+s.nodes)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, failures(string(out)))
			}
			if n := strings.Count(string(out), "\n--- PASS: "); n < 2 && s.pkg != "compat/wire" {
				t.Errorf("only %d tests ran:\n%s", n, out)
			}
		})
	}
}

// failures is the output without the tests that passed.
func failures(out string) string {
	var kept []string
	for line := range strings.Lines(out) {
		if text := strings.TrimSpace(line); !strings.HasPrefix(text, "=== ") && !strings.HasPrefix(text, "--- PASS") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}
