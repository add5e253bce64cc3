package seal

import (
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/shamir"
)

// The root key is wrapped by HPKE (RFC 9180, with the hybrid KEM of draft-ietf-hpke-pq) to a key pair that the unseal
// key determines, so that whoever has the root key can wrap another one without any share.
const (
	labelKeyPair = "quorate/v1/unseal-key-pair"
	labelWrapped = "quorate/v1/wrapped-root-key"
)

var errSelfCheck = errors.New("the shares just made do not give back the unseal key: nothing was stored; check this machine's memory and try again")

// GenerationParams says what generation to make.
type GenerationParams struct {
	Shares, Threshold int
	Labels            []string // of the holders, in slot order; none or one for each share
}

// NewGeneration is a generation before it is stored, and the only time that its shares exist in one place.
type NewGeneration struct {
	Number uint64
	// Shares are in slot order, 33 bytes each; a single one is the unseal key itself, of 32 bytes.
	Shares []secret.Bytes

	cluster string
	made    Generation // without the wrapped root key
}

// Wipe overwrites the shares.
func (g *NewGeneration) Wipe() {
	for _, s := range g.Shares {
		s.Wipe()
	}
}

// MakeGeneration makes the generation that comes next in rec, for Opened.Prepare. It is the slow part, and writes
// nothing. Random bytes come from crypto/rand where random is nil. The caller wipes the result.
func MakeGeneration(random io.Reader, rec *Record, p GenerationParams) (*NewGeneration, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	if random == nil {
		random = rand.Reader
	}
	return makeGeneration(random, rec.ClusterID, rec.next, p)
}

// CheckNumbers holds the rules for the numbers of a generation; what breaks one is a fault.
func CheckNumbers(shares, threshold int) error {
	switch {
	case shares < 1:
		return fault.New(fault.Invalid, "the number of key shares must be at least 1: set secret_shares")
	case shares > MaxShares:
		return fault.Newf(fault.Invalid, "the number of key shares can be at most %d", MaxShares)
	case threshold < 1:
		return fault.New(fault.Invalid, "the threshold must be at least 1: set secret_threshold")
	case threshold > shares:
		return fault.New(fault.Invalid, "the threshold can't be larger than the number of key shares")
	case threshold == 1 && shares > 1:
		return fault.New(fault.Invalid, "a threshold of 1 is possible only with 1 key share: otherwise each share alone would be the whole key")
	}
	return nil
}

func (p GenerationParams) check() error {
	if err := CheckNumbers(p.Shares, p.Threshold); err != nil {
		return err
	}
	if len(p.Labels) == 0 {
		return nil
	}
	return checkLabels(p.Labels, p.Shares)
}

func checkLabels(labels []string, shares int) error {
	if len(labels) != shares {
		return fault.New(fault.Invalid, "give one label for each key share, or none")
	}
	for _, label := range labels {
		if err := ceremony.CheckLine(label); err != nil {
			return err
		}
	}
	return nil
}

func makeGeneration(random io.Reader, clusterID string, number uint64, p GenerationParams) (*NewGeneration, error) {
	unseal := make([]byte, barrier.KeySize)
	defer clear(unseal)
	if _, err := io.ReadFull(random, unseal); err != nil {
		return nil, fmt.Errorf("random bytes for the unseal key: %w", err)
	}
	pair, err := keyPair(unseal)
	if err != nil {
		return nil, err
	}
	g := &NewGeneration{
		Number: number, cluster: clusterID,
		made: Generation{Number: number, Threshold: p.Threshold, Shares: p.Shares, public: pair.PublicKey().Bytes()},
	}
	if g.Shares, err = splitKey(random, unseal, p.Shares, p.Threshold); err != nil {
		return nil, err
	}
	for i, share := range g.Shares {
		key := holder.Derive(share, clusterID, number)
		h := Holder{Slot: i + 1, Verifier: key.Verifier()}
		key.Wipe()
		if len(p.Labels) > 0 {
			h.Label = p.Labels[i]
		}
		if slotOf(share) != h.Slot {
			g.Wipe()
			return nil, errSelfCheck
		}
		g.made.Holders = append(g.made.Holders, h)
	}
	return g, nil
}

// splitKey makes the shares and tries them before anything depends on them.
func splitKey(random io.Reader, unseal []byte, n, threshold int) ([]secret.Bytes, error) {
	if n == 1 {
		return []secret.Bytes{secret.Copy(unseal)}, nil
	}
	parts, err := shamir.Split(random, unseal, n, threshold)
	if err != nil {
		return nil, err
	}
	shares := make([]secret.Bytes, n)
	for i, part := range parts {
		shares[i] = secret.Own(part)
	}
	back, err := shamir.Combine(parts[n-threshold:], threshold)
	if err == nil && subtle.ConstantTimeCompare(back, unseal) != 1 {
		err = errSelfCheck
	}
	clear(back)
	if err != nil {
		for _, s := range shares {
			s.Wipe()
		}
		return nil, err
	}
	return shares, nil
}

// wrap seals the root key to g's public key. It is bound to no number of the record: a damaged record must not make
// the right shares useless.
func (g *Generation) wrap(root secret.Bytes) error {
	public, err := hpke.MLKEM768X25519().NewPublicKey(g.public)
	if err == nil {
		g.wrapped, err = hpke.Seal(public, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(labelWrapped), root.Reveal())
	}
	if err != nil {
		return fmt.Errorf("wrapping the root key for generation %d: %w", g.Number, err)
	}
	return nil
}

// unwrapRoot reports false for whatever reason the wrapped key doesn't open.
func unwrapRoot(pair hpke.PrivateKey, wrapped []byte) (root secret.Bytes, ok bool) {
	b, err := hpke.Open(pair, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(labelWrapped), wrapped)
	return secret.Own(b), err == nil && len(b) == barrier.KeySize
}

// keyPair is the same for the same unseal key. The standard library can't wipe it.
func keyPair(unseal []byte) (hpke.PrivateKey, error) {
	seed, err := hkdf.Key(sha256.New, unseal, nil, labelKeyPair, barrier.KeySize)
	if err != nil {
		return nil, err
	}
	defer clear(seed)
	return hpke.MLKEM768X25519().DeriveKeyPair(seed)
}
