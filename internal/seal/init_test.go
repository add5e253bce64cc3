package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/storetest"
)

func TestInitRefusesNumbers(t *testing.T) {
	for _, test := range []struct {
		shares, threshold int
		sentence          string
	}{
		{0, 0, "at least 1"},
		{0, 1, "at least 1"},
		{-1, 1, "at least 1"},
		{1, 0, "threshold must be at least 1"},
		{5, -1, "threshold must be at least 1"},
		{3, 4, "larger than the number"},
		{1, 2, "larger than the number"},
		{2, 1, "threshold of 1"},
		{255, 1, "threshold of 1"},
		{256, 2, "at most 255"},
		{1 << 40, 1 << 39, "at most 255"},
	} {
		st := newStore()
		_, err := Init(ctx, st, InitParams{Shares: test.shares, Threshold: test.threshold, Now: born})
		wantFault(t, err, fault.Invalid, test.sentence)
		if all := dump(t, st); len(all) != 0 {
			t.Errorf("%d/%d: %d records were written", test.threshold, test.shares, len(all))
		}
	}
}

func TestInitRefusesLabels(t *testing.T) {
	for _, p := range []InitParams{
		{Shares: 3, Threshold: 2, Labels: []string{"a", "b"}},
		{Shares: 3, Threshold: 2, Labels: []string{"a", "b", "c", "d"}},
		{Shares: 2, Threshold: 2, Labels: []string{"a", strings.Repeat("b", 201)}},
		{Shares: 2, Threshold: 2, Labels: []string{"a", "two\nlines"}},
		{Shares: 2, Threshold: 2, Labels: []string{"a\u202eb", "b"}},
		{Shares: 2, Threshold: 2, Labels: []string{"a", "\xff"}},
		{Shares: 2, Threshold: 2, ClusterName: strings.Repeat("n", maxName+1)},
	} {
		_, err := Init(ctx, newStore(), p)
		wantFault(t, err, fault.Invalid, "")
	}
}

func TestSharesOfEverySize(t *testing.T) {
	for _, test := range []struct{ n, threshold int }{
		{1, 1}, {2, 2}, {3, 2}, {3, 3}, {5, 3}, {255, 2}, {255, 128}, {255, 255},
	} {
		c := initCluster(t, newStore(), test.n, test.threshold)
		if len(c.shares) != test.n {
			t.Fatalf("%d shares, want %d", len(c.shares), test.n)
		}
		seen := map[string]bool{}
		for i, share := range c.shares {
			switch {
			case test.n == 1 && len(share) != 32:
				t.Errorf("the only share has %d bytes", len(share))
			case test.n > 1 && (len(share) != 33 || int(share[32]) != i+1):
				t.Errorf("share %d has %d bytes and x = %d", i+1, len(share), share[len(share)-1])
			case seen[string(share[:32])]:
				t.Errorf("share %d is there twice", i+1)
			}
			seen[string(share[:32])] = true
		}
		var slots []int
		for i := range test.threshold {
			slots = append(slots, test.n-i)
		}
		c.mustOpen(t, c.unsealer(), slots...)
	}
}

func TestEverySubsetUnseals(t *testing.T) {
	for _, test := range []struct{ n, threshold int }{{5, 3}, {6, 4}, {4, 2}} {
		c := initCluster(t, newStore(), test.n, test.threshold)
		subsets(test.n, test.threshold, func(slots []int) { c.mustOpen(t, c.unsealer(), slots...) })
		subsets(test.n, test.threshold-1, func(slots []int) {
			if opened, err := c.open(t, c.unsealer(), false, slots...); opened != nil || err != nil {
				t.Errorf("%v of a threshold of %d: %v, %v", slots, test.threshold, opened, err)
			}
		})
	}
}

func TestRecordOfInit(t *testing.T) {
	c := &cluster{Store: newStore(), now: born}
	if rec, err := Load(reading(t, c)); rec != nil || err != nil {
		t.Errorf("an empty store has the record %+v, %v", rec, err)
	}
	c.init(t, InitParams{Shares: 2, Threshold: 2, ClusterName: "vienna", Labels: []string{"ann", "bob"}, Now: born})
	rec := c.record(t)
	gen := rec.Generation()
	if rec.ClusterID != c.id || rec.ClusterName != "vienna" || !rec.Created.Equal(born) || rec.damaged {
		t.Errorf("the record is %+v", rec)
	}
	if gen.Number != 1 || gen.Threshold != 2 || gen.Shares != 2 || gen.Holders[0].Label != "ann" || gen.Holders[1].Label != "bob" {
		t.Errorf("the generation is %+v", gen)
	}
	other := initCluster(t, newStore(), 2, 2)
	if other.id == c.id || other.record(t).ClusterName == "" {
		t.Errorf("another cluster is %q, %q", other.id, other.record(t).ClusterName)
	}
}

