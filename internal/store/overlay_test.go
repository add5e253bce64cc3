package store_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"

	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
)

var errBase = errors.New("the base's error")

// countingBase counts calls, and fails once it has given a number of entries.
type countingBase struct {
	entries []store.Entry
	gets    [][]string
	failAt  int // entries before the error; -1 = never
}

func (b *countingBase) Get(keys ...string) ([][]byte, error) {
	b.gets = append(b.gets, keys)
	if b.failAt >= 0 {
		return nil, errBase
	}
	values := make([][]byte, len(keys))
	for i, key := range keys {
		values[i] = []byte("base " + key)
	}
	return values, nil
}

func (b *countingBase) Scan(string, string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for i, e := range b.entries {
			if i == b.failAt {
				yield(store.Entry{}, errBase)
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

func TestOverlayAsksTheBaseOnce(t *testing.T) {
	base := &countingBase{failAt: -1}
	o := store.NewOverlay(base)
	if _, err := o.Get("a", "b"); err != nil {
		t.Fatal(err)
	}
	mustDo(t, o.Put("b", []byte("own")), o.Delete("d"), o.Put("e", nil))
	values, err := o.Get("a", "b", "c", "d", "e")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%q", values); got != `["base a" "own" "base c" "" ""]` || values[3] != nil || values[4] == nil {
		t.Errorf("Get gives %s, the deleted one nil: %v, the empty one nil: %v", got, values[3] == nil, values[4] == nil)
	}
	if _, err := o.Get("b", "e"); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(base.gets); got != "[[a b] [a c]]" {
		t.Errorf("the base was asked for %s, want one call for what isn't in the overlay", got)
	}
}

func TestOverlayPassesErrorsOn(t *testing.T) {
	base := &countingBase{entries: []store.Entry{{Key: "a"}, {Key: "c"}}, failAt: 1}
	for i := range base.entries {
		base.entries[i].Value = []byte("base")
	}
	o := store.NewOverlay(base)
	mustDo(t, o.Put("b", []byte("own")), o.Put("d", []byte("own")))
	if values, err := o.Get("a", "b"); err != errBase || values != nil {
		t.Errorf("Get gives %q, %v, want the base's error alone", values, err)
	}
	if values, err := o.Get("b"); err != nil || string(values[0]) != "own" {
		t.Errorf("Get of an own write gives %q, %v", values, err)
	}
	var got []string
	for e, err := range o.Scan("", "") {
		got = append(got, fmt.Sprintf("%s %v", e.Key, err))
	}
	if last := got[len(got)-1]; last != " "+errBase.Error() || len(got) != 2 {
		t.Errorf("Scan gives %q, want the base's error as the last entry, without a key", got)
	}
}

func TestOverlayChanges(t *testing.T) {
	o := store.NewOverlay(&countingBase{failAt: -1})
	if o.Changed() {
		t.Error("a new overlay has changes")
	}
	refused := errors.Join(o.Put("", nil), o.Delete("\xff"), o.Put("big", make([]byte, store.MaxValue+1)))
	if refused == nil || o.Changed() {
		t.Errorf("bad writes: %v, changes: %v", refused, o.Changed())
	}
	mustDo(t, o.Put("m", []byte("1")), o.Delete("z"), o.Put("a", nil), o.Put("m", []byte("2")), o.Put("q", []byte("3")), o.Delete("q"))
	var got []string
	for key, value := range o.Changes() {
		got = append(got, fmt.Sprintf("%s=%s deleted:%v", key, value, value == nil))
	}
	want := []string{"a= deleted:false", "m=2 deleted:false", "q= deleted:true", "z= deleted:true"}
	if !slices.Equal(got, want) || !o.Changed() {
		t.Errorf("Changes gives %q, want %q", got, want)
	}
	for key := range o.Changes() {
		if key != "a" {
			t.Error("Changes went on after it was told to stop")
		}
		break
	}
}

// A value that was read stays as it was when the key is written again.
func TestOverlayDoesNotReuseValues(t *testing.T) {
	o := store.NewOverlay(&countingBase{failAt: -1})
	mustDo(t, o.Put("k", []byte("one")))
	before, _ := o.Get("k")
	mustDo(t, o.Put("k", []byte("two")), o.Delete("k"), o.Put("k", []byte("six")))
	if string(before[0]) != "one" {
		t.Errorf("a value read before a later Put became %q", before[0])
	}
}

// An overlay over an overlay sees both, and keeps its writes to itself.
func TestOverlayOverOverlay(t *testing.T) {
	s := inmem.New()
	err := s.Update(context.Background(), func(tx store.Tx) error {
		mustDo(t, tx.Put("a", []byte("outer")), tx.Put("b", []byte("outer")))
		inner := store.NewOverlay(tx)
		mustDo(t, inner.Delete("a"), inner.Put("c", []byte("inner")))
		for r, want := range map[store.Reader]string{inner: "[b c]", tx: "[a b]"} {
			var keys []string
			for e, err := range r.Scan("", "") {
				mustDo(t, err)
				keys = append(keys, e.Key)
			}
			if got := fmt.Sprint(keys); got != want {
				t.Errorf("%T sees %s, want %s", r, got, want)
			}
		}
		return nil
	})
	mustDo(t, err)
}

func mustDo(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}
