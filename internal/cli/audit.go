package cli

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/creachadair/command"
)

func (a *app) auditCommands() *command.C {
	return group("audit", "Enable, list and disable audit devices, which write down every request.",
		a.auditListCommand(), a.auditEnableCommand(), a.auditDisableCommand(), a.auditHashCommand())
}

func (a *app) auditListCommand() *command.C {
	s := &session{app: a}
	var detailed bool
	c := &command.C{Name: "list", Usage: "[flags]", Help: `List the audit devices.

  quorate audit list -detailed`}
	c.Flags.BoolVar(&detailed, "detailed", false, "show the options as well")
	return s.command(c, answers|byUser, 0, 0, func(ctx context.Context, _ []string) error {
		found, err := s.get(ctx, "listing", "sys/audit")
		if err != nil {
			return err
		}
		if len(found.Data) == 0 && found.WrapInfo == nil {
			return &failure{code: exitServer, err: errors.New("no audit device is enabled")}
		}
		return s.printData(found, found.Data, func() string {
			if !detailed {
				return columns(found.Data, "Path", "type", "description").text()
			}
			t := headed("Path", "Type", "Description", "Replication", "Options")
			for _, path := range slices.Sorted(maps.Keys(found.Data)) {
				entry, _ := found.Data[path].(map[string]any)
				options, _ := entry["options"].(map[string]any)
				t = append(t, row{path, orNone(entry["type"]), orNone(entry["description"]), replication(entry), orNone(pairsOf(options))})
			}
			return t.text()
		})
	})
}

// pairsOf shows a map as people type it.
func pairsOf(options map[string]any) string {
	var list []string
	for _, key := range slices.Sorted(maps.Keys(options)) {
		list = append(list, key+"="+orNone(options[key]))
	}
	return strings.Join(list, " ")
}

func (a *app) auditEnableCommand() *command.C {
	s := &session{app: a}
	fields := map[string]any{}
	var path string
	c := &command.C{Name: "enable", Usage: "[flags] TYPE [OPTION=VALUE ...]", Help: `Enable an audit device: the server writes an entry to it first, and refuses one that can't be written to.

Files can only be below the folder that the server's configuration names with audit_dir.

  quorate audit enable file file_path=/var/log/quorate/audit.log
  quorate audit enable -path=second file file_path=/var/log/quorate/second.log mode=0640`}
	c.Flags.StringVar(&path, "path", "", "`PATH` to name it by, by default its type")
	setText(&c.Flags, fields, "description", "`TEXT` shown where devices are listed")
	setBool(&c.Flags, fields, "local", "keep it out of replication")
	return s.command(c, byUser|placed, 1, unlimited, func(ctx context.Context, args []string) error {
		options, err := dataOf(args[1:], s.stdin)
		if err != nil {
			return localf("reading the options: %w", err)
		}
		at := mountPath(path)
		if dotted(at) {
			return localf("%w", errDotted)
		}
		if at == "" {
			at = args[0]
		}
		fields["type"], fields["options"] = args[0], options
		return s.put(ctx, "enabling the audit device", "sys/audit/"+at, fields, "enabled the audit device "+args[0]+" at "+at+"/")
	})
}

func (a *app) auditDisableCommand() *command.C {
	s := &session{app: a}
	c := &command.C{Name: "disable", Usage: "[flags] PATH", Help: `Disable an audit device. What it wrote stays where it is.

  quorate audit disable file`}
	return s.command(c, byUser|placed, 1, 1, func(ctx context.Context, args []string) error {
		path := mountPath(args[0])
		return s.drop(ctx, "disabling the audit device", "sys/audit/"+path, "disabled the audit device, if there was one, at "+path+"/")
	})
}

func (a *app) auditHashCommand() *command.C {
	s := &session{app: a}
	c := &command.C{Name: "hash", Usage: "[flags] PATH [-]", Help: `Show what an audit device writes in place of a text, to search its entries for that.

The text is asked for without showing it; with - it is read from standard input.

  quorate audit hash file
  quorate print token | quorate audit hash file -`}
	return s.command(c, answers|pickable|byUser|placed, 1, 2, func(ctx context.Context, args []string) error {
		if len(args) == 2 && args[1] != "-" {
			return s.env.Usagef("the text is asked for, or - for standard input")
		}
		input, err := s.takeSecret(ctx, "the text", "to read it from standard input, give - as the second argument", args[1:])
		if err != nil {
			return err
		}
		reply, err := s.client.Logical().WriteWithContext(ctx, "sys/audit-hash/"+mountPath(args[0]), map[string]any{"input": input})
		if err != nil {
			return asking("hashing", err)
		}
		if reply == nil {
			return asking("hashing", errNoContent)
		}
		return s.printSecret(reply)
	})
}
