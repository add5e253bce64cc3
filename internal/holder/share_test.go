package holder

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/fault"
)

// A share whose base64 has letters in both cases, + and /, and whose hex has letters.
var exampleShare = append(bytes.Repeat([]byte{0xfb, 0xef, 0xbe, 0x3f, 0x69, 0xa7, 0x01, 0xc0}, 4), 7)

func TestParseShareAccepts(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []byte
	}{
		{"hex", hex.EncodeToString(exampleShare), exampleShare},
		{"upper-case hex", strings.ToUpper(hex.EncodeToString(exampleShare)), exampleShare},
		{"mixed-case hex", "aB" + strings.Repeat("00", 32), append([]byte{0xab}, make([]byte, 32)...)},
		{"base64", base64.StdEncoding.EncodeToString(exampleShare), exampleShare},
		{"base64 with one padding character", base64.StdEncoding.EncodeToString(exampleShare[:32]), exampleShare[:32]},
		{"base64 with two padding characters", base64.StdEncoding.EncodeToString(exampleShare[:16]), exampleShare[:16]},
		{"shortest hex", hex.EncodeToString(exampleShare[:16]), exampleShare[:16]},
		{"shortest base64", base64.StdEncoding.EncodeToString(exampleShare[:16]), exampleShare[:16]},
		// T20: what is both. The length decides, and hex comes first.
		{"base64 of 18 bytes that is hex of 12", "0123456789abcdefABCDEF01", fromBase64(t, "0123456789abcdefABCDEF01")},
		{"hex of 16 bytes that is base64 of 24", strings.Repeat("0a", 16), bytes.Repeat([]byte{10}, 16)},
		{"hex of 22 bytes that is base64 of 33", strings.Repeat("0a", 22), bytes.Repeat([]byte{10}, 22)},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := []byte(c.text)
			got, err := ParseShare(text)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Reveal(), c.want) {
				t.Error("wrong bytes")
			}
			if string(text) != c.text {
				t.Error("the caller's text was changed")
			}
			clear(text)
			if !bytes.Equal(got.Reveal(), c.want) {
				t.Error("the share lies in the caller's text")
			}
		})
	}
}

func fromBase64(t *testing.T, text string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// T13, T16: one text per encoding, and nothing that is nearly right.
func TestParseShareRefuses(t *testing.T) {
	good16 := base64.StdEncoding.EncodeToString(exampleShare[:16]) // ends in ==
	good32 := base64.StdEncoding.EncodeToString(exampleShare[:32]) // ends in =
	good33 := base64.StdEncoding.EncodeToString(exampleShare)
	goodHex := hex.EncodeToString(exampleShare)
	for _, c := range []struct {
		name, text string
		want       error
	}{
		// T13
		{"empty", "", ErrNoShare},
		{"10 bytes in hex, which is base64 of 15", goodHex[:20], ErrShareShort},
		{"15 bytes in base64", base64.StdEncoding.EncodeToString(exampleShare[:15]), ErrShareShort},
		{"3 bytes in base64", "AAAA", ErrShareShort},
		{"15 bytes in hex, which is no base64", goodHex[:30], ErrShareEncoding},
		{"34 bytes in base64", base64.StdEncoding.EncodeToString(append(exampleShare, 1)), ErrShareLong},
		{"34 bytes in hex", goodHex + "01", ErrShareLong},
		{"35 bytes in hex, which is no base64", goodHex + "0102", ErrShareEncoding},
		{"two shares", good33 + good33, ErrShareLong},
		{"1 MiB of hex", strings.Repeat("ab", 1<<19), ErrShareLong},
		{"1 MiB of base64", strings.Repeat("+/+/", 1<<18), ErrShareLong},
		{"1 MiB of nothing", strings.Repeat(" ", 1<<20), ErrShareEncoding},
		// T16: white space
		{"space before", " " + goodHex, ErrShareEncoding},
		{"space after", goodHex + " ", ErrShareEncoding},
		{"space inside", good33[:20] + " " + good33[20:], ErrShareEncoding},
		{"line feed after hex", goodHex + "\n", ErrShareEncoding},
		{"line feed after base64", good33 + "\n", ErrShareEncoding},
		{"carriage return after base64", good33 + "\r", ErrShareEncoding},
		{"line feed before base64", "\n" + good33, ErrShareEncoding},
		{"line feed inside base64", good33[:20] + "\n" + good33[20:], ErrShareEncoding},
		{"line feed inside padding", good16[:23] + "\n=", ErrShareEncoding},
		{"tab", good33 + "\t", ErrShareEncoding},
		{"NUL", good33 + "\x00", ErrShareEncoding},
		{"no-break space", good33 + "\u00a0", ErrShareEncoding},
		// T16: url-safe base64
		{"url-safe", base64.URLEncoding.EncodeToString(exampleShare), ErrShareEncoding},
		{"url-safe, unpadded", base64.RawURLEncoding.EncodeToString(exampleShare[:32]), ErrShareEncoding},
		// T16: padding
		{"padding left out", strings.TrimRight(good32, "="), ErrShareEncoding},
		{"padding left out, two", strings.TrimRight(good16, "="), ErrShareEncoding},
		{"padding cut", good16[:23], ErrShareEncoding},
		{"padding added", good32 + "=", ErrShareEncoding},
		{"padding added where none is due", good33 + "=", ErrShareEncoding},
		{"padding block added", good33 + "====", ErrShareEncoding},
		{"padding in front", "=" + good33, ErrShareEncoding},
		{"padding alone", "====", ErrShareEncoding},
		{"unused bits set, one padding character", setUnusedBit(good32), ErrShareEncoding},
		{"unused bits set, two padding characters", setUnusedBit(good16), ErrShareEncoding},
		// Other writings
		{"0x", "0x" + goodHex[:64], ErrShareEncoding},
		{"odd hex", goodHex[:63], ErrShareEncoding},
		{"colons", "fb:ef" + goodHex[4:], ErrShareEncoding},
		{"quoted", `"` + good33 + `"`, ErrShareEncoding},
		{"full-width digits", strings.Repeat("１", 32), ErrShareEncoding},
		{"not UTF-8", strings.Repeat("\xff", 44), ErrShareEncoding},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseShare([]byte(c.text))
			if !errors.Is(err, c.want) || !got.Empty() {
				t.Fatalf("got %d bytes and error %v, want %v", got.Len(), err, c.want)
			}
		})
	}
}

