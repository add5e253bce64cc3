package process

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// run is a command of the binary in the server's folder, as root of the product.
func (s *server) run(token string, args ...string) *exec.Cmd {
	cmd := exec.Command(s.bin, args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "HOME="+s.dir, "BAO_ADDR=http://"+s.addr, "BAO_TOKEN="+token)
	return cmd
}

func (s *server) mustRun(token string, args ...string) string {
	s.t.Helper()
	out, err := s.run(token, args...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

const heavySecrets = 45

// heavy fills the server with secrets that take a while to bring elsewhere.
func (s *server) heavy(root string) {
	s.t.Helper()
	s.must("POST", "sys/mounts/heavy", root, map[string]string{"type": "kv"})
	for i := range heavySecrets {
		s.must("PUT", fmt.Sprintf("heavy/%d", i), root, map[string]string{"v": secretOf(i)})
	}
}

func secretOf(i int) string { return strings.Repeat(fmt.Sprintf("%09d.", i), 90_000) }

// isWhole unseals the server with the shares there were, and finds every secret.
func (s *server) isWhole(p people) {
	s.t.Helper()
	s.unseal(p)
	for i := range heavySecrets {
		data, _ := s.must("GET", fmt.Sprintf("heavy/%d", i), p.root, nil)["data"].(map[string]any)
		if data["v"] != secretOf(i) {
			s.t.Fatalf("secret %d is not what it was", i)
		}
	}
}

// killInTheMiddle runs a command that fills the data file in a folder, and kills it when it has come some way.
func (s *server) killInTheMiddle(folder string, args ...string) {
	s.t.Helper()
	const someWay = 20 << 20 // bytes: the file grows by 16 MiB at a time
	for range 5 {
		if err := os.RemoveAll(filepath.Join(s.dir, folder)); err != nil {
			s.t.Fatal(err)
		}
		cmd := s.run("", args...)
		if err := cmd.Start(); err != nil {
			s.t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		for done := false; !done; {
			select {
			case err := <-ended: // before we have seen how far it was
				if err != nil {
					s.t.Fatalf("%v: %v", args, err)
				}
				done = true
				continue
			case <-time.After(time.Millisecond):
			}
			info, err := os.Stat(filepath.Join(s.dir, folder, "quorate.db"))
			if err != nil || info.Size() < someWay {
				continue
			}
			cmd.Process.Kill()
			if err := <-ended; err != nil {
				return
			}
			done = true
		}
	}
	s.t.Fatal("five times the command ended before it could be killed")
}

// refusesToStart makes sure that no server starts over the store as it is.
func (s *server) refusesToStart(sentence string) {
	s.t.Helper()
	out, err := s.run("", "server", "-config=quorate.hcl").CombinedOutput()
	if err == nil || !strings.Contains(string(out), sentence) {
		s.t.Fatalf("a server over half a store: %v\n%s", err, out)
	}
}

// A machine is lost. What was saved from it comes back with the same key shares, also when the restore itself is killed in
// the middle: it is finished by running it again, and until then no server starts.
func TestSaveDestroyRestore(t *testing.T) {
	s := newServer(t)
	s.start()
	p := s.init(3, 2)
	s.unseal(p)
	s.heavy(p.root)
	s.mustRun(p.root, "operator", "snapshot", "save", "a.snap")
	s.kill()
	restore := []string{"operator", "snapshot", "restore", "-config=quorate.hcl", "a.snap"}

	s.killInTheMiddle("data", restore...)
	s.refusesToStart("run quorate operator snapshot restore again")
	s.mustRun("", restore...)
	s.start()
	s.isWhole(p)
	for _, canary := range append([]string{p.root}, p.shares...) {
		if file, err := os.ReadFile(filepath.Join(s.dir, "a.snap")); err != nil || strings.Contains(string(file), canary) {
			t.Errorf("the snapshot has a secret in it, %v", err)
		}
	}
}

// A migration that is killed in the middle goes on, and the store that it came from is as it was.
func TestKillInTheMiddleOfAMigration(t *testing.T) {
	s := newServer(t)
	s.start()
	p := s.init(3, 2)
	s.unseal(p)
	s.heavy(p.root)
	s.kill()
	for name, text := range map[string]string{
		"migrate.hcl": "storage_source \"bolt\" { path = \"data\" }\nstorage_destination \"bolt\" { path = \"moved\" }\n",
		"before.hcl":  fmt.Sprintf("storage \"bolt\" { path = \"data\" }\nlistener \"tcp\" { address = %q }\n", s.addr),
		"quorate.hcl": fmt.Sprintf("storage \"bolt\" { path = \"moved\" }\nlistener \"tcp\" { address = %q }\n", s.addr),
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.killInTheMiddle("moved", "operator", "migrate", "-config=migrate.hcl")
	s.refusesToStart("run quorate operator migrate again")
	s.mustRun("", "operator", "migrate", "-config=migrate.hcl")
	s.start()
	s.isWhole(p)
	s.kill()
	if err := os.Rename(filepath.Join(s.dir, "before.hcl"), filepath.Join(s.dir, "quorate.hcl")); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.isWhole(p)
}
