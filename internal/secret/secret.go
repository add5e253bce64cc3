// Package secret holds bytes that must not be seen: a type that prints as [redacted] and can be wiped, and a small
// arena of locked memory for the keys that live as long as a server is unsealed.
//
// It promises that no formatting verb, log handler or JSON encoder shows the bytes. It does not promise that the Go
// runtime or the kernel kept no other copy: callers wipe what they own, as early as they can.
package secret

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
)

const redacted = "[redacted]"

// Bytes is a secret. The zero value is empty. Copies share the same memory: wiping one wipes all.
//
// Package fmt can't call the methods of an unexported field: it prints what is in it, and follows a pointer to a
// struct in some of its error messages. A pointer to a pointer it prints as an address.
type Bytes struct {
	_ [0]func() // not comparable: == would compare addresses
	m **memory
}

// memory is what copies of a Bytes share.
type memory struct {
	b    []byte
	gone atomic.Bool // the arena that b is in has been closed
}

// Own takes over b: the caller must not keep or use it any more.
func Own(b []byte) Bytes {
	m := &memory{b: b}
	return Bytes{m: &m}
}

// Copy makes a secret of a copy of b; the caller still owns, and should wipe, b.
func Copy(b []byte) Bytes { return Own(append([]byte(nil), b...)) }

// Reveal returns the bytes themselves, not a copy. What is done with them is the caller's responsibility. It panics
// when they were in an arena that has been closed: an empty key must never pass for the real one.
func (s Bytes) Reveal() []byte {
	if s.m == nil {
		return nil
	}
	m := *s.m
	if m.gone.Load() {
		panic("a secret was used after its arena had been closed")
	}
	return m.b
}

// Len is the number of bytes.
func (s Bytes) Len() int { return len(s.Reveal()) }

// Empty reports whether there is nothing in s.
func (s Bytes) Empty() bool { return s.Len() == 0 }

// Equal compares in constant time; only the lengths may be learned.
func (s Bytes) Equal(t Bytes) bool { return subtle.ConstantTimeCompare(s.Reveal(), t.Reveal()) == 1 }

// Wipe overwrites the bytes with zeros. What was in a closed arena is wiped already.
func (s Bytes) Wipe() {
	if s.m != nil && !(*s.m).gone.Load() {
		clear((*s.m).b)
	}
}

// String, Format, LogValue, MarshalJSON and MarshalText all say [redacted].
func (s Bytes) String() string { return redacted }

// Format implements fmt.Formatter for every verb.
func (s Bytes) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// LogValue implements slog.LogValuer.
func (s Bytes) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON implements json.Marshaler.
func (s Bytes) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText implements encoding.TextMarshaler.
func (s Bytes) MarshalText() ([]byte, error) { return []byte(redacted), nil }
