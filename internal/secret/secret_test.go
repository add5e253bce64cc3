package secret

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
)

const canary = "Kanarienvogel-im-Bergwerk"

// leak looks for the canary in text, for a piece of it in any of the ways that bytes are printed, and returns what it
// found. The pieces are long enough not to turn up in an address by chance.
func leak(text string) string {
	text = strings.ToLower(text)
	for i := range len(canary) - 5 {
		piece := []byte(canary[i : i+6])
		for _, format := range []string{"%s", "%d", "%o", "%b", "%x", "% x", "%#x", "% #x", "%#v", "%U", "%c"} {
			form := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf(format, piece), "[]byte"), "}")
			if strings.Contains(text, strings.ToLower(strings.Trim(form, "[]{"))) {
				return form
			}
		}
	}
	for i := range 3 { // base64 looks different at each offset
		form := base64.StdEncoding.EncodeToString([]byte(canary[i:]))[:12]
		if strings.Contains(text, strings.ToLower(form)) {
			return form
		}
	}
	return ""
}

// T52: the check of these tests finds a canary in each form, and no other time.
func TestLeak(t *testing.T) {
	b := []byte(canary)
	for _, text := range []string{
		canary, hex.EncodeToString(b), base64.StdEncoding.EncodeToString(b), base64.StdEncoding.EncodeToString(b[1:]),
		fmt.Sprint(b), fmt.Sprintf("%#v", b), fmt.Sprintf("%X", b), fmt.Sprintf("%q", canary), fmt.Sprintf("%o", b),
		fmt.Sprintf("%v", struct{ b []byte }{b}), fmt.Sprintf("% #x", b), fmt.Sprintf("%#x", b), fmt.Sprintf("%U", b),
		fmt.Sprintf("%b", b[:10]), fmt.Sprintf("%c", b), "before" + canary[7:14] + "after",
	} {
		if leak(text) == "" {
			t.Errorf("not found in %s", text)
		}
	}
	if form := leak("[redacted] 0x3da022a4140 {[] 75500212440500} {{[] 0xc0000060d8} 2026-11-24T07:15:27.912358926Z}"); form != "" {
		t.Errorf("found %q where it isn't", form)
	}
}

// Ways that a secret is met in: by itself, in exported and unexported fields, behind pointers, in collections.
type (
	open   struct{ S Bytes }
	closed struct{ s Bytes }
	deep   struct {
		c closed
		p *closed
		m map[string]Bytes
		l []closed
		i any
	}
	embedded struct{ Bytes }
)

func places(s Bytes) map[string]any {
	c := closed{s}
	return map[string]any{
		"itself": s, "pointer": &s, "exported": open{s}, "exported, pointer": &open{s},
		"unexported": c, "unexported, pointer": &c, "embedded": embedded{s}, "slice": []Bytes{s},
		"slice of structs": []closed{c}, "array": [1]closed{c}, "map": map[string]Bytes{"k": s},
		"deep":            deep{c, &c, map[string]Bytes{"k": s}, []closed{c}, c},
		"deep, pointer":   &deep{c, &c, map[string]Bytes{"k": s}, []closed{c}, s},
		"any":             []any{s, c, &c},
		"joined error":    errors.Join(fmt.Errorf("%v %s %x", s, s, s), fmt.Errorf("%+v", c)),
		"a reflect.Value": reflect.ValueOf(c),
	}
}

// T52: no verb shows a secret, wherever it is: not the usual ones, not the wrong ones.
func TestNoVerbShowsASecret(t *testing.T) {
	for place, v := range places(Own([]byte(canary))) {
		var out strings.Builder
		for verb := '!'; verb < 0x7f; verb++ {
			for _, flags := range []string{"", "+", "#", " ", "030.10"} {
				fmt.Fprintf(&out, "%"+flags+string(verb)+"\n", v)
			}
		}
		fmt.Fprint(&out, v)
		fmt.Fprintln(&out, v, v)
		if form := leak(out.String()); form != "" {
			t.Errorf("%s: %q in %s", place, form, out.String())
		}
	}
}

