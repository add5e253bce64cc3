package token

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
)

// counting is a Reader that counts its calls.
type counting struct {
	store.Reader
	gets, scans int
	last        []string
}

func (c *counting) Get(keys ...string) ([][]byte, error) {
	c.gets++
	c.last = keys
	return c.Reader.Get(keys...)
}

func (c *counting) Scan(prefix, after string) iter.Seq2[store.Entry, error] {
	c.scans++
	return c.Reader.Scan(prefix, after)
}

// TestOneGet: once warm, a token whose ancestors can't expire costs one Get of stamp and record, and nothing else.
func TestOneGet(t *testing.T) {
	r := newRigOn(t, inmem.New())
	child := r.must(r.root, Spec{TTL: time.Hour})
	grandchild := r.must(child.Entry, Spec{TTL: time.Hour})
	for _, test := range []struct {
		name string
		id   []byte
		key  string
		gets int
	}{
		{"Root", []byte("the-first-root-token"), r.root.Key, 1},
		{"ChildOfRoot", child.id, child.Key, 1},
		{"ChildOfMortal", grandchild.id, grandchild.Key, 2},
	} {
		r.auth(r.Tokens, test.id)
		r.view(func(rd store.Reader) error {
			c := &counting{Reader: rd}
			_, err := r.Authenticate(c, test.id)
			if c.gets != test.gets || c.scans != 0 {
				t.Errorf("%s: %d Gets, %d Scans", test.name, c.gets, c.scans)
			}
			if test.gets == 1 && !slices.Equal(c.last, []string{barrier.StampKey, idPrefix + test.key}) {
				t.Errorf("%s: asked for %q", test.name, c.last)
			}
			return err
		})
	}
	// A revocation elsewhere costs one more look, once.
	r.revoke(child.Entry)
	r.view(func(rd store.Reader) error {
		for _, scans := range []int{1, 0} {
			c := &counting{Reader: rd}
			if _, err := r.Authenticate(c, []byte("the-first-root-token")); err != nil || c.scans != scans {
				t.Errorf("after a revocation: %d Scans, %v", c.scans, err)
			}
		}
		return nil
	})
}

// TestUnknown: whatever isn't the ID of a live token gets the same answer.
func TestUnknown(t *testing.T) {
	r := newRig(t)
	m := r.must(r.root, Spec{})
	for _, id := range []string{
		"", "q.", m.Accessor, m.Key, m.RecordID, string(m.id[:23]), string(m.id) + " ", " " + string(m.id),
		strings.ToUpper(string(m.id)), "The-first-root-token", strings.Repeat("x", 1<<16), "\x00\xff",
	} {
		r.view(func(rd store.Reader) error {
			if e, err := r.Authenticate(rd, []byte(id)); e != nil || err != ErrDead {
				t.Errorf("%.30q: %v, %v", id, e, err)
			}
			return nil
		})
	}
	r.view(func(rd store.Reader) error {
		for _, name := range []string{"", m.Key + "0", string(m.id), m.RecordID, strings.Repeat("a", 2000)} {
			if len(name) > store.MaxKey {
				name = name[:100]
			}
			if e, err := r.ByKey(rd, name); e != nil || name != "" && err != nil {
				t.Errorf("by key: %v, %v", e, err)
			}
			if e, err := r.ByAccessor(rd, name); e != nil || err != nil {
				t.Errorf("by accessor: %v, %v", e, err)
			}
		}
		return nil
	})
}

// TestKey is the same for the same ID before and after its token exists, and across nodes; other stores have others.
func TestKey(t *testing.T) {
	r, other := newRig(t), newRig(t)
	id := []byte("not-yet-a-token-at-all")
	key := func(r *rig, tokens *Tokens) (key string) {
		r.view(func(rd store.Reader) (err error) {
			key, err = tokens.Key(rd, id)
			return err
		})
		return key
	}
	before := key(r, r.Tokens)
	r.update(func(tx store.Tx) error {
		_, err := r.CreateRoot(tx, before, RootOptions{})
		return err
	})
	if e := r.auth(r.Tokens, id); e == nil || e.Key != before || key(r, r.another()) != before {
		t.Error("the key of an ID changed")
	}
	if key(other, other.Tokens) == before {
		t.Error("two stores have the same salt")
	}
}

