package bolt

import (
	"iter"
	"strings"

	"go.etcd.io/bbolt"

	"github.com/quorate/quorate/internal/store"
)

// reader implements store.Reader. The values it returns lie in the file's memory map.
type reader struct{ bucket *bbolt.Bucket }

func (r reader) Get(keys ...string) ([][]byte, error) {
	values := make([][]byte, len(keys))
	for i, key := range keys {
		values[i] = r.bucket.Get([]byte(key))
	}
	return values, nil
}

func (r reader) Scan(prefix, after string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		cursor := r.bucket.Cursor()
		for k, v := cursor.Seek([]byte(max(prefix, after))); k != nil; k, v = cursor.Next() {
			key := string(k)
			if key == after {
				continue
			}
			if !strings.HasPrefix(key, prefix) || !yield(store.Entry{Key: key, Value: v}, nil) {
				return
			}
		}
	}
}
