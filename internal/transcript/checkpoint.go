package transcript

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/quorate/quorate/internal/secret"
)

// Origin names the log of a cluster: the first line of its checkpoints, and the name of the key that signs them.
func Origin(clusterID string) string { return "quorate/" + clusterID }

// Signer signs checkpoints with an Ed25519 key of the cluster.
type Signer struct {
	origin  string
	private secret.Bytes // an ed25519.PrivateKey
	key     string       // the verifier key
	hash    uint32       // of the key, as signed notes want it
	wiped   bool
}

// signerVersion begins the stored form: after it come the seed of the key and the cluster ID.
const signerVersion = 1

// NewSigner makes a key. What is to be stored behind the barrier is secret, and the caller's to wipe.
func NewSigner(clusterID string, rand io.Reader) (s *Signer, stored []byte, err error) {
	stored = make([]byte, 1+ed25519.SeedSize, 1+ed25519.SeedSize+len(clusterID))
	stored[0] = signerVersion
	if _, err := io.ReadFull(rand, stored[1:]); err != nil {
		return nil, nil, fmt.Errorf("making the key for checkpoints: %w", err)
	}
	stored = append(stored, clusterID...)
	s, err = LoadSigner(stored)
	return s, stored, err
}

// LoadSigner reads what NewSigner gave to store. The caller still owns, and should wipe, it.
func LoadSigner(stored []byte) (*Signer, error) {
	const start = 1 + ed25519.SeedSize
	if len(stored) <= start || stored[0] != signerVersion {
		return nil, errors.New("the stored key for checkpoints is damaged")
	}
	s := &Signer{origin: Origin(string(stored[start:]))}
	private := ed25519.NewKeyFromSeed(stored[1:start])
	s.private = secret.Own(private)
	var err error
	if s.key, err = note.NewEd25519VerifierKey(s.origin, private.Public().(ed25519.PublicKey)); err != nil {
		return nil, err
	}
	v, err := note.NewVerifier(s.key)
	if err != nil { // a name that can't stand in a note
		s.Wipe()
		return nil, fmt.Errorf("the key for checkpoints: %w", err)
	}
	s.hash = v.KeyHash()
	return s, nil
}

// VerifierKey is the public half as text, "<origin>+<hash>+<key>" as package note defines it: what clients pin.
func (s *Signer) VerifierKey() string { return s.key }

// ClusterID is that of the log.
func (s *Signer) ClusterID() string { return strings.TrimPrefix(s.origin, Origin("")) }

// Wipe overwrites the private half. Signing fails afterwards.
func (s *Signer) Wipe() {
	s.wiped = true
	s.private.Wipe()
}

// sign makes a checkpoint.
func (s *Signer) sign(h Head) ([]byte, error) {
	return note.Sign(&note.Note{Text: body(s.origin, h)}, noteSigner{s})
}

// noteSigner is a Signer as package note wants it, with a key that can be wiped.
type noteSigner struct{ s *Signer }

func (n noteSigner) Name() string    { return n.s.origin }
func (n noteSigner) KeyHash() uint32 { return n.s.hash }
func (n noteSigner) Sign(text []byte) ([]byte, error) {
	if n.s.wiped {
		return nil, errors.New("the key for checkpoints has been wiped")
	}
	return ed25519.Sign(n.s.private.Reveal(), text), nil
}

// body is what is signed: three lines, see c2sp.org/tlog-checkpoint.
func body(origin string, h Head) string { return fmt.Sprintf("%s\n%d\n%s\n", origin, h.Size, h.Root) }

// OpenCheckpoint returns the head in a checkpoint that the key has signed for its log. Other signatures, such as those
// of witnesses, and extension lines are not looked at.
func OpenCheckpoint(text []byte, verifierKey string) (Head, error) {
	v, err := note.NewVerifier(verifierKey)
	if err != nil {
		return Head{}, errors.New("the verifier key of the log is malformed: use the text that the server or an export gives")
	}
	n, err := note.Open(text, note.VerifierList(v))
	if err != nil {
		return Head{}, errors.New("the checkpoint is not signed by the key of this log")
	}
	origin, h, err := parseBody(n.Text)
	if err != nil {
		return Head{}, err
	}
	if origin != v.Name() {
		return Head{}, errors.New("the checkpoint is of another log")
	}
	return h, nil
}

func parseBody(text string) (origin string, h Head, err error) {
	malformed := errors.New("the signed note is not a checkpoint")
	lines := strings.Split(text, "\n")
	if len(lines) < 4 || lines[len(lines)-1] != "" {
		return "", h, malformed
	}
	for _, line := range lines[:len(lines)-1] {
		if line == "" {
			return "", h, malformed
		}
	}
	h.Size, err = strconv.ParseInt(lines[1], 10, 64)
	if err != nil || h.Size < 0 || h.Size > maxSize || strconv.FormatInt(h.Size, 10) != lines[1] {
		return "", h, malformed
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	// The decoder skips carriage returns: what doesn't encode to the same text again is another spelling.
	if err != nil || len(root) != tlog.HashSize || base64.StdEncoding.EncodeToString(root) != lines[2] {
		return "", h, malformed
	}
	h.Root = tlog.Hash(root)
	return lines[0], h, nil
}
