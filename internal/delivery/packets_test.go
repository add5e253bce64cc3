package delivery

import (
	"bytes"
	"crypto/rsa"
	"encoding/binary"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/quorate/quorate/internal/fault"
)

func mustPublicPart(t testing.TB, b []byte) []byte {
	t.Helper()
	out, err := publicPart(b)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// tags lists the types of the packets in b.
func tags(t testing.TB, b []byte) []byte {
	t.Helper()
	var found []byte
	for len(b) > 0 {
		tag, _, rest, ok := nextPacket(b)
		if !ok {
			t.Fatalf("the packets break off after %d", found)
		}
		found, b = append(found, tag), rest
	}
	return found
}

// bigNumber is an odd number of exactly so many bits, and no prime is needed for what is refused by size.
func bigNumber(bits int) *big.Int {
	b := make([]byte, bits/8)
	rand.NewChaCha8([32]byte{3}).Read(b)
	n := new(big.Int).SetBytes(b)
	n.SetBit(n, bits-1, 1)
	return n.SetBit(n, 0, 1)
}

func serialized(t testing.TB, key *packet.PublicKey, subkey bool) []byte {
	t.Helper()
	key.IsSubkey = subkey
	var buf bytes.Buffer
	if err := key.Serialize(&buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func rsaKey(bits int) *packet.PublicKey {
	return packet.NewRSAPublicKey(epoch, &rsa.PublicKey{N: bigNumber(bits), E: 65537})
}

// rawKey is a public key packet's body with n big numbers, for algorithms that the tests make no key pair of.
func rawKey(algo byte, n int, number *big.Int) []byte {
	body := binary.BigEndian.AppendUint32([]byte{4}, uint32(epoch.Unix()))
	body = append(body, algo)
	for range n {
		body = binary.BigEndian.AppendUint16(body, uint16(number.BitLen()))
		body = append(body, number.Bytes()...)
	}
	return body
}

// withSubkey is a sound key whose only subkey is replaced by key, properly bound.
func withSubkey(t testing.TB, key *packet.PublicKey) []byte {
	t.Helper()
	e := newEd25519(t, epoch)
	key.IsSubkey = true
	e.Subkeys[0].PublicKey = key
	if err := e.Subkeys[0].Bindings[0].Packet.SignKey(key, e.PrivateKey, at(epoch)); err != nil {
		t.Fatal(err)
	}
	return publicBase64(t, e)
}

// selfSignature is a signature packet that claims to be by the key with that ID, and isn't.
func selfSignature(kind byte, keyID uint64, bits int) []byte {
	body := []byte{4, kind, 1, 8}   // version, type, RSA, SHA-256
	body = append(body, 0, 6, 5, 2) // hashed subpackets: the time
	body = binary.BigEndian.AppendUint32(body, uint32(epoch.Unix()))
	body = append(body, 0, 10, 9, 16) // the others: the issuer
	body = binary.BigEndian.AppendUint64(body, keyID)
	body = append(body, 0xab, 0xcd)                            // left bits of the hash
	body = binary.BigEndian.AppendUint16(body, uint16(bits-1)) // below the modulus
	n := bigNumber(bits)
	body = append(body, n.SetBit(n, bits-1, 0).FillBytes(make([]byte, bits/8))...)
	return framed(tagSignature, body)
}

func userID(name string) []byte { return framed(tagUserID, []byte(name)) }

func TestSieveKeepsAGoodKeyWhole(t *testing.T) {
	e := newEd25519(t, epoch)
	b := public(t, e)
	if got, want := tags(t, mustPublicPart(t, b)), tags(t, b); !bytes.Equal(got, want) {
		t.Errorf("kept %d of %d", got, want)
	}
	if once := mustPublicPart(t, b); !bytes.Equal(once, mustPublicPart(t, once)) {
		t.Error("the second pass changes the key")
	}
}

func TestSieveDropsWhatEncryptionDoesNotNeed(t *testing.T) {
	e, friend := newEd25519(t, epoch), newEd25519(t, epoch)
	want := mustPublicPart(t, public(t, e))
	for range 3 {
		if err := e.SignIdentity("Ada <ada@example.org>", friend, at(epoch)); err != nil {
			t.Fatal(err)
		}
	}
	b := public(t, e)
	if n := bytes.Count(tags(t, b), []byte{tagSignature}); n != 5 {
		t.Fatalf("%d signatures to begin with, want 5", n)
	}
	photo := framed(tagUserAttr, []byte{3, 1, 'x', 'y'})
	photo = append(photo, selfSignature(0x13, e.PrimaryKey.KeyId, 256)...)
	for _, extra := range [][]byte{photo, framed(tagMarker, []byte("PGP")), framed(tagTrust, []byte{1}), framed(tagPadding, make([]byte, 99))} {
		b = append(b, extra...)
	}
	if got := mustPublicPart(t, b); !bytes.Equal(got, want) {
		t.Errorf("kept %d, want %d", tags(t, got), tags(t, want))
	}
}

// T31: a 16k-bit key is refused, as the primary key and where a sound primary key vouches for it.
func TestOversizedRSA(t *testing.T) {
	for _, bits := range []int{8200, 16384, 65528} {
		_, err := FromPGP(b64(append(serialized(t, rsaKey(bits), false), userID("Eve")...)), epoch)
		refused(t, err, errPGPWeak)
		_, err = FromPGP(withSubkey(t, rsaKey(bits)), epoch)
		refused(t, err, errPGPNoTarget)
	}
}

// The same construction with a size that is accepted must pass, or the test above would prove nothing.
func TestLargestRSA(t *testing.T) {
	if _, err := FromPGP(withSubkey(t, rsaKey(maxRSA)), epoch); err != nil {
		t.Error(err)
	}
}

func TestUndersizedRSASubkey(t *testing.T) {
	for _, algo := range []packet.PublicKeyAlgorithm{packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSAEncryptOnly} {
		key := rsaKey(1024)
		key.PubKeyAlgo = algo
		_, err := FromPGP(withSubkey(t, key), epoch)
		refused(t, err, errPGPNoTarget)
	}
}

// The parameters of these algorithms are the sender's to choose: two numbers of 64k bits would cost minutes.
func TestDiscreteLogarithmsAreRefusedUnseen(t *testing.T) {
	huge := bigNumber(16384)
	signing := framed(tagPublicKey, rawKey(byte(packet.PubKeyAlgoDSA), 4, huge))
	_, err := FromPGP(b64(append(signing, userID("Eve")...)), epoch)
	refused(t, err, errPGPWeak)

	for name, number := range map[string]*big.Int{"of any size": huge, "of usual size": bigNumber(2048)} {
		elgamal := parsePublic(tagPublicSubkey, rawKey(byte(packet.PubKeyAlgoElGamal), 3, number))
		if elgamal == nil {
			t.Fatalf("%s: the library can't read the key that the test made", name)
		}
		_, err = FromPGP(withSubkey(t, elgamal), epoch)
		refused(t, err, errPGPNoTarget)
	}
}

// hostileKey is a key of the largest size with as many forged self-signatures as asked for.
func hostileKey(t testing.TB, signatures int) []byte {
	key := rsaKey(maxRSA)
	b := append(serialized(t, key, false), userID("Eve")...)
	for range signatures {
		b = append(b, selfSignature(0x13, key.KeyId, 256)...)
	}
	return b
}

func TestHostileKeysCostLittle(t *testing.T) {
	start := time.Now()
	_, err := FromPGP(b64(hostileKey(t, maxSignatures)), epoch)
	refused(t, err, errPGPNoTarget)
	if took := time.Since(start); took > 5*time.Second { // 0.1 s on an idle machine
		t.Errorf("one request kept the server busy for %v", took)
	}
	_, err = FromPGP(b64(hostileKey(t, maxSignatures+1)), epoch)
	refused(t, err, errPGPBusy)
}

func TestTooManySubkeys(t *testing.T) {
	e := newEd25519(t, epoch)
	b := public(t, e)
	sub := serialized(t, e.Subkeys[0].PublicKey, true)
	_, err := FromPGP(b64(append(slices.Clone(b), bytes.Repeat(sub, maxSubkeys-1)...)), epoch)
	if err != nil {
		t.Errorf("%d subkeys: %v", maxSubkeys, err)
	}
	_, err = FromPGP(b64(append(slices.Clone(b), bytes.Repeat(sub, maxSubkeys)...)), epoch)
	refused(t, err, errPGPBusy)
}

func TestForeignSignaturesDoNotCount(t *testing.T) {
	e := newEd25519(t, epoch)
	b := public(t, e)
	for range 2 * maxSignatures {
		b = append(b, selfSignature(0x10, 0xdeadbeef, 256)...)
	}
	if _, err := FromPGP(b64(b), epoch); err != nil {
		t.Errorf("a well-connected key is refused: %v", err)
	}
}

func TestMalformedPackets(t *testing.T) {
	good := public(t, newEd25519(t, epoch))
	key := serialized(t, rsaKey(2048), false)
	_, body, _, _ := nextPacket(key)
	oldStyle := func(kind byte, length ...byte) []byte {
		return append(append([]byte{0x80 | tagPublicKey<<2 | kind}, length...), body...)
	}
	for name, c := range map[string]struct {
		b    []byte
		want *fault.Error
	}{
		"no packet bit":                {append([]byte{0x19}, good...), errPGPPackets},
		"indeterminate length":         {oldStyle(3), errPGPPackets},
		"partial length":               {append([]byte{0xc0 | tagPublicKey, 0xe8}, body...), errPGPPackets},
		"old length breaks off":        {[]byte{0x80 | tagPublicKey<<2 | 2, 0, 0}, errPGPPackets},
		"new length breaks off":        {[]byte{0xc0 | tagPublicKey, 0xff, 0, 0}, errPGPPackets},
		"two-octet length breaks off":  {[]byte{0xc0 | tagPublicKey, 200}, errPGPPackets},
		"length of 4 GB":               {[]byte{0xc0 | tagPublicKey, 0xff, 0xff, 0xff, 0xff, 0xff, 4}, errPGPPackets},
		"indeterminate marker":         {append(slices.Clone(good), 0x80|tagMarker<<2|3, 0xc0|tagMarker, 0), errPGPPackets},
		"body breaks off":              {good[:len(good)-1], errPGPPackets},
		"ends after the key":           {key, errPGPPackets},
		"no key":                       {userID("Ada"), errPGPPackets},
		"user ID before the key":       {append(userID("Ada"), good...), errPGPPackets},
		"subkey before the key":        {append(framed(tagPublicSubkey, body), good...), errPGPPackets},
		"only markers":                 {framed(tagMarker, []byte("PGP")), errPGPPackets},
		"a message, not a key":         {framed(11, []byte("b\x00\x00\x00\x00\x00hello")), errPGPPackets},
		"compressed":                   {append(slices.Clone(good), framed(8, []byte{0})...), errPGPPackets},
		"encrypted data in between":    {append(slices.Clone(good), framed(18, []byte{1})...), errPGPPackets},
		"empty key":                    {framed(tagPublicKey, nil), errPGPPackets},
		"key of version 3":             {framed(tagPublicKey, append([]byte{3}, body[1:]...)), errPGPPackets},
		"unknown algorithm":            {framed(tagPublicKey, append(slices.Clone(body[:5]), 99)), errPGPPackets},
		"key without a number":         {framed(tagPublicKey, body[:6]), errPGPPackets},
		"encryption-only primary key":  {append(framed(tagPublicKey, append(append(slices.Clone(body[:5]), 2), body[6:]...)), userID("Eve")...), errPGPPackets},
		"garbage after a good key":     {append(slices.Clone(good), 0xff), errPGPPackets},
		"secret key packet of no kind": {framed(tagSecretKey, []byte{4, 0, 0, 0, 0}), errPGPPackets},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := FromPGP(b64(c.b), epoch)
			refused(t, err, c.want)
		})
	}
}

func TestPacketLengths(t *testing.T) {
	for _, size := range []int{0, 1, 191, 192, 8383, 8384, 60000} {
		body := bytes.Repeat([]byte{7}, size)
		forms := map[string][]byte{"five octets": {0xc0 | tagUserID, 0xff, 0, 0, byte(size >> 8), byte(size)}}
		forms["old, four octets"] = []byte{0x80 | tagUserID<<2 | 2, 0, 0, byte(size >> 8), byte(size)}
		forms["old, two octets"] = []byte{0x80 | tagUserID<<2 | 1, byte(size >> 8), byte(size)}
		switch {
		case size < 192:
			forms["one octet"] = []byte{0xc0 | tagUserID, byte(size)}
			forms["old, one octet"] = []byte{0x80 | tagUserID<<2, byte(size)}
		case size < 8384:
			forms["two octets"] = []byte{0xc0 | tagUserID, byte((size-192)>>8) + 192, byte(size - 192)}
		}
		for name, header := range forms {
			tag, got, rest, ok := nextPacket(append(append(header, body...), "rest"...))
			if !ok || tag != tagUserID || !bytes.Equal(got, body) || string(rest) != "rest" {
				t.Errorf("%d bytes, %s: type %d, %d bytes, rest %q, %v", size, name, tag, len(got), rest, ok)
			}
		}
	}
}

// TestWalkerAgreesWithTheLibrary reads keys with both: a packet that only one of them sees would be a way around
// the sieve.
func TestWalkerAgreesWithTheLibrary(t *testing.T) {
	for _, b := range [][]byte{public(t, newEd25519(t, epoch)), private(t, newEd25519(t, epoch)), public(t, newKey(t, epoch, packet.Config{RSABits: 2048}))} {
		var theirs []byte
		for r := packet.NewOpaqueReader(bytes.NewReader(b)); ; {
			p, err := r.Next()
			if err != nil {
				break
			}
			theirs = append(theirs, p.Tag)
		}
		if ours := tags(t, b); !bytes.Equal(ours, theirs) {
			t.Errorf("we see %d, the library %d", ours, theirs)
		}
	}
}

// FuzzPGPKey feeds binary keys: no panic, no hang, only faults; and what is accepted is public, stable under a
// second pass, and can be encrypted to.
func FuzzPGPKey(f *testing.F) {
	e := newEd25519(f, epoch)
	signOnly := newEd25519(f, epoch)
	signOnly.Subkeys = nil
	f.Add(public(f, e))
	f.Add(private(f, e))
	f.Add(public(f, signOnly))
	f.Add(append(public(f, signOnly), public(f, e)...))
	f.Add(public(f, newKey(f, epoch, packet.Config{Algorithm: packet.PubKeyAlgoEd25519, V6Keys: true})))
	f.Add(public(f, newKey(f, epoch, packet.Config{Algorithm: packet.PubKeyAlgoECDSA, Curve: packet.CurveNistP256})))
	f.Add(hostileKey(f, 3))
	f.Add(armored(f, public(f, e)))
	f.Add([]byte("garbage"))
	f.Add([]byte{0x99})
	f.Fuzz(func(t *testing.T, key []byte) {
		d, err := FromPGP(b64(key), epoch)
		if err != nil {
			if fault.As(err) == nil || fault.As(err).Kind != fault.Invalid || d.PGPKey != nil {
				t.Fatalf("a refusal that isn't one: %v", err)
			}
			return
		}
		for _, tag := range tags(t, d.PGPKey) {
			if !bytes.Contains([]byte{tagPublicKey, tagPublicSubkey, tagUserID, tagSignature}, []byte{tag}) {
				t.Fatalf("a packet of type %d is kept", tag)
			}
		}
		if again := mustPublicPart(t, d.PGPKey); !bytes.Equal(again, d.PGPKey) {
			t.Fatal("the second pass changes the key")
		}
		if _, err := openpgp.ReadEntity(packet.NewReader(bytes.NewReader(d.PGPKey))); err != nil {
			t.Fatal(err)
		}
		if encoded, err := d.Encode([]byte(rootToken), epoch); err != nil || encoded == "" {
			t.Fatalf("the trial passed, but the token can't be delivered: %v", err)
		}
	})
}

func BenchmarkFromPGP(b *testing.B) {
	for name, key := range map[string][]byte{
		"ed25519": publicBase64(b, newEd25519(b, epoch)),
		"rsa2048": publicBase64(b, newKey(b, epoch, packet.Config{RSABits: 2048})),
		"hostile": b64(hostileKey(b, maxSignatures)),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				_, _ = FromPGP(key, epoch)
			}
		})
	}
}
