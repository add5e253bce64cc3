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
	conn                        connection
	out                         output
	req                         api.TokenCreateRequest
	policies                    listValue
	metadata                    pairsValue
	ttl, explicitMaxTTL, period durationText
	role                        string
	renewable, orphan           bool
}

func (a *app) tokenCreateCommand() *command.C {
	t := &tokenCreation{}
	c := &command.C{
		Name: "create", Usage: "[flags]",
		Help: `Create a token, a child of the one you use.

Without -policy it has the policies of its parent.`,
	}
	t.flags(&c.Flags)
	c.Run = func(env *command.Env) error {
		if _, err := positional(env, 0, 0); err != nil {
			return err
		}
		client, err := a.client(&t.conn)
		if err != nil {
			return err
		}
		defer outlivePipe()()
		s, err := t.create(env.Context(), client)
		if err != nil {
			return asking("creating the token", err)
		}
		return unprinted(a.printSecret(&t.out, s), unknownToken(s))
	}
	return c
}

// unknownToken is what to do about a new token that nobody got to see.
func unknownToken(s *api.Secret) string {
	if s == nil || s.Auth == nil {
		return ""
	}
	return "the token was created and is shown only once; to revoke it: quorate token revoke -accessor " + visible(s.Auth.Accessor, "")
}

func (t *tokenCreation) flags(fs *flag.FlagSet) {
	t.conn.flags(fs, hidden)
	t.out.flags(fs)
	t.out.fieldFlag(fs)
	fs.Var(&t.policies, "policy", "`NAME` of a policy; may be repeated")
	fs.Var(&t.ttl, "ttl", "`DURATION` until it expires, if it isn't renewed: 30m, 8h, 7d or seconds")
	fs.Var(&t.explicitMaxTTL, "explicit-max-ttl", "`DURATION` after which it can't be renewed any more")
	fs.Var(&t.period, "period", "`DURATION` of each renewal, of which there may be any number")
	fs.BoolVar(&t.renewable, "renewable", true, "whether it can be renewed")
	fs.BoolVar(&t.orphan, "orphan", false, "give it no parent, so that it outlives this one")
	fs.IntVar(&t.req.NumUses, "use-limit", 0, "`NUMBER` of uses it is good for; 0 is any number")
	fs.StringVar(&t.req.DisplayName, "display-name", "", "`NAME` shown where it is looked up")
	fs.Var(&t.metadata, "metadata", "`KEY=VALUE` to keep with it; may be repeated")
	fs.BoolVar(&t.req.NoDefaultPolicy, "no-default-policy", false, "leave out the policy default")
	fs.StringVar(&t.req.ID, "id", "", "`TEXT` that becomes the token; whoever knows it has the token")
	fs.StringVar(&t.req.Type, "type", "service", "`TYPE` of token")
	fs.StringVar(&t.role, "role", "", "`NAME` of the token role to create it with")
}

func (t *tokenCreation) create(ctx context.Context, client *api.Client) (*api.Secret, error) {
	t.req.Policies, t.req.Metadata = t.policies, t.metadata
	t.req.TTL, t.req.ExplicitMaxTTL, t.req.Period = string(t.ttl), string(t.explicitMaxTTL), string(t.period)
	t.req.Renewable, t.req.NoParent = &t.renewable, t.orphan
	if t.role != "" {
		return client.Auth().Token().CreateWithRoleWithContext(ctx, &t.req, t.role)
	}
	return client.Auth().Token().CreateWithContext(ctx, &t.req)
}

func (a *app) tokenLookupCommand() *command.C {
	var conn connection
	var out output
	var accessor bool
	c := &command.C{
		Name: "lookup", Usage: "[flags] [TOKEN | ACCESSOR | -]",
		Help: "Show what is known about a token, by default about the one you use.",
	}
	conn.flags(&c.Flags, hidden)
	out.flags(&c.Flags)
	out.fieldFlag(&c.Flags)
	c.Flags.BoolVar(&accessor, "accessor", false, "the argument is an accessor")
	c.Run = func(env *command.Env) error {
		client, subject, err := a.tokenSubject(env, &conn, accessor)
		if err != nil {
			return err
		}
		ctx, tokens := env.Context(), client.Auth().Token()
		var s *api.Secret
		switch {
		case subject == "":
			s, err = tokens.LookupSelfWithContext(ctx)
		case accessor:
			s, err = tokens.LookupAccessorWithContext(ctx, subject)
		default:
			s, err = tokens.LookupWithContext(ctx, subject)
		}
		if err != nil {
			return asking("looking up the token", err)
		}
		return a.printSecret(&out, s)
	}
	return c
}

