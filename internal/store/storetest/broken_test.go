package storetest

import (
	"context"
	"errors"
	"iter"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
)

const brokenEnv = "QUORATE_TEST_BROKEN_STORE"

// broken is an inmem store with one fault.
type broken struct {
	store.Store
	update func(s store.Store, ctx context.Context, fn func(store.Tx) error) error
	view   func(s store.Store, ctx context.Context, fn func(store.Reader) error) error
}

func (b broken) Update(ctx context.Context, fn func(store.Tx) error) error {
	if b.update == nil {
		return b.Store.Update(ctx, fn)
	}
	return b.update(b.Store, ctx, fn)
}

func (b broken) View(ctx context.Context, fn func(store.Reader) error) error {
	if b.view == nil {
		return b.Store.View(ctx, fn)
	}
	return b.view(b.Store, ctx, fn)
}

// twisted is a Tx with one fault.
type twisted struct {
	store.Tx
	get  func(store.Tx, []string) ([][]byte, error)
	scan func(store.Tx, string, string) iter.Seq2[store.Entry, error]
	put  func(store.Tx, string, []byte) error
}

func (t twisted) Get(keys ...string) ([][]byte, error) {
	if t.get == nil {
		return t.Tx.Get(keys...)
	}
	return t.get(t.Tx, keys)
}

func (t twisted) Scan(prefix, after string) iter.Seq2[store.Entry, error] {
	if t.scan == nil {
		return t.Tx.Scan(prefix, after)
	}
	return t.scan(t.Tx, prefix, after)
}

func (t twisted) Put(key string, value []byte) error {
	if t.put == nil {
		return t.Tx.Put(key, value)
	}
	return t.put(t.Tx, key, value)
}

// twist makes a store whose transactions all have the same fault.
func twist(fault twisted) broken {
	return broken{
		update: func(s store.Store, ctx context.Context, fn func(store.Tx) error) error {
			return s.Update(ctx, func(tx store.Tx) error {
				fault.Tx = tx
				return fn(fault)
			})
		},
		view: func(s store.Store, ctx context.Context, fn func(store.Reader) error) error {
			return s.View(ctx, func(r store.Reader) error {
				fault.Tx = store.NewOverlay(r)
				return fn(fault)
			})
		},
	}
}

// brokenStores: a fault, and the test that has to notice.
func brokenStores() map[string]broken {
	return map[string]broken{
		"Tx/ErrorWritesNothing": {update: func(s store.Store, ctx context.Context, fn func(store.Tx) error) error {
			var own error
			err := s.Update(ctx, func(tx store.Tx) error { own = fn(tx); return nil })
			return errors.Join(own, err)
		}},
		"Isolation/LostUpdate":      {update: updateOnOldSnapshot},
		"Isolation/WriteSkew":       {update: updateOnOldSnapshot},
		"Isolation/Phantom":         {update: updateOnOldSnapshot},
		"Isolation/DeletionPhantom": {update: optimistic{deletions: forgotten}.update},
		"Isolation/DeletionSkew":    {update: optimistic{deletions: forgotten}.update},
		"Isolation/ConflictsEnd":    {update: optimistic{tries: 5}.update},
		"Context/CancelledInConflict": {update: func(s store.Store, ctx context.Context, fn func(store.Tx) error) error {
			return optimistic{}.update(s, context.WithoutCancel(ctx), fn)
		}},
		"Scan/UnderWriters": {view: func(s store.Store, ctx context.Context, fn func(store.Reader) error) error {
			return s.View(ctx, func(r store.Reader) error { return fn(livePages{r, live{s, ctx}}) })
		}},
		"Tx/LargeIsAtomic": {update: updateInParts},
		"Context/CancelledBefore": {update: func(s store.Store, _ context.Context, fn func(store.Tx) error) error {
			return s.Update(context.Background(), fn)
		}},
		"Isolation/SnapshotStays": {view: func(s store.Store, ctx context.Context, fn func(store.Reader) error) error {
			return fn(live{s, ctx})
		}},
		"Put/EmptyValueIsNotAbsent": twist(twisted{get: func(tx store.Tx, keys []string) ([][]byte, error) {
			values, err := tx.Get(keys...)
			for i := range values {
				values[i] = append([]byte(nil), values[i]...)
			}
			return values, err
		}}),
		"Get/OrderAndAbsence": twist(twisted{get: func(tx store.Tx, keys []string) ([][]byte, error) {
			values, err := tx.Get(keys...)
			for i, j := 0, len(values)-1; i < j; i, j = i+1, j-1 {
				values[i], values[j] = values[j], values[i]
			}
			return values, err
		}}),
		"Scan/PrefixAndAfter": twist(twisted{scan: func(tx store.Tx, prefix, after string) iter.Seq2[store.Entry, error] {
			return tx.Scan(prefix, max(prefix, after)) // loses the key that is the prefix itself
		}}),
		"Rules/ValueSize": twist(twisted{put: func(tx store.Tx, key string, value []byte) error {
			return tx.Put(key, value[:min(len(value), store.MaxValue)])
		}}),
		"Tx/SeesOwnWrites": {update: func(s store.Store, ctx context.Context, fn func(store.Tx) error) error {
			return s.View(ctx, func(r store.Reader) error {
				return s.Update(ctx, func(tx store.Tx) error { return fn(blind{r, tx}) })
			})
		}},
	}
}

