package model

import (
	"bytes"
	"fmt"
	"slices"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/token"
)

// mostlyOpen unseals, so that runs don't spend themselves on a sealed node.
func (w *nodeWorld) mostlyOpen() {
	if w.sealed && rapid.IntRange(0, 5).Draw(w.T, "stay sealed") > 0 {
		w.open()
	}
}

// open unseals with a quorum of a generation that must be able to.
func (w *nodeWorld) open() {
	by := w.active
	if w.retiring != nil && rapid.Bool().Draw(w.T, "by the old ones") {
		by = w.retiring
	}
	slots := rapid.Permutation(slots(by.n)).Draw(w.T, "who comes")
	for _, slot := range slots {
		if !w.sealed {
			return
		}
		w.unsealWith(credential{quality: "good", of: by, slot: slot, share: by.shares[slot-1]})
	}
	if w.sealed {
		w.Fatalf("all %d shares of generation %d, and it is sealed", by.n, by.number)
	}
}

func slots(n int) (list []int) {
	for slot := 1; slot <= n; slot++ {
		list = append(list, slot)
	}
	return list
}

func (w *nodeWorld) unseal(*rapid.T) {
	p := rapid.SampledFrom(append(slices.Clone(w.gens), w.active, w.active)).Draw(w.T, "generation")
	c := w.good(p, nil)
	switch {
	case rapid.IntRange(0, 3).Draw(w.T, "flip") == 0:
		c.share = bytes.Clone(c.share)
		c.share[3] ^= 1
		c.quality = "bad"
	case p == w.active, p == w.retiring:
	case p == w.former:
		c.quality = "old"
	default:
		c.quality = "bad"
	}
	w.unsealWith(c)
}

func (w *nodeWorld) forgetRound() {
	if w.now().Sub(w.lastGiven) >= 15*time.Minute {
		w.given = map[uint64]map[int]bool{}
	}
}

func (w *nodeWorld) unsealWith(c credential) {
	before, want, changes := w.dump(), "", false
	opens := false
	if w.sealed && c.quality != "good" {
		want = c.quality
		changes = want == "old" && w.refusesOld(c)
	} else if w.sealed {
		w.forgetRound()
		g := w.given[c.of.number]
		if g == nil {
			g = map[int]bool{}
			w.given[c.of.number] = g
		}
		if changes = !g[c.slot]; changes {
			w.happens("unseal-share", c.slot)
		}
		g[c.slot], w.lastGiven = true, w.now()
		if opens = len(g) >= c.of.t; opens {
			w.sealed = false
			w.happens("unsealed", 0)
			if c.of == w.active {
				for slot := range g {
					c.of.proven[slot] = true
				}
				w.proven(c.of)
			}
			w.given = map[uint64]map[int]bool{}
		}
	}
	st, err := w.node.Unseal(w.ctx(), secret.Copy(c.share), false, "10.0.0.9")
	w.did("unseal", err, want, before, changes)
	if err == nil && st.Sealed != w.sealed {
		w.Fatalf("sealed: %v, want %v", st.Sealed, w.sealed)
	}
	if opens {
		w.seen[fmt.Sprintf("unsealed by the active: %t", c.of == w.active)]++
	}
}

// resetUnseal is often the second thing that happens to a sealed node, for with nothing given nothing is reset.
func (w *nodeWorld) resetUnseal(*rapid.T) {
	if !w.sealed {
		if rapid.Bool().Draw(w.T, "leave it") {
			w.Skip("unsealed")
		}
		w.boot()
	}
	for range rapid.IntRange(1, 3).Draw(w.T, "resets") {
		if w.active.t > 1 && len(w.given[w.active.number]) == 0 && rapid.IntRange(0, 3).Draw(w.T, "give first") > 0 {
			w.unsealWith(w.good(w.active, nil))
		}
		w.resetUnsealOnce()
	}
}

