package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/storetest"
)

func TestUnsealProgress(t *testing.T) {
	c := initCluster(t, newStore(), 5, 3)
	u := c.unsealer()
	if p := wantGiven(t, u, 0); p.Threshold != 3 || p.Shares != 5 {
		t.Errorf("before the first share: %+v", p)
	}
	first, opened, err := u.Submit(ctx, c.share(4), false, yes, nil)
	if err != nil || opened != nil || first.Given != 1 || first.Nonce == "" {
		t.Fatalf("first share: %+v, %v, %v", first, opened, err)
	}
	second, _, err := u.Submit(ctx, c.share(1), false, yes, nil)
	if err != nil || second != (Progress{Given: 2, Threshold: 3, Shares: 5, Nonce: first.Nonce}) {
		t.Errorf("second share: %+v, %v", second, err)
	}
	last, opened, err := u.Submit(ctx, c.share(2), false, yes, nil)
	if err != nil || opened == nil || last != (Progress{Threshold: 3, Shares: 5}) {
		t.Fatalf("third share: %+v, %v, %v", last, opened, err)
	}
	defer opened.Barrier.Close()
	if opened.Repaired {
		t.Error("an undamaged record was repaired")
	}
	next, _, _ := u.Submit(ctx, c.share(1), false, yes, nil)
	if next.Given != 1 || next.Nonce == first.Nonce {
		t.Errorf("the next round is %+v, the one before had nonce %s", next, first.Nonce)
	}
}

func TestUnsealUninitialised(t *testing.T) {
	u := NewUnsealer(newStore(), time.Now)
	share := secret.Own(junk(33))
	if _, _, err := u.Submit(ctx, share, true, yes, nil); err != ErrNotInitialized {
		t.Errorf("Submit: %v", err)
	}
	if !bytes.Equal(share.Reveal(), make([]byte, 33)) {
		t.Error("the share was not wiped")
	}
	if _, err := u.Reset(ctx, secret.Bytes{}, true, yes); err != ErrNotInitialized {
		t.Errorf("Reset: %v", err)
	}
	if p, err := u.Progress(ctx); p != (Progress{}) || err != nil {
		t.Errorf("Progress: %+v, %v", p, err)
	}
}

// T15, T16: the same share again is no error and no progress; another one with the same x is refused.
func TestSameShareTwice(t *testing.T) {
	c := initCluster(t, newStore(), 3, 3)
	u := c.unsealer()
	first, _, _ := u.Submit(ctx, c.share(2), false, yes, nil)
	for range 3 {
		if p, opened, err := u.Submit(ctx, c.share(2), false, yes, nil); err != nil || opened != nil || p != first {
			t.Errorf("the same share again: %+v, %v, %v; before it %+v", p, opened, err, first)
		}
	}
	forged := c.share(2)
	forged.Reveal()[0] ^= 1
	p, _, err := u.Submit(ctx, forged, false, yes, nil)
	wantFault(t, err, fault.Invalid, "slot 2 is not valid")
	if p != first {
		t.Errorf("a share with the same x changed the progress to %+v", p)
	}
	c.mustOpen(t, u, 1, 3)
}

// T03, T04, T05, T12 to T14, T18: nothing that somebody without a valid share sends costs the holders anything.
func TestStrangersCostNothing(t *testing.T) {
	c, other := initCluster(t, newStore(), 5, 3), initCluster(t, newStore(), 5, 3)
	u := c.unsealer()
	before, _, _ := u.Submit(ctx, c.share(1), false, yes, nil)
	attack := func() {
		t.Helper()
		bad := [][]byte{nil, {}, junk(15), junk(16), junk(32), junk(33), junk(34), junk(1 << 20), make([]byte, 33), other.shares[1]}
		for x := range 256 {
			bad = append(bad, append(junk(32), byte(x)))
		}
		for _, b := range bad {
			share := secret.Copy(b)
			p, opened, err := u.Submit(ctx, share, len(b)%2 == 0, yes, nil)
			if opened != nil || p != before {
				t.Fatalf("junk of %d bytes led to %+v, %v", len(b), p, opened)
			}
			wantFault(t, err, fault.Invalid, "")
			if len(b) > 12 && len(b) < 40 && b[5] != 0 && leaks([]byte(err.Error()), b) {
				t.Fatalf("the refusal shows what was sent: %v", err)
			}
			if !bytes.Equal(share.Reveal(), make([]byte, len(b))) {
				t.Fatal("a refused share was not wiped")
			}
			if _, err := u.Reset(ctx, secret.Copy(b), false, yes); err != ErrResetDenied {
				t.Fatalf("a reset with junk of %d bytes: %v", len(b), err)
			}
		}
		if p := wantGiven(t, u, before.Given); p != before {
			t.Fatalf("progress fell from %+v to %+v", before, p)
		}
	}
	attack()
	before, _, _ = u.Submit(ctx, c.share(5), false, yes, nil)
	attack()
	c.mustOpen(t, u, 2)
}

