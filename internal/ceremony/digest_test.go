package ceremony

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/holder"
)

// The vectors were made by another implementation of the encodings, in another language.
type vectors struct {
	Attempts []attemptVector `json:"attempts"`
	Starts   []startVector   `json:"starts"`
	Proofs   []proofVector   `json:"proofs"`
}

// about is what all vectors have.
type about struct {
	Name        string            `json:"name"`
	ClusterID   string            `json:"cluster_id"`
	Generation  uint64            `json:"generation"`
	HashedBytes string            `json:"hashed_bytes"`
	Digest      Digest            `json:"digest"`
	Signatures  []signatureVector `json:"signatures"`
}

type attemptVector struct {
	about
	Kind         Kind        `json:"kind"`
	Nonce        string      `json:"nonce"`
	Threshold    int         `json:"threshold"`
	Holders      int         `json:"holders"`
	Parameters   []Parameter `json:"parameters"`
	Recipient    string      `json:"recipient"`
	Initiator    Initiator   `json:"initiator"`
	Reason       string      `json:"reason"`
	StartedMS    int64       `json:"started_ms"`
	ExpiresMS    int64       `json:"expires_ms"`
	UnapprovedMS int64       `json:"unapproved_ms"`
	IdleMS       int64       `json:"idle_ms"`
	Words        string      `json:"words"`
}

type startVector struct {
	about
	Kind       Kind        `json:"kind"`
	Parameters []Parameter `json:"parameters"`
	Recipient  string      `json:"recipient"`
	Reason     string      `json:"reason"`
	TTLMS      int64       `json:"ttl_ms"`
	AtMS       int64       `json:"at_ms"`
}

type proofVector struct {
	about
	Nonce string `json:"nonce"`
}

type signatureVector struct {
	Action      holder.Action   `json:"action"`
	Slot        int             `json:"slot"`
	Mode        holder.Mode     `json:"mode"`
	Share       string          `json:"share"`
	Verifier    holder.Verifier `json:"verifier"`
	SignedBytes string          `json:"signed_bytes"`
	Signature   string          `json:"signature"`
}

// readVectors reads those of testdata.
func readVectors(t *testing.T) (v vectors) {
	t.Helper()
	text, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Attempts) < 20 || len(v.Starts) < 6 || len(v.Proofs) < 4 {
		t.Fatal("vectors are missing")
	}
	return v
}

// docVectors are the JSON blocks of one name in the document for those who write clients.
func docVectors[T any](t *testing.T, name string) (list []T) {
	t.Helper()
	doc, err := os.ReadFile("../../docs/signatures.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, part := range strings.Split(string(doc), "```json "+name+"\n") {
		if i == 0 {
			continue
		}
		block, _, _ := strings.Cut(part, "\n```")
		dec := json.NewDecoder(strings.NewReader(block))
		dec.DisallowUnknownFields()
		var v T
		if err := dec.Decode(&v); err != nil {
			t.Fatalf("the document's %s: %v", name, err)
		}
		list = append(list, v)
	}
	if len(list) == 0 {
		t.Fatalf("the document has no vector %q", name)
	}
	return list
}

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

func (v attemptVector) attempt() *Attempt {
	return New(Params{
		Nonce: v.Nonce, Kind: v.Kind, ClusterID: v.ClusterID, Generation: v.Generation, Threshold: v.Threshold,
		Holders: v.Holders, Parameters: v.Parameters, Recipient: v.Recipient, Reason: v.Reason, Initiator: v.Initiator,
		Limits: Limits{ms(v.UnapprovedMS), ms(v.IdleMS), ms(v.ExpiresMS - v.StartedMS)}, Now: time.UnixMilli(v.StartedMS),
	})
}

