package store_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
)

func keysOf(t *testing.T, r store.Reader, prefix, after string) (keys []string) {
	t.Helper()
	for e, err := range r.Scan(prefix, after) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, e.Key)
	}
	return keys
}

func TestWithinSeesOnlyItsPart(t *testing.T) {
	st := inmem.New()
	ctx := context.Background()
	part := store.WithinStore(st, "a/")
	err := st.Update(ctx, func(tx store.Tx) error {
		for _, key := range []string{"a", "a/1", "a/2/x", "a/3", "a0", "b/1"} {
			if err := tx.Put(key, []byte(key)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = part.Update(ctx, func(tx store.Tx) error {
		if got := keysOf(t, tx, "", ""); !slices.Equal(got, []string{"1", "2/x", "3"}) {
			t.Errorf("all: %q", got)
		}
		if got := keysOf(t, tx, "", "1"); !slices.Equal(got, []string{"2/x", "3"}) {
			t.Errorf("after 1: %q", got)
		}
		values, err := tx.Get("1", "b/1", "")
		if err != nil || string(values[0]) != "a/1" || values[1] != nil {
			t.Errorf("values %q, %v", values, err)
		}
		if err := tx.Delete("3"); err != nil {
			return err
		}
		return tx.Put("4", []byte("new"))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := part.Close(); err != nil {
		t.Fatal(err)
	}
	err = st.View(ctx, func(r store.Reader) error {
		if got := keysOf(t, r, "", ""); !slices.Equal(got, []string{"a", "a/1", "a/2/x", "a/4", "a0", "b/1"}) {
			t.Errorf("below: %q", got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = part.View(ctx, func(r store.Reader) error {
		tx := store.ReadOnly(r)
		return errors.Join(tx.Put("5", nil), tx.Delete("1"))
	})
	if !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("writes in a View: %v", err)
	}
}