// Nothing that opens anything is in the store, in any encoding.
func TestNoKeyInTheStore(t *testing.T) {
	for _, n := range []int{1, 3} {
		c := initCluster(t, newStore(), n, n)
		c.mustOpen(t, c.unsealer(), []int{1, 2, 3}[:n]...)
		given := map[int]secret.Bytes{}
		secrets := map[string][]byte{}
		for i, share := range c.shares {
			given[i+1] = secret.Own(share)
			secrets[fmt.Sprint("share ", i+1)] = share
		}
		root, _, ok := unwrapAny(c.record(t).opening(), given)
		if !ok {
			t.Fatal("the shares don't open the root key")
		}
		secrets["root key"] = root.Reveal()
		secrets["unseal key"] = candidates(given)[0].Reveal()
		for key, value := range dump(t, c) {
			for name, s := range secrets {
				if leaks(value, s) {
					t.Errorf("%d shares: the %s is readable in %s", n, name, key)
				}
			}
			if bytes.Contains(value, []byte("record of the domain")) {
				t.Errorf("a domain record is readable in %s", key)
			}
		}
	}
}

func TestSecondInit(t *testing.T) {
	c := initCluster(t, newStore(), 3, 2)
	before := dump(t, c)
	_, err := Init(ctx, c, InitParams{Shares: 3, Threshold: 2, Now: born})
	if err != ErrAlreadyInitialized {
		t.Errorf("a second init: %v", err)
	}
	_, err = Init(ctx, c, InitParams{})
	wantFault(t, err, fault.Invalid, "number of key shares") // the numbers are checked first
	for key, value := range dump(t, c) {
		if !bytes.Equal(before[key], value) {
			t.Errorf("a refused init changed %s", key)
		}
	}
	c.mustOpen(t, c.unsealer(), 1, 2)
}

func TestReplace(t *testing.T) {
	c := initCluster(t, newStore(), 3, 2)
	old := *c
	u := c.unsealer()
	u.Submit(ctx, c.share(1), true, yes, nil)
	wantGiven(t, u, 1)
	c.init(t, InitParams{Shares: 5, Threshold: 3, Now: born, Replace: true, Fill: func(tx store.Tx) error {
		values, err := tx.Get("domain/first")
		if err != nil || values[0] != nil {
			t.Errorf("a record of the replaced cluster is still there: %q, %v", values[0], err)
		}
		return fill(tx)
	}})
	if c.id == old.id {
		t.Error("the replacement has the cluster ID of the replaced one")
	}
	wantGiven(t, u, 0) // what was given to the old cluster doesn't count
	_, _, err := u.Submit(ctx, old.share(2), true, yes, nil)
	wantFault(t, err, fault.Invalid, "slot 2 is not valid")
	c.mustOpen(t, u, 5, 1, 3)

	before := dump(t, c)
	for _, st := range []store.Store{c, storetest.Rerun(c)} {
		_, err = Init(ctx, st, InitParams{Shares: 3, Threshold: 2, Now: born, Replace: true})
		wantFault(t, err, fault.Invalid, "only before the first unseal")
	}
	if len(dump(t, c)) != len(before) || !bytes.Equal(raw(t, c, recordKey), before[recordKey]) {
		t.Error("a refused replacement changed the store")
	}
	c.mustOpen(t, c.unsealer(), 1, 2, 3)
}

func TestReplaceOfNothingIsAnInit(t *testing.T) {
	c := &cluster{Store: newStore(), now: born}
	c.init(t, InitParams{Shares: 1, Threshold: 1, Now: born, Replace: true, Fill: fill})
	c.mustOpen(t, c.unsealer(), 1)
}

// A store whose record is gone is not an empty store: an init would destroy the only keyring.
func TestInitRefusesLeftovers(t *testing.T) {
	for _, opened := range []bool{false, true} {
		c := initCluster(t, newStore(), 3, 2)
		if opened {
			c.mustOpen(t, c.unsealer(), 1, 2)
		}
		record := raw(t, c, recordKey)
		putRaw(t, c, recordKey, nil)
		for _, replace := range []bool{false, true} {
			_, err := Init(ctx, c, InitParams{Shares: 3, Threshold: 2, Now: born, Replace: replace})
			if fault.As(err) == nil {
				t.Errorf("opened %v, replace %v: init in a store with leftovers: %v", opened, replace, err)
			}
		}
		putRaw(t, c, recordKey, record)
		c.mustOpen(t, c.unsealer(), 1, 2)
	}
}

