package token

import (
	"context"
	"slices"
	"strings"

	"github.com/quorate/quorate/internal/store"
)

// batch is how many tokens or records one transaction looks at, changes or removes.
const batch = 500

// walk is what is done to the tokens of one index. Its functions get the key of an entry, and the token that it leads to,
// dead or alive; nil if it leads nowhere.
type walk struct {
	prefix string
	before string // the first key that isn't looked at; "" for none
	due    func(r store.Reader, s *snapshot, key string, e *Entry) (bool, error)
	act    func(tx store.Tx, s *snapshot, key string, e *Entry) (counts bool, err error)
}

// walk goes through an index once. It finds by View what is due, and acts by small Updates in which it looks again. After
// an error n counts what was done before it.
func (t *Tokens) walk(ctx context.Context, st store.Store, w walk) (n int, err error) {
	for after, more := "", true; more; {
		var due []string
		from := after
		err := st.View(ctx, func(r store.Reader) (err error) {
			due, after, more, err = t.page(r, w, from)
			return err
		})
		if err != nil {
			return n, err
		}
		if len(due) == 0 {
			continue
		}
		done := 0
		err = st.Update(ctx, func(tx store.Tx) error {
			done = 0
			for _, key := range due {
				counts, err := t.visit(tx, w, key)
				if err != nil {
					return err
				}
				if counts {
					done++
				}
			}
			return nil
		})
		if err != nil {
			return n, err
		}
		n += done
	}
	return n, nil
}

// page returns which of the next batch of entries are due, where the batch ends, and whether there is more behind it.
func (t *Tokens) page(r store.Reader, w walk, after string) (due []string, last string, more bool, err error) {
	s, _, err := t.get(r)
	if err != nil {
		return nil, "", false, err
	}
	looked := 0
	for entry, err := range r.Scan(w.prefix, after) {
		if err != nil {
			return nil, "", false, err
		}
		if w.before != "" && entry.Key >= w.before {
			break
		}
		if looked == batch {
			return due, last, true, nil
		}
		e, err := s.follow(r, entry.Key, entry.Value)
		if err != nil {
			return nil, "", false, err
		}
		isDue, err := w.due(r, s, entry.Key, e)
		if err != nil {
			return nil, "", false, err
		}
		if isDue {
			due = append(due, entry.Key)
		}
		last = entry.Key
		looked++
	}
	return due, last, false, nil
}

func (t *Tokens) visit(tx store.Tx, w walk, key string) (counts bool, err error) {
	s, values, err := t.get(tx, key)
	if err != nil || values[0] == nil {
		return false, err
	}
	e, err := s.follow(tx, key, values[0])
	if err != nil {
		return false, err
	}
	if due, err := w.due(tx, s, key, e); err != nil || !due {
		return false, err
	}
	return w.act(tx, s, key, e)
}

// follow returns the token that an entry leads to, dead or alive, nil if it leads nowhere or to a later token of that ID.
func (s *snapshot) follow(r store.Reader, key string, value []byte) (*Entry, error) {
	e, err := read(r, string(value))
	if err != nil || e == nil || !slices.Contains(s.ways(e), key) {
		return nil, err
	}
	return e, nil
}

// Tidy sweeps, and then removes what leads to no token. Nothing here leaves such behind, but whoever changes the store by
// other means may. It looks at everything, so it is for people to ask for. It returns how many tokens and entries it
// removed.
func (t *Tokens) Tidy(ctx context.Context, st store.Store) (n int, err error) {
	if n, err = t.Sweep(ctx, st, t.now()); err != nil {
		return n, err
	}
	for _, prefix := range []string{accessorPrefix, childPrefix, rootPrefix, leasePrefix, expiryPrefix} {
		removed, err := t.walk(ctx, st, walk{
			prefix: prefix,
			due: func(r store.Reader, s *snapshot, key string, e *Entry) (bool, error) {
				if e != nil || prefix != childPrefix {
					return e == nil, nil
				}
				return s.needless(r, key)
			},
			act: func(tx store.Tx, _ *snapshot, key string, _ *Entry) (bool, error) { return true, tx.Delete(key) },
		})
		if n += removed; err != nil {
			return n, err
		}
	}
	return n, nil
}

// needless reports whether a child link that leads to no token may go: not below a grave, which is cleared in an order of
// its own, nor while something else is linked below the child.
func (s *snapshot) needless(r store.Reader, link string) (bool, error) {
	parent, child, _ := strings.Cut(strings.TrimPrefix(link, childPrefix), "/")
	if _, dead := s.graves[parent]; dead {
		return false, nil
	}
	below, err := hasChildren(r, child)
	return !below, err
}
