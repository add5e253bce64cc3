package shamir

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// seeded is a reader of bytes that are the same in every run.
func seeded(seed byte) io.Reader { return mathrand.NewChaCha8([32]byte{seed}) }

func mustSplit(t testing.TB, rand io.Reader, key []byte, n, threshold int) [][]byte {
	t.Helper()
	shares, err := Split(rand, key, n, threshold)
	if err != nil {
		t.Fatal(err)
	}
	return shares
}

func randomKey(r io.Reader, size int) []byte {
	key := make([]byte, size)
	if _, err := io.ReadFull(r, key); err != nil {
		panic(err)
	}
	return key
}

// T39: every t-subset of every small split, in every rotation of its order.
func TestEverySubsetOfSmallSplits(t *testing.T) {
	r := seeded(39)
	for n := 2; n <= 12; n++ {
		for threshold := 2; threshold <= n; threshold++ {
			key := randomKey(r, 5)
			shares := mustSplit(t, r, key, n, threshold)
			for subset := range subsets(shares, threshold) {
				rotated := append(slices.Clone(subset[1:]), subset[0])
				for _, order := range [][][]byte{subset, rotated} {
					got, err := Combine(order, threshold)
					if err != nil || !bytes.Equal(got, key) {
						t.Fatalf("n=%d t=%d: Combine: wrong key, error %v", n, threshold, err)
					}
				}
			}
		}
	}
}

// subsets yields every choice of size shares, in order.
func subsets(shares [][]byte, size int) func(yield func([][]byte) bool) {
	return func(yield func([][]byte) bool) {
		for bits := range 1 << len(shares) {
			var subset [][]byte
			for i, share := range shares {
				if bits>>i&1 == 1 {
					subset = append(subset, share)
				}
			}
			if len(subset) == size && !yield(subset) {
				return
			}
		}
	}
}

// T39: random splits up to the largest, with fresh randomness each run.
func TestRandomSplits(t *testing.T) {
	for i := range 40 {
		n := 2 + mathrand.IntN(MaxShares-1)
		threshold := 2 + mathrand.IntN(n-1)
		if i == 0 {
			n, threshold = MaxShares, MaxShares
		}
		key := randomKey(rand.Reader, 1+mathrand.IntN(64))
		shares := mustSplit(t, rand.Reader, key, n, threshold)
		mathrand.Shuffle(n, func(i, j int) { shares[i], shares[j] = shares[j], shares[i] })
		got, err := Combine(shares[:threshold], threshold)
		if err != nil || !bytes.Equal(got, key) {
			t.Fatalf("n=%d t=%d: Combine: wrong key, error %v", n, threshold, err)
		}
	}
}

// Fewer shares than the threshold combine into something else, even when the caller is wrong about the threshold.
func TestTooFewSharesGiveAnotherKey(t *testing.T) {
	r := seeded(1)
	for threshold := 3; threshold <= 12; threshold++ {
		key := randomKey(r, 32)
		shares := mustSplit(t, r, key, 12, threshold)
		for fewer := 2; fewer < threshold; fewer++ {
			got, err := Combine(shares[:fewer], fewer)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Equal(got, key) {
				t.Errorf("%d of %d needed shares gave the key", fewer, threshold)
			}
		}
	}
}

// One share below the threshold says nothing at all: over all coefficients, every value of it is as frequent, for
// every key.
func TestPerfectSecrecy(t *testing.T) {
	for _, key := range []byte{0, 1, 0x53, 0xff} {
		for x := 1; x <= 4; x++ {
			var seen [256]int
			for c := range 256 {
				share := mustSplit(t, bytes.NewReader([]byte{byte(c)}), []byte{key}, 4, 2)[x-1]
				seen[share[0]]++
			}
			if slices.Max(seen[:]) != 1 {
				t.Fatalf("threshold 2, key %#x: the y at x=%d is not uniform", key, x)
			}
		}
		seen := make([]int, 65536)
		for c := range 65536 {
			shares := mustSplit(t, bytes.NewReader([]byte{byte(c >> 8), byte(c)}), []byte{key}, 3, 3)
			seen[int(shares[0][0])<<8|int(shares[2][0])]++
		}
		if slices.Max(seen) != 1 {
			t.Fatalf("threshold 3, key %#x: the y at x=1 and x=3 together are not uniform", key)
		}
	}
}

