package policy

import (
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/quorate/quorate/internal/fault"
)

// TestOlderForms: what only the older HCL takes means what its canonical twin says, and is formatted to it.
func TestOlderForms(t *testing.T) {
	const one = "path \"a\" {\n  capabilities = [\"read\"]\n}\n"
	const two = one + "path \"b\" {\n  capabilities = [\"deny\"]\n}\n"
	const several = "path \"a\" {\n  capabilities     = [\"read\"]\n  max_wrapping_ttl = \"1h\"\n}\n"
	const params = "path \"a\" {\n  allowed_parameters = {\n    \"x\" = []\n    \"y\" = [\"1\", 2]\n  }\n  capabilities = [\"update\"]\n}\n"
	for _, test := range []struct{ old, canonical string }{
		{`path "a" { capabilities = ["read"] } path "b" { capabilities = ["deny"] }`, two},
		{`path "a" { capabilities = ["read"] }, path "b" { capabilities = ["deny"] },`, two},
		{`path"a"{capabilities=["read"]}path"b"{capabilities=["deny"]}`, two},
		{"\ufeffpath \"a\" {\r\n capabilities = [\"read\"] } path \"b\" {\r\n capabilities = [\"deny\"] }\r\n", two},
		{`path "a" { capabilities = ["read"] max_wrapping_ttl = "1h" }`, several},
		{`path "a" { capabilities = ["read"], max_wrapping_ttl = "1h", }`, several},
		{"path \"a\" {\n  capabilities = [\"read\"],\n  max_wrapping_ttl = \"1h\",\n}", several},
		{"path \"a\" { capabilities = [\"read\"]\n  max_wrapping_ttl = \"1h\" }", several},
		{"path \"a\" {\n  capabilities = [\"read\"]\n  max_wrapping_ttl = \"1h\" }", several},
		{"path \"a\"\n{\n  capabilities = [\"read\"]\n}", one},
		{"path\n\"a\"\n{ capabilities\n=\n[\"read\"]\n}", one},
		{`"path" "a" { "capabilities" = ["read"] }`, one},
		{"path a { \"capabilities\" = [\"read\"] }", strings.Replace(one, `"a"`, "a", 1)},
		{"path \"a\" {\n  allowed_parameters {\n    \"x\" = []\n    \"y\" = [\"1\", 2]\n  }\n  capabilities = [\"update\"]\n}", params},
		{`path "a" { allowed_parameters { "x" = [] "y" = ["1", 2] } capabilities = ["update"] }`, params},
		{`path "a" { allowed_parameters = { "x" = [], "y" = ["1", 2] }, capabilities = ["update"] }`, params},
		{`path "a" { "allowed_parameters" = { "x" = [] "y" = ["1", 2] } capabilities = ["update"] }`, params},
		{"path \"a\" { denied_parameters { x = [] } }", "path \"a\" {\n  denied_parameters = {\n    x = []\n  }\n}\n"},
		{`name = "n" path "a" { comment = true }`, "name = \"n\"\npath \"a\" {\n  comment = true\n}\n"},
		{`path "a" {} path "b" {}`, "path \"a\" {\n}\npath \"b\" {\n}\n"},
		{
			"# 1\n\n\n\"path\" /* 2 */ \"a\" // 3\n{ # 4\n  capabilities = [ # 5\n\"read\", /* 6 */\n] policy = /* 7\n7 */ \"read\" // 8\n\n # 9\n} /* 10 */\n// 11",
			"# 1\n\n/* 2 */            // 3\npath \"a\" {         # 4\n  capabilities = [ # 5\n    \"read\", /* 6 */\n  ] /* 7\n7 */\n  policy = \"read\" // 8\n\n  # 9\n} /* 10 */\n// 11\n",
		},
	} {
		if rules, err := (source{text: []byte(test.old)}).hcl2(); err == nil {
			t.Errorf("%q: HCL 2 takes it: %v", test.old, rules)
		}
		want, err := (source{text: []byte(test.canonical)}).hcl2()
		if err != nil || len(want) == 0 {
			t.Fatalf("%q: %v", test.canonical, err)
		}
		if got, err := Parse("p", test.old); err != nil || !reflect.DeepEqual(got.Rules, want) {
			t.Errorf("%q: %v, %v", test.old, got, err)
		}
		if got, err := Format(test.old); err != nil || got != test.canonical {
			t.Errorf("%q: %v\n%s", test.old, err, got)
		}
	}
}

