package engine

import (
	"context"

	"github.com/quorate/quorate/internal/store"
)

const sweepBatch = 200

// SweepStale removes stale records below a prefix: it finds them in a View, and gives each to remove in an Update, if it
// is still stale there. judge tells whether a record is stale, and whether later ones may be.
func SweepStale(ctx context.Context, st store.Store, prefix string,
	judge func(store.Entry) (stale, more bool), remove func(store.Tx, store.Entry) error,
) error {
	for after, more := "", true; more; {
		var keys []string
		from := after
		err := st.View(ctx, func(r store.Reader) (err error) {
			keys, after, more, err = stalePage(r, prefix, from, judge)
			return err
		})
		if err != nil || len(keys) == 0 {
			return err
		}
		err = st.Update(ctx, func(tx store.Tx) error { return removeStale(tx, keys, judge, remove) })
		if err != nil {
			return err
		}
	}
	return nil
}

// stalePage finds up to sweepBatch keys, and where to go on.
func stalePage(r store.Reader, prefix, after string, judge func(store.Entry) (stale, more bool)) (keys []string, end string, more bool, err error) {
	for e, err := range r.Scan(prefix, after) {
		if err != nil {
			return nil, "", false, err
		}
		if len(keys) == sweepBatch {
			return keys, end, true, nil
		}
		stale, goOn := judge(e)
		if stale {
			keys = append(keys, e.Key)
		}
		if end = e.Key; !goOn {
			break
		}
	}
	return keys, end, false, nil
}

func removeStale(tx store.Tx, keys []string, judge func(store.Entry) (stale, more bool), remove func(store.Tx, store.Entry) error) error {
	values, err := tx.Get(keys...)
	if err != nil {
		return err
	}
	for i, key := range keys {
		if values[i] == nil {
			continue
		}
		e := store.Entry{Key: key, Value: values[i]}
		if stale, _ := judge(e); !stale {
			continue
		}
		if err := remove(tx, e); err != nil {
			return err
		}
	}
	return nil
}
