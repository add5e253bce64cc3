package token

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/store"
)

// writes is a Tx that counts its writes.
type writes struct {
	store.Tx
	n int
}

func (w *writes) Put(key string, value []byte) error { w.n++; return w.Tx.Put(key, value) }
func (w *writes) Delete(key string) error            { w.n++; return w.Tx.Delete(key) }

// TestRevokeTree: one small write, whatever the size of the tree; nothing outside of it dies.
func TestRevokeTree(t *testing.T) {
	r := newRig(t)
	top := r.must(r.root, Spec{})
	brother, orphan := r.must(r.root, Spec{}), r.must(top.Entry, Spec{NoParent: true})
	tree := []made{top}
	for i := range 300 {
		tree = append(tree, r.must(tree[i/3].Entry, Spec{}))
	}
	r.update(func(tx store.Tx) error {
		w := &writes{Tx: tx}
		err := r.RevokeTree(w, top.Entry)
		if w.n > 6 {
			t.Errorf("revoking a tree of %d took %d writes", len(tree), w.n)
		}
		return err
	})
	for i, m := range tree {
		if r.lives(m) {
			t.Fatalf("member %d lives", i)
		}
	}
	for _, m := range []made{brother, orphan} {
		r.wantLife(m, true, "outside the tree")
	}
	before := r.dump()
	r.revoke(top.Entry)
	r.revoke(tree[5].Entry)
	if !reflect.DeepEqual(before, r.dump()) {
		t.Error("revoking the dead wrote something")
	}
	if n := r.sweep(); n != 300 {
		t.Errorf("swept %d", n)
	}
	r.checkSwept()
}

// TestRevokeLeaf: without children there is nothing to remember, so no node's memory is disturbed.
func TestRevokeLeaf(t *testing.T) {
	r := newRig(t)
	stamp := r.dump()["plain/stamp"]
	m := r.must(r.root, Spec{})
	r.revoke(m.Entry)
	r.wantLife(m, false, "revoked")
	if r.dump()["plain/stamp"] != stamp {
		t.Error("a leaf changed the stamp")
	}
	r.checkSwept()
}

// TestRevokeOrphan: children and everything below them live on without what was above.
func TestRevokeOrphan(t *testing.T) {
	r := newRig(t)
	grand := r.must(r.root, Spec{Policies: []string{"default"}, TTL: time.Hour})
	middle := r.must(grand.Entry, Spec{TTL: time.Minute})
	child := r.must(middle.Entry, Spec{TTL: 10 * time.Hour})
	deep := r.must(child.Entry, Spec{TTL: 10 * time.Hour})
	r.revokeOrphan(middle.Entry)
	r.wantLife(middle, false, "the revoked")
	if e := r.auth(r.Tokens, child.id); e == nil || !e.Orphan || len(e.Lineage()) != 1 {
		t.Fatalf("child is %+v", e)
	}
	if e := r.auth(r.Tokens, deep.id); e == nil || e.Orphan || len(e.Lineage()) != 2 {
		t.Fatalf("grandchild is %+v", e)
	}
	// What is made or renewed from now on knows nothing of the old ancestors.
	late := r.must(deep.Entry, Spec{TTL: 10 * time.Hour})
	if line := late.Lineage(); len(line) != 3 {
		t.Errorf("lineage %v", line)
	}
	if _, err := r.renew(child.Entry, 0); err != nil {
		t.Fatal(err)
	}
	r.revoke(grand.Entry)
	r.clock = epoch.Add(2 * time.Hour)
	check := func(when string) {
		for _, m := range []made{child, deep, late} {
			r.wantLife(m, true, when)
		}
		r.wantLife(middle, false, when)
	}
	check("unswept")
	r.sweep()
	check("swept")
	r.checkSwept()
	r.revoke(child.Entry)
	for _, m := range []made{child, deep, late} {
		r.wantLife(m, false, "after the end of the new head")
	}
	r.sweep()
	r.checkSwept()
}

