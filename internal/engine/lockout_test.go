package engine

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/store/storetest"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func update(t testing.TB, st store.Store, fn func(store.Tx) error) {
	t.Helper()
	if err := st.Update(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

// isLocked asks whether a name is locked.
func isLocked(t testing.TB, st store.Store, l Lockout, now time.Time) bool {
	t.Helper()
	err := st.View(context.Background(), func(r store.Reader) error { return l.Check(r, now) })
	if err != nil && err != ErrLocked {
		t.Fatal(err)
	}
	return err != nil
}

func fail(t testing.TB, st store.Store, l Lockout, now time.Time) {
	t.Helper()
	update(t, st, func(tx store.Tx) error { return l.Fail(tx, now) })
}

func TestLockout(t *testing.T) {
	st := storetest.Rerun(inmem.New())
	l, other := NewLockout([]byte("salt"), "alice"), NewLockout([]byte("salt"), "bob")
	for i := range LockoutFailures {
		if isLocked(t, st, l, start) {
			t.Fatalf("locked after %d failures", i)
		}
		fail(t, st, l, start.Add(time.Duration(i)*time.Minute))
	}
	last := start.Add((LockoutFailures - 1) * time.Minute)
	for after, want := range map[time.Duration]bool{0: true, time.Minute: true, LockoutTime - time.Second: true, LockoutTime: false} {
		if isLocked(t, st, l, last.Add(after)) != want {
			t.Errorf("%v after the last failure: locked is not %v", after, want)
		}
	}
	if isLocked(t, st, other, last) {
		t.Error("another name is locked")
	}
	fail(t, st, l, last.Add(time.Minute)) // while locked: it makes nothing longer
	if isLocked(t, st, l, last.Add(LockoutTime)) {
		t.Error("a failure while locked counts")
	}
	fail(t, st, l, last.Add(LockoutTime))
	if isLocked(t, st, l, last.Add(LockoutTime)) {
		t.Error("the failures before the lock still count")
	}
}

func TestLockoutForgetsSlowFailures(t *testing.T) {
	st, l := inmem.New(), NewLockout(nil, "alice")
	for i := range 20 {
		now := start.Add(time.Duration(i) * LockoutTime / (LockoutFailures - 1))
		if fail(t, st, l, now); isLocked(t, st, l, now) {
			t.Fatalf("locked at failure %d, %v after the first", i, now.Sub(start))
		}
	}
}

func TestLockoutClear(t *testing.T) {
	st, l := storetest.NewFaulty(inmem.New()), NewLockout(nil, "alice")
	for range LockoutFailures - 1 {
		fail(t, st, l, start)
	}
	update(t, st, l.Clear)
	fail(t, st, l, start)
	if isLocked(t, st, l, start) {
		t.Error("failures before the success count")
	}
	update(t, st, l.Clear)
	before := st.Commits()
	if update(t, st, l.Clear); st.Commits() != before {
		t.Error("clearing nothing writes")
	}
}

func TestSweepLockouts(t *testing.T) {
	st := storetest.NewFaulty(storetest.Rerun(inmem.New()))
	const many = 2*sweepBatch + 7
	for i := range many {
		fail(t, st, NewLockout(nil, fmt.Sprint(i)), start)
	}
	recent := NewLockout(nil, "recent")
	fail(t, st, recent, start.Add(time.Minute))
	update(t, st, func(tx store.Tx) error { return tx.Put("lockoutX", []byte("other")) })
	for _, c := range []struct {
		after         time.Duration
		left, commits int
	}{{LockoutTime - time.Second, many + 2, 0}, {LockoutTime, 2, 3}, {LockoutTime, 2, 0}} {
		before := st.Commits()
		if err := SweepLockouts(context.Background(), st, start.Add(c.after)); err != nil {
			t.Fatal(err)
		}
		left := 0
		err := st.View(context.Background(), func(r store.Reader) error {
			left = 0
			for _, err := range r.Scan("", "") {
				if err != nil {
					return err
				}
				left++
			}
			return nil
		})
		if err != nil || left != c.left || st.Commits()-before != c.commits {
			t.Errorf("%v later: %d records are left, want %d, after %d commits, want %d", c.after, left, c.left, st.Commits()-before, c.commits)
		}
	}
}

// TestSweepStaleLooksAgain: what has changed since it was found stays.
func TestSweepStaleLooksAgain(t *testing.T) {
	st := inmem.New()
	update(t, st, func(tx store.Tx) error { return tx.Put("a", []byte("old")) })
	changing := changer{st, t}
	err := SweepStale(context.Background(), changing, "", func(e store.Entry) (bool, bool) { return string(e.Value) == "old", true },
		func(tx store.Tx, e store.Entry) error { return tx.Delete(e.Key) })
	if err != nil {
		t.Fatal(err)
	}
	err = st.View(context.Background(), func(r store.Reader) error {
		value, err := Get(r, "a")
		if string(value) != "new" {
			t.Errorf("%q is there", value)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// changer changes a record between the View that finds it and the Update that removes it.
type changer struct {
	store.Store
	t *testing.T
}

func (c changer) Update(ctx context.Context, fn func(store.Tx) error) error {
	update(c.t, c.Store, func(tx store.Tx) error { return tx.Put("a", []byte("new")) })
	return c.Store.Update(ctx, fn)
}

func TestName(t *testing.T) {
	for in, want := range map[string]string{
		"alice": "alice", " Alice\t": "alice", "a.b-c_d@E+f:1": "a.b-c_d@e+f:1", strings.Repeat("A", maxName): strings.Repeat("a", maxName),
	} {
		if got, err := Name(in); got != want || err != nil {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"", " ", "a b", "a/b", "a\x00", "\xff", "K\u212a", "\u017f", "\u0131", "a\u200b", "a,b", "a*", strings.Repeat("a", maxName+1)} {
		if got, err := Name(in); got != "" || fault.As(err) == nil {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

// FuzzName: what is accepted is canonical, so that a name has one lockout and one record.
func FuzzName(f *testing.F) {
	for _, s := range []string{"Alice", " a ", "\u212aate", "a\u0301"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		name, err := Name(in)
		if err != nil {
			return
		}
		if again, err := Name(name); err != nil || again != name || store.CheckKey("user/"+name) != nil || strings.Contains(name, "/") {
			t.Fatalf("%q: %q, again %q, %v", in, name, again, err)
		}
		for _, variant := range []string{strings.ToUpper(name), " " + name + "\n", strings.ToTitle(name)} {
			if got, err := Name(variant); err != nil || got != name {
				t.Fatalf("%q: %q, %v, want %q", variant, got, err, name)
			}
		}
	})
}

func TestSalt(t *testing.T) {
	st := storetest.Rerun(inmem.New())
	var first, second, seen []byte
	update(t, st, func(tx store.Tx) error {
		salt, err := NeedSalt(tx)
		first = append([]byte(nil), salt...)
		return err
	})
	update(t, st, func(tx store.Tx) error {
		salt, err := NeedSalt(tx)
		second = append([]byte(nil), salt...)
		return err
	})
	if err := st.View(context.Background(), func(r store.Reader) error {
		salt, err := Salt(r)
		seen = append([]byte(nil), salt...)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if len(first) != 32 || string(first) != string(second) || string(first) != string(seen) {
		t.Errorf("%x, then %x, then %x", first, second, seen)
	}
	if Digest(first, "a", []byte("b")) == Digest(first, "ab", nil) || Digest(first, "a", nil) == Digest(nil, "a", nil) {
		t.Error("two things have one digest")
	}
}
