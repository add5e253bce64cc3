package transcript

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// TestCheckpointFormat reads a checkpoint by hand, as c2sp.org/tlog-checkpoint and c2sp.org/signed-note describe it.
func TestCheckpointFormat(t *testing.T) {
	s := signer(t)
	st, _ := logOf(t, s, story()...)
	text, head := string(checkpointOf(t, st)), headOf(t, st)
	want := "quorate/" + cluster + "\n" + fmt.Sprint(head.Size) + "\n" + base64.StdEncoding.EncodeToString(head.Root[:]) + "\n"
	signed, line, found := strings.Cut(text, "\n\n")
	if signed += "\n"; !found || signed != want {
		t.Fatalf("the body is %q, want %q", signed, want)
	}
	rest, ok := strings.CutPrefix(line, "\u2014 quorate/"+cluster+" ")
	sig, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(rest, "\n"))
	if !ok || err != nil || len(sig) != 4+64 || !strings.HasSuffix(line, "\n") || strings.Count(line, "\n") != 1 {
		t.Fatalf("the signature line is %q", line)
	}
	public := ed25519.NewKeyFromSeed([]byte(strings.Repeat("\x07", 32))).Public().(ed25519.PublicKey)
	id := sha256.Sum256([]byte("quorate/" + cluster + "\n\x01" + string(public)))
	if string(sig[:4]) != string(id[:4]) || !ed25519.Verify(public, []byte(signed), sig[4:]) {
		t.Error("the key ID or the signature is not that of the key")
	}
	key := fmt.Sprintf("quorate/%s+%08x+%s", cluster, binary.BigEndian.Uint32(id[:]), base64.StdEncoding.EncodeToString(append([]byte{1}, public...)))
	if s.VerifierKey() != key {
		t.Errorf("the verifier key is %q, want %q", s.VerifierKey(), key)
	}
	if h, err := OpenCheckpoint([]byte(text), key); err != nil || h != head {
		t.Error(h, err)
	}
}

// TestOpenCheckpoint signs bodies that this package doesn't write.
func TestOpenCheckpoint(t *testing.T) {
	s := signer(t)
	sign := func(text string) []byte {
		msg, err := note.Sign(&note.Note{Text: text}, noteSigner{s})
		if err != nil {
			t.Fatal(err)
		}
		return msg
	}
	root := tlog.Hash{5}.String()
	o := Origin(cluster)
	for name, c := range map[string]struct {
		text string
		ok   bool
	}{
		"empty log":          {o + "\n0\n" + root + "\n", true},
		"extension line":     {o + "\n5\n" + root + "\nmore\n", true},
		"other origin":       {o + "0\n5\n" + root + "\n", false},
		"leading zero":       {o + "\n05\n" + root + "\n", false},
		"plus":               {o + "\n+5\n" + root + "\n", false},
		"negative":           {o + "\n-5\n" + root + "\n", false},
		"no size":            {o + "\n\n" + root + "\n", false},
		"hexadecimal size":   {o + "\n0x5\n" + root + "\n", false},
		"size beyond tlog":   {o + "\n9223372036854775807\n" + root + "\n", false},
		"size beyond int64":  {o + "\n9223372036854775808\n" + root + "\n", false},
		"no root":            {o + "\n5\n", false},
		"short root":         {o + "\n5\nAAAA\n", false},
		"root without pad":   {o + "\n5\n" + strings.TrimSuffix(root, "=") + "\n", false},
		"root with tail bit": {o + "\n5\n" + strings.Repeat("A", 42) + "B=\n", false},
		"url-safe root":      {o + "\n5\n" + strings.Repeat("-", 43) + "=\n", false},
		"empty extension":    {o + "\n5\n" + root + "\n\nmore\n", false},
		"go.sum":             {"go.sum database tree\n5\n" + root + "\n", false},
		"space":              {o + "\n5 \n" + root + "\n", false},
	} {
		h, err := OpenCheckpoint(sign(c.text), s.VerifierKey())
		if (err == nil) != c.ok {
			t.Errorf("%s: %v, %v", name, h, err)
		}
	}
	good := sign(o + "\n5\n" + root + "\n")
	skey, vkey, err := note.GenerateKey(nil, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCheckpoint(good, vkey); err == nil {
		t.Error("another key of the same name opens it")
	}
	for _, key := range []string{"", "x", o + "+00000000+AAAA", strings.Replace(s.VerifierKey(), "+", "+0", 1)} {
		if _, err := OpenCheckpoint(good, key); err == nil {
			t.Errorf("the key %q opens it", key)
		}
	}
	witness, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(good, note.VerifierList(verifierOf(t, s.VerifierKey())))
	if err != nil {
		t.Fatal(err)
	}
	cosigned, err := note.Sign(n, witness)
	if err != nil {
		t.Fatal(err)
	}
	if h, err := OpenCheckpoint(cosigned, s.VerifierKey()); err != nil || h.Size != 5 {
		t.Error("a cosigned checkpoint isn't opened", err)
	}
	for i := range good {
		bad := []byte(string(good))
		bad[i] ^= 1
		if h, err := OpenCheckpoint(bad, s.VerifierKey()); err == nil && (h.Size != 5 || h.Root != (tlog.Hash{5})) {
			t.Errorf("byte %d changed, and it says %v", i, h)
		}
	}
}

func verifierOf(t *testing.T, key string) note.Verifier {
	t.Helper()
	v, err := note.NewVerifier(key)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func FuzzCheckpointBody(f *testing.F) {
	f.Add(body(Origin(cluster), Head{Size: 7, Root: tlog.Hash{1}}))
	f.Add("a\n0\n" + tlog.Hash{}.String() + "\nb\n")
	f.Add("\n\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		origin, h, err := parseBody(text)
		if err == nil && !strings.HasPrefix(text, body(origin, h)) {
			t.Errorf("%q is read as %q, %v", text, origin, h)
		}
	})
}

func FuzzOpenCheckpoint(f *testing.F) {
	s, _, err := NewSigner(cluster, strings.NewReader(strings.Repeat("\x07", 32)))
	if err != nil {
		f.Fatal(err)
	}
	signed := Head{Size: 7, Root: tlog.Hash{1}}
	text, err := s.sign(signed)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		if h, err := OpenCheckpoint(text, s.VerifierKey()); err == nil && h != signed {
			t.Errorf("%q was never signed", text)
		}
	})
}
