package shamir

import (
	"math"
	mathrand "math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"
)

// T40: a timing test in the manner of dudect (Reparaz, Balasch, Verbauwhede, 2017): Combine of one fixed set of shares
// against random ones, in random order; Welch's t of the two. A branch on one bit of a share, or on a byte that is 0,
// gives a t of 500 to 9000; noise at most 3, and under the race detector 70, on a busy machine too. So the bound is 300;
// for a closer look, with more samples, it is 10: QUORATE_TIMING=1 go test -run Timing -v ./internal/shamir
func TestTiming(t *testing.T) {
	runs, bound := 50_000, 300.0
	if os.Getenv("QUORATE_TIMING") != "" {
		runs, bound = 200_000, 10
	}
	const warmUp = 1_000
	r := mathrand.NewChaCha8([32]byte{40})
	fixed := [][]byte{make([]byte, 33), make([]byte, 33), make([]byte, 33)}
	random := [][]byte{make([]byte, 33), make([]byte, 33), make([]byte, 33)}
	for i := range 3 {
		fixed[i][32], random[i][32] = byte(i+1), byte(i+1)
	}
	var times [2][]float64
	for run := range runs {
		class, shares := int(r.Uint64()&1), fixed
		for i := range random { // in both classes, so that the caches look alike
			_, _ = r.Read(random[i][:32])
		}
		if class == 1 {
			shares = random
		}
		start := time.Now()
		_, err := Combine(shares, 3)
		elapsed := time.Since(start)
		if err != nil {
			t.Fatal(err)
		}
		if run >= warmUp {
			times[class] = append(times[class], float64(elapsed))
		}
	}
	a, b := withoutTail(times[0]), withoutTail(times[1])
	meanA, varianceA := moments(a)
	meanB, varianceB := moments(b)
	score := (meanA - meanB) / math.Sqrt(varianceA/float64(len(a))+varianceB/float64(len(b)))
	t.Logf("fixed %.1f ns, random %.1f ns, t = %.2f", meanA, meanB, score)
	if math.Abs(score) > bound {
		t.Errorf("Combine's time depends on the shares: t = %.1f", score)
	}
}

// withoutTail drops the slowest tenth: interrupts, garbage collection.
func withoutTail(times []float64) []float64 {
	slices.Sort(times)
	return times[:len(times)*9/10]
}

func moments(sample []float64) (mean, variance float64) {
	for _, v := range sample {
		mean += v / float64(len(sample))
	}
	for _, v := range sample {
		variance += (v - mean) * (v - mean) / float64(len(sample)-1)
	}
	return mean, variance
}
