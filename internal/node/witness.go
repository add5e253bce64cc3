package node

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/transcript"
)

// MarkKeeper keeps the transcript's high-water mark outside the store, so that a store that was put back is noticed.
type MarkKeeper interface {
	// Load returns the mark, and false where none was kept yet.
	Load() (transcript.Mark, bool, error)
	Save(transcript.Mark) error
}

// watch is what one process knows of the transcript and demands of it from then on, and what it alarmed about.
type watch struct {
	keeping sync.Mutex // held while the keeper works; taken before mu
	mu      sync.Mutex // never held for anything slow: whoever looks at the alarms waits for it
	mark    transcript.Mark
	kept    transcript.Mark // what the keeper has
	known   bool            // mark is what has to be demanded
	alarms  []alarm
}

// alarm is something that is wrong with the transcript.
type alarm struct {
	problem  string
	recorded bool // the transcript has it
}

// maxAlarms is how many a process tells of; one more says that there are more.
const (
	maxAlarms  = 100
	moreAlarms = "there are more problems with the transcript than this server tells of: verify all of it"
)

// alarmed tells the operator of a problem, once. It returns under which words it is known, and whether the transcript
// has them.
func (n *Node) alarmed(problem string) (known string, recorded bool) {
	n.watch.mu.Lock()
	defer n.watch.mu.Unlock()
	find := func() int {
		return slices.IndexFunc(n.watch.alarms, func(a alarm) bool { return a.problem == problem })
	}
	i := find()
	if i < 0 && len(n.watch.alarms) >= maxAlarms {
		problem = moreAlarms
		i = find()
	}
	if i >= 0 {
		return problem, n.watch.alarms[i].recorded
	}
	n.watch.alarms = append(n.watch.alarms, alarm{problem: problem})
	n.Logger.Error("the transcript of ceremonies is not what it was", "problem", problem)
	return problem, false
}

// alarmRecorded notes that the transcript has a problem that alarmed has told of.
func (n *Node) alarmRecorded(known string) {
	n.watch.mu.Lock()
	defer n.watch.mu.Unlock()
	for i := range n.watch.alarms {
		if n.watch.alarms[i].problem == known {
			n.watch.alarms[i].recorded = true
		}
	}
}

// TranscriptState says whose transcript this is, what its checkpoints are signed with (empty while sealed), and what
// this process has found wrong with it.
func (n *Node) TranscriptState(ctx context.Context) (clusterID, verifierKey string, alarms []string, err error) {
	if act := n.active.Load(); act != nil {
		verifierKey = act.verifierKey
	}
	rec, err := n.sealRecord(ctx)
	if err == nil && rec != nil {
		clusterID = rec.ClusterID
	}
	n.watch.mu.Lock()
	defer n.watch.mu.Unlock()
	for _, a := range n.watch.alarms {
		alarms = append(alarms, a.problem)
	}
	return clusterID, verifierKey, alarms, err
}

// TranscriptView reads the transcript, which needs no keys.
func (n *Node) TranscriptView(ctx context.Context, fn func(store.Reader) error) error {
	return n.Store.View(ctx, fn)
}

// recordSealed appends, while sealed, what a share caused: with the signature of its holder, for there is no other key
// to vouch for it until the next unseal.
func (n *Node) recordSealed(ctx context.Context, clusterID string, key *holder.Key, e transcript.Entry) error {
	e.Time = n.Now().UTC().Truncate(time.Millisecond)
	var problem string
	err := n.Store.Update(ctx, func(tx store.Tx) (err error) {
		problem, err = transcript.AppendSealed(tx, clusterID, key, e)
		return err
	})
	if err == nil && problem != "" {
		known, _ := n.alarmed(problem)
		n.alarmRecorded(known)
	}
	return err
}

