package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestCandidates(t *testing.T) {
	root := (&app{}).root()
	for _, c := range []struct {
		words []string
		want  string
	}{
		{nil, "audit auth ceremony completion delete kv lease list login operator policy print read secrets server share status token transcript unwrap version write connection"},
		{[]string{"s"}, "secrets server share status"},
		{[]string{"operator", ""}, "generate-root init key-status members migrate rekey rotate rotate-keys seal snapshot unseal"},
		{[]string{"operator", "generate-root", "-i"}, "-init"},
		{[]string{"operator", "generate-root", "--i"}, "--init"},
		{[]string{"operator", "init", "-key-shares=3", "-key-t"}, "-key-threshold"},
		{[]string{"status", "-format=j"}, "-format=json"},
		{[]string{"status", "--format="}, "--format=table --format=json --format=yaml"},
		{[]string{"status", "-format", "="}, "table json yaml"},
		{[]string{"status", "-format", "=", "y"}, "yaml"},
		{[]string{"status", "-format", "y"}, "yaml"},
		{[]string{"login", "-method="}, "-method=token -method=userpass -method=approle"},
		{[]string{"kv", "patch", "-method", "r"}, "rw"},
		{[]string{"kv", "metadata", ""}, "get put patch delete"},
		{[]string{"status", "-address=h"}, ""},
		{[]string{"completion", ""}, "bash zsh fish"},
		{[]string{"nonsense", "x"}, ""},
		{[]string{"_"}, ""},
	} {
		got := candidates(root, c.words)
		want := strings.Fields(c.want)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", c.words, got, want)
		}
	}
	// Every flag of every command can be completed, those for the connection too.
	if got := candidates(root, []string{"token", "create", "-"}); !slices.Contains(got, "-ca-cert") || !slices.Contains(got, "-ttl") || slices.Contains(got, "-i") {
		t.Errorf("%q", got)
	}
}

func TestCompletionScripts(t *testing.T) {
	r := newRig(t)
	for _, shell := range []string{"bash", "zsh", "fish"} {
		out := r.ok("completion", shell).out
		if !strings.Contains(out, "quorate __complete") {
			t.Errorf("%s: %s", shell, out)
		}
		checker, err := exec.LookPath(shell)
		if err != nil {
			continue
		}
		cmd := exec.Command(checker, "-n")
		cmd.Stdin = strings.NewReader(out)
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", shell, err, text)
		}
	}
}

// The words reach the program on its standard input, not as arguments: one of them may be a share.
func TestBashCompletion(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash")
	}
	dir := t.TempDir()
	spy := "#!/bin/sh\necho \"args: $*\" >>\"" + dir + "/seen\"\ncat >>\"" + dir + "/seen\"\necho one; echo 'two words'\n"
	if err := os.WriteFile(filepath.Join(dir, "quorate"), []byte(spy), 0o700); err != nil {
		t.Fatal(err)
	}
	script := bashCompletion + `
COMP_WORDS=(quorate operator unseal ` + canary + ` "")
COMP_CWORD=4
_quorate
printf '<%s>' "${COMPREPLY[@]}"
`
	cmd := exec.Command(bash, "-c", script)
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want(t, "candidates", string(out), "<one><two words>")
	seen, err := os.ReadFile(filepath.Join(dir, "seen"))
	if err != nil {
		t.Fatal(err)
	}
	want(t, "seen", string(seen), "args: __complete\noperator\nunseal\n"+canary+"\n\n")
}

func TestCompleteCommand(t *testing.T) {
	r := newRig(t)
	r.stdin = "operator\nse\n"
	want(t, "candidates", r.ok("__complete").out, "seal\n")
	r.stdin = ""
	if !strings.Contains(r.ok("__complete").out, "status\n") {
		t.Error("nothing typed yet completes to nothing")
	}
}
