package approle

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/store"
)

// tidyBatch is how many secret IDs one tidy removes at most. The sweeps do the rest.
const tidyBatch = 500

// expiredAt tells of an expiry record whether its secret ID has expired. The records are in order of time.
func expiredAt(now time.Time) func(store.Entry) (stale, more bool) {
	return func(e store.Entry) (stale, more bool) {
		at, _, _ := strings.Cut(strings.TrimPrefix(e.Key, expiryPrefix), "/")
		seconds, err := strconv.ParseInt(at, 10, 64)
		stale = err != nil || seconds < now.Unix()
		return stale, stale
	}
}

// removeExpired removes the secret ID of an expiry record, and the record.
func removeExpired(tx store.Tx, e store.Entry) error {
	if parts := strings.Split(e.Key, "/"); len(parts) == 4 {
		k, err := find(tx, parts[2], parts[3])
		if err != nil {
			return err
		}
		if k != nil {
			return k.remove(tx)
		}
	}
	return tx.Delete(e.Key)
}

func sweepExpired(ctx context.Context, st store.Store, now time.Time) error {
	return engine.SweepStale(ctx, st, expiryPrefix, expiredAt(now), removeExpired)
}

// sweepPurged removes the secret IDs of roles that are gone, and then what is left of those roles.
func sweepPurged(ctx context.Context, st store.Store) error {
	var serials []string
	err := st.View(ctx, func(r store.Reader) error {
		serials = nil
		for e, err := range r.Scan(purgePrefix, "") {
			if err != nil {
				return err
			}
			serials = append(serials, strings.TrimPrefix(e.Key, purgePrefix))
		}
		return nil
	})
	if err != nil {
		return err
	}
	all := func(store.Entry) (stale, more bool) { return true, true }
	for _, serial := range serials {
		below := secretPrefix + serial + "/"
		err := engine.SweepStale(ctx, st, below, all, func(tx store.Tx, e store.Entry) error {
			k, err := find(tx, serial, strings.TrimPrefix(e.Key, below))
			if err != nil || k == nil {
				return err
			}
			return k.remove(tx)
		})
		if err != nil {
			return err
		}
		if err := st.Update(ctx, func(tx store.Tx) error { return tx.Delete(purgePrefix + serial) }); err != nil {
			return err
		}
	}
	return nil
}

// tidy removes what the next sweep would, as far as that fits into one transaction.
func tidy(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	var found []store.Entry
	expired := expiredAt(r.Now)
	for e, err := range tx.Scan(expiryPrefix, "") {
		if err != nil {
			return nil, err
		}
		if stale, _ := expired(e); !stale || len(found) == tidyBatch {
			break
		}
		found = append(found, e)
	}
	for _, e := range found {
		if err := removeExpired(tx, e); err != nil {
			return nil, err
		}
	}
	return &engine.Response{Accepted: true, Warnings: []string{
		"secret IDs that have expired are being removed, as the server does by itself from time to time",
	}}, nil
}
