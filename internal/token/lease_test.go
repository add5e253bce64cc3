package token

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
)

func (r *rig) byLease(id string) (e *Entry) {
	r.t.Helper()
	r.view(func(rd store.Reader) (err error) {
		e, err = r.ByLease(rd, id)
		return err
	})
	return e
}

// loginAs makes a token of the login of this user.
func (r *rig) loginAs(name string) made {
	r.t.Helper()
	spec := aliceLogin(engine.TokenParams{})
	spec.Path = "auth/userpass/login/" + name
	m, err := r.tryLogin(spec)
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

func TestByLease(t *testing.T) {
	r := newRig(t)
	a, b := r.loginAs("alice"), r.loginAs("alice")
	child := r.must(a.Entry, Spec{TTL: time.Hour})
	for _, m := range []made{a, b, child} {
		if e := r.byLease(m.LeaseID()); e == nil || e.RecordID != m.RecordID {
			t.Errorf("%s leads to %+v", m.LeaseID(), e)
		}
	}
	for _, id := range []string{
		"", "/", "auth/userpass/login/alice", a.LeaseID()[:len(a.LeaseID())-1], a.LeaseID() + "0", "a\x00b", "\xff",
		strings.Repeat("x", 2000), strings.Replace(a.LeaseID(), "alice", "bob", 1), r.root.LeaseID(),
	} {
		if e := r.byLease(id); e != nil {
			t.Errorf("%q leads to %+v", id, e)
		}
	}
	if !strings.HasPrefix(a.LeaseID(), "auth/userpass/login/alice/h") || !strings.HasPrefix(child.LeaseID(), "auth/token/create/h") {
		t.Errorf("leases %s and %s", a.LeaseID(), child.LeaseID())
	}
	id := a.LeaseID()
	if _, err := r.renew(a.Entry, time.Hour); err != nil || a.LeaseID() != id {
		t.Errorf("renewal changed the lease ID, or %v", err)
	}
	r.revoke(a.Entry)
	if r.byLease(id) != nil || r.byLease(child.LeaseID()) != nil || r.byLease(b.LeaseID()) == nil {
		t.Error("revocation is not seen by lease")
	}
	r.clock = epoch.Add(day)
	if r.byLease(b.LeaseID()) != nil {
		t.Error("an expired token has a lease")
	}
	// An entry that leads to another token names nobody.
	r.clock = epoch
	c := r.loginAs("carol")
	r.put(leasePrefix+b.LeaseID(), c.Key)
	if r.byLease(b.LeaseID()) != nil {
		t.Error("a lease leads to a token that has another")
	}
}

func TestLeases(t *testing.T) {
	r := newRig(t)
	alice, alice2, bob := r.loginAs("alice"), r.loginAs("alice2"), r.loginAs("bob")
	r.must(r.root, Spec{Policies: []string{"default"}})
	list := func(prefix, after string, limit int) (names []string) {
		r.view(func(rd store.Reader) (err error) {
			names, err = r.Leases(rd, prefix, after, limit)
			return err
		})
		return names
	}
	for _, test := range []struct {
		prefix, after string
		limit         int
		want          []string
	}{
		{"", "", 0, []string{"auth/"}},
		{"auth", "", 0, []string{"token/", "userpass/"}},
		{"/auth/", "token/", 0, []string{"userpass/"}},
		{"auth/userpass/login/", "", 0, []string{"alice/", "alice2/", "bob/"}},
		{"auth/userpass/login", "", 2, []string{"alice/", "alice2/"}},
		{"auth/userpass/login/alice", "", 0, []string{alice.LeaseID()[len("auth/userpass/login/alice/"):]}},
		{"auth/userpass/log", "", 0, nil},
	} {
		if got := list(test.prefix, test.after, test.limit); !slices.Equal(got, test.want) {
			t.Errorf("below %q after %q: %q, want %q", test.prefix, test.after, got, test.want)
		}
	}
	r.view(func(rd store.Reader) error {
		counts, total, err := r.CountLeases(rd, func(path string) string { return strings.Join(strings.Split(path, "/")[:2], "/") })
		if want := map[string]int{"auth/token": 1, "auth/userpass": 3}; !maps.Equal(counts, want) || total != 4 {
			t.Errorf("counted %v, %d in all", counts, total)
		}
		return err
	})
	for _, test := range []struct {
		prefix string
		want   []made
	}{
		{"auth/userpass/login/alice", []made{alice}},
		{"/auth/userpass/", []made{alice, alice2, bob}},
		{"auth/user", nil},
		{bob.LeaseID(), []made{bob}},
		{bob.LeaseID()[:len(bob.LeaseID())-1], nil},
	} {
		var got, want []string
		for _, e := range r.leased(test.prefix, 2) {
			got = append(got, e.RecordID)
		}
		for _, m := range test.want {
			want = append(want, m.RecordID)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("below %q are %v, want %v", test.prefix, got, want)
		}
	}
	if got := r.leased("", 0); len(got) != 4 {
		t.Errorf("%d leases in all", len(got))
	}
}

// leased reads all pages.
func (r *rig) leased(prefix string, limit int) (all []*Entry) {
	r.t.Helper()
	r.view(func(rd store.Reader) error {
		all = nil
		for after := ""; ; {
			list, next, err := r.Leased(rd, prefix, after, limit)
			if err != nil || next == "" {
				all = append(all, list...)
				return err
			}
			if limit > 0 && len(list) > limit || next <= after {
				r.t.Fatalf("a page of %d, limit %d, %q after %q", len(list), limit, next, after)
			}
			all, after = append(all, list...), next
		}
	})
	return all
}

// TestLeasedWhileRevoking: pages go on where the last one ended, whatever died in between.
func TestLeasedWhileRevoking(t *testing.T) {
	r := newRig(t)
	for range 25 {
		r.loginAs("alice")
	}
	keep := r.loginAs("bob")
	for after := ""; ; {
		var list []*Entry
		r.update(func(tx store.Tx) (err error) {
			if list, after, err = r.Leased(tx, "auth/userpass/login/alice", after, 10); err != nil {
				return err
			}
			for _, e := range list {
				if err := r.RevokeTree(tx, e); err != nil {
					return err
				}
			}
			return nil
		})
		if after == "" {
			break
		}
	}
	if got := r.leased("auth/userpass", 10); len(got) != 1 || got[0].RecordID != keep.RecordID {
		t.Errorf("%d are left", len(got))
	}
	r.checkSwept()
}

// belong gives a token what goes with it.
func (r *rig) belong(e *Entry, n int) {
	r.t.Helper()
	r.update(func(tx store.Tx) error {
		for i := range n {
			if err := tx.Put(fmt.Sprintf("cubbyhole/%s/%d/x", e.RecordID, i), []byte("a secret")); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestBelongings: what belongs to a token goes with it, however it dies, and nothing else does.
func TestBelongings(t *testing.T) {
	for name, kill := range map[string]func(r *rig, e *Entry){
		"Revoked":  func(r *rig, e *Entry) { r.revoke(e) },
		"Orphaned": func(r *rig, e *Entry) { r.revokeOrphan(e) },
		"Expired":  func(r *rig, _ *Entry) { r.clock = epoch.Add(2 * time.Hour); r.sweep() },
		"Replaced": func(r *rig, e *Entry) {
			r.update(func(tx store.Tx) error {
				_, err := r.CreateRoot(tx, e.Key, RootOptions{})
				return err
			})
		},
		"UsedUp": func(r *rig, e *Entry) {
			r.update(func(tx store.Tx) error {
				if err := r.Use(tx, e); err != nil {
					return err
				}
				if n := len(r.below(tx, e)); n == 0 {
					t.Error("the last use found nothing")
				}
				return r.Finish(tx, e)
			})
		},
		"UsedUpWithoutFinish": func(r *rig, e *Entry) {
			r.update(func(tx store.Tx) error { return r.Use(tx, e) })
			r.sweep()
		},
	} {
		for _, n := range []int{1, belongingsNow - 1, belongingsNow, belongingsNow + 1, batch + belongingsNow, 2*batch + belongingsNow} {
			t.Run(fmt.Sprintf("%s/%d", name, n), func(t *testing.T) {
				r := newRig(t)
				other := r.must(r.root, Spec{})
				r.belong(other.Entry, 2)
				m := r.must(r.root, Spec{TTL: time.Hour, NumUses: 1})
				r.belong(m.Entry, n)
				kill(r, m.Entry)
				r.wantLife(m, name == "Replaced", "after its end")
				left := len(r.keys("cubbyhole/" + m.RecordID + "/"))
				if now := n < belongingsNow; now && left > 0 {
					t.Errorf("%d of %d are left at once", left, n)
				}
				r.sweep()
				r.checkSwept()
				if got := len(r.keys("cubbyhole/")); got != 2 {
					t.Errorf("%d entries are left, want the other token's 2", got)
				}
			})
		}
	}
}

// below is what belongs to a token.
func (r *rig) below(tx store.Reader, e *Entry) []store.Entry {
	r.t.Helper()
	list, err := collect(tx, "cubbyhole/"+e.RecordID+"/", "", 0)
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

// TestFinishNothing: Finish takes nothing from a token that goes on.
func TestFinishNothing(t *testing.T) {
	r := newRig(t)
	free, limited := r.must(r.root, Spec{}), r.must(r.root, Spec{NumUses: 2})
	r.belong(free.Entry, 3)
	r.belong(limited.Entry, 3)
	r.update(func(tx store.Tx) error {
		for _, m := range []made{free, limited} {
			if err := r.Use(tx, m.Entry); err != nil {
				return err
			}
			if err := r.Finish(tx, m.Entry); err != nil {
				return err
			}
		}
		return nil
	})
	if got := len(r.keys("cubbyhole/")); got != 6 {
		t.Errorf("%d of 6 are left", got)
	}
	r.sweep()
	r.checkSwept()
}

// TestTidy: what leads nowhere goes, and nothing else.
func TestTidy(t *testing.T) {
	r := newRig(t)
	alive, _ := forest(r, 2)
	alice := r.loginAs("alice")
	parent := r.must(r.root, Spec{TTL: day})
	child := r.must(parent.Entry, Spec{TTL: day})
	tidy := func() int {
		t.Helper()
		n, err := r.Tidy(context.Background(), r.store)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	r.clock = epoch.Add(time.Hour)
	if tidy() == 0 {
		t.Error("it swept nothing")
	}
	r.checkSwept()
	if n := tidy(); n != 0 {
		t.Errorf("it removed %d of nothing", n)
	}
	r.put(accessorPrefix+"00", "no-key")
	r.put(accessorPrefix+"01", alice.Key)
	r.put(rootPrefix+"an-old-rid", alice.Key)
	r.put(leasePrefix+"secret/data/a/h00", alice.Key)
	r.put(expiryPrefix+"99999999999999999999/rid", alice.Key)
	r.put(childKey("an-old-rid", alice.RecordID), alice.Key)
	r.put(childKey(child.RecordID, "another-old-rid"), "")
	if n := tidy(); n != 7 {
		t.Errorf("it removed %d of 7", n)
	}
	r.checkSwept()
	r.wantLives("tidied", alive, nil)
	r.wantLife(alice, true, "alice")

	// A record that is gone without its links: the link stays while the child hangs on it.
	r.update(func(tx store.Tx) error { return tx.Delete(idPrefix + parent.Key) })
	tidy()
	if got := r.keys(children(parent.RecordID)); len(got) != 1 {
		t.Errorf("links below the lost token: %v", got)
	}
}

// TestTidyBesideGraves: what is below a grave is cleared in an order of its own.
func TestTidyBesideGraves(t *testing.T) {
	r := newRig(t)
	r.put(childKey("lost", "below"), "")
	s := &snapshot{graves: map[string]grave{"cut": alone, "dead": withTree}}
	r.view(func(rd store.Reader) error {
		for link, want := range map[string]bool{
			childKey("cut", "a"): false, childKey("dead", "a"): false, childKey("none", "lost"): false, childKey("none", "a"): true,
		} {
			if got, err := s.needless(rd, link); err != nil || got != want {
				t.Errorf("%s is needless: %v, %v", link, got, err)
			}
		}
		return nil
	})
}

// TestSweepReadsWhatIsOver: however many tokens live on, a sweep reads none of them.
func TestSweepReadsWhatIsOver(t *testing.T) {
	reads := &tally{}
	r := newRigOn(t, &countedStore{inmem.New(), reads})
	for i := range 40 {
		r.must(r.root, Spec{Policies: []string{"default"}, TTL: time.Hour + time.Duration(i)*time.Second})
	}
	r.clock = epoch.Add(time.Hour - 1)
	reads.entries = 0
	if n := r.sweep(); n != 0 || reads.entries > 1 { // the first that isn't over
		t.Errorf("an idle sweep swept %d and scanned %d entries", n, reads.entries)
	}
	r.clock = epoch.Add(time.Hour + 2*time.Second)
	if n := r.sweep(); n != 3 {
		t.Errorf("swept %d of 3", n)
	}
	if reads.entries > 3*3 { // three, and what is looked for below each
		t.Errorf("a sweep of 3 scanned %d entries", reads.entries)
	}
	r.checkSwept()
}

// TestExpiryMoves: a renewal moves a token in the order in which a sweep looks.
func TestExpiryMoves(t *testing.T) {
	r := newRig(t)
	m := r.must(r.root, Spec{Policies: []string{"default"}, TTL: time.Hour})
	for _, ttl := range []time.Duration{2 * time.Hour, time.Hour, time.Hour, 3 * time.Hour} {
		if _, err := r.renew(m.Entry, ttl); err != nil {
			t.Fatal(err)
		}
		r.checkSwept()
	}
	r.clock = epoch.Add(2 * time.Hour)
	if n := r.sweep(); n != 0 {
		t.Error("swept by an expiry that was renewed")
	}
	r.clock = epoch.Add(3*time.Hour - 1)
	if n := r.sweep(); n != 0 {
		t.Error("swept before its instant")
	}
	r.clock = epoch.Add(3*time.Hour - 1)
	if _, err := r.renew(m.Entry, 2); err != nil {
		t.Fatal(err)
	}
	r.clock = epoch.Add(3 * time.Hour)
	if n := r.sweep(); n != 0 {
		t.Error("swept in its last second, but before its instant")
	}
	r.clock = epoch.Add(3*time.Hour + 1)
	if n := r.sweep(); n != 1 {
		t.Errorf("swept %d at its end", n)
	}
	r.checkSwept()
}
