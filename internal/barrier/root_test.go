package barrier

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/store/storetest"
)

// rotateRoot returns a copy of the root key that is in force now.
func rotateRoot(t testing.TB, b *Barrier) secret.Bytes {
	t.Helper()
	next, err := b.PrepareRoot()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Update(ctx, func(tx store.Tx) error { return next.Install(tx, born) }); err != nil {
		t.Fatal(err)
	}
	next.Close(true)
	return secret.Copy(next.Key().Reveal())
}

func deriveIn(b *Barrier, st store.Store) (key secret.Bytes, err error) {
	err = st.View(ctx, func(r store.Reader) error {
		key, err = b.DeriveIn(r, "label")
		return err
	})
	return key, err
}

func TestRotateRoot(t *testing.T) {
	b, st := pair(t)
	put(t, b, "k", "first term")
	stamp := string(raw(t, st, StampKey))
	root := rotateRoot(t, b)
	if string(raw(t, st, StampKey)) == stamp {
		t.Error("the stamp is as it was")
	}
	put(t, b, "k2", "second term")
	if s := status(t, b); s.Term != 2 || !s.Installed.Equal(born) {
		t.Errorf("after the rotation: %+v", s)
	}
	if _, err := Open(ctx, st, rootKey("root")); err != ErrWrongKey {
		t.Errorf("the old root key: %v", err)
	}
	fresh, err := Open(ctx, st, root)
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	for _, b := range []*Barrier{b, fresh} {
		wantValue(t, b, "k", "first term")
		wantValue(t, b, "k2", "second term")
		if key, err := deriveIn(b, b); err != nil || !key.Equal(Derive(root, "label")) || !b.DeriveKey("label").Equal(key) {
			t.Errorf("a derived key is not of the new root key: %v", err)
		}
	}
	rotateRoot(t, b)
	put(t, b, "k3", "third term")
	wantValue(t, b, "k", "first term")
	if _, err := get(fresh, "k3"); !errors.Is(err, ErrRotated) || !errors.Is(err, ErrWrongKey) {
		t.Errorf("another process reads of a term that it can't know: %v", err)
	}
}

// Another process that knows only the old root key finds out as soon as it looks at the keyring.
func TestRotatedElsewhere(t *testing.T) {
	b, st := pair(t)
	other := openWith(t, st, standard)
	put(t, other, "k", "v")
	rotateRoot(t, b)
	before := dump(t, st)
	next, err := other.PrepareRoot()
	if err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func() error{
		"write":         func() error { return other.Update(ctx, func(tx store.Tx) error { return tx.Put("k", nil) }) },
		"read to write": func() error { return other.Update(ctx, func(tx store.Tx) error { _, err := tx.Get("k"); return err }) },
		"status":        func() error { _, err := other.Status(ctx); return err },
		"rotation":      func() error { return other.Rotate(ctx, born) },
		"root rotation": func() error {
			return other.Update(ctx, func(tx store.Tx) error { return next.Install(tx, born) })
		},
		"derivation": func() error { _, err := deriveIn(other, other); return err },
	} {
		if err := call(); !errors.Is(err, ErrRotated) {
			t.Errorf("%s: %v", name, err)
		}
	}
	next.Close(false)
	after := dump(t, st)
	for key, value := range after {
		if string(before[key]) != string(value) {
			t.Errorf("%s was written", key)
		}
	}
}

// Damage to the keyring that isn't even the form of one is not taken for a rotation.
func TestNoKeyringIsNoRotation(t *testing.T) {
	b, st := pair(t)
	for _, junk := range []string{"", "\x07junk"} {
		put(t, st, KeyringKey, junk)
		if _, err := deriveIn(b, b); err != ErrWrongKey {
			t.Errorf("%q: %v", junk, err)
		}
	}
}

// Inside the transaction that rotates, and on an overlay over it, what follows is of the new root key; when it is
// undone nothing of it remains.
func TestRotationInTransaction(t *testing.T) {
	b, st := pair(t)
	put(t, b, "k", "v")
	undone := errors.New("undone")
	next, err := b.PrepareRoot()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range []bool{false, true} {
		err = b.Update(ctx, func(tx store.Tx) error {
			top := tx
			if layer {
				top = store.NewOverlay(tx)
			}
			if err := errors.Join(BumpStamp(top), next.Install(top, born), b.RotateIn(top, born)); err != nil {
				return err
			}
			key, err := b.DeriveIn(top, "label")
			if err != nil || !key.Equal(Derive(next.Key(), "label")) {
				t.Errorf("inside: %v", err)
			}
			if o, ok := top.(*store.Overlay); ok {
				for key, value := range o.Changes() {
					if err := tx.Put(key, value); err != nil {
						t.Errorf("%s: %v", key, err)
					}
				}
			}
			if err := tx.Put("k", []byte("written in the rotation")); err != nil {
				return err
			}
			if values, err := tx.Get("k"); err != nil || string(values[0]) != "written in the rotation" {
				t.Errorf("read back: %q, %v", values, err)
			}
			// A term that exists nowhere but in this transaction: what is found must not be remembered.
			if err := tx.Put("plain/x", nil); err != nil {
				return err
			}
			return undone
		})
		if err != undone {
			t.Fatal(err)
		}
	}
	next.Close(false)
	if s := status(t, b); s.Term != 1 {
		t.Errorf("after what was undone: %+v", s)
	}
	key, err := deriveIn(b, b)
	if err != nil || !key.Equal(Derive(rootKey("root"), "label")) {
		t.Errorf("after what was undone: %v", err)
	}
	b2 := openWith(t, st, standard)
	for i := range 3 { // terms that this process takes from the other one, of numbers that were undone here
		if err := b2.Rotate(ctx, born); err != nil {
			t.Fatal(err)
		}
		put(t, b2, "k", fmt.Sprint(i))
		wantValue(t, b, "k", fmt.Sprint(i))
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a root key that was forgotten is still there")
			}
		}()
		next.Key().Reveal()
	}()
}

