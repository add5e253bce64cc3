package delivery

import (
	"bytes"
	"crypto/rsa"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"

	"github.com/quorate/quorate/internal/fault"
)

// Bounds of a list of age recipients; a list of the longest ones stays below both.
const (
	maxAgeText       = 64 << 10 // bytes
	maxAgeRecipients = 16
)

var (
	errAgeSize   = ageFault("the list is larger than 64 KiB: send fewer recipients")
	errAgeNone   = ageFault("there is none: send at least one, as age-keygen -y prints it")
	errAgeMany   = ageFault("there are more than 16: send fewer")
	errAgeTwice  = ageFault("one of them is there twice: send each once")
	errAgeKind   = ageFault("one is of a kind that isn't accepted: send age1..., age1pq1..., ssh-ed25519 or ssh-rsa")
	errAgePlugin = ageFault("one needs a plugin, which is never run here: send a native one, age1... or age1pq1...")
	errAgeSecret = ageFault("one is a secret key, which should be replaced now that it was sent: send its public part, as age-keygen -y prints it")
	errAgeNative = ageFault("one is damaged: copy it whole, as age-keygen -y prints it")
	errAgeSSH    = ageFault("an SSH key is damaged: send the line of its .pub file")
	errAgeRSA    = ageFault("an RSA key is too small or too large: use one of 2048 to 8192 bits, or an ssh-ed25519 key")
	errAgeMixed  = ageFault("post-quantum and other ones can't be mixed, as the weakest would decide: send only age1pq1... or none")
	errAgeTrial  = ageFault("nothing can be encrypted to one of them: send another key")
)

func ageFault(reason string) *fault.Error {
	return fault.New(fault.Invalid, "error parsing age recipients: "+reason)
}

// FromAge is the delivery to the owners of 1 to 16 age keys, any of which reads the message alone. They are public
// keys as age -R reads them, separated by commas or line ends; blank lines and those that begin with # are skipped, and
// what follows an SSH key on its line is dropped. A list to which nothing can be encrypted at now is refused. Errors
// are faults.
func FromAge(recipients string, now time.Time) (Delivery, error) {
	list, keys, err := readAge(recipients)
	if err != nil {
		return Delivery{}, err
	}
	if _, err := encryptAge(keys, make([]byte, OTPLength)); err != nil {
		return Delivery{}, err
	}
	return Delivery{Mode: Age, AgeRecipients: list, Accepted: now}, nil
}

// readAge reads a list of recipients. Each text in list is the one spelling by which a recipient is kept, compared and
// hashed.
func readAge(recipients string) (list []string, keys []age.Recipient, err error) {
	if list, err = splitAge(recipients); err != nil {
		return nil, nil, err
	}
	hybrids := 0
	for i, text := range list {
		text, key, err := parseAge(text)
		if err != nil {
			return nil, nil, err
		}
		if slices.Contains(list[:i], text) {
			return nil, nil, errAgeTwice
		}
		if _, ok := key.(*age.HybridRecipient); ok {
			hybrids++
		}
		list[i], keys = text, append(keys, key)
	}
	if hybrids > 0 && hybrids < len(list) {
		return nil, nil, errAgeMixed
	}
	return list, keys, nil
}

// splitAge returns the recipients in text, unread, and bounds what is worked on further.
func splitAge(text string) (list []string, err error) {
	if len(text) > maxAgeText {
		return nil, errAgeSize
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		for piece := range strings.SplitSeq(line, ",") {
			if piece = strings.TrimSpace(piece); isSecretKey(piece) {
				return nil, errAgeSecret // first of all: nothing else matters then
			} else if piece != "" {
				list = append(list, piece)
			}
		}
	}
	switch {
	case len(list) == 0:
		return nil, errAgeNone
	case len(list) > maxAgeRecipients:
		return nil, errAgeMany
	}
	return list, nil
}

func isSecretKey(text string) bool {
	return strings.HasPrefix(strings.ToUpper(text), "AGE-SECRET-KEY-") || strings.Contains(text, "PRIVATE KEY-----")
}

// parseAge reads one recipient. The library's errors quote what was sent, so they go no further.
func parseAge(recipient string) (text string, key age.Recipient, err error) {
	fields := strings.Fields(recipient)
	switch {
	case fields[0] == ssh.KeyAlgoED25519, fields[0] == ssh.KeyAlgoRSA:
		return parseSSH(fields)
	case strings.HasPrefix(recipient, "age1pq1"):
		key, err := age.ParseHybridRecipient(recipient)
		if err != nil {
			return "", nil, errAgeNative
		}
		return key.String(), key, nil
	case !strings.HasPrefix(recipient, "age1"):
		return "", nil, errAgeKind
	case strings.Count(recipient, "1") > 1: // no encoded key has this digit in it: a plugin's name stands before it
		return "", nil, errAgePlugin
	}
	native, err := age.ParseX25519Recipient(recipient)
	if err != nil {
		return "", nil, errAgeNative
	}
	return native.String(), native, nil
}

// parseSSH reads the type and the key of a line, as a .pub file has it; options before them are not accepted.
func parseSSH(fields []string) (text string, r age.Recipient, err error) {
	if len(fields) < 2 {
		return "", nil, errAgeSSH
	}
	blob, err := base64.StdEncoding.Strict().DecodeString(fields[1])
	if err != nil {
		return "", nil, errAgeSSH
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil || key.Type() != fields[0] {
		return "", nil, errAgeSSH
	}
	if k, ok := key.(ssh.CryptoPublicKey).CryptoPublicKey().(*rsa.PublicKey); ok {
		if bits := k.N.BitLen(); k.N.Sign() < 0 || bits < minRSA || bits > maxRSA {
			return "", nil, errAgeRSA
		}
		r, err = agessh.NewRSARecipient(key)
	} else {
		r, err = agessh.NewEd25519Recipient(key)
	}
	if err != nil {
		return "", nil, errAgeSSH
	}
	return key.Type() + " " + base64.StdEncoding.EncodeToString(key.Marshal()), r, nil
}

// encryptAge returns a binary age file that the owner of each key can read.
func encryptAge(keys []age.Recipient, plaintext []byte) ([]byte, error) {
	var file bytes.Buffer
	w, err := age.Encrypt(&file, keys...)
	if err != nil {
		return nil, errAgeTrial
	}
	if _, err := w.Write(plaintext); err != nil {
		return nil, errAgeTrial
	}
	if err := w.Close(); err != nil {
		return nil, errAgeTrial
	}
	return file.Bytes(), nil
}
