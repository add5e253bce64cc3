package seal

import (
	"bytes"
	"context"
	"testing"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/storetest"
)

// T43: a table that was damaged, which its checksum tells. Shares are refused from afar, combined and tried locally,
// and the record is restored.
func TestDamagedTable(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, stored []byte) []byte{
		"verifier exchanged": func(t *testing.T, b []byte) []byte {
			return edit(t, b, false, func(_ *body, h *table) {
				(*h)[0][0].Verifier, (*h)[0][1].Verifier = (*h)[0][1].Verifier, (*h)[0][0].Verifier
			})
		},
		"holder gone": func(t *testing.T, b []byte) []byte {
			return edit(t, b, false, func(_ *body, h *table) { (*h)[0] = (*h)[0][1:] })
		},
		"threshold lowered": func(t *testing.T, b []byte) []byte {
			return edit(t, b, false, func(b *body, _ *table) { b.Generations[0].Threshold = 2 })
		},
		"threshold raised": func(t *testing.T, b []byte) []byte {
			return edit(t, b, false, func(b *body, _ *table) { b.Generations[0].Threshold = 200 })
		},
		"cluster ID": func(t *testing.T, b []byte) []byte {
			return edit(t, b, false, func(b *body, _ *table) { b.ClusterID = "x" })
		},
		"active generation": func(t *testing.T, b []byte) []byte {
			return edit(t, b, false, func(b *body, _ *table) { b.Active = 9 })
		},
		"table not JSON":    func(_ *testing.T, b []byte) []byte { return bytes.Replace(b, []byte("[["), []byte("[x"), 1) },
		"table cut short":   func(_ *testing.T, b []byte) []byte { return b[:bytes.IndexByte(b, '\n')+100] },
		"table gone":        func(_ *testing.T, b []byte) []byte { return b[:bytes.IndexByte(b, '\n')] },
		"trailer gone":      func(_ *testing.T, b []byte) []byte { return b[:bytes.LastIndexByte(b, '\n')] },
		"something behind":  func(_ *testing.T, b []byte) []byte { return append(b, "\n{}"...) },
		"made inconsistent": func(t *testing.T, b []byte) []byte { return edit(t, b, true, func(b *body, _ *table) { b.Next = 0 }) },
	} {
		t.Run(name, func(t *testing.T) {
			c := initCluster(t, newStore(), 5, 3)
			good := raw(t, c, recordKey)
			putRaw(t, c, recordKey, damage(t, bytes.Clone(good)))
			u := c.unsealer()
			before := wantGiven(t, u, 0)
			if p, opened, err := u.Submit(ctx, c.share(1), false, yes, nil); opened != nil || err != ErrDamagedTable || p != before {
				t.Fatalf("a share from afar: %+v, %v, %v", p, opened, err)
			}
			if _, err := u.Reset(ctx, c.share(1), false, yes); err != ErrResetDenied {
				t.Errorf("a reset from afar: %v", err)
			}
			var opened *Opened
			for _, slot := range []int{2, 5, 4} {
				// Where the threshold in the record is too small, tries before the last one fail aloud.
				_, opened, _ = u.Submit(ctx, c.share(slot), true, yes, nil)
			}
			if opened == nil {
				t.Fatal("three local shares of a threshold of three don't open")
			}
			defer opened.Barrier.Close()
			if !opened.Repaired || !bytes.Equal(raw(t, c, recordKey), good) {
				t.Errorf("repaired: %v; the record is\n%s", opened.Repaired, raw(t, c, recordKey))
			}
			wantGiven(t, u, 0)
			again := c.mustOpen(t, c.unsealer(), 1, 2, 3)
			if again.Repaired {
				t.Error("the restored record was repaired again")
			}
		})
	}
}

func TestDamagedTableOfOneShare(t *testing.T) {
	c := initCluster(t, newStore(), 1, 1)
	good := raw(t, c, recordKey)
	putRaw(t, c, recordKey, bytes.Replace(good, []byte("[["), []byte("[x"), 1))
	u := c.unsealer()
	for _, share := range [][]byte{nil, junk(16), junk(31), junk(34), make([]byte, 33)} {
		_, opened, err := u.Submit(ctx, secret.Copy(share), true, yes, nil)
		wantFault(t, err, fault.Invalid, "wrong length or no slot")
		if opened != nil {
			t.Error("open")
		}
	}
	wantGiven(t, u, 0)
	_, opened, err := u.Submit(ctx, c.share(1), true, yes, nil)
	if err != nil || opened == nil || !opened.Repaired {
		t.Fatalf("the unseal key itself: %+v, %v", opened, err)
	}
	opened.Barrier.Close()
}

