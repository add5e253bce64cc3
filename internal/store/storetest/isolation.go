package storetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quorate/quorate/internal/store"
)

// number reads a key as a decimal number, 0 when absent.
func number(r store.Reader, key string) (int, error) {
	values, err := r.Get(key)
	if err != nil || values[0] == nil {
		return 0, err
	}
	return strconv.Atoi(string(values[0]))
}

func putNumber(tx store.Tx, key string, n int) error {
	return tx.Put(key, strconv.AppendInt(nil, int64(n), 10))
}

// race runs n functions at once and waits for all.
func race(n int, fn func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			fn(i)
		})
	}
	close(start)
	wg.Wait()
}

func testSnapshot(t *testing.T, s store.Store) {
	put(t, s, "k", "before", "p/1", "x")
	view(t, s, func(r store.Reader) error {
		if _, err := r.Get("other"); err != nil { // from the first read on, at the latest, the snapshot stays
			return err
		}
		// A writer isn't held up by this reader, and doesn't change what it sees.
		written := make(chan error)
		go func() {
			written <- s.Update(context.Background(), func(tx store.Tx) error {
				return errors.Join(tx.Put("k", []byte("after")), tx.Put("p/2", nil), tx.Delete("p/1"))
			})
		}()
		if err := <-written; err != nil {
			return err
		}
		wantValue(t, s, "k", "after")
		got, err := get(r, "k")
		if got != "before" {
			t.Errorf("a running View sees a later write: %q", got)
		}
		keys, _ := scanKeys(r, "p/", "")
		if len(keys) != 1 || keys[0] != "p/1" {
			t.Errorf("a scan in a running View sees later writes: %q", keys)
		}
		return err
	})
}

func testLostUpdate(t *testing.T, s store.Store) {
	const writers, rounds = 8, 20
	race(writers, func(int) {
		for range rounds {
			err := s.Update(context.Background(), func(tx store.Tx) error {
				n, err := number(tx, "counter")
				if err != nil {
					return err
				}
				return putNumber(tx, "counter", n+1)
			})
			if err != nil {
				t.Errorf("Update: %v", err)
			}
		}
	})
	wantValue(t, s, "counter", strconv.Itoa(writers*rounds))
}

// testWriteSkew: two doctors on call, each may leave only if the other stays.
func testWriteSkew(t *testing.T, s store.Store) {
	for round := range 20 {
		key := func(i int) string { return fmt.Sprintf("round/%d/%d", round, i) }
		put(t, s, key(0), "on call", key(1), "on call")
		race(2, func(i int) {
			err := s.Update(context.Background(), func(tx store.Tx) error {
				other, err := get(tx, key(1-i))
				if err != nil || other != "on call" {
					return err
				}
				return tx.Put(key(i), []byte("gone"))
			})
			if err != nil {
				t.Errorf("Update: %v", err)
			}
		})
		view(t, s, func(r store.Reader) error {
			a, _ := get(r, key(0))
			b, err := get(r, key(1))
			if (a == "gone") == (b == "gone") {
				t.Errorf("round %d: %q and %q, want exactly one gone", round, a, b)
			}
			return err
		})
	}
}

// testPhantom: a key may be inserted only while the range is empty.
func testPhantom(t *testing.T, s store.Store) {
	for round := range 20 {
		prefix := fmt.Sprintf("round/%d/", round)
		race(3, func(i int) {
			err := s.Update(context.Background(), func(tx store.Tx) error {
				keys, err := scanKeys(tx, prefix, "")
				if err != nil || len(keys) > 0 {
					return err
				}
				return tx.Put(prefix+strconv.Itoa(i), nil)
			})
			if err != nil {
				t.Errorf("Update: %v", err)
			}
		})
		view(t, s, func(r store.Reader) error {
			keys, err := scanKeys(r, prefix, "")
			if len(keys) != 1 {
				t.Errorf("round %d: %q, want exactly one key", round, keys)
			}
			return err
		})
	}
}

func testWholeTransactions(t *testing.T, s store.Store) {
	const total, moves = 100, 25
	put(t, s, "account/0", strconv.Itoa(total), "account/1", "0", "account/2", "0")
	var writing sync.WaitGroup
	var done atomic.Bool
	for w := range 3 {
		writing.Go(func() {
			for i := range moves {
				from, to := fmt.Sprintf("account/%d", (w+i)%3), fmt.Sprintf("account/%d", (w+2*i+1)%3)
				err := s.Update(context.Background(), func(tx store.Tx) error { return move(tx, from, to) })
				if err != nil {
					t.Errorf("Update: %v", err)
				}
			}
		})
	}
	var reading sync.WaitGroup
	for range 2 {
		reading.Go(func() {
			for !done.Load() {
				view(t, s, func(r store.Reader) error {
					sum := 0
					for e, err := range r.Scan("account/", "") {
						if err != nil {
							return err
						}
						n, _ := strconv.Atoi(string(e.Value))
						sum += n
					}
					if sum != total {
						t.Errorf("a View sees %d in all accounts, want %d", sum, total)
					}
					return nil
				})
			}
		})
	}
	writing.Wait()
	done.Store(true)
	reading.Wait()
}

func move(tx store.Tx, from, to string) error {
	if from == to {
		return nil
	}
	a, err := number(tx, from)
	if err != nil || a == 0 {
		return err
	}
	b, err := number(tx, to)
	if err != nil {
		return err
	}
	return errors.Join(putNumber(tx, from, a-1), putNumber(tx, to, b+1))
}

func testAcknowledged(t *testing.T, s store.Store) {
	race(4, func(w int) {
		key := fmt.Sprintf("writer/%d", w)
		for i := range 20 {
			if err := s.Update(context.Background(), func(tx store.Tx) error { return putNumber(tx, key, i) }); err != nil {
				t.Errorf("Update: %v", err)
			}
			wantValue(t, s, key, strconv.Itoa(i))
		}
	})
}

// testFailureDoesNotSpread: writers that fail or panic run beside writers that succeed, perhaps in one commit.
func testFailureDoesNotSpread(t *testing.T, s store.Store) {
	const writers, rounds = 9, 10
	race(writers, func(w int) {
		for range rounds {
			func() {
				defer func() {
					if reason := recover(); (w%3 == 2) != (reason == "on purpose") {
						t.Errorf("writer %d: panic %v", w, reason)
					}
				}()
				err := s.Update(context.Background(), func(tx store.Tx) error {
					n, err := number(tx, "sum")
					if err == nil {
						err = putNumber(tx, "sum", n+1)
					}
					switch w % 3 {
					case 1:
						return errOwn
					case 2:
						panic("on purpose")
					}
					return err
				})
				if w%3 == 0 && err != nil || w%3 == 1 && err != errOwn {
					t.Errorf("writer %d: Update returns %v", w, err)
				}
			}()
		}
	})
	wantValue(t, s, "sum", strconv.Itoa(writers/3*rounds))
}
