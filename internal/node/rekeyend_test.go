package node

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/token"
)

// verifying is a cluster whose rekey has its approvals, with one new share proven.
func verifying(t *testing.T, who func(c *cluster) Asker, more func(*RekeyRequest)) (c *cluster, o *Ceremony, fresh [][]byte) {
	t.Helper()
	c = newCluster(t, 5, 3)
	o = c.finish(c.begin(who(c), rekeyTo(5, 3, func(k *RekeyRequest) {
		k.Verify = true
		if more != nil {
			more(k)
		}
	})), 0)
	fresh = cloned(o.Keys)
	if !o.Encrypted {
		if _, err := c.prove(o, fresh[0]); err != nil {
			t.Fatal(err)
		}
	}
	return c, o, fresh
}

func asLocal(*cluster) Asker    { return local }
func asRoot(c *cluster) Asker   { return bearer(c.root) }
func asHolder(c *cluster) Asker { return c.byShare(4) }

// destroyed demands that generation 2 is gone for good, that the present one opens the store, and that the next rekey
// works and gets a number of its own.
func (c *cluster) destroyed(o *Ceremony, fresh [][]byte) {
	c.t.Helper()
	if _, ok := c.table()["pending"]; ok {
		c.t.Fatal("the pending generation is there")
	}
	if c.opens(fresh) || !c.opens(c.shares[2:]) || c.look(o.Kind).State != Idle {
		c.t.Error("the aborted generation opens the store, or the present one doesn't")
	}
	if _, err := c.prove(o, fresh[1]); fault.As(err) == nil {
		c.t.Errorf("a proof after the end: %v", err)
	}
	if n := c.countBehind(keysPrefix) + c.countBehind(recipientPrefix); n > 0 {
		c.t.Errorf("%d records of it are left", n)
	}
	next := c.finish(c.begin(local, rekeyTo(3, 2, nil)), 0)
	if g := c.table(); g["active"].Number != 3 || !c.opens(next.Keys[:2]) {
		c.t.Errorf("the next rekey made generation %d", g["active"].Number)
	}
	if rep := c.audit(c.verifierKey()); len(rep.Problems) > 0 {
		c.t.Error(rep.Problems)
	}
}

// Whatever ends a verification destroys the generation that it was for, whose number is never used again.
func TestEndOfAVerification(t *testing.T) {
	for name, end := range map[string]func(c *cluster){
		"cancel by token": func(c *cluster) { c.drop(ceremony.Rekey) },
		"cancel by nonce": func(c *cluster) {
			if _, ended, err := c.node.Cancel(c.t.Context(), ceremony.Rekey, c.look(ceremony.Rekey).Attempt.Nonce, local); !ended || err != nil {
				c.t.Fatal(ended, err)
			}
		},
		"objections": func(c *cluster) {
			for i := range 3 {
				_, ended, err := c.node.Cancel(c.t.Context(), ceremony.Rekey, "", c.byShare(i+2))
				if err != nil || ended != (i == 2) {
					c.t.Fatalf("objection %d: %v, %v", i, ended, err)
				}
			}
		},
		"expiry": func(c *cluster) {
			c.clock.step(7*24*time.Hour - time.Millisecond)
			if c.look(ceremony.Rekey).State != Verifying {
				c.t.Error("ended too early")
			}
			c.clock.step(time.Millisecond)
			c.sweepNow()
		},
		"expiry, not swept": func(c *cluster) {
			c.clock.step(7 * 24 * time.Hour)
			_, _, err := c.node.Cancel(c.t.Context(), ceremony.Rekey, "", Asker{})
			if err != nil {
				c.t.Fatal(err)
			}
			c.sweepNow()
		},
		"expiry while down": func(c *cluster) {
			c.node.Close()
			c.clock.step(30 * 24 * time.Hour)
			c.boot()
			c.unseal()
			c.sweepNow()
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, o, fresh := verifying(t, asLocal, nil)
			end(c)
			c.destroyed(o, fresh)
		})
	}
}

