package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/creachadair/command"
)

// mountKind is what is mounted: secrets engines and auth methods are enabled, tuned and moved in the same way.
type mountKind struct {
	noun, group string
	list, tune  string // paths of the wire
	under       string // where they are routed
	examples    []string
}

func (a *app) secretsCommands() *command.C {
	return a.mountCommands(mountKind{
		noun: "secrets engine", group: "secrets", list: "sys/mounts", tune: "sys/mounts/",
		examples: []string{"enable -version=2 -path=secret kv", "tune -max-lease-ttl=24h secret", "move secret archive", "disable secret"},
	}, "Enable, tune, move and disable secrets engines.")
}

func (a *app) authCommands() *command.C {
	return a.mountCommands(mountKind{
		noun: "auth method", group: "auth", list: "sys/auth", tune: "sys/mounts/auth/", under: "auth/",
		examples: []string{"enable -path=people userpass", "tune -default-lease-ttl=8h people", "move people staff", "disable staff"},
	}, "Enable, tune, move and disable auth methods, with which people and programs log in.")
}

func (a *app) mountCommands(kind mountKind, help string) *command.C {
	return group(kind.group, help,
		a.mountListCommand(kind), a.mountEnableCommand(kind), a.mountTuneCommand(kind), a.mountMoveCommand(kind), a.mountDisableCommand(kind))
}

// help is a help text with the example of a command.
func (k mountKind) help(name, text string) string {
	i := slices.IndexFunc(k.examples, func(s string) bool { return strings.HasPrefix(s, name) })
	return text + "\n\n  quorate " + k.group + " " + k.examples[i]
}

// mountPath is a path as the server has it in its own paths: without slashes around it.
func mountPath(arg string) string { return strings.Trim(arg, "/") }

func (a *app) mountListCommand(kind mountKind) *command.C {
	s := &session{app: a}
	var detailed bool
	c := &command.C{Name: "list", Usage: "[flags]", Help: "List what is enabled, and where.\n\n  quorate " + kind.group + " list -detailed"}
	c.Flags.BoolVar(&detailed, "detailed", false, "show the configuration as well")
	return s.command(c, answers|byUser, 0, 0, func(ctx context.Context, _ []string) error {
		found, err := s.get(ctx, "listing", kind.list)
		if err != nil {
			return err
		}
		return s.printData(found, found.Data, func() string {
			if detailed {
				return detailedMounts(found.Data).text()
			}
			return columns(found.Data, "Path", "type", "accessor", "description").text()
		})
	})
}

// columns is a table of what is at each path.
func columns(data map[string]any, heads ...string) sheet {
	names := []string{heads[0]}
	for _, h := range heads[1:] {
		names = append(names, strings.ToUpper(h[:1])+h[1:])
	}
	t := headed(names...)
	for _, path := range slices.Sorted(maps.Keys(data)) {
		entry, _ := data[path].(map[string]any)
		cells := row{path}
		for _, key := range heads[1:] {
			cells = append(cells, orNone(entry[key]))
		}
		t = append(t, cells)
	}
	return t
}

func orNone(v any) string {
	if v == nil || v == "" {
		return "n/a"
	}
	return fmt.Sprint(v)
}

func detailedMounts(data map[string]any) sheet {
	t := headed("Path", "Plugin", "Accessor", "Default TTL", "Max TTL", "Token Type", "Force No Cache", "Replication", "Seal Wrap",
		"Options", "Description", "UUID")
	for _, path := range slices.Sorted(maps.Keys(data)) {
		entry, _ := data[path].(map[string]any)
		config, _ := entry["config"].(map[string]any)
		t = append(t, row{
			path, orNone(entry["type"]), orNone(entry["accessor"]), orSystem(config["default_lease_ttl"]), orSystem(config["max_lease_ttl"]),
			orNone(config["token_type"]), orNone(config["force_no_cache"]), replication(entry), orNone(entry["seal_wrap"]),
			orNone(entry["options"]), orNone(entry["description"]), orNone(entry["uuid"]),
		})
	}
	return t
}

func orSystem(ttl any) string {
	if n, ok := ttl.(json.Number); !ok || n == "0" {
		return "system"
	}
	return fmt.Sprint(ttl)
}

func replication(entry map[string]any) string {
	if entry["local"] == true {
		return "local"
	}
	return "replicated"
}

// mounting is a change of a mount: what was given on the command line, under the names that the wire has for it.
type mounting struct {
	session
	kind          mountKind
	path          string
	entry, config map[string]any
	options       map[string]any
}

func newMounting(a *app, kind mountKind) *mounting {
	return &mounting{session: session{app: a}, kind: kind, entry: map[string]any{}, config: map[string]any{}, options: map[string]any{}}
}

