package cli

import (
	"context"
	"fmt"

	"github.com/creachadair/command"

	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/server"
)

func (a *app) migrateCommand() *command.C {
	s := &session{app: a}
	var files []string
	c := &command.C{
		Name: "migrate", Usage: "-config=FILE",
		Help: `Bring everything from one store into another one, which must be empty.

Stop every server of the first store before, and run this as the user that they run as. The file has a storage_source and a storage_destination block, each with
what a storage block would have. Nothing is decrypted, and the first store is only read: afterwards start servers over
the second one only, and unseal them with the shares there are.

What is interrupted goes on by running the same command again; until it is done no server starts over the second store.`,
	}
	c.Flags.Func("config", "`FILE` that says from where and to where", repeated(&files))
	return s.command(c, offline, 0, 0, func(ctx context.Context, _ []string) error {
		path, err := oneConfig(files)
		if err != nil {
			return err
		}
		m, err := config.LoadMigration(path)
		if err != nil {
			return stuck("reading the configuration", fmt.Errorf("\n%w", err))
		}
		ctx, stop := interruptible(ctx)
		defer stop()
		n, err := server.Migrate(ctx, m, s.stderr)
		if err != nil {
			return stuck("migrating", orInterrupted(ctx, err))
		}
		s.say("%d records are in the new store, as they are in the old one: start no server over the old one any more", n)
		return nil
	})
}
