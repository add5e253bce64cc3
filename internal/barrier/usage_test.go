package barrier

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/store/storetest"
)

func termOf(record []byte) uint32 { return binary.BigEndian.Uint32(record[1:]) }

func status(t *testing.T, b *Barrier) Status {
	t.Helper()
	s, err := b.Status(ctx)
	if err != nil {
		t.Fatalf("Status: %v", err)
	}
	return s
}

func TestRotateKeepsOldRecords(t *testing.T) {
	b, st := pair(t)
	put(t, b, "one", "1")
	later := born.Add(time.Hour)
	if s := status(t, b); s.Term != 1 || !s.Installed.Equal(born) {
		t.Errorf("the first term is %+v", s)
	}
	if err := b.Rotate(ctx, later); err != nil {
		t.Fatal(err)
	}
	put(t, b, "two", "2")
	if one, two := termOf(raw(t, st, "one")), termOf(raw(t, st, "two")); one != 1 || two != 2 {
		t.Errorf("records are under terms %d and %d, want 1 and 2", one, two)
	}
	if s := status(t, b); s.Term != 2 || !s.Installed.Equal(later) || s.Encryptions == 0 {
		t.Errorf("the second term is %+v", s)
	}
	fresh := openWith(t, st, standard)
	wantValue(t, fresh, "one", "1")
	wantValue(t, fresh, "two", "2")
}

// What one node acknowledged binds all: after a rotation no node writes under the old term.
func TestRotationReachesOtherNodes(t *testing.T) {
	a, st := pair(t)
	b := openWith(t, st, standard)
	put(t, a, "a", "1")
	put(t, b, "b", "1")
	for round := range uint32(3) {
		if err := a.Rotate(ctx, born); err != nil {
			t.Fatal(err)
		}
		key := fmt.Sprint("k", round)
		switch round { // the first operation of the transaction is of each kind once
		case 0:
			put(t, b, key, "blind write")
		case 1:
			b.Update(ctx, func(tx store.Tx) error {
				if values, err := tx.Get("a", key, "b"); err != nil || string(values[0]) != "1" || values[1] != nil || string(values[2]) != "1" {
					t.Errorf("Get gives %q, %v", values, err)
				}
				return tx.Put(key, []byte("after a read"))
			})
		case 2:
			b.Update(ctx, func(tx store.Tx) error {
				for _, err := range tx.Scan("a", "") {
					if err != nil {
						t.Error(err)
					}
				}
				return tx.Put(key, []byte("after a scan"))
			})
		}
		if got := termOf(raw(t, st, key)); got != round+2 {
			t.Errorf("after rotation to term %d another node writes under %d", round+2, got)
		}
		put(t, a, "a", "1")
		wantValue(t, b, "a", "1")
		wantValue(t, a, "b", "1")
	}
}

