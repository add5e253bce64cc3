// Package harness starts a real Quorate for the tests of this module: the product's own listener handler over a node
// over a store, on a loopback port. The environment may ask for another store (see package anystore) and for several nodes
// over it, in front of which each request goes to the next one.
package harness

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/audit"
	"github.com/quorate/quorate/internal/httpapi"
	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/anystore"
)

// Nodes is the environment variable that says over how many nodes the requests to a server go in turn.
const Nodes = "QUORATE_TEST_NODES"

// Options says what kind of server a test wants. The zero value is 3 of 5, sealed again after nothing, local ceremonies.
type Options struct {
	Shares, Threshold int
	Uninitialised     bool // leave it without a cluster
	Sealed            bool // initialise, but don't unseal
	Listener          httpapi.Listener
	Limits            httpapi.Limits
	Store             store.Store
	Now               func() time.Time
	Audit             func() *audit.Broker // makes one for each node, which stays its owner's; nil: there are no audit devices
	// OneNode is for tests of what each process has for itself (limits of rates, origins of pages, what it counts), of a
	// rotated root key, after which the other nodes need shares again, and over stores that fail at the n-th use.
	OneNode bool
}

// Server is a running server and what its people hold.
type Server struct {
	URL    string
	Node   *node.Node   // the first
	Nodes  []*node.Node // all
	Shares [][]byte     // raw
	Root   string
	Log    *Buffer
	HTTP   *httptest.Server
}

// Buffer is a log that can be read while it is written.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Start runs a server until the test ends.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	if o.Shares == 0 {
		o.Shares, o.Threshold = 5, 3
	}
	if o.Store == nil {
		o.Store = anystore.New(t)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Listener.Ceremonies == "" {
		o.Listener.Ceremonies = "local"
	}
	o.Listener.APIAddrLoopback = true
	s := &Server{Log: &Buffer{}}
	handlers := []http.Handler{s.addNode(t, o)}
	for range o.nodes(t) - 1 {
		again := o
		again.Store = anystore.Again(t, o.Store)
		handlers = append(handlers, s.addNode(t, again))
	}
	s.Node = s.Nodes[0]
	s.HTTP = httptest.NewServer(&inTurn{nodes: handlers})
	t.Cleanup(s.HTTP.Close)
	s.URL = s.HTTP.URL
	if !o.Uninitialised {
		s.init(t, o)
	}
	return s
}

// nodes is how many nodes the server has.
func (o *Options) nodes(t testing.TB) int {
	t.Helper()
	text := os.Getenv(Nodes)
	if text == "" || o.OneNode {
		return 1
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s is %q: it must be a number of nodes, or not there", Nodes, text)
	}
	return n
}

// inTurn gives each request to the next node. A share to unseal goes to all of them, as its holder would give it to each, and
// the first one says how far that is.
type inTurn struct {
	nodes    []http.Handler
	requests atomic.Uint64
}

func (h *inTurn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	first := h.nodes[0]
	switch {
	case len(h.nodes) > 1 && r.URL.Path == "/v1/sys/unseal":
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		for _, other := range h.nodes[1:] {
			r.Body = io.NopCloser(bytes.NewReader(body))
			other.ServeHTTP(httptest.NewRecorder(), r)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		first.ServeHTTP(w, r)
	case r.URL.Path == "/v1/sys/seal-status":
		first.ServeHTTP(w, r)
	default:
		h.nodes[(h.requests.Add(1)-1)%uint64(len(h.nodes))].ServeHTTP(w, r)
	}
}

func (s *Server) addNode(t testing.TB, o Options) http.Handler {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(s.Log, &slog.HandlerOptions{Level: slog.LevelDebug - 4}))
	var broker *audit.Broker
	if o.Audit != nil {
		broker = o.Audit()
	}
	n, err := node.New(node.Options{Store: o.Store, Logger: logger, Now: o.Now, ClusterName: "test", Audit: broker})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	s.Nodes = append(s.Nodes, n)
	api := httpapi.New(httpapi.Options{Node: n, Logger: logger, Version: "1.0.0", StorageType: "inmem", Now: o.Now, Limits: o.Limits, Audit: broker})
	return api.Handler(o.Listener)
}

func (s *Server) init(t testing.TB, o Options) {
	t.Helper()
	res, err := s.Node.Init(t.Context(), node.InitRequest{Shares: o.Shares, Threshold: o.Threshold})
	if err != nil {
		t.Fatal(err)
	}
	s.Shares, s.Root = res.Keys, string(res.RootToken.Reveal())
	if !o.Sealed {
		s.Unseal(t)
	}
}

// Unseal gives shares until all nodes are unsealed. The first one also tells a node that another one was told to seal.
func (s *Server) Unseal(t testing.TB) {
	t.Helper()
	for _, n := range s.Nodes {
		for i := 0; i == 0 || n.Sealed(); i++ {
			if _, err := n.Unseal(t.Context(), secret.Copy(s.Shares[i]), true, ""); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Stop ends the server before the test does.
func (s *Server) Stop() {
	s.HTTP.Close()
	for _, n := range s.Nodes {
		n.Close()
	}
}

// Hex is share i, from 0, as hex text.
func (s *Server) Hex(i int) string { return hex.EncodeToString(s.Shares[i]) }

// Base64 is share i, from 0, as base64 text.
func (s *Server) Base64(i int) string { return base64.StdEncoding.EncodeToString(s.Shares[i]) }
