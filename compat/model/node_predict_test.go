package model

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/node"
)

// This file is the reference: what must come of each step, by the documentation.

func (w *nodeWorld) happens(event string, slot int) {
	if slot > 0 {
		event = fmt.Sprint(event, " ", slot)
	}
	w.expect = append(w.expect, event)
}

// openPlace is the attempt of a kind that isn't over.
func (w *nodeWorld) openPlace(k ceremony.Kind) *place {
	if p := w.places[k]; p != nil && !p.dead(w.now()) {
		return p
	}
	return nil
}

// bury ends an attempt without effect.
func (w *nodeWorld) bury(p *place, state node.State, event string, slot int) {
	if p.ver != nil && w.pending == p.ver.gen {
		w.pending = nil
	}
	delete(w.places, p.is)
	w.ends[p.nonce] = &ended{place: p, state: state, until: w.now().Add(resultTTL)}
	w.happens(event, slot)
	w.seen["end: "+event]++
}

func (w *nodeWorld) buryDead(k ceremony.Kind) {
	if p := w.places[k]; p != nil && p.dead(w.now()) {
		w.bury(p, node.Expired, "expire", 0)
	}
}

// proven is what a holder's working share has for a consequence.
func (w *nodeWorld) proven(p *people, slots ...int) {
	for _, slot := range slots {
		p.proven[slot] = true
	}
	if w.retiring != nil && p == w.active && len(p.proven) >= p.t {
		w.former, w.retiring = w.retiring, nil
		w.happens("retire", 0)
		w.seen["retired by proof"]++
	}
}

// refusesOld writes down, once a minute, that a share was given which was good once.
func (w *nodeWorld) refusesOld(c credential) bool {
	key := [2]uint64{c.of.number, uint64(c.slot)}
	if last, ok := w.told[key]; ok && w.now().Sub(last).Abs() < time.Minute {
		return false
	}
	w.told[key] = w.now()
	w.happens("refused", c.slot)
	return true
}

// approval is somebody's consent on its way.
type approval struct {
	credential
	kind   ceremony.Kind
	family node.Family
	nonce  string
}

// approves says what must come of an approval: a class, and whether something changes.
func (w *nodeWorld) approves(a approval) (want string, changes bool) {
	if w.sealed {
		return "sealed", false
	}
	p := w.openPlace(a.kind)
	if p == nil || p.nonce != a.nonce || p.ver != nil {
		switch {
		case w.again(a) != nil:
			return "", false
		case p == nil:
			return "none", false
		case p.ver != nil:
			return "verifying", false
		}
		return "nonce", false
	}
	if a.kind == ceremony.RootToken && a.family != p.family {
		return "family", false
	}
	if a.quality != "good" {
		return a.quality, a.quality == "old" && w.refusesOld(a.credential)
	}
	if _, voted := p.votes[a.slot]; voted {
		if p.repeated[a.slot] {
			return "duplicate", false
		}
		p.repeated[a.slot] = true
		w.happens("duplicate", a.slot)
		return "duplicate", true
	}
	if changesHolders(a.kind) && len(p.votes)+1 == p.t {
		switch {
		case p.change.PGPKeys == nil && p.change.Age == nil && !p.change.Verify && a.mode == holder.ModeSignature:
			return "by share", false
		case w.pending != nil:
			return "pending", false
		}
	}
	return "", true
}

// again finds the attempt that this very share completed a short time ago.
func (w *nodeWorld) again(a approval) *ended {
	e := w.ends[a.nonce]
	if e == nil || a.share == nil || e.is != a.kind || !e.there(w.now()) || e.by == 0 || e.modes[e.by] != holder.ModeShare ||
		e.state == node.Cancelled || e.state == node.Expired || (a.kind == ceremony.RootToken && a.family != e.family) ||
		!bytes.Equal(a.share, e.gen.shares[e.by-1]) || changesHolders(e.is) && len(e.keys) == 0 {
		return nil
	}
	return e
}

// approved makes the reference what it must be after a good approval, for which the server gave the reply c.
func (w *nodeWorld) approved(a approval, c *node.Ceremony) {
	if e := w.again(a); e != nil {
		w.sameReply(e, c)
		return
	}
	p := w.places[a.kind]
	p.votes[a.slot], p.modes[a.slot], p.voted = w.now(), a.mode, w.now()
	w.happens("approve", a.slot)
	w.proven(p.gen, a.slot)
	w.seen["approved "+string(a.kind)+" by "+string(a.mode)]++
	if len(p.votes) < p.t {
		if c.State != node.Open || c.Attempt.Progress() != len(p.votes) {
			w.Fatalf("vote %d of %d: state %s, progress %d", len(p.votes), p.t, c.State, c.Attempt.Progress())
		}
		return
	}
	p.won = true
	e := &ended{place: p, state: node.Complete, by: a.slot, until: w.now().Add(resultTTL), encoded: c.EncodedToken}
	w.ends[p.nonce] = e
	delete(w.places, p.is)
	switch p.is {
	case ceremony.RootToken:
		w.newRoot(p, c)
	case ceremony.Holders:
		w.happens("generation", 0)
	case ceremony.Rekey, ceremony.RotateRoot:
		w.newGeneration(p, e, c)
	}
	if c.State != e.state {
		w.Fatalf("%s with %d of %d: state %s, want %s", p.is, len(p.votes), p.t, c.State, e.state)
	}
	w.happens("complete", 0)
	w.seen["completed "+string(p.is)+" "+string(p.family)]++
}

