package token

import (
	"fmt"
	"math/rand"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/anystore"
	"github.com/quorate/quorate/internal/store/storetest"
)

// simple is one token of the reference: pointers and flags, no graves, no index, no memory.
type simple struct {
	made
	parent  *simple
	revoked bool
	expires time.Time // zero: never
	created time.Time
	ttl     time.Duration
	uses    int // left; -1: no limit
}

func (s *simple) alive(now time.Time) bool {
	return !s.revoked && s.uses != 0 && (s.expires.IsZero() || now.Before(s.expires)) && (s.parent == nil || s.parent.alive(now))
}

// model runs random operations on a rig and on the reference side by side.
type model struct {
	*rig
	rnd   *rand.Rand
	nodes []*Tokens
	all   []*simple
	names [][]byte // chosen IDs, used again and again
}

func (m *model) node() *Tokens { return m.nodes[m.rnd.Intn(len(m.nodes))] }

func (m *model) pick() *simple {
	// Prefer the young: the old are mostly dead.
	i := len(m.all) - 1 - m.rnd.Intn(min(len(m.all), 25))
	if m.rnd.Intn(8) == 0 {
		i = m.rnd.Intn(len(m.all))
	}
	return m.all[i]
}

// entry is what a request with s's ID has in hand, nil when the node refuses it. It must agree with the reference.
func (m *model) entry(s *simple, node *Tokens) *Entry {
	e := m.auth(node, s.id)
	if holder := m.holder(s.id); e != nil && holder == nil || e == nil && holder != nil {
		m.t.Fatalf("token %d: alive is %v, the reference says %v", m.index(s), e != nil, holder != nil)
	} else if e != nil {
		m.checkEntry(holder, e)
	}
	if !s.alive(m.clock) {
		return nil
	}
	return e
}

// holder is the live token that has an ID: names are used again.
func (m *model) holder(id []byte) *simple {
	for _, s := range m.all {
		if string(s.id) == string(id) && s.alive(m.clock) {
			return s
		}
	}
	return nil
}

func (m *model) index(s *simple) int {
	for i := range m.all {
		if m.all[i] == s {
			return i
		}
	}
	return -1
}

func (m *model) checkEntry(s *simple, e *Entry) {
	m.t.Helper()
	line := []string{s.RecordID}
	for up := s.parent; up != nil; up = up.parent {
		line = append(line, up.RecordID)
	}
	if fmt.Sprint(e.Lineage()) != fmt.Sprint(line) || e.Orphan != (s.parent == nil) {
		m.t.Fatalf("token %d: lineage %v, want %v", m.index(s), e.Lineage(), line)
	}
	if e.NeverExpires != s.expires.IsZero() || !e.NeverExpires && !e.Expires.Equal(s.expires) {
		m.t.Fatalf("token %d: expires %v, want %v", m.index(s), e.Expires, s.expires)
	}
	if e.Limited != (s.uses >= 0) || e.Limited && e.NumUses != s.uses {
		m.t.Fatalf("token %d: %d uses, want %d", m.index(s), e.NumUses, s.uses)
	}
}

func (m *model) step() string {
	s, node := m.pick(), m.node()
	switch n := m.rnd.Intn(100); {
	case n < 50:
		return m.stepCreate(s, node)
	case n < 60:
		return m.stepRenew(s, node)
	case n < 66:
		return m.stepRevoke(s, node, false)
	case n < 73:
		return m.stepRevoke(s, node, true)
	case n < 80:
		return m.stepUse(s, node)
	case n < 84:
		return m.stepRoot(node)
	case n < 94:
		m.clock = m.clock.Add(time.Duration(m.rnd.Intn(600)) * time.Second)
		return "time"
	}
	if _, err := node.Sweep(m.t.Context(), m.store, m.clock); err != nil {
		m.t.Fatal(err)
	}
	m.checkSwept()
	return "sweep"
}

func (m *model) stepCreate(s *simple, node *Tokens) string {
	e := m.entry(s, node)
	if e == nil {
		e = s.Entry // as it was; Create must notice
	}
	spec := Spec{Sudo: true, Path: "auth/token/create", Policies: []string{"root"}, TTL: time.Duration(1+m.rnd.Intn(3600)) * time.Second}
	if m.rnd.Intn(4) == 0 {
		spec.TTL = 0
	}
	if m.rnd.Intn(6) == 0 {
		spec.NumUses = 1 + m.rnd.Intn(3)
	}
	spec.NoParent = m.rnd.Intn(10) == 0
	if m.rnd.Intn(10) == 0 {
		spec.ID = m.names[m.rnd.Intn(len(m.names))]
	}
	depth := 1
	for up := s.parent; up != nil; up = up.parent {
		depth++
	}
	allowed := s.alive(m.clock) && s.uses < 0 && !(spec.TTL == 0 && !s.expires.IsZero()) &&
		(len(spec.ID) == 0 || m.holder(spec.ID) == nil) && (spec.NoParent || depth <= maxAncestors)
	child := &simple{parent: s, created: m.clock, ttl: spec.TTL, uses: -1}
	err := m.try(func(tx store.Tx) error {
		id, made, _, err := node.Create(tx, e, spec)
		child.Entry, child.id = made, id.Reveal()
		return err
	})
	if (err == nil) != allowed {
		m.t.Fatalf("creating below %d: %v, the reference says %v", m.index(s), err, allowed)
	}
	if err != nil {
		return "create refused"
	}
	if spec.NoParent {
		child.parent = nil
	}
	if spec.TTL > 0 {
		child.expires = m.clock.Add(spec.TTL)
	}
	if spec.NumUses > 0 {
		child.uses = spec.NumUses
	}
	m.all = append(m.all, child)
	return "create"
}

