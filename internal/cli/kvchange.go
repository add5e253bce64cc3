package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/creachadair/command"
	"github.com/openbao/openbao/api/v2"
)

// kvPatch is the kv patch command.
type kvPatch struct {
	kv
	method string
	remove []string
	cas    int
}

func (a *app) kvPatchCommand() *command.C {
	k := &kvPatch{kv: kv{session: session{app: a}}}
	c := &command.C{
		Name: "patch", Usage: "[flags] PATH KEY=VALUE ...\n[flags] PATH -\n[flags] PATH @FILE",
		Help: `Change some keys of a secret, and leave the others as they are. It needs a mount of version 2.

` + dataHelp + `

  quorate kv patch secret/app password=@password.txt
  quorate kv patch -remove-data=old-password secret/app
  quorate kv patch -method=rw secret/app user=app`,
	}
	c.Flags.StringVar(&k.method, "method", "", "`METHOD`: patch, or rw to read the secret and write it; by default rw is tried where patch isn't allowed")
	c.Flags.Func("remove-data", "`KEY` to remove; may be repeated", repeated(&k.remove))
	c.Flags.IntVar(&k.cas, "cas", 0, "write only if the latest version has this `NUMBER`")
	return k.versioned(c, answers|pickable, unlimited, func(ctx context.Context, p place, args []string) error {
		if !slices.Contains([]string{"", "patch", "rw"}, k.method) {
			return k.env.Usagef("-method is patch or rw")
		}
		changes := map[string]any{}
		if len(args) > 0 || len(k.remove) == 0 {
			var err error
			if changes, err = k.secretData(args); err != nil {
				return err
			}
		}
		for _, key := range k.remove {
			changes[key] = nil
		}
		reply, err := k.change(ctx, p, changes)
		if err != nil {
			return k.lostRace(err)
		}
		return k.printVersion(reply, p)
	})
}

func (k *kvPatch) change(ctx context.Context, p place, changes map[string]any) (*api.Secret, error) {
	if k.method != "rw" {
		reply, err := k.client.Logical().JSONMergePatch(ctx, p.at("data"), map[string]any{"data": changes, "options": k.options(k.cas)})
		switch status := answered(err); {
		case err == nil:
			return reply, nil
		case status == http.StatusNotFound:
			return nil, nothingInKV(p)
		case k.method == "patch" || status != http.StatusForbidden && status != http.StatusMethodNotAllowed:
			return nil, asking("patching", err)
		}
	}
	data, version, err := k.latest(ctx, p, 0)
	if err != nil {
		return nil, err
	}
	maps.Copy(data, changes)
	for _, key := range k.remove {
		delete(data, key)
	}
	if k.env.IsFlagSet("cas") {
		version = k.cas
	}
	return k.overwrite(ctx, p, data, version)
}

// latest reads a version of a secret, by default the latest, in order to write it again.
func (k *kv) latest(ctx context.Context, p place, version int) (data map[string]any, found int, err error) {
	client, err := k.aside(k.client.Token())
	if err != nil {
		return nil, 0, err
	}
	s, err := client.Logical().ReadWithDataWithContext(ctx, p.at("data"), versionQuery(version))
	if err != nil {
		return nil, 0, asking("reading", err)
	}
	if s == nil {
		return nil, 0, nothingInKV(p)
	}
	metadata, _ := s.Data["metadata"].(map[string]any)
	number, _ := metadata["version"].(json.Number)
	if found, err = strconv.Atoi(number.String()); err != nil {
		return nil, 0, asking("reading", errors.New("the server's answer doesn't say which version it is"))
	}
	data, _ = s.Data["data"].(map[string]any)
	if data == nil && version == 0 {
		return nil, found, nothingInKV(p)
	}
	return data, found, nil
}

