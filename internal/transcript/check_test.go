package transcript

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
)

// change edits the stored value of a key: a function that returns nil deletes it.
func change(t testing.TB, st store.Store, key string, edit func(value []byte) []byte) {
	t.Helper()
	update(t, st, func(tx store.Tx) error {
		values, err := tx.Get(key)
		if err != nil {
			return err
		}
		if value := edit(bytes.Clone(values[0])); value != nil {
			return tx.Put(key, value)
		}
		return tx.Delete(key)
	})
}

func gone([]byte) []byte       { return nil }
func torn(value []byte) []byte { return value[:len(value)/2] }
func stub(value []byte) []byte { return value[:7] }
func flip(value []byte) []byte { value[len(value)-2] ^= 1; return value }
func grow(value []byte) []byte { return append(value, 'x') }
func flipHash(value []byte) []byte {
	value[0] ^= 1
	return value
}

// TestT50 damages the storage of a log in which everything is signed, and starts again: the prefix that is whole stays
// provable, the damage is reported, and appending continues.
func TestT50(t *testing.T) {
	for _, c := range []struct {
		name  string
		size  int
		key   string
		edit  func([]byte) []byte
		whole int64 // -1: nothing is to be repaired
		says  string
	}{
		{"untouched", 100, recordKey(3), func(v []byte) []byte { return v }, -1, ""},
		{"empty", 0, "other", func([]byte) []byte { return []byte("x") }, -1, ""},
		{"last torn", 100, recordKey(99), torn, 99, "entry 99"},
		{"last stub", 100, recordKey(99), stub, 99, "entry 99 is torn"},
		{"last missing", 100, recordKey(99), gone, 99, "last entry is missing"},
		{"last changed", 100, recordKey(99), flip, 99, "entry 99"},
		{"last grown", 100, recordKey(99), grow, 99, "entry 99"},
		{"last of a whole subtree missing", 64, recordKey(63), gone, 63, "last entry"},
		{"last of a whole subtree changed", 128, recordKey(127), flipHash, 127, "entry 127"},
		{"only one missing", 1, recordKey(0), gone, 0, "last entry"},
		{"only one torn", 1, recordKey(0), torn, 0, "entry 0"},
		{"middle missing", 50, recordKey(20), gone, 20, "entry 20 is missing"},
		{"middle torn", 50, recordKey(20), torn, 20, "entry 20"},
		{"middle stub", 50, recordKey(21), stub, 21, "entry 21 is torn"},
		{"middle changed", 50, recordKey(20), flip, 20, "entry 20 doesn't match"},
		{"first missing", 50, recordKey(0), gone, 0, "entry 0 is missing"},
		{"head missing", 50, headKey, gone, 50, "head is damaged"},
		{"head torn", 50, headKey, torn, 50, "head is damaged"},
		{"head changed", 50, headKey, flip, 50, "head is damaged"},
		{"head emptied", 50, headKey, func([]byte) []byte { return []byte{} }, 50, "head is damaged"},
		{"head of the empty log", 50, headKey, func([]byte) []byte { return (&edge{}).encode() }, 50, "doesn't count"},
		{"head with other peaks", 50, headKey, func([]byte) []byte { return (&edge{size: 50, peaks: make([]tlog.Hash, 3)}).encode() }, 50, "last entry"},
		{"a record behind the end", 50, recordKey(50), func([]byte) []byte { return []byte("x") }, 50, "entry 50 is torn"},
		{"a record of no index", 50, recordPrefix + "zz", func([]byte) []byte { return []byte("x") }, 50, "entry 50 is missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, st := signer(t), inmem.New()
			var heads []Head
			for i := range c.size {
				heads = append(heads, headOf(t, st))
				appendAll(t, st, s, Entry{Time: epoch, Event: Alarm, Detail: fmt.Sprint(i)})
			}
			heads = append(heads, headOf(t, st))
			change(t, st, c.key, c.edit)
			var problem string
			update(t, st, func(tx store.Tx) (err error) {
				problem, err = Repair(tx)
				return err
			})
			if !strings.Contains(problem, c.says) || (problem == "") != (c.whole < 0) {
				t.Fatalf("the problem is %q, want %q", problem, c.says)
			}
			if c.whole < 0 {
				return
			}
			if got := headOf(t, st); got != heads[c.whole] {
				t.Fatalf("the head is of %d entries, want the one of %d", got.Size, c.whole)
			}
			wantProvable(t, st, heads[:c.whole+1])
			wantShrunk(t, st, s, heads, c.whole)
			appendAll(t, st, s, Entry{Time: epoch, Event: Alarm, Detail: problem})
			wantWhole(t, st, s, c.whole+1)
			update(t, st, func(tx store.Tx) error {
				if problem, err := Repair(tx); problem != "" || err != nil {
					t.Error("a second repair found", problem, err)
				}
				return nil
			})
		})
	}
}

