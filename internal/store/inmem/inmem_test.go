package inmem

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return New() })
}

// changes yields a map in the order that with needs; nil deletes.
func changes(m map[string][]byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !yield(key, m[key]) {
				return
			}
		}
	}
}

// TestSnapshotsAreImmutable grows and shrinks a map over many pages, and keeps every version beside a plain map.
func TestSnapshotsAreImmutable(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	type version struct {
		snapshot *snapshot
		model    map[string]string
	}
	versions := []version{{&snapshot{}, map[string]string{}}}
	for round := range 60 {
		last := versions[len(versions)-1]
		model, writes := maps.Clone(last.model), map[string][]byte{}
		for range 1 + rng.IntN(4*pageSize) {
			key := fmt.Sprintf("%04d", rng.IntN(5000))
			if round >= 40 || rng.IntN(3) == 0 { // the last rounds only delete
				writes[key] = nil
				delete(model, key)
				continue
			}
			writes[key] = fmt.Append(nil, round)
			model[key] = fmt.Sprint(round)
		}
		versions = append(versions, version{last.snapshot.with(changes(writes)), model})
	}
	for i, v := range versions {
		checkPages(t, v.snapshot)
		got := map[string]string{}
		for e, err := range v.snapshot.Scan("", "") {
			if err != nil {
				t.Fatal(err)
			}
			got[e.Key] = string(e.Value)
		}
		if !maps.Equal(got, v.model) {
			t.Errorf("version %d has %d entries, want the %d of its model", i, len(got), len(v.model))
		}
		for range 100 {
			key := fmt.Sprintf("%04d", rng.IntN(5000))
			values, _ := v.snapshot.Get(key)
			if want, ok := v.model[key]; ok != (values[0] != nil) || string(values[0]) != want {
				t.Errorf("version %d: %q reads %q, want %q", i, key, values[0], want)
			}
		}
	}
}

// checkPages checks what snapshot says of itself: no page empty or too long, and the keys ascend over all pages.
func checkPages(t *testing.T, s *snapshot) {
	t.Helper()
	previous := ""
	for i, page := range s.pages {
		if len(page) == 0 || len(page) > pageSize {
			t.Errorf("page %d of %d has %d entries", i, len(s.pages), len(page))
		}
		for _, e := range page {
			if e.Key <= previous {
				t.Errorf("%q comes after %q", e.Key, previous)
			}
			previous = e.Key
		}
	}
}

func TestWithoutChangesNothingIsCopied(t *testing.T) {
	s := (&snapshot{}).with(changes(map[string][]byte{"a": []byte("1")}))
	if s.with(changes(nil)) != s {
		t.Error("a snapshot was copied for nothing")
	}
	if got := s.with(changes(map[string][]byte{"a": nil})); len(got.pages) != 0 {
		t.Error("deleting the last key left a page")
	}
	if got := (&snapshot{}).with(changes(map[string][]byte{"a": nil})); len(got.pages) != 0 {
		t.Error("deleting from an empty map made a page")
	}
}

func TestCloseGivesTheDataUp(t *testing.T) {
	s := New()
	err := s.Update(context.Background(), func(tx store.Tx) error { return tx.Put("k", []byte("v")) })
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := len(s.current.Load().pages); n != 0 {
		t.Errorf("a closed store holds %d pages", n)
	}
}

func BenchmarkUpdate(b *testing.B) {
	for _, records := range []int{100, 100_000} {
		b.Run(fmt.Sprintf("records=%d", records), func(b *testing.B) {
			s := New()
			key := func(i int) string { return fmt.Sprintf("token/id/%08d", i*7919%records) }
			write := func(from, to int) {
				err := s.Update(context.Background(), func(tx store.Tx) error {
					for i := from; i < to; i++ {
						if err := tx.Put(key(i), []byte("value")); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			write(0, records)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				write(i, i+1)
			}
		})
	}
}
