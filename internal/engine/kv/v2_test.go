package kv

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/engine/enginetest"
)

func TestConformance(t *testing.T) {
	t.Run("V1", func(t *testing.T) { enginetest.Run(t, V1) })
	t.Run("V2", func(t *testing.T) { enginetest.Run(t, V2) })
}

const now = "2026-01-02T03:04:05Z" // the server's clock

type step struct {
	op     engine.Operation
	path   string
	body   string
	status int
	want   string // JSON of the data, or part of the error; "" for don't look
}

// play runs steps on one mount.
func play(t *testing.T, s *enginetest.Server, steps []step) {
	t.Helper()
	for i, c := range steps {
		a := s.Do(c.op, c.path, c.body)
		if a.Status != c.status {
			t.Fatalf("step %d, %v %s %s: %d (%v), want %d", i, c.op, c.path, c.body, a.Status, a.Err, c.status)
		}
		if a.Err != nil {
			if !strings.Contains(a.Err.Error(), c.want) {
				t.Errorf("step %d, %v %s: %v, want %s", i, c.op, c.path, a.Err, c.want)
			}
			continue
		}
		var want map[string]any
		if c.want != "" {
			if err := json.Unmarshal([]byte(c.want), &want); err != nil {
				t.Fatal(err)
			}
		}
		if c.want != "" && !reflect.DeepEqual(a.Data, want) {
			got, _ := json.Marshal(a.Data)
			t.Errorf("step %d, %v %s: %s, want %s", i, c.op, c.path, got, c.want)
		}
	}
}

// info is the metadata of a version as a client sees it.
func info(n int, deletion string, destroyed bool) string {
	return fmt.Sprintf(`{"created_time":%q,"custom_metadata":null,"deletion_time":%q,"destroyed":%v,"version":%d}`, now, deletion, destroyed, n)
}

func TestV2(t *testing.T) {
	play(t, enginetest.New(t, V2()), []step{
		{engine.Read, "data/app", "", 404, ""},
		{engine.Update, "data/app", `{}`, 400, "no data provided"},
		{engine.Update, "data/app", `{"data":"text"}`, 400, `"data" must be an object`},
		{engine.Update, "data/app", `{"data":{"a":{"b":1}},"options":{"cas":1}}`, 400, "did not match the current version"},
		{engine.Update, "data/app", `{"data":{"a":{"b":1}},"options":{"cas":0}}`, 200, info(1, "", false)},
		{engine.Update, "data/app", `{"data":{},"options":{"cas":0}}`, 400, "did not match the current version"},
		{engine.Update, "data/app", `{"data":{},"options":{"cas":null}}`, 400, "did not match the current version"},
		{engine.Update, "data/app", `{"data":{},"options":7}`, 400, `"options" must be an object`},
		{engine.Patch, "data/app", `{"data":{"a":{"c":2},"d":null},"options":{"cas":"1"}}`, 200, info(2, "", false)},
		{engine.Read, "data/app", "", 200, `{"data":{"a":{"b":1,"c":2}},"metadata":` + info(2, "", false) + `}`},
		{engine.Read, "data/app?version=1", "", 200, `{"data":{"a":{"b":1}},"metadata":` + info(1, "", false) + `}`},
		{engine.Read, "data/app?version=0", "", 200, `{"data":{"a":{"b":1,"c":2}},"metadata":` + info(2, "", false) + `}`},
		{engine.Read, "data/app?version=3", "", 404, ""},
		{engine.Read, "data/app?version=two", "", 400, "whole number"},
		{engine.Read, "subkeys/app", "", 200, `{"subkeys":{"a":{"b":null,"c":null}},"metadata":` + info(2, "", false) + `}`},
		{engine.Read, "subkeys/app?depth=1", "", 200, `{"subkeys":{"a":null},"metadata":` + info(2, "", false) + `}`},
		{engine.Delete, "data/app", "", 204, ""},
		{engine.Read, "data/app", "", 404, `{"data":null,"metadata":` + info(2, now, false) + `}`},
		{engine.Read, "subkeys/app", "", 404, `{"subkeys":null,"metadata":` + info(2, now, false) + `}`},
		{engine.Patch, "data/app", `{"data":{"x":1}}`, 404, info(2, now, false)},
		{engine.Update, "undelete/app", `{"versions":"2"}`, 204, ""},
		{engine.Read, "data/app", "", 200, ""},
		{engine.Update, "delete/app", `{"versions":[1,2,9]}`, 204, ""},
		{engine.Update, "destroy/app", `{"versions":[1]}`, 204, ""},
		{engine.Update, "undelete/app", `{"versions":[1,2]}`, 204, ""},
		{engine.Read, "data/app?version=1", "", 404, `{"data":null,"metadata":` + info(1, now, true) + `}`},
		{engine.Update, "destroy/app", `{}`, 400, "no version number provided"},
		{engine.Update, "destroy/app", `{"versions":["one"]}`, 400, "whole numbers"},
		{engine.Update, "destroy/nothing", `{"versions":[1]}`, 204, ""},
		{engine.Patch, "data/nothing", `{"data":{}}`, 404, ""},
		{engine.Patch, "data/app", `{}`, 400, "no data provided"},
		{engine.List, "data", "", 405, ""},
		{engine.Read, "app", "", 404, "null"},
	})
}

