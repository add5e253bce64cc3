package body

import (
	"encoding/json"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/holder"
)

func parsed(t *testing.T, body string, weak bool) *Fields {
	t.Helper()
	members, err := parseObject([]byte(body), !weak)
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return &Fields{members: members, weak: weak}
}

// wantField checks one value that was read; wrong says that it must have been refused, without a word of the value.
func wantField[T comparable](t *testing.T, f *Fields, body string, got, want T, wrong bool) {
	t.Helper()
	if wrong {
		if fa := fault.As(f.err); fa == nil || fa.Kind != fault.Invalid || !strings.Contains(fa.Sentence, `"v"`) {
			t.Errorf("%s: value %v, error %v, want a fault that names the field", body, got, f.err)
		} else if strings.Contains(fa.Sentence, "canary") {
			t.Errorf("%s: the error repeats the value: %v", body, f.err)
		}
		return
	}
	if f.err != nil || got != want {
		t.Errorf("%s: %v, %v, want %v", body, got, f.err, want)
	}
}

func TestFieldText(t *testing.T) {
	for _, c := range []struct {
		value             string
		want              string
		wrong, wrongIfRaw bool
	}{
		{value: `"abc"`, want: "abc"},
		{value: `""`, want: ""},
		{value: `null`, want: ""},
		{value: `"a\/b\u002bc"`, want: "a/b+c"},
		{value: `5`, want: "5", wrongIfRaw: true},
		{value: `-1.5`, want: "-1.5", wrongIfRaw: true},
		{value: `true`, wrong: true},
		{value: `["canary"]`, wrong: true},
		{value: `{"canary":1}`, wrong: true},
	} {
		body := `{"v":` + c.value + `}`
		weak, raw := parsed(t, body, true), parsed(t, body, false)
		wantField(t, weak, body+" weak", weak.Str("v"), c.want, c.wrong)
		wantField(t, raw, body+" raw", raw.Str("v"), c.want, c.wrong || c.wrongIfRaw)
	}
}

func TestFieldInteger(t *testing.T) {
	for _, c := range []struct {
		value             string
		want              int
		wrong, wrongIfRaw bool
	}{
		{value: `5`, want: 5},
		{value: `-5`, want: -5},
		{value: `0`, want: 0},
		{value: `null`, want: 0},
		{value: `"5"`, want: 5, wrongIfRaw: true},
		{value: `" 5 "`, want: 5, wrongIfRaw: true},
		{value: `""`, want: 0, wrongIfRaw: true},
		{value: `5.0`, wrong: true},
		{value: `1e2`, wrong: true},
		{value: `99999999999999999999`, wrong: true},
		{value: `"canary"`, wrong: true},
		{value: `true`, wrong: true},
		{value: `[5]`, wrong: true},
		{value: `{"canary":5}`, wrong: true},
	} {
		body := `{"v":` + c.value + `}`
		weak, raw := parsed(t, body, true), parsed(t, body, false)
		wantField(t, weak, body+" weak", weak.Int("v"), c.want, c.wrong)
		wantField(t, raw, body+" raw", raw.Int("v"), c.want, c.wrong || c.wrongIfRaw)
	}
}

func TestFieldFlag(t *testing.T) {
	for _, c := range []struct {
		value             string
		want              bool // with true as the value of an absent field
		wrong, wrongIfRaw bool
	}{
		{value: `true`, want: true},
		{value: `false`, want: false},
		{value: `null`, want: true},
		{value: `"false"`, want: false, wrongIfRaw: true},
		{value: `"F"`, want: false, wrongIfRaw: true},
		{value: `0`, want: false, wrongIfRaw: true},
		{value: `"1"`, want: true, wrongIfRaw: true},
		{value: `""`, want: true, wrongIfRaw: true},
		{value: `2`, wrong: true},
		{value: `"canary"`, wrong: true},
		{value: `[]`, wrong: true},
		{value: `{}`, wrong: true},
	} {
		body := `{"v":` + c.value + `}`
		weak, raw := parsed(t, body, true), parsed(t, body, false)
		wantField(t, weak, body+" weak", weak.Flag("v", true), c.want, c.wrong)
		wantField(t, raw, body+" raw", raw.Flag("v", true), c.want, c.wrong || c.wrongIfRaw)
	}
	if f := parsed(t, `{}`, true); f.Flag("v", false) || !f.Flag("v", true) {
		t.Error("an absent flag is not what the caller says it is")
	}
}

