package enginetest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/store/storetest"
)

// Run is the conformance suite of engines. open returns a new engine of the kind.
func Run(t *testing.T, open func() engine.Engine) {
	for _, c := range checks() {
		t.Run(c.name, func(t *testing.T) {
			for _, p := range c.problems(t, open()) {
				t.Error(p)
			}
		})
	}
}

type check struct {
	name string
	run  func(*suite)
}

// problems are what is wrong with an engine, each thing once.
func (c check) problems(t testing.TB, e engine.Engine) []string {
	s := &suite{Server: New(t, e), seen: make(map[string]bool)}
	c.run(s)
	return s.list
}

func checks() []check {
	return []check{
		{"routes", (*suite).checkRoutes},
		{"junk", (*suite).checkJunk},
		{"authority", (*suite).checkAuthority},
		{"holders", (*suite).checkHolders},
		{"lists", (*suite).checkLists},
		{"commits", (*suite).checkCommits},
		{"sweep", (*suite).checkSweep},
	}
}

type suite struct {
	*Server
	list []string
	seen map[string]bool
}

func (s *suite) problem(format string, args ...any) {
	p := fmt.Sprintf(format, args...)
	if !s.seen[p] {
		s.seen[p] = true
		s.list = append(s.list, p)
	}
}

// canary is in every value that a request may hold, and must be in no error.
const canary = "canary7f3a"

// fieldTypes are those that Route.Fields and Route.Query can name, "" being a string.
var fieldTypes = []string{"", "int", "bool", "list", "lines", "map", "time", "duration"}

func (s *suite) checkRoutes() {
	for _, r := range s.engine.Routes() {
		if r.Summary == "" {
			s.problem("%q has no Summary", r.Path)
		}
		if r.Login && (r.Sudo || r.Exists != nil) {
			s.problem("%q is a login, which nobody's policies are asked about, but has Sudo or Exists", r.Path)
		}
		if r.Ops[engine.Update] == nil && (r.Exists != nil || r.Fields != "" && r.Ops[engine.Patch] == nil) {
			s.problem("%q has Fields or Exists, but no update", r.Path)
		}
		if r.Ops[engine.Read] == nil && r.Ops[engine.List] == nil && r.Query != "" {
			s.problem("%q has a Query, but no read or list", r.Path)
		}
		for _, f := range append(fields(r.Fields), fields(r.Query)...) {
			if !slices.Contains(fieldTypes, f.kind) {
				s.problem("%q: the field %q has a type that there isn't", r.Path, f.name)
			}
		}
	}
}

type field struct{ name, kind string }

func fields(list string) (all []field) {
	for text := range strings.SplitSeq(list, ", ") {
		if name, kind, _ := strings.Cut(text, " "); name != "" {
			all = append(all, field{name, kind})
		}
	}
	return all
}

// each calls fn with every operation of every route, on paths made of each of the given parts in turn: first what
// writes, then what reads, then what deletes.
func (s *suite) each(parts []string, fn func(r *engine.Route, op engine.Operation, path string)) {
	routes := s.engine.Routes()
	for _, op := range []engine.Operation{engine.Update, engine.Patch, engine.Read, engine.List, engine.Delete} {
		for i := range routes {
			for _, part := range parts {
				if routes[i].Ops[op] == nil {
					continue
				}
				if path := fill(routes[i].Path, part); path != "" || op != engine.Update {
					fn(&routes[i], op, path)
				}
			}
		}
	}
}

// fill puts a part where a pattern varies.
func fill(pattern, part string) string {
	var path []string
	for p := range strings.SplitSeq(pattern, "/") {
		switch {
		case strings.HasSuffix(p, "...}"):
			p = part
		case strings.HasPrefix(p, "{"):
			p = cmp.Or(strings.ReplaceAll(part, "/", "-"), "x")
		}
		path = append(path, p)
	}
	return strings.Join(path, "/")
}

// plainParts make paths that can be written to; oddParts don't all.
var (
	plainParts = []string{"a", "b", "c/d", "c/e"}
	oddParts   = []string{
		"a", "A ", "", "a/b", "..", "*", "+", "K\u212a", "\u00e9", "{x}", "%2f", "\xff", "a\x00", "~", "0", "-1",
		strings.Repeat("x", 200), strings.Repeat("y/", 700) + "y", strings.Repeat("z", 5000),
	}
)

