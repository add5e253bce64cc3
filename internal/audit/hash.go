package audit

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"
	"maps"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/quorate/quorate/internal/secret"
)

// whileSealed stands for every value when there is no key to make an HMAC with.
const whileSealed = `"redacted-while-sealed"`

// hasher makes the HMACs of one line. A nil hasher is a sealed server's.
type hasher struct {
	mac     hash.Hash
	sum     []byte
	scratch [utf8.UTFMax]byte
}

func newHasher(salt secret.Bytes) *hasher {
	return &hasher{mac: hmac.New(sha256.New, salt.Reveal()), sum: make([]byte, 0, sha256.Size)}
}

// append appends what stands for value.
func (h *hasher) append(buf, value []byte) []byte {
	h.mac.Reset()
	h.mac.Write(value)
	return h.finish(buf)
}

func (h *hasher) finish(buf []byte) []byte {
	h.sum = h.mac.Sum(h.sum[:0])
	return hex.AppendEncode(append(buf, "hmac-sha256:"...), h.sum)
}

// appendQuoted is append between quotation marks.
func (h *hasher) appendQuoted(buf, value []byte) []byte {
	if h == nil {
		return append(buf, whileSealed...)
	}
	return append(h.append(append(buf, '"'), value), '"')
}

// appendString appends what stands for the string that the inner part of a JSON string means. The string is never put
// together in memory.
func (h *hasher) appendString(buf, inner []byte) []byte {
	if h == nil || bytes.IndexByte(inner, '\\') < 0 {
		return h.appendQuoted(buf, inner)
	}
	h.mac.Reset()
	for len(inner) > 0 {
		i := bytes.IndexByte(inner, '\\')
		if i < 0 {
			i = len(inner)
		}
		h.mac.Write(inner[:i])
		if inner = inner[i:]; len(inner) > 0 {
			r, n := unescape(inner)
			h.mac.Write(utf8.AppendRune(h.scratch[:0], r))
			inner = inner[n:]
		}
	}
	clear(h.scratch[:])
	return append(h.finish(append(buf, '"')), '"')
}

// unescape returns what the escape at the beginning of s means, and its length. s is from valid JSON. Half of a
// surrogate pair becomes U+FFFD, as in encoding/json.
func unescape(s []byte) (rune, int) {
	switch s[1] {
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		r := hex4(s[2:6])
		if !utf16.IsSurrogate(r) {
			return r, 6
		}
		if len(s) >= 12 && s[6] == '\\' && s[7] == 'u' {
			if whole := utf16.DecodeRune(r, hex4(s[8:12])); whole != utf8.RuneError {
				return whole, 12
			}
		}
		return utf8.RuneError, 6
	}
	return rune(s[1]), 2 // itself: a quotation mark or a slash of either kind
}

func hex4(digits []byte) rune {
	var b [2]byte
	hex.Decode(b[:], digits)
	return rune(b[0])<<8 | rune(b[1])
}

// appendHashed appends the JSON of raw with an HMAC in the place of every string and of every number. The names of
// fields stay, and true, false and null do; so does the whole value of an outermost field that is in clear. With elide,
// the outermost fields keys and key_info, which are the answer to a list, become the number of what is in them.
func appendHashed(buf, raw []byte, clear map[string]bool, h *hasher, elide bool) []byte {
	if !json.Valid(raw) {
		buf = append(buf, `{"unparsed":`...)
		return append(h.appendQuoted(buf, raw), '}')
	}
	depth, show, outside := 0, false, true // outside of an object that is the whole value
	for i := 0; i < len(raw); {
		n := tokenLen(raw[i:])
		token := raw[i : i+n]
		i += n
		switch c := token[0]; c {
		case ' ', '\t', '\n', '\r':
		case '{', '[':
			outside = outside && !(c == '{' && depth == 0)
			depth++
			buf = append(buf, c)
		case '}', ']':
			depth--
			buf = append(buf, c)
		case ',', ':', 't', 'f', 'n':
			buf = append(buf, token...)
		case '"':
			inner := token[1 : n-1]
			switch {
			case isName(raw[i:]):
				buf = appendValid(buf, token)
				if depth > 1 || outside {
					break
				}
				show = clear[string(inner)]
				if s := string(inner); elide && (s == "keys" || s == "key_info") {
					count, length := countElements(raw[i:])
					buf = strconv.AppendInt(append(buf, ':'), int64(count), 10)
					i += length
				}
			case show:
				buf = appendValid(buf, token)
			default:
				buf = h.appendString(buf, inner)
			}
		default: // a number
			if show {
				buf = append(buf, token...)
			} else {
				buf = h.appendQuoted(buf, token)
			}
		}
	}
	return buf
}

// tokenLen is the length of the token at the beginning of s, which is a part of valid JSON.
func tokenLen(s []byte) int {
	switch s[0] {
	case '{', '}', '[', ']', ',', ':', ' ', '\t', '\n', '\r':
		return 1
	case '"':
		for i := 1; ; i++ {
			switch s[i] {
			case '"':
				return i + 1
			case '\\':
				i++
			}
		}
	}
	if n := bytes.IndexAny(s, "{}[],: \t\n\r\""); n > 0 {
		return n
	}
	return len(s)
}

// isName reports whether the string before rest is the name of a field.
func isName(rest []byte) bool {
	rest = bytes.TrimLeft(rest, " \t\n\r")
	return len(rest) > 0 && rest[0] == ':'
}

// countElements returns the number of elements in the value after a name, none if it is not a list or an object, and how
// long all of that is.
func countElements(rest []byte) (count, length int) {
	for depth := 0; length < len(rest); {
		switch c := rest[length]; {
		case depth == 0 && (c == ',' || c == '}'):
			return count, length
		case c == '}' || c == ']':
			depth--
		case c == ',' && depth == 1:
			count++
		case c == ',' || c == ':' || c == ' ' || c == '\t' || c == '\n' || c == '\r':
		default:
			if depth > 0 {
				count = max(count, 1)
			}
			if c == '{' || c == '[' {
				depth++
			}
		}
		length += tokenLen(rest[length:])
	}
	return count, length
}

// appendValid appends JSON as it is, but with U+FFFD for what is not UTF-8.
func appendValid(buf, text []byte) []byte {
	if utf8.Valid(text) {
		return append(buf, text...)
	}
	return append(buf, bytes.ToValidUTF8(text, []byte(string(utf8.RuneError)))...)
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
