package node

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/store/storetest"
	"github.com/quorate/quorate/internal/token"
)

const attemptPath = "sys/generate-root/attempt"

// bearer asks with a token.
func bearer(id string) Asker { return Asker{Token: secret.Copy([]byte(id)), Path: attemptPath} }

// A live token that no policy allows anything owns what it started over a local connection, but gives it no strength:
// it gives way as what a local connection alone started does.
func TestTokenWithoutPolicyStrengthensNothing(t *testing.T) {
	c := newCluster(t, 5, 3)
	weak, _ := c.create(c.root, token.Spec{Policies: []string{"default"}})
	mine := bearer(weak)
	mine.Local = true
	for name, stronger := range map[string]Asker{"holder": {Credential: Credential{Share: c.share(0)}}, "policy token": bearer(c.root)} {
		begun := c.start(GenerateRoot, mine, StartRequest{})
		for _, who := range []Asker{local, mine, bearer(weak)} {
			if _, err := c.node.StartRoot(t.Context(), GenerateRoot, who, StartRequest{}); err == nil {
				t.Error("it gave way to a start that is no stronger")
			}
		}
		_, _, err := c.node.CancelRoot(t.Context(), local)
		c.refused(err, fault.Denied, "started with a token")
		st := c.start(GenerateRoot, stronger, StartRequest{})
		if st.Nonce == begun.Nonce || c.status().Nonce != st.Nonce {
			t.Errorf("%s: it did not give way", name)
		}
		if _, ended, err := c.node.CancelRoot(t.Context(), bearer(c.root)); err != nil || !ended {
			t.Fatal(ended, err)
		}
	}
	// What a holder has approved gives way to nobody.
	st := c.start(GenerateRoot, mine, StartRequest{})
	c.approve(GenerateRoot, st.Nonce, 4)
	for _, who := range []Asker{{Credential: Credential{Share: c.share(0)}}, bearer(c.root)} {
		if _, err := c.node.StartRoot(t.Context(), GenerateRoot, who, StartRequest{}); !errors.Is(err, ErrInProgress) {
			t.Errorf("a start over an approved attempt: %v", err)
		}
	}
	if _, ended, err := c.node.CancelRoot(t.Context(), bearer(weak)); err != nil || !ended {
		t.Errorf("its owner can't cancel it: %v, %v", ended, err)
	}
}

// On a listener that is open to all, anyone cancels what anyone started, until a holder has approved it, and nothing
// else.
func TestOpenListenerCancel(t *testing.T) {
	c := newCluster(t, 5, 3)
	anyone := Asker{Open: true}
	operator := Asker{Open: true, Local: true}
	for name, r := range map[string]struct {
		by, cancels Asker
		approved    bool
		ends        bool
	}{
		"anyone's, by anyone":                     {anyone, anyone, false, true},
		"anyone's, by an operator":                {anyone, operator, false, true},
		"anyone's and approved, by anyone":        {anyone, anyone, true, false},
		"anyone's and approved, by an operator":   {anyone, operator, true, true},
		"an operator's, by anyone":                {operator, anyone, false, false},
		"an operator's and approved, by anyone":   {operator, anyone, true, false},
		"an operator's, by an operator":           {operator, operator, false, true},
		"a token's, by anyone":                    {bearer(c.root), anyone, false, false},
		"a token's, by an operator":               {bearer(c.root), operator, false, false},
		"a holder's, by anyone":                   {Asker{Credential: Credential{Share: c.share(0)}}, anyone, false, false},
		"a holder's on that listener, by anyone":  {Asker{Credential: Credential{Share: c.share(0)}, Open: true}, anyone, false, false},
		"anyone's, by nobody":                     {anyone, Asker{}, false, false},
		"anyone's, by a token without any rights": {anyone, bearer("q.deaddeaddeaddeaddeadde"), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			st := c.start(GenerateRoot, r.by, StartRequest{})
			want := 0
			if r.approved {
				want = c.approve(GenerateRoot, st.Nonce, 1).Progress
			}
			_, ended, err := c.node.CancelRoot(t.Context(), r.cancels)
			if ended != r.ends {
				t.Fatalf("ended %v, %v, want %v", ended, err, r.ends)
			}
			if r.ends {
				return
			}
			c.refused(err, fault.Denied, "")
			if now := c.status(); now.Nonce != st.Nonce || now.Progress != want || now.Objections != 0 {
				t.Errorf("after the refusal: %+v", now)
			}
			if _, ended, err := c.node.CancelRoot(t.Context(), bearer(c.root)); err != nil || !ended {
				t.Fatal(ended, err)
			}
		})
	}
}

// committed is a store that does something after each of its commits.
type committed struct {
	store.Store
	then func()
}

func (c *committed) Update(ctx context.Context, fn func(store.Tx) error) error {
	err := c.Store.Update(ctx, fn)
	if then := c.then; then != nil && err == nil {
		c.then = nil
		then()
	}
	return err
}

