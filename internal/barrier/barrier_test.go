package barrier

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/store/storetest"
)

var (
	ctx      = context.Background()
	born     = time.Date(2026, 11, 24, 10, 0, 0, 123456789, time.UTC)
	standard = limits{block: usageBlock, soft: softLimit}
)

// rootKey returns a key of its own, since every owner wipes.
func rootKey(seed string) secret.Bytes {
	sum := sha256.Sum256([]byte(seed))
	return secret.Own(sum[:])
}

func create(t testing.TB, st store.Store) {
	t.Helper()
	err := st.Update(ctx, func(tx store.Tx) error {
		_, err := Create(tx, rootKey("root"), born)
		return err
	})
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
}

func openWith(t testing.TB, st store.Store, l limits) *Barrier {
	t.Helper()
	b, err := open(ctx, st, rootKey("root"), l)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// pair is a new barrier and the store below it.
func pair(t testing.TB) (*Barrier, *inmem.Store) {
	t.Helper()
	st := inmem.New()
	create(t, st)
	return openWith(t, st, standard), st
}

func put(t testing.TB, s store.Store, key, value string) {
	t.Helper()
	if err := s.Update(ctx, func(tx store.Tx) error { return tx.Put(key, []byte(value)) }); err != nil {
		t.Fatalf("writing %s: %v", key, err)
	}
}

func get(s store.Store, key string) (value []byte, err error) {
	err = s.View(ctx, func(r store.Reader) error {
		values, err := r.Get(key)
		if err == nil && values[0] != nil {
			value = append([]byte{}, values[0]...)
		}
		return err
	})
	return value, err
}

func wantValue(t testing.TB, s store.Store, key, want string) {
	t.Helper()
	if got, err := get(s, key); err != nil || string(got) != want {
		t.Errorf("%s is %.40q, %v; want %.40q", key, got, err, want)
	}
}

// raw returns a record as the store below has it.
func raw(t testing.TB, st store.Store, key string) []byte {
	t.Helper()
	record, err := get(st, key)
	if err != nil || record == nil {
		t.Fatalf("raw record %s: %x, %v", key, record, err)
	}
	return record
}

func dump(t testing.TB, st store.Store) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := st.View(ctx, func(r store.Reader) error {
		for e, err := range r.Scan("", "") {
			if err != nil {
				return err
			}
			all[e.Key] = bytes.Clone(e.Value)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// closing closes the store below with the barrier, as Run expects of what it is given.
type closing struct {
	*Barrier
	below store.Store
}

func (c closing) Close() error { return errors.Join(c.Barrier.Close(), c.below.Close()) }

func TestConformance(t *testing.T) {
	for name, l := range map[string]limits{
		"standard": standard,
		// Reservations and new terms all the time.
		"tiny blocks": {block: 3, soft: 9000},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) store.Store {
				st := inmem.New()
				create(t, st)
				return closing{openWith(t, st, l), st}
			})
		})
	}
	t.Run("over a store that runs everything twice", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) store.Store {
			st := storetest.Rerun(inmem.New())
			create(t, st)
			return closing{openWith(t, st, standard), st}
		})
	})
}

func TestNothingReadableBelow(t *testing.T) {
	b, st := pair(t)
	const value = "the known value, long enough to be found"
	put(t, b, "secret/one", value)
	put(t, b, "secret/two", value)
	b.Update(ctx, func(tx store.Tx) error {
		tx.Put("secret/three", []byte(value))
		return errors.New("never mind")
	})
	derived := b.DeriveKey("a label")
	for key, record := range dump(t, st) {
		for what, leak := range map[string][]byte{
			"the value": []byte(value[:12]), "the root key": rootKey("root").Reveal()[:8],
			"a derived key": derived.Reveal()[:8],
		} {
			if bytes.Contains(record, leak) {
				t.Errorf("%s is readable in the record %s", what, key)
			}
		}
	}
	if bytes.Equal(raw(t, st, "secret/one")[headerSize:], raw(t, st, "secret/two")[headerSize:]) {
		t.Error("equal values make equal records")
	}
}