func wantProvable(t *testing.T, st store.Store, heads []Head) {
	t.Helper()
	leaves := [][]byte{}
	if len(heads) > 1 {
		leaves = leavesOf(t, st)
	}
	last := heads[len(heads)-1]
	if int64(len(leaves)) != last.Size {
		t.Fatalf("%d leaves can be read, want %d", len(leaves), last.Size)
	}
	view(t, st, func(r store.Reader) error {
		for i := range last.Size {
			p, err := Inclusion(r, i, last.Size)
			if err != nil || tlog.CheckRecord(p, last.Size, last.Root, i, tlog.RecordHash(leaves[i])) != nil {
				t.Errorf("entry %d isn't provable: %v", i, err)
			}
			p, err = Consistency(r, i, last.Size)
			if err != nil || VerifyConsistency(heads[i], last, p) != nil {
				t.Errorf("size %d isn't provable: %v", i, err)
			}
		}
		return nil
	})
}

// wantShrunk: what was cut off stays aside, and both the checkpoint and a node's mark tell that it is missing.
func wantShrunk(t *testing.T, st store.Store, s *Signer, heads []Head, whole int64) {
	t.Helper()
	last := heads[len(heads)-1]
	view(t, st, func(r store.Reader) error {
		tail, err := CheckTail(r, s, verifiers)
		mark, err2 := CheckMark(r, Mark{Size: last.Size, Root: last.Root})
		if shrunk := whole < last.Size; err != nil || err2 != nil || (len(tail) == 1) != shrunk || (mark != "") != shrunk {
			t.Errorf("%d of %d entries remain: %q, %q, %v, %v", whole, last.Size, tail, mark, err, err2)
		}
		return nil
	})
}

// TestDamageFurtherBack: what appending doesn't need is not looked at, and not cut off.
func TestDamageFurtherBack(t *testing.T) {
	s, st := signer(t), inmem.New()
	for range 200 {
		appendAll(t, st, s, Entry{Time: epoch, Event: Sealed})
	}
	early := headOf(t, st)
	change(t, st, recordKey(70), gone)
	update(t, st, func(tx store.Tx) error {
		if problem, err := Repair(tx); problem != "" || err != nil {
			t.Error(problem, err)
		}
		_, err := Append(tx, s, Entry{Time: epoch, Event: Alarm})
		return err
	})
	view(t, st, func(r store.Reader) error {
		problems, err := Verify(t.Context(), r)
		if err != nil || len(problems) == 0 || problems[0] != "entry 70 is missing" {
			t.Error(problems, err)
		}
		leaves, err := Read(r, 60, 20)
		if err != nil || len(leaves) != 10 {
			t.Errorf("%d leaves before the damage, %v", len(leaves), err)
		}
		if _, err := Read(r, 70, 1); err == nil {
			t.Error("the damaged entry is read")
		}
		if _, err := Inclusion(r, 71, 200); err == nil {
			t.Error("a proof that needs the damaged entry is given")
		}
		if _, err := Inclusion(r, 3, 64); err != nil {
			t.Error(err)
		}
		p, err := Consistency(r, 200, 201)
		if err != nil || VerifyConsistency(early, headOf(t, st), p) != nil {
			t.Error("the log can't be shown to go on:", err)
		}
		return nil
	})
}

