package delivery

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"golang.org/x/crypto/ssh"

	"github.com/quorate/quorate/internal/fault"
)

// pair is an age key: what is sent, and what reads.
type pair struct {
	recipient string
	identity  age.Identity
}

func newX25519(t testing.TB) pair {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return pair{id.Recipient().String(), id}
}

func newHybrid(t testing.TB) pair {
	t.Helper()
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return pair{id.Recipient().String(), id}
}

// authorized is the line of a .pub file, without a comment.
func authorized(t testing.TB, public any) string {
	t.Helper()
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

func newSSHEd25519(t testing.TB) pair {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := agessh.NewEd25519Identity(private)
	if err != nil {
		t.Fatal(err)
	}
	return pair{authorized(t, public), id}
}

func newSSHRSA(t testing.TB, bits int) pair {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	id, err := agessh.NewRSAIdentity(private)
	if err != nil {
		t.Fatal(err)
	}
	return pair{authorized(t, &private.PublicKey), id}
}

// sshLine is a public key as anybody can write one, of parts that need not fit.
func sshLine(kind string, parts ...[]byte) string {
	var blob []byte
	for _, part := range append([][]byte{[]byte(kind)}, parts...) {
		blob = append(binary.BigEndian.AppendUint32(blob, uint32(len(part))), part...)
	}
	return kind + " " + base64.StdEncoding.EncodeToString(blob)
}

// rsaLine has a modulus of that many bits whose factors nobody knows.
func rsaLine(bits int) string {
	return sshLine("ssh-rsa", []byte{1, 0, 1}, append([]byte{0}, bigNumber(bits).Bytes()...))
}

// opened reads an age file with one key.
func opened(file []byte, id age.Identity) (string, error) {
	r, err := age.Decrypt(bytes.NewReader(file), id)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(r)
	return string(b), err
}

func TestAgeRoundTrips(t *testing.T) {
	native, other, hybrid, hybrid2 := newX25519(t), newX25519(t), newHybrid(t), newHybrid(t)
	ed, rsa := newSSHEd25519(t), newSSHRSA(t, 2048)
	for name, to := range map[string][]pair{
		"X25519":       {native},
		"post-quantum": {hybrid},
		"two of these": {hybrid, hybrid2},
		"ssh-ed25519":  {ed},
		"ssh-rsa":      {rsa},
		"all classic":  {native, ed, rsa, other},
	} {
		t.Run(name, func(t *testing.T) {
			var list []string
			for _, p := range to {
				list = append(list, p.recipient)
			}
			d, err := FromAge(strings.Join(list, "\n"), epoch)
			if err != nil {
				t.Fatal(err)
			}
			if d.Mode != Age || !slices.Equal(d.AgeRecipients, list) || d.Accepted != epoch || d.PGPKey != nil || d.OTP != nil {
				t.Errorf("%#v to %q, want %q", d, d.AgeRecipients, list)
			}
			encoded, err := d.Encode([]byte(rootToken), epoch)
			if err != nil {
				t.Fatal(err)
			}
			file, err := base64.StdEncoding.Strict().DecodeString(encoded)
			if err != nil || bytes.Contains(file, []byte(rootToken)) {
				t.Fatalf("not padded standard base64, or in clear: %v", err)
			}
			again, err := d.Encrypt([]byte(rootToken), epoch)
			if err != nil || bytes.Equal(file, again) {
				t.Errorf("two files are the same, or %v", err)
			}
			for _, file := range [][]byte{file, again} {
				for i, p := range to {
					if got, err := opened(file, p.identity); err != nil || got != rootToken {
						t.Errorf("recipient %d reads %q, %v", i, got, err)
					}
				}
				if got, err := opened(file, newX25519(t).identity); err == nil {
					t.Errorf("a stranger reads %q", got)
				}
			}
		})
	}
}

// A list as people write it comes down to the keys in it.
func TestAgeSpellings(t *testing.T) {
	a, b, ed := newX25519(t).recipient, newX25519(t).recipient, newSSHEd25519(t).recipient
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"commas":               {a + "," + b, []string{a, b}},
		"spaces and tabs":      {"  " + a + " ,\t" + b + " ", []string{a, b}},
		"CRLF":                 {a + "\r\n" + b + "\r\n", []string{a, b}},
		"blank lines":          {"\n\n" + a + "\n \t\n" + b + "\n\n", []string{a, b}},
		"empty places":         {",," + a + ",", []string{a}},
		"comments":             {"# ada, 2026\n" + a + "\n  # " + b + ", not any more\n", []string{a}},
		"order stays":          {b + "," + a, []string{b, a}},
		"a line of a .pub":     {ed + " ada@example.org laptop", []string{ed}},
		"a tab in that line":   {strings.Replace(ed, " ", "\t", 1) + "\tada", []string{ed}},
		"a comment looks like": {ed + " " + a, []string{ed}},
	} {
		d, err := FromAge(c.text, epoch)
		if err != nil || !slices.Equal(d.AgeRecipients, c.want) {
			t.Errorf("%s: %q, %v, want %q", name, d.AgeRecipients, err, c.want)
		}
	}
}

