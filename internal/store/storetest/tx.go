package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/store"
)

func testOwnWrites(t *testing.T, s store.Store) {
	put(t, s, "k/1", "1", "k/2", "2", "k/4", "4")
	update(t, s, func(tx store.Tx) error {
		for _, err := range []error{
			tx.Put("k/0", []byte("first")),
			tx.Put("k/2", []byte("new")),
			tx.Put("k/3", []byte("between")),
			tx.Delete("k/1"),
			tx.Put("k/5", []byte("gone again")),
			tx.Delete("k/5"),
			tx.Delete("k/4"),
			tx.Put("k/4", []byte("back")),
			tx.Put("k/6", []byte("last")),
			tx.Put("outside", nil),
		} {
			if err != nil {
				return err
			}
		}
		values, err := tx.Get("k/0", "k/1", "k/2", "k/5", "k/4")
		if err != nil {
			return err
		}
		if got := fmt.Sprintf("%s", values); got != "[first  new  back]" || values[1] != nil || values[3] != nil {
			t.Errorf("Get inside the transaction gives %s", got)
		}
		var got []string
		for e, err := range tx.Scan("k/", "") {
			if err != nil {
				return err
			}
			got = append(got, e.Key+"="+string(e.Value))
		}
		if want := []string{"k/0=first", "k/2=new", "k/3=between", "k/4=back", "k/6=last"}; !slices.Equal(got, want) {
			t.Errorf("Scan inside the transaction gives %q, want %q", got, want)
		}
		if keys, _ := scanKeys(tx, "k/", "k/3"); !slices.Equal(keys, []string{"k/4", "k/6"}) {
			t.Errorf("Scan after k/3 inside the transaction gives %q", keys)
		}
		return nil
	})
	wantValue(t, s, "k/1", "<absent>")
	wantValue(t, s, "k/4", "back")
	wantValue(t, s, "k/5", "<absent>")
}

func testErrorWritesNothing(t *testing.T, s store.Store) {
	put(t, s, "keep", "old", "delete", "old")
	err := s.Update(context.Background(), func(tx store.Tx) error {
		return errors.Join(tx.Put("keep", []byte("new")), tx.Put("more", []byte("new")), tx.Delete("delete"), errOwn)
	})
	if !errors.Is(err, errOwn) {
		t.Errorf("Update returns %v, want the function's own error", err)
	}
	if errors.Is(err, store.ErrUnknownOutcome) {
		t.Error("a function's own error was marked as an unknown outcome")
	}
	wantValue(t, s, "keep", "old")
	wantValue(t, s, "delete", "old")
	wantValue(t, s, "more", "<absent>")
	if err := s.View(context.Background(), func(store.Reader) error { return errOwn }); err != errOwn {
		t.Errorf("View returns %v, want the function's own error as it is", err)
	}
	if err := s.Update(context.Background(), func(store.Tx) error { return errOwn }); err != errOwn {
		t.Errorf("Update returns %v, want the function's own error as it is", err)
	}
}

func testPanic(t *testing.T, s store.Store) {
	put(t, s, "k", "old")
	panics := func(call func()) (reason any) {
		defer func() { reason = recover() }()
		call()
		return nil
	}
	reason := panics(func() {
		s.Update(context.Background(), func(tx store.Tx) error {
			tx.Put("k", []byte("new"))
			panic("out of fn")
		})
	})
	if reason != "out of fn" {
		t.Errorf("a panic in Update reached the caller as %v", reason)
	}
	reason = panics(func() {
		s.View(context.Background(), func(store.Reader) error { panic("out of fn") })
	})
	if reason != "out of fn" {
		t.Errorf("a panic in View reached the caller as %v", reason)
	}
	wantValue(t, s, "k", "old")
	put(t, s, "k", "after the panics")
	wantValue(t, s, "k", "after the panics")
}

