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
	conn                        connection
	out                         output
	method                      string
	noStore, noPrint, tokenOnly bool
}

func (a *app) loginCommand() *command.C {
	l := &login{}
	c := &command.C{
		Name: "login", Usage: "[flags]\n[flags] -",
		Help: `Check a token and keep it for the commands that follow.

The token is asked for without showing it; with - it is read from standard input. It is kept in ~/.vault-token
(or where BAO_TOKEN_PATH says), readable by you only.`,
	}
	l.conn.flags(&c.Flags, hidden)
	l.out.flags(&c.Flags)
	l.out.fieldFlag(&c.Flags)
	c.Flags.StringVar(&l.method, "method", "token", "`METHOD` to log in with; there is only token")
	c.Flags.BoolVar(&l.noStore, "no-store", false, "don't keep the token")
	c.Flags.BoolVar(&l.noPrint, "no-print", false, "print nothing about the token")
	c.Flags.BoolVar(&l.tokenOnly, "token-only", false, "print only the token, and don't keep it")
	c.Run = func(env *command.Env) error {
		args, err := positional(env, 0, 1)
		if err != nil {
			return err
		}
		if l.method != "token" {
			return localf("the only method to log in with is token")
		}
		return a.login(env.Context(), l, args)
	}
	return c
}

func (a *app) login(ctx context.Context, l *login, args []string) error {
	token, err := a.takeToken(ctx, &l.conn, args)
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
		return a.printValue(token)
	}
	if !l.noStore {
		path, err := storeToken(token)
		if err != nil {
			return localf("keeping the token: %w", err)
		}
		a.say("logged in; the token is kept in %s", path)
		if api.ReadBaoVariable(api.EnvVaultToken) != "" {
			a.say("warning: the environment holds a token (BAO_TOKEN or VAULT_TOKEN), which wins over the one just kept")
		}
	}
	if l.noPrint {
		return nil
	}
	return a.printSecret(&l.out, &api.Secret{Auth: auth})
}

// takeToken gets a token from wherever args says. On the command line it is taken, as people are used to, with a warning.
func (a *app) takeToken(ctx context.Context, conn *connection, args []string) (string, error) {
	switch {
	case len(args) == 0:
		tty, err := a.terminal(conn)
		if err != nil {
			return "", &failure{code: exitLocal, action: "asking for the token", err: err, hint: "to read it from standard input, give - as the argument"}
		}
		line, err := tty.Secret(ctx, "token (will be hidden): ")
		return tokenIn(line, err)
	case args[0] == "-":
		line, err := readLine(a.stdin)
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return tokenIn(line, err)
	}
	a.say("warning: a token on the command line can be seen in the process list and in the shell's history; leave it out to be asked for it")
	return tokenIn([]byte(strings.TrimPrefix(args[0], "token=")), nil)
}

func tokenIn(line []byte, err error) (string, error) {
	defer clear(line)
	token := strings.TrimSpace(string(line))
	if err == nil && token == "" {
		err = errNothingGiven
	}
	if err != nil {
		return "", &failure{code: exitLocal, action: "reading the token", err: err}
	}
	return token, nil
}

// authOf turns the lookup of a token into what a login returns.
func authOf(token string, s *api.Secret) (*api.SecretAuth, error) {
	if s == nil || s.Data == nil {
		return nil, errors.New("the server's answer has no data")
	}
	b, err := json.Marshal(s.Data)
	if err != nil {
		return nil, err
	}
	var data struct {
		Accessor  string            `json:"accessor"`
		Policies  []string          `json:"policies"`
		Identity  []string          `json:"identity_policies"`
		Meta      map[string]string `json:"meta"`
		TTL       int               `json:"ttl"`
		Renewable bool              `json:"renewable"`
		Orphan    bool              `json:"orphan"`
		EntityID  string            `json:"entity_id"`
	}
	if err := json.Unmarshal(b, &data); err != nil {
		return nil, errors.New("the server's answer doesn't look like a token")
	}
	return &api.SecretAuth{
		ClientToken: token, Accessor: data.Accessor, Policies: append(data.Policies, data.Identity...),
		TokenPolicies: data.Policies, IdentityPolicies: data.Identity, Metadata: data.Meta,
		LeaseDuration: data.TTL, Renewable: data.Renewable, Orphan: data.Orphan, EntityID: data.EntityID,
	}, nil
}