func TestPlainKeysPassThrough(t *testing.T) {
	b, st := pair(t)
	put(t, b, "plain/seal", "for all to see")
	if got := raw(t, st, "plain/seal"); string(got) != "for all to see" {
		t.Errorf("a plain record is stored as %q", got)
	}
	put(t, st, "plain/other", "written below")
	wantValue(t, b, "plain/other", "written below")
	put(t, b, "plainly/not", "value")
	if got := raw(t, st, "plainly/not"); bytes.Contains(got, []byte("value")) {
		t.Error("a key that only begins like the prefix is stored in clear")
	}
}

func TestOwnRecordsAreOutOfReach(t *testing.T) {
	b, st := pair(t)
	put(t, b, "a", "1")
	before := dump(t, st)
	for _, key := range []string{KeyringKey, usageKey(1), usageKey(2), "barrier/anything"} {
		for op, call := range map[string]func(store.Tx) error{
			"Put":    func(tx store.Tx) error { return tx.Put(key, []byte("x")) },
			"Delete": func(tx store.Tx) error { return tx.Delete(key) },
		} {
			if err := b.Update(ctx, call); !errors.Is(err, errReserved) {
				t.Errorf("%s(%s): %v, want a refusal", op, key, err)
			}
		}
	}
	for key, value := range dump(t, st) {
		if !bytes.Equal(before[key], value) {
			t.Errorf("%s changed", key)
		}
	}
	b.View(ctx, func(r store.Reader) error {
		for e := range r.Scan("", "") {
			if e.Key != "a" {
				t.Errorf("a scan shows %s", e.Key)
			}
		}
		return nil
	})
}

func TestValueLimits(t *testing.T) {
	b, st := pair(t)
	for _, size := range []int{0, 1, 255, MaxValue} {
		put(t, b, "k", strings.Repeat("v", size))
		if got := len(raw(t, st, "k")); got != size+Overhead {
			t.Errorf("%d bytes became %d, want %d more", size, got, Overhead)
		}
		wantValue(t, b, "k", strings.Repeat("v", size))
	}
	err := b.Update(ctx, func(tx store.Tx) error { return tx.Put("k", make([]byte, MaxValue+1)) })
	if err == nil {
		t.Error("a value that doesn't fit below was accepted")
	}
	wantValue(t, b, "k", strings.Repeat("v", MaxValue))
}

