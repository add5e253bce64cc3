package delivery

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/quorate/quorate/internal/fault"
)

const rootToken = "q.ABCDEFGHIJKLMNOPQRSTUV"

// newKey makes a key pair at the time at, with an encryption subkey.
func newKey(t testing.TB, at time.Time, config packet.Config) *openpgp.Entity {
	t.Helper()
	config.Time = func() time.Time { return at }
	e, err := openpgp.NewEntity("Ada", "", "ada@example.org", &config)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func newEd25519(t testing.TB, at time.Time) *openpgp.Entity {
	return newKey(t, at, packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Curve: packet.Curve25519})
}

func at(when time.Time) *packet.Config {
	return &packet.Config{Time: func() time.Time { return when }}
}

func public(t testing.TB, e *openpgp.Entity) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := e.Serialize(&buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func private(t testing.TB, e *openpgp.Entity) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := e.SerializePrivateWithoutSigning(&buf, nil); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func b64(b []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(b)) }

func publicBase64(t testing.TB, e *openpgp.Entity) []byte { return b64(public(t, e)) }

func armored(t testing.TB, b []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := armor.Encode(&buf, openpgp.PublicKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// decrypt reads a binary message with e's private key.
func decrypt(e *openpgp.Entity, message []byte) (string, error) {
	md, err := openpgp.ReadMessage(bytes.NewReader(message), openpgp.EntityList{e}, nil, at(epoch))
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(md.UnverifiedBody)
	return string(b), err
}

// delivered demands that d carries a root token to e.
func delivered(t *testing.T, d Delivery, e *openpgp.Entity, now time.Time) {
	t.Helper()
	encoded, err := d.Encode([]byte(rootToken), now)
	if err != nil {
		t.Fatal(err)
	}
	message, err := base64.StdEncoding.DecodeString(encoded) // with padding
	if err != nil {
		t.Fatalf("not padded standard base64: %v", err)
	}
	if bytes.Contains(message, []byte(rootToken)) {
		t.Fatal("the token is in the message in clear")
	}
	if got, err := decrypt(e, message); err != nil || got != rootToken {
		t.Fatalf("decrypted %q, %v", got, err)
	}
}

func TestPGPKeysThatWork(t *testing.T) {
	for name, config := range map[string]packet.Config{
		"RSA-2048":             {Algorithm: packet.PubKeyAlgoRSA, RSABits: 2048},
		"Ed25519, Curve25519":  {Algorithm: packet.PubKeyAlgoEdDSA, Curve: packet.Curve25519},
		"P-256":                {Algorithm: packet.PubKeyAlgoECDSA, Curve: packet.CurveNistP256},
		"brainpoolP384r1":      {Algorithm: packet.PubKeyAlgoECDSA, Curve: packet.CurveBrainpoolP384},
		"version 6, X25519":    {Algorithm: packet.PubKeyAlgoEd25519, V6Keys: true},
		"AEAD in its features": {Algorithm: packet.PubKeyAlgoEdDSA, Curve: packet.Curve25519, AEADConfig: &packet.AEADConfig{}},
	} {
		t.Run(name, func(t *testing.T) {
			e := newKey(t, epoch, config)
			d, err := FromPGP(publicBase64(t, e), epoch)
			if err != nil {
				t.Fatal(err)
			}
			want := hex.EncodeToString(e.PrimaryKey.Fingerprint)
			if d.Mode != PGP || d.Fingerprint != want || d.OTP != nil {
				t.Errorf("delivery by %s to %s, want %s", d.Mode, d.Fingerprint, want)
			}
			if length := map[bool]int{false: 40, true: 64}[config.V6Keys]; len(d.Fingerprint) != length {
				t.Errorf("fingerprint of %d digits, want %d", len(d.Fingerprint), length)
			}
			delivered(t, d, e, epoch)
		})
	}
}

// encryptPGP encrypts as an init does: to a recipient who passed the trial.
func encryptPGP(keyBase64, plaintext []byte, now time.Time) (message []byte, fingerprint string, err error) {
	d, err := FromPGP(keyBase64, now)
	if err != nil {
		return nil, "", err
	}
	message, err = d.Encrypt(plaintext, now)
	return message, d.Fingerprint, err
}

func TestEncryptPGP(t *testing.T) {
	e, other := newEd25519(t, epoch), newEd25519(t, epoch)
	text := strings.Repeat("00ff", 33) // a share in hex, as init sends it
	message, fingerprint, err := encryptPGP(publicBase64(t, e), []byte(text), epoch)
	if err != nil || fingerprint != hex.EncodeToString(e.PrimaryKey.Fingerprint) {
		t.Fatalf("fingerprint %s, %v", fingerprint, err)
	}
	if got, err := decrypt(e, message); err != nil || got != text {
		t.Errorf("decrypted %q, %v", got, err)
	}
	if got, err := decrypt(other, message); err == nil {
		t.Errorf("a stranger's key decrypts %q", got)
	}
	if again, _, _ := encryptPGP(publicBase64(t, e), []byte(text), epoch); bytes.Equal(message, again) {
		t.Error("two messages are the same: the session key isn't fresh")
	}
}

func TestEncryptPGPRefusesAsFromPGPDoes(t *testing.T) {
	message, fingerprint, err := encryptPGP([]byte("garbage"), []byte("secret"), epoch)
	refused(t, err, errPGPBase64)
	if message != nil || fingerprint != "" {
		t.Error("something came with the refusal")
	}
}

func TestPGPKeyWithLineBreaks(t *testing.T) {
	e := newEd25519(t, epoch)
	plain := string(publicBase64(t, e))
	for name, sep := range map[string]string{"LF": "\n", "CRLF": "\r\n"} {
		for _, width := range []int{16, 64, 76} {
			wrapped := regexp.MustCompile(fmt.Sprintf(".{%d}", width)).ReplaceAllString(plain, "$0"+sep)
			if _, err := FromPGP([]byte(wrapped+sep), epoch); err != nil {
				t.Errorf("%s every %d: %v", name, width, err)
			}
		}
	}
}

// The kept key never has private parts, so an attempt's record can't leak them.
func TestSecretKeyKeepsItsPublicPartOnly(t *testing.T) {
	for name, config := range map[string]packet.Config{
		"RSA":     {RSABits: 2048},
		"Ed25519": {Algorithm: packet.PubKeyAlgoEdDSA, Curve: packet.Curve25519},
	} {
		e := newKey(t, epoch, config)
		d, err := FromPGP(b64(private(t, e)), epoch)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !bytes.Equal(d.PGPKey, mustPublicPart(t, public(t, e))) {
			t.Errorf("%s: the secret and the public key are kept differently", name)
		}
		for _, tag := range tags(t, d.PGPKey) {
			if tag == tagSecretKey || tag == tagSecretSubkey {
				t.Errorf("%s: a packet of type %d is kept", name, tag)
			}
		}
		delivered(t, d, e, epoch)
	}
}

func TestPassphraseProtectedSecretKey(t *testing.T) {
	e := newEd25519(t, epoch)
	want := public(t, e)
	if err := e.EncryptPrivateKeys([]byte("correct horse"), nil); err != nil {
		t.Fatal(err)
	}
	d, err := FromPGP(b64(private(t, e)), epoch)
	if err != nil || !bytes.Equal(d.PGPKey, mustPublicPart(t, want)) {
		t.Errorf("%v; want the public part, for which no passphrase is needed", err)
	}
}

func TestFirstOfSeveralKeysCounts(t *testing.T) {
	first, second := newEd25519(t, epoch), newEd25519(t, epoch)
	d, err := FromPGP(b64(append(public(t, first), public(t, second)...)), epoch)
	if err != nil {
		t.Fatal(err)
	}
	if d.Fingerprint != hex.EncodeToString(first.PrimaryKey.Fingerprint) {
		t.Errorf("fingerprint %s is not that of the first key", d.Fingerprint)
	}
	if bytes.Contains(d.PGPKey, second.PrimaryKey.Fingerprint) || len(d.PGPKey) > len(public(t, first))+50 {
		t.Error("the second key is kept")
	}
	delivered(t, d, first, epoch)
}

func TestUselessFirstKeyIsNotReplacedByTheSecond(t *testing.T) {
	first, second := newEd25519(t, epoch), newEd25519(t, epoch)
	first.Subkeys = nil
	_, err := FromPGP(b64(append(public(t, first), public(t, second)...)), epoch)
	refused(t, err, errPGPNoTarget)
}

func TestGoodSubkeyBesideBadOnes(t *testing.T) {
	e := newEd25519(t, epoch.Add(-time.Hour))
	if err := e.AddEncryptionSubkey(at(epoch)); err != nil {
		t.Fatal(err)
	}
	if err := e.Subkeys[0].Revoke(packet.KeySuperseded, "", at(epoch)); err != nil {
		t.Fatal(err)
	}
	d, err := FromPGP(publicBase64(t, e), epoch.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	delivered(t, d, e, epoch.Add(time.Minute))
}

// T31: a key that can't encrypt is refused at the start.
func TestPGPKeysThatCannotReceive(t *testing.T) {
	early := epoch.Add(-48 * time.Hour)
	for name, c := range map[string]struct {
		key  func(t *testing.T) *openpgp.Entity
		want *fault.Error
	}{
		"sign-only": {func(t *testing.T) *openpgp.Entity {
			e := newEd25519(t, epoch)
			e.Subkeys = nil
			return e
		}, errPGPNoTarget},
		"sign-only RSA, which could encrypt": {func(t *testing.T) *openpgp.Entity {
			e := newKey(t, epoch, packet.Config{RSABits: 2048})
			e.Subkeys = nil
			return e
		}, errPGPNoTarget},
		"with a signing subkey only": {signingSubkey, errPGPNoTarget},
		"expired": {func(t *testing.T) *openpgp.Entity {
			return newKey(t, early, packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: 3600})
		}, errPGPExpired},
		"expired subkey": {expiredSubkey, errPGPExpired},
		"revoked": {func(t *testing.T) *openpgp.Entity {
			e := newEd25519(t, early)
			if err := e.Revoke(packet.KeyRetired, "", at(early.Add(time.Hour))); err != nil {
				t.Fatal(err)
			}
			return e
		}, errPGPRevoked},
		"revoked as compromised, dated later": {func(t *testing.T) *openpgp.Entity {
			e := newEd25519(t, early)
			if err := e.Revoke(packet.KeyCompromised, "", at(epoch.Add(time.Hour))); err != nil {
				t.Fatal(err)
			}
			return e
		}, errPGPRevoked},
		"revoked subkey": {func(t *testing.T) *openpgp.Entity {
			e := newEd25519(t, early)
			if err := e.Subkeys[0].Revoke(packet.KeySuperseded, "", at(early.Add(time.Hour))); err != nil {
				t.Fatal(err)
			}
			return e
		}, errPGPRevoked},
		"from the future":   {func(t *testing.T) *openpgp.Entity { return newEd25519(t, epoch.Add(time.Hour)) }, errPGPNoTarget},
		"RSA of 1024 bits":  {func(t *testing.T) *openpgp.Entity { return newKey(t, epoch, packet.Config{RSABits: 1024}) }, errPGPWeak},
		"someone's subkey":  {stolenSubkey, errPGPNoTarget},
		"unsigned identity": {unsignedIdentity, errPGPPackets},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := FromPGP(publicBase64(t, c.key(t)), epoch)
			refused(t, err, c.want)
			if d.Mode != "" || d.PGPKey != nil {
				t.Error("a delivery came with the refusal")
			}
			if !strings.HasPrefix(err.Error(), "error parsing PGP key: ") {
				t.Errorf("clients look for the beginning of the sentence, not: %v", err)
			}
		})
	}
}

