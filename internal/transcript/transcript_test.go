package transcript

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/store/storetest"
)

// TestKnownRoots is the test vector of Certificate Transparency, whose hashing is that of RFC 6962.
func TestKnownRoots(t *testing.T) {
	leaves := []string{"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"}
	roots := []string{
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
		"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
		"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
		"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	}
	var e edge
	for i, want := range roots {
		if root := e.root(); hex.EncodeToString(root[:]) != want {
			t.Errorf("root of %d leaves is %x, want %s", i, root, want)
		}
		if i < len(leaves) {
			leaf, _ := hex.DecodeString(leaves[i])
			e.push(e.complete(nil, leaf))
		}
	}
}

// TestEveryProof compares what is kept and proven with package tlog, for every pair of sizes of a small log.
func TestEveryProof(t *testing.T) {
	const n = 70
	st := inmem.New()
	heads := []Head{headOf(t, st)}
	for i := range n {
		heads = append(heads, appendAll(t, st, nil, Entry{Time: epoch, Event: Alarm, Detail: fmt.Sprint(i)}))
	}
	leaves := leavesOf(t, st)
	view(t, st, func(r store.Reader) error {
		for size := int64(1); size <= n; size++ {
			if root, err := tlog.TreeHash(size, storedHashes(r)); err != nil || root != heads[size].Root {
				t.Fatalf("root at %d: %v, %v", size, root, err)
			}
			if e, err := edgeAt(r, size); err != nil || e.head() != heads[size] {
				t.Fatalf("edge at %d: %v", size, err)
			}
			for i := range size {
				p, err := Inclusion(r, i, size)
				if err != nil || tlog.CheckRecord(p, size, heads[size].Root, i, tlog.RecordHash(leaves[i])) != nil {
					t.Fatalf("inclusion of %d in %d: %v", i, size, err)
				}
				if tlog.CheckRecord(p, size, heads[size].Root, i, tlog.RecordHash([]byte("x"))) == nil {
					t.Fatalf("the proof of %d in %d proves another leaf", i, size)
				}
			}
			for old := int64(0); old <= size; old++ {
				p, err := Consistency(r, old, size)
				if err != nil || VerifyConsistency(heads[old], heads[size], p) != nil {
					t.Fatalf("consistency of %d and %d: %v", old, size, err)
				}
				if bad := (Head{old, tlog.Hash{1}}); VerifyConsistency(bad, heads[size], p) == nil {
					t.Fatalf("consistency of %d and %d proves another head", old, size)
				}
			}
		}
		for _, q := range [][2]int64{{-1, 5}, {5, 5}, {0, 0}, {0, n + 1}, {n, n}, {1 << 62, 1 << 62}} {
			if _, err := Inclusion(r, q[0], q[1]); fault.As(err) == nil {
				t.Errorf("Inclusion(%d, %d): %v", q[0], q[1], err)
			}
		}
		for _, q := range [][2]int64{{-1, 5}, {6, 5}, {0, n + 1}, {1, 1 << 62}} {
			if _, err := Consistency(r, q[0], q[1]); fault.As(err) == nil {
				t.Errorf("Consistency(%d, %d): %v", q[0], q[1], err)
			}
		}
		return nil
	})
	for name, heads := range map[string][2]Head{
		"shrunk": {heads[9], heads[8]}, "negative": {Head{Size: -1}, heads[8]}, "too large": {heads[9], Head{Size: 1<<63 - 1}},
		"empty with another root": {Head{}, heads[8]},
	} {
		if VerifyConsistency(heads[0], heads[1], nil) == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestRead(t *testing.T) {
	st, _ := logOf(t, nil, story()...)
	all := leavesOf(t, st)
	view(t, st, func(r store.Reader) error {
		for _, c := range []struct {
			from  int64
			limit int
			want  [][]byte
		}{
			{0, 1, all[:1]},
			{3, 4, all[3:7]},
			{20, 100, all[20:]},
			{int64(len(all)), 5, nil},
			{1 << 62, 5, nil},
			{-1, 5, nil},
			{0, 0, nil},
			{2, -1, nil},
		} {
			got, err := Read(r, c.from, c.limit)
			if err != nil || !slices.EqualFunc(got, c.want, bytes.Equal) {
				t.Errorf("Read(%d, %d): %d leaves, %v", c.from, c.limit, len(got), err)
			}
		}
		return nil
	})
}

// TestAppendIsSmall: whatever the log's size, an append writes the record, the head and the checkpoint, and reads only the head.
func TestAppendIsSmall(t *testing.T) {
	st := inmem.New()
	for i := range 130 {
		update(t, st, func(tx store.Tx) error {
			w := &watched{Tx: tx}
			_, err := Append(w, signer(t), Entry{Time: epoch, Event: Alarm})
			if w.gets != 1 || w.puts != 3 {
				t.Errorf("append %d: %d gets, %d puts", i, w.gets, w.puts)
			}
			return err
		})
	}
	update(t, st, func(tx store.Tx) error {
		w := &watched{Tx: tx}
		h, err := Append(w, signer(t))
		if w.puts != 0 || h.Size != 130 {
			t.Error("appending nothing wrote")
		}
		return err
	})
}

type watched struct {
	store.Tx
	gets, puts int
}

func (w *watched) Get(keys ...string) ([][]byte, error) {
	w.gets += len(keys)
	return w.Tx.Get(keys...)
}
func (w *watched) Put(key string, value []byte) error { w.puts++; return w.Tx.Put(key, value) }

// TestFailedCommit appends through a barrier and raw, and fails each commit in both modes: the log is that of before or of
// after, never anything else, and is continued.
func TestFailedCommit(t *testing.T) {
	for _, mode := range []storetest.Mode{storetest.Lost, storetest.Kept} {
		for _, through := range []string{"raw", "barrier"} {
			t.Run(fmt.Sprint(mode, " ", through), func(t *testing.T) {
				under := inmem.New()
				faulty := storetest.NewFaulty(under)
				var st store.Store = faulty
				if through == "barrier" {
					st = newBarrier(t, faulty)
				}
				s, known := signer(t), int64(0)
				for i := range 12 {
					entries := []Entry{{Time: epoch, Event: Alarm, Detail: fmt.Sprint(i)}, {Time: epoch, Event: Sealed}}
					if i%3 == 2 {
						faulty.FailCommit(1, mode)
					}
					err := st.Update(context.Background(), func(tx store.Tx) error {
						_, err := Append(tx, s, entries...)
						return err
					})
					if (err != nil) != (i%3 == 2) {
						t.Fatal(err)
					}
					faulty.Recover()
					if err == nil || mode == storetest.Kept {
						known += 2
					}
					wantWhole(t, under, s, known)
				}
			})
		}
	}
}

func newBarrier(t *testing.T, st store.Store) *barrier.Barrier {
	t.Helper()
	root := secret.Own(bytes.Repeat([]byte{3}, barrier.KeySize))
	update(t, st, func(tx store.Tx) error {
		_, err := barrier.Create(tx, root, epoch)
		return err
	})
	b, err := barrier.Open(context.Background(), st, root)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wantWhole checks that nothing is wrong with a log of which everything is signed.
func wantWhole(t *testing.T, st store.Store, s *Signer, size int64) {
	t.Helper()
	view(t, st, func(r store.Reader) error {
		problems, err := Verify(t.Context(), r)
		tail, tailErr := CheckTail(r, s, verifiers)
		if len(problems)+len(tail) > 0 || err != nil || tailErr != nil {
			t.Error(problems, tail, err, tailErr)
		}
		return nil
	})
	h, err := OpenCheckpoint(checkpointOf(t, st), s.VerifierKey())
	if err != nil || h != headOf(t, st) || h.Size != size {
		t.Errorf("checkpoint %v, head %v, want size %d, %v", h, headOf(t, st), size, err)
	}
}

func TestAFailedFunctionWritesNothing(t *testing.T) {
	st, _ := logOf(t, signer(t), story()...)
	before, stop := headOf(t, st), errors.New("stop")
	err := st.Update(context.Background(), func(tx store.Tx) error {
		if _, err := Append(tx, nil, unsealShare(1)); err != nil {
			return err
		}
		return stop
	})
	if !errors.Is(err, stop) || headOf(t, st) != before {
		t.Error("an entry stayed without what it records")
	}
}

func TestSeveralAppendsInOneTransaction(t *testing.T) {
	st := inmem.New()
	update(t, st, func(tx store.Tx) error {
		for _, e := range story() {
			if _, err := Append(tx, nil, e); err != nil {
				return err
			}
		}
		return sign(tx, signer(t))
	})
	wantWhole(t, st, signer(t), int64(len(story())))
}

func TestEntryRoundTrip(t *testing.T) {
	zone := time.FixedZone("", 3600)
	odd := []Entry{
		{Time: time.Date(2026, 1, 2, 3, 4, 5, 678_999_999, zone), Event: "future", Label: "a\xffb", Detail: `\ufffd <&> ` + "\u2028\x00"},
		{Time: epoch, Event: Start, Attempt: newAttempt(ceremony.Holders, "n", 2, ceremony.Parameter{Name: "holder.001", Value: "\xc3\x28"})},
	}
	for i, e := range append(odd, story()...) {
		leaf, err := e.encode()
		if err != nil {
			t.Fatal(err)
		}
		again, canonical, err := decodeEntry(leaf)
		if err != nil || !canonical {
			t.Errorf("%d: %s: canonical %t, %v", i, leaf, canonical, err)
		} else if again.SealedDigest() != e.SealedDigest() {
			t.Errorf("%d: the digest changes when %s is read", i, leaf)
		}
		if bytes.Contains(leaf, []byte("approvals\":[")) {
			t.Errorf("%s holds approvals", leaf)
		}
	}
	a := newAttempt(ceremony.RootToken, "n", 2)
	complete, err := a.Approve(ceremony.Approval{Slot: 1, Mode: holder.ModeShare, Signature: key(1, 1).Sign(a.Statement(1, holder.ModeShare))},
		func(slot int) (holder.Verifier, bool) { return verifiers(UnsealShare, 1, slot) }, epoch)
	if err != nil || complete {
		t.Fatal(err)
	}
	e := start(a)
	leaf, err := e.encode()
	if err != nil || bytes.Contains(leaf, []byte("signature")) || len(a.Approvals) != 1 {
		t.Errorf("%s holds what the digest doesn't cover (%v), or the caller's attempt was changed", leaf, err)
	}
}

// TestLargestEntry: 255 holders with the longest labels, escaped in the longest way.
func TestLargestEntry(t *testing.T) {
	label := strings.Repeat("<", 200)
	e := Entry{Time: epoch, Event: Start, Kind: ceremony.Rekey, Threshold: 255}
	var parameters []ceremony.Parameter
	for slot := 1; slot <= 255; slot++ {
		e.Holders = append(e.Holders, Holder{Slot: slot, Label: label, Verifier: key(1, slot).Verifier()})
		parameters = append(parameters,
			ceremony.Parameter{Name: fmt.Sprintf("holder.%03d", slot), Value: label},
			ceremony.Parameter{Name: fmt.Sprintf("recipient.%03d", slot), Value: "pgp:" + strings.Repeat("f", 105)})
	}
	e.Attempt = newAttempt(ceremony.Rekey, "n", 2, parameters...)
	st, leaves := logOf(t, signer(t), e) // more than any one entry holds
	if n := len(leaves[0]); n > store.MaxValue*3/4 {
		t.Errorf("%d bytes are too near to the limit", n)
	}
	before := headOf(t, st)
	err := st.Update(context.Background(), func(tx store.Tx) error {
		_, err := Append(tx, nil, Entry{Time: epoch, Event: Alarm, Detail: strings.Repeat("x", store.MaxValue)})
		return err
	})
	if err == nil || headOf(t, st) != before {
		t.Error("an entry that fits into no record was taken")
	}
}

func TestStoredSigner(t *testing.T) {
	s, stored, err := NewSigner(cluster, bytes.NewReader(bytes.Repeat([]byte{9}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadSigner(stored)
	if err != nil || again.VerifierKey() != s.VerifierKey() || again.ClusterID() != cluster {
		t.Fatalf("%v, %q and %q", err, again.VerifierKey(), s.VerifierKey())
	}
	a, _ := s.sign(Head{Size: 1})
	b, err := again.sign(Head{Size: 1})
	if err != nil || !bytes.Equal(a, b) {
		t.Error("the loaded key signs something else")
	}
	s.Wipe()
	if _, err := s.sign(Head{Size: 1}); err == nil {
		t.Error("a wiped key signs")
	}
	for name, bad := range map[string][]byte{
		"empty": nil, "short": stored[:33], "other version": append([]byte{2}, stored[1:]...), "space": append(bytes.Clone(stored), ' '), "plus": append(bytes.Clone(stored), '+'),
	} {
		if _, err := LoadSigner(bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, _, err := NewSigner(cluster, bytes.NewReader(nil)); err == nil {
		t.Error("a key was made without randomness")
	}
}