func TestCreateReturnsEncryptingView(t *testing.T) {
	st := inmem.New()
	root := rootKey("root")
	err := st.Update(ctx, func(raw store.Tx) error {
		tx, err := Create(raw, root, born)
		if err != nil {
			return err
		}
		if err := tx.Put("first", []byte("value of the first record")); err != nil {
			return err
		}
		values, err := tx.Get("first", "absent")
		if err != nil || string(values[0]) != "value of the first record" || values[1] != nil {
			t.Errorf("the view reads its own writes as %q, %v", values, err)
		}
		if err := tx.Put(KeyringKey, nil); !errors.Is(err, errReserved) {
			t.Errorf("the view lets the keyring be written: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !root.Equal(rootKey("root")) {
		t.Error("Create changed the caller's root key")
	}
	if bytes.Contains(raw(t, st, "first"), []byte("value")) {
		t.Error("the first record is in clear")
	}
	if len(raw(t, st, StampKey)) != stampSize {
		t.Error("there is no change stamp")
	}
	wantValue(t, openWith(t, st, standard), "first", "value of the first record")
}

func TestCreateRefusesTooManyRecords(t *testing.T) {
	err := inmem.New().Update(ctx, func(raw store.Tx) error {
		tx, err := Create(raw, rootKey("root"), born)
		for i := 0; err == nil && i < createBlock+1; i++ {
			err = tx.Put(fmt.Sprintf("k/%d", i), nil)
		}
		return err
	})
	if err == nil {
		t.Error("the first transaction may encrypt more than was counted")
	}
}

func TestWrongRootKey(t *testing.T) {
	b, st := pair(t)
	put(t, b, "k", "v")
	for name, key := range map[string]secret.Bytes{
		"another":  rootKey("another"),
		"empty":    {},
		"short":    secret.Own(rootKey("root").Reveal()[:31]),
		"long":     secret.Own(append(rootKey("root").Reveal(), 0)),
		"zeros":    secret.Own(make([]byte, KeySize)),
		"last bit": secret.Own(flipped(rootKey("root").Reveal(), KeySize*8-1)),
	} {
		if _, err := Open(ctx, st, key); err != ErrWrongKey {
			t.Errorf("%s key: %v, want ErrWrongKey", name, err)
		}
	}
	if _, err := Open(ctx, inmem.New(), rootKey("root")); err != ErrWrongKey {
		t.Errorf("a store without keyring: %v", err)
	}
	if err := inmem.New().Update(ctx, func(tx store.Tx) error {
		_, err := Create(tx, secret.Own(make([]byte, 16)), born)
		return err
	}); err == nil {
		t.Error("Create takes a short root key")
	}
}

func TestOpenCopiesRootKey(t *testing.T) {
	_, st := pair(t)
	key := rootKey("root")
	b, err := Open(ctx, st, key)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if !key.Equal(rootKey("root")) {
		t.Error("Open wiped the caller's key")
	}
	key.Wipe()
	if err := b.Rotate(ctx, born); err != nil {
		t.Errorf("after the caller wiped its key: %v", err)
	}
}

func TestDeriveKey(t *testing.T) {
	b, _ := pair(t)
	a := b.DeriveKey("a")
	if a.Len() != 32 {
		t.Errorf("a derived key has %d bytes", a.Len())
	}
	for name, other := range map[string]secret.Bytes{
		"another label":    b.DeriveKey("b"),
		"no label":         b.DeriveKey(""),
		"another root key": Derive(rootKey("another"), "a"),
		"the root key":     rootKey("root"),
		"the keyring key":  secret.Own(derive(rootKey("root"), labelKeyringKey)),
	} {
		if a.Equal(other) {
			t.Errorf("the key for label a is that of %s", name)
		}
	}
	if !a.Equal(b.DeriveKey("a")) || !a.Equal(Derive(rootKey("root"), "a")) {
		t.Error("the same label gives another key")
	}
	a.Wipe()
	if b.DeriveKey("a").Equal(a) {
		t.Error("wiping a derived key reaches the next one")
	}
}

func TestClose(t *testing.T) {
	b, st := pair(t)
	put(t, b, "k", "v")
	inside, release, closed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	viewed := make(chan error)
	go func() {
		viewed <- b.View(ctx, func(r store.Reader) error {
			close(inside)
			<-release
			_, err := r.Get("k") // the keys must still be there
			return err
		})
	}()
	<-inside
	go func() { b.Close(); close(closed) }()
	for b.View(ctx, func(store.Reader) error { return nil }) == nil {
		// until Close has begun
	}
	select {
	case <-closed:
		t.Error("Close did not wait for a running View")
	default:
	}
	close(release)
	if err := <-viewed; err != nil {
		t.Errorf("the View that was running: %v", err)
	}
	<-closed
	for name, err := range map[string]error{
		"View":   b.View(ctx, func(store.Reader) error { return nil }),
		"Update": b.Update(ctx, func(store.Tx) error { return nil }),
		"Rotate": b.Rotate(ctx, born),
		"Status": func() error { _, err := b.Status(ctx); return err }(),
	} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("DeriveKey after Close gives a key")
			}
		}()
		b.DeriveKey("a")
	}()
	wantValue(t, openWith(t, st, standard), "k", "v") // the store below is open
}

// TestConcurrent is for the race detector: readers, writers and rotations through two barriers over one store.
func TestConcurrent(t *testing.T) {
	st := inmem.New()
	create(t, st)
	small := limits{block: 5, soft: 200}
	barriers := []*Barrier{openWith(t, st, small), openWith(t, st, small)}
	const writers, rounds = 3, 40
	var wg sync.WaitGroup
	for i, b := range barriers {
		for w := range writers {
			key := fmt.Sprintf("k/%d/%d", i, w)
			wg.Go(func() {
				for n := range rounds {
					put(t, b, key, fmt.Sprint(n))
					wantValue(t, barriers[(i+n)%2], key, fmt.Sprint(n))
				}
			})
		}
		wg.Go(func() {
			for range rounds / 4 {
				if err := b.Rotate(ctx, born); err != nil {
					t.Errorf("Rotate: %v", err)
				}
				if _, err := b.Status(ctx); err != nil {
					t.Errorf("Status: %v", err)
				}
				b.DeriveKey("x")
			}
		})
	}
	wg.Wait()
	fresh := openWith(t, st, standard)
	for key := range dump(t, st) {
		if !strings.HasPrefix(key, "k/") {
			continue
		}
		wantValue(t, fresh, key, fmt.Sprint(rounds-1))
	}
}