// The share format: y bytes, then x; the random bytes are the coefficients, the polynomial's top one first.
func TestSplitAgainstReference(t *testing.T) {
	r := seeded(2)
	for _, c := range []struct{ size, n, threshold int }{{1, 2, 2}, {32, 5, 3}, {32, 7, 7}, {3, 255, 20}} {
		key := randomKey(r, c.size)
		coefficients := randomKey(r, (c.threshold-1)*c.size)
		shares := mustSplit(t, bytes.NewReader(coefficients), key, c.n, c.threshold)
		if len(shares) != c.n {
			t.Fatalf("%+v: %d shares", c, len(shares))
		}
		for i, share := range shares {
			x := byte(i + 1)
			if len(share) != c.size+1 || share[c.size] != x {
				t.Fatalf("%+v: share %d has %d bytes, or the wrong x", c, i, len(share))
			}
			for j := range key {
				if want := referencePolynomial(key[j], column(coefficients, c.size, j), x); share[j] != want {
					t.Fatalf("%+v: share %d, byte %d: got %#x, want %#x", c, i, j, share[j], want)
				}
			}
		}
	}
}

// column returns what stands at place j in each size bytes of b, last first: coefficients of x, x^2, ...
func column(b []byte, size, j int) []byte {
	var c []byte
	for ; j < len(b); j += size {
		c = append(c, b[j])
	}
	slices.Reverse(c)
	return c
}

// A split made on paper with the multiplication table of FIPS 197: f(x) = 0x57 + 0x83 x at x = 1, 2 and 0x57.
func TestKnownSplit(t *testing.T) {
	shares := mustSplit(t, bytes.NewReader([]byte{0x83}), []byte{0x57}, 0x57, 2)
	for _, want := range [][]byte{{0x57 ^ 0x83, 1}, {0x57 ^ 0x1d, 2}, {0x57 ^ 0xc1, 0x57}} {
		if got := shares[want[1]-1]; !bytes.Equal(got, want) {
			t.Errorf("share %d: got %x, want %x", want[1], got, want)
		}
	}
	key, err := Combine([][]byte{{0x57 ^ 0xc1, 0x57}, {0x57 ^ 0x1d, 2}}, 2)
	if err != nil || key[0] != 0x57 {
		t.Errorf("Combine: got %x, %v", key, err)
	}
}

func TestSplitRefuses(t *testing.T) {
	key := []byte("canary-canary-canary-canary-1234")
	for _, c := range []struct {
		name         string
		key          []byte
		n, threshold int
	}{
		{"no key", nil, 3, 2},
		{"empty key", []byte{}, 3, 2},
		{"no shares", key, 0, 0},
		{"negative shares", key, -1, 2},
		{"one share", key, 1, 1},
		{"threshold one", key, 3, 1},
		{"threshold zero", key, 3, 0},
		{"negative threshold", key, 3, -2},
		{"threshold over shares", key, 3, 4},
		{"too many shares", key, 256, 3},
		{"far too many shares", key, math.MaxInt, math.MaxInt},
	} {
		t.Run(c.name, func(t *testing.T) {
			shares, err := Split(noRead{t}, c.key, c.n, c.threshold)
			if err == nil || shares != nil {
				t.Fatalf("got %d shares, error %v; want a refusal", len(shares), err)
			}
			checkSilent(t, err, key)
		})
	}
}

// noRead fails the test when random bytes are taken for a split that is refused.
type noRead struct{ t *testing.T }

func (r noRead) Read([]byte) (int, error) {
	r.t.Error("random bytes were taken")
	return 0, io.EOF
}