// In a damaged table a wrong share can't be told from a right one, but it can be got rid of.
func TestWrongShareInDamagedTable(t *testing.T) {
	c, other := initCluster(t, newStore(), 5, 3), initCluster(t, newStore(), 5, 3)
	putRaw(t, c, recordKey, bytes.Replace(raw(t, c, recordKey), []byte("[["), []byte("[x"), 1))
	u := c.unsealer()
	c.open(t, u, true, 1, 2)
	p, opened, err := u.Submit(ctx, other.share(3), true, yes, nil)
	wantFault(t, err, fault.Invalid, "reset")
	if opened != nil || p.Given != 3 {
		t.Errorf("a wrong share at the threshold: %+v, %v", p, opened)
	}
	p, _, err = u.Submit(ctx, c.share(3), true, yes, nil)
	wantFault(t, err, fault.Invalid, "another share for the same slot")
	if p.Given != 3 {
		t.Errorf("the right share in the place of the wrong one: %+v", p)
	}
	for _, slot := range []int{4, 5} {
		if _, opened, err := u.Submit(ctx, c.share(slot), true, yes, nil); opened != nil || err == nil {
			t.Errorf("with a wrong share among them: %v, %v", opened, err)
		}
	}
	if _, err := u.Reset(ctx, secret.Bytes{}, true, yes); err != nil {
		t.Fatal(err)
	}
	if opened, err := c.open(t, u, true, 1, 2, 3); err != nil || opened == nil || !opened.Repaired {
		t.Errorf("after the reset: %v, %v", opened, err)
	}
}

// The write that restores the record fails in both ways.
func TestRepairCrashes(t *testing.T) {
	for _, mode := range []storetest.Mode{storetest.Lost, storetest.Kept} {
		for n := 1; ; n++ {
			faulty := storetest.NewFaulty(newStore())
			c := initCluster(t, faulty, 3, 2)
			good := raw(t, c, recordKey)
			putRaw(t, c, recordKey, bytes.Replace(good, []byte("[["), []byte("[x"), 1))
			faulty.FailCommit(n, mode)
			u := c.unsealer()
			_, err := c.open(t, u, true, 1, 2)
			if err == nil {
				break
			}
			faulty.Recover()
			if opened, err := c.open(t, c.unsealer(), true, 1, 2); err != nil || opened == nil {
				t.Errorf("%v, commit %d: after a restart: %v, %v", mode, n, opened, err)
			}
			if !bytes.Equal(raw(t, c, recordKey), good) {
				t.Errorf("%v, commit %d: the record was not restored", mode, n)
			}
		}
	}
}

