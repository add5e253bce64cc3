// Package model holds the model-based tests: random interleavings against small references that are written apart
// from the product, in other terms.
package model

import (
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/secret"
)

const (
	cluster    = "6a2e0b4c-51b5-4d53-9f2e-1f3d6a0f7c11"
	generation = 7
	maxHolders = 6
)

// reference is what the documentation says about one attempt, written as sets: who voted when, who objects. It
// knows no signatures and no digests; whether an approval is a vote is the test's own knowledge.
type reference struct {
	kind           string // "local", "anyone", "token" or "holder"
	token          string // its owner, if a token is
	starter        int    // the holder who proved a share at the start, or 0
	weak           bool   // nothing but its connection gave the authority to start
	n, t           int
	unapproved     time.Duration
	idle, total    time.Duration
	begun          time.Time
	votes          map[int]time.Time // :: slot → when
	against        map[int]bool      // :: slot → objects
	cancelled, won bool
}

// over lists the reasons one after the other.
func (r *reference) over(now time.Time) bool {
	age := now.Sub(r.begun)
	if r.cancelled || r.won || age >= r.total || age < -r.total {
		return true
	}
	if len(r.votes) == 0 {
		return age >= r.unapproved
	}
	active := r.begun
	for _, when := range r.votes {
		if when.After(active) {
			active = when
		}
	}
	return now.Sub(active) >= r.idle
}

// othersVoted counts the votes of everybody else.
func (r *reference) othersVoted(slot int) int {
	n := len(r.votes)
	if _, voted := r.votes[slot]; voted {
		n--
	}
	return n
}

// cancel says what must happen: "ends", "objects", "denied" or "nothing", the last when it is over already.
func (r *reference) cancel(c ceremony.Caller, now time.Time) string {
	if r.over(now) {
		return "nothing"
	}
	byConnection := r.kind == "local" || r.kind == "anyone"
	holds := c.Slot >= 1 && c.Slot <= r.n
	reasons := []bool{
		c.TokenAllowed && c.Token != "",
		r.token != "" && c.Token == r.token,
		byConnection && c.Local,
		r.kind == "anyone" && c.Anyone && len(r.votes) == 0,
		holds && c.Slot == r.starter,
		holds && r.othersVoted(c.Slot) == 0,
	}
	if slices.Contains(reasons, true) {
		r.cancelled = true
		return "ends"
	}
	if !holds {
		return "denied"
	}
	r.against[c.Slot] = true
	if r.n-len(r.against) < r.t { // those who don't object are no quorum
		r.cancelled = true
		return "ends"
	}
	return "objects"
}

// yields reports whether a start by c may replace it.
func (r *reference) yields(c ceremony.Caller, now time.Time) bool {
	allowed := c.TokenAllowed && c.Token != ""
	holds := c.Slot >= 1 && c.Slot <= r.n
	switch {
	case r.over(now):
		return true
	case r.othersVoted(r.starter) > 0: // an honest holder's approval is never thrown away
		return false
	case r.weak:
		return allowed || holds
	case r.kind == "holder" && allowed:
		return true
	default:
		return holds && c.Slot != r.starter && now.Sub(r.begun) >= r.unapproved
	}
}

// world is one cluster with its slot for an attempt, beside what the reference says about it.
type world struct {
	n, t    int
	idle    time.Duration // limit; beyond a day it lets the total limit bind
	now     time.Time
	keys    map[int]*holder.Key // :: slot → key
	foreign map[int]*holder.Key // :: slot → key of the generation before
	attempt *ceremony.Attempt
	ref     *reference
	old     []ceremony.Approval // made for attempts that are gone
	starts  int
	seen    map[string]int // :: event → how often, over all runs
}

func newWorld(t *rapid.T, seen map[string]int) *world {
	n := rapid.SampledFrom([]int{1, 2, 3, 5, maxHolders, maxHolders}).Draw(t, "holders")
	w := &world{
		n: n, t: rapid.IntRange((n+1)/2, n).Draw(t, "threshold"), seen: seen,
		idle: rapid.SampledFrom([]time.Duration{time.Hour, time.Hour, 48 * time.Hour}).Draw(t, "idle limit"),
		now:  time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC),
		keys: map[int]*holder.Key{}, foreign: map[int]*holder.Key{},
	}
	for slot := 1; slot <= n; slot++ {
		share := make([]byte, 33)
		share[0], share[32] = 0xa5, byte(slot)
		w.keys[slot] = holder.Derive(secret.Copy(share), cluster, generation)
		w.foreign[slot] = holder.Derive(secret.Copy(share), cluster, generation-1)
	}
	return w
}

