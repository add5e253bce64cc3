package policy

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/fault"
)

const full = `
# with comments
name = "ignored"
path "/secret/data/+/app*" { // and others
  capabilities = ["read", "list", "scan", "subscribe", "recover",]
  required_parameters = ["a", "B"]
  allowed_parameters = {
    "data" = []
    "TTL"  = ["1h", 5, true, 1.5],
    ttl    = ["2h"]
    "*"    = []
  }
  denied_parameters = { "policies" = ["root", "*admin*"] }
  min_wrapping_ttl = "1m"
  max_wrapping_ttl = 90
  comment = "why"
}
path "old" { policy = "write" }
path "none" {}
path "old" { capabilities = ["read", "deny", "sudo"] }
`

const fullJSON = `{"name": "ignored", "path": {
  "secret/data/+/app*": {
    "capabilities": ["read", "list", "scan"],
    "required_parameters": ["a", "B"],
    "allowed_parameters": {"data": [], "TTL": ["1h", 5, true, 1.5, "2h"], "*": []},
    "denied_parameters": {"policies": ["root", "*admin*"]},
    "min_wrapping_ttl": "60s", "max_wrapping_ttl": "90"
  },
  "old": [{"policy": "write"}],
  "none": {}
}}`

func fullRules() []Rule {
	return []Rule{
		{
			Path: "secret/data/+/app*", Capabilities: Read | List, Required: []string{"a", "B"},
			Allowed: Params{"data": nil, "ttl": {"1h", "5", "true", "1.5", "2h"}, "*": nil},
			Denied:  Params{"policies": {"root", "*admin*"}},
			MinWrap: time.Minute, MaxWrap: 90 * time.Second,
		},
		{Path: "old", Capabilities: Create | Read | Update | Delete | List},
		{Path: "none"},
		{Path: "old", Capabilities: Deny},
	}
}

