package bolt

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"go.etcd.io/bbolt"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

// What a failed commit leaves behind decides what happens next. bbolt writes the changed pages to free places, syncs,
// writes one meta page that makes them the current state, and syncs again.
//
//   - No room, and the meta page is the old one: nothing was written, the old state is intact, and trying again later
//     makes sense. The group fails, the store goes on.
//   - Anything else, an I/O error above all: after a failed sync the kernel may have dropped what it couldn't write
//     and report success the next time, so nothing that this process reads from the file can be taken for durable. The
//     store gives up: every later call fails, until a restart reads what is really on the disk.
var (
	errFull = fault.New(fault.Unavailable,
		"the disk, quota or file size limit of the data file is full: make room, then try again")
	errBroken = fault.New(fault.Unavailable,
		"the data file can't be written safely any more: check the disk, then restart the server")
)

// commitGroup commits, and judges a failure.
func (s *Store) commitGroup(tx *bbolt.Tx) error {
	id := tx.ID()
	err := s.commit(tx)
	if err == nil {
		return nil
	}
	current, readable := s.current()
	if readable && current < id && isFull(err) {
		s.log.Error("no room for a write", "error", err)
		return fmt.Errorf("%w (%w)", errFull, err)
	}
	return s.giveUp(err, !readable || current >= id)
}

// current returns the transaction that the file's meta pages name, as this process sees them.
func (s *Store) current() (id int, ok bool) {
	tx, err := s.begin(false)
	if err != nil {
		return 0, false
	}
	defer tx.Rollback()
	return tx.ID(), true
}

// giveUp makes every later call fail, and returns the error of the call at hand. unknown says that its writes may
// have reached the disk.
func (s *Store) giveUp(cause error, unknown bool) error {
	if !s.broken.Swap(true) {
		s.log.Error("the data file is not used any more", "error", cause, "outcome_unknown", unknown)
	}
	err := fmt.Errorf("%w (%w)", errBroken, cause)
	if unknown {
		err = fmt.Errorf("%w: %w", store.ErrUnknownOutcome, err)
	}
	return err
}

// isFull reports whether a commit failed for want of room. bbolt passes errors of writing on, but flattens those of
// growing the file to text.
func isFull(err error) bool {
	for _, full := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, full) || strings.HasSuffix(err.Error(), full.Error()) {
			return true
		}
	}
	return false
}
