package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// grants is a policy of rules "path: capabilities".
func grants(name string, rules ...string) *Policy {
	p := &Policy{Name: name}
	for _, r := range rules {
		path, names, _ := strings.Cut(r, ": ")
		out := Rule{Path: path}
		for _, name := range strings.Fields(names) {
			c, ok := capability(name)
			if !ok {
				panic(name)
			}
			out.Capabilities |= c
		}
		p.Rules = append(p.Rules, out)
	}
	return p
}

// TestWhichRuleApplies: the first pattern applies, although the second one matches, too.
func TestWhichRuleApplies(t *testing.T) {
	for _, test := range []struct {
		path          string
		list          bool
		winner, loser string
	}{
		{"a/b", false, "a/b", "a/*"},
		{"a/b", false, "a/b", "a/b*"},
		{"a/b", false, "a/b", "a/+"},
		{"a/b", false, "a/b*", "a/*"},
		{"a/b", false, "a/*", "*"},
		{"a/b/c", false, "a/b*", "a/+/c"}, // a later first wildcard
		{"a/b/c", false, "a/b/+", "a/+/c"},
		{"a/b/c", false, "a/+/c", "a/*"}, // no star at the end
		{"a/b/c", false, "a/+/+", "a/+/c*"},
		{"a/b/c/d", false, "a/+/c/d", "a/+/+/d"}, // fewer +
		{"a/b/c/d", false, "a/*", "a/+/c/*"},
		{"a/b/c/d", false, "a/+/c/*", "a/+/+/d*"},
		{"a/b/c/d", false, "a/+/c/d*", "a/+/c/*"}, // longer
		{"a/b/c/d", false, "a/+/c/+", "a/+/+/d"},  // lexicographically greater
		{"a", true, "a/", "a"},
		{"a", true, "a", "a/*"},
		{"a", true, "a", "+"},
		{"a", true, "a/*", "*"},
		{"x/a", true, "x/+", "x/*"},
		{"x/a", true, "x/a/*", "x/+"},
		{"x/a", true, "x/+/", "x/+"},
		{"x/a", true, "x/a*", "x/+"},
	} {
		q := &Ask{Path: test.path, Want: Read}
		if test.list {
			q.Want = List
		}
		for _, order := range [][]string{{test.winner, test.loser}, {test.loser, test.winner}} {
			a := Compile(grants("p", order[0]+": sudo", order[1]+": sudo"))
			if got := a.Explain(q); got.Rule != test.winner {
				t.Errorf("%q over %q on %q: %q applies", test.winner, test.loser, test.path, got.Rule)
			}
		}
		if got := Compile(grants("p", test.loser+": sudo")).Explain(q); got.Rule != test.loser {
			t.Errorf("%q doesn't match %q", test.loser, test.path)
		}
	}
}

func TestNoRuleApplies(t *testing.T) {
	for _, test := range []struct{ pattern, path string }{
		{"a/b*", "a/"},
		{"a/b*", "a"},
		{"a/*", "a"},
		{"a", "a/"},
		{"a", "a/b"},
		{"+", "a/b"},
		{"a/+", "a"},
		{"a/+", "a/b/c"},
		{"a/+/c", "a/c"},
		{"a/+/c", "a/b/b/c"},
		{"a/+/c*", "a/b/d"},
		{"+/b", "a/bb"},
		{"a/b", "A/b"},
		{"a/*", "/a/b"},
	} {
		if got := Compile(grants("p", test.pattern+": read")).Decide(&Ask{Path: test.path, Want: Read}); got != (Verdict{}) || got.Reason != NoRule {
			t.Errorf("%q matches %q", test.pattern, test.path)
		}
	}
}

