package snapshot

import (
	"context"
	"errors"

	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/store"
)

// Migrate brings everything in one store into another one, which must be empty. No server may run over either. After an
// error the destination is unfinished, and the same call goes on with it. The source is only read.
func Migrate(ctx context.Context, from, to store.Store, o Options) (records int64, err error) {
	var cluster string
	err = from.View(ctx, func(r store.Reader) error {
		if err := Unfinished(r); err != nil {
			return err
		}
		rec, err := seal.Load(r)
		switch {
		case err != nil:
			return err
		case rec == nil:
			return errors.New("the store to migrate from is not initialised: there is nothing to migrate")
		}
		cluster = rec.ClusterID
		return deserted(r, from)
	})
	if err != nil {
		return 0, err
	}
	f := &filling{st: to, what: marker{Kind: migrating, From: cluster}, keep: apart, progress: o.progress()}
	after, err := f.begin(ctx, func(tx store.Tx, there *marker) error {
		if there.of(f.what) {
			return nil
		}
		if there != nil {
			return errors.New("something else is coming into the store to migrate to and was not finished: take an empty one")
		}
		return empty(tx, "the store to migrate to is not empty, and nothing in it is replaced: take an empty one")
	})
	if err != nil {
		return 0, err
	}
	if err := f.run(ctx, pages(ctx, from, after, apart)); err != nil {
		return 0, err
	}
	content, err := take(ctx, from, apart) // again: what changed meanwhile is found
	if err != nil {
		return 0, err
	}
	return content.records, f.finish(ctx, content, apart)
}
