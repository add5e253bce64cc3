package node

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/anystore"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/store/storetest"
	"github.com/quorate/quorate/internal/transcript"
)

// fleet is a cluster of several nodes over one store, which look and sweep only when they are told to.
type fleet struct {
	t     *testing.T
	first *cluster
	nodes sync.Map // address → *cluster
	// onTheWay is what becomes of keys between two nodes; nil: nothing.
	onTheWay func(message []byte) []byte
}

// newFleet has nodes a, b, c and so on, all unsealed.
func newFleet(t *testing.T, nodes, shares, threshold int) *fleet {
	t.Helper()
	return newFleetOver(t, anystore.New(t), nodes, shares, threshold)
}

func newFleetOver(t *testing.T, st store.Store, nodes, shares, threshold int) *fleet {
	t.Helper()
	f := &fleet{t: t, first: &cluster{t: t, st: st, clock: newClock(), log: &syncBuffer{}}}
	f.first.node = f.join(st, "a", nil)
	f.nodes.Store("a:8201", f.first)
	f.first.init(shares, threshold)
	f.first.unseal()
	for i := 1; i < nodes; i++ {
		f.add(string(rune('a'+i)), nil).unseal()
	}
	return f
}

// add starts another node, which is sealed.
func (f *fleet) add(name string, change func(*Options)) *cluster {
	f.t.Helper()
	c := *f.first
	if name != "a" {
		c.st = anystore.Again(f.t, f.first.st)
	}
	c.node = f.join(c.st, name, change)
	f.nodes.Store(name+":8201", &c)
	return &c
}