func TestAttemptVectors(t *testing.T) {
	seen := map[Digest]string{} // :: digest → name
	list := readVectors(t).Attempts
	for _, v := range list {
		if other, ok := seen[v.Digest]; ok {
			t.Errorf("%s and %s have one digest", v.Name, other)
		}
		seen[v.Digest] = v.Name
	}
	for _, v := range append(list, docVectors[attemptVector](t, "attempt")...) {
		a := v.attempt()
		if a.Digest != v.Digest || strings.Join(a.Digest.Words(), " ") != v.Words {
			t.Errorf("%s: digest %x, %s", v.Name, a.Digest, a.Digest.Words())
		}
		checkSignatures(t, v.about, func(s signatureVector) holder.Statement {
			if s.Action == holder.ActionCancel {
				return a.CancelStatement(s.Slot, s.Mode)
			}
			return a.Statement(s.Slot, s.Mode)
		})
	}
}

func TestStartVectors(t *testing.T) {
	for _, v := range append(readVectors(t).Starts, docVectors[startVector](t, "start")...) {
		start := Start{
			ClusterID: v.ClusterID, Generation: v.Generation, Kind: v.Kind, Parameters: slices.Clone(v.Parameters),
			Recipient: v.Recipient, Reason: v.Reason, TTL: ms(v.TTLMS), At: time.UnixMilli(v.AtMS),
		}
		slices.Reverse(start.Parameters)
		before := slices.Clone(start.Parameters)
		if start.Digest() != v.Digest {
			t.Errorf("%s: digest %x", v.Name, start.Digest())
		}
		if !slices.Equal(start.Parameters, before) {
			t.Errorf("%s: the caller's parameters were sorted", v.Name)
		}
		checkSignatures(t, v.about, func(s signatureVector) holder.Statement { return start.Statement(s.Slot) })
	}
}

func TestProofVectors(t *testing.T) {
	for _, v := range append(readVectors(t).Proofs, docVectors[proofVector](t, "proof")...) {
		checkSignatures(t, v.about, func(s signatureVector) holder.Statement {
			return ProveStatement(v.ClusterID, v.Generation, s.Slot, s.Mode, v.Nonce)
		})
		if len(v.Signatures) == 0 {
			t.Errorf("%s: nothing is signed", v.Name)
		}
	}
}

func TestResultVector(t *testing.T) {
	for _, v := range docVectors[struct {
		proofVector
		AtMS int64 `json:"at_ms"`
	}](t, "result") {
		checkSignatures(t, v.about, func(s signatureVector) holder.Statement {
			return ResultStatement(v.ClusterID, v.Generation, s.Slot, s.Mode, v.Nonce, time.UnixMilli(v.AtMS))
		})
	}
}

// checkSignatures follows each signature of a vector from the share, and what the vector shows on the way.
func checkSignatures(t *testing.T, v about, statement func(signatureVector) holder.Statement) {
	t.Helper()
	if sha256.Sum256(fromHex(t, v.HashedBytes)) != v.Digest {
		t.Errorf("%s: the digest isn't of these bytes", v.Name)
	}
	for _, want := range v.Signatures {
		share, err := holder.ParseShare([]byte(want.Share))
		if err != nil {
			t.Fatal(err)
		}
		s := statement(want)
		if s.Action != want.Action || s.Mode != want.Mode || s.Slot != want.Slot || s.Digest != v.Digest {
			t.Errorf("%s: another statement: %+v", v.Name, s)
		}
		key := holder.Derive(share, v.ClusterID, v.Generation)
		if key.Verifier() != want.Verifier || hex.EncodeToString(key.Sign(s)) != want.Signature {
			t.Errorf("%s, %s: another key or signature", v.Name, want.Action)
		}
		if !ed25519.Verify(want.Verifier[:], fromHex(t, want.SignedBytes), fromHex(t, want.Signature)) {
			t.Errorf("%s, %s: these bytes aren't what is signed", v.Name, want.Action)
		}
	}
}

