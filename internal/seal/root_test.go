package seal

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/storetest"
)

// rootKey is the root key that the shares of h open in rec.
func (h hand) rootKey(t testing.TB, g *Generation) (secret.Bytes, bool) {
	t.Helper()
	given := map[int]secret.Bytes{}
	for slot := 1; slot <= h.threshold; slot++ {
		given[slot] = h.share(slot)
	}
	root, _, ok := unwrapAny([]*Generation{g}, given)
	return root, ok
}

func TestWrappedRootKey(t *testing.T) {
	c, other := initCluster(t, newStore(), 3, 2), initCluster(t, newStore(), 3, 2)
	gen := c.record(t).Generation()
	root, ok := c.first(2).rootKey(t, gen)
	if !ok {
		t.Fatal("the shares don't open")
	}
	fails := func(name string, h hand, g Generation) {
		t.Helper()
		if root, ok := h.rootKey(t, &g); ok {
			t.Errorf("%s: opens %d bytes", name, root.Len())
		}
	}
	fails("another cluster's shares", other.first(2), *gen)
	fails("too few shares", hand{1, 1, [][]byte{c.shares[0][:32]}}, *gen)
	fails("nothing wrapped", c.first(2), Generation{})
	for i := range gen.wrapped {
		bad := *gen
		bad.wrapped = bytes.Clone(gen.wrapped)
		bad.wrapped[i] ^= 1 << (i % 8)
		if i%16 == 0 || i > len(gen.wrapped)-50 {
			fails(fmt.Sprint("byte ", i), c.first(2), bad)
		}
	}
	again := *gen
	if err := again.wrap(root); err != nil || bytes.Equal(again.wrapped, gen.wrapped) {
		t.Errorf("wrapped again: %v", err)
	}
	if back, ok := c.first(2).rootKey(t, &again); !ok || !back.Equal(root) {
		t.Error("what is wrapped to the public key does not come back")
	}
	for name, public := range map[string][]byte{"none": nil, "short": gen.public[1:], "long": append(bytes.Clone(gen.public), 0)} {
		if err := (&Generation{public: public}).wrap(root); err == nil {
			t.Errorf("a public key that is %s is wrapped to", name)
		}
	}
	short := *gen
	short.wrap(secret.Own(junk(31)))
	fails("a root key of 31 bytes", c.first(2), short)
}

// Somebody who writes to the store puts a public key of theirs in place of the holders': nothing is wrapped to it.
func TestSwappedPublicKey(t *testing.T) {
	c, eve := initCluster(t, newStore(), 3, 2), initCluster(t, newStore(), 3, 2)
	o := c.mustOpen(t, c.unsealer(), 1, 2)
	forged := edit(t, raw(t, c, recordKey), true, func(b *body, _ *table) { b.Generations[0].Public = eve.record(t).Generation().public })
	putRaw(t, c, recordKey, forged)
	if err := rotateRoot(o); err != ErrTampered {
		t.Errorf("a rotation: %v", err)
	}
	g, _ := makeNext(t, c.record(t), 3, 2)
	if _, err := do(o, prepare(g)); err != ErrTampered {
		t.Errorf("a rekey: %v", err)
	}
	if !bytes.Equal(raw(t, c, recordKey), forged) {
		t.Error("the record was written")
	}
	if opened, err := c.opens(t, c.first(2), true); opened != nil || err != ErrTampered {
		t.Errorf("an unseal: %v, %v", opened, err)
	}
}

// After a rotation every live quorum unseals, the root key of before opens nothing, and other servers find out.
func TestRotateRoot(t *testing.T) {
	for _, wrap := range []func(store.Store) store.Store{func(s store.Store) store.Store { return s }, storetest.Rerun} {
		c := initCluster(t, wrap(newStore()), 3, 2)
		one := c.first(2)
		o, elsewhere := c.mustOpenBy(t, one), c.mustOpenBy(t, one)
		g, two := makeNext(t, c.record(t), 3, 3)
		must(t, o, prepare(g))
		must(t, o, commit(true))
		g, three := makeNext(t, c.record(t), 2, 2)
		must(t, o, prepare(g))
		old, ok := one.rootKey(t, c.record(t).Retiring())
		if !ok {
			t.Fatal("the root key can't be had")
		}
		old = secret.Copy(old.Reveal())
		before := raw(t, c, recordKey)
		putRaw(t, o.Barrier, "domain/second", []byte("under the first term"))
		if err := rotateRoot(o); err != nil {
			t.Fatal(err)
		}
		putRaw(t, o.Barrier, "domain/third", []byte("under the second term"))
		if _, err := barrier.Open(ctx, c, old); err != barrier.ErrWrongKey {
			t.Errorf("the old root key: %v", err)
		}
		for _, h := range []hand{one, two} {
			opened := c.mustOpenBy(t, h)
			if string(raw(t, opened.Barrier, "domain/second")) != "under the first term" || string(raw(t, opened.Barrier, "domain/third")) != "under the second term" {
				t.Error("records are not readable after the rotation")
			}
		}
		if opened, err := c.opens(t, three, false); opened != nil || err == nil {
			t.Errorf("the pending generation: %v, %v", opened, err)
		}
		err := elsewhere.Barrier.View(ctx, func(r store.Reader) error {
			_, err := elsewhere.Record(r)
			return err
		})
		if !errors.Is(err, barrier.ErrRotated) {
			t.Errorf("another server that reads the record: %v", err)
		}
		if _, err := do(elsewhere, retire); !errors.Is(err, barrier.ErrRotated) {
			t.Errorf("another server that changes the record: %v", err)
		}
		must(t, o, commit(false))
		c.mustOpenBy(t, three)
		putRaw(t, c, recordKey, before)
		if opened, err := c.opens(t, two, true); opened != nil || err != ErrTampered {
			t.Errorf("the record of before the rotation, put back: %v, %v", opened, err)
		}
	}
}

