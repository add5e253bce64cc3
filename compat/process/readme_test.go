package process

import (
	"encoding/base64"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func rawBase64(s string) ([]byte, error) { return base64.RawStdEncoding.DecodeString(s) }

// The README's walk-through, executed literally: its shell blocks in their order, in one shell, against the server
// that its first command starts. Only the port differs where the README's own is taken on this machine.
func TestREADME(t *testing.T) {
	for _, tool := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is missing in CI", tool)
			}
			t.Skipf("SKIPPED LOUDLY: there is no %s on this machine, so the README was not run", tool)
		}
	}
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	script, blocks := walk(string(b))
	if blocks < 4 || !strings.Contains(script, "go build -o quorate ./cmd/quorate\n") {
		t.Fatalf("%d blocks of the README's walk found", blocks)
	}
	s := newServer(t)
	if l, err := net.Listen("tcp", "127.0.0.1:8200"); err == nil {
		l.Close()
		s.addr, s.bare = "127.0.0.1:8200", true
	} else {
		t.Log("port 8200 is taken: the README runs with another one")
	}
	s.start()
	// The binary is the one that TestMain's package builds: from the same sources, by the same command.
	script = strings.Replace(script, "go build -o quorate ./cmd/quorate\n", "cp "+s.bin+" quorate\n", 1)
	script = strings.ReplaceAll(script, "127.0.0.1:8200", s.addr)
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = s.dir
	cmd.Env = []string{"HOME=" + s.dir, "PATH=" + os.Getenv("PATH"), "BAO_ADDR=http://" + s.addr}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n--- server\n%s", err, out, s.log.String())
	}
	for _, want := range []string{`"complete":true`, `"path":"auth/token/root"`, "Sealed", "policies"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the walk's output lacks %s:\n%s", want, out)
		}
	}
	if n := strings.Count(string(out), `"policies":["root"]`); n != 2 {
		t.Errorf("%d root tokens were shown by curl, want 2:\n%s", n, out)
	}
}

// walk collects the blocks that begin with ```sh walk.
func walk(readme string) (script string, blocks int) {
	inside := false
	for line := range strings.Lines(readme) {
		switch {
		case strings.HasPrefix(line, "```sh walk"):
			inside = true
			blocks++
		case strings.HasPrefix(line, "```"):
			inside = false
		case inside:
			script += line
		}
	}
	return script, blocks
}