func signingSubkey(t *testing.T) *openpgp.Entity {
	e := newEd25519(t, epoch)
	e.Subkeys = nil
	if err := e.AddSigningSubkey(&packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: at(epoch).Time}); err != nil {
		t.Fatal(err)
	}
	return e
}

func expiredSubkey(t *testing.T) *openpgp.Entity {
	early := epoch.Add(-48 * time.Hour)
	e := newEd25519(t, early)
	hour := uint32(3600)
	e.Subkeys[0].Bindings[0].Packet.KeyLifetimeSecs = &hour
	if err := e.Subkeys[0].ReSign(at(early)); err != nil {
		t.Fatal(err)
	}
	return e
}

// stolenSubkey is a key to which a stranger's subkey was glued: its binding is signed by another primary key, so
// what is encrypted to it would go to somebody else.
func stolenSubkey(t *testing.T) *openpgp.Entity {
	e, victim := newEd25519(t, epoch), newEd25519(t, epoch)
	e.Subkeys = victim.Subkeys
	return e
}

func unsignedIdentity(t *testing.T) *openpgp.Entity {
	e := newEd25519(t, epoch)
	for _, id := range e.Identities {
		id.SelfCertifications = nil
	}
	return e
}

func TestExpiryDuringTheAttempt(t *testing.T) {
	e := newKey(t, epoch, packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: 3600})
	d, err := FromPGP(publicBase64(t, e), epoch.Add(59*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	later := epoch.Add(3 * time.Hour)
	delivered(t, d, e, later)

	_, err = FromPGP(publicBase64(t, e), later)
	refused(t, err, errPGPExpired)
	d.Accepted = time.Time{}
	_, err = d.Encode([]byte(rootToken), later)
	refused(t, err, errPGPExpired)
}

func TestPGPTextsThatAreNoKey(t *testing.T) {
	good := public(t, newEd25519(t, epoch))
	for name, c := range map[string]struct {
		text []byte
		want *fault.Error
	}{
		"nothing":             {nil, errPGPBase64},
		"blank lines":         {[]byte("\n\r\n"), errPGPBase64},
		"a keybase name":      {[]byte("keybase:ada"), errPGPBase64},
		"hex":                 {[]byte(hex.EncodeToString(good) + "f"), errPGPBase64},
		"binary":              {good, errPGPBase64},
		"url-safe base64":     {[]byte("_-_-"), errPGPBase64},
		"unpadded base64":     {bytes.TrimRight(b64(good[:len(good)/3*3-1]), "="), errPGPBase64},
		"armored":             {armored(t, good), errPGPBase64},
		"base64 of armor":     {b64(armored(t, good)), errPGPArmor},
		"garbage":             {b64([]byte("this is no key at all")), errPGPPackets},
		"one byte":            {b64([]byte{0x99}), errPGPPackets},
		"zeros":               {b64(make([]byte, 1000)), errPGPPackets},
		"an SSH key":          {[]byte("AAAAC3NzaC1lZDI1NTE5AAAAIGZvb2JhcmZvb2JhcmZvb2JhcmZvb2JhcmZv"), errPGPPackets},
		"1 MB":                {b64(make([]byte, 1<<20)), errPGPSize},
		"1 MB of a good key":  {b64(append(good, make([]byte, 1<<20)...)), errPGPSize},
		"1 MB of line breaks": {append(b64(good), bytes.Repeat([]byte("\n"), 1<<20)...), errPGPSize},
		"one byte over 64 K":  {b64(make([]byte, MaxPGPKey+1)), errPGPSize},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := FromPGP(c.text, epoch)
			refused(t, err, c.want)
		})
	}
}