// T43 with a corrected checksum: somebody who knows the format edits the record. Nothing they change is acted upon.
func TestForgedRecord(t *testing.T) {
	stranger := initCluster(t, newStore(), 5, 3)
	for _, test := range []struct {
		name   string
		change func(b *body, h *table)
		slots  []int
		want   error
	}{
		{"label", func(_ *body, h *table) { (*h)[0][1].Label = "eve" }, []int{1, 2, 3}, ErrTampered},
		{"name", func(b *body, _ *table) { b.ClusterName = "eve's" }, []int{1, 2, 3}, ErrTampered},
		{"next number", func(b *body, _ *table) { b.Next = 100 }, []int{1, 2, 3}, ErrTampered},
		{"verifier of a slot not used", func(_ *body, h *table) { (*h)[0][4].Verifier = holder.Verifier{1} }, []int{1, 2, 3}, ErrTampered},
		{"threshold lowered", func(b *body, _ *table) { b.Generations[0].Threshold = 2 }, []int{1, 2}, errWrongTogether},
		{"threshold raised", func(b *body, _ *table) { b.Generations[0].Threshold = 5 }, []int{1, 2, 3, 4, 5}, ErrTampered},
		{"wrapped key", func(b *body, _ *table) { b.Generations[0].Wrapped[20] ^= 1 }, []int{1, 2, 3}, errWrongTogether},
		{"no wrapped key", func(b *body, _ *table) { b.Generations[0].Wrapped = nil }, []int{1, 2, 3}, errWrongTogether},
	} {
		for _, local := range []bool{false, true} {
			c := initCluster(t, newStore(), 5, 3)
			forged := edit(t, raw(t, c, recordKey), true, test.change)
			putRaw(t, c, recordKey, forged)
			u := c.unsealer()
			opened, err := c.open(t, u, local, test.slots...)
			if opened != nil || err != test.want {
				t.Errorf("%s: %v, %v; want %v", test.name, opened, err, test.want)
			}
			wantGiven(t, u, 0) // kept no longer than they can be of use
			if !bytes.Equal(raw(t, c, recordKey), forged) {
				t.Errorf("%s: the evidence is gone", test.name)
			}
		}
	}
	// A verifier replaced by the stranger's own lets the stranger's share count, and keeps the holder's out, but it
	// opens nothing.
	c := initCluster(t, newStore(), 5, 3)
	shares := stranger.shares
	putRaw(t, c, recordKey, edit(t, raw(t, c, recordKey), true, func(b *body, h *table) {
		for i, share := range shares {
			(*h)[0][i].Verifier = holder.Derive(secret.Copy(share), b.ClusterID, 1).Verifier()
		}
	}))
	u := c.unsealer()
	_, _, err := u.Submit(ctx, c.share(1), true, yes, nil)
	wantFault(t, err, fault.Invalid, "slot 1 is not valid")
	c.shares = shares
	if opened, err := c.open(t, u, true, 1, 2, 3); opened != nil || err != errWrongTogether {
		t.Errorf("a stranger's own shares: %v, %v", opened, err)
	}
}

// Everything that unsealing reads, damaged: the keyring, the copy behind the barrier.
func TestDamageElsewhere(t *testing.T) {
	for name, damage := range map[string]func(c *cluster){
		"keyring":        func(c *cluster) { putRaw(t, c, barrier.KeyringKey, junk(100)) },
		"no keyring":     func(c *cluster) { putRaw(t, c, barrier.KeyringKey, nil) },
		"copy":           func(c *cluster) { putRaw(t, c, copyKey, junk(100)) },
		"no copy":        func(c *cluster) { putRaw(t, c, copyKey, nil) },
		"another record": func(c *cluster) { putRaw(t, c, copyKey, raw(t, c, "domain/first")) },
		"no copy, damaged record": func(c *cluster) {
			putRaw(t, c, copyKey, nil)
			putRaw(t, c, recordKey, bytes.Replace(raw(t, c, recordKey), []byte("[["), []byte("[x"), 1))
		},
	} {
		c := initCluster(t, newStore(), 3, 2)
		damage(c)
		if opened, err := c.open(t, c.unsealer(), true, 1, 2); opened != nil || err != ErrTampered {
			t.Errorf("%s: %v, %v", name, opened, err)
		}
		if raw(t, c, openedKey) != nil {
			t.Errorf("%s: an unseal was noted", name)
		}
	}
	c := initCluster(t, newStore(), 3, 2)
	putRaw(t, c, recordKey, []byte("junk"))
	_, err := c.open(t, c.unsealer(), true, 1)
	wantFault(t, err, fault.Unavailable, "can't be read")
	_, err = c.unsealer().Progress(ctx)
	wantFault(t, err, fault.Unavailable, "can't be read")
	_, err = Init(ctx, c, InitParams{Shares: 1, Threshold: 1, Now: born})
	if err != ErrAlreadyInitialized {
		t.Errorf("an init over an unreadable record: %v", err)
	}
}

// T43, byte by byte: whatever byte of the record is damaged, either the shares open and the record is restored, or
// nothing opens; and it is restored whatever byte behind the body, with the wrapped root key, is damaged.
func TestEveryByteOfTheRecord(t *testing.T) {
	c := initCluster(t, newStore(), 3, 2)
	good := raw(t, c, recordKey)
	behind, remote := bytes.IndexByte(good, '\n'), 0
	keys, end := bytes.Index(good, []byte(`"public_key":"`)), bytes.Index(good, []byte(`"}]}`))
	for i := range good {
		if keys < i && i < end-20 && i%16 != 0 {
			continue // thousands of digits, all alike
		}
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		putRaw(t, c, recordKey, bad)
		if opened, _ := c.open(t, c.unsealer(), false, 1, 2); opened != nil {
			remote++
		}
		u := c.unsealer()
		var opened *Opened
		for slot := 1; slot <= 3 && opened == nil; slot++ {
			_, opened, _ = u.Submit(ctx, c.share(slot), true, yes, nil)
		}
		u.Close()
		if opened == nil && i >= behind {
			t.Errorf("byte %d (%q), behind the body: not restored", i, good[i])
		}
		if opened != nil {
			opened.Barrier.Close()
			if !opened.Repaired || !bytes.Equal(raw(t, c, recordKey), good) {
				t.Fatalf("byte %d (%q): open, but the record is not restored", i, good[i])
			}
		}
	}
	putRaw(t, c, recordKey, good)
	c.mustOpen(t, c.unsealer(), 1, 2)
	if remote != 0 {
		t.Errorf("%d damaged records were opened from afar", remote)
	}
}

