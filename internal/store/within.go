package store

import (
	"context"
	"iter"
	"strings"
)

// Within returns the part of tx whose keys begin with prefix, seen without it: nothing else can be read or written
// through it.
func Within(tx Tx, prefix string) Tx { return within{tx, prefix} }

type within struct {
	tx     Tx
	prefix string
}

// Get implements Reader.
func (w within) Get(keys ...string) ([][]byte, error) {
	full := make([]string, len(keys))
	for i, key := range keys {
		full[i] = w.prefix + key
	}
	return w.tx.Get(full...)
}

// Scan implements Reader.
func (w within) Scan(prefix, after string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for entry, err := range w.tx.Scan(w.prefix+prefix, w.prefix+after) {
			entry.Key = strings.TrimPrefix(entry.Key, w.prefix)
			if !yield(entry, err) {
				return
			}
		}
	}
}

// Put implements Tx.
func (w within) Put(key string, value []byte) error { return w.tx.Put(w.prefix+key, value) }

// Delete implements Tx.
func (w within) Delete(key string) error { return w.tx.Delete(w.prefix + key) }

// ReadOnly is a Tx of a transaction that may not write: writes fail with ErrReadOnly.
func ReadOnly(r Reader) Tx { return readOnly{r} }

type readOnly struct{ Reader }

func (readOnly) Put(string, []byte) error { return ErrReadOnly }
func (readOnly) Delete(string) error      { return ErrReadOnly }

// WithinStore is Within for every transaction of st. Closing it does nothing: st stays its owner's.
func WithinStore(st Store, prefix string) Store { return withinStore{st, prefix} }

type withinStore struct {
	Store
	prefix string
}

// View implements Store.
func (w withinStore) View(ctx context.Context, fn func(Reader) error) error {
	return w.Store.View(ctx, func(r Reader) error { return fn(Within(ReadOnly(r), w.prefix)) })
}

// Update implements Store.
func (w withinStore) Update(ctx context.Context, fn func(Tx) error) error {
	return w.Store.Update(ctx, func(tx Tx) error { return fn(Within(tx, w.prefix)) })
}

// Close implements Store.
func (withinStore) Close() error { return nil }