func TestReset(t *testing.T) {
	c := initCluster(t, newStore(), 5, 3)
	for name, reset := range map[string]func(*Unsealer) (Progress, error){
		"local":              func(u *Unsealer) (Progress, error) { return u.Reset(ctx, secret.Bytes{}, true, yes) },
		"local with junk":    func(u *Unsealer) (Progress, error) { return u.Reset(ctx, secret.Own(junk(33)), true, yes) },
		"local with a share": func(u *Unsealer) (Progress, error) { return u.Reset(ctx, c.share(5), true, yes) },
		"a holder":           func(u *Unsealer) (Progress, error) { return u.Reset(ctx, c.share(4), false, yes) },
	} {
		u := c.unsealer()
		c.open(t, u, false, 1, 2)
		if p, err := reset(u); err != nil || p != (Progress{Threshold: 3, Shares: 5}) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
		wantGiven(t, u, 0)
		c.mustOpen(t, u, 1, 2, 3)
	}
	u := c.unsealer()
	c.open(t, u, false, 1, 2)
	_, err := u.Reset(ctx, secret.Bytes{}, false, yes)
	wantFault(t, err, fault.Denied, "valid key share")
	share := c.share(3)
	u.Reset(ctx, share, false, yes)
	if !bytes.Equal(share.Reveal(), make([]byte, 33)) {
		t.Error("the share of a reset was not wiped")
	}
}

// no is for what nobody is to hear of.
func no(t *testing.T) func(Accepted) error {
	return func(a Accepted) error {
		t.Errorf("accepted %+v", a)
		return nil
	}
}

func TestCloseForgets(t *testing.T) {
	c := initCluster(t, newStore(), 3, 2)
	u := c.unsealer()
	c.open(t, u, false, 1)
	held := u.round
	u.Close()
	u.Close()
	if wantGiven(t, u, 0); wiped(held) != nil {
		t.Error(wiped(held))
	}
}

// wiped reports what is left of a round in memory: its shares panic when they are revealed after the arena is gone.
func wiped(r *round) (err error) {
	for _, given := range r.given {
		for slot, share := range given {
			func() {
				defer func() { recover() }()
				if len(share.Reveal()) > 0 && !share.Equal(secret.Own(make([]byte, share.Len()))) {
					err = fmt.Errorf("the share of slot %d is still in memory", slot)
				}
			}()
		}
	}
	return err
}

// Shares wait 15 minutes for the next one: at that very instant they are gone.
func TestIdleByClock(t *testing.T) {
	c := initCluster(t, newStore(), 5, 3)
	u := c.unsealer()
	c.open(t, u, false, 1)
	c.now = c.now.Add(IdleLimit - 1)
	c.open(t, u, false, 2) // begins the time anew
	c.now = c.now.Add(IdleLimit - 1)
	wantGiven(t, u, 2)
	u.Submit(ctx, secret.Own(junk(33)), false, yes, nil) // a stranger doesn't keep it alive
	c.now = c.now.Add(1)
	wantGiven(t, u, 0)
	if p, opened, err := u.Submit(ctx, c.share(3), false, yes, nil); opened != nil || err != nil || p.Given != 1 {
		t.Errorf("the third share after the time: %+v, %v, %v", p, opened, err)
	}
	c.now = c.now.Add(-time.Hour) // a clock that is set back
	wantGiven(t, u, 1)
	c.mustOpen(t, u, 1, 2)
}

