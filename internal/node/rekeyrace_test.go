package node

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/secret"
)

// atOnce runs all of fns at the same time.
func atOnce(fns ...func()) {
	var wg sync.WaitGroup
	for _, fn := range fns {
		wg.Go(fn)
	}
	wg.Wait()
}

// T24 for a rekey: the last proof against a cancel. Either the new generation is in force or it is destroyed, and a
// quorum opens the store.
func TestCancelAgainstTheLastProof(t *testing.T) {
	outcome := map[bool]int{}
	for i := range 10 {
		c, o, fresh := verifying(t, asLocal, nil)
		if _, err := c.prove(o, fresh[1]); err != nil {
			t.Fatal(err)
		}
		var proof, cancel error
		var ended bool
		atOnce(func() { _, proof = c.prove(o, fresh[2]) },
			func() {
				time.Sleep(time.Duration(i) * 50 * time.Microsecond)
				_, ended, cancel = c.node.Cancel(t.Context(), ceremony.Rekey, "", local)
			})
		if proof != nil && fault.As(proof) == nil || cancel != nil || !ended {
			t.Fatal(proof, cancel, ended)
		}
		_, pending := c.table()["pending"]
		if pending || c.opens(fresh[:3]) != (proof == nil) || c.opens(c.shares[:3]) != (proof != nil) {
			t.Fatalf("proof: %v, pending %t", proof, pending)
		}
		outcome[proof == nil]++
	}
	t.Logf("proof first %d times, cancel first %d times", outcome[true], outcome[false])
}

// All new holders prove their shares at once, and one of them twice: it is one commit.
func TestRacingProofs(t *testing.T) {
	for range 5 {
		c, o, fresh := verifying(t, asLocal, func(k *RekeyRequest) { k.VerifyAll, k.Rotate = true, true })
		var mu sync.Mutex
		done, ok := 0, 0
		var fns []func()
		for _, share := range append(fresh[1:], fresh[1]) {
			fns = append(fns, func() {
				got, err := c.prove(o, share)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					ok++
				} else if fault.As(err) == nil {
					t.Error(err)
				}
				if err == nil && got.State == Complete {
					done++
				}
			})
		}
		atOnce(fns...)
		if done != 1 || ok != 4 || !c.opens(fresh[2:]) {
			t.Fatalf("%d commits, %d proofs", done, ok)
		}
	}
}

// T25 for a rekey: an operator's seal against the last share.
func TestSealAgainstTheLastShareOfARekey(t *testing.T) {
	for range 10 {
		c := newCluster(t, 3, 2)
		o := c.begin(local, rekeyTo(3, 2, func(k *RekeyRequest) { k.Rotate = true }))
		c.mustGive(o, 0)
		var got *Ceremony
		var err, sealed error
		atOnce(func() { got, err = c.give(o, c.shares[1], "") },
			func() {
				sealed = c.node.Seal(context.Background(), c.access(c.root, "sys/seal", policy.Update), false)
			})
		if sealed != nil {
			t.Fatal(sealed)
		}
		if !c.opens(c.shares[1:]) { // the old ones, which retire at most
			t.Fatal("the old shares are dead")
		}
		if err == nil && !c.opens(got.Keys[:2]) {
			t.Fatal("the new shares don't open the store")
		}
		if err != nil && c.table()["active"].Number != 1 {
			t.Fatalf("%v, and another generation is in force", err)
		}
	}
}

// T23: of concurrent starts of each kind exactly one wins.
func TestRacingStartsOfEachKind(t *testing.T) {
	c := newCluster(t, 3, 2)
	var mu sync.Mutex
	won := map[ceremony.Kind]int{}
	var fns []func()
	for kind, req := range everyKind() {
		for range 4 {
			fns = append(fns, func() {
				_, err := c.node.Start(t.Context(), GenerateRoot, local, req)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won[kind]++
				} else if fault.As(err) == nil {
					t.Error(err)
				}
			})
		}
	}
	atOnce(fns...)
	for kind := range everyKind() {
		if won[kind] != 1 {
			t.Errorf("%s: %d starts won", kind, won[kind])
		}
	}
	list, _, err := c.node.Ceremonies(t.Context())
	if err != nil || len(list) != 5 {
		t.Errorf("%d open, %v", len(list), err)
	}
}

// Promise 9: another node over the same store honours at once what this one acknowledged.
func TestRekeyOverTwoNodes(t *testing.T) {
	for _, rotate := range []bool{false, true} {
		c := newCluster(t, 3, 2)
		first := c.node
		c.boot()
		c.unseal()
		second := c.node
		c.node = first
		o := c.begin(local, rekeyTo(3, 2, func(k *RekeyRequest) { k.Verify, k.Rotate = true, rotate }))
		c.mustGive(o, 0)
		c.node = second
		if n := c.progress(ceremony.Rekey); n != 1 {
			t.Fatalf("progress %d on the other node", n)
		}
		got := c.mustGive(o, 1)
		fresh := cloned(got.Keys)
		c.node = first
		if _, err := c.prove(got, fresh[0]); err != nil {
			t.Fatal(err)
		}
		c.node = second
		if _, err := c.prove(got, fresh[1]); err != nil {
			t.Fatal(err)
		}
		old := c.shares
		c.shares = fresh
		c.node = first
		if rotate { // it hasn't the new root key: it must say nothing wrong, and works again when it was unsealed
			_, err := first.CeremonyOf(t.Context(), ceremony.Rekey)
			if err == nil {
				t.Error("a node works without the root key in force")
			}
			c.boot()
			c.unseal()
		}
		next := c.begin(local, StartRequest{Kind: ceremony.RootToken})
		_, err := c.node.Approve(t.Context(), ceremony.RootToken, GenerateRoot, next.Attempt.Nonce, Approver{Credential: Credential{Share: secret.Copy(old[0])}})
		c.refused(err, fault.Invalid, "old generation")
		c.node = second
		c.finish(next, 0)
	}
}
