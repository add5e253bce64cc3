package token

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/store"
)

// Sweep removes what has expired by now, and what revocations left behind, and returns how many tokens that were. It
// finds by View and removes by small Updates, each of which looks again, so it may run on several nodes, beside
// anything else, and may be interrupted anywhere: nothing that is dead comes to life in between, and the next run goes
// on. After an error the number counts what was removed before it. It costs what there is to remove, not what there is.
func (t *Tokens) Sweep(ctx context.Context, st store.Store, now time.Time) (swept int, err error) {
	swept, err = t.walk(ctx, st, walk{
		prefix: expiryPrefix,
		before: expiryPrefix + fmt.Sprintf("%020d", now.Unix()+1),
		due: func(_ store.Reader, _ *snapshot, _ string, e *Entry) (bool, error) {
			return e == nil || e.expired(now), nil
		},
		act: func(tx store.Tx, s *snapshot, key string, e *Entry) (bool, error) {
			if e == nil {
				return false, tx.Delete(key)
			}
			return true, s.bury(tx, e, withTree)
		},
	})
	if err != nil {
		return swept, err
	}
	n, err := t.sweepGraves(ctx, st)
	if swept += n; err != nil {
		return swept, err
	}
	return swept, t.sweepEstates(ctx, st)
}

// sweepEstates removes what belonged to tokens that left too much to go with them.
func (t *Tokens) sweepEstates(ctx context.Context, st store.Store) error {
	if t.belongings == "" {
		return nil
	}
	for {
		var estates []store.Entry
		err := st.View(ctx, func(r store.Reader) (err error) {
			estates, err = collect(r, estatePrefix, "", 1)
			return err
		})
		if err != nil || len(estates) == 0 {
			return err
		}
		key := estates[0].Key
		err = st.Update(ctx, func(tx store.Tx) error {
			done, err := dropBelow(tx, t.belongings+strings.TrimPrefix(key, estatePrefix)+"/", batch)
			if err != nil || !done {
				return err
			}
			return tx.Delete(key)
		})
		if err != nil {
			return err
		}
	}
}

// sweepGraves clears up below each grave, then removes those that have nothing below them any more.
func (t *Tokens) sweepGraves(ctx context.Context, st store.Store) (swept int, err error) {
	graves, err := allGraves(ctx, st)
	if err != nil {
		return 0, err
	}
	var rids []string
	for rid, g := range graves {
		clearBelow := t.clearTree
		if g == alone {
			clearBelow = t.cutTree
		}
		n, err := clearBelow(ctx, st, rid)
		if swept += n; err != nil {
			return swept, err
		}
		rids = append(rids, rid)
	}
	for some := range slices.Chunk(rids, batch) {
		if err := closeGraves(ctx, st, some); err != nil {
			return swept, err
		}
	}
	return swept, nil
}

func allGraves(ctx context.Context, st store.Store) (graves map[string]grave, err error) {
	err = st.View(ctx, func(r store.Reader) (err error) {
		graves, err = readGraves(r)
		return err
	})
	return graves, err
}

// closeGraves removes graves below which nothing is left. The stamp changes with them: a reader of an older snapshot,
// where there still is something below, must not take what is remembered of a newer one for its own.
func closeGraves(ctx context.Context, st store.Store, rids []string) error {
	return st.Update(ctx, func(tx store.Tx) error {
		for _, rid := range rids {
			parent, err := hasChildren(tx, rid)
			if err != nil {
				return err
			}
			if parent {
				continue
			}
			if err := tx.Delete(gravePrefix + rid); err != nil {
				return err
			}
		}
		return barrier.BumpStamp(tx)
	})
}

// clearTree removes all tokens below a record ID, whose grave says that they are dead.
func (t *Tokens) clearTree(ctx context.Context, st store.Store, rid string) (swept int, err error) {
	for done := false; !done; {
		var n int
		err := st.Update(ctx, func(tx store.Tx) error {
			s, _, err := t.get(tx)
			if err != nil {
				return err
			}
			c := &clearing{snapshot: s, tx: tx, left: batch}
			done, err = c.below(rid)
			n = c.removed
			return err
		})
		if err != nil {
			return swept, err
		}
		swept += n
	}
	return swept, nil
}

// clearing is one transaction of clearTree.
type clearing struct {
	*snapshot
	tx      store.Tx
	left    int // links that may still be followed and removed
	removed int // tokens
}

// below removes what is below rid, deepest first, so that what remains can still be found from rid when the batch is
// full: then it returns false. It looks at no more tokens than a batch and the depth of the tree.
func (c *clearing) below(rid string) (done bool, err error) {
	for after := ""; ; {
		links, err := collect(c.tx, children(rid), after, 1)
		if err != nil || len(links) == 0 {
			return err == nil, err
		}
		after = links[0].Key
		child := strings.TrimPrefix(after, children(rid))
		if done, err := c.below(child); err != nil || !done {
			return false, err
		}
		if c.left == 0 {
			return false, nil
		}
		c.left--
		if err := c.removeChild(child, string(links[0].Value)); err != nil {
			return false, err
		}
		if err := c.tx.Delete(after); err != nil {
			return false, err
		}
	}
}

// removeChild removes the record at key, unless it is gone or a later token has it.
func (c *clearing) removeChild(rid, key string) error {
	e, err := read(c.tx, key)
	if err != nil || e == nil || e.RecordID != rid {
		return err
	}
	c.removed++
	return c.remove(c.tx, e)
}

// cutTree takes the ancestors from a record ID upwards, whose grave says that they don't count, out of all records
// below it, and then its links to them. It sweeps no token.
func (t *Tokens) cutTree(ctx context.Context, st store.Store, rid string) (swept int, err error) {
	var keys []string
	err = st.View(ctx, func(r store.Reader) (err error) {
		keys, err = keysBelow(r, rid, nil)
		return err
	})
	if err != nil {
		return 0, err
	}
	for some := range slices.Chunk(keys, batch) {
		if err := cut(ctx, st, rid, some); err != nil {
			return 0, err
		}
	}
	for done := false; !done; {
		err := st.Update(ctx, func(tx store.Tx) error {
			links, err := collect(tx, children(rid), "", batch)
			if err != nil {
				return err
			}
			for _, link := range links {
				if err := tx.Delete(link.Key); err != nil {
					return err
				}
			}
			done = len(links) < batch
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// keysBelow appends the keys of all tokens below rid. No new ones with rid among their ancestors can come after it
// got its grave: Create leaves out what doesn't count.
func keysBelow(r store.Reader, rid string, keys []string) ([]string, error) {
	links, err := collect(r, children(rid), "", 0)
	if err != nil {
		return nil, err
	}
	for _, link := range links {
		keys = append(keys, string(link.Value))
		if keys, err = keysBelow(r, strings.TrimPrefix(link.Key, children(rid)), keys); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

func cut(ctx context.Context, st store.Store, rid string, keys []string) error {
	return st.Update(ctx, func(tx store.Tx) error {
		for _, key := range keys {
			e, err := read(tx, key)
			if err != nil {
				return err
			}
			if e == nil {
				continue
			}
			i := slices.IndexFunc(e.Ancestors, func(a Ancestor) bool { return a.RecordID == rid })
			if i < 0 {
				continue
			}
			e.Ancestors = e.Ancestors[:i]
			if err := write(tx, e); err != nil {
				return err
			}
		}
		return nil
	})
}
