package inmem

import (
	"iter"
	"slices"
	"sort"
	"strings"

	"github.com/quorate/quorate/internal/store"
)

// pageSize is the number of entries at which a page is split in two. It balances what one write copies: a page, and
// one slice header per page.
const pageSize = 256

// snapshot is an immutable ordered map, cut into pages: a change copies the pages it touches and shares the others.
// No page is empty.
type snapshot struct{ pages [][]store.Entry }

// Get implements store.Reader.
func (s *snapshot) Get(keys ...string) ([][]byte, error) {
	values := make([][]byte, len(keys))
	for i, key := range keys {
		p := s.page(key)
		if p == len(s.pages) {
			continue
		}
		if at, ok := find(s.pages[p], key); ok {
			values[i] = s.pages[p][at].Value
		}
	}
	return values, nil
}

// Scan implements store.Reader.
func (s *snapshot) Scan(prefix, after string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		from := max(prefix, after)
		for p := s.page(from); p < len(s.pages); p++ {
			at, _ := find(s.pages[p], from)
			for _, e := range s.pages[p][at:] {
				if e.Key == after {
					continue
				}
				if !strings.HasPrefix(e.Key, prefix) {
					return
				}
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// with returns the snapshot after changes, which must come in byte order of the keys; a nil value deletes.
func (s *snapshot) with(changes iter.Seq2[string, []byte]) *snapshot {
	next, stop := iter.Pull2(changes)
	defer stop()
	key, value, more := next()
	if !more {
		return s
	}
	out := make([][]store.Entry, 0, len(s.pages)+1)
	for p := 0; p < len(s.pages) || more; p++ {
		var old []store.Entry
		if p < len(s.pages) {
			old = s.pages[p]
		}
		// The last page, or the only page that an empty map never had, takes all that is left.
		last := p+1 >= len(s.pages)
		var merged []store.Entry
		for more && (last || key < s.pages[p+1][0].Key) {
			if merged == nil {
				merged = make([]store.Entry, 0, len(old)+1)
			}
			at, same := find(old, key)
			merged = append(merged, old[:at]...)
			if value != nil {
				merged = append(merged, store.Entry{Key: key, Value: value})
			}
			if same {
				at++
			}
			old = old[at:]
			key, value, more = next()
		}
		if merged != nil {
			old = append(merged, old...)
		}
		out = appendPages(out, old)
	}
	return &snapshot{out}
}

// appendPages adds entries to pages, split so that none is longer than pageSize.
func appendPages(pages [][]store.Entry, entries []store.Entry) [][]store.Entry {
	if len(entries) <= pageSize {
		if len(entries) > 0 {
			pages = append(pages, entries)
		}
		return pages
	}
	for half := range slices.Chunk(entries, pageSize/2) {
		pages = append(pages, half)
	}
	return pages
}

// page returns the index of the page where key is or would be: the last one that begins at or before it, else the first.
func (s *snapshot) page(key string) int {
	after := sort.Search(len(s.pages), func(i int) bool { return s.pages[i][0].Key > key })
	return max(after-1, 0)
}

// find returns where key is, or would be inserted, in entries.
func find(entries []store.Entry, key string) (at int, ok bool) {
	return slices.BinarySearchFunc(entries, key, func(e store.Entry, key string) int { return strings.Compare(e.Key, key) })
}
