package kv

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/store"
)

// metaPrefix + path holds the metadata of a secret.
const metaPrefix = "meta/"

// meta is what is kept about a secret.
type meta struct {
	ID                  string            `json:"id"` // of the records of its versions; another one if the path is used anew
	Created             int64             `json:"created"`
	Updated             int64             `json:"updated"` // by a new version
	Current             int               `json:"current"` // version; 0 if there never was one
	Oldest              int               `json:"oldest"`  // as clients see it: 0 until max_versions was reached once
	MaxVersions         int               `json:"max_versions,omitempty"`
	CASRequired         bool              `json:"cas_required,omitempty"`
	MetadataVersion     int               `json:"metadata_version,omitempty"` // rises with every write to the metadata
	MetadataCASRequired bool              `json:"metadata_cas_required,omitempty"`
	DeleteVersionAfter  time.Duration     `json:"delete_version_after,omitempty"`
	Custom              map[string]string `json:"custom,omitempty"`

	versions []version // the last ones without a gap, the current one at the end
}

// version is one version of a secret. Times are nanoseconds since 1970.
type version struct {
	Created   int64
	Deletion  int64 // 0: none
	Deleted   bool  // by a person: whatever the clock says
	Destroyed bool
}

// A record is the length of a JSON text in 4 bytes, that text, and the versions: for each its two times and a byte of
// flags. Numbers are in big endian. The versions aren't in the JSON because every read would pay for that.
const (
	lengthSize    = 4
	packedSize    = 8 + 8 + 1
	flagDeleted   = 1
	flagDestroyed = 2
)

var errDamaged = errors.New("kv: the metadata of a secret is damaged")

func (m *meta) encode() ([]byte, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	record := make([]byte, 0, lengthSize+len(text)+len(m.versions)*packedSize)
	record = binary.BigEndian.AppendUint32(record, uint32(len(text)))
	record = append(record, text...)
	for _, v := range m.versions {
		var flags byte
		if v.Deleted {
			flags |= flagDeleted
		}
		if v.Destroyed {
			flags |= flagDestroyed
		}
		record = binary.BigEndian.AppendUint64(record, uint64(v.Created))
		record = binary.BigEndian.AppendUint64(record, uint64(v.Deletion))
		record = append(record, flags)
	}
	return record, nil
}

// decodeMeta reads a record; nil is none.
func decodeMeta(record []byte) (*meta, error) {
	if record == nil {
		return nil, nil
	}
	if len(record) < lengthSize {
		return nil, errDamaged
	}
	end, packed := int64(binary.BigEndian.Uint32(record)), record[lengthSize:]
	if end > int64(len(packed)) {
		return nil, errDamaged
	}
	m := new(meta)
	if err := json.Unmarshal(packed[:end], m); err != nil {
		return nil, err
	}
	packed = packed[end:]
	if len(packed)%packedSize != 0 || len(packed)/packedSize > m.Current {
		return nil, errDamaged
	}
	m.versions = make([]version, 0, len(packed)/packedSize+1) // a write adds one
	for ; len(packed) > 0; packed = packed[packedSize:] {
		m.versions = append(m.versions, version{
			Created:   int64(binary.BigEndian.Uint64(packed)),
			Deletion:  int64(binary.BigEndian.Uint64(packed[8:])),
			Deleted:   packed[16]&flagDeleted != 0,
			Destroyed: packed[16]&flagDestroyed != 0,
		})
	}
	return m, nil
}

func (m *meta) store(tx store.Tx, path string) error {
	record, err := m.encode()
	if err != nil {
		return err
	}
	return tx.Put(metaPrefix+path, record)
}

func newMeta() *meta { return &meta{ID: rand.Text()} }

// readMeta returns the metadata at a path, nil if there is none.
func readMeta(r store.Reader, path string) (*meta, error) {
	stored, err := engine.Get(r, metaPrefix+path)
	if err != nil {
		return nil, err
	}
	return decodeMeta(stored)
}

// readBoth is for writes: they also need the configuration.
func readBoth(r store.Reader, path string) (*meta, config, error) {
	values, err := r.Get(metaPrefix+path, configKey)
	if err != nil {
		return nil, config{}, err
	}
	c, err := decodeConfig(values[1])
	if err != nil {
		return nil, c, err
	}
	m, err := decodeMeta(values[0])
	return m, c, err
}

// first is the number of the oldest version that is kept.
func (m *meta) first() int { return m.Current - len(m.versions) + 1 }

// version returns version n; nil if it isn't there, or not any more.
func (m *meta) version(n int) *version {
	if n < m.first() || n > m.Current {
		return nil
	}
	return &m.versions[n-m.first()]
}

// key is where the JSON of version n is.
func (m *meta) key(n int) string { return fmt.Sprintf("version/%s/%010d", m.ID, n) }

// deletion is when a version that is made or restored now will be deleted by its age; 0 for never.
func (m *meta) deletion(c config, now time.Time) int64 {
	life := m.DeleteVersionAfter
	if c.DeleteVersionAfter != 0 && (life == 0 || c.DeleteVersionAfter < life) {
		life = c.DeleteVersionAfter
	}
	if life <= 0 { // never, or neverDelete
		return 0
	}
	return now.Add(life).UnixNano()
}

// add makes a new version, whose JSON is value, and drops those that are too many.
func (m *meta) add(tx store.Tx, c config, value []byte, now time.Time) error {
	v := version{Created: now.UnixNano(), Deletion: m.deletion(c, now)}
	m.Current++
	m.versions = append(m.versions, v)
	m.Updated = v.Created
	if m.Created == 0 {
		m.Created = v.Created
	}
	if err := put(tx, m.key(m.Current), value); err != nil {
		return err
	}
	keep := max(m.MaxVersions, c.MaxVersions)
	if keep == 0 {
		keep = defaultVersions
	}
	if m.Current-m.Oldest < keep {
		return nil
	}
	for m.first() <= m.Current-keep {
		if err := tx.Delete(m.key(m.first())); err != nil {
			return err
		}
		m.versions = m.versions[1:]
	}
	m.Oldest = m.Current - keep + 1
	return nil
}

// gone says whether a version can't be read at this time.
func (v *version) gone(now time.Time) bool { return v.Destroyed || v.deleted(now) }

func (v *version) deleted(now time.Time) bool {
	return v.Deleted || v.Deletion != 0 && v.Deletion <= now.UnixNano()
}

// stamp is a time of a record as clients see it.
func stamp(nanos int64) string {
	if nanos == 0 {
		return ""
	}
	return time.Unix(0, nanos).UTC().Format(time.RFC3339Nano)
}
