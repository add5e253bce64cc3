package node

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/store/storetest"
	"github.com/quorate/quorate/internal/token"
)

// numbers are those of seal-status: of the generation in force and of the one that retires.
func (c *cluster) numbers() [6]int {
	c.t.Helper()
	st, err := c.node.SealStatus(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return [6]int{st.Threshold, st.Shares, st.Progress, st.RetiringThreshold, st.RetiringShares, st.RetiringProgress}
}

// A rekey without verification, for thresholds kept, raised and lowered: the new shares are in force at once, and the
// old ones can unseal, and do nothing else, until a quorum of the new ones has been shown.
func TestRekeyUnverified(t *testing.T) {
	for _, to := range [][2]int{{3, 2}, {5, 4}, {2, 2}, {1, 1}, {7, 3}} {
		t.Run(fmt.Sprint(to), func(t *testing.T) {
			c := newCluster(t, 3, 2)
			old := c.rekeyed(to[0], to[1])
			if len(c.shares) != to[0] {
				t.Fatalf("%d new shares", len(c.shares))
			}
			if got, want := c.numbers(), [6]int{to[1], to[0], 0, 2, 3, 0}; got != want {
				t.Errorf("seal-status %v, want %v", got, want)
			}
			if !c.identity().Retiring {
				t.Error("the list of ceremonies doesn't say that a generation retires")
			}
			c.oldSharesDoNothing(old)
			if !c.opens(old[1:]) || !c.opens(old[:2]) {
				t.Error("a quorum of the retiring generation can't unseal")
			}
			if c.opens(old[:1]) || to[1] > 1 && c.opens(c.shares[:to[1]-1]) || to[1] > 1 && c.opens([][]byte{old[0], c.shares[0]}) {
				t.Error("less than a quorum, or a mixture, unseals")
			}
			if c.table()["retiring"].Number != 1 {
				t.Error("unsealing with old shares retired them")
			}
			if !c.opens(c.shares[to[0]-to[1]:]) {
				t.Fatal("a quorum of the new generation can't unseal")
			}
			// That was proof enough.
			if got, want := c.numbers(), [6]int{to[1], to[0]}; got != want || c.opens(old[:2]) {
				t.Errorf("seal-status %v, want %v, and the old shares dead", got, want)
			}
			if c.table()["former"].Number != 1 || c.lookup(c.root) == nil {
				t.Error("the old generation is not former, or the root token is gone")
			}
		})
	}
}

// oldSharesDoNothing shows that shares which a rekey replaced approve, start, cancel and fetch nothing (T17, T19).
func (c *cluster) oldSharesDoNothing(old [][]byte) {
	c.t.Helper()
	ctx := c.t.Context()
	o := c.begin(local, StartRequest{Kind: ceremony.RootToken})
	_, err := c.give(o, old[len(old)-1], "")
	c.refused(err, fault.Invalid, "old generation (number 1)")
	_, err = c.send(o, o.Attempt.Nonce, 1, signed(old[0], o.Attempt.Statement(1, holder.ModeSignature)))
	c.refused(err, fault.Invalid, "signature is not valid")
	before := o.Attempt.Statement(1, holder.ModeSignature)
	before.Generation = 1
	_, err = c.send(o, o.Attempt.Nonce, 1, signed(old[0], before))
	c.refused(err, fault.Invalid, "signature is not valid")
	byOld := func() Asker { return Asker{Credential: Credential{Share: secret.Copy(old[0])}} }
	_, _, err = c.node.Cancel(ctx, ceremony.RootToken, "", byOld())
	c.refused(err, fault.Invalid, "old generation")
	_, err = c.node.Start(ctx, GenerateRoot, byOld(), StartRequest{Kind: ceremony.Drill})
	c.refused(err, fault.Invalid, "old generation")
	_, err = c.node.Result(ctx, o.Attempt.Nonce, byOld())
	c.refused(err, fault.Invalid, "old generation")
	if now := c.look(ceremony.RootToken); now.Attempt == nil || now.Attempt.Progress() != 0 || c.look(ceremony.Drill).State != Idle {
		c.t.Error("an old share changed something")
	}
	c.drop(ceremony.RootToken)
}

// T17: the refusal of a share that was valid once is in the transcript, at most once a minute for each former holder.
func TestRefusalOfOldSharesIsRecorded(t *testing.T) {
	c := newCluster(t, 3, 2)
	old := c.rekeyed(3, 2)
	o := c.begin(local, StartRequest{Kind: ceremony.RootToken})
	from := c.size()
	for range 5 {
		for _, share := range old[:2] {
			if _, err := c.give(o, share, "somewhere"); fault.As(err) == nil {
				t.Fatal(err)
			}
		}
		junk := bytes.Clone(old[2])
		junk[3] ^= 1
		if _, err := c.give(o, junk, ""); fault.As(err) == nil { // what was never valid is not worth a record
			t.Fatal(err)
		}
		c.clock.step(11 * time.Second)
	}
	if got := c.happened(from); got != "refused refused" {
		t.Fatalf("recorded %q", got)
	}
	for i, e := range c.entries(from) {
		if e.Generation != 1 || e.Slot != i+1 || len(e.Signature) > 0 || e.Client == "" || e.Client == "somewhere" {
			t.Errorf("entry %+v", e)
		}
	}
	c.clock.step(refusalPause)
	if _, err := c.give(o, old[0], ""); fault.As(err) == nil {
		t.Fatal(err)
	}
	if got := c.happened(from); got != "refused refused refused" {
		t.Errorf("recorded %q a minute later", got)
	}
}

// The new holders prove their shares by approving, too: the last of a quorum of them retires the old generation.
func TestProofsRetireTheOldGeneration(t *testing.T) {
	for _, how := range []string{"share", "signature"} {
		c := newCluster(t, 3, 2)
		old := c.rekeyed(5, 3)
		o := c.begin(local, StartRequest{Kind: ceremony.Drill})
		for i := range 3 {
			for range 2 { // one holder twice is one proof
				if !c.opens(old[:2]) {
					t.Fatalf("%s: after %d of 3 proofs the old shares are dead", how, i)
				}
				if how == "share" {
					_, _ = c.give(o, c.shares[i], "")
				} else {
					_, _ = c.signs(o, i)
				}
				if i == 2 {
					break
				}
			}
		}
		if e := c.entries(0); e[len(e)-1].Event != "retire" || e[len(e)-1].Generation != 1 {
			t.Errorf("%s: last entry %+v", how, e[len(e)-1])
		}
		if c.opens(old[:2]) || !c.opens(c.shares[:3]) || c.identity().Retiring {
			t.Errorf("%s: the old generation did not retire, or the new one is dead", how)
		}
	}
}

// With verification nothing changes until as many new holders as were asked for have proven their shares.
func TestRekeyVerified(t *testing.T) {
	for _, all := range []bool{false, true} {
		for _, to := range [][2]int{{3, 2}, {5, 4}, {2, 2}, {1, 1}} {
			t.Run(fmt.Sprint(all, to), func(t *testing.T) {
				c := newCluster(t, 3, 2)
				got := c.finish(c.begin(local, rekeyTo(to[0], to[1], func(k *RekeyRequest) { k.Verify, k.VerifyAll = true, all })), 0)
				fresh := cloned(got.Keys)
				required := to[1]
				if all {
					required = to[0]
				}
				if v := got.Verification; got.State != Verifying || v == nil || v.Required != required || v.Generation != 2 {
					t.Fatalf("state %s, verification %+v", got.State, got.Verification)
				}
				for i := range required {
					if !c.opens(c.shares[:2]) || c.opens(fresh) || c.numbers() != [6]int{2, 3} {
						t.Fatalf("after %d of %d proofs: the old shares don't open the store, or the new ones do", i, required)
					}
					c.verifyRefuses(got, fresh, i)
					next, err := c.prove(got, fresh[i])
					if err != nil {
						t.Fatal(err)
					}
					if done := i == required-1; done != (next.State == Complete) || len(next.Verification.Proofs) != i+1 || next.Keys != nil {
						t.Fatalf("after %d of %d proofs: %s", i+1, required, next.State)
					}
				}
				if c.opens(c.shares[:2]) || !c.opens(fresh[to[0]-to[1]:]) || c.identity().Retiring || c.look(ceremony.Rekey).State != Idle {
					t.Error("after the verification the old shares open the store, or the new ones don't")
				}
			})
		}
	}
}

// verifyRefuses gives everything but a proof that counts, when the holders of done new shares have proven them.
func (c *cluster) verifyRefuses(o *Ceremony, fresh [][]byte, done int) {
	c.t.Helper()
	ctx := c.t.Context()
	nonce := o.Verification.Nonce
	right := ceremony.ProveStatement(c.identity().ClusterID, 2, done+1, holder.ModeSignature, nonce)
	wrong := func(fn func(*holder.Statement)) Approver {
		s := right
		fn(&s)
		key := holder.Derive(secret.Copy(fresh[done]), right.ClusterID, 2)
		return Approver{Credential: Credential{Slot: done + 1, Signature: key.Sign(s)}}
	}
	other := ceremony.ProveStatement(right.ClusterID, 2, done+1, holder.ModeSignature, o.Attempt.Nonce)
	tries := map[string]Approver{
		"nothing":          {},
		"old share":        {Credential: Credential{Share: c.share(0)}},
		"old holder":       {Credential: Credential{Slot: done + 1, Signature: signed(c.shares[0], right)}},
		"approve":          wrong(func(s *holder.Statement) { s.Action = holder.ActionApprove }),
		"drill":            wrong(func(s *holder.Statement) { s.Action = holder.ActionDrill }),
		"mode":             wrong(func(s *holder.Statement) { s.Mode = holder.ModeShare }),
		"generation":       wrong(func(s *holder.Statement) { s.Generation = 1 }),
		"nonce of attempt": wrong(func(s *holder.Statement) { s.Digest = other.Digest }),
		"digest":           wrong(func(s *holder.Statement) { s.Digest = o.Attempt.Digest }),
	}
	if done > 0 {
		tries["again"] = Approver{Credential: Credential{Share: secret.Copy(fresh[done-1])}}
	}
	for name, a := range tries {
		if _, err := c.node.Verify(ctx, o.Kind, nonce, a); fault.As(err) == nil {
			c.t.Errorf("%s: %v", name, err)
		}
	}
	good := func() Approver { return Approver{Credential: Credential{Share: secret.Copy(fresh[done])}} }
	for name, n := range map[string]string{"nonce of the attempt": o.Attempt.Nonce, "no nonce": "", "cut": nonce[:35]} {
		if _, err := c.node.Verify(ctx, o.Kind, n, good()); !errors.Is(err, ErrNonce) {
			c.t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.node.Verify(ctx, ceremony.RotateRoot, nonce, good()); fault.As(err) == nil {
		c.t.Errorf("other kind: %v", err)
	}
	if _, err := c.give(o, fresh[done], ""); fault.As(err) == nil { // approving is over, and not for new shares
		c.t.Errorf("a new share approves: %v", err)
	}
	if now := c.look(o.Kind); len(now.Verification.Proofs) != done {
		c.t.Fatalf("%d proofs, want %d", len(now.Verification.Proofs), done)
	}
}

// A new share proves itself at home, too.
func TestVerifyBySignature(t *testing.T) {
	c := newCluster(t, 3, 2)
	got := c.finish(c.begin(local, rekeyTo(3, 2, verifiedAll)), 0)
	fresh := cloned(got.Keys)
	for i, share := range fresh {
		s := ceremony.ProveStatement(c.identity().ClusterID, 2, i+1, holder.ModeSignature, got.Verification.Nonce)
		next, err := c.node.Verify(t.Context(), ceremony.Rekey, got.Verification.Nonce, Approver{Credential: Credential{Slot: i + 1, Signature: signed(share, s)}})
		if err != nil || (next.State == Complete) != (i == 2) {
			t.Fatalf("proof %d: %+v, %v", i, next, err)
		}
	}
	if !c.opens(fresh[1:]) {
		t.Error("the new shares don't open the store")
	}
}

// Encrypted shares come to their holders, can be fetched again until that is acknowledged, and unseal.
func TestRekeyToKeys(t *testing.T) {
	c := newCluster(t, 3, 2)
	recipients, identities := ageKeys(t, 3)
	keys, entities := pgpKeys(t, 3, c.clock.now())
	for name, way := range map[string]struct {
		with func(*RekeyRequest)
		open func(i int, message []byte) []byte
	}{
		"age": {func(k *RekeyRequest) { k.Age = recipients }, func(i int, m []byte) []byte { return openAge(t, m, identities[i]) }},
		"pgp": {func(k *RekeyRequest) { k.PGPKeys = keys }, func(i int, m []byte) []byte { return openPGP(t, m, entities[i], c.clock.now()) }},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 3, 2)
			o := c.begin(bearer(c.root), rekeyTo(3, 2, func(k *RekeyRequest) { way.with(k); k.Backup = true }))
			if len(o.RecipientKeys) != 3 {
				t.Fatalf("%d recipients shown", len(o.RecipientKeys))
			}
			var got *Ceremony
			var err error
			for i := range 2 { // by signature: nothing comes back in clear
				if got, err = c.signs(o, i); err != nil {
					t.Fatal(err)
				}
			}
			if !got.Encrypted || len(got.Keys) != 3 || got.State != Complete {
				t.Fatalf("%+v", got)
			}
			var fresh [][]byte
			for i, m := range got.Keys {
				fresh = append(fresh, way.open(i, m))
			}
			c.fetches(o, got.Keys)
			if !c.opens(fresh[:2]) || !c.opens(fresh[1:]) {
				t.Error("the decrypted shares don't open the store")
			}
		})
	}
}

