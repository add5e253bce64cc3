package holder

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/secret"
)

const cluster = "7c3f1e0a-5b1d-4c7e-9a52-0d6f3b8e4a11"

func deriveExample(clusterID string, generation uint64) *Key {
	return Derive(secret.Copy(exampleShare), clusterID, generation)
}

func exampleStatement() Statement {
	return Statement{
		Action: ActionApprove, ClusterID: cluster, Generation: 1, Slot: 7, Mode: ModeShare,
		Digest: sha256.Sum256([]byte("an attempt")),
	}
}

// goldenKey is one entry of testdata/golden.json, which another implementation computed.
type goldenKey struct {
	Share      hexBytes `json:"share"`
	ClusterID  string   `json:"cluster_id"`
	Generation uint64   `json:"generation"`
	Verifier   Verifier `json:"verifier"`
	Statements []struct {
		Action      Action   `json:"action"`
		Slot        int      `json:"slot"`
		Mode        Mode     `json:"mode"`
		Digest      hexBytes `json:"digest"`
		SignedBytes hexBytes `json:"signed_bytes"`
		Signature   hexBytes `json:"signature"`
	} `json:"statements"`
}

type hexBytes []byte

func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

func goldenKeys(t *testing.T) []goldenKey {
	t.Helper()
	var file struct{ Keys []goldenKey }
	b, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Keys) == 0 {
		t.Fatal("no golden keys")
	}
	return file.Keys
}

// What is stored and signed today must be the same for ever: a change here locks every holder out.
func TestGolden(t *testing.T) {
	for i, g := range append(goldenKeys(t), docVectors[goldenKey](t, "holder-key")...) {
		key := Derive(secret.Copy(g.Share), g.ClusterID, g.Generation)
		if key.Verifier() != g.Verifier {
			t.Errorf("key %d: another verifier", i)
		}
		for j, s := range g.Statements {
			statement := Statement{
				Action: s.Action, ClusterID: g.ClusterID, Generation: g.Generation, Slot: s.Slot, Mode: s.Mode,
				Digest: [32]byte(s.Digest),
			}
			if got := statement.encode(); !bytes.Equal(got, s.SignedBytes) {
				t.Errorf("key %d, statement %d: signed bytes\n%x, want\n%x", i, j, got, s.SignedBytes)
			}
			if !bytes.Equal(key.Sign(statement), s.Signature) {
				t.Errorf("key %d, statement %d: another signature", i, j)
			}
			if !Verify(g.Verifier, statement, s.Signature) {
				t.Errorf("key %d, statement %d: the golden signature isn't accepted", i, j)
			}
		}
	}
}

// HKDF by hand: extract, then one block of expand (RFC 5869, section 2).
func TestDeriveIsHKDF(t *testing.T) {
	hash := func(key, message []byte) []byte {
		h := hmac.New(sha256.New, key)
		h.Write(message)
		return h.Sum(nil)
	}
	for _, generation := range []uint64{0, 1, 10, 1<<64 - 1} {
		extracted := hash([]byte(cluster), exampleShare)
		info := fmt.Sprintf("quorate/holder-key/v1/%d", generation)
		seed := hash(extracted, append([]byte(info), 1))
		want := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
		if got := deriveExample(cluster, generation).Verifier(); !bytes.Equal(got[:], want) {
			t.Errorf("generation %d: another key", generation)
		}
	}
}

// T17, T18: another share, cluster or generation is another key, and none signs for another.
func TestKeysAreApart(t *testing.T) {
	otherBit := bytes.Clone(exampleShare)
	otherBit[0] ^= 1
	otherSlot := bytes.Clone(exampleShare)
	otherSlot[32]++
	keys := map[string]*Key{
		"the key":               deriveExample(cluster, 1),
		"other generation":      deriveExample(cluster, 2),
		"generation 11":         deriveExample(cluster, 11),
		"other cluster":         deriveExample(strings.Replace(cluster, "7c", "7d", 1), 1),
		"cluster in upper case": deriveExample(strings.ToUpper(cluster), 1),
		"no cluster":            deriveExample("", 1),
		"other y":               Derive(secret.Own(otherBit), cluster, 1),
		"other x":               Derive(secret.Own(otherSlot), cluster, 1),
		"without x":             Derive(secret.Copy(exampleShare[:32]), cluster, 1),
	}
	for signer, key := range keys {
		sig := key.Sign(exampleStatement())
		for name, other := range keys {
			if got := Verify(other.Verifier(), exampleStatement(), sig); got != (name == signer) {
				t.Errorf("signed by %s, accepted for %s: %v", signer, name, got)
			}
		}
	}
}

func TestDeriveLeavesTheShare(t *testing.T) {
	share := secret.Copy(exampleShare)
	first := Derive(share, cluster, 1)
	if !bytes.Equal(share.Reveal(), exampleShare) {
		t.Fatal("the share was changed")
	}
	share.Wipe()
	if !Verify(first.Verifier(), exampleStatement(), first.Sign(exampleStatement())) {
		t.Error("the key depends on the share's memory")
	}
}