// T52: no log handler and no encoder shows one.
func TestNoEncoderShowsASecret(t *testing.T) {
	for place, v := range places(Own([]byte(canary))) {
		var out bytes.Buffer
		for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(h).Info("message", "k", v, slog.Group("g", "k", v))
			slog.New(h).With("k", v).Error("message")
		}
		encoded, err := json.Marshal(v)
		if err != nil && place != "a reflect.Value" {
			t.Errorf("%s: JSON: %v", place, err)
		}
		out.Write(encoded)
		_ = xml.NewEncoder(&out).Encode(v)
		_ = gob.NewEncoder(&out).Encode(v)
		if form := leak(out.String()); form != "" {
			t.Errorf("%s: %q in %s", place, form, out.String())
		}
	}
}

func TestRedactedIsSaid(t *testing.T) {
	for name, s := range map[string]Bytes{"secret": Own([]byte(canary)), "empty": {}} {
		for _, got := range []string{
			s.String(), fmt.Sprint(s), fmt.Sprintf("%x", s), fmt.Sprintf("%d", &s), fmt.Sprint(open{s}.S), s.LogValue().String(),
		} {
			if got != "[redacted]" {
				t.Errorf("%s: %q", name, got)
			}
		}
		if b, err := json.Marshal(open{s}); err != nil || string(b) != `{"S":"[redacted]"}` {
			t.Errorf("%s: JSON %s, %v", name, b, err)
		}
		if b, err := json.Marshal(map[string]Bytes{"k": s}); err != nil || string(b) != `{"k":"[redacted]"}` {
			t.Errorf("%s: JSON %s, %v", name, b, err)
		}
		if b, err := s.MarshalText(); err != nil || string(b) != "[redacted]" {
			t.Errorf("%s: text %s, %v", name, b, err)
		}
	}
}

func TestOwnAndCopy(t *testing.T) {
	b := []byte(canary)
	owned, copied := Own(b), Copy(b)
	if &owned.Reveal()[0] != &b[0] {
		t.Error("Own made a copy: the caller can't know which to wipe")
	}
	clear(b)
	if string(copied.Reveal()) != canary {
		t.Error("Copy shares the caller's memory")
	}
}

func TestWipe(t *testing.T) {
	s := Own([]byte(canary))
	same, other := s, Copy(s.Reveal())
	s.Wipe()
	if !bytes.Equal(same.Reveal(), make([]byte, len(canary))) || same.Len() != len(canary) {
		t.Error("a copy of the value isn't wiped")
	}
	if string(other.Reveal()) != canary {
		t.Error("a copy of the bytes is wiped")
	}
	s.Wipe()
}

func TestZeroValue(t *testing.T) {
	var s Bytes
	s.Wipe()
	if s.Reveal() != nil || s.Len() != 0 || !s.Empty() {
		t.Error("the zero value isn't empty")
	}
	if !s.Equal(Own(nil)) || !Own([]byte{}).Equal(s) {
		t.Error("two empty secrets differ")
	}
	if Own([]byte{0}).Empty() {
		t.Error("a zero byte is empty")
	}
}

func TestEqual(t *testing.T) {
	s := Own([]byte(canary))
	if !s.Equal(s) || !s.Equal(Copy([]byte(canary))) {
		t.Error("equal secrets differ")
	}
	for name, b := range map[string]string{
		"empty": "", "prefix": canary[:len(canary)-1], "longer": canary + "\x00", "first byte": "k" + canary[1:],
		"last byte": canary[:len(canary)-1] + "8", "case": strings.ToUpper(canary),
	} {
		if s.Equal(Own([]byte(b))) || Own([]byte(b)).Equal(s) {
			t.Errorf("%s: equal", name)
		}
	}
}

// Two Bytes compared with == would compare addresses, and not in constant time: the compiler refuses.
func TestNotComparable(t *testing.T) {
	if reflect.TypeFor[Bytes]().Comparable() {
		t.Error("== compiles for Bytes")
	}
}
