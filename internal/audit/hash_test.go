package audit

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/quorate/quorate/internal/secret"
)

var testSalt = []byte("a salt for the tests of hashing.")

// macOf is the definition, as sys/audit-hash has it.
func macOf(value string) string {
	m := hmac.New(sha256.New, testSalt)
	m.Write([]byte(value))
	return "hmac-sha256:" + hex.EncodeToString(m.Sum(nil))
}

func testHasher() *hasher { return newHasher(secret.Copy(testSalt)) }

func TestHashed(t *testing.T) {
	mac := func(v string) string { return `"` + macOf(v) + `"` }
	for _, c := range []struct {
		name, raw, want string
		elide           bool
	}{
		{name: "string", raw: `{"a":"x"}`, want: `{"a":` + mac("x") + `}`},
		{name: "empty string", raw: `{"a":""}`, want: `{"a":` + mac("") + `}`},
		{name: "number", raw: `{"a":-1.50e3}`, want: `{"a":` + mac("-1.50e3") + `}`},
		{name: "last number", raw: `7`, want: mac("7")},
		{name: "literals", raw: `{"a":true,"b":false,"c":null}`, want: `{"a":true,"b":false,"c":null}`},
		{name: "space", raw: " {\n\t\"a\" :\r[ 1 , \"x\" ] } ", want: `{"a":[` + mac("1") + `,` + mac("x") + `]}`},
		{name: "deep", raw: `{"a":{"b":[[{"c":"x"}],{}]}}`, want: `{"a":{"b":[[{"c":` + mac("x") + `}],{}]}}`},
		{name: "escapes", raw: `{"a":"\"\\\/\b\f\n\r\t\u0041\ud83d\ude00z"}`, want: `{"a":` + mac("\"\\/\b\f\n\r\tA\U0001F600z") + `}`},
		{name: "half a pair", raw: `{"a":"\ud83dx\ude00\ud83d\u0041"}`, want: `{"a":` + mac("\uFFFDx\uFFFD\uFFFDA") + `}`},
		{name: "structure in a string", raw: `{"a":"{\"b\":[1,2]}"}`, want: `{"a":` + mac(`{"b":[1,2]}`) + `}`},
		{name: "backslash at the end", raw: `{"a":"\\","b":"x"}`, want: `{"a":` + mac(`\`) + `,"b":` + mac("x") + `}`},

		{name: "clear", raw: `{"clear":"x","a":"y"}`, want: `{"clear":"x","a":` + mac("y") + `}`},
		{name: "clear as a whole", raw: `{"clear":{"b":["x",1.50]},"a":2}`, want: `{"clear":{"b":["x",1.50]},"a":` + mac("2") + `}`},
		{name: "clear only outermost", raw: `{"a":{"clear":"x"}}`, want: `{"a":{"clear":` + mac("x") + `}}`},
		{name: "clear not in a list", raw: `[{"clear":"x"}]`, want: `[{"clear":` + mac("x") + `}]`},
		{name: "clear not as a value", raw: `{"a":"clear","b":"x"}`, want: `{"a":` + mac("clear") + `,"b":` + mac("x") + `}`},
		{name: "clear not in other letters", raw: `{"Clear":"x","cl\u0065ar":"y"}`, want: `{"Clear":` + mac("x") + `,"cl\u0065ar":` + mac("y") + `}`},

		{name: "elided", raw: `{"keys":["a","b","c"],"key_info":{"a":{"x":1,"y":[2,3]},"b":{}}}`, want: `{"keys":3,"key_info":2}`, elide: true},
		{name: "elided empty", raw: `{"keys":[ ],"key_info":{}}`, want: `{"keys":0,"key_info":0}`, elide: true},
		{name: "elided lists", raw: `{"keys" : [ [1,2] , [3] ] , "a":"x"}`, want: `{"keys":2,"a":` + mac("x") + `}`, elide: true},
		{name: "elided scalar", raw: `{"keys":"x","a":{"keys":["y"]}}`, want: `{"keys":0,"a":{"keys":[` + mac("y") + `]}}`, elide: true},

		{name: "not JSON", raw: `{"a":`, want: `{"unparsed":` + mac(`{"a":`) + `}`},
		{name: "two values", raw: `{} {}`, want: `{"unparsed":` + mac(`{} {}`) + `}`},
		{name: "raw newline", raw: "{\"a\":\"x\ny\"}", want: `{"unparsed":` + mac("{\"a\":\"x\ny\"}") + `}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := appendHashed(nil, []byte(c.raw), map[string]bool{"clear": true}, testHasher(), c.elide)
			if string(got) != c.want {
				t.Errorf("%s:\n%s, want\n%s", c.raw, got, c.want)
			}
		})
	}
}

func TestHashedWhileSealed(t *testing.T) {
	got := appendHashed(nil, []byte(`{"a":"x","b":["\u0041",1,true]}`), nil, nil, false)
	if want := `{"a":` + whileSealed + `,"b":[` + whileSealed + `,` + whileSealed + `,true]}`; string(got) != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// FuzzHash compares the one pass over the text with what encoding/json makes of it.
func FuzzHash(f *testing.F) {
	for _, s := range []string{
		`{"a":"x","clear":{"b":"y"},"c":[1,true,null,"\ud83d\ude00\\"]}`, `[]`, `"x"`, `1`, ` {"a" : {"clear":"\u0041"}} `,
		`{"keys":["a"],"key_info":{}}`, `{"":""}`, `{"a":1,"a":"x"}`, "{\"\xff\":\"\xff\"}", `{`, ``,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := bytes.Clone(raw)
		got := appendHashed(nil, raw, map[string]bool{"clear": true}, testHasher(), false)
		if !bytes.Equal(raw, before) {
			t.Fatal("the data was changed")
		}
		if !json.Valid(got) || !utf8.Valid(got) || bytes.IndexByte(got, '\n') >= 0 {
			t.Fatalf("not a line of JSON: %q", got)
		}
		elided := appendHashed(nil, raw, nil, testHasher(), true)
		if !json.Valid(elided) {
			t.Fatalf("elided: %q", elided)
		}
		if !json.Valid(raw) || !utf8.Valid(raw) {
			return
		}
		if want := hashedTree(decode(t, raw), true); !reflect.DeepEqual(decode(t, got), want) {
			t.Fatalf("%q\nbecame %q\nwant   %v", raw, got, want)
		}
	})
}

// decode keeps the text of numbers.
func decode(t *testing.T, text []byte) any {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// hashedTree is the definition of appendHashed on a decoded value. Of a field that is there twice the last one counts.
func hashedTree(v any, outermost bool) any {
	switch v := v.(type) {
	case string:
		return macOf(v)
	case json.Number:
		return macOf(v.String())
	case []any:
		for i := range v {
			v[i] = hashedTree(v[i], false)
		}
	case map[string]any:
		for k := range v {
			if !outermost || k != "clear" {
				v[k] = hashedTree(v[k], false)
			}
		}
	}
	return v
}

func FuzzQuoted(f *testing.F) {
	for _, s := range []string{"", "a\"b\\c", "\x00\x1f\x7f\u2028\u2029\U0001F600", "\xff\xc0\x80", "a\nb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		q := appendQuoted(nil, s)
		if err := json.Unmarshal(q, &got); err != nil {
			t.Fatalf("%q: %v", q, err)
		}
		if want := strings.ToValidUTF8(string([]rune(s)), "\uFFFD"); got != want {
			t.Fatalf("%q, want %q", got, want)
		}
		if bytes.ContainsAny(q, "\n\r\x00\x1b\x7f") {
			t.Fatalf("%q can move the reader's cursor", q)
		}
	})
}