// overwrite writes data if the latest version is still the one given.
func (k *kv) overwrite(ctx context.Context, p place, data map[string]any, version int) (*api.Secret, error) {
	body := map[string]any{"data": data, "options": map[string]any{"cas": version}}
	reply, err := k.client.Logical().WriteWithContext(ctx, p.at("data"), body)
	return reply, asking("writing", err)
}

func (a *app) kvRollbackCommand() *command.C {
	k := &kv{session: session{app: a}}
	var version int
	c := &command.C{Name: "rollback", Usage: "[flags] PATH", Help: `Write an older version of a secret again, as a new version.

  quorate kv rollback -version=2 secret/app`}
	c.Flags.IntVar(&version, "version", 0, "`NUMBER` of the version to write again")
	return k.versioned(c, answers|pickable, 1, func(ctx context.Context, p place, _ []string) error {
		if version < 1 {
			return k.env.Usagef("-version says which one")
		}
		_, newest, err := k.latest(ctx, p, 0)
		if err != nil && newest == 0 {
			return err
		}
		data, _, err := k.latest(ctx, p, version)
		if err != nil {
			return err
		}
		if data == nil {
			return &failure{code: exitServer, err: errors.New("that version was deleted or destroyed"), hint: "quorate kv undelete brings a deleted one back"}
		}
		reply, err := k.overwrite(ctx, p, data, newest)
		if err != nil {
			return k.lostRace(err)
		}
		return k.printVersion(reply, p)
	})
}

func (a *app) kvMetadataCommands() *command.C {
	return group("metadata", "Look at and change what is kept about a secret beside its versions.",
		a.kvMetadataGetCommand(), a.kvMetadataPutCommand(), a.kvMetadataPatchCommand(), a.kvMetadataDeleteCommand())
}

func (a *app) kvMetadataGetCommand() *command.C {
	k := &kv{session: session{app: a}}
	c := &command.C{Name: "get", Usage: "[flags] PATH", Help: `Show the metadata of a secret and of its versions.

  quorate kv metadata get secret/app`}
	return k.versioned(c, answers|pickable, 1, func(ctx context.Context, p place, _ []string) error {
		found, err := k.get(ctx, "reading", p.at("metadata"))
		if err != nil {
			return err
		}
		format, err := k.out.format.resolve()
		if err != nil {
			return err
		}
		if k.out.field != "" || format != "table" || found.WrapInfo != nil {
			return k.printSecret(found)
		}
		k.warn(found.Warnings)
		versions, _ := found.Data["versions"].(map[string]any)
		delete(found.Data, "versions")
		text := titledPath("Metadata Path", p.at("metadata")) + titled("Metadata", dataSheet(found.Data))
		numbers := slices.SortedFunc(maps.Keys(versions), func(a, b string) int {
			x, _ := strconv.Atoi(a)
			y, _ := strconv.Atoi(b)
			return x - y
		})
		for _, n := range numbers {
			version, _ := versions[n].(map[string]any)
			text += "\n" + titled("Version "+visible(n, ""), dataSheet(version))
		}
		return k.write(text)
	})
}

// kvMetadata is a change of a secret's metadata.
type kvMetadata struct {
	kv
	fields map[string]any // that were given
	custom map[string]any
}

func newKVMetadata(a *app) *kvMetadata {
	return &kvMetadata{kv: kv{session: session{app: a}}, fields: map[string]any{}, custom: map[string]any{}}
}

func (k *kvMetadata) flags(fs *flag.FlagSet) {
	setInt(fs, k.fields, "max-versions", "`NUMBER` of versions to keep; 0 is what the mount says")
	setBool(fs, k.fields, "cas-required", "refuse writes that don't say with -cas which version they follow")
	setDuration(fs, k.fields, "delete-version-after", "`DURATION` after which a version is deleted by itself")
	setPairs(fs, k.custom, "custom-metadata", "`KEY=VALUE` to keep with the secret; may be repeated")
}

