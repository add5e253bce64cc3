package enginetest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

// broken is a small engine that is right, but for what a test changes.
type broken struct {
	route engine.Route
	sweep func(ctx context.Context, st store.Store, now time.Time) error
}

func (b broken) Routes() []engine.Route { return []engine.Route{b.route} }

func (b broken) Sweep(ctx context.Context, st store.Store, now time.Time) error {
	return b.sweep(ctx, st, now)
}

func put(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	if len(r.Params["path"]) > 500 || strings.HasSuffix(r.Params["path"], "/") || store.CheckKey(key(r)) != nil {
		return nil, fault.New(fault.Invalid, "no")
	}
	return nil, tx.Put(key(r), r.Fields.Object())
}

func key(r *engine.Request) string { return "x/" + r.Params["path"] }

func get(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	value, err := engine.Get(tx, "x/")
	if err == nil && value == nil {
		err = fault.New(fault.NotFound, "")
	}
	return &engine.Response{}, err
}

func list(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	return engine.Keys(tx, r, "x/"+r.Params["path"])
}

func remove(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	if store.CheckKey(key(r)) != nil {
		return nil, fault.New(fault.Invalid, "no")
	}
	return nil, tx.Delete(key(r))
}

func sound() *broken {
	return &broken{
		route: engine.Route{Path: "{path...}", Summary: "x", Fields: "*", Query: "after, limit int", Ops: map[engine.Operation]engine.Handler{
			engine.Read: engine.InView(get), engine.Update: engine.InUpdate(put), engine.List: engine.InView(list), engine.Delete: engine.InUpdate(remove),
		}},
		sweep: func(context.Context, store.Store, time.Time) error { return nil },
	}
}

// on makes an engine whose answer to one operation is another.
func on(op engine.Operation, h engine.Handler) *broken {
	b := sound()
	b.route.Ops[op] = h
	return b
}

func TestSuiteNoticesFaults(t *testing.T) {
	calls := 0
	for _, c := range []struct {
		check string
		want  string
		of    *broken
	}{
		{"routes", "Summary", func() *broken { b := sound(); b.route.Summary = ""; return b }()},
		{"routes", "type that there isn't", func() *broken { b := sound(); b.route.Fields = "a integer"; return b }()},
		{"routes", "type that there isn't", func() *broken { b := sound(); b.route.Query = "a, b string"; return b }()},
		{"routes", "is a login", func() *broken { b := sound(); b.route.Login, b.route.Sudo = true, true; return b }()},
		{"routes", "no update", func() *broken { b := sound(); delete(b.route.Ops, engine.Update); return b }()},
		{"routes", "no read or list", func() *broken {
			b := sound()
			delete(b.route.Ops, engine.Read)
			delete(b.route.Ops, engine.List)
			return b
		}()},
		{"junk", "no fault", on(engine.Update, engine.InUpdate(func(engine.Tx, *engine.Request) (*engine.Response, error) {
			return nil, errors.New("plain")
		}))},
		{"junk", "panic", on(engine.Update, engine.InUpdate(func(_ engine.Tx, r *engine.Request) (*engine.Response, error) {
			_ = r.Fields.Names()[0]
			return nil, nil
		}))},
		{"junk", "repeats a value", on(engine.Update, engine.InUpdate(func(_ engine.Tx, r *engine.Request) (*engine.Response, error) {
			for _, name := range r.Fields.Names() {
				return nil, fault.New(fault.Invalid, "what is "+name)
			}
			return nil, nil
		}))},
		{"junk", "repeats a value", on(engine.Update, engine.InUpdate(func(_ engine.Tx, r *engine.Request) (*engine.Response, error) {
			return &engine.Response{Warnings: r.Fields.Names()}, nil
		}))},
		{"junk", "opened an Update", on(engine.Read, engine.InUpdate(get))},
		{"junk", "no fault", on(engine.List, engine.InView(put))},
		{"junk", "no login", on(engine.Update, engine.InUpdate(func(tx engine.Tx, _ *engine.Request) (*engine.Response, error) {
			return nil, tx.Login(engine.Login{})
		}))},
		{"junk", "more than one transaction", on(engine.Update, func(ctx context.Context, r *engine.Request) (*engine.Response, error) {
			_, err := engine.InView(get)(ctx, r)
			if fault.As(err) == nil && err != nil {
				return nil, err
			}
			return engine.InUpdate(put)(ctx, r)
		})},
		{"junk", "no fault", on(engine.Read, engine.InView(func(engine.Tx, *engine.Request) (*engine.Response, error) {
			return &engine.Response{Data: func() {}}, nil
		}))},
		{"authority", "allowed nothing", on(engine.Update, func(ctx context.Context, r *engine.Request) (*engine.Response, error) {
			if len(r.Fields.Names()) == 0 {
				return nil, fault.New(fault.Invalid, "empty")
			}
			return engine.InUpdate(put)(ctx, r)
		})},
		{"authority", "allowed nothing", on(engine.Delete, func(context.Context, *engine.Request) (*engine.Response, error) { return nil, nil })},
		{"holders", "another one", func() *broken {
			b := on(engine.Update, engine.InUpdate(func(tx engine.Tx, _ *engine.Request) (*engine.Response, error) {
				return nil, tx.Put(tx.Holder()+"/a", []byte("1"))
			}))
			b.route.Ops[engine.Delete] = engine.InUpdate(func(tx engine.Tx, _ *engine.Request) (*engine.Response, error) {
				return nil, tx.Delete("holder/a")
			})
			return b
		}()},
		{"holders", "no request wrote", on(engine.Update, engine.InView(get))},
		{"lists", "in pages", on(engine.List, engine.InView(func(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
			if r.Query.Get("after") != "" {
				return nil, fault.New(fault.NotFound, "")
			}
			return list(tx, r)
		}))},
		{"lists", "more than limit", on(engine.List, engine.InView(func(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
			r.Query.Del("limit")
			return list(tx, r)
		}))},
		{"lists", "sorted", on(engine.List, engine.InView(func(engine.Tx, *engine.Request) (*engine.Response, error) {
			return &engine.Response{Data: map[string]any{"keys": []string{"b", "a"}}}, nil
		}))},
		{"lists", "without keys", on(engine.List, engine.InView(func(engine.Tx, *engine.Request) (*engine.Response, error) {
			return &engine.Response{Data: map[string]any{"keys": []string{}}}, nil
		}))},
		{"commits", "nothing was committed", on(engine.Update, func(ctx context.Context, r *engine.Request) (*engine.Response, error) {
			_, _ = engine.InUpdate(put)(ctx, r)
			return nil, nil
		})},
		{"sweep", "second sweep", func() *broken {
			b := sound()
			b.sweep = func(ctx context.Context, st store.Store, _ time.Time) error {
				calls++
				return st.Update(ctx, func(tx store.Tx) error { return tx.Put("swept", []byte{byte(calls)}) })
			}
			return b
		}()},
	} {
		for _, check := range checks() {
			if check.name != c.check {
				continue
			}
			if p := strings.Join(check.problems(t, sound()), "\n"); p != "" {
				t.Fatalf("%s: the sound engine: %s", c.check, p)
			}
			if p := strings.Join(check.problems(t, c.of), "\n"); !strings.Contains(p, c.want) {
				t.Errorf("%s: want a problem with %q, have %q", c.check, c.want, p)
			}
		}
	}
}
