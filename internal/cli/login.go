package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/creachadair/command"
	"github.com/openbao/openbao/api/v2"
)

// login is the login command.
type login struct {
	session
	method                      string
	noStore, noPrint, tokenOnly bool
}

func (a *app) loginCommand() *command.C {
	l := &login{session: session{app: a}}
	c := &command.C{
		Name: "login", Usage: "[flags]\n[flags] -",
		Help: `Check a token and keep it for the commands that follow.

The token is asked for without showing it; with - it is read from standard input. It is kept in ~/.vault-token
(or where BAO_TOKEN_PATH says), readable by you only.`,
	}
	c.Flags.StringVar(&l.method, "method", "token", "`METHOD` to log in with; there is only token")
	c.Flags.BoolVar(&l.noStore, "no-store", false, "don't keep the token")
	c.Flags.BoolVar(&l.noPrint, "no-print", false, "print nothing about the token")
	c.Flags.BoolVar(&l.tokenOnly, "token-only", false, "print only the token, and don't keep it")
	return l.command(c, answers|pickable, 0, 1, l.run)
}

func (l *login) run(ctx context.Context, args []string) error {
	if l.method != "token" {
		return localf("the only method to log in with is token")
	}
	token, err := l.takeToken(ctx, args)
	if err != nil {
		return err
	}
	client, err := l.conn.client(token)
	if err != nil {
		return err
	}
	found, err := client.Auth().Token().LookupSelfWithContext(ctx)
	if err != nil {
		return hinted(asking("checking the token", err), http.StatusForbidden, "the server doesn't know this token: it is mistyped, expired, revoked, or of another server")
	}
	auth, err := authOf(token, found)
	if err != nil {
		return asking("checking the token", err)
	}
	if l.tokenOnly {
		return l.printValue(token)
	}
	if !l.noStore {
		path, err := storeToken(token)
		if err != nil {
			return localf("keeping the token: %w", err)
		}
		l.say("logged in; the token is kept in %s", path)
		if api.ReadBaoVariable(api.EnvVaultToken) != "" {
			l.say("warning: the environment holds a token (BAO_TOKEN or VAULT_TOKEN), which wins over the one just kept")
		}
	}
	if l.noPrint {
		return nil
	}
	return l.printSecret(&api.Secret{Auth: auth})
}

// takeToken gets a token from wherever args says. On the command line it is taken, as people are used to, with a warning.
func (s *session) takeToken(ctx context.Context, args []string) (string, error) {
	switch {
	case len(args) == 0:
		tty, err := s.terminal("asking for the token", "to read it from standard input, give - as the argument")
		if err != nil {
			return "", err
		}
		line, err := tty.Secret(ctx, "token (will be hidden): ")
		return tokenIn(line, err)
	case args[0] == "-":
		line, err := readLine(s.stdin)
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return tokenIn(line, err)
	}
	s.say("warning: a token on the command line can be seen in the process list and in the shell's history; leave it out to be asked for it")
	return tokenIn([]byte(strings.TrimPrefix(args[0], "token=")), nil)
}

func tokenIn(line []byte, err error) (string, error) {
	defer clear(line)
	token := strings.TrimSpace(string(line))
	if err == nil && token == "" {
		err = errNothingGiven
	}
	if err != nil {
		return "", stuck("reading the token", err)
	}
	return token, nil
}

// authOf turns the lookup of a token, which names some things in its own way, into what a login returns.
func authOf(token string, s *api.Secret) (*api.SecretAuth, error) {
	if s == nil || s.Data == nil {
		return nil, errors.New("the server's answer has no data")
	}
	auth := &api.SecretAuth{}
	own := struct {
		*api.SecretAuth
		Meta *map[string]string `json:"meta"`
		TTL  *int               `json:"ttl"`
	}{auth, &auth.Metadata, &auth.LeaseDuration}
	if err := json.Unmarshal(jsonBody(s.Data), &own); err != nil {
		return nil, errors.New("the server's answer doesn't look like a token")
	}
	auth.ClientToken, auth.TokenPolicies = token, auth.Policies
	auth.Policies = append(auth.Policies, auth.IdentityPolicies...)
	return auth, nil
}