// An owner that is revoked takes the ceremony along, of any kind and at any stage.
func TestRevokedOwnerEndsAnyKind(t *testing.T) {
	for kind, req := range everyKind() {
		t.Run(string(kind), func(t *testing.T) {
			c := newCluster(t, 3, 2)
			id, e := c.create(c.root, token.Spec{})
			other, otherEntry := c.create(c.root, token.Spec{})
			who := bearer(id)
			who.Local = true
			o := c.begin(who, req)
			c.mustGive(o, 0)
			c.revoke(c.root, otherEntry)
			if c.lookup(other) != nil || c.progress(kind) != 1 {
				t.Fatal("another token's revocation did something")
			}
			c.revoke(c.root, e)
			if got := c.look(kind); got.State != Idle {
				t.Errorf("state %s", got.State)
			}
			if _, err := c.give(o, c.shares[1], ""); fault.As(err) == nil {
				t.Errorf("an approval after the end: %v", err)
			}
			list := c.entries(0)
			if last := list[len(list)-1]; last.Event != "end" || last.Nonce != o.Attempt.Nonce || last.Kind != kind {
				t.Errorf("entry %+v", last)
			}
		})
	}
	recipients, _ := ageKeys(t, 5)
	for _, to := range [][]string{nil, recipients} {
		var owner *token.Entry
		c, o, fresh := verifying(t, func(c *cluster) Asker {
			id, e := c.create(c.root, token.Spec{})
			owner = e
			return bearer(id)
		}, func(k *RekeyRequest) { k.Age = to })
		c.revoke(c.root, owner)
		c.destroyed(o, fresh)
	}
}

// A verification is begun anew by who started the rekey or has a policy for it. Holders who could only object, and
// strangers, can't wear it down.
func TestResetVerification(t *testing.T) {
	for name, start := range map[string]func(*cluster) Asker{"local": asLocal, "token": asRoot, "holder": asHolder} {
		t.Run(name, func(t *testing.T) {
			c, o, fresh := verifying(t, start, nil)
			weak, _ := c.create(c.root, token.Spec{Policies: []string{"default"}})
			no := map[string]Asker{
				"stranger": {}, "weak token": bearer(weak), "holder": c.byShare(1), "objector": c.byShare(2),
				"new holder": {Credential: Credential{Share: secret.Copy(fresh[1])}}, "signed by another": c.cancelBy(o, 1),
			}
			yes := map[string]Asker{"token": bearer(c.root)}
			switch name {
			case "local":
				yes["local"] = local
			case "holder":
				yes["holder"], yes["signed"] = c.byShare(4), Asker{}
				no["local"], no["who signed a cancel"] = local, c.cancelBy(o, 4)
			default:
				no["local"] = local
			}
			for who, asker := range no {
				if _, err := c.node.ResetVerification(t.Context(), ceremony.Rekey, asker); fault.As(err) == nil {
					t.Errorf("%s: %v", who, err)
				}
			}
			now := c.look(ceremony.Rekey)
			if len(now.Verification.Proofs) != 1 || now.Verification.Nonce != o.Verification.Nonce || len(now.Attempt.Objections) > 0 {
				t.Fatalf("changed by those who may not: %+v", now.Verification)
			}
			for who, asker := range yes {
				if who == "signed" {
					asker = c.resetBy(4)
				}
				from := c.size()
				got, err := c.node.ResetVerification(t.Context(), ceremony.Rekey, asker)
				if err != nil || len(got.Verification.Proofs) != 0 || got.Verification.Nonce == o.Verification.Nonce {
					t.Fatalf("%s: %+v, %v", who, got, err)
				}
				if h := c.happened(from); h != "verification-reset" {
					t.Errorf("recorded %q", h)
				}
				if _, err := c.prove(o, fresh[0]); !errors.Is(err, ErrNonce) {
					t.Errorf("a proof with the old nonce: %v", err)
				}
				o = got
			}
			for i, share := range fresh[2:] {
				got, err := c.prove(o, share)
				if err != nil || (got.State == Complete) != (i == 2) {
					t.Fatalf("proof %d: %v", i, err)
				}
			}
			if !c.opens(fresh[:3]) {
				t.Error("the new shares don't open the store")
			}
			for who, asker := range yes {
				if asker.Share.Empty() && who != "signed" {
					if _, err := c.node.ResetVerification(t.Context(), ceremony.Rekey, asker); !errors.Is(err, errNoVerification) {
						t.Errorf("%s, with nothing to reset: %v", who, err)
					}
				}
			}
		})
	}
}

// A rekey that waits for its new holders goes on after a seal and after a crash, and nothing else does.
func TestVerificationOutlivesASeal(t *testing.T) {
	c, o, fresh := verifying(t, asLocal, nil)
	c.begin(local, StartRequest{Kind: ceremony.Drill})
	for _, name := range []string{"seal", "crash"} { // the seal first: it is what ends the drill
		if name == "crash" {
			c.boot()
		} else if err := c.seal(); err != nil {
			t.Fatal(err)
		}
		// A sealed server tells who the holders will be, and takes no new share yet.
		if c.table()["pending"].Number != 2 {
			t.Errorf("%s: the pending generation is not shown", name)
		}
		_, err := c.node.Unseal(t.Context(), secret.Copy(fresh[0]), false, "")
		c.refused(err, fault.Invalid, "not in force yet")
		c.unseal()
		if now := c.look(ceremony.Rekey); now.State != Verifying || len(now.Verification.Proofs) != 1 || c.look(ceremony.Drill).State != Idle {
			t.Fatalf("after a %s: %s", name, now.State)
		}
	}
	for _, share := range fresh[1:3] {
		if _, err := c.prove(o, share); err != nil {
			t.Fatal(err)
		}
	}
	if !c.opens(fresh[2:]) {
		t.Error("the new shares don't open the store")
	}
}