func (w *world) verifier(slot int) (holder.Verifier, bool) {
	key, ok := w.keys[slot]
	if !ok {
		return holder.Verifier{}, false
	}
	return key.Verifier(), true
}

// caller draws who asks: half of the time somebody with one fact on their side, half of the time with any
// combination of facts; strangers come up in both.
func (w *world) caller(t *rapid.T) ceremony.Caller {
	single := rapid.SampledFrom([]string{"", "", "", "", "stranger", "local", "open", "token", "allowed", "holder", "holder", "starter"}).Draw(t, "who")
	has := func(fact string) bool {
		return single == fact || (single == "" && rapid.Bool().Draw(t, fact))
	}
	c := ceremony.Caller{Local: has("local"), Anyone: has("open"), TokenAllowed: has("allowed")}
	if has("token") || single == "allowed" {
		c.Token = rapid.SampledFrom([]string{"t1", "t2"}).Draw(t, "id")
	}
	if single == "starter" && w.ref != nil {
		c.Slot = w.ref.starter
	} else if has("holder") {
		c.Slot = rapid.IntRange(-1, w.n+1).Draw(t, "slot")
	}
	return c
}

func stranger(c ceremony.Caller, n int) bool {
	return !c.Local && !c.Anyone && c.Token == "" && (c.Slot < 1 || c.Slot > n)
}

