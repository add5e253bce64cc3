package seal

import (
	"errors"
	"fmt"
	"testing"

	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/storetest"
)

// rekeying is a run of ceremonies in which one commit fails.
type rekeying struct {
	*cluster
	faulty *storetest.Faulty
	hands  []hand // of every generation that was ever delivered to holders
}

// run does one rekey of each way to end it, and what else changes the record. It ends at the first error.
func (k *rekeying) run(t *testing.T, o *Opened, n, threshold int, keepOld bool) error {
	prepared := func(o *Opened, tx store.Tx) (*Record, error) {
		rec, err := o.Record(tx)
		if err != nil {
			return nil, err
		}
		g, h := makeNext(t, rec, n, threshold)
		k.hands = append(k.hands, h) // the holders may have got theirs whatever becomes of the transaction
		return o.Prepare(tx, g)
	}
	steps := []func() error{
		func() error { _, err := do(o, prepared); return err },
		func() error { _, err := do(o, abort); return err },
		func() error { _, err := do(o, prepared); return err },
		func() error { return rotateRoot(o) },
		func() error { _, err := do(o, commit(keepOld)); return err },
		func() error { return rotateRoot(o) },
		func() error {
			labels := make([]string, n)
			_, err := do(o, relabel(labels...))
			return err
		},
	}
	if keepOld {
		steps = append(steps, func() error { _, err := do(o, retire); return err })
	}
	steps = append(steps, func() error {
		// A commit with rotation of the root key in the same transaction.
		if _, err := do(o, prepared); err != nil {
			return err
		}
		next, err := o.Barrier.PrepareRoot()
		if err != nil {
			return err
		}
		_, err = do(o, func(o *Opened, tx store.Tx) (*Record, error) {
			if _, err := o.Commit(tx, keepOld); err != nil {
				return nil, err
			}
			return o.RotateRoot(tx, next, born)
		})
		next.Close(err == nil || errors.Is(err, store.ErrUnknownOutcome))
		return err
	})
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// check restarts, and holds what opens against the record: each live generation, and no other. It returns who opened.
func (k *rekeying) check(t *testing.T, what string) *Opened {
	t.Helper()
	rec := k.record(t)
	live := map[uint64]bool{}
	for _, g := range rec.opening() {
		live[g.Number] = true
	}
	var by *Opened
	for _, h := range k.hands {
		opened, err := k.opens(t, h, false)
		// A number is delivered twice where the transaction was lost that would have stored it first.
		_, _, checked := rec.Check(h.share(1))
		stored := checked == nil || errors.As(checked, new(*OldShare))
		switch {
		case opened != nil && (!live[h.number] || !stored):
			t.Fatalf("%s: %s: generation %d opens", what, states(rec), h.number)
		case opened == nil && live[h.number] && stored:
			t.Fatalf("%s: %s: generation %d does not open: %v", what, states(rec), h.number, err)
		case opened != nil:
			by = opened
			delete(live, h.number)
		}
	}
	if by == nil || len(live) != 0 {
		t.Fatalf("%s: %s: nobody opens %v", what, states(rec), live)
	}
	if got := string(raw(t, by.Barrier, "domain/first")); got != "a record of the domain" {
		t.Fatalf("%s: behind the barrier is %q", what, got)
	}
	return by
}

// Promise 1, T45 to T48: whichever commit of rekeys and rotations fails, and in whichever way, the quorums that the
// record calls live open, one of which always exists, and aborted generations never do. Afterwards everything goes on.
func TestPromise1RekeyCrashes(t *testing.T) {
	for name, to := range map[string][2]int{"kept": {3, 2}, "raised": {5, 3}, "lowered": {2, 2}, "single": {1, 1}} {
		for _, keepOld := range []bool{false, true} {
			for _, mode := range []storetest.Mode{storetest.Lost, storetest.Kept} {
				t.Run(fmt.Sprint(name, "/", keepOld, "/", mode), func(t *testing.T) {
					t.Parallel()
					for n := 1; ; n++ {
						faulty := storetest.NewFaulty(newStore())
						c := initCluster(t, faulty, 3, 2)
						k := &rekeying{cluster: c, faulty: faulty, hands: []hand{c.first(2)}}
						o := c.mustOpen(t, c.unsealer(), 1, 2)
						if name == "lowered" {
							g, h := makeNext(t, c.record(t), 5, 4)
							k.hands = append(k.hands, h)
							must(t, o, prepare(g))
							must(t, o, commit(false))
						}
						faulty.FailCommit(n, mode)
						err := k.run(t, o, to[0], to[1], keepOld)
						if err != nil && !errors.Is(err, store.ErrUnknownOutcome) {
							t.Fatal(err)
						}
						faulty.Recover()
						what := fmt.Sprint("commit ", n)
						k.check(t, what)
						if err == nil {
							if n < 9 {
								t.Errorf("only %d commits: the test does not test", n-1)
							}
							break
						}
						// The process that got the error goes on, too: it may read under either root key.
						if _, err := k.recordBy(o); err != nil {
							t.Fatalf("%s: the surviving process reads %v", what, err)
						}
						o = k.check(t, what)
						if o.hasPending(t) {
							must(t, o, abort)
						}
						if err := k.run(t, o, to[0], to[1], keepOld); err != nil {
							t.Fatalf("%s: the second run: %v", what, err)
						}
						k.check(t, what+", second run")
					}
				})
			}
		}
	}
}

func (k *rekeying) recordBy(o *Opened) (rec *Record, err error) {
	err = o.Barrier.View(ctx, func(r store.Reader) error {
		rec, err = o.Record(r)
		return err
	})
	return rec, err
}

func (o *Opened) hasPending(t *testing.T) bool {
	t.Helper()
	var pending bool
	err := o.Barrier.View(ctx, func(r store.Reader) error {
		rec, err := o.Record(r)
		pending = err == nil && rec.Pending() != nil
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return pending
}
