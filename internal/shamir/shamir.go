// Package shamir splits a key into shares and combines shares into the key: Shamir's scheme over GF(2^8), byte by
// byte, in the share format of the Vault family.
//
// It promises constant time in everything secret: no table, and no branch or index that depends on a byte of the key,
// of a share's y or of a coefficient. Numbers, lengths and x coordinates are public. It does not promise to notice a
// wrong share: combining one gives a wrong key, so every share is checked against its verifier before it comes here.
package shamir

import (
	"errors"
	"fmt"
	"io"
)

// MaxShares is how many distinct non-zero x coordinates the field has.
const MaxShares = 255

// Split divides key into n shares, any threshold of which give it back. A share is len(key)+1 bytes: one y per byte
// of the key, then x; the x of the i-th share is i+1. It takes (threshold-1)*len(key) bytes of rand and uses them as
// coefficients as they are: a top coefficient of zero is as likely as any other value, since a scheme that forbids it
// tells a little about the key with every split. The limits are 2 <= threshold <= n <= MaxShares.
func Split(rand io.Reader, key []byte, n, threshold int) ([][]byte, error) {
	switch {
	case len(key) == 0:
		return nil, errors.New("there is no key to split: give at least one byte")
	case n < 2 || n > MaxShares:
		return nil, fmt.Errorf("a key can't be split into %d shares: choose 2 to %d", n, MaxShares)
	case threshold < 2 || threshold > n:
		return nil, fmt.Errorf("a threshold of %d doesn't fit %d shares: choose 2 to %d", threshold, n, n)
	}
	coefficients := make([]byte, (threshold-1)*len(key))
	defer clear(coefficients)
	if _, err := io.ReadFull(rand, coefficients); err != nil {
		return nil, fmt.Errorf("reading random bytes to split the key: %w", err)
	}
	shares := make([][]byte, n)
	for i := range shares {
		x := byte(i + 1)
		shares[i] = make([]byte, len(key)+1)
		evaluate(shares[i][:len(key)], key, coefficients, x)
		shares[i][len(key)] = x
	}
	return shares, nil
}

// Combine gives back the key that exactly threshold shares of one split hold. Shares must be of one length, with
// distinct x coordinates that aren't zero; their order doesn't matter. No error says anything about their bytes.
func Combine(shares [][]byte, threshold int) ([]byte, error) {
	if threshold < 2 || threshold > MaxShares {
		return nil, fmt.Errorf("%d shares can't be combined: a threshold is 2 to %d", threshold, MaxShares)
	}
	if len(shares) != threshold {
		return nil, fmt.Errorf("%d shares were given where %d are needed", len(shares), threshold)
	}
	xs, err := coordinates(shares)
	if err != nil {
		return nil, err
	}
	key := make([]byte, len(shares[0])-1)
	for i, share := range shares {
		accumulate(key, share, weight(xs, i))
	}
	return key, nil
}

// coordinates returns the x of each share, and refuses a set that can't be combined.
func coordinates(shares [][]byte) ([]byte, error) {
	var seen [MaxShares + 1]bool
	xs := make([]byte, len(shares))
	for i, share := range shares {
		if len(share) < 2 || len(share) != len(shares[0]) {
			return nil, errors.New("the shares are not of one length: give shares of the same split")
		}
		x := share[len(share)-1]
		if x == 0 {
			return nil, errors.New("a share has the x coordinate 0, which no split makes: give another one")
		}
		if seen[x] {
			return nil, errors.New("two shares have the same x coordinate: give shares of different holders")
		}
		seen[x] = true
		xs[i] = x
	}
	return xs, nil
}

// weight is the Lagrange basis polynomial of xs[i] at zero: the product of x/(x-xs[i]) over the other xs.
func weight(xs []byte, i int) byte {
	numerator, denominator := byte(1), byte(1)
	for j, x := range xs {
		if j != i {
			numerator = mul(numerator, x)
			denominator = mul(denominator, x^xs[i])
		}
	}
	return mul(numerator, inverse(denominator))
}

// evaluate sets out to the polynomials' values at x, one polynomial per byte of key: its constant term is that byte,
// its higher terms stand at the same place in each len(key) bytes of coefficients, the top one first.
func evaluate(out, key, coefficients []byte, x byte) {
	clear(out)
	for len(coefficients) > 0 {
		for i := range out {
			out[i] = mul(out[i], x) ^ coefficients[i]
		}
		coefficients = coefficients[len(out):]
	}
	for i := range out {
		out[i] = mul(out[i], x) ^ key[i]
	}
}

// accumulate adds w times the y bytes of a share to sum.
func accumulate(sum, share []byte, w byte) {
	for i := range sum {
		sum[i] ^= mul(w, share[i])
	}
}

// mul multiplies in GF(2^8) modulo x^8+x^4+x^3+x+1 (0x11b): doubling a running sum and adding a for each bit of b,
// with masks in place of branches.
func mul(a, b byte) byte {
	var sum byte
	for bit := 7; bit >= 0; bit-- {
		sum = sum<<1 ^ -(sum>>7)&0x1b
		sum ^= -(b >> bit & 1) & a
	}
	return sum
}

// inverse is a^254, which is 1/a for every a but 0, and 0 for 0: the product of a^2, a^4, ..., a^128.
func inverse(a byte) byte {
	power, product := a, byte(1)
	for range 7 {
		power = mul(power, power)
		product = mul(product, power)
	}
	return product
}