// TestSeedAgain: what was remembered under a salt that is gone is not used. An Update that runs twice seeds twice.
func TestSeedAgain(t *testing.T) {
	r := newRig(t)
	tokens := r.another()
	id := []byte("seeded-in-the-same-update")
	failed := errors.New("and again")
	for _, want := range []error{failed, nil} {
		err := r.try(func(tx store.Tx) error {
			if err := Seed(tx); err != nil {
				return err
			}
			key, err := tokens.Key(tx, id)
			if err != nil {
				return err
			}
			if _, err := tokens.CreateRoot(tx, key, RootOptions{}); err != nil {
				return err
			}
			return want
		})
		if err != want {
			t.Fatal(err)
		}
	}
	for name, tokens := range map[string]*Tokens{"its own": tokens, "another": r.another(), "one that knew the old salt": r.Tokens} {
		if r.auth(tokens, id) == nil {
			t.Errorf("%s doesn't know the token", name)
		}
	}
}

// TestRolledBack: what a transaction wrote and took back is not remembered.
func TestRolledBack(t *testing.T) {
	r := newRig(t)
	parent := r.must(r.root, Spec{})
	child := r.must(parent.Entry, Spec{})
	failed := errors.New("no")
	err := r.try(func(tx store.Tx) error {
		if err := r.RevokeTree(tx, parent.Entry); err != nil {
			return err
		}
		if _, err := r.Authenticate(tx, child.id); err != ErrDead {
			t.Errorf("inside the transaction: %v", err)
		}
		return failed
	})
	if err != failed {
		t.Fatal(err)
	}
	r.wantLife(parent, true, "parent after the roll-back")
	r.wantLife(child, true, "child after the roll-back")
}

// TestTwoNodes: what one revokes the other refuses at once, whatever it had remembered.
func TestTwoNodes(t *testing.T) {
	r := newRig(t)
	a, b := r.Tokens, r.another()
	parent := r.must(r.root, Spec{})
	child, leaf := r.must(parent.Entry, Spec{}), r.must(r.root, Spec{})
	saved := r.must(child.Entry, Spec{})
	revoke := func(by *Tokens, m made, orphan bool) {
		r.update(func(tx store.Tx) error {
			e, err := by.Authenticate(tx, m.id)
			if err != nil {
				return err
			}
			if orphan {
				return by.RevokeOrphan(tx, e)
			}
			return by.RevokeTree(tx, e)
		})
	}
	warm := func() {
		for _, m := range []made{parent, child, leaf, saved} {
			r.auth(a, m.id)
			r.auth(b, m.id)
		}
	}
	want := func(what string, dead ...made) {
		t.Helper()
		for _, m := range dead {
			if r.auth(a, m.id) != nil || r.auth(b, m.id) != nil {
				t.Errorf("%s: a dead token lives on a node", what)
			}
		}
	}
	warm()
	revoke(b, leaf, false)
	want("leaf", leaf)
	warm()
	revoke(a, child, true)
	want("orphaned", child)
	if e := r.auth(b, saved.id); e == nil || !e.Orphan || len(e.Ancestors) != 0 {
		t.Errorf("saved as an orphan: %+v", e)
	}
	warm()
	revoke(b, parent, false)
	want("tree", parent)
	if r.auth(a, saved.id) == nil || r.auth(b, saved.id) == nil {
		t.Error("the orphan died with its former grandparent")
	}
	warm()
	r.sweep()
	want("swept", parent, child, leaf)
	if r.auth(a, saved.id) == nil || r.auth(b, saved.id) == nil {
		t.Error("the sweep killed the orphan")
	}
	r.checkSwept()
}