// TestMerge: rules of one text are united, deny alone wins; other texts have no say.
func TestMerge(t *testing.T) {
	a := Compile(
		grants("one", "a/*: read", "b/+: read", "c: read", "d/*: deny", "d/e/*: read", "f/*: read list", "f/g/*: list", "g: read"),
		nil,
		grants("two", "a/*: update sudo", "b/+: deny", "c: deny", "g: ", "g: list"),
	)
	for path, want := range map[string]string{
		"a/x":   "read, sudo, update",
		"b/x":   "deny",
		"c":     "deny",
		"d/x":   "deny",
		"d/e/x": "read",
		"f/x":   "list, read",
		"f/g/x": "list",
		"g":     "list, read",
		"/g":    "list, read",
		"g/":    "list, read",
		"h":     "deny",
		"":      "deny",
	} {
		if got := strings.Join(a.Capabilities(path), ", "); got != want {
			t.Errorf("%q: %s, want %s", path, got, want)
		}
	}
	for _, test := range []struct {
		q    Ask
		want Explanation
	}{
		{Ask{Path: "a/x", Want: Update, Sudo: true}, Explanation{Verdict{true, Granted}, "a/*", []string{"read", "sudo", "update"}, []string{"one", "two"}}},
		{Ask{Path: "a/x", Want: Sudo}, Explanation{Verdict{true, Granted}, "a/*", []string{"read", "sudo", "update"}, []string{"one", "two"}}},
		{Ask{Path: "a/x", Want: Delete, Sudo: true}, Explanation{Verdict{false, NoCapability}, "a/*", []string{"read", "sudo", "update"}, []string{"one", "two"}}},
		{Ask{Path: "f/x", Want: Read, Sudo: true}, Explanation{Verdict{false, NoSudo}, "f/*", []string{"list", "read"}, []string{"one"}}},
		{Ask{Path: "f/x", Want: Sudo}, Explanation{Verdict{false, NoSudo}, "f/*", []string{"list", "read"}, []string{"one"}}},
		{Ask{Path: "b/x", Want: Read}, Explanation{Verdict{false, Denied}, "b/+", []string{"deny"}, []string{"one", "two"}}},
		{Ask{Path: "g", Want: List}, Explanation{Verdict{true, Granted}, "g", []string{"list", "read"}, []string{"one", "two"}}},
		{Ask{Path: "z", Want: Read}, Explanation{Verdict{false, NoRule}, "", []string{"deny"}, nil}},
		{Ask{Path: "a/x"}, Explanation{Verdict{false, NoCapability}, "", []string{"deny"}, nil}},
	} {
		if got := a.Explain(&test.q); fmt.Sprint(got) != fmt.Sprint(test.want) {
			t.Errorf("%+v: %+v, want %+v", test.q, got, test.want)
		}
	}
	root := Compile(Builtin(Root), grants("one", "a: deny")).Explain(&Ask{Path: "a", Want: Read})
	if fmt.Sprint(root) != fmt.Sprint(Explanation{Verdict{true, IsRoot}, "", []string{"root"}, []string{"root"}}) {
		t.Errorf("root: %+v", root)
	}
}

// TestListCantGetAroundADeny: what a deny is written for is denied to a list, too, whichever way the path is spelled.
func TestListCantGetAroundADeny(t *testing.T) {
	for _, deny := range []string{"s/r", "s/r/", "s/r/*", "s/r*", "s/+", "s/+/", "+/r", "+/r/"} {
		broad := "s/*: list read"
		if strings.HasPrefix(deny, "+") {
			broad = "*: list read"
		}
		a := Compile(grants("p", broad, deny+": deny"))
		for _, path := range []string{"s/r", "s/r/"} {
			if v := a.Decide(&Ask{Path: path, Want: List}); v.Allowed {
				t.Errorf("list %q goes past a deny on %q", path, deny)
			}
		}
		if !a.Decide(&Ask{Path: "s", Want: List}).Allowed && deny != "s/+" {
			t.Errorf("list s is denied by %q", deny)
		}
	}
}

