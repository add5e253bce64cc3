package storetest

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
)

// optimistic runs functions side by side and lets one commit if what it has read is still the same, as the distributed
// stores do. The zero value is right; its fields make it wrong.
type optimistic struct {
	deletions deletions
	tries     int // 0: as many as it takes
}

type deletions bool

// forgotten: of what was scanned, only that nothing was added or changed is made sure of.
const forgotten deletions = true

var errTries = errors.New("too many conflicts")

func (o optimistic) update(s store.Store, ctx context.Context, fn func(store.Tx) error) error {
	for try := 1; ; try++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		var valid bool
		err := s.View(ctx, func(r store.Reader) error {
			read := &recorder{Reader: r, got: map[string][]byte{}}
			tx := store.NewOverlay(read)
			if err := fn(tx); err != nil {
				return err
			}
			return s.Update(ctx, func(under store.Tx) error {
				var err error
				if valid, err = o.valid(under, read); err != nil || !valid {
					return err
				}
				var changes []store.Entry
				for key, value := range tx.Changes() {
					changes = append(changes, store.Entry{Key: key, Value: value})
				}
				return write(under, changes)
			})
		})
		if err != nil || valid {
			return err
		}
		if try == o.tries {
			return errTries
		}
	}
}

func (o optimistic) valid(now store.Reader, read *recorder) (bool, error) {
	for key, was := range read.got {
		values, err := now.Get(key)
		if err != nil || !same(values[0], was) {
			return false, err
		}
	}
	for _, sc := range read.scans {
		var is []store.Entry
		for e, err := range now.Scan(sc.prefix, sc.after) {
			if err != nil {
				return false, err
			}
			if sc.until != "" && e.Key > sc.until {
				break
			}
			is = append(is, e)
		}
		equal := func(a, b store.Entry) bool { return a.Key == b.Key && same(a.Value, b.Value) }
		switch {
		case o.deletions == forgotten:
			for _, e := range is {
				if !slices.ContainsFunc(sc.entries, func(was store.Entry) bool { return equal(was, e) }) {
					return false, nil
				}
			}
		case !slices.EqualFunc(is, sc.entries, equal):
			return false, nil
		}
	}
	return true, nil
}

// same compares the identity of values, which an inmem store keeps until a key is written again.
func same(a, b []byte) bool {
	return (a == nil) == (b == nil) && len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// recorder notes what is read.
type recorder struct {
	store.Reader
	got   map[string][]byte
	scans []*scanned
}

type scanned struct {
	prefix, after, until string // until is the last key that was read, "" for all
	entries              []store.Entry
}

func (r *recorder) Get(keys ...string) ([][]byte, error) {
	values, err := r.Reader.Get(keys...)
	for i, value := range values {
		r.got[keys[i]] = value
	}
	return values, err
}

func (r *recorder) Scan(prefix, after string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		sc := &scanned{prefix: prefix, after: after}
		r.scans = append(r.scans, sc)
		for e, err := range r.Reader.Scan(prefix, after) {
			if err == nil {
				sc.entries = append(sc.entries, e)
			}
			if !yield(e, err) {
				sc.until = strings.Clone(e.Key)
				return
			}
		}
	}
}

// A store that runs transactions side by side meets conflicts that one after another doesn't know, and passes all the same.
func TestOptimisticConforms(t *testing.T) {
	Run(t, func(*testing.T) store.Store {
		return &gated{Store: broken{Store: inmem.New(), update: optimistic{}.update}}
	})
}

// gated closes the store under it when nothing uses that any more: optimistic calls it more than once for each of its own.
type gated struct {
	store.Store
	gate store.Gate
}

func (g *gated) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := g.gate.Enter(); err != nil {
		return err
	}
	defer g.gate.Leave()
	return g.Store.View(ctx, fn)
}

func (g *gated) Update(ctx context.Context, fn func(store.Tx) error) error {
	if err := g.gate.Enter(); err != nil {
		return err
	}
	defer g.gate.Leave()
	return g.Store.Update(ctx, fn)
}

func (g *gated) Close() error {
	g.gate.Close()
	return g.Store.Close()
}
