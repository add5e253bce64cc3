package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/quorate/quorate/internal/store"
)

// Mode says what became of the commit that failed.
type Mode int

const (
	Lost Mode = iota // nothing was written
	Kept             // everything was written, but the caller wasn't told
)

func (m Mode) String() string {
	if m == Kept {
		return "kept"
	}
	return "lost"
}

// ErrCrashed is what a Faulty store answers after its failed commit, as a process that died would: with nothing.
var ErrCrashed = errors.New("the store has crashed; recover it first")

// Faulty is a store whose n-th commit fails. The caller of that commit gets an error that wraps store.ErrUnknownOutcome
// in both modes, because a caller can't tell them apart; every later call fails with ErrCrashed until Recover.
//
// A commit is an Update whose function succeeded after at least one write. Updates run one at a time, so that n means
// the same in every run.
type Faulty struct {
	under store.Store

	updating chan struct{} // full while an Update runs

	mu      sync.Mutex // guards what follows
	commits int
	failAt  int // the value of commits+1 at which to fail; 0 = never
	mode    Mode
	crashed bool
}

// NewFaulty returns a store over s that doesn't fail yet.
func NewFaulty(s store.Store) *Faulty { return &Faulty{under: s, updating: make(chan struct{}, 1)} }

// FailCommit makes the n-th commit from now fail; 1 is the next one.
func (f *Faulty) FailCommit(n int, mode Mode) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failAt, f.mode = f.commits+n, mode
}

// Recover ends the crashed state and forgets a planned failure: what a restart does.
func (f *Faulty) Recover() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashed, f.failAt = false, 0
}

// Commits is the number of commits that were made durable, a Kept one included.
func (f *Faulty) Commits() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.commits
}

// Crashed reports whether the planned failure has happened.
func (f *Faulty) Crashed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.crashed
}

// View implements store.Store.
func (f *Faulty) View(ctx context.Context, fn func(store.Reader) error) error {
	if f.Crashed() {
		return ErrCrashed
	}
	return f.under.View(ctx, fn)
}

// Update implements store.Store.
func (f *Faulty) Update(ctx context.Context, fn func(store.Tx) error) error {
	select {
	case f.updating <- struct{}{}:
		defer func() { <-f.updating }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if f.Crashed() {
		return ErrCrashed
	}
	var watched *watchedTx
	var planned error
	err := f.under.Update(ctx, func(tx store.Tx) error {
		watched, planned = &watchedTx{Tx: tx}, nil
		if err := fn(watched); err != nil {
			return err
		}
		if watched.wrote {
			planned = f.due(Lost)
		}
		return planned
	})
	if err != nil {
		return err // planned, or the store's or fn's own
	}
	if !watched.wrote {
		return nil
	}
	planned = f.due(Kept)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.commits++
	return planned
}

// Close implements store.Store.
func (f *Faulty) Close() error { return f.under.Close() }

// due returns the planned failure, and crashes, when the next commit is the one to fail in this mode.
func (f *Faulty) due(mode Mode) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mode != mode || f.failAt != f.commits+1 {
		return nil
	}
	f.crashed = true
	return fmt.Errorf("%w: commit %d failed on purpose (%s)", store.ErrUnknownOutcome, f.failAt, mode)
}

// watchedTx notes whether anything was written.
type watchedTx struct {
	store.Tx
	wrote bool
}

func (tx *watchedTx) Put(key string, value []byte) error {
	err := tx.Tx.Put(key, value)
	tx.wrote = tx.wrote || err == nil
	return err
}

func (tx *watchedTx) Delete(key string) error {
	err := tx.Tx.Delete(key)
	tx.wrote = tx.wrote || err == nil
	return err
}

// Rerun wraps a store that runs every function twice, the first time in vain, as a store that retries after a conflict
// does. Code that counts, appends or wipes inside its function fails on it.
func Rerun(s store.Store) store.Store { return rerun{s} }

type rerun struct{ store.Store }

func (r rerun) View(ctx context.Context, fn func(store.Reader) error) error {
	return r.Store.View(ctx, func(reader store.Reader) error {
		if err := cmp.Or(fn(reader), ctx.Err()); err != nil {
			return err
		}
		return fn(reader)
	})
}

func (r rerun) Update(ctx context.Context, fn func(store.Tx) error) error {
	return r.Store.Update(ctx, func(tx store.Tx) error {
		if err := cmp.Or(fn(store.NewOverlay(tx)), ctx.Err()); err != nil {
			return err
		}
		return fn(tx)
	})
}
