package token

import (
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/bolt"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/store/storetest"
)

// makeRoot is what a ceremony does at its end.
func (r *rig) makeRoot(id string, o RootOptions) (m made) {
	r.t.Helper()
	r.update(func(tx store.Tx) error {
		key, err := r.Key(tx, []byte(id))
		if err == nil {
			m.Entry, err = r.CreateRoot(tx, key, o)
		}
		return err
	})
	m.id = []byte(id)
	return m
}

// roots is the record IDs of what Roots returns.
func (r *rig) roots() (rids []string) {
	r.t.Helper()
	r.view(func(rd store.Reader) error {
		list, err := r.Roots(rd)
		rids = nil
		for _, e := range list {
			rids = append(rids, e.RecordID)
		}
		return err
	})
	slices.Sort(rids)
	return rids
}

func (r *rig) wantRoots(what string, want ...*Entry) {
	r.t.Helper()
	var rids []string
	for _, e := range want {
		rids = append(rids, e.RecordID)
	}
	slices.Sort(rids)
	if got := r.roots(); !slices.Equal(got, rids) {
		r.t.Errorf("%s: %d root tokens, want %d: %v, want %v", what, len(got), len(rids), got, rids)
	}
}

func TestRootOptions(t *testing.T) {
	r := newRig(t)
	for name, c := range map[string]struct {
		o       RootOptions
		expires time.Time
	}{
		"forever":       {RootOptions{Ceremony: "init"}, time.Time{}},
		"negative TTL":  {RootOptions{TTL: -time.Hour}, time.Time{}},
		"an hour":       {RootOptions{TTL: time.Hour, Ceremony: "a-nonce"}, epoch.Add(time.Hour)},
		"a nanosecond":  {RootOptions{TTL: 1}, epoch.Add(1)},
		"over max_ttl":  {RootOptions{TTL: 2 * DefaultTTL}, epoch.Add(2 * DefaultTTL)},
		"longest there": {RootOptions{TTL: math.MaxInt64}, epoch.Add(math.MaxInt64)},
	} {
		t.Run(name, func(t *testing.T) {
			m := r.makeRoot("some-root-token-"+name, c.o)
			e := r.auth(r.Tokens, m.id)
			if e == nil {
				t.Fatal("dead at once")
			}
			if !reflect.DeepEqual(e, m.Entry) {
				t.Errorf("stored as\n%+v, returned as\n%+v", e, m.Entry)
			}
			if e.Ceremony != c.o.Ceremony || e.NeverExpires != c.expires.IsZero() || !e.Expires.Equal(c.expires) || e.Renewable {
				t.Errorf("made as %+v", e)
			}
			if want := max(0, c.o.TTL); e.TTL != want || e.CreationTTL != want || e.Remaining(epoch) != want {
				t.Errorf("ttl %v, creation ttl %v, %v left, want %v", e.TTL, e.CreationTTL, e.Remaining(epoch), want)
			}
			if !slices.Equal(e.Policies, []string{"root"}) || e.Path != "auth/token/root" || !e.Orphan {
				t.Errorf("made as %+v", e)
			}
		})
	}
}