// testGoexit is what a failed assertion inside a transaction does.
func testGoexit(t *testing.T, s store.Store) {
	for _, call := range []func(){
		func() {
			s.Update(context.Background(), func(tx store.Tx) error {
				tx.Put("k", []byte("never"))
				runtime.Goexit()
				return nil
			})
		},
		func() {
			s.View(context.Background(), func(store.Reader) error { runtime.Goexit(); return nil })
		},
	} {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			call()
			t.Error("the goroutine went on after Goexit")
		}()
		<-ended
	}
	wantValue(t, s, "k", "<absent>")
	put(t, s, "k", "still usable")
	wantValue(t, s, "k", "still usable")
}

func testNoWrites(t *testing.T, s store.Store) {
	put(t, s, "k", "v")
	update(t, s, func(tx store.Tx) error {
		got, err := get(tx, "k")
		if got != "v" {
			t.Errorf("an Update that only reads gets %q", got)
		}
		return err
	})
	update(t, s, func(store.Tx) error { return nil })
	update(t, s, func(tx store.Tx) error { return tx.Delete("absent") })
	wantValue(t, s, "k", "v")
}

// testModel runs random transactions against a plain map.
func testModel(t *testing.T, s store.Store) {
	rng := rand.New(rand.NewPCG(2, 31))
	model := map[string]string{}
	for round := range 120 {
		next := maps.Clone(model)
		fail := rng.IntN(4) == 0
		seed := rng.Uint64()
		err := s.Update(context.Background(), func(tx store.Tx) error {
			steps := rand.New(rand.NewPCG(seed, 0)) // fn may run more than once: the same each time
			next = maps.Clone(model)
			for range steps.IntN(20) {
				if err := randomStep(t, tx, next, steps); err != nil {
					return err
				}
			}
			if fail {
				return errOwn
			}
			return nil
		})
		switch {
		case fail && err != errOwn, !fail && err != nil:
			t.Fatalf("round %d: Update returns %v", round, err)
		case !fail:
			model = next
		}
		view(t, s, func(r store.Reader) error { return compareScan(t, r, model, randomKey(rng), randomKey(rng)) })
	}
	view(t, s, func(r store.Reader) error { return compareScan(t, r, model, "", "") })
}

func randomStep(t *testing.T, tx store.Tx, model map[string]string, rng *rand.Rand) error {
	key := randomKey(rng)
	if key == "" {
		key = "x"
	}
	switch rng.IntN(5) {
	case 0, 1:
		value := strings.Repeat("v", rng.IntN(3)*rng.IntN(1500))
		model[key] = value
		return tx.Put(key, []byte(value))
	case 2:
		delete(model, key)
		return tx.Delete(key)
	case 3:
		got, err := get(tx, key)
		want, ok := model[key]
		if !ok {
			want = "<absent>"
		}
		if got != want {
			t.Errorf("Get(%q) in a transaction gives %d bytes, want %d", key, len(got), len(want))
		}
		return err
	}
	return compareScan(t, tx, model, key[:rng.IntN(len(key)+1)], randomKey(rng))
}

// randomKey is short and from few letters, so that keys meet each other and prefixes mean something.
func randomKey(rng *rand.Rand) string {
	key := make([]byte, rng.IntN(4))
	for i := range key {
		key[i] = "ab/z"[rng.IntN(4)]
	}
	return string(key)
}

func compareScan(t *testing.T, r store.Reader, model map[string]string, prefix, after string) error {
	t.Helper()
	var want []string
	for key := range model {
		if strings.HasPrefix(key, prefix) && key > after {
			want = append(want, key)
		}
	}
	slices.Sort(want)
	var got []string
	for e, err := range r.Scan(prefix, after) {
		if err != nil {
			return err
		}
		if model[e.Key] != string(e.Value) {
			t.Errorf("entry %q has %d bytes, want %d", e.Key, len(e.Value), len(model[e.Key]))
		}
		got = append(got, e.Key)
	}
	if !slices.Equal(got, want) {
		t.Errorf("Scan(%q, %q) gives %q, want %q", prefix, after, got, want)
	}
	return nil
}
