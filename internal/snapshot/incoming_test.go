package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/storetest"
)

func TestRestore(t *testing.T) {
	r := newRig(t)
	r.fill("data/", 1200, 1000)
	want := r.content()
	saved := r.save()
	stamp := r.value(barrier.StampKey)
	order := r.value(seal.OrderKey)

	// What came later goes, in any place and however much it is; what was changed or deleted comes back.
	r.fill("a/", 700, 10)
	r.fill("zz/", 700, 10)
	r.put("data/00007", "changed")
	r.update(func(tx store.Tx) error { return tx.Delete("data/00008") })
	r.alive(time.Now().Add(-time.Minute))
	f := &frugal{Store: r.Store}
	told := int64(0)
	_, err := Restore(t.Context(), f, saved, Options{Progress: func(records, _ int64) { told = records }})
	if err != nil {
		t.Fatal(err)
	}
	r.is(want)
	if told != int64(len(want)) {
		t.Errorf("told of %d records, want %d", told, len(want))
	}
	if r.value(barrier.StampKey) == stamp || r.value(seal.OrderKey) == order {
		t.Error("servers that run over the store don't notice")
	}
	if f.records > batchRecords+1 {
		t.Errorf("%d records in one transaction", f.records)
	}

	// Into a store with nothing in it.
	e := r.empty()
	f = &frugal{Store: e.Store}
	if _, err := Restore(t.Context(), f, rewound(t, saved), Options{}); err != nil {
		t.Fatal(err)
	}
	e.is(want)
	if f.records > batchRecords+1 || f.bytes > batchBytes+1024 {
		t.Errorf("%d records, %d bytes in one transaction", f.records, f.bytes)
	}
}

func rewound(t *testing.T, in io.ReadSeeker) io.ReadSeeker {
	t.Helper()
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	return in
}

// Values of the largest size fit, one by one.
func TestRestoreLargeValues(t *testing.T) {
	r := newRig(t)
	r.fill("data/", 4, store.MaxValue)
	e := r.empty()
	f := &frugal{Store: e.Store}
	if _, err := Restore(t.Context(), f, r.save(), Options{}); err != nil {
		t.Fatal(err)
	}
	e.is(r.content())
	if f.bytes > store.MaxValue+64<<10 {
		t.Errorf("%d bytes in one transaction", f.bytes)
	}
}

func TestRestoreRefuses(t *testing.T) {
	r := newRig(t)
	saved := r.save()
	for name, c := range map[string]struct {
		prepare  func(*rig) *rig
		sentence string
	}{
		"another cluster": {func(r *rig) *rig { return newRig(r.T) }, "another cluster"},
		"shorter transcript": {func(r *rig) *rig {
			r.append(1)
			return r
		}, "has 3 entries and that of the snapshot 2"},
		"no seal record": {func(r *rig) *rig {
			e := r.empty()
			e.put("x", "y")
			return e
		}, "none that says of which cluster"},
		"unreadable seal record": {func(r *rig) *rig {
			r.put("plain/seal", "x")
			return r
		}, "seal record in the store can't be read"},
		"unreadable transcript": {func(r *rig) *rig {
			r.put("plain/transcript/head", "x")
			return r
		}, "transcript in the store can't be read"},
		"another one unfinished": {func(r *rig) *rig {
			r.put(markerKey, `{"kind":"restore","from":"other","after":""}`)
			return r
		}, "was not finished"},
	} {
		t.Run(name, func(t *testing.T) {
			to := c.prepare(newTwin(t, saved))
			before := fmt.Sprint(to.all(func(string) bool { return false }))
			to.wantError(to.restore(saved, false), c.sentence)
			if after := fmt.Sprint(to.all(func(string) bool { return false })); after != before {
				t.Error("refused, but something was written")
			}
			if err := to.restore(saved, true); err != nil {
				t.Fatal(err)
			}
			to.is(r.content())
		})
	}
}

// newTwin is a store of the same content.
func newTwin(t *testing.T, saved io.ReadSeeker) *rig {
	t.Helper()
	to := newRig(t).empty()
	if err := to.restore(saved, false); err != nil {
		t.Fatal(err)
	}
	return to
}

// The older snapshot is the one whose shares may be gone.
func TestRestoreOlderGeneration(t *testing.T) {
	r := newRig(t)
	s, err := Inspect(r.save())
	if err != nil {
		t.Fatal(err)
	}
	s.Header.Generation = 0
	err = r.View(t.Context(), func(rd store.Reader) error { return s.replaces(rd, nil) })
	r.wantError(err, "of generation 0 of the key shares, and the store of generation 1")
}

// ticking is a store whose engine has a clock.
type ticking struct {
	store.Store
	now time.Time
}

func (c ticking) Now() time.Time { return c.now }

func TestRunningServersAreLeftAlone(t *testing.T) {
	r := newRig(t)
	saved := r.save()
	for ago, runs := range map[time.Duration]bool{0: true, 29 * time.Second: true, -time.Minute: true, 31 * time.Second: false, -2 * time.Hour: false} {
		r.alive(when.Add(-ago))
		_, err := Restore(t.Context(), ticking{r.Store, when}, rewound(t, saved), Options{Force: true})
		_, errTo := Migrate(t.Context(), r, ticking{alone(t, when.Add(-ago)), when}, Options{})
		_, errFrom := Migrate(t.Context(), ticking{r.Store, when}, r.empty(), Options{})
		for what, err := range map[string]error{"restore": err, "migrate to": errTo, "migrate from": errFrom} {
			if runs {
				r.wantError(err, "a server runs over this store")
			} else if err != nil {
				t.Errorf("%s, seen %s ago: %v", what, ago, err)
			}
		}
	}
	r.alive(when.Add(-time.Minute))
	r.put("plain/node/b", "not JSON")
	if _, err := Restore(t.Context(), ticking{r.Store, when}, rewound(t, saved), Options{}); err != nil {
		t.Error(err)
	}
}