func TestV2Metadata(t *testing.T) {
	s := enginetest.New(t, V2())
	empty := func(more string) string {
		return `{"cas_required":false,"created_time":"` + now + `","current_version":0,"delete_version_after":"0s",` +
			`"metadata_cas_required":false,"oldest_version":0,"updated_time":"` + now + `","versions":{},` + more + `}`
	}
	play(t, s, []step{
		{engine.Update, "metadata/m", `{}`, 204, ""},
		{engine.Read, "metadata/m", "", 404, ""},
		{engine.Patch, "metadata/m", `{"max_versions":1}`, 404, ""},
		{engine.Update, "metadata/m", `{"metadata_cas":1,"max_versions":3}`, 400, "metadata check-and-set parameter did not match"},
		{engine.Update, "metadata/m", `{"metadata_cas":0,"max_versions":3,"custom_metadata":{"a":"1","b":2}}`, 204, ""},
		{engine.Read, "metadata/m", "", 200, empty(`"max_versions":3,"custom_metadata":{"a":"1","b":"2"},"current_metadata_version":1`)},
		{engine.Patch, "metadata/m", `{"max_versions":null,"custom_metadata":{"a":null,"c":"3"}}`, 204, ""},
		{engine.Read, "metadata/m", "", 200, empty(`"max_versions":0,"custom_metadata":{"b":"2","c":"3"},"current_metadata_version":2`)},
		{engine.Update, "metadata/m", `{"metadata_cas":99}`, 204, ""},
		{engine.Patch, "metadata/m", `{"custom_metadata":null}`, 204, ""},
		{engine.Update, "metadata/m", `{"max_versions":-1}`, 400, `"max_versions" must be from 0`},
		{engine.Update, "metadata/m", `{"max_versions":1001}`, 400, `"max_versions" must be from 0`},
		{engine.Update, "metadata/m", `{"delete_version_after":"-1s"}`, 400, "duration"},
		{engine.Update, "metadata/m", `{"delete_version_after":"876001h"}`, 400, "at most 876000h"},
		{engine.Update, "metadata/m", `{"custom_metadata":["a=b"]}`, 400, "an object"},
		{engine.Update, "metadata/m", `{"custom_metadata":{"a":null}}`, 400, "validation failed"},
		{engine.Update, "metadata/m", `{"custom_metadata":{"a":[]}}`, 400, "validation failed"},
		{engine.Update, "metadata/m", `{"custom_metadata":{"a\n":"b"}}`, 400, "validation failed"},
		{engine.Read, "metadata/m", "", 200, empty(`"max_versions":0,"custom_metadata":null,"current_metadata_version":3`)},
		{engine.Update, "config", `{"metadata_cas_required":true,"cas_required":true}`, 204, ""},
		{engine.Update, "metadata/m", `{"max_versions":1}`, 400, "parameter required"},
		{engine.Update, "data/m", `{"data":{}}`, 400, "check-and-set parameter required for this call"},
		{engine.Patch, "data/m", `{"data":{},"options":{"cas":0}}`, 404, ""},
		{engine.Update, "data/m", `{"data":{},"options":{"cas":0}}`, 200, ""},
		{engine.Delete, "metadata/m", "", 204, ""},
		{engine.Delete, "metadata/m", "", 204, ""},
		{engine.Read, "metadata/m", "", 404, ""},
	})
	a := s.Want(200, engine.Update, "metadata/m", `{"metadata_cas":0,"metadata_cas_required":false,"cas_required":false}`)
	if len(a.Response.Warnings) != 2 || !strings.Contains(a.Response.Warnings[1], `"metadata_cas_required" set to false, but is mandated`) {
		t.Errorf("warnings: %q", a.Response.Warnings)
	}
}

