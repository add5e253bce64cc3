package seal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/shamir"
	"github.com/quorate/quorate/internal/store"
)

const (
	labelWrapKey = "quorate/v1/root-key-wrapping"
	labelWrapped = "quorate/v1/wrapped-root-key"
	maxLabel     = 64 // bytes of a holder's label, or of the cluster's name
)

var (
	// ErrAlreadyInitialized refuses a second init.
	ErrAlreadyInitialized = fault.New(fault.Invalid, "Vault is already initialized")
	errOpenedBefore       = fault.New(fault.Invalid,
		"Vault is already initialized, and has been unsealed since: replace is possible only before the first unseal")
	errLeftovers = fault.New(fault.Unavailable,
		"the store is not empty, but its record of key holders is missing: restore it from a backup, or choose an empty store")
	errSelfCheck = errors.New("the shares just made do not give back the unseal key: nothing was stored; check this machine's memory and try again")
)

// InitParams says what cluster to make.
type InitParams struct {
	Shares, Threshold int
	ClusterName       string   // a name is made up where it is empty
	Labels            []string // of the holders, in slot order; none or one for each share
	// Replace throws away a cluster that was never unsealed, for when the reply of its init was lost.
	Replace bool
	Rand    io.Reader // crypto/rand where it is nil
	Now     time.Time
	// Fill writes the first records behind the barrier, in the same Update; may be nil. It may run more than once.
	Fill func(store.Tx) error
}

// InitResult is the only time that the shares exist in one place. Whoever gets it wipes them.
type InitResult struct {
	ClusterID string
	// Shares are in slot order, 33 bytes each; a single one is the unseal key itself, of 32 bytes.
	Shares []secret.Bytes
}

// Wipe overwrites the shares.
func (r *InitResult) Wipe() {
	for _, s := range r.Shares {
		s.Wipe()
	}
}

// Init makes a cluster in an empty store, in one Update. After an error that wraps store.ErrUnknownOutcome the
// cluster may exist although nobody has its shares: repeat with Replace.
func Init(ctx context.Context, st store.Store, p InitParams) (*InitResult, error) {
	if err := p.Possible(ctx, st); err != nil {
		return nil, err
	}
	if p.Rand == nil {
		p.Rand = rand.Reader
	}
	made, err := p.generate()
	if err != nil {
		return nil, err
	}
	defer made.root.Wipe()
	err = st.Update(ctx, func(tx store.Tx) error {
		if err := p.makeRoom(tx); err != nil {
			return err
		}
		return p.write(tx, made)
	})
	if err != nil {
		made.result.Wipe()
		return nil, err
	}
	return made.result, nil
}

// Possible says why Init would refuse, at the cost of one look: whoever asks in vain must not cause the work of init.
func (p *InitParams) Possible(ctx context.Context, st store.Store) error {
	if err := p.check(); err != nil {
		return err
	}
	return st.View(ctx, func(r store.Reader) error {
		_, err := p.room(r)
		return err
	})
}