func fromHex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Whatever is changed of what people approve changes the digest, and what is not covered doesn't.
func TestDigestCoversEverything(t *testing.T) {
	for name, change := range map[string]func(a *Attempt){
		"cluster":          func(a *Attempt) { a.ClusterID += "0" },
		"generation":       func(a *Attempt) { a.Generation++ },
		"kind":             func(a *Attempt) { a.Kind = Rekey },
		"nonce":            func(a *Attempt) { a.Nonce = a.Nonce[1:] },
		"threshold":        func(a *Attempt) { a.Threshold-- },
		"holders":          func(a *Attempt) { a.Holders++ },
		"parameter value":  func(a *Attempt) { a.Parameters[0].Value += "0" },
		"parameter name":   func(a *Attempt) { a.Parameters[0].Name += "0" },
		"parameter gone":   func(a *Attempt) { a.Parameters = a.Parameters[:1] },
		"parameter added":  func(a *Attempt) { a.Parameters = append(a.Parameters, Parameter{}) },
		"parameter order":  func(a *Attempt) { slices.Reverse(a.Parameters) },
		"name into value":  func(a *Attempt) { a.Parameters[0] = Parameter{"secret_share", "s3"} },
		"recipient":        func(a *Attempt) { a.Recipient = "" },
		"initiator":        func(a *Attempt) { a.Initiator.By = ByHolder },
		"token":            func(a *Attempt) { a.Initiator.Token = "t" },
		"slot":             func(a *Attempt) { a.Initiator.Slot = 1 },
		"connection":       func(a *Attempt) { a.Initiator.Connection = true },
		"reason":           func(a *Attempt) { a.Reason += " " },
		"start":            func(a *Attempt) { a.Started = a.Started.Add(time.Millisecond) },
		"expiry":           func(a *Attempt) { a.Expires = a.Expires.Add(-time.Millisecond) },
		"unapproved limit": func(a *Attempt) { a.Limits.Unapproved += time.Millisecond },
		"idle limit":       func(a *Attempt) { a.Limits.Idle += time.Millisecond },
	} {
		p := params()
		p.Parameters = []Parameter{{"secret_threshold", "2"}, {"secret_shares", "3"}}
		a := New(p)
		change(a)
		if a.ComputeDigest() == a.Digest {
			t.Errorf("%s: it isn't in the digest", name)
		}
	}
	a := started(byLocal)
	a.Approvals, a.Objections, a.Outcome, a.Digest = []Approval{{Slot: 1}}, []int{2}, Complete, Digest{}
	if a.ComputeDigest() != started(byLocal).Digest {
		t.Error("what happens to an attempt changes its digest")
	}
}

func TestStartDigestCoversEverything(t *testing.T) {
	base := func() Start {
		return Start{
			clusterID, 1, RootToken, []Parameter{{"a", "b"}, {"c", "d"}}, "otp", "lost", time.Hour, epoch,
		}
	}
	for name, change := range map[string]func(s *Start){
		"cluster":          func(s *Start) { s.ClusterID = "" },
		"generation":       func(s *Start) { s.Generation++ },
		"kind":             func(s *Start) { s.Kind = Drill },
		"parameter":        func(s *Start) { s.Parameters[1].Value = "e" },
		"fewer parameters": func(s *Start) { s.Parameters = s.Parameters[:1] },
		"twice":            func(s *Start) { s.Parameters = append(s.Parameters, s.Parameters[0]) },
		"recipient":        func(s *Start) { s.Recipient = "age:" },
		"reason":           func(s *Start) { s.Reason = "" },
		"run together":     func(s *Start) { s.Recipient, s.Reason = "otpl", "ost" },
		"lifetime":         func(s *Start) { s.TTL += time.Millisecond },
		"no lifetime":      func(s *Start) { s.TTL = 0 },
		"time":             func(s *Start) { s.At = s.At.Add(time.Millisecond) },
	} {
		s := base()
		change(&s)
		if s.Digest() == base().Digest() {
			t.Errorf("%s: it isn't in the digest", name)
		}
	}
	if s := base(); s.Digest() == New(Params{ClusterID: s.ClusterID, Generation: 1, Kind: RootToken, Now: epoch}).Digest {
		t.Error("a start's digest is an attempt's")
	}
}