// updateOnOldSnapshot runs fn beside others and applies its writes whatever they did.
func updateOnOldSnapshot(s store.Store, ctx context.Context, fn func(store.Tx) error) error {
	return s.View(ctx, func(r store.Reader) error {
		tx := store.NewOverlay(r)
		if err := fn(tx); err != nil {
			return err
		}
		letOthersRun()
		return s.Update(ctx, func(under store.Tx) error {
			for key, value := range tx.Changes() {
				if err := write(under, []store.Entry{{Key: key, Value: value}}); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// updateInParts cuts what is written into pieces, and makes sure only of the order.
func updateInParts(s store.Store, ctx context.Context, fn func(store.Tx) error) error {
	return s.View(ctx, func(r store.Reader) error {
		tx := store.NewOverlay(r)
		if err := fn(tx); err != nil {
			return err
		}
		var part []store.Entry
		flush := func() error {
			letOthersRun()
			return s.Update(ctx, func(under store.Tx) error { return write(under, part) })
		}
		for key, value := range tx.Changes() {
			if part = append(part, store.Entry{Key: key, Value: value}); len(part) == 500 {
				if err := flush(); err != nil {
					return err
				}
				part = nil
			}
		}
		return flush()
	})
}

// write applies changes; a nil value deletes.
func write(tx store.Tx, changes []store.Entry) error {
	for _, e := range changes {
		err := tx.Delete(e.Key)
		if e.Value != nil {
			err = tx.Put(e.Key, e.Value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// livePages scans in pages, each as the store is by then.
type livePages struct {
	store.Reader
	live live
}

func (l livePages) Scan(prefix, after string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for more := true; more; {
			more = false
			var page []store.Entry
			for e, err := range l.live.Scan(prefix, after) {
				if err != nil {
					yield(store.Entry{}, err)
					return
				}
				if page = append(page, e); len(page) == 100 {
					more = true
					break
				}
			}
			for _, e := range page {
				if after = e.Key; !yield(e, nil) {
					return
				}
			}
		}
	}
}

// live reads the newest state with each call.
type live struct {
	s   store.Store
	ctx context.Context
}

func (l live) Get(keys ...string) (values [][]byte, err error) {
	err = l.s.View(l.ctx, func(r store.Reader) error {
		values, err = r.Get(keys...)
		return err
	})
	return values, err
}

func (l live) Scan(prefix, after string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		l.s.View(l.ctx, func(r store.Reader) error {
			r.Scan(prefix, after)(yield)
			return nil
		})
	}
}

// blind reads what was there before its own writes.
type blind struct {
	store.Reader
	tx store.Tx
}

func (b blind) Put(key string, value []byte) error { return b.tx.Put(key, value) }
func (b blind) Delete(key string) error            { return b.tx.Delete(key) }

// TestBrokenStore is what a child of the next test runs.
func TestBrokenStore(t *testing.T) {
	b, ok := brokenStores()[os.Getenv(brokenEnv)]
	if !ok {
		t.Skip("only as a child of TestSuiteNoticesFaults")
	}
	Run(t, func(*testing.T) store.Store {
		b.Store = inmem.New()
		return b
	})
}

// The suite is only worth something if a store that breaks a rule fails the test of that rule.
func TestSuiteNoticesFaults(t *testing.T) {
	for name := range brokenStores() {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestBrokenStore$/^"+strings.ReplaceAll(name, "/", "$/^")+"$", "-test.timeout=30s")
			cmd.Env = append(os.Environ(), brokenEnv+"="+name)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || !strings.Contains(string(out), "--- FAIL: TestBrokenStore/"+name) {
				t.Errorf("the suite didn't notice: %v\n%s", err, out)
			}
		})
	}
}
