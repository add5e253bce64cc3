package policy

import (
	"slices"
	"strings"

	"github.com/quorate/quorate/internal/fault"
)

// Limits of what one request may name.
const (
	MaxName  = 128 // bytes
	MaxNames = 256
)

var (
	errTooMany = fault.Newf(fault.Invalid, "a token can have at most %d policies: put their rules into fewer", MaxNames)
	errName    = fault.Newf(fault.Invalid,
		"a policy name has 1 to %d characters, each a letter a-z, a digit or one of - _ . / : @ +: correct the names", MaxName)
)

// NormalizeName returns a name as it is stored and compared: trimmed, in lower case. Every name that comes from outside
// passes through here before anything is decided about it, whether it is to be written, assigned or read. Only ASCII is
// accepted, so that lower case has one meaning. Errors are faults of kind Invalid.
func NormalizeName(name string) (string, error) {
	name = strings.TrimSpace(name)
	if name == "" || len(name) > MaxName || strings.ContainsFunc(name, odd) {
		return "", errName
	}
	return strings.ToLower(name), nil
}

// Normalize returns names as NormalizeName does, sorted, each once; the result of an empty list is nil.
func Normalize(names []string) ([]string, error) {
	if len(names) > MaxNames {
		return nil, errTooMany
	}
	var out []string
	for _, name := range names {
		name, err := NormalizeName(name)
		if err != nil {
			return nil, err
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func odd(c rune) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return false
	}
	return !strings.ContainsRune("-_./:@+", c)
}
