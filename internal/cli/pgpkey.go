package cli

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
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
	f, err := os.Open(strings.TrimPrefix(name, "@"))
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return "", err
	}
	if len(b) > maxKeyFile {
		return "", fmt.Errorf("%s is too large for a key", f.Name())
	}
	key, err := binaryKey(b)
	if err != nil {
		return "", fmt.Errorf("%s: %w", f.Name(), err)
	}
	return base64.StdEncoding.EncodeToString(key), nil
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
