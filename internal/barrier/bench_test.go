package barrier

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/quorate/quorate/internal/store"
)

func BenchmarkRecord(b *testing.B) {
	bar, _ := pair(b)
	ring := bar.ring.Load()
	for _, size := range []int{256, 4096} {
		value := bytes.Repeat([]byte("v"), size)
		const key = "secret/some/path/of/usual/length"
		aad := appendAAD(nil, key)
		record := sealRecord(ring.active(), value, aad)
		b.Run(fmt.Sprintf("seal/%d", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				sealRecord(ring.active(), value, aad)
			}
		})
		b.Run(fmt.Sprintf("open/%d", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			r := &reader{b: bar, ring: ring}
			for b.Loop() {
				if _, err := r.open(key, record); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkTransaction is a View of one record and an Update of one record, through the barrier and on the bare store.
func BenchmarkTransaction(b *testing.B) {
	bar, st := pair(b)
	value := bytes.Repeat([]byte("v"), 256)
	put(b, bar, "k", string(value))
	put(b, st, "bare", string(value))
	for _, s := range []struct {
		name, key string
		store     store.Store
	}{{"barrier", "k", bar}, {"bare", "bare", st}} {
		b.Run("view/"+s.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := s.store.View(ctx, func(r store.Reader) error { _, err := r.Get(s.key); return err }); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("update/"+s.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := s.store.Update(ctx, func(tx store.Tx) error { return tx.Put(s.key, value) }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
