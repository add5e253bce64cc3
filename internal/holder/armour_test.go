package holder

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/secret"
)

// armourVectors is testdata/armour.json, which another implementation computed.
type armourVectors struct {
	Armours      []armourVector `json:"armours"`
	TypingErrors []namedText    `json:"typing_errors"`
	WrongForms   []namedText    `json:"wrong_forms"`
}

type armourVector struct {
	Name       string   `json:"name"`
	ClusterID  string   `json:"cluster_id"`
	Generation uint64   `json:"generation"`
	Slot       int      `json:"slot"`
	Threshold  int      `json:"threshold"`
	Share      hexBytes `json:"share"`
	Text       string   `json:"text"`
}

type namedText struct{ Name, Text string }

func readArmours(t testing.TB) (v armourVectors) {
	t.Helper()
	b, err := os.ReadFile("testdata/armour.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Armours) < 6 || len(v.TypingErrors) < 2 || len(v.WrongForms) < 15 {
		t.Fatal("vectors are missing")
	}
	return v
}

// exampleArmour is the first vector: 33 bytes of share.
func exampleArmour(t testing.TB) (Armour, string) {
	v := readArmours(t).Armours[0]
	return Armour{v.ClusterID, v.Generation, v.Slot, v.Threshold, secret.Copy(v.Share)}, v.Text
}

func TestArmourVectors(t *testing.T) {
	for _, v := range append(readArmours(t).Armours, docVectors[armourVector](t, "armour")...) {
		a := Armour{v.ClusterID, v.Generation, v.Slot, v.Threshold, secret.Copy(v.Share)}
		text, err := a.Encode()
		if err != nil || string(text) != v.Text {
			t.Errorf("%s: got %s, %v; want %s", v.Name, text, err, v.Text)
		}
		for _, form := range []string{v.Text, strings.ToUpper(v.Text)} {
			text := []byte(form)
			got, err := ParseArmour(text)
			share, shareErr := ParseShare(text)
			if err != nil || shareErr != nil || !IsArmoured(text) {
				t.Fatalf("%s: %v, %v", v.Name, err, shareErr)
			}
			if string(text) != form {
				t.Errorf("%s: the caller's text was changed", v.Name)
			}
			clear(text)
			if !got.Share.Equal(a.Share) || !share.Equal(a.Share) {
				t.Errorf("%s: another share", v.Name)
			}
			got.Share, a.Share = secret.Bytes{}, secret.Bytes{}
			if !reflect.DeepEqual(got, a) {
				t.Errorf("%s: got %+v, want %+v", v.Name, got, a)
			}
			a.Share = secret.Copy(v.Share)
		}
	}
}

// refused demands that both parsers refuse a text with an error that doesn't repeat it.
func refused(t *testing.T, name, text string, want error) {
	t.Helper()
	a, err := ParseArmour([]byte(text))
	if !errors.Is(err, want) || !a.Share.Empty() || a.ClusterID != "" {
		t.Errorf("%s: %v, want: %v", name, err, want)
	}
	if share, err := ParseShare([]byte(text)); err == nil || !share.Empty() {
		t.Errorf("%s: it is taken for a share", name)
	} else if fault.As(err) == nil || IsArmoured([]byte(text)) && !errors.Is(err, want) {
		t.Errorf("%s: as a share: %v, want: %v", name, err, want)
	}
}

func TestArmourRefusesVectors(t *testing.T) {
	v := readArmours(t)
	for _, c := range v.TypingErrors {
		refused(t, c.Name, c.Text, ErrArmourTyping)
	}
	for _, c := range v.WrongForms {
		refused(t, c.Name, c.Text, ErrArmourForm)
	}
}

// A typing error is told, whatever and wherever it is: each character replaced by each other one, each pair of
// neighbours swapped, each character left out or doubled, each insertion.
func TestArmourTypingErrors(t *testing.T) {
	_, good := exampleArmour(t)
	start := len(armourPrefix)
	for i := range len(good) {
		want := error(ErrArmourTyping)
		if i < start {
			want = ErrArmourForm
		}
		for c := byte(' '); c < 0x7f; c++ {
			if c == good[i] {
				continue
			}
			wrong := good[:i] + string(c) + good[i+1:]
			switch {
			case strings.EqualFold(wrong, good), c >= 'A' && c <= 'Z':
				refused(t, "mixed case", wrong, ErrArmourForm)
			default:
				refused(t, "another character", wrong, want)
			}
			if i >= start && (c < 'A' || c > 'Z') {
				refused(t, "one more character", good[:i]+string(c)+good[i:], ErrArmourTyping)
			}
		}
		refused(t, "left out", good[:i]+good[i+1:], want)
		if i+1 < len(good) && good[i] != good[i+1] {
			if i+1 == start {
				want = ErrArmourForm
			}
			refused(t, "swapped", good[:i]+good[i+1:i+2]+good[i:i+1]+good[i+2:], want)
		}
	}
}

