package cluster

import (
	"context"
	"sync"
	"testing"

	"github.com/anishathalye/porcupine"

	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
)

// shared is one connection to a store that outlives it.
type shared struct{ store.Store }

func (shared) Close() error { return nil }

// stale is a connection that reads an old snapshot over and over before it takes another one.
type stale struct {
	shared
	mu   sync.Mutex
	left int
	old  store.Reader
	done chan struct{}
}

const staleViews = 40

func (s *stale) View(_ context.Context, fn func(store.Reader) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left--; s.left < 0 {
		s.take()
		s.left = staleViews
	}
	return fn(s.old)
}

// take holds a View open for as long as its snapshot is used.
func (s *stale) take() {
	s.release()
	done, taken := make(chan struct{}), make(chan store.Reader)
	s.done = done
	go s.Store.View(context.Background(), func(r store.Reader) error {
		taken <- r
		<-done
		return nil
	})
	s.old = <-taken
}

func (s *stale) release() {
	if s.done != nil {
		close(s.done)
		s.done = nil
	}
}

func (s *stale) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release()
	return nil
}

// forgetful is a connection that acknowledges some writes and doesn't do them.
type forgetful struct {
	shared
	mu sync.Mutex
	n  int
}

func (f *forgetful) Update(ctx context.Context, fn func(store.Tx) error) error {
	f.mu.Lock()
	f.n++
	forget := f.n > 60 && f.n%20 == 0 // after the node has come up
	f.mu.Unlock()
	if forget {
		return f.View(ctx, func(r store.Reader) error { return fn(store.NewOverlay(r)) })
	}
	return f.Store.Update(ctx, fn)
}

// The same clients, the same check: over a store that is right it finds nothing, and over one that isn't it does.
func TestCheckFindsBrokenStores(t *testing.T) {
	for name, one := range map[string]struct {
		wrap func(shared) store.Store
		want porcupine.CheckResult
	}{
		"right":     {func(s shared) store.Store { return s }, porcupine.Ok},
		"stale":     {func(s shared) store.Store { return &stale{shared: s} }, porcupine.Illegal},
		"forgetful": {func(s shared) store.Store { return &forgetful{shared: s} }, porcupine.Illegal},
	} {
		t.Run(name, func(t *testing.T) {
			under := inmem.New()
			c := newCluster(t, 3, 3, 2, func(_ context.Context, i int) (store.Store, error) {
				if i == 2 {
					return one.wrap(shared{under}), nil
				}
				return shared{under}, nil
			})
			w := newWorkload(t, c, 800)
			w.run(t.Context())
			if verdict, _ := w.history.judge(); verdict != one.want {
				t.Errorf("the check says %s, want %s", verdict, one.want)
			}
			if one.want == porcupine.Ok {
				w.settle(t)
				w.history.checkRevoked(t)
			}
		})
	}
}
