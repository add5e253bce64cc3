package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/creachadair/command"
	"github.com/openbao/openbao/api/v2"
)

func (a *app) kvCommands() *command.C {
	return group("kv", `Keep secrets in key/value mounts, of either version.

A mount of version 2 keeps the older versions of each secret: delete hides one, undelete brings it back, destroy removes
its value for good. These commands ask the server which version a mount has, and what its paths look like.

  quorate kv put secret/app user=app password=@password.txt
  quorate kv get -field=password secret/app
  quorate kv get -mount=secret app`,
		a.kvGetCommand(), a.kvPutCommand(), a.kvPatchCommand(), a.kvListCommand(), a.kvDeleteCommand(),
		a.kvVersionsCommand("undelete", "Bring deleted versions of a secret back.", "undeleting", "undeleted, if not destroyed"),
		a.kvVersionsCommand("destroy", "Remove the values of versions of a secret, for good.", "destroying", "destroyed, if they existed"),
		a.kvRollbackCommand(), a.kvMetadataCommands(), a.kvEnableVersioningCommand())
}

// kv is one run of a kv command.
type kv struct {
	session
	mount    string // what -mount says; empty if the path begins with the mount
	versions []int  // what -versions says
}

// place is where a secret is: in a mount, under a name.
type place struct {
	mount     string // with a slash at its end
	name      string
	versioned bool
}

// at is the path of what the server keeps about the secret: data, metadata, or in version 1 the secret itself.
func (p place) at(what string) string {
	if !p.versioned {
		what = ""
	}
	return path.Join(p.mount, what, p.name)
}

func (p place) String() string { return path.Join(p.mount, p.name) }

// needVersions is for what only version 2 has.
func (p place) needVersions() error {
	if p.versioned {
		return nil
	}
	f := localf("%s is a key/value mount of version 1, which keeps no versions and no metadata", visible(p.mount, ""))
	f.hint = "quorate kv enable-versioning makes it one of version 2"
	return f
}

// kvCommand makes c a command about one secret, the first argument.
func (k *kv) kvCommand(c *command.C, has traits, most int, run func(context.Context, place, []string) error) *command.C {
	c.Flags.StringVar(&k.mount, "mount", "", "`PATH` of the mount; the argument is then the path within it")
	return k.command(c, has|byUser, 0, most, func(ctx context.Context, args []string) error {
		if len(args) == 0 && (k.mount == "" || c.Name != "list") {
			return k.env.Usagef("not enough arguments: give the path of the secret")
		}
		where := append(args, "")[0]
		p, err := k.locate(ctx, where)
		if err != nil {
			return err
		}
		if p.name == "" && c.Name != "list" {
			return localf("%s is the mount itself: give the path of a secret in it; quorate kv list shows them", visible(p.mount, ""))
		}
		return run(ctx, p, args[min(1, len(args)):])
	})
}

// versioned is kvCommand for what only version 2 has.
func (k *kv) versioned(c *command.C, has traits, most int, run func(context.Context, place, []string) error) *command.C {
	return k.kvCommand(c, has, most, func(ctx context.Context, p place, args []string) error {
		if err := p.needVersions(); err != nil {
			return err
		}
		return run(ctx, p, args)
	})
}

// locate asks which mount a path belongs to. A server that doesn't know the question has only mounts of version 1.
func (k *kv) locate(ctx context.Context, where string) (place, error) {
	whole := strings.Trim(where, "/")
	if k.mount != "" {
		whole = strings.Trim(strings.Trim(k.mount, "/")+"/"+whole, "/")
	}
	if whole == "" || path.Clean("/"+whole) != "/"+whole {
		return place{}, localf("the path must have no empty parts and no . or .. in it")
	}
	client, err := k.aside(k.client.Token())
	if err != nil {
		return place{}, err
	}
	found, err := client.Logical().ReadWithContext(ctx, preflight+whole)
	if err != nil {
		return place{}, asking("looking up the mount", err)
	}
	mount, _, _ := strings.Cut(whole, "/")
	p := place{mount: mount + "/"}
	if found != nil {
		p.mount, _ = found.Data["path"].(string)
		options, _ := found.Data["options"].(map[string]any)
		p.versioned = options["version"] == "2"
	}
	name, ok := strings.CutPrefix(whole+"/", p.mount)
	if !ok || p.mount == "" {
		return place{}, asking("looking up the mount", fmt.Errorf("%w it names a mount that the path is not in", errUnexpected))
	}
	p.name = strings.TrimSuffix(name, "/")
	return p, nil
}