// An independent implementation makes the key and reads the message.
func TestGnuPGReadsOurMessages(t *testing.T) {
	gpg, err := exec.LookPath("gpg")
	if err != nil {
		t.Skip("NOT CHECKED against GnuPG, which isn't installed: install gpg to run this test")
	}
	home, err := os.MkdirTemp("", "q") // t.TempDir's path may be too long for the agent's socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	run := func(stdin []byte, args ...string) []byte {
		t.Helper()
		args = append([]string{"--homedir", home, "--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)
		cmd := exec.Command(gpg, args...)
		cmd.Stdin = bytes.NewReader(stdin)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("gpg %s: %v\n%s", strings.Join(args, " "), err, &stderr)
		}
		return out
	}
	for user, algo := range map[string][2]string{"rsa@example.org": {"rsa2048", "rsa2048"}, "ecc@example.org": {"ed25519", "cv25519"}} {
		run(nil, "--quick-generate-key", user, algo[0], "sign,cert", "never")
		fingerprint := gnupgFingerprint(t, run(nil, "--with-colons", "--list-keys", user))
		signOnly := run(nil, "--export", user)
		_, err := FromPGP(b64(signOnly), time.Now().Add(time.Second))
		refused(t, err, errPGPNoTarget)

		run(nil, "--quick-add-key", fingerprint, algo[1], "encr", "never")
		for what, key := range map[string][]byte{"public": run(nil, "--export", user), "secret": run(nil, "--export-secret-keys", user)} {
			d, err := FromPGP(b64(key), time.Now().Add(time.Second))
			if err != nil {
				t.Fatalf("%s key of %s: %v", what, user, err)
			}
			if d.Fingerprint != strings.ToLower(fingerprint) {
				t.Errorf("fingerprint %s, but GnuPG says %s", d.Fingerprint, fingerprint)
			}
			encoded, err := d.Encode([]byte(rootToken), time.Now().Add(time.Second))
			if err != nil {
				t.Fatal(err)
			}
			message, err := base64.StdEncoding.DecodeString(encoded)
			if err != nil {
				t.Fatal(err)
			}
			if got := run(message, "--decrypt"); string(got) != rootToken {
				t.Errorf("GnuPG decrypted %q", got)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(home, "pubring.kbx")); err != nil {
		t.Errorf("GnuPG used another home: %v", err)
	}
}

func gnupgFingerprint(t *testing.T, listing []byte) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^fpr:+([0-9A-F]{40}):`).FindSubmatch(listing)
	if m == nil {
		t.Fatalf("no fingerprint in:\n%s", listing)
	}
	return string(m[1])
}