// tokenSubject returns the client, and the token or accessor that a command is about; empty for the user's own token.
func (a *app) tokenSubject(env *command.Env, conn *connection, accessor bool) (*api.Client, string, error) {
	args, err := positional(env, 0, 1)
	if err != nil {
		return nil, "", err
	}
	if accessor && len(args) == 0 {
		return nil, "", env.Usagef("-accessor needs the accessor as the argument")
	}
	client, err := a.client(conn)
	if err != nil || len(args) == 0 {
		return client, "", err
	}
	if args[0] == "-" {
		subject, err := a.takeToken(env.Context(), conn, args)
		return client, subject, err
	}
	return client, args[0], nil
}

func (a *app) tokenRenewCommand() *command.C {
	var conn connection
	var out output
	var accessor bool
	var increment durationText
	c := &command.C{
		Name: "renew", Usage: "[flags] [TOKEN | ACCESSOR | -]",
		Help: "Renew a token, by default the one you use.",
	}
	conn.flags(&c.Flags, hidden)
	out.flags(&c.Flags)
	out.fieldFlag(&c.Flags)
	c.Flags.BoolVar(&accessor, "accessor", false, "the argument is an accessor")
	c.Flags.Var(&increment, "increment", "`DURATION` to ask for, from now")
	c.Flags.Var(&increment, "i", "short for -increment, `DURATION`")
	c.Run = func(env *command.Env) error {
		client, subject, err := a.tokenSubject(env, &conn, accessor)
		if err != nil {
			return err
		}
		ctx, tokens := env.Context(), client.Auth().Token()
		var s *api.Secret
		switch {
		case subject == "":
			s, err = tokens.RenewSelfWithContext(ctx, increment.seconds())
		case accessor:
			s, err = tokens.RenewAccessorWithContext(ctx, subject, increment.seconds())
		default:
			s, err = tokens.RenewWithContext(ctx, subject, increment.seconds())
		}
		if err != nil {
			return asking("renewing the token", err)
		}
		return a.printSecret(&out, s)
	}
	return c
}

func (a *app) tokenRevokeCommand() *command.C {
	var conn connection
	var accessor, self bool
	var mode string
	c := &command.C{
		Name: "revoke", Usage: "[flags] [TOKEN | ACCESSOR | -]",
		Help: "Revoke a token and all its children.",
	}
	conn.flags(&c.Flags, hidden)
	c.Flags.BoolVar(&accessor, "accessor", false, "the argument is an accessor")
	c.Flags.BoolVar(&self, "self", false, "revoke the token you use")
	c.Flags.StringVar(&mode, "mode", "", "`MODE`: orphan lets the children live on, without a parent")
	c.Run = func(env *command.Env) error {
		client, subject, err := a.tokenSubject(env, &conn, accessor)
		switch {
		case err != nil:
			return err
		case self == (subject != ""):
			return env.Usagef("say what to revoke: a token, -accessor and an accessor, or -self")
		case mode != "" && (mode != "orphan" || accessor || self):
			return env.Usagef("the only -mode is orphan, and it goes with a token")
		}
		ctx, tokens := env.Context(), client.Auth().Token()
		switch {
		case self:
			err = tokens.RevokeSelfWithContext(ctx, "")
		case accessor:
			err = tokens.RevokeAccessorWithContext(ctx, subject)
		case mode == "orphan":
			err = tokens.RevokeOrphanWithContext(ctx, subject)
		default:
			err = tokens.RevokeTreeWithContext(ctx, subject)
		}
		if err != nil {
			return asking("revoking the token", err)
		}
		a.say("the token is revoked, if it existed")
		return nil
	}
	return c
}

// listValue collects a flag that may be repeated.
type listValue []string

func (l *listValue) String() string { return "" }

// Set implements flag.Value.
func (l *listValue) Set(s string) error {
	*l = append(*l, s)
	return nil
}

// pairsValue collects KEY=VALUE flags.
type pairsValue map[string]string

func (p *pairsValue) String() string { return "" }

// Set implements flag.Value.
func (p *pairsValue) Set(s string) error {
	key, value, ok := strings.Cut(s, "=")
	if !ok || key == "" {
		return errors.New("must be KEY=VALUE")
	}
	if *p == nil {
		*p = pairsValue{}
	}
	(*p)[key] = value
	return nil
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
