// Package seal keeps custody of the root key: generations of key shares, the first of them at init, and unsealing
// with a threshold of them.
//
// It promises that every share is checked alone the moment it comes, so that nobody without a valid share can cost
// the holders their progress, that no share and no key is ever stored, and that a record of key holders that was
// changed outside is never acted upon once the server is open. It does not promise that whoever can write to the
// store can't keep a server sealed: deleting the record is enough.
package seal

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"time"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
)

// Keys of the store.
const (
	recordKey = "plain/seal"
	openedKey = "plain/opened" // there since the first successful unseal
	copyKey   = "seal/record"  // behind the barrier: the same bytes as recordKey
)

// MaxShares is how many key shares a generation can have.
const MaxShares = 255

const (
	recordVersion = 1
	labelRecord   = "quorate/v1/seal-record"
	labelMAC      = "seal-record-mac" // of the key that authenticates the record
)

var (
	// ErrNotInitialized answers whoever wants to unseal an empty store.
	ErrNotInitialized = fault.New(fault.Invalid, "Vault is not initialized")
	// ErrDamagedTable says that shares can't be checked, because the record fails its own checksum.
	ErrDamagedTable = fault.New(fault.Unavailable,
		"the table of key holders is damaged, so a share can't be checked: unseal over a local connection, where the shares are combined and tried")
	// ErrTampered says that the record is not the one that this server wrote.
	ErrTampered = fault.New(fault.Unavailable,
		"the record of key holders was changed outside this server and does not match the copy kept behind the barrier: restore the store from a backup, and find out who can write to it")
	// ErrUnreadable says that there is a record, and nothing can be made of it.
	ErrUnreadable = fault.New(fault.Unavailable,
		"the record of key holders can't be read: the store was damaged or changed outside this server; restore it from a backup")
)

// Record is the public state of the seal. It is not changed after Load.
type Record struct {
	ClusterID   string
	ClusterName string
	Created     time.Time

	active      uint64
	next        uint64 // number of the next generation; numbers are never used again
	generations []Generation
	sum         []byte // tells records apart
	damaged     bool
}

// Generation is one split of one unseal key.
type Generation struct {
	Number    uint64
	Threshold int
	Shares    int
	Holders   []Holder // Holders[i] has slot i+1

	wrapped []byte // the root key, sealed under the unseal key
}

// Holder is a key holder as the server knows them.
type Holder struct {
	Slot     int             `json:"slot"`
	Label    string          `json:"label,omitempty"`
	Verifier holder.Verifier `json:"verifier"`
}

// A stored record is three lines of JSON: body, table, and trailer. The table is by far the longest; standing alone,
// it can be damaged in any way without taking along the wrapped root key, which stands in the body.
type (
	body struct {
		Version     int              `json:"version"`
		ClusterID   string           `json:"cluster_id"`
		ClusterName string           `json:"cluster_name"`
		Created     time.Time        `json:"created"`
		Active      uint64           `json:"active"`
		Next        uint64           `json:"next"`
		Generations []generationBody `json:"generations"`
	}
	generationBody struct {
		Number    uint64 `json:"number"`
		Threshold int    `json:"threshold"`
		Shares    int    `json:"shares"`
		Wrapped   []byte `json:"wrapped_root_key"`
	}
	// table :: generation (in the order of the body) → its holders
	table   [][]Holder
	trailer struct {
		MAC []byte `json:"mac"` // of body and table, under a key derived from the root key
		Sum []byte `json:"sum"` // SHA-256 of body, table and MAC: tells damage from change while sealed
	}
)

// Load reads the record; nil when the store is not initialised. The record is authenticated only by Opened.Record.
func Load(r store.Reader) (*Record, error) {
	values, err := r.Get(recordKey)
	if err != nil || values[0] == nil {
		return nil, err
	}
	return decode(values[0])
}

// Generation returns the active generation; of a damaged record, the best guess.
func (r *Record) Generation() *Generation {
	for i := range r.generations {
		if r.generations[i].Number == r.active {
			return &r.generations[i]
		}
	}
	if n := len(r.generations); n > 0 {
		return &r.generations[n-1]
	}
	return &Generation{}
}

// Verifier returns the verifier of one slot.
func (g *Generation) Verifier(slot int) (holder.Verifier, bool) {
	if slot < 1 || slot > len(g.Holders) {
		return holder.Verifier{}, false
	}
	return g.Holders[slot-1].Verifier, true
}

// shareSize is 33 bytes, or 32 where the only share is the unseal key itself.
func (g *Generation) shareSize() int {
	if g.Shares == 1 {
		return barrier.KeySize
	}
	return barrier.KeySize + 1
}