func (a *app) kvGetCommand() *command.C {
	k := &kv{session: session{app: a}}
	var version int
	c := &command.C{Name: "get", Usage: "[flags] PATH", Help: `Show a secret.

  quorate kv get secret/app
  quorate kv get -field=password secret/app
  quorate kv get -version=3 -format=json secret/app`}
	c.Flags.IntVar(&version, "version", 0, "`NUMBER` of the version; 0 is the latest")
	return k.kvCommand(c, answers|pickable, 1, func(ctx context.Context, p place, _ []string) error {
		if version != 0 {
			if err := p.needVersions(); err != nil {
				return err
			}
		}
		found, err := k.client.Logical().ReadWithDataWithContext(ctx, p.at("data"), versionQuery(version))
		if err != nil {
			return asking("reading", err)
		}
		if found == nil {
			return nothingInKV(p)
		}
		return k.printKV(found, p)
	})
}

func versionQuery(version int) map[string][]string {
	if version == 0 {
		return nil
	}
	return map[string][]string{"version": {strconv.Itoa(version)}}
}

func nothingInKV(p place) error {
	f := &failure{code: exitServer, err: fmt.Errorf("no value found at %s", p.at("data"))}
	if p.versioned && strings.HasPrefix(p.name, "data/") {
		f.hint = "leave data/ out of the path: this command adds it"
	}
	return f
}

// printKV shows a secret, or one field of its data. A version that was deleted has metadata only.
func (k *kv) printKV(found *api.Secret, p place) error {
	data := found.Data
	if p.versioned {
		data, _ = found.Data["data"].(map[string]any)
	}
	format, err := k.out.format.resolve()
	switch {
	case err != nil:
		return err
	case found.WrapInfo != nil || k.out.field == "" && format != "table" || k.out.field != "" && !p.versioned:
		return k.printSecret(found)
	case k.out.field != "" && data == nil:
		return nothingInKV(p)
	case k.out.field != "":
		return k.printField(format, &api.Secret{Data: data}, k.out.field)
	}
	k.warn(found.Warnings)
	var text string
	if p.versioned {
		metadata, _ := found.Data["metadata"].(map[string]any)
		text = titledPath("Secret Path", p.at("data")) + titled("Metadata", dataSheet(metadata))
	}
	if data != nil {
		if text != "" {
			text += "\n"
		}
		text += titled("Data", dataSheet(data))
	}
	return k.write(text)
}

func titledPath(title, path string) string {
	path = visible(path, "")
	return underTitle(title, len(path), path+"\n\n")
}

// printVersion shows what was answered to a write: the metadata of the new version.
func (k *kv) printVersion(reply *api.Secret, p place) error {
	if reply == nil {
		k.say("written to %s", visible(p.at("data"), ""))
		return nil
	}
	format, err := k.out.format.resolve()
	if err != nil {
		return err
	}
	if reply.WrapInfo != nil || k.out.field != "" || format != "table" || !p.versioned {
		return k.printSecret(reply)
	}
	k.warn(reply.Warnings)
	return k.write(titledPath("Secret Path", p.at("data")) + titled("Metadata", dataSheet(reply.Data)))
}

const dataHelp = `A VALUE of @FILE is the file's content, one of - is standard input; \@ begins a literal @.
With - or @FILE instead of pairs, the data is a JSON object from standard input or the file. What stands on the command
line itself can be seen in the process list and in the shell's history.`

func (a *app) kvPutCommand() *command.C {
	k := &kv{session: session{app: a}}
	var cas int
	c := &command.C{
		Name: "put", Usage: "[flags] PATH KEY=VALUE ...\n[flags] PATH -\n[flags] PATH @FILE",
		Help: `Write a secret, in place of what it was.

` + dataHelp + `

  quorate kv put secret/app user=app password=@password.txt
  generate-password | quorate kv put secret/app password=-
  quorate kv put -cas=0 secret/app @app.json`,
	}
	c.Flags.IntVar(&cas, "cas", 0, "write only if the latest version has this `NUMBER`; 0: only if there is none")
	return k.kvCommand(c, answers|pickable, unlimited, func(ctx context.Context, p place, args []string) error {
		data, err := k.secretData(args)
		if err != nil {
			return err
		}
		if k.env.IsFlagSet("cas") {
			err = p.needVersions()
		}
		if err != nil {
			return err
		}
		if p.versioned {
			data = map[string]any{"data": data, "options": k.options(cas)}
		}
		reply, err := k.client.Logical().WriteWithContext(ctx, p.at("data"), data)
		if err != nil {
			return k.lostRace(asking("writing", err))
		}
		return k.printVersion(reply, p)
	})
}

