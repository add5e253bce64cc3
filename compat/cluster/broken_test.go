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
	forget := f.n > 60 && f.n%5 == 0 // after the node has come up
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
			lost := w.settle(t)
			if name == "right" && len(lost) > 0 || name == "forgetful" && len(lost) == 0 {
				t.Errorf("lost: %v", lost)
			}
			if used := w.history.afterRevocation(); one.want == porcupine.Ok && len(used) > 0 {
				t.Error(used)
			}
		})
	}
}

// What the check must find, and what it must not mind.
func TestModel(t *testing.T) {
	ok, denied := result{code: 204}, result{code: 403}
	write := func(who who, value string) request { return request{what: writeOne, who: who, value: value} }
	is := func(value string) result { return result{code: 200, value: value} }
	type step struct {
		request    request
		call, back int64
		result     result
	}
	revoked := step{request{what: revoke, target: asParent}, 0, 10, ok}
	for name, one := range map[string]struct {
		steps []step
		legal bool
		used  int // after a revocation
	}{
		"a write and a read":              {[]step{{write(asRoot, "a"), 0, 1, ok}, {request{what: readOne}, 2, 3, is("a")}}, true, 0},
		"a read of nothing after a write": {[]step{{write(asRoot, "a"), 0, 1, ok}, {request{what: readOne}, 2, 3, result{code: 404}}}, false, 0},
		"a read beside a write":           {[]step{{write(asRoot, "a"), 0, 3, ok}, {request{what: readOne}, 1, 2, result{code: 404}}}, true, 0},
		"back to an older value": {[]step{
			{write(asRoot, "a"), 0, 1, ok}, {write(asRoot, "b"), 2, 9, ok}, {request{what: readOne}, 3, 4, is("b")}, {request{what: readOne}, 5, 6, is("a")},
		}, false, 0},
		"a lost answer that counts late": {[]step{
			{write(asRoot, "a"), 0, forever, result{unknown: true}}, {request{what: readOne}, 1, 2, result{code: 404}}, {request{what: readOne}, 3, 4, is("a")},
		}, true, 0},
		"a lost answer that never counts":    {[]step{{write(asRoot, "a"), 0, forever, result{unknown: true}}, {request{what: readOne}, 1, 2, result{code: 404}}}, true, 0},
		"a write after the revocation":       {[]step{revoked, {write(asParent, "a"), 11, 12, ok}}, false, 1},
		"the same by the child":              {[]step{revoked, {write(asChild, "a"), 11, 12, ok}}, false, 1},
		"a refusal after the revocation":     {[]step{revoked, {write(asChild, "a"), 11, 12, denied}}, true, 0},
		"a write beside the revocation":      {[]step{revoked, {write(asChild, "a"), 5, 12, ok}}, true, 0},
		"written after what it must precede": {[]step{revoked, {write(asParent, "a"), 1, 20, ok}, {request{what: readOne}, 11, 12, result{code: 404}}}, false, 0},
		"a refusal without a revocation":     {[]step{{write(asChild, "a"), 0, 1, denied}}, false, 0},
		"one use too many": {[]step{
			{write(asLimited, "a"), 0, 1, ok},
			{write(asLimited, "a"), 2, 3, ok},
			{write(asLimited, "a"), 4, 5, ok},
			{write(asLimited, "a"), 6, 7, ok},
			{write(asLimited, "a"), 8, 9, ok},
			{write(asLimited, "a"), 10, 11, ok},
		}, false, 0},
		"two writes of one version": {[]step{
			{request{what: casTwo, value: "a"}, 0, 5, result{code: 200, version: 1}}, {request{what: casTwo, value: "b"}, 0, 5, result{code: 200, version: 1}},
		}, false, 0},
	} {
		h := newHistory()
		for _, s := range one.steps {
			h.ops = append(h.ops, porcupine.Operation{Input: s.request, Call: s.call, Output: s.result, Return: s.back})
		}
		if verdict, _ := h.judge(); (verdict == porcupine.Ok) != one.legal {
			t.Errorf("%s: %s", name, verdict)
		}
		if used := h.afterRevocation(); len(used) != one.used {
			t.Errorf("%s: %v", name, used)
		}
	}
}