// fetches reads the result of a completed rekey again, acknowledges it, and then finds nothing.
func (c *cluster) fetches(o *Ceremony, want [][]byte) {
	c.t.Helper()
	ctx, nonce := c.t.Context(), o.Attempt.Nonce
	weak, _ := c.create(c.root, token.Spec{Policies: []string{"default"}})
	for name, who := range map[string]Asker{"nobody": {}, "weak token": bearer(weak), "local, which started nothing": local} {
		if _, err := c.node.Result(ctx, nonce, who); fault.As(err) == nil {
			c.t.Errorf("%s reads the result: %v", name, err)
		}
		if err := c.node.Acknowledge(ctx, nonce, who); fault.As(err) == nil {
			c.t.Errorf("%s acknowledges the result: %v", name, err)
		}
	}
	c.clock.step(29 * 24 * time.Hour) // far beyond the time of a lost reply
	c.sweepNow()
	for range 2 {
		got, err := c.node.Result(ctx, nonce, bearer(c.root))
		if err != nil || !slices.EqualFunc(got.Keys, want, bytes.Equal) || !got.Encrypted {
			c.t.Fatalf("the result again: %v", err)
		}
	}
	if _, _, keys, err := c.node.RekeyBackup(ctx, c.access(c.root, "sys/rekey/backup", policy.Read), o.Kind); err != nil || !slices.EqualFunc(keys, want, bytes.Equal) {
		c.t.Errorf("backup: %v", err)
	}
	if err := c.node.Acknowledge(ctx, nonce, bearer(c.root)); err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.node.Result(ctx, nonce, bearer(c.root)); !errors.Is(err, errNoResult) {
		c.t.Errorf("after it was acknowledged: %v", err)
	}
	if n := c.countBehind(keysPrefix); n > 0 {
		c.t.Errorf("%d encrypted shares are left", n)
	}
	if err := c.node.DeleteRekeyBackup(ctx, c.access(c.root, "sys/rekey/backup", policy.Delete), o.Kind); err != nil {
		c.t.Fatal(err)
	}
	if _, _, _, err := c.node.RekeyBackup(ctx, c.access(c.root, "sys/rekey/backup", policy.Read), o.Kind); !errors.Is(err, errNoBackup) {
		c.t.Errorf("a deleted backup: %v", err)
	}
}