// No error of any path shows a piece of a share, an unseal key or the root key.
func TestNoShareInErrors(t *testing.T) {
	c := initCluster(t, newStore(), 3, 2)
	good := raw(t, c, recordKey)
	var texts [][]byte
	note := func(err error) {
		if err != nil {
			texts = append(texts, []byte(err.Error()))
		}
	}
	for _, stored := range [][]byte{
		good,
		bytes.Replace(good, []byte("[["), []byte("[x"), 1),
		edit(t, good, true, func(_ *body, h *table) { (*h)[0][0].Label = "eve" }),
		edit(t, good, true, func(b *body, _ *table) { b.Generations[0].Wrapped = nil }),
		edit(t, good, true, func(b *body, _ *table) { b.Generations[0].Shares = 1 }),
		[]byte("junk"),
	} {
		putRaw(t, c, recordKey, stored)
		for _, local := range []bool{false, true} {
			u := c.unsealer()
			for _, share := range [][]byte{
				c.shares[0], c.shares[0][:32], c.shares[0][1:], append(bytes.Clone(c.shares[0]), 9),
				append(bytes.Clone(c.shares[0][:32]), 0), append(bytes.Clone(c.shares[0][:32]), 3), c.shares[1], c.shares[2],
			} {
				_, opened, err := u.Submit(ctx, secret.Copy(share), local, yes, nil)
				note(err)
				if opened != nil {
					opened.Barrier.Close()
				}
				_, err = u.Reset(ctx, secret.Copy(share[:31]), false, yes)
				note(err)
			}
		}
	}
	if len(texts) < 30 {
		t.Fatalf("only %d errors: the test does not test", len(texts))
	}
	putRaw(t, c, recordKey, good)
	given := map[int]secret.Bytes{1: c.share(1), 2: c.share(2)}
	root, _, ok := unwrapAny(c.record(t).opening(), given)
	if !ok {
		t.Fatal("the shares don't open the root key")
	}
	for _, s := range [][]byte{c.shares[0], c.shares[1], c.shares[2], root.Reveal(), candidates(given)[0].Reveal()} {
		for _, text := range texts {
			if leaks(text, s) {
				t.Errorf("an error shows a secret: %s", text)
			}
		}
	}
}

// A replacement commits at any moment while another process unseals: what was replaced is not opened any more.
func TestReplaceDuringUnseal(t *testing.T) {
	for at := 2; at <= 5; at++ {
		c := initCluster(t, newStore(), 3, 2)
		old := *c
		between := &interloper{Store: c.Store, at: at, do: func() {
			c.init(t, InitParams{Shares: 3, Threshold: 2, Now: born, Replace: true, Fill: fill})
		}}
		opened, err := old.open(t, NewUnsealer(between, c.unsealer().now), false, 1, 2)
		if opened != nil || err == nil || between.calls < at {
			t.Errorf("at call %d of %d the replaced cluster was opened: %v", at, between.calls, err)
		}
		c.mustOpen(t, c.unsealer(), 1, 2)
	}
}

// interloper does something of somebody else's before the call with the number at.
type interloper struct {
	store.Store
	calls, at int
	do        func()
}

func (i *interloper) View(ctx context.Context, fn func(store.Reader) error) error {
	i.step()
	return i.Store.View(ctx, fn)
}

func (i *interloper) Update(ctx context.Context, fn func(store.Tx) error) error {
	i.step()
	return i.Store.Update(ctx, fn)
}

func (i *interloper) step() {
	if i.calls++; i.calls == i.at {
		i.do()
	}
}