// values are what the fields of a body are given, as JSON.
var values = []string{
	`null`, `""`, `"` + canary + `"`, `"1h"`, `"3"`, `0`, `-1`, `7`, `1e300`, `123456789012345678901234567890`, `true`, `[]`,
	`["` + canary + `"]`, `["` + canary + ` *","root"]`, `[[1]]`, `{}`, `{"` + canary + `":"` + canary + `"}`, `{"a":{"b":[null]}}`,
	`"` + strings.Repeat(canary, 300) + `"`, `"\u0001 ` + canary + ` \ud83d\ude00"`,
}

// bodies are what is sent to a route: every field with every value, in what every other field makes a valid request
// perhaps, and no field at all.
func bodies(r *engine.Route) []string {
	list := []string{``, `{}`, `null`, `{"` + canary + `":1}`}
	named := fields(r.Fields)
	for _, f := range named {
		for _, v := range values {
			list = append(list, fmt.Sprintf(`{%q:%s}`, f.name, v))
		}
	}
	for _, v := range values {
		var all []string
		for _, f := range named {
			all = append(all, fmt.Sprintf(`%q:%s`, f.name, v))
		}
		list = append(list, "{"+strings.Join(all, ",")+"}")
	}
	// Near the limit, whatever it is.
	limit := int(r.Limit)
	if limit == 0 {
		limit = 16 << 10
	}
	for _, f := range named {
		if room := limit - len(f.name) - 10; room > 0 {
			list = append(list, fmt.Sprintf(`{%q:"%s"}`, f.name, strings.Repeat("v", room)))
		}
	}
	return list
}

// good is a body that is likely to be accepted: every field has a value of its type.
func good(r *engine.Route) string {
	var all []string
	for _, f := range fields(r.Fields) {
		v := map[string]string{
			"": `"` + canary + `"`, "int": `1`, "bool": `false`, "list": `[]`, "lines": `""`, "map": `{"a":"b"}`, "time": `null`, "duration": `60`,
		}[f.kind]
		switch f.name {
		case "*":
			f.name = "any"
		case "data":
			v = `{"a":"b"}`
		case "options", "cas", "version", "password_hash", "token_type", "metadata":
			continue
		}
		all = append(all, fmt.Sprintf(`%q:%s`, f.name, v))
	}
	return "{" + strings.Join(all, ",") + "}"
}

// try sends a request and looks for what no answer may be.
func (s *suite) try(op engine.Operation, path, text string) (a Answer) {
	at := fmt.Sprintf("%v %.60q with %.60s", op, path, text)
	defer func() {
		if p := recover(); p != nil {
			s.problem("%s: panic: %v", at, p)
		}
	}()
	a = s.Do(op, path, text)
	switch {
	case a.Err != nil && fault.As(a.Err) == nil:
		s.problem("%s: an error that is no fault: %v", at, a.Err)
	case a.Err != nil && strings.Contains(a.Err.Error(), canary):
		s.problem("%s: the error repeats a value", at)
	case a.Response != nil && slices.ContainsFunc(a.Response.Warnings, func(w string) bool { return strings.Contains(w, canary) }):
		s.problem("%s: a warning repeats a value", at)
	}
	return a
}

// checkJunk: whatever is sent, the answer is a reply or a fault, and what only reads changes nothing.
func (s *suite) checkJunk() {
	s.fillUp()
	s.each(oddParts, func(r *engine.Route, op engine.Operation, path string) {
		switch op {
		case engine.Read, engine.List:
			before := s.Records()
			for _, q := range append(fields(r.Query), field{name: "junk"}) {
				for _, v := range []string{"", canary, "-1", "0", "1", "99999999999999999999", "\x00", "\xff", strings.Repeat("q", 3000)} {
					s.try(op, strings.ReplaceAll(path, "?", "")+"?"+url.Values{q.name: {v}}.Encode(), "")
				}
			}
			if !maps.Equal(before, s.Records()) {
				s.problem("%v %q changed a record", op, r.Path)
			}
		case engine.Delete:
			s.try(op, path, "")
			s.try(op, path, `{"`+canary+`":1}`)
		default:
			for i, text := range bodies(r) {
				if path == fill(r.Path, "a") || i < 4 {
					s.try(op, path, text)
				}
			}
		}
	})
}

// fillUp writes what the engine takes, twice round, because one thing may need another.
func (s *suite) fillUp() {
	for range 2 {
		s.each(plainParts, func(r *engine.Route, op engine.Operation, path string) {
			if op == engine.Update && !r.Login {
				for _, text := range []string{`{}`, good(r)} {
					s.try(op, path, text)
				}
			}
		})
	}
}