// setUnusedBit changes the last character before the padding so that a kind decoder gives the same bytes.
func setUnusedBit(text string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	last := strings.IndexByte(text, '=') - 1
	other := alphabet[strings.IndexByte(alphabet, text[last])+1]
	return text[:last] + string(other) + text[last+1:]
}

// The unused bits of the test above are unused: a test of the test.
func TestSetUnusedBit(t *testing.T) {
	text := base64.StdEncoding.EncodeToString(exampleShare[:16])
	changed := setUnusedBit(text)
	if changed == text || !bytes.Equal(fromBase64(t, changed), exampleShare[:16]) {
		t.Fatal("the text wasn't changed, or means something else")
	}
}

func TestShareFaultsAreForClients(t *testing.T) {
	for _, err := range []error{ErrNoShare, ErrShareEncoding, ErrShareShort, ErrShareLong} {
		f := fault.As(err)
		if f == nil || f.Kind != fault.Invalid {
			t.Errorf("%v is not a fault that says the request is invalid", err)
		}
	}
	for err, part := range map[error]string{
		ErrNoShare:       "key' must be specified",
		ErrShareEncoding: "must be a valid hex or base64 string",
		ErrShareShort:    "shorter than minimum 16",
		ErrShareLong:     "longer than maximum 33",
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q doesn't say %q", err, part)
		}
	}
}

// FuzzParseShare: a share that parses is written in one of its forms, armour apart in hex or base64, down to the case of hex; and the rule of the
// wire contract, said in the standard library's words, gives the same answer.
func FuzzParseShare(f *testing.F) {
	for _, text := range []string{
		"", "AAAA", "====", "0123456789abcdefABCDEF01", strings.Repeat("0a", 16), strings.Repeat("0A", 33),
		hex.EncodeToString(exampleShare), base64.StdEncoding.EncodeToString(exampleShare),
		base64.StdEncoding.EncodeToString(exampleShare[:32]), base64.StdEncoding.EncodeToString(exampleShare[:16]),
		base64.StdEncoding.EncodeToString(exampleShare) + "\n", base64.URLEncoding.EncodeToString(exampleShare),
		setUnusedBit(base64.StdEncoding.EncodeToString(exampleShare[:16])), strings.Repeat("ab", 200), "\xff\x00",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		before := slices.Clone(text)
		share, err := ParseShare(text)
		if IsArmoured(text) {
			if a, armourErr := ParseArmour(text); !errors.Is(err, armourErr) || !a.Share.Equal(share) {
				t.Fatalf("as armour: %v, else: %v", armourErr, err)
			}
			return // FuzzParseArmour looks at the rest
		}
		if !bytes.Equal(text, before) {
			t.Fatal("the caller's text was changed")
		}
		if want, ok := referenceShare(string(text)); ok != (err == nil) || !bytes.Equal(share.Reveal(), want) {
			t.Fatalf("got %x, %v; want %x, %v", share.Reveal(), err, want, ok)
		}
		if err != nil {
			if fault.As(err) == nil {
				t.Fatalf("%v is not a fault", err)
			}
			return
		}
		asHex := hex.EncodeToString(share.Reveal())
		asBase64 := base64.StdEncoding.EncodeToString(share.Reveal())
		if !strings.EqualFold(asHex, string(text)) && asBase64 != string(text) {
			t.Fatal("it parses, but isn't what the share is written as")
		}
	})
}

func referenceShare(text string) ([]byte, bool) {
	share, err := hex.DecodeString(text)
	if err != nil || len(share) < 16 || len(share) > 33 {
		share, err = base64.StdEncoding.Strict().DecodeString(text)
		if strings.ContainsAny(text, "\r\n") {
			return nil, false
		}
	}
	if err != nil || len(share) < 16 || len(share) > 33 {
		return nil, false
	}
	return share, true
}
