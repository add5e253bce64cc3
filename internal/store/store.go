// Package store is the spine: a transactional, ordered map from keys to values that everything durable stands on.
//
// A store promises serialisable transactions and durability of what it acknowledged. It promises nothing about
// secrecy: that is the barrier's part, which implements the same interface over another store.
package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"
	"unicode/utf8"
)

// Store is a transactional, ordered map. Implementations are safe for concurrent use.
type Store interface {
	// View runs fn on a consistent snapshot, which holds everything that was acknowledged before. fn may run more than once
	// and must have no other effects: an engine may have to begin again on a newer snapshot.
	View(ctx context.Context, fn func(Reader) error) error

	// Update runs fn in a serialisable transaction and commits its writes together; if fn fails nothing is written.
	// fn may run more than once and must have no other effects. After nil, the changes are durable and every later
	// View on any node sees them. An error of fn's own is returned as it is. After any other error the outcome is
	// unknown, and it wraps ErrUnknownOutcome unless the store knows that nothing was written.
	Update(ctx context.Context, fn func(Tx) error) error

	// Close waits for running transactions and releases the store.
	Close() error
}

// Clock is a store whose engine has a clock that all nodes share.
type Clock interface {
	// Now is the engine's time, as well as this process knows it.
	Now() time.Time
}

// Meter is a store that tells how it fares.
type Meter interface {
	// Retries counts the transactions of this process that were run again after a conflict.
	Retries() uint64
}

// Reader reads one snapshot. It is valid until the function it was given to returns, and not for concurrent use.
type Reader interface {
	// Get returns the values of several keys in the order asked, nil for an absent one. The values are valid until
	// the transaction ends and must not be modified.
	Get(keys ...string) ([][]byte, error)

	// Scan yields the entries whose key begins with prefix and is greater than after, in byte order of the keys.
	// An error ends the sequence, with a zero entry. Values are valid until the transaction ends and must not be
	// modified. Writing inside the loop is not allowed: collect, then write.
	Scan(prefix, after string) iter.Seq2[Entry, error]
}

// Tx is a Reader that sees its own writes.
type Tx interface {
	Reader
	// Put stores a copy of value under key.
	Put(key string, value []byte) error
	// Delete removes key; deleting an absent key is no error.
	Delete(key string) error
}

// Entry is one key and its value.
type Entry struct {
	Key   string
	Value []byte
}

// Limits that every store honours, chosen so that each of the planned engines can.
const (
	MaxKey   = 1024    // bytes
	MaxValue = 1 << 20 // bytes
)

var (
	// ErrUnknownOutcome marks a commit whose effect can't be told: it may or may not have become durable.
	ErrUnknownOutcome = errors.New("the outcome of the write is unknown")
	// ErrClosed is returned by a store that has been closed.
	ErrClosed = errors.New("the store is closed")
	// ErrReadOnly is returned by a write through ReadOnly.
	ErrReadOnly = errors.New("a write inside a read-only transaction")
)

// CheckKey reports a key that no store accepts: empty, too long, not UTF-8, or with a NUL byte.
func CheckKey(key string) error {
	switch {
	case key == "":
		return errors.New("store key is empty")
	case len(key) > MaxKey:
		return fmt.Errorf("store key of %d bytes is over the limit of %d", len(key), MaxKey)
	case !utf8.ValidString(key) || strings.ContainsRune(key, 0):
		return errors.New("store key is not clean UTF-8")
	}
	return nil
}

// CheckValue reports a value that no store accepts.
func CheckValue(value []byte) error {
	if len(value) > MaxValue {
		return fmt.Errorf("store value of %d bytes is over the limit of %d", len(value), MaxValue)
	}
	return nil
}
