// Package token keeps the tokens that clients show: their IDs, accessors, lifetimes and family trees.
//
// It promises that an ID is stored only as a keyed hash; that a token which expired, was revoked or has a dead
// ancestor is refused in the very transaction that asks, on every node; and that nothing of an old token's tree
// survives into a later token of the same ID. It doesn't decide what a token may do on a path: package policy does.
//
// # Records
//
// All of them live behind the barrier. A token has an ID (what the client knows), a key (the ID's HMAC, under which
// it is stored) and a record ID (random, never reused). Family links are record IDs, so a revoked tree is one grave:
//
//	token/salt                     the key of the HMACs
//	token/id/<key>                 Entry
//	token/accessor/<hmac>          accessorRecord
//	token/child/<parent rid>/<rid> key of the child
//	token/root/<rid>               key of a token with the policy root, so that these few are found among many
//	token/tombstone/<rid>          grave: the token is dead, and so is, or isn't, what is below it
//
// A token without children needs no grave: its record is read by each of its requests, and is gone. Graves are
// remembered between transactions; the change stamp, read together with the token's record, says whether what is
// remembered still holds. Every change to the graves or the salt changes the stamp in the same transaction.
package token

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/store"
)

// ErrDead says that a token doesn't exist, has expired, or was revoked, itself or with an ancestor. Which of these is
// not told.
var ErrDead = fault.New(fault.Denied, "permission denied")

// DefaultTTL is the lifetime of a token that asked for none, and the longest one, unless Config says otherwise.
const DefaultTTL = 768 * time.Hour

// Service is the one type of token.
const Service = "service"

// Config is how long tokens live and what time it is. The zero value is usable.
type Config struct {
	DefaultTTL, MaxTTL time.Duration // 768 hours each unless positive; the default is never over the maximum
	Now                func() time.Time
}

// Tokens is the tokens of one store. It is safe for concurrent use, and several may share a store.
type Tokens struct {
	defaultTTL, maxTTL time.Duration
	now                func() time.Time
	known              atomic.Pointer[snapshot] // nil until first used; replaced, never changed
}

// New returns the Tokens of any store that was prepared with Seed.
func New(cfg Config) *Tokens {
	t := &Tokens{defaultTTL: cfg.DefaultTTL, maxTTL: cfg.MaxTTL, now: cfg.Now}
	if t.maxTTL <= 0 {
		t.maxTTL = DefaultTTL
	}
	if t.defaultTTL <= 0 {
		t.defaultTTL = DefaultTTL
	}
	t.defaultTTL = min(t.defaultTTL, t.maxTTL)
	if t.now == nil {
		t.now = time.Now
	}
	return t
}

// Entry is one token as it is stored. What the methods of Tokens return belongs to the transaction it was read in.
type Entry struct {
	Key         string            `json:"-"` // hex HMAC of the ID
	RecordID    string            `json:"rid"`
	Ancestors   []Ancestor        `json:"ancestors,omitempty"` // nearest first
	Orphan      bool              `json:"-"`                   // has no ancestors
	Accessor    string            `json:"accessor"`
	Type        string            `json:"type"`
	Policies    []string          `json:"policies"`
	Path        string            `json:"path"` // where it was made: "auth/token/create"
	DisplayName string            `json:"display_name"`
	Ceremony    string            `json:"ceremony,omitempty"` // as in RootOptions
	Meta        map[string]string `json:"meta,omitempty"`

	Created        time.Time     `json:"created"`
	NeverExpires   bool          `json:"never_expires,omitempty"` // Expires means nothing
	Expires        time.Time     `json:"expires,omitzero"`        // dead from this instant on
	TTL            time.Duration `json:"ttl,omitempty"`           // as last granted; 0 when it never expires
	CreationTTL    time.Duration `json:"creation_ttl,omitempty"`  // as first granted
	ExplicitMaxTTL time.Duration `json:"explicit_max_ttl,omitempty"`
	Period         time.Duration `json:"period,omitempty"`
	Renewable      bool          `json:"renewable,omitempty"`
	LastRenewal    time.Time     `json:"last_renewal,omitzero"` // zero when never renewed

	Limited bool `json:"limited,omitempty"`  // dies of use
	NumUses int  `json:"num_uses,omitempty"` // how many are left; means nothing unless Limited
}

// Ancestor is a link upwards.
type Ancestor struct {
	RecordID string `json:"rid"`
	Key      string `json:"key"`
	Expires  bool   `json:"expires,omitempty"` // its record must be read to know whether it lives
}

// Lineage is the record IDs of the token and its ancestors, nearest first.
func (e *Entry) Lineage() []string {
	line := []string{e.RecordID}
	for _, a := range e.Ancestors {
		line = append(line, a.RecordID)
	}
	return line
}

