package token

import (
	"context"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
)

// These states can't be reached through the package itself. Whoever can write to the storage can put back an old
// record, or remove one; what is dead must stay dead then as well.

// put writes one record as somebody with access to the storage could.
func (r *rig) put(key, value string) {
	r.t.Helper()
	r.update(func(tx store.Tx) error { return tx.Put(key, []byte(value)) })
}

func TestRecordPutBack(t *testing.T) {
	r := newRig(t)
	parent := r.must(r.root, Spec{})
	child := r.must(parent.Entry, Spec{})
	record := r.dump()[idPrefix+parent.Key]
	r.revoke(parent.Entry)
	r.put(idPrefix+parent.Key, record)
	r.wantLife(parent, false, "a revoked parent whose record was put back")
	r.wantLife(child, false, "its child")
}

func TestAncestorRecordGone(t *testing.T) {
	for name, damage := range map[string]func(r *rig, parent made){
		"Removed": func(r *rig, parent made) {
			r.update(func(tx store.Tx) error { return tx.Delete(idPrefix + parent.Key) })
		},
		"Exchanged": func(r *rig, parent made) {
			r.put(idPrefix+parent.Key, r.dump()[idPrefix+r.root.Key])
		},
	} {
		r := newRig(t)
		parent := r.must(r.root, Spec{TTL: time.Hour})
		child := r.must(parent.Entry, Spec{TTL: time.Hour})
		grandchild := r.must(child.Entry, Spec{TTL: time.Hour})
		damage(r, parent)
		r.wantLife(child, false, name+": child")
		r.wantLife(grandchild, false, name+": grandchild")
	}
}

func TestDamagedRecord(t *testing.T) {
	r := newRig(t)
	parent := r.must(r.root, Spec{TTL: time.Hour})
	child := r.must(parent.Entry, Spec{TTL: time.Hour})
	r.put(idPrefix+parent.Key, "{")
	for _, m := range []made{parent, child} {
		err := r.store.View(context.Background(), func(rd store.Reader) error {
			_, err := r.Authenticate(rd, m.id)
			return err
		})
		if err == nil || err == ErrDead {
			t.Errorf("a damaged record gave %v", err)
		}
	}
}

// TestAccessorOfAnother: an accessor never leads to a token that has another one.
func TestAccessorOfAnother(t *testing.T) {
	r := newRig(t)
	a, b := r.must(r.root, Spec{}), r.must(r.root, Spec{})
	s := r.known.Load()
	r.put(accessorPrefix+s.accessorMAC(a.Accessor), r.dump()[accessorPrefix+s.accessorMAC(b.Accessor)])
	r.put(accessorPrefix+s.accessorMAC(b.Accessor), b.Key)
	r.view(func(rd store.Reader) error {
		if list, err := r.Accessors(rd, "", 0); err != nil || len(list) > 2 { // the root token's, and b's
			t.Errorf("listed %q, %v", list, err)
		}
		for _, m := range []made{a, b} {
			e, err := r.ByAccessor(rd, m.Accessor)
			if err != nil {
				return err
			}
			if e != nil && e.Accessor != m.Accessor {
				t.Error("an accessor leads to another token")
			}
		}
		return nil
	})
}

// TestLabels: an accessor and an ID of the same text have different hashes.
func TestLabels(t *testing.T) {
	r := newRig(t)
	r.lives(made{id: []byte("any")})
	s := r.known.Load()
	if s.idMAC([]byte("any")) == s.accessorMAC("any") {
		t.Error("IDs and accessors are hashed alike")
	}
}

// TestSweepKeepsLaterOwner: a link to a record that a later token has doesn't take that token away.
func TestSweepKeepsLaterOwner(t *testing.T) {
	r := newRig(t)
	parent := r.must(r.root, Spec{})
	r.must(parent.Entry, Spec{})
	later := r.must(r.root, Spec{})
	r.put(childKey(parent.RecordID, "an-old-rid"), later.Key)
	r.revoke(parent.Entry)
	if n := r.sweep(); n != 1 {
		t.Errorf("swept %d", n)
	}
	r.wantLife(later, true, "the later owner")
	r.checkSwept()
}

// TestGraveStaysWhileNeeded: as long as anything is linked below it, a grave isn't removed.
func TestGraveStaysWhileNeeded(t *testing.T) {
	w := &watched{Store: inmem.New()}
	r := newRigOn(t, w)
	parent := r.must(r.root, Spec{})
	child := r.must(parent.Entry, Spec{})
	dump := r.dump()
	r.revoke(parent.Entry)
	w.updates = 0
	w.before = func(n int) {
		if n != 1 { // the Update that closes graves
			return
		}
		err := w.Store.Update(context.Background(), func(tx store.Tx) error {
			for _, key := range []string{idPrefix + child.Key, childKey(parent.RecordID, child.RecordID)} {
				if err := tx.Put(key, []byte(dump[key])); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	r.sweep()
	r.wantLife(child, false, "a child whose record was put back during a sweep")
	w.before = nil
	if n := r.sweep(); n != 1 {
		t.Errorf("the next sweep removed %d", n)
	}
	r.checkSwept()
}