func (m *mounting) flags(fs *flag.FlagSet) {
	setText(fs, m.entry, "description", "`TEXT` shown where mounts are listed")
	setDuration(fs, m.config, "default-lease-ttl", "`DURATION` of leases and tokens that don't say how long")
	setDuration(fs, m.config, "max-lease-ttl", "longest `DURATION` of leases and tokens")
	setText(fs, m.config, "listing-visibility", "`unauth` shows the mount to those without a token, hidden doesn't")
	setList(fs, m.config, "audit-non-hmac-request-keys", "`KEY` of requests that audit devices show as it is; may be repeated")
	setList(fs, m.config, "audit-non-hmac-response-keys", "`KEY` of answers that audit devices show as it is; may be repeated")
	setList(fs, m.config, "passthrough-request-headers", "`NAME` of a header that is passed on to it; may be repeated")
	setList(fs, m.config, "allowed-response-headers", "`NAME` of a header that it may answer with; may be repeated")
	if m.kind.under != "" {
		setText(fs, m.config, "token-type", "`TYPE` of the tokens of logins: default-service or service")
	}
	setPairs(fs, m.options, "options", "`KEY=VALUE` for the "+m.kind.noun+"; may be repeated")
	fs.Func("version", "`NUMBER` of the engine's version, where it has several: 1 or 2 for kv", func(s string) error {
		if s == "" || strings.Trim(s, "0123456789") != "" {
			return errors.New("must be a number")
		}
		m.options["version"] = s
		return nil
	})
}

func (a *app) mountEnableCommand(kind mountKind) *command.C {
	m := newMounting(a, kind)
	c := &command.C{
		Name: "enable", Usage: "[flags] TYPE",
		Help: kind.help("enable", "Enable one more "+kind.noun+", by default at a path named after it."),
	}
	m.flags(&c.Flags)
	c.Flags.StringVar(&m.path, "path", "", "`PATH` to mount it at")
	setBool(&c.Flags, m.config, "force-no-cache", "never cache what it keeps")
	setBool(&c.Flags, m.entry, "local", "keep it out of replication")
	setBool(&c.Flags, m.entry, "seal-wrap", "wrap what it keeps once more, where the seal can")
	setBool(&c.Flags, m.entry, "external-entropy-access", "let it use an external source of entropy")
	return m.command(c, byUser|placed, 1, 1, func(ctx context.Context, args []string) error {
		path := mountPath(m.path)
		if dotted(path) {
			return localf("%w", errDotted)
		}
		if path == "" {
			path = args[0]
		}
		m.entry["type"], m.entry["config"] = args[0], m.config
		if len(m.options) > 0 {
			m.entry["options"] = m.options
		}
		return m.put(ctx, "enabling", kind.list+"/"+path, m.entry, fmt.Sprintf("enabled the %s %s at %s/", kind.noun, args[0], path))
	})
}

func (a *app) mountTuneCommand(kind mountKind) *command.C {
	m := newMounting(a, kind)
	c := &command.C{Name: "tune", Usage: "[flags] PATH", Help: kind.help("tune", "Change how what is mounted at a path is configured.")}
	m.flags(&c.Flags)
	return m.command(c, byUser|placed, 1, 1, func(ctx context.Context, args []string) error {
		path := mountPath(args[0])
		maps.Copy(m.config, m.entry)
		if len(m.options) > 0 {
			m.config["options"] = m.options
		}
		if len(m.config) == 0 {
			return m.env.Usagef("nothing to change: the flags say what")
		}
		return m.put(ctx, "tuning", kind.tune+path+"/tune", m.config, "tuned "+kind.under+path+"/")
	})
}

func (a *app) mountDisableCommand(kind mountKind) *command.C {
	s := &session{app: a}
	c := &command.C{Name: "disable", Usage: "[flags] PATH", Help: kind.help("disable", "Disable what is mounted at a path: all that it keeps is deleted, and its tokens and leases are revoked.")}
	return s.command(c, byUser|placed, 1, 1, func(ctx context.Context, args []string) error {
		path := mountPath(args[0])
		return s.drop(ctx, "disabling", kind.list+"/"+path, fmt.Sprintf("disabled the %s, if there was one, at %s/", kind.noun, path))
	})
}

func (a *app) mountMoveCommand(kind mountKind) *command.C {
	s := &session{app: a}
	c := &command.C{Name: "move", Usage: "[flags] SOURCE DESTINATION", Help: kind.help("move", "Move a mount to another path. Its leases, and the tokens of its logins, are revoked.")}
	return s.command(c, byUser, 2, 2, func(ctx context.Context, args []string) error {
		from, to := kind.under+mountPath(args[0])+"/", kind.under+mountPath(args[1])+"/"
		reply, err := s.client.Logical().WriteWithContext(ctx, "sys/remount", map[string]any{"from": from, "to": to})
		if err != nil {
			return asking("moving", err)
		}
		s.warn(warnings(reply))
		if reply != nil {
			if err := s.awaitMove(ctx, reply.Data["migration_id"]); err != nil {
				return asking("moving", err)
			}
		}
		s.say("moved %s to %s", visible(from, ""), visible(to, ""))
		return nil
	})
}

// awaitMove waits until the server has moved a mount.
func (s *session) awaitMove(ctx context.Context, id any) error {
	if id == nil {
		return nil
	}
	client, err := s.aside(s.client.Token())
	if err != nil {
		return err
	}
	for {
		status, err := client.Sys().RemountStatusWithContext(ctx, fmt.Sprint(id))
		if err != nil {
			return err
		}
		switch status.MigrationInfo.MigrationStatus {
		case "success":
			return nil
		case "failure":
			return errors.New("the server could not move the mount")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}
