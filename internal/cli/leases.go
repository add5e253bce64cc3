package cli

import (
	"context"
	"net/http"
	"strings"

	"github.com/creachadair/command"
)

func (a *app) leaseCommands() *command.C {
	return group("lease", "Look up, renew and revoke leases.", a.leaseLookupCommand(), a.leaseRenewCommand(), a.leaseRevokeCommand())
}

func (a *app) leaseLookupCommand() *command.C {
	s := &session{app: a}
	c := &command.C{Name: "lookup", Usage: "[flags] LEASE", Help: `Show what is known about a lease.

  quorate lease lookup auth/userpass/login/ann/h5f0c
  quorate list sys/leases/lookup/auth/userpass/login/ann`}
	return s.command(c, answers|pickable|byUser, 1, 1, func(ctx context.Context, args []string) error {
		return s.lease(ctx, "looking up the lease", "lookup", map[string]any{"lease_id": args[0]})
	})
}

func (a *app) leaseRenewCommand() *command.C {
	s := &session{app: a}
	var increment durationText
	c := &command.C{Name: "renew", Usage: "[flags] LEASE", Help: `Renew a lease.

  quorate lease renew -increment=1h auth/userpass/login/ann/h5f0c`}
	c.Flags.Var(&increment, "increment", "`DURATION` to ask for, from now")
	c.Flags.Var(&increment, "i", "short for -increment, `DURATION`")
	return s.command(c, answers|pickable|byUser, 1, 1, func(ctx context.Context, args []string) error {
		return s.lease(ctx, "renewing the lease", "renew", map[string]any{"lease_id": args[0], "increment": increment.seconds()})
	})
}

func (s *session) lease(ctx context.Context, action, verb string, fields map[string]any) error {
	reply, err := s.client.Logical().WriteWithContext(ctx, "sys/leases/"+verb, fields)
	if err == nil && reply == nil {
		err = errNoContent
	}
	if err != nil {
		return asking(action, err)
	}
	return s.printSecret(reply)
}

func (a *app) leaseRevokeCommand() *command.C {
	s := &session{app: a}
	var prefix, force, sync bool
	c := &command.C{Name: "revoke", Usage: "[flags] LEASE", Help: `Revoke a lease, or all below a path.

  quorate lease revoke auth/userpass/login/ann/h5f0c
  quorate lease revoke -prefix auth/userpass/login`}
	c.Flags.BoolVar(&prefix, "prefix", false, "revoke all leases whose IDs begin with the argument")
	c.Flags.BoolVar(&force, "force", false, "with -prefix: forget the leases even where what they stand for can't be revoked")
	c.Flags.BoolVar(&sync, "sync", false, "wait until it is done")
	return s.command(c, byUser|placed, 1, 1, func(ctx context.Context, args []string) error {
		id := strings.TrimPrefix(args[0], "/")
		switch {
		case force && !prefix:
			return s.env.Usagef("-force goes with -prefix")
		case force:
			return s.put(ctx, "revoking the leases", "sys/leases/revoke-force/"+id, map[string]any{}, "the leases are revoked or forgotten")
		case prefix:
			return s.put(ctx, "revoking the leases", "sys/leases/revoke-prefix/"+id, map[string]any{"sync": sync}, "the leases are revoked, if there were any")
		}
		return s.put(ctx, "revoking the lease", "sys/leases/revoke", map[string]any{"lease_id": id, "sync": sync}, "the lease is revoked, if it existed")
	})
}

func (a *app) unwrapCommand() *command.C {
	s := &session{app: a}
	c := &command.C{Name: "unwrap", Usage: "[flags] [TOKEN | -]", Help: `Show the answer that a wrapping token stands for. It can be had once.

With - the token is read from standard input; without an argument, the token that commands use is the wrapping token.

  quorate kv get -wrap-ttl=5m secret/app
  quorate unwrap -field=password - < wrapping-token
  BAO_TOKEN=$(cat wrapping-token) quorate unwrap -format=json`}
	return s.command(c, answers|pickable, 0, 1, func(ctx context.Context, args []string) (err error) {
		defer outlivePipe()()
		var token string
		if len(args) > 0 {
			if token, err = s.takeToken(ctx, args); err != nil {
				return err
			}
		}
		client, err := s.user()
		if err != nil {
			return err
		}
		found, err := client.Logical().UnwrapWithContext(once(ctx), token)
		if err == nil && found == nil {
			err = errNoContent
		}
		if err != nil {
			return hinted(asking("unwrapping", err), http.StatusBadRequest,
				"if nobody of yours has opened it and it isn't too old, somebody else has: take what was in it for known, and have it replaced")
		}
		return unprinted(s.printSecret(found), "the wrapping token is used up, and what it stood for is lost")
	})
}
