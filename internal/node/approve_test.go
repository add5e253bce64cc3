package node

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/store/storetest"
)

// T33: a client that sends the completing approval eight times at once, because it lost patience, gets the one reply
// eight times, and one token is made.
func TestSameCompletingApprovalAtOnce(t *testing.T) {
	for _, family := range []Family{GenerateRoot, RootGeneration} {
		t.Run(string(family), func(t *testing.T) {
			c := newCluster(t, 3, 2)
			tokens := 1
			for range 40 {
				st := c.start(family, local, StartRequest{TokenID: []byte("a-token-id-of-my-own")})
				c.approve(family, st.Nonce, 0)
				replies := make([]RootStatus, 8)
				var wg sync.WaitGroup
				for i := range replies {
					wg.Go(func() {
						var err error
						if replies[i], err = c.node.ApproveRoot(t.Context(), family, st.Nonce, c.share(1)); err != nil {
							t.Errorf("one of eight: %v", err)
						}
					})
				}
				wg.Wait()
				if family == GenerateRoot {
					tokens++
				} else {
					tokens = 2 // each takes the place of the one before
				}
				for _, r := range replies {
					if !r.Complete || r != replies[0] || (r.EncodedToken == "") != (family == RootGeneration) {
						t.Fatalf("the replies differ, or are no completion: %+v", replies)
					}
				}
				if n := c.accessors(c.root); n != tokens {
					t.Fatalf("%d tokens, want %d", n, tokens)
				}
			}
		})
	}
}

// pausing is a store that does something else before one of the calls that it gets.
type pausing struct {
	store.Store
	calls atomic.Int32 // down to the one that waits
	first func()
}

func (p *pausing) pause() {
	if p.calls.Add(-1) == 0 {
		p.first()
	}
}

func (p *pausing) View(ctx context.Context, fn func(store.Reader) error) error {
	p.pause()
	return p.Store.View(ctx, fn)
}

func (p *pausing) Update(ctx context.Context, fn func(store.Tx) error) error {
	p.pause()
	return p.Store.Update(ctx, fn)
}

// The attempt may end at any point of an approval: between the look at it, the preparation of the token and the
// Update. Whoever completed it gets the reply again; all others hear that it is over. Nobody gets an internal error.
func TestAttemptEndsDuringAnApproval(t *testing.T) {
	for call, when := range []string{"before it is looked at", "before the token is prepared", "before the Update"} {
		for name, end := range map[string]struct {
			by   func(c *cluster, nonce string)
			want error
		}{
			"by the same share": {func(c *cluster, nonce string) { c.approve(GenerateRoot, nonce, 1) }, nil},
			"by another share":  {func(c *cluster, nonce string) { c.approve(GenerateRoot, nonce, 2) }, ErrNotStarted},
			"by a cancel": {func(c *cluster, _ string) {
				if _, _, err := c.node.CancelRoot(c.t.Context(), local); err != nil {
					c.t.Error(err)
				}
			}, ErrNotStarted},
			"by another attempt": {func(c *cluster, _ string) {
				if _, _, err := c.node.CancelRoot(c.t.Context(), local); err != nil {
					c.t.Error(err)
				}
				c.start(GenerateRoot, local, StartRequest{})
			}, ErrNonce},
			"by another attempt, without OTP": {func(c *cluster, _ string) {
				if _, _, err := c.node.CancelRoot(c.t.Context(), local); err != nil {
					c.t.Error(err)
				}
				c.start(RootGeneration, local, StartRequest{TokenID: []byte("0123456789abcdef")})
			}, ErrNonce},
		} {
			t.Run(when+"/"+name, func(t *testing.T) {
				st := &pausing{Store: inmem.New()}
				c := newClusterOver(t, st, 3, 2)
				nonce := c.start(GenerateRoot, local, StartRequest{}).Nonce
				c.approve(GenerateRoot, nonce, 0)
				st.first = func() { end.by(c, nonce) }
				st.calls.Store(int32(call + 1))
				got, err := c.node.ApproveRoot(t.Context(), GenerateRoot, nonce, c.share(1))
				if st.calls.Load() > 0 {
					t.Fatal("an approval has fewer steps: this test looks at nothing")
				}
				if !errors.Is(err, end.want) || err == nil && (!got.Complete || got.EncodedToken == "") {
					t.Errorf("%+v, %v, want %v", got, err, end.want)
				}
				if err != nil && got != (RootStatus{}) {
					t.Errorf("an error and a status: %+v", got)
				}
			})
		}
	}
}