// The memory is wiped at that time although nobody asks.
func TestIdleWipesMemory(t *testing.T) {
	c := initCluster(t, newStore(), 5, 3)
	synctest.Test(t, func(t *testing.T) {
		u := NewUnsealer(c.Store, time.Now)
		held := func() *round {
			u.mu.Lock()
			defer u.mu.Unlock()
			return u.round
		}
		c.open(t, u, false, 1)
		time.Sleep(10 * time.Minute)
		c.open(t, u, false, 2)
		time.Sleep(15*time.Minute - 1)
		synctest.Wait()
		r := held()
		if r == nil || len(r.given[1]) != 2 {
			t.Fatal("the shares were wiped too early")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if held() != nil || wiped(r) != nil {
			t.Error("after 15 minutes the shares are still in memory")
		}
		c.open(t, u, false, 3)
		u.Reset(ctx, secret.Bytes{}, true, yes)
		c.open(t, u, false, 4)
		time.Sleep(14 * time.Minute)
		wantGiven(t, u, 1) // the timer of the round before doesn't end this one
		u.Close()
	})
}

// T21, and T07 in small: holders and strangers at once.
func TestRacingSubmitters(t *testing.T) {
	for round := range 10 {
		c := initCluster(t, newStore(), 5, 3)
		u := c.unsealer()
		var mu sync.Mutex
		var all []*Opened
		var wg sync.WaitGroup
		for slot := 1; slot <= 5; slot++ {
			wg.Go(func() {
				_, opened, err := u.Submit(ctx, c.share(slot), false, yes, nil)
				if err != nil {
					t.Errorf("a valid share among strangers: %v", err)
				}
				mu.Lock()
				defer mu.Unlock()
				if opened != nil {
					all = append(all, opened)
				}
			})
			wg.Go(func() {
				if _, opened, err := u.Submit(ctx, secret.Own(append(junk(32), byte(slot))), round%2 == 0, yes, nil); err == nil || opened != nil {
					t.Errorf("junk among holders: %v, %v", opened, err)
				}
				if _, err := u.Reset(ctx, secret.Own(junk(33)), false, yes); err == nil {
					t.Error("a stranger's reset among holders")
				}
				u.Progress(ctx)
			})
		}
		wg.Wait()
		if len(all) != 1 {
			t.Fatalf("five shares of a threshold of three opened %d times", len(all))
		}
		wantGiven(t, u, 2)
		all[0].Barrier.Close()
	}
}

func TestRestartInTheMiddle(t *testing.T) {
	c := initCluster(t, newStore(), 5, 3)
	c.open(t, c.unsealer(), false, 1, 2)
	u := c.unsealer() // the shares were in the memory of a process that is gone
	wantGiven(t, u, 0)
	if opened, err := c.open(t, u, false, 3); opened != nil || err != nil {
		t.Errorf("one share after a restart: %v, %v", opened, err)
	}
	c.mustOpen(t, u, 1, 2)
}

func TestSharesAreWiped(t *testing.T) {
	c := initCluster(t, newStore(), 3, 2)
	u := c.unsealer()
	for _, slot := range []int{1, 1, 2} {
		share := c.share(slot)
		r := u.round
		if _, opened, err := u.Submit(ctx, share, false, yes, nil); err != nil {
			t.Fatal(err)
		} else if opened != nil {
			opened.Barrier.Close()
			if wiped(r) != nil {
				t.Error("the collected shares outlive the unseal")
			}
		}
		if !bytes.Equal(share.Reveal(), make([]byte, 33)) {
			t.Errorf("share %d was not wiped", slot)
		}
	}
}

// The first unseal is noted, which ends the time for a replacement; later ones write nothing.
func TestFirstUnsealIsNoted(t *testing.T) {
	faulty := storetest.NewFaulty(newStore())
	c := initCluster(t, faulty, 3, 2)
	if raw(t, c, openedKey) != nil {
		t.Error("init notes an unseal")
	}
	before := faulty.Commits()
	c.mustOpen(t, c.unsealer(), 1, 2)
	if raw(t, c, openedKey) == nil || faulty.Commits() == before {
		t.Error("the first unseal was not noted")
	}
	before = faulty.Commits()
	c.mustOpen(t, c.unsealer(), 2, 3)
	if n := faulty.Commits() - before; n != 0 {
		t.Errorf("the second unseal wrote %d times", n)
	}
}

// T44 for the unseal: its writes fail at every place in both ways. No share is lost, and giving one again goes on.
func TestUnsealCrashes(t *testing.T) {
	for _, mode := range []storetest.Mode{storetest.Lost, storetest.Kept} {
		for n := 1; ; n++ {
			faulty := storetest.NewFaulty(newStore())
			c := initCluster(t, faulty, 3, 2)
			u := c.unsealer()
			faulty.FailCommit(n, mode)
			opened, err := c.open(t, u, false, 1, 2)
			if err == nil {
				if n == 1 || opened == nil {
					t.Errorf("%v: the first unseal makes no commit", mode)
				}
				break
			}
			if !errors.Is(err, store.ErrUnknownOutcome) || opened != nil {
				t.Errorf("%v, commit %d: %v, %v", mode, n, opened, err)
			}
			faulty.Recover()
			wantGiven(t, u, 2)
			c.mustOpen(t, u, 2)
			if raw(t, c, openedKey) == nil {
				t.Error("the unseal was not noted")
			}
			c.mustOpen(t, c.unsealer(), 1, 3)
		}
	}
}

func TestCancelledUnseal(t *testing.T) {
	c := initCluster(t, newStore(), 3, 2)
	u := c.unsealer()
	c.open(t, u, false, 1)
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, opened, err := u.Submit(cancelled, c.share(2), false, yes, nil); opened != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled submit: %v, %v", opened, err)
	}
	wantGiven(t, u, 1)
	c.mustOpen(t, u, 2)
}

