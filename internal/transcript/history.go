package transcript

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/holder"
)

// history is what a log has said so far about generations and ceremonies, which decides what it may say next. Problems
// don't end it: what is wrong was told, and what follows is taken as far as it makes sense.
type history struct {
	clusterID   string
	generations map[uint64]*generation // :: number → its holders
	attempts    map[string]*attempt    // :: nonce → what was started
	active      uint64                 // number of the generation in force
	retiring    uint64                 // of the one before, while it can still unseal; 0: none
	used        map[string]bool        // :: nonce → a verification that began anew under another one
}

// generation is the holders of one generation, and how far it is from coming into force.
type generation struct {
	number    uint64
	threshold int
	verifiers map[int]holder.Verifier // :: slot → verifier
	labels    map[int]string          // :: slot → label
	by        *attempt                // nil for the first one
	verifying string                  // nonce of its verification
	proven    map[int]bool            // :: slot → a valid proof under that nonce was recorded
}

// attempt is what has become of an attempt so far.
type attempt struct {
	*ceremony.Attempt
	approved  map[int]bool // :: slot → a valid approval was recorded
	effect    *generation  // what it made or relabelled
	complete  bool
	committed bool // its generation came into force
	ended     bool // otherwise than by taking effect
}

func newHistory(clusterID string) history {
	return history{
		clusterID: clusterID, generations: map[uint64]*generation{}, attempts: map[string]*attempt{}, used: map[string]bool{},
	}
}

// follow takes an entry about generations or ceremonies, and returns whether it carries a valid signature, and what is
// wrong with it.
func (h *history) follow(e *Entry) (proven bool, why string) {
	switch e.Event {
	case Generation:
		return false, h.generation(e)
	case Start:
		return false, h.start(e)
	case Approve, Object, Cancel, Complete:
		return h.step(e)
	case Duplicate: // of an approval, which was signed in another mode or again
		if t := h.attempts[e.Nonce]; t != nil && len(e.Signature) > 0 {
			return h.signature(e, t.Statement(e.Slot, e.Mode))
		}
	case GaveWay, Expire, End:
		t := h.attempts[e.Nonce]
		if g := h.generations[e.Generation]; t == nil && g != nil {
			t = g.by // of a rekey whose record was lost only what it made is known
		}
		if t != nil {
			t.ended = true
		}
	case Prove:
		return h.prove(e)
	case VerificationReset:
		if g := h.generations[e.Generation]; g != nil {
			h.used[g.verifying] = true
			g.verifying, g.proven = "", nil
		}
	case Commit:
		return false, h.commit(e)
	case Retire:
		if e.Generation == 0 || e.Generation != h.retiring {
			return false, fmt.Sprintf("generation %d wasn't retiring", e.Generation)
		}
		h.retiring = 0
	}
	return false, ""
}

// signature checks that e is signed by the holder that s names.
func (h *history) signature(e *Entry, s holder.Statement) (bool, string) {
	if len(e.Signature) == 0 {
		return false, fmt.Sprintf("the signature of the holder of slot %d is missing", s.Slot)
	}
	g := h.generations[s.Generation]
	if g == nil {
		return false, fmt.Sprintf("generation %d was not recorded before, so that its signature can't be checked", s.Generation)
	}
	v, ok := g.verifiers[s.Slot]
	if !ok {
		return false, fmt.Sprintf("generation %d has no slot %d", s.Generation, s.Slot)
	}
	if !holder.Verify(v, s, e.Signature) {
		return false, fmt.Sprintf("the signature of the holder of slot %d is not valid", s.Slot)
	}
	return true, ""
}

// init takes the first holders. Setting a cluster up anew begins another log.
func (h *history) init(e *Entry) string {
	g, err := holdersOf(e)
	if err != nil {
		return err.Error()
	}
	h.generations[e.Generation], h.active = g, e.Generation
	return ""
}

// generation takes the holders of a new generation, which a quorum must have asked for, or new labels of the one in force.
func (h *history) generation(e *Entry) string {
	g, err := holdersOf(e)
	if err != nil {
		return err.Error()
	}
	old, t := h.generations[e.Generation], h.attempts[e.Nonce]
	if old == nil {
		h.generations[e.Generation] = g // its signatures can be checked, whatever is wrong with it
	}
	if t == nil {
		return "it doesn't come from a ceremony that was recorded before"
	}
	again := t.effect != nil
	g.by = t
	if t.effect = g; old != nil {
		t.effect = old
	}
	switch {
	case len(t.approved) < t.Threshold:
		return t.lacks()
	case t.Generation != h.active:
		return notInForce(t.Generation)
	case again:
		return "its ceremony had its effect before"
	case t.ended:
		return "its ceremony was over"
	case old == nil:
		return h.newHolders(t, g)
	}
	return h.relabel(t, old, g)
}

