package cli

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/creachadair/command"

	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/server"
)

func TestHelp(t *testing.T) {
	r := newRig(t)
	for _, args := range [][]string{
		{"help"},
		{"-h"},
		{"--help"},
		{"help", "operator", "init"},
		{"operator", "init", "-h"},
		{"operator", "-help", "init"},
		{"help", "connection"},
		{"write", "secret/a", "x=1", "--help"},
	} {
		got := r.run(args...)
		if got.code != 0 || got.err != "" || !strings.Contains(got.out, "Usage:") {
			t.Errorf("%v: exit %d, stdout %q, stderr %q", args, got.code, got.out, got.err)
		}
	}
	if got := r.ok("operator", "init", "-h"); !strings.Contains(got.out, "--key-shares") || !strings.Contains(got.out, "  quorate operator init [flags]\n") || strings.Contains(got.out, "--ca-cert") {
		t.Errorf("help of init has not its own flags, or those of every command:\n%s", got.out)
	}
	if got := r.ok("help", "connection"); !strings.Contains(got.out, "--ca-cert") {
		t.Errorf("no flags in:\n%s", got.out)
	}
	const pointer = "\nconnection flags: quorate help connection\n"
	for _, args := range [][]string{{"status"}, {"operator", "init"}, {"token", "create"}, {"read"}, {"login"}} {
		if got := r.ok(append(args, "-h")...); !strings.HasSuffix(got.out, pointer) {
			t.Errorf("%v: the help doesn't end with where the other flags are:\n%s", args, got.out)
		}
	}
	for _, args := range [][]string{{}, {"operator"}, {"connection"}, {"server"}, {"version"}, {"print", "token"}} {
		if got := r.ok(append([]string{"help"}, args...)...); strings.Contains(got.out, pointer) {
			t.Errorf("%v talks to no server:\n%s", args, got.out)
		}
	}
	if got := r.ok("help", "connection"); !strings.HasPrefix(got.out, "Usage:\n\n  quorate COMMAND [flags]\n") {
		t.Errorf("%s", got.out)
	}
	if len(r.seen) != 0 {
		t.Errorf("help asked the server: %v", r.seen)
	}
}

// Who asks for the help of what isn't there is told where to look.
func TestHelpForNothing(t *testing.T) {
	r := newRig(t)
	for _, args := range [][]string{{"help", canary}, {"help", "operator", canary}, {canary, "-h"}, {"operator", canary, "--help"}} {
		got := r.fails(exitLocal, []string{"no such command of quorate", "hint: quorate help lists the commands"}, args...)
		want(t, "stdout", got.out, "")
		hides(t, got.err)
	}
	r.fails(exitLocal, []string{"error: no such command of quorate operator\n"}, "help", "operator", "nonsense")
}

func TestFlagsInTheWrongPlace(t *testing.T) {
	r := newRig(t)
	for _, args := range [][]string{
		{"-address=" + canary, "status"}, {"-address", "x", "status"}, {"operator", "-address=x", "init"}, {"-" + canary}, {"token", "-format=json", "lookup"},
	} {
		got := r.fails(exitLocal, []string{"flags follow the command: quorate COMMAND [flags]"}, args...)
		hides(t, got.err)
	}
	r.fails(exitLocal, []string{"error: flag provided but not defined: -nonsense\nhint: quorate status -help shows its flags\n"}, "status", "-nonsense")
	r.fails(exitLocal, []string{"hint: quorate operator generate-root -help shows its flags\n"}, "operator", "generate-root", "-key=x")
	r.fails(exitLocal, []string{"invalid value", "hint: quorate token create -help shows its flags\n"}, "token", "create", "-ttl=soon")
	if len(r.seen) > 0 {
		t.Errorf("asked the server: %v", r.seen)
	}
}

func TestUsageErrors(t *testing.T) {
	r := newRig(t)
	for _, args := range [][]string{
		{},
		{"operator"},
		{"nonsense"},
		{"operator", "nonsense"},
		{"status", "extra"},
		{"status", "-nonsense"},
		{"status", "-format=xml"},
		{"status", "-format"},
		{"operator", "init", "-n=many"},
		{"operator", "init", "-status=perhaps"},
		{"read"},
		{"read", "a", "-nonsense"},
		{"list", "a", "b"},
		{"write", "secret/a"},
		{"write", "secret/a", "novalue"},
		{"delete", "secret/a", "novalue"},
		{"token", "revoke"},
		{"token", "revoke", "-self", "x"},
		{"token", "revoke", "-mode=tree", "x"},
		{"token", "lookup", "-accessor"},
		{"token", "create", "-ttl=soon"},
		{"token", "create", "-metadata=x"},
		{"completion", "tcsh"},
		{"login", "-method=userpass"},
		{"status", "-header=X-Vault-Token=x"},
		{"status", "-header=x"},
	} {
		if got := r.run(args...); got.code != exitLocal || got.out != "" || got.err == "" {
			t.Errorf("%v: exit %d, stdout %q, stderr %q", args, got.code, got.out, got.err)
		}
	}
	if len(r.seen) != 0 {
		t.Errorf("a wrong command asked the server: %v", r.seen)
	}
}

