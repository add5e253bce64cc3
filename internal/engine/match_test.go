package engine

import (
	"context"
	"maps"
	"strings"
	"testing"
)

func routes(patterns ...string) []Route {
	list := make([]Route, len(patterns))
	for i, p := range patterns {
		list[i] = Route{Path: p, Ops: map[Operation]Handler{Read: func(context.Context, *Request) (*Response, error) { return nil, nil }}}
	}
	return list
}

func newTable(t testing.TB, patterns ...string) *Table {
	t.Helper()
	table, err := NewTable(routes(patterns...))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestMatch(t *testing.T) {
	table := newTable(t, "config", "data/{path...}", "data/special", "role", "role/{role}", "role/{role}/secret-id", "role/{name}/secret-id/lookup",
		"role/fixed/{x}", "{any}/end", "deep/{a}/{b}/{rest...}")
	type params = map[string]string
	for _, c := range []struct {
		path, pattern string
		params        params
	}{
		{"config", "config", nil},
		{"config/", "config", nil},
		{"config/x", "", nil},
		{"confi", "", nil},
		{"", "", nil},
		{"/", "", nil},
		{"/config", "", nil},
		{"data", "", nil},
		{"data/", "data/{path...}", params{"path": ""}},
		{"data/a", "data/{path...}", params{"path": "a"}},
		{"data/a/b/", "data/{path...}", params{"path": "a/b/"}},
		{"data//", "data/{path...}", params{"path": "/"}},
		{"data/special", "data/special", nil},
		{"data/special/", "data/special", nil},
		{"data/special/x", "data/{path...}", params{"path": "special/x"}},
		{"role", "role", nil},
		{"role/", "role", nil},
		{"role/a", "role/{role}", params{"role": "a"}},
		{"role/a/", "", nil},
		{"role//secret-id", "", nil},
		{"role/a/secret-id", "role/{role}/secret-id", params{"role": "a"}},
		{"role/a/secret-id/", "role/{role}/secret-id", params{"role": "a"}},
		{"role/a/secret-id/lookup", "role/{name}/secret-id/lookup", params{"name": "a"}},
		{"role/fixed", "role/{role}", params{"role": "fixed"}},
		{"role/fixed/y", "role/fixed/{x}", params{"x": "y"}},
		{"role/fixed/secret-id", "role/fixed/{x}", params{"x": "secret-id"}},
		{"role/fixed/secret-id/lookup", "role/{name}/secret-id/lookup", params{"name": "fixed"}}, // back from the fixed part
		{"role/end", "role/{role}", params{"role": "end"}},
		{"x/end", "{any}/end", params{"any": "x"}},
		{"config/end", "{any}/end", params{"any": "config"}},
		{"deep/1/2/", "deep/{a}/{b}/{rest...}", params{"a": "1", "b": "2", "rest": ""}},
		{"deep/1/2/3/4", "deep/{a}/{b}/{rest...}", params{"a": "1", "b": "2", "rest": "3/4"}},
		{"deep/1/2", "", nil},
		{"{any}/end", "{any}/end", params{"any": "{any}"}},
	} {
		r, got := table.Match(c.path)
		pattern := ""
		if r != nil {
			pattern = r.Path
		}
		if pattern != c.pattern || !maps.Equal(got, c.params) {
			t.Errorf("%q: %q %v, want %q %v", c.path, pattern, got, c.pattern, c.params)
		}
	}
}

func TestMatchRoot(t *testing.T) {
	if r, params := newTable(t, "{path...}").Match(""); r == nil || params["path"] != "" || len(params) != 1 {
		t.Errorf("the rest below the mount doesn't match its root: %v %v", r, params)
	}
	table := newTable(t, "", "{path...}")
	if r, _ := table.Match(""); r == nil || r.Path != "" {
		t.Errorf("the root's own route doesn't win: %v", r)
	}
	if r, _ := table.Match("a"); r == nil || r.Path != "{path...}" {
		t.Errorf("a: %v", r)
	}
}

func TestNewTableRefuses(t *testing.T) {
	for _, patterns := range [][]string{
		{"a", "a"},
		{"role/{a}", "role/{b}"},
		{"{a...}", "{b...}"},
		{"role/{a}/x", "role/{b}/x"},
		{"{a...}/b"},
		{"{a}/{a}"},
		{"{a}/{a...}"},
		{"a//b"},
		{"/a"},
		{"a/"},
		{"{}"},
		{"{...}"},
		{"a{b}"},
		{"{a}b"},
		{"{a"},
		{"a}"},
		{"{{a}}"},
	} {
		if _, err := NewTable(routes(patterns...)); err == nil {
			t.Errorf("%q: accepted", patterns)
		}
	}
	for _, ops := range []map[Operation]Handler{nil, {Read: nil}, {Patch + 1: routes("a")[0].Ops[Read]}, {0: routes("a")[0].Ops[Read]}} {
		if _, err := NewTable([]Route{{Path: "a", Ops: ops}}); err == nil {
			t.Errorf("%v: accepted", ops)
		}
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	table := newTable(t, "role", "role/{role}", "role/{role}/secret-id", "data/{path...}")
	for path, most := range map[string]float64{"role": 0, "nothing/here": 0, "role/a/b/c": 0, "role/a/secret-id": 2, "data/a/b": 2} { // a map is two
		if n := testing.AllocsPerRun(100, func() { table.Match(path) }); n > most {
			t.Errorf("%q: %v allocations", path, n)
		}
	}
}

// naive matches one pattern, by comparing lists. Of several that match, the one with the lowest rank wins: part by part,
// what is fixed is 1, {x} 2, {x...} 3, and a slash at the end that nothing stands for 4.
func naive(pattern, path string) (params map[string]string, rank string) {
	params = make(map[string]string)
	want, have := strings.Split(pattern, "/"), strings.Split(path, "/")
	for i, w := range want {
		if i == len(have) {
			return nil, ""
		}
		switch {
		case strings.HasSuffix(w, "...}"):
			params[w[1:len(w)-4]] = strings.Join(have[i:], "/")
			return params, rank + "3"
		case strings.HasPrefix(w, "{"):
			if have[i] == "" {
				return nil, ""
			}
			params[w[1:len(w)-1]] = have[i]
			rank += "2"
		case w != have[i]:
			return nil, ""
		default:
			rank += "1"
		}
	}
	switch extra := have[len(want):]; {
	case len(extra) == 0:
		return params, rank
	case len(extra) == 1 && extra[0] == "" && !strings.HasSuffix(pattern, "}"):
		return params, rank + "4"
	}
	return nil, ""
}

func FuzzMatch(f *testing.F) {
	patterns := []string{"a", "a/{x}", "a/{x}/b", "a/b/{y}", "{x}/b", "{x}/{y}", "a/b/c/{rest...}", "a/{x}/{rest...}", "b/{rest...}", "{z}/c/{rest...}", "c"}
	table := newTable(f, patterns...)
	for _, path := range []string{"", "a", "a/b/c/d", "a/b/", "b/", "x/c/", "a//b", "/", "a/b/c", "x/c"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		best, bestRank, params := "", "", map[string]string(nil)
		for _, p := range patterns {
			if got, rank := naive(p, path); rank != "" && (best == "" || rank < bestRank) {
				best, bestRank, params = p, rank, got
			}
		}
		r, got := table.Match(path)
		if (r == nil) != (best == "") || r != nil && (r.Path != best || !maps.Equal(got, params)) {
			t.Fatalf("%q: %v %v, want %q %v", path, r, got, best, params)
		}
	})
}
