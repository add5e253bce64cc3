package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/creachadair/command"
	"github.com/openbao/openbao/api/v2"
)

func (a *app) readCommand() *command.C {
	s := &session{app: a}
	c := &command.C{Name: "read", Usage: "[flags] PATH [KEY=VALUE ...]", Help: `Read what is at a path. Pairs are sent as query parameters.

  quorate read sys/key-status
  quorate read -field=keys auth/approle/role list=true`}
	return s.command(c, answers|pickable|placed, 1, unlimited, func(ctx context.Context, args []string) error {
		client, path, query, err := s.withQuery(args)
		if err != nil {
			return err
		}
		found, err := client.Logical().ReadWithDataWithContext(ctx, path, query)
		if err != nil {
			return asking("reading", err)
		}
		if found == nil || found.Data == nil && found.Auth == nil && found.WrapInfo == nil {
			s.warn(warnings(found))
			return nothingAt(path)
		}
		return s.printSecret(found)
	})
}

// warnings are those of an answer, which may be none.
func warnings(s *api.Secret) []string {
	if s == nil {
		return nil
	}
	return s.Warnings
}

func (a *app) writeCommand() *command.C {
	s := &session{app: a}
	var force bool
	c := &command.C{
		Name: "write", Usage: "[flags] PATH [KEY=VALUE ...]\n[flags] PATH -\n[flags] PATH @FILE",
		Help: `Write to a path. A VALUE of @FILE is the file's content, one of - is standard input; \@ begins a literal @.

With - or @FILE instead of pairs, the whole data is JSON from standard input or the file.
A key share as the VALUE of key= is refused where the path takes one: give key=- and the share through a pipe.

  quorate write auth/approle/role/app token_policies=app token_ttl=20m
  quorate write -force -field=secret_id auth/approle/role/app/secret-id
  quorate write auth/userpass/users/ann password=-`,
	}
	c.Flags.BoolVar(&force, "force", false, "write without any data")
	c.Flags.BoolVar(&force, "f", false, "short for -force")
	return s.command(c, answers|pickable, 1, unlimited, func(ctx context.Context, args []string) error {
		if len(args) == 1 && !force {
			return s.env.Usagef("no data given: add KEY=VALUE, or -force to write none")
		}
		if err := refuseShare(args[0], args[1:]); err != nil {
			return err
		}
		if dotted(args[0]) {
			return localf("%w", errDotted)
		}
		s.warnSecrets(args[1:])
		data, err := dataOf(args[1:], s.stdin)
		if err != nil {
			return localf("reading the data: %w", err)
		}
		if takesShare(args[0]) {
			trimShare(data)
		}
		// No prompt could take a password that ends in a line break, so it isn't part of one from a pipe or a file.
		if text, ok := data["password"].(string); ok && strings.HasPrefix(cleanPath(args[0]), "auth/") {
			data["password"] = strings.TrimRight(text, "\r\n")
		}
		client, err := s.user()
		if err != nil {
			return err
		}
		reply, err := client.Logical().WriteWithContext(ctx, cleanPath(args[0]), data)
		switch {
		case err != nil:
			s.warn(warnings(reply))
			return asking("writing", err)
		case reply != nil:
			return s.printSecret(reply)
		case s.out.field == "":
			s.say("written")
		}
		return nil
	})
}

func (a *app) listCommand() *command.C {
	s := &session{app: a}
	c := &command.C{Name: "list", Usage: "[flags] PATH", Help: `List the names below a path.

  quorate list auth/token/accessors
  quorate list -limit=100 -after=app-0041 secret/metadata/apps`}
	var page page
	page.flags(&c.Flags)
	return s.command(c, answers|byUser|placed, 1, 1, func(ctx context.Context, args []string) error {
		return s.list(ctx, cleanPath(args[0]), page)
	})
}

// page is a part of a long list.
type page struct {
	after string
	limit int
}

func (p *page) flags(fs *flag.FlagSet) {
	fs.StringVar(&p.after, "after", "", "begin with the first name after this `NAME`")
	fs.IntVar(&p.limit, "limit", 0, "`NUMBER` of names at most; 0 is any number")
}

// list prints the names below a path.
func (s *session) list(ctx context.Context, path string, p page) error {
	var found *api.Secret
	var err error
	if p == (page{}) {
		found, err = s.client.Logical().ListWithContext(ctx, path)
	} else {
		found, err = s.client.Logical().ListPageWithContext(ctx, path, p.after, p.limit)
	}
	if err != nil {
		return asking("listing", err)
	}
	if found == nil {
		return nothingAt(path)
	}
	keys, ok := found.Data["keys"].([]any)
	if !ok && found.WrapInfo == nil {
		s.warn(found.Warnings)
		return nothingAt(path)
	}
	return s.printData(found, keys, func() string { return "Keys\n----\n" + lines(keys) })
}

// lines shows each name on a line of its own.
func lines(names []any) (text string) {
	for _, name := range names {
		text += visible(fmt.Sprint(name), "") + "\n"
	}
	return text
}

// get reads what must be there.
func (s *session) get(ctx context.Context, action, path string) (*api.Secret, error) {
	found, err := s.client.Logical().ReadWithContext(ctx, path)
	switch {
	case err != nil:
		return nil, asking(action, err)
	case found == nil:
		return nil, nothingAt(path)
	}
	return found, nil
}

// put writes what is answered with nothing but warnings, and then says that it is done.
func (s *session) put(ctx context.Context, action, path string, data map[string]any, done string) error {
	reply, err := s.client.Logical().WriteWithContext(ctx, path, data)
	return s.done(reply, asking(action, err), done)
}