// Approving is over while the new holders prove their shares, and starting another rekey has to wait.
func TestNothingElseDuringAVerification(t *testing.T) {
	c, o, fresh := verifying(t, asLocal, nil)
	for i := range c.shares {
		if got, err := c.give(o, c.shares[i], ""); i == 2 {
			if err != nil || len(got.Keys) != 5 { // a lost reply
				t.Errorf("the completing share: %v", err)
			}
		} else if !errors.Is(err, errVerifying) {
			t.Errorf("share %d: %v", i, err)
		}
	}
	for _, kind := range []ceremony.Kind{ceremony.Rekey, ceremony.RotateRoot} {
		for name, who := range map[string]Asker{"local": local, "token": bearer(c.root), "holder": c.byShare(3)} {
			req := rekeyTo(3, 2, nil)
			req.Kind = kind
			if _, err := c.node.Start(t.Context(), GenerateRoot, who, req); fault.As(err) == nil {
				t.Errorf("%s starts a %s: %v", name, kind, err)
			}
		}
	}
	// What isn't about the shares goes on, with the present ones.
	c.generate()
	if c.opens(fresh) || c.look(ceremony.Rekey).State != Verifying {
		t.Error("the verification did not go on")
	}
}

// A damaged record of a rekey blocks no later one, not even where its generation was prepared already.
func TestDamagedRekeyBlocksNothing(t *testing.T) {
	for _, swept := range []bool{true, false} {
		for _, kind := range []ceremony.Kind{ceremony.Rekey, ceremony.RotateRoot} {
			t.Run(fmt.Sprint(swept, kind), func(t *testing.T) {
				c, _, fresh := verifying(t, asLocal, nil)
				c.damage(attemptPrefix+"rekey", 3)
				if swept {
					c.sweepNow()
				}
				req := rekeyTo(3, 2, verified)
				req.Kind = kind
				o, err := c.node.Start(t.Context(), GenerateRoot, local, req)
				if err != nil {
					t.Fatal(err)
				}
				got := c.finish(o, 0)
				next := cloned(got.Keys)
				if c.opens(fresh) || !c.opens(c.shares[:3]) {
					t.Error("the lost generation opens the store, or the present one doesn't")
				}
				for _, share := range next[:2] {
					if _, err := c.prove(got, share); err != nil {
						t.Fatal(err)
					}
				}
				if !c.opens(next[1:]) || c.table()["active"].Number != 3 {
					t.Error("the next rekey doesn't work")
				}
			})
		}
	}
}

// T68: a clock that jumps ten years, and back, loses no quorum and makes no ceremony immortal.
func TestClockJumps(t *testing.T) {
	const years = 10 * 365 * 24 * time.Hour
	for _, jump := range []time.Duration{years, -years} {
		for kind, req := range everyKind() {
			c := newCluster(t, 3, 2)
			o := c.begin(local, req)
			c.mustGive(o, 0)
			c.clock.step(jump)
			if now := c.look(kind); jump > 0 && now.State != Idle {
				t.Errorf("%s: open after ten years", kind)
			}
			c.sweepNow()
			c.generate()
			c.clock.step(-jump)
			c.sweepNow()
			if got := c.look(kind); got.State == Idle {
				got = c.begin(local, req)
				c.finish(got, 0)
			}
		}
		c, _, fresh := verifying(t, asLocal, nil)
		c.clock.step(jump)
		c.sweepNow()
		c.clock.step(-jump)
		if !c.opens(c.shares[:3]) || c.opens(fresh) {
			t.Error("a quorum was lost")
		}
		c.boot()
		c.unseal()
		if c.look(ceremony.Rekey).State == Idle {
			c.begin(local, rekeyTo(2, 2, nil))
		} else {
			c.drop(ceremony.Rekey)
		}
	}
}