func TestAgeRefuses(t *testing.T) {
	native, hybrid, ed := newX25519(t), newHybrid(t).recipient, newSSHEd25519(t).recipient
	a := native.recipient
	damaged := func(s string) string { // one character in its middle is another one
		i := len(s) / 2
		return s[:i] + string("qp"[map[bool]int{true: 1}[s[i] == 'q']]) + s[i+1:]
	}
	blob := strings.TrimPrefix(ed, "ssh-ed25519 ")
	lowOrder := make([]byte, 32)
	lowOrder[0] = 1                                                                               // the neutral point of Ed25519
	negative := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 8*257), bigNumber(2048)).Bytes() // of 2048 bits otherwise
	var many []string
	for range 17 {
		many = append(many, newX25519(t).recipient)
	}
	for name, c := range map[string]struct {
		text string
		want *fault.Error
	}{
		"nothing":                   {"", errAgeNone},
		"only comments":             {"# nobody\n\n, ,\n", errAgeNone},
		"17":                        {strings.Join(many, ","), errAgeMany},
		"64 KiB and a byte":         {strings.Repeat("\n", 64<<10) + "a", errAgeSize},
		"1 MB of one":               {strings.Repeat(a+"\n", 1<<14), errAgeSize},
		"a great many":              {strings.Repeat("a,", 32<<10), errAgeMany},
		"twice":                     {a + "\n" + a, errAgeTwice},
		"SSH twice, by two names":   {ed + " laptop\n" + ed + " desktop", errAgeTwice},
		"post-quantum and classic":  {hybrid + "," + a, errAgeMixed},
		"classic and post-quantum":  {a + "," + hybrid, errAgeMixed},
		"post-quantum and SSH":      {hybrid + "\n" + ed, errAgeMixed},
		"one bad among good":        {a + "\n" + damaged(many[0]), errAgeNative},
		"damaged":                   {damaged(a), errAgeNative},
		"damaged post-quantum":      {damaged(hybrid), errAgeNative},
		"cut":                       {a[:len(a)-1], errAgeNative},
		"cut post-quantum":          {hybrid[:100], errAgeNative},
		"upper case":                {strings.ToUpper(a), errAgeKind},
		"mixed case":                {"age1" + strings.ToUpper(a[4:]), errAgeNative},
		"a space in it":             {a[:20] + " " + a[20:], errAgeNative},
		"NUL in it":                 {a + "\x00", errAgeNative},
		"two on one line":           {a + " " + many[0], errAgePlugin},
		"only the beginning":        {"age1", errAgeNative},
		"beginning of post-quantum": {"age1pq1", errAgeNative},
		"a plugin":                  {"age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t", errAgePlugin},
		"a tag":                     {"age1tag1qt8lw0ual6avlwmwatk888yqnmdamm7xfd0wak53ut6elz5c4swx2yqdj4e", errAgePlugin},
		"a plugin's path":           {"age1../../bin/sh1qqqq", errAgePlugin},
		"a secret key":              {native.identity.(*age.X25519Identity).String(), errAgeSecret},
		"a secret key, lower case":  {strings.ToLower(native.identity.(*age.X25519Identity).String()), errAgeSecret},
		"a secret key after 17":     {strings.Join(many, ",") + "\nAGE-SECRET-KEY-PQ-1QQQ", errAgeSecret},
		"an SSH secret key":         {"-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----\n", errAgeSecret},
		"a name at GitHub":          {"github:ada", errAgeKind},
		"a file":                    {"/root/.ssh/id_ed25519.pub", errAgeKind},
		"an option":                 {"-R/etc/passwd", errAgeKind},
		"garbage":                   {"\xff\xfe\x00", errAgeKind},
		"a PGP key":                 {string(publicBase64(t, newEd25519(t, epoch))), errAgeKind},

		"SSH without a key":      {"ssh-ed25519", errAgeSSH},
		"SSH cut":                {ed[:len(ed)-8], errAgeSSH},
		"SSH not base64":         {"ssh-ed25519 AAAA!", errAgeSSH},
		"SSH without its type":   {blob, errAgeKind},
		"SSH of another type":    {"ssh-rsa " + blob, errAgeSSH},
		"SSH with options":       {`command="/bin/sh" ` + ed, errAgeKind},
		"SSH with more behind":   {sshLine("ssh-ed25519", make([]byte, 32), []byte("more")), errAgeSSH},
		"SSH of 31 bytes":        {sshLine("ssh-ed25519", make([]byte, 31)), errAgeSSH},
		"SSH not on the curve":   {sshLine("ssh-ed25519", append([]byte{2}, make([]byte, 31)...)), errAgeSSH},
		"SSH of low order":       {sshLine("ssh-ed25519", lowOrder), errAgeTrial},
		"ECDSA":                  {"ecdsa-sha2-nistp256 AAAA", errAgeKind},
		"a security key":         {"sk-ssh-ed25519@openssh.com AAAA", errAgeKind},
		"a certificate":          {"ssh-ed25519-cert-v01@openssh.com AAAA", errAgeKind},
		"DSA":                    {"ssh-dss AAAA", errAgeKind},
		"RSA of 1024 bits":       {rsaLine(1024), errAgeRSA},
		"RSA of 2047 bits":       {rsaLine(2047), errAgeRSA},
		"RSA of 8193 bits":       {rsaLine(8193), errAgeRSA},
		"RSA of 16384 bits":      {rsaLine(16384), errAgeRSA},
		"RSA of 100000 bits":     {rsaLine(100000), errAgeSSH},
		"RSA with a huge e":      {sshLine("ssh-rsa", bigNumber(2000).Bytes(), append([]byte{0}, bigNumber(2048).Bytes()...)), errAgeSSH},
		"RSA with an even e":     {sshLine("ssh-rsa", []byte{2}, append([]byte{0}, bigNumber(2048).Bytes()...)), errAgeSSH},
		"RSA with a negative n":  {sshLine("ssh-rsa", []byte{1, 0, 1}, negative), errAgeRSA},
		"RSA with an even n":     {sshLine("ssh-rsa", []byte{1, 0, 1}, new(big.Int).Lsh(big.NewInt(1), 2050).Bytes()), errAgeTrial},
		"X25519 of low order":    {lowOrderX25519, errAgeTrial},
		"X25519, a low one of 2": {a + "," + lowOrderX25519, errAgeTrial},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := FromAge(c.text, epoch)
			refused(t, err, c.want)
			if d.Mode != "" || d.AgeRecipients != nil {
				t.Error("a delivery came with the refusal")
			}
			if r, err := RecipientOf(Age, c.text); err == nil && c.want != errAgeTrial || r != "" && err != nil {
				t.Errorf("RecipientOf = %q, %v", r, err)
			}
		})
	}
}

