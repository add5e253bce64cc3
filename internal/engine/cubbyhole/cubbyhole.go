// Package cubbyhole has the engine that gives every token a store of its own.
//
// It promises that nobody but the holder of a token reads or changes what was written with it, whatever the policies of
// others say: the name of the token begins every key. The server promises the rest: the records go with the token.
package cubbyhole

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

const (
	maxPath   = 512 // bytes: the rest of a key is for the mount and the token
	bodyLimit = 512 << 10
)

var (
	errAbsent = fault.New(fault.NotFound, "")
	errPath   = fault.Newf(fault.Invalid, "the path below the mount must have 1 to %d bytes and can't end in a slash", maxPath)
	errNoData = fault.New(fault.Invalid, "missing data fields: send what to keep as the fields of one JSON object")
	errHolder = fault.New(fault.Denied, "permission denied")
)

// New returns the engine.
func New() engine.Engine { return cubbyhole{} }

type cubbyhole struct{}

// Routes implements engine.Engine.
func (cubbyhole) Routes() []engine.Route {
	return []engine.Route{{
		Path: "{path...}",
		Ops: map[engine.Operation]engine.Handler{
			engine.Read:   engine.InView(read),
			engine.Update: engine.InUpdate(write),
			engine.Delete: engine.InUpdate(remove),
			engine.List:   engine.InView(list),
		},
		Limit:   bodyLimit,
		Summary: "what only the token of the request can read, and what goes with it",
		Fields:  "*",
		Query:   "after, limit int",
	}}
}

// key is where the holder of the token keeps what it calls path.
func key(tx engine.Tx, path string) (string, error) {
	switch {
	case tx.Holder() == "":
		return "", errHolder
	case path == "" || len(path) > maxPath || strings.HasSuffix(path, "/") || store.CheckKey(path) != nil:
		return "", errPath
	}
	return tx.Holder() + "/" + path, nil
}

func read(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	k, err := key(tx, r.Params["path"])
	if err != nil {
		return nil, err
	}
	stored, err := engine.Get(tx, k)
	if err != nil {
		return nil, err
	}
	if stored == nil {
		return nil, errAbsent
	}
	value := bytes.Clone(stored)
	return &engine.Response{Data: json.RawMessage(value), Own: [][]byte{value}}, nil
}

func write(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	k, err := key(tx, r.Params["path"])
	if err != nil {
		return nil, err
	}
	if len(r.Fields.Names()) == 0 {
		return nil, errNoData
	}
	return &engine.Response{}, tx.Put(k, r.Fields.Object())
}

func remove(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	k, err := key(tx, r.Params["path"])
	if err != nil {
		return nil, err
	}
	return &engine.Response{}, tx.Delete(k)
}

func list(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	folder := strings.TrimSuffix(r.Params["path"], "/")
	if folder != "" {
		if _, err := key(tx, folder); err != nil {
			return nil, err
		}
		folder += "/"
	}
	if tx.Holder() == "" {
		return nil, errHolder
	}
	return engine.Keys(tx, r, tx.Holder()+"/"+folder)
}
