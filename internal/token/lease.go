package token

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/store"
)

const (
	leaseLabel   = "quorate/v1/token-lease\x00"
	maxLeasePath = 512 // bytes, so that a lease ID fits into a key
)

// LeaseID is where the token was made and a hash that tells as much as nothing of it; "" if it never expires. It is no
// secret, but hard to guess.
func (e *Entry) LeaseID() string {
	if e.NeverExpires {
		return ""
	}
	sum := sha256.Sum256([]byte(leaseLabel + e.Key + e.RecordID))
	id := "h" + hex.EncodeToString(sum[:])
	if path := leasePath(e.Path); path != "" {
		id = path + "/" + id
	}
	return id
}

// leasePath is as much of a path as can stand in a lease ID.
func leasePath(path string) string {
	path = strings.Trim(strings.ReplaceAll(strings.ToValidUTF8(path, ""), "\x00", ""), "/")
	for len(path) > maxLeasePath {
		path = path[:max(0, strings.LastIndexByte(path, '/'))]
	}
	return path
}

// expiryKey sorts by the second in which e expires. What is before 1970 is over anyhow.
func expiryKey(e *Entry) string {
	return expiryPrefix + fmt.Sprintf("%020d/", max(0, e.Expires.Unix())) + e.RecordID
}

// ByLease returns the live token with this lease ID, nil when there is none.
func (t *Tokens) ByLease(r store.Reader, id string) (*Entry, error) {
	if store.CheckKey(leasePrefix+id) != nil {
		return nil, nil
	}
	values, err := r.Get(leasePrefix + id)
	if err != nil || values[0] == nil {
		return nil, err
	}
	e, err := t.ByKey(r, string(values[0]))
	if err != nil || e == nil || subtle.ConstantTimeCompare([]byte(e.LeaseID()), []byte(id)) != 1 {
		return nil, err
	}
	return e, nil
}

// Leases lists the parts of lease IDs directly below a prefix ("auth/userpass/", "" for the whole), as engine.ListNames
// does. Among them may be those of tokens that died and were not swept yet.
func (t *Tokens) Leases(r store.Reader, prefix, after string, limit int) ([]string, error) {
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		prefix += "/"
	}
	return engine.ListNames(r, leasePrefix+prefix, after, limit)
}

// CountLeases counts the leases by what of, usually a mount, is given for the path that the token was made at.
func (t *Tokens) CountLeases(r store.Reader, of func(path string) string) (counts map[string]int, total int, err error) {
	counts = map[string]int{}
	for entry, err := range r.Scan(leasePrefix, "") {
		if err != nil {
			return nil, 0, err
		}
		id := strings.TrimPrefix(entry.Key, leasePrefix)
		counts[of(id[:max(0, strings.LastIndexByte(id, '/'))])]++
		total++
	}
	return counts, total, nil
}

// Leased returns the live tokens whose lease IDs begin with a prefix, by whole parts of the path, or the one whose lease
// ID it is. It looks at no more than limit leases behind after, unless limit is 0; next is where to go on, "" at the end.
func (t *Tokens) Leased(r store.Reader, prefix, after string, limit int) (list []*Entry, next string, err error) {
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		e, err := t.ByLease(r, prefix)
		if err != nil {
			return nil, "", err
		}
		if e != nil {
			return []*Entry{e}, "", nil
		}
		prefix += "/"
	}
	entries, err := collect(r, leasePrefix+prefix, after, limit)
	if err != nil {
		return nil, "", err
	}
	for _, entry := range entries {
		e, err := t.ByLease(r, strings.TrimPrefix(entry.Key, leasePrefix))
		if err != nil {
			return nil, "", err
		}
		if e != nil {
			list = append(list, e)
		}
	}
	if limit > 0 && len(entries) == limit {
		next = entries[limit-1].Key
	}
	return list, next, nil
}