func TestParameters(t *testing.T) {
	rule := Rule{
		Path: "p", Capabilities: everything, Required: []string{"must"},
		Denied:  Params{"evil": nil, "mode": {"0777", "*x"}, "level": {"5"}},
		Allowed: Params{"must": nil, "mode": {"a*", "*z", "*mid*", "0777"}, "level": {"5", "6"}, "on": {"true"}, "any": {"*"}},
	}
	strict := Compile(&Policy{Rules: []Rule{rule}})
	rule.Allowed = Params{"mode": {"a"}, "*": nil}
	open := Compile(&Policy{Rules: []Rule{rule}})
	rule.Denied = Params{"*": {"x"}}
	closed := Compile(&Policy{Rules: []Rule{rule}})
	rule.Denied, rule.Allowed, rule.Required = nil, Params{"a": {"x"}, "*": {"y"}}, nil
	valued := Compile(&Policy{Rules: []Rule{rule}})
	for _, test := range []struct {
		name string
		acl  *ACL
		want Capability
		data string
		got  Reason
	}{
		{"ReadNeedsIt", strict, Read, ``, ParameterMissing},
		{"ReadHasIt", strict, Read, `{"must": 1, "evil": 1, "other": 1}`, Granted},
		{"ListDoesntNeedIt", strict, List, `{"evil": 1}`, Granted},
		{"DeleteDoesntNeedIt", strict, Delete, `{"evil": 1}`, Granted},
		{"WriteNeedsIt", strict, Update, `{"level": 6}`, ParameterMissing},
		{"NullIsntGiven", strict, Update, `{"must": null}`, ParameterMissing},
		{"Denied", strict, Update, `{"must": 1, "evil": 1}`, ParameterDenied},
		{"DeniedInAnyCase", strict, Create, `{"must": 1, "EviL": 1}`, ParameterDenied},
		{"DeniedBeforeAllowed", strict, Patch, `{"must": 1, "mode": "0777"}`, ParameterDenied},
		{"DeniedGlob", strict, Patch, `{"must": 1, "mode": "aax"}`, ParameterDenied},
		{"DeniedInList", strict, Update, `{"must": 1, "mode": ["ab", ["0777"]]}`, ParameterDenied},
		{"DeniedBetweenCommas", strict, Update, `{"must": 1, "mode": "ab, 0777"}`, ParameterDenied},
		{"DeniedNumber", strict, Update, `{"must": 1, "level": 5}`, ParameterDenied},
		{"DeniedNumberInDisguise", strict, Update, `{"must": 1, "level": 5.0}`, ParameterDenied},
		{"DeniedNumberAsString", strict, Update, `{"must": 1, "level": "5"}`, ParameterDenied},
		{"AllowedNumber", strict, Update, `{"must": 1, "level": 6e0}`, Granted},
		{"OtherNumber", strict, Update, `{"must": 1, "level": 7}`, ParameterNotAllowed},
		{"AllowedPrefix", strict, Update, `{"must": 1, "mode": "ab"}`, Granted},
		{"AllowedSuffix", strict, Update, `{"must": 1, "Mode": "bz"}`, Granted},
		{"AllowedMiddle", strict, Update, `{"must": 1, "mode": "bmidb"}`, Granted},
		{"NotAllowedValue", strict, Update, `{"must": 1, "mode": "b"}`, ParameterNotAllowed},
		{"NotAllowedName", strict, Update, `{"must": 1, "new": "b"}`, ParameterNotAllowed},
		{"AllowedList", strict, Update, `{"must": 1, "mode": ["ab", "ac"]}`, Granted},
		{"ListWithAnother", strict, Update, `{"must": 1, "mode": ["ab", "b"]}`, ParameterNotAllowed},
		{"AnotherAfterComma", strict, Update, `{"must": 1, "mode": "ab,b"}`, ParameterNotAllowed},
		{"Object", strict, Update, `{"must": 1, "mode": {"a": "a"}}`, ParameterNotAllowed},
		{"AnyObject", strict, Update, `{"must": {}, "any": {"a": "a"}}`, Granted},
		{"Truth", strict, Update, `{"must": 1, "on": true}`, Granted},
		{"OtherTruth", strict, Update, `{"must": 1, "on": false}`, ParameterNotAllowed},
		{"Others", open, Update, `{"must": 1, "new": 1, "mode": "a"}`, Granted},
		{"OthersButNotThat", open, Update, `{"must": 1, "new": 1, "mode": "b"}`, ParameterNotAllowed},
		{"AllDenied", closed, Update, `{"must": 1}`, ParameterDenied},
		{"NoDataToDeny", valued, Update, `{}`, Granted},
		{"OthersWithValue", valued, Update, `{"a": "x", "b": "y"}`, Granted},
		{"OthersWithOtherValue", valued, Update, `{"b": "x"}`, ParameterNotAllowed},
	} {
		t.Run(test.name, func(t *testing.T) {
			q := &Ask{Path: "p", Want: test.want}
			if test.data != "" {
				q.Data = func() (data map[string]any) {
					dec := json.NewDecoder(strings.NewReader(test.data))
					dec.UseNumber()
					if err := dec.Decode(&data); err != nil {
						t.Fatal(err)
					}
					return data
				}
			}
			if got := test.acl.Decide(q); got.Reason != test.got || got.Allowed != (test.got == Granted) {
				t.Errorf("%v, want %v", got, test.got)
			}
			var plain map[string]any // with numbers as float64
			if json.Unmarshal([]byte(test.data), &plain) == nil {
				q.Data = func() map[string]any { return plain }
				if got := test.acl.Decide(q); got.Reason != test.got {
					t.Errorf("with plain numbers %v, want %v", got, test.got)
				}
			}
		})
	}
	// The letters whose capitals are ASCII are other spellings of these.
	kelvin := Compile(&Policy{Rules: []Rule{{Path: "p", Capabilities: Update, Denied: Params{"ks": nil}}}})
	for _, name := range []string{"ks", "KS", "\u212as", "k\u017f"} {
		if kelvin.Decide(&Ask{Path: "p", Want: Update, Data: func() map[string]any { return map[string]any{name: "x"} }}).Allowed {
			t.Errorf("%q isn't denied", name)
		}
	}
}

