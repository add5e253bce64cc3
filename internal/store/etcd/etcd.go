// Package etcd is the store over an etcd cluster that others run: any number of processes may use it at once.
//
// It promises what store.Store does, strictly: a transaction reads one revision of the cluster, which holds everything
// that was acknowledged before it began, and its writes are applied only if everything that it read is unchanged at that
// moment, so serialisability never rests on locks, clocks or leases. A change that is too large for one transaction of
// etcd goes through a journal (journal.go) and is as atomic as a small one. Transactions that lose against another one
// are run again.
//
// It does not promise that a transaction ends under constant contention before its context does, nor to compact the
// history that etcd keeps of every key: that is up to whoever runs the cluster. Etcd holds the records in memory and on
// disk, deleted ones until they are compacted away. An Update started, and waited for, inside another Update of the same
// store may wait for ever.
package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/quorate/quorate/internal/store"
)

const (
	format         = "1" // of what lies below the prefix
	defaultPrefix  = "quorate/"
	maxPrefix      = 256
	defaultTimeout = 5 * time.Second
	// patience is how often a transaction is run again, after a conflict before it waits for the lane of the losers, and
	// after a compaction before it fails.
	patience = 3
)

// Options of a store.
type Options struct {
	Endpoints          []string // URLs of the cluster's members, all http or all https
	Prefix             string   // of all keys in the cluster; default "quorate/"
	Username, Password string
	TLS                *tls.Config   // for https; nil: the system's roots
	Timeout            time.Duration // of one request, an election included; default 5 s
	Logger             *slog.Logger  // is told causes, of which callers see only a sentence; nil: nobody is told
}

// Store implements store.Store and store.Meter.
type Store struct {
	client  *clientv3.Client
	prefix  string
	timeout time.Duration
	log     *slog.Logger
	gate    store.Gate
	lane    chan struct{} // full while a repeated loser runs
	finish  chan struct{} // full while a journal is rolled forward
	retries atomic.Uint64
}

// Open connects to the cluster. An error is written for the operator who starts the server.
func Open(ctx context.Context, opts Options) (*Store, error) {
	s, err := connect(ctx, opts)
	if err != nil {
		return nil, fmt.Errorf("connect to etcd: %w", err)
	}
	if err := s.checkFormat(ctx); err != nil {
		s.client.Close()
		return nil, fmt.Errorf("open the store in etcd: %w", err)
	}
	return s, nil
}

// connect makes a store without asking the cluster for anything, a login apart.
func connect(ctx context.Context, opts Options) (*Store, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	client, err := clientv3.New(clientv3.Config{
		Context:              context.WithoutCancel(ctx),
		Endpoints:            opts.Endpoints,
		Username:             opts.Username,
		Password:             opts.Password,
		TLS:                  opts.TLS,
		DialTimeout:          opts.Timeout,
		DialKeepAliveTime:    5 * time.Second, // etcd refuses clients that ask more often
		DialKeepAliveTimeout: 3 * time.Second,
		DialOptions:          []grpc.DialOption{grpc.WithChainUnaryInterceptor(keepDialError)},
		Logger:               zap.NewNop(), // what it would say comes back as errors
	})
	if err != nil {
		return nil, classify(err).wrap(err)
	}
	return &Store{
		client:  client,
		prefix:  opts.Prefix,
		timeout: opts.Timeout,
		log:     opts.Logger,
		lane:    make(chan struct{}, 1),
		finish:  make(chan struct{}, 1),
	}, nil
}

