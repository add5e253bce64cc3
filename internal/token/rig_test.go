package token

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/anystore"
)

var epoch = time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)

// rig is a store with tokens in it, and a clock that only tests move.
type rig struct {
	t *testing.T
	*Tokens
	store store.Store
	clock time.Time
	root  *Entry
}

func newRig(t *testing.T) *rig { return newRigOn(t, anystore.New(t)) }

func newRigOn(t *testing.T, st store.Store) *rig {
	t.Helper()
	r := &rig{t: t, store: st, clock: epoch}
	r.Tokens = r.another()
	r.update(Seed)
	r.update(func(tx store.Tx) error {
		key, err := r.Key(tx, []byte("the-first-root-token"))
		if err == nil {
			r.root, err = r.CreateRoot(tx, key, RootOptions{})
		}
		return err
	})
	return r
}

// another is what a second node would have: it shares the store and nothing else.
func (r *rig) another() *Tokens {
	return New(Config{Now: func() time.Time { return r.clock }, Belongings: "cubbyhole/"})
}

func (r *rig) try(fn func(store.Tx) error) error { return r.store.Update(context.Background(), fn) }

func (r *rig) update(fn func(store.Tx) error) {
	r.t.Helper()
	if err := r.try(fn); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) view(fn func(store.Reader) error) {
	r.t.Helper()
	if err := r.store.View(context.Background(), fn); err != nil {
		r.t.Fatal(err)
	}
}

// made is a token as its owner knows it.
type made struct {
	*Entry
	id       []byte
	warnings []string
}

func (r *rig) create(parent *Entry, spec Spec) (m made, err error) {
	if spec.Path == "" {
		spec.Path = "auth/token/create"
	}
	spec.Sudo = spec.Sudo || slices.Contains(parent.Policies, "root")
	spec.Known = func(name string) bool { return name == "root" || name == "default" }
	err = r.try(func(tx store.Tx) error {
		id, e, warnings, err := r.Create(tx, parent, spec)
		m = made{e, id.Reveal(), warnings}
		return err
	})
	return m, err
}

func (r *rig) must(parent *Entry, spec Spec) made {
	r.t.Helper()
	m, err := r.create(parent, spec)
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// auth is Authenticate in a View of its own by any Tokens of the rig's store.
func (r *rig) auth(t *Tokens, id []byte) (e *Entry) {
	r.t.Helper()
	err := r.store.View(context.Background(), func(rd store.Reader) (err error) {
		e, err = t.Authenticate(rd, id)
		return err
	})
	if err != nil && !errors.Is(err, ErrDead) {
		r.t.Fatal(err)
	}
	if (e == nil) != (err != nil) {
		r.t.Fatalf("Authenticate: entry %v with error %v", e, err)
	}
	return e
}

func (r *rig) lives(m made) bool {
	r.t.Helper()
	return r.auth(r.Tokens, m.id) != nil
}

func (r *rig) wantLife(m made, want bool, what string) {
	r.t.Helper()
	if r.lives(m) != want {
		r.t.Errorf("%s: alive is %v, want %v", what, !want, want)
	}
}

func (r *rig) revoke(e *Entry) {
	r.t.Helper()
	r.update(func(tx store.Tx) error { return r.RevokeTree(tx, e) })
}

func (r *rig) revokeOrphan(e *Entry) {
	r.t.Helper()
	r.update(func(tx store.Tx) error { return r.RevokeOrphan(tx, e) })
}

func (r *rig) sweep() int {
	r.t.Helper()
	n, err := r.Sweep(context.Background(), r.store, r.clock)
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// dump is the whole store, through whatever it is wrapped in.
func (r *rig) dump() (all map[string]string) {
	r.t.Helper()
	r.view(func(rd store.Reader) error {
		all = map[string]string{}
		for entry, err := range rd.Scan("", "") {
			if err != nil {
				return err
			}
			all[entry.Key] = string(entry.Value)
		}
		return nil
	})
	return all
}

func (r *rig) keys(prefix string) (list []string) {
	r.t.Helper()
	for key := range r.dump() {
		if rest, ok := strings.CutPrefix(key, prefix); ok {
			list = append(list, rest)
		}
	}
	slices.Sort(list)
	return list
}

// checkSwept verifies what holds after a complete sweep: only live tokens, each with its accessor, its links and its
// ancestors, and nothing else at all.
func (r *rig) checkSwept() {
	r.t.Helper()
	want := map[string]bool{saltKey: true, barrier.StampKey: true}
	all := r.dump()
	byRID := map[string]*Entry{}
	for key, value := range all {
		if key, ok := strings.CutPrefix(key, idPrefix); ok {
			e, err := decode(key, []byte(value))
			if err != nil {
				r.t.Fatal(err)
			}
			byRID[e.RecordID] = e
		}
	}
	s := r.known.Load()
	for rid, e := range byRID {
		want[idPrefix+e.Key] = true
		ways := map[string]bool{accessorPrefix + s.accessorMAC(e.Accessor): true}
		if slices.Contains(e.Policies, "root") {
			ways[rootPrefix+rid] = true
		}
		if !e.NeverExpires {
			ways[leasePrefix+e.LeaseID()] = true
			ways[fmt.Sprintf("token/expiry/%020d/%s", e.Expires.Unix(), rid)] = true
		}
		if e.expired(r.clock) {
			r.t.Errorf("an expired token is left")
		}
		if len(e.Ancestors) > 0 {
			ways[childKey(e.Ancestors[0].RecordID, rid)] = true
		}
		for _, a := range e.Ancestors {
			if up := byRID[a.RecordID]; up == nil || up.Key != a.Key {
				r.t.Errorf("a token has an ancestor that is not there")
			}
		}
		for key := range ways {
			if want[key] = true; all[key] != e.Key {
				r.t.Errorf("a token is not found by %s", key)
			}
		}
	}
	for key := range all {
		rid, _, _ := strings.Cut(strings.TrimPrefix(key, "cubbyhole/"), "/")
		if !want[key] && byRID[rid] == nil && !strings.HasPrefix(key, rolePrefix) {
			r.t.Errorf("left behind: %s", key)
		}
	}
}

func wantFault(t *testing.T, err, want error, kind fault.Kind) {
	t.Helper()
	if want != nil && !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	} else if f := fault.As(err); f == nil || f.Kind != kind {
		t.Errorf("error %v is not a fault of kind %d", err, kind)
	}
}
