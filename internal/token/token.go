// Package token keeps the tokens that clients show: their IDs, accessors, lifetimes and family trees.
//
// It promises that an ID is stored only as a keyed hash; that a token which expired, was revoked or has a dead
// ancestor is refused in the very transaction that asks, on every node; and that nothing of an old token's tree
// survives into a later token of the same ID. It doesn't decide what a token may do on a path: package policy does.
// Nor does it decide from where: it keeps the networks that a token is bound to, and whoever knows the client asks.
//
// # Records
//
// All of them live behind the barrier. A token has an ID (what the client knows), a key (the ID's HMAC, under which
// it is stored) and a record ID (random, never reused). Family links are record IDs, so a revoked tree is one grave:
//
//	token/salt                       the key of the HMACs
//	token/id/<key>                   Entry
//	token/tombstone/<rid>            grave: the token is dead, and so is, or isn't, what is below it
//	token/estate/<rid>               the token is gone, and a sweep has to remove what belonged to it
//	token/role/<name>                Role
//
// What leads to a token has its key as the value:
//
//	token/accessor/<hmac>
//	token/child/<parent rid>/<rid>
//	token/root/<rid>                 tokens with the policy root, so that these few are found among many
//	token/lease/<lease ID>           tokens that expire, by where they were made
//	token/expiry/<Unix seconds>/<rid> the same in the order of their end, so that a sweep reads only what is over
//
// A token without children needs no grave: its record is read by each of its requests, and is gone. Graves are
// remembered between transactions; the change stamp, read together with the token's record, says whether what is
// remembered still holds. Every change to the graves or the salt changes the stamp in the same transaction.
package token

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/internal/engine"
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
	// Belongings is where in the store what belongs to a token alone stands, "cubbyhole/": all below that and the
	// token's record ID goes with the token. "" means nowhere.
	Belongings string
}

// Tokens is the tokens of one store. It is safe for concurrent use, and several may share a store.
type Tokens struct {
	defaultTTL, maxTTL time.Duration
	now                func() time.Time
	belongings         string
	known              atomic.Pointer[snapshot] // nil until first used; replaced, never changed
}

// New returns the Tokens of any store that was prepared with Seed.
func New(cfg Config) *Tokens {
	t := &Tokens{defaultTTL: cfg.DefaultTTL, maxTTL: cfg.MaxTTL, now: cfg.Now, belongings: cfg.Belongings}
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
	Key         string     // hex HMAC of the ID; not in the record
	RecordID    string     // the token's name in what refers to it; no secret
	Ancestors   []Ancestor // nearest first
	Orphan      bool       // has no ancestors; not in the record
	Accessor    string
	Type        string
	Policies    []string
	Path        string // where it was made: "auth/token/create"
	DisplayName string
	Ceremony    string        // as in RootOptions
	Role        string        // the Role it was made by
	Mount       string        // UUID of the auth mount that it came from by a login
	Login       *engine.Login // that login, without its TokenParams; nil if there was none
	Meta        map[string]string
	BoundCIDRs  []netip.Prefix // where it may be used from; none: anywhere

	Created        time.Time
	NeverExpires   bool          // Expires means nothing
	Expires        time.Time     // dead from this instant on
	TTL            time.Duration // as last granted; 0 when it never expires
	CreationTTL    time.Duration // as first granted
	MaxTTL         time.Duration // of its mount or user; 0: the server's
	ExplicitMaxTTL time.Duration
	Period         time.Duration
	Renewable      bool
	LastRenewal    time.Time // zero when never renewed

	Limited bool // dies of use
	NumUses int  // how many are left; means nothing unless Limited
}

// Ancestor is a link upwards.
type Ancestor struct {
	RecordID string
	Key      string
	Expires  bool // its record must be read to know whether it lives
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

// AllowedFrom reports whether the token may be used from an address. The zero Addr, of who came through a Unix socket, is
// in no network.
func (e *Entry) AllowedFrom(addr netip.Addr) bool {
	return engine.AllowedFrom(e.BoundCIDRs, addr)
}

// isRoot reports whether the token may do everything. A token's policies never change.
func (e *Entry) isRoot() bool { return slices.Contains(e.Policies, policy.Root) }

// expired reports whether the token's own lifetime is over.
func (e *Entry) expired(now time.Time) bool {
	return life{e.RecordID, e.NeverExpires, e.Expires}.expired(now)
}

// life is the part of an Entry that its descendants depend on.
type life struct {
	RecordID     string
	NeverExpires bool
	Expires      time.Time
}

func (l life) expired(now time.Time) bool { return !l.NeverExpires && !now.Before(l.Expires) }

// child returns the links of a token that e makes.
func (e *Entry) child() []Ancestor {
	return append([]Ancestor{{RecordID: e.RecordID, Key: e.Key, Expires: !e.NeverExpires}}, e.Ancestors...)
}

const (
	saltKey        = "token/salt"
	idPrefix       = "token/id/"
	gravePrefix    = "token/tombstone/"
	estatePrefix   = "token/estate/"
	rolePrefix     = "token/role/"
	accessorPrefix = "token/accessor/"
	childPrefix    = "token/child/"
	rootPrefix     = "token/root/"
	leasePrefix    = "token/lease/"
	expiryPrefix   = "token/expiry/"
)

func children(rid string) string         { return childPrefix + rid + "/" }
func childKey(parent, rid string) string { return children(parent) + rid }

// ways are the keys of all records that lead to a token.
func (s *snapshot) ways(e *Entry) []string {
	keys := []string{accessorPrefix + s.accessorMAC(e.Accessor)}
	if len(e.Ancestors) > 0 {
		keys = append(keys, childKey(e.Ancestors[0].RecordID, e.RecordID))
	}
	if e.isRoot() {
		keys = append(keys, rootPrefix+e.RecordID)
	}
	if !e.NeverExpires {
		keys = append(keys, leasePrefix+e.LeaseID(), expiryKey(e))
	}
	return keys
}

// read returns the record at key whatever its state, nil when there is none.
func read(r store.Reader, key string) (*Entry, error) {
	values, err := r.Get(idPrefix + key)
	if err != nil || values[0] == nil {
		return nil, err
	}
	return decode(key, values[0])
}

func write(tx store.Tx, e *Entry) error { return tx.Put(idPrefix+e.Key, encode(e)) }

// insert writes a new token with everything that leads to it.
func (s *snapshot) insert(tx store.Tx, e *Entry) error {
	e.Orphan = len(e.Ancestors) == 0
	for _, key := range s.ways(e) {
		if err := tx.Put(key, []byte(e.Key)); err != nil {
			return err
		}
	}
	return write(tx, e)
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