// T13, T14, T15: what the last line of defence refuses; each share is checked before, against its verifier.
func TestCombineRefuses(t *testing.T) {
	key := []byte("canary-canary-canary-canary-1234")
	s := mustSplit(t, seeded(3), key, 5, 3)
	otherY := slices.Clone(s[0])
	otherY[7] ^= 0x40
	zero := append(slices.Clone(s[2][:32]), 0)
	for _, c := range []struct {
		name      string
		shares    [][]byte
		threshold int
	}{
		{"nothing", nil, 3},
		{"nothing of nothing", nil, 0},
		{"one of one", s[:1], 1},
		{"negative threshold", s[:1], -1},
		{"too few", s[:2], 3},
		{"too many", s[:4], 3},
		{"all, threshold over 255", make([][]byte, 256), 256},
		{"nil shares", make([][]byte, 3), 3},
		{"only an x", [][]byte{{1}, {2}, {3}}, 3},
		{"empty among others", [][]byte{s[0], s[1], {}}, 3},
		{"16 bytes among others", [][]byte{s[0], s[1], s[2][17:]}, 3},
		{"32 bytes among others", [][]byte{s[0], s[1], s[2][1:]}, 3},
		{"34 bytes among others", [][]byte{s[0], s[1], append([]byte{0}, s[2]...)}, 3},
		{"1 MiB among others", [][]byte{s[0], s[1], append(make([]byte, 1<<20), 3)}, 3},
		{"first is short", [][]byte{s[0][1:], s[1], s[2]}, 3},
		{"x = 0", [][]byte{s[0], s[1], zero}, 3},
		{"x = 0 first", [][]byte{zero, s[0], s[1]}, 3},
		{"the same share twice", [][]byte{s[0], s[1], s[0]}, 3},
		{"same x, other y", [][]byte{s[0], s[1], otherY}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Combine(c.shares, c.threshold)
			if err == nil || got != nil {
				t.Fatalf("got %d bytes, error %v; want a refusal", len(got), err)
			}
			checkSilent(t, err, key)
			for _, share := range s {
				checkSilent(t, err, share)
			}
		})
	}
}

// checkSilent fails when an error shows b in one of the ways that bytes are printed, or four bytes of it.
func checkSilent(t *testing.T, err error, b []byte) {
	t.Helper()
	if len(b) < 4 {
		return
	}
	text := err.Error()
	for _, form := range []string{
		string(b[:4]), hex.EncodeToString(b[:4]), base64.StdEncoding.EncodeToString(b[:3]),
		strings.Trim(fmt.Sprint(b[:4]), "[]"),
	} {
		if strings.Contains(text, form) {
			t.Errorf("the error shows secret bytes: %q", text)
		}
	}
}

// T12, T15: a share with one wrong bit always gives another key, so the loss is never silent agreement.
func TestOneWrongBitChangesTheKey(t *testing.T) {
	r := seeded(4)
	key := randomKey(r, 4)
	shares := mustSplit(t, r, key, 6, 4)[2:]
	for i := range shares {
		for bit := range 8 * 4 {
			shares[i][bit/8] ^= 1 << (bit % 8)
			got, err := Combine(shares, 4)
			shares[i][bit/8] ^= 1 << (bit % 8)
			if err != nil || bytes.Equal(got, key) {
				t.Fatalf("share %d, bit %d: same key, or error %v", i, bit, err)
			}
		}
	}
}

func TestInputsAreLeftAlone(t *testing.T) {
	r := seeded(5)
	key := randomKey(r, 32)
	before := slices.Clone(key)
	shares := mustSplit(t, r, key, 5, 3)
	if !bytes.Equal(key, before) {
		t.Error("Split changed the key")
	}
	copies := make([][]byte, len(shares))
	for i, share := range shares {
		copies[i] = slices.Clone(share)
	}
	combined, err := Combine(shares[1:4], 3)
	if err != nil {
		t.Fatal(err)
	}
	clear(combined)
	for i := range shares {
		if !bytes.Equal(shares[i], copies[i]) {
			t.Errorf("Combine changed share %d, or returned memory of it", i)
		}
	}
	_ = append(shares[0], 0xee)
	if !bytes.Equal(shares[1], copies[1]) {
		t.Error("shares lie in the same memory: wiping or growing one touches another")
	}
}

