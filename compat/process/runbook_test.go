package process

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/quorate/quorate/internal/holder"
)

// step is one block of the runbook: commands, who types them, and what they must see.
type step struct {
	line   int // of the block in the document
	people []string
	script string
	fails  bool
	want   []string // lines that the output has, in any order; … stands for anything
}

// The runbook, executed literally: each person has a home of their own, a real server listens to them on TCP, where no
// connection has authority, and to its operator on a Unix socket. What people tell each other over the phone, and what
// happens to the server's machine, is in comments of the document, which readers don't see.
func TestRunbook(t *testing.T) {
	for _, tool := range []string{"bash", "base64", "sed"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is missing in CI", tool)
			}
			t.Skipf("SKIPPED LOUDLY: there is no %s on this machine, so the runbook was not run", tool)
		}
	}
	text, err := os.ReadFile("../../docs/ceremonies.md")
	if err != nil {
		t.Fatal(err)
	}
	steps := runbook(t, string(text))
	world := t.TempDir()
	output := live(t, world, script(t, world, steps))
	for i, s := range steps {
		_, out, found := strings.Cut(output, fmt.Sprintf("\x01%d\n", i))
		if !found {
			t.Fatalf("the block of line %d was not reached", s.line)
		}
		out, _, _ = strings.Cut(out, "\x01")
		if missing := firstMissing(out, s.want); missing != "" {
			t.Errorf("docs/ceremonies.md, block of line %d, lacks %q in its output:\n%s", s.line, missing, out)
		}
	}
	nobodyElseHasAShare(t, world)
	mentionedCommands(t, string(text))
}

// runbook reads the blocks that begin with ```sh walk PEOPLE, each with the ```text after it, and the comments that
// begin with <!-- walk PEOPLE.
func runbook(t *testing.T, text string) (steps []step) {
	t.Helper()
	inside, seen := "", 0
	for i, line := range strings.Split(text, "\n") {
		fence, comment := strings.CutPrefix(line, "```sh walk ")
		if !comment {
			fence, comment = strings.CutPrefix(line, "<!-- walk ")
		}
		switch {
		case inside == "" && comment:
			inside = "script"
			people := strings.Fields(fence)
			s := step{line: i + 1, people: people}
			if last := len(people) - 1; people[last] == "fails" {
				s.people, s.fails = people[:last], true
			}
			steps = append(steps, s)
		case inside == "" && line == "```text":
			inside = "want"
			seen++
		case line == "```", line == "-->":
			inside = ""
		case inside == "" && strings.HasPrefix(line, "```"):
			t.Fatalf("line %d: a block that this test doesn't execute", i+1)
		case inside == "script":
			steps[len(steps)-1].script += line + "\n"
		case inside == "want":
			steps[len(steps)-1].want = append(steps[len(steps)-1].want, line)
		}
	}
	if len(steps) < 40 || seen < 20 {
		t.Fatalf("%d blocks and %d outputs found in the runbook", len(steps), seen)
	}
	return steps
}

const stage = `
set -euo pipefail
umask 022
halt() { kill "$(cat "$server/pid")"; while kill -0 "$(cat "$server/pid")" 2>/dev/null; do sleep 0.05; done; }
boot() {
	(cd "$server" && exec quorate server -config quorate.hcl >> log 2>&1) &
	echo $! > "$server/pid"
	for _ in $(seq 200); do
		case $(BAO_ADDR=http://$address quorate operator init -status -format=json 2>/dev/null || true) in *initialized*) return ;; esac
		sleep 0.05
	done
	cat "$server/log"; return 1
}
person() {
	me=$1 slot=0
	for name in amara bola chen dae elena felipe gloria; do slot=$((slot + 1)); if [ "$name" = "$me" ]; then break; fi; done
	mkdir -p "$world/$me"
	cd "$world/$me"
	export HOME=$PWD
}
boot
`

// script is the whole runbook as one shell script.
func script(t *testing.T, world string, steps []step) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	server := filepath.Join(world, "server")
	socket := filepath.Join(server, "q.sock")
	config := fmt.Sprintf("storage \"bolt\" { path = \"data\" }\nlistener \"tcp\" {\n address = %q\n ceremonies = \"token\"\n}\nlistener \"unix\" { address = %q }\n",
		address, socket)
	for _, dir := range []string{server, filepath.Join(world, "mail")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(server, "quorate.hcl"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "world=%s server=%s mail=%s address=%s\n%s", world, server, filepath.Join(world, "mail"), address, stage)
	for i, s := range steps {
		fmt.Fprintf(&b, "printf '\\001%d\\n'\nfor name_ in %s; do\nperson $name_\n", i, strings.Join(s.people, " "))
		reach := "http://" + address
		if slices.Equal(s.people, []string{"oscar"}) {
			reach = "unix://" + socket
		}
		fmt.Fprintf(&b, "export BAO_ADDR=%s\n", reach)
		if s.fails {
			fmt.Fprintf(&b, "if (\n%s); then echo 'line %d: this should have failed'; exit 1; fi\n", s.script, s.line)
		} else {
			b.WriteString(s.script)
		}
		b.WriteString("done\n")
	}
	b.WriteString("halt\n")
	return strings.NewReplacer("https://quorate.example.org:8200", "http://"+address, "unix:///run/quorate/quorate.sock", "unix://"+socket).Replace(b.String())
}