// Readers and writers during rotations, some in snapshots of before them, never see a record that looks changed
// outside.
func TestConcurrentRotation(t *testing.T) {
	c := initCluster(t, newStore(), 3, 2)
	o := c.mustOpen(t, c.unsealer(), 1, 2)
	started, release := make(chan bool), make(chan bool)
	var wg sync.WaitGroup
	read := func(r store.Reader) {
		if _, err := o.Record(r); err != nil {
			t.Errorf("the record: %v", err)
		}
		if values, err := r.Get("domain/first"); err != nil || string(values[0]) != "a record of the domain" {
			t.Errorf("a record of the domain: %q, %v", values, err)
		}
	}
	wg.Go(func() { // across all of the rotations
		err := o.Barrier.View(ctx, func(r store.Reader) error {
			read(r)
			started <- true
			<-release
			read(r)
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-started
	done := make(chan bool)
	for i := range 3 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				view := func(r store.Reader) error { read(r); return nil }
				update := func(tx store.Tx) error {
					read(tx)
					return tx.Put(fmt.Sprint("domain/", i), []byte("x"))
				}
				if err := errors.Join(o.Barrier.View(ctx, view), o.Barrier.Update(ctx, update)); err != nil {
					t.Error(err)
				}
				if n%8 != 0 {
					continue
				}
				// The next rotation may lock out what was opened here, but not the opening itself.
				if opened, err := c.open(t, c.unsealer(), false, 1, 2); opened == nil || err != nil {
					t.Errorf("an unseal: %v", err)
				}
			}
		})
	}
	for range 10 {
		if err := rotateRoot(o); err != nil {
			t.Error(err)
		}
		if err := o.Barrier.Rotate(ctx, born); err != nil {
			t.Error(err)
		}
	}
	close(release)
	close(done)
	wg.Wait()
}

// A server unseals while another one changes what it unseals with, at any moment between its reads.
func TestChangesDuringUnseal(t *testing.T) {
	for name, change := range map[string]func(o *Opened, made *NewGeneration) error{
		"rotation": func(o *Opened, _ *NewGeneration) error { return rotateRoot(o) },
		"relabel":  func(o *Opened, _ *NewGeneration) error { _, err := do(o, relabel("a", "b", "c")); return err },
		"prepare":  func(o *Opened, g *NewGeneration) error { _, err := do(o, prepare(g)); return err },
	} {
		for at := 1; at <= 6; at++ {
			c := initCluster(t, newStore(), 3, 2)
			o := c.mustOpen(t, c.unsealer(), 1, 2)
			g, _ := makeNext(t, c.record(t), 3, 2)
			between := &interloper{Store: c.Store, at: at, do: func() {
				if err := change(o, g); err != nil {
					t.Error(err)
				}
			}}
			opened, err := c.open(t, NewUnsealer(between, c.unsealer().now), false, 1, 2)
			if opened == nil || err != nil {
				t.Errorf("%s before call %d: %v", name, at, err)
			}
		}
	}
}

// A quorum that is retired between its last share and the opening does not open.
func TestRetiredDuringUnseal(t *testing.T) {
	for at := 2; at <= 4; at++ {
		c := initCluster(t, newStore(), 3, 2)
		one := c.first(2)
		o := c.mustOpenBy(t, one)
		g, _ := makeNext(t, c.record(t), 3, 2)
		must(t, o, prepare(g))
		must(t, o, commit(true))
		between := &interloper{Store: c.Store, at: at, do: func() { must(t, o, retire) }}
		opened, _ := c.open(t, NewUnsealer(between, c.unsealer().now), false, 1, 2)
		if opened != nil || between.calls < at {
			t.Errorf("before call %d of %d: the retired quorum opens", at, between.calls)
		}
	}
}
