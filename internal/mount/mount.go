// Package mount keeps the table of mounts: which secrets engine or auth method answers below which path.
//
// It promises that no mount lies in or above another one, so that a path leads to at most one of them whatever order
// they are asked in; that a loaded table never changes; and that what a mount kept is removed once the mount is, in
// small steps that may stop anywhere. It doesn't know the types of engines, and it doesn't tell caches that the table
// has changed: who changes it does that in the same transaction.
//
// # Records
//
//	mount/table/<uuid>  Entry
//	mount/purge/<uuid>  Entry of a removed mount whose records may still be there
//	mount/data/<uuid>/  records of the mount
//	cubbyhole/          records of the one cubbyhole
package mount

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/store"
)

const (
	tablePrefix = "mount/table/"
	purgePrefix = "mount/purge/"
	dataPrefix  = "mount/data/"

	// CubbyholeRecords is the prefix of the cubbyhole's records.
	CubbyholeRecords = "cubbyhole/"
)

// Entry is one mount.
type Entry struct {
	UUID        string            `json:"uuid"`
	Accessor    string            `json:"accessor"`
	Path        string            `json:"path"` // with a slash at the end: "secret/", "auth/userpass/"
	Type        string            `json:"type"`
	Description string            `json:"description,omitempty"`
	Options     map[string]string `json:"options,omitempty"`
	Config      Config            `json:"config,omitzero"`
	Created     time.Time         `json:"created"`
	// Former are the paths that an auth method was moved away from: where its tokens of that time were made.
	Former []string `json:"former,omitempty"`

	// Accepted and shown, without meaning here.
	Local                 bool `json:"local,omitempty"`
	SealWrap              bool `json:"seal_wrap,omitempty"`
	ExternalEntropyAccess bool `json:"external_entropy_access,omitempty"`
}

// Config is what can be tuned.
type Config struct {
	DefaultLeaseTTL time.Duration `json:"default_lease_ttl,omitempty"` // 0: the server's
	MaxLeaseTTL     time.Duration `json:"max_lease_ttl,omitempty"`     // 0: the server's
	ForceNoCache    bool          `json:"force_no_cache,omitempty"`

	TokenType                 string   `json:"token_type,omitempty"`
	ListingVisibility         string   `json:"listing_visibility,omitempty"`
	PassthroughRequestHeaders []string `json:"passthrough_request_headers,omitempty"`
	AllowedResponseHeaders    []string `json:"allowed_response_headers,omitempty"`
	AuditNonHMACRequestKeys   []string `json:"audit_non_hmac_request_keys,omitempty"`
	AuditNonHMACResponseKeys  []string `json:"audit_non_hmac_response_keys,omitempty"`
}

// Auth reports whether the mount is an auth method.
func (e *Entry) Auth() bool { return strings.HasPrefix(e.Path, authPrefix) }

// Records is the prefix of the keys of the mount's records.
func (e *Entry) Records() string {
	if e.UUID == cubbyholeUUID {
		return CubbyholeRecords
	}
	return dataPrefix + e.UUID + "/"
}

const (
	systemUUID    = "00000000-0000-0000-0000-000000000001"
	cubbyholeUUID = "00000000-0000-0000-0000-000000000002"
	tokenUUID     = "00000000-0000-0000-0000-000000000003"
)

// builtin are the mounts that always exist and can't be changed. They have no records in the table.
func builtin() []*Entry {
	return []*Entry{
		{
			UUID: systemUUID, Accessor: "system_00000001", Path: "sys/", Type: "system",
			Description: "system endpoints used for control, policy and debugging",
		},
		{
			UUID: cubbyholeUUID, Accessor: "cubbyhole_00000002", Path: "cubbyhole/", Type: "cubbyhole", Local: true,
			Description: "per-token private secret storage",
		},
		{
			UUID: tokenUUID, Accessor: "auth_token_00000003", Path: authPrefix + "token/", Type: "token",
			Description: "token based credentials", Config: Config{TokenType: "default-service"},
		},
	}
}

func (e *Entry) builtin() bool {
	return e.UUID == systemUUID || e.UUID == cubbyholeUUID || e.UUID == tokenUUID
}

// Table is all mounts of one moment. It is safe for concurrent use; neither it nor its entries may be modified.
type Table struct {
	sorted []*Entry          // by path
	byPath map[string]*Entry // :: path without the last slash → mount
	byUUID map[string]*Entry
}

// Load reads the table.
func Load(r store.Reader) (*Table, error) {
	entries, err := read(r, tablePrefix)
	if err != nil {
		return nil, err
	}
	t := &Table{sorted: append(builtin(), entries...), byPath: make(map[string]*Entry), byUUID: make(map[string]*Entry)}
	slices.SortFunc(t.sorted, func(a, b *Entry) int { return strings.Compare(a.Path, b.Path) })
	for _, e := range t.sorted {
		t.byUUID[e.UUID] = e
		t.byPath[strings.TrimSuffix(e.Path, "/")] = e
	}
	return t, nil
}

// read returns the entries below one prefix.
func read(r store.Reader, prefix string) ([]*Entry, error) {
	var list []*Entry
	for record, err := range r.Scan(prefix, "") {
		if err != nil {
			return nil, err
		}
		e, err := decode(record.Value)
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
}

func decode(value []byte) (*Entry, error) {
	e := &Entry{}
	if err := json.Unmarshal(value, e); err != nil {
		return nil, fmt.Errorf("mount record: %w", err)
	}
	return e, nil
}

// Find returns the mount that path lies in, and the rest of path below it. A mount's own path may lack its slash.
func (t *Table) Find(path string) (e *Entry, rest string, ok bool) {
	for from := 0; ; {
		end := strings.IndexByte(path[from:], '/')
		if end < 0 {
			e, ok = t.byPath[path]
			return e, "", ok
		}
		end += from
		if e, ok = t.byPath[path[:end]]; ok {
			return e, path[end+1:], true
		}
		from = end + 1
	}
}

// At returns the mount whose path this is, with the slash at its end; nil if there is none.
func (t *Table) At(path string) *Entry {
	path, ok := strings.CutSuffix(path, "/")
	if !ok {
		return nil
	}
	return t.byPath[path]
}

// ByUUID returns the mount of this UUID, nil if there is none.
func (t *Table) ByUUID(uuid string) *Entry { return t.byUUID[uuid] }

// All returns every mount, sorted by path, in a slice of the caller's own.
func (t *Table) All() []*Entry { return slices.Clone(t.sorted) }

// List returns the auth methods, or the secrets engines and sys/, sorted by path.
func (t *Table) List(auth bool) []*Entry {
	var list []*Entry
	for _, e := range t.sorted {
		if e.Auth() == auth {
			list = append(list, e)
		}
	}
	return list
}