// T17, T18: a proof of possession is good for one generation, cluster, slot, mode and verification.
func TestProofsAreApart(t *testing.T) {
	q := newQuorum(3, 2)
	s := ProveStatement(clusterID, 2, 1, holder.ModeShare, "n")
	sig := q.keys[1].Sign(s)
	if !holder.Verify(q.keys[1].Verifier(), s, sig) {
		t.Fatal("a good proof isn't accepted")
	}
	for name, other := range map[string]holder.Statement{
		"cluster":    ProveStatement("c", 2, 1, holder.ModeShare, "n"),
		"generation": ProveStatement(clusterID, 3, 1, holder.ModeShare, "n"),
		"slot":       ProveStatement(clusterID, 2, 2, holder.ModeShare, "n"),
		"mode":       ProveStatement(clusterID, 2, 1, holder.ModeSignature, "n"),
		"nonce":      ProveStatement(clusterID, 2, 1, holder.ModeShare, "m"),
		"no nonce":   ProveStatement(clusterID, 2, 1, holder.ModeShare, ""),
		"result":     ResultStatement(clusterID, 2, 1, holder.ModeShare, "n", time.UnixMilli(0)),
	} {
		if holder.Verify(q.keys[1].Verifier(), other, sig) {
			t.Errorf("%s: a proof of something else is accepted", name)
		}
	}
}

// The time zone and what is below a millisecond don't survive storing, so they can't be in the digest.
func TestDigestIsStable(t *testing.T) {
	p := params()
	want := New(p).Digest
	p.Now = p.Now.In(time.FixedZone("", 7200)).Add(999 * time.Microsecond)
	p.Limits = Limits{Unapproved: 5*time.Minute + 1, Idle: time.Hour + 999*time.Microsecond, Total: 24*time.Hour + 1}
	if New(p).Digest != want {
		t.Error("the digest depends on how the time is written")
	}
}

func TestDigestText(t *testing.T) {
	var d Digest
	for _, bad := range []string{"", "00", strings.Repeat("0", 63), strings.Repeat("0", 66), strings.Repeat("zz", 32)} {
		if err := d.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is taken for a digest", bad)
		}
	}
}

// Each of the first 88 bits is in the words, and in one word only; and the list is what it should be.
func TestWords(t *testing.T) {
	list := strings.Fields(wordList)
	if len(list) != 2048 || !slices.IsSorted(list) || list[0] != "abandon" || list[2047] != "zoo" {
		t.Fatal("this isn't the list of BIP 39")
	}
	prefixes := map[string]bool{} // :: first four letters → seen
	for _, w := range list {
		prefix := w[:min(4, len(w))]
		if prefixes[prefix] {
			t.Errorf("two words begin with %s", prefix)
		}
		prefixes[prefix] = true
	}
	for bit := range 256 {
		var d Digest
		d[bit/8] = 0x80 >> (bit % 8)
		for i, w := range d.Words() {
			want := "abandon"
			if i == bit/11 {
				want = list[1<<(10-bit%11)]
			}
			if w != want {
				t.Errorf("bit %d: word %d is %s, want %s", bit, i, w, want)
			}
		}
	}
	if got := Digest([32]byte(slices.Repeat([]byte{0xff}, 32))).Words(); len(got) != 8 || got[7] != "zoo" {
		t.Errorf("all bits: %v", got)
	}
}

// What a holder signed for another action of the same attempt approves nothing.
func TestActionsOfAnAttempt(t *testing.T) {
	q := newQuorum(5, 1)
	for _, kind := range []Kind{RootToken, Rekey, RotateRoot, Drill, Holders} {
		p := params()
		p.Kind = kind
		a := New(p)
		sign := func(s holder.Statement) Approval {
			return Approval{Slot: 2, Mode: holder.ModeSignature, Signature: q.keys[2].Sign(s)}
		}
		cancel := a.CancelStatement(2, holder.ModeSignature)
		other := a.statement(holder.ActionDrill, 2, holder.ModeSignature)
		if kind == Drill {
			other.Action = holder.ActionApprove
		}
		prove := ProveStatement(clusterID, 1, 2, holder.ModeSignature, a.Nonce)
		for _, s := range []holder.Statement{cancel, other, prove} {
			notApproved(t, a, q, sign(s), epoch, ErrNotValid)
		}
		if _, err := a.Approve(sign(a.Statement(2, holder.ModeSignature)), q.verifier, epoch); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}