// What is refused at the start costs nothing: no attempt begins.
func TestRekeyRequestsThatCannotBe(t *testing.T) {
	c := newCluster(t, 3, 2)
	recipients, _ := ageKeys(t, 3)
	keys, _ := pgpKeys(t, 3, c.clock.now())
	from := c.size()
	for name, fn := range map[string]func(*StartRequest){
		"no shares":         func(r *StartRequest) { r.Rekey.Shares = 0 },
		"negative":          func(r *StartRequest) { r.Rekey.Shares, r.Rekey.Threshold = -1, -1 },
		"256 shares":        func(r *StartRequest) { r.Rekey.Shares = 256 },
		"threshold 0":       func(r *StartRequest) { r.Rekey.Threshold = 0 },
		"threshold 1 of 3":  func(r *StartRequest) { r.Rekey.Threshold = 1 },
		"threshold 4 of 3":  func(r *StartRequest) { r.Rekey.Threshold = 4 },
		"two labels":        func(r *StartRequest) { r.Rekey.Labels = []string{"a", "b"} },
		"two lines":         func(r *StartRequest) { r.Rekey.Labels = []string{"a", "b\nc", "d"} },
		"long label":        func(r *StartRequest) { r.Rekey.Labels = []string{"a", "b", strings.Repeat("c", 201)} },
		"two recipients":    func(r *StartRequest) { r.Rekey.Age = recipients[:2] },
		"both kinds":        func(r *StartRequest) { r.Rekey.Age, r.Rekey.PGPKeys = recipients, keys },
		"bad PGP key":       func(r *StartRequest) { r.Rekey.PGPKeys = [][]byte{keys[0], []byte("Z2FyYmFnZQ=="), keys[2]} },
		"bad age recipient": func(r *StartRequest) { r.Rekey.Age = []string{recipients[0], "age1x", recipients[2]} },
		"plugin":            func(r *StartRequest) { r.Rekey.Age = []string{recipients[0], "age1yubikey1qqq", recipients[2]} },
		"backup in clear":   func(r *StartRequest) { r.Rekey.Backup = true },
		"reason":            func(r *StartRequest) { r.Reason = "a\x1b[2J" },
		"ttl":               func(r *StartRequest) { r.TTL = 25 * time.Hour },
		"negative ttl":      func(r *StartRequest) { r.TTL = -time.Second },
		"kind":              func(r *StartRequest) { r.Kind = "rekey " },
	} {
		req := rekeyTo(3, 2, nil)
		fn(&req)
		if _, err := c.node.Start(t.Context(), GenerateRoot, local, req); fault.As(err) == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if c.size() != from || c.countBehind("ceremony/") > 2 { // the two proofs of the unseal
		t.Error("something was stored")
	}
}

// The result names to whom its messages go, also when the next rekey, to others, is open.
func TestResultNamesItsRecipients(t *testing.T) {
	c := newCluster(t, 3, 2)
	recipients, identities := ageKeys(t, 6)
	first := c.finish(c.begin(local, rekeyTo(3, 2, func(k *RekeyRequest) { k.Age = recipients[:3] })), 0)
	for i, m := range first.Keys {
		c.shares[i] = openAge(t, m, identities[i])
	}
	for range 2 {
		got, err := c.node.Result(t.Context(), first.Attempt.Nonce, local)
		if err != nil || !slices.Equal(got.RecipientKeys, recipients[:3]) || !slices.EqualFunc(got.Keys, first.Keys, bytes.Equal) {
			t.Errorf("recipients %v, %v", got.RecipientKeys, err)
		}
		if c.look(ceremony.Rekey).State == Idle {
			c.begin(local, rekeyTo(3, 2, func(k *RekeyRequest) { k.Age = recipients[3:] }))
		}
	}
}

// A backup is of shares that are worth something: that of a rekey which was cancelled goes with it.
func TestBackupOfACancelledRekey(t *testing.T) {
	c := newCluster(t, 3, 2)
	to, _ := ageKeys(t, 3)
	o := c.begin(bearer(c.root), rekeyTo(3, 2, func(k *RekeyRequest) { k.Age, k.Verify, k.Backup = to, true, true }))
	c.finish(o, 0)
	access := c.access(c.root, "sys/rekey/backup", policy.Read)
	if _, _, keys, err := c.node.RekeyBackup(t.Context(), access, ceremony.Rekey); err != nil || len(keys) != 3 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	if _, ended, err := c.node.Cancel(t.Context(), ceremony.Rekey, "", bearer(c.root)); err != nil || !ended {
		t.Fatal(err)
	}
	if _, _, _, err := c.node.RekeyBackup(t.Context(), access, ceremony.Rekey); !errors.Is(err, errNoBackup) {
		t.Errorf("after the cancel: %v", err)
	}
}
