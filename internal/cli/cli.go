// Package cli is the quorate command line: the server command, and client commands that speak HTTP only.
//
// It promises the flags, environment, exit codes and output that users of the Vault family have in their fingers,
// that a key share never comes from the command line and never ends up in an error, and that
// secrets asked for go to standard output only. It does not promise stable wording on standard error: what programs
// read is on standard output, in json or yaml.
//
// Rules of the user interface: prompts go to the terminal and are erased after; what is not the answer itself goes
// to standard error, lower case, without full stops; errors may carry hints.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/creachadair/command"
	"github.com/openbao/openbao/api/v2"
	"golang.org/x/term"

	"github.com/quorate/quorate/internal/server"
)

// Main runs one command line, given without the name of the program, and returns its exit code: 0, 1 for a local or
// usage error, 2 when the server answered an error or nothing was found.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, serve: server.Run}
	a.openTTY = func() (terminal, error) { return openTerminal(stdin) }
	return a.main(context.Background(), args)
}

// app is one run of the command line. Its fields are what a command may touch of the outside world.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	openTTY        func() (terminal, error) // fails where nobody can be asked
	serve          serveFunc
	speaks         voice                       // as whom the command spoke to the server
	advisor        func() (*api.Client, error) // with the user's token
}

func (a *app) main(ctx context.Context, args []string) int {
	root := a.root()
	if path, ok := helpWanted(args); ok {
		return a.help(root, path)
	}
	env := root.NewEnv(nil).SetContext(ctx)
	env.Log = a.stderr
	_, full, _ := find(root, args)
	return a.exit(ctx, full, command.Run(env, args))
}

// say prints one line of talk. It is not the answer, so it goes to standard error.
func (a *app) say(format string, args ...any) {
	fmt.Fprintf(a.stderr, format+"\n", args...)
}

// printValue prints one bare value: as it is, as scripts expect, but where a person reads it with a newline, and so that it
// does nothing to the terminal.
func (a *app) printValue(v string) error {
	if isTerminal(a.stdout) {
		v = visible(v, "\n\t") + "\n"
	}
	return a.write(v)
}

func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// helpWanted finds a request for help anywhere before "--", and the commands it is about.
func helpWanted(args []string) (path []string, ok bool) {
	if len(args) > 0 && args[0] == "help" {
		ok, args = true, args[1:]
	}
	for _, arg := range args {
		switch {
		case arg == "--":
			return path, ok
		case slices.Contains([]string{"-h", "-help", "--help"}, arg):
			ok = true
		case !strings.HasPrefix(arg, "-"):
			path = append(path, arg)
		}
	}
	return path, ok
}

// find follows words down the tree of commands: full is all that one types for c, rest begins with a word that is no
// command of it.
func find(root *command.C, words []string) (c *command.C, full string, rest []string) {
	c, full = root, root.Name
	for i, name := range words {
		next := c.FindSubcommand(name)
		if next == nil {
			return c, full, words[i:]
		}
		c, full = next, full+" "+name
	}
	return c, full, nil
}

// help prints the help of the command that path leads to; what follows a command's name are its arguments.
func (a *app) help(root *command.C, path []string) int {
	c, full, rest := find(root, path)
	if len(rest) > 0 && len(c.Commands) > 0 {
		a.say("error: no such command of %s\nhint: quorate help lists the commands", full)
		return exitLocal
	}
	if c.Name = full; !c.Runnable() { // what people have to type; nobody types a topic
		c.Name = root.Name
	}
	c.HelpInfo(command.IncludeCommands).WriteLong(a.stdout)
	if c.Runnable() && c.Flags.Lookup("address") != nil {
		fmt.Fprintln(a.stdout, "connection flags: quorate help connection")
	}
	return 0
}

// exit prints what went wrong with the command called full, and translates it to an exit code.
func (a *app) exit(ctx context.Context, full string, err error) int {
	if text, ok := requestText(err); ok {
		err = a.write(text + "\n")
	}
	var failed *failure
	var usage command.UsageError
	var panicked command.PanicError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &failed):
		a.advise(ctx, failed)
		failed.write(a.stderr)
		return failed.code
	case errors.As(err, &usage):
		a.say("error: %s", usage.Message)
		usage.Env.Command.HelpInfo(0).WriteUsage(a.stderr)
	case errors.Is(err, command.ErrRequestHelp): // the command needs more words; it has said so
	case errors.As(err, &panicked): // its value may hold anything, so only the stack is shown
		a.say("internal error: please report this\n%s", panicked.Stack())
	default: // the flag package's own; every other error of ours is one of the above
		a.say("error: %s\nhint: %s -help shows its flags", flagError(err), full)
	}
	return 1
}

// flagError is the text of an error from parsing flags, without what may be a secret in the wrong place: the refused
// value, or a name longer than that of any flag.
func flagError(err error) string {
	const longest = 32
	text := err.Error()
	if before, name, ok := strings.Cut(text, "not defined: "); ok && len(name) > longest {
		return before + "not defined"
	}
	sep := " for flag -"
	switch {
	case strings.HasPrefix(text, "invalid boolean value "):
		sep = " for -"
	case !strings.HasPrefix(text, "invalid value "):
		return text
	}
	return "invalid value" + text[strings.LastIndex(text, sep):]
}
