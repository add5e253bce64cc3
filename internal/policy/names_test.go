package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/fault"
)

func TestNormalize(t *testing.T) {
	for _, test := range []struct{ in, want []string }{
		{nil, nil},
		{[]string{}, nil},
		{[]string{"b", "a", "b"}, []string{"a", "b"}},
		{[]string{" Dev\t", "dev", "DEV\n"}, []string{"dev"}},
		{[]string{"ROOT"}, []string{"root"}},
		{[]string{"team/ops:write-1.2_x@corp+y"}, []string{"team/ops:write-1.2_x@corp+y"}},
		{[]string{strings.Repeat("A", MaxName)}, []string{strings.Repeat("a", MaxName)}},
	} {
		in := slices.Clone(test.in)
		got, err := Normalize(test.in)
		if err != nil || !slices.Equal(got, test.want) || (got == nil) != (test.want == nil) {
			t.Errorf("%q: %q, %v", test.in, got, err)
		}
		if !slices.Equal(in, test.in) {
			t.Errorf("%q was changed to %q", in, test.in)
		}
	}
}

// TestNormalizeRefuses: names that look like another, or like a pattern, are no names. K and ſ here are the Kelvin sign
// and the long s, whose other case is an ASCII letter.
func TestNormalizeRefuses(t *testing.T) {
	for _, name := range []string{
		"", " ", "\t\n", "a b", "root\x00", "\x00root", "ro\x00ot", "roo\u200bt", "r\u043eot", "roo\u2019t", "\u212a", "\u017fudo", "root,dev",
		"a*", "*", "{{identity.entity.id}}", "a\\b", "\xff", "re\u0301gie", "a\u00a0b", "<b>", "\"a\"", "a=b", "a;b", "a%2fb", "a?b", "a#b",
		strings.Repeat("a", MaxName+1), strings.Repeat("é", MaxName),
	} {
		got, err := Normalize([]string{"good", name})
		if f := fault.As(err); f == nil || f.Kind != fault.Invalid || got != nil {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
	names := make([]string, MaxNames+1)
	for i := range names {
		names[i] = fmt.Sprint(i)
	}
	if got, err := Normalize(names); fault.As(err) == nil || got != nil {
		t.Errorf("%d names: %v", len(names), err)
	}
	if got, err := Normalize(names[:MaxNames]); err != nil || len(got) != MaxNames {
		t.Errorf("%d names: %v", MaxNames, err)
	}
}

// FuzzNormalize: whatever passes is canonical, and no spelling of root gets past a comparison with "root".
func FuzzNormalize(f *testing.F) {
	for _, s := range []string{"root", "ROOT,default", " Root ,root", "dev\x00,ops", "ro\u212aot", "a b", ",", "", "\xff,x", strings.Repeat("x,", 300)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, list string) {
		in := strings.Split(list, ",")
		out, err := Normalize(in)
		if err != nil {
			if fault.As(err) == nil || out != nil {
				t.Fatalf("%q: %q, %v", in, out, err)
			}
			for _, name := range in {
				if len(name) > 3 && strings.Contains(err.Error(), name) && !strings.Contains(errName.Error()+errTooMany.Error(), name) {
					t.Fatalf("the error repeats %q", name)
				}
			}
			return
		}
		again, err := Normalize(out)
		if err != nil || !slices.Equal(again, out) {
			t.Fatalf("%q: %q, again %q, %v", in, out, again, err)
		}
		if !slices.IsSorted(out) || len(slices.Compact(slices.Clone(out))) != len(out) {
			t.Fatalf("%q is not sorted, or has duplicates", out)
		}
		for _, name := range out {
			if name == "" || len(name) > MaxName || name != strings.ToLower(name) || name != strings.TrimSpace(name) {
				t.Fatalf("%q is not canonical", name)
			}
			if name != Root && strings.EqualFold(name, Root) {
				t.Fatalf("%q is another spelling of root", name)
			}
		}
		for _, name := range in {
			if !slices.Contains(out, strings.ToLower(strings.TrimSpace(name))) {
				t.Fatalf("%q got lost", name)
			}
		}
	})
}

// FuzzNormalizeName: what passes is the one spelling of its name.
func FuzzNormalizeName(f *testing.F) {
	for _, s := range []string{"root", " ROOT\t", "dev", "", "roo\u200bt", "\u212a", "a/b", "\xff", strings.Repeat("x", MaxName+1)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got, err := NormalizeName(name)
		if err != nil {
			if fault.As(err) == nil || got != "" {
				t.Fatalf("%q: %q, %v", name, got, err)
			}
			return
		}
		if again, err := NormalizeName(got); err != nil || again != got {
			t.Fatalf("%q: %q, again %q, %v", name, got, again, err)
		}
		if !strings.EqualFold(got, strings.TrimSpace(name)) || strings.ToLower(got) != got || len(got) > MaxName {
			t.Fatalf("%q is no spelling of %q", got, name)
		}
		if list, err := Normalize([]string{name}); err != nil || !slices.Equal(list, []string{got}) {
			t.Fatalf("%q alone, but %q in a list, %v", got, list, err)
		}
	})
}
