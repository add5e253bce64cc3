// Package body reads what a request carries: one JSON object or a form, and typed values from its fields.
//
// It promises that reading costs memory in proportion to the length of the text, that everything it accepts means to
// encoding/json the same, that no error repeats anything of the text, and that a secret can be wiped after use: values
// point into the text, or into memory that Wipe overwrites.
package body

import (
	"bytes"
	"math"
	"slices"
	"strconv"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/quorate/quorate/internal/fault"
)

// Bounds of a request body, whatever its size: what is read from it costs memory in proportion to its own length.
const (
	maxDepth     = 32
	maxValues    = 10_000 // of any kind, and names count too
	maxNumberLen = 40     // digits, sign, point and exponent
)

// What is said about a body that can't be read. Nothing of the body is ever in it.
var (
	errSyntax    = fault.New(fault.Invalid, "the request body is not valid JSON: send one JSON object")
	errTruncated = fault.New(fault.Invalid, "the request body is not complete JSON (unexpected EOF): send the whole object")
	errNotObject = fault.New(fault.Invalid, "the request body must be a JSON object")
	errTrailing  = fault.New(fault.Invalid, "the request body has something after its JSON object: send one object and nothing else")
	errDeep      = fault.Newf(fault.Invalid, "the request body is nested deeper than %d levels", maxDepth)
	errMany      = fault.Newf(fault.Invalid, "the request body has more than %d names and values", maxValues)
	errTwice     = fault.New(fault.Invalid, "the request body has a field twice: send each field once")
	errBOM       = fault.New(fault.Invalid, "the request body begins with a byte order mark: send plain UTF-8")
	errUTF8      = fault.New(fault.Invalid, "the request body is not valid UTF-8")
	errNUL       = fault.New(fault.Invalid, "the request body holds a NUL character")
	errNumber    = fault.New(fault.Invalid, "the request body has a number that is too large or too long")
)

// member is one field of a body's outermost object. name is decoded; value is the JSON text, unchanged. Both usually
// point into the body.
type member struct{ name, value []byte }

// parseObject reads a request body: one JSON object of RFC 8259, null, or nothing at all, which are both an empty
// object. It is stricter than the RFC: no name twice in one object, no unpaired surrogate, no NUL even escaped, no
// byte order mark, bounded nesting, count and numbers. With fold, two names that differ only in case are the same.
// Everything it accepts, encoding/json reads with the same meaning.
func parseObject(body []byte, fold bool) ([]member, error) {
	switch {
	case bytes.HasPrefix(body, []byte("\xef\xbb\xbf")):
		return nil, errBOM
	case bytes.IndexByte(body, 0) >= 0:
		return nil, errNUL
	case !utf8.Valid(body):
		return nil, errUTF8
	}
	s := scanner{b: body, fold: fold}
	var members []member
	var err error
	switch s.space(); s.peek() {
	case 0:
		return nil, nil
	case '{':
		members, err = s.object(true)
	case 'n':
		err = s.literal("null")
	default:
		if err = s.value(); err == nil {
			err = errNotObject
		}
	}
	if err != nil {
		return nil, err
	}
	if s.space(); s.i < len(s.b) {
		return nil, errTrailing
	}
	return members, nil
}

// scanner walks over JSON text of valid UTF-8 without a NUL byte.
type scanner struct {
	b             []byte
	i             int
	depth, values int
	fold          bool
}

// peek returns the next byte, 0 at the end.
func (s *scanner) peek() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

func (s *scanner) space() {
	for s.i < len(s.b) && (s.b[s.i] == ' ' || s.b[s.i] == '\t' || s.b[s.i] == '\n' || s.b[s.i] == '\r') {
		s.i++
	}
}

// expect steps over c.
func (s *scanner) expect(c byte) error {
	if s.peek() != c {
		return s.unexpected()
	}
	s.i++
	return nil
}

