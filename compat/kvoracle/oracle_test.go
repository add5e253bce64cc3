// Package kvoracle runs the same random operations on our key/value engines and on the ones of Vault, which are the
// oracle: every reply must be the same, times included.
package kvoracle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	oracle "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/sdk/logical"
	"pgregory.net/rapid"

	"github.com/quorate/quorate/internal/body"
	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/engine/kv"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
)

// request is one operation on both engines.
type request struct {
	op    engine.Operation
	path  string
	body  string     // JSON
	query url.Values // of reads and lists
}

func (q request) String() string {
	return fmt.Sprintf("%v %s?%s %s", q.op, q.path, q.query.Encode(), q.body)
}

// answer is what a client would see of a reply.
type answer struct {
	Status   int
	Data     any
	Warnings []string
}

func (a answer) String() string {
	text, _ := json.Marshal(a)
	return string(text)
}

// decoded is v as a client decodes its JSON.
func decoded(t *rapid.T, v any) any {
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// ours is a mount of one of our engines.
type ours struct {
	table *engine.Table
	st    store.Store
}

func newOurs(t *rapid.T, e engine.Engine) ours {
	table, err := engine.NewTable(e.Routes())
	if err != nil {
		t.Fatal(err)
	}
	return ours{table, inmem.New()}
}

// tx is a transaction of a token that may do anything.
type tx struct{ store.Tx }

func (tx) Holder() string           { return "holder" }
func (tx) Login(engine.Login) error { return errors.New("no login here") }

// View implements engine.Txns.
func (o ours) View(ctx context.Context, fn func(engine.Tx) error) error {
	return o.st.View(ctx, func(r store.Reader) error { return fn(tx{store.ReadOnly(r)}) })
}

// Update implements engine.Txns.
func (o ours) Update(ctx context.Context, fn func(engine.Tx) error) error {
	return o.st.Update(ctx, func(w store.Tx) error { return fn(tx{w}) })
}

// Allowed implements engine.Txns.
func (ours) Allowed(context.Context) error { return nil }

func (o ours) do(t *rapid.T, q request) answer {
	route, params := o.table.Match(q.path)
	if route == nil || route.Ops[q.op] == nil {
		return answer{Status: http.StatusMethodNotAllowed}
	}
	fields, err := body.Decode([]byte(q.body), false)
	if err != nil {
		t.Fatalf("%v: %v", q, err)
	}
	resp, err := route.Ops[q.op](context.Background(), &engine.Request{
		Op: q.op, Params: params, Fields: &fields, Query: q.query, Now: time.Now(), Txns: o,
		Mount: engine.Mount{DefaultTTL: 24 * time.Hour, MaxTTL: 48 * time.Hour},
	})
	if f := fault.As(err); f != nil {
		return answer{Status: map[fault.Kind]int{fault.Invalid: http.StatusBadRequest, fault.NotFound: http.StatusNotFound}[f.Kind]}
	}
	if err != nil {
		t.Fatalf("%v: %v", q, err)
	}
	a := answer{Status: http.StatusOK, Data: decoded(t, resp.Data), Warnings: resp.Warnings}
	switch {
	case resp.NotFound:
		a.Status = http.StatusNotFound
	case resp.Data == nil && resp.Warnings == nil:
		a.Status = http.StatusNoContent
	}
	return a
}

// theirs is a mount of the oracle.
type theirs struct {
	backend logical.Backend
	storage logical.Storage
}

func newTheirs(t *rapid.T, version string) theirs {
	storage := new(logical.InmemStorage)
	backend, err := oracle.Factory(context.Background(), &logical.BackendConfig{
		System: logical.TestSystemView(), Logger: hclog.NewNullLogger(), StorageView: storage, BackendUUID: "test",
		Config: map[string]string{"version": version},
	})
	if err != nil {
		t.Fatal(err)
	}
	return theirs{backend, storage}
}

var operations = map[engine.Operation]logical.Operation{
	engine.Read: logical.ReadOperation, engine.Update: logical.UpdateOperation, engine.Delete: logical.DeleteOperation,
	engine.List: logical.ListOperation, engine.Patch: logical.PatchOperation,
}

func (o theirs) do(t *rapid.T, q request) answer {
	req := &logical.Request{Operation: operations[q.op], Path: q.path, Storage: o.storage, Data: map[string]any{}}
	if q.body != "" {
		dec := json.NewDecoder(strings.NewReader(q.body))
		dec.UseNumber() // as the server of the oracle does
		if err := dec.Decode(&req.Data); err != nil {
			t.Fatal(err)
		}
	}
	for name := range q.query {
		req.Data[name] = q.query.Get(name)
	}
	resp, err := o.backend.HandleRequest(context.Background(), req)
	status, err := logical.RespondErrorCommon(req, resp, err)
	switch {
	case status != 0:
		return answer{Status: status}
	case err != nil:
		t.Fatalf("%v: the oracle fails: %v", q, err)
	case resp == nil:
		return answer{Status: http.StatusNoContent}
	}
	if code, ok := resp.Data[logical.HTTPStatusCode].(int); ok {
		a := answer{Status: code}
		if raw, ok := resp.Data[logical.HTTPRawBody].(string); ok {
			if err := json.Unmarshal([]byte(raw), &a); err != nil {
				t.Fatal(err)
			}
		}
		return a
	}
	a := answer{Status: http.StatusOK, Warnings: resp.Warnings}
	if resp.Data != nil {
		a.Data = decoded(t, resp.Data)
	}
	return a
}

// onlyOurs and onlyTheirs are fields that one side has and the other doesn't.
var (
	onlyOurs   = []string{"metadata_cas_required", "current_metadata_version"}
	onlyTheirs = []string{"created_by", "deleted_by", "last_updated_by"}
)

// strip removes those fields, and what the oracle's warnings call its own command line.
func strip(q request, a answer, names []string) answer {
	for i, w := range a.Warnings {
		a.Warnings[i] = strings.Replace(strings.Replace(w, "the Vault CLI", "the CLI", 1), "'vault kv", "'kv", 1)
	}
	if !strings.HasPrefix(q.path, "config") && !strings.HasPrefix(q.path, "metadata/") {
		return a
	}
	if data, ok := a.Data.(map[string]any); ok {
		removeAll(data, names)
		if versions, ok := data["versions"].(map[string]any); ok {
			for _, v := range versions {
				removeAll(v.(map[string]any), names)
			}
		}
	}
	return a
}

func removeAll(m map[string]any, names []string) {
	for _, name := range names {
		delete(m, name)
	}
}

// compare runs random requests on both, in a bubble of synctest: so both see the same clock, to the nanosecond.
func compare(t *testing.T, version string, e engine.Engine, draw func(*rapid.T) request) {
	rapid.Check(t, func(r *rapid.T) {
		bubble(t, func() {
			us, them := newOurs(r, e), newTheirs(r, version)
			defer them.backend.Cleanup(context.Background())
			r.Repeat(map[string]func(*rapid.T){
				"wait": func(r *rapid.T) {
					time.Sleep(rapid.SampledFrom([]time.Duration{time.Second, time.Hour}).Draw(r, "wait"))
				},
				"request": func(r *rapid.T) {
					time.Sleep(time.Millisecond) // for the oracle, what is deleted is gone only after this instant
					q := draw(r)
					got, want := strip(q, us.do(r, q), onlyOurs), strip(q, them.do(r, q), onlyTheirs)
					if !reflect.DeepEqual(got, want) {
						r.Fatalf("%v\ngives  %v\noracle %v", q, got, want)
					}
				},
			})
		})
	})
}

// bubble runs fn in fake time, and lets a failure of the property through.
func bubble(t *testing.T, fn func()) {
	var failed any
	synctest.Test(t, func(*testing.T) {
		defer func() { failed = recover() }()
		fn()
	})
	switch {
	case failed == nil:
	case fmt.Sprintf("%T", failed) == "rapid.invalidData": // the engine tells failures apart by where they come from
		panic(failed)
	default:
		panic(failed)
	}
}

func TestV1(t *testing.T) { compare(t, "1", kv.V1(), drawV1) }
func TestV2(t *testing.T) { compare(t, "2", kv.V2(), drawV2) }

var (
	secretPaths = []string{"a", "a/b", "a/b/c", "a-b", "d/e"}
	folders     = []string{"", "a/", "a/b/", "d/", "x/"}
)

func drawV1(t *rapid.T) request {
	q := request{op: rapid.SampledFrom([]engine.Operation{engine.Read, engine.Update, engine.Delete, engine.List}).Draw(t, "op")}
	q.path = rapid.SampledFrom(secretPaths).Draw(t, "path")
	switch q.op {
	case engine.List:
		q.path = rapid.SampledFrom(folders).Draw(t, "folder")
	case engine.Update:
		q.body = encode(t, object(2).Draw(t, "secret"))
	}
	return q
}

// route is what may be asked of the paths below a first part.
type route struct {
	name string
	ops  []engine.Operation
	body func(*rapid.T, engine.Operation) map[string]any
	// query has the names that a read understands.
	query []string
}

func routes() []route {
	return []route{
		{"data", []engine.Operation{engine.Read, engine.Update, engine.Update, engine.Patch, engine.Delete}, dataBody, []string{"version"}},
		{"metadata", []engine.Operation{engine.Read, engine.Update, engine.Patch, engine.Delete, engine.List}, metadataBody, nil},
		{"subkeys", []engine.Operation{engine.Read}, nil, []string{"version", "depth"}},
		{"delete", []engine.Operation{engine.Update}, versionsBody, nil},
		{"undelete", []engine.Operation{engine.Update}, versionsBody, nil},
		{"destroy", []engine.Operation{engine.Update}, versionsBody, nil},
		{"config", []engine.Operation{engine.Read, engine.Update}, configBody, nil},
		{"other", []engine.Operation{engine.Read, engine.Update, engine.Patch, engine.Delete, engine.List}, configBody, nil},
	}
}

func drawV2(t *rapid.T) request {
	all := routes()
	r := all[rapid.SampledFrom([]int{0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7}).Draw(t, "route")]
	q := request{op: rapid.SampledFrom(r.ops).Draw(t, "op"), query: url.Values{}}
	switch {
	case r.name == "config":
		q.path = r.name
	case q.op == engine.List:
		q.path = r.name + "/" + rapid.SampledFrom(folders).Draw(t, "folder")
	default:
		q.path = r.name + "/" + rapid.SampledFrom(secretPaths).Draw(t, "path")
	}
	if q.op == engine.Update || q.op == engine.Patch {
		q.body = encode(t, r.body(t, q.op))
	}
	for _, name := range r.query {
		if q.op == engine.Read && rapid.Bool().Draw(t, name+" is asked for") {
			q.query.Set(name, fmt.Sprint(rapid.IntRange(0, 14).Draw(t, name)))
		}
	}
	return q
}

func encode(t *rapid.T, v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// value is any JSON.
func value(depth int) *rapid.Generator[any] {
	kinds := []*rapid.Generator[any]{
		rapid.SampledFrom([]any{nil, true, false, "", "text", "<&>\u2028é\"\\", 0, -7, 1.5, 1e300, 123456789012345678}),
		rapid.String().Filter(func(s string) bool { return !strings.Contains(s, "\x00") }).AsAny(),
	}
	if depth > 0 {
		kinds = append(kinds, object(depth-1).AsAny(), rapid.SliceOfN(rapid.Deferred(func() *rapid.Generator[any] { return value(depth - 1) }), 0, 3).AsAny())
	}
	return rapid.OneOf(kinds...)
}

func object(depth int) *rapid.Generator[map[string]any] {
	name := rapid.SampledFrom([]string{"a", "b", "c", "ttl", "", "ü"})
	return rapid.MapOfN(name, rapid.Deferred(func() *rapid.Generator[any] { return value(depth) }), 0, 4)
}

// some draws a value, or nothing.
func some(t *rapid.T, into map[string]any, name string, from ...any) {
	if rapid.Bool().Draw(t, name+" is there") {
		into[name] = rapid.SampledFrom(from).Draw(t, name)
	}
}

func dataBody(t *rapid.T, op engine.Operation) map[string]any {
	b := map[string]any{}
	if rapid.IntRange(0, 9).Draw(t, "data is there") > 0 {
		b["data"] = object(2).Draw(t, "data")
		if op == engine.Patch {
			b["data"] = cleaned(b["data"], false)
		}
	}
	if rapid.Bool().Draw(t, "options are there") {
		options := map[string]any{}
		some(t, options, "cas", 0, 1, 2, 3, "1", "2", "", nil, -1, 99, "x", 1.5)
		b["options"] = options
	}
	return b
}

// cleaned is v without null inside of lists: merging, the oracle loses it, where RFC 7396 keeps a list as it is.
func cleaned(v any, inList bool) any {
	switch v := v.(type) {
	case map[string]any:
		for name, e := range v {
			if v[name] = cleaned(e, inList); e == nil && inList {
				delete(v, name)
			}
		}
	case []any:
		for i, e := range v {
			if v[i] = cleaned(e, true); e == nil {
				v[i] = false
			}
		}
	}
	return v
}

func settings(t *rapid.T, lives ...any) map[string]any {
	b := map[string]any{}
	some(t, b, "max_versions", 0, 1, 2, 3, 12, "2", "x")
	some(t, b, "cas_required", false, false, true, "true", "maybe")
	some(t, b, "delete_version_after", lives...)
	return b
}

func configBody(t *rapid.T, _ engine.Operation) map[string]any {
	return settings(t, "0s", "-1s", "-5m", "90m", 7200, "30s", "1.5s", "junk", "-junk")
}

func metadataBody(t *rapid.T, op engine.Operation) map[string]any {
	b := settings(t, "0s", "90m", 7200, "30s", "junk")
	if rapid.Bool().Draw(t, "custom_metadata is there") {
		values := []any{"x", "y", "", strings.Repeat("v", 512), strings.Repeat("v", 513), "a\x07b", []any{"x"}}
		if op == engine.Patch {
			values = append(values, nil, nil, nil)
		} else {
			values = append(values, 5) // the oracle fails where it is to merge a number
		}
		names := rapid.SampledFrom([]string{"a", "b", "ü", "", strings.Repeat("n", 128), strings.Repeat("n", 129)})
		b["custom_metadata"] = rapid.MapOfN(names, rapid.SampledFrom(values), 0, 2).Draw(t, "custom_metadata")
	}
	return b
}

func versionsBody(t *rapid.T, _ engine.Operation) map[string]any {
	b := map[string]any{}
	if rapid.IntRange(0, 9).Draw(t, "versions are there") > 0 {
		some := rapid.SliceOfN(rapid.IntRange(0, 14), 0, 4).Draw(t, "versions")
		b["versions"] = some
		if rapid.Bool().Draw(t, "as text") {
			b["versions"] = strings.Trim(strings.Join(strings.Fields(fmt.Sprint(some)), ","), "[]")
		}
	}
	return b
}
