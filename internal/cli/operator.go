package cli

import (
	"context"
	"errors"
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
		u := &unsealing{app: a, conn: &conn, out: &out}
		if u.client, err = conn.client(""); err != nil {
			return err
		}
		if reset {
			return u.reset(env.Context(), args, holder)
		}
		return u.give(env.Context(), args)
	}
	return c
}

// unsealing is one run of the operator unseal command.
type unsealing struct {
	*app
	conn   *connection
	out    *output
	client *api.Client // speaks as nobody
}

// give gives a share, if the server needs any.
func (u *unsealing) give(ctx context.Context, args []string) error {
	before := &api.SealStatusResponse{}
	if !u.conn.curl && !u.conn.policy { // these two only print the request that gives the share
		var err error
		if before, err = u.client.Sys().SealStatusWithContext(ctx); err != nil {
			return asking("reading the seal status", err)
		}
		switch {
		case !before.Initialized:
			return &failure{
				code: exitServer, action: "unsealing", err: errors.New("the server is not initialized"),
				hint: "make its keys first: quorate operator init",
			}
		case !before.Sealed:
			u.say("the server is unsealed already")
			return u.printSealState(ctx, u.out, u.client, before)
		}
	}
	body, err := u.sharePayload(ctx, u.conn, args, "unseal key share (will be hidden): ", nil)
	if err != nil {
		return err
	}
	after, err := u.send(ctx, body)
	if err != nil {
		return err
	}
	if after.Sealed && after.Progress > 0 && after.Progress == before.Progress && after.Nonce == before.Nonce {
		u.say("this share was counted already")
	}
	return u.show(ctx, after)
}

// reset makes the server forget the shares given so far.
func (u *unsealing) reset(ctx context.Context, args []string, holder bool) error {
	fields := map[string]any{"reset": true}
	if !holder {
		st, err := u.send(ctx, jsonBody(fields))
		if err != nil {
			return hinted(err, http.StatusForbidden, "over a connection that isn't local, a reset needs a key share: add -holder")
		}
		return u.show(ctx, st)
	}
	body, err := u.sharePayload(ctx, u.conn, args, "key share of a holder (will be hidden): ", fields)
	if err != nil {
		return err
	}
	st, err := u.send(ctx, body)
	if err != nil {
		return err
	}
	return u.show(ctx, st)
}

// send wipes body.
func (u *unsealing) send(ctx context.Context, body []byte) (*api.SealStatusResponse, error) {
	defer clear(body)
	st := &api.SealStatusResponse{}
	return st, asking("unsealing", call(ctx, u.client, http.MethodPut, "sys/unseal", body, st))
}

func (u *unsealing) show(ctx context.Context, st *api.SealStatusResponse) error {
	return unprinted(u.printSealState(ctx, u.out, u.client, st), "the server took the request: quorate status shows its state")
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
