package token

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/store/storetest"
)

// watched is a Store that measures its Updates, and can let something happen before each.
type watched struct {
	store.Store
	before             func(n int) // gets the number of the Update, from 0
	updates, maxWrites int
}

func (w *watched) Update(ctx context.Context, fn func(store.Tx) error) error {
	if w.before != nil {
		w.before(w.updates)
	}
	w.updates++
	return w.Store.Update(ctx, func(tx store.Tx) error {
		counted := &writes{Tx: tx}
		err := fn(counted)
		w.maxWrites = max(w.maxWrites, counted.n)
		return err
	})
}

// tally is how many entries the scans of a countedStore yielded.
type tally struct{ entries int }

// countedStore counts in Views and Updates what is scanned.
type countedStore struct {
	store.Store
	*tally
}

func (c *countedStore) View(ctx context.Context, fn func(store.Reader) error) error {
	return c.Store.View(ctx, func(r store.Reader) error { return fn(countedReader{r, c.tally}) })
}

func (c *countedStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	return c.Store.Update(ctx, func(tx store.Tx) error { return fn(countedTx{tx, c.tally}) })
}

type countedReader struct {
	store.Reader
	*tally
}

func (c countedReader) Scan(prefix, after string) iter.Seq2[store.Entry, error] {
	return c.scan(c.Reader, prefix, after)
}

type countedTx struct {
	store.Tx
	*tally
}

func (c countedTx) Scan(prefix, after string) iter.Seq2[store.Entry, error] {
	return c.scan(c.Tx, prefix, after)
}

func (c *tally) scan(r store.Reader, prefix, after string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for entry, err := range r.Scan(prefix, after) {
			c.entries++
			if !yield(entry, err) {
				return
			}
		}
	}
}

// forest fills a rig with everything that a sweep meets, times over, and returns what must be alive after the clock has
// passed an hour, and what must be dead.
func forest(r *rig, times int) (alive, dead []made) {
	day := Spec{Policies: []string{"default"}, TTL: 24 * time.Hour}
	hour := Spec{Policies: []string{"default"}, TTL: time.Hour}
	keep := func(list *[]made, m made) made {
		r.belong(m.Entry, 1+len(*list)%2*belongingsNow) // some more than goes with a token at once
		*list = append(*list, m)
		return m
	}
	grow := func(list *[]made, from made, n int) {
		for range n {
			from = keep(list, r.must(from.Entry, Spec{TTL: 23 * time.Hour}))
		}
	}
	for range times {
		grow(&alive, keep(&alive, r.must(r.root, day)), 2)
		keep(&dead, r.must(r.root, hour))                 // expires, a leaf
		grow(&dead, keep(&dead, r.must(r.root, hour)), 3) // expires, with a living tree below

		top := keep(&dead, r.must(r.root, day)) // revoked with its tree
		grow(&dead, top, 3)
		keep(&dead, r.must(dead[len(dead)-2].Entry, day))
		grow(&dead, top, 2)
		r.revoke(top.Entry)

		cut := keep(&dead, r.must(r.root, hour)) // leaves orphans
		grow(&alive, cut, 3)
		grow(&alive, cut, 1)
		r.revokeOrphan(cut.Entry)

		outer := keep(&dead, r.must(r.root, day)) // a cut below a cut, and a dead tree below that
		inner := keep(&dead, r.must(outer.Entry, day))
		grow(&alive, inner, 2)
		last := keep(&dead, r.must(alive[len(alive)-1].Entry, day))
		grow(&dead, last, 2)
		r.revokeOrphan(outer.Entry)
		r.revokeOrphan(inner.Entry)
		r.revoke(last.Entry)
	}
	return alive, dead
}

func (r *rig) wantLives(what string, alive, dead []made) {
	r.t.Helper()
	for i, m := range alive {
		r.wantLife(m, true, fmt.Sprintf("%s: living %d", what, i))
	}
	for i, m := range dead {
		r.wantLife(m, false, fmt.Sprintf("%s: dead %d", what, i))
	}
}

