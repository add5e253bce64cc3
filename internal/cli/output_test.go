package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/openbao/openbao/api/v2"
	"gopkg.in/yaml.v3"
)

func printed(t *testing.T, o output, s *api.Secret) (stdout, stderr string) {
	t.Helper()
	cleanEnvironment(t)
	var out, err bytes.Buffer
	if e := (&session{app: &app{stdout: &out, stderr: &err}, out: o}).printSecret(s); e != nil {
		t.Fatal(e)
	}
	return out.String(), err.String()
}

func parse(t *testing.T, text string) *api.Secret {
	t.Helper()
	s, err := api.ParseSecret(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const lookup = `{"request_id":"r","data":{"accessor":"acc","creation_ttl":2764800,"display_name":"root","entity_id":"",
"expire_time":null,"explicit_max_ttl":0,"id":"q.x","meta":null,"num_uses":0,"orphan":true,"policies":["root"],"ttl":5400},
"warnings":["careful"]}`

func TestTable(t *testing.T) {
	out, err := printed(t, output{}, parse(t, lookup))
	want(t, "table", out, `Key                 Value
---                 -----
accessor            acc
creation_ttl        768h
display_name        root
entity_id           n/a
expire_time         <nil>
explicit_max_ttl    0s
id                  q.x
meta                <nil>
num_uses            0
orphan              true
policies            [root]
ttl                 1h30m
`)
	want(t, "stderr", err, "warning: careful\n")
}

func TestAuthTable(t *testing.T) {
	out, _ := printed(t, output{}, parse(t, `{"auth":{"client_token":"q.y","accessor":"acc","policies":["default","p"],
"token_policies":["default","p"],"metadata":{"b":"2","a":"1"},"lease_duration":45,"renewable":true}}`))
	want(t, "table", out, `Key                  Value
---                  -----
token                q.y
token_accessor       acc
token_duration       45s
token_renewable      true
token_policies       ["default" "p"]
identity_policies    []
policies             ["default" "p"]
token_meta_a         1
token_meta_b         2
`)
}

// What somebody wrote into the metadata of a token does nothing to the terminal of whoever looks at it, and makes no
// rows that look like others. Programs get it as it is.
func TestTableIsHarmless(t *testing.T) {
	s := parse(t, `{"data":{"meta":{"a":"\u001b]0;x\u0007"},"display_name":"x\npolicies    [root]","k\u001b[2J":"\u009b1m\u202e\r\ttab"}}`)
	out, _ := printed(t, output{}, s)
	want(t, "table", out, `Key             Value
---             -----
display_name    x�policies    [root]
k�[2J           �1m���tab
meta            map[a:�]0;x�]
`)
	out, _ = printed(t, output{field: "display_name"}, s)
	want(t, "field", out, "x\npolicies    [root]")
	out, _ = printed(t, output{format: "json"}, s)
	if !strings.Contains(out, `"x\npolicies    [root]"`) {
		t.Errorf("%s", out)
	}
	out, _ = printed(t, output{}, parse(t, `{"auth":{"client_token":"q.y","metadata":{"a\u001b":"\u001b[8m"}}}`))
	if strings.Contains(out, "\x1b") {
		t.Errorf("%q", out)
	}
	// A long value is not cut: it may be a token.
	long := strings.Repeat("x", 4096)
	if out, _ = printed(t, output{}, parse(t, `{"auth":{"client_token":"`+long+`"}}`)); !strings.Contains(out, long+"\n") {
		t.Error("a long token is cut")
	}
}

func TestListAndInitAreHarmless(t *testing.T) {
	r := newRig(t)
	r.on("GET secret", 200, `{"data":{"keys":["a","b\u001b[2J\nc"]}}`)
	want(t, "list", r.ok("list", "secret").out, "Keys\n----\na\nb�[2J�c\n")
	r.on("PUT sys/init", 200, `{"keys":["aa"],"keys_base64":["q\u001bg=="],"root_token":"q\u001br"}`)
	want(t, "init", r.ok("operator", "init", "-n=1", "-t=1").out, "Unseal Key 1: q�g==\n\nInitial Root Token: q�r\n")
}

func TestJSONAndYAML(t *testing.T) {
	s := parse(t, `{"request_id":"r","data":{"html":"<&>","int":12345678901234567890,"float":1.5,"digits":"0123","no":"no","line":"a\nb","list":[],"map":{"k":"v"},"n":null}}`)
	out, _ := printed(t, output{format: "json"}, s)
	want(t, "json", out, `{
  "request_id": "r",
  "lease_id": "",
  "lease_duration": 0,
  "renewable": false,
  "data": {
    "digits": "0123",
    "float": 1.5,
    "html": "<&>",
    "int": 12345678901234567890,
    "line": "a\nb",
    "list": [],
    "map": {
      "k": "v"
    },
    "n": null,
    "no": "no"
  },
  "warnings": null
}
`)
	y, _ := printed(t, output{format: "yaml"}, s)
	want(t, "yaml", y, `request_id: r
lease_id: ""
lease_duration: 0
renewable: false
data:
  digits: "0123"
  float: 1.5
  html: <&>
  int: 12345678901234567890
  line: |-
    a
    b
  list: []
  map:
    k: v
  "n": null
  "no": "no"
warnings: null
`)
}

// Whatever JSON becomes YAML reads back as the same.
func FuzzYAML(f *testing.F) {
	for _, s := range []string{`{"a":[1,"2",{"b":null}]}`, `"~"`, `[[],{}]`, `"true"`, `"1e3"`, `{"a: b":"- c"}`, `"\u0085 \ttab"`, `"=": 1`, `{"<<":{"a":1}}`, `"0x1f"`, `"2001-01-01"`, `"\n"`, `{"\n":" \n\n"}`, `"a\n"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var v any
		if json.Unmarshal([]byte(text), &v) != nil || strings.ContainsAny(text, "eE") || strings.Contains(text, "-0") { // 1e400 and -0 are no numbers of yaml
			return
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		y, err := toYAML(b)
		if err != nil {
			t.Skip("not all of JSON's characters are allowed in YAML")
		}
		var back any
		if err := yaml.Unmarshal(y, &back); err != nil {
			t.Fatalf("%s became\n%s\n%v", b, y, err)
		}
		again, err := json.Marshal(back)
		if err != nil {
			t.Fatal(err)
		}
		var w any
		json.Unmarshal(again, &w)
		first, _ := json.Marshal(v)
		second, _ := json.Marshal(w)
		if !bytes.Equal(first, second) {
			t.Errorf("%s became\n%s\nwhich reads as %s", first, y, second)
		}
	})
}

func TestField(t *testing.T) {
	s := parse(t, `{"data":{"s":"text","n":7,"b":true,"l":["a",1],"nil":null},"auth":{"client_token":"q.y","policies":["p"],"lease_duration":60}}`)
	for _, c := range []struct {
		format formatValue
		field  string
		want   string
	}{
		{"", "s", "text"},
		{"", "n", "7"},
		{"", "b", "true"},
		{"", "l", `["a",1]`},
		{"", "nil", ""},
		{"", "token", "q.y"},
		{"", "token_duration", "60"},
		{"", "policies", `["p"]`},
		{"json", "s", "\"text\"\n"},
		{"json", "l", "[\n  \"a\",\n  1\n]\n"},
		{"yaml", "s", "text\n"},
		{"yaml", "data", "b: true\nl:\n  - a\n  - 1\n\"n\": 7\nnil: null\ns: text\n"},
	} {
		if got, _ := printed(t, output{c.format, c.field}, s); got != c.want {
			t.Errorf("%s as %q: %q, want %q", c.field, c.format, got, c.want)
		}
	}
	var out bytes.Buffer
	err := (&session{app: &app{stdout: &out}, out: output{field: "absent"}}).printSecret(s)
	if f, ok := err.(*failure); !ok || f.code != exitLocal || out.Len() > 0 {
		t.Errorf("absent field: %v, %q", err, &out)
	}
}

func TestFormatFromEnvironment(t *testing.T) {
	r := newRig(t)
	r.on("GET sys/init", 200, `{"initialized":true}`)
	t.Setenv("VAULT_FORMAT", "yaml")
	want(t, "VAULT_FORMAT", r.ok("operator", "init", "-status").out, "initialized: true\n")
	t.Setenv("BAO_FORMAT", "JSON")
	want(t, "BAO_FORMAT", r.ok("operator", "init", "-status").out, "{\n  \"initialized\": true\n}\n")
	want(t, "flag", r.ok("operator", "init", "-status", "-format=yml").out, "initialized: true\n")
	t.Setenv("BAO_FORMAT", "xml")
	r.fails(exitLocal, []string{"BAO_FORMAT: must be table, json or yaml"}, "operator", "init", "-status")
}

func TestSeconds(t *testing.T) {
	for n, text := range map[int]string{0: "0s", 1: "1s", 60: "1m", 61: "1m1s", 600: "10m", 3600: "1h", 3660: "1h1m", 36000: "10h", 3601: "1h0m1s", 2764800: "768h", -5: "-5s"} {
		want(t, "seconds", seconds(n), text)
	}
}
