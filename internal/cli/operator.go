package cli

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/creachadair/command"
)

// unsealing is one run of the operator unseal command, as nobody.
type unsealing struct{ session }

func (a *app) unsealCommand() *command.C {
	u := &unsealing{session{app: a}}
	var reset, holder bool
	c := &command.C{
		Name: "unseal", Usage: "[flags]\n[flags] -",
		Help: `Give the server one key share towards unsealing.

The share is asked for without showing it; with - it is read from standard input.
It is never taken from the command line, which other users and the shell's history can see.`,
	}
	c.Flags.BoolVar(&reset, "reset", false, "forget the shares given so far; needs a local connection, or -holder")
	c.Flags.BoolVar(&holder, "holder", false, "with -reset: prove with a key share that a holder wants it (asked for, or - for standard input)")
	return u.command(c, answers, 0, unlimited, func(ctx context.Context, args []string) (err error) {
		if len(args) > 0 && args[0] != "-" {
			return localf("%w", errShareArgument)
		}
		if u.client, err = u.conn.client(""); err != nil {
			return err
		}
		if reset {
			return u.reset(ctx, args, holder)
		}
		return u.give(ctx, args)
	})
}

// give gives a share, if the server needs any.
func (u *unsealing) give(ctx context.Context, args []string) error {
	before := &sealStatus{}
	if !u.printsRequest() {
		var err error
		if before, err = readSealStatus(ctx, u.client); err != nil {
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
			return u.printSealState(ctx, before)
		}
	}
	body, err := u.sharePayload(ctx, args, "unseal key share (will be hidden): ", nil)
	if err != nil {
		return err
	}
	after, err := u.send(ctx, body)
	if err != nil {
		return err
	}
	if after.Sealed && after.Progress+after.RetiringProgress > 0 && after.given() == before.given() {
		u.say("this share was counted already")
	}
	return u.show(ctx, after)
}

// reset makes the server forget the shares given so far.
func (u *unsealing) reset(ctx context.Context, args []string, holder bool) (err error) {
	fields := map[string]any{"reset": true}
	body := jsonBody(fields)
	if holder {
		if body, err = u.sharePayload(ctx, args, "key share of a holder (will be hidden): ", fields); err != nil {
			return err
		}
	}
	st, err := u.send(ctx, body)
	switch {
	case err != nil && !holder:
		return hinted(err, http.StatusForbidden, "over a connection that isn't local, a reset needs a key share: add -holder")
	case err != nil:
		return err
	}
	return u.show(ctx, st)
}

// send wipes body.
func (u *unsealing) send(ctx context.Context, body []byte) (*sealStatus, error) {
	defer clear(body)
	st := &sealStatus{}
	return st, asking("unsealing", call(ctx, u.client, http.MethodPut, "sys/unseal", body, st))
}

func (u *unsealing) show(ctx context.Context, st *sealStatus) error {
	return unprinted(u.printSealState(ctx, st), "the server took the request: quorate status shows its state")
}

func (a *app) sealCommand() *command.C {
	s := &session{app: a}
	c := &command.C{
		Name: "seal", Usage: "[flags]",
		Help: `Seal the server: it forgets its keys, and a quorum has to unseal it again.

Every other server over the same store does so too, and a root generation in progress ends. With -node-only the others
go on, and so does what is in progress.`,
	}
	var alone bool
	c.Flags.BoolVar(&alone, "node-only", false, "seal this server and leave the others of its cluster alone")
	return s.command(c, byUser, 0, 0, func(ctx context.Context, _ []string) error {
		var body []byte
		if alone {
			body = jsonBody(map[string]any{"node_only": true})
		}
		if err := call(ctx, s.client, http.MethodPut, "sys/seal", body, nil); err != nil {
			return asking("sealing", err)
		}
		s.say("the server is sealed")
		return nil
	})
}

func (a *app) keyStatusCommand() *command.C {
	s := &session{app: a}
	c := &command.C{Name: "key-status", Usage: "[flags]", Help: "Show the term of the key that new records are encrypted with."}
	return s.command(c, answers|byUser, 0, 0, s.printKeyStatus)
}

func (s *session) printKeyStatus(ctx context.Context, _ []string) error {
	st, err := s.client.Sys().KeyStatusWithContext(ctx)
	if err != nil {
		return asking("reading the key status", err)
	}
	return s.print(st, func() string {
		var t sheet
		t.add("Key Term", st.Term)
		t.add("Install Time", st.InstallTime.UTC().Format(time.RFC822))
		t.add("Encryption Count", st.Encryptions)
		return t.text()
	})
}