func (h *history) newHolders(t *attempt, g *generation) string {
	switch {
	case t.Kind != ceremony.Rekey && t.Kind != ceremony.RotateRoot:
		return "its ceremony was not for a new generation"
	case t.complete:
		return "its ceremony was over"
	case parameter(t, "secret_shares") != strconv.Itoa(len(g.verifiers)) || parameter(t, "secret_threshold") != strconv.Itoa(g.threshold):
		return "it has other numbers of shares than those that were approved"
	case !g.labelled(t):
		return "it has other labels than those that were approved"
	case g.number < h.active:
		return "its number is lower than that of the generation in force"
	}
	return ""
}

// relabel checks new labels of a generation that exists.
func (h *history) relabel(t *attempt, old, g *generation) string {
	switch {
	case !old.equal(g):
		return "it changes the holders of a generation that exists"
	case t.Kind != ceremony.Holders:
		return "its ceremony was not for other labels"
	case old.number != h.active:
		return notInForce(old.number)
	case t.complete:
		return "its ceremony was over"
	case !g.labelled(t):
		return "it has other labels than those that were approved"
	}
	old.labels = g.labels
	return ""
}

// labelled reports whether the holders have the labels that were approved.
func (g *generation) labelled(t *attempt) bool {
	for slot, label := range g.labels {
		if parameter(t, fmt.Sprintf("holder.%03d", slot)) != label {
			return false
		}
	}
	return true
}

