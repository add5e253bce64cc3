package transcript

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
)

// reads counts what a transaction reads.
type reads struct {
	store.Tx
	keys []string
	scan int
}

func (r *reads) Get(keys ...string) ([][]byte, error) {
	r.keys = append(r.keys, keys...)
	return r.Tx.Get(keys...)
}

func (r *reads) Scan(prefix, after string) iter.Seq2[store.Entry, error] {
	r.scan++
	return r.Tx.Scan(prefix, after)
}

func continued(t *testing.T, st store.Store, s *Signer, entries ...Entry) (problems []string, r *reads) {
	t.Helper()
	update(t, st, func(tx store.Tx) (err error) {
		r = &reads{Tx: tx}
		problems, err = Continue(r, s, verifiers, epoch, entries...)
		return err
	})
	return problems, r
}

// TestContinueVouches: an open server signs over what it has signed itself; over what others appended only once it has
// looked, and with an alarm if that isn't what a sealed server appends.
func TestContinueVouches(t *testing.T) {
	s := signer(t)
	entry := Entry{Time: epoch, Event: RotateKeyring}
	for name, c := range map[string]struct {
		then func(st *inmem.Store)
		says string
	}{
		"nothing":          {func(*inmem.Store) {}, ""},
		"a sealed server":  {func(st *inmem.Store) { appendAll(t, st, nil, placed(endOf(t, st), unsealShare(1))...) }, ""},
		"somebody":         {func(st *inmem.Store) { appendAll(t, st, nil, Entry{Time: epoch, Event: Commit, Generation: 9}) }, "doesn't happen while sealed"},
		"a replay":         {func(st *inmem.Store) { appendLeaf(t, st, string(leavesOf(t, st)[1])) }, "another place"},
		"head damaged":     {func(st *inmem.Store) { change(t, st, headKey, flip) }, "head is damaged"},
		"head gone":        {func(st *inmem.Store) { change(t, st, headKey, gone) }, "head is damaged"},
		"head, and 0 gone": {func(st *inmem.Store) { change(t, st, headKey, gone); change(t, st, recordKey(0), gone) }, "entry 0 is missing"},
		"checkpoint gone":  {func(st *inmem.Store) { change(t, st, checkpointKey, gone) }, "checkpoint is missing"},
		"checkpoint false": {func(st *inmem.Store) { change(t, st, checkpointKey, flip) }, "damaged or forged"},
		"cut off":          {func(st *inmem.Store) { cut(t, st, 5) }, "shrunk"},
	} {
		for _, entries := range [][]Entry{{entry}, nil} {
			t.Run(fmt.Sprint(name, len(entries)), func(t *testing.T) {
				st, _ := logOf(t, s, story()...)
				c.then(st)
				problems, _ := continued(t, st, s, entries...)
				if text := strings.Join(problems, "\n"); !strings.Contains(text, c.says) || (text == "") != (c.says == "") {
					t.Errorf("%q, want %q", problems, c.says)
				}
				if head, err := OpenCheckpoint(checkpointOf(t, st), s.VerifierKey()); err != nil || head != headOf(t, st) {
					t.Errorf("the checkpoint is not of the head: %v", err)
				}
				leaves := leavesOf(t, st)
				for i := range problems {
					if leaf := string(leaves[len(leaves)-len(entries)-1-i]); !strings.Contains(leaf, `"event":"alarm"`) {
						t.Errorf("no alarm but %s", leaf)
					}
				}
				if len(entries) > 0 && !strings.Contains(string(leaves[len(leaves)-1]), string(RotateKeyring)) {
					t.Errorf("the last entry is %s", leaves[len(leaves)-1])
				}
				size := headOf(t, st).Size
				if problems, _ := continued(t, st, s); len(problems) > 0 || headOf(t, st).Size != size {
					t.Errorf("and again: %q", problems)
				}
			})
		}
	}
}

