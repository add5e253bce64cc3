package token

import (
	"reflect"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

func (r *rig) renew(e *Entry, increment time.Duration) (warnings []string, err error) {
	err = r.try(func(tx store.Tx) (err error) {
		warnings, err = r.Renew(tx, e, Renewal{Increment: increment})
		return err
	})
	return warnings, err
}

// TestRenew: wire reference 5.4.
func TestRenew(t *testing.T) {
	day := 24 * time.Hour
	for _, test := range []struct {
		name      string
		spec      Spec
		after     time.Duration // when it is renewed
		increment time.Duration
		want      time.Duration // new TTL
		warnings  int
	}{
		{"ByItsOwnTTL", Spec{TTL: time.Hour}, 30 * time.Minute, 0, time.Hour, 0},
		{"Longer", Spec{TTL: time.Hour}, 30 * time.Minute, 5 * time.Hour, 5 * time.Hour, 0},
		{"Shorter", Spec{TTL: time.Hour}, 0, time.Minute, time.Minute, 0},
		{"ToTheMaximum", Spec{TTL: 767 * time.Hour}, 700 * time.Hour, 0, 68 * time.Hour, 1},
		{"HugeIncrement", Spec{TTL: time.Hour}, time.Minute, 1<<63 - 1, 768*time.Hour - time.Minute, 1},
		{"ToTheExplicitMaximum", Spec{TTL: day, ExplicitMaxTTL: 30 * time.Hour}, 23 * time.Hour, 0, 7 * time.Hour, 1},
		{"Periodic", Spec{Period: day}, 23 * time.Hour, 0, day, 0},
		{"PeriodicIgnoresIncrement", Spec{Period: day}, 23 * time.Hour, time.Minute, day, 0},
		{"PeriodicToTheExplicitMaximum", Spec{Period: day, ExplicitMaxTTL: 30 * time.Hour}, 23 * time.Hour, 0, 7 * time.Hour, 1},
		{"RootThatExpires", Spec{Policies: []string{"root"}, TTL: time.Hour}, time.Minute, 0, time.Hour, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			if test.spec.Policies == nil {
				test.spec.Policies = []string{"default"}
			}
			m := r.must(r.root, test.spec)
			r.clock = epoch.Add(test.after)
			warnings, err := r.renew(m.Entry, test.increment)
			if err != nil {
				t.Fatal(err)
			}
			e := r.auth(r.Tokens, m.id)
			if e.TTL != test.want || !e.Expires.Equal(r.clock.Add(test.want)) || len(warnings) != test.warnings {
				t.Errorf("ttl %v, expires %v, warnings %q; want %v", e.TTL, e.Expires, warnings, test.want)
			}
			if !e.LastRenewal.Equal(r.clock) || e.CreationTTL != m.CreationTTL || !e.Created.Equal(epoch) {
				t.Errorf("last renewal %v, creation ttl %v", e.LastRenewal, e.CreationTTL)
			}
			if !reflect.DeepEqual(e, m.Entry) {
				t.Errorf("Renew left the entry as\n%+v, stored is\n%+v", m.Entry, e)
			}
			r.clock = e.Expires.Add(-1)
			r.wantLife(m, true, "just before its end")
			r.clock = e.Expires
			r.wantLife(m, false, "at its end")
		})
	}
}

// TestPeriodicForever: without an explicit maximum a periodic token lives as long as it is renewed.
func TestPeriodicForever(t *testing.T) {
	r := newRig(t)
	m := r.must(r.root, Spec{Policies: []string{"default"}, Period: 24 * time.Hour})
	for range 400 {
		r.clock = r.clock.Add(24*time.Hour - 1)
		if _, err := r.renew(m.Entry, 0); err != nil {
			t.Fatal(err)
		}
	}
	r.clock = r.clock.Add(24 * time.Hour)
	r.wantLife(m, false, "not renewed for a period")
}

// TestPeriodicToItsOwnEnd: an explicit maximum over the server's counts for a periodic token.
func TestPeriodicToItsOwnEnd(t *testing.T) {
	r := newRig(t)
	m := r.must(r.root, Spec{Policies: []string{"default"}, Period: 24 * time.Hour, ExplicitMaxTTL: 1000 * time.Hour})
	for r.clock.Before(epoch.Add(990 * time.Hour)) {
		r.clock = r.clock.Add(18 * time.Hour)
		if _, err := r.renew(m.Entry, 0); err != nil {
			t.Fatal(err)
		}
	}
	if want := epoch.Add(1000 * time.Hour); !m.Expires.Equal(want) {
		t.Errorf("expires %v, want %v", m.Expires, want)
	}
}

