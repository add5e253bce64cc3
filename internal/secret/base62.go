package secret

import "io"

// Base62 is the alphabet of tokens, accessors and one-time passwords.
const Base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// AppendBase62 appends n base62 characters to dst, each as likely as any other. random must not fail: it panics if it
// does.
func AppendBase62(dst []byte, random io.Reader, n int) []byte {
	// Bytes from the largest multiple of 62 upwards are thrown away: a remainder would favour some characters.
	const fair = 256 / len(Base62) * len(Base62)
	var buf [48]byte
	defer clear(buf[:])
	for want := len(dst) + n; len(dst) < want; {
		if _, err := io.ReadFull(random, buf[:]); err != nil {
			panic("secret: the source of randomness failed")
		}
		for _, b := range buf {
			if int(b) < fair && len(dst) < want {
				dst = append(dst, Base62[int(b)%len(Base62)])
			}
		}
	}
	return dst
}