// checkAuthority: whoever may not is told just that, whatever was sent, and nothing changes.
func (s *suite) checkAuthority() {
	s.fillUp()
	before := s.Records()
	s.Denied = fault.New(fault.Denied, "no")
	s.each(oddParts, func(r *engine.Route, op engine.Operation, path string) {
		if r.Login {
			return
		}
		texts := []string{""}
		if op == engine.Update || op == engine.Patch {
			texts = bodies(r)
		}
		for i, text := range texts {
			if path != fill(r.Path, "a") && i >= 4 {
				break
			}
			if a := s.try(op, path, text); !errors.Is(a.Err, s.Denied) && a.Status != 404 && a.Status != 405 && a.Status != 413 {
				s.problem("%v %q: %d (%v) for who is allowed nothing", op, r.Path, a.Status, a.Err)
			}
		}
	})
	if !maps.Equal(before, s.Records()) {
		s.problem("something changed for who is allowed nothing")
	}
}

// checkHolders: an engine acts only on its own mount, and what is denied to nobody is the same for everybody, or else
// stays apart under the name of the token.
func (s *suite) checkHolders() {
	s.fillUp()
	before := s.Records()
	if len(before) == 0 {
		s.problem("no request wrote anything: the suite doesn't know what a valid one is")
	}
	s.Holder = "stranger"
	s.each(plainParts, func(_ *engine.Route, op engine.Operation, path string) {
		if op == engine.Delete {
			s.try(op, path, "")
		}
	})
	for key, value := range before {
		if strings.HasPrefix(key, "holder/") && s.Records()[key] != value {
			s.problem("a token removed what belongs to another one")
		}
	}
	all, err := contents(s.Store, "")
	if err != nil {
		s.t.Fatal(err)
	}
	for key := range all {
		if !strings.HasPrefix(key, records) {
			s.problem("there is a record outside of the mount: %q", key)
		}
	}
}

// checkLists: a list is sorted, and the pages of a list are the list.
func (s *suite) checkLists() {
	s.fillUp()
	s.each(append(plainParts, "", "c"), func(_ *engine.Route, op engine.Operation, path string) {
		if op != engine.List {
			return
		}
		whole := s.keys(path)
		if !slices.IsSorted(whole) {
			s.problem("list %q isn't sorted", path)
		}
		var paged []string
		for after := ""; len(paged) <= len(whole); {
			page := s.keys(path + "?limit=1&after=" + url.QueryEscape(after))
			if len(page) == 0 {
				break
			}
			if len(page) > 1 {
				s.problem("list %q: more than limit in a page", path)
			}
			paged, after = append(paged, page...), page[len(page)-1]
		}
		if !slices.Equal(paged, whole) {
			s.problem("list %q: %q in pages, %q as a whole", path, paged, whole)
		}
	})
}

func (s *suite) keys(path string) []string {
	a := s.try(engine.List, path, "")
	if a.Status == 404 {
		return nil
	}
	list, ok := a.Data["keys"].([]any)
	if !ok || len(list) == 0 {
		s.problem("list %q: %d without keys", path, a.Status)
	}
	names := make([]string, len(list))
	for i, name := range list {
		names[i], _ = name.(string)
	}
	return names
}

// checkCommits: what could not be committed is no success, and a token isn't told of.
func (s *suite) checkCommits() {
	faulty := storetest.NewFaulty(inmem.New())
	s.Store = storetest.Rerun(faulty)
	s.fillUp()
	s.each(plainParts, func(r *engine.Route, op engine.Operation, path string) {
		if op == engine.Read || op == engine.List {
			return
		}
		faulty.FailCommit(1, storetest.Lost)
		a := s.Do(op, path, good(r))
		if failed := faulty.Crashed(); failed && a.Err == nil {
			s.problem("%v %q: a success, but nothing was committed", op, r.Path)
		}
		faulty.Recover()
	})
}

// checkSweep: a sweep removes nothing that is in force, and once it is done there is nothing more to do.
func (s *suite) checkSweep() {
	faulty := storetest.NewFaulty(inmem.New())
	s.Store = faulty
	s.fillUp()
	for _, later := range []time.Duration{0, time.Hour, 1000 * time.Hour} {
		s.Now = s.Now.Add(later)
		s.Sweep()
		before, commits := s.Records(), faulty.Commits()
		s.Sweep()
		if !maps.Equal(before, s.Records()) || faulty.Commits() != commits {
			s.problem("a second sweep at the same time did something")
		}
	}
}