func parameter(t *attempt, name string) string {
	for _, p := range t.Parameters {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}

func notInForce(number uint64) string {
	return fmt.Sprintf("generation %d is not in force", number)
}

func (t *attempt) lacks() string {
	return fmt.Sprintf("only %d of the %d approvals that it needs were recorded before", len(t.approved), t.Threshold)
}

func holdersOf(e *Entry) (*generation, error) {
	g := &generation{number: e.Generation, threshold: e.Threshold, verifiers: map[int]holder.Verifier{}, labels: map[int]string{}}
	for _, h := range e.Holders {
		if _, twice := g.verifiers[h.Slot]; twice || h.Slot < 1 || h.Slot > len(e.Holders) {
			return nil, errors.New("its slots are not those of different holders")
		}
		g.verifiers[h.Slot], g.labels[h.Slot] = h.Verifier, h.Label
	}
	if len(g.verifiers) == 0 || g.threshold < 1 || g.threshold > len(g.verifiers) {
		return nil, errors.New("its threshold doesn't fit its holders")
	}
	return g, nil
}

func (g *generation) equal(o *generation) bool {
	if g.threshold != o.threshold || len(g.verifiers) != len(o.verifiers) {
		return false
	}
	for slot, v := range g.verifiers {
		if other, ok := o.verifiers[slot]; !ok || other != v {
			return false
		}
	}
	return true
}

// start takes an attempt, whose digest all approvals sign.
func (h *history) start(e *Entry) string {
	t := e.Attempt
	if t == nil {
		return "it doesn't say what was started"
	}
	if h.attempts[t.Nonce] != nil {
		return "an attempt of this nonce was started before"
	}
	h.attempts[t.Nonce] = &attempt{Attempt: t, approved: map[int]bool{}}
	g := h.generations[t.Generation]
	switch {
	case t.Digest != t.ComputeDigest():
		return "the digest is not that of the attempt's fields"
	case t.Nonce != e.Nonce || t.Kind != e.Kind || t.Generation != e.Generation || t.ClusterID != h.clusterID:
		return "the attempt is not the one that the entry names"
	case g == nil:
		return fmt.Sprintf("generation %d was not recorded before", t.Generation)
	case t.Generation != h.active:
		return notInForce(t.Generation)
	case t.Kind == ceremony.Drill && t.Threshold != len(g.verifiers), t.Kind != ceremony.Drill && t.Threshold != g.threshold:
		return "it asks for another number of approvals than its generation demands"
	}
	return ""
}

// step checks what happened to an attempt.
func (h *history) step(e *Entry) (proven bool, why string) {
	t := h.attempts[e.Nonce]
	switch {
	case t == nil:
		return false, "the start of its attempt was not recorded before"
	case e.Digest != "" && e.Digest != hex.EncodeToString(t.Digest[:]):
		return false, "the digest is not that of the attempt"
	}
	switch e.Event {
	case Complete:
		why = h.complete(t)
		t.complete = true
	case Approve:
		switch proven, why = h.signature(e, t.Statement(e.Slot, e.Mode)); {
		case !proven:
		case t.complete || t.ended:
			why = "the attempt was over"
		case t.Generation != h.active:
			why = notInForce(t.Generation)
		case t.approved[e.Slot]:
			why = fmt.Sprintf("the holder of slot %d had approved already", e.Slot)
		default:
			t.approved[e.Slot] = true
		}
	case Object, Cancel:
		if e.Slot != 0 || e.Event == Object {
			proven, why = h.signature(e, t.CancelStatement(e.Slot, e.Mode))
		}
		if why == "" && (t.ended || t.complete && !t.waits()) {
			why = "the attempt was over"
		}
		t.ended = t.ended || e.Event == Cancel
	}
	return proven, why
}

// waits reports whether an attempt that is complete can still be cancelled, because its new holders are to prove first.
func (t *attempt) waits() bool {
	return t.effect != nil && !t.committed && parameter(t, "require_verification") == "true"
}

func (h *history) complete(t *attempt) string {
	rekey := t.Kind == ceremony.Rekey || t.Kind == ceremony.RotateRoot
	switch {
	case len(t.approved) < t.Threshold:
		return t.lacks()
	case t.complete:
		return "the attempt was complete already"
	case t.ended:
		return "the attempt was over"
	case t.Generation != h.active && !(t.committed && t.effect.number == h.active): // its own effect
		return notInForce(t.Generation)
	case t.effect == nil && (rekey || t.Kind == ceremony.Holders):
		return "what it was for was not recorded before"
	}
	return ""
}

// prove takes the proof of a new holder. Those under another nonce don't count any more.
func (h *history) prove(e *Entry) (proven bool, why string) {
	if proven, why = h.signature(e, ceremony.ProveStatement(h.clusterID, e.Generation, e.Slot, e.Mode, e.Nonce)); !proven {
		return proven, why
	}
	g := h.generations[e.Generation]
	if t := g.by; t == nil || t.committed || t.ended {
		return true, fmt.Sprintf("generation %d doesn't wait for its holders", g.number)
	}
	if h.used[e.Nonce] {
		return true, "this verification had begun anew under another nonce"
	}
	if g.verifying != e.Nonce {
		h.used[g.verifying] = true
		g.verifying, g.proven = e.Nonce, map[int]bool{}
	}
	if g.proven[e.Slot] {
		return true, fmt.Sprintf("the holder of slot %d had proven already", e.Slot)
	}
	g.proven[e.Slot] = true
	return true, ""
}

// commit puts a generation into force. The one before can still unseal if nobody has proven the new shares yet.
func (h *history) commit(e *Entry) (why string) {
	g := h.generations[e.Generation]
	if g == nil || g.by == nil {
		return fmt.Sprintf("generation %d was not made by a ceremony that was recorded before", e.Generation)
	}
	t, verified := g.by, parameter(g.by, "require_verification") == "true"
	switch need := g.needs(); {
	case e.Nonce != t.Nonce:
		why = "it names another ceremony than the one that made the generation"
	case t.effect != g:
		why = "its ceremony made another generation"
	case t.committed:
		why = "the generation came into force before"
	case t.ended:
		why = "its ceremony was over"
	case t.Generation != h.active:
		why = notInForce(t.Generation)
	case verified && !t.complete:
		why = "its ceremony was not complete"
	case verified && len(g.proven) < need:
		why = fmt.Sprintf("only %d of the %d proofs of new shares that it needs were recorded before", len(g.proven), need)
	}
	h.retiring = 0
	if !verified {
		h.retiring = h.active
	}
	t.committed, h.active = true, g.number
	return why
}

// needs is how many of the new holders have to prove their shares first.
func (g *generation) needs() int {
	if parameter(g.by, "verify_all") == "true" {
		return len(g.verifiers)
	}
	return g.threshold
}