// secretData reads what is to be kept.
func (k *kv) secretData(args []string) (map[string]any, error) {
	if len(args) == 0 {
		return nil, k.env.Usagef("no data given: add KEY=VALUE, - or @FILE")
	}
	k.warnSecrets(args)
	data, err := dataOf(args, k.stdin)
	if err != nil {
		return nil, localf("reading the data: %w", err)
	}
	return data, nil
}

// options are those of a write of version 2.
func (k *kv) options(cas int) map[string]any {
	if !k.env.IsFlagSet("cas") {
		return map[string]any{}
	}
	return map[string]any{"cas": cas}
}

func (k *kv) lostRace(err error) error {
	if err != nil && strings.Contains(err.Error(), "check-and-set parameter did not match") {
		return hinted(err, http.StatusBadRequest, "somebody else wrote it first: quorate kv get shows the latest version, whose number -cas takes")
	}
	return err
}

func (a *app) kvListCommand() *command.C {
	k := &kv{session: session{app: a}}
	c := &command.C{Name: "list", Usage: "[flags] PATH", Help: `List the names of secrets. Those that end in a slash have more below them.

  quorate kv list secret/apps
  quorate kv list -mount=secret`}
	var page page
	page.flags(&c.Flags)
	return k.kvCommand(c, answers, 1, func(ctx context.Context, p place, _ []string) error {
		return k.list(ctx, p.at("metadata"), page)
	})
}

func (a *app) kvDeleteCommand() *command.C {
	k := &kv{session: session{app: a}}
	c := &command.C{Name: "delete", Usage: "[flags] PATH", Help: `Delete a secret; in mounts of version 2 its latest version, or those given. "undelete" brings them back.

  quorate kv delete secret/app
  quorate kv delete -versions=2,3 secret/app`}
	k.versionsFlag(&c.Flags)
	return k.kvCommand(c, 0, 1, func(ctx context.Context, p place, _ []string) error {
		const done = "deleted, if it existed: "
		if len(k.versions) == 0 {
			return k.drop(ctx, "deleting", p.at("data"), done+p.at("data"))
		}
		if err := p.needVersions(); err != nil {
			return err
		}
		return k.put(ctx, "deleting", p.at("delete"), map[string]any{"versions": k.versions}, done+p.String())
	})
}

func (k *kv) versionsFlag(fs *flag.FlagSet) {
	fs.Func("versions", "`NUMBERS` of versions, with commas; may be repeated", func(s string) error {
		for _, text := range strings.Split(s, ",") {
			n, err := strconv.Atoi(strings.TrimSpace(text))
			if err != nil || n < 1 {
				return errors.New("must be numbers from 1")
			}
			k.versions = append(k.versions, n)
		}
		return nil
	})
}

// kvVersionsCommand is what is done to some versions of a secret.
func (a *app) kvVersionsCommand(name, help, action, done string) *command.C {
	k := &kv{session: session{app: a}}
	c := &command.C{Name: name, Usage: "[flags] PATH", Help: help + "\n\n  quorate kv " + name + " -versions=3 secret/app"}
	k.versionsFlag(&c.Flags)
	return k.versioned(c, 0, 1, func(ctx context.Context, p place, _ []string) error {
		if len(k.versions) == 0 {
			return k.env.Usagef("-versions says which ones")
		}
		return k.put(ctx, action, p.at(name), map[string]any{"versions": k.versions}, done+": "+p.String())
	})
}

func (a *app) kvEnableVersioningCommand() *command.C {
	s := &session{app: a}
	c := &command.C{Name: "enable-versioning", Usage: "[flags] MOUNT", Help: `Make a key/value mount of version 1 one of version 2.

  quorate kv enable-versioning kv`}
	return s.command(c, byUser, 1, 1, func(ctx context.Context, args []string) error {
		mount := strings.Trim(args[0], "/")
		return s.put(ctx, "tuning the mount", "sys/mounts/"+mount+"/tune",
			map[string]any{"options": map[string]any{"version": "2"}}, mount+"/ keeps versions now")
	})
}