// appendSigned appends to the transcript and signs it. What others have appended meanwhile is signed only after a look
// at it; whatever is wrong goes in as an alarm, and hinders nothing.
func (n *Node) appendSigned(act *active, tx store.Tx, entries ...transcript.Entry) error {
	var errRecord error
	verifier := func(event transcript.Event, generation uint64, slot int) (holder.Verifier, bool) {
		rec, err := act.Record(tx)
		if err != nil {
			errRecord = err
			return holder.Verifier{}, false
		}
		return verifiers(rec)(event, generation, slot)
	}
	problems, err := transcript.Continue(tx, act.signer, verifier, n.Now().UTC().Truncate(time.Millisecond), entries...)
	if err = cmp.Or(err, errRecord); err != nil {
		return err
	}
	for _, p := range problems { // again if tx fails, and is there again then
		n.alarmed(p)
	}
	return nil
}

// verifiers finds who can have caused what a sealed server records.
func verifiers(rec *seal.Record) transcript.Verifiers {
	return func(event transcript.Event, generation uint64, slot int) (holder.Verifier, bool) {
		can := []*seal.Generation{rec.Generation(), rec.Retiring()}
		if event == transcript.Refused {
			can = []*seal.Generation{rec.Former()}
		}
		for _, g := range can {
			if g != nil && g.Number == generation {
				return g.Verifier(slot)
			}
		}
		return holder.Verifier{}, false
	}
}

// settle checks what was recorded while sealed before it is signed, and records the unseal, and which node handed the
// keys over, if one did.
func (n *Node) settle(ctx context.Context, act *active, from string) error {
	mark, unknown := n.demand()
	var problems []string
	var now transcript.Mark
	err := act.Barrier.Update(ctx, func(tx store.Tx) error {
		if problems = nil; unknown != "" {
			problems = append(problems, unknown)
		}
		rec, err := act.Record(tx)
		if err != nil {
			return err
		}
		if err := n.loadSigner(tx, act, rec, &problems); err != nil {
			return err
		}
		if err := inspect(tx, act.signer, rec, mark, &problems); err != nil {
			return err
		}
		at := n.Now().UTC().Truncate(time.Millisecond)
		_, err = transcript.Append(tx, act.signer, append(transcript.Alarms(at, problems),
			transcript.Entry{Time: at, Event: transcript.Unsealed, Generation: act.UnsealedGeneration, Detail: from})...)
		if err == nil && len(act.UnsealedBy) > 0 && act.UnsealedGeneration == rec.Generation().Number {
			err = n.proven(act, tx, rec, rec.Generation(), "unseal", act.UnsealedBy...)
		}
		if err != nil {
			return err
		}
		now, err = markOf(tx, rec)
		return err
	})
	for _, p := range problems {
		if known, _ := n.alarmed(p); err == nil {
			n.alarmRecorded(known)
		}
	}
	if err == nil { // what was alarmed about is known: from here on, what there is now is demanded
		n.leaveMark(func() error { return n.keepMark(now) })
	}
	return err
}

// inspect compares the transcript with itself, with the holders, and with the high-water mark.
func inspect(tx store.Tx, signer *transcript.Signer, rec *seal.Record, mark transcript.Mark, problems *[]string) error {
	found, err := transcript.Inspect(tx, signer, verifiers(rec))
	if err != nil {
		return err
	}
	*problems = append(*problems, found...)
	problem, err := checkMark(tx, rec, mark)
	if err == nil && problem != "" {
		*problems = append(*problems, problem)
	}
	return err
}

const errMarkUnreadable = "what this machine has seen of the transcript before is not known any more: its high-water mark can't be read"

