package cubbyhole

import (
	"reflect"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/engine/enginetest"
)

func TestConformance(t *testing.T) { enginetest.Run(t, New) }

func TestCubbyhole(t *testing.T) {
	s := enginetest.New(t, New())
	s.Want(404, engine.Read, "a", "")
	s.Want(404, engine.List, "", "")
	s.Want(204, engine.Update, "a", `{"n":1.50,"s":"x","null":null}`)
	s.Want(204, engine.Update, "f/b", `{"x":{"y":[true]}}`)
	s.Want(204, engine.Update, "f/g/c", `{"x":1}`)
	if got := s.Want(200, engine.Read, "a", "").Data; !reflect.DeepEqual(got, map[string]any{"n": 1.5, "s": "x", "null": nil}) {
		t.Errorf("%v", got)
	}
	for path, want := range map[string][]any{"": {"a", "f/"}, "f": {"b", "g/"}, "f/g/": {"c"}, "?limit=1": {"a"}, "?after=a": {"f/"}} {
		if got := s.Want(200, engine.List, path, "").Data["keys"]; !reflect.DeepEqual(got, want) {
			t.Errorf("list %q: %v, want %v", path, got, want)
		}
	}
	s.Want(204, engine.Delete, "a", "")
	s.Want(204, engine.Delete, "a", "")
	s.Want(404, engine.Read, "a", "")
	s.Want(400, engine.Update, "a", `{}`)
	s.Want(400, engine.Update, "", `{"a":1}`)
	s.Want(400, engine.Update, strings.Repeat("x", maxPath+1), `{"a":1}`)
	s.Want(204, engine.Update, strings.Repeat("x", maxPath), `{"a":1}`)
}

// TestCubbyholesAreApart: the holder's name begins every key, so that no path leads to another's.
func TestCubbyholesAreApart(t *testing.T) {
	s := enginetest.New(t, New())
	s.Holder = "one"
	s.Want(204, engine.Update, "secret", `{"a":1}`)
	for _, holder := range []string{"two", "on", "one/", "o"} {
		s.Holder = holder
		for _, path := range []string{"secret", "one/secret", "/one/secret", "../one/secret", "e/secret"} {
			s.Want(404, engine.Read, path, "")
		}
		s.Want(404, engine.List, "", "")
		s.Want(204, engine.Delete, "secret", "")
	}
	for key := range s.Records() {
		if key != "one/secret" {
			t.Errorf("there is a record %q", key)
		}
	}
	s.Holder = "one"
	s.Want(200, engine.Read, "secret", "")
	s.Holder = ""
	for _, op := range []engine.Operation{engine.Read, engine.Update, engine.Delete, engine.List} {
		s.Want(403, op, "secret", `{"a":1}`)
	}
}
