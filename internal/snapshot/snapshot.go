// Package snapshot is a whole store in one stream: to save it, to look at it without a server, to put it back, and to
// bring everything from one store into another.
//
// It promises that a stream is one consistent state of the store; that one which is cut short or changed is noticed
// before anything is written; and that a store into which not everything has been written yet says so (Unfinished), so
// that no server starts over it, and that the same command finishes it. It works below the barrier: it decrypts nothing,
// and what is in a stream is as secret as the store it came from. The checksum finds damage; it doesn't tell who made a
// file. What tells forgery is what the records themselves carry: their authentication, and the transcript.
package snapshot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/store"
)

// A stream is the magic line, the header as one line of JSON, the records in the order of their keys (length and bytes
// of the key, length and bytes of the value), and the end: a zero, the number of records, and the SHA-256 of all before
// it. Numbers are varints. There is one way to write each stream.
const (
	magic     = "quorate snapshot\n"
	format    = 1
	maxHeader = 4 << 10
)

// markerKey is there while a store isn't complete.
const markerKey = "plain/incoming"

// apart reports a key that belongs to the store, not to what is in it.
func apart(key string) bool { return key == markerKey || strings.HasPrefix(key, seal.PresencePrefix) }

// renewed reports a key that a restore doesn't put back but makes new, or that is apart.
func renewed(key string) bool { return key == seal.OrderKey || key == barrier.StampKey || apart(key) }

// Header says what a stream is of.
type Header struct {
	Format      int       `json:"format"`
	ClusterID   string    `json:"cluster_id"`
	ClusterName string    `json:"cluster_name"`
	Generation  uint64    `json:"generation"` // of key shares: those that open what is in it
	Created     time.Time `json:"created"`
	Version     string    `json:"version"`      // of the server that saved it
	StorageType string    `json:"storage_type"` // of the store it was saved from
}

// of takes over what the seal record says.
func (h *Header) of(rec *seal.Record) {
	h.Format, h.ClusterID, h.ClusterName, h.Generation = format, rec.ClusterID, rec.ClusterName, rec.Generation().Number
}

func (h *Header) line() ([]byte, error) {
	text, err := json.Marshal(h)
	if err == nil && len(text) >= maxHeader {
		err = errors.New("the header of the snapshot would be too long")
	}
	return append(text, '\n'), err
}

// decodeHeader accepts nothing but what line writes.
func decodeHeader(line []byte) (h Header, err error) {
	if json.Unmarshal(line, &h) != nil {
		return h, damaged("its header can't be read")
	}
	if h.Format != format {
		return h, fmt.Errorf("the snapshot has format %d, and this program reads format %d: use the version that saved it", h.Format, format)
	}
	if again, err := h.line(); err != nil || !bytes.Equal(again, line) {
		return h, damaged("its header isn't as it was written")
	}
	return h, nil
}

// ErrDamaged says that a stream isn't one that Save wrote, or only a part of it.
var ErrDamaged = errors.New("this is no snapshot, or a damaged one")

func damaged(what string) error { return fmt.Errorf("%w: %s", ErrDamaged, what) }

var (
	errNew   = fault.New(fault.Invalid, "the store is not initialised: there is nothing to save")
	errBegun = errors.New("the store had to begin the snapshot again when a part had been sent: save it once more")
)

// Save writes the whole of st as it is at one moment. h needs its Created, Version and StorageType; the rest comes from
// the store. After an error w may have got a part, which no reader takes for a whole.
func Save(ctx context.Context, st store.Store, w io.Writer, h Header) error {
	out := newEncoder(w)
	records := uint64(0)
	err := st.View(ctx, func(r store.Reader) error {
		if out.sent > 0 {
			return errBegun
		}
		out.reset()
		if err := out.begin(r, h); err != nil {
			return err
		}
		records = 0
		for e, err := range r.Scan("", "") {
			if err == nil {
				err = ctx.Err()
			}
			switch {
			case err != nil:
				return err
			case apart(e.Key):
				continue
			}
			if err := out.record(e); err != nil {
				return err
			}
			records++
		}
		return nil
	})
	if err != nil {
		return err
	}
	return out.end(records) // only now is it certain that what was read is one state
}
