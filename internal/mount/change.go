package mount

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

const authPrefix = "auth/"

// maxPath is the longest path of a mount, in bytes, so that there is room in requests and lease IDs for what is below.
const maxPath = 256

// purgeBatch is how many records of a removed mount go in one transaction.
const purgeBatch = 500

var (
	errPath = fault.Newf(fault.Invalid, "the path of a mount has at most %d characters, each a letter, a digit or one of "+
		"- _ . : @ + ~ = , between slashes; no part may be empty, +, . or ..: choose another path", maxPath)
	errUnderAuth = fault.New(fault.Invalid, "paths under auth/ belong to auth methods: enable those at sys/auth")
	errReserved  = fault.New(fault.Invalid, "this path is reserved: choose another one")
	errBuiltin   = fault.New(fault.Invalid, "this mount is part of the server and can't be changed, moved or disabled")
	errGone      = fault.New(fault.Invalid, "the mount was changed or disabled meanwhile: read it again")
	errSide      = fault.New(fault.Invalid, "an auth method must stay under auth/, and a secrets engine outside of it: choose another path")
)

// NormalizePath returns a mount's path as it is stored, from the way that people write it: "secret" is "secret/", and
// among the auth methods "userpass" is "auth/userpass/". Errors are faults of kind Invalid.
func NormalizePath(path string, auth bool) (string, error) {
	path = strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/")
	switch first, _, _ := strings.Cut(path, "/"); {
	case auth:
		path = authPrefix + path
	case first+"/" == authPrefix:
		return "", errUnderAuth
	}
	if len(path) >= maxPath || strings.ContainsFunc(path, odd) {
		return "", errPath
	}
	for part := range strings.SplitSeq(path, "/") {
		switch part {
		case "", "+", ".", "..":
			return "", errPath
		}
	}
	return path + "/", nil
}

func odd(c rune) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return false
	}
	return !strings.ContainsRune("-_.:@+~=,/", c)
}

// free refuses a path that another mount than e makes impossible, or that no mount may have. t must be the table as tx
// sees it.
func (t *Table) free(path string, e *Entry) error {
	first, _, _ := strings.Cut(path, "/")
	switch first {
	case "identity", "audit":
		return errReserved
	}
	for _, other := range t.sorted {
		if other.UUID != e.UUID && (strings.HasPrefix(path, other.Path) || strings.HasPrefix(other.Path, path)) {
			return fault.Newf(fault.Invalid, "path is already in use at %s", other.Path)
		}
	}
	return nil
}

// Add puts a new mount into the table, t, which must be what Load returns in this very transaction or was found equal to it.
// It chooses the UUID and the accessor.
func Add(tx store.Tx, t *Table, e Entry) error {
	e.UUID = uuid.NewString()
	if err := t.free(e.Path, &e); err != nil {
		return err
	}
	random := make([]byte, 4)
	rand.Read(random)
	e.Accessor = e.Type + "_" + hex.EncodeToString(random)
	if e.Auth() {
		e.Accessor = "auth_" + e.Accessor
	}
	return write(tx, tablePrefix, &e)
}

// Put stores what was changed in a copy of a mount's entry, but for its path and its UUID.
func Put(tx store.Tx, e Entry) error {
	if err := same(tx, &e); err != nil {
		return err
	}
	return write(tx, tablePrefix, &e)
}

// Move gives a mount another normalised path. t is as for Add.
func Move(tx store.Tx, t *Table, e Entry, to string) error {
	if err := same(tx, &e); err != nil {
		return err
	}
	moved := e
	moved.Path = to
	if moved.Auth() != e.Auth() {
		return errSide
	}
	if e.Auth() && !slices.Contains(e.Former, e.Path) {
		moved.Former = append(slices.Clone(e.Former), e.Path)
	}
	if err := t.free(to, &e); err != nil {
		return err
	}
	return write(tx, tablePrefix, &moved)
}

// Remove takes a mount out of the table. From now on nothing leads to its records; Purge removes them.
func Remove(tx store.Tx, e Entry) error {
	if err := same(tx, &e); err != nil {
		return err
	}
	if err := tx.Delete(tablePrefix + e.UUID); err != nil {
		return err
	}
	return write(tx, purgePrefix, &e)
}

// same refuses an entry that can't be changed, or is no longer in the table at its path.
func same(r store.Reader, e *Entry) error {
	if e.builtin() {
		return errBuiltin
	}
	values, err := r.Get(tablePrefix + e.UUID)
	if err != nil {
		return err
	}
	if values[0] == nil {
		return errGone
	}
	stored, err := decode(values[0])
	if err == nil && stored.Path != e.Path {
		err = errGone
	}
	return err
}

func write(tx store.Tx, prefix string, e *Entry) error {
	value, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return tx.Put(prefix+e.UUID, value)
}

// Removed returns the mounts that Remove took out and Purge isn't through with.
func Removed(ctx context.Context, st store.Store) (gone []*Entry, err error) {
	err = st.View(ctx, func(r store.Reader) (err error) {
		gone, err = read(r, purgePrefix)
		return err
	})
	return gone, err
}

// Purge removes the records of removed mounts. It works in small transactions, and may run on several nodes and be
// interrupted anywhere.
func Purge(ctx context.Context, st store.Store, gone []*Entry) error {
	for _, e := range gone {
		for done := false; !done; {
			err := st.Update(ctx, func(tx store.Tx) (err error) {
				done, err = purge(tx, e)
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// purge removes one batch of a removed mount's records, and after the last one, when it is done, what remembers the mount.
func purge(tx store.Tx, e *Entry) (done bool, err error) {
	var keys []string
	for record, err := range tx.Scan(e.Records(), "") {
		if err != nil {
			return false, err
		}
		if keys = append(keys, record.Key); len(keys) == purgeBatch {
			break
		}
	}
	for _, key := range keys {
		if err := tx.Delete(key); err != nil {
			return false, err
		}
	}
	if len(keys) == purgeBatch {
		return false, nil
	}
	return true, tx.Delete(purgePrefix + e.UUID)
}