// The text is longer than the 90 characters that bech32m promises four errors for. Three are found at this length: the
// checksum is linear, so that no two and no three of the errors in one character may cancel each other out.
func TestChecksumFindsThreeErrors(t *testing.T) {
	const length = 96
	zeros := make([]byte, length)
	clean := polymod(zeros)
	var syndromes [length][31]uint32 // of an error in one character
	single := make(map[uint32]bool, length*31)
	for at := range length {
		for e := byte(1); e < 32; e++ {
			zeros[at] = e
			s := polymod(zeros) ^ clean
			if syndromes[at][e-1] = s; s == 0 || single[s] {
				t.Fatal("one or two errors aren't found")
			}
			single[s] = true
		}
		zeros[at] = 0
	}
	for i := range length {
		for j := range i {
			for _, a := range syndromes[i] {
				for _, b := range syndromes[j] {
					// Two errors in one character are one error, so that a and b of two characters hide only a third one.
					if single[a^b] {
						t.Fatal("three errors aren't found")
					}
				}
			}
		}
	}
}

func TestArmourRefusesOtherWritings(t *testing.T) {
	_, good := exampleArmour(t)
	for name, text := range map[string]string{
		"empty": "", "prefix": "qshare1", "space before": " " + good, "line feed before": "\n" + good,
		"upper-case prefix": "QSHARE1" + good[7:], "upper-case data": "qshare1" + strings.ToUpper(good[7:]),
		"no prefix": good[7:], "hex": hex.EncodeToString(exampleShare), "base64": base64.StdEncoding.EncodeToString(exampleShare),
		"long s": strings.Replace(good, "s", "ſ", 1), "44 characters": good[:44],
	} {
		if _, err := ParseArmour([]byte(text)); !errors.Is(err, ErrArmourForm) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, text := range map[string]string{
		"space after": good + " ", "line feed": good + "\n", "carriage return": good + "\r\n", "NUL": good + "\x00",
		"space inside": good[:50] + " " + good[50:], "cut": good[:45], "halved": good[:len(good)/2], "doubled": good + good,
		"not UTF-8": good[:60] + "\xff" + good[61:], "1 MiB": good + strings.Repeat("q", 1<<20),
		"long share": "qshare1" + strings.Repeat("q", 200),
	} {
		refused(t, name, text, ErrArmourTyping)
	}
}

// A share in base64 may begin like an armoured one; it stays what it is.
func TestBase64ThatLooksArmoured(t *testing.T) {
	text := "qshare1" + strings.Repeat("q", 37)
	share, err := ParseShare([]byte(text))
	if err != nil || share.Len() != 33 || IsArmoured([]byte(text)) {
		t.Errorf("%d bytes, %v", share.Len(), err)
	}
}

func TestEncodeArmourRefuses(t *testing.T) {
	for name, change := range map[string]func(*Armour){
		"no cluster":             func(a *Armour) { a.ClusterID = "" },
		"upper-case cluster":     func(a *Armour) { a.ClusterID = strings.ToUpper(a.ClusterID) },
		"cluster without dashes": func(a *Armour) { a.ClusterID = strings.ReplaceAll(a.ClusterID, "-", "") },
		"cluster in braces":      func(a *Armour) { a.ClusterID = "{" + a.ClusterID + "}" },
		"cluster as URN":         func(a *Armour) { a.ClusterID = "urn:uuid:" + a.ClusterID },
		"cluster cut":            func(a *Armour) { a.ClusterID = a.ClusterID[1:] },
		"cluster and a space":    func(a *Armour) { a.ClusterID += " " },
		"generation 0":           func(a *Armour) { a.Generation = 0 },
		"generation 2^32":        func(a *Armour) { a.Generation = 1 << 32 },
		"slot 0":                 func(a *Armour) { a.Slot = 0 },
		"another slot":           func(a *Armour) { a.Slot++ },
		"slot and 256":           func(a *Armour) { a.Slot += 256 },
		"negative slot":          func(a *Armour) { a.Slot = -a.Slot },
		"threshold 0":            func(a *Armour) { a.Threshold = 0 },
		"threshold 256":          func(a *Armour) { a.Threshold = 256 },
		"threshold -1":           func(a *Armour) { a.Threshold = -1 },
		"no share":               func(a *Armour) { a.Share = secret.Bytes{} },
		"32 bytes in slot 2":     func(a *Armour) { a.Share, a.Threshold = secret.Copy(exampleShare[:32]), 1 },
		"32 bytes, threshold 3":  func(a *Armour) { a.Share, a.Slot = secret.Copy(exampleShare[:32]), 1 },
		"31 bytes":               func(a *Armour) { a.Share = secret.Copy(exampleShare[:31]) },
		"34 bytes":               func(a *Armour) { a.Share = secret.Own(make([]byte, 34)) },
		"slot 0 in the share":    func(a *Armour) { a.Share, a.Slot = secret.Own(make([]byte, 33)), 0 },
	} {
		a, _ := exampleArmour(t)
		change(&a)
		if text, err := a.Encode(); !errors.Is(err, errArmour) || text != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestArmourLeavesTheShare(t *testing.T) {
	a, text := exampleArmour(t)
	before := bytes.Clone(a.Share.Reveal())
	for range 2 {
		if got, err := a.Encode(); err != nil || string(got) != text {
			t.Fatalf("%s, %v", got, err)
		}
	}
	if !bytes.Equal(a.Share.Reveal(), before) {
		t.Error("the share was changed")
	}
}

func TestArmourFaultsAreForClients(t *testing.T) {
	for _, err := range []error{ErrArmourTyping, ErrArmourForm} {
		if f := fault.As(err); f == nil || f.Kind != fault.Invalid {
			t.Errorf("%v is not a fault that says the request is invalid", err)
		}
	}
}

// FuzzParseArmour: what parses is what Encode writes, in one of the two cases.
func FuzzParseArmour(f *testing.F) {
	v := readArmours(f)
	for _, a := range v.Armours {
		f.Add([]byte(a.Text))
		f.Add([]byte(strings.ToUpper(a.Text)))
	}
	for _, c := range append(v.TypingErrors, v.WrongForms...) {
		f.Add([]byte(c.Text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		before := bytes.Clone(text)
		a, err := ParseArmour(text)
		if !bytes.Equal(text, before) {
			t.Fatal("the caller's text was changed")
		}
		if err != nil {
			if fault.As(err) == nil {
				t.Fatalf("%v is not a fault", err)
			}
			return
		}
		again, err := a.Encode()
		if err != nil || !bytes.Equal(again, bytes.ToLower(text)) || !IsArmoured(text) {
			t.Fatalf("%s is written as %s, %v", text, again, err)
		}
	})
}

// FuzzArmourPayload gives every payload a right checksum, which the other fuzzer hardly ever finds.
func FuzzArmourPayload(f *testing.F) {
	_, good := exampleArmour(f)
	groups := make([]byte, 0, len(good))
	for _, c := range good[len(armourPrefix) : len(good)-armourChecksum] {
		groups = append(groups, byte(strings.IndexRune(charset, c)))
	}
	f.Add(groups)
	f.Add(groups[:88])
	f.Add(append(bytes.Clone(groups[:89]), 1))
	f.Fuzz(func(t *testing.T, groups []byte) {
		text := []byte(armourPrefix)
		for i := range groups {
			groups[i] &= 31
			text = append(text, charset[groups[i]])
		}
		sum := polymod(append(bytes.Clone(groups), 0, 0, 0, 0, 0, 0)) ^ bech32m
		for shift := 25; shift >= 0; shift -= 5 {
			text = append(text, charset[sum>>shift&31])
		}
		a, err := ParseArmour(text)
		if err != nil {
			return
		}
		if again, err := a.Encode(); err != nil || !bytes.Equal(again, text) {
			t.Fatalf("%s is written as %s, %v", text, again, err)
		}
	})
}

// docVectors are the JSON blocks of one name in the document for those who write clients.
func docVectors[T any](t *testing.T, name string) (list []T) {
	t.Helper()
	doc, err := os.ReadFile("../../docs/signatures.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, part := range strings.Split(string(doc), "```json "+name+"\n") {
		if i == 0 {
			continue
		}
		block, _, _ := strings.Cut(part, "\n```")
		dec := json.NewDecoder(strings.NewReader(block))
		dec.DisallowUnknownFields()
		var v T
		if err := dec.Decode(&v); err != nil {
			t.Fatalf("the document's %s: %v", name, err)
		}
		list = append(list, v)
	}
	if len(list) == 0 {
		t.Fatalf("the document has no vector %q", name)
	}
	return list
}
