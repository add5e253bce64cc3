package transcript

import (
	"bytes"
	"fmt"
	"strings"
)

// auditor reads a log from its beginning and knows at each entry what must be true there.
type auditor struct {
	report   *Report
	discard  bool
	problems problemList

	edge  edge  // over the records read, in the order in which they came
	next  int64 // index that the next line should have
	roots []wantedRoot

	history
}

// wantedRoot is a head that somebody signed, and that the records have to lead to.
type wantedRoot struct {
	head  Head
	name  string
	found bool
}

func newAuditor(h ExportHeader, o VerifyOptions) *auditor {
	a := &auditor{
		report: &Report{
			ClusterID: h.ClusterID, VerifierKey: h.VerifierKey, Checkpoint: h.Checkpoint, Pinned: o.VerifierKey != "",
		},
		discard: o.Discard,
		history: newHistory(h.ClusterID),
	}
	if o.VerifierKey != "" {
		a.report.VerifierKey = o.VerifierKey
		if o.VerifierKey != h.VerifierKey {
			a.problems.add("the export names another verifier key than the one given")
		}
	}
	if !strings.HasPrefix(a.report.VerifierKey, Origin(h.ClusterID)+"+") {
		a.problems.add("the verifier key is that of another cluster")
	}
	if h.Checkpoint == "" {
		a.problems.add("the export has no checkpoint: the server has signed none of it")
	} else {
		a.report.Signed = a.want([]byte(h.Checkpoint), "the checkpoint of the export")
	}
	if o.Checkpoint != nil {
		a.want(o.Checkpoint, "the older checkpoint")
	}
	return a
}

// want opens a checkpoint, whose root is then expected when the log has its size.
func (a *auditor) want(text []byte, name string) (size int64) {
	h, err := OpenCheckpoint(text, a.report.VerifierKey)
	if err != nil {
		a.problems.add(name + " is not valid: " + err.Error())
		return 0
	}
	a.roots = append(a.roots, wantedRoot{head: h, name: name})
	a.compare()
	return h.Size
}

// compare looks at what was signed for the present size.
func (a *auditor) compare() {
	for i := range a.roots {
		w := &a.roots[i]
		if w.head.Size != a.edge.size {
			continue
		}
		if w.found = true; w.head.Root != a.edge.root() {
			a.problems.add(fmt.Sprintf("%s doesn't match: the first %d entries are not those that were signed", w.name, w.head.Size))
		}
	}
}

// line takes one line after the header.
func (a *auditor) line(line []byte) {
	var l exportLine
	if strict(line, &l) != nil || l.Index == nil || l.Record == nil {
		a.problems.add(fmt.Sprintf("the line where entry %d should be can't be read", a.next))
		a.next++
		return
	}
	switch index := *l.Index; {
	case index > a.next:
		a.problems.add(fmt.Sprintf("entry %d is missing: entry %d comes in its place", a.next, index))
	case index < a.next:
		a.problems.add(fmt.Sprintf("entry %d is out of order: entry %d should be in its place", index, a.next))
	}
	a.next = *l.Index + 1
	leaf := []byte(*l.Record)
	a.entry(*l.Index, leaf)
	a.edge.push(a.edge.complete(nil, leaf))
	a.compare()
}

// finish completes the report.
func (a *auditor) finish() *Report {
	for _, w := range a.roots {
		if !w.found {
			a.problems.add(fmt.Sprintf("%s covers %d entries, and the export has %d", w.name, w.head.Size, a.edge.size))
		}
	}
	a.report.Size, a.report.Root = a.edge.size, a.edge.root()
	a.report.Signed = min(a.report.Signed, a.edge.size)
	a.report.Problems = a.problems.list
	return a.report
}

// entry checks what one leaf says against all before it.
func (a *auditor) entry(index int64, leaf []byte) {
	e, canonical, err := decodeEntry(leaf)
	if err != nil {
		a.problems.add(fmt.Sprintf("entry %d can't be read: it is not the JSON of an entry", index))
		return
	}
	r := ReportEntry{Index: index, Entry: e, Unknown: !e.Event.Known()}
	switch {
	case r.Unknown:
		a.report.Unknown++
	case !canonical:
		a.problems.add(fmt.Sprintf("entry %d can be read in more than one way: it is not written as this version writes it", index))
	}
	if index == 0 && e.Event != Init {
		a.problems.add("entry 0 is not that of init, so that the first holders are not known")
	}
	if !r.Unknown {
		var why string
		if r.Proven, why = a.check(index, e); why != "" {
			a.problems.add(fmt.Sprintf("entry %d (%s): %s", index, e.Event, why))
		}
	}
	if r.Proven {
		a.report.Signatures++
	}
	if !a.discard {
		a.report.Entries = append(a.report.Entries, r)
	}
}

// check returns whether e carries a valid signature, and what is wrong with it.
func (a *auditor) check(index int64, e *Entry) (proven bool, why string) {
	switch e.Event {
	case Init:
		if index > 0 {
			return false, "a cluster is set up only once"
		}
		return false, a.init(e)
	case UnsealShare:
		if e.unchecked() {
			a.report.Unchecked++
			return false, ""
		}
		return a.bySealed(e)
	case UnsealReset:
		if e.Slot != 0 {
			return a.bySealed(e)
		}
	case Refused:
		if e.Slot != 0 && len(e.Signature) > 0 { // an open server's is covered by the checkpoint
			return a.bySealed(e)
		}
	default:
		return a.follow(e)
	}
	return false, ""
}

// bySealed checks an entry that a sealed server made, for its place in the log.
func (a *auditor) bySealed(e *Entry) (proven bool, why string) {
	if proven, why = a.signature(e, e.SealedStatement(a.clusterID)); !proven {
		return proven, why
	}
	switch root := a.edge.root(); {
	case !bytes.Equal(e.Before, root[:]):
		return true, "it was made for another place in the log"
	case e.Event != Refused && e.Generation != a.active && e.Generation != a.retiring:
		return true, fmt.Sprintf("generation %d can't unseal", e.Generation)
	}
	return true, ""
}
