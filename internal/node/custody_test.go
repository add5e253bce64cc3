package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/anystore"
	"github.com/quorate/quorate/internal/store/bolt"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/store/storetest"
)

func (c *cluster) seal() error {
	return c.node.Seal(c.t.Context(), c.access(c.root, "sys/seal", policy.Update), false)
}

// untouched is randomness that nobody may use.
type untouched struct{ t *testing.T }

func (u untouched) Read(p []byte) (int, error) {
	u.t.Error("randomness was used")
	return rand.Read(p)
}

// An init that can't be costs the server one look: no randomness, no trial encryption, no place in the queue of those
// who seal and unseal.
func TestRefusedInitDoesNoWork(t *testing.T) {
	c := newCluster(t, 3, 2)
	c.node.Rand = untouched{t}
	c.node.transition <- struct{}{} // an unseal is under way
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	garbage := []byte("Z2FyYmFnZQ==")
	for name, r := range map[string]InitRequest{
		"plain":     {Shares: 255, Threshold: 128},
		"pgp keys":  {Shares: 2, Threshold: 2, PGPKeys: [][]byte{garbage, garbage}},
		"root key":  {Shares: 1, Threshold: 1, RootTokenPGPKey: garbage},
		"key count": {Shares: 3, Threshold: 2, PGPKeys: [][]byte{garbage}},
		"replace":   {Shares: 255, Threshold: 128, Replace: true, Local: true},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.node.Init(ctx, r)
			if f := fault.As(err); f == nil || f.Kind != fault.Invalid || !bytes.HasPrefix([]byte(f.Sentence), []byte(seal.ErrAlreadyInitialized.Sentence)) {
				t.Errorf("error = %v, want that it is initialised already", err)
			}
		})
	}
	<-c.node.transition
}

// Whoever waits to change between sealed and unsealed can give up, and takes nothing along.
func TestTurnHonoursTheContext(t *testing.T) {
	sealed := &cluster{t: t, st: anystore.New(t), clock: newClock(), log: &syncBuffer{}}
	sealed.boot()
	sealed.init(3, 2)
	empty := &cluster{t: t, st: anystore.New(t), clock: newClock(), log: &syncBuffer{}}
	empty.boot()
	open := newCluster(t, 3, 2)
	for name, c := range map[string]*cluster{"unseal": sealed, "reset": sealed, "init": empty, "seal": open} {
		t.Run(name, func(t *testing.T) {
			c.node.transition <- struct{}{}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			share := secret.Copy(bytes.Repeat([]byte{7}, 33))
			if c == sealed { // what isn't valid doesn't wait
				share = c.share(0)
			}
			var err error
			switch name {
			case "unseal":
				_, err = c.node.Unseal(ctx, share, true, "")
			case "reset":
				_, err = c.node.ResetUnseal(ctx, share, true)
			case "init":
				_, err = c.node.Init(ctx, InitRequest{Shares: 3, Threshold: 2})
			case "seal":
				err = c.node.Seal(ctx, c.access(c.root, "sys/seal", policy.Update), false)
			}
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error = %v, want that of the context", err)
			}
			if (name == "unseal" || name == "reset") && len(bytes.Trim(share.Reveal(), "\x00")) > 0 {
				t.Error("the share was not wiped")
			}
			<-c.node.transition // whoever gave up has not taken it
		})
	}
	if is, err := empty.node.Initialized(t.Context()); err != nil || is {
		t.Errorf("an init that gave up: initialised %v, %v", is, err)
	}
	if open.node.Sealed() {
		t.Error("a seal that gave up has sealed")
	}
	sealed.unseal()
}

// A seal is in force whatever the store does: the keys are gone, and the answer says what may be left.
func TestSealWithFailingStore(t *testing.T) {
	for _, mode := range []storetest.Mode{storetest.Lost, storetest.Kept} {
		t.Run(mode.String(), func(t *testing.T) {
			faulty := storetest.NewFaulty(inmem.New())
			c := newClusterOver(t, faulty, 3, 2)
			st := c.start(GenerateRoot, local, StartRequest{})
			c.approve(GenerateRoot, st.Nonce, 0)
			act := c.node.active.Load()
			faulty.FailCommit(1, mode)
			c.refused(c.seal(), fault.Unavailable, "the server is sealed, but")
			if !c.node.Sealed() || !act.closed {
				t.Fatal("the failing store kept the server unsealed")
			}
			faulty.Recover()
			err := act.Barrier.View(t.Context(), func(store.Reader) error { return nil })
			if !errors.Is(err, store.ErrClosed) {
				t.Errorf("the barrier is still open: %v", err)
			}
			c.unseal()
			if kept := c.status().Started; kept != (mode == storetest.Lost) {
				t.Errorf("the attempt is there: %v", kept)
			}
			// What may be left is what the answer says, and it is in nobody's way.
			if _, ended, err := c.node.CancelRoot(t.Context(), local); err != nil || !ended {
				t.Errorf("cancel: %v, %v", ended, err)
			}
			if c.lookup(c.generate()) == nil {
				t.Error("no root generation is possible any more")
			}
		})
	}
}

