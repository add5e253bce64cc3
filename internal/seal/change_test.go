package seal

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
)

// hand is what the holders of one generation have.
type hand struct {
	number    uint64
	threshold int
	shares    [][]byte
}

func (h hand) share(slot int) secret.Bytes { return secret.Copy(h.shares[slot-1]) }

// first is the hand of the generation that init made.
func (c *cluster) first(threshold int) hand { return hand{1, threshold, c.shares} }

// opens unseals with a quorum of h, and says what was in the way.
func (c *cluster) opens(t testing.TB, h hand, local bool) (*Opened, error) {
	t.Helper()
	u := c.unsealer()
	defer u.Close()
	for slot := 1; slot <= h.threshold; slot++ {
		_, opened, err := u.Submit(ctx, h.share(slot), local, yes, nil)
		if opened != nil {
			t.Cleanup(func() { opened.Barrier.Close() })
		}
		if opened != nil || err != nil {
			return opened, err
		}
	}
	return nil, nil
}

func (c *cluster) mustOpenBy(t testing.TB, h hand) *Opened {
	t.Helper()
	o, err := c.opens(t, h, false)
	if o == nil {
		t.Fatalf("the quorum of generation %d doesn't open: %v", h.number, err)
	}
	if o.UnsealedGeneration != h.number || len(o.UnsealedBy) != h.threshold {
		t.Errorf("opened by generation %d, slots %v; want generation %d", o.UnsealedGeneration, o.UnsealedBy, h.number)
	}
	if got := string(raw(t, o.Barrier, "domain/first")); got != "a record of the domain" {
		t.Errorf("behind the barrier is %q", got)
	}
	return o
}

// step is one change of the record.
type step func(o *Opened, tx store.Tx) (*Record, error)

func commit(keepOld bool) step {
	return func(o *Opened, tx store.Tx) (*Record, error) { return o.Commit(tx, keepOld) }
}

func abort(o *Opened, tx store.Tx) (*Record, error)  { return o.Abort(tx) }
func retire(o *Opened, tx store.Tx) (*Record, error) { return o.Retire(tx) }

func prepare(g *NewGeneration) step {
	return func(o *Opened, tx store.Tx) (*Record, error) { return o.Prepare(tx, g) }
}

func relabel(labels ...string) step {
	return func(o *Opened, tx store.Tx) (*Record, error) { return o.Relabel(tx, labels) }
}

func do(o *Opened, s step) (rec *Record, err error) {
	err = o.Barrier.Update(ctx, func(tx store.Tx) error {
		rec, err = s(o, tx)
		return err
	})
	return rec, err
}

