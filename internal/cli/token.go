package cli

import (
	"context"
	"errors"
	"flag"
	"strconv"
	"strings"
	"time"

	"github.com/creachadair/command"
	"github.com/openbao/openbao/api/v2"
)

// tokenCreation is the token create command.
type tokenCreation struct {
	session
	req                         api.TokenCreateRequest
	ttl, explicitMaxTTL, period durationText
	role                        string
	renewable                   bool
}

func (a *app) tokenCreateCommand() *command.C {
	t := &tokenCreation{session: session{app: a}}
	c := &command.C{
		Name: "create", Usage: "[flags]",
		Help: `Create a token, a child of the one you use.

Without -policy it has the policies of its parent.

  quorate token create -policy=app -ttl=8h -display-name=ann
  quorate token create -role=ops -format=json`,
	}
	t.flags(&c.Flags)
	return t.command(c, answers|pickable|byUser, 0, 0, func(ctx context.Context, _ []string) error {
		defer outlivePipe()()
		s, err := t.create(ctx)
		if err != nil {
			return asking("creating the token", err)
		}
		return unprinted(t.printSecret(s), unknownToken(s))
	})
}

// unknownToken is what to do about a new token that nobody got to see.
func unknownToken(s *api.Secret) string {
	if s == nil || s.Auth == nil {
		return ""
	}
	return "there is a new token, which is shown only once; to revoke it: quorate token revoke -accessor " + visible(s.Auth.Accessor, "")
}

func (t *tokenCreation) flags(fs *flag.FlagSet) {
	fs.Func("policy", "`NAME` of a policy; may be repeated", repeated(&t.req.Policies))
	fs.Var(&t.ttl, "ttl", "`DURATION` until it expires, if it isn't renewed: 30m, 8h, 7d or seconds")
	fs.Var(&t.explicitMaxTTL, "explicit-max-ttl", "`DURATION` after which it can't be renewed any more")
	fs.Var(&t.period, "period", "`DURATION` of each renewal, of which there may be any number")
	fs.BoolVar(&t.renewable, "renewable", true, "whether it can be renewed")
	fs.BoolVar(&t.req.NoParent, "orphan", false, "give it no parent, so that it outlives this one")
	fs.IntVar(&t.req.NumUses, "use-limit", 0, "`NUMBER` of uses it is good for; 0 is any number")
	fs.StringVar(&t.req.DisplayName, "display-name", "", "`NAME` shown where it is looked up")
	fs.Func("metadata", "`KEY=VALUE` to keep with it; may be repeated", t.metadata)
	fs.BoolVar(&t.req.NoDefaultPolicy, "no-default-policy", false, "leave out the policy default")
	fs.StringVar(&t.req.ID, "id", "", "`TEXT` that becomes the token; whoever knows it has the token")
	fs.StringVar(&t.req.Type, "type", "service", "`TYPE` of token")
	fs.StringVar(&t.role, "role", "", "`NAME` of the token role to create it with")
}

func (t *tokenCreation) metadata(pair string) error {
	key, value, ok := strings.Cut(pair, "=")
	if !ok || key == "" {
		return errors.New("must be KEY=VALUE")
	}
	if t.req.Metadata == nil {
		t.req.Metadata = map[string]string{}
	}
	t.req.Metadata[key] = value
	return nil
}

func (t *tokenCreation) create(ctx context.Context) (*api.Secret, error) {
	t.req.TTL, t.req.ExplicitMaxTTL, t.req.Period = string(t.ttl), string(t.explicitMaxTTL), string(t.period)
	t.req.Renewable = &t.renewable
	if t.role != "" {
		return t.client.Auth().Token().CreateWithRoleWithContext(ctx, &t.req, t.role)
	}
	return t.client.Auth().Token().CreateWithContext(ctx, &t.req)
}

// tokenSubject is one run of a command about a token: of the user, or given by itself or by its accessor.
type tokenSubject struct {
	session
	accessor bool
	subject  string // empty for the user's own token
	tokens   *api.TokenAuth
}

func (t *tokenSubject) tokenCommand(c *command.C, has traits, run func(context.Context) (*api.Secret, error)) *command.C {
	c.Usage = "[flags] [TOKEN | ACCESSOR | -]"
	c.Flags.BoolVar(&t.accessor, "accessor", false, "the argument is an accessor")
	return t.command(c, has|byUser, 0, 1, func(ctx context.Context, args []string) (err error) {
		if t.accessor && len(args) == 0 {
			return t.env.Usagef("-accessor needs the accessor as the argument")
		}
		t.tokens = t.client.Auth().Token()
		if t.subject = strings.Join(args, ""); t.subject == "-" {
			if t.subject, err = t.takeToken(ctx, args); err != nil {
				return err
			}
		}
		s, err := run(ctx)
		if err != nil || has == 0 {
			return err
		}
		return t.printSecret(s)
	})
}

func (a *app) tokenLookupCommand() *command.C {
	t := &tokenSubject{session: session{app: a}}
	c := &command.C{Name: "lookup", Help: `Show what is known about a token, by default about the one you use.

  quorate token lookup -accessor Hs8nAh0pBxwF4TWjvF5UMhrO`}
	return t.tokenCommand(c, answers|pickable, func(ctx context.Context) (s *api.Secret, err error) {
		switch {
		case t.subject == "":
			s, err = t.tokens.LookupSelfWithContext(ctx)
		case t.accessor:
			s, err = t.tokens.LookupAccessorWithContext(ctx, t.subject)
		default:
			s, err = t.tokens.LookupWithContext(ctx, t.subject)
		}
		return s, asking("looking up the token", err)
	})
}