// T55: after a ceremony is complete, its nonce is like one that never was, for everybody but the one holder whose
// reply may have been lost.
func TestCompletedNonceTellsNothing(t *testing.T) {
	c := newCluster(t, 3, 2)
	done := c.start(GenerateRoot, local, StartRequest{}).Nonce
	for i := range 2 {
		c.approve(GenerateRoot, done, i)
	}
	const never = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
	junk := bytes.Repeat([]byte{9}, 32)
	for _, openAttempt := range []bool{false, true} {
		if openAttempt {
			c.start(GenerateRoot, local, StartRequest{})
		}
		for name, share := range map[string][]byte{
			"junk": bytes.Repeat([]byte{9}, 33), "junk of the last slot": append(bytes.Clone(junk), 2), "short": junk[:16],
			"another holder's": c.shares[2], "an earlier approver's": c.shares[0],
		} {
			_, errDone := c.node.ApproveRoot(t.Context(), GenerateRoot, done, secret.Copy(share))
			_, errNever := c.node.ApproveRoot(t.Context(), GenerateRoot, never, secret.Copy(share))
			if errDone == nil || errNever == nil || errDone.Error() != errNever.Error() {
				t.Errorf("%s: %v for a completed nonce, %v for one that never was", name, errDone, errNever)
			}
		}
	}
}

// full is a store whose disk is full for a while: it says so, and keeps nothing.
type full struct {
	store.Store
	now bool
}

var errNoRoom = fault.New(fault.Unavailable, "the disk is full: make room, then try again")

func (f *full) Update(ctx context.Context, fn func(store.Tx) error) error {
	return f.Store.Update(ctx, func(tx store.Tx) error {
		if err := fn(tx); err != nil || !f.now {
			return err
		}
		return errNoRoom
	})
}

// T32: the store takes no writes at the moment of completion. No token, no progress lost, an error that says why; and
// the same share completes once there is room.
func TestStoreIsFullAtCompletion(t *testing.T) {
	for _, family := range []Family{GenerateRoot, RootGeneration} {
		t.Run(string(family), func(t *testing.T) {
			st := &full{Store: inmem.New()}
			c := newClusterOver(t, st, 3, 2)
			const chosen = "a-token-id-of-my-own"
			begun := c.start(family, local, StartRequest{TokenID: []byte(chosen)})
			c.approve(family, begun.Nonce, 0)
			st.now = true
			for range 3 {
				got, err := c.node.ApproveRoot(t.Context(), family, begun.Nonce, c.share(1))
				if !errors.Is(err, errNoRoom) || got != (RootStatus{}) {
					t.Fatalf("with a full disk: %+v, %v", got, err)
				}
			}
			if now := c.status(); now.Progress != 1 || now.Nonce != begun.Nonce || c.accessors(c.root) != 1 || c.lookup(chosen) != nil {
				t.Fatalf("after the failure: %+v, %d tokens", now, c.accessors(c.root))
			}
			st.now = false
			last := c.approve(family, begun.Nonce, 1)
			id := chosen
			if family == GenerateRoot {
				id = c.decode(last, begun.OTP)
			}
			if !last.Complete || c.lookup(id) == nil || c.accessors(c.root) != 2 {
				t.Errorf("the same share later: %+v, %d tokens", last, c.accessors(c.root))
			}
		})
	}
}

