package storetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/store"
)

// patience is how long a transaction waits for another one that is expected to run beside it. Where it waits in vain a test
// is blunter, but no test's verdict on a correct store depends on it.
const patience = time.Second

// tested is the store of one test, with what is known of all stores of its kind.
type tested struct {
	store.Store
	sideBySide func() bool // whether Updates run beside each other
}

// runsSideBySide finds out whether an Update's function is run while another one runs.
func runsSideBySide(t *testing.T, s store.Store) bool {
	running, beside := make(chan struct{}), make(chan struct{})
	found := false
	race(2, func(i int) {
		var fn func()
		if i == 0 {
			fn = func() {
				close(running)
				found = within(patience/4, beside)
			}
		} else {
			<-running
			fn = func() { close(beside) }
		}
		var once sync.Once
		err := s.Update(context.Background(), func(store.Tx) error {
			once.Do(fn)
			return nil
		})
		if err != nil {
			t.Errorf("Update: %v", err)
		}
	})
	return found
}

// within reports whether done is closed in time.
func within(limit time.Duration, done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-time.After(limit):
		return false
	}
}

// rendezvous lets transactions of a store that runs them side by side wait for each other inside their functions.
type rendezvous struct{ hopeless atomic.Bool }

func newRendezvous(s store.Store) *rendezvous {
	r := new(rendezvous)
	r.hopeless.Store(!s.(tested).sideBySide())
	return r
}

// wait waits for done to be closed, and reports whether it was. After it was in vain it isn't tried again.
func (r *rendezvous) wait(done <-chan struct{}) bool {
	met := !r.hopeless.Load() && within(patience, done)
	r.hopeless.Store(!met)
	return met
}

// pair returns a function for each of two transactions, to be called when it has read: it waits for the other's call. Where
// a function runs again, it doesn't wait.
func (r *rendezvous) pair() [2]func() {
	var once [2]sync.Once
	there := [2]chan struct{}{make(chan struct{}), make(chan struct{})}
	call := func(i int) {
		once[i].Do(func() {
			close(there[i])
			r.wait(there[1-i])
		})
	}
	return [2]func(){func() { call(0) }, func() { call(1) }}
}

// testDeletionPhantom: what a transaction saw in a range must still be there when it commits, although nothing was
// written in the range but a deletion.
func testDeletionPhantom(t *testing.T, s store.Store) {
	r := newRendezvous(s)
	for _, test := range []struct{ prefix, after, member string }{
		{"range/", "", "range/members/2"},
		{"range/members/", "", "range/members/2"},
		{"range/members/", "range/members/1", "range/members/2"},
		{"range/members", "", "range/members/2"}, // no whole part of a path
		{"ran", "", "range/members/2"},
		{"", "", "range/members/2"},
		{"", "", "range"}, // a key that has no parts
		{"range", "", "range"},
		{"range/", "", "range/members/4"}, // read to the end; the others only as far as to what is deleted
	} {
		put(t, s, "range/members/1", "", "range/members/3", "", test.member, "")
		update(t, s, func(tx store.Tx) error { return tx.Delete("grant") })
		scanned, removed := make(chan struct{}), make(chan struct{})
		var once sync.Once
		race(2, func(i int) {
			var err error
			if i == 0 { // grants, as long as it sees the member
				err = s.Update(context.Background(), func(tx store.Tx) error {
					found, err := scanFinds(tx, test.prefix, test.after, test.member)
					once.Do(func() {
						close(scanned)
						r.wait(removed)
					})
					if err != nil || !found {
						return err
					}
					return tx.Put("grant", nil)
				})
			} else { // removes the member, unless it sees the grant
				<-scanned
				err = s.Update(context.Background(), func(tx store.Tx) error {
					got, err := get(tx, "grant")
					if err != nil || got != "<absent>" {
						return err
					}
					return tx.Delete(test.member)
				})
				close(removed)
			}
			if err != nil {
				t.Errorf("Update: %v", err)
			}
		})
		view(t, s, func(r store.Reader) error {
			values, err := r.Get(test.member, "grant")
			if err == nil && (values[0] == nil) != (values[1] == nil) {
				t.Errorf("Scan(%q, %q): %q is there: %t, and was granted: %t; want both or neither",
					test.prefix, test.after, test.member, values[0] != nil, values[1] != nil)
			}
			return err
		})
	}
}

// scanFinds scans until it finds a key.
func scanFinds(r store.Reader, prefix, after, key string) (bool, error) {
	for e, err := range r.Scan(prefix, after) {
		if err != nil || e.Key == key {
			return err == nil, err
		}
	}
	return false, nil
}