// What is put under the keyring's key through a barrier is nothing but this keyring and further terms.
func TestKeyringCantBeReplaced(t *testing.T) {
	b, st := pair(t)
	first := string(raw(t, st, KeyringKey))
	b.Rotate(ctx, born)
	second := string(raw(t, st, KeyringKey))
	_, otherStore := pair(t) // the same root key, other terms
	other := openWith(t, otherStore, standard)
	for range 3 {
		other.Rotate(ctx, born)
	}
	for name, record := range map[string]string{
		"an older one": first, "the same": second, "another store's": string(raw(t, otherStore, KeyringKey)), "junk": "junk",
	} {
		if err := b.Update(ctx, func(tx store.Tx) error { return tx.Put(KeyringKey, []byte(record)) }); !errors.Is(err, errReserved) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if string(raw(t, st, KeyringKey)) != second {
		t.Error("the keyring changed")
	}
}

func TestRootRotationCrashes(t *testing.T) {
	for _, mode := range []storetest.Mode{storetest.Lost, storetest.Kept} {
		st := storetest.NewFaulty(inmem.New())
		create(t, st)
		b := openWith(t, st, standard)
		put(t, b, "k", "v")
		next, err := b.PrepareRoot()
		if err != nil {
			t.Fatal(err)
		}
		st.FailCommit(1, mode)
		err = b.Update(ctx, func(tx store.Tx) error { return next.Install(tx, born) })
		if !errors.Is(err, store.ErrUnknownOutcome) {
			t.Fatalf("%v: %v", mode, err)
		}
		next.Close(true)
		st.Recover()
		holds := rootKey("root")
		if mode == storetest.Kept {
			holds = secret.Copy(next.Key().Reveal())
		}
		again, err := Open(ctx, st, holds)
		if err != nil {
			t.Fatalf("%v: %v", mode, err)
		}
		put(t, b, "k2", "v2") // the process that doesn't know goes on
		wantValue(t, b, "k", "v")
		wantValue(t, again, "k2", "v2")
		if key, err := deriveIn(b, b); err != nil || !key.Equal(Derive(holds, "label")) {
			t.Errorf("%v: a derived key: %v", mode, err)
		}
		again.Close()
		rotateRoot(t, b)
		wantValue(t, b, "k", "v")
	}
}

// Snapshots of before a rotation stay readable through it, and so do transactions beside it.
func TestSnapshotsAcrossRootRotation(t *testing.T) {
	b, _ := pair(t)
	put(t, b, "k", "0")
	old := Derive(rootKey("root"), "label")
	err := b.View(ctx, func(r store.Reader) error {
		for i := range 3 {
			rotateRoot(t, b)
			put(t, b, "k", "changed")
			if key, err := b.DeriveIn(r, "label"); err != nil || !key.Equal(old) {
				t.Errorf("rotation %d: the old snapshot's key: %v", i, err)
			}
			if values, err := r.Get("k"); err != nil || string(values[0]) != "0" {
				t.Errorf("rotation %d: the old snapshot reads %q, %v", i, values, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 30 {
				if i == 0 && n%3 == 0 {
					rotateRoot(t, b)
				}
				key := fmt.Sprint("k", i)
				put(t, b, key, fmt.Sprint(n))
				wantValue(t, b, key, fmt.Sprint(n))
				if _, err := deriveIn(b, b); err != nil {
					t.Error(err)
				}
				b.DeriveKey("label")
			}
		})
	}
	wg.Wait()
}

func TestRootOfClosedBarrier(t *testing.T) {
	b, _ := pair(t)
	next, err := b.PrepareRoot()
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	next.Close(false)
	if _, err := b.PrepareRoot(); !errors.Is(err, store.ErrClosed) {
		t.Errorf("PrepareRoot: %v", err)
	}
	if _, err := b.DeriveIn(nil, "label"); !errors.Is(err, store.ErrClosed) {
		t.Errorf("DeriveIn: %v", err)
	}
}
