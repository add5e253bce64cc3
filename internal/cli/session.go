package cli

import (
	"context"
	"errors"
	"flag"
	"net/http"
	"slices"
	"strings"

	"github.com/creachadair/command"
	"github.com/openbao/openbao/api/v2"
)

// session is one run of a command: how it talks to the server, and how it prints the answer.
type session struct {
	*app
	conn connection
	out  output
	env  *command.Env

	client *api.Client // for byUser and byNobody
}

// What a command has to do with servers and answers decides which flags it has.
type traits int

const (
	offline   traits = 1 << iota // no server is asked
	answers                      // something is printed, in a format
	pickable                     // one field of which may be picked
	onlyShare                    // the only argument is -, for a share from standard input
	byUser                       // speaks with the user's token
	byNobody                     // speaks without one
	placed                       // the first argument is, or ends up in, a path
)

// command makes c a command that takes so many arguments and is run by run.
func (s *session) command(c *command.C, has traits, least, most int, run func(context.Context, []string) error) *command.C {
	if has&offline == 0 {
		s.conn.flags(&c.Flags, hidden)
	}
	if has&answers != 0 {
		s.out.flags(&c.Flags)
	}
	if has&pickable != 0 {
		s.out.fieldFlag(&c.Flags)
	}
	c.Run = func(env *command.Env) error {
		args, err := positional(env, least, most)
		if err != nil {
			return err
		}
		s.conn.say = s.say
		if s.env = env; has&onlyShare != 0 && onlyDash(args) != nil {
			return onlyDash(args)
		}
		switch {
		case has&placed != 0 && dotted(args[0]):
			return localf("%w", errDotted)
		case has&byUser != 0:
			s.client, err = s.user()
		case has&byNobody != 0:
			s.client, err = s.conn.client("")
		}
		if err != nil {
			return err
		}
		return run(env.Context(), args)
	}
	return c
}

// errDotted refuses a path that is dotted.
var errDotted = errors.New("the path must have no . or .. in it: they would lead elsewhere before the server sees them")

// dotted reports a path that the api module would resolve: a policy called ../../mounts/secret is a mount.
func dotted(path string) bool {
	parts := strings.Split(path, "/")
	return slices.Contains(parts, ".") || slices.Contains(parts, "..")
}

// user returns a client that speaks as the user: with the token of the environment, else of the token file.
func (s *session) user() (*api.Client, error) {
	token, err := currentToken()
	if err != nil {
		return nil, err
	}
	if s.speaks = withToken; token == "" {
		s.speaks = withoutToken
	}
	s.advisor = func() (*api.Client, error) { return s.aside(token) }
	return s.conn.client(token)
}

// aside returns a client for questions that are asked on the way: also where the request is only printed, and never for a
// wrapped answer.
func (s *session) aside(token string) (*api.Client, error) {
	conn := s.conn
	conn.curl, conn.policy = false, false
	client, err := conn.client(token)
	if err == nil {
		client.SetWrappingLookupFunc(func(string, string) string { return "" })
	}
	return client, err
}

// terminal returns the terminal to ask at, unless asking is forbidden. The error says what for, and what else to do.
func (s *session) terminal(action, hint string) (terminal, error) {
	err := errors.New("-non-interactive forbids to ask")
	var tty terminal
	if !s.conn.nonInteractive {
		tty, err = s.openTTY()
	}
	if err != nil {
		return nil, &failure{code: exitLocal, action: action, err: err, hint: hint}
	}
	return tty, nil
}

// printsRequest reports whether the request is printed instead of sent: nothing is asked before it then.
func (s *session) printsRequest() bool { return s.conn.curl || s.conn.policy }

// warn tells the warnings that came with an answer.
func (s *session) warn(warnings []string) {
	for _, w := range warnings {
		s.say("warning: %s", printable(w))
	}
}

// operation is one run of a command for what a quorum of key holders does.
type operation struct {
	session
	holder    bool        // start or cancel with the authority of a key share
	open      *api.Client // speaks as nobody: what holders do needs no token, so none is sent
	authority *api.Client // speaks as the user, if the token is any good
}

// connect makes the two clients. A dead token is no hindrance: holders and those on the server's own machine need none.
func (o *operation) connect() (err error) {
	if o.open, err = o.conn.client(""); err != nil {
		return err
	}
	token, err := currentToken()
	if err != nil {
		o.say("warning: going on without a token: %s", reasons(err))
	}
	o.authority, err = o.conn.client(usable(token))
	return err
}

func (o *operation) holderFlag(fs *flag.FlagSet, verb string) {
	fs.BoolVar(&o.holder, "holder", false, verb+" with the authority of a key share (asked for, or - for standard input)")
}

// authorised is the body of a start or cancel; with -holder it carries a share as authority.
func (o *operation) authorised(ctx context.Context, args []string, verb string, fields map[string]any) ([]byte, error) {
	if !o.holder {
		return o.fieldsBody(fields), nil
	}
	return o.sharePayload(ctx, args, "key share of a holder, to "+verb+" with (will be hidden): ", fields)
}

// asserting is who speaks in a start or cancel: a holder's credential says all, and no token is sent with it.
func (o *operation) asserting() *api.Client {
	if o.holder {
		return o.open
	}
	return o.authority
}

func (o *operation) needAuthority(err error) error {
	if o.holder {
		return err
	}
	return hinted(err, http.StatusForbidden, "a key holder can do this from anywhere and without a token: add -holder")
}

// countTrue is for flags that exclude each other.
func countTrue(list ...bool) (n int) {
	for _, on := range list {
		if on {
			n++
		}
	}
	return n
}

// pipedOTP reads a one-time password from standard input.
func (s *session) pipedOTP() (string, error) {
	otp, err := readLine(s.stdin)
	if err != nil {
		return "", localf("reading the OTP: %w", err)
	}
	defer clear(otp)
	return string(otp), nil
}
