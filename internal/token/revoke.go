package token

import (
	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/store"
)

// Use counts one use of a token whose number of uses is limited, and removes it with its last one: the request that
// counted it still goes on with e. For any other token it does nothing.
func (t *Tokens) Use(tx store.Tx, e *Entry) error {
	if !e.Limited {
		return nil
	}
	s, now, err := t.again(tx, e)
	if err != nil {
		return err
	}
	if now == nil || now.NumUses < 1 {
		return ErrDead
	}
	now.NumUses--
	e.NumUses = now.NumUses
	if now.NumUses == 0 {
		return s.bury(tx, now, withTree)
	}
	return write(tx, now)
}

// RevokeTree kills e and everything below it, at once. Revoking what is already dead is no error.
func (t *Tokens) RevokeTree(tx store.Tx, e *Entry) error { return t.revoke(tx, e, withTree) }

// RevokeOrphan kills e alone: what is below it lives on and has no ancestors from e upwards any more.
func (t *Tokens) RevokeOrphan(tx store.Tx, e *Entry) error { return t.revoke(tx, e, alone) }

func (t *Tokens) revoke(tx store.Tx, e *Entry, g grave) error {
	s, now, err := t.again(tx, e)
	if err != nil || now == nil {
		return err
	}
	return s.bury(tx, now, g)
}

// again reads the live record of e in this transaction: e may have been read in another one. It returns nil when the
// token is dead, or another one has its ID.
func (t *Tokens) again(tx store.Tx, e *Entry) (*snapshot, *Entry, error) {
	s, values, err := t.get(tx, idPrefix+e.Key)
	if err != nil {
		return nil, nil, err
	}
	now, err := t.alive(tx, s, e.Key, values[0])
	if err != nil || now == nil || now.RecordID != e.RecordID {
		return s, nil, err
	}
	return s, now, nil
}

// bury removes a token's record and what leads to it. If it has children, a grave says what becomes of them: so many
// of them there may be, this is one small write.
func (s *snapshot) bury(tx store.Tx, e *Entry, g grave) error {
	parent, err := hasChildren(tx, e.RecordID)
	if err != nil {
		return err
	}
	if parent {
		if err := tx.Put(gravePrefix+e.RecordID, []byte(g)); err != nil {
			return err
		}
		if err := barrier.BumpStamp(tx); err != nil {
			return err
		}
	}
	return s.remove(tx, e)
}

// remove deletes a token's record, its accessor, its link from its parent and its place among the root tokens.
func (s *snapshot) remove(tx store.Tx, e *Entry) error {
	keys := []string{idPrefix + e.Key, accessorPrefix + s.accessorMAC(e.Accessor)}
	if len(e.Ancestors) > 0 {
		keys = append(keys, childKey(e.Ancestors[0].RecordID, e.RecordID))
	}
	if e.isRoot() {
		keys = append(keys, rootPrefix+e.RecordID)
	}
	for _, key := range keys {
		if err := tx.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

func hasChildren(r store.Reader, rid string) (bool, error) {
	links, err := collect(r, children(rid), "", 1)
	return len(links) > 0, err
}

// collect reads the entries under prefix and behind after, at most limit of them unless it is 0.
func collect(r store.Reader, prefix, after string, limit int) (list []store.Entry, err error) {
	for entry, err := range r.Scan(prefix, after) {
		if err != nil {
			return nil, err
		}
		if list = append(list, entry); len(list) == limit {
			break
		}
	}
	return list, nil
}
