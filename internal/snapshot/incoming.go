package snapshot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/store"
)

// The two ways in which a store is filled.
const (
	restoring = "restore"
	migrating = "migration"
)

// marker says that a store isn't complete: what is coming into it, and how far it has come.
type marker struct {
	Kind  string `json:"kind"`
	From  string `json:"from"`  // the checksum of the snapshot, or the source
	After string `json:"after"` // the last key up to which everything is there
}

// readMarker returns nil for a complete store. A marker that can't be read is one of nothing that is known.
func readMarker(r store.Reader) (*marker, error) {
	values, err := r.Get(markerKey)
	if err != nil || values[0] == nil {
		return nil, err
	}
	m := &marker{}
	if json.Unmarshal(values[0], m) != nil {
		m = &marker{}
	}
	return m, nil
}

func (m *marker) of(other marker) bool {
	return m != nil && m.Kind == other.Kind && m.From == other.From
}

func (m *marker) put(tx store.Tx) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return tx.Put(markerKey, text)
}

// Unfinished is an error for a store into which not everything has come yet: no server may start over it.
func Unfinished(r store.Reader) error {
	m, err := readMarker(r)
	switch {
	case err != nil:
		return err
	case m == nil:
		return nil
	case m.Kind == migrating:
		return fault.New(fault.Unavailable, "a migration into this store was not finished: run quorate operator migrate again, with the same configuration, to finish it")
	}
	return fault.New(fault.Unavailable, "a snapshot was not wholly restored into this store: run quorate operator snapshot restore again, with the same file, to finish it")
}

// deserted is an error if a server runs over the store, as far as one can see there.
func deserted(r store.Reader, st store.Store) error {
	now := time.Now()
	if c, ok := st.(store.Clock); ok {
		now = c.Now()
	}
	for e, err := range r.Scan(seal.PresencePrefix, "") {
		if err != nil {
			return err
		}
		var node struct {
			LastEcho time.Time `json:"last_echo"`
		}
		if json.Unmarshal(e.Value, &node) != nil {
			continue
		}
		// One whose clock is ahead of ours is there, too; but not for ever.
		if ago := now.Sub(node.LastEcho); ago < seal.PresenceLife && ago > -time.Hour {
			return fmt.Errorf("a server runs over this store, or did until %s ago (node %s): stop all of them, wait half a minute, and repeat the command",
				max(ago, 0).Round(time.Second), strings.TrimPrefix(e.Key, seal.PresencePrefix))
		}
	}
	return nil
}

// source yields what comes into a store, in the order of the keys and in pieces; last says that nothing follows.
type source func() (window []store.Entry, last bool, err error)

// filling is one run that brings something into a store.
type filling struct {
	st       store.Store
	what     marker                // without After
	keep     func(key string) bool // what in the store is none of its business
	progress func(records, bytes int64)

	records, bytes int64
}

var (
	errTaken   = errors.New("another restore or migration into this store has begun meanwhile: let only one run")
	errDiffers = errors.New("what is in the store now is not what should have come into it: see that nothing else writes to either side, and run the command again, which begins from the start")
)

// begin puts the marker in place, in the transaction in which it is decided that this may be done, and returns the key
// after which to go on. admit gets the marker that is there, nil if there is none.
func (f *filling) begin(ctx context.Context, admit func(tx store.Tx, there *marker) error) (after string, err error) {
	err = f.st.Update(ctx, func(tx store.Tx) error {
		there, err := readMarker(tx)
		if err != nil {
			return err
		}
		if err := deserted(tx, f.st); err != nil {
			return err
		}
		if err := admit(tx, there); err != nil {
			return err
		}
		now := f.what
		if there.of(now) {
			now.After = there.After
		}
		after = now.After
		return now.put(tx)
	})
	return after, err
}

// mine reads the marker and makes sure that it is still the one of this run.
func (f *filling) mine(tx store.Tx) (*marker, error) {
	m, err := readMarker(tx)
	if err == nil && !m.of(f.what) {
		err = errTaken
	}
	return m, err
}