// T32, when the store can't tell what became of the write: the process goes on, and whatever it was, the same share
// gets the token.
func TestUnknownOutcomeOfTheCompletion(t *testing.T) {
	for _, mode := range []storetest.Mode{storetest.Lost, storetest.Kept} {
		t.Run(mode.String(), func(t *testing.T) {
			faulty := storetest.NewFaulty(inmem.New())
			c := newClusterOver(t, faulty, 3, 2)
			begun := c.start(GenerateRoot, local, StartRequest{})
			c.approve(GenerateRoot, begun.Nonce, 0)
			faulty.FailCommit(1, mode)
			if got, err := c.node.ApproveRoot(t.Context(), GenerateRoot, begun.Nonce, c.share(1)); !errors.Is(err, store.ErrUnknownOutcome) || got.EncodedToken != "" {
				t.Fatalf("%+v, %v", got, err)
			}
			faulty.Recover()
			want := RootStatus{Required: 2}
			if mode == storetest.Lost {
				want = RootStatus{Started: true, Nonce: begun.Nonce, Progress: 1, Required: 2}
			}
			want.OTPLength = 24
			if now := c.status(); now != want {
				t.Errorf("status %+v, want %+v", now, want)
			}
			last := c.approve(GenerateRoot, begun.Nonce, 1)
			if c.lookup(c.decode(last, begun.OTP)) == nil || c.accessors(c.root) != 2 {
				t.Errorf("the same share again: %+v, %d tokens", last, c.accessors(c.root))
			}
		})
	}
}

// T28: whoever polls the status beside the approvals sees progress that only grows and never a completion, which is the
// last approver's alone.
func TestPollingBesideCompletion(t *testing.T) {
	c := newCluster(t, 3, 3)
	for range 20 {
		st := c.start(GenerateRoot, local, StartRequest{})
		stop := make(chan struct{})
		polling := make(chan struct{}, 2)
		var pollers sync.WaitGroup
		for range 2 {
			pollers.Go(func() {
				progress, over := 0, false
				for n := 0; ; n++ {
					now, err := c.node.RootStatus(t.Context())
					switch {
					case err != nil || now.Complete || now.EncodedToken != "" || now.OTP != "" || now.Required != 3:
						t.Errorf("status %+v, %v", now, err)
					case now.Started && (over || now.Nonce != st.Nonce || now.Progress < progress || now.Progress > 2):
						t.Errorf("status %+v after progress %d, over %v", now, progress, over)
					case !now.Started && (now.Progress != 0 || now.Nonce != ""):
						t.Errorf("nothing is in progress: %+v", now)
					}
					progress, over = max(progress, now.Progress), !now.Started
					if n == 0 {
						polling <- struct{}{}
					}
					select {
					case <-stop:
						return
					default:
					}
				}
			})
		}
		<-polling
		<-polling
		for i := range 3 {
			got := c.approve(GenerateRoot, st.Nonce, i)
			if got.Complete != (i == 2) || got.Complete == (got.EncodedToken == "") {
				t.Errorf("approval %d: %+v", i, got)
			}
		}
		close(stop)
		pollers.Wait()
	}
}

// T33: a client whose request ends while the completing Update waits for its turn. Either nothing was done, or the reply
// is kept for it; never a token that nobody can have.
func TestClientGoneAtCompletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &stuck{Store: inmem.New()}
		c := newClusterOver(t, st, 2, 2)
		begun := c.start(GenerateRoot, local, StartRequest{})
		c.approve(GenerateRoot, begun.Nonce, 0)
		st.now = true
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error)
		go func() {
			_, err := c.node.ApproveRoot(ctx, GenerateRoot, begun.Nonce, c.share(1))
			gone <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("the request that ended: %v", err)
		}
		st.now = false
		if now := c.status(); now.Progress != 1 || c.accessors(c.root) != 1 {
			t.Errorf("%+v, %d tokens", now, c.accessors(c.root))
		}
		if last := c.approve(GenerateRoot, begun.Nonce, 1); c.lookup(c.decode(last, begun.OTP)) == nil {
			t.Error("the same share does not complete")
		}
	})
}
