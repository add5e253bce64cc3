// Package server turns a configuration into a running server: it opens the store, starts a node over it, serves the
// wire on every listener, and takes everything down again in the opposite order.
//
// It promises that a connection costs only its client: places are limited in all and per client, nothing may be sent
// slowly for ever, and no error of one connection ends a listener. It promises that a request which has begun is
// answered before the server stops, unless it takes longer than the time for that. It does not promise that a flood
// from more addresses than there are places leaves room for anybody, and it takes no decision about requests.
package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/quorate/quorate/internal/audit"
	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/httpapi"
	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/store"
)

// dataFile is the name of the data file in the folder that the configuration names.
const dataFile = "quorate.db"

// shutdownTimeout is how long requests that have begun may take to end once the server is told to stop. Supervisors
// kill after 30 seconds or more.
const shutdownTimeout = 20 * time.Second

// Options is what a server is told besides its configuration. The zero value runs silently.
type Options struct {
	Stdout io.Writer // what a development server was made with, secrets included
	Stderr io.Writer // the log, and what to do next

	Version    string // of the program
	CommitDate string // RFC 3339, or empty

	// Dev makes a server to play with: initialised and unsealed from the start. Its storage must be in memory.
	Dev *DevOptions
	// Reload reads the configuration anew, as it was read for Run. Nil: on SIGHUP only the certificates are.
	Reload func() (*config.Config, error)
	// Ready is called once when every listener serves, with their addresses in the order of the configuration.
	Ready func(addrs []net.Addr)
}

// Run serves until ctx ends or SIGINT or SIGTERM arrives, and then stops in order; a second signal kills. SIGHUP reloads
// certificates and the log level, and opens audit files anew. The error is written for the operator who started the server.
func Run(ctx context.Context, cfg *config.Config, o Options) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	return run(ctx, cfg, o, hangup, stop)
}

// server is one run. Its fields are set by the steps, in their order.
type server struct {
	Options
	cfg    *config.Config
	level  *slog.LevelVar
	log    *slog.Logger
	store  *measured
	now    func() time.Time // of the store, where that has a clock that all servers share
	audit  *audit.Broker
	node   *node.Node
	peers  *peers // nil: other servers can't reach this one
	fronts []*front
	failed chan error // why a front stopped serving
	// closers take down what the steps put up; the last comes first.
	closers []func(context.Context) error
}