// Every part of a statement is signed: change one, and the signature is worth nothing.
func TestVerifyRefusesAnotherStatement(t *testing.T) {
	key := deriveExample(cluster, 1)
	sig := key.Sign(exampleStatement())
	if !Verify(key.Verifier(), exampleStatement(), sig) {
		t.Fatal("a good signature isn't accepted")
	}
	for name, change := range map[string]func(*Statement){
		"action":              func(s *Statement) { s.Action = ActionCancel },
		"no action":           func(s *Statement) { s.Action = "" },
		"action's case":       func(s *Statement) { s.Action = "Approve" },
		"cluster":             func(s *Statement) { s.ClusterID = "7c3f1e0a-5b1d-4c7e-9a52-0d6f3b8e4a12" },
		"cluster cut":         func(s *Statement) { s.ClusterID = s.ClusterID[:35] },
		"cluster and a space": func(s *Statement) { s.ClusterID += " " },
		"no cluster":          func(s *Statement) { s.ClusterID = "" },
		"generation":          func(s *Statement) { s.Generation = 2 },
		"generation zero":     func(s *Statement) { s.Generation = 0 },
		"generation's top":    func(s *Statement) { s.Generation |= 1 << 63 },
		"slot":                func(s *Statement) { s.Slot = 8 },
		"slot plus 256":       func(s *Statement) { s.Slot += 256 },
		"negative slot":       func(s *Statement) { s.Slot = -7 },
		"generation and slot": func(s *Statement) { s.Generation, s.Slot = 7, 1 },
		"mode":                func(s *Statement) { s.Mode = ModeSignature },
		"no mode":             func(s *Statement) { s.Mode = "" },
		"digest's first bit":  func(s *Statement) { s.Digest[0] ^= 0x80 },
		"digest's last bit":   func(s *Statement) { s.Digest[31] ^= 1 },
		"no digest":           func(s *Statement) { s.Digest = [32]byte{} },
		"digest in cluster":   func(s *Statement) { s.ClusterID, s.Digest = s.ClusterID+string(s.Digest[:]), [32]byte{} },
	} {
		s := exampleStatement()
		change(&s)
		if Verify(key.Verifier(), s, sig) {
			t.Errorf("%s: the signature of another statement was accepted", name)
		}
	}
}

// Actions and modes never stand for each other.
func TestActionsAreApart(t *testing.T) {
	key := deriveExample(cluster, 1)
	var statements []Statement
	for _, action := range []Action{ActionApprove, ActionStart, ActionCancel, ActionProve, ActionDrill, ActionUnseal} {
		for _, mode := range []Mode{ModeShare, ModeSignature} {
			s := exampleStatement()
			s.Action, s.Mode = action, mode
			statements = append(statements, s)
		}
	}
	for i, signed := range statements {
		sig := key.Sign(signed)
		for j, read := range statements {
			if got := Verify(key.Verifier(), read, sig); got != (i == j) {
				t.Errorf("signed as %s/%s, accepted as %s/%s: %v", signed.Action, signed.Mode, read.Action, read.Mode, got)
			}
		}
	}
}

func TestVerifyRefusesBadSignatures(t *testing.T) {
	key := deriveExample(cluster, 1)
	good := key.Sign(exampleStatement())
	if len(good) != 64 {
		t.Fatalf("a signature of %d bytes", len(good))
	}
	for name, sig := range map[string][]byte{
		"nil":            nil,
		"empty":          {},
		"cut":            good[:63],
		"with a tail":    append(bytes.Clone(good), 0),
		"twice":          append(bytes.Clone(good), good...),
		"zeros":          make([]byte, 64),
		"s plus order":   malleated(good),
		"halves swapped": append(bytes.Clone(good[32:]), good[:32]...),
	} {
		if Verify(key.Verifier(), exampleStatement(), sig) {
			t.Errorf("%s: accepted", name)
		}
	}
	for bit := range 512 {
		sig := bytes.Clone(good)
		sig[bit/8] ^= 1 << (bit % 8)
		if Verify(key.Verifier(), exampleStatement(), sig) {
			t.Errorf("bit %d flipped: accepted", bit)
		}
	}
}