func must(t testing.TB, o *Opened, s step) *Record {
	t.Helper()
	rec, err := do(o, s)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func rotateRoot(o *Opened) error {
	next, err := o.Barrier.PrepareRoot()
	if err != nil {
		return err
	}
	_, err = do(o, func(o *Opened, tx store.Tx) (*Record, error) { return o.RotateRoot(tx, next, born) })
	next.Close(err == nil || errors.Is(err, store.ErrUnknownOutcome))
	return err
}

func makeNext(t testing.TB, rec *Record, n, threshold int) (*NewGeneration, hand) {
	t.Helper()
	g, err := MakeGeneration(nil, rec, GenerationParams{Shares: n, Threshold: threshold})
	if err != nil {
		t.Fatal(err)
	}
	h := hand{number: g.Number, threshold: threshold}
	for _, s := range g.Shares {
		h.shares = append(h.shares, s.Reveal())
	}
	return g, h
}

func states(r *Record) string {
	var out []string
	for i := range r.generations {
		g := &r.generations[i]
		state := "active"
		switch {
		case r.pending(g):
			state = "pending"
		case r.retiring(g):
			state = "retiring"
		case r.former(g):
			state = "former"
		}
		if (state == "former") != (g.wrapped == nil && g.public == nil) {
			state += " with the wrong keys"
		}
		out = append(out, fmt.Sprint(g.Number, " ", state))
	}
	return strings.Join(out, ", ")
}

// The life of generations, and that what a change returns is what is stored, with a copy and a new stamp.
func TestGenerations(t *testing.T) {
	c := initCluster(t, newStore(), 3, 2)
	o := c.mustOpen(t, c.unsealer(), 1, 2)
	var made *NewGeneration
	next := func(o *Opened, tx store.Tx) (*Record, error) {
		rec, err := o.Record(tx)
		if err != nil {
			return nil, err
		}
		made, _ = makeNext(t, rec, 2, 2)
		return o.Prepare(tx, made)
	}
	for i, test := range []struct {
		step step
		want string
	}{
		{next, "1 active, 2 pending"},
		{abort, "1 active"},
		{next, "1 active, 3 pending"},
		{commit(true), "1 retiring, 3 active"},
		{next, "1 retiring, 3 active, 4 pending"},
		{abort, "1 retiring, 3 active"},
		{next, "1 retiring, 3 active, 5 pending"},
		{commit(true), "1 former, 3 retiring, 5 active"},
		{relabel("ann", "bob"), "1 former, 3 retiring, 5 active"},
		{retire, "3 former, 5 active"},
		{next, "3 former, 5 active, 6 pending"},
		{commit(false), "5 former, 6 active"},
		{next, "5 former, 6 active, 7 pending"},
		{commit(true), "5 former, 6 retiring, 7 active"},
		{next, "5 former, 6 retiring, 7 active, 8 pending"},
		{commit(false), "7 former, 8 active"},
	} {
		stamp := raw(t, c, barrier.StampKey)
		rec := must(t, o, test.step)
		if got := states(rec); got != test.want {
			t.Fatalf("step %d leads to %s; want %s", i, got, test.want)
		}
		stored := c.record(t)
		if states(stored) != test.want || !bytes.Equal(stored.sum, rec.sum) || rec.damaged {
			t.Fatalf("step %d returns another record than it stores", i)
		}
		if !bytes.Equal(raw(t, c, recordKey), raw(t, o.Barrier, copyKey)) || bytes.Equal(stamp, raw(t, c, barrier.StampKey)) {
			t.Fatalf("step %d leaves the copy or the stamp as it was", i)
		}
	}
}

func TestChangesRefused(t *testing.T) {
	c := initCluster(t, newStore(), 3, 2)
	o := c.mustOpen(t, c.unsealer(), 1, 2)
	g, _ := makeNext(t, c.record(t), 3, 2)
	foreign, _ := makeNext(t, initCluster(t, newStore(), 3, 2).record(t), 3, 2)
	before := raw(t, c, recordKey)
	refuse := func(name string, s step, want error) {
		t.Helper()
		if rec, err := do(o, s); rec != nil || !errors.Is(err, want) {
			t.Errorf("%s: %+v, %v; want %v", name, rec, err, want)
		}
	}
	refuse("commit of nothing", commit(false), errNoPending)
	refuse("abort of nothing", abort, errNoPending)
	refuse("retirement of nothing", retire, errNoRetiring)
	refuse("another cluster's generation", prepare(foreign), ErrOtherNumber)
	for _, labels := range [][]string{nil, {"a", "b"}, {"a", "b", "c", "d"}, {"a", "b", "c\n"}, {"a", "b", strings.Repeat("c", 201)}} {
		_, err := do(o, relabel(labels...))
		wantFault(t, err, fault.Invalid, "label")
	}
	if !bytes.Equal(raw(t, c, recordKey), before) {
		t.Error("a refused change changed the record")
	}
	must(t, o, prepare(g))
	refuse("the same again", prepare(g), errPendingThere)
	must(t, o, abort)
	refuse("an aborted generation", prepare(g), ErrOtherNumber)
	for _, p := range []GenerationParams{{Shares: 256, Threshold: 2}, {Shares: 3, Threshold: 1}, {}, {Shares: 2, Threshold: 2, Labels: []string{"a"}}} {
		made, err := MakeGeneration(nil, c.record(t), p)
		if wantFault(t, err, fault.Invalid, ""); made != nil {
			t.Errorf("%+v was made", p)
		}
	}
	if made, err := MakeGeneration(&failing{}, c.record(t), GenerationParams{Shares: 3, Threshold: 2}); made != nil || err == nil {
		t.Error("made without random bytes")
	}
	putRaw(t, c, recordKey, edit(t, raw(t, c, recordKey), true, func(_ *body, h *table) { (*h)[0][0].Label = "eve" }))
	g, _ = makeNext(t, c.record(t), 3, 2)
	for name, s := range map[string]step{"prepare": prepare(g), "commit": commit(true), "abort": abort, "retire": retire, "relabel": relabel("a", "b", "c")} {
		refuse(name+" on a record changed outside", s, ErrTampered)
	}
	if err := rotateRoot(o); err != ErrTampered {
		t.Errorf("a rotation on a record changed outside: %v", err)
	}
}

// T17, T19: what a share of each generation is told, before and after a removal of a holder.
func TestSharesOfOtherGenerations(t *testing.T) {
	c := initCluster(t, newStore(), 3, 2)
	one := c.first(2)
	o := c.mustOpenBy(t, one)
	g, two := makeNext(t, c.record(t), 2, 2)
	rec := must(t, o, prepare(g))
	check := func(name string, share secret.Bytes, wantSlot int, sentence string) {
		t.Helper()
		slot, key, err := rec.Check(share)
		if slot != wantSlot || (key == nil) != (wantSlot == 0) {
			t.Errorf("%s: slot %d", name, slot)
		}
		if wantSlot == 0 {
			wantFault(t, err, fault.Invalid, sentence)
		}
	}
	wantOld := func(name string, share secret.Bytes, number uint64, slot int) {
		t.Helper()
		check(name, share, 0, fmt.Sprintf("the key share is of an old generation (number %d): it was replaced by a rekey; use the share of the present generation", number))
		_, _, err := rec.Check(share)
		var old *OldShare
		if !errors.As(err, &old) || *old != (OldShare{number, slot}) {
			t.Errorf("%s: the error is %#v", name, err)
		}
	}
	pendingCheck := func(share secret.Bytes, wantSlot int, sentence string) {
		t.Helper()
		slot, key, err := rec.CheckPending(share)
		if slot != wantSlot || (key == nil) != (wantSlot == 0) {
			t.Errorf("as pending: slot %d, %v", slot, err)
		}
		if wantSlot == 0 {
			wantFault(t, err, fault.Invalid, sentence)
			return
		}
		s := holder.Statement{Action: holder.ActionProve, ClusterID: c.id, Generation: two.number, Slot: slot, Mode: holder.ModeShare}
		if v, _ := rec.Pending().Verifier(slot); !holder.Verify(v, s, key.Sign(s)) {
			t.Error("the verifier refuses the new holder's signature")
		}
	}
	check("present", one.share(3), 3, "")
	check("pending", two.share(2), 0, "not in force yet")
	pendingCheck(two.share(1), 1, "")
	pendingCheck(one.share(1), 0, "of the present generation")
	pendingCheck(secret.Own(append(junk(32), 1)), 0, "slot 1 is not valid")
	pendingCheck(secret.Own(append(junk(32), 3)), 0, "none of this cluster's 2 slots")

	rec = must(t, o, commit(true))
	check("new", two.share(1), 1, "")
	wantOld("retiring", one.share(1), 1, 1)
	wantOld("removed holder, retiring", one.share(3), 1, 3)
	pendingCheck(two.share(1), 0, "no new generation")
	rec = must(t, o, retire)
	wantOld("former", one.share(2), 1, 2)
	wantOld("removed holder, former", one.share(3), 1, 3)
	check("junk", secret.Own(append(junk(32), 2)), 0, "slot 2 is not valid")

	g, three := makeNext(t, rec, 1, 1)
	must(t, o, prepare(g))
	rec = must(t, o, commit(false))
	check("the only share", three.share(1), 1, "")
	wantOld("former, of another length", two.share(2), 2, 2)
	check("forgotten", one.share(1), 0, "wrong length")
	putRaw(t, c, recordKey, bytes.Replace(raw(t, c, recordKey), []byte("[["), []byte("[x"), 1))
	rec = c.record(t)
	for _, err := range []error{second(rec.Check(two.share(1))), second(rec.CheckPending(two.share(1)))} {
		if err != ErrDamagedTable {
			t.Errorf("in a damaged table: %v", err)
		}
	}
}

func second(_ int, _ *holder.Key, err error) error { return err }

// While a generation is retiring, either quorum unseals, and no mixture of the two.
func TestUnsealWhileRetiring(t *testing.T) {
	c := initCluster(t, newStore(), 5, 3)
	one := c.first(3)
	o := c.mustOpenBy(t, one)
	g, two := makeNext(t, c.record(t), 3, 2)
	must(t, o, prepare(g))
	must(t, o, commit(true))
	u := c.unsealer()
	submit := func(h hand, slot int) (Progress, *Opened) {
		t.Helper()
		p, opened, err := u.Submit(ctx, h.share(slot), false, yes, nil)
		if err != nil {
			t.Fatal(err)
		}
		return p, opened
	}
	p, _ := submit(one, 1)
	if want := (Progress{Threshold: 2, Shares: 3, Nonce: p.Nonce, RetiringGiven: 1, RetiringThreshold: 3, RetiringShares: 5}); p != want || p.Nonce == "" {
		t.Errorf("a retiring share: %+v", p)
	}
	submit(two, 1)
	p, opened := submit(one, 2)
	if p.Given != 1 || p.RetiringGiven != 2 || opened != nil {
		t.Errorf("one new and two old shares: %+v, %v", p, opened)
	}
	must(t, o, relabel("a", "b", "c")) // an open server changes the record: the shares given stay good
	if err := rotateRoot(o); err != nil {
		t.Fatal(err)
	}
	if _, opened = submit(one, 5); opened == nil || opened.UnsealedGeneration != 1 || fmt.Sprint(opened.UnsealedBy) != "[1 2 5]" {
		t.Fatalf("the quorum of the old generation: %+v", opened)
	}
	opened.Barrier.Close()
	c.mustOpenBy(t, two)
	submit(one, 1)
	submit(one, 2)
	if _, err := u.Reset(ctx, one.share(3), false, no(t)); err != ErrResetDenied {
		t.Errorf("a reset by a retiring holder: %v", err)
	}
	must(t, o, retire)
	if _, err := c.opens(t, one, false); err == nil || !errors.As(err, new(*OldShare)) {
		t.Errorf("a retired quorum: %v", err)
	}
	c.mustOpenBy(t, two)
}

// Former, aborted and pending generations don't open, whatever is damaged; the live ones do.
func TestDamagedTableOfGenerations(t *testing.T) {
	c := initCluster(t, newStore(), 3, 2)
	one := c.first(2)
	o := c.mustOpenBy(t, one)
	prepared := func() hand {
		g, h := makeNext(t, c.record(t), 3, 2)
		must(t, o, prepare(g))
		return h
	}
	aborted := prepared()
	withAborted := raw(t, c, recordKey)
	must(t, o, abort)
	two := prepared()
	must(t, o, commit(true))
	three := prepared()
	must(t, o, commit(true))
	four := prepared()
	good := raw(t, c, recordKey)
	dead := map[string]hand{"aborted": aborted, "former": one, "pending": four}
	// Old records put back, damaged so that they pass for an accident, and records with another active number.
	damaged := map[string][]byte{
		"table":      bytes.Replace(good, []byte("[["), []byte("[x"), 1),
		"active":     edit(t, good, false, func(b *body, _ *table) { b.Active = four.number }),
		"nothing":    edit(t, good, false, func(b *body, _ *table) { b.Active = 0 }),
		"old record": bytes.Replace(withAborted, []byte("[["), []byte("[x"), 1),
		"old active": edit(t, withAborted, false, func(b *body, _ *table) { b.Active = aborted.number }),
	}
	for damage, stored := range damaged {
		for name, h := range dead {
			putRaw(t, c, recordKey, stored)
			if opened, err := c.opens(t, h, true); opened != nil || err == nil {
				t.Errorf("%s: the %s generation: %v, %v", damage, name, opened, err)
			}
			if !bytes.Equal(raw(t, c, recordKey), stored) {
				t.Errorf("%s: the %s generation made the record change", damage, name)
			}
		}
		if strings.HasPrefix(damage, "old") {
			continue
		}
		for _, h := range []hand{two, three} {
			putRaw(t, c, recordKey, stored)
			opened, err := c.opens(t, h, true)
			if opened == nil || !opened.Repaired || opened.UnsealedGeneration != h.number || !bytes.Equal(raw(t, c, recordKey), good) {
				t.Errorf("%s: generation %d: %+v, %v", damage, h.number, opened, err)
			}
		}
	}
}

func TestAccept(t *testing.T) {
	c := &cluster{Store: newStore(), now: born}
	c.init(t, InitParams{Shares: 3, Threshold: 2, Labels: []string{"ann", "bob", "eve"}, Now: born, Fill: fill})
	u := c.unsealer()
	refusal := errors.New("the transcript can't be written")
	var got []Accepted
	take := func(a Accepted) error {
		s := holder.Statement{Action: holder.ActionUnseal, ClusterID: a.ClusterID, Generation: a.Generation, Slot: a.Slot, Mode: holder.ModeShare}
		if a.Key != nil {
			if v, _ := c.record(t).Generation().Verifier(a.Slot); !holder.Verify(v, s, a.Key.Sign(s)) {
				t.Error("the holder key is not that of the slot")
			}
		}
		a.Key = nil
		got = append(got, a)
		return nil
	}
	refuse := func(Accepted) error { return refusal }
	for range 2 {
		if p, opened, err := u.Submit(ctx, c.share(2), false, refuse, nil); err != refusal || opened != nil || p.Given != 0 || p.Nonce != "" {
			t.Errorf("a share that was not accepted: %+v, %v", p, err)
		}
	}
	if u.round != nil {
		t.Error("a round without shares is left")
	}
	p, _, err := u.Submit(ctx, c.share(2), false, take, nil)
	if want := (Accepted{Generation: 1, Slot: 2, Label: "bob", ClusterID: c.id, Round: p.Nonce}); err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("accepted: %+v, %v; want %+v", got, err, want)
	}
	if _, _, err := u.Submit(ctx, c.share(2), false, refuse, nil); err != nil {
		t.Errorf("a repetition: %v", err)
	}
	if after, opened, err := u.Submit(ctx, c.share(1), false, refuse, nil); err != refusal || opened != nil || after != p {
		t.Errorf("the last share, not accepted: %+v, %v, %v", after, opened, err)
	}
	if _, err := u.Reset(ctx, c.share(2), false, refuse); err != refusal {
		t.Errorf("a reset, not accepted: %v", err)
	}
	wantGiven(t, u, 1)
	got = nil
	u.Reset(ctx, c.share(3), true, take)
	u.Reset(ctx, secret.Bytes{}, true, take) // nothing is left to reset
	again, _, _ := u.Submit(ctx, c.share(3), false, yes, nil)
	u.Reset(ctx, secret.Bytes{}, true, take)
	want := fmt.Sprint([]Accepted{
		{Generation: 1, Slot: 3, Label: "eve", ClusterID: c.id, Round: p.Nonce}, {ClusterID: c.id, Round: again.Nonce},
	})
	if fmt.Sprint(got) != want {
		t.Errorf("resets: %v, want %v", got, want)
	}
	got = nil
	if _, err := u.Reset(ctx, secret.Own(append(junk(32), 1)), false, take); err != ErrResetDenied || len(got) != 0 {
		t.Errorf("a stranger's reset: %v, %v", got, err)
	}
	putRaw(t, c, recordKey, bytes.Replace(raw(t, c, recordKey), []byte("[["), []byte("[x"), 1))
	p, _, err = u.Submit(ctx, c.share(1), true, take, nil)
	if want := (Accepted{Slot: 1, ClusterID: c.id, Round: p.Nonce}); err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("in a damaged table: %+v, %v", got, err)
	}
}