func (w *world) snapshot(t *rapid.T) string {
	b, err := json.Marshal(w.attempt)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// start is what a server does with the machine's answers.
func (w *world) start(t *rapid.T) {
	c := w.caller(t)
	if w.attempt != nil {
		if got, want := w.attempt.GivesWay(c, w.now), w.ref.yields(c, w.now); got != want {
			t.Fatalf("gives way to %+v: %v, want %v", c, got, want)
		} else if !got {
			w.seen["start refused: one is open"]++
			return
		} else if !w.ref.over(w.now) {
			w.seen["gave way"]++
		}
	}
	hasAuthority := c.Local || c.Anyone || c.Slot > 0 || (c.TokenAllowed && c.Token != "")
	if err := c.MayStart(); (err == nil) != hasAuthority {
		t.Fatalf("%+v may start: %v", c, err)
	} else if err != nil {
		if f := fault.As(err); f == nil || f.Kind != fault.Denied {
			t.Fatalf("%v isn't a denial", err)
		}
		w.seen["start denied"]++
		return
	}
	w.begin(c)
}

func (w *world) begin(c ceremony.Caller) {
	w.starts++
	by := c.Initiator()
	w.attempt = ceremony.New(ceremony.Params{
		Nonce: "the same for all", Kind: ceremony.RootToken, ClusterID: cluster, Generation: generation,
		Threshold: w.t, Holders: w.n, Recipient: string(rune('a' + w.starts%2)), Reason: "r", Initiator: by, Now: w.now,
		Limits: ceremony.Limits{Idle: w.idle},
	})
	w.ref = startedBy(c)
	w.ref.n, w.ref.t, w.ref.begun = w.n, w.t, w.now
	w.ref.unapproved, w.ref.idle, w.ref.total = 5*time.Minute, w.idle, 24*time.Hour
	w.seen["started by "+w.ref.kind]++
}

// startedBy is an attempt of which only is said who started it.
func startedBy(c ceremony.Caller) *reference {
	r := &reference{
		votes: map[int]time.Time{}, against: map[int]bool{}, starter: max(c.Slot, 0),
		weak: c.Slot < 1 && (c.Token == "" || !c.TokenAllowed),
	}
	switch {
	case c.Token != "":
		r.kind, r.token = "token", c.Token
	case c.Slot > 0:
		r.kind = "holder"
	case c.Local:
		r.kind = "local"
	default:
		r.kind = "anyone"
	}
	return r
}

// holder draws one of all, the starter more often than the others.
func (w *world) holder(t *rapid.T) int {
	slot := rapid.IntRange(1, w.n).Draw(t, "slot")
	if s := w.ref.starter; s >= 1 && s <= w.n && rapid.IntRange(0, 2).Draw(t, "the starter") == 0 {
		return s
	}
	return slot
}

// approve is an honest holder, by share or by signature, for the first time or again.
func (w *world) approve(t *rapid.T) {
	if w.attempt == nil {
		t.Skip("nothing to approve")
	}
	if w.ref.over(w.now) && rapid.IntRange(0, 3).Draw(t, "give up") > 0 {
		w.start(t) // so that runs don't spend themselves on what is over
		return
	}
	slot := w.holder(t)
	mode := rapid.SampledFrom([]holder.Mode{holder.ModeShare, holder.ModeSignature}).Draw(t, "mode")
	ap := ceremony.Approval{Slot: slot, Mode: mode, Signature: w.keys[slot].Sign(w.attempt.Statement(slot, mode))}
	w.old = append(w.old, ap)

	over := w.ref.over(w.now)
	_, again := w.ref.votes[slot]
	before := w.snapshot(t)
	complete, err := w.attempt.Approve(ap, w.verifier, w.now)
	switch {
	case over:
		w.refused(t, before, complete, err, ceremony.ErrEnded)
	case again:
		w.refused(t, before, complete, err, ceremony.ErrDuplicate)
	default:
		w.ref.votes[slot] = w.now
		w.ref.won = len(w.ref.votes) == w.t
		if err != nil || complete != w.ref.won {
			t.Fatalf("vote %d of %d: complete %v, %v", len(w.ref.votes), w.t, complete, err)
		}
		w.seen["approved"]++
		if complete {
			w.seen["complete"]++
		}
	}
}

// junk is everything else that arrives as an approval.
func (w *world) junk(t *rapid.T) {
	if w.attempt == nil {
		t.Skip("nothing to approve")
	}
	slot := rapid.IntRange(1, w.n).Draw(t, "slot")
	s := w.attempt.Statement(slot, holder.ModeShare)
	ap := ceremony.Approval{Slot: slot, Mode: holder.ModeShare, Signature: w.keys[slot].Sign(s)}
	kind := rapid.SampledFrom([]string{"flipped", "foreign", "shifted", "slot", "action", "mode", "random", "replay"}).Draw(t, "junk")
	switch kind {
	case "flipped":
		ap.Signature[rapid.IntRange(0, 63).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
	case "foreign":
		ap.Signature = w.foreign[slot].Sign(s)
	case "shifted":
		ap.Slot = slot%maxHolders + 1
	case "slot":
		ap.Slot = rapid.SampledFrom([]int{-1, 0, w.n + 1, 1 << 40}).Draw(t, "no slot")
	case "action":
		s.Action = holder.ActionCancel
		ap.Signature = w.keys[slot].Sign(s)
	case "mode":
		ap.Mode = rapid.SampledFrom([]holder.Mode{"", "vote", holder.ModeSignature}).Draw(t, "other mode")
	case "random":
		ap.Signature = rapid.SliceOfN(rapid.Byte(), 0, 80).Draw(t, "signature")
	case "replay":
		if len(w.old) == 0 {
			t.Skip("nothing to replay")
		}
		ap = rapid.SampledFrom(w.old).Draw(t, "old approval")
		if v, _ := w.verifier(ap.Slot); holder.Verify(v, w.attempt.Statement(ap.Slot, ap.Mode), ap.Signature) {
			t.Skip("made for this attempt")
		}
	}
	want := error(ceremony.ErrNotValid)
	if w.ref.over(w.now) {
		want = ceremony.ErrEnded
	}
	before := w.snapshot(t)
	complete, err := w.attempt.Approve(ap, w.verifier, w.now)
	w.refused(t, before, complete, err, want)
	w.seen["junk: "+kind]++
}

// refused demands an error, and an attempt that is as it was.
func (w *world) refused(t *rapid.T, before string, complete bool, err, want error) {
	if complete || !errors.Is(err, want) {
		t.Fatalf("complete %v, %v; want: %v", complete, err, want)
	}
	if after := w.snapshot(t); after != before {
		t.Fatalf("refused, but changed\nfrom %s\nto   %s", before, after)
	}
	w.seen["refused: "+want.Error()]++
}

func (w *world) cancel(t *rapid.T) { w.cancelBy(t, w.caller(t)) }

// object is a cancel by a holder with nothing else on their side.
func (w *world) object(t *rapid.T) {
	w.cancelBy(t, ceremony.Caller{Slot: rapid.IntRange(1, w.n).Draw(t, "slot")})
}

func (w *world) cancelBy(t *rapid.T, c ceremony.Caller) {
	if w.attempt == nil {
		t.Skip("nothing to cancel")
	}
	before := w.snapshot(t)
	want := w.ref.cancel(c, w.now)
	err := w.attempt.Cancel(c, w.now)
	var got string
	switch f := fault.As(err); {
	case err == nil:
		got = "ends"
	case errors.Is(err, ceremony.ErrObjection):
		got = "objects"
	case errors.Is(err, ceremony.ErrEnded):
		got = "nothing"
	case f != nil && f.Kind == fault.Denied:
		got = "denied"
	}
	if got != want {
		t.Fatalf("cancel by %+v: %s (%v), want %s", c, got, err, want)
	}
	changed := w.snapshot(t) != before
	if changed && (want == "denied" || want == "nothing") {
		t.Fatalf("cancel by %+v: %s, but changed", c, got)
	}
	if changed && stranger(c, w.n) {
		t.Fatalf("a stranger changed the attempt")
	}
	w.seen["cancel: "+got]++
}

// tick moves the clock, mostly to the neighbourhood of a deadline, sometimes back.
func (w *world) tick(t *rapid.T) {
	small := []time.Duration{0, time.Millisecond, time.Second, time.Minute, -time.Minute}
	steps := append(slices.Repeat(small, 3), 5*time.Minute-time.Millisecond, 5*time.Minute, time.Hour-time.Millisecond,
		time.Hour, 24*time.Hour-time.Millisecond, 24*time.Hour, -time.Hour, -2*time.Hour)
	step := rapid.SampledFrom(steps).Draw(t, "step")
	w.now = w.now.Add(step)
	if w.attempt != nil && w.attempt.Ended(w.now) {
		w.seen["over after a tick"]++
	}
}

// restart stores the attempt and reads it again, as another node would.
func (w *world) restart(t *rapid.T) {
	if w.attempt == nil {
		t.Skip("nothing to store")
	}
	before := w.snapshot(t)
	w.attempt = new(ceremony.Attempt)
	if err := json.Unmarshal([]byte(before), w.attempt); err != nil {
		t.Fatal(err)
	}
	if after := w.snapshot(t); after != before {
		t.Fatalf("stored as %s, read as %s", before, after)
	}
}

// check compares the two after every step.
func (w *world) check(t *rapid.T) {
	if w.attempt == nil {
		return
	}
	a, r := w.attempt, w.ref
	if got, want := a.Ended(w.now), r.over(w.now); got != want {
		t.Fatalf("over: %v, want %v", got, want)
	}
	if a.Progress() != len(r.votes) {
		t.Fatalf("progress %d, want %d", a.Progress(), len(r.votes))
	}
	if (a.Outcome == ceremony.Complete) != r.won || (a.Outcome == ceremony.Cancelled) != r.cancelled {
		t.Fatalf("outcome %q, want complete %v, cancelled %v", a.Outcome, r.won, r.cancelled)
	}
	voters := map[int]bool{}
	for _, ap := range a.Approvals {
		v, ok := w.verifier(ap.Slot)
		if !ok || !holder.Verify(v, a.Statement(ap.Slot, ap.Mode), ap.Signature) {
			t.Fatalf("an approval of slot %d is kept that isn't valid", ap.Slot)
		}
		voters[ap.Slot] = true
	}
	if len(voters) != len(a.Approvals) {
		t.Fatalf("a holder is counted twice: %d", len(a.Approvals))
	}
	if a.Outcome == ceremony.Complete && len(voters) < w.t {
		t.Fatalf("complete with %d of %d", len(voters), w.t)
	}
	objecting := map[int]bool{}
	for _, slot := range a.Objections {
		objecting[slot] = true
	}
	if len(objecting) != len(a.Objections) || !maps.Equal(objecting, r.against) {
		t.Fatalf("objections %v, want %v", a.Objections, r.against)
	}
}

// setting gives the engine a setting, unless the command line does.
func setting(t *testing.T, name, value string) {
	f := flag.Lookup(name)
	if f.Value.String() != f.DefValue {
		return
	}
	if err := f.Value.Set(value); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Value.Set(f.DefValue) })
}

