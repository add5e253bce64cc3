package token

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
)

// openBarrier returns a barrier over a fresh store: tokens as a server keeps them.
func openBarrier(tb testing.TB) (b *barrier.Barrier, under store.Store) {
	tb.Helper()
	under = inmem.New()
	rootKey := secret.Own(bytes.Repeat([]byte{7}, 32))
	err := under.Update(context.Background(), func(tx store.Tx) error {
		_, err := barrier.Create(tx, rootKey, epoch)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	b, err = barrier.Open(context.Background(), under, rootKey)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := b.Close(); err != nil {
			tb.Error(err)
		}
	})
	return b, under
}

// TestThroughBarrier: the same life behind a barrier; in the store below it nothing of a token can be read at all.
func TestThroughBarrier(t *testing.T) {
	b, under := openBarrier(t)
	r := newRigOn(t, b)
	parent := r.must(r.root, Spec{Policies: []string{"some-policy"}, DisplayName: "some-name", Meta: map[string]string{"some": "meta"}})
	child := r.must(parent.Entry, Spec{TTL: time.Hour})
	orphan := r.must(child.Entry, Spec{TTL: 2 * time.Hour})
	r.revokeOrphan(child.Entry)
	other := r.another()
	if r.auth(other, orphan.id) == nil {
		t.Error("the orphan is dead")
	}
	r.revoke(parent.Entry)
	if r.auth(other, parent.id) != nil || r.auth(other, child.id) != nil || r.auth(other, orphan.id) == nil {
		t.Error("the other node saw another end")
	}
	r.sweep()
	r.wantLife(orphan, true, "the orphan, swept")
	err := under.View(context.Background(), func(rd store.Reader) error {
		for entry, err := range rd.Scan("", "") {
			if err != nil {
				return err
			}
			for _, word := range [][]byte{
				orphan.id, []byte(orphan.Accessor), []byte("some-"), []byte(`"rid"`), []byte("the-first-root-token"),
			} {
				if bytes.Contains(entry.Value, word) {
					t.Errorf("%s holds something that can be read", entry.Key)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func benchStores(b *testing.B, run func(*testing.B, store.Store)) {
	b.Run("store=inmem", func(b *testing.B) { run(b, inmem.New()) })
	b.Run("store=barrier", func(b *testing.B) {
		st, _ := openBarrier(b)
		run(b, st)
	})
}

// benchTokens is a chain of root tokens: one that never expires, its child and its grandchild.
func benchTokens(b *testing.B, st store.Store) (t *Tokens, ids [][]byte, parent *Entry) {
	b.Helper()
	t = New(Config{})
	err := st.Update(context.Background(), func(tx store.Tx) error {
		if err := Seed(tx); err != nil {
			return err
		}
		ids = [][]byte{NewID().Reveal()}
		key, err := t.Key(tx, ids[0])
		if err != nil {
			return err
		}
		e, err := t.CreateRoot(tx, key, RootOptions{})
		parent = e
		for range 2 {
			if err != nil {
				return err
			}
			var id secret.Bytes
			id, e, _, err = t.Create(tx, e, Spec{Path: "auth/token/create", TTL: time.Hour})
			ids = append(ids, id.Reveal())
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return t, ids, parent
}

func BenchmarkAuthenticate(b *testing.B) {
	benchStores(b, func(b *testing.B, st store.Store) {
		t, ids, _ := benchTokens(b, st)
		for i, who := range []string{"root", "child", "grandchild"} {
			b.Run("who="+who, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					err := st.View(context.Background(), func(r store.Reader) error {
						_, err := t.Authenticate(r, ids[i])
						return err
					})
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	})
}

func BenchmarkCreate(b *testing.B) {
	benchStores(b, func(b *testing.B, st store.Store) {
		t, _, parent := benchTokens(b, st)
		b.ReportAllocs()
		for b.Loop() {
			err := st.Update(context.Background(), func(tx store.Tx) error {
				_, _, _, err := t.Create(tx, parent, Spec{Sudo: true, Path: "auth/token/create", Policies: []string{"default"}})
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkSweepNothing(b *testing.B) {
	benchStores(b, func(b *testing.B, st store.Store) {
		const n = 10_000
		t, _, parent := benchTokens(b, st)
		err := st.Update(context.Background(), func(tx store.Tx) error {
			for range n {
				if _, _, _, err := t.Create(tx, parent, Spec{Path: "auth/token/create"}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if swept, err := t.Sweep(context.Background(), st, time.Now()); swept != 0 || err != nil {
				b.Fatal(swept, err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/token")
	})
}
