package transcript

import (
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/store"
)

// Continue appends entries for a server that is open, and signs nothing that it doesn't vouch for: where the head isn't
// the one that s has signed last, the log is inspected first. What is wrong with it is recorded before the entries, as
// alarms, and returned. Where all is well it reads the head and the checkpoint and nothing else. Without entries it
// only vouches for what others have appended.
func Continue(tx store.Tx, s *Signer, verifier Verifiers, now time.Time, entries ...Entry) (problems []string, err error) {
	e, vouched, err := look(tx, s)
	if err != nil {
		return nil, err
	}
	if !vouched {
		if problems, err = Inspect(tx, s, verifier); err != nil {
			return nil, err
		}
		if e, err = readEdge(tx); err != nil {
			return nil, err
		}
		entries = append(Alarms(now, problems), entries...)
	}
	if len(entries) == 0 && vouched {
		return nil, nil
	}
	if len(entries) == 0 {
		return nil, putCheckpoint(tx, s, e.head())
	}
	_, err = e.append(tx, s, entries)
	return problems, err
}

// Vouched reports whether s has signed the log as it is now; false where it is damaged.
func Vouched(r store.Reader, s *Signer) (bool, error) {
	_, vouched, err := look(r, s)
	return vouched, err
}

// look reads where the log ends. What is damaged isn't vouched for.
func look(r store.Reader, s *Signer) (e edge, vouched bool, err error) {
	values, err := r.Get(headKey, checkpointKey)
	if err != nil {
		return edge{}, false, err
	}
	signed, errSigned := OpenCheckpoint(values[1], s.VerifierKey())
	e, err = toEdge(r, values[0])
	if errors.Is(err, ErrDamaged) {
		return edge{}, false, nil
	}
	return e, err == nil && errSigned == nil && signed == e.head(), err
}

// Inspect repairs the log if it is damaged, and checks what was appended since it was last signed. It returns what was
// wrong, a sentence each, for the caller to record.
func Inspect(tx store.Tx, s *Signer, verifier Verifiers) (problems []string, err error) {
	problem, err := Repair(tx)
	if err != nil {
		return nil, err
	}
	tail, err := CheckTail(tx, s, verifier)
	if problem != "" {
		tail = append([]string{problem}, tail...)
	}
	return tail, err
}

// maxAlarms is how many of the problems found at once are recorded: what floods a log must not make it grow more.
const maxAlarms = 20

// Alarms are the entries that record problems; of many, the first and how many more there are.
func Alarms(now time.Time, problems []string) []Entry {
	var list []Entry
	for i, p := range problems {
		if i == maxAlarms {
			p = fmt.Sprintf("%d more problems of this kind were found at the same time", len(problems)-i)
		}
		list = append(list, Entry{Time: now, Event: Alarm, Detail: p})
		if i == maxAlarms {
			break
		}
	}
	return list
}

// AppendSealed appends what happened to a sealed server. There is no other key to vouch for it until the next unseal
// than the holder's whose share caused it: with it the entry is signed, for the place in the log that it gets. A log
// that is damaged is repaired first, which an alarm before the entry says, and problem.
func AppendSealed(tx store.Tx, clusterID string, key *holder.Key, e Entry) (problem string, err error) {
	if problem, err = Repair(tx); err != nil {
		return "", err
	}
	end, err := readEdge(tx)
	if err == nil && problem != "" {
		_, err = end.append(tx, nil, Alarms(e.Time, []string{problem}))
	}
	if err != nil {
		return "", err
	}
	if key != nil {
		root := end.root()
		e.Mode, e.Before = holder.ModeShare, root[:]
		e.Signature = key.Sign(e.SealedStatement(clusterID))
	}
	_, err = end.append(tx, nil, []Entry{e})
	return problem, err
}