func TestV2Lists(t *testing.T) {
	s := enginetest.New(t, V2())
	for _, path := range []string{"a", "a/b", "a-b", "c"} {
		s.Want(200, engine.Update, "data/"+path, `{"data":{}}`)
	}
	play(t, s, []step{
		{engine.List, "metadata", "", 200, `{"keys":["a","a-b","a/","c"]}`},
		{engine.List, "metadata/a", "", 200, `{"keys":["b"]}`},
		{engine.List, "metadata/c", "", 404, ""},
		{engine.List, "metadata?after=a-b&limit=1", "", 200, `{"keys":["a/"]}`},
		{engine.List, "metadata?limit=x", "", 400, "whole number"},
	})
	a := s.Want(200, engine.List, "detailed-metadata/a?limit=5", "")
	details, _ := a.Data["key_info"].(map[string]any)["b"].(map[string]any)
	if !reflect.DeepEqual(a.Data["keys"], []any{"b"}) || details["current_version"] != 1.0 || details["versions"] == nil {
		t.Errorf("detailed: %v", a.Data)
	}
	if a := s.Want(200, engine.List, "detailed-metadata", ""); len(a.Data["key_info"].(map[string]any)) != 3 {
		t.Errorf("a folder has no details, and everything else has: %v", a.Data)
	}
}

func TestMisplaced(t *testing.T) {
	s := enginetest.New(t, V2())
	for _, c := range []struct {
		op         engine.Operation
		path, want string
	}{
		{engine.Read, "app", "kv get"},
		{engine.Update, "app/db", "kv put"},
		{engine.Patch, "app", "kv patch"},
		{engine.Delete, "app", "kv delete"},
		{engine.List, "", "kv list"},
		{engine.Read, "metadata", "Non-listing operations"},
		{engine.Update, "data", "Non-listing operations"},
	} {
		a := s.Want(404, c.op, c.path, "")
		if a.Err != nil || a.Response.Data != nil || len(a.Response.Warnings) != 1 || !strings.Contains(a.Response.Warnings[0], c.want) {
			t.Errorf("%v %q: %v %+v, want a warning with %q", c.op, c.path, a.Err, a.Response, c.want)
		}
	}
}

// What is dropped, destroyed or deleted for good is gone from the store.
func TestNothingStays(t *testing.T) {
	s := enginetest.New(t, V2())
	versions := func(want int) {
		t.Helper()
		keys := slices.DeleteFunc(slices.Collect(maps.Keys(s.Records())), func(key string) bool { return !strings.HasPrefix(key, "version/") })
		if len(keys) != want {
			t.Errorf("%d versions in the store, want %d", len(keys), want)
		}
	}
	for range 12 {
		s.Want(200, engine.Update, "data/a", `{"data":{"a":1}}`)
	}
	versions(10)
	s.Want(204, engine.Update, "destroy/a", `{"versions":[4,5,6,99]}`)
	versions(7)
	s.Want(204, engine.Update, "metadata/a", `{"max_versions":2}`)
	s.Want(200, engine.Update, "data/a", `{"data":{"a":1}}`)
	versions(2)
	if a := s.Want(200, engine.Read, "metadata/a", ""); a.Data["oldest_version"] != 12.0 || len(a.Data["versions"].(map[string]any)) != 2 {
		t.Errorf("metadata %v", a.Data)
	}
	s.Want(200, engine.Update, "data/b", `{"data":{"a":1}}`)
	s.Want(204, engine.Delete, "metadata/a", "")
	versions(1)
	s.Want(404, engine.Read, "data/a?version=13", "")
}

func TestDeletionByAge(t *testing.T) {
	s := enginetest.New(t, V2())
	s.Want(204, engine.Update, "config", `{"delete_version_after":"2h"}`)
	s.Want(204, engine.Update, "metadata/a", `{"delete_version_after":3600}`)
	s.Want(200, engine.Update, "data/a", `{"data":{"a":1}}`)
	s.Now = s.Now.Add(time.Hour - 1)
	s.Want(200, engine.Read, "data/a", "")
	s.Now = s.Now.Add(1)
	s.Want(404, engine.Read, "data/a", "")
	s.Want(204, engine.Update, "undelete/a", `{"versions":[1]}`)
	s.Want(200, engine.Read, "data/a", "")
	s.Want(204, engine.Update, "config", `{"delete_version_after":"-1s"}`)
	if a := s.Want(200, engine.Update, "data/a", `{"data":{"a":1}}`); a.Data["deletion_time"] != "" {
		t.Errorf("deletion by age is off, but: %v", a.Data)
	}
	play(t, s, []step{
		{engine.Read, "config", "", 200, `{"max_versions":0,"cas_required":false,"metadata_cas_required":false,"delete_version_after":"-1s"}`},
		{engine.Update, "config", `{"delete_version_after":"-soon"}`, 400, "duration"},
		{engine.Update, "config", `{"delete_version_after":0,"max_versions":7}`, 204, ""},
		{engine.Read, "config", "", 200, `{"max_versions":7,"cas_required":false,"metadata_cas_required":false,"delete_version_after":"0s"}`},
	})
}

