package node

import (
	"context"
	"crypto/rand"
	"errors"
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/store"
)

// sealedElsewhere tells why a node that nobody has asked sealed itself.
const sealedElsewhere = "the cluster was sealed at another server, or its store was replaced"

// errOrdered says that the cluster was sealed after this node was unsealed.
var errOrdered = errors.New("the cluster was sealed")

// order makes every node that is unsealed seal itself, once tx has committed.
func order(tx store.Tx) error {
	if err := tx.Put(seal.OrderKey, []byte(rand.Text())); err != nil {
		return err
	}
	return barrier.BumpStamp(tx)
}

// guard is the store below the barrier. While it is pinned, no transaction runs on a snapshot in which the cluster was
// sealed since. The change stamp tells when to look; reading it costs no round trip, because it goes with the first read
// of a transaction.
type guard struct {
	store.Store
	pinned atomic.Pointer[pin]
}

// pin is the order under which a node was unsealed.
type pin struct {
	order string
	stamp atomic.Pointer[string] // the newest under which order was seen to hold
}

// pinNow pins the order that is in force.
func (g *guard) pinNow(ctx context.Context) error {
	var now string
	err := g.Store.View(ctx, func(r store.Reader) error {
		values, err := r.Get(seal.OrderKey)
		if err != nil {
			return err
		}
		now = string(values[0])
		return snapshot.Unfinished(r) // of a restore that began after this process did
	})
	if err == nil {
		g.pin(now)
	}
	return err
}

func (g *guard) pin(order string) { g.pinned.Store(&pin{order: order}) }
func (g *guard) unpin()           { g.pinned.Store(nil) }

// order is what is pinned.
func (g *guard) order() string {
	if p := g.pinned.Load(); p != nil {
		return p.order
	}
	return ""
}

// View implements store.Store.
func (g *guard) View(ctx context.Context, fn func(store.Reader) error) error {
	p := g.pinned.Load()
	if p == nil {
		return g.Store.View(ctx, fn)
	}
	return g.Store.View(ctx, func(r store.Reader) error { return fn(&guarded{Reader: r, pin: p}) })
}

// Update implements store.Store.
func (g *guard) Update(ctx context.Context, fn func(store.Tx) error) error {
	p := g.pinned.Load()
	if p == nil {
		return g.Store.Update(ctx, fn)
	}
	return g.Store.Update(ctx, func(tx store.Tx) error {
		w := &guardedTx{guarded: guarded{Reader: tx, pin: p}, tx: tx}
		if err := fn(w); err != nil {
			return err
		}
		return w.check() // of one that has only written
	})
}

// guarded is one transaction. It remembers the first things it read: over a network a round trip costs more than all else
// that is done for a request.
type guarded struct {
	store.Reader
	pin     *pin
	checked bool
	known   []store.Entry // as of the snapshot; without what was written since; the value is nil for none
}

// maxKnown keeps a look at what is remembered shorter than a look into the store.
const maxKnown = 8

// Get implements store.Reader. The first one reads the change stamp too.
func (g *guarded) Get(keys ...string) ([][]byte, error) {
	values := make([][]byte, len(keys))
	var ask []string
	from := make([]int, len(keys)) // :: index in keys → index in ask, or -1
	for i, key := range keys {
		from[i] = -1
		if k := g.find(key); k >= 0 {
			values[i] = g.known[k].Value
			continue
		}
		if from[i] = slices.Index(ask, key); from[i] < 0 {
			from[i], ask = len(ask), append(ask, key)
		}
	}
	stamp := slices.Index(ask, barrier.StampKey)
	if !g.checked && stamp < 0 {
		stamp, ask = len(ask), append(ask, barrier.StampKey)
	}
	if len(ask) == 0 {
		return values, nil
	}
	found, err := g.Reader.Get(ask...)
	if err != nil {
		return nil, err
	}
	for i, at := range from {
		if at >= 0 {
			values[i] = found[at]
		}
	}
	for i, key := range ask {
		if len(g.known) < maxKnown {
			g.known = append(g.known, store.Entry{Key: key, Value: found[i]})
		}
	}
	if !g.checked {
		return values, g.judge(found[stamp])
	}
	return values, nil
}

