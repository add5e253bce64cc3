// Package transcript is the public record of ceremonies and seal events: an append-only Merkle log with the hashing of
// RFC 6962, whose state is signed as C2SP checkpoints.
//
// It promises that an entry is written in the transaction of what it records; that nothing can be taken out, put in or
// changed below a signed checkpoint without being noticed by whoever holds that checkpoint; and that an export is
// enough to verify, without a server, every signature that a holder made. It does not promise that a server wrote down
// all that it did, and it can't keep whoever writes to the storage from cutting off what no checkpoint covers: the
// entries made while sealed, which therefore carry their holders' signatures. No secret is ever in it.
package transcript

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

// Head is the state of a log: how many entries it has, and the root of the tree over them.
type Head struct {
	Size int64
	Root tlog.Hash
}

var (
	errNoEntry = fault.New(fault.Invalid, "the log has no such entry: the index must be below the size, and the size not above the present one")
	errNoSizes = fault.New(fault.Invalid, "there is no proof between these sizes: the old one must not be above the new one, and the new one not above the present one")
)

// Append writes entries at the end of the log, each at its index, and signs the new head; without a signer the latest
// checkpoint stays. It reads the head record and no older entry. Times are cut to UTC milliseconds; of an attempt only
// what its digest covers is kept. With a signer it is for who has just checked, in the same transaction, what there is:
// everybody else uses Continue, or AppendSealed.
func Append(tx store.Tx, s *Signer, entries ...Entry) (Head, error) {
	e, err := readEdge(tx)
	if err != nil || len(entries) == 0 {
		return e.head(), err
	}
	return e.append(tx, s, entries)
}

// append is Append to a log that ends at e, which moves on.
func (e *edge) append(tx store.Tx, s *Signer, entries []Entry) (Head, error) {
	var completed []tlog.Hash
	for i := range entries {
		leaf, err := entries[i].encode()
		if err != nil {
			return Head{}, err
		}
		completed = e.complete(completed[:0], leaf)
		if err := tx.Put(recordKey(e.size), encodeRecord(completed, leaf)); err != nil {
			return Head{}, err
		}
		e.push(completed)
	}
	if err := tx.Put(headKey, e.encode()); err != nil {
		return Head{}, err
	}
	if s == nil {
		return e.head(), nil
	}
	return e.head(), putCheckpoint(tx, s, e.head())
}

// ReadHead returns the present head; that of a log which doesn't exist yet is the empty tree's.
func ReadHead(r store.Reader) (Head, error) {
	e, err := readEdge(r)
	return e.head(), err
}

// Checkpoint returns the latest signed checkpoint, nil if there is none. It is valid as long as r.
func Checkpoint(r store.Reader) ([]byte, error) {
	values, err := r.Get(checkpointKey)
	if err != nil {
		return nil, err
	}
	return values[0], nil
}

func putCheckpoint(tx store.Tx, s *Signer, h Head) error {
	text, err := s.sign(h)
	if err != nil {
		return err
	}
	return tx.Put(checkpointKey, text)
}

// Read returns the leaves of at most limit entries from index from on: the exact bytes that are hashed. Where an entry
// is damaged it returns those before it, and an error only if there are none.
func Read(r store.Reader, from int64, limit int) ([][]byte, error) {
	e, err := readEdge(r)
	if err != nil {
		return nil, err
	}
	if from < 0 || limit <= 0 || from >= e.size {
		return nil, nil
	}
	after := ""
	if from > 0 {
		after = recordKey(from - 1)
	}
	var leaves [][]byte
	end := from + min(int64(limit), e.size-from)
	for item, err := range r.Scan(recordPrefix, after) {
		if err != nil {
			return nil, err
		}
		index := from + int64(len(leaves))
		stored, leaf, ok := decodeRecord(index, item.Value)
		if item.Key != recordKey(index) || !ok || stored[0] != tlog.RecordHash(leaf) {
			break
		}
		leaves = append(leaves, slices.Clone(leaf))
		if index+1 == end {
			break
		}
	}
	if len(leaves) == 0 {
		return nil, fmt.Errorf("entry %d: %w", from, ErrDamaged)
	}
	return leaves, nil
}

// Inclusion returns the audit path (RFC 6962, 2.1.1) from the entry at index to the root at size.
func Inclusion(r store.Reader, index, size int64) ([]tlog.Hash, error) {
	e, err := readEdge(r)
	if err != nil {
		return nil, err
	}
	if index < 0 || index >= size || size > e.size {
		return nil, errNoEntry
	}
	return tlog.ProveRecord(size, index, storedHashes(r))
}

// Consistency returns the proof (RFC 6962, 2.1.2) that the tree at size to continues the one at size from. It is empty
// from the empty tree, and between equal sizes.
func Consistency(r store.Reader, from, to int64) ([]tlog.Hash, error) {
	e, err := readEdge(r)
	if err != nil {
		return nil, err
	}
	if from < 0 || from > to || to > e.size {
		return nil, errNoSizes
	}
	if from == 0 {
		return nil, nil
	}
	return tlog.ProveTree(to, from, storedHashes(r))
}

// VerifyConsistency checks, for whoever kept an older head, that the newer one continues it.
func VerifyConsistency(old, newer Head, proof []tlog.Hash) error {
	switch {
	case old.Size < 0 || newer.Size > maxSize:
		return errors.New("the size of a log is out of range")
	case old.Size > newer.Size:
		return fmt.Errorf("the log has shrunk: it had %d entries, and has %d", old.Size, newer.Size)
	case old.Size == 0:
		if old.Root != (&edge{}).root() || len(proof) > 0 {
			return errors.New("the older head is not that of an empty log")
		}
		return nil
	}
	if err := tlog.CheckTree(proof, newer.Size, newer.Root, old.Size, old.Root); err != nil {
		return fmt.Errorf("the log was rewritten: its %d entries don't continue the %d known ones", newer.Size, old.Size)
	}
	return nil
}
