package httpapi

import (
	"net/url"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/transcript"
)

const (
	defaultEntries = 100
	maxEntries     = 1000 // in one reply
)

var (
	errNoCheckpoint = fault.New(fault.NotFound, "the transcript has no checkpoint yet: the server signs one when it is unsealed")
	errRange        = fault.Newf(fault.Invalid, "start must be a whole number that isn't negative, and limit one from 1 to %d", maxEntries)
	errProof        = fault.New(fault.Invalid, "give index and size for a proof that an entry is in the transcript, or old and new, which are sizes, "+
		"for a proof that it has only grown; index is below size, old is from 1 to new, and neither size is above the transcript's")
)

func transcriptState(x *exchange) (*reply, error) {
	var head transcript.Head
	var checkpoint []byte
	err := x.Node.TranscriptView(x.r.Context(), func(r store.Reader) (err error) {
		if head, err = transcript.ReadHead(r); err != nil {
			return err
		}
		checkpoint, err = transcript.Checkpoint(r)
		return err
	})
	if err != nil {
		return nil, err
	}
	id, verifier, alarms, err := x.Node.TranscriptState(x.r.Context())
	if err != nil {
		return nil, err
	}
	if alarms == nil {
		alarms = []string{}
	}
	return &reply{data: map[string]any{
		"size": head.Size, "root": head.Root[:], "checkpoint": string(checkpoint), "verifier_key": verifier,
		"cluster_id": id, "alarms": alarms,
	}}, nil
}

func transcriptEntries(x *exchange) (*reply, error) {
	q := x.r.URL.Query()
	start, okStart := whole(q, "start", 0)
	limit, okLimit := whole(q, "limit", defaultEntries)
	if !okStart || !okLimit || limit < 1 || limit > maxEntries {
		return nil, errRange
	}
	entries := []string{}
	var head transcript.Head
	err := x.Node.TranscriptView(x.r.Context(), func(r store.Reader) (err error) {
		entries = entries[:0]
		if head, err = transcript.ReadHead(r); err != nil || start >= head.Size {
			return err
		}
		leaves, err := transcript.Read(r, start, int(limit))
		for _, leaf := range leaves {
			entries = append(entries, string(leaf))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return &reply{data: map[string]any{"start": start, "entries": entries, "size": head.Size}}, nil
}

func transcriptCheckpoint(x *exchange) (*reply, error) {
	var text string
	err := x.Node.TranscriptView(x.r.Context(), func(r store.Reader) error {
		note, err := transcript.Checkpoint(r)
		text = string(note)
		return err
	})
	if err == nil && text == "" {
		err = errNoCheckpoint
	}
	return &reply{plain: text}, err
}

func transcriptProof(x *exchange) (*reply, error) {
	prove, err := proofOf(x.r.URL.Query())
	if err != nil {
		return nil, err
	}
	hashes := [][]byte{}
	err = x.Node.TranscriptView(x.r.Context(), func(r store.Reader) error {
		hashes = hashes[:0]
		head, err := transcript.ReadHead(r)
		if err != nil {
			return err
		}
		list, err := prove(r, head.Size)
		for _, h := range list {
			hashes = append(hashes, h[:])
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return &reply{data: map[string]any{"hashes": hashes}}, nil
}

// proofOf reads which proof is asked for. What it returns makes that proof, in a transcript of a size.
func proofOf(q url.Values) (func(r store.Reader, size int64) ([]tlog.Hash, error), error) {
	names, proof := [2]string{"index", "size"}, transcript.Inclusion
	other := [2]string{"old", "new"}
	if q.Has("old") {
		names, other, proof = other, names, transcript.Consistency
	}
	a, okA := whole(q, names[0], -1)
	b, okB := whole(q, names[1], -1)
	if !okA || !okB || a < 0 || b < 1 || q.Has(other[0]) || q.Has(other[1]) {
		return nil, errProof
	}
	consistency := names[0] == "old"
	if a > b || a == b && !consistency || a == 0 && consistency {
		return nil, errProof
	}
	return func(r store.Reader, size int64) ([]tlog.Hash, error) {
		if b > size {
			return nil, errProof
		}
		return proof(r, a, b)
	}, nil
}

// whole reads a whole number that isn't negative from a query.
func whole(q url.Values, name string, absent int64) (int64, bool) {
	if !q.Has(name) {
		return absent, true
	}
	n, err := strconv.ParseInt(q.Get(name), 10, 64)
	return n, err == nil && n >= 0
}