// given is what is to be changed.
func (k *kvMetadata) given() map[string]any {
	if len(k.custom) > 0 {
		k.fields["custom_metadata"] = k.custom
	}
	return k.fields
}

func (a *app) kvMetadataPutCommand() *command.C {
	k := newKVMetadata(a)
	c := &command.C{Name: "put", Usage: "[flags] PATH", Help: `Set the metadata of a secret, which need not exist yet.

  quorate kv metadata put -max-versions=5 -delete-version-after=90d secret/app
  quorate kv metadata put -custom-metadata=owner=ops secret/app`}
	k.flags(&c.Flags)
	return k.versioned(c, 0, 1, func(ctx context.Context, p place, _ []string) error {
		return k.put(ctx, "writing", p.at("metadata"), k.given(), "written to "+p.at("metadata"))
	})
}

func (a *app) kvMetadataPatchCommand() *command.C {
	k := newKVMetadata(a)
	c := &command.C{Name: "patch", Usage: "[flags] PATH", Help: `Change some of the metadata of a secret, and leave the rest as it is.

  quorate kv metadata patch -custom-metadata=owner=ops -remove-custom-metadata=team secret/app`}
	k.flags(&c.Flags)
	c.Flags.Func("remove-custom-metadata", "`KEY` to remove; may be repeated", func(key string) error {
		k.custom[key] = nil
		return nil
	})
	return k.versioned(c, 0, 1, func(ctx context.Context, p place, _ []string) error {
		reply, err := k.client.Logical().JSONMergePatch(ctx, p.at("metadata"), k.given())
		if answered(err) == http.StatusNotFound {
			return nothingAt(p.at("metadata"))
		}
		return k.done(reply, asking("patching", err), "written to "+p.at("metadata"))
	})
}

func (a *app) kvMetadataDeleteCommand() *command.C {
	k := &kv{session: session{app: a}}
	c := &command.C{Name: "delete", Usage: "[flags] PATH", Help: `Delete a secret with all its versions and metadata, for good.

  quorate kv metadata delete secret/app`}
	return k.versioned(c, 0, 1, func(ctx context.Context, p place, _ []string) error {
		return k.drop(ctx, "deleting", p.at("metadata"), "deleted, if it existed: "+p.at("metadata"))
	})
}

// The flags below are kept in a map, under their names as the wire has them, only if they are given.

func fieldName(flag string) string { return strings.ReplaceAll(flag, "-", "_") }

func setText(fs *flag.FlagSet, into map[string]any, name, usage string) {
	fs.Func(name, usage, func(s string) error {
		into[fieldName(name)] = s
		return nil
	})
}

func setList(fs *flag.FlagSet, into map[string]any, name, usage string) {
	fs.Func(name, usage, func(s string) error {
		list, _ := into[fieldName(name)].([]string)
		into[fieldName(name)] = append(list, s)
		return nil
	})
}

func setInt(fs *flag.FlagSet, into map[string]any, name, usage string) {
	fs.Func(name, usage, func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return errors.New("must be a number from 0")
		}
		into[fieldName(name)] = n
		return nil
	})
}

func setBool(fs *flag.FlagSet, into map[string]any, name, usage string) {
	fs.BoolFunc(name, usage, func(s string) error {
		on, err := strconv.ParseBool(s)
		if err != nil {
			return errors.New("must be true or false")
		}
		into[fieldName(name)] = on
		return nil
	})
}

func setDuration(fs *flag.FlagSet, into map[string]any, name, usage string) {
	fs.Func(name, usage, func(s string) error {
		var d durationText
		err := d.Set(s)
		into[fieldName(name)] = string(d)
		return err
	})
}

// setPairs keeps the pairs themselves in into.
func setPairs(fs *flag.FlagSet, into map[string]any, name, usage string) {
	fs.Func(name, usage, func(s string) error {
		key, value, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			return errors.New("must be KEY=VALUE")
		}
		into[key] = value
		return nil
	})
}
