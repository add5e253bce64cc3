package transcript

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/quorate/quorate/internal/store"
)

// Where the log is. The prefix passes through the barrier, so that all of it can be read and continued while sealed.
const (
	prefix        = "plain/transcript/"
	headKey       = prefix + "head"
	checkpointKey = prefix + "checkpoint"
	recordPrefix  = prefix + "record/" // and the index as 16 hex digits
	asidePrefix   = prefix + "aside/"  // what Repair cut off
)

// maxSize is more entries than a log ever gets. Sizes come from notes that others wrote, and package tlog loops for
// ever on those close to the largest number.
const maxSize = 1 << 48

// maxLeaf leaves room in a record for the hashes.
const maxLeaf = store.MaxValue - 64*tlog.HashSize

// ErrDamaged says that a part of the log that was needed isn't what was written. Continue and AppendSealed repair the head.
var ErrDamaged = errors.New("the record in the storage is missing or damaged")

func recordKey(index int64) string { return fmt.Sprintf("%s%016x", recordPrefix, index) }

// edge is the right edge of the tree: the roots of the complete subtrees that it consists of, the largest first. It is
// all that appending needs.
type edge struct {
	size  int64
	peaks []tlog.Hash // one for each one bit of size
}

// complete appends to dst the hashes of the subtrees that leaf completes as the next one, its own first: what package
// tlog calls the stored hashes of a record.
func (e *edge) complete(dst []tlog.Hash, leaf []byte) []tlog.Hash {
	h := tlog.RecordHash(leaf)
	dst = append(dst, h)
	for i := range bits.TrailingZeros64(uint64(e.size + 1)) {
		h = tlog.NodeHash(e.peaks[len(e.peaks)-1-i], h)
		dst = append(dst, h)
	}
	return dst
}

// push moves the edge past a record with these hashes, which complete made.
func (e *edge) push(completed []tlog.Hash) {
	e.peaks = append(e.peaks[:len(e.peaks)-(len(completed)-1)], completed[len(completed)-1])
	e.size++
}

// root is the hash of the whole tree; that of none is the hash of nothing.
func (e *edge) root() tlog.Hash {
	if e.size == 0 {
		return sha256.Sum256(nil)
	}
	h := e.peaks[len(e.peaks)-1]
	for i := len(e.peaks) - 2; i >= 0; i-- {
		h = tlog.NodeHash(e.peaks[i], h)
	}
	return h
}

func (e *edge) head() Head { return Head{Size: e.size, Root: e.root()} }

// A head record is a version byte, the size in 8 bytes, the peaks, and 8 bytes of SHA-256 of all that, which tell
// damage (and nothing else: who can write the record can make them).
const (
	headVersion = 1
	headSum     = 8
)

func (e *edge) encode() []byte {
	b := binary.BigEndian.AppendUint64([]byte{headVersion}, uint64(e.size))
	for _, h := range e.peaks {
		b = append(b, h[:]...)
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:headSum]...)
}

func decodeEdge(b []byte) (edge, error) {
	var e edge
	err := fmt.Errorf("the head of the transcript: %w", ErrDamaged)
	if len(b) < 1+8+headSum || b[0] != headVersion {
		return e, err
	}
	body, sum := b[:len(b)-headSum], sha256.Sum256(b[:len(b)-headSum])
	size, peaks := binary.BigEndian.Uint64(body[1:]), body[1+8:]
	if !bytes.Equal(sum[:headSum], b[len(body):]) || size > maxSize || len(peaks) != bits.OnesCount64(size)*tlog.HashSize {
		return e, err
	}
	e.size, e.peaks = int64(size), toHashes(peaks)
	return e, nil
}

func toHashes(b []byte) []tlog.Hash {
	var list []tlog.Hash
	for h := range slices.Chunk(b, tlog.HashSize) {
		list = append(list, tlog.Hash(h))
	}
	return list
}