// live runs the script with the programs that it needs.
func live(t *testing.T, world, script string) string {
	t.Helper()
	bin := t.TempDir()
	if err := os.Symlink(build(t), filepath.Join(bin, "quorate")); err != nil {
		t.Fatal(err)
	}
	tools := exec.Command("go", "build", "-o", bin+"/", "filippo.io/age/cmd/age", "filippo.io/age/cmd/age-keygen")
	if out, err := tools.CombinedOutput(); err != nil {
		t.Fatalf("building age: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
	cmd.Dir, cmd.Env = world, []string{"PATH=" + bin + ":" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	err := cmd.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }) // the server too, if the script failed
	if err := cmd.Wait(); err != nil {
		log, _ := os.ReadFile(filepath.Join(world, "server", "log"))
		t.Fatalf("%v\n%s\n--- server\n%s", err, output.String(), log)
	}
	return output.String()
}

// mentionedCommands holds the commands and flags that the prose mentions against what the binary knows.
func mentionedCommands(t *testing.T, text string) {
	t.Helper()
	mentioned := regexp.MustCompile("`quorate ([^`]+)`").FindAllStringSubmatch(text, -1)
	if len(mentioned) < 8 {
		t.Fatalf("%d commands found in the prose", len(mentioned))
	}
	for _, m := range mentioned {
		var words, flags []string
		for _, word := range strings.Fields(m[1]) {
			switch {
			case strings.HasPrefix(word, "-"):
				name, _, _ := strings.Cut(word, "=")
				flags = append(flags, "--"+strings.TrimLeft(name, "-"))
			case len(flags) == 0 && word == strings.ToLower(word) && word[0] != '$':
				words = append(words, word)
			}
		}
		help, err := exec.Command(build(t), append(words, "-h")...).CombinedOutput()
		if err != nil || !strings.Contains(string(help), "quorate "+strings.Join(words, " ")+" ") {
			t.Errorf("there is no command quorate %s: %v\n%s", strings.Join(words, " "), err, help)
		}
		for _, flag := range flags {
			if !strings.Contains(string(help), " "+flag) {
				t.Errorf("quorate %s has no flag %s", strings.Join(words, " "), flag)
			}
		}
	}
}

// firstMissing is the first line of want that out hasn't. A line of out stands for one line of want; their order depends
// on which pipe is faster.
func firstMissing(out string, want []string) string {
	var lines []string
	for line := range strings.Lines(out) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	for _, w := range want {
		pattern := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(w), "…", ".+") + "$")
		at := slices.IndexFunc(lines, pattern.MatchString)
		if at < 0 {
			return w
		}
		lines = slices.Delete(lines, at, at+1)
	}
	return ""
}

// nobodyElseHasAShare looks for every holder's present share outside of that holder's home: in what the operator and
// the auditor have, in the mail, and in all that the server wrote.
func nobodyElseHasAShare(t *testing.T, world string) {
	t.Helper()
	homes := 0
	for _, me := range []string{"amara", "bola", "chen", "dae", "elena", "felipe", "gloria"} {
		text, err := os.ReadFile(filepath.Join(world, me, "share"))
		if err != nil {
			t.Fatal(err)
		}
		armour, err := holder.ParseArmour(bytes.TrimSpace(text))
		if err != nil {
			t.Fatal(err)
		}
		raw := armour.Share.Reveal()
		forms := [][]byte{bytes.TrimSpace(text), raw, []byte(hex.EncodeToString(raw)), []byte(base64.StdEncoding.EncodeToString(raw))}
		err = filepath.WalkDir(world, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			own := strings.HasPrefix(path, filepath.Join(world, me)+string(filepath.Separator))
			for _, form := range forms {
				if bytes.Contains(b, form) && !own {
					t.Errorf("%s holds the share of %s", path, me)
				}
			}
			if own && filepath.Base(path) == "share" {
				homes++
				if info, err := d.Info(); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("the share of %s can be read by others: %v %v", me, info.Mode(), err)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if homes != 7 {
		t.Errorf("%d holders have a share in the end, want 7, Gloria's old one included", homes)
	}
}
