package httpapi

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/seal"
)

// fields reads typed values from the object of a request. The first thing that is wrong is kept in err, after which
// every value is empty: a handler reads all it wants and then looks once.
//
// On raw endpoints names match in any case and types are strict. On logical endpoints (weak) names are exact and a
// number may come as a string, a list as a comma-separated one, a duration in seconds or as "1h".
// An absent field, null and, except for strings and lists, "" all mean "not given".
type fields struct {
	members []member
	weak    bool
	err     error
	pieces  int      // of comma-separated lists so far: they count like the values of a JSON list
	owned   [][]byte // decoded into memory of their own; wiped with the body
}

// unquote decodes a string that may be a secret.
func (f *fields) unquote(raw []byte) []byte {
	text := unquote(raw)
	if len(text) != len(raw)-2 { // it had escapes, so it isn't a part of the body
		f.owned = append(f.owned, text)
	}
	return text
}

// find returns the JSON text of a field; nil if it isn't there or is null.
func (f *fields) find(name string) []byte {
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

// wrong notes that a field is of another type than it must be. name and want are never taken from a request.
func (f *fields) wrong(name, want string) {
	if f.err == nil {
		f.err = fault.Newf(fault.Invalid, "JSON decoding: the field %q must be %s", name, want)
	}
}

// has reports whether a field is there and not null.
func (f *fields) has(name string) bool { return f.find(name) != nil }

// text returns a string as bytes, which are wiped with the body: whoever keeps them longer copies them.
func (f *fields) text(name string) []byte {
	raw := f.find(name)
	if raw == nil {
		return nil
	}
	if raw[0] == '"' {
		return f.unquote(raw)
	}
	if f.weak && isNumber(raw) {
		return raw
	}
	f.wrong(name, "a string")
	return nil
}

// str is text for what is no secret.
func (f *fields) str(name string) string { return string(f.text(name)) }

func isNumber(raw []byte) bool { return raw[0] == '-' || '0' <= raw[0] && raw[0] <= '9' }

// scalar returns the text of a number or, where types are weak, of a string that may hold one.
func (f *fields) scalar(raw []byte) string {
	if f.weak && raw[0] == '"' {
		return string(bytes.TrimSpace(unquote(raw)))
	}
	return string(raw)
}

// integer returns a whole number, 0 if not given.
func (f *fields) integer(name string) int {
	raw := f.find(name)
	if raw == nil {
		return 0
	}
	s := f.scalar(raw)
	if s == "" {
		return 0
	}
	n, err := strconv.Atoi(s)
	if err != nil || !f.weak && !isNumber(raw) {
		f.wrong(name, "a whole number")
		return 0
	}
	return n
}

// flag returns a boolean, absent if not given.
func (f *fields) flag(name string, absent bool) bool {
	raw := f.find(name)
	if raw == nil {
		return absent
	}
	if !f.weak && raw[0] != 't' && raw[0] != 'f' {
		f.wrong(name, "true or false")
		return false
	}
	s := f.scalar(raw)
	if s == "" {
		return absent
	}
	b, err := strconv.ParseBool(s)
	if err != nil {
		f.wrong(name, "true or false")
	}
	return b
}

const wantDuration = `a duration that isn't negative: seconds, or text such as "90s", "30m", "1h" or "7d"`

// duration returns a length of time, which is 0 if not given.
func (f *fields) duration(name string) time.Duration {
	raw := f.find(name)
	if raw == nil {
		return 0
	}
	if raw[0] != '"' && !isNumber(raw) {
		f.wrong(name, wantDuration)
		return 0
	}
	s := string(raw)
	if raw[0] == '"' {
		s = string(bytes.TrimSpace(unquote(raw)))
	}
	d, ok := parseDuration(s)
	if !ok {
		f.wrong(name, wantDuration)
	}
	return d
}

// parseDuration reads seconds, days ("7d") or what time.ParseDuration does; nothing means 0.
func parseDuration(s string) (time.Duration, bool) {
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

// texts returns a list of strings as bytes, wiped with the body; where types are weak also from one comma-separated
// string.
func (f *fields) texts(name string) [][]byte {
	raw := f.find(name)
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
				f.wrong(name, "a list of strings")
				return nil
			}
		}
	case f.weak && raw[0] == '"':
		return f.split(f.unquote(raw))
	case f.weak && isNumber(raw):
		list = append(list, raw)
	default:
		f.wrong(name, "a list of strings")
	}
	return list
}

// split takes a comma-separated text apart.
func (f *fields) split(text []byte) (list [][]byte) {
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

// perShare is texts for a list that has a value for each key share. One that is longer than any generation is refused
// before anything is done with it.
func (f *fields) perShare(name string) [][]byte {
	list := f.texts(name)
	if len(list) > seal.MaxShares {
		f.wrong(name, wantPerShare)
		return nil
	}
	return list
}

var wantPerShare = fmt.Sprintf("a list of at most %d strings", seal.MaxShares)

// strsPerShare is perShare for what is no secret.
func (f *fields) strsPerShare(name string) []string {
	var list []string
	for _, t := range f.perShare(name) {
		list = append(list, string(t))
	}
	return list
}

// lines returns a text, or the texts of a list as one with a line for each.
func (f *fields) lines(name string) string {
	if raw := f.find(name); raw != nil && raw[0] == '[' {
		return string(bytes.Join(f.perShare(name), []byte("\n")))
	}
	return f.str(name)
}

// strs is texts for what is no secret. It is nil only if the field isn't there.
func (f *fields) strs(name string) []string {
	texts := f.texts(name)
	if texts == nil && (f.err != nil || !f.has(name)) {
		return nil
	}
	list := make([]string, len(texts))
	for i, t := range texts {
		list[i] = string(t)
	}
	return list
}

const wantMap = `an object whose values are strings, or a list of "name=value"`

// pairs returns a map from names to strings: from an object, or from name=value texts. Weak types only.
func (f *fields) pairs(name string) map[string]string {
	raw := f.find(name)
	if raw == nil {
		return nil
	}
	pairs := make(map[string]string)
	if raw[0] != '{' {
		for _, t := range f.texts(name) {
			key, value, ok := bytes.Cut(t, []byte("="))
			if !ok {
				f.wrong(name, wantMap)
				return nil
			}
			pairs[string(key)] = string(value)
		}
		return pairs
	}
	members, err := parseObject(raw, false)
	if err != nil {
		f.wrong(name, wantMap)
		return nil
	}
	for _, m := range members {
		switch {
		case m.value[0] == '"':
			pairs[string(m.name)] = string(unquote(m.value))
		case isNumber(m.value):
			pairs[string(m.name)] = string(m.value)
		default:
			f.wrong(name, wantMap)
			return nil
		}
	}
	return pairs
}
