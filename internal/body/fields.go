package body

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/fault"
)

// fields reads typed values from the object of a request. The first thing that is wrong is kept in err, after which
// every value is empty: a handler reads all it wants and then looks once.
//
// On raw endpoints names match in any case and types are strict. On logical endpoints (weak) names are exact and a
// number may come as a string, a list as a comma-separated one, a duration in seconds or as "1h".
// An absent field, null and, except for strings and lists, "" all mean "not given".
type Fields struct {
	members []member
	weak    bool
	err     error
	pieces  int      // of comma-separated lists so far: they count like the values of a JSON list
	owned   [][]byte // decoded into memory of their own; wiped with the body
}

// Decode finds the fields of a request body: one JSON object, or nothing at all. With strict, names match in any case
// and types are strict. The Fields point into text, which stays the caller's.
func Decode(text []byte, strict bool) (Fields, error) {
	members, err := parseObject(text, strict)
	return Fields{members: members, weak: !strict}, err
}

// Err is the first thing that was wrong with the values read so far: a fault of kind Invalid, or nil.
func (f *Fields) Err() error { return f.err }

// Fail notes what the reader of a value found wrong with it.
func (f *Fields) Fail(err error) {
	if f.err == nil {
		f.err = err
	}
}

// Own adds secrets to what Wipe overwrites.
func (f *Fields) Own(secrets ...[]byte) { f.owned = append(f.owned, secrets...) }

// Wipe overwrites what was decoded from the body into memory of its own.
func (f *Fields) Wipe() {
	for _, b := range f.owned {
		clear(b)
	}
}

// Names are the names of all fields, as they were sent.
func (f *Fields) Names() []string {
	names := make([]string, len(f.members))
	for i, m := range f.members {
		names[i] = string(m.name)
	}
	return names
}

// Object is all the fields as one JSON object, wiped with the body.
func (f *Fields) Object() []byte {
	size := 2
	for _, m := range f.members {
		size += 6*len(m.name) + len(m.value) + 4 // a name's byte takes up to six
	}
	text := append(make([]byte, 0, size), '{')
	for i, m := range f.members {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(quote(text, m.name), ':')
		text = append(text, m.value...)
	}
	text = append(text, '}')
	f.Own(text)
	return text
}

// unquote decodes a string that may be a secret.
func (f *Fields) unquote(raw []byte) []byte {
	text := unquote(raw)
	if len(text) != len(raw)-2 { // it had escapes, so it isn't a part of the body
		f.owned = append(f.owned, text)
	}
	return text
}

// Find returns the JSON text of a field; nil if it isn't there or is null.
func (f *Fields) Find(name string) []byte {
	if f.err != nil {
		return nil
	}
	for _, m := range f.members {
		if string(m.name) == name || !f.weak && bytes.EqualFold(m.name, []byte(name)) {
			if m.value[0] == 'n' {
				return nil
			}
			return m.value
		}
	}
	return nil
}

// Wrong notes that a field is of another type than it must be. name and want are never taken from a request.
func (f *Fields) Wrong(name, want string) {
	if f.err == nil {
		f.err = fault.Newf(fault.Invalid, "JSON decoding: the field %q must be %s", name, want)
	}
}

// Has reports whether a field is there and not null.
func (f *Fields) Has(name string) bool { return f.Find(name) != nil }

// Text returns a string as bytes, which are wiped with the body: whoever keeps them longer copies them.
func (f *Fields) Text(name string) []byte {
	raw := f.Find(name)
	if raw == nil {
		return nil
	}
	if raw[0] == '"' {
		return f.unquote(raw)
	}
	if f.weak && isNumber(raw) {
		return raw
	}
	f.Wrong(name, "a string")
	return nil
}

// Str is Text for what is no secret.
func (f *Fields) Str(name string) string { return string(f.Text(name)) }

func isNumber(raw []byte) bool { return raw[0] == '-' || '0' <= raw[0] && raw[0] <= '9' }

// scalar returns the text of a number or, where types are weak, of a string that may hold one.
func (f *Fields) scalar(raw []byte) string {
	if f.weak && raw[0] == '"' {
		return string(bytes.TrimSpace(unquote(raw)))
	}
	return string(raw)
}

// Int returns a whole number, 0 if not given.
func (f *Fields) Int(name string) int {
	raw := f.Find(name)
	if raw == nil {
		return 0
	}
	s := f.scalar(raw)
	if s == "" {
		return 0
	}
	n, err := strconv.Atoi(s)
	if err != nil || !f.weak && !isNumber(raw) {
		f.Wrong(name, "a whole number")
		return 0
	}
	return n
}

// Flag returns a boolean, absent if not given.
func (f *Fields) Flag(name string, absent bool) bool {
	raw := f.Find(name)
	if raw == nil {
		return absent
	}
	if !f.weak && raw[0] != 't' && raw[0] != 'f' {
		f.Wrong(name, "true or false")
		return false
	}
	s := f.scalar(raw)
	if s == "" {
		return absent
	}
	b, err := strconv.ParseBool(s)
	if err != nil {
		f.Wrong(name, "true or false")
	}
	return b
}