// check refuses options that can't work, and fills in defaults. Its errors hold no addresses: people put passwords there.
func (o *Options) check() error {
	if len(o.Endpoints) == 0 {
		return errors.New("no address of etcd is given: set at least one, like https://10.0.0.1:2379")
	}
	secure := 0
	for _, endpoint := range o.Endpoints {
		u, err := url.Parse(endpoint)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil ||
			strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
			return errors.New("an address of etcd is not like https://10.0.0.1:2379: correct it, and give user name and password as settings of their own")
		}
		if u.Scheme == "https" {
			secure++
		}
	}
	switch {
	case secure != 0 && secure != len(o.Endpoints):
		return errors.New("some addresses of etcd are https and some are http: make them all https")
	case secure == 0 && o.TLS != nil:
		return errors.New("TLS is configured, but the addresses of etcd are http: make them https")
	case (o.Username == "") != (o.Password == ""):
		return errors.New("etcd needs a user name and a password together, or neither")
	}
	if secure != 0 && o.TLS == nil {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if o.Prefix == "" {
		o.Prefix = defaultPrefix
	}
	if !strings.HasSuffix(o.Prefix, "/") {
		o.Prefix += "/"
	}
	if len(o.Prefix) > maxPrefix || !utf8.ValidString(o.Prefix) || strings.ContainsRune(o.Prefix, 0) {
		return fmt.Errorf("the prefix in etcd is not clean UTF-8 of at most %d bytes: choose another", maxPrefix)
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.Timeout < 0 {
		return errors.New("the timeout for etcd is negative: leave it out, or make it some seconds")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// checkFormat marks the prefix as ours, and refuses one of another version.
func (s *Store) checkFormat(ctx context.Context) error {
	key := s.prefix + "format"
	for {
		resp, err := s.txn(ctx, nil, clientv3.OpGet(key))
		if err != nil {
			return err
		}
		if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
			if string(kvs[0].Value) != format {
				return errors.New("the data below the prefix belong to another version of quorate: run that version, or choose another prefix")
			}
			return nil
		}
		absent := clientv3.Compare(clientv3.CreateRevision(key), "=", 0)
		if _, err := s.txn(ctx, []clientv3.Cmp{absent}, clientv3.OpPut(key, format)); err != nil {
			return err
		}
	}
}

// View implements store.Store.
func (s *Store) View(ctx context.Context, fn func(store.Reader) error) error {
	return s.transact(ctx, func(r *reader) error {
		if err := fn(r); err != nil {
			return err
		}
		return r.failed
	})
}

// Update implements store.Store. Once fn has succeeded, the outcome is waited for even if the context ends.
func (s *Store) Update(ctx context.Context, fn func(store.Tx) error) error {
	return s.transact(ctx, func(r *reader) error {
		tx := store.NewOverlay(r)
		if err := fn(tx); err != nil {
			return err
		}
		if r.failed != nil { // fn took no notice, and may have gone on with what it didn't read
			return r.failed
		}
		return s.commit(ctx, r, tx)
	})
}

// errConflict says that what the transaction read has changed: nothing was written.
var errConflict = errors.New("the transaction lost against another one")

// transact runs attempts until one neither conflicts nor loses its snapshot. Repeated losers run one at a time, so that
// those of one process don't keep each other from ending.
func (s *Store) transact(ctx context.Context, attempt func(*reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.gate.Enter(); err != nil {
		return err
	}
	defer s.gate.Leave()
	compacted := 0
	for n := 1; ; n++ {
		r := newReader(ctx, s)
		err := attempt(r)
		switch {
		case r.failed == errCompacted: // whatever fn made of it
			if compacted++; compacted == patience {
				return errCompacted
			}
		case err != errConflict:
			return err
		}
		s.retries.Add(1)
		if n == patience {
			select {
			case s.lane <- struct{}{}:
				defer func() { <-s.lane }()
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err := pause(ctx, n); err != nil {
			return err
		}
	}
}

// pause waits before try number n+1: longer each time, and not as long as others do.
func pause(ctx context.Context, n int) error {
	longest := time.Millisecond << min(n, 7)
	timer := time.NewTimer(rand.N(longest))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Retries implements store.Meter.
func (s *Store) Retries() uint64 { return s.retries.Load() }

// Close implements store.Store.
func (s *Store) Close() error {
	if s.gate.Close() {
		return s.client.Close()
	}
	return nil
}
