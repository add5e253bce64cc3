package holder

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"

	"github.com/google/uuid"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/secret"
)

// What ParseArmour says about a text that isn't one; ParseShare says it too, of a text that IsArmoured.
var (
	ErrArmourTyping = fault.New(fault.Invalid,
		"the key share has a typing error: compare every character after 'qshare1' with what was handed out")
	ErrArmourForm = fault.New(fault.Invalid, "this is no armoured key share that this version knows: "+
		"give it exactly as it was handed out, all in lower case or all in upper case, without spaces")
)

// errArmour answers an Armour that can't be written, so that what Encode makes is always what ParseArmour takes.
var errArmour = errors.New("an armoured share needs a cluster ID in lower-case UUID form, a generation of 1 to 2^32-1, " +
	"a threshold of 1 to 255, and a share whose last byte is its slot, or the only share there is")

// The armoured form is bech32m (BIP 350) of a version, cluster ID, generation, slot, threshold and the share.
const (
	armourPrefix   = "qshare1" // the human-readable part and the separator
	armourVersion  = 1
	armourHeader   = 1 + 16 + 4 + 1 + 1
	onlyShare      = 32 // the length of a share that is the only one; any other has its slot as a 33rd byte
	armourChecksum = 6
	charset        = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
)

// Armour is a share together with where it belongs, as it is printed for its holder.
type Armour struct {
	ClusterID       string // lower-case UUID text
	Generation      uint64
	Slot, Threshold int
	Share           secret.Bytes // 32 bytes if it is the only one, else 33
}

// IsArmoured reports whether a text is meant as an armoured share, right or wrong. No share in hex or base64 is.
func IsArmoured(text []byte) bool {
	return len(text) > base64.StdEncoding.EncodedLen(MaxShare) &&
		bytes.EqualFold(text[:len(armourPrefix)], []byte(armourPrefix))
}

// Encode writes the armoured form, "qshare1" and 94 or 96 more characters. It is a secret, and the caller's to wipe.
func (a Armour) Encode() ([]byte, error) {
	share := a.Share.Reveal()
	id, err := uuid.Parse(a.ClusterID)
	if err != nil || id.String() != a.ClusterID || a.Generation > 1<<32-1 || !a.possible(share) {
		return nil, errArmour
	}
	payload := make([]byte, 0, armourHeader+MaxShare)
	payload = append(append(payload, armourVersion), id[:]...)
	payload = binary.BigEndian.AppendUint32(payload, uint32(a.Generation))
	payload = append(append(payload, byte(a.Slot), byte(a.Threshold)), share...)
	defer clear(payload)

	groups := toGroups(payload)
	defer clear(groups)
	text := make([]byte, 0, len(armourPrefix)+len(groups)+armourChecksum)
	text = append(text, armourPrefix...)
	for _, g := range groups {
		text = append(text, charset[g])
	}
	// The checksum makes the residue of the whole that of bech32m.
	sum := polymod(append(groups, make([]byte, armourChecksum)...)) ^ bech32m
	for i := range armourChecksum {
		text = append(text, charset[sum>>(5*(armourChecksum-1-i))&31])
	}
	return text, nil
}

// possible reports whether the numbers of a and its share fit together.
func (a Armour) possible(share []byte) bool {
	if a.Generation < 1 || a.Threshold < 1 || a.Threshold > 255 {
		return false
	}
	switch len(share) {
	case onlyShare:
		return a.Slot == 1 && a.Threshold == 1
	case MaxShare:
		return a.Slot >= 1 && a.Slot == int(share[MaxShare-1])
	}
	return false
}

// ParseArmour reads the armoured form, all in lower case or all in upper case; nothing is trimmed. The text stays the
// caller's, who wipes it; the share is the caller's to wipe as well. The errors are ErrArmourTyping, where the
// checksum or the length shows that the text isn't what was printed, and ErrArmourForm.
func ParseArmour(text []byte) (Armour, error) {
	if !IsArmoured(text) || mixedCase(text) {
		return Armour{}, ErrArmourForm
	}
	if len(text) > len(armourPrefix)+2*(armourHeader+MaxShare)+armourChecksum {
		return Armour{}, ErrArmourTyping
	}
	groups := make([]byte, 0, len(text))
	defer func() { clear(groups) }()
	for _, c := range text[len(armourPrefix):] {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		g := strings.IndexByte(charset, c)
		if g < 0 {
			return Armour{}, ErrArmourTyping
		}
		groups = append(groups, byte(g))
	}
	if polymod(groups) != bech32m {
		return Armour{}, ErrArmourTyping
	}
	payload, ok := fromGroups(groups[:len(groups)-armourChecksum])
	defer clear(payload)
	if !ok || len(payload) < armourHeader || payload[0] != armourVersion {
		return Armour{}, ErrArmourForm
	}
	a := Armour{
		ClusterID:  uuid.UUID(payload[1:17]).String(),
		Generation: uint64(binary.BigEndian.Uint32(payload[17:])),
		Slot:       int(payload[21]),
		Threshold:  int(payload[22]),
	}
	if !a.possible(payload[armourHeader:]) {
		return Armour{}, ErrArmourForm
	}
	a.Share = secret.Copy(payload[armourHeader:])
	return a, nil
}

func mixedCase(text []byte) bool {
	lower := bytes.ContainsFunc(text, func(r rune) bool { return r >= 'a' && r <= 'z' })
	upper := bytes.ContainsFunc(text, func(r rune) bool { return r >= 'A' && r <= 'Z' })
	return lower && upper
}

// toGroups cuts bytes into groups of five bits, the highest first, with zeros behind the last bit. There is room
// behind it for the checksum, so that no copy of it is left when it grows.
func toGroups(b []byte) []byte {
	groups := make([]byte, 0, (8*len(b)+4)/5+armourChecksum)
	acc, bits := uint(0), 0
	for _, c := range b {
		acc, bits = acc<<8|uint(c), bits+8
		for ; bits >= 5; bits -= 5 {
			groups = append(groups, byte(acc>>(bits-5)&31))
		}
	}
	if bits > 0 {
		groups = append(groups, byte(acc<<(5-bits)&31))
	}
	return groups
}

// fromGroups is the inverse of toGroups; it refuses a group that isn't needed, and a set bit behind the last byte.
func fromGroups(groups []byte) (b []byte, ok bool) {
	b = make([]byte, 0, len(groups)*5/8)
	acc, bits := uint(0), 0
	for _, g := range groups {
		acc, bits = acc<<5|uint(g), bits+5
		if bits >= 8 {
			bits -= 8
			b = append(b, byte(acc>>bits))
		}
	}
	return b, bits < 5 && acc&(1<<bits-1) == 0
}

const bech32m = 0x2bc830a3

// polymod is the checksum of BIP 173 over the human-readable part "qshare" and the groups.
func polymod(groups []byte) uint32 {
	chk := uint32(1)
	step := func(v byte) {
		top := chk >> 25
		chk = chk&0x1ffffff<<5 ^ uint32(v)
		for i, gen := range [5]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
			if top>>i&1 == 1 {
				chk ^= gen
			}
		}
	}
	hrp := armourPrefix[:len(armourPrefix)-1]
	for i := range len(hrp) {
		step(hrp[i] >> 5)
	}
	step(0)
	for i := range len(hrp) {
		step(hrp[i] & 31)
	}
	for _, g := range groups {
		step(g)
	}
	return chk
}