// TestRevokeOrphanTwiceDeep: two cuts in one line, then the parts die alone.
func TestRevokeOrphanTwiceDeep(t *testing.T) {
	for _, sweepBetween := range []bool{false, true} {
		r := newRig(t)
		line := []made{r.must(r.root, Spec{})}
		for range 5 {
			line = append(line, r.must(line[len(line)-1].Entry, Spec{}))
		}
		for _, i := range []int{3, 1} {
			r.revokeOrphan(line[i].Entry)
			if sweepBetween {
				r.sweep()
			}
		}
		r.revoke(line[0].Entry)
		for i, want := range []bool{false, false, true, false, true, true} {
			r.wantLife(line[i], want, "member of the line")
		}
		r.revoke(line[2].Entry)
		r.wantLife(line[4], true, "below the second cut")
		r.sweep()
		r.checkSwept()
		r.wantLife(line[5], true, "below the second cut, swept")
	}
}

// T36: seed 1. A root token with the ID of an existing token with children: the old tree dies in the same transaction,
// and nothing of it is ever below the new one.
func TestSameID(t *testing.T) {
	for _, explicit := range []bool{true, false} {
		r := newRig(t)
		id := []byte("shown-at-the-start-of-the-attempt")
		old := r.must(r.root, Spec{ID: id, Policies: []string{"default"}, TTL: time.Hour})
		child := r.must(old.Entry, Spec{})
		grandchild := r.must(child.Entry, Spec{})
		var fresh *Entry
		complete := func(end error) error {
			return r.try(func(tx store.Tx) error {
				if explicit {
					e, err := r.ByKey(tx, old.Key)
					if err != nil {
						return err
					}
					if err := r.RevokeTree(tx, e); err != nil {
						return err
					}
				}
				var err error
				if fresh, err = r.CreateRoot(tx, old.Key, RootOptions{}); err != nil {
					return err
				}
				for _, m := range []made{child, grandchild} {
					if _, err := r.Authenticate(tx, m.id); err != ErrDead {
						t.Errorf("in the same transaction a child of the old token: %v", err)
					}
				}
				return end
			})
		}
		failed := errors.New("failed")
		if err := complete(failed); err != failed {
			t.Fatal(err)
		}
		for _, m := range []made{old, child, grandchild} {
			r.wantLife(m, true, "after a completion that failed")
		}
		if err := complete(nil); err != nil {
			t.Fatal(err)
		}
		e := r.auth(r.Tokens, id)
		if e == nil || e.RecordID != fresh.RecordID || e.RecordID == old.RecordID || e.Accessor == old.Accessor || !e.NeverExpires {
			t.Fatalf("the new token is %+v", e)
		}
		heir := r.must(e, Spec{})
		for range 2 {
			r.wantLife(child, false, "child of the old token")
			r.wantLife(grandchild, false, "grandchild of the old token")
			r.wantLife(heir, true, "child of the new token")
			r.view(func(rd store.Reader) error {
				if e, err := r.ByAccessor(rd, old.Accessor); e != nil || err != nil {
					t.Errorf("the old accessor leads to %+v, %v", e, err)
				}
				return nil
			})
			r.sweep()
		}
		r.checkSwept()
		r.revoke(e)
		r.wantLife(heir, false, "child of the revoked new token")
	}
}

// TestSameIDAgainAndAgain: generation after generation in one transaction each, and once twice in the same one.
func TestSameIDAgainAndAgain(t *testing.T) {
	r := newRig(t)
	id := []byte("the-same-id-every-time")
	var key string
	r.view(func(rd store.Reader) (err error) {
		key, err = r.Key(rd, id)
		return err
	})
	var children []made
	for range 5 {
		var e *Entry
		r.update(func(tx store.Tx) (err error) {
			if _, err = r.CreateRoot(tx, key, RootOptions{}); err != nil {
				return err
			}
			e, err = r.CreateRoot(tx, key, RootOptions{})
			return err
		})
		for _, m := range children {
			r.wantLife(m, false, "child of an earlier one")
		}
		m := r.must(e, Spec{TTL: time.Hour})
		children = append(children, m, r.must(m.Entry, Spec{TTL: time.Hour}))
	}
	if n := r.sweep(); n != 8 {
		t.Errorf("swept %d, want the 8 of the first four", n)
	}
	r.checkSwept()
	if got := len(r.keys(idPrefix)); got != 4 {
		t.Errorf("%d records are left", got)
	}
}

