package body

import (
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"testing"
)

func TestFormToJSON(t *testing.T) {
	for form, want := range map[string]string{
		"":                      `{}`,
		"&&":                    `{}`,
		"a=b":                   `{"a":"b"}`,
		"a":                     `{"a":""}`,
		"=b":                    `{"":"b"}`,
		"a=b=c":                 `{"a":"b=c"}`,
		"a=1&b=2":               `{"a":"1","b":"2"}`,
		"a=1&b=2&a=3":           `{"a":["1","3"],"b":"2"}`,
		"a=x+y%20z":             `{"a":"x y z"}`,
		"a%62=%22%5c%0a":        `{"ab":"\"\\\u000a"}`,
		"key=AbC%2Bd%2F1%3D%3D": `{"key":"AbC+d/1=="}`,
	} {
		got, err := FormToJSON([]byte(form))
		if err != nil || string(got) != want {
			t.Errorf("%q: %s, %v, want %s", form, got, err, want)
		}
	}
}

func TestFormToJSONRefuses(t *testing.T) {
	const canary = "canaryCANARY"
	for form, want := range map[string]error{
		"a=%":                       errForm,
		"a=%4":                      errForm,
		"a=" + canary + "%zz":       errForm,
		"%=1":                       errForm,
		"a=1;b=" + canary:           errForm,
		"a=" + canary + "\x00":      errNUL,
		strings.Repeat("a=1&", 1e5): errFormMany,
	} {
		got, err := FormToJSON([]byte(form))
		if err != want || got != nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%.40q: %s, %v, want %v", form, got, err, want)
		}
	}
	// What only the JSON reader can see is refused there.
	for _, form := range []string{"a=%00", "a=%ff", "%ff=1"} {
		text, err := FormToJSON([]byte(form))
		if err != nil {
			t.Fatalf("%q: %v", form, err)
		}
		if _, err := parseObject(text, false); err != errNUL && err != errUTF8 {
			t.Errorf("%q: %v", form, err)
		}
	}
}

func FuzzForm(f *testing.F) {
	for _, seed := range []string{"", "a=b&c=d", "a=1&a=2", "k%65y=%2f+%2B", "a;b", "%", "=", "a=%00", "a=\xff"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, form []byte) {
		text, err := FormToJSON(form)
		want, errStd := url.ParseQuery(string(form))
		if err != nil {
			return
		}
		if errStd != nil {
			t.Fatalf("net/url refuses: %v", errStd)
		}
		members, err := parseObject(text, false)
		if err != nil {
			return
		}
		got := url.Values{}
		for _, m := range members {
			var one string
			var list []string
			if json.Unmarshal(m.value, &one) == nil {
				list = []string{one}
			} else if err := json.Unmarshal(m.value, &list); err != nil {
				t.Fatal(err)
			}
			got[string(m.name)] = list
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatal(fmt.Sprint(got, " but net/url has ", want))
		}
	})
}