func (w *nodeWorld) resetUnsealOnce() {
	local := rapid.Bool().Draw(w.T, "local")
	var c credential
	switch rapid.SampledFrom([]string{"nothing", "good", "good", "bad"}).Draw(w.T, "share") {
	case "good":
		c = w.good(w.active, nil)
	case "bad":
		c = w.bad(w.active, nil)
	}
	w.forgetRound()
	before, want, changes, begun := w.dump(), "", false, len(w.given) > 0
	slot := c.slot
	if c.quality == "bad" || c.quality == "old" && c.of != w.retiring { // the retiring ones are holders still
		slot = 0
	}
	at := [2]uint64{w.active.number, uint64(slot)}
	switch last, ok := w.took[at]; {
	case !local && c.quality != "good":
		want, changes = "denied", c.quality == "old" && c.of == w.former && w.refusesOld(c)
	case !begun:
	case !local && ok && w.now().Sub(last).Abs() < time.Minute:
		want = "again"
	default:
		if changes = true; !local {
			w.took[at] = w.now()
		}
		w.given = map[uint64]map[int]bool{}
		w.happens("unseal-reset", slot)
	}
	_, err := w.node.ResetUnseal(w.ctx(), secret.Copy(c.share), local)
	w.did("reset", err, want, before, changes)
}

func (w *nodeWorld) seal(*rapid.T) {
	b := rapid.SampledFrom(w.tokens).Draw(w.T, "token")
	if b.dubious {
		w.Skip("nobody knows whether this token is dead")
	}
	live := slices.ContainsFunc(w.tokens, func(o *bearer) bool { return o.id == b.id && o.root && o.live(w.now()) })
	before, want, changes := w.dump(), "", false
	switch {
	case w.sealed:
	case !live:
		want = "denied"
	default:
		changes = true
		for _, k := range kinds() {
			if p := w.places[k]; p != nil && p.ver == nil {
				w.bury(p, node.Cancelled, "end", 0)
			}
		}
		w.happens("sealed", 0)
		w.sealed = true
	}
	w.did("seal", w.node.Seal(w.ctx(), w.access(b, "sys/seal", policy.Update), false), want, before, changes)
}

func (w *nodeWorld) restart(*rapid.T) {
	before := w.dump()
	w.boot()
	w.did("restart", nil, "", before, false)
}

// tick sets the clock, mostly to the neighbourhood of a deadline, sometimes back.
func (w *nodeWorld) tick(*rapid.T) {
	small := []time.Duration{time.Millisecond, time.Second, time.Minute, -time.Minute}
	steps := append(slices.Repeat(small, 4), 5*time.Minute-time.Millisecond, 5*time.Minute, 16*time.Minute, time.Hour-time.Millisecond,
		time.Hour, 24*time.Hour-time.Millisecond, 24*time.Hour, 7*24*time.Hour, -time.Hour, -2*time.Hour, -24*time.Hour)
	w.offset.Add(int64(rapid.SampledFrom(steps).Draw(w.T, "step")))
}

// sweep lets the time pass in which the node clears up once, after a while in which it hadn't.
func (w *nodeWorld) sweep(*rapid.T) {
	if w.sealed {
		w.Skip("nobody sweeps")
	}
	w.offset.Add(int64(rapid.SampledFrom([]time.Duration{0, 0, 5 * time.Minute, time.Hour}).Draw(w.T, "later")))
	time.Sleep(sweepEvery)
	synctest.Wait()
	for _, e := range w.ends {
		e.forgotten = e.forgotten || !w.now().Before(e.until)
	}
	for _, s := range w.signed {
		if !w.now().Before(s.kept) {
			s.kept = time.Time{}
		}
	}
	for _, k := range kinds() {
		w.buryDead(k)
	}
}

func (w *nodeWorld) cancel(*rapid.T) {
	w.mostlyOpen()
	k := rapid.SampledFrom(kinds()).Draw(w.T, "kind")
	p := w.openPlace(k)
	var sign func(int) holder.Statement
	if p != nil {
		sign = func(slot int) holder.Statement { return p.attempt.CancelStatement(slot, "") }
	}
	a := w.asker(sign)
	nonce := rapid.SampledFrom([]string{"", "", nobody}).Draw(w.T, "nonce")
	before, now := w.dump(), w.now()
	want, changes, outcome, objected := "", false, "", 0
	switch {
	case w.sealed:
		want = "sealed"
	case p != nil && nonce != "":
		want = "nonce"
	case a.quality == "old":
		want, changes = "old", w.refusesOld(a.credential)
	case a.quality == "bad":
		want = "bad"
	case p == nil:
		outcome = "nothing" // what is over is for the sweep, or for the next start, to bury
	default:
		objected = len(p.against)
		if outcome = p.cancels(a.caller(now), now); outcome == "denied" {
			want = outcome
			break
		}
		if a.stranger(now) {
			w.Fatal("the reference lets a stranger cancel")
		}
		slot := max(a.caller(now).Slot, 0)
		if changes = true; outcome == "ends" {
			w.bury(p, node.Cancelled, "cancel", slot)
		} else if len(p.against) > objected {
			w.happens("object", slot)
		}
	}
	_, over, err := w.node.Cancel(w.ctx(), k, nonce, a.Asker)
	w.did("cancel", err, want, before, changes)
	if err == nil && over == (outcome == "objects") {
		w.Fatalf("cancel: ended %v, want: %s", over, outcome)
	}
	w.seen["cancel "+outcome]++
}