// Check decides, alone and at once, whether share belongs to the active generation, and returns its slot and its
// holder key, which the caller wipes. The share stays the caller's. Faults name the slot, if it is one of the
// generation, and never a byte of the share.
func (r *Record) Check(share secret.Bytes) (slot int, key *holder.Key, err error) {
	if r.damaged {
		return 0, nil, ErrDamagedTable
	}
	gen := r.Generation()
	if want := gen.shareSize(); share.Len() != want {
		return 0, nil, fault.Newf(fault.Invalid,
			"the key share has the wrong length: a share of this cluster has %d bytes, which are %d hex digits", want, 2*want)
	}
	slot = slotOf(share)
	verifier, ok := gen.Verifier(slot)
	if !ok {
		return 0, nil, fault.Newf(fault.Invalid,
			"the key share is not valid: it is for none of this cluster's %d slots; check it for typing errors, and that it is a share of this cluster", gen.Shares)
	}
	key = holder.Derive(share, r.ClusterID, gen.Number)
	derived := key.Verifier()
	if subtle.ConstantTimeCompare(derived[:], verifier[:]) != 1 {
		key.Wipe()
		return 0, nil, fault.Newf(fault.Invalid,
			"the key share for slot %d is not valid: check it for typing errors, and that it is a current share of this cluster", slot)
	}
	return slot, key, nil
}

// slotOf is the last byte of a long share, and 1 for the share that is the unseal key.
func slotOf(share secret.Bytes) int {
	if b := share.Reveal(); len(b) == barrier.KeySize+1 {
		return int(b[barrier.KeySize])
	}
	return 1
}

// encode returns the record as it is stored, authenticated with macKey.
func (r *Record) encode(macKey secret.Bytes) ([]byte, error) {
	b := body{
		Version: recordVersion, ClusterID: r.ClusterID, ClusterName: r.ClusterName, Created: r.Created.UTC(),
		Active: r.active, Next: r.next,
	}
	var holders table
	for _, g := range r.generations {
		b.Generations = append(b.Generations, generationBody{g.Number, g.Threshold, g.Shares, g.wrapped})
		holders = append(holders, g.Holders)
	}
	signed, err := lines(b, holders)
	if err != nil {
		return nil, err
	}
	mac := recordMAC(macKey, signed)
	end, err := json.Marshal(trailer{MAC: mac, Sum: recordSum(signed, mac)})
	return append(signed, end...), err
}

func lines(values ...any) ([]byte, error) {
	var out []byte
	for _, v := range values {
		line, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		out = append(append(out, line...), '\n')
	}
	return out, nil
}

// decode reads a stored record. Whatever is wrong with it short of an unreadable body makes it a damaged one.
func decode(stored []byte) (*Record, error) {
	signed, end := split(stored)
	first, second, _ := bytes.Cut(signed, []byte{'\n'})
	var b body
	if json.NewDecoder(bytes.NewReader(first)).Decode(&b) != nil { // not Unmarshal: the line break may be what is damaged
		return nil, ErrUnreadable
	}
	var holders table
	tableErr := json.Unmarshal(second, &holders)
	if tableErr != nil {
		holders = nil
	}
	r := &Record{
		ClusterID: b.ClusterID, ClusterName: b.ClusterName, Created: b.Created,
		active: b.Active, next: b.Next, sum: recordSum(signed, end.MAC),
	}
	for i, g := range b.Generations {
		gen := Generation{Number: g.Number, Threshold: g.Threshold, Shares: g.Shares, wrapped: g.Wrapped}
		if i < len(holders) {
			gen.Holders = holders[i]
		}
		r.generations = append(r.generations, gen)
	}
	r.damaged = tableErr != nil || !bytes.Equal(r.sum, end.Sum) || b.Version != recordVersion || !r.consistent()
	return r, nil
}

// split takes the trailer off; one that can't be read is empty, which fits no record.
func split(stored []byte) (signed []byte, end trailer) {
	i := bytes.LastIndexByte(stored, '\n') + 1
	if i == 0 {
		return stored, end
	}
	err := json.Unmarshal(stored[i:], &end)
	// Another spelling of the same trailer is damage too, and not a change on purpose.
	if again, _ := json.Marshal(end); err != nil || !bytes.Equal(again, stored[i:]) {
		end = trailer{}
	}
	return stored[:i], end
}

// consistent reports whether the parts of the record fit each other, so that no code behind it has to ask again.
func (r *Record) consistent() bool {
	found := false
	last := uint64(0)
	for _, g := range r.generations {
		if g.Number <= last || checkNumbers(g.Shares, g.Threshold) != nil || len(g.Holders) != g.Shares {
			return false
		}
		for i, h := range g.Holders {
			if h.Slot != i+1 {
				return false
			}
		}
		last = g.Number
		found = found || g.Number == r.active
	}
	return found && r.next > last && r.ClusterID != ""
}

func recordMAC(key secret.Bytes, signed []byte) []byte {
	h := hmac.New(sha256.New, key.Reveal())
	h.Write([]byte(labelRecord + "\x00"))
	h.Write(signed)
	return h.Sum(nil)
}

// authentic reports whether stored is a record made by whoever knows the root key.
func authentic(stored []byte, macKey secret.Bytes) bool {
	signed, end := split(stored)
	return hmac.Equal(end.MAC, recordMAC(macKey, signed))
}

func recordSum(signed, mac []byte) []byte {
	h := sha256.New()
	h.Write([]byte(labelRecord + "\x00"))
	h.Write(signed)
	h.Write(mac)
	return h.Sum(nil)
}