// TestOldSnapshot: a reader of an old snapshot must not take what another one remembered of a newer snapshot for its
// own, where the dead haven't been cleared away yet.
func TestOldSnapshot(t *testing.T) {
	r := newRig(t)
	parent := r.must(r.root, Spec{})
	child := r.must(parent.Entry, Spec{})
	r.revoke(parent.Entry)
	b := r.another()
	r.view(func(old store.Reader) error {
		done := make(chan error)
		go func() {
			_, err := r.Sweep(context.Background(), r.store, r.clock)
			if err == nil {
				err = r.store.View(context.Background(), func(rd store.Reader) error {
					_, err := b.Authenticate(rd, []byte("the-first-root-token"))
					return err
				})
			}
			done <- err
		}()
		if err := <-done; err != nil {
			return err
		}
		if _, err := b.Authenticate(old, child.id); err != ErrDead {
			t.Errorf("a dead token came to life in an old snapshot: %v", err)
		}
		return nil
	})
}

func TestAccessors(t *testing.T) {
	r := newRig(t)
	want := []string{r.root.Accessor}
	var all []made
	for i := range 30 {
		m := r.must(r.root, Spec{TTL: time.Duration(1+i%3) * time.Hour})
		all = append(all, m)
		want = append(want, m.Accessor)
	}
	dead := r.must(all[29].Entry, Spec{TTL: time.Hour})
	r.revoke(all[29].Entry)
	want = slices.DeleteFunc(want, func(a string) bool { return a == all[29].Accessor })
	slices.Sort(want)

	list := func(after string, limit int) (list []string) {
		r.view(func(rd store.Reader) (err error) {
			list, err = r.Accessors(rd, after, limit)
			return err
		})
		return list
	}
	got := list("", 0)
	if slices.Contains(got, dead.Accessor) {
		t.Error("the accessor of a revoked token's child is listed")
	}
	for _, size := range []int{1, 7, len(got), 1000} {
		var pages []string
		for page := list("", size); len(page) > 0; page = list(page[len(page)-1], size) {
			if len(page) > size {
				t.Fatalf("a page of %d, asked for %d", len(page), size)
			}
			pages = append(pages, page...)
		}
		if !slices.Equal(pages, got) {
			t.Errorf("pages of %d give another list", size)
		}
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("%d accessors, want %d", len(got), len(want))
	}
	for _, m := range all[:29] {
		r.view(func(rd store.Reader) error {
			e, err := r.ByAccessor(rd, m.Accessor)
			if err == nil && !reflect.DeepEqual(e, m.Entry) {
				t.Errorf("by accessor: %+v", e)
			}
			return err
		})
	}
	r.clock = epoch.Add(time.Hour)
	if n := len(list("", 0)); n != 20 {
		t.Errorf("%d accessors after a third has expired", n)
	}
}

// T52: nothing of a token ID is in any key or value, in any usual encoding, whatever was done with the token.
func TestNoIDInStore(t *testing.T) {
	r := newRig(t)
	chosen := r.must(r.root, Spec{ID: []byte("chosen-and-well-known")})
	parent := r.must(chosen.Entry, Spec{TTL: time.Hour, DisplayName: "ci", Meta: map[string]string{"k": "v"}, Policies: []string{"p"}})
	child := r.must(parent.Entry, Spec{NumUses: 3})
	gone := r.must(parent.Entry, Spec{})
	if _, err := r.renew(parent.Entry, 0); err != nil {
		t.Fatal(err)
	}
	r.update(func(tx store.Tx) error { return r.Use(tx, child.Entry) })
	r.must(gone.Entry, Spec{})
	r.revoke(gone.Entry)
	if !r.lives(child) {
		t.Fatal("the test needs a live token")
	}
	for _, id := range [][]byte{[]byte("the-first-root-token"), chosen.id, parent.id, child.id, gone.id} {
		tail := id[len(id)-16:]
		for key, value := range r.dump() {
			for _, form := range []string{
				string(tail), hex.EncodeToString(tail), strings.ToUpper(hex.EncodeToString(tail)),
				base64.StdEncoding.EncodeToString(tail[:15]), base64.RawURLEncoding.EncodeToString(id), fmt.Sprint(tail),
			} {
				if strings.Contains(key, form) || strings.Contains(value, form) {
					t.Errorf("part of an ID is in %s", key)
				}
			}
		}
	}
	if bytes.Contains([]byte(fmt.Sprintf("%+v", r.known.Load())), []byte(r.dump()[saltKey])) {
		t.Error("the salt prints")
	}
}
