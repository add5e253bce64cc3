// Package postgres is the store that several machines share: one table of a PostgreSQL database.
//
// It promises strictly serialisable transactions: every one is SERIALIZABLE, a View too, and is committed before its
// result counts, so that not even three transactions can show a reader an order that never was. What Update
// acknowledged has been flushed to the server's log; a server that is told not to (synchronous_commit or fsync off) is
// refused. A server that is away or hangs costs a caller no more than Timeout for each step, and the store is usable
// again as soon as the server is. A commit whose answer was lost is reported as such, never guessed.
//
// It does not promise that a commit survives the loss of the server: that is what synchronous standbys are for, and
// without them a failover may forget the last commits. It does not work through a pooler that gives a session's
// statements to different servers' connections, because sessions have settings and prepared statements. A transaction
// started inside another's function takes a second connection; enough of them wait for each other until Timeout.
package postgres

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/internal/store"
)

// Options of a store. Only URL is needed.
type Options struct {
	// URL says where the database is, as libpq understands it: postgres://user@host/database?sslmode=verify-full, or
	// words such as host=... user=.... What it leaves out comes from the PG* environment variables.
	URL string
	// Table holds the records: a lower-case name, perhaps with a schema in front. Default "quorate".
	Table string
	// MaxConnections of this process. Default 16.
	MaxConnections int
	// Timeout of one statement, and of one wait for a connection. Default 5 s.
	Timeout time.Duration
	// Logger is told when the database goes away and comes back. Nil: nobody is told.
	Logger *slog.Logger
}

const (
	loserAfter  = 3   // conflicts of one Update, from which on it waits for its turn among the losers
	maxAttempts = 100 // of one transaction
	maxPause    = 64 * time.Millisecond
)

// Store implements store.Store, store.Clock and store.Meter.
type Store struct {
	pool    *pool
	timeout time.Duration
	gate    store.Gate
	lane    chan struct{} // held by the one Update of this process that has lost often and runs again
	retries atomic.Uint64
}

// Open connects, and creates the table if it isn't there. An error is written for the operator who starts the server.
func Open(ctx context.Context, opts Options) (*Store, error) {
	p, err := newPool(opts)
	if err != nil {
		return nil, err
	}
	if err := p.migrate(ctx); err != nil {
		p.close()
		return nil, err
	}
	return &Store{pool: p, timeout: p.timeout, lane: make(chan struct{}, 1)}, nil
}

// Now implements store.Clock.
func (s *Store) Now() time.Time { return s.pool.clock.now() }

// Retries implements store.Meter.
func (s *Store) Retries() uint64 { return s.retries.Load() }

// View implements store.Store.
func (s *Store) View(ctx context.Context, fn func(store.Reader) error) error {
	return s.run(ctx, func() (*failure, error) {
		t := &transaction{ctx: ctx, pool: s.pool, begin: beginView}
		defer t.release()
		return t.finish(fn(t), nil)
	})
}

// Update implements store.Store. Once the commit is on its way it is waited for even if the context ends.
func (s *Store) Update(ctx context.Context, fn func(store.Tx) error) error {
	return s.run(ctx, func() (*failure, error) {
		t := &transaction{ctx: ctx, pool: s.pool, begin: beginUpdate}
		defer t.release()
		writes := store.NewOverlay(t)
		return t.finish(fn(writes), writes)
	})
}

// run makes attempts until one has a result. A conflict is tried again after a pause, and a lost connection at once
// and once: most often it died in the pool, and its successor lives.
func (s *Store) run(ctx context.Context, attempt func() (*failure, error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.gate.Enter(); err != nil {
		return err
	}
	defer s.gate.Leave()
	var inLane, renewed bool
	defer func() {
		if inLane {
			<-s.lane
		}
	}()
	for n := 1; ; n++ {
		failed, err := attempt()
		switch {
		case failed == nil:
			return err
		case failed.kind == stale && !renewed:
			renewed = true
			s.pool.flush()
			continue
		case failed.kind != conflict || n == maxAttempts:
			return failed.err
		}
		s.retries.Add(1)
		if n >= loserAfter && !inLane {
			inLane = s.enterLane(ctx)
		}
		if err := pause(ctx, n); err != nil {
			return err
		}
	}
}

// enterLane waits for the lane, but not for ever: whoever holds it may be waiting for this very transaction.
func (s *Store) enterLane(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	select {
	case s.lane <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// pause waits for a random time, which may grow with each conflict.
func pause(ctx context.Context, n int) error {
	timer := time.NewTimer(rand.N(min(time.Millisecond<<min(n, 10), maxPause)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close implements store.Store.
func (s *Store) Close() error {
	if s.gate.Close() {
		s.pool.close()
	}
	return nil
}