// The backup is of one generation: a later one with fewer shares leaves nothing of the one before in it.
func TestBackupIsOfOneRekey(t *testing.T) {
	c := newCluster(t, 1, 1)
	recipients, identities := ageKeys(t, 5)
	for _, n := range []int{5, 3} {
		o := c.begin(local, rekeyTo(n, 2, func(k *RekeyRequest) { k.Age, k.Backup = recipients[:n], true }))
		got := c.finish(o, 0)
		nonce, _, keys, err := c.node.RekeyBackup(t.Context(), c.access(c.root, "sys/rekey/backup", policy.Read), ceremony.Rekey)
		if err != nil || nonce != o.Attempt.Nonce || !slices.EqualFunc(keys, got.Keys, bytes.Equal) {
			t.Errorf("%d shares: the backup has %d, %v", n, len(keys), err)
		}
		c.shares = nil
		for i, m := range got.Keys {
			c.shares = append(c.shares, openAge(t, m, identities[i]))
		}
	}
}

// Shares in clear that come into force at once are only given to who can have a lost reply again; with verification a
// signature may complete it.
func TestClearSharesBySignature(t *testing.T) {
	c := newCluster(t, 3, 2)
	o := c.begin(local, rekeyTo(3, 2, nil))
	if _, err := c.signs(o, 0); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := c.signs(o, 1); !errors.Is(err, errClearBySignature) {
			t.Errorf("the last approval by signature: %v", err)
		}
	}
	if n := c.progress(ceremony.Rekey); n != 1 || !c.opens(c.shares[:2]) || c.table()["active"].Number != 1 {
		t.Fatalf("progress %d", n)
	}
	if got := c.mustGive(o, 2); got.State != Complete || len(got.Keys) != 3 {
		t.Errorf("by share: %+v", got)
	}

	c = newCluster(t, 3, 2)
	o = c.begin(local, rekeyTo(3, 2, verified))
	for i := range 2 {
		got, err := c.signs(o, i)
		if err != nil {
			t.Fatal(err)
		}
		if i == 1 && (got.State != Verifying || len(got.Keys) != 3) {
			t.Errorf("%+v", got)
		}
	}
	if _, err := c.signs(o, 1); fault.As(err) == nil { // the signature is public by now
		t.Errorf("the completing signature again: %v", err)
	}
}