// TestCeremony runs random interleavings of everybody's moves against the machine and the reference.
func TestCeremony(t *testing.T) {
	setting(t, "rapid.checks", "500") // a few seconds
	seen := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, seen)
		t.Repeat(map[string]func(*rapid.T){
			"start":   w.start,
			"begin":   w.start,
			"approve": w.approve,
			"vote":    w.approve, // honest holders are the majority
			"junk":    w.junk,
			"cancel":  w.cancel,
			"object":  w.object,
			"tick":    w.tick,
			"restart": w.restart,
			"":        w.check,
		})
	})
	// Everything that can happen must have happened, or the run has shown nothing.
	for _, event := range []string{
		"started by local", "started by anyone", "started by token", "started by holder", "start denied",
		"start refused: one is open", "gave way", "approved", "complete", "over after a tick",
		"cancel: ends", "cancel: objects", "cancel: denied", "cancel: nothing",
		"junk: flipped", "junk: foreign", "junk: shifted", "junk: slot", "junk: action", "junk: mode", "junk: random", "junk: replay",
		"refused: " + ceremony.ErrDuplicate.Error(), "refused: " + ceremony.ErrEnded.Error(), "refused: " + ceremony.ErrNotValid.Error(),
	} {
		if seen[event] == 0 && !t.Failed() {
			t.Errorf("never seen: %s", event)
		}
	}
	t.Log(seen)
}