// unexpected says whether the text is wrong at this place or only ends here.
func (s *scanner) unexpected() error {
	if s.i >= len(s.b) {
		return errTruncated
	}
	return errSyntax
}

func (s *scanner) count() error {
	if s.values++; s.values > maxValues {
		return errMany
	}
	return nil
}

func (s *scanner) value() error {
	if err := s.count(); err != nil {
		return err
	}
	switch c := s.peek(); {
	case c == '{':
		_, err := s.object(false)
		return err
	case c == '[':
		return s.array()
	case c == '"':
		return s.str()
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		return s.literal("null")
	case c == '-' || '0' <= c && c <= '9':
		return s.number()
	}
	return s.unexpected()
}

func (s *scanner) literal(word string) error {
	for i := range len(word) {
		if err := s.expect(word[i]); err != nil {
			return err
		}
	}
	return nil
}

// enter and leave bound the nesting.
func (s *scanner) enter() error {
	s.i++
	if s.depth++; s.depth > maxDepth {
		return errDeep
	}
	s.space()
	return nil
}

func (s *scanner) leave() {
	s.i++
	s.depth--
}

func (s *scanner) array() error {
	if err := s.enter(); err != nil {
		return err
	}
	if s.peek() == ']' {
		s.leave()
		return nil
	}
	for {
		if err := s.value(); err != nil {
			return err
		}
		s.space()
		switch s.peek() {
		case ',':
			s.i++
			s.space()
		case ']':
			s.leave()
			return nil
		default:
			return s.unexpected()
		}
	}
}

// object returns the fields if they are wanted; in any case none may be there twice.
func (s *scanner) object(want bool) ([]member, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	if s.peek() == '}' {
		s.leave()
		return nil, nil
	}
	var members []member
	for {
		m, err := s.member()
		if err != nil {
			return nil, err
		}
		members = append(members, m)
		s.space()
		switch s.peek() {
		case ',':
			s.i++
			s.space()
		case '}':
			s.leave()
			if hasTwice(members, s.fold) {
				return nil, errTwice
			}
			if !want {
				members = nil
			}
			return members, nil
		default:
			return nil, s.unexpected()
		}
	}
}

func (s *scanner) member() (m member, err error) {
	if err := s.count(); err != nil {
		return m, err
	}
	if s.peek() != '"' {
		return m, s.unexpected()
	}
	start := s.i
	if err := s.str(); err != nil {
		return m, err
	}
	m.name = unquote(s.b[start:s.i])
	s.space()
	if err := s.expect(':'); err != nil {
		return m, err
	}
	s.space()
	start = s.i
	err = s.value()
	m.value = s.b[start:s.i]
	return m, err
}

// hasTwice looks for equal names by sorting them, which costs no more memory than the names themselves.
func hasTwice(members []member, fold bool) bool {
	if len(members) < 2 {
		return false
	}
	names := make([][]byte, len(members))
	for i, m := range members {
		names[i] = m.name
		if fold {
			names[i] = foldName(m.name)
		}
	}
	slices.SortFunc(names, bytes.Compare)
	for i := range names[1:] {
		if string(names[i]) == string(names[i+1]) {
			return true
		}
	}
	return false
}

// foldName maps names that are equal but for case, as bytes.EqualFold and encoding/json see it, to the same bytes.
func foldName(name []byte) []byte {
	return bytes.Map(func(r rune) rune {
		for {
			next := unicode.SimpleFold(r)
			if next <= r { // round the orbit and back at its smallest rune
				return next
			}
			r = next
		}
	}, name)
}

// str steps over a string whose escapes are all sound.
func (s *scanner) str() error {
	s.i++
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return nil
		case c < ' ':
			return errSyntax
		case c == '\\':
			if err := s.escape(); err != nil {
				return err
			}
		default:
			s.i++
		}
	}
	return errTruncated
}