// demand is the mark below which the transcript must not fall, and a problem if it isn't known.
func (n *Node) demand() (mark transcript.Mark, problem string) {
	w := &n.watch
	w.keeping.Lock()
	defer w.keeping.Unlock()
	w.mu.Lock()
	mark, known := w.mark, w.known || n.Mark == nil
	w.mu.Unlock()
	if known {
		return mark, ""
	}
	mark, found, err := n.Mark.Load()
	if err != nil {
		n.Logger.Error("the high-water mark of the transcript can't be read", "error", err)
		return transcript.Mark{}, errMarkUnreadable
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.known = true; found {
		w.mark, w.kept = mark, mark
	}
	return w.mark, ""
}

func checkMark(r store.Reader, rec *seal.Record, mark transcript.Mark) (problem string, err error) {
	if rec.Generation().Number < mark.Generation {
		return "the store was put back to an older generation of key shares than this node has seen", nil
	}
	if mark.Size == 0 {
		return "", nil
	}
	return transcript.CheckMark(r, mark)
}

// loadSigner reads the key that signs checkpoints. Where it is lost the transcript goes on under another one, and says so.
func (n *Node) loadSigner(tx store.Tx, act *active, rec *seal.Record, problems *[]string) error {
	values, err := tx.Get(signerKey)
	if err != nil && !errors.Is(err, barrier.ErrDamaged) {
		return err
	}
	if err == nil && values[0] != nil {
		if act.signer, err = transcript.LoadSigner(values[0]); err == nil {
			return nil
		}
	}
	*problems = append(*problems, "the key that signs the transcript was lost or damaged: checkpoints from here on are signed by another one")
	act.signer, err = n.newSigner(tx, rec.ClusterID)
	return err
}

// watchTranscript vouches for what others have appended, alarms when the log has shrunk or was rewritten since this
// process looked last, and moves the mark.
func (n *Node) watchTranscript(ctx context.Context, act *active) error {
	if err := n.vouch(ctx, act); err != nil {
		return err
	}
	before, known := n.demand()
	var problem string
	var now transcript.Mark
	err := act.Barrier.View(ctx, func(r store.Reader) error {
		rec, err := act.Record(r)
		if err != nil {
			return err
		}
		if problem = known; problem == "" {
			if problem, err = checkMark(r, rec, before); err != nil {
				return err
			}
		}
		now, err = markOf(r, rec)
		return err
	})
	if err != nil {
		return err
	}
	if problem != "" {
		err = n.alarm(ctx, act, problem)
	}
	return errors.Join(err, n.keepMark(now))
}

// vouch signs what others have appended, once it is checked; it writes only where there is something.
func (n *Node) vouch(ctx context.Context, act *active) error {
	var vouched bool
	err := act.Barrier.View(ctx, func(r store.Reader) (err error) {
		vouched, err = transcript.Vouched(r, act.signer)
		return err
	})
	if err != nil || vouched {
		return err
	}
	return act.Barrier.Update(ctx, func(tx store.Tx) error { return n.appendSigned(act, tx) })
}

// alarm tells of a problem, and writes it down where it is found.
func (n *Node) alarm(ctx context.Context, act *active, problem string) error {
	known, recorded := n.alarmed(problem)
	if recorded {
		return nil
	}
	err := act.Barrier.Update(ctx, func(tx store.Tx) error {
		return n.record(act, tx, transcript.Entry{Event: transcript.Alarm, Detail: known})
	})
	if err == nil {
		n.alarmRecorded(known)
	}
	return err
}

// auditTranscript reads the whole log: what was changed far back is found by nothing else. It ends with ctx, so that a
// seal doesn't wait for it.
func (n *Node) auditTranscript(ctx context.Context, act *active) error {
	var problems []string
	err := act.Barrier.View(ctx, func(r store.Reader) (err error) {
		problems, err = transcript.Verify(ctx, r)
		return err
	})
	for _, problem := range problems {
		err = errors.Join(err, n.alarm(ctx, act, problem))
	}
	return err
}

func markOf(r store.Reader, rec *seal.Record) (transcript.Mark, error) {
	head, err := transcript.ReadHead(r)
	return transcript.Mark{Size: head.Size, Root: head.Root, Generation: rec.Generation().Number}, err
}

// leaveMark moves the mark at a time when nothing else may fail for it: a mark that stays behind only demands less.
func (n *Node) leaveMark(move func() error) {
	if err := move(); err != nil {
		n.Logger.Error("the high-water mark of the transcript could not be kept", "error", err)
	}
}

func (n *Node) keepMark(mark transcript.Mark) error {
	w := &n.watch
	w.keeping.Lock()
	defer w.keeping.Unlock()
	w.mu.Lock()
	w.mark, w.known = mark, true
	same := w.kept == mark
	w.mu.Unlock()
	if n.Mark == nil || same {
		return nil
	}
	if err := n.Mark.Save(mark); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kept = mark
	return nil
}