func (w *nodeWorld) verifyingPlace() *place {
	for _, k := range kinds() {
		if p := w.openPlace(k); p != nil && p.ver != nil {
			return p
		}
	}
	for _, k := range []ceremony.Kind{ceremony.Rekey, ceremony.RotateRoot} {
		if p := w.openPlace(k); p != nil {
			w.approveWith(w.consent(p, true))
			w.Skip("first it needs its approvals")
		}
	}
	w.begin(rapid.SampledFrom([]ceremony.Kind{ceremony.Rekey, ceremony.RotateRoot}).Draw(w.T, "kind"))
	w.Skip("nobody verifies")
	return nil
}

func (w *nodeWorld) resetVerification(*rapid.T) {
	w.mostlyOpen()
	p := w.verifyingPlace()
	a := w.asker(func(slot int) holder.Statement {
		return ceremony.ResetStatement(w.id, p.attempt.Generation, slot, "", p.ver.nonce)
	})
	before, now := w.dump(), w.now()
	again := *p // nothing of this is to be an objection
	r := *p.reference
	r.against = map[int]bool{}
	for slot := range p.against {
		r.against[slot] = true
	}
	again.reference = &r
	want, changes := "", false
	switch {
	case w.sealed:
		want = "sealed"
	case a.quality == "old":
		want, changes = "old", w.refusesOld(a.credential)
	case a.quality == "bad":
		want = "bad"
	case again.cancels(a.caller(now), now) != "ends" || len(r.against) > len(p.against):
		want = "denied"
	default:
		changes = true
		w.happens("verification-reset", max(a.caller(now).Slot, 0))
		p.ver.proofs, p.ver.began = map[int]time.Time{}, now
	}
	c, err := w.node.ResetVerification(w.ctx(), p.is, a.Asker)
	w.did("verification reset", err, want, before, changes)
	if err == nil {
		if c.Verification.Nonce == p.ver.nonce {
			w.Fatal("the nonce of the verification is the same")
		}
		p.ver.nonce = c.Verification.Nonce
	}
}

func (w *nodeWorld) verify(*rapid.T) {
	w.mostlyOpen()
	p := w.verifyingPlace()
	sign := func(slot int) holder.Statement {
		return ceremony.ProveStatement(w.id, p.ver.gen.number, slot, "", p.ver.nonce)
	}
	a := approval{kind: p.is, nonce: p.ver.nonce}
	if rapid.IntRange(0, 3).Draw(w.T, "good") > 0 {
		a.credential = w.good(p.ver.gen, sign)
	} else if a.credential = w.bad(p.ver.gen, sign); a.quality == "old" {
		a.quality = "bad"
	}
	if rapid.IntRange(0, 9).Draw(w.T, "nonce") == 0 {
		a.nonce = nobody
	}
	before, want := w.dump(), w.proves(a)
	c, err := w.node.Verify(w.ctx(), a.kind, a.nonce, node.Approver{Credential: a.credential.node()})
	w.did("verify", err, want, before, want == "")
	if want == "" {
		w.proved(a, c)
	}
}