func (a *app) tokenRenewCommand() *command.C {
	t := &tokenSubject{session: session{app: a}}
	var increment durationText
	c := &command.C{Name: "renew", Help: `Renew a token, by default the one you use.

  quorate token renew -increment=8h`}
	c.Flags.Var(&increment, "increment", "`DURATION` to ask for, from now")
	c.Flags.Var(&increment, "i", "short for -increment, `DURATION`")
	return t.tokenCommand(c, answers|pickable, func(ctx context.Context) (s *api.Secret, err error) {
		switch {
		case t.subject == "":
			s, err = t.tokens.RenewSelfWithContext(ctx, increment.seconds())
		case t.accessor:
			s, err = t.tokens.RenewAccessorWithContext(ctx, t.subject, increment.seconds())
		default:
			s, err = t.tokens.RenewWithContext(ctx, t.subject, increment.seconds())
		}
		return s, asking("renewing the token", err)
	})
}

func (a *app) tokenRevokeCommand() *command.C {
	t := &tokenSubject{session: session{app: a}}
	var self bool
	var mode string
	c := &command.C{Name: "revoke", Help: `Revoke a token and all its children.

  quorate token revoke -accessor Hs8nAh0pBxwF4TWjvF5UMhrO
  quorate token revoke -self`}
	c.Flags.BoolVar(&self, "self", false, "revoke the token you use")
	c.Flags.StringVar(&mode, "mode", "", "`MODE`: orphan lets the children live on, without a parent")
	return t.tokenCommand(c, 0, func(ctx context.Context) (_ *api.Secret, err error) {
		switch {
		case self == (t.subject != ""):
			return nil, t.env.Usagef("say what to revoke: a token, -accessor and an accessor, or -self")
		case mode != "" && (mode != "orphan" || t.accessor || self):
			return nil, t.env.Usagef("the only -mode is orphan, and it goes with a token")
		case self:
			err = t.tokens.RevokeSelfWithContext(ctx, "")
		case t.accessor:
			err = t.tokens.RevokeAccessorWithContext(ctx, t.subject)
		case mode == "orphan":
			err = t.tokens.RevokeOrphanWithContext(ctx, t.subject)
		default:
			err = t.tokens.RevokeTreeWithContext(ctx, t.subject)
		}
		if err == nil {
			t.say("the token is revoked, if it existed")
		}
		return nil, asking("revoking the token", err)
	})
}

func (a *app) tokenCapabilitiesCommand() *command.C {
	s := &session{app: a}
	var accessor bool
	c := &command.C{Name: "capabilities", Usage: "[flags] [TOKEN | ACCESSOR | -] PATH", Help: `Show what a token may do on a path, by default the one you use.

  quorate token capabilities secret/data/app
  quorate token capabilities -accessor Hs8nAh0pBxwF4TWjvF5UMhrO secret/data/app`}
	c.Flags.BoolVar(&accessor, "accessor", false, "the first argument is an accessor")
	return s.command(c, answers|byUser, 1, 2, func(ctx context.Context, args []string) (err error) {
		path := cleanPath(args[len(args)-1])
		at, fields := "sys/capabilities-self", map[string]any{"paths": []string{path}}
		switch {
		case len(args) == 2 && accessor:
			at, fields["accessor"] = "sys/capabilities-accessor", args[0]
		case len(args) == 2 && args[0] == "-":
			at = "sys/capabilities"
			if fields["token"], err = s.takeToken(ctx, args[:1]); err != nil {
				return err
			}
		case len(args) == 2:
			at, fields["token"] = "sys/capabilities", args[0]
		case accessor:
			return s.env.Usagef("-accessor needs the accessor before the path")
		}
		reply, err := s.client.Logical().WriteWithContext(ctx, at, fields)
		if err == nil && reply == nil {
			err = errNoContent
		}
		if err != nil {
			return asking("looking up the capabilities", err)
		}
		names, _ := reply.Data[path].([]any)
		return s.printData(reply, names, func() string {
			return strings.Join(strings.Fields(lines(names)), ", ") + "\n"
		})
	})
}

// repeated collects a flag that may be given several times.
func repeated(list *[]string) func(string) error {
	return func(s string) error {
		*list = append(*list, s)
		return nil
	}
}

// durationText is a duration as people write it; a bare number is seconds, d is days. It is kept in whole seconds, as
// the wire has it.
type durationText string

func (d *durationText) String() string { return "" }

// Set implements flag.Value.
func (d *durationText) Set(s string) error {
	const day = 24 * time.Hour
	wrong := errors.New("must be a duration such as 30m, 8h, 7d or 3600")
	var dur time.Duration
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n > int(1<<63-1)/int(day) {
			return wrong
		}
		dur = time.Duration(n) * day
	} else if n, err := strconv.ParseInt(s, 10, 32); err == nil {
		dur = time.Duration(n) * time.Second
	} else if dur, err = time.ParseDuration(s); err != nil {
		return wrong
	}
	if dur < 0 {
		return errors.New("must not be negative")
	}
	*d = durationText(strconv.Itoa(int(dur/time.Second)) + "s")
	return nil
}

// seconds is the number of them, 0 if nothing was given.
func (d durationText) seconds() int {
	n, _ := strconv.Atoi(strings.TrimSuffix(string(d), "s"))
	return n
}