// TestOlderFormsRefused: errors name the author's line, also after lines that were laid out anew.
func TestOlderFormsRefused(t *testing.T) {
	const odd = "path \"o\"\n{ capabilities = [\"read\"], policy = \"read\" } path \"p\" {}\n" // two lines
	const apart = ": put each block and each setting on a line of its own"
	for _, test := range []struct{ text, want string }{
		{odd + "path \"a\" { capabilities = [\"read\"]\n\n  capability = [] }", "line 5: a name that isn't known here: use capabilities"},
		{odd + "path \"a\"\n{ policy = \"read\"\n policy = \"deny\" }", "line 5: attribute redefined: correct it"},
		{odd + `path "a" { allowed_parameters { a = [] } allowed_parameters { b = [] } }`, "line 3: attribute redefined"},
		{odd + "path \"a\" { capabilities = [\n\"read\",\n\"canary\" ] policy = \"canary\" }", "line 3: capabilities: one of them isn't known"},
		{odd + "path \"a\" { capabilities = [\n\"read\" ] policy = \"canary\" }", "line 4: policy: must be read"},
		{odd + "path \"a\" { capabilities = [\n\"read\"\n\"list\" ] }", "line 5: missing item separator: correct it"},
		{odd + "# c\n/* c\nc */\n\n\npath \"a//b\" {}", "line 8: a path has no empty parts"},
		{odd + "path \"a\" {\n  capabilities [\"read\"]\n}", "line 4: argument or block definition required" + apart},
		{odd + "path \"a\" { capabilities = [\"read\"],, policy = \"read\" }", "line 3: argument or block definition required" + apart},
		{odd + "path \"a\" { comment = because policy = \"read\" }", "line 3: missing newline after argument" + apart},
		{odd + "}", "line 3: argument or block definition required" + apart},
		{odd + "path \"a\" {\n", "line 3: unclosed configuration block"},
		{odd + "path \"a\" {\n capabilities = [\"read\"", "line 4: "},
		{odd + "path \"a\" {\n capabilities = }", "line 4: invalid expression"},
		{odd + "path \"a\" = { policy = \"read\" }", "line 3: invalid block definition"},
		{odd + "path = { \"a\" = { policy = \"read\" } }", "line 3: a name that isn't known here: use name and path"},
		{odd + "path { policy = \"read\" }", "line 3: missing path for path"},
		{odd + "path \"a\"\npath \"b\" {}", "line 3: extraneous label for path"},
		{odd + "\"p\\u0061th\" \"b\" {}", "line 3: "},
		{odd + "path \"a\" {\n mfa_methods { a = 1 } }", "line 4: mfa_methods: this server can't enforce"},
		{odd + "path \"a\" { control_group {\n factor \"x\" {} } }", "line 4: "},
		{odd + "path \"a\" { capabilities = <<E\n[]\nE\n}", "line 3: a plain value is needed"},
		{odd + "path \"a\" { capabilities = [\"${1}\"] }", "line 3: a plain value is needed"},
		{`path "a" {} ` + strings.Repeat("{", 20), "line 1: brackets are nested too deeply"},
	} {
		p, err := Parse("x", test.text)
		if f := fault.As(err); f == nil || p != nil || !strings.Contains(f.Sentence, test.want) || strings.Contains(f.Sentence, "canary") {
			t.Errorf("%q: %v, %v", test.text, p, err)
		}
		if _, err := Format(test.text); fault.As(err) == nil {
			t.Errorf("%q: formatted", test.text)
		}
	}
}

// bothWays reads a text as HCL 2 takes it and laid out anew. It is false if one way refuses it.
func bothWays(text string) (plain, laid []Rule, ok bool) {
	s := source{text: []byte(text)}
	tokens, diags := hclsyntax.LexConfig(s.text, "", hcl.InitialPos)
	if diags.HasErrors() || guardHCL(tokens) != nil {
		return nil, nil, false
	}
	plain, err := s.hcl2()
	if err != nil {
		return nil, nil, false
	}
	laid, err = layOut(s.text, tokens).hcl2()
	return plain, laid, err == nil
}

// TestLayoutKeepsMeaning: what HCL 2 takes says the same when it is laid out.
func TestLayoutKeepsMeaning(t *testing.T) {
	for _, text := range []string{full, DefaultText, "", "# nothing", "path \"a\" {}\n\n", "path a { policy = \"read\" }"} {
		if plain, laid, ok := bothWays(text); !ok || !reflect.DeepEqual(plain, laid) {
			t.Errorf("%q: %v, %v", text, plain, laid)
		}
	}
}