// A lost reply can be had again, identically, by the share that completed the rekey and by nothing else.
func TestRekeyLostReply(t *testing.T) {
	for name, more := range map[string]func(*RekeyRequest){"unverified": nil, "verified": verified} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 3, 2)
			o := c.begin(local, rekeyTo(3, 2, more))
			c.mustGive(o, 0)
			want := c.mustGive(o, 1)
			keys := cloned(want.Keys)
			want.Wipe()
			same := func(when string) {
				t.Helper()
				got, err := c.give(o, c.shares[1], "")
				if err != nil || got.State != want.State || !slices.EqualFunc(got.Keys, keys, bytes.Equal) {
					t.Fatalf("%s: %v", when, err)
				}
			}
			same("at once")
			c.clock.step(4 * time.Minute)
			c.sweepNow()
			c.boot()
			c.unseal() // by the old shares, which still can
			same("after a restart")
			junk := bytes.Clone(c.shares[1])
			junk[0] ^= 1
			for name, share := range map[string][]byte{"the first share": c.shares[0], "a third share": c.shares[2], "new": keys[1], "junk": junk} {
				if got, err := c.give(o, share, ""); fault.As(err) == nil || got != nil {
					t.Errorf("%s has it again: %v", name, err)
				}
			}
			for _, mode := range []holder.Mode{holder.ModeShare, holder.ModeSignature} {
				s := signed(c.shares[1], o.Attempt.Statement(2, mode))
				if got, err := c.send(o, o.Attempt.Nonce, 2, s); fault.As(err) == nil || got != nil {
					t.Errorf("a signature has it again: %v", err)
				}
			}
			for name, who := range map[string]Asker{"local": local, "root": bearer(c.root)} {
				if _, err := c.node.Result(t.Context(), o.Attempt.Nonce, who); fault.As(err) == nil { // in clear it is nobody's
					t.Errorf("%s: %v", name, err)
				}
			}
			c.clock.step(time.Minute)
			if got, err := c.give(o, c.shares[1], ""); fault.As(err) == nil || got != nil {
				t.Errorf("after its time: %v", err)
			}
		})
	}
}