func TestOpenedRecord(t *testing.T) {
	c := initCluster(t, newStore(), 3, 2)
	o := c.mustOpen(t, c.unsealer(), 1, 2)
	read := func() (rec *Record, err error) {
		err = o.Barrier.View(ctx, func(r store.Reader) error {
			rec, err = o.Record(r)
			return err
		})
		return rec, err
	}
	rec, err := read()
	if err != nil || rec.ClusterID != c.id || rec.Generation().Threshold != 2 {
		t.Errorf("the record of an open store is %+v, %v", rec, err)
	}
	good := raw(t, c, recordKey)
	behind := raw(t, c, copyKey)
	tests := map[string]func(){
		"label edited": func() {
			putRaw(t, c, recordKey, edit(t, good, true, func(_ *body, h *table) { (*h)[0][0].Label = "eve" }))
		},
		"damaged":           func() { putRaw(t, c, recordKey, good[:len(good)-9]) },
		"record gone":       func() { putRaw(t, c, recordKey, nil) },
		"copy gone":         func() { putRaw(t, c, copyKey, nil) },
		"copy damaged":      func() { putRaw(t, c, copyKey, behind[1:]) },
		"copy in clear":     func() { putRaw(t, c, copyKey, good) },
		"another cluster's": func() { putRaw(t, c, recordKey, raw(t, initCluster(t, newStore(), 3, 2), recordKey)) },
	}
	for name, tamper := range tests {
		tamper()
		if rec, err := read(); rec != nil || err != ErrTampered {
			t.Errorf("%s: %+v, %v", name, rec, err)
		}
		putRaw(t, c, recordKey, good)
		putRaw(t, c, copyKey, behind)
		if _, err := read(); err != nil {
			t.Errorf("after %s was undone: %v", name, err)
		}
	}
	if err := o.Barrier.Update(ctx, func(tx store.Tx) error { // what only somebody with the data key could do
		forged := edit(t, good, true, func(b *body, _ *table) { b.ClusterName = "x" })
		return errors.Join(tx.Put(copyKey, forged), tx.Put(recordKey, forged))
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := read(); err != ErrTampered {
		t.Errorf("a copy with a wrong MAC: %v", err)
	}
}

// The root key that opens is the one that init made: it opens the keyring and nothing else does.
func TestOpenedBarrierOutlivesUnsealer(t *testing.T) {
	c := initCluster(t, newStore(), 1, 1)
	u := c.unsealer()
	o := c.mustOpen(t, u, 1)
	u.Close()
	if err := o.Barrier.Rotate(ctx, born); err != nil {
		t.Errorf("after the unsealer is gone: %v", err)
	}
	_, err := barrier.Open(ctx, c, secret.Own(bytes.Clone(c.shares[0])))
	if err != barrier.ErrWrongKey {
		t.Errorf("the unseal key is the root key: %v", err)
	}
}