func TestRenewRefuses(t *testing.T) {
	r := newRig(t)
	def := []string{"default"}
	if _, err := r.renew(r.root, time.Hour); err != errNoLease {
		t.Errorf("a token that never expires: %v", err)
	}
	fixed := r.must(r.root, Spec{Policies: def, TTL: time.Hour, NotRenewable: true})
	if _, err := r.renew(fixed.Entry, 0); err != errNotRenewable {
		t.Errorf("not renewable: %v", err)
	}
	m := r.must(r.root, Spec{Policies: def, TTL: time.Hour})
	before := *m.Entry
	_, err := r.renew(m.Entry, -time.Hour)
	wantFault(t, err, errIncrement, fault.Invalid)
	if !reflect.DeepEqual(before, *m.Entry) {
		t.Error("a refusal changed the entry")
	}

	// A renewal that comes too late brings nothing back, however old the entry in hand is.
	r.clock = m.Expires
	_, err = r.renew(m.Entry, time.Hour)
	wantFault(t, err, ErrDead, fault.Denied)
	r.wantLife(m, false, "after the late renewal")

	revoked := r.must(r.root, Spec{Policies: def})
	r.revoke(revoked.Entry)
	_, err = r.renew(revoked.Entry, 0)
	wantFault(t, err, ErrDead, fault.Denied)
	r.wantLife(revoked, false, "revoked, then renewed")

	// A maximum that was lowered since.
	old := r.must(r.root, Spec{Policies: def})
	r.clock = r.clock.Add(2 * time.Hour)
	r.Tokens = New(Config{MaxTTL: time.Hour, Now: func() time.Time { return r.clock }})
	_, err = r.renew(old.Entry, 0)
	wantFault(t, err, errPastMax, fault.Invalid)
}

// TestRenewTouchesNothingElse: what happened to the token since the entry was read is kept.
func TestRenewTouchesNothingElse(t *testing.T) {
	r := newRig(t)
	m := r.must(r.root, Spec{Policies: []string{"default"}, TTL: time.Hour, NumUses: 3})
	stale := *m.Entry
	r.update(func(tx store.Tx) error { return r.Use(tx, m.Entry) })
	if _, err := r.renew(&stale, 0); err != nil {
		t.Fatal(err)
	}
	if e := r.auth(r.Tokens, m.id); e.NumUses != 2 || stale.NumUses != 2 {
		t.Errorf("a renewal gave a use back: %d left", e.NumUses)
	}
}

// TestEndOfLifetime: a token is dead at its very second, on every way to it.
func TestEndOfLifetime(t *testing.T) {
	r := newRig(t)
	m := r.must(r.root, Spec{TTL: time.Second})
	for _, step := range []struct {
		at   time.Duration
		want bool
	}{{0, true}, {time.Second - 1, true}, {time.Second, false}, {time.Second + 1, false}, {time.Hour, false}} {
		r.clock = epoch.Add(step.at)
		r.wantLife(m, step.want, step.at.String())
		r.view(func(rd store.Reader) error {
			byKey, err := r.ByKey(rd, m.Key)
			if err != nil {
				return err
			}
			byAccessor, err := r.ByAccessor(rd, m.Accessor)
			if (byKey != nil) != step.want || (byAccessor != nil) != step.want {
				t.Errorf("%v: by key %v, by accessor %v", step.at, byKey != nil, byAccessor != nil)
			}
			list, err2 := r.Accessors(rd, "", 0)
			if want := map[bool]int{true: 2, false: 1}[step.want]; len(list) != want || err2 != nil {
				t.Errorf("%v: %d accessors, %v", step.at, len(list), err2)
			}
			return err
		})
	}
}

// TestParentExpires: a child is dead at the very second of any ancestor, swept or not, and lives with a renewed one.
func TestParentExpires(t *testing.T) {
	r := newRig(t)
	parent := r.must(r.root, Spec{Policies: []string{"default"}, TTL: time.Minute})
	child := r.must(parent.Entry, Spec{TTL: time.Hour})
	grandchild := r.must(child.Entry, Spec{TTL: 2 * time.Hour})
	r.clock = epoch.Add(time.Minute - 1)
	r.wantLife(grandchild, true, "before the parent's end")
	if _, err := r.renew(parent.Entry, time.Minute); err != nil {
		t.Fatal(err)
	}
	r.clock = epoch.Add(time.Minute)
	r.wantLife(grandchild, true, "after the first end of the renewed parent")
	r.clock = parent.Expires
	r.wantLife(child, false, "child at the parent's end")
	r.wantLife(grandchild, false, "grandchild at the parent's end")
	if n := r.sweep(); n != 3 {
		t.Errorf("swept %d", n)
	}
	r.wantLife(grandchild, false, "grandchild after the sweep")
	r.checkSwept()
}

// TestRecordsWithoutLifetime: a record that says neither when it ends nor that it doesn't is dead, not eternal.
func TestRecordsWithoutLifetime(t *testing.T) {
	r := newRig(t)
	m := r.must(r.root, Spec{TTL: time.Hour})
	m.Expires = time.Time{}
	r.update(func(tx store.Tx) error { return write(tx, m.Entry) })
	r.wantLife(m, false, "without a lifetime")
}