// alone is a store over which a server has run, and nothing else was.
func alone(t *testing.T, at time.Time) store.Store {
	e := newRig(t).empty()
	e.alive(at)
	return e
}

// Whatever commit fails, and whether it took effect or not: until the same command has run to its end the store says that
// it is unfinished, and then everything is there.
func TestBrokenOff(t *testing.T) {
	source := newRig(t)
	source.fill("data/", 1100, 2000)
	source.fill("plain/thing", 3, 5)
	saved := source.save()
	for name, run := range map[string]func(to store.Store) error{
		"restore": func(to store.Store) error {
			_, err := Restore(t.Context(), to, rewound(t, saved), Options{})
			return err
		},
		"migrate": func(to store.Store) error {
			_, err := Migrate(t.Context(), source, to, Options{})
			return err
		},
	} {
		count := storetest.NewFaulty(source.empty())
		if err := run(count); err != nil {
			t.Fatal(err)
		}
		commits := count.Commits()
		if commits < 5 {
			t.Fatalf("%s: %d commits only", name, commits)
		}
		for n := 1; n <= commits; n++ {
			for _, mode := range []storetest.Mode{storetest.Lost, storetest.Kept} {
				to := source.empty()
				faulty := storetest.NewFaulty(to)
				faulty.FailCommit(n, mode)
				if err := run(faulty); !errors.Is(err, store.ErrUnknownOutcome) {
					t.Fatalf("%s, commit %d: %v", name, n, err)
				}
				faulty.Recover()
				begun := n > 1 || mode == storetest.Kept
				ended := n == commits && mode == storetest.Kept
				if unfinished := to.unfinished() != nil; unfinished != (begun && !ended) {
					t.Fatalf("%s, commit %d %s: unfinished %v", name, n, mode, unfinished)
				}
				if ended {
					to.is(source.content())
					continue
				}
				redone := faulty.Commits()
				if err := run(storetest.Rerun(faulty)); err != nil {
					t.Fatalf("%s, again after commit %d %s: %v", name, n, mode, err)
				}
				to.is(source.content())
				if redone = faulty.Commits() - redone; n > 3 && redone >= commits {
					t.Errorf("%s, again after commit %d %s: %d commits, which is all of them", name, n, mode, redone)
				}
			}
		}
	}
}

func TestMigrate(t *testing.T) {
	r := newRig(t)
	r.fill("data/", 1200, 10)
	r.alive(time.Now().Add(-time.Hour))
	to := r.empty()
	n, err := Migrate(t.Context(), r, to, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := to.all(func(string) bool { return false }), r.all(apart); n != int64(len(want)) || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%d records, %d there, want %d", n, len(got), len(want))
	}
	_, err = Migrate(t.Context(), r, to, Options{})
	r.wantError(err, "not empty")
	_, err = Migrate(t.Context(), r, r, Options{})
	r.wantError(err, "not empty")
	_, err = Migrate(t.Context(), r.empty(), r.empty(), Options{})
	r.wantError(err, "not initialised")
	broken := r.empty()
	broken.put(markerKey, `{"kind":"migration","from":"another cluster"}`)
	_, err = Migrate(t.Context(), r, broken, Options{})
	r.wantError(err, "take an empty one")
	_, err = Migrate(t.Context(), broken, r.empty(), Options{})
	r.wantError(err, "a migration into this store was not finished")
}

// restless is a source to which somebody writes while it is read.
type restless struct {
	*rig
	views, at int
}

func (r *restless) View(ctx context.Context, fn func(store.Reader) error) error {
	if r.views++; r.views == r.at {
		r.put("data/00000", fmt.Sprint("changed at ", r.at))
	}
	return r.rig.View(ctx, fn)
}

// A source that changes is found out, and the next run begins from the start.
func TestMigrateFromWhatChanges(t *testing.T) {
	r := newRig(t)
	r.fill("data/", 1200, 10)
	to := r.empty()
	_, err := Migrate(t.Context(), &restless{rig: r, at: 4}, to, Options{})
	if !errors.Is(err, errDiffers) || to.unfinished() == nil {
		t.Fatal(err, to.unfinished())
	}
	if _, err := Migrate(t.Context(), r, to, Options{}); err != nil {
		t.Fatal(err)
	}
	to.is(r.content())
}

// Of two runs at once the second one takes the store over.
func TestTwoAtOnce(t *testing.T) {
	r := newRig(t)
	r.fill("data/", 1200, 10)
	saved, to := r.save(), r.empty()
	begun := false
	_, err := Restore(t.Context(), to, saved, Options{Progress: func(int64, int64) {
		if !begun {
			begun = true
			to.put(markerKey, `{"kind":"restore","from":"another"}`)
		}
	}})
	if !errors.Is(err, errTaken) || to.unfinished() == nil {
		t.Error(err)
	}
}
