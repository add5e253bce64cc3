package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/creachadair/command"

	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/wholefile"
)

func (a *app) policyCommands() *command.C {
	return group("policy", "Write policies and find out what they allow.",
		a.policyListCommand(), a.policyReadCommand(), a.policyWriteCommand(), a.policyDeleteCommand(), a.policyFmtCommand(), a.policyTestCommand())
}

const (
	policies       = "sys/policies/acl"
	policyTestPath = "sys/policies/test"
)

func (a *app) policyListCommand() *command.C {
	s := &session{app: a}
	c := &command.C{Name: "list", Usage: "[flags]", Help: `List the names of all policies.

  quorate policy list`}
	return s.command(c, answers|byUser, 0, 0, func(ctx context.Context, _ []string) error {
		found, err := s.client.Logical().ListWithContext(ctx, policies)
		if err != nil {
			return asking("listing the policies", err)
		}
		if found == nil {
			return nothingAt(policies)
		}
		names, _ := found.Data["keys"].([]any)
		return s.printData(found, names, func() string { return lines(names) })
	})
}

func (a *app) policyReadCommand() *command.C {
	s := &session{app: a}
	c := &command.C{Name: "read", Usage: "[flags] NAME", Help: `Show the text of a policy.

  quorate policy read app
  quorate policy read app > app.hcl`}
	return s.command(c, answers|byUser|placed, 1, 1, func(ctx context.Context, args []string) error {
		found, err := s.client.Logical().ReadWithContext(ctx, policies+"/"+args[0])
		if err != nil {
			return asking("reading the policy", err)
		}
		if found == nil {
			return &failure{code: exitServer, err: errors.New("no policy of this name"), hint: "quorate policy list shows their names"}
		}
		text, _ := found.Data["policy"].(string)
		return s.printData(found, map[string]string{"policy": text}, func() string {
			if isTerminal(s.stdout) {
				text = visible(text, "\n\t")
			}
			return strings.TrimSpace(text) + "\n"
		})
	})
}

func (a *app) policyWriteCommand() *command.C {
	s := &session{app: a}
	c := &command.C{Name: "write", Usage: "[flags] NAME FILE\n[flags] NAME -", Help: `Write a policy, in place of what it was, from a file or from standard input.

  quorate policy write app app.hcl
  quorate policy write app - <<'END'
  path "secret/data/app" { capabilities = ["read"] }
  END`}
	return s.command(c, byUser|placed, 2, 2, func(ctx context.Context, args []string) error {
		text, err := textOf(args[1], s.stdin)
		if err != nil {
			return localf("reading the policy: %w", err)
		}
		if strings.TrimSpace(text) == "" {
			return localf("the policy is empty")
		}
		return s.put(ctx, "writing the policy", policies+"/"+args[0], map[string]any{"policy": text}, "wrote the policy "+args[0])
	})
}

// textOf is the content of a file, or of standard input for -.
func textOf(name string, stdin io.Reader) (string, error) {
	if name == "-" {
		b, err := io.ReadAll(stdin)
		return string(b), err
	}
	b, err := os.ReadFile(name)
	return string(b), err
}

func (a *app) policyDeleteCommand() *command.C {
	s := &session{app: a}
	c := &command.C{Name: "delete", Usage: "[flags] NAME", Help: `Delete a policy. Tokens that have it lose its rights at once.

  quorate policy delete app`}
	return s.command(c, byUser|placed, 1, 1, func(ctx context.Context, args []string) error {
		return s.drop(ctx, "deleting the policy", policies+"/"+args[0], "deleted the policy, if it existed: "+args[0])
	})
}