// run brings everything in.
func (f *filling) run(ctx context.Context, next source) error {
	for last := false; !last; {
		window, l, err := next()
		if err != nil {
			return err
		}
		last = l
		for whole := false; !whole; {
			if err := ctx.Err(); err != nil {
				return err
			}
			var s step
			err := f.st.Update(ctx, func(tx store.Tx) error {
				m, err := f.mine(tx)
				if err != nil {
					return err
				}
				s = step{after: m.After}
				if err := s.plan(tx, window, last, f.keep); err != nil {
					return err
				}
				return s.apply(tx, m)
			})
			if err != nil {
				return err
			}
			for _, e := range window[:s.taken] {
				f.records++
				f.bytes += int64(len(e.Key) + len(e.Value))
			}
			window, whole = window[s.taken:], s.whole
		}
		f.progress(f.records, f.bytes)
	}
	return nil
}

// step is one transaction's part of a run.
type step struct {
	after   string // up to where everything is there once it is done
	taken   int    // of the window
	whole   bool   // the window is done
	puts    []store.Entry
	deletes []string
}

// plan merges the window with what the store has after s.after, within the limits of one transaction.
func (s *step) plan(r store.Reader, window []store.Entry, last bool, keep func(string) bool) error {
	theirs, all, err := ahead(r, s.after, window, last)
	if err != nil {
		return err
	}
	size := 0
	for n := 0; n < batchRecords; n++ {
		var ours *store.Entry
		if s.taken < len(window) {
			ours = &window[s.taken]
		}
		switch {
		case len(theirs) == 0 && !all: // what follows isn't known yet
			return nil
		case len(theirs) == 0 && ours == nil:
			s.whole = true
			return nil
		case ours == nil || len(theirs) > 0 && theirs[0].Key < ours.Key:
			if s.after = theirs[0].Key; !keep(s.after) {
				s.deletes = append(s.deletes, s.after)
			}
			theirs = theirs[1:]
			continue
		}
		same := len(theirs) > 0 && theirs[0].Key == ours.Key
		if !same || !bytes.Equal(theirs[0].Value, ours.Value) {
			if size += len(ours.Key) + len(ours.Value); size > batchBytes && len(s.puts) > 0 {
				return nil
			}
			s.puts = append(s.puts, *ours)
		}
		if same {
			theirs = theirs[1:]
		}
		s.after = ours.Key
		s.taken++
	}
	return nil
}

// ahead reads what the store has after a key and, unless the window is the last one, not after its end: as much as fits
// into one transaction. all says that there is no more.
func ahead(r store.Reader, after string, window []store.Entry, last bool) (list []store.Entry, all bool, err error) {
	for e, err := range r.Scan("", after) {
		switch {
		case err != nil:
			return nil, false, err
		case !last && (len(window) == 0 || e.Key > window[len(window)-1].Key):
			return list, true, nil
		case len(list) == batchRecords:
			return list, false, nil
		}
		list = append(list, e)
	}
	return list, true, nil
}

func (s *step) apply(tx store.Tx, m *marker) error {
	if s.after == m.After {
		return nil
	}
	for _, e := range s.puts {
		if err := tx.Put(e.Key, e.Value); err != nil {
			return err
		}
	}
	for _, key := range s.deletes {
		if err := tx.Delete(key); err != nil {
			return err
		}
	}
	m.After = s.after
	return m.put(tx)
}

// finish compares what is there with what should be, and takes the marker away, or lets the next run begin anew.
func (f *filling) finish(ctx context.Context, want tally, without func(string) bool) error {
	got, err := take(ctx, f.st, without)
	if err != nil {
		return err
	}
	equal := got.equal(want)
	err = f.st.Update(ctx, func(tx store.Tx) error {
		m, err := f.mine(tx)
		if err != nil {
			return err
		}
		if equal {
			return tx.Delete(markerKey)
		}
		m.After = ""
		return m.put(tx)
	})
	if err == nil && !equal {
		err = errDiffers
	}
	return err
}