// T35: a root token with a TTL is dead at its very second on a clock that stepped back and forward, the store reopened
// at each step; what a sweep took away stays away wherever the clock goes.
func TestRootTTLAcrossReopenAndClockSteps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	open := func() store.Store {
		t.Helper()
		st, err := bolt.Open(path, bolt.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	r := newRigOn(t, open())
	m := r.makeRoot("a-root-token-for-an-hour", RootOptions{TTL: time.Hour, Ceremony: "a-nonce"})
	child := r.must(m.Entry, Spec{TTL: 30 * 24 * time.Hour})
	for _, step := range []struct {
		at    time.Duration
		want  bool
		sweep bool
	}{
		{at: time.Hour - 1, want: true},
		{at: -100 * time.Hour, want: true, sweep: true},
		{at: time.Hour - 1, want: true, sweep: true},
		{at: time.Hour, want: false},
		{at: time.Hour + 1, want: false},
		{at: 10 * 365 * 24 * time.Hour, want: false},
		{at: time.Hour, want: false, sweep: true},
		{at: time.Hour - 1, want: false},
		{at: -100 * time.Hour, want: false},
	} {
		if err := r.store.Close(); err != nil {
			t.Fatal(err)
		}
		r.store, r.Tokens, r.clock = open(), r.another(), epoch.Add(step.at)
		r.wantLife(m, step.want, step.at.String())
		r.wantLife(child, step.want, step.at.String()+", its child")
		want := []*Entry{r.root}
		if step.want {
			want = append(want, m.Entry, child.Entry)
		}
		r.wantRoots(step.at.String(), want...)
		if step.sweep {
			r.sweep()
			r.checkSwept()
		}
	}
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRootTTLCannotBeRenewed(t *testing.T) {
	r := newRig(t)
	m := r.makeRoot("a-root-token-for-an-hour", RootOptions{TTL: time.Hour})
	for _, increment := range []time.Duration{0, 1, time.Hour, math.MaxInt64, -1} {
		if _, err := r.renew(m.Entry, increment); err != errNotRenewable {
			t.Errorf("increment %v: %v", increment, err)
		}
	}
	if e := r.auth(r.Tokens, m.id); !e.Expires.Equal(epoch.Add(time.Hour)) {
		t.Errorf("expires %v", e.Expires)
	}
	// Nor can it live on in a child that lives longer.
	_, err := r.create(m.Entry, Spec{})
	wantFault(t, err, errRootForever, fault.Invalid)
	child := r.must(m.Entry, Spec{TTL: 2 * time.Hour})
	r.clock = epoch.Add(time.Hour)
	r.wantLife(child, false, "child of an expired root token")
}

func TestRoots(t *testing.T) {
	r := newRig(t)
	r.wantRoots("at first", r.root)

	ceremonial := r.makeRoot("the-token-of-a-ceremony", RootOptions{TTL: time.Hour, Ceremony: "a-nonce"})
	child := r.must(r.root, Spec{TTL: 2 * time.Hour})
	grandchild := r.must(child.Entry, Spec{TTL: time.Hour})
	orphan := r.must(r.root, Spec{NoParent: true, TTL: 3 * time.Hour})
	once := r.must(r.root, Spec{NumUses: 1, TTL: 3 * time.Hour})
	r.must(r.root, Spec{Policies: []string{"default"}})
	r.must(r.root, Spec{Policies: []string{"rooted", "not-root"}})
	r.wantRoots("all kinds", r.root, ceremonial.Entry, child.Entry, grandchild.Entry, orphan.Entry, once.Entry)

	r.update(func(tx store.Tx) error { return r.Use(tx, once.Entry) })
	r.wantRoots("one used up", r.root, ceremonial.Entry, child.Entry, grandchild.Entry, orphan.Entry)
	r.clock = epoch.Add(time.Hour)
	r.wantRoots("two expired, not swept", r.root, child.Entry, orphan.Entry)
	if n := r.sweep(); n != 2 {
		t.Errorf("swept %d", n)
	}
	r.checkSwept()

	below := r.must(child.Entry, Spec{TTL: time.Hour})
	r.revoke(child.Entry)
	r.wantRoots("a tree revoked, not swept", r.root, orphan.Entry)
	if got := len(r.keys(rootPrefix)); got != 3 {
		t.Errorf("%d entries in the index, want the dead child's still", got)
	}
	r.sweep()
	r.checkSwept()
	if slices.Contains(r.keys(rootPrefix), below.RecordID) {
		t.Error("the sweep left a dead token in the index")
	}

	r.revokeOrphan(orphan.Entry)
	r.wantRoots("an orphan revoked", r.root)
	r.revoke(r.root)
	r.wantRoots("none left")
	r.sweep()
	r.checkSwept()
	if got := r.keys(rootPrefix); len(got) != 0 {
		t.Errorf("left in the index: %v", got)
	}
}

// TestRootsOfOneID: a ceremony that gives an ID anew leaves one token of it in the list, also when it runs twice.
func TestRootsOfOneID(t *testing.T) {
	r := newRigOn(t, storetest.Rerun(inmem.New()))
	const id = "the-same-id-every-time"
	for i := range 3 {
		m := r.makeRoot(id, RootOptions{Ceremony: "a-nonce"})
		r.wantRoots("given anew", r.root, m.Entry)
		if got := len(r.keys(rootPrefix)); got != 2 {
			t.Errorf("round %d: %d entries in the index", i, got)
		}
	}
	r.checkSwept()
}

// TestRootsTrustsNoIndex: entries that storage could hold, though nothing here writes them, name nobody.
func TestRootsTrustsNoIndex(t *testing.T) {
	r := newRig(t)
	plain := r.must(r.root, Spec{Policies: []string{"default"}})
	dead := r.must(r.root, Spec{TTL: time.Hour})
	r.revoke(dead.Entry)
	r.put(rootPrefix+"an-old-rid", r.root.Key)
	r.put(rootPrefix+dead.RecordID, dead.Key)
	r.put(rootPrefix+"no-key", "")
	r.put(rootPrefix+plain.RecordID, plain.Key)
	r.wantRoots("foreign entries", r.root)
}