// A node reads a record under a term that it has never heard of, in a View, without having written anything.
func TestReaderLearnsNewTerm(t *testing.T) {
	a, st := pair(t)
	b := openWith(t, st, standard)
	if err := a.Rotate(ctx, born); err != nil {
		t.Fatal(err)
	}
	put(t, a, "k", "new term")
	if got := len(b.ring.Load().terms); got != 1 {
		t.Fatalf("the other node knows %d terms already", got)
	}
	wantValue(t, b, "k", "new term")
	if got := len(b.ring.Load().terms); got != 2 {
		t.Errorf("the other node remembers %d terms", got)
	}
	c := openWith(t, st, standard)
	a.Rotate(ctx, born)
	put(t, a, "s/1", "by scan")
	err := c.View(ctx, func(r store.Reader) error {
		for e, err := range r.Scan("s/", "") {
			if err != nil || string(e.Value) != "by scan" {
				t.Errorf("Scan gives %q, %v", e.Value, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestRacingRotations(t *testing.T) {
	a, st := pair(t)
	b := openWith(t, st, standard)
	var wg sync.WaitGroup
	for _, node := range []*Barrier{a, b} {
		for range 5 {
			wg.Go(func() {
				if err := node.Rotate(ctx, born); err != nil {
					t.Errorf("Rotate: %v", err)
				}
			})
		}
	}
	wg.Wait()
	if s := status(t, openWith(t, st, standard)); s.Term != 11 {
		t.Errorf("ten rotations led to term %d", s.Term)
	}
}

// counting counts what really reached the store, by term.
type counting struct {
	store.Store
	mu   sync.Mutex
	seen map[uint32]uint64
}

type countingTx struct {
	store.Tx
	terms []uint32
}

func (c *countingTx) Put(key string, value []byte) error {
	if !passesThrough(key) {
		c.terms = append(c.terms, termOf(value))
	}
	return c.Tx.Put(key, value)
}

func (c *counting) Update(ctx context.Context, fn func(store.Tx) error) error {
	var tx *countingTx
	err := c.Store.Update(ctx, func(inner store.Tx) error {
		tx = &countingTx{Tx: inner}
		return fn(tx)
	})
	if err == nil || errors.Is(err, store.ErrUnknownOutcome) {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, term := range tx.terms {
			c.seen[term]++
		}
	}
	return err
}

// Whatever crashes and whoever shares the store, no term encrypts more than was reserved, and no reservation goes
// over the limit.
func TestUsageIsNeverTooSmall(t *testing.T) {
	faulty := storetest.NewFaulty(inmem.New())
	st := &counting{Store: faulty, seen: map[uint32]uint64{}}
	create(t, st)
	l := limits{block: 7, soft: 300} // the first term is worn out by its first block
	for crash := range 60 {
		nodes := []*Barrier{openWith(t, st, l), openWith(t, st, l)}
		write := func(i int) {
			nodes[i%2].Update(ctx, func(tx store.Tx) error {
				for n := range 1 + crash%4 {
					if err := tx.Put(fmt.Sprintf("k/%d", n), []byte("v")); err != nil {
						return err
					}
				}
				return nil
			})
		}
		faulty.FailCommit(1+crash%7, storetest.Mode(crash%2))
		for i := range 6 {
			write(i)
		}
		faulty.Recover() // as after a failure that the process outlived; then it ends
		for i := range crash % 30 {
			write(i)
		}
		for _, b := range nodes {
			b.Close()
		}
	}
	b := openWith(t, st, l)
	last := status(t, b).Term
	if last < 3 {
		t.Fatalf("the test never reached a limit: term %d", last)
	}
	for number := range last {
		number++
		b.View(ctx, func(r store.Reader) error {
			used, known, err := r.(*reader).usage(number)
			if err != nil || !known {
				t.Errorf("term %d: no count, %v", number, err)
			}
			if seen := st.seen[number]; seen > used || number > 1 && used > l.soft {
				t.Errorf("term %d: %d encryptions, %d reserved, limit %d", number, seen, used, l.soft)
			}
			return nil
		})
	}
}

// What a failed commit may have reserved is not used: nobody knows whether it is counted.
func TestFailedReservationGrantsNothing(t *testing.T) {
	for _, mode := range []storetest.Mode{storetest.Lost, storetest.Kept} {
		st := storetest.NewFaulty(inmem.New())
		create(t, st)
		b := openWith(t, st, standard)
		st.FailCommit(1, mode)
		err := b.Update(ctx, func(tx store.Tx) error { return tx.Put("k", nil) })
		if !errors.Is(err, store.ErrUnknownOutcome) {
			t.Errorf("%v: the failure came out as %v", mode, err)
		}
		if left := b.ring.Load().active().left.Load(); left > 0 {
			t.Errorf("%v: %d encryptions are left of a reservation that failed", mode, left)
		}
		st.Recover()
		put(t, b, "k", "v")
	}
}

func TestTermWearsOut(t *testing.T) {
	st := inmem.New()
	create(t, st)
	b := openWith(t, st, limits{block: 10, soft: createBlock + 25})
	for i := range 100 {
		put(t, b, "k", fmt.Sprint(i))
		wantValue(t, b, "k", fmt.Sprint(i))
	}
	if s := status(t, b); s.Term != 2 || time.Since(s.Installed) > time.Hour {
		t.Errorf("after its limit the term is %+v", s)
	}
	if got := termOf(raw(t, st, "k")); got != 2 {
		t.Errorf("the last record is under term %d", got)
	}
}

func TestOneTransactionOverTheLimit(t *testing.T) {
	st := inmem.New()
	create(t, st)
	b := openWith(t, st, limits{block: 4, soft: 20})
	write := func(n int) error {
		return b.Update(ctx, func(tx store.Tx) error {
			for i := range n {
				if err := tx.Put(fmt.Sprintf("k/%d", i), nil); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := write(21); !errors.Is(err, errHuge) {
		t.Errorf("21 records where a key may encrypt 20: %v", err)
	}
	if v, _ := get(b, "k/0"); v != nil {
		t.Error("a refused transaction left something")
	}
	if err := write(9); err != nil {
		t.Errorf("9 records, more than two blocks: %v", err)
	}
}

// A count that is gone or unreadable can't be continued: the term is followed by a new one.
func TestLostCount(t *testing.T) {
	for name, lose := range map[string]func(store.Tx) error{
		"deleted": func(tx store.Tx) error { return tx.Delete(usageKey(1)) },
		"damaged": func(tx store.Tx) error { return tx.Put(usageKey(1), []byte("junk")) },
	} {
		b, st := pair(t)
		put(t, b, "k", "v")
		b.Close()
		if err := st.Update(ctx, lose); err != nil {
			t.Fatal(err)
		}
		b = openWith(t, st, standard)
		put(t, b, "k", "w")
		if s := status(t, b); s.Term != 2 {
			t.Errorf("%s: writing goes on under term %d", name, s.Term)
		}
		wantValue(t, b, "k", "w")
	}
}

func TestEncryptionsCount(t *testing.T) {
	b, st := pair(t)
	before := status(t, b).Encryptions
	for range 50 {
		put(t, b, "k", "v")
	}
	b.Update(ctx, func(tx store.Tx) error {
		tx.Put("k", nil)
		return errors.New("nothing is written")
	})
	after := status(t, b).Encryptions
	if n := after - before; n != 51 { // and one for the count itself
		t.Errorf("50 writes count as %d", n)
	}
	b.Close()
	if got := status(t, openWith(t, st, standard)).Encryptions; got < after {
		t.Errorf("after a restart %d encryptions became %d", after, got)
	}
}

// The function of an Update runs again after a reservation; its first run must leave nothing.
func TestSecondRunStartsAfresh(t *testing.T) {
	st := inmem.New()
	create(t, st)
	b := openWith(t, st, limits{block: 2, soft: softLimit})
	runs := 0
	err := b.Update(ctx, func(tx store.Tx) error {
		runs++
		tx.Put("plain/runs", []byte(fmt.Sprint(runs))) // in clear, so it needs no reservation
		if runs == 1 {
			tx.Put("plain/first", nil)
		}
		if err := tx.Put("k", []byte(fmt.Sprint(runs))); err != nil {
			t.Errorf("run %d sees a store that doesn't work: %v", runs, err)
		}
		values, err := tx.Get("k")
		if err != nil || string(values[0]) != fmt.Sprint(runs) {
			t.Errorf("run %d reads its own write as %q, %v", runs, values, err)
		}
		return nil
	})
	if err != nil || runs < 2 {
		t.Fatalf("%d runs, %v", runs, err)
	}
	wantValue(t, b, "k", fmt.Sprint(runs))
	wantValue(t, b, "plain/runs", fmt.Sprint(runs))
	if v, _ := get(st, "plain/first"); v != nil {
		t.Error("the first run left a record")
	}
}

// The commit that rotates or reserves fails in both ways, at each place where it can.
func TestFaultsWhileRotating(t *testing.T) {
	for _, mode := range []storetest.Mode{storetest.Lost, storetest.Kept} {
		for n := 1; n <= 4; n++ {
			st := storetest.NewFaulty(inmem.New())
			create(t, st)
			l := limits{block: 5, soft: createBlock + 9}
			b, other := openWith(t, st, l), openWith(t, st, l)
			put(t, b, "k", "acknowledged")
			st.FailCommit(n, mode)
			acknowledged := "acknowledged"
			var failed error
			for i := 0; failed == nil && i < 50; i++ {
				value := fmt.Sprint("value ", i)
				if i%3 == 1 {
					failed = b.Rotate(ctx, born)
				} else if failed = b.Update(ctx, func(tx store.Tx) error { return tx.Put("k", []byte(value)) }); failed == nil {
					acknowledged = value
				}
			}
			if !errors.Is(failed, store.ErrUnknownOutcome) {
				t.Fatalf("commit %d %v: the failure came out as %v", n, mode, failed)
			}
			st.Recover()
			for name, node := range map[string]*Barrier{"same": b, "other": other, "new": openWith(t, st, l)} {
				got, err := get(node, "k")
				if err != nil || string(got) != acknowledged && !strings.HasPrefix(string(got), "value") {
					t.Errorf("commit %d %v: the %s node reads %q, %v", n, mode, name, got, err)
				}
				put(t, node, "k2", name)
				wantValue(t, b, "k2", name)
			}
		}
	}
}

func TestReserveHonoursContext(t *testing.T) {
	b, _ := pair(t)
	b.turn <- struct{}{} // somebody is reserving
	waiting, cancel := context.WithCancel(ctx)
	err := b.Update(waiting, func(tx store.Tx) error {
		cancel()
		return tx.Put("k", nil)
	})
	if !errors.Is(err, context.Canceled) || errors.Is(err, store.ErrUnknownOutcome) {
		t.Errorf("an Update cancelled while another one reserves: %v", err)
	}
	<-b.turn
	put(t, b, "k", "v")
}

func TestBumpStamp(t *testing.T) {
	b, st := pair(t)
	seen := map[string]bool{string(raw(t, st, StampKey)): true}
	for range 5 {
		if err := b.Update(ctx, BumpStamp); err != nil {
			t.Fatal(err)
		}
		stamp := raw(t, st, StampKey)
		if len(stamp) != stampSize || seen[string(stamp)] {
			t.Errorf("stamp %x is not new", stamp)
		}
		seen[string(stamp)] = true
		put(t, b, "k", "v") // the keyring is read again and found unchanged
	}
	if s := status(t, b); s.Term != 1 {
		t.Errorf("bumping the stamp led to term %d", s.Term)
	}
	before := string(raw(t, st, StampKey))
	b.Rotate(ctx, born)
	if string(raw(t, st, StampKey)) == before {
		t.Error("a rotation does not change the stamp")
	}
}