// A limited use is counted, decided and acted on in one transaction: a token that is revoked the moment after its use was
// counted has acted by then, or never will.
func TestLimitedUseIsOneTransaction(t *testing.T) {
	faulty := storetest.NewFaulty(inmem.New())
	st := &committed{Store: faulty}
	c := newClusterOver(t, st, 1, 1)
	for name, ask := range map[string]func(context.Context, Access, func(*Call) error) error{"view": c.node.View, "update": c.node.Update} {
		t.Run(name, func(t *testing.T) {
			id, e := c.create(c.root, token.Spec{Policies: []string{"root"}, TTL: time.Hour, NumUses: 5})
			revoked, acted := false, false
			st.then = func() {
				c.revoke(c.root, e)
				revoked = true
			}
			before := faulty.Commits()
			err := ask(t.Context(), c.access(id, "secret/x", policy.Update), func(call *Call) error {
				if revoked {
					t.Error("it acts after its revocation")
				}
				acted = true
				err := call.Tx.Put("test/"+name, []byte("x"))
				if name == "view" && err != nil { // a read is a read, however its use is counted
					return nil
				}
				return err
			})
			if err != nil || !acted || !revoked {
				t.Fatalf("acted %v, revoked %v, %v", acted, revoked, err)
			}
			if n := faulty.Commits() - before; n != 2 {
				t.Errorf("%d commits with that of the revocation, want 2", n)
			}
			if written := c.readBehind("test/"+name) != nil; written != (name == "update") {
				t.Errorf("written: %v", written)
			}
		})
	}
}

// A use counts when the request is refused or fails, and what the request wrote until then is not kept.
func TestLimitedUseCountsWhenRefused(t *testing.T) {
	faulty := storetest.NewFaulty(inmem.New())
	c := newClusterOver(t, faulty, 1, 1)
	id, _ := c.create(c.root, token.Spec{Policies: []string{"default"}, TTL: time.Hour, NumUses: 4})
	errFails := fault.New(fault.Invalid, "it fails")
	uses := func() int {
		var e *token.Entry
		act := c.node.active.Load()
		err := act.Barrier.View(t.Context(), func(r store.Reader) (err error) {
			e, err = act.tokens.Authenticate(r, []byte(id))
			return err
		})
		if errors.Is(err, token.ErrDead) {
			return 0
		}
		if err != nil {
			t.Fatal(err)
		}
		return e.NumUses
	}
	write := func(call *Call) error {
		if err := call.Tx.Put("test/half", []byte("x")); err != nil {
			return err
		}
		return errFails
	}
	steps := []struct {
		what string
		ask  func() error
		want error
	}{
		{"an update that policy refuses", func() error {
			return c.node.Update(t.Context(), c.access(id, "secret/x", policy.Update), write)
		}, ErrDenied},
		{"a read that policy refuses", func() error {
			return c.node.View(t.Context(), c.access(id, "secret/x", policy.Read), write)
		}, ErrDenied},
		{"an update that fails", func() error {
			return c.node.Update(t.Context(), c.access(id, "auth/token/renew-self", policy.Update), write)
		}, errFails},
		{"the last use", func() error {
			return c.node.Update(t.Context(), c.access(id, "auth/token/renew-self", policy.Update), write)
		}, errFails},
	}
	for i, s := range steps {
		before := faulty.Commits()
		if err := s.ask(); !errors.Is(err, s.want) {
			t.Errorf("%s: %v, want %v", s.what, err, s.want)
		}
		if n := faulty.Commits() - before; n != 1 {
			t.Errorf("%s: %d commits, want 1", s.what, n)
		}
		if left := uses(); left != len(steps)-1-i {
			t.Errorf("%s: %d uses are left, want %d", s.what, left, len(steps)-1-i)
		}
	}
	if c.readBehind("test/half") != nil {
		t.Error("what a failed request wrote was kept")
	}
	if err := c.node.Update(t.Context(), c.access(id, "auth/token/renew-self", policy.Update), write); !errors.Is(err, ErrDenied) {
		t.Errorf("after its last use: %v", err)
	}
}

// A token that starts an attempt with its last use dies in the transaction that starts it, and the attempt goes on.
func TestLimitedTokenStarts(t *testing.T) {
	faulty := storetest.NewFaulty(inmem.New())
	c := newClusterOver(t, faulty, 3, 2)
	id, _ := c.create(c.root, token.Spec{Policies: []string{"root"}, TTL: time.Hour, NumUses: 1})
	before := faulty.Commits()
	st := c.start(GenerateRoot, bearer(id), StartRequest{})
	if n := faulty.Commits() - before; n != 1 || c.lookup(id) != nil {
		t.Errorf("%d commits, and the token is alive: %v", n, c.lookup(id) != nil)
	}
	_, err := c.node.StartRoot(t.Context(), GenerateRoot, bearer(id), StartRequest{})
	c.refused(err, fault.Denied, "")
	if c.status().Nonce != st.Nonce {
		t.Error("the attempt is gone with its owner's last use")
	}
}
