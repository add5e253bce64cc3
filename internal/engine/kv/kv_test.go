package kv

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/engine/enginetest"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
)

func TestV1(t *testing.T) {
	s := enginetest.New(t, V1())
	play(t, s, []step{
		{engine.Read, "app", "", 404, ""},
		{engine.Update, "app", `{}`, 400, "missing data fields"},
		{engine.Update, "app", `{"a":1,"\"\u00e9\n":[null,{"b":"c"}],"none":null}`, 204, ""},
		{engine.Read, "app", "", 200, `{"a":1,"\"é\n":[null,{"b":"c"}],"none":null}`},
		{engine.Update, "app/db", `{"b":"2"}`, 204, ""},
		{engine.Update, "", `{"b":"2"}`, 400, "missing path"},
		{engine.List, "", "", 200, `{"keys":["app","app/"]}`},
		{engine.List, "app", "", 200, `{"keys":["db"]}`},
		{engine.List, "?after=app", "", 200, `{"keys":["app/"]}`},
		{engine.Patch, "app", `{"a":1}`, 405, ""},
		{engine.Delete, "app", "", 204, ""},
		{engine.Delete, "app", "", 204, ""},
		{engine.Read, "app", "", 404, ""},
		{engine.List, "app/db", "", 404, ""},
	})
}

func TestV1Lease(t *testing.T) {
	s := enginetest.New(t, V1())
	for body, want := range map[string]time.Duration{
		`{"a":1}`:                       s.Mount.DefaultTTL,
		`{"ttl":"90s"}`:                 90 * time.Second,
		`{"ttl":120,"lease":"1s"}`:      2 * time.Minute,
		`{"lease":"30"}`:                30 * time.Second,
		`{"ttl":0}`:                     s.Mount.DefaultTTL,
		`{"ttl":"soon"}`:                s.Mount.DefaultTTL,
		`{"ttl":-5}`:                    s.Mount.DefaultTTL,
		`{"ttl":["1h"],"lease":"30s"}`:  s.Mount.DefaultTTL,
		`{"ttl":"1000h"}`:               s.Mount.MaxTTL,
		`{"ttl":null,"lease":"1m0.5s"}`: time.Minute,
	} {
		s.Want(204, engine.Update, "a", body)
		if a := s.Want(200, engine.Read, "a", ""); a.Response.LeaseDuration != want {
			t.Errorf("%s: %v, want %v", body, a.Response.LeaseDuration, want)
		}
	}
}

// What holds a secret names nothing that audit devices may show, because a secret may have a field of any name.
func TestSecretsAreNeverClear(t *testing.T) {
	for _, r := range append(V1().Routes(), V2().Routes()...) {
		carries := r.Fields == "*" || strings.HasPrefix(r.Path, "data/") || strings.HasPrefix(r.Path, "subkeys/") || strings.Contains(r.Path, "metadata/")
		if carries && r.Clear != "" {
			t.Errorf("%q shows %q in clear", r.Path, r.Clear)
		}
	}
}

// Creating and updating need other capabilities.
func TestExists(t *testing.T) {
	st := inmem.New()
	fill(t, st, plainPrefix+"there", metaPrefix+"there")
	for _, r := range append(V1().Routes(), V2().Routes()...) {
		if r.Exists == nil {
			continue
		}
		view(t, st, func(tx engine.Tx) error {
			for path, want := range map[string]bool{"there": true, "absent": false, "": false} {
				got, err := r.Exists(tx, &engine.Request{Params: map[string]string{"path": path}})
				if got != want || err != nil {
					t.Errorf("%q, %q: exists %v (%v), want %v", r.Path, path, got, err, want)
				}
			}
			return nil
		})
	}
}

func TestNamesAreBounded(t *testing.T) {
	st := inmem.New()
	fill(t, st, "meta/f/1", "meta/f/2", "meta/f/3", "meta/f/4")
	view(t, st, func(tx engine.Tx) error {
		for query, want := range map[string]string{"": "more than 3", "limit=4": "more than 3", "limit=3": "", "after=1": ""} {
			q, err := url.ParseQuery(query)
			if err != nil {
				t.Fatal(err)
			}
			list, err := names(tx, &engine.Request{Query: q, Params: map[string]string{"path": "f/"}}, metaPrefix, 3)
			if (want == "") != (len(list) == 3) || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %q, %v", query, list, err)
			}
		}
		return nil
	})
}

func fill(t *testing.T, st store.Store, keys ...string) {
	t.Helper()
	err := st.Update(t.Context(), func(tx store.Tx) error {
		for _, key := range keys {
			if err := tx.Put(key, []byte("{}")); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func view(t testing.TB, st store.Store, fn func(engine.Tx) error) {
	t.Helper()
	if err := st.View(t.Context(), func(r store.Reader) error { return fn(bareTx{store.ReadOnly(r)}) }); err != nil {
		t.Fatal(err)
	}
}

// bareTx is a transaction of nobody.
type bareTx struct{ store.Tx }

func (bareTx) Holder() string           { return "" }
func (bareTx) Login(engine.Login) error { return nil }

func BenchmarkReadData(b *testing.B) {
	st := inmem.New()
	r := &engine.Request{Params: map[string]string{"path": "app"}, Now: time.Now()}
	err := st.Update(b.Context(), func(tx store.Tx) error {
		m := newMeta()
		for range 10 {
			if err := m.add(tx, config{}, []byte(`{"user":"app","password":"correct horse battery staple"}`), r.Now); err != nil {
				return err
			}
		}
		return m.store(tx, "app")
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	view(b, st, func(tx engine.Tx) error {
		for b.Loop() {
			if resp, err := readData(tx, r); err != nil || resp.NotFound {
				b.Fatal(resp, err)
			}
		}
		return nil
	})
}
