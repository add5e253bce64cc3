package token

import (
	"crypto/subtle"
	"errors"
	"strings"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
)

// snapshot is what is remembered between transactions. It holds for every snapshot of the store that has this stamp.
type snapshot struct {
	stamp  string
	salt   secret.Bytes
	graves map[string]grave // :: record ID → what died there

	belongings string // as in Config
}

// grave is the value of a tombstone.
type grave string

const (
	withTree grave = "tree"   // everything below is dead too
	alone    grave = "orphan" // what is below lives on, without ancestors from here upwards
)

// get reads keys together with the change stamp, in one call of r.Get when what is remembered still holds.
func (t *Tokens) get(r store.Reader, keys ...string) (*snapshot, [][]byte, error) {
	values, err := r.Get(append([]string{barrier.StampKey}, keys...)...)
	if err != nil {
		return nil, nil, err
	}
	s := t.known.Load()
	if s == nil || string(values[0]) != s.stamp {
		before := s
		if s, err = load(r, string(values[0])); err != nil {
			return nil, nil, err
		}
		s.belongings = t.belongings
		s.share(before)
		t.known.Store(s)
	}
	return s, values[1:], nil
}

// share lets s use the memory of the salt that is remembered already, as good as always the same one, so that not
// every change of the stamp leaves a copy behind.
func (s *snapshot) share(before *snapshot) {
	if before != nil && before.salt.Equal(s.salt) {
		s.salt.Wipe()
		s.salt = before.salt
	}
}

// Close forgets the salt. No transaction that uses t may run any more.
func (t *Tokens) Close() {
	if s := t.known.Swap(nil); s != nil {
		s.salt.Wipe()
	}
}

// byID reads the record of the token with this ID. The record's key depends on the salt, which is as good as never
// another one than the remembered one: only if it is, a second call is needed.
func (t *Tokens) byID(r store.Reader, id []byte) (s *snapshot, key string, record []byte, err error) {
	before := t.known.Load()
	if before == nil {
		if before, _, err = t.get(r); err != nil {
			return nil, "", nil, err
		}
	}
	key = before.idMAC(id)
	s, values, err := t.get(r, idPrefix+key)
	if err != nil {
		return nil, "", nil, err
	}
	if !s.salt.Equal(before.salt) {
		key = s.idMAC(id)
		if values, err = r.Get(idPrefix + key); err != nil {
			return nil, "", nil, err
		}
	}
	return s, key, values[0], nil
}

func load(r store.Reader, stamp string) (*snapshot, error) {
	values, err := r.Get(saltKey)
	if err != nil {
		return nil, err
	}
	if values[0] == nil {
		return nil, errors.New("the token salt is missing: the store was not initialised for tokens")
	}
	graves, err := readGraves(r)
	if err != nil {
		return nil, err
	}
	return &snapshot{stamp: stamp, salt: secret.Copy(values[0]), graves: graves}, nil
}

func readGraves(r store.Reader) (map[string]grave, error) {
	graves := map[string]grave{}
	for entry, err := range r.Scan(gravePrefix, "") {
		if err != nil {
			return nil, err
		}
		graves[strings.TrimPrefix(entry.Key, gravePrefix)] = grave(entry.Value)
	}
	return graves, nil
}

// Key returns the key under which the token with this ID is, or would be, stored. Of an ID that must be remembered
// before its token exists this is all that may be kept.
func (t *Tokens) Key(r store.Reader, id []byte) (string, error) {
	s, _, err := t.get(r)
	if err != nil {
		return "", err
	}
	return s.idMAC(id), nil
}

// Authenticate returns the live token with this ID, or ErrDead.
func (t *Tokens) Authenticate(r store.Reader, id []byte) (*Entry, error) {
	s, key, record, err := t.byID(r, id)
	if err != nil {
		return nil, err
	}
	e, err := t.alive(r, s, key, record)
	if err == nil && e == nil {
		err = ErrDead
	}
	return e, err
}

