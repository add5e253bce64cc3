package transcript

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/store"
)

// Verifiers finds the verifier of the holder of a slot, if that holder can have caused the event.
type Verifiers func(event Event, generation uint64, slot int) (holder.Verifier, bool)

// CheckTail checks what a server may sign after it was sealed: that the latest checkpoint is s's own and the log
// continues it, and that each entry since then is of a kind that happens while sealed and, if a share caused it,
// carries the signature of that share's holder for this place in the log. It returns what is wrong, a sentence each.
func CheckTail(r store.Reader, s *Signer, verifier Verifiers) (problems []string, err error) {
	end, err := readEdge(r)
	if err != nil {
		return nil, err
	}
	text, err := Checkpoint(r)
	if err != nil {
		return nil, err
	}
	signed, err := OpenCheckpoint(text, s.VerifierKey())
	switch {
	case text == nil && end.size == 0:
		return nil, nil
	case text == nil:
		return []string{"the log has entries, and its latest checkpoint is missing"}, nil
	case err != nil:
		return []string{"the latest checkpoint is damaged or forged: " + err.Error()}, nil
	case signed.Size > end.size:
		return []string{fmt.Sprintf("the log has shrunk: %d entries were signed, and it has %d", signed.Size, end.size)}, nil
	}
	from, problem, err := signedEdge(r, signed)
	if err != nil {
		return nil, err
	}
	if problem != "" {
		return []string{problem}, nil
	}
	var p problemList
	last, why, err := walk(r, from, func(before *edge, leaf []byte) error {
		p.add(checkSealed(s, before, leaf, verifier))
		return nil
	})
	if err != nil {
		return nil, err
	}
	p.add(why)
	if why == "" && last.head() != end.head() {
		p.add("the head of the log doesn't match its entries")
	}
	return p.list, nil
}

// signedEdge is the edge at a signed size, or a sentence if it isn't what was signed.
func signedEdge(r store.Reader, signed Head) (edge, string, error) {
	e, err := edgeAt(r, signed.Size)
	if errors.Is(err, ErrDamaged) {
		return e, fmt.Sprintf("the %d entries that were signed can't be read: %s", signed.Size, err), nil
	}
	if err == nil && e.root() != signed.Root {
		return e, fmt.Sprintf("the log was rewritten: its first %d entries are not those that were signed", signed.Size), nil
	}
	return e, "", err
}

// checkSealed returns what is wrong with an entry that no checkpoint covers.
func checkSealed(s *Signer, before *edge, leaf []byte, verifier Verifiers) string {
	index := before.size
	e, canonical, err := decodeEntry(leaf)
	switch {
	case err != nil || !canonical:
		return fmt.Sprintf("entry %d can't be read", index)
	case !e.Event.whileSealed():
		return fmt.Sprintf("entry %d was not signed by the server, and %q doesn't happen while sealed", index, e.Event)
	case e.unchecked(), e.Event == Alarm, e.Event == UnsealReset && e.Slot == 0: // the last over a local connection
		return ""
	}
	v, ok := verifier(e.Event, e.Generation, e.Slot)
	if !ok || !holder.Verify(v, e.SealedStatement(s.ClusterID()), e.Signature) {
		return fmt.Sprintf("entry %d (%q) lacks the signature of the holder of slot %d", index, e.Event, e.Slot)
	}
	if root := before.root(); !bytes.Equal(e.Before, root[:]) {
		return fmt.Sprintf("entry %d (%q) was made for another place in the log", index, e.Event)
	}
	return ""
}

// Repair makes a log that storage has damaged fit to be continued. It looks at the head, the last entry, and those up
// to 63 that the last whole subtree of 64 doesn't hold. If they don't belong together, the log becomes the longest
// prefix that is whole, and whatever came after it is put aside. It returns what it found and did, "" if all is well.
// A checkpoint over entries that are lost stays, so that CheckTail tells. Damage further back doesn't hinder appending:
// Verify finds it.
func Repair(tx store.Tx) (problem string, err error) {
	why, err := checkEnd(tx)
	if why == "" || err != nil {
		return "", err
	}
	whole, broken, err := walk(tx, edge{}, nil)
	if err != nil {
		return "", err
	}
	if broken != "" {
		why = broken
	}
	n, err := putAside(tx, whole.size)
	if err != nil {
		return "", err
	}
	if err := tx.Put(headKey, whole.encode()); err != nil {
		return "", err
	}
	return fmt.Sprintf("the log was damaged in the storage, %s: %d whole entries remain, and %d records were put aside", why, whole.size, n), nil
}

