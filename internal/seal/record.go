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
	"encoding/json"
	"slices"
	"time"

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
	next        uint64       // number of the next generation; numbers are never used again
	generations []Generation // by number
	sum         []byte       // tells records apart
	damaged     bool
}

// Generation is one split of one unseal key. The record holds the active one, which is in force, and at most one each
// of: a pending one with a higher number, which is not in force yet; and of lower number a retiring one, which can
// still unseal and do nothing else, and a former one, which is kept so that its shares can be told for what they are.
type Generation struct {
	Number    uint64
	Threshold int
	Shares    int
	Holders   []Holder // Holders[i] has slot i+1

	public  []byte // HPKE public key that belongs to the unseal key; a former generation has none
	wrapped []byte // the root key, sealed to public; a former generation has none
}

// Holder is a key holder as the server knows them.
type Holder struct {
	Slot     int             `json:"slot"`
	Label    string          `json:"label,omitempty"`
	Verifier holder.Verifier `json:"verifier"`
}

// A stored record is three lines of JSON: body, table, and trailer. The table is by far the longest; standing alone,
// it can be damaged in any way without taking along the wrapped root keys, which stand in the body.
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
		Public    []byte `json:"public_key,omitempty"`
		Wrapped   []byte `json:"wrapped_root_key,omitempty"`
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

// Next is the number that the next generation will have.
func (r *Record) Next() uint64 { return r.next }

// Generation returns the active generation; of a damaged record, the best guess.
func (r *Record) Generation() *Generation {
	if g := r.where(func(g *Generation) bool { return g.Number == r.active }); g != nil {
		return g
	}
	if n := len(r.generations); n > 0 {
		return &r.generations[n-1]
	}
	return &Generation{}
}

// Pending returns the generation that was prepared and is not in force; nil if there is none.
func (r *Record) Pending() *Generation { return r.where(r.pending) }

// Retiring returns the generation before the active one while it can still unseal; nil if none can.
func (r *Record) Retiring() *Generation { return r.where(r.retiring) }

// Former returns the latest generation that can do nothing any more; nil if there is none.
func (r *Record) Former() *Generation { return r.where(r.former) }

func (r *Record) pending(g *Generation) bool  { return g.Number > r.active }
func (r *Record) retiring(g *Generation) bool { return g.Number < r.active && len(g.wrapped) > 0 }
func (r *Record) former(g *Generation) bool   { return g.Number < r.active && len(g.wrapped) == 0 }

// where returns the last generation that is as asked for; nil if none is.
func (r *Record) where(is func(*Generation) bool) *Generation {
	for i := len(r.generations) - 1; i >= 0; i-- {
		if g := &r.generations[i]; is(g) {
			return g
		}
	}
	return nil
}

// opening returns the generations whose shares unseal.
func (r *Record) opening() []*Generation {
	out := []*Generation{r.Generation()}
	if g := r.Retiring(); g != nil {
		out = append(out, g)
	}
	return out
}

// Verifier returns the verifier of one slot.
func (g *Generation) Verifier(slot int) (holder.Verifier, bool) {
	if slot < 1 || slot > len(g.Holders) {
		return holder.Verifier{}, false
	}
	return g.Holders[slot-1].Verifier, true
}

// Label returns the label of one slot, which may be empty.
func (g *Generation) Label(slot int) string {
	if slot < 1 || slot > len(g.Holders) {
		return ""
	}
	return g.Holders[slot-1].Label
}

// encode returns the record as it is stored, authenticated with macKey.
func (r *Record) encode(macKey secret.Bytes) ([]byte, error) {
	b := body{
		Version: recordVersion, ClusterID: r.ClusterID, ClusterName: r.ClusterName, Created: r.Created.UTC(),
		Active: r.active, Next: r.next,
	}
	var holders table
	for _, g := range r.generations {
		b.Generations = append(b.Generations, generationBody{g.Number, g.Threshold, g.Shares, g.public, g.wrapped})
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
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false) // which would make a label up to six times as long
	for _, v := range values {
		if err := enc.Encode(v); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
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
		gen := Generation{Number: g.Number, Threshold: g.Threshold, Shares: g.Shares, public: g.Public, wrapped: g.Wrapped}
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
	states := [3]int{} // how many are pending, retiring, former
	for i := range r.generations {
		g := &r.generations[i]
		if g.Number <= last || CheckNumbers(g.Shares, g.Threshold) != nil || len(g.Holders) != g.Shares {
			return false
		}
		for i, h := range g.Holders {
			if h.Slot != i+1 {
				return false
			}
		}
		last = g.Number
		found = found || g.Number == r.active
		for i, is := range []func(*Generation) bool{r.pending, r.retiring, r.former} {
			if is(g) {
				states[i]++
			}
		}
	}
	return found && slices.Max(states[:]) <= 1 && r.next > last && r.ClusterID != ""
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