// result reads, or destroys, what is kept of an attempt.
func (w *nodeWorld) result(*rapid.T) {
	w.mostlyOpen()
	nonces := []string{nobody}
	for nonce := range w.ends {
		nonces = append(nonces, nonce)
	}
	slices.SortFunc(nonces, func(a, b string) int { return w.order(a) - w.order(b) }) // because nonces are random
	if kept := slices.DeleteFunc(slices.Clone(nonces), func(nonce string) bool {
		return w.ends[nonce] == nil || !w.ends[nonce].encrypted
	}); len(kept) > 0 && rapid.Bool().Draw(w.T, "shares") {
		nonces = kept
	}
	e := w.ends[rapid.SampledFrom(nonces).Draw(w.T, "which")]
	nonce := nobody
	if e != nil {
		nonce = e.nonce
	}
	destroy, now := rapid.IntRange(0, 3).Draw(w.T, "destroy") == 0, w.now()
	at := now.UTC().Truncate(time.Millisecond)
	if rapid.IntRange(0, 9).Draw(w.T, "signed too early") == 0 {
		at = at.Add(-ceremony.StartWindow - time.Second)
	}
	statement := ceremony.ResultStatement
	signed := destroy
	if rapid.IntRange(0, 9).Draw(w.T, "the other statement") == 0 {
		signed = !destroy
	}
	if signed {
		statement = ceremony.AcknowledgeStatement
	}
	a := w.asker(func(slot int) holder.Statement {
		return statement(w.id, w.active.number, slot, "", nonce, at)
	})
	if a.SignedAt = at; signed != destroy && a.signature != nil {
		a.quality = "bad"
	}
	if e != nil && e.starter >= 1 && e.starter <= w.active.n && rapid.IntRange(0, 3).Draw(w.T, "the starter's slot") == 0 {
		a = asker{credential: credential{quality: "good", of: w.active, slot: e.starter, share: w.active.shares[e.starter-1]}}
		a.Credential = a.credential.node()
	}
	c := a.caller(now)
	known := e != nil && e.there(now)
	before, want, changes := w.dump(), "", false
	switch {
	case w.sealed:
		want = "sealed"
	case a.signature != nil && now.Sub(at) > ceremony.StartWindow:
		want = "late"
	case a.quality == "old":
		want, changes = "old", w.refusesOld(a.credential)
	case a.quality == "bad":
		want = "bad"
	case !w.mayHave(c, e, known, destroy):
		want = "denied"
	case !known || e.state == node.Cancelled || e.state == node.Expired:
		want = "no result"
	case destroy:
		changes = true
		w.seen[fmt.Sprintf("destroyed encrypted shares: %t", e.encrypted)]++
		e.encoded, e.keys, e.encrypted, e.until = "", nil, false, now.Add(resultTTL)
		w.happens("acknowledge", max(c.Slot, 0))
	case e.encoded == "" && !e.encrypted:
		want = "no result"
	}
	if destroy {
		w.did("acknowledge", w.node.Acknowledge(w.ctx(), nonce, a.Asker), want, before, changes)
		return
	}
	got, err := w.node.Result(w.ctx(), nonce, a.Asker)
	w.did("result", err, want, before, changes)
	if err == nil && (got.EncodedToken != e.encoded || len(got.Keys) != len(e.keys)) {
		w.Fatalf("another result: %q and %d keys, want %q and %d", got.EncodedToken, len(got.Keys), e.encoded, len(e.keys))
	}
}

// mayHave says who is told what came of an attempt, or, with destroy, may have it destroyed.
func (w *nodeWorld) mayHave(c ceremony.Caller, e *ended, known, destroy bool) bool {
	holds := c.Slot > 0
	if holds && known && destroy && e.encrypted { // others may not have theirs yet
		holds = c.Slot == e.starter && e.gen == w.active // a slot is another holder's in another generation
	}
	return slices.Contains([]bool{
		c.TokenAllowed && c.Token != "",
		known && c.Token != "" && c.Token == e.token,
		c.Local && (!known || e.weak),
		holds,
	}, true)
}

// order is that in which attempts were started; 0 for a nonce of none.
func (w *nodeWorld) order(nonce string) int {
	if e := w.ends[nonce]; e != nil {
		return e.order
	}
	return 0
}

func (w *nodeWorld) newToken(*rapid.T) {
	if w.sealed || len(w.tokens) > 6 {
		w.Skip("no token")
	}
	b := &bearer{serial: fmt.Sprint("token ", len(w.tokens)), root: rapid.Bool().Draw(w.T, "root")}
	spec := token.Spec{Path: "auth/token/create", Policies: []string{"default"}}
	if b.root {
		spec.Policies = []string{policy.Root}
	}
	err := w.node.Update(w.ctx(), w.access(w.tokens[0], spec.Path, policy.Update), func(c *node.Call) error {
		id, e, _, err := c.Create(spec)
		if err != nil {
			return err
		}
		if b.id = string(id.Reveal()); !e.NeverExpires {
			b.expires = e.Expires
		}
		return nil
	})
	if err != nil {
		w.Fatal(err)
	}
	w.tokens = append(w.tokens, b)
}
