package enginetest_test

import (
	"context"
	"encoding/json"
	"time"

	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

// lock is an engine of named locks: whoever takes one has it for a while, and nobody else can take it until then.
type lock struct{}

func New() engine.Engine { return lock{} }

// taken is the record of a lock.
type taken struct {
	Holder  string    `json:"holder"`
	Expires time.Time `json:"expires"`
}

const prefix = "lock/"

var (
	errFree  = fault.New(fault.NotFound, "")
	errTaken = fault.New(fault.Invalid, "the lock is taken: wait until it expires, or ask its holder to release it")
)

func (lock) Routes() []engine.Route {
	return []engine.Route{
		{
			Path: "locks", Ops: map[engine.Operation]engine.Handler{engine.List: engine.InView(list)},
			Summary: "the names of the locks", Query: "after, limit int", Clear: "keys",
		},
		{
			Path: "locks/{name}", Exists: exists,
			Ops: map[engine.Operation]engine.Handler{
				engine.Read: engine.InView(read), engine.Update: engine.InUpdate(take), engine.Delete: engine.InUpdate(release),
			},
			Summary: "a lock: look at it, take it, release it", Fields: "ttl duration", Clear: "ttl mine",
		},
	}
}

// Names tells the server that a lock has one name in whatever case.
func (lock) Names() []string { return []string{"name"} }

func list(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	return engine.Keys(tx, r, prefix)
}

// get returns the lock of the path and its key. It is nil if nobody has it: what has expired is free, swept or not.
func get(tx store.Reader, r *engine.Request) (string, *taken, error) {
	name, err := engine.Name(r.Params["name"])
	if err != nil {
		return "", nil, err
	}
	record, err := engine.Get(tx, prefix+name)
	if err != nil || record == nil {
		return prefix + name, nil, err
	}
	l := new(taken)
	if err := json.Unmarshal(record, l); err != nil || !r.Now.Before(l.Expires) {
		return prefix + name, nil, err
	}
	return prefix + name, l, nil
}

func exists(tx store.Reader, r *engine.Request) (bool, error) {
	_, l, err := get(tx, r)
	if fault.As(err) != nil { // what has no name isn't there
		return false, nil
	}
	return l != nil, err
}

func read(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	_, l, err := get(tx, r)
	if err != nil {
		return nil, err
	}
	if l == nil {
		return nil, errFree
	}
	return &engine.Response{Data: map[string]any{"mine": l.Holder == tx.Holder(), "ttl": engine.Seconds(l.Expires.Sub(r.Now))}}, nil
}

func take(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	key, l, err := get(tx, r)
	if err != nil {
		return nil, err
	}
	ttl := r.Fields.Duration("ttl")
	if err := r.Fields.Err(); err != nil {
		return nil, err
	}
	if ttl == 0 {
		ttl = r.Mount.DefaultTTL
	}
	if l != nil && l.Holder != tx.Holder() {
		return nil, errTaken
	}
	record, err := json.Marshal(taken{tx.Holder(), r.Now.Add(min(ttl, r.Mount.MaxTTL))})
	if err != nil {
		return nil, err
	}
	return &engine.Response{}, tx.Put(key, record)
}

func release(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	key, l, err := get(tx, r)
	if err != nil {
		return nil, err
	}
	if l != nil && l.Holder != tx.Holder() {
		return nil, errTaken
	}
	return &engine.Response{}, tx.Delete(key)
}

// Sweep removes the locks that have expired.
func (lock) Sweep(ctx context.Context, st store.Store, now time.Time) error {
	return engine.SweepStale(ctx, st, prefix, func(e store.Entry) (stale, more bool) {
		var l taken
		return json.Unmarshal(e.Value, &l) != nil || !now.Before(l.Expires), true
	}, func(tx store.Tx, e store.Entry) error { return tx.Delete(e.Key) })
}
