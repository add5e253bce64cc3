package node

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/token"
)

// raw reads a record as the disk has it; nil if there is none.
func (c *cluster) raw(key string) (value []byte) {
	c.t.Helper()
	err := c.st.View(c.t.Context(), func(r store.Reader) error {
		values, err := r.Get(key)
		if err == nil {
			value = bytes.Clone(values[0])
		}
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return value
}

// damage turns one bit of a record over, as a bad disk does.
func (c *cluster) damage(key string, at int) {
	c.t.Helper()
	value := c.raw(key)
	if len(value) <= at {
		c.t.Fatalf("the record %s has %d bytes", key, len(value))
	}
	value[at] ^= 1
	if err := c.st.Update(c.t.Context(), func(tx store.Tx) error { return tx.Put(key, value) }); err != nil {
		c.t.Fatal(err)
	}
}

// rot makes the record of the attempt useless: on the disk, or for a reader who gets through the barrier.
var rot = map[string]func(c *cluster){
	"first byte": func(c *cluster) { c.damage(attemptKey, 0) },
	"last byte":  func(c *cluster) { c.damage(attemptKey, len(c.raw(attemptKey))-1) },
	"truncated": func(c *cluster) {
		half := c.raw(attemptKey)[:20]
		if err := c.st.Update(c.t.Context(), func(tx store.Tx) error { return tx.Put(attemptKey, half) }); err != nil {
			c.t.Fatal(err)
		}
	},
	"not JSON": func(c *cluster) { c.behind(attemptKey, "{") },
	"empty":    func(c *cluster) { c.behind(attemptKey, "{}") },
}

// behind writes a record through the barrier.
func (c *cluster) behind(key, value string) {
	c.t.Helper()
	err := c.node.active.Load().Barrier.Update(c.t.Context(), func(tx store.Tx) error { return tx.Put(key, []byte(value)) })
	if err != nil {
		c.t.Fatal(err)
	}
}

// A damaged record of an attempt is in nobody's way: whatever is asked of the server works as if there were none.
func TestDamagedAttemptBlocksNothing(t *testing.T) {
	for what, spoil := range rot {
		for name, then := range map[string]func(c *cluster, nonce string) error{
			"status": func(c *cluster, _ string) error {
				if st := c.status(); st.Started || st.Nonce != "" || st.Required != 2 {
					c.t.Errorf("status %+v", st)
				}
				return nil
			},
			"start": func(c *cluster, _ string) error {
				_, err := c.node.StartRoot(c.t.Context(), GenerateRoot, local, StartRequest{})
				return err
			},
			"start of the other family": func(c *cluster, _ string) error {
				_, err := c.node.StartRoot(c.t.Context(), RootGeneration, local, StartRequest{TokenID: []byte("0123456789abcdef")})
				return err
			},
			"approval": func(c *cluster, nonce string) error {
				if _, err := c.node.ApproveRoot(c.t.Context(), GenerateRoot, nonce, c.share(1)); !errors.Is(err, ErrNotStarted) {
					c.t.Errorf("an approval: %v", err)
				}
				return nil
			},
			"cancel": func(c *cluster, _ string) error {
				_, ended, err := c.node.CancelRoot(c.t.Context(), Asker{})
				if !ended {
					c.t.Error("nothing to cancel, and it was not said so")
				}
				return err
			},
			"revocation": func(c *cluster, _ string) error {
				id, e := c.create(c.root, token.Spec{})
				c.revoke(c.root, e)
				if c.lookup(id) != nil {
					c.t.Error("alive after its revocation")
				}
				return nil
			},
			"seal": func(c *cluster, _ string) error {
				err := c.seal()
				c.unseal()
				return err
			},
			"sweep": func(c *cluster, _ string) error {
				err := c.node.sweep(c.t.Context(), c.node.active.Load())
				if c.raw(attemptKey) != nil || c.raw(c.otpKey()) != nil {
					c.t.Error("the sweep left it there")
				}
				return err
			},
		} {
			t.Run(what+"/"+name, func(t *testing.T) {
				c := newCluster(t, 3, 2)
				nonce := c.start(GenerateRoot, local, StartRequest{}).Nonce
				c.approve(GenerateRoot, nonce, 0)
				spoil(c)
				if err := then(c, nonce); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if c.status().Started {
					if _, _, err := c.node.CancelRoot(t.Context(), local); err != nil {
						t.Fatal(err)
					}
				}
				if c.lookup(c.generate()) == nil {
					t.Error("no root generation is possible afterwards")
				}
			})
		}
	}
}

// A sweep does each of its parts, whatever became of the others.
func TestSweepGoesOnAfterADamagedRecord(t *testing.T) {
	c := newCluster(t, 2, 2)
	nonce := c.start(GenerateRoot, local, StartRequest{}).Nonce
	for i := range 2 {
		c.approve(GenerateRoot, nonce, i)
	}
	c.damage(resultPrefix+nonce, 30)
	c.start(GenerateRoot, local, StartRequest{})
	c.clock.step(5 * time.Minute)
	if err := c.node.sweep(t.Context(), c.node.active.Load()); err == nil {
		t.Error("nobody was told of the damaged result")
	}
	if c.raw(attemptKey) != nil {
		t.Error("the expired attempt was not swept")
	}
}

// The OTP of an attempt is kept until it is used, apart from everything else, and no longer than the attempt.
func TestOTPIsGoneWithItsAttempt(t *testing.T) {
	const chosen = "2vPFYG8gUSW9npwzyvxXMug0"
	for name, end := range map[string]func(c *cluster, nonce string){
		"completion": func(c *cluster, nonce string) {
			c.approve(GenerateRoot, nonce, 0)
			if c.raw(c.otpKey()) == nil {
				c.t.Error("gone before it is used")
			}
			c.approve(GenerateRoot, nonce, 1)
		},
		"cancel": func(c *cluster, _ string) {
			if _, ended, err := c.node.CancelRoot(c.t.Context(), Asker{Credential: Credential{Share: c.share(2)}}); err != nil || !ended {
				c.t.Fatal(ended, err)
			}
		},
		"expiry": func(c *cluster, _ string) {
			c.clock.step(5 * time.Minute)
			if err := c.node.sweep(c.t.Context(), c.node.active.Load()); err != nil {
				c.t.Fatal(err)
			}
		},
		"revocation": func(c *cluster, _ string) {
			c.revoke(c.root, c.lookup(c.owner))
		},
		"seal": func(c *cluster, _ string) {
			if err := c.seal(); err != nil {
				c.t.Fatal(err)
			}
			c.unseal()
		},
		"another attempt without one": func(c *cluster, _ string) {
			c.clock.step(5 * time.Minute)
			c.start(RootGeneration, local, StartRequest{TokenID: []byte("0123456789abcdef")})
		},
	} {
		for _, own := range []string{"", chosen} {
			t.Run(name+"/"+own, func(t *testing.T) {
				c := newCluster(t, 3, 2)
				c.owner, _ = c.create(c.root, token.Spec{Policies: []string{"root"}, TTL: time.Hour})
				st := c.start(GenerateRoot, bearer(c.owner), StartRequest{OTP: []byte(own)})
				otp := own + st.OTP
				if len(otp) != 24 || c.raw(c.otpKey()) == nil {
					t.Fatalf("an OTP of %d characters, stored: %v", len(otp), c.raw(c.otpKey()) != nil)
				}
				c.noPlain(otp)
				if attempt := c.readBehind(attemptKey); !bytes.Contains(attempt, []byte(st.Nonce)) || contains(attempt, otp) {
					t.Errorf("the record of the attempt holds the OTP, or is another: %s", attempt)
				}
				end(c, st.Nonce)
				if c.raw(c.otpKey()) != nil || c.readBehind(c.otpKey()) != nil {
					t.Error("the OTP is still there")
				}
				c.noPlain(otp)
			})
		}
	}
}

// Without its OTP an attempt can't be completed any more, but be cancelled, or give way.
func TestLostOTP(t *testing.T) {
	for name, lose := range map[string]func(c *cluster){
		"damaged": func(c *cluster) { c.damage(c.otpKey(), 30) },
		"gone": func(c *cluster) {
			key := c.otpKey()
			if err := c.st.Update(c.t.Context(), func(tx store.Tx) error { return tx.Delete(key) }); err != nil {
				c.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 3, 2)
			nonce := c.start(GenerateRoot, local, StartRequest{}).Nonce
			c.approve(GenerateRoot, nonce, 0)
			lose(c)
			if got, err := c.node.ApproveRoot(t.Context(), GenerateRoot, nonce, c.share(1)); err == nil || got != (RootStatus{}) {
				t.Errorf("a completion without an OTP: %+v", got)
			}
			if c.accessors(c.root) != 1 {
				t.Error("there is a token that nobody can have")
			}
			if _, ended, err := c.node.CancelRoot(t.Context(), local); err != nil || !ended {
				t.Errorf("cancel: %v, %v", ended, err)
			}
			if c.lookup(c.generate()) == nil {
				t.Error("no root generation is possible afterwards")
			}
		})
	}
}

// readBehind reads a record through the barrier; nil if there is none.
func (c *cluster) readBehind(key string) (value []byte) {
	c.t.Helper()
	err := c.node.active.Load().Barrier.View(c.t.Context(), func(r store.Reader) error {
		values, err := r.Get(key)
		if err == nil {
			value = bytes.Clone(values[0])
		}
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return value
}

// contains looks for text in the ways in which it may be written.
func contains(b []byte, text string) bool {
	for _, form := range []string{text, hex.EncodeToString([]byte(text)), base64.StdEncoding.EncodeToString([]byte(text))} {
		if bytes.Contains(b, []byte(form)) {
			return true
		}
	}
	return false
}

// The attempt depends on its owner as the tree of tokens is when the revocation comes, not as it was at the start.
func TestOrphanedOwnerKeepsItsAttempt(t *testing.T) {
	c := newCluster(t, 3, 2)
	spec := token.Spec{Policies: []string{"root"}, TTL: time.Hour}
	grandparent, grandparentEntry := c.create(c.root, spec)
	parent, parentEntry := c.create(grandparent, spec)
	owner, ownerEntry := c.create(parent, spec)
	c.start(GenerateRoot, bearer(owner), StartRequest{})
	revoke := func(e *token.Entry, orphanChildren bool) {
		t.Helper()
		err := c.node.Update(t.Context(), c.access(c.root, "auth/token/revoke-orphan", policy.Update), func(call *Call) error {
			return call.Revoke(e, orphanChildren)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	revoke(parentEntry, true)
	if !c.status().Started || c.lookup(owner) == nil {
		t.Fatal("the parent died alone, and the attempt of its child is gone")
	}
	revoke(grandparentEntry, false)
	if !c.status().Started || c.lookup(owner) == nil {
		t.Fatal("the owner is an orphan by now and lives on, but its attempt is gone")
	}
	revoke(ownerEntry, true)
	if c.status().Started {
		t.Error("the owner was revoked and its attempt goes on")
	}
}

// Tokens that the attempt depends on and that die by their last use: an explicit revocation is one all the same.
func TestRevocationByTheLastUseEndsTheAttempt(t *testing.T) {
	c := newCluster(t, 3, 2)
	id, _ := c.create(c.root, token.Spec{Policies: []string{"root"}, TTL: time.Hour, NumUses: 2})
	c.start(GenerateRoot, bearer(id), StartRequest{})
	err := c.node.Update(t.Context(), c.access(id, "auth/token/revoke-self", policy.Update), func(call *Call) error {
		return call.Revoke(call.Token, false)
	})
	if err != nil || c.lookup(id) != nil {
		t.Fatalf("revoke-self: %v", err)
	}
	if c.status().Started {
		t.Error("the owner revoked itself and its attempt goes on")
	}
}

// T68: a clock that was ten years ahead when the attempt began, and has been put right since, leaves no attempt that
// can't end; one that steps back a little takes nothing away.
func TestClockFarBack(t *testing.T) {
	const year = 365 * 24 * time.Hour
	c := newCluster(t, 3, 2)
	c.start(GenerateRoot, Asker{Credential: Credential{Share: c.share(0)}}, StartRequest{})
	c.clock.step(-10 * year)
	if st := c.status(); st.Started {
		t.Errorf("an attempt from the future: %+v", st)
	}
	if err := c.node.sweep(t.Context(), c.node.active.Load()); err != nil || c.raw(attemptKey) != nil {
		t.Errorf("the sweep: %v, and it is still there: %v", err, c.raw(attemptKey) != nil)
	}
	st := c.start(GenerateRoot, local, StartRequest{})
	c.approve(GenerateRoot, st.Nonce, 0)
	c.clock.step(-time.Hour)
	if now := c.status(); now.Nonce != st.Nonce || now.Progress != 1 {
		t.Errorf("after a step of an hour: %+v", now)
	}
	last := c.approve(GenerateRoot, st.Nonce, 1)
	id := c.decode(last, st.OTP)
	for _, step := range []time.Duration{-10 * year, 20 * year} {
		c.clock.step(step)
		if c.lookup(id) == nil || c.lookup(c.root) == nil {
			t.Errorf("a root token is dead after a step of %v", step)
		}
	}
	if _, err := c.node.ApproveRoot(t.Context(), GenerateRoot, st.Nonce, c.share(1)); !errors.Is(err, ErrNotStarted) {
		t.Errorf("a result that is years old can still be had: %v", err)
	}
	if !strings.Contains(c.log.String(), "ceremony expired") {
		t.Error("the end of the attempt from the future is not in the log")
	}
}

// The sweeper runs by itself, and stops with the keys.
func TestSweeperStopsWithTheSeal(t *testing.T) {
	c := newCluster(t, 1, 1)
	act := c.node.active.Load()
	if err := c.seal(); err != nil {
		t.Fatal(err)
	}
	if act.ctx.Err() == nil {
		t.Error("the context that the sweeper runs in lives on")
	}
	if err := c.node.sweep(context.WithoutCancel(act.ctx), act); !errors.Is(err, store.ErrClosed) {
		t.Errorf("a sweep after the seal: %v", err)
	}
	if f := fault.As(c.seal()); f != nil {
		t.Error(f)
	}
}

// An ID that was given anew belongs to another token: revoking that one ends nothing of the first one's.
func TestReusedTokenIDOwnsNothing(t *testing.T) {
	c := newCluster(t, 3, 2)
	const id = "a-chosen-id-0123456789"
	c.create(c.root, token.Spec{ID: []byte(id), Policies: []string{"root"}, TTL: time.Minute})
	c.start(GenerateRoot, Asker{Token: secret.Copy([]byte(id)), Path: "sys/generate-root/attempt"}, StartRequest{})
	c.clock.step(time.Minute)
	_, again := c.create(c.root, token.Spec{ID: []byte(id), Policies: []string{"default"}, TTL: time.Hour})
	c.revoke(c.root, again)
	if !c.status().Started {
		t.Error("the attempt ended with a token that has only the name of its owner")
	}
}
