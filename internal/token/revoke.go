package token

import (
	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/store"
)

// Use counts one use of a token whose number of uses is limited, and removes it with its last one: the request that
// counted it still goes on with e, and with what belongs to it, until Finish. For any other token it does nothing.
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
	if now.NumUses > 0 {
		return write(tx, now)
	}
	if err := dig(tx, now, withTree); err != nil {
		return err
	}
	if err := s.unlink(tx, now); err != nil || s.belongings == "" {
		return err
	}
	return leaveEstate(tx, now)
}

// Finish removes, at the end of the transaction of a request that used up its token, what belongs to that. Without it, or
// if it is too much for one transaction, a sweep does. For any other token it does nothing.
func (t *Tokens) Finish(tx store.Tx, e *Entry) error {
	if t.belongings == "" || !e.Limited || e.NumUses > 0 {
		return nil
	}
	done, err := dropBelow(tx, t.belongings+e.RecordID+"/", belongingsNow)
	if err != nil || !done {
		return err
	}
	return tx.Delete(estatePrefix + e.RecordID)
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

// bury removes a token, with everything that leads to it and what belongs to it.
func (s *snapshot) bury(tx store.Tx, e *Entry, g grave) error {
	if err := dig(tx, e, g); err != nil {
		return err
	}
	return s.remove(tx, e)
}

// dig gives a token that has children a grave, which says what becomes of them: so many of them there may be, this is one
// small write.
func dig(tx store.Tx, e *Entry, g grave) error {
	parent, err := hasChildren(tx, e.RecordID)
	if err != nil || !parent {
		return err
	}
	if err := tx.Put(gravePrefix+e.RecordID, []byte(g)); err != nil {
		return err
	}
	return barrier.BumpStamp(tx)
}

// remove is bury for a token that has no children, or none that need its grave.
func (s *snapshot) remove(tx store.Tx, e *Entry) error {
	if err := s.unlink(tx, e); err != nil || s.belongings == "" {
		return err
	}
	done, err := dropBelow(tx, s.belongings+e.RecordID+"/", belongingsNow)
	if err != nil || done {
		return err
	}
	return leaveEstate(tx, e)
}

// unlink deletes a token's record and everything that leads to it.
func (s *snapshot) unlink(tx store.Tx, e *Entry) error {
	for _, key := range append(s.ways(e), idPrefix+e.Key) {
		if err := tx.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

// belongingsNow is how much of what belongs to a token goes in the transaction in which the token does. Hardly any has
// more.
const belongingsNow = 16

// leaveEstate leaves what belonged to a token to a sweep. Nobody can reach it any more.
func leaveEstate(tx store.Tx, e *Entry) error {
	return tx.Put(estatePrefix+e.RecordID, []byte(e.RecordID))
}

// dropBelow deletes up to limit entries under a prefix and reports whether that was all.
func dropBelow(tx store.Tx, prefix string, limit int) (done bool, err error) {
	entries, err := collect(tx, prefix, "", limit)
	for _, entry := range entries {
		if err == nil {
			err = tx.Delete(entry.Key)
		}
	}
	return len(entries) < limit, err
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