// checkNumbers holds the rules for the numbers of a generation.
func checkNumbers(shares, threshold int) error {
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

func (p *InitParams) check() error {
	if err := checkNumbers(p.Shares, p.Threshold); err != nil {
		return err
	}
	if len(p.Labels) != 0 && len(p.Labels) != p.Shares {
		return fault.New(fault.Invalid, "give one label for each key share, or none")
	}
	for _, label := range append([]string{p.ClusterName}, p.Labels...) {
		if len(label) > maxLabel {
			return fault.Newf(fault.Invalid, "labels and the cluster name can have at most %d bytes", maxLabel)
		}
	}
	return nil
}

// made is everything random that init needs; it is made before the Update, which may run more than once.
type made struct {
	record *Record
	root   secret.Bytes
	result *InitResult
}

func (p *InitParams) generate() (*made, error) {
	id, err := uuid.NewRandomFromReader(p.Rand)
	if err != nil {
		return nil, fmt.Errorf("random bytes for the cluster ID: %w", err)
	}
	keys := make([]byte, 2*barrier.KeySize)
	root, unseal := keys[:barrier.KeySize:barrier.KeySize], keys[barrier.KeySize:]
	if _, err := io.ReadFull(p.Rand, keys); err != nil {
		clear(keys)
		return nil, fmt.Errorf("random bytes for the keys: %w", err)
	}
	defer clear(unseal)
	m := &made{root: secret.Own(root), result: &InitResult{ClusterID: id.String()}}
	m.result.Shares, err = splitKey(p.Rand, unseal, p.Shares, p.Threshold)
	if err != nil {
		m.root.Wipe()
		return nil, err
	}
	gen, err := newGeneration(1, p.Threshold, m.result, p.Labels)
	if err == nil {
		gen.wrapped, err = wrapRoot(unseal, m.root)
	}
	if err != nil {
		m.root.Wipe()
		m.result.Wipe()
		return nil, err
	}
	name := p.ClusterName
	if name == "" {
		name = "quorate-cluster-" + id.String()[:8]
	}
	m.record = &Record{
		ClusterID: id.String(), ClusterName: name, Created: p.Now,
		active: 1, next: 2, generations: []Generation{gen},
	}
	return m, nil
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

func newGeneration(number uint64, threshold int, r *InitResult, labels []string) (Generation, error) {
	g := Generation{Number: number, Threshold: threshold, Shares: len(r.Shares)}
	for i, share := range r.Shares {
		key := holder.Derive(share, r.ClusterID, number)
		h := Holder{Slot: i + 1, Verifier: key.Verifier()}
		key.Wipe()
		if len(labels) > 0 {
			h.Label = labels[i]
		}
		if slotOf(share) != h.Slot {
			return g, errSelfCheck
		}
		g.Holders = append(g.Holders, h)
	}
	return g, nil
}

// makeRoom refuses a store that holds anything, or empties it for a replacement.
func (p *InitParams) makeRoom(tx store.Tx) error {
	initialised, err := p.room(tx)
	if err != nil {
		return err
	}
	var keys []string
	for entry, err := range tx.Scan("", "") {
		if err != nil {
			return err
		}
		keys = append(keys, entry.Key)
	}
	if !initialised && len(keys) > 0 {
		return errLeftovers
	}
	for _, key := range keys {
		if err := tx.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

// room refuses where a cluster is in the way.
func (p *InitParams) room(r store.Reader) (initialised bool, err error) {
	values, err := r.Get(recordKey, openedKey)
	if err != nil {
		return false, err
	}
	initialised, opened := values[0] != nil, values[1] != nil
	switch {
	case initialised && !p.Replace:
		return true, ErrAlreadyInitialized
	case opened:
		return true, errOpenedBefore
	}
	return initialised, nil
}

func (p *InitParams) write(raw store.Tx, m *made) error {
	tx, err := barrier.Create(raw, m.root, p.Now)
	if err != nil {
		return err
	}
	macKey := barrier.Derive(m.root, labelMAC)
	defer macKey.Wipe()
	stored, err := m.record.encode(macKey)
	if err != nil {
		return err
	}
	if err := tx.Put(recordKey, stored); err != nil {
		return err
	}
	if err := tx.Put(copyKey, stored); err != nil {
		return err
	}
	if p.Fill == nil {
		return nil
	}
	return p.Fill(tx)
}

// wrapRoot seals the root key under the unseal key. It is bound to no number of the record: a damaged record must
// not make the right shares useless.
func wrapRoot(unseal []byte, root secret.Bytes) ([]byte, error) {
	aead, err := wrapAEAD(unseal)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, root.Reveal(), []byte(labelWrapped)), nil
}

// unwrapRoot reports false for whatever reason the wrapped key doesn't open.
func unwrapRoot(unseal, wrapped []byte) (root secret.Bytes, ok bool) {
	aead, err := wrapAEAD(unseal)
	if err != nil {
		return root, false
	}
	b, err := aead.Open(nil, nil, wrapped, []byte(labelWrapped))
	return secret.Own(b), err == nil && len(b) == barrier.KeySize
}

func wrapAEAD(unseal []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, unseal, nil, labelWrapKey, barrier.KeySize)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