func (f *fleet) join(st store.Store, name string, change func(*Options)) *Node {
	f.t.Helper()
	o := Options{
		Store: st, Now: f.first.clock.now, SweepInterval: 24 * time.Hour, LookInterval: 24 * time.Hour,
		Logger: slog.New(slog.NewTextHandler(f.first.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Cluster: &Membership{
			Name: name, APIAddr: "https://" + name + ":8200", Addr: name + ":8201", Version: "1.0", Share: true, Ask: f.ask,
			Interval: 24 * time.Hour,
		},
	}
	if change != nil {
		change(&o)
	}
	n, err := New(o)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(n.Close)
	return n
}

func (f *fleet) at(name string) *cluster {
	c, ok := f.nodes.Load(name + ":8201")
	if !ok {
		f.t.Fatalf("there is no node %s", name)
	}
	return c.(*cluster)
}

func (f *fleet) ask(ctx context.Context, addr, id string) ([]byte, error) {
	c, ok := f.nodes.Load(addr)
	if !ok {
		return nil, errors.New("nobody listens there")
	}
	message, err := c.(*cluster).node.HandOver(ctx, id, "test")
	if err == nil && f.onTheWay != nil {
		message = f.onTheWay(message)
	}
	return message, err
}

func (c *cluster) sealAll() {
	c.t.Helper()
	if err := c.seal(); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) sealAlone() {
	c.t.Helper()
	if err := c.node.Seal(c.t.Context(), c.access(c.root, "sys/seal", policy.Update), true); err != nil {
		c.t.Fatal(err)
	}
}

// await waits for what another goroutine does by itself.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// What an operator seals at one node is sealed at each, for whatever is asked there next, before any of them has looked.
func TestSealAtOneNodeBindsEach(t *testing.T) {
	f := newFleet(t, 3, 3, 2)
	a, b, c := f.at("a"), f.at("b"), f.at("c")
	nothing := func(*Call) error { return nil }
	for name, ask := range map[string]func(ctx context.Context, n *Node) error{
		"view": func(ctx context.Context, n *Node) error {
			return n.View(ctx, b.access(b.root, "x", policy.Read), nothing)
		},
		"update": func(ctx context.Context, n *Node) error {
			return n.Update(ctx, b.access(b.root, "x", policy.Update), nothing)
		},
		"a stranger's view": func(ctx context.Context, n *Node) error {
			return n.View(ctx, b.access("nobody-nobody-nobody", "x", policy.Read), nothing)
		},
		"refresh":     func(ctx context.Context, n *Node) error { return n.Refresh(ctx) },
		"root status": func(ctx context.Context, n *Node) error { _, err := n.RootStatus(ctx); return err },
		"start": func(ctx context.Context, n *Node) error {
			_, err := n.StartRoot(ctx, GenerateRoot, local, StartRequest{})
			return err
		},
		"approval": func(ctx context.Context, n *Node) error {
			_, err := n.ApproveRoot(ctx, GenerateRoot, "3b2fdd1c-2c59-4f45-9d0f-0a4d5a1d7f43", b.share(0))
			return err
		},
		"key status": func(ctx context.Context, n *Node) error {
			_, err := n.KeyStatus(ctx, b.access(b.root, "sys/key-status", policy.Read))
			return err
		},
		"rotation": func(ctx context.Context, n *Node) error {
			return n.RotateKeyring(ctx, b.access(b.root, "sys/rotate", policy.Update))
		},
		"hand-over": func(ctx context.Context, n *Node) error {
			_, err := n.HandOver(ctx, "3b2fdd1c-2c59-4f45-9d0f-0a4d5a1d7f43", "test")
			return err
		},
		"transaction that only writes": func(ctx context.Context, n *Node) error {
			return n.use(ctx, func(ctx context.Context, act *active) error {
				return act.Barrier.Update(ctx, func(tx store.Tx) error { return tx.Put("plain/x", nil) })
			})
		},
		"scan": func(ctx context.Context, n *Node) error {
			return n.use(ctx, func(ctx context.Context, act *active) error {
				return act.Barrier.View(ctx, func(r store.Reader) error {
					for _, err := range r.Scan("", "") {
						return err
					}
					return nil
				})
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, x := range []*cluster{a, b, c} {
				if x.node.Sealed() {
					x.unseal()
				}
				if x.lookup(x.root) == nil {
					t.Fatal("an unsealed node doesn't serve")
				}
			}
			act := b.node.active.Load()
			a.sealAll()
			if b.node.Sealed() {
				t.Fatal("the node sealed itself before it was asked")
			}
			if err := ask(t.Context(), b.node); !errors.Is(err, ErrSealed) {
				t.Errorf("after the seal at another node: %v", err)
			}
			await(t, "the node drops its keys", func() bool {
				return errors.Is(act.Barrier.View(t.Context(), func(store.Reader) error { return nil }), store.ErrClosed)
			})
			if st, err := c.node.SealStatus(t.Context()); err != nil || !st.Sealed || st.ClusterID != "" {
				t.Errorf("the status at a third node: %+v, %v", st, err)
			}
			await(t, "the third node drops its keys", c.node.Sealed)
		})
	}
}

// A node that nobody asks anything drops its keys because it looks.
func TestIdleNodeDropsItsKeys(t *testing.T) {
	f := newFleet(t, 1, 3, 2)
	b := f.add("b", func(o *Options) { o.LookInterval = time.Millisecond })
	b.unseal()
	act := b.node.active.Load()
	f.at("a").sealAll()
	await(t, "the idle node seals itself", b.node.Sealed)
	await(t, "and forgets its keys", func() bool {
		return errors.Is(act.Barrier.View(t.Context(), func(store.Reader) error { return nil }), store.ErrClosed)
	})
}

// A view that began before the order may end; the next one doesn't begin.
func TestViewFromBeforeTheOrder(t *testing.T) {
	f := newFleet(t, 2, 3, 2)
	a, b := f.at("a"), f.at("b")
	var once sync.Once
	read := b.access(b.root, "x", policy.Read)
	err := b.node.View(t.Context(), read, func(*Call) error {
		once.Do(a.sealAll)
		return nil
	})
	if err != nil && !errors.Is(err, ErrSealed) {
		t.Errorf("the view that ran: %v", err)
	}
	if err := b.node.View(t.Context(), read, func(*Call) error { return errors.New("ran") }); !errors.Is(err, ErrSealed) {
		t.Errorf("the next view: %v", err)
	}
}

// A node that is sealed alone leaves the others and what is in progress be. Only its holders unseal it, not its peers.
func TestSealAlone(t *testing.T) {
	f := newFleet(t, 2, 3, 2)
	a, b := f.at("a"), f.at("b")
	st := a.start(GenerateRoot, local, StartRequest{})
	from := a.size()
	b.sealAlone()
	if !b.node.Sealed() || a.lookup(a.root) == nil || a.status().Nonce != st.Nonce {
		t.Fatal("the seal of one node is not one of that node alone")
	}
	if list := a.entries(from); len(list) != 1 || list[0].Event != transcript.Sealed || list[0].Detail != "server b alone" {
		t.Errorf("recorded: %+v", list)
	}
	b.asks(a)
	if !b.node.Sealed() || b.node.presence.key != nil {
		t.Error("it asked others for the keys")
	}
	b.unseal()
	if b.lookup(b.root) == nil {
		t.Error("its holders can't unseal it")
	}
	a.sealAll()
	b.node.obey(t.Context())
	a.unseal()
	b.asks(a) // sealed with all others, as other times
	if b.node.Sealed() {
		t.Error("it still keeps apart after its holders unsealed it")
	}
}

// Shares that are given after the order end the seal, for the nodes that they are given to.
func TestUnsealAfterTheOrder(t *testing.T) {
	f := newFleet(t, 3, 3, 2)
	a, b, c := f.at("a"), f.at("b"), f.at("c")
	a.sealAll()
	// b has not noticed: a share that is given to it counts all the same.
	st, err := b.node.Unseal(t.Context(), b.share(0), false, "")
	if err != nil || !st.Sealed || st.Progress != 1 {
		t.Fatalf("a share for a node that has not noticed the seal: %+v, %v", st, err)
	}
	if _, err = b.node.Unseal(t.Context(), b.share(1), false, ""); err != nil || b.node.Sealed() {
		t.Fatalf("the node is sealed: %v", err)
	}
	if b.lookup(b.root) == nil {
		t.Error("a node that was unsealed after the order doesn't serve")
	}
	if err := c.node.View(t.Context(), c.access(c.root, "x", policy.Read), func(*Call) error { return nil }); !errors.Is(err, ErrSealed) {
		t.Errorf("a node under the old order: %v", err)
	}
	if !a.node.Sealed() {
		t.Error("another node's holders have unsealed the node that was sealed")
	}
}

// Shares that were given before a seal don't help to end it.
func TestSharesFromBeforeTheOrder(t *testing.T) {
	f := newFleet(t, 2, 3, 2)
	a, b := f.at("a"), f.at("b")
	b.sealAlone()
	give := func(i, progress int) {
		t.Helper()
		st, err := b.node.Unseal(t.Context(), b.share(i), false, "")
		if err != nil || !st.Sealed || st.Progress != progress {
			t.Fatalf("share %d: %+v, %v", i, st, err)
		}
	}
	give(0, 1)
	a.sealAll()
	give(1, 1) // and not the second
	if _, err := b.node.Unseal(t.Context(), b.share(0), false, ""); err != nil || b.node.Sealed() {
		t.Errorf("two shares given after the order: %v", err)
	}
}

// between is a store that lets something happen before a View, once.
type between struct {
	store.Store
	mu   sync.Mutex
	what func(store.Reader) bool // reports that it has happened
}

func (b *between) View(ctx context.Context, fn func(store.Reader) error) error {
	return b.Store.View(ctx, func(r store.Reader) error {
		b.mu.Lock()
		if b.what != nil && b.what(r) {
			b.what = nil
		}
		b.mu.Unlock()
		return fn(r)
	})
}

// A cluster that is sealed while a last share opens it stays sealed there.
func TestSealWhileTheLastShareOpens(t *testing.T) {
	f := newFleet(t, 1, 3, 2)
	a := f.at("a")
	st := &between{Store: anystore.Again(t, a.st)}
	b := f.add("b", func(o *Options) { o.Store = st })
	if _, err := b.node.Unseal(t.Context(), b.share(0), false, ""); err != nil {
		t.Fatal(err)
	}
	views := 0
	st.what = func(store.Reader) bool { // the first is of the check of the share, the second pins, the third loads
		if views++; views == 3 {
			a.sealAll()
		}
		return views == 3
	}
	_, err := b.node.Unseal(t.Context(), b.share(1), false, "")
	b.refused(err, fault.Unavailable, "give the shares again")
	if views != 3 || !b.node.Sealed() || b.node.guard.pinned.Load() != nil {
		t.Errorf("after %d views: sealed %v", views, b.node.Sealed())
	}
	b.unseal()
	if b.lookup(b.root) == nil {
		t.Error("the same shares again don't unseal it")
	}
}

// Whatever comes first, a seal at one node or the last share at another, the transcript and the nodes say the same.
func TestSealAgainstUnseal(t *testing.T) {
	f := newFleet(t, 3, 1, 1)
	a, b, c := f.at("a"), f.at("b"), f.at("c")
	for range 20 {
		for _, x := range []*cluster{a, b, c} {
			x.node.obey(t.Context())
			if x.node.Sealed() {
				x.unseal()
			}
		}
		b.sealAlone()
		from := a.size()
		var sealed, unsealed error
		var asking sync.WaitGroup
		stop := make(chan struct{})
		asking.Go(func() { // requests go on at a third node
			for {
				select {
				case <-stop:
					return
				default:
					err := c.node.View(context.Background(), c.access(c.root, "x", policy.Read), func(*Call) error { return nil })
					if err != nil && !errors.Is(err, ErrSealed) {
						t.Error(err)
						return
					}
				}
			}
		})
		atOnce(func() { sealed = a.node.Seal(context.Background(), a.access(a.root, "sys/seal", policy.Update), false) },
			func() { _, unsealed = b.node.Unseal(context.Background(), b.share(0), false, "") })
		close(stop)
		asking.Wait()
		if sealed != nil || unsealed != nil && !errors.Is(unsealed, errSealedAgain) {
			t.Fatalf("seal: %v; unseal: %v", sealed, unsealed)
		}
		serves := b.lookup(b.root) != nil
		if err := c.node.View(t.Context(), c.access(c.root, "x", policy.Read), func(*Call) error { return nil }); !errors.Is(err, ErrSealed) {
			t.Fatalf("a third node after the seal: %v", err)
		}
		if !serves {
			b.node.obey(t.Context())
			b.unseal()
		}
		var order []transcript.Event
		for _, e := range b.entries(from) {
			if e.Event == transcript.Sealed || e.Event == transcript.Unsealed {
				order = append(order, e.Event)
			}
		}
		// What serves was unsealed after the seal; what doesn't, before it, or only now.
		if i := slices.Index(order, transcript.Sealed); i < 0 || order[len(order)-1] != transcript.Unsealed || serves && i != 0 || !serves && unsealed == nil && i == 0 {
			t.Fatalf("b serves: %v (%v), and the transcript says %v", serves, unsealed, order)
		}
	}
}

// A seal whose order may not have reached the store doesn't let the node come back with the keys of the others.
func TestSealThatOthersDontHearOf(t *testing.T) {
	faulty := storetest.NewFaulty(inmem.New())
	f := newFleetOver(t, faulty, 2, 3, 2)
	a, b := f.at("a"), f.at("b")
	faulty.FailCommit(1, storetest.Lost)
	a.refused(a.seal(), fault.Unavailable, "other servers of the cluster may not be")
	faulty.Recover()
	if b.lookup(b.root) == nil {
		t.Fatal("the order was written: the test tests nothing")
	}
	a.asks(b)
	if !a.node.Sealed() {
		t.Error("it was unsealed by a node that did not hear of the seal")
	}
	a.unseal()
	if a.lookup(a.root) == nil {
		t.Error("its holders can't unseal it")
	}
}

// crammed is a store that has no room for the transcript any more, once now is set.
type crammed struct {
	store.Store
	now bool
}

type crammedTx struct{ store.Tx }

func (tx crammedTx) Put(key string, value []byte) error {
	if strings.HasPrefix(key, "plain/transcript/") {
		return fault.New(fault.Unavailable, "no room")
	}
	return tx.Tx.Put(key, value)
}

func (f *crammed) Update(ctx context.Context, fn func(store.Tx) error) error {
	if !f.now {
		return f.Store.Update(ctx, fn)
	}
	return f.Store.Update(ctx, func(tx store.Tx) error { return fn(crammedTx{tx}) })
}

// What can't be ended any more, or written down, keeps nobody unsealed.
func TestSealThatCantBeRecorded(t *testing.T) {
	st := &crammed{Store: anystore.New(t)}
	f := newFleetOver(t, st, 2, 3, 2)
	a, b := f.at("a"), f.at("b")
	nonce := a.start(GenerateRoot, local, StartRequest{}).Nonce
	st.now = true
	a.refused(a.seal(), fault.Unavailable, "the server is sealed, but")
	if err := b.node.View(t.Context(), b.access(b.root, "x", policy.Read), func(*Call) error { return nil }); !a.node.Sealed() || !errors.Is(err, ErrSealed) {
		t.Errorf("after the seal at the other node: %v", err)
	}
	st.now = false
	if a.unseal(); a.status().Nonce != nonce {
		t.Error("half of the seal was written down")
	}
}

// counting counts how often the order is read.
type counting struct {
	store.Store
	orders int
}

type countingReader struct {
	store.Reader
	c *counting
}

func (r countingReader) Get(keys ...string) ([][]byte, error) {
	if slices.Contains(keys, seal.OrderKey) {
		r.c.orders++
	}
	return r.Reader.Get(keys...)
}

func (c *counting) View(ctx context.Context, fn func(store.Reader) error) error {
	return c.Store.View(ctx, func(r store.Reader) error { return fn(countingReader{r, c}) })
}

func TestGuard(t *testing.T) {
	ctx := t.Context()
	under := &counting{Store: inmem.New()}
	g := &guard{Store: under}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	read := func(keys ...string) error {
		return g.View(ctx, func(r store.Reader) error {
			values, err := r.Get(keys...)
			if err == nil && len(values) != len(keys) {
				t.Errorf("%d values for %d keys", len(values), len(keys))
			}
			return err
		})
	}
	must(under.Update(ctx, barrier.BumpStamp))
	must(g.pinNow(ctx))
	under.orders = 0
	for range 3 {
		must(read("x"))
		must(read("x", "y", barrier.StampKey))
		must(read(barrier.StampKey))
		must(read())
	}
	if under.orders != 1 {
		t.Errorf("the order was read %d times under one stamp", under.orders)
	}
	must(under.Update(ctx, barrier.BumpStamp))
	must(read("x"))
	if under.orders != 2 {
		t.Errorf("the order was read %d times under two stamps", under.orders)
	}
	// A transaction sees the stamp that it has written itself, and may seal the cluster itself.
	must(g.Update(ctx, func(tx store.Tx) error {
		must(tx.Delete(barrier.StampKey))
		if values, err := tx.Get(barrier.StampKey); err != nil || values[0] != nil {
			t.Errorf("a deleted stamp: %q, %v", values, err)
		}
		must(tx.Put(barrier.StampKey, []byte{}))
		if values, err := tx.Get(barrier.StampKey); err != nil || values[0] == nil || len(values[0]) > 0 {
			t.Errorf("an empty stamp: %q, %v", values, err)
		}
		must(order(tx))
		values, err := tx.Get(barrier.StampKey)
		if err != nil || len(values[0]) != 16 {
			t.Errorf("its own stamp: %q, %v", values, err)
		}
		return err
	}))
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, errOrdered) {
			t.Errorf("%s under an order that isn't in force: %v", what, err)
		}
	}
	ran := func(store.Tx) error { return nil }
	refused("a read", read("x"))
	refused("a look at the stamp", read(barrier.StampKey))
	refused("a scan", g.View(ctx, func(r store.Reader) error {
		for _, err := range r.Scan("", "") {
			return err
		}
		return nil
	}))
	for what, write := range map[string]func(store.Tx) error{
		"a write": func(tx store.Tx) error { return tx.Put("x", nil) }, "a deletion": func(tx store.Tx) error { return tx.Delete("x") },
		"a stamp": barrier.BumpStamp, "no stamp": func(tx store.Tx) error { return tx.Delete(barrier.StampKey) }, "an order": order, "nothing": ran,
	} {
		refused(what, g.Update(ctx, write))
		refused(what+", with the error swallowed", g.Update(ctx, func(tx store.Tx) error { _ = write(tx); return nil }))
	}
	must(g.pinNow(ctx))
	must(g.Update(ctx, order)) // blindly
	g.unpin()
	must(read("x"))
	must(g.Update(ctx, func(tx store.Tx) error { return tx.Put("x", nil) }))
	if g.order() != "" {
		t.Error("an order where none was pinned")
	}
}
