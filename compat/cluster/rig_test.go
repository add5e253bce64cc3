// Package cluster holds the tests of several nodes over one store: three whole servers in this process, each with its own
// connection to a real engine, which share nothing else.
//
// They promise that whatever one node acknowledged binds all, while nodes, connections and the engine fail. They do not
// show what a machine that loses power does to an engine: that is the engine's own promise.
//
// QUORATE_CLUSTER_OPS makes the run under faults as long as one likes, QUORATE_SEED repeats what was asked in another one,
// and QUORATE_PICTURES says where the picture of a history goes that has no order.
package cluster

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/httpapi"
	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
)

// patience is how long one request may take. It ends waiting; nothing is ever concluded from it.
const patience = 30 * time.Second

// engine is what the nodes share.
type engine interface {
	// open returns a connection of node i's own.
	open(ctx context.Context, i int) (store.Store, error)
	// faults are what can happen to the engine, and to the connections to it.
	faults() []fault
	// outage takes the engine away from everybody, and brings it back.
	outage() fault
}

// fault is something that happens, and how it ends.
type fault struct {
	name         string
	inject, heal func()
	order        int // of healing: a node comes back only when it can reach the engine
}

// cluster is some nodes over one engine.
type cluster struct {
	t      testing.TB
	nodes  []*machine
	shares []string // in hex
	root   string
}

// machine is one node, which can be killed and started again.
type machine struct {
	name string
	open func(context.Context) (store.Store, error)
	log  slog.Handler
	idle time.Duration // between what a node does of itself; 0: often
	url  atomic.Pointer[string]

	mu    sync.Mutex // guards what follows
	node  *node.Node // nil: killed
	store store.Store
	http  *http.Server
	stop  func()
}

// newCluster starts n sealed nodes, makes a cluster of them with shares of which threshold are needed, and unseals all.
func newCluster(t testing.TB, n, shares, threshold int, open func(ctx context.Context, i int) (store.Store, error)) *cluster {
	t.Helper()
	return newIdleCluster(t, 0, n, shares, threshold, open)
}

// newIdleCluster is newCluster of nodes that do nothing of themselves for so long.
func newIdleCluster(t testing.TB, idle time.Duration, n, shares, threshold int, open func(ctx context.Context, i int) (store.Store, error)) *cluster {
	t.Helper()
	c := &cluster{t: t}
	for i := range n {
		m := &machine{name: string(rune('A' + i)), log: slog.DiscardHandler, idle: idle}
		m.open = func(ctx context.Context) (store.Store, error) { return open(ctx, i) }
		c.nodes = append(c.nodes, m)
		t.Cleanup(m.kill)
		if err := m.start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	res, err := c.nodes[0].node.Init(t.Context(), node.InitRequest{Shares: shares, Threshold: threshold})
	if err != nil {
		t.Fatal(err)
	}
	for _, share := range res.Keys {
		c.shares = append(c.shares, hex.EncodeToString(share))
	}
	c.root = string(res.RootToken.Reveal())
	for _, m := range c.nodes {
		if err := m.unseal(t.Context(), c.shares); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// start makes a sealed node, with a new connection and under a new address.
func (m *machine) start(ctx context.Context) error {
	st, err := m.open(ctx)
	if err != nil {
		return err
	}
	now := time.Now
	if clock, ok := st.(store.Clock); ok {
		now = clock.Now
	}
	logger := slog.New(m.log)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(err, st.Close())
	}
	url := "http://" + listener.Addr().String()
	n, err := node.New(node.Options{
		Store: st, Logger: logger, Now: now, ClusterName: "test", LookInterval: cmp.Or(m.idle, 50*time.Millisecond), SweepInterval: m.idle,
		Cluster: &node.Membership{Name: m.name, APIAddr: url, Interval: cmp.Or(m.idle, 200*time.Millisecond)},
	})
	if err != nil {
		return errors.Join(err, listener.Close(), st.Close())
	}
	unlimited := httpapi.Rate{PerSecond: 1e9, Burst: 1e9}
	api := httpapi.New(httpapi.Options{
		Node: n, Logger: logger, Version: "1.0.0", StorageType: "test", Now: now, Limits: httpapi.Limits{Open: unlimited, Token: unlimited},
	})
	srv := &http.Server{
		Handler: api.Handler(httpapi.Listener{
			Ceremonies: httpapi.CeremoniesLocal, APIAddrLoopback: true, MaxRequestDuration: patience,
		}),
		ReadHeaderTimeout: patience, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { n.RunMembership(ctx) })
	wg.Go(func() { _ = srv.Serve(listener) })
	m.mu.Lock()
	defer m.mu.Unlock()
	m.node, m.store, m.http = n, st, srv
	m.stop = func() {
		cancel()
		wg.Wait()
	}
	m.url.Store(&url)
	return nil
}

// kill ends a node without a word to anybody: connections break in the middle of whatever they did.
func (m *machine) kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.node == nil {
		return
	}
	m.http.Close()
	m.stop()
	m.node.Close()
	m.store.Close()
	m.node = nil
}

// unseal gives shares until there are enough. Those that this process was given before don't count twice.
func (m *machine) unseal(ctx context.Context, shares []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, share := range shares {
		if !m.node.Sealed() {
			return nil
		}
		raw, err := hex.DecodeString(share)
		if err != nil {
			return err
		}
		if _, err := m.node.Unseal(ctx, secret.Own(raw), true, ""); err != nil {
			return err
		}
	}
	if m.node.Sealed() {
		return errors.New("all shares were given, and the node is still sealed")
	}
	return nil
}

// revive starts a killed node until it serves: the engine may be about to come back.
func (c *cluster) revive(m *machine) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*patience)
	defer cancel()
	c.until(ctx, "node "+m.name+" is revived", func() error {
		m.kill()
		if err := m.start(ctx); err != nil {
			return err
		}
		return m.unseal(ctx, c.shares)
	})
}