// Replacing one holder, with a new root key in the same commit: what a removed holder has is worth nothing, the old
// root key opens nothing, and everything that was stored can be read.
func TestRekeyWithRotation(t *testing.T) {
	for _, kind := range []ceremony.Kind{ceremony.Rekey, ceremony.RotateRoot} {
		for _, verify := range []bool{false, true} {
			t.Run(fmt.Sprint(kind, verify), func(t *testing.T) {
				c := newCluster(t, 3, 2)
				id, _ := c.create(c.root, token.Spec{})
				c.behind("test/kept", "value")
				before := c.rootKeyed()
				terms, err := c.node.KeyStatus(t.Context(), c.access(c.root, "sys/key-status", policy.Read))
				if err != nil {
					t.Fatal(err)
				}
				req := rekeyTo(2, 2, func(k *RekeyRequest) { k.Verify, k.Rotate = verify, true })
				req.Kind = kind
				got := c.finish(c.begin(local, req), 0)
				fresh := cloned(got.Keys)
				if verify && !before.Equal(c.rootKeyed()) {
					t.Error("the root key was rotated before the new shares were proven")
				}
				for i := 0; got.State == Verifying; i++ {
					if got, err = c.prove(got, fresh[i]); err != nil {
						t.Fatal(err)
					}
				}
				if before.Equal(c.rootKeyed()) {
					t.Error("the root key is the old one")
				}
				after, err := c.node.KeyStatus(t.Context(), c.access(c.root, "sys/key-status", policy.Read))
				if err != nil || after.Term != terms.Term+1 {
					t.Errorf("term %d after %d, %v", after.Term, terms.Term, err)
				}
				if !verify && !c.opens(c.shares[1:]) {
					t.Error("the retiring generation can't unseal the new root key")
				}
				if !c.opens(fresh) {
					t.Fatal("the new shares don't open the store")
				}
				old := c.shares
				c.shares = fresh
				c.boot()
				c.unseal()
				if string(c.readBehind("test/kept")) != "value" || c.lookup(c.root) == nil || c.lookup(id) == nil {
					t.Error("a record or a token was lost")
				}
				if rep := c.audit(c.verifierKey()); len(rep.Problems) > 0 {
					t.Error(rep.Problems)
				}
				if _, err := c.node.Unseal(t.Context(), secret.Copy(old[0]), false, ""); err != nil || c.opens(old[:2]) {
					t.Errorf("the old shares: %v", err)
				}
				c.generate()
			})
		}
	}
}