func TestParse(t *testing.T) {
	p, err := Parse("dev", full)
	if err != nil || p.Name != "dev" || !reflect.DeepEqual(p.Rules, fullRules()) {
		t.Errorf("HCL: %+v, %v", p, err)
	}
	p, err = Parse("dev", fullJSON)
	if err != nil || !reflect.DeepEqual(p.Rules, fullRules()[:3]) {
		t.Errorf("JSON: %+v, %v", p, err)
	}
	for _, text := range []string{
		"", " \n", "# nothing", "{}", `{"path": [{"a": {}}, {"b": {}}]}`,
		`path "a" { capabilities = ["read"] }`, "path \"a\" {\r\n  capabilities = [\r\n    \"read\"\r\n  ]\r\n}\r\n",
		`path "*" {}`, `path "+" {}`, `path "+/a/+/b*" {}`, `path "a/" {}`, `path "a/..b/.c*" {}`, `path "a%2e%2e/b" {}`, `path "ä/ b" {}`,
		`path "a" { max_wrapping_ttl = "7d" }`, `path "a" { policy = "sudo" }`, `path "a" { allowed_parameters = {} }`, "\ufeffpath \"a\" {}",
		`path "` + strings.Repeat("a", maxPath) + `" {}`,
	} {
		if p, err := Parse("x", text); err != nil || p == nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestParametersNamedTwice: the second mention doesn't replace the first.
func TestParametersNamedTwice(t *testing.T) {
	for _, text := range []string{
		`{"path": {"a": {"denied_parameters": {"a": ["x"], "A": ["y"], "a": ["z"]}}}}`,
		`path "a" { denied_parameters = { a = ["x"], "A" = ["y"], a = ["z"] } }`,
	} {
		p, err := Parse("p", text)
		if err != nil || !slices.Equal(p.Rules[0].Denied["a"], []string{"x", "y", "z"}) {
			t.Errorf("%s: %v, %v", text, p, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	deep := strings.Repeat("[", 100_000)
	for _, test := range []struct{ text, want string }{
		{"path \"a\" {\n  capability = []\n}", "line 2: a name that isn't known here: use capabilities, "},
		{"\n\nrole \"a\" {}", "line 3: a name that isn't known here: use name and path"},
		{`{"path": {"a": {"canary": 1}}}`, "line 1: a name that isn't known here"},
		{"{\n\"canary\": {}}", "line 2: a name that isn't known here: use name and path"},
		{"path \"a\" {\n\n capabilities = [\"canary\"]\n}", "line 3: capabilities: one of them isn't known: use create"},
		{`path "a" { capabilities = "read" }`, "line 1: capabilities: must be a list"},
		{`path "a" { capabilities = ["READ"] }`, "capabilities: one of them"},
		{`path "a" { capabilities = [["read"]] }`, "capabilities: must be a list"},
		{`path "a" { capabilities = [null] }`, "capabilities: must be a list"},
		{`path "a" { capabilities = [read] }`, "capabilities: must be a list"},
		{`path "a" { capabilities = null }`, "capabilities: must be a list"},
		{`path "a" { capabilities = ["${1}"] }`, "line 1: a plain value is needed"},
		{`path "a" { capabilities = [for x in ["read"] : x] }`, "line 1: a plain value is needed"},
		{`path "a" { min_wrapping_ttl = -1 }`, "line 1: a plain value is needed"},
		{`path "a" { capabilities = ` + deep, "line 1: brackets are nested too deeply"},
		{`{"path":` + deep, "line 1: brackets are nested too deeply"},
		{`path "a" { policy = "canary" }`, "policy: must be read, write, sudo or deny"},
		{`path "a" { policy = 1 }`, "policy: must be read"},
		{`path "a" { required_parameters = "x" }`, "required_parameters: must be a list"},
		{`path "a" { allowed_parameters = ["x"] }`, "allowed_parameters: must be a map"},
		{`path "a" { allowed_parameters = { a = "x" } }`, "allowed_parameters: what belongs to a name must be a list"},
		{`path "a" { denied_parameters = { "" = [] } }`, "denied_parameters: the names in it"},
		{`path "a" { denied_parameters = { a = [1e999999999999] } }`, ""},
		{`path "a" { denied_parameters = { a = [1e99999999] } }`, "denied_parameters: what belongs to a name must be a list"},
		{`path "a" { min_wrapping_ttl = "x" }`, "min_wrapping_ttl: must be a duration"},
		{`path "a" { min_wrapping_ttl = "-1s" }`, "min_wrapping_ttl: must be a duration"},
		{`path "a" { min_wrapping_ttl = "999999d" }`, "min_wrapping_ttl: must be a duration"},
		{`path "a" { min_wrapping_ttl = [] }`, "min_wrapping_ttl: must be a duration"},
		{"path \"a\" {\n min_wrapping_ttl = 2\n max_wrapping_ttl = 1\n}", "line 1: max_wrapping_ttl is less than min_wrapping_ttl"},
		{`path "a" { mfa_methods = ["x"] }`, "line 1: mfa_methods: this server can't enforce"},
		{`path "a" { expiration = "2030-01-01T00:00:00Z" }`, "line 1: expiration: this server can't enforce"},
		{"path \"a\" {\n policy = \"read\"\n policy = \"deny\"\n}", "line 3: attribute redefined: correct it"},
		{`{"path": {"a": {"policy": "read", "policy": "deny"}}}`, "line 1: duplicate argument"},
		{`{"path": {}}`, "line 1: missing block label"},
		{`{"path": {"a": {}}`, "line 1: "},
		{`{"path": {"a": 1}}`, "line 1: incorrect json value type"},
		{`path {}`, "line 1: missing path for path: correct it"},
		{`path "a" "canary" {}`, "line 1: extraneous label for path"},
		{"path \"a\" {\n", "line 1: "},
		{"\x00", ""},
		{"\xff", "must be text in UTF-8"},
		{strings.Repeat("#", MaxText+1), "at most 256 KiB"},
		{"\npath \"\" {}", "line 2: a path is missing"},
		{`path "/" {}`, "a path is missing"},
		{`path "` + strings.Repeat("a", maxPath+1) + `" {}`, "at most 1024 bytes"},
		{`path "a/{{identity.entity.id}}" {}`, "fills in no templates"},
		{`path "a*b" {}`, "a * stands only at the end"},
		{`path "a**" {}`, "a * stands only at the end"},
		{`path "a/+*" {}`, "a + stands for one whole part"},
		{`path "a+/b" {}`, "a + stands for one whole part"},
		{`path "a/++" {}`, "a + stands for one whole part"},
		{`path "a//b" {}`, "a path has no empty parts"},
		{`path "//a" {}`, "a path has no empty parts"},
		{`path "a//" {}`, "a path has no empty parts"},
		{`path "a/./b" {}`, "a path has no empty parts"},
		{`path "a/.." {}`, "a path has no empty parts"},
		{`path "../a" {}`, "a path has no empty parts"},
		{`path "a\nb" {}`, "no control characters"},
		{`path "a\u0000b" {}`, "no control characters"},
	} {
		short := test.text[:min(len(test.text), 80)]
		p, err := Parse("x", test.text)
		if f := fault.As(err); f == nil || f.Kind != fault.Invalid || p != nil || !strings.Contains(f.Sentence, test.want) {
			t.Errorf("%q: %v, %v", short, p, err)
		} else if strings.Contains(f.Sentence, "canary") {
			t.Errorf("%q: the error repeats the text: %v", short, err)
		}
	}
	for _, name := range []string{Root, Wrapping} {
		if _, err := Parse(name, full); err != errBuiltIn {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDefaultText(t *testing.T) {
	p, err := Parse(Default, DefaultText)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range p.Rules {
		if r.Capabilities == 0 || r.Capabilities&(Deny|Sudo) != 0 {
			t.Errorf("odd rule %+v", r)
		}
	}
	if text, err := Format(DefaultText); err != nil || text != DefaultText {
		t.Errorf("its layout isn't canonical: %v\n%s", err, text)
	}
}

func TestFormat(t *testing.T) {
	for in, want := range map[string]string{
		"":     "",
		" \n ": "",
		"#x":   "#x\n",
		"path   \"a\"{\n capabilities=[ \"read\" ]\n   policy   =  \"read\" # why\n}\n\n\n": "path \"a\" {\n  capabilities = [\"read\"]\n  policy       = \"read\" # why\n}\n",
		` {"path":{"a":{}}} `: "{\n  \"path\": {\n    \"a\": {}\n  }\n}\n",
	} {
		if got, err := Format(in); err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	if _, err := Format("path \"a\" {\n b = 1\n}"); fault.As(err) == nil {
		t.Error(err)
	}
}

// FuzzParse: whatever passes means the same in its canonical layout, which HCL 2 takes, can be compiled, and isn't repeated
// by an error. What HCL 2 takes means the same laid out anew.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		full, fullJSON, DefaultText, "", "{}", `path "a" {}`, `{"path":[{"a":{"policy":"read"}}]}`, `path "a" { denied_parameters = { a = [1.5e3], "A" = [] } }`,
		`"path" "a" { "policy" = "read" /* c */ } path "b" { allowed_parameters { "x" = [] y = [1] }, comment = true, }`, "path # c\n\"a\"\n{ policy\n= \"read\" capabilities = [\n] } }",
		"path \"a\" {\n  capabilities = [\n\"read\", // x\n\"list\" ]\n}", `path "+/b/+/c*" { max_wrapping_ttl = "7d" }`, "/* c */ path\t\"x\"\t{}", "{\"path\":{\"a\":{\"//\":\"\",\"comment\":\"\\u0000\"}}}",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse("p", text)
		if err != nil {
			fa := fault.As(err)
			if fa == nil || fa.Kind != fault.Invalid || p != nil {
				t.Fatalf("%v, %v", p, err)
			}
			for _, word := range strings.FieldsFunc(text, func(c rune) bool { return strings.ContainsRune(" \t\n\"{}[]=,", c) }) {
				// Only words with letters that no sentence of ours has.
				if strings.ContainsAny(word, "ZQX@~") && strings.Contains(fa.Sentence, word) {
					t.Fatalf("the error repeats %q: %v", word, err)
				}
			}
			return
		}
		formatted, err := Format(text)
		if err != nil {
			t.Fatal(err)
		}
		s := source{text: []byte(formatted)}
		again, err := s.hcl2()
		if isJSON(formatted) {
			again, _, err = read(formatted)
		}
		if err != nil || fmt.Sprint(again) != fmt.Sprint(p.Rules) {
			t.Fatalf("%v\n%v\n%v\n%s", err, p, again, formatted)
		}
		if plain, laid, ok := bothWays(text); ok && fmt.Sprint(plain) != fmt.Sprint(laid) {
			t.Fatalf("as it stands %v\nlaid out %v", plain, laid)
		}
		a := Compile(p)
		for _, r := range p.Rules {
			if c, err := canonical(r.Path); err != nil || c != r.Path {
				t.Fatalf("%q isn't canonical: %v", r.Path, err)
			}
			// A path made from the pattern is matched by it, or by one that goes before.
			path := strings.ReplaceAll(strings.TrimSuffix(r.Path, "*"), "+", "x")
			got := a.Explain(&Ask{Path: path, Want: Read})
			if got.Rule == "" || !slices.Equal(got.Policies, []string{"p"}) {
				t.Fatalf("%q isn't matched on %q: %+v", r.Path, path, got)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for b.Loop() {
		if _, err := Parse(Default, DefaultText); err != nil {
			b.Fatal(err)
		}
	}
}