// T42: whichever read of random bytes fails, nothing comes out.
func TestFailingRandomness(t *testing.T) {
	broken := errors.New("the random source is broken")
	const size, n, threshold = 8, 5, 4
	key := []byte("canary-8")
	for good := range size * (threshold - 1) {
		for name, r := range map[string]io.Reader{
			"error": io.MultiReader(io.LimitReader(seeded(6), int64(good)), iotest.ErrReader(broken)),
			"end":   io.LimitReader(seeded(6), int64(good)),
			"error, byte by byte": iotest.OneByteReader(
				io.MultiReader(io.LimitReader(seeded(6), int64(good)), iotest.ErrReader(broken))),
		} {
			shares, err := Split(r, key, n, threshold)
			if err == nil || shares != nil {
				t.Fatalf("%s after %d bytes: %d shares, error %v", name, good, len(shares), err)
			}
			if name != "end" && !errors.Is(err, broken) {
				t.Errorf("%s after %d bytes: the cause is lost: %v", name, good, err)
			}
			checkSilent(t, err, key)
		}
	}
}

// T42: short reads are no failure, and no byte is taken twice or left out.
func TestShortReads(t *testing.T) {
	key := []byte("thirty-two bytes of a root key..")
	want := mustSplit(t, seeded(7), key, 5, 3)
	for name, r := range map[string]io.Reader{
		"byte by byte":         iotest.OneByteReader(seeded(7)),
		"half of what's asked": iotest.HalfReader(seeded(7)),
		"exactly enough":       io.LimitReader(seeded(7), 2*32),
		"with the end":         iotest.DataErrReader(io.LimitReader(seeded(7), 2*32)),
	} {
		got := mustSplit(t, r, key, 5, 3)
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%s: other shares", name)
		}
	}
}

// T41: coefficients are uniform, the top one too, and zero is allowed there. The source is seeded, so that the
// outcome is the same in every run.
func TestCoefficientsAreUniform(t *testing.T) {
	const splits, size, threshold = 2000, 32, 4
	r := seeded(41)
	key := randomKey(r, size)
	var counts [threshold - 1][256]int
	for range splits {
		shares := mustSplit(t, r, key, threshold, threshold)
		for i := range size {
			ys := make([]byte, threshold)
			for j, share := range shares {
				ys[j] = share[i]
			}
			polynomial := referenceInterpolate(ys)
			if polynomial[0] != key[i] {
				t.Fatal("the reference doesn't find the key in the shares")
			}
			for power, c := range polynomial[1:] {
				counts[power][c]++
			}
		}
	}
	const expected = float64(splits*size) / 256
	for power, count := range counts {
		chi := 0.0
		for _, n := range count {
			chi += (float64(n) - expected) * (float64(n) - expected) / expected
		}
		// With 255 degrees of freedom, one uniform source in 10,000 is above 347 and one in 10,000 below 177.
		if chi < 177 || chi > 347 {
			t.Errorf("coefficient of x^%d: chi-square %.0f", power+1, chi)
		}
		if zeros := float64(count[0]); zeros < expected/2 || zeros > expected*2 {
			t.Errorf("coefficient of x^%d: zero %v times, expected about %v", power+1, zeros, expected)
		}
	}
}

// T41: a zero coefficient is used as it is drawn, and not drawn again.
func TestZeroCoefficients(t *testing.T) {
	key := []byte{1, 2, 3}
	for _, share := range mustSplit(t, bytes.NewReader(make([]byte, 6)), key, 4, 3) {
		if !bytes.Equal(share[:3], key) {
			t.Errorf("share %d: zero coefficients were replaced", share[3])
		}
	}
}

// keeper remembers the memory that it filled, and fails after some bytes.
type keeper struct {
	left   int
	filled [][]byte
}

func (r *keeper) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, errors.New("the random source is broken")
	}
	n := min(len(p), r.left)
	r.left -= n
	r.filled = append(r.filled, p[:n])
	return copy(p, bytes.Repeat([]byte{0xaa}, n)), nil
}

// Coefficients are as secret as the key: they don't stay in memory.
func TestCoefficientsAreWiped(t *testing.T) {
	for _, left := range []int{2 * 32, 2*32 - 1} {
		r := &keeper{left: left}
		_, err := Split(r, make([]byte, 32), 5, 3)
		if failed := left < 2*32; failed != (err != nil) {
			t.Fatalf("after %d random bytes: error %v", left, err)
		}
		for _, p := range r.filled {
			if !bytes.Equal(p, make([]byte, len(p))) {
				t.Errorf("after %d random bytes: coefficients are still in memory", left)
			}
		}
	}
}