const wantDuration = `a duration that isn't negative: seconds, or text such as "90s", "30m", "1h" or "7d"`

// Duration returns a length of time, which is 0 if not given.
func (f *Fields) Duration(name string) time.Duration {
	raw := f.Find(name)
	if raw == nil {
		return 0
	}
	if raw[0] != '"' && !isNumber(raw) {
		f.Wrong(name, wantDuration)
		return 0
	}
	s := string(raw)
	if raw[0] == '"' {
		s = string(bytes.TrimSpace(unquote(raw)))
	}
	d, ok := ParseDuration(s)
	if !ok {
		f.Wrong(name, wantDuration)
	}
	return d
}

// ParseDuration reads seconds, days ("7d") or what time.ParseDuration does; nothing means 0.
func ParseDuration(s string) (time.Duration, bool) {
	if s == "" {
		return 0, true
	}
	unit := time.Second
	digits := s
	if days, ok := strings.CutSuffix(s, "d"); ok {
		digits, unit = days, 24*time.Hour
	}
	if n, err := strconv.ParseInt(digits, 10, 64); err == nil {
		if n < 0 || n > int64(math.MaxInt64/unit) {
			return 0, false
		}
		return time.Duration(n) * unit, true
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, false
	}
	return d, true
}

// Texts returns a list of strings as bytes, wiped with the body; where types are weak also from one comma-separated
// string.
func (f *Fields) Texts(name string) [][]byte {
	raw := f.Find(name)
	if raw == nil {
		return nil
	}
	var list [][]byte
	switch {
	case raw[0] == '[':
		for _, e := range elements(raw) {
			switch {
			case e[0] == '"':
				list = append(list, f.unquote(e))
			case f.weak && isNumber(e):
				list = append(list, e)
			default:
				f.Wrong(name, "a list of strings")
				return nil
			}
		}
	case f.weak && raw[0] == '"':
		return f.split(f.unquote(raw))
	case f.weak && isNumber(raw):
		list = append(list, raw)
	default:
		f.Wrong(name, "a list of strings")
	}
	return list
}

// split takes a comma-separated text apart.
func (f *Fields) split(text []byte) (list [][]byte) {
	if f.pieces += bytes.Count(text, []byte(",")) + 1; f.pieces > maxValues {
		f.err = errMany
		return nil
	}
	for part := range bytes.SplitSeq(text, []byte(",")) {
		if part = bytes.TrimSpace(part); len(part) > 0 {
			list = append(list, part)
		}
	}
	return list
}

// maxPerShare is how many holders a generation has at most.
const maxPerShare = 255

// PerShare is texts for a list that has a value for each key share. One that is longer than any generation is refused
// before anything is done with it.
func (f *Fields) PerShare(name string) [][]byte {
	list := f.Texts(name)
	if len(list) > maxPerShare {
		f.Wrong(name, wantPerShare)
		return nil
	}
	return list
}

var wantPerShare = fmt.Sprintf("a list of at most %d strings", maxPerShare)

// StrsPerShare is perShare for what is no secret.
func (f *Fields) StrsPerShare(name string) []string {
	var list []string
	for _, t := range f.PerShare(name) {
		list = append(list, string(t))
	}
	return list
}

// Lines returns a text, or the texts of a list as one with a line for each.
func (f *Fields) Lines(name string) string {
	if raw := f.Find(name); raw != nil && raw[0] == '[' {
		return string(bytes.Join(f.PerShare(name), []byte("\n")))
	}
	return f.Str(name)
}

// Strs is Texts for what is no secret. It is nil only if the field isn't there.
func (f *Fields) Strs(name string) []string {
	texts := f.Texts(name)
	if texts == nil && (f.err != nil || !f.Has(name)) {
		return nil
	}
	list := make([]string, len(texts))
	for i, t := range texts {
		list[i] = string(t)
	}
	return list
}

const wantMap = `an object whose values are strings, or a list of "name=value"`

// Pairs returns a map from names to strings: from an object, or from name=value texts. Weak types only.
func (f *Fields) Pairs(name string) map[string]string {
	raw := f.Find(name)
	if raw == nil {
		return nil
	}
	pairs := make(map[string]string)
	if raw[0] != '{' {
		for _, t := range f.Texts(name) {
			key, value, ok := bytes.Cut(t, []byte("="))
			if !ok {
				f.Wrong(name, wantMap)
				return nil
			}
			pairs[string(key)] = string(value)
		}
		return pairs
	}
	members, err := parseObject(raw, false)
	if err != nil {
		f.Wrong(name, wantMap)
		return nil
	}
	for _, m := range members {
		switch {
		case m.value[0] == '"':
			pairs[string(m.name)] = string(unquote(m.value))
		case isNumber(m.value):
			pairs[string(m.name)] = string(m.value)
		default:
			f.Wrong(name, wantMap)
			return nil
		}
	}
	return pairs
}

// Instant returns a time, the zero time if it isn't given.
func (f *Fields) Instant(name string) time.Time {
	s := f.Str(name)
	if s == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		f.Wrong(name, `a time, such as "2026-11-24T03:00:00.000Z"`)
	}
	return t
}
