package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"slices"
	"testing"

	"filippo.io/age"
	"pgregory.net/rapid"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/transcript"
)

// since reads the transcript from an index on.
func (w *nodeWorld) since(from int64) (list []transcript.Entry) {
	err := w.node.TranscriptView(w.ctx(), func(r store.Reader) error {
		leaves, err := transcript.Read(r, from, 1000)
		for _, leaf := range leaves {
			var e transcript.Entry
			err = errors.Join(err, json.Unmarshal(leaf, &e))
			list = append(list, e)
		}
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	return list
}

// check compares the node with the reference after every step.
func (w *nodeWorld) check(*rapid.T) {
	for _, b := range w.tokens {
		b.dubious = b.dubious || !b.expires.IsZero() && !w.now().Before(b.expires)
	}
	w.checkTranscript()
	w.checkSeal()
	w.checkHolders()
	if _, _, alarms, err := w.node.TranscriptState(w.ctx()); err != nil || len(alarms) > 0 {
		w.Fatalf("alarms: %q, %v", alarms, err)
	}
	if w.sealed {
		return
	}
	for _, k := range kinds() {
		w.checkPlace(k)
	}
	w.checkTokens()
}

func (w *nodeWorld) checkTranscript() {
	var got []string
	list := w.since(w.size)
	for _, e := range list {
		event := string(e.Event)
		if e.Slot > 0 {
			event = fmt.Sprint(event, " ", e.Slot)
		}
		got = append(got, event)
	}
	if !slices.Equal(got, w.expect) {
		w.Fatalf("recorded %q, want %q", got, w.expect)
	}
	w.size += int64(len(list))
	w.expect = nil
}

func (w *nodeWorld) checkSeal() {
	if w.sealed {
		w.forgetRound()
	}
	st, err := w.node.SealStatus(w.ctx())
	if err != nil {
		w.Fatal(err)
	}
	given, old, retiring := len(w.given[w.active.number]), 0, &people{}
	if w.retiring != nil {
		retiring = w.retiring
		old = len(w.given[retiring.number])
	}
	if st.Sealed != w.sealed || st.Threshold != w.active.t || st.Shares != w.active.n || st.RetiringThreshold != retiring.t ||
		st.RetiringShares != retiring.n || w.sealed && (st.Progress != given || st.RetiringProgress != old) {
		w.Fatalf("seal status %+v, want sealed %v, %d of %d+%d", st, w.sealed, given, w.active.t, old)
	}
}

func (w *nodeWorld) checkHolders() {
	_, list, err := w.node.HolderTable(w.ctx())
	if err != nil {
		w.Fatal(err)
	}
	want := map[string]*people{"active": w.active, "pending": w.pending, "retiring": w.retiring, "former": w.former}
	for _, g := range list {
		p := want[g.State]
		if p == nil || p.number != g.Number || p.n != g.Shares || p.t != g.Threshold {
			w.Fatalf("generation %d is %s, %d of %d: the reference has %+v there", g.Number, g.State, g.Threshold, g.Shares, p)
		}
		delete(want, g.State)
		for _, h := range g.Holders {
			if !w.sealed && h.LastProven.IsZero() == p.proven[h.Slot] && g.State != "former" {
				w.Fatalf("generation %d, slot %d: last proven %v, want proven: %v", g.Number, h.Slot, h.LastProven, p.proven[h.Slot])
			}
		}
	}
	for state, p := range want {
		if p != nil {
			w.Fatalf("no generation is %s, want number %d", state, p.number)
		}
	}
}

func (w *nodeWorld) checkPlace(k ceremony.Kind) {
	c, err := w.node.CeremonyOf(w.ctx(), k)
	if err != nil {
		w.Fatal(err)
	}
	p := w.openPlace(k)
	if p == nil {
		if c.State != node.Idle {
			w.Fatalf("%s is %s, want none", k, c.State)
		}
		return
	}
	state := node.Open
	if p.ver != nil {
		state = node.Verifying
	}
	if c.State != state || c.Attempt.Nonce != p.nonce || c.Attempt.Progress() != len(p.votes) || c.Required != p.t ||
		len(c.Attempt.Objections) != len(p.against) || c.Attempt.ComputeDigest() != p.attempt.Digest {
		w.Fatalf("%s: %s, progress %d of %d, %v object; want %s, %d of %d, %v", k, c.State, c.Attempt.Progress(), c.Required,
			c.Attempt.Objections, state, len(p.votes), p.t, p.against)
	}
	for _, a := range c.Attempt.Approvals {
		if _, voted := p.votes[a.Slot]; !voted || p.modes[a.Slot] != a.Mode {
			w.Fatalf("%s: slot %d has approved by %s, want %q", k, a.Slot, a.Mode, p.modes[a.Slot])
		}
	}
	if p.ver != nil && (len(c.Verification.Proofs) != len(p.ver.proofs) || c.Verification.Required != p.ver.required ||
		c.Verification.Nonce != p.ver.nonce) {
		w.Fatalf("%s: %d of %d proofs, want %d of %d", k, len(c.Verification.Proofs), c.Verification.Required, len(p.ver.proofs), p.ver.required)
	}
}

// checkTokens holds promise 4: one root token for each ceremony that completed, and none else.
func (w *nodeWorld) checkTokens() {
	list, err := w.node.RootTokens(w.ctx(), w.access(w.tokens[0], "sys/ceremonies/root-tokens", policy.Update))
	if err != nil {
		w.Fatal(err)
	}
	got, want := map[string]int{}, map[string]int{}
	for _, e := range list {
		got[e.Ceremony]++
	}
	unsure := map[string]int{}
	for _, b := range w.tokens {
		switch {
		case !b.root || b.dead:
		case b.dubious:
			unsure[b.from]++
		case b.live(w.now()):
			want[b.from]++
		}
	}
	for from := range got {
		if got[from] < want[from] || got[from] > want[from]+unsure[from] {
			w.Fatalf("%d live root tokens come from %q, want %d", got[from], from, want[from])
		}
		delete(want, from)
	}
	if len(want) > 0 {
		w.Fatalf("no live root token from %v", want)
	}
}

// finish is what must be true in the end.
func (w *nodeWorld) finish() {
	w.check(w.T)
	w.boot()
	w.open()
	w.check(w.T)
	for _, b := range w.tokens {
		alive := w.node.Live(w.ctx(), secret.Copy([]byte(b.id)))
		same := slices.ContainsFunc(w.tokens, func(o *bearer) bool { return o.id == b.id && (o.dubious || o.live(w.now())) })
		if b.live(w.now()) && !alive || alive && !same {
			w.Fatalf("the token from %q is live: %v", b.from, alive)
		}
	}
	w.audit()
	w.node.Close()
}

// audit verifies the whole transcript as an auditor does who has nothing but the verifier key.
func (w *nodeWorld) audit() {
	id, key, _, err := w.node.TranscriptState(w.ctx())
	if err != nil {
		w.Fatal(err)
	}
	var out bytes.Buffer
	err = w.node.TranscriptView(w.ctx(), func(r store.Reader) error {
		check, err := transcript.Checkpoint(r)
		if err != nil {
			return err
		}
		h := transcript.ExportHeader{ClusterID: id, VerifierKey: key, Checkpoint: string(check)}
		return transcript.WriteExport(&out, h, func(yield func([]byte, error) bool) {
			leaves, err := transcript.Read(r, 0, int(w.size))
			for _, leaf := range leaves {
				if !yield(leaf, err) {
					return
				}
			}
		})
	})
	if err != nil {
		w.Fatal(err)
	}
	rep, err := transcript.VerifyExport(&out, transcript.VerifyOptions{VerifierKey: key})
	if err != nil {
		w.Fatal(err)
	}
	if len(rep.Problems) > 0 || rep.Unknown > 0 || rep.Size != w.size || rep.Signed != w.size {
		w.Fatalf("%d of %d entries, %d unknown, %d signed: %q", rep.Size, w.size, rep.Unknown, rep.Signed, rep.Problems)
	}
}

// TestNode runs random interleavings of everybody's moves against a node and the reference.
func TestNode(t *testing.T) {
	setting(t, "rapid.checks", "200") // some seconds
	setting(t, "rapid.steps", "60")
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	rapid.Check(t, func(r *rapid.T) {
		bubble(t, func() {
			w := newNodeWorld(r, seen, identity)
			defer func() { w.node.Close() }()
			r.Repeat(map[string]func(*rapid.T){
				"start": w.start, "start anew": w.start, "replay a start": w.replayStart,
				"approve": w.approve, "approve more": w.approve, "vote": w.approve, "vote more": w.approve, "junk": w.junk, "repeat": w.repeat, "together": w.together,
				"cancel": w.cancel, "verify": w.verify, "verify more": w.verify, "prove": w.verify, "prove more": w.verify, "reset verification": w.resetVerification,
				"result": w.result, "another result": w.result, "seal": w.seal, "unseal": w.unseal, "reset unseal": w.resetUnseal, "restart": w.restart,
				"tick": w.tick, "sweep": w.sweep, "new token": w.newToken, "revoke": w.revoke,
				"": w.check,
			})
			w.finish()
		})
	})
	t.Log(seen)
	if testing.Short() || flag.Lookup("rapid.checks").Value.String() != "200" {
		return // a few runs needn't see everything
	}
	for _, event := range mustHappen() {
		if seen[event] == 0 && !t.Failed() {
			t.Errorf("never seen: %s", event)
		}
	}
}

// mustHappen is what a run has to have seen, or it has shown nothing. What is rare is left out.
func mustHappen() []string {
	list := []string{
		"start: ", "start: bad", "start: denied", "start: busy", "approve: ", "approve: bad", "approve: duplicate", "approve: none",
		"approve: verifying", "approve: nonce", "cancel: ", "cancel: bad", "cancel ends", "verify: ", "verify: bad", "verify: duplicate",
		"together: ", "together: duplicate", "together: none", "unsealed by the active: true",
		"lost reply repeated", "retired by proof", "end: expire", "end: end", "seal: ", "seal: denied", "restart: ", "result: denied", "result: ", "cancel nothing", "reset: ", "reset: denied",
	}
	for _, kind := range kinds() {
		list = append(list, "approved "+string(kind)+" by share", "approved "+string(kind)+" by signature",
			"completed "+string(kind)+" "+string(node.GenerateRoot))
	}
	return append(list, "committed rekey, old kept: true", "committed rotate-root, old kept: false")
}