func (s *scanner) escape() error {
	s.i++
	switch s.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.i++
		return nil
	case 'u':
		r, err := s.hex4()
		switch {
		case err != nil:
			return err
		case r == 0:
			return errNUL
		case !utf16.IsSurrogate(r):
			return nil
		}
		if err := s.expect('\\'); err != nil {
			return lone(err)
		}
		if s.peek() != 'u' {
			return lone(s.unexpected())
		}
		low, err := s.hex4()
		if err != nil {
			return err
		}
		if utf16.DecodeRune(r, low) == unicode.ReplacementChar {
			return errUTF8
		}
		return nil
	}
	return s.unexpected()
}

// lone turns "something else is here" after half of a surrogate pair into what it means.
func lone(err error) error {
	if err == errTruncated {
		return err
	}
	return errUTF8
}

// hex4 reads u and four hex digits.
func (s *scanner) hex4() (rune, error) {
	s.i++
	var r rune
	for range 4 {
		d := hexDigit(s.peek())
		if d < 0 {
			return 0, s.unexpected()
		}
		r = r<<4 | d
		s.i++
	}
	return r, nil
}

func hexDigit(c byte) rune {
	switch {
	case '0' <= c && c <= '9':
		return rune(c - '0')
	case 'a' <= c && c <= 'f':
		return rune(c - 'a' + 10)
	case 'A' <= c && c <= 'F':
		return rune(c - 'A' + 10)
	}
	return -1
}

// number steps over a number that a float64 can hold.
func (s *scanner) number() error {
	start := s.i
	if s.peek() == '-' {
		s.i++
	}
	if s.peek() == '0' {
		s.i++
	} else if err := s.digits(); err != nil {
		return err
	}
	if s.peek() == '.' {
		s.i++
		if err := s.digits(); err != nil {
			return err
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.i++
		if c := s.peek(); c == '+' || c == '-' {
			s.i++
		}
		if err := s.digits(); err != nil {
			return err
		}
	}
	text := s.b[start:s.i]
	if len(text) > maxNumberLen {
		return errNumber
	}
	if f, err := strconv.ParseFloat(string(text), 64); err != nil || math.IsInf(f, 0) {
		return errNumber
	}
	return nil
}

func (s *scanner) digits() error {
	start := s.i
	for '0' <= s.peek() && s.peek() <= '9' {
		s.i++
	}
	if s.i == start {
		return s.unexpected()
	}
	return nil
}

// unquote decodes a JSON string that a scanner has accepted. Without escapes the result points into raw; otherwise
// it is a new slice, so a secret's owner wipes it in either case.
func unquote(raw []byte) []byte {
	raw = raw[1 : len(raw)-1]
	first := bytes.IndexByte(raw, '\\')
	if first < 0 {
		return raw
	}
	out := append(make([]byte, 0, len(raw)), raw[:first]...)
	for i := first; i < len(raw); {
		if raw[i] != '\\' {
			out = append(out, raw[i])
			i++
			continue
		}
		if raw[i+1] != 'u' {
			out = append(out, unescape(raw[i+1]))
			i += 2
			continue
		}
		s := scanner{b: raw, i: i + 1}
		r, _ := s.hex4()
		if utf16.IsSurrogate(r) {
			s.i++
			low, _ := s.hex4()
			r = utf16.DecodeRune(r, low)
		}
		out = utf8.AppendRune(out, r)
		i = s.i
	}
	return out
}

func unescape(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c // quote, backslash and slash stand for themselves
}

// quote appends s as a JSON string.
func quote(dst, s []byte) []byte {
	const hexDigits = "0123456789abcdef"
	dst = append(dst, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// elements splits a JSON array that a scanner has accepted into the texts of its values.
func elements(raw []byte) [][]byte {
	var list [][]byte
	s := scanner{b: raw, i: 1, values: math.MinInt}
	for s.space(); s.peek() != ']'; s.space() {
		start := s.i
		if s.value() != nil {
			return nil
		}
		list = append(list, raw[start:s.i])
		if s.space(); s.peek() == ',' {
			s.i++
		}
	}
	return list
}
