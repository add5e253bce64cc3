package transcript

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
)

const cluster = "0f0e0d0c-0b0a-4908-8706-050403020100"

var epoch = time.Date(2026, 11, 5, 12, 0, 0, 0, time.UTC)

// key is the holder key of a slot, the same in every run.
func key(generation uint64, slot int) *holder.Key {
	share := sha256.Sum256(fmt.Appendf(nil, "share %d of generation %d", slot, generation))
	return holder.Derive(secret.Own(append(share[:], byte(slot))), cluster, generation)
}

func verifiers(_ Event, generation uint64, slot int) (holder.Verifier, bool) {
	if generation < 1 || generation > 2 || slot < 1 || slot > 3 {
		return holder.Verifier{}, false
	}
	return key(generation, slot).Verifier(), true
}

func holders(generation uint64, n int) []Holder {
	var list []Holder
	for slot := 1; slot <= n; slot++ {
		list = append(list, Holder{Slot: slot, Label: fmt.Sprintf("holder %d", slot), Verifier: key(generation, slot).Verifier()})
	}
	return list
}

func signer(t testing.TB) *Signer {
	t.Helper()
	s, _, err := NewSigner(cluster, bytes.NewReader(bytes.Repeat([]byte{7}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// unsealShare is to be signed for its place.
func unsealShare(slot int) Entry {
	return Entry{
		Time: epoch, Event: UnsealShare, Generation: 1, Slot: slot, Mode: holder.ModeShare, Round: "round-1", Client: "c1", Signature: []byte("later"),
	}
}

// placed signs the entries of a sealed server that wait for it, for a log that ends at e.
func placed(e edge, list ...Entry) []Entry {
	e.peaks = slices.Clone(e.peaks)
	for i := range list {
		s := &list[i]
		if string(s.Signature) == "later" {
			root := e.root()
			s.Before = root[:]
			s.Signature = key(s.Generation, s.Slot).Sign(s.SealedStatement(cluster))
		}
		leaf, err := s.encode()
		if err != nil {
			panic(err)
		}
		e.push(e.complete(nil, leaf))
	}
	return list
}

// replaced signs them anew after a change to the log before them.
func replaced(list []Entry) []Entry {
	for i := range list {
		if list[i].Before != nil && list[i].Signature != nil {
			list[i].Signature = []byte("later")
		}
	}
	return placed(edge{}, list...)
}

func endOf(t testing.TB, st store.Store) (e edge) {
	t.Helper()
	view(t, st, func(r store.Reader) (err error) {
		e, err = readEdge(r)
		return err
	})
	return e
}

func newAttempt(kind ceremony.Kind, nonce string, threshold int, parameters ...ceremony.Parameter) *ceremony.Attempt {
	return attemptOf(1, kind, nonce, threshold, parameters...)
}

func attemptOf(generation uint64, kind ceremony.Kind, nonce string, threshold int, parameters ...ceremony.Parameter) *ceremony.Attempt {
	return ceremony.New(ceremony.Params{
		Nonce: nonce, Kind: kind, ClusterID: cluster, Generation: generation, Threshold: threshold, Holders: 3, Parameters: parameters,
		Recipient: "otp:hmac:00", Reason: "the <last> token & its tree are lost", Initiator: ceremony.Initiator{By: ceremony.ByHolder, Slot: 2}, Now: epoch,
	})
}

func start(a *ceremony.Attempt) Entry {
	return Entry{
		Time: epoch, Event: Start, Kind: a.Kind, Nonce: a.Nonce, Generation: a.Generation, Slot: a.Initiator.Slot,
		Digest: hex.EncodeToString(a.Digest[:]), Attempt: a,
	}
}

func approve(a *ceremony.Attempt, slot int, mode holder.Mode) Entry {
	return Entry{
		Time: epoch.Add(time.Second), Event: Approve, Kind: a.Kind, Nonce: a.Nonce, Generation: a.Generation, Slot: slot, Label: fmt.Sprintf("holder %d", slot),
		Mode: mode, Signature: key(a.Generation, slot).Sign(a.Statement(slot, mode)), Digest: hex.EncodeToString(a.Digest[:]),
	}
}

func step(event Event, a *ceremony.Attempt) Entry {
	return Entry{Time: epoch.Add(2 * time.Second), Event: event, Kind: a.Kind, Nonce: a.Nonce, Generation: a.Generation}
}

func against(event Event, a *ceremony.Attempt, slot int) Entry {
	e := step(event, a)
	e.Slot, e.Mode = slot, holder.ModeSignature
	e.Signature = key(a.Generation, slot).Sign(a.CancelStatement(slot, e.Mode))
	return e
}

// rekeyTo is for 3 shares, with the labels that holders gives.
func rekeyTo(generation uint64, nonce string, threshold, verify string) *ceremony.Attempt {
	return attemptOf(generation, ceremony.Rekey, nonce, 2,
		ceremony.Parameter{Name: "require_verification", Value: strconv.FormatBool(verify != "")},
		ceremony.Parameter{Name: "secret_shares", Value: "3"}, ceremony.Parameter{Name: "secret_threshold", Value: threshold},
		ceremony.Parameter{Name: "verify_all", Value: strconv.FormatBool(verify == "all")},
		ceremony.Parameter{Name: "holder.001", Value: "holder 1"}, ceremony.Parameter{Name: "holder.002", Value: "holder 2"},
		ceremony.Parameter{Name: "holder.003", Value: "holder 3"},
	)
}

func prove(slot int, nonce string) Entry {
	e := Entry{Time: epoch, Event: Prove, Kind: ceremony.Rekey, Nonce: nonce, Generation: 2, Slot: slot, Mode: holder.ModeSignature}
	e.Signature = key(2, slot).Sign(ceremony.ProveStatement(cluster, 2, slot, holder.ModeSignature, nonce))
	return e
}

// story is a cluster's first day: 2 of 3, then 3 of 3.
func story() []Entry {
	root := newAttempt(ceremony.RootToken, "nonce-root", 2)
	rekey := rekeyTo(1, "nonce-rekey", "3", "threshold")
	drill := attemptOf(2, ceremony.Drill, "nonce-drill", 2)
	reset := unsealShare(1)
	reset.Event, reset.Slot, reset.Client = UnsealReset, 2, ""
	return placed(edge{}, []Entry{
		{Time: epoch, Event: Init, Generation: 1, Threshold: 2, Holders: holders(1, 3)},
		unsealShare(1), reset, unsealShare(1), unsealShare(3),
		{Time: epoch, Event: Unsealed, Generation: 1},
		start(root), approve(root, 2, holder.ModeSignature), against(Object, root, 3), approve(root, 1, holder.ModeShare), step(Complete, root),
		start(rekey), approve(rekey, 1, holder.ModeShare), approve(rekey, 3, holder.ModeSignature),
		{Time: epoch, Event: Generation, Nonce: "nonce-rekey", Generation: 2, Threshold: 3, Holders: holders(2, 3)},
		step(Complete, rekey),
		prove(3, "nonce-verify"), prove(1, "nonce-verify"), prove(2, "nonce-verify"),
		{Time: epoch, Event: Commit, Kind: rekey.Kind, Nonce: rekey.Nonce, Generation: 2},
		{Time: epoch, Event: Refused, Generation: 1, Slot: 2},
		start(drill), against(Cancel, drill, 2),
		{Time: epoch, Event: RotateKeyring},
		{Time: epoch, Event: Sealed},
	}...)
}

func update(t testing.TB, st store.Store, fn func(tx store.Tx) error) {
	t.Helper()
	if err := st.Update(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

func view(t testing.TB, st store.Store, fn func(r store.Reader) error) {
	t.Helper()
	if err := st.View(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

func appendAll(t testing.TB, st store.Store, s *Signer, entries ...Entry) (h Head) {
	t.Helper()
	update(t, st, func(tx store.Tx) (err error) {
		h, err = Append(tx, s, entries...)
		return err
	})
	return h
}

// logOf is a store with these entries, and their leaves.
func logOf(t testing.TB, s *Signer, entries ...Entry) (*inmem.Store, [][]byte) {
	t.Helper()
	st := inmem.New()
	for _, e := range entries {
		appendAll(t, st, s, e)
	}
	return st, leavesOf(t, st)
}

func leavesOf(t testing.TB, st store.Store) (leaves [][]byte) {
	t.Helper()
	view(t, st, func(r store.Reader) (err error) {
		leaves, err = Read(r, 0, 1<<20)
		return err
	})
	return leaves
}

func headOf(t testing.TB, st store.Store) (h Head) {
	t.Helper()
	view(t, st, func(r store.Reader) (err error) {
		h, err = ReadHead(r)
		return err
	})
	return h
}

func checkpointOf(t testing.TB, st store.Store) (text []byte) {
	t.Helper()
	view(t, st, func(r store.Reader) error {
		c, err := Checkpoint(r)
		text = bytes.Clone(c)
		return err
	})
	return text
}

func each(leaves [][]byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, leaf := range leaves {
			if !yield(leaf, nil) {
				return
			}
		}
	}
}

func export(t testing.TB, s *Signer, checkpoint []byte, leaves [][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	h := ExportHeader{ClusterID: cluster, VerifierKey: s.VerifierKey(), Checkpoint: string(checkpoint)}
	if err := WriteExport(&b, h, each(leaves)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// sign signs the present head, whatever it is.
func sign(tx store.Tx, s *Signer) error {
	h, err := ReadHead(tx)
	if err != nil {
		return err
	}
	return putCheckpoint(tx, s, h)
}
