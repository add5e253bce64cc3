package body

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// T53, T57: whatever is wrong with a body is told in a fixed sentence.
func TestParseObjectRefuses(t *testing.T) {
	const canary = "canaryCANARYcanary"
	deep := strings.Repeat("[", maxDepth+1)
	for _, c := range []struct {
		name, body string
		want       error
	}{
		{"array", `["` + canary + `"]`, errNotObject},
		{"string", `"` + canary + `"`, errNotObject},
		{"number", `12`, errNotObject},
		{"bool", `true`, errNotObject},
		{"half a null", `nul`, errTruncated},
		{"other word", `nulL`, errSyntax},
		{"bare word", canary, errSyntax},
		{"only a brace", `{`, errTruncated},
		{"no value", `{"` + canary + `"`, errTruncated},
		{"no colon", `{"a" 1}`, errSyntax},
		{"no value after colon", `{"a":}`, errSyntax},
		{"comma at the end", `{"a":1,}`, errSyntax},
		{"comma at the beginning", `{,"a":1}`, errSyntax},
		{"two values", `{"a":1 2}`, errSyntax},
		{"single quotes", `{'a':1}`, errSyntax},
		{"name without quotes", `{a:1}`, errSyntax},
		{"number as a name", `{1:1}`, errSyntax},
		{"comment", `{/**/}`, errSyntax},
		{"open array", `{"a":[1,2`, errTruncated},
		{"array with a hole", `{"a":[1,,2]}`, errSyntax},
		{"array with a comma at the end", `{"a":[1,]}`, errSyntax},
		{"mismatched", `{"a":[1}`, errSyntax},
		{"open string", `{"key":"` + canary, errTruncated},
		{"open escape", `{"key":"` + canary + `\`, errTruncated},
		{"line break in a string", "{\"key\":\"" + canary + "\n\"}", errSyntax},
		{"tab in a string", "{\"a\":\"\t\"}", errSyntax},
		{"unknown escape", `{"a":"\x41"}`, errSyntax},
		{"short unicode escape", `{"a":"\u12"}`, errSyntax},
		{"cut unicode escape", `{"a":"\u12`, errTruncated},
		{"high surrogate alone", `{"a":"\ud800"}`, errUTF8},
		{"high surrogate and a letter", `{"a":"\ud800\n"}`, errUTF8},
		{"two high surrogates", `{"a":"\ud800\ud800"}`, errUTF8},
		{"low surrogate alone", `{"a":"\udc00"}`, errUTF8},
		{"cut pair", `{"a":"\ud800`, errTruncated},
		{"escaped NUL", `{"key":"` + canary + `\u0000"}`, errNUL},
		{"NUL", "{\"key\":\"" + canary + "\x00\"}", errNUL},
		{"NUL after the object", "{}\x00", errNUL},
		{"byte order mark", "\xef\xbb\xbf{}", errBOM},
		{"UTF-16", "\xff\xfe{\x00}\x00", errNUL},
		{"invalid UTF-8", "{\"key\":\"" + canary + "\xff\"}", errUTF8},
		{"overlong UTF-8", "{\"a\":\"\xc0\xaf\"}", errUTF8},
		{"encoded surrogate", "{\"a\":\"\xed\xa0\x80\"}", errUTF8},
		{"second object", `{}{"key":"` + canary + `"}`, errTrailing},
		{"text after the object", `{} ` + canary, errTrailing},
		{"text after null", `null 1`, errTrailing},
		{"leading zero", `{"a":01}`, errSyntax},
		{"plus", `{"a":+1}`, errSyntax},
		{"minus alone", `{"a":-}`, errSyntax},
		{"point without digits", `{"a":1.}`, errSyntax},
		{"point first", `{"a":.5}`, errSyntax},
		{"exponent without digits", `{"a":1e}`, errSyntax},
		{"cut exponent", `{"a":1e+`, errTruncated},
		{"hexadecimal", `{"a":0x10}`, errSyntax},
		{"NaN", `{"a":NaN}`, errSyntax},
		{"huge exponent", `{"a":1e999}`, errNumber},
		{"long number", `{"a":` + strings.Repeat("9", maxNumberLen+1) + `}`, errNumber},
		{"very long number", `{"a":` + strings.Repeat("9", 1<<20) + `}`, errNumber},
		{"twice", `{"key":"` + canary + `","key":"x"}`, errTwice},
		{"twice, once escaped", `{"key":"` + canary + `","\u006bey":"x"}`, errTwice},
		{"twice below", `{"meta":{"a":1,"a":1}}`, errTwice},
		{"twice in a list", `{"list":[{"a":1,"b":2,"a":1}]}`, errTwice},
		{"too deep", `{"a":` + deep, errDeep},
		{"too deep objects", strings.Repeat(`{"a":`, maxDepth+1) + "1", errDeep},
		{"100,000 deep", `{"a":` + strings.Repeat("[", 100_000), errDeep},
		{"too many values", `{"a":[` + strings.Repeat("1,", maxValues) + `1]}`, errMany},
		{"too many names", manyNames(maxValues/2 + 1), errMany},
	} {
		members, err := parseObject([]byte(c.body), false)
		if err != c.want || members != nil {
			t.Errorf("%s: %d members, error %v, want %v", c.name, len(members), err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), canary) {
			t.Errorf("%s: the error repeats the body: %v", c.name, err)
		}
	}
}

func manyNames(n int) string {
	var b strings.Builder
	b.WriteString(`{`)
	for i := range n {
		fmt.Fprintf(&b, `"n%d":0,`, i)
	}
	return strings.TrimSuffix(b.String(), ",") + "}"
}

func TestParseObjectAccepts(t *testing.T) {
	deepest := `{"a":` + strings.Repeat("[", maxDepth-1) + strings.Repeat("]", maxDepth-1) + `}`
	for _, c := range []struct {
		body string
		want map[string]string
	}{
		{"", map[string]string{}},
		{" \r\n\t", map[string]string{}},
		{"null", map[string]string{}},
		{" null ", map[string]string{}},
		{"{}", map[string]string{}},
		{" { } ", map[string]string{}},
		{`{"a":"b"}`, map[string]string{"a": `"b"`}},
		{` { "a" : [ 1 , { "b" : null } ] , "c" : -0.5e-3 } `, map[string]string{"a": `[ 1 , { "b" : null } ]`, "c": `-0.5e-3`}},
		{`{"\u0061\/\ud83d\ude00":true,"":false}`, map[string]string{"a/😀": "true", "": "false"}},
		{`{"a":1,"A":2}`, map[string]string{"a": "1", "A": "2"}},
		{`{"a":0,"b":"\"\\\b\f\n\r\t"}`, map[string]string{"a": "0", "b": `"\"\\\b\f\n\r\t"`}},
		{deepest, map[string]string{"a": deepest[5 : len(deepest)-1]}},
		{`{"a":` + strings.Repeat("9", maxNumberLen) + `}`, map[string]string{"a": strings.Repeat("9", maxNumberLen)}},
	} {
		members, err := parseObject([]byte(c.body), false)
		if err != nil {
			t.Errorf("%.60q: %v", c.body, err)
			continue
		}
		got := map[string]string{}
		for _, m := range members {
			got[string(m.name)] = string(m.value)
		}
		if !maps.Equal(got, c.want) {
			t.Errorf("%.60q: %v, want %v", c.body, got, c.want)
		}
	}
	if members, err := parseObject([]byte(manyNames(maxValues/2)), true); err != nil || len(members) != maxValues/2 {
		t.Errorf("the largest number of names: %d, %v", len(members), err)
	}
}

// On raw endpoints KEY and key are one field, so both together are a contradiction.
func TestParseObjectFoldsNames(t *testing.T) {
	for _, body := range []string{
		`{"key":"a","KEY":"b"}`, `{"nonce":1,"x":2,"nOnce":3}`, `{"key":1,"\u212aey":2}`, `{"meta":{"s":1,"ſ":2}}`, `{"É":1,"é":2}`,
	} {
		if _, err := parseObject([]byte(body), true); err != errTwice {
			t.Errorf("%s: %v, want %v", body, err, errTwice)
		}
		if _, err := parseObject([]byte(body), false); err != nil {
			t.Errorf("%s without folding: %v", body, err)
		}
	}
	for _, body := range []string{`{"key":1,"keys":2}`, `{"a":1,"á":2}`, `{"ı":1,"i":2}`} {
		if _, err := parseObject([]byte(body), true); err != nil {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// T57: a body costs memory in proportion to itself, whatever is in it.
func TestParseObjectMemory(t *testing.T) {
	for name, body := range map[string]string{
		"empty arrays": `{"a":[` + strings.Repeat("[],", 1<<18) + `[]]}`,
		"empty names":  `{` + strings.Repeat(`"":{},`, 1<<18) + `"":{}}`,
		"numbers":      `{"a":[` + strings.Repeat("1,", 1<<19) + `1]}`,
		"open arrays":  strings.Repeat(`[`, 1<<20),
		"escapes":      `{"a":"` + strings.Repeat(`\n`, 1<<19) + `"}`,
		"names":        manyNames(100_000),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		parseObject([]byte(body), true)
		runtime.ReadMemStats(&after)
		if used, limit := after.TotalAlloc-before.TotalAlloc, uint64(4*len(body)+1<<21); used > limit {
			t.Errorf("%s: %d bytes of body took %d bytes, want at most %d", name, len(body), used, limit)
		}
	}
}

func TestUnquoteKeepsPlainTextInPlace(t *testing.T) {
	body := []byte(`{"key":"abc"}`)
	members, err := parseObject(body, true)
	if err != nil {
		t.Fatal(err)
	}
	text := unquote(members[0].value)
	clear(body)
	if string(text) != "\x00\x00\x00" {
		t.Errorf("the text survives the wiping of the body: %q", text)
	}
}

func TestQuote(t *testing.T) {
	all := []byte{}
	for c := 1; c < 0x80; c++ {
		all = append(all, byte(c))
	}
	for _, s := range []string{"", "a", `"\`, string(all), "é😀"} {
		var got string
		if err := json.Unmarshal(quote(nil, []byte(s)), &got); err != nil || got != s {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
}

func FuzzParseObject(f *testing.F) {
	for _, seed := range []string{
		"", "null", "{}", `{"key":"abc","nonce":""}`, `{"a":[1,2.5e3,-0,{"b":[true,false,null]}]}`, `{"a":"\ud83d\ude00\/\n"}`,
		`{"a":1,"a":2}`, `{"A":1,"a":2}`, `[1]`, `{"a":1e400}`, "{\"a\":\"\x7f\"}", `{"a":"\u0000"}`, "\xef\xbb\xbf{}", `{"a":01}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		members, err := parseObject(body, false)
		if string(before) != string(body) {
			t.Fatal("the body was changed")
		}
		folded, errFold := parseObject(body, true)
		if errFold == nil && (err != nil || len(folded) != len(members)) {
			t.Fatal("folding names accepts more")
		}
		if err != nil || len(bytes.TrimSpace(body)) == 0 {
			return
		}
		// What we accept, encoding/json accepts, with the same names and values.
		var want map[string]any
		if err := json.Unmarshal(body, &want); err != nil {
			t.Fatalf("encoding/json refuses: %v", err)
		}
		if len(want) != len(members) {
			t.Fatalf("%d members, encoding/json has %d", len(members), len(want))
		}
		for _, m := range members {
			var got any
			if err := json.Unmarshal(m.value, &got); err != nil {
				t.Fatalf("value of %q: %v", m.name, err)
			}
			if value, ok := want[string(m.name)]; !ok || fmt.Sprint(value) != fmt.Sprint(got) {
				t.Fatalf("%q is %v, encoding/json has %v", m.name, got, value)
			}
			if s, ok := got.(string); ok && string(unquote(m.value)) != s {
				t.Fatalf("unquoted %q, encoding/json has %q", unquote(m.value), s)
			}
			if list, ok := got.([]any); ok && len(elements(m.value)) != len(list) {
				t.Fatalf("%d elements, encoding/json has %d", len(elements(m.value)), len(list))
			}
		}
	})
}

func FuzzFoldName(f *testing.F) {
	f.Add("key", "KEY")
	f.Add("ſ", "s")
	f.Add("K", "k")
	f.Fuzz(func(t *testing.T, a, b string) {
		a, b = strings.ToValidUTF8(a, ""), strings.ToValidUTF8(b, "")
		same := slices.Equal(foldName([]byte(a)), foldName([]byte(b)))
		if same != strings.EqualFold(a, b) {
			t.Fatalf("%q and %q: same %v, EqualFold %v", a, b, same, !same)
		}
	})
}
