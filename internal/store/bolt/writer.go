package bolt

import (
	"context"
	"fmt"
	"runtime"

	"go.etcd.io/bbolt"

	"github.com/quorate/quorate/internal/store"
)

// A group takes in further Updates until it reaches one of these, so that a commit stays short.
const (
	maxGroup      = 1024    // Updates
	maxGroupBytes = 8 << 20 // keys and values
)

// Update implements store.Store. Once fn has had its turn, the outcome is waited for even if the context ends.
func (s *Store) Update(ctx context.Context, fn func(store.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.gate.Enter(); err != nil {
		return err
	}
	defer s.gate.Leave()
	r := newRequest()
	s.queue.push(r)
	base, err := r.wait(ctx)
	if err != nil {
		return err
	}
	err = r.run(ctx, base, fn)
	// fn may have failed because of what an Update before it in the same group wrote: then its error is only true if
	// the group's commit succeeds.
	if failed := <-r.done; failed != nil {
		return failed
	}
	return err
}

// write is the writer goroutine. It ends when the queue is closed.
func (s *Store) write() {
	defer close(s.stopped)
	defer panicOnFault()()
	for range s.queue.wake {
		for s.more() {
			s.serve()
		}
	}
}

// more reports whether a request is pending, after a look into the queue.
func (s *Store) more() bool {
	if len(s.pending) == 0 {
		s.pending = s.queue.poll()
	}
	return len(s.pending) > 0
}

// serve makes one group of what is pending.
func (s *Store) serve() {
	var g group
	err := s.runGroup(&g)
	for _, r := range g.depend {
		r.done <- err
	}
}

// group is the Updates that share one transaction of bbolt, and so one commit.
type group struct {
	tx     *bbolt.Tx
	base   reader
	size   int // Updates that ran
	bytes  int
	dirty  bool       // something was written
	depend []*request // whose answer depends on the commit: all that ran on a dirty group, or made it dirty
}

// refuse answers everything that is pending without running it.
func (s *Store) refuse(err error) {
	for _, r := range s.pending {
		if r.taken.CompareAndSwap(false, true) {
			r.turn <- turn{err: err}
		}
	}
	s.pending = nil
}

// runGroup runs what is pending, what comes in meanwhile, and the commit. bbolt panics when it finds damage: the
// group fails then, and the store is given up, so that what is still pending is refused in the next group.
func (s *Store) runGroup(g *group) (err error) {
	if g.tx, err = s.begin(true); err != nil {
		s.refuse(err)
		return err
	}
	defer func() {
		if reason := recover(); reason != nil {
			g.tx.Rollback()
			err = s.giveUp(fmt.Errorf("%v", reason), true)
		}
	}()
	g.base = reader{g.tx.Bucket([]byte(bucketName))}
	for g.size < maxGroup && g.bytes < maxGroupBytes && s.moreForGroup() {
		r := s.pending[0]
		s.pending = s.pending[1:]
		if r.taken.CompareAndSwap(false, true) {
			if err := g.call(r); err != nil {
				g.tx.Rollback()
				return s.giveUp(err, false)
			}
		}
	}
	if !g.dirty {
		return g.tx.Rollback()
	}
	return s.commitGroup(g.tx)
}

// moreForGroup is more, but lets others run before it says no. Writers that the last commit has just set free, and
// that are about to come back, join this group then, instead of all but the first waiting for the next one. Nobody
// waits for a clock: with nobody else to run this returns at once.
func (s *Store) moreForGroup() bool {
	if s.more() {
		return true
	}
	runtime.Gosched()
	return s.more()
}

// call lets one request run, and applies what it wrote.
func (g *group) call(r *request) error {
	r.turn <- turn{base: g.base}
	result := <-r.ran
	g.size++
	wrote := result != nil && result.Changed()
	if !wrote && !g.dirty {
		r.done <- nil // it saw only what is durable already
		return nil
	}
	g.depend = append(g.depend, r)
	if !wrote {
		return nil
	}
	g.dirty = true
	return g.apply(result)
}

func (g *group) apply(result *store.Overlay) error {
	for key, value := range result.Changes() {
		g.bytes += len(key) + len(value)
		var err error
		if value == nil {
			err = g.base.bucket.Delete([]byte(key))
		} else {
			err = g.base.bucket.Put([]byte(key), value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
