package kv

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/quorate/quorate/internal/body"
	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

// plainPrefix + path holds the object at a path.
const plainPrefix = "data/"

// V1 is the engine that keeps one object per path.
func V1() engine.Engine { return v1{} }

type v1 struct{}

// Routes implements engine.Engine.
func (v1) Routes() []engine.Route {
	return []engine.Route{{
		Path: "{path...}",
		Ops: map[engine.Operation]engine.Handler{
			engine.Read:   engine.InView(readPlain),
			engine.Update: engine.InUpdate(writePlain),
			engine.Delete: engine.InUpdate(deletePlain),
			engine.List:   engine.InView(listPlain),
		},
		Limit:   bodyLimit,
		Exists:  plainExists,
		Summary: "Read, write, delete and list secrets. The fields of a write are the secret.",
		Fields:  "*",
		Query:   "after, limit int",
	}}
}

func plainExists(tx store.Reader, r *engine.Request) (bool, error) {
	value, err := engine.Get(tx, plainPrefix+r.Params["path"])
	return value != nil, err
}

func readPlain(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	stored, err := engine.Get(tx, plainPrefix+r.Params["path"])
	if err != nil {
		return nil, err
	}
	if stored == nil {
		return nil, errAbsent
	}
	value := bytes.Clone(stored)
	return &engine.Response{
		Data:          json.RawMessage(value),
		LeaseDuration: leaseOf(value, r.Mount),
		Own:           [][]byte{value},
	}, nil
}

// leaseOf is how long a client may keep an object: what its writer said in it, within the bounds of the mount.
func leaseOf(object []byte, m engine.Mount) time.Duration {
	f, err := body.Decode(object, false)
	if err != nil {
		return m.DefaultTTL
	}
	name := "ttl"
	if !f.Has(name) {
		name = "lease"
	}
	ttl := f.Duration(name).Truncate(time.Second)
	if f.Err() != nil || ttl == 0 {
		return m.DefaultTTL
	}
	return min(ttl, m.MaxTTL)
}

func writePlain(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	path := r.Params["path"]
	if err := checkPath(path); err != nil {
		return nil, err
	}
	if len(r.Fields.Names()) == 0 {
		return nil, fault.New(fault.Invalid, "missing data fields: send the fields of the secret as one JSON object")
	}
	return &engine.Response{}, put(tx, plainPrefix+path, r.Fields.Object())
}

func deletePlain(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	path := r.Params["path"]
	if err := checkPath(path); err != nil {
		return nil, err
	}
	return &engine.Response{}, tx.Delete(plainPrefix + path)
}

func listPlain(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	list, err := names(tx, r, plainPrefix, 0)
	if err != nil {
		return nil, err
	}
	return &engine.Response{Data: map[string]any{"keys": list}}, nil
}