// Both dashes, flags before and after the arguments, values behind = or as the next word.
func TestFlagSpellings(t *testing.T) {
	r := newRig(t)
	r.on("GET secret/a", 200, `{"data":{"x":"1"}}`)
	for _, args := range [][]string{
		{"read", "-format=json", "-field=x", "secret/a"},
		{"read", "--format=json", "--field=x", "secret/a"},
		{"read", "-format", "json", "--field", "x", "secret/a"},
		{"read", "secret/a", "-format=json", "-field", "x"},
		{"read", "-field=x", "secret/a", "-format=JSON"},
		{"read", "-field=x", "-format=json", "--", "secret/a"},
	} {
		if got := r.ok(args...); got.out != "\"1\"\n" {
			t.Errorf("%v: %q", args, got.out)
		}
	}
}

// T56, T52: what was typed in the wrong place is not repeated.
func TestWrongWordsAreNotEchoed(t *testing.T) {
	r := newRig(t)
	for _, args := range [][]string{
		{canary},
		{"operator", canary},
		{"operator", "unseal", "x", canary},
		{"operator", "unseal", "-holder=" + canary},
		{"operator", "unseal", "-key=" + canary},
		{"operator", "unseal", "-" + canary},
		{"operator", "generate-root", "-init=" + canary},
		{"operator", "init", "-n=" + canary},
		{"operator", "init", "-n", "5 for flag -" + canary},
		{"operator", "init", "-status=5 for flag -" + canary},
		{"status", canary},
		{"status", "-format=" + canary},
		{"token", "create", "-ttl=" + canary},
		{"token", "create", "-metadata=" + canary},
		{"server", "-log-level=" + canary},
	} {
		got := r.run(args...)
		if got.code != exitLocal {
			t.Errorf("%v: exit %d", args, got.code)
		}
		hides(t, got.out, got.err)
	}
}

// A panic's value may hold anything: only the stack is shown.
func TestPanicShowsNoValue(t *testing.T) {
	r := newRig(t)
	r.serve = func(context.Context, *config.Config, server.Options) error { panic("oops " + canary) }
	got := r.fails(exitLocal, []string{"internal error", "goroutine"}, "server", "-dev")
	hides(t, got.out, got.err)
}

func TestVersion(t *testing.T) {
	r := newRig(t)
	for _, args := range [][]string{{"version"}, {"-version"}, {"--version"}, {"-v"}} {
		if got := r.ok(args...); !strings.HasPrefix(got.out, "Quorate ") || strings.Count(got.out, "\n") != 1 {
			t.Errorf("%v: %q", args, got.out)
		}
	}
	if got := r.ok("version", "-format=json"); !strings.Contains(got.out, `"go": "go1.`) {
		t.Errorf("%s", got.out)
	}
}

// Every command has a help text, and every flag says what it is for.
func TestEverythingIsDocumented(t *testing.T) {
	a := &app{}
	var walk func(path []string, c *command.C)
	walk = func(path []string, c *command.C) {
		path = append(slices.Clone(path), c.Name)
		if c.Help == "" || c.Usage == "" {
			t.Errorf("%v has no help or usage", path)
		}
		var b bytes.Buffer
		c.HelpInfo(command.IncludeCommands | command.IncludePrivateFlags).WriteLong(&b)
		for _, line := range strings.Split(b.String(), "\n") {
			if len(line) > 180 {
				t.Errorf("%v: a line of %d characters in the help: %s", path, len(line), line)
			}
		}
		for _, sub := range c.Commands {
			walk(path, sub)
		}
	}
	walk(nil, a.root())
}

// The examples in the help texts name commands and flags that exist, and the commands that people begin with have some.
func TestExamples(t *testing.T) {
	needed := []string{"kv", "policy", "secrets", "auth", "audit", "lease", "token", "unwrap", "login", "read", "write", "list", "delete"}
	var look func(c *command.C, family string)
	look = func(c *command.C, family string) {
		found := len(c.Commands) > 0
		for line := range strings.Lines(c.Help) {
			_, text, ok := strings.Cut(line, "quorate ")
			if !ok || !strings.HasPrefix(line, "  ") {
				continue
			}
			found = true
			text, _, _ = strings.Cut(text, " | ")
			target, full, rest := find((&app{}).root(), strings.Fields(text))
			for _, word := range rest {
				name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
				if len(word) > 1 && word[0] == '-' && target.Flags.Lookup(name) == nil {
					t.Errorf("%s: %s has no flag %s", c.Name, full, word)
				}
			}
			if len(target.Commands) > 0 || !target.Runnable() {
				t.Errorf("%s: %s is no command", c.Name, full)
			}
		}
		if !found && slices.Contains(needed, family) {
			t.Errorf("%s %s has no example", family, c.Name)
		}
		for _, sub := range c.Commands {
			look(sub, family)
		}
	}
	for _, c := range (&app{}).root().Commands {
		look(c, c.Name)
	}
}