// find returns where a key is in known, or -1.
func (g *guarded) find(key string) int {
	for i := range g.known {
		if g.known[i].Key == key {
			return i
		}
	}
	return -1
}

// Scan implements store.Reader.
func (g *guarded) Scan(prefix, after string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		if err := g.check(); err != nil {
			yield(store.Entry{}, err)
			return
		}
		g.Reader.Scan(prefix, after)(yield)
	}
}

func (g *guarded) check() error {
	if g.checked {
		return nil
	}
	_, err := g.Get()
	return err
}

// judge looks at the order itself only if the stamp isn't one that it was seen under.
func (g *guarded) judge(stamp []byte) error {
	if seen := g.pin.stamp.Load(); seen == nil || *seen != string(stamp) {
		values, err := g.Reader.Get(seal.OrderKey)
		if err != nil {
			return err
		}
		if string(values[0]) != g.pin.order {
			return errOrdered
		}
		now := string(stamp)
		g.pin.stamp.Store(&now)
	}
	g.checked = true
	if g.find(barrier.StampKey) < 0 {
		g.known = append(g.known, store.Entry{Key: barrier.StampKey, Value: stamp})
	}
	return nil
}

func (g *guarded) forget(key string) {
	if i := g.find(key); i >= 0 {
		g.known = slices.Delete(g.known, i, i+1)
	}
}

// guardedTx is one transaction that writes.
type guardedTx struct {
	guarded
	tx store.Tx
}

// Put implements store.Tx. What judges the snapshot must be read before it can be overwritten.
func (g *guardedTx) Put(key string, value []byte) error {
	if key == barrier.StampKey || key == seal.OrderKey {
		if err := g.check(); err != nil {
			return err
		}
	}
	g.forget(key)
	return g.tx.Put(key, value)
}

// Delete implements store.Tx.
func (g *guardedTx) Delete(key string) error {
	if key == barrier.StampKey || key == seal.OrderKey {
		if err := g.check(); err != nil {
			return err
		}
	}
	g.forget(key)
	return g.tx.Delete(key)
}

// lookUntilClosed makes an idle node notice that the cluster was sealed, and tells the log when the store can't be reached
// and when it can again.
func (n *Node) lookUntilClosed(a *active) {
	ticker := time.NewTicker(n.LookInterval)
	defer ticker.Stop()
	lost := false
	for {
		select {
		case <-a.ctx.Done():
			return
		case <-ticker.C:
		}
		err := n.lookOnce(a.ctx)
		switch {
		case a.ctx.Err() != nil, errors.Is(err, ErrSealed), errors.Is(err, errOutdated):
			return
		case (err != nil) != lost:
			if lost = err != nil; lost {
				n.Logger.Error("the store can't be used: requests fail until it can", "error", err)
			} else {
				n.Logger.Info("the store can be used again")
			}
		}
	}
}

// lookOnce sees how the server is set up, and makes a node seal itself that must not use its keys any more, or whose root
// key was replaced.
func (n *Node) lookOnce(ctx context.Context) error {
	return n.use(ctx, func(ctx context.Context, a *active) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return a.Barrier.View(ctx, func(r store.Reader) error {
			if _, err := a.system(r); err != nil {
				return err
			}
			return a.Barrier.UseRoot(r, func(secret.Bytes) error { return nil })
		})
	})
}

// obey seals the node if the cluster was sealed, and nobody has told it yet. The caller holds transition.
func (n *Node) obey(ctx context.Context) {
	if !n.Sealed() && errors.Is(n.lookOnce(ctx), ErrSealed) {
		n.Logger.Warn("sealed", "because", sealedElsewhere)
		// Nothing can be said any more to a store that belongs to a sealed cluster.
		_ = n.deactivate(func(*active) error { return nil })
	}
}
