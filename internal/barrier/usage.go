package barrier

import (
	"context"
	"encoding/binary"
	"errors"
	"strconv"
	"time"

	"github.com/quorate/quorate/internal/store"
)

// A data key may encrypt 2^32 records with random nonces before two of them are the same with a probability that
// matters (NIST SP 800-38D, 8.3). Encryptions are reserved in blocks, in a record per term, before they are used,
// so that no crash and no number of nodes makes the count too small. A term that has no room for a block is followed
// by the next one.
const (
	usageBlock  = 1 << 16
	createBlock = 1 << 12 // for the transaction that initialises a store
	softLimit   = 3865470566
	hardLimit   = 1 << 32
)

// limits are usageBlock and softLimit, or smaller ones in tests.
type limits struct{ block, soft uint64 }

// The soft limit must leave the hard one alone.
var _ [hardLimit - softLimit]struct{}

var (
	// errShort aborts a transaction that has to run again after a reservation.
	errShort = errors.New("the reserved encryptions are used up")
	errHuge  = errors.New("one transaction writes more records than a data key may encrypt: write in several transactions")
)

func usageKey(number uint32) string { return usagePrefix + strconv.FormatUint(uint64(number), 10) }

// reserve makes room for need more encryptions and a block, under t or, when t is worn out or replaced, under the
// term that follows; the caller finds out which by running again.
func (b *Barrier) reserve(ctx context.Context, t *term, need int64) error {
	grant := b.limits.block + uint64(need)
	if grant > b.limits.soft {
		return errHuge
	}
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if t.left.Load() > need {
		return nil // somebody else reserved while this one waited
	}
	var granted *term
	err := b.inner.Update(ctx, func(raw store.Tx) error {
		granted = nil
		ring, err := b.reload(raw)
		if err != nil {
			return err
		}
		active := ring.active()
		used, known, err := (&reader{raw: raw, b: b, ring: ring}).usage(active.number)
		if err != nil {
			return err
		}
		if !known || used > b.limits.soft || used+grant > b.limits.soft {
			w := &writer{reader: reader{raw: raw, b: b, ring: ring}, tx: raw, fresh: true}
			return b.RotateIn(w, time.Now())
		}
		granted = active
		return putUsage(raw, active, used+grant)
	})
	if err == nil && granted != nil {
		granted.left.Add(int64(grant) - 1)
	}
	return err
}

// usage returns how many encryptions are reserved under a term. A count that is missing or damaged is not known,
// and the term counts as worn out: too early is harmless.
func (r *reader) usage(number uint32) (used uint64, known bool, err error) {
	values, err := r.Get(usageKey(number))
	switch {
	case errors.Is(err, ErrDamaged):
		return 0, false, nil
	case err != nil:
		return 0, false, err
	case len(values[0]) != 8:
		return 0, false, nil
	}
	return binary.BigEndian.Uint64(values[0]), true, nil
}

func putUsage(raw store.Tx, t *term, used uint64) error {
	key := usageKey(t.number)
	return raw.Put(key, sealRecord(t, binary.BigEndian.AppendUint64(nil, used), appendAAD(nil, key)))
}
