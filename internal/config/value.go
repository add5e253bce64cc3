package config

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"
)

var errNoUI = errors.New("can't be true: this server has no web interface, so remove the line")

// maxDuration keeps sums of durations far from overflowing.
const maxDuration = 100 * 365 * 24 * time.Hour

// value is what was written for one option. Its methods are as lenient as the users' files are used to: a number or
// a truth may stand in quotes. They never print a number, whose digits can be many more than its characters.
type value struct{ v cty.Value }

func text(p *string) func(value) error { return into(p, value.text) }

func truth(p *bool) func(value) error { return into(p, value.boolean) }

func duration(p *time.Duration) func(value) error { return into(p, value.duration) }

func size(p *int64) func(value) error { return into(p, value.size) }

func number(p *int) func(value) error {
	return func(v value) error {
		n, err := v.whole()
		if err != nil || n > math.MaxInt32 {
			return errors.New("must be a whole number, zero or more")
		}
		*p = int(n)
		return nil
	}
}

func refuse(sentence string) func(value) error {
	return func(value) error { return errors.New(sentence) }
}

func into[T any](p *T, read func(value) (T, error)) func(value) error {
	return func(v value) error {
		got, err := read(v)
		if err == nil {
			*p = got
		}
		return err
	}
}

func (v value) is(t cty.Type) bool { return !v.v.IsNull() && v.v.IsKnown() && v.v.Type() == t }

// text is a string that has something in it.
func (v value) text() (string, error) {
	if !v.is(cty.String) || v.v.AsString() == "" {
		return "", errors.New("must be a string in double quotes, and not empty")
	}
	s := v.v.AsString()
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", errors.New("must not have control characters")
	}
	return s, nil
}

// lines is a string of any number of lines.
func (v value) lines() (string, error) {
	if !v.is(cty.String) || v.v.AsString() == "" {
		return "", errors.New("must be a string in double quotes, a heredoc or file(\"...\"), and not empty")
	}
	return v.v.AsString(), nil
}

// parsed gives the text to a parser of its own.
func (v value) parsed(parse func(string) error) error {
	s, err := v.text()
	if err != nil {
		return err
	}
	return parse(s)
}

func (v value) boolean() (bool, error) {
	errTruth := errors.New("must be true or false")
	switch {
	case v.is(cty.Bool):
		return v.v.True(), nil
	case v.is(cty.Number):
		n, err := v.whole()
		if err != nil || n > 1 {
			return false, errTruth
		}
		return n == 1, nil
	case v.is(cty.String):
		b, err := strconv.ParseBool(v.v.AsString())
		if err != nil {
			return false, errTruth
		}
		return b, nil
	}
	return false, errTruth
}

// whole is a number from 0 to 2^63-1.
func (v value) whole() (int64, error) {
	errWhole := errors.New("must be a whole number, zero or more")
	switch {
	case v.is(cty.Number):
		n, acc := v.v.AsBigFloat().Int64()
		if acc != big.Exact || n < 0 {
			return 0, errWhole
		}
		return n, nil
	case v.is(cty.String):
		n, err := strconv.ParseInt(v.v.AsString(), 10, 64)
		if err != nil || n < 0 {
			return 0, errWhole
		}
		return n, nil
	}
	return 0, errWhole
}

// duration is a number of seconds, or a text such as 90s, 30m, 1h30m or 7d.
func (v value) duration() (time.Duration, error) {
	errDuration := errors.New("must be a duration such as \"30s\", \"5m\", \"1h\" or \"7d\", or a number of seconds")
	if n, err := v.whole(); err == nil {
		if n > int64(maxDuration/time.Second) {
			return 0, fmt.Errorf("must not be longer than %d days", maxDuration/(24*time.Hour))
		}
		return time.Duration(n) * time.Second, nil
	}
	if !v.is(cty.String) {
		return 0, errDuration
	}
	s := v.v.AsString()
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 31)
		if err != nil {
			return 0, errDuration
		}
		return value{cty.NumberUIntVal(n * 24 * 3600)}.duration()
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, errDuration
	}
	if d > maxDuration {
		return 0, fmt.Errorf("must not be longer than %d days", maxDuration/(24*time.Hour))
	}
	return d, nil
}

// size is a number of bytes, or a text such as 512KiB or 32MiB.
func (v value) size() (int64, error) {
	errSize := errors.New("must be a number of bytes, or a size such as \"512KiB\" or \"32MiB\"")
	if n, err := v.whole(); err == nil {
		return n, nil
	}
	if !v.is(cty.String) {
		return 0, errSize
	}
	digits, unit := v.v.AsString(), int64(0)
	for suffix, factor := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if s, ok := strings.CutSuffix(digits, suffix); ok {
			digits, unit = s, factor
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 31)
	if err != nil || unit == 0 {
		return 0, errSize
	}
	return int64(n) * unit, nil
}

// list is a list of strings, or one string of items separated by commas.
func (v value) list() ([]string, error) {
	errList := errors.New("must be a list of strings")
	if v.is(cty.String) {
		return strings.FieldsFunc(v.v.AsString(), func(r rune) bool { return r == ',' || r == ' ' }), nil
	}
	if v.v.IsNull() || !v.v.IsKnown() || !v.v.Type().IsTupleType() {
		return nil, errList
	}
	var items []string
	for _, item := range v.v.AsValueSlice() {
		s, err := value{item}.text()
		if err != nil {
			return nil, errList
		}
		items = append(items, s)
	}
	return items, nil
}

// plain is a string, a whole number, a truth or a list of strings, as JSON would have it.
func (v value) plain() (any, error) {
	switch {
	case v.is(cty.String):
		return v.v.AsString(), nil
	case v.is(cty.Bool):
		return v.v.True(), nil
	case v.is(cty.Number):
		return v.whole()
	}
	items, err := v.list()
	if err != nil {
		return nil, errors.New("must be a string, a whole number, true, false or a list of strings")
	}
	return items, nil
}

// word is a text, or a number or a truth as text.
func (v value) word() (string, error) {
	switch x, err := v.plain(); x := x.(type) {
	case string:
		return v.text()
	case int64, bool:
		return fmt.Sprint(x), err
	}
	return "", errors.New("must be a string, a whole number, true or false")
}

// object is what was written between braces.
func (v value) object() (map[string]value, error) {
	if v.v.IsNull() || !v.v.IsKnown() || !v.v.Type().IsObjectType() {
		return nil, errors.New("must be a map between braces")
	}
	m := make(map[string]value)
	for name, item := range v.v.AsValueMap() {
		m[name] = value{item}
	}
	return m, nil
}

// words is a map of words.
func (v value) words() (map[string]string, error) {
	m, err := v.object()
	if err != nil {
		return nil, err
	}
	out := make(map[string]string)
	for name, item := range m {
		if out[name], err = item.word(); err != nil {
			return nil, err
		}
	}
	return out, nil
}