// run is Run without the signals: it calls stopping before it begins to stop.
func run(ctx context.Context, cfg *config.Config, o Options, hangup <-chan os.Signal, stopping func()) (err error) {
	if err := cfg.Validate(); err != nil {
		return err
	}
	if o.Stdout == nil {
		o.Stdout = io.Discard
	}
	if o.Stderr == nil {
		o.Stderr = io.Discard
	}
	s := &server{Options: o, cfg: cfg, level: new(slog.LevelVar), failed: make(chan error, len(cfg.Listeners))}
	defer func() { err = errors.Join(err, s.close()) }()
	for _, step := range []func(context.Context) error{
		s.startLog, s.hardenProcess, s.openStore, s.writePIDFile, s.openAudit, s.openNode, s.openFronts, s.startDev, s.startPeers, s.serve, s.welcome, s.tellReady,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	err = s.wait(ctx, hangup)
	stopping()
	return err
}

func (s *server) startLog(context.Context) error {
	s.level.Set(s.cfg.LogLevel)
	s.log = newLogger(s.Stderr, s.cfg.LogFormat, s.level)
	for _, w := range s.cfg.Warnings {
		s.log.Warn(w)
	}
	return nil
}

// hardenProcess keeps the memory of the process from other processes and from the disk, as far as the system lets it.
func (s *server) hardenProcess(context.Context) error {
	if err := secret.DisableCoreDumps(); err != nil {
		s.log.Warn("keys in memory could end up in a core dump: look at the limits of this process", "error", err)
	}
	return nil
}

func (s *server) openStore(ctx context.Context) error {
	if s.Dev != nil && s.cfg.Storage.Type != config.StorageInmem {
		return errors.New("a development server prints its keys and would leave them to everything that is stored later: use storage \"inmem\" {}")
	}
	st, err := openStorage(ctx, s.cfg.Storage, s.log)
	if err != nil {
		return err
	}
	s.store, s.now = measure(st), time.Now
	if c, ok := st.(store.Clock); ok {
		s.now = c.Now
	}
	s.onClose(func(context.Context) error { return st.Close() })
	return st.View(ctx, snapshot.Unfinished)
}

// openAudit opens the audit devices of the configuration. One that can't be opened keeps the server from starting: it
// would refuse everything.
func (s *server) openAudit(context.Context) error {
	s.audit = audit.New(audit.Options{Logger: s.log, Now: time.Now, Stdout: s.Stdout, Dir: s.cfg.AuditDir})
	s.onClose(func(context.Context) error { return s.audit.Close() })
	return s.audit.SetConfigured(s.cfg.Audit)
}

func (s *server) openNode(context.Context) error {
	cluster, err := s.membership()
	if err != nil {
		return err
	}
	n, err := node.New(node.Options{
		Store:       s.store,
		Now:         s.now,
		Logger:      s.log,
		ClusterName: s.cfg.ClusterName,
		DefaultTTL:  s.cfg.DefaultLeaseTTL,
		MaxTTL:      s.cfg.MaxLeaseTTL,
		Limits: ceremony.Limits{
			Unapproved: s.cfg.Ceremony.UnapprovedTimeout,
			Idle:       s.cfg.Ceremony.IdleTimeout,
			Total:      s.cfg.Ceremony.TotalTimeout,
		},
		ResultTTL:       s.cfg.Ceremony.ResultTTL,
		VerificationTTL: s.cfg.Ceremony.VerificationTimeout,
		RootTokenTTL:    s.cfg.RootTokenTTL,
		Mark:            s.markKeeper(),
		Audit:           s.audit,
		Setup:           setupOf(s.cfg.Initialize),
		Cluster:         cluster,
	})
	if err != nil {
		return err
	}
	s.node = n
	if s.peers != nil {
		s.peers.node = n
	}
	s.onClose(func(context.Context) error {
		n.Close()
		return nil
	})
	return nil
}

// openFronts binds every listener, so that an address in use or a bad certificate is found before anything else.
func (s *server) openFronts(context.Context) error {
	api := httpapi.New(httpapi.Options{
		Node:        s.node,
		Now:         s.node.Now,
		Logger:      s.log,
		Version:     s.Version,
		CommitDate:  s.CommitDate,
		StorageType: s.cfg.Storage.Type,
		Audit:       s.audit,
		Collector:   s.store,
	})
	s.onClose(func(ctx context.Context) error {
		api.EndWatches()
		return s.closeFronts(ctx)
	})
	for _, l := range s.cfg.Listeners {
		f, err := openFront(l, api.Handler(wireListener(l, s.cfg.APIAddrLoopback())), s.log)
		if err != nil {
			return err
		}
		s.fronts = append(s.fronts, f)
	}
	return nil
}

// wireListener is what the wire must know of a listener.
func wireListener(l config.Listener, apiAddrLoopback bool) httpapi.Listener {
	return httpapi.Listener{
		Name:               l.Type + " " + l.Address,
		Unix:               l.Type == config.Unix,
		Ceremonies:         l.Ceremonies,
		LocalAuthority:     l.LocalAuthority,
		APIAddrLoopback:    apiAddrLoopback,
		TrustedProxies:     l.TrustedProxies,
		MaxRequestSize:     l.MaxRequestSize,
		MaxRequestDuration: l.MaxRequestDuration,
		ResponseHeaders:    l.ResponseHeaders,
		OpenMetrics:        l.OpenMetrics,
	}
}

func (s *server) serve(context.Context) error {
	for _, f := range s.fronts {
		f.serve(s.failed)
		s.log.Info("listening", "address", f.places.Addr().String(), "url", f.url(), "tls", f.cfg.TLS(), "ceremonies", f.cfg.Ceremonies)
		if f.cfg.Type == config.TCP && !f.cfg.TLS() && !f.cfg.Loopback() {
			s.log.Warn("this listener sends tokens and key shares over the network in plaintext: give it a certificate", "address", f.places.Addr().String())
		}
	}
	if !slices.ContainsFunc(s.cfg.Listeners, s.grantsLocal) {
		s.log.Info("no listener grants authority to local connections: starting a root generation takes a token or a key share")
	}
	return nil
}

// grantsLocal reports whether some connection to l can have local authority.
func (s *server) grantsLocal(l config.Listener) bool {
	return l.Ceremonies != config.CeremoniesToken &&
		(l.Type == config.Unix || l.LocalAuthority || s.cfg.APIAddrLoopback())
}

func (s *server) tellReady(context.Context) error {
	if s.Ready == nil {
		return nil
	}
	var addrs []net.Addr
	for _, f := range s.fronts {
		addrs = append(addrs, f.places.Addr())
	}
	s.Ready(addrs)
	return nil
}

// wait serves until it is told to stop or can't serve any more.
func (s *server) wait(ctx context.Context, hangup <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			s.log.Info("stopping: requests that have begun are answered first")
			return nil
		case err := <-s.failed:
			return err
		case <-hangup:
			s.reload()
		}
	}
}

