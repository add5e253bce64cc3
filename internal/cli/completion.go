package cli

import (
	"bufio"
	"flag"
	"io"
	"slices"
	"strings"

	"github.com/creachadair/command"
)

// The scripts hand the words typed so far to "quorate __complete", one per line on standard input: a share that was
// typed in the wrong place doesn't become an argument. The last line is the word to complete.
const bashCompletion = `_quorate() {
  local IFS=$'\n'
  COMPREPLY=($(printf '%s\n' "${COMP_WORDS[@]:1:COMP_CWORD}" | quorate __complete 2>/dev/null))
}
complete -o default -F _quorate quorate
`

const zshCompletion = `#compdef quorate
_quorate() {
  local -a candidates
  candidates=("${(@f)$(print -rl -- "${(@)words[2,$CURRENT]}" | quorate __complete 2>/dev/null)}")
  if [[ -n "$candidates" ]]; then
    compadd -- "${candidates[@]}"
  else
    _files
  fi
}
compdef _quorate quorate
`

const fishCompletion = `function __quorate_complete
  set -l typed (commandline -opc) (commandline -ct)
  printf '%s\n' $typed[2..-1] | quorate __complete 2>/dev/null
end
complete -c quorate -a '(__quorate_complete)'
`

func (a *app) completionCommand() *command.C {
	return &command.C{
		Name: "completion", Usage: "bash | zsh | fish",
		Help: `Print a script that lets your shell complete commands and flags.

bash: source <(quorate completion bash)
zsh:  source <(quorate completion zsh)
fish: quorate completion fish | source`,
		Run: func(env *command.Env) error {
			args, err := positional(env, 1, 1)
			if err != nil {
				return err
			}
			scripts := map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}
			script, ok := scripts[args[0]]
			if !ok {
				return env.Usagef("the shell is one of bash, zsh and fish")
			}
			return a.write(script)
		},
	}
}

// completeCommand answers the scripts.
func (a *app) completeCommand(root *command.C) *command.C {
	return &command.C{
		Name: "__complete", Unlisted: true, Usage: "< WORDS", Help: "List what can complete the last line of standard input.",
		Run: func(env *command.Env) error {
			var words []string
			lines := bufio.NewScanner(io.LimitReader(a.stdin, 1<<16))
			for lines.Scan() {
				words = append(words, lines.Text())
			}
			var text strings.Builder
			for _, c := range candidates(root, words) {
				text.WriteString(c + "\n")
			}
			return a.write(text.String())
		},
	}
}

// candidates lists what the last of words can become.
func candidates(root *command.C, words []string) []string {
	if len(words) == 0 {
		words = []string{""}
	}
	done, last := words[:len(words)-1], words[len(words)-1]
	c := root
	for _, w := range done {
		if next := c.FindSubcommand(w); next != nil {
			c = next
		}
	}
	var list []string
	switch name, typed, ok := flagAt(c.Name, done, last); {
	case ok:
		list = matching(flagValues(c.Name, name), typed)
		if strings.HasPrefix(last, "-") { // the shell sees -flag=value as one word
			for i := range list {
				list[i] = last[:len(last)-len(typed)] + list[i]
			}
		}
	case strings.HasPrefix(last, "-"):
		list = matching(flagNames(&c.Flags, last), last)
	default:
		var names []string
		for _, sub := range c.Commands {
			if !sub.Unlisted {
				names = append(names, sub.Name)
			}
		}
		if c.Name == "completion" {
			names = []string{"bash", "zsh", "fish"}
		}
		list = matching(names, last)
	}
	slices.Sort(list)
	return list
}

// flagAt finds the flag whose value is being typed: as -flag=value in one word, or in two or three, as bash splits at "=".
func flagAt(command string, done []string, last string) (name, typed string, ok bool) {
	if n, v, found := strings.Cut(last, "="); found && strings.HasPrefix(n, "-") {
		return strings.TrimLeft(n, "-"), v, true
	}
	if n := len(done); n > 0 {
		switch {
		case last == "=" && strings.HasPrefix(done[n-1], "-"):
			return strings.TrimLeft(done[n-1], "-"), "", true
		case n > 1 && done[n-1] == "=" && strings.HasPrefix(done[n-2], "-"):
			return strings.TrimLeft(done[n-2], "-"), last, true
		case strings.HasPrefix(done[n-1], "-") && len(flagValues(command, strings.TrimLeft(done[n-1], "-"))) > 0:
			return strings.TrimLeft(done[n-1], "-"), last, true
		}
	}
	return "", "", false
}

// flagValues are the words that a flag of a command takes, where there are few.
func flagValues(command, name string) []string {
	switch name {
	case "format":
		return []string{"table", "json", "yaml"}
	case "log-level":
		return []string{"trace", "debug", "info", "warn", "error"}
	case "log-format":
		return []string{"standard", "json"}
	case "mode":
		return []string{"orphan"}
	case "method":
		if command == "patch" {
			return []string{"patch", "rw"}
		}
		return []string{"token", "userpass", "approle"}
	}
	return nil
}

// flagNames lists the flags in the spelling that was begun, with one dash or two.
func flagNames(fs *flag.FlagSet, typed string) []string {
	dash := "-"
	if strings.HasPrefix(typed, "--") {
		dash = "--"
	}
	var names []string
	fs.VisitAll(func(f *flag.Flag) {
		if len(f.Name) > 1 || typed == dash+f.Name {
			names = append(names, dash+f.Name)
		}
	})
	return names
}

func matching(list []string, prefix string) []string {
	var out []string
	for _, s := range list {
		if strings.HasPrefix(s, prefix) {
			out = append(out, s)
		}
	}
	return out
}
