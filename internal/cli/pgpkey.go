package cli

import (
	"bytes"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/delivery"
)

// maxKeyFile is more than any key that the server accepts takes in any encoding.
const maxKeyFile = 1 << 20

var (
	errNoPGPKey  = errors.New("no OpenPGP public key in it (gpg --export KEY writes one)")
	errSecretKey = errors.New("that is a private key, which must not leave its owner: export the public one (gpg --export KEY)")
)

// readPGPKey reads the public key in the named file, binary, base64 or armored, and returns it as base64 of the binary
// form. The name may begin with @.
func readPGPKey(name string) (string, error) {
	if strings.HasPrefix(name, "keybase:") {
		return "", errors.New("keys from keybase aren't fetched: export the key into a file")
	}
	b, err := readKeyFile(name)
	if err != nil {
		return "", err
	}
	key, err := binaryKey(b)
	if err != nil {
		return "", fmt.Errorf("%s: %w", strings.TrimPrefix(name, "@"), err)
	}
	return base64.StdEncoding.EncodeToString(key), nil
}

func readKeyFile(name string) ([]byte, error) {
	f, err := os.Open(strings.TrimPrefix(name, "@"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(b) > maxKeyFile {
		err = fmt.Errorf("%s is too large for a key", f.Name())
	}
	return b, err
}

// readAgeRecipients reads the public keys in the named file, as age -R does, and returns them one a line. A file that
// the server would refuse is refused here, and a private key doesn't leave this machine.
func readAgeRecipients(name string) (string, error) {
	b, err := readKeyFile(name)
	if err != nil {
		return "", err
	}
	defer clear(b)
	name = strings.TrimPrefix(name, "@")
	if bytes.Contains(bytes.ToUpper(b), []byte("AGE-SECRET-KEY-")) || bytes.Contains(b, []byte("PRIVATE KEY-----")) {
		return "", fmt.Errorf("%s holds a private key, which must not leave its owner: give the public one (age-keygen -y prints it)", name)
	}
	d, err := delivery.FromAge(string(b), time.Now())
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return strings.Join(d.AgeRecipients, "\n"), nil
}

// binaryKey undoes armor and base64, also base64 of armor, and checks that a public key comes out. Whether it can be
// encrypted to is for the server to try.
func binaryKey(b []byte) ([]byte, error) {
	for range 3 {
		switch b = bytes.TrimLeft(b, " \t\r\n"); {
		case len(b) == 0:
			return nil, errNoPGPKey
		case b[0] >= 0x80:
			return publicPacket(b)
		case bytes.Contains(b, []byte("-----BEGIN PGP")):
			block, err := armor.Decode(bytes.NewReader(b))
			if err != nil {
				return nil, errNoPGPKey
			}
			if b, err = io.ReadAll(block.Body); err != nil {
				return nil, errNoPGPKey
			}
		default:
			text := strings.Join(strings.Fields(string(b)), "")
			var err error
			if b, err = base64.StdEncoding.DecodeString(text); err != nil {
				return nil, errNoPGPKey
			}
		}
	}
	return nil, errNoPGPKey
}

// publicPacket looks at the tag of the first packet (RFC 9580, section 4.2): 6 is a public key, 5 a secret one.
func publicPacket(b []byte) ([]byte, error) {
	tag := b[0] >> 2 & 0x0f
	if b[0]&0x40 != 0 {
		tag = b[0] & 0x3f
	}
	switch tag {
	case 6:
		return b, nil
	case 5:
		return nil, errSecretKey
	}
	return nil, errNoPGPKey
}

// shareSpec is of shares to make: how many, to whom each is encrypted and who holds it, as the server takes them.
type shareSpec struct {
	shares, threshold    int
	pgpKeys, age, labels []string
}

// flags adds those of a command that makes shares; what is "new " where there are others.
func (r *shareSpec) flags(fs *flag.FlagSet, what string) {
	fs.IntVar(&r.shares, "key-shares", 5, "`NUMBER` of "+what+"shares, one per key holder")
	fs.IntVar(&r.shares, "n", 5, "short for -key-shares, `NUMBER`")
	fs.IntVar(&r.threshold, "key-threshold", 3, "`NUMBER` of "+what+"shares that unseal the server and approve its ceremonies")
	fs.IntVar(&r.threshold, "t", 3, "short for -key-threshold, `NUMBER`")
	fs.Func("pgp-keys", "`FILES` with one OpenPGP public key per "+what+"share, comma-separated; each share is encrypted to one", each(&r.pgpKeys, readPGPKey))
	fs.Func("age-recipients", "`FILES` with age public keys, one file per "+what+"share, comma-separated; each share is encrypted to all keys in one file", each(&r.age, readAgeRecipients))
	fs.Func("holders", "`NAMES` of the "+what+"key holders, one per share, comma-separated", each(&r.labels, holderLabel))
}

// check refuses lists that don't give one thing for each share.
func (r *shareSpec) check() error {
	switch {
	case len(r.pgpKeys) > 0 && len(r.age) > 0:
		return localf("-pgp-keys and -age-recipients exclude each other")
	case len(r.age) > 0 && len(r.age) != r.shares:
		return localf("-age-recipients names %d files for %d shares: one is needed for each", len(r.age), r.shares)
	case len(r.labels) > 0 && len(r.labels) != r.shares:
		return localf("-holders names %d for %d shares: one is needed for each", len(r.labels), r.shares)
	}
	return nil
}

func holderLabel(label string) (string, error) { return label, ceremony.CheckLine(label) }

// each is for a flag with a comma-separated value: what read makes of each part is appended to list.
func each(list *[]string, read func(string) (string, error)) func(string) error {
	return func(s string) error {
		for part := range strings.SplitSeq(s, ",") {
			v, err := read(strings.TrimSpace(part))
			if err != nil {
				return err
			}
			*list = append(*list, v)
		}
		return nil
	}
}