func TestFieldDuration(t *testing.T) {
	for _, c := range []struct {
		value string
		want  time.Duration
		wrong bool
	}{
		{value: `90`, want: 90 * time.Second},
		{value: `"90"`, want: 90 * time.Second},
		{value: `"90s"`, want: 90 * time.Second},
		{value: `"1h30m"`, want: 90 * time.Minute},
		{value: `"2d"`, want: 48 * time.Hour},
		{value: `""`},
		{value: `null`},
		{value: `0`},
		{value: `"-1s"`, wrong: true},
		{value: `-1`, wrong: true},
		{value: `"-1d"`, wrong: true},
		{value: `1.5`, wrong: true},
		{value: `"d"`, wrong: true},
		{value: `"1x canary"`, wrong: true},
		{value: `9223372036854775807`, wrong: true},
		{value: `"106752d"`, wrong: true},
		{value: `true`, wrong: true},
		{value: `["canary"]`, wrong: true},
		{value: `{}`, wrong: true},
	} {
		body := `{"v":` + c.value + `}`
		f := parsed(t, body, true)
		wantField(t, f, body, f.Duration("v"), c.want, c.wrong)
	}
	if d, ok := ParseDuration(strconv.FormatInt(math.MaxInt64/int64(time.Second), 10)); !ok || d <= 0 {
		t.Errorf("the longest duration: %v, %v", d, ok)
	}
}

func TestFieldList(t *testing.T) {
	for _, c := range []struct {
		value             string
		want              []string
		wrong, wrongIfRaw bool
	}{
		{value: `["a","b"]`, want: []string{"a", "b"}},
		{value: `[]`, want: []string{}},
		{value: `[ "a" , "\u0062" ]`, want: []string{"a", "b"}},
		{value: `null`, want: nil},
		{value: `"a, b,,"`, want: []string{"a", "b"}, wrongIfRaw: true},
		{value: `""`, want: []string{}, wrongIfRaw: true},
		{value: `5`, want: []string{"5"}, wrongIfRaw: true},
		{value: `["a",5]`, want: []string{"a", "5"}, wrongIfRaw: true},
		{value: `["canary",null]`, wrong: true},
		{value: `["canary",["b"]]`, wrong: true},
		{value: `[{"canary":1}]`, wrong: true},
		{value: `{"canary":1}`, wrong: true},
		{value: `true`, wrong: true},
	} {
		body := `{"v":` + c.value + `}`
		weak, raw := parsed(t, body, true), parsed(t, body, false)
		got := weak.Strs("v")
		wantField(t, weak, body+" weak", slices.Equal(got, c.want) && (got == nil) == (c.want == nil), true, c.wrong)
		got = raw.Strs("v")
		wantField(t, raw, body+" raw", slices.Equal(got, c.want) && (got == nil) == (c.want == nil), true, c.wrong || c.wrongIfRaw)
	}
}

// A list counts the same however it is written, and one that is longer than a generation of shares can be is refused as
// such.
func TestListsAreBounded(t *testing.T) {
	commas := func(n int) string { return `"` + strings.Repeat("a,", n-1) + `a"` }
	for _, c := range []struct {
		body  string
		want  int // values of v
		fails error
	}{
		{body: `{"v":` + commas(maxValues) + `}`, want: maxValues},
		{body: `{"v":` + commas(maxValues+1) + `}`, fails: errMany},
		{body: `{"v":` + strings.ReplaceAll(commas(maxValues+1), ",", `\u002c`) + `}`, fails: errMany},
		{body: `{"v":"` + strings.Repeat(",", 2<<20) + `"}`, fails: errMany},
		{body: `{"v":` + commas(maxValues/2) + `,"w":` + commas(maxValues/2) + `}`, want: maxValues / 2},
		{body: `{"v":` + commas(maxValues/2) + `,"w":` + commas(maxValues/2+1) + `}`, fails: errMany},
	} {
		f := parsed(t, c.body, true)
		got := f.Texts("v")
		f.Texts("w")
		if f.err != c.fails || c.fails == nil && len(got) != c.want {
			t.Errorf("%.60s: %d values, %v, want %d, %v", c.body, len(got), f.err, c.want, c.fails)
		}
		if f := parsed(t, c.body, true); len(f.Pairs("v")) > 0 || f.err == nil {
			t.Errorf("%.60s: a map of that", c.body)
		}
	}
	list := func(n int) string { return strings.TrimSuffix("["+strings.Repeat(`"b",`, n), ",") + "]" }
	for text, want := range map[string]int{list(255): 255, list(256): -1, list(9_990): -1, commas(255): 255, commas(256): -1} {
		body := `{"v":` + text + `}`
		for name, read := range map[string]func(*Fields) int{
			"texts":   func(f *Fields) int { return len(f.PerShare("v")) },
			"strings": func(f *Fields) int { return len(f.StrsPerShare("v")) },
			"lines": func(f *Fields) int {
				if s := f.Lines("v"); text[0] == '[' && s != "" {
					return strings.Count(s, "\n") + 1
				}
				return want
			},
		} {
			f := parsed(t, body, true)
			got := read(f)
			refused := want < 0 && (name != "lines" || text[0] == '[')
			if refused != (f.err != nil) || !refused && got != want {
				t.Errorf("%s of %.20s: %d, %v, want %d", name, body, got, f.err, want)
			} else if refused && !strings.Contains(f.err.Error(), `"v" must be a list of at most 255 strings`) {
				t.Errorf("%v", f.err)
			}
		}
	}
}