// TestPutAsideTwice damages the same index again: the older record isn't overwritten.
func TestPutAsideTwice(t *testing.T) {
	st := inmem.New()
	for i := range 2 {
		appendAll(t, st, nil, Entry{Time: epoch, Event: Alarm, Detail: fmt.Sprint(i)})
		change(t, st, recordKey(0), torn)
		update(t, st, func(tx store.Tx) error {
			_, err := Repair(tx)
			return err
		})
	}
	n := 0
	view(t, st, func(r store.Reader) error {
		for _, err := range r.Scan(asidePrefix, "") {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if n != 2 {
		t.Errorf("%d records are aside, want 2", n)
	}
}

// TestCheckTail continues a signed log while sealed, and as somebody who writes to the storage.
func TestCheckTail(t *testing.T) {
	s := signer(t)
	other, _, err := NewSigner(cluster, strings.NewReader(strings.Repeat("x", 32)))
	if err != nil {
		t.Fatal(err)
	}
	forged := unsealShare(4)
	unchecked := Entry{Time: epoch, Event: UnsealShare, Round: "r", Shared: true, Detail: UncheckedShare}
	but := func(e Entry, change func(e *Entry)) []Entry { change(&e); return []Entry{e} }
	a := newAttempt(ceremony.RootToken, "n", 2)
	refused := Entry{Time: epoch, Event: Refused, Generation: 2, Slot: 3, Signature: []byte("later"), Mode: holder.ModeShare}
	for _, c := range []struct {
		name string
		tail []Entry
		then func(st *inmem.Store)
		says string
	}{
		{"nothing", nil, nil, ""},
		{"shares", []Entry{unsealShare(1), unsealShare(2), {Time: epoch, Event: UnsealReset}, unsealShare(1)}, nil, ""},
		{"alarm", []Entry{{Time: epoch, Event: Alarm, Detail: "x"}}, nil, ""},
		{"sealed", []Entry{{Time: epoch, Event: Sealed}}, nil, "doesn't happen while sealed"},
		{"refused, signed", []Entry{refused}, nil, ""},
		{"refused, unsigned", but(refused, func(e *Entry) { e.Signature = nil }), nil, "slot 3"},
		{"refused, of no slot", []Entry{{Time: epoch, Event: Refused, Detail: "x"}}, nil, "slot 0"},
		{"unsigned share", but(unsealShare(1), func(e *Entry) { e.Signature = nil }), nil, "slot 1"},
		{"share of no slot", []Entry{{Time: epoch, Event: UnsealShare}}, nil, "slot 0"},
		{"unchecked share", []Entry{unchecked, unchecked}, nil, ""},
		{"unchecked, of a slot", but(unchecked, func(e *Entry) { e.Slot = 1 }), nil, "slot 1"},
		{"unchecked, of a generation", but(unchecked, func(e *Entry) { e.Generation = 1 }), nil, "slot 0"},
		{"unchecked, of a name", but(unchecked, func(e *Entry) { e.Label = "x" }), nil, "slot 0"},
		{"unchecked, of another reason", but(unchecked, func(e *Entry) { e.Detail += "." }), nil, "slot 0"},
		{"unchecked, a reset", but(unchecked, func(e *Entry) { e.Event, e.Slot = UnsealReset, 1 }), nil, "slot 1"},
		{"another round", []Entry{unsealShare(1)}, func(st *inmem.Store) {
			e := placed(endOf(t, st), unsealShare(1))[0]
			e.Round = "round-2"
			appendAll(t, st, nil, e)
		}, "slot 1"},
		{"the same share twice", []Entry{unsealShare(1)}, func(st *inmem.Store) {
			leaves := leavesOf(t, st)
			appendLeaf(t, st, string(leaves[len(leaves)-1]))
		}, fmt.Sprintf("entry %d (\"unseal-share\") was made for another place", len(story())+1)},
		{"an old share again", nil, func(st *inmem.Store) { appendLeaf(t, st, string(leavesOf(t, st)[1])) }, "another place"},
		{"an old reset again", nil, func(st *inmem.Store) { appendLeaf(t, st, string(leavesOf(t, st)[2])) }, "another place"},
		{"another mode", nil, func(st *inmem.Store) {
			e := placed(endOf(t, st), unsealShare(1))[0]
			e.Mode = holder.ModeSignature
			appendAll(t, st, nil, e)
		}, "slot 1"},
		{"nobody's slot", []Entry{forged}, nil, "slot 4"},
		{"unsealed", []Entry{{Time: epoch, Event: Unsealed}}, nil, "doesn't happen while sealed"},
		{"an approval", []Entry{start(a), approve(a, 1, holder.ModeShare)}, nil, "doesn't happen while sealed"},
		{"new holders", []Entry{{Time: epoch, Event: Generation, Generation: 3, Threshold: 1, Holders: holders(1, 1)}}, nil, "doesn't happen while sealed"},
		{"unknown event", []Entry{{Time: epoch, Event: "future"}}, nil, "doesn't happen while sealed"},
		{"cut off", nil, func(st *inmem.Store) { cut(t, st, 5) }, "shrunk"},
		{"checkpoint removed", nil, func(st *inmem.Store) { change(t, st, checkpointKey, gone) }, "checkpoint is missing"},
		{"checkpoint torn", nil, func(st *inmem.Store) { change(t, st, checkpointKey, torn) }, "damaged or forged"},
		{"signed by another", []Entry{unsealShare(1)}, func(st *inmem.Store) {
			update(t, st, func(tx store.Tx) error {
				return sign(tx, other)
			})
		}, "damaged or forged"},
		{"rewritten", nil, func(st *inmem.Store) {
			text := checkpointOf(t, st)
			cut(t, st, 5)
			for range 40 {
				appendAll(t, st, nil, Entry{Time: epoch, Event: Alarm})
			}
			change(t, st, checkpointKey, func([]byte) []byte { return text })
		}, "rewritten"},
		{"peak removed", nil, func(st *inmem.Store) { change(t, st, recordKey(15), gone) }, "can't be read"},
		{"tail entry changed", []Entry{unsealShare(1), unsealShare(2)}, func(st *inmem.Store) {
			change(t, st, recordKey(int64(len(story()))), flip)
		}, "doesn't match its hashes"},
		{"head put back", []Entry{unsealShare(1), unsealShare(2)}, func(st *inmem.Store) {
			update(t, st, func(tx store.Tx) error {
				e, err := edgeAt(tx, int64(len(story()))+1)
				if err != nil {
					return err
				}
				return tx.Put(headKey, e.encode())
			})
		}, "head of the log"},
		{"not an entry", nil, func(st *inmem.Store) { appendLeaf(t, st, `{"time":5}`) }, "can't be read"},
		{"read in two ways", nil, func(st *inmem.Store) {
			appendLeaf(t, st, `{"time":"2026-11-05T12:00:00Z","event":"alarm","Event":"sealed"}`)
		}, "can't be read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			st, _ := logOf(t, s, story()...)
			for _, e := range c.tail {
				appendAll(t, st, nil, placed(endOf(t, st), e)...)
			}
			if c.then != nil {
				c.then(st)
			}
			view(t, st, func(r store.Reader) error {
				problems, err := CheckTail(r, s, verifiers)
				if text := strings.Join(problems, "\n"); err != nil || !strings.Contains(text, c.says) || (text == "") != (c.says == "") {
					t.Errorf("%q, %v, want %q", problems, err, c.says)
				}
				return nil
			})
		})
	}
}

func TestCheckTailOfNoLog(t *testing.T) {
	view(t, inmem.New(), func(r store.Reader) error {
		if problems, err := CheckTail(r, signer(t), verifiers); len(problems) > 0 || err != nil {
			t.Error(problems, err)
		}
		return nil
	})
}

// cut is what somebody does who writes to the storage: the log ends earlier, and fits together.
func cut(t testing.TB, st store.Store, size int64) {
	t.Helper()
	update(t, st, func(tx store.Tx) error {
		e, err := edgeAt(tx, size)
		if err != nil {
			return err
		}
		if _, err := putAside(tx, size); err != nil {
			return err
		}
		return tx.Put(headKey, e.encode())
	})
}

func appendLeaf(t testing.TB, st store.Store, leaf string) {
	t.Helper()
	update(t, st, func(tx store.Tx) error {
		e, err := readEdge(tx)
		if err != nil {
			return err
		}
		completed := e.complete(nil, []byte(leaf))
		if err := tx.Put(recordKey(e.size), encodeRecord(completed, []byte(leaf))); err != nil {
			return err
		}
		e.push(completed)
		return tx.Put(headKey, e.encode())
	})
}

func TestCheckMark(t *testing.T) {
	st, _ := logOf(t, nil, story()...)
	h := headOf(t, st)
	marks := map[string]Mark{
		"":                 {Size: h.Size, Root: h.Root, Generation: 1},
		"shrunk":           {Size: h.Size + 1, Root: h.Root},
		"rewritten":        {Size: h.Size, Root: tlog.Hash{1}},
		"first 16 entries": {Size: 16, Root: tlog.Hash{1}},
		"had -1 entries":   {Size: -1},
	}
	check := func(want string, m Mark) {
		view(t, st, func(r store.Reader) error {
			problem, err := CheckMark(r, m)
			if err != nil || !strings.Contains(problem, want) || (problem == "") != (want == "") {
				t.Errorf("%q, %v, want %q", problem, err, want)
			}
			return nil
		})
	}
	for want, m := range marks {
		check(want, m)
	}
	appendAll(t, st, nil, Entry{Time: epoch, Event: Sealed})
	check("", marks[""])
	check("", Mark{Root: (&edge{}).root()})
	change(t, st, recordKey(15), gone)
	check("can't be read", marks[""])
}

func TestVerify(t *testing.T) {
	s := signer(t)
	for name, c := range map[string]struct {
		key  string
		edit func([]byte) []byte
		says string
	}{
		"head":             {headKey, flip, "head of the transcript"},
		"checkpoint":       {checkpointKey, stub, "checkpoint is damaged"},
		"no checkpoint":    {checkpointKey, gone, ""},
		"first":            {recordKey(0), flip, "entry 0"},
		"middle":           {recordKey(9), gone, "entry 9"},
		"last":             {recordKey(int64(len(story()) - 1)), torn, fmt.Sprintf("entry %d", len(story())-1)},
		"other head":       {headKey, func([]byte) []byte { return (&edge{}).encode() }, "head of the log"},
		"other checkpoint": {checkpointKey, func([]byte) []byte { return []byte(body("x", Head{Size: 3}) + "\n") }, "rewritten"},
		"later checkpoint": {checkpointKey, func([]byte) []byte { return []byte(body("x", Head{Size: 300}) + "\n") }, "300 entries were signed"},
	} {
		st, _ := logOf(t, s, story()...)
		change(t, st, c.key, c.edit)
		view(t, st, func(r store.Reader) error {
			problems, err := Verify(t.Context(), r)
			if text := strings.Join(problems, "\n"); err != nil || !strings.Contains(text, c.says) || (text == "") != (c.says == "") {
				t.Errorf("%s: %q, %v, want %q", name, problems, err, c.says)
			}
			return nil
		})
	}
}

func FuzzHeadRecord(f *testing.F) {
	e := edge{size: 5, peaks: make([]tlog.Hash, 2)}
	f.Add(e.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := decodeEdge(b); err == nil && b != nil && !bytes.Equal(e.encode(), b) {
			t.Errorf("%x is read as %v", b, e)
		}
	})
}

// TestVerifyEndsWithItsContext: a seal doesn't wait for a look at the whole log.
func TestVerifyEndsWithItsContext(t *testing.T) {
	st, _ := logOf(t, signer(t), story()...)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	view(t, st, func(r store.Reader) error {
		if problems, err := Verify(ctx, r); !errors.Is(err, context.Canceled) || problems != nil {
			t.Errorf("%q, %v", problems, err)
		}
		return nil
	})
}
