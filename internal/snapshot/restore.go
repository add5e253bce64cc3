package snapshot

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/transcript"
)

// Options of a Restore or a Migrate. The zero value is careful and silent.
type Options struct {
	// Force lets a restore replace a store of another cluster or of a later state.
	Force bool
	// Progress is told after each batch how many records and bytes have come.
	Progress func(records, bytes int64)
}

func (o *Options) progress() func(records, bytes int64) {
	if o.Progress == nil {
		return func(int64, int64) {}
	}
	return o.Progress
}

// Restore makes st what it was when the snapshot was saved; what came later is deleted. No server may run over it, and
// one that does all the same seals itself. After an error the store is unfinished, and the same call goes on with it,
// unless the error came before anything was written. in is read twice: whole, before anything is written, and then again.
func Restore(ctx context.Context, st store.Store, in io.ReadSeeker, o Options) (*Summary, error) {
	s, err := Inspect(in)
	if err != nil {
		return nil, err
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	r, err := Open(in)
	if err != nil {
		return nil, err
	}
	f := &filling{st: st, what: marker{Kind: restoring, From: s.SHA256}, keep: renewed, progress: o.progress()}
	after, err := f.begin(ctx, func(tx store.Tx, there *marker) error {
		if !o.Force && !there.of(f.what) {
			if err := s.replaces(tx, there); err != nil {
				return err
			}
		}
		if err := tx.Put(seal.OrderKey, []byte(rand.Text())); err != nil {
			return err
		}
		return barrier.BumpStamp(tx)
	})
	if err != nil {
		return nil, err
	}
	if err := f.run(ctx, r.source(after)); err != nil {
		return nil, err
	}
	return s, f.finish(ctx, s.content, renewed)
}

// source yields the records after a key.
func (r *Reader) source(after string) source {
	return func() (window []store.Entry, last bool, err error) {
		for n, size := 0, 0; n < batchRecords && size < batchBytes; {
			e, err := r.Next()
			if err == io.EOF {
				return window, true, nil
			}
			if err != nil {
				return nil, false, err
			}
			if e.Key > after && !renewed(e.Key) {
				window = append(window, e)
				n, size = n+1, size+len(e.Key)+len(e.Value)
			}
		}
		return window, false, nil
	}
}

// replaces is an error if the snapshot may not take the place of what is in the store.
func (s *Summary) replaces(r store.Reader, there *marker) error {
	const force = "; with -force it is replaced all the same"
	if there != nil {
		return errors.New("something else is coming into this store and was not finished: finish that first" + force)
	}
	rec, err := seal.Load(r)
	if err != nil {
		return fmt.Errorf("the seal record in the store can't be read, so it isn't known what would be replaced%s (%w)", force, err)
	}
	if rec == nil {
		return empty(r, "the store has records, but none that says of which cluster"+force)
	}
	generation := rec.Generation().Number
	head, err := transcript.ReadHead(r)
	switch {
	case rec.ClusterID != s.Header.ClusterID:
		return fmt.Errorf("the store has another cluster (%s), and the snapshot is of %s%s", rec.ClusterID, s.Header.ClusterID, force)
	case generation > s.Header.Generation:
		return fmt.Errorf("the snapshot is of generation %d of the key shares, and the store of generation %d: the older shares would be needed again%s", s.Header.Generation, generation, force)
	case err != nil:
		return fmt.Errorf("the transcript in the store can't be read, so it isn't known what would be lost%s (%w)", force, err)
	case head.Size > s.Transcript:
		return fmt.Errorf("the transcript in the store has %d entries and that of the snapshot %d: what was recorded since would be lost%s", head.Size, s.Transcript, force)
	}
	return nil
}

// empty is an error with this sentence if there is more in the store than signs of servers.
func empty(r store.Reader, sentence string) error {
	for e, err := range r.Scan("", "") {
		if err != nil {
			return err
		}
		if !apart(e.Key) {
			return errors.New(sentence)
		}
	}
	return nil
}