// ByKey returns the live token that is stored under key, nil when there is none.
func (t *Tokens) ByKey(r store.Reader, key string) (*Entry, error) {
	s, values, err := t.get(r, idPrefix+key)
	if err != nil {
		return nil, err
	}
	return t.alive(r, s, key, values[0])
}

// ByAccessor returns the live token with this accessor, nil when there is none.
func (t *Tokens) ByAccessor(r store.Reader, accessor string) (*Entry, error) {
	s, _, err := t.get(r)
	if err != nil {
		return nil, err
	}
	values, err := r.Get(accessorPrefix + s.accessorMAC(accessor))
	if err != nil || values[0] == nil {
		return nil, err
	}
	e, err := t.ByKey(r, string(values[0]))
	// The record that led here may be older than the token.
	if err != nil || e == nil || subtle.ConstantTimeCompare([]byte(e.Accessor), []byte(accessor)) != 1 {
		return nil, err
	}
	return e, nil
}

// alive decodes a record, unless it is absent or its token is dead: then nil.
func (t *Tokens) alive(r store.Reader, s *snapshot, key string, record []byte) (*Entry, error) {
	if record == nil {
		return nil, nil
	}
	e, err := decode(key, record)
	if err != nil {
		return nil, err
	}
	if _, dead := s.graves[e.RecordID]; dead || e.expired(t.now()) {
		return nil, nil
	}
	for i, a := range e.Ancestors {
		if g := s.graves[a.RecordID]; g == withTree {
			return nil, nil
		} else if g == alone {
			e.Ancestors = e.Ancestors[:i:i]
			e.Orphan = i == 0
			break
		}
	}
	return t.withLiveAncestors(r, e)
}

// withLiveAncestors returns e unless one of its ancestors has expired or is gone. An ancestor that can't expire needs
// no look: had it been revoked, it would have a grave.
func (t *Tokens) withLiveAncestors(r store.Reader, e *Entry) (*Entry, error) {
	var mortal []Ancestor
	var keys []string
	for _, a := range e.Ancestors {
		if a.Expires {
			mortal, keys = append(mortal, a), append(keys, idPrefix+a.Key)
		}
	}
	if len(keys) == 0 {
		return e, nil
	}
	records, err := r.Get(keys...)
	if err != nil {
		return nil, err
	}
	for i, a := range mortal {
		if records[i] == nil {
			return nil, nil
		}
		up, err := decodeLife(records[i])
		if err != nil {
			return nil, err
		}
		if up.RecordID != a.RecordID || up.expired(t.now()) {
			return nil, nil
		}
	}
	return e, nil
}

// Accessors returns the accessors of live tokens, in an order that is stable and means nothing: those behind after
// (an accessor, or "" for the beginning), and at most limit of them unless limit is 0.
func (t *Tokens) Accessors(r store.Reader, after string, limit int) ([]string, error) {
	s, _, err := t.get(r)
	if err != nil {
		return nil, err
	}
	if after != "" {
		after = accessorPrefix + s.accessorMAC(after)
	}
	var list []string
	for entry, err := range r.Scan(accessorPrefix, after) {
		if err != nil {
			return nil, err
		}
		e, err := t.ByKey(r, string(entry.Value))
		if err != nil {
			return nil, err
		}
		if e != nil && entry.Key == accessorPrefix+s.accessorMAC(e.Accessor) {
			list = append(list, e.Accessor)
		}
		if limit > 0 && len(list) == limit {
			break
		}
	}
	return list, nil
}

// Roots returns the live tokens that have the policy root, whoever made them, in an order that is stable and means
// nothing.
func (t *Tokens) Roots(r store.Reader) (list []*Entry, err error) {
	for entry, err := range r.Scan(rootPrefix, "") {
		if err != nil {
			return nil, err
		}
		e, err := t.ByKey(r, string(entry.Value))
		if err != nil {
			return nil, err
		}
		if e != nil && e.isRoot() && rootPrefix+e.RecordID == entry.Key { // not a later token of this ID
			list = append(list, e)
		}
	}
	return list, nil
}
