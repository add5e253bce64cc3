package storetest

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quorate/quorate/internal/store"
)

// testLarge: a transaction that no engine takes in one request is still seen as a whole or not at all.
func testLarge(t *testing.T, s store.Store) {
	const keys, each = 3000, 4 << 20 / 3000
	key := func(i int) string { return fmt.Sprintf("large/%04d", i) }
	fill := bytes.Repeat([]byte("x"), each)
	// Every second time it leaves out the keys of odd numbers.
	write := func(tx store.Tx) error {
		n, err := number(tx, "generation")
		if err != nil {
			return err
		}
		value := append(strconv.AppendInt(nil, int64(n+1), 10), fill...)
		for i := range keys {
			if n%2 == 1 && i%2 == 1 {
				err = tx.Delete(key(i))
			} else {
				err = tx.Put(key(i), value)
			}
			if err != nil {
				return err
			}
		}
		return putNumber(tx, "generation", n+1)
	}
	check := func(r store.Reader) error {
		n, err := number(r, "generation")
		if err != nil {
			return err
		}
		seen := 0
		for e, err := range r.Scan("large/", "") {
			if err != nil {
				return err
			}
			if got := strings.TrimRight(string(e.Value), "x"); got != strconv.Itoa(n) {
				return fmt.Errorf("%s is of transaction %s, and the last one is %d", e.Key, got, n)
			}
			seen++
		}
		if want := []int{0, keys, keys / 2}[min(n, 2-n%2)]; seen != want {
			return fmt.Errorf("%d keys after transaction %d, want %d", seen, n, want)
		}
		return nil
	}
	var done atomic.Bool
	var reading sync.WaitGroup
	reading.Go(func() {
		for !done.Load() {
			if err := s.View(context.Background(), check); err != nil {
				t.Errorf("a View beside large transactions: %v", err)
			}
		}
	})
	update(t, s, write)
	race(2, func(int) {
		if err := s.Update(context.Background(), write); err != nil {
			t.Errorf("Update: %v", err)
		}
	})
	done.Store(true)
	reading.Wait()
	view(t, s, check)
	wantValue(t, s, "generation", "3")
}

// testScanUnderWriters: things that move about between two ranges. Every scan sees each of them once, whatever was moved
// while it went on, and however it is cut into pages.
func testScanUnderWriters(t *testing.T, s store.Store) {
	const things, batch, size = 600, 100, 8 << 10 // more bytes than one page of any store
	place := func(where string, i int) string { return fmt.Sprintf("%s/%04d", where, i) }
	fill := bytes.Repeat([]byte("x"), size)
	for from := 0; from < things; from += batch {
		update(t, s, func(tx store.Tx) error {
			for i := from; i < from+batch; i++ {
				if err := tx.Put(place("things/a", i), fill); err != nil {
					return err
				}
			}
			return nil
		})
	}
	// shift moves every 50th thing to where it isn't.
	shift := func() {
		moved := make(chan error)
		go func() {
			moved <- s.Update(context.Background(), func(tx store.Tx) error {
				for i := 0; i < things; i += 50 {
					from, to := place("things/a", i), place("things/z", i)
					value, err := get(tx, from)
					if err == nil && value == "<absent>" {
						from, to = to, from
						value, err = get(tx, from)
					}
					if err != nil {
						return err
					}
					if err := tx.Delete(from); err != nil {
						return err
					}
					if err := tx.Put(to, []byte(value)); err != nil {
						return err
					}
				}
				return nil
			})
		}()
		if err := <-moved; err != nil {
			t.Errorf("Update: %v", err)
		}
	}
	for _, page := range []int{2 * things, 70} {
		view(t, s, func(r store.Reader) error { return scanThings(t, r, page, things, shift) })
	}
}

// scanThings scans in pages of one transaction, and lets the things be shifted four times on the way.
func scanThings(t *testing.T, r store.Reader, page, things int, shift func()) error {
	seen, last := map[string]bool{}, ""
	for more := true; more; {
		more = false
		read := 0
		for e, err := range r.Scan("things/", last) {
			if err != nil {
				return err
			}
			thing := e.Key[len("things/a/"):]
			if e.Key <= last || seen[thing] {
				t.Errorf("a scan gives %q after %q, and has given that thing before: %t", e.Key, last, seen[thing])
			}
			seen[thing], last = true, e.Key
			if len(seen)%(things/4) == things/8 {
				shift()
			}
			if read++; read == page {
				more = true
				break
			}
		}
	}
	if len(seen) != things {
		t.Errorf("a scan in pages of %d gives %d things of %d", page, len(seen), things)
	}
	return nil
}
