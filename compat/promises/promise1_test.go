package promises

import (
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/quorate/quorate/compat/harness"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/store/storetest"
)

// crashes tells a story over stores of which one commit fails, the first, the second and so on, in both ways in which it
// can, until it is told without reaching the failure. From the call of arm on the commits are counted; crashed is what
// the story calls when it is cut off.
func crashes(t *testing.T, story func(t *testing.T, st *storetest.Faulty, arm, crashed func())) {
	for _, mode := range []storetest.Mode{storetest.Lost, storetest.Kept} {
		for n, again := 1, true; again; n++ {
			again = false
			t.Run(fmt.Sprintf("%v/%d", mode, n), func(t *testing.T) {
				st := storetest.NewFaulty(inmem.New())
				story(t, st, func() { st.FailCommit(n, mode) }, func() {
					if again || !st.Crashed() {
						t.Fatal("cut off by something else than the one failure")
					}
					again = true
					st.Recover()
				})
			})
		}
	}
}

// Promise 1: some quorum always opens the store. After a crash at any write of init or rotation, or of what follows
// them, a quorum of shares that holders already have in their hands unseals it.
func TestPromise1(t *testing.T) {
	crashes(t, func(t *testing.T, st *storetest.Faulty, arm, crashed func()) {
		boot := func(shares [][]byte) asker {
			s := harness.Start(t, harness.Options{Uninitialised: true, Store: st, OneNode: true})
			s.Shares = shares
			return operator(t, s)
		}
		arm()
		a := boot(nil)
		code, res, _ := a.ask("PUT", "sys/init", fields{"secret_shares": 3, "secret_threshold": 2})
		if code != 200 { // the process is gone, and nobody has a share
			crashed()
			a = boot(nil)
			res = a.want(200, "PUT", "sys/init", fields{"secret_shares": 3, "secret_threshold": 2, "replace": true})
		}
		a.server.Shares = unhex(t, texts(res["keys"]))
		a.server.Root = res["root_token"].(string)
		root := a.with(a.server.Root)
		for _, step := range []struct {
			by           asker
			method, path string
			body         fields
		}{
			{a, "PUT", "sys/unseal", fields{"key": a.server.Hex(2)}},
			{a, "PUT", "sys/unseal", fields{"key": a.server.Hex(0)}},
			{a, "PUT", attempt, nil},
			{root, "POST", "auth/token/create", nil},
			{root, "POST", "sys/rotate/root", nil},
			{root, "POST", "sys/rotate/keyring", nil},
			{root, "PUT", "sys/seal", nil},
			{a, "PUT", "sys/unseal", fields{"key": a.server.Hex(1)}},
			{a, "PUT", "sys/unseal", fields{"reset": true, "key": a.server.Hex(1)}},
		} {
			code, _, text := step.by.ask(step.method, step.path, step.body)
			if code >= 500 {
				crashed()
				break
			}
			if code != 200 && code != 204 {
				t.Fatalf("%s: %d %s", step.path, code, text)
			}
		}
		st.Recover()
		token := a.server.Root
		a = boot(a.server.Shares)
		a.server.Root = token
		a.server.Unseal(t)
		if !a.lives(token) {
			t.Error("unsealed, and the first root token is dead")
		}
		a.audited()
		// From now on no init takes the cluster away from its holders.
		a.want(400, "PUT", "sys/init", fields{"secret_shares": 3, "secret_threshold": 2, "replace": true})
	})
}

// Promise 1, of a rekey and of a rotation of the root key with new shares: with thresholds kept, raised and lowered,
// and with each way of verification. After a crash at any write, a quorum in its holders' hands opens the store, and
// the change can be carried to its end.
func TestPromise1Rekey(t *testing.T) {
	list := changes()
	if testing.Short() {
		list = []change{list[1], list[8], list[17]}
	}
	for _, c := range list {
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			crashes(t, func(t *testing.T, st *storetest.Faulty, arm, crashed func()) { rekeyStory(t, c, st, arm, crashed) })
		})
	}
}

func rekeyStory(t *testing.T, c change, st *storetest.Faulty, arm, crashed func()) {
	s := harness.Start(t, harness.Options{Shares: 4, Threshold: 3, Store: st, OneNode: true})
	boot := func() asker {
		next := harness.Start(t, harness.Options{Uninitialised: true, Store: st, OneNode: true})
		next.Root = s.Root
		return operator(t, next)
	}
	opens := func(people []seat, threshold int) (asker, bool) {
		a := boot()
		for i := range min(threshold, len(people)) {
			code, reply, _ := a.ask("PUT", "sys/unseal", fields{"key": hex.EncodeToString(people[len(people)-1-i].share)})
			if code == 200 && reply["sealed"] == false {
				return a, true
			}
		}
		return a, false
	}
	r := newRenewal(t, c, operator(t, s))
	arm()
	if r.carry(t) {
		crashed()
		a, ok := opens(r.old, 3)
		if !ok {
			a, ok = opens(r.next, c.threshold)
		}
		if !ok {
			t.Fatalf("no quorum in its holders' hands opens the store; they have %d new shares", len(r.next))
		}
		r.a = a
		if r.carry(t) {
			t.Fatal("the change can't be carried to its end")
		}
	}
	st.Recover()
	// Without a verification nobody knows yet that the new holders have their shares: until they have shown it the old
	// ones open the store too.
	if _, ok := opens(r.old, 3); ok == c.verify {
		t.Errorf("the old shares open the store after the change: %t", ok)
	}
	if _, ok := opens(r.next, c.threshold); !ok {
		t.Fatal("the new shares don't open the store")
	}
	if _, ok := opens(r.old, 3); ok {
		t.Error("the old shares open the store for ever")
	}
	a, _ := opens(r.next, c.threshold) // and vouches for what the old ones were told
	if !a.lives(s.Root) {
		t.Error("the first root token is dead after the change")
	}
	a.audited()
}