// TestUses: wire reference trap 46. The last use still works, for everything but making another token.
func TestUses(t *testing.T) {
	r := newRig(t)
	m := r.must(r.root, Spec{NumUses: 3, TTL: time.Hour})
	use := func() (e *Entry, err error) {
		err = r.try(func(tx store.Tx) error {
			if e, err = r.Authenticate(tx, m.id); err != nil {
				return err
			}
			if err := r.Use(tx, e); err != nil {
				return err
			}
			return r.Finish(tx, e)
		})
		return e, err
	}
	for left := 2; left >= 0; left-- {
		e, err := use()
		if err != nil || e.NumUses != left || !e.Limited {
			t.Fatalf("%d left: %+v, %v", left, e, err)
		}
		if _, err := r.create(e, Spec{}); !errors.Is(err, errParentLimited) {
			t.Errorf("%d left: creating another: %v", left, err)
		}
		if left == 0 {
			if _, err := r.renew(e, 2*time.Hour); err != nil || e.TTL != 2*time.Hour {
				t.Errorf("renewing with the last use: ttl %v, %v", e.TTL, err)
			}
			r.revoke(e)
		}
	}
	if _, err := use(); err != ErrDead {
		t.Errorf("a use too many: %v", err)
	}
	if err := r.try(func(tx store.Tx) error { return r.Use(tx, m.Entry) }); err != ErrDead {
		t.Errorf("a use too many, with an old entry: %v", err)
	}
	r.checkSwept()

	unlimited := r.must(r.root, Spec{})
	before := r.dump()
	for range 3 {
		r.update(func(tx store.Tx) error { return r.Use(tx, unlimited.Entry) })
	}
	if !reflect.DeepEqual(before, r.dump()) {
		t.Error("using a token without a limit wrote something")
	}
}

// TestUsesRace: of many uses at once exactly as many succeed as there are.
func TestUsesRace(t *testing.T) {
	const uses, tries = 7, 40
	r := newRig(t)
	m := r.must(r.root, Spec{NumUses: uses})
	nodes := []*Tokens{r.Tokens, r.another()}
	var won, lost atomic.Int32
	var wg sync.WaitGroup
	for i := range tries {
		wg.Go(func() {
			node := nodes[i%2]
			err := r.store.Update(context.Background(), func(tx store.Tx) error {
				e, err := node.Authenticate(tx, m.id)
				if err != nil {
					return err
				}
				if err := node.Use(tx, e); err != nil {
					return err
				}
				return node.Finish(tx, e)
			})
			switch {
			case err == nil:
				won.Add(1)
			case errors.Is(err, ErrDead):
				lost.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != uses || lost.Load() != tries-uses {
		t.Errorf("%d uses succeeded, %d failed", won.Load(), lost.Load())
	}
	r.checkSwept()
}

// TestStaleEntry: an entry of an earlier token of the same ID has no power over the later one.
func TestStaleEntry(t *testing.T) {
	r := newRig(t)
	old := r.must(r.root, Spec{ID: []byte("two-lives-of-one-name"), TTL: time.Hour, NumUses: 2})
	r.update(func(tx store.Tx) error {
		_, err := r.CreateRoot(tx, old.Key, RootOptions{})
		return err
	})
	r.revoke(old.Entry)
	r.revokeOrphan(old.Entry)
	if err := r.try(func(tx store.Tx) error { return r.Use(tx, old.Entry) }); err != ErrDead {
		t.Errorf("use: %v", err)
	}
	if _, err := r.renew(old.Entry, 0); err != ErrDead {
		t.Errorf("renew: %v", err)
	}
	e := r.auth(r.Tokens, old.id)
	if e == nil || e.Policies[0] != "root" || strings.Contains(e.Path, "create") {
		t.Errorf("the later token is %+v", e)
	}
}
