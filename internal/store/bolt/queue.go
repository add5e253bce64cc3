package bolt

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/quorate/quorate/internal/store"
)

// request is one Update on its way through the writer. The writer and the caller pass a baton: queue → turn → ran →
// done. Every channel has room for its one message, so that neither side can hold up the other by leaving.
type request struct {
	taken atomic.Bool // by the writer, to be called, or by a caller who gives up: whoever is first

	turn chan turn           // writer to caller: run now, or don't
	ran  chan *store.Overlay // caller to writer: what to write; nil when fn failed or panicked
	done chan error          // writer to caller: what became of the commit that the result depends on
}

// turn is permission to run on base, or the reason why not.
type turn struct {
	base store.Reader
	err  error
}

func newRequest() *request {
	return &request{turn: make(chan turn, 1), ran: make(chan *store.Overlay, 1), done: make(chan error, 1)}
}

// wait waits for the request's turn. A context that ends first withdraws the request.
func (r *request) wait(ctx context.Context) (store.Reader, error) {
	select {
	case t := <-r.turn:
		return t.base, t.err
	case <-ctx.Done():
	}
	if r.taken.CompareAndSwap(false, true) {
		return nil, ctx.Err()
	}
	t := <-r.turn // the writer was faster
	return t.base, t.err
}

// run runs fn on an overlay and tells the writer, whichever way fn ends.
func (r *request) run(ctx context.Context, base store.Reader, fn func(store.Tx) error) error {
	var result *store.Overlay
	defer func() { r.ran <- result }() // a panic or Goexit passes through here to the caller
	if err := ctx.Err(); err != nil {
		return err
	}
	defer panicOnFault()()
	tx := store.NewOverlay(base)
	if err := fn(tx); err != nil {
		return err
	}
	result = tx
	return nil
}

// queue holds the requests that wait for the writer. It has no limit of its own: each waiting request is a caller's
// goroutine.
type queue struct {
	mu      sync.Mutex
	waiting []*request

	wake chan struct{} // holds one token while something may be waiting; closed at the end
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

func (q *queue) push(r *request) {
	q.mu.Lock()
	q.waiting = append(q.waiting, r)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// poll takes everything that waits now.
func (q *queue) poll() []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	taken := q.waiting
	q.waiting = nil
	return taken
}

// close ends the writer. Nothing may be pushed any more.
func (q *queue) close() { close(q.wake) }
