// Package inmem is a store without durability: the whole map in memory, for development servers and for tests.
//
// It promises everything that store.Store does except that the data outlives the process. Readers work on an immutable
// snapshot: they never wait for a writer and never hold one up. It does not promise that deleted values are wiped.
package inmem

import (
	"context"
	"sync/atomic"

	"github.com/quorate/quorate/internal/store"
)

// Store implements store.Store.
type Store struct {
	gate    store.Gate
	writer  chan struct{} // holds one token; whoever has it may replace current
	current atomic.Pointer[snapshot]
}

// New returns an empty store.
func New() *Store {
	s := &Store{writer: make(chan struct{}, 1)}
	s.writer <- struct{}{}
	s.current.Store(&snapshot{})
	return s
}

// View implements store.Store.
func (s *Store) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.gate.Enter(); err != nil {
		return err
	}
	defer s.gate.Leave()
	return fn(s.current.Load())
}

// Update implements store.Store: one function at a time, each on the result of the one before. A context that ends
// while fn waits for its turn keeps it from running.
func (s *Store) Update(ctx context.Context, fn func(store.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.gate.Enter(); err != nil {
		return err
	}
	defer s.gate.Leave()
	select {
	case <-s.writer:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { s.writer <- struct{}{} }()
	if err := ctx.Err(); err != nil { // both cases were ready
		return err
	}
	base := s.current.Load()
	tx := store.NewOverlay(base)
	if err := fn(tx); err != nil {
		return err
	}
	s.current.Store(base.with(tx.Changes()))
	return nil
}

// Close implements store.Store. The data is given up.
func (s *Store) Close() error {
	if s.gate.Close() {
		s.current.Store(&snapshot{})
	}
	return nil
}