// malleated adds the group's order to a signature's scalar: the same signature in another writing.
func malleated(sig []byte) []byte {
	order, _ := hex.DecodeString("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
	out, carry := bytes.Clone(sig), 0
	for i, b := range order {
		carry += int(out[32+i]) + int(b)
		out[32+i] = byte(carry)
		carry >>= 8
	}
	return out
}

// A verifier that nobody set must not be a key: thirty-two zero bytes are a point of order four, for which one
// signature in four that consists of the neutral element and a zero scalar is good.
func TestVerifyRefusesTheZeroVerifier(t *testing.T) {
	forged := make([]byte, 64)
	forged[0] = 1
	s := exampleStatement()
	for range 200 {
		s.Slot++
		if ed25519.Verify(make([]byte, 32), s.encode(), forged) {
			if Verify(Verifier{}, s, forged) {
				t.Fatal("a forged signature is good for a verifier that isn't set")
			}
			return
		}
	}
	t.Fatal("no forgery was found: the test shows nothing")
}

// The signed bytes can be read back, so no two statements have the same.
func TestEncodeIsInjective(t *testing.T) {
	r := mathrand.New(mathrand.NewPCG(5, 10))
	text := func() string { return strings.Repeat("\x00a/v1", r.IntN(4))[:] + string(rune(r.IntN(200))) }
	for range 2000 {
		s := Statement{
			Action: Action(text()), ClusterID: text(), Generation: r.Uint64(), Slot: int(r.Int64()), Mode: Mode(text()),
		}
		binary.BigEndian.PutUint64(s.Digest[r.IntN(25):], r.Uint64())
		if got := decode(t, s.encode()); got != s {
			t.Fatalf("%+v reads back as %+v", s, got)
		}
	}
}

func decode(t *testing.T, b []byte) Statement {
	t.Helper()
	var fields [][]byte
	for len(b) > 0 {
		n := binary.BigEndian.Uint32(b)
		fields, b = append(fields, b[4:4+n]), b[4+n:]
	}
	if len(fields) != 6 {
		t.Fatalf("%d fields", len(fields))
	}
	action, ok := strings.CutPrefix(string(fields[0]), "quorate/v1/")
	if !ok {
		t.Fatal("no label")
	}
	return Statement{
		Action: Action(action), ClusterID: string(fields[1]), Generation: binary.BigEndian.Uint64(fields[2]),
		Slot: int(binary.BigEndian.Uint64(fields[3])), Mode: Mode(fields[4]), Digest: [32]byte(fields[5]),
	}
}

func TestWipe(t *testing.T) {
	key := deriveExample(cluster, 1)
	verifier, private := key.Verifier(), key.private.Reveal()
	key.Sign(exampleStatement()) // the standard library may remember keys that have signed
	key.Wipe()
	key.Wipe()
	if !bytes.Equal(private, make([]byte, len(private))) {
		t.Error("the private half is still in memory")
	}
	if key.Verifier() != verifier {
		t.Error("the verifier changed")
	}
	if Verify(verifier, exampleStatement(), key.Sign(exampleStatement())) {
		t.Error("a wiped key still signs")
	}
}

// T52: however a key is printed, by itself or inside of something, its private half isn't shown.
func TestKeysDontPrint(t *testing.T) {
	key := deriveExample(cluster, 1)
	private := key.private.Reveal()
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("", "key", key, "in", struct{ k Key }{*key})
	slog.New(slog.NewJSONHandler(&log, nil)).Info("", "key", key, "in", struct{ k *Key }{key})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%p"} {
		fmt.Fprintf(&log, verb+verb+verb+verb, key, *key, struct{ k Key }{*key}, []*Key{key})
	}
	for _, form := range []string{
		string(private[:4]), hex.EncodeToString(private[:4]), base64.StdEncoding.EncodeToString(private[:3]),
		strings.Trim(fmt.Sprint(private[:4]), "[]"), fmt.Sprintf("%#x, %#x", private[0], private[1]),
		fmt.Sprintf("%o %o %o", private[0], private[1], private[2]),
	} {
		if strings.Contains(strings.ToLower(log.String()), strings.ToLower(form)) {
			t.Errorf("the private half was printed, as %q", form)
		}
	}
}

func TestVerifierText(t *testing.T) {
	v := deriveExample(cluster, 1).Verifier()
	b, err := json.Marshal(map[string]Verifier{"v": v})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"v":"` + base64.StdEncoding.EncodeToString(v[:]) + `"}`; string(b) != want {
		t.Errorf("got %s, want %s", b, want)
	}
	var back map[string]Verifier
	if err := json.Unmarshal(b, &back); err != nil || back["v"] != v {
		t.Errorf("it doesn't read back: %v", err)
	}
}

func TestVerifierTextRefuses(t *testing.T) {
	v := deriveExample(cluster, 1).Verifier()
	good := base64.StdEncoding.EncodeToString(v[:])
	for name, text := range map[string]string{
		"empty":           "",
		"short":           base64.StdEncoding.EncodeToString(v[:31]),
		"long":            base64.StdEncoding.EncodeToString(append(v[:], 0)),
		"hex":             hex.EncodeToString(v[:]),
		"no padding":      strings.TrimRight(good, "="),
		"url-safe":        strings.Repeat("_-", 21) + "_=",
		"line feed":       good + "\n",
		"line feed in it": good[:10] + "\n" + good[10:],
		"space":           good + " ",
		"unused bit":      setUnusedBit(good),
	} {
		got := Verifier{1}
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		} else if text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%s: the error repeats the text", name)
		}
		if got != (Verifier{1}) {
			t.Errorf("%s: the verifier was changed all the same", name)
		}
	}
}

func BenchmarkApproval(b *testing.B) {
	share, s := secret.Copy(exampleShare), exampleStatement()
	verifier := deriveExample(cluster, 1).Verifier()
	for b.Loop() {
		key := Derive(share, cluster, 1)
		if !Verify(verifier, s, key.Sign(s)) {
			b.Fatal("not accepted")
		}
		key.Wipe()
	}
}