// drop deletes what is at a path.
func (s *session) drop(ctx context.Context, action, path, done string) error {
	reply, err := s.client.Logical().DeleteWithContext(ctx, path)
	return s.done(reply, asking(action, err), done)
}

func (s *session) done(reply *api.Secret, err error, done string) error {
	s.warn(warnings(reply))
	if err == nil {
		s.say("%s", visible(done, ""))
	}
	return err
}

func (a *app) deleteCommand() *command.C {
	s := &session{app: a}
	c := &command.C{Name: "delete", Usage: "[flags] PATH [KEY=VALUE ...]", Help: `Delete what is at a path. Pairs are sent as query parameters.

  quorate delete auth/userpass/users/ann`}
	return s.command(c, placed, 1, unlimited, func(ctx context.Context, args []string) error {
		client, path, query, err := s.withQuery(args)
		if err != nil {
			return err
		}
		reply, err := client.Logical().DeleteWithDataWithContext(ctx, path, query)
		return s.done(reply, asking("deleting", err), "deleted, if it existed")
	})
}

// nothingAt is the answer to a read of something absent.
func nothingAt(path string) error {
	return &failure{code: exitServer, err: fmt.Errorf("no value found at %s", cleanPath(path))}
}

// cleanPath lets people begin a path with a slash.
func cleanPath(path string) string { return strings.TrimLeft(path, "/") }

// shareTakers are the paths below sys/ that take a key share as "key".
var shareTakers = []string{
	"unseal", "root-generation/update", "root-generation/attempt", "generate-root/update", "generate-root/attempt",
	"generate-root-token/update", "generate-root-token/attempt",
	"rekey/init", "rekey/update", "rekey/verify", "rotate/root/init", "rotate/root/update", "rotate/root/verify",
}

func takesShare(where string) bool {
	name, ok := strings.CutPrefix(strings.ToLower(path.Clean("/v1/"+where)), "/v1/sys/")
	return ok && (slices.Contains(shareTakers, name) || name == "ceremonies" || strings.HasPrefix(name, "ceremonies/"))
}

// refuseShare refuses a share given as an argument, in any spelling that the server would understand.
func refuseShare(where string, pairs []string) error {
	if !takesShare(where) {
		return nil
	}
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, "=")
		if strings.EqualFold(key, "key") && value != "" && value != "-" && value[0] != '@' {
			return localf("%w", errShareArgument)
		}
	}
	return nil
}

// trimShare takes off the end of line that a share from a pipe or a file has; the server takes none.
func trimShare(data map[string]any) {
	for k, v := range data {
		if text, ok := v.(string); ok {
			data[k] = strings.TrimSpace(text)
		}
	}
}

// withQuery reads a path and the parameters that go with it.
func (s *session) withQuery(args []string) (client *api.Client, path string, query map[string][]string, err error) {
	if err := refuseShare(args[0], args[1:]); err != nil {
		return nil, "", nil, err
	}
	for _, pair := range args[1:] {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, "", nil, localf("parameters are given as KEY=VALUE")
		}
		if query == nil {
			query = map[string][]string{}
		}
		query[key] = append(query[key], value)
	}
	client, err = s.user()
	return client, cleanPath(args[0]), query, err
}

// dataOf builds what is written. A key given several times becomes a list.
func dataOf(args []string, stdin io.Reader) (map[string]any, error) {
	if len(args) == 1 && (args[0] == "-" || strings.HasPrefix(args[0], "@")) {
		return objectFrom(args[0], stdin)
	}
	data := map[string]any{}
	for _, pair := range args {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, errors.New("data is given as KEY=VALUE")
		}
		value, err := valueOf(value, stdin)
		if err != nil {
			return nil, err
		}
		switch old := data[key].(type) {
		case nil:
			data[key] = value
		case []any:
			data[key] = append(old, value)
		default:
			data[key] = []any{old, value}
		}
	}
	return data, nil
}

// secretKeys are how the names of data end that are secrets.
var secretKeys = []string{"password", "passwd", "passphrase", "secret", "token", "secret_id", "private_key", "secret_key", "api_key", "apikey"}

// warnSecrets warns of what seems to be a secret and stands on the command line, where it works, as people are used to.
func (s *session) warnSecrets(pairs []string) {
	for _, pair := range pairs {
		key, value, _ := strings.Cut(strings.ToLower(pair), "=")
		if value == "" || value == "-" || value[0] == '@' {
			continue
		}
		if slices.ContainsFunc(secretKeys, func(end string) bool { return strings.HasSuffix(key, end) }) {
			s.say("warning: a secret on the command line can be seen in the process list and in the shell's history; KEY=- and KEY=@FILE keep it out")
			return
		}
	}
}

func valueOf(value string, stdin io.Reader) (string, error) {
	switch {
	case value == "-":
		b, err := io.ReadAll(stdin)
		return textIn(b, err)
	case strings.HasPrefix(value, "@"):
		b, err := os.ReadFile(value[1:])
		return textIn(b, err)
	case strings.HasPrefix(value, `\@`):
		return value[1:], nil
	}
	return value, nil
}

// textIn refuses what JSON can't carry: it would be changed silently.
func textIn(b []byte, err error) (string, error) {
	if err == nil && !utf8.Valid(b) {
		err = errors.New("the value is not UTF-8 text: encode it first, for example with base64")
	}
	return string(b), err
}

func objectFrom(arg string, stdin io.Reader) (map[string]any, error) {
	r := stdin
	if arg != "-" {
		f, err := os.Open(arg[1:])
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r = f
	}
	var data map[string]any
	dec := json.NewDecoder(r)
	dec.UseNumber()
	if err := dec.Decode(&data); err != nil {
		// The decoder's own text may show a piece of the data.
		return nil, errors.New("it must be one JSON object")
	}
	return data, nil
}
