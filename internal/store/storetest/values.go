package storetest

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/store"
)

func testGet(t *testing.T, s store.Store) {
	put(t, s, "a", "1", "b", "2", "c", "3")
	view(t, s, func(r store.Reader) error {
		values, err := r.Get("c", "nothing", "a", "c")
		if err != nil {
			return err
		}
		if len(values) != 4 || string(values[0]) != "3" || values[1] != nil || string(values[2]) != "1" || string(values[3]) != "3" {
			t.Errorf("Get gives %q, want [3 nil 1 3] in the order asked", values)
		}
		values, err = r.Get()
		if len(values) != 0 {
			t.Errorf("Get of no keys gives %d values", len(values))
		}
		return err
	})
}

func testPutCopies(t *testing.T, s store.Store) {
	value := []byte("as written")
	update(t, s, func(tx store.Tx) error {
		copy(value, "as written")
		err := tx.Put("k", value)
		copy(value, "changed at")
		if got, _ := get(tx, "k"); got != "as written" {
			t.Errorf("after the caller changed its slice, the transaction reads %q", got)
		}
		return err
	})
	copy(value, "once more!")
	wantValue(t, s, "k", "as written")
}

func testEmptyValue(t *testing.T, s store.Store) {
	check := func(r store.Reader) error {
		values, err := r.Get("empty", "nil", "absent")
		if err != nil {
			return err
		}
		if values[0] == nil || values[1] == nil || len(values[0])+len(values[1]) != 0 {
			t.Errorf("empty values read as %#v and %#v, want empty and not nil", values[0], values[1])
		}
		if values[2] != nil {
			t.Errorf("an absent key reads as %#v, want nil", values[2])
		}
		keys, err := scanKeys(r, "", "")
		if len(keys) != 2 {
			t.Errorf("Scan gives %q, want both keys with empty values", keys)
		}
		return err
	}
	update(t, s, func(tx store.Tx) error {
		if err := tx.Put("empty", []byte{}); err != nil {
			return err
		}
		if err := tx.Put("nil", nil); err != nil {
			return err
		}
		return check(tx)
	})
	view(t, s, check)
}

// bigValue leaves some room under the limit: a layer that adds bytes of its own to a value (encryption does) has to fit
// into the store under it.
const bigValue = store.MaxValue - 256

func testBigValues(t *testing.T, s store.Store) {
	big := bytes.Repeat([]byte("0123456789abcdef"), bigValue/16)
	for _, key := range []string{"big/1", "big/2", "big/3"} {
		update(t, s, func(tx store.Tx) error { return tx.Put(key, big) })
	}
	update(t, s, func(tx store.Tx) error { return tx.Put("big/2", []byte("small now")) })
	wantValue(t, s, "big/2", "small now")
	view(t, s, func(r store.Reader) error {
		for e, err := range r.Scan("big/", "") {
			if err != nil {
				return err
			}
			if e.Key != "big/2" && !bytes.Equal(e.Value, big) {
				t.Errorf("the value of %q came back changed, %d bytes of %d", e.Key, len(e.Value), len(big))
			}
		}
		return nil
	})
}

func testDelete(t *testing.T, s store.Store) {
	put(t, s, "a", "1", "b", "2")
	update(t, s, func(tx store.Tx) error {
		if err := tx.Delete("never there"); err != nil {
			t.Errorf("Delete of an absent key: %v", err)
		}
		return tx.Delete("a")
	})
	wantValue(t, s, "a", "<absent>")
	wantValue(t, s, "b", "2")
	put(t, s, "a", "again")
	wantValue(t, s, "a", "again")
}

func testKeyRules(t *testing.T, s store.Store) {
	for name, key := range map[string]string{
		"empty":    "",
		"too long": strings.Repeat("k", store.MaxKey+1),
		"not UTF8": "k\xff",
		"half":     "k\xe2\x82",
		"NUL":      "a\x00b",
	} {
		for op, call := range map[string]func(store.Tx) error{
			"Put":    func(tx store.Tx) error { return tx.Put(key, []byte("v")) },
			"Delete": func(tx store.Tx) error { return tx.Delete(key) },
		} {
			if err := s.Update(context.Background(), call); err == nil {
				t.Errorf("%s of a key that is %s was accepted", op, name)
			}
		}
	}
	longest := strings.Repeat("k", store.MaxKey)
	put(t, s, longest, "v")
	wantValue(t, s, longest, "v")
	wantValue(t, s, longest[1:], "<absent>")
}

func testValueRules(t *testing.T, s store.Store) {
	put(t, s, "k", "old")
	err := s.Update(context.Background(), func(tx store.Tx) error {
		return tx.Put("k", make([]byte, store.MaxValue+1))
	})
	if err == nil {
		t.Error("a value over the limit was accepted")
	}
	wantValue(t, s, "k", "old")
}
