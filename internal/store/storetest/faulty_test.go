package storetest

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
)

func TestWrappersConform(t *testing.T) {
	t.Run("Faulty", func(t *testing.T) {
		Run(t, func(*testing.T) store.Store { return NewFaulty(inmem.New()) })
	})
	t.Run("Rerun", func(t *testing.T) {
		Run(t, func(*testing.T) store.Store { return Rerun(inmem.New()) })
	})
}

func TestFaultyFailsTheNthCommit(t *testing.T) {
	for n := 1; n <= 3; n++ {
		for _, mode := range []Mode{Lost, Kept} {
			t.Run(mode.String()+strconv.Itoa(n), func(t *testing.T) {
				f := NewFaulty(inmem.New())
				put(t, f, "before", "1") // doesn't count: FailCommit counts from its call
				f.FailCommit(n, mode)
				for i := 1; i < n; i++ {
					put(t, f, strconv.Itoa(i), "written")
					update(t, f, func(store.Tx) error { return nil }) // no write, no commit
					if err := f.Update(context.Background(), failAfterPut); err != errOwn {
						t.Fatalf("Update returns %v, want the function's own error", err)
					}
				}
				err := f.Update(context.Background(), func(tx store.Tx) error { return tx.Put(strconv.Itoa(n), []byte("written")) })
				if !errors.Is(err, store.ErrUnknownOutcome) {
					t.Fatalf("commit %d returns %v, want an unknown outcome", n, err)
				}
				wantCrashed(t, f)
				f.Recover()
				want := map[Mode]string{Lost: "<absent>", Kept: "written"}[mode]
				wantValue(t, f, strconv.Itoa(n), want)
				for i := 1; i < n; i++ {
					wantValue(t, f, strconv.Itoa(i), "written")
				}
				if got, want := f.Commits(), n+int(mode); got != want {
					t.Errorf("%d commits, want %d", got, want)
				}
				put(t, f, "after", "1") // the failure was forgotten
			})
		}
	}
}

func failAfterPut(tx store.Tx) error {
	tx.Put("never", nil)
	return errOwn
}

func wantCrashed(t *testing.T, f *Faulty) {
	t.Helper()
	if !f.Crashed() {
		t.Error("the store says that it has not crashed")
	}
	if err := f.View(context.Background(), func(store.Reader) error { t.Error("View ran"); return nil }); err != ErrCrashed {
		t.Errorf("View of a crashed store returns %v", err)
	}
	if err := f.Update(context.Background(), func(store.Tx) error { t.Error("Update ran"); return nil }); err != ErrCrashed {
		t.Errorf("Update of a crashed store returns %v", err)
	}
}

func TestRerunShowsEffects(t *testing.T) {
	s := Rerun(inmem.New())
	runs := 0
	update(t, s, func(tx store.Tx) error {
		runs++
		n, err := number(tx, "n")
		if err != nil {
			return err
		}
		return putNumber(tx, "n", n+1)
	})
	if runs != 2 {
		t.Errorf("the function ran %d times, want 2", runs)
	}
	wantValue(t, s, "n", "1") // the run in vain left nothing
	runs = 0
	view(t, s, func(store.Reader) error { runs++; return nil })
	if runs != 2 {
		t.Errorf("a View's function ran %d times, want 2", runs)
	}
}