func TestFillFails(t *testing.T) {
	st := newStore()
	own := errors.New("the domain's own error")
	res, err := Init(ctx, st, InitParams{Shares: 3, Threshold: 2, Now: born, Fill: func(tx store.Tx) error {
		if err := fill(tx); err != nil {
			t.Error(err)
		}
		return own
	}})
	if err != own || res != nil {
		t.Errorf("Init: %v, %v", res, err)
	}
	if all := dump(t, st); len(all) != 0 {
		t.Errorf("%d records were written", len(all))
	}
}

// Servers that run over a store are no part of what is in it: they neither hinder an init nor go with a replacement.
func TestInitBesideServers(t *testing.T) {
	st := newStore()
	for _, replace := range []bool{false, true} {
		err := st.Update(ctx, func(tx store.Tx) error { return tx.Put(PresencePrefix+"a", []byte("here")) })
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Init(ctx, st, InitParams{Shares: 3, Threshold: 2, Now: born, Replace: replace}); err != nil {
			t.Fatalf("replace %v: %v", replace, err)
		}
		if string(dump(t, st)[PresencePrefix+"a"]) != "here" {
			t.Errorf("replace %v: the server's record is gone", replace)
		}
	}
}

func TestInitOverRepeatingStore(t *testing.T) {
	c := initCluster(t, storetest.Rerun(newStore()), 3, 2)
	c.mustOpen(t, c.unsealer(), 3, 1)
}

// failing gives good random bytes until it fails.
type failing struct {
	source io.Reader
	left   int
}

func (f *failing) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n := min(len(p), f.left)
	f.left -= n
	return f.source.Read(p[:n])
}

// dripping gives one byte at a time, which is allowed.
type dripping struct{ io.Reader }

func (d dripping) Read(p []byte) (int, error) { return d.Reader.Read(p[:min(1, len(p))]) }

// T42: random bytes end at every place where they can.
func TestInitWithFailingRandomness(t *testing.T) {
	for _, test := range []struct{ n, threshold, need int }{
		{1, 1, 16 + 32 + 32}, {5, 3, 16 + 32 + 32 + 2*32},
	} {
		for left := range test.need {
			st := newStore()
			source := &failing{source: rand.NewChaCha8([32]byte{1}), left: left}
			res, err := Init(ctx, st, InitParams{Shares: test.n, Threshold: test.threshold, Now: born, Rand: source})
			if err == nil || res != nil || fault.As(err) != nil {
				t.Fatalf("%d random bytes were enough: %v", left, err)
			}
			if all := dump(t, st); len(all) != 0 {
				t.Fatalf("with %d random bytes %d records were written", left, len(all))
			}
		}
		c := &cluster{Store: newStore(), now: born}
		exact := &failing{source: rand.NewChaCha8([32]byte{1}), left: test.need}
		c.init(t, InitParams{Shares: test.n, Threshold: test.threshold, Now: born, Rand: dripping{exact}, Fill: fill})
		if exact.left != 0 {
			t.Errorf("%d random bytes were not asked for", exact.left)
		}
		c.mustOpen(t, c.unsealer(), []int{1, 2, 3}[:test.threshold]...)
	}
}

// T44: the commit of init fails. Either there is no cluster, or init can be repeated for one with known shares.
func TestInitCrashes(t *testing.T) {
	for _, mode := range []storetest.Mode{storetest.Lost, storetest.Kept} {
		for n := 1; ; n++ {
			faulty := storetest.NewFaulty(newStore())
			faulty.FailCommit(n, mode)
			c := &cluster{Store: faulty, now: born}
			p := InitParams{Shares: 3, Threshold: 2, Now: born, Fill: fill}
			res, err := Init(ctx, faulty, p)
			if err == nil {
				if n != 2 {
					t.Errorf("%v: init took %d commits", mode, n-1)
				}
				break
			}
			if res != nil || !errors.Is(err, store.ErrUnknownOutcome) {
				t.Errorf("%v: the failure came out as %v, %v", mode, res, err)
			}
			faulty.Recover()
			if rec, err := Load(reading(t, faulty)); err != nil || (rec != nil) != (mode == storetest.Kept) {
				t.Errorf("%v: the record is %v, %v", mode, rec, err)
			}
			p.Replace = mode == storetest.Kept
			c.init(t, p)
			c.mustOpen(t, c.unsealer(), 2, 3)
		}
	}
}
