package node

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/delivery"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/anystore"
	"github.com/quorate/quorate/internal/token"
)

// clock is an injected clock that tests move by hand.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// cluster is a node over a store, and what its people hold.
type cluster struct {
	t      *testing.T
	st     store.Store
	clock  *clock
	node   *Node
	shares [][]byte
	root   string
	log    *syncBuffer
	owner  string // the token that started the attempt, in tests that need one
}

type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newCluster(t *testing.T, shares, threshold int) *cluster {
	t.Helper()
	return newClusterOver(t, anystore.New(t), shares, threshold)
}

func newClusterOver(t *testing.T, st store.Store, shares, threshold int) *cluster {
	t.Helper()
	c := &cluster{t: t, st: st, clock: newClock(), log: &syncBuffer{}}
	c.boot()
	c.init(shares, threshold)
	c.unseal()
	return c
}

// boot starts a new process over the store; the old one, if any, is simply forgotten, as after kill -9.
func (c *cluster) boot() {
	c.t.Helper()
	n, err := New(Options{
		Store: c.st, Now: c.clock.now,
		Logger: slog.New(slog.NewTextHandler(c.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		// Nothing may depend on the sweep: tests call it by hand.
		SweepInterval: 24 * time.Hour,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.node = n
	c.t.Cleanup(n.Close)
}

func (c *cluster) init(shares, threshold int) {
	c.t.Helper()
	res, err := c.node.Init(c.t.Context(), InitRequest{Shares: shares, Threshold: threshold})
	if err != nil {
		c.t.Fatal(err)
	}
	c.shares, c.root = res.Keys, string(res.RootToken.Reveal())
}

func (c *cluster) unseal() {
	c.t.Helper()
	st := SealStatus{Sealed: true}
	for i := 0; st.Sealed; i++ {
		var err error
		if st, err = c.node.Unseal(c.t.Context(), c.share(i), false, ""); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *cluster) share(i int) secret.Bytes { return secret.Copy(c.shares[i]) }

var local = Asker{Local: true}

func (c *cluster) start(f Family, who Asker, req StartRequest) RootStatus {
	c.t.Helper()
	st, err := c.node.StartRoot(c.t.Context(), f, who, req)
	if err != nil {
		c.t.Fatalf("start: %v", err)
	}
	return st
}

func (c *cluster) approve(f Family, nonce string, i int) RootStatus {
	c.t.Helper()
	st, err := c.node.ApproveRoot(c.t.Context(), f, nonce, c.share(i))
	if err != nil {
		c.t.Fatalf("approve with share %d: %v", i, err)
	}
	return st
}

func (c *cluster) status() RootStatus {
	c.t.Helper()
	st, err := c.node.RootStatus(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return st
}

func (c *cluster) refused(err error, kind fault.Kind, contains string) {
	c.t.Helper()
	f := fault.As(err)
	if f == nil || f.Kind != kind || !strings.Contains(f.Sentence, contains) {
		c.t.Errorf("error = %v, want kind %d containing %q", err, kind, contains)
	}
}

func (c *cluster) access(id, path string, want policy.Capability) Access {
	return Access{Token: secret.Copy([]byte(id)), Path: path, Capability: want}
}

// lookup authenticates id as the server would; nil when it is dead.
func (c *cluster) lookup(id string) (e *token.Entry) {
	c.t.Helper()
	err := c.node.View(c.t.Context(), c.access(id, "auth/token/lookup-self", policy.Read), func(call *Call) error {
		e = call.Token
		return nil
	})
	if err != nil && fault.As(err) == nil {
		c.t.Fatal(err)
	}
	return e
}

func (c *cluster) create(parent string, spec token.Spec) (id string, e *token.Entry) {
	c.t.Helper()
	err := c.node.Update(c.t.Context(), c.access(parent, "auth/token/create", policy.Update), func(call *Call) error {
		b, entry, _, err := call.Create(spec)
		if err == nil {
			id, e = string(b.Reveal()), entry
		}
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return id, e
}

func (c *cluster) revoke(by string, e *token.Entry) {
	c.t.Helper()
	err := c.node.Update(c.t.Context(), c.access(by, "auth/token/revoke", policy.Update), func(call *Call) error {
		return call.Revoke(e, false)
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// accessors counts the live tokens by a root token's eyes.
func (c *cluster) accessors(by string) (n int) {
	c.t.Helper()
	err := c.node.View(c.t.Context(), c.access(by, "auth/token/accessors", policy.List), func(call *Call) error {
		list, err := call.Tokens.Accessors(call.Tx, "", 1000)
		n = len(list)
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

func (c *cluster) decode(st RootStatus, otp string) string {
	c.t.Helper()
	id, err := delivery.Decode([]byte(st.EncodedToken), []byte(otp))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(id)
}

// generate does a whole root generation and returns the new token.
func (c *cluster) generate() string {
	c.t.Helper()
	st := c.start(GenerateRoot, local, StartRequest{})
	otp := st.OTP
	for i := 0; !st.Complete; i++ {
		st = c.approve(GenerateRoot, st.Nonce, i)
	}
	return c.decode(st, otp)
}

func TestSealedIsTheAbsenceOfAValue(t *testing.T) {
	c := newCluster(t, 5, 3)
	if err := c.node.Seal(t.Context(), c.access("wrong-token-wrong-token", "sys/seal", policy.Update), false); fault.As(err) == nil {
		t.Fatalf("seal with a wrong token: %v", err)
	}
	if err := c.node.Seal(t.Context(), c.access(c.root, "sys/seal", policy.Update), false); err != nil {
		t.Fatal(err)
	}
	// Already sealed: nothing to do, nobody to ask.
	if err := c.node.Seal(t.Context(), Access{}, false); err != nil {
		t.Fatal(err)
	}
	if _, err := c.node.RootStatus(t.Context()); !errors.Is(err, ErrSealed) {
		t.Errorf("status while sealed: %v", err)
	}
	if _, err := c.node.StartRoot(t.Context(), GenerateRoot, local, StartRequest{}); !errors.Is(err, ErrSealed) {
		t.Errorf("start while sealed: %v", err)
	}
	if err := c.node.View(t.Context(), c.access(c.root, "x", policy.Read), nil); !errors.Is(err, ErrSealed) {
		t.Errorf("view while sealed: %v", err)
	}
	st, err := c.node.SealStatus(t.Context())
	if err != nil || !st.Sealed || st.ClusterID != "" {
		t.Errorf("status %+v, %v", st, err)
	}
	c.unseal()
	if c.lookup(c.root) == nil {
		t.Error("the root token is gone after unsealing again")
	}
}

func TestSealWaitsForRequests(t *testing.T) {
	c := newCluster(t, 1, 1)
	inside, sealed := make(chan struct{}), make(chan error)
	enter := sync.OnceFunc(func() { close(inside) })
	done := make(chan error)
	go func() {
		done <- c.node.View(context.Background(), c.access(c.root, "x", policy.Read), func(call *Call) error {
			enter()
			// The keys stay usable for a request that is under way, however long the seal has to wait.
			for !c.node.Sealed() {
				time.Sleep(time.Millisecond)
			}
			_, err := call.Tx.Get("token/salt")
			return err
		})
	}()
	<-inside
	go func() {
		sealed <- c.node.Seal(context.Background(), c.access(c.root, "sys/seal", policy.Update), false)
	}()
	if err := <-done; err != nil && !errors.Is(err, ErrSealed) {
		t.Errorf("a request under way: %v", err)
	}
	if err := <-sealed; err != nil {
		t.Error(err)
	}
}

func TestInitWithPGPKeysChecksThemFirst(t *testing.T) {
	st := anystore.New(t)
	n, err := New(Options{Store: st})
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]InitRequest{
		"count":      {Shares: 2, Threshold: 2, PGPKeys: [][]byte{[]byte("x")}},
		"garbage":    {Shares: 1, Threshold: 1, PGPKeys: [][]byte{[]byte("Z2FyYmFnZQ==")}},
		"root key":   {Shares: 1, Threshold: 1, RootTokenPGPKey: []byte("Z2FyYmFnZQ==")},
		"numbers":    {Shares: 2, Threshold: 3},
		"not local":  {Shares: 1, Threshold: 1, Replace: true},
		"no shares":  {},
		"256 shares": {Shares: 256, Threshold: 3},
	} {
		if _, err := n.Init(t.Context(), r); fault.As(err) == nil {
			t.Errorf("%s: %v, want a fault", name, err)
		}
	}
	if is, err := n.Initialized(t.Context()); err != nil || is {
		t.Errorf("initialised = %v, %v after nothing but refused inits", is, err)
	}
}

func TestInitCanBeRepeatedUntilTheFirstUnseal(t *testing.T) {
	c := &cluster{t: t, st: anystore.New(t), clock: newClock(), log: &syncBuffer{}}
	c.boot()
	c.init(5, 3)
	lost := c.shares
	if _, err := c.node.Init(t.Context(), InitRequest{Shares: 5, Threshold: 3}); fault.As(err) == nil {
		t.Fatalf("a second init: %v", err)
	}
	res, err := c.node.Init(t.Context(), InitRequest{Shares: 3, Threshold: 2, Replace: true, Local: true})
	if err != nil {
		t.Fatal(err)
	}
	c.shares, c.root = res.Keys, string(res.RootToken.Reveal())
	if _, err := c.node.Unseal(t.Context(), secret.Copy(lost[0]), false, ""); fault.As(err) == nil {
		t.Errorf("a share of the replaced cluster: %v", err)
	}
	c.unseal()
	_, err = c.node.Init(t.Context(), InitRequest{Shares: 3, Threshold: 2, Replace: true, Local: true})
	c.refused(err, fault.Invalid, "already initialized")
}