// rootKeyed is what the root key in force makes of a label.
func (c *cluster) rootKeyed() (key secret.Bytes) {
	c.t.Helper()
	b := c.node.active.Load().Barrier
	err := b.View(c.t.Context(), func(r store.Reader) (err error) {
		key, err = b.DeriveIn(r, "test")
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return key
}

// The functions of an Update may run more than once.
func TestRekeyOverARetryingStore(t *testing.T) {
	for _, verify := range []bool{false, true} {
		recipients, identities := ageKeys(t, 3)
		for _, to := range [][]string{nil, recipients} {
			c := newClusterOver(t, storetest.Rerun(inmem.New()), 3, 2)
			o := c.begin(local, rekeyTo(3, 2, func(k *RekeyRequest) { k.Verify, k.Rotate, k.Age = verify, true, to }))
			got := c.finish(o, 0)
			fresh := cloned(got.Keys)
			for i := range fresh {
				if to != nil {
					fresh[i] = openAge(t, fresh[i], identities[i])
				}
			}
			for i := 0; got.State == Verifying; i++ {
				var err error
				if got, err = c.prove(got, fresh[i]); err != nil {
					t.Fatal(err)
				}
			}
			if !c.opens(fresh[:2]) || c.table()["active"].Number != 2 {
				t.Errorf("verify %t: the new shares don't open the store", verify)
			}
		}
	}
}

// T27: the last share and the deadline at the same instant: whoever comes first, the deadline has it.
func TestLastShareAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, wait := range []time.Duration{time.Hour - time.Millisecond, time.Hour} {
			c := &cluster{t: t, st: inmem.New(), clock: newClock(), log: &syncBuffer{}}
			n, err := New(Options{Store: c.st, SweepInterval: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			c.node = n
			c.init(3, 2)
			c.unseal()
			o := c.begin(local, rekeyTo(3, 2, nil))
			time.Sleep(time.Duration(-time.Now().UnixNano()) % time.Millisecond) // whole milliseconds
			c.mustGive(o, 0)
			time.Sleep(wait)
			_, err = c.give(o, c.shares[1], "")
			if in := wait < time.Hour; in != (err == nil) || in != (c.table()["active"].Number == 2) {
				t.Errorf("after %v: %v, generation %d", wait, err, c.table()["active"].Number)
			}
			n.Close()
		}
	})
}

// T21: more shares than are needed at the same time make one generation.
func TestRacingRekeyApprovals(t *testing.T) {
	for range 5 {
		c := newCluster(t, 7, 3)
		o := c.begin(local, rekeyTo(3, 2, nil))
		var wg sync.WaitGroup
		var mu sync.Mutex
		var done []*Ceremony
		for i := range 7 {
			wg.Go(func() {
				got, err := c.give(o, c.shares[i], "")
				if err == nil && got.State == Complete {
					mu.Lock()
					defer mu.Unlock()
					done = append(done, got)
				} else if err != nil && fault.As(err) == nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(done) != 1 || c.table()["active"].Number != 2 || !c.opens(done[0].Keys[:2]) {
			t.Fatalf("%d completions", len(done))
		}
	}
}

// T26: a rekey's commit and the last share of a root generation at once. Either the token was made first, or its
// attempt ended with the generation that had approved it; the store opens either way.
func TestRekeyCommitAgainstRootGeneration(t *testing.T) {
	first := map[bool]int{}
	for range 12 {
		c := newCluster(t, 3, 2)
		root := c.begin(local, StartRequest{Kind: ceremony.RootToken})
		rekey := c.begin(local, rekeyTo(3, 2, func(k *RekeyRequest) { k.Rotate = true }))
		c.mustGive(root, 0)
		c.mustGive(rekey, 0)
		var wg sync.WaitGroup
		var token, fresh *Ceremony
		var tokenErr, rekeyErr error
		wg.Go(func() { token, tokenErr = c.give(root, c.shares[1], "") })
		wg.Go(func() { fresh, rekeyErr = c.give(rekey, c.shares[1], "") })
		wg.Wait()
		if rekeyErr != nil {
			t.Fatal(rekeyErr)
		}
		want := 1
		if tokenErr == nil {
			want = 2
			if c.lookup(c.decode(RootStatus{EncodedToken: token.EncodedToken}, root.OTP)) == nil {
				t.Error("the token is dead")
			}
		} else if fault.As(tokenErr) == nil {
			t.Error(tokenErr)
		}
		first[tokenErr == nil]++
		if n := c.accessors(c.root); n != want || !c.opens(fresh.Keys[:2]) || c.look(ceremony.RootToken).State != Idle {
			t.Errorf("%d tokens, want %d", n, want)
		}
	}
	t.Logf("token first %d times, rekey first %d times", first[true], first[false])
}

// Two ways to a new generation may be open at once. Only one generation is ever prepared, and the first that comes
// into force ends the other attempt.
func TestTwoRekeysAtOnce(t *testing.T) {
	for _, verify := range []bool{false, true} {
		c := newCluster(t, 3, 2)
		a := c.begin(local, rekeyTo(3, 2, func(k *RekeyRequest) { k.Verify = verify }))
		b := c.begin(local, StartRequest{Kind: ceremony.RotateRoot, Rekey: RekeyRequest{Shares: 5, Threshold: 3, Rotate: true}})
		c.mustGive(b, 0)
		got := c.finish(a, 0)
		if verify {
			_, err := c.give(b, c.shares[1], "")
			c.refused(err, fault.Invalid, "another rekey waits")
			if n := c.progress(ceremony.RotateRoot); n != 1 {
				t.Errorf("progress %d", n)
			}
			for _, share := range cloned(got.Keys)[:2] {
				if got, err = c.prove(got, share); err != nil {
					t.Fatal(err)
				}
			}
		}
		if c.look(ceremony.RotateRoot).State != Idle {
			t.Error("the other attempt goes on")
		}
		_, err := c.give(b, c.shares[1], "")
		c.refused(err, fault.Invalid, "no rotation in progress")
		if g := c.table(); g["active"].Number != 2 || g["active"].Shares != 3 {
			t.Errorf("%+v", g)
		}
	}
}

// Two completions of the two kinds at the same time.
func TestTwoRekeysCompleteAtOnce(t *testing.T) {
	for range 8 {
		c := newCluster(t, 3, 2)
		a := c.begin(local, rekeyTo(3, 2, nil))
		b := c.begin(local, StartRequest{Kind: ceremony.RotateRoot, Rekey: RekeyRequest{Shares: 5, Threshold: 3, Rotate: true}})
		c.mustGive(a, 0)
		c.mustGive(b, 0)
		var wg sync.WaitGroup
		var won atomic.Int32
		var shares [][]byte
		for _, o := range []*Ceremony{a, b} {
			wg.Go(func() {
				got, err := c.give(o, c.shares[1], "")
				if err == nil {
					won.Add(1)
					shares = got.Keys[:got.Rekey.Threshold]
				} else if fault.As(err) == nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 || !c.opens(shares) || c.table()["active"].Number != 2 {
			t.Fatalf("%d won", won.Load())
		}
	}
}