func TestSweep(t *testing.T) {
	r := newRig(t)
	alive, dead := forest(r, 3)
	records := len(r.keys(idPrefix))
	r.clock = epoch.Add(time.Hour)
	r.wantLives("before", alive, dead)
	if n := r.sweep(); n != records-1-len(alive) {
		t.Errorf("swept %d of %d, %d live", n, records, len(alive))
	}
	r.wantLives("after", alive, dead)
	r.checkSwept()

	before := r.dump()
	if n := r.sweep(); n != 0 || !reflect.DeepEqual(before, r.dump()) {
		t.Errorf("a second sweep swept %d, or changed the store", n)
	}
	r.clock = epoch.Add(48 * time.Hour)
	if n := r.sweep(); n != len(alive) {
		t.Errorf("swept %d of %d at the end", n, len(alive))
	}
	r.checkSwept()
	if got := len(r.dump()); got != 5 {
		t.Errorf("%d entries are left, want salt, stamp, and the root token's three", got)
	}
}

// TestSweepInterrupted: at each of its commits, lost or kept, a sweep may end; nothing dead is alive then, nothing alive
// dead, and the next sweep finishes.
func TestSweepInterrupted(t *testing.T) {
	for _, mode := range []storetest.Mode{storetest.Lost, storetest.Kept} {
		for n, done := 1, false; !done; n++ {
			faulty := storetest.NewFaulty(inmem.New())
			r := newRigOn(t, faulty)
			alive, dead := forest(r, 1)
			r.clock = epoch.Add(time.Hour)
			faulty.FailCommit(n, mode)
			records := len(r.keys(idPrefix))
			swept, err := r.Sweep(context.Background(), faulty, r.clock)
			done = err == nil
			if !done && !faulty.Crashed() {
				t.Fatalf("commit %d: %v", n, err)
			}
			faulty.Recover()
			removed := records - len(r.keys(idPrefix))
			if swept > removed || mode == storetest.Lost && swept < removed {
				t.Errorf("%v commit %d: %d removed, %d reported", mode, n, removed, swept)
			}
			r.Tokens = r.another()
			what := fmt.Sprintf("%v commit %d", mode, n)
			r.wantLives(what, alive, dead)
			if done {
				if n < 8 {
					t.Errorf("the sweep had only %d commits to fail", n-1)
				}
				break
			}
			r.sweep()
			r.wantLives(what+", swept again", alive, dead)
			r.checkSwept()
		}
	}
}

// TestSweepInSmallSteps: no Update grows with the amount of what there is to sweep, nor with its depth.
func TestSweepInSmallSteps(t *testing.T) {
	w := &watched{Store: inmem.New()}
	r := newRigOn(t, w)
	var dead []made
	r.update(func(tx store.Tx) error {
		add := func(parent *Entry, ttl time.Duration) *Entry {
			id, e, _, err := r.Create(tx, parent, Spec{Sudo: true, Path: "auth/token/create", Policies: []string{"root"}, TTL: ttl})
			if err != nil {
				t.Fatal(err)
			}
			dead = append(dead, made{Entry: e, id: id.Reveal()})
			return e
		}
		for range batch + 100 { // more than a page of expired leaves
			add(r.root, time.Minute)
		}
		wide, cut := add(r.root, time.Hour), add(r.root, time.Hour)
		for i := range batch + 20 {
			e := add(wide, time.Hour)
			if i%50 == 0 {
				for range maxAncestors - 2 {
					e = add(e, time.Hour)
				}
			}
			add(cut, time.Minute)
		}
		return nil
	})
	for _, m := range dead[:4] {
		r.wantLife(m, true, "before")
	}
	r.revoke(dead[batch+100].Entry)
	r.revokeOrphan(dead[batch+101].Entry)
	w.updates, w.maxWrites = 0, 0
	// First while the orphans live, so that there is something to cut, then when they have expired.
	n := r.sweep()
	r.checkSwept()
	r.clock = epoch.Add(time.Minute)
	n += r.sweep()
	r.checkSwept()
	if want := len(dead) - 2; n != want {
		t.Errorf("swept %d of %d", n, want)
	}
	if limit := 7*batch + 1; w.maxWrites > limit {
		t.Errorf("an Update made %d writes, want at most %d", w.maxWrites, limit)
	}
	if w.updates < len(dead)/batch {
		t.Errorf("%d tokens in %d Updates", len(dead), w.updates)
	}
}

