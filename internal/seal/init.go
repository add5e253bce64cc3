package seal

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
)

const maxName = 64 // bytes of the cluster's name

var (
	// ErrAlreadyInitialized refuses a second init.
	ErrAlreadyInitialized = fault.New(fault.Invalid, "Vault is already initialized")
	errOpenedBefore       = fault.New(fault.Invalid,
		"Vault is already initialized, and has been unsealed since: replace is possible only before the first unseal")
	errLeftovers = fault.New(fault.Unavailable,
		"the store is not empty, but its record of key holders is missing: restore it from a backup, or choose an empty store")
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

func (p *InitParams) check() error {
	if len(p.ClusterName) > maxName {
		return fault.Newf(fault.Invalid, "the cluster name can have at most %d bytes", maxName)
	}
	return p.generation().check()
}

func (p *InitParams) generation() GenerationParams {
	return GenerationParams{Shares: p.Shares, Threshold: p.Threshold, Labels: p.Labels}
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
	root := make([]byte, barrier.KeySize)
	if _, err := io.ReadFull(p.Rand, root); err != nil {
		clear(root)
		return nil, fmt.Errorf("random bytes for the root key: %w", err)
	}
	m := &made{root: secret.Own(root)}
	g, err := makeGeneration(p.Rand, id.String(), 1, p.generation())
	if err != nil {
		m.root.Wipe()
		return nil, err
	}
	m.result = &InitResult{ClusterID: id.String(), Shares: g.Shares}
	if err := g.made.wrap(m.root); err != nil {
		m.root.Wipe()
		g.Wipe()
		return nil, err
	}
	name := p.ClusterName
	if name == "" {
		name = "quorate-cluster-" + id.String()[:8]
	}
	m.record = &Record{
		ClusterID: id.String(), ClusterName: name, Created: p.Now,
		active: 1, next: 2, generations: []Generation{g.made},
	}
	return m, nil
}

// What the servers that run over a store leave in it for each other.
const (
	// PresencePrefix is where each of them says so, under its own ID: no part of a cluster.
	PresencePrefix = "plain/node/"
	// PresenceLife is for how long it counts as running after its last sign of life. Clocks may differ by a part of it.
	PresenceLife = 30 * time.Second
	// OrderKey holds random text that changes whenever the cluster is sealed: a server that was unsealed under another one
	// has no right to its keys any more.
	OrderKey = "plain/sealing"
)

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
		if !strings.HasPrefix(entry.Key, PresencePrefix) {
			keys = append(keys, strings.Clone(entry.Key))
		}
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
	if _, err := m.record.store(tx, macKey); err != nil {
		return err
	}
	if p.Fill == nil {
		return nil
	}
	return p.Fill(tx)
}
