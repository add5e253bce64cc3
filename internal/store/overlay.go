package store

import (
	"iter"
	"maps"
	"slices"
	"strings"
)

// Overlay is a Tx that keeps its writes to itself, over a Reader that stays as it is. A store runs an Update's function
// on one and applies its Changes only if the function succeeds.
type Overlay struct {
	base   Reader
	writes map[string][]byte // :: key → value, nil for a deleted key
}

// NewOverlay returns an overlay without writes. It is valid as long as base is.
func NewOverlay(base Reader) *Overlay {
	return &Overlay{base: base, writes: map[string][]byte{}}
}

// Get implements Reader: keys that were not written are asked from the base in one call.
func (o *Overlay) Get(keys ...string) ([][]byte, error) {
	if len(o.writes) == 0 {
		return o.base.Get(keys...)
	}
	values := make([][]byte, len(keys))
	var missing []string
	var at []int // :: index in missing → index in keys
	for i, key := range keys {
		value, ok := o.writes[key]
		if !ok {
			missing, at = append(missing, key), append(at, i)
		}
		values[i] = value
	}
	if len(missing) == 0 {
		return values, nil
	}
	found, err := o.base.Get(missing...)
	if err != nil {
		return nil, err
	}
	for i, value := range found {
		values[at[i]] = value
	}
	return values, nil
}

// Scan implements Reader: the overlay's writes merged into the base's entries.
func (o *Overlay) Scan(prefix, after string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		own := o.entries(prefix, after)
		for e, err := range o.base.Scan(prefix, after) {
			if err != nil {
				yield(Entry{}, err)
				return
			}
			for len(own) > 0 && own[0].Key < e.Key {
				if own[0].Value != nil && !yield(own[0], nil) {
					return
				}
				own = own[1:]
			}
			if len(own) > 0 && own[0].Key == e.Key {
				e.Value, own = own[0].Value, own[1:]
			}
			if e.Value != nil && !yield(e, nil) {
				return
			}
		}
		for _, e := range own {
			if e.Value != nil && !yield(e, nil) {
				return
			}
		}
	}
}

// Put implements Tx.
func (o *Overlay) Put(key string, value []byte) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	if err := CheckValue(value); err != nil {
		return err
	}
	o.writes[key] = append([]byte{}, value...) // never nil: an empty value is not a deletion
	return nil
}

// Delete implements Tx.
func (o *Overlay) Delete(key string) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	o.writes[key] = nil
	return nil
}

// Changes yields what was written, in byte order of the keys, with a nil value for a deleted key. The values are the
// overlay's own copies: whoever applies them may keep them.
func (o *Overlay) Changes() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for _, key := range slices.Sorted(maps.Keys(o.writes)) {
			if !yield(key, o.writes[key]) {
				return
			}
		}
	}
}

// Changed reports whether there is anything in Changes.
func (o *Overlay) Changed() bool { return len(o.writes) > 0 }

// entries returns the writes that a scan has to merge, deletions included.
func (o *Overlay) entries(prefix, after string) []Entry {
	var own []Entry
	for key, value := range o.writes {
		if key > after && strings.HasPrefix(key, prefix) {
			own = append(own, Entry{key, value})
		}
	}
	slices.SortFunc(own, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	return own
}