// TestSweepLooksAgain: what changed between finding and removing counts.
func TestSweepLooksAgain(t *testing.T) {
	w := &watched{Store: inmem.New()}
	r := newRigOn(t, w)
	renewed := r.must(r.root, Spec{Policies: []string{"default"}, TTL: time.Minute})
	reused := r.must(r.root, Spec{ID: []byte("an-id-that-is-used-again"), TTL: time.Minute})
	revoked := r.must(r.root, Spec{TTL: time.Minute})
	barely := r.must(r.root, Spec{Policies: []string{"default"}, TTL: time.Minute})
	w.updates = 0
	w.before = func(n int) {
		if n != 0 {
			return
		}
		// Between the View and the first Update another node, whose clock is behind, renews, reuses and revokes.
		slow := New(Config{Now: func() time.Time { return epoch }})
		err := w.Store.Update(context.Background(), func(tx store.Tx) error {
			if _, err := slow.Renew(tx, renewed.Entry, Renewal{Increment: time.Hour}); err != nil {
				return err
			}
			if _, err := slow.Renew(tx, barely.Entry, Renewal{Increment: time.Minute + 1}); err != nil {
				return err
			}
			if _, err := slow.CreateRoot(tx, reused.Key, RootOptions{}); err != nil {
				return err
			}
			return slow.RevokeTree(tx, revoked.Entry)
		})
		if err != nil {
			t.Error(err)
		}
	}
	r.clock = epoch.Add(time.Minute)
	if n := r.sweep(); n != 0 {
		t.Errorf("swept %d", n)
	}
	r.wantLife(renewed, true, "renewed meanwhile")
	r.wantLife(barely, true, "renewed meanwhile by less than a second")
	r.wantLife(reused, true, "used again meanwhile")
	r.wantLife(revoked, false, "revoked meanwhile")
	r.checkSwept()
}

func TestSweepFails(t *testing.T) {
	r := newRig(t)
	forest(r, 1)
	r.clock = epoch.Add(time.Hour)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	before := r.dump()
	if n, err := r.Sweep(ctx, r.store, r.clock); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %d, %v", n, err)
	}
	if !reflect.DeepEqual(before, r.dump()) {
		t.Error("a cancelled sweep changed the store")
	}
	r.put(idPrefix+strings.Repeat("0", 64), "{damaged")
	r.put("token/expiry/00000000000000000001/rid", strings.Repeat("0", 64))
	if _, err := r.Sweep(context.Background(), r.store, r.clock); err == nil {
		t.Error("a damaged record was not reported")
	}
}

// TestSweepBesideCreates: tokens are made, renewed, used and revoked on two nodes while two sweeps run all the time.
func TestSweepBesideCreates(t *testing.T) {
	r := newRig(t)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	nodes := []*Tokens{r.Tokens, r.another()}
	var sweeping, working sync.WaitGroup
	for _, node := range nodes {
		sweeping.Go(func() {
			for ctx.Err() == nil {
				if _, err := node.Sweep(ctx, r.store, epoch); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	var mu sync.Mutex
	var alive, dead []made
	for i := range 4 {
		working.Go(func() {
			node := nodes[i%2]
			for round := range 15 {
				keep, kill, err := plant(r, node, round%2 == 0)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				alive, dead = append(alive, keep...), append(dead, kill...)
				mu.Unlock()
			}
		})
	}
	working.Wait()
	stop()
	sweeping.Wait()
	r.wantLives("beside sweeps", alive, dead)
	r.sweep()
	r.wantLives("after a last sweep", alive, dead)
	r.checkSwept()
}

// plant makes parent, child and grandchild, kills the parent with or without them, and tries to make another one below
// what died.
func plant(r *rig, node *Tokens, orphan bool) (alive, dead []made, err error) {
	update := func(fn func(store.Tx) error) {
		if err == nil {
			err = r.store.Update(context.Background(), fn)
		}
	}
	create := func(parent *Entry, ttl time.Duration) (m made) {
		update(func(tx store.Tx) error {
			spec := Spec{Sudo: true, Path: "auth/token/create", Policies: []string{"root"}, TTL: ttl}
			id, e, _, err := node.Create(tx, parent, spec)
			m = made{Entry: e, id: id.Reveal()}
			return err
		})
		return m
	}
	parent := create(r.root, time.Hour)
	child := create(parent.Entry, time.Hour)
	grandchild := create(child.Entry, time.Hour)
	update(func(tx store.Tx) error {
		if orphan {
			return node.RevokeOrphan(tx, parent.Entry)
		}
		return node.RevokeTree(tx, parent.Entry)
	})
	if err != nil {
		return nil, nil, err
	}
	below := create(child.Entry, time.Hour)
	if orphan {
		return []made{child, grandchild, below}, []made{parent}, err
	}
	if !errors.Is(err, ErrDead) {
		return nil, nil, fmt.Errorf("a token was made below a dead one: %w", err)
	}
	return nil, []made{parent, child, grandchild}, nil
}