func TestFieldPairs(t *testing.T) {
	for _, c := range []struct {
		value string
		want  map[string]string
		wrong bool
	}{
		{value: `{"a":"b","c":"d"}`, want: map[string]string{"a": "b", "c": "d"}},
		{value: `{"a":5}`, want: map[string]string{"a": "5"}},
		{value: `{}`, want: map[string]string{}},
		{value: `null`},
		{value: `["a=b","c=d=e"]`, want: map[string]string{"a": "b", "c": "d=e"}},
		{value: `"a=b"`, want: map[string]string{"a": "b"}},
		{value: `["canary"]`, wrong: true},
		{value: `{"a":["canary"]}`, wrong: true},
		{value: `{"a":{"canary":"b"}}`, wrong: true},
		{value: `{"canary":true}`, wrong: true},
		{value: `true`, wrong: true},
	} {
		body := `{"v":` + c.value + `}`
		f := parsed(t, body, true)
		got := f.Pairs("v")
		wantField(t, f, body, maps.Equal(got, c.want) && (got == nil) == (c.want == nil), true, c.wrong)
	}
}

// Names match in any case on raw endpoints and exactly on logical ones.
func TestFieldNames(t *testing.T) {
	const body = `{"KEY":"a","Nonce":"b"}`
	if f := parsed(t, body, false); f.Str("key") != "a" || f.Str("nonce") != "b" {
		t.Error("a raw endpoint looks at the case of names")
	}
	if f := parsed(t, body, true); f.Str("key") != "" || f.Has("nonce") {
		t.Error("a logical endpoint doesn't look at the case of names")
	}
}

// The first thing that is wrong stays, and nothing is read after it.
func TestFieldsKeepTheFirstError(t *testing.T) {
	f := parsed(t, `{"a":[],"b":"x","c":{}}`, false)
	f.Str("a")
	first := f.err
	if got := f.Str("b"); got != "" {
		t.Errorf("%q was read after an error", got)
	}
	f.Int("c")
	if f.err != first || !strings.Contains(first.Error(), `"a"`) {
		t.Errorf("the error is now %v, it was %v", f.err, first)
	}
}

// T52: what was decoded into new memory is wiped with the body.
func TestFieldsOwnWhatTheyDecode(t *testing.T) {
	f := parsed(t, `{"key":"AAAA\/BBBB","list":["x\/y"]}`, false)
	key, list := f.Text("key"), f.Texts("list")
	f.Wipe()
	if strings.Trim(string(key), "\x00") != "" || strings.Trim(string(list[0]), "\x00") != "" {
		t.Errorf("still there: %q, %q", key, list)
	}
}

// FuzzShareField reads a share from a JSON body the way the handlers do: the text is what encoding/json reads, and
// never half a share.
func FuzzShareField(f *testing.F) {
	for _, seed := range []string{
		`"6cfb2a2b5ec4e2e0c3b1a0b9d8c7f6e5d4c3b2a19081726354f5e6d7c8b9aa0b01"`, `"q6urq6urq6urq6urq6urq6s="`, `"\u0061\/"`, `""`, `5`, `null`, `"\ud83d\ude00"`, `["a"]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		body := append(append([]byte(`{"key":`), value...), '}')
		members, err := parseObject(body, true)
		if err != nil {
			return
		}
		fs := &Fields{members: members}
		text := fs.Text("key")
		var want struct {
			Key *string `json:"key"`
		}
		if errStd := json.Unmarshal(body, &want); (errStd == nil) != (fs.err == nil) {
			t.Fatalf("%v, but encoding/json says %v", fs.err, errStd)
		} else if fs.err == nil && want.Key != nil && *want.Key != string(text) {
			t.Fatalf("%q, encoding/json has %q", text, *want.Key)
		}
		share, err := holder.ParseShare(text)
		if err == nil && (share.Len() < holder.MinShare || share.Len() > holder.MaxShare) {
			t.Fatalf("a share of %d bytes", share.Len())
		}
		if err != nil && fault.As(err) == nil {
			t.Fatalf("not a fault: %v", err)
		}
	})
}

func FuzzObject(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":1,"\"\\\u0007é":[null, {"b":"c"}],"":null}`, ` {"data" : {"a":"b"} } `} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		fields, err := Decode([]byte(text), false)
		if err != nil {
			return
		}
		object := fields.Object()
		var want, got map[string]any
		if len(fields.Names()) > 0 {
			if err := json.Unmarshal([]byte(text), &want); err != nil {
				t.Fatal(err)
			}
		}
		if err := json.Unmarshal(object, &got); err != nil || len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) {
			t.Fatalf("%q becomes %q (%v)", text, object, err)
		}
		if fields.Wipe(); strings.Trim(string(object), "\x00") != "" {
			t.Fatal("the object isn't wiped with the body")
		}
	})
}
