package shamir

import (
	"bytes"
	"slices"
	"testing"
)

// FuzzCombine gives Combine what storage or a client could: it must not panic, must refuse exactly what the rules say,
// and what it accepts must be the value at zero of the polynomial through the shares.
func FuzzCombine(f *testing.F) {
	split, err := Split(seeded(9), []byte("key!"), 5, 3)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(slices.Concat(split[:3]...), uint8(5), uint8(3))       // good
	f.Add(slices.Concat(split[:2]...), uint8(5), uint8(3))       // too few
	f.Add(slices.Concat(split...), uint8(5), uint8(3))           // too many
	f.Add(slices.Concat(split[1], split[1]), uint8(5), uint8(2)) // the same twice
	f.Add([]byte("key!\x00key?\x01"), uint8(5), uint8(2))        // x = 0
	f.Add([]byte("short\x01shorter\x02"), uint8(6), uint8(2))    // mixed lengths
	f.Add([]byte("\x01\x02"), uint8(1), uint8(2))                // only x
	f.Add([]byte{}, uint8(0), uint8(0))                          // nothing
	f.Add(bytes.Repeat([]byte{0xff}, 66), uint8(33), uint8(2))   // x = 255, twice
	f.Fuzz(func(t *testing.T, data []byte, size, threshold uint8) {
		shares := slices.Collect(slices.Chunk(data, max(int(size), 1)))
		key, err := Combine(shares, int(threshold))
		if acceptable := wellFormed(shares, int(threshold)); acceptable != (err == nil) {
			t.Fatalf("acceptable: %v, error: %v", acceptable, err)
		}
		if err != nil {
			if key != nil {
				t.Fatal("a key and an error")
			}
			return
		}
		if want := referenceCombine(shares); !bytes.Equal(key, want) {
			t.Fatalf("got %x, want %x", key, want)
		}
	})
}

// wellFormed is the rule, said in another way.
func wellFormed(shares [][]byte, threshold int) bool {
	xs := map[byte]bool{}
	for _, share := range shares {
		if len(share) < 2 || len(share) != len(shares[0]) {
			return false
		}
		xs[share[len(share)-1]] = true
	}
	return threshold >= 2 && len(shares) == threshold && len(xs) == threshold && !xs[0]
}

// referenceCombine is Neville's scheme: it joins polynomials through neighbouring points until one is left.
func referenceCombine(shares [][]byte) []byte {
	size := len(shares[0]) - 1
	key := make([]byte, size)
	for i := range key {
		values := make([]byte, len(shares))
		for j := range shares {
			values[j] = shares[j][i]
		}
		for width := 1; width < len(shares); width++ {
			for j := range len(shares) - width {
				low, high := shares[j][size], shares[j+width][size]
				sum := referenceMul(high, values[j]) ^ referenceMul(low, values[j+1])
				values[j] = referenceMul(sum, referenceInverse(low^high))
			}
		}
		key[i] = values[0]
	}
	return key
}

// FuzzSplit: what Split accepts, Combine takes back, from the first shares as from the last.
func FuzzSplit(f *testing.F) {
	f.Add([]byte("k"), uint8(2), uint8(2), uint8(0))
	f.Add([]byte("thirty-two bytes of a root key.."), uint8(5), uint8(3), uint8(1))
	f.Add([]byte("thirty-two bytes of a root key.."), uint8(255), uint8(128), uint8(2))
	f.Add([]byte{}, uint8(1), uint8(1), uint8(3))
	f.Add([]byte{0, 0}, uint8(3), uint8(4), uint8(4))
	f.Fuzz(func(t *testing.T, key []byte, n, threshold, seed uint8) {
		shares, err := Split(seeded(seed), key, int(n), int(threshold))
		if acceptable := len(key) > 0 && threshold >= 2 && threshold <= n; acceptable != (err == nil) {
			t.Fatalf("acceptable: %v, error: %v", acceptable, err)
		}
		if err != nil {
			return
		}
		for _, part := range [][][]byte{shares[:threshold], shares[n-threshold:]} {
			got, err := Combine(part, int(threshold))
			if err != nil || !bytes.Equal(got, key) {
				t.Fatalf("wrong key, or error %v", err)
			}
		}
	})
}
