package cli

import (
	"context"
	"flag"
	"fmt"
	"net"
	"strings"

	"github.com/creachadair/command"
	"github.com/openbao/openbao/api/v2"

	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/server"
)

// serveFunc is server.Run, or a test's.
type serveFunc func(context.Context, *config.Config, server.Options) error

// serverFlags is the server command.
type serverFlags struct {
	files                     []string
	check, dev, devNoStore    bool
	devRootTokenID, devListen string
	logLevel, logFormat       string
}

func (a *app) serverCommand() *command.C {
	s := &serverFlags{}
	c := &command.C{
		Name: "server", Usage: "[flags]",
		Help: `Start a server.

Without -config it keeps its data in ./quorate-data and listens on 127.0.0.1:8200, for this machine only.
SIGHUP reloads certificates and the log level, and opens audit files anew; SIGINT and SIGTERM stop it.

With -dev it keeps nothing, is unsealed at once, and prints its root token and key share:
to play with, never for secrets.`,
	}
	s.flags(&c.Flags)
	c.Run = func(env *command.Env) error {
		if _, err := positional(env, 0, 0); err != nil {
			return err
		}
		if err := s.needsDev(&c.Flags); err != nil {
			return err
		}
		cfg, err := s.config()
		if err != nil {
			return err
		}
		if s.check {
			return a.checkServer(cfg)
		}
		if err := a.serve(env.Context(), cfg, s.options(a)); err != nil {
			return stuck("running the server", err)
		}
		return nil
	}
	return c
}

func (s *serverFlags) flags(fs *flag.FlagSet) {
	fs.Func("config", "`FILE` with the configuration, or a folder of such files", repeated(&s.files))
	fs.BoolVar(&s.check, "check", false, "only check the configuration, the certificates and the data folder")
	fs.StringVar(&s.logLevel, "log-level", api.ReadBaoVariable("BAO_LOG_LEVEL"), "`LEVEL`: trace, debug, info, warn or error (BAO_LOG_LEVEL)")
	fs.StringVar(&s.logFormat, "log-format", api.ReadBaoVariable("BAO_LOG_FORMAT"), "`FORMAT`: standard or json (BAO_LOG_FORMAT)")
	fs.BoolVar(&s.dev, "dev", false, "run a server to play with, in memory")
	fs.StringVar(&s.devRootTokenID, "dev-root-token-id", "", "`TOKEN` that is root on the dev server (BAO_DEV_ROOT_TOKEN_ID)")
	fs.StringVar(&s.devListen, "dev-listen-address", api.ReadBaoVariable("BAO_DEV_LISTEN_ADDRESS"), "`HOST:PORT` of the dev server (BAO_DEV_LISTEN_ADDRESS)")
	fs.BoolVar(&s.devNoStore, "dev-no-store-token", false, "don't keep the dev server's root token for the other commands")
}

// needsDev refuses flags that would have no effect without -dev. The environment may say the same to no effect.
func (s *serverFlags) needsDev(fs *flag.FlagSet) (err error) {
	fs.Visit(func(f *flag.Flag) {
		if !s.dev && strings.HasPrefix(f.Name, "dev-") {
			err = localf("-%s needs -dev", f.Name)
		}
	})
	return err
}

func (a *app) checkServer(cfg *config.Config) error {
	for _, w := range cfg.Warnings {
		a.say("warning: %s", w)
	}
	if err := server.Check(cfg); err != nil {
		return stuck("checking the configuration", fmt.Errorf("\n%w", err))
	}
	a.say("the configuration is valid")
	if lines := cfg.Initialize.Describe(); len(lines) > 0 {
		a.say("at its first unseal, a new cluster would:")
		for _, line := range lines {
			a.say("  %s", line)
		}
	}
	return nil
}

// config is the valid configuration that the flags stand for.
func (s *serverFlags) config() (*config.Config, error) {
	cfg, err := s.base()
	if err != nil {
		return nil, err
	}
	if err := s.logging(cfg); err != nil {
		return nil, err
	}
	if err := cfg.Validate(); err != nil {
		return nil, localf("%w", err)
	}
	return cfg, nil
}

func (s *serverFlags) base() (*config.Config, error) {
	switch {
	case len(s.files) > 1:
		return nil, localf("one -config is enough: give the folder to read several files")
	case s.dev && len(s.files) > 0:
		return nil, localf("-dev and -config exclude each other: a dev server keeps nothing")
	case s.dev:
		cfg := config.Dev()
		if s.devListen != "" {
			cfg.Listeners[0].Address = s.devListen
		}
		if _, _, err := net.SplitHostPort(s.devListen); err == nil && !cfg.Listeners[0].Loopback() {
			return nil, localf("a dev server is for loopback only: it shows its keys and keeps nothing; listen on 127.0.0.1, or write a configuration without -dev")
		}
		return cfg, nil
	case len(s.files) == 0:
		return config.Default(), nil
	}
	cfg, err := config.Load(s.files[0])
	if err != nil {
		return nil, stuck("reading the configuration", fmt.Errorf("\n%w", err))
	}
	return cfg, nil
}

// logging puts the flags over what the file says.
func (s *serverFlags) logging(cfg *config.Config) error {
	if s.logLevel != "" {
		if err := cfg.SetLogLevel(s.logLevel); err != nil {
			return localf("-log-level %w", err)
		}
	}
	if s.logFormat != "" {
		cfg.LogFormat = strings.ToLower(s.logFormat)
	}
	return nil
}

// options are what the server is told besides its configuration.
func (s *serverFlags) options(a *app) server.Options {
	v := readVersion()
	o := server.Options{
		Stdout: a.stdout, Stderr: a.stderr, Version: v.Version, CommitDate: v.CommitDate,
		Reload: s.config, // the flags stay above the file
	}
	if s.dev {
		// Not the flag's default, which the help would print.
		id := s.devRootTokenID
		if id == "" {
			id = api.ReadBaoVariable("BAO_DEV_ROOT_TOKEN_ID")
		}
		o.Dev = &server.DevOptions{RootTokenID: id, StoreToken: storeToken}
		if s.devNoStore {
			o.Dev.StoreToken = nil
		}
	}
	return o
}
