package cli

import (
	"context"
	"net/http"

	"github.com/creachadair/command"
	"github.com/openbao/openbao/api/v2"
)

// rotation is the operator rotate command.
type rotation struct {
	session
	config, rootKey bool
	settings        map[string]any // of the automatic rotation, those that are to change
}

func (a *app) rotateCommand() *command.C {
	r := &rotation{session: session{app: a}, settings: map[string]any{}}
	c := &command.C{
		Name: "rotate", Usage: "[flags]",
		Help: `Rotate the key that new records are encrypted with, and show its status. What was encrypted before stays readable.

The server also does so by itself, by the number of encryptions and, if that is set, after an interval: -config shows
when, and the flags -enabled, -interval and -max-operations change it. With -root-key, the key above that one is
rotated; no key holder is needed for that, and the key shares stay as they are.`,
	}
	c.Flags.BoolVar(&r.config, "config", false, "show the settings of the automatic rotation; nothing is rotated")
	c.Flags.BoolVar(&r.rootKey, "root-key", false, "rotate the root key instead")
	// The server reads numbers and booleans from text too, and bounds them.
	set := func(name string) func(string) error { return func(v string) error { r.settings[name] = v; return nil } }
	c.Flags.Func("max-operations", "set the `NUMBER` of encryptions after which the server rotates by itself", set("max_operations"))
	c.Flags.Func("enabled", "`true or false`: set whether the server rotates by itself", set("enabled"))
	c.Flags.Func("interval", "set the `DURATION` after which the server rotates by itself; 0 for never", func(v string) error {
		var d durationText
		err := d.Set(v)
		r.settings["interval"] = d
		return err
	})
	return r.command(c, answers|byUser, 0, 0, r.run)
}

func (r *rotation) run(ctx context.Context, _ []string) error {
	if countTrue(r.config, r.rootKey, len(r.settings) > 0) > 1 {
		return localf("-config, -root-key and the settings (-enabled, -interval, -max-operations) exclude each other")
	}
	if _, err := r.out.format.resolve(); err != nil {
		return err
	}
	post := func(path string, body []byte, action, done string) error {
		err := asking(action, call(ctx, r.client, http.MethodPost, path, body, nil))
		if err == nil {
			r.say("%s", done)
		}
		return err
	}
	switch {
	case r.config:
		return r.printAt(ctx, r.client, "sys/rotate/config", "reading the settings of the automatic rotation")
	case r.rootKey:
		return post("sys/rotate/root", nil, "rotating the root key", "the root key is rotated; the key shares stay as they are")
	case len(r.settings) > 0:
		return post("sys/rotate/config", jsonBody(r.settings), "setting the automatic rotation", "the automatic rotation is set")
	}
	if err := post("sys/rotate", nil, "rotating", "the key is rotated"); err != nil {
		return err
	}
	return r.printKeyStatus(ctx, nil)
}

// printAt prints what is at a path.
func (s *session) printAt(ctx context.Context, client *api.Client, path, action string) error {
	found, err := client.Logical().ReadWithContext(ctx, path)
	switch {
	case err != nil:
		return asking(action, err)
	case found == nil || found.Data == nil:
		return nothingAt(path)
	}
	return s.printSecret(found)
}
