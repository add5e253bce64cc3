package cli

import (
	"slices"
	"strings"

	"github.com/creachadair/command"
)

// root builds the tree of commands anew for every run: parsed flags live in it.
func (a *app) root() *command.C {
	topic := &command.C{
		Name:  "connection",
		Usage: "COMMAND [flags]",
		Help: `Flags of every command that talks to a server: where it is, and as whom to speak.

The variables named in brackets say the same; each may also begin with VAULT_ instead of BAO_. The token comes from
BAO_TOKEN, else from ~/.vault-token, where "quorate login" keeps it.`,
	}
	new(connection).flags(&topic.Flags, "")
	c := group("quorate", `Quorate keeps secrets and gives a quorum of key holders what no one alone can have.

"quorate server" starts a server; every other command talks to one. Help for a command: quorate help COMMAND.`,
		a.serverCommand(), a.statusCommand(),
		group("operator", "Commands for operators and key holders.",
			a.initCommand(), a.unsealCommand(), a.sealCommand(), a.membersCommand(), a.generateRootCommand(), a.keyStatusCommand(),
			a.rekeyCommand(), a.rotateCommand(), a.rotateKeysCommand(), a.snapshotCommands(), a.migrateCommand()),
		a.ceremonyCommands(),
		group("share", "Look at key shares.", a.shareCheckCommand(), a.shareArmourCommand(), a.shareRawCommand()),
		group("transcript", "Export and verify the record of ceremonies.",
			a.transcriptExportCommand(), a.transcriptVerifyCommand(), a.transcriptCheckpointCommand()),
		a.loginCommand(),
		group("token", "Create, inspect, renew and revoke tokens.",
			a.tokenCreateCommand(), a.tokenLookupCommand(), a.tokenRenewCommand(), a.tokenRevokeCommand(),
			a.tokenCapabilitiesCommand()),
		a.kvCommands(), a.policyCommands(), a.secretsCommands(), a.authCommands(), a.auditCommands(), a.leaseCommands(),
		a.readCommand(), a.writeCommand(), a.listCommand(), a.deleteCommand(), a.unwrapCommand(),
		group("print", "Print what this command line works with.", a.printTokenCommand()),
		a.versionCommand(), a.completionCommand(), topic)
	c.Commands = append(c.Commands, a.completeCommand(c))
	run := c.Run
	c.Run = func(env *command.Env) error {
		if len(env.Args) > 0 && slices.Contains([]string{"-v", "-version", "--version"}, env.Args[0]) {
			return (&session{app: a, out: output{format: "table"}}).printVersion()
		}
		return run(env)
	}
	return c
}

// group is a command that only has subcommands. It never echoes a word it doesn't know: that may be a share.
func group(name, help string, commands ...*command.C) *command.C {
	return &command.C{
		Name: name, Usage: "COMMAND", Help: help, Commands: commands,
		CustomFlags: true, // it has none of its own; -v is for the root
		Run: func(env *command.Env) error {
			if len(env.Args) == 0 {
				env.Command.HelpInfo(command.IncludeCommands).WriteLong(env)
				return command.ErrRequestHelp
			}
			if strings.HasPrefix(env.Args[0], "-") {
				return localf("flags follow the command: quorate COMMAND [flags]; quorate help lists the commands")
			}
			var names []string
			for _, c := range env.Command.Commands {
				if c.Runnable() && !c.Unlisted {
					names = append(names, c.Name)
				}
			}
			return localf("no such command of %s: it has %s", env.Command.Name, strings.Join(names, ", "))
		},
	}
}

// positional returns the arguments that are no flags, between least and most of them. Nothing given is echoed.
func positional(env *command.Env, least, most int) ([]string, error) {
	var args []string
	for i, arg := range env.Args {
		if arg == "--" {
			args = append(args, env.Args[i+1:]...)
			break
		}
		if len(arg) > 1 && arg[0] == '-' {
			return nil, env.Usagef("a flag that this command doesn't know (put -- before an argument that begins with -)")
		}
		args = append(args, arg)
	}
	switch {
	case len(args) < least:
		return nil, env.Usagef("not enough arguments: %d given, %d needed", len(args), least)
	case len(args) > most:
		return nil, env.Usagef("too many arguments: %d given, at most %d expected", len(args), most)
	}
	return args, nil
}

const unlimited = 1 << 20 // arguments