// TestDataIsAskedForOnlyIfNeeded: decoding a body costs more than all the rest.
func TestDataIsAskedForOnlyIfNeeded(t *testing.T) {
	a := Compile(&Policy{Rules: []Rule{
		{Path: "free", Capabilities: everything},
		{Path: "bound", Capabilities: everything, Denied: Params{"x": nil}},
	}})
	asked := 0
	data := func() map[string]any { asked++; return nil }
	for _, q := range []Ask{
		{Path: "free", Want: Update}, {Path: "bound", Want: List}, {Path: "bound", Want: Delete}, {Path: "bound", Want: Update, Sudo: true}, {Path: "none", Want: Update},
	} {
		q.Data = data
		a.Explain(&q)
	}
	if asked != 0 {
		t.Errorf("asked %d times", asked)
	}
	if a.Decide(&Ask{Path: "bound", Want: Update, Data: data}); asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

func TestMergedParameters(t *testing.T) {
	a := Compile(
		&Policy{Rules: []Rule{{Path: "p", Allowed: Params{"a": {"1"}, "b": {"1"}}, Denied: Params{"c": {"1"}}, Required: []string{"x", "y"}}}},
		&Policy{Rules: []Rule{{Path: "p", Allowed: Params{"A": {"2"}, "b": nil}, Denied: Params{"c": nil, "d": {"1"}}, Required: []string{"z", "x"}}}},
		&Policy{Rules: []Rule{{Path: "p", Allowed: Params{"b": {"3"}}}}},
	)
	r := a.exact["p"]
	if fmt.Sprint(r.allowed, r.denied, r.required) != "map[a:[1 2] b:[]] map[c:[] d:[1]] [x y z]" {
		t.Errorf("%v %v %v", r.allowed, r.denied, r.required)
	}
}

func TestWrapping(t *testing.T) {
	rule := func(lo, hi time.Duration) *Policy {
		return &Policy{Rules: []Rule{{Path: "p", Capabilities: Read, MinWrap: lo, MaxWrap: hi}}}
	}
	for _, test := range []struct {
		acl  *ACL
		ttl  time.Duration
		want Reason
	}{
		{Compile(rule(0, 0)), 0, Granted},
		{Compile(rule(0, 0)), 5, Granted},
		{Compile(rule(5, 0)), 0, WrappingNeeded},
		{Compile(rule(5, 0)), 4, WrappingTooShort},
		{Compile(rule(5, 0)), 5, Granted},
		{Compile(rule(0, 5)), 0, WrappingNeeded},
		{Compile(rule(0, 5)), 5, Granted},
		{Compile(rule(0, 5)), 6, WrappingTooLong},
		{Compile(rule(5, 9), rule(0, 0)), 0, WrappingNeeded},
		{Compile(rule(5, 9), rule(3, 0)), 3, Granted},
		{Compile(rule(5, 9), rule(0, 7)), 8, WrappingTooLong},
		{Compile(rule(5, 9), rule(0, 3)), 4, WrappingTooShort}, // merged into bounds that nothing meets
		{Compile(rule(5, 9), rule(0, 3)), 5, WrappingTooLong},
		{Compile(rule(5, 9), Builtin(Root)), 0, IsRoot},
	} {
		if got := test.acl.Decide(&Ask{Path: "p", Want: Read, WrapTTL: test.ttl}); got.Reason != test.want {
			t.Errorf("%d: %v, want %v", test.ttl, got, test.want)
		}
	}
}

func TestBelow(t *testing.T) {
	for _, test := range []struct {
		rules string
		want  bool
	}{
		{"", false},
		{"secret/data/app: read", true},
		{"secret/: list", true},
		{"secret: list", true},
		{"secret/*: read", true},
		{"sec*: read", true},
		{"*: read", true},
		{"+/data/app: read", true},
		{"+/*: read", true},
		{"+: list", true},
		{"secrets/*: read", false},
		{"secret2/a: read", false},
		{"secre: read", false},
		{"secret-/+: read", false},
		{"secret/*: deny", false},
		{"secret/*: ", false},
		{"secret/*: deny; secret/a: read", true},
		{"secret/*: deny; secret/a/+: read", true},
		{"secret/*: read; secret/a: deny", true},
		{"*: read; secret/*: deny", false},
		{"*: read; secret/*: ", false},
		{"*: read; sec*: deny", false},
		{"*: deny; sec*: read", true},
		{"+/*: read; secret/*: deny", false},
		{"secret/+/a: read; secret/*: deny", true},
		{"+/a: read; secret/*: deny", false},
		{"*: read; +/*: deny", true}, // the first applies
		{"+/*: read; +/s*: deny", true},
		{"*: read; secret/+: deny", true},
	} {
		if got := Compile(grants("p", strings.Split(test.rules, "; ")...)).Below("secret/"); got != test.want {
			t.Errorf("%s: %v", test.rules, got)
		}
	}
	if Compile(grants("p", "auth/userpass/users/+: read")).Below("auth/approle/") || !Compile(grants("p", "auth/userpass/users/+: read")).Below("auth/userpass/") {
		t.Error("a mount with two parts")
	}
}

func TestResultant(t *testing.T) {
	exact, glob := Compile(grants("p", "a: read", "b/*: list sudo", "c/+/d*: read", "e/+: deny", "f: ", "*: update")).Resultant()
	if got := fmt.Sprint(exact, glob); got != "map[a:[read] f:[deny]] map[:[update] b/:[list sudo] c/+/d*:[read] e/+:[deny]]" {
		t.Error(got)
	}
}

// reference is wire reference 6.2, written down without a thought of speed.
func reference(rules []Rule, path string, list bool) (applies string, caps Capability) {
	spellings := []string{path}
	if list {
		spellings = []string{path + "/", path}
	}
	var matching []string
	for _, spelling := range spellings {
		for _, r := range rules {
			if r.Path == spelling {
				matching = []string{r.Path}
				goto merge // exact
			}
			open := strings.HasSuffix(r.Path, "*")
			pattern, parts := strings.Split(strings.TrimSuffix(r.Path, "*"), "/"), strings.Split(spelling, "/")
			if open && len(parts) > len(pattern) {
				parts = append(parts[:len(pattern)-1:len(pattern)-1], strings.Join(parts[len(pattern)-1:], "/"))
			}
			matches := len(parts) == len(pattern) && strings.ContainsAny(r.Path, "+*")
			for i := 0; matches && i < len(parts); i++ {
				last := i == len(parts)-1
				matches = pattern[i] == "+" || pattern[i] == parts[i] || open && last && strings.HasPrefix(parts[i], pattern[i])
			}
			if matches {
				matching = append(matching, r.Path)
			}
		}
	}
	if matching == nil {
		return "", 0
	}
merge:
	best := slices.MaxFunc(matching, func(a, b string) int {
		first := func(s string) int { return strings.IndexAny(s, "+*") }
		open := func(s string) int { return -strings.Count(s, "*") }
		pluses := func(s string) int { return -strings.Count(s, "+") }
		for _, by := range []func(string) int{first, open, pluses, func(s string) int { return len(s) }} {
			if by(a) != by(b) {
				return by(a) - by(b)
			}
		}
		return strings.Compare(a, b)
	})
	for _, r := range rules {
		if r.Path == best {
			caps |= r.Capabilities
		}
	}
	if caps&Deny != 0 {
		caps = Deny
	}
	return best, caps
}

// randomPath draws from few and similar parts, so that rules and paths meet often.
func randomPath(rnd *rand.Rand, wild bool) string {
	parts := []string{"a", "b", "ab", "abc", "c", "a.b"}
	path := make([]string, 1+rnd.IntN(4))
	for i := range path {
		path[i] = parts[rnd.IntN(len(parts))]
		if wild && rnd.IntN(3) == 0 {
			path[i] = "+"
		}
	}
	s := strings.Join(path, "/")
	if !wild {
		return s
	}
	switch rnd.IntN(5) {
	case 0:
		s += "/"
	case 1:
		s += "/*"
	case 2:
		s = s[:rnd.IntN(len(s)+1)] + "*"
	}
	return strings.ReplaceAll(s, "+*", "*")
}

// TestDecideMatchesReference compares with the reference on random policies and paths.
func TestDecideMatchesReference(t *testing.T) {
	cases := 1_000_000
	if testing.Short() {
		cases = 200_000
	}
	const perPolicy = 500
	rnd := rand.New(rand.NewPCG(4, 4))
	met := map[Reason]int{}
	for range cases / perPolicy {
		var rules []Rule
		policies := make([]*Policy, 1+rnd.IntN(3))
		for i := range policies {
			policies[i] = &Policy{Name: fmt.Sprint(i)}
			for range rnd.IntN(12) {
				r := Rule{Path: randomPath(rnd, true), Capabilities: Capability(rnd.Uint32()) & (everything | Sudo)}
				if _, err := canonical(r.Path); err != nil {
					t.Fatalf("%q: %v", r.Path, err)
				}
				if rnd.IntN(6) == 0 {
					r.Capabilities = Deny
				}
				policies[i].Rules = append(policies[i].Rules, r)
			}
			rules = append(rules, policies[i].Rules...)
		}
		a := Compile(policies...)
		for range perPolicy {
			q := &Ask{Path: randomPath(rnd, false), Want: all[rnd.IntN(len(all))], Sudo: rnd.IntN(4) == 0}
			rule, caps := reference(rules, q.Path, q.Want == List)
			allowed := caps&q.Want != 0 && (!q.Sudo || caps&Sudo != 0)
			got := a.Explain(q)
			met[got.Reason]++
			if got.Allowed != allowed || got.Rule != rule || a.Decide(q) != got.Verdict {
				t.Fatalf("%+v: %+v, but by the reference %q applies with %v\n%+v", q, got, rule, caps, rules)
			}
			if caps&^Deny != 0 {
				for i := range len(q.Path) {
					if prefix := q.Path[:i+1]; q.Path[i] == '/' && !a.Below(prefix) {
						t.Fatalf("%q is granted, but nothing below %q\n%+v", q.Path, prefix, rules)
					}
				}
			}
		}
	}
	for _, reason := range []Reason{NoRule, Granted, Denied, NoCapability, NoSudo} {
		if met[reason] < cases/50 {
			t.Errorf("%q came only %d times", reason, met[reason])
		}
	}
}

// many is a policy of n rules of all kinds, as a large team has them.
func many(n int) *Policy {
	p := &Policy{Name: "many"}
	for i := range n {
		path := fmt.Sprintf([]string{
			"secret/data/team%d/app", "secret/data/team%d/*", "secret/+/team%d/db/*", "kv/team%d/+/config", "secret/metadata/team%d*",
		}[i%5], i)
		p.Rules = append(p.Rules, Rule{Path: path, Capabilities: Read | List})
	}
	return p
}

func TestDecideAllocatesNothing(t *testing.T) {
	a := Compile(many(1000))
	for _, q := range []*Ask{
		{Path: "secret/data/team500/app", Want: Read},
		{Path: "secret/data/team501/a/b/c", Want: Update},
		{Path: "kv/team503/web/config", Want: Read, Sudo: true},
		{Path: "secret/metadata/team504/a", Want: List},
		{Path: "nowhere", Want: List},
		{Path: strings.Repeat("secret/da", 1024/9), Want: List},
	} {
		if n := testing.AllocsPerRun(100, func() { a.Decide(q) }); n != 0 {
			t.Errorf("%v on %q allocates %v times", q.Want, q.Path, n)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	nested := &Policy{}
	for i := range 1000 {
		nested.Rules = append(nested.Rules, Rule{Path: strings.Repeat("a", i) + "*"}, Rule{Path: "+/" + strings.Repeat("a", i) + "/+/*"})
	}
	for _, bench := range []struct {
		name string
		acl  *ACL
		q    Ask
	}{
		{"Exact", Compile(many(1000)), Ask{Path: "secret/data/team500/app", Want: Read}},
		{"Prefix", Compile(many(1000)), Ask{Path: "secret/data/team501/a/b/c", Want: Read}},
		{"Plus", Compile(many(1000)), Ask{Path: "secret/data/team502/db/main", Want: Read}},
		{"PlusLater", Compile(many(1000)), Ask{Path: "kv/team503/web/config", Want: Read}},
		{"List", Compile(many(1000)), Ask{Path: "secret/metadata/team504/a", Want: List}},
		{"NoRule", Compile(many(1000)), Ask{Path: "pki/issue/web", Want: Update}},
		{"Default", Compile(bornDefault(b)), Ask{Path: "cubbyhole/a", Want: Read}},
		{"Contrived", Compile(nested), Ask{Path: strings.Repeat("a", 1000), Want: List}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				bench.acl.Decide(&bench.q)
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	p := many(1000)
	for b.Loop() {
		Compile(p)
	}
}

// TestCompileKeepsItsPolicies: they may be shared by many.
func TestCompileKeepsItsPolicies(t *testing.T) {
	values := append(make([]string, 0, 10), "1")
	p := &Policy{Name: "p", Rules: []Rule{{Path: "p", Allowed: Params{"a": values}, Required: append(make([]string, 0, 10), "z", "a")}}}
	want := maps.Clone(p.Rules[0].Allowed)
	Compile(p, p, &Policy{Rules: []Rule{{Path: "p", Allowed: Params{"a": {"2"}}, Required: []string{"b"}}}})
	if fmt.Sprint(p.Rules[0].Allowed, p.Rules[0].Required, values[:2]) != fmt.Sprint(want, []string{"z", "a"}, []string{"1", ""}) {
		t.Errorf("%+v", p.Rules[0])
	}
}