// stuck is a store whose writes wait for as long as they are let, once it is stuck.
type stuck struct {
	store.Store
	now bool
}

func (s *stuck) Update(ctx context.Context, fn func(store.Tx) error) error {
	if s.now {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.Store.Update(ctx, fn)
}

// A store that hangs holds up a seal for sealPatience, not for ever, and not on the word of a client that has gone.
func TestSealDoesNotWaitForAStuckStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &stuck{Store: inmem.New()}
		c := newClusterOver(t, st, 1, 1)
		c.start(GenerateRoot, local, StartRequest{})
		st.now = true
		began := time.Now()
		c.refused(c.seal(), fault.Unavailable, "the server is sealed, but")
		if took := time.Since(began); !c.node.Sealed() || took != sealPatience {
			t.Errorf("sealed %v after %v, want after %v", c.node.Sealed(), took, sealPatience)
		}
	})
}

// T25: no start slips in between the end of the attempt and the end of the keys.
func TestNoStartSurvivesASeal(t *testing.T) {
	c := newCluster(t, 1, 1)
	for range 50 {
		var starters sync.WaitGroup
		begun := make(chan struct{}, 4)
		for range 4 {
			starters.Go(func() {
				for {
					_, err := c.node.StartRoot(t.Context(), GenerateRoot, bearer(c.root), StartRequest{})
					switch {
					case errors.Is(err, ErrSealed):
						return
					case err != nil && !errors.Is(err, ErrInProgress):
						t.Errorf("start: %v", err)
						return
					}
					select {
					case begun <- struct{}{}:
					default:
					}
					if _, _, err := c.node.CancelRoot(t.Context(), bearer(c.root)); err != nil && !errors.Is(err, ErrSealed) {
						t.Errorf("cancel: %v", err)
					}
				}
			})
		}
		<-begun
		if err := c.seal(); err != nil {
			t.Fatal(err)
		}
		starters.Wait()
		c.unseal()
		if st := c.status(); st.Started {
			t.Fatalf("an attempt survived the seal: %+v", st)
		}
	}
}

// T25: a seal against the last share. Either there is a token, and a reply that carries it, or there is none; and the
// attempt is gone in both cases.
func TestSealAgainstTheLastShare(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) store.Store{
		"any": func(t *testing.T) store.Store { return anystore.New(t) },
		"bolt": func(t *testing.T) store.Store {
			st, err := bolt.Open(filepath.Join(t.TempDir(), "quorate.db"), bolt.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { st.Close() })
			return st
		},
	} {
		t.Run(name, func(t *testing.T) { sealAgainstTheLastShare(t, open(t)) })
	}
}

func sealAgainstTheLastShare(t *testing.T, st store.Store) {
	c := newClusterOver(t, st, 2, 2)
	tokens := 1
	for round := range 50 {
		st := c.start(GenerateRoot, local, StartRequest{})
		c.approve(GenerateRoot, st.Nonce, 0)
		var got RootStatus
		var errShare, errSeal error
		var wg sync.WaitGroup
		share := func() { got, errShare = c.node.ApproveRoot(t.Context(), GenerateRoot, st.Nonce, c.share(1)) }
		sealing := func() { errSeal = c.seal() }
		if round%2 == 0 {
			share, sealing = sealing, share
		}
		wg.Go(share)
		wg.Go(sealing)
		wg.Wait()
		if errSeal != nil {
			t.Fatalf("seal: %v", errSeal)
		}
		c.unseal()
		if errShare == nil {
			tokens++
			if !got.Complete || c.lookup(c.decode(got, st.OTP)) == nil {
				t.Fatalf("a reply without a live token: %+v", got)
			}
		} else if !errors.Is(errShare, ErrSealed) && !errors.Is(errShare, ErrNotStarted) {
			t.Errorf("the last share: %v", errShare)
		}
		if now := c.status(); now.Started || c.accessors(c.root) != tokens {
			t.Fatalf("round %d, %v: %+v, %d tokens, want %d", round, errShare, now, c.accessors(c.root), tokens)
		}
	}
	t.Logf("%d of 50 completed", tokens-1)
}