// A share is checked without any effect before it waits for its turn; one that is of an old generation hands out its
// key, so that the refusal can be signed.
func TestPrecheck(t *testing.T) {
	c := initCluster(t, newStore(), 3, 2)
	one := c.first(2)
	o := c.mustOpenBy(t, one)
	g, two := makeNext(t, c.record(t), 2, 2)
	must(t, o, prepare(g))
	rec := must(t, o, commit(true))
	u := c.unsealer()
	heard := 0
	hear := func(want uint64) func(Accepted) error {
		return func(a Accepted) error {
			heard++
			s := holder.Statement{Action: holder.ActionUnseal, ClusterID: c.id, Generation: want, Slot: a.Slot, Mode: holder.ModeShare}
			if v, _ := rec.Former().Verifier(a.Slot); a.Generation != want || a.ClusterID != c.id || !holder.Verify(v, s, a.Key.Sign(s)) {
				t.Errorf("%+v", a)
			}
			return nil
		}
	}
	check := func(name string, share secret.Bytes, sentence string) {
		t.Helper()
		kept := bytes.Clone(share.Reveal())
		for _, err := range []error{u.Precheck(ctx, share, false, hear(1)), u.PrecheckReset(ctx, share, hear(1))} {
			if sentence == "" && err != nil || sentence != "" && fault.As(err) == nil {
				t.Errorf("%s: %v", name, err)
			} else if sentence != "" && err != ErrResetDenied {
				wantFault(t, err, fault.Invalid, sentence)
			}
		}
		if !bytes.Equal(share.Reveal(), kept) {
			t.Errorf("%s: the share was wiped", name)
		}
	}
	check("present", two.share(1), "")
	check("retiring", one.share(1), "")
	check("junk", secret.Own(append(junk(32), 2)), "slot 2 is not valid")
	check("nothing", secret.Bytes{}, "wrong length")
	if heard > 0 {
		t.Error("somebody heard of a share that isn't old")
	}
	rec = must(t, o, retire)
	check("former", one.share(2), "of an old generation")
	if heard != 2 {
		t.Errorf("%d refusals were heard of", heard)
	}
	refusal := errors.New("the transcript can't be written")
	if err := u.Precheck(ctx, one.share(1), false, func(Accepted) error { return refusal }); err != refusal {
		t.Error(err)
	}
	if err := u.PrecheckReset(ctx, one.share(1), func(Accepted) error { return refusal }); err != refusal {
		t.Error(err)
	}
	wantGiven(t, u, 0)
}