// testDeletionSkew: two keys, each may be removed only if another one stays in the range.
func testDeletionSkew(t *testing.T, s store.Store) {
	r := newRendezvous(s)
	for round := range 10 {
		prefix := fmt.Sprintf("round/%d/", round)
		put(t, s, prefix+"0", "", prefix+"1", "")
		meet := r.pair()
		race(2, func(i int) {
			err := s.Update(context.Background(), func(tx store.Tx) error {
				keys, err := scanKeys(tx, prefix, "")
				meet[i]()
				if err != nil || len(keys) < 2 {
					return err
				}
				return tx.Delete(prefix + strconv.Itoa(i))
			})
			if err != nil {
				t.Errorf("Update: %v", err)
			}
		})
		view(t, s, func(r store.Reader) error {
			keys, err := scanKeys(r, prefix, "")
			if err == nil && len(keys) != 1 {
				t.Errorf("round %d: %q are left, want exactly one key", round, keys)
			}
			return err
		})
	}
}

// rival increments a counter in an Update beside one that has read it, which so comes into conflict.
type rival struct {
	t     *testing.T
	s     store.Store
	meet  *rendezvous
	done  sync.WaitGroup
	began int
}

// interfere reports whether the increment was acknowledged while the caller's own transaction runs.
func (r *rival) interfere() bool {
	if r.meet.hopeless.Load() {
		return false
	}
	done := make(chan struct{})
	r.began++
	r.done.Go(func() {
		defer close(done)
		if err := r.s.Update(context.Background(), increment); err != nil {
			r.t.Errorf("the Update that another one conflicts with: %v", err)
		}
	})
	return r.meet.wait(done)
}

func increment(tx store.Tx) error {
	n, err := number(tx, "counter")
	if err != nil {
		return err
	}
	return putNumber(tx, "counter", n+1)
}

// testConflictsEnd: one that loses again and again still gets its turn, and so does each of many that want the same.
func testConflictsEnd(t *testing.T, s store.Store) {
	other, runs := &rival{t: t, s: s, meet: newRendezvous(s)}, 0
	update(t, s, func(tx store.Tx) error {
		n, err := number(tx, "counter")
		if err != nil {
			return err
		}
		if runs++; runs <= 12 {
			other.interfere()
		}
		return putNumber(tx, "counter", n+1)
	})
	other.done.Wait()
	wantValue(t, s, "counter", strconv.Itoa(other.began+1))

	const writers, rounds, keys = 12, 8, 6
	race(writers, func(w int) {
		for i := range rounds {
			err := s.Update(context.Background(), func(tx store.Tx) error {
				all, err := scanKeys(tx, "hot/", "")
				if err != nil {
					return err
				}
				key := fmt.Sprintf("hot/%d", (w+i)%keys)
				n, err := number(tx, key)
				return errors.Join(err, putNumber(tx, key, n+1), putNumber(tx, "seen", len(all)))
			})
			if err != nil {
				t.Errorf("Update: %v", err)
			}
		}
	})
	view(t, s, func(r store.Reader) error {
		sum := 0
		for i := range keys {
			n, err := number(r, fmt.Sprintf("hot/%d", i))
			if err != nil {
				return err
			}
			sum += n
		}
		if sum != writers*rounds {
			t.Errorf("%d increments are left of %d", sum, writers*rounds)
		}
		return nil
	})
}

// testCancelledInConflict: an Update that would have to run again ends with its context.
func testCancelledInConflict(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	other, runs, conflict := &rival{t: t, s: s, meet: newRendezvous(s)}, 0, false
	err := s.Update(ctx, func(tx store.Tx) error {
		if ctx.Err() != nil {
			t.Error("Update ran its function again under a cancelled context")
			return ctx.Err()
		}
		n, err := number(tx, "counter")
		if err != nil {
			return err
		}
		conflict = other.interfere()
		if runs++; runs == 3 || !conflict {
			cancel()
		}
		return errors.Join(putNumber(tx, "counter", n+1), tx.Put("mine", nil))
	})
	other.done.Wait()
	if !errors.Is(err, context.Canceled) && (conflict || err != nil) {
		t.Errorf("an Update cancelled in a conflict returns %v, want context.Canceled", err)
	}
	view(t, s, func(r store.Reader) error {
		n, errNumber := number(r, "counter")
		mine, errMine := get(r, "mine")
		if written := mine != "<absent>"; written && conflict || err == nil && !written {
			t.Errorf("Update returned %v, in conflict: %t, and its write is there: %t", err, conflict, written)
		} else if want := other.began; n != want && !(written && n == want+1) {
			t.Errorf("%d increments are left of %d, and of one more: %t", n, want, written)
		}
		return errors.Join(errNumber, errMine)
	})
}