func (a *app) policyFmtCommand() *command.C {
	s := &session{app: a}
	c := &command.C{Name: "fmt", Usage: "FILE ...\n-", Help: `Put the text of policies into the usual layout: in their files, or from standard input to standard output.

  quorate policy fmt app.hcl`}
	return s.command(c, offline, 1, unlimited, func(_ context.Context, args []string) error {
		for _, name := range args {
			text, err := textOf(name, s.stdin)
			if err != nil {
				return localf("reading the policy: %w", err)
			}
			formatted, err := policy.Format(text)
			if err != nil {
				return localf("%s: %w", visible(name, ""), err)
			}
			if name == "-" {
				err = s.write(formatted)
			} else if formatted != text {
				err = rewrite(name, formatted)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// rewrite replaces a file, which keeps its mode.
func rewrite(name, text string) error {
	info, err := os.Stat(name)
	if err == nil {
		err = wholefile.Replace(name, text, info.Mode().Perm())
	}
	if err != nil {
		return localf("writing the policy: %w", err)
	}
	return nil
}

// policyTest is the policy test command.
type policyTest struct {
	session
	policies        []string
	token, accessor string
	sudo            bool
}

// verdict is the server's answer, in the words of the table and the order of its rows.
type verdict struct {
	Allowed      bool     `json:"allowed"`
	Reason       string   `json:"reason"`
	Capabilities []string `json:"capabilities"`
	Rule         string   `json:"rule"`
	Policies     []string `json:"policies"`
	SudoNeeded   bool     `json:"sudo_needed"`
}

var operations = []string{"create", "read", "update", "patch", "delete", "list"}

func (a *app) policyTestCommand() *command.C {
	t := &policyTest{session: session{app: a}}
	c := &command.C{Name: "test", Usage: "[flags] OPERATION PATH [KEY=VALUE ...]", Help: `Say whether something is allowed, and which rule of which policy decides.

It is asked about your own token, another one, or policies alone. OPERATION is create, read, update, patch, delete or list.
The pairs are what would be written, for rules that restrict it.
The exit code is 0 if it is allowed, 2 if it isn't, and 1 if that couldn't be found out.

  quorate policy test read secret/data/app
  quorate policy test -policy=app -policy=default list secret/metadata
  quorate policy test -accessor=Hs8nAh0pBxwF4TWjvF5UMhrO delete secret/data/app`}
	c.Flags.Func("policy", "`NAME` of a policy to ask about; may be repeated", repeated(&t.policies))
	c.Flags.StringVar(&t.accessor, "accessor", "", "`ACCESSOR` of the token to ask about")
	c.Flags.StringVar(&t.token, "token", "", "`-` to read the token to ask about from standard input")
	c.Flags.BoolVar(&t.sudo, "sudo", false, "ask for the capability sudo as well")
	return t.command(c, answers|pickable|byUser, 2, unlimited, t.run)
}

func (t *policyTest) run(ctx context.Context, args []string) error {
	if !slices.Contains(operations, args[0]) {
		return t.env.Usagef("the operation is one of %s", strings.Join(operations, ", "))
	}
	if countTrue(len(t.policies) > 0, t.accessor != "", t.token != "") > 1 {
		return t.env.Usagef("-policy, -accessor and -token exclude each other")
	}
	fields := map[string]any{"operation": args[0], "path": cleanPath(args[1])}
	if len(args) > 2 {
		data, err := dataOf(args[2:], t.stdin)
		if err != nil {
			return localf("reading the data: %w", err)
		}
		fields["data"] = data
	}
	if t.token != "" {
		token, err := t.takeToken(ctx, []string{t.token})
		if err != nil {
			return err
		}
		fields["token"] = token
	}
	addGiven(fields, map[string]any{"policies": t.policies, "accessor": t.accessor, "sudo": t.sudo})
	reply, err := t.client.Logical().WriteWithContext(ctx, policyTestPath, fields)
	if err != nil {
		return unasked("testing", err)
	}
	if reply != nil && reply.WrapInfo != nil {
		return t.printSecret(reply)
	}
	var v verdict
	if reply == nil || json.Unmarshal(jsonBody(reply.Data), &v) != nil || v.Reason == "" {
		return unasked("testing", errUnexpected)
	}
	if t.out.field != "" {
		err = t.printSecret(reply)
	} else {
		err = t.printData(reply, v, v.table)
	}
	if err == nil && !v.Allowed {
		err = silent(exitServer)
	}
	return err
}

func (v *verdict) table() string {
	t := header()
	t.add("allowed", v.Allowed)
	t.add("reason", v.Reason)
	t.add("capabilities", strings.Join(v.Capabilities, ", "))
	t.add("rule", orNone(v.Rule))
	t.add("policies", orNone(strings.Join(v.Policies, ", ")))
	t.add("sudo_needed", fmt.Sprint(v.SudoNeeded))
	return t.text()
}
