package kv

import (
	"strconv"
	"time"

	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

// marker changes version n, which is there and not destroyed.
type marker func(tx store.Tx, m *meta, c config, n int, now time.Time) error

func remove(_ store.Tx, m *meta, _ config, n int, now time.Time) error {
	if v := m.version(n); !v.deleted(now) {
		v.Deletion, v.Deleted = now.UnixNano(), true
	}
	return nil
}

func restore(_ store.Tx, m *meta, c config, n int, now time.Time) error {
	v := m.version(n)
	v.Deletion, v.Deleted = m.deletion(c, now), false
	return nil
}

func destroy(tx store.Tx, m *meta, _ config, n int, _ time.Time) error {
	m.version(n).Destroyed = true
	return tx.Delete(m.key(n))
}

// markCurrent marks the current version.
func markCurrent(how marker) engine.TxHandler {
	return func(tx engine.Tx, r *engine.Request) (*engine.Response, error) { return mark(tx, r, nil, how) }
}

// markSent marks the versions that a request names.
func markSent(how marker) engine.TxHandler {
	return func(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
		var list []int
		for _, text := range r.Fields.Strs("versions") {
			n, err := strconv.Atoi(text)
			if err != nil {
				r.Fields.Wrong("versions", "a list of whole numbers")
				break
			}
			list = append(list, n)
		}
		if err := r.Fields.Err(); err != nil {
			return nil, err
		}
		if len(list) == 0 {
			return nil, fault.New(fault.Invalid, `no version number provided: send the list "versions"`)
		}
		return mark(tx, r, list, how)
	}
}

// mark marks versions, the current one if there is no list. Those that aren't there are passed over.
func mark(tx engine.Tx, r *engine.Request, list []int, how marker) (*engine.Response, error) {
	path := r.Params["path"]
	if checkPath(path) != nil { // nothing can be there
		return &engine.Response{}, nil
	}
	m, c, err := readBoth(tx, path)
	if err != nil || m == nil {
		return &engine.Response{}, err
	}
	if list == nil {
		list = []int{m.Current}
	}
	for _, n := range list {
		if v := m.version(n); v == nil || v.Destroyed {
			continue
		}
		if err := how(tx, m, c, n, r.Now); err != nil {
			return nil, err
		}
	}
	return &engine.Response{}, m.store(tx, path)
}