func (w *nodeWorld) sameReply(e *ended, c *node.Ceremony) {
	if c.EncodedToken != e.encoded || !slices.EqualFunc(c.Keys, e.keys, bytes.Equal) || c.State != e.state {
		w.Fatalf("the repeated approval of a %s has another reply: state %s, want %s; %d keys, want %d",
			e.is, c.State, e.state, len(c.Keys), len(e.keys))
	}
	w.seen["lost reply repeated"]++
}

func (w *nodeWorld) newRoot(p *place, c *node.Ceremony) {
	b := &bearer{serial: p.nonce, from: p.nonce, root: true}
	if p.ttl > 0 {
		b.expires = w.now().Add(p.ttl)
	}
	if p.family == node.RootGeneration {
		b.id = p.id
		for _, before := range w.tokens {
			if before.id == b.id {
				if before.live(w.now()) {
					w.endsWith(before)
				}
				before.dead = true
			}
		}
	} else {
		b.id = w.decode(c.EncodedToken, p.otp)
	}
	w.tokens = append(w.tokens, b)
}

// endsWith ends the attempts that a token owns, because it is dead.
func (w *nodeWorld) endsWith(b *bearer) {
	for _, k := range kinds() {
		if p := w.places[k]; p != nil && (p.token == b.serial || p.id != "" && p.id == b.id) {
			w.bury(p, node.Cancelled, "end", 0)
			w.seen["ended with its token"]++
		}
	}
}

// unsure reports whether nobody knows if p's completion ends other attempts: they are owned by a token with its ID that
// was past its end once.
func (w *nodeWorld) unsure(p *place) bool {
	return p != nil && p.family == node.RootGeneration && slices.ContainsFunc(w.tokens, func(b *bearer) bool {
		return b.id == p.id && !b.dead && b.dubious && slices.ContainsFunc(kinds(), func(k ceremony.Kind) bool {
			return w.places[k] != nil && w.places[k].token == b.serial
		})
	})
}

// newGeneration takes the new shares to their holders.
func (w *nodeWorld) newGeneration(p *place, e *ended, c *node.Ceremony) {
	for _, k := range c.Keys {
		e.keys = append(e.keys, bytes.Clone(k))
	}
	shares := e.keys
	if e.encrypted = p.change.Age != nil; e.encrypted {
		shares = w.decrypt(e.keys)
		e.until = w.now().Add(keysTTL)
	}
	if len(shares) != p.change.Shares {
		w.Fatalf("%d new shares, want %d", len(shares), p.change.Shares)
	}
	gen := w.people(w.next, p.change.Threshold, shares)
	w.next++
	w.happens("generation", 0)
	if !p.change.Verify {
		w.commit(p, gen, true)
		return
	}
	w.pending, e.state = gen, node.Verifying
	p.ver = &verification{nonce: c.Verification.Nonce, gen: gen, required: gen.t, began: w.now(), proofs: map[int]time.Time{}}
	if p.change.VerifyAll {
		p.ver.required = gen.n
	}
	w.places[p.is] = p
}

// commit puts a generation into force.
func (w *nodeWorld) commit(p *place, gen *people, keepOld bool) {
	if w.retiring != nil {
		w.former, w.retiring = w.retiring, nil
	}
	if keepOld {
		w.retiring = w.active
	} else {
		w.former = w.active
	}
	w.active, w.pending = gen, nil
	for _, k := range kinds() {
		if o := w.places[k]; o != nil && k != p.is {
			w.bury(o, node.Cancelled, "end", 0)
		}
	}
	w.happens("commit", 0)
	if p.change.Rotate {
		w.happens("rotate-root", 0)
	}
	w.seen[fmt.Sprintf("committed %s, old kept: %t", p.is, keepOld)]++
}

// proves says what must come of a new holder's proof.
func (w *nodeWorld) proves(a approval) string {
	if w.sealed {
		return "sealed"
	}
	p := w.openPlace(a.kind)
	switch {
	case p == nil:
		return "none"
	case p.ver == nil:
		return "no verification"
	case p.ver.nonce != a.nonce:
		return "nonce"
	case a.quality != "good":
		return "bad"
	}
	if _, done := p.ver.proofs[a.slot]; done {
		return "duplicate"
	}
	return ""
}

func (w *nodeWorld) proved(a approval, c *node.Ceremony) {
	p := w.places[a.kind]
	v := p.ver
	v.proofs[a.slot] = w.now()
	w.happens("prove", a.slot)
	w.proven(v.gen, a.slot)
	e := w.ends[p.nonce]
	if e.encrypted && e.there(w.now()) { // holders still come for theirs
		e.until = w.now().Add(keysTTL)
	}
	if len(v.proofs) < v.required {
		if c.State != node.Verifying {
			w.Fatalf("proof %d of %d: state %s", len(v.proofs), v.required, c.State)
		}
		return
	}
	if c.State != node.Complete {
		w.Fatalf("all %d proofs, and the state is %s", v.required, c.State)
	}
	if !e.there(w.now()) {
		e.by, e.encrypted, e.keys, e.forgotten = 0, false, nil, false
	}
	e.state = node.Complete
	if !e.encrypted || len(v.proofs) == v.gen.n {
		e.encrypted, e.keys, e.until = false, nil, w.now().Add(resultTTL)
	}
	delete(w.places, p.is)
	w.commit(p, v.gen, false)
}

// cancels says what must come of a cancel by c: "ends", "objects" or "denied". What waits for its new holders is
// cancelled by the rules of what hasn't been approved by all, at whatever time.
func (p *place) cancels(c ceremony.Caller, now time.Time) string {
	if p.ver == nil {
		return p.cancel(c, now)
	}
	again := *p.reference
	again.won = false
	return again.cancel(c, p.voted)
}