// reload opens audit files anew, whatever is in the configuration by now: they were moved aside. It takes over certificates
// and the log level. What can't be loaded stays as it was.
func (s *server) reload() {
	s.audit.Reopen()
	fresh := s.cfg
	if s.Reload != nil {
		var err error
		if fresh, err = s.Reload(); err != nil {
			s.log.Error("reload: the configuration has an error: audit files were opened anew, and everything else stays as it was", "error", err)
			return
		}
	}
	s.level.Set(fresh.LogLevel)
	kept := false
	for _, f := range s.fronts {
		if err := f.reload(fresh); err != nil {
			s.log.Error("reload: the certificate stays as it was", "listener", f.cfg.Address, "error", err)
			kept = true
		} else if f.cfg.TLS() {
			s.log.Info("reload: certificate loaded", "listener", f.cfg.Address)
		}
	}
	if kept {
		s.log.Warn("reloaded the log level and opened audit files anew, but not every certificate was loaded")
		return
	}
	s.log.Info("reloaded: the log level and certificates, and audit files were opened anew; other settings take effect at the next start")
}

func (s *server) onClose(fn func(context.Context) error) { s.closers = append(s.closers, fn) }

func (s *server) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i](ctx))
	}
	return errors.Join(errs...)
}

func (s *server) closeFronts(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, f := range s.fronts {
		wg.Go(func() {
			if err := f.close(ctx); err != nil {
				s.log.Warn("not every request ended in time", "listener", f.cfg.Address, "error", err)
			}
		})
	}
	wg.Wait()
	return nil
}

// Check finds what a start would find, as far as it can be known without starting: certificates, audit devices, the data
// folder, and what the first unseal would find in the initialize block.
func Check(cfg *config.Config) error {
	errs := []error{cfg.Validate()}
	for _, l := range cfg.Listeners {
		if l.TLS() {
			_, err := loadTLS(l, time.Now())
			errs = append(errs, err)
		}
	}
	if cfg.Cluster.Address != "" {
		_, err := loadPeerTLS(cfg.Cluster)
		errs = append(errs, err)
	}
	broker := audit.New(audit.Options{Logger: slog.New(slog.DiscardHandler), Now: time.Now, Stdout: io.Discard, Dir: cfg.AuditDir})
	for _, d := range cfg.Audit {
		if err := broker.Check(d, true); err != nil {
			errs = append(errs, fmt.Errorf("audit device %s %s: %w", d.Path, cmp.Or(d.Options["file_path"], d.Options["address"]), err))
		}
	}
	if setup := setupOf(cfg.Initialize); setup != nil {
		if err := setup.Check(context.Background()); err != nil {
			errs = append(errs, fmt.Errorf("the initialize block: %w", err))
		}
	}
	return errors.Join(append(errs, checkStorage(cfg.Storage))...)
}