// checkEnd compares the head with the last records.
func checkEnd(r store.Reader) (why string, err error) {
	end, err := readEdge(r)
	if errors.Is(err, ErrDamaged) {
		return "its head is damaged", nil
	}
	if err != nil {
		return "", err
	}
	if end.size > 0 {
		values, err := r.Get(recordKey(end.size - 1))
		if err != nil {
			return "", err
		}
		stored, leaf, ok := decodeRecord(end.size-1, values[0])
		if !ok || stored[0] != tlog.RecordHash(leaf) || stored[len(stored)-1] != end.peaks[len(end.peaks)-1] {
			return "its last entry is missing or damaged", nil
		}
	}
	// The peaks of subtrees of 64 and more come first, and are those of the size without its low bits.
	from := edge{size: end.size &^ 63}
	for n := from.size; n > 0; n &= n - 1 {
		from.peaks = append(from.peaks, end.peaks[len(from.peaks)])
	}
	last, why, err := walk(r, from, nil)
	switch {
	case err != nil || why != "":
		return why, err
	case last.size != end.size:
		return "its head doesn't count the last entries", nil
	case last.root() != end.root():
		return "its head doesn't match the last entries", nil
	}
	return "", nil
}

// putAside moves the records from index on out of the log, and counts them.
func putAside(tx store.Tx, index int64) (int, error) {
	after := ""
	if index > 0 {
		after = recordKey(index - 1)
	}
	var rest []store.Entry
	for item, err := range tx.Scan(recordPrefix, after) {
		if err != nil {
			return 0, err
		}
		rest = append(rest, item)
	}
	for _, item := range rest {
		name := strings.TrimPrefix(item.Key, recordPrefix)
		if len(name) != 16 {
			name = "other"
		}
		sum := sha256.Sum256(item.Value) // the same index may be put aside again
		if err := tx.Put(fmt.Sprintf("%s%s/%x", asidePrefix, name, sum[:8]), item.Value); err != nil {
			return 0, err
		}
		if err := tx.Delete(item.Key); err != nil {
			return 0, err
		}
	}
	return len(rest), nil
}

// Verify reads the whole log and returns what is wrong with it: entries that are missing or don't match their hashes,
// a head or a checkpoint that doesn't match the entries. It checks no signature: VerifyExport does. It ends early, with
// its error, when ctx does.
func Verify(ctx context.Context, r store.Reader) (problems []string, err error) {
	end, err := readEdge(r)
	if err != nil && !errors.Is(err, ErrDamaged) {
		return nil, err
	}
	var p problemList
	if err != nil {
		p.add(err.Error())
	}
	text, err := Checkpoint(r)
	if err != nil {
		return nil, err
	}
	signed := Head{Size: -1}
	if text != nil {
		before, _, _ := strings.Cut(string(text), "\n\n")
		if _, signed, err = parseBody(before + "\n"); err != nil {
			p.add("the latest checkpoint is damaged")
			signed.Size = -1
		}
	}
	last, why, err := walk(r, edge{}, func(*edge, []byte) error { return ctx.Err() })
	if err != nil {
		return nil, err
	}
	p.add(why)
	if why == "" && len(p.list) == 0 && last.head() != end.head() {
		p.add("the head of the log doesn't match its entries")
	}
	switch {
	case signed.Size > last.size:
		p.add(fmt.Sprintf("%d entries were signed, and only %d are whole", signed.Size, last.size))
	case signed.Size >= 0:
		_, problem, err := signedEdge(r, signed)
		if err != nil {
			return nil, err
		}
		p.add(problem)
	}
	return p.list, nil
}

// Mark is the latest state of a log that a node has seen. It keeps it apart from the store that it guards against.
type Mark struct {
	Size       int64     `json:"size"`
	Root       tlog.Hash `json:"root"`
	Generation uint64    `json:"generation"` // in force then; not compared here
}

// CheckMark returns a sentence if the log has shrunk or was rewritten since m.
func CheckMark(r store.Reader, m Mark) (problem string, err error) {
	end, err := readEdge(r)
	if err != nil {
		return "", err
	}
	if m.Size < 0 || m.Size > end.size {
		return fmt.Sprintf("the log has shrunk: it had %d entries, and has %d", m.Size, end.size), nil
	}
	e, err := edgeAt(r, m.Size)
	if errors.Is(err, ErrDamaged) {
		return fmt.Sprintf("the first %d entries of the log, which were seen, can't be read: %s", m.Size, err), nil
	}
	if err == nil && e.root() != m.Root {
		return fmt.Sprintf("the log was rewritten: its first %d entries are not those that were seen", m.Size), nil
	}
	return "", err
}

// problemList collects sentences, up to a number that a person reads.
type problemList struct{ list []string }

const maxProblems = 1000

func (p *problemList) add(sentence string) {
	switch {
	case sentence == "":
	case len(p.list) < maxProblems:
		p.list = append(p.list, sentence)
	case len(p.list) == maxProblems:
		p.list = append(p.list, "more is wrong than is listed here")
	}
}