// until tries until it works, with a little rest in between, so that what is waited for gets the processor.
func (c *cluster) until(ctx context.Context, what string, try func() error) {
	c.t.Helper()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			c.t.Errorf("until %s: %v", what, err)
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// answer is what came back.
type answer struct {
	code int
	body map[string]any
	text string
}

// data is a field of the answer's data.
func (a answer) data(name string) any {
	d, _ := a.body["data"].(map[string]any)
	return d[name]
}

// client makes a connection for each request: one that is reused may send a request twice.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{}).DialContext}}

// ask sends one request.
func (m *machine) ask(ctx context.Context, method, path, token string, body any) (a answer, err error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return a, err
		}
		content = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, *m.url.Load()+"/v1/"+path, content)
	if err != nil {
		return a, err
	}
	if token != "" {
		r.Header.Set("X-Vault-Token", token)
	}
	res, err := client.Do(r)
	if err != nil {
		return a, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return a, err
	}
	a.code, a.text = res.StatusCode, string(text)
	if len(text) > 0 {
		err = json.Unmarshal(text, &a.body)
	}
	return a, err
}

// unsent reports whether a request certainly never reached a node.
func unsent(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// must asks for something that can't fail.
func (c *cluster) must(m *machine, method, path, token string, body any, code int) answer {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	a, err := m.ask(ctx, method, path, token, body)
	if err != nil {
		c.t.Fatalf("%s: %s %s: %v", m.name, method, path, err)
	}
	if a.code != code {
		c.t.Fatalf("%s: %s %s: %d %s, want %d", m.name, method, path, a.code, a.text, code)
	}
	return a
}

// newToken makes a token and returns it.
func (c *cluster) newToken(m *machine, by string, body map[string]any) string {
	c.t.Helper()
	return c.must(m, "POST", "auth/token/create", by, body, 200).body["auth"].(map[string]any)["client_token"].(string)
}

// mounts makes what the tests work with: key/value of both versions, and a policy for them.
func (c *cluster) mounts() {
	c.t.Helper()
	m := c.nodes[0]
	c.must(m, "POST", "sys/mounts/two", c.root, map[string]any{"type": "kv", "options": map[string]string{"version": "2"}}, 204)
	c.must(m, "POST", "sys/mounts/one", c.root, map[string]any{"type": "kv", "options": map[string]string{"version": "1"}}, 204)
	c.must(m, "POST", "two/config", c.root, map[string]any{"max_versions": 1000}, 204)
	c.must(m, "POST", "sys/policies/acl/app", c.root, map[string]any{"policy": `
		path "two/*" { capabilities = ["create", "read", "update", "delete"] }
		path "one/*" { capabilities = ["create", "read", "update", "delete"] }
		path "auth/token/create" { capabilities = ["update"] }`}, 204)
}
