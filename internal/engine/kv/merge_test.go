package kv

import (
	"encoding/json"
	"reflect"
	"testing"
)

// The examples of RFC 7396, appendix A, whose patch is an object, and some of our own.
func TestMerge(t *testing.T) {
	for _, c := range []struct{ target, patch, want string }{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`{"e":null}`, `{"a":1}`, `{"a":1,"e":null}`},
		{`{"a":"foo"}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
		{`{}`, `{"a":[null,{"b":null}]}`, `{"a":[null,{"b":null}]}`},
		{`{"n":1e2,"m":0.10}`, `{"<>&":"<>&"}`, `{"<>&":"<>&","m":0.10,"n":1e2}`},
		{``, `{}`, `{}`},
	} {
		got, err := merge([]byte(c.target), []byte(c.patch))
		if err != nil || string(got) != c.want {
			t.Errorf("%s with %s: %s (%v), want %s", c.target, c.patch, got, err, c.want)
		}
	}
}

// plainMerge is the pseudocode of RFC 7396.
func plainMerge(target, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	merged, ok := target.(map[string]any)
	if !ok {
		merged = map[string]any{}
	}
	for name, value := range changes {
		if value == nil {
			delete(merged, name)
		} else {
			merged[name] = plainMerge(merged[name], value)
		}
	}
	return merged
}

func plainSubkeys(v map[string]any, depth, limit int) map[string]any {
	for name, below := range v {
		o, ok := below.(map[string]any)
		if v[name] = nil; ok && len(o) > 0 && (limit == 0 || depth < limit) {
			v[name] = plainSubkeys(o, depth+1, limit)
		}
	}
	return v
}

func FuzzMerge(f *testing.F) {
	f.Add(`{"a":{"b":[1,null]},"c":"<"}`, `{"a":{"b":null,"d":{"e":null}}}`, 2)
	f.Add(`{"":{}}`, `{ "a" : [ { } ] }`, 0)
	f.Add(`{"a":{"a":{"a":1}}}`, `{"\u0061":1}`, -1)
	f.Fuzz(func(t *testing.T, target, patch string, depth int) {
		var want, changes map[string]any
		if json.Unmarshal([]byte(target), &want) != nil || json.Unmarshal([]byte(patch), &changes) != nil || want == nil || changes == nil {
			return
		}
		if target[0] != '{' || patch[0] != '{' { // a request's reader leaves no space before a value
			return
		}
		merged, err := merge([]byte(target), []byte(patch))
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(merged, &got); err != nil {
			t.Fatal(err)
		}
		if want, _ := plainMerge(want, changes).(map[string]any); !reflect.DeepEqual(got, want) {
			t.Fatalf("%s with %s: %s", target, patch, merged)
		}
		below, err := subkeys(merged, depth)
		if err != nil || !reflect.DeepEqual(below, plainSubkeys(got, 1, depth)) {
			t.Fatalf("subkeys of %s to %d: %v, %v", merged, depth, below, err)
		}
	})
}