// A clock that is set back, or another node's that is behind, brings nothing back that a person deleted.
func TestDeletedStaysDeleted(t *testing.T) {
	s := enginetest.New(t, V2())
	s.Want(200, engine.Update, "data/a", `{"data":{"a":1}}`)
	s.Want(204, engine.Delete, "data/a", "")
	s.Now = s.Now.Add(-time.Hour)
	s.Want(404, engine.Read, "data/a", "")
	s.Want(204, engine.Update, "undelete/a", `{"versions":[1]}`)
	s.Want(200, engine.Read, "data/a", "")
}

func TestLimits(t *testing.T) {
	s := enginetest.New(t, V2())
	fits := barrier.MaxValue - len(`{"a":""}`)
	secret := func(n int) string { return `{"data":{"a":"` + strings.Repeat("x", n) + `"}}` }
	long := strings.Repeat("p", maxPath)
	play(t, s, []step{
		{engine.Update, "data/a", secret(fits), 200, ""},
		{engine.Update, "data/a", secret(fits + 1), 413, fmt.Sprint(barrier.MaxValue)},
		{engine.Patch, "data/a", `{"data":{"b":1}}`, 413, "too large"},
		{engine.Patch, "data/a", `{"data":{"a":null,"b":"<"}}`, 200, ""},
		{engine.Update, "data/" + long, secret(1), 200, ""},
		{engine.Update, "data/" + long + "p", secret(1), 400, "at most 768 bytes"},
		{engine.Read, "data/" + strings.Repeat(long, 3), "", 404, ""},
		{engine.Update, "data", secret(1), 404, ""},
	})
	if got := s.Records()["version/"+decoded(t, s, "a").ID+"/0000000002"]; got != `{"b":"<"}` {
		t.Errorf("merged: %s", got)
	}
}

func decoded(t *testing.T, s *enginetest.Server, path string) *meta {
	t.Helper()
	m, err := decodeMeta([]byte(s.Records()[metaPrefix+path]))
	if err != nil || m == nil {
		t.Fatalf("no metadata: %v", err)
	}
	return m
}

// Digits that a float can't hold are kept, and the largest number of versions fits into a record.
func TestRecords(t *testing.T) {
	s := enginetest.New(t, V2())
	const number = "12345678901234567890.123456789"
	s.Want(200, engine.Update, "data/a", `{"data":{"n":`+number+`}}`)
	if a := s.Want(200, engine.Read, "data/a", ""); len(a.Response.Own) != 1 || strings.Trim(string(a.Response.Own[0]), "\x00") != "" {
		t.Errorf("the copy of the secret isn't wiped: %q", a.Response.Own)
	}
	s.Want(200, engine.Patch, "data/a", `{"data":{"m":-0.0}}`)
	if got := s.Records()[decoded(t, s, "a").key(2)]; got != `{"m":-0.0,"n":`+number+`}` {
		t.Errorf("stored as %s", got)
	}
	m := meta{Current: mostVersions, versions: make([]version, mostVersions)}
	for i := range m.versions {
		m.versions[i] = version{Created: int64(i), Deletion: -1, Deleted: i%2 > 0, Destroyed: i%3 > 0}
	}
	record, err := m.encode()
	if err != nil || len(record) > barrier.MaxValue/8 {
		t.Errorf("%d bytes, %v", len(record), err)
	}
	if back, err := decodeMeta(record); err != nil || !reflect.DeepEqual(*back, m) {
		t.Errorf("read back: %v", err)
	}
}

func FuzzDecodeMeta(f *testing.F) {
	m := meta{ID: "x", Current: 3, Oldest: 2, versions: []version{{1, 2, true, false}, {3, 0, false, true}}}
	record, err := m.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(record)
	f.Fuzz(func(t *testing.T, record []byte) {
		m, err := decodeMeta(record)
		if err != nil || m == nil {
			return
		}
		for n := -1; n < len(m.versions)+2; n++ {
			if v := m.version(m.first() + n); (v != nil) != (n >= 0 && n < len(m.versions)) {
				t.Fatalf("version %d of %d: %v", n, len(m.versions), v)
			}
		}
		m.metadata()
	})
}
