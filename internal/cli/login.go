package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"strings"

	"github.com/creachadair/command"
	"github.com/openbao/openbao/api/v2"
)

// login is the login command.
type login struct {
	session
	method, path                string
	noStore, noPrint, tokenOnly bool
}

func (a *app) loginCommand() *command.C {
	l := &login{session: session{app: a}}
	c := &command.C{
		Name: "login", Usage: "[flags] [KEY=VALUE ...]\n[flags] -",
		Help: `Log in, and keep the token for the commands that follow.

The method token checks a token; userpass takes a username and a password; approle a role_id and a secret_id. The token,
the password and the secret_id are asked for without showing them; - or KEY=- reads them from standard input, KEY=@FILE
from a file. An empty secret_id= is for roles that need none. The token is kept in ~/.vault-token (or where
BAO_TOKEN_PATH says), readable by you only.

  quorate login
  quorate login -method=userpass username=ann
  quorate login -method=approle -path=apps -token-only role_id=@role-id secret_id=@secret-id`,
	}
	c.Flags.StringVar(&l.method, "method", "token", "`METHOD` to log in with: token, userpass or approle")
	c.Flags.StringVar(&l.path, "path", "", "`PATH` where the method is mounted, by default named after it")
	c.Flags.BoolVar(&l.noStore, "no-store", false, "don't keep the token")
	c.Flags.BoolVar(&l.noPrint, "no-print", false, "print nothing about the token")
	c.Flags.BoolVar(&l.tokenOnly, "token-only", false, "print only the token, and don't keep it")
	return l.command(c, answers|pickable, 0, unlimited, l.run)
}

func (l *login) run(ctx context.Context, args []string) (err error) {
	defer outlivePipe()()
	var found *api.Secret
	switch l.method {
	case "token":
		if len(args) > 1 {
			return l.env.Usagef("too many arguments: the method token takes one")
		}
		found, err = l.withToken(ctx, args)
	case "userpass", "approle":
		found, err = l.withCredentials(ctx, args)
	default:
		return localf("the methods to log in with are token, userpass and approle")
	}
	switch {
	case err != nil:
		return err
	case found.WrapInfo != nil: // there is a token, but not for us to see
		return l.printSecret(found)
	case l.tokenOnly:
		return unprinted(l.printValue(found.Auth.ClientToken), unknownToken(found))
	}
	if !l.noStore {
		path, err := storeToken(found.Auth.ClientToken)
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
	return l.printSecret(found)
}

// withToken checks a token that somebody has.
func (l *login) withToken(ctx context.Context, args []string) (*api.Secret, error) {
	token, err := l.takeToken(ctx, args)
	if err != nil {
		return nil, err
	}
	client, err := l.conn.client(token)
	if err != nil {
		return nil, err
	}
	found, err := client.Auth().Token().LookupSelfWithContext(ctx)
	if err != nil {
		return nil, hinted(asking("checking the token", err), http.StatusForbidden, "the server doesn't know this token: it is mistyped, expired, revoked, or of another server")
	}
	if found != nil && found.WrapInfo != nil {
		return found, nil
	}
	auth, err := authOf(token, found)
	return &api.Secret{Auth: auth}, asking("checking the token", err)
}

// withCredentials gets a token for a password or a secret ID.
func (l *login) withCredentials(ctx context.Context, args []string) (*api.Secret, error) {
	l.warnSecrets(args)
	fields, err := dataOf(args, l.stdin)
	if err != nil {
		return nil, localf("reading the credentials: %w", err)
	}
	for key, v := range fields { // the end of a line in a file or a pipe is no part of them
		if text, ok := v.(string); ok {
			fields[key] = strings.TrimRight(text, "\r\n")
		}
	}
	at, secret := "auth/"+cmp.Or(mountPath(l.path), l.method)+"/login", "secret_id"
	if l.method == "userpass" {
		user, _ := fields["username"].(string)
		if user = cmp.Or(user, os.Getenv("USER"), os.Getenv("LOGNAME")); user == "" || user != path.Base(path.Clean(user)) || strings.Trim(user, ".") == "" {
			return nil, localf("username=NAME says who you are; it has no slash in it")
		}
		delete(fields, "username")
		at, secret = at+"/"+user, "password"
	} else if id, _ := fields["role_id"].(string); id == "" {
		return nil, localf("role_id=ID says in which role you log in")
	}
	if _, given := fields[secret]; !given {
		if fields[secret], err = l.takeSecret(ctx, "the "+secret, "to read it from standard input, give "+secret+"=-", nil); err != nil {
			return nil, err
		}
	}
	client, err := l.conn.client("")
	if err != nil {
		return nil, err
	}
	reply, err := client.Logical().WriteWithContext(ctx, at, fields)
	if err == nil && (reply == nil || reply.Auth == nil && reply.WrapInfo == nil) {
		err = fmt.Errorf("%w it has no token in it", errUnexpected)
	}
	return reply, hinted(asking("logging in", err), http.StatusForbidden,
		"either too many logins of this name have failed and it is locked for a while, or no auth method of this kind is enabled at "+strings.TrimSuffix(at[:strings.Index(at, "/login")+1], "/")+": -path names another")
}

// takeToken gets a token from wherever args says. On the command line it is taken, as people are used to, with a warning.
func (s *session) takeToken(ctx context.Context, args []string) (string, error) {
	if len(args) > 0 && args[0] != "-" {
		s.say("warning: a token on the command line can be seen in the process list and in the shell's history; leave it out to be asked for it")
		return tokenIn(strings.TrimPrefix(args[0], "token="))
	}
	token, err := s.takeSecret(ctx, "the token", "to read it from standard input, give - as the argument", args)
	if err != nil {
		return "", err
	}
	return tokenIn(token)
}

func tokenIn(text string) (string, error) {
	if text = strings.TrimSpace(text); text == "" {
		return "", stuck("reading the token", errNothingGiven)
	}
	return text, nil
}

// takeSecret asks for one line, or reads it from standard input if there is an argument. hint is for where nobody can be
// asked.
func (s *session) takeSecret(ctx context.Context, what, hint string, args []string) (string, error) {
	var line []byte
	var err error
	if len(args) > 0 {
		if line, err = readLine(s.stdin); errors.Is(err, io.EOF) {
			err = nil
		}
	} else {
		tty, err := s.terminal("asking for "+what, hint)
		if err != nil {
			return "", err
		}
		if line, err = tty.Secret(ctx, strings.TrimPrefix(what, "the ")+" (will be hidden): "); err != nil {
			return "", stuck("reading "+what, err)
		}
	}
	defer clear(line)
	if err == nil && len(line) == 0 {
		err = errNothingGiven
	}
	if err != nil {
		return "", stuck("reading "+what, err)
	}
	return string(line), nil
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
