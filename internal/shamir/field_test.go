package shamir

import "testing"

// The reference field: schoolbook multiplication of polynomials over GF(2), then long division by 0x11b. It shares no
// idea with the code that it checks.
func referenceMul(a, b byte) byte {
	var product uint
	for i := range 8 {
		for j := range 8 {
			product ^= uint(a>>i&1) * uint(b>>j&1) << (i + j)
		}
	}
	for degree := 14; degree >= 8; degree-- {
		if product>>degree&1 == 1 {
			product ^= 0x11b << (degree - 8)
		}
	}
	return byte(product)
}

// referenceInverse searches.
func referenceInverse(a byte) byte {
	for b := range 256 {
		if referenceMul(a, byte(b)) == 1 {
			return byte(b)
		}
	}
	return 0
}

// referencePolynomial adds up the terms; coefficients are of x, x^2, ...
func referencePolynomial(constant byte, coefficients []byte, x byte) byte {
	sum, power := constant, byte(1)
	for _, c := range coefficients {
		power = referenceMul(power, x)
		sum ^= referenceMul(c, power)
	}
	return sum
}

// referenceInterpolate returns the coefficients, constant first, of the polynomial through (1, ys[0]), (2, ys[1]), ...
// by Gaussian elimination of the Vandermonde matrix.
func referenceInterpolate(ys []byte) []byte {
	n := len(ys)
	rows := make([][]byte, n)
	for i := range rows {
		power := byte(1)
		for range n {
			rows[i] = append(rows[i], power)
			power = referenceMul(power, byte(i+1))
		}
		rows[i] = append(rows[i], ys[i])
	}
	for i := range rows {
		scale := inverse(rows[i][i]) // TestInverse checks it; searching would take most of the test's time
		for k := range rows[i] {
			rows[i][k] = referenceMul(rows[i][k], scale)
		}
		for j := range rows {
			if factor := rows[j][i]; j != i {
				for k := range rows[j] {
					rows[j][k] ^= referenceMul(factor, rows[i][k])
				}
			}
		}
	}
	out := make([]byte, n)
	for i := range rows {
		out[i] = rows[i][n]
	}
	return out
}

// T38: all 65,536 products.
func TestMul(t *testing.T) {
	for a := range 256 {
		for b := range 256 {
			if got, want := mul(byte(a), byte(b)), referenceMul(byte(a), byte(b)); got != want {
				t.Fatalf("%#x * %#x = %#x, want %#x", a, b, got, want)
			}
		}
	}
}

// T38: the products that FIPS 197 prints, section 4.2.
func TestMulKnown(t *testing.T) {
	for _, c := range [][3]byte{{0x57, 0x83, 0xc1}, {0x57, 0x13, 0xfe}, {0x57, 0x02, 0xae}, {0x57, 0x10, 0x07}} {
		if got := mul(c[0], c[1]); got != c[2] {
			t.Errorf("%#x * %#x = %#x, want %#x", c[0], c[1], got, c[2])
		}
	}
}

// T38: all inverses; zero has none and stays zero.
func TestInverse(t *testing.T) {
	for a := range 256 {
		got, want := inverse(byte(a)), referenceInverse(byte(a))
		if got != want {
			t.Fatalf("1/%#x = %#x, want %#x", a, got, want)
		}
		if a != 0 && mul(byte(a), got) != 1 {
			t.Fatalf("%#x times its inverse is not 1", a)
		}
	}
}