func TestContinueReadsLittle(t *testing.T) {
	s := signer(t)
	st, _ := logOf(t, s, story()...)
	if _, r := continued(t, st, s, Entry{Time: epoch, Event: RotateKeyring}); r.scan > 0 || !slices.Equal(r.keys, []string{headKey, checkpointKey}) {
		t.Errorf("read %q, and %d ranges", r.keys, r.scan)
	}
	if problems, _ := continued(t, inmem.New(), s, Entry{Time: epoch, Event: Init}); len(problems) > 0 {
		t.Errorf("a new log: %q", problems)
	}
}

// TestFloodOfForgeries: what somebody appends in great number doesn't make the log grow as much again.
func TestFloodOfForgeries(t *testing.T) {
	s := signer(t)
	st, _ := logOf(t, s, story()...)
	for range 3 * maxAlarms {
		appendAll(t, st, nil, Entry{Time: epoch, Event: Unsealed})
	}
	size := headOf(t, st).Size
	problems, _ := continued(t, st, s)
	if grown := headOf(t, st).Size - size; len(problems) != 3*maxAlarms || grown != maxAlarms+1 {
		t.Errorf("%d problems made %d entries", len(problems), grown)
	}
	if leaves := leavesOf(t, st); !strings.Contains(string(leaves[len(leaves)-1]), fmt.Sprint(2*maxAlarms, " more")) {
		t.Errorf("the last one is %s", leaves[len(leaves)-1])
	}
}

// TestAppendSealed: damage doesn't keep a sealed server from taking shares, is told, and loses nothing that is whole.
func TestAppendSealed(t *testing.T) {
	s, whole := signer(t), int64(len(story()))
	for name, c := range map[string]struct {
		key  string
		edit func([]byte) []byte
		says string
		size int64
	}{
		"nothing":               {headKey, func(v []byte) []byte { return v }, "", whole + 1},
		"head damaged":          {headKey, flip, "head is damaged", whole + 2},
		"head torn":             {headKey, torn, "head is damaged", whole + 2},
		"head gone":             {headKey, gone, "head is damaged", whole + 2},
		"head of the empty log": {headKey, func([]byte) []byte { return (&edge{}).encode() }, "doesn't count", whole + 2},
		"last torn":             {recordKey(whole - 1), torn, "entry 24", whole + 1},
	} {
		t.Run(name, func(t *testing.T) {
			st, _ := logOf(t, s, story()...)
			change(t, st, c.key, c.edit)
			before := checkpointOf(t, st)
			update(t, st, func(tx store.Tx) error {
				e := Entry{Time: epoch, Event: UnsealShare, Generation: 1, Slot: 2, Round: "r"}
				problem, err := AppendSealed(tx, cluster, key(1, 2), e)
				if !strings.Contains(problem, c.says) || (problem == "") != (c.says == "") {
					t.Errorf("%q, want %q", problem, c.says)
				}
				return err
			})
			if string(checkpointOf(t, st)) != string(before) {
				t.Error("a sealed server has changed the checkpoint")
			}
			if h := headOf(t, st); h.Size != c.size {
				t.Errorf("%d entries, want %d", h.Size, c.size)
			}
			view(t, st, func(r store.Reader) error {
				problems, err := CheckTail(r, s, verifiers)
				if cut := c.key != headKey; err != nil || (len(problems) > 0) != cut {
					t.Errorf("%q, %v", problems, err)
				}
				return nil
			})
		})
	}
	st := inmem.New()
	update(t, st, func(tx store.Tx) error {
		_, err := AppendSealed(tx, cluster, nil, Entry{Time: epoch, Event: UnsealReset})
		return err
	})
	if leaf := string(leavesOf(t, st)[0]); strings.Contains(leaf, "signature") || strings.Contains(leaf, "before") || strings.Contains(leaf, string(holder.ModeShare)) {
		t.Error("a local reset is", leaf)
	}
}
