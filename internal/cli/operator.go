package cli

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/creachadair/command"
	"github.com/openbao/openbao/api/v2"
)

func (a *app) unsealCommand() *command.C {
	var conn connection
	var out output
	var reset, holder bool
	c := &command.C{
		Name: "unseal", Usage: "[flags]\n[flags] -",
		Help: `Give the server one key share towards unsealing.

The share is asked for without showing it; with - it is read from standard input.
It is never taken from the command line, which other users and the shell's history can see.`,
	}
	conn.flags(&c.Flags, hidden)
	out.flags(&c.Flags)
	c.Flags.BoolVar(&reset, "reset", false, "forget the shares given so far; needs a local connection, or -holder")
	c.Flags.BoolVar(&holder, "holder", false, "with -reset: prove with a key share that a holder wants it (asked for, or - for standard input)")
	c.Run = func(env *command.Env) error {
		args, err := positional(env, 0, unlimited)
		if err != nil {
			return err
		}
		if len(args) > 0 && args[0] != "-" {
			return localf("%w", errShareArgument)
		}
		client, err := conn.client("")
		if err != nil {
			return err
		}
		var body []byte
		switch {
		case reset && !holder:
			body = jsonBody(map[string]any{"reset": true})
		case reset:
			body, err = a.sharePayload(env.Context(), &conn, args, "key share of a holder (will be hidden): ", map[string]any{"reset": true})
		default:
			body, err = a.sharePayload(env.Context(), &conn, args, "unseal key share (will be hidden): ", nil)
		}
		if err != nil {
			return err
		}
		defer clear(body)
		st := &api.SealStatusResponse{}
		if err := call(env.Context(), client, http.MethodPut, "sys/unseal", body, st); err != nil {
			return hinted(asking("unsealing", err), http.StatusForbidden, "over a connection that isn't local, a reset needs a key share: add -holder")
		}
		return unprinted(a.printSealState(env.Context(), &out, client, st), "the server took the request: quorate status shows its state")
	}
	return c
}

// sharePayload takes a share and puts it into a request body, which the caller wipes.
func (a *app) sharePayload(ctx context.Context, conn *connection, args []string, prompt string, fields map[string]any) ([]byte, error) {
	if fields == nil {
		fields = map[string]any{}
	}
	share, err := a.takeShare(ctx, conn, args, prompt)
	if err != nil {
		return nil, err
	}
	defer share.Wipe()
	return a.shareBody(conn, share, fields), nil
}

func (a *app) sealCommand() *command.C {
	var conn connection
	c := &command.C{
		Name: "seal", Usage: "[flags]",
		Help: `Seal the server: it forgets its keys, and a quorum has to unseal it again.

A root generation in progress ends.`,
	}
	conn.flags(&c.Flags, hidden)
	c.Run = func(env *command.Env) error {
		if _, err := positional(env, 0, 0); err != nil {
			return err
		}
		client, err := a.client(&conn)
		if err != nil {
			return err
		}
		if err := client.Sys().SealWithContext(env.Context()); err != nil {
			return asking("sealing", err)
		}
		a.say("the server is sealed")
		return nil
	}
	return c
}

func (a *app) keyStatusCommand() *command.C {
	var conn connection
	var out output
	c := &command.C{
		Name: "key-status", Usage: "[flags]",
		Help: "Show the term of the key that new records are encrypted with.",
	}
	conn.flags(&c.Flags, hidden)
	out.flags(&c.Flags)
	c.Run = func(env *command.Env) error {
		if _, err := positional(env, 0, 0); err != nil {
			return err
		}
		client, err := a.client(&conn)
		if err != nil {
			return err
		}
		st, err := client.Sys().KeyStatusWithContext(env.Context())
		if err != nil {
			return asking("reading the key status", err)
		}
		return a.print(&out, st, func() string {
			return table([]row{
				{"Key Term", strconv.Itoa(st.Term)},
				{"Install Time", st.InstallTime.UTC().Format(time.RFC822)},
				{"Encryption Count", strconv.Itoa(st.Encryptions)},
			})
		})
	}
	return c
}
