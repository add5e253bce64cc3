// Package kv has the two key/value engines: version 1, which keeps one JSON object per path, and version 2, which keeps
// several versions of it, with check-and-set, soft deletion and metadata.
//
// Both promise to give back the JSON they were given, value for value: numbers keep their digits, and nothing is
// interpreted but what wire reference 7.1 and 7.2 say. They don't promise the order of fields or the white space.
// Version 2 promises that version numbers of one secret only rise, that a write with check-and-set happens only on the
// version it names, and that what was dropped, destroyed or deleted with its metadata is gone from the store in the same
// transaction. A version that was deleted by its age or by a person is only hidden, until it is destroyed or dropped.
package kv

import (
	"strings"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

const (
	// maxPath leaves room in a store's key for the mount's prefix and the engine's own.
	maxPath = 768
	// bodyLimit lets through every value that can be kept, with its wrapping, so that a larger one gets a sentence.
	bodyLimit = barrier.MaxValue + 64<<10
)

var (
	errAbsent  = fault.New(fault.NotFound, "")
	errNoPath  = fault.New(fault.Invalid, "missing path: name the secret after the mount and its endpoint")
	errBadPath = fault.Newf(fault.Invalid, "the path of a secret must have at most %d bytes and can't end in a slash", maxPath)
	errTooLong = fault.Newf(fault.TooLarge, "the secret is too large: its JSON can have at most %d bytes", barrier.MaxValue)
)

// checkPath refuses a path that can't be written to.
func checkPath(path string) error {
	switch {
	case path == "":
		return errNoPath
	case len(path) > maxPath || strings.HasSuffix(path, "/") || store.CheckKey(path) != nil:
		return errBadPath
	}
	return nil
}

// put stores the JSON of a secret.
func put(tx store.Tx, key string, value []byte) error {
	if len(value) > barrier.MaxValue {
		return errTooLong
	}
	return tx.Put(key, value)
}

// names lists the page of a folder that a request asks for; more than most of them in one page are refused, unless that
// is 0.
func names(tx store.Reader, r *engine.Request, prefix string, most int) ([]string, error) {
	after, limit, err := engine.Paging(r.Query)
	if err != nil {
		return nil, err
	}
	if folder := r.Params["path"]; folder != "" {
		prefix += strings.TrimSuffix(folder, "/") + "/"
	}
	ask := limit
	if most > 0 && (limit == 0 || limit > most) {
		ask = most + 1
	}
	list, err := engine.ListNames(tx, prefix, after, ask)
	switch {
	case err != nil:
		return nil, err
	case len(list) == 0:
		return nil, errAbsent
	case most > 0 && len(list) > most:
		return nil, fault.Newf(fault.Invalid, `the list has more than %d names: ask for pages of it with "after" and "limit"`, most)
	}
	return list, nil
}