// lowOrderX25519 is the recipient whose point is zero: everybody could compute what is shared with it.
const lowOrderX25519 = "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq5cu47z"

// As many and as large keys as are accepted at all: this is the most work that a stranger can ask for.
func TestHostileAgeListsCostLittle(t *testing.T) {
	var large, quantum []string
	for i := range maxAgeRecipients {
		e := []byte{0x7f, 0xff, byte(2*i + 1)}
		large = append(large, sshLine("ssh-rsa", e, append([]byte{0}, bigNumber(maxRSA).Bytes()...)))
		quantum = append(quantum, newHybrid(t).recipient)
	}
	for name, text := range map[string]string{
		"RSA":          strings.Join(large, "\n"),
		"post-quantum": strings.Join(quantum, "\n"),
		"one long":     "age1" + strings.Repeat("q", maxAgeText-4),
		"one long PQ":  "age1pq1" + strings.Repeat("q", maxAgeText-7),
		"one long SSH": "ssh-rsa " + strings.Repeat("A", maxAgeText-8),
		"long RSA":     rsaLine(350_000),
		"white space":  strings.Repeat(" \t", maxAgeText/2),
		"commas":       strings.Repeat(",", maxAgeText),
		"comments":     strings.Repeat("#\n", maxAgeText/2),
	} {
		if len(text) > maxAgeText {
			t.Errorf("%s: %d bytes, over the limit: the test is blind", name, len(text))
		}
		start := time.Now()
		_, err := FromAge(text, epoch)
		took := time.Since(start)
		t.Log(name, took)
		if took > 2*time.Second {
			t.Errorf("%s took %v", name, took)
		}
		if accepted := name == "RSA" || name == "post-quantum"; accepted != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeyAndRecipientOf(t *testing.T) {
	pgp, err := FromPGP(publicBase64(t, newEd25519(t, epoch)), epoch)
	if err != nil {
		t.Fatal(err)
	}
	big, err := FromPGP(publicBase64(t, newKey(t, epoch, packet.Config{Algorithm: packet.PubKeyAlgoEd25519, V6Keys: true})), epoch)
	if err != nil {
		t.Fatal(err)
	}
	a, b := newX25519(t).recipient, newSSHEd25519(t).recipient
	two, err := FromAge(a+","+b+" comment", epoch)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []Delivery{pgp, big, two} {
		want := d.Recipient(nil)
		if got, err := RecipientOf(d.Mode, d.Key()); err != nil || got != want {
			t.Errorf("RecipientOf(%s) = %q, %v, want %q", d.Mode, got, err, want)
		}
	}
	if pgp.Key() != base64.StdEncoding.EncodeToString(pgp.PGPKey) || two.Key() != a+"\n"+b {
		t.Errorf("keys %q and %q", pgp.Key(), two.Key())
	}
	sum := sha256.Sum256([]byte(a + "\n" + b))
	if want := "age:" + hex.EncodeToString(sum[:]); two.Recipient(testMAC) != want {
		t.Errorf("Recipient = %q, want %q", two.Recipient(testMAC), want)
	}
	swapped, err := FromAge(b+","+a, epoch)
	if err != nil || swapped.Recipient(nil) == two.Recipient(nil) {
		t.Errorf("another order is the same recipient, or %v", err)
	}
	for _, d := range []Delivery{mustOTP(t, strings.Repeat("o", OTPLength)), FromToken("x"), {}} {
		if d.Key() != "" {
			t.Errorf("%v has the key %q", d, d.Key())
		}
	}
}

func TestRecipientOfRefuses(t *testing.T) {
	e := newEd25519(t, epoch)
	key := string(publicBase64(t, e))
	kept := base64.StdEncoding.EncodeToString(mustPublicPart(t, public(t, e)))
	a := newX25519(t).recipient
	for name, c := range map[string]struct {
		mode Mode
		key  string
		want *fault.Error
	}{
		"an OTP":                {OTP, "", errKeyless},
		"a token":               {Token, "x", errKeyless},
		"no mode":               {"", a, errKeyless},
		"no PGP key":            {PGP, "", errPGPBase64},
		"no age key":            {Age, "", errAgeNone},
		"age as PGP":            {PGP, a, errPGPBase64},
		"PGP as age":            {Age, key, errAgeKind},
		"a secret PGP key":      {PGP, string(b64(private(t, e))), errKeyForm},
		"PGP with a line break": {PGP, kept + "\n", errKeyForm},
		"two PGP keys":          {PGP, string(b64(append(mustPublicPart(t, public(t, e)), public(t, newEd25519(t, epoch))...))), errKeyForm},
		"an age comment":        {Age, "# x\n" + a, errKeyForm},
		"an age comma":          {Age, a + ",", errKeyForm},
		"an age line end":       {Age, a + "\n", errKeyForm},
		"an SSH comment":        {Age, newSSHEd25519(t).recipient + " ada", errKeyForm},
	} {
		got, err := RecipientOf(c.mode, c.key)
		if got != "" {
			t.Errorf("%s: %q", name, got)
		}
		t.Run(name, func(t *testing.T) { refused(t, err, c.want) })
	}
	if got, err := RecipientOf(PGP, kept); err != nil || !strings.HasPrefix(got, "pgp:"+hex.EncodeToString(e.PrimaryKey.Fingerprint)+":") {
		t.Errorf("the kept form: %q, %v", got, err)
	}
}

func TestEncryptPGPDelivery(t *testing.T) {
	e := newEd25519(t, epoch)
	d, err := FromPGP(publicBase64(t, e), epoch)
	if err != nil {
		t.Fatal(err)
	}
	message, err := d.Encrypt([]byte("a share"), epoch)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decrypt(e, message); err != nil || got != "a share" {
		t.Errorf("decrypted %q, %v", got, err)
	}
	for _, d := range []Delivery{mustOTP(t, strings.Repeat("o", OTPLength)), FromToken("x"), {}, {Mode: Age}, {Mode: PGP}} {
		if message, err := d.Encrypt([]byte("a share"), epoch); err == nil || message != nil {
			t.Errorf("%v encrypts %q", d, message)
		}
	}
}

func TestAgeStoredFormAndPrint(t *testing.T) {
	p := newX25519(t)
	d, err := FromAge(p.recipient, epoch)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var back Delivery
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	file, err := back.Encrypt([]byte("late"), epoch.Add(100*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := opened(file, p.identity); err != nil || got != "late" {
		t.Errorf("what came back delivers %q, %v", got, err)
	}
	if got := fmt.Sprintf("%v %+v", d, &d); got != "delivery by age delivery by age" {
		t.Errorf("prints as %s", got)
	}
}

// FuzzFromAge: what is accepted is a bounded list in the one spelling, names one recipient for server and client, and
// can be encrypted to; what is refused is a fault that quotes nothing.
func FuzzFromAge(f *testing.F) {
	a, hybrid, ed := newX25519(f).recipient, newHybrid(f).recipient, newSSHEd25519(f).recipient
	for _, seed := range []string{
		"", a, hybrid, ed, rsaLine(2048), rsaLine(1024), a + "," + ed + " x\n#c\n", hybrid + "\n" + a, lowOrderX25519,
		"age1yubikey1qq", "AGE-SECRET-KEY-1Q", strings.ToUpper(a), "ssh-rsa AAAA", "\xff,\x00", "age1\u212a", "ssh-ed25519\u00a0AAAA",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := FromAge(text, epoch)
		if err != nil {
			if fl := fault.As(err); fl == nil || fl.Kind != fault.Invalid || d.AgeRecipients != nil {
				t.Fatalf("%v is no fault, or came with a delivery", err)
			}
			return
		}
		if n := len(d.AgeRecipients); n < 1 || n > maxAgeRecipients || len(text) > maxAgeText {
			t.Fatalf("%d recipients of %d bytes", n, len(text))
		}
		again, err := FromAge(d.Key(), epoch)
		if err != nil || !slices.Equal(again.AgeRecipients, d.AgeRecipients) {
			t.Fatalf("%q is read again as %q, %v", d.AgeRecipients, again.AgeRecipients, err)
		}
		if r, err := RecipientOf(Age, d.Key()); err != nil || r != d.Recipient(nil) {
			t.Fatalf("recipient %q, %v", r, err)
		}
		if _, err := d.Encode([]byte(rootToken), epoch); err != nil {
			t.Fatal(err)
		}
	})
}
