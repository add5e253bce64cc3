package shamir

import (
	"crypto/rand"
	"fmt"
	"testing"
)

var sizes = []struct{ threshold, n int }{{3, 5}, {128, 255}}

func BenchmarkSplit(b *testing.B) {
	key := randomKey(rand.Reader, 32)
	for _, s := range sizes {
		b.Run(fmt.Sprintf("%d_of_%d", s.threshold, s.n), func(b *testing.B) {
			for b.Loop() {
				mustSplit(b, rand.Reader, key, s.n, s.threshold)
			}
		})
	}
}

func BenchmarkCombine(b *testing.B) {
	key := randomKey(rand.Reader, 32)
	for _, s := range sizes {
		shares := mustSplit(b, rand.Reader, key, s.n, s.threshold)[:s.threshold]
		b.Run(fmt.Sprintf("%d_of_%d", s.threshold, s.n), func(b *testing.B) {
			for b.Loop() {
				if _, err := Combine(shares, s.threshold); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