func (m *model) stepRenew(s *simple, node *Tokens) string {
	e := m.entry(s, node)
	if e == nil {
		e = s.Entry
	}
	increment := time.Duration(m.rnd.Intn(3600)) * time.Second
	err := m.try(func(tx store.Tx) error {
		_, err := node.Renew(tx, e, Renewal{Increment: increment})
		return err
	})
	if ok := s.alive(m.clock) && !s.expires.IsZero() && s.Ceremony == ""; (err == nil) != ok {
		m.t.Fatalf("renewing %d: %v, the reference says %v", m.index(s), err, ok)
	}
	if err != nil {
		return "renew refused"
	}
	if increment == 0 {
		increment = s.ttl
	}
	s.expires = m.clock.Add(increment)
	return "renew"
}

func (m *model) stepRevoke(s *simple, node *Tokens, orphan bool) string {
	if s == m.all[0] && m.rnd.Intn(20) > 0 {
		return "mercy" // or there would soon be nothing but dead tokens
	}
	e := m.entry(s, node)
	if e == nil {
		e = s.Entry
	}
	m.update(func(tx store.Tx) error {
		if orphan {
			return node.RevokeOrphan(tx, e)
		}
		return node.RevokeTree(tx, e)
	})
	if !s.alive(m.clock) {
		return "revoke of the dead"
	}
	s.revoked = true
	if orphan {
		for _, child := range m.all {
			if child.parent == s {
				child.parent = nil
			}
		}
	}
	return "revoke"
}

func (m *model) stepUse(s *simple, node *Tokens) string {
	if m.entry(s, node) == nil || s.uses < 0 {
		return "no use"
	}
	m.update(func(tx store.Tx) error {
		e, err := node.Authenticate(tx, s.id)
		if err != nil {
			return err
		}
		return node.Use(tx, e)
	})
	s.uses--
	return "use"
}

// stepRoot is the end of a root generation of seed 1: a new root token has the ID, its old owner's tree is dead.
func (m *model) stepRoot(node *Tokens) string {
	s := &simple{created: m.clock, uses: -1}
	if m.rnd.Intn(2) == 0 {
		s.ttl = time.Duration(1+m.rnd.Intn(3600)) * time.Second
		s.expires = m.clock.Add(s.ttl)
	}
	s.id = m.names[m.rnd.Intn(len(m.names))]
	m.update(func(tx store.Tx) error {
		key, err := node.Key(tx, s.id)
		if err == nil {
			s.Entry, err = node.CreateRoot(tx, key, RootOptions{TTL: s.ttl, Ceremony: "a-nonce"})
		}
		return err
	})
	for _, old := range m.all {
		if string(old.id) == string(s.id) {
			old.revoked = true
		}
	}
	m.all = append(m.all, s)
	return "root"
}

// checkAll compares every token, by every way to it, on every node.
func (m *model) checkAll() {
	m.t.Helper()
	live, mortal := 0, 0
	for _, s := range m.all {
		for _, node := range m.nodes {
			m.entry(s, node)
		}
		m.view(func(rd store.Reader) error {
			e, err := m.node().ByAccessor(rd, s.Accessor)
			if (e != nil) != s.alive(m.clock) {
				m.t.Fatalf("token %d by its accessor: %v, the reference says %v", m.index(s), e != nil, s.alive(m.clock))
			}
			return err
		})
		if s.alive(m.clock) {
			live++
			if !s.expires.IsZero() {
				mortal++
			}
		}
	}
	m.view(func(rd store.Reader) error {
		leases, _, err := m.node().Leased(rd, "auth", "", 0)
		if len(leases) != mortal || err != nil {
			m.t.Fatalf("%d leases, the reference has %d live tokens that expire (%v)", len(leases), mortal, err)
		}
		list, err := m.node().Accessors(rd, "", 0)
		if len(list) != live {
			m.t.Fatalf("%d accessors, the reference has %d live tokens", len(list), live)
		}
		if err != nil {
			return err
		}
		roots, err := m.node().Roots(rd)
		if len(roots) != live { // every token of the model is one
			m.t.Fatalf("%d root tokens, the reference has %d live ones", len(roots), live)
		}
		return err
	})
}

// TestModel compares random lives of token trees with a reference that is too simple to be wrong, also on a store that
// runs each Update's function twice.
func TestModel(t *testing.T) {
	seed := time.Now().UnixNano()
	for i := range int64(8) {
		t.Run(fmt.Sprintf("Seed%d", seed+i), func(t *testing.T) {
			st := anystore.New(t)
			if i%2 == 1 {
				st = storetest.Rerun(st)
			}
			r := newRigOn(t, st)
			m := &model{rig: r, rnd: rand.New(rand.NewSource(seed + i))}
			m.nodes = []*Tokens{r.Tokens, r.another(), r.another()}
			m.all = []*simple{{made: made{Entry: r.root, id: []byte("the-first-root-token")}, uses: -1, created: epoch}}
			for n := range 4 {
				m.names = append(m.names, fmt.Appendf(nil, "a-name-for-many-lives-%d", n))
			}
			did := map[string]int{}
			for n := range 400 {
				did[m.step()]++
				if n%40 == 39 {
					m.checkAll()
				}
			}
			m.checkAll()
			if _, err := m.Sweep(t.Context(), m.store, m.clock); err != nil {
				t.Fatal(err)
			}
			m.checkAll()
			m.checkSwept()
			t.Log(did)
		})
	}
}