// Remaining is how long the token has to live; 0 when it never expires, or has expired.
func (e *Entry) Remaining(now time.Time) time.Duration {
	if e.NeverExpires {
		return 0
	}
	return max(0, e.Expires.Sub(now))
}

// isRoot reports whether the token may do everything. A token's policies never change.
func (e *Entry) isRoot() bool { return slices.Contains(e.Policies, policy.Root) }

// expired reports whether the token's own lifetime is over.
func (e *Entry) expired(now time.Time) bool {
	return life{e.RecordID, e.NeverExpires, e.Expires}.expired(now)
}

// life is the part of an Entry that its descendants depend on.
type life struct {
	RecordID     string    `json:"rid"`
	NeverExpires bool      `json:"never_expires"`
	Expires      time.Time `json:"expires"`
}

func (l life) expired(now time.Time) bool { return !l.NeverExpires && !now.Before(l.Expires) }

// child returns the links of a token that e makes.
func (e *Entry) child() []Ancestor {
	return append([]Ancestor{{RecordID: e.RecordID, Key: e.Key, Expires: !e.NeverExpires}}, e.Ancestors...)
}

// accessorRecord leads from an accessor to its token, and back to the accessor for listing.
type accessorRecord struct {
	Key      string `json:"key"`
	Accessor string `json:"accessor"`
}

const (
	saltKey        = "token/salt"
	idPrefix       = "token/id/"
	accessorPrefix = "token/accessor/"
	childPrefix    = "token/child/"
	rootPrefix     = "token/root/"
	gravePrefix    = "token/tombstone/"
)

func children(rid string) string         { return childPrefix + rid + "/" }
func childKey(parent, rid string) string { return children(parent) + rid }

func decode(key string, value []byte) (*Entry, error) {
	e := &Entry{Key: key}
	if err := json.Unmarshal(value, e); err != nil {
		return nil, fmt.Errorf("token record: %w", err)
	}
	e.Orphan = len(e.Ancestors) == 0
	return e, nil
}

// read returns the record at key whatever its state, nil when there is none.
func read(r store.Reader, key string) (*Entry, error) {
	values, err := r.Get(idPrefix + key)
	if err != nil || values[0] == nil {
		return nil, err
	}
	return decode(key, values[0])
}

func write(tx store.Tx, e *Entry) error { return putJSON(tx, idPrefix+e.Key, e) }

func putJSON(tx store.Tx, key string, v any) error {
	value, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%T: %w", v, err)
	}
	return tx.Put(key, value)
}

// insert writes a new token with everything that leads to it.
func (s *snapshot) insert(tx store.Tx, e *Entry) error {
	e.Orphan = len(e.Ancestors) == 0
	if err := write(tx, e); err != nil {
		return err
	}
	if err := putJSON(tx, accessorPrefix+s.accessorMAC(e.Accessor), accessorRecord{e.Key, e.Accessor}); err != nil {
		return err
	}
	if e.isRoot() {
		if err := tx.Put(rootPrefix+e.RecordID, []byte(e.Key)); err != nil {
			return err
		}
	}
	if e.Orphan {
		return nil
	}
	return tx.Put(childKey(e.Ancestors[0].RecordID, e.RecordID), []byte(e.Key))
}

// RootOptions is what a root token is made with. The zero value makes one that never expires and comes from nowhere.
type RootOptions struct {
	TTL      time.Duration // over 0: it dies then and can't be renewed
	Ceremony string        // nonce of the ceremony that makes it; "init" for the first one
}

// CreateRoot writes a root token under key, which Key gave for its ID. Whatever token had that ID is revoked with its
// tree first.
func (t *Tokens) CreateRoot(tx store.Tx, key string, o RootOptions) (*Entry, error) {
	s, values, err := t.get(tx, idPrefix+key)
	if err != nil {
		return nil, err
	}
	if err := s.replace(tx, key, values[0]); err != nil {
		return nil, err
	}
	e := t.fresh(key)
	e.Policies, e.Path, e.DisplayName = []string{policy.Root}, "auth/token/root", "root"
	e.Ceremony = o.Ceremony
	if e.NeverExpires = o.TTL <= 0; !e.NeverExpires {
		e.TTL, e.CreationTTL, e.Expires = o.TTL, o.TTL, e.Created.Add(o.TTL)
	}
	return e, s.insert(tx, e)
}

// fresh is a token with new random names, made now.
func (t *Tokens) fresh(key string) *Entry {
	return &Entry{Key: key, RecordID: newRecordID(), Accessor: newAccessor(), Type: Service, Created: t.now().UTC().Round(0)}
}

// replace revokes the token whose record was found at key, if any, dead or alive.
func (s *snapshot) replace(tx store.Tx, key string, record []byte) error {
	if record == nil {
		return nil
	}
	old, err := decode(key, record)
	if err != nil {
		return err
	}
	return s.bury(tx, old, withTree)
}