func readEdge(r store.Reader) (edge, error) {
	values, err := r.Get(headKey)
	if err != nil {
		return edge{}, err
	}
	return toEdge(r, values[0])
}

// toEdge decodes a head record. A log without one is empty; but one that has entries has lost it.
func toEdge(r store.Reader, head []byte) (edge, error) {
	if head != nil {
		return decodeEdge(head)
	}
	for _, err := range r.Scan(recordPrefix, "") {
		if err == nil {
			err = fmt.Errorf("the head of the transcript: %w", ErrDamaged)
		}
		return edge{}, err
	}
	return edge{}, nil
}

// edgeAt finds the edge that the log had at an earlier size.
func edgeAt(r store.Reader, size int64) (edge, error) {
	var indexes []int64
	for start := int64(0); start < size; {
		level := bits.Len64(uint64(size-start)) - 1
		indexes = append(indexes, tlog.StoredHashIndex(level, start>>level))
		start += 1 << level
	}
	peaks, err := storedHashes(r)(indexes)
	return edge{size: size, peaks: peaks}, err
}

// A record is the hashes that its entry completes, as many as its index says, and the leaf.
func encodeRecord(completed []tlog.Hash, leaf []byte) []byte {
	b := make([]byte, 0, len(completed)*tlog.HashSize+len(leaf))
	for _, h := range completed {
		b = append(b, h[:]...)
	}
	return append(b, leaf...)
}

func decodeRecord(index int64, record []byte) (completed []tlog.Hash, leaf []byte, ok bool) {
	n := (1 + bits.TrailingZeros64(uint64(index+1))) * tlog.HashSize
	if len(record) <= n {
		return nil, nil, false
	}
	return toHashes(record[:n]), record[n:], true
}

// storedHashes reads the hashes of subtrees from the records that completed them, in one Get.
func storedHashes(r store.Reader) tlog.HashReaderFunc {
	return func(indexes []int64) ([]tlog.Hash, error) {
		keys, owners, levels := make([]string, len(indexes)), make([]int64, len(indexes)), make([]int, len(indexes))
		for i, index := range indexes {
			level, n := tlog.SplitStoredHashIndex(index)
			levels[i], owners[i] = level, (n+1)<<level-1
			keys[i] = recordKey(owners[i])
		}
		records, err := r.Get(keys...)
		if err != nil {
			return nil, err
		}
		hashes := make([]tlog.Hash, len(indexes))
		for i, record := range records {
			at := levels[i] * tlog.HashSize
			if len(record) <= at+tlog.HashSize {
				return nil, fmt.Errorf("entry %d: %w", owners[i], ErrDamaged)
			}
			hashes[i] = tlog.Hash(record[at:])
		}
		return hashes, nil
	}
}

// walk follows the records from e on and calls each for every one that is whole and continues the tree, with the edge
// before it; an error of each ends it. It returns where it ended and, if that isn't behind the last record, why.
func walk(r store.Reader, e edge, each func(before *edge, leaf []byte) error) (edge, string, error) {
	e.peaks = slices.Clone(e.peaks)
	after := ""
	if e.size > 0 {
		after = recordKey(e.size - 1)
	}
	var completed []tlog.Hash
	for item, err := range r.Scan(recordPrefix, after) {
		if err != nil {
			return e, "", err
		}
		if item.Key != recordKey(e.size) {
			return e, fmt.Sprintf("entry %d is missing", e.size), nil
		}
		stored, leaf, ok := decodeRecord(e.size, item.Value)
		if !ok {
			return e, fmt.Sprintf("entry %d is torn", e.size), nil
		}
		if completed = e.complete(completed[:0], leaf); !slices.Equal(stored, completed) {
			return e, fmt.Sprintf("entry %d doesn't match its hashes", e.size), nil
		}
		if each != nil {
			if err := each(&e, leaf); err != nil {
				return e, "", err
			}
		}
		e.push(completed)
	}
	return e, "", nil
}
