package storetest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/quorate/quorate/internal/store"
)

func testScanOrder(t *testing.T, s store.Store) {
	// Orders that a collation, a case fold or a path separator would change.
	want := []string{"!", "A", "B", "a", "a b", "a!", "a-b", "a/", "a/b", "a0", "aa", "b", "z", "~", "é", "日", "\U0010ffff"}
	if !slices.IsSorted(want) {
		t.Fatal("the test's own keys are not in byte order")
	}
	for i := range want { // written neither in this order nor in one transaction
		key := want[(i*5+3)%len(want)]
		put(t, s, key, "value of "+key)
	}
	view(t, s, func(r store.Reader) error {
		var got []string
		for e, err := range r.Scan("", "") {
			if err != nil {
				return err
			}
			if string(e.Value) != "value of "+e.Key {
				t.Errorf("entry %q has the value %q", e.Key, e.Value)
			}
			got = append(got, e.Key)
		}
		if !slices.Equal(got, want) {
			t.Errorf("Scan gives\n%q, want\n%q", got, want)
		}
		return nil
	})
}

func testScanEdges(t *testing.T, s store.Store) {
	keys := []string{"a", "a/", "a/1", "a/2", "a/2/x", "a/3", "a0", "b/1", "b/2", "é", "\U0010ffff/1"}
	for _, key := range keys {
		put(t, s, key, "v")
	}
	for _, test := range []struct {
		prefix, after string
		want          []string
	}{
		{"", "", keys},
		{"a/", "", []string{"a/", "a/1", "a/2", "a/2/x", "a/3"}},
		{"a/", "a/", []string{"a/1", "a/2", "a/2/x", "a/3"}},
		{"a/", "a/2", []string{"a/2/x", "a/3"}},
		{"a/", "a/2/", []string{"a/2/x", "a/3"}},
		{"a/", "a/3", nil},
		{"a/", "a", []string{"a/", "a/1", "a/2", "a/2/x", "a/3"}}, // after is before the prefix
		{"a/", "b", nil}, // after is behind the prefix
		{"a/2", "", []string{"a/2", "a/2/x"}},
		{"a", "", []string{"a", "a/", "a/1", "a/2", "a/2/x", "a/3", "a0"}},
		{"", "a/3", []string{"a0", "b/1", "b/2", "é", "\U0010ffff/1"}},
		{"", "a/29", []string{"a/3", "a0", "b/1", "b/2", "é", "\U0010ffff/1"}}, // after is not a key
		{"b/1", "b/1", nil},
		{"c", "", nil},
		{"é", "", []string{"é"}},
		{"\U0010ffff", "", []string{"\U0010ffff/1"}}, // no greater prefix exists
		{"\U0010ffff", "\U0010ffff/1", nil},
		{"", "\U0010ffff/1", nil},
	} {
		view(t, s, func(r store.Reader) error {
			got, err := scanKeys(r, test.prefix, test.after)
			if !slices.Equal(got, test.want) {
				t.Errorf("Scan(%q, %q) gives %q, want %q", test.prefix, test.after, got, test.want)
			}
			return err
		})
	}
}

func testScanStops(t *testing.T, s store.Store) {
	put(t, s, "a/1", "1", "a/2", "2", "a/3", "3", "other", "4")
	read := func(r store.Reader) error {
		seen := 0
		for e, err := range r.Scan("a/", "") {
			if err != nil {
				return err
			}
			if seen++; seen == 2 {
				break
			}
			if got, err := get(r, "other"); got != "4" { // reading inside the loop is allowed
				t.Errorf("Get inside a scan at %q gives %q, %v", e.Key, got, err)
			}
		}
		again := r.Scan("a/", "a/1")
		for range 2 { // a sequence can be ranged over more than once
			var keys []string
			for e := range again {
				keys = append(keys, e.Key)
			}
			if !slices.Equal(keys, []string{"a/2", "a/3"}) {
				t.Errorf("after a scan that stopped early, the next gives %q", keys)
			}
		}
		return nil
	}
	view(t, s, read)
	update(t, s, func(tx store.Tx) error { return read(tx) })
}

func testScanLong(t *testing.T, s store.Store) {
	const n = 3000 // many pages of any store
	key := func(i int) string { return fmt.Sprintf("long/%06d", i) }
	update(t, s, func(tx store.Tx) error {
		for i := range n {
			if err := tx.Put(key(i*7919%n), []byte(key(i*7919%n))); err != nil {
				return err
			}
		}
		return nil
	})
	update(t, s, func(tx store.Tx) error {
		for i := 0; i < n; i += 3 {
			if err := tx.Delete(key(i)); err != nil {
				return err
			}
		}
		return nil
	})
	view(t, s, func(r store.Reader) error {
		i := 1
		for e, err := range r.Scan("long/", "") {
			if err != nil {
				return err
			}
			if e.Key != key(i) || string(e.Value) != key(i) {
				t.Fatalf("Scan gives %q with value %q, want %q", e.Key, e.Value, key(i))
			}
			if i++; i%3 == 0 {
				i++
			}
		}
		if i < n {
			t.Errorf("Scan ended at %d of %d", i, n)
		}
		return nil
	})
}
